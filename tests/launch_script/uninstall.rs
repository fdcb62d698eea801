//! The way back: what the launch script brought goes, and nothing else.

use std::fs;
use std::path::Path;

use outrigger::internal::Uninstall;
use outrigger::internal::{LaunchScript, Method};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::config::{AFTER, FOREIGN, rewritten};
use super::hostile::hostile;
use super::machine::Machine;
use super::sample::{by, for_machine, runners, sample, shells, tokens};
use super::words::lint;

const FILE: &str = "etc/gitlab-runner/config.toml";
const CA_FILE: &str = "etc/gitlab-runner/outrigger-kubernetes-runner-ca.crt";
const INSTALLED: &str = "var/lib/outrigger/kubernetes-runner.installed";

/// The way back of a launch script.
fn undo<'a>(script: &LaunchScript<'a>) -> Uninstall<'a> {
    Uninstall {
        deployment: script.deployment,
        outrigger_version: script.outrigger_version,
        name: script.entry.name,
        url: script.entry.url,
        host: Some(script.entry.host),
    }
}

fn text(undo: &Uninstall<'_>) -> String {
    undo.render().unwrap()
}

/// Runs it; returns what it says.
fn run(machine: &Machine, shell: &[&str], undo: &Uninstall<'_>) -> (Option<i32>, String) {
    let output = machine.run_file(shell, "root/undo", &text(undo), &[]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn succeed(machine: &Machine, shell: &[&str], undo: &Uninstall<'_>, says: &str) {
    let (code, said) = run(machine, shell, undo);
    let log = fs::read_to_string(machine.path("var/log/outrigger-kubernetes-runner.log")).unwrap_or_default();
    assert_eq!(code, Some(0), "{shell:?}: {said}\n{log}");
    assert!(said.contains(says), "{said}");
    assert!(log.is_empty(), "the log goes with the rest");
}

fn fail(machine: &Machine, shell: &[&str], undo: &Uninstall<'_>, step: &str, reason: &str) {
    let (code, said) = run(machine, shell, undo);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("FAILED in step {step}")), "{said}");
    assert_eq!(machine.status()["step"].as_str(), Some(step));
    assert!(machine.reason().contains(reason), "{}", machine.reason());
}

/// Every file and folder of the machine, with the files' bytes.
fn disk(machine: &Machine) -> Vec<(String, Option<Vec<u8>>)> {
    fn below(folder: &Path, found: &mut Vec<(String, Option<Vec<u8>>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.display().to_string(), fs::read(&path).ok()));
            if path.is_dir() {
                below(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    below(&machine.path(""), &mut found);
    // The scripts themselves, and folders that any Debian has or that nobody misses.
    found.retain(|(path, bytes)| {
        let name = path.strip_prefix(&machine.root()).unwrap().trim_start_matches('/');
        !name.starts_with("root")
            && !name.starts_with("run/")
            && (bytes.is_some() || name.contains("outrigger") || name.contains("gitlab"))
    });
    found.sort();
    found
}

#[test]
fn it_passes_the_linters() {
    let script = sample(&[], None);
    for host in [Some("https://203.0.113.12"), None] {
        lint(&text(&Uninstall { host, ..undo(&script) }));
    }
    assert!(Uninstall { deployment: "../x", ..undo(&script) }.render().is_err());
    assert!(Uninstall { name: "a\0b", ..undo(&script) }.render().is_err());
}

#[test]
fn the_example_is_what_is_rendered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/uninstall.sh");
    let rendered = text(&undo(&sample(&[], None)));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, &rendered).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == rendered,
        "examples/uninstall.sh differs: run with UPDATE_GOLDEN=1 and review the change"
    );
}

#[test]
fn a_script_cut_short_does_nothing() {
    let machine = Machine::new();
    let whole = text(&undo(&sample(&[], None)));
    for shell in shells() {
        for part in 1..20 {
            let end = (whole.len() - 6) * part / 19;
            machine.run_text(shell, &String::from_utf8_lossy(&whole.as_bytes()[..end]));
            assert!(!machine.path("var/lib").exists(), "cut at {end}");
        }
    }
}

