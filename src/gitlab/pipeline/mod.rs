//! The pipeline file in the repository, current and wanted, read once per run for two steps.

mod failure_reason;
mod file;
pub mod follow;
mod verdict;
mod why_pending;

pub use file::{DEFAULT_PATH, PipelineFile, difference, digest};
use verdict::{Finished, Shown, judge};
use why_pending::{Reason, Setting, Why, paused, why_waiting};

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::deployment::plan::FileChange;
use crate::deployment::run::Run;
use crate::gitlab::facts::instance;
use crate::gitlab::runner::{self, Verdict};
use crate::gitlab::types::texts;
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Class, Gitlab, Project, Refusal, Route};

/// The file in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub text: String,
    /// The last commit that touched it.
    pub commit: String,
}

/// The branch with its pipeline file, and the wanted content.
#[derive(Clone, Debug)]
pub struct State {
    /// Numeric id.
    pub project: u64,
    /// The path of the pipeline file.
    pub path: String,
    pub branch: String,
    /// The branch's last commit; `None` if the branch does not exist.
    pub head: Option<String>,
    /// The branch that a new branch starts from.
    pub start: Option<String>,
    /// Whether the caller may push; true if unknown.
    pub may_push: bool,
    pub protected: bool,
    pub present: Option<Present>,
    /// The wanted content.
    pub wanted: String,
    /// Errors and warnings of GitLab's lint; `None` if the token may not lint.
    pub lint: Option<(Vec<String>, Vec<String>)>,
    /// Whether only the tags differ, and the runner's tags change as well.
    pub tags_only: bool,
}

impl State {
    /// Whether the file has the wanted content.
    pub fn is_equal(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.text == self.wanted)
    }
}

/// Reads the state, once per run. Fails with exit 2 without token or project; 3 for a project with its CI file in
/// another place; 4 for missing rights.
pub async fn state(view: &View) -> Result<&State> {
    view.pipeline.get_or_try_init(|| find(view)).await
}

/// The wanted content; fails with OR0710 if the template does not render.
pub fn wanted(run: &Run) -> Result<String> {
    render(run, &run.settings.tags.value)
}

fn render(run: &Run, tags: &[String]) -> Result<String> {
    let settings = &run.settings;
    PipelineFile {
        deployment: &run.names.deployment,
        image: &settings.image.value,
        tags,
        script: &settings.pipeline_script.value,
    }
    .render()
}

/// The path of the project's CI file, if in the project's own repository.
fn path(project: &Project) -> Result<String> {
    match project.ci_config_path.as_deref() {
        None => Ok(DEFAULT_PATH.to_owned()),
        Some(path) if path.contains('@') || path.contains("://") => Err(Failure::new(
            Id::NoPipelineFile,
            format!("the CI configuration of {} is outside the project", project.shown()),
        )
        .detail("configuration", path)
        .hint((
            "change that in GitLab (Settings, CI/CD, General pipelines), or commit the file yourself",
            Command::outrigger("commit-pipeline --print"),
        ))),
        Some(path) => Ok(path.to_owned()),
    }
}

