//! Deletion of recorded objects. An object stays in the record until a read shows that it is gone, as finalizers
//! can block an accepted deletion.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use crate::base::error::{Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::cluster::Cluster;
use crate::cluster::deletion;
use crate::cluster::view::{Hand, View};
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};

/// Time reserved for the last read and for saving the record.
const MARGIN: Duration = Duration::from_secs(2);
/// Limit of that last read.
const LAST_LOOK: Duration = Duration::from_secs(5);

impl Hand {
    /// Deletes an object by uid and reads it again; returns it if it still exists.
    pub async fn delete(&self, reference: &Ref, uid: &str) -> Result<Option<Object>> {
        let known = self.read(reference).await.ok().flatten();
        if !known.is_some_and(|live| live.uid() == uid && live.is_terminating()) {
            self.api.delete(reference, uid).await?;
        }
        self.look_again(&self.api, reference, uid).await
    }

    /// Reads a deleted object; removes it from the record if it is gone or replaced, else returns it.
    pub async fn look_again(&self, cluster: &Cluster, reference: &Ref, uid: &str) -> Result<Option<Object>> {
        let live = cluster.get(reference).await?;
        self.changed(reference, live.clone());
        let left = live.filter(|live| live.uid() == uid);
        if left.is_none() {
            self.journal.forget(reference)?;
        }
        Ok(left)
    }

    /// Deletes an object and waits until it is gone. Fails with OR0504 (exit 8) if a finalizer blocks the deletion.
    pub async fn replace(&self, reference: &Ref, uid: &str) -> Result<()> {
        let mut asked = false;
        let look = async || {
            let left = if std::mem::replace(&mut asked, true) {
                self.look_again(&self.api, reference, uid).await?
            } else {
                self.delete(reference, uid).await?
            };
            Ok(left.map_or(Break(()), Continue))
        };
        let pace = Pace::new(&self.limits, 20, 1000).or_within(Duration::from_secs(30));
        let left = wait::until(pace, |_, _| {}, look).await?;
        left.map_err(|live| deletion::unfinished(&live, &[]))
    }
}

/// Waits until these objects (each with its uid) are gone, or until the deadline; reads them at least once. Returns a
/// failure (OR0504, exit 8) for each that still exists.
pub async fn wait(hand: &Hand, step: &str, objects: &[(Ref, String)]) -> Vec<Failure> {
    let end = hand.limits.deadline.instant();
    let deadline = end.checked_sub(MARGIN).unwrap_or(end);
    let pace = Pace { deadline, ..Pace::new(&hand.limits, 20, 1000) };
    let mut waiting = objects.to_vec();
    let look = async || {
        let over = Instant::now() >= pace.deadline;
        let cluster = if over { hand.api.for_cleanup(LAST_LOOK) } else { hand.api.clone() };
        let mut left = Vec::new();
        for (reference, uid) in &waiting {
            left.extend(hand.look_again(&cluster, reference, uid).await?);
        }
        waiting.retain(|(reference, _)| left.iter().any(|live| live.reference == *reference));
        Ok(if left.is_empty() { Break(()) } else { Continue(left) })
    };
    let tell = |left: &Vec<Object>, waited| {
        if let Some(first) = left.first().filter(|_| wait::is_long(waited)) {
            hand.progress.waiting(step, &format!("{} to go", deletion::shown(first)), waited);
        }
    };
    let left = match wait::until(pace, tell, look).await {
        Ok(Ok(())) => return Vec::new(),
        Ok(Err(left)) => left,
        Err(failure) => return vec![failure],
    };
    let cluster = hand.api.for_cleanup(LAST_LOOK).impatient();
    let mut failures = Vec::new();
    for live in &left {
        let inside = match live.reference.kind {
            ObjectKind::Namespace => held_inside(&cluster, live).await,
            _ => Vec::new(),
        };
        hand.awaited.borrow_mut().push(live.reference.clone());
        failures.push(deletion::unfinished(live, &inside));
    }
    failures
}

/// The objects left in a namespace that is being deleted, with their finalizers; without those that may not be
/// listed.
async fn held_inside(cluster: &Cluster, namespace: &Object) -> Vec<String> {
    let mut held = Vec::new();
    for (resource, group) in deletion::kinds_inside(namespace) {
        let root = if group.is_empty() {
            "/api/v1".to_owned()
        } else {
            let path = format!("/apis/{group}");
            let Ok(about) = cluster.read(&format!("list the versions of {group}"), &path).await else {
                continue;
            };
            format!("/apis/{}", about["preferredVersion"]["groupVersion"].as_str().unwrap_or_default())
        };
        let path = format!("{root}/namespaces/{}/{resource}", namespace.reference.name);
        let items = cluster.list_metadata(&format!("list {resource}"), &path).await.unwrap_or_default();
        for item in items {
            let meta = &item["metadata"];
            let finalizers: Vec<&str> =
                meta["finalizers"].as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect();
            let name = meta["name"].as_str().unwrap_or_default();
            held.push(if finalizers.is_empty() {
                format!("{resource}/{name}")
            } else {
                format!("{resource}/{name} (finalizer {})", finalizers.join(", "))
            });
        }
    }
    held.truncate(8);
    held
}

/// Reads all recorded objects again and waits for those that are being deleted. Returns a failure for each that
/// remains and was not reported yet.
pub async fn settle(hand: &Hand) -> Result<Vec<Failure>> {
    let remembered = hand.notes.record().objects.clone();
    if remembered.is_empty() {
        return Ok(Vec::new());
    }
    let cluster = hand.api.for_cleanup(LAST_LOOK);
    let mut leaving = Vec::new();
    for owned in remembered {
        let live = hand.look_again(&cluster, &owned.object, &owned.uid).await?;
        let awaited = hand.awaited.borrow();
        // The failure for a namespace lists its objects.
        let reported = awaited.contains(&owned.object)
            || owned.object.namespace.as_deref().is_some_and(|namespace| {
                awaited.iter().any(|one| one.kind == ObjectKind::Namespace && one.name == namespace)
            });
        if live.is_some_and(|live| live.is_terminating()) && !reported {
            leaving.push((owned.object, owned.uid));
        }
    }
    Ok(wait(hand, "teardown", &leaving).await)
}

/// A failure for each recorded object that still exists, except used namespaces. The record is kept for these objects.
pub async fn left(view: &View) -> Result<Vec<Failure>> {
    let remembered = view.notes.record().objects.clone();
    let mut failures = Vec::new();
    for owned in remembered {
        if owned.object.kind == ObjectKind::Namespace && view.run.is_used(&owned.object.name) {
            continue;
        }
        let live = view.read(&owned.object).await?;
        match live.filter(|live| live.uid() == owned.uid) {
            None => {}
            Some(live) if live.is_terminating() => failures.push(deletion::unfinished(&live, &[])),
            Some(live) => {
                failures.push(Failure::new(Id::NotRemoved, format!("{} still exists", live.reference)));
            }
        }
    }
    Ok(failures)
}
