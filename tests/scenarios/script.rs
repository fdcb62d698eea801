//! The launch script as setup writes it, and when it writes another one.

use std::fs;

use serde_json::{Value, json};

use super::input::refused;
use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::forge::{ca_params, self_signed};
use crate::common::run::Cli;
use crate::common::site::plain;
use crate::common::world::{assert_same, world};

/// The script where it goes by default, as a person reads it.
fn text(scene: &Scene<'_>) -> String {
    plain(&scene.home.script(&scene.deployment))
}

/// One of the script's settings, unless it is empty.
fn setting(text: &str, name: &str) -> Option<String> {
    let begin = format!("{name}=");
    text.lines()
        .map(|line| line.trim_start_matches('\t'))
        .find_map(|line| line.strip_prefix(&begin))
        .filter(|value| value.starts_with('\'') && *value != "''")
        .map(str::to_owned)
}

fn secret_uid(scene: &Scene<'_>) -> Value {
    scene.bed.admin().get(&scene.path("Secret")).expect("the Secret is there")["metadata"]["uid"].clone()
}

pub fn update_form(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let first = text(&scene);
    assert!(setting(&first, "token").is_some() && setting(&first, "bearer").is_some());
    // Something changes, and the runner's token is not at hand: what is on the host stays there.
    let changed = scene.command("setup").flag("--image", "debian:13");
    let output =
        changed.run().code(0).says("no secrets").says("Copy it to the runner's host and run it there");
    let update = text(&scene);
    assert!(update.contains("\n    image = \"debian:13\"\n"), "{output}");
    assert_eq!((setting(&update, "token"), setting(&update, "bearer")), (None, None), "{output}");
    assert!(update.contains("Holds no secret"), "its head says so");
    let _ = changed.run().code(0).says("Nothing to change");
    let _ = scene.status().run().code(0);
    // What the host refuses is asked for with no other change.
    assert!(update.contains("somebody changed our entry"), "{output}");
    let output = changed.clone().arg("--replace-entry").run().code(0).says("no secrets");
    assert!(!text(&scene).contains("somebody changed our entry"), "{output}");
    // With the token at hand it is the whole script again.
    let _ = scene.setup().flag("--image", "debian:12").run().code(0).says("contains two secrets");
    assert!(setting(&text(&scene), "bearer").is_some());
}

pub fn reissues(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let (first, uid) = (text(&scene), secret_uid(&scene));
    // The runner's alone: the cluster's token is what it was.
    let _ = scene.setup().flag("--reissue", "runner").run().code(0);
    let second = text(&scene);
    assert_ne!(setting(&second, "token"), setting(&first, "token"));
    assert_eq!(setting(&second, "bearer"), setting(&first, "bearer"));
    assert_eq!(secret_uid(&scene), uid);
    // Both.
    let _ = scene.setup().flag("--reissue", "all").run().code(0);
    let third = text(&scene);
    assert_ne!(setting(&third, "token"), setting(&second, "token"));
    assert_ne!(setting(&third, "bearer"), setting(&second, "bearer"));
    assert_ne!(secret_uid(&scene), uid);
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.setup().flag("--reissue", "everything").run().code(2).says("runner, cluster, all");
}

