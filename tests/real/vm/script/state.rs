//! Whatever a package, an earlier run, an interrupted run or somebody left: the end is one entry of ours, and a
//! service whose process is what its unit says. A job that was picked up is not killed on the way.

use outrigger_doubles::cluster::{Action, Fault};

use super::super::vm::Vm;
use super::super::vm::beds::{Beds, VERSION};
use super::super::vm::net::port_of;
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::look::{
    CONFIG, asks, edit, is_well, job, log, process, run_badly, run_well, start_job, stops_gracefully,
};
use super::methods::hardened;
use super::place::{DEPLOYMENT, Place, entries, file_of_secrets, secrets};

const UNIT: &str = "/etc/systemd/system/gitlab-runner.service.d/outrigger.conf";

/// A machine that has become a runner at its first boot, and the script that did it.
fn runner(beds: &Beds, root: Root) -> (Place, Vm, String) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(root);
    place.connect(&vm);
    vm.boot(&lightsail(&script));
    is_well(&vm);
    hardened(&vm);
    (place, vm, script)
}

/// The user of the service's process, as `ps` says.
fn user(vm: &Vm) -> String {
    vm.sh("ps -o user= -p \"$(systemctl show -p MainPID --value gitlab-runner)\"")
}

/// Starts a script as a service of its own, so that the trial goes on beside it.
fn start(vm: &Vm, name: &str, script: &str) {
    let path = format!("/root/{name}.sh");
    vm.write(&path, script);
    vm.sh(&format!("systemd-run --unit={name} --property=Type=exec --remain-after-exit sh {path}"));
}

/// Waits for its end, which must be a good one.
fn ends_well(vm: &Vm, name: &str) {
    vm.wait("the end of the script", || {
        let state = vm.sh(&format!("systemctl show -P SubState {name}"));
        state == "exited" || state == "failed"
    });
    assert_eq!(vm.sh(&format!("systemctl show -P ExecMainStatus {name}")), "0", "{}", log(vm));
}

/// First boot, and again after a reboot, which runs no user data.
fn through_a_reboot(beds: &Beds, root: Root) {
    let (place, vm, script) = runner(beds, root);
    let number = place.runner().0;
    vm.shut_down();
    vm.switch_on();
    vm.wait_cloud_init();
    hardened(&vm);
    asks(&vm, &place, number, &secrets(&script)[0]);
    let service = process(&vm);
    run_well(&vm, &script, None);
    assert_eq!(process(&vm), service, "nothing was to be done");
}

pub fn reboot_on_bookworm(beds: &Beds) {
    through_a_reboot(beds, Root::Bookworm);
}

pub fn reboot_on_trixie(beds: &Beds) {
    through_a_reboot(beds, Root::Trixie);
}

/// A process that an earlier run left as root, with our entry and a job in hand: the job ends first, then the
/// process is another.
pub fn left_as_root(beds: &Beds) {
    let (place, vm, script) = runner(beds, Root::Bookworm);
    let unit = vm.read(UNIT).expect("it is there");
    vm.sh(&format!("rm {UNIT}; systemctl daemon-reload; systemctl restart gitlab-runner"));
    vm.write(UNIT, unit);
    assert_eq!(user(&vm), "root");

    place.cluster.clear_requests();
    place.cluster.inject(Fault::always("/selfsubjectaccessreviews", Action::Hang));
    let id = start_job(&place, "one:\n  tags: [k8s-runner]\n  script: [echo hello]\n");
    let by_us = format!("system:serviceaccount:{DEPLOYMENT}:{DEPLOYMENT}");
    vm.wait("a request to the cluster", || place.cluster.requests().iter().any(|it| it.user == by_us));
    let status = || job(&place, id)["status"].as_str().unwrap_or_default().to_owned();
    assert_eq!(status(), "running", "{}", place.site.gitlab.trace(id));

    start(&vm, "launch", &script);
    vm.wait("the signal", || stops_gracefully(&vm));
    assert_eq!((user(&vm), status()), ("root".to_owned(), "running".to_owned()), "{}", log(&vm));
    // The end of the job, by what befell it and not by the stop.
    vm.network().refuse(port_of(&place.cluster.url()));
    ends_well(&vm, "launch");
    let trace = place.site.gitlab.trace(id);
    assert!(trace.contains("connection refused") && !trace.contains("aborted"), "{trace}");
    hardened(&vm);
    asks(&vm, &place, place.runner().0, &secrets(&script)[0]);
}

