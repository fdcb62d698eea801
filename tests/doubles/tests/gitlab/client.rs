//! Callers of the GitLab double.

pub mod pipelines;

use outrigger_doubles::gitlab::FakeGitlab;
use outrigger_doubles::http::{Http, Reply};
use serde_json::Value;

/// The runners' part of the project that is there from the start.
pub const SHOP: &str = "/projects/acme%2Fshop";

/// A caller with a token.
pub struct Caller {
    http: Http,
    token: String,
}

impl Caller {
    /// Whoever has the token of this name.
    pub fn of(gitlab: &FakeGitlab, token: &str) -> Self {
        Self::with(gitlab, &gitlab.token(token))
    }

    /// Whoever has this token; nobody if it is empty.
    pub fn with(gitlab: &FakeGitlab, token: &str) -> Self {
        Self { http: Http::new(&gitlab.url(), &gitlab.ca_pem()), token: token.to_owned() }
    }

    /// Sends a request below the API's root.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = Vec::new();
        if !self.token.is_empty() {
            headers.push(("Authorization", bearer.as_str()));
        }
        self.send_with(method, path, &headers, body)
    }

    /// Sends a request with these headers and no others.
    pub fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut headers = headers.to_vec();
        headers.push(("Content-Type", "application/json"));
        let reply = self.http.send(method, &format!("/api/v4{path}"), &headers, text.as_bytes());
        reply.unwrap_or_default()
    }

    /// Reads.
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null)
    }

    /// Creates.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, body)
    }

    /// Changes.
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, body)
    }

    /// Deletes.
    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &Value::Null)
    }
}

/// The message of a refusal.
pub fn message(reply: &Reply) -> String {
    reply.json()["message"].as_str().unwrap_or_default().to_owned()
}

/// The error of a refusal by the parameter check.
pub fn error(reply: &Reply) -> String {
    reply.json()["error"].as_str().unwrap_or_default().to_owned()
}
