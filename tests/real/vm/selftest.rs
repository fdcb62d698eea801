//! What the machines themselves must do for the trials that rely on them.

use super::VmTrial;
use super::vm::beds::Beds;
use super::vm::lightsail;
use super::vm::roots::Root;

/// The trials of this file.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("user_data_on_bookworm", |beds| user_data(beds, Root::Bookworm)),
    ("user_data_on_trixie", |beds| user_data(beds, Root::Trixie)),
    ("user_data_on_the_small_root", |beds| user_data(beds, Root::Small)),
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
    let started = std::time::Instant::now();
    vm.boot(&lightsail(SCRIPT));
    vm.wait_cloud_init();
    println!("{root:?} {:?}", started.elapsed());
    let once = "user root\nshell /usr/bin/dash\ninput /dev/null\nsystem starting\ninit systemd\n";
    assert_eq!(vm.read("/root/notes").as_deref(), Some(once), "{}", vm.evidence());
    assert!(vm.cloud_init_output().contains("said on the console"), "{}", vm.evidence());
    assert!(vm.journal().contains("said on the console"), "{}", vm.evidence());
    let machine = vm.sh("cat /etc/machine-id");

    println!("{root:?} {:?}", started.elapsed());
    vm.shut_down();
    println!("{root:?} shut {:?}", started.elapsed());
    vm.switch_on();
    vm.wait_cloud_init();
    println!("{root:?} again {:?}", started.elapsed());
    assert_eq!(vm.read("/root/notes").as_deref(), Some(once), "the same instance: {}", vm.evidence());

    vm.cut_power();
    vm.boot(&lightsail(SCRIPT));
    vm.wait_cloud_init();
    println!("{root:?} third {:?}", started.elapsed());
    assert_eq!(vm.read("/root/notes"), Some(once.repeat(2)), "a new instance: {}", vm.evidence());
    assert_eq!(vm.sh("cat /etc/machine-id"), machine);
}
