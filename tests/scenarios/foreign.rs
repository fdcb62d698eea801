//! Objects of others under our names: named, never adopted, never deleted.

use serde_json::{Value, json};

use super::Scene;
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

/// An id as outrigger mints them, which is not the deployment's own.
const FORGED: &str = "3f2c9a7e51d84b60";

/// Seeds objects, runs `setup` and `teardown`, and looks whether they are left alone.
fn assert_left_alone(scene: &Scene<'_>, objects: &[Value], extra: &[&str], name: &str) {
    let admin = scene.bed.admin();
    for object in objects {
        admin.create(object);
    }
    let before = world(admin);
    scene.setup().args(extra.iter().copied()).run().code(7).says(name);
    // What is in the way is known before the first write.
    assert_same("setup with a foreign object in the way", &before, &world(admin));
    // Whatever teardown answers where nothing is ours: what is there stays.
    let _ = scene.teardown().run();
    assert_same("teardown with a foreign object in the way", &before, &world(admin));
}

fn empty_namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// An object of the given kind where ours would be; the namespace comes with it.
fn in_our_place(scene: &Scene<'_>, kind: &str) -> Vec<Value> {
    let (name, jobs) = (&scene.deployment, scene.job_namespace());
    match kind {
        "Namespace" => vec![empty_namespace(&jobs)],
        "ServiceAccount" => vec![
            empty_namespace(name),
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": name}}),
        ],
        "Secret" => vec![
            empty_namespace(name),
            json!({"apiVersion": "v1", "kind": kind, "type": "Opaque",
                "metadata": {"name": format!("{name}-token"), "namespace": name},
                "stringData": {"password": "correct horse"}}),
        ],
        "job ServiceAccount" => vec![
            empty_namespace(&jobs),
            json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": format!("{name}-job"), "namespace": jobs}}),
        ],
        "Role" => vec![
            empty_namespace(&jobs),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": name, "namespace": jobs},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}),
        ],
        "RoleBinding" => vec![
            empty_namespace(&jobs),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": name, "namespace": jobs},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}]}),
        ],
        other => panic!("no foreign {other}"),
    }
}

/// The flags that agree to use a namespace: then it is the object inside that is in the way.
fn using(namespace: &str) -> [&str; 4] {
    ["--use-namespace", namespace, "--accept-shared-namespace", "--allow-temporary-edit"]
}

fn plain(bed: &dyn Bed, kind: &str) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        let objects = in_our_place(&scene, kind);
        let place = objects[0]["metadata"]["name"].as_str().expect("a namespace comes first").to_owned();
        let extra: Vec<&str> = if kind == "Namespace" { Vec::new() } else { using(&place).to_vec() };
        assert_left_alone(&scene, &objects, &extra, &scene.deployment);
    }
}

pub fn namespace(bed: &dyn Bed) {
    plain(bed, "Namespace");
    let scene = Scene::new(bed, User::Admin);
    let runner = scene.runner_namespace();
    assert_left_alone(&scene, &[empty_namespace(&runner)], &[], &runner);
}

pub fn service_account(bed: &dyn Bed) {
    plain(bed, "ServiceAccount");
}

pub fn role_binding(bed: &dyn Bed) {
    plain(bed, "RoleBinding");
}

pub fn role(bed: &dyn Bed) {
    plain(bed, "Role");
}

pub fn job_service_account(bed: &dyn Bed) {
    plain(bed, "job ServiceAccount");
}

pub fn secret(bed: &dyn Bed) {
    plain(bed, "Secret");
}

pub fn with_our_labels(bed: &dyn Bed) {
    for kind in ["Namespace", "ServiceAccount", "job ServiceAccount", "Secret", "Role", "RoleBinding"] {
        let scene = Scene::new(bed, User::Admin);
        let mut objects = in_our_place(&scene, kind);
        for object in &mut objects {
            let ours = scene.our_metadata(FORGED);
            object["metadata"]["labels"] = ours["labels"].clone();
            object["metadata"]["annotations"] = ours["annotations"].clone();
        }
        assert_left_alone(&scene, &objects, &[], &scene.deployment);
        // The object inside, too, where its namespace is agreed to.
        if kind != "Namespace" {
            let place = objects[0]["metadata"]["name"].as_str().expect("a namespace comes first").to_owned();
            let before = world(bed.admin());
            // An anchor that says that it is ours is in doubt; what lies beside none proves nothing by itself.
            let why = if kind == "ServiceAccount" { "OR0706" } else { "outrigger's labels" };
            scene.setup().args(using(&place)).run().code(7).says(why);
            assert_same("setup with a look-alike in the way", &before, &world(bed.admin()));
        }
    }
}

/// A deployment that exists: one of its objects replaced by a look-alike, with another id and with ours.
pub fn look_alike(bed: &dyn Bed) {
    for (kind, id) in [
        ("RoleBinding", Some(FORGED)),
        ("RoleBinding", None),
        ("Role", None),
        ("Secret", None),
        ("ServiceAccount", None),
    ] {
        let scene = Scene::new(bed, User::Admin);
        scene.set_up();
        let path = scene.path(kind);
        let mut object = bed.admin().get(&path).expect("setup made it");
        bed.admin().delete(&path);
        let metadata = object["metadata"].as_object_mut().expect("objects have metadata");
        metadata.retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
        if let Some(id) = id {
            object["metadata"]["annotations"]["outrigger.dev/id"] = json!(id);
        }
        object["metadata"]["annotations"]["example.com/mine"] = json!("hands off");
        if let Some(fields) = object.as_object_mut().filter(|_| kind == "Secret") {
            // Filled by hand, to be taken for the runner's own.
            fields.insert("type".to_owned(), json!("Opaque"));
            fields["metadata"]["annotations"]["kubernetes.io/service-account.name"] = json!("eve");
        }
        bed.admin().create(&object);
        let before = world(bed.admin());
        let place = object["metadata"]["name"].as_str().expect("it has a name").to_owned();
        scene.setup().run().code(7).says(&place).says("the recorded object was deleted");
        assert_same("setup with a look-alike in the way", &before, &world(bed.admin()));
        let mine = bed.admin().get(&path).expect("it is there");
        // What the dry run finds is what the run would end with.
        scene.teardown().arg("--dry-run").run().code(7).says(&place);
        scene.teardown().run().code(7).says(&place);
        let _ = world(bed.admin());
        assert_eq!(bed.admin().get(&path), Some(mine), "teardown leaves the look-alike {kind} alone");
    }
}
