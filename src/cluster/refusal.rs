//! What went wrong with a request, and the one translation of it into a [`Failure`].

use std::time::Duration;

use serde_json::Value;

use super::admission::Gate;
use super::target::Target;
use crate::base::answer;
use crate::base::error::{Command, Failure, Id};
use crate::base::request::{self, Refused};

/// The cases that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 401.
    Unauthorized,
    /// 403: a missing permission, or an escalation.
    Forbidden,
    /// Admission, whatever its status: a policy, a quota, a webhook; [`Refusal::gate`] says which.
    Admission,
    /// 404.
    NotFound,
    /// 409 because the name is taken.
    AlreadyExists,
    /// 409 because it changed meanwhile, or a precondition does not hold.
    Conflict,
    /// 422 or 400.
    Invalid,
    /// 429.
    Throttled,
    /// 5xx.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// The certificate was not accepted.
    Certificate,
    /// An answer that is none of an API server.
    Malformed,
    /// There is no cluster to ask in this run.
    Absent,
    /// A signal came before the request was sent.
    Interrupted,
    /// Credentials could not be had.
    Credentials,
}

/// A request that did not succeed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which case it is.
    pub class: Class,
    /// HTTP status, 0 without an answer.
    pub code: u16,
    /// The server's own words, or the transport's.
    pub message: String,
    /// What was asked for: verb and object.
    pub what: String,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// Which part of admission refused, with [`Class::Admission`].
    pub gate: Option<Gate>,
    ending: Option<Failure>,
}

impl Refusal {
    fn of(class: Class, code: u16, what: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            message: message.into(),
            what: what.to_owned(),
            retry_after: None,
            gate: None,
            ending: None,
        }
    }

    /// A server whose certificate was not accepted; everything is said in `failure`.
    pub(super) fn untrusted(what: &str, why: &str, failure: Failure) -> Self {
        Self { ending: Some(failure), ..Self::of(Class::Certificate, 0, what, why) }
    }

    /// The plugin failed when the credentials had to be renewed.
    pub(super) fn login(what: &str, failure: Failure) -> Self {
        Self { ending: Some(failure), ..Self::of(Class::Credentials, 0, what, "the login failed") }
    }

    /// Whether the run's time was over before the request was sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.class == Class::Timeout && self.message.starts_with(request::OVER)
    }

    pub(super) fn absent(what: &str) -> Self {
        Self::of(Class::Absent, 0, what, "this run has no cluster")
    }

    pub(super) fn local(what: &str, why: &str) -> Self {
        Self::of(Class::Malformed, 0, what, why)
    }

    /// More came, or was to come, than anything here can need.
    pub(super) fn endless(what: &str, why: &str) -> Self {
        let failure = answer::endless(what, why);
        Self { ending: Some(failure), ..Self::of(Class::Malformed, 200, what, why) }
    }

    /// Whether the server sent more than is read: whatever else it is asked, it may do so again.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.class == Class::Malformed && self.ending.is_some()
    }

    pub(super) fn body(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        if error.is::<http_body_util::LengthLimitError>() {
            return Self::endless(what, "the answer is larger than 32 MiB");
        }
        Self::of(Class::Unreachable, 0, what, format!("the answer broke off: {error}"))
    }

    /// The library's error can hold a plugin's output and environment, so only known parts are shown.
    pub(super) fn transport(what: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Auth(_) => Self::of(
                Class::Credentials,
                0,
                what,
                "the credentials of the kubeconfig could not be renewed",
            ),
            kube::Error::Api(status) => Self::of(Class::Server, status.code, what, status.message.clone()),
            other => {
                let mut chain = Vec::new();
                let mut next: Option<&dyn std::error::Error> = Some(other);
                let mut certificate = false;
                while let Some(error) = next {
                    certificate |= error.is::<rustls::Error>() || error.to_string().contains("certificate");
                    chain.push(error.to_string());
                    next = error.source();
                }
                let message = chain.last().cloned().unwrap_or_default();
                let class = if certificate { Class::Certificate } else { Class::Unreachable };
                Self::of(class, 0, what, message)
            }
        }
    }

    pub(super) fn not_json(what: &str, code: u16, content_type: &str, bytes: &[u8]) -> Self {
        // What calls itself JSON may be a good answer cut short, with a token in what came of it.
        let message = if content_type.contains("json") {
            format!("status {code}, and what came with it is no JSON")
        } else {
            foreign_answer(code, content_type, bytes)
        };
        Self::of(Class::Malformed, code, what, message)
    }

    pub(super) fn status(what: &str, code: u16, content_type: &str, retry_after: &str, bytes: &[u8]) -> Self {
        let parsed: Option<Value> = answer::json(bytes).ok();
        let status = parsed.as_ref().filter(|value| value["kind"] == "Status");
        let message = match status {
            Some(status) => status["message"].as_str().unwrap_or_default().to_owned(),
            None => foreign_answer(code, content_type, bytes),
        };
        let reason = status.and_then(|status| status["reason"].as_str()).unwrap_or_default();
        let gate = status.and_then(|_| Gate::of(code, &message));
        let class = match (code, reason) {
            _ if gate.is_some() => Class::Admission,
            // A plugin of a server that has just started; it says so with a 403.
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
        Self { retry_after, gate, ..Self::of(class, code, what, message) }
    }

    /// Whether the server refused because the caller would grant more than they hold.
    #[must_use]
    pub fn is_escalation(&self) -> bool {
        self.class == Class::Forbidden
            && self.message.contains("attempting to grant RBAC permissions not currently held")
    }

    /// Whether nobody knows if the request was carried out.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Unreachable | Class::Malformed)
            || self.class == Class::Server
    }
}

