//! What went wrong with a request to GitLab, and the one translation of it into a [`Failure`].

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::lack::Lack;
use super::words;
use crate::base::answer::{self, NotRead};
use crate::base::error::{Command, Failure, Id};
use crate::base::request::Refused;

/// The cases that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 401: unknown, expired or revoked.
    Unauthorized,
    /// 403 because the token's scopes, or the permissions of a fine-grained one, do not reach.
    Scope,
    /// 403 for any other reason: role, policy.
    Forbidden,
    /// 401, 403 or 407 without GitLab's own words: an address filter or a proxy.
    Blocked,
    /// 404: missing, or not to be seen with this token.
    NotFound,
    /// 410: registration tokens are switched off.
    Gone,
    /// 409 because of a lock that passes.
    Busy,
    /// 400, 409, 412 or 422.
    Invalid,
    /// 429.
    Throttled,
    /// 503 with the words of maintenance mode, or 403 with those of a read-only instance.
    Maintenance,
    /// 5xx.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// The certificate was not accepted.
    Certificate,
    /// 3xx to somewhere the token must not go.
    Redirect,
    /// An answer that is none of GitLab's.
    Malformed,
    /// A signal came before the request was sent.
    Interrupted,
}

/// A request that did not succeed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which case it is.
    pub class: Class,
    /// HTTP status, 0 without an answer.
    pub code: u16,
    /// GitLab's own words, or the transport's.
    pub message: String,
    /// What was asked for.
    pub what: String,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// GitLab's id of the request, for its administrators.
    pub request_id: Box<str>,
    /// What the token lacks, where that is what is wrong.
    pub lack: Option<Box<Lack>>,
    /// Whether a part of the path that was asked for is encoded (`%2F`): not every proxy passes that on.
    encoded: bool,
    location: Option<Box<Url>>,
    ending: Option<Box<Failure>>,
}

impl Refusal {
    fn of(class: Class, code: u16, what: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            message: message.into(),
            what: what.to_owned(),
            retry_after: None,
            request_id: Box::default(),
            lack: None,
            encoded: false,
            location: None,
            ending: None,
        }
    }

    /// One of which everything is said already.
    pub(super) fn decided(class: Class, what: &str, why: &str, failure: Failure) -> Self {
        Self { ending: Some(Box::new(failure)), ..Self::of(class, 0, what, why) }
    }

    /// More came, or was to come, than anything here can need.
    pub(super) fn endless(what: &str, why: &str) -> Self {
        Self::decided(Class::Malformed, what, why, answer::endless(what, why))
    }

    pub(super) fn malformed(what: &str, why: &str) -> Self {
        Self::of(Class::Malformed, 200, what, why)
    }

    /// What the library says of a request without an answer. Its own text is left out: it holds the URL.
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
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json: Option<Value> =
            text("content-type").contains("json").then(|| answer::json(bytes).ok()).flatten();
        let message = match json.as_ref().map(words) {
            Some(words) if !words.is_empty() => words,
            _ => foreign_answer(code, text("content-type"), bytes),
        };
        let lack = json.as_ref().filter(|_| code == 403).and_then(Lack::read).map(Box::new);
        let maintenance = message.to_lowercase().contains("maintenance");
        let class = match code {
            300..=399 => Class::Redirect,
            // GitLab's API refuses in JSON, always.
            401 | 403 | 407 if json.is_none() => Class::Blocked,
            401 => Class::Unauthorized,
            403 if lack.is_some() => Class::Scope,
            // lib/gitlab/middleware/read_only/controller.rb
            403 if message.contains("read-only instance") => Class::Maintenance,
            403 => Class::Forbidden,
            404 if json.is_some() => Class::NotFound,
            409 if message.to_lowercase().contains("resource lock") => Class::Busy,
            410 => Class::Gone,
            429 => Class::Throttled,
            503 if maintenance => Class::Maintenance,
            408 | 500..=599 => Class::Server,
            _ if json.is_some() => Class::Invalid,
            _ => Class::Malformed,
        };
        Self {
            retry_after: wait_asked(code, headers),
            request_id: text("x-request-id").chars().take(64).collect::<String>().into(),
            lack,
            encoded: asked.path().to_ascii_lowercase().contains("%2f"),
            location: (class == Class::Redirect)
                .then(|| asked.join(text("location")).ok())
                .flatten()
                .map(Box::new),
            ..Self::of(class, code, what, message)
        }
    }

    /// Where a moved project is now, if that is on the same origin.
    pub(super) fn moved_to(&self, asked: &Url) -> Option<Url> {
        let target = self.location.as_ref()?;
        (target.origin() == asked.origin() && **target != *asked).then(|| Url::clone(target))
    }

    /// Whether nobody knows if the request was carried out.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Unreachable | Class::Server)
            || (self.class == Class::Malformed && matches!(self.code, 0 | 200..=299))
    }

    /// Notes what was asked for, where the token does not reach.
    pub(super) fn asked(mut self, method: &str, segments: &[&str], base: &Url) -> Self {
        if let Some(lack) = &mut self.lack {
            lack.note(method, segments, base);
        }
        self
    }

    /// GitLab's words, with what they leave open.
    #[must_use]
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

    fn is_silent(&self) -> bool {
        self.code == 0
    }

    fn heals(&self) -> bool {
        matches!(self.class, Class::Throttled | Class::Timeout | Class::Unreachable | Class::Busy)
            || (self.class == Class::Server && self.code != 501)
    }

    fn is_unseen(&self) -> bool {
        matches!(self.class, Class::Throttled | Class::Busy)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn message(&mut self) -> &mut String {
        &mut self.message
    }
}

