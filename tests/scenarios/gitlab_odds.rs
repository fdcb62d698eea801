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
use crate::common::run::{Cli, Output};
use crate::common::site::{Site, runner_token};
use crate::common::world::{assert_same, world};
use crate::scenarios::{Scene, listing, writes};

type OnDoubles = fn(&'static Doubles);

/// The trials of this file.
pub const GITLAB: &[(&str, OnDoubles)] = &[
    ("gitlab_killed_after_the_runner_was_made", killed_after_creation),
    ("gitlab_killed_with_a_narrow_token", killed_with_a_narrow_token),
    ("gitlab_killed_before_the_runner_was_made", killed_before_creation),
    ("gitlab_answer_of_the_creation_lost", answer_lost),
    ("gitlab_script_lost_with_the_token", script_lost),
    ("gitlab_token_in_use_is_not_reset", token_in_use),
    ("gitlab_scopes_and_roles", scopes_and_roles),
    ("gitlab_narrow_tokens_are_enough", narrow_tokens),
    ("gitlab_dead_tokens", dead_tokens),
    ("gitlab_projects_that_will_not_do", wrong_projects),
    ("gitlab_who_may_commit", who_may_commit),
    ("gitlab_file_of_somebody_else", foreign_file),
    ("gitlab_token_goes_nowhere_else", redirects),
    ("gitlab_moved_project", moved_project),
    ("gitlab_annotations_aim_at_nothing", forged_annotations),
    ("gitlab_forged_marks", forged_marks),
    ("gitlab_tokens_of_every_prefix", token_prefixes),
    ("gitlab_registration_tokens", registration_tokens),
    ("gitlab_answers_never_seen_before", odd_answers),
    ("gitlab_maintenance", maintenance),
    ("gitlab_throttled", throttled),
    ("gitlab_stuck_and_slow", stuck_and_slow),
    ("gitlab_job_fails_or_runs_elsewhere", bad_ends),
    ("gitlab_running_job_is_waited_for", running_job),
    ("gitlab_down_does_not_keep_the_cluster", gitlab_down),
    ("gitlab_cluster_down_does_not_keep_the_runner", cluster_down),
    ("gitlab_another_instance_is_refused", another_instance),
    ("gitlab_drift_is_mended", drift),
    ("gitlab_request_counts", request_counts),
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

/// Waits for something that other threads bring about.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn setup<'a>(scene: &'a Scene<'a>, site: &Site) -> Cli<'a> {
    site.project(&scene.home, scene.command("setup"), "maintainer")
}

fn teardown<'a>(scene: &'a Scene<'a>, site: &Site) -> Cli<'a> {
    site.project(&scene.home, scene.teardown(), "maintainer")
}

/// A run that is killed at the first request of this kind, before or after it is applied.
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

/// Exactly one runner, and the script's token is its own.
fn assert_one_good_runner(scene: &Scene<'_>, site: &Site, what: &str) {
    let runners = site.gitlab.runners();
    assert_eq!(runners.len(), 1, "{what}: {runners:?}");
    let id = runners[0]["id"].as_u64().expect("runners have ids");
    let token = runner_token(&scene.home.script(&scene.deployment));
    scene.home.canary(&token);
    assert_eq!(token, site.gitlab.runner_token(id), "{what}: the script holds the runner's present token");
}

fn killed_after_creation(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    killed(&site, &setup(&scene, &site), true);
    assert_eq!(site.gitlab.runners().len(), 1, "it was made");
    setup(&scene, &site).run().code(0);
    assert_one_good_runner(&scene, &site, "after the kill");
    let _ = teardown(&scene, &site).run().code(0);
    assert_eq!(site.gitlab.runners().len(), 0);

    // The same, but the next thing is teardown.
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    killed(&site, &setup(&scene, &site), true);
    let _ = teardown(&scene, &site).run().code(0);
    assert_eq!(site.gitlab.runners().len(), 0, "what was never noted is found by its mark");
    assert_same("a killed setup and a teardown", &before, &world(bed.admin()));
}

fn killed_with_a_narrow_token(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let id = site.gitlab.project_id(PROJECT).to_string();
    let narrow = |token: &str| site.on(&scene.home, scene.command("setup"), token).flag("--project", &id);
    killed(&site, &narrow("narrow"), true);
    for _ in 0..2 {
        let _ = narrow("narrow").run().code(4).says("read_api");
        assert_eq!(site.gitlab.runners().len(), 1, "never a second one");
    }
    let _ = narrow("maintainer").run().code(0);
    assert_one_good_runner(&scene, &site, "with a token that may look");
}

fn killed_before_creation(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    killed(&site, &setup(&scene, &site), false);
    assert_eq!(site.gitlab.runners().len(), 0);
    setup(&scene, &site).run().code(0);
    assert_one_good_runner(&scene, &site, "made once");
}

fn answer_lost(bed: &'static Doubles) {
    for broken in [Action::ResetAfter, Action::Applied(Box::new(Action::bad_gateway()))] {
        let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
        site.gitlab.inject(once("POST", "/user/runners", broken));
        let _ = setup(&scene, &site).run().code(0).says("found by its mark");
        assert_one_good_runner(&scene, &site, "the answer was lost");
        assert_eq!(site.count("POST", "/user/runners"), 1);
    }
}

fn script_lost(bed: &'static Doubles) {
    // The token is told once; a run that ends before the script is written loses it.
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let inside = scene.home.path().join("file");
    std::fs::write(&inside, "no folder").expect("written");
    let nowhere = setup(&scene, &site).flag("--script", inside.join("launch.sh"));
    let output = nowhere.run();
    assert_ne!(output.code, Some(0), "{output}");
    setup(&scene, &site).run().code(0);
    assert_one_good_runner(&scene, &site, "after a script that could not be written");
}

fn token_in_use(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let script = scene.home.script(&scene.deployment);
    let old = runner_token(&script);
    let vm = site.boot(&scene.home, &script);
    until("the machine has made contact", || site.count("POST", "/runners/verify") > 0);
    // A changed input with the token out on its host: an update script without secrets.
    let _ = setup(&scene, &site)
        .flag("--image", "alpine:3.22")
        .run()
        .code(0)
        .says("keeps the tokens on the host");
    // A colleague whose view of the cluster has lost the digest cannot know that a script is out.
    let colleague = scene.elsewhere(User::Admin);
    let annotations = json!({"outrigger.dev/script-digest": null});
    bed.admin().patch(&scene.path("ServiceAccount"), &json!({"metadata": {"annotations": annotations}}));
    let _ = site
        .project(&colleague.home, colleague.command("setup"), "maintainer")
        .run()
        .code(7)
        .says("s_0123456789ab")
        .says("--reissue runner");
    drop(vm);
    let plan = setup(&scene, &site).args(["--reissue", "all", "--dry-run"]).run().code(0);
    let _ = plan.says("s_0123456789ab").says("stops until the new script has run there");
    setup(&scene, &site).args(["--reissue", "all"]).run().code(0);
    assert_one_good_runner(&scene, &site, "reissued");
    assert_ne!(runner_token(&script), old);
}

/// Which token may make which runner, and the words where it may not (gitlab-api §1.1, §1.2).
fn scopes_and_roles(bed: &'static Doubles) {
    let site = Site::new();
    let id = site.gitlab.project_id(PROJECT).to_string();
    let gitlab = &site.gitlab;
    gitlab.add_token(TokenSpec::pat(
        "owner_create",
        "owner",
        &["create_runner", "manage_runner", "read_api"],
    ));
    gitlab.add_token(TokenSpec { kind: TokenKind::Project, ..TokenSpec::pat("bot", "maintainer", &["api"]) });
    gitlab.add_token(TokenSpec { kind: TokenKind::Oauth, ..TokenSpec::pat("oauth", "maintainer", &["api"]) });
    gitlab.add_token(TokenSpec {
        kind: TokenKind::FineGrained,
        ..TokenSpec::pat(
            "fine",
            "maintainer",
            &["create_runner", "read_runner", "update_runner", "delete_runner", "read_project"],
        )
    });
    let project: &[&str] = &["--project", PROJECT];
    let by_id: &[&str] = &["--project", &id];
    let group: &[&str] = &["--group", GROUP];
    let instance: &[&str] = &["--instance-runner"];
    for (token, scope, code, words) in [
        ("maintainer", project, 0, "runner"),
        ("owner", project, 0, "runner"),
        ("root", project, 0, "runner"),
        ("bot", project, 0, "runner"),
        ("oauth", project, 0, "runner"),
        ("fine", by_id, 0, "runner"),
        ("narrow", by_id, 0, "runner"),
        ("create_runner", by_id, 0, "runner"),
        ("narrow", project, 4, "numeric id"),
        ("read_api", project, 4, "create_runner"),
        ("manage_runner", by_id, 4, "create_runner"),
        ("developer", project, 4, "Maintainer"),
        ("reporter", project, 4, "you are"),
        ("guest", project, 4, "Maintainer"),
        ("stranger", project, 3, "404 Project Not Found"),
        ("owner", group, 0, "group runner"),
        ("owner_create", group, 0, "group runner"),
        ("root", group, 0, "group runner"),
        ("maintainer", group, 4, "Owner"),
        ("root", instance, 0, "instance runner"),
        ("owner", instance, 4, "administrator"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        bed.mark();
        let what = format!("{token} {scope:?}");
        let before = site.gitlab.runners().len();
        let output = site.on(&scene.home, scene.command("setup"), token).args(scope.iter().copied()).run();
        assert_eq!(output.code, Some(code), "{what}\n{output}");
        let output = output.says(words);
        let made = site.gitlab.runners().len() - before;
        assert_eq!(made, usize::from(code == 0), "{what}\n{output}");
        if code != 0 {
            assert_eq!(listing(&writes(bed)), "", "{what}: refused before the cluster is touched\n{output}");
        }
    }
}

/// The whole life of a runner with tokens that may do just that.
fn narrow_tokens(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let id = site.gitlab.project_id(PROJECT).to_string();
    let on = |command| site.on(&scene.home, command, "narrow").flag("--project", &id).run();
    let preflight =
        on(scene.command("preflight")).code(0).says("skipped").says("create_runner, manage_runner");
    let _ = preflight.says("may not read it");
    let _ = on(scene.command("setup")).code(0).never_says("glrt-");
    let _ = on(scene.command("setup")).code(0).says("kept: runner");
    let _ = on(scene.status()).code(0);
    let _ = on(scene.teardown()).code(0).says("read back: gone");
    assert_eq!(site.gitlab.runners().len(), 0);
    // create_runner alone cannot even look at what it has made: that is said, and nothing is made twice.
    let scene = Scene::new(bed, User::Admin);
    let on = |command| site.on(&scene.home, command, "create_runner").flag("--project", &id).run();
    let _ = on(scene.command("setup")).code(0);
    let _ = on(scene.command("setup")).code(0).says("not looked at");
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = on(scene.teardown()).code(2).says("--gitlab-gone");
    let _ = teardown(&scene, &site).run().code(0);
}

fn dead_tokens(bed: &'static Doubles) {
    let site = Site::new();
    let day = "2020-01-31".to_owned();
    for (spec, words) in [
        (TokenSpec { expires_at: Some(day), ..TokenSpec::pat("expired", "maintainer", &["api"]) }, "expired"),
        (TokenSpec { revoked: true, ..TokenSpec::pat("revoked", "maintainer", &["api"]) }, "revoked"),
        (TokenSpec { dpop: true, ..TokenSpec::pat("dpop", "maintainer", &["api"]) }, "DPoP"),
        (TokenSpec { ip_blocked: true, ..TokenSpec::pat("blocked", "maintainer", &["api"]) }, "address"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        let name = spec.name.clone();
        site.gitlab.add_token(spec);
        bed.mark();
        let output = site.project(&scene.home, scene.command("setup"), &name).run();
        assert_eq!(output.code, Some(4), "{name}\n{output}");
        let _ = output.says(words);
        assert_eq!(listing(&writes(bed)), "", "{name}");
    }
    let scene = Scene::new(bed, User::Admin);
    for (name, text, words) in [
        ("job", "glcbt-canary-0123", "CI job"),
        ("deploy", "gldt-canary-0123", "deploy token"),
        ("runner", "glrt-canary-0123", "--runner-token-file"),
        ("unknown", "glpat-canary-0123", "401 Unauthorized"),
    ] {
        let file = scene.home.input(name, text);
        let output = setup(&scene, &site).flag("--gitlab-token-file", file).run();
        assert!(matches!(output.code, Some(2 | 4)), "{name}\n{output}");
        let _ = output.says(words).never_says("canary");
    }
    // From the environment it goes to no host but the one named with it.
    let token = site.gitlab.token("owner");
    let named = |host: &str| {
        scene
            .command("setup")
            .flag("--gitlab-ca-file", scene.home.input("ca.pem", &site.gitlab.ca_pem()))
            .flag("--project", PROJECT)
            .env("GITLAB_TOKEN", &token)
            .env("GITLAB_HOST", host)
    };
    site.gitlab.clear_requests();
    let other =
        named("https://gitlab.elsewhere.example").flag("--gitlab-url", site.gitlab.url()).run().code(2);
    let _ = other.says("gitlab.elsewhere.example");
    assert!(site.gitlab.credentials().is_empty());
    named(&site.gitlab.url()).run().code(0);
}

fn wrong_projects(bed: &'static Doubles) {
    let site = Site::new();
    site.gitlab.add_project(ProjectSpec { archived: true, ..ProjectSpec::new("acme/old") });
    site.gitlab.set_role("maintainer", "acme/old", Some(Role::Maintainer));
    for (project, code, words) in [
        ("acme/nowhere", 3, "404 Project Not Found"),
        ("4711", 3, "404 Project Not Found"),
        ("acme/old", 3, "archived"),
        ("https://gitlab.com/a/b", 2, "give the path alone"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        bed.mark();
        let output = setup(&scene, &site).flag("--project", project).run();
        assert_eq!(output.code, Some(code), "{project}\n{output}");
        let _ = output.says(words);
        assert_eq!(listing(&writes(bed)), "", "{project}");
    }
    assert_eq!(site.gitlab.runners().len(), 0);
}

fn who_may_commit(bed: &'static Doubles) {
    let site = Site::new();
    let run = |token: &str, extra: &[&str]| {
        let scene = Scene::new(bed, User::Admin);
        let command =
            site.project(&scene.home, scene.command("commit-pipeline"), token).args(extra.iter().copied());
        command.run()
    };
    let _ = run("developer", &[]).code(4).says("protected").says("--branch");
    let _ = run("developer", &["--branch", "feature"]).code(0).says("new branch");
    let _ = run("reporter", &["--branch", "feature-2"]).code(4).says("Developer");
    let _ = run("read_api", &[]).code(4).says("scopes");
    let _ = run("maintainer", &["--branch", "a..b"]).code(2).says("git");
    let _ = run("maintainer", &["--pipeline-script", "true"]).code(0);
    site.gitlab
        .change_project(PROJECT, |project| project.ci_config_path = Some("ci.yml@acme/elsewhere".to_owned()));
    let _ = run("maintainer", &[]).code(3).says("elsewhere");
}

fn foreign_file(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let theirs = "build:\n  script:\n    - make\n";
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", theirs);
    let commit = |extra: &[&str]| {
        site.project(&scene.home, scene.command("commit-pipeline"), "maintainer")
            .args(extra.iter().copied())
            .run()
    };
    let _ = commit(&[]).code(7).says("- build:").says("--overwrite-pipeline");
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").as_deref(), Some(theirs));
    let _ = commit(&["--overwrite-pipeline"]).code(0);
    assert!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("a file").contains("hello world!"));
    // Our own is changed without asking, until somebody else has changed it.
    let _ = commit(&["--image", "alpine:3.22"]).code(0);
    let ours = site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("a file");
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", &format!("{ours}# mine\n"));
    let _ = commit(&["--image", "alpine:3.21"]).code(7).says("# mine");
    let output = teardown(&scene, &site).arg("--revert-pipeline").run().code(0);
    let _ = output.says("changed since");
    assert!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("it stays").contains("# mine"));
}

fn redirects(bed: &'static Doubles) {
    let (site, other) = (Site::new(), Site::new());
    let plain = Site::with(Options { tls: false, ..Options::default() });
    for code in [301, 302, 307, 308] {
        for (target, path) in [
            (&other, "/projects/"),
            (&plain, "/projects/"),
            (&other, "/user/runners"),
            (&other, "/personal_access_tokens/self"),
        ] {
            let scene = Scene::new(bed, User::Admin);
            let before = world(bed.admin());
            site.gitlab.inject(fault("", path, Action::Elsewhere(code, target.gitlab.url())));
            let output = setup(&scene, &site).run();
            site.gitlab.clear_faults();
            assert!(matches!(output.code, Some(3 | 5)), "{code} {path}\n{output}");
            let _ =
                output.says(target.gitlab.url().trim_start_matches("https://").trim_start_matches("http://"));
            assert!(target.gitlab.credentials().is_empty(), "a credential went to {}", target.gitlab.url());
            assert!(target.gitlab.requests().is_empty(), "somebody asked {}", target.gitlab.url());
            let _ = teardown(&scene, &site).run().code(0);
            assert_same("a redirected setup and a teardown", &before, &world(bed.admin()));
        }
    }
    assert_eq!(site.gitlab.runners().len(), 0);
}

fn moved_project(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.change_project(PROJECT, |project| {
        project.moved_from = Some("acme/old-shop".to_owned());
    });
    let output = setup(&scene, &site).flag("--project", "acme/old-shop").run().code(0);
    let _ = output.says(PROJECT);
    assert_one_good_runner(&scene, &site, "a moved project");
}

fn forged_annotations(bed: &'static Doubles) {
    let (scene, site, evil) = (Scene::new(bed, User::Admin), Site::new(), Site::new());
    setup(&scene, &site).run().code(0);
    // Somebody else's runner, on the same project.
    let theirs = Scene::new(bed, User::Admin);
    setup(&theirs, &site).run().code(0);
    let ids: Vec<u64> = site.gitlab.runners().iter().filter_map(|runner| runner["id"].as_u64()).collect();
    let settings =
        json!({"gitlabUrl": [evil.gitlab.url()], "project": ["acme/evil"], "tags": ["k8s-runner"]})
            .to_string();
    let annotations =
        json!({"outrigger.dev/gitlab-runner": ids[1].to_string(), "outrigger.dev/settings": settings});
    bed.admin().patch(&scene.path("ServiceAccount"), &json!({"metadata": {"annotations": annotations}}));
    let colleague = scene.elsewhere(User::Admin);
    let output = site.project(&colleague.home, colleague.command("setup"), "maintainer").run().code(0);
    let _ = output.says(&format!("kept: runner {}", ids[0]));
    let _ = site.project(&colleague.home, colleague.teardown(), "maintainer").run().code(0);
    let left: Vec<u64> = site.gitlab.runners().iter().filter_map(|runner| runner["id"].as_u64()).collect();
    assert_eq!(left, ids[1..], "ours is gone, theirs is not");
    assert!(evil.gitlab.requests().is_empty(), "nobody was sent there");
    // With a token in the environment and no host named with it, it goes nowhere either.
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, &site).run().code(0);
    bed.admin().patch(
        &scene.path("ServiceAccount"),
        &json!({"metadata": {"annotations": {"outrigger.dev/settings": settings}}}),
    );
    let colleague = scene.elsewhere(User::Admin);
    let _ = colleague.command("status").env("GITLAB_TOKEN", site.gitlab.token("maintainer")).run();
    assert!(evil.gitlab.requests().is_empty());
}

fn forged_marks(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    killed(&site, &setup(&scene, &site), false);
    // Another member of the project saw the id in the cluster and put it onto a runner of his own.
    let account = bed.admin().get(&scene.path("ServiceAccount")).expect("the anchor is there");
    let id = account["metadata"]["annotations"]["outrigger.dev/id"].as_str().expect("an id").to_owned();
    let make = |token: &str| {
        let body = json!({"runner_type": "project_type", "project_id": site.gitlab.project_id(PROJECT),
            "description": format!("trap, outrigger {id}"), "tag_list": ["x"], "run_untagged": false});
        crate::common::site::post(&site.gitlab, token, "/user/runners", &body);
    };
    make("owner");
    let _ = setup(&scene, &site).run().code(7).says("owner");
    assert_eq!(site.gitlab.runners().len(), 1, "none is made beside it, and it is not taken");
    make("maintainer");
    let _ = setup(&scene, &site).run().code(7).says("runners").says("mark");
    assert_eq!(site.gitlab.runners().len(), 2);
}

fn token_prefixes(bed: &'static Doubles) {
    // An instance with a prefix of its own.
    let site = Site::with(Options { token_prefix: "acme".to_owned(), ..Options::default() });
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, &site).run().code(0);
    let token = runner_token(&scene.home.script(&scene.deployment));
    assert!(token.starts_with("acme-glrt-"), "the whole token is in the script");
    assert_one_good_runner(&scene, &site, "with a prefix");
    // Tokens that are handed over.
    for (text, code, words) in [
        ("glrt-canary-plain-0001", 0, "wrote"),
        ("glrt-t3_canary-partition-0002", 0, "wrote"),
        ("glrtr-canary-legacy-0003", 0, "wrote"),
        ("acme-glrt-canary-prefixed-0004", 0, "unregister"),
        ("GR1348941canary-0005", 2, "--legacy-registration-token-file"),
        ("glpat-canary-0006-0006", 2, "--gitlab-token-file"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        scene.home.canary(text);
        let file = scene.home.input("given", text);
        let output = scene
            .command("setup")
            .flag("--gitlab-url", "https://gitlab.example.com")
            .flag("--runner-token-file", file)
            .run();
        assert_eq!(output.code, Some(code), "{text}\n{output}");
        let output = output.says(words);
        if code == 0 {
            let _ = output.says("not checked");
            let script = std::fs::read_to_string(scene.home.script(&scene.deployment)).expect("a script");
            assert!(script.contains(text));
        }
    }
}

fn registration_tokens(bed: &'static Doubles) {
    for allowed in [false, true] {
        let site = Site::with(Options { registration_allowed: allowed, ..Options::default() });
        let scene = Scene::new(bed, User::Admin);
        let token = site.gitlab.registration_token(PROJECT);
        scene.home.canary(&token);
        let legacy = |command: Cli<'_>| {
            command
                .flag("--gitlab-url", site.gitlab.url())
                .flag("--gitlab-ca-file", scene.home.input("ca.pem", &site.gitlab.ca_pem()))
                .flag("--legacy-registration-token-file", scene.home.input("registration", &token))
                .run()
        };
        let output = legacy(scene.command("setup"));
        if !allowed {
            let _ = output.code(4).says("410 Gone").says("--gitlab-token-file");
            assert_eq!(site.gitlab.runners().len(), 0);
            continue;
        }
        let _ = output.code(0).says("GitLab 20.0").says("deleted from here");
        assert_eq!(site.gitlab.runners().len(), 1);
        let _ = legacy(scene.command("setup")).code(0);
        assert_eq!(site.gitlab.runners().len(), 1, "registered once");
        let _ = teardown(&scene, &site).run().code(0).says("read back: gone");
        assert_eq!(site.gitlab.runners().len(), 0);
    }
}

