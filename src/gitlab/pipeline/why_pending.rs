//! Finds the reason why a job is pending.

use crate::base::error::{Command, Hint};
use crate::gitlab::types::shown;
use crate::gitlab::{Job, Runner};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No runner can take the job; the reason and a hint.
    Never(String, Hint),
    /// The job may start at any time; the event that it waits for.
    Later(String),
}

/// The reason for the pending jobs of a pipeline. `ours` is our runner, if visible.
///
/// No job is stuck while a job on our runner has succeeded or can still start: the others may be for other
/// runners.
pub fn why_waiting(jobs: &[Job], ours: Option<&Runner>) -> Option<Reason> {
    let pending = || jobs.iter().filter(|job| job.status == "pending");
    let reasons: Vec<Reason> = pending().filter_map(|job| reason(job, ours)).collect();
    let first = reasons.iter().find(|reason| matches!(reason, Reason::Later(_))).or(reasons.first())?;
    let has_one = |ours: &Runner| {
        jobs.iter().any(|job| {
            (job.status == "success" && job.ran_on(ours.id))
                || matches!(reason(job, Some(ours)), Some(Reason::Later(_)))
        })
    };
    match (first, pending().next()) {
        (Reason::Never(..), Some(job)) if ours.is_some_and(has_one) => {
            Some(Reason::Later(format!("another runner to take {}", job.name)))
        }
        _ => Some(first.clone()),
    }
}

/// The reason for a job that has not started.
fn reason(job: &Job, ours: Option<&Runner>) -> Option<Reason> {
    if job.status != "pending" && job.status != "created" && job.status != "waiting_for_resource" {
        return None;
    }
    let Some(runner) = ours else {
        return Some(Reason::Later(format!(
            "a runner with the tags {} to take {}",
            shown(&job.tags),
            job.name
        )));
    };
    if runner.paused {
        return Some(Reason::Never(
            format!("runner {} is paused", runner.id),
            "resume it in GitLab (Settings, CI/CD, Runners)".into(),
        ));
    }
    let have = runner.tags.as_deref().unwrap_or_default();
    let missing: Vec<String> = job.tags.iter().filter(|tag| !have.contains(tag)).cloned().collect();
    if runner.tags.is_some() && !missing.is_empty() {
        return Some(Reason::Never(
            format!(
                "{} requires the tags {}, but runner {} has {}",
                job.name,
                shown(&job.tags),
                runner.id,
                shown(have)
            ),
            ("use the same tags in both, with --tags or with", Command::outrigger("setup --commit-pipeline"))
                .into(),
        ));
    }
    if job.tags.is_empty() && runner.run_untagged == Some(false) {
        return Some(Reason::Never(
            format!("{} has no tags, but runner {} takes tagged jobs only", job.name, runner.id),
            format!("add the tags {} to the job in the pipeline file", shown(have)).into(),
        ));
    }
    Some(Reason::Later(match runner.status.as_str() {
        "never_contacted" => {
            format!("the first contact of runner {}: check that its VM has booted", runner.id)
        }
        "offline" | "stale" => format!("runner {}, which is {}", runner.id, runner.status),
        _ => format!("runner {} to take {}", runner.id, job.name),
    }))
}

#[cfg(test)]
mod tests {
    use super::{Reason, reason, why_waiting};
    use crate::gitlab::{Job, Runner};

    #[test]
    fn stuck_job_is_distinguished_from_a_waiting_one() {
        let job = |status: &str, tags: &[&str]| Job {
            name: "test".to_owned(),
            status: status.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Job::default()
        };
        let runner = |status: &str| Runner {
            id: 101,
            status: status.to_owned(),
            tags: Some(vec!["k8s-runner".to_owned()]),
            run_untagged: Some(false),
            ..Runner::default()
        };
        let never = |job: &Job, runner: &Runner| matches!(reason(job, Some(runner)), Some(Reason::Never(..)));
        let tagged = job("pending", &["k8s-runner"]);
        assert_eq!(reason(&job("running", &[]), None), None);
        assert!(never(&tagged, &Runner { paused: true, ..runner("online") }));
        assert!(never(&job("pending", &["gpu"]), &runner("online")));
        assert!(never(&job("pending", &[]), &runner("online")));
        for (status, word) in
            [("online", "take"), ("offline", "offline"), ("never_contacted", "booted"), ("new", "take")]
        {
            match reason(&tagged, Some(&runner(status))) {
                Some(Reason::Later(text)) => assert!(text.contains(word), "{text}"),
                other => panic!("{status}: {other:?}"),
            }
        }
        assert!(matches!(reason(&tagged, None), Some(Reason::Later(_))));
    }

    #[test]
    fn jobs_of_other_runners_are_not_stuck() {
        let job = |name: &str, status: &str, tag: &str, runner: Option<u64>| Job {
            name: name.to_owned(),
            status: status.to_owned(),
            tags: vec![tag.to_owned()],
            runner: runner.map(|id| (id, String::new())),
            ..Job::default()
        };
        let ours = Runner {
            id: 101,
            status: "online".to_owned(),
            tags: Some(vec!["k8s-runner".to_owned()]),
            run_untagged: Some(false),
            ..Runner::default()
        };
        let paused = Runner { paused: true, ..ours.clone() };
        let done = job("test", "success", "k8s-runner", Some(101));
        let to_come = job("test", "created", "k8s-runner", None);
        let waits = job("test", "pending", "k8s-runner", None);
        let theirs = job("deploy", "pending", "gpu", None);
        let why = |jobs: &[&Job], runner| {
            let jobs: Vec<Job> = jobs.iter().map(|job| (*job).clone()).collect();
            why_waiting(&jobs, Some(runner))
        };
        let another = Some(Reason::Later("another runner to take deploy".to_owned()));
        assert_eq!(why(&[&theirs, &done], &ours), another);
        assert_eq!(why(&[&theirs, &to_come], &ours), another);
        // The reason is that of our runner's job, at any position.
        assert_eq!(why(&[&theirs, &waits], &ours), Some(Reason::Later("runner 101 to take test".to_owned())));
        assert_eq!(why(&[&theirs, &done], &paused), another);
        assert!(matches!(why(&[&theirs], &ours), Some(Reason::Never(..))));
        assert!(matches!(why(&[&theirs, &waits], &paused), Some(Reason::Never(..))));
        assert_eq!(why(&[&done], &ours), None);
    }
}
