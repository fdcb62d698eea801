//! From a path to what it means.

use jiff::SignedDuration;

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::options::Role;
use super::params::Params;
use super::projects::{self, Project};
use super::state::State;
use super::{
    commits, create_runner, jobs, pipelines, protocol, repository, runner_lists, runner_tokens, runners,
};
use crate::wire::{Request, decode};

/// The segments of a path below the API's root.
pub(crate) fn segments(root: &str, path: &str) -> Option<Vec<String>> {
    let rest = path.strip_prefix(root)?.strip_prefix("/api/v4/")?;
    Some(rest.trim_end_matches('/').split('/').map(|part| decode(part, false)).collect())
}

/// What lies outside of the API: pages for people.
fn page(state: &State, request: &Request) -> Answer {
    let html = |code: u16, body: &str| Answer {
        code,
        content_type: "text/html; charset=utf-8".to_owned(),
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    };
    let path = request.path.strip_prefix(&state.options.relative_root).unwrap_or("none");
    if path.trim_matches('/').is_empty() {
        let mut answer = html(302, "<html><body>You are being redirected.</body></html>");
        answer.headers.push(("Location".to_owned(), format!("{}/users/sign_in", state.url)));
        return answer;
    }
    html(
        404,
        "<!DOCTYPE html>\n<html><head><title>The page you're looking for could not be found (404)</title></head></html>\n",
    )
}

impl State {
    /// Counts a request of a caller, and refuses it if there were too many in this minute.
    fn throttle(&mut self, request: &Request) -> Outcome<()> {
        let Some(most) = self.options.throttle else { return Ok(()) };
        let caller = self.token_of(request).map(|token| token.spec.user.clone()).unwrap_or_default();
        let now = self.now();
        let minute = SignedDuration::from_mins(1);
        let window = self.seen.entry(caller).or_insert((now, 0));
        if now.duration_since(window.0) >= minute {
            *window = (now, 0);
        }
        window.1 += 1;
        if window.1 <= most {
            return Ok(());
        }
        let reset = window.0 + minute;
        let left = reset.duration_since(now).as_secs() + 1;
        let mut answer = Answer::text(&self.options.throttle_text);
        answer.code = 429;
        "text/plain".clone_into(&mut answer.content_type);
        let date = jiff::fmt::rfc2822::to_string(&reset.to_zoned(jiff::tz::TimeZone::UTC));
        for (name, value) in [
            ("Retry-After", left.to_string()),
            ("RateLimit-ResetTime", date.unwrap_or_default().replace("+0000", "GMT")),
        ] {
            answer.headers.push((name.to_owned(), value));
        }
        Err(answer)
    }

