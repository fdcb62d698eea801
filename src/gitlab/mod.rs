//! The client of GitLab's REST API.
//!
//! The token is sent to one host: a redirect is followed only for a moved project on the same origin, and only the
//! query of a page's `Link` header is used.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::base::answer::{self, Pages};
use crate::base::error::{Failure, Id, Result};
use crate::base::proxy::Variables;
use crate::base::request::{Deadline, Effect, Limits, Sender};
use crate::base::secret::Secret;
use crate::x509::tls::{self, Roots};

pub mod caller;
mod certificate;
pub mod credentials;
pub mod endpoint_ca;
pub mod facts;
mod known;
mod lack;
pub mod permissions;
pub mod pipeline;
mod proxy;
mod refusal;
pub mod runner;
mod types;
pub mod view;

use refusal::header;
pub use refusal::{Class, Refusal, when_writable};
pub use types::{Access, AccessToken, Job, Manager, Pipeline, Project, Runner, Scope, number};

/// Largest response read, in bytes.
const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// First and longest pause before a retry.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one GitLab instance as one user.
#[derive(Clone)]
pub struct Gitlab {
    client: reqwest::Client,
    base: Url,
    roots: Rc<Roots>,
    /// Seconds that GitLab's clock is ahead of this machine's.
    ahead: Rc<Cell<i64>>,
    sender: Sender,
}

/// A successful response, not yet parsed.
struct Answer {
    headers: HeaderMap,
    bytes: Vec<u8>,
    /// Whether it is longer than [`BODY_LIMIT`].
    cut: bool,
}

/// The part of a URL after `/api/v4/`: path segments and a query.
#[derive(Clone, Debug, Default)]
pub struct Route<'a> {
    segments: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
}

