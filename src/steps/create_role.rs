//! The runner's and the jobs' ServiceAccounts, the least-privilege Role and its RoleBinding.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::json;

use crate::base::error::{Failure, Result};
use crate::base::text::count;
use crate::base::wait::{self, Pace};
use crate::cluster::rights;
use crate::cluster::role::{self, Act};
use crate::cluster::view::Hand;
use crate::cluster::{Class, Refusal, deletion};
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::{Part, Run};
use crate::steps::contract::{
    Decided, Deciding, Info, Milestone, Outcome, Printed, Prints, Purpose, Reads, Step, Writes,
};
use crate::steps::dry_runs::{self, DryRuns};
use crate::steps::{Delete, removal};

pub struct CreateRole;

/// The longest delay before authorizers apply a new binding.
const LAG: Duration = Duration::from_secs(10);

pub struct Seen {
    /// Wanted and existing objects.
    objects: Vec<(Object, Option<Object>)>,
    /// The `default` ServiceAccount of the job namespace, if that is ours.
    default_account: Option<Object>,
    dry_runs: DryRuns,
}

impl Step for CreateRole {
    const INFO: Info = Info {
        name: "create-role",
        about: "Create the runner's ServiceAccount and the least-privilege Role",
        long: "Four objects: the runner's ServiceAccount; a ServiceAccount for jobs, without rights and token; and, in the \
         job namespace, a Role with the rights that the runner needs, and its RoleBinding. Includes bind-admin if you \
         need more rights to grant the Role. With --print the manifests go to stdout, for an administrator to apply.",
        keys: &[
            "namespace",
            "runnerNamespace",
            "useNamespaces",
            "podSecurity",
            "namespaceLabels",
            "namespaceAnnotations",
            "forceConflicts",
            "clusterAdmin",
            "keepAdminBinding",
            "accept",
        ],
        flags: &["print"],
        pulls_in: &[Part::Grant],
        reaches: Some(Milestone::RoleGranted),
        prints: Prints::OnRequest { with_cluster: true },
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Delete;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let wanted = manifests(r.run, &r.notes.id());
        let reads = wanted.iter().map(|object| r.cluster.read(&object.reference));
        let reads = futures_util::future::join_all(reads).await;
        let mut objects = Vec::new();
        for (object, live) in wanted.into_iter().zip(reads) {
            objects.push((object, live.map_err(Failure::from)?));
        }
        if why == Purpose::Teardown {
            return Ok(Seen { objects, default_account: None, dry_runs: DryRuns::default() });
        }
        // bind-admin does the Role's dry run.
        let elsewhere =
            |object: &Object| r.run.includes(Part::Grant) && object.reference.kind == ObjectKind::Role;
        let missing = objects.iter().filter(|(_, live)| live.is_none()).map(|(wanted, _)| wanted);
        let (asked, others): (Vec<&Object>, Vec<&Object>) = missing.partition(|object| !elsewhere(object));
        let mut dry_runs = DryRuns::at(r.cluster, &asked).await;
        for object in others {
            dry_runs.add(&object.reference, dry_runs::one(r.cluster, object, false).await);
        }
        let mut default_account = None;
        if !r.run.is_used(&r.run.names.job_namespace) {
            default_account = r.cluster.read(&r.run.names.default_account()).await.map_err(Failure::from)?;
        }
        Ok(Seen { objects, default_account, dry_runs })
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        let lines = seen.objects.iter().map(|(wanted, live)| {
            let owner = live.as_ref().map_or(Owner::Us, |live| d.notes.owner(live));
            let line = match (live, owner) {
                (Some(live), Owner::Foreign(why)) => Line::refuse(ownership::foreign(live, &why)),
                (Some(live), Owner::Us) if live.is_terminating() => {
                    Line::refuse(deletion::being_deleted(live))
                }
                (live, _) => {
                    role::decide(wanted.clone(), live.as_ref(), d.run.settings.force_conflicts, d.run.now)
                }
            };
            line.about(Target::Object(wanted.reference.clone()))
        });
        let mut decided = seen.dry_runs.judge(lines.collect(), |act| match act {
            Act::Create(object) => Some(object),
            Act::Apply(_) | Act::Replace(..) | Act::QuietDefault(_) => None,
        });
        decided.lines.extend(quiet_default(d.run, seen.default_account.as_ref()));
        decided
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Delete>> {
        if let Act::Replace(uid, object) = &act {
            w.cluster.replace(&object.reference, uid).await?;
        }
        match act {
            Act::Create(object) | Act::Replace(_, object) => {
                w.cluster.after_binding(LAG, || w.cluster.create(&object)).await?;
                w.cluster.granted();
            }
            Act::Apply(object) => {
                w.cluster.after_binding(LAG, || w.cluster.apply(&object)).await?;
                w.cluster.granted();
            }
            Act::QuietDefault(reference) => quieten(w.cluster, &reference).await?,
        }
        Ok(String::new().into())
    }

    fn done(&self, d: &Deciding<'_>, _: &Seen, lines: &[Line<Act>], _: &[String]) -> String {
        let acts = lines.iter().filter_map(|line| line.act.as_ref());
        let (mut created, mut updated, mut role) = (0, 0, false);
        for act in acts {
            match act {
                Act::Create(object) => {
                    created += 1;
                    role |= object.reference.kind == ObjectKind::Role;
                }
                Act::Apply(_) | Act::Replace(..) | Act::QuietDefault(_) => updated += 1,
            }
        }
        let name = d.run.names.role().name;
        let mut parts = Vec::new();
        match (created, role) {
            (0, _) => {}
            (1, true) => parts.push(format!("created Role {name}")),
            (_, true) => parts.push(format!("created Role {name} and {} more", created - 1)),
            (_, false) => parts.push(format!("created {}", count(created, "object"))),
        }
        if updated > 0 {
            parts.push(format!("updated {}", count(updated, "object")));
        }
        if parts.is_empty() { "kept".to_owned() } else { parts.join(", ") }
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<Delete>> {
        // The runner's ServiceAccount last: other machines find the other objects through it.
        let existing = seen.objects.iter().rev().filter_map(|(_, live)| live.as_ref());
        existing.map(|live| removal(d, live)).collect()
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Delete>) -> Result<String> {
        let (mut deleted, mut held) = (0, String::new());
        let mut failures = Vec::new();
        for Delete(reference, uid) in acts {
            match w.cluster.delete(&reference, &uid).await {
                Ok(None) => deleted += 1,
                // Waited for at the end.
                Ok(Some(live)) => held = format!("{held}; {}", deletion::shown(&live)),
                Err(failure) => failures.push(failure),
            }
        }
        match Failure::together(failures) {
            Some(failure) => Err(failure),
            None => Ok(format!("deleted {}{held}", count(deleted, "object"))),
        }
    }

    async fn print(&self, r: Reads<'_>) -> Result<Option<Printed>> {
        r.cluster.version().await?;
        let (names, id) = (&r.run.names, r.notes.id());
        let (level, version) = (r.run.settings.pod_security.word(), r.cluster.minor_version());
        let mut objects = Vec::new();
        for reference in names.namespaces() {
            let live = r.cluster.read(&reference).await.map_err(Failure::from)?;
            if live.as_ref().is_some_and(|live| r.notes.owner(live) != Owner::Us) {
                continue;
            }
            // The version of an existing namespace stays, so that the same manifests come out after an upgrade.
            let label = format!("{}enforce-version", names::POD_SECURITY);
            let pinned =
                live.and_then(|live| live.value["metadata"]["labels"][&label].as_str().map(str::to_owned));
            let version = pinned.or_else(|| version.clone());
            let namespace = names.namespace_manifest(reference, &id, level, version.as_deref());
            objects.push(names::marked(namespace, &r.run.settings));
        }
        objects.extend(manifests(r.run, &id));
        Printed::manifests(objects).map(Some)
    }
}

/// The four objects, in an order that the API server accepts.
fn manifests(run: &Run, id: &str) -> Vec<Object> {
    let names = &run.names;
    let mut account = names.manifest(names.account(), id, &json!({"automountServiceAccountToken": false}));
    account.value["metadata"]["annotations"][names::SETTINGS] =
        json!(Run::settings_note(&run.settings.recorded()));
    let job_account =
        names.manifest(names.job_account(), id, &json!({"automountServiceAccountToken": false}));
    let role = names.manifest(names.role(), id, &json!({"rules": rights::manifest()}));
    let binding = names.manifest(
        names.role_binding(),
        id,
        &json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": names.role().name},
            "subjects": [{"kind": "ServiceAccount", "name": names.deployment, "namespace": names.runner_namespace}],
        }),
    );
    vec![account, job_account, role, binding]
}

