//! Verifies certificates by Go's rules.
//!
//! The runner is a Go program, so Go's `crypto/x509` decides whether it can connect to the API server and to
//! GitLab. webpki, the verifier of rustls, accepts chains that Go refuses and refuses chains that Go accepts.
//! [`judge`] returns Go's verdict. outrigger's own connections use it, too ([`crate::x509::tls`]); if only
//! outrigger cannot connect, [`Verdict::not_here`] says why.
//!
//! Everything except [`crate::x509::tls`] is pure: bytes and a time in, a verdict out.
//!
//! Sources: Go 1.26 `crypto/x509/{verify,parser,constraints,cert_pool}.go`, `encoding/pem`,
//! client-go `transport.rootCertPool`. `tests/certificates.rs` compares every rule with a Go program.

mod bundle;
mod names;
mod narrow;
mod parse;
mod signatures;
pub mod tls;
mod verdict;

pub use bundle::{Bundle, BundleFault, decode_ca_data, read_bundle};
pub use narrow::{Narrowed, narrow};
pub use signatures::algorithms;
pub use verdict::{Fault, Verdict, issuers, judge};

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::base::address::without_brackets;

/// A certificate that Go's parser accepts.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: String,
    not_after: Timestamp,
}

impl Certificate {
    /// Parses DER and fails if Go's `x509.ParseCertificate` fails. The error does not contain the certificate's
    /// name, which may be unreadable.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let facts = parse::parse(der)?;
        let subject = facts.subject();
        Ok(Self { der: der.to_vec(), subject, not_after: facts.not_after() })
    }

    /// The signed bytes, unchanged.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The subject's distinguished name, for example `CN=kubernetes`; `(no subject)` when empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of the DER in the format of openssl: `9F:3A:…`.
    pub fn fingerprint_sha256(&self) -> String {
        colon_hex(&Sha256::digest(&self.der))
    }

    /// The last second of validity. "No well-defined expiry" (the year 9999) is [`Timestamp::MAX`].
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whole days until the certificate expires, rounded down; negative after it has expired.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_second() - now.as_second()).div_euclid(24 * 60 * 60)
    }

    /// The subject and the beginning of the fingerprint, which distinguishes CAs with the same subject.
    pub fn label(&self) -> String {
        label(&self.subject, &self.der)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.label())
    }
}

/// The host that a client compares with the names in the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Compared with the iPAddress names only.
    Ip(IpAddr),
    /// Compared with the dNSName names only.
    Name(String),
}

impl Host {
    /// Parses the host of a URL, IPv6 with or without brackets.
    pub fn parse(text: &str) -> Self {
        without_brackets(text).parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Ip)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(address) => address.fmt(f),
            Host::Name(name) => name.fmt(f),
        }
    }
}

fn label(subject: &str, der: &[u8]) -> String {
    /// Characters of the subject, whose length is unlimited.
    const MOST: usize = 120;
    let digest = Sha256::digest(der);
    let cut = subject.char_indices().nth(MOST).map_or(subject.len(), |(at, _)| at);
    let more = if cut < subject.len() { "…" } else { "" };
    format!("\"{}{more}\" ({}…)", &subject[..cut], colon_hex(&digest[..4]))
}

fn colon_hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(not_after: i64) -> Certificate {
        Certificate {
            der: b"abc".to_vec(),
            subject: "CN=x".to_owned(),
            not_after: Timestamp::from_second(not_after).expect("in range"),
        }
    }

    #[test]
    fn fingerprint_is_colon_hex_over_der() {
        let text = certificate(0).fingerprint_sha256();
        assert!(text.starts_with("BA:78:16:BF:8F:01"), "{text}");
        assert_eq!(text.len(), 32 * 3 - 1);
    }

    #[test]
    fn days_left_round_down() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(certificate(86_400).days_left(now), 1);
        assert_eq!(certificate(86_399).days_left(now), 0);
        assert_eq!(certificate(-1).days_left(now), -1);
    }

    #[test]
    fn distinguishes_addresses_from_names() {
        assert_eq!(Host::parse("10.0.0.1"), Host::Ip([10, 0, 0, 1].into()));
        assert!(matches!(Host::parse("[::1]"), Host::Ip(IpAddr::V6(_))));
        assert!(matches!(Host::parse("::1"), Host::Ip(IpAddr::V6(_))));
        assert_eq!(Host::parse("api.example.com"), Host::Name("api.example.com".to_owned()));
        // As in Go, a number with leading zeros is not an address.
        assert!(matches!(Host::parse("10.0.0.01"), Host::Name(_)));
        assert_eq!(Host::parse("[::1]").to_string(), "::1");
    }

    #[test]
    fn cuts_a_long_subject() {
        let long = Certificate { subject: "ü".repeat(5000), ..certificate(0) };
        assert!(long.label().starts_with("\"üüü") && long.label().chars().count() < 150, "{}", long.label());
    }

    #[test]
    fn refuses_malformed_certificates() {
        assert!(Certificate::from_der(b"").is_err());
        assert!(Certificate::from_der(&[0x30, 0x03, 0x02, 0x01, 0x01]).is_err());
    }
}
