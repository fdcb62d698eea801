//! RBAC rules as sets: the runner's rights, and their comparison with a live Role.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

/// A verb on a resource, optionally limited to one object name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: String,
    /// Resource with subresource, such as `pods/exec`.
    pub resource: String,
    /// Verb, such as `get`, or `*`.
    pub verb: String,
    /// Object name; empty for all.
    pub name: String,
}

impl Right {
    /// A right on all objects of a resource.
    pub fn new(group: &str, resource: &str, verb: &str) -> Self {
        Self { group: group.into(), resource: resource.into(), verb: verb.into(), name: String::new() }
    }

    /// Whether `self` includes `other`, with the authorizer's wildcards.
    pub fn covers(&self, other: &Right) -> bool {
        let matches = |mine: &str, theirs: &str| mine == "*" || mine == theirs;
        let subresource = other.resource.split_once('/').map(|(_, name)| name);
        let any_with_it = self.resource.strip_prefix("*/").is_some_and(|name| Some(name) == subresource);
        let resource = matches(&self.resource, &other.resource) || any_with_it;
        matches(&self.group, &other.group)
            && resource
            && matches(&self.verb, &other.verb)
            && (self.name.is_empty() || self.name == other.name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.verb)?;
        if !self.group.is_empty() {
            write!(f, " ({})", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " on {} only", self.name)?;
        }
        Ok(())
    }
}

/// The requests of gitlab-runner's Kubernetes executor in the job namespace; see also [`occasional`].
///
/// `list` and `watch` on pods replace polling. Only opt-in features use `pods/log`, which is not granted. No request
/// reads a Secret.
const NEEDED: &[(&str, &[&str])] = &[
    ("pods", &["create", "get", "delete", "list", "watch"]),
    ("pods/exec", &["create"]),
    ("pods/attach", &["create"]),
    ("secrets", &["create", "update", "delete"]),
    ("events", &["list"]),
];

/// What happens without a right of the Role: gitlab-runner's source, `executors/kubernetes`. Registry credentials come
/// with every job of a GitLab that has a container registry.
pub fn without(right: &Right) -> &'static str {
    match (right.resource.as_str(), right.verb.as_str()) {
        ("pods", "create") => "no job can start",
        ("pods", "get") => "jobs fail while their pod starts",
        ("pods", "delete") => "pods of finished jobs stay",
        ("pods", "list" | "watch") => "the runner polls pods instead of watching them",
        ("pods/exec" | "pods/attach", _) => "jobs fail before their script",
        ("secrets", "create") => "jobs with registry credentials fail",
        ("secrets", "update") => "jobs with registry credentials fail, and their Secrets stay",
        ("secrets", "delete") => "the Secret of a job whose pod could not be created stays",
        ("events", _) => "failed jobs do not show their pod's events",
        _ => "not known",
    }
}

/// The needed rights that a successful job may leave unused. `events list` is for diagnostics; `secrets delete` cleans
/// up if a pod could not be created. The runner watches pods only if it may list them, but lists them only if the
/// server cannot stream a list as a watch.
pub fn occasional() -> BTreeSet<Right> {
    [("events", "list"), ("secrets", "delete"), ("pods", "list")]
        .into_iter()
        .map(|(resource, verb)| Right::new("", resource, verb))
        .collect()
}

/// The Role's `rules`, one per resource.
pub fn manifest() -> Value {
    NEEDED
        .iter()
        .map(|(resource, verbs)| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs}))
        .collect()
}

/// The Role's rights as a set.
pub fn needed() -> BTreeSet<Right> {
    NEEDED
        .iter()
        .flat_map(|(resource, verbs)| verbs.iter().map(|verb| Right::new("", resource, verb)))
        .collect()
}

/// For example `5 rules, 11 verbs`.
pub fn summary() -> String {
    format!("{} rules, {} verbs", NEEDED.len(), needed().len())
}

/// Parses the `rules` of a Role or the `resourceRules` of a rules review.
pub fn rights(rules: &Value) -> BTreeSet<Right> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let mut set = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        let mut names = strings(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    for name in &names {
                        set.insert(Right {
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            name: name.clone(),
                        });
                    }
                }
            }
        }
    }
    set
}

/// The set as `rules`, one per resource and name, in a stable order.
pub fn to_manifest(set: &BTreeSet<Right>) -> Value {
    let mut keys: Vec<(&str, &str, &str)> = set
        .iter()
        .map(|right| (right.group.as_str(), right.resource.as_str(), right.name.as_str()))
        .collect();
    keys.dedup();
    keys.into_iter()
        .map(|(group, resource, name)| {
            let verbs: Vec<&str> = set
                .iter()
                .filter(|right| right.group == group && right.resource == resource && right.name == name)
                .map(|right| right.verb.as_str())
                .collect();
            let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
            if !name.is_empty() {
                rule["resourceNames"] = json!([name]);
            }
            rule
        })
        .collect()
}

/// Differences between live and wanted rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Live, but not wanted.
    pub more: Vec<Right>,
    /// Wanted, but not live.
    pub less: Vec<Right>,
}

/// Compares by coverage: a wildcard counts as more, never as equal.
pub fn compare(live: &BTreeSet<Right>, wanted: &BTreeSet<Right>) -> Comparison {
    Comparison {
        more: live.iter().filter(|right| !wanted.iter().any(|want| want.covers(right))).cloned().collect(),
        less: wanted.iter().filter(|right| !live.iter().any(|have| have.covers(right))).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_cannot_read_secrets() {
        assert_eq!(manifest().as_array().expect("a list").len(), 5);
        assert_eq!(needed().len(), 11);
        assert_eq!(summary(), "5 rules, 11 verbs");
        assert_eq!(rights(&manifest()), needed());
        assert!(
            !needed().iter().any(|right| right.resource == "secrets"
                && ["get", "list", "watch"].contains(&right.verb.as_str()))
        );
        assert!(!needed().iter().any(|right| right.verb == "*" || right.resource == "*"));
        assert!(!needed().iter().any(|right| without(right) == "not known"));
    }

    #[test]
    fn wildcard_counts_as_more() {
        let wild = rights(&json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
        let comparison = compare(&wild, &needed());
        assert_eq!(comparison.more.len(), 1);
        assert!(comparison.less.is_empty());
    }

    #[test]
    fn right_limited_to_a_name_counts_as_less() {
        let limited = rights(
            &json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["list"], "resourceNames": ["x"]}]),
        );
        let comparison = compare(&limited, &BTreeSet::from([Right::new("", "events", "list")]));
        assert!(comparison.more.is_empty());
        assert_eq!(comparison.less, vec![Right::new("", "events", "list")]);
    }

    #[test]
    fn set_round_trips_through_manifest() {
        assert_eq!(rights(&to_manifest(&needed())), needed());
    }
}
