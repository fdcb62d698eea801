//! A blocking HTTP client with no cleverness: one connection for each request, no redirects, no retries.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers as they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers: Vec<(String, String)> =
            headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let mut reply = Self { status, headers, body: bytes[end + 4..].to_vec() };
        if reply.header("transfer-encoding") == "chunked" {
            reply.body = unchunk(&reply.body);
        }
        Some(reply)
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let start = end + 2;
        match size.and_then(|size| Some((size, rest.get(start..start + size)?))) {
            Some((size, portion)) if size > 0 => {
                body.extend_from_slice(portion);
                rest = rest.get(start + size + 2..).unwrap_or_default();
            }
            _ => break,
        }
    }
    body
}

/// Somebody who can reach a server.
#[derive(Clone)]
pub struct Http {
    address: String,
    root: String,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Http {
    /// A client for what lies under a URL; the CA (PEM) is that of its certificate.
    ///
    /// # Panics
    /// If the URL is neither `https://` nor `http://`, or the CA is not PEM.
    #[must_use]
    pub fn new(url: &str, ca_pem: &str) -> Self {
        let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
        let (address, root) = rest.split_once('/').map_or((rest, String::new()), |(address, root)| {
            (address, format!("/{}", root.trim_end_matches('/')))
        });
        assert!(matches!(scheme, "https" | "http"), "{scheme} is not spoken here");
        let tls = (scheme == "https").then(|| {
            let mut roots = rustls::RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("the CA is PEM");
            roots.add(ca).expect("the CA is a CA");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("the provider speaks current TLS")
                .with_root_certificates(roots)
                .with_no_client_auth();
            Arc::new(config)
        });
        Self { address: address.to_owned(), root, tls }
    }

    /// Sends a request to a path under the URL.
    ///
    /// # Errors
    /// If there is no connection, or no answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        use std::fmt::Write as _;
        let mut head = format!(
            "{method} {}{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.root,
            self.address,
            body.len()
        );
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut socket = TcpStream::connect(&self.address)?;
        let bytes = match &self.tls {
            None => exchange(&mut socket, head.as_bytes(), body)?,
            Some(config) => {
                let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                let connection =
                    rustls::ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                let mut stream = rustls::StreamOwned::new(connection, socket);
                exchange(&mut stream, head.as_bytes(), body)?
            }
        };
        Reply::parse(&bytes).ok_or_else(|| io::Error::other("no answer"))
    }
}

fn exchange(stream: &mut (impl Read + Write), head: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(head)?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut bytes = Vec::new();
    // A connection that just ends has still said all that it says.
    let _ = stream.read_to_end(&mut bytes);
    Ok(bytes)
}
