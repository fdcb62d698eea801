//! Parses certificates with the rules of Go's `x509.ParseCertificate`.

use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    ExtendedKeyUsage, GeneralName, GeneralSubtree, NameConstraints, ParsedExtension, SubjectAlternativeName,
    X509Extension,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use super::names::{Constraints, Names, Subtrees, valid_domain};

/// Extensions that Go handles, so that they may be critical (parser.go, `processExtensions`).
const HANDLED: [&str; 13] = [
    "2.5.29.14",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.35",
    "2.5.29.36",
    "2.5.29.37",
    "2.5.29.54",
    AUTHORITY_INFO_ACCESS,
];
const AUTHORITY_INFO_ACCESS: &str = "1.3.6.1.5.5.7.1.1";

/// A certificate with its parsed extensions.
pub(super) struct Facts<'a> {
    pub x509: X509Certificate<'a>,
    /// basicConstraints: whether it is a CA, and the maximum number of CAs below it.
    pub ca: Option<(bool, Option<u32>)>,
    /// Whether the key usage excludes signing certificates.
    pub may_not_sign: bool,
    pub usage: Usage,
    pub names: Names<'a>,
    /// The bytes of the subjectAltName extension.
    pub raw_names: Option<&'a [u8]>,
    pub constraints: Option<Constraints<'a>>,
    /// Whether there are policyConstraints, which may require a certificate policy (`requireExplicitPolicy`).
    pub policies: bool,
    /// Object identifiers of critical extensions that Go does not handle.
    pub unhandled: Vec<String>,
    pub key: Key,
    pub key_id: Option<&'a [u8]>,
    pub issuer_key_id: Option<&'a [u8]>,
}

/// The extendedKeyUsage with regard to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// No extension, or an empty one.
    Unstated,
    Server,
    /// `any` without `serverAuth`: accepted by Go, not by rustls.
    OnlyAny,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Bits of the modulus.
    Rsa(usize),
    P224,
    P256,
    P384,
    P521,
    Ed25519,
    Other,
}

impl Facts<'_> {
    pub fn subject(&self) -> String {
        let text = self.x509.subject().to_string();
        if text.is_empty() { "(no subject)".to_owned() } else { text }
    }

    pub fn label(&self) -> String {
        super::label(&self.subject(), self.x509.as_raw())
    }

    pub fn not_before(&self) -> Timestamp {
        timestamp(self.x509.validity().not_before.timestamp())
    }

    pub fn not_after(&self) -> Timestamp {
        timestamp(self.x509.validity().not_after.timestamp())
    }

    pub fn self_issued(&self) -> bool {
        self.x509.subject().as_raw() == self.x509.issuer().as_raw()
    }
}

/// Converts seconds; `99991231235959Z`, RFC 5280's "no expiry", is later than jiff's last timestamp.
fn timestamp(seconds: i64) -> Timestamp {
    let clamped = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(clamped).unwrap_or(Timestamp::MAX)
}

/// Parses a certificate; the error says why Go refuses it.
pub(super) fn parse(der: &[u8]) -> Result<Facts<'_>, String> {
    let (rest, x509) =
        X509Certificate::from_der(der).map_err(|_| "it is not a well-formed certificate".to_owned())?;
    if !rest.is_empty() {
        return Err("there are bytes behind its end".to_owned());
    }
    if x509.version().0 > X509Version::V3.0 {
        return Err("its version is unknown".to_owned());
    }
    if x509.raw_serial().first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err("its serial number is negative".to_owned());
    }
    if x509.signature_algorithm != x509.tbs_certificate.signature {
        return Err("it names two different signature algorithms".to_owned());
    }
    let mut facts = Facts {
        key: key(&x509)?,
        ca: None,
        may_not_sign: false,
        usage: Usage::Unstated,
        names: Names::default(),
        raw_names: None,
        constraints: None,
        policies: false,
        unhandled: Vec::new(),
        key_id: None,
        issuer_key_id: None,
        x509,
    };
    // Go reads extensions only in v3 certificates.
    if facts.x509.version() == X509Version::V3 {
        let all = facts.x509.extensions().to_vec();
        extensions(&mut facts, all)?;
    }
    Ok(facts)
}

