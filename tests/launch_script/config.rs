//! Our entry in config.toml, and nobody else's.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use outrigger::internal::Secret;
use outrigger::internal::{DEFAULT_APT_URL, DEFAULT_RUNNER_VERSION};
use outrigger::internal::{LaunchScript, ScriptSecrets, secrets_file};

use super::machine::Machine;
use super::sample::{
    BEARER_TOKEN, CA, PREAMBLE, RUNNER_TOKEN, for_machine, runners, sample, shells, text, tokens, with_image,
};

const FILE: &str = "etc/gitlab-runner/config.toml";
const CA_FILE: &str = "etc/gitlab-runner/outrigger-kubernetes-runner-ca.crt";
const DIGEST: &str = "var/lib/outrigger/kubernetes-runner.digest";

/// Whatever a script may do to a file that it must leave alone shows here.
fn stamp(machine: &Machine, path: &str) -> (u64, i64, i64, u32) {
    let meta = fs::metadata(machine.path(path)).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.mode())
}

/// The entry as the runner writes it back after it has replaced its token: other order, no comments, zero
/// values and empty tables of its own.
pub fn rewritten(config: &str) -> String {
    let at = config.find("[[runners]]").unwrap();
    let (above, entry) = config.split_at(at);
    let entry = entry
        .replace(&format!("  token = \"{RUNNER_TOKEN}\"\n"), "")
        .replace(
            "[[runners]]\n",
            "[[runners]]\n  id = 101\n  token = \"glrt-rotated\"\n  token_obtained_at = 2026-11-01T00:00:00Z\n  \
             token_expires_at = 0001-01-01T00:00:00Z\n  builds_dir = \"\"\n",
        )
        .replace("  [runners.kubernetes]\n", "  [runners.cache]\n    MaxUploadedArchiveSize = 0\n    [runners.cache.s3]\n  [runners.kubernetes]\n    cpu_limit = \"\"\n");
    format!("{above}{entry}    [runners.kubernetes.dns_config]\n")
}

#[test]
fn a_fresh_machine_gets_one_entry_and_keeps_it() {
    let (tokens, tags) = (tokens(), ["k8s-runner".to_owned()]);
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let root = machine.root();
            let script = for_machine(&sample(&tags, Some(tokens.both())), shared);
            machine.succeed(shell, &script);
            fresh(&machine, &root, &script);

            // Again, behind Lightsail's preamble: nothing is touched, nothing installed.
            let files = [FILE, CA_FILE, DIGEST];
            let before = files.map(|file| stamp(&machine, file));
            let calls = ["apt-get", "curl"].map(|tool| machine.calls(tool));
            let output = machine.run_text(shell, &format!("{PREAMBLE}{}", text(&script)));
            assert!(output.status.success(), "{output:?}");
            assert_eq!(files.map(|file| stamp(&machine, file)), before);
            assert_eq!(["apt-get", "curl"].map(|tool| machine.calls(tool)), calls);

            // A token that the runner replaced survives the same script.
            let rotated = rewritten(&machine.config());
            machine.write(FILE, &rotated);
            machine.succeed(shell, &script);
            assert_eq!(machine.config(), rotated);

            // Another image, without secrets: the entry is replaced, with the tokens that are there.
            let update = LaunchScript { secrets: None, ..with_image(&script, "debian:13") };
            machine.succeed(shell, &update);
            let entries = runners(&machine.config());
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0]["id"].as_integer(), Some(101));
            assert_eq!(entries[0]["token"].as_str(), Some("glrt-rotated"));
            assert!(entries[0].get("token_obtained_at").is_some() && entries[0].get("cache").is_none());
            assert_eq!(entries[0]["kubernetes"]["image"].as_str(), Some("debian:13"));
            assert_eq!(entries[0]["kubernetes"]["bearer_token"].as_str(), Some(BEARER_TOKEN));

            // A new cluster token with everything else equal is applied.
            let bearer = Secret::new("a-new-bearer");
            let secrets = Some(ScriptSecrets {
                runner_token: &tokens.runner,
                bearer_token: &bearer,
                runner_expires: None,
            });
            machine.succeed(shell, &LaunchScript { secrets, ..with_image(&script, "debian:13") });
            assert_eq!(runners(&machine.config()).len(), 1);
            assert!(machine.config().contains("a-new-bearer") && !machine.config().contains(BEARER_TOKEN));
            assert_eq!(machine.mode(FILE), 0o600);

            // More jobs at once: on a machine that is ours the runner as a whole has to take them.
            let mut more = LaunchScript { secrets: None, ..with_image(&script, "debian:13") };
            more.entry.job_limit = 9;
            machine.succeed(shell, &more);
            let config = machine.config();
            assert!(
                config.starts_with("concurrent = 9\ncheck_interval = 0\n") && config.contains("limit = 9\n")
            );
            assert_eq!(machine.calls("systemctl").matches("restart ").count(), 1);
        }
    }
}

