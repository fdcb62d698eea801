//! The pipeline file with the article's job: printed, or committed.

use std::time::Duration;

use serde_json::json;

use super::{Done, Pending, Step};
use crate::base::error::{Failure, Id, Result};
use crate::deployment::plan::{Act, Decision, FileChange, Line};
use crate::deployment::record::{OwnedCommit, Record};
use crate::gitlab::Route;
use crate::gitlab::facts::{self, Purpose, instance};
use crate::gitlab::pipeline::{self, State};
use crate::settings::{Need, Settings};
use crate::steps::context::Context;

/// See the module.
pub struct CommitPipeline;

impl Step for CommitPipeline {
    fn name(&self) -> &'static str {
        "commit-pipeline"
    }
    fn about(&self) -> &'static str {
        "Commit the pipeline file, or print it"
    }
    fn long(&self) -> &'static str {
        "The article's .gitlab-ci.yml: one job with the runner's tags, its image and its commands as settings. With \
         --print it goes to stdout; otherwise it is committed on the project's default branch, or on --branch, which \
         is made if it is missing. A file that is there and says something else is shown as a difference and stays, \
         unless --overwrite-pipeline says otherwise. setup includes this step with --commit-pipeline."
    }
    fn keys(&self) -> &'static [&'static str] {
        &[
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
        ]
    }
    fn flags(&self) -> &'static [&'static str] {
        &["print"]
    }
    fn gitlab(&self) -> Need {
        Need::Project
    }
    fn is_wanted(&self, settings: &Settings, record: Option<&Record>) -> bool {
        settings.commit_pipeline || record.is_some_and(|record| record.gitlab.commit.is_some())
    }

    fn undo_needs_cluster(&self) -> bool {
        false
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            if cx.gitlab.client.is_none() && !cx.settings.commit_pipeline && !cx.facts.alone.get() {
                return Ok(vec![Line::not_looked(format!("not looked at: {}", cx.gitlab.why_not))]);
            }
            let found = instance(cx).await?;
            let mut lines: Vec<Line> =
                facts::obstacles(found, Purpose::Pipeline).into_iter().map(Line::refuse).collect();
            if lines.is_empty() {
                lines.push(decide(cx, pipeline::state(cx).await?));
            }
            Ok(lines)
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            for line in lines {
                if let Act::Commit(change) = &line.act {
                    let sha = commit(cx, change).await?;
                    own(cx, change, &sha)?;
                    let text = format!("committed {} on {} ({})", change.path, change.branch, short(&sha));
                    *cx.facts.committed.borrow_mut() = Some(sha);
                    return Ok(Done { changed: true, text });
                }
            }
            let text = lines.first().map(|line| line.text.clone()).unwrap_or_default();
            Ok(Done { changed: false, text })
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let Some(ours) = cx.record.borrow().gitlab.commit.clone() else { return Ok(Vec::new()) };
            let place = format!("{} on {}", ours.path, ours.branch);
            if cx.options.gitlab_gone {
                return Ok(vec![Line::keep(format!("{place} (--gitlab-gone: not read back)"))]);
            }
            if !cx.options.revert_pipeline {
                return Ok(vec![Line::keep(format!(
                    "{place} stays; to take our commit back: --revert-pipeline"
                ))]);
            }
            revert_plan(cx, &ours, &place).await.map(|line| vec![line])
        })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut texts = Vec::new();
            for line in lines {
                let Act::Commit(change) = &line.act else { continue };
                let sha = commit(cx, change).await?;
                texts.push(format!("reverted in {}", short(&sha)));
                cx.record.borrow_mut().gitlab.commit = None;
                cx.save()?;
            }
            Ok(Done { changed: !texts.is_empty(), text: texts.join("; ") })
        })
    }

    fn print<'a>(&'a self, cx: &'a Context) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move { Ok(Some(pipeline::wanted(cx)?.into_bytes())) })
    }
    fn print_needs_cluster(&self) -> bool {
        false
    }
}

