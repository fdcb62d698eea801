//! The GitLab double: runners, from creation to their end.

use std::time::Duration;

use crate::client::{Caller, SHOP, error, message};
use outrigger_doubles::gitlab::{FakeGitlab, GROUP, Options, PROJECT, ProjectSpec};
use outrigger_doubles::http::Reply;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

/// A wish for a project runner, with more or other fields.
fn wish(gitlab: &FakeGitlab, more: &Value) -> Value {
    let mut wish = json!({
        "runner_type": "project_type", "project_id": gitlab.project_id(PROJECT), "description": "one",
        "maintenance_note": "note", "locked": true, "run_untagged": false, "tag_list": ["k8s-runner"],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        wish[name] = value.clone();
    }
    wish
}

fn id_and_token(reply: &Reply) -> (u64, String) {
    assert!(reply.status == 201 || reply.status == 200, "{} {}", reply.status, reply.text());
    let answer = reply.json();
    (answer["id"].as_u64().unwrap_or_default(), answer["token"].as_str().unwrap_or_default().to_owned())
}

fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status, message(reply))
}

#[test]
fn a_runner_is_created_and_its_token_is_told_once() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let before = gitlab.snapshot();
    let made = caller.post("/user/runners", &wish(&gitlab, &json!({})));
    let (id, token) = id_and_token(&made);
    assert_eq!(made.status, 201);
    assert!(token.starts_with("glrt-t3_"), "{token}");
    assert_eq!(token, gitlab.runner_token(id));
    assert!(made.json()["token_expires_at"].is_null());

    let shown = caller.get(&format!("/runners/{id}"));
    assert!(!shown.text().contains(&token));
    let shown = shown.json();
    assert_eq!(shown["status"], "never_contacted");
    assert!(shown["online"].is_null() && shown["contacted_at"].is_null());
    assert_eq!((&shown["tag_list"], &shown["locked"]), (&json!(["k8s-runner"]), &json!(true)));
    assert_eq!((&shown["maintenance_note"], &shown["run_untagged"]), (&json!("note"), &json!(false)));
    assert_eq!(shown["projects"][0]["path_with_namespace"], PROJECT);
    assert!(caller.get(&format!("/runners/{id}?include_projects=false")).json()["projects"].is_null());

    let listed = caller.get(&format!("{SHOP}/runners?type=project_type"));
    assert!(!listed.text().contains(&token));
    let row = listed.json()[0].clone();
    assert_eq!(row["description"], "one");
    assert!(row.get("maintenance_note").is_none() && row.get("tag_list").is_none(), "{row}");

    assert_ne!(gitlab.snapshot(), before);
    assert_eq!(caller.delete(&format!("/runners/{id}")).status, 204);
    assert_eq!(refusal(&caller.get(&format!("/runners/{id}"))), (404, "404 Runner Not Found".to_owned()));
    assert_eq!(refusal(&caller.delete(&format!("/runners/{id}"))), (404, "404 Runner Not Found".to_owned()));
    assert_eq!(gitlab.snapshot(), before);
}

