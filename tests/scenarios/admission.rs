//! A policy, a quota or a webhook that refuses is none of the operator's missing rights: it is found
//! before anything is made, named as the server names it, and the way on is said.

use std::sync::Arc;

use outrigger_doubles::cluster::{By, Rule};
use serde_json::{Value, json};

use super::bed::namespace;
use super::{Scene, listing, writes};
use crate::common::admin::object_path;
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Output};
use crate::common::shell::{Shell, commands};
use crate::common::world::{assert_same, world};

const RBAC: &str = "rbac.authorization.k8s.io";
const POLICY: &str = "keepers-need-owner";
const BINDING: &str = "keepers-need-owner-everywhere";
const WEBHOOK: &str = "validation.gatekeeper.example.com";

/// Rules that stand until this is dropped.
pub struct Rules<'a> {
    bed: &'a dyn Bed,
    probe: Value,
}

impl<'a> Rules<'a> {
    pub fn new(bed: &'a dyn Bed, rules: &[Rule], probe: Value) -> Self {
        bed.set_rules(rules, &probe);
        Self { bed, probe }
    }
}

impl Drop for Rules<'_> {
    fn drop(&mut self) {
        self.bed.set_rules(&[], &self.probe);
    }
}

pub fn policy_by(reason: &str) -> By {
    By::Policy { name: POLICY.to_owned(), binding: BINDING.to_owned(), reason: reason.to_owned() }
}

fn webhook_by(code: u16) -> By {
    By::Webhook { name: WEBHOOK.to_owned(), code }
}

/// Namespaces need the label `owner`.
pub fn need_owner(by: By) -> Rule {
    Rule {
        by,
        group: String::new(),
        plural: "namespaces".to_owned(),
        passes: Arc::new(|object| object["metadata"]["labels"]["owner"].is_string()),
        cel: "has(object.metadata.labels) && 'owner' in object.metadata.labels".to_owned(),
        message: "you must provide labels: {owner}".to_owned(),
    }
}

/// Nothing of this kind passes, except what the test itself makes.
fn no(by: By, group: &str, plural: &str) -> Rule {
    Rule {
        by,
        group: group.to_owned(),
        plural: plural.to_owned(),
        passes: Arc::new(|object| {
            object["metadata"]["labels"]["app.kubernetes.io/managed-by"] != "outrigger"
        }),
        cel: "!has(object.metadata.labels) || !('app.kubernetes.io/managed-by' in object.metadata.labels)"
            .to_owned(),
        message: "not here".to_owned(),
    }
}

/// No Secrets of type service-account-token.
pub fn no_token_secrets(by: By) -> Rule {
    let kind = "kubernetes.io/service-account-token";
    Rule {
        by,
        group: String::new(),
        plural: "secrets".to_owned(),
        passes: Arc::new(move |object| object["type"] != kind),
        cel: format!("!has(object.type) || object.type != '{kind}'"),
        message: "Long-lived API tokens are not allowed.".to_owned(),
    }
}

/// An object of a kind that outrigger makes, in a namespace that always exists.
fn probe(api_version: &str, kind: &str, body: &Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "name": "probe", "namespace": "default", "labels": {"app.kubernetes.io/managed-by": "outrigger"},
        "annotations": {"kubernetes.io/service-account.name": "default"}}});
    object.as_object_mut().expect("an object").extend(body.as_object().cloned().unwrap_or_default());
    object
}

pub fn token_probe() -> Value {
    probe("v1", "Secret", &json!({"type": "kubernetes.io/service-account-token"}))
}

/// What the refusal of a rule never says: that somebody lacks a right, or that another try helps.
fn no_right_is_missing(output: Output) -> Output {
    let output = output.never_says("ask an administrator").never_says("or use another context");
    output.never_says("goes on from here").never_says("All checks")
}

