//! Prints or commits the pipeline file with the article's job.

use crate::base::error::{Command, Failure, Id, Result};
use crate::deployment::plan::{Decision, FileChange, Line, Target};
use crate::deployment::record::OwnedCommit;
use crate::deployment::run::{Part, Run};
use crate::gitlab::facts::{self, Purpose as For, instance};
use crate::gitlab::pipeline::{self, Present, State};
use crate::settings::Need;
use crate::steps::contract::{
    Decided, Deciding, Info, Outcome, Printed, Prints, Purpose, Reads, Step, Writes,
};

pub struct CommitPipeline;

pub enum Seen {
    /// Not requested in this run, and not readable; the reason.
    Skipped(String),
    Obstacles(Vec<Failure>),
    State(Box<State>),
    /// For the revert: the current file, and its content before the deployment's commit.
    Revert(Option<Present>, Option<String>),
    /// No revert.
    Stays,
}

impl Step for CommitPipeline {
    const INFO: Info = Info {
        name: "commit-pipeline",
        about: "Commit the pipeline file, or print it",
        long: "The article's .gitlab-ci.yml: one job with the runner's tags, its image and its commands as settings. With \
         --print it goes to stdout; otherwise it is committed on the project's default branch, or on --branch, which \
         is created if missing. An existing file with other content is shown as a difference and kept, \
         unless --overwrite-pipeline is set. setup includes this step with --commit-pipeline.",
        keys: &[
            "gitlabUrl",
            "gitlabTokenFile",
            "gitlabCaFile",
            "project",
            "tags",
            "image",
            "pipelineScript",
            "branch",
            "commitMessage",
            "overwritePipeline",
        ],
        flags: &["print"],
        gitlab: Need::Project,
        part: Some(Part::Commit),
        is_wanted: |settings, record| {
            settings.commit_pipeline || record.is_some_and(|record| record.gitlab.commit.is_some())
        },
        undo_needs_cluster: false,
        prints: Prints::OnRequest { with_cluster: false },
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = FileChange;
    type Undo = FileChange;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        if why == Purpose::Teardown {
            let Some(ours) = r.notes.record().gitlab.commit.clone() else { return Ok(Seen::Stays) };
            if r.run.options.gitlab_gone || !r.run.options.revert_pipeline {
                return Ok(Seen::Stays);
            }
            let project = ours.project.to_string();
            let now = pipeline::read_file(r.gitlab, &project, &ours.path, &ours.branch).await?;
            let untouched = |now: &Present| pipeline::digest(&now.text) == ours.content;
            let mut earlier = None;
            if now.as_ref().is_some_and(untouched) && !ours.before.is_empty() {
                earlier = pipeline::read_file(r.gitlab, &project, &ours.path, &ours.before).await?;
            }
            return Ok(Seen::Revert(now, earlier.map(|earlier| earlier.text)));
        }
        if !r.gitlab.is_connected() && !r.run.settings.commit_pipeline && !r.run.alone {
            return Ok(Seen::Skipped(r.gitlab.why_not().to_owned()));
        }
        let obstacles = facts::obstacles(instance(r.gitlab).await?, For::Pipeline);
        if !obstacles.is_empty() {
            return Ok(Seen::Obstacles(obstacles));
        }
        Ok(Seen::State(Box::new(pipeline::state(r.gitlab).await?.clone())))
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<FileChange> {
        match seen {
            Seen::Skipped(why) => Line::not_checked(why).into(),
            Seen::Obstacles(failures) => Decided::lines(failures.iter().cloned().map(Line::refuse).collect()),
            Seen::State(state) => {
                let line = decide(d, state);
                let commit = line.act.is_some();
                let mut decided = Decided::from(line);
                decided.forecast.commit = commit;
                decided
            }
            Seen::Revert(..) | Seen::Stays => Decided::lines(Vec::new()),
        }
    }

    async fn apply(&self, w: Writes<'_>, change: FileChange) -> Result<Outcome<FileChange>> {
        let sha = pipeline::commit(w.gitlab, &change).await?;
        own(w, &change, &sha)?;
        let text = format!("committed {} on {} ({})", change.path, change.branch, short(&sha));
        let _ = w.products.commit.set(sha);
        Ok(text.into())
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<FileChange>> {
        let Some(ours) = d.notes.record().gitlab.commit.clone() else { return Vec::new() };
        let place = format!("{} on {}", ours.path, ours.branch);
        vec![match seen {
            Seen::Revert(now, earlier) => revert(d.run, &ours, &place, now.as_ref(), earlier.as_ref()),
            _ if d.run.options.gitlab_gone => Line::keep(format!("{place} (--gitlab-gone: not read back)")),
            _ => Line::keep(format!("{place} stays; to revert the commit now, add --revert-pipeline")),
        }]
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<FileChange>) -> Result<String> {
        let mut texts = Vec::new();
        for change in acts {
            let sha = pipeline::commit(w.gitlab, &change).await?;
            texts.push(format!("reverted in {}", short(&sha)));
            w.journal.write(|record| record.gitlab.commit = None)?;
        }
        Ok(texts.join("; "))
    }

    async fn print(&self, r: Reads<'_>) -> Result<Option<Printed>> {
        let bytes = pipeline::wanted(r.run)?.into_bytes();
        Ok(Some(Printed { bytes, intents: Vec::new() }))
    }
}

fn decide(d: &Deciding<'_>, state: &State) -> Line<FileChange> {
    let State { path, branch, .. } = state;
    let ours = d.notes.record().gitlab.commit.clone();
    let untouched = |text: &str| {
        ours.as_ref().is_some_and(|ours| {
            ours.project == state.project
                && ours.path == *path
                && ours.branch == *branch
                && ours.content == pipeline::digest(text)
        })
    };
    if state.is_equal() && state.start.is_none() {
        return Line::keep(format!("kept: {path} on {branch}"));
    }
    if let Some((errors, _)) = &state.lint
        && !errors.is_empty()
    {
        let failure = Failure::new(Id::PipelineLint, format!("GitLab's lint rejects the new {path}"));
        let failure =
            errors.iter().fold(failure, |failure, error| failure.detail("lint error", error.clone()));
        return Line::refuse(
            failure.hint(("check --image, --tags and --pipeline-script; to see the file", print())),
        );
    }
    if !state.may_push {
        let kind = if state.protected { "protected branch" } else { "branch" };
        return Line::refuse(
            Failure::new(Id::GitlabForbidden, format!("you may not push to the {kind} {branch}"))
                .hint(("commit to another branch (--branch NAME) and merge it; or print the file", print())),
        );
    }
    let change = FileChange {
        project: state.project,
        branch: branch.clone(),
        start: state.start.clone(),
        path: path.clone(),
        content: Some(state.wanted.clone()),
        before: state.present.as_ref().map(|present| present.commit.clone()),
        message: message(d.run),
    };
    let place = match &state.start {
        Some(start) => format!("{path} on {branch}, a new branch from {start}"),
        None => format!("{path} on {branch}"),
    };
    let Some(present) = state.present.as_ref().filter(|present| present.text != state.wanted) else {
        return linted(Line::new(Decision::Create, place, change), state);
    };
    let differs = pipeline::difference(&present.text, &state.wanted);
    if !untouched(&present.text) && !d.run.settings.overwrite_pipeline {
        let failure =
            Failure::new(Id::PipelineFileDiffers, format!("{place} already exists with other content"));
        let failure = differs.into_iter().fold(failure, |failure, line| failure.detail("", line));
        return Line::refuse(
            failure
                .hint(("replace it with --overwrite-pipeline, commit to another branch with --branch NAME, or add the job yourself", print())),
        );
    }
    let line = Line::new(Decision::Update, place, change);
    let line = differs.into_iter().fold(line, Line::detail);
    // create-runner's line already shows it: "runner 101 and the pipeline file: tags a -> b".
    let covered = state.tags_only && d.forecast.tags_announced;
    Line { covered, ..linted(line, state) }
}

fn linted(line: Line<FileChange>, state: &State) -> Line<FileChange> {
    match &state.lint {
        None => line.detail("not linted: the token may not lint"),
        Some((_, warnings)) if warnings.is_empty() => line.detail("GitLab's lint: valid"),
        Some((_, warnings)) => {
            warnings.iter().fold(line, |line, warning| line.detail(format!("lint warning: {warning}")))
        }
    }
}

fn own(w: Writes<'_>, change: &FileChange, sha: &str) -> Result<()> {
    let url = w.run.settings.gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
    w.journal.write(|record| {
        let gitlab = &mut record.gitlab;
        // A revert restores the content before the first commit of the deployment.
        let before = match &gitlab.commit {
            Some(earlier) if earlier.path == change.path && earlier.branch == change.branch => {
                earlier.before.clone()
            }
            _ => change.before.clone().unwrap_or_default(),
        };
        if gitlab.url.is_empty() {
            gitlab.url = url;
        }
        gitlab.commit = Some(OwnedCommit {
            project: change.project,
            branch: change.branch.clone(),
            path: change.path.clone(),
            sha: sha.to_owned(),
            content: pipeline::digest(change.content.as_deref().unwrap_or_default()),
            before,
        });
    })
}

/// The revert of the deployment's commit, only if the file is unchanged since.
fn revert(
    run: &Run,
    ours: &OwnedCommit,
    place: &str,
    now: Option<&Present>,
    earlier: Option<&String>,
) -> Line<FileChange> {
    let Some(now) = now else { return Line::keep(format!("{place} (already gone)")) };
    if pipeline::digest(&now.text) != ours.content {
        return Line::keep(format!("kept {place}: changed since the commit"));
    }
    let text = match earlier {
        Some(_) => format!("commit {} of {place}: restore the earlier content", short(&ours.sha)),
        None => format!("commit {} of {place}: delete the file", short(&ours.sha)),
    };
    let change = FileChange {
        project: ours.project,
        branch: ours.branch.clone(),
        start: None,
        path: ours.path.clone(),
        content: earlier.cloned(),
        before: Some(now.commit.clone()),
        message: revert_message(run, &ours.sha),
    };
    Line::new(Decision::Remove, text, change).about(Target::Commit(ours.sha.clone()))
}

fn message(run: &Run) -> String {
    match &run.settings.commit_message {
        Some(paragraphs) => paragraphs.value.join("\n\n"),
        None => {
            format!("Run CI jobs in pods through the runner {}\n\nMade by outrigger.", run.names.deployment)
        }
    }
}

/// Begins with the user's message, which push rules may require.
fn revert_message(run: &Run, sha: &str) -> String {
    match &run.settings.commit_message {
        Some(_) => format!("{}\n\nReverts {}. [ci skip]", message(run), short(sha)),
        None => format!(
            "Revert \"Run CI jobs in pods through the runner {}\"\n\nMade by outrigger. [ci skip]",
            run.names.deployment
        ),
    }
}

/// The first 8 characters of a SHA.
fn short(sha: &str) -> &str {
    sha.get(..8).unwrap_or(sha)
}

fn print() -> Command {
    Command::outrigger("commit-pipeline --print")
}

#[cfg(test)]
#[path = "commit_pipeline_tests.rs"]
mod tests;
