//! The way back on a machine that lives on: what the launch script brought is gone, what was there is as it
//! was.

use std::fs;

use super::super::vm::Vm;
use super::super::vm::beds::{Beds, VERSION};
use super::super::vm::roots::Root;
use super::place::{DEPLOYMENT, Place, entries, secrets};

/// Lists a machine's disk: packages and their states, each folder, and each file with its content. Not what
/// is another at any time: devices, logs, temporary files, what systemd, cloud-init and dpkg keep of
/// themselves, and root's home, where the lists go.
///
/// Apt leaves: the lists of its last update (until the next), its caches, which packages somebody asked for
/// (`extended_states`). The tools for users leave the last but one of their files (`/etc/passwd-`).
pub const LIST: &str = "{
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n'
find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
-o -path /root -o -path /var/log -o -path /var/lib/cloud -o -path /var/lib/systemd -o -path /var/lib/dpkg \
-o -path /var/lib/apt -o -path /var/cache -o -path /usr/share/doc \\) -prune \
-o ! -path '/etc/passwd-' ! -path '/etc/shadow-' ! -path '/etc/group-' ! -path '/etc/gshadow-' ! -path '/etc/.pwd.lock' \
\\( -type f -size -4000k -exec sha256sum {} + -o ! -type f -printf '%y %p %l\\n' -o -printf 'large %p\\n' \\) \
-o -printf ''
find /etc /home /usr/local -printf '%M %u %g %p\\n' | grep -v '/etc/\\(passwd\\|shadow\\|group\\|gshadow\\)-\\|/etc/.pwd.lock'
find /var/cache/apt/archives -name '*runner*'
} 2>/dev/null | sort";

/// How the launch script installs, and what happens before the way back.
struct Way {
    root: Root,
    method: &'static str,
    /// The power fails when the way back has just removed the package.
    cut: bool,
}

/// Real cloud-init, real apt; the package and its helper images.
pub fn apt(beds: &Beds) {
    there_and_back(beds, &Way { root: Root::Bookworm, method: "apt", cut: false });
}

/// With the empty package in the place of the helper images, and both held.
pub fn slim(beds: &Beds) {
    there_and_back(beds, &Way { root: Root::Trixie, method: "apt-slim", cut: true });
}

/// The plain binary and its unit.
pub fn binary(beds: &Beds) {
    there_and_back(beds, &Way { root: Root::Bookworm, method: "binary", cut: false });
}

/// The way back of the deployment.
fn uninstall(place: &Place) -> String {
    place.command("launch-script").arg("--uninstall").run().code(0).stdout()
}

/// Runs it on a machine, as a person would; returns what it says.
fn run(vm: &Vm, script: &str) -> String {
    vm.write("/root/uninstall.sh", script);
    vm.sh("sh /root/uninstall.sh || { cat /var/log/outrigger-*.log /var/lib/outrigger/*.json >&2; exit 1; }")
}

