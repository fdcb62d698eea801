//! What GitLab, or something in front of it, refuses in its own words: each with an id, an exit code and a way on.

use super::{
    Action, Bed, Doubles, DriverOptions, Options, PROJECT, ProjectSpec, Role, RunnerDriver, Scene, Site,
    User, fault, json, listing, run_pipeline, setup, teardown, with_machine, writes,
};
use crate::common::site::runner_token;
use outrigger_doubles::gitlab::Behaviour;

const PROMISE: &str = "the same command goes on from here";

fn says(code: u16, words: &str) -> Action {
    Action::Headers(code, Vec::new(), json!({"message": words}).to_string(), "application/json".to_owned())
}

fn page(code: u16) -> Action {
    let body = format!("<html><head><title>{code}</title></head><body>Proxy login</body></html>");
    Action::Headers(code, Vec::new(), body, "text/html".to_owned())
}

/// A push rule about commit messages: refused with the way on, which works, is kept and can be taken back.
pub fn commit_message(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let rule = |prefix: &str| {
        site.gitlab.change_project(PROJECT, |spec| spec.commit_message_prefix = Some(prefix.to_owned()));
    };
    rule("ABC-[0-9]+ ");
    let commit = || site.project(&scene.home, scene.command("commit-pipeline"), "maintainer");
    let refused = commit().fails("OR0341").says("does not follow the pattern");
    let _ = refused.says("--commit-message").never_says(PROMISE);
    let refused = setup(&scene, &site).arg("--commit-pipeline").run().code(5).says("OR0341");
    let _ = refused.never_says(PROMISE).says("what is done stays");
    rule("ABC-7 ");
    let output = setup(&scene, &site)
        .arg("--commit-pipeline")
        .flag("--commit-message", "ABC-7 Run jobs in pods, please")
        .args(["--commit-message", "Signed-off-by: A. Nonymous <a@example.com>"])
        .run()
        .code(0);
    let _ = output.says("committed");
    let messages = || -> Vec<String> {
        let commits = site.gitlab.commits(PROJECT);
        commits.iter().map(|commit| commit["message"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let message = "ABC-7 Run jobs in pods, please\n\nSigned-off-by: A. Nonymous <a@example.com>";
    assert!(messages().iter().any(|said| said == message), "{:?}", messages());
    // It is recorded: the next commit, and the one that takes it back, follow the rule, too.
    let again = setup(&scene, &site).args(["--commit-pipeline", "--image", "alpine:3.22"]).run().code(0);
    let _ = again.says("committed");
    assert_eq!(messages().iter().filter(|said| *said == message).count(), 2, "{:?}", messages());
    let _ = teardown(&scene, &site).arg("--revert-pipeline").run().code(0).says("reverted in");
    assert_eq!(messages().iter().filter(|said| said.starts_with(message)).count(), 3, "{:?}", messages());
}

/// Another push rule: refused with GitLab's words.
pub fn commit_rule(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let words = "GitLab: Author 'a@example.com' is not a member of team";
    site.gitlab.inject(fault("POST", "/repository/commits", says(400, words)));
    let output = site.project(&scene.home, scene.command("commit-pipeline"), "maintainer").fails("OR0342");
    site.gitlab.clear_faults();
    let _ = output.says("not a member of team").says("commit-pipeline --print");
}

/// A message that asks for no pipeline: one is asked for all the same.
pub fn message_that_skips(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let script = scene.home.script(&scene.deployment);
    let command = setup(&scene, &site)
        .args(["--commit-pipeline", "--run-pipeline", "--wait", "60s"])
        .flag("--commit-message", "Run jobs in pods [skip ci]");
    let (output, _vm) = site.run_with_vm(&scene.home, &script, &command);
    let _ = output.code(0).says("succeeded on runner");
}

/// What GitLab does not take of a commit, a pipeline or a runner.
pub fn words(bed: &'static Doubles) {
    let refusals: &[(&str, u16, &str, &str, i32, &str)] = &[
        ("/pipeline", 400, "Pipeline filtered out by workflow rules.", "OR0343", 3, "CI_PIPELINE_SOURCE"),
        (
            "/pipeline",
            400,
            "Identity verification is required in order to run CI jobs",
            "OR0421",
            4,
            "verify",
        ),
        (
            "/pipeline",
            403,
            "Identity verification is required in order to run CI jobs",
            "OR0421",
            4,
            "verify",
        ),
        (
            "/pipeline",
            400,
            "You do not have sufficient permission to run a pipeline on 'main'. Please select a different branch",
            "OR0422",
            4,
            "--branch",
        ),
        ("/pipeline", 422, "Something is not processable", "OR0346", 3, "GitLab's message"),
        ("/user/runners", 405, "405 Not Allowed", "OR0347", 3, "16.0"),
        ("/user/runners", 422, "Unprocessable", "OR0346", 3, "GitLab's message"),
        ("/user/runners", 401, "401 Unauthorized", "OR0411", 4, "rejected the token"),
        ("/user/runners", 404, "404 Not Found", "OR0312", 3, "not visible"),
        (
            "/user/runners",
            400,
            "400 Bad request - Tags list Too many tags specified. Please limit the number of tags to 50",
            "OR0344",
            3,
            "--tags",
        ),
        (
            "/user/runners",
            400,
            "400 Bad request - Runner projects base Maximum number of ci registered project runners (1) exceeded",
            "OR0345",
            3,
            "--group",
        ),
    ];
    let (piped, pipe_site) = (Scene::new(bed, User::Admin), Site::new());
    let (made, made_site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&piped, &pipe_site).arg("--commit-pipeline").run().code(0);
    let own = runner_token(&piped.home.script(&piped.deployment));
    piped.home.canary(&own);
    let options =
        DriverOptions { behaviour: Behaviour::RegisterOnly, ..DriverOptions::new(&pipe_site.gitlab, &own) };
    let _vm = RunnerDriver::start(options);
    super::cancel_pipelines(&pipe_site);
    let mut began = false;
    for (path, code, words, id, exit, way) in refusals {
        let (site, command) = if *path == "/pipeline" {
            (&pipe_site, run_pipeline(&piped, &pipe_site, "30s"))
        } else {
            (&made_site, setup(&made, &made_site))
        };
        site.gitlab.inject(fault("POST", path, says(*code, words)));
        let output = command.run();
        site.gitlab.clear_faults();
        // What only stops the first setup is "part-way": the cluster's objects are made. Later ones change nothing.
        let in_setup = *path != "/pipeline";
        let is_first = in_setup && !began;
        began |= in_setup;
        let exit = if *exit == 3 && is_first { 5 } else { *exit };
        let output = output.code(exit).says(id).says(way).never_says(PROMISE);
        let output = if is_first {
            output.says("what is done stays").never_says("Nothing was changed")
        } else {
            output.never_says("what is done stays").says("Nothing was changed.")
        };
        let _ = output.says(words.get(..24).unwrap_or(words));
    }
    // By itself the step refuses before its first write.
    let create = || {
        let create = made_site.project(&made.home, made.command("create-runner"), "maintainer");
        create.flag("--runner-token-out", made.home.path().join("runner-token"))
    };
    let meeting = |path: &str, code: u16, words: &str, run: &dyn Fn()| {
        for site in [&pipe_site, &made_site] {
            site.gitlab.inject(fault("POST", path, says(code, words)));
        }
        run();
        for site in [&pipe_site, &made_site] {
            site.gitlab.clear_faults();
        }
    };
    let runners = "/user/runners";
    let many = "400 Bad request - Tags list Too many tags specified. Please limit the number of tags to 50";
    meeting(runners, 400, many, &|| drop(create().fails("OR0344")));
    let limit =
        "400 Bad request - Runner projects base Maximum number of ci registered project runners (1) exceeded";
    meeting(runners, 400, limit, &|| drop(create().fails("OR0345")));
    meeting(runners, 422, "Unprocessable", &|| drop(create().fails("OR0346")));
    meeting(runners, 405, "405 Not Allowed", &|| drop(create().fails("OR0347")));
    let identity = "Identity verification is required in order to run CI jobs";
    let run = || drop(run_pipeline(&piped, &pipe_site, "30s").fails("OR0421"));
    meeting("/pipeline", 403, identity, &run);
    let protected =
        "You do not have sufficient permission to run a pipeline on 'main'. Please select a different branch";
    let run = || drop(run_pipeline(&piped, &pipe_site, "30s").fails("OR0422"));
    meeting("/pipeline", 400, protected, &run);
    let _ = setup(&made, &made_site).run().code(0);
}

/// The same of the double's own: a file whose rules leave no pipeline.
pub fn workflow_rules(bed: &'static Doubles) {
    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::Succeed);
    let ours = site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("the file");
    let rules = "workflow: {rules: [{if: '$CI_PIPELINE_SOURCE == \"merge_request_event\"'}]}\n";
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", &format!("{ours}\n{rules}"));
    let _ = run_pipeline(&scene, &site, "30s").fails("OR0343").says("filtered out");
}

/// More tags than GitLab takes are refused before anything is asked.
pub fn too_many_tags(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let tags: Vec<String> = (0..51).map(|number| format!("tag-{number}")).collect();
    bed.mark();
    site.gitlab.clear_requests();
    let output = setup(&scene, &site).flag("--tags", tags.join(",")).run().code(2);
    let _ = output.says("OR0202").says("--tags").says("tag-50").says("at most 50");
    assert!(site.gitlab.requests().is_empty(), "nothing was asked");
    assert_eq!(listing(&writes(bed)), "");
    let _ = setup(&scene, &site).flag("--tags", tags[..50].join(",")).run().code(0);
}

/// What a proxy says is not GitLab's word.
pub fn proxy_pages(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let refused = |action: Action, path: &str| {
        site.gitlab.inject(fault("", path, action));
        let output = setup(&scene, &site).run();
        site.gitlab.clear_faults();
        output
    };
    // The token is not called bad for it.
    for code in [401, 403, 407] {
        let output = refused(page(code), "").code(4).says("OR0423").says("text/html").says("Proxy login");
        let _ = output.never_says("GitLab says").never_says("rejected the token");
    }
    for code in [400, 404] {
        let output = refused(page(code), "%2F").code(3).says("OR0310").says("%2F").says("numeric id");
        let _ = output.says("--project ID").never_says("GitLab says");
    }
    site.gitlab.inject(fault("", "", page(403)));
    setup(&scene, &site).fails("OR0423");
    site.gitlab.clear_faults();
    site.gitlab.inject(fault("", "%2F", page(404)));
    setup(&scene, &site).fails("OR0310");
    site.gitlab.clear_faults();
    // Another page is not about the path.
    let _ = refused(page(404), "/personal_access_tokens").never_says("%2F");
    // And the way on works: the numeric id passes.
    site.gitlab.inject(fault("", "%2F", page(404)));
    let id = site.gitlab.project_id(PROJECT).to_string();
    let by_id = site.on(&scene.home, scene.command("setup"), "maintainer").flag("--project", &id);
    let output = by_id.run();
    site.gitlab.clear_faults();
    output.code(0);
}

/// Manual, skipped and allowed failures, and jobs of other runners, are shown and not judged.
pub fn other_jobs(bed: &'static Doubles) {
    let spec = ProjectSpec { protected_branches: Vec::new(), ..ProjectSpec::new("acme/mixed") };
    let site = Site::with(Options::default());
    site.gitlab.add_project(spec);
    site.gitlab.set_role("maintainer", "acme/mixed", Some(Role::Maintainer));
    site.gitlab.set_role("owner", "acme/mixed", Some(Role::Owner));
    let scene = Scene::new(bed, User::Admin);
    let on = |command| site.on(&scene.home, command, "maintainer").flag("--project", "acme/mixed");
    on(scene.command("setup").arg("--commit-pipeline")).run().code(0);
    let ours = site.gitlab.file("acme/mixed", "main", ".gitlab-ci.yml").expect("the file");
    let more = "deploy: {stage: deploy, script: [x], when: manual, tags: [k8s-runner]}\n\
                scan: {script: [x], allow_failure: true, tags: [theirs]}\n";
    site.gitlab.put_file("acme/mixed", "main", ".gitlab-ci.yml", &format!("{ours}\n{more}"));
    // Somebody else's runner fails the scan.
    let body = json!({"runner_type": "project_type", "project_id": site.gitlab.project_id("acme/mixed"),
        "description": "somebody else's", "tag_list": ["theirs"], "run_untagged": false});
    let theirs = crate::common::site::post(&site.gitlab, "owner", "/user/runners", &body);
    let behaviour = Behaviour::Fail { reason: "script_failure".to_owned(), exit_code: 1 };
    let token = theirs["token"].as_str().expect("a token").to_owned();
    let _other = RunnerDriver::start(DriverOptions { behaviour, ..DriverOptions::new(&site.gitlab, &token) });
    let own = runner_token(&scene.home.script(&scene.deployment));
    scene.home.canary(&own);
    let _vm = RunnerDriver::for_token(&site.gitlab, &own);
    let run = || on(scene.command("run-pipeline")).flag("--wait", "60s").run();
    let output = run().code(0).says("succeeded on runner").says("not judged").says("deploy (manual)");
    let _ = output.says("scan (failed, allowed to fail");
    let _ = run().code(0).says("kept: pipeline");
}
