//! The script runs if the host has not run it, and nothing of anybody else's runs there.

use super::*;
use crate::deployment::record::{Delivery, Slots};
use crate::machine::view::Outcome as Left;
use crate::steps::contract::Script;
use crate::steps::fixture::{self, World};

/// The digest that the host should have.
const DIGEST: &str = "0123abcd";

/// A fresh Debian, to which one logs in as root; the script will be written.
fn base(world: &mut World) -> Seen {
    world.forecast.script = Some(Script { digest: DIGEST.to_owned(), is_written: true, ..Script::default() });
    let facts = Facts {
        user: "root".to_owned(),
        access: Access::Root,
        system: "debian 12".to_owned(),
        codename: "bookworm".to_owned(),
        systemd: true,
        free: Some(20_000_000),
        apt: true,
        ..Facts::default()
    };
    Seen { host: "vm".to_owned(), facts: Some(facts), exists: false, asks_gitlab: true }
}

/// The script has run there and is not on this disk.
fn ran(world: &mut World, seen: &mut Seen) {
    world.forecast.script =
        Some(Script { digest: DIGEST.to_owned(), is_written: false, ..Script::default() });
    let facts = at(seen);
    facts.digest = DIGEST.to_owned();
    facts.version = "19.4.1".to_owned();
    facts.service = "active".to_owned();
    facts.outcome = Some(Left { result: "ok".to_owned(), digest: DIGEST.to_owned(), ..Left::default() });
}

/// The script with another version will be written.
fn upgrades(world: &mut World, seen: &mut Seen) {
    ran(world, seen);
    world.run.upgrade = true;
    world.forecast.script = Some(Script { digest: "another".to_owned(), is_written: true, goes_back: true });
    at(seen).installed = true;
}

fn at(seen: &mut Seen) -> &mut Facts {
    seen.facts.as_mut().expect("the host is looked at")
}

fn delivery(undoes: bool) -> Delivery {
    Delivery { nonce: "aa".to_owned(), undoes }
}

fn left(seen: &mut Seen) -> &mut Left {
    at(seen).outcome.as_mut().expect("a script has run")
}

