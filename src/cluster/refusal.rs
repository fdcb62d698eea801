//! Failed requests to the API server, and their translation into a [`Failure`].

use std::time::Duration;

use serde_json::Value;

use super::admission::Gate;
use super::target::Target;
use super::user::unusable;
use crate::base::answer;
use crate::base::error::{Command, Failure, Id};
use crate::base::request::{self, Refused};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 401.
    Unauthorized,
    /// 403: missing permission or privilege escalation.
    Forbidden,
    /// Admission (policy, quota, webhook), with any status; see [`Refusal::gate`].
    Admission,
    /// 404.
    NotFound,
    /// 409: the name is taken.
    AlreadyExists,
    /// 409: the object changed since it was read, or a precondition failed.
    Conflict,
    /// 422 or 400.
    Invalid,
    /// 429.
    Throttled,
    /// 5xx.
    Server,
    Timeout,
    /// No connection, or it was lost.
    Unreachable,
    /// The certificate was not accepted.
    Certificate,
    /// The response is not that of an API server.
    Malformed,
    /// The run has no cluster.
    Absent,
    /// A signal arrived before the request was sent.
    Interrupted,
    /// The login failed.
    Credentials,
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub class: Class,
    /// HTTP status, 0 without a response.
    pub code: u16,
    /// The server's message or, without one, outrigger's own.
    pub message: String,
    /// Whether the message is the server's.
    is_quoted: bool,
    /// Whether `retry_after` is longer than the run may take.
    asks_too_much: bool,
    /// The request: verb and object.
    pub what: String,
    /// The response's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The part of admission that refused, with [`Class::Admission`].
    pub gate: Option<Gate>,
    /// The complete failure, if it does not follow from the class.
    ending: Option<Failure>,
}

impl Refusal {
    pub(super) fn of(class: Class, code: u16, what: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            message: message.into(),
            is_quoted: false,
            asks_too_much: false,
            what: what.to_owned(),
            retry_after: None,
            gate: None,
            ending: None,
        }
    }

    pub(super) fn decided(class: Class, what: &str, why: &str, failure: Failure) -> Self {
        Self { ending: Some(failure), ..Self::of(class, 0, what, why) }
    }

    /// Whether the run's deadline passed before the request was sent.
    pub fn is_over(&self) -> bool {
        self.class == Class::Timeout && self.message.starts_with(request::OVER)
    }

    /// For a response that exceeds a limit.
    pub(super) fn endless(what: &str, why: &str) -> Self {
        Self { code: 200, ..Self::decided(Class::Malformed, what, why, answer::endless(what, why)) }
    }

    /// Whether the response exceeded a limit.
    pub fn is_endless(&self) -> bool {
        self.class == Class::Malformed && self.ending.is_some()
    }

    pub(super) fn body(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        if error.is::<http_body_util::LengthLimitError>() {
            return Self::endless(what, "the response is larger than 32 MiB");
        }
        let why = format!("the connection was lost while reading the response: {error}");
        Self::of(Class::Unreachable, 0, what, why)
    }

    /// A request that the library could not send, or got no answer to.
    pub(super) fn transport(what: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let refusal = Self::of(Class::Server, status.code, what, status.message.clone());
                Self { is_quoted: true, ..refusal }
            }
            other => {
                let chain = std::iter::successors(Some(other as &dyn std::error::Error), |one| one.source());
                let certificate = chain
                    .clone()
                    .any(|one| one.is::<rustls::Error>() || one.to_string().contains("certificate"));
                let class = if certificate { Class::Certificate } else { Class::Unreachable };
                Self::of(class, 0, what, chain.last().map(ToString::to_string).unwrap_or_default())
            }
        }
    }

    pub(super) fn not_json(what: &str, code: u16, content_type: &str, bytes: &[u8]) -> Self {
        // Truncated JSON is not shown: it may contain a token.
        let message = if content_type.contains("json") {
            format!("invalid JSON in the response (status {code})")
        } else {
            foreign_answer(code, content_type, bytes)
        };
        Self::of(Class::Malformed, code, what, message)
    }

    pub(super) fn status(what: &str, code: u16, content_type: &str, retry_after: &str, bytes: &[u8]) -> Self {
        let parsed: Option<Value> = answer::json(bytes).ok();
        let status = parsed.as_ref().filter(|value| value["kind"] == "Status");
        let is_quoted = status.is_some();
        let message = match status {
            Some(status) => status["message"].as_str().unwrap_or_default().to_owned(),
            None => foreign_answer(code, content_type, bytes),
        };
        let reason = status.and_then(|status| status["reason"].as_str()).unwrap_or_default();
        let gate = status.and_then(|_| Gate::of(code, &message));
        let class = match (code, reason) {
            _ if gate.is_some() => Class::Admission,
            // An admission plugin responds with this 403 while the server starts.
            (403, _) if message.ends_with("not yet ready to handle request") => Class::Server,
            (401, _) => Class::Unauthorized,
            (403, _) => Class::Forbidden,
            (404, _) => Class::NotFound,
            (409, "AlreadyExists") => Class::AlreadyExists,
            (409, _) => Class::Conflict,
            (429, _) => Class::Throttled,
            (400..=499, _) if status.is_some() => Class::Invalid,
            (500..=599, _) => Class::Server,
            _ => Class::Malformed,
        };
        let retry_after = retry_after.trim().parse().ok().map(Duration::from_secs);
        Self { is_quoted, retry_after, gate, ..Self::of(class, code, what, message) }
    }

    /// Adds the message with its speaker: only what the server said is the server's.
    pub fn tell(&self, failure: Failure) -> Failure {
        let label = if self.is_quoted { "the server says" } else { "because" };
        let failure = failure.detail(label, self.message.clone());
        if self.asks_too_much { failure.detail("and", request::too_long(self.retry_after)) } else { failure }
    }

    /// Whether the server refused to grant more than the caller holds.
    pub fn is_escalation(&self) -> bool {
        self.class == Class::Forbidden
            && self.message.contains("attempting to grant RBAC permissions not currently held")
    }

    /// Whether the request may have been carried out.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Unreachable | Class::Malformed | Class::Server)
    }
}

