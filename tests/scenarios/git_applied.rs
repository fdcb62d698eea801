//! For shops that apply by Git: the plan as a document, and manifests that others apply.

use outrigger_doubles::gitlab::PROJECT;
use serde_json::{Value, json};

use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::lines::assert_document;
use crate::common::site::Site;
use crate::common::world::{assert_same, world};

/// `render --plan`: everything that setup then does, without a write, a file or a secret.
pub fn plan_as_a_document(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let before = world(bed.admin());
    bed.mark();
    let render = || {
        let command = site.project(&scene.home, scene.command("render"), "maintainer");
        command.args(["--plan", "--commit-pipeline", "--tags", "blue,k8s"])
    };
    let output = render().run().code(0);
    assert_eq!(listing(&writes(bed)), "", "it only reads");
    assert_same("render --plan", &before, &world(bed.admin()));
    assert_eq!(site.count("POST", "/user/runners"), 0);
    assert!(!scene.home.state().exists(), "no record is written");
    assert_eq!(output.stdout(), render().run().code(0).stdout(), "the same again");

    let plan = assert_document(&output.stdout());
    let lines = plan["lines"].as_array().expect("lines");
    let changes =
        lines.iter().filter(|line| line["action"] == "create" || line["action"] == "update").count();
    assert_eq!(plan["changes"], changes);
    let objects: Vec<(&Value, &Value)> =
        lines.iter().map(|line| (&line["step"], &line["object"]["kind"])).collect();
    for object in [
        ("create-namespaces", "Namespace"),
        ("create-role", "RoleBinding"),
        ("issue-token", "Secret"),
        ("launch-script", "File"),
    ] {
        assert!(objects.contains(&(&json!(object.0), &json!(object.1))), "{object:?}: {objects:?}");
    }
    let project = site.gitlab.project_id(PROJECT);
    let runner = json!({"runner_type": "project_type", "project_id": project, "tag_list": ["blue", "k8s"],
        "run_untagged": false, "locked": true});
    assert_eq!(plan["runner"], runner);
    assert_eq!(plan["pipelineFile"]["branch"], "main");
    let content = plan["pipelineFile"]["content"].as_str().unwrap_or_default();
    assert!(content.contains("hello world!"), "{content}");
    let tags = json!({"key": "tags", "value": ["blue", "k8s"], "source": "--tags"});
    assert!(plan["settings"].as_array().is_some_and(|settings| settings.contains(&tags)), "{plan:#}");

    // As lines it ends with the result.
    let _ = render().args(["-o", "json"]).run().code(0).says("\"type\":\"setup-plan\"");
    // What setup does is what was said.
    let _ = site
        .project(&scene.home, scene.command("setup"), "maintainer")
        .args(["--commit-pipeline", "--tags", "blue,k8s"])
        .run()
        .code(0);
    let made = &site.gitlab.runners()[0];
    assert_eq!((&made["tag_list"], &made["locked"]), (&json!(["blue", "k8s"]), &json!(true)), "{made}");
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").as_deref(), Some(content));
    let after = assert_document(&render().run().code(0).stdout());
    assert_eq!(
        (&after["changes"], &after["runner"], &after["pipelineFile"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    // What is missing is told as by setup, and consent is no flag of it.
    let elsewhere = Scene::new(bed, User::Admin);
    let _ = elsewhere.command("render").arg("--plan").run().code(2).says("OR0201").says("--gitlab-url");
    for flag in ["--yes", "--prune", "--force-conflicts", "--overwrite-pipeline"] {
        let _ = elsewhere.command("render").arg(flag).run().code(2).says("unexpected argument");
    }
}

/// Rendered and applied by Git, the objects are the deployment's own: setup makes what is left, in GitLab too.
pub fn rendered_and_set_up(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let before = world(bed.admin());
    let manifests = scene.command("render").run().code(0).stdout();
    for document in crate::common::admin::documents(&manifests) {
        bed.admin().create(&document);
    }
    let setup = || site.project(&scene.home, scene.command("setup"), "maintainer");
    let plan = site.project(&scene.home, scene.command("render").arg("--plan"), "maintainer").run().code(0);
    let plan = assert_document(&plan.stdout());
    let lines = plan["lines"].as_array().expect("lines");
    let made = |line: &&Value| line["action"] == "create" && line["object"]["namespace"].is_string();
    let made: Vec<&Value> = lines.iter().filter(made).collect();
    assert!(made.is_empty(), "nothing is made again: {made:#?}");
    setup().run().code(0);
    let _ = site.project(&scene.home, scene.status(), "maintainer").run().says("create-runner");
    let _ = site.project(&scene.home, scene.teardown(), "maintainer").run().code(0);
    assert_same("render, apply, setup and teardown", &before, &world(bed.admin()));
}
