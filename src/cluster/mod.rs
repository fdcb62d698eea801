//! The only user of kube: requests with deadlines, a retry policy, and one translation of errors.
//!
//! kube's client sends the requests (TLS, proxies, impersonation). This module builds them and reads the responses,
//! because the client's own retries repeat creations and ignore the total deadline, and its errors can contain a
//! plugin's output.

#![expect(clippy::disallowed_types, reason = "this is the module that the ban protects")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use crate::base::answer::{self, NotRead, Pages};
use crate::base::error::{Failure, Id, Result};
use crate::base::request::{Effect, Limits, Sender};
use crate::deployment::object::{Object, Ref, percent_encoded};
use crate::x509::tls;

mod admission;
pub mod authorized_networks;
mod certificate;
mod connect;
pub mod deletion;
pub mod dry_run;
pub mod endpoint_ca;
pub mod generated;
pub mod identity;
pub mod job_pod;
pub mod job_pods;
mod kubeconfig;
mod login;
pub mod namespace;
mod plugin;
mod refusal;
pub mod remains;
pub mod rights;
pub mod role;
mod target;
pub mod temporary_binding;
pub mod token;
mod user;
pub mod view;

pub use crate::base::endpoint::Endpoint;
pub use admission::Gate;
pub use certificate::only_the_runner;
use connect::build;
pub use kubeconfig::{NONE_FOUND, Selection, contexts};
use login::Login;
pub use refusal::{Class, Refusal};
pub use target::{Target, load};

/// Largest response read, in bytes.
const BODY_LIMIT: usize = 32 * 1024 * 1024;
/// Concurrent requests. The client speaks HTTP/1.1, so each lane is a connection.
pub const LANES: usize = 4;
/// First and longest pause before a retry.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Field manager of all writes.
pub const FIELD_MANAGER: &str = "outrigger";

/// A connection to one API server as one identity.
#[derive(Clone)]
pub struct Cluster {
    /// `None` for [`Cluster::absent`].
    client: Option<Rc<RefCell<kube::Client>>>,
    /// Renews the credentials of an exec plugin.
    login: Option<Rc<Login>>,
    sender: Sender,
}

impl Cluster {
    /// Connects with the credentials of the kubeconfig context; runs its exec plugin, if any.
    pub async fn connect(target: &Target, limits: &Limits) -> Result<Self> {
        let (client, login) = match &target.plugin {
            None => (build(target.config.clone()), None),
            Some(plugin) => {
                let (config, login) = Login::first(plugin, &target.config, limits).await?;
                (build(config), Some(Rc::new(login)))
            }
        };
        let client = client.map_err(|error| refusal::connecting(&error, target))?;
        Ok(Self { login, ..Self::over(Some(client), &target.address(), limits) })
    }

    /// For a run without a cluster: every request fails without being sent.
    pub fn absent(target: &Target, limits: &Limits) -> Self {
        Self::over(None, &target.address(), limits)
    }

    /// Connects with only the runner's own host, CA and token.
    pub fn as_runner(
        endpoint: &Endpoint,
        ca_pem: Option<&str>,
        token: &str,
        limits: &Limits,
    ) -> Result<Self> {
        let client = build(target::bare(endpoint, ca_pem, token)?).map_err(|error| {
            Failure::new(Id::Internal, "cannot build a client from host, CA and token")
                .detail("because", answer::innermost(&error))
        })?;
        Ok(Self::over(Some(client), &endpoint.url, limits))
    }

    /// Connects through the kubeconfig's endpoint and proxy, but with another token.
    pub fn with_token(target: &Target, token: &str, limits: &Limits) -> Result<Self> {
        let mut config = target.config.clone();
        config.auth_info = user::bearer(token)?;
        let client = build(config).map_err(|error| refusal::connecting(&error, target))?;
        Ok(Self::over(Some(client), &target.address(), limits))
    }

    fn over(client: Option<kube::Client>, address: &str, limits: &Limits) -> Self {
        let client = client.map(|client| Rc::new(RefCell::new(client)));
        Self { client, login: None, sender: Sender::new(address, limits, LANES, PAUSES) }
    }

