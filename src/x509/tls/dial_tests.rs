use super::*;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(10);

/// A server for one handshake; returns the requested name and the bytes received after the handshake.
async fn serve_once(listener: TcpListener, chain: Vec<Vec<u8>>, key: KeyPair) -> (Option<String>, Vec<u8>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server");
    let (stream, _) = listener.accept().await.expect("a client");
    let mut stream =
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.expect("a handshake");
    let name = stream.get_ref().1.server_name().map(ToOwned::to_owned);
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
    (name, received)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

#[test]
fn returns_the_chain_unchanged_and_sends_nothing() {
    run(async {
        for (asked, expected) in [(None, None), (Some("api.example.com"), Some("api.example.com".to_owned()))]
        {
            let key = KeyPair::generate().expect("a key");
            // The certificate is not valid for the name, which must not matter here.
            let leaf = CertificateParams::default().self_signed(&key).expect("a certificate").der().to_vec();
            let chain = vec![leaf.clone(), leaf];
            let (listener, port) = listener().await;
            let (served, seen) = tokio::join!(
                served_chains("127.0.0.1", port, asked, PATIENCE),
                serve_once(listener, chain.clone(), key)
            );
            assert_eq!(
                served,
                Ok(vec![Served {
                    address: ("127.0.0.1".parse::<IpAddr>().expect("one"), port).into(),
                    chain
                }])
            );
            assert_eq!(seen, (expected, Vec::new()));
        }
    });
}

#[test]
fn reports_a_server_without_tls() {
    run(async {
        let (listener, port) = listener().await;
        let http = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut hello = [0; 16];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        };
        let (served, ()) = tokio::join!(served_chains("127.0.0.1", port, None, PATIENCE), http);
        assert_eq!(served, Err(DialFault::NotTls));
    });
}

#[test]
fn times_out_on_a_silent_server() {
    run(async {
        let (_listener, port) = listener().await;
        let served = served_chains("127.0.0.1", port, None, Duration::from_millis(200)).await;
        assert_eq!(served, Err(DialFault::Timeout));
    });
}

#[test]
fn reports_a_closed_port() {
    run(async {
        let (listener, port) = listener().await;
        drop(listener);
        assert_eq!(served_chains("127.0.0.1", port, None, PATIENCE).await, Err(DialFault::Refused));
    });
}

#[test]
fn reports_a_name_without_address() {
    run(async {
        let served = served_chains("no-such-host.invalid", 443, None, PATIENCE).await;
        assert_eq!(served, Err(DialFault::Unresolvable));
        let served = served_chains("not a name", 443, None, PATIENCE).await;
        assert!(matches!(served, Err(DialFault::Other(_))), "{served:?}");
    });
}

#[test]
fn accepts_an_address_in_brackets() {
    run(async {
        // The system may lack IPv6; only the parsing of the address is tested.
        let served = served_chains("[::1]", 1, None, PATIENCE).await;
        assert!(matches!(served, Err(DialFault::Refused | DialFault::Other(_))), "{served:?}");
    });
}

/// Some addresses of the name have a rotated certificate, and one is down.
#[test]
fn dials_all_addresses_of_a_name() {
    run(async {
        let made = || {
            let key = KeyPair::generate().expect("a key");
            let der = CertificateParams::default().self_signed(&key).expect("a certificate").der().to_vec();
            (der, key)
        };
        let ((old, old_key), (new, new_key)) = (made(), made());
        let again = KeyPair::from_pem(&old_key.serialize_pem()).expect("the same key");
        let (first, second, third, down) =
            (listener().await, listener().await, listener().await, listener().await);
        let at = |port: u16| SocketAddr::new("127.0.0.1".parse().expect("an address"), port);
        let addresses = vec![at(down.1), at(first.1), at(second.1), at(third.1)];
        drop(down.0);
        let name = ServerName::try_from("api.example.com").expect("a name");
        let (served, ..) = tokio::join!(
            chains_at(addresses.clone(), &name, Instant::now() + PATIENCE),
            serve_once(first.0, vec![old.clone()], old_key),
            serve_once(second.0, vec![old.clone()], again),
            serve_once(third.0, vec![new.clone()], new_key),
        );
        let expected = [
            Served { address: addresses[1], chain: vec![old] },
            Served { address: addresses[3], chain: vec![new] },
        ];
        assert_eq!(served.as_deref(), Ok(&expected[..]));
        // If no address answers, the last error is returned.
        let served = chains_at(vec![addresses[0]], &name, Instant::now() + PATIENCE).await;
        assert_eq!(served, Err(DialFault::Refused));
    });
}
