//! How gitlab-runner comes onto the machine, and what stops it.

use std::fs;

use outrigger::internal::{DEFAULT_APT_URL, DEFAULT_RUNNER_VERSION};
use outrigger::internal::{LaunchScript, Method};
use sha2::{Digest as _, Sha256};

use super::machine::Machine;
use super::sample::{by, for_machine, sample, shells, tokens};

const INSTALLED: &str = "var/lib/outrigger/kubernetes-runner.installed";

#[test]
fn a_wrong_key_installs_nothing() {
    let tokens = tokens();
    for shell in shells() {
        for keys in
            ["0123456789ABCDEF", "F6403F6544A38863DAA0B6E03F01618A51312F3F:\npub:::::::::\nfpr:::::::::EVIL"]
        {
            let machine = Machine::new();
            machine.steer("fingerprint", keys);
            let bad = keys.rsplit(':').next().unwrap();
            machine.fail(shell, &sample(&[], Some(tokens.both())), "install", bad);
            assert!(!machine.path("etc/apt/sources.list.d/outrigger-gitlab-runner.list").exists());
            assert!(!machine.path(INSTALLED).exists());
            assert!(!machine.calls("apt-get").contains("gitlab-runner="));
        }
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let tokens = tokens();
    let shell = shells()[0];
    let fails = |machine: &Machine, step: &str, reason: &str| {
        machine.fail(shell, &sample(&[], Some(tokens.both())), step, reason);
    };
    for (release, reason) in [
        ("ID=\"amzn\"\nVERSION_ID=2023\n", "GitLab has no packages for amzn/ ("),
        (
            "ID=debian\nVERSION_CODENAME=buster\n",
            "GitLab has no packages for debian/buster (Debian from 11, ",
        ),
        (
            "ID=ubuntu\nVERSION_CODENAME=xenial\n",
            "GitLab has no packages for ubuntu/xenial (Debian from 11, ",
        ),
        ("ID=debian\n", "GitLab has no packages for debian/ ("),
    ] {
        let machine = Machine::new();
        machine.write("etc/os-release", release);
        fails(&machine, "install", reason);
    }
    let machine = Machine::new();
    machine.write(
        "etc/apt/sources.list.d/theirs.list",
        &format!("deb {DEFAULT_APT_URL}/debian bookworm main\n"),
    );
    fails(&machine, "install", "theirs.list has this apt source");
    let machine = Machine::new();
    machine.steer("apt-fails", "");
    fails(&machine, "install", "apt-get failed: E: Could not get lock /var/lib/dpkg/lock-frontend, see ");
    assert_eq!(machine.calls("sleep").matches("\nPWD=").count(), 4);
    let machine = Machine::new();
    fs::create_dir_all(machine.path("etc/gitlab-runner")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", machine.path("etc/gitlab-runner/config.toml")).unwrap();
    fails(&machine, "look", "config.toml is a symbolic link");
    for name in ["config.toml", ".runner_system_id"] {
        let machine = Machine::new();
        fs::create_dir_all(machine.path("etc/gitlab-runner").join(name)).unwrap();
        fails(&machine, "look", &format!("{name} is not a regular file"));
    }
}

#[test]
fn a_broken_source_of_others_stops_nothing_and_ours_comes_before_it() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [true, false] {
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            // Others are not even asked, unless what is known does not do.
            let machine = Machine::new();
            machine.steer("update-fails", "");
            machine.succeed(shell, &script);
            let updates = |machine: &Machine| machine.calls("apt-get").matches(" update\n").count();
            assert_eq!(updates(&machine), 1, "{}", machine.calls("apt-get"));
            let machine = Machine::new();
            machine.steer("update-fails", "");
            machine.steer("unknown", "1");
            machine.succeed(shell, &script);
            assert!(machine.log().contains("apt-get update failed, going on"), "{}", machine.log());
            assert_eq!(updates(&machine), 2);
            // And never for longer than a while.
            assert_eq!(machine.calls("timeout").matches("300 apt-get ").count(), 2);
            // Ours is no option: that of a key that ended is an error, and says so.
            let machine = Machine::new();
            machine.steer("source-fails", "");
            let reason = "apt-get failed: E: The repository is not signed: EXPKEYSIG";
            machine.fail(shell, &script, "install", reason);
            assert!(machine.calls("curl").contains("-o key "), "the key is fetched before");
            assert!(!machine.calls("apt-get").contains("gitlab-runner="));
        }
        // Where what is needed cannot be had either, both reasons are named.
        let machine = Machine::new();
        machine.steer("update-fails", "");
        machine.steer("install-fails", "");
        let reason = "apt-get failed: E: The repository of somebody is not signed.; then E: Unable to locate package git, see ";
        machine.fail(shell, &sample(&[], Some(tokens.both())), "install", reason);
    }
}

