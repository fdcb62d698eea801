//! What GitLab may answer, and what must not follow from it: on the doubles, where it can be arranged.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use outrigger_doubles::gitlab::{
    Action, Behaviour, DriverOptions, Fault, GROUP, Options, PROJECT, ProjectSpec, Role, RunnerDriver,
    TokenKind, TokenSpec,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Doubles;
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Output, SOON};
use crate::common::site::{Site, runner_token};
use crate::common::world::{assert_same, world};
use crate::scenarios::{NO_MACHINE, Scene, listing, writes};

mod access;
mod answers;
mod creation;
mod headlines;
mod health;
mod jobs;
mod refusals;
mod tokens;

type OnDoubles = fn(&'static Doubles);

/// The trials of this file.
pub const GITLAB: &[(&str, OnDoubles)] = &[
    ("gitlab_killed_after_the_runner_was_made", creation::killed_after_creation),
    ("gitlab_killed_with_a_narrow_token", creation::killed_with_a_narrow_token),
    ("gitlab_killed_before_the_runner_was_made", creation::killed_before_creation),
    ("gitlab_answer_of_the_creation_lost", creation::answer_lost),
    ("gitlab_token_in_use_is_not_reset", creation::token_in_use),
    ("gitlab_scopes_and_roles", tokens::scopes_and_roles),
    ("gitlab_narrow_tokens_are_enough", tokens::narrow_tokens),
    ("gitlab_dead_tokens", tokens::dead_tokens),
    ("gitlab_projects_that_will_not_do", tokens::wrong_projects),
    ("gitlab_who_may_commit", tokens::who_may_commit),
    ("gitlab_file_of_somebody_else", answers::foreign_file),
    ("gitlab_token_goes_nowhere_else", tokens::redirects),
    ("gitlab_moved_project", tokens::moved_project),
    ("gitlab_annotations_aim_at_nothing", creation::forged_annotations),
    ("gitlab_forged_marks", creation::forged_marks),
    ("gitlab_tokens_of_every_prefix", tokens::token_prefixes),
    ("gitlab_registration_tokens", tokens::registration_tokens),
    ("gitlab_answers_never_seen_before", answers::odd_answers),
    ("gitlab_lists_without_end", answers::lists_without_end),
    ("gitlab_maintenance", answers::maintenance),
    ("gitlab_throttled", answers::throttled),
    ("gitlab_interrupted_while_waiting", answers::interrupted_while_waiting),
    ("gitlab_stuck_and_slow", jobs::stuck_and_slow),
    ("gitlab_job_fails_or_runs_elsewhere", jobs::bad_ends),
    ("gitlab_headline_names_the_runner_that_is_not_there", headlines::of_runners),
    ("gitlab_headline_names_why_a_job_failed", headlines::of_failed_jobs),
    ("gitlab_headline_names_why_a_pipeline_ran_no_job", headlines::of_pipelines),
    ("gitlab_headline_of_setup", headlines::of_setup),
    ("gitlab_runner_that_takes_no_jobs_is_not_healthy", health::of_the_runner),
    ("gitlab_commit_that_stays_is_reverted_later", answers::commit_that_stays),
    ("gitlab_running_job_is_waited_for", jobs::running_job),
    ("gitlab_teardown_interrupted_while_a_job_runs", jobs::interrupted_teardown),
    ("gitlab_down_does_not_keep_the_cluster", answers::gitlab_down),
    ("gitlab_cluster_down_does_not_keep_the_runner", jobs::cluster_down),
    ("gitlab_another_instance_is_refused", tokens::another_instance),
    ("gitlab_drift_is_mended", creation::drift),
    ("gitlab_runner_by_itself", creation::by_itself),
    ("gitlab_mark_removed", creation::mark_removed),
    ("gitlab_another_project", creation::another_project),
    ("gitlab_lint", answers::lint),
    ("gitlab_proxies", answers::proxies),
    ("gitlab_preflight", tokens::preflight),
    ("gitlab_addresses", tokens::addresses),
    ("gitlab_request_counts", answers::request_counts),
    ("gitlab_commit_message_by_a_rule", refusals::commit_message),
    ("gitlab_commit_rule", refusals::commit_rule),
    ("gitlab_commit_message_that_skips_pipelines", refusals::message_that_skips),
    ("gitlab_refusals_have_ids_and_ways_on", refusals::words),
    ("gitlab_workflow_rules_leave_no_pipeline", refusals::workflow_rules),
    ("gitlab_too_many_tags", refusals::too_many_tags),
    ("gitlab_proxy_pages_are_not_gitlabs_word", refusals::proxy_pages),
    ("gitlab_other_jobs_are_shown_and_not_judged", refusals::other_jobs),
    ("gitlab_invited_groups_and_custom_roles", access::invited_groups_and_custom_roles),
    ("gitlab_roles_that_gitlab_does_not_tell", access::roles_that_gitlab_does_not_tell),
    ("gitlab_oauth_tokens", access::oauth_tokens),
    ("gitlab_fine_grained_tokens", access::fine_grained_tokens),
    ("gitlab_permissions_of_the_help_page", access::permissions_of_the_help_page),
    (
        "gitlab_fine_grained_tokens_and_unfinished_creations",
        access::fine_grained_tokens_and_unfinished_creations,
    ),
    ("gitlab_members_who_may_not_create_runners", access::members_who_may_not_create_runners),
    ("gitlab_manage_runner_under_a_relative_root", access::manage_runner_under_a_relative_root),
    ("gitlab_silence_where_machines_are_not_told", access::silence_where_machines_are_not_told),
    ("gitlab_read_only_instances", access::read_only_instances),
    ("gitlab_lint_out_of_turn", access::lint_out_of_turn),
    ("gitlab_token_that_is_not_renewed", access::token_that_is_not_renewed),
];

fn fault(method: &str, path_contains: &str, action: Action) -> Fault {
    Fault {
        method: Some(method.to_owned()).filter(|method| !method.is_empty()),
        path_contains: path_contains.to_owned(),
        query_contains: String::new(),
        skip: 0,
        times: usize::MAX,
        action,
    }
}

fn once(method: &str, path_contains: &str, action: Action) -> Fault {
    Fault { times: 1, ..fault(method, path_contains, action) }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn setup<'a>(scene: &'a Scene<'a>, site: &Site) -> Cli<'a> {
    site.project(&scene.home, scene.command("setup"), "maintainer")
}

fn teardown<'a>(scene: &'a Scene<'a>, site: &Site) -> Cli<'a> {
    site.project(&scene.home, scene.teardown(), "maintainer")
}

fn killed(site: &Site, command: &Cli<'_>, after: bool) -> Output {
    let pid = Arc::new(AtomicI32::new(0));
    let target = Arc::clone(&pid);
    let kill = Box::new(move || {
        while target.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let pid = Pid::from_raw(target.load(Ordering::Acquire)).expect("a process id");
        let _ = kill_process(pid, Signal::KILL);
    });
    let action = if after { Action::KillAfter(kill) } else { Action::KillBefore(kill) };
    site.gitlab.inject(once("POST", "/user/runners", action));
    let running = command.start();
    pid.store(i32::try_from(running.pid()).expect("ids are small"), Ordering::Release);
    let output = running.wait();
    site.gitlab.clear_faults();
    assert_eq!(output.code, None, "it was killed\n{output}");
    output
}

fn assert_one_good_runner(scene: &Scene<'_>, site: &Site, what: &str) {
    let runners = site.gitlab.runners();
    assert_eq!(runners.len(), 1, "{what}: {runners:?}");
    let id = runners[0]["id"].as_u64().expect("runners have ids");
    let token = runner_token(&scene.home.script(&scene.deployment));
    scene.home.canary(&token);
    assert_eq!(token, site.gitlab.runner_token(id), "{what}: the script holds the runner's present token");
}

pub fn with_machine(
    bed: &'static Doubles,
    site: &Site,
    behaviour: Behaviour,
) -> (Scene<'static>, RunnerDriver) {
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, site).arg("--commit-pipeline").run().code(0);
    let script: PathBuf = scene.home.script(&scene.deployment);
    let token = runner_token(&script);
    scene.home.canary(&token);
    let vm = RunnerDriver::start(DriverOptions { behaviour, ..DriverOptions::new(&site.gitlab, &token) });
    (scene, vm)
}

/// Cancels all pipelines, so that the next run starts one.
pub fn cancel_pipelines(site: &Site) {
    for pipeline in site.gitlab.pipelines(PROJECT) {
        let path =
            format!("/projects/{}/pipelines/{}/cancel", site.gitlab.project_id(PROJECT), pipeline["id"]);
        crate::common::site::post(&site.gitlab, "maintainer", &path, &json!({}));
    }
}

pub fn run_pipeline<'a>(scene: &'a Scene<'a>, site: &Site, wait: &str) -> Cli<'a> {
    site.project(&scene.home, scene.command("run-pipeline"), "maintainer").flag("--wait", wait)
}

fn runner_id(site: &Site) -> u64 {
    site.gitlab.runners()[0]["id"].as_u64().expect("a runner")
}
