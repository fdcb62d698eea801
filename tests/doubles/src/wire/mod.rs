//! What the doubles have in common: TLS with a CA of their own, HTTP/1.1 with connections kept alive,
//! faults in the way of requests, and a log of them.

mod body;
mod fault;
mod log;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

pub use fault::{Action, Fault};
pub use log::Logged;

pub(crate) use fault::Armed;
pub(crate) use log::{Log, lock};
pub use tls::Identity;

pub(crate) use tls::{certificates, listen};

use body::Payload;

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The query as written.
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A header's value, empty if there is none that is text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The user and the groups that it asks to act as.
    fn acts_as(&self) -> (String, Vec<String>) {
        let groups = self.headers.get_all("impersonate-group").iter();
        let groups = groups.map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned());
        (self.header("impersonate-user").to_owned(), groups.collect())
    }

    /// The type of its body, in lower case and without parameters; empty if it does not say.
    pub(crate) fn content_type(&self) -> String {
        self.header("content-type").split(';').next().unwrap_or_default().trim().to_lowercase()
    }
}

/// What goes back on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Empty if the answer has none.
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A JSON answer.
    pub(crate) fn json(code: u16, body: &Value) -> Self {
        Self {
            code,
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }
    }

    /// A plain text answer, as the health endpoints give.
    pub(crate) fn text(body: &str) -> Self {
        Self {
            code: 200,
            content_type: "text/plain; charset=utf-8".to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }
}

/// Takes `%41` and `+` out of a part of a URL.
pub(crate) fn decode(part: &str, plus: bool) -> String {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = hex.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[index], byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                index += 2;
            }
            (b'+', _) if plus => out.push(b' '),
            (other, _) => out.push(other),
        }
        index += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Takes a query apart; the last of equal names counts.
pub(crate) fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name, true), decode(value, true)))
        .collect()
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// What is noted of the traffic, and put in its way.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) log: Log,
    pub(crate) faults: Mutex<Vec<Armed>>,
    /// What every request waits before it is looked at.
    pub(crate) delay: Duration,
}

impl Traffic {
    /// Puts a fault in the way; of several that match a request, the oldest acts.
    pub(crate) fn inject(&self, fault: Fault) {
        lock(&self.faults).push(fault.into());
    }

    /// Takes all faults out of the way.
    pub(crate) fn clear_faults(&self) {
        lock(&self.faults).clear();
    }

    fn armed(&self, request: &Request) -> Option<Arc<Action>> {
        lock(&self.faults).iter_mut().find_map(|fault| fault.hit(request))
    }
}

/// Whom a request comes from, as the log has it.
#[derive(Default)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) token: String,
}

/// A server behind the wire.
pub(crate) trait Service: Send + Sync + 'static {
    /// What is noted of its traffic.
    fn traffic(&self) -> &Traffic;
    /// Puts the operation into the path, where the protocol has it elsewhere: log and faults go by paths.
    fn route(&self, _request: &mut Request) {}
    /// Who asks.
    fn caller(&self, request: &Request) -> Caller;
    /// Does what is asked.
    fn answer(&self, request: &Request) -> Answer;
    /// A refusal in the server's own form.
    fn refusal(&self, code: u16, reason: &str, message: &str) -> Answer;
    /// The id of the answer to the request of this number.
    fn request_id(&self, _sequence: usize) -> String {
        String::new()
    }
    /// Adds what every answer has, also those of faults.
    fn dress(&self, _request: &Request, _sequence: usize, _answer: &mut Answer) {}
}

/// A server at work; dropped, it stops.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Serves in a thread of its own; without TLS if there is none.
    pub(crate) fn start<S: Service>(
        service: &Arc<S>,
        tls: Option<Arc<rustls::ServerConfig>>,
        (listener, address): (std::net::TcpListener, SocketAddr),
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let service = Arc::clone(service);
        let thread = std::thread::spawn(move || run(&service, tls, listener, stopped));
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // A hook may hold the last handle: its own thread cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn run<S: Service>(
    service: &Arc<S>,
    tls: Option<Arc<rustls::ServerConfig>>,
    listener: std::net::TcpListener,
    stop: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for one thread can be made");
    let acceptor = tls.map(TlsAcceptor::from);
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("the socket listens already");
        let serve = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let (acceptor, service) = (acceptor.clone(), Arc::clone(service));
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            connection(service, stream).await;
                        }
                        None => connection(service, stream).await,
                    }
                });
            }
        };
        tokio::select! {
            () = serve => {}
            _ = stop => {}
        }
    });
}

