//! The cluster double against what real API servers were seen to do.

use std::time::{Duration, Instant};

use crate::client::Client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_doubles::cluster::{Action, FakeCluster, Fault, Options, seed_rbac};
use serde_json::{Value, json};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/jobs/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/jobs/rolebindings";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

fn seeded(options: Options) -> FakeCluster {
    let cluster = FakeCluster::start(options);
    let admin = Client::of(&cluster, "kubernetes-admin");
    for object in seed_rbac() {
        let plural = if object["kind"] == "ClusterRole" { "clusterroles" } else { "clusterrolebindings" };
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
        assert_eq!(admin.post(&path, &object).0, 201);
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jobs"}});
    assert_eq!(admin.post("/api/v1/namespaces", &namespace).0, 201);
    cluster
}

fn cluster() -> FakeCluster {
    seeded(Options::default())
}

fn role(name: &str, verbs: &[&str]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": verbs}],
    })
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
    })
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "it does not happen");
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

#[test]
fn escalation_is_refused_until_edit_is_bound() {
    let cluster = cluster();
    let binder = Client::of(&cluster, "binder@example.com");
    let limited = Client::of(&cluster, "limited@example.com");

    for user in [&binder, &limited] {
        let (code, answer) = user.post(ROLES, &role("runner", &["create", "get"]));
        assert_eq!((code, answer["reason"].as_str()), (403, Some("Forbidden")), "{answer}");
        assert!(
            message(&answer).starts_with("roles.rbac.authorization.k8s.io \"runner\" is forbidden: user \"")
                && message(&answer).contains(
                    "is attempting to grant RBAC permissions not currently held:\n\
                 {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\" \"get\"]}\n\
                 {APIGroups:[\"\"], Resources:[\"pods/exec\"], Verbs:[\"create\" \"get\"]}"
                ),
            "{answer}"
        );
    }
    let edit = |user| binding("temporary", "ClusterRole", "edit", user);
    assert_eq!(limited.post(BINDINGS, &edit("limited@example.com")).0, 403);
    assert_eq!(binder.post(BINDINGS, &edit("binder@example.com")).0, 201);
    assert_eq!(binder.post(ROLES, &role("runner", &["create", "get"])).0, 201);
    assert_eq!(binder.post(BINDINGS, &binding("runner", "Role", "runner", "somebody")).0, 201);
    assert_eq!(binder.delete(&format!("{BINDINGS}/temporary"), &json!({})).0, 200);

    // Unchanged passes, any change does not, not even a label.
    let path = format!("{ROLES}/runner?fieldManager=outrigger&force=true");
    assert_eq!(binder.apply(&path, &role("runner", &["create", "get"])).0, 200);
    let mut labelled = role("runner", &["create", "get"]);
    labelled["metadata"]["labels"] = json!({"new": "label"});
    let (code, answer) = binder.apply(&path, &labelled);
    assert!(code == 403 && message(&answer).contains("attempting to grant"), "{answer}");
}

#[test]
fn binding_a_missing_role_names_the_role() {
    let cluster = cluster();
    let binder = Client::of(&cluster, "binder@example.com");
    let (code, answer) = binder.post(BINDINGS, &binding("b", "Role", "missing", "somebody"));
    assert_eq!(code, 404);
    assert_eq!(message(&answer), "roles.rbac.authorization.k8s.io \"missing\" not found");
    let elsewhere = ROLES.replace("/jobs/", "/nowhere/");
    let (code, answer) = binder.post(&elsewhere, &role("runner", &["get"]));
    assert_eq!((code, message(&answer)), (404, "namespaces \"nowhere\" not found"));
}

#[test]
fn plain_refusals_read_like_the_real_ones() {
    let cluster = cluster();
    let nobody = Client::of(&cluster, "nobody@example.com");
    let (code, answer) = nobody.post("/api/v1/namespaces/jobs/pods", &json!({"metadata": {"name": "p"}}));
    assert_eq!(code, 403);
    assert_eq!(
        message(&answer),
        "pods is forbidden: User \"nobody@example.com\" cannot create resource \"pods\" in API group \"\" in the \
         namespace \"jobs\""
    );
    let (_, answer) = nobody.get("/api/v1/namespaces");
    assert!(message(&answer).ends_with("at the cluster scope"), "{answer}");
    assert_eq!(nobody.get("/version").1["gitVersion"], "v1.37.2");
    let stranger = Client::new(&cluster, "no-such-token");
    assert_eq!(stranger.get("/version").0, 401);
}

