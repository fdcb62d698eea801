//! The runner's ServiceAccount, the jobs' ServiceAccount, the least-privilege Role and its binding.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::json;

use super::{Done, Pending, Step, count};
use crate::base::error::{Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::cluster::Refusal;
use crate::cluster::deletion;
use crate::cluster::rights;
use crate::cluster::role::decide;
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Act, Decision, Line};
use crate::steps::context::Context;
use crate::steps::looks::looked_at;

/// See the module.
pub struct CreateRole;

impl Step for CreateRole {
    fn name(&self) -> &'static str {
        "create-role"
    }
    fn about(&self) -> &'static str {
        "Create the runner's ServiceAccount and the least-privilege Role"
    }
    fn long(&self) -> &'static str {
        "Four objects: the runner's ServiceAccount; a ServiceAccount for jobs, which has no rights and no token; \
         and, in the jobs' namespace, a Role with what the runner needs and no more, and the RoleBinding that gives it to the \
         runner. Pulls in bind-admin where the cluster lets you grant the Role only with more rights. With --print \
         the manifests go to stdout, for an administrator to apply."
    }
    fn keys(&self) -> &'static [&'static str] {
        &[
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
        ]
    }
    fn flags(&self) -> &'static [&'static str] {
        &["print"]
    }
    fn pulls_in(&self) -> &'static [&'static str] {
        &["bind-admin"]
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let wanted = manifests(cx);
            let reads =
                futures_util::future::join_all(wanted.iter().map(|object| cx.read(&object.reference))).await;
            let mut lines = Vec::new();
            for (object, live) in wanted.into_iter().zip(reads) {
                let live = live.map_err(Failure::from)?;
                let owner = match &live {
                    Some(live) => cx.owner(live),
                    None => Owner::Us,
                };
                lines.push(match live.as_ref().filter(|live| live.is_terminating() && owner == Owner::Us) {
                    Some(live) => Line::refuse(deletion::in_the_way(live, &cx.kubectl())),
                    None => decide(object, live.as_ref(), &owner, cx.settings.force_conflicts),
                });
            }
            // bind-admin lets the server look at the Role, to learn whether you may grant it.
            let elsewhere: &[_] = if cx.is_selected("bind-admin") { &[ObjectKind::Role] } else { &[] };
            let mut lines = looked_at(cx, lines, elsewhere).await;
            if let Some(line) = quiet_default(cx).await? {
                lines.push(line);
            }
            Ok(lines)
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut created = 0;
            let mut updated = 0;
            for line in lines {
                match &line.act {
                    Act::Create(object) => {
                        cx.after_binding(Duration::from_secs(10), || cx.create(object)).await?;
                        cx.facts.granted.set(true);
                        created += 1;
                    }
                    Act::Apply(object) => {
                        cx.after_binding(Duration::from_secs(10), || cx.apply(object)).await?;
                        cx.facts.granted.set(true);
                        updated += 1;
                    }
                    Act::Replace(uid, object) => {
                        cx.replace(&object.reference, uid).await?;
                        cx.after_binding(Duration::from_secs(10), || cx.create(object)).await?;
                        updated += 1;
                    }
                    Act::QuietDefault(reference) => {
                        quieten(cx, reference).await?;
                        updated += 1;
                    }
                    _ => {}
                }
            }
            let text = match (created, updated) {
                (0, 0) => "kept".to_owned(),
                (0, _) => format!("mended {}", count(updated, "object")),
                (_, _) => format!("created Role {} and {} more", cx.names.role().name, created - 1),
            };
            Ok(Done { changed: created + updated > 0, text })
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            // The anchor last: as long as it is there, another machine can find the rest.
            let order =
                [cx.names.role_binding(), cx.names.role(), cx.names.job_account(), cx.names.account()];
            for reference in order {
                let Some(live) = cx.read(&reference).await.map_err(Failure::from)? else { continue };
                lines.push(match cx.owner(&live) {
                    Owner::Us => Line::new(
                        Decision::Remove,
                        deletion::shown(&live),
                        Act::Delete(reference.clone(), live.uid().to_owned()),
                    ),
                    Owner::NotUs(why) => Line::refuse(ownership::foreign(&live, &why)),
                });
            }
            Ok(lines)
        })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut deleted = 0;
            let mut held = String::new();
            let mut failures = Vec::new();
            for line in lines {
                if let Act::Delete(reference, uid) = &line.act {
                    match cx.delete(&cx.cluster, reference, uid).await {
                        Ok(None) => deleted += 1,
                        // It is waited for when the rest is done.
                        Ok(Some(live)) => held = format!("{held}; {}", deletion::shown(&live)),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
            if let Some(failure) = Failure::together(failures) {
                return Err(failure);
            }
            Ok(Done { changed: deleted > 0, text: format!("deleted {}{held}", count(deleted, "object")) })
        })
    }

    fn print<'a>(&'a self, cx: &'a Context) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            cx.version().await?;
            let version = cx.facts.minor_version.get().map(String::as_str);
            let level = cx.settings.pod_security.word();
            let mut objects = Vec::new();
            for reference in cx.names.namespaces() {
                if cx.read(&reference).await.map_err(Failure::from)?.is_none() {
                    let namespace = cx.names.namespace_manifest(reference, &cx.id(), level, version);
                    objects.push(names::marked(namespace, &cx.settings));
                }
            }
            objects.extend(manifests(cx));
            let mut text = String::new();
            for object in &objects {
                document(&mut text, object)?;
                // What somebody else applies has to count as ours later: by its id, on disk first.
                let reference = &object.reference;
                if cx.record.borrow().uid_of(reference).is_none() {
                    cx.record.borrow_mut().intend(reference);
                }
            }
            cx.save()?;
            Ok(Some(text.into_bytes()))
        })
    }
}

