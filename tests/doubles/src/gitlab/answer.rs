//! GitLab's answers, and the many shapes of its refusals.

use serde_json::{Value, json};

pub(crate) use crate::wire::Answer;

/// What a request comes to; refusals are answers too.
pub(crate) type Outcome<T = Answer> = Result<T, Answer>;

/// The most common refusal.
pub(crate) fn message(code: u16, text: &str) -> Answer {
    Answer::json(code, &json!({"message": text}))
}

/// No credentials, or none that are known.
pub(crate) fn unauthorized() -> Answer {
    message(401, "401 Unauthorized")
}

/// Role or policy.
pub(crate) fn forbidden(reason: &str) -> Answer {
    let dash = if reason.is_empty() { "" } else { " - " };
    message(403, &format!("403 Forbidden{dash}{reason}"))
}

/// Missing, or not for the caller's eyes.
pub(crate) fn not_found(what: &str) -> Answer {
    message(404, &format!("404 {what} Not Found"))
}

/// A row that is not there: another wording, from another layer.
pub(crate) fn no_row() -> Answer {
    message(404, "404 Not found")
}

/// Not acceptable to a service.
pub(crate) fn bad_request(reason: &str) -> Answer {
    message(400, &format!("400 Bad request - {reason}"))
}

/// Parameters that do not fit their declaration.
pub(crate) fn parameters(problems: &[String]) -> Answer {
    Answer::json(400, &json!({"error": problems.join(", ")}))
}

/// A model that does not validate: lists of problems by attribute.
pub(crate) fn invalid(problems: &Value) -> Answer {
    Answer::json(400, &json!({"message": problems}))
}

/// The refusals of the token layer; they are of OAuth's shape.
pub(crate) fn oauth(code: u16, error: &str, description: &str) -> Answer {
    let mut answer = Answer::json(code, &json!({"error": error, "error_description": description}));
    if code == 401 {
        let challenge = format!(
            "Bearer realm=\"Protected by OAuth 2.0\", error=\"{error}\", error_description=\"{description}\""
        );
        answer.headers.push(("WWW-Authenticate".to_owned(), challenge));
    }
    answer
}

/// The token's scopes do not suffice; these would. No challenge comes with it.
pub(crate) fn insufficient_scope(scopes: &[&str]) -> Answer {
    let description = "The request requires higher privileges than provided by the access token.";
    let body =
        json!({"error": "insufficient_scope", "error_description": description, "scope": scopes.join(" ")});
    Answer::json(403, &body)
}

/// Done, with nothing to say.
pub(crate) fn no_content() -> Answer {
    Answer { code: 204, content_type: String::new(), headers: Vec::new(), body: Vec::new() }
}

/// No such route.
pub(crate) fn no_route() -> Answer {
    Answer::json(404, &json!({"error": "404 Not Found"}))
}
