//! Instances: made, shown, deleted, and the metadata options of each.

use serde_json::{Value, json};

use super::access::{hex, signed};
use super::call::{Call, Outcome, seconds};
use super::catalog;
use super::firewall;
use super::model::MODEL;
use super::refusal::{Error, Refusal};
use super::world::{Instance, Metadata, Resource};
use crate::wire::random;

/// The key pair that a region has once an instance was made without naming one.
pub const DEFAULT_KEY_PAIR: &str = "LightsailDefaultKeyPair";

/// What EC2 takes, in bytes.
const USER_DATA: usize = 16 * 1024;

pub(crate) fn create(call: &mut Call<'_>) -> Outcome {
    let names = call.texts("instanceNames");
    if let Some(name) = names.iter().find(|name| !MODEL.is_name(name)) {
        return Err(Error::input(format!(
            "The resource name '{name}' is not valid: use alphanumeric characters, -, and _, at least 2 characters"
        )));
    }
    let (zone, blueprint, bundle) =
        (call.text("availabilityZone"), call.text("blueprintId"), call.text("bundleId"));
    let zones = catalog::zones(&call.region, call.state.options.zones);
    match zones.iter().find(|(known, _)| *known == zone) {
        Some((_, "available")) => {}
        Some(_) => return Err(Error::input(format!("The availability zone is not available: {zone}"))),
        None => return Err(Error::input(format!("The availability zone is invalid: {zone}"))),
    }
    let (size, _) = catalog::fits(&bundle, &blueprint).map_err(Error::input)?;
    let address_type = call.body["ipAddressType"].as_str().unwrap_or("dualstack").to_owned();
    if (size.addresses == 0) != (address_type == "ipv6") {
        return Err(Error::input(format!("The bundle {bundle} does not support {address_type}")));
    }
    let user_data = call.text("userData");
    if user_data.len() > USER_DATA {
        return Err(Error::input(format!("User data is limited to {USER_DATA} bytes")));
    }
    for unplayed in ["customImageName", "addOns"] {
        if !call.body[unplayed].is_null() {
            return Err(Error::input(format!("{unplayed} is not supported")));
        }
    }
    let tags = tags(&call.body["tags"])?;
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    if names.is_empty() || unique.len() < names.len() {
        return Err(Error::input("Instance names must be given, and differ"));
    }
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    call.world().free(&listed)?;
    let quota = call.state.options.quota;
    if call.world().instances().count() + names.len() > quota {
        let mut error = Refusal::Quota.error();
        error.message = error.message.replace(": 0.", &format!(": {quota}."));
        return Err(error);
    }
    let key_pair = key_pair(call)?;

    let mut operations = Vec::new();
    for name in &names {
        let (operation, fails) = call.operation("CreateInstance", (name, "Instance"), "", &zone);
        operations.push(operation);
        let [a, b, c, d] = random::<4>();
        let instance = Instance {
            identity: call.identity("Instance"),
            zone: zone.clone(),
            blueprint: blueprint.clone(),
            bundle: bundle.clone(),
            key_pair: key_pair.clone(),
            address_type: address_type.clone(),
            tags: tags.clone(),
            user_data: user_data.clone(),
            machine: !fails,
            fails,
            moved: None,
            stopped: false,
            deleted: None,
            rules: firewall::defaults(),
            metadata: Metadata {
                tokens: "optional".to_owned(),
                endpoint: "enabled".to_owned(),
                hops: 1,
                ipv6: "disabled".to_owned(),
                applied: call.now,
            },
            private: std::net::Ipv4Addr::new(172, 26, a, b),
            ipv6: format!("2A05:D014:0AAA:0B{c:02X}:0C{d:02X}:0DDD:0EEE:0001"),
        };
        if !fails {
            call.hardware().create(name, &user_data);
        }
        call.world().resources.insert(name.clone(), Resource::Instance(Box::new(instance)));
    }
    Ok(json!({"operations": operations}))
}

