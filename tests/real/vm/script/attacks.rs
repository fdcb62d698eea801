//! The service's user against root: it plants links and pipes where the script reads and writes, swaps what the
//! script makes while that runs, and holds what the script waits for. Nothing outside of its directory changes.

use std::process::Output;

use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::look::{CONFIG, Stamp, is_well, log, run_well, stamp};
use super::methods::hardened;
use super::place::{DEPLOYMENT, Place};

const ETC: &str = "/etc/gitlab-runner";
const ID: &str = "/etc/gitlab-runner/.runner_system_id";

/// The attacker, a program in Python.
const ATTACK: &str = include_str!("attack.py");

/// What the unit allows the service, and no more.
const AS_THE_SERVICE: &str = "--uid=outrigger --gid=outrigger -p NoNewPrivileges=yes -p CapabilityBoundingSet= \
     -p ProtectSystem=strict -p ReadWritePaths=/etc/gitlab-runner -p KillSignal=SIGKILL -p Type=exec";

/// A machine that has become a runner, with its script and the way back, both in root's home.
fn runner(beds: &Beds) -> (Place, Vm, String) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let undo = place.command("launch-script").arg("--uninstall").run().code(0).stdout();
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot(&lightsail(&script));
    is_well(&vm);
    vm.write("/root/launch.sh", &script);
    vm.write("/root/uninstall.sh", undo);
    vm.sh(&format!("cp -p {CONFIG} {ID} /root; mkdir -p /opt"));
    (place, vm, script)
}

/// Runs a script that might wait for ever.
fn run(vm: &Vm, name: &str) -> Output {
    vm.exec(&["timeout", "--kill-after=5", "280", "sh", &format!("/root/{name}.sh")])
}

/// The same, which must fail for a reason with these words.
fn fails(vm: &Vm, name: &str, words: &str) {
    let output = run(vm, name);
    assert_eq!(output.status.code(), Some(1), "{words}: {output:?}\n{}", log(vm));
    let reason = vm.outcome(DEPLOYMENT)["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.contains(words)), "{words}: {reason}");
}

/// Does something as the service's user, in its directory.
fn plant(vm: &Vm, what: &str) {
    let user = "setpriv --reuid outrigger --regid outrigger --clear-groups";
    vm.sh(&format!("cd {ETC}; {user} sh -euc '{what}'"));
}

/// The configuration and the system id as they were.
fn put_back(vm: &Vm) {
    vm.sh(&format!("rm -rf {CONFIG} {ID}; cp -p /root/config.toml /root/.runner_system_id {ETC}"));
}

/// What belongs to root, and must go on doing so.
fn of_root(vm: &Vm) -> Vec<Stamp> {
    ["/etc/shadow", "/etc/passwd", "/etc/profile", "/root/config.toml"].map(|path| stamp(vm, path)).into()
}

/// Nothing was written through what was planted, and nobody was given anything.
fn assert_unharmed(vm: &Vm, before: &[Stamp]) {
    let pwned = vm.sh("ls -d /etc/profile.d/pwned.sh /root/pwned 2>/dev/null || :");
    assert_eq!(pwned, "", "{}", log(vm));
    assert_eq!(of_root(vm), before, "{}", log(vm));
    let owned = vm.sh("find /etc /root /usr /opt /var -xdev -user outrigger ! -path '/etc/gitlab-runner*' ! -path '/root/*'");
    assert_eq!(owned, "");
}

/// Links to files of root's, and pipes that nobody writes to: refused by name, by the script and by the way back.
pub fn planted(beds: &Beds) {
    let (_place, vm, script) = runner(beds);
    let before = of_root(&vm);
    for (what, words) in [
        ("rm config.toml .runner_system_id; ln -s /etc/shadow .runner_system_id", "_id is a symbolic link"),
        ("rm config.toml; ln -s /etc/shadow config.toml", "config.toml is a symbolic link"),
        ("rm config.toml; ln -s /etc/profile.d/pwned.sh config.toml", "config.toml is a symbolic link"),
        ("rm config.toml; mkfifo config.toml", "config.toml is not a regular file"),
        ("rm config.toml .runner_system_id; mkfifo .runner_system_id", "_id is not a regular file"),
        ("rm config.toml; truncate -s 5M config.toml", "config.toml has more than 4 MB"),
    ] {
        plant(&vm, what);
        for name in ["launch", "uninstall"] {
            fails(&vm, name, words);
            assert_unharmed(&vm, &before);
        }
        put_back(&vm);
    }

    // It cannot hold the lock of two runs, whatever it may open.
    vm.sh(&format!(
        "systemd-run --unit=holder {AS_THE_SERVICE} sh -c 'flock /var/lib sleep inf & flock /run/outrigger.lock sleep inf; wait'"
    ));
    vm.sh(&format!("rm {CONFIG}"));
    let output = run(&vm, "launch");
    assert!(output.status.success(), "{output:?}\n{}", log(&vm));
    vm.sh("systemctl stop holder");

    run_well(&vm, &script, None);
    hardened(&vm);
    assert_unharmed(&vm, &before);
}

/// Starts the attacker, and waits until it is on the watch.
fn attack(vm: &Vm) {
    vm.write("/opt/attack.py", ATTACK);
    vm.sh(&format!(
        "rm -f {ETC}/seen; systemctl reset-failed attack 2>/dev/null || :; \
         systemd-run --unit=attack -p BindsTo=gitlab-runner.service {AS_THE_SERVICE} python3 /opt/attack.py"
    ));
    vm.wait("the attacker", || vm.read(&format!("{ETC}/seen")).is_some());
}

/// Directories and files that the script makes are exchanged in the moment that they appear.
pub fn swapped(beds: &Beds) {
    let (_place, vm, script) = runner(beds);
    let before = of_root(&vm);
    let mut tried = 0;
    for _ in 0..5 {
        put_back(&vm);
        attack(&vm);
        // So that there is something to do.
        vm.sh(&format!("rm {CONFIG}"));
        // It may fail, for what the attacker did to its own configuration; or be none the wiser.
        let output = run(&vm, "launch");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        assert_unharmed(&vm, &before);
        tried += vm.read(&format!("{ETC}/seen")).unwrap_or_default().matches(".outrigger").count();
        vm.sh(&format!("systemctl stop attack; rm -rf {ETC}/.outrigger* {ETC}/evil"));
    }
    assert!(tried > 0, "the attacker saw nothing to attack");
    put_back(&vm);
    run_well(&vm, &script, None);
    hardened(&vm);

    // On the way back the attacker ends with the service.
    attack(&vm);
    let output = run(&vm, "uninstall");
    assert!(output.status.success(), "{output:?}\n{}", log(&vm));
    assert_eq!(vm.sh("ls -d /etc/profile.d/pwned.sh /root/pwned 2>/dev/null || :"), "");
    assert_eq!(vm.sh("getent passwd outrigger || :; ls -d /etc/.outrigger* 2>/dev/null || :"), "");
}
