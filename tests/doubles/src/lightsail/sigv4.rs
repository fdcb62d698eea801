//! Signature Version 4, verified as the service does, and a little more strictly: the type of the body and every
//! `x-amz-…` header must be signed.
//!
//! "Create a signed AWS API request", IAM User Guide.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use ring::{digest, hmac};

use super::access::{Key, hex};
use super::refusal::Error;
use crate::wire::Request;

/// How far the client's clock may be off.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a signature says of the request beside its key.
pub(crate) struct Signed<'a> {
    pub(crate) key: &'a Key,
    pub(crate) region: String,
}

/// The id of the access key that a request names, empty if none.
pub(crate) fn key_id(request: &Request) -> String {
    Authorization::parse(request).map(|found| found.key.to_owned()).unwrap_or_default()
}

struct Authorization<'a> {
    key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(request: &'a Request) -> Option<Self> {
        let rest = request.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| {
            let mut parts = rest.split(',').map(str::trim);
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let scope: Vec<&str> = part("Credential")?.split('/').collect();
        let &[key, date, region, service, "aws4_request"] = scope.as_slice() else { return None };
        let headers = part("SignedHeaders")?.split(';').collect();
        Some(Self { key, date, region, service, headers, signature: part("Signature")? })
    }
}

/// The service's clock and what it is.
pub(crate) struct Verifier<'a> {
    pub(crate) now: Timestamp,
    pub(crate) service: &'a str,
    pub(crate) regions: &'a [String],
}

impl Verifier<'_> {
    /// Who signed the request, and for which region.
    pub(crate) fn verify<'a>(&self, request: &Request, keys: &'a [Key]) -> Result<Signed<'a>, Error> {
        if request.header("authorization").is_empty() {
            return Err(Error::new("MissingAuthenticationTokenException", "Missing Authentication Token"));
        }
        let Some(found) = Authorization::parse(request) else {
            let text = "Authorization header requires 'Credential' parameter. Authorization header requires \
                        'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.";
            return Err(Error::new("IncompleteSignatureException", text));
        };
        let Some(key) = keys.iter().find(|key| key.id == found.key) else { return Err(unknown()) };
        if request.header("x-amz-security-token") != key.token {
            return Err(unknown());
        }
        let written = request.header("x-amz-date");
        let Some(at) = DateTime::strptime("%Y%m%dT%H%M%SZ", written).ok().and_then(utc) else {
            let text = format!("Date must be in ISO-8601 'basic format'. Got '{written}'.");
            return Err(Error::new("IncompleteSignatureException", text));
        };
        self.clock(at)?;
        if !written.starts_with(found.date) || found.date.len() != 8 {
            return Err(invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date.",
            ));
        }
        if !self.regions.iter().any(|region| region == found.region) {
            return Err(invalid(&format!(
                "Credential should be scoped to a valid region, not '{}'. ",
                found.region
            )));
        }
        if found.service != self.service {
            return Err(invalid(&format!(
                "Credential should be scoped to correct service: '{}'. ",
                self.service
            )));
        }
        covered(request, &found.headers)?;
        let expected = signature(request, &found, &key.secret, written);
        if expected != found.signature {
            return Err(invalid(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details.",
            ));
        }
        if key.expires.is_some_and(|expires| expires <= self.now) {
            return Err(Error::new(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ));
        }
        Ok(Signed { key, region: found.region.to_owned() })
    }

    fn clock(&self, at: Timestamp) -> Result<(), Error> {
        let (earliest, latest) = (self.now - SKEW, self.now + SKEW);
        if at < earliest {
            return Err(invalid(&format!(
                "Signature expired: {} is now earlier than {} ({} - 5 min.)",
                basic(at),
                basic(earliest),
                basic(self.now)
            )));
        }
        if at > latest {
            return Err(invalid(&format!(
                "Signature not yet current: {} is still later than {} ({} + 5 min.)",
                basic(at),
                basic(latest),
                basic(self.now)
            )));
        }
        Ok(())
    }
}

fn utc(at: DateTime) -> Option<Timestamp> {
    at.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn basic(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn invalid(text: &str) -> Error {
    Error::new("InvalidSignatureException", text)
}

fn unknown() -> Error {
    Error::new("UnrecognizedClientException", "The security token included in the request is invalid.")
}

/// Whether all that has to be signed is: sorted, lower case, and present.
fn covered(request: &Request, signed: &[&str]) -> Result<(), Error> {
    let needed = |name: &str| matches!(name, "host" | "content-type") || name.starts_with("x-amz-");
    let sent = request.headers.keys().map(http::HeaderName::as_str);
    let missing: Vec<&str> = sent.filter(|name| needed(name) && !signed.contains(name)).collect();
    if !missing.is_empty() || !signed.contains(&"host") || !signed.contains(&"x-amz-date") {
        let text = format!("'{}' must be a 'SignedHeader' in the AWS Authorization.", missing.join("', '"));
        return Err(invalid(&text));
    }
    if !signed.is_sorted() || signed.iter().any(|name| !request.headers.contains_key(*name)) {
        return Err(invalid("The signed headers are not sorted, or not all of them were sent."));
    }
    Ok(())
}

/// The header that signs all headers of a request; the scope is date, region and service.
pub(crate) fn authorization(
    request: &Request,
    key: &str,
    secret: &str,
    [date, region, service]: &[&str; 3],
    at: &str,
) -> String {
    let mut headers: Vec<&str> = request.headers.keys().map(http::HeaderName::as_str).collect();
    headers.sort_unstable();
    let list = headers.join(";");
    let parts = Authorization { key, date, region, service, headers, signature: "" };
    let signature = signature(request, &parts, secret, at);
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/{date}/{region}/{service}/aws4_request, SignedHeaders={list}, \
         Signature={signature}"
    )
}

fn signature(request: &Request, found: &Authorization<'_>, secret: &str, at: &str) -> String {
    let mut canonical = format!("{}\n/\n{}\n", request.method, request.raw_query);
    for name in &found.headers {
        let values: Vec<String> = request.headers.get_all(*name).iter().map(trimmed).collect();
        canonical = format!("{canonical}{name}:{}\n", values.join(","));
    }
    let body = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    canonical = format!("{canonical}\n{}\n{body}", found.headers.join(";"));
    let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let scope = format!("{}/{}/{}/aws4_request", found.date, found.region, found.service);
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{canonical}");
    let mut derived = format!("AWS4{secret}").into_bytes();
    for part in [found.date, found.region, found.service, "aws4_request"] {
        derived = mac(&derived, part);
    }
    hex(&mac(&derived, &text))
}

/// A header's value without white space at its ends, and with one space for several.
fn trimmed(value: &http::HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}