#[test]
fn decisions() {
    let shown = |act: &Act| match act {
        Act::Run => "Run".to_owned(),
        Act::Upgrade => "Upgrade".to_owned(),
        Act::Follow { nonce, anew } => format!("Follow {nonce}{}", if *anew { " Run" } else { "" }),
    };
    fixture::table(
        &RunScript,
        base,
        shown,
        &[
            (
                "runs the script on a fresh host",
                &[],
                |_, _| {},
                &["Create Run: the launch script on vm (debian 12), as root"],
            ),
            (
                "says that a runner of others stays",
                &[],
                |_, seen| at(seen).version = "18.0.0".to_owned(),
                &["Create Run: gitlab-runner 18.0.0 is there already and stays"],
            ),
            (
                "names the user of sudo",
                &[],
                |_, seen| {
                    at(seen).access = Access::Sudo;
                    at(seen).user = "admin".to_owned();
                },
                &["Create Run: as root, by sudo of admin"],
            ),
            (
                "refuses a system without packages",
                &[],
                |_, seen| at(seen).codename = "buster".to_owned(),
                &["Refuse UnusableHost: no packages for the system of vm (buster)"],
            ),
            (
                "takes any system where gitlab-runner is there",
                &[],
                |_, seen| {
                    at(seen).codename = "buster".to_owned();
                    at(seen).version = "19.4.1".to_owned();
                },
                &["Create Run"],
            ),
            ("keeps what has run", &[], ran, &["Keep: =vm: gitlab-runner 19.4.1, service active"]),
            (
                "runs a new script",
                &[],
                |world, seen| {
                    ran(world, seen);
                    world.forecast.script =
                        Some(Script { digest: "another".to_owned(), is_written: true, ..Script::default() });
                },
                &["Update Run: gitlab-runner 19.4.1 is there"],
            ),
            (
                "upgrades a gitlab-runner that outrigger installed",
                &["--runner-version", "19.5.0"],
                upgrades,
                &[
                    "Update Upgrade: gitlab-runner 19.4.1 -> 19.5.0 on vm | is paused until | back to 19.4.1 if",
                ],
            ),
            (
                "promises no way back that is not known",
                &["--runner-version", "19.5.0"],
                |world, seen| {
                    upgrades(world, seen);
                    world.forecast.script.as_mut().expect("a script").goes_back = false;
                    seen.asks_gitlab = false;
                },
                &["Update Upgrade: the service lets its jobs end | without a way back"],
            ),
            (
                "runs the script again during a rotation: the digest does not tell of the token",
                &[],
                |world, seen| {
                    ran(world, seen);
                    seen.exists = true;
                    world.record.slots = Some(Slots { next: Some("0a1b2c".to_owned()), ..Slots::default() });
                },
                &["Update Run"],
            ),
            (
                "leaves a gitlab-runner that somebody else installed",
                &["--runner-version", "19.5.0"],
                |world, seen| {
                    upgrades(world, seen);
                    at(seen).installed = false;
                },
                &["Refuse HostForeign: not installed by outrigger"],
            ),
            (
                "upgrades nothing where there is nothing",
                &["--runner-version", "19.5.0"],
                |world, seen| {
                    upgrades(world, seen);
                    at(seen).version.clear();
                },
                &["Refuse MissingPrerequisite: not installed on vm"],
            ),
            (
                "does not install an older version",
                &["--runner-version", "19.3.0"],
                upgrades,
                &["Refuse InvalidInput: 19.3.0 is older"],
            ),
            (
                "runs a script with the same digest and new tokens",
                &[],
                |world, seen| {
                    ran(world, seen);
                    world.forecast.script =
                        Some(Script { digest: DIGEST.to_owned(), is_written: true, ..Script::default() });
                },
                &["Update Run"],
            ),
            (
                "runs a script again that failed, from this disk",
                &[],
                |world, seen| {
                    ran(world, seen);
                    seen.exists = true;
                    left(seen).result = "failed".to_owned();
                    left(seen).step = "install".to_owned();
                    left(seen).reason = "the disk is full".to_owned();
                },
                &["Update Run: its last run failed in step install: the disk is full"],
            ),
            (
                "takes the digest from the notes if launch-script is not selected",
                &[],
                |world, seen| {
                    ran(world, seen);
                    world.forecast.script = None;
                    world.record.script_digest = DIGEST.to_owned();
                },
                &["Keep"],
            ),
            (
                "leaves the reason to launch-script",
                &[],
                |world, _| {
                    world.forecast.script = None;
                    world.run.parts = vec![Part::Script];
                },
                &[],
            ),
            (
                "refuses without a script",
                &[],
                |world, seen| {
                    ran(world, seen);
                    left(seen).digest = "another".to_owned();
                },
                &["Refuse MissingInput: not on this disk | --reissue all"],
            ),
            (
                "refuses before a script was ever written",
                &[],
                |world, _| world.forecast.script = None,
                &["Refuse MissingPrerequisite: outrigger launch-script"],
            ),
            (
                "a service that does not run is a problem",
                &[],
                |world, seen| {
                    ran(world, seen);
                    at(seen).service = "failed".to_owned();
                },
                &["Keep", "Unhealthy!: gitlab-runner's service on vm is failed"],
            ),
            (
                "a disk that is nearly full is a problem",
                &[],
                |world, seen| {
                    ran(world, seen);
                    at(seen).free = Some(100_000);
                },
                &["Keep", "Unhealthy!: 97 MiB are free on vm"],
            ),
            (
                "refuses a login whose sudo asks for a password",
                &[],
                |_, seen| at(seen).access = Access::Password,
                &["Refuse NoRoot: NOPASSWD | --host root@HOST | --target ssh"],
            ),
            (
                "refuses a login without sudo",
                &[],
                |_, seen| at(seen).access = Access::None,
                &["Refuse NoRoot: there is no sudo"],
            ),
            (
                "refuses a host without systemd",
                &[],
                |_, seen| at(seen).systemd = false,
                &["Refuse UnusableHost: does not run systemd"],
            ),
            (
                "refuses while a script of others runs",
                &[],
                |_, seen| at(seen).running = Some("aa".to_owned()),
                &["Refuse HostLocked"],
            ),
            (
                "follows a script of an earlier run",
                &[],
                |world, seen| {
                    at(seen).running = Some("aa".to_owned());
                    world.record.delivery = Some(delivery(false));
                    world.forecast.script = None;
                    world.record.script_digest = DIGEST.to_owned();
                },
                &["Update Follow aa"],
            ),
            (
                "follows it before it runs a new one",
                &[],
                |world, seen| {
                    at(seen).running = Some("aa".to_owned());
                    world.record.delivery = Some(delivery(false));
                },
                &["Update Follow aa Run: and then the new one"],
            ),
            (
                "does not follow a script that undoes",
                &[],
                |world, seen| {
                    at(seen).running = Some("aa".to_owned());
                    world.record.delivery = Some(delivery(true));
                },
                &["Refuse HostLocked"],
            ),
            (
                "runs a script that was written and not seen to end well, whatever its digest",
                &[],
                |world, seen| {
                    ran(world, seen);
                    seen.exists = true;
                    world.record.script_due = true;
                },
                &["Update Run"],
            ),
            (
                "an entry that was edited and a process that is not confined are problems",
                &[],
                |world, seen| {
                    ran(world, seen);
                    at(seen).edited = true;
                    at(seen).hardened = Some(false);
                },
                &[
                    "Keep",
                    "Unhealthy!: not confined",
                    "Unhealthy!: was changed since | setup --replace-entry",
                ],
            ),
            (
                "an old gitlab-runner and an entry that is gone are problems",
                &[],
                |world, seen| {
                    ran(world, seen);
                    at(seen).version = "18.0.0".to_owned();
                    at(seen).digest.clear();
                },
                &["Keep", "Unhealthy!: is 18.0.0, planned is 19.4.1", "Unhealthy!: the runner's entry"],
            ),
            (
                "refuses a host without apt",
                &[],
                |_, seen| at(seen).apt = false,
                &["Refuse UnusableHost: vm has no apt-get (debian 12)"],
            ),
            (
                "refuses a host without the programs of a delivery",
                &[],
                |_, seen| at(seen).lacks = vec!["flock".to_owned(), "base64".to_owned()],
                &["Refuse UnusableHost: vm has no flock, base64"],
            ),
            (
                "refuses a host without memory for files",
                &[],
                |_, seen| at(seen).memory = Some(100),
                &["Refuse UnusableHost: below /run"],
            ),
        ],
    );
}