pub fn by_itself(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let alone = || {
        scene
            .command("launch-script")
            .flag("--gitlab-url", "https://gitlab.example.com")
            .flag("--runner-token-file", scene.home.runner_token())
    };
    // Nothing is laid for it yet: said before anything is made.
    alone().fails("OR0319");
    let _ = refused(bed, &scene.home, &alone(), 3).says("outrigger setup");
    let _ = scene.command("issue-token").run().code(3).says("OR0319");
    let _ = scene.command("create-namespaces").run().code(0);
    let _ = scene.command("create-role").run().code(0);
    let _ = alone().run().code(0).says("contains two secrets").says("works: has exactly");
    scene.watch_cluster_token();
    assert!(setting(&text(&scene), "bearer").is_some(), "the cluster's token is in it");
    // To stdout and nowhere else; not where it would be seen.
    let file = text(&scene);
    fs::remove_file(scene.home.script(&scene.deployment)).expect("it is there");
    let to_stdout = scene.setup().flag("--script", "-").flag("--image", "debian:13");
    let _ = to_stdout.clone().flag("--output", "json").run().code(2).says("--secrets-to-stdout");
    let _ = to_stdout.clone().env("CI", "true").run().code(2).says("--secrets-to-stdout");
    let output = to_stdout.unsearched_stdout().run().code(0);
    let shown = output.stdout();
    assert!(shown.starts_with("#!/bin/sh\n") && shown.ends_with("eval \"$unpacked\"\n"), "{output}");
    assert_eq!(setting(&shown, "bearer"), setting(&file, "bearer"));
    assert!(!scene.home.script(&scene.deployment).exists());
    let _ = scene.teardown().run().code(0);
}

/// Lightsail takes some 14 kB: what will not fit is known before anything is made.
pub fn too_long(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // GitLab cannot be reached from here, so that nobody knows which of its CAs are needed.
    let bundle: String =
        (0..40).map(|number| self_signed(ca_params(&format!("old CA {number}"))).pem()).collect();
    let setup = scene.setup().flag("--gitlab-ca-file", scene.home.input("long.pem", &bundle));
    setup.fails("OR0711");
    let _ = refused(bed, &scene.home, &setup, 3).says("Lightsail").says("CA bundle");
}

/// What decides is what ends up on the host: the digest of that is noted on the anchor, for machines that
/// have no record, and other versions of outrigger make no difference.
pub fn digest(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let head = text(&scene);
    let digest = head.lines().find_map(|line| line.split_once(" digest=")).expect("a head").1.to_owned();
    let account = bed.admin().get(&scene.path("ServiceAccount")).expect("the anchor is there");
    assert_eq!(account["metadata"]["annotations"]["outrigger.dev/script-digest"], digest);
    for words in [
        "#   cluster ",
        " at https://127.0.0.1:",
        "#   gitlab   https://gitlab.example.com",
        "HOLDS TWO SECRETS",
    ] {
        assert!(head.contains(words), "the head does not say {words}");
    }
    // Another machine, which never wrote a script.
    let colleague = scene.elsewhere(User::Admin);
    bed.mark();
    let _ = colleague.setup().run().code(0).says("Nothing to change");
    assert_eq!(listing(&writes(bed)), "");
}

/// A token that ends: its end is noted, seen coming, and a new one is due when it has come.
pub fn token_that_ends(bed: &dyn Bed) {
    // Requesting is a right of its own: who lacks it is told before anything is made.
    let binder = Scene::new(bed, User::Binder);
    let setup = binder.setup().flag("--token-lifetime", "30d");
    let _ = refused(bed, &binder.home, &setup, 4).says("serviceaccounts/token create");

    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    let setup = || scene.setup().flag("--token-lifetime", "30d");
    let _ = setup().run().code(0).says("token for 30 days").says("Jobs stop at 20");
    assert!(setting(&text(&scene), "bearer").is_some());
    let _ = scene.status().run().code(0).says("known to its host alone").says("Jobs stop at 20");
    // A machine without the record has it from the anchor.
    let _ = scene.elsewhere(User::Admin).status().run().code(0).says("Jobs stop at 20");

    // The runner's token alone cannot be put into a script: the cluster's is not at hand.
    let _ = setup().flag("--reissue", "runner").run().code(2).says("--reissue all");
    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    let mut known: Value = serde_json::from_slice(&fs::read(&record).expect("a record")).expect("JSON");
    known["token_expires"] = json!("2020-01-02T03:04:05Z");
    fs::write(&record, known.to_string()).expect("the record is ours");
    let uid = secret_uid(&scene);
    let _ = scene.status().run().code(10).says("the old one expired at 2020-01-02T03:04:05Z");
    let _ = setup().run().code(0).says("contains two secrets").never_says("Jobs stop at 2020");
    assert_ne!(secret_uid(&scene), uid);
    // And back to one that does not end: nothing is said of an end any more.
    let _ = scene.teardown().run().code(0).says("revocation not verified");
    let _ = scene.setup().run().code(0).never_says("Jobs stop");
    let _ = scene.teardown().run().code(0);
    assert_same("setups and teardowns", &before, &world(bed.admin()));
}

