//! A temporary binding that lets the operator grant the Role, if the API server refuses otherwise.

use serde_json::json;

use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::text::count;
use crate::cluster::Class;
use crate::cluster::dry_run::{self, DryRun};
use crate::cluster::rights::{self, Right};
use crate::cluster::temporary_binding::{bind, manifest, release_held, release_one, undo_command};
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::{Part, Run};
use crate::settings::{Risk, shell_word};
use crate::steps::contract::{Decided, Deciding, Info, Milestone, Outcome, Purpose, Reads, Step, Writes};
use crate::steps::dry_runs;

pub struct BindAdmin;

pub struct Seen {
    /// Bindings left by an earlier run, with their uid if known.
    leftovers: Vec<(Ref, Option<String>)>,
    answer: Answer,
    operator: String,
    /// Only for [`Purpose::Setup`], and only if the binding may be needed.
    means: Option<Means>,
}

/// The operator's rights to the temporary binding.
struct Means {
    bind: bool,
    /// The right to delete it, which `edit` does not include.
    release: bool,
    /// A policy's refusal, from a dry run.
    refused: Option<Failure>,
}

#[derive(Clone)]
pub enum Act {
    /// Delete a binding left by an earlier run.
    Release(Ref, Option<String>),
    /// Create the temporary binding.
    Bind(Object),
}

#[derive(Clone)]
pub enum Undo {
    /// Delete a binding left by an earlier run.
    Release(Ref, Option<String>),
    /// Delete the binding of this run to this ClusterRole.
    Held(&'static str),
}

impl Step for BindAdmin {
    const INFO: Info = Info {
        name: "bind-admin",
        about: "Temporarily give yourself `edit` in the job namespace, if the Role needs it",
        long: "Kubernetes lets users grant only rights that they have themselves. If you lack them, a temporary RoleBinding \
         to the ClusterRole `edit` in the job namespace is enough; it is removed as soon as Role and RoleBinding \
         exist, also on failure and on Ctrl-C. The article's cluster-admin binding is created only with \
         --cluster-admin.",
        keys: &[
            "namespace",
            "runnerNamespace",
            "useNamespaces",
            "clusterAdmin",
            "keepAdminBinding",
            "accept",
        ],
        part: Some(Part::Grant),
        holds_until: Some(Milestone::RoleGranted),
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Undo;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let leftovers = if why == Purpose::Again { Vec::new() } else { leftovers(r).await? };
        if why == Purpose::Teardown {
            let answer = Answer::NotNeeded(String::new());
            return Ok(Seen { leftovers, answer, operator: String::new(), means: None });
        }
        let released = !leftovers.is_empty() && !r.run.settings.keep_admin_binding;
        let answer = match question(r).await? {
            // The binding of an earlier run still grants its rights, and will be deleted first.
            Answer::MayGrant(_) if released => Answer::Needed,
            answer => answer,
        };
        let operator = r.cluster.operator().await?.name.clone();
        let asks = why == Purpose::Setup
            && matches!(answer, Answer::Needed | Answer::Unknown(_))
            && !needs_consent(r.run);
        let means = if asks { Some(means(r, &operator).await?) } else { None };
        Ok(Seen { leftovers, answer, operator, means })
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        let leftovers = seen.leftovers.iter().map(|(reference, uid)| {
            if d.run.settings.keep_admin_binding {
                let line = Line::keep(format!("{reference} stays (--keep-admin-binding)"));
                line.about(Target::Object(reference.clone()))
            } else {
                leftover(reference, Act::Release(reference.clone(), uid.clone()))
            }
        });
        let mut decided = Decided::lines(leftovers.chain([decide(d, seen)]).collect());
        if matches!(seen.answer, Answer::Needed) && seen.means.is_some() {
            let why = "you may not grant it yet".to_owned();
            decided.forecast.unchecked.push((d.run.names.role(), why));
        }
        decided
    }

