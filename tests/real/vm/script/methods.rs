//! The ways to install gitlab-runner, and the service that stands at the end of each.

use std::collections::BTreeSet;

use outrigger_doubles::cluster::{Action, Fault};

use super::super::vm::Vm;
use super::super::vm::apt::AptServer;
use super::super::vm::beds::{Beds, OTHER_VERSIONS, VERSION};
use super::super::vm::net::port_of;
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::look::{asks, is_well, job, journal, process, run_well, start_job, stops_gracefully};
use super::place::{DEPLOYMENT, Place, entries, secrets};

/// Makes a machine a runner at its first boot, by a method; returns the script.
fn install(beds: &Beds, root: Root, flags: impl Fn(&Place) -> Vec<[String; 2]>) -> Made {
    let place = Place::new(beds);
    let setup = flags(&place).iter().fold(place.setup(), |setup, [flag, value]| setup.flag(flag, value));
    let script = place.script(&setup);
    let vm = beds.vm(root);
    place.connect(&vm);
    // By another name than the runner's source, so that what is said of that one's origin is not of both.
    let sources = vm.read("/etc/apt/sources.list").expect("a machine has sources");
    vm.write("/etc/apt/sources.list", sources.replace("127.0.0.1", "localhost"));
    vm.boot(&lightsail(&script));
    is_well(&vm);
    assert_eq!(vm.outcome(DEPLOYMENT)["gitlab_runner"], VERSION);
    assert_eq!(entries(&vm).len(), 1);
    asks(&vm, &place, place.runner().0, &secrets(&script)[0]);
    hardened(&vm);
    Made { place, vm, script }
}

struct Made {
    place: Place,
    vm: Vm,
    script: String,
}

/// What the service must and must not be able to do, as the kernel and systemd see it.
pub fn hardened(vm: &Vm) {
    let show = |property: &str| vm.sh(&format!("systemctl show -P {property} gitlab-runner"));
    let pid = show("MainPID");
    let status = vm.read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        found.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let user = vm.sh("id -u outrigger");
    assert_ne!(user, "0");
    assert_eq!(field("Uid"), vec![user; 4], "{status}");
    assert_eq!(field("NoNewPrivs"), ["1"], "{status}");
    let arguments = vm.read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(
        arguments.contains("\0run\0--config\0/etc/gitlab-runner/config.toml\0")
            && arguments.contains("\0--service\0outrigger-")
            && !arguments.contains("--user"),
        "{arguments}"
    );
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}: {status}");
    }
    for (property, value) in [
        ("User", "outrigger"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("KillSignal", "3"),
        ("TimeoutStopUSec", "2h"),
        ("RestartUSec", "5s"),
    ] {
        assert_eq!(show(property), value, "{property}");
    }
    let denied = show("IPAddressDeny");
    // In any order.
    let denied: BTreeSet<_> = denied.split_whitespace().collect();
    assert_eq!(denied, BTreeSet::from(["169.254.169.254/32", "fd00:ec2::254/128"]));
    // As even root would find it in there.
    let inside = |script: &str| vm.sh(&format!("nsenter --target {pid} --mount sh -euc '{script}'"));
    for place in ["/etc", "/usr", "/var/lib", "/opt", "/var/log"] {
        let said = inside(&format!("touch {place}/probe 2>&1 || :"));
        assert!(said.contains("Read-only file system"), "{place}: {said}");
    }
    inside("touch /etc/gitlab-runner/probe; rm /etc/gitlab-runner/probe");
    vm.sh("touch /tmp/of-the-machine /root/of-the-machine");
    inside("! test -e /tmp/of-the-machine && ! test -e /root/of-the-machine");
    let shell = vm.sh("getent passwd outrigger | cut -d: -f7");
    assert_eq!(shell, "/usr/sbin/nologin");
    assert_eq!(vm.sh("stat -c '%U %a' /etc/gitlab-runner /etc/gitlab-runner/config.toml"), OWNED);
}

const OWNED: &str = "outrigger 700\noutrigger 600";

