//! Access that GitLab grants in other ways than by a member's role and a token's scope.

use super::{
    Action, Bed, Behaviour, Doubles, Duration, GROUP, NO_MACHINE, Options, PROJECT, Role, Scene, Site,
    TokenKind, TokenSpec, User, assert_one_good_runner, fault, listing, setup, teardown, until, with_machine,
    writes,
};

/// The project shows no role of somebody who is let in through an invited group, and too small a one of
/// somebody with a custom role.
pub fn invited_groups_and_custom_roles(bed: &'static Doubles) {
    let site = Site::new();
    let gitlab = &site.gitlab;
    let member = |name: &str, group: &str| {
        gitlab.set_role(name, group, Some(Role::Owner));
        gitlab.add_token(TokenSpec::pat(name, name, &["api"]));
    };
    gitlab.invite_group("builders", PROJECT, Role::Maintainer);
    member("invited", "builders");
    gitlab.invite_group("owners", GROUP, Role::Owner);
    member("invited_to_group", "owners");
    gitlab.invite_group("helpers", PROJECT, Role::Developer);
    member("invited_developer", "helpers");
    // A member with little, who comes through the group, too.
    member("both", "builders");
    gitlab.set_role("both", PROJECT, Some(Role::Guest));
    gitlab.add_token(TokenSpec::pat("custom", "custom", &["api"]));
    gitlab.set_role("custom", PROJECT, Some(Role::Developer));
    gitlab.allow_runners("custom", PROJECT);
    let project: &[&str] = &["--project", PROJECT];
    let group: &[&str] = &["--group", GROUP];
    for (token, place, code, words) in [
        ("invited", project, 0, "runner"),
        ("invited_to_group", project, 0, "runner"),
        ("invited_to_group", group, 0, "group runner"),
        ("both", project, 0, "runner"),
        ("custom", project, 0, "runner"),
        ("invited_developer", project, 4, "your role   Developer"),
        // A group is not seen by those who are invited to a project of it.
        ("invited", group, 3, "404 Group Not Found"),
        ("developer", group, 4, "role Owner"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        bed.mark();
        let before = gitlab.runners().len();
        let command = site.on(&scene.home, scene.command("setup"), token).args(place.iter().copied());
        let output = command.run();
        assert_eq!(output.code, Some(code), "{token} {place:?}\n{output}");
        let output = output.says(words);
        assert_eq!(gitlab.runners().len() - before, usize::from(code == 0), "{token} {place:?}\n{output}");
        if code == 0 {
            let _ = site.on(&scene.home, scene.teardown(), token).run().code(0);
        } else {
            assert_eq!(listing(&writes(bed)), "", "{token}: refused before the cluster is touched");
        }
    }
    // The pipeline's part takes a role of its own.
    let scene = Scene::new(bed, User::Admin);
    let commit = site.project(&scene.home, scene.command("commit-pipeline"), "invited_developer");
    let _ = commit.args(["--branch", "feature"]).run().code(0).says("new branch");
}

/// Where GitLab does not tell a role, it is GitLab that refuses.
pub fn roles_that_gitlab_does_not_tell(bed: &'static Doubles) {
    let site = Site::new();
    site.gitlab.change_project(PROJECT, |project| project.public = true);
    let scene = Scene::new(bed, User::Admin);
    let preflight = site.project(&scene.home, scene.command("preflight"), "stranger").run().code(0);
    let _ = preflight.says("GitLab does not show").never_says("not a member");
    let _ = site.project(&scene.home, scene.command("setup"), "stranger").run().code(4).says("Insufficient");
    assert_eq!(site.gitlab.runners().len(), 0);
    let _ = site.project(&scene.home, scene.teardown(), "stranger").run().code(0);
}

/// glab's login is an OAuth token, of which GitLab tells nothing by itself.
pub fn oauth_tokens(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let spec = TokenSpec::pat("oauth", "maintainer", &["api"]);
    let token = site.gitlab.add_token(TokenSpec { kind: TokenKind::Oauth, ..spec });
    let ca = scene.home.input("ca.pem", &site.gitlab.ca_pem());
    let on = |command: crate::common::run::Cli<'_>| {
        command
            .flag("--gitlab-ca-file", &ca)
            .flag("--project", PROJECT)
            .env("OAUTH_TOKEN", &token)
            .env("GITLAB_HOST", site.gitlab.url())
            .run()
            .never_says(&token)
    };
    let _ = on(scene.command("preflight")).code(0).says("OAuth");
    let _ = on(scene.command("setup").arg("--commit-pipeline")).code(0);
    assert_one_good_runner(&scene, &site, "by an OAuth token");
    let _ = on(scene.status()).code(10).says(NO_MACHINE);
    let _ = on(scene.teardown()).code(0).says("read back: gone");
    assert_eq!(site.gitlab.runners().len(), 0);
}