fn extensions<'a>(facts: &mut Facts<'a>, all: Vec<X509Extension<'a>>) -> Result<(), String> {
    let mut seen = Vec::new();
    for extension in all {
        let oid = extension.oid.to_id_string();
        if seen.contains(&oid) {
            return Err(format!("extension {oid} is there twice"));
        }
        let malformed = || format!("extension {oid} is malformed");
        let mut handled = HANDLED.contains(&oid.as_str());
        if handled && extension.parsed_extension().error().is_some() {
            return Err(malformed());
        }
        match oid.as_str() {
            "2.5.29.14" | "2.5.29.35" | AUTHORITY_INFO_ACCESS if extension.critical => {
                return Err(format!("extension {oid} is marked critical, which the standard forbids"));
            }
            "2.5.29.36" => facts.policies = true,
            // Parsed again from its bytes, which live longer than this extension.
            "2.5.29.17" => {
                let names = SubjectAlternativeName::from_der(extension.value).map_err(|_| malformed())?.1;
                facts.names = alternative_names(names.general_names).ok_or_else(malformed)?;
                facts.raw_names = Some(extension.value);
                handled = facts.names != Names::default();
            }
            "2.5.29.30" => {
                let parsed = NameConstraints::from_der(extension.value).map_err(|_| malformed())?.1;
                let (permitted, all_permitted) = subtrees(parsed.permitted_subtrees).ok_or_else(malformed)?;
                let (excluded, all_excluded) = subtrees(parsed.excluded_subtrees).ok_or_else(malformed)?;
                facts.constraints = Some(Constraints { permitted, excluded });
                handled = all_permitted && all_excluded;
            }
            _ => match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(basic) => {
                    facts.ca = Some((basic.ca, basic.path_len_constraint));
                }
                // A key usage without bits is ignored.
                ParsedExtension::KeyUsage(usage) => {
                    facts.may_not_sign = usage.flags != 0 && !usage.key_cert_sign();
                }
                ParsedExtension::ExtendedKeyUsage(usage) => facts.usage = extended_usage(usage),
                ParsedExtension::SubjectKeyIdentifier(id) => facts.key_id = Some(id.0),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    facts.issuer_key_id = id.key_identifier.as_ref().map(|id| id.0);
                }
                _ => {}
            },
        }
        if extension.critical && !handled {
            facts.unhandled.push(oid.clone());
        }
        seen.push(oid);
    }
    Ok(())
}

fn extended_usage(usage: &ExtendedKeyUsage) -> Usage {
    let others = usage.client_auth
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    match (usage.server_auth, usage.any) {
        (true, _) => Usage::Server,
        (false, true) => Usage::OnlyAny,
        (false, false) if others => Usage::Other,
        (false, false) => Usage::Unstated,
    }
}

/// The names that Go reads; `None` if one of them is malformed.
fn alternative_names(all: Vec<GeneralName<'_>>) -> Option<Names<'_>> {
    let mut names = Names::default();
    for name in all {
        match name {
            GeneralName::DNSName(text) => names.dns.push(ascii(text)?),
            GeneralName::RFC822Name(text) => names.emails.push(ascii(text)?),
            GeneralName::URI(text) => names.uris.push(ascii(text)?),
            GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => names.ips.push(bytes),
            GeneralName::IPAddress(_) => return None,
            // Tags 1, 2 and 6 are email address, DNS name and URI; Go does not read the others.
            GeneralName::Invalid(tag, _) if matches!(tag.0, 1 | 2 | 6) => return None,
            _ => {}
        }
    }
    Some(names)
}

/// One side of the name constraints, and whether Go supports every kind of name in it; `None` if it is malformed.
fn subtrees(all: Option<Vec<GeneralSubtree<'_>>>) -> Option<(Subtrees<'_>, bool)> {
    let mut side = Subtrees::default();
    let mut known = true;
    for subtree in all.unwrap_or_default() {
        match subtree.base {
            GeneralName::DNSName(text) => side.dns.push(domain(text)?),
            GeneralName::URI(text) => {
                side.uris.push(domain(text).filter(|text| text.parse::<IpAddr>().is_err())?);
            }
            GeneralName::RFC822Name(text) if text.contains('@') => side.emails.push(ascii(text)?),
            GeneralName::RFC822Name(text) => side.emails.push(domain(text)?),
            GeneralName::IPAddress(bytes) if matches!(bytes.len(), 8 | 32) => {
                let mask = &bytes[bytes.len() / 2..];
                let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
                let set: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
                let leading = mask.iter().take_while(|byte| **byte == 0xff).count();
                let rest_zero = mask.iter().skip(leading + 1).all(|byte| *byte == 0);
                if ones != set || !rest_zero {
                    return None;
                }
                side.ips.push(bytes);
            }
            GeneralName::IPAddress(_) => return None,
            GeneralName::Invalid(tag, _) if matches!(tag.0, 1 | 2 | 6 | 7) => return None,
            _ => known = false,
        }
    }
    Some((side, known))
}

fn ascii(text: &str) -> Option<&str> {
    text.is_ascii().then_some(text)
}

fn domain(text: &str) -> Option<&str> {
    ascii(text).filter(|text| valid_domain(text, true))
}

fn key(x509: &X509Certificate) -> Result<Key, String> {
    let spki = x509.public_key();
    let parameter = || spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    Ok(match spki.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1"
            if spki.algorithm.parameters.as_ref().is_none_or(|any| any.as_null().is_err()) =>
        {
            return Err("its RSA key lacks the parameters that have to be there (NULL)".to_owned());
        }
        "1.2.840.113549.1.1.1" => match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) if rsa.modulus.first().is_some_and(|byte| byte & 0x80 == 0) => {
                let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
                let modulus = &rsa.modulus[zeros..];
                let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
                Key::Rsa(modulus.len() * 8 - unused)
            }
            _ => return Err("its RSA key is malformed".to_owned()),
        },
        "1.2.840.10045.2.1" => match parameter().map(|oid| oid.to_id_string()).as_deref() {
            Some("1.3.132.0.33") => Key::P224,
            Some("1.2.840.10045.3.1.7") => Key::P256,
            Some("1.3.132.0.34") => Key::P384,
            Some("1.3.132.0.35") => Key::P521,
            _ => return Err("its key lies on an elliptic curve Go does not support".to_owned()),
        },
        "1.3.101.112" => Key::Ed25519,
        _ => Key::Other,
    })
}
