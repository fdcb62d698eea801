//! `teardown` where it is not plain: what stays, what is waited for, what is only half there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{Scene, listing, writes};
use crate::common::admin::object_path;
use crate::common::bed::{Bed, User, kubeconfig_yaml};
use crate::common::world::{assert_same, world};

/// The namespaces stay, known as ours: the next setup or teardown goes on with them.
pub fn keep_namespaces(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    scene.set_up();
    let receipt = scene.home.path().join("receipt.txt");
    let output = scene.teardown().arg("--keep-namespaces").flag("--receipt", &receipt).run().code(0);
    assert_eq!(output.stdout(), "", "the receipt went into its file\n{output}");
    let text = fs::read_to_string(&receipt).expect("the receipt was written");
    assert_eq!(fs::metadata(&receipt).expect("it is there").permissions().mode() & 0o777, 0o600);
    for (state, what) in [("removed", "Role "), ("removed", "Secret "), ("kept", "Namespace ")] {
        let found = text.lines().any(|line| line.trim().starts_with(state) && line.contains(what));
        assert!(found, "{state} {what}\n{text}");
    }
    for place in ["runner Namespace", "job Namespace"] {
        assert!(
            bed.admin()
                .get(&scene.path(place))
                .is_some_and(|one| one["metadata"]["deletionTimestamp"].is_null())
        );
    }
    scene.set_up();
    scene.status().run().code(0);
    scene.teardown().arg("--keep-namespaces").run().code(0).says("(--keep-namespaces)");
    // The plan told what goes: stdout has a receipt only for whoever asks for one.
    let output = scene.teardown().args(["--receipt", "-"]).run().code(0);
    assert!(output.stdout().contains("removed"), "{output}");
    scene.set_up();
    let output = scene.teardown().run().code(0);
    assert_eq!(output.stdout(), "", "{output}");
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// A job's pod is seen, waited for and ended by an operator who may not list pods either.
pub fn running_jobs(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    scene.set_up();
    bed.admin().create(&pod(&scene.job_namespace(), "runner-job-1", "default", &scene.deployment));
    let standing = world(bed.admin());
    scene.teardown().args(["--timeout", "4s"]).run().code(8).says("runner-job-1").says("--now");
    assert_same("a teardown that waited in vain", &standing, &world(bed.admin()));
    scene.teardown().arg("--now").run().code(0).says("deleted 1 job pod");
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

fn pod(namespace: &str, name: &str, account: &str, runner: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"manager.runner.gitlab.com/name": runner}},
        "spec": {"serviceAccountName": account, "containers": [{"name": "build", "image": "alpine"}]}})
}

/// In a namespace of others another runner's jobs are none of our business.
pub fn others_jobs(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let theirs = scene.job_namespace();
    bed.admin().create(&super::bed::namespace(&theirs));
    let _ = world(bed.admin());
    let neighbour = bed.admin().create(&pod(&theirs, "runner-theirs-1", "default", "their-runner"));
    let before = world(bed.admin());
    scene.setup().flag("--use-namespace", &theirs).arg("--accept-shared-namespace").run().code(0);
    let account = format!("{}-job", scene.deployment);
    bed.admin().create(&pod(&theirs, "runner-ours-1", &account, &scene.deployment));
    scene.teardown().arg("--now").run().code(0).says("deleted 1 job pod");
    assert_same("setup and teardown", &before, &world(bed.admin()));
    bed.admin().delete(&format!("{}?gracePeriodSeconds=0", object_path(&neighbour)));
    bed.admin().delete(&format!("/api/v1/namespaces/{theirs}"));
}