/// What a script leaves on a machine that had nothing.
fn fresh(machine: &Machine, root: &str, script: &LaunchScript<'_>) {
    let config = machine.config();
    let runner = &runners(&config)[0];
    assert_eq!(runners(&config).len(), 1);
    assert!(config.starts_with("concurrent = 4\ncheck_interval = 0\n"));
    assert_eq!(runner["token"].as_str(), Some(RUNNER_TOKEN));
    assert_eq!(runner["executor"].as_str(), Some("kubernetes"));
    assert_eq!(runner["limit"].as_integer(), Some(4));
    let kubernetes = &runner["kubernetes"];
    assert_eq!(kubernetes["bearer_token"].as_str(), Some(BEARER_TOKEN));
    assert_eq!(kubernetes["host"].as_str(), Some("https://203.0.113.12"));
    assert_eq!(kubernetes["service_account"].as_str(), Some("kubernetes-runner-job"));
    assert_eq!(kubernetes["automount_service_account_token"].as_bool(), Some(false));
    assert_eq!(kubernetes["privileged"].as_bool(), Some(false));
    assert_eq!(kubernetes["ca_file"].as_str(), machine.path(CA_FILE).to_str());
    assert_eq!(machine.read(CA_FILE), CA);
    for (path, mode) in [
        ("etc/gitlab-runner", 0o700),
        (FILE, 0o600),
        (CA_FILE, 0o644),
        ("var/lib/outrigger/kubernetes-runner.json", 0o644),
        ("var/log/outrigger-kubernetes-runner.log", 0o600),
        ("etc/apt/keyrings/outrigger-gitlab-runner.asc", 0o644),
        ("etc/apt/sources.list.d/outrigger-gitlab-runner.list", 0o644),
        ("etc/apt/preferences.d/outrigger-gitlab-runner.pref", 0o644),
        ("etc/systemd/system/gitlab-runner.service.d/outrigger.conf", 0o644),
    ] {
        assert_eq!(machine.mode(path), mode, "{path}");
    }
    assert_eq!(
        machine.read("etc/apt/sources.list.d/outrigger-gitlab-runner.list"),
        format!(
            "deb [signed-by={root}/etc/apt/keyrings/outrigger-gitlab-runner.asc] {DEFAULT_APT_URL}/debian bookworm main\n"
        )
    );
    assert_eq!(
        machine.read("etc/apt/preferences.d/outrigger-gitlab-runner.pref"),
        "Package: *\nPin: origin \"packages.gitlab.com\"\nPin-Priority: -1\n\n\
         Package: gitlab-runner gitlab-runner-helper-images\nPin: origin \"packages.gitlab.com\"\nPin-Priority: 990\n"
    );
    let version = DEFAULT_RUNNER_VERSION;
    assert!(
        machine
            .calls("apt-get")
            .contains(&format!("gitlab-runner={version}-1 gitlab-runner-helper-images={version}-1\n"))
    );
    let unit = machine.read("etc/systemd/system/gitlab-runner.service.d/outrigger.conf");
    for line in ["User=outrigger", "NoNewPrivileges=yes", "ProtectSystem=strict", "KillSignal=SIGQUIT"] {
        assert!(unit.lines().any(|one| one == line), "{unit}");
    }
    // What the script works with stays root's: the unit's drop-in is among it.
    let chown = machine.calls("chown");
    let taken = chown.lines().filter(|line| line.contains("outrigger:")).flat_map(|line| line.split(' '));
    let odd: Vec<_> = taken.filter(|word| word.contains(".outrigger.") || *word == "-R").collect();
    assert!(odd.is_empty() && chown.contains("/etc/gitlab-runner"), "{chown}");
    assert!(machine.calls("systemctl").contains("enable --now gitlab-runner\n"));
    assert_eq!(machine.status()["gitlab_runner"].as_str(), Some(version));
    assert_eq!(machine.status()["digest"].as_str(), Some(&*script.digest()));
}