    fn within(&self, act: &Act, announced: &[Act]) -> bool {
        let name = |act: &Act| match act {
            Act::Release(reference, _) => reference.clone(),
            Act::Bind(binding) => binding.reference.clone(),
        };
        announced.iter().any(|one| name(one) == name(act))
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Undo>> {
        match act {
            Act::Release(reference, uid) => {
                release_one(w.cluster, &reference, uid.as_deref()).await?;
                Ok(format!("released {reference}, left by an earlier run").into())
            }
            Act::Bind(binding) => {
                let text = match bind(w.cluster, &binding).await {
                    Err(refused) if refused.kind == Kind::Denied => {
                        let operator = &w.reads.cluster.operator().await?.name;
                        return Err(administrators_way(w.run, operator, &refused.message));
                    }
                    bound => bound?,
                };
                if w.run.settings.keep_admin_binding {
                    let text = format!("{text}, kept (--keep-admin-binding)");
                    return Ok(text.into());
                }
                Ok(Outcome { text, held: vec![Undo::Held(role(w.run))] })
            }
        }
    }

    fn done(&self, _: &Deciding<'_>, _: &Seen, lines: &[Line<Act>], did: &[String]) -> String {
        let idle = lines.iter().filter(|line| line.act.is_none()).map(|line| line.text.clone());
        did.iter().cloned().chain(idle).collect::<Vec<_>>().join("; ")
    }

    fn decide_undo(&self, _: &Deciding<'_>, seen: &Seen) -> Vec<Line<Undo>> {
        let all = seen.leftovers.iter();
        all.map(|(reference, uid)| leftover(reference, Undo::Release(reference.clone(), uid.clone())))
            .collect()
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Undo>) -> Result<String> {
        let mut released = 0;
        for act in acts {
            match act {
                Undo::Release(reference, uid) => {
                    release_one(w.cluster, &reference, uid.as_deref()).await?;
                    released += 1;
                }
                Undo::Held(role) => {
                    release_held(w.cluster).await?;
                    return Ok(format!("{role} released"));
                }
            }
        }
        Ok(format!("deleted {}", count(released, "temporary binding")))
    }
}

/// Whether the operator needs the temporary binding, with the reason.
enum Answer {
    /// There is nothing to grant.
    NotNeeded(String),
    /// The operator may grant the Role.
    MayGrant(String),
    Needed,
    Unknown(String),
}

/// Asks the API server whether the operator may create the Role and its binding.
async fn question(r: Reads<'_>) -> Result<Answer> {
    let names = &r.run.names;
    let (reference, binding, namespace) = (names.role(), names.role_binding(), &names.job_namespace);
    let (role, binding) = tokio::join!(read(r, &reference), read(r, &binding));
    let (role, binding) = (role?, binding?);
    let differs = role.as_ref().is_none_or(|role| {
        let comparison = rights::compare(&rights::rights(&role.value["rules"]), &rights::needed());
        !comparison.more.is_empty() || (r.run.settings.force_conflicts && !comparison.less.is_empty())
    });
    if !differs && binding.is_some() {
        return Ok(Answer::NotNeeded("the Role is in place and unchanged".to_owned()));
    }
    let in_namespace = read(r, &Ref::cluster(ObjectKind::Namespace, namespace))
        .await?
        .is_some_and(|live| !live.is_terminating());
    // A dry run of the creation, with another name if the Role exists; as a ClusterRole if the namespace does not.
    let other_name = format!("{}-question", reference.name);
    let probe = match (in_namespace, &role) {
        (true, None) => reference.clone(),
        (true, Some(_)) => Ref::new(ObjectKind::Role, namespace, &other_name),
        (false, _) => Ref::cluster(ObjectKind::ClusterRole, &other_name),
    };
    let probe = names.manifest(probe, &r.notes.id(), &json!({"rules": rights::manifest()}));
    match r.cluster.dry_run(&probe).await {
        Ok(()) => {
            let bind =
                Right { name: reference.name, ..Right::new("rbac.authorization.k8s.io", "roles", "bind") };
            let escalate = Right { verb: "escalate".to_owned(), ..bind.clone() };
            // `escalate` alone allows creating the Role, but not binding it.
            let (escalates, binds) =
                tokio::join!(r.cluster.may(namespace, &escalate), r.cluster.may(namespace, &bind));
            if escalates.unwrap_or(false) && !binds.unwrap_or(true) {
                return Ok(Answer::Needed);
            }
            Ok(Answer::MayGrant(format!("you may grant the Role's {} rules yourself", rule_count())))
        }
        Err(refusal) if refusal.is_escalation() => Ok(Answer::Needed),
        // A policy for ClusterRoles may not apply to the Role.
        Err(refusal) if matches!(refusal.class, Class::Forbidden | Class::Admission) && !in_namespace => {
            Ok(Answer::Unknown(refusal.message))
        }
        Err(refusal) => Err(dry_run::failure(&r.run.settings, &probe, refusal)),
    }
}

fn rule_count() -> usize {
    rights::manifest().as_array().map_or(0, Vec::len)
}

/// Binding `edit` in an existing namespace needs consent.
fn needs_consent(run: &Run) -> bool {
    run.is_used(&run.names.job_namespace)
        && !run.settings.accepts(Risk::TemporaryEdit)
        && !run.settings.cluster_admin
}

/// The ClusterRole of the temporary binding.
fn role(run: &Run) -> &'static str {
    if run.settings.cluster_admin { "cluster-admin" } else { "edit" }
}

/// The temporary binding of this run.
fn binding(run: &Run, id: &str, operator: &str) -> Object {
    let name = format!("{}{}", run.names.temporary_prefix(), run.nonce);
    let reference = if run.settings.cluster_admin {
        Ref::cluster(ObjectKind::ClusterRoleBinding, &name)
    } else {
        Ref::new(ObjectKind::RoleBinding, &run.names.job_namespace, &name)
    };
    manifest(run, id, reference, role(run), operator)
}

async fn means(r: Reads<'_>, operator: &str) -> Result<Means> {
    let namespace = &r.run.names.job_namespace;
    let binding = binding(r.run, &r.notes.id(), operator);
    if r.run.settings.cluster_admin {
        let bind = match r.cluster.dry_run(&binding).await {
            Ok(()) => true,
            Err(refusal) if refusal.class == Class::Forbidden => false,
            Err(refusal) => return Err(dry_run::failure(&r.run.settings, &binding, refusal)),
        };
        return Ok(Means { bind, release: true, refused: None });
    }
    let right =
        Right { name: "edit".to_owned(), ..Right::new("rbac.authorization.k8s.io", "clusterroles", "bind") };
    let release = Right::new("rbac.authorization.k8s.io", "rolebindings", "delete");
    let (bind, release, dry_run_result) = tokio::join!(
        r.cluster.may(namespace, &right),
        r.cluster.may(namespace, &release),
        dry_runs::one(r.cluster, &binding, true)
    );
    let refused = match dry_run_result {
        // `decide` reports a denial, with the alternatives.
        DryRun::Refused(failure) if failure.kind != Kind::Denied => Some(failure),
        _ => None,
    };
    Ok(Means { bind: bind.map_err(Failure::from)?, release: release.map_err(Failure::from)?, refused })
}

fn decide(d: &Deciding<'_>, seen: &Seen) -> Line<Act> {
    let (run, operator) = (d.run, seen.operator.as_str());
    let namespace = &run.names.job_namespace;
    let unknown = match &seen.answer {
        Answer::NotNeeded(why) | Answer::MayGrant(why) => {
            return Line::not_needed(format!("not needed: {why}"));
        }
        // Still unknown in the second decision.
        Answer::Unknown(why) if seen.means.is_none() && !needs_consent(run) => {
            return Line::refuse(administrators_way(run, operator, why));
        }
        Answer::Needed => false,
        Answer::Unknown(_) => true,
    };
    if needs_consent(run) {
        return Line::refuse(missing_consent(run, operator));
    }
    if let Some(means) = &seen.means {
        if let Some(failure) = &means.refused {
            return Line::refuse(failure.clone());
        }
        if means.bind && !means.release && !run.settings.keep_admin_binding {
            let why = format!(
                "you may bind `edit` in {namespace}, but not delete the RoleBinding again (with \
                 --keep-admin-binding it is kept)"
            );
            return Line::refuse(administrators_way(run, operator, &why));
        }
        if !means.bind && !unknown {
            let why = "you may neither grant the Role nor create the temporary binding";
            return Line::refuse(administrators_way(run, operator, why));
        }
    }
    let binding = binding(run, &d.notes.id(), operator);
    let what = if run.settings.cluster_admin {
        format!("ClusterRoleBinding of cluster-admin for {operator}")
    } else {
        format!("RoleBinding in {namespace}: edit for {operator}")
    };
    let undo = undo_command(&binding.reference);
    let target = Target::Object(binding.reference.clone());
    let line = if unknown {
        let text = format!("known after create-namespaces; at most {what}");
        Line::new(Decision::Unknown, text, Act::Bind(binding))
    } else {
        Line::new(Decision::Create, what, Act::Bind(binding))
    };
    let text = if run.settings.keep_admin_binding {
        "kept afterwards (--keep-admin-binding); to remove it".to_owned()
    } else {
        format!(
            "removed after create-role (you may not grant the Role's {} rules without it); to remove it by hand",
            rule_count()
        )
    };
    line.about(target).detail((text, undo))
}

fn missing_consent(run: &Run, operator: &str) -> Failure {
    let namespace = &run.names.job_namespace;
    let message = format!(
        "creating the Role in {namespace} takes a temporary binding to `edit`, which requires consent"
    );
    let allows = "you to act as any ServiceAccount of that namespace, until outrigger deletes the binding";
    let failure = Failure::new(Id::MissingConsent, message)
        .detail("because", "outrigger did not create that namespace, and you may not grant the Role there")
        .detail("allows", allows)
        .hint("accept the temporary binding: --accept temporary-edit");
    with_administrators_commands(run, failure, operator)
}

fn leftover<A>(reference: &Ref, act: A) -> Line<A> {
    Line::new(Decision::Release, format!("{reference}, left by an earlier run"), act)
        .about(Target::Object(reference.clone()))
        .detail("that run was killed or had --keep-admin-binding")
}

/// Bindings of earlier runs: from the record, or by label and id in the job namespace.
async fn leftovers(r: Reads<'_>) -> Result<Vec<(Ref, Option<String>)>> {
    let prefix = r.run.names.temporary_prefix();
    let is_temporary = |reference: &Ref| {
        matches!(reference.kind, ObjectKind::RoleBinding | ObjectKind::ClusterRoleBinding)
            && reference.name.starts_with(&prefix)
    };
    let mut found = Vec::new();
    let mut known: Vec<Ref> = Vec::new();
    let (objects, intents) = {
        let record = r.notes.record();
        (record.objects.clone(), record.intents.clone())
    };
    for owned in objects.iter().filter(|owned| is_temporary(&owned.object)) {
        known.push(owned.object.clone());
        if r.cluster.read(&owned.object).await?.is_some_and(|live| live.uid() == owned.uid) {
            found.push((owned.object.clone(), Some(owned.uid.clone())));
        }
    }
    for reference in intents.iter().filter(|reference| is_temporary(reference)) {
        known.push(reference.clone());
        let ours = |live: Object| live.annotation(names::ID) == Some(r.notes.id().as_str());
        if r.cluster.read(reference).await?.is_some_and(ours) {
            found.push((reference.clone(), None));
        }
    }
    let namespace = &r.run.names.job_namespace;
    if r.cluster.read(&Ref::cluster(ObjectKind::Namespace, namespace)).await.ok().flatten().is_some() {
        let path = format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings?labelSelector={}%3D{}",
            "app.kubernetes.io%2Finstance", r.run.names.deployment
        );
        // Without the right to list them, only the record counts.
        for item in r.cluster.list_metadata("list temporary bindings", &path).await.unwrap_or_default() {
            let meta = &item["metadata"];
            let reference =
                Ref::new(ObjectKind::RoleBinding, namespace, meta["name"].as_str().unwrap_or_default());
            let id = meta["annotations"][names::ID].as_str().unwrap_or_default();
            let ours = id == r.notes.id();
            if is_temporary(&reference) && ours && !known.contains(&reference) {
                found.push((reference, meta["uid"].as_str().map(str::to_owned)));
            }
        }
    }
    Ok(found)
}