#[test]
fn a_machine_of_its_own_is_as_it_was() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let before = disk(&machine);
            let users = fs::read_to_string(machine.dir.path().join("users")).unwrap();
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            let script = LaunchScript { lock_metadata: !shared, ..script };
            machine.write("etc/cloud/cloud.cfg.d/05.cfg", "");
            machine.succeed(shell, &script);
            fs::remove_file(machine.path("etc/cloud/cloud.cfg.d/05.cfg")).unwrap();
            assert_eq!(fs::read_to_string(machine.dir.path().join("users")).unwrap().lines().count(), 3);
            machine.write(FILE, &rewritten(&machine.config()));

            succeed(&machine, shell, &undo(&script), "gitlab-runner and all that came with it are gone");
            assert_eq!(disk(&machine), before);
            assert_eq!(fs::read_to_string(machine.dir.path().join("users")).unwrap(), users);
            let (apt, systemctl) = (machine.calls("apt-get"), machine.calls("systemctl"));
            assert!(apt.contains("purge gitlab-runner gitlab-runner-helper-images\n"), "{apt}");
            assert!(machine.calls("apt-mark").contains("unhold gitlab-runner gitlab-runner-helper-images\n"));
            assert!(systemctl.contains("stop gitlab-runner\n") && systemctl.contains("daemon-reload\n"));
            assert_eq!(machine.calls("ip").contains("route del prohibit 169.254.169.254\n"), !shared);

            // Again there is nothing to do.
            succeed(&machine, shell, &undo(&script), "nothing of kubernetes-runner is left");
            assert_eq!(disk(&machine), before);
            assert_eq!(machine.calls("apt-get"), apt);
        }
    }
}

#[test]
fn a_binary_goes_with_its_unit() {
    let tokens = tokens();
    let sha256 = outrigger::internal::hex(&Sha256::digest("a binary"));
    for shell in shells() {
        let machine = Machine::new();
        let before = disk(&machine);
        machine.steer("download", "a binary");
        let script = by(&sample(&[], Some(tokens.both())), Method::Binary, Some(&sha256));
        super::install::run_well(&machine, shell, &script, Method::Binary);
        assert!(machine.path("etc/systemd/system/gitlab-runner.service").exists());
        succeed(&machine, shell, &undo(&script), "all that came with it are gone");
        assert!(machine.calls("gitlab-runner").contains("uninstall\n"));
        assert!(!machine.calls("apt-get").contains("purge"));
        assert_eq!(disk(&machine), before);
    }
}

#[test]
fn entries_of_others_stay_byte_for_byte() {
    let tokens = tokens();
    for shell in shells() {
        // What was there before; and what somebody has put below meanwhile, its last line without an end.
        for (above, below) in [(FOREIGN, ""), (FOREIGN, AFTER), ("concurrent = 1\n", AFTER.trim_end())] {
            for again in [false, true] {
                let machine = Machine::with_runner("99.0.0");
                machine.write(FILE, above);
                fs::set_permissions(machine.path(FILE), std::os::unix::fs::PermissionsExt::from_mode(0o640))
                    .unwrap();
                let before = disk(&machine);
                let script = sample(&[], Some(tokens.both()));
                machine.succeed(shell, &script);
                let ours = machine.config()[above.len()..].to_owned();
                // As it came, or as the runner writes it.
                let ours = if again { format!("\n{}", rewritten(&ours).trim_start()) } else { ours };
                machine.write(FILE, &format!("{above}{ours}{below}"));

                succeed(&machine, shell, &undo(&script), "nothing of kubernetes-runner is left");
                assert_eq!(machine.config(), format!("{above}{below}"));
                machine.write(FILE, above);
                assert_eq!(disk(&machine), before);
                assert_eq!(machine.mode(FILE), 0o640);
                assert_eq!(machine.calls("apt-get") + &machine.calls("userdel"), "");
                let systemctl = machine.calls("systemctl");
                assert!(!["stop", "start", "daemon-reload"].iter().any(|word| systemctl.contains(word)));
                succeed(&machine, shell, &undo(&script), "nothing of kubernetes-runner is left");
            }
        }
    }
}

#[test]
fn what_we_brought_stays_for_entries_of_others() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::new();
        let script = sample(&[], Some(tokens.both()));
        machine.succeed(shell, &script);
        // What stands above our entry is of the package, but for the first line.
        let server = "[session_server]\n  session_timeout = 1800\n";
        let above = format!("concurrent = 4\ncheck_interval = 0\nshutdown_timeout = 0\n\n{server}");
        let after = AFTER.replace(server, "");
        machine.write(FILE, &format!("{}{after}", machine.config()));
        succeed(&machine, shell, &undo(&script), "stays for the entries of others");
        assert_eq!(machine.config(), format!("{above}{after}"));
        assert!(!machine.path(CA_FILE).exists() && machine.path(INSTALLED).exists());
        assert!(!machine.calls("apt-get").contains("purge"));
        assert!(machine.path("etc/apt/sources.list.d/outrigger-gitlab-runner.list").exists());
        // They are gone: now all of it goes.
        machine.write(FILE, "concurrent = 4\n");
        succeed(&machine, shell, &undo(&script), "all that came with it are gone");
        assert!(!machine.path("etc/gitlab-runner").exists() && !machine.path(INSTALLED).exists());
    }
}

