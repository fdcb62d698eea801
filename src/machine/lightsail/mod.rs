//! The client of Amazon Lightsail's API, in one region of one account.
//!
//! Wire form: POST of JSON 1.1 with `X-Amz-Target`, signed with Signature Version 4. Names are not unique over time
//! and no request has a token, so whatever is created or deleted by name is sent once; a caller looks before it sends
//! again.

// Without the feature nothing is signed or sent.
#![cfg_attr(not(feature = "aws"), allow(dead_code))]

use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::answer::Pages;
use crate::base::error::Result;
use crate::base::files::Intake;
use crate::base::request::{Effect, Limits};

mod call;
#[cfg(feature = "aws")]
mod child;
#[cfg(feature = "aws")]
mod credentials;
#[cfg(not(feature = "aws"))]
#[path = "without_aws.rs"]
mod credentials;
mod endpoint;
#[cfg(feature = "aws")]
mod http;
mod keys;
mod model;
pub mod policy;
#[cfg(feature = "aws")]
mod profile;
mod refusal;
#[cfg(feature = "aws")]
mod sign;
mod sts;

#[cfg(test)]
pub use model::Zone;
pub use model::{
    AccessDetails, Blueprint, Bundle, Identity, Instance, NewInstance, Operation, Port, Region, StaticIp,
};
pub use refusal::{Class, Refusal};

use call::Service;
use credentials::Credentials;
use endpoint::Endpoints;

/// Where credentials come from. Without `Debug`: the environment holds secrets.
#[derive(Clone)]
pub struct Source {
    /// A profile; no other source is tried then. `AWS_PROFILE` if it is `None`.
    pub profile: Option<String>,
    /// Whether the metadata service of an EC2 instance or a container may be asked.
    pub metadata: bool,
    /// The environment of this run.
    pub env: BTreeMap<String, String>,
    /// Reads the profiles.
    pub intake: Rc<Intake>,
}

/// Reads of one region of one account.
#[derive(Clone)]
pub struct Api {
    lightsail: Service,
    sts: Service,
    region: Rc<str>,
}

