//! Compares live ServiceAccounts, Role and RoleBinding with their manifests. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::error::Command;
use crate::cluster::rights;
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::deployment::plan::{Decision, Line};

const TO_RESTORE: &str = "to restore what was removed";

/// A change to one of `create-role`'s objects.
#[derive(Clone, Debug)]
pub enum Act {
    /// Create this manifest.
    Create(Object),
    /// Forced apply; contains uid and resourceVersion of the live object.
    Apply(Object),
    /// Delete the object with this uid, then create the manifest.
    Replace(String, Object),
    /// Disable token automounting on a namespace's `default` ServiceAccount, once it exists.
    QuietDefault(Ref),
}

/// Decides about an object that is missing or belongs to the deployment. Extra rights are removed; missing rights
/// are restored only with `force`.
pub fn decide(wanted: Object, live: Option<&Object>, force: bool, now: Timestamp) -> Line<Act> {
    let reference = wanted.reference.clone();
    let Some(live) = live else {
        let what = match reference.kind {
            ObjectKind::Role => format!("{reference} ({})", rights::summary()),
            _ => reference.to_string(),
        };
        return Line::new(Decision::Create, what, Act::Create(wanted));
    };
    match reference.kind {
        ObjectKind::Role => decide_role(&wanted, live, force, now),
        ObjectKind::RoleBinding => decide_binding(wanted, live, force, now),
        _ => decide_account(&wanted, live),
    }
}

/// An update that leaves labels and annotations unchanged, because the server treats any metadata change of a
/// Role or RoleBinding as an escalation.
fn update(wanted: &Object, live: &Object, body: &[(&str, Value)]) -> Act {
    let mut object = pinned(wanted, live);
    for field in ["labels", "annotations"] {
        object.value["metadata"][field] = live.value["metadata"][field].clone();
    }
    for (key, value) in body {
        object.value[*key] = value.clone();
    }
    Act::Apply(object)
}

/// The manifest with uid and resourceVersion of the live object.
fn pinned(wanted: &Object, live: &Object) -> Object {
    let mut object = wanted.clone();
    object.value["metadata"]["uid"] = json!(live.uid());
    object.value["metadata"]["resourceVersion"] = json!(live.resource_version());
    object
}

/// The command that restores what [`decide`] keeps.
pub fn restore() -> Command {
    Command::outrigger("create-role --force-conflicts")
}

fn written_by(live: &Object, field: &str, now: Timestamp) -> String {
    live.last_writer(&[field], now).map(|writer| format!(" (last written by {writer})")).unwrap_or_default()
}

fn decide_role(wanted: &Object, live: &Object, force: bool, now: Timestamp) -> Line<Act> {
    let have = rights::rights(&live.value["rules"]);
    let comparison = rights::compare(&have, &rights::needed());
    let name = live.reference.to_string();
    let by = written_by(live, "rules", now);
    if comparison.more.is_empty() && comparison.less.is_empty() {
        return Line::keep(name);
    }
    let shown = |line: Line<Act>| {
        let line = comparison.more.iter().fold(line, |line, right| line.detail(format!("- {right}")));
        let line = comparison.less.iter().fold(line, |line, right| {
            line.detail(if force {
                format!("+ {right}")
            } else {
                format!("{right} is missing: {}", rights::without(right))
            })
        });
        if force || comparison.less.is_empty() { line } else { line.detail((TO_RESTORE, restore())) }
    };
    if comparison.more.is_empty() && !force {
        return shown(Line::warning(format!("{name} allows less than the runner needs{by}: kept")));
    }
    let target = if force {
        rights::manifest()
    } else {
        let kept: std::collections::BTreeSet<_> =
            rights::needed().into_iter().filter(|right| !comparison.less.contains(right)).collect();
        rights::to_manifest(&kept)
    };
    let less = comparison.more.is_empty();
    let what = if less { "allows less than the runner needs" } else { "allows more than it should" };
    let act = update(wanted, live, &[("rules", target)]);
    shown(Line::new(Decision::Update, format!("{name} {what}{by}"), act))
}

fn decide_binding(wanted: Object, live: &Object, force: bool, now: Timestamp) -> Line<Act> {
    let name = live.reference.to_string();
    if live.value["roleRef"]["name"] != wanted.value["roleRef"]["name"]
        || live.value["roleRef"]["kind"] != "Role"
    {
        let role = live.value["roleRef"]["name"].as_str().unwrap_or_default();
        let text = format!("{name} refers to another role ({role})");
        return Line::new(Decision::Replace, text, Act::Replace(live.uid().to_owned(), wanted));
    }
    let subject = |value: &Value| {
        [&value["kind"], &value["namespace"], &value["name"]]
            .map(|field| field.as_str().unwrap_or_default().to_owned())
    };
    let ours = subject(&wanted.value["subjects"][0]);
    let subjects: Vec<_> = live.value["subjects"].as_array().into_iter().flatten().map(subject).collect();
    let extra: Vec<_> = subjects.iter().filter(|other| **other != ours).collect();
    let bound = subjects.contains(&ours);
    let by = written_by(live, "subjects", now);
    if extra.is_empty() && bound {
        return Line::keep(name);
    }
    if extra.is_empty() && !force {
        return Line::warning(format!("{name} no longer binds the runner{by}: kept"))
            .detail("the runner has no rights: no job can start")
            .detail((TO_RESTORE, restore()));
    }
    let subjects = if bound || force { wanted.value["subjects"].clone() } else { json!([]) };
    let line = Line::new(
        Decision::Update,
        format!("{name} binds other subjects than the runner{by}"),
        update(&wanted, live, &[("subjects", subjects), ("roleRef", live.value["roleRef"].clone())]),
    );
    extra
        .iter()
        .fold(line, |line, [kind, namespace, name]| line.detail(format!("- {kind} {namespace}/{name}")))
}

fn decide_account(wanted: &Object, live: &Object) -> Line<Act> {
    let mut changes = Vec::new();
    if live.value["automountServiceAccountToken"] != json!(false) {
        changes.push("automountServiceAccountToken is not false");
    }
    if let Some(note) = wanted.annotation(names::SETTINGS)
        && live.annotation(names::SETTINGS) != Some(note)
    {
        changes.push("its settings annotation is out of date");
    }
    if changes.is_empty() {
        return Line::keep(live.reference.to_string());
    }
    let mut object = pinned(wanted, live);
    // Keep other steps' annotations on the anchor.
    for key in [
        names::SCRIPT_DIGEST,
        names::SCRIPT_SECRET,
        names::SCRIPT_TARGET,
        names::TOKEN_EXPIRES,
        names::RUNNER,
        names::ID,
        names::DEPLOYMENT,
    ] {
        if let Some(value) = live.annotation(key) {
            object.value["metadata"]["annotations"][key] = json!(value);
        }
    }
    let line = Line::new(Decision::Update, live.reference.to_string(), Act::Apply(object));
    changes.into_iter().fold(line, Line::detail)
}