#[test]
fn what_cannot_be_created_is_refused_in_the_words_of_its_layer() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "root");
    // The declaration of the parameters.
    for (body, expected) in [
        (json!({}), "runner_type is missing"),
        (json!({"runner_type": "shared"}), "runner_type does not have a valid value"),
        (json!({"runner_type": "project_type"}), "project_id is missing"),
        (json!({"runner_type": "group_type"}), "group_id is missing"),
        (json!({"runner_type": "project_type", "project_id": PROJECT}), "project_id is invalid"),
        (json!({"runner_type": "instance_type", "locked": "maybe"}), "locked is invalid"),
        (
            json!({"runner_type": "instance_type", "access_level": "all"}),
            "access_level does not have a valid value",
        ),
        (json!({"runner_type": "instance_type", "tag_list": {"a": 1}}), "tag_list is invalid"),
        (
            json!({"runner_type": "project_type", "paused": "x", "maximum_timeout": "1h"}),
            "project_id is missing, paused is invalid, maximum_timeout is invalid",
        ),
    ] {
        let reply = caller.post("/user/runners", &body);
        assert_eq!((reply.status, error(&reply).as_str()), (400, expected), "{body}");
    }
    // The model.
    let long = "n".repeat(1025);
    for (more, expected) in [
        (
            json!({"tag_list": []}),
            "400 Bad request - Tags list can not be empty when runner is not allowed to pick untagged jobs",
        ),
        (
            json!({"maximum_timeout": 599}),
            "400 Bad request - Maximum timeout needs to be at least 10 minutes",
        ),
        (
            json!({"maintenance_note": long}),
            "400 Bad request - Maintenance note is too long (maximum is 1024 characters)",
        ),
        (
            json!({"description": long}),
            "400 Bad request - Description is too long (maximum is 1024 characters)",
        ),
    ] {
        let reply = caller.post("/user/runners", &wish(&gitlab, &more));
        assert_eq!(refusal(&reply), (400, expected.to_owned()));
    }
    assert!(gitlab.runners().is_empty());
    // What is only just right, and coerced.
    let more = json!({
        "tag_list": "a, b,a", "maximum_timeout": "600", "maintenance_note": "n".repeat(1024), "unknown": 1,
        "project_id": gitlab.project_id(PROJECT).to_string(), "paused": "true",
    });
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &more)));
    let shown = caller.get(&format!("/runners/{id}")).json();
    assert_eq!((&shown["tag_list"], &shown["maximum_timeout"]), (&json!(["a", "b"]), &json!(600)));
    assert_eq!((&shown["paused"], &shown["active"]), (&json!(true), &json!(false)));
    let garbage =
        caller.send_with("POST", "/user/runners", &[("PRIVATE-TOKEN", &gitlab.token("root"))], &json!("x"));
    assert_eq!(error(&garbage), "runner_type is missing");
}

#[test]
fn tokens_show_where_they_come_from() {
    let prefixed = FakeGitlab::start(Options {
        token_prefix: "acme".to_owned(),
        routable_tokens: true,
        registration_allowed: true,
        ..Options::default()
    });
    let group = prefixed.add_group(GROUP);
    let caller = Caller::of(&prefixed, "root");
    for (body, start) in [
        (json!({"runner_type": "instance_type"}), "acme-glrt-t1_"),
        (json!({"runner_type": "group_type", "group_id": group}), "acme-glrt-t2_"),
        (wish(&prefixed, &json!({})), "acme-glrt-t3_"),
    ] {
        let (_, token) = id_and_token(&caller.post("/user/runners", &body));
        assert!(token.starts_with(start) && token.contains(".01."), "{token}");
    }
    let (_, token) =
        id_and_token(&caller.post("/runners", &json!({"token": prefixed.registration_token(PROJECT)})));
    assert!(token.starts_with("acme-glrtr-t3_"), "{token}");
    let older = FakeGitlab::start(Options {
        registration_allowed: true,
        legacy_token_prefix: false,
        ..Options::default()
    });
    let body = json!({"token": older.registration_token(PROJECT)});
    let (_, token) = id_and_token(&Caller::with(&older, "").post("/runners", &body));
    assert!(token.starts_with("t3_"), "{token}");
    let plain = FakeGitlab::start(Options { partitioned_tokens: false, ..Options::default() });
    let (_, token) =
        id_and_token(&Caller::of(&plain, "root").post("/user/runners", &wish(&plain, &json!({}))));
    assert_eq!((&token[..5], token.len()), ("glrt-", 25), "{token}");
}