/// How gitlab-runner is installed, and what is added to its entry, as the script has them.
pub fn installation(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // A binary is trusted for its hash alone.
    let binary = scene.setup().flag("--install-method", "binary");
    let _ = refused(bed, &scene.home, &binary, 2).says("19.4.1").says("--binary-sha256 HEX");
    let bad = scene.setup().flag("--binary-sha256", "abc");
    let _ = refused(bed, &scene.home, &bad, 2).says("--binary-sha256").says("64 hex digits");
    let bad = scene.setup().flag("--job-limit", "0");
    let _ = refused(bed, &scene.home, &bad, 2).says("--job-limit").says("1 to 1000");

    let plan = |command: Cli<'_>| refused(bed, &scene.home, &command.arg("--dry-run"), 0);
    let _ = plan(scene.setup()).says("by apt from a signed repository").says("SHA-256 is not known");
    let sha256 = "0123456789abcdef".repeat(4);
    let _ = plan(scene.setup().flag("--deb-sha256", &*sha256)).says("its SHA-256 is verified");
    let _ = plan(
        binary
            .clone()
            .flag("--binary-sha256", &*sha256)
            .flag("--binary-url", "https://mirror.example.com/gr"),
    )
    .says("installs the gitlab-runner binary")
    .says("--binary-url https://mirror.example.com/gr");

    let config = scene.home.input(
        "runner.toml",
        "[[runners]]\n[runners.kubernetes]\ncpu_limit = \"2\"\n[runners.kubernetes.node_selector]\n\"disk\" = \"ssd\"\n",
    );
    let setup = scene
        .setup()
        .flag("--install-method", "apt-slim")
        .flag("--job-limit", "7")
        .flag("--pull-policy", "always")
        .flag("--runner-config", config);
    let _ = setup.run().code(0);
    let script = text(&scene);
    for line in ["limit = 7", "cpu_limit = \"2\"", "pull_policy = \"always\"", "disk = \"ssd\""] {
        assert!(script.lines().any(|one| one.trim_start() == line), "{line}\n{script}");
    }
    assert!(script.contains("concurrent = 7") && script.contains("by apt-slim"), "{script}");
    let _ = setup.run().code(0).says("Nothing to change");
    // They are remembered; another value is a difference.
    let _ = scene.status().run().code(0);
    let _ = scene.command("setup").flag("--job-limit", "8").run().code(0).says("no secrets");
}

/// The settings of gitlab-runner as a whole: in the plan, in the script, remembered, and drift when they change.
pub fn whole_runner(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    for (flag, bad, why) in [
        ("--concurrent", "10001", "0 to 10000"),
        ("--check-interval", "2h", "longer than 1h"),
        ("--log-level", "loud", "panic, fatal, error, warning, info, debug"),
        ("--listen-address", "127.0.0.1", "127.0.0.1:9252"),
    ] {
        let _ = refused(bed, &scene.home, &scene.setup().flag(flag, bad), 2).says(flag).says(why);
    }
    let setup = scene
        .setup()
        .flag("--concurrent", "2")
        .flag("--check-interval", "10s")
        .flag("--log-level", "warning")
        .flag("--listen-address", "127.0.0.1:9252");
    let _ = refused(bed, &scene.home, &setup.clone().arg("--dry-run"), 0)
        .says("for the whole gitlab-runner: concurrent = 2, check_interval = 10, log_level = \"warning\"")
        .says("listen_address 127.0.0.1:9252")
        .says("it has no authentication")
        .says("at most 2 jobs at once, although --job-limit is 4");
    let host = setup.clone().flag("--target", "ssh").arg("--dry-run");
    let _ = refused(bed, &scene.home, &host, 0).says("unless the host has another gitlab-runner already");
    let _ = setup.run().code(0);
    let script = text(&scene);
    for words in ["concurrent = 2\ncheck_interval = 10\n", " --listen-address 127.0.0.1:9252 "] {
        assert!(script.contains(words), "{words}\n{script}");
    }
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.status().run().code(0);
    let _ = scene.command("setup").flag("--listen-address", "off").run().code(0).says("no secrets");
    assert!(!text(&scene).contains("--listen-address"));
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.teardown().run().code(0);
}