    /// The same connection for cleanup: ignores an interruption, and may exceed the deadline by `grace`.
    pub fn for_cleanup(&self, grace: Duration) -> Self {
        Self { sender: self.sender.for_cleanup(grace), ..self.clone() }
    }

    /// The same connection for requests that may never succeed, such as those to an aggregated API: three
    /// attempts each, at most a quarter of the remaining time per attempt.
    pub fn impatient(&self) -> Self {
        let mut sender = self.sender.clone();
        let remaining = sender.deadline.remaining();
        sender.request_timeout = sender.request_timeout.min(Duration::from_secs(10)).min(remaining / 4);
        sender.attempts = 3;
        Self { sender, ..self.clone() }
    }

    /// Number of mutating requests sent.
    pub fn mutations(&self) -> usize {
        self.sender.mutations()
    }

    /// Reads an object; `None` if it does not exist.
    pub async fn get(&self, reference: &Ref) -> Result<Option<Object>, Refusal> {
        let what = format!("get {reference}");
        match self.send(&what, "GET", &reference.path(), None, Effect::Reads).await {
            Ok(value) => Ok(Some(Object { reference: reference.clone(), value })),
            Err(refusal) if refusal.class == Class::NotFound => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Creates an object; class `AlreadyExists` if the name is taken.
    pub async fn create(&self, object: &Object) -> Result<Object, Refusal> {
        let path =
            format!("{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict", object.reference.collection());
        self.write("create", "POST", &path, &object.reference, &object.value, Effect::Makes).await
    }

    /// Dry run of a creation, admission included.
    pub async fn dry_run(&self, object: &Object) -> Result<(), Refusal> {
        let path = format!("{}?dryRun=All&fieldManager={FIELD_MANAGER}", object.reference.collection());
        self.write("create", "POST", &path, &object.reference, &object.value, Effect::Reads).await.map(drop)
    }

    /// Forced server-side apply. The manifest contains uid and resourceVersion of the live object, so that the server
    /// refuses if it was replaced or changed since it was read.
    pub async fn apply(&self, object: &Object) -> Result<Object, Refusal> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}&force=true", object.reference.path());
        self.write("update", "APPLY", &path, &object.reference, &object.value, Effect::Sets).await
    }

