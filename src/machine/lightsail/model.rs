//! What Lightsail returns, checked before use. Members that are not read here are ignored.
//!
//! Shapes and patterns are those of the service model `lightsail/2016-11-28` in botocore.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::message::is_hostile;
use crate::base::secret::Secret;

/// Characters of a text member at most.
const LONGEST: usize = 512;
/// Characters of a key or certificate at most.
const LONGEST_KEY: usize = 16 * 1024;
/// Entries of a list inside of one object at most.
const MOST: usize = 256;

/// The account and the principal of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 12 digits.
    pub account: String,
    /// The ARN of the user, the assumed role or the root of the account.
    pub arn: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub name: String,
    pub arn: String,
    pub created: Timestamp,
    /// The availability zone, such as `eu-central-1a`.
    pub zone: String,
    /// The id of the blueprint.
    pub image: String,
    /// The id of the bundle.
    pub size: String,
    /// `pending`, `running`, `stopping`, `stopped`; the model lists no others and allows any.
    pub state: String,
    /// May be missing for a while after the state is `running`.
    pub address: Option<Ipv4Addr>,
    /// The login of the image; empty if the response has none.
    pub user: String,
    pub tags: BTreeMap<String, String>,
    /// The open ports.
    pub ports: Vec<Port>,
    /// Whether the metadata service requires a token, and the setting is applied.
    pub tokens_required: bool,
    /// Whether `address` is a static IP.
    pub has_static_ip: bool,
}

/// A range of open ports and who may reach it. Order and repetition do not count when two are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// -1 for every ICMP type.
    pub from: i32,
    pub to: i32,
    /// `tcp`, `udp`, `icmp`, `icmpv6` or `all`.
    pub protocol: String,
    pub cidrs: BTreeSet<String>,
    pub ipv6_cidrs: BTreeSet<String>,
    /// `lightsail-connect` for the SSH client of the console.
    pub aliases: BTreeSet<String>,
}

/// A key and a certificate for one login over SSH, and what the host must show.
#[derive(Clone, Debug)]
pub struct AccessDetails {
    pub private_key: Secret,
    /// An OpenSSH certificate; empty for a key pair that has none.
    pub certificate: Secret,
    pub user: String,
    pub address: Option<Ipv4Addr>,
    /// `ssh-ed25519 AAAA…`; none until AWS has seen them.
    pub host_keys: Vec<String>,
    pub expires: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub id: String,
    /// `CreateInstance`, `DeleteInstance` and others.
    pub kind: String,
    /// `NotStarted`, `Started`, `Failed`, `Completed` or `Succeeded`.
    pub status: String,
    pub is_terminal: bool,
    pub error_code: String,
    pub error_details: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub name: String,
    pub zones: Vec<Zone>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub name: String,
    /// `available` for one that takes instances.
    pub state: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    pub id: String,
    /// Cents (USD) a month.
    pub price: u32,
    /// GB.
    pub ram: f64,
    pub is_active: bool,
    /// `LINUX_UNIX`, `WINDOWS`.
    pub platforms: Vec<String>,
    /// Public IPv4 addresses; 0 for a bundle with IPv6 alone.
    pub ipv4_count: u32,
    /// Compared with [`Blueprint::min_power`].
    pub power: u32,
    /// The supported categories of applications, such as `LfR`.
    pub categories: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    pub id: String,
    /// `LINUX_UNIX` or `WINDOWS`.
    pub platform: String,
    /// `os` or `app`.
    pub kind: String,
    /// `ubuntu`, `debian` and others.
    pub group: String,
    pub is_active: bool,
    pub min_power: u32,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticIp {
    pub name: String,
    pub arn: String,
    pub address: Ipv4Addr,
    /// The instance.
    pub attached_to: Option<String>,
}

/// An instance to create.
#[derive(Clone, Debug)]
pub struct NewInstance {
    pub name: String,
    pub zone: String,
    pub image: String,
    pub size: String,
    pub tags: BTreeMap<String, String>,
}

/// Whether a resource may have this name. The pattern of the model is `\w[\w\-]*\w`; the service also says "." (its
/// messages list "alphanumerics, -, _, and .").
pub fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (2..=255).contains(&name.len())
        && name.chars().all(|c| word(c) || c == '-' || c == '.')
        && name.starts_with(word)
        && name.ends_with(word)
}

/// Why a response cannot be used: the member and what is wrong.
pub(super) type Read<T> = Result<T, String>;

impl Port {
    /// One TCP port, open to nobody.
    pub fn tcp(port: u16) -> Self {
        Self {
            from: port.into(),
            to: port.into(),
            protocol: "tcp".to_owned(),
            cidrs: BTreeSet::new(),
            ipv6_cidrs: BTreeSet::new(),
            aliases: BTreeSet::new(),
        }
    }

    pub(super) fn body(&self) -> Value {
        json!({
            "fromPort": self.from,
            "toPort": self.to,
            "protocol": self.protocol,
            "cidrs": self.cidrs,
            "ipv6Cidrs": self.ipv6_cidrs,
            "cidrListAliases": self.aliases,
        })
    }