async fn find(view: &View) -> Result<State> {
    let gitlab = view.client()?;
    let project = instance(view).await?.project()?;
    let id = project.id.to_string();
    let path = path(project)?;
    let default = project.default_branch.clone();
    let branch = match (&view.run.settings.branch, &default) {
        (Some(branch), _) => branch.value.clone(),
        (None, Some(default)) => default.clone(),
        // An empty repository; GitLab's default name.
        (None, None) => "main".to_owned(),
    };
    let wanted = wanted(&view.run)?;
    let (there, found, lint) = tokio::join!(
        read_branch(gitlab, &id, &branch),
        file_of(gitlab, &id, &path, &branch),
        lint(gitlab, &id, &wanted),
    );
    let (there, mut present) = (there?, found?);
    let start = default.filter(|default| there.is_none() && *default != branch);
    if let Some(start) = &start {
        present = file_of(gitlab, &id, &path, start).await?;
    }
    let tags_only = match (&present, runner::verdict(view).await) {
        (Some(present), Ok(Verdict::Keep { ours, update, .. })) if update["tag_list"].is_array() => {
            render(&view.run, ours.runner.tags.as_deref().unwrap_or_default())? == present.text
        }
        _ => false,
    };
    let of_branch = |field: &str, default: bool| {
        there.as_ref().and_then(|there| there[field].as_bool()).unwrap_or(default)
    };
    Ok(State {
        project: project.id,
        head: there.as_ref().and_then(|there| there["commit"]["id"].as_str()).map(str::to_owned),
        may_push: of_branch("can_push", true),
        protected: of_branch("protected", false),
        path,
        branch,
        start,
        present,
        wanted,
        lint: lint?,
        tags_only,
    })
}

async fn read_branch(gitlab: &Gitlab, project: &str, branch: &str) -> Result<Option<Value>, Refusal> {
    let route = Route::of(&["projects", project, "repository", "branches", branch]);
    gitlab.get_opt(&format!("read the branch {branch}"), &route).await
}

/// Reads a file with its last commit; `None` if the file or the branch does not exist.
pub async fn read_file(view: &View, project: &str, path: &str, reference: &str) -> Result<Option<Present>> {
    file_of(view.client()?, project, path, reference).await
}

async fn file_of(gitlab: &Gitlab, project: &str, path: &str, reference: &str) -> Result<Option<Present>> {
    let route = Route::of(&["projects", project, "repository", "files", path]).with("ref", reference);
    let Some(value) = gitlab.get_opt(&format!("read {path} on {reference}"), &route).await? else {
        return Ok(None);
    };
    let encoded: String =
        value["content"].as_str().unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let unreadable = || Failure::new(Id::NotGitlab, format!("invalid response from GitLab for {path}"));
    let bytes = STANDARD.decode(encoded).map_err(|_| unreadable())?;
    Ok(Some(Present {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        commit: value["last_commit_id"].as_str().unwrap_or_default().to_owned(),
    }))
}

/// Errors and warnings of GitLab's lint; `None` if the token may not lint.
async fn lint(
    gitlab: &Gitlab,
    project: &str,
    text: &str,
) -> Result<Option<(Vec<String>, Vec<String>)>, Refusal> {
    use Class::{Forbidden, Invalid, Maintenance, NotFound, Scope};
    let route = Route::of(&["projects", project, "ci", "lint"]);
    let answer = match gitlab.check("lint the pipeline file", &route, &json!({"content": text})).await {
        Ok(answer) => answer,
        Err(one) if matches!(one.class, Scope | Forbidden | NotFound | Maintenance | Invalid) => {
            return Ok(None);
        }
        Err(refusal) => return Err(refusal),
    };
    let mut errors = texts(&answer["errors"]);
    if errors.is_empty() && answer["valid"] == false {
        errors.push("not valid".to_owned());
    }
    Ok(Some((errors, texts(&answer["warnings"]))))
}

/// Commits one file; returns the commit's SHA. If the response is lost, reads the file to check for the commit.
pub async fn commit(hand: &Hand, change: &FileChange) -> Result<String> {
    let gitlab = hand.client()?;
    let mut action = json!({"file_path": change.path});
    action["action"] = json!(match (&change.content, &change.before) {
        (Some(_), None) => "create",
        (Some(_), Some(_)) => "update",
        (None, _) => "delete",
    });
    if let Some(content) = &change.content {
        action["content"] = json!(content);
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
        let now = file_of(&cleanup, &project, &change.path, &change.branch).await?;
        if now.as_ref().map(|now| &now.text) == change.content.as_ref() {
            return Ok(now.map(|now| now.commit).unwrap_or_default());
        }
    }
    Err(refusal.into())
}
