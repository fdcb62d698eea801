//! The runner's side of jobs: asking for one, writing its log, ending it.

use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::params::Params;
use super::pipelines::{Job, Pipeline};
use super::runner_lists::lies_in;
use super::runner_tokens::system_id;
use super::runners::{Runner, Scope};
use super::state::State;
use crate::wire::Request;

impl State {
    /// Whether a runner is one that may run a job.
    pub(crate) fn would_take(&self, runner: &Runner, job: &Job) -> bool {
        let project = &self.projects[&job.project];
        let settings = &runner.settings;
        let at_service = match &runner.scope {
            Scope::Instance => project.spec.shared_runners,
            Scope::Group(id) => {
                self.groups.get(id).is_some_and(|group| lies_in(&project.spec.path, &group.path))
            }
            Scope::Projects(ids) => ids.contains(&job.project),
        };
        let protected = project.is_protected(&self.pipelines[&job.pipeline].reference);
        at_service
            && !settings.paused
            && !project.spec.archived
            && (settings.run_untagged || !job.plan.tags.is_empty())
            && job.plan.tags.iter().all(|tag| settings.tags.contains(tag))
            && (settings.access_level != "ref_protected" || protected)
    }

    fn variables(&self, job: &Job, pipeline: &Pipeline) -> Vec<Value> {
        let project = &self.projects[&job.project];
        let path = &project.spec.path;
        let public =
            |key: &str, value: &str| json!({"key": key, "value": value, "public": true, "masked": false});
        let mut all = vec![
            public("CI", "true"),
            public("GITLAB_CI", "true"),
            public("CI_SERVER_URL", &self.url),
            public("CI_JOB_ID", &job.id.to_string()),
            public("CI_JOB_NAME", &job.plan.name),
            public("CI_JOB_STAGE", &job.plan.stage),
            public("CI_PIPELINE_ID", &pipeline.id.to_string()),
            public("CI_PIPELINE_SOURCE", pipeline.source),
            public("CI_PROJECT_ID", &job.project.to_string()),
            public("CI_PROJECT_PATH", path),
            public("CI_COMMIT_SHA", &pipeline.sha),
            public("CI_COMMIT_REF_NAME", &pipeline.reference),
            // As if the project had it: there is no repository here that git could fetch from.
            public("GIT_STRATEGY", "none"),
            json!({"key": "CI_JOB_TOKEN", "value": job.token, "public": false, "masked": true}),
        ];
        let set = job.plan.variables.iter().chain(&pipeline.variables);
        all.extend(set.map(|(key, value)| public(key, value)));
        all
    }

    /// A job as runners get it.
    fn payload(&self, job: &Job, runner: &Runner) -> Value {
        let pipeline = &self.pipelines[&job.pipeline];
        let project = &self.projects[&job.project];
        let path = &project.spec.path;
        let commit = project.commits.get(&pipeline.sha);
        let timeout = runner.settings.maximum_timeout.unwrap_or(3600).min(3600);
        let step = |name: &str, script: &[String], when: &str| json!({"name": name, "script": script, "timeout": timeout, "when": when, "allow_failure": false});
        let mut steps = vec![step("script", &job.plan.script, "on_success")];
        if !job.plan.after_script.is_empty() {
            steps.push(step("after_script", &job.plan.after_script, "always"));
        }
        let host = self.url.split("://").nth(1).unwrap_or_default();
        let mut credentials = Vec::new();
        if project.spec.registry_enabled {
            let url = format!("registry.{}", host.split('/').next().unwrap_or_default());
            credentials.push(json!({
                "type": "registry", "url": url, "username": "gitlab-ci-token", "password": job.token,
            }));
        }
        json!({
            "id": job.id, "token": job.token, "allow_git_fetch": true,
            "job_info": {
                "name": job.plan.name, "stage": job.plan.stage, "project_id": job.project,
                "project_name": path.rsplit('/').next(),
            },
            "git_info": {
                "repo_url": format!("{}/{path}.git", self.url), "ref": pipeline.reference,
                "sha": pipeline.sha,
                "before_sha": commit.and_then(|commit| commit.parent.clone()).unwrap_or("0".repeat(40)),
                "ref_type": "branch", "refspecs": [format!("+{}:refs/pipelines/{}", pipeline.sha, pipeline.id)],
                "depth": 20,
            },
            "runner_info": {"timeout": timeout, "runner_session_url": null},
            "variables": self.variables(job, pipeline), "steps": steps, "hooks": [],
            "image": job.plan.image.as_ref().map(|image| json!({"name": image})),
            "services": [], "artifacts": null, "cache": [], "credentials": credentials, "dependencies": [],
            "features": {
                "trace_sections": true,
                "failure_reasons": ["unknown_failure", "script_failure", "runner_system_failure",
                    "job_execution_timeout", "image_pull_failure"],
            },
        })
    }

