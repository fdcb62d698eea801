//! Finds or triggers a pipeline, follows it with its jobs' logs, and checks the result.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Reason, State, judge, state, why_waiting};
use crate::base::error::{Command, Failure, Hint, Id, Result};
use crate::base::event::Event;
use crate::base::job_log::Log;
use crate::base::wait::{self, Pace};
use crate::gitlab::runner::{self, Found, Ours, Verdict};
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Class, Gitlab, Job, Pipeline, Route};
use crate::settings::check::duration_text;

/// Time that a job may be pending before the reason is looked up.
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
    let follower = Follower {
        view: hand,
        gitlab: hand.client()?.until(ends + LAST_LOOK),
        project: state.project.to_string(),
        ends,
        started,
    };
    follower.runner().await?;
    let sha = committed.map(str::to_owned).or_else(|| state.head.clone()).unwrap_or_default();
    let pipeline = follower.find_or_trigger(branch, &sha, committed.is_some()).await?;
    let (pipeline, jobs) = follower.follow(pipeline).await?;
    judge(&pipeline, &jobs, our_runner(hand).await?)
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
    gitlab: Gitlab,
    project: String,
    ends: Instant,
    started: Instant,
}

impl Follower<'_> {
    fn waiting(&self, what: &str) {
        self.view.progress.waiting("run-pipeline", what, self.started.elapsed());
    }

    /// Repeats `look` until it breaks or `--wait` is over.
    async fn until<T>(
        &self,
        first: u64,
        look: impl AsyncFnMut() -> Result<ControlFlow<T, String>>,
    ) -> Result<T> {
        let pace = Pace { deadline: self.ends, ..Pace::new(&self.view.limits, first, 3000) };
        wait::until(pace, |_, _| {}, look).await?.map_err(|last_seen| {
            let wait = duration_text(self.view.run.settings.wait);
            Failure::new(Id::PipelineTimeout, format!("the pipeline has not finished within {wait}"))
                .detail("last seen", last_seen)
                .hint(("wait longer", Command::outrigger("run-pipeline --wait 30m")))
        })
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
                return Err(stuck(
                    &format!("runner {id} is paused"),
                    "resume it in GitLab (Settings, CI/CD, Runners)",
                ));
            }
            let machine = ours.managers.first();
            if machine.is_some() || !ours.runner.never_contacted() {
                // GitLab may list the machine later.
                let about = machine.map_or_else(String::new, |machine| {
                    let version = machine.version.as_deref().unwrap_or("(version unknown)");
                    format!(": gitlab-runner {version}, system id {}", machine.system_id)
                });
                let text = format!("runner {id} has contacted GitLab{about}");
                self.view.progress.event(&Event::Note { text });
                return Ok(Break(()));
            }
            self.waiting(&format!("the VM: runner {id} has not contacted GitLab yet"));
            Ok(Continue(format!(
                "runner {id} has never contacted GitLab; check that its VM booted with the launch script, whose result is on the VM in /var/lib/outrigger/{}.json",
                self.view.run.names.deployment
            )))
        };
        self.until(500, look).await
    }

    /// The commit's pipeline, or a new one.
    async fn find_or_trigger(&self, branch: &str, sha: &str, pushed: bool) -> Result<Pipeline> {
        let look = async || {
            Ok(match latest(&self.gitlab, &self.project, sha).await? {
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
        let answer = self
            .gitlab
            .post(&format!("run the pipeline of {branch}"), &route, &json!({"ref": branch}))
            .await?;
        Pipeline::read(&answer).ok_or_else(|| {
            Failure::new(Id::NotGitlab, "GitLab's response to the pipeline creation is not a pipeline")
                .hint("run the same command again: it looks for the pipeline first")
                .passing()
        })
    }

    /// Follows a pipeline to its end; returns it with its jobs.
    async fn follow(&self, mut pipeline: Pipeline) -> Result<(Pipeline, Vec<Job>)> {
        let mut logs: BTreeMap<u64, Log> = BTreeMap::new();
        let mut pending_since: Option<Instant> = None;
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
            let jobs = jobs(&self.gitlab, &self.project, pipeline.id).await?;
            for job in &jobs {
                self.show(job, logs.entry(job.id).or_default()).await?;
            }
            if pipeline.is_over() {
                return Ok(Break((pipeline.clone(), jobs)));
            }
            let waiting = jobs.iter().find(|job| job.status == "pending");
            let nothing_runs = !jobs.iter().any(|job| job.status == "running");
            if nothing_runs && waiting.is_some() {
                let since = *pending_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    self.explain(&jobs).await?;
                }
            } else {
                pending_since = None;
            }
            let seen =
                jobs.iter().map(|job| format!("{} {}", job.name, job.status)).collect::<Vec<_>>().join(", ");
            let seen = format!("pipeline {} is {} ({seen})", pipeline.id, pipeline.status);
            if nothing_runs && waiting.is_none() {
                self.waiting(&seen);
            }
            Ok(Continue(seen))
        };
        self.until(300, look).await
    }

    /// Shows the new lines of a job's log.
    async fn show(&self, job: &Job, log: &mut Log) -> Result<()> {
        if job.runner.is_none() {
            return Ok(());
        }
        let id = job.id.to_string();
        let route = Route::of(&["projects", &self.project, "jobs", &id, "trace"]);
        let whole = match self.gitlab.text(&format!("read the log of job {id}"), &route).await {
            Ok(whole) => whole.unwrap_or_default(),
            // A user may see a job without its log.
            Err(refusal) if matches!(refusal.class, Class::Forbidden | Class::Scope) => return Ok(()),
            Err(refusal) => return Err(refusal.into()),
        };
        let mut lines = log.update(&whole);
        if job.is_over() {
            lines.extend(log.finish());
        }
        for line in lines {
            self.view.progress.event(&Event::Log { job: job.name.clone(), line });
        }
        Ok(())
    }

    /// Fails for a job that no runner can take; else reports the reason why a job is pending.
    async fn explain(&self, jobs: &[Job]) -> Result<()> {
        let ours = self.look().await?;
        match why_waiting(jobs, ours.as_ref().map(|ours| &ours.runner)) {
            Some(Reason::Never(why, hint)) => Err(stuck(&why, hint)),
            Some(Reason::Later(what)) => {
                self.waiting(&what);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn stuck(why: &str, hint: impl Into<Hint>) -> Failure {
    Failure::new(Id::JobStuck, format!("the job is stuck: {why}")).hint(hint)
}