/// Of what is in a namespace of ours, all that is foreign is named, in both of them; what comes with
/// every namespace, or goes with its owner, is not.
pub fn foreign_in_both(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let (runner, jobs) = (scene.runner_namespace(), scene.job_namespace());
    let config = |namespace: &str, name: &str, owner: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace,
            "ownerReferences": owner}, "data": {"a": "b"}})
    };
    // Looks like ours from outside; is owned by something that lives beyond the namespace.
    let mut marked = config(&runner, "with-our-labels", json!([]));
    let ours = scene.our_metadata("3f2c9a7e51d84b60");
    marked["metadata"]["labels"] = ours["labels"].clone();
    marked["metadata"]["annotations"] = ours["annotations"].clone();
    let class = json!([{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "view",
        "uid": bed.admin().get("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").expect("built in")["metadata"]["uid"]}]);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "of-a-controller", "namespace": jobs}});
    let foreign = [marked, config(&jobs, "of-a-tenant", class), lease];
    let made: Vec<Value> = foreign.iter().map(|object| bed.admin().create(object)).collect();
    let injected = bed.admin().create(&config(&jobs, "istio-ca-root-cert", json!([])));
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "istio-ca-root-cert",
        "uid": injected["metadata"]["uid"]}]);
    bed.admin().create(&config(&jobs, "follows-its-owner", owner));

    let output = scene.teardown().run().code(5);
    let mut output = output.says(&format!("Namespace {runner}")).says(&format!("Namespace {jobs}"));
    for name in ["configmaps/with-our-labels", "configmaps/of-a-tenant", "leases/of-a-controller"] {
        output = output.says(name);
    }
    // The command that finishes it comes last.
    let output = output.never_says("istio-ca-root-cert").never_says("follows-its-owner");
    let stderr = output.stderr();
    let last = stderr.lines().map(str::trim).rfind(|line| line.starts_with("outrigger teardown"));
    assert!(last.is_some_and(|line| line.contains(&scene.deployment)), "{output}");
    for object in &made {
        assert_eq!(bed.admin().get(&object_path(object)).as_ref(), Some(object), "untouched");
        bed.admin().delete(&object_path(object));
    }
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// Who may not see everything cannot say that nothing is there: it stays, and is named.
pub fn hidden(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Limited);
    let before = world(bed.admin());
    let printed = scene.command("create-role").arg("--print").run().code(0);
    for manifest in crate::common::admin::documents(&printed.stdout()) {
        bed.admin().create(&manifest);
    }
    scene.set_up();
    let output = scene.teardown().run().code(5).says("secrets (may not be listed)");
    let _ = output.says("it is unknown whether jobs are running").says(&scene.job_namespace());
    for kind in ["ServiceAccount", "Secret", "Role", "RoleBinding"] {
        assert_eq!(bed.admin().get(&scene.path(kind)), None, "{kind} goes all the same");
    }
    scene.switch(User::Admin);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// A server that does not answer is no proof that the cluster is gone; the disk is cleaned all the same.
pub fn unreachable(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let standing = world(bed.admin());
    let closed = kubeconfig_yaml("gone", "https://127.0.0.1:1", &bed.ca_pem(), "me", "none-at-all");
    let closed = scene.home.kubeconfig("closed.kubeconfig", &closed);
    let away = || scene.teardown().flag("--kubeconfig", &closed).flag("--timeout", "5s");
    bed.mark();
    let output = away().arg("--dry-run").run().code(8);
    assert!(scene.home.script(&scene.deployment).exists(), "{output}");
    let output = away().run().code(8).says("--cluster-gone").never_says("not read back");
    assert!(!scene.home.script(&scene.deployment).exists(), "the script holds secrets and goes\n{output}");
    assert_eq!(listing(&writes(bed)), "");
    assert_same("teardown of a cluster that does not answer", &standing, &world(bed.admin()));
    // Nothing was forgotten.
    scene.command("list").run().code(0).says(&scene.deployment);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// A requested token is known to its host alone: that it is refused now cannot be seen from here.
pub fn requested_token(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    bed.mark();
    // A right that only this kind of token needs is asked for with the others.
    scene.setup().flag("--token-lifetime", "30d").run().code(4).says("serviceaccounts/token create");
    assert_eq!(listing(&writes(bed)), "");
    scene.switch(User::Admin);
    scene.setup().flag("--token-lifetime", "30d").run().code(0);
    scene.status().run().code(0);
    scene.teardown().run().code(0).says("revocation not verified");
    assert_same("setup and teardown", &before, &world(bed.admin()));
}
