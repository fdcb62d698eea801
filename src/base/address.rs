//! Classifies a host by its name or address alone: from which networks it can be reached. Used by the plan's
//! warnings, the checks of settings and the choice of a proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only from this machine: loopback, the unspecified address, a name that containers use for their host.
    ThisMachine,
    /// Only from the same network segment.
    LinkLocal,
    /// Only from a private network.
    Private,
    /// No restriction is known.
    Anywhere,
}

/// Names that only container tools resolve, to the workstation that they run on: Docker Desktop, Podman,
/// minikube, k3d, Lima, Rancher Desktop.
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

/// The parts of a URL.
#[derive(Debug)]
pub struct Parts<'a> {
    /// In lower case.
    pub scheme: String,
    /// User name and password, not decoded.
    pub userinfo: Option<&'a str>,
    /// In lower case, in ASCII (IDNA); an IPv6 address in brackets.
    pub host: String,
    pub port: Option<u16>,
    /// Path, query and fragment.
    pub path: &'a str,
}

impl<'a> Parts<'a> {
    /// Parses `scheme://[user[:password]@]host[:port][/…]`. The error completes a sentence: "has no host".
    ///
    /// [`url::Url`] is not used because it drops a scheme's default port and repairs invalid URLs.
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

/// Classifies a host: a name, or an address with or without brackets and zone.
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

pub fn reach_of(address: IpAddr) -> Reach {
    match address.to_canonical() {
        // A connection to the unspecified address reaches this machine.
        address if address.is_loopback() || address.is_unspecified() => Reach::ThisMachine,
        IpAddr::V4(v4) if v4.is_link_local() => Reach::LinkLocal,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Reach::LinkLocal,
        IpAddr::V4(v4) if v4.is_private() || is_shared(v4) => Reach::Private,
        IpAddr::V6(v6) if v6.is_unique_local() => Reach::Private,
        _ => Reach::Anywhere,
    }
}

/// Whether traffic to the host never leaves this machine: `localhost` and the names below it
/// (RFC 6761 §6.3), 127.0.0.0/8, `::1`, also as `::ffff:127.0.0.1`.
pub fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    match ip(&name) {
        Some(address) => address.to_canonical().is_loopback(),
        None => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The shared address space of RFC 6598, which carriers and overlay networks use.
fn is_shared(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    octets[0] == 100 && octets[1] & 0b1100_0000 == 64
}

pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// The host in lower case, without brackets and without a trailing dot.
fn bare(host: &str) -> String {
    let host = without_brackets(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Parses an address; a zone (`fe80::1%eth0`) is ignored.
fn ip(host: &str) -> Option<IpAddr> {
    let without_zone = host.split_once('%').map_or(host, |(address, _)| address);
    host.parse().ok().or_else(|| without_zone.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_every_form_of_loopback() {
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
    fn classifies_addresses_by_network() {
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
