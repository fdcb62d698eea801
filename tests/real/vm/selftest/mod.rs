//! What the machines themselves must do for the trials that rely on them.

pub mod killed;
pub mod lightsail;
pub mod network;
pub mod packages;
pub mod runners;
pub mod ssh;

use std::collections::BTreeSet;
use std::fs;

use super::VmTrial;
use super::vm::beds::Beds;
use super::vm::roots::Root;
use super::vm::user_data::lightsail;
use super::vm::{Vm, run};

/// The trials of this folder that need nothing but the roots.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("bed_user_data_on_bookworm", |beds| user_data(beds, Root::Bookworm)),
    ("bed_user_data_on_trixie", |beds| user_data(beds, Root::Trixie)),
    ("bed_user_data_on_the_small_root", |beds| user_data(beds, Root::Small)),
    ("bed_watch_sees_arguments_and_environments", watch),
    ("bed_files_with_a_word", files_with),
    ("bed_disk_is_full", disk_is_full),
    ("bed_nothing_is_left", nothing_is_left),
    ("bed_nothing_is_left_of_a_killed_run", killed::nothing_is_left),
    ("bed_network_port_by_port", network::port_by_port),
    ("bed_network_cuts_what_is_open", network::cuts_what_is_open),
    ("bed_network_leads_to_the_doubles", network::leads_to_the_doubles),
    ("bed_ssh_lets_in_on_bookworm", ssh::lets_in_on_bookworm),
    ("bed_ssh_lets_in_on_trixie", ssh::lets_in_on_trixie),
    ("bed_ssh_fails_on_bookworm", ssh::fails_on_bookworm),
    ("bed_ssh_fails_on_trixie", ssh::fails_on_trixie),
    ("bed_ssh_cuts_a_connection", ssh::cuts),
    ("bed_ssh_has_an_address_of_its_own", ssh::has_an_address_of_its_own),
    ("bed_ssh_reads_a_hostile_home", ssh::reads_a_hostile_home),
    ("bed_lightsail_lets_in_on_bookworm", lightsail::lets_in_on_bookworm),
    ("bed_lightsail_lets_in_on_trixie", lightsail::lets_in_on_trixie),
    ("bed_lightsail_has_a_firewall", lightsail::firewall),
    ("bed_lightsail_has_other_host_keys", lightsail::other_host_keys),
    ("bed_lightsail_is_as_it_is_told", lightsail::is_as_it_is_told),
    ("bed_lightsail_by_the_interface", lightsail::by_the_interface),
    ("bed_lightsail_deleted_while_it_starts", lightsail::deleted_while_it_starts),
    ("bed_apt_fills_the_small_root", packages::fills_the_small_root),
];

/// Notes who it is run by, and how.
const SCRIPT: &str = "#!/bin/bash
{
  echo \"user $(id -un)\"
  echo \"shell $(readlink /proc/$$/exe)\"
  echo \"input $(readlink /proc/$$/fd/0)\"
  echo \"system $(systemctl is-system-running)\"
  echo \"init $(cat /proc/1/comm)\"
} >>/root/notes
echo 'said on the console'
";

/// What a launch script can rely on: it runs as root, once for each instance, under dash whatever its
/// first line says, without input, while the system is still starting.
fn user_data(beds: &Beds, root: Root) {
    let vm = beds.vm(root);
    vm.boot(&lightsail(SCRIPT));
    vm.wait_cloud_init();
    let once = "user root\nshell /usr/bin/dash\ninput /dev/null\nsystem starting\ninit systemd\n";
    assert_eq!(vm.read("/root/notes").as_deref(), Some(once), "{}", vm.evidence());
    assert!(vm.cloud_init_output().contains("said on the console"), "{}", vm.evidence());
    assert!(vm.journal().contains("said on the console"), "{}", vm.evidence());
    let machine = vm.sh("cat /etc/machine-id");

    vm.shut_down();
    vm.switch_on();
    vm.wait_cloud_init();
    assert_eq!(vm.read("/root/notes").as_deref(), Some(once), "the same instance: {}", vm.evidence());

    vm.cut_power();
    vm.boot(&lightsail(SCRIPT));
    vm.wait_cloud_init();
    assert_eq!(vm.read("/root/notes"), Some(once.repeat(2)), "a new instance: {}", vm.evidence());
    assert_eq!(vm.sh("cat /etc/machine-id"), machine);
    vm.sh("systemctl is-system-running --wait | grep -x running");
}

