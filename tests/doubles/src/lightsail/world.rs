//! What an account has in a region.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};

use super::access::Key;
use super::options::Options;
use super::refusal::{Error, Refusal};
use crate::wire::random;

/// Everything that a Lightsail remembers.
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) keys: Vec<Key>,
    /// By account and region.
    pub(crate) worlds: BTreeMap<(String, String), World>,
    /// What the next requests come to, in place of what they ask for.
    pub(crate) refusals: Vec<(String, usize, Refusal)>,
    /// How the next operations of a type end: type, code, details.
    pub(crate) failures: Vec<(String, String, String)>,
    /// How far the service's clock is ahead of this machine's.
    pub(crate) ahead: SignedDuration,
    pub(crate) addresses: u32,
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// An address that nobody has: the hook of no machine leads there.
    pub(crate) fn address(&mut self) -> Ipv4Addr {
        self.addresses += 1;
        Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 79, 0, 0)) + self.addresses)
    }

    /// The refusal that a test wants for an operation, if one is left.
    pub(crate) fn refused(&mut self, operation: &str) -> Option<Refusal> {
        let wanted = |(name, left, _): &&mut (String, usize, Refusal)| *left > 0 && name == operation;
        let (_, left, refusal) = self.refusals.iter_mut().find(wanted)?;
        *left -= 1;
        Some(refusal.clone())
    }

    /// How an operation of this type fails, if a test wants it to.
    pub(crate) fn failure(&mut self, kind: &str) -> Option<(String, String)> {
        let index = self.failures.iter().position(|(wanted, ..)| wanted == kind)?;
        let (_, code, details) = self.failures.remove(index);
        Some((code, details))
    }
}

/// An account's part of a region. All resources share their names.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) resources: BTreeMap<String, Resource>,
    pub(crate) operations: BTreeMap<String, Operation>,
}

impl World {
    /// Refuses names that are taken, by whatever it is.
    pub(crate) fn free(&self, names: &[&str]) -> Result<(), Error> {
        let taken: Vec<&str> =
            names.iter().copied().filter(|name| self.resources.contains_key(*name)).collect();
        if taken.is_empty() {
            return Ok(());
        }
        Err(Error::input(format!("Some names are already in use: {}", taken.join(", "))))
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = (&String, &Instance)> {
        self.resources.iter().filter_map(|(name, resource)| match resource {
            Resource::Instance(instance) => Some((name, &**instance)),
            _ => None,
        })
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances().find(|(known, _)| *known == name).map(|(_, instance)| instance)
    }

    pub(crate) fn instance_mut(&mut self, name: &str) -> Option<&mut Instance> {
        match self.resources.get_mut(name)? {
            Resource::Instance(instance) => Some(instance),
            _ => None,
        }
    }

    /// The static IP that is attached to an instance.
    pub(crate) fn attached(&self, instance: &str) -> Option<Ipv4Addr> {
        self.resources.values().find_map(|resource| match resource {
            Resource::StaticIp(ip) if ip.attached.as_deref() == Some(instance) => Some(ip.address),
            _ => None,
        })
    }
}

/// A thing with a name.
pub(crate) enum Resource {
    Instance(Box<Instance>),
    StaticIp(StaticIp),
    KeyPair(Identity),
    /// A disk, a database, …: it only holds its name.
    Other(&'static str),
}

/// What every resource has.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) arn: String,
    pub(crate) support_code: String,
    pub(crate) created: Timestamp,
}

impl Identity {
    /// `kind` is the resource's type, as `StaticIp`.
    pub(crate) fn new(kind: &str, account: &str, region: &str, created: Timestamp) -> Self {
        let support_code = format!("{account}/{}", u32::from_be_bytes(random()));
        Self { arn: format!("arn:aws:lightsail:{region}:{account}:{kind}/{}", uuid()), support_code, created }
    }
}

pub(crate) struct StaticIp {
    pub(crate) identity: Identity,
    pub(crate) address: Ipv4Addr,
    pub(crate) attached: Option<String>,
}

/// A virtual private server.
pub(crate) struct Instance {
    pub(crate) identity: Identity,
    pub(crate) zone: String,
    pub(crate) blueprint: String,
    pub(crate) bundle: String,
    pub(crate) key_pair: String,
    pub(crate) address_type: String,
    pub(crate) tags: Vec<(String, Option<String>)>,
    pub(crate) user_data: String,
    /// Whether there is a machine behind it.
    pub(crate) machine: bool,
    /// Its creation's end, if that is a failure: it then never was.
    pub(crate) fails: bool,
    /// An address that is not the machine's own.
    pub(crate) moved: Option<Ipv4Addr>,
    pub(crate) stopped: bool,
    pub(crate) deleted: Option<Timestamp>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) metadata: Metadata,
    pub(crate) private: Ipv4Addr,
    pub(crate) ipv6: String,
}

/// A rule of an instance's firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) protocol: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) cidrs: Vec<String>,
    pub(crate) ipv6_cidrs: Vec<String>,
    pub(crate) aliases: Vec<String>,
}

/// Who may ask the metadata service, and how.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) tokens: String,
    pub(crate) endpoint: String,
    pub(crate) hops: i64,
    pub(crate) ipv6: String,
    pub(crate) applied: Timestamp,
}

/// What was asked for, and how it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) resource: String,
    pub(crate) resource_type: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) details: String,
    pub(crate) zone: String,
    pub(crate) created: Timestamp,
    pub(crate) ends: Timestamp,
    pub(crate) failure: Option<(String, String)>,
}

/// A random UUID in text.
pub(crate) fn uuid() -> String {
    let mut bytes: [u8; 16] = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = super::access::hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}