#[test]
fn users_of_others_stay() {
    let tokens = tokens();
    let shell = shells()[0];
    let users = |machine: &Machine| fs::read_to_string(machine.dir.path().join("users")).unwrap();
    // Who was there before.
    let machine = Machine::new();
    machine.steer("users", "outrigger:x:1000:1000::/nonexistent:/bin/bash\n");
    let script = sample(&[], Some(tokens.both()));
    machine.succeed(shell, &script);
    succeed(&machine, shell, &undo(&script), "are gone");
    assert_eq!(users(&machine), "outrigger:x:1000:1000::/nonexistent:/bin/bash\n");
    // Who has files.
    let machine = Machine::new();
    machine.succeed(shell, &script);
    machine.write("home/gitlab-runner/builds/1", "");
    succeed(&machine, shell, &undo(&script), "the user gitlab-runner stays: ");
    assert!(users(&machine).contains("gitlab-runner:") && !users(&machine).contains("outrigger:"));
    assert!(machine.path("home/gitlab-runner/builds/1").exists());
}

#[test]
fn a_failure_is_named_and_the_next_run_goes_on() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::new();
        let before = disk(&machine);
        let script = sample(&[], Some(tokens.both()));
        machine.succeed(shell, &script);
        machine.steer("apt-fails", "");
        machine.steer("purge-fails", "");
        fail(&machine, shell, &undo(&script), "remove", "E: Could not get lock /var/lib/dpkg/lock-frontend");
        assert!(machine.path(INSTALLED).exists() && !machine.path(FILE).exists());
        fs::remove_file(machine.dir.path().join("apt-fails")).unwrap();
        fs::remove_file(machine.dir.path().join("purge-fails")).unwrap();
        succeed(&machine, shell, &undo(&script), "are gone");
        assert_eq!(disk(&machine), before);
    }
}

#[test]
fn an_entry_that_may_be_somebodys_stops_it() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("99.0.0");
        machine.write(FILE, FOREIGN);
        let script = sample(&[], Some(tokens.both()));
        machine.succeed(shell, &script);
        let before = machine.config();
        // A wrong address: the entry stays, and so does what it needs.
        let wrong = Uninstall { url: "https://gitlab.example.org", ..undo(&script) };
        fail(&machine, shell, &wrong, "config", "for https://gitlab.example.com, not known as ours");
        assert_eq!(machine.config(), before);
        assert!(machine.path(CA_FILE).exists());
        // Without the cluster's address the CA file tells.
        succeed(&machine, shell, &Uninstall { host: None, ..undo(&script) }, "nothing of");
        assert_eq!(machine.config(), FOREIGN);
        // An entry that is renamed keeps its CA file.
        machine.succeed(shell, &script);
        let ours = "\n  name = \"kubernetes-runner\"\n  request_concurrency";
        let renamed = machine.config().replace(ours, "\n  name = \"mine\"\n  request_concurrency");
        assert_ne!(renamed, machine.config());
        machine.write(FILE, &renamed);
        succeed(&machine, shell, &undo(&script), "stays: an entry of others names it");
        assert_eq!(machine.config(), renamed);
        assert!(machine.path(CA_FILE).exists());
        // Where ours never was, one of its name is nobody's business.
        let machine = Machine::with_runner("99.0.0");
        let theirs = "[[runners]]\n  name = \"kubernetes-runner\"\n  url = \"https://gitlab.example.org\"\n";
        machine.write(FILE, theirs);
        succeed(&machine, shell, &undo(&script), "nothing of kubernetes-runner is left");
        assert_eq!(machine.config(), theirs);
    }
}

#[test]
fn the_config_is_where_the_unit_says() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("19.4.1");
        machine.write("home/gitlab-runner/config.toml", "concurrent = 2\n");
        let config = machine.path("home/gitlab-runner/config.toml");
        let unit = format!(
            "{{ argv[]=/usr/bin/gitlab-runner run --config {} --user x ; pid=1 }}\n",
            config.display()
        );
        machine.steer("unit", &unit);
        let script = sample(&[], Some(tokens.both()));
        machine.succeed(shell, &script);
        assert_eq!(runners(&fs::read_to_string(&config).unwrap()).len(), 1);
        succeed(&machine, shell, &undo(&script), "nothing of");
        assert_eq!(fs::read_to_string(&config).unwrap(), "concurrent = 2\n");
        assert!(!machine.path("home/gitlab-runner/outrigger-kubernetes-runner-ca.crt").exists());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_names_are_found_again(values in prop::collection::vec(hostile(), 3)) {
        let tokens = tokens();
        for shell in shells() {
            for shared in [false, true] {
                let machine = if shared { Machine::with_runner("99.0.0") } else { Machine::new() };
                if shared {
                    machine.write(FILE, FOREIGN);
                }
                let mut script = for_machine(&sample(&[], Some(tokens.both())), shared);
                script.entry.name = &values[0];
                script.entry.url = &values[1];
                script.entry.host = &values[2];
                machine.succeed(shell, &script);
                succeed(&machine, shell, &undo(&script), "");
                if shared {
                    prop_assert_eq!(machine.config(), FOREIGN);
                } else {
                    prop_assert!(!machine.path(FILE).exists());
                }
            }
        }
    }
}
