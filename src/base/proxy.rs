//! Chooses the proxy for a server, for the cluster and for GitLab.
//!
//! The rules for the environment are those of Go's `golang.org/x/net/http/httpproxy`, which kubectl, glab and
//! gitlab-runner use: `HTTPS_PROXY` and `NO_PROXY` (or in lower case), `HTTP_PROXY` for plain http only, never
//! `ALL_PROXY`. The HTTP libraries get the result and do not read the variables: their rules differ, and they
//! refuse lists that Go accepts. `tests/real/go/proxy` compares this module with Go.
//!
//! One deliberate difference from Go: an invalid variable is refused, not ignored, because credentials would
//! otherwise bypass the intended proxy.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::address::Parts;
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A CONNECT tunnel.
    Http,
    /// A CONNECT tunnel over TLS.
    Https,
    /// SOCKS 5; the proxy resolves names, as with Go.
    Socks5,
}

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "socks5" | "socks5h" => Some(Self::Socks5),
            _ => None,
        }
    }

    /// The scheme in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }
}

/// A chosen proxy. `Display` and `Debug` hide its user name and password.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The protocol.
    pub scheme: Scheme,
    /// `host:port`, an IPv6 address in brackets.
    pub authority: String,
    /// User name and password, percent-encoded as in a URL.
    pub userinfo: Option<Secret>,
    /// The variable that sets it, or the kubeconfig.
    pub source: String,
}

impl Proxy {
    /// The URL with the credentials and a given scheme, for a library.
    pub fn url(&self, scheme: &str) -> Secret {
        let userinfo =
            self.userinfo.as_ref().map(|secret| format!("{}@", secret.expose())).unwrap_or_default();
        Secret::new(format!("{scheme}://{userinfo}{}", self.authority))
    }

    /// The URL without the credentials.
    pub fn shown(&self) -> String {
        format!("{}://{}", self.scheme.name(), self.authority)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.shown(), self.source)
    }
}

