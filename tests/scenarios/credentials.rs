//! What the runner's token may do besides its Role, and who is named for it.

use std::time::Duration;

use serde_json::{Value, json};

use super::Scene;
use crate::common::admin::object_path;
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Somebody else's `ClusterRole` with one rule, and a binding of it; taken away when dropped.
struct Grant<'a> {
    bed: &'a dyn Bed,
    paths: Vec<String>,
}

impl<'a> Grant<'a> {
    /// To a subject, in one namespace or (without one) everywhere.
    fn new(bed: &'a dyn Bed, name: &str, rule: &Value, subject: &Value, namespace: Option<&str>) -> Self {
        let role = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": [rule]});
        let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
        let mut binding = json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}, "subjects": [subject]});
        if let Some(namespace) = namespace {
            binding["metadata"]["namespace"] = json!(namespace);
        }
        let paths = [role, binding].iter().map(|object| object_path(&bed.admin().create(object))).collect();
        // Authorizers see a binding a moment after it is there.
        std::thread::sleep(Duration::from_millis(300));
        Self { bed, paths }
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            self.bed.admin().delete(path);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn group(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "Group", "name": name})
}

fn rule(resource: &str, verb: &str) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]})
}

pub fn everybodys_right(bed: &dyn Bed) {
    for name in ["system:authenticated", "system:serviceaccounts"] {
        let scene = Scene::new(bed, User::Admin);
        let before = world(bed.admin());
        {
            let _grant =
                Grant::new(bed, "everybody-reads-maps", &rule("configmaps", "get"), &group(name), None);
            // Not ours to mend, and nothing an attacker would gain: said, with the name of whose it is.
            let output = scene.setup().run().code(0).says("configmaps get");
            let _ = output.says("ClusterRoleBinding everybody-reads-maps").never_says("system:discovery");
            let _ = scene.status().run().code(0).says("ClusterRoleBinding everybody-reads-maps");
            // Who may not list bindings is told that much.
            let colleague = scene.elsewhere(User::Binder);
            let _ = colleague.status().run().code(0).says("you may not list");
        }
        let _ = scene.status().run().code(0).never_says("configmaps");
        let _ = scene.teardown().run().code(0);
        assert_same("setup and teardown", &before, &world(bed.admin()));
    }
}

pub fn everybodys_critical_right(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    for (what, rule) in
        [("secrets list", rule("secrets", "list")), ("nodes/proxy get", rule("nodes/proxy", "get"))]
    {
        let _grant = Grant::new(bed, "everybody-is-root", &rule, &group("system:serviceaccounts"), None);
        let output = scene.setup().run().code(9).says("OR0905").says(what);
        if what == "secrets list" {
            scene.setup().fails("OR0905");
        }
        let _ = output.says("ClusterRoleBinding everybody-is-root");
        assert!(
            !scene.home.script(&scene.deployment).exists(),
            "no script with a token that may do too much"
        );
    }
    let _ = scene.setup().run().code(0);
    let _ = scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

pub fn the_runners_own_further_right(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let account =
        json!({"kind": "ServiceAccount", "name": scene.deployment, "namespace": scene.runner_namespace()});
    let jobs = scene.job_namespace();
    {
        let _grant = Grant::new(bed, "somebody-was-kind", &rule("services", "get"), &account, Some(&jobs));
        let output = scene.status().fails("OR0904").says("services get");
        let _ = output.says(&format!("RoleBinding {jobs}/somebody-was-kind"));
    }
    let _ = scene.status().run().code(0);
}
