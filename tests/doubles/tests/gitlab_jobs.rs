//! The GitLab double: from a commit to a job that ran on our runner.

mod gitlab_client;

use std::time::{Duration, Instant};

use gitlab_client::{Caller, SHOP};
use outrigger_doubles::gitlab::{Driven, FakeGitlab, Options, PROJECT, RunnerDriver};
use outrigger_doubles::http::Reply;
use serde_json::{Value, json};

const ARTICLE: &str =
    "job:\n  image: alpine:latest\n  tags:\n    - k8s-runner\n  script:\n    - echo \"hello world!\"\n";

/// Waits for what happens in another thread; the limit is only reached when it does not.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it does not happen");
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn runner_with(gitlab: &FakeGitlab, more: &Value) -> (u64, String) {
    let mut wish = json!({
        "runner_type": "project_type", "project_id": gitlab.project_id(PROJECT), "run_untagged": false,
        "tag_list": ["k8s-runner"],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        wish[name] = value.clone();
    }
    let made = Caller::of(gitlab, "root").post("/user/runners", &wish);
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap_or_default().to_owned();
    (made.json()["id"].as_u64().expect("an id"), token)
}

fn commit(caller: &Caller, branch: &str, text: &str, message: &str) -> Reply {
    let action = json!({"action": "create", "file_path": ".gitlab-ci.yml", "content": text});
    let body =
        json!({"branch": branch, "start_branch": "main", "commit_message": message, "actions": [action]});
    caller.post(&format!("{SHOP}/repository/commits"), &body)
}

fn pipeline_of(caller: &Caller, sha: &str) -> Value {
    caller.get(&format!("{SHOP}/pipelines?sha={sha}")).json()[0].clone()
}

#[test]
fn a_commit_becomes_a_pipeline_and_a_job_on_our_runner() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let (id, token) = runner_with(&gitlab, &json!({}));
    let made = commit(&caller, "main", ARTICLE, "Say hello");
    assert_eq!(made.status, 201, "{}", made.text());
    let sha = made.json()["id"].as_str().unwrap_or_default().to_owned();
    let pipeline = pipeline_of(&caller, &sha);
    assert_eq!((&pipeline["status"], &pipeline["source"]), (&json!("pending"), &json!("push")));

    let machine = RunnerDriver::for_token(&gitlab, &token);
    let path = format!("{SHOP}/pipelines/{}", pipeline["id"]);
    eventually(|| (caller.get(&path).json()["status"] == "success").then_some(()));
    let job = caller.get(&format!("{path}/jobs")).json()[0].clone();
    assert_eq!((&job["status"], &job["runner"]["id"]), (&json!("success"), &json!(id)));
    assert_eq!((&job["tag_list"], &job["name"]), (&json!(["k8s-runner"]), &json!("job")));
    assert_eq!(job["runner_manager"]["version"], "19.4.0");
    let trace = caller.get(&format!("{SHOP}/jobs/{}/trace", job["id"]));
    assert_eq!(trace.header("content-type"), "text/plain");
    assert!(
        trace.text().contains("\nhello world!\n") && trace.text().contains("\u{1b}[36;1m"),
        "{}",
        trace.text()
    );
    let number = job["id"].as_u64().expect("an id");
    eventually(|| (machine.jobs() == [Driven { id: number, outcome: "success".to_owned() }]).then_some(()));
    assert_eq!(machine.problems(), Vec::<String>::new());

    let shown = caller.get(&format!("/runners/{id}")).json();
    assert_eq!((&shown["status"], &shown["online"]), (&json!("online"), &json!(true)));
    assert_eq!((&shown["version"], &shown["job_execution_status"]), (&json!(""), &json!("idle")));
    let managers = caller.get(&format!("/runners/{id}/managers")).json();
    assert_eq!(
        (&managers[0]["system_id"], &managers[0]["version"]),
        (&json!("s_0123456789ab"), &json!("19.4.0"))
    );
    let jobs = caller.get(&format!("/runners/{id}/jobs")).json();
    assert_eq!(jobs[0]["id"], number);
    assert!(gitlab.requests().iter().any(|entry| entry.user == format!("runner/{id}")));
}
