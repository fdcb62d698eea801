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

/// What moved leaves Remove lines; what the script is made of makes it another script.
pub fn moved_with_another_tag(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    scene.set_up();
    let script = scene.home.script(&scene.deployment);
    let first = std::fs::read_to_string(&script).expect("setup wrote it");
    let moved = format!("{}-moved", scene.deployment);
    let change = || scene.setup().flag("--namespace", &moved).flag("--tags", "k8s-runner,large");
    let standing = world(bed.admin());
    let output = change().args(["--prune", "--dry-run", "--exit-code", "-o", "json"]).run().code(10);
    assert_same("a dry run", &standing, &world(bed.admin()));
    let lines = output.json_lines();
    let plan = lines.iter().find(|line| line["type"] == "plan").expect("a plan");
    let has = |step: &str, action: &str, text: &str| {
        plan["lines"].as_array().into_iter().flatten().any(|line| {
            line["step"] == step && line["action"] == action && line["text"].to_string().contains(text)
        })
    };
    for kind in ["Role ", "RoleBinding ", "ServiceAccount ", "Namespace "] {
        let object = format!("{kind}{}", scene.job_namespace());
        assert!(has("prune", "remove", &object), "{object}\n{output}");
    }
    assert!(has("launch-script", "update", "launch.sh"), "{output}");

    let _ = change().arg("--prune").run().code(0).says("wrote launch.sh");
    assert!(bed.admin().get(&scene.path("job Namespace")).is_none(), "the old namespace is gone");
    let second = std::fs::read_to_string(&script).expect("setup wrote it");
    assert!(!first.contains("large") && second.contains("large") && second.contains(&moved));
    bed.mark();
    scene.setup().run().code(0);
    assert_eq!(listing(&writes(bed)), "", "what was changed is recorded");
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup, a move and teardown", &before, &world(bed.admin()));
}

pub fn reissued_token(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let old = bed.admin().get(&scene.path("Secret")).expect("the Secret exists");
    // Without the runner's token, which stays as it is on the host.
    let output = scene.command("setup").args(["--reissue", "cluster"]).run().code(0);
    let _ = output.says("contains the cluster token; the runner's stays on the host");
    let first = bed.admin().get(&scene.path("Secret")).expect("there is a new Secret");
    assert_ne!(first["metadata"]["uid"], old["metadata"]["uid"]);
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
    setup().run().code(3).says("1 Secret").says("--accept shared-namespace");
    assert_eq!(listing(&writes(bed)), "", "what jobs could reach is accepted first");
    setup().args(["--accept", "shared-namespace"]).run().code(0);
    let account = bed.admin().get(&format!("/api/v1/namespaces/{theirs}/serviceaccounts/default"));
    let account = account.expect("their namespace has a default ServiceAccount");
    assert!(account["automountServiceAccountToken"].is_null(), "their default ServiceAccount is theirs");
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup in their namespace and teardown", &before, &world(bed.admin()));
}

/// Both may be namespaces of others: then nothing of them is made, labelled or deleted.
pub fn used_namespaces(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let (runner, jobs) = (scene.runner_namespace(), scene.job_namespace());
    for name in [&runner, &jobs] {
        bed.admin().create(&super::bed::namespace(name));
        bed.admin().create(&json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "theirs", "namespace": name}, "stringData": {"a": "b"}}));
    }
    let before = world(bed.admin());
    let used = ["--use-namespace", &runner, "--use-namespace", &jobs];
    let setup = || scene.setup().args(used).args(["--accept-shared-namespace", "--allow-temporary-edit"]);
    setup()
        .arg("--dry-run")
        .run()
        .code(0)
        .says("a user who can create pods there can read the runner's token");
    setup().run().code(0);
    let standing = world(bed.admin());
    for (key, object) in
        before.iter().filter(|(key, _)| key.ends_with("/default") || key.starts_with("Namespace"))
    {
        assert_eq!(standing.get(key), Some(object), "{key} is theirs");
    }
    scene.setup().run().code(0);
    assert_same("a second setup", &standing, &world(bed.admin()));
    scene.elsewhere(User::Binder).status().args(used).run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup in their namespaces and teardown", &before, &world(bed.admin()));
    // A name that is neither of the two is a mistake.
    scene.setup().args(["--use-namespace", "somewhere"]).run().code(2).says("neither");
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
