//! The GitLab double: what goes wrong between a client and GitLab, and how GitLab says no for reasons of
//! its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Caller, SHOP, message};
use outrigger_doubles::gitlab::{Action, FakeGitlab, Fault, Options, PROJECT, ProjectSpec, TokenSpec};
use outrigger_doubles::http::Http;
use serde_json::{Value, json};

fn wish(gitlab: &FakeGitlab) -> Value {
    json!({"runner_type": "project_type", "project_id": gitlab.project_id(PROJECT)})
}

#[test]
fn it_lives_with_and_without_tls_and_under_a_path() {
    for tls in [true, false] {
        for root in ["", "/gitlab"] {
            let options = Options { tls, relative_root: root.to_owned(), ..Options::default() };
            let gitlab = FakeGitlab::start(options);
            assert!(gitlab.url().starts_with(if tls { "https://" } else { "http://" }));
            assert!(gitlab.url().ends_with(root) && gitlab.url().contains(&gitlab.port().to_string()));
            let shown = Caller::of(&gitlab, "maintainer").get(SHOP);
            assert_eq!(shown.status, 200);
            assert_eq!(shown.json()["web_url"], format!("{}/acme/shop", gitlab.url()));
            // Beside the API there are pages for people.
            let bare = gitlab.url().trim_end_matches(root).to_owned();
            let outside = Http::new(&bare, &gitlab.ca_pem());
            let page = outside.send("GET", &format!("{root}/"), &[], b"").expect("an answer");
            assert_eq!(
                (page.status, page.header("location")),
                (302, format!("{}/users/sign_in", gitlab.url()).as_str())
            );
            let lost = outside.send("GET", "/elsewhere/api/v4/version", &[], b"").expect("an answer");
            assert_eq!((lost.status, lost.header("content-type")), (404, "text/html; charset=utf-8"));
        }
    }
}

#[test]
fn every_answer_has_an_id_and_says_what_it_is() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    for path in ["/user", "/nothing", "/runners/1", SHOP] {
        let reply = caller.get(path);
        let logged = gitlab.requests().pop().expect("an entry");
        assert_eq!(
            (reply.header("x-request-id"), reply.header("content-type")),
            (logged.request_id.as_str(), "application/json")
        );
        assert_eq!((reply.status, logged.path), (logged.status, format!("/api/v4{path}")));
        assert!(logged.finished.is_some_and(|finished| finished >= logged.started));
    }
    assert_eq!(caller.get("/nothing").json()["error"], "404 Not Found");
    let text = [("PRIVATE-TOKEN", gitlab.token("maintainer"))];
    let http = Http::new(&gitlab.url(), &gitlab.ca_pem());
    let headers = [("PRIVATE-TOKEN", text[0].1.as_str()), ("Content-Type", "text/xml")];
    let reply = http.send("POST", "/api/v4/user/runners", &headers, b"<x/>").expect("an answer");
    assert_eq!(reply.status, 415);
    let headers = [headers[0], ("Content-Type", "application/json")];
    let reply = http.send("POST", "/api/v4/user/runners", &headers, b"{").expect("an answer");
    assert_eq!(reply.status, 400);
    let headers = [headers[0], ("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!(
        "runner_type=project_type&project_id={}&tag_list[]=a&tag_list[]=b",
        gitlab.project_id(PROJECT)
    );
    let reply = http.send("POST", "/api/v4/user/runners", &headers, body.as_bytes()).expect("an answer");
    assert_eq!((reply.status, &gitlab.runners()[0]["tag_list"]), (201, &json!(["a", "b"])));
}

#[test]
fn faults_answer_as_proxies_and_throttles_do() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let next = |action: Action| {
        gitlab.inject(Fault::once("GET", "/user", action));
        caller.get("/user")
    };
    for code in [301, 302, 307, 308] {
        let reply = next(Action::redirect(code, "https://elsewhere.example.com/api/v4/user"));
        assert_eq!(
            (reply.status, reply.header("location")),
            (code, "https://elsewhere.example.com/api/v4/user")
        );
    }
    gitlab.inject(Fault::once(
        "GET",
        "/user",
        Action::Elsewhere(301, "https://other.example.com/".to_owned()),
    ));
    let reply = caller.get("/user?a=b");
    assert_eq!(reply.header("location"), "https://other.example.com/api/v4/user?a=b");
    let page = next(Action::sign_in_page());
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!((page.header("x-request-id"), page.json()), ("", Value::Null));
    let gateway = next(Action::bad_gateway());
    assert!(gateway.status == 502 && gateway.text().contains("GitLab is not responding"));
    let throttled = next(Action::retry_later(&[("Retry-After", "7"), ("RateLimit-Reset", "1790000000")]));
    assert_eq!((throttled.status, throttled.text().as_str()), (429, "Retry later\n"));
    assert_eq!((throttled.header("retry-after"), throttled.header("ratelimit-reset")), ("7", "1790000000"));
    let limited = next(Action::too_many_requests(60));
    assert_eq!((message(&limited).as_str(), limited.header("retry-after")), ("429 Too Many Requests", "60"));
    assert_eq!(message(&next(Action::resource_lock())), "409 Conflict: Resource lock");
    let plain = next(Action::Status(422, String::new(), "no".to_owned()));
    assert_eq!((plain.status, plain.json()), (422, json!({"message": "no"})));
    let flood = next(Action::Flood(3 << 20));
    assert_eq!((flood.body.len(), flood.header("content-length")), (3 << 20, "3145728"));
    let endless = next(Action::EndlessFlood(1 << 20));
    assert_eq!((endless.body.len(), endless.header("content-length")), (1 << 20, ""));
    let nested = next(Action::nested(100_000));
    assert_eq!((nested.body.len(), nested.header("content-type")), (200_000, "application/json"));
    let drip = next(Action::Drip("{\"id\": 1}".to_owned(), Duration::from_millis(1)));
    assert_eq!((drip.json(), drip.header("transfer-encoding")), (json!({"id": 1}), "chunked"));
    let odd = next(Action::ContentType("text/plain".to_owned()));
    assert_eq!((odd.header("content-type"), &odd.json()["username"]), ("text/plain", &json!("maintainer")));
    let edited = next(Action::Edit(Box::new(|answer| answer["bot"] = Value::Null)));
    assert!(edited.json()["bot"].is_null() && edited.json()["username"] == "maintainer");
    assert_eq!(caller.get("/user").json()["bot"], false);
}