fn fine_grained(site: &Site, name: &str, permissions: &[&str], within: &[&str]) {
    let within = within.iter().map(|path| (*path).to_owned()).collect();
    let spec = TokenSpec::pat(name, "maintainer", permissions);
    site.gitlab.add_token(TokenSpec { kind: TokenKind::FineGrained, within, ..spec });
}

/// What a fine-grained token lacks is named by permission, and what it need not have is done without.
pub fn fine_grained_tokens(bed: &'static Doubles) {
    let site = Site::new();
    let id = site.gitlab.project_id(PROJECT).to_string();
    let group = site.gitlab.add_group(GROUP).to_string();
    let runner = ["create_runner", "read_runner", "update_runner", "delete_runner"];
    fine_grained(&site, "create", &["create_runner"], &[]);
    fine_grained(&site, "runner", &runner, &[]);
    fine_grained(&site, "here", &runner, &[GROUP]);
    fine_grained(&site, "undeletable", &runner[..3], &[]);
    fine_grained(&site, "read", &["read_project", "read_runner"], &[]);
    fine_grained(&site, "elsewhere", &["create_runner", "read_project"], &["other"]);
    let on = |scene: &Scene<'_>, command: crate::common::run::Cli<'_>, token: &str, place: &[&str]| {
        site.on(&scene.home, command, token).args(place.iter().copied()).run()
    };
    let by_id: &[&str] = &["--project", &id];
    let by_path: &[&str] = &["--project", PROJECT];
    // The smallest that will do.
    let scene = Scene::new(bed, User::Admin);
    let _ = on(&scene, scene.command("setup"), "create", by_id).code(0);
    let _ = on(&scene, scene.command("setup"), "create", by_id).code(10).says("not checked");
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = teardown(&scene, &site).run().code(0);
    // All that a runner takes, also limited to its group.
    for token in ["runner", "here"] {
        let scene = Scene::new(bed, User::Admin);
        let preflight = on(&scene, scene.command("preflight"), token, by_id).code(0);
        let _ = preflight.says("Personal Access Token: Read").says("Project: Read");
        let _ = on(&scene, scene.command("setup"), token, by_id).code(0);
        let _ = on(&scene, scene.status(), token, by_id).code(10).says(NO_MACHINE);
        let _ = on(&scene, scene.teardown(), token, by_id).code(0).says("read back: gone");
        assert_eq!(site.gitlab.runners().len(), 0);
    }
    // What is missing has a name, and it is no role's.
    for (token, place, permission) in [
        ("create", by_path, "Project: Read"),
        ("elsewhere", by_path, "Project: Read"),
        ("read", by_path, "Runner: Create"),
        ("create", &["--group", GROUP][..], "Group: Read"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        let output = on(&scene, scene.command("setup"), token, place).code(4);
        let output = output.says("OR0412").says(permission).says("lacks the required permissions");
        let output = output.says("outrigger help gitlab-token").never_says("Maintainer of the project");
        if place != by_path || token != "read" {
            let _ = output.says("numeric id");
        }
        assert_eq!(site.gitlab.runners().len(), 0, "{token} {place:?}");
        let _ = teardown(&scene, &site).arg("--ignore-not-found").run().code(0);
    }
    let scene = Scene::new(bed, User::Admin);
    site.on(&scene.home, scene.command("setup"), "read").args(by_path.iter().copied()).fails("OR0412");
    // A group by its numeric id needs no Group: Read; who may create there is GitLab's to say.
    let scene = Scene::new(bed, User::Admin);
    let _ = on(&scene, scene.command("setup"), "create", &["--group", &group]).code(4).says("Insufficient");
    let _ = teardown(&scene, &site).run();
    let scene = Scene::new(bed, User::Admin);
    let _ = on(&scene, scene.command("setup"), "undeletable", by_id).code(0);
    let _ = on(&scene, scene.teardown(), "undeletable", by_id).code(4).says("Runner: Delete");
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = on(&scene, scene.teardown(), "runner", by_id).code(0);
}

/// What `outrigger help gitlab-token` lists is enough for the whole way and back.
pub fn permissions_of_the_help_page(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let symbol = |name: &str| {
        let (resource, action) = name.split_once(": ").expect("a resource and an action");
        format!("{action}_{resource}").to_lowercase().replace(' ', "_")
    };
    let mut permissions: Vec<String> =
        outrigger::internal::permissions::all().map(|permission| symbol(permission.name)).collect();
    // What is given as one comprises these.
    permissions.extend(["read_repository_file", "read_pipeline_job"].map(str::to_owned));
    let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
    fine_grained(&site, "listed", &permissions, &[]);
    let script = scene.home.script(&scene.deployment);
    let whole = site.project(&scene.home, scene.command("setup"), "listed");
    let whole = whole.args(["--commit-pipeline", "--run-pipeline"]);
    let (output, vm) = site.run_with_vm(&scene.home, &script, &whole);
    let _ = output.code(0).says("succeeded on runner");
    let _ = site.project(&scene.home, scene.status(), "listed").run().code(0);
    drop(vm);
    let back = site.project(&scene.home, scene.teardown(), "listed").arg("--revert-pipeline");
    let _ = back.run().code(0).says("read back: gone");
    let refused: Vec<_> = site.gitlab.requests().into_iter().filter(|one| one.status == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// A creation that was cut off, and a token that may not look for what came of it.
pub fn fine_grained_tokens_and_unfinished_creations(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let id = site.gitlab.project_id(PROJECT).to_string();
    super::killed(&site, &setup(&scene, &site), true);
    fine_grained(&site, "create", &["create_runner"], &[]);
    let command = site.on(&scene.home, scene.command("setup"), "create").flag("--project", &id);
    let _ = command.fails("OR0415").says("Runner: Read");
    assert_eq!(site.gitlab.runners().len(), 1, "never a second one");
}

/// An administrator can keep it from members to create runners: that is no matter of roles.
pub fn members_who_may_not_create_runners(bed: &'static Doubles) {
    let site = Site::with(Options { members_create_runners: false, ..Options::default() });
    for (token, place) in [("maintainer", ["--project", PROJECT]), ("owner", ["--group", GROUP])] {
        let scene = Scene::new(bed, User::Admin);
        let command = site.on(&scene.home, scene.command("setup"), token).args(place);
        if token == "maintainer" {
            command.fails("OR0413");
        }
        let output = command.run().code(4).says("OR0413").says("Insufficient permissions");
        let _ = output.says("runner creation by members is disabled").says("--runner-token-file");
    }
    let scene = Scene::new(bed, User::Admin);
    let _ = site.project(&scene.home, scene.command("setup"), "root").run().code(0);
}

/// GitLab accepts `manage_runner` nowhere below a relative URL root; the refusal says so.
pub fn manage_runner_under_a_relative_root(bed: &'static Doubles) {
    let site = Site::with(Options { relative_root: "/gitlab".to_owned(), ..Options::default() });
    let (scene, id) = (Scene::new(bed, User::Admin), site.gitlab.project_id(PROJECT).to_string());
    let on = |command| site.on(&scene.home, command, "narrow").flag("--project", &id).run();
    let _ = on(scene.command("setup")).code(0);
    let _ = on(scene.teardown()).code(2).says("/gitlab").says("the scope api");
    let _ = teardown(&scene, &site).run().code(0);
}

/// Older instances tell nothing of machines: the runner's own last contact tells that one is dead.
pub fn silence_where_machines_are_not_told(bed: &'static Doubles) {
    let older = || Site::with(Options { managers_route: false, ..Options::default() });
    let site = older();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Stall);
    until("a job runs", || {
        site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == "running")
    });
    // A machine that is in contact is waited for.
    let _ = teardown(&scene, &site).flag("--timeout", "3s").run().code(8).says("still running");
    drop(vm);
    site.gitlab.advance(Duration::from_secs(360));
    let _ =
        teardown(&scene, &site).flag("--timeout", "20s").run().code(0).says("last contact of its machine");
    assert_eq!(site.gitlab.runners().len(), 0);
    // Who uses a token that is not known here is not named, and it is not said that nobody does.
    let site = older();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::RegisterOnly);
    until("the machine has made contact", || site.count("POST", "/runners/verify") > 0);
    let colleague = scene.elsewhere(User::Admin);
    let annotations = super::json!({"outrigger.dev/script-digest": null});
    let anchor = scene.path("ServiceAccount");
    bed.admin().patch(&anchor, &super::json!({"metadata": {"annotations": annotations}}));
    let command = site.project(&colleague.home, colleague.command("setup"), "maintainer");
    let _ = command.fails("OR0705").says("does not show").never_says("no machine yet");
}

