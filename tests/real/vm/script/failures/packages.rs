//! What is to be installed is not what it was said to be.

use super::super::super::vm::beds::{Beds, VERSION};
use super::super::super::vm::roots::Root;
use super::super::place::Place;
use super::{boot_fails, has_runner, hasty, run_ends_well, run_fails};

/// Where the server of packages has the key.
const KEY: &str = "/gpgkey/gpg.key";

/// A SHA-256 of nothing that is served.
const OTHER_SHA256: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Another key than the one that was named is not trusted for a moment. The same script goes well as soon as
/// the right one is served, also by a server that fails twice at each of its parts.
pub fn wrong_key(beds: &Beds) {
    let place = Place::new(beds);
    let script = hasty(&place.script(&place.setup()));
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let (right, wrong) = (&beds.repository.key, &beds.repository.other_key);
    place.apt.answer(KEY, &*wrong.armoured);
    let words = ["the key of", KEY, &*wrong.fingerprint, &*right.fingerprint];
    boot_fails(&place, &vm, &script, "install", &words);
    let list = "/etc/apt/sources.list.d/outrigger-gitlab-runner.list";
    assert!(!vm.path(list).exists() && !has_runner(&vm));
    place.apt.answer(KEY, "<html>moved</html>");
    run_fails(&place, &vm, &script, "install", &[KEY, "holds no OpenPGP key"]);
    assert!(!vm.path(list).exists() && !has_runner(&vm));

    place.apt.answer(KEY, &*right.armoured);
    let parts = [KEY, "/debian/dists/", "runner/gitlab-runner/debian/dists/", "pool/bookworm/gitlab-runner_"];
    for part in parts {
        place.apt.fail(part, 2);
    }
    run_ends_well(&place, &vm, &script);
    let requests = place.apt.requests();
    for part in parts {
        let failed = requests.iter().filter(|line| line.contains(part) && line.ends_with(" 503")).count();
        assert!(failed >= 2, "{part}: {requests:#?}");
    }
}

/// A package that has another hash is not installed; a version that does not exist is named.
pub fn not_what_was_named(beds: &Beds) {
    let place = Place::new(beds);
    let again = || place.setup().flag("--reissue", "cluster,runner");
    let script = hasty(&place.script(&place.setup().flag("--deb-sha256", OTHER_SHA256)));
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let right = beds.repository.package_sha256(VERSION);
    let words = ["the SHA-256 of gitlab-runner_", &*right, OTHER_SHA256];
    boot_fails(&place, &vm, &script, "install", &words);
    assert!(!has_runner(&vm), "it is not to be installed");

    let script = hasty(&place.script(&again().flag("--runner-version", "19.4.9")));
    run_fails(&place, &vm, &script, "install", &["apt-get failed", "19.4.9-1", "gitlab-runner"]);
    assert!(!has_runner(&vm));

    let script = place.script(&again().flag("--deb-sha256", right));
    run_ends_well(&place, &vm, &script);
}

/// A binary that has another hash is not run, and a release that GitLab does not support is named.
pub fn wrong_binary_or_release(beds: &Beds) {
    let place = Place::new(beds);
    let path = format!("/gitlab-runner-downloads/v{VERSION}/binaries/gitlab-runner-linux-amd64");
    let url = format!("{}/v{VERSION}/binaries/gitlab-runner-linux-amd64", place.apt.binary_url());
    let right = beds.repository.binary_sha256(VERSION);
    let setup = place.setup().flag("--install-method", "binary").flag("--binary-url", url);
    let script = hasty(&place.script(&setup.flag("--binary-sha256", &*right)));
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);

    let release = vm.read("/usr/lib/os-release").unwrap_or_default();
    vm.write("/usr/lib/os-release", release.replace("=bookworm", "=buster"));
    let words = ["GitLab has no packages for debian/buster", "Debian from 11, Ubuntu from 18.04"];
    boot_fails(&place, &vm, &script, "install", &words);
    assert_eq!(place.apt.requests(), Vec::<String>::new(), "it asks for nothing before");

    vm.write("/usr/lib/os-release", release);
    place.apt.answer(&path, "#!/bin/sh\ntouch /root/was-run\n");
    run_fails(&place, &vm, &script, "install", &["the SHA-256 of gitlab-runner is ", &*right]);
    assert!(!has_runner(&vm) && !vm.path("/root/was-run").exists());

    let binary = beds.releases.iter().find(|it| it.version == VERSION).expect("it is built");
    place.apt.answer(&path, std::fs::read(&binary.binary).expect("it can be read"));
    run_ends_well(&place, &vm, &script);
    assert_eq!(vm.sh("command -v gitlab-runner"), "/usr/local/bin/gitlab-runner");
}
