//! Objects whose deletion was asked for and has not ended, and what else keeps a namespace: known until a
//! read shows that they are gone.

use serde_json::{Value, json};

use super::bed::DeadApi;
use super::{Scene, listing, writes};
use crate::common::admin::object_path;
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

const HOLD: &str = "example.com/hold";

fn hold(bed: &dyn Bed, path: &str, finalizers: &[&str]) {
    bed.admin().patch(path, &json!({"metadata": {"finalizers": finalizers}}));
}

fn let_go(bed: &dyn Bed, path: &str) {
    if bed.admin().get(path).is_some() {
        bed.admin().patch(path, &json!({"metadata": {"finalizers": null}}));
    }
}

/// The record is there as long as something of the deployment is, and no longer.
fn assert_known(scene: &Scene<'_>, known: bool) {
    let output = scene.command("list").run().code(0);
    assert_eq!(output.stdout().contains(&scene.deployment), known, "{output}");
}

/// A finalizer that nobody serves keeps a namespace Terminating: each teardown says so, and by whom it is
/// held, until it is gone.
pub fn namespaces(bed: &dyn Bed) {
    const RANCHER: &str = "controller.cattle.io/namespace-auth";
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let places = [scene.path("runner Namespace"), scene.path("job Namespace")];
    for place in &places {
        hold(bed, place, &[RANCHER]);
    }
    for timeout in ["45s", "20s"] {
        let output = scene.teardown().args(["--timeout", timeout]).run().code(8).says("OR0504");
        let output = output.says(&format!("Namespace {} is still being deleted", scene.job_namespace()));
        let output = output.says(&format!("finalizer {RANCHER} (Rancher)")).never_says("Removed ");
        let stderr = output.stderr();
        let last = stderr.lines().map(str::trim).rfind(|line| line.starts_with("outrigger teardown"));
        assert!(last.is_some_and(|line| line.contains(&scene.deployment)), "{output}");
        assert_known(&scene, true);
    }
    scene.teardown().args(["--timeout", "10s"]).fails("OR0504");
    // Whoever looks or sets up meanwhile is told the same, and nothing is written.
    bed.mark();
    scene.status().run().code(8).says("is being deleted").says(RANCHER);
    scene.setup().run().code(8).says("is being deleted").says(RANCHER);
    assert_eq!(listing(&writes(bed)), "");
    // A machine without the record can prove nothing, and does not say that nothing is there.
    let elsewhere = scene.elsewhere(User::Admin);
    elsewhere.teardown().run().code(8).says("is still being deleted").never_says("Removed ");
    assert_eq!(listing(&writes(bed)), "");
    for place in &places {
        let_go(bed, place);
    }
    scene.teardown().run().code(0);
    assert_known(&scene, false);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// The same for each other kind of ours; the namespace waits with them.
pub fn objects(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let held = ["Secret", "ServiceAccount", "Role", "RoleBinding"].map(|kind| scene.path(kind));
    for path in &held {
        hold(bed, path, &[HOLD]);
    }
    let receipt = scene.home.path().join("receipt.txt");
    // A token ends with the wish to delete its Secret.
    let first = scene.teardown().args(["--timeout", "45s"]).flag("--receipt", &receipt).run().code(8);
    let first = first.says("the old token gets 401").says(HOLD).says("is still being deleted");
    let text = std::fs::read_to_string(&receipt).expect("the receipt was written");
    for kind in ["Secret", "ServiceAccount", "Role", "RoleBinding", "Namespace"] {
        let found =
            text.lines().any(|line| line.contains("being deleted") && line.contains(&format!("{kind} ")));
        assert!(found, "{kind} is on its way\n{text}\n{first}");
    }
    let second = scene.teardown().args(["--timeout", "20s"]).run().code(8).says(HOLD);
    let _ = second.says("is still being deleted").never_says("Removed ");
    assert_known(&scene, true);
    for path in &held {
        let_go(bed, path);
    }
    scene.teardown().run().code(0);
    assert_known(&scene, false);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// In namespaces that stay, nothing but the objects themselves tells that they are still there.
pub fn in_used_namespaces(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let (runner, jobs) = (scene.runner_namespace(), scene.job_namespace());
    for name in [&runner, &jobs] {
        bed.admin().create(&super::bed::namespace(name));
    }
    let before = world(bed.admin());
    let used = ["--use-namespace", &runner, "--use-namespace", &jobs, "--accept-shared-namespace"];
    scene.setup().args(used).run().code(0);
    scene.watch_cluster_token();
    let held = ["Secret", "RoleBinding"].map(|kind| scene.path(kind));
    for path in &held {
        hold(bed, path, &[HOLD]);
    }
    for timeout in ["45s", "20s"] {
        let output = scene.teardown().args(["--timeout", timeout]).run().code(8);
        let output =
            output.says(&format!("Secret {runner}/{}-token is still being deleted", scene.deployment));
        let _ = output.says(&format!("RoleBinding {jobs}/{}", scene.deployment)).says(HOLD);
        assert_known(&scene, true);
    }
    for path in &held {
        let_go(bed, path);
    }
    scene.teardown().run().code(0);
    assert_known(&scene, false);
    assert_same("setup in their namespaces and teardown", &before, &world(bed.admin()));
}

/// What goes with its owner is not foreign, and may be held all the same: it is named with its finalizer.
pub fn content(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let made = bed.admin().create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio-ca-root-cert", "namespace": scene.job_namespace(), "finalizers": [HOLD]}}));
    let output = scene.teardown().args(["--timeout", "45s"]).run().code(8).says("is still being deleted");
    let _ = output.says(&format!("configmaps/istio-ca-root-cert (finalizer {HOLD})"));
    let_go(bed, &object_path(&made));
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// As long as it is there, a binding grants its rights, whatever was said about its deletion.
pub fn temporary_binding(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    scene.setup().arg("--keep-admin-binding").run().code(0);
    scene.watch_cluster_token();
    let kept = scene.temporary_bindings();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let path = format!("{}/{}", scene.path("RoleBindings"), kept[0]);
    hold(bed, &path, &[HOLD]);
    for _ in 0..2 {
        let output = scene.setup().fails("OR0502").says(HOLD);
        let _ = output.says("grants its rights until then").says(&kept[0]);
        assert_eq!(scene.temporary_bindings(), kept, "it is there, and known");
    }
    let _ = scene.teardown().args(["--timeout", "45s"]).run().says("OR0502").says(HOLD);
    assert_known(&scene, true);
    let_go(bed, &path);
    scene.teardown().run().code(0);
    assert_known(&scene, false);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// Settings that moved leave objects behind; teardown knows them and takes them away, too.
pub fn moved(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        let before = world(bed.admin());
        scene.set_up();
        let moved = format!("{}-moved", scene.deployment);
        scene.setup().flag("--namespace", &moved).run().code(0).says("--prune");
        scene.watch_cluster_token();
        assert!(bed.admin().get(&scene.path("Role")).is_some(), "nothing is removed unasked");
        let dry = scene.teardown().arg("--dry-run").run().code(0);
        let _ = dry.says(&format!("Namespace {}", scene.job_namespace()));
        scene.teardown().run().code(0);
        assert_known(&scene, false);
        assert_same("setup, a move and teardown", &before, &world(bed.admin()));
    }
}

/// An object that is on its way out is not "kept".
pub fn leaving_objects(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    for kind in ["Secret", "Role"] {
        let path = scene.path(kind);
        hold(bed, &path, &[HOLD]);
        bed.admin().delete(&path);
        bed.mark();
        let _ = scene.setup().run().code(8).says("OR0307").says("is being deleted").says(HOLD);
        if kind == "Role" {
            scene.setup().fails("OR0307");
        }
        scene.status().run().code(8).says("is being deleted");
        assert_eq!(listing(&writes(bed)), "");
        let_go(bed, &path);
        let _ = world(bed.admin());
        scene.setup().run().code(0);
        scene.watch_cluster_token();
    }
    scene.teardown().run().code(0);
}

/// An API that is known to hold nothing does not keep teardown from deleting; Kubernetes itself waits for
/// it, which is said with what to do.
pub fn dead_metrics(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let dead = DeadApi::register(bed, "metrics.k8s.io", "v1beta1");
    for _ in 0..2 {
        let output = scene.teardown().args(["--timeout", "45s"]).run().code(8).never_says("OR0501");
        let output = output.says("the API metrics.k8s.io/v1beta1, which does not respond");
        let _ = output.says("repair or remove the APIService v1beta1.metrics.k8s.io").never_says("Removed ");
        assert_known(&scene, true);
    }
    drop(dead);
    scene.teardown().run().code(0);
    assert_known(&scene, false);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// What another API holds in a namespace cannot be seen: the namespace stays, for that reason.
pub fn dead_api(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        let before = world(bed.admin());
        scene.set_up();
        let dead = DeadApi::register(bed, "widgets.example.com", "v1");
        for _ in 0..2 {
            let output = scene.teardown().args(["--timeout", "60s"]).run().code(8).says("OR0505");
            let output = output.says("the API widgets.example.com does not respond").never_says("OR0501");
            let _ = output.says("repair or remove the APIService v1.widgets.example.com");
            assert_eq!(scene.temporary_bindings(), [""; 0]);
        }
        if user == User::Admin {
            scene.teardown().args(["--timeout", "60s"]).fails("OR0505");
        }
        for place in ["runner Namespace", "job Namespace"] {
            let live = bed.admin().get(&scene.path(place)).expect("it stays");
            assert!(live["metadata"]["deletionTimestamp"].is_null(), "{place} is left alone");
        }
        assert!(bed.admin().get(&scene.path("Role")).is_none(), "the rest goes");
        drop(dead);
        scene.teardown().run().code(0);
        assert_same("setup and teardown", &before, &world(bed.admin()));
    }
}

/// Objects as well-known controllers keep them in every namespace.
fn kept_by_generators(namespace: &str) -> Vec<Value> {
    let kyverno = json!({"app.kubernetes.io/managed-by": "kyverno",
        "generate.kyverno.io/policy-name": "defaults", "generate.kyverno.io/rule-name": "deny"});
    let meta = |name: &str, labels: Value, notes: Value| json!({"name": name, "namespace": namespace, "labels": labels, "annotations": notes});
    let none = || json!({});
    vec![
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": meta("default-deny", kyverno.clone(), none()),
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
        json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": meta("default-resourcequota", kyverno, none()), "spec": {"hard": {"pods": "10"}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": meta("corporate-roots", json!({"trust.cert-manager.io/bundle": "corporate-roots"}), none())}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("registry", none(), json!({
            "reflector.v1.k8s.emberstack.com/auto-reflects": "True",
            "reflector.v1.k8s.emberstack.com/reflects": "default/registry"}))}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": meta("rb-x7k2p", json!({"authz.cluster.cattle.io/rtb-owner-updated": "p-a_b"}), none()),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}]}),
    ]
}

/// What generators keep in a namespace is named with them, and goes on consent alone.
pub fn generated(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        let before = world(bed.admin());
        scene.set_up();
        for namespace in [scene.runner_namespace(), scene.job_namespace()] {
            for object in kept_by_generators(&namespace) {
                bed.admin().create(&object);
            }
        }
        let output = scene.teardown().run().code(5).says("OR0506").says("objects that generators recreate");
        if user == User::Admin {
            scene.teardown().fails("OR0506");
        }
        let output = output.says("networkpolicies/default-deny").says("(by Kyverno)");
        let output = output.says("configmaps/corporate-roots (by trust-manager)");
        let output =
            output.says("secrets/registry (by reflector)").says("rolebindings/rb-x7k2p (by Rancher)");
        let _ = output.says("outrigger teardown --accept generated");
        // Consent comes from the command line or a terminal, from nowhere else.
        scene.teardown().env("OUTRIGGER_ACCEPT", "generated").run().code(2).says("OUTRIGGER_ACCEPT");
        let file = scene.home.input("settings.yaml", "accept: [generated]\n");
        scene.teardown().flag("--config", &file).run().code(2).says("accept");
        scene.teardown().args(["--accept", "everything"]).run().code(2).says("generated");
        // It covers nothing but that.
        let foreign = bed.admin().create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "somebody-elses", "namespace": scene.job_namespace()}}));
        let output = scene.teardown().args(["--accept", "generated"]).run().code(5).says("OR0501");
        let _ = output.says("inside configmaps/somebody-elses").says("(by Kyverno)");
        bed.admin().delete(&object_path(&foreign));
        let output = scene.teardown().args(["--accept", "generated"]).run().code(0);
        let _ = output.says("(by Kyverno)");
        assert_known(&scene, false);
        assert_same("setup and teardown", &before, &world(bed.admin()));
    }
}
