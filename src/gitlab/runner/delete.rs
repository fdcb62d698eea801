//! Takes the runner away: paused, its jobs waited for, deleted, read back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ago;
use crate::base::error::{Failure, Id, Result};
use crate::gitlab::{Class, Gitlab, Manager, Route, Runner};
use crate::settings::shell_word;
use crate::steps::context::Context;

/// A machine that has not been heard of for so long will not finish its job.
const SILENT: Duration = Duration::from_secs(300);

/// Pauses the runner and waits until no job runs on it.
pub async fn settle(cx: &Context, id: u64) -> Result<Option<String>> {
    let gitlab = cx.gitlab()?;
    let number = id.to_string();
    gitlab
        .put(&format!("pause runner {id}"), &Route::of(&["runners", &number]), &json!({"paused": true}))
        .await?;
    if cx.options.now {
        return Ok(None);
    }
    let started = Instant::now();
    loop {
        let route = Route::of(&["runners", &number, "jobs"]).with("status", "running");
        let jobs = match gitlab.list(&format!("list the jobs of runner {id}"), &route).await {
            Ok(jobs) => jobs,
            Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden | Class::NotFound) => {
                return Ok(Some(format!(
                    "whether runner {id} has running jobs cannot be seen: {}",
                    refusal.message
                )));
            }
            Err(refusal) => return Err(refusal.into()),
        };
        if jobs.is_empty() {
            return Ok(None);
        }
        if let Some(silent) = silent_since(gitlab, &number).await? {
            return Ok(Some(format!(
                "not waiting for {}: its machine was last heard of {}",
                crate::base::text::count(jobs.len(), "job"),
                ago(silent, gitlab.now())
            )));
        }
        if Instant::now() + Duration::from_secs(1) >= cx.limits.deadline {
            return Err(Failure::new(
                Id::WaitTimeout,
                format!("{} still running on runner {id}", crate::base::text::count(jobs.len(), "job")),
            )
            .detail("meanwhile", format!("runner {id} is paused and takes no new jobs"))
            .hint(format!(
                "wait longer with --timeout 1h, or do not wait: outrigger teardown --now --deployment {}",
                shell_word(&cx.names.deployment)
            )));
        }
        cx.waiting(
            "create-runner",
            &format!("{} on runner {id}", crate::base::text::count(jobs.len(), "running job")),
            started.elapsed(),
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The last contact of the runner's machines, if all of them have been silent for too long. Older versions tell
/// nothing of machines: there the runner's own last contact counts.
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
        let runner = gitlab.get_opt("look at the runner", &Route::of(&["runners", id])).await?;
        last = runner.as_ref().and_then(Runner::read).and_then(|runner| runner.contacted);
    }
    let silent = |time: jiff::Timestamp| {
        u64::try_from(gitlab.now().as_second() - time.as_second()).unwrap_or(0) > SILENT.as_secs()
    };
    Ok(last.filter(|last| silent(*last)))
}

/// Deletes the runner and reads back that it is gone.
pub async fn delete(gitlab: &Gitlab, id: u64) -> Result<()> {
    let number = id.to_string();
    let route = Route::of(&["runners", &number]);
    gitlab.delete(&format!("delete runner {id}"), &route).await?;
    let left = gitlab.get_opt(&format!("look whether runner {id} is gone"), &route).await?;
    // Whatever is answered there that is no 404 is no proof that it is gone.
    match left {
        None => Ok(()),
        Some(_) => {
            Err(Failure::new(Id::NotRemoved, format!("runner {id} is still there after its deletion"))
                .hint("run the same command again"))
        }
    }
}
