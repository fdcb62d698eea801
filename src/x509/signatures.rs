//! Signature algorithms that Go supports: those of ring, and ECDSA with a P-521 key or SHA-512, which ring lacks
//! (an openssl default and a common option of corporate CAs).
//!
//! The chain of certificates and the handshake use the same list. outrigger cannot check other signatures: RSA
//! keys below 2048 bits, P-224, and RSA-PSS with unusual parameters.

use std::sync::LazyLock;

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_parser::asn1_rs::{Any, FromDer as _};

use super::parse::Facts;

/// The algorithms for certificates and for handshakes.
pub fn algorithms() -> WebPkiSupportedAlgorithms {
    static ALL: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
        let ring = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let mut mapping = ring.mapping.to_vec();
        // In TLS 1.3 the scheme implies the curve, and only the first algorithm is used; not so in TLS 1.2.
        mapping.push((SignatureScheme::ECDSA_NISTP521_SHA512, &EXTRA));
        WebPkiSupportedAlgorithms { all: [ring.all, &EXTRA].concat().leak(), mapping: mapping.leak() }
    });
    *ALL
}

static EXTRA: [&dyn SignatureVerificationAlgorithm; 5] = [
    &Ecdsa { curve: Curve::P521, hash: Hash::Sha512 },
    &Ecdsa { curve: Curve::P521, hash: Hash::Sha384 },
    &Ecdsa { curve: Curve::P521, hash: Hash::Sha256 },
    &Ecdsa { curve: Curve::P384, hash: Hash::Sha512 },
    &Ecdsa { curve: Curve::P256, hash: Hash::Sha512 },
];

/// Whether `parent` signed `child`; `None` if the algorithm is not supported.
pub(super) fn verify(child: &Facts, parent: &Facts) -> Option<bool> {
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }
    let signed = child.x509.tbs_certificate.as_ref();
    let (_, certificate) = Any::from_der(child.x509.as_raw()).ok()?;
    let (_, signature_id) = Any::from_der(certificate.data.get(signed.len()..)?).ok()?;
    let (_, key) = Any::from_der(parent.x509.public_key().raw).ok()?;
    let (_, key_id) = Any::from_der(key.data).ok()?;
    let algorithm = algorithms().all.iter().find(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signature_id.data
            && algorithm.public_key_alg_id().as_ref() == key_id.data
    })?;
    let key = &parent.x509.public_key().subject_public_key.data;
    let signature = &child.x509.signature_value.data;
    Some(algorithm.verify_signature(key, signed, signature).is_ok())
}

#[derive(Clone, Copy, Debug)]
enum Curve {
    P256,
    P384,
    P521,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug)]
struct Ecdsa {
    curve: Curve,
    hash: Hash,
}

macro_rules! verified_by {
    ($curve:ident, $key:expr, $digest:expr, $signature:expr) => {{
        use $curve::ecdsa::signature::hazmat::PrehashVerifier as _;
        let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes($key).map_err(|_| InvalidSignature)?;
        let signature = $curve::ecdsa::DerSignature::from_bytes($signature).map_err(|_| InvalidSignature)?;
        key.verify_prehash($digest, &signature).map_err(|_| InvalidSignature)
    }};
}

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let digest = match self.hash {
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
            Hash::Sha512 => Sha512::digest(message).to_vec(),
        };
        match self.curve {
            Curve::P256 => verified_by!(p256, public_key, &digest, signature),
            Curve::P384 => verified_by!(p384, public_key, &digest, signature),
            Curve::P521 => {
                // The library requires at least half of the field's 66 bytes, more than SHA-256 has. Leading
                // zeros do not change the number.
                let mut field = [0; 66];
                field[66 - digest.len()..].copy_from_slice(&digest);
                verified_by!(p521, public_key, &field, signature)
            }
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.curve {
            Curve::P256 => alg_id::ECDSA_P256,
            Curve::P384 => alg_id::ECDSA_P384,
            Curve::P521 => alg_id::ECDSA_P521,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self.hash {
            Hash::Sha256 => alg_id::ECDSA_SHA256,
            Hash::Sha384 => alg_id::ECDSA_SHA384,
            Hash::Sha512 => alg_id::ECDSA_SHA512,
        }
    }
}