    /// An entry of `portStates` or of an instance's `networking.ports`.
    pub(super) fn read(value: &Value) -> Read<Self> {
        let number = |key: &str| {
            let found = value[key].as_i64().and_then(|number| i32::try_from(number).ok());
            found.filter(|number| (-1..=65535).contains(number)).ok_or(format!("{key} is not a port"))
        };
        let set = |key: &str| Ok::<_, String>(texts(value, key)?.into_iter().collect());
        Ok(Self {
            from: number("fromPort")?,
            to: number("toPort")?,
            protocol: text(value, "protocol")?,
            cidrs: set("cidrs")?,
            ipv6_cidrs: set("ipv6Cidrs")?,
            aliases: set("cidrListAliases")?,
        })
    }

    /// Entries whose state is not `closed`.
    pub(super) fn states(value: &Value) -> Read<Vec<Self>> {
        list(value, "portStates")?.iter().filter(|port| port["state"] != "closed").map(Self::read).collect()
    }
}

impl Instance {
    pub(super) fn read(value: &Value) -> Read<Self> {
        let metadata = &value["metadataOptions"];
        let applied = metadata["state"] == "applied";
        let mut tags = BTreeMap::new();
        for tag in list(value, "tags")? {
            tags.insert(text(tag, "key")?, optional(tag, "value")?);
        }
        Ok(Self {
            name: name(value, "name")?,
            arn: arn(value)?,
            created: time(value, "createdAt")?.ok_or("createdAt is missing")?,
            zone: text(&value["location"], "availabilityZone")?,
            image: text(value, "blueprintId")?,
            size: text(value, "bundleId")?,
            state: text(&value["state"], "name")?,
            address: address(value, "publicIpAddress")?,
            user: login(value)?,
            tags,
            ports: list(&value["networking"], "ports")?.iter().map(Port::read).collect::<Read<_>>()?,
            tokens_required: applied && metadata["httpTokens"] == "required",
            has_static_ip: value["isStaticIp"] == true,
        })
    }
}

impl AccessDetails {
    pub(super) fn read(value: &Value) -> Read<Self> {
        let key = |name: &str| {
            let text = value[name].as_str().unwrap_or_default();
            let fits = text.len() <= LONGEST_KEY
                && text.chars().all(|c| c == '\n' || c == '\r' || c == ' ' || c.is_ascii_graphic());
            if fits { Ok(Secret::new(text)) } else { Err(format!("{name} is not a key in text form")) }
        };
        let private_key = key("privateKey")?;
        if private_key.expose().is_empty() {
            return Err("privateKey is missing".to_owned());
        }
        let host_keys = list(value, "hostKeys")?.iter().map(host_key).collect::<Read<_>>()?;
        let user = login(value)?;
        if user.is_empty() {
            return Err("username is missing".to_owned());
        }
        Ok(Self {
            private_key,
            certificate: key("certKey")?,
            user,
            address: address(value, "ipAddress")?,
            host_keys,
            expires: time(value, "expiresAt")?,
        })
    }
}

/// The key as in `known_hosts`, without a host.
fn host_key(value: &Value) -> Read<String> {
    let (algorithm, key) = (text(value, "algorithm")?, bounded(value, "publicKey", LONGEST_KEY)?);
    let named = algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-@.".contains(&byte));
    let bytes = STANDARD.decode(&key).unwrap_or_default();
    // The key itself begins with the length and the name of its algorithm (RFC 4253, 6.6).
    let length = u32::try_from(algorithm.len()).unwrap_or_default().to_be_bytes();
    let inner = bytes.strip_prefix(&length).is_some_and(|rest| rest.starts_with(algorithm.as_bytes()));
    if named && inner {
        Ok(format!("{algorithm} {key}"))
    } else {
        Err("hostKeys has an invalid key".to_owned())
    }
}

impl Operation {
    pub(super) fn read(value: &Value) -> Read<Self> {
        Ok(Self {
            id: text(value, "id")?,
            kind: optional(value, "operationType")?,
            status: text(value, "status")?,
            is_terminal: value["isTerminal"] == true,
            error_code: optional(value, "errorCode")?,
            error_details: shortened(value, "errorDetails"),
        })
    }

    /// `operations`, or the one `operation`.
    pub(super) fn all(value: &Value) -> Read<Vec<Self>> {
        match value.get("operation") {
            Some(one) => Ok(vec![Self::read(one)?]),
            None => list(value, "operations")?.iter().map(Self::read).collect(),
        }
    }

    /// Whether it ended without success.
    pub fn has_failed(&self) -> bool {
        self.status == "Failed"
    }
}

impl Region {
    pub(super) fn read(value: &Value) -> Read<Self> {
        let zone = |zone: &Value| Ok(Zone { name: text(zone, "zoneName")?, state: optional(zone, "state")? });
        let zones = list(value, "availabilityZones")?.iter().map(zone).collect::<Read<_>>()?;
        Ok(Self { name: text(value, "name")?, zones })
    }
}