#[test]
fn an_entry_that_was_changed_by_hand_is_shown_and_stays_unless_told_otherwise() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            machine.succeed(shell, &script);
            for (from, to) in [
                ("privileged = false", "privileged = true"),
                ("    host =", "    cpu_limit = \"2\"\n    host ="),
                ("limit = 4", "limit = 40"),
            ] {
                let original = machine.config();
                let edited = original.replacen(from, to, 1);
                assert_ne!(edited, original);
                machine.write(FILE, &edited);
                // With the same digest nothing is touched; another one would overwrite the change.
                machine.succeed(shell, &script);
                assert_eq!(machine.config(), edited);
                let changed = with_image(&script, "debian:13");
                let output = machine.fail(shell, &changed, "config", "somebody changed our entry in ");
                let shown = String::from_utf8_lossy(&output.stdout).into_owned();
                let (key, value) = to.lines().next().unwrap().split_once(" = ").unwrap_or(("limit", "-"));
                let line = format!("{key} = (not shown)\n");
                assert!(shown.contains(&line) && shown.contains("token = (not shown)"), "{shown}");
                assert!(!shown.contains(&format!("= {value}")), "{shown}");
                machine.write(FILE, &original);
            }
            // Any value may be a secret, and so may a line of one that goes over several: only names are shown.
            let original = machine.config();
            let several = "  environment = [\n    \"A=canary-in-a-list\",\n  ]\n  \
                pre_build_script = \"\"\"\nDB_PASS=canary-in-a-script\ncanary-in-base64==\n[canary.in.brackets]\n\"\"\"\n  \
                note = \"user:canary-in-a-url@host\"\n  pre_get_sources_script = '''\ncanary = 1\n'''\n  executor =";
            machine.write(FILE, &original.replacen("  executor =", several, 1));
            let changed = with_image(&script, "debian:13");
            let output = machine.fail(shell, &changed, "config", "somebody changed our entry in ");
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            for name in ["environment", "pre_build_script", "note", "pre_get_sources_script", "executor"] {
                assert!(shown.contains(&format!("  {name} = (not shown)\n")), "{name}: {shown}");
            }
            assert!(!shown.contains("canary") && !shown.contains("DB_PASS"), "{shown}");
            machine.write(FILE, &original);
            machine.write(FILE, &machine.config().replace("limit = 4", "limit = 40"));
            machine.succeed(shell, &LaunchScript { replace_entry: true, ..with_image(&script, "debian:13") });
            assert!(machine.config().contains("limit = 4\n") && machine.config().contains("debian:13"));
        }
    }
}

#[test]
fn each_form_knows_the_entry_that_the_other_wrote() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::new();
        let script = sample(&[], Some(tokens.both()));
        for (shared, image) in [(false, "a"), (true, "b"), (false, "c"), (true, "d")] {
            machine.succeed(shell, &for_machine(&with_image(&script, image), shared));
            assert!(machine.config().contains(&format!("image = \"{image}\"")), "{}", machine.config());
            // As it is, and as the runner writes it back.
            if image < "c" {
                machine.write(FILE, &rewritten(&machine.config()));
            }
        }
        assert_eq!(runners(&machine.config()).len(), 1);
    }
}

