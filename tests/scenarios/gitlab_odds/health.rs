//! What is in place and does not work.

use super::{Doubles, Duration, NO_MACHINE, Scene, Site, User, json, runner_id, setup, teardown};
use crate::common::site::put;

pub fn of_the_runner(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    let status = || site.project(&scene.home, scene.status(), "maintainer");
    // The script has not run anywhere: what is asked for is in place, and takes no jobs.
    let output = status().flag("--wait", "1s").run().code(10).says("no machine has contacted GitLab yet");
    let _ = output.says("run the launch script").says(NO_MACHINE);
    let _ = setup(&scene, &site).run().code(0).says("Nothing to change; 1 problem");
    let _ = setup(&scene, &site).args(["--dry-run", "--exit-code"]).run().code(10);
    let vm = site.boot(&scene.home, &scene.home.script(&scene.deployment));
    let _ = status().flag("--wait", "60s").run().code(0).says("Everything matches the plan");

    // Somebody's pause stays, and is shown.
    let path = format!("/runners/{}", runner_id(&site));
    put(&site.gitlab, "maintainer", &path, &json!({"paused": true}));
    let _ = status().run().code(10).says("is paused: it takes no jobs");
    let json = status().args(["-o", "json"]).run().code(10);
    let plan = json.json_lines().into_iter().find(|line| line["type"] == "plan").expect("a plan");
    let lines = plan["lines"].as_array().expect("lines");
    assert!(lines.iter().any(|line| line["action"] == "unhealthy"), "{plan}");
    setup(&scene, &site).run().code(0);
    assert_eq!(site.gitlab.runners()[0]["paused"], true);
    put(&site.gitlab, "maintainer", &path, &json!({"paused": false}));

    drop(vm);
    site.gitlab.advance(Duration::from_secs(6 * 86_400 + 3600));
    let _ = status().run().code(10).says("is offline: last contact 6 days ago of s_0123456789ab");
    let _ = teardown(&scene, &site).run().code(0);
}
