//! What is asked of the real server alone, as the double does not know every kind.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::common::admin::Admin;
use crate::common::bed::{Bed, User};
use crate::common::pool::{self, Pool};
use crate::control_plane::ControlPlane;
use crate::scenarios::bed::{edit_binding, namespace};

/// The names of the trials below, for when there is no server to run them on.
pub const NAMES: &[&str] = &["bed_edit_lists_most_kinds"];

/// The trials of this file.
pub fn trials(pool: &'static Pool<ControlPlane>) -> Vec<Trial> {
    let functions: [fn(&ControlPlane); 1] = [edit_lists];
    NAMES.iter().zip(functions).map(|(name, run)| pool::trial(pool, name, "bed", run)).collect()
}

/// The kinds that `edit` does not list although discovery has them: before a namespace of ours is
/// deleted, whoever runs teardown must be able to say that nothing foreign is inside.
fn edit_lists(plane: &ControlPlane) {
    let name = plane.fresh_deployment();
    plane.admin().create(&namespace(&name));
    plane.admin().create(&edit_binding(&name, User::Nobody));
    let nobody = Admin::new(&plane.kubeconfig(User::Nobody));
    let refused = unlistable(plane.admin(), &nobody, &name);
    plane.admin().delete(&format!("/api/v1/namespaces/{name}"));
    let known = [
        "csistoragecapacities.storage.k8s.io",
        "podcertificaterequests.certificates.k8s.io",
        "podtemplates.",
        "rolebindings.rbac.authorization.k8s.io",
        "roles.rbac.authorization.k8s.io",
    ];
    assert_eq!(refused.iter().map(String::as_str).collect::<Vec<_>>(), known);
}

/// What discovery names as listable in a namespace but a user may not list there.
fn unlistable(admin: &Admin, user: &Admin, namespace: &str) -> BTreeSet<String> {
    let groups = admin.get("/apis").unwrap_or_default();
    // Every version: some kinds exist in one that is not the group's preferred one.
    let mut versions = vec![(String::new(), "/api/v1".to_owned())];
    for group in groups["groups"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            versions.push((text(&group["name"]), format!("/apis/{}", text(&version["groupVersion"]))));
        }
    }
    let mut refused = BTreeSet::new();
    for (group, path) in versions {
        let kinds = admin.get(&path).unwrap_or_default();
        for kind in kinds["resources"].as_array().into_iter().flatten() {
            let listable = kind["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!("list")));
            if kind["namespaced"] != true || !listable {
                continue;
            }
            let review = user.create(&json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {
                    "namespace": namespace, "verb": "list", "group": group, "resource": kind["name"]}},
            }));
            if review["status"]["allowed"] != true {
                refused.insert(format!("{}.{group}", kind["name"].as_str().unwrap_or_default()));
            }
        }
    }
    refused
}
