//! The temporary binding: when it is made, what is said before, and that it does not stay.

use serde_json::{Value, json};

use super::{Scene, count, listing, writes};
use crate::common::admin::object_path;
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Gives the nobody the binder's rights, changed in one point, for as long as `scenario` takes.
fn with_rights(bed: &dyn Bed, change: impl Fn(&mut Vec<Value>), scenario: impl FnOnce(&Scene<'_>)) {
    let path = format!("/apis/{RBAC}/v1/clusterroles/outrigger-test-binder");
    let mut rules =
        bed.admin().get(&path).expect("the bed seeds it")["rules"].as_array().cloned().expect("rules");
    change(&mut rules);
    let role = bed.admin().create(&json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": {"name": "almost-a-binder"}, "rules": rules}));
    let binding = bed.admin().create(&json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "almost-a-binder"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "almost-a-binder"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": User::Nobody.name()}],
    }));
    scenario(&Scene::new(bed, User::Nobody));
    bed.admin().delete(&object_path(&binding));
    bed.admin().delete(&object_path(&role));
}

fn without(rules: &mut [Value], resource: &str, verb: &str) {
    for rule in rules {
        let about = rule["resources"].as_array().is_some_and(|list| list.contains(&json!(resource)));
        if let (true, Some(verbs)) = (about, rule["verbs"].as_array_mut()) {
            verbs.retain(|one| one != verb);
        }
    }
}

/// The question cannot be asked before there is a namespace: the plan names the most that can happen.
pub fn unknown(bed: &dyn Bed) {
    let not_asked = |rules: &mut Vec<Value>| without(rules, "clusterroles", "create");
    with_rights(bed, not_asked, |scene| {
        let before = world(bed.admin());
        let expected = "known after create-namespaces; at most RoleBinding";
        scene.setup().arg("--dry-run").run().code(0).says(expected);
        bed.mark();
        scene.set_up();
        let requests = writes(bed);
        assert_eq!(count(&requests, "POST", "/rolebindings"), 2, "{}", listing(&requests));
        assert_eq!(scene.temporary_bindings(), [""; 0]);
        scene.status().run().code(0);
        scene.teardown().run().code(0);
        assert_same("setup and teardown", &before, &world(bed.admin()));
    });
}

/// Who can make the binding but not take it back does not make it.
pub fn irrevocable(bed: &dyn Bed) {
    let no_delete = |rules: &mut Vec<Value>| without(rules, "rolebindings", "delete");
    with_rights(bed, no_delete, |scene| {
        let before = world(bed.admin());
        bed.mark();
        scene.setup().run().code(4).says("not delete the RoleBinding again").says("kubectl apply");
        assert_eq!(listing(&writes(bed)), "");
        assert_same("a refused setup", &before, &world(bed.admin()));
    });
}

pub fn kept(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    let setup = || scene.setup().arg("--keep-admin-binding");
    setup().run().code(0).says("kept (--keep-admin-binding)");
    let kept = scene.temporary_bindings();
    assert_eq!(kept.len(), 1, "{kept:?}");
    // As long as it is asked for, nothing is to be done; without the flag it is a difference.
    bed.mark();
    setup().run().code(0);
    assert_eq!(listing(&writes(bed)), "", "a second setup with the flag");
    // status changes nothing, so it takes no consent.
    let refused = scene.command("status").arg("--keep-admin-binding").run().code(2);
    let _ = refused.says("--keep-admin-binding is a flag of").says("outrigger bind-admin");
    scene.status().run().code(10).says(&kept[0]);
    scene.setup().run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0], "the next setup releases it");
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));

    let scene = Scene::new(bed, User::Binder);
    scene.setup().arg("--keep-admin-binding").run().code(0);
    scene.teardown().run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0], "teardown releases it");
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// `create-role` by itself pulls the binding in, and gives it back.
pub fn create_role_alone(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    scene.command("create-namespaces").run().code(0);
    bed.mark();
    scene.command("create-role").run().code(0).says("bound edit").says("edit released");
    assert_eq!(count(&writes(bed), "POST", "/rolebindings"), 2, "{}", listing(&writes(bed)));
    assert_eq!(scene.temporary_bindings(), [""; 0]);
    assert!(bed.admin().get(&scene.path("RoleBinding")).is_some());
    // Left out, and the step that would release it too: given back all the same.
    let other = Scene::new(bed, User::Binder);
    other.setup().args(["--only", "create-namespaces,bind-admin"]).run().code(0);
    assert_eq!(other.temporary_bindings(), [""; 0], "released although create-role was left out");
    // The steps of the article one by one come to the same as all at once.
    scene.setup().args(["--from", "extract-ca"]).run().code(0);
    scene.watch_cluster_token();
    scene.status().run().code(0);
    scene.teardown().args(["--only", "launch-script,issue-token"]).run().code(0);
    assert!(
        bed.admin().get(&scene.path("Secret")).is_none() && bed.admin().get(&scene.path("Role")).is_some()
    );
    scene.teardown().args(["--skip", "create-namespaces"]).run().code(0);
    assert!(bed.admin().get(&scene.path("Role")).is_none());
    scene.teardown().run().code(0);
    other.teardown().run().code(0);
    assert_same("setup and teardown in pieces", &before, &world(bed.admin()));
}
