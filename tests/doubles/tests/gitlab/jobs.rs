//! The GitLab double: pipelines, and their jobs as runners and users see them.

use std::time::Duration;

use crate::client::pipelines::{ARTICLE, ask, commit, pipeline_of, runner_with, with_pipeline};
use crate::client::{Caller, SHOP, error, message};
use outrigger_doubles::gitlab::{FakeGitlab, Options, PROJECT, ProjectSpec};
use outrigger_doubles::http::{Http, Reply};
use serde_json::{Value, json};

#[test]
fn what_a_push_starts_depends_on_file_and_message() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let statuses = |reply: &Reply| {
        assert_eq!(reply.status, 201, "{}", reply.text());
        let sha = reply.json()["id"].as_str().unwrap_or_default().to_owned();
        let list = caller.get(&format!("{SHOP}/pipelines?sha={sha}")).json();
        let rows = list.as_array().into_iter().flatten();
        rows.map(|row| row["status"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    // Skipped ones are there, but have no jobs.
    let skipped = commit(&caller, "skipped", ARTICLE, "Say hello [ci skip]");
    assert_eq!(statuses(&skipped), ["skipped"]);
    let id = pipeline_of(&caller, skipped.json()["id"].as_str().unwrap_or_default())["id"].clone();
    assert_eq!(caller.get(&format!("{SHOP}/pipelines/{id}/jobs")).json(), json!([]));
    // Asked for by name, they run.
    let made = caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "skipped"})).json();
    assert_eq!((&made["status"], &made["source"]), (&json!("pending"), &json!("api")));
    let broken = commit(&caller, "broken", "job: {tags: [a]}", "Break");
    assert_eq!(statuses(&broken), ["failed"]);
    let id = pipeline_of(&caller, broken.json()["id"].as_str().unwrap_or_default())["id"].clone();
    let errors = caller.get(&format!("{SHOP}/pipelines/{id}")).json()["yaml_errors"].clone();
    assert!(errors.as_str().is_some_and(|errors| errors.contains("script:")), "{errors}");
    gitlab.change_project(PROJECT, |spec| spec.ci_config_path = Some("other.yml".to_owned()));
    assert_eq!(statuses(&commit(&caller, "elsewhere", ARTICLE, "x")), Vec::<String>::new());
    gitlab.change_project(PROJECT, |spec| (spec.ci_config_path, spec.builds_enabled) = (None, false));
    assert_eq!(statuses(&commit(&caller, "off", ARTICLE, "x")), Vec::<String>::new());
}

#[test]
fn pipelines_are_refused_with_their_reasons() {
    let gitlab = FakeGitlab::start(Options::default());
    let create = |user: &str, body: &Value| Caller::of(&gitlab, user).post(&format!("{SHOP}/pipeline"), body);
    let base = |reply: &Reply| {
        assert_eq!(reply.status, 400);
        reply.json()["message"]["base"][0].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(error(&create("maintainer", &json!({}))), "ref is missing");
    assert_eq!(base(&create("maintainer", &json!({"ref": "none"}))), "Reference not found");
    assert_eq!(base(&create("maintainer", &json!({"ref": "main"}))), "Missing CI config file");
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", "job: {script: x, rules: [{when: never}]}");
    assert!(base(&create("maintainer", &json!({"ref": "main"}))).starts_with("Pipeline will not run"));
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", "job: {tags: [a]}");
    assert!(base(&create("maintainer", &json!({"ref": "main"}))).contains("script:"));
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", ARTICLE);
    assert!(
        base(&create("developer", &json!({"ref": "main"})))
            .contains("sufficient permission to run a pipeline on 'main'")
    );
    assert_eq!(message(&create("reporter", &json!({"ref": "main"}))), "403 Forbidden");
    gitlab.put_file(PROJECT, "demo", ".gitlab-ci.yml", ARTICLE);
    assert_eq!(create("developer", &json!({"ref": "demo"})).status, 201);
    gitlab.change_project(PROJECT, |spec| spec.archived = true);
    assert_eq!(create("owner", &json!({"ref": "demo"})).status, 403);
}

#[test]
fn a_job_comes_with_all_that_a_runner_needs() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let variables = json!([{"key": "WHO", "value": "world"}]);
    let again =
        caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "main", "variables": variables})).json();
    let (_, token) = runner_with(&gitlab, &json!({"maximum_timeout": 600}));
    let nobody = Caller::with(&gitlab, "");
    let payload = ask(&nobody, &token);
    assert_eq!((payload.status, payload.header("content-type")), (201, "application/json"));
    let job = payload.json();
    assert_eq!(
        job["job_info"],
        json!({"name": "job", "stage": "test", "project_id": gitlab.project_id(PROJECT), "project_name": "shop"})
    );
    assert_eq!(
        (&job["image"]["name"], &job["runner_info"]["timeout"]),
        (&json!("alpine:latest"), &json!(600))
    );
    assert_eq!(job["steps"][0]["script"], json!(["echo \"hello world!\""]));
    assert_eq!((&job["git_info"]["ref"], &job["git_info"]["ref_type"]), (&json!("main"), &json!("branch")));
    assert!(job.get("run").is_none());
    let credentials = &job["credentials"][0];
    assert_eq!((&credentials["type"], &credentials["password"]), (&json!("registry"), &job["token"]));
    let names = |job: &Value| job["variables"].to_string();
    assert!(names(&job).contains("\"CI_JOB_TOKEN\"") && !names(&job).contains("\"WHO\""));
    assert_eq!(job["id"], caller.get(&format!("{SHOP}/pipelines/{pipeline}/jobs")).json()[0]["id"]);
    gitlab.change_project(PROJECT, |spec| spec.registry_enabled = false);
    let second = ask(&nobody, &token).json();
    assert!(names(&second).contains("\"WHO\"") && second["credentials"] == json!([]));
    assert_eq!(second["id"], caller.get(&format!("{SHOP}/pipelines/{}/jobs", again["id"])).json()[0]["id"]);
    let last = ask(&nobody, &token);
    assert_eq!((last.status, last.body.len()), (204, 0));
    assert!(!last.header("x-gitlab-last-update").is_empty());
    // What has not changed since is not looked into again.
    let update = last.header("x-gitlab-last-update").to_owned();
    let body = json!({"token": token, "system_id": "s_1", "last_update": update});
    assert_eq!(nobody.post("/jobs/request", &body).header("x-gitlab-last-update"), update);
    caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "main"}));
    assert_eq!(nobody.post("/jobs/request", &body).status, 201);
    assert_eq!(ask(&nobody, "glrt-none").status, 403);
    assert_eq!(nobody.post("/jobs/request", &json!({"token": token})).status, 204);
}