/// Credentials come by file, are in no output, and the proxy of this machine is not that of the runner's.
pub fn cache_and_proxy(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let bad = scene.setup().flag("--runner-https-proxy", "http://me:canary-in-a-url@proxy:3128");
    let _ = refused(bed, &scene.home, &bad, 2)
        .says("--runner-proxy-credentials-file")
        .never_says("canary-in-a-url");
    let alone = scene.setup().flag("--runner-no-proxy", "10.0.0.0/8");
    let _ = refused(bed, &scene.home, &alone, 2).says("--runner-no-proxy is given without a proxy");
    let bucket = scene.setup().flag("--cache-bucket", "b");
    let _ =
        refused(bed, &scene.home, &bucket, 2).says("--cache-bucket cannot be used with --cache-type none");
    let lacks = scene.setup().flag("--cache-type", "azure");
    let _ = refused(bed, &scene.home, &lacks, 2).says("--cache-bucket NAME").says("--cache-account NAME");
    let cloud = scene.setup().flag("--cache-type", "s3").flag("--cache-bucket", "ours");
    let locked = cloud.clone().arg("--lock-metadata");
    let _ = refused(bed, &scene.home, &locked, 3).says("--lock-metadata would block the cache");
    let plan = cloud.clone().arg("--dry-run");
    let _ = refused(bed, &scene.home, &plan, 0).says("the jobs' cache: s3 ours, with the VM's identity");

    let keys =
        scene.home.input("keys", "aws_access_key_id = AKIACANARY\naws_secret_access_key = canary-key\n");
    let keys_file = keys.clone();
    let password = scene.home.input("password", "me:canary-password\n");
    let setup = cloud
        .flag("--cache-region", "eu-central-1")
        .flag("--cache-credentials-file", keys)
        .flag("--runner-https-proxy", "http://proxy.example.com:3128")
        .flag("--runner-no-proxy", "10.0.0.0/8,.corp.example")
        .flag("--runner-proxy-credentials-file", password);
    let output = setup.run().code(0).never_says("canary");
    let _ = output.says("its password is in the script").says("credentials of --cache-credentials-file");
    let script = text(&scene);
    for words in [
        "SecretKey = \"canary-key\"",
        "BucketLocation = \"eu-central-1\"",
        "http://me:canary-password@proxy.example.com:3128",
        "10.0.0.0/8,.corp.example",
    ] {
        assert!(script.contains(words), "{words}\n{script}");
    }
    let _ = scene.command("setup").run().code(0).says("Nothing to change").never_says("canary");
    // Another key in the same file is seen, and the script for the host has it; what others can read does not change.
    let account = || bed.admin().get(&scene.path("ServiceAccount")).expect("the anchor is there");
    let digest = account()["metadata"]["annotations"]["outrigger.dev/script-digest"].clone();
    assert!(digest.is_string(), "{digest}");
    let other = "aws_access_key_id = AKIACANARY\naws_secret_access_key = canary-other\n";
    fs::write(&keys_file, other).expect("it is written");
    let changed = "a file with its credentials has changed";
    let _ = scene.status().run().code(10).says(changed).never_says("canary");
    let _ = scene.command("setup").run().code(0).says(changed).never_says("canary");
    assert!(text(&scene).contains("SecretKey = \"canary-other\""));
    assert_eq!(account()["metadata"]["annotations"]["outrigger.dev/script-digest"], digest);
    let _ = scene.command("setup").run().code(0).says("Nothing to change").never_says("canary");
    let account = account();
    assert!(!account.to_string().contains("canary") && !account.to_string().contains("proxy.example"));
    let off = scene.command("setup").flag("--runner-https-proxy", "none").flag("--cache-type", "none");
    let _ = off.run().code(0).says("no secrets");
    let script = text(&scene);
    assert!(!script.contains("canary") && !script.contains("proxy.example"), "{script}");
    let _ = scene.teardown().run().code(0);
}

