//! A runner's state as text.

use std::time::Duration;

use super::Ours;
use crate::base::text::{ago, since};
use crate::gitlab::Manager;
use crate::gitlab::view::View;
use crate::settings;

/// A machine without contact for this time is not expected to take a job, or to finish one. A gitlab-runner that
/// works asks for jobs every few seconds.
pub(super) const SILENT: Duration = Duration::from_secs(300);

/// A runner's state in words, and what keeps it from taking jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// For example "last contact 40 s ago" or "paused, no contact yet".
    pub text: String,
    /// One sentence for each, with what to do about it.
    pub problems: Vec<(String, &'static str)>,
    /// Whether the first problem is that no machine is in contact.
    pub is_silent: bool,
}

/// The machines that use a runner's token, as text.
pub fn hosts(ours: &Ours) -> String {
    let managers = &ours.managers;
    if managers.is_empty() {
        let contacted = !ours.runner.never_contacted();
        return if contacted { "a machine that GitLab does not show" } else { "no machine yet" }.to_owned();
    }
    managers.iter().map(host).collect::<Vec<_>>().join(", ")
}

fn host(manager: &Manager) -> String {
    let address = manager.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
    format!("{}{address}", manager.system_id)
}

/// A runner's condition now, by GitLab's clock.
pub fn condition(view: &View, ours: &Ours) -> Condition {
    let settings = &view.run.settings;
    // A long pause between two requests is no silence.
    let interval = settings.check_interval.as_ref().map(|interval| interval.value).unwrap_or_default();
    judged(
        ours,
        SILENT.max(interval * 2 + Duration::from_secs(60)),
        &settings.runner_version.value,
        view.notes.record().gitlab.paused().is_some(),
        view.now(),
    )
}

/// A machine is offline after the time `silent`; `version` is the gitlab-runner of the settings; `resumes`: whether this
/// setup ends a pause.
fn judged(ours: &Ours, silent: Duration, version: &str, resumes: bool, now: jiff::Timestamp) -> Condition {
    let id = ours.runner.id;
    // Machines that are gone stay in GitLab's list for a week.
    let last = ours.managers.iter().max_by_key(|manager| manager.contacted);
    let contact = last.and_then(|manager| manager.contacted).into_iter().chain(ours.runner.contacted).max();
    let mut problems = Vec::new();
    let said = match contact {
        None => {
            let text = format!("runner {id}: no machine has contacted GitLab yet");
            problems.push((text, "run the launch script on the machine"));
            "no contact yet".to_owned()
        }
        Some(time) => {
            let said = format!("last contact {}", ago(time, now));
            if since(time, now) > silent {
                let host = last.map(|manager| format!(" of {}", host(manager))).unwrap_or_default();
                let text = format!("runner {id} is offline: {said}{host}");
                problems.push((text, "start the machine, or its service: systemctl status gitlab-runner"));
            }
            said
        }
    };
    let is_silent = !problems.is_empty();
    if ours.runner.paused && !resumes {
        let text = format!("runner {id} is paused: it takes no jobs");
        problems.push((text, "resume it in GitLab (Settings, CI/CD, Runners)"));
    }
    let running = last.and_then(|manager| manager.version.as_deref());
    let current = |manager: &&Manager| {
        Some(manager.system_id.as_str()) == last.map(|last| last.system_id.as_str())
            || manager.contacted.is_some_and(|time| since(time, now) <= silent)
    };
    for manager in ours.managers.iter().filter(current) {
        let Some(running) = manager.version.as_deref().filter(|running| is_older(running, version)) else {
            continue;
        };
        let text =
            format!("runner {id}: gitlab-runner {running} on {} is older than {version}", host(manager));
        problems.push((text, "run the launch script on the machine again"));
    }
    let running = running.map(|running| format!(", gitlab-runner {running}")).unwrap_or_default();
    let paused = if ours.runner.paused { "paused, " } else { "" };
    Condition { text: format!("{paused}{said}{running}"), problems, is_silent }
}

/// Whether a version that a machine reports, such as `19.5.0~beta.12.g1a2b3c`, is older. One without numbers is not.
fn is_older(running: &str, version: &str) -> bool {
    let end = running.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(running.len());
    let number = running[..end].trim_end_matches('.');
    !number.is_empty() && settings::is_older(number, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Runner;

    /// A runner with machines, each by the seconds since its contact and its version.
    fn ours(paused: bool, managers: &[(i64, &str)]) -> Ours {
        let manager = |(at, (seconds, version)): (usize, &(i64, &str))| Manager {
            system_id: format!("s_{}", at + 1),
            contacted: Some(now() - jiff::SignedDuration::from_secs(*seconds)),
            version: Some((*version).to_owned()),
            address: Some("192.0.2.7".to_owned()),
            ..Manager::default()
        };
        let runner = Runner { id: 7, paused, ..Runner::default() };
        Ours { runner, managers: managers.iter().enumerate().map(manager).collect(), outdated_mark: false }
    }

    fn now() -> jiff::Timestamp {
        "2030-01-01T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn runner_that_takes_no_jobs_is_a_problem() {
        let six_days = 6 * 86_400;
        for (paused, managers, resumes, text, problems) in [
            (false, &[(40, "19.4.1")][..], false, "last contact 40 s ago, gitlab-runner 19.4.1", &[][..]),
            // A machine that was replaced.
            (
                false,
                &[(six_days, "18.0.0"), (1, "19.5.0")],
                false,
                "last contact 1 s ago, gitlab-runner 19.5.0",
                &[],
            ),
            (false, &[], false, "no contact yet", &["runner 7: no machine has contacted GitLab yet"]),
            (
                false,
                &[(six_days, "19.4.1")],
                false,
                "last contact 6 days ago, gitlab-runner 19.4.1",
                &["runner 7 is offline: last contact 6 days ago of s_1 at 192.0.2.7"],
            ),
            (
                true,
                &[(1, "19.3.9")],
                false,
                "paused, last contact 1 s ago, gitlab-runner 19.3.9",
                &[
                    "runner 7 is paused: it takes no jobs",
                    "runner 7: gitlab-runner 19.3.9 on s_1 at 192.0.2.7 is older than 19.4.1",
                ],
            ),
            (
                false,
                &[(1, "development version")],
                false,
                "last contact 1 s ago, gitlab-runner development version",
                &[],
            ),
            (
                false,
                &[(1, "19.5.0~beta.12.g1a2b3c")],
                false,
                "last contact 1 s ago, gitlab-runner 19.5.0~beta.12.g1a2b3c",
                &[],
            ),
            // Two machines with one token.
            (
                false,
                &[(2, "18.0.0"), (1, "19.4.1")],
                false,
                "last contact 1 s ago, gitlab-runner 19.4.1",
                &["runner 7: gitlab-runner 18.0.0 on s_1 at 192.0.2.7 is older than 19.4.1"],
            ),
            (true, &[(1, "19.4.1")], true, "paused, last contact 1 s ago, gitlab-runner 19.4.1", &[]),
        ] {
            let condition = judged(&ours(paused, managers), SILENT, "19.4.1", resumes, now());
            assert_eq!(condition.text, text);
            assert_eq!(
                condition.problems.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(),
                problems
            );
        }
    }
}