/// A unit of an earlier version, a service that is not enabled, a configuration without our entry, and none.
pub fn mended(beds: &Beds) {
    let (_place, vm, script) = runner(beds, Root::Bookworm);
    let before = vm.read(UNIT).expect("it is there");
    edit(&vm, UNIT, |text| text.replace("PrivateTmp=yes\n", ""));
    vm.sh("systemctl daemon-reload; systemctl restart gitlab-runner; systemctl disable gitlab-runner");
    let service = process(&vm);
    run_well(&vm, &script, None);
    hardened(&vm);
    assert_eq!(vm.read(UNIT), Some(before));
    assert_ne!(process(&vm), service);
    assert_eq!(vm.sh("systemctl is-enabled gitlab-runner"), "enabled");

    for damage in [
        "printf 'concurrent = 1\\n' >/etc/gitlab-runner/config.toml",
        "rm /etc/gitlab-runner/config.toml",
        "gitlab-runner stop; gitlab-runner uninstall",
        "chown root: /etc/gitlab-runner /etc/gitlab-runner/config.toml /etc/gitlab-runner/.runner_system_id; \
         systemctl restart gitlab-runner",
        "systemctl stop gitlab-runner",
    ] {
        vm.sh(damage);
        run_well(&vm, &script, None);
        assert_eq!(entries(&vm).len(), 1, "{damage}");
        hardened(&vm);
    }

    // Where somebody's own drop-in takes the limits away, the script does not say that all is well.
    let theirs = "/etc/systemd/system/gitlab-runner.service.d/zz-theirs.conf";
    vm.write(theirs, "[Service]\nUser=root\nCapabilityBoundingSet=~\n");
    vm.sh("systemctl daemon-reload; systemctl restart gitlab-runner");
    let said = run_badly(&vm, &script, None);
    assert_eq!(vm.outcome(DEPLOYMENT)["step"], "service", "{said}");
    assert!(said.contains("the process of gitlab-runner is 0 1 /usr/bin/gitlab-runner run "), "{said}");
    vm.sh(&format!("rm {theirs}; systemctl daemon-reload"));
    run_well(&vm, &script, None);
    hardened(&vm);

    // One that it cannot load is named, and not called well.
    edit(&vm, CONFIG, |text| text.replace("concurrent = ", "concurrent = = "));
    let said = run_badly(&vm, &script, None);
    assert!(said.contains("gitlab-runner cannot load /etc/gitlab-runner/config.toml"), "{said}");
}

/// Two runs of the script at once: one after the other.
pub fn two_at_once(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot_idle();
    for name in ["first", "second"] {
        start(&vm, name, &script);
    }
    for name in ["first", "second"] {
        ends_well(&vm, name);
    }
    assert!(log(&vm).contains("waiting for the end of another run"), "{}", log(&vm));
    assert_eq!(log(&vm).matches("config.toml is written").count(), 1, "{}", log(&vm));
    assert_eq!(log(&vm).matches("config.toml needs no change").count(), 1, "{}", log(&vm));
    assert_eq!(entries(&vm).len(), 1);
    hardened(&vm);
}

/// A host on which somebody has just installed the package, and nothing more: his it is all the same. The entry
/// comes to what the package wrote, and the process stays.
pub fn installed_by_hand(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot_idle();
    vm.write("/etc/apt/keyrings/theirs.asc", &beds.repository.key.armoured);
    let url = place.apt.apt_url();
    let source = format!("deb [signed-by=/etc/apt/keyrings/theirs.asc] {url}/debian bookworm main\n");
    vm.write("/etc/apt/sources.list.d/theirs.list", source);
    let packages = format!("gitlab-runner={VERSION}-1 gitlab-runner-helper-images={VERSION}-1");
    vm.sh(&format!(
        "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install {packages}"
    ));
    let (before, service) = (vm.read(CONFIG).expect("the package wrote it"), process(&vm));
    let script = place.script(&place.setup().flag("--target", "ssh"));
    let secret = file_of_secrets(&place.home);
    let said = run_well(&vm, &script, Some(&secret.text));
    assert!(said.contains("concurrent = 1 in /etc/gitlab-runner/config.toml"), "{said}");
    let after = vm.read(CONFIG).expect("it is there");
    assert!(after.starts_with(&before) && entries(&vm).len() == 1, "{after}");
    assert_eq!((process(&vm), user(&vm)), (service, "root".to_owned()));
    assert!(!vm.path(UNIT).exists());
    asks(&vm, &place, place.runner().0, &secret.tokens[0]);
}
