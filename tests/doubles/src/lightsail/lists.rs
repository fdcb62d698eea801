//! What is read beside resources, and tags.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::{Call, Outcome, TAG};
use super::catalog;
use super::instances::tags;
use super::refusal::Error;
use super::world::Resource;

pub(crate) fn regions(call: &Call<'_>) -> Value {
    let zones = call.body["includeAvailabilityZones"] == true;
    let databases = call.body["includeRelationalDatabaseAvailabilityZones"] == true;
    let count = call.state.options.zones;
    let list = |region: &str, wanted: bool| {
        let zones = catalog::zones(region, if wanted { count } else { 0 });
        zones.iter().map(|(name, state)| json!({"zoneName": name, "state": state})).collect::<Value>()
    };
    let shown = call.state.options.regions.iter().map(|region| {
        json!({
            "name": region, "displayName": region, "description": format!("The region {region}"),
            "continentCode": region[..2].to_uppercase(), "availabilityZones": list(region, zones),
            "relationalDatabaseAvailabilityZones": list(region, databases),
        })
    });
    json!({"regions": shown.collect::<Value>()})
}

pub(crate) fn bundles(call: &mut Call<'_>) -> Outcome {
    let (inactive, category) = wanted(call.body);
    page(call, "bundles", &catalog::bundles(inactive, category))
}

pub(crate) fn blueprints(call: &mut Call<'_>) -> Outcome {
    let (inactive, category) = wanted(call.body);
    page(call, "blueprints", &catalog::blueprints(inactive, category))
}

fn wanted(body: &Value) -> (bool, Option<&str>) {
    (body["includeInactive"] == true, body["appCategory"].as_str())
}

/// A page; the token of the next is nothing that a client could make itself.
fn page(call: &Call<'_>, member: &str, rows: &[Value]) -> Outcome {
    let size = call.state.options.page.max(1);
    let start = match call.body["pageToken"].as_str() {
        None => 0,
        Some(token) => {
            let bytes = STANDARD.decode(token).unwrap_or_default();
            let text = String::from_utf8(bytes).unwrap_or_default();
            let start =
                text.strip_prefix(&format!("{member}:")).and_then(|start| start.parse::<usize>().ok());
            start.ok_or_else(|| Error::input("The page token is not valid"))?
        }
    };
    let rest = rows.get(start..).unwrap_or_default();
    let mut answer = json!({member: &rest[..size.min(rest.len())]});
    if rest.len() > size {
        answer["nextPageToken"] = STANDARD.encode(format!("{member}:{}", start + size)).into();
    }
    Ok(answer)
}

pub(crate) fn operation(call: &mut Call<'_>) -> Outcome {
    let id = call.text("operationId");
    let found =
        call.world().operations.get(&id).cloned().ok_or_else(|| Error::not_found("Operation", &id))?;
    Ok(json!({"operation": call.show_operation(&id, &found)}))
}

pub(crate) fn tag(call: &mut Call<'_>) -> Outcome {
    let (name, arn) = (call.text("resourceName"), call.text("resourceArn"));
    let new = tags(&call.body["tags"])?;
    let instance = match call.world().resources.get_mut(&name) {
        Some(Resource::Instance(instance)) if arn.is_empty() || instance.identity.arn == arn => instance,
        _ => return Err(Error::not_found("Resource", &name)),
    };
    let mut whole = instance.tags.clone();
    whole.retain(|(key, _)| !new.iter().any(|(other, _)| other == key));
    whole.extend(new);
    if whole.len() > 50 {
        return Err(Error::input("A resource has at most 50 tags"));
    }
    instance.tags = whole;
    let zone = instance.zone.clone();
    let (operation, _) = call.operation(TAG, (&name, "Instance"), "", &zone);
    Ok(json!({"operations": [operation]}))
}