/// The proxy variables, kept for later connections. `Debug` shows only their names.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Selects the proxy variables of an environment.
    pub fn of(env: &BTreeMap<String, String>) -> Self {
        const NAMES: [&str; 4] = ["http_proxy", "https_proxy", "no_proxy", "request_method"];
        let mut variables = env.clone();
        variables.retain(|name, _| NAMES.contains(&name.to_ascii_lowercase().as_str()));
        Self(variables)
    }

    /// See [`from_env`].
    pub fn proxy(&self, https: bool, host: &str, port: u16) -> Result<Option<Proxy>> {
        from_env(&self.0, https, host, port)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// The proxy for a server by the rules for the environment; `None` for a direct connection. `host` has no
/// brackets; `https` is true if the server uses TLS. Fails with OR0350 (exit 3) if the variable that applies is
/// invalid, and for `HTTP_PROXY` in a CGI program, where a request could set it
/// (<https://go.dev/s/cgihttpproxy>).
pub fn from_env(env: &BTreeMap<String, String>, https: bool, host: &str, port: u16) -> Result<Option<Proxy>> {
    let names = if https { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let Some((name, value)) = first(env, names) else { return Ok(None) };
    let list = first(env, ["NO_PROXY", "no_proxy"]).map(|(_, list)| list).unwrap_or_default();
    if excepted(list, host, port) {
        return Ok(None);
    }
    if !https && env.get("REQUEST_METHOD").is_some_and(|method| !method.is_empty()) {
        return Err(unusable(name, "", "REQUEST_METHOD is set, so a CGI request could set this variable")
            .hint("unset REQUEST_METHOD if this is not a CGI program"));
    }
    // As Go: host:port is an HTTP proxy.
    let whole = match value.split_once("://") {
        Some(_) => value.to_owned(),
        None => format!("http://{value}"),
    };
    parse(&whole, name).map(Some)
}

/// The proxy of a cluster in a kubeconfig; as in kubectl, `NO_PROXY` does not apply. Fails with OR0350 (exit 3)
/// if it is invalid or, as in kubectl, has no scheme.
pub fn from_kubeconfig(value: &str) -> Result<Proxy> {
    let name = "proxy-url of the kubeconfig";
    if !value.contains("://") {
        return Err(unusable(name, value, "it has no scheme")
            .hint("add one, as kubectl also requires: http://HOST:PORT"));
    }
    parse(value, name)
}

fn first<'a>(env: &'a BTreeMap<String, String>, names: [&'static str; 2]) -> Option<(&'static str, &'a str)> {
    names.into_iter().find_map(|name| {
        let value = env.get(name).filter(|value| !value.is_empty())?;
        Some((name, value.as_str()))
    })
}

/// Parses a proxy's URL; its path is ignored.
fn parse(value: &str, source: &str) -> Result<Proxy> {
    let refuse = |why: &str| unusable(source, value, why);
    let parts = Parts::of(value).map_err(|why| refuse(&format!("it {why}")))?;
    let scheme = Scheme::named(&parts.scheme)
        .ok_or_else(|| refuse("only http, https and socks5 proxies are supported"))?;
    let userinfo = parts.userinfo.filter(|text| !text.is_empty()).map(Secret::new);
    let authority = format!("{}:{}", parts.host, parts.port.unwrap_or(scheme.default_port()));
    Ok(Proxy { scheme, authority, userinfo, source: source.to_owned() })
}

fn unusable(source: &str, value: &str, why: &str) -> Failure {
    let value = if value.is_empty() { String::new() } else { format!(" {:?}", without_userinfo(value)) };
    Failure::new(Id::InvalidProxy, format!("invalid proxy in {source}{value}"))
        .detail("because", why)
        .hint("use the form http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT; list hosts to reach directly in NO_PROXY")
}

/// The URL without anything that could be a user name or password.
pub fn without_userinfo(value: &str) -> String {
    // In `user:password@://` it does not end a scheme.
    let is_scheme = |at: &usize| value[..*at].chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let start = value.find("://").filter(is_scheme).map_or(0, |at| at + 3);
    // Also after the first slash: a password may contain a slash that should be encoded.
    match value.rfind('@').filter(|at| *at >= start) {
        Some(at) => format!("{}…@{}", &value[..start], &value[at + 1..]),
        None => value.to_owned(),
    }
}

/// Whether to connect to a server directly: always for `localhost` and loopback addresses, otherwise if
/// `NO_PROXY` contains it.
fn excepted(list: &str, host: &str, port: u16) -> bool {
    let host = ascii(host.trim()).to_lowercase();
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_lowercase()).any(|entry| names(&entry, &host, address, port))
}

/// Whether an entry of `NO_PROXY` covers the server.
fn names(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    match entry {
        "" => return false,
        "*" => return true,
        _ => {}
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| canonical(network).contains(&address));
    }
    let (name, only) = host_and_port(entry);
    let fits = only.is_empty() || *only == port.to_string();
    if let Ok(one) = name.parse::<IpAddr>() {
        return fits && address == Some(one.to_canonical());
    }
    // Names never cover an address.
    if name.is_empty() || address.is_some() {
        return false;
    }
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    let name = ascii(name);
    let below = if name.starts_with('.') { name.clone() } else { format!(".{name}") };
    fits && (host.ends_with(&below) || host == name)
}

/// Splits an entry like Go's `net.SplitHostPort`: an IPv6 address has a port only after brackets, and an entry
/// that cannot be split is a host.
fn host_and_port(entry: &str) -> (&str, &str) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, port)) if port.starts_with(':') && !port[1..].contains([':', '[', ']']) => {
                (host, &port[1..])
            }
            _ => (entry, ""),
        };
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port),
        _ => (entry, ""),
    }
}

/// Converts a network of IPv4-mapped IPv6 addresses to the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(address), length @ 96..) if network.addr().is_ipv6() => {
            IpNet::new(IpAddr::V4(address), length - 96).unwrap_or(network)
        }
        _ => network,
    }
}

/// The host name in ASCII (IDNA); an invalid name is returned unchanged.
fn ascii(host: &str) -> String {
    if host.is_ascii() {
        return host.to_owned();
    }
    let dot = if host.starts_with('.') { "." } else { "" };
    match url::Host::parse(host.trim_start_matches('.')) {
        Ok(name) => format!("{dot}{name}"),
        Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
