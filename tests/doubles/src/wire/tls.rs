//! A fresh CA, and a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A CA of this name in PEM, and what a server of that name needs to speak with a certificate of it.
pub(crate) fn certificates(authority: &str, server: &str) -> (String, Arc<rustls::ServerConfig>) {
    let reason = "certificates of fixed form can be made";
    let ca_key = KeyPair::generate().expect(reason);
    let mut ca = CertificateParams::new(Vec::<String>::new()).expect(reason);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    ca.distinguished_name.push(DnType::CommonName, authority);
    (ca.not_before, ca.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2049, 1, 1));
    let ca_certificate = ca.self_signed(&ca_key).expect(reason);
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().expect(reason);
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let mut leaf = CertificateParams::new(names).expect(reason);
    leaf.distinguished_name.push(DnType::CommonName, server);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2049, 1, 1));
    let certificate = leaf.signed_by(&key, &issuer).expect(reason);

    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks current TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("key and certificate belong together");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (ca_certificate.pem(), Arc::new(config))
}

/// A socket on a free port of this machine.
pub(crate) fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("this machine has a free port");
    listener.set_nonblocking(true).expect("sockets can be set to not block");
    let address = listener.local_addr().expect("a listening socket has an address");
    (listener, address)
}
