//! Who asks, by which token, and whether its scopes or permissions suffice.

use super::answer::{self, Answer, Outcome};
use super::options::TokenKind;
use super::runner_lists::lies_in;
use super::runners::Scope;
use super::state::{State, Token};
use super::table::{ANY, Boundary, Gate, Route};
use crate::wire::Request;

/// Somebody with a token that works.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) token: Token,
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
    pub(crate) fn authenticate(
        &mut self,
        request: &Request,
        route: &Route,
        parts: &[&str],
    ) -> Outcome<Option<Identity>> {
        let Some((secret, bearer)) = secret(request) else {
            let job = !request.header("job-token").is_empty();
            return if job { Err(answer::unauthorized()) } else { Ok(None) };
        };
        let now = self.now();
        let found = self.tokens.iter().find(|token| token.secret == secret);
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
            let why = "This endpoint requires token type to be a personal access token";
            return Err(answer::bad_request(why));
        }
        let identity = Identity { user: spec.user.clone(), token: token.clone() };
        if let Some(gate) = &route.gate {
            self.check_reach(&identity.token, gate, request, parts)?;
        }
        if let Some(token) = self.tokens.iter_mut().find(|token| token.secret == secret) {
            token.last_used = Some(now);
        }
        Ok(Some(identity))
    }

    /// Refuses a token whose scopes or permissions do not suffice.
    fn check_reach(&self, token: &Token, gate: &Gate, request: &Request, parts: &[&str]) -> Outcome<()> {
        let spec = &token.spec;
        let has = |wanted: &str| spec.scopes.iter().any(|scope| scope == wanted);
        if spec.kind == TokenKind::FineGrained {
            let place = self.place(gate.boundary, parts);
            let within = |path: &String| spec.within.iter().any(|at| at == path || lies_in(path, at));
            let reaches = spec.within.is_empty() || place.as_ref().is_none_or(within);
            if has(gate.permission) && reaches {
                return Ok(());
            }
            let place = place.map(|path| format!(" for \"{path}\"")).unwrap_or_default();
            let why = format!(
                "Access denied: Your Personal Access Token lacks the required permissions: [{}]{place}.",
                gate.permission
            );
            return Err(answer::oauth(403, "insufficient_granular_scope", &why));
        }
        if gate.scopes.contains(&ANY) {
            return Ok(());
        }
        let mut scopes = vec!["api"];
        if matches!(request.method.as_str(), "GET" | "HEAD") {
            scopes.push("read_api");
        }
        // The gate of manage_runner is a pattern of the whole path, which a relative root is part of.
        let rooted = self.options.relative_root.is_empty();
        scopes.extend(gate.scopes.iter().filter(|scope| rooted || **scope != "manage_runner"));
        if scopes.iter().any(|scope| has(scope)) { Ok(()) } else { Err(answer::insufficient_scope(&scopes)) }
    }

    /// The path of the project or group that a permission must be of.
    fn place(&self, boundary: Boundary, parts: &[&str]) -> Option<String> {
        let name = parts.get(1).copied().unwrap_or_default();
        let project = |id: &u64| self.projects.get(id).map(|project| project.spec.path.clone());
        let group = |id: &u64| self.groups.get(id).map(|group| group.path.clone());
        match (boundary, parts.first().copied()) {
            (Boundary::User | Boundary::Instance, _) => None,
            (Boundary::Runner, _) => match &self.runners.get(&name.parse().ok()?)?.scope {
                Scope::Instance => None,
                Scope::Group(id) => group(id),
                Scope::Projects(ids) => ids.first().and_then(project),
            },
            (Boundary::Place, Some("groups")) => match name.parse() {
                Ok(id) => group(&id),
                Err(_) => Some(name.to_owned()),
            },
            (Boundary::Place, _) => match name.parse() {
                Ok(id) => project(&id),
                Err(_) => Some(name.to_owned()),
            },
        }
    }
}