/// An answer read as JSON, which it has to say that it is: a proxy's sign-in page comes with 200, too.
pub(super) fn json(what: &str, headers: &HeaderMap, bytes: &[u8], cut: bool) -> Result<Value, Refusal> {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if cut {
        return Err(Refusal::endless(what, "the answer is larger than 8 MiB"));
    }
    if !kind.contains("json") {
        return Err(Refusal::malformed(what, &foreign_answer(200, kind, bytes)));
    }
    // Deeper nesting than the parser takes ends here, too.
    answer::json(bytes).map_err(|error| match error {
        NotRead::TooMuch => Refusal::endless(what, "the answer has too many values to be read"),
        NotRead::NotJson(error) => {
            Refusal::malformed(what, &format!("the answer is no JSON that can be read: {error}"))
        }
    })
}

/// How long to wait, as far as the server says: in seconds, as a date, or as the moment when the limit
/// starts anew. (`RateLimit-Reset` is a Unix time, not a delay.)
fn wait_asked(code: u16, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let now = jiff::Timestamp::now().as_second();
    let until = |second: i64| Duration::from_secs(u64::try_from(second - now).unwrap_or(0).max(1));
    let after = text("retry-after").and_then(|text| {
        text.parse().ok().map(Duration::from_secs).or_else(|| date(headers, "retry-after").map(until))
    });
    if after.is_some() || code != 429 {
        return after;
    }
    date(headers, "ratelimit-resettime")
        .map(until)
        .or_else(|| text("ratelimit-reset").and_then(|text| text.parse().ok()).map(until))
}

/// A header with a date, as Unix time.
pub(super) fn date(headers: &HeaderMap, name: &str) -> Option<i64> {
    let text = headers.get(name)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp().as_second())
}

/// GitLab's own words in an error body. They come in several shapes:
/// `{"message": "404 Project Not Found"}`, `{"message": {"tag_list": ["…"], "base": ["…"]}}`,
/// `{"error": "invalid_token", "error_description": "Token is expired. …"}`, `{"error": "… is missing"}`.
fn words(body: &Value) -> String {
    let described = [&body["message"], &body["error_description"], &body["error"]];
    described.into_iter().map(flat).find(|text| !text.is_empty()).unwrap_or_default()
}

fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            items.iter().map(flat).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match (key.as_str(), flat(value)) {
                (_, text) if text.is_empty() => text,
                // What concerns the whole has no name of its own.
                ("base", text) => text,
                (key, text) => format!("{key}: {text}"),
            })
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("; "),
        _ => String::new(),
    }
}

fn foreign_answer(code: u16, content_type: &str, bytes: &[u8]) -> String {
    let kind = if content_type.is_empty() { "no content type" } else { content_type };
    let start = answer::beginning(bytes);
    if code == 429 {
        // The throttle answers in plain text, which administrators may set.
        return start;
    }
    let page = if kind.contains("html") { " (a proxy's or a sign-in page?)" } else { "" };
    format!("status {code} with {kind}, which is no answer of GitLab's API{page}: {start}")
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        if let Some(failure) = refusal.ending {
            return *failure;
        }
        let what = &refusal.what;
        // What GitLab says in its own words comes before what its status says.
        if matches!(refusal.class, Class::Invalid | Class::Forbidden)
            && let Some(known) = words::known(&refusal.message)
        {
            let failure = Failure::new(known.id, format!("cannot {what}: {}", known.why));
            let failure =
                known.hints.iter().fold(told(failure, &refusal), |failure, hint| failure.hint(*hint));
            let failure = if known.prints {
                failure.hint(("or add the file yourself", Command::outrigger("commit-pipeline --print")))
            } else {
                failure
            };
            return if known.passes { failure.passing() } else { failure.lasting() };
        }
        let (id, message) = match refusal.class {
            Class::Unauthorized => {
                (Id::GitlabTokenRefused, format!("GitLab does not take this token (cannot {what})"))
            }
            Class::Scope => {
                let noun = refusal.lack.as_ref().map_or("scopes", |lack| lack.noun());
                (Id::GitlabTokenScope, format!("the GitLab token's {noun} do not let it {what}"))
            }
            Class::Forbidden => (Id::GitlabForbidden, format!("GitLab does not let you {what}")),
            Class::Blocked => {
                (Id::GitlabProxyRefused, format!("cannot {what}: refused before GitLab looked at it"))
            }
            Class::NotFound => (
                Id::GitlabNotFound,
                format!("cannot {what}: it does not exist, or this token may not see it"),
            ),
            Class::Gone => {
                (Id::RegistrationTokensOff, format!("cannot {what}: GitLab has switched that off"))
            }
            Class::Busy | Class::Throttled => {
                (Id::GitlabUnavailable, format!("cannot {what}: GitLab is throttling"))
            }
            Class::Maintenance => (Id::GitlabReadOnly, format!("cannot {what}: GitLab cannot be written to")),
            Class::Server => (Id::GitlabUnavailable, format!("cannot {what}: GitLab has an error")),
            Class::Timeout => (Id::GitlabUnavailable, format!("cannot {what} in time")),
            Class::Unreachable => (Id::GitlabUnavailable, format!("cannot {what}: no connection to GitLab")),
            Class::Certificate => {
                (Id::GitlabCertificate, format!("cannot {what}: GitLab's certificate is not accepted"))
            }
            Class::Redirect => (Id::NotGitlab, format!("cannot {what}: GitLab leads elsewhere")),
            Class::Malformed => (Id::NotGitlab, format!("cannot {what}")),
            Class::Invalid if refusal.code == 405 => {
                (Id::GitlabMethodMissing, format!("cannot {what}: this GitLab does not offer that"))
            }
            Class::Invalid => (Id::GitlabInvalid, format!("cannot {what}: GitLab does not take it")),
            Class::Interrupted => (Id::GitlabUnclear, format!("cannot {what}")),
        };
        let mut failure = told(Failure::new(id, message), &refusal);
        if !refusal.request_id.is_empty() {
            failure = failure.detail("request id", &*refusal.request_id);
        }
        hinted(failure, &refusal)
    }
}

