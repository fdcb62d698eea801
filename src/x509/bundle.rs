//! Reads CA bundles leniently and writes them in canonical form.
//!
//! Go's `encoding/pem` and the `pem` crate, which kube uses, differ: Go skips indented blocks, blocks not
//! separated by a line break, and members that are not certificates; kube accepts the first two and refuses the
//! whole file for the third. [`read_bundle`] accepts the input of both; [`Bundle::to_pem`] writes PEM that both
//! accept.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Certificate;

/// Go's `base64.StdEncoding`: padding is required, trailing bits are ignored.
const GO_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// The size limit; the system's own roots take about a fifth of it.
const MOST_BYTES: usize = 1024 * 1024;
/// Dropped members that are reported one by one; further ones are only counted.
const MOST_DROPPED: usize = 8;

/// A set of trust anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The members that Go can load, in their original order.
    pub certificates: Vec<Certificate>,
    /// The reason for each member that was dropped; [`Bundle::to_pem`] does not contain these.
    pub dropped: Vec<String>,
}

impl Bundle {
    /// Canonical PEM: 64 columns, `\n`, nothing between the blocks.
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

/// Why a text is not a CA bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    /// Longer than 1 MiB.
    #[error("the CA bundle is larger than 1 MiB")]
    TooLong,
    /// Empty, or only white space. Since client-go 0.36 an empty CA file means "trust nothing".
    #[error("the CA bundle is empty")]
    Empty,
    /// Binary DER where PEM is expected.
    #[error("the CA bundle is binary DER, not PEM; convert it with: openssl x509 -inform DER -outform PEM")]
    Der,
    /// Only openssl's `TRUSTED CERTIFICATE` blocks, which Go does not read.
    #[error(
        "the CA bundle holds only TRUSTED CERTIFICATE blocks, which Go does not read; convert them with: openssl x509 -outform PEM"
    )]
    Trusted,
    /// The only block has no END line.
    #[error("the CA bundle is cut off: a block has no END line")]
    Truncated,
    /// Text without a PEM block.
    #[error("the CA bundle holds no PEM block (-----BEGIN CERTIFICATE-----)")]
    NotPem,
    /// PEM blocks without a certificate that Go can load; the reason for each.
    #[error("the CA bundle holds no certificate that Go can load: {}", .0.join("; "))]
    NoCertificate(Vec<String>),
    /// A `…-data` value of a kubeconfig that is not base64; the reason.
    #[error("the value is not base64: {0}")]
    Base64(String),
}

/// Decodes a `…-data` value of a kubeconfig (CA, client certificate or key). As in Go, unlike in kube, it may
/// contain line breaks.
pub fn decode_ca_data(text: &str) -> Result<Vec<u8>, BundleFault> {
    let squeezed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    GO_BASE64.decode(squeezed).map_err(|error| BundleFault::Base64(error.to_string()))
}

/// Reads the certificates of a PEM text. It accepts text around the blocks, CRLF, indentation and missing line
/// breaks between blocks; bad members are dropped and reported.
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

/// All blocks that Go or kube reads.
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
