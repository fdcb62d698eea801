//! The first line of a failed `run-pipeline` says what happened, and the lines below it what to do.

use super::{
    Behaviour, Doubles, Duration, PROJECT, SOON, Scene, Site, User, Value, fault, json, run_pipeline,
    runner_id, setup, until, with_machine,
};
use crate::common::run::Output;
use crate::common::site::{post, put};
use outrigger_doubles::gitlab::Action;

const FILE: &str = ".gitlab-ci.yml";

/// The error's first line.
fn headline(output: &Output) -> String {
    let text = output.stderr();
    let text = text.lines().find(|line| line.starts_with("error ")).unwrap_or_default();
    text.split_once(": ").map(|(_, text)| text.to_owned()).unwrap_or_default()
}

/// Asserts id and first line, and that it comes after the last line about waiting.
fn expect(output: Output, code: i32, id: &str, words: &str) -> Output {
    let output = output.code(code).says(id).says(words);
    assert!(headline(&output).starts_with(words.get(..40).unwrap_or(words)), "{output}");
    let text = output.stderr();
    let error = text.find("error OR").expect("an error");
    assert!(!text[error..].contains("waiting for"), "nothing is waited for after it\n{output}");
    output
}

fn pipeline_is(site: &Site, status: &str) {
    until(status, || site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == status));
}

/// A runner that is not there, in all ways.
pub fn of_runners(bed: &'static Doubles) {
    let site = Site::new();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Silent);
    let id = runner_id(&site);
    let runner = format!("/runners/{id}");
    let run = |wait: &str| run_pipeline(&scene, &site, wait).run();
    let words = format!("runner {id} has not contacted GitLab within 3 s");
    let output = expect(run("3s"), 8, "OR0806", &words);
    // --timeout is for everything else.
    let brief = run_pipeline(&scene, &site, "6s").flag("--timeout", "4s").run();
    let _ = expect(brief, 8, "OR0806", &words.replace("3 s", "6 s"));
    let _ = output.says("run the launch script on the machine").says("run-pipeline --wait 30m");

    // In contact, and its service asks for no jobs.
    vm.set_behaviour(Behaviour::RegisterOnly);
    let words =
        format!("job test has not started within 4 s: runner {id} is in contact and has not taken it");
    until("the machine has made contact", || site.count("POST", "/runners/verify") > 0);
    let _ = expect(run("4s"), 8, "OR0806", &words).says("journalctl -u gitlab-runner");

    // It takes jobs of protected branches only, and this branch is not one any more.
    put(&site.gitlab, "maintainer", &runner, &json!({"access_level": "ref_protected"}));
    site.gitlab.change_project(PROJECT, |project| project.protected_branches.clear());
    let words = format!("job test cannot start: runner {id} takes jobs of protected branches only");
    let output = expect(run("60s"), 9, "OR0912", &words).says("clear Protected");
    assert!(output.took < SOON, "no waiting helps\n{output}");
    put(&site.gitlab, "maintainer", &runner, &json!({"access_level": "not_protected"}));

    // Gone for hours.
    drop(vm);
    site.gitlab.advance(Duration::from_secs(3 * 3600));
    // The job of before has failed by then; a new one waits.
    let words = format!("job test has not started within 4 s: runner {id} is offline: last contact 3 h ago");
    let output = expect(run("4s"), 8, "OR0806", &words).says("systemctl status gitlab-runner");
    let _ = output.never_says("has contacted GitLab");
    put(&site.gitlab, "maintainer", &runner, &json!({"paused": true}));
    let _ = expect(run("60s"), 9, "OR0912", &format!("runner {id} is paused: it takes no job"));
}