#[test]
fn what_a_power_cut_left_is_finished() {
    let tokens = tokens();
    let left = "etc/.outrigger.aB3dE6/token";
    for shell in shells() {
        for shared in [true, false] {
            let machine = Machine::new();
            let script = for_machine(&sample(&[], Some(tokens.both())), shared);
            // The program is there, and runs; what else its package does was not done.
            machine.steer("version", DEFAULT_RUNNER_VERSION);
            machine.write(INSTALLED, "");
            machine.write(left, "token");
            machine.succeed(shell, &script);
            assert!(machine.calls("dpkg").contains("--configure -a\n"));
            let install = format!("install gitlab-runner={DEFAULT_RUNNER_VERSION}-1 ");
            assert_eq!(machine.calls("apt-get").matches(&install).count(), 1);
            assert!(!machine.path(left).exists());
            machine.succeed(shell, &script);
            assert_eq!(machine.calls("apt-get").matches(&install).count(), 1, "once it is complete");
        }
    }
}

#[test]
fn the_helper_images_can_stay_away() {
    let tokens = tokens();
    // Busybox has a dpkg-deb of its own, which builds nothing and cannot be kept out of the way.
    for shell in shells().into_iter().filter(|shell| shell[0] != "busybox") {
        let machine = Machine::new();
        machine.succeed(shell, &by(&sample(&[], Some(tokens.both())), Method::AptSlim, None));
        let apt = machine.calls("apt-get");
        assert!(apt.contains(&format!(
            "install --allow-change-held-packages gitlab-runner={DEFAULT_RUNNER_VERSION}-1\n"
        )));
        assert!(!apt.contains("gitlab-runner-helper-images="));
        assert!(machine.calls("dpkg").contains("-i "));
        assert!(machine.calls("apt-mark").contains("hold gitlab-runner gitlab-runner-helper-images\n"));
    }
}

#[test]
fn what_is_downloaded_has_the_hash_that_was_named() {
    let tokens = tokens();
    let bytes = "a binary";
    let good = outrigger::internal::hex(&Sha256::digest(bytes));
    let bad = good.chars().rev().collect::<String>();
    for shell in shells() {
        for method in [Method::Apt, Method::Binary] {
            for (sha256, fits) in [(&good, true), (&bad, false)] {
                let machine = Machine::new();
                let script = by(&sample(&[], Some(tokens.both())), method, Some(sha256));
                if method == Method::Apt {
                    let deb = format!("gitlab-runner_{DEFAULT_RUNNER_VERSION}-1_amd64.deb");
                    machine.write(&format!("var/cache/apt/archives/{deb}"), bytes);
                } else {
                    machine.steer("download", bytes);
                    machine.steer("version-later", DEFAULT_RUNNER_VERSION);
                }
                if fits {
                    run_well(&machine, shell, &script, method);
                } else {
                    machine.fail(shell, &script, "install", &format!("is {good}, not {bad}"));
                    assert!(!machine.path("usr/local/bin/gitlab-runner").exists());
                    assert!(!machine.path("usr/local/bin").exists() || method == Method::Apt);
                    assert!(machine.calls("gitlab-runner").lines().all(|line| line != "verify"));
                }
            }
        }
    }
}

/// A binary "runs" as soon as it is in its place.
pub fn run_well(machine: &Machine, shell: &[&str], script: &LaunchScript<'_>, method: Method) {
    if method == Method::Binary {
        let stub = fs::read_to_string(machine.dir.path().join("bin/gitlab-runner")).unwrap();
        let placed = machine.path("usr/local/bin/gitlab-runner").display().to_string();
        let version =
            format!("[ ! -e {placed} ] || echo {DEFAULT_RUNNER_VERSION} >\"$D/version\"\ncase $1 in\n");
        fs::write(machine.dir.path().join("bin/gitlab-runner"), stub.replacen("case $1 in\n", &version, 1))
            .unwrap();
    }
    machine.succeed(shell, script);
    assert_eq!(machine.status()["gitlab_runner"].as_str(), Some(DEFAULT_RUNNER_VERSION));
    if method == Method::Binary {
        assert_eq!(machine.read("usr/local/bin/gitlab-runner"), "a binary");
        assert_eq!(machine.mode("usr/local/bin/gitlab-runner"), 0o755);
        assert!(machine.calls("gitlab-runner").contains("install --user outrigger --working-directory"));
        assert!(!machine.calls("apt-get").contains("gitlab-runner="));
    }
}
