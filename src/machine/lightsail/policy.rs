//! IAM policies for each phase of a deployment's life, with what the calls of [`super::Api`] and [`super::Writer`]
//! need and nothing else.

use serde_json::{Value, json};

use crate::settings::PolicyPhase::{self, Create, Operate, Remove};

/// The key of the tag that says whose an instance is.
pub const TAG: &str = "outrigger:id";

/// An operation, how IAM limits it, and the phases that need it.
struct Row(&'static str, Limit, &'static [PolicyPhase]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// Reads, which IAM limits by nothing that outrigger knows before.
    None,
    /// With a tag in the request.
    NewTag,
    /// Instances with the tag.
    Tagged,
    /// Instances, by ARN alone: the documentation of the operation has no control by tags.
    AnyInstance,
    /// Static IPs: they have no tags.
    AnyStaticIp,
}

const ALL: &[PolicyPhase] = &[Create, Operate, Remove];

/// `GetCallerIdentity` needs no permission, and `TagResource` is needed for tags at creation.
const ROWS: &[Row] = &[
    Row("GetInstance", Limit::None, ALL),
    Row("GetOperation", Limit::None, ALL),
    Row("GetStaticIp", Limit::None, ALL),
    Row("GetInstancePortStates", Limit::None, &[Create, Operate]),
    Row("GetBlueprints", Limit::None, &[Create, Operate]),
    // status tells what would be made in place of a VM that is gone.
    Row("GetBundles", Limit::None, &[Create, Operate]),
    Row("GetRegions", Limit::None, &[Create, Operate]),
    Row("CreateInstances", Limit::NewTag, &[Create]),
    Row("TagResource", Limit::NewTag, &[Create]),
    Row("AllocateStaticIp", Limit::AnyStaticIp, &[Create]),
    Row("AttachStaticIp", Limit::AnyStaticIp, &[Create]),
    Row("UpdateInstanceMetadataOptions", Limit::AnyInstance, &[Create, Operate]),
    Row("CloseInstancePublicPorts", Limit::Tagged, &[Create, Operate]),
    Row("GetInstanceAccessDetails", Limit::Tagged, &[Create, Operate]),
    Row("PutInstancePublicPorts", Limit::Tagged, &[Create, Operate]),
    Row("DeleteInstance", Limit::Tagged, &[Remove]),
    Row("ReleaseStaticIp", Limit::AnyStaticIp, &[Remove]),
];

/// The word of the phase whose policy allows an action, such as `lightsail:GetInstance`; the first one of several.
pub fn phase_of(action: &str) -> &'static str {
    let operation = action.split_once(':').map_or(action, |(_, operation)| operation);
    let phases = ROWS.iter().find(|row| row.0 == operation).map_or(ALL, |row| row.2);
    match phases {
        [Create] => "create",
        [Remove] => "remove",
        _ => "operate",
    }
}

/// The policy of a phase. With `deployment_id`, statements by tag are for the instance of this deployment alone;
/// without, for every instance that has the tag.
pub fn policy(which: PolicyPhase, deployment_id: Option<&str>) -> Value {
    let statements: Vec<Value> = [
        ("Read", Limit::None),
        ("CreateWithTag", Limit::NewTag),
        ("TaggedInstance", Limit::Tagged),
        ("Metadata", Limit::AnyInstance),
        ("StaticIp", Limit::AnyStaticIp),
    ]
    .into_iter()
    .filter_map(|(sid, limit)| {
        let rows = ROWS.iter().filter(|row| row.1 == limit && row.2.contains(&which));
        let actions: Vec<String> = rows.map(|row| format!("lightsail:{}", row.0)).collect();
        (!actions.is_empty()).then(|| statement(sid, limit, &actions, deployment_id))
    })
    .collect();
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn statement(sid: &str, limit: Limit, actions: &[String], id: Option<&str>) -> Value {
    let resource = match limit {
        Limit::None | Limit::NewTag => json!("*"),
        Limit::Tagged | Limit::AnyInstance => json!("arn:aws:lightsail:*:*:Instance/*"),
        Limit::AnyStaticIp => json!(["arn:aws:lightsail:*:*:StaticIp/*", "arn:aws:lightsail:*:*:Instance/*"]),
    };
    let mut statement = json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource});
    let key = match limit {
        Limit::NewTag => format!("aws:RequestTag/{TAG}"),
        Limit::Tagged => format!("aws:ResourceTag/{TAG}"),
        _ => return statement,
    };
    statement["Condition"] = match id {
        Some(id) => json!({"StringEquals": {key: id}}),
        None => json!({"Null": {key: "false"}}),
    };
    statement
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
