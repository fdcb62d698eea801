//! A bare machine becomes a runner.

use super::super::vm::beds::{Beds, VERSION};
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::place::{DEPLOYMENT, Place, entries, secrets};

/// Behind Lightsail's preamble, by real cloud-init and real apt: one entry, proven, and a service that runs.
pub fn bookworm(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot(&lightsail(&script));
    let outcome = vm.outcome(DEPLOYMENT);
    assert_eq!(
        outcome["result"],
        "ok",
        "{outcome}\n{}\n{}",
        vm.read("/var/log/outrigger-acme.log").unwrap_or_default(),
        vm.evidence()
    );
    assert_eq!(outcome["gitlab_runner"], VERSION);
    let entry = &entries(&vm)[0];
    assert_eq!(entries(&vm).len(), 1);
    assert_eq!(entry["token"].as_str(), Some(&*secrets(&script)[0]));
    assert_eq!(
        vm.sh("systemctl is-active gitlab-runner; systemctl is-enabled gitlab-runner"),
        "active\nenabled"
    );
    assert_eq!(vm.sh("ps -o user= -p \"$(systemctl show -p MainPID --value gitlab-runner)\""), "outrigger");
    assert_eq!(place.runner().1.len(), 1, "{:#?}", place.site.world());
}
