//! Finds or triggers the first pipeline, follows it and judges the result.

use crate::base::error::{Command, Failure, Id, Result};
use crate::deployment::plan::{Decision, Line};
use crate::deployment::run::Part;
use crate::gitlab::facts::{self, Purpose as For, instance};
use crate::gitlab::pipeline::{self, State, follow};
use crate::settings::Need;
use crate::steps::contract::{Decided, Deciding, Info, Never, Outcome, Purpose, Reads, Step, Writes};

pub struct RunPipeline;

pub enum Seen {
    Obstacles(Vec<Failure>),
    /// The file, and the ids of a successful pipeline of the branch's last commit and of its runner.
    State(Box<State>, Option<(u64, u64)>),
    /// Nothing to remove.
    Nothing,
}

/// Finds or triggers the pipeline of this branch and follows it.
#[derive(Clone)]
pub struct Follow(String);

impl Step for RunPipeline {
    const INFO: Info = Info {
        name: "run-pipeline",
        about: "Run the pipeline, show its log, and check that it ran on our runner",
        long: "Waits for the runner's first contact, finds the pipeline of the branch's last commit or triggers one, and \
         streams the jobs' logs. It succeeds only if the pipeline succeeds and one of its jobs succeeds on this \
         deployment's runner; other jobs are shown, not judged. It fails at once for a job that no runner can take \
         (tags, a paused runner). --wait limits the total time. setup includes this step with --run-pipeline.",
        keys: &[
            "gitlabUrl",
            "gitlabTokenFile",
            "gitlabCaFile",
            "project",
            "tags",
            "image",
            "pipelineScript",
            "branch",
            "wait",
        ],
        gitlab: Need::Project,
        part: Some(Part::Pipeline),
        is_wanted: |settings, _| settings.run_pipeline,
        undo_needs_cluster: false,
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Follow;
    type Undo = Never;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        if why == Purpose::Teardown {
            return Ok(Seen::Nothing);
        }
        let obstacles = facts::obstacles(instance(r.gitlab).await?, For::Pipeline);
        if !obstacles.is_empty() {
            return Ok(Seen::Obstacles(obstacles));
        }
        let state = pipeline::state(r.gitlab).await?.clone();
        let stays = state.is_equal() && state.start.is_none();
        let succeeded = match &state.head {
            Some(sha) if state.present.is_some() && (stays || !r.run.includes(Part::Commit)) => {
                follow::succeeded(r.gitlab, state.project, sha).await?
            }
            _ => None,
        };
        Ok(Seen::State(Box::new(state), succeeded))
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Follow> {
        let (state, succeeded) = match seen {
            Seen::Obstacles(failures) => {
                return Decided::lines(failures.iter().cloned().map(Line::refuse).collect());
            }
            Seen::State(state, succeeded) => (state, succeeded),
            Seen::Nothing => return Decided::lines(Vec::new()),
        };
        let branch = &state.branch;
        let run = |text: String| Line::new(Decision::Create, text, Follow(branch.clone()));
        if d.forecast.commit {
            return run(format!("the pipeline of {branch}, once its file is committed")).into();
        }
        let (Some(sha), Some(_)) = (&state.head, &state.present) else {
            let message = format!("no {} on {branch}", state.path);
            return Line::refuse(
                Failure::new(Id::NoPipelineFile, message)
                    .hint(("commit it first", Command::outrigger("commit-pipeline"))),
            )
            .into();
        };
        match succeeded {
            Some((pipeline, runner)) => {
                Line::keep(format!("kept: pipeline {pipeline} succeeded on runner {runner}"))
            }
            None => run(format!("the pipeline of {branch} ({})", sha.get(..8).unwrap_or(sha))),
        }
        .into()
    }

    async fn apply(&self, w: Writes<'_>, Follow(branch): Follow) -> Result<Outcome<Never>> {
        let committed = w.products.commit.get().map(String::as_str);
        Ok(follow::run(w.gitlab, &branch, committed).await?.into())
    }

    async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
        Ok(String::new())
    }
}

#[cfg(test)]
#[path = "run_pipeline_tests.rs"]
mod tests;
