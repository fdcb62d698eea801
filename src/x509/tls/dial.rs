//! Reads a server's certificates without trusting it.
//!
//! [`crate::x509::judge`] needs the server's whole chain; HTTP clients return only the leaf, and nothing from an
//! untrusted server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::base::address::without_brackets;

/// The chain of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The first address that sent it.
    pub address: SocketAddr,
    /// DER, leaf first, exactly as sent.
    pub chain: Vec<Vec<u8>>,
}

/// Why no chain was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFault {
    /// The name has no address.
    #[error("the name does not resolve to an address")]
    Unresolvable,
    /// Nothing listens on the port.
    #[error("the connection was refused")]
    Refused,
    /// No response within the deadline.
    #[error("no answer in time")]
    Timeout,
    /// The server responds, but not with TLS.
    #[error("the server does not speak TLS")]
    NotTls,
    /// The message of the system or the TLS library.
    #[error("{0}")]
    Other(String),
}

/// Addresses of a name that are dialled at most.
const ADDRESSES: usize = 8;

/// Makes a TLS handshake with each address of `host:port` and returns the different chains, each with the first
/// address that sent it. The addresses of a name may belong to servers with different certificates. (The servers
/// behind one address may differ, too, but only one of them answers.)
///
/// The server is not trusted: the caller passes the chain to [`judge`](crate::x509::judge), and the connection is
/// closed after the handshake. No credential, client certificate or request is sent, so it is safe to accept any
/// certificate here.
///
/// `server_name` is the SNI name if it differs from `host`; no SNI is sent for an address. The addresses are
/// dialled in parallel, within `deadline`; it is enough if one of them answers.
pub async fn served_chains(
    host: &str,
    port: u16,
    server_name: Option<&str>,
    deadline: Duration,
) -> Result<Vec<Served>, DialFault> {
    let end = Instant::now() + deadline;
    let host = without_brackets(host);
    let name = server_name.unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|error| DialFault::Other(format!("{error}: {host}")))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in resolve(host, port, end).await? {
        if addresses.len() < ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    chains_at(addresses, &name, end).await
}

async fn chains_at(
    addresses: Vec<SocketAddr>,
    name: &ServerName<'static>,
    end: Instant,
) -> Result<Vec<Served>, DialFault> {
    let dials = addresses.into_iter().map(|address| async move {
        chain_at(address, name.clone(), end).await.map(|chain| Served { address, chain })
    });
    let mut found: Vec<Served> = Vec::new();
    let mut fault = DialFault::Unresolvable;
    for answer in futures_util::future::join_all(dials).await {
        match answer {
            Ok(served) if found.iter().any(|known| known.chain == served.chain) => {}
            Ok(served) => found.push(served),
            Err(why) => fault = why,
        }
    }
    if found.is_empty() { Err(fault) } else { Ok(found) }
}

async fn resolve(host: &str, port: u16, end: Instant) -> Result<Vec<SocketAddr>, DialFault> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match timeout_at(end, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(_)) => Err(DialFault::Unresolvable),
        Err(_) => Err(DialFault::Timeout),
    }
}

async fn chain_at(
    address: SocketAddr,
    name: ServerName<'static>,
    end: Instant,
) -> Result<Vec<Vec<u8>>, DialFault> {
    let stream = match timeout_at(end, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(DialFault::Refused),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return Err(DialFault::Timeout),
        Ok(Err(error)) => return Err(DialFault::Other(error.to_string())),
        Err(_) => return Err(DialFault::Timeout),
    };
    let recorder = Arc::new(Recorder::default());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| DialFault::Other(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let outcome = timeout_at(end, connector.connect(name, stream)).await;
    let chain = recorder.take();
    let failure = match outcome {
        Ok(Ok(mut stream)) => {
            // Avoids an error in the server's log; the chain is already read.
            let _ = timeout_at(end, stream.shutdown()).await;
            None
        }
        Ok(Err(error)) => Some(handshake_fault(&error)),
        Err(_) => Some(DialFault::Timeout),
    };
    match failure {
        // A handshake may fail after the chain was received, for example because of the key's kind.
        _ if !chain.is_empty() => Ok(chain),
        Some(fault) => Err(fault),
        None => Err(DialFault::Other("the server showed no certificate".to_owned())),
    }
}

fn handshake_fault(error: &io::Error) -> DialFault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => DialFault::NotTls,
        Some(other) => DialFault::Other(other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            DialFault::Other("the server closed the connection during the TLS handshake".to_owned())
        }
        None => DialFault::Other(error.to_string()),
    }
}

/// Accepts and records every certificate. This is safe only in [`served_chains`], for the reason given there.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Vec<u8>>>);

impl Recorder {
    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// Includes schemes that ring cannot check, so that a server with a P-521 key completes the handshake.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]
    }
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