#[test]
fn an_entry_that_is_there_without_a_note_of_it_is_ours_if_it_says_the_same() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            machine.succeed(shell, &script);
            // The power went between the two files.
            fs::remove_file(machine.path(DIGEST)).unwrap();
            let config = machine.config();
            machine.fail(
                shell,
                &with_image(&script, "debian:13"),
                "config",
                "somebody changed our entry in ",
            );
            machine.succeed(shell, &script);
            assert_eq!(machine.config(), config);
            machine.succeed(shell, &with_image(&script, "debian:13"));
        }
    }
}

#[test]
fn a_machine_of_its_own_is_one_without_other_runners() {
    let tokens = tokens();
    let shell = shells()[0];
    let script = for_machine(&sample(&[], Some(tokens.both())), false);
    let machine = Machine::with_runner("19.4.1");
    machine.fail(shell, &script, "look", "a GitLab Runner is here (19.4.1, ");
    let machine = Machine::new();
    machine.write(FILE, FOREIGN);
    machine.fail(shell, &script, "look", "use the script of --target ssh");
    // Somebody adds an entry later.
    let machine = Machine::new();
    machine.succeed(shell, &script);
    machine.write(FILE, &format!("{}{AFTER}", machine.config()));
    machine.succeed(shell, &script);
    machine.fail(
        shell,
        &with_image(&script, "b"),
        "config",
        "has entries of others: use the script of --target ssh",
    );
}

/// A config.toml of somebody else's.
pub const FOREIGN: &str = "# mine\nconcurrent = 9 # keep\nlog_level = \"info\"\n\n\
    # first\n[[runners]]\n  name = \"theirs\"\n  url = \"https://other.example.com\"\n  token = \"glrt-foreign\"\n  executor = \"shell\"\n\
    pre_build_script = \"\"\"\n[[runners]]\nname = \"kubernetes-runner\"\nurl = \"https://gitlab.example.com\"\n[runners.kubernetes]\nhost = \"https://203.0.113.12\"\n\"\"\"\n\
    \x20 [runners.cache]\n    Shared = true\n\n";
/// What somebody put below ours.
pub const AFTER: &str = "\n# second, with CRLF\n[[runners]]\r\n  name = \"win\"\r\n  token = 'x'\r\n[session_server]\n  session_timeout = 1800\n";

#[test]
fn foreign_entries_stay_byte_for_byte() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("99.0.0");
        let script = sample(&[], Some(tokens.both()));
        let update = LaunchScript { secrets: None, ..script.clone() };

        // The form without secrets needs an entry of ours.
        machine.write(FILE, FOREIGN);
        machine.fail(shell, &update, "config", "has no entry of kubernetes-runner");

        // Ours goes to the end; nothing else changes on such a machine.
        machine.succeed(shell, &script);
        let config = machine.config();
        let ours = config.strip_prefix(FOREIGN).unwrap().strip_prefix('\n').unwrap().to_owned();
        assert_eq!(runners(&config).len(), 2);
        assert_eq!(machine.calls("apt-get") + &machine.calls("useradd"), "");
        // Nothing becomes anybody else's.
        let chown = machine.calls("chown");
        assert!(chown.lines().all(|line| !line.starts_with("-h") && !line.contains(": ")), "{chown}");
        assert!(!machine.path("etc/systemd").exists());
        let systemctl = machine.calls("systemctl");
        assert!(
            ["start", "enable", "daemon-reload"].iter().all(|word| !systemctl.contains(&format!("{word} ")))
        );

        // Rewritten by the runner, in the middle and doubled: one is replaced in its place.
        for (copies, image) in [(1, "b"), (2, "c")] {
            let entry = rewritten(&machine.config()[FOREIGN.len()..]);
            machine.write(FILE, &format!("{FOREIGN}{}{AFTER}", entry.trim_start().repeat(copies)));
            machine.succeed(shell, &with_image(&script, image));
            let expected = ours.replace("\"alpine:latest\"", &format!("\"{image}\""));
            assert_eq!(machine.config(), format!("{FOREIGN}{expected}{AFTER}"));
            machine.write(FILE, &format!("{FOREIGN}\n{expected}"));
        }

        // An entry of our name for another GitLab, or another cluster, is somebody's.
        let before = machine.config();
        for (from, to) in [("gitlab.example.com", "gitlab.example.org"), ("203.0.113.12", "203.0.113.13")] {
            let theirs = ours.replace(from, to).replace("outrigger-kubernetes-runner-ca", "theirs");
            machine.write(FILE, &format!("{before}{theirs}"));
            machine.fail(shell, &with_image(&script, "d"), "config", "that is not ours");
        }
    }
}

