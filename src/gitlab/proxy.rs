//! The proxy for GitLab.

use reqwest::Url;

use crate::base::error::{Failure, Id, Result};
use crate::base::proxy::{Proxy, Scheme, Variables};

/// The proxy for this URL, and its form for reqwest.
pub(super) fn proxy(base: &Url, proxies: &Variables) -> Result<Option<(Proxy, reqwest::Proxy)>> {
    let https = base.scheme() == "https";
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = base.port_or_known_default().unwrap_or(443);
    let Some(proxy) = proxies.proxy(https, host, port)? else { return Ok(None) };
    let refuse = |why: &str| {
        Failure::new(Id::InvalidProxy, format!("cannot use {proxy} for GitLab")).detail("because", why)
    };
    if !https {
        return Err(refuse("the GitLab URL is plain http: the token would go to the proxy unencrypted")
            .hint(format!("add {host} to NO_PROXY, or use https")));
    }
    // As in Go, the proxy resolves names; reqwest's scheme for that is socks5h.
    let scheme = if proxy.scheme == Scheme::Socks5 { "socks5h" } else { proxy.scheme.name() };
    let taken = reqwest::Proxy::all(proxy.url(scheme).expose())
        .map_err(|_| refuse("its user name or password is not percent-encoded"))?;
    Ok(Some((proxy, taken)))
}
