//! The power goes off in the middle.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;

use super::super::super::vm::beds::Beds;
use super::super::super::vm::process::Process;
use super::super::super::vm::roots::Root;
use super::super::super::vm::user_data::lightsail;
use super::super::place::Place;
use super::{ended_well, ours, work};

/// What useradd reads.
const DEFAULTS: &str = "/etc/default/useradd";

/// While a package is being configured: what is half-made then is finished by the script when the machine
/// comes up as a new instance, with nothing left over of the first attempt.
pub fn cut(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    // The package makes a user; whoever reads the defaults for that from a pipe waits for ever.
    let defaults = vm.disk().join(&DEFAULTS[1..]);
    let text = fs::read(&defaults).expect("the root has it");
    let before = format!("rm {DEFAULTS}\nmkfifo {DEFAULTS}\n");
    vm.boot(&lightsail(&(before + &script)));
    let configuring = || {
        let is = |process: &Process| process.argv.first().is_some_and(|word| word == "useradd");
        vm.path(DEFAULTS).metadata().is_ok_and(|file| file.file_type().is_fifo())
            && vm.processes().iter().any(is)
    };
    vm.wait("the configuration of the package", configuring);
    vm.cut_power();
    let left = (ours(&vm).len(), work(&vm).len(), place.managers().len());
    assert_eq!(left, (0, 1, 0), "{:?} {:?}", ours(&vm), work(&vm));

    fs::remove_file(&defaults).and_then(|()| fs::write(&defaults, text)).expect("the disk can be written");
    vm.boot(&lightsail(&script));
    ended_well(&place, &vm);
}