#[test]
fn the_config_is_where_the_unit_says() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("19.4.1");
        let home = machine.path("home/gitlab-runner");
        machine.write("home/gitlab-runner/config.toml", "concurrent = 2\n");
        machine.steer(
            "unit",
            &format!("{{ path=/usr/bin/gitlab-runner ; argv[]=/usr/bin/gitlab-runner run --config {}/config.toml --user x ; pid=1 }}\n", home.display()),
        );
        machine.succeed(shell, &sample(&[], Some(tokens.both())));
        assert!(
            machine.read("home/gitlab-runner/config.toml").starts_with("concurrent = 2\n\n[[runners]]\n")
        );
        assert!(machine.path("home/gitlab-runner/outrigger-kubernetes-runner-ca.crt").exists());
        assert!(!machine.path(FILE).exists());
    }
}

#[test]
fn a_runner_that_is_too_old_is_refused_with_both_versions() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("17.9.0");
        machine.write(FILE, FOREIGN);
        let reason = "gitlab-runner 17.9.0 is here and not ours to replace, this needs 19.4.1";
        machine.fail(shell, &sample(&[], Some(tokens.both())), "look", reason);
    }
}

#[test]
fn a_token_that_ends_is_one_that_the_runner_can_renew() {
    let tokens = tokens();
    let ends = ScriptSecrets { runner_expires: Some("2027-01-02T03:04:05Z"), ..tokens.both() };
    for shell in shells() {
        for shared in [false, true] {
            let times = |machine: &Machine| {
                let entry = runners(&machine.config()).remove(0);
                ["token_obtained_at", "token_expires_at"].map(|key| entry[key].as_datetime().copied())
            };
            let machine = Machine::new();
            let script = for_machine(&sample(&[], Some(ends)), shared);
            machine.succeed(shell, &script);
            let [obtained, expires] = times(&machine);
            assert!(obtained.is_some() && expires == Some("2027-01-02T03:04:05Z".parse().unwrap()));
            // They stay with the token, and by a file of their own they come as well.
            machine.succeed(shell, &LaunchScript { secrets: None, ..with_image(&script, "debian:13") });
            assert_eq!(times(&machine), [obtained, expires]);
            let machine = Machine::new();
            machine.write("secrets", secrets_file::text("kubernetes-runner", in_file(ends)).expose());
            let script = LaunchScript { secrets: None, ..script.clone() };
            let path = machine.path("secrets").display().to_string();
            assert!(machine.run_file(shell, "root/script", &text(&script), &[&path]).status.success());
            assert_eq!(times(&machine)[1], expires);
        }
    }
}

