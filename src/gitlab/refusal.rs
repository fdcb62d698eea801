//! Failed requests to GitLab, and their translation into a [`Failure`].

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::known;
use super::lack::Lack;
use crate::base::answer::{self, NotRead};
use crate::base::error::{Command, Failure, Id};
use crate::base::request::{Refused, too_long};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 401: unknown, expired or revoked.
    Unauthorized,
    /// 403 for missing scopes, or missing permissions of a fine-grained token.
    Scope,
    /// 403 for any other reason: role, policy.
    Forbidden,
    /// 401, 403 or 407 of an address filter or a proxy in front of GitLab.
    Blocked,
    /// 404: missing, or not visible to this token.
    NotFound,
    /// 410: registration tokens are disabled.
    Gone,
    /// 409 for a resource lock.
    Busy,
    /// 400, 409, 412 or 422.
    Invalid,
    /// 429.
    Throttled,
    /// 503 in maintenance mode, or 403 of a read-only instance.
    Maintenance,
    /// 5xx.
    Server,
    Timeout,
    /// No connection, or it was lost.
    Unreachable,
    /// The certificate is not accepted.
    Certificate,
    /// 3xx, not followed.
    Redirect,
    /// The response is not that of GitLab's API.
    Malformed,
    /// A signal arrived before the request was sent.
    Interrupted,
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub class: Class,
    /// HTTP status, 0 without a response.
    pub code: u16,
    /// GitLab's message or, without one, outrigger's own.
    pub message: String,
    /// Whether the message is GitLab's.
    is_quoted: bool,
    /// Whether `retry_after` is longer than the run may take.
    asks_too_much: bool,
    /// The request, as a verb phrase.
    pub what: String,
    /// The wait that the response asks for.
    pub retry_after: Option<Duration>,
    /// GitLab's `X-Request-Id`, at most 64 characters.
    pub request_id: Box<str>,
    /// The missing scope or permission, for [`Class::Scope`].
    pub lack: Option<Box<Lack>>,
    /// Whether the path contains `%2F`, which some proxies do not forward.
    encoded: bool,
    location: Option<Box<Url>>,
    /// The complete failure, if it does not follow from the class.
    ending: Option<Box<Failure>>,
}

