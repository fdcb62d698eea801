//! Projects with pipelines, for those tests that need them.

#![allow(dead_code, reason = "each test target uses another part")]

use std::time::{Duration, Instant};

use outrigger_doubles::gitlab::{FakeGitlab, Options, PROJECT};
use outrigger_doubles::http::Reply;
use serde_json::{Value, json};

use super::{Caller, SHOP};

/// The pipeline file of the article.
pub const ARTICLE: &str =
    "job:\n  image: alpine:latest\n  tags:\n    - k8s-runner\n  script:\n    - echo \"hello world!\"\n";

/// Waits for what happens in another thread; the limit is only reached when it does not.
pub fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it does not happen");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A project runner with more or other fields: its id and token.
pub fn runner_with(gitlab: &FakeGitlab, more: &Value) -> (u64, String) {
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

/// Commits a pipeline file on a new branch, or on `main`.
pub fn commit(caller: &Caller, branch: &str, text: &str, message: &str) -> Reply {
    let action = json!({"action": "create", "file_path": ".gitlab-ci.yml", "content": text});
    let body =
        json!({"branch": branch, "start_branch": "main", "commit_message": message, "actions": [action]});
    caller.post(&format!("{SHOP}/repository/commits"), &body)
}

/// The newest pipeline of a commit.
pub fn pipeline_of(caller: &Caller, sha: &str) -> Value {
    caller.get(&format!("{SHOP}/pipelines?sha={sha}")).json()[0].clone()
}

/// A GitLab whose project has this pipeline file, with a pending job.
pub fn with_pipeline(options: Options, text: &str) -> (FakeGitlab, Caller, u64) {
    let gitlab = FakeGitlab::start(options);
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", text);
    let caller = Caller::of(&gitlab, "maintainer");
    let made = caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "main"}));
    assert_eq!(made.status, 201, "{}", made.text());
    (gitlab, caller, made.json()["id"].as_u64().expect("an id"))
}

/// A machine's request for a job, by hand.
pub fn ask(caller: &Caller, token: &str) -> Reply {
    caller.post("/jobs/request", &json!({"token": token, "system_id": "s_1", "info": {"version": "19.4.0"}}))
}

/// The id of a pipeline's only job once it has this status.
pub fn machine_job(caller: &Caller, pipeline: &str, status: &str) -> Option<u64> {
    let job = caller.get(&format!("{pipeline}/jobs")).json()[0].clone();
    if job["status"] == status { job["id"].as_u64() } else { None }
}
