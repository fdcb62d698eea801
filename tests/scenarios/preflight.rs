//! `preflight`: what could fail later is found now, and said at once.

use serde_json::json;

use super::bed::namespace;
use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::run::Output;
use crate::common::world::{assert_same, world};

/// Runs it; whatever it finds, it writes nothing.
fn preflight(scene: &Scene<'_>, extra: &[&str], code: i32) -> Output {
    let before = world(scene.bed.admin());
    scene.bed.mark();
    let output = scene.command("preflight").args(extra.iter().copied()).run().code(code);
    assert_eq!(listing(&writes(scene.bed)), "", "preflight never writes");
    assert_same("preflight", &before, &world(scene.bed.admin()));
    output
}

/// The outcome of one check in the JSON lines.
fn outcome(output: &Output, name: &str) -> String {
    let lines = output.json_lines();
    let check = lines.iter().find(|line| line["type"] == "check" && line["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}\n{output}"));
    check["outcome"].as_str().unwrap_or_default().to_owned()
}

pub fn all_well(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let output = preflight(&scene, &[], 0)
        .says("binder@example.com")
        .says("all 14 rights")
        .says("verifies https://")
        .says("edit for binder@example.com")
        .says("All checks passed; some cannot run yet");
    // Nobody named a GitLab: not looked at, and said so.
    let _ = output.says("skipped: the launch script needs the GitLab URL");
    let _ = preflight(&scene, &["-v"], 0)
        .says(&format!("roles create (rbac.authorization.k8s.io) in {}", scene.job_namespace()));
    scene.set_up();
    let output = preflight(&scene, &["-o", "json"], 0);
    for (name, expected) in
        [("server", "pass"), ("rights", "skipped"), ("create-role", "pass"), ("bind-admin", "pass")]
    {
        assert_eq!(outcome(&output, name), expected, "{name}\n{output}");
    }
}

/// A foreign namespace, one that is being deleted, and a right that is missing: all in one answer.
pub fn everything_at_once(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Limited);
    let (runner, jobs) = (scene.runner_namespace(), scene.job_namespace());
    bed.admin().create(&namespace(&runner));
    bed.admin().create(&namespace(&jobs));
    // A finalizer of somebody's keeps it from going.
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "holds-on", "namespace": jobs, "finalizers": ["example.com/hold"]}});
    bed.admin().create(&held);
    bed.admin().delete(&format!("/api/v1/namespaces/{jobs}"));
    let place = format!("/api/v1/namespaces/{jobs}/configmaps/holds-on");
    let leaving = |value: &serde_json::Value| value["metadata"]["deletionTimestamp"].is_string();
    while !bed.admin().get(&place).is_some_and(|held| leaving(&held)) {}

    bed.mark();
    let output = scene.command("preflight").run().code(7);
    let output = output.says(&format!("Namespace {runner} exists and was not created by this deployment"));
    let output = output.says(&format!("the namespace {jobs} is being deleted")).says("wait for the deletion");
    let _ = output.says("limited@example.com may not grant the Role").says("kubectl apply -f role.yaml");
    assert_eq!(listing(&writes(bed)), "", "preflight never writes");

    bed.admin().patch(&place, &json!({"metadata": {"finalizers": null}}));
    bed.admin().delete(&format!("/api/v1/namespaces/{runner}"));
    let _ = world(bed.admin());
}

pub fn rights_are_named(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Nobody);
    let output = preflight(&scene, &[], 4).says("nobody@example.com lacks 14 rights");
    for right in ["namespaces create", "secrets create", "serviceaccounts patch", "roles create"] {
        assert!((output.stdout() + &output.stderr()).contains(right), "{right}\n{output}");
    }
}

/// Where the cluster does not answer, nothing else is guessed.
pub fn unreachable(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let closed = crate::common::bed::kubeconfig_yaml(
        "gone",
        "https://127.0.0.1:1",
        &bed.ca_pem(),
        "me",
        "none-at-all",
    );
    let closed = scene.home.kubeconfig("closed.kubeconfig", &closed);
    let command = scene.command("preflight").flag("--kubeconfig", closed).flag("--timeout", "5s");
    command.run().code(8).says("everything else").says("skipped: requires the cluster");
}
