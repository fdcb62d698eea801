//! Reading CA bundles leniently and writing them so that every reader agrees.
//!
//! Go's `encoding/pem` and the `pem` crate behind kube take different inputs: Go skips indented
//! blocks and blocks not separated by a line break, and steps over members that are no certificate;
//! kube takes the former and refuses the whole file for the latter. [`read_bundle`] takes what
//! either takes; [`Bundle::to_pem`] emits what both take.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Certificate;

/// Go's `base64.StdEncoding`: padding required, stray trailing bits tolerated.
const GO_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// The most that is read: this machine's own roots are a fifth of it.
const MOST_BYTES: usize = 1024 * 1024;
/// So many members that were left out are named; more are counted.
const MOST_DROPPED: usize = 8;

/// A set of trust anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The members Go can load, in the order given.
    pub certificates: Vec<Certificate>,
    /// Why each other member was left out, in plain words; none of them is in [`Bundle::to_pem`].
    pub dropped: Vec<String>,
}

impl Bundle {
    /// The bundle as every reader takes it: 64 columns, `\n`, nothing between the blocks.
    pub fn to_pem(&self) -> String {
        let mut text = String::new();
        for certificate in &self.certificates {
            let body = GO_BASE64.encode(certificate.der());
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let mut rest = body.as_str();
            while !rest.is_empty() {
                let (line, tail) = rest.split_at(rest.len().min(64));
                text.push_str(line);
                text.push('\n');
                rest = tail;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }
}

/// Why a text is no CA bundle at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleFault {
    /// Longer than 1 MiB.
    TooLong,
    /// Nothing, or only white space. Since client-go 0.36 an empty CA file means "trust nothing".
    Empty,
    /// Binary DER where PEM is expected.
    Der,
    /// Only openssl's `TRUSTED CERTIFICATE` blocks, which Go does not read.
    Trusted,
    /// The only block is cut off before its END line.
    Truncated,
    /// Text without a PEM block.
    NotPem,
    /// PEM blocks, none of them a certificate Go can load; why, for each.
    NoCertificate(Vec<String>),
    /// CA data that is not base64.
    Base64(String),
}

impl fmt::Display for BundleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the CA bundle is larger than 1 MiB"),
            Self::Empty => f.write_str("the CA bundle is empty"),
            Self::Der => f.write_str(
                "the CA bundle is binary DER, not PEM; convert it with: openssl x509 -inform DER -outform PEM",
            ),
            Self::Trusted => f.write_str(
                "the CA bundle holds only TRUSTED CERTIFICATE blocks, which Go does not read; \
                 convert them with: openssl x509 -outform PEM",
            ),
            Self::Truncated => f.write_str("the CA bundle is cut off: a block has no END line"),
            Self::NotPem => f.write_str("the CA bundle holds no PEM block (-----BEGIN CERTIFICATE-----)"),
            Self::NoCertificate(reasons) => {
                write!(f, "the CA bundle holds no certificate that Go can load: {}", reasons.join("; "))
            }
            Self::Base64(why) => write!(f, "the CA data is not base64: {why}"),
        }
    }
}

impl std::error::Error for BundleFault {}

/// Decodes `certificate-authority-data`, also when it is folded over lines, which Go takes and
/// kube refuses.
pub fn decode_ca_data(text: &str) -> Result<Vec<u8>, BundleFault> {
    let squeezed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    GO_BASE64.decode(squeezed).map_err(|error| BundleFault::Base64(error.to_string()))
}

/// Reads the certificates of a PEM text: any text around the blocks, CRLF, indentation and missing
/// line breaks between blocks are taken; bad members are dropped and named.
pub fn read_bundle(text: &[u8]) -> Result<Bundle, BundleFault> {
    if text.len() > MOST_BYTES {
        return Err(BundleFault::TooLong);
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(BundleFault::Empty);
    }
    let blocks = lenient_blocks(text);
    if blocks.is_empty() {
        // A DER certificate is a SEQUENCE longer than 127 bytes.
        let der = matches!(text, [0x30, length, ..] if *length >= 0x80);
        return Err(if der { BundleFault::Der } else { BundleFault::NotPem });
    }
    let mut bundle = Bundle::default();
    for (index, block) in blocks.iter().enumerate() {
        match block.certificate() {
            Ok(certificate) => bundle.certificates.push(certificate),
            Err(why) => bundle.dropped.push(format!("block {} of {}: {why}", index + 1, blocks.len())),
        }
    }
    if bundle.dropped.len() > MOST_DROPPED {
        let more = bundle.dropped.len() - MOST_DROPPED;
        bundle.dropped.truncate(MOST_DROPPED);
        bundle.dropped.push(format!("{more} more blocks"));
    }
    if bundle.certificates.is_empty() {
        return Err(match blocks.as_slice() {
            [Block { body: Body::CutOff, .. }] => BundleFault::Truncated,
            all if all.iter().all(|block| block.label == "TRUSTED CERTIFICATE") => BundleFault::Trusted,
            _ => BundleFault::NoCertificate(bundle.dropped),
        });
    }
    Ok(bundle)
}

struct Block {
    label: String,
    body: Body,
}

enum Body {
    CutOff,
    OtherEnd,
    Headers,
    Base64(Vec<u8>),
}

impl Block {
    fn certificate(&self) -> Result<Certificate, String> {
        if self.label != "CERTIFICATE" {
            return Err(format!("a {} block, not a CERTIFICATE", self.label));
        }
        match &self.body {
            Body::CutOff => Err("cut off, it has no END line".to_owned()),
            Body::OtherEnd => Err("its END line names something else".to_owned()),
            Body::Headers => Err("it has header lines, for which Go skips it".to_owned()),
            Body::Base64(text) => {
                let der = GO_BASE64.decode(text).map_err(|error| format!("not base64: {error}"))?;
                Certificate::from_der(&der).map_err(|why| format!("Go cannot load it: {why}"))
            }
        }
    }
}

/// Every block that any reader could see.
fn lenient_blocks(text: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut position = 0;
    while let Some(begin) = find(text, BEGIN, position) {
        let label_start = begin + BEGIN.len();
        position = label_start;
        let line_end = find(text, b"\n", label_start).unwrap_or(text.len());
        let Some(label_end) = find(&text[..line_end], DASHES, label_start) else { continue };
        let label = String::from_utf8_lossy(&text[label_start..label_end]).into_owned();
        let body_start = label_end + DASHES.len();
        let next_begin = find(text, BEGIN, body_start).unwrap_or(text.len());
        let Some(end) = find(&text[..next_begin], END, body_start) else {
            blocks.push(Block { label, body: Body::CutOff });
            position = next_begin;
            continue;
        };
        position = end + END.len();
        let trailer = &text[position..];
        let body = &text[body_start..end];
        let closed = trailer.starts_with(label.as_bytes()) && trailer[label.len()..].starts_with(DASHES);
        let body = if !closed {
            Body::OtherEnd
        } else if body.contains(&b':') {
            Body::Headers
        } else {
            Body::Base64(body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect())
        };
        blocks.push(Block { label, body });
    }
    blocks
}

fn find(text: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    text.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|at| at + from)
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
