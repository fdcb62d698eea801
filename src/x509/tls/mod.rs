//! TLS connections verified like the runner's: the trusted CAs ([`Roots`]) and the chains that a server sends
//! ([`served_chains`]).
//!
//! The clients for the cluster and for GitLab verify servers with [`judge`](crate::x509::judge), which follows
//! Go's rules, and not with webpki. The runner refuses the same servers for the same reasons.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::x509::{self, Bundle, Certificate, Host, Verdict, judge};

mod dial;
mod identity;

pub use dial::{DialFault, Served, served_chains};
pub use identity::check_identity;

/// The CAs that a client trusts; by default the system's roots.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The CA certificates given for the server.
    pub given: Option<Bundle>,
    /// Their file, for messages.
    pub file: Option<PathBuf>,
    /// Whether the system's roots are trusted, too.
    pub system: bool,
}

impl Default for Roots {
    fn default() -> Self {
        Self { given: None, file: None, system: true }
    }
}

impl Roots {
    /// As in client-go: only the given CA, or the system's roots if there is none.
    pub fn of_cluster(given: Option<Bundle>) -> Self {
        Self { system: given.is_none(), given, file: None }
    }

    /// As in gitlab-runner with `tls-ca-file`: the system's roots and the given CAs (`network/client.go`,
    /// `addTLSCA`).
    pub fn of_gitlab(given: Option<(Bundle, PathBuf)>) -> Self {
        let (given, file) = given.unzip();
        Self { given, file, system: true }
    }

    /// Judges a chain by Go's rules with these roots.
    ///
    /// The system's roots are read only if the given CAs do not suffice. Of these many roots, only those that
    /// could have issued a certificate of the chain are parsed, which does not change the verdict.
    fn judge(&self, chain: &[Vec<u8>], host: &Host, now: Timestamp) -> Verdict {
        static SYSTEM: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
        let mut bundle = self.given.clone().unwrap_or_default();
        let verdict = judge(&bundle, chain, host, now);
        if verdict.accepted_here() || !self.system {
            return verdict;
        }
        let system = SYSTEM.get_or_init(|| rustls_native_certs::load_native_certs().certs);
        let names = x509::issuers(chain);
        let relevant = |der: &[u8]| {
            chain.first().is_some_and(|leaf| leaf == der)
                || names.iter().any(|name| der.windows(name.len()).any(|part| part == name))
        };
        let known =
            system.iter().filter(|der| relevant(der)).filter_map(|der| Certificate::from_der(der).ok());
        bundle.certificates.extend(known);
        judge(&bundle, chain, host, now)
    }
}

/// The TLS configuration of a client that trusts `roots`, without a client certificate; HTTP/1.1.
pub fn client_config(roots: Roots) -> Result<ClientConfig, rustls::Error> {
    let mut config = connector_config(roots, None)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Like [`client_config`], with a client certificate and its key (both PEM) that [`check_identity`] accepted, and
/// without ALPN, which hyper-rustls sets itself.
pub fn connector_config(
    roots: Roots,
    identity: Option<(&[u8], &[u8])>,
) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(roots)));
    let Some((certificate, key)) = identity else { return Ok(config.with_no_client_auth()) };
    let unreadable = |_| rustls::Error::General("the client certificate or its key is not PEM".to_owned());
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(unreadable)?;
    config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key).map_err(unreadable)?)
}

/// A server's certificate is not accepted.
#[derive(Clone, Debug)]
pub struct Untrusted {
    /// Go may accept the certificate if `not_here` is set.
    pub verdict: Verdict,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict.not_here {
            Some(why) => f.write_str(why),
            None => f.write_str(&self.verdict.why.join("; ")),
        }
    }
}

impl Error for Untrusted {}

/// Finds the refused certificate in the causes of an HTTP client's error.
pub fn untrusted<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Untrusted> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
            error.downcast_ref()
        {
            return inner.downcast_ref();
        }
        // `io::Error::source` skips the wrapped error itself.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The system's roots for the public web; `None` if there are none. Certificates that cannot be read or parsed are
/// in [`Bundle::dropped`].
pub fn system_roots() -> Option<Bundle> {
    let found = rustls_native_certs::load_native_certs();
    let mut bundle =
        Bundle { dropped: found.errors.iter().map(ToString::to_string).collect(), ..Bundle::default() };
    for der in found.certs {
        match Certificate::from_der(&der) {
            Ok(certificate) => bundle.certificates.push(certificate),
            Err(why) => bundle.dropped.push(why),
        }
    }
    (!bundle.certificates.is_empty()).then_some(bundle)
}

/// Accepts a server if Go does and outrigger has checked all signatures.
#[derive(Debug)]
struct Verifier(Roots);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let host = match server_name {
            ServerName::DnsName(name) => Host::Name(name.as_ref().to_owned()),
            ServerName::IpAddress(address) => Host::Ip((*address).into()),
            _ => return Err(rustls::Error::UnsupportedNameType),
        };
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let now = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let chain: Vec<Vec<u8>> =
            std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        let verdict = self.0.judge(&chain, &host, now);
        if verdict.accepted_here() {
            return Ok(ServerCertVerified::assertion());
        }
        let refused = CertificateError::Other(OtherError(Arc::new(Untrusted { verdict })));
        Err(rustls::Error::InvalidCertificate(refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &x509::algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &x509::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        x509::algorithms().supported_schemes()
    }
}
