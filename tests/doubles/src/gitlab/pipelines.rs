//! Pipelines, and the jobs in them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::ci::{self, Plan};
use super::options::Role;
use super::page::paginate;
use super::params::Params;
use super::projects::Project;
use super::state::{State, friendly};
use crate::wire::Request;

/// A pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) id: u64,
    pub(crate) project: u64,
    pub(crate) sha: String,
    pub(crate) reference: String,
    pub(crate) source: &'static str,
    /// The status of one that has no jobs: skipped, or failed for a file that cannot be read.
    pub(crate) fixed: Option<&'static str>,
    pub(crate) yaml_errors: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) user: String,
    pub(crate) variables: Vec<(String, String)>,
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) pipeline: u64,
    pub(crate) project: u64,
    pub(crate) plan: Plan,
    pub(crate) status: &'static str,
    pub(crate) runner: Option<u64>,
    /// The machine that runs it.
    pub(crate) system_id: String,
    pub(crate) token: String,
    pub(crate) trace: Vec<u8>,
    pub(crate) failure_reason: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
}

/// Whether nothing more happens to a job by itself.
pub(crate) fn is_done(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped")
}

/// Whether a commit's message asks for no pipeline.
fn skips(message: &str) -> bool {
    let message = message.to_lowercase();
    ["ci skip", "ci-skip", "ci_skip", "skip ci", "skip-ci", "skip_ci"]
        .iter()
        .any(|words| message.contains(&format!("[{words}]")))
}

