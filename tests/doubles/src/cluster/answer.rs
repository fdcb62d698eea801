//! Answers: objects, and the `Status` objects that refusals are.

use serde_json::{Value, json};

pub(crate) use crate::wire::Answer;

use super::store::Kind;

/// A refusal in the API server's own terms.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    code: u16,
    reason: String,
    message: String,
    details: Value,
}

impl Refusal {
    /// A refusal about nothing in particular.
    pub(crate) fn plain(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: Value::Null }
    }

    /// No valid credentials.
    pub(crate) fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// A request that makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// No such path.
    pub(crate) fn no_such_path() -> Self {
        Self {
            details: json!({}),
            ..Self::plain(404, "NotFound", "the server could not find the requested resource")
        }
    }

    fn about(code: u16, reason: &str, kind: &Kind, name: &str, message: String) -> Self {
        let mut details = json!({"kind": kind.plural});
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !kind.group.is_empty() {
            details["group"] = kind.group.into();
        }
        Self { code, reason: reason.to_owned(), message, details }
    }

    /// No such object.
    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(404, "NotFound", kind, name, format!("{} \"{name}\" not found", kind.qualified()))
    }

    /// The name is taken.
    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::about(409, "AlreadyExists", kind, name, message)
    }

    /// The object is not the one that the caller saw.
    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::about(409, "Conflict", kind, name, message)
    }

    /// Fields that others own.
    pub(crate) fn field_conflict(kind: &Kind, name: &str, conflicts: &[(String, String)]) -> Self {
        let lines: Vec<String> = conflicts
            .iter()
            .map(|(manager, field)| {
                format!("conflict with \"{manager}\" using {}: {field}", kind.api_version())
            })
            .collect();
        let message = if let [one] = lines.as_slice() {
            format!("Apply failed with 1 conflict: {one}")
        } else {
            format!("Apply failed with {} conflicts: {}", lines.len(), lines.join("\n"))
        };
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                let message = format!("conflict with \"{manager}\" using {}", kind.api_version());
                json!({"reason": "FieldManagerConflict", "message": message, "field": field})
            })
            .collect();
        let mut refusal = Self::about(409, "Conflict", kind, name, message);
        refusal.details = json!({"causes": causes});
        refusal
    }

    /// Not allowed; the name is empty where the request has none.
    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let what =
            if name.is_empty() { kind.qualified() } else { format!("{} \"{name}\"", kind.qualified()) };
        Self::about(403, "Forbidden", kind, name, format!("{what} is forbidden: {why}"))
    }

    /// The content is not acceptable.
    pub(crate) fn invalid(kind: &Kind, name: &str, field: &str, problem: &str) -> Self {
        let typed = if kind.group.is_empty() {
            kind.kind.to_owned()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        let message = format!("{typed} \"{name}\" is invalid: {field}: {problem}");
        let reason = if problem.starts_with("Required") { "FieldValueRequired" } else { "FieldValueInvalid" };
        let mut refusal = Self::about(422, "Invalid", kind, name, message);
        refusal.details["kind"] = kind.kind.into();
        refusal.with_cause(reason, problem, field)
    }

    /// The same words under another status, as policies choose it.
    pub(crate) fn under(mut self, code: u16, reason: &str) -> Self {
        self.code = code;
        reason.clone_into(&mut self.reason);
        self
    }

    /// Adds a cause.
    pub(crate) fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.details["causes"] = json!([{"reason": reason, "message": message, "field": field}]);
        self
    }

    /// As it goes on the wire.
    pub(crate) fn into_answer(self) -> Answer {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            body["details"] = self.details;
        }
        Answer::json(self.code, &body)
    }
}

/// What a request comes to.
pub(crate) type Outcome<T = Answer> = Result<T, Refusal>;
