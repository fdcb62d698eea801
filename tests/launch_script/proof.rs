//! What is proven on the machine before anything is registered.

use std::fs;

use super::machine::Machine;
use super::sample::{ACCOUNT, BEARER_TOKEN, RUNNER_TOKEN, for_machine, sample, shells, tokens};

#[test]
fn nothing_is_registered_that_does_not_work() {
    let tokens = tokens();
    for shell in shells() {
        for (file, content, step, reason) in [
            (
                "curl-fails",
                "7",
                "prove-cluster",
                "does not reach https://203.0.113.12 (a firewall, or authorized networks?): curl: (7)",
            ),
            ("curl-fails", "28", "prove-cluster", "does not reach https://203.0.113.12"),
            ("curl-fails", "60", "prove-cluster", "https://203.0.113.12: curl: (60) it went wrong, see "),
            ("code", "401", "prove-cluster", "refuses the token"),
            (
                "identity",
                "{\"username\": \"system:serviceaccount:a:b\"}",
                "prove-cluster",
                "the token is not that of",
            ),
            ("review", "{\"status\": {\"allowed\": false}}", "prove-cluster", "may not create pods"),
            (
                "verify",
                "ERROR: Verifying runner... is not valid\n",
                "prove-gitlab",
                "GitLab refuses the runner's token",
            ),
            (
                "verify",
                "ERROR: Verifying runner... failed  status=couldn't execute POST\n",
                "prove-gitlab",
                "verify failed: ERROR: Verifying runner... failed",
            ),
        ] {
            let machine = Machine::with_runner("19.4.1");
            let script = sample(&[], Some(tokens.both()));
            machine.steer(file, content);
            machine.fail(shell, &script, step, reason);
            assert!(!machine.path("etc/gitlab-runner/outrigger-kubernetes-runner-ca.crt").exists());
            assert!(!machine.path("etc/gitlab-runner/config.toml").exists());
        }
    }
}

#[test]
fn the_runner_is_asked_with_the_entry_that_it_will_have() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::new();
        machine.succeed(shell, &sample(&[], Some(tokens.both())));
        let entry = fs::read_to_string(machine.dir.path().join("verified")).unwrap();
        assert!(entry.contains(RUNNER_TOKEN) && entry.contains(BEARER_TOKEN), "{entry}");
        assert!(machine.config().ends_with(&entry));
        let curl = machine.calls("curl");
        assert!(
            curl.contains("--noproxy * --max-time")
                && curl.contains("-H @header")
                && curl.contains("--cacert ca")
        );
        assert!(machine.log().contains(&format!("the cluster knows {ACCOUNT}")));
    }
}

#[test]
fn a_config_that_the_runner_does_not_take_does_not_go_live() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::with_runner("19.4.1");
        machine.write("etc/gitlab-runner/config.toml", "concurrent = 1\n");
        machine.steer("lint-fails", "");
        let script = sample(&[], Some(tokens.both()));
        machine.fail(shell, &script, "config", "does not accept the new config.toml: FATAL: unknown key");
    }
}

#[test]
fn a_config_that_the_runner_cannot_load_does_not_go_live_although_list_ends_with_0() {
    let tokens = tokens();
    for shell in shells() {
        // The first has no lint.
        for version in ["18.5.0", "19.4.1"] {
            let machine = Machine::with_runner(version);
            machine.write("etc/gitlab-runner/config.toml", "concurrent = 1\n");
            machine.steer("list-fails", "");
            let mut script = sample(&[], Some(tokens.both()));
            script.installer.version = version;
            machine.fail(shell, &script, "config", "gitlab-runner does not accept the new config.toml");
            assert_eq!(machine.calls("gitlab-runner").contains("lint "), version == "19.4.1");
            // What was right once may be so no more: that is no success either.
            fs::remove_file(machine.dir.path().join("list-fails")).unwrap();
            machine.succeed(shell, &script);
            machine.steer("list-fails", "");
            machine.fail(shell, &script, "config", "gitlab-runner cannot load ");
        }
    }
}

#[test]
fn a_service_that_is_not_as_its_unit_says_is_no_success() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            // As the package starts it, whatever the drop-in says.
            let process = "printf 'Uid:\\t0\\t0\\t0\\t0\\nNoNewPrivs:\\t0\\n' >$proc/status\n\
                printf 'gitlab-runner\\0run\\0--user\\0gitlab-runner\\0' >$proc/cmdline\n";
            machine.steer("process", process);
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            assert_eq!(machine.run(shell, &script).status.code(), Some(1));
            assert_eq!(machine.status()["step"], "service");
            let is =
                "the process of gitlab-runner is 0 0 gitlab-runner run --user gitlab-runner , not 999 1 ";
            assert!(machine.reason().starts_with(is), "{}", machine.reason());
            // The next run makes it so: the entry is there already.
            fs::remove_file(machine.dir.path().join("process")).unwrap();
            machine.succeed(shell, &script);
            assert!(machine.log().contains("config.toml needs no change"), "{}", machine.log());
            // And one that stopped for good is started.
            fs::remove_file(machine.dir.path().join("active")).unwrap();
            machine.succeed(shell, &script);
        }
    }
}
