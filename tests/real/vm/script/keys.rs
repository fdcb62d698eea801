//! Keys that end or change, and sources of apt that are broken: our own is renewed first, and of others only
//! what is needed counts.

use super::super::vm::Vm;
use super::super::vm::beds::{Beds, OTHER_VERSIONS};
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::look::{is_well, run_well};
use super::methods::hardened;
use super::place::Place;

const KEYRING: &str = "/etc/apt/keyrings/outrigger-gitlab-runner.asc";
const THEIRS: &str = "/etc/apt/sources.list.d/theirs.list";

/// What `apt-get update` says where it must fail.
fn update_fails(vm: &Vm) -> String {
    let output = vm.exec(&["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(100), "{said}");
    said
}

/// The key that the machine has has ended; at GitLab its end was put off. Then a newer script comes.
fn extended(beds: &Beds, root: Root) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(root);
    place.connect(&vm);
    vm.boot(&lightsail(&script));
    is_well(&vm);
    vm.write(KEYRING, &beds.repository.ended_key);
    let said = update_fails(&vm);
    assert!(said.contains("EXPKEYSIG") || said.contains("xpired"), "{said}");
    newer(&place, &vm, &beds.repository.key.fingerprint);
    assert_eq!(vm.read(KEYRING), Some(beds.repository.key.armoured.clone()));
}

/// A script for a newer version, which must come to it; apt is sound afterwards.
fn newer(place: &Place, vm: &Vm, fingerprint: &str) {
    let newer = OTHER_VERSIONS[1];
    let setup = place.setup().flag("--runner-version", newer).flag("--key-fingerprint", fingerprint);
    let script = place.script(&setup.flag("--reissue", "cluster,runner"));
    run_well(vm, &script, None);
    assert!(vm.sh("gitlab-runner --version").contains(newer));
    vm.sh("apt-get -q -o APT::Update::Error-Mode=any update && apt-get -q check");
    hardened(vm);
}

pub fn extended_on_bookworm(beds: &Beds) {
    extended(beds, Root::Bookworm);
}

pub fn extended_on_trixie(beds: &Beds) {
    extended(beds, Root::Trixie);
}

/// GitLab signs by another key; the script of the new fingerprint does not stop at the old one.
pub fn changed(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot(&lightsail(&script));
    is_well(&vm);
    place.apt.answer(
        "/runner/gitlab-runner/debian/dists/bookworm/InRelease",
        beds.repository.signed_by_other(Root::Bookworm),
    );
    place.apt.answer("/gpgkey/gpg.key", &*beds.repository.other_key.armoured);
    let said = update_fails(&vm);
    assert!(said.contains("NO_PUBKEY"), "{said}");
    newer(&place, &vm, &beds.repository.other_key.fingerprint);
}

/// A host with sources of somebody's that are gone, are not signed, or are too old.
pub fn of_others(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Small);
    place.connect(&vm);
    vm.boot_idle();
    let port = place.apt.port();
    place.apt.answer(
        "/theirs/dists/old/Release",
        "Origin: theirs\nSuite: old\nCodename: old\nDate: Mon, 01 Jan 2024 00:00:00 UTC\n\
         Valid-Until: Tue, 02 Jan 2024 00:00:00 UTC\nComponents: main\nArchitectures: amd64\nSHA256:\n",
    );
    place.apt.answer("/theirs/dists/unsigned/Release", "Origin: theirs\nSuite: unsigned\nSHA256:\n");
    for (source, words) in [
        (format!("deb [trusted=yes] http://127.0.0.1:{port}/theirs gone main\n"), "404"),
        (format!("deb [trusted=yes] http://127.0.0.1:{port}/theirs old main\n"), "is expired"),
        (format!("deb http://127.0.0.1:{port}/theirs unsigned main\n"), "is not signed"),
    ] {
        vm.write(THEIRS, source);
        let said = update_fails(&vm);
        assert!(said.contains(words), "{words}: {said}");
    }
    let all = format!(
        "deb [trusted=yes] http://127.0.0.1:{port}/theirs gone main\n\
         deb [trusted=yes] http://127.0.0.1:{port}/theirs old main\n\
         deb http://127.0.0.1:{port}/theirs unsigned main\n"
    );
    vm.write(THEIRS, &all);
    let setup = place.setup().flag("--target", "ssh").flag("--secrets", "inline");
    let said = run_well(&vm, &place.script(&setup), None);
    assert!(said.contains("apt-get update failed, going on with what is known"), "{said}");
    hardened(&vm);
    assert_eq!(vm.read(THEIRS), Some(all), "it is theirs");
}
