//! Faults that tests put into the way of requests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Request;

/// What happens to a request in place of its answer.
pub enum Action {
    /// A refusal with this status, reason and message; nothing is applied.
    Status(u16, String, String),
    /// Any answer: status, headers, body, content type; nothing is applied.
    Headers(u16, Vec<(String, String)>, String, String),
    /// No answer ever, and the connection stays open; nothing is applied.
    Hang,
    /// The connection is closed without an answer; nothing is applied.
    ResetBefore,
    /// The request is applied, then the connection is closed without an answer.
    ResetAfter,
    /// The request is applied, then the hook is called; there is no answer.
    KillAfter(Box<dyn Fn() + Send + Sync>),
    /// The hook is called; nothing is applied, and there is no answer.
    KillBefore(Box<dyn Fn() + Send + Sync>),
    /// The hook is called; then the request is answered as ever.
    Before(Box<dyn Fn() + Send + Sync>),
    /// The request is applied; its answer goes out only after this time.
    Late(Duration),
    /// The request is applied; the answer is that of the other action.
    Applied(Box<Action>),
    /// The request is applied; its answer, if JSON, goes out as the hook leaves it.
    Edit(Box<dyn Fn(&mut Value) + Send + Sync>),
    /// The request is applied; its answer names a next page, as each page after it does.
    NextPage,
    /// The request is applied; its answer goes out as another content type.
    ContentType(String),
    /// A redirect with this status to the same path and query under another address.
    Elsewhere(u16, String),
    /// So many bytes of white space that call themselves JSON; nothing is applied.
    Flood(u64),
    /// The same without their number being told first.
    EndlessFlood(u64),
    /// This JSON, a byte at a time with a pause before each; nothing is applied.
    Drip(String, Duration),
}

impl Action {
    /// A redirect, as web servers put it.
    #[must_use]
    pub fn redirect(code: u16, to: &str) -> Self {
        let body = format!("<html><body>You are being <a href=\"{to}\">redirected</a>.</body></html>");
        let headers = vec![("location".to_owned(), to.to_owned())];
        Self::Headers(code, headers, body, "text/html; charset=utf-8".to_owned())
    }

    /// The page of a sign-in proxy, with status 200.
    #[must_use]
    pub fn sign_in_page() -> Self {
        let body = "<!DOCTYPE html>\n<html><head><title>Sign in - Example SSO</title></head>\
                    <body><form action=\"/login\"><input name=\"user\"></form></body></html>\n";
        Self::Headers(200, Vec::new(), body.to_owned(), "text/html; charset=utf-8".to_owned())
    }

    /// What the web server before GitLab says while GitLab itself is down.
    #[must_use]
    pub fn bad_gateway() -> Self {
        let body = "<!DOCTYPE html>\n<html><head><title>GitLab is not responding (502)</title></head>\
                    <body><h1>502</h1><h3>Whoops, GitLab is taking too much time to respond.</h3></body></html>\n";
        Self::Headers(502, Vec::new(), body.to_owned(), "text/html".to_owned())
    }

    /// The throttle's answer, which is plain text, with these headers (`Retry-After`, `RateLimit-Reset`).
    #[must_use]
    pub fn retry_later(headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::Headers(429, headers, "Retry later\n".to_owned(), "text/plain".to_owned())
    }

    /// The answer of a limit within the application, which is JSON.
    #[must_use]
    pub fn too_many_requests(retry_after: u64) -> Self {
        let body = r#"{"message":"429 Too Many Requests"}"#;
        let headers = vec![("Retry-After".to_owned(), retry_after.to_string())];
        Self::Headers(429, headers, body.to_owned(), "application/json".to_owned())
    }

    /// Another request holds the object just now.
    #[must_use]
    pub fn resource_lock() -> Self {
        let body = r#"{"message":"409 Conflict: Resource lock"}"#;
        Self::Headers(409, Vec::new(), body.to_owned(), "application/json".to_owned())
    }

    /// JSON of so many lists in each other.
    #[must_use]
    pub fn nested(depth: usize) -> Self {
        let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        Self::Headers(200, Vec::new(), body, "application/json".to_owned())
    }
}

/// Which requests an action is for.
pub struct Fault {
    /// Only this method.
    pub method: Option<String>,
    /// Only paths with this in it.
    pub path_contains: String,
    /// Only queries with this in it.
    pub query_contains: String,
    /// So many of them are let through first.
    pub skip: usize,
    /// So many of them are hit.
    pub times: usize,
    /// What happens to those.
    pub action: Action,
}

impl Fault {
    /// Hits the next request of this method with this in its path.
    #[must_use]
    pub fn once(method: &str, path_contains: &str, action: Action) -> Self {
        Self {
            method: Some(method.to_owned()),
            path_contains: path_contains.to_owned(),
            query_contains: String::new(),
            skip: 0,
            times: 1,
            action,
        }
    }

    /// Hits every request of any method with this in its path.
    #[must_use]
    pub fn always(path_contains: &str, action: Action) -> Self {
        Self { method: None, times: usize::MAX, ..Self::once("", path_contains, action) }
    }
}

/// A fault that waits for its requests.
pub(crate) struct Armed {
    method: Option<String>,
    path_contains: String,
    query_contains: String,
    skip: usize,
    times: usize,
    action: Arc<Action>,
}

impl From<Fault> for Armed {
    fn from(fault: Fault) -> Self {
        Self {
            method: fault.method,
            path_contains: fault.path_contains,
            query_contains: fault.query_contains,
            skip: fault.skip,
            times: fault.times,
            action: Arc::new(fault.action),
        }
    }
}

impl Armed {
    /// The action, if this request is one to be hit.
    pub(crate) fn hit(&mut self, request: &Request) -> Option<Arc<Action>> {
        let meant = self.times > 0
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && request.path.contains(&self.path_contains)
            && request.raw_query.contains(&self.query_contains);
        if !meant {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(Arc::clone(&self.action))
    }
}