/// Answers that no GitLab of today gives: no panic, no hang, and words.
fn odd_answers(bed: &'static Doubles) {
    let nulls = |value: &mut Value| {
        if let Some(fields) = value.as_object_mut() {
            for (key, value) in fields.iter_mut() {
                if value.is_boolean() {
                    *value = Value::Null;
                }
                if key == "status" {
                    *value = json!("levitating");
                }
            }
            fields.insert("added_in_20_0".to_owned(), json!({"deep": [1, 2, 3]}));
        }
    };
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.inject(fault("GET", "", Action::Edit(Box::new(nulls))));
    setup(&scene, &site).run().code(0);
    setup(&scene, &site).run().code(0);
    let _ = site.project(&scene.home, scene.status(), "maintainer").run().code(0);
    let _ = teardown(&scene, &site).run().code(0);
    site.gitlab.clear_faults();

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = |text: &str| Action::Headers(200, Vec::new(), text.to_owned(), "application/json".to_owned());
    for (what, action, words) in [
        ("a flood", Action::Flood(100 << 20), "larger than 8 MiB"),
        ("nesting", body(&deep), "no JSON that can be read"),
        ("half a text", body("{\"id\": 1"), "no JSON that can be read"),
        ("another shape", body("[\"project\"]"), "holds no project"),
        ("a drip", Action::Drip("{\"id\": 101}".to_owned(), Duration::from_secs(1)), "in time"),
        ("silence", Action::Hang, "in time"),
        ("a hang-up", Action::ResetBefore, "no connection to GitLab"),
        ("a sign-in page", Action::sign_in_page(), "sign-in page"),
        ("a bad gateway", Action::bad_gateway(), "502"),
        ("another content type", Action::ContentType("text/plain".to_owned()), "text/plain"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        bed.mark();
        site.gitlab.inject(fault("GET", "/projects/", action));
        let command = setup(&scene, &site).args(["--timeout", "4s", "--request-timeout", "1s"]);
        let output = command.run();
        site.gitlab.clear_faults();
        assert!(matches!(output.code, Some(3 | 8)), "{what}\n{output}");
        assert!(output.took < Duration::from_secs(20), "{what}: it took {:?}\n{output}", output.took);
        let _ = output.says(words);
        assert_eq!(listing(&writes(bed)), "", "{what}: nothing was changed");
    }
}

fn maintenance(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.set_maintenance(true);
    bed.mark();
    let _ = setup(&scene, &site).run().code(3).says("maintenance");
    assert_eq!(listing(&writes(bed)), "", "the cluster is not touched for a GitLab that takes nothing");
    site.gitlab.set_maintenance(false);
    setup(&scene, &site).run().code(0);
}

fn throttled(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    // What heals is waited for, also by a creation, which the throttle has not looked at.
    for path in ["/projects/", "/user/runners"] {
        site.gitlab.inject(once("", path, Action::retry_later(&[("Retry-After", "1")])));
    }
    setup(&scene, &site).run().code(0).says("retry");
    assert_one_good_runner(&scene, &site, "throttled once");
    // An hour is longer than a run may take: said at once.
    let reset = (jiff::Timestamp::now().as_second() + 3600).to_string();
    for headers in [[("Retry-After", "3600")], [("RateLimit-Reset", reset.as_str())]] {
        let scene = Scene::new(bed, User::Admin);
        site.gitlab.inject(fault("", "/projects/", Action::retry_later(&headers)));
        let output = setup(&scene, &site).run().code(8);
        site.gitlab.clear_faults();
        assert!(output.took < Duration::from_secs(20), "{output}");
        let _ = output.says("longer than this run may take").says("Retry later");
    }
}

/// Sets up a runner with a machine that behaves like this, and the pipeline file.
fn with_machine(bed: &'static Doubles, site: &Site, behaviour: Behaviour) -> (Scene<'static>, RunnerDriver) {
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, site).arg("--commit-pipeline").run().code(0);
    let script: PathBuf = scene.home.script(&scene.deployment);
    let token = runner_token(&script);
    scene.home.canary(&token);
    let vm = RunnerDriver::start(DriverOptions { behaviour, ..DriverOptions::new(&site.gitlab, &token) });
    (scene, vm)
}