impl Bundle {
    pub(super) fn read(value: &Value) -> Read<Self> {
        let price = value["price"].as_f64().filter(|price| (0.0..100_000.0).contains(price));
        let ram = value["ramSizeInGb"].as_f64().filter(|ram| (0.0..100_000.0).contains(ram));
        // In range: see above.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let cents = |price: f64| (price * 100.0).round() as u32;
        Ok(Self {
            id: text(value, "bundleId")?,
            price: price.map(cents).ok_or("price is not an amount")?,
            ram: ram.ok_or("ramSizeInGb is not a size")?,
            is_active: value["isActive"] == true,
            platforms: texts(value, "supportedPlatforms")?,
            ipv4_count: count(value, "publicIpv4AddressCount")?.unwrap_or(1),
            power: count(value, "power")?.unwrap_or(0),
            categories: texts(value, "supportedAppCategories")?,
        })
    }
}

impl Blueprint {
    pub(super) fn read(value: &Value) -> Read<Self> {
        Ok(Self {
            id: text(value, "blueprintId")?,
            platform: optional(value, "platform")?,
            kind: optional(value, "type")?,
            group: optional(value, "group")?,
            is_active: value["isActive"] == true,
            min_power: count(value, "minPower")?.unwrap_or(0),
            version: optional(value, "version")?,
        })
    }
}

impl StaticIp {
    pub(super) fn read(value: &Value) -> Read<Self> {
        Ok(Self {
            name: name(value, "name")?,
            arn: arn(value)?,
            address: address(value, "ipAddress")?.ok_or("ipAddress is missing")?,
            attached_to: Some(optional(value, "attachedTo")?).filter(|name| !name.is_empty()),
        })
    }
}

fn bounded(value: &Value, key: &str, longest: usize) -> Read<String> {
    match &value[key] {
        Value::Null => Ok(String::new()),
        Value::String(text) if text.len() <= longest && !text.chars().any(is_hostile) => Ok(text.clone()),
        Value::String(_) => Err(format!("{key} is too long or contains control or invisible characters")),
        _ => Err(format!("{key} is not text")),
    }
}

/// A text that may be missing: then it is empty.
fn optional(value: &Value, key: &str) -> Read<String> {
    bounded(value, key, LONGEST)
}

fn text(value: &Value, key: &str) -> Read<String> {
    let text = optional(value, key)?;
    if text.trim().is_empty() { Err(format!("{key} is missing")) } else { Ok(text) }
}

/// A text for people: cut, not refused.
fn shortened(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().chars().filter(|c| !is_hostile(*c)).take(LONGEST).collect()
}

fn name(value: &Value, key: &str) -> Read<String> {
    let name = text(value, key)?;
    if is_name(&name) { Ok(name) } else { Err(format!("{key} is not the name of a resource")) }
}

fn arn(value: &Value) -> Read<String> {
    let arn = text(value, "arn")?;
    let fits = arn.starts_with("arn:") && arn.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(arn) } else { Err("arn is not an ARN".to_owned()) }
}

/// A login that ssh takes for nothing else: see `useradd(8)`.
fn login(value: &Value) -> Read<String> {
    let user = optional(value, "username")?;
    let fits = user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if fits && !user.starts_with('-') && user.len() <= 64 {
        Ok(user)
    } else {
        Err("username is not a login".to_owned())
    }
}

fn address(value: &Value, key: &str) -> Read<Option<Ipv4Addr>> {
    match optional(value, key)?.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("{key} is not an IPv4 address")),
    }
}

fn count(value: &Value, key: &str) -> Read<Option<u32>> {
    match &value[key] {
        Value::Null => Ok(None),
        found => {
            let number = found.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or(format!("{key} is not a count"))
        }
    }
}

/// Seconds since 1970 with fractions.
fn time(value: &Value, key: &str) -> Read<Option<Timestamp>> {
    match &value[key] {
        Value::Null => Ok(None),
        found => {
            let seconds = found.as_f64().filter(|seconds| (0.0..1e11).contains(seconds));
            // In range: see above.
            #[expect(clippy::cast_possible_truncation)]
            let read =
                seconds.and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok());
            read.map(Some).ok_or(format!("{key} is not a time"))
        }
    }
}

pub(super) fn list<'v>(value: &'v Value, key: &str) -> Read<&'v [Value]> {
    match &value[key] {
        Value::Null => Ok(&[]),
        Value::Array(items) if items.len() <= MOST => Ok(items),
        Value::Array(_) => Err(format!("{key} has more than {MOST} entries")),
        _ => Err(format!("{key} is not a list")),
    }
}

fn texts(value: &Value, key: &str) -> Read<Vec<String>> {
    let one = |item: &Value| {
        let text = item.as_str().filter(|text| text.len() <= LONGEST && !text.chars().any(is_hostile));
        text.map(str::to_owned).ok_or(format!("{key} contains something that is not text"))
    };
    list(value, key)?.iter().map(one).collect()
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(super) mod tests;
