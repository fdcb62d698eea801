//! Whether a caller may do what is asked: the action, the resource, and the tags that a policy can look at.
//!
//! Resources are those of "Actions, resources, and condition keys for Amazon Lightsail" (Service Authorization
//! Reference). An action sees a resource's tags only if the service's model documents its control by them.

use std::collections::BTreeMap;

use super::access::Key;
use super::call::{Call, Outcome};
use super::policy::{Ask, Verdict, ask};
use super::refusal::Error;
use super::world::Resource;

/// The operations whose documentation has "tag-based access control via resource tags".
const BY_RESOURCE_TAG: &[&str] = &[
    "CloseInstancePublicPorts",
    "DeleteInstance",
    "GetInstanceAccessDetails",
    "PutInstancePublicPorts",
    "TagResource",
];

/// Those whose documentation has it via request tags.
const BY_REQUEST_TAG: &[&str] = &["CreateInstances", "TagResource"];

impl Call<'_> {
    /// Refuses an operation that the caller may not do to what it names.
    pub(crate) fn authorize(&mut self, operation: &str) -> Outcome<()> {
        let any = format!("arn:aws:lightsail:{}:{}", self.region, self.key.spec.account);
        let mut resources = Vec::new();
        for (member, kind) in
            [("instanceName", "Instance"), ("staticIpName", "StaticIp"), ("resourceName", "Instance")]
        {
            if self.body[member].is_string() {
                let name = self.text(member);
                // The name of what is not there yet, or no longer, leads to no id.
                let found = self.world().resources.get(&name);
                resources.push(found.map_or_else(|| (format!("{any}:{kind}/none"), Vec::new()), described));
            }
        }
        if resources.is_empty() {
            resources.push(("*".to_owned(), Vec::new()));
        }
        for (resource, tags) in resources {
            self.ask(operation, &resource, &tags)?;
        }
        // Tags at creation are an action of their own, on what is being made.
        if operation == "CreateInstances" && self.body["tags"].as_array().is_some_and(|tags| !tags.is_empty())
        {
            self.ask("TagResource", &format!("{any}:Instance/new"), &[])?;
        }
        Ok(())
    }

    fn ask(&self, operation: &str, resource: &str, tags: &[(String, Option<String>)]) -> Outcome<()> {
        let mut context = BTreeMap::from([("aws:RequestedRegion".to_owned(), self.region.clone())]);
        if BY_RESOURCE_TAG.contains(&operation) {
            for (key, value) in tags {
                context.insert(format!("aws:ResourceTag/{key}"), value.clone().unwrap_or_default());
            }
        }
        if BY_REQUEST_TAG.contains(&operation) {
            for tag in self.body["tags"].as_array().into_iter().flatten() {
                let (key, value) = (tag["key"].as_str(), tag["value"].as_str());
                context.insert(
                    format!("aws:RequestTag/{}", key.unwrap_or_default()),
                    value.unwrap_or_default().to_owned(),
                );
            }
        }
        let action = format!("lightsail:{operation}");
        may(&self.key, &Ask { action: &action, resource, context: &context })
    }
}

fn described(resource: &Resource) -> (String, Vec<(String, Option<String>)>) {
    match resource {
        Resource::Instance(instance) => (instance.identity.arn.clone(), instance.tags.clone()),
        Resource::StaticIp(ip) => (ip.identity.arn.clone(), Vec::new()),
        Resource::KeyPair(identity) => (identity.arn.clone(), Vec::new()),
        Resource::Other(kind) => (format!("arn:aws:lightsail:::{kind}/other"), Vec::new()),
    }
}

/// Whether a key may do this; the refusal names the action.
fn may(key: &Key, wanted: &Ask<'_>) -> Outcome<()> {
    let (action, spec) = (wanted.action, &key.spec);
    let verdict = if spec.denied.iter().any(|denied| denied == action) {
        Verdict::Denied
    } else {
        ask(&spec.policy, wanted)
    };
    let reason = match verdict {
        Verdict::Allowed => return Ok(()),
        Verdict::Silent => format!("because no identity-based policy allows the {action} action"),
        Verdict::Denied => "with an explicit deny in an identity-based policy".to_owned(),
    };
    let message = format!(
        "User: {} is not authorized to perform: {action} on resource: {} {reason}",
        key.arn(),
        wanted.resource
    );
    Err(Error::new("AccessDeniedException", message))
}
