//! From where a host can be dialled, judged by its name or address alone.
//!
//! One answer for everybody who asks: the plan's warnings, the check of settings, the choice of a proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From this machine alone: loopback, the unspecified address, a name that containers use for their host.
    ThisMachine,
    /// From the same network segment alone.
    LinkLocal,
    /// From a private network.
    Private,
    /// Nothing speaks against dialling it from elsewhere.
    Anywhere,
}

/// Names that container tools on a workstation resolve to that workstation and nobody else resolves:
/// Docker Desktop, Podman, minikube, k3d, Lima, Rancher Desktop.
const HOST_NAMES: [&str; 9] = [
    "docker.internal",
    "host.containers.internal",
    "host.minikube.internal",
    "control-plane.minikube.internal",
    "host.k3d.internal",
    "host.lima.internal",
    "host.rancher-desktop.internal",
    "localhost.localdomain",
    "ip6-localhost",
];

/// A URL taken apart.
#[derive(Debug)]
pub struct Parts<'a> {
    /// In lower case.
    pub scheme: String,
    /// User name and password as they are written, if any are.
    pub userinfo: Option<&'a str>,
    /// In lower case, as DNS has it; an IPv6 address in brackets.
    pub host: String,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// What is behind: path, query, fragment.
    pub path: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes `scheme://[user[:password]@]host[:port][/…]` apart, or says in one phrase what is wrong with it.
    ///
    /// [`url::Url`] would drop a port that is the scheme's own and mend what is broken; here what is written
    /// counts.
    pub fn of(url: &'a str) -> Result<Self, &'static str> {
        if url.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("contains white space, a control character or a backslash");
        }
        let (scheme, rest) = url.split_once("://").ok_or("does not begin with https://")?;
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => (host, port),
            _ => (place, ""),
        };
        let port = match port {
            "" => None,
            _ if !port.bytes().all(|byte| byte.is_ascii_digit()) => return Err("has an invalid port"),
            _ => Some(port.parse().ok().filter(|port| *port > 0).ok_or("has an invalid port")?),
        };
        if host.is_empty() {
            return Err("has no host");
        }
        let host = url::Host::parse(host).map_err(|_| "has an invalid host")?.to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
        if host.starts_with('-') || !host.chars().all(plain) {
            return Err("has an invalid host");
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), userinfo, host, port, path })
    }

    /// `host:port`, or the host alone.
    pub fn authority(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }
}

/// Judges a host: a name, or an address with or without brackets and zone.
pub fn reach(host: &str) -> Reach {
    let name = bare(host);
    if let Some(address) = ip(&name) {
        return reach_of(address);
    }
    let within = |suffix: &str| name == suffix || name.ends_with(&format!(".{suffix}"));
    if is_loopback(host) || HOST_NAMES.iter().any(|name| within(name)) {
        Reach::ThisMachine
    } else {
        Reach::Anywhere
    }
}

/// Judges an address.
pub fn reach_of(address: IpAddr) -> Reach {
    match address.to_canonical() {
        // The unspecified address dials this very machine.
        address if address.is_loopback() || address.is_unspecified() => Reach::ThisMachine,
        IpAddr::V4(v4) if v4.is_link_local() => Reach::LinkLocal,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Reach::LinkLocal,
        IpAddr::V4(v4) if v4.is_private() || is_shared(v4) => Reach::Private,
        IpAddr::V6(v6) if v6.is_unique_local() => Reach::Private,
        _ => Reach::Anywhere,
    }
}

/// Whether what is sent to the host never leaves this machine: `localhost` and the names below it
/// (RFC 6761 §6.3), 127.0.0.0/8, `::1`, also as `::ffff:127.0.0.1`.
pub fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    match ip(&name) {
        Some(address) => address.to_canonical().is_loopback(),
        None => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// RFC 6598, as carriers and overlay networks use it.
fn is_shared(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    octets[0] == 100 && octets[1] & 0b1100_0000 == 64
}

/// Without brackets, in lower case, without the root's dot.
fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The address that a host is; a zone (`fe80::1%eth0`) is left out.
fn ip(host: &str) -> Option<IpAddr> {
    let without_zone = host.split_once('%').map_or(host, |(address, _)| address);
    host.parse().ok().or_else(|| without_zone.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_more_than_one_address() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "k3d.localhost",
            "127.0.0.1",
            "127.8.9.10",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "0:0:0:0:0:0:0:1",
        ] {
            assert!(is_loopback(host), "{host}");
            assert_eq!(reach(host), Reach::ThisMachine, "{host}");
        }
        for host in
            ["0.0.0.0", "::", "kubernetes.docker.internal", "host.docker.internal", "HOST.k3d.internal"]
        {
            assert!(!is_loopback(host), "{host}: plain http to it may leave the machine");
            assert_eq!(reach(host), Reach::ThisMachine, "{host}");
        }
        for host in
            ["localhost.example.com", "notlocalhost", "128.0.0.1", "1.127.0.0", "api.docker.internal.io"]
        {
            assert_eq!(reach(host), Reach::Anywhere, "{host}");
        }
    }

    #[test]
    fn networks_are_told_apart() {
        for host in ["169.254.1.1", "fe80::1", "[fe80::1%eth0]", "::ffff:169.254.0.9"] {
            assert_eq!(reach(host), Reach::LinkLocal, "{host}");
        }
        for host in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "fd00::1", "100.64.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(reach(host), Reach::Private, "{host}");
        }
        for host in ["34.77.12.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "api.example.com"] {
            assert_eq!(reach(host), Reach::Anywhere, "{host}");
        }
    }
}
