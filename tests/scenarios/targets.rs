//! Where the launch script goes: what the plan says of each target, what is refused, and a script whose
//! secrets travel in a file of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger::internal::commands::TARGETS as WITH_COMMANDS;
use outrigger::internal::target::TARGETS;

use super::input::refused;
use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::tiers_required;

/// The script where it goes by default, and the file with its secrets.
fn both(scene: &Scene<'_>) -> (PathBuf, PathBuf) {
    let script = scene.home.script(&scene.deployment);
    (script.clone(), script.with_file_name("launch.sh.secrets"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// Whether one of its settings stands in the script and says something.
fn holds(script: &str, name: &str) -> bool {
    let begin = format!("{name}=");
    script
        .lines()
        .map(|line| line.trim_start_matches('\t'))
        .any(|line| line.strip_prefix(&begin).is_some_and(|value| value.starts_with('\'') && value != "''"))
}

pub fn plans(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    for target in TARGETS {
        let setup = scene.setup().flag("--target", target.name).arg("--dry-run");
        let output = refused(bed, &scene.home, &setup, 0);
        let secrets = if target.is_host() {
            "launch.sh.secrets next to it contains both"
        } else {
            "contains two secrets"
        };
        let _ = output
            .says(&format!("for {} (--target {}): runs {}", target.title, target.name, target.runs()))
            .says(&format!("can be read by {}", target.readers))
            .says(secrets);
    }
}

/// They are printed from what is known on this machine, by asking nobody.
pub fn printed_commands(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let _ = scene.set_up().says("outrigger launch-script --print-commands");
    let (script, _) = both(&scene);
    let before = read(&script);
    let commands =
        |target: &str| scene.command("launch-script").arg("--print-commands").flag("--target", target);
    bed.mark();
    for target in TARGETS {
        if !WITH_COMMANDS.contains(&target.name) {
            let none = format!("no commands for --target {}", target.name);
            let _ = commands(target.name).run().code(2).says("OR0202").says(&none).says("docs/targets.md");
            continue;
        }
        let output = commands(target.name).run().code(0);
        let text = output.stdout();
        assert!(text.contains(&script.display().to_string()), "{output}");
        assert!(text.contains(target.title) && text.contains(target.readers), "{output}");
        lint(scene.home.path(), &text);
        let said = format!("written for lightsail; to write it for {}", target.name);
        let _ = if target.name == "lightsail" { output.never_says("Warning") } else { output.says(&said) };
    }
    // The one that was recorded, unless told otherwise.
    let output = scene.command("launch-script").arg("--print-commands").run().code(0);
    for said in [
        "aws lightsail create-instances",
        "--user-data file:///",
        "put-instance-public-ports",
        "update-instance-metadata-options",
        "--http-endpoint disabled",
    ] {
        assert!(output.stdout().contains(said), "{said}\n{output}");
    }
    assert_eq!(output.stderr().trim(), "", "nothing to say beside them");
    assert!(bed.requests().is_empty(), "{}", listing(&bed.requests()));
    assert_eq!(read(&script), before);
    // A file that is gone is said beside the commands, as one that is somebody else's.
    fs::remove_file(&script).expect("setup wrote it");
    let _ = commands("ssh").run().code(0).says("launch.sh does not exist").says("scp -p");
    fs::write(&script, "#!/bin/sh\n").expect("a folder of ours");
    let _ = commands("ssh").run().code(0).says("is not this deployment's script");
    let elsewhere = commands("cloud-config").flag("--script", "/mnt/it's here/run.sh");
    let _ = elsewhere.run().code(0).says(r"--config-file '/mnt/it'\''s here/run.sh'");
    let _ = commands("ssh").flag("--script", "-").run().code(2).says("--script FILE");
}

/// The way back is printed from what is known on this machine, by asking nobody.
pub fn uninstall(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let uninstall = || scene.command("launch-script").arg("--uninstall");
    let _ = refused(bed, &scene.home, &uninstall(), 2).says("OR0201").says("--gitlab-url URL");
    let two = uninstall().arg("--print-commands");
    let _ = refused(bed, &scene.home, &two, 2).says("OR0202").says("cannot be used with --print-commands");
    // Without a record it is told; nothing of the cluster is known then.
    let told = uninstall().flag("--gitlab-url", "https://gitlab.example.com");
    let output = refused(bed, &scene.home, &told, 0);
    assert!(output.stdout().contains("\tt_host=unknown"), "{output}");
    scene.set_up();
    let script = read(&both(&scene).0);
    bed.mark();
    let output = uninstall().run().code(0);
    assert_eq!(output.stderr().trim(), "", "nothing to say beside it");
    assert!(bed.requests().is_empty(), "{}", listing(&bed.requests()));
    let text = output.stdout();
    lint(scene.home.path(), &text);
    assert!(text.starts_with("#!/bin/sh\n") && text.ends_with("\nmain\n"), "{text}");
    // It looks for what the launch script writes.
    for (name, toml) in [("name", "  name = "), ("url", "  url = "), ("t_host", "    host = ")] {
        let said = script.lines().find_map(|line| line.strip_prefix(toml)).expect("it stands in the entry");
        assert!(text.contains(&format!("\t{name}='{said}'")), "{said}\n{text}");
    }
    // Teardown says what it cannot reach, and how to go there: before the record is gone.
    let machine = "the VM stays, because outrigger did not create it: delete it (Amazon Lightsail)";
    let command =
        "outrigger launch-script --uninstall --gitlab-url https://gitlab.example.com --kubernetes-host";
    let _ = scene.teardown().arg("--dry-run").run().code(0).says(machine).says(command);
    let elsewhere = scene.elsewhere(User::Admin);
    let _ = elsewhere.teardown().arg("--dry-run").run().code(0).says(machine);
    let _ = scene.setup().flag("--target", "ssh").run().code(0);
    let _ = scene.teardown().run().code(0).says("the launch script's changes on the host stay").says(command);
    let _ = scene.teardown().arg("--ignore-not-found").run().code(0).never_says("--uninstall");
}

/// What is printed is a shell script without a fault.
fn lint(folder: &Path, text: &str) {
    let path = folder.join("in/commands.sh");
    fs::write(&path, text).expect("a folder of ours");
    let parsed = Command::new("sh").arg("-n").arg(&path).status().expect("there is a shell");
    assert!(parsed.success(), "{text}");
    match Command::new("shellcheck").args(["-s", "dash", "--severity=style"]).arg(&path).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => assert!(!tiers_required(), "shellcheck: {error}"),
    }
}

pub fn impossible(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let setup = |words: &[&str]| scene.setup().args(words.iter().copied());
    let cases: &[(&[&str], &str, &str)] = &[
        (&["--target", "mars"], "\"mars\" is not one of lightsail, ec2", ""),
        (&["--secrets", "none"], "\"none\" is not one of inline, separate", ""),
        (&["--target", "ssh", "--lock-metadata"], "--target ssh", "omit --lock-metadata"),
        (&["--target", "azure", "--lock-metadata"], "does not have the custom data", "omit --lock-metadata"),
        (&["--target", "gce", "--lock-metadata"], "SSH keys", "omit --lock-metadata"),
        (&["--target", "nocloud", "--lock-metadata"], "not a metadata service", "omit --lock-metadata"),
        (&["--secrets", "separate"], "--target lightsail", "--target ssh"),
        (
            &["--target", "cloud-config", "--secrets", "separate"],
            "before the secrets file can be copied",
            "--secrets inline",
        ),
        (&["--target", "ssh", "--script", "-"], "requires a script file", "--script FILE"),
    ];
    for (words, why, way) in cases {
        let _ = refused(bed, &scene.home, &setup(words), 2).says("OR0202").says(why).says(way);
    }
    // The commands are refused alike.
    let commands = scene.command("launch-script").arg("--print-commands").flag("--secrets", "separate");
    let _ = refused(bed, &scene.home, &commands, 2).says("--target ssh");
    // Somebody else's file where the secrets would go.
    let (script, secrets) = both(&scene);
    fs::create_dir_all(script.parent().expect("a folder")).expect("a home of ours");
    fs::write(&secrets, "theirs").expect("a folder of ours");
    let _ =
        refused(bed, &scene.home, &setup(&["--target", "ssh"]), 7).says("OR0702").says("launch.sh.secrets");
    fs::remove_file(&secrets).expect("it is there");
    std::os::unix::fs::symlink("/nonexistent/target", &secrets).expect("a folder of ours");
    let _ = refused(bed, &scene.home, &setup(&["--target", "ssh"]), 7).says("it is a symbolic link");
    assert!(secrets.is_symlink());
}

pub fn separate(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let token = scene.home.runner_token();
    let setup = || scene.setup().flag("--runner-token-file", &token).flag("--target", "ssh");
    let output = setup().run().code(0);
    scene.watch_cluster_token();
    let (script, secrets) = both(&scene);
    let (script_text, secrets_text) = (read(&script), read(&secrets));
    assert_eq!((mode(&script), mode(&secrets)), (0o600, 0o600));
    let output = output
        .says("wrote launch.sh")
        .says("and launch.sh.secrets, readable by you only")
        .says(&format!("scp -p {} {} USER@HOST:", script.display(), secrets.display()))
        .says("ssh -t USER@HOST 'sudo sh ./launch.sh ./launch.sh.secrets && rm -f");
    assert!(!holds(&script_text, "token") && !holds(&script_text, "bearer"), "{output}");
    let given = read(&token);
    assert!(!script_text.contains(given.trim()));
    let lines: Vec<&str> = secrets_text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], format!("# outrigger-launch-secrets deployment={}", scene.deployment));
    assert_eq!(lines[1].strip_prefix("runner_token="), Some(given.trim()));
    assert!(lines[2].starts_with("bearer_token=ey") && lines[2].matches('.').count() == 2, "a JWT");

    // It is recorded, and what is there is what was asked for.
    bed.mark();
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.elsewhere(User::Admin).setup().run().code(0).says("Nothing to change");
    assert_eq!(listing(&writes(bed)), "");
    let _ = scene.status().run().code(0);
    // The files are gone after use: that is no difference either.
    fs::remove_file(&secrets).expect("it is there");
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let commands = scene.command("launch-script").arg("--print-commands");
    let _ = commands.run().code(0).says("launch.sh.secrets does not exist").says("scp -p");

    // An update for the host takes no secrets along, and names no file of them.
    let update = scene.command("setup").flag("--image", "debian:13").run().code(0);
    let _ = update.says("keeps the tokens on the host").says("'sudo sh ./launch.sh && rm -f ./launch.sh'");
    assert!(!secrets.exists());
    // With both tokens at hand they are written again; the secrets stay out of the script on the way back.
    let _ = setup().flag("--image", "debian:12").run().code(0).says("and launch.sh.secrets");
    assert!(secrets.exists() && !holds(&read(&script), "bearer"));

    let output = scene.teardown().run().code(0);
    assert!(!script.exists() && !secrets.exists(), "{output}");
    let _ = output.says("launch.sh.secrets").says("Removed ");
    assert!(!script.parent().expect("a folder").exists(), "an empty folder does not stay");
}

