//! A run's access to the cluster: [`View`] for reads, reviews and dry runs, [`Hand`] for changes, each of them
//! recorded before and after the request. Steps observe and decide with a View, and apply with a Hand.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::Reporter;
use crate::base::request::Limits;
use crate::base::wait::{self, Pace};
use crate::cluster::dry_run;
use crate::cluster::endpoint_ca::Trust;
use crate::cluster::namespace::Kinds;
use crate::cluster::rights::Right;
use crate::cluster::{Class, Cluster, Refusal, Target};
use crate::deployment::names::ID;
use crate::deployment::notes::{Notes, Writable};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::run::Run;
use crate::settings::{Risk, check};

/// The operator's identity on the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// User name, byte for byte.
    pub name: String,
    pub groups: Vec<String>,
}

type Seen = Rc<OnceCell<Option<Object>>>;

/// Access to the cluster that changes nothing.
pub struct View {
    pub run: Rc<Run>,
    pub notes: Rc<Notes>,
    pub target: Target,
    pub limits: Limits,
    pub progress: Rc<dyn Reporter>,
    pub(super) api: Cluster,
    pub(super) trust: OnceCell<Trust>,
    pub(super) served: OnceCell<Kinds>,
    /// The temporary binding that exists now, with its uid.
    pub(super) held: RefCell<Option<(Ref, String)>>,
    /// Whether this run created a temporary binding, which takes effect with a delay.
    pub(super) bound: Cell<bool>,
    /// Whether this run created the runner's RoleBinding, which takes effect with a delay.
    pub(super) granted: Cell<bool>,
    /// Objects reported as still being deleted.
    pub(super) awaited: RefCell<Vec<Ref>>,
    /// Whether generated objects may be deleted with their namespace (`--accept generated`, or confirmed).
    pub accept_generated: Cell<bool>,
    /// One line for each namespace kept only because of generated objects.
    pub generated: RefCell<Vec<String>>,
    operator: OnceCell<Operator>,
    version: OnceCell<String>,
    seen: RefCell<HashMap<Ref, Seen>>,
}

impl View {
    pub fn new(
        run: Rc<Run>,
        notes: Rc<Notes>,
        target: Target,
        limits: Limits,
        progress: Rc<dyn Reporter>,
        api: Cluster,
    ) -> Self {
        Self {
            accept_generated: Cell::new(run.settings.accepts(Risk::Generated)),
            run,
            notes,
            target,
            limits,
            progress,
            api,
            trust: OnceCell::new(),
            served: OnceCell::new(),
            held: RefCell::default(),
            bound: Cell::default(),
            granted: Cell::default(),
            awaited: RefCell::default(),
            generated: RefCell::default(),
            operator: OnceCell::new(),
            version: OnceCell::new(),
            seen: RefCell::default(),
        }
    }

    /// Replaces run and notes; keeps the objects read so far.
    pub fn completed(self, run: Rc<Run>, notes: Rc<Notes>) -> Self {
        Self { run, notes, ..self }
    }

    /// Reads an object, once per run.
    pub async fn read(&self, reference: &Ref) -> Result<Option<Object>, Refusal> {
        let cell = Rc::clone(self.seen.borrow_mut().entry(reference.clone()).or_default());
        let live = cell.get_or_try_init(|| self.api.get(reference)).await?;
        if *reference == self.run.names.account() {
            self.notes.see_anchor(live.as_ref());
        }
        Ok(live.clone())
    }

    pub async fn read_again(&self, reference: &Ref) -> Result<Option<Object>, Refusal> {
        let live = self.api.get(reference).await?;
        self.changed(reference, live.clone());
        Ok(live)
    }

    /// Updates the cached object.
    pub fn changed(&self, reference: &Ref, now: Option<Object>) {
        if *reference == self.run.names.account() {
            self.notes.see_anchor(now.as_ref());
        }
        self.seen.borrow_mut().insert(reference.clone(), Rc::new(OnceCell::new_with(Some(now))));
    }

    /// Whether all of these objects exist and belong to the deployment.
    pub async fn are_ours(&self, references: &[Ref]) -> bool {
        for reference in references {
            let live = self.read(reference).await.ok().flatten();
            if live.is_none_or(|live| self.notes.owner(&live) != Owner::Us) {
                return false;
            }
        }
        true
    }

    /// Whether a namespace accepts new objects; true if it may not be read.
    pub async fn takes_objects(&self, namespace: &str) -> bool {
        match self.read(&Ref::cluster(crate::deployment::object::Kind::Namespace, namespace)).await {
            Ok(live) => live.is_some_and(|live| !live.is_terminating()),
            Err(_) => true,
        }
    }

    pub async fn list_metadata(&self, what: &str, path: &str) -> Result<Vec<Value>, Refusal> {
        self.api.list_metadata(what, path).await
    }

    pub async fn dry_run(&self, object: &Object) -> Result<(), Refusal> {
        self.api.dry_run(object).await
    }

    pub async fn review(&self, what: &str, group: &str, kind: &str, spec: Value) -> Result<Value, Refusal> {
        self.api.review(what, group, kind, spec).await
    }

    /// Whether the operator has a right.
    pub async fn may(&self, namespace: &str, right: &Right) -> Result<bool, Refusal> {
        self.api.may(namespace, right).await
    }

