//! Looks for the runner: by the id that record or anchor hint at, or by its mark.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::Value;

use super::{Found, Ours, serves};
use crate::base::error::{Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::deployment::mark::{self, Marked, Marks};
use crate::deployment::ownership::Voucher;
use crate::deployment::record::RunnerNote;
use crate::gitlab::facts::instance;
use crate::gitlab::view::View;
use crate::gitlab::{Class, Gitlab, Manager, Refusal, Route, Runner, Scope};

/// GitLab's replicas may lag so far behind a creation.
const LAG: Duration = Duration::from_secs(10);

/// What record and anchor say of the runner: where to look, and no more.
pub(super) struct Trace {
    /// Its id.
    id: Option<u64>,
    /// Whether the record says so, which the anchor of everybody's cluster only hints at.
    recorded: bool,
    /// When a creation began that is not known to have ended.
    intent: Option<String>,
    /// The runner existed, and its token was given.
    pub(super) given: bool,
    /// How much longer a replica may not show it.
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
        // Noted by another machine, perhaps just now: one more look costs little.
        trace.lag = if trace.id.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        // A mark in GitLab is on no runner but those that outrigger made.
        let marked = view.notes.vouched.as_ref().is_some_and(|vouched| vouched.by == Voucher::Mark);
        trace.given = noted == Some(crate::deployment::names::GIVEN) && trace.intent.is_none() && !marked;
    }
    trace
}

/// Looks for the runner: by the id of record or anchor, else, where one may have been made, by its mark.
///
/// # Errors
/// See [`verdict`].
pub async fn find(view: &View) -> Result<Found> {
    let Trace { id: hint, recorded, intent, lag, .. } = trace(view);
    if view.access.client.is_none() {
        return match (hint, &intent) {
            (None, None) => Ok(Found::None),
            _ => Ok(Found::NotLooked(view.access.why_not.clone())),
        };
    }
    if let Some(id) = hint {
        match by_id(view, id, lag, recorded).await? {
            Found::None if recorded && intent.is_none() => return Ok(Found::None),
            Found::None => {}
            found => return Ok(found),
        }
    }
    // A first run has nothing to find: its id was minted just now.
    let fresh = !view.notes.recorded && view.notes.vouched.is_none();
    if fresh {
        return Ok(Found::None);
    }
    let scoped = view.run.settings.project.is_some()
        || view.run.settings.group.is_some()
        || view.run.settings.instance_runner;
    if !scoped && intent.is_none() {
        return Ok(Found::None);
    }
    let young = intent.as_deref().is_some_and(|time| !self::lag(time, view.run.now).is_zero());
    match by_mark(view, young).await {
        // Each creation is noted before it is tried: with a record and without such a note there was none.
        Err(failure)
            if matches!(failure.id, Id::GitlabForbidden | Id::UnfinishedCreation)
                && view.notes.recorded
                && intent.is_none() =>
        {
            Ok(Found::None)
        }
        found => found,
    }
}

/// How much longer replicas may not show what was made at this time (RFC 3339).
fn lag(made: &str, now: jiff::Timestamp) -> Duration {
    let Ok(made) = made.parse::<jiff::Timestamp>() else { return Duration::ZERO };
    let age = u64::try_from(now.as_second() - made.as_second()).unwrap_or(0);
    LAG.saturating_sub(Duration::from_secs(age))
}