/// A Geo secondary, or any other instance that cannot be written to.
pub fn read_only_instances(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.set_read_only(true);
    bed.mark();
    let output = setup(&scene, &site).fails("OR0311").says("read-only instance");
    let _ = output.says("--gitlab-url").never_says("Maintainer of the project");
    assert_eq!(listing(&writes(bed)), "", "the cluster is not touched for a GitLab that takes nothing");
    site.gitlab.set_read_only(false);
    setup(&scene, &site).run().code(0);
    // A deletion has no body, and is answered in the API's way all the same.
    site.gitlab.set_read_only(true);
    let output = teardown(&scene, &site).arg("--now").run();
    assert!(matches!(output.code, Some(3 | 5)), "{output}");
    let _ = output.says("read-only instance").never_says("redirects to another address");
    site.gitlab.set_read_only(false);
    // A group's or the instance's runner is not looked into by a lint: the creation meets it.
    let scene = Scene::new(bed, User::Admin);
    site.gitlab.set_read_only(true);
    let command = site.on(&scene.home, scene.command("setup"), "owner").args(["--group", GROUP]);
    let output = command.run();
    assert!(matches!(output.code, Some(3 | 5)), "{output}");
    let _ = output.says("OR0311").says("read-only instance").says("--gitlab-url");
}