#[test]
fn a_request_may_be_applied_and_its_answer_lost() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let body = wish(&gitlab);
    let (sender, called) = std::sync::mpsc::channel();
    let hook = Box::new(move || sender.send(()).expect("the test listens"));
    let actions = [
        (Action::ResetBefore, 0, 0),
        (Action::ResetAfter, 0, 1),
        (Action::KillAfter(hook), 0, 2),
        (Action::Applied(Box::new(Action::bad_gateway())), 502, 3),
        (Action::Applied(Box::new(Action::ResetBefore)), 0, 4),
    ];
    for (action, status, made) in actions {
        gitlab.inject(Fault::once("POST", "/user/runners", action));
        assert_eq!(caller.post("/user/runners", &body).status, status);
        assert_eq!(gitlab.runners().len(), made);
        assert_eq!(gitlab.requests().pop().map(|entry| entry.status), Some(status));
    }
    assert_eq!(called.try_iter().count(), 1);
    gitlab.inject(Fault::always(
        "/user",
        Action::Status(500, String::new(), "500 Internal Server Error".to_owned()),
    ));
    assert_eq!(
        (caller.get("/user").status, caller.get("/user").status, caller.get(SHOP).status),
        (500, 500, 200)
    );
    gitlab.clear_faults();
    assert_eq!(caller.get("/user").status, 200);
}

#[test]
fn the_world_may_change_while_a_request_is_under_way() {
    let gitlab = Arc::new(FakeGitlab::start(Options::default()));
    let caller = Caller::of(&gitlab, "maintainer");
    let id = caller.post("/user/runners", &wish(&gitlab)).json()["id"].as_u64().expect("a runner");
    let behind = Arc::clone(&gitlab);
    let action = Action::Before(Box::new(move || behind.remove_runner(id)));
    gitlab.inject(Fault::once("PUT", "/runners/", action));
    assert_eq!(caller.put(&format!("/runners/{id}"), &json!({"paused": true})).status, 404);
    // The hook holds the server, which would otherwise never stop.
    gitlab.clear_faults();
    let started = Instant::now();
    gitlab.inject(Fault::once("POST", "/user/runners", Action::Late(Duration::from_millis(30))));
    assert_eq!(caller.post("/user/runners", &wish(&gitlab)).status, 201);
    assert!(started.elapsed() >= Duration::from_millis(30));
}

#[test]
fn requests_can_be_made_to_wait() {
    let gitlab = FakeGitlab::start(Options { delay: Duration::from_millis(30), ..Options::default() });
    let started = Instant::now();
    assert_eq!(Caller::of(&gitlab, "maintainer").get("/user").status, 200);
    assert!(started.elapsed() >= Duration::from_millis(30));
}

#[test]
fn under_maintenance_nothing_is_written() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    gitlab.set_maintenance(true);
    for (method, path) in [
        ("POST", "/user/runners"),
        ("PUT", "/runners/1"),
        ("DELETE", "/runners/1"),
        ("POST", "/runners/verify"),
        ("POST", "/jobs/request"),
        ("PATCH", "/jobs/1/trace"),
    ] {
        let reply = caller.send(method, path, &wish(&gitlab));
        assert_eq!(
            (reply.status, message(&reply).as_str()),
            (503, "GitLab Maintenance: system is in maintenance mode"),
            "{method} {path}"
        );
    }
    assert_eq!(caller.get(SHOP).status, 200);
    gitlab.set_maintenance(false);
    assert_eq!(caller.post("/user/runners", &wish(&gitlab)).status, 201);
}

