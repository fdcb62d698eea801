//! A fresh CA, or certificates as somebody has them, and a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

/// The certificates a server shows, and the key it proves them with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key, PKCS#8 in DER.
    pub key: Vec<u8>,
}

impl Identity {
    /// What a server of this identity needs.
    ///
    /// # Panics
    /// If the key is of no kind that a server can use.
    #[must_use]
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        self.over(builder())
    }

    /// The same for one version of TLS.
    ///
    /// # Panics
    /// If the key is of no kind that a server can use.
    #[must_use]
    pub fn server_of(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<rustls::ServerConfig> {
        self.over(builder_of(&[version]))
    }

    fn over(&self, builder: Builder) -> Arc<rustls::ServerConfig> {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .unwrap_or_else(|_| P521::key(&self.key).expect("ring has the key, or it is P-521"));
        // By a resolver, as the builder itself looks whether a certificate is one that it likes.
        let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

type Builder = rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>;

fn builder() -> Builder {
    builder_of(rustls::DEFAULT_VERSIONS)
}

fn builder_of(versions: &[&'static rustls::SupportedProtocolVersion]) -> Builder {
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("the provider speaks current TLS")
        .with_no_client_auth()
}

/// A P-521 key, which ring does not know.
#[derive(Clone, Debug)]
struct P521(Arc<p521::ecdsa::SigningKey>);

impl P521 {
    fn key(pkcs8: &[u8]) -> Option<Arc<dyn SigningKey>> {
        use p521::pkcs8::DecodePrivateKey as _;
        Some(Arc::new(Self(Arc::new(p521::ecdsa::SigningKey::from_pkcs8_der(pkcs8).ok()?))))
    }
}

impl SigningKey for P521 {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P521 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        use p521::ecdsa::signature::Signer as _;
        let signature: p521::ecdsa::DerSignature = self.0.sign(message);
        Ok(signature.as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

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
    let mut config = builder()
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
