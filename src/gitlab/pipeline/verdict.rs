//! The result of a finished pipeline: a success if GitLab's status is success and one of its jobs succeeded on our
//! runner. Other jobs (manual, skipped, allowed to fail, on other runners) are shown, and do not affect the result.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::failure_reason;
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::job_log::LogLine;
use crate::gitlab::{Job, Pipeline};

/// What was shown of a job's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub lines: usize,
    /// The runner's last line about the job's failure, as text.
    pub error: Option<String>,
}

impl Shown {
    /// Counts a line. gitlab-runner ends the log of a job that fails with `ERROR: Job failed` and the reason.
    pub fn add(&mut self, line: &LogLine) {
        self.lines += 1;
        let text = line.plain();
        if text.starts_with("ERROR: Job failed") {
            self.error = Some(text);
        }
    }
}

/// A finished pipeline with its jobs.
#[derive(Clone, Copy)]
pub struct Finished<'a> {
    pub pipeline: &'a Pipeline,
    pub jobs: &'a [Job],
    /// The id of our runner, if known.
    pub ours: Option<u64>,
    /// By the ids of the jobs.
    pub logs: &'a BTreeMap<u64, Shown>,
}

/// The result as text. Fails (exit 9) with OR0910 if the pipeline or the job on our runner did not succeed, and with
/// OR0911 if no job ran on our runner.
pub fn judge(finished: Finished<'_>) -> Result<String> {
    let Finished { pipeline, jobs, ours, .. } = finished;
    if pipeline.status != "success" {
        return Err(ended_badly(finished));
    }
    let Some(ours) = ours else {
        let by: Vec<String> = jobs
            .iter()
            .filter(|job| job.status == "success")
            .filter_map(|job| job.runner.as_ref().map(|(id, _)| id.to_string()))
            .collect();
        if by.is_empty() {
            return Err(nothing_ran(finished));
        }
        return Ok(format!(
            "the pipeline succeeded on runner {} (not known whether the given token is that runner's)",
            by.join(", ")
        ));
    };
    let (on_ours, others): (Vec<&Job>, Vec<&Job>) =
        jobs.iter().partition(|job| job.status == "success" && job.ran_on(ours));
    if on_ours.is_empty() {
        return Err(match jobs.iter().find(|job| job.ran_on(ours)) {
            Some(job) => failed(finished, job)
                .detail("pipeline", format!("pipeline {} succeeded: the job may fail", pipeline.id)),
            None if jobs.iter().any(|job| job.runner.is_some()) => elsewhere(finished, ours),
            None => nothing_ran(finished),
        });
    }
    let text = format!("{} succeeded on runner {ours}", names(&on_ours));
    if others.is_empty() {
        return Ok(text);
    }
    let others: Vec<String> = others.into_iter().map(shown).collect();
    Ok(format!("{text}; not judged: {}", others.join(", ")))
}

