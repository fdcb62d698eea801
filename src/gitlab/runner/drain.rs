//! Waits for the jobs that began with what the machine had before.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Found, find, update};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text::count;
use crate::base::wait::{self, Pace};
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Class, Gitlab, Refusal, Route};

/// A request for a job may be open when the configuration changes, and its job gets the old one: GitLab answers after
/// 50 s at the latest (`-apiCiLongPollingDuration` of Workhorse), and gitlab-runner reads its file every 3 s.
const IN_FLIGHT: Duration = Duration::from_secs(60);

/// The number of jobs that run on this deployment's runner now; `None` if there is no runner.
///
/// # Errors
/// OR0201 without a connection; as GitLab answers.
pub async fn running(view: &View) -> Result<Option<usize>> {
    let Found::Ours(ours) = find(view).await? else { return Ok(None) };
    Ok(Some(jobs(view.client()?, ours.runner.id).await?.len()))
}

/// Waits for up to `--wait` until no job runs that began up to a minute after `since`, a time by GitLab's clock.
///
/// # Errors
/// OR0801 (exit 8) if one still runs; as GitLab answers.
pub async fn drained(view: &View, since: jiff::Timestamp, step: &'static str) -> Result<()> {
    let Found::Ours(ours) = find(view).await? else { return Ok(()) };
    let (gitlab, id, wait) = (view.client()?, ours.runner.id, view.run.settings.wait);
    // The wait comes on top of the time of the run.
    view.limits.deadline.extend(wait);
    let until = since.saturating_add(jiff::SignedDuration::try_from(IN_FLIGHT).unwrap_or_default());
    let until = until.unwrap_or(since);
    let look = async || {
        let began: Vec<_> = jobs(gitlab, id).await?;
        // One without a time may be of any.
        let old = began.iter().filter(|began| began.is_none_or(|began| began <= until)).count();
        let left = until.as_second() - gitlab.now().as_second();
        Ok(if old == 0 && left <= 0 { Break(()) } else { Continue((old, left)) })
    };
    let what = |(old, left): &(usize, i64)| match old {
        0 => format!("requests for jobs from before, for {left} s"),
        old => format!("{} that may use the old cluster token", count(*old, "job")),
    };
    let tell = |seen: &_, waited| view.progress.waiting(step, &what(seen), waited);
    let pace = Pace::new(&view.limits, 1000, 2000).within(wait);
    wait::until(pace, tell, look).await?.map_err(|seen| {
        Failure::new(Id::WaitTimeout, "the old cluster token may still be in use")
            .detail("waited for", what(&seen))
            .detail("meanwhile", "both tokens stay valid")
            .hint(("to go on", Command::outrigger("rotate cluster")))
            .passing()
    })
}

/// Pauses the runner and waits for up to `--wait` until no job runs on it. Returns its id if it has to be resumed: a pause
/// that somebody else made stays. After a failure, also a signal, it is resumed.
///
/// # Errors
/// OR0801 (exit 8) if jobs still run; as GitLab answers.
pub async fn pause_until_idle(hand: &Hand, step: &'static str) -> Result<Option<u64>> {
    let Found::Ours(ours) = find(hand).await? else { return Ok(None) };
    let id = ours.runner.id;
    let is_ours = !ours.runner.paused || hand.notes.record().gitlab.paused().is_some();
    if !ours.runner.paused {
        hand.journal.write(|record| record.gitlab.is_paused(true))?;
        update(hand, id, &json!({"paused": true})).await?;
    }
    hand.limits.deadline.extend(hand.run.settings.wait);
    let look = async || match jobs(hand.client()?, id).await?.len() {
        0 => Ok(Break(())),
        running => Ok(Continue(running)),
    };
    let tell = |running: &usize, waited| {
        let what = format!("{}; the paused runner {id} takes no new one", count(*running, "running job"));
        hand.progress.waiting(step, &what, waited);
    };
    let pace = Pace::new(&hand.limits, 1000, 2000).within(hand.run.settings.wait);
    let running = match wait::until(pace, tell, look).await {
        Ok(Ok(())) => return Ok(is_ours.then_some(id)),
        Ok(Err(running)) => running,
        Err(failure) if is_ours => {
            return Err(match resume(hand, id).await {
                Ok(()) => failure,
                Err(_) => still_paused(id, failure),
            });
        }
        Err(failure) => return Err(failure),
    };
    if is_ours {
        resume(hand, id).await?;
    }
    Err(Failure::new(Id::WaitTimeout, format!("{} still running on runner {id}", count(running, "job")))
        .detail("meanwhile", "the runner takes jobs again, and nothing was changed on the host")
        .hint(("to wait longer", Command::again("--wait 1h")))
        .passing())
}

/// Ends the pause, also after a signal.
pub async fn resume(hand: &Hand, id: u64) -> Result<()> {
    let (gitlab, number) = (hand.client()?.for_cleanup(Duration::from_secs(10)), id.to_string());
    let route = Route::of(&["runners", &number]);
    gitlab.put(&format!("resume runner {id}"), &route, &json!({"paused": false})).await?;
    hand.journal.write(|record| record.gitlab.is_paused(false))
}

/// A failure after which the runner could not be resumed.
pub fn still_paused(id: u64, failure: Failure) -> Failure {
    failure
        .detail("state", format!("runner {id} is paused and takes no jobs"))
        .hint(("to resume it", Command::outrigger("setup")))
}

/// When each of the runner's unfinished jobs began.
async fn jobs(gitlab: &Gitlab, id: u64) -> Result<Vec<Option<jiff::Timestamp>>> {
    let jobs = unfinished(gitlab, id).await?;
    Ok(jobs.iter().map(|job| job["started_at"].as_str()?.parse().ok()).collect())
}

/// The runner's jobs that its machine still works on: running ones, and canceled ones that it cleans up after. GitLab
/// shows those of projects in which the user is at least Reporter (`lib/api/ci/runners.rb`).
pub(super) async fn unfinished(gitlab: &Gitlab, id: u64) -> Result<Vec<Value>, Refusal> {
    let (what, number) = (format!("list the jobs of runner {id}"), id.to_string());
    let route = |status| Route::of(&["runners", &number, "jobs"]).with("status", status);
    let mut jobs = gitlab.list(&what, &route("running")).await?;
    match gitlab.list(&what, &route("canceling")).await {
        Ok(canceling) => jobs.extend(canceling),
        // Versions that do not know this status do not have it.
        Err(refusal) if refusal.class == Class::Invalid => {}
        Err(refusal) => return Err(refusal),
    }
    Ok(jobs)
}
