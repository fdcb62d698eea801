//! The lists of runners and their filters.

use serde_json::Value;

use super::answer::{self, Outcome};
use super::auth::Identity;
use super::options::Role;
use super::page::paginate;
use super::params::Params;
use super::runners::{Runner, Scope};
use super::state::State;
use crate::wire::Request;

const STATUSES: &[&str] = &["active", "paused", "online", "offline", "never_contacted", "stale"];
const TYPES: &[&str] = &["instance_type", "group_type", "project_type"];

/// What a list is limited to. There is no filter by description.
struct Filter {
    kind: Option<String>,
    status: Option<String>,
    paused: Option<bool>,
    tags: Vec<String>,
    version: Option<String>,
}

impl Filter {
    fn of(params: &mut Params) -> Outcome<Self> {
        let filter = Self {
            kind: params.choice("type", TYPES),
            status: params.choice("status", STATUSES),
            paused: params.boolean("paused"),
            tags: params.list("tag_list").unwrap_or_default(),
            version: params.text("version_prefix"),
        };
        params.done()?;
        Ok(filter)
    }

    fn takes(&self, state: &State, runner: &Runner) -> bool {
        let status = state.runner_status(runner);
        let paused = runner.settings.paused;
        let status_fits = self.status.as_deref().is_none_or(|wanted| match wanted {
            "active" => !paused,
            "paused" => paused,
            "offline" => matches!(status, "offline" | "stale"),
            other => status == other,
        });
        status_fits
            && self.kind.as_deref().is_none_or(|kind| kind == runner.scope.kind())
            && self.paused.is_none_or(|wanted| wanted == paused)
            && self.tags.iter().all(|tag| runner.settings.tags.contains(tag))
            && self.version.as_ref().is_none_or(|prefix| {
                runner.managers.iter().any(|manager| manager.version.starts_with(prefix.as_str()))
            })
    }
}

fn list(state: &State, request: &Request, params: &mut Params, among: impl Fn(&Runner) -> bool) -> Outcome {
    let filter = Filter::of(params)?;
    let newest_first = state.runners.values().rev();
    let rows: Vec<Value> = newest_first
        .filter(|runner| state.is_settled(runner.created) && among(runner) && filter.takes(state, runner))
        .map(|runner| state.brief(runner))
        .collect();
    paginate(state, request, params, &rows)
}

/// `GET /runners`: those of the caller's own projects and groups.
pub(crate) fn owned(state: &State, who: &Identity, request: &Request, params: &mut Params) -> Outcome {
    list(state, request, params, |runner| {
        runner.scope != Scope::Instance && state.may_administer(&who.user, &runner.scope)
    })
}

/// `GET /runners/all`: for administrators.
pub(crate) fn all(state: &State, who: &Identity, request: &Request, params: &mut Params) -> Outcome {
    if !state.is_admin(&who.user) {
        return Err(answer::forbidden(""));
    }
    list(state, request, params, |_| true)
}

/// Whether a path lies in a group.
pub(crate) fn lies_in(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'))
}

/// `GET /projects/:id/runners`: with those of the groups above and of the instance.
pub(crate) fn of_project(
    state: &State,
    who: &Identity,
    project: u64,
    request: &Request,
    params: &mut Params,
) -> Outcome {
    let found = &state.projects[&project];
    if state.role(&who.user, &found.spec.path) < Some(Role::Maintainer) {
        return Err(answer::forbidden(""));
    }
    list(state, request, params, |runner| match &runner.scope {
        Scope::Instance => found.spec.shared_runners,
        Scope::Group(id) => state.groups.get(id).is_some_and(|group| lies_in(&found.spec.path, &group.path)),
        Scope::Projects(ids) => ids.contains(&project),
    })
}

/// `GET /groups/:id/runners`: with those of the groups above and of the instance.
pub(crate) fn of_group(
    state: &State,
    who: &Identity,
    group: u64,
    request: &Request,
    params: &mut Params,
) -> Outcome {
    let path = &state.groups[&group].path;
    if state.role(&who.user, path) < Some(Role::Owner) {
        return Err(answer::forbidden(""));
    }
    list(state, request, params, |runner| match &runner.scope {
        Scope::Instance => true,
        Scope::Group(id) => {
            *id == group || state.groups.get(id).is_some_and(|above| lies_in(path, &above.path))
        }
        Scope::Projects(_) => false,
    })
}