/// How apt's sources and their packages stand: the priority of GitLab's as a whole, and of a package.
fn priorities(vm: &Vm, apt: &AptServer) -> (String, Vec<String>) {
    let all = vm.sh("apt-cache policy");
    let source = all
        .lines()
        .find(|line| line.contains(&apt.apt_url()))
        .unwrap_or_else(|| panic!("GitLab's source is not there: {all}"));
    // That of Debian 13 has no packages, so it is not listed.
    let mirror = all.lines().find(|line| line.contains("http://localhost:"));
    let wanted = (vm.root().codename() == "bookworm").then_some("500");
    assert_eq!(mirror.and_then(|line| line.split_whitespace().next()), wanted, "as it was: {all}");
    let pinned = all.split_once("Pinned packages:").map(|(_, pinned)| pinned).unwrap_or_default();
    let mut pinned: Vec<String> = pinned
        .lines()
        .filter(|line| line.ends_with(" with priority 990"))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    pinned.sort();
    pinned.dedup();
    (source.split_whitespace().next().unwrap_or_default().to_owned(), pinned)
}

/// Whether a package of this name was fetched.
fn fetched(apt: &AptServer, name: &str) -> bool {
    let begin = format!("/{name}_");
    apt.requests().iter().any(|line| line.contains(&begin) && line.ends_with(".deb 200"))
}

fn upgrade(vm: &Vm) {
    vm.sh("DEBIAN_FRONTEND=noninteractive apt-get -qy upgrade && apt-get -q check && dpkg --audit");
}

/// A root with neither curl nor gpg nor certificates; and a later version, which comes by the usual upgrade.
pub fn apt(beds: &Beds) {
    let Made { place, vm, script } = install(beds, Root::Small, |_| vec![]);
    for name in ["curl", "gpg", "ca-certificates", "gitlab-runner", "gitlab-runner-helper-images"] {
        assert!(fetched(&place.apt, name), "{name}: {:?}", place.apt.requests());
    }
    let both = ["gitlab-runner", "gitlab-runner-helper-images"].map(str::to_owned);
    assert_eq!(priorities(&vm, &place.apt), ("-1".to_owned(), both.to_vec()));
    vm.sh("apt-get -q check && dpkg --audit");

    upgrade(&vm);
    assert!(vm.sh("gitlab-runner --version").contains(OTHER_VERSIONS[1]));
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active", "{}", vm.evidence());
    hardened(&vm);
    // The script asks for an older one, and is content.
    let service = process(&vm);
    run_well(&vm, &script, None);
    assert_eq!(vm.outcome(DEPLOYMENT)["gitlab_runner"], OTHER_VERSIONS[1]);
    assert_eq!(process(&vm), service);
}

/// Debian 13, whose apt checks signatures by another program.
pub fn apt_on_trixie(beds: &Beds) {
    let Made { place, vm, .. } = install(beds, Root::Trixie, |_| vec![]);
    assert_eq!(priorities(&vm, &place.apt).0, "-1");
    assert!(fetched(&place.apt, "gitlab-runner"), "{:?}", place.apt.requests());
}

/// Without the half gigabyte of helper images; the machine's packages are sound all the same.
pub fn apt_slim(beds: &Beds) {
    let slim = |_: &Place| vec![["--install-method", "apt-slim"].map(str::to_owned)];
    let Made { place, vm, script } = install(beds, Root::Small, slim);
    let service = process(&vm);
    assert!(fetched(&place.apt, "gitlab-runner") && !fetched(&place.apt, "gitlab-runner-helper-images"));
    assert_eq!(priorities(&vm, &place.apt), ("-1".to_owned(), vec!["gitlab-runner".to_owned()]));
    upgrade(&vm);
    vm.sh("DEBIAN_FRONTEND=noninteractive apt-get -qy dist-upgrade && apt-get -qy autoremove");
    assert!(vm.sh("gitlab-runner --version").contains(VERSION));
    assert_eq!(vm.sh("apt-mark showhold"), "gitlab-runner\ngitlab-runner-helper-images");
    assert_eq!(vm.sh("dpkg-query -W -f '${Version} ${Status}' gitlab-runner-helper-images"), HELD);
    assert!(!vm.path("/usr/lib/gitlab-runner/helper-images").exists());
    assert!(!fetched(&place.apt, "gitlab-runner-helper-images"), "{:?}", place.apt.requests());
    run_well(&vm, &script, None);
    assert_eq!(process(&vm), service);

    // A newer version comes by a newer script: to that the hold is no obstacle.
    let newer = place.setup().flag("--install-method", "apt-slim").flag("--runner-version", "19.5.0");
    run_well(&vm, &place.script(&newer), None);
    assert!(vm.sh("gitlab-runner --version").contains("19.5.0"));
    assert_eq!(vm.sh("apt-mark showhold"), "gitlab-runner\ngitlab-runner-helper-images");
    assert!(!fetched(&place.apt, "gitlab-runner-helper-images"), "{:?}", place.apt.requests());
    vm.sh("apt-get check && systemctl is-active gitlab-runner");
}