fn names(jobs: &[&Job]) -> String {
    jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A job that is not judged: `deploy (manual)`.
fn shown(job: &Job) -> String {
    let mut about = job.status.clone();
    if job.allow_failure && job.status == "failed" {
        about.push_str(", allowed to fail");
    }
    if let Some((id, _)) = &job.runner {
        let _ = write!(about, ", runner {id}");
    }
    format!("{} ({about})", job.name)
}

/// The failure for a pipeline that did not succeed, with the decisive job or the errors of the file.
fn ended_badly(finished: Finished<'_>) -> Failure {
    let Finished { pipeline, jobs, ours, .. } = finished;
    let id = pipeline.id;
    let failure = |message: String| Failure::new(Id::PipelineFailed, message);
    // A job of our runner says more about this deployment than one of others.
    let with_status = |status: &str| {
        let mut all = jobs.iter().filter(|job| job.status == status && !job.allow_failure);
        let first = all.clone().next();
        all.find(|job| ours.is_some_and(|ours| job.ran_on(ours))).or(first)
    };
    let succeeded: Vec<&Job> = jobs
        .iter()
        .filter(|job| job.status == "success" && ours.is_some_and(|ours| job.ran_on(ours)))
        .collect();
    let on_ours = |failure: Failure| match ours {
        Some(ours) if !succeeded.is_empty() => {
            failure.detail(format!("on runner {ours}"), format!("{} succeeded", names(&succeeded)))
        }
        _ => failure,
    };
    match pipeline.status.as_str() {
        "manual" => {
            let job = with_status("manual").map_or("", |job| job.name.as_str());
            on_ours(failure(format!("pipeline {id} waits for the manual job {job}")))
                .hint(("start it in GitLab, or set allow_failure: true for it, then", again()))
        }
        "skipped" => nothing_ran(finished),
        "canceled" => {
            let job = with_status("canceled").map(|job| format!(", and its job {} with it", job.name));
            on_ours(failure(format!("pipeline {id} was canceled{}", job.unwrap_or_default())))
                .hint(("to start it once more", again()))
        }
        status => match (with_status("failed"), &pipeline.errors) {
            (Some(job), _) => on_ours(failed(finished, job)),
            (None, Some(errors)) => failure(format!("pipeline {id} failed: its file is not valid"))
                .detail("GitLab says", errors.clone())
                .hint(("correct the file, then", again())),
            (None, None) => {
                on_ours(failure(format!("pipeline {id} ended as {status}, and no job of it failed")))
                    .hint(("see the pipeline in GitLab; once it is corrected", again()))
            }
        },
    }
}

/// The failure for a job that failed.
fn failed(finished: Finished<'_>, job: &Job) -> Failure {
    let on = job.runner.as_ref().map(|(id, _)| format!(" on runner {id}")).unwrap_or_default();
    let reason = job.failure_reason.as_deref();
    let words = reason.and_then(failure_reason::words).map(|words| format!(": {words}")).unwrap_or_default();
    let mut failure = Failure::new(Id::PipelineFailed, format!("job {} {}{on}{words}", job.name, job.status));
    let log = finished.logs.get(&job.id);
    if let Some(error) = log.and_then(|log| log.error.clone()) {
        failure = failure.detail("its log says", error);
    }
    if let Some(reason) = reason {
        failure = failure.detail("GitLab says", reason);
    }
    failure.hints.extend(failure_reason::hints(reason, log.is_some_and(|log| log.lines > 0)));
    failure
}

/// The failure for a pipeline without a job on a runner.
fn nothing_ran(finished: Finished<'_>) -> Failure {
    let Finished { pipeline, jobs, .. } = finished;
    let id = pipeline.id;
    let kind = if pipeline.status == "success" { Id::PipelineElsewhere } else { Id::PipelineFailed };
    if jobs.is_empty() {
        return Failure::new(kind, format!("pipeline {id} has no job of its own: nothing ran on a runner"))
            .hint(
                "jobs of child and downstream pipelines do not count: add one to the pipeline file itself",
            );
    }
    let left: Vec<String> = jobs.iter().map(shown).collect();
    let message = format!("no job of pipeline {id} ran on a runner: {}", left.join(", "));
    Failure::new(kind, message)
        .hint(("start the job in GitLab, or correct its rules in the pipeline file. Then", again()))
}

fn elsewhere(finished: Finished<'_>, ours: u64) -> Failure {
    let by: Vec<String> = finished
        .jobs
        .iter()
        .filter_map(|job| job.runner.as_ref().map(|runner| (job, runner)))
        .map(|(job, (id, name))| match name.as_str() {
            "" => format!("{} on runner {id}", job.name),
            name => format!("{} on runner {id} ({name})", job.name),
        })
        .collect();
    let message = format!("pipeline {} succeeded, but not on our runner {ours}", finished.pipeline.id);
    Failure::new(Id::PipelineElsewhere, message)
        .detail("ran", by.join(", "))
        .hint("another runner takes jobs with these tags: use a tag that no other runner has, with --tags")
}

fn again() -> Command {
    Command::outrigger("run-pipeline")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Finished, Shown, judge};
    use crate::base::error::{Failure, Id};
    use crate::gitlab::{Job, Pipeline};

    fn job(name: &str, status: &str, allow_failure: bool, runner: Option<u64>) -> Job {
        Job {
            name: name.to_owned(),
            status: status.to_owned(),
            allow_failure,
            runner: runner.map(|id| (id, "other runner".to_owned())),
            ..Job::default()
        }
    }

    fn judged(pipeline: &Pipeline, jobs: &[Job], ours: Option<u64>) -> Result<String, Failure> {
        let error = Some("ERROR: Job failed: exit code 1".to_owned());
        let logs = BTreeMap::from([(9, Shown { lines: 4, error })]);
        judge(Finished { pipeline, jobs, ours, logs: &logs })
    }

    fn of(status: &str, jobs: &[Job], ours: Option<u64>) -> Result<String, (Id, String)> {
        let pipeline = Pipeline { id: 7, status: status.to_owned(), ..Pipeline::default() };
        judged(&pipeline, jobs, ours).map_err(|failure| (failure.id, failure.message))
    }

    #[test]
    fn other_jobs_are_shown_and_do_not_affect_the_result() {
        let jobs = [
            job("test", "success", false, Some(101)),
            job("deploy", "manual", true, None),
            job("after", "skipped", false, None),
            job("secret-detection-0", "failed", true, Some(7)),
            job("build", "success", false, Some(7)),
        ];
        assert_eq!(
            of("success", &jobs, Some(101)).as_deref(),
            Ok("test succeeded on runner 101; not judged: deploy (manual), after (skipped), \
                secret-detection-0 (failed, allowed to fail, runner 7), build (success, runner 7)")
        );
        assert_eq!(of("success", &jobs[..1], Some(101)).as_deref(), Ok("test succeeded on runner 101"));
    }

    #[test]
    fn success_needs_gitlabs_status_and_a_job_on_our_runner() {
        let good = job("test", "success", false, Some(101));
        let reason = |name: &str, runner: Option<u64>, reason: &str| Job {
            failure_reason: Some(reason.to_owned()),
            ..job(name, "failed", false, runner)
        };
        let allowed = job("test", "failed", true, Some(101));
        let theirs = job("b", "success", false, Some(7));
        let (bad, elsewhere) = (Id::PipelineFailed, Id::PipelineElsewhere);
        for (status, jobs, ours, id, message) in [
            // The job on our runner succeeded, and the pipeline did not.
            (
                "failed",
                vec![good.clone(), job("lint", "failed", false, Some(7))],
                Some(101),
                bad,
                "job lint failed on runner 7",
            ),
            (
                "canceled",
                vec![good.clone(), job("x", "canceled", false, None)],
                Some(101),
                bad,
                "pipeline 7 was canceled, and its job x with it",
            ),
            ("canceled", vec![], Some(101), bad, "pipeline 7 was canceled"),
            (
                "manual",
                vec![good.clone(), job("deploy", "manual", false, None)],
                Some(101),
                bad,
                "pipeline 7 waits for the manual job deploy",
            ),
            // The reason in words; our runner's job before others.
            (
                "failed",
                vec![reason("test", Some(101), "script_failure")],
                Some(101),
                bad,
                "job test failed on runner 101: a command of its script failed",
            ),
            (
                "failed",
                vec![reason("test", None, "stuck_pending_no_matching_runners")],
                Some(101),
                bad,
                "job test failed: no runner has its tags",
            ),
            ("failed", vec![reason("test", None, "of_a_later_version")], Some(101), bad, "job test failed"),
            (
                "failed",
                vec![
                    reason("lint", Some(7), "script_failure"),
                    reason("test", Some(101), "runner_system_failure"),
                ],
                Some(101),
                bad,
                "job test failed on runner 101: the runner could not run it in the cluster",
            ),
            (
                "failed",
                vec![allowed.clone(), reason("lint", Some(7), "api_failure")],
                Some(101),
                bad,
                "job lint failed on runner 7: GitLab's API failed",
            ),
            // No job failed, or none ran.
            ("failed", vec![], Some(101), bad, "pipeline 7 ended as failed, and no job of it failed"),
            ("skipped", vec![], Some(101), bad, "pipeline 7 has no job of its own: nothing ran on a runner"),
            (
                "skipped",
                vec![job("deploy", "manual", true, None)],
                Some(101),
                bad,
                "no job of pipeline 7 ran on a runner: deploy (manual)",
            ),
            ("success", vec![], None, elsewhere, "pipeline 7 has no job of its own: nothing ran on a runner"),
            (
                "success",
                vec![job("deploy", "manual", true, None)],
                Some(101),
                elsewhere,
                "no job of pipeline 7 ran on a runner: deploy (manual)",
            ),
            // The pipeline succeeded, and the job on our runner did not, or ran on another runner.
            ("success", vec![allowed, theirs.clone()], Some(101), bad, "job test failed on runner 101"),
            (
                "success",
                vec![theirs],
                Some(101),
                elsewhere,
                "pipeline 7 succeeded, but not on our runner 101",
            ),
        ] {
            let found = of(status, &jobs, ours).expect_err(message);
            assert_eq!(found, (id, message.to_owned()), "{status} {jobs:?}");
        }
        assert!(of("success", &[good], None).is_ok_and(|text| text.contains("not known")));
    }

    #[test]
    fn failure_quotes_log_and_gitlab_and_names_what_succeeded() {
        let pipeline = |errors: Option<&str>| Pipeline {
            id: 7,
            status: "failed".to_owned(),
            errors: errors.map(str::to_owned),
            ..Pipeline::default()
        };
        let details = |failure: Failure| {
            let rows = failure.details.iter().map(|(label, text)| format!("{label}: {text}"));
            rows.chain(failure.hints.iter().map(ToString::to_string)).collect::<Vec<_>>()
        };
        let lint = Job {
            id: 9,
            failure_reason: Some("script_failure".to_owned()),
            ..job("lint", "failed", false, Some(7))
        };
        let jobs = [job("test", "success", false, Some(101)), lint];
        assert_eq!(
            details(judged(&pipeline(None), &jobs, Some(101)).expect_err("failed")),
            [
                "its log says: ERROR: Job failed: exit code 1",
                "GitLab says: script_failure",
                "on runner 101: test succeeded",
                "correct the job; its log above shows its commands. Then: outrigger run-pipeline",
            ]
        );
        let invalid = judged(&pipeline(Some("jobs:test is odd")), &[], Some(101)).expect_err("failed");
        assert_eq!(invalid.message, "pipeline 7 failed: its file is not valid");
        assert_eq!(details(invalid)[0], "GitLab says: jobs:test is odd");
    }
}
