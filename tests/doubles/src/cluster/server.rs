//! The wire: a fresh CA, TLS, HTTP/1.1 with connections kept alive, faults, and the log.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, Refusal};
use super::fault::Action;
use super::routes::{self, Request, parse_query};
use super::{Logged, Shared};

/// The CA in PEM, and what a server needs to speak in its name.
pub(crate) fn certificates() -> (String, Arc<rustls::ServerConfig>) {
    let reason = "certificates of fixed form can be made";
    let ca_key = KeyPair::generate().expect(reason);
    let mut ca = CertificateParams::new(Vec::<String>::new()).expect(reason);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    ca.distinguished_name.push(DnType::CommonName, "kubernetes");
    (ca.not_before, ca.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2049, 1, 1));
    let ca_certificate = ca.self_signed(&ca_key).expect(reason);
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().expect(reason);
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let mut leaf = CertificateParams::new(names).expect(reason);
    leaf.distinguished_name.push(DnType::CommonName, "kube-apiserver");
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

/// Serves until told to stop.
pub(crate) fn run(
    shared: &Arc<Shared>,
    tls: Arc<rustls::ServerConfig>,
    listener: std::net::TcpListener,
    stop: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for one thread can be made");
    let acceptor = TlsAcceptor::from(tls);
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("the socket listens already");
        let serve = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| handle(Arc::clone(&shared), request));
                    // A client that goes away is no concern of ours.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        };
        tokio::select! {
            () = serve => {}
            _ = stop => {}
        }
    });
}

/// A socket on a free port of this machine.
pub(crate) fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("this machine has a free port");
    listener.set_nonblocking(true).expect("sockets can be set to not block");
    let address = listener.local_addr().expect("a listening socket has an address");
    (listener, address)
}

async fn read(incoming: hyper::Request<Incoming>) -> Result<Request, hyper::Error> {
    let (head, body) = incoming.into_parts();
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let authorization = header("authorization");
    let bearer = authorization.strip_prefix("Bearer ").map(|token| token.trim().to_owned());
    let impersonate = header("impersonate-user");
    let groups = head.headers.get_all("impersonate-group").iter();
    let query = head.uri.query().unwrap_or_default();
    Ok(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        raw_query: query.to_owned(),
        query: parse_query(query),
        accept: header("accept"),
        content_type: header("content-type"),
        user_agent: header("user-agent"),
        bearer,
        impersonate_user: Some(impersonate).filter(|name| !name.is_empty()),
        impersonate_groups: groups.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
        body: body.collect().await?.to_bytes().to_vec(),
    })
}

async fn handle(
    shared: Arc<Shared>,
    incoming: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, io::Error> {
    let started = Instant::now();
    let request = read(incoming).await.map_err(io::Error::other)?;
    let sequence = shared.log_start(Logged {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.raw_query.clone(),
        user: shared.user_of(&request),
        status: 0,
        sequence: 0,
        started,
        finished: None,
    });
    let action = shared.armed(&request);
    if !shared.delay.is_zero() {
        tokio::time::sleep(shared.delay).await;
    }
    let answer = match action.as_deref() {
        None => Some(apply(&shared, &request)),
        Some(Action::Status(code, reason, message)) => {
            Some(Refusal::plain(*code, reason, message.clone()).into_answer())
        }
        Some(Action::Headers(code, headers, body, content_type)) => Some(Answer {
            code: *code,
            content_type: content_type.clone(),
            headers: headers.clone(),
            body: body.clone(),
        }),
        Some(Action::Hang) => std::future::pending().await,
        Some(Action::ResetBefore) => None,
        Some(Action::ResetAfter) => {
            apply(&shared, &request);
            None
        }
        Some(Action::KillBefore(hook)) => {
            hook();
            None
        }
        Some(Action::KillAfter(hook)) => {
            apply(&shared, &request);
            hook();
            None
        }
    };
    shared.log_end(sequence, answer.as_ref().map_or(0, |answer| answer.code));
    // An error here closes the connection without a word.
    let answer = answer.ok_or_else(|| io::Error::other("closed as the test wants"))?;
    let mut response =
        hyper::Response::builder().status(answer.code).header("content-type", answer.content_type);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(answer.body))).map_err(io::Error::other)
}

fn apply(shared: &Shared, request: &Request) -> Answer {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.advance();
    let caller = request.bearer.as_deref().and_then(|token| state.authenticate(token));
    let outcome = match caller {
        Some(who) => routes::answer(&mut state, who, request),
        None => Err(Refusal::unauthorized()),
    };
    outcome.unwrap_or_else(Refusal::into_answer)
}