const HELD: &str = "19.4.1-1 hold ok installed";

/// The package is one whose hash was named.
pub fn deb_hash(beds: &Beds) {
    let hash = beds.repository.package_sha256(VERSION);
    let made = install(beds, Root::Bookworm, |_| vec![["--deb-sha256".to_owned(), hash.clone()]]);
    assert!(made.script.contains(&format!("sha256='{hash}'\n")), "{}", made.script);
    assert!(fetched(&made.place.apt, "gitlab-runner"));
}

/// The plain binary, where nothing comes from GitLab's apt repository.
pub fn binary(beds: &Beds) {
    let hash = beds.repository.binary_sha256(VERSION);
    let Made { place, vm, script } = install(beds, Root::Small, |place| {
        let url = format!("{}/v{VERSION}/binaries/gitlab-runner-linux-amd64", place.apt.binary_url());
        vec![
            ["--install-method".to_owned(), "binary".to_owned()],
            ["--binary-url".to_owned(), url],
            ["--binary-sha256".to_owned(), hash.clone()],
        ]
    });
    assert_eq!(vm.sh("command -v gitlab-runner"), "/usr/local/bin/gitlab-runner");
    assert!(vm.sh("sha256sum /usr/local/bin/gitlab-runner").starts_with(&hash));
    assert!(!vm.sh("dpkg-query -W").contains("gitlab-runner"));
    assert_eq!(vm.sh("ls /etc/apt/sources.list.d /etc/apt/preferences.d | grep outrigger || :"), "");
    let requests = place.apt.requests();
    assert!(!requests.iter().any(|line| line.contains("/runner/gitlab-runner/")), "{requests:?}");
    let service = process(&vm);
    run_well(&vm, &script, None);
    assert_eq!(place.apt.requests().len(), requests.len(), "nothing is fetched again");
    assert_eq!(process(&vm), service);
}

/// The service under its limits takes jobs, and on a stop lets them end first. What a job's pod needs is not
/// among this cluster's powers: the job waits for an answer, until it is told that there is none.
pub fn service(beds: &Beds) {
    let Made { place, vm, script } = install(beds, Root::Bookworm, |_| vec![]);
    place.cluster.clear_requests();
    place.cluster.inject(Fault::always("/selfsubjectaccessreviews", Action::Hang));
    let id = start_job(&place, "one:\n  tags: [k8s-runner]\n  script: [echo hello]\n");
    let by_us = format!("system:serviceaccount:{DEPLOYMENT}:{DEPLOYMENT}");
    vm.wait("a request to the cluster", || place.cluster.requests().iter().any(|it| it.user == by_us));
    let status = || job(&place, id)["status"].as_str().unwrap_or_default().to_owned();
    assert_eq!(status(), "running", "{}", place.site.gitlab.trace(id));

    let before = process(&vm);
    vm.sh("systemctl stop --no-block gitlab-runner");
    vm.wait("the signal", || stops_gracefully(&vm));
    assert_eq!(vm.sh("systemctl show -P ActiveState gitlab-runner"), "deactivating");
    assert_eq!((process(&vm), status()), (before, "running".to_owned()));
    vm.network().refuse(port_of(&place.cluster.url()));
    vm.wait("the end of the service", || vm.sh("systemctl show -P ActiveState gitlab-runner") == "inactive");
    // Of what befell the job, and not of the stop.
    let trace = place.site.gitlab.trace(id);
    assert_eq!(status(), "failed", "{trace}");
    assert!(trace.contains("connection refused") && !trace.contains("aborted"), "{trace}");
    assert_eq!(vm.sh("systemctl show -P Result gitlab-runner"), "success", "{}", journal(&vm));

    // The script starts it again; and an end that is no stop is followed by another start.
    run_well(&vm, &script, None);
    vm.sh("systemctl kill --signal=KILL gitlab-runner");
    vm.wait("another start", || vm.sh("systemctl show -P NRestarts gitlab-runner") == "1");
    asks(&vm, &place, place.runner().0, &secrets(&script)[0]);
}
