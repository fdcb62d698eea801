//! Combines this machine's record of a deployment with the annotations of its ServiceAccount in the cluster (the
//! anchor), which are used if the record has no value.

use std::cell::{Ref as Borrowed, RefCell};
use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::error::{Failure, Result};
use crate::deployment::mark::{self, Deployment, Marks};
use crate::deployment::names;
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Confirmed, Evidence, Owner};
use crate::deployment::record::{Record, Slots};
use crate::deployment::run::Run;
use crate::settings::Reissue;

/// Record and anchor. Only the [`Journal`] changes them.
#[derive(Default)]
pub struct Notes {
    record: RefCell<Record>,
    anchor: RefCell<Option<Object>>,
    /// Whether the record was read from disk.
    pub recorded: bool,
    /// The confirmed id, if this machine has no record.
    pub confirmed: Option<Confirmed>,
    /// Why the id could not be confirmed, if objects in the cluster have this deployment's labels.
    pub unconfirmed: Option<Failure>,
}

impl Notes {
    pub fn new(record: Record, recorded: bool) -> Self {
        Self { record: RefCell::new(record), recorded, ..Self::default() }
    }

    pub fn record(&self) -> Borrowed<'_, Record> {
        self.record.borrow()
    }

    pub fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    pub fn owner(&self, live: &Object) -> Owner {
        let confirmed = self.confirmed.as_ref().map(|confirmed| confirmed.id.as_str());
        ownership::judge(live, &self.record.borrow(), confirmed)
    }

    /// Fails if objects have this deployment's labels and its id could not be confirmed: with OR0706 (exit 7), or
    /// with GitLab's error if the mark could not be read.
    pub fn check_owner(&self) -> Result<()> {
        self.unconfirmed.clone().map_or(Ok(()), Err)
    }

    /// Updates the deployment's ServiceAccount after it was read or changed.
    pub fn see_anchor(&self, live: Option<&Object>) {
        *self.anchor.borrow_mut() = live.cloned();
    }

    /// The deployment's ServiceAccount, if it exists and belongs to the deployment. The annotations of others are
    /// not used.
    pub fn anchor(&self) -> Option<Object> {
        self.anchor.borrow().clone().filter(|live| self.owner(live) == Owner::Us)
    }

    /// The value of an anchor's annotation; `None` if empty.
    pub fn noted(&self, annotation: &str) -> Option<String> {
        self.anchor()?.annotation(annotation).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn either(&self, recorded: impl FnOnce(&Record) -> &String, annotation: &str) -> Option<String> {
        let recorded = recorded(&self.record.borrow()).clone();
        if recorded.is_empty() { self.noted(annotation) } else { Some(recorded) }
    }

    /// Digest of the last launch script.
    pub fn script_digest(&self) -> Option<String> {
        self.either(|record| &record.script_digest, names::SCRIPT_DIGEST)
    }

    /// Target of that script.
    pub fn script_target(&self) -> Option<String> {
        self.either(|record| &record.script_target, names::SCRIPT_TARGET)
    }

    /// Uid of the Secret to which that script's token is bound; empty if no script with a token was written.
    pub fn script_secret(&self) -> String {
        self.either(|record| &record.script_secret, names::SCRIPT_SECRET).unwrap_or_default()
    }

    /// Expiry of the cluster token (RFC 3339); `None` if it does not expire. The annotation may contain any text,
    /// and the value is printed: other text than a time is ignored.
    pub fn token_expires(&self) -> Option<String> {
        let text = self.either(|record| &record.token_expires, names::TOKEN_EXPIRES)?;
        text.parse::<jiff::Timestamp>().ok().map(|time| time.to_string())
    }

    /// The Secrets of the cluster token. An implausible annotation is ignored.
    pub fn slots(&self) -> Slots {
        if let Some(slots) = &self.record.borrow().slots {
            return slots.clone();
        }
        // Others can write the annotation, so it is not trusted about which token the host has, or since when.
        self.noted_slots()
            .map(|slots| match slots.retiring {
                Some(old) if slots.next.is_none() => {
                    Slots { current: old.generation, next: Some(slots.current), retiring: None, ..slots }
                }
                _ => Slots { retiring: None, ..slots },
            })
            .unwrap_or_default()
    }

    fn noted_slots(&self) -> Option<Slots> {
        let noted = self.noted(names::TOKEN_SLOTS);
        let slots: Option<Slots> = noted.and_then(|text| serde_json::from_str(&text).ok());
        slots.filter(Slots::is_plausible)
    }

    /// What the annotation says that another machine made of the Secrets since this one's record was written.
    pub fn newer_slots(&self) -> Option<Slots> {
        let turn = self.slots().turn;
        self.noted_slots().filter(|noted| noted.turn > turn)
    }

    /// The Secret of the token that the launch script is to bring: the second one during a rotation.
    pub fn token_secret(&self, run: &Run) -> Ref {
        let slots = self.slots();
        match slots.next {
            Some(next) => run.names.token_secret(&next),
            None if run.rotates(Reissue::Cluster) && slots.retiring.is_none() => {
                run.names.token_secret(&run.generation())
            }
            None => run.names.token_secret(&slots.current),
        }
    }

    /// All Secrets of the cluster token.
    pub fn token_secrets(&self, run: &Run) -> Vec<Ref> {
        self.slots().generations().into_iter().map(|one| run.names.token_secret(one)).collect()
    }

    /// The marks that the deployment's runner in GitLab may have. Earlier marks count only with a record, or if the
    /// operator named the ServiceAccount's uid.
    pub fn marks(&self, run: &Run) -> Marks {
        let live = self.anchor();
        let record = self.record.borrow();
        let here = run.names.runner_namespace.as_str();
        // With --cluster-gone, the ServiceAccount cannot be read: the last recorded one counts.
        let last = record.anchors.last().filter(|_| run.options.cluster_gone);
        let (namespace, uid) = match (&live, last) {
            (Some(live), _) => (here, live.uid()),
            (None, Some(last)) => (last.object.namespace.as_deref().unwrap_or_default(), last.uid.as_str()),
            (None, None) => (here, ""),
        };
        let clusters = mark::identities(&record.cluster);
        let made = |namespace: &str, uid: &str| -> Vec<String> {
            let deployment = Deployment { name: &run.names.deployment, namespace, id: &record.id };
            clusters.iter().map(|cluster| mark::mark(deployment, cluster, uid)).collect()
        };
        let current = made(namespace, uid);
        let mut earlier = Vec::new();
        if self.recorded || self.confirmed.as_ref().is_some_and(|confirmed| confirmed.by == Evidence::Uid) {
            let before = record.anchors.iter().map(|owned| (owned.object.namespace.as_deref(), &*owned.uid));
            for (namespace, uid) in before.chain([(Some(here), "")]) {
                earlier.extend(made(namespace.unwrap_or_default(), uid));
            }
            earlier.push(mark::id_alone(&record.id));
            earlier.retain(|mark| !current.contains(mark));
        }
        Marks { current, earlier }
    }
}

