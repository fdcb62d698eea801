//! The address of an API server.

use crate::base::address::{self, Parts, Reach};
use crate::base::error::{Failure, Id, Result};
use crate::base::proxy::without_userinfo;

/// The parts of an API server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL for the runner: scheme and host in lower case, without a trailing slash.
    pub url: String,
    /// Host without brackets.
    pub host: String,
    /// Port, 443 unless given.
    pub port: u16,
    /// Path prefix without the trailing slash, empty for a plain API server.
    pub prefix: String,
}

impl Endpoint {
    /// Parses `https://host[:port][/prefix]`, and fails with OR0301 (exit 3) for anything else. `what` names the
    /// value in the error.
    pub fn parse(url: &str, what: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let url = without_userinfo(url);
            Failure::new(Id::UnusableKubeconfig, format!("invalid {what} {url:?}"))
                .detail("because", format!("it {why}"))
                .hint("use the form https://host or https://host:port")
        };
        let parts = Parts::of(url).map_err(refuse)?;
        match parts.scheme.as_str() {
            "https" => {}
            "http" => return Err(refuse("uses plain http, which would expose tokens")),
            _ => return Err(refuse("does not begin with https://")),
        }
        if parts.path.contains(['?', '#']) {
            return Err(refuse("contains a query or a fragment"));
        }
        if parts.userinfo.is_some() {
            return Err(refuse("contains a user name"));
        }
        let prefix = parts.path.trim_end_matches('/');
        let url = format!("https://{}{prefix}", parts.authority());
        if url.parse::<http::Uri>().is_err() {
            return Err(refuse("is not a valid URL"));
        }
        let host = parts.host.trim_matches(['[', ']']).to_owned();
        Ok(Self { url, host, port: parts.port.unwrap_or(443), prefix: prefix.to_owned() })
    }

    /// The networks from which the host can be reached.
    pub fn reach(&self) -> Reach {
        address::reach(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Id;

    #[test]
    fn parses_https_addresses_and_refuses_others() {
        let plain = Endpoint::parse("https://34.77.12.8/", "the server").expect("fine");
        assert_eq!((plain.host.as_str(), plain.port, plain.prefix.as_str()), ("34.77.12.8", 443, ""));
        let six = Endpoint::parse("https://[::1]:6443", "the server").expect("fine");
        assert_eq!((six.url.as_str(), six.host.as_str(), six.port), ("https://[::1]:6443", "::1", 6443));
        assert_eq!(six.reach(), Reach::ThisMachine);
        let rancher = Endpoint::parse("https://r.example.com/k8s/clusters/c-1", "the server").expect("fine");
        assert_eq!(rancher.prefix, "/k8s/clusters/c-1");
        for (odd, url) in [
            ("HTTPS://API.Example.com:6443/", "https://api.example.com:6443"),
            ("https://host:", "https://host"),
            ("https://host:0443", "https://host:443"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://my_host", "https://my_host"),
        ] {
            assert_eq!(Endpoint::parse(odd, "the server").expect(odd).url, url);
        }
        for bad in [
            "http://x",
            "x:6443",
            "https://",
            "https://a@b",
            "https://a?b=c",
            "",
            "https://h:99999",
            "https://h:0",
            "https://h:+1",
            "https://h h",
            "https://[::1",
            "https://::1",
        ] {
            assert_eq!(Endpoint::parse(bad, "the server").expect_err(bad).id, Id::UnusableKubeconfig);
        }
        let secret = Endpoint::parse("https://user:canary@host", "the server").expect_err("refused");
        assert!(!format!("{secret:?}").contains("canary"), "{secret:?}");
    }
}
