//! The world: everything a run could have touched, to be compared before and after.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::admin::Admin;

/// The objects of interest by kind, namespace and name. uid and resourceVersion are in, so that an
/// object made anew, or rewritten with equal content, differs; managedFields are not, as every change
/// of theirs moves the resourceVersion anyway.
pub type World = BTreeMap<String, Value>;

const LISTS: &[(&str, &str)] = &[
    ("Namespace", "/api/v1/namespaces"),
    ("ServiceAccount", "/api/v1/serviceaccounts"),
    ("Secret", "/api/v1/secrets"),
    ("ConfigMap", "/api/v1/configmaps"),
    ("Pod", "/api/v1/pods"),
    ("Service", "/api/v1/services"),
    ("PersistentVolumeClaim", "/api/v1/persistentvolumeclaims"),
    ("LimitRange", "/api/v1/limitranges"),
    ("ResourceQuota", "/api/v1/resourcequotas"),
    ("Deployment", "/apis/apps/v1/deployments"),
    ("CronJob", "/apis/batch/v1/cronjobs"),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("PodDisruptionBudget", "/apis/policy/v1/poddisruptionbudgets"),
    ("Role", "/apis/rbac.authorization.k8s.io/v1/roles"),
    ("RoleBinding", "/apis/rbac.authorization.k8s.io/v1/rolebindings"),
    ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
];

/// How long the cluster may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

fn snapshot(admin: &Admin) -> World {
    let mut world = World::new();
    for (kind, path) in LISTS {
        for mut item in admin.list(path) {
            let metadata = &mut item["metadata"];
            if let Some(fields) = metadata.as_object_mut() {
                fields.remove("managedFields");
            }
            let name = metadata["name"].as_str().unwrap_or_default();
            let key = match metadata["namespace"].as_str() {
                Some(namespace) => format!("{kind} {namespace}/{name}"),
                None => format!("{kind} {name}"),
            };
            world.insert(key, item);
        }
    }
    world
}

/// What controllers still have to do, if anything.
fn unsettled(world: &World) -> Option<String> {
    // What controllers put into every namespace, judged by one that has been there all along: a
    // cluster without that controller does not keep us waiting.
    let companions: Vec<&str> = ["ServiceAccount", "ConfigMap"]
        .into_iter()
        .zip(["default", "kube-root-ca.crt"])
        .filter(|(kind, name)| world.contains_key(&format!("{kind} default/{name}")))
        .map(|(kind, _)| kind)
        .collect();
    for (key, object) in world {
        if object["metadata"]["deletionTimestamp"].is_string() {
            return Some(format!("{key} is being deleted"));
        }
        let Some(namespace) = key.strip_prefix("Namespace ") else { continue };
        for kind in &companions {
            let name = if *kind == "ConfigMap" { "kube-root-ca.crt" } else { "default" };
            if !world.contains_key(&format!("{kind} {namespace}/{name}")) {
                return Some(format!("{namespace} has no {kind} {name} yet"));
            }
        }
    }
    None
}

/// The world at rest: nothing is being deleted, controllers have filled every namespace, and two looks
/// in a row see the same.
#[must_use]
pub fn world(admin: &Admin) -> World {
    let started = Instant::now();
    let mut last = snapshot(admin);
    loop {
        std::thread::sleep(Duration::from_millis(15));
        let now = snapshot(admin);
        let reason = match unsettled(&now) {
            None if now == last => return now,
            None => "objects still change".to_owned(),
            Some(reason) => reason,
        };
        assert!(started.elapsed() < PATIENCE, "the cluster does not come to rest: {reason}");
        last = now;
    }
}

/// The differences, one a line; empty if there are none.
#[must_use]
pub fn diff(before: &World, after: &World) -> String {
    let mut text = String::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        let _ = writeln!(text, "- {key}");
    }
    for (key, new) in after {
        match before.get(key) {
            None => {
                let _ = writeln!(text, "+ {key}");
            }
            Some(old) if old != new => {
                let _ = writeln!(text, "~ {key}");
                compare(&mut text, "", old, new);
            }
            Some(_) => {}
        }
    }
    text
}

fn compare(text: &mut String, at: &str, old: &Value, new: &Value) {
    if let (Some(left), Some(right)) = (old.as_object(), new.as_object()) {
        let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
        for key in keys {
            compare(text, &format!("{at}.{key}"), &old[key.as_str()], &new[key.as_str()]);
        }
    } else if old != new {
        let _ = writeln!(text, "    {at}: {old} -> {new}");
    }
}

/// Fails with the differences, if there are any.
pub fn assert_same(what: &str, before: &World, after: &World) {
    let differences = diff(before, after);
    assert!(differences.is_empty(), "{what}: the world differs\n{differences}");
}

/// Fails if an object that was there before is gone or touched; new ones are allowed.
pub fn assert_kept(what: &str, before: &World, after: &World) {
    let kept: World = after
        .iter()
        .filter(|(key, _)| before.contains_key(*key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_same(what, before, &kept);
}