#[test]
fn a_token_may_end_early_under_a_licence() {
    let now = jiff::Timestamp::now();
    let at = |minutes: i64| (now + jiff::SignedDuration::from_mins(minutes)).to_string();
    let gitlab = FakeGitlab::start(Options { enterprise: true, ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    for (more, expected) in [
        (json!({"token_expires_at": at(4)}), "token_expires_at must be at least"),
        (json!({"token_expires_at": at(60 * 24 * 16)}), "token_expires_at is too far in the future"),
        (json!({"token_rotation_deadline": at(60)}), "token_rotation_deadline requires token_expires_at"),
        (
            json!({"token_expires_at": at(60), "token_rotation_deadline": at(61)}),
            "token_rotation_deadline must not",
        ),
    ] {
        let reply = caller.post("/user/runners", &wish(&gitlab, &more));
        assert!(message(&reply).starts_with(&format!("400 Bad request - {expected}")), "{}", reply.text());
    }
    let made = caller.post("/user/runners", &wish(&gitlab, &json!({"token_expires_at": at(60)})));
    let (_, token) = id_and_token(&made);
    assert!(made.json()["token_expires_at"].is_string());
    let verify = json!({"token": token, "system_id": "s_1"});
    assert_eq!(caller.post("/runners/verify", &verify).status, 200);
    gitlab.advance(HOUR);
    assert_eq!(refusal(&caller.post("/runners/verify", &verify)), (403, "403 Forbidden".to_owned()));
    // Without one, what is asked for is passed over.
    let free = FakeGitlab::start(Options::default());
    let more = json!({"token_expires_at": at(1)});
    let made = Caller::of(&free, "maintainer").post("/user/runners", &wish(&free, &more));
    assert_eq!((made.status, &made.json()["token_expires_at"]), (201, &Value::Null));
    // An administrator's limit holds for all.
    let limited = FakeGitlab::start(Options { runner_token_lifetime: Some(HOUR), ..Options::default() });
    let made = Caller::of(&limited, "maintainer").post("/user/runners", &wish(&limited, &json!({})));
    assert!(made.json()["token_expires_at"].as_str().is_some_and(|time| time.contains('.')));
}

#[test]
fn settings_change_one_by_one_and_tags_as_a_whole() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let path = format!("/runners/{id}");
    let nothing = caller.put(&path, &json!({"other": 1}));
    assert!(
        error(&nothing).ends_with("are missing, at least one parameter must be provided"),
        "{}",
        nothing.text()
    );
    let both = caller.put(&path, &json!({"active": true, "paused": false}));
    assert_eq!(error(&both), "active, paused are mutually exclusive");
    let changed = caller.put(&path, &json!({"paused": true, "tag_list": ["other"]})).json();
    assert_eq!((&changed["paused"], &changed["tag_list"]), (&json!(true), &json!(["other"])));
    assert_eq!((&changed["description"], &changed["locked"]), (&json!("one"), &json!(true)));
    let refused = caller.put(&path, &json!({"tag_list": [], "maximum_timeout": 1}));
    assert_eq!(refused.status, 400);
    let expected = json!({
        "tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"],
        "maximum_timeout": ["needs to be at least 10 minutes"],
    });
    assert_eq!(refused.json()["message"], expected);
    assert_eq!(caller.get(&path).json()["tag_list"], json!(["other"]));
}

#[test]
fn a_reset_kills_the_old_token_at_once() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, old) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let reset = caller.post(&format!("/runners/{id}/reset_authentication_token"), &Value::Null);
    let (_, new) = id_and_token(&reset);
    assert_ne!(old, new);
    let verify =
        |token: &str| caller.post("/runners/verify", &json!({"token": token, "system_id": "s_1"})).status;
    assert_eq!((verify(&old), verify(&new)), (403, 200));
    let (_, newest) =
        id_and_token(&caller.post("/runners/reset_authentication_token", &json!({"token": new})));
    assert_eq!((verify(&new), verify(&newest)), (403, 200));
}

#[test]
fn runners_of_several_projects_are_removed_by_administrators_only() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    gitlab.add_project(ProjectSpec::new("acme/other"));
    gitlab.share_runner(id, "acme/other");
    let path = format!("/runners/{id}");
    let expected = "403 Forbidden - Runner associated with more than one project";
    assert_eq!(refusal(&caller.delete(&path)), (403, expected.to_owned()));
    assert_eq!(Caller::of(&gitlab, "root").delete(&path).status, 204);
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let since =
        [("If-Unmodified-Since", "Mon, 01 Jan 2024 00:00:00 GMT"), ("PRIVATE-TOKEN", &gitlab.token("root"))];
    assert_eq!(caller.send_with("DELETE", &format!("/runners/{id}"), &since, &Value::Null).status, 412);
}