/// The runner with this id, if it is ours. One that is not found is looked for again for as long as `lag`.
///
/// # Errors
/// OR0703 (exit 7) for a runner that we made, as is `recorded`, and that no longer says so itself: a second
/// one must not follow from that.
async fn by_id(view: &View, id: u64, lag: Duration, recorded: bool) -> Result<Found> {
    let gitlab = view.client()?;
    let number = id.to_string();
    let what = format!("look at runner {id}");
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
        // A note that leads to somebody else's runner leads nowhere.
        Err(refusal) if refusal.class == Class::Forbidden && !recorded => return Ok(Found::None),
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden) => {
            return Ok(Found::NotLooked(format!("the token may not look at runner {id}: {}", refusal.why())));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let Some(runner) = Runner::read(&value) else {
        // Only a 404 says that a runner is gone.
        return Ok(if recorded {
            Found::NotLooked(format!("what is answered for runner {id} describes no runner"))
        } else {
            Found::None
        });
    };
    // An id is a hint: only the mark makes it ours.
    let marks = view.notes.marks(&view.run);
    let marked = marks.judge(&runner.description);
    if marked == Marked::No {
        if !recorded {
            // It may be ours by a name of the cluster that is not to be had here: no second one follows from that.
            let unnamed = view.notes.record().cluster.kube_system.is_empty();
            return if unnamed && mark::is_marked(&runner.description) {
                Err(untold(id))
            } else {
                Ok(Found::None)
            };
        }
        return Err(foreign(&format!("runner {id} no longer carries this deployment's mark"))
            .detail("its description ended in", marks.written())
            .detail("it is now", runner.description));
    }
    let outdated_mark = marked == Marked::Earlier;
    // `--anchor-uid` stands for the ServiceAccount alone, and whoever may write its annotations can copy an id onto
    // them, which a record then keeps: what an earlier outrigger wrote names its deployment in front.
    let known = view.notes.record().gitlab.owned().is_some_and(|known| known.id == id);
    let name = &view.run.names.deployment;
    let names_it = runner.description.starts_with(&format!("{name} on "));
    if !known && !names_it && runner.description.ends_with(&mark::id_alone(&view.notes.id())) {
        return Err(foreign(&format!("runner {id} carries the id of {name}, and not its name"))
            .detail("its description is", runner.description)
            .hint(format!(
                "if it is this deployment's, let its description in GitLab begin with \"{name} on \""
            )));
    }
    Ok(Found::Ours(Box::new(Ours { managers: managers(view, id).await?, runner, outdated_mark })))
}

/// Without the uid of `kube-system` a mark that was written with it cannot be told from another's.
fn untold(id: u64) -> Failure {
    foreign(&format!("runner {id} carries a mark, and whose it is cannot be told here"))
        .detail("because", "you may not read the namespace kube-system, whose uid the mark names")
        .hint("use a context that may get the namespace kube-system (--context NAME), or the machine with the record")
        .hint("or leave the runner as it is: --skip create-runner")
}

