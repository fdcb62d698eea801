//! Finds or triggers a pipeline, follows it with its jobs' logs, and checks the result.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Finished, Reason, Setting, Shown, State, Why, judge, paused, state, why_waiting};
use crate::base::error::{Command, Failure, Hint, Id, Result};
use crate::base::event::Event;
use crate::base::job_log::Log;
use crate::base::text::human_duration;
use crate::base::wait::{self, Pace};
use crate::gitlab::facts::instance;
use crate::gitlab::runner::{self, Found, Ours, Verdict};
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Class, Gitlab, Job, Pipeline, Project, Route};
use crate::settings::check::duration_text;

/// Time that a job may be pending before the reason is looked up, or run without a new line before that is said.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time for GitLab to start the pipeline of a new commit.
const APPEARS: Duration = Duration::from_secs(10);
/// Time for the last requests after the end of `--wait`.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Waits for the runner, finds or triggers the pipeline of the branch's last commit (`committed`, if created in
/// this run), follows it and returns its result as text. Fails as [`judge`] does, with OR0912 (exit 9) for a stuck
/// job, and with OR0806 (exit 8) after `--wait`.
pub async fn run(hand: &Hand, branch: &str, committed: Option<&str>) -> Result<String> {
    let state: &State = state(hand).await?;
    let started = Instant::now();
    let ends = started + hand.run.settings.wait;
    // --timeout does not limit this wait.
    let view = &hand.until(ends + LAST_LOOK);
    let follower = Follower {
        view,
        gitlab: view.client()?,
        project: state.project.to_string(),
        about: instance(view).await?.project()?,
        // Of a branch that was created since, it is not known.
        protected: state.head.as_ref().map(|_| state.protected),
        ends,
        started,
    };
    follower.runner().await?;
    let sha = committed.map(str::to_owned).or_else(|| state.head.clone()).unwrap_or_default();
    let pipeline = follower.find_or_trigger(branch, &sha, committed.is_some()).await?;
    let (pipeline, jobs, logs) = follower.follow(pipeline).await?;
    judge(Finished { pipeline: &pipeline, jobs: &jobs, ours: our_runner(view).await?, logs: &logs })
}

/// The ids of a commit's pipeline and of our runner, if the pipeline succeeded with a job on our runner.
pub async fn succeeded(view: &View, project: u64, sha: &str) -> Result<Option<(u64, u64)>> {
    let (gitlab, project) = (view.client()?, project.to_string());
    let Some(pipeline) = latest(gitlab, &project, sha).await?.filter(|one| one.status == "success") else {
        return Ok(None);
    };
    let jobs = jobs(gitlab, &project, pipeline.id).await?;
    let ours = our_runner(view).await?;
    let ran = |id: &u64| jobs.iter().any(|job| job.status == "success" && job.ran_on(*id));
    Ok(ours.filter(ran).map(|id| (pipeline.id, id)))
}

/// The id of the deployment's runner, if known.
async fn our_runner(view: &View) -> Result<Option<u64>> {
    if let Some(runner) = view.notes.record().gitlab.owned() {
        return Ok(Some(runner.id));
    }
    Ok(match runner::verdict(view).await? {
        Verdict::Keep { ours, .. } | Verdict::Legacy(Found::Ours(ours)) => Some(ours.runner.id),
        _ => None,
    })
}

async fn latest(gitlab: &Gitlab, project: &str, sha: &str) -> Result<Option<Pipeline>> {
    let route = Route::of(&["projects", project, "pipelines"]).with("sha", sha).with("per_page", "20");
    let list = gitlab.get("list the pipelines of the commit", &route).await?;
    Ok(list.as_array().into_iter().flatten().filter_map(Pipeline::read).max_by_key(|pipeline| pipeline.id))
}

async fn jobs(gitlab: &Gitlab, project: &str, pipeline: u64) -> Result<Vec<Job>> {
    let id = pipeline.to_string();
    let route = Route::of(&["projects", project, "pipelines", &id, "jobs"]);
    let list = gitlab.list(&format!("list the jobs of pipeline {id}"), &route).await?;
    let mut jobs: Vec<Job> = list.iter().filter_map(Job::read).collect();
    jobs.sort_by_key(|job| job.id);
    Ok(jobs)
}

struct Follower<'a> {
    view: &'a View,
    gitlab: &'a Gitlab,
    project: String,
    about: &'a Project,
    /// Whether the branch is protected, if known.
    protected: Option<bool>,
    ends: Instant,
    started: Instant,
}

/// What has not happened yet, for the failure if it does not happen in time.
struct Awaited {
    /// Continues with "within 5 min": "job test has not started".
    what: String,
    /// The reason, if known.
    because: Option<String>,
    /// What to do about it.
    hint: Option<Hint>,
}

