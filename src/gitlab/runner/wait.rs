//! Waits until the runner takes jobs.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use super::{Found, condition, find};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::gitlab::view::View;

/// Polls for up to `time` until nothing keeps the runner from taking jobs; what still does is not a failure here. A
/// runner that cannot be read is not waited for.
pub async fn wait(view: &View, time: Duration) -> Result<()> {
    let look = async || {
        let Found::Ours(ours) = find(view).await? else { return Ok(Break(())) };
        let problem = condition(view, &ours).problems.into_iter().next();
        Ok(problem.map_or(Break(()), |(text, _)| Continue(text)))
    };
    let tell = |problem: &String, waited| view.progress.waiting("create-runner", problem, waited);
    let _ = wait::until(Pace::new(&view.limits, 1000, 5000).within(time), tell, look).await?;
    Ok(())
}

/// Waits for up to `--wait` until the machine with this system id has contacted GitLab since `started`, by GitLab's
/// clock. Returns that in words. Fails with OR0808 (exit 8) if it does not.
pub async fn contact(view: &View, system_id: &str, started: jiff::Timestamp) -> Result<String> {
    let look = async || {
        let Found::Ours(ours) = find(view).await? else { return Ok(Continue(())) };
        let seen = ours.managers.iter().find(|manager| {
            let is_there = system_id.is_empty() || manager.system_id == system_id;
            is_there && manager.contacted.is_some_and(|time| time.as_second() >= started.as_second())
        });
        Ok(seen.map_or(Continue(()), |_| Break(ours.runner.id)))
    };
    let tell =
        |(): &(), waited| view.progress.waiting("run-script", "the runner's contact with GitLab", waited);
    let pace = Pace::new(&view.limits, 500, 5000).within(view.run.settings.wait);
    if let Ok(id) = wait::until(pace, tell, look).await? {
        return Ok(format!("GitLab has seen runner {id} from there"));
    }
    let from = match system_id {
        "" => String::new(),
        id => format!(" from the host (system id {id})"),
    };
    let message = format!("GitLab has not seen runner {}{from} within --wait", name_of(view));
    Err(Failure::new(Id::NoContact, message)
        .hint("look at gitlab-runner's log on the host: journalctl -u gitlab-runner")
        .hint(("to wait for it", Command::outrigger("status --wait 10m"))))
}

fn name_of(view: &View) -> String {
    view.notes.record().gitlab.owned().map(|runner| runner.id.to_string()).unwrap_or_default()
}
