//! The operator may not grant the Role: an administrator helps, by the very lines that were printed.

use serde_json::{Value, json};

use super::{Scene, listing, writes};
use crate::common::admin::{documents, object_path};
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Output};
use crate::common::shell::{Shell, commands};
use crate::common::world::{assert_same, world};

const RBAC: &str = "rbac.authorization.k8s.io";

fn shell<'a>(scene: &'a Scene<'_>) -> Shell<'a> {
    let bed = scene.bed;
    Shell::new(&scene.home, bed.admin(), bed.kubectl(), &bed.kubeconfig(User::Admin))
}

/// A setup that is refused for certain, before anything is made: with exit 4, or 2 where consent would help.
fn refused(scene: &Scene<'_>, setup: &Cli<'_>, exit: i32) -> Vec<String> {
    let before = world(scene.bed.admin());
    scene.bed.mark();
    let output = setup.run().code(exit);
    assert_eq!(listing(&writes(scene.bed)), "", "a refusal that is certain comes before the first write");
    assert_same("a refused setup", &before, &world(scene.bed.admin()));
    commands(&output)
}

/// The lines of the first way (manifests) and of the second (a right lent and taken back).
fn ways(lines: &[String]) -> (&[String], &[String]) {
    let second = lines.iter().position(|line| line.starts_with("kubectl apply")).expect("a first way") + 1;
    let (first, rest) = lines.split_at(second);
    let undo = rest.iter().position(|line| line.starts_with("kubectl delete")).expect("with its undo") + 1;
    (first, &rest[..undo])
}

pub fn manifests(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Limited);
    let before = world(bed.admin());
    let lines = refused(&scene, &scene.setup(), 4);
    let (first, _) = ways(&lines);
    let shell = shell(&scene);
    shell.run_all(first);
    // It gave no right to the operator: the next run binds nothing, and needs to.
    bed.mark();
    scene.set_up();
    let bindings = writes(bed).iter().filter(|request| request.path.ends_with("bindings")).count();
    assert_eq!(bindings, 0, "{}", listing(&writes(bed)));
    scene.status().run().code(0);
    scene.switch(User::Admin);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// All manifests at once, as a Git repository has them: applied by others, they are the deployment's own.
pub fn rendered(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Limited);
    let before = world(bed.admin());
    bed.mark();
    let output = scene.command("render").run().code(0);
    assert_eq!(listing(&writes(bed)), "", "it only prints");
    assert_same("render", &before, &world(bed.admin()));
    let manifests = output.stdout();
    for kind in ["Namespace", "ServiceAccount", "Role", "RoleBinding", "Secret"] {
        assert!(manifests.contains(&format!("kind: {kind}\n")), "{kind}: {manifests}");
    }
    // The same comes out again, so that a repository sees no difference.
    assert_eq!(scene.command("render").run().code(0).stdout(), manifests);
    for document in documents(&manifests) {
        bed.admin().create(&document);
    }
    assert_eq!(scene.command("render").run().code(0).stdout(), manifests);
    // Nothing of it is made again, and no right is needed for it; the `default` ServiceAccount is not among it.
    bed.mark();
    scene.set_up();
    let made: Vec<_> = writes(bed).into_iter().filter(|request| request.method == "POST").collect();
    let made: Vec<_> = made.iter().filter(|request| !request.path.contains("reviews")).collect();
    assert!(made.is_empty(), "{}", listing(&writes(bed)));
    scene.status().run().code(0);

    scene.switch(User::Admin);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));

    // A requested token has no manifest.
    let lifetime = Scene::new(bed, User::Limited);
    let output = lifetime.command("render").flag("--token-lifetime", "30d").run().code(0);
    assert!(!output.stdout().contains("kind: Secret"), "{output}");
}

