//! The machine has no network yet, or never.

use super::super::super::vm::beds::Beds;
use super::super::super::vm::net::port_of;
use super::super::super::vm::roots::Root;
use super::super::super::vm::user_data::lightsail;
use super::super::place::Place;
use super::{boot_fails, ended_well, hasty, log};

/// Without any network the script says what it could not reach; where the network comes later than it, it
/// waits for that.
pub fn late_or_never(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let ports = [place.apt.port(), port_of(&place.cluster.url()), place.site.gitlab.port()];
    for port in ports {
        vm.network().refuse(port);
    }
    let mirror = format!("port {}", place.apt.port());
    boot_fails(&place, &vm, &hasty(&script), "install", &["curl failed", &mirror, "onnect"]);

    vm.cut_power();
    let attempts = || log(&vm).matches("curl failed, again in").count();
    let before = attempts();
    vm.boot(&lightsail(&script));
    vm.wait("a second attempt", || attempts() > before);
    for port in ports {
        vm.network().forward(port);
    }
    ended_well(&place, &vm);
}