#[test]
fn dry_runs_check_and_store_nothing() {
    let cluster = cluster();
    let binder = Client::of(&cluster, "binder@example.com");
    let admin = Client::of(&cluster, "kubernetes-admin");
    std::thread::sleep(Duration::from_millis(10));
    let before = cluster.objects();
    let path = format!("{ROLES}?dryRun=All");
    assert_eq!(binder.post(&path, &role("runner", &["get"])).0, 403);
    assert_eq!(admin.post(&path, &role("runner", &["get"])).0, 201);
    let path = format!("{ROLES}/runner?dryRun=All&fieldManager=outrigger");
    assert_eq!(admin.apply(&path, &role("runner", &["get"])).0, 201);
    let cluster_role = json!({"metadata": {"name": "probe"}, "rules": role("x", &["get"])["rules"]});
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles?dryRun=All";
    assert_eq!(binder.post(path, &cluster_role).0, 403);
    let all = json!({"dryRun": ["All"]});
    assert_eq!(admin.delete("/api/v1/namespaces/jobs", &all).0, 200);
    assert_eq!(before, cluster.objects());
}

#[test]
fn token_secrets_are_filled_and_their_tokens_die_with_them() {
    let cluster = cluster();
    let admin = Client::of(&cluster, "kubernetes-admin");
    let accounts = "/api/v1/namespaces/jobs/serviceaccounts";
    let secrets = "/api/v1/namespaces/jobs/secrets";
    assert_eq!(admin.post(accounts, &json!({"metadata": {"name": "runner"}})).0, 201);
    let secret = json!({
        "metadata": {"name": "runner", "annotations": {"kubernetes.io/service-account.name": "runner"}},
        "type": "kubernetes.io/service-account-token",
    });
    let (code, made) = admin.post(secrets, &secret);
    assert!(code == 201 && made["data"].is_null(), "{made}");
    let path = format!("{secrets}/runner");
    let encoded = eventually(|| admin.get(&path).1["data"]["token"].as_str().map(str::to_owned));
    let token = String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("text");
    assert_eq!(token.split('.').count(), 3);
    let runner = Client::new(&cluster, &token);
    let (code, review) = runner.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}));
    assert_eq!(code, 201);
    assert_eq!(review["status"]["userInfo"]["username"], "system:serviceaccount:jobs:runner");
    assert!(review["status"]["userInfo"]["extra"].is_null());

    let bound = json!({"spec": {"expirationSeconds": 7200,
        "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "runner"}}});
    let (code, request) = admin.post(&format!("{accounts}/runner/token"), &bound);
    assert_eq!(code, 201);
    let short = Client::new(&cluster, request["status"]["token"].as_str().expect("a token"));
    let (_, review) = short.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}));
    let extra = &review["status"]["userInfo"]["extra"]["authentication.kubernetes.io/credential-id"];
    assert!(extra[0].as_str().is_some_and(|id| id.starts_with("JTI=")), "{review}");
    let hasty = json!({"spec": {"expirationSeconds": 60}});
    assert_eq!(admin.post(&format!("{accounts}/runner/token"), &hasty).0, 422);

    // Another object's uid deletes nothing.
    let wrong = json!({"preconditions": {"uid": "another"}});
    let (code, answer) = admin.delete(&path, &wrong);
    assert_eq!((code, answer["reason"].as_str()), (409, Some("Conflict")));
    let right = json!({"preconditions": {"uid": made["metadata"]["uid"]}});
    assert_eq!(admin.delete(&path, &right).0, 200);
    assert_eq!(runner.get("/version").0, 401);
    assert_eq!(short.get("/version").0, 401);
}

#[test]
fn token_secrets_without_an_account_vanish() {
    let cluster = cluster();
    let secret = json!({
        "metadata": {"name": "lost", "annotations": {"kubernetes.io/service-account.name": "none"}},
        "type": "kubernetes.io/service-account-token",
    });
    cluster.put("/api/v1/namespaces/jobs/secrets", secret);
    eventually(|| (!cluster.objects().contains_key("v1/Secret/jobs/lost")).then_some(()));
}

#[test]
fn rules_reviews_list_what_is_held() {
    let cluster = cluster();
    let binder = Client::of(&cluster, "binder@example.com");
    let rules = format!("{REVIEWS}/selfsubjectrulesreviews");
    let ask = json!({"spec": {"namespace": "jobs"}});
    let (code, review) = binder.post(&rules, &ask);
    assert_eq!((code, &review["status"]["incomplete"]), (201, &json!(false)));
    let listed = |review: &Value, resource: &str| {
        let rules = review["status"]["resourceRules"].as_array().cloned().unwrap_or_default();
        rules
            .iter()
            .any(|rule| rule["resources"].as_array().is_some_and(|list| list.contains(&json!(resource))))
    };
    assert!(listed(&review, "secrets") && !listed(&review, "pods"));
    let edit = binding("temporary", "ClusterRole", "edit", "binder@example.com");
    assert_eq!(binder.post(BINDINGS, &edit).0, 201);
    assert!(listed(&binder.post(&rules, &ask).1, "pods"));

    let access = |namespace: &str| {
        let wish =
            json!({"verb": "create", "resource": "pods", "subresource": "exec", "namespace": namespace});
        let body = json!({"spec": {"resourceAttributes": wish}});
        binder.post(&format!("{REVIEWS}/selfsubjectaccessreviews"), &body).1["status"]["allowed"].clone()
    };
    assert_eq!((access("jobs"), access("default")), (json!(true), json!(false)));
}