pub fn temporary_edit(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Limited);
    let before = world(bed.admin());
    // Places and cluster are repeated in what is printed, or it would be about other namespaces.
    let jobs = format!("{}-elsewhere", scene.deployment);
    let setup = || scene.setup().flag("--namespace", &jobs);
    let lines = refused(&scene, &setup(), 4);
    let (_, second) = ways(&lines);
    let (undo, lend) = second.split_last().expect("the undo comes last");
    let shell = shell(&scene);
    shell.run_all(lend);
    setup().run().code(0);
    shell.run(undo);
    let bindings = bed.admin().list(&format!("/apis/{RBAC}/v1/namespaces/{jobs}/rolebindings"));
    let names: Vec<_> = bindings.iter().map(|binding| &binding["metadata"]["name"]).collect();
    assert_eq!(names, [&json!(scene.deployment)], "only the runner's own binding stays");
    scene.status().run().code(0);
    scene.switch(User::Admin);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

pub fn odd_user_name(bed: &dyn Bed) {
    let name = "CORP\\o'hara $(touch pwned) `touch pwned` \"x\"; touch pwned";
    let mut scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    let binding = bed.admin().create(&json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "odd-one"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "outrigger-test-limited"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": name}],
    }));
    let setup = || scene.setup().flag("--as", name);
    let lines = refused(&scene, &setup(), 4);
    let (_, second) = ways(&lines);
    let (undo, lend) = second.split_last().expect("the undo comes last");
    let shell = shell(&scene);
    shell.run_all(lend);
    let subject = lent_to(&scene);
    assert_eq!(subject, name, "byte for byte");
    setup().run().code(0);
    shell.run(undo);
    assert_eq!(shell.files(), [""; 0], "no part of a name was run as a command");

    // Who may bind, binds himself, under the very name that the server knows him by.
    let mut may_bind = binding.clone();
    may_bind["metadata"] = json!({"name": "odd-binder"});
    may_bind["roleRef"]["name"] = json!("outrigger-test-binder");
    let may_bind = bed.admin().create(&may_bind);
    let other = Scene::new(bed, User::Admin);
    other.setup().flag("--as", name).arg("--keep-admin-binding").run().code(0);
    assert_eq!(lent_to(&other), name);
    other.teardown().flag("--as", name).run().code(0);

    bed.admin().delete(&object_path(&may_bind));
    bed.admin().delete(&object_path(&binding));
    scene.switch(User::Admin);
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

fn lent_to(scene: &Scene<'_>) -> Value {
    let bindings = scene.bed.admin().list(&scene.path("RoleBindings"));
    let edit = bindings.iter().find(|binding| binding["roleRef"]["name"] == "edit");
    edit.expect("edit is lent")["subjects"][0]["name"].clone()
}

/// In a namespace that is not ours even a moment of `edit` is agreed to first.
pub fn used_namespace(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    let theirs = scene.job_namespace();
    bed.admin().create(&super::bed::namespace(&theirs));
    let standing = world(bed.admin());
    let setup = || scene.setup().flag("--use-namespace", &theirs).arg("--accept-shared-namespace");
    let output: Output = {
        bed.mark();
        let output = setup().run().code(2).says("OR0206").says("--accept temporary-edit").says("act as any");
        assert_eq!(listing(&writes(bed)), "");
        output
    };
    // The way without any temporary right is named too, and makes no namespace.
    let lines = commands(&output);
    assert!(!lines.iter().any(|line| line.contains("create-namespaces")), "{lines:?}");
    setup().args(["--accept", "temporary-edit"]).run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0]);
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    assert_same("setup in their namespace and teardown", &standing, &world(bed.admin()));

    // By manifests, in their namespace.
    let again = scene.elsewhere(User::Binder);
    let setup = || again.setup().flag("--use-namespace", &theirs).arg("--accept-shared-namespace");
    let lines = refused(&again, &setup(), 2);
    let shell = shell(&again);
    shell.run_all(ways(&lines).0);
    setup().run().code(0);
    again.teardown().run().code(0);
    assert_same("setup in their namespace and teardown", &standing, &world(bed.admin()));
    scene.switch(User::Admin);
    bed.admin().delete(&format!("/api/v1/namespaces/{theirs}"));
    assert_same("all of it", &before, &world(bed.admin()));
}