fn run_pipeline<'a>(scene: &'a Scene<'a>, site: &Site, wait: &str) -> Cli<'a> {
    site.project(&scene.home, scene.command("run-pipeline"), "maintainer").flag("--wait", wait)
}

fn runner_id(site: &Site) -> u64 {
    site.gitlab.runners()[0]["id"].as_u64().expect("a runner")
}

fn stuck_and_slow(bed: &'static Doubles) {
    // Never booted: the wait ends and says what was last seen.
    let site = Site::new();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Silent);
    let _ = run_pipeline(&scene, &site, "3s").run().code(8).says("never made contact");
    // Booted late: that is slow, not stuck.
    vm.set_behaviour(Behaviour::Succeed);
    let _ = run_pipeline(&scene, &site, "60s").run().code(0).says("succeeded on runner");

    // Paused.
    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::RegisterOnly);
    let id = runner_id(&site);
    crate::common::site::put(&site.gitlab, "maintainer", &format!("/runners/{id}"), &json!({"paused": true}));
    let output = run_pipeline(&scene, &site, "60s").run().code(9).says("paused");
    assert!(output.took < Duration::from_secs(30), "no waiting helps\n{output}");
    crate::common::site::put(
        &site.gitlab,
        "maintainer",
        &format!("/runners/{id}"),
        &json!({"paused": false}),
    );
    // Registered, but its service does not ask for jobs.
    let _ = run_pipeline(&scene, &site, "5s").run().code(8).says("pending");

    // Tags that nobody has.
    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::Succeed);
    let id = runner_id(&site);
    crate::common::site::put(
        &site.gitlab,
        "maintainer",
        &format!("/runners/{id}"),
        &json!({"tag_list": ["other"]}),
    );
    let ours = site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("the file");
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", &format!("{ours}\n# touched\n"));
    let output = run_pipeline(&scene, &site, "60s").run().code(9).says("other").says("k8s-runner");
    assert!(output.took < Duration::from_secs(30), "no waiting helps\n{output}");
}

