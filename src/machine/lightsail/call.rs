//! One signed request to one service of AWS, by the request core that the cluster and GitLab use too.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::credentials::Credentials;
use super::endpoint;
use super::keys::Keys;
use super::refusal::{Class, Refusal, Told};
use super::sts;
use crate::base::answer::{self, NotRead};
use crate::base::error::{Failure, Id, Result};
use crate::base::proxy::Variables;
use crate::base::request::{Effect, Limits, Sender};
use crate::x509::tls::{self, Roots};

/// Largest response read, in bytes.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// First and longest pause before a retry.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const JSON: &str = "application/x-amz-json-1.1";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// The prefix of the target of each operation, from the service model.
const TARGET: &str = "Lightsail_20161128";
/// The operation whose response is a login.
const LOGIN: &str = "GetInstanceAccessDetails";

/// One service in one region.
#[derive(Clone)]
pub(super) struct Service {
    pub sender: Sender,
    client: reqwest::Client,
    /// `lightsail` or `sts`, as in signatures and IAM's actions.
    name: &'static str,
    url: Url,
    region: Rc<str>,
    roots: Rc<Roots>,
    credentials: Rc<Credentials>,
}

/// A request that is not signed yet.
pub(super) struct Unsigned<'a> {
    pub service: &'a str,
    pub region: &'a str,
    pub url: &'a Url,
    /// All of them are signed.
    pub headers: &'a [(&'static str, String)],
    pub body: &'a [u8],
}

/// What an attempt asks for.
struct Asked<'a> {
    what: &'a str,
    operation: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A client for one URL. `shown` is its address for messages. Fails with OR0350 for an invalid proxy variable.