async fn connection<S: Service>(
    service: Arc<S>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let service = service_fn(|request| handle(Arc::clone(&service), request));
    // A client that goes away is no concern of ours.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn read(incoming: hyper::Request<Incoming>) -> Result<Request, hyper::Error> {
    let (head, body) = incoming.into_parts();
    Ok(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        raw_query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.collect().await?.to_bytes().to_vec(),
    })
}

async fn handle<S: Service>(
    service: Arc<S>,
    incoming: hyper::Request<Incoming>,
) -> Result<hyper::Response<Payload>, io::Error> {
    let started = Instant::now();
    let mut request = read(incoming).await.map_err(io::Error::other)?;
    service.route(&mut request);
    let traffic = service.traffic();
    let caller = service.caller(&request);
    let sequence = traffic.log.start(|sequence| Logged {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.raw_query.clone(),
        user: caller.user,
        acts_as: request.acts_as(),
        token: caller.token,
        request_id: service.request_id(sequence),
        status: 0,
        sequence,
        started,
        finished: None,
    });
    let action = traffic.armed(&request);
    if !traffic.delay.is_zero() {
        tokio::time::sleep(traffic.delay).await;
    }
    let outcome = match action.as_deref() {
        None => Some((service.answer(&request), None)),
        Some(action) => act(&*service, &request, action).await,
    };
    traffic.log.end(sequence, outcome.as_ref().map_or(0, |(answer, _)| answer.code));
    // An error here closes the connection without a word.
    let (mut answer, odd) = outcome.ok_or_else(|| io::Error::other("closed as the test wants"))?;
    service.dress(&request, sequence, &mut answer);
    let mut response = hyper::Response::builder().status(answer.code);
    if !answer.content_type.is_empty() {
        response = response.header("content-type", answer.content_type);
    }
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = odd.unwrap_or_else(|| Payload::Whole(Bytes::from(answer.body)));
    response.body(body).map_err(io::Error::other)
}

/// What comes of a request that a fault hits: nothing, or an answer, perhaps with an odd body.
async fn act<S: Service>(
    service: &S,
    request: &Request,
    action: &Action,
) -> Option<(Answer, Option<Payload>)> {
    let plain = |answer| Some((answer, None));
    let mut action = action;
    while let Action::Applied(next) = action {
        service.answer(request);
        action = next;
    }
    match action {
        Action::Status(code, reason, message) => plain(service.refusal(*code, reason, message)),
        Action::Headers(code, headers, body, content_type) => plain(Answer {
            code: *code,
            content_type: content_type.clone(),
            headers: headers.clone(),
            body: body.as_bytes().to_vec(),
        }),
        Action::Hang => std::future::pending().await,
        Action::ResetBefore | Action::Applied(_) => None,
        Action::ResetAfter => {
            service.answer(request);
            None
        }
        Action::KillBefore(hook) => {
            hook();
            None
        }
        Action::KillAfter(hook) => {
            service.answer(request);
            hook();
            None
        }
        Action::Before(hook) => {
            hook();
            plain(service.answer(request))
        }
        Action::Late(pause) => {
            let answer = service.answer(request);
            tokio::time::sleep(*pause).await;
            plain(answer)
        }
        Action::Edit(hook) => {
            let mut answer = service.answer(request);
            if let Ok(mut value) = serde_json::from_slice(&answer.body) {
                hook(&mut value);
                answer.body = value.to_string().into_bytes();
            }
            plain(answer)
        }
        Action::NextPage => {
            let mut answer = service.answer(request);
            let page = parse_query(&request.raw_query).get("page").and_then(|page| page.parse().ok());
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("x-next-page"));
            answer.headers.push(("x-next-page".to_owned(), (page.unwrap_or(1_u64) + 1).to_string()));
            plain(answer)
        }
        Action::ContentType(content_type) => {
            plain(Answer { content_type: content_type.clone(), ..service.answer(request) })
        }
        Action::Elsewhere(code, base) => {
            let mut to = format!("{}{}", base.trim_end_matches('/'), request.path);
            if !request.raw_query.is_empty() {
                to = format!("{to}?{}", request.raw_query);
            }
            let headers = vec![("location".to_owned(), to)];
            let body = b"<html><head><title>Moved</title></head></html>\r\n".to_vec();
            plain(Answer { code: *code, content_type: "text/html".to_owned(), headers, body })
        }
        Action::Flood(bytes) => Some((Answer::json(200, &Value::Null), Some(Payload::flood(*bytes, true)))),
        Action::EndlessFlood(bytes) => {
            Some((Answer::json(200, &Value::Null), Some(Payload::flood(*bytes, false))))
        }
        Action::Drip(text, pause) => {
            Some((Answer::json(200, &Value::Null), Some(Payload::drip(text, *pause))))
        }
    }
}