impl Api {
    /// Finds the region (the argument, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile) and the credentials. Sends
    /// nothing to Lightsail; some sources of credentials ask STS or the portal of IAM Identity Center.
    ///
    /// Fails with OR0210 in a build without AWS, OR0211 without any source, OR0212 for invalid settings (exit 2), and
    /// OR0426 or OR0429 if the source fails (exit 4).
    pub async fn connect(from: &Source, region: Option<&str>, limits: &Limits) -> Result<Self> {
        let credentials = Rc::new(Credentials::find(from, region, limits).await?);
        let region: Rc<str> = credentials.region().into();
        let endpoints = Endpoints::of(&from.env, &region)?;
        let trust = endpoint::trust(&from.env, &from.intake).await?;
        let service = |name, url| Service::new(name, url, &region, &trust, &from.env, &credentials, limits);
        let lightsail = service("lightsail", endpoints.lightsail)?;
        let sts = service("sts", endpoints.sts)?;
        credentials.check(limits).await?;
        Ok(Self { lightsail, sts, region })
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The same access until another deadline.
    #[cfg(test)]
    pub fn until(&self, deadline: std::time::Instant) -> Self {
        let mut api = self.clone();
        api.lightsail.sender.deadline = crate::base::request::Deadline::at(deadline);
        api.sts.sender.deadline = crate::base::request::Deadline::at(deadline);
        api
    }

    /// The same access with changes.
    pub fn writer(self) -> Writer {
        Writer(self)
    }

    /// Whose credentials these are, as STS says it.
    pub async fn identity(&self) -> Result<Identity, Refusal> {
        sts::identity(&self.sts).await
    }

    /// `None` if the region has no instance of this name.
    pub async fn instance(&self, name: &str) -> Result<Option<Instance>, Refusal> {
        let what = "read the instance";
        let answer = self.read(what, "GetInstance", &json!({"instanceName": name})).await;
        let Some(answer) = none_if_missing(answer)? else { return Ok(None) };
        let instance = checked(what, Instance::read(&answer["instance"]))?;
        if instance.name != name {
            return Err(Refusal::malformed(what, "the response is about another instance"));
        }
        Ok(Some(instance))
    }

    /// The regions with their availability zones.
    pub async fn regions(&self) -> Result<Vec<Region>, Refusal> {
        let what = "list the regions";
        let answer = self.read(what, "GetRegions", &json!({"includeAvailabilityZones": true})).await?;
        let regions = checked(what, model::list(&answer, "regions"))?;
        regions.iter().map(|region| checked(what, Region::read(region))).collect()
    }

    /// The sizes that this region offers.
    pub async fn bundles(&self) -> Result<Vec<Bundle>, Refusal> {
        let what = "list the sizes of instances";
        let bundles = self.pages(what, "GetBundles", "bundles").await?;
        bundles.iter().map(|bundle| checked(what, Bundle::read(bundle))).collect()
    }

    /// The images that this region offers.
    pub async fn blueprints(&self) -> Result<Vec<Blueprint>, Refusal> {
        let what = "list the images of instances";
        let blueprints = self.pages(what, "GetBlueprints", "blueprints").await?;
        blueprints.iter().map(|blueprint| checked(what, Blueprint::read(blueprint))).collect()
    }

    pub async fn operation(&self, id: &str) -> Result<Operation, Refusal> {
        let what = "read the operation";
        let answer = self.read(what, "GetOperation", &json!({"operationId": id})).await?;
        checked(what, Operation::read(&answer["operation"]))
    }

    /// The open ports of an instance.
    pub async fn port_states(&self, name: &str) -> Result<Vec<Port>, Refusal> {
        let what = "read the instance's ports";
        let answer = self.read(what, "GetInstancePortStates", &json!({"instanceName": name})).await?;
        checked(what, Port::states(&answer))
    }

    /// A key for one login. The response is not traced.
    pub async fn access_details(&self, name: &str) -> Result<AccessDetails, Refusal> {
        let what = "get a key for the instance";
        let body = json!({"instanceName": name, "protocol": "ssh"});
        let answer = self.read(what, "GetInstanceAccessDetails", &body).await?;
        checked(what, AccessDetails::read(&answer["accessDetails"]))
    }

    /// `None` if the region has no static IP of this name.
    pub async fn static_ip(&self, name: &str) -> Result<Option<StaticIp>, Refusal> {
        let what = "read the static IP";
        let answer = self.read(what, "GetStaticIp", &json!({"staticIpName": name})).await;
        let Some(answer) = none_if_missing(answer)? else { return Ok(None) };
        let found = checked(what, StaticIp::read(&answer["staticIp"]))?;
        if found.name != name {
            return Err(Refusal::malformed(what, "the response is about another static IP"));
        }
        Ok(Some(found))
    }

    async fn read(&self, what: &str, operation: &'static str, body: &Value) -> Result<Value, Refusal> {
        self.lightsail.json(what, operation, body, Effect::Reads).await
    }

    async fn pages(&self, what: &str, operation: &'static str, key: &str) -> Result<Vec<Value>, Refusal> {
        let mut items = Pages::default();
        let mut token: Option<String> = None;
        loop {
            let body = token.as_ref().map_or_else(|| json!({}), |token| json!({"pageToken": token}));
            let mut answer = self.read(what, operation, &body).await?;
            let Some(Value::Array(page)) = answer.get_mut(key).map(Value::take) else {
                return Err(Refusal::malformed(what, &format!("{key} is not a list")));
            };
            items.add(page).map_err(|why| Refusal::endless(what, &why))?;
            match answer["nextPageToken"].as_str().filter(|next| !next.is_empty()) {
                // A faulty server may return the same page again.
                Some(next) if Some(next) != token.as_deref() => token = Some(next.to_owned()),
                _ => return Ok(items.into_items()),
            }
        }
    }
}

/// Changes in one region of one account; also an [`Api`].
#[derive(Clone)]
pub struct Writer(Api);

impl Deref for Writer {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}

impl Writer {
    /// Number of mutating requests sent.
    pub fn mutations(&self) -> usize {
        self.lightsail.sender.mutations()
    }

