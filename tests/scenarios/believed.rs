//! Files that outrigger reads: who could have written them, and what they are besides files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::input::refused;
use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::run::{Home, SOON};
use crate::common::world::{assert_same, world};

/// Nobody's number, as every distribution has it.
const NOBODY: u32 = 65_534;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of ours");
}

fn fifo(home: &Home, name: &str) -> PathBuf {
    let path = home.path().join("in").join(name);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    path
}

/// Writes the text into a FIFO once, as soon as somebody reads there.
fn writer(path: &Path, text: &str) {
    let (path, text) = (path.to_owned(), text.to_owned());
    std::thread::spawn(move || {
        let mut into = fs::OpenOptions::new().write(true).open(path).expect("a FIFO of ours");
        let _ = into.write_all(text.as_bytes());
    });
}

/// A kubeconfig whose plugin leaves a mark when it is run.
fn marking(scene: &Scene<'_>) -> (PathBuf, PathBuf) {
    let mark = scene.home.path().join("in/mark");
    let plugin = scene.home.input("planted", &format!("#!/bin/sh\nid >'{}'\n", mark.display()));
    mode(&plugin, 0o755);
    let mut config: Value = serde_yaml::from_str(&scene.bed.kubeconfig(User::Admin)).expect("it parses");
    config["users"][0]["user"] = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
        "command": plugin, "interactiveMode": "Never"}});
    let yaml = serde_yaml::to_string(&config).expect("it is plain data");
    (scene.home.input("planted.kubeconfig", &yaml), mark)
}

/// Something to do to a file, and to undo.
type Change<'a> = Box<dyn Fn() + 'a>;

/// A record that somebody else could have written names no program that is run.
pub fn record_of_others(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    let (kubeconfig, mark) = marking(&scene);
    let mut planted: Value = serde_json::from_slice(&fs::read(&record).expect("it is there")).expect("JSON");
    planted["settings"]["kubeconfig"] = json!([kubeconfig]);
    fs::write(&record, planted.to_string()).expect("a file of ours");
    let bare = |subcommand: &str| {
        scene.home.outrigger(subcommand).args(["--non-interactive", "--deployment", &scene.deployment])
    };
    let root = rustix::process::geteuid().is_root();
    let away = record.with_extension("away");
    let mine = |path: &Path| {
        if root {
            chown(path, Some(0), Some(0)).expect("root may");
        }
    };
    let mut ways: Vec<(&str, Change<'_>, Change<'_>)> = vec![
        (
            "a record that all may write to",
            Box::new(|| mode(&record, 0o666)),
            Box::new(|| mode(&record, 0o600)),
        ),
        (
            "a state directory that all may write to",
            Box::new(|| mode(&scene.home.state(), 0o777)),
            Box::new(|| mode(&scene.home.state(), 0o700)),
        ),
        (
            "a directory above it that all may write to",
            Box::new(|| mode(&scene.home.path().join("state"), 0o777)),
            Box::new(|| mode(&scene.home.path().join("state"), 0o700)),
        ),
        (
            "a link to a record",
            Box::new(|| {
                fs::rename(&record, &away).expect("a file of ours");
                symlink(&away, &record).expect("a folder of ours");
            }),
            Box::new(|| fs::rename(&away, &record).expect("a file of ours")),
        ),
    ];
    if root {
        ways.push((
            "a record that another user owns",
            Box::new(|| chown(&record, Some(NOBODY), None).expect("root may")),
            Box::new(|| mine(&record)),
        ));
        ways.push((
            "another user's record in a shared place",
            Box::new(|| {
                mode(&scene.home.state(), 0o1777);
                chown(&record, Some(NOBODY), None).expect("root may");
                mode(&record, 0o644);
            }),
            Box::new(|| {
                mine(&record);
                mode(&scene.home.state(), 0o700);
            }),
        ));
        ways.push((
            "a state directory that another user owns",
            Box::new(|| chown(scene.home.state(), Some(NOBODY), None).expect("root may")),
            Box::new(|| mine(&scene.home.state())),
        ));
    }
    let before = world(bed.admin());
    for (what, change, undo) in ways {
        change();
        for command in [
            bare("status"),
            bare("setup").arg("--dry-run"),
            bare("preflight"),
            bare("teardown").args(["--yes", "--dry-run"]),
            bare("launch-script").arg("--print-commands"),
        ] {
            let output = command.run().code(3);
            let said = if what.starts_with("a link") { "OR0702" } else { "OR0204" };
            let output = output.says(said);
            assert!(!mark.exists(), "{what}: the planted program was run\n{output}");
        }
        undo();
    }
    assert_same("refused records", &before, &world(bed.admin()));
    // As ours it is believed.
    let _ = bare("status").run();
    assert!(mark.exists(), "the record names the program");
    scene.teardown().run().code(0);
}

