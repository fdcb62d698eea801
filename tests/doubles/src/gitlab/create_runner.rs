//! New runners, and the only time that their tokens are shown.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::params::Params;
use super::runners::{Runner, Scope, Settings, validation};
use super::state::{State, friendly};
use crate::wire::random;

const MINUTE: i64 = 60;
const SHORTEST: SignedDuration = SignedDuration::from_secs(5 * MINUTE);
const LONGEST: SignedDuration = SignedDuration::from_hours(15 * 24);

impl State {
    /// A token for a runner of this kind.
    pub(crate) fn runner_token(&self, scope: &Scope, legacy: bool) -> String {
        let kind = match legacy {
            false => "glrt-",
            true if self.options.legacy_token_prefix => "glrtr-",
            true => "",
        };
        let partition = match scope {
            _ if !self.options.partitioned_tokens => "",
            Scope::Instance => "t1_",
            Scope::Group(_) => "t2_",
            Scope::Projects(_) => "t3_",
        };
        let [a, b, c, d, ..] = random::<5>();
        let routing = if self.options.routable_tokens {
            format!(".01.{a:02x}{b:02x}{c:02x}{d:02x}0")
        } else {
            String::new()
        };
        format!("{}{kind}{partition}{}{routing}", self.prefix(), friendly())
    }

    /// When a token made now ends by the administrator's will.
    pub(crate) fn configured_expiry(&self) -> Option<Timestamp> {
        let lifetime = SignedDuration::try_from(self.options.runner_token_lifetime?).ok()?;
        Some(self.now() + lifetime)
    }

    /// Stores a runner and shows its token.
    fn admit(
        &mut self,
        scope: Scope,
        settings: Settings,
        creator: Option<String>,
        (expires, rotation_deadline): (Option<Timestamp>, Option<Timestamp>),
    ) -> Answer {
        let legacy = creator.is_none();
        let (id, created) = (self.fresh("runner"), self.now());
        let token = self.runner_token(&scope, legacy);
        let shown = json!({"id": id, "token": token, "token_expires_at": expires.map(State::shown)});
        let runner = Runner {
            id,
            scope,
            settings,
            token,
            legacy,
            token_expires: expires,
            rotation_deadline,
            created,
            creator,
            managers: Vec::new(),
            contacted: None,
        };
        self.runners.insert(id, runner);
        Answer::json(201, &shown)
    }

    /// The end that the caller wants for the token, and until when it may be renewed: part of the licensed product only.
    fn wanted_expiry(&self, params: &mut Params) -> Outcome<(Option<Timestamp>, Option<Timestamp>)> {
        if !self.options.enterprise {
            return Ok((None, None));
        }
        let mut times = [None, None];
        for (slot, name) in times.iter_mut().zip(["token_expires_at", "token_rotation_deadline"]) {
            if let Some(text) = params.text(name) {
                let time = text.parse::<Timestamp>();
                *slot = Some(time.map_err(|_| answer::parameters(&[format!("{name} is invalid")]))?);
            }
        }
        let [expires, deadline] = times;
        let now = self.now();
        if let Some(expires) = expires {
            if expires < now + SHORTEST {
                return Err(answer::bad_request("token_expires_at must be at least 5 minutes in the future"));
            }
            if expires > now + LONGEST {
                return Err(answer::bad_request("token_expires_at is too far in the future"));
            }
        }
        match (expires, deadline) {
            (None, Some(_)) => {
                Err(answer::bad_request("token_rotation_deadline requires token_expires_at to be set"))
            }
            (Some(expires), Some(deadline)) if deadline > expires => {
                Err(answer::bad_request("token_rotation_deadline must not be after token_expires_at"))
            }
            times => Ok(times),
        }
    }
}

/// Problems as the service puts them into one sentence.
fn sentence(problems: &[(&'static str, String)]) -> String {
    let all: Vec<String> = problems
        .iter()
        .map(|(attribute, problem)| {
            let mut words = attribute.replace('_', " ");
            words[..1].make_ascii_uppercase();
            format!("{words} {problem}")
        })
        .collect();
    all.join(" and ")
}

/// `POST /user/runners`.
pub(crate) fn create(state: &mut State, who: &Identity, params: &mut Params) -> Outcome {
    let kinds = ["instance_type", "group_type", "project_type"];
    params.required_text("runner_type");
    let kind = params.choice("runner_type", &kinds).unwrap_or_default();
    let (mut group, mut project) = (0, 0);
    match kind.as_str() {
        "group_type" => group = params.required_integer("group_id"),
        "project_type" => project = params.required_integer("project_id"),
        _ => {}
    }
    let mut settings = Settings::default();
    settings.set(params);
    params.done()?;
    // Rows are looked up by id, whoever sees them: only what is not there at all has an answer of its own.
    let scope = match kind.as_str() {
        "group_type" => {
            let id = u64::try_from(group).ok().filter(|id| state.groups.contains_key(id));
            Scope::Group(id.ok_or_else(|| answer::bad_request("Missing/invalid group"))?)
        }
        "project_type" => {
            let id = u64::try_from(project).ok().filter(|id| state.projects.contains_key(id));
            Scope::Projects(vec![id.ok_or_else(|| answer::bad_request("Missing/invalid project"))?])
        }
        _ => Scope::Instance,
    };
    if !state.may_create(&who.user, &scope) {
        return Err(answer::forbidden("Insufficient permissions"));
    }
    let (expires, deadline) = state.wanted_expiry(params)?;
    let expires = expires.or_else(|| state.configured_expiry());
    let problems = settings.problems();
    if !problems.is_empty() {
        return Err(answer::bad_request(&sentence(&problems)));
    }
    Ok(state.admit(scope, settings, Some(who.user.clone()), (expires, deadline)))
}

/// `POST /runners`: the old way, by a registration token.
pub(crate) fn register(state: &mut State, params: &mut Params) -> Outcome {
    let token = params.required_text("token");
    let mut settings = Settings { locked: false, ..Settings::default() };
    settings.set(params);
    params.done()?;
    if !state.options.registration_allowed {
        return Err(answer::message(410, "410 Gone - runner registration disallowed"));
    }
    let project = state.projects.values().find(|project| project.registration_token == token);
    let group = state.groups.values().find(|group| group.registration_token == token);
    let scope = match (project, group) {
        (Some(project), _) => Scope::Projects(vec![project.id]),
        (None, Some(group)) => Scope::Group(group.id),
        (None, None) if token == state.instance_registration_token => Scope::Instance,
        (None, None) => return Err(answer::forbidden("invalid token supplied")),
    };
    let problems = settings.problems();
    if !problems.is_empty() {
        return Err(validation(&problems));
    }
    let info: &Value = params.raw("info");
    if settings.description.is_none() {
        settings.description = info["name"].as_str().map(str::to_owned);
    }
    let expires = state.configured_expiry();
    Ok(state.admit(scope, settings, None, (expires, None)))
}
