//! The whole way there and back, for every kind of operator.

use serde_json::json;

use super::{Scene, count, listing, writes};
use crate::common::admin::{documents, object_path};
use crate::common::bed::{Bed, User};
use crate::common::world::{World, assert_kept, assert_same, world};

/// Things of others whose names begin like ours: to be left alone from first to last.
fn neighbours(scene: &Scene<'_>) {
    let (admin, name) = (scene.bed.admin(), &scene.deployment);
    let place = format!("{name}-neighbour");
    admin.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}}));
    admin.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": place}}));
    admin.create(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("{name}-token"), "namespace": place}, "stringData": {"a": "b"}}));
    admin.create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": place},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place}]}));
    let labels = json!({"app.kubernetes.io/instance": name, "app.kubernetes.io/managed-by": "outrigger"});
    let template = json!({"metadata": {"labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "alpine"}]}});
    let selector = json!({"matchLabels": {"app": name}});
    for (version, kind, body) in [
        ("v1", "ConfigMap", json!({"data": {"a": "b"}})),
        ("v1", "Service", json!({"spec": {"ports": [{"port": 80}], "selector": {"app": name}}})),
        ("v1", "LimitRange", json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}})),
        (
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        ("rbac.authorization.k8s.io/v1", "Role", json!({"rules": []})),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 0, "selector": selector, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "alpine"}]}}}}),
        ),
        (
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": {"spec": {"template": template}}}}),
        ),
        ("networking.k8s.io/v1", "NetworkPolicy", json!({"spec": {"podSelector": {}}})),
        ("policy/v1", "PodDisruptionBudget", json!({"spec": {"minAvailable": 1, "selector": selector}})),
    ] {
        let mut object = json!({"apiVersion": version, "kind": kind,
            "metadata": {"name": format!("{name}-admin-0"), "namespace": place, "labels": labels}});
        let fields = body.as_object().cloned().unwrap_or_default();
        object.as_object_mut().expect("an object").extend(fields);
        admin.create(&object);
    }
    // In no namespace, under the deployment's own name.
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "labels": labels}});
        if kind == "ClusterRole" {
            object["rules"] = json!([]);
        } else {
            object["roleRef"] =
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
        }
        admin.create(&object);
    }
}

/// What must be there after `setup`, and what must not.
fn assert_set_up(scene: &Scene<'_>, before: &World) {
    let after = world(scene.bed.admin());
    assert_kept("setup", before, &after);
    for kind in ["ServiceAccount", "Secret", "Role", "RoleBinding", "runner Namespace", "job Namespace"] {
        assert!(scene.bed.admin().get(&scene.path(kind)).is_some(), "setup made no {kind}");
    }
    assert_eq!(scene.temporary_bindings(), [""; 0], "the temporary binding is released");
    assert_as_described(scene);
    let script = scene.home.script(&scene.deployment);
    assert!(script.is_file(), "no launch script at {}", script.display());
}

/// The objects themselves, word for word as they are documented.
fn assert_as_described(scene: &Scene<'_>) {
    let get = |path: String| scene.bed.admin().get(&path).unwrap_or_else(|| panic!("no {path}"));
    let role = get(scene.path("Role"));
    let mut rights: Vec<String> = Vec::new();
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    for rule in role["rules"].as_array().expect("rules") {
        assert_eq!((&rule["apiGroups"], &rule["resourceNames"]), (&json!([""]), &serde_json::Value::Null));
        for resource in texts(&rule["resources"]) {
            rights.push(format!("{resource} {}", texts(&rule["verbs"]).join(",")));
        }
    }
    rights.sort();
    assert_eq!(
        rights,
        [
            "events list",
            "pods create,get,delete,list,watch",
            "pods/attach create",
            "pods/exec create",
            "secrets create,update,delete"
        ]
    );
    let (name, jobs) = (&scene.deployment, scene.job_namespace());
    for account in [
        scene.path("ServiceAccount"),
        format!("/api/v1/namespaces/{jobs}/serviceaccounts/{name}-job"),
        format!("/api/v1/namespaces/{jobs}/serviceaccounts/default"),
    ] {
        assert_eq!(get(account.clone())["automountServiceAccountToken"], json!(false), "{account}");
    }
    let labels = get(scene.path("job Namespace"))["metadata"]["labels"].clone();
    for (mode, level) in [("enforce", "baseline"), ("warn", "restricted"), ("audit", "restricted")] {
        assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], level);
        let version = &labels[format!("pod-security.kubernetes.io/{mode}-version")];
        assert!(version.as_str().is_some_and(|version| version.starts_with("v1.")), "pinned: {labels}");
    }
    let binding = get(scene.path("RoleBinding"));
    assert_eq!(binding["subjects"].as_array().map(Vec::len), Some(1));
    assert_eq!(binding["subjects"][0]["namespace"], json!(scene.runner_namespace()));
}