impl State {
    pub(crate) fn pipeline_status(&self, pipeline: &Pipeline) -> &'static str {
        if let Some(fixed) = pipeline.fixed {
            return fixed;
        }
        let jobs: Vec<&Job> = self.jobs.values().filter(|job| job.pipeline == pipeline.id).collect();
        let any = |status: &str| jobs.iter().any(|job| job.status == status);
        let failed = jobs.iter().any(|job| job.status == "failed" && !job.plan.allow_failure);
        let begun = any("success") || any("failed") || any("canceled");
        match () {
            () if any("running") => "running",
            () if any("pending") || any("created") => {
                if begun {
                    "running"
                } else {
                    "pending"
                }
            }
            () if failed => "failed",
            () if any("canceled") => "canceled",
            () if jobs.iter().any(|job| job.status == "manual" && !job.plan.allow_failure) => "manual",
            // Manual jobs that nobody has to start count like skipped ones.
            () if !jobs.is_empty() && jobs.iter().all(|job| matches!(job.status, "skipped" | "manual")) => {
                "skipped"
            }
            () => "success",
        }
    }

    pub(crate) fn pipeline_json(&self, pipeline: &Pipeline) -> Value {
        let path = &self.projects[&pipeline.project].spec.path;
        let jobs = self.jobs.values().filter(|job| job.pipeline == pipeline.id);
        let touched = jobs.filter_map(|job| job.finished.or(job.started)).max();
        json!({
            "id": pipeline.id, "iid": pipeline.id - 5000, "project_id": pipeline.project,
            "sha": pipeline.sha, "ref": pipeline.reference, "status": self.pipeline_status(pipeline),
            "source": pipeline.source, "created_at": State::shown(pipeline.created), "name": null,
            "updated_at": State::shown(touched.unwrap_or(pipeline.created)),
            "web_url": format!("{}/{path}/-/pipelines/{}", self.url, pipeline.id),
        })
    }

    fn pipeline_details(&self, pipeline: &Pipeline) -> Value {
        let mut shown = self.pipeline_json(pipeline);
        let jobs: Vec<&Job> = self.jobs.values().filter(|job| job.pipeline == pipeline.id).collect();
        let done = is_done(self.pipeline_status(pipeline));
        let finished = jobs.iter().filter_map(|job| job.finished).max().filter(|_| done);
        let started = jobs.iter().filter_map(|job| job.started).min();
        let more = json!({
            "before_sha": "0".repeat(40), "tag": false, "yaml_errors": pipeline.yaml_errors,
            "user": {"id": self.users.get(&pipeline.user).map(|user| user.id), "username": pipeline.user},
            "started_at": started.map(State::shown), "finished_at": finished.map(State::shown),
            "committed_at": null, "duration": null, "queued_duration": null, "coverage": null,
            "archived": false,
            "detailed_status": {"text": self.pipeline_status(pipeline), "group": self.pipeline_status(pipeline)},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            shown[name] = value.clone();
        }
        shown
    }

    fn add_pipeline(
        &mut self,
        who: &str,
        project: u64,
        (reference, sha): (&str, &str),
        source: &'static str,
        plans: Vec<Plan>,
    ) -> u64 {
        let (id, created) = (self.fresh("pipeline"), self.now());
        let pipeline = Pipeline {
            id,
            project,
            sha: sha.to_owned(),
            reference: reference.to_owned(),
            source,
            fixed: None,
            yaml_errors: None,
            created,
            user: who.to_owned(),
            variables: Vec::new(),
        };
        self.pipelines.insert(id, pipeline);
        for plan in plans {
            let job = Job {
                id: self.fresh("job"),
                pipeline: id,
                project,
                plan,
                status: "created",
                runner: None,
                system_id: String::new(),
                token: format!("{}glcbt-64_{}", self.prefix(), friendly()),
                trace: Vec::new(),
                failure_reason: None,
                created,
                started: None,
                finished: None,
            };
            self.jobs.insert(job.id, job);
        }
        self.release_jobs(id);
        id
    }

    /// Lets those jobs of a pipeline start whose stage has come.
    pub(crate) fn release_jobs(&mut self, pipeline: u64) {
        let mut stages: Vec<usize> = Vec::new();
        let of_pipeline = self.jobs.values().filter(|job| job.pipeline == pipeline);
        stages.extend(of_pipeline.map(|job| job.plan.stage_index));
        stages.sort_unstable();
        stages.dedup();
        let (mut open, mut failed) = (false, false);
        for stage in stages {
            let jobs = self.jobs.values_mut();
            for job in jobs.filter(|job| job.pipeline == pipeline && job.plan.stage_index == stage) {
                if job.status == "created" && !open {
                    job.status = match job.plan.when.as_str() {
                        "manual" | "delayed" if !failed => "manual",
                        "on_failure" => {
                            if failed {
                                "pending"
                            } else {
                                "skipped"
                            }
                        }
                        "always" => "pending",
                        _ => {
                            if failed {
                                "skipped"
                            } else {
                                "pending"
                            }
                        }
                    };
                }
            }
            let jobs =
                self.jobs.values().filter(|job| job.pipeline == pipeline && job.plan.stage_index == stage);
            for job in jobs {
                let optional = job.plan.allow_failure;
                let waits_for_nobody = job.status == "manual" && optional;
                open |= !is_done(job.status) && !waits_for_nobody;
                failed |= matches!(job.status, "failed" | "canceled") && !optional;
            }
        }
        self.queue += 1;
    }

    /// What a push starts by itself: a pipeline, a skipped one, a failed one, or nothing.
    pub(crate) fn push(&mut self, who: &Identity, project: u64, branch: &str, sha: &str) {
        let found = &self.projects[&project];
        if !found.spec.builds_enabled {
            return;
        }
        let commit = &found.commits[sha];
        let (skipped, at) = (skips(&commit.message), (branch, sha));
        let text = commit.files.get(found.ci_path()).map(|file| file.content.clone());
        let (plans, fixed, errors) = match text {
            _ if skipped => (Vec::new(), Some("skipped"), None),
            None => return,
            Some(text) if !ci::takes(&String::from_utf8_lossy(&text), "push") => return,
            Some(text) => match ci::configure(&String::from_utf8_lossy(&text)) {
                Ok(plans) if plans.is_empty() => return,
                Ok(plans) => (plans, None, None),
                Err(errors) => (Vec::new(), Some("failed"), Some(errors.join("\n"))),
            },
        };
        let id = self.add_pipeline(&who.user, project, at, "push", plans);
        let pipeline = self.pipelines.get_mut(&id).expect("it was just made");
        (pipeline.fixed, pipeline.yaml_errors) = (fixed, errors);
    }

    /// Fails what has waited for too long: an hour if no runner could take it, else a day.
    pub(crate) fn drop_stuck_jobs(&mut self) {
        let now = self.now();
        let stuck: Vec<u64> = self
            .jobs
            .values()
            .filter(|job| {
                let could = self
                    .runners
                    .values()
                    .any(|runner| self.runner_status(runner) == "online" && self.would_take(runner, job));
                let longest = SignedDuration::from_hours(if could { 24 } else { 1 });
                job.status == "pending" && now.duration_since(job.created) > longest
            })
            .map(|job| job.id)
            .collect();
        for id in stuck {
            self.finish_job(id, "failed", Some("stuck_or_timeout_failure"));
        }
    }

    /// Ends a job.
    pub(crate) fn finish_job(&mut self, id: u64, status: &'static str, reason: Option<&str>) {
        let now = self.now();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.status = status;
        job.finished = Some(now);
        job.failure_reason = reason.map(str::to_owned);
        let pipeline = job.pipeline;
        self.release_jobs(pipeline);
    }
}

fn base(problem: &str) -> Answer {
    answer::invalid(&json!({"base": [problem]}))
}

