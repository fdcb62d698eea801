//! Somebody else is installing packages.

use std::os::unix::fs::symlink;

use super::super::super::vm::beds::Beds;
use super::super::super::vm::roots::Root;
use super::super::place::Place;
use super::{SCRIPT, boot_fails, ended_well, hasty, log};

/// Takes dpkg's lock as apt and dpkg do, says so to systemd, and keeps it.
const HOLDER: &str = "import fcntl, os, signal, socket
lock = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
signal.pause()
";

/// Has it before user data are run.
const UNIT: &str = "[Unit]
Before=cloud-final.service

[Service]
Type=notify
ExecStart=/usr/bin/python3 /root/holder.py

[Install]
WantedBy=multi-user.target
";

/// Held past the limit it is named; released in time it is no failure.
pub fn held(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.write("/root/holder.py", HOLDER);
    vm.write("/etc/systemd/system/holder.service", UNIT);
    let wanted = vm.path("/etc/systemd/system/multi-user.target.wants/holder.service");
    symlink("/etc/systemd/system/holder.service", wanted).expect("the disk can be written");
    boot_fails(
        &place,
        &vm,
        &hasty(&script),
        "install",
        &["apt-get failed", "/var/lib/dpkg/lock-frontend", "is another process using it"],
    );

    assert_eq!(vm.sh("systemctl is-active holder"), "active");
    let waits = || log(&vm).matches("Waiting for cache lock").count();
    let attempts = || log(&vm).matches("apt-get failed, again in").count();
    let before = waits();
    let failed = attempts();
    vm.write(SCRIPT, script);
    vm.sh(&format!("systemd-run --unit=launch --property=Type=exec --remain-after-exit sh {SCRIPT}"));
    vm.wait("apt waits for the lock", || waits() > before);
    vm.sh("systemctl stop holder");
    vm.wait("the end of the script", || {
        let state = vm.sh("systemctl show -P SubState launch");
        state == "exited" || state == "failed"
    });
    assert_eq!(vm.sh("systemctl show -P ExecMainStatus launch"), "0", "{}", log(&vm));
    assert_eq!(attempts(), failed, "apt itself has waited, and got it: {}", log(&vm));
    ended_well(&place, &vm);
}