fn bad_ends(bed: &'static Doubles) {
    let site = Site::new();
    let failing = Behaviour::Fail { reason: "script_failure".to_owned(), exit_code: 1 };
    let (scene, vm) = with_machine(bed, &site, failing);
    let _ = run_pipeline(&scene, &site, "60s").run().code(9).says("script_failure").says("hello world!");
    // Mended: a new pipeline of the same commit.
    vm.set_behaviour(Behaviour::Succeed);
    let _ = run_pipeline(&scene, &site, "60s").run().code(0).says("succeeded on runner");

    // Another runner with the same tags is quicker.
    let site = Site::new();
    let body = json!({"runner_type": "project_type", "project_id": site.gitlab.project_id(PROJECT),
        "description": "somebody else's", "tag_list": ["k8s-runner"], "run_untagged": false});
    crate::common::site::post(&site.gitlab, "owner", "/user/runners", &body);
    let theirs = runner_id(&site);
    let token = site.gitlab.runner_token(theirs);
    let _thief = RunnerDriver::for_token(&site.gitlab, &token);
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, &site).arg("--commit-pipeline").run().code(0);
    let script = scene.home.script(&scene.deployment);
    let own = runner_token(&script);
    scene.home.canary(&own);
    let options =
        DriverOptions { behaviour: Behaviour::RegisterOnly, ..DriverOptions::new(&site.gitlab, &own) };
    let _vm = RunnerDriver::start(options);
    let output = run_pipeline(&scene, &site, "60s").run().code(9);
    let _ = output.says("not on our runner").says(&format!("runner {theirs}"));
}

