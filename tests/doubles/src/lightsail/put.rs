//! What tests do behind the service's back, and what they see of the world.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::call::Call;
use super::firewall;
use super::instances::{self, DEFAULT_KEY_PAIR};
use super::world::{Identity, Instance, Metadata, Resource, Rule, StaticIp};
use super::{ACCOUNT, FakeLightsail};

/// An instance that somebody else made, long enough ago to be running. No machine is behind it.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// Key and value of its tags.
    pub tags: Vec<(String, String)>,
    /// Its blueprint.
    pub blueprint: String,
    /// Its bundle.
    pub bundle: String,
}

impl Foreign {
    /// An Ubuntu without tags.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (blueprint, bundle) = ("ubuntu_24_04".to_owned(), "nano_3_0".to_owned());
        Self { name: name.to_owned(), tags: Vec::new(), blueprint, bundle }
    }
}

impl FakeLightsail {
    /// Does something as [`ACCOUNT`] in the first region.
    fn within<T>(&self, act: impl FnOnce(&mut Call<'_>) -> T) -> T {
        let mut state = self.state();
        let region = state.options.regions[0].clone();
        let key =
            state.keys.iter().find(|key| key.spec.account == ACCOUNT).cloned().expect("the account has keys");
        act(&mut Call::new(&mut state, key, region, &Value::Null))
    }

    /// Puts an instance there, in place of what has its name; its ARN.
    pub fn put_instance(&self, foreign: Foreign) -> String {
        self.within(|call| {
            let mut identity = call.identity("Instance");
            identity.created = call.now - jiff::SignedDuration::from_hours(1);
            let arn = identity.arn.clone();
            let address = call.state.address();
            let instance = Instance {
                identity,
                zone: format!("{}b", call.region),
                blueprint: foreign.blueprint,
                bundle: foreign.bundle,
                key_pair: DEFAULT_KEY_PAIR.to_owned(),
                address_type: "dualstack".to_owned(),
                tags: foreign.tags.into_iter().map(|(key, value)| (key, Some(value))).collect(),
                user_data: String::new(),
                machine: false,
                fails: false,
                moved: Some(address),
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
                private: Ipv4Addr::new(172, 26, 7, 7),
                ipv6: "2A05:D014:0AAA:0BBB:0CCC:0DDD:0EEE:0007".to_owned(),
            };
            call.world().resources.insert(foreign.name, Resource::Instance(Box::new(instance)));
            arn
        })
    }

    fn put(
        &self,
        name: &str,
        kind: &str,
        resource: impl FnOnce(Identity, &mut Call<'_>) -> Resource,
    ) -> String {
        self.within(|call| {
            let identity = call.identity(kind);
            let arn = identity.arn.clone();
            let resource = resource(identity, call);
            call.world().resources.insert(name.to_owned(), resource);
            arn
        })
    }

    /// Puts a static IP there; its ARN.
    pub fn put_static_ip(&self, name: &str) -> String {
        self.put(name, "StaticIp", |identity, call| {
            Resource::StaticIp(StaticIp { identity, address: call.state.address(), attached: None })
        })
    }

    /// Puts a key pair there; its ARN.
    pub fn put_key_pair(&self, name: &str) -> String {
        self.put(name, "KeyPair", |identity, _| Resource::KeyPair(identity))
    }

    /// Puts a disk there, which has its name and nothing else; its ARN.
    pub fn put_disk(&self, name: &str) -> String {
        self.put(name, "Disk", |_, _| Resource::Other("Disk"))
    }

    /// Takes a resource away, whatever it is.
    pub fn take(&self, name: &str) {
        let hardware = self.state().options.hardware.clone();
        let taken = self.within(|call| call.world().resources.remove(name));
        if matches!(taken, Some(Resource::Instance(instance)) if instance.machine) {
            hardware.delete(name);
        }
    }

    /// Stops an instance, as its owner can by the console.
    ///
    /// # Panics
    /// If there is no such instance.
    pub fn stop(&self, name: &str) {
        self.power(name, false);
    }

    /// Starts an instance that was stopped: without a static IP it has another address then.
    ///
    /// # Panics
    /// If there is no such instance.
    pub fn start_instance(&self, name: &str) {
        self.power(name, true);
    }

    fn power(&self, name: &str, on: bool) {
        self.within(|call| {
            let address = call.state.address();
            let hardware = call.hardware();
            let fixed = call.world().attached(name).is_some();
            let instance = call.world().instance_mut(name).expect("there is such an instance");
            instance.stopped = !on;
            if on && !fixed {
                instance.moved = Some(address);
            }
            if instance.machine {
                hardware.power(name, on);
                if on && !fixed {
                    hardware.moved(name, address);
                }
            }
        });
    }

    /// Opens ports as its owner can by the console: protocol, port, IPv4 CIDRs and IPv6 CIDRs.
    ///
    /// # Panics
    /// If there is no such instance.
    pub fn open(&self, name: &str, (protocol, port): (&str, i64), cidrs: &[&str], ipv6_cidrs: &[&str]) {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let (cidrs, ipv6_cidrs) = (texts(cidrs), texts(ipv6_cidrs));
        let rule = Rule {
            protocol: protocol.to_owned(),
            from: port,
            to: port,
            cidrs,
            ipv6_cidrs,
            aliases: Vec::new(),
        };
        self.within(|call| {
            let hardware = call.hardware();
            let instance = call.world().instance_mut(name).expect("there is such an instance");
            instance.rules.push(rule);
            if instance.machine {
                hardware.ports(name, &firewall::open_ports(&instance.rules));
            }
        });
    }

    /// Everything that all accounts have in all regions, by account, region and name: for comparisons. Operations and
    /// what only time changes are left out.
    ///
    /// # Panics
    /// Never: whoever has something has a key.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let mut state = self.state();
        let places: Vec<(String, String)> = state.worlds.keys().cloned().collect();
        let mut snapshot = json!({});
        for (account, region) in places {
            let key = state.keys.iter().find(|key| key.spec.account == account).cloned();
            let key = key.expect("an account that has something has keys");
            let mut call = Call::new(&mut state, key, region.clone(), &Value::Null);
            let resources = &call.world().resources;
            let shown: serde_json::Map<String, Value> =
                resources.iter().map(|(name, resource)| (name.clone(), show(resource))).collect();
            if !shown.is_empty() {
                snapshot[account][region] = Value::Object(shown);
            }
        }
        snapshot
    }
}

fn show(resource: &Resource) -> Value {
    match resource {
        Resource::Instance(instance) => json!({
            "type": "Instance", "arn": instance.identity.arn, "zone": instance.zone, "blueprint": instance.blueprint,
            "bundle": instance.bundle, "keyPair": instance.key_pair, "addressType": instance.address_type,
            "tags": instances::show_tags(&instance.tags), "userData": instance.user_data,
            "stopped": instance.stopped, "deleted": instance.deleted.is_some(),
            "ports": instance.rules.iter().map(firewall::show).collect::<Value>(),
            "httpTokens": instance.metadata.tokens, "httpEndpoint": instance.metadata.endpoint,
        }),
        Resource::StaticIp(ip) => json!({
            "type": "StaticIp", "arn": ip.identity.arn, "address": ip.address.to_string(), "attachedTo": ip.attached,
        }),
        Resource::KeyPair(identity) => json!({"type": "KeyPair", "arn": identity.arn}),
        Resource::Other(kind) => json!({"type": kind}),
    }
}