/// Finds it in `preflight`, in the plan and in `setup`, each before anything is made.
fn refused_before(scene: &Scene<'_>, extra: &[&str], code: i32) -> Output {
    let change = |cli: Cli<'_>| cli.args(extra.iter().copied()).run().code(code);
    let before = world(scene.bed.admin());
    scene.bed.mark();
    let _ = no_right_is_missing(change(scene.command("preflight")));
    let _ = no_right_is_missing(change(scene.setup().arg("--dry-run")));
    let output = no_right_is_missing(change(scene.setup()));
    assert_eq!(listing(&writes(scene.bed)), "", "found before the first write");
    assert_same("a refused setup", &before, &world(scene.bed.admin()));
    output
}

fn needs_owner(bed: &dyn Bed, user: User, by: By, named: &[&str]) {
    let scene = Scene::new(bed, user);
    let before = world(bed.admin());
    let rules = Rules::new(bed, &[need_owner(by)], namespace("probe"));
    let mut output = refused_before(&scene, &[], 3).says("OR0331").says("you must provide labels: {owner}");
    for name in named.iter().chain(&["--namespace-label", "--use-namespace"]) {
        output = output.says(name);
    }
    // Both namespaces are named, and the rule once.
    let _ = output.says(&scene.runner_namespace()).says(&scene.job_namespace());
    let labelled = || {
        let marks = [
            "--namespace-label",
            "owner=platform,team=ci",
            "--namespace-annotation",
            "example.com/note=a, b",
        ];
        scene.setup().args(marks)
    };
    labelled()
        .arg("--dry-run")
        .run()
        .code(0)
        .says("label owner=platform")
        .says("annotation example.com/note=a, b");
    labelled().run().code(0);
    for kind in ["runner Namespace", "job Namespace"] {
        let metadata = bed.admin().get(&scene.path(kind)).expect("it was made")["metadata"].clone();
        assert_eq!(
            (&metadata["labels"]["owner"], &metadata["labels"]["team"]),
            (&json!("platform"), &json!("ci"))
        );
        assert_eq!(metadata["annotations"]["example.com/note"], "a, b");
    }
    // They are remembered: the next run asks for nothing and changes nothing.
    bed.mark();
    scene.setup().run().code(0);
    assert_eq!(listing(&writes(bed)), "");
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    drop(rules);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

pub fn policy(bed: &dyn Bed) {
    needs_owner(bed, User::Binder, policy_by(""), &[POLICY, BINDING]);
}

pub fn forbidding_policy(bed: &dyn Bed) {
    needs_owner(bed, User::Admin, policy_by("Forbidden"), &[POLICY, BINDING]);
}

/// As Gatekeeper (403), Kyverno (400) and others (422) answer.
pub fn webhook(bed: &dyn Bed) {
    needs_owner(bed, User::Binder, webhook_by(403), &[WEBHOOK]);
    for code in [400, 422] {
        let scene = Scene::new(bed, User::Admin);
        let _rules = Rules::new(bed, &[need_owner(webhook_by(code))], namespace("probe"));
        let _ = refused_before(&scene, &[], 3).says("OR0331").says(WEBHOOK).says("--namespace-label");
    }
}

/// Nobody answers, and nothing passes meanwhile: said at once, and not for want of time.
pub fn webhook_down(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let dead = By::Dead { name: WEBHOOK.to_owned(), url: "https://127.0.0.1:1/".to_owned() };
    let rules = Rules::new(bed, &[need_owner(dead)], namespace("probe"));
    scene.setup().fails("OR0821");
    let output = refused_before(&scene, &[], 8).says(WEBHOOK).says("does not respond");
    let _ = output.says("connection refused").never_says("to wait longer").never_says("retry");
    drop(rules);
    scene.setup().run().code(0);
    scene.teardown().run().code(0);
}

/// Where the namespace is there, the Secret is looked at beforehand; where it is not, nothing is claimed,
/// and the refusal names the way on all the same.
pub fn token_secrets(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    let rules = Rules::new(bed, &[no_token_secrets(policy_by(""))], token_probe());
    let output = scene.command("preflight").run().code(0).says("5 objects not checked yet");
    let output =
        output.says(&format!("Secret {0}/{0}-token: the namespace {0} does not exist yet", scene.deployment));
    let _ = output.says("All checks passed; some cannot run yet");
    // Its rights are looked at as well; it is one object all the same.
    let binder = Scene::new(bed, User::Binder);
    let output = binder.command("preflight").run().code(0);
    let role = format!("Role {0}-jobs/{0}:", binder.deployment);
    assert_eq!(output.stdout().matches(&role).count(), 1, "{output}");
    let output = scene.setup().run().code(5).says("Long-lived API tokens are not allowed.");
    let _ = no_right_is_missing(output).says("OR0331").says(POLICY).says("--token-lifetime 365d");
    // Now that the namespace is there, the plan finds it, and the printed way leads on.
    scene.setup().fails("OR0331");
    let output = refused_before(&scene, &[], 3).says("--token-lifetime 365d");
    assert!(commands(&output).iter().any(|line| line.contains("--token-lifetime 365d")), "{output}");
    scene.setup().args(["--token-lifetime", "365d"]).run().code(0);
    scene.status().run().code(0);
    scene.teardown().run().code(0);
    drop(rules);
    assert_same("setup and teardown", &before, &world(bed.admin()));
}

/// Every object that setup makes is looked at where its namespace exists.
pub fn inside(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let (runner, jobs) = (scene.runner_namespace(), scene.job_namespace());
    bed.admin().create(&namespace(&runner));
    bed.admin().create(&namespace(&jobs));
    let role_ref = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"});
    for (api_version, kind, plural, body) in [
        ("v1", "ServiceAccount", "serviceaccounts", json!({})),
        ("v1", "Secret", "secrets", json!({})),
        ("rbac.authorization.k8s.io/v1", "Role", "roles", json!({"rules": []})),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", json!({"roleRef": role_ref})),
    ] {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let _rules =
            Rules::new(bed, &[no(policy_by("Forbidden"), group, plural)], probe(api_version, kind, &body));
        let used = format!("{runner},{jobs}");
        let output = refused_before(&scene, &["--use-namespace", &used, "--accept-shared-namespace"], 3);
        let _ = output.says("OR0331").says(POLICY).says(&format!("cannot create {kind} "));
    }
    bed.admin().delete(&format!("/api/v1/namespaces/{runner}"));
    bed.admin().delete(&format!("/api/v1/namespaces/{jobs}"));
    let _ = world(bed.admin());
}

/// A quota on Secrets: no right is missing, and another kind of token would not help.
pub fn quota(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let before = world(bed.admin());
    let runner = scene.runner_namespace();
    bed.admin().create(&namespace(&runner));
    let quota = bed.admin().create(&json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "few-secrets", "namespace": runner}, "spec": {"hard": {"secrets": "0"}}}));
    // No controller of the tests counts: the namespace is empty.
    let counted = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}});
    bed.admin().patch(&format!("{}/status", object_path(&quota)), &counted);
    scene.setup().args(["--use-namespace", &runner]).fails("OR0332");
    let output = refused_before(&scene, &["--use-namespace", &runner], 3);
    let output = output.says("few-secrets").says("exceeded quota").never_says("--token-lifetime");
    let describe = format!("describe resourcequota -n {runner} few-secrets");
    assert!(commands(&output).iter().any(|line| line.ends_with(&describe)), "{output}");
    bed.admin().delete(&format!("/api/v1/namespaces/{runner}"));
    assert_same("a refused setup", &before, &world(bed.admin()));
}

