//! Who may do what, with which token, and where a token goes.

use super::{
    Action, Bed, Doubles, GROUP, NO_MACHINE, Options, PROJECT, ProjectSpec, Role, Scene, Site, TokenKind,
    TokenSpec, User, assert_one_good_runner, assert_same, fault, listing, runner_token, setup, teardown,
    world, writes,
};

pub fn scopes_and_roles(bed: &'static Doubles) {
    let site = Site::new();
    let id = site.gitlab.project_id(PROJECT).to_string();
    let gitlab = &site.gitlab;
    gitlab.add_token(TokenSpec::pat(
        "owner_create",
        "owner",
        &["create_runner", "manage_runner", "read_api"],
    ));
    gitlab.add_token(TokenSpec::pat(
        "by_path",
        "maintainer",
        &["create_runner", "manage_runner", "read_api"],
    ));
    gitlab.add_token(TokenSpec::pat("read_user", "maintainer", &["read_user"]));
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
        ("by_path", project, 0, "runner"),
        ("read_user", by_id, 4, "create_runner"),
        ("read_api", project, 4, "create_runner"),
        ("manage_runner", by_id, 4, "create_runner"),
        ("developer", project, 4, "Maintainer"),
        ("reporter", project, 4, "your role"),
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

pub fn narrow_tokens(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let id = site.gitlab.project_id(PROJECT).to_string();
    let on = |command| site.on(&scene.home, command, "narrow").flag("--project", &id).run();
    let preflight =
        on(scene.command("preflight")).code(0).says("skipped").says("create_runner, manage_runner");
    let _ = preflight.says("may not read it");
    let _ = on(scene.command("setup")).code(0).never_says("glrt-");
    let _ = on(scene.command("setup").arg("-v")).code(0).says("kept: runner");
    let _ = on(scene.status()).code(10).says(NO_MACHINE);
    let _ = on(scene.teardown()).code(0).says("read back: gone");
    assert_eq!(site.gitlab.runners().len(), 0);
    // create_runner alone cannot even look at what it has made: that is said, and nothing is made twice.
    let scene = Scene::new(bed, User::Admin);
    let on = |command| site.on(&scene.home, command, "create_runner").flag("--project", &id).run();
    let _ = on(scene.command("setup")).code(0);
    let _ = on(scene.command("setup")).code(10).says("not checked").says("1 part not checked");
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = on(scene.teardown()).code(2).says("--gitlab-gone");
    let _ = teardown(&scene, &site).run().code(0);
}

pub fn dead_tokens(bed: &'static Doubles) {
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
    site.project(&scene.home, scene.command("setup"), "revoked").fails("OR0411");
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

pub fn wrong_projects(bed: &'static Doubles) {
    let site = Site::new();
    site.gitlab.add_project(ProjectSpec { archived: true, ..ProjectSpec::new("acme/old") });
    site.gitlab.set_role("maintainer", "acme/old", Some(Role::Maintainer));
    for (project, code, words) in [
        ("acme/nowhere", 3, "404 Project Not Found"),
        ("4711", 3, "404 Project Not Found"),
        ("acme/old", 3, "archived"),
        ("https://gitlab.com/a/b", 2, "give only the path"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        bed.mark();
        let output = setup(&scene, &site).flag("--project", project).run();
        assert_eq!(output.code, Some(code), "{project}\n{output}");
        let _ = output.says(words);
        assert_eq!(listing(&writes(bed)), "", "{project}");
    }
    setup(&Scene::new(bed, User::Admin), &site).flag("--project", "acme/nowhere").fails("OR0312");
    assert_eq!(site.gitlab.runners().len(), 0);
}

pub fn who_may_commit(bed: &'static Doubles) {
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
    let scene = Scene::new(bed, User::Admin);
    let commit = site.project(&scene.home, scene.command("commit-pipeline"), "maintainer");
    let _ = commit.fails("OR0316").says("elsewhere");
}

pub fn token_prefixes(bed: &'static Doubles) {
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
        ("t3_canary-legacy-without-prefix-0007", 0, "wrote"),
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
            .arg("-v")
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

pub fn registration_tokens(bed: &'static Doubles) {
    for allowed in [false, true] {
        let site = Site::with(Options { registration_allowed: allowed, ..Options::default() });
        let scene = Scene::new(bed, User::Admin);
        let token = site.gitlab.registration_token(PROJECT);
        scene.home.canary(&token);
        let legacy = || {
            scene
                .command("setup")
                .flag("--gitlab-url", site.gitlab.url())
                .flag("--gitlab-ca-file", scene.home.input("ca.pem", &site.gitlab.ca_pem()))
                .flag("--legacy-registration-token-file", scene.home.input("registration", &token))
        };
        if !allowed {
            let refused = legacy().fails("OR0416");
            let _ = refused.says("410 Gone").says("--gitlab-token-file");
            assert_eq!(site.gitlab.runners().len(), 0);
            continue;
        }
        let _ = legacy().run().code(0).says("GitLab 20.0").says("can neither read nor delete");
        assert_eq!(site.gitlab.runners().len(), 1);
        let _ = legacy().run().code(10).says("takes a GitLab token");
        assert_eq!(site.gitlab.runners().len(), 1, "registered once");
        let _ = teardown(&scene, &site).run().code(0).says("read back: gone");
        assert_eq!(site.gitlab.runners().len(), 0);
    }
}

pub fn redirects(bed: &'static Doubles) {
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
            let _ = teardown(&scene, &site).arg("--ignore-not-found").run().code(0);
            assert_same("a redirected setup and a teardown", &before, &world(bed.admin()));
        }
    }
    assert_eq!(site.gitlab.runners().len(), 0);
}

pub fn moved_project(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.change_project(PROJECT, |project| {
        project.moved_from = Some("acme/old-shop".to_owned());
    });
    let output = setup(&scene, &site).flag("--project", "acme/old-shop").run().code(0);
    let _ = output.says(PROJECT);
    assert_one_good_runner(&scene, &site, "a moved project");
}

pub fn another_instance(bed: &'static Doubles) {
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

/// What preflight finds out about a token: its name, scopes and last day.
pub fn preflight(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let spec = TokenSpec {
        expires_at: Some("2042-01-31".to_owned()),
        ..TokenSpec::pat("for-ci", "maintainer", &["api"])
    };
    site.gitlab.add_token(spec);
    bed.mark();
    let output = site.project(&scene.home, scene.command("preflight"), "for-ci").run().code(0);
    let _ = output.says("for-ci (api), until 2042-01-31").says("you are Maintainer").says("19.4.1 at");
    assert_eq!(listing(&writes(bed)), "");
    let old = Site::with(Options { version: "15.4.0".to_owned(), ..Options::default() });
    let _ =
        old.project(&scene.home, scene.command("preflight"), "maintainer").fails("OR0318").says("too old");
    let older = Site::with(Options { version: "18.2.0".to_owned(), ..Options::default() });
    let _ = older
        .project(&scene.home, scene.command("preflight"), "maintainer")
        .run()
        .code(0)
        .says("newer than GitLab 18.2");
}

/// The instance is named in whatever form people have at hand.
pub fn addresses(bed: &'static Doubles) {
    let site = Site::with(Options { relative_root: "/gitlab".to_owned(), ..Options::default() });
    let url = site.gitlab.url();
    assert!(url.ends_with("/gitlab"), "{url}");
    for form in [
        url.clone(),
        format!("{url}/"),
        format!("{url}/api/v4"),
        format!("{url}/api/v4/"),
        url.trim_start_matches("https://").to_owned(),
    ] {
        let scene = Scene::new(bed, User::Admin);
        let _ =
            setup(&scene, &site).flag("--gitlab-url", &form).run().code(0).says(&format!("{url}, {PROJECT}"));
        let script = std::fs::read_to_string(scene.home.script(&scene.deployment)).expect("a script");
        assert!(script.contains(&url) && !script.contains("/api/v4"), "{form}");
        let _ = teardown(&scene, &site).flag("--gitlab-url", &form).run().code(0);
    }
    // Without its relative root it is another server's page that answers.
    let scene = Scene::new(bed, User::Admin);
    let bare = url.trim_end_matches("/gitlab");
    let _ = setup(&scene, &site).flag("--gitlab-url", bare).run().code(3).says("relative URL root");
}
