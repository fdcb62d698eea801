//! The runner's ServiceAccount, the jobs' ServiceAccount, the least-privilege Role and its binding.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Done, Pending, Step, count};
use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::names;
use crate::object::{Kind as ObjectKind, Object, Ref};
use crate::ownership::{self, Owner};
use crate::plan::{Act, Decision, Line};
use crate::rules;

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
            "forceConflicts",
            "clusterAdmin",
            "keepAdminBinding",
            "allowTemporaryEdit",
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
                    Some(live) => cx.owner(live).await,
                    None => Owner::Us,
                };
                lines.push(decide(object, live.as_ref(), &owner, cx.settings.force_conflicts));
            }
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
                        cx.delete(&cx.cluster, &object.reference, uid).await?;
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
                lines.push(match cx.owner(&live).await {
                    Owner::Us => Line::new(
                        Decision::Remove,
                        reference.to_string(),
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
            let cluster = cx.cluster.for_cleanup(Duration::from_secs(30));
            let mut deleted = 0;
            for line in lines {
                if let Act::Delete(reference, uid) = &line.act {
                    cx.delete(&cluster, reference, uid).await?;
                    if cluster
                        .get(reference)
                        .await
                        .map_err(Failure::from)?
                        .is_some_and(|live| live.uid() == uid)
                    {
                        return Err(Failure::new(
                            "OR0501",
                            Kind::Partial,
                            format!("{reference} is still there after its deletion"),
                        )
                        .hint("run the same command again"));
                    }
                    deleted += 1;
                }
            }
            Ok(Done { changed: deleted > 0, text: format!("deleted {}", count(deleted, "object")) })
        })
    }

    fn print<'a>(&'a self, cx: &'a Context) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            // What somebody else applies has to count as ours later: its id must be on disk first.
            cx.save()?;
            let mut text = String::new();
            let [runner, job] = cx.names.namespaces();
            for reference in [runner, job] {
                if cx.read(&reference).await.map_err(Failure::from)?.is_none() {
                    let level = &cx.settings.pod_security_level.value;
                    document(&mut text, &cx.names.namespace_manifest(reference, &cx.id(), level))?;
                }
            }
            for object in manifests(cx) {
                document(&mut text, &object)?;
            }
            Ok(Some(text.into_bytes()))
        })
    }
}

