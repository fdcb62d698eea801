//! What is proven on the machine before anything is registered.

use super::machine::Machine;
use super::sample::{ACCOUNT, BEARER_TOKEN, RUNNER_TOKEN, sample, shells, tokens};

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
        let entry = std::fs::read_to_string(machine.dir.path().join("verified")).unwrap();
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