    /// Merge patch, for a field of an object that outrigger did not create.
    pub async fn merge(&self, reference: &Ref, patch: &Value) -> Result<Object, Refusal> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", reference.path());
        self.write("patch", "MERGE", &path, reference, patch, Effect::Sets).await
    }

    async fn write(
        &self,
        word: &str,
        verb: &str,
        path: &str,
        reference: &Ref,
        body: &Value,
        effect: Effect,
    ) -> Result<Object, Refusal> {
        let value = self.send(&format!("{word} {reference}"), verb, path, Some(body), effect).await?;
        Ok(Object { reference: reference.clone(), value })
    }

    /// Deletes the object with this uid; succeeds if it does not exist.
    pub async fn delete(&self, reference: &Ref, uid: &str) -> Result<(), Refusal> {
        self.delete_path(&format!("delete {reference}"), &reference.path(), uid).await
    }

    /// [`Self::delete`] by path, for job pods.
    pub async fn delete_path(&self, what: &str, path: &str, uid: &str) -> Result<(), Refusal> {
        let body = json!({
            "kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": {"uid": uid}, "propagationPolicy": "Background",
        });
        match self.send(what, "DELETE", path, Some(&body), Effect::Sets).await {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.class == Class::NotFound => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Reads any path: version, discovery, lists.
    pub async fn read(&self, what: &str, path: &str) -> Result<Value, Refusal> {
        self.send(what, "GET", path, None, Effect::Reads).await
    }

    /// Lists metadata only, so that no Secret's content is transferred; without `managedFields`. Fails with class
    /// `Malformed` if the list exceeds the limits of [`Pages`].
    pub async fn list_metadata(&self, what: &str, path: &str) -> Result<Vec<Value>, Refusal> {
        let mut items = Pages::default();
        let mut next = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = format!("{path}{separator}limit=500{next}");
            let mut value = self.send(what, "LIST", &page, None, Effect::Reads).await?;
            if let Some(Value::Array(mut page)) = value.get_mut("items").map(Value::take) {
                for metadata in page.iter_mut().filter_map(|item| item.get_mut("metadata")) {
                    metadata.as_object_mut().map(|metadata| metadata.remove("managedFields"));
                }
                items.add(page).map_err(|why| Refusal::endless(what, &why))?;
            }
            match value["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => {
                    next = format!("&continue={}", percent_encoded(token));
                }
                _ => return Ok(items.into_items()),
            }
        }
    }

    /// Sends a review (of access, rules or identity), which stores nothing; returns its status.
    pub async fn review(&self, what: &str, group: &str, kind: &str, spec: Value) -> Result<Value, Refusal> {
        let mut body = json!({"apiVersion": format!("{group}/v1"), "kind": kind});
        if !spec.is_null() {
            body["spec"] = spec;
        }
        let path = format!("/apis/{group}/v1/{}s", kind.to_lowercase());
        let mut answer = self.send(what, "POST", &path, Some(&body), Effect::Reads).await?;
        // Indexing panics if the response is not an object.
        Ok(answer.get_mut("status").map(Value::take).unwrap_or_default())
    }

    /// Sends a TokenRequest. Not retried: each response is a valid credential.
    pub async fn request_token(&self, account: &Ref, body: &Value) -> Result<Value, Refusal> {
        let path = format!("{}/token", account.path());
        self.send(&format!("request a token for {account}"), "POST", &path, Some(body), Effect::Makes).await
    }

    async fn send(
        &self,
        what: &str,
        verb: &str,
        path: &str,
        body: Option<&Value>,
        effect: Effect,
    ) -> Result<Value, Refusal> {
        self.sender.send(what, effect, async || self.once(what, verb, path, body).await).await
    }

    async fn once(&self, what: &str, verb: &str, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        let (method, content_type, accept) = match verb {
            "APPLY" => ("PATCH", "application/apply-patch+yaml", "application/json"),
            "MERGE" => ("PATCH", "application/merge-patch+json", "application/json"),
            "LIST" => (
                "GET",
                "",
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            ),
            other => (other, "application/json", "application/json"),
        };
        let sent = body.map(|value| value.to_string().into_bytes()).unwrap_or_default();
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("user-agent", concat!("outrigger/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            request = request.header("content-type", content_type);
        }
        let request = request.body(kube::client::Body::from(sent.clone())).map_err(|error| {
            Refusal::of(Class::Malformed, 0, what, format!("cannot build the request: {error}"))
        })?;
        let Some(client) = &self.client else {
            return Err(Refusal::of(Class::Absent, 0, what, "this run has no cluster"));
        };
        if let Some(login) = &self.login {
            login.renew(what, client).await?;
        }
        let client = client.borrow().clone();
        let started = Instant::now();
        let traced = |response| {
            let place = (method, path.split('?').next().unwrap_or(path));
            self.sender.trace(place, started, &sent, response);
        };
        let response = client.send(request).await.map_err(|error| {
            traced(None);
            match tls::untrusted(&error) {
                Some(untrusted) => certificate::refusal(what, &self.sender.address, untrusted),
                None => Refusal::transport(what, &error),
            }
        })?;
        let (parts, body) = response.into_parts();
        let code = parts.status.as_u16();
        let bytes = match Limited::new(body, BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                traced(Some((code, &[])));
                return Err(Refusal::body(what, error.as_ref()));
            }
        };
        traced(Some((code, &bytes)));
        let header = |name: &str| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        if parts.status.is_success() {
            answer::json(&bytes).map_err(|error| match error {
                NotRead::TooMuch => Refusal::endless(what, "the response has too many values"),
                NotRead::NotJson(_) => Refusal::not_json(what, code, &header("content-type"), &bytes),
            })
        } else {
            Err(Refusal::status(what, code, &header("content-type"), &header("retry-after"), &bytes))
        }
    }
}
