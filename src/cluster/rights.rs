//! RBAC rules as sets: what the runner needs, and how a live Role compares with it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

/// One right: a verb on a resource, optionally on one name only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: String,
    /// Resource with subresource, such as `pods/exec`.
    pub resource: String,
    /// Verb.
    pub verb: String,
    /// The one object it is limited to; empty for all.
    pub name: String,
}

impl Right {
    /// A right on all objects of a resource.
    #[must_use]
    pub fn new(group: &str, resource: &str, verb: &str) -> Self {
        Self { group: group.into(), resource: resource.into(), verb: verb.into(), name: String::new() }
    }

    /// Whether holding `self` includes `other`, wildcards read as the authorizer reads them.
    #[must_use]
    pub fn covers(&self, other: &Right) -> bool {
        let matches = |mine: &str, theirs: &str| mine == "*" || mine == theirs;
        let resource = matches(&self.resource, &other.resource)
            || self
                .resource
                .strip_prefix("*/")
                .is_some_and(|sub| other.resource.split_once('/').is_some_and(|(_, theirs)| theirs == sub));
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

/// What gitlab-runner's Kubernetes executor calls in the job namespace, by resource.
///
/// `list` and `watch` on pods spare it polling. `pods/log` is not here: only opt-in features use it.
/// Nothing here reads a Secret. What is for bad days alone is in [`occasional`].
const NEEDED: &[(&str, &[&str])] = &[
    ("pods", &["create", "get", "delete", "list", "watch"]),
    ("pods/exec", &["create"]),
    ("pods/attach", &["create"]),
    ("secrets", &["create", "update", "delete"]),
    ("events", &["list"]),
];

/// Of these, what a job that goes well need not call. `events list` feeds the runner's diagnostics;
/// `secrets delete` cleans up when a pod could not be made. Without `pods list` the runner does not watch
/// at all (it asks before), but it lists only where the server cannot stream a list as a watch.
#[must_use]
pub fn occasional() -> BTreeSet<Right> {
    [("events", "list"), ("secrets", "delete"), ("pods", "list")]
        .into_iter()
        .map(|(resource, verb)| Right::new("", resource, verb))
        .collect()
}

/// The Role's `rules`, one per resource.
#[must_use]
pub fn manifest() -> Value {
    NEEDED
        .iter()
        .map(|(resource, verbs)| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs}))
        .collect()
}

/// The same as a set.
#[must_use]
pub fn needed() -> BTreeSet<Right> {
    NEEDED
        .iter()
        .flat_map(|(resource, verbs)| verbs.iter().map(|verb| Right::new("", resource, verb)))
        .collect()
}

/// The Role's size in words.
#[must_use]
pub fn summary() -> String {
    format!("{} rules, {} verbs", NEEDED.len(), needed().len())
}

/// Takes `rules` of a Role, or `resourceRules` of a rules review, apart.
#[must_use]
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

/// Back into `rules`, one per resource and name, in a stable order.
#[must_use]
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

/// A live set of rights against the wanted one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rights that are there and should not be.
    pub more: Vec<Right>,
    /// Rights that should be there and are not.
    pub less: Vec<Right>,
}

/// Compares by coverage, so that a wildcard shows as more, never as equal.
#[must_use]
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
    fn the_role_is_small_and_reads_no_secret() {
        assert_eq!(manifest().as_array().expect("a list").len(), 5);
        assert_eq!(needed().len(), 11);
        assert_eq!(summary(), "5 rules, 11 verbs");
        assert_eq!(rights(&manifest()), needed());
        assert!(
            !needed().iter().any(|right| right.resource == "secrets"
                && ["get", "list", "watch"].contains(&right.verb.as_str()))
        );
        assert!(!needed().iter().any(|right| right.verb == "*" || right.resource == "*"));
    }

    #[test]
    fn wildcards_are_more_and_never_equal() {
        let wild = rights(&json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
        let comparison = compare(&wild, &needed());
        assert_eq!(comparison.more.len(), 1);
        assert!(comparison.less.is_empty());
    }

    #[test]
    fn a_name_limit_is_less() {
        let limited = rights(
            &json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["list"], "resourceNames": ["x"]}]),
        );
        let comparison = compare(&limited, &BTreeSet::from([Right::new("", "events", "list")]));
        assert!(comparison.more.is_empty());
        assert_eq!(comparison.less, vec![Right::new("", "events", "list")]);
    }

    #[test]
    fn a_set_survives_the_way_through_a_manifest() {
        assert_eq!(rights(&to_manifest(&needed())), needed());
    }
}