fn there_and_back(scene: &Scene<'_>, extra: &[&str]) {
    neighbours(scene);
    let before = world(scene.bed.admin());
    scene.bed.mark();
    let output = scene.setup().args(extra.iter().copied()).arg("-v").run().code(0);
    if scene.user == User::Admin {
        let _ = output.says("not needed: you may grant the Role's 5 rules yourself");
    }
    scene.watch_cluster_token();
    let requests = writes(scene.bed);
    // By POST alone: an apply would have taken over what somebody prepared under our names.
    let applied = requests.iter().filter(|request| request.query.contains("force=true"));
    assert_eq!(listing(&applied.cloned().collect::<Vec<_>>()), "");
    for (collection, number) in [("/serviceaccounts", 2), ("/secrets", 1), ("/namespaces", 2), ("/roles", 1)]
    {
        assert_eq!(count(&requests, "POST", collection), number, "{collection}\n{}", listing(&requests));
    }
    let bindings = count(&requests, "POST", "/rolebindings");
    let global = count(&requests, "POST", "/clusterrolebindings");
    let expected = match (scene.user, extra) {
        (User::Admin, _) => (1, 0),
        (_, []) => (2, 0),
        (_, _) => (1, 1),
    };
    assert_eq!((bindings, global), expected, "bindings made:\n{}", listing(&requests));
    assert_set_up(scene, &before);

    let standing = world(scene.bed.admin());
    scene.status().run().code(0);
    assert_same("status", &standing, &world(scene.bed.admin()));

    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(scene.bed.admin()));
    assert!(!scene.home.script(&scene.deployment).exists(), "teardown removes the launch script");
}

pub fn as_admin(bed: &dyn Bed) {
    there_and_back(&Scene::new(bed, User::Admin), &[]);
}

pub fn as_binder(bed: &dyn Bed) {
    there_and_back(&Scene::new(bed, User::Binder), &[]);
}

/// Runs something while the binder may bind cluster-wide, too: the article's way needs that.
pub fn binding_cluster_wide(bed: &dyn Bed, run: impl FnOnce()) {
    let rbac = "rbac.authorization.k8s.io";
    let role = bed.admin().create(&json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "binds-cluster-wide"},
        "rules": [{"apiGroups": [rbac], "resources": ["clusterrolebindings"],
            "verbs": ["get", "list", "create", "delete"]}],
    }));
    let binding = bed.admin().create(&json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "binds-cluster-wide"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "binds-cluster-wide"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": User::Binder.name()}],
    }));
    run();
    bed.admin().delete(&object_path(&binding));
    bed.admin().delete(&object_path(&role));
}

pub fn as_binder_with_cluster_admin(bed: &dyn Bed) {
    binding_cluster_wide(bed, || there_and_back(&Scene::new(bed, User::Binder), &["--cluster-admin"]));
}

