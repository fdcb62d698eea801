//! The GitLab double and the machine that plays its jobs, from a commit to a job that ran on our runner.

use std::time::Duration;

use crate::client::pipelines::{
    ARTICLE, commit, eventually, machine_job, pipeline_of, runner_with, with_pipeline,
};
use crate::client::{Caller, SHOP};
use outrigger_doubles::gitlab::{
    Action, Behaviour, Driven, DriverOptions, FakeGitlab, Fault, Options, RunnerDriver,
};
use serde_json::{Value, json};

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
    assert_eq!(job["runner_manager"]["version"], "19.4.1");
    let trace = caller.get(&format!("{SHOP}/jobs/{}/trace", job["id"]));
    assert_eq!(trace.header("content-type"), "text/plain");
    assert!(
        trace.text().contains("Z 01O hello world!\n") && trace.text().contains("\u{1b}[36;1m"),
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
        (&json!("s_0123456789ab"), &json!("19.4.1"))
    );
    let jobs = caller.get(&format!("/runners/{id}/jobs")).json();
    assert_eq!(jobs[0]["id"], number);
    assert!(gitlab.requests().iter().any(|entry| entry.user == format!("runner/{id}")));
}

#[test]
fn a_machine_fails_as_it_is_told() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let (_, token) = runner_with(&gitlab, &json!({}));
    let behaviour = Behaviour::Fail { reason: "script_failure".to_owned(), exit_code: 2 };
    let machine = RunnerDriver::start(DriverOptions { behaviour, ..DriverOptions::new(&gitlab, &token) });
    let path = format!("{SHOP}/pipelines/{pipeline}");
    eventually(|| (caller.get(&path).json()["status"] == "failed").then_some(()));
    let job = caller.get(&format!("{path}/jobs")).json()[0].clone();
    assert_eq!(job["failure_reason"], "script_failure");
    let id = job["id"].as_u64().expect("an id");
    assert!(gitlab.trace(id).contains("terminated with exit code 2"));
    eventually(|| (machine.jobs() == [Driven { id, outcome: "failed".to_owned() }]).then_some(()));
}

#[test]
fn a_machine_may_be_silent_then_register_and_then_work() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let (id, token) = runner_with(&gitlab, &json!({}));
    let options = DriverOptions {
        behaviour: Behaviour::Silent,
        version: "19.3.0".to_owned(),
        ..DriverOptions::new(&gitlab, &token)
    };
    gitlab.clear_requests();
    let machine = RunnerDriver::start(options);
    let status = || caller.get(&format!("/runners/{id}")).json()["status"].clone();
    let asked = |what: &str| gitlab.requests().iter().any(|entry| entry.path.ends_with(what));
    assert_eq!(status(), "never_contacted");
    assert!(!asked("/runners/verify"));
    machine.set_behaviour(Behaviour::RegisterOnly);
    eventually(|| (status() == "online").then_some(()));
    assert!(!asked("/jobs/request"));
    machine.set_behaviour(Behaviour::Succeed);
    let path = format!("{SHOP}/pipelines/{pipeline}");
    eventually(|| (caller.get(&path).json()["status"] == "success").then_some(()));
    let managers = caller.get(&format!("/runners/{id}/managers")).json();
    assert_eq!(managers[0]["version"], "19.3.0");
    // What is asked of runners is never asked with a user's token.
    assert!(gitlab.requests().iter().all(|entry| entry.user.contains('/') == entry.token.is_empty()));
}

#[test]
fn a_job_that_stalls_can_be_canceled_or_go_on() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let (id, token) = runner_with(&gitlab, &json!({}));
    let behaviour = Behaviour::Stall;
    let machine = RunnerDriver::start(DriverOptions { behaviour, ..DriverOptions::new(&gitlab, &token) });
    let path = format!("{SHOP}/pipelines/{pipeline}");
    let job = eventually(|| machine_job(&caller, &path, "running"));
    let busy = |caller: &Caller| caller.get(&format!("/runners/{id}")).json()["job_execution_status"].clone();
    assert_eq!(busy(&caller), "active");
    eventually(|| gitlab.trace(job).contains("Preparing environment").then_some(()));
    assert!(!gitlab.trace(job).contains("hello"));
    assert_eq!(Caller::of(&gitlab, "reporter").post(&format!("{path}/cancel"), &Value::Null).status, 403);
    let canceled = Caller::of(&gitlab, "developer").post(&format!("{path}/cancel"), &Value::Null);
    assert_eq!((canceled.status, &canceled.json()["status"]), (200, &json!("canceled")));
    eventually(|| (machine.jobs() == [Driven { id: job, outcome: "canceled".to_owned() }]).then_some(()));
    assert!(machine.problems().iter().any(|problem| problem.contains("403")), "{:?}", machine.problems());
    assert_eq!(busy(&caller), "idle");

    let second = caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "main"})).json();
    let path = format!("{SHOP}/pipelines/{}", second["id"]);
    let job = eventually(|| machine_job(&caller, &path, "running"));
    machine.set_behaviour(Behaviour::Succeed);
    eventually(|| machine_job(&caller, &path, "success"));
    assert!(gitlab.trace(job).contains("Z 01O hello world!\n"));
}