/// The lines of one list that the other has not.
pub fn differences(before: &str, after: &str) -> Vec<String> {
    let only = |sign: &str, these: &str, those: &str| -> Vec<String> {
        let those: std::collections::BTreeSet<_> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    [only("-", before, after), only("+", after, before)].concat()
}

/// A machine of its own, listed in the last moment before the launch script, and after the way back.
fn there_and_back(beds: &Beds, way: &Way) {
    let place = Place::new(beds);
    let mut setup = place.setup().flag("--install-method", way.method).arg("--lock-metadata");
    if way.method == "binary" {
        let binary = format!("{}/v{VERSION}/binaries/gitlab-runner-linux-amd64", place.apt.binary_url());
        let sha256 = beds.repository.binary_sha256(VERSION);
        setup = setup.flag("--binary-url", binary).flag("--binary-sha256", sha256);
    }
    let script = place.script(&setup);
    let undo = uninstall(&place);
    let vm = beds.vm(way.root);
    place.connect(&vm);
    vm.write("/root/list.sh", LIST);
    vm.boot(format!("#!/bin/sh\nsh /root/list.sh >/root/before\n{script}").as_bytes());
    assert_eq!(vm.outcome(DEPLOYMENT)["result"], "ok", "{}", vm.evidence());
    let before = vm.read("/root/before").expect("it was listed");
    assert!(before.lines().count() > 1_000 && before.contains(" /etc/passwd\n"), "{before}");
    let between = differences(&before, &vm.sh("sh /root/list.sh"));
    for made in [
        "/usr/",
        "gitlab-runner.service",
        "/etc/gitlab-runner/config.toml",
        "/var/lib/outrigger/",
        " /etc/passwd",
    ] {
        assert!(
            between.iter().any(|line| line.starts_with('+') && line.contains(made)),
            "{made}: {between:#?}"
        );
    }
    // Nothing that root reads belongs to the service's user, but for its own directory.
    let owned = vm.sh("find /etc /usr/local /var/lib/outrigger ! -user root ! -path '/etc/gitlab-runner*'");
    assert_eq!(owned, "");

    if way.cut {
        vm.sh("systemctl stop gitlab-runner; apt-mark unhold gitlab-runner; apt-get -qy purge gitlab-runner; rm /etc/gitlab-runner/config.toml");
    }
    let said = run(&vm, &undo);
    assert!(said.contains("gitlab-runner and all that came with it are gone"), "{said}");
    let left = differences(&before, &vm.sh("sh /root/list.sh"));
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(
        vm.sh(
            "systemctl list-unit-files --no-legend 'gitlab-runner*' || :; ps -C gitlab-runner -o args= || :"
        ),
        ""
    );
    assert_eq!(
        vm.sh("apt-mark showhold; ip route show type prohibit; ip -6 route show type prohibit; ls /var/log | grep outrigger || :"),
        ""
    );
    // What cloud-init keeps of user data is not ours to take; nothing else has a token.
    let secrets = secrets(&script);
    let words: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let mut holders = vm.files_with(&words);
    holders.retain(|(path, _)| !path.starts_with("/var/lib/cloud/") && !path.starts_with("/run/cloud-init/"));
    assert_eq!(holders, []);

    // Apt works on, and there is nothing left to do.
    vm.sh("apt-get -q update && apt-get check && dpkg --audit");
    let said = run(&vm, &undo);
    assert!(said.contains("nothing of acme is left"), "{said}");
    let left = differences(&before, &vm.sh("sh /root/list.sh"));
    assert!(left.is_empty(), "{left:#?}");
}

/// Somebody's configuration.
pub const THEIRS: &str = "# Ours since 2019, ask the platform team.\nconcurrent = 7   # enough\n\n[[runners]]\n  \
    name = \"shell of the team\" # do not touch\n  url = \"http://127.0.0.1:1\"\n  token = \"glrt-theirs-theirs-theirs\"\n  \
    executor = \"shell\"\n  [runners.custom_build_dir]\n\n\n";

/// Installs somebody's runner with [`THEIRS`] on a machine that is on.
pub fn install_theirs(beds: &Beds, place: &Place, vm: &Vm) {
    vm.write("/etc/apt/keyrings/theirs.asc", &beds.repository.key.armoured);
    let (url, codename) = (place.apt.apt_url(), vm.root().codename());
    let source = format!("deb [signed-by=/etc/apt/keyrings/theirs.asc] {url}/debian {codename} main\n");
    vm.write("/etc/apt/sources.list.d/theirs.list", source);
    vm.sh("mkdir -m 700 /etc/gitlab-runner");
    vm.write("/etc/gitlab-runner/config.toml", THEIRS);
    vm.sh(
        "chmod 600 /etc/gitlab-runner/config.toml; export DEBIAN_FRONTEND=noninteractive; apt-get -q update; \
           apt-get -qy --no-install-recommends install gitlab-runner",
    );
    vm.wait("their runner has a system id", || vm.path("/etc/gitlab-runner/.runner_system_id").exists());
    vm.write("/root/list.sh", LIST);
}

/// [`LIST`] of such a machine, with the process of their service.
pub fn list_with_theirs(vm: &Vm) -> String {
    let process =
        vm.sh("systemctl show -p MainPID -p ActiveEnterTimestampMonotonic -p DropInPaths gitlab-runner");
    format!("{process}\n{}", vm.sh("sh /root/list.sh; stat -c '%a %U %G' /etc/gitlab-runner/config.toml"))
}

/// A host with somebody else's runner: while ours is there and after it has gone their package, process and
/// files are the same.
pub fn shared(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup().flag("--target", "ssh"));
    let undo = uninstall(&place);
    let beside = fs::read(place.home.script(DEPLOYMENT).with_file_name("launch.sh.secrets"));
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot_idle();
    install_theirs(beds, &place, &vm);
    let list = || list_with_theirs(&vm);
    let before = list();

    vm.write("/root/launch.sh", &script);
    vm.write("/root/launch.sh.secrets", beside.expect("the secrets lie beside it"));
    vm.sh("sh /root/launch.sh /root/launch.sh.secrets || { cat /var/log/outrigger-*.log >&2; exit 1; }");
    assert_eq!(entries(&vm).len(), 2);
    vm.wait("the service asks for our jobs", || place.site.count("POST", "/jobs/request") > 0);
    let between = differences(&before, &list());
    let ours = ["/etc/gitlab-runner", "/var/lib/outrigger"];
    assert!(between.iter().all(|line| ours.iter().any(|path| line.contains(path))), "{between:#?}");
    assert!(between.iter().any(|line| line.contains("-ca.crt")), "{between:#?}");

    let said = run(&vm, &undo);
    assert!(said.contains("what else there is was not ours"), "{said}");
    assert_eq!(vm.read("/etc/gitlab-runner/config.toml").as_deref(), Some(THEIRS));
    let left = differences(&before, &list());
    assert!(left.is_empty(), "{left:#?}");
    run(&vm, &undo);
    let left = differences(&before, &list());
    assert!(left.is_empty(), "{left:#?}");
}