pub fn as_limited(bed: &dyn Bed) {
    let mut scene = Scene::new(bed, User::Limited);
    neighbours(&scene);
    let before = world(bed.admin());
    bed.mark();
    let _ = scene.setup().fails("OR0403").says("create-role");
    assert_eq!(listing(&writes(bed)), "", "a refusal that is certain comes before the first write");
    assert_same("a refused setup", &before, &world(bed.admin()));

    // An administrator applies what the operator hands over.
    let printed = scene.command("create-role").arg("--print").run().code(0);
    let manifests = documents(&printed.stdout());
    for kind in ["ServiceAccount", "Role", "RoleBinding"] {
        assert!(manifests.iter().any(|m| m["kind"] == kind), "no {kind} in the manifests\n{printed}");
    }
    for manifest in &manifests {
        bed.admin().create(manifest);
    }
    scene.set_up();
    assert_set_up(&scene, &before);
    scene.status().run().code(0);

    // He may not list pods, so he may be unable to tell that a namespace is empty: then it stays, is
    // named, and somebody who may look finishes the work.
    let output = scene.teardown().run();
    if output.code == Some(5) {
        let _ = output.says(&scene.job_namespace());
        scene.switch(User::Admin);
        let _ = scene.teardown().run().code(0);
    } else {
        let _ = output.code(0);
    }
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

pub fn as_nobody(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Nobody);
    let before = world(bed.admin());
    bed.mark();
    scene.setup().fails("OR0402");
    assert_eq!(listing(&writes(bed)), "", "nothing was worth a try");
    assert_same("a refused setup", &before, &world(bed.admin()));
    assert!(!scene.home.script(&scene.deployment).exists());
}

pub fn without_the_record(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        neighbours(&scene);
        let before = world(bed.admin());
        scene.set_up();
        let standing = world(bed.admin());
        let colleague = scene.elsewhere(user);
        colleague.status().run().code(0);
        assert_same("status without the record", &standing, &world(bed.admin()));
        colleague.teardown().run().code(0);
        assert_same("teardown without the record", &before, &world(bed.admin()));
    }
}

pub fn foreign_inside(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let place = scene.job_namespace();
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "somebody-elses", "namespace": place}, "data": {"a": "b"}});
    let made = bed.admin().create(&foreign);
    let _ = scene.teardown().fails("OR0501").says(&place);
    assert_eq!(
        bed.admin().get(&format!("/api/v1/namespaces/{place}/configmaps/somebody-elses")),
        Some(made),
        "the foreign object is untouched"
    );
    assert!(
        bed.admin()
            .get(&scene.path("job Namespace"))
            .is_some_and(|namespace| { namespace["metadata"]["deletionTimestamp"].is_null() })
    );
    for kind in ["ServiceAccount", "Secret", "Role", "RoleBinding", "runner Namespace"] {
        assert_eq!(bed.admin().get(&scene.path(kind)), None, "{kind} is ours and goes");
    }
    // Once the foreign object is gone the same command finishes.
    bed.admin().delete(&format!("/api/v1/namespaces/{place}/configmaps/somebody-elses"));
    scene.teardown().run().code(0);
    assert_eq!(bed.admin().get(&scene.path("job Namespace")), None);
}

pub fn nothing_to_tear_down(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    bed.mark();
    scene.teardown().run().code(3).says("OR0208");
    scene.teardown().arg("--ignore-not-found").run().code(0);
    assert_eq!(listing(&writes(bed)), "");
    assert_same("teardown of nothing", &before, &world(bed.admin()));
}

pub fn running_jobs(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "runner-job-1", "namespace": scene.job_namespace(),
            "labels": {"manager.runner.gitlab.com/name": scene.deployment}},
        "spec": {"containers": [{"name": "build", "image": "alpine"}]}}));
    let standing = world(bed.admin());
    // A job that runs on is waited for, and nothing is taken away under it.
    scene.teardown().args(["--timeout", "4s"]).run().code(8).says("runner-job-1").says("--now");
    assert_same("a teardown that waited in vain", &standing, &world(bed.admin()));
    scene.teardown().args(["--now"]).run().code(0).says("deleted 1 job pod");
    assert_same("setup and teardown", &before, &world(bed.admin()));
}