impl Refused for Refusal {
    fn interrupted(what: &str, failure: Failure) -> Self {
        Self { ending: Some(failure), ..Self::of(Class::Interrupted, 0, what, "interrupted") }
    }

    fn timeout(what: &str, why: &str) -> Self {
        Self::of(Class::Timeout, 0, what, why)
    }

    fn is_silent(&self) -> bool {
        self.code == 0
    }

    /// A webhook that does not answer seldom comes back within a run, and each try costs the seconds that the
    /// server gives it.
    fn heals(&self) -> bool {
        let later = matches!(self.class, Class::Throttled | Class::Timeout | Class::Unreachable);
        let starting = self.class == Class::Server && self.code == 403;
        later || starting || (self.class != Class::Admission && matches!(self.code, 500 | 502..=504))
    }

    fn is_unseen(&self) -> bool {
        self.code == 429
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn message(&mut self) -> &mut String {
        &mut self.message
    }
}

fn foreign_answer(code: u16, content_type: &str, bytes: &[u8]) -> String {
    let kind = if content_type.is_empty() { "no content type" } else { content_type };
    let start = answer::beginning(bytes);
    format!("status {code} with {kind}, which is no answer of a Kubernetes API server: {start}")
}

/// Translates a failure to build the client.
pub(super) fn connecting(error: &kube::Error, target: &Target) -> Failure {
    Failure::new(Id::UnusableKubeconfig, format!("the context {:?} cannot be used", target.context))
        .detail("because", answer::innermost(error))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        if let Some(failure) = refusal.ending {
            return failure;
        }
        let what = &refusal.what;
        let (id, message) = match refusal.class {
            Class::Unauthorized => (
                Id::UnknownCredentials,
                format!("the cluster does not know these credentials (cannot {what})"),
            ),
            Class::Credentials => (Id::CredentialPlugin, format!("cannot {what}")),
            Class::Forbidden if refusal.is_escalation() => {
                (Id::CannotGrant, format!("may not {what}: it grants more than you hold"))
            }
            Class::Forbidden => (Id::MissingRights, format!("may not {what}")),
            Class::Admission => return refused_by_admission(&refusal),
            Class::AlreadyExists => (Id::ForeignObject, format!("cannot {what}: one is there already")),
            Class::Conflict => {
                (Id::ForeignObject, format!("cannot {what}: it is not the one that was looked at"))
            }
            Class::Throttled => (Id::ClusterThrottled, format!("cannot {what}: the server is throttling")),
            Class::Timeout => (Id::WaitTimeout, format!("cannot {what} in time")),
            Class::Server => (Id::ClusterError, format!("cannot {what}: the server has an error")),
            Class::Unreachable | Class::Absent => {
                (Id::ClusterUnreachable, format!("cannot {what}: no connection to the API server"))
            }
            Class::Certificate => {
                (Id::ClusterCertificate, format!("cannot {what}: the server's certificate is not accepted"))
            }
            Class::Malformed => (Id::NotKubernetes, format!("cannot {what}")),
            Class::Invalid | Class::NotFound | Class::Interrupted => {
                (Id::ClusterRefused, format!("cannot {what}"))
            }
        };
        let failure = Failure::new(id, message).detail("the server says", refusal.message.clone());
        match refusal.class {
            Class::Unauthorized | Class::Credentials => {
                failure.hint("log in again, or name another context with --context NAME")
            }
            Class::Forbidden => failure
                .hint("ask an administrator of the cluster, or name another context with --context NAME"),
            Class::Conflict => failure.hint("run the same command again: it looks anew").passing(),
            Class::Timeout | Class::Throttled | Class::Server => {
                failure.hint("run the same command again; a longer wait: --timeout 15m")
            }
            Class::Unreachable => failure.hint((
                "check the server's address, and whether this machine may reach it",
                Command::kubectl("version"),
            )),
            _ => failure,
        }
    }
}

/// Says which rule of the cluster refused, not that a right is missing. What can be done depends on the
/// object: `crate::cluster::dry_run` adds that.
fn refused_by_admission(refusal: &Refusal) -> Failure {
    let what = &refusal.what;
    let gate = refusal.gate.clone().unwrap_or(Gate::Unnamed);
    let (id, message) = match gate {
        Gate::Quota(_) | Gate::LimitRange => (Id::QuotaExceeded, format!("cannot {what}: {gate} forbids it")),
        Gate::WebhookDown(_) => (Id::WebhookDown, format!("cannot {what}: {gate} does not answer")),
        Gate::Terminating => (Id::BeingDeleted, format!("cannot {what}: its namespace is being deleted")),
        _ => (Id::AdmissionRefused, format!("cannot {what}: {gate} forbids it")),
    };
    let failure = Failure::new(id, message).detail("the server says", refusal.message.clone());
    match gate {
        Gate::WebhookDown(name) => failure
            .hint((format!("the cluster lets nothing pass until {name} answers: have whoever keeps it mend it, or see whose it is"), Command::kubectl("get validatingwebhookconfigurations,mutatingwebhookconfigurations")))
            .lasting(),
        Gate::Terminating => failure.hint("wait until it is gone, then run the same command again"),
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
    fn a_page_of_html_is_named_as_such() {
        let refusal = Refusal::not_json("get version", 200, "text/html", b"<html>\n<b>Sign  in</b>");
        let failure = Failure::from(refusal);
        assert_eq!(failure.kind.exit_code(), 3);
        assert!(
            failure.details[0].1.contains("text/html") && failure.details[0].1.contains("<b>Sign in</b>")
        );
    }
}
