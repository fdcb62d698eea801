//! What is remembered of a deployment: this machine's record, and what the ServiceAccount in the cluster
//! says where the record is silent. The one place that combines the two.

use std::cell::{Ref as Borrowed, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::error::{Failure, Result};
use crate::deployment::mark::{self, Deployment, Marks};
use crate::deployment::names;
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner, Vouched, Voucher};
use crate::deployment::record::Record;
use crate::deployment::run::Run;

/// What is known; it changes through the [`Journal`] alone.
#[derive(Default)]
pub struct Notes {
    record: RefCell<Record>,
    anchor: RefCell<Option<Object>>,
    /// Whether the record came from disk.
    pub recorded: bool,
    /// The id that somebody stands for, where this machine has no record.
    pub vouched: Option<Vouched>,
    /// Why nobody does, where objects say that they are this deployment's.
    pub doubt: Option<Failure>,
}

impl Notes {
    /// From a record that was read from disk, or is new.
    pub fn new(record: Record, recorded: bool) -> Self {
        Self { record: RefCell::new(record), recorded, ..Self::default() }
    }

    /// The record as it is now.
    pub fn record(&self) -> Borrowed<'_, Record> {
        self.record.borrow()
    }

    /// The deployment's id.
    pub fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    /// Whose a live object is.
    pub fn owner(&self, live: &Object) -> Owner {
        let vouched = self.vouched.as_ref().map(|vouched| vouched.id.as_str());
        ownership::judge(live, &self.record.borrow(), vouched)
    }

    /// Fails where objects say that they are this deployment's and nobody stands for it.
    ///
    /// # Errors
    /// OR0706 (exit 7), or GitLab's own where it was asked for the mark and did not say.
    pub fn certain(&self) -> Result<()> {
        self.doubt.clone().map_or(Ok(()), Err)
    }

    /// Takes note of the deployment's ServiceAccount as it was just read or changed.
    pub fn see_anchor(&self, live: Option<&Object>) {
        *self.anchor.borrow_mut() = live.cloned();
    }

    /// The deployment's ServiceAccount, if it is there and ours. Nothing else may be believed of it.
    pub fn anchor(&self) -> Option<Object> {
        self.anchor.borrow().clone().filter(|live| self.owner(live) == Owner::Us)
    }

    /// What an annotation of the anchor says; none for an empty one.
    pub fn noted(&self, annotation: &str) -> Option<String> {
        self.anchor()?.annotation(annotation).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn either(&self, recorded: impl FnOnce(&Record) -> &String, annotation: &str) -> Option<String> {
        let recorded = recorded(&self.record.borrow()).clone();
        if recorded.is_empty() { self.noted(annotation) } else { Some(recorded) }
    }

    /// The digest of the launch script that was written last.
    pub fn script_digest(&self) -> Option<String> {
        self.either(|record| &record.script_digest, names::SCRIPT_DIGEST)
    }

    /// Which target that script was made for.
    pub fn script_target(&self) -> Option<String> {
        self.either(|record| &record.script_target, names::SCRIPT_TARGET)
    }

    /// The uid of the Secret that the token in that script hangs on; empty if none with a token was written.
    pub fn script_secret(&self) -> String {
        self.either(|record| &record.script_secret, names::SCRIPT_SECRET).unwrap_or_default()
    }

    /// When the cluster token ends (RFC 3339); none for one that does not. It is printed, and whoever may write
    /// the anchor's annotations may put words there: what is no time counts for nothing.
    pub fn token_expires(&self) -> Option<String> {
        let text = self.either(|record| &record.token_expires, names::TOKEN_EXPIRES)?;
        text.parse::<jiff::Timestamp>().ok().map(|time| time.to_string())
    }

    /// The marks that the deployment's runner in GitLab may carry. With a record, or where the operator named
    /// the ServiceAccount's uid, earlier ones count, too.
    pub fn marks(&self, run: &Run) -> Marks {
        let live = self.anchor();
        let record = self.record.borrow();
        let here = &run.names.runner_namespace;
        let (namespace, live) = match &live {
            Some(live) => (here.clone(), live.uid().to_owned()),
            // A cluster that is gone is not asked; one where it is to be made does not have it yet.
            None if run.options.cluster_gone => record.anchors.last().map_or_else(
                || (here.clone(), String::new()),
                |last| (last.object.namespace.clone().unwrap_or_default(), last.uid.clone()),
            ),
            None => (here.clone(), String::new()),
        };
        let clusters = mark::identities(&record.cluster);
        let made = |namespace: &str, uid: &str| -> Vec<String> {
            let deployment = Deployment { name: &run.names.deployment, namespace, id: &record.id };
            clusters.iter().map(|cluster| mark::mark(deployment, cluster, uid)).collect()
        };
        let current = made(&namespace, &live);
        let mut earlier = Vec::new();
        if self.recorded || self.vouched.as_ref().is_some_and(|vouched| vouched.by == Voucher::Uid) {
            let before = record.anchors.iter().map(|owned| (owned.object.namespace.as_deref(), &*owned.uid));
            for (namespace, uid) in before.chain([(Some(here.as_str()), "")]) {
                earlier.extend(made(namespace.unwrap_or_default(), uid));
            }
            earlier.push(mark::id_alone(&record.id));
            earlier.retain(|mark| !current.contains(mark));
        }
        Marks { current, earlier }
    }
}

/// The only writer of the record: intents go to disk before a request, what came of it right after.
#[derive(Clone)]
pub struct Journal {
    notes: Rc<Notes>,
    dir: PathBuf,
}

impl Journal {
    /// Writes into this state directory.
    pub fn new(notes: Rc<Notes>, dir: PathBuf) -> Self {
        Self { notes, dir }
    }

    /// Changes the record; it goes to disk with the next write.
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.notes.record.borrow_mut());
    }

    /// Changes the record and writes it to disk.
    ///
    /// # Errors
    /// As [`Record::save`].
    pub fn write(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        self.note(change);
        self.save()
    }

    /// Writes the record to disk.
    ///
    /// # Errors
    /// As [`Record::save`].
    pub fn save(&self) -> Result<()> {
        self.notes.record.borrow().save(&self.dir)
    }

    /// Writes that an object is about to be made.
    ///
    /// # Errors
    /// As [`Record::save`].
    pub fn intend(&self, object: &Ref) -> Result<()> {
        self.write(|record| record.intend(object))
    }

    /// Writes that an object exists and is ours.
    ///
    /// # Errors
    /// As [`Record::save`].
    pub fn own(&self, object: &Ref, uid: &str) -> Result<()> {
        self.write(|record| record.own(object, uid))
    }

    /// Writes that an object is gone, or was never made.
    ///
    /// # Errors
    /// As [`Record::save`].
    pub fn forget(&self, object: &Ref) -> Result<()> {
        self.write(|record| record.forget(object))
    }
}