/// A namespace of others may refuse jobs, which setup itself never makes: said beforehand, as a warning.
pub fn jobs(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    let jobs = scene.job_namespace();
    bed.admin().create(&namespace(&jobs));
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "LimitRange",
        "metadata": {"name": "pods", "namespace": jobs},
        "spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}}));
    let standing = world(bed.admin());
    let used = ["--use-namespace", &jobs, "--accept-shared-namespace"];
    let warned = |output: Output| {
        let output = output.says("a LimitRange forbids it").says("maximum cpu usage per Pod is 2");
        output.says("--runner-config").says(&format!("describe limitrange -n {jobs}"))
    };
    let _ = warned(scene.command("preflight").args(used).run().code(0));
    let _ = warned(scene.setup().arg("--dry-run").args(used).run().code(0)).says("job pods will be rejected");
    let limits = scene.home.input(
        "limits.toml",
        "[[runners]]\n[runners.kubernetes]\ncpu_limit = \"1\"\nhelper_cpu_limit = \"1\"\n",
    );
    let output = scene.setup().arg("--dry-run").args(used).flag("--runner-config", limits).run().code(0);
    let _ = output.never_says("LimitRange");
    // Who may not make pods is told that nobody asked.
    let other = scene.elsewhere(User::Binder);
    let output = other.command("preflight").args(used).arg("--allow-temporary-edit").run().code(0);
    let _ = output.says(&format!("Pod {jobs}/")).says("you may not create pods and Secrets of jobs yourself");
    assert_same("looking", &standing, &world(bed.admin()));
    bed.admin().delete(&format!("/api/v1/namespaces/{jobs}"));
    assert_same("all of it", &before, &world(bed.admin()));
}