/// What `--runner-config` adds may be secret: nothing that others can read depends on it. Another value is seen by the
/// time of the file, and the names and quantities beside it by the digest.
pub fn runner_config_secrets(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let text_of = |password: &str, limit: &str| {
        format!(
            "[[runners]]\nenvironment = [\"DB_PASSWORD={password}\"]\n[runners.kubernetes]\ncpu_limit = \"{limit}\"\n"
        )
    };
    let config = scene.home.input("runner.toml", &text_of("canary-one", "1"));
    let output = scene.setup().flag("--runner-config", &config).run().code(0).never_says("canary");
    let _ = output.says("contains two secrets and credentials");
    let anchor = || bed.admin().get(&scene.path("ServiceAccount")).expect("the anchor is there");
    let digest = || anchor()["metadata"]["annotations"]["outrigger.dev/script-digest"].clone();
    let first = digest();
    assert!(first.is_string(), "{first}");
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    fs::write(&config, text_of("canary-two", "1")).expect("it is written");
    let changed = "a file with its credentials has changed";
    let _ = scene.status().run().code(10).says(changed).never_says("canary");
    let _ = scene.command("setup").run().code(0).says(changed).never_says("canary");
    assert!(text(&scene).contains("DB_PASSWORD=canary-two"));
    assert_eq!(digest(), first, "a guess of the password could be compared with it");
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    fs::write(&config, text_of("canary-two", "2")).expect("it is written");
    let _ = scene.command("setup").run().code(0).says("its inputs have changed");
    assert_ne!(digest(), first);
    let _ = scene.teardown().run().code(0);
}

/// Where gitlab-runner comes from is kept on this machine, shown with its source, and told to nobody else.
pub fn installer_is_kept(bed: &dyn Bed) {
    const MIRROR: &str = "mirror.example.com";
    let apt = format!("https://{MIRROR}/gitlab-runner");
    let key = format!("https://{MIRROR}/gpg.key");
    let given: &[(&str, &str)] = &[
        ("--apt-url", &apt),
        ("--key-url", &key),
        ("--key-fingerprint", "0123456789ABCDEF0123456789ABCDEF01234567"),
    ];
    let with = |command: Cli<'_>, flags: &[(&str, &str)]| {
        flags.iter().fold(command, |command, (flag, value)| command.flag(flag, *value)).run()
    };
    let scene = Scene::new(bed, User::Admin);
    let _ = with(scene.setup(), given).code(0);
    assert!(text(&scene).contains(&apt) && text(&scene).contains(&key));
    let _ = scene.status().run().code(0);
    bed.mark();
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    assert_eq!(listing(&writes(bed)), "");
    let shown = scene.command("setup").args(["--image", "debian:13", "--dry-run"]).run().code(0);
    let _ = shown.says(&format!("--apt-url {apt} (recorded)")).says(&format!("--key-url {key} (recorded)"));
    let _ = scene.command("setup").flag("--image", "debian:13").run().code(0);
    assert!(text(&scene).contains(&apt), "an update comes from there, too");

    // Whoever can write to the cluster does not tell where programs come from.
    let account = bed.admin().get(&scene.path("ServiceAccount")).expect("the anchor is there");
    assert!(!account.to_string().contains(MIRROR), "{account}");
    let _ = scene.elsewhere(User::Admin).status().run().never_says(MIRROR);

    // GitLab's own is what is not recorded: a newer version of outrigger knows better where that is.
    let own: &[(&str, &str)] = &[
        ("--apt-url", "https://packages.gitlab.com/runner/gitlab-runner"),
        ("--key-url", "https://packages.gitlab.com/gpgkey/gpg.key"),
        ("--key-fingerprint", "F6403F6544A38863DAA0B6E03F01618A51312F3F"),
    ];
    let _ = with(scene.command("setup"), own).code(0);
    let record = fs::read_to_string(scene.home.state().join(format!("{}.json", scene.deployment)));
    let record = record.expect("the record");
    assert!(!record.contains("aptUrl") && !record.contains("keyFingerprint"), "{record}");
    let _ = scene.status().run().code(0);
    let _ = scene.teardown().run().code(0);

    // The binary's place is one of them.
    let scene = Scene::new(bed, User::Admin);
    let sha256 = "0123456789abcdef".repeat(4);
    let url = format!("https://{MIRROR}/gitlab-runner-linux-amd64");
    let binary: &[(&str, &str)] =
        &[("--install-method", "binary"), ("--binary-url", &url), ("--binary-sha256", &sha256)];
    let _ = with(scene.setup(), binary).code(0);
    let _ = scene.status().run().code(0);
    let _ = scene.command("setup").run().code(0).says("Nothing to change");
    let _ = scene.teardown().run().code(0);
}