impl Refused for Refusal {
    fn interrupted(what: &str, failure: Failure) -> Self {
        Self::decided(Class::Interrupted, what, "interrupted", failure)
    }

    fn timeout(what: &str, why: &str) -> Self {
        Self::of(Class::Timeout, 0, what, why)
    }

    fn has_no_response(&self) -> bool {
        self.code == 0
    }

    /// False for a webhook that does not respond: each attempt takes the webhook's full timeout.
    fn is_retryable(&self) -> bool {
        let later = matches!(self.class, Class::Throttled | Class::Timeout | Class::Unreachable);
        let starting = self.class == Class::Server && self.code == 403;
        later || starting || (self.class != Class::Admission && matches!(self.code, 500 | 502..=504))
    }

    fn is_ambiguous(&self) -> bool {
        Self::is_ambiguous(self)
    }

    fn was_not_processed(&self) -> bool {
        self.code == 429
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn message(&mut self) -> &mut String {
        &mut self.message
    }

    fn asks_too_much(&mut self) {
        self.asks_too_much = true;
    }
}

fn foreign_answer(code: u16, content_type: &str, bytes: &[u8]) -> String {
    let kind = if content_type.is_empty() { "untyped" } else { content_type };
    let start = answer::beginning(bytes);
    format!("unexpected {kind} response (status {code}), is this a Kubernetes API server? It begins: {start}")
}

/// Translates a failure to build the client.
pub(super) fn connecting(error: &kube::Error, target: &Target) -> Failure {
    unusable(&target.context, answer::innermost(error))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        if let Some(failure) = refusal.ending {
            return failure;
        }
        let what = &refusal.what;
        let cannot = |why: &str| format!("cannot {what}: {why}");
        let (id, message) = match refusal.class {
            Class::Unauthorized => (Id::UnknownCredentials, cannot("the cluster rejects these credentials")),
            Class::Credentials => (Id::CredentialPlugin, format!("cannot {what}")),
            Class::Forbidden if refusal.is_escalation() => {
                (Id::CannotGrant, format!("may not {what}: it grants more rights than you have"))
            }
            Class::Forbidden => (Id::MissingRights, format!("may not {what}")),
            Class::Admission => return refused_by_admission(&refusal),
            Class::AlreadyExists => (Id::ForeignObject, cannot("it already exists")),
            Class::Conflict => (Id::ForeignObject, cannot("conflicting change")),
            Class::Throttled => (Id::ClusterThrottled, cannot("too many requests")),
            Class::Timeout => (Id::WaitTimeout, cannot("timed out")),
            Class::Server => (Id::ClusterError, cannot("server error")),
            Class::Unreachable | Class::Absent => {
                (Id::ClusterUnreachable, cannot("no connection to the API server"))
            }
            Class::Certificate => {
                (Id::ClusterCertificate, cannot("the server's certificate is not accepted"))
            }
            Class::Malformed => (Id::NotKubernetes, format!("cannot {what}")),
            Class::Invalid | Class::NotFound | Class::Interrupted => {
                (Id::ClusterRefused, format!("cannot {what}"))
            }
        };
        let failure = refusal.tell(Failure::new(id, message));
        match refusal.class {
            Class::Unauthorized | Class::Credentials => {
                failure.hint("log in again, or use another context: --context NAME")
            }
            Class::Forbidden => {
                failure.hint("ask the cluster's administrator, or use another context: --context NAME")
            }
            Class::Conflict => failure.hint("run the same command again").passing(),
            Class::Timeout | Class::Throttled | Class::Server => {
                failure.hint("run the same command again; to wait longer: --timeout 15m")
            }
            Class::Unreachable => failure.hint((
                "check the server's address and the network; to compare",
                Command::kubectl("version"),
            )),
            _ => failure,
        }
    }
}

