//! A network of its own with API servers and proxies in it, all of which write down who came and how.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::SanType;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::admin::install_tls_provider;
use crate::common::forge::{Forged, ca_params, dns, issued, leaf_params, self_signed};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "OUTRIGGER_TEST_INSIDE";

/// Names and addresses inside, also what the servers' certificate is for.
const NAMES: [&str; 11] = [
    "api.example.com",
    "alt.example.com",
    "proxy.example.com",
    "hidden.example.com",
    "xn--bcher-kva.example",
    "k3d.localhost",
    "kubernetes.docker.internal",
    "my_cluster.example.com",
    "localhost",
    "here.example.com",
    "inside.example.com",
];
/// 192.0.2.8 is in the certificate and belongs to nobody: only a proxy leads there.
const ADDRESSES: [&str; 9] = [
    "192.0.2.7",
    "192.0.2.8",
    "10.1.2.3",
    "127.0.0.1",
    "127.0.0.2",
    "::1",
    "2001:db8::7",
    "0.0.0.0",
    "169.254.1.1",
];

/// Makes the namespace: addresses on the loopback device, names in a hosts file of its own, no way out.
const NAMESPACE: &str = "ip link set lo up
for address in 192.0.2.7/32 192.0.2.100/32 10.1.2.3/32 169.254.1.1/32 2001:db8::7/128; do
    ip address add $address dev lo nodad 2>/dev/null || ip address add $address dev lo
done
mount --bind \"$1\" /etc/hosts
mount --bind /dev/null /etc/resolv.conf
shift
exec \"$@\"";

const HOSTS: &str = "127.0.0.1 localhost kubernetes.docker.internal k3d.localhost
::1 localhost
192.0.2.7 api.example.com alt.example.com xn--bcher-kva.example my_cluster.example.com
192.0.2.100 proxy.example.com
127.0.0.1 here.example.com
10.1.2.3 inside.example.com
";

/// Whether this process is the one inside.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Why no namespace can be made here.
pub fn available() -> Result<(), String> {
    let tried = Command::new("unshare").args(["--net", "--mount", "ip", "link", "set", "lo", "up"]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("no network namespace can be made here: {why}"))
        }
        Err(error) => Err(format!("unshare cannot be run: {error}")),
    }
}

/// Runs this very program inside a namespace; returns its exit code.
pub fn enter() -> u8 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, HOSTS).expect("a file of ours");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-euc", NAMESPACE, "sh"])
        .arg(&hosts)
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("unshare was there a moment ago");
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(101)
}

/// What one run of a client did: how it asked proxies, and what arrived at API servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub proxies: BTreeSet<String>,
    pub requests: BTreeSet<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requests.is_empty() && self.proxies.is_empty() {
            return f.write_str("nobody was asked");
        }
        let lines: Vec<&str> = self.proxies.iter().chain(&self.requests).map(String::as_str).collect();
        f.write_str(&lines.join("; "))
    }
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

/// Takes what was seen since the last time.
pub fn seen() -> Seen {
    SEEN.lock().expect("no panic under the lock").take().unwrap_or_default()
}

fn note(change: impl FnOnce(&mut Seen)) {
    change(SEEN.lock().expect("no panic under the lock").get_or_insert_default());
}

/// The CA of the servers and of the TLS proxy.
pub static CA: LazyLock<Forged> = LazyLock::new(|| self_signed(ca_params("kubernetes")));

/// Another one, which signed nothing here.
pub static OTHER_CA: LazyLock<Forged> = LazyLock::new(|| self_signed(ca_params("other")));

/// A client's certificate and its key, PEM.
pub static CLIENT: LazyLock<(String, String)> = LazyLock::new(|| {
    let mut params = leaf_params();
    params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
    let client = issued(params, &CA);
    (client.pem(), client.key.serialize_pem())
});

/// Starts everything, in a thread that ends with the process.
pub fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        install_tls_provider();
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let tls = acceptor();
                for port in [443, 6443] {
                    let listener = listen(port).await;
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        while let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(api_server(stream, tls.clone()));
                        }
                    });
                }
                for (port, name) in [
                    (80, "http proxy on port 80"),
                    (3128, "http proxy"),
                    (3129, "https proxy"),
                    (3130, "refusing proxy"),
                    (1080, "socks proxy"),
                ] {
                    let listener = listen(port).await;
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        while let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(proxy(stream, name, tls.clone()));
                        }
                    });
                }
                ready.send(()).expect("somebody waits");
                std::future::pending::<()>().await;
            });
        });
        wait.recv().expect("the servers start");
    });
}

async fn listen(port: u16) -> TcpListener {
    // For both families.
    TcpListener::bind(("::", port)).await.expect("the namespace is ours alone")
}

fn acceptor() -> TlsAcceptor {
    let mut params = leaf_params();
    params.subject_alt_names = NAMES.map(dns).to_vec();
    params
        .subject_alt_names
        .extend(ADDRESSES.iter().map(|address| SanType::IpAddress(address.parse().expect("an address"))));
    let leaf = issued(params, &CA);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_single_cert(vec![CertificateDer::from(leaf.der)], key)
        .expect("a certificate of ours");
    TlsAcceptor::from(Arc::new(config))
}

