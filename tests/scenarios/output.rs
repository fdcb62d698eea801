//! What is shown and what is written.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Scene, listing, writes};
use crate::common::admin::documents;
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Output};
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
    let check = |command: Cli<'_>, code: i32, changed: bool| {
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
    let loud = |command: Cli<'_>| {
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

/// The last line, which tells a script how it ended.
fn result(output: &Output) -> serde_json::Value {
    output.json_lines().pop().unwrap_or_else(|| panic!("no line\n{output}"))
}

/// What a script needs is in the result: it reads nothing else, and no text.
pub fn results(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let json = |command: Cli<'_>, code: i32| command.args(["-o", "json"]).run().code(code);
    let output = json(scene.setup().arg("--dry-run"), 0);
    assert_eq!(result(&output)["status"], serde_json::json!(["drift"]), "{output}");
    let plan = output.json_lines().into_iter().find(|line| line["type"] == "plan").expect("a plan");
    let lines = plan["lines"].as_array().expect("lines");
    let role = serde_json::json!({
        "kind": "Role", "namespace": scene.job_namespace(), "name": scene.deployment});
    let line = lines.iter().find(|line| line["object"] == role).unwrap_or_else(|| panic!("{output}"));
    assert_eq!((&line["step"], &line["action"]), (&"create-role".into(), &"create".into()));
    for line in lines.iter().filter(|line| line["action"] == "create") {
        assert!(line["object"]["kind"].is_string(), "each thing that is created is named: {line}");
    }
    let output = json(scene.setup(), 0);
    scene.watch_cluster_token();
    let ended = result(&output);
    // What was just made has not been looked at in use.
    assert_eq!(ended["status"], serde_json::json!([]), "{output}");
    assert_eq!(ended["deployment"], scene.deployment.as_str(), "{output}");
    let namespaces = serde_json::json!({"runner": scene.runner_namespace(), "jobs": scene.job_namespace()});
    assert_eq!(ended["namespaces"], namespaces, "{output}");
    let script = scene.home.script(&scene.deployment);
    assert_eq!(ended["script"], script.display().to_string(), "{output}");
    assert_eq!(ended["left"], serde_json::Value::Null, "{output}");
    let status = result(&json(scene.status(), 0));
    assert_eq!(status["status"], serde_json::json!(["ok"]));
    bed.admin().delete(&scene.path("RoleBinding"));
    assert_eq!(result(&json(scene.status(), 10))["status"], serde_json::json!(["drift"]));
    // A part of it stays: the result names it.
    let ended = result(&json(scene.teardown().arg("--keep-namespaces"), 0));
    let left = ended["left"].as_array().expect("what is left");
    let kinds: Vec<_> = left.iter().map(|one| one["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["Namespace", "Namespace"], "{ended}");
    let ended = result(&json(scene.teardown(), 0));
    assert_eq!(ended["left"], serde_json::json!([]), "{ended}");
}

/// A failure is JSON too, also one of the command line itself: with the values that it is about as fields.
pub fn failures(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let of = |output: &Output| {
        let error = output.json_lines().into_iter().find(|line| line["type"] == "error");
        error.unwrap_or_else(|| panic!("no error\n{output}"))
    };
    let missing = scene.command("setup").args(["-o", "json"]).run().code(2);
    let error = of(&missing);
    assert_eq!(error["id"], "OR0201", "{missing}");
    let field = &error["fields"][0];
    assert_eq!(
        (&field["problem"], &field["flag"], &field["environment"], &field["key"]),
        (&"missing".into(), &"--gitlab-url".into(), &"GITLAB_URL".into(), &"gitlabUrl".into()),
        "{missing}"
    );
    assert_eq!(result(&missing)["errors"], serde_json::json!(["OR0201"]), "{missing}");
    let invalid =
        scene.setup().args(["--wait", "soon", "-o", "json"]).env("OUTRIGGER_NAMESPACE", "A B").run();
    let fields = of(&invalid)["fields"].clone();
    let said: Vec<_> = fields.as_array().into_iter().flatten().map(|one| one["flag"].clone()).collect();
    assert!(said.contains(&"--wait".into()) && said.contains(&"--namespace".into()), "{invalid}");
    // What clap refuses.
    for (args, env) in [
        (&["setup", "--namespac", "x", "-o", "json"][..], ""),
        (&["setup", "--wait", "-ojson"], ""),
        (&["-vo", "json", "stauts"], ""),
        (&["--output=json"], ""),
        (&["setup", "extra"], "json"),
        (&["setup", "-o", "yaml"], "json"),
        (&["status", "-o", "name"], ""),
    ] {
        let mut command = scene.home.outrigger(args[0]).args(args[1..].iter().copied());
        if !env.is_empty() {
            command = command.env("OUTRIGGER_OUTPUT", env);
        }
        let output = command.run().code(2);
        // A format that does not exist is not JSON.
        if args.contains(&"yaml") || args.contains(&"name") {
            continue;
        }
        assert_eq!(output.stderr(), "", "{output}");
        assert_eq!(of(&output)["kind"], "usage", "{output}");
        let lines = output.json_lines();
        assert_eq!(lines.last().map(|line| line["exit"].clone()), Some(2.into()), "{output}");
        assert!(!output.stdout().contains("error: "), "{output}");
    }
}

/// What was asked for is on stdout; progress, the plan before consent and errors are on stderr.
pub fn streams(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let report = |command: Cli<'_>, code: i32, text: &str| {
        let output = command.run().code(code);
        assert!(output.stdout().contains(text), "{text:?} is on stdout\n{output}");
        assert!(!output.stderr().contains(text), "{text:?} is not on stderr\n{output}");
        assert!(!output.stdout().starts_with('\n'), "{output}");
        output
    };
    report(scene.setup().arg("--dry-run"), 0, "Nothing was changed");
    report(scene.command("create-namespaces").arg("--dry-run"), 0, "Plan");
    report(scene.command("preflight"), 0, "All checks passed");
    report(scene.home.outrigger("explain").arg("OR0306"), 0, "OR0306");
    let output = scene.set_up();
    assert_eq!(output.stdout(), "", "what is applied is shown before it is asked for\n{output}");
    assert!(output.stderr().contains("Plan") && output.stderr().contains("Done"), "{output}");
    let output = report(scene.status(), 0, "Everything matches the plan");
    assert!(
        output.stderr().starts_with("connecting to ") && output.stderr().lines().count() == 1,
        "{output}"
    );
    report(scene.command("list"), 0, &scene.deployment);
    report(scene.teardown().arg("--dry-run"), 0, "This removes");
    // Why it failed is on stderr, what was found on stdout.
    bed.admin().delete(&scene.path("RoleBinding"));
    report(scene.status(), 10, "pending");
    let output = scene.status().flag("--context", "elsewhere").run();
    assert!(output.stdout().is_empty() && output.stderr().contains("error OR"), "{output}");
    let output = scene.teardown().run().code(0);
    assert_eq!(output.stdout(), "", "{output}");
}

/// The steps that the published schema allows are those that exist, and the part of setup that is no step.
pub fn schema_names_every_step(_: &dyn Bed) {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/schemas/events.json")).expect("JSON");
    let named: Vec<&str> = schema["$defs"]["step"]["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step.as_str())
        .collect();
    let steps = outrigger::internal::STEPS.iter().map(|step| step.info().name);
    assert_eq!(named, steps.chain(["prune"]).collect::<Vec<_>>());
}

/// Steps in place are counted, apart from those that are not needed; -v lists them.
pub fn folded(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let again = scene.setup().run().code(0).says("4 steps in place, 2 not needed").says("Nothing to change");
    assert_eq!(again.stderr().matches("in place").count(), 1, "{again}");
    assert_eq!(again.stderr().matches("create-role").count(), 0, "{again}");
    let _ = scene.setup().arg("-v").run().code(0).never_says("steps in place").says("= create-role");
    bed.admin().delete(&scene.path("RoleBinding"));
    let status = scene.status().run().code(10).says("create-role").says("steps in place");
    assert!(!status.stdout().contains("create-namespaces"), "{status}");
    let _ = scene.status().arg("-v").run().code(10).says("create-namespaces");
    // One step alone says what it found.
    let _ = scene.command("create-namespaces").run().code(0).says("= create-namespaces");
}

/// All that is below a directory, with modes and contents.
fn everything(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(place) = open.pop() {
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().expect("it is there"));
            if meta.is_dir() {
                open.push(path.clone());
            }
            let bytes = if meta.is_file() { std::fs::read(&path).expect("ours") } else { Vec::new() };
            found.push((path, meta.permissions().mode(), bytes));
        }
    }
    found.sort();
    found
}

