//! From a path to what it means.

use jiff::SignedDuration;

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::options::Role;
use super::params::Params;
use super::projects::{self, Project};
use super::state::State;
use super::table::{self, Route, To};
use super::{
    commits, create_runner, jobs, members, pipelines, protocol, repository, runner_lists, runner_tokens,
    runners,
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

/// A write while nothing can be written.
fn closed(state: &State, request: &Request) -> Option<Answer> {
    if matches!(request.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    if state.maintenance {
        return Some(answer::message(503, "GitLab Maintenance: system is in maintenance mode"));
    }
    // lib/gitlab/middleware/read_only/controller.rb: what is not JSON is taken for a browser's, and led to the
    // page that it came from.
    state.read_only.then(|| {
        if request.content_type() == "application/json" {
            return answer::message(403, "You cannot perform write operations on a read-only instance");
        }
        let mut answer = Answer { code: 301, ..answer::no_content() };
        answer.headers.push(("Location".to_owned(), format!("{}/", state.url)));
        answer
    })
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
    if let Some(refusal) = closed(state, request) {
        return refusal;
    }
    state.drop_stuck_jobs();
    let Some(route) = table::find(&request.method, &parts).filter(|route| state.has(route)) else {
        return answer::no_route();
    };
    let outcome = if route.gate.is_none() {
        // Runners that poll are not counted, or each test would have to count them.
        of_runners(state, request, route, &parts)
    } else {
        state.throttle(request).and_then(|()| of_users(state, request, route, &parts))
    };
    outcome.unwrap_or_else(|refusal| refusal)
}

/// The routes for which a runner's or a job's token stands in the body or in a header of its own.
fn of_runners(state: &mut State, request: &Request, route: &Route, parts: &[&str]) -> Outcome {
    // A log is no parameter.
    if route.to == To::AppendTrace {
        return protocol::trace(state, parts[1], request);
    }
    let params = &mut Params::of(request)?;
    match route.to {
        To::RegisterRunner => create_runner::register(state, params),
        To::DeleteByToken => runner_tokens::delete(state, params),
        To::Verify => runner_tokens::verify(state, params),
        To::DeleteManager => runner_tokens::delete_manager(state, params),
        To::ResetByToken => runner_tokens::reset(state, params),
        To::RequestJob => protocol::request(state, params),
        To::UpdateJob => protocol::update(state, parts[1], params),
        _ => Err(answer::message(501, "501 Not Implemented")),
    }
}

fn of_users(state: &mut State, request: &Request, route: &Route, parts: &[&str]) -> Outcome {
    let who = state.authenticate(request, route, parts)?;
    let params = Params::of(request);
    if route.to == To::CreateCommit && params.as_ref().is_err_and(|refusal| refusal.code == 415) {
        return Err(answer::bad_request("The content type is not supported"));
    }
    let params = &mut params?;
    if let ["projects", name, rest @ ..] = parts {
        return of_project(state, request, who.as_ref(), params, (route.to, name, rest));
    }
    let who = &who.ok_or_else(answer::unauthorized)?;
    let id = parts.get(1).copied().unwrap_or_default();
    match route.to {
        To::CreateRunner => create_runner::create(state, who, params),
        To::User => Ok(projects::user(state, who)),
        To::Version => Ok(projects::version(state, false)),
        To::Metadata => Ok(projects::version(state, true)),
        To::Token => Ok(projects::token(state, who)),
        To::Associations => {
            let least = params.integer("min_access_level").unwrap_or_default();
            params.done()?;
            Ok(projects::associations(state, who, least))
        }
        To::OwnedRunners => runner_lists::owned(state, who, request, params),
        To::AllRunners => runner_lists::all(state, who, request, params),
        To::Runner => runners::show(state, who, id, params),
        To::Managers => runners::managers(state, who, id),
        To::RunnerJobs => runners::jobs(state, who, id, request, params),
        To::UpdateRunner => runners::update(state, who, id, params),
        To::DeleteRunner => runners::delete(state, who, id, request),
        To::ResetRunner => runners::reset(state, who, id),
        To::Group => Ok(projects::show_group(state, state.find_group(who, id)?)),
        To::GroupMember => {
            let path = state.find_group(who, id)?.path.clone();
            members::show(state, &path, parts[4])
        }
        To::GroupRunners => {
            let group = state.find_group(who, id)?.id;
            runner_lists::of_group(state, who, group, request, params)
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
    (to, name, rest): (To, &str, &[&str]),
) -> Outcome {
    let head = request.method == "HEAD";
    let reads = head || request.method == "GET";
    if who.is_none() && (!reads || to == To::ProjectRunners) {
        return Err(answer::unauthorized());
    }
    let Some(project) = state.find_project(who, name) else {
        if let Some(project) = state.moved_project(who, name) {
            return Err(moved(state, request, project));
        }
        return Err(answer::not_found("Project"));
    };
    let id = project.id;
    match to {
        To::Project => return Ok(projects::show(state, who, project)),
        To::ProjectMember => {
            who.ok_or_else(answer::unauthorized)?;
            let path = project.spec.path.clone();
            return members::show(state, &path, rest[2]);
        }
        _ => {}
    }
    // What is public may be read by anybody; the rest of what is here wants a reporter at least.
    if !project.spec.public {
        let who = who.ok_or_else(answer::unauthorized)?;
        state.need(who, project, Role::Reporter)?;
    }
    let third = rest.get(1).copied().unwrap_or_default();
    let fourth = rest.get(2).copied().unwrap_or_default();
    match to {
        To::File => return repository::file(project, fourth, head, params),
        To::Branches => return repository::branches(state, who, project, request, params),
        To::Branch => return repository::branch(state, who, project, fourth),
        To::Commits => return repository::commits(state, project, request, params),
        To::Commit => return repository::show_commit(state, project, fourth),
        To::Pipelines => return pipelines::list(state, project, request, params),
        To::Pipeline => return pipelines::show(state, project, third),
        To::PipelineJobs => return pipelines::jobs(state, project, third, request, params),
        To::Job => return jobs::show(state, project, third),
        To::Trace => return jobs::trace(state, project, third),
        _ => {}
    }
    let who = who.ok_or_else(answer::unauthorized)?;
    match to {
        To::ProjectRunners => runner_lists::of_project(state, who, id, request, params),
        To::LintCommitted => jobs::lint(state, who, id, false, params),
        To::Lint => jobs::lint(state, who, id, true, params),
        To::CreateCommit => commits::create(state, who, id, params),
        To::RevertCommit => commits::revert(state, who, id, fourth, params),
        To::DeleteBranch => commits::delete_branch(state, who, id, fourth),
        To::CreatePipeline => pipelines::create(state, who, id, params),
        To::CancelPipeline => pipelines::cancel(state, who, id, third),
        _ => Err(answer::no_route()),
    }
}