/// What a user may not put into the runner's entry.
pub fn foreign_keys(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let with = |text: &str| scene.setup().flag("--runner-config", scene.home.input("runner.toml", text));
    for (text, why) in [
        ("[[runners]]\ntoken = \"x\"\n", "runners.token is set by outrigger"),
        ("[[runners]]\n[[runners]]\n", "it must have exactly one [[runners]]"),
        ("concurrent = 3\n[[runners]]\n", "unknown key \"concurrent\" outside [[runners]]"),
        ("[[runners\n", "it is not TOML"),
    ] {
        let _ = refused(bed, &scene.home, &with(text), 3).says("OR0712").says(why);
    }
    with("[[runners]]\ntoken = \"x\"\n").fails("OR0712");
    let gone = scene.setup().flag("--runner-config", "/nowhere/runner.toml");
    let _ = refused(bed, &scene.home, &gone, 2).says("/nowhere/runner.toml").says("does not exist");
    // As gitlab-runner reads it: in whatever case.
    for text in [
        "[[runners]]\nExecutor = \"shell\"\n",
        "[[runners]]\n[runners.Kubernetes]\nHost = \"https://elsewhere.example.com\"\n",
        "[[runners]]\n[runners.Kubernetes]\nBearer_Token_Overwrite_Allowed = true\n",
        "[[runners]]\n[runners.kubernetes]\nService_Account_Overwrite_Allowed = \".*\"\n",
    ] {
        let _ = refused(bed, &scene.home, &with(text), 3).says("OR0712").says("is set by outrigger");
    }
    // What the job namespace would refuse of every job.
    let privileged = "[[runners]]\n[runners.kubernetes]\nprivileged = true\n";
    let host = "[[runners]]\n[[runners.kubernetes.volumes.Host_Path]]\nname = \"host\"\nmount_path = \"/host\"\nhost_path = \"/\"\n";
    for text in [privileged, host] {
        let _ = refused(bed, &scene.home, &with(text), 3).says("Pod Security baseline forbids");
        let _ = with(text).args(["--pod-security", "privileged", "--dry-run"]).run().code(0);
    }
    // What is added is named before it is written, and no value of it.
    let more = "[[runners]]\nenvironment = [\"PASSWORD=canary-value\"]\n[runners.kubernetes.node_selector]\ndisk = \"ssd\"\n";
    let output = with(more).arg("--dry-run").run().code(0);
    let _ = output
        .says("--runner-config adds runners.environment, runners.kubernetes.node_selector.disk")
        .never_says("canary-value");
    // Restricted settles more.
    let setup = with(privileged).flag("--pod-security", "restricted");
    let _ = refused(bed, &scene.home, &setup, 3).says("runners.kubernetes.privileged");
}
