//! Certificates as no honest tool makes them: rcgen where it can, the DER patched and signed anew
//! where it cannot.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SigningKey as _,
};

/// Names of the server every leaf is for, unless the case says otherwise.
pub const NAME: &str = "api.example.com";
/// Its address.
pub const ADDRESS: &str = "10.0.0.1";

/// A certificate with its key and what is needed to sign others with it.
pub struct Forged {
    pub der: Vec<u8>,
    pub key: KeyPair,
    params: CertificateParams,
}

impl Forged {
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// The same certificate with its to-be-signed part edited, signed by `signer`.
    pub fn edited(mut self, signer: Option<&KeyPair>, edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Self {
        self.der = resign(&self.der, signer.unwrap_or(&self.key), edit);
        self
    }
}

pub fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Parameters of an ordinary CA.
pub fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Parameters of an ordinary server certificate.
pub fn leaf_params() -> CertificateParams {
    let mut params = params("kube-apiserver");
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![dns(NAME), SanType::IpAddress(ADDRESS.parse().expect("an address"))];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

pub fn self_signed(params: CertificateParams) -> Forged {
    let key = KeyPair::generate().expect("a key");
    let der = params.self_signed(&key).expect("a certificate").der().to_vec();
    Forged { der, key, params }
}

pub fn issued(params: CertificateParams, by: &Forged) -> Forged {
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::from_params(&by.params, &by.key);
    let der = params.signed_by(&key, &issuer).expect("a certificate").der().to_vec();
    Forged { der, key, params }
}

/// An extension nobody knows.
pub fn unknown_extension(critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x05, 0x00]);
    extension.set_criticality(critical);
    extension
}

pub fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// Fields of a to-be-signed v3 certificate, for [`Forged::edited`].
pub mod field {
    pub const VERSION: usize = 0;
    pub const SERIAL: usize = 1;
    pub const EXTENSIONS: usize = 7;
}

/// Makes it a version 1 certificate: no version field, no extensions.
pub fn version_1(fields: &mut Vec<Vec<u8>>) {
    fields.truncate(field::EXTENSIONS);
    fields.remove(field::VERSION);
}

/// Removes one extension by its object identifier's content bytes.
pub fn without_extension(oid: &'static [u8]) -> impl FnOnce(&mut Vec<Vec<u8>>) {
    move |fields| {
        let sequence = children(&fields[field::EXTENSIONS]).remove(0);
        let kept: Vec<Vec<u8>> = children(&sequence)
            .into_iter()
            .filter(|extension| content(&children(extension)[0]) != oid)
            .collect();
        fields[field::EXTENSIONS] = tlv(0xa3, &tlv(0x30, &kept.concat()));
    }
}

pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64"));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        Ok(short) => out.extend([0x81, short]),
        Err(_) => {
            out.push(0x82);
            out.extend(u16::try_from(length).expect("a short certificate").to_be_bytes());
        }
    }
    out.extend(content);
    out
}

fn header(tlv: &[u8]) -> usize {
    match tlv[1] {
        0x81 => 3,
        0x82 => 4,
        _ => 2,
    }
}

fn content(tlv: &[u8]) -> &[u8] {
    &tlv[header(tlv)..]
}

fn children(parent: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = content(parent);
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = match rest[1] {
            0x81 => usize::from(rest[2]),
            0x82 => usize::from(u16::from_be_bytes([rest[2], rest[3]])),
            short => usize::from(short),
        };
        let (one, tail) = rest.split_at(header(rest) + length);
        all.push(one.to_vec());
        rest = tail;
    }
    all
}

fn resign(der: &[u8], signer: &KeyPair, edit: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    assert_eq!(signer.algorithm(), &rcgen::PKCS_ECDSA_P256_SHA256, "the algorithm field stays");
    let mut parts = children(der);
    let mut fields = children(&parts[0]);
    edit(&mut fields);
    parts[0] = tlv(0x30, &fields.concat());
    let signature = signer.sign(&parts[0]).expect("a signature");
    parts[2] = tlv(0x03, &[&[0], signature.as_slice()].concat());
    tlv(0x30, &parts.concat())
}
