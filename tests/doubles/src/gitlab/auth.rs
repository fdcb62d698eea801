//! Who asks, by which token, and whether its scopes suffice.

use super::answer::{self, Answer, Outcome};
use super::options::TokenKind;
use super::state::{State, Token};
use crate::wire::Request;

/// Somebody with a token that works.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) token: Token,
}

/// What a route wants of a token: any of these scopes, or this permission of a fine-grained one.
pub(crate) struct Gate {
    pub(crate) scopes: Vec<&'static str>,
    pub(crate) permission: &'static str,
}

/// What a call wants of a token.
pub(crate) fn gate(method: &str, parts: &[&str]) -> Gate {
    let reads = matches!(method, "GET" | "HEAD");
    let mut scopes = vec!["api"];
    if reads {
        scopes.push("read_api");
    }
    let of_runner = match method {
        "DELETE" => "delete_runner",
        "GET" | "HEAD" => "read_runner",
        _ => "update_runner",
    };
    let permission = match parts {
        ["user", "runners"] if method == "POST" => {
            scopes.push("create_runner");
            "create_runner"
        }
        ["runners" | "projects" | "groups", ..] if parts.last() == Some(&"runners") => "read_runner",
        ["runners", "all"] => "read_runner",
        ["runners", _, ..] => {
            scopes.push("manage_runner");
            of_runner
        }
        ["user" | "metadata" | "version"] if reads => {
            scopes.push("read_user");
            "read_user"
        }
        ["projects", _, "repository", "files", ..] if reads => {
            scopes.push("read_repository");
            "read_repository_file"
        }
        ["projects", _] => "read_project",
        ["groups", _] => "read_group",
        ["projects", _, "repository", ..] if reads => "read_commit",
        ["projects", _, "repository", ..] => "create_commit",
        ["projects", _, "pipelines" | "jobs", ..] if reads => "read_pipeline",
        ["projects", _, "ci", "lint"] => "read_pipeline",
        ["projects", _, "pipeline"] => "create_pipeline",
        ["projects", ..] => "update_pipeline",
        _ => "",
    };
    Gate { scopes, permission }
}

/// The secret that a request carries, and whether it is a bearer token.
pub(crate) fn secret(request: &Request) -> Option<(String, bool)> {
    let private = request.header("private-token");
    if !private.is_empty() {
        return Some((private.to_owned(), false));
    }
    let authorization = request.header("authorization");
    let (scheme, value) = authorization.split_once(' ').unwrap_or((authorization, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| (value.trim().to_owned(), true))
}

fn blocked() -> Answer {
    Answer { code: 403, ..Answer::text("Forbidden\n") }
}

impl State {
    /// The token of a request, whatever it is worth.
    pub(crate) fn token_of(&self, request: &Request) -> Option<&Token> {
        let (secret, _) = secret(request)?;
        self.tokens.iter().find(|token| token.secret == secret)
    }

    /// Who asks, if anybody; refused if the credentials are no good, or not for this.
    pub(crate) fn authenticate(&mut self, request: &Request, parts: &[&str]) -> Outcome<Option<Identity>> {
        let Some((secret, bearer)) = secret(request) else {
            let job = !request.header("job-token").is_empty();
            return if job { Err(answer::unauthorized()) } else { Ok(None) };
        };
        let now = self.now();
        let found = self.tokens.iter_mut().find(|token| token.secret == secret);
        let token = found.ok_or_else(answer::unauthorized)?;
        let spec = &token.spec;
        if spec.ip_blocked {
            return Err(blocked());
        }
        match spec.kind {
            TokenKind::Job | TokenKind::Deploy => return Err(answer::unauthorized()),
            TokenKind::Oauth if !bearer => return Err(answer::unauthorized()),
            _ => {}
        }
        let today = now.to_string();
        if spec.expires_at.as_deref().is_some_and(|day| day <= &today[..10]) {
            let why = "Token is expired. You can either do re-authorization or token refresh.";
            return Err(answer::oauth(401, "invalid_token", why));
        }
        if spec.revoked {
            let why = "Token was revoked. You have to re-authorize from the user.";
            return Err(answer::oauth(401, "invalid_token", why));
        }
        if spec.dpop {
            return Err(answer::oauth(401, "dpop_error", "DPoP validation error: DPoP header is missing"));
        }
        let about_itself = parts.starts_with(&["personal_access_tokens", "self"]);
        if about_itself && spec.kind == TokenKind::Oauth {
            return Err(answer::unauthorized());
        }
        let gate = gate(&request.method, parts);
        let has = |wanted: &str| spec.scopes.iter().any(|scope| scope == wanted);
        if spec.kind == TokenKind::FineGrained {
            if !about_itself && !gate.permission.is_empty() && !has(gate.permission) {
                let why = format!(
                    "Access denied: Your Personal Access Token lacks the required permissions: [{}]",
                    gate.permission
                );
                return Err(answer::oauth(403, "insufficient_granular_scope", &why));
            }
        } else if !about_itself && !gate.scopes.iter().any(|scope| has(scope)) {
            return Err(answer::insufficient_scope(&gate.scopes));
        }
        token.last_used = Some(now);
        Ok(Some(Identity { user: spec.user.clone(), token: token.clone() }))
    }
}
