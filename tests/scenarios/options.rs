//! What flags change: other namespaces, another endpoint, new credentials, a cluster that is gone.

use serde_json::json;

use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

pub fn moved_namespace(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    let moved = format!("{}-moved", scene.deployment);
    // The old objects are named and stay, until they are told to go.
    scene.setup().flag("--namespace", &moved).run().code(0).says("--prune");
    assert!(bed.admin().get(&scene.path("Role")).is_some(), "nothing is removed unasked");
    scene.setup().arg("--prune").run().code(0);
    assert!(bed.admin().get(&scene.path("job Namespace")).is_none(), "the old namespace is gone");
    assert!(bed.admin().get(&format!("/api/v1/namespaces/{moved}")).is_some());
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup, a move and teardown", &before, &world(bed.admin()));
}

pub fn reissued_token(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let old = bed.admin().get(&scene.path("Secret")).expect("the Secret exists");
    // Without the runner's token no script could be written for the host: nothing is touched.
    scene.command("setup").args(["--reissue", "cluster"]).run().code(2).says("--runner-token-file");
    let kept = bed.admin().get(&scene.path("Secret")).expect("the Secret stays");
    assert_eq!(kept["metadata"]["uid"], old["metadata"]["uid"]);
    scene.setup().args(["--reissue", "cluster"]).run().code(0).says("wrote launch.sh");
    let new = bed.admin().get(&scene.path("Secret")).expect("there is a new Secret");
    assert_ne!(new["metadata"]["uid"], old["metadata"]["uid"]);
    scene.status().run().code(0);
}

pub fn used_namespace(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let theirs = format!("{}-theirs", scene.deployment);
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": theirs}}));
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "theirs", "namespace": theirs}, "stringData": {"a": "b"}}));
    let before = world(bed.admin());
    let setup = || scene.setup().flag("--namespace", &theirs).flag("--use-namespace", &theirs);
    bed.mark();
    setup().run().code(3).says("1 Secret").says("--accept-shared-namespace");
    assert_eq!(listing(&writes(bed)), "", "what jobs could reach is accepted first");
    setup().arg("--accept-shared-namespace").run().code(0);
    let account = bed.admin().get(&format!("/api/v1/namespaces/{theirs}/serviceaccounts/default"));
    let account = account.expect("their namespace has a default ServiceAccount");
    assert!(account["automountServiceAccountToken"].is_null(), "their default ServiceAccount is theirs");
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup in their namespace and teardown", &before, &world(bed.admin()));
}

pub fn another_endpoint(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // Port 1 of this machine: nobody listens there, as nobody would here at an address of the VM's side.
    let setup = |url: &str| scene.setup().flag("--kubernetes-host", url);
    setup("https://127.0.0.1:1/k8s/clusters/c-1").run().code(3).says("Rancher");
    setup("http://127.0.0.1:1").run().code(3).says("https://");
    setup("https://127.0.0.1:1").run().code(0).says("TLS is unproven");
    scene.status().run().code(0).says("TLS is unproven");
    scene.teardown().run().code(0);
}

pub fn cluster_gone(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    scene.teardown().arg("--cluster-gone").run().code(0).says("not read back");
    assert!(!scene.home.script(&scene.deployment).exists(), "the script is removed");
    // It was not gone: what is there is found without the record.
    scene.elsewhere(User::Admin).teardown().run().code(0);
    assert!(bed.admin().get(&scene.path("ServiceAccount")).is_none());
}

pub fn listed(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    scene.command("list").run().code(0).says(&scene.deployment);
    scene.elsewhere(User::Admin).command("list").arg("--cluster").run().code(0).says(&scene.deployment);
    scene.teardown().run().code(0);
    scene.command("list").run().code(0).says("No deployment");
}
