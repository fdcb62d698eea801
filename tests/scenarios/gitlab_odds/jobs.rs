//! The machine and its jobs: slow, stuck, failed, elsewhere, or dead.

use super::{
    Bed, Behaviour, Doubles, DriverOptions, Duration, PROJECT, Pid, RunnerDriver, SOON, Scene, Signal, Site,
    User, assert_same, cancel_pipelines, json, kill_process, run_pipeline, runner_id, runner_token, setup,
    teardown, until, with_machine, world,
};

pub fn stuck_and_slow(bed: &'static Doubles) {
    // Never booted: the wait ends and says what was last seen.
    let site = Site::new();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Silent);
    let _ = run_pipeline(&scene, &site, "3s").fails("OR0806").says("has not contacted GitLab");
    // Booted late: that is slow, not stuck.
    vm.set_behaviour(Behaviour::Succeed);
    let _ = run_pipeline(&scene, &site, "60s").run().code(0).says("succeeded on runner");

    // Paused.
    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::RegisterOnly);
    let id = runner_id(&site);
    crate::common::site::put(&site.gitlab, "maintainer", &format!("/runners/{id}"), &json!({"paused": true}));
    let output = run_pipeline(&scene, &site, "60s").fails("OR0912").says("paused");
    assert!(output.took < SOON, "no waiting helps\n{output}");
    crate::common::site::put(
        &site.gitlab,
        "maintainer",
        &format!("/runners/{id}"),
        &json!({"paused": false}),
    );
    // Registered, but its service does not ask for jobs.
    let _ = run_pipeline(&scene, &site, "5s").run().code(8).says("has not started");

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
    assert!(output.took < SOON, "no waiting helps\n{output}");
}

pub fn bad_ends(bed: &'static Doubles) {
    let site = Site::new();
    let failing = Behaviour::Fail { reason: "script_failure".to_owned(), exit_code: 1 };
    let (scene, vm) = with_machine(bed, &site, Behaviour::RegisterOnly);
    cancel_pipelines(&site);
    vm.set_behaviour(failing);
    let _ = run_pipeline(&scene, &site, "60s").fails("OR0910").says("script_failure").says("hello world!");
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
    let scene = Scene::new(bed, User::Admin);
    setup(&scene, &site).arg("--commit-pipeline").run().code(0);
    cancel_pipelines(&site);
    let _thief = RunnerDriver::for_token(&site.gitlab, &token);
    let script = scene.home.script(&scene.deployment);
    let own = runner_token(&script);
    scene.home.canary(&own);
    let options =
        DriverOptions { behaviour: Behaviour::RegisterOnly, ..DriverOptions::new(&site.gitlab, &own) };
    let _vm = RunnerDriver::start(options);
    let output = run_pipeline(&scene, &site, "60s").fails("OR0911");
    let _ = output.says("not on our runner").says(&format!("test on runner {theirs} (somebody else's)"));
}

pub fn running_job(bed: &'static Doubles) {
    let site = Site::new();
    let (scene, vm) = with_machine(bed, &site, Behaviour::Stall);
    until("a job runs", || {
        site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == "running")
    });
    let before = world(bed.admin());
    let output = teardown(&scene, &site).flag("--timeout", "3s").fails("OR0801");
    let _ = output.says("still running").says("--now").says("is paused and takes no new jobs").says("setup");
    assert_same("a teardown that waited in vain", &before, &world(bed.admin()));
    assert_eq!(site.gitlab.runners()[0]["paused"], true, "no new job gets in the way");
    // Who changes their mind gets the runner back.
    let _ = setup(&scene, &site).run().code(0).says("paused by an unfinished run of outrigger -> active");
    assert_eq!(site.gitlab.runners()[0]["paused"], false);
    let _ = teardown(&scene, &site).flag("--timeout", "3s").run().code(8);
    assert_eq!(site.gitlab.runners()[0]["paused"], true);
    // A machine that is dead will not finish it.
    drop(vm);
    site.gitlab.advance(Duration::from_secs(360));
    let _ = teardown(&scene, &site).run().code(0).says("last contact of its machine");
    assert_eq!(site.gitlab.runners().len(), 0);

    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::Stall);
    until("a job runs", || {
        site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == "running")
    });
    let _ = teardown(&scene, &site).arg("--now").run().code(0);
}

/// A teardown that is interrupted while a job runs has paused the runner. It says so, with both ways on; `status` sees
/// it; `setup` resumes the runner, and `teardown` goes on.
pub fn interrupted_teardown(bed: &'static Doubles) {
    let site = Site::new();
    let (scene, _vm) = with_machine(bed, &site, Behaviour::Stall);
    until("a job runs", || {
        site.gitlab.pipelines(PROJECT).iter().any(|pipeline| pipeline["status"] == "running")
    });
    let id = runner_id(&site);
    let before = world(bed.admin());
    let status = || site.project(&scene.home, scene.status(), "maintainer");
    let paused = || site.gitlab.runners()[0]["paused"] == true;
    let interrupted = || {
        let teardown = teardown(&scene, &site);
        let running = teardown.start();
        until("it waits", || running.has_said(&format!("waiting for 1 running job on runner {id}")));
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::INT).expect("it runs");
        let output = running.wait().code(130).says(&format!("runner {id} is paused and takes no new jobs"));
        let output = output.says("go on: outrigger teardown --deployment");
        let _ = output.says("or keep the deployment, and resume the runner: outrigger setup --deployment");
        assert_same("an interrupted teardown", &before, &world(bed.admin()));
        assert!(paused());
    };
    interrupted();
    let output = status().run().code(10).says("paused by an unfinished run of outrigger -> active");
    let _ = output.says("1 change pending").says("outrigger setup --deployment");
    let _ = setup(&scene, &site).run().code(0);
    assert!(!paused());
    let _ = status().run().code(0).never_says("paused");
    interrupted();
    cancel_pipelines(&site);
    let _ = teardown(&scene, &site).run().code(0);
    assert_eq!(site.gitlab.runners().len(), 0);
}

pub fn cluster_down(bed: &'static Doubles) {
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
