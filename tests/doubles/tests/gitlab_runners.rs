//! The GitLab double: runners, from creation to their end.

mod gitlab_client;

use gitlab_client::{Caller, SHOP, message};
use outrigger_doubles::gitlab::{FakeGitlab, Options, PROJECT};
use serde_json::{Value, json};

fn wish(gitlab: &FakeGitlab) -> Value {
    json!({
        "runner_type": "project_type", "project_id": gitlab.project_id(PROJECT), "description": "one",
        "maintenance_note": "note", "locked": true, "run_untagged": false, "tag_list": ["k8s-runner"],
    })
}

#[test]
fn a_runner_is_created_and_its_token_is_told_once() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let made = caller.post("/user/runners", &wish(&gitlab));
    assert_eq!(made.status, 201, "{}", made.text());
    let (id, token) = (made.json()["id"].as_u64().expect("an id"), made.json()["token"].clone());
    assert!(token.as_str().is_some_and(|token| token.starts_with("glrt-t3_")), "{token}");
    assert_eq!(token, gitlab.runner_token(id));
    assert!(made.json()["token_expires_at"].is_null());

    let shown = caller.get(&format!("/runners/{id}"));
    assert!(!shown.text().contains(token.as_str().unwrap_or("?")));
    let shown = shown.json();
    assert_eq!(shown["status"], "never_contacted");
    assert!(shown["online"].is_null() && shown["contacted_at"].is_null());
    assert_eq!((&shown["tag_list"], &shown["locked"]), (&json!(["k8s-runner"]), &json!(true)));
    assert_eq!((&shown["maintenance_note"], &shown["run_untagged"]), (&json!("note"), &json!(false)));
    assert_eq!(shown["projects"][0]["path_with_namespace"], PROJECT);

    let listed = caller.get(&format!("{SHOP}/runners?type=project_type"));
    let row = listed.json()[0].clone();
    assert_eq!(row["description"], "one");
    assert!(row.get("maintenance_note").is_none() && row.get("tag_list").is_none(), "{row}");

    assert_eq!(caller.delete(&format!("/runners/{id}")).status, 204);
    let gone = caller.get(&format!("/runners/{id}"));
    assert_eq!((gone.status, message(&gone).as_str()), (404, "404 Not found"));
}