/// The failure with what was answered, by whoever answered.
fn told(failure: Failure, refusal: &Refusal) -> Failure {
    if let (Class::Redirect, Some(to)) = (refusal.class, &refusal.location) {
        return failure.detail("it leads to", to.origin().ascii_serialization());
    }
    let label = match refusal.class {
        _ if refusal.code == 0 => "because",
        Class::Blocked | Class::Malformed => "what came back",
        _ => "GitLab says",
    };
    failure.detail(label, refusal.message.clone())
}

/// What to do about a GitLab that can be read and not written to, by its own words.
#[must_use]
pub fn when_it_takes_something(failure: Failure, words: &str) -> Failure {
    if words.contains("read-only instance") {
        return failure
            .hint("a Geo secondary is one: name the primary with --gitlab-url; else ask an administrator");
    }
    failure.hint("nothing can be written meanwhile: run the same command again later").passing()
}

/// The next thing to do, where the case tells.
fn hinted(failure: Failure, refusal: &Refusal) -> Failure {
    let said = refusal.message.to_lowercase();
    match refusal.class {
        Class::Unauthorized if said.contains("dpop") => failure
            .hint("this token works only together with a key (DPoP), which outrigger cannot offer: use another token"),
        Class::Unauthorized => failure
            .hint("make a token in GitLab (user menu, Access tokens) and name its file with --gitlab-token-file PATH"),
        Class::Scope => match &refusal.lack {
            Some(lack) => lack.explain(failure),
            None => failure,
        },
        Class::Forbidden if said.contains("rotation deadline") => failure.hint(("its token can never be renewed again: delete the runner, then run setup again", Command::outrigger("teardown --only create-runner"))),
        Class::Forbidden => failure.hint(
            "runners: Maintainer of the project, Owner of the group, administrator of the instance; commits and pipelines: Developer, Maintainer where the branch is protected",
        ),
        Class::Blocked => failure
            .hint("a proxy or a filter in front of GitLab answered: may this machine's address reach GitLab's API, and must it log in there first? its administrator can tell"),
        Class::Malformed if refusal.encoded && matches!(refusal.code, 400..=499) => failure
            .hint("a proxy or web server in front of GitLab does not pass %2F on: name the project or group by its numeric id, --project ID or --group ID (it stands on its page in GitLab)"),
        Class::NotFound => failure
            .hint("is the path right, and is the token's user a member? a proxy may break encoded paths: try the numeric id"),
        Class::Redirect => failure
            .hint("the token was sent nowhere else; if that is your GitLab's new address, name it with --gitlab-url"),
        Class::Maintenance => when_it_takes_something(failure, &refusal.message),
        Class::Certificate => failure.hint("name the CA that signed it with --gitlab-ca-file PATH"),
        Class::Timeout | Class::Throttled | Class::Server | Class::Busy => {
            failure.hint("run the same command again; a longer wait: --timeout 15m")
        }
        Class::Unreachable => failure.hint("is --gitlab-url right, and may this machine reach it?"),
        Class::Malformed => {
            failure.hint("is --gitlab-url the address of a GitLab instance, with its relative path if it has one?")
        }
        Class::Invalid if refusal.code == 405 => {
            failure.hint("GitLab 16.0 or newer can do it; a proxy in front of it may also forbid the method")
        }
        Class::Invalid => failure.hint("GitLab's words name what does not suit it: change that setting"),
        Class::Gone | Class::Interrupted => failure,
    }
}
