use rustls::pki_types::CertificateDer;

/// Checks that outrigger can log in with a client certificate and its key (both PEM). Go, and so kubectl, supports
/// more kinds of keys than ring. The error is a reason for a failure's "because" detail.
pub fn check_identity(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    /// secp521r1, RFC 5480 §2.1.1.1, as a DER object identifier.
    const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| "its client certificate is no PEM certificate".to_owned())?;
    let text = String::from_utf8_lossy(key);
    if text.contains("ENCRYPTED") {
        return Err("its client key is encrypted, which kubectl does not take either".to_owned());
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| "its client key is no PEM private key".to_owned())?;
    let signer = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| {
        let kind = if key.secret_der().windows(P521.len()).any(|bytes| bytes == P521) {
            "its client key is a P-521 key, which outrigger cannot use (kubectl can)"
        } else {
            "its client key is of a kind that outrigger cannot use"
        };
        format!("{kind}: log in with a P-256, P-384, Ed25519 or RSA (2048 bits or more) key, or with a token")
    })?;
    match rustls::sign::CertifiedKey::new(chain, signer).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("its client key is not that of its client certificate".to_owned())
        }
        Err(rustls::Error::InvalidCertificate(_)) => Err("its client certificate cannot be read".to_owned()),
        _ => Ok(()),
    }
}