#[test]
fn only_runners_that_fit_get_a_job() {
    let untagged = ARTICLE.replace("  tags:\n    - k8s-runner\n", "");
    let own = |more: Value| more;
    for (text, more, fits) in [
        (ARTICLE, own(json!({})), true),
        (ARTICLE, own(json!({"tag_list": ["other"]})), false),
        (ARTICLE, own(json!({"tag_list": ["other", "k8s-runner"]})), true),
        (ARTICLE, own(json!({"tag_list": [], "run_untagged": true})), false),
        (ARTICLE, own(json!({"paused": true})), false),
        (ARTICLE, own(json!({"locked": true})), true),
        (ARTICLE, own(json!({"access_level": "ref_protected"})), true),
        (ARTICLE, own(json!({"runner_type": "instance_type"})), true),
        (untagged.as_str(), own(json!({})), false),
        (untagged.as_str(), own(json!({"run_untagged": true})), true),
    ] {
        let (gitlab, _, _) = with_pipeline(Options::default(), text);
        let (_, token) = runner_with(&gitlab, &more);
        let reply = ask(&Caller::with(&gitlab, ""), &token);
        assert_eq!(reply.status, if fits { 201 } else { 204 }, "{more} {text}");
    }
    // A runner for protected branches passes others by, and each has its project.
    let (gitlab, caller, _) = with_pipeline(Options::default(), "job: {script: x, tags: [demo]}");
    let demo = ARTICLE.replace("k8s-runner", "demo");
    gitlab.put_file(PROJECT, "demo", ".gitlab-ci.yml", &demo);
    caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "demo"}));
    gitlab.add_project(ProjectSpec::new("acme/other"));
    let nobody = Caller::with(&gitlab, "");
    let (_, foreign) =
        runner_with(&gitlab, &json!({"tag_list": ["demo"], "project_id": gitlab.project_id("acme/other")}));
    assert_eq!(ask(&nobody, &foreign).status, 204);
    let (_, strict) = runner_with(&gitlab, &json!({"tag_list": ["demo"], "access_level": "ref_protected"}));
    assert_eq!(ask(&nobody, &strict).json()["git_info"]["ref"], "main");
    assert_eq!(ask(&nobody, &strict).status, 204);
    let group = gitlab.add_group("acme");
    let body = json!({"tag_list": ["demo"], "runner_type": "group_type", "group_id": group});
    let (_, wide) = runner_with(&gitlab, &body);
    assert_eq!(ask(&nobody, &wide).json()["git_info"]["ref"], "demo");
}

