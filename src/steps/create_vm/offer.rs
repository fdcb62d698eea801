//! What the account's region offers, and what is taken of it.

use crate::base::error::{Failure, Id, Result};
use crate::deployment::record::Vm;
use crate::machine::lightsail::{Blueprint, Bundle, Region};
use crate::settings::Settings;

/// The images that are taken without `--vm-image`, the first one that the region offers.
const IMAGES: &[&str] = &["ubuntu_24_04", "debian_12", "debian_13", "ubuntu_22_04"];
/// GB of memory of a VM, at least: an update of packages beside four jobs' traffic.
const LEAST: f64 = 1.0;

/// What the account's region offers for the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub(super) zone: String,
    pub(super) image: String,
    pub(super) size: String,
    /// GB.
    pub(super) ram: f64,
    /// US cents a month.
    pub(super) cents: u64,
}

/// Chooses zone, image and size; fails with OR0362 (exit 3) for one that is not there.
pub(super) fn offer(
    settings: &Settings,
    noted: Option<&Vm>,
    region: &str,
    regions: &[Region],
    bundles: &[Bundle],
    blueprints: &[Blueprint],
) -> Result<Offer> {
    let lack = |what: String, choices: Vec<&str>| {
        let failure = Failure::new(Id::NotOffered, what);
        if choices.is_empty() { failure } else { failure.detail("it offers", choices.join(", ")) }
    };
    let asked = |given: &Option<crate::settings::Sourced<String>>, noted: Option<&String>| {
        given.as_ref().map(|given| given.value.clone()).or_else(|| noted.cloned())
    };
    let mut zones: Vec<&str> = regions
        .iter()
        .filter(|one| one.name == region)
        .flat_map(|one| &one.zones)
        .filter(|zone| zone.state == "available")
        .map(|zone| zone.name.as_str())
        .collect();
    zones.sort_unstable();
    let zone = match asked(&settings.vm_zone, noted.map(|vm| &vm.zone)) {
        Some(zone) if zones.contains(&zone.as_str()) => zone,
        Some(zone) => {
            return Err(lack(format!("{region} has no available zone {zone}"), zones)
                .hint("choose one: --vm-zone ZONE"));
        }
        None => {
            let names = || regions.iter().map(|one| one.name.as_str()).collect();
            let none = || lack(format!("Lightsail has no available zone in {region}"), names());
            let first =
                zones.first().ok_or_else(|| none().hint("choose another region: --vm-region REGION"))?;
            (*first).to_owned()
        }
    };
    let systems: Vec<&Blueprint> = blueprints
        .iter()
        .filter(|one| one.is_active && one.platform == "LINUX_UNIX" && one.kind == "os")
        .collect();
    let named = |id: &str| systems.iter().copied().find(|one| one.id == id);
    let ids = || systems.iter().map(|one| one.id.as_str()).collect();
    let image = match asked(&settings.vm_image, noted.map(|vm| &vm.image)) {
        Some(id) => named(&id).ok_or_else(|| {
            lack(format!("{region} has no Linux image {id}"), ids()).hint("choose one: --vm-image BLUEPRINT")
        })?,
        None => IMAGES.iter().find_map(|id| named(id)).ok_or_else(|| {
            lack(format!("{region} has no image that the launch script supports"), ids())
                .hint("choose a Debian or Ubuntu: --vm-image BLUEPRINT")
        })?,
    };
    let fits = |one: &&Bundle| {
        one.is_active
            && one.platforms.iter().any(|platform| platform == "LINUX_UNIX")
            && one.ipv4_count > 0
            && one.power >= image.min_power
            && !one.categories.iter().any(|category| category == "LfR")
    };
    let sizes: Vec<&Bundle> = bundles.iter().filter(fits).collect();
    let ids = || sizes.iter().map(|one| one.id.as_str()).collect();
    let size = match asked(&settings.vm_size, noted.map(|vm| &vm.size)) {
        Some(id) => sizes.iter().copied().find(|one| one.id == id).ok_or_else(|| {
            lack(format!("{region} has no size {id} for {} with an IPv4 address", image.id), ids())
                .hint("choose one: --vm-size BUNDLE")
        })?,
        None => sizes
            .iter()
            .copied()
            .filter(|one| one.ram >= LEAST)
            .min_by_key(|one| (one.price, one.id.clone()))
            .ok_or_else(|| lack(format!("{region} has no size with {LEAST} GB for {}", image.id), ids()))?,
    };
    Ok(Offer {
        zone,
        image: image.id.clone(),
        size: size.id.clone(),
        ram: size.ram,
        cents: u64::from(size.price),
    })
}
