//! Jobs as users see them, their logs, and the check of a pipeline file.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::ci;
use super::options::Role;
use super::params::Params;
use super::pipelines::Job;
use super::projects::Project;
use super::state::State;

impl State {
    pub(crate) fn job_json(&self, job: &Job) -> Value {
        let pipeline = &self.pipelines[&job.pipeline];
        let project = &self.projects[&job.project];
        let runner = job.runner.and_then(|id| self.runners.get(&id));
        let manager = runner
            .and_then(|runner| runner.managers.iter().find(|manager| manager.system_id == job.system_id));
        let seconds = |from, to: Option<jiff::Timestamp>| {
            let to = to.unwrap_or_else(|| self.now());
            to.duration_since(from).as_secs_f64()
        };
        let mut tags = job.plan.tags.clone();
        tags.sort();
        let mut shown = json!({
            "id": job.id, "name": job.plan.name, "stage": job.plan.stage, "status": job.status,
            "ref": pipeline.reference, "tag": false, "coverage": null,
            "allow_failure": job.plan.allow_failure, "created_at": State::shown(job.created),
            "started_at": job.started.map(State::shown), "finished_at": job.finished.map(State::shown),
            "erased_at": null, "duration": job.started.map(|from| seconds(from, job.finished)),
            "queued_duration": seconds(job.created, job.started.or(job.finished)),
            "archived": false, "tag_list": tags, "artifacts": [], "artifacts_expire_at": null,
            "user": {"username": pipeline.user},
            "commit": project.commits.get(&pipeline.sha).map(|commit| self.commit_json(project, commit)),
            "pipeline": self.pipeline_json(pipeline),
            "project": {"ci_job_token_scope_enabled": false},
            "web_url": format!("{}/{}/-/jobs/{}", self.url, project.spec.path, job.id),
            "runner": runner.map(|runner| self.brief(runner)),
            "runner_manager": manager.map(|manager| json!({
                "id": manager.id, "system_id": manager.system_id, "version": manager.version,
                "platform": manager.platform, "architecture": manager.architecture,
            })),
        });
        if job.status == "failed" {
            shown["failure_reason"] = job.failure_reason.clone().into();
        }
        shown
    }

    /// Counts a lint of somebody, and refuses it if there were too many in this minute.
    fn limit_lints(&mut self, who: &Identity) -> Outcome<()> {
        let Some(most) = self.options.lint_limit else { return Ok(()) };
        let now = self.now();
        let window = self.lints.entry(who.user.clone()).or_insert((now, 0));
        if now.duration_since(window.0) >= SignedDuration::from_mins(1) {
            *window = (now, 0);
        }
        window.1 += 1;
        if window.1 <= most {
            return Ok(());
        }
        let why = "This endpoint has been requested too many times. Try again later.";
        let mut answer = Answer::json(429, &json!({"message": {"error": why}}));
        answer.headers.push(("Retry-After".to_owned(), "60".to_owned()));
        Err(answer)
    }
}

fn find<'a>(state: &'a State, project: &Project, id: &str) -> Outcome<&'a Job> {
    let id: u64 = id.parse().map_err(|_| answer::parameters(&["job_id is invalid".to_owned()]))?;
    let found = state.jobs.get(&id).filter(|job| job.project == project.id);
    found.ok_or_else(|| answer::not_found("Job"))
}

/// `GET /projects/:id/jobs/:job_id`.
pub(crate) fn show(state: &State, project: &Project, id: &str) -> Outcome {
    Ok(Answer::json(200, &state.job_json(find(state, project, id)?)))
}

/// `GET /projects/:id/jobs/:job_id/trace`: empty before the job writes.
pub(crate) fn trace(state: &State, project: &Project, id: &str) -> Outcome {
    let job = find(state, project, id)?;
    let content_type = "text/plain".to_owned();
    Ok(Answer { code: 200, content_type, headers: Vec::new(), body: job.trace.clone() })
}

/// `POST /projects/:id/ci/lint`, and `GET` for what is committed.
pub(crate) fn lint(
    state: &mut State,
    who: &Identity,
    project: u64,
    given: bool,
    params: &mut Params,
) -> Outcome {
    state.limit_lints(who)?;
    let project = &state.projects[&project];
    let mut text = given.then(|| params.required_text("content"));
    let with_jobs = params.boolean("include_jobs").unwrap_or(false);
    let reference = params.text("content_ref").or_else(|| params.text("sha"));
    params.done()?;
    state.need(who, project, if given { Role::Developer } else { Role::Reporter })?;
    if !given {
        let commit = project.resolve(reference.as_deref().unwrap_or("HEAD"));
        let commit = commit.ok_or_else(|| answer::not_found("Commit"))?;
        let file = commit.files.get(project.ci_path());
        text = file.map(|file| String::from_utf8_lossy(&file.content).into_owned());
    }
    let outcome = match &text {
        Some(text) if !text.trim().is_empty() => ci::configure(text),
        _ => Err(vec!["Please provide content of .gitlab-ci.yml".to_owned()]),
    };
    let errors = outcome.as_ref().err().cloned().unwrap_or_default();
    let mut shown = json!({
        "valid": errors.is_empty(), "errors": errors, "warnings": [], "includes": [],
        "merged_yaml": if errors.is_empty() { text.map(|text| format!("---\n{text}")) } else { None },
    });
    if with_jobs {
        let jobs = outcome.unwrap_or_default();
        shown["jobs"] = jobs
            .iter()
            .map(|plan| {
                json!({
                    "name": plan.name, "stage": plan.stage, "before_script": [], "script": plan.script,
                    "after_script": plan.after_script, "tag_list": plan.tags, "environment": null,
                    "when": plan.when, "allow_failure": plan.allow_failure, "needs": null, "only": null,
                    "except": null,
                })
            })
            .collect();
    }
    Ok(Answer::json(200, &shown))
}