#[test]
fn decisions_to_undo() {
    let undo = |Uninstalled(nonce): &Uninstalled| match nonce {
        Some(nonce) => format!("Follow {nonce}"),
        None => "Uninstall".to_owned(),
    };
    fixture::undo_table(
        &RunScript,
        |world| {
            let mut seen = base(world);
            ran(world, &mut seen);
            seen
        },
        undo,
        &[
            ("undoes the script", &[], |_, _| {}, &["Remove Uninstall: the launch script's changes on vm"]),
            (
                "undoes a script that failed before it wrote an entry",
                &[],
                |_, seen| at(seen).digest.clear(),
                &["Remove Uninstall"],
            ),
            (
                "nothing of the deployment is there",
                &[],
                |_, seen| {
                    at(seen).digest.clear();
                    at(seen).outcome = None;
                },
                &["Keep: nothing of demo on vm"],
            ),
            ("with --host-gone", &[], |_, seen| seen.facts = None, &["Keep: --host-gone"]),
            ("without a host", &[], |_, seen| seen.host.clear(), &[]),
            (
                "refuses while a script runs",
                &[],
                |_, seen| at(seen).running = Some("aa".to_owned()),
                &["Refuse HostLocked"],
            ),
            (
                "follows a script of an earlier teardown",
                &[],
                |world, seen| {
                    at(seen).running = Some("aa".to_owned());
                    world.record.delivery = Some(delivery(true));
                },
                &["Remove Follow aa"],
            ),
            (
                "refuses without root rights",
                &[],
                |_, seen| at(seen).access = Access::Password,
                &["Refuse NoRoot"],
            ),
        ],
    );
}