    /// The headers that tell a caller how near the throttle is.
    pub(crate) fn rate_limit(&self, request: &Request) -> Vec<(String, String)> {
        let most = self.options.throttle.unwrap_or(2000);
        let caller = self.token_of(request).map(|token| token.spec.user.clone()).unwrap_or_default();
        let (start, count) = self.seen.get(&caller).copied().unwrap_or((self.now(), 1));
        let reset = start + SignedDuration::from_mins(1);
        [
            ("RateLimit-Limit", most.to_string()),
            ("RateLimit-Name", "throttle_authenticated_api".to_owned()),
            ("RateLimit-Observed", count.to_string()),
            ("RateLimit-Remaining", most.saturating_sub(count).to_string()),
            ("RateLimit-Reset", reset.as_second().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn maintenance() -> Answer {
    let mut answer = answer::message(503, "system is in maintenance mode");
    answer.headers.push(("Retry-After".to_owned(), "60".to_owned()));
    answer
}

/// Answers a request.
pub(crate) fn answer(state: &mut State, request: &Request) -> Answer {
    let mut path = request.path.clone();
    if state.options.proxy_decodes_slashes {
        path = path.replace("%2F", "/").replace("%2f", "/");
    }
    let Some(parts) = segments(&state.options.relative_root, &path) else {
        return page(state, request);
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if state.maintenance && !matches!(request.method.as_str(), "GET" | "HEAD") {
        return maintenance();
    }
    state.drop_stuck_jobs();
    let outcome = of_runners(state, request, &parts).unwrap_or_else(|| {
        // Runners that poll are not counted, or each test would have to count them.
        state.throttle(request)?;
        of_users(state, request, &parts)
    });
    outcome.unwrap_or_else(|refusal| refusal)
}

/// The routes for which a runner's or a job's token stands in the body or in a header of its own.
fn of_runners(state: &mut State, request: &Request, parts: &[&str]) -> Option<Outcome> {
    let mut params = match Params::of(request) {
        Ok(params) => params,
        // A log is no parameter.
        Err(_) if parts.last() == Some(&"trace") => Params::default(),
        Err(refusal) => return Some(Err(refusal)),
    };
    let params = &mut params;
    Some(match (request.method.as_str(), parts) {
        ("POST", ["runners"]) => create_runner::register(state, params),
        ("DELETE", ["runners"]) => runner_tokens::delete(state, params),
        ("POST", ["runners", "verify"]) => runner_tokens::verify(state, params),
        ("DELETE", ["runners", "managers"]) => runner_tokens::delete_manager(state, params),
        ("POST", ["runners", "reset_authentication_token"]) => runner_tokens::reset(state, params),
        ("GET", ["runners", "router", "discovery"]) => Err(answer::message(501, "501 Not Implemented")),
        ("POST", ["jobs", "request"]) => protocol::request(state, params),
        ("PUT", ["jobs", id]) => protocol::update(state, id, params),
        ("PATCH", ["jobs", id, "trace"]) => protocol::trace(state, id, request),
        _ => return None,
    })
}

fn of_users(state: &mut State, request: &Request, parts: &[&str]) -> Outcome {
    let who = state.authenticate(request, parts)?;
    let params = &mut Params::of(request)?;
    let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
    if let ["projects", name, rest @ ..] = parts {
        return of_project(state, request, who.as_ref(), params, name, rest);
    }
    let who = who.ok_or_else(answer::unauthorized)?;
    match (method, parts) {
        ("POST", ["user", "runners"]) => create_runner::create(state, &who, params),
        ("GET", ["user"]) => Ok(projects::user(state, &who)),
        ("GET", ["version"]) => Ok(projects::version(state, false)),
        ("GET", ["metadata"]) => Ok(projects::version(state, true)),
        ("GET", ["personal_access_tokens", "self"]) => Ok(projects::token(state, &who)),
        ("GET", ["personal_access_tokens", "self", "associations"]) => {
            let least = params.integer("min_access_level").unwrap_or_default();
            params.done()?;
            Ok(projects::associations(state, &who, least))
        }
        ("GET", ["runners"]) => runner_lists::owned(state, &who, request, params),
        ("GET", ["runners", "all"]) => runner_lists::all(state, &who, request, params),
        ("GET", ["runners", id]) => runners::show(state, &who, id, params),
        ("GET", ["runners", id, "managers"]) => runners::managers(state, &who, id),
        ("GET", ["runners", id, "jobs"]) => runners::jobs(state, &who, id, request, params),
        ("PUT", ["runners", id]) => runners::update(state, &who, id, params),
        ("DELETE", ["runners", id]) => runners::delete(state, &who, id, request),
        ("POST", ["runners", id, "reset_authentication_token"]) => runners::reset(state, &who, id),
        ("GET", ["groups", name]) => Ok(projects::show_group(state, state.find_group(&who, name)?)),
        ("GET", ["groups", name, "members", "all", user]) => {
            projects::member(state, state.find_group(&who, name)?, user)
        }
        ("GET", ["groups", name, "runners"]) => {
            let group = state.find_group(&who, name)?.id;
            runner_lists::of_group(state, &who, group, request, params)
        }
        _ => Err(answer::no_route()),
    }
}

/// Where a project is now that was found by an old path: its id in place of the path.
fn moved(state: &State, request: &Request, project: &Project) -> Answer {
    if request.method != "GET" {
        let why = "405 Method Not Allowed - Non GET methods are not allowed for moved projects";
        return answer::message(405, why);
    }
    let rest = request.path.strip_prefix(&state.options.relative_root).unwrap_or_default();
    let rest = rest.strip_prefix("/api/v4/projects/").unwrap_or_default();
    let rest = rest.split_once('/').map_or(String::new(), |(_, rest)| format!("/{rest}"));
    let query = if request.raw_query.is_empty() { String::new() } else { format!("?{}", request.raw_query) };
    let location = format!("{}/api/v4/projects/{}{rest}{query}", state.url, project.id);
    let mut answer = Answer::text(&format!("This resource has been moved permanently to {location}."));
    answer.code = 301;
    "text/plain".clone_into(&mut answer.content_type);
    answer.headers.push(("Location".to_owned(), location));
    answer
}

fn of_project(
    state: &mut State,
    request: &Request,
    who: Option<&Identity>,
    params: &mut Params,
    name: &str,
    rest: &[&str],
) -> Outcome {
    let head = request.method == "HEAD";
    let method = if head { "GET" } else { request.method.as_str() };
    if who.is_none() && (method != "GET" || rest == ["runners"]) {
        return Err(answer::unauthorized());
    }
    let Some(project) = state.find_project(who, name) else {
        if let Some(project) = state.moved_project(who, name) {
            return Err(moved(state, request, project));
        }
        return Err(answer::not_found("Project"));
    };
    let id = project.id;
    if (method, rest) == ("GET", &[]) {
        return Ok(projects::show(state, who, project));
    }
    // What is public may be read by anybody; the rest of what is here wants a reporter at least.
    if !project.spec.public {
        let who = who.ok_or_else(answer::unauthorized)?;
        state.need(who, project, Role::Reporter)?;
    }
    match (method, rest) {
        ("GET", ["repository", "files", path]) => return repository::file(project, path, head, params),
        ("GET", ["repository", "branches"]) => {
            return repository::branches(state, who, project, request, params);
        }
        ("GET", ["repository", "branches", name]) => return repository::branch(state, who, project, name),
        ("GET", ["repository", "commits"]) => return repository::commits(state, project, request, params),
        ("GET", ["repository", "commits", sha]) => return repository::show_commit(state, project, sha),
        ("GET", ["pipelines"]) => return pipelines::list(state, project, request, params),
        ("GET", ["pipelines", id]) => return pipelines::show(state, project, id),
        ("GET", ["pipelines", id, "jobs"]) => return pipelines::jobs(state, project, id, request, params),
        ("GET", ["jobs", id]) => return jobs::show(state, project, id),
        ("GET", ["jobs", id, "trace"]) => return jobs::trace(state, project, id),
        _ => {}
    }
    let who = who.ok_or_else(answer::unauthorized)?;
    match (method, rest) {
        ("GET", ["runners"]) => runner_lists::of_project(state, who, id, request, params),
        ("GET", ["ci", "lint"]) => jobs::lint(state, who, project, false, params),
        ("POST", ["ci", "lint"]) => jobs::lint(state, who, project, true, params),
        ("POST", ["repository", "commits"]) => commits::create(state, who, id, params),
        ("POST", ["repository", "commits", sha, "revert"]) => commits::revert(state, who, id, sha, params),
        ("DELETE", ["repository", "branches", name]) => commits::delete_branch(state, who, id, name),
        ("POST", ["pipeline"]) => pipelines::create(state, who, id, params),
        ("POST", ["pipelines", pipeline, "cancel"]) => pipelines::cancel(state, who, id, pipeline),
        _ => Err(answer::no_route()),
    }
}