fn document(text: &mut String, object: &Object) -> Result<()> {
    text.push_str("---\n");
    let yaml = serde_saphyr::to_string(&object.value).map_err(|error| {
        Failure::new(
            "OR0101",
            Kind::Unclassified,
            format!("{} cannot be written as YAML: {error}", object.reference),
        )
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
    let role = names.manifest(names.role(), &id, &json!({"rules": rules::manifest()}));
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
    settings.retain(|key, _| {
        [
            "namespace",
            "runnerNamespace",
            "useNamespaces",
            "tags",
            "podSecurity",
            "tokenLifetime",
            "runnerVersion",
        ]
        .contains(&key.as_str())
    });
    serde_json::to_string(&settings).unwrap_or_default()
}

fn decide(wanted: Object, live: Option<&Object>, owner: &Owner, force: bool) -> Line {
    let reference = wanted.reference.clone();
    let Some(live) = live else {
        let what = match reference.kind {
            ObjectKind::Role => format!("{reference} ({})", rules::summary()),
            _ => reference.to_string(),
        };
        return Line::new(Decision::Create, what, Act::Create(wanted));
    };
    if let Owner::NotUs(why) = owner {
        return Line::refuse(ownership::foreign(live, why));
    }
    match reference.kind {
        ObjectKind::Role => decide_role(&wanted, live, force),
        ObjectKind::RoleBinding => decide_binding(wanted, live, force),
        _ => decide_account(&wanted, live),
    }
}

/// A change of a live object: its metadata stays byte for byte, because any change to the metadata of
/// a Role or RoleBinding is judged as an escalation; uid and resourceVersion pin the very object.
fn update(wanted: &Object, live: &Object, body: &[(&str, Value)]) -> Act {
    let mut object = wanted.clone();
    let meta = &mut object.value["metadata"];
    meta["labels"] = live.value["metadata"]["labels"].clone();
    meta["annotations"] = live.value["metadata"]["annotations"].clone();
    meta["uid"] = json!(live.uid());
    meta["resourceVersion"] = json!(live.resource_version());
    for (key, value) in body {
        object.value[*key] = value.clone();
    }
    Act::Apply(object)
}

fn written_by(live: &Object, field: &str) -> String {
    live.last_writer(field).map(|writer| format!(" (last written by {writer})")).unwrap_or_default()
}

fn decide_role(wanted: &Object, live: &Object, force: bool) -> Line {
    let have = rules::rights(&live.value["rules"]);
    let comparison = rules::compare(&have, &rules::needed());
    let name = live.reference.to_string();
    let by = written_by(live, "rules");
    if comparison.more.is_empty() && comparison.less.is_empty() {
        return Line::keep(name);
    }
    let shown = |line: Line| {
        let line = comparison.more.iter().fold(line, |line, right| line.detail(format!("- {right}")));
        comparison.less.iter().fold(line, |line, right| {
            line.detail(if force {
                format!("+ {right}")
            } else {
                format!("  {right} is missing, and stays so without --force-conflicts")
            })
        })
    };
    if comparison.more.is_empty() && !force {
        return shown(Line::keep_stricter(format!("{name} allows less than the runner needs{by}: kept")));
    }
    // What allows more is taken back; what somebody tightened stays, unless told otherwise.
    let target = if force {
        rules::manifest()
    } else {
        let kept: std::collections::BTreeSet<_> =
            rules::needed().into_iter().filter(|right| !comparison.less.contains(right)).collect();
        rules::to_manifest(&kept)
    };
    let what = if comparison.more.is_empty() {
        "allows less than the runner needs"
    } else {
        "allows more than it should"
    };
    shown(Line::new(
        Decision::Update,
        format!("{name} {what}{by}"),
        update(wanted, live, &[("rules", target)]),
    ))
}

fn decide_binding(wanted: Object, live: &Object, force: bool) -> Line {
    let name = live.reference.to_string();
    if live.value["roleRef"]["name"] != wanted.value["roleRef"]["name"]
        || live.value["roleRef"]["kind"] != "Role"
    {
        return Line::new(
            Decision::Replace,
            format!(
                "{name} refers to another role ({})",
                live.value["roleRef"]["name"].as_str().unwrap_or_default()
            ),
            Act::Replace(live.uid().to_owned(), wanted),
        );
    }
    let subject = |value: &Value| {
        [&value["kind"], &value["namespace"], &value["name"]]
            .map(|field| field.as_str().unwrap_or_default().to_owned())
    };
    let ours = subject(&wanted.value["subjects"][0]);
    let subjects: Vec<_> = live.value["subjects"].as_array().into_iter().flatten().map(subject).collect();
    let extra: Vec<_> = subjects.iter().filter(|other| **other != ours).collect();
    let bound = subjects.contains(&ours);
    let by = written_by(live, "subjects");
    if extra.is_empty() && bound {
        return Line::keep(name);
    }
    if extra.is_empty() && !force {
        return Line::keep_stricter(format!("{name} no longer binds the runner{by}: kept"))
            .detail("the runner can do nothing; to bind it again: --force-conflicts");
    }
    let subjects = if bound || force { wanted.value["subjects"].clone() } else { json!([]) };
    let line = Line::new(
        Decision::Update,
        format!("{name} binds others than the runner{by}"),
        update(&wanted, live, &[("subjects", subjects), ("roleRef", live.value["roleRef"].clone())]),
    );
    extra
        .iter()
        .fold(line, |line, [kind, namespace, name]| line.detail(format!("- {kind} {namespace}/{name}")))
}

fn decide_account(wanted: &Object, live: &Object) -> Line {
    let mut line = Line::keep(live.reference.to_string());
    let mut changes = Vec::new();
    if live.value["automountServiceAccountToken"] != json!(false) {
        changes.push("automountServiceAccountToken is not false".to_owned());
    }
    if let Some(note) = wanted.annotation(names::SETTINGS)
        && live.annotation(names::SETTINGS) != Some(note)
    {
        changes.push("its note of the settings is out of date".to_owned());
    }
    if !changes.is_empty() {
        let mut object = wanted.clone();
        // What other steps noted on the anchor stays.
        for key in [names::SCRIPT_DIGEST, names::TOKEN_EXPIRES, names::ID, names::DEPLOYMENT] {
            if let Some(value) = live.annotation(key) {
                object.value["metadata"]["annotations"][key] = json!(value);
            }
        }
        object.value["metadata"]["uid"] = json!(live.uid());
        object.value["metadata"]["resourceVersion"] = json!(live.resource_version());
        line = Line::new(Decision::Update, live.reference.to_string(), Act::Apply(object));
        line = changes.into_iter().fold(line, Line::detail);
    }
    line
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
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match cx.cluster.merge(reference, &json!({"automountServiceAccountToken": false})).await {
            Ok(live) => {
                cx.changed(reference, Some(live));
                return Ok(());
            }
            Err(refusal)
                if refusal.class == crate::cluster::Class::NotFound
                    && started.elapsed() < Duration::from_secs(30) =>
            {
                if pause > Duration::from_millis(500) {
                    cx.waiting(
                        "create-role",
                        &format!("{reference}, which the cluster makes"),
                        started.elapsed(),
                    );
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(rules: &Value) -> Object {
        Object {
            reference: Ref::new(ObjectKind::Role, "j", "d"),
            value: json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "rules": rules}),
        }
    }

    fn decided(rules: &Value, force: bool) -> Line {
        decide(role(&rules::manifest()), Some(&role(rules)), &Owner::Us, force)
    }

    #[test]
    fn more_is_mended_less_is_kept_and_forced_only_on_request() {
        assert_eq!(decided(&rules::manifest(), false).decision, Decision::Keep);
        let mut wider = rules::manifest();
        wider
            .as_array_mut()
            .expect("a list")
            .push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}));
        let line = decided(&wider, false);
        assert_eq!(line.decision, Decision::Update);
        assert_eq!(line.detail, ["- secrets get"]);
        let Act::Apply(object) = line.act else { panic!("an update applies") };
        assert_eq!(rules::rights(&object.value["rules"]), rules::needed());
        assert_eq!((object.uid(), object.resource_version()), ("u", "7"));

        let mut narrower = rules::manifest();
        narrower.as_array_mut().expect("a list").remove(0);
        assert_eq!(decided(&narrower, false).decision, Decision::Keep);
        assert_eq!(decided(&narrower, true).decision, Decision::Update);
    }

    #[test]
    fn both_at_once_takes_back_and_does_not_loosen() {
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]);
        let Act::Apply(object) = decided(&rules, false).act else { panic!("an update applies") };
        let kept = rules::rights(&object.value["rules"]);
        assert_eq!(kept.len(), 5);
        assert!(kept.iter().all(|right| right.resource == "pods" && right.verb != "*"));
    }

    #[test]
    fn somebody_elses_is_refused_with_exit_7() {
        let line =
            decide(role(&rules::manifest()), Some(&role(&json!([]))), &Owner::NotUs("theirs".into()), false);
        assert_eq!(line.failure.expect("a failure").kind.exit_code(), 7);
    }
}
