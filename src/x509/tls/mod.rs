//! TLS to servers, decided as the runner decides: whom a client believes ([`Roots`]), and what a server
//! shows ([`served_chains`]).
//!
//! Every client of this program, the cluster's and GitLab's, verifies servers by
//! [`judge`](crate::x509::judge), which is Go's rules, and not by webpki, whose rules are others.
//! A server that is refused here is refused by the runner, and for the reason given.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::x509::{self, Bundle, Certificate, Host, Verdict, judge};

mod dial;
mod identity;

pub use dial::{DialFault, Served, served_chains};
pub use identity::check_identity;

/// Whom a client believes; by default this machine's roots.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The CA certificates that were given for the server, if any were.
    pub given: Option<Bundle>,
    /// The file that they were given in, for messages.
    pub file: Option<PathBuf>,
    /// Whether this machine's own roots count, too.
    pub system: bool,
}

impl Default for Roots {
    fn default() -> Self {
        Self { given: None, file: None, system: true }
    }
}

impl Roots {
    /// As client-go does it: the given CA alone, or this machine's roots where there is none.
    pub fn of_cluster(given: Option<Bundle>) -> Self {
        Self { system: given.is_none(), given, file: None }
    }

    /// As gitlab-runner does it with `tls-ca-file`: this machine's roots, and the given ones beside them.
    /// (`network/client.go`, `addTLSCA`.)
    pub fn of_gitlab(given: Option<(Bundle, PathBuf)>) -> Self {
        let (given, file) = given.unzip();
        Self { given, file, system: true }
    }

    /// What Go's rules say of a chain under these roots.
    ///
    /// The machine's own are read where the given ones do not do, and of them only those are looked at that
    /// could have issued something in the chain: they are many, and the answer is the same.
    fn judge(&self, chain: &[Vec<u8>], host: &Host, now: Timestamp) -> Verdict {
        static SYSTEM: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
        let mut bundle = self.given.clone().unwrap_or_default();
        let verdict = judge(&bundle, chain, host, now);
        if verdict.accepted_here() || !self.system {
            return verdict;
        }
        let system = SYSTEM.get_or_init(|| rustls_native_certs::load_native_certs().certs);
        let names = x509::issuers(chain);
        let could = |der: &[u8]| {
            chain.first().is_some_and(|leaf| leaf == der)
                || names.iter().any(|name| der.windows(name.len()).any(|part| part == name))
        };
        let known = system.iter().filter(|der| could(der)).filter_map(|der| Certificate::from_der(der).ok());
        bundle.certificates.extend(known);
        judge(&bundle, chain, host, now)
    }
}

/// The TLS settings of a client that believes `roots` and has no certificate of its own; HTTP/1.1.
///
/// # Errors
/// What the library says, if it knows no TLS version or cipher.
pub fn client_config(roots: Roots) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(roots)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Makes a client that was configured elsewhere decide about servers as [`client_config`] does.
pub fn decide_by(roots: Roots, config: &mut ClientConfig) {
    config.dangerous().set_certificate_verifier(Arc::new(Verifier(roots)));
}

/// A server whose certificate was not accepted.
#[derive(Clone, Debug)]
pub struct Untrusted {
    /// What Go's rules say; not acceptable here at least.
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

/// The refused certificate behind an error of an HTTP client, if there is one.
pub fn untrusted<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Untrusted> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
            error.downcast_ref()
        {
            return inner.downcast_ref();
        }
        // What such an error wraps is not its source: it speaks for it.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The certificates this machine trusts for the public web; none if it has no such store.
///
/// What cannot be read or loaded is in [`Bundle::dropped`].
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

/// Accepts a server where Go does and every signature on the way was checked.
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
