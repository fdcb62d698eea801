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

/// What was seen of the runner after a script has run.
pub struct Contact {
    /// In words.
    pub text: String,
    /// Nothing keeps the runner from taking jobs.
    pub is_well: bool,
}

/// Waits for up to `--wait` until the machine with this system id has contacted GitLab since `started`, by GitLab's
/// clock. Returns that in words. Fails with OR0808 (exit 8) if it does not.
pub async fn contact(view: &View, system_id: &str, started: jiff::Timestamp) -> Result<Contact> {
    if system_id.is_empty() {
        let text = "not checked: online in GitLab (the host has no system id in /etc/gitlab-runner)";
        return Ok(Contact { text: text.to_owned(), is_well: false });
    }
    let look = async || {
        let Found::Ours(ours) = find(view).await? else { return Ok(Continue(())) };
        let seen = ours.managers.iter().find(|manager| {
            manager.system_id == system_id
                && manager.contacted.is_some_and(|time| time.as_second() >= started.as_second())
        });
        let is_well = condition(view, &ours).problems.is_empty();
        Ok(seen.map_or(Continue(()), |_| Break((ours.runner.id, is_well))))
    };
    let tell =
        |(): &(), waited| view.progress.waiting("run-script", "the runner's contact with GitLab", waited);
    let pace = Pace::new(&view.limits, 500, 5000).within(view.run.settings.wait);
    if let Ok((id, is_well)) = wait::until(pace, tell, look).await? {
        return Ok(Contact { text: format!("GitLab has seen runner {id} from there"), is_well });
    }
    let from = format!("from the host (system id {system_id})");
    let message = format!("GitLab has not seen runner {} {from} within --wait", name_of(view));
    Err(Failure::new(Id::NoContact, message)
        .hint("look at gitlab-runner's log on the host: journalctl -u gitlab-runner")
        .hint(("to wait for it", Command::outrigger("status --wait 10m"))))
}

fn name_of(view: &View) -> String {
    view.notes.record().gitlab.owned().map(|runner| runner.id.to_string()).unwrap_or_default()
}