fn decide(cx: &Context, state: &State) -> Line {
    let State { path, branch, .. } = state;
    let ours = cx.record.borrow().gitlab.commit.clone();
    let untouched = |text: &str| {
        ours.as_ref().is_some_and(|ours| {
            ours.project == state.project
                && ours.path == *path
                && ours.branch == *branch
                && ours.content == pipeline::digest(text)
        })
    };
    if state.is_equal() && state.start.is_none() {
        return Line::keep(format!("kept: {path} on {branch} says it already"));
    }
    if let Some((errors, _)) = &state.lint
        && !errors.is_empty()
    {
        let failure = Failure::new(Id::PipelineLint, format!("GitLab would not take this {path}"));
        return Line::refuse(
            errors
                .iter()
                .fold(failure, |failure, error| failure.detail("its lint says", error.clone()))
                .hint("look at --image, --tags and --pipeline-script; to see the file: outrigger commit-pipeline --print"),
        );
    }
    if !state.may_push {
        let why = if state.protected { "is protected" } else { "is not yours to push to" };
        return Line::refuse(
            Failure::new(Id::GitlabForbidden, format!("the branch {branch} {why}, and you may not push to it"))
                .hint("commit on a branch of its own: --branch NAME, then merge it; or print the file: outrigger commit-pipeline --print"),
        );
    }
    let change = FileChange {
        project: state.project,
        branch: branch.clone(),
        start: state.start.clone(),
        path: path.clone(),
        content: Some(state.wanted.clone()),
        before: state.present.as_ref().map(|present| present.commit.clone()),
        message: message(cx),
    };
    let place = match &state.start {
        Some(start) => format!("{path} on {branch}, a new branch from {start}"),
        None => format!("{path} on {branch}"),
    };
    let Some(present) = state.present.as_ref().filter(|present| present.text != state.wanted) else {
        return linted(Line::new(Decision::Create, place, Act::Commit(change)), state);
    };
    let differs = pipeline::difference(&present.text, &state.wanted);
    if !untouched(&present.text) && !cx.settings.overwrite_pipeline {
        let failure =
            Failure::new(Id::PipelineFileDiffers, format!("{place} is there and says something else"));
        return Line::refuse(
            differs
                .into_iter()
                .fold(failure, |failure, line| failure.detail("", line))
                .hint("replace it with --overwrite-pipeline, commit on another branch with --branch NAME, or add the job yourself: outrigger commit-pipeline --print"),
        );
    }
    let line = Line::new(Decision::Update, place, Act::Commit(change));
    let line = differs.into_iter().fold(line, Line::detail);
    // create-runner's line says it already: "runner 101 and the pipeline file: tags a -> b".
    let covered = state.tags_only && cx.is_selected("create-runner");
    Line { covered, ..linted(line, state) }
}

fn linted(line: Line, state: &State) -> Line {
    match &state.lint {
        None => line.detail("not linted: the token may not ask"),
        Some((_, warnings)) if warnings.is_empty() => line.detail("GitLab's lint: valid"),
        Some((_, warnings)) => {
            warnings.iter().fold(line, |line, warning| line.detail(format!("GitLab's lint warns: {warning}")))
        }
    }
}

/// Commits one file. A lost answer is settled by reading the file: what it says is what counts.
async fn commit(cx: &Context, change: &FileChange) -> Result<String> {
    let gitlab = cx.gitlab()?;
    let mut action = json!({"file_path": change.path});
    match (&change.content, &change.before) {
        (Some(content), None) => {
            action["action"] = json!("create");
            action["content"] = json!(content);
        }
        (Some(content), Some(_)) => {
            action["action"] = json!("update");
            action["content"] = json!(content);
        }
        (None, _) => action["action"] = json!("delete"),
    }
    if let Some(before) = change.before.as_ref().filter(|before| !before.is_empty()) {
        action["last_commit_id"] = json!(before);
    }
    let mut body = json!({"branch": change.branch, "commit_message": change.message, "actions": [action]});
    if let Some(start) = &change.start {
        body["start_branch"] = json!(start);
    }
    let project = change.project.to_string();
    let what = format!("commit {} on {}", change.path, change.branch);
    let route = Route::of(&["projects", &project, "repository", "commits"]);
    let refusal = match gitlab.post(&what, &route, &body).await {
        Ok(answer) => return Ok(answer["id"].as_str().unwrap_or_default().to_owned()),
        Err(refusal) => refusal,
    };
    if refusal.is_ambiguous() {
        let cleanup = gitlab.for_cleanup(Duration::from_secs(10));
        let now = pipeline::read_file(&cleanup, &project, &change.path, &change.branch).await?;
        if now.as_ref().map(|now| &now.text) == change.content.as_ref() {
            return Ok(now.map(|now| now.commit).unwrap_or_default());
        }
    }
    Err(refusal.into())
}