fn running_job(bed: &'static Doubles) {
    let site = Site::new();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Stall);
    until("a job runs", || {
        site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == "running")
    });
    let before = world(bed.admin());
    let output = teardown(&scene, &site).flag("--timeout", "3s").run().code(8);
    let _ = output.says("still running").says("--now").says("paused");
    assert_same("a teardown that waited in vain", &before, &world(bed.admin()));
    assert_eq!(site.gitlab.runners()[0]["paused"], true, "no new job gets in the way");
    // A machine that is dead will not finish it.
    drop(vm);
    site.gitlab.advance(Duration::from_secs(360));
    let _ = teardown(&scene, &site).run().code(0).says("last heard of");
    assert_eq!(site.gitlab.runners().len(), 0);

    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::Stall);
    until("a job runs", || {
        site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == "running")
    });
    let _ = teardown(&scene, &site).arg("--now").run().code(0);
}

fn gitlab_down(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let before = world(bed.admin());
    setup(&scene, &site).run().code(0);
    site.gitlab.inject(fault("", "", Action::bad_gateway()));
    let output = teardown(&scene, &site).flag("--timeout", "10s").run();
    site.gitlab.clear_faults();
    assert!(matches!(output.code, Some(5 | 8)), "{output}");
    assert_same("the cluster's part is done", &before, &world(bed.admin()));
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = teardown(&scene, &site).run().code(0).says("read back: gone");
    assert_eq!(site.gitlab.runners().len(), 0);
    assert!(!scene.home.state().join(format!("{}.json", scene.deployment)).exists());
}

