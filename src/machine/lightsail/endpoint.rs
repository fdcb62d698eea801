//! Where requests go: the endpoints of a region, and how their certificates are verified.

use std::collections::BTreeMap;

use reqwest::Url;

use crate::base::address;
use crate::base::error::{Failure, Id, Result};
use crate::base::files::Intake;
use crate::base::proxy::{self, Proxy, Scheme, Variables};
use crate::x509::read_bundle;
use crate::x509::tls::Roots;

const BUNDLE: &str = "AWS_CA_BUNDLE";

pub(super) struct Endpoints {
    pub lightsail: Url,
    pub sts: Url,
}

impl Endpoints {
    /// `AWS_ENDPOINT_URL_LIGHTSAIL`, `AWS_ENDPOINT_URL_STS` and `AWS_ENDPOINT_URL` come before the region's own. Fails
    /// with OR0212 if one of them is no URL, or plain http beyond loopback.
    pub fn of(env: &BTreeMap<String, String>, region: &str) -> Result<Self> {
        let of = |service: &str, variable: &'static str| {
            let own = format!("https://{service}.{region}.amazonaws.com/");
            given(env, variable)?.map_or_else(|| checked("the region", &own), Ok)
        };
        Ok(Self {
            lightsail: of("lightsail", "AWS_ENDPOINT_URL_LIGHTSAIL")?,
            sts: of("sts", "AWS_ENDPOINT_URL_STS")?,
        })
    }
}

/// The endpoint that a variable, or the one for all services, names.
pub(super) fn given(env: &BTreeMap<String, String>, variable: &'static str) -> Result<Option<Url>> {
    let found = [variable, "AWS_ENDPOINT_URL"].into_iter().find_map(|name| Some((name, set(env, name)?)));
    found.map(|(name, value)| checked(name, value)).transpose()
}

/// A variable that is set and not empty.
pub(super) fn set<'e>(env: &'e BTreeMap<String, String>, name: &str) -> Option<&'e str> {
    env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn checked(source: &str, value: &str) -> Result<Url> {
    let refuse = |why: &str| {
        Failure::new(
            Id::AwsSettings,
            format!("invalid AWS endpoint {:?} in {source}", proxy::without_userinfo(value)),
        )
        .detail("because", why)
        .hint("use the form https://HOST")
    };
    let url = Url::parse(value).map_err(|_| refuse("it is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it contains a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it contains a query or a fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(refuse("plain http is allowed for loopback addresses only")),
        _ => Err(refuse("its scheme is not https")),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    address::is_loopback(url.host_str().unwrap_or_default())
}

/// The CAs of `AWS_CA_BUNDLE` alone, or the system's. Fails with OR0212 if the file cannot be used.
pub(super) async fn trust(env: &BTreeMap<String, String>, intake: &Intake) -> Result<Roots> {
    let Some(file) = set(env, BUNDLE) else { return Ok(Roots::default()) };
    let unusable = |why: String| {
        Failure::new(Id::AwsSettings, format!("cannot use the CA certificates of {BUNDLE}: {file}"))
            .detail("because", why)
            .hint("it must contain the PEM certificates of the CAs to trust")
    };
    let bytes = intake.file(file.as_ref()).await?.ok_or_else(|| unusable("it does not exist".to_owned()))?;
    let bundle = read_bundle(&bytes).map_err(|fault| unusable(fault.to_string()))?;
    Ok(Roots { given: Some(bundle), file: Some(file.into()), system: false })
}

/// The proxy for this URL, and its form for reqwest.
pub(super) fn proxy(url: &Url, proxies: &Variables) -> Result<Option<(Proxy, reqwest::Proxy)>> {
    let https = url.scheme() == "https";
    let host = address::without_brackets(url.host_str().unwrap_or_default());
    let Some(proxy) = proxies.proxy(https, host, url.port_or_known_default().unwrap_or(443))? else {
        return Ok(None);
    };
    // As in Go, the proxy resolves names; reqwest's scheme for that is socks5h.
    let scheme = if proxy.scheme == Scheme::Socks5 { "socks5h" } else { proxy.scheme.name() };
    let taken = reqwest::Proxy::all(proxy.url(scheme).expose()).map_err(|_| {
        Failure::new(Id::InvalidProxy, format!("cannot use {proxy} for AWS"))
            .detail("because", "its user name or password is not percent-encoded")
    })?;
    Ok(Some((proxy, taken)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Endpoints;
    use crate::base::error::{Id, Kind};

    fn of(pairs: &[(&str, &str)]) -> Result<(String, String), String> {
        let env: BTreeMap<_, _> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match Endpoints::of(&env, "eu-central-1") {
            Ok(found) => Ok((found.lightsail.to_string(), found.sts.to_string())),
            Err(failure) => {
                assert_eq!((failure.id, failure.kind), (Id::AwsSettings, Kind::Usage));
                Err(format!("{failure:?}"))
            }
        }
    }

    #[test]
    fn endpoints_are_the_regions_unless_variables_name_others() {
        let own =
            ("https://lightsail.eu-central-1.amazonaws.com/", "https://sts.eu-central-1.amazonaws.com/");
        let pair = |(lightsail, sts): (&str, &str)| Ok((lightsail.to_owned(), sts.to_owned()));
        assert_eq!(of(&[]), pair(own));
        assert_eq!(of(&[("AWS_ENDPOINT_URL", "")]), pair(own));
        let all = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1/");
        assert_eq!(of(&[all]), pair((all.1, all.1)));
        let one = ("AWS_ENDPOINT_URL_LIGHTSAIL", "https://vpce.example.com/");
        assert_eq!(of(&[all, one]), pair((one.1, all.1)));
        assert_eq!(of(&[("AWS_ENDPOINT_URL_STS", "http://[::1]:7/")]), pair((own.0, "http://[::1]:7/")));
    }

    #[test]
    fn an_endpoint_needs_tls_and_no_password() {
        for value in [
            "http://vpce.example.com/",
            "ftp://127.0.0.1/",
            "vpce.example.com",
            "https://h/?a=b",
            "http://10.0.0.1",
        ] {
            assert!(of(&[("AWS_ENDPOINT_URL_LIGHTSAIL", value)]).is_err(), "{value}");
        }
        let told = of(&[("AWS_ENDPOINT_URL", "https://me:canary@h/")]).expect_err("a password");
        assert!(!told.contains("canary"), "{told}");
    }
}