/// The key pair that is named, or the region's default, which is made if there is none.
fn key_pair(call: &mut Call<'_>) -> Outcome<String> {
    let named = call.text("keyPairName");
    if named.is_empty() {
        let identity = call.identity("KeyPair");
        let resources = &mut call.world().resources;
        resources.entry(DEFAULT_KEY_PAIR.to_owned()).or_insert(Resource::KeyPair(identity));
        return Ok(DEFAULT_KEY_PAIR.to_owned());
    }
    match call.world().resources.get(&named) {
        Some(Resource::KeyPair(_)) => Ok(named),
        _ => Err(Error::not_found("KeyPair", &named)),
    }
}

/// Tags as "Tags in Amazon Lightsail" has their limits.
pub(crate) fn tags(list: &Value) -> Outcome<Vec<(String, Option<String>)>> {
    let mut tags: Vec<(String, Option<String>)> = Vec::new();
    for tag in list.as_array().into_iter().flatten() {
        let key = tag["key"].as_str().unwrap_or_default();
        let value = tag["value"].as_str();
        let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c));
        let length = |text: &str| text.chars().count();
        let fits = (1..=128).contains(&length(key)) && value.is_none_or(|value| length(value) <= 256);
        if !fits || !plain(key) || !plain(value.unwrap_or_default()) || key.to_lowercase().starts_with("aws:")
        {
            return Err(Error::input(format!("The tag is not valid: {key}")));
        }
        if tags.iter().any(|(known, _)| known == key) {
            return Err(Error::input(format!("The tag is given twice: {key}")));
        }
        tags.push((key.to_owned(), value.map(str::to_owned)));
    }
    if tags.len() > 50 {
        return Err(Error::input("A resource has at most 50 tags"));
    }
    Ok(tags)
}

pub(crate) fn show_tags(tags: &[(String, Option<String>)]) -> Value {
    let shown = tags.iter().map(|(key, value)| match value {
        Some(value) => json!({"key": key, "value": value}),
        None => json!({"key": key}),
    });
    shown.collect()
}

pub(crate) fn get(call: &mut Call<'_>) -> Outcome {
    let name = call.instance()?.0;
    let account = (call.key.spec.account.clone(), call.region.clone());
    let world = &call.state.worlds[&account];
    let instance = world.instance(&name).expect("it was found");
    let (code, state) = call.state_of(instance);
    let image = catalog::BLUEPRINTS.iter().find(|known| known.id == instance.blueprint);
    let size = catalog::BUNDLES.iter().find(|known| known.id == instance.bundle);
    let applied = instance.metadata.applied <= call.now;
    let mut shown = json!({
        "name": name, "arn": instance.identity.arn, "supportCode": instance.identity.support_code,
        "createdAt": seconds(instance.identity.created), "location": call.location(&instance.zone),
        "resourceType": "Instance", "tags": show_tags(&instance.tags), "blueprintId": instance.blueprint,
        "blueprintName": image.map_or("", |image| image.name), "bundleId": instance.bundle, "addOns": [],
        "isStaticIp": world.attached(&name).is_some(), "privateIpAddress": instance.private.to_string(),
        "ipAddressType": instance.address_type,
        "hardware": {
            "cpuCount": size.map_or(0, |size| size.cpus), "ramSizeInGb": size.map_or(0.0, |size| size.ram),
            "disks": [],
        },
        "networking": {
            "monthlyTransfer": {"gbPerMonthAllocated": 1024},
            "ports": instance.rules.iter().map(firewall::show_info).collect::<Value>(),
        },
        "state": {"code": code, "name": state},
        "username": image.map_or("", |image| image.user), "sshKeyName": instance.key_pair,
        "metadataOptions": {
            "state": if applied { "applied" } else { "pending" }, "httpTokens": instance.metadata.tokens,
            "httpEndpoint": instance.metadata.endpoint, "httpPutResponseHopLimit": instance.metadata.hops,
            "httpProtocolIpv6": instance.metadata.ipv6,
        },
    });
    if instance.address_type != "ipv4" {
        shown["ipv6Addresses"] = json!([instance.ipv6]);
    }
    if let Some(address) = call.address_of(&name, instance) {
        shown["publicIpAddress"] = address.to_string().into();
    }
    Ok(json!({"instance": shown}))
}