#[test]
fn a_machine_bears_with_a_server_that_stumbles() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let (_, token) = runner_with(&gitlab, &json!({}));
    gitlab.inject(Fault::once("POST", "/runners/verify", Action::bad_gateway()));
    gitlab.inject(Fault::once("POST", "/jobs/request", Action::ResetBefore));
    // The portion is stored, but the machine does not learn so: it sends it again, and is told where it is.
    gitlab.inject(Fault::once("PATCH", "/trace", Action::ResetAfter));
    gitlab.inject(Fault::once("PUT", "/jobs/", Action::retry_later(&[])));
    let _machine = RunnerDriver::for_token(&gitlab, &token);
    let path = format!("{SHOP}/pipelines/{pipeline}");
    let job = eventually(|| machine_job(&caller, &path, "success"));
    let trace = gitlab.trace(job);
    assert_eq!(
        (trace.matches("hello world!\n").count(), trace.matches("Running with").count()),
        (1, 1),
        "{trace}"
    );
}

#[test]
fn a_log_may_hold_anything_and_be_cut_anywhere() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let (_, token) = runner_with(&gitlab, &json!({}));
    let output = "\u{1b}]0;title\u{7}\u{1b}[2J gr\u{fc}n \u{202e}\r0%\r100%\nno end".to_owned();
    let options = DriverOptions {
        output: output.clone(),
        portion: 7,
        timestamps: false,
        ..DriverOptions::new(&gitlab, &token)
    };
    let _machine = RunnerDriver::start(options);
    let path = format!("{SHOP}/pipelines/{pipeline}");
    let job = eventually(|| machine_job(&caller, &path, "success"));
    let trace = caller.get(&format!("{SHOP}/jobs/{job}/trace"));
    assert!(trace.text().contains(&format!("hello world!\n{output}\n")), "{}", trace.text());
    let portions = gitlab.requests().iter().filter(|entry| entry.method == "PATCH").count();
    assert_eq!(portions, trace.body.len().div_ceil(7));
}

#[test]
fn a_machine_knows_of_every_end_that_gitlab_knows_of() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let (_, token) = runner_with(&gitlab, &json!({}));
    // GitLab has taken the end in, and the machine has not heard so yet.
    let late = Fault::once("PUT", "/jobs/", Action::Late(Duration::from_millis(200)));
    gitlab.inject(Fault { skip: 1, ..late });
    let machine = RunnerDriver::for_token(&gitlab, &token);
    let path = format!("{SHOP}/pipelines/{pipeline}");
    let id = eventually(|| machine_job(&caller, &path, "success"));
    assert_eq!(machine.jobs(), [Driven { id, outcome: "success".to_owned() }]);
}

#[test]
fn a_machine_with_a_dead_token_gives_up() {
    let gitlab = FakeGitlab::start(Options { tls: false, ..Options::default() });
    let (id, token) = runner_with(&gitlab, &json!({}));
    let machine = RunnerDriver::for_token(&gitlab, &token);
    let asks = || gitlab.requests().iter().filter(|entry| entry.path.ends_with("/jobs/request")).count();
    eventually(|| (asks() > 1).then_some(()));
    gitlab.remove_runner(id);
    eventually(|| (machine.problems().len() == 3).then_some(()));
    assert!(machine.problems().iter().all(|problem| problem.starts_with("jobs/request: 403")));
    let late = RunnerDriver::for_token(&gitlab, &token);
    eventually(|| (late.problems().len() == 1).then_some(()));
    assert!(late.problems()[0].starts_with("runners/verify: 403"));
}