async fn managers(view: &View, id: u64) -> Result<Vec<Manager>> {
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "managers"]);
    match view.client()?.get_opt(&format!("list the machines of runner {id}"), &route).await {
        Ok(value) => Ok(value
            .as_ref()
            .and_then(Value::as_array)
            .map(|list| list.iter().map(Manager::read).collect())
            .unwrap_or_default()),
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden) => Ok(Vec::new()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Looks through the list where our runner would be. With `patient`, again for as long as GitLab's
/// replicas may lag.
///
/// # Errors
/// OR0415 (exit 4) where the token may not list; OR0703 (exit 7) for two hits or another creator.
pub async fn by_mark(view: &View, patient: bool) -> Result<Found> {
    let pace = Pace::new(&view.limits, 500, 3000).within(if patient { LAG } else { Duration::ZERO });
    let tell = |(): &(), waited| {
        view.progress.waiting("create-runner", "GitLab to show whether the runner was made", waited);
    };
    match wait::until(pace, tell, async || Ok(listed(view).await?.map_or(Continue(()), Break))).await? {
        Ok(id) => by_id(view, id, LAG, false).await,
        Err(()) => Ok(Found::None),
    }
}

async fn listed(view: &View) -> Result<Option<u64>> {
    let gitlab = view.client()?;
    let instance = instance(view).await?;
    let Some(scope) = &instance.scope else {
        return Err(Failure::new(Id::MissingInput, "it is not said where the runner would be")
            .hint("name the project with --project PATH|ID"));
    };
    let items = match all(gitlab, scope).await {
        Ok(items) => items,
        Err(refusal) if refusal.class == Class::Scope => {
            return Err(Failure::new(
                Id::UnfinishedCreation,
                "a runner may have been made already, and this token may not list runners",
            )
            .detail("GitLab says", refusal.message.clone())
            .detail("what does", lists(&refusal))
            .hint(format!(
                "use a token that has {}, too, so that no second runner is made",
                lists(&refusal)
            )));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let marks = view.notes.marks(&view.run);
    let hits: Vec<Runner> = items
        .iter()
        .filter_map(Runner::read)
        .filter(|runner| {
            marks.judge(&runner.description) != Marked::No && runner.runner_type == scope.runner_type()
        })
        .collect();
    let caller = instance.user;
    match hits.as_slice() {
        [] => Ok(None),
        [one] => {
            let creator = one.creator.clone();
            let known = view.notes.record().gitlab.owned().is_some_and(|known| known.id == one.id);
            match (creator, caller) {
                (Some((creator, name)), Some(caller)) if creator != caller && !known => Err(foreign(
                    &format!("runner {} carries this deployment's mark, and {name} made it", one.id),
                )),
                _ => Ok(Some(one.id)),
            }
        }
        several => {
            let ids: Vec<String> = several.iter().map(|runner| runner.id.to_string()).collect();
            Err(foreign(&format!(
                "runners {} carry this deployment's mark, and one could",
                ids.join(" and ")
            )))
        }
    }
}

/// The runners among which one of this scope stands.
async fn all(gitlab: &Gitlab, scope: &Scope) -> std::result::Result<Vec<Value>, Refusal> {
    let id = match scope {
        Scope::Project(id) | Scope::Group(id) => id.to_string(),
        Scope::Instance => String::new(),
    };
    let route = match scope {
        Scope::Project(_) => Route::of(&["projects", &id, "runners"]),
        Scope::Group(_) => Route::of(&["groups", &id, "runners"]),
        Scope::Instance => Route::of(&["runners", "all"]),
    };
    gitlab.list("list the runners", &route.with("type", scope.runner_type())).await
}

/// Whether GitLab stands for a ServiceAccount: a runner carries its mark, where nobody makes one but those who
/// may for the project (or group, or instance) that the operator named.
#[derive(Clone, Debug)]
pub enum Stands {
    /// This runner carries it.
    For(Box<Runner>),
    /// The runner with this id carries the deployment's id alone, which can be repeated.
    IdAlone(u64),
    /// No runner does.
    No,
    /// Nobody could be asked; the reason.
    NotLooked(String),
    /// GitLab was asked, and did not say.
    Failed(Box<Failure>),
}

/// Looks for a runner with one of these marks: at the id that an anchor notes, and in the list.
pub async fn stands(view: &View, hint: Option<u64>, marks: &Marks) -> Stands {
    let Some(gitlab) = &view.access.client else { return Stands::NotLooked(view.access.why_not.clone()) };
    let named = view.run.settings.project.is_some()
        || view.run.settings.group.is_some()
        || view.run.settings.instance_runner;
    if !named {
        return Stands::NotLooked("it is not said whom the runner is for (--project)".to_owned());
    }
    let scope = match instance(view).await {
        Ok(instance) => instance.scope.clone(),
        Err(failure) => return Stands::Failed(Box::new(failure)),
    };
    let Some(scope) = scope else { return Stands::NotLooked("the project is not known".to_owned()) };
    let mut found = Stands::No;
    if let Some(id) = hint {
        let number = id.to_string();
        let route = Route::of(&["runners", &number]);
        let live = gitlab.get_opt(&format!("look at runner {id}"), &route).await.ok().flatten();
        if let Some(runner) = live.as_ref().and_then(Runner::read)
            && serves(&runner, &scope, false)
        {
            match marks.judge(&runner.description) {
                Marked::Current => return Stands::For(Box::new(runner)),
                Marked::Earlier => found = Stands::IdAlone(id),
                Marked::No => {}
            }
        }
    }
    let items = match all(gitlab, &scope).await {
        Ok(items) => items,
        Err(refusal) => return Stands::Failed(Box::new(refusal.into())),
    };
    for runner in items.iter().filter_map(Runner::read) {
        if runner.runner_type != scope.runner_type() {
            continue;
        }
        match marks.judge(&runner.description) {
            Marked::Current => return Stands::For(Box::new(runner)),
            Marked::Earlier => found = Stands::IdAlone(runner.id),
            Marked::No => {}
        }
    }
    found
}

/// What a token needs for a list.
fn lists(refusal: &Refusal) -> String {
    let permission = refusal.lack.as_ref().and_then(|lack| lack.permission);
    permission.map_or("the scope read_api", |permission| permission.name).to_owned()
}

pub(super) fn foreign(message: &str) -> Failure {
    Failure::new(Id::AmbiguousRunner, message)
        .hint("look at them in GitLab (Settings, CI/CD, Runners), and delete what nobody needs")
        .hint("or use another deployment: --deployment NAME")
}

#[cfg(test)]
mod tests {
    use super::lag;

    #[test]
    fn what_was_just_made_may_not_be_shown_yet() {
        let now = jiff::Timestamp::from_second(1_000_000).expect("a time");
        let at =
            |seconds: i64| jiff::Timestamp::from_second(1_000_000 - seconds).expect("a time").to_string();
        assert_eq!(lag(&at(3), now).as_secs(), 7);
        for old in [at(60), String::new(), "yesterday".to_owned()] {
            assert!(lag(&old, now).is_zero(), "{old}");
        }
    }
}