/// A lint that is only to find out whether GitLab can be written to is not worth a minute's wait.
pub fn lint_out_of_turn(bed: &'static Doubles) {
    let site = Site::with(Options { lint_limit: Some(0), ..Options::default() });
    let scene = Scene::new(bed, User::Admin);
    let _ = setup(&scene, &site).run().code(0).never_says("retry").never_says("too many times");
    assert_eq!(site.count("POST", "/ci/lint"), 1, "asked once, and no more");
    // Where the answer counts, it is waited for, and said to be.
    let commit = site.project(&scene.home, scene.command("commit-pipeline"), "maintainer");
    let output = commit.flag("--timeout", "10s").run().code(8);
    let _ = output.says("too many times").says("longer than this run may take");
}

/// After its deadline (`token_rotation_deadline`, Premium) a runner's token is never renewed.
pub fn token_that_is_not_renewed(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let body = super::json!({"error": "Token rotation deadline has passed"}).to_string();
    let refused = Action::Headers(403, Vec::new(), body, "application/json".to_owned());
    site.gitlab.inject(fault("POST", "/reset_authentication_token", refused));
    let output = setup(&scene, &site).args(["--reissue", "runner"]).run().code(4);
    let output = output.says("rotation deadline").says("teardown --only create-runner");
    let _ = output.never_says("Maintainer of the project");
    site.gitlab.clear_faults();
}
