//! Keys that end or change, and sources of apt that are broken: our own is renewed first, and of others only
//! what is needed counts.

use std::fs;

use outrigger::internal::hex;
use sha2::{Digest as _, Sha256};

use super::super::vm::Vm;
use super::super::vm::beds::{Beds, OTHER_VERSIONS};
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::failures::hasty;
use super::look::{is_well, run_badly, run_well};
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

/// Files with the right key and one of an attacker's, who signs the packages: gpg sees the first alone, apt took
/// both, in another form on each release.
fn crafted(beds: &Beds, root: Root) {
    let place = Place::new(beds);
    let script = hasty(&place.script(&place.setup()));
    let vm = beds.vm(root);
    place.connect(&vm);
    vm.boot_idle();
    let [right, wrong] = [&beds.repository.key, &beds.repository.other_key].map(|key| key.armoured.clone());
    let labelled = |label: &str| wrong.replace("PGP PUBLIC KEY BLOCK", label);
    let indented: String = wrong.lines().fold(String::new(), |text, line| text + " " + line + "\n");
    let release = format!("/runner/gitlab-runner/debian/dists/{}/InRelease", root.codename());
    place.apt.answer(&release, beds.repository.signed_by_other(root));
    let files = [
        format!("{right}{}", labelled("NOTES")),
        format!("{}{right}", labelled("NOTES")),
        format!("{right}{}", labelled("PGP MESSAGE")),
        format!("{}{right}", labelled("PGP MESSAGE")),
        format!("{}{right}", labelled("PGP SIGNATURE")),
        format!("{}{right}", labelled("PGP ARMORED FILE")),
        format!("{indented}{right}"),
        format!("{right}{indented}"),
        format!("{right}{wrong}"),
        format!("{wrong}{right}"),
    ];
    for file in &files {
        place.apt.answer("/gpgkey/gpg.key", &**file);
        let said = run_badly(&vm, &script, None);
        assert!(said.contains("FAILED in step install"), "{said}\n{file}");
        assert_eq!(vm.sh("command -v gitlab-runner || :"), "", "{file}");
        // If apt has a key at all it is the right one, and no more.
        if let Some(has) = vm.read(KEYRING) {
            assert_eq!(has, right, "{file}");
        }
    }
    // With the right signature such a file may do no harm, and the right one alone is enough.
    place.apt.answer("/gpgkey/gpg.key", &*right);
    let said = run_badly(&vm, &script, None);
    assert!(said.contains("FAILED in step install: apt-get failed") && said.contains("InRelease"), "{said}");
    let genuine = fs::read(beds.repository.files().join(&release[1..])).expect("it was built");
    place.apt.answer(&release, genuine);
    run_well(&vm, &script, None);
    assert_eq!(vm.read(KEYRING), Some(right));
    hardened(&vm);
}

pub fn crafted_on_bookworm(beds: &Beds) {
    crafted(beds, Root::Bookworm);
}

pub fn crafted_on_trixie(beds: &Beds) {
    crafted(beds, Root::Trixie);
}

/// How apt counts a package's source, by a part of its address.
fn priority(vm: &Vm, address: &str) -> Option<String> {
    let all = vm.sh("apt-cache policy");
    let line = all.lines().find(|line| line.contains(address))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// A mirror of the distribution, and a source of somebody's, are on the host that has GitLab's packages.
pub fn others_on_its_host(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Small);
    place.connect(&vm);
    vm.boot_idle();
    let candidate = |name: &str| vm.sh(&format!("apt-cache policy {name} | sed -n 's/^ *Candidate: //p'"));
    vm.sh("apt-get -q update");
    let before = candidate("curl");
    assert_ne!(before, "(none)");
    let script = place.script(&place.setup());
    run_well(&vm, &script, None);
    assert_eq!(candidate("curl"), before);
    assert_eq!(priority(&vm, &format!(":{}/debian ", place.apt.port())).as_deref(), Some("500"));
    assert_eq!(priority(&vm, "/runner/gitlab-runner/").as_deref(), Some("-1"));
    vm.sh("apt-get -q update && apt-get -qy --reinstall install curl");

    // One that says the same of itself cannot be told from it: then nothing is cut off, and the script says why.
    let packages = "Package: theirs\nVersion: 1\nArchitecture: all\nMaintainer: x\nFilename: x.deb\nSize: 1\nSHA256: 00\n\n";
    let hash = hex(&Sha256::digest(packages));
    place.apt.answer("/theirs/dists/same/main/binary-amd64/Packages", packages);
    place.apt.answer(
        "/theirs/dists/same/Release",
        format!(
            "Origin: runner/gitlab-runner/debian\nLabel: tests\nSuite: same\nCodename: same\nComponents: main\n\
             Architectures: amd64\nSHA256:\n {hash} {} main/binary-amd64/Packages\n",
            packages.len()
        ),
    );
    vm.write(THEIRS, format!("deb [trusted=yes] http://127.0.0.1:{}/theirs same main\n", place.apt.port()));
    let newer = place.setup().flag("--runner-version", OTHER_VERSIONS[1]).flag("--reissue", "cluster,runner");
    let said = run_badly(&vm, &place.script(&newer), None);
    assert!(said.contains("no Release file tells them from this one"), "{said}");
    assert_eq!(priority(&vm, "/theirs same/main").as_deref(), Some("500"));
    assert_eq!(candidate("curl"), before);
    vm.sh(&format!("rm {THEIRS}"));
    run_well(&vm, &place.script(&newer.flag("--reissue", "cluster,runner")), None);
    assert!(vm.sh("gitlab-runner --version").contains(OTHER_VERSIONS[1]));
}

/// A host with sources of somebody's that are gone, never answer, are not signed, or are too old.
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
         deb http://127.0.0.1:{port}/theirs unsigned main\n\
         deb [trusted=yes] http://127.0.0.1:9/theirs silent main\n"
    );
    vm.network().silence(9);
    vm.write(THEIRS, &all);
    // As on a new machine: nothing is known of any source.
    vm.sh("find /var/lib/apt/lists -type f -delete");
    let setup = place.setup().flag("--target", "ssh").flag("--secrets", "inline");
    let said = run_well(&vm, &place.script(&setup), None);
    assert!(said.contains("apt-get update failed, going on with what is known"), "{said}");
    hardened(&vm);
    assert_eq!(vm.read(THEIRS), Some(all), "it is theirs");
}

/// Where all that is needed is there, or comes from GitLab's source, no other is asked.
pub fn not_needed(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let sources = vm.read("/etc/apt/sources.list").expect("a machine has sources");
    vm.write("/etc/apt/sources.list", sources.replace("127.0.0.1", "localhost"));
    let port = place.apt.port();
    vm.write(THEIRS, format!("deb [trusted=yes] http://localhost:{port}/theirs not-needed main\n"));
    vm.boot(&lightsail(&script));
    is_well(&vm);
    let requests = place.apt.requests();
    let others = requests.iter().filter(|line| !line.contains(" /runner/") && !line.contains(" /gpgkey/"));
    assert_eq!(others.count(), 0, "{requests:#?}");
}