/// Looking leaves nothing behind: no file, no lock, no directory, before there is a deployment and after.
pub fn looking_leaves_nothing(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    for is_set_up in [false, true] {
        if is_set_up {
            scene.set_up();
        }
        let mut looks = vec![
            scene.command("list"),
            scene.command("list").arg("--live"),
            scene.command("list").args(["-o", "json"]),
            scene.command("list").args(["-o", "name"]),
            scene.status(),
            scene.command("preflight"),
            scene.home.outrigger("explain").arg("OR0306"),
            scene.setup().arg("--dry-run"),
            scene.setup().args(["--dry-run", "-o", "json"]),
            scene.teardown().arg("--dry-run"),
            scene.command("extract-ca"),
            scene.command("launch-script").arg("--print-commands"),
            scene.command("commit-pipeline").arg("--print"),
            scene.command("launch-script").args([
                "--uninstall",
                "--gitlab-url",
                "https://gitlab.example.com",
            ]),
        ];
        for step in outrigger::internal::STEPS {
            let name = step.info().name;
            looks.push(scene.command(name).arg("--dry-run"));
        }
        for look in looks {
            let _ = leaves_nothing(&scene, &look);
        }
    }
}

/// What this run says, if it changed no file.
fn leaves_nothing(scene: &Scene<'_>, command: &Cli<'_>) -> Output {
    // What is given by file is written here, not by outrigger.
    let before = everything(scene.home.path());
    let output = command.run();
    let after = everything(scene.home.path());
    let names = |all: &[(PathBuf, u32, Vec<u8>)]| -> Vec<PathBuf> {
        all.iter().map(|(path, ..)| path.clone()).collect()
    };
    assert_eq!(names(&before), names(&after), "{output}");
    assert!(before == after, "a file has changed\n{output}");
    output
}