#[test]
fn logs_grow_by_ranges_and_jobs_end_with_all_of_them() {
    let (gitlab, caller, _) = with_pipeline(Options::default(), ARTICLE);
    let (_, token) = runner_with(&gitlab, &json!({}));
    let nobody = Caller::with(&gitlab, "");
    let job = ask(&nobody, &token).json();
    let (id, secret) =
        (job["id"].as_u64().expect("an id"), job["token"].as_str().unwrap_or_default().to_owned());
    let shown = format!("{SHOP}/jobs/{id}");
    let trace = || caller.get(&format!("{shown}/trace"));
    assert_eq!((trace().status, trace().body.len()), (200, 0));
    let http = Http::new(&gitlab.url(), &gitlab.ca_pem());
    let patch = |token: &str, range: &str, text: &str| {
        let mut headers = vec![("JOB-TOKEN", token), ("Content-Type", "text/plain")];
        if !range.is_empty() {
            headers.push(("Content-Range", range));
        }
        let path = format!("/api/v4/jobs/{id}/trace?debug_trace=false");
        http.send("PATCH", &path, &headers, text.as_bytes()).expect("an answer")
    };
    assert_eq!(patch("wrong", "0-4", "hello").status, 403);
    assert_eq!(patch(&secret, "", "hello").status, 400);
    let first = patch(&secret, "0-4", "hello");
    assert_eq!((first.status, first.header("range"), first.header("job-status")), (202, "0-5", "running"));
    for range in ["0-4", "6-10", "5-11", "x"] {
        let refused = patch(&secret, range, "again");
        assert_eq!((refused.status, refused.header("range")), (416, "0-5"), "{range}");
    }
    assert_eq!(patch(&secret, "5-10", " world").status, 202);
    assert_eq!(trace().text(), "hello world");
    let put = |body: &Value| nobody.put(&format!("/jobs/{id}"), body);
    assert_eq!(put(&json!({"token": "wrong", "state": "success"})).status, 403);
    assert_eq!(put(&json!({"token": secret, "state": "running"})).status, 200);
    let running = caller.get(&shown).json();
    assert_eq!((&running["status"], running.get("failure_reason")), (&json!("running"), None));
    let short = json!({"token": secret, "state": "success", "output": {"bytesize": 12}});
    assert_eq!(put(&short).status, 412);
    let end = json!({"token": secret, "state": "failed", "failure_reason": "script_failure", "exit_code": 3, "output": {"bytesize": 11}});
    assert_eq!(put(&end).status, 200);
    let job = caller.get(&shown).json();
    assert_eq!((&job["status"], &job["failure_reason"]), (&json!("failed"), &json!("script_failure")));
    // It is over.
    let late = put(&end);
    assert_eq!((late.status, late.header("job-status")), (403, "failed"));
    assert_eq!(patch(&secret, "11-11", "!").status, 403);
    assert_eq!(nobody.put("/jobs/77", &end).status, 404);
    assert_eq!(trace().text(), "hello world");
}

#[test]
fn stages_follow_each_other() {
    let text = "stages: [one, two]\nsecond: {stage: two, script: x, tags: [k8s-runner]}\n\
                first: {stage: one, script: x, tags: [k8s-runner]}\n\
                optional: {stage: one, script: x, when: manual}\n";
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), text);
    let path = format!("{SHOP}/pipelines/{pipeline}");
    let jobs = || {
        let jobs = caller.get(&format!("{path}/jobs")).json();
        let shown =
            jobs.as_array().into_iter().flatten().map(|job| format!("{} {}", job["name"], job["status"]));
        shown.collect::<Vec<_>>().join(", ").replace('"', "")
    };
    assert_eq!(jobs(), "optional manual, first pending, second created");
    let (_, token) = runner_with(&gitlab, &json!({}));
    let nobody = Caller::with(&gitlab, "");
    let end = |state: &str| {
        let job = ask(&nobody, &token).json();
        let body = json!({"token": job["token"], "state": state});
        assert_eq!(nobody.put(&format!("/jobs/{}", job["id"]), &body).status, 200);
    };
    end("success");
    assert_eq!(jobs(), "optional manual, first success, second pending");
    assert_eq!(caller.get(&path).json()["status"], "running");
    end("success");
    assert_eq!(caller.get(&path).json()["status"], "success");
    let again = caller.post(&format!("{SHOP}/pipeline"), &json!({"ref": "main"})).json();
    end("failed");
    let shown = caller.get(&format!("{SHOP}/pipelines/{}", again["id"])).json();
    assert_eq!(shown["status"], "failed");
    let jobs = caller.get(&format!("{SHOP}/pipelines/{}/jobs?scope[]=skipped", again["id"])).json();
    assert_eq!((&jobs[0]["name"], jobs.as_array().map(Vec::len)), (&json!("second"), Some(1)));
}

#[test]
fn what_no_runner_takes_fails_in_the_end() {
    let (gitlab, caller, pipeline) = with_pipeline(Options::default(), ARTICLE);
    let path = format!("{SHOP}/pipelines/{pipeline}/jobs");
    gitlab.advance(Duration::from_secs(3500));
    assert_eq!(caller.get(&path).json()[0]["status"], "pending");
    gitlab.advance(Duration::from_secs(200));
    let job = caller.get(&path).json()[0].clone();
    assert_eq!(
        (&job["status"], &job["failure_reason"]),
        (&json!("failed"), &json!("stuck_or_timeout_failure"))
    );
    assert!(job["runner"].is_null());
}