pub(super) fn client(url: &Url, roots: &Roots, proxies: &Variables) -> Result<(reqwest::Client, String)> {
    let unusable = |why: String| {
        Failure::new(Id::Internal, "cannot create the TLS client for AWS").detail("because", why)
    };
    let tls = tls::client_config(roots.clone()).map_err(|error| unusable(error.to_string()))?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("outrigger/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .https_only(url.scheme() == "https")
        .connect_timeout(CONNECT_TIMEOUT)
        // crate::base::proxy reads the variables.
        .no_proxy();
    let mut shown = url.as_str().trim_end_matches('/').to_owned();
    if let Some((proxy, for_reqwest)) = endpoint::proxy(url, proxies)? {
        builder = builder.proxy(for_reqwest);
        shown = format!("{shown} through {proxy}");
    }
    Ok((builder.build().map_err(|error| unusable(answer::innermost(&error)))?, shown))
}

impl Service {
    pub fn new(
        name: &'static str,
        url: Url,
        region: &Rc<str>,
        roots: &Roots,
        env: &BTreeMap<String, String>,
        credentials: &Rc<Credentials>,
        limits: &Limits,
    ) -> Result<Self> {
        let (client, shown) = client(&url, roots, &Variables::of(env))?;
        let mut sender = Sender::new(&shown, limits, tokio::sync::Semaphore::MAX_PERMITS, PAUSES);
        sender.request_timeout = REQUEST_TIMEOUT;
        Ok(Self {
            sender,
            client,
            name,
            url,
            region: Rc::clone(region),
            roots: Rc::new(roots.clone()),
            credentials: Rc::clone(credentials),
        })
    }

    /// An operation of a JSON 1.1 service.
    pub async fn json(
        &self,
        what: &str,
        operation: &'static str,
        body: &Value,
        effect: Effect,
    ) -> Result<Value, Refusal> {
        let headers =
            vec![("content-type", JSON.to_owned()), ("x-amz-target", format!("{TARGET}.{operation}"))];
        let asked = Asked { what, operation, headers, body: body.to_string() };
        let bytes = self.send(&asked, effect).await?;
        answer::json(&bytes).map_err(|error| match error {
            NotRead::TooMuch => Refusal::endless(what, "the response contains too many values"),
            NotRead::NotJson(error) => {
                Refusal::malformed(what, &format!("the response is not valid JSON: {error}"))
            }
        })
    }

    /// A read of a query service, without parameters.
    pub async fn form(&self, what: &str, operation: &'static str, version: &str) -> Result<Vec<u8>, Refusal> {
        let headers = vec![("content-type", FORM.to_owned())];
        let body = format!("Action={operation}&Version={version}");
        self.send(&Asked { what, operation, headers, body }, Effect::Reads).await
    }

    async fn send(&self, asked: &Asked<'_>, effect: Effect) -> Result<Vec<u8>, Refusal> {
        let mut renewed = false;
        let attempt = async || loop {
            let keys = self.credentials.keys().await;
            let keys = keys.map_err(|failure| Refusal::decided(Class::Credentials, asked.what, failure))?;
            let refusal = match self.once(asked, &keys).await {
                Ok(bytes) => return Ok(bytes),
                Err(refusal) => refusal,
            };
            // Refused before it was carried out: once more with new credentials, if the source has any.
            if renewed || refusal.class != Class::Expired || !self.credentials.forget(&keys) {
                return Err(refusal.signed_by(self.credentials.shown(), self.credentials.renewal()));
            }
            renewed = true;
        };
        self.sender.send(asked.what, effect, attempt).await
    }

    async fn once(&self, asked: &Asked<'_>, keys: &Keys) -> Result<Vec<u8>, Refusal> {
        let what = asked.what;
        let body = asked.body.as_bytes();
        let unsigned = Unsigned {
            service: self.name,
            region: &self.region,
            url: &self.url,
            headers: &asked.headers,
            body,
        };
        let signed = self.credentials.sign(keys, &unsigned);
        let signed = signed.map_err(|failure| Refusal::decided(Class::Credentials, what, failure))?;
        let mut request = self.client.post(self.url.clone()).body(asked.body.clone());
        for (name, value) in &asked.headers {
            request = request.header(*name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let path = format!("{} {}", self.url.path(), asked.operation);
        let traced = |response: Option<(u16, &[u8])>| {
            let shown = response.map(|(status, bytes)| (status, traceable(asked.operation, keys, bytes)));
            let shown = shown.as_ref().map(|(status, bytes)| (*status, bytes.as_slice()));
            self.sender.trace(("POST", &path), started, body, shown);
        };
        let mut response = request.send().await.map_err(|error| {
            traced(None);
            self.broken(what, &error)
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        let failed = |error: &reqwest::Error| {
            traced(Some((status.as_u16(), &[])));
            // The request was sent.
            Refusal::transport(what, error).sent()
        };
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            if bytes.len() + chunk.len() > BODY_LIMIT {
                traced(Some((status.as_u16(), &[])));
                return Err(Refusal::endless(what, "the response is larger than 4 MiB"));
            }
            bytes.extend_from_slice(&chunk);
        }
        traced(Some((status.as_u16(), &bytes)));
        if status.is_success() {
            return Ok(bytes);
        }
        let told = told(&headers, &bytes).map(|told| Told { message: clean(keys, &told.message), ..told });
        let refusal = Refusal::status(what, status.as_u16(), told, &clean(keys, &answer::beginning(&bytes)));
        let id = ["x-amzn-requestid", "x-amz-request-id"].into_iter().find_map(|name| header(&headers, name));
        Err(refusal
            .asked(self.name, asked.operation, id.unwrap_or_default())
            .at(Timestamp::now(), date(&headers)))
    }

    fn broken(&self, what: &str, error: &reqwest::Error) -> Refusal {
        let Some(untrusted) = tls::untrusted(error) else { return Refusal::transport(what, error) };
        let mut failure = Failure::new(
            Id::AwsCertificate,
            format!(
                "cannot {what}: the certificate of {} is not accepted",
                self.url.as_str().trim_end_matches('/')
            ),
        )
        .detail("because", untrusted.to_string());
        if let Some(file) = &self.roots.file {
            failure = failure.detail("trusted", format!("the CAs of {} (AWS_CA_BUNDLE)", file.display()));
        }
        let failure = failure
            .hint("if a proxy signs with a CA of its own, name that CA's file in AWS_CA_BUNDLE; check this machine's clock too");
        Refusal::decided(Class::Certificate, what, failure)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(header(headers, "date")?).ok()?.timestamp())
}

/// The error in a response. A type may have a namespace before `#` and a URL after `:`; botocore cuts both.
fn told(headers: &HeaderMap, bytes: &[u8]) -> Option<Told> {
    let kind = |text: &str| {
        let text = text.split(':').next().unwrap_or_default();
        text.rsplit('#').next().unwrap_or_default().chars().take(100).collect::<String>()
    };
    let Ok(body) = answer::json(bytes) else { return sts::told(bytes) };
    let named = body["__type"].as_str().or_else(|| body["code"].as_str());
    let named =
        named.or_else(|| header(headers, "x-amzn-errortype")).map(kind).filter(|kind| !kind.is_empty())?;
    let said = body["message"].as_str().or_else(|| body["Message"].as_str()).unwrap_or_default();
    Some(Told { kind: named, message: said.to_owned() })
}

/// AWS's message without what it quotes of the request: the canonical string has the session token, and a malformed
/// Authorization header is repeated.
fn clean(keys: &Keys, message: &str) -> String {
    let end = ["The Canonical String", "Authorization=", "AWS4-HMAC-SHA256"];
    let end = end.into_iter().filter_map(|words| message.find(words)).min().unwrap_or(message.len());
    keys.mask(message[..end].trim_end())
}

/// A response for `-vv` and the log: without keys.
fn traceable(operation: &str, keys: &Keys, bytes: &[u8]) -> Vec<u8> {
    if operation == LOGIN && !bytes.is_empty() {
        let Ok(mut value) = answer::json(bytes) else { return b"\"[masked]\"".to_vec() };
        if let Some(details) = value.get_mut("accessDetails").and_then(Value::as_object_mut) {
            for (name, member) in details {
                if !matches!(
                    name.as_str(),
                    "instanceName" | "ipAddress" | "username" | "protocol" | "expiresAt" | "hostKeys"
                ) {
                    *member = "[masked]".into();
                }
            }
        }
        return keys.mask(&value.to_string()).into_bytes();
    }
    match answer::json(bytes) {
        Ok(mut value) => {
            for name in ["message", "Message"] {
                if let Some(Value::String(text)) = value.get_mut(name) {
                    *text = clean(keys, text);
                }
            }
            keys.mask(&value.to_string()).into_bytes()
        }
        Err(_) => keys.mask(&String::from_utf8_lossy(bytes)).into_bytes(),
    }
}
