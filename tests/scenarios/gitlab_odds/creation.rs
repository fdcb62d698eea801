//! The runner is made once, whatever happens on the way, and only what is ours is touched.

use super::{
    Action, Bed, Doubles, NO_MACHINE, PROJECT, Scene, Site, User, Value, assert_one_good_runner, assert_same,
    json, killed, once, runner_id, runner_token, setup, teardown, until, world,
};

pub fn killed_after_creation(bed: &'static Doubles) {
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

pub fn killed_with_a_narrow_token(bed: &'static Doubles) {
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

pub fn killed_before_creation(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    killed(&site, &setup(&scene, &site), false);
    assert_eq!(site.gitlab.runners().len(), 0);
    setup(&scene, &site).run().code(0);
    assert_one_good_runner(&scene, &site, "made once");
}

pub fn answer_lost(bed: &'static Doubles) {
    for broken in [Action::ResetAfter, Action::Applied(Box::new(Action::bad_gateway()))] {
        let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
        site.gitlab.inject(once("POST", "/user/runners", broken));
        let _ = setup(&scene, &site).run().code(0).says("found by its mark");
        assert_one_good_runner(&scene, &site, "the answer was lost");
        assert_eq!(site.count("POST", "/user/runners"), 1);
    }
}

pub fn token_in_use(bed: &'static Doubles) {
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

pub fn forged_annotations(bed: &'static Doubles) {
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
    let output =
        site.project(&colleague.home, colleague.command("setup").arg("-v"), "maintainer").run().code(0);
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

pub fn forged_marks(bed: &'static Doubles) {
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
    crate::common::site::settle();
    let _ = setup(&scene, &site).run().code(7).says("owner");
    assert_eq!(site.gitlab.runners().len(), 1, "none is made beside it, and it is not taken");
    make("maintainer");
    crate::common::site::settle();
    let _ = setup(&scene, &site).run().code(7).says("runners").says("mark");
    assert_eq!(site.gitlab.runners().len(), 2);
}

pub fn drift(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let id = runner_id(&site);
    let put =
        |body: &Value| crate::common::site::put(&site.gitlab, "maintainer", &format!("/runners/{id}"), body);
    put(&json!({"run_untagged": true, "locked": false}));
    let status = || site.project(&scene.home, scene.status(), "maintainer").run();
    let _ = status().code(10).says("tagged jobs only").says("locked");
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
    let _ = status().code(10).says(NO_MACHINE);
}

/// By itself the step has nowhere to put the token but a file that is named.
pub fn by_itself(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let create = || site.project(&scene.home, scene.command("create-runner"), "maintainer");
    let _ = create().run().code(2).says("--runner-token-out");
    assert_eq!(site.gitlab.runners().len(), 0);
    let out = scene.home.path().join("runner-token.sh");
    let _ = create().flag("--runner-token-out", &out).run().code(0).says("runner 1001");
    let token = std::fs::read_to_string(&out).expect("the token is there");
    assert_eq!(token.trim(), site.gitlab.runner_token(1001));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&out).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // It is found again, and setup goes on with a token of its own: no machine has used the first.
    let _ = create().flag("--runner-token-out", &out).run().code(0).says("kept: runner 1001");
    setup(&scene, &site).run().code(0);
    assert_one_good_runner(&scene, &site, "setup after create-runner");
    // Deleted by somebody else meanwhile: fine.
    site.gitlab.remove_runner(1001);
    std::thread::sleep(std::time::Duration::from_millis(60));
    let _ = teardown(&scene, &site).run().code(0).says("already gone");
}

/// A runner that no longer says whose it is: neither taken nor followed by a second one.
pub fn mark_removed(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let body = json!({"description": "mine now"});
    crate::common::site::put(&site.gitlab, "maintainer", "/runners/1001", &body);
    let _ = setup(&scene, &site).run().code(7).says("mine now");
    let _ = teardown(&scene, &site).run().code(7).says("runner 1001");
    assert_eq!(site.gitlab.runners().len(), 1);
}

/// Settings that name another project do not move a runner, nor leave it behind.
pub fn another_project(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.add_project(super::ProjectSpec::new("acme/other"));
    site.gitlab.set_role("maintainer", "acme/other", Some(super::Role::Maintainer));
    setup(&scene, &site).run().code(0);
    let moved = || setup(&scene, &site).flag("--project", "acme/other");
    let _ = moved().fails("OR0320").says("runner 1001").says("--only create-runner");
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = teardown(&scene, &site).args(["--only", "create-runner"]).run().code(0).says("read back: gone");
    moved().run().code(0);
    assert_eq!(site.gitlab.runners().len(), 1);
    assert_eq!(site.gitlab.runners()[0]["of"], json!(["acme/other"]));
}