/// The only writer of the record: saves an intent before a request, and the result right after. Its methods fail as
/// [`Record::save`] does.
#[derive(Clone)]
pub struct Journal {
    notes: Rc<Notes>,
    dir: PathBuf,
}

impl Journal {
    pub fn new(notes: Rc<Notes>, dir: PathBuf) -> Self {
        Self { notes, dir }
    }

    /// Changes the record without saving it.
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.notes.record.borrow_mut());
    }

    /// Changes the record and saves it.
    pub fn write(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        self.note(change);
        self.save()
    }

    pub fn save(&self) -> Result<()> {
        self.notes.record.borrow().save(&self.dir)
    }

    /// Records that an object is about to be created.
    pub fn intend(&self, object: &Ref) -> Result<()> {
        self.write(|record| record.intend(object))
    }

    /// Records that an object exists and belongs to the deployment.
    pub fn own(&self, object: &Ref, uid: &str) -> Result<()> {
        self.write(|record| record.own(object, uid))
    }

    /// Records that an object was deleted, or never created.
    pub fn forget(&self, object: &Ref) -> Result<()> {
        self.write(|record| record.forget(object))
    }
}

/// A view with write access: everything that changes its server is a method of this type alone.
pub struct Writable<V> {
    view: V,
    pub journal: Journal,
}

impl<V> Writable<V> {
    pub fn new(view: V, journal: Journal) -> Self {
        Self { view, journal }
    }

    /// Gives up write access.
    pub fn into_view(self) -> V {
        self.view
    }
}

impl<V> Deref for Writable<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.view
    }
}
