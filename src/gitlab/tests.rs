//! Responses of GitLab and of proxies in front of it, without a network.

use crate::base::proxy::Variables;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::refusal::json as read_json;
use super::{Class, Job, Manager, Pipeline, Project, Refusal, Route, Runner, next_page};
use crate::base::error::{Failure, Id, Kind};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a header's name");
            (name, HeaderValue::from_str(value).expect("a header's value"))
        })
        .collect()
}

fn refused(code: u16, pairs: &[(&str, &str)], body: &str) -> Refusal {
    let asked = Url::parse("https://gitlab.example.com/api/v4/projects/a%2Fb").expect("a URL");
    Refusal::status("read the project a/b", code, &headers(pairs), body.as_bytes(), &asked)
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn error_responses_have_class_message_and_exit_code() {
    for (code, body, class, exit, words) in [
        (401, json!({"message": "401 Unauthorized"}), Class::Unauthorized, 4, "401 Unauthorized"),
        (
            401,
            json!({"error": "invalid_token", "error_description": "Token is expired."}),
            Class::Unauthorized,
            4,
            "Token is expired.",
        ),
        (
            401,
            json!({"error": "dpop_error", "error_description": "DPoP required"}),
            Class::Unauthorized,
            4,
            "DPoP",
        ),
        (
            403,
            json!({"error": "insufficient_scope", "error_description": "more is needed", "scope": "api read_api"}),
            Class::Scope,
            4,
            "more is needed",
        ),
        (
            403,
            json!({"error": "insufficient_granular_scope", "error_description": "lacks [read_project] for \"a/b\"."}),
            Class::Scope,
            4,
            "lacks [read_project]",
        ),
        (
            403,
            json!({"message": "You cannot perform write operations on a read-only instance"}),
            Class::Maintenance,
            3,
            "read-only instance",
        ),
        (403, json!({"error": "Token rotation deadline has passed"}), Class::Forbidden, 4, "deadline"),
        (403, json!({"message": "403 Forbidden - no"}), Class::Forbidden, 4, "403 Forbidden - no"),
        (404, json!({"message": "404 Project Not Found"}), Class::NotFound, 3, "404 Project Not Found"),
        (400, json!({"error": "project_id is missing"}), Class::Invalid, 3, "project_id is missing"),
        (
            400,
            json!({"message": {"tag_list": ["can't be empty"], "base": ["x", "y"]}}),
            Class::Invalid,
            3,
            "x; y; tag_list: can't be empty",
        ),
        (409, json!({"message": "409 Conflict: Resource lock"}), Class::Busy, 8, "Resource lock"),
        (410, json!({"message": "410 Gone - runner registration disallowed"}), Class::Gone, 4, "410 Gone"),
        (422, json!({"message": "no"}), Class::Invalid, 3, "no"),
        (503, json!({"message": "in maintenance mode"}), Class::Maintenance, 3, "maintenance"),
        (503, json!({"message": "later"}), Class::Server, 8, "later"),
    ] {
        let refusal = refused(code, &[JSON, ("x-request-id", "01HX")], &body.to_string());
        assert_eq!(refusal.class, class, "{body}");
        let failure = Failure::from(refusal);
        assert_eq!(failure.kind.exit_code(), exit, "{body}");
        assert!(failure.details[0].1.contains(words), "{failure:?}");
        assert!(failure.details.contains(&("request id".to_owned(), "01HX".to_owned())), "{failure:?}");
    }
}

#[test]
fn refused_call_names_the_required_permission_or_scope() {
    let base = |text: &str| Url::parse(text).expect("a URL");
    let granular = json!({"error": "insufficient_granular_scope", "error_description": "Access denied"});
    let refusal = refused(403, &[JSON], &granular.to_string());
    let failure = Failure::from(refusal.asked("POST", &["user", "runners"], &base("https://h/")));
    assert!(failure.message.contains("permissions do not allow it"), "{failure:?}");
    let named = ("required permission".to_owned(), "Runner: Create (boundary: User)".to_owned());
    assert!(failure.details.contains(&named), "{failure:?}");
    assert!(failure.hints[0].to_string().contains("outrigger help gitlab-token"), "{failure:?}");
    // manage_runner is not accepted under a relative URL root.
    let scope = json!({"error": "insufficient_scope", "error_description": "more", "scope": "api read_api"});
    for (url, segments, words) in [
        ("https://h/gitlab/", &["runners", "7"][..], "under /gitlab"),
        ("https://h/", &["runners", "7"][..], "numeric id"),
        ("https://h/gitlab/", &["projects", "7"][..], "numeric id"),
    ] {
        let refusal = refused(403, &[JSON], &scope.to_string()).asked("GET", segments, &base(url));
        assert_eq!(refusal.why().contains("/gitlab"), words.contains("/gitlab"), "{url} {segments:?}");
        let failure = Failure::from(refusal);
        assert!(failure.hints.iter().any(|hint| hint.text.contains(words)), "{url} {segments:?} {failure:?}");
        assert!(failure.details.contains(&("sufficient scopes".to_owned(), "api read_api".to_owned())));
    }
}

#[test]
fn proxy_pages_are_recognised() {
    let html = [("content-type", "text/html")];
    assert_eq!(refused(502, &html, "<html>Bad Gateway").class, Class::Server);
    for code in [401, 403, 407] {
        assert_eq!(refused(code, &html, "<html>no").class, Class::Blocked, "{code}");
    }
    // A 404 of a proxy does not mean that the project is missing.
    assert_eq!(refused(404, &html, "<html>no").class, Class::Malformed);
    let refusal = read_json("x", &headers(&html), b"<html>Sign in", false).expect_err("no JSON");
    let failure = Failure::from(refusal);
    assert_eq!(failure.kind, Kind::Refused);
    assert!(failure.details[0].1.contains("sign-in page"), "{failure:?}");
    let deep = "[".repeat(100_000);
    assert_eq!(
        read_json("x", &headers(&[JSON]), deep.as_bytes(), false).expect_err("too deep").class,
        Class::Malformed
    );
    assert_eq!(read_json("x", &headers(&[JSON]), b"[]", true).expect_err("too long").class, Class::Malformed);
}

#[test]
fn wait_is_read_from_seconds_date_and_rate_limit() {
    let seconds = |code: u16, pairs: &[(&str, &str)]| {
        refused(code, pairs, "Retry later").retry_after.map(|d| d.as_secs())
    };
    let soon = jiff::Timestamp::now().as_second() + 100;
    assert_eq!(seconds(429, &[("retry-after", "60")]), Some(60));
    assert_eq!(seconds(503, &[("retry-after", "7")]), Some(7));
    let reset = seconds(429, &[("ratelimit-reset", &soon.to_string())]).expect("a moment");
    assert!((90..=100).contains(&reset), "{reset}");
    let date = jiff::Timestamp::from_second(soon).expect("a time");
    let date = jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).expect("a date");
    for name in ["retry-after", "ratelimit-resettime"] {
        let wait = seconds(429, &[(name, &date)]).expect("a date");
        assert!((90..=100).contains(&wait), "{name}: {wait}");
    }
    assert_eq!(seconds(429, &[("retry-after", "soon")]), None);
    assert_eq!(refused(429, &[("content-type", "text/plain")], "Retry later").message, "Retry later");
}

