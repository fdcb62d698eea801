//! A blocking client with no cleverness: one connection for each request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use outrigger_doubles::cluster::FakeCluster;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// A caller with a token.
pub struct Client {
    address: String,
    token: String,
    posing: String,
    config: Arc<rustls::ClientConfig>,
}

impl Client {
    /// One of the cluster's users.
    pub fn of(cluster: &FakeCluster, user: &str) -> Self {
        Self::new(cluster, &cluster.token(user))
    }

    /// Whoever has this token.
    pub fn new(cluster: &FakeCluster, token: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(cluster.ca_pem().as_bytes()).expect("the CA is PEM");
        roots.add(ca).expect("the CA is a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks current TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = cluster.url().trim_start_matches("https://").to_owned();
        Self { address, token: token.to_owned(), posing: String::new(), config: Arc::new(config) }
    }

    /// The same caller in somebody else's name.
    pub fn posing_as(&self, name: &str) -> Self {
        let posing = format!("impersonate-user: {name}\r\n");
        Self {
            address: self.address.clone(),
            token: self.token.clone(),
            posing,
            config: Arc::clone(&self.config),
        }
    }

    fn connect(&self) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let name = ServerName::try_from("127.0.0.1").expect("an address is a name");
        let connection = rustls::ClientConnection::new(Arc::clone(&self.config), name).expect("TLS starts");
        let socket = TcpStream::connect(&self.address).expect("the cluster listens");
        rustls::StreamOwned::new(connection, socket)
    }

    /// Reads several paths over one connection; returns all that came back.
    pub fn send_all(&self, paths: &[&str]) -> String {
        let mut stream = self.connect();
        for (index, path) in paths.iter().enumerate() {
            let keep = if index + 1 == paths.len() { "close" } else { "keep-alive" };
            let (host, token) = (&self.address, &self.token);
            let head = format!(
                "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: {keep}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).expect("the cluster reads");
        }
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a request; the code is 0 if there is no answer.
    fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nuser-agent: test/1\r\n{}\
             content-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            self.token,
            self.posing,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the cluster reads");
        let mut bytes = Vec::new();
        // A connection that just ends has still said all that it says.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return (0, Value::Null) };
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (code, serde_json::from_str(body).unwrap_or_default())
    }

    /// Reads.
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "application/json", "")
    }

    /// Creates.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, "application/json", &body.to_string())
    }

    /// Applies, server-side.
    pub fn apply(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("PATCH", path, "application/apply-patch+yaml", &body.to_string())
    }

    /// Deletes.
    pub fn delete(&self, path: &str, options: &Value) -> (u16, Value) {
        self.send("DELETE", path, "application/json", &options.to_string())
    }
}