/// Labels are set at creation; what is asked for later is named with the command that sets it.
pub fn labels(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    scene.set_up();
    bed.mark();
    let change = || scene.setup().flag("--namespace-label", "owner=platform");
    let output = change().run().code(0).says("owner=platform is not on it").says("only at creation");
    assert_eq!(listing(&writes(bed)), "", "a live namespace is not relabelled");
    let shell = Shell::new(&scene.home, bed.admin(), bed.kubectl(), &bed.kubeconfig(User::Admin));
    let lines: Vec<_> =
        commands(&output).into_iter().filter(|line| line.contains(" label namespace ")).collect();
    assert_eq!(lines.len(), 2, "{output}");
    shell.run_all(&lines);
    scene.status().run().code(0).never_says("is not on it");
    scene.teardown().run().code(0);
    assert_same("setup and teardown", &before, &world(bed.admin()));
    for bad in ["owner", "pod-security.kubernetes.io/enforce=privileged", "outrigger.dev/id=x", "a=1,a=2"] {
        scene.setup().flag("--namespace-label", bad).run().code(2).says("--namespace-label");
    }
}

/// `OpenShift`: who may request projects may create no namespace.
pub fn self_provisioner(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Nobody);
    let (runner, jobs) = (scene.runner_namespace(), scene.job_namespace());
    let _ = scene.command("preflight").run().code(4).never_says("oc new-project").says("--use-namespace");
    let role = bed.admin().create(&json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": {"name": "self-provisioner"},
        "rules": [{"apiGroups": ["project.openshift.io"], "resources": ["projectrequests"], "verbs": ["create"]}]}));
    let binding = bed.admin().create(&json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "self-provisioners"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "self-provisioner"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": User::Nobody.name()}],
    }));
    for command in [scene.command("preflight"), scene.setup()] {
        let output = command.run().code(4).says("nobody@example.com lacks");
        let text = output.stdout() + &output.stderr();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for namespace in [&runner, &jobs] {
            assert!(lines.contains(&format!("oc new-project {namespace}").as_str()), "{output}");
        }
        let used = format!("--use-namespace {runner},{jobs}");
        assert!(
            lines.iter().any(|line| line.starts_with("outrigger setup") && line.contains(&used)),
            "{output}"
        );
    }
    bed.admin().delete(&object_path(&binding));
    bed.admin().delete(&object_path(&role));
}