    /// The same access for cleanup, which runs for up to `grace` even after an interruption or the deadline.
    pub fn for_cleanup(&self, grace: Duration) -> Self {
        let mut api = self.0.clone();
        api.lightsail.sender = api.lightsail.sender.for_cleanup(grace);
        api.sts.sender = api.sts.sender.for_cleanup(grace);
        Self(api)
    }

    /// Creates an instance without user data. Sent once; again only if AWS says that it did not process it, or if
    /// nothing was sent. After any other end ([`Refusal::is_ambiguous`], [`Class::NameTaken`]) the caller looks.
    pub async fn create(&self, new: &NewInstance) -> Result<Vec<Operation>, Refusal> {
        let tags: Vec<Value> =
            new.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let body = json!({
            "instanceNames": [new.name],
            "availabilityZone": new.zone,
            "blueprintId": new.image,
            "bundleId": new.size,
            "tags": tags,
            "ipAddressType": "dualstack",
        });
        self.change("create the instance", "CreateInstances", &body, Effect::Makes).await
    }

    /// Replaces the set of open ports. An empty set is refused by some endpoints: the last one is closed by
    /// [`Self::close_port`].
    pub async fn put_ports(&self, name: &str, ports: &[Port]) -> Result<Vec<Operation>, Refusal> {
        let ports: Vec<Value> = ports.iter().map(Port::body).collect();
        let body = json!({"instanceName": name, "portInfos": ports});
        self.change("set the instance's ports", "PutInstancePublicPorts", &body, Effect::Sets).await
    }

    pub async fn close_port(&self, name: &str, port: &Port) -> Result<Vec<Operation>, Refusal> {
        let body = json!({"instanceName": name, "portInfo": port.body()});
        self.change("close the instance's port", "CloseInstancePublicPorts", &body, Effect::Sets).await
    }

    /// [`Instance::tokens_required`] tells when it is applied.
    pub async fn require_metadata_tokens(&self, name: &str) -> Result<Vec<Operation>, Refusal> {
        let body = json!({"instanceName": name, "httpTokens": "required", "httpEndpoint": "enabled"});
        let what = "protect the instance's metadata";
        self.change(what, "UpdateInstanceMetadataOptions", &body, Effect::Sets).await
    }

    /// Deletes the instance that has this name now; no operation if there is none. Sent once, like
    /// [`Self::create`]: a second request could meet an instance that somebody else has made since.
    pub async fn delete(&self, name: &str) -> Result<Vec<Operation>, Refusal> {
        let body = json!({"instanceName": name, "forceDeleteAddOns": true});
        let answer = self.change("delete the instance", "DeleteInstance", &body, Effect::Makes).await;
        Ok(none_if_missing(answer)?.unwrap_or_default())
    }

    /// Sent once, like [`Self::create`].
    pub async fn allocate_static_ip(&self, name: &str) -> Result<Vec<Operation>, Refusal> {
        let body = json!({"staticIpName": name});
        self.change("allocate the static IP", "AllocateStaticIp", &body, Effect::Makes).await
    }

    pub async fn attach_static_ip(&self, name: &str, instance: &str) -> Result<Vec<Operation>, Refusal> {
        let body = json!({"staticIpName": name, "instanceName": instance});
        self.change("attach the static IP", "AttachStaticIp", &body, Effect::Sets).await
    }

    /// No operation if there is no static IP of this name. Sent once, like [`Self::delete`].
    pub async fn release_static_ip(&self, name: &str) -> Result<Vec<Operation>, Refusal> {
        let body = json!({"staticIpName": name});
        let answer = self.change("release the static IP", "ReleaseStaticIp", &body, Effect::Makes).await;
        Ok(none_if_missing(answer)?.unwrap_or_default())
    }

    async fn change(
        &self,
        what: &str,
        operation: &'static str,
        body: &Value,
        effect: Effect,
    ) -> Result<Vec<Operation>, Refusal> {
        let answer = self.lightsail.json(what, operation, body, effect).await?;
        checked(what, Operation::all(&answer))
    }
}

fn none_if_missing<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.class == Class::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn checked<T>(what: &str, read: model::Read<T>) -> Result<T, Refusal> {
    read.map_err(|why| Refusal::malformed(what, &why))
}

#[cfg(all(test, feature = "aws"))]
mod server_tests;
#[cfg(all(test, feature = "aws"))]
mod tests;