/// GitLab's reason for a failed job, in words; no log is referred to where there is none.
pub fn of_failed_jobs(bed: &'static Doubles) {
    let site = Site::new();
    let failing = |reason: &str| Behaviour::Fail { reason: reason.to_owned(), exit_code: 3 };
    let (scene, vm) = with_machine(bed, &site, failing("script_failure"));
    let id = runner_id(&site);
    let run = || run_pipeline(&scene, &site, "60s").run();
    for (reason, words, then) in [
        ("script_failure", "a command of its script failed", "correct the job; its log above"),
        ("runner_system_failure", "the runner could not run it in the cluster", "outrigger status"),
        ("job_execution_timeout", "it ran longer than its timeout", "correct the job"),
    ] {
        vm.set_behaviour(failing(reason));
        let output = expect(run(), 9, "OR0910", &format!("job test failed on runner {id}: {words}"));
        let output =
            output.says("its log says").says("ERROR: Job failed: command terminated with exit code 3");
        let _ = output.says("GitLab says").says(reason).says(then).says("hello world!");
    }
    // Reasons that only GitLab gives.
    vm.set_behaviour(failing("script_failure"));
    for (reason, words) in [
        ("scheduler_failure", ": GitLab could not assign it to a runner"),
        ("missing_dependency_failure", ": artifacts of an earlier job are missing"),
        ("unmet_prerequisites", ": what GitLab prepares for it failed"),
        ("ci_quota_exceeded", ": no compute minutes are left"),
        ("of_a_later_version", ""),
    ] {
        let reason = reason.to_owned();
        let quoted = reason.clone();
        let edit = Action::Edit(Box::new(move |jobs: &mut Value| {
            for job in jobs.as_array_mut().into_iter().flatten().filter(|job| job["status"] == "failed") {
                job["failure_reason"] = json!(reason);
            }
        }));
        site.gitlab.inject(fault("GET", "/jobs", edit));
        let output = run();
        site.gitlab.clear_faults();
        let output = expect(output, 9, "OR0910", &format!("job test failed on runner {id}{words}"));
        let _ = output.says(&quoted);
    }
    // No runner took it: there is no log.
    vm.set_behaviour(Behaviour::RegisterOnly);
    let command = run_pipeline(&scene, &site, "60s");
    let running = command.start();
    pipeline_is(&site, "pending");
    site.gitlab.advance(Duration::from_secs(25 * 3600));
    let output = expect(running.wait(), 9, "OR0910", "job test failed: no runner took it in time");
    let _ = output.says("stuck_or_timeout_failure").never_says("log above").says("outrigger status");
}

/// Pipelines that end without a job that succeeded or failed.
pub fn of_pipelines(bed: &'static Doubles) {
    let site = Site::new();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Stall);
    let run = || run_pipeline(&scene, &site, "60s").run();
    // Cut off while the job runs.
    let output = run_pipeline(&scene, &site, "4s").run();
    let words = format!("job test has not finished on runner {} within 4 s", runner_id(&site));
    let _ = expect(output, 8, "OR0806", &words);
    // Canceled.
    let command = run_pipeline(&scene, &site, "60s");
    let running = command.start();
    until("its log is shown", || running.has_said("Running with gitlab-runner"));
    let id = site.gitlab.pipelines(PROJECT).iter().filter_map(|one| one["id"].as_u64()).max().expect("one");
    let project = site.gitlab.project_id(PROJECT);
    post(&site.gitlab, "maintainer", &format!("/projects/{project}/pipelines/{id}/cancel"), &json!({}));
    let output =
        expect(running.wait(), 9, "OR0910", &format!("pipeline {id} was canceled, and its job test"));
    let _ = output.says("to start it once more");

    // Files of other kinds: the pipeline's number is the next one.
    vm.set_behaviour(Behaviour::Succeed);
    let job = |more: &str| format!("test: {{tags: [k8s-runner], script: [x], {more}}}\n");
    for (file, code, id, words) in [
        (job("when: manual"), 9, "OR0910", " ran on a runner: test (manual)"),
        (job("when: manual, allow_failure: false"), 9, "OR0910", " waits for the manual job test"),
        (
            format!(
                "{}lint: {{tags: [k8s-runner], script: [x], when: manual, allow_failure: false}}\n",
                job("when: on_success")
            ),
            9,
            "OR0910",
            "waits for the manual job lint",
        ),
        (job("when: never"), 3, "OR0343", ""),
        (job("odd: true"), 3, "OR0346", "in the pipeline file"),
    ] {
        site.gitlab.put_file(PROJECT, "main", FILE, &file);
        let output = run().code(code).says(id).says(words);
        assert!(headline(&output).contains(words) || code == 3, "{file}\n{output}");
    }
    // Everything is well again, and a job that may fail does.
    let theirs = "scan: {tags: [k8s-runner], script: [x], allow_failure: true}\n";
    site.gitlab.put_file(PROJECT, "main", FILE, theirs);
    vm.set_behaviour(Behaviour::Fail { reason: "script_failure".to_owned(), exit_code: 1 });
    let words = format!("job scan failed on runner {}: a command of its script failed", runner_id(&site));
    let _ = expect(run(), 9, "OR0910", &words).says("succeeded: the job may fail");
}

/// The same with `setup`, whose last line says how to go on.
pub fn of_setup(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let command = setup(&scene, &site).args(["--commit-pipeline", "--run-pipeline", "--wait", "3s"]);
    let output = command.run().code(8).says("OR0806");
    let id = runner_id(&site);
    assert_eq!(headline(&output), format!("runner {id} has not contacted GitLab within 3 s"), "{output}");
    let text = output.stderr();
    let failed = text
        .lines()
        .find(|line| line.contains(" run-pipeline ") && line.starts_with("x "))
        .unwrap_or_default();
    assert!(failed.contains("has not contacted GitLab within 3 s"), "{output}");
}