fn cluster_down(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let yaml = bed.kubeconfig(User::Admin).replace(&bed.url(), "https://127.0.0.1:1");
    let dead = scene.home.kubeconfig("dead.kubeconfig", &yaml);
    let output = teardown(&scene, &site).flag("--kubeconfig", &dead).flag("--timeout", "10s").run();
    assert!(matches!(output.code, Some(5 | 8)), "{output}");
    let _ = output.says("read back: gone");
    assert_eq!(site.gitlab.runners().len(), 0, "GitLab's part is done");
    assert!(bed.admin().get(&scene.path("ServiceAccount")).is_some(), "the cluster was not there");
    let _ = teardown(&scene, &site).run().code(0);
    assert!(bed.admin().get(&scene.path("ServiceAccount")).is_none());

    // The same when it is known that the cluster is gone for good.
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, &site).run().code(0);
    let output = teardown(&scene, &site).flag("--kubeconfig", &dead).arg("--cluster-gone").run().code(0);
    let _ = output.says("read back: gone").says("not read back");
    assert_eq!(site.gitlab.runners().len(), 0);
}

fn another_instance(bed: &'static Doubles) {
    let (scene, site, other) = (Scene::new(bed, User::Admin), Site::new(), Site::new());
    setup(&scene, &site).run().code(0);
    let before = world(bed.admin());
    for command in [scene.command("setup"), scene.teardown(), scene.status()] {
        let output = other.project(&scene.home, command, "maintainer").run().code(3);
        let _ = output.says(&site.gitlab.url()).says(&other.gitlab.url());
    }
    assert!(other.gitlab.requests().is_empty(), "it was not even asked");
    assert_same("another GitLab", &before, &world(bed.admin()));
}