#[test]
fn machines_come_and_go_under_a_token() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, token) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let runner = Caller::with(&gitlab, "");
    // One that does not say its name is a machine all the same.
    assert_eq!(runner.post("/runners/verify", &json!({"token": token})).status, 200);
    assert_eq!(caller.get(&format!("/runners/{id}/managers")).json()[0]["system_id"], "<legacy>");
    let unknown = runner.post("/runners/verify", &json!({"token": "glrt-none", "system_id": "s_1"}));
    assert_eq!(refusal(&unknown), (403, "403 Forbidden".to_owned()));
    for (system, version) in [("s_1", "19.3.0"), ("s_2", "19.4.0"), ("s_1", "19.4.1")] {
        let body = json!({"token": token, "system_id": system, "info": {"version": version}});
        let verified = runner.post("/runners/verify", &body);
        assert_eq!(verified.json(), json!({"id": id, "token": token, "token_expires_at": null}));
    }
    let managers = caller.get(&format!("/runners/{id}/managers")).json();
    let seen: Vec<(&Value, &Value)> = managers
        .as_array()
        .into_iter()
        .flatten()
        .map(|manager| (&manager["system_id"], &manager["version"]))
        .collect();
    assert_eq!(seen[..2], [(&json!("s_2"), &json!("19.4.0")), (&json!("s_1"), &json!("19.4.1"))]);
    let prefix = |version: &str| caller.get(&format!("/runners?version_prefix={version}")).json();
    assert_eq!((prefix("19.4")[0]["id"].clone(), prefix("18.")), (json!(id), json!([])));

    let leave = |system: &str| {
        runner.send("DELETE", "/runners/managers", &json!({"token": token, "system_id": system}))
    };
    assert_eq!(leave("s_2").status, 204);
    assert_eq!(refusal(&leave("s_2")), (404, "404 Runner manager Not Found".to_owned()));
    // The runner itself is still there: machines that unregister do not remove it.
    assert_eq!(caller.get(&format!("/runners/{id}")).status, 200);
    assert_eq!(runner.send("DELETE", "/runners", &json!({"token": token})).status, 204);
    assert_eq!(runner.send("DELETE", "/runners", &json!({"token": token})).status, 403);
    assert_eq!(caller.get(&format!("/runners/{id}")).status, 404);
    assert_eq!(runner.get("/runners/router/discovery").status, 501);
}

#[test]
fn runners_whose_project_is_gone_are_orphans() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (_, token) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    gitlab.remove_project(PROJECT);
    let reply = caller.post("/runners/verify", &json!({"token": token, "system_id": "s_1"}));
    assert_eq!(reply.status, 422);
}

#[test]
fn status_follows_the_last_contact() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, token) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let (silent, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let status = |id: u64| {
        let shown = caller.get(&format!("/runners/{id}")).json();
        (shown["status"].as_str().unwrap_or_default().to_owned(), shown["online"].clone())
    };
    let by_status = |status: &str| {
        let rows = caller.get(&format!("/runners?status={status}")).json();
        rows.as_array().into_iter().flatten().map(|row| row["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(status(id), ("never_contacted".to_owned(), Value::Null));
    caller.post("/runners/verify", &json!({"token": token, "system_id": "s_1"}));
    assert_eq!(status(id), ("online".to_owned(), json!(true)));
    assert_eq!((by_status("online"), by_status("never_contacted")), (vec![json!(id)], vec![json!(silent)]));
    assert!(caller.get(&format!("/runners/{id}")).json()["contacted_at"].is_string());
    gitlab.advance(2 * HOUR - Duration::from_secs(60));
    assert_eq!(status(id), ("online".to_owned(), json!(true)));
    gitlab.advance(Duration::from_secs(120));
    assert_eq!(status(id), ("offline".to_owned(), json!(false)));
    assert_eq!(status(silent), ("never_contacted".to_owned(), Value::Null));
    gitlab.advance(7 * 24 * HOUR);
    assert_eq!(status(id), ("stale".to_owned(), json!(false)));
    assert_eq!(status(silent), ("stale".to_owned(), Value::Null));
    // The filter for the offline takes the stale too.
    assert_eq!((by_status("stale").len(), by_status("offline").len()), (2, 2));
}

/// `deprecated_rest_status` of app/models/ci/runner.rb: the word for REST alone.
#[test]
fn paused_runners_have_a_status_of_their_own() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, token) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({"paused": true}))));
    let shown = || {
        let shown = caller.get(&format!("/runners/{id}")).json();
        (shown["status"].as_str().unwrap_or_default().to_owned(), shown["online"].clone())
    };
    assert_eq!(shown(), ("never_contacted".to_owned(), Value::Null));
    caller.post("/runners/verify", &json!({"token": token, "system_id": "s_1"}));
    assert_eq!(shown(), ("paused".to_owned(), json!(true)));
    assert_eq!(caller.get(&format!("/runners/{id}/managers")).json()[0]["status"], "online");
    gitlab.advance(3 * HOUR);
    assert_eq!(shown(), ("paused".to_owned(), json!(false)));
    assert_eq!(caller.get(&format!("/runners/{id}/managers")).json()[0]["status"], "offline");
    gitlab.advance(8 * 24 * HOUR);
    assert_eq!(shown().0, "stale");
}