fn own(cx: &Context, change: &FileChange, sha: &str) -> Result<()> {
    {
        let gitlab = &mut cx.record.borrow_mut().gitlab;
        // A second commit of ours is still to be reverted to what was there before the first.
        let before = match &gitlab.commit {
            Some(earlier) if earlier.path == change.path && earlier.branch == change.branch => {
                (earlier.before.clone(), earlier.made_branch)
            }
            _ => (change.before.clone().unwrap_or_default(), change.start.is_some()),
        };
        if gitlab.url.is_empty() {
            gitlab.url = cx.settings.gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
        }
        gitlab.commit = Some(OwnedCommit {
            project: change.project,
            branch: change.branch.clone(),
            made_branch: before.1,
            path: change.path.clone(),
            sha: sha.to_owned(),
            content: pipeline::digest(change.content.as_deref().unwrap_or_default()),
            before: before.0,
        });
    }
    cx.save()
}

/// What would take our commit back: only if the file is as we left it.
async fn revert_plan(cx: &Context, ours: &OwnedCommit, place: &str) -> Result<Line> {
    let gitlab = cx.gitlab()?;
    let project = ours.project.to_string();
    let Some(now) = pipeline::read_file(gitlab, &project, &ours.path, &ours.branch).await? else {
        return Ok(Line::keep(format!("{place} (already gone)")));
    };
    if pipeline::digest(&now.text) != ours.content {
        return Ok(Line::keep(format!("{place} has been changed since: it stays")));
    }
    let earlier = if ours.before.is_empty() {
        None
    } else {
        pipeline::read_file(gitlab, &project, &ours.path, &ours.before).await?.map(|earlier| earlier.text)
    };
    let text = match &earlier {
        Some(_) => format!("our commit {} of {place}: back to what it said before", short(&ours.sha)),
        None => format!("our commit {} of {place}: the file goes", short(&ours.sha)),
    };
    Ok(Line::new(
        Decision::Remove,
        text,
        Act::Commit(FileChange {
            project: ours.project,
            branch: ours.branch.clone(),
            start: None,
            path: ours.path.clone(),
            content: earlier,
            before: Some(now.commit),
            message: revert_message(cx, &ours.sha),
        }),
    ))
}

/// The commit's message: the user's, as it is, or ours.
fn message(cx: &Context) -> String {
    match &cx.settings.commit_message {
        Some(paragraphs) => paragraphs.value.join("\n\n"),
        None => {
            format!("Run CI jobs in pods through the runner {}\n\nMade by outrigger.", cx.names.deployment)
        }
    }
}

/// The message that takes it back. A message of the user's begins it: a project's rules may ask for that.
fn revert_message(cx: &Context, sha: &str) -> String {
    match &cx.settings.commit_message {
        Some(_) => format!("{}\n\nReverts {}. [ci skip]", message(cx), short(sha)),
        None => format!(
            "Revert \"Run CI jobs in pods through the runner {}\"\n\nMade by outrigger. [ci skip]",
            cx.names.deployment
        ),
    }
}

/// The first characters of a commit, as git shows them.
fn short(sha: &str) -> &str {
    sha.get(..8).unwrap_or(sha)
}