/// A watch sees what is in a process list for a moment, and nothing else.
fn watch(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    vm.boot(b"#!/bin/sh\nword=canary-in-environment sleep 1\nsh -c 'sleep 1' canary-in-arguments\n");
    let wanted = vm.watch(&["canary-in-arguments", "canary-in-environment"]);
    let unwanted = vm.watch(&["canary-nowhere"]);
    vm.wait_cloud_init();
    assert!(unwanted.seen() > 50, "a boot has more processes than {}", unwanted.seen());
    let found = wanted.end().join("\n");
    assert!(found.contains("canary-in-arguments") && found.contains("canary-in-environment"), "{found}");
    assert_eq!(unwanted.end(), Vec::<String>::new());
}

/// A word is found wherever a machine has put it, on the disk or in memory, and with whom may read it.
fn files_with(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    vm.boot(
        b"#!/bin/sh\nmkdir /run/secrets\necho canary-word >/run/secrets/one\nchmod 640 /run/secrets/one\n",
    );
    vm.wait_cloud_init();
    let found = vm.files_with(&["canary-word"]);
    let has = |path: &str, mode| found.contains(&(path.to_owned(), mode));
    let user_data = format!("/var/lib/cloud/instances/i-{}-1/user-data.txt", vm.name());
    assert!(has("/run/secrets/one", 0o640) && has(&user_data, 0o600), "{found:?}");
    assert_eq!(vm.files_with(&["canary-nowhere"]), Vec::new());
}

/// A disk has the room that it was given: the machine boots, and then there is no more.
fn disk_is_full(beds: &Beds) {
    let vm = beds.vm_with_disk(Root::Bookworm, 48 << 20);
    vm.boot(b"#!/bin/sh\nhead -c 64M /dev/zero >/root/zero\necho \"code $?\"\n");
    vm.wait_cloud_init();
    let output = vm.cloud_init_output();
    assert!(output.contains("No space left on device") && output.contains("code 1"), "{}", vm.evidence());
    assert!(vm.path("/root/zero").metadata().is_ok_and(|file| file.len() > 1 << 20), "{}", vm.evidence());
}

/// What a machine keeps alive or leaves outside of its folder.
struct Belongings {
    init: i32,
    namespaces: BTreeSet<String>,
    lock: String,
}

impl Belongings {
    /// Those of a machine that is on.
    fn of(vm: &Vm) -> Self {
        let init = vm.init().expect("it is on");
        let namespaces = ["net", "pid", "mnt", "uts", "cgroup"].map(|kind| {
            let link = fs::read_link(format!("/proc/{init}/ns/{kind}")).expect("it is on");
            link.display().to_string()
        });
        let lock = run::lock_of(&vm.disk()).expect("the disk is mounted");
        Self { init, namespaces: namespaces.into(), lock }
    }

    /// Which of those that there were `before` there are still. The number of a namespace that is gone is given to the
    /// next one on this machine, so who is in it by now does not count.
    fn left_of(&self, before: &[String]) -> Vec<String> {
        self.left().into_iter().filter(|line| before.contains(line)).collect()
    }

    /// Which of them there are, a line each.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let spaces = fs::read_dir(process.path().join("ns")).into_iter().flatten().flatten();
            let links = spaces.filter_map(|space| fs::read_link(space.path()).ok());
            for link in links.filter(|link| self.namespaces.contains(&*link.to_string_lossy())) {
                left.push(format!("{} in {}", process.path().display(), link.display()));
            }
        }
        if fs::metadata(&self.lock).is_ok() {
            left.push(self.lock.clone());
        }
        left
    }
}

/// A machine that goes takes all with it, whether it was shut down or not.
fn nothing_is_left(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    vm.boot_idle();
    let (group, belongings) = (vm.group(), Belongings::of(&vm));
    let init = belongings.init;
    vm.sh("systemd-run --unit=lingers sleep infinity");
    assert!(run::traces(&group).len() > 4, "{:?}", run::traces(&group));
    let before = belongings.left();
    assert!(before.len() > 4, "{before:?}");
    drop(vm);
    assert_eq!(run::traces(&group), Vec::<String>::new());
    assert_eq!(belongings.left_of(&before), Vec::<String>::new());
    assert!(!fs::exists(format!("/proc/{init}")).expect("it can be asked"));
}