/// What a record names becomes a path and is deleted: only what the deployment could have made, and what says
/// itself that it did.
pub fn record_of_other_objects(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    let ours = fs::read_to_string(&record).expect("it is there");
    let others = format!("{}-others", scene.deployment);
    let made =
        bed.admin().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": others}}));
    let uid = |path: &str| bed.admin().get(path).expect("it is there")["metadata"]["uid"].clone();
    let system = uid("/api/v1/namespaces/kube-system");
    let before = world(bed.admin());
    let with = |list: &str, entry: Value| {
        let mut planted: Value = serde_json::from_str(&ours).expect("JSON");
        planted[list].as_array_mut().expect("a list").push(entry);
        fs::write(&record, planted.to_string()).expect("a file of ours");
    };
    let climbing = format!("{}-admin-x/../../../../../../api/v1/namespaces/kube-system", scene.deployment);
    let object = |kind: &str, namespace: Value, name: &str| json!({"kind": kind, "namespace": namespace, "name": name});
    for (list, entry) in [
        ("objects", json!({"object": object("Namespace", Value::Null, "kube-system"), "uid": system})),
        (
            "objects",
            json!({"object": object("RoleBinding", json!(scene.job_namespace()), &climbing), "uid": "x"}),
        ),
        (
            "objects",
            json!({"object": object("Secret", json!("../.."), &format!("{}-token", scene.deployment)), "uid": "x"}),
        ),
        (
            "objects",
            json!({"object": object("ClusterRoleBinding", Value::Null, "cluster-admin"), "uid": "x"}),
        ),
        ("intents", object("RoleBinding", json!(scene.job_namespace()), &climbing)),
        ("intents", object("Role", json!("kube-system"), &scene.deployment)),
    ] {
        with(list, entry);
        for command in [scene.setup().arg("--prune"), scene.status(), scene.teardown()] {
            bed.mark();
            let _ = command
                .run()
                .code(3)
                .says("OR0205")
                .says("which is not an object of a deployment of this name");
            assert_eq!(listing(&writes(bed)), "");
        }
    }
    scene.status().fails("OR0205");
    // Somebody's namespace, with its true uid: its name could be ours, but it does not say that it is.
    with(
        "objects",
        json!({"object": object("Namespace", Value::Null, &others), "uid": made["metadata"]["uid"]}),
    );
    scene.setup().arg("--prune").run().code(0).never_says(&format!("- Namespace {others}"));
    assert_same("a setup that prunes", &before, &world(bed.admin()));
    fs::write(&record, &ours).expect("a file of ours");
    scene.teardown().run().code(0);
    assert!(bed.admin().get(&format!("/api/v1/namespaces/{others}")).is_some());
    bed.admin().delete(&format!("/api/v1/namespaces/{others}"));
}

/// Nothing of ours is put where others could replace it.
pub fn place_of_others(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let open = scene.home.path().join("open");
    fs::create_dir(&open).expect("a home of ours");
    mode(&open, 0o777);
    let script = open.join("launch.sh");
    for command in [
        scene.setup().flag("--state-dir", &open),
        scene.setup().flag("--state-dir", open.join("below")),
        scene.setup().flag("--script", &script),
        scene.command("launch-script").arg("--print-commands").flag("--script", &script),
    ] {
        fs::write(&script, "#!/bin/sh\n").expect("a folder of ours");
        let _ = refused(bed, &scene.home, &command, 3).says("OR0204").says("chmod go-w");
        fs::remove_file(&script).expect("it is still there");
        assert_eq!(fs::read_dir(&open).expect("a folder of ours").count(), 0, "nothing is left there");
    }
    scene.setup().flag("--state-dir", &open).fails("OR0204");
    // A sticky one lets nobody replace what is there.
    mode(&open, 0o1777);
    scene.setup().flag("--script", &script).run().code(0);
    mode(&open, 0o777);
    let output = scene.command("launch-script").arg("--print-commands").flag("--script", &script).run();
    let output = output.code(3).says("OR0204");
    assert_eq!(output.stdout(), "", "no command is printed for it");
    mode(&open, 0o1777);
    scene.teardown().run().code(0);
    assert!(!script.exists());
}