/// spec/requests/api/ci/runner/runners_reset_token (EE, 19.x).
#[test]
fn a_token_is_not_renewed_after_its_deadline() {
    let gitlab = FakeGitlab::start(Options { enterprise: true, ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    let soon = |hours: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string();
    let ends = json!({"token_expires_at": soon(48), "token_rotation_deadline": soon(2)});
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &ends)));
    let path = format!("/runners/{id}/reset_authentication_token");
    let (late, token) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &ends)));
    assert_eq!(caller.post(&path, &Value::Null).status, 201);
    gitlab.advance(3 * HOUR);
    // A renewal takes the deadline away.
    assert_eq!(caller.post(&path, &Value::Null).status, 201);
    let by_id = caller.post(&format!("/runners/{late}/reset_authentication_token"), &Value::Null);
    let by_token = caller.post("/runners/reset_authentication_token", &json!({"token": token}));
    for refused in [by_id, by_token] {
        assert_eq!((refused.status, error(&refused).as_str()), (403, "Token rotation deadline has passed"));
    }
}

#[test]
fn older_ones_tell_nothing_of_machines() {
    let gitlab = FakeGitlab::start(Options { managers_route: false, ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let reply = caller.get(&format!("/runners/{id}/managers"));
    assert_eq!((reply.status, error(&reply).as_str()), (404, "404 Not Found"));
}

#[test]
fn the_old_way_is_closed_unless_an_administrator_opens_it() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::with(&gitlab, "");
    let token = gitlab.registration_token(PROJECT);
    assert!(token.starts_with("GR1348941"));
    let closed = caller.post("/runners", &json!({"token": token}));
    assert_eq!(refusal(&closed), (410, "410 Gone - runner registration disallowed".to_owned()));
    let missing = caller.post("/runners", &json!({}));
    assert_eq!((missing.status, error(&missing).as_str()), (400, "token is missing"));

    let open = FakeGitlab::start(Options { registration_allowed: true, ..Options::default() });
    let caller = Caller::with(&open, "");
    let wrong = caller.post("/runners", &json!({"token": "GR1348941wrong"}));
    assert_eq!(wrong.status, 403);
    let body = json!({
        "token": open.registration_token(PROJECT), "tag_list": "k8s-runner", "run_untagged": false,
        "description": "old", "info": {"name": "gitlab-runner"},
    });
    let (id, token) = id_and_token(&caller.post("/runners", &body));
    assert!(token.starts_with("glrtr-"), "{token}");
    // Such runners need no system id.
    assert_eq!(caller.post("/runners/verify", &json!({"token": token})).status, 200);
    let shown = Caller::of(&open, "maintainer").get(&format!("/runners/{id}")).json();
    assert_eq!((&shown["tag_list"], &shown["created_by"]), (&json!(["k8s-runner"]), &Value::Null));
    for (path, kind) in [("", "instance_type"), (GROUP, "group_type")] {
        let (id, _) =
            id_and_token(&caller.post("/runners", &json!({"token": open.registration_token(path)})));
        let shown = Caller::of(&open, "root").get(&format!("/runners/{id}")).json();
        assert_eq!(shown["runner_type"], kind);
    }
}

#[test]
fn what_was_just_made_is_not_found_at_once() {
    let gitlab = FakeGitlab::start(Options { replica_lag: HOUR, ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, _) = id_and_token(&caller.post("/user/runners", &wish(&gitlab, &json!({}))));
    let path = format!("/runners/{id}");
    let listed = || caller.get("/runners").json().as_array().map_or(0, Vec::len);
    assert_eq!((caller.get(&path).status, listed()), (404, 0));
    // Writes go to the primary, which knows.
    assert_eq!(caller.put(&path, &json!({"paused": true})).status, 200);
    gitlab.advance(HOUR);
    assert_eq!((caller.get(&path).status, listed()), (200, 1));
}