    /// The job of a path, if the token is its own and it still runs.
    fn authenticate_job(&mut self, id: &str, token: &str) -> Outcome<u64> {
        let id: u64 = id.parse().map_err(|_| answer::parameters(&["id is invalid".to_owned()]))?;
        let job = self.jobs.get(&id).ok_or_else(|| answer::not_found("Job"))?;
        if job.token != token || token.is_empty() {
            return Err(answer::forbidden("Invalid job token"));
        }
        if job.status != "running" {
            let mut refusal = answer::forbidden("Job is not processing on runner");
            refusal.headers.push(("Job-Status".to_owned(), job.status.to_owned()));
            return Err(refusal);
        }
        // Whatever a job sends also says that its machine is alive.
        if let Some(runner) = job.runner {
            let system_id = job.system_id.clone();
            self.contact(runner, &system_id, &Value::Null);
        }
        Ok(id)
    }
}

fn nothing(last_update: &str) -> Answer {
    let mut answer = answer::no_content();
    answer.headers.push(("X-GitLab-Last-Update".to_owned(), last_update.to_owned()));
    answer
}

/// `POST /jobs/request`.
pub(crate) fn request(state: &mut State, params: &mut Params) -> Outcome {
    let id = state.authenticate_runner(params)?;
    let system_id = system_id(params);
    let seen = params.text("last_update").unwrap_or_default();
    params.done()?;
    state.contact(id, &system_id, params.raw("info"));
    let runner = state.runners[&id].clone();
    let latest = format!("{:016x}", state.queue);
    if runner.settings.paused || seen == latest {
        return Ok(nothing(&latest));
    }
    let mut waiting = state.jobs.values().filter(|job| job.status == "pending");
    let Some(job) = waiting.find(|job| state.would_take(&runner, job)).map(|job| job.id) else {
        return Ok(nothing(&latest));
    };
    let now = state.now();
    if let Some(job) = state.jobs.get_mut(&job) {
        job.status = "running";
        job.runner = Some(id);
        job.system_id = system_id;
        job.started = Some(now);
    }
    Ok(Answer::json(201, &state.payload(&state.jobs[&job], &runner)))
}

/// `PUT /jobs/:id`.
pub(crate) fn update(state: &mut State, id: &str, params: &mut Params) -> Outcome {
    let token = params.required_text("token");
    let wanted = params.text("state").unwrap_or_default();
    let reason = params.text("failure_reason");
    params.done()?;
    let id = state.authenticate_job(id, &token)?;
    let written = state.jobs[&id].trace.len() as u64;
    let claimed = params.raw("output")["bytesize"].as_u64().unwrap_or(written);
    let status = |code: u16| {
        let mut answer = Answer::json(code, &json!(code.to_string()));
        answer.headers.push(("X-GitLab-Trace-Update-Interval".to_owned(), "3".to_owned()));
        Ok(answer)
    };
    let end = match wanted.as_str() {
        "success" => "success",
        "failed" => "failed",
        _ => return status(200),
    };
    if claimed != written {
        // Part of the log is missing: to be sent again from the start.
        return status(412);
    }
    let reason = if end == "failed" { reason.or(Some("unknown_failure".to_owned())) } else { None };
    state.finish_job(id, end, reason.as_deref());
    status(200)
}

/// `PATCH /jobs/:id/trace`.
pub(crate) fn trace(state: &mut State, id: &str, request: &Request) -> Outcome {
    let id = state.authenticate_job(id, request.header("job-token"))?;
    let range = request.header("content-range");
    if range.is_empty() {
        return Err(Answer::json(400, &json!({"error": "400 Missing header Content-Range"})));
    }
    let Some(job) = state.jobs.get_mut(&id) else { return Err(answer::not_found("Job")) };
    let bounds = range.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let size = job.trace.len();
    let fits = |(from, to): (usize, usize)| from == size && to + 1 == from + request.body.len();
    if !bounds.is_some_and(fits) {
        let mut refusal = Answer::json(416, &json!({"error": "416 Range Not Satisfiable"}));
        refusal.headers.push(("Range".to_owned(), format!("0-{size}")));
        return Err(refusal);
    }
    job.trace.extend_from_slice(&request.body);
    let mut answer = Answer::json(202, &json!("202"));
    let headers = [
        ("Job-Status", job.status.to_owned()),
        ("Range", format!("0-{}", job.trace.len())),
        ("X-GitLab-Trace-Update-Interval", "3".to_owned()),
    ];
    answer.headers.extend(headers.map(|(name, value)| (name.to_owned(), value)));
    Ok(answer)
}