/// Who may read a token is the user's business, and worth a word.
pub fn tokens_that_others_read(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let secret = fs::read_to_string(scene.home.runner_token()).expect("it was written");
    let token = scene.home.input("token-of-the-runner", &secret);
    let quiet = |warns: bool| {
        let output = scene.setup().flag("--runner-token-file", &token).arg("--dry-run").run().code(0);
        let found = output.stderr().contains("token-of-the-runner");
        assert_eq!(found, warns, "{output}");
        output
    };
    quiet(false);
    mode(&token, 0o644);
    let _ = quiet(true).says("can be read by other users");
    mode(&token, 0o600);
    quiet(false);
    if rustix::process::geteuid().is_root() {
        chown(&token, Some(NOBODY), None).expect("root may");
        let _ = quiet(true).says("belongs to another user");
    }
    let kubeconfig = scene.home.input("of-all.kubeconfig", &bed.kubeconfig(User::Admin));
    mode(&kubeconfig, 0o666);
    let _ = scene
        .command("create-namespaces")
        .arg("--dry-run")
        .flag("--kubeconfig", &kubeconfig)
        .run()
        .says("can be changed by other users");
}

/// Nobody writes into these: a signal ends the wait, as it ends any other.
pub fn pipes_without_a_writer(bed: &dyn Bed) {
    for (flag, signal, code) in [
        ("--kubeconfig", Signal::TERM, 143),
        ("--config", Signal::INT, 130),
        ("--gitlab-token-file", Signal::TERM, 143),
        ("--gitlab-ca-file", Signal::TERM, 143),
        ("--runner-config", Signal::TERM, 143),
        ("--runner-token-file", Signal::TERM, 143),
    ] {
        let scene = Scene::new(bed, User::Admin);
        let path = fifo(&scene.home, "silent");
        let command = scene.setup().flag(flag, &path);
        let mut running = command.start();
        let started = Instant::now();
        while !running.poll() && !works(running.pid()) {
            assert!(started.elapsed() < SOON, "{flag}: it does not begin");
        }
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, signal);
        let output = running.wait();
        assert!(output.took < SOON, "{flag}: {output}");
        let _ = output.code(code);
    }
}

/// Whether the process has begun to read, which it does on a second thread. That it has a handler for a signal is too
/// early: what comes while tokio installs it is lost.
fn works(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    threads.and_then(|count| count.trim().parse::<u32>().ok()).is_some_and(|count| count > 1)
}

/// As for kubectl, `<(…)` does for a file, and stdin for `-`: read once, however often it is needed.
pub fn inputs_through_pipes(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    let (kubeconfig, settings, token) =
        (fifo(&scene.home, "kubeconfig"), fifo(&scene.home, "settings"), fifo(&scene.home, "token"));
    writer(&kubeconfig, &bed.kubeconfig(User::Admin));
    writer(&settings, "tags: [from-a-pipe]\n");
    let secret = fs::read_to_string(scene.home.runner_token()).expect("it was written");
    writer(&token, &secret);
    let command = scene
        .setup()
        .flag("--kubeconfig", &kubeconfig)
        .flag("--config", &settings)
        .flag("--runner-token-file", &token)
        .arg("--dry-run");
    let _ = command.run().code(0).says("tags from-a-pipe");
    // Settings from stdin count in all of the run.
    let command = scene.setup().args(["--config", "-", "--dry-run"]).stdin("tags: [from-stdin]\n");
    let _ = command.run().code(0).says("tags from-stdin");
    let command = scene.setup().args(["--config", "-"]).flag("--runner-token-file", "-").stdin("tags: [a]\n");
    let _ = refused(bed, &scene.home, &command, 2).says("is stdin, which --config already reads");
    assert_same("dry runs", &before, &world(bed.admin()));
}

/// What no reader gets to the end of in time, and what is no text at all.
pub fn inputs_too_large(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // Far deeper than any settings: the reader has to stop at its bound.
    let deep = "[".repeat(400_000);
    let toml = format!("a = {deep}");
    let device = PathBuf::from("/dev/zero");
    for (flag, path, code) in [
        ("--config", scene.home.input("deep", &deep), 2),
        ("--kubeconfig", scene.home.input("deep.kubeconfig", &deep), 3),
        ("--runner-config", scene.home.input("deep.toml", &toml), 3),
        ("--config", device.clone(), 2),
        ("--kubeconfig", device.clone(), 2),
        ("--runner-token-file", device.clone(), 2),
        ("--gitlab-ca-file", device.clone(), 2),
        ("--config", scene.home.path().to_owned(), 3),
    ] {
        let output = refused(bed, &scene.home, &scene.setup().flag(flag, &path), code);
        assert!(output.took < SOON, "{flag} {}: {output}", path.display());
    }
}
