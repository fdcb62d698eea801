//! What a region offers: zones, bundles and blueprints.
//!
//! Prices and sizes of the Linux bundles are those of the service's documentation for 2026; blueprints are those that
//! its users list.

use serde_json::{Value, json};

pub(crate) struct Bundle {
    pub(crate) id: &'static str,
    price: f64,
    pub(crate) cpus: i64,
    disk: i64,
    power: i64,
    pub(crate) ram: f64,
    transfer: i64,
    active: bool,
    platform: &'static str,
    pub(crate) addresses: i64,
    category: Option<&'static str>,
}

impl Bundle {
    const fn linux(id: &'static str, price: f64, (cpus, disk, power): (i64, i64, i64), ram: f64) -> Self {
        Self {
            id,
            price,
            cpus,
            disk,
            power,
            ram,
            transfer: 1024 * power / 300,
            active: true,
            platform: "LINUX_UNIX",
            addresses: 1,
            category: None,
        }
    }
}

/// Not in the order of their prices, and with all that does not suit a runner.
pub(crate) const BUNDLES: &[Bundle] = &[
    Bundle { addresses: 0, ..Bundle::linux("micro_ipv6_3_0", 5.0, (2, 40, 500), 1.0) },
    Bundle { active: false, ..Bundle::linux("micro_2_0", 4.0, (1, 40, 500), 1.0) },
    Bundle::linux("medium_3_0", 24.0, (2, 80, 2000), 4.0),
    Bundle::linux("nano_3_0", 5.0, (2, 20, 300), 0.5),
    Bundle { category: Some("LfR"), ..Bundle::linux("app_standard_xl_1_0", 6.0, (4, 50, 3000), 8.0) },
    Bundle::linux("micro_3_0", 7.0, (2, 40, 500), 1.0),
    Bundle { platform: "WINDOWS", ..Bundle::linux("micro_win_3_0", 6.5, (2, 40, 500), 1.0) },
    Bundle::linux("small_3_0", 12.0, (2, 60, 1000), 2.0),
    Bundle::linux("large_3_0", 44.0, (2, 160, 3000), 8.0),
];

/// The bundles, also those that are not sold any more if asked for; Lightsail for Research only by its category.
pub(crate) fn bundles(inactive: bool, category: Option<&str>) -> Vec<Value> {
    let listed = BUNDLES.iter().filter(|bundle| bundle.active || inactive);
    let listed = listed.filter(|bundle| category.is_none_or(|wanted| bundle.category == Some(wanted)));
    let shown = listed.map(|bundle| {
        let mut shown = json!({
            "bundleId": bundle.id, "price": bundle.price, "cpuCount": bundle.cpus, "diskSizeInGb": bundle.disk,
            "instanceType": bundle.id.split('_').next(), "isActive": bundle.active, "name": bundle.id,
            "power": bundle.power, "ramSizeInGb": bundle.ram, "transferPerMonthInGb": bundle.transfer,
            "supportedPlatforms": [bundle.platform], "publicIpv4AddressCount": bundle.addresses,
        });
        if let Some(category) = bundle.category {
            shown["supportedAppCategories"] = json!([category]);
        }
        shown
    });
    shown.collect()
}

pub(crate) struct Blueprint {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    group: &'static str,
    kind: &'static str,
    active: bool,
    power: i64,
    version: &'static str,
    platform: &'static str,
    pub(crate) user: &'static str,
}

impl Blueprint {
    const fn linux(id: &'static str, name: &'static str, version: &'static str, user: &'static str) -> Self {
        Self {
            id,
            name,
            group: id.split_at(6).0,
            kind: "os",
            active: true,
            power: 0,
            version,
            platform: "LINUX_UNIX",
            user,
        }
    }
}

pub(crate) const BLUEPRINTS: &[Blueprint] = &[
    Blueprint {
        group: "windows_2022",
        power: 500,
        platform: "WINDOWS",
        ..Blueprint::linux("windows_server_2022", "Windows Server 2022", "2026.03.11", "Administrator")
    },
    Blueprint {
        kind: "app",
        group: "wordpress",
        ..Blueprint::linux("wordpress", "WordPress", "6.9", "bitnami")
    },
    Blueprint { active: false, ..Blueprint::linux("ubuntu_20_04", "Ubuntu", "20.04 LTS", "ubuntu") },
    Blueprint::linux("debian_12", "Debian", "12.12", "admin"),
    Blueprint {
        group: "amazon_linux_2023",
        ..Blueprint::linux("amazon_linux_2023", "Amazon Linux 2023", "2023.9", "ec2-user")
    },
    Blueprint::linux("ubuntu_22_04", "Ubuntu", "22.04 LTS", "ubuntu"),
    Blueprint::linux("ubuntu_24_04", "Ubuntu", "24.04 LTS", "ubuntu"),
    Blueprint::linux("debian_13", "Debian", "13.2", "admin"),
];

/// The blueprints, also those that are not offered any more if asked for.
pub(crate) fn blueprints(inactive: bool, category: Option<&str>) -> Vec<Value> {
    // None of these is for Lightsail for Research.
    let listed = BLUEPRINTS.iter().filter(|one| (one.active || inactive) && category.is_none());
    let shown = listed.map(|one| {
        json!({
            "blueprintId": one.id, "name": one.name, "group": one.group, "type": one.kind,
            "description": format!("{} {}", one.name, one.version), "isActive": one.active, "minPower": one.power,
            "version": one.version, "versionCode": "1", "platform": one.platform,
            "licenseUrl": "https://example.com/licence", "productUrl": "https://example.com/product",
        })
    });
    shown.collect()
}

/// Whether a bundle can carry a blueprint; if not, why.
pub(crate) fn fits(bundle: &str, blueprint: &str) -> Result<(&'static Bundle, &'static Blueprint), String> {
    let found = BUNDLES.iter().find(|known| known.id == bundle && known.active);
    let bundle = found.ok_or_else(|| format!("The bundle ID is invalid: {bundle}"))?;
    let found = BLUEPRINTS.iter().find(|known| known.id == blueprint && known.active);
    let blueprint = found.ok_or_else(|| format!("The blueprint ID is invalid: {blueprint}"))?;
    if bundle.platform != blueprint.platform || bundle.power < blueprint.power || bundle.category.is_some() {
        return Err(format!("The bundle {} does not support the blueprint {}", bundle.id, blueprint.id));
    }
    Ok((bundle, blueprint))
}

/// A region's zones, of which the first is impaired if there is another.
pub(crate) fn zones(region: &str, count: u8) -> Vec<(String, &'static str)> {
    let zone = |index: u8| {
        let state = if index == 0 && count > 1 { "unavailable" } else { "available" };
        (format!("{region}{}", char::from(b'a' + index)), state)
    };
    (0..count).map(zone).collect()
}