impl<'a> Route<'a> {
    /// A `/` in a segment is escaped.
    pub fn of(segments: &[&'a str]) -> Self {
        Self { segments: segments.to_vec(), query: Vec::new() }
    }

    pub fn with(mut self, key: &'a str, value: &'a str) -> Self {
        self.query.push((key, value));
        self
    }
}

impl Gitlab {
    /// Creates the client without sending a request. `token` is absent for calls with a registration token in the
    /// body. Fails with OR0202 for an invalid token, OR0101 if the TLS client cannot be created, and OR0350 for an
    /// invalid proxy variable.
    pub fn connect(
        url: &str,
        token: Option<&Secret>,
        roots: &Roots,
        limits: &Limits,
        request_timeout: Option<Duration>,
        proxies: &Variables,
    ) -> Result<Self> {
        let base = Url::parse(url)
            .map_err(|error| Failure::new(Id::InvalidInput, format!("invalid GitLab URL {url}: {error}")))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                Failure::new(
                    Id::InvalidInput,
                    "the GitLab token contains a character that HTTP headers do not allow",
                )
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let unusable = |why: String| {
            Failure::new(Id::Internal, "cannot create the TLS client for GitLab").detail("because", why)
        };
        let tls = tls::client_config(roots.clone()).map_err(|error| unusable(error.to_string()))?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .default_headers(headers)
            .user_agent(concat!("outrigger/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // The settings allow http only for loopback addresses.
            .https_only(base.scheme() == "https")
            .connect_timeout(CONNECT_TIMEOUT)
            // crate::base::proxy reads the variables.
            .no_proxy();
        let mut shown = base.as_str().trim_end_matches('/').to_owned();
        if let Some((proxy, for_reqwest)) = proxy::proxy(&base, proxies)? {
            builder = builder.proxy(for_reqwest);
            shown = format!("{shown} through {proxy}");
        }
        let client = builder.build().map_err(|error| unusable(answer::innermost(&error)))?;
        let mut sender = Sender::new(&shown, limits, tokio::sync::Semaphore::MAX_PERMITS, PAUSES);
        sender.request_timeout = request_timeout.unwrap_or(REQUEST_TIMEOUT);
        Ok(Self { client, base, roots: Rc::new(roots.clone()), ahead: Rc::default(), sender })
    }

    /// The same connection for cleanup, which runs for up to `grace` even after an interruption or the deadline.
    pub fn for_cleanup(&self, grace: Duration) -> Self {
        Self { sender: self.sender.for_cleanup(grace), ..self.clone() }
    }

    /// The same connection with another deadline.
    pub fn until(&self, deadline: Instant) -> Self {
        let mut sender = self.sender.clone();
        sender.deadline = Deadline::at(deadline);
        Self { sender, ..self.clone() }
    }

    /// Number of mutating requests sent.
    pub fn mutations(&self) -> usize {
        self.sender.mutations()
    }

    /// The time by GitLab's clock, for comparison with times that GitLab returns.
    pub fn now(&self) -> jiff::Timestamp {
        let ours = jiff::Timestamp::now();
        jiff::Timestamp::from_second(ours.as_second() + self.ahead.get()).unwrap_or(ours)
    }

    /// The URL without a trailing slash.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub async fn get(&self, what: &str, route: &Route<'_>) -> Result<Value, Refusal> {
        let answer = self.send(what, Method::GET, route, None, Effect::Reads).await?;
        refusal::json(what, &answer.headers, &answer.bytes, answer.cut)
    }

    /// `None` for 404.
    pub async fn get_opt(&self, what: &str, route: &Route<'_>) -> Result<Option<Value>, Refusal> {
        none_if_missing(self.get(what, route).await)
    }

    /// Reads plain text, such as a job's log, at most its first 8 MiB; `None` for 404.
    pub async fn text(&self, what: &str, route: &Route<'_>) -> Result<Option<String>, Refusal> {
        let answer = none_if_missing(self.send(what, Method::GET, route, None, Effect::Reads).await)?;
        Ok(answer.map(|answer| String::from_utf8_lossy(&answer.bytes).into_owned()))
    }

    /// Reads all pages of a list; fails with class `Malformed` for a list beyond the limits of [`Pages`].
    pub async fn list(&self, what: &str, route: &Route<'_>) -> Result<Vec<Value>, Refusal> {
        let mut items = Pages::default();
        let mut next: Option<Vec<(String, String)>> = None;
        loop {
            let mut page = route.clone().with("per_page", "100");
            for (key, value) in next.iter().flatten() {
                page.query.retain(|(known, _)| known != key);
                page.query.push((key, value));
            }
            let answer = self.send(what, Method::GET, &page, None, Effect::Reads).await?;
            match refusal::json(what, &answer.headers, &answer.bytes, answer.cut)? {
                Value::Array(entries) => {
                    items.add(entries).map_err(|why| Refusal::endless(what, &why))?;
                }
                _ => return Err(Refusal::malformed(what, "the response is not a list")),
            }
            match next_page(&answer.headers) {
                // A faulty server may return the same page again.
                Some(query) if Some(&query) != next.as_ref() => next = Some(query),
                _ => return Ok(items.into_items()),
            }
        }
    }

    /// Creates an object. Retried only if the server did not process the request.
    pub async fn post(&self, what: &str, route: &Route<'_>, body: &Value) -> Result<Value, Refusal> {
        self.ask(what, Method::POST, route, body, Effect::Makes).await
    }

    /// A POST that stores nothing.
    pub async fn check(&self, what: &str, route: &Route<'_>, body: &Value) -> Result<Value, Refusal> {
        self.ask(what, Method::POST, route, body, Effect::Reads).await
    }

    /// A POST that stores nothing, sent once.
    pub async fn probe(&self, what: &str, route: &Route<'_>, body: &Value) -> Result<Value, Refusal> {
        self.ask(what, Method::POST, route, body, Effect::Probes).await
    }

    /// An idempotent update.
    pub async fn put(&self, what: &str, route: &Route<'_>, body: &Value) -> Result<Value, Refusal> {
        self.ask(what, Method::PUT, route, body, Effect::Sets).await
    }

    /// Deletes an object; 404 counts as success.
    pub async fn delete(&self, what: &str, route: &Route<'_>) -> Result<(), Refusal> {
        none_if_missing(self.send(what, Method::DELETE, route, None, Effect::Sets).await).map(drop)
    }

    async fn ask(
        &self,
        what: &str,
        method: Method,
        route: &Route<'_>,
        body: &Value,
        effect: Effect,
    ) -> Result<Value, Refusal> {
        let answer = self.send(what, method, route, Some(body), effect).await?;
        if answer.bytes.is_empty() {
            return Ok(Value::Null);
        }
        refusal::json(what, &answer.headers, &answer.bytes, answer.cut)
    }

    fn address(&self, route: &Route<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v4"]).extend(&route.segments);
        }
        if !route.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&route.query);
        }
        url
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        route: &Route<'_>,
        body: Option<&Value>,
        effect: Effect,
    ) -> Result<Answer, Refusal> {
        let mut url = self.address(route);
        let mut moved = false;
        let attempt = async || loop {
            let refusal = match self.once(what, &method, &url, body).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            // GitLab redirects a renamed project's old path to its numeric address.
            match refusal.moved_to(&url).filter(|_| method == Method::GET && !moved) {
                Some(target) => (url, moved) = (target, true),
                None => return Err(refusal.asked(method.as_str(), &route.segments, &self.base)),
            }
        };
        self.sender.send(what, effect, attempt).await
    }

    async fn once(
        &self,
        what: &str,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
    ) -> Result<Answer, Refusal> {
        let mut request =
            self.client.request(method.clone(), url.clone()).header("accept", "application/json");
        if *method != Method::GET {
            // Also without a body: a read-only instance responds to a write that is not JSON with a redirect.
            request = request.header("content-type", "application/json");
        }
        let sent = body.map(ToString::to_string).unwrap_or_default();
        if body.is_some() {
            request = request.body(sent.clone());
        }
        let started = Instant::now();
        let traced = |response| {
            self.sender.trace((method.as_str(), url.path()), started, sent.as_bytes(), response);
        };
        let mut response = request.send().await.map_err(|error| {
            traced(None);
            self.broken(what, &error)
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        if let Some(theirs) = refusal::date(&headers, "date") {
            self.ahead.set(theirs - jiff::Timestamp::now().as_second());
        }
        let mut bytes = Vec::new();
        let mut cut = false;
        let failed = |error: &reqwest::Error| {
            traced(Some((status.as_u16(), &[])));
            self.broken(what, error)
        };
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            let room = BODY_LIMIT - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                cut = true;
                break;
            }
        }
        traced(Some((status.as_u16(), &bytes)));
        if status.is_success() {
            Ok(Answer { headers, bytes, cut })
        } else {
            Err(Refusal::status(what, status.as_u16(), &headers, &bytes, url))
        }
    }

    fn broken(&self, what: &str, error: &reqwest::Error) -> Refusal {
        match tls::untrusted(error) {
            Some(untrusted) => certificate::refusal(what, self.url(), &self.roots, untrusted),
            None => Refusal::transport(what, error),
        }
    }
}

fn none_if_missing<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.class == Class::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// The query of a list's next page, from its number or the `Link` header. Host and path in that header are ignored:
/// the server may use another name for itself.
fn next_page(headers: &HeaderMap) -> Option<Vec<(String, String)>> {
    if let Some(page) = header(headers, "x-next-page") {
        return (!page.is_empty()).then(|| vec![("page".to_owned(), page.to_owned())]);
    }
    let next = header(headers, "link")?.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = next.split_once('<')?.1.split_once('>')?.0;
    let url = Url::parse(address).ok()?;
    Some(url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
}

#[cfg(test)]
mod tests;