impl Awaited {
    fn failure(self, wait: Duration) -> Failure {
        let because = self.because.map(|because| format!(": {because}")).unwrap_or_default();
        let message = format!("{} within {}{because}", self.what, human_duration(wait));
        let mut failure = Failure::new(Id::PipelineTimeout, message);
        failure.hints.extend(self.hint);
        let longer = duration_text((wait * 2).max(Duration::from_secs(1800)));
        failure.hint(("wait longer", Command::outrigger(format!("run-pipeline --wait {longer}"))))
    }
}

impl Follower<'_> {
    fn waiting(&self, what: &str) {
        self.view.progress.waiting("run-pipeline", what, self.started.elapsed());
    }

    /// Repeats `look` until it breaks or `--wait` is over.
    async fn until<T>(
        &self,
        first: u64,
        look: impl AsyncFnMut() -> Result<ControlFlow<T, Awaited>>,
    ) -> Result<T> {
        let pace = Pace { deadline: self.ends, ..Pace::new(&self.view.limits, first, 3000) };
        let found = wait::until(pace, |_, _| {}, look).await?;
        found.map_err(|awaited| awaited.failure(self.view.run.settings.wait))
    }

    /// The current state of our runner.
    async fn look(&self) -> Result<Option<Box<Ours>>> {
        Ok(match runner::find(self.view).await? {
            Found::Ours(ours) => Some(ours),
            _ => None,
        })
    }

    /// Waits for the first contact of our runner.
    async fn runner(&self) -> Result<()> {
        let look = async || {
            let Some(ours) = self.look().await? else { return Ok(Break(())) };
            let id = ours.runner.id;
            if ours.runner.paused {
                let (because, hint) = paused(id);
                return Err(Failure::new(Id::JobStuck, format!("{because}: it takes no job")).hint(hint));
            }
            let machine = ours.managers.first();
            if machine.is_some() || !ours.runner.never_contacted() {
                let condition = runner::condition(self.view, &ours);
                let text = match condition.problems.first() {
                    Some((silence, _)) if condition.is_silent => silence.clone(),
                    // GitLab may list the machine later.
                    _ => {
                        let about = machine.map_or_else(String::new, |machine| {
                            let version = machine.version.as_deref().unwrap_or("(version unknown)");
                            format!(": gitlab-runner {version}, system id {}", machine.system_id)
                        });
                        format!("runner {id} has contacted GitLab{about}")
                    }
                };
                self.view.progress.event(&Event::Note { text });
                return Ok(Break(()));
            }
            self.waiting(&format!("the first contact of runner {id} with GitLab"));
            Ok(Continue(Awaited {
                what: format!("runner {id} has not contacted GitLab"),
                because: None,
                hint: Some(
                    format!(
                        "run the launch script on the machine, or look there why it failed: \
                         /var/lib/outrigger/{}.json has its result",
                        self.view.run.names.deployment
                    )
                    .into(),
                ),
            }))
        };
        self.until(500, look).await
    }

    /// The commit's pipeline, or a new one.
    async fn find_or_trigger(&self, branch: &str, sha: &str, pushed: bool) -> Result<Pipeline> {
        let look = async || {
            Ok(match latest(self.gitlab, &self.project, sha).await? {
                // A commit with [ci skip] gets a skipped pipeline without jobs.
                Some(pipeline) if pipeline.status == "skipped" => Break(None),
                // A finished pipeline of an earlier run is not reused.
                Some(pipeline) if !pipeline.is_over() || pushed => Break(Some(pipeline)),
                None if pushed => Continue(()),
                _ => Break(None),
            })
        };
        let tell = |(): &(), _| self.waiting("GitLab to start the pipeline of the new commit");
        let pace = Pace::new(&self.view.limits, 500, 500).within(APPEARS);
        if let Ok(Some(pipeline)) = wait::until(pace, tell, look).await? {
            return Ok(pipeline);
        }
        let route = Route::of(&["projects", &self.project, "pipeline"]);
        let what = format!("run the pipeline of {branch}");
        let answer = self.gitlab.post(&what, &route, &json!({"ref": branch})).await;
        let answer = answer.map_err(|refusal| {
            let mut failure = Failure::from(refusal);
            if failure.id == Id::GitlabInvalid {
                // The only setting in the request is the branch.
                let hint = "correct what GitLab's message names, in the pipeline file or the project; then";
                failure.hints = vec![(hint, Command::outrigger("run-pipeline")).into()];
            }
            failure
        })?;
        Pipeline::read(&answer).ok_or_else(|| {
            Failure::new(Id::NotGitlab, "GitLab's response to the pipeline creation is not a pipeline")
                .hint("run the same command again: it looks for the pipeline first")
                .passing()
        })
    }

    /// Follows a pipeline to its end; returns it with its jobs, and what was shown of their logs.
    async fn follow(&self, mut pipeline: Pipeline) -> Result<(Pipeline, Vec<Job>, BTreeMap<u64, Shown>)> {
        let mut logs: BTreeMap<u64, (Log, Shown)> = BTreeMap::new();
        let mut pending_since: Option<Instant> = None;
        let mut quiet_since: Option<Instant> = None;
        if let Some(url) = &pipeline.url {
            self.view.progress.event(&Event::Pipeline { id: pipeline.id, url: url.clone() });
        }
        let mut is_fresh = true;
        let look = async || {
            if !std::mem::take(&mut is_fresh) {
                let id = pipeline.id.to_string();
                let route = Route::of(&["projects", &self.project, "pipelines", &id]);
                let url = pipeline.url.take();
                let value: Value = self.gitlab.get(&format!("read pipeline {id}"), &route).await?;
                let now = Pipeline::read(&value).unwrap_or_else(|| pipeline.clone());
                pipeline = Pipeline { url, ..now };
            }
            let jobs = jobs(self.gitlab, &self.project, pipeline.id).await?;
            for job in &jobs {
                let (log, shown) = logs.entry(job.id).or_default();
                if self.show(job, log, shown).await? {
                    quiet_since = None;
                }
            }
            if pipeline.is_over() {
                return Ok(Break((pipeline.clone(), jobs)));
            }
            if let Some(job) = jobs.iter().find(|job| job.status == "running") {
                pending_since = None;
                let on = job.runner.as_ref().map(|(id, _)| format!(" on runner {id}")).unwrap_or_default();
                if quiet_since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                    self.waiting(&format!("the end of job {}{on}", job.name));
                }
                return Ok(Continue(Awaited {
                    what: format!("job {} has not finished{on}", job.name),
                    because: None,
                    hint: None,
                }));
            }
            let is_pending = jobs.iter().any(|job| job.status == "pending");
            if is_pending {
                let since = *pending_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE
                    && let Some(Why { job, because, hint }) = self.explain(&jobs).await?
                {
                    self.waiting(&format!("job {job} to start: {because}"));
                    let what = format!("job {job} has not started");
                    return Ok(Continue(Awaited { what, because: Some(because), hint }));
                }
            } else {
                pending_since = None;
            }
            let seen =
                jobs.iter().map(|job| format!("{} {}", job.name, job.status)).collect::<Vec<_>>().join(", ");
            let seen = if seen.is_empty() { String::new() } else { format!(" ({seen})") };
            let seen = format!("it is {}{seen}", pipeline.status);
            if !is_pending {
                self.waiting(&format!("pipeline {}: {seen}", pipeline.id));
            }
            let what = format!("pipeline {} has not finished", pipeline.id);
            Ok(Continue(Awaited { what, because: Some(seen), hint: None }))
        };
        let (pipeline, jobs) = self.until(300, look).await?;
        Ok((pipeline, jobs, logs.into_iter().map(|(id, (_, shown))| (id, shown)).collect()))
    }

    /// Shows the new lines of a job's log; returns whether there were any.
    async fn show(&self, job: &Job, log: &mut Log, shown: &mut Shown) -> Result<bool> {
        if job.runner.is_none() {
            return Ok(false);
        }
        let id = job.id.to_string();
        let route = Route::of(&["projects", &self.project, "jobs", &id, "trace"]);
        let whole = match self.gitlab.text(&format!("read the log of job {id}"), &route).await {
            Ok(whole) => whole.unwrap_or_default(),
            // A user may see a job without its log.
            Err(refusal) if matches!(refusal.class, Class::Forbidden | Class::Scope) => return Ok(false),
            Err(refusal) => return Err(refusal.into()),
        };
        let mut lines = log.update(&whole);
        if job.is_over() {
            lines.extend(log.finish());
        }
        let any = !lines.is_empty();
        for line in lines {
            shown.add(&line);
            self.view.progress.event(&Event::Log { job: job.name.clone(), line });
        }
        Ok(any)
    }

    /// Fails for a job that no runner can take; else returns the reason why a job is pending.
    async fn explain(&self, jobs: &[Job]) -> Result<Option<Why>> {
        let ours = self.look().await?;
        let condition = ours.as_ref().map(|ours| runner::condition(self.view, ours)).unwrap_or_default();
        let setting = Setting {
            ours: ours.as_ref().map(|ours| &ours.runner),
            silence: condition.problems.first().filter(|_| condition.is_silent),
            project: self.about,
            protected: self.protected,
        };
        match why_waiting(jobs, setting) {
            Some(Reason::Never(Why { job, because, hint })) => {
                let mut failure = Failure::new(Id::JobStuck, format!("job {job} cannot start: {because}"));
                failure.hints.extend(hint);
                Err(failure.hint(("once that is changed", Command::outrigger("run-pipeline"))))
            }
            Some(Reason::Later(why)) => Ok(Some(why)),
            None => Ok(None),
        }
    }
}
