//! Looks for the runner: by the id that record or anchor hint at, or by its mark.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Found, Ours, is_marked, mark};
use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::gitlab::{Class, Manager, Refusal, Route, Runner, Scope};
use crate::instance::instance;

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

pub(super) async fn trace(cx: &Context) -> Trace {
    let known = cx.record.borrow().gitlab.clone();
    let mut trace = Trace {
        id: known.runner.as_ref().map(|runner| runner.id),
        recorded: known.runner.is_some(),
        intent: known.intent,
        given: known.given,
        lag: lag(known.runner.as_ref().map_or("", |runner| runner.made.as_str()), cx.now),
    };
    if !trace.recorded && !trace.given {
        let anchor = cx.read(&cx.names.account()).await.ok().flatten();
        let noted = anchor.as_ref().and_then(|anchor| anchor.annotation(crate::names::RUNNER));
        trace.id = noted.and_then(|noted| noted.parse().ok());
        // Noted by another machine, perhaps just now: one more look costs little.
        trace.lag = if trace.id.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        trace.given = noted == Some(crate::names::GIVEN) && trace.intent.is_none();
    }
    trace
}

/// Looks for the runner: by the id of record or anchor, else, where one may have been made, by its mark.
///
/// # Errors
/// See [`verdict`].
pub async fn find(cx: &Context) -> Result<Found> {
    let Trace { id: hint, recorded, intent, lag, .. } = trace(cx).await;
    if cx.gitlab.client.is_none() {
        return match (hint, &intent) {
            (None, None) => Ok(Found::None),
            _ => Ok(Found::NotLooked(cx.gitlab.why_not.clone())),
        };
    }
    if let Some(id) = hint {
        match by_id(cx, id, lag, recorded).await? {
            Found::None if recorded && intent.is_none() => return Ok(Found::None),
            Found::None => {}
            found => return Ok(found),
        }
    }
    // A first run has nothing to find: its id was minted just now.
    let fresh = !cx.recorded && cx.agreed().await.is_none();
    if fresh {
        return Ok(Found::None);
    }
    let scoped = cx.settings.project.is_some() || cx.settings.group.is_some() || cx.settings.instance_runner;
    if !scoped && intent.is_none() {
        return Ok(Found::None);
    }
    let young = intent.as_deref().is_some_and(|time| !self::lag(time, cx.now).is_zero());
    match by_mark(cx, young).await {
        // Each creation is noted before it is tried: with a record and without such a note there was none.
        Err(failure) if matches!(failure.id, "OR0413" | "OR0415") && cx.recorded && intent.is_none() => {
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
async fn by_id(cx: &Context, id: u64, lag: Duration, recorded: bool) -> Result<Found> {
    let gitlab = cx.gitlab()?;
    let number = id.to_string();
    let what = format!("look at runner {id}");
    let route = Route::of(&["runners", &number]);
    let started = Instant::now();
    let mut pause = Duration::from_millis(100);
    let answer = loop {
        match gitlab.get_opt(&what, &route).await {
            Ok(None) if started.elapsed() + pause < lag => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            other => break other,
        }
    };
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
    if !is_marked(&runner, &cx.id()) {
        if !recorded {
            return Ok(Found::None);
        }
        return Err(foreign(&format!("runner {id} no longer carries this deployment's mark"))
            .detail("its description ended in", mark(&cx.id()))
            .detail("it is now", runner.description));
    }
    Ok(Found::Ours(Box::new(Ours { managers: managers(cx, id).await?, runner })))
}

async fn managers(cx: &Context, id: u64) -> Result<Vec<Manager>> {
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "managers"]);
    match cx.gitlab()?.get_opt(&format!("list the machines of runner {id}"), &route).await {
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
pub async fn by_mark(cx: &Context, patient: bool) -> Result<Found> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        match listed(cx).await? {
            Some(id) => return by_id(cx, id, LAG, false).await,
            None if patient && started.elapsed() < LAG => {
                cx.waiting("create-runner", "GitLab to show whether the runner was made", started.elapsed());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(3));
            }
            None => return Ok(Found::None),
        }
    }
}

async fn listed(cx: &Context) -> Result<Option<u64>> {
    let gitlab = cx.gitlab()?;
    let instance = instance(cx).await?;
    let Some(scope) = &instance.scope else {
        return Err(Failure::new("OR0201", Kind::Usage, "it is not said where the runner would be")
            .hint("name the project with --project PATH|ID"));
    };
    let (place, id) = match scope {
        Scope::Project(id) => ("projects", id.to_string()),
        Scope::Group(id) => ("groups", id.to_string()),
        Scope::Instance => ("", String::new()),
    };
    let route = match scope {
        Scope::Instance => Route::of(&["runners", "all"]),
        _ => Route::of(&[place, &id, "runners"]),
    };
    let what = "list the runners";
    let items = match gitlab.list(what, &route.with("type", scope.runner_type())).await {
        Ok(items) => items,
        Err(refusal) if refusal.class == Class::Scope => {
            return Err(Failure::new(
                "OR0415",
                Kind::Denied,
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
    let hits: Vec<Runner> = items
        .iter()
        .filter_map(Runner::read)
        .filter(|runner| is_marked(runner, &cx.id()) && runner.runner_type == scope.runner_type())
        .collect();
    let caller = instance.user;
    match hits.as_slice() {
        [] => Ok(None),
        [one] => {
            let creator = one.creator.clone();
            let known = cx.record.borrow().gitlab.runner.as_ref().is_some_and(|known| known.id == one.id);
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

/// What a token needs for a list.
fn lists(refusal: &Refusal) -> String {
    let permission = refusal.lack.as_ref().and_then(|lack| lack.permission);
    permission.map_or("the scope read_api", |permission| permission.name).to_owned()
}

fn foreign(message: &str) -> Failure {
    Failure::new("OR0703", Kind::Foreign, message)
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
