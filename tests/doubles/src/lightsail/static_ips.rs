//! Static IP addresses: the account's until they are released, whatever becomes of instances.

use serde_json::{Value, json};

use super::call::{Call, Outcome, seconds};
use super::refusal::Error;
use super::world::{Resource, StaticIp};

/// How many an account may have in a region.
const QUOTA: usize = 5;

fn found<'a>(call: &'a mut Call<'_>) -> Outcome<(String, &'a mut StaticIp)> {
    let name = call.text("staticIpName");
    match call.world().resources.get_mut(&name) {
        Some(Resource::StaticIp(ip)) => Ok((name, ip)),
        _ => Err(Error::not_found("StaticIp", &name)),
    }
}

fn note(call: &mut Call<'_>, kind: &'static str, name: &str, details: &str) -> (Value, bool) {
    let zone = format!("{}a", call.region);
    call.operation(kind, (name, "StaticIp"), details, &zone)
}

pub(crate) fn allocate(call: &mut Call<'_>) -> Outcome {
    let name = call.text("staticIpName");
    call.world().free(&[&name])?;
    let ips = call.world().resources.values().filter(|one| matches!(one, Resource::StaticIp(_))).count();
    if ips >= QUOTA {
        return Err(Error::input(format!(
            "Sorry, you've reached your maximum limit of Lightsail Static IPs : {QUOTA}."
        )));
    }
    let address = call.state.address();
    let (operation, fails) = note(call, "AllocateStaticIp", &name, &address.to_string());
    if !fails {
        let ip = StaticIp { identity: call.identity("StaticIp"), address, attached: None };
        call.world().resources.insert(name, Resource::StaticIp(ip));
    }
    Ok(json!({"operations": [operation]}))
}

pub(crate) fn get(call: &mut Call<'_>) -> Outcome {
    let location = call.location("all");
    let (name, ip) = found(call)?;
    let mut shown = json!({
        "name": name, "arn": ip.identity.arn, "supportCode": ip.identity.support_code,
        "createdAt": seconds(ip.identity.created), "location": location, "resourceType": "StaticIp",
        "ipAddress": ip.address.to_string(), "isAttached": ip.attached.is_some(),
    });
    if let Some(instance) = &ip.attached {
        shown["attachedTo"] = instance.as_str().into();
    }
    Ok(json!({"staticIp": shown}))
}

pub(crate) fn attach(call: &mut Call<'_>) -> Outcome {
    let (name, ip) = found(call)?;
    let (address, attached) = (ip.address, ip.attached.clone());
    let (instance, on) = call.instance()?;
    let (machine, deleted) = (on.machine, on.deleted.is_some());
    let other = call.world().attached(&instance).is_some_and(|known| known != address);
    let elsewhere = attached.as_ref().is_some_and(|known| *known != instance);
    if other || elsewhere || deleted {
        let why = if elsewhere {
            format!("The static IP is attached to another instance: {}", attached.unwrap_or_default())
        } else {
            format!("The instance cannot take a static IP: {instance}")
        };
        return Err(Error::operation(why));
    }
    let (operation, fails) = note(call, "AttachStaticIp", &name, &instance);
    if !fails {
        found(call)?.1.attached = Some(instance.clone());
        if machine {
            call.hardware().moved(&instance, address);
        }
    }
    Ok(json!({"operations": [operation]}))
}

/// The instance gets another address, which is not the one that it had before.
pub(crate) fn detach(call: &mut Call<'_>) -> Outcome {
    let (name, ip) = found(call)?;
    let Some(instance) = ip.attached.clone() else {
        return Err(Error::operation(format!("The static IP is not attached: {name}")));
    };
    let (operation, fails) = note(call, "DetachStaticIp", &name, &instance);
    if !fails {
        found(call)?.1.attached = None;
        let address = call.state.address();
        let hardware = call.hardware();
        if let Some(found) = call.world().instance_mut(&instance) {
            found.moved = Some(address);
            if found.machine {
                hardware.moved(&instance, address);
            }
        }
    }
    Ok(json!({"operations": [operation]}))
}

/// Refused while it is attached: what the service does then is not known.
pub(crate) fn release(call: &mut Call<'_>) -> Outcome {
    let (name, ip) = found(call)?;
    if let Some(instance) = &ip.attached {
        return Err(Error::operation(format!("The static IP is attached to an instance: {instance}")));
    }
    let (operation, fails) = note(call, "ReleaseStaticIp", &name, "");
    if !fails {
        call.world().resources.remove(&name);
    }
    Ok(json!({"operations": [operation]}))
}