/// Teardown takes the secrets along wherever the script has gone, and nothing of others.
pub fn left_over(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let place = scene.home.path().join("elsewhere");
    let script = place.join("run.sh");
    let secrets = place.join("run.sh.secrets");
    let setup = scene.setup().flag("--target", "ssh").flag("--script", &script);
    let _ = setup.run().code(0);
    scene.watch_cluster_token();
    fs::remove_file(&script).expect("setup wrote it");
    let _ =
        scene.teardown().arg("--dry-run").run().code(0).says("run.sh (already gone)").says("run.sh.secrets");
    let ours = read(&secrets);
    fs::write(&secrets, format!("# mine\n{ours}")).expect("a folder of ours");
    let _ = scene.teardown().arg("--dry-run").run().code(0).says("it is not this deployment's");
    fs::write(&secrets, ours).expect("a folder of ours");
    let _ = scene.teardown().run().code(0);
    assert!(!secrets.exists() && place.exists(), "the folder is the user's");
}

/// Another target, or secrets elsewhere, is another script, which takes both tokens.
pub fn moved(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let (script, secrets) = both(&scene);
    let first = read(&script);
    let to = |target: &str| scene.command("setup").flag("--target", target);
    let _ = to("ssh").run().code(2).says("OR0201").says("for another target").says("--runner-token-file");
    let _ = scene.elsewhere(User::Admin).command("setup").flag("--target", "ssh").run().code(2);
    assert_eq!(read(&script), first, "nothing was written");
    let _ = scene.setup().flag("--target", "ssh").run().code(0).says("launch.sh.secrets");
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.setup().flag("--secrets", "inline").run().code(0).says("contains two secrets");
    assert!(holds(&read(&script), "bearer"));
    assert!(secrets.exists(), "what it was written to before stays until teardown");
    // What was recorded for SSH does not keep the next place from its own way.
    let _ = scene.setup().flag("--secrets", "separate").run().code(0);
    let _ = scene.setup().flag("--target", "lightsail").run().code(0).says("contains two secrets");

    // Locking is a difference on the machine; it is left aside where there is nothing to lock.
    let _ = scene
        .setup()
        .arg("--lock-metadata")
        .run()
        .code(0)
        .says("blocks the VM's access to its metadata service");
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.elsewhere(User::Admin).setup().run().code(0).says("Nothing to change");
    let azure = scene.setup().flag("--target", "azure").run().code(0);
    let _ = azure.never_says("closes the VM's way");
    let _ = scene.teardown().run().code(0);
    assert!(!script.exists() && !secrets.exists());
}

pub fn document(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let setup = || scene.setup().flag("--target", "cloud-config");
    let _ = setup().run().code(0).says("as its user data");
    scene.watch_cluster_token();
    let (script, _) = both(&scene);
    let text = read(&script);
    assert_eq!(mode(&script), 0o600);
    let parsed: serde_yaml::Value = serde_yaml::from_str(&text).expect("a document");
    let content = parsed["write_files"][0]["content"].as_str().expect("the script");
    let inner = String::from_utf8(STANDARD.decode(content).expect("base64")).expect("text");
    assert!(text.starts_with("#cloud-config\n") && inner.starts_with("#!/bin/sh\n"));
    assert!(holds(&inner, "bearer") && inner.ends_with("main \"$@\"\n"));
    // It is ours although it is no script; an update for the host that is up is one again.
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene
        .command("setup")
        .flag("--image", "debian:13")
        .run()
        .code(0)
        .says("Copy it to the runner's host");
    assert!(read(&script).starts_with("#!/bin/sh\n"));
    let _ = setup().flag("--image", "debian:12").run().code(0);
    assert!(read(&script).starts_with("#cloud-config\n"));
    let _ = scene.teardown().run().code(0);
    assert!(!script.exists());
}
