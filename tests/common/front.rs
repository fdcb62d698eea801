//! Something in front of a bed's API server: other certificates, another path.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use outrigger_doubles::wire::Identity;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::admin::install_tls_provider;
use super::bed::Bed;
use super::forge::{Forged, dns, leaf_params};

/// The path under which a front with a path serves, as Rancher does.
pub const PATH: &str = "/k8s/clusters/c-1";

/// Parameters of a certificate for where fronts listen.
#[must_use]
pub fn local_params() -> rcgen::CertificateParams {
    let mut params = leaf_params();
    let address = "127.0.0.1".parse().expect("an address");
    params.subject_alt_names = vec![rcgen::SanType::IpAddress(address), dns("localhost")];
    params
}

/// A proxy that opens tunnels (`CONNECT`), all of them to the bed, as one in a closed network leads to names
/// that nobody outside can dial. Returns its URL and what it was asked for, a line each. It ends with the
/// test process.
#[must_use]
pub fn proxy(bed: &dyn Bed) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
    let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let bed: SocketAddr = bed.url().trim_start_matches("https://").parse().expect("beds have an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            // A client that goes away ends its tunnel, and that is all.
            std::thread::spawn(move || tunnel(&stream, bed, &log));
        }
    });
    (url, asked)
}

fn tunnel(near: &std::net::TcpStream, bed: SocketAddr, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        (&*near).read_exact(&mut byte)?;
        head.extend(byte);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    log.lock().expect("no panic under the lock").push(line);
    let far = std::net::TcpStream::connect(bed)?;
    (&*near).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &*near, &mut &far);
            far.shutdown(std::net::Shutdown::Write)
        });
        let _ = std::io::copy(&mut &far, &mut &*near);
        near.shutdown(std::net::Shutdown::Both)
    })
}

/// Serves in front of the bed with this chain (leaf first, whose key is used), below [`PATH`] if asked to;
/// returns the URL. It ends with the test process.
#[must_use]
pub fn serve(bed: &dyn Bed, chain: &[&Forged], with_path: bool) -> String {
    let chain_der = chain.iter().map(|one| one.der.clone()).collect();
    serve_as(bed, &Identity { chain: chain_der, key: chain[0].key.serialize_der() }, with_path)
}

/// The same with certificates from anywhere.
#[must_use]
pub fn serve_as(bed: &dyn Bed, identity: &Identity, with_path: bool) -> String {
    install_tls_provider();
    let server = identity.server();
    let mut roots = rustls::RootCertStore::empty();
    let ca = outrigger::internal::read_bundle(bed.ca_pem().as_bytes()).expect("the bed's CA");
    for one in &ca.certificates {
        roots.add(CertificateDer::from(one.der().to_vec())).expect("the bed's CA");
    }
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (acceptor, connector) = (TlsAcceptor::from(server), TlsConnector::from(Arc::new(client)));

    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
    listener.set_nonblocking(true).expect("a socket of ours");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let bed: SocketAddr = bed.url().trim_start_matches("https://").parse().expect("beds have an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("it listens already");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, bed, acceptor.clone(), connector.clone(), with_path));
            }
        });
    });
    format!("https://127.0.0.1:{port}{}", if with_path { PATH } else { "" })
}

/// One connection, both ways.
async fn pass(
    stream: TcpStream,
    bed: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    with_path: bool,
) -> Option<()> {
    let outside = acceptor.accept(stream).await.ok()?;
    let inside = TcpStream::connect(bed).await.ok()?;
    let inside = connector.connect(ServerName::from(bed.ip()), inside).await.ok()?;
    let (mut from_client, mut to_client) = tokio::io::split(outside);
    let (mut from_bed, mut to_bed) = tokio::io::split(inside);
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let mut bytes = buffer[..length].to_vec();
            // Heads are written at once: the path is never split over two reads.
            if with_path && let Ok(text) = std::str::from_utf8(&bytes) {
                bytes = text.replacen(&format!(" {PATH}/"), " /", 1).into_bytes();
            }
            if to_bed.write_all(&bytes).await.is_err() || to_bed.flush().await.is_err() {
                break;
            }
        }
    };
    let back = tokio::io::copy(&mut from_bed, &mut to_client);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
    Some(())
}