#[test]
fn apply_respects_managers() {
    let cluster = cluster();
    let admin = Client::of(&cluster, "kubernetes-admin");
    let path = "/api/v1/namespaces/jobs/serviceaccounts";
    let object = |labels: Value| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "labels": labels}});
    assert_eq!(admin.post(&format!("{path}?fieldManager=one"), &object(json!({"k": "1", "m": "1"}))).0, 201);
    let one = format!("{path}/a?fieldManager=one");
    // A create and an apply in one name are two managers.
    let (code, answer) = admin.apply(&one, &object(json!({"k": "2", "n": "1"})));
    assert_eq!((code, answer["reason"].as_str()), (409, Some("Conflict")), "{answer}");
    assert_eq!(answer["details"]["causes"][0]["field"], ".metadata.labels.k");
    let (code, forced) = admin.apply(&format!("{one}&force=true"), &object(json!({"k": "2", "n": "1"})));
    assert_eq!((code, &forced["metadata"]["labels"]), (200, &json!({"k": "2", "m": "1", "n": "1"})));
    // The same again changes nothing; what is left out goes, if it was ours alone.
    let (_, again) = admin.apply(&one, &object(json!({"k": "2", "n": "1"})));
    assert_eq!(again["metadata"]["resourceVersion"], forced["metadata"]["resourceVersion"]);
    let (_, fewer) = admin.apply(&one, &object(json!({"k": "2"})));
    assert_eq!(fewer["metadata"]["labels"], json!({"k": "2", "m": "1"}));

    let mut stale = object(json!({"k": "3"}));
    stale["metadata"]["resourceVersion"] = again["metadata"]["resourceVersion"].clone();
    assert_eq!(admin.apply(&format!("{one}&force=true"), &stale).0, 409);
    let mut other = object(json!({"k": "3"}));
    other["metadata"]["uid"] = "another".into();
    assert_eq!(admin.apply(&format!("{one}&force=true"), &other).0, 422);
}

#[test]
fn role_refs_never_change_and_names_are_checked() {
    let cluster = cluster();
    let admin = Client::of(&cluster, "kubernetes-admin");
    assert_eq!(admin.post(BINDINGS, &binding("b", "ClusterRole", "edit", "u")).0, 201);
    let path = format!("{BINDINGS}/b?fieldManager=m&force=true");
    let (code, answer) = admin.apply(&path, &binding("b", "ClusterRole", "view", "u"));
    assert!(code == 422 && message(&answer).contains("cannot change roleRef"), "{answer}");
    let bad = json!({"metadata": {"name": "Bad_Name"}});
    assert_eq!(admin.post("/api/v1/namespaces/jobs/secrets", &bad).0, 422);
    let long = json!({"metadata": {"name": "x", "labels": {"k": "v".repeat(64)}}});
    assert_eq!(admin.post("/api/v1/namespaces/jobs/secrets", &long).0, 422);
}

#[test]
fn namespaces_are_furnished_and_emptied() {
    let cluster = cluster();
    let admin = Client::of(&cluster, "kubernetes-admin");
    eventually(|| cluster.objects().contains_key("v1/ServiceAccount/jobs/default").then_some(()));
    assert!(cluster.objects().contains_key("v1/ConfigMap/jobs/kube-root-ca.crt"));
    let (code, namespace) = admin.delete("/api/v1/namespaces/jobs", &json!({}));
    assert_eq!((code, namespace["status"]["phase"].as_str()), (200, Some("Terminating")));
    let (code, answer) = admin.post("/api/v1/namespaces/jobs/secrets", &json!({"metadata": {"name": "x"}}));
    assert_eq!((code, &answer["details"]["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    eventually(|| (admin.get("/api/v1/namespaces/jobs").0 == 404).then_some(()));
    assert!(!cluster.objects().keys().any(|key| key.contains("/jobs/")));
}

#[test]
fn faults_hit_whom_they_are_meant_for() {
    let cluster = cluster();
    let admin = Client::of(&cluster, "kubernetes-admin");
    let secrets = "/api/v1/namespaces/jobs/secrets";
    let fault = |skip, action| Fault {
        method: Some("POST".to_owned()),
        path_contains: "/secrets".to_owned(),
        query_contains: String::new(),
        skip,
        times: 1,
        action,
    };
    cluster.inject(fault(1, Action::Status(503, "ServiceUnavailable".to_owned(), "later".to_owned())));
    let named = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(admin.post(secrets, &named("a")).0, 201);
    assert_eq!(admin.post(secrets, &named("b")).0, 503);
    assert_eq!(admin.post(secrets, &named("b")).0, 201);
    cluster.clear_requests();
    cluster.inject(fault(0, Action::ResetAfter));
    assert_eq!(admin.post(secrets, &named("c")).0, 0);
    assert!(cluster.objects().contains_key("v1/Secret/jobs/c"));
    let log = cluster.requests();
    assert_eq!((log.len(), log[0].status, log[0].user.as_str()), (1, 0, "kubernetes-admin"));
}