fn in_file(secrets: ScriptSecrets<'_>) -> secrets_file::Tokens<'_> {
    secrets_file::Tokens {
        runner: Some(secrets.runner_token),
        runner_expires: secrets.runner_expires,
        bearer: Some(secrets.bearer_token),
    }
}

#[test]
fn one_token_can_come_alone() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            let update = LaunchScript { secrets: None, ..script.clone() };
            let path = machine.path("secrets").display().to_string();
            let run = |one: secrets_file::Tokens<'_>| {
                machine.write("secrets", secrets_file::text("kubernetes-runner", one).expose());
                machine.run_file(shell, "root/script", &text(&update), &[&path])
            };
            let held = || {
                let entry = runners(&machine.config()).remove(0);
                let word = |value: &toml::Value| value.as_str().unwrap_or_default().to_owned();
                [word(&entry["token"]), word(&entry["kubernetes"]["bearer_token"])]
            };
            // There is nothing yet that the other one could stay in.
            let (new_bearer, new_runner) = (Secret::new("eyJ.NEW.x"), Secret::new("glrt-NEW"));
            let bearer = secrets_file::Tokens { bearer: Some(&new_bearer), ..Default::default() };
            let runner = secrets_file::Tokens { runner: Some(&new_runner), ..Default::default() };
            assert!(!run(bearer).status.success());
            machine.succeed(shell, &script);
            let [before, _] = held();
            assert!(run(bearer).status.success());
            assert_eq!(held(), [before.as_str(), "eyJ.NEW.x"], "{shell:?} {shared}");
            // A second time there is nothing to do.
            let written = machine.config();
            let again = run(bearer);
            let said =
                String::from_utf8_lossy(&again.stdout).into_owned() + &String::from_utf8_lossy(&again.stderr);
            assert!(again.status.success() && said.contains("needs no change"), "{said}");
            assert_eq!(machine.config(), written);
            assert!(run(runner).status.success());
            assert_eq!(held(), ["glrt-NEW", "eyJ.NEW.x"], "{shell:?} {shared}");
        }
    }
}

#[test]
fn tokens_can_come_by_a_file() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let script = for_machine(&sample(&[], None), shared);
            let good = format!(
                "# outrigger-launch-secrets deployment=kubernetes-runner\nrunner_token={}\nbearer_token={}\n",
                tokens.runner.expose(),
                tokens.bearer.expose()
            );
            let path = machine.path("secrets").display().to_string();
            for (content, reason) in [
                (good.replace("=kubernetes-runner", "=other"), "holds no tokens of kubernetes-runner"),
                (good.replace("bearer_token", "x"), "with the other token: give both"),
                (good.replace("_token", "_x"), "holds no token"),
            ] {
                machine.write("secrets", &content);
                let output = machine.run_file(shell, "root/script", &text(&script), &[&path]);
                assert_eq!(output.status.code(), Some(1));
                assert!(machine.reason().contains(reason), "{}", machine.reason());
            }
            machine.write("secrets", &good);
            let output = machine.run_file(shell, "root/script", &text(&script), &[&path]);
            assert!(output.status.success(), "{output:?}");
            let entries = runners(&machine.config());
            assert_eq!(entries[0]["token"].as_str(), Some(RUNNER_TOKEN));
            assert_eq!(entries[0]["kubernetes"]["bearer_token"].as_str(), Some(BEARER_TOKEN));
            assert!(!machine.log().contains(RUNNER_TOKEN) && !machine.log().contains(BEARER_TOKEN));
            // Without the file it goes on with what the machine has.
            machine.succeed(shell, &with_image(&script, "debian:13"));
            assert!(machine.config().contains("debian:13") && machine.config().contains(RUNNER_TOKEN));
        }
    }
}

#[test]
fn copies_that_cloud_init_keeps_are_removed() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::new();
        let script = for_machine(&sample(&[], Some(tokens.both())), false);
        let dir = "var/lib/cloud/instances/i-1";
        for file in ["user-data.txt", "user-data.txt.i", "obj.pkl"] {
            machine.write(&format!("{dir}/{file}"), RUNNER_TOKEN);
        }
        let part = format!("{dir}/scripts/part-001");
        let output = machine.run_file(shell, &part, &text(&script), &[]);
        assert!(output.status.success(), "{output:?}\n{}", machine.log());
        for file in ["user-data.txt", "user-data.txt.i", "scripts/part-001"] {
            assert!(!machine.path(&format!("{dir}/{file}")).exists(), "{file}");
        }
        // cloud-init would take a machine without this for a new one.
        assert!(machine.path(&format!("{dir}/obj.pkl")).exists());
        assert!(machine.log().contains("removed copies of this script"));
        // A script that a person keeps stays.
        let machine = Machine::new();
        machine.succeed(shell, &script);
        assert!(machine.path("root/script").exists());
    }
}