/// A command that may write, and has no effect, leaves neither a lock nor a directory. One without an effect on a
/// deployment that is recorded leaves what was there.
pub fn no_effect_leaves_nothing(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let absent = scene.home.path().join("absent.kubeconfig");
    let without = |name: &str| scene.command(name).flag("--kubeconfig", &absent);
    for (command, code) in [
        (scene.teardown(), 3),
        (scene.teardown().arg("--ignore-not-found"), 0),
        (without("render"), 3),
        (without("create-role").arg("--print"), 3),
        (without("create-role"), 3),
        (scene.setup().flag("--kubeconfig", &absent), 3),
    ] {
        let _ = leaves_nothing(&scene, &command).code(code);
    }
    scene.set_up();
    let _ = leaves_nothing(&scene, &without("render")).code(3);
    let _ = leaves_nothing(&scene, &scene.setup().arg("--yes")).code(0).says("Nothing to change");
}

/// -v shows requests, -vv their bodies without secrets; --log-file keeps both, for its owner alone.
pub fn requests(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let log = scene.home.path().join("run.log");
    let quiet = scene.setup().flag("--log-file", &log).run().code(0).never_says("POST /api");
    scene.watch_cluster_token();
    assert_eq!(std::fs::metadata(&log).expect("it was written").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&log).expect("lines");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let is = |line: &&serde_json::Value| line["type"] == "request" && line["method"] == "POST";
    let made = lines.iter().find(is).unwrap_or_else(|| panic!("{text}\n{quiet}"));
    assert!(made["host"].as_str().is_some_and(|host| bed.url().ends_with(host)), "{made}");
    assert_eq!((&made["sent"], &made["received"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(lines.last().map(|line| line["type"].clone()), Some("result".into()));
    let path = format!("/api/v1/namespaces/{}/secrets", scene.runner_namespace());
    let _ =
        scene.status().arg("-v").run().code(0).says(&format!("GET {path}")).says(" ms, ").never_says("< {");
    let output = scene.status().arg("-vv").flag("--log-file", &log).run().code(0);
    assert!(output.stderr().contains("  < {") && output.stderr().contains("[masked]"), "{output}");
    let text = std::fs::read_to_string(&log).expect("lines");
    assert!(
        text.contains("[masked]") && !text.contains("create-role\",\"changed\":true"),
        "a new log\n{text}"
    );
    // A link leads elsewhere.
    let link = scene.home.path().join("link");
    std::os::unix::fs::symlink(&log, &link).expect("a link");
    let _ = scene.status().flag("--log-file", &link).run().code(7).says("OR0702");
}

/// The list is a table, names, or one JSON array; a run that made nothing is no deployment.
pub fn list(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let list = || scene.command("list");
    let _ = list().run().code(0).says("No deployments found.");
    assert_eq!(list().args(["-o", "json"]).run().code(0).stdout(), "[]\n");
    std::fs::create_dir_all(scene.home.state()).expect("a home of ours");
    let ghost = r#"{"schema": 1, "deployment": "ghost", "id": "0123456789abcdef0123456789abcdef"}"#;
    std::fs::write(scene.home.state().join("ghost.json"), ghost).expect("a home of ours");
    let _ = list().run().code(0).says("No deployments found.");
    scene.set_up();
    let table = list().run().code(0).never_says("ghost");
    let lines: Vec<_> = table.stdout().lines().map(str::to_owned).collect();
    let columns: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(columns, ["NAME", "CONTEXT", "NAMESPACE", "RUNNER", "GITLAB", "MACHINE", "AGE"], "{table}");
    let cells: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        (cells.len(), cells[0], cells[2]),
        (7, &*scene.deployment, &*scene.job_namespace()),
        "{table}"
    );
    assert_eq!((cells[4], cells[5]), ("gitlab.example.com", "lightsail"), "{table}");
    let bare = list().arg("--no-headers").run().code(0);
    assert_eq!(bare.stdout().lines().count(), 1, "{bare}");
    assert_eq!(list().args(["-o", "name"]).run().code(0).stdout(), format!("{}\n", scene.deployment));
    let array = list().args(["-o", "json"]).run().code(0);
    let array: serde_json::Value = serde_json::from_str(&array.stdout()).expect("JSON");
    assert_eq!(array[0]["namespaces"]["jobs"], scene.job_namespace(), "{array}");
    assert!(array[0]["created"].is_string() && array.as_array().is_some_and(|all| all.len() == 1), "{array}");
    for flag in ["--live", "--cluster"] {
        let live = list().arg(flag).run().code(0);
        let found = live.stdout().lines().any(|line| line.starts_with(&scene.deployment));
        assert!(found, "{live}");
    }
    // A record that cannot be read: the array stays an array.
    std::fs::write(scene.home.state().join("odd.json"), "{").expect("a home of ours");
    let odd = list().args(["-o", "json"]).run().code(0);
    assert!(odd.stderr().contains("\"type\":\"warning\""), "{odd}");
}