/// lib/gitlab/middleware/read_only/controller.rb
#[test]
fn a_read_only_instance_leads_what_is_not_json_away() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    gitlab.set_read_only(true);
    let reply = caller.post("/user/runners", &wish(&gitlab));
    let why = "You cannot perform write operations on a read-only instance";
    assert_eq!((reply.status, message(&reply).as_str()), (403, why));
    let http = Http::new(&gitlab.url(), &gitlab.ca_pem());
    let token = gitlab.token("maintainer");
    let reply = http.send("DELETE", "/api/v4/runners/1", &[("PRIVATE-TOKEN", token.as_str())], b"");
    let reply = reply.expect("an answer");
    assert_eq!((reply.status, reply.header("location")), (301, format!("{}/", gitlab.url()).as_str()));
    assert_eq!(caller.get(SHOP).status, 200);
}

#[test]
fn lints_have_a_limit_of_their_own() {
    let gitlab = FakeGitlab::start(Options { lint_limit: Some(1), ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    let lint = || caller.post(&format!("{SHOP}/ci/lint"), &json!({"content": ""}));
    assert_eq!(lint().status, 200);
    let refused = lint();
    assert_eq!((refused.status, refused.header("retry-after")), (429, "60"));
    assert!(refused.json()["message"]["error"].as_str().is_some_and(|why| why.contains("too many times")));
    gitlab.advance(Duration::from_secs(61));
    assert_eq!(lint().status, 200);
}

#[test]
fn the_throttle_counts_by_user_and_minute() {
    let options = Options { throttle: Some(3), rate_limit_headers: true, ..Options::default() };
    let gitlab = FakeGitlab::start(options);
    let caller = Caller::of(&gitlab, "maintainer");
    for left in ["2", "1", "0"] {
        let reply = caller.get("/user");
        assert_eq!((reply.status, reply.header("ratelimit-remaining")), (200, left));
        assert_eq!(
            (reply.header("ratelimit-limit"), reply.header("ratelimit-name")),
            ("3", "throttle_authenticated_api")
        );
    }
    let refused = caller.get("/user");
    assert_eq!((refused.status, refused.text().as_str()), (429, "Retry later\n"));
    assert_eq!(refused.header("content-type"), "text/plain");
    let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=61).contains(&seconds), "{seconds}");
    assert!(refused.header("ratelimit-resettime").ends_with(" GMT"), "{:?}", refused.headers);
    // The reset is a time, not a span.
    let reset: i64 = refused.header("ratelimit-reset").parse().expect("an epoch");
    assert!(reset > 1_700_000_000);
    // Another token of the same user is no way around it; another user is not concerned.
    assert_eq!(Caller::of(&gitlab, "read_api").get("/user").status, 429);
    assert_eq!(Caller::of(&gitlab, "developer").get("/user").status, 200);
    gitlab.advance(Duration::from_secs(seconds));
    assert_eq!(caller.get("/user").status, 200);
}

#[test]
fn a_moved_project_leads_to_its_id() {
    let gitlab = FakeGitlab::start(Options { relative_root: "/git".to_owned(), ..Options::default() });
    let moved_from = Some("old/name".to_owned());
    let id = gitlab.add_project(ProjectSpec { moved_from, ..ProjectSpec::new("acme/new") });
    let caller = Caller::of(&gitlab, "owner");
    let reply = caller.get("/projects/old%2Fname");
    let location = format!("{}/api/v4/projects/{id}", gitlab.url());
    assert_eq!((reply.status, reply.header("location")), (301, location.as_str()));
    assert!(
        reply.header("content-type").starts_with("text/plain") && reply.text().contains("moved permanently")
    );
    let below = caller.get("/projects/old%2Fname/runners?type=project_type");
    assert_eq!(below.header("location"), format!("{location}/runners?type=project_type"));
    assert_eq!(caller.post("/projects/old%2Fname/pipeline", &json!({"ref": "main"})).status, 405);
    // Who must not see it does not learn that it moved.
    assert_eq!(Caller::of(&gitlab, "stranger").get("/projects/old%2Fname").status, 404);
}

#[test]
fn a_proxy_that_decodes_slashes_hides_paths_but_not_ids() {
    let gitlab = FakeGitlab::start(Options { proxy_decodes_slashes: true, ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    assert_eq!(caller.get(SHOP).status, 404);
    assert_eq!(caller.get(&format!("/projects/{}", gitlab.project_id(PROJECT))).status, 200);
}

#[test]
fn two_servers_tell_whether_a_token_went_astray() {
    let (first, second) = (
        FakeGitlab::start(Options::default()),
        FakeGitlab::start(Options { tls: false, ..Options::default() }),
    );
    first.inject(Fault::always("/api", Action::Elsewhere(302, second.url())));
    assert_eq!(Caller::of(&first, "maintainer").get("/user").status, 302);
    assert!(second.requests().is_empty() && second.credentials().is_empty());
    second.add_token(TokenSpec::pat("other", "other", &["api"]));
    assert_eq!(Caller::with(&second, &first.token("maintainer")).get("/user").status, 401);
    assert_eq!(second.credentials()[0].value, format!("Bearer {}", first.token("maintainer")));
}
