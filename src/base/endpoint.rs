//! The address of an API server.

use crate::base::address::{self, Reach};
use crate::base::error::{Failure, Id, Result};
use crate::base::proxy::without_userinfo;

/// An API server address taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL as the runner will get it: scheme and host in lower case, without a trailing slash.
    pub url: String,
    /// Host without brackets.
    pub host: String,
    /// Port, 443 unless given.
    pub port: u16,
    /// Path prefix without the trailing slash, empty for a plain API server.
    pub prefix: String,
}

impl Endpoint {
    /// Takes an `https://host[:port][/prefix]` apart; `what` names the value in an error.
    ///
    /// # Errors
    /// Exit 3 for anything else, with the reason.
    pub fn parse(url: &str, what: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let url = without_userinfo(url);
            Failure::new(Id::UnusableKubeconfig, format!("{what} {url:?} cannot be used"))
                .detail("because", why)
                .hint("it has to look like https://host or https://host:port")
        };
        if url.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(refuse("it holds a blank, a line break or a backslash"));
        }
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
                return Err(refuse("a token sent over plain http can be read by anybody on the way"));
            }
            _ => return Err(refuse("it does not begin with https://")),
        };
        if rest.contains(['?', '#']) {
            return Err(refuse("it carries a query or a fragment"));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(refuse("it carries a user name"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        if host.is_empty() {
            return Err(refuse("it has no host"));
        }
        let number = match port {
            "" => 443,
            _ => match port.parse() {
                Ok(number @ 1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => number,
                _ => return Err(refuse("its port is none")),
            },
        };
        let host = url::Host::parse(host).map_err(|_| refuse("its host is none"))?.to_string();
        let prefix = path.trim_end_matches('/');
        let port = if port.is_empty() { String::new() } else { format!(":{number}") };
        let url = format!("https://{host}{port}{prefix}");
        if url.parse::<http::Uri>().is_err() {
            return Err(refuse("it is no valid URL"));
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { url, host, port: number, prefix: prefix.to_owned() })
    }

    /// From where it can be dialled, judged by its host.
    #[must_use]
    pub fn reach(&self) -> Reach {
        address::reach(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Id;

    #[test]
    fn endpoints_are_taken_apart_or_refused_with_a_reason() {
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
