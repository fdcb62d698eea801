//! What a cluster can be told to be like, and the finer points of the wire.

use std::time::{Duration, Instant};

use crate::client::Client;
use outrigger_doubles::cluster::{Action, FakeCluster, Fault, Options};
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn token_secret() -> Value {
    json!({
        "metadata": {"name": "runner", "annotations": {"kubernetes.io/service-account.name": "runner"}},
        "type": "kubernetes.io/service-account-token",
    })
}

fn with_runner(options: Options) -> (FakeCluster, Client) {
    let cluster = FakeCluster::start(options);
    let admin = Client::of(&cluster, "kubernetes-admin");
    assert_eq!(admin.post(ACCOUNTS, &json!({"metadata": {"name": "runner"}})).0, 201);
    (cluster, admin)
}

#[test]
fn the_token_controller_can_be_off() {
    let (cluster, admin) = with_runner(Options { token_controller: false, ..Options::default() });
    assert_eq!(admin.post(SECRETS, &token_secret()).0, 201);
    let path = format!("{SECRETS}/runner");
    std::thread::sleep(Duration::from_millis(40));
    assert!(admin.get(&path).1["data"].is_null());
    cluster.set_token_controller(true);
    std::thread::sleep(Duration::from_millis(40));
    let filled = admin.get(&path).1;
    assert!(filled["data"]["ca.crt"].is_string() && filled["data"]["token"].is_string());
    // The account takes its Secret along.
    assert_eq!(admin.delete(&format!("{ACCOUNTS}/runner"), &json!({})).0, 200);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(admin.get(&path).0, 404);
}

#[test]
fn lifetimes_are_capped_without_a_word_and_revocation_may_lag() {
    let day = Some(Duration::from_secs(86_400));
    let lag = Duration::from_millis(300);
    let (cluster, admin) =
        with_runner(Options { max_token_lifetime: day, revocation_lag: lag, ..Options::default() });
    let ask = json!({"spec": {"expirationSeconds": 864_000}});
    let (code, answer) = admin.post(&format!("{ACCOUNTS}/runner/token"), &ask);
    assert_eq!((code, &answer["spec"]["expirationSeconds"]), (201, &json!(86_400)));
    let runner = Client::new(&cluster, answer["status"]["token"].as_str().expect("a token"));
    assert_eq!(runner.post(WHO, &json!({})).0, 201);
    assert_eq!(admin.delete(&format!("{ACCOUNTS}/runner"), &json!({})).0, 200);
    assert_eq!(runner.post(WHO, &json!({})).0, 201);
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(runner.post(WHO, &json!({})).0, 401);
}

#[test]
fn connections_are_kept_and_requests_take_their_time() {
    let cluster = FakeCluster::start(Options { delay: Duration::from_millis(20), ..Options::default() });
    let admin = Client::of(&cluster, "kubernetes-admin");
    let started = Instant::now();
    let answers = admin.send_all(&["/version", "/readyz", "/api/v1/namespaces/default"]);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert!(started.elapsed() >= Duration::from_millis(60));
    let log = cluster.requests();
    assert!(log.iter().all(|entry| entry.status == 200 && entry.finished.is_some()));
    assert_eq!(log.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn impersonation_needs_the_right_to_it() {
    let (cluster, admin) = with_runner(Options::default());
    let name = "system:serviceaccount:default:runner";
    let (code, answer) = admin.posing_as(name).post(WHO, &json!({}));
    assert_eq!((code, &answer["status"]["userInfo"]["username"]), (201, &json!(name)));
    let nobody = Client::of(&cluster, "nobody@example.com");
    let (code, answer) = nobody.posing_as(name).post(WHO, &json!({}));
    let expected = "serviceaccounts \"runner\" is forbidden: User \"nobody@example.com\" cannot impersonate \
                    resource \"serviceaccounts\" in API group \"\" in the namespace \"default\"";
    assert_eq!((code, answer["message"].as_str()), (403, Some(expected)));
}

#[test]
fn hooks_run_after_or_before_the_request_counts() {
    let (cluster, admin) = with_runner(Options::default());
    let (sender, called) = std::sync::mpsc::channel();
    for (path, applied) in [("/secrets", true), ("/configmaps", false)] {
        let sender = sender.clone();
        let hook = Box::new(move || sender.send(()).expect("the test listens"));
        let action = if applied { Action::KillAfter(hook) } else { Action::KillBefore(hook) };
        let (method, path_contains) = (Some("POST".to_owned()), path.to_owned());
        let query_contains = String::new();
        cluster.inject(Fault { method, path_contains, query_contains, skip: 0, times: 1, action });
    }
    let object = json!({"metadata": {"name": "x"}});
    assert_eq!(admin.post(SECRETS, &object).0, 0);
    assert_eq!(admin.post("/api/v1/namespaces/default/configmaps", &object).0, 0);
    assert_eq!(called.try_iter().count(), 2);
    assert!(cluster.objects().contains_key("v1/Secret/default/x"));
    assert!(!cluster.objects().contains_key("v1/ConfigMap/default/x"));
}

#[test]
fn lists_are_filtered_and_come_in_portions() {
    let (_cluster, admin) = with_runner(Options::default());
    for name in ["a", "b", "c"] {
        let label = if name == "b" { "yes" } else { "no" };
        let object = json!({"metadata": {"name": name, "labels": {"wanted": label}}});
        assert_eq!(admin.post(SECRETS, &object).0, 201);
    }
    let names = |query: &str| {
        let list = admin.get(&format!("{SECRETS}?{query}")).1;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> =
            items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect();
        (names.join(","), list["metadata"]["continue"].as_str().map(str::to_owned))
    };
    assert_eq!(names("labelSelector=wanted%3Dyes"), ("b".to_owned(), None));
    assert_eq!(names("limit=2"), ("a,b".to_owned(), Some("2".to_owned())));
    assert_eq!(names("limit=2&continue=2"), ("c".to_owned(), None));
    assert_eq!(names("fieldSelector=metadata.name%3Dc").0, "c");
}

#[test]
fn malformed_bodies_are_refused_and_kubeconfigs_are_complete() {
    let (cluster, admin) = with_runner(Options::default());
    for body in [json!("text"), json!({"metadata": 1}), json!({"metadata": {"name": "x", "labels": []}})] {
        assert_eq!(admin.post(SECRETS, &body).0, 400, "{body}");
    }
    let wrong = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}});
    assert_eq!(admin.post(SECRETS, &wrong).0, 400);
    let config = cluster.kubeconfig("binder@example.com");
    for needle in ["current-context: \"double\"", &cluster.url(), &cluster.token("binder@example.com")] {
        assert!(config.contains(needle), "{config}");
    }
}
