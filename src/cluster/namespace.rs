//! What lives in a namespace, and the deletion of one that holds nothing foreign.

use std::collections::BTreeSet;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::base::error::{Failure, Id, Result};
use crate::base::event::Event;
use crate::base::wait::{self, Pace};
use crate::cluster::deletion;
use crate::cluster::generated;
use crate::cluster::view::{Hand, View};
use crate::cluster::{Class, Cluster, LANES, Refusal};
use crate::deployment::object::{Ref, Served};

/// Something that does not answer: a whole API group, or one kind.
#[derive(Clone, Debug, Default)]
pub struct Silent {
    group: String,
    version: String,
    /// The one kind, where the rest of the group answers.
    resource: String,
    /// The server's words, or the transport's.
    said: String,
}

/// Every kind that can be listed in a namespace, and what does not say which it has.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    served: Vec<Served>,
    silent: Vec<Silent>,
}

/// What keeps a namespace from being deleted.
#[derive(Default)]
struct Found {
    /// Objects of others, as `resource/name`.
    foreign: Vec<String>,
    /// Objects that a generator keeps there: its name, and `resource/name`.
    generated: Vec<(&'static str, String)>,
    /// Kinds that may not be listed.
    hidden: Vec<String>,
    silent: Vec<Silent>,
}

/// Begins the deletion of a namespace of ours, if everything in it goes by itself; one that is being
/// deleted already only has to be awaited. Returns what else goes with it because that was agreed to.
///
/// # Errors
/// OR0501 (exit 5) naming what is inside, OR0505 (exit 8) naming an API that does not answer, OR0506 (exit 5)
/// naming what generators keep there; the namespace then stays.
pub async fn delete_if_empty(hand: &Hand, reference: &Ref, uid: &str) -> Result<Option<String>> {
    let leaving =
        hand.read(reference).await.map_err(Failure::from)?.is_some_and(|live| live.is_terminating());
    if leaving {
        return Ok(None);
    }
    let looked = look(hand, &reference.name).await;
    // Whatever came of it, a right that was borrowed for looking goes back first.
    crate::cluster::temporary_binding::release_held(hand).await?;
    let found = looked?;
    if let Some(failure) = obstacle(hand, reference, &found) {
        return Err(failure);
    }
    hand.delete(reference, uid).await?;
    Ok((!found.generated.is_empty()).then(|| by_generator(&found.generated).join("; ")))
}

/// Why a namespace stays, if it does.
fn obstacle(view: &View, reference: &Ref, found: &Found) -> Option<Failure> {
    let stays = |id, why: &str| Failure::new(id, format!("{reference} stays: {why}"));
    let keep = "to end well with the namespaces in place: --keep-namespaces";
    let generated = |failure: Failure| {
        by_generator(&found.generated)
            .into_iter()
            .fold(failure, |failure, line| failure.detail("generated", line))
    };
    let inside: Vec<String> = found
        .foreign
        .iter()
        .cloned()
        .chain(found.hidden.iter().map(|resource| format!("{resource} (may not be listed)")))
        .collect();
    if let Some(first) = found.silent.first() {
        let what = if first.resource.is_empty() {
            format!("the API {} does not answer", first.group)
        } else {
            format!("{} cannot be listed", first.shown())
        };
        let mut failure = stays(Id::ApiSilent, &format!("{what}, so nobody can tell what it holds there"));
        for one in &found.silent {
            failure = failure.detail(one.shown(), one.said.clone());
        }
        if !inside.is_empty() {
            failure = failure.detail("also inside", summary(&inside));
        }
        failure = generated(failure);
        for one in found.silent.iter().filter(|one| one.group.contains('.')) {
            failure = failure.hint(deletion::mend(&one.group, &one.version));
        }
        return Some(
            failure
                .hint("Kubernetes ends the deletion of no namespace while an API does not answer")
                .hint(keep),
        );
    }
    if !found.hidden.is_empty() {
        let why = if found.foreign.is_empty() {
            "you may not see everything in it"
        } else {
            "something in it is not ours"
        };
        let failure = stays(Id::NotRemoved, why).detail("inside", summary(&inside));
        return Some(
            generated(failure)
                .hint("run it again with --cluster-admin, which lets you look into that namespace alone for a moment,")
                .hint(format!("or have somebody delete it who may see everything in it; {keep}")),
        );
    }
    if !found.foreign.is_empty() {
        let failure = stays(Id::NotRemoved, "something in it is not ours").detail("inside", summary(&inside));
        return Some(generated(failure).hint(format!("move or delete that, then run it again; {keep}")));
    }
    if found.generated.is_empty() || view.accept_generated.get() {
        return None;
    }
    view.generated.borrow_mut().push(format!(
        "{}: {}",
        reference.name,
        by_generator(&found.generated).join("; ")
    ));
    Some(generated(stays(Id::GeneratedObjects, "generators keep objects in it")).hint(format!(
        "they make them anew as long as it is there; to delete it with them: --accept generated; {keep}"
    )))
}

impl Silent {
    fn shown(&self) -> String {
        if self.resource.is_empty() {
            format!("{}/{}", self.group, self.version)
        } else if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// One line for each generator: its name and what it keeps.
fn by_generator(generated: &[(&'static str, String)]) -> Vec<String> {
    let names: BTreeSet<&str> = generated.iter().map(|(name, _)| *name).collect();
    names
        .into_iter()
        .map(|name| {
            let objects: Vec<String> =
                generated.iter().filter(|(of, _)| *of == name).map(|(_, object)| object.clone()).collect();
            format!("{} (by {name})", summary(&objects))
        })
        .collect()
}

/// Looks, and looks again for a while if a right that was just bound is not honoured yet: as long as pods may
/// not be listed, and where something else may not, until two looks in a row agree on what. A right can come into
/// force between one list of a look and the next.
async fn look(view: &View, namespace: &str) -> Result<Found> {
    let held = view.held.borrow().as_ref().map(|(reference, _)| format!("rolebindings/{}", reference.name));
    let mut before: Option<Vec<String>> = None;
    let look = async || {
        // What is ours and could not be deleted by itself is not foreign: it goes with its namespace.
        let ours = view.notes.record().objects.iter().map(|owned| owned.uid.clone()).collect();
        let kinds = view.served.get_or_try_init(|| discover(view)).await?;
        let mut found = inhabitants(&view.api.impatient(), namespace, &kinds.served, &ours).await?;
        found.silent.extend(kinds.silent.iter().cloned());
        found.foreign.retain(|name| Some(name) != held.as_ref());
        let hides_pods = found.hidden.iter().any(|resource| resource == "pods");
        let settled = found.hidden.is_empty() || (!hides_pods && before.as_ref() == Some(&found.hidden));
        before = Some(found.hidden.clone());
        Ok(if held.is_none() || settled { Break(found) } else { Continue(found) })
    };
    let pace = Pace::new(&view.limits, 100, 100).within(Duration::from_secs(5));
    Ok(wait::until(pace, |_, _| {}, look).await?.unwrap_or_else(|found| found))
}

/// Everything in a namespace that keeps it from being deleted: here alone every namespaced kind is
/// listed. What may not be listed counts as foreign, unless nothing of a user's can be there.
async fn inhabitants(
    cluster: &Cluster,
    namespace: &str,
    served: &[Served],
    ours: &BTreeSet<String>,
) -> Result<Found> {
    let lists = served.iter().map(|one| async move {
        let resource = &one.resource;
        let path = format!("{}/namespaces/{namespace}/{resource}", one.root);
        (one, cluster.list_metadata(&format!("list {resource}"), &path).await)
    });
    // No more at once than are asked for at once: each may be large.
    let mut lists = std::pin::pin!(futures_util::stream::iter(lists).buffered(LANES));
    let mut found = Found::default();
    while let Some((one, items)) = lists.next().await {
        let resource = &one.resource;
        let items = match items {
            Ok(items) => items,
            Err(refusal) if refusal.class == Class::NotFound || refusal.code == 405 => continue,
            Err(refusal) if refusal.class == Class::Forbidden => {
                if !generated::is_inert(&one.group, resource) {
                    found.hidden.push(resource.clone());
                }
                continue;
            }
            Err(refusal) if ends_the_run(&refusal) => return Err(refusal.into()),
            Err(refusal) => {
                let version = one.root.rsplit('/').next().unwrap_or_default().to_owned();
                let (group, resource) = (one.group.clone(), resource.clone());
                found.silent.push(Silent { group, version, resource, said: refusal.message });
                continue;
            }
        };
        for meta in items.iter().map(|item| &item["metadata"]) {
            let leaving = meta["deletionTimestamp"].is_string();
            let is_ours = meta["uid"].as_str().is_some_and(|uid| ours.contains(uid));
            if leaving || is_ours || generated::is_furniture(one, meta) {
                continue;
            }
            let name = format!("{resource}/{}", meta["name"].as_str().unwrap_or_default());
            match generated::generator_of(meta) {
                Some(generator) => found.generated.push((generator, name)),
                None if goes_with_its_owner(meta, served) => {}
                None => found.foreign.push(name),
            }
        }
    }
    Ok(found)
}

/// Whether nothing more can be asked in this run: no fault of what was asked for.
fn ends_the_run(refusal: &Refusal) -> bool {
    matches!(refusal.class, Class::Interrupted | Class::Unauthorized | Class::Credentials)
        || refusal.is_over()
        || refusal.is_endless()
}

/// Every listable namespaced kind, in one of its versions; and what could not be found out.
async fn discover(view: &View) -> Result<Kinds> {
    let cluster = view.api.impatient();
    let mut roots = vec![(String::new(), "v1".to_owned(), "/api/v1".to_owned())];
    let groups = view.api.read("list the API groups", "/apis").await.map_err(Failure::from)?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        // All versions, the preferred one first: some kinds are served in another one alone.
        let preferred = &group["preferredVersion"]["groupVersion"];
        let versions = group["versions"].as_array().into_iter().flatten().map(|one| &one["groupVersion"]);
        let others = versions.filter(|version| *version != preferred);
        for place in std::iter::once(preferred).chain(others).filter_map(Value::as_str) {
            let (name, version) = place.split_once('/').unwrap_or(("", place));
            roots.push((name.to_owned(), version.to_owned(), format!("/apis/{place}")));
        }
    }
    let answers = futures_util::future::join_all(roots.iter().map(|(_, _, root)| {
        let cluster = &cluster;
        async move { cluster.read(&format!("ask what {root} serves"), root).await }
    }))
    .await;
    let mut kinds = Kinds::default();
    for ((group, version, root), answer) in roots.into_iter().zip(answers) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) if ends_the_run(&refusal) => return Err(refusal.into()),
            Err(_) if generated::is_passing_group(&group) => {
                let mut hint = deletion::mend(&group, &version);
                hint.text = format!(
                    "the API {group} does not answer. It holds nothing, but Kubernetes ends the deletion of a \
                     namespace only when every API answers: {}",
                    hint.text
                );
                view.progress.event(&Event::Advice(hint));
                continue;
            }
            // Another server should answer, and does not: nobody can tell what is there.
            Err(refusal) => {
                kinds.silent.push(Silent { group, version, said: refusal.message, ..Silent::default() });
                continue;
            }
        };
        for one in answer["resources"].as_array().into_iter().flatten() {
            let listable =
                one["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            let resource = one["name"].as_str().unwrap_or_default();
            let known = kinds.served.iter().any(|other| other.group == group && other.resource == resource);
            if one["namespaced"] != true || !listable || known || generated::is_passing(&group, resource) {
                continue;
            }
            kinds.served.push(Served {
                group: group.clone(),
                resource: resource.to_owned(),
                kind: one["kind"].as_str().unwrap_or_default().to_owned(),
                root: root.clone(),
            });
        }
    }
    Ok(kinds)
}

/// An object whose owners all live in namespaces: each is listed here in its own right, or gone, and then
/// this one follows it. With an owner beyond the namespace it is somebody's. Annotations are no proof
/// here: anybody can write ours on what is theirs.
fn goes_with_its_owner(meta: &Value, served: &[Served]) -> bool {
    let owners = meta["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lives_here = |owner: &Value| {
        let version = owner["apiVersion"].as_str().unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        served.iter().any(|one| one.group == group && owner["kind"] == one.kind.as_str())
    };
    !owners.is_empty() && owners.iter().all(lives_here)
}

fn summary(found: &[String]) -> String {
    let shown: Vec<&str> = found.iter().take(8).map(String::as_str).collect();
    let rest = found.len().saturating_sub(shown.len());
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served(group: &str, resource: &str, kind: &str) -> Served {
        let [group, resource, kind] = [group, resource, kind].map(str::to_owned);
        Served { group, resource, kind, root: String::new() }
    }

    #[test]
    fn what_dies_with_its_owner_is_not_foreign() {
        let served = [served("apps", "replicasets", "ReplicaSet")];
        let owned = |owners: Value| goes_with_its_owner(&json!({"ownerReferences": owners}), &served);
        let replicas = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": "x"});
        let tenant = json!({"apiVersion": "example.com/v1", "kind": "Tenant", "uid": "y"});
        assert!(owned(json!([replicas])));
        assert!(!owned(json!([replicas, tenant])), "one owner lives beyond the namespace");
        assert!(!owned(json!([])));
        let ours = json!({"annotations": {"outrigger.dev/deployment": "demo"}});
        assert!(!goes_with_its_owner(&ours, &served));
    }

    #[test]
    fn each_generator_is_named_once() {
        let lines = by_generator(&[
            ("Kyverno", "networkpolicies/deny".to_owned()),
            ("Rancher", "rolebindings/rb-x".to_owned()),
            ("Kyverno", "resourcequotas/quota".to_owned()),
        ]);
        assert_eq!(
            lines,
            ["networkpolicies/deny, resourcequotas/quota (by Kyverno)", "rolebindings/rb-x (by Rancher)"]
        );
    }
}
