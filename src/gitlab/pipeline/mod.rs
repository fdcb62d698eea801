//! The pipeline: its file in the repository as it is and should be, found out once per run because two
//! steps build on it; and in the files beside, what it says, why a job waits, and how a pipeline ended.

mod file;
pub mod follow;
mod verdict;
mod why_pending;

pub use file::{DEFAULT_PATH, PipelineFile, difference, digest};
pub use verdict::judge;
pub use why_pending::{Reason, why_waiting};

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::deployment::plan::FileChange;
use crate::deployment::run::Run;
use crate::gitlab::facts::instance;
use crate::gitlab::runner::{self, Verdict};
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Class, Gitlab, Project, Refusal, Route};

/// The file as it is in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// What it says.
    pub text: String,
    /// The last commit that touched it.
    pub commit: String,
}

/// How the repository stands, and what the file should say.
#[derive(Clone, Debug)]
pub struct State {
    /// The project, by id.
    pub project: u64,
    /// Where CI reads its file from.
    pub path: String,
    /// The branch.
    pub branch: String,
    /// The branch's last commit; none if it does not exist.
    pub head: Option<String>,
    /// Where a new branch begins.
    pub start: Option<String>,
    /// Whether the caller may push to it, as far as GitLab says.
    pub may_push: bool,
    /// Whether it is protected.
    pub protected: bool,
    /// The file there; none if there is none.
    pub present: Option<Present>,
    /// What it should say.
    pub wanted: String,
    /// What GitLab's lint says of that: errors, then warnings; none where it may not be asked.
    pub lint: Option<(Vec<String>, Vec<String>)>,
    /// It differs from what is there in the tags alone, and these change at the runner with it.
    pub tags_only: bool,
}

impl State {
    /// Whether the file says already what it should.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.text == self.wanted)
    }
}

/// The state, once per run.
///
/// # Errors
/// Exit 2 without token or project; 3 for a project whose CI file is somewhere else; 4 for missing rights.
pub async fn state(view: &View) -> Result<&State> {
    view.pipeline.get_or_try_init(|| find(view)).await
}

/// What the file should say.
///
/// # Errors
/// OR0710 if the template does not render.
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

/// The path of the project's CI file, where it is one that a commit to the project can change.
fn path(project: &Project) -> Result<String> {
    match project.ci_config_path.as_deref() {
        None => Ok(DEFAULT_PATH.to_owned()),
        Some(path) if path.contains('@') || path.contains("://") => Err(Failure::new(
            Id::NoPipelineFile,
            format!("{} reads its CI configuration from elsewhere", project.shown()),
        )
        .detail("it reads", path)
        .hint((
            "change that in GitLab (Settings, CI/CD, General pipelines), or commit the file there yourself",
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
        // An empty repository has none yet; this is what GitLab calls the first.
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
        // A new branch begins with the file of the old one.
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
    gitlab.get_opt(&format!("look at the branch {branch}"), &route).await
}

/// Reads a file with the commit that touched it last; none if the file, the branch or any commit is missing.
///
/// # Errors
/// What GitLab refuses.
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
    let unreadable = || Failure::new(Id::NotGitlab, format!("GitLab's answer about {path} cannot be read"));
    let bytes = STANDARD.decode(encoded).map_err(|_| unreadable())?;
    Ok(Some(Present {
        // Compared and shown as text; what is none differs in any case.
        text: String::from_utf8_lossy(&bytes).into_owned(),
        commit: value["last_commit_id"].as_str().unwrap_or_default().to_owned(),
    }))
}

/// GitLab's own judgement of the file: errors and warnings. None where the token may not ask.
async fn lint(
    gitlab: &Gitlab,
    project: &str,
    text: &str,
) -> Result<Option<(Vec<String>, Vec<String>)>, Refusal> {
    let route = Route::of(&["projects", project, "ci", "lint"]);
    let answer = match gitlab.check("lint the pipeline file", &route, &json!({"content": text})).await {
        Ok(answer) => answer,
        Err(refusal)
            if matches!(
                refusal.class,
                Class::Scope | Class::Forbidden | Class::NotFound | Class::Maintenance | Class::Invalid
            ) =>
        {
            return Ok(None);
        }
        Err(refusal) => return Err(refusal),
    };
    let texts = |field: &str| -> Vec<String> {
        answer[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    let mut errors = texts("errors");
    if errors.is_empty() && answer["valid"] == false {
        errors.push("it is not valid".to_owned());
    }
    Ok(Some((errors, texts("warnings"))))
}

/// Commits one file. A lost answer is settled by reading the file: what it says is what counts.
///
/// # Errors
/// GitLab's refusal.
pub async fn commit(hand: &Hand, change: &FileChange) -> Result<String> {
    let gitlab = hand.client()?;
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
        let now = file_of(&cleanup, &project, &change.path, &change.branch).await?;
        if now.as_ref().map(|now| &now.text) == change.content.as_ref() {
            return Ok(now.map(|now| now.commit).unwrap_or_default());
        }
    }
    Err(refusal.into())
}