fn drift(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let id = runner_id(&site);
    let put =
        |body: &Value| crate::common::site::put(&site.gitlab, "maintainer", &format!("/runners/{id}"), body);
    put(&json!({"run_untagged": true, "locked": false}));
    let status = || site.project(&scene.home, scene.status(), "maintainer").run();
    let _ = status().code(10).says("only tagged ones").says("locked");
    setup(&scene, &site).run().code(0);
    assert_eq!(site.gitlab.runners()[0]["run_untagged"], false);
    assert_eq!(site.gitlab.runners()[0]["locked"], true);
    // A pause is somebody's will: kept and shown.
    put(&json!({"paused": true}));
    let _ = setup(&scene, &site).run().code(0).says("paused");
    assert_eq!(site.gitlab.runners()[0]["paused"], true);
    // Deleted in GitLab: made anew, with a script that has the new token.
    site.gitlab.remove_runner(id);
    let _ = status().code(10);
    setup(&scene, &site).run().code(0);
    assert_one_good_runner(&scene, &site, "made anew");
    let _ = status().code(0);
}

/// How many requests each command sends to GitLab.
fn request_counts(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::with(Options::default()));
    let mut wrong = String::new();
    for (what, command, expected) in [
        ("setup", setup(&scene, &site), 5),
        ("second setup", setup(&scene, &site), 6),
        ("status", site.project(&scene.home, scene.status(), "maintainer"), 6),
        ("teardown", teardown(&scene, &site), 6),
    ] {
        site.gitlab.clear_requests();
        command.run().code(0);
        let requests: Vec<String> = site
            .gitlab
            .requests()
            .iter()
            .map(|r| format!("  {} {} {}", r.method, r.path, r.status))
            .collect();
        if requests.len() != expected {
            let _ =
                writeln!(wrong, "{what}: {} instead of {expected}\n{}", requests.len(), requests.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
