//! There is no room left on the disk.

use super::super::super::vm::Vm;
use super::super::super::vm::beds::Beds;
use super::super::super::vm::roots::Root;
use super::super::place::{DEPLOYMENT, Place, entries, secrets};
use super::{ETC, SCRIPT, boot_fails, failed, hasty, log, run_ends_well, says, work};

/// What takes the room on a disk before a machine is switched on, and later.
const ZERO: &str = "/var/zero";
const MORE: &str = "/var/more";

/// No room for the packages; then none at all; then some, but not enough for the configuration. It goes well
/// as soon as there is.
pub fn full(beds: &Beds) {
    let place = Place::new(beds);
    let script = hasty(&place.script(&place.setup()));
    let vm = beds.vm_with_disk(Root::Bookworm, 192 << 20);
    place.connect(&vm);
    // There is room for the package of 21 MB, and not for the 62 MB that are in it.
    vm.write(ZERO, vec![0; 152 << 20]);
    boot_fails(&place, &vm, &script, "install", &["apt-get failed", "No space left on device"]);

    // Where even a status has no room, its last words are on the console.
    let words = "FAILED in step start: the disk is full";
    assert_run_says(&vm, &script, 0, words);
    assert_eq!(vm.read(&status()), None, "no status is better than a cut one");

    vm.sh(&format!("rm {ZERO} {MORE}"));
    vm.network().refuse(place.site.gitlab.port());
    assert_run_says(&vm, &script, 112 << 20, "FAILED in step prove-gitlab");
    vm.network().forward(place.site.gitlab.port());
    assert_run_says(&vm, &script, 2 << 12, "FAILED in step config: the disk is full");
    failed(&place, &vm, "config", &["the disk is full"]);

    vm.sh(&format!("rm {MORE}"));
    run_ends_well(&place, &vm, &script);
}

/// The disk becomes full before a change: the entry that was there stays, and works.
pub fn full_at_a_change(beds: &Beds) {
    let place = Place::new(beds);
    let first = place.script(&place.setup());
    let vm = beds.vm_with_disk(Root::Bookworm, 160 << 20);
    place.connect(&vm);
    vm.boot_idle();
    run_ends_well(&place, &vm, &first);
    let config = || vm.read(&format!("{ETC}/config.toml"));
    let before = config();

    let setup = place.setup().flag("--image", "debian:12").flag("--reissue", "cluster,runner");
    let second = hasty(&place.script(&setup));
    assert_run_says(&vm, &second, 1 << 12, "FAILED in step config");
    says(&vm, "config", &["No space left on device"]);
    assert_eq!((config(), work(&vm)), (before, Vec::new()));
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active");

    vm.sh(&format!("rm {MORE}"));
    run_ends_well(&place, &vm, &second);
    assert_eq!(entries(&vm)[0]["token"].as_str(), Some(&*secrets(&second)[0]));
}

/// Runs the script with so many bytes left on the disk; it must fail, with these words on the console.
fn assert_run_says(vm: &Vm, script: &str, bytes: u64, words: &str) {
    vm.write(SCRIPT, script);
    // A log of its own: how much room there is in the last block of an old one is chance.
    vm.sh(&format!("rm -f /var/log/outrigger-{DEPLOYMENT}.log {MORE}; cat /dev/zero >{MORE} || :"));
    vm.sh(&format!("truncate -s -{bytes} {MORE}"));
    let output = vm.exec(&["sh", SCRIPT]);
    assert_eq!(output.status.code(), Some(1), "{output:?}\n{}", log(vm));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(words), "{said}\n{}", log(vm));
}

fn status() -> String {
    format!("/var/lib/outrigger/{DEPLOYMENT}.json")
}
