//! Why a job waits, told from what GitLab says of job and runner. Pure.

use crate::gitlab::{Job, Runner};

/// Why nobody takes a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It will not begin by itself; what to do about it.
    Never(String, String),
    /// It may begin any moment: what is awaited.
    Later(String),
}

/// Judges a pending job. `ours` is our runner, where it can be seen.
#[must_use]
pub fn reason(job: &Job, ours: Option<&Runner>) -> Option<Reason> {
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
            "resume it in GitLab (Settings, CI/CD, Runners)".to_owned(),
        ));
    }
    let have = runner.tags.as_deref().unwrap_or_default();
    let missing: Vec<String> = job.tags.iter().filter(|tag| !have.contains(tag)).cloned().collect();
    if runner.tags.is_some() && !missing.is_empty() {
        return Some(Reason::Never(
            format!(
                "{} asks for the tags {}, and runner {} has {}",
                job.name,
                shown(&job.tags),
                runner.id,
                shown(have)
            ),
            "make them agree: outrigger setup --commit-pipeline, or --tags with the job's".to_owned(),
        ));
    }
    if job.tags.is_empty() && runner.run_untagged == Some(false) {
        return Some(Reason::Never(
            format!("{} has no tags, and runner {} takes tagged jobs only", job.name, runner.id),
            format!("give the job the tags {} in the pipeline file", shown(have)),
        ));
    }
    Some(Reason::Later(match runner.status.as_str() {
        "never_contacted" => format!("runner {} to make contact: has its VM been booted?", runner.id),
        "offline" | "stale" => format!("runner {}, which GitLab calls {}", runner.id, runner.status),
        _ => format!("runner {} to take {}", runner.id, job.name),
    }))
}

fn shown(tags: &[String]) -> String {
    if tags.is_empty() { "none".to_owned() } else { tags.join(",") }
}

#[cfg(test)]
mod tests {
    use super::{Reason, reason};
    use crate::gitlab::{Job, Runner};

    #[test]
    fn stuck_is_told_from_slow() {
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
}