pub(crate) fn delete(call: &mut Call<'_>) -> Outcome {
    let (name, instance) = call.instance()?;
    if instance.deleted.is_some() {
        return Err(Error::operation(format!("The instance is being deleted: {name}")));
    }
    let (machine, zone) = (instance.machine, instance.zone.clone());
    let (operation, fails) = call.operation("DeleteInstance", (&name, "Instance"), "", &zone);
    if !fails {
        let now = call.now;
        call.instance()?.1.deleted = Some(now);
        if machine {
            call.hardware().delete(&name);
        }
    }
    Ok(json!({"operations": [operation]}))
}

/// Key, certificate and host keys. What the service answers while an instance does not run is not known.
pub(crate) fn access(call: &mut Call<'_>) -> Outcome {
    let name = call.instance()?.0;
    let account = (call.key.spec.account.clone(), call.region.clone());
    let instance = call.state.worlds[&account].instance(&name).expect("it was found");
    if call.body["protocol"] == "rdp" {
        return Err(Error::input("The protocol rdp is for Windows instances"));
    }
    if call.state_of(instance).1 != "running" {
        return Err(Error::operation(format!("The instance is not running: {name}")));
    }
    let lags = call.state.options.lags;
    let known =
        instance.identity.created + signed(lags.running) + signed(lags.address) + signed(lags.host_keys);
    let image = catalog::BLUEPRINTS.iter().find(|known| known.id == instance.blueprint);
    let mut user = image.map_or("", |image| image.user).to_owned();
    let hardware = call.hardware();
    let mut details = json!({
        "instanceName": name, "protocol": "ssh", "hostKeys": [],
        "expiresAt": seconds(call.now + jiff::SignedDuration::from_mins(13)),
    });
    if let Some(address) = call.address_of(&name, instance) {
        details["ipAddress"] = address.to_string().into();
    }
    if known <= call.now && instance.machine {
        let keys = hardware.host_keys(&name);
        details["hostKeys"] =
            keys.iter().map(|(algorithm, key)| host_key(algorithm, key, &seconds(known))).collect();
    }
    // Two sources say that there is a key only for the default key pair.
    if instance.machine && instance.key_pair == DEFAULT_KEY_PAIR {
        let (key, certificate, own) = hardware.access(&name);
        details["privateKey"] = key.into();
        details["certKey"] = certificate.into();
        if !own.is_empty() {
            user = own;
        }
    }
    details["username"] = user.into();
    Ok(json!({"accessDetails": details}))
}

fn host_key(algorithm: &str, key: &str, witnessed: &Value) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    let bytes = STANDARD.decode(key).expect("the hardware's host keys are base64");
    let sha1 = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes).as_ref());
    json!({
        "algorithm": algorithm, "publicKey": key, "witnessedAt": witnessed, "fingerprintSHA1": format!("SHA1:{sha1}"),
        "fingerprintSHA256": format!("SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &bytes))),
    })
}

pub(crate) fn metadata(call: &mut Call<'_>) -> Outcome {
    let hops = call.body["httpPutResponseHopLimit"].as_i64();
    if hops.is_some_and(|hops| !(1..=64).contains(&hops)) {
        return Err(Error::input("The hop limit is from 1 to 64"));
    }
    let (tokens, endpoint, ipv6) =
        (call.text("httpTokens"), call.text("httpEndpoint"), call.text("httpProtocolIpv6"));
    let applied = call.now + signed(call.state.options.lags.metadata);
    let (name, instance) = call.instance()?;
    let zone = instance.zone.clone();
    let (operation, fails) = call.operation("UpdateInstanceMetadataOptions", (&name, "Instance"), "", &zone);
    let instance = call.instance()?.1;
    if !fails {
        let options = &mut instance.metadata;
        for (value, to) in
            [(tokens, &mut options.tokens), (endpoint, &mut options.endpoint), (ipv6, &mut options.ipv6)]
        {
            if !value.is_empty() {
                *to = value;
            }
        }
        options.hops = hops.unwrap_or(options.hops);
        options.applied = applied;
    }
    Ok(json!({"operation": operation}))
}
