//! The settings of gitlab-runner as a whole: set where it is ours, left alone and said where it is somebody else's.

use std::time::Duration;

use outrigger::internal::{GlobalSection, LaunchScript};

use super::config::FOREIGN;
use super::machine::Machine;
use super::sample::{for_machine, runners, sample, shells, tokens};

const FILE: &str = "etc/gitlab-runner/config.toml";
const UNIT: &str = "etc/systemd/system/gitlab-runner.service.d/outrigger.conf";

const GIVEN: GlobalSection<'_> = GlobalSection {
    concurrent: Some(20),
    check_interval: Some(Duration::from_secs(9)),
    log_level: Some("warning"),
    shutdown_timeout: None,
    listen_address: Some("127.0.0.1:9252"),
};

#[test]
fn global_settings_replace_those_of_a_machine_of_ours() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let plain = for_machine(&sample(&[], Some(tokens.both())), shared);
            machine.succeed(shell, &plain);
            let restarts = || machine.calls("systemctl").matches("restart ").count();
            let before = restarts();
            // As somebody, and the runner, may have written it: in another case, quoted, below a table of that key.
            let config = machine.config().replacen(
                "concurrent = 4\n",
                "\"Concurrent\" = 4\nlog_level = \"debug\"\n",
                1,
            );
            let config = config.replacen("[session_server]\n", "[session_server]\nlog_level = \"mine\"\n", 1);
            machine.write(FILE, &config);
            let given = LaunchScript { global: GIVEN, secrets: None, ..plain.clone() };
            assert_ne!(given.digest(), plain.digest());
            machine.succeed(shell, &given);
            let config = machine.config();
            let head = "concurrent = 20\ncheck_interval = 9\nlog_level = \"warning\"\nshutdown_timeout = 0\n";
            assert!(config.starts_with(head), "{config}");
            let whole: toml::Table = config.parse().unwrap();
            assert_eq!(whole["session_server"]["log_level"].as_str(), Some("mine"));
            assert_eq!(runners(&config).len(), 1);
            let unit = machine.read(UNIT);
            assert!(unit.contains(" --listen-address 127.0.0.1:9252 --service "), "{unit}");
            assert_eq!(restarts(), before + 1, "the address is read at the start of the process");
            machine.succeed(shell, &given);
            assert_eq!((machine.config(), restarts()), (config, before + 1));
            // What is no longer asked for stays, but the metrics end.
            machine.succeed(shell, &LaunchScript { secrets: None, ..plain });
            assert!(
                machine.config().starts_with("concurrent = 4\ncheck_interval = 9\n"),
                "{}",
                machine.config()
            );
            assert!(!machine.read(UNIT).contains("--listen-address"));
        }
    }
}

#[test]
fn global_settings_of_another_gitlab_runner_stay_and_the_script_says_so() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("99.0.0");
        machine.write(FILE, FOREIGN);
        let script = LaunchScript { global: GIVEN, ..sample(&[], Some(tokens.both())) };
        let output = machine.run(shell, &script);
        assert!(output.status.success(), "{output:?}");
        assert!(machine.config().starts_with(FOREIGN), "{}", machine.config());
        assert!(!machine.path("etc/systemd").exists());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in [
            "concurrent = 20",
            "check_interval = 9",
            "log_level = \"warning\"",
            "listen_address = \"127.0.0.1:9252\"",
        ] {
            assert!(
                said.contains(&format!("is of another gitlab-runner, and stays without {line}\n")),
                "{said}"
            );
        }
        // What it says already is no difference.
        let same = GlobalSection { log_level: Some("info"), ..GlobalSection::default() };
        let machine = Machine::with_runner("99.0.0");
        machine.write(FILE, FOREIGN);
        let output = machine.run(shell, &LaunchScript { global: same, ..script });
        assert!(
            output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("stays without")
        );
    }
}
