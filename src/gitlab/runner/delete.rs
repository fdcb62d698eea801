//! Deletes the runner: pauses it, waits for its jobs, deletes it, verifies that it is gone.

use std::ops::ControlFlow::{Break, Continue};

use serde_json::{Value, json};

use super::describe::SILENT;
use super::drain::unfinished;
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text::{ago, count, since};
use crate::base::wait::{self, Pace};
use crate::gitlab::view::Hand;
use crate::gitlab::{Class, Gitlab, Manager, Route, Runner};

/// Pauses the runner, unless it is paused, and waits until no job runs on it. A pause is recorded first: it ends when
/// the runner is deleted, or with the next setup.
pub async fn settle(hand: &Hand, id: u64, is_paused: bool) -> Result<Option<String>> {
    let gitlab = hand.client()?;
    let number = id.to_string();
    if !is_paused {
        hand.journal.write(|record| record.gitlab.is_paused(true))?;
        let route = Route::of(&["runners", &number]);
        gitlab.put(&format!("pause runner {id}"), &route, &json!({"paused": true})).await?;
    }
    if hand.run.options.now {
        return Ok(None);
    }
    let look = async || {
        let jobs = match unfinished(gitlab, id).await {
            Ok(jobs) => jobs.len(),
            Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden | Class::NotFound) => {
                return Ok(Break(Some(format!(
                    "cannot list the running jobs of runner {id}: {}",
                    refusal.message
                ))));
            }
            Err(refusal) => return Err(refusal.into()),
        };
        if jobs == 0 {
            return Ok(Break(None));
        }
        Ok(match silent_since(gitlab, &number).await? {
            Some(silent) => Break(Some(format!(
                "not waiting for {}: last contact of its machine {}",
                count(jobs, "job"),
                ago(silent, gitlab.now())
            ))),
            None => Continue(jobs),
        })
    };
    let tell = |jobs: &usize, waited| {
        hand.progress.waiting(
            "create-runner",
            &format!("{} on runner {id}", count(*jobs, "running job")),
            waited,
        );
    };
    wait::until(Pace::new(&hand.limits, 1000, 1000), tell, look).await?.map_err(|jobs| {
        Failure::new(Id::WaitTimeout, format!("{} still running on runner {id}", count(jobs, "job")))
            .hint(("wait longer with --timeout 1h, or do not wait", Command::teardown("--now")))
    })
}

/// The last contact of the runner's machines, if older than [`SILENT`]. Older GitLab versions show only the runner's
/// own last contact.
async fn silent_since(gitlab: &Gitlab, id: &str) -> Result<Option<jiff::Timestamp>> {
    let route = Route::of(&["runners", id, "managers"]);
    let managers = gitlab.get_opt("list the runner's machines", &route).await?;
    let mut last = managers
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|one| Manager::read(one).contacted)
        .max();
    if last.is_none() {
        let runner = gitlab.get_opt("read the runner", &Route::of(&["runners", id])).await?;
        last = runner.as_ref().and_then(Runner::read).and_then(|runner| runner.contacted);
    }
    Ok(last.filter(|last| since(*last, gitlab.now()) > SILENT))
}

/// Deletes the runner and verifies that it is gone.
pub async fn delete(hand: &Hand, id: u64) -> Result<()> {
    let gitlab = hand.client()?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number]);
    gitlab.delete(&format!("delete runner {id}"), &route).await?;
    // Only a 404 proves that it is gone.
    match gitlab.get_opt(&format!("verify that runner {id} is gone"), &route).await? {
        None => Ok(()),
        Some(_) => Err(Failure::new(Id::NotRemoved, format!("runner {id} still exists after its deletion"))
            .hint("run the same command again")),
    }
}