/// The failure for a refusal by admission; `crate::cluster::dry_run` adds the hints for the object.
fn refused_by_admission(refusal: &Refusal) -> Failure {
    let what = &refusal.what;
    let gate = refusal.gate.clone().unwrap_or(Gate::Unnamed);
    let (id, message) = match gate {
        Gate::Quota(_) | Gate::LimitRange => (Id::QuotaExceeded, format!("cannot {what}: {gate} forbids it")),
        Gate::WebhookDown(_) => (Id::WebhookDown, format!("cannot {what}: {gate} does not respond")),
        Gate::Terminating => (Id::BeingDeleted, format!("cannot {what}: its namespace is being deleted")),
        _ => (Id::AdmissionRefused, format!("cannot {what}: {gate} forbids it")),
    };
    let failure = refusal.tell(Failure::new(id, message));
    match gate {
        Gate::WebhookDown(name) => failure
            .hint((
                format!("the webhook {name} has to be repaired or removed; to find it"),
                Command::kubectl("get validatingwebhookconfigurations,mutatingwebhookconfigurations"),
            ))
            .lasting(),
        Gate::Terminating => failure.hint("wait for the deletion, then run the same command again"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: u16, body: &str) -> Failure {
        Refusal::status("create Role a/b", code, "application/json", "", body.as_bytes()).into()
    }

    #[test]
    fn each_status_has_its_exit_code() {
        let status = |reason: &str| format!(r#"{{"kind":"Status","reason":"{reason}","message":"words"}}"#);
        for (code, reason, exit) in [
            (401, "Unauthorized", 4),
            (403, "Forbidden", 4),
            (409, "AlreadyExists", 7),
            (409, "Conflict", 7),
            (429, "TooManyRequests", 8),
            (503, "ServiceUnavailable", 8),
            (422, "Invalid", 1),
        ] {
            let failure = failure(code, &status(reason));
            assert_eq!(failure.kind.exit_code(), exit, "{code} {reason}");
            assert_eq!(failure.details[0].1, "words");
        }
    }

    #[test]
    fn only_what_the_server_said_is_called_so() {
        let page = b"<html>Bad Gateway</html>";
        for code in [401, 403, 404, 429, 502] {
            let refusal = Refusal::status("get x", code, "text/html", "", page);
            let failure = Failure::from(refusal);
            assert_eq!(failure.details[0].0, "because", "{code}: a page is not the API server's");
        }
        let mut refusal =
            Refusal::status("get x", 429, "application/json", "9", br#"{"kind":"Status","message":"later"}"#);
        refusal.asks_too_much();
        let told = Failure::from(refusal).details;
        let row = |label: &str, text: &str| (label.to_owned(), text.to_owned());
        assert_eq!(
            told,
            [
                row("the server says", "later"),
                row("and", "the response asks to wait 9 s, longer than this run may take")
            ]
        );
    }

    #[test]
    fn html_response_is_shown() {
        let refusal = Refusal::not_json("get version", 200, "text/html", b"<html>\n<b>Sign  in</b>");
        let failure = Failure::from(refusal);
        assert_eq!(failure.kind.exit_code(), 3);
        assert!(
            failure.details[0].1.contains("text/html") && failure.details[0].1.contains("<b>Sign in</b>")
        );
    }
}
