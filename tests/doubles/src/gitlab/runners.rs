//! Runners and their managers: what they are, who may see and change them, and how they are shown.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::page::paginate;
use super::params::Params;
use super::state::State;
use crate::wire::Request;

/// Whose jobs a runner takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Instance,
    Group(u64),
    Projects(Vec<u64>),
}

impl Scope {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Instance => "instance_type",
            Self::Group(_) => "group_type",
            Self::Projects(_) => "project_type",
        }
    }
}

/// A machine that works under a runner's token.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    pub(crate) id: u64,
    pub(crate) system_id: String,
    pub(crate) version: String,
    pub(crate) revision: String,
    pub(crate) platform: String,
    pub(crate) architecture: String,
    pub(crate) created: Timestamp,
    pub(crate) contacted: Timestamp,
}

/// A runner.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) settings: Settings,
    pub(crate) token: String,
    /// Whether it was registered by a registration token.
    pub(crate) legacy: bool,
    pub(crate) token_expires: Option<Timestamp>,
    /// From then on the token is not renewed; cleared by a renewal.
    pub(crate) rotation_deadline: Option<Timestamp>,
    pub(crate) created: Timestamp,
    pub(crate) creator: Option<String>,
    pub(crate) managers: Vec<Manager>,
    pub(crate) contacted: Option<Timestamp>,
}

/// What can be set on a runner.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) description: Option<String>,
    pub(crate) maintenance_note: Option<String>,
    pub(crate) paused: bool,
    pub(crate) locked: bool,
    pub(crate) run_untagged: bool,
    pub(crate) access_level: String,
    pub(crate) tags: Vec<String>,
    pub(crate) maximum_timeout: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            description: None,
            maintenance_note: None,
            paused: false,
            locked: false,
            run_untagged: true,
            access_level: "not_protected".to_owned(),
            tags: Vec::new(),
            maximum_timeout: None,
        }
    }
}

const LEVELS: &[&str] = &["not_protected", "ref_protected"];

impl Settings {
    /// Takes over what the parameters say.
    pub(crate) fn set(&mut self, params: &mut Params) {
        if params.has("description") {
            self.description = params.text("description");
        }
        if params.has("maintenance_note") {
            self.maintenance_note = params.text("maintenance_note");
        }
        if let Some(active) = params.boolean("active") {
            self.paused = !active;
        }
        self.paused = params.boolean("paused").unwrap_or(self.paused);
        self.locked = params.boolean("locked").unwrap_or(self.locked);
        self.run_untagged = params.boolean("run_untagged").unwrap_or(self.run_untagged);
        if let Some(level) = params.choice("access_level", LEVELS) {
            self.access_level = level;
        }
        if let Some(tags) = params.list("tag_list") {
            self.tags.clear();
            for tag in tags {
                if !self.tags.contains(&tag) {
                    self.tags.push(tag);
                }
            }
        }
        if params.has("maximum_timeout") {
            self.maximum_timeout = params.integer("maximum_timeout");
        }
    }

    /// What the model finds wrong, by attribute.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.tags.is_empty() && !self.run_untagged {
            let why = "can not be empty when runner is not allowed to pick untagged jobs";
            problems.push(("tags_list", why.to_owned()));
        }
        if self.tags.len() > 50 {
            let why = "Too many tags specified. Please limit the number of tags to 50";
            problems.push(("tags_list", why.to_owned()));
        }
        if self.maximum_timeout.is_some_and(|seconds| seconds < 600) {
            problems.push(("maximum_timeout", "needs to be at least 10 minutes".to_owned()));
        }
        let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > 1024);
        if too_long(&self.description) {
            problems.push(("description", "is too long (maximum is 1024 characters)".to_owned()));
        }
        if too_long(&self.maintenance_note) {
            problems.push(("maintenance_note", "is too long (maximum is 1024 characters)".to_owned()));
        }
        problems
    }
}

