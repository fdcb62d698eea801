//! The result of a finished pipeline: a success if GitLab's status is success and one of its jobs succeeded on our
//! runner. Other jobs (manual, skipped, allowed to fail, on other runners) are shown, and do not affect the result.

use std::fmt::Write as _;

use crate::base::error::{Command, Failure, Id, Result};
use crate::gitlab::{Job, Pipeline};

/// The result as text. `ours` is the id of our runner, if known. Fails (exit 9) with OR0910 if the pipeline or the job
/// on our runner did not succeed, and with OR0911 if no job ran on our runner.
pub fn judge(pipeline: &Pipeline, jobs: &[Job], ours: Option<u64>) -> Result<String> {
    if pipeline.status != "success" {
        return Err(ended_badly(pipeline, jobs));
    }
    let Some(ours) = ours else {
        let by: Vec<String> = jobs
            .iter()
            .filter(|job| job.status == "success")
            .filter_map(|job| job.runner.as_ref().map(|(id, _)| id.to_string()))
            .collect();
        if by.is_empty() {
            return Err(elsewhere("the pipeline succeeded, but none of its jobs ran on a runner", jobs));
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
            Some(job) => failed(format!("the pipeline succeeded, but no job on our runner {ours} did"), job),
            None => elsewhere(&format!("the pipeline succeeded, but not on our runner {ours}"), jobs),
        });
    }
    let names: Vec<&str> = on_ours.iter().map(|job| job.name.as_str()).collect();
    let text = format!("{} succeeded on runner {ours}", names.join(", "));
    if others.is_empty() {
        return Ok(text);
    }
    let others: Vec<String> = others.into_iter().map(shown).collect();
    Ok(format!("{text}; not judged: {}", others.join(", ")))
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
fn ended_badly(pipeline: &Pipeline, jobs: &[Job]) -> Failure {
    let failure = |message: String| Failure::new(Id::PipelineFailed, message);
    let with_status = |status: &str| jobs.iter().find(|job| job.status == status && !job.allow_failure);
    let decided = match pipeline.status.as_str() {
        "manual" => with_status("manual"),
        status => with_status(status).or_else(|| with_status("failed")),
    };
    let Some(job) = decided else {
        let mut failure = failure(format!("the pipeline {} ended as {}", pipeline.id, pipeline.status));
        if let Some(errors) = &pipeline.errors {
            failure = failure.detail("GitLab says", errors.clone());
        }
        return failure.hint(("see the pipeline in GitLab; once it is fixed", again()));
    };
    if pipeline.status == "manual" {
        return failure(format!("the pipeline waits for the manual job {}", job.name))
            .hint(("start it in GitLab, or set allow_failure: true for it, then", again()));
    }
    failed(format!("the job {} ended as {}", job.name, job.status), job)
}

fn failed(message: String, job: &Job) -> Failure {
    let mut failure = Failure::new(Id::PipelineFailed, message);
    if let Some(reason) = &job.failure_reason {
        failure = failure.detail("GitLab says", reason.clone());
    }
    let runner = job.runner.as_ref().map_or_else(|| "no runner".to_owned(), |(id, _)| format!("runner {id}"));
    failure.detail("ran on", runner).hint(("see its log above; once it is fixed", again()))
}

fn elsewhere(message: &str, jobs: &[Job]) -> Failure {
    let by: Vec<String> = jobs
        .iter()
        .filter_map(|job| job.runner.as_ref())
        .map(
            |(id, name)| {
                if name.is_empty() { format!("runner {id}") } else { format!("runner {id} ({name})") }
            },
        )
        .collect();
    Failure::new(Id::PipelineElsewhere, message)
        .detail("ran on", if by.is_empty() { "no runner".to_owned() } else { by.join(", ") })
        .hint("another runner takes jobs with these tags: use other tags with --tags")
}

fn again() -> Command {
    Command::outrigger("run-pipeline")
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::base::error::Id;
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

    fn of(status: &str, jobs: &[Job], ours: Option<u64>) -> Result<String, (Id, String)> {
        let pipeline = Pipeline { id: 7, status: status.to_owned(), ..Pipeline::default() };
        judge(&pipeline, jobs, ours).map_err(|failure| (failure.id, failure.message))
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
        let id = |found: Result<String, (Id, String)>| found.expect_err("no success");
        let good = job("test", "success", false, Some(101));
        let broken = job("lint", "failed", false, Some(7));
        // The job on our runner succeeded, and the pipeline did not.
        assert_eq!(
            id(of("failed", &[good.clone(), broken], Some(101))),
            (Id::PipelineFailed, "the job lint ended as failed".to_owned())
        );
        assert_eq!(
            id(of("canceled", &[good.clone(), job("x", "canceled", false, None)], Some(101))).1,
            "the job x ended as canceled"
        );
        assert_eq!(
            id(of("manual", &[good.clone(), job("deploy", "manual", false, None)], Some(101))).1,
            "the pipeline waits for the manual job deploy"
        );
        assert_eq!(id(of("failed", &[], Some(101))).1, "the pipeline 7 ended as failed");
        assert_eq!(id(of("skipped", &[], Some(101))).1, "the pipeline 7 ended as skipped");
        // The pipeline succeeded, and the job on our runner did not, or ran on another runner.
        let allowed = job("test", "failed", true, Some(101));
        assert_eq!(
            id(of("success", &[allowed, job("b", "success", false, Some(7))], Some(101))).0,
            Id::PipelineFailed
        );
        assert_eq!(
            id(of("success", &[job("b", "success", false, Some(7))], Some(101))).0,
            Id::PipelineElsewhere
        );
        assert_eq!(id(of("success", &[], None)).0, Id::PipelineElsewhere);
        assert!(of("success", &[good], None).is_ok_and(|text| text.contains("not known")));
    }
}
