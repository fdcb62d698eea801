//! What is shown and what is written.

use std::os::unix::fs::PermissionsExt as _;

use super::{Scene, listing, writes};
use crate::common::admin::documents;
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

pub fn dry_run(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        let before = world(bed.admin());
        bed.mark();
        scene.setup().arg("--dry-run").run().code(0).says(&scene.job_namespace());
        scene.setup().arg("--dry-run").arg("--exit-code").run().code(10);
        assert_eq!(listing(&writes(bed)), "");
        assert_same("a dry run", &before, &world(bed.admin()));
        assert!(!scene.home.script(&scene.deployment).exists(), "a dry run writes no script");
    }
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    scene.setup().arg("--dry-run").arg("--exit-code").run().code(0);
    let before = world(bed.admin());
    scene.teardown().arg("--dry-run").run().code(0);
    assert_same("a dry teardown", &before, &world(bed.admin()));
}

pub fn json(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let check = |command: crate::common::run::Cli<'_>, code: i32, changed: bool| {
        let output = command.flag("--output", "json").run().code(code);
        let lines = output.json_lines();
        assert!(
            lines.iter().all(|line| line["schema"] == "outrigger/2.0"),
            "each line says its schema\n{output}"
        );
        let last = lines.last().unwrap_or_else(|| panic!("no line\n{output}"));
        assert_eq!(last["exit"], code, "{output}");
        assert_eq!(last["changed"], changed, "{output}");
    };
    check(scene.setup().arg("--dry-run"), 0, false);
    check(scene.setup(), 0, true);
    scene.watch_cluster_token();
    check(scene.setup(), 0, false);
    check(scene.status(), 0, false);
    bed.admin().delete(&scene.path("RoleBinding"));
    check(scene.status(), 10, false);
    check(scene.teardown(), 0, true);
}

/// Every run is searched for canaries; this one says as much as it can.
pub fn verbose(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let loud = |command: crate::common::run::Cli<'_>| {
        command.arg("-v").arg("-v").arg("-v").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1").run()
    };
    let _ = loud(scene.setup()).code(0);
    scene.watch_cluster_token();
    let _ = loud(scene.status()).code(0);
    let _ = loud(scene.setup()).code(0);
    // A failure, too: messages are built from what servers and files say.
    let _ = loud(scene.setup().flag("--context", "staging")).code(3);
    let role = scene.path("Role");
    bed.admin().patch(&role, &serde_json::json!({"rules": []}));
    let _ = loud(scene.setup()).code(9);
    let _ = loud(scene.teardown()).code(0);
}

pub fn script_mode(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let script = scene.home.script(&scene.deployment);
    let mode = std::fs::metadata(&script).expect("setup wrote it").permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "the script holds two secrets: {mode:o}");
    let text = std::fs::read_to_string(&script).expect("the owner may read it");
    assert!(text.starts_with("#!/bin/sh"), "cloud-init runs it by its first line");
    assert!(text.contains("glrt-canary-"), "the runner's token is in it");
    assert!(text.contains(&scene.job_namespace()), "the namespace of the pods is in it");
    // The folder above is nobody else's business either.
    for folder in script.ancestors().skip(1).take_while(|folder| *folder != scene.home.path()) {
        let mode = std::fs::metadata(folder).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode & 0o022, 0, "others may write into {}: {mode:o}", folder.display());
    }
}

pub fn print_manifests(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Limited);
    let before = world(bed.admin());
    bed.mark();
    let output = scene.command("create-role").arg("--print").run().code(0);
    assert_eq!(listing(&writes(bed)), "");
    assert_same("printing", &before, &world(bed.admin()));
    let kinds: Vec<_> = documents(&output.stdout()).iter().map(|m| m["kind"].to_string()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "\"ServiceAccount\"").count(), 2, "{kinds:?}");
    // The same again: what was handed to an administrator stays true.
    let again = scene.command("create-role").arg("--print").run().code(0);
    assert_eq!(output.stdout(), again.stdout());
}

/// A page is set for the terminal that it is read on, and says the same in every width.
pub fn explained(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let page = |columns: &str| {
        scene.home.outrigger("explain").arg("or0320").env("COLUMNS", columns).run().code(0).stdout()
    };
    let (narrow, wide) = (page("60"), page("300"));
    let longest = |text: &str| text.lines().map(str::len).max().unwrap_or_default();
    assert!((40..=60).contains(&longest(&narrow)), "{narrow}");
    assert!((80..=100).contains(&longest(&wide)), "{wide}");
    assert!(narrow.split_whitespace().eq(wide.split_whitespace()), "{narrow}{wide}");
}