/// Problems as the API shows those of a model.
pub(crate) fn validation(problems: &[(&'static str, String)]) -> Answer {
    let mut shown = json!({});
    for (attribute, problem) in problems {
        if !shown[*attribute].is_array() {
            shown[*attribute] = json!([]);
        }
        if let Some(list) = shown[*attribute].as_array_mut() {
            list.push(problem.as_str().into());
        }
    }
    answer::invalid(&shown)
}

const ONLINE: SignedDuration = SignedDuration::from_hours(2);
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

fn status(now: Timestamp, created: Timestamp, contacted: Option<Timestamp>) -> &'static str {
    let since = now.duration_since(contacted.unwrap_or(created));
    match contacted {
        _ if since > STALE => "stale",
        None => "never_contacted",
        Some(_) if since > ONLINE => "offline",
        Some(_) => "online",
    }
}

impl State {
    /// Whether a job runs on it just now.
    fn is_busy(&self, runner: u64) -> bool {
        self.jobs.values().any(|job| job.runner == Some(runner) && job.status == "running")
    }

    pub(crate) fn runner_status(&self, runner: &Runner) -> &'static str {
        status(self.now(), runner.created, runner.contacted)
    }

    /// As in lists: little, and neither tags nor the maintenance note.
    pub(crate) fn brief(&self, runner: &Runner) -> Value {
        let status = self.runner_status(runner);
        let online = runner.contacted.map(|_| status == "online");
        // What REST calls status has this word of old, too (deprecated_rest_status); machines have not.
        let status = match status {
            "online" | "offline" if runner.settings.paused => "paused",
            other => other,
        };
        let creator = runner.creator.as_ref().and_then(|name| Some((name, self.users.get(name)?)));
        json!({
            "id": runner.id, "description": runner.settings.description, "ip_address": null,
            "active": !runner.settings.paused, "paused": runner.settings.paused,
            "is_shared": runner.scope == Scope::Instance, "runner_type": runner.scope.kind(), "name": null,
            "online": online, "created_at": State::shown(runner.created),
            "created_by": creator.map(|(name, user)| json!({"id": user.id, "username": name, "name": name})),
            "status": status, "job_execution_status": if self.is_busy(runner.id) { "active" } else { "idle" },
        })
    }

    fn details(&self, who: &Identity, runner: &Runner, with_projects: bool) -> Value {
        let mut shown = self.brief(runner);
        let settings = &runner.settings;
        shown["tag_list"] = json!(settings.tags);
        shown["run_untagged"] = settings.run_untagged.into();
        shown["locked"] = settings.locked.into();
        shown["maximum_timeout"] = settings.maximum_timeout.into();
        shown["access_level"] = settings.access_level.as_str().into();
        shown["maintenance_note"] = settings.maintenance_note.clone().into();
        shown["contacted_at"] = runner.contacted.map(State::shown).into();
        for field in ["version", "revision", "platform", "architecture"] {
            shown[field] = "".into();
        }
        if with_projects {
            let ids = match &runner.scope {
                Scope::Projects(ids) => ids.clone(),
                _ => Vec::new(),
            };
            let seen = ids.iter().filter_map(|id| self.projects.get(id));
            let seen = seen.filter(|project| self.role(&who.user, &project.spec.path).is_some());
            shown["projects"] = seen.map(|project| self.project_reference(project)).collect();
        }
        let group = match &runner.scope {
            Scope::Group(id) => self.groups.get(id),
            _ => None,
        };
        shown["groups"] = group
            .map(|group| {
                let name = group.path.rsplit('/').next();
                json!({"id": group.id, "name": name, "web_url": format!("{}/groups/{}", self.url, group.path)})
            })
            .into_iter()
            .collect();
        shown
    }

    fn settled_runner(&self, id: &str) -> Outcome<&Runner> {
        let found = self.known_runner(id)?;
        if self.is_settled(found.created) { Ok(found) } else { Err(answer::not_found("Runner")) }
    }

    /// Writes look at the primary, which does not lag.
    fn known_runner(&self, id: &str) -> Outcome<&Runner> {
        let id: u64 = id.parse().map_err(|_| answer::parameters(&["id is invalid".to_owned()]))?;
        self.runners.get(&id).ok_or_else(|| answer::not_found("Runner"))
    }

    fn check_show(&self, who: &Identity, runner: &Runner) -> Outcome<()> {
        let shown = runner.scope == Scope::Instance || self.may_administer(&who.user, &runner.scope);
        if shown { Ok(()) } else { Err(answer::forbidden("No access granted")) }
    }

    fn check_change(&self, who: &Identity, runner: &Runner) -> Outcome<()> {
        if self.may_administer(&who.user, &runner.scope) {
            Ok(())
        } else {
            Err(answer::forbidden("No access granted"))
        }
    }
}

/// `GET /runners/:id`.
pub(crate) fn show(state: &State, who: &Identity, id: &str, params: &mut Params) -> Outcome {
    let with_projects = params.boolean("include_projects").unwrap_or(true);
    params.done()?;
    let runner = state.settled_runner(id)?;
    state.check_show(who, runner)?;
    Ok(Answer::json(200, &state.details(who, runner, with_projects)))
}

