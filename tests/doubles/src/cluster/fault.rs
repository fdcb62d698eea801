//! Faults that tests put into the way of requests.

use std::sync::Arc;

use super::routes::Request;

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