fn administrators_way(run: &Run, operator: &str, why: &str) -> Failure {
    let message = format!("{operator} may not grant the Role in {}", run.names.job_namespace);
    let failure = Failure::new(Id::CannotGrant, message).detail("because", why);
    with_administrators_commands(run, failure, operator)
}

fn with_administrators_commands(run: &Run, failure: Failure, operator: &str) -> Failure {
    let names = &run.names;
    let namespace = shell_word(&names.job_namespace);
    let binding = shell_word(&format!("{}-bootstrap", names.deployment));
    let kubectl = |words: String| Command::Whole(format!("kubectl {words}"));
    let or = if failure.hints.is_empty() { "" } else { "or " };
    let failure = failure
        .hint((
            format!("{or}have an administrator apply these manifests, which give {operator} no new rights"),
            Command::outrigger("create-role --print > role.yaml"),
        ))
        .hint(kubectl("apply -f role.yaml".to_owned()));
    let edit = kubectl(format!(
        "create rolebinding -n {namespace} {binding} --clusterrole=edit --user={}",
        shell_word(operator)
    ));
    let failure = if run.is_used(&names.job_namespace) {
        failure.hint(("or have an administrator give you `edit` there", edit))
    } else {
        failure
            .hint((
                "or create the namespaces, and have an administrator give you `edit` in the job namespace",
                Command::outrigger("create-namespaces --non-interactive"),
            ))
            .hint(edit)
    };
    failure.hint((
        "and remove it when setup is done",
        kubectl(format!("delete rolebinding -n {namespace} {binding}")),
    ))
}

async fn read(r: Reads<'_>, reference: &Ref) -> Result<Option<Object>> {
    r.cluster.read(reference).await.map_err(Failure::from)
}

#[cfg(test)]
#[path = "bind_admin_tests.rs"]
mod tests;