/// `POST /projects/:id/pipeline`.
pub(crate) fn create(state: &mut State, who: &Identity, project: u64, params: &mut Params) -> Outcome {
    let reference = params.required_text("ref");
    params.done()?;
    let mut variables = Vec::new();
    for variable in params.raw("variables").as_array().into_iter().flatten() {
        let (Some(key), Some(value)) = (variable["key"].as_str(), variable["value"].as_str()) else {
            return Err(answer::parameters(&["variables[0][key] is missing".to_owned()]));
        };
        variables.push((key.to_owned(), value.to_owned()));
    }
    let found = &state.projects[&project];
    if found.spec.archived || !found.spec.builds_enabled {
        return Err(answer::forbidden(""));
    }
    state.need(who, found, Role::Developer)?;
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(&reference).to_owned();
    let Some(commit) = found.branches.get(&branch).and_then(|id| found.commits.get(id)) else {
        return Err(base("Reference not found"));
    };
    if found.is_protected(&branch) && state.role(&who.user, &found.spec.path) < Some(Role::Maintainer) {
        return Err(base(&format!(
            "You do not have sufficient permission to run a pipeline on '{branch}'. Please select a different \
             branch or contact your administrator for assistance."
        )));
    }
    let Some(file) = commit.files.get(found.ci_path()) else { return Err(base("Missing CI config file")) };
    let plans = ci::configure(&String::from_utf8_lossy(&file.content));
    let plans = plans.map_err(|errors| answer::invalid(&json!({"base": errors})))?;
    if !ci::takes(&String::from_utf8_lossy(&file.content), "api") {
        return Err(base("Pipeline filtered out by workflow rules."));
    }
    if plans.is_empty() {
        return Err(base(
            "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs \
             from being added to the pipeline.",
        ));
    }
    let sha = commit.id.clone();
    // Asked for by name, it runs even if the commit says to skip.
    let id = state.add_pipeline(&who.user, project, (&branch, &sha), "api", plans);
    if let Some(pipeline) = state.pipelines.get_mut(&id) {
        pipeline.variables = variables;
    }
    Ok(Answer::json(201, &state.pipeline_details(&state.pipelines[&id])))
}

/// `GET /projects/:id/pipelines`.
pub(crate) fn list(state: &State, project: &Project, request: &Request, params: &mut Params) -> Outcome {
    let (sha, reference) = (params.text("sha"), params.text("ref"));
    let (status, source) = (params.text("status"), params.text("source"));
    params.done()?;
    let newest_first = state.pipelines.values().rev();
    let rows: Vec<Value> = newest_first
        .filter(|pipeline| pipeline.project == project.id && state.is_settled(pipeline.created))
        .filter(|pipeline| sha.as_ref().is_none_or(|sha| *sha == pipeline.sha))
        .filter(|pipeline| reference.as_ref().is_none_or(|reference| *reference == pipeline.reference))
        .filter(|pipeline| status.as_ref().is_none_or(|status| *status == state.pipeline_status(pipeline)))
        .filter(|pipeline| source.as_ref().is_none_or(|source| *source == pipeline.source))
        .map(|pipeline| state.pipeline_json(pipeline))
        .collect();
    paginate(state, request, params, &rows)
}

fn find<'a>(state: &'a State, project: &Project, id: &str) -> Outcome<&'a Pipeline> {
    let id: u64 = id.parse().map_err(|_| answer::parameters(&["pipeline_id is invalid".to_owned()]))?;
    let found = state.pipelines.get(&id).filter(|pipeline| pipeline.project == project.id);
    found.ok_or_else(|| answer::not_found("Pipeline"))
}

/// `GET /projects/:id/pipelines/:pipeline_id`.
pub(crate) fn show(state: &State, project: &Project, id: &str) -> Outcome {
    let found = find(state, project, id)?;
    if !state.is_settled(found.created) {
        return Err(answer::not_found("Pipeline"));
    }
    Ok(Answer::json(200, &state.pipeline_details(found)))
}

/// `GET /projects/:id/pipelines/:pipeline_id/jobs`.
pub(crate) fn jobs(
    state: &State,
    project: &Project,
    id: &str,
    request: &Request,
    params: &mut Params,
) -> Outcome {
    let pipeline = find(state, project, id)?;
    let scopes = params.list("scope").unwrap_or_default();
    let of_pipeline = state.jobs.values().rev().filter(|job| job.pipeline == pipeline.id);
    let rows: Vec<Value> = of_pipeline
        .filter(|job| scopes.is_empty() || scopes.iter().any(|scope| scope == job.status))
        .map(|job| state.job_json(job))
        .collect();
    paginate(state, request, params, &rows)
}

/// `POST /projects/:id/pipelines/:pipeline_id/cancel`.
pub(crate) fn cancel(state: &mut State, who: &Identity, project: u64, id: &str) -> Outcome {
    let found = &state.projects[&project];
    let pipeline = find(state, found, id)?.id;
    state.need(who, found, Role::Developer)?;
    let open = |job: &&Job| job.pipeline == pipeline && !is_done(job.status);
    let ids: Vec<u64> = state.jobs.values().filter(open).map(|job| job.id).collect();
    for id in ids {
        state.finish_job(id, "canceled", None);
    }
    Ok(Answer::json(200, &state.pipeline_details(&state.pipelines[&pipeline])))
}
