//! What the server says about itself.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal};
use super::routes::Request;
use super::store::{KINDS, State};

const REVIEWS: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
];

fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> =
        KINDS.iter().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
    groups.extend(REVIEWS.iter().map(|(group, _, _)| *group));
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn group(name: &str) -> Value {
    versioned(name, "v1")
}

fn versioned(name: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn short_names(plural: &str) -> &'static [&'static str] {
    match plural {
        "namespaces" => &["ns"],
        "serviceaccounts" => &["sa"],
        "configmaps" => &["cm"],
        "pods" => &["po"],
        "services" => &["svc"],
        "deployments" => &["deploy"],
        _ => &[],
    }
}

fn resources(group: &str) -> Value {
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update"];
    let mut list: Vec<Value> = KINDS
        .iter()
        .filter(|kind| kind.group == group)
        .map(|kind| {
            json!({
                "name": kind.plural, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": all, "shortNames": short_names(kind.plural),
            })
        })
        .collect();
    if group.is_empty() {
        list.push(json!({
            "name": "serviceaccounts/token", "singularName": "", "namespaced": true, "kind": "TokenRequest",
            "group": "authentication.k8s.io", "version": "v1", "verbs": ["create"],
        }));
    }
    for (_, plural, kind) in REVIEWS.iter().filter(|(home, _, _)| *home == group) {
        list.push(json!({
            "name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind,
            "verbs": ["create"],
        }));
    }
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}

/// Answers a request for something that is no resource.
pub(crate) fn answer(state: &State, request: &Request) -> Outcome {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let body = match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] => return Ok(Answer::text("ok")),
        ["version"] => {
            let version = &state.options.version;
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
            json!({
                "major": major, "minor": minor, "gitVersion": version, "gitCommit": "0", "gitTreeState": "clean",
                "buildDate": "2026-09-15T00:00:00Z", "goVersion": "go1.26", "compiler": "gc",
                "platform": "linux/amd64",
            })
        }
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            let mut groups: Vec<Value> = groups().into_iter().map(group).collect();
            // A group stays in the list although its server is gone.
            groups.extend(state.dead_groups().iter().map(|(name, version)| versioned(name, version)));
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", "v1"] => resources(""),
        ["apis", name] if groups().contains(name) => {
            let mut body = group(name);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            body
        }
        ["apis", name, "v1"] if groups().contains(name) => resources(name),
        _ => return Err(Refusal::no_such_path()),
    };
    Ok(Answer::json(200, &body))
}