/// In the deployment's own job namespace, pods of the `default` ServiceAccount get no token either.
fn quiet_default(run: &Run, live: Option<&Object>) -> Option<Line<Act>> {
    let quiet = |live: &Object| live.value["automountServiceAccountToken"] == json!(false);
    if run.is_used(&run.names.job_namespace) || live.is_some_and(quiet) {
        return None;
    }
    let reference = run.names.default_account();
    let text = format!("{reference}: no token for pods without a ServiceAccount of their own");
    let target = Target::Object(reference.clone());
    Some(Line::new(Decision::Update, text, Act::QuietDefault(reference)).about(target))
}

/// Updates the `default` ServiceAccount, which a controller creates after its namespace.
async fn quieten(hand: &Hand, reference: &Ref) -> Result<()> {
    let patch = json!({"automountServiceAccountToken": false});
    let look = async || match hand.merge(reference, &patch).await {
        Ok(_) => Ok(Break(())),
        Err(refusal) if refusal.class == Class::NotFound => Ok(Continue(refusal)),
        Err(refusal) => Err(refusal.into()),
    };
    let tell = |_: &Refusal, waited| {
        if wait::is_long(waited) {
            hand.progress.waiting("create-role", &format!("the cluster to create {reference}"), waited);
        }
    };
    let pace = Pace::new(&hand.limits, 5, 1000).within(Duration::from_secs(30));
    Ok(wait::until(pace, tell, look).await??)
}

#[cfg(test)]
#[path = "create_role_tests.rs"]
mod tests;