impl Refusal {
    fn of(class: Class, code: u16, what: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            message: message.into(),
            what: what.to_owned(),
            is_quoted: false,
            asks_too_much: false,
            retry_after: None,
            request_id: Box::default(),
            lack: None,
            encoded: false,
            location: None,
            ending: None,
        }
    }

    pub(super) fn decided(class: Class, what: &str, why: &str, failure: Failure) -> Self {
        Self { ending: Some(Box::new(failure)), ..Self::of(class, 0, what, why) }
    }

    /// For a response beyond the limits.
    pub(super) fn endless(what: &str, why: &str) -> Self {
        Self::decided(Class::Malformed, what, why, answer::endless(what, why))
    }

    pub(super) fn malformed(what: &str, why: &str) -> Self {
        Self::of(Class::Malformed, 200, what, why)
    }

    /// For a request without a response. The library's message contains the URL and is not used.
    pub(super) fn transport(what: &str, error: &reqwest::Error) -> Self {
        let message = answer::innermost(error);
        let class = if error.is_timeout() {
            Class::Timeout
        } else if message.contains("certificate") || message.contains("UnknownIssuer") {
            Class::Certificate
        } else {
            Class::Unreachable
        };
        Self::of(class, 0, what, message)
    }

    pub(super) fn status(what: &str, code: u16, headers: &HeaderMap, bytes: &[u8], asked: &Url) -> Self {
        let text = |name: &str| header(headers, name).unwrap_or_default();
        let json: Option<Value> =
            text("content-type").contains("json").then(|| answer::json(bytes).ok()).flatten();
        let message = match json.as_ref().map(words) {
            Some(words) if !words.is_empty() => words,
            // The throttle responds in plain text.
            _ if code == 429 => answer::beginning(bytes),
            _ => foreign_answer(code, text("content-type"), bytes),
        };
        let is_quoted = code == 429 || json.as_ref().is_some_and(|json| !words(json).is_empty());
        let lack = json.as_ref().filter(|_| code == 403).and_then(Lack::read).map(Box::new);
        let said = message.to_lowercase();
        let class = match code {
            300..=399 => Class::Redirect,
            // GitLab's API refuses in JSON.
            401 | 403 | 407 if json.is_none() => Class::Blocked,
            401 => Class::Unauthorized,
            403 if lack.is_some() => Class::Scope,
            // lib/gitlab/middleware/read_only/controller.rb
            403 if message.contains("read-only instance") => Class::Maintenance,
            403 => Class::Forbidden,
            404 if json.is_some() => Class::NotFound,
            409 if said.contains("resource lock") => Class::Busy,
            410 => Class::Gone,
            429 => Class::Throttled,
            503 if said.contains("maintenance") => Class::Maintenance,
            408 | 500..=599 => Class::Server,
            _ if json.is_some() => Class::Invalid,
            _ => Class::Malformed,
        };
        Self {
            is_quoted,
            retry_after: wait_asked(code, headers),
            request_id: text("x-request-id").chars().take(64).collect::<String>().into(),
            lack,
            encoded: asked.path().to_ascii_lowercase().contains("%2f"),
            location: asked.join(text("location")).ok().filter(|_| class == Class::Redirect).map(Box::new),
            ..Self::of(class, code, what, message)
        }
    }

    /// The redirect's target, if it is another URL of the same origin.
    pub(super) fn moved_to(&self, asked: &Url) -> Option<Url> {
        let target = self.location.as_ref()?;
        (target.origin() == asked.origin() && **target != *asked).then(|| Url::clone(target))
    }

    /// Whether the request may have been carried out.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Unreachable | Class::Server)
            || (self.class == Class::Malformed && matches!(self.code, 0 | 200..=299))
    }

    /// Adds the request, which determines the missing permission.
    pub(super) fn asked(mut self, method: &str, segments: &[&str], base: &Url) -> Self {
        if let Some(lack) = &mut self.lack {
            lack.note(method, segments, base);
        }
        self
    }

    /// GitLab's message, with the advice for a relative URL root.
    pub fn why(&self) -> String {
        match self.lack.as_ref().and_then(|lack| lack.below_root()) {
            Some(more) => format!("{} ({more})", self.message),
            None => self.message.clone(),
        }
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

    fn is_retryable(&self) -> bool {
        matches!(self.class, Class::Throttled | Class::Timeout | Class::Unreachable | Class::Busy)
            || (self.class == Class::Server && self.code != 501)
    }

    fn is_ambiguous(&self) -> bool {
        Self::is_ambiguous(self)
    }

    fn was_not_processed(&self) -> bool {
        matches!(self.class, Class::Throttled | Class::Busy)
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

/// A header's value, trimmed; `None` if it is missing or not ASCII.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Parses a JSON response. Requires the content type, because a proxy's sign-in page also has status 200.
pub(super) fn json(what: &str, headers: &HeaderMap, bytes: &[u8], cut: bool) -> Result<Value, Refusal> {
    let kind = header(headers, "content-type").unwrap_or_default();
    if cut {
        return Err(Refusal::endless(what, "the response is larger than 8 MiB"));
    }
    if !kind.contains("json") {
        return Err(Refusal::malformed(what, &foreign_answer(200, kind, bytes)));
    }
    answer::json(bytes).map_err(|error| match error {
        NotRead::TooMuch => Refusal::endless(what, "the response contains too many values"),
        NotRead::NotJson(error) => {
            Refusal::malformed(what, &format!("the response is not valid JSON: {error}"))
        }
    })
}

/// The wait that the server asks for: in seconds, as a date, or as the end of the rate limit.
/// (`RateLimit-Reset` is a Unix time, not a delay.)
fn wait_asked(code: u16, headers: &HeaderMap) -> Option<Duration> {
    let now = jiff::Timestamp::now().as_second();
    let until = |second: i64| Duration::from_secs(u64::try_from(second - now).unwrap_or(0).max(1));
    let after = header(headers, "retry-after").and_then(|text| {
        text.parse().ok().map(Duration::from_secs).or_else(|| date(headers, "retry-after").map(until))
    });
    if after.is_some() || code != 429 {
        return after;
    }
    date(headers, "ratelimit-resettime")
        .map(until)
        .or_else(|| header(headers, "ratelimit-reset").and_then(|text| text.parse().ok()).map(until))
}

/// A header with a date, as Unix time.
pub(super) fn date(headers: &HeaderMap, name: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(header(headers, name)?).ok().map(|date| date.timestamp().as_second())
}

/// GitLab's message in an error body, which has several forms:
/// `{"message": "404 Project Not Found"}`, `{"message": {"tag_list": ["…"], "base": ["…"]}}`,
/// `{"error": "invalid_token", "error_description": "Token is expired. …"}`, `{"error": "… is missing"}`.
fn words(body: &Value) -> String {
    let described = [&body["message"], &body["error_description"], &body["error"]];
    described.into_iter().map(flat).find(|text| !text.is_empty()).unwrap_or_default()
}

fn flat(value: &Value) -> String {
    let field = |(key, value): (&String, &Value)| match (key.as_str(), flat(value)) {
        (_, text) if text.is_empty() => text,
        // Errors of the whole object.
        ("base", text) => text,
        (key, text) => format!("{key}: {text}"),
    };
    let mut parts: Vec<String> = match value {
        Value::String(text) => return text.clone(),
        Value::Array(items) => items.iter().map(flat).collect(),
        Value::Object(fields) => fields.iter().map(field).collect(),
        _ => Vec::new(),
    };
    parts.retain(|text| !text.is_empty());
    parts.join("; ")
}

fn foreign_answer(code: u16, content_type: &str, bytes: &[u8]) -> String {
    let start = answer::beginning(bytes);
    let kind = if content_type.is_empty() { "untyped" } else { content_type };
    let page = if kind.contains("html") { ", perhaps a proxy's or a sign-in page" } else { "" };
    format!("unexpected {kind} response (status {code}){page}: {start}")
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        if let Some(failure) = refusal.ending {
            return *failure;
        }
        let what = &refusal.what;
        let cannot = |why: &str| format!("cannot {what}: {why}");
        // A known message is more precise than the status.
        if matches!(refusal.class, Class::Invalid | Class::Forbidden)
            && let Some(known) = known::find(&refusal.message)
        {
            let failure = with_response(Failure::new(known.id, cannot(known.why)), &refusal);
            let mut failure = known.hints.iter().fold(failure, |failure, hint| failure.hint(*hint));
            if known.prints {
                failure =
                    failure.hint(("or add the file yourself", Command::outrigger("commit-pipeline --print")));
            }
            return if known.passes { failure.passing() } else { failure.lasting() };
        }
        let (id, message) = match refusal.class {
            Class::Unauthorized => (Id::GitlabTokenRefused, cannot("GitLab rejected the token")),
            Class::Scope => {
                let noun = refusal.lack.as_ref().map_or("scopes", |lack| lack.noun());
                (Id::GitlabTokenScope, format!("the GitLab token's {noun} do not allow it to {what}"))
            }
            Class::Forbidden => (Id::GitlabForbidden, format!("GitLab does not allow you to {what}")),
            Class::Blocked => {
                (Id::GitlabProxyRefused, cannot("refused by a proxy or filter in front of GitLab"))
            }
            Class::NotFound => (Id::GitlabNotFound, cannot("not found, or not visible to this token")),
            Class::Gone => (Id::RegistrationTokensOff, cannot("registration tokens are disabled in GitLab")),
            Class::Busy | Class::Throttled => (Id::GitlabUnavailable, cannot("GitLab is throttling")),
            Class::Maintenance => (Id::GitlabReadOnly, cannot("GitLab is read-only")),
            Class::Server => (Id::GitlabUnavailable, cannot("GitLab returned a server error")),
            Class::Timeout => (Id::GitlabUnavailable, cannot("timed out")),
            Class::Unreachable => (Id::GitlabUnavailable, cannot("cannot connect to GitLab")),
            Class::Certificate => (Id::GitlabCertificate, cannot("GitLab's certificate is not accepted")),
            Class::Redirect => (Id::NotGitlab, cannot("GitLab redirects to another address")),
            Class::Malformed => (Id::NotGitlab, format!("cannot {what}")),
            Class::Invalid if refusal.code == 405 => (Id::GitlabMethodMissing, cannot("method not allowed")),
            Class::Invalid => (Id::GitlabInvalid, cannot("GitLab rejected the request")),
            Class::Interrupted => (Id::GitlabUnclear, format!("cannot {what}")),
        };
        let mut failure = with_response(Failure::new(id, message), &refusal);
        if !refusal.request_id.is_empty() {
            failure = failure.detail("request id", &*refusal.request_id);
        }
        with_hint(failure, &refusal)
    }
}

fn with_response(failure: Failure, refusal: &Refusal) -> Failure {
    if let (Class::Redirect, Some(to)) = (refusal.class, &refusal.location) {
        return failure.detail("redirect to", to.origin().ascii_serialization());
    }
    let label = match refusal.code {
        0 => "because",
        _ if refusal.is_quoted && !matches!(refusal.class, Class::Blocked | Class::Malformed) => {
            "GitLab says"
        }
        _ => "response",
    };
    let failure = failure.detail(label, refusal.message.clone());
    if refusal.asks_too_much { failure.detail("and", too_long(refusal.retry_after)) } else { failure }
}

/// Adds the hint for a read-only GitLab, by its message.
pub fn when_writable(failure: Failure, words: &str) -> Failure {
    if words.contains("read-only instance") {
        return failure.hint(
            "if it is a Geo secondary, set --gitlab-url to the primary; otherwise ask an administrator",
        );
    }
    failure.hint("run the same command again later").passing()
}

fn with_hint(failure: Failure, refusal: &Refusal) -> Failure {
    let said = refusal.message.to_lowercase();
    let hint = match refusal.class {
        Class::Unauthorized if said.contains("dpop") => {
            "the token requires DPoP, which outrigger does not support: use another token"
        }
        Class::Unauthorized => {
            "create a token in GitLab (user menu, Access tokens) and set --gitlab-token-file PATH"
        }
        Class::Scope => return refusal.lack.iter().fold(failure, |failure, lack| lack.explain(failure)),
        Class::Forbidden if said.contains("rotation deadline") => {
            return failure.hint((
                "the runner's token can no longer be renewed; delete the runner, then run setup again",
                Command::teardown("--only create-runner"),
            ));
        }
        Class::Forbidden => {
            "check your role: it must be, for runners, Maintainer of the project, Owner of the group or administrator; for commits and pipelines, Developer, or Maintainer if the branch is protected"
        }
        Class::Blocked => {
            "ask its administrator whether this machine's address may reach GitLab's API, and whether the proxy requires a login"
        }
        Class::Malformed if refusal.encoded && matches!(refusal.code, 400..=499) => {
            "a proxy or web server in front of GitLab may not forward %2F: use the numeric id (on the project's or group's page in GitLab), --project ID or --group ID"
        }
        Class::NotFound => {
            "check the path and that the token's user is a member; if a proxy breaks encoded paths, use the numeric id"
        }
        Class::Redirect => "the token was not sent there; if it is GitLab's new address, set --gitlab-url",
        Class::Maintenance => return when_writable(failure, &refusal.message),
        Class::Certificate => "set the CA that signed it: --gitlab-ca-file PATH",
        Class::Timeout | Class::Throttled | Class::Server | Class::Busy => {
            "run the same command again, with a longer --timeout if needed"
        }
        Class::Unreachable => "check --gitlab-url and this machine's network access to it",
        Class::Malformed => {
            "check that --gitlab-url is the address of a GitLab instance, with its relative URL root if it has one"
        }
        Class::Invalid if refusal.code == 405 => {
            "outrigger needs GitLab 16.0 or newer; a proxy in front of GitLab may also forbid the method"
        }
        Class::Invalid => "change the setting that GitLab's message names",
        Class::Gone | Class::Interrupted => return failure,
    };
    failure.hint(hint)
}
