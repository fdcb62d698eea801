//! What a runner does with its own token: everything but jobs.

use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::params::Params;
use super::runners::{Manager, Scope};
use super::state::State;

impl State {
    /// The runner of a token that still lives.
    pub(crate) fn runner_of(&self, token: &str) -> Option<u64> {
        let found = self.runners.values().find(|runner| runner.token == token)?;
        let lives = found.token_expires.is_none_or(|end| end > self.now());
        lives.then_some(found.id)
    }

    /// The runner that the parameters are from.
    pub(crate) fn authenticate_runner(&self, params: &mut Params) -> Outcome<u64> {
        let token = params.required_text("token");
        params.done()?;
        self.runner_of(&token).ok_or_else(|| answer::forbidden(""))
    }

    /// Notes that a machine with this runner's token is alive.
    pub(crate) fn contact(&mut self, runner: u64, system_id: &str, info: &Value) {
        let now = self.now();
        let id = self.fresh("manager");
        let Some(runner) = self.runners.get_mut(&runner) else { return };
        runner.contacted = Some(now);
        let at = runner.managers.iter().position(|manager| manager.system_id == system_id);
        let at = at.unwrap_or_else(|| {
            runner.managers.push(Manager {
                id,
                system_id: system_id.to_owned(),
                version: String::new(),
                revision: String::new(),
                platform: String::new(),
                architecture: String::new(),
                created: now,
                contacted: now,
            });
            runner.managers.len() - 1
        });
        let manager = &mut runner.managers[at];
        manager.contacted = now;
        let fields = [
            ("version", &mut manager.version),
            ("revision", &mut manager.revision),
            ("platform", &mut manager.platform),
            ("architecture", &mut manager.architecture),
        ];
        for (name, field) in fields {
            if let Some(value) = info[name].as_str() {
                value.clone_into(field);
            }
        }
    }

    /// Whether what a runner belongs to is gone.
    fn is_orphan(&self, runner: u64) -> bool {
        match self.runners.get(&runner).map(|runner| &runner.scope) {
            Some(Scope::Group(id)) => !self.groups.contains_key(id),
            Some(Scope::Projects(ids)) => !ids.iter().any(|id| self.projects.contains_key(id)),
            _ => false,
        }
    }
}

/// The machine's name; those that do not say it are all one.
pub(crate) fn system_id(params: &mut Params) -> String {
    params.text("system_id").filter(|id| !id.is_empty()).unwrap_or_else(|| "<legacy>".to_owned())
}

/// `POST /runners/verify`.
pub(crate) fn verify(state: &mut State, params: &mut Params) -> Outcome {
    let id = state.authenticate_runner(params)?;
    if state.is_orphan(id) {
        return Err(answer::message(422, "Runner is orphaned"));
    }
    let system_id = system_id(params);
    state.contact(id, &system_id, params.raw("info"));
    let runner = &state.runners[&id];
    let expires = runner.token_expires.map(State::shown);
    Ok(Answer::json(200, &json!({"id": id, "token": runner.token, "token_expires_at": expires})))
}

/// `DELETE /runners`: the runner with all its managers.
pub(crate) fn delete(state: &mut State, params: &mut Params) -> Outcome {
    let id = state.authenticate_runner(params)?;
    state.runners.remove(&id);
    Ok(answer::no_content())
}

/// `DELETE /runners/managers`: one machine.
pub(crate) fn delete_manager(state: &mut State, params: &mut Params) -> Outcome {
    params.required_text("token");
    let system_id = params.required_text("system_id");
    params.done()?;
    let id = state.authenticate_runner(params)?;
    let managers = &mut state.runners.get_mut(&id).expect("it was just found").managers;
    let before = managers.len();
    managers.retain(|manager| manager.system_id != system_id);
    if managers.len() == before {
        return Err(answer::not_found("Runner manager"));
    }
    Ok(answer::no_content())
}

/// `POST /runners/reset_authentication_token`.
pub(crate) fn reset(state: &mut State, params: &mut Params) -> Outcome {
    let id = state.authenticate_runner(params)?;
    state.reset_token(id)
}