/// `GET /runners/:id/managers`: all of them, in no pages.
pub(crate) fn managers(state: &State, who: &Identity, id: &str) -> Outcome {
    let runner = state.settled_runner(id)?;
    state.check_show(who, runner)?;
    let now = state.now();
    let status_of_jobs = if state.is_busy(runner.id) { "active" } else { "idle" };
    let rows: Vec<Value> = runner
        .managers
        .iter()
        .rev()
        .map(|manager| {
            json!({
                "id": manager.id, "system_id": manager.system_id, "version": manager.version,
                "revision": manager.revision, "platform": manager.platform,
                "architecture": manager.architecture, "created_at": State::shown(manager.created),
                "contacted_at": State::shown(manager.contacted), "ip_address": "127.0.0.1",
                "status": status(now, manager.created, Some(manager.contacted)),
                "job_execution_status": status_of_jobs,
            })
        })
        .collect();
    Ok(Answer::json(200, &Value::from(rows)))
}

/// The statuses of a job (`Ci::HasStatus`).
const JOB_STATUSES: &[&str] = &[
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];

/// `GET /runners/:id/jobs`.
pub(crate) fn jobs(
    state: &State,
    who: &Identity,
    id: &str,
    request: &Request,
    params: &mut Params,
) -> Outcome {
    let wanted = params.choice("status", JOB_STATUSES);
    params.done()?;
    let runner = state.settled_runner(id)?;
    state.check_change(who, runner)?;
    let of_runner = state.jobs.values().rev().filter(|job| job.runner == Some(runner.id));
    let rows: Vec<Value> = of_runner
        .filter(|job| wanted.as_ref().is_none_or(|wanted| *wanted == job.status))
        .map(|job| state.job_json(job))
        .collect();
    paginate(state, request, params, &rows)
}

const SETTABLE: &[&str] = &[
    "description",
    "active",
    "paused",
    "tag_list",
    "run_untagged",
    "locked",
    "access_level",
    "maximum_timeout",
    "maintenance_note",
];

/// `PUT /runners/:id`.
pub(crate) fn update(state: &mut State, who: &Identity, id: &str, params: &mut Params) -> Outcome {
    if !SETTABLE.iter().any(|name| params.has(name)) {
        let problem = format!("{} are missing, at least one parameter must be provided", SETTABLE.join(", "));
        return Err(answer::parameters(&[problem]));
    }
    if params.has("active") && params.has("paused") {
        return Err(answer::parameters(&["active, paused are mutually exclusive".to_owned()]));
    }
    let runner = state.known_runner(id)?.clone();
    let mut settings = runner.settings.clone();
    settings.set(params);
    params.done()?;
    state.check_change(who, &runner)?;
    let problems = settings.problems();
    if !problems.is_empty() {
        return Err(validation(&problems));
    }
    state.queue += 1;
    let changed = Runner { settings, ..runner };
    let shown = state.details(who, &changed, true);
    state.runners.insert(changed.id, changed);
    Ok(Answer::json(200, &shown))
}

/// `DELETE /runners/:id`.
pub(crate) fn delete(state: &mut State, who: &Identity, id: &str, request: &Request) -> Outcome {
    let runner = state.known_runner(id)?;
    let many = matches!(&runner.scope, Scope::Projects(ids) if ids.len() > 1);
    if many && !state.is_admin(&who.user) {
        return Err(answer::forbidden("Runner associated with more than one project"));
    }
    state.check_change(who, runner)?;
    let since = request.header("if-unmodified-since");
    let since = jiff::fmt::rfc2822::parse(since).ok().map(|time| time.timestamp());
    if since.is_some_and(|since| runner.created > since) {
        return Err(answer::message(412, "412 Precondition Failed"));
    }
    let id = runner.id;
    state.runners.remove(&id);
    Ok(answer::no_content())
}

/// `POST /runners/:id/reset_authentication_token`.
pub(crate) fn reset(state: &mut State, who: &Identity, id: &str) -> Outcome {
    let runner = state.known_runner(id)?;
    state.check_change(who, runner)?;
    let id = runner.id;
    state.reset_token(id)
}

impl State {
    /// Gives a runner another token, as long as it may be renewed; the old one is dead at once.
    pub(crate) fn reset_token(&mut self, id: u64) -> Outcome {
        let Some(runner) = self.runners.get(&id) else { return Err(answer::not_found("Runner")) };
        if runner.rotation_deadline.is_some_and(|deadline| deadline <= self.now()) {
            return Err(Answer::json(403, &json!({"error": "Token rotation deadline has passed"})));
        }
        let token = self.runner_token(&runner.scope, runner.legacy);
        let expires = self.configured_expiry();
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.token.clone_from(&token);
            runner.token_expires = expires;
            runner.rotation_deadline = None;
        }
        Ok(Answer::json(201, &json!({"token": token, "token_expires_at": expires.map(State::shown)})))
    }
}