/// Takes whatever certificate a client has: it is only written down.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}

/// Answers every request: the version, no object at all, and reviews that say nothing.
async fn api_server(stream: TcpStream, tls: TlsAcceptor) -> Option<()> {
    let place = stream.local_addr().ok()?;
    let place = SocketAddr::new(place.ip().to_canonical(), place.port());
    let mut stream = tls.accept(stream).await.ok()?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| {
        let certificate = outrigger::internal::Certificate::from_der(der).expect("a certificate");
        format!(" with the certificate {}", certificate.label())
    });
    loop {
        let head = read_head(&mut stream).await?;
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        stream.read_exact(&mut vec![0; length]).await.ok()?;
        let mut words = head.split_whitespace();
        let (method, target) = (words.next()?, words.next()?);
        let path = target.split('?').next().unwrap_or(target);
        let prefix = ["/version", "/api/", "/apis/"].iter().find_map(|start| path.find(start));
        let mut line = format!("{place}{}", &path[..prefix.unwrap_or(0)]);
        if let Some(authorization) = header("authorization") {
            line.extend([" as ", &authorization]);
        }
        let mut impersonation: Vec<String> = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.to_ascii_lowercase().starts_with("impersonate-"))
            .map(|(key, value)| format!(" {}={}", key.to_ascii_lowercase(), value.trim()))
            .collect();
        impersonation.sort();
        line += &impersonation.concat();
        line += certificate.as_deref().unwrap_or_default();
        note(|seen| _ = seen.requests.insert(line));
        let (status, body) = match method {
            "GET" if path.ends_with("/version") => {
                ("200 OK", r#"{"major":"1","minor":"37","gitVersion":"v1.37.2"}"#.to_owned())
            }
            "POST" => ("201 Created", r#"{"kind":"Review","apiVersion":"v1","status":{}}"#.to_owned()),
            _ => (
                "404 Not Found",
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"not found","code":404}"#.to_owned(),
            ),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

async fn proxy(stream: TcpStream, name: &'static str, tls: TlsAcceptor) -> Option<()> {
    match name {
        "https proxy" => tunnel(tls.accept(stream).await.ok()?, name).await,
        "socks proxy" => socks(stream, name).await,
        _ => tunnel(stream, name).await,
    }
}

/// An HTTP proxy that opens tunnels and does nothing else.
async fn tunnel(mut near: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> Option<()> {
    let head = read_head(&mut near).await?;
    let mut words = head.split_whitespace();
    let (method, target) = (words.next()?, words.next()?.to_owned());
    let login = head.lines().find_map(|line| {
        let value = line
            .to_ascii_lowercase()
            .starts_with("proxy-authorization:")
            .then(|| line.split_whitespace().last())?;
        let decoded = STANDARD.decode(value?).ok()?;
        Some(format!(" as {}", String::from_utf8_lossy(&decoded)))
    });
    note(|seen| _ = seen.proxies.insert(format!("{name} {method} {target}{}", login.unwrap_or_default())));
    if method != "CONNECT" || name == "refusing proxy" {
        let _ =
            near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
        return None;
    }
    let (host, port) = target.rsplit_once(':')?;
    let mut far = dial(host.trim_matches(['[', ']']), port.parse().ok()?).await?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    near.flush().await.ok()?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}

/// SOCKS 5 (RFC 1928) with user names (RFC 1929).
async fn socks(mut near: TcpStream, name: &str) -> Option<()> {
    let mut start = [0; 2];
    near.read_exact(&mut start).await.ok()?;
    let mut methods = vec![0; usize::from(start[1])];
    near.read_exact(&mut methods).await.ok()?;
    let mut login = String::new();
    if methods.contains(&2) {
        near.write_all(&[5, 2]).await.ok()?;
        near.read_u8().await.ok()?;
        let user = socks_text(&mut near).await?;
        let password = socks_text(&mut near).await?;
        near.write_all(&[1, 0]).await.ok()?;
        login = format!(" as {user}:{password}");
    } else {
        near.write_all(&[5, 0]).await.ok()?;
    }
    let mut request = [0; 4];
    near.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        1 => Ipv4Addr::from(near.read_u32().await.ok()?).to_string(),
        4 => std::net::Ipv6Addr::from(near.read_u128().await.ok()?).to_string(),
        _ => format!("name {}", socks_text(&mut near).await?),
    };
    let port = near.read_u16().await.ok()?;
    note(|seen| _ = seen.proxies.insert(format!("{name} {host}:{port}{login}")));
    let mut far = dial(host.trim_start_matches("name "), port).await?;
    near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}

async fn socks_text(near: &mut TcpStream) -> Option<String> {
    let mut text = vec![0; usize::from(near.read_u8().await.ok()?)];
    near.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok()
}

/// As a proxy in another network sees it: every name, and the address that is nobody's here, is the server.
async fn dial(host: &str, port: u16) -> Option<TcpStream> {
    let address = host.parse().unwrap_or(IpAddr::from([192, 0, 2, 7]));
    let address = if host == "192.0.2.8" { IpAddr::from([192, 0, 2, 7]) } else { address };
    TcpStream::connect((address, port)).await.ok()
}