#[test]
fn redirects_are_followed_on_the_same_origin_only() {
    let asked = Url::parse("https://gitlab.example.com/api/v4/projects/a%2Fb").expect("a URL");
    let to = |location: &str| refused(301, &[("location", location)], "moved").moved_to(&asked);
    assert!(to("https://gitlab.example.com/api/v4/projects/7").is_some());
    assert!(to("/api/v4/projects/7").is_some());
    for elsewhere in
        ["https://evil.example.com/", "http://gitlab.example.com/x", "https://gitlab.example.com:444/x", ""]
    {
        assert!(to(elsewhere).is_none(), "{elsewhere}");
    }
    let failure = Failure::from(refused(302, &[("location", "https://evil.example.com/x")], ""));
    assert_eq!((failure.id, failure.kind.exit_code()), (Id::NotGitlab, 3));
    assert_eq!(failure.details[0].1, "https://evil.example.com");
}

#[test]
fn next_page_ignores_the_host_of_the_link_header() {
    assert_eq!(next_page(&headers(&[("x-next-page", "3")])), Some(vec![("page".to_owned(), "3".to_owned())]));
    assert_eq!(next_page(&headers(&[("x-next-page", "")])), None);
    let link =
        "<https://other/api/v4/x?id_after=9&per_page=100>; rel=\"next\", <https://other/>; rel=\"first\"";
    let next = next_page(&headers(&[("link", link)])).expect("a next page");
    assert_eq!(next[0], ("id_after".to_owned(), "9".to_owned()));
    assert_eq!(next_page(&HeaderMap::new()), None);
}

#[test]
fn slash_in_a_segment_is_escaped() {
    let limits = crate::base::request::Limits {
        deadline: crate::base::request::Deadline::after(std::time::Duration::ZERO),
        request_timeout: std::time::Duration::from_secs(1),
        cancel: crate::base::cancel::Cancel::default(),
        notice: std::rc::Rc::new(|_, _, _| {}),
        trace: None,
    };
    crate::install_tls_provider();
    let roots = crate::x509::tls::Roots::of_gitlab(None);
    let gitlab =
        super::Gitlab::connect("https://h/gitlab", None, &roots, &limits, None, &Variables::default())
            .expect("a client");
    let url = gitlab.address(&Route::of(&["projects", "a/b c", "runners"]).with("type", "project_type"));
    assert_eq!(url.as_str(), "https://h/gitlab/api/v4/projects/a%2Fb%20c/runners?type=project_type");
    assert_eq!(gitlab.url(), "https://h/gitlab");
}

#[test]
fn unknown_responses_are_parsed_as_far_as_possible() {
    for odd in [Value::Null, json!([]), json!({"id": null}), json!("text")] {
        assert!(Runner::read(&odd).is_none() && Project::read(&odd).is_none());
        assert!(Pipeline::read(&odd).is_none() && Job::read(&odd).is_none());
        assert_eq!(Manager::read(&odd).system_id, "");
    }
    let runner = Runner::read(&json!({"id": 7, "paused": null, "locked": null, "status": "hibernating",
        "tag_list": null, "contacted_at": "not a time", "projects": [{"id": "12"}, null], "new": {}}))
    .expect("it has an id");
    assert_eq!((runner.paused, runner.locked, runner.tags.as_deref()), (false, None, None));
    assert_eq!(runner.projects, Some(vec![12]));
    assert!(!runner.never_contacted(), "an unknown status does not prove that there was no contact");
    let pipeline = Pipeline::read(&json!({"id": 1, "status": "levitating"})).expect("it has an id");
    assert!(!pipeline.is_over());
}