fn document(text: &mut String, object: &Object) -> Result<()> {
    text.push_str("---\n");
    let yaml = serde_yaml::to_string(&object.value).map_err(|error| {
        Failure::new(Id::Internal, format!("{} cannot be written as YAML: {error}", object.reference))
    })?;
    text.push_str(&yaml);
    if !yaml.ends_with('\n') {
        text.push('\n');
    }
    Ok(())
}

/// The four objects, in the order that the API server accepts them.
fn manifests(cx: &Context) -> Vec<Object> {
    let names = &cx.names;
    let id = cx.id();
    let mut account = names.manifest(names.account(), &id, &json!({"automountServiceAccountToken": false}));
    account.value["metadata"]["annotations"][names::SETTINGS] = json!(settings_note(cx));
    let job_account =
        names.manifest(names.job_account(), &id, &json!({"automountServiceAccountToken": false}));
    let role = names.manifest(names.role(), &id, &json!({"rules": rights::manifest()}));
    let binding = names.manifest(
        names.role_binding(),
        &id,
        &json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": names.role().name},
            "subjects": [{"kind": "ServiceAccount", "name": names.deployment, "namespace": names.runner_namespace}],
        }),
    );
    vec![account, job_account, role, binding]
}

/// The settings that a colleague without the record needs, as JSON: nothing of one machine, and
/// nothing that could aim somebody's token at another host.
fn settings_note(cx: &Context) -> String {
    let mut settings = cx.settings.recorded();
    settings.retain(|key, _| names::NOTED.contains(&key.as_str()));
    serde_json::to_string(&settings).unwrap_or_default()
}

/// In a namespace of ours, pods that name no ServiceAccount get no token either.
async fn quiet_default(cx: &Context) -> Result<Option<Line>> {
    let namespace = &cx.names.job_namespace;
    if cx.is_used(namespace) {
        return Ok(None);
    }
    let reference = cx.names.default_account();
    let live = cx.read(&reference).await.map_err(Failure::from)?;
    if live.as_ref().is_some_and(|live| live.value["automountServiceAccountToken"] == json!(false)) {
        return Ok(None);
    }
    Ok(Some(Line::new(
        Decision::Update,
        format!("{reference}: no token for pods that name no ServiceAccount"),
        Act::QuietDefault(reference),
    )))
}

/// Waits for the `default` ServiceAccount, which a controller makes after its namespace.
async fn quieten(cx: &Context, reference: &Ref) -> Result<()> {
    let patch = json!({"automountServiceAccountToken": false});
    let look = async || match cx.cluster.merge(reference, &patch).await {
        Ok(live) => Ok(Break(live)),
        Err(refusal) if refusal.class == crate::cluster::Class::NotFound => Ok(Continue(refusal)),
        Err(refusal) => Err(refusal.into()),
    };
    let tell = |_: &Refusal, waited| {
        if wait::is_long(waited) {
            cx.waiting("create-role", &format!("{reference}, which the cluster makes"), waited);
        }
    };
    let pace = Pace::new(&cx.limits, 5, 1000).within(Duration::from_secs(30));
    let live = wait::until(pace, tell, look).await??;
    cx.changed(reference, Some(live));
    Ok(())
}
