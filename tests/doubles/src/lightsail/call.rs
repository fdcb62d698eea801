//! One call: who asks, where, what, and what comes of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::{Key, signed};
use super::hardware::Hardware;
use super::refusal::Error;
use super::world::{Identity, Instance, Operation, Resource, State, World, uuid};

/// What an operation comes to.
pub(crate) type Outcome<T = Value> = Result<T, Error>;

/// The type of tagging operations, which the model does not have: they are shown without one.
pub(crate) const TAG: &str = "TagResource";

/// A call that was authenticated, authorised and judged by the model.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) key: Key,
    pub(crate) region: String,
    pub(crate) body: &'a Value,
    pub(crate) now: Timestamp,
}

impl<'a> Call<'a> {
    pub(crate) fn new(state: &'a mut State, key: Key, region: String, body: &'a Value) -> Self {
        let now = state.now();
        let mut call = Self { state, key, region, body, now };
        call.settle();
        call
    }

    /// A text of the request, empty if absent.
    pub(crate) fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_default().to_owned()
    }

    /// A list of texts of the request.
    pub(crate) fn texts(&self, member: &str) -> Vec<String> {
        texts(&self.body[member])
    }

    pub(crate) fn world(&mut self) -> &mut World {
        let place = (self.key.spec.account.clone(), self.region.clone());
        self.state.worlds.entry(place).or_default()
    }

    pub(crate) fn hardware(&self) -> Arc<dyn Hardware> {
        Arc::clone(&self.state.options.hardware)
    }

    pub(crate) fn identity(&self, kind: &str) -> Identity {
        Identity::new(kind, &self.key.spec.account, &self.region, self.now)
    }

    /// The instance that the request names, once it is found.
    pub(crate) fn instance(&mut self) -> Outcome<(String, &mut Instance)> {
        let name = self.text("instanceName");
        let visible = self.now - signed(self.state.options.lags.found);
        let found = self.world().instance_mut(&name).filter(|found| found.identity.created <= visible);
        found.map(|found| (name.clone(), found)).ok_or_else(|| Error::not_found("Instance", &name))
    }

    /// Notes an operation, which may end as a test wants it; its JSON, and whether it fails.
    pub(crate) fn operation(
        &mut self,
        kind: &'static str,
        (resource, resource_type): (&str, &'static str),
        details: &str,
        zone: &str,
    ) -> (Value, bool) {
        let failure = self.state.failure(kind);
        let fails = failure.is_some();
        let lags = &self.state.options.lags;
        let slow = matches!(kind, "CreateInstance" | "DeleteInstance");
        let lag = if slow { lags.operation } else { lags.other_operations };
        let operation = Operation {
            resource: resource.to_owned(),
            resource_type,
            kind,
            details: details.to_owned(),
            zone: zone.to_owned(),
            created: self.now,
            ends: self.now + signed(lag),
            failure,
        };
        let id = uuid();
        let shown = self.show_operation(&id, &operation);
        self.world().operations.insert(id, operation);
        (shown, fails)
    }

    pub(crate) fn show_operation(&self, id: &str, operation: &Operation) -> Value {
        let ended = operation.ends <= self.now;
        let status = match (&operation.failure, ended) {
            (_, false) => "Started",
            (None, true) => "Succeeded",
            (Some(_), true) => "Failed",
        };
        let changed = if ended { operation.ends } else { operation.created };
        let mut shown = json!({
            "id": id, "resourceName": operation.resource, "resourceType": operation.resource_type,
            "createdAt": seconds(operation.created), "location": self.location(&operation.zone),
            "isTerminal": ended, "operationDetails": operation.details, "status": status,
            "statusChangedAt": seconds(changed),
        });
        if operation.kind != TAG {
            shown["operationType"] = operation.kind.into();
        }
        if let (true, Some((code, details))) = (ended, &operation.failure) {
            shown["errorCode"] = code.as_str().into();
            shown["errorDetails"] = details.as_str().into();
        }
        shown
    }

    pub(crate) fn location(&self, zone: &str) -> Value {
        json!({"availabilityZone": zone, "regionName": self.region})
    }

    /// Takes away what has ended by now: deleted instances, and those whose creation failed.
    pub(crate) fn settle(&mut self) {
        let (now, lags) = (self.now, self.state.options.lags);
        self.world().resources.retain(|_, resource| match resource {
            Resource::Instance(instance) => {
                let failed = instance.fails && instance.identity.created + signed(lags.operation) <= now;
                !failed && instance.deleted.is_none_or(|at| at + signed(lags.deletion) > now)
            }
            _ => true,
        });
        let world = self.world();
        let left: Vec<String> = world.instances().map(|(name, _)| name.clone()).collect();
        for resource in world.resources.values_mut() {
            if let Resource::StaticIp(ip) = resource {
                ip.attached = ip.attached.take().filter(|name| left.contains(name));
            }
        }
    }

    /// Code and name of an instance's state.
    pub(crate) fn state_of(&self, instance: &Instance) -> (i64, &'static str) {
        if instance.deleted.is_some() {
            return (32, "shutting-down");
        }
        if instance.identity.created + signed(self.state.options.lags.running) > self.now {
            return (0, "pending");
        }
        if instance.stopped { (80, "stopped") } else { (16, "running") }
    }

    /// The public IPv4 address of an instance, once it has one.
    pub(crate) fn address_of(&self, name: &str, instance: &Instance) -> Option<Ipv4Addr> {
        let lags = &self.state.options.lags;
        let ready = instance.identity.created + signed(lags.running) + signed(lags.address) <= self.now;
        let place = (self.key.spec.account.clone(), self.region.clone());
        let world = self.state.worlds.get(&place)?;
        if instance.address_type == "ipv6" || !ready {
            return None;
        }
        world.attached(name).or_else(|| {
            if instance.stopped {
                return None;
            }
            instance.moved.or_else(|| self.state.options.hardware.address(name))
        })
    }
}

pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A time as the service writes it: seconds with fractions.
pub(crate) fn seconds(at: Timestamp) -> Value {
    // Milliseconds of this century are exact.
    #[allow(clippy::cast_precision_loss)]
    let fraction = at.as_millisecond() as f64;
    (fraction / 1000.0).into()
}