    /// The operator's identity, from the server. Fails with OR0405 (exit 4) for a name that is unsafe in a binding or
    /// a command.
    pub async fn operator(&self) -> Result<&Operator> {
        self.operator
            .get_or_try_init(|| async {
                let what = "get your user name";
                let status =
                    self.review(what, "authentication.k8s.io", "SelfSubjectReview", Value::Null).await?;
                let user = &status["userInfo"];
                let name = user["username"].as_str().unwrap_or_default();
                if let Err(why) = check::text(name) {
                    let name = check::escaped(name);
                    let message = format!("your user name on the cluster is {name}, which {why}");
                    return Err(Failure::new(Id::UnprintableUser, message)
                        .hint("use a context with another user: --context NAME"));
                }
                let groups = user["groups"].as_array().into_iter().flatten();
                Ok(Operator {
                    name: name.to_owned(),
                    groups: groups.filter_map(|group| group.as_str().map(str::to_owned)).collect(),
                })
            })
            .await
    }

    /// The server's version, such as `v1.37.2`.
    pub async fn version(&self) -> Result<&String> {
        self.version
            .get_or_try_init(|| async {
                let answer = self.api.read("read the version", "/version").await?;
                Ok(answer["gitVersion"].as_str().unwrap_or_default().to_owned())
            })
            .await
    }

    /// The minor version, such as `v1.37`, once [`Self::version`] was read.
    pub fn minor_version(&self) -> Option<String> {
        let mut parts = self.version.get()?.trim_start_matches('v').split('.');
        let mut number = || {
            let part = parts.next()?;
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            (!digits.is_empty()).then_some(digits)
        };
        Some(format!("v{}.{}", number()?, number()?))
    }
}

impl Cluster {
    /// Whether this connection's user has a right.
    pub async fn may(&self, namespace: &str, right: &Right) -> Result<bool, Refusal> {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        let spec = json!({"resourceAttributes": {
            "namespace": namespace, "verb": right.verb, "group": right.group,
            "resource": resource, "subresource": subresource, "name": right.name,
        }});
        let what = format!("check permission: {right}");
        let status = self.review(&what, "authorization.k8s.io", "SelfSubjectAccessReview", spec).await?;
        Ok(status["allowed"] == true)
    }
}

/// Changes the cluster; also a [`View`].
pub type Hand = Writable<View>;

impl Hand {
    /// Number of mutating requests sent.
    pub fn mutations(&self) -> usize {
        self.api.mutations()
    }

    /// Creates an object: records the intent, sends the request, records the uid. After a lost response, an object
    /// with this deployment's id counts as created.
    pub async fn create(&self, object: &Object) -> Result<Object> {
        let reference = &object.reference;
        self.journal.intend(reference)?;
        let made = match self.api.create(object).await {
            Ok(made) => made,
            Err(refusal) if refusal.is_ambiguous() || refusal.class == Class::AlreadyExists => {
                let cleanup = self.api.for_cleanup(Duration::from_secs(10));
                match cleanup.get(reference).await {
                    Ok(Some(live)) if live.annotation(ID) == Some(self.notes.id().as_str()) => live,
                    Ok(Some(live)) if refusal.class == Class::AlreadyExists => {
                        self.journal.forget(reference)?;
                        return Err(ownership::foreign(&live, "it was created after the plan"));
                    }
                    Ok(None) => {
                        self.journal.forget(reference)?;
                        return Err(refusal.into());
                    }
                    _ => return Err(refusal.into()),
                }
            }
            Err(refusal) => {
                self.journal.forget(reference)?;
                return Err(self.refused(object, refusal));
            }
        };
        self.changed(reference, Some(made.clone()));
        self.journal.own(reference, made.uid())?;
        Ok(made)
    }

    fn refused(&self, object: &Object, refusal: Refusal) -> Failure {
        dry_run::failure(&self.run.settings, object, refusal)
    }

    /// Updates an object of the deployment with a forced apply.
    pub async fn apply(&self, object: &Object) -> Result<Object> {
        let made = self.api.apply(object).await.map_err(|why| self.refused(object, why))?;
        self.changed(&object.reference, Some(made.clone()));
        self.journal.own(&object.reference, made.uid())?;
        Ok(made)
    }

    /// Merge patch; also for an object that outrigger did not create.
    pub async fn merge(&self, reference: &Ref, patch: &Value) -> Result<Object, Refusal> {
        let live = self.api.merge(reference, patch).await?;
        self.changed(reference, Some(live.clone()));
        Ok(live)
    }

    /// Sets annotations of this deployment's ServiceAccount, for machines without the record; null removes one. Also
    /// after a signal: they say what has already been done. Without that object there is nothing to do.
    pub async fn annotate(&self, annotations: Value) -> Result<()> {
        let Some(live) = self.notes.anchor() else { return Ok(()) };
        let patch = json!({"metadata": {"uid": live.uid(), "annotations": annotations}});
        let cleanup = self.api.for_cleanup(Duration::from_secs(10));
        let live = cleanup.merge(&live.reference, &patch).await?;
        self.changed(&live.reference.clone(), Some(live));
        Ok(())
    }

    /// See [`Cluster::request_token`].
    pub async fn request_token(&self, account: &Ref, body: &Value) -> Result<Value, Refusal> {
        self.api.request_token(account, body).await
    }

    /// Call after creating the runner's RoleBinding, which takes effect with a delay.
    pub fn granted(&self) {
        self.granted.set(true);
    }

    /// Retries a denied attempt after creating a temporary binding, which takes effect with a delay.
    pub async fn after_binding<T, F>(&self, limit: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let look = async || match attempt().await {
            Err(failure) if failure.kind == Kind::Denied && self.bound.get() => Ok(Continue(failure)),
            other => other.map(Break),
        };
        wait::until(Pace::new(&self.limits, 50, 1000).within(limit), |_, _| {}, look).await?
    }
}
