//! Finds the runner by the id in record or anchor, or by its mark.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::Value;

use super::{Found, Ours, serves};
use crate::base::error::{Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::deployment::mark::{self, Marked, Marks};
use crate::deployment::ownership::Evidence;
use crate::deployment::record::RunnerNote;
use crate::gitlab::facts::instance;
use crate::gitlab::view::View;
use crate::gitlab::{Class, Gitlab, Manager, Refusal, Route, Runner, Scope};

/// The maximum lag of GitLab's replicas after a creation.
const LAG: Duration = Duration::from_secs(10);

/// The runner's data in record and anchor; only hints.
pub(super) struct Trace {
    id: Option<u64>,
    /// Whether the id is from the record, not from the anchor.
    recorded: bool,
    /// The start of an unfinished creation.
    intent: Option<String>,
    /// Whether the user provided the runner's token.
    pub(super) given: bool,
    /// The remaining lag of replicas.
    lag: Duration,
}

pub(super) fn trace(view: &View) -> Trace {
    let known = view.notes.record().gitlab.clone();
    let mut trace = Trace {
        id: known.owned().map(|runner| runner.id),
        recorded: known.owned().is_some(),
        given: known.given,
        lag: lag(known.owned().map_or("", |runner| runner.made.as_str()), view.run.now),
        intent: if let RunnerNote::Creating(since) = known.runner { Some(since) } else { None },
    };
    if !trace.recorded && !trace.given {
        let noted = view.notes.noted(crate::deployment::names::RUNNER);
        let noted = noted.as_deref();
        trace.id = noted.and_then(|noted| noted.parse().ok());
        // Another machine may have written the annotation just now.
        trace.lag = if trace.id.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        // Only runners that outrigger created have a mark.
        let marked = view.notes.confirmed.as_ref().is_some_and(|confirmed| confirmed.by == Evidence::Mark);
        trace.given = noted == Some(crate::deployment::names::GIVEN) && trace.intent.is_none() && !marked;
    }
    trace
}

/// Finds the runner by its id in record or anchor, or by its mark if one may have been created. Fails as
/// [`super::verdict`] does.
pub async fn find(view: &View) -> Result<Found> {
    let Trace { id: hint, recorded, intent, lag, .. } = trace(view);
    if view.access.client.is_none() {
        return match (hint, &intent) {
            (None, None) => Ok(Found::None),
            _ => Ok(Found::Skipped(view.access.why_not.clone())),
        };
    }
    if let Some(id) = hint {
        match by_id(view, id, lag, recorded).await? {
            Found::None if recorded && intent.is_none() => return Ok(Found::None),
            Found::None => {}
            found => return Ok(found),
        }
    }
    // The deployment's id is new.
    let fresh = !view.notes.recorded && view.notes.confirmed.is_none();
    if fresh || (!is_scoped(view) && intent.is_none()) {
        return Ok(Found::None);
    }
    let young = intent.as_deref().is_some_and(|time| !self::lag(time, view.run.now).is_zero());
    // Each creation is recorded before it starts: a record without an intent proves that no creation started.
    let not_started = view.notes.recorded && intent.is_none();
    let forbidden = |failure: &Failure| matches!(failure.id, Id::GitlabForbidden | Id::UnfinishedCreation);
    match by_mark(view, young).await {
        Err(failure) if not_started && forbidden(&failure) => Ok(Found::None),
        found => found,
    }
}

/// Whether the settings contain the runner's project, group or instance.
fn is_scoped(view: &View) -> bool {
    let settings = &view.run.settings;
    settings.project.is_some() || settings.group.is_some() || settings.instance_runner
}

/// The remaining lag of replicas after a creation at this time (RFC 3339).
fn lag(made: &str, now: jiff::Timestamp) -> Duration {
    let Ok(made) = made.parse::<jiff::Timestamp>() else { return Duration::ZERO };
    let age = u64::try_from(now.as_second() - made.as_second()).unwrap_or(0);
    LAG.saturating_sub(Duration::from_secs(age))
}

/// The runner with this id, if it is ours. A 404 is retried for `lag`. Fails with OR0703 (exit 7) for a `recorded`
/// runner without our mark, so that no second one is created.
async fn by_id(view: &View, id: u64, lag: Duration, recorded: bool) -> Result<Found> {
    let gitlab = view.client()?;
    let number = id.to_string();
    let what = format!("read runner {id}");
    let route = Route::of(&["runners", &number]);
    let look = async || {
        Ok(match gitlab.get_opt(&what, &route).await {
            Ok(None) => Continue(()),
            other => Break(other),
        })
    };
    let pace = Pace::new(&view.limits, 100, 2000).within(lag);
    let answer = wait::until(pace, |(), _| {}, look).await?.unwrap_or(Ok(None));
    let value = match answer {
        Ok(Some(value)) => value,
        Ok(None) => return Ok(Found::None),
        // The id in the anchor is that of another user's runner.
        Err(refusal) if refusal.class == Class::Forbidden && !recorded => return Ok(Found::None),
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden) => {
            return Ok(Found::Skipped(format!("the token may not read runner {id}: {}", refusal.why())));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let Some(runner) = Runner::read(&value) else {
        // Only a 404 proves that a runner is gone.
        return Ok(if recorded {
            Found::Skipped(format!("GitLab's response for runner {id} is not a runner"))
        } else {
            Found::None
        });
    };
    let marks = view.notes.marks(&view.run);
    let marked = marks.judge(&runner.description);
    if marked == Marked::No && !recorded {
        // Without the uid of kube-system, the mark cannot be compared; no second runner is created.
        let unnamed = view.notes.record().cluster.kube_system.is_empty();
        return if unnamed && mark::is_marked(&runner.description) {
            Err(untold(id))
        } else {
            Ok(Found::None)
        };
    }
    if marked == Marked::No {
        return Err(foreign(&format!("runner {id} no longer has this deployment's mark"))
            .detail("mark", marks.written())
            .detail("description", runner.description));
    }
    let outdated_mark = marked == Marked::Earlier;
    // The id in the anchor's annotations may be copied. Earlier versions of outrigger also wrote the deployment's
    // name to the start of the description.
    let known = view.notes.record().gitlab.owned().is_some_and(|known| known.id == id);
    let name = &view.run.names.deployment;
    let names_it = runner.description.starts_with(&format!("{name} on "));
    if !known && !names_it && runner.description.ends_with(&mark::id_alone(&view.notes.id())) {
        return Err(foreign(&format!("runner {id} has the id of {name}, but not its name"))
            .detail("description", runner.description)
            .hint(format!(
                "if it belongs to this deployment, put \"{name} on \" in front of its description in GitLab"
            )));
    }
    Ok(Found::Ours(Box::new(Ours { managers: managers(view, id).await?, runner, outdated_mark })))
}

/// The failure for a mark that cannot be compared without the uid of `kube-system`.
fn untold(id: u64) -> Failure {
    foreign(&format!("cannot find out whether the mark of runner {id} is this deployment's"))
        .detail("because", "the mark contains the uid of the namespace kube-system, which you may not read")
        .hint("use a context that may get the namespace kube-system (--context NAME), or the machine that has the record")
        .hint("or leave the runner as it is: --skip create-runner")
}

async fn managers(view: &View, id: u64) -> Result<Vec<Manager>> {
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "managers"]);
    match view.client()?.get_opt(&format!("list the machines of runner {id}"), &route).await {
        Ok(value) => Ok(value.iter().filter_map(Value::as_array).flatten().map(Manager::read).collect()),
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden) => Ok(Vec::new()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Finds the runner by its mark in the list of its scope; `patient` retries while GitLab's replicas may lag. Fails
/// with OR0415 (exit 4) if the token may not list, and with OR0703 (exit 7) for two matches or another creator.
pub async fn by_mark(view: &View, patient: bool) -> Result<Found> {
    let pace = Pace::new(&view.limits, 500, 3000).within(if patient { LAG } else { Duration::ZERO });
    let tell = |(): &(), waited| {
        view.progress.waiting("create-runner", "GitLab to list the created runner", waited);
    };
    match wait::until(pace, tell, async || Ok(listed(view).await?.map_or(Continue(()), Break))).await? {
        Ok(id) => by_id(view, id, LAG, false).await,
        Err(()) => Ok(Found::None),
    }
}

async fn listed(view: &View) -> Result<Option<u64>> {
    let gitlab = view.client()?;
    let instance = instance(view).await?;
    let mut runners = match all(gitlab, instance.scope()?).await {
        Ok(runners) => runners,
        Err(refusal) if refusal.class == Class::Scope => {
            let permission = refusal.lack.as_ref().and_then(|lack| lack.permission);
            let required = permission.map_or("the scope read_api", |permission| permission.name);
            let message = "a runner may already exist, but this token may not list runners";
            return Err(Failure::new(Id::UnfinishedCreation, message)
                .detail("GitLab says", refusal.message)
                .detail("required", required)
                .hint(format!("use a token that also has {required}, so that no second runner is created")));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let marks = view.notes.marks(&view.run);
    runners.retain(|runner| marks.judge(&runner.description) != Marked::No);
    match runners.as_slice() {
        [] => Ok(None),
        [one] => {
            let known = view.notes.record().gitlab.owned().is_some_and(|known| known.id == one.id);
            match (&one.creator, instance.user) {
                (Some((creator, name)), Some(caller)) if *creator != caller && !known => Err(foreign(
                    &format!("runner {} has this deployment's mark, but {name} created it", one.id),
                )),
                _ => Ok(Some(one.id)),
            }
        }
        several => {
            let ids: Vec<String> = several.iter().map(|runner| runner.id.to_string()).collect();
            Err(foreign(&format!("several runners have this deployment's mark: {}", ids.join(", "))))
        }
    }
}

/// All runners of a scope, without those of wider scopes.
async fn all(gitlab: &Gitlab, scope: &Scope) -> Result<Vec<Runner>, Refusal> {
    let id = match scope {
        Scope::Project(id) | Scope::Group(id) => id.to_string(),
        Scope::Instance => String::new(),
    };
    let route = match scope {
        Scope::Project(_) => Route::of(&["projects", &id, "runners"]),
        Scope::Group(_) => Route::of(&["groups", &id, "runners"]),
        Scope::Instance => Route::of(&["runners", "all"]),
    };
    let items = gitlab.list("list the runners", &route.with("type", scope.runner_type())).await?;
    let runners = items.iter().filter_map(Runner::read);
    Ok(runners.filter(|runner| runner.runner_type == scope.runner_type()).collect())
}

/// Whether a runner in GitLab confirms a ServiceAccount: the runner is of the scope in the settings, in which only
/// users with rights can create one, and has the ServiceAccount's mark.
#[derive(Clone, Debug)]
pub enum Confirmation {
    /// This runner has the mark.
    By(Box<Runner>),
    /// The runner with this id has only the deployment's id, which can be copied.
    IdAlone(u64),
    /// No runner has the mark.
    No,
    /// GitLab was not asked; the reason.
    Skipped(String),
    /// The request failed.
    Failed(Box<Failure>),
}

/// Looks for a runner with one of these marks: by the anchor's id, and in the list.
pub async fn confirmation(view: &View, hint: Option<u64>, marks: &Marks) -> Confirmation {
    let Some(gitlab) = &view.access.client else { return Confirmation::Skipped(view.access.why_not.clone()) };
    if !is_scoped(view) {
        return Confirmation::Skipped("the runner's project is not set (--project)".to_owned());
    }
    let scope = match instance(view).await {
        Ok(instance) => instance.scope.clone(),
        Err(failure) => return Confirmation::Failed(Box::new(failure)),
    };
    let Some(scope) = scope else { return Confirmation::Skipped("the project is not known".to_owned()) };
    let mut id_alone = Confirmation::No;
    let mut judge = |runner: Runner| match marks.judge(&runner.description) {
        Marked::Current => Some(Confirmation::By(Box::new(runner))),
        Marked::Earlier => {
            id_alone = Confirmation::IdAlone(runner.id);
            None
        }
        Marked::No => None,
    };
    if let Some(id) = hint.map(|id| id.to_string()) {
        let live = gitlab.get_opt(&format!("read runner {id}"), &Route::of(&["runners", &id])).await;
        let live = live.ok().flatten().as_ref().and_then(Runner::read);
        if let Some(found) = live.filter(|runner| serves(runner, &scope, false)).and_then(&mut judge) {
            return found;
        }
    }
    match all(gitlab, &scope).await {
        Ok(runners) => runners.into_iter().find_map(judge).unwrap_or(id_alone),
        Err(refusal) => Confirmation::Failed(Box::new(refusal.into())),
    }
}

pub(super) fn foreign(message: &str) -> Failure {
    Failure::new(Id::AmbiguousRunner, message)
        .hint("check them in GitLab (Settings, CI/CD, Runners), and delete unused ones")
        .hint("or use another deployment: --deployment NAME")
}

#[cfg(test)]
mod tests {
    use super::lag;

    #[test]
    fn replicas_may_lag_after_a_creation() {
        let now = jiff::Timestamp::from_second(1_000_000).expect("a time");
        let at =
            |seconds: i64| jiff::Timestamp::from_second(1_000_000 - seconds).expect("a time").to_string();
        assert_eq!(lag(&at(3), now).as_secs(), 7);
        for old in [at(60), String::new(), "yesterday".to_owned()] {
            assert!(lag(&old, now).is_zero(), "{old}");
        }
    }
}
