//! Packages come to a machine by real apt, from signed lists only.

use super::super::VmTrial;
use super::super::vm::Vm;
use super::super::vm::apt::AptServer;
use super::super::vm::beds::{Beds, OTHER_VERSIONS, VERSION};
use super::super::vm::roots::Root;
use super::super::vm::signing::Key;

/// The trials of this file that need gitlab-runner.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("bed_apt_installs_on_bookworm", |beds| installs(beds, Root::Bookworm)),
    ("bed_apt_installs_on_trixie", |beds| installs(beds, Root::Trixie)),
    ("bed_apt_refuses_the_wrong_key", |beds| {
        refuses_the_wrong_key(beds, Root::Bookworm);
        refuses_the_wrong_key(beds, Root::Trixie);
    }),
    ("bed_apt_fails_when_told", fails_when_told),
];

/// Adds GitLab's repository to a machine, as signed by a key.
fn add_source(vm: &Vm, apt: &AptServer, key: &Key) {
    vm.write("/etc/apt/keyrings/runner.asc", &key.armoured);
    let (url, codename) = (apt.apt_url(), vm.root().codename());
    let line = format!("deb [signed-by=/etc/apt/keyrings/runner.asc] {url}/debian {codename} main\n");
    vm.write("/etc/apt/sources.list.d/runner.list", line);
}

/// The package, the version asked for, with what it does at installation.
fn installs(beds: &Beds, root: Root) {
    let vm = beds.vm(root);
    let apt = beds.apt();
    apt.serve(&vm);
    add_source(&vm, &apt, &beds.repository.key);
    vm.boot_idle();
    vm.sh("apt-get -q update");
    let install = |version: &str| {
        let packages = format!("gitlab-runner={version}-1 gitlab-runner-helper-images={version}-1");
        vm.sh(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install {packages}"
        ));
        vm.sh("gitlab-runner --version")
    };
    assert!(install(VERSION).contains(VERSION));
    assert_eq!(
        vm.sh("systemctl is-active gitlab-runner; systemctl is-enabled gitlab-runner"),
        "active\nenabled"
    );
    assert_eq!(vm.sh("stat -c '%a %U' /etc/gitlab-runner"), "700 root");
    assert_eq!(vm.sh("getent passwd gitlab-runner | cut -d: -f6,7"), "/home/gitlab-runner:/bin/bash");
    let listed = vm.sh("apt-cache madison gitlab-runner");
    for release in &beds.releases {
        assert!(listed.contains(&format!("{}-1", release.version)), "{listed}");
    }
    for version in OTHER_VERSIONS {
        vm.sh("apt-get -qy remove gitlab-runner gitlab-runner-helper-images");
        assert!(install(version).contains(version));
    }
    let served = apt.requests();
    assert!(
        served.iter().any(|line| line.contains(&format!("gitlab-runner_{VERSION}-1_amd64.deb 200"))),
        "{served:?}"
    );
}

/// Lists that another key has signed are not used, and nothing can be installed from them.
fn refuses_the_wrong_key(beds: &Beds, root: Root) {
    let vm = beds.vm(root);
    let apt = beds.apt();
    apt.serve(&vm);
    add_source(&vm, &apt, &beds.repository.other_key);
    vm.boot_idle();
    let update = vm.exec(&["apt-get", "-q", "update"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&update.stdout), String::from_utf8_lossy(&update.stderr));
    assert!(!update.status.success() && said.contains("is not signed"), "{said}");
    let install = vm.exec(&["apt-get", "-qy", "install", "gitlab-runner"]);
    assert_eq!(install.status.code(), Some(100), "{install:?}");

    // The same machine with the right one: it was the key.
    add_source(&vm, &apt, &beds.repository.key);
    vm.sh("apt-get -q update && apt-get -q --simulate install gitlab-runner");
}

/// What the small root lacks comes from the distribution's mirror.
pub fn fills_the_small_root(beds: &Beds) {
    let vm = beds.vm(Root::Small);
    let apt = beds.apt();
    apt.serve(&vm);
    vm.boot_idle();
    vm.sh("! command -v curl && ! command -v gpg && ! command -v openssl && [ ! -e /etc/ssl/certs/ca-certificates.crt ]");
    vm.sh("apt-get -q update && apt-get -qy --no-install-recommends install curl gpg ca-certificates");
    vm.sh("test -s /etc/ssl/certs/ca-certificates.crt");
    vm.sh(&format!("curl -fsS -o /root/key {}", apt.key_url()));
    let keys = vm.sh("gpg --batch --show-keys --with-colons /root/key");
    assert!(keys.contains(&beds.repository.key.fingerprint), "{keys}");
    vm.sh("apt-get check && dpkg --audit && apt-get -qy --no-install-recommends install gnupg");
}

/// The server fails as often as it is told to, and tells what it was asked for.
fn fails_when_told(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    let apt = beds.apt();
    apt.serve(&vm);
    vm.boot_idle();
    let binary = format!("{}/v{VERSION}/binaries/gitlab-runner-linux-amd64", apt.binary_url());
    let fetch = |url: &str| vm.exec(&["curl", "-fsS", "-o", "/root/file", url]).status.code();
    apt.fail("/gpgkey/", 2);
    assert_eq!([(); 3].map(|()| fetch(&apt.key_url())), [Some(22), Some(22), Some(0)]);
    assert_eq!(fetch(&binary), Some(0));
    assert!(vm.sh("sha256sum /root/file").starts_with(&beds.repository.binary_sha256(VERSION)));
    apt.answer("/gpgkey/gpg.key", "something else");
    assert_eq!((fetch(&apt.key_url()), vm.sh("cat /root/file")), (Some(0), "something else".to_owned()));
    apt.set_down(true);
    assert_eq!(fetch(&binary), Some(52));
    apt.set_down(false);
    assert_eq!(fetch(&format!("{binary}-of-nobody")), Some(22));
    let key = |code| format!("GET /gpgkey/gpg.key {code}");
    let file =
        |code| format!("GET /gitlab-runner-downloads/v{VERSION}/binaries/gitlab-runner-linux-amd64 {code}");
    assert_eq!(apt.requests()[..6], [key(503), key(503), key(200), file(200), key(200), file(0)]);
}
