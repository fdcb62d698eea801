//! Repositories: commits that hold all their files, branches, and reading both.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::options::Role;
use super::page::paginate;
use super::params::Params;
use super::projects::Project;
use super::state::State;
use crate::wire::Request;

/// A file in a commit.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    /// The commit that last changed it.
    pub(crate) last_commit: String,
}

/// A commit with all files as of it.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) created: Timestamp,
    pub(crate) files: BTreeMap<String, File>,
}

/// The SHA-256 of something, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Project {
    /// The commit that a branch, a commit id or `HEAD` names.
    pub(crate) fn resolve(&self, reference: &str) -> Option<&Commit> {
        let name = match reference {
            "HEAD" => self.spec.default_branch.as_deref()?,
            other => other.strip_prefix("refs/heads/").unwrap_or(other),
        };
        let id = self.branches.get(name).map_or(name, String::as_str);
        self.commits.get(id)
    }
}

impl State {
    /// Adds a commit on a branch, which is made of another one or out of nothing if it is not there.
    /// Files without content are removed.
    pub(crate) fn commit(
        &mut self,
        project: u64,
        branch: &str,
        start: Option<&str>,
        message: &str,
        author: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> String {
        let created = self.now();
        let project = self.projects.get_mut(&project).expect("the project was just found");
        let parent = project.branches.get(branch).or_else(|| project.branches.get(start?)).cloned();
        let mut files = parent.as_ref().map(|id| project.commits[id].files.clone()).unwrap_or_default();
        let mut seed = format!("{parent:?} {message} {author} {created} {}", project.commits.len());
        for (path, content) in &changes {
            let _ =
                write!(seed, " {path} {}", content.as_ref().map(|bytes| digest(bytes)).unwrap_or_default());
        }
        let id = digest(seed.as_bytes())[..40].to_owned();
        for (path, content) in changes {
            match content {
                Some(content) => files.insert(path, File { content, last_commit: id.clone() }),
                None => files.remove(&path),
            };
        }
        let (message, author) = (message.to_owned(), author.to_owned());
        let commit = Commit { id: id.clone(), parent, message, author, created, files };
        project.commits.insert(id.clone(), commit);
        project.branches.insert(branch.to_owned(), id.clone());
        // The first branch stands for all.
        project.spec.default_branch.get_or_insert_with(|| branch.to_owned());
        id
    }

    pub(crate) fn commit_json(&self, project: &Project, commit: &Commit) -> Value {
        let title = commit.message.lines().next().unwrap_or_default();
        let time = State::shown(commit.created);
        let mail = format!("{}@example.com", commit.author);
        json!({
            "id": commit.id, "short_id": commit.id[..8], "title": title, "message": commit.message,
            "parent_ids": commit.parent.iter().collect::<Vec<_>>(), "created_at": time,
            "author_name": commit.author, "author_email": mail, "authored_date": time,
            "committer_name": commit.author, "committer_email": mail, "committed_date": time,
            "trailers": {}, "extended_trailers": {},
            "web_url": format!("{}/{}/-/commit/{}", self.url, project.spec.path, commit.id),
        })
    }

    fn branch_json(&self, who: Option<&Identity>, project: &Project, name: &str, commit: &Commit) -> Value {
        let protected = project.is_protected(name);
        let least = if protected { Role::Maintainer } else { Role::Developer };
        let role = who.and_then(|who| self.role(&who.user, &project.spec.path));
        json!({
            "name": name, "commit": self.commit_json(project, commit), "merged": false,
            "protected": protected, "developers_can_push": false, "developers_can_merge": false,
            "can_push": role >= Some(least), "default": project.spec.default_branch.as_deref() == Some(name),
            "web_url": format!("{}/{}/-/tree/{name}", self.url, project.spec.path),
        })
    }
}

/// `HEAD` and `GET /projects/:id/repository/files/:path`.
pub(crate) fn file(project: &Project, path: &str, head: bool, params: &mut Params) -> Outcome {
    let reference = params.required_text("ref");
    params.done()?;
    if project.branches.is_empty() {
        return Err(answer::not_found("Repository"));
    }
    let commit = project.resolve(&reference).ok_or_else(|| answer::not_found("Commit"))?;
    let file = commit.files.get(path).ok_or_else(|| answer::not_found("File"))?;
    let blob = &digest(&file.content)[..40];
    let name = path.rsplit('/').next().unwrap_or_default();
    let fields = [
        ("file_name", name.to_owned()),
        ("file_path", path.to_owned()),
        ("encoding", "base64".to_owned()),
        ("content_sha256", digest(&file.content)),
        ("ref", reference),
        ("blob_id", blob.to_owned()),
        ("commit_id", commit.id.clone()),
        ("last_commit_id", file.last_commit.clone()),
    ];
    let mut answer = Answer::json(200, &Value::Null);
    let mut shown = json!({"size": file.content.len(), "execute_filemode": false});
    answer.headers.push(("X-Gitlab-Size".to_owned(), file.content.len().to_string()));
    for (name, value) in fields {
        shown[name] = value.as_str().into();
        let words: Vec<String> = name
            .split('_')
            .map(|word| {
                let mut word = word.to_owned();
                word[..1].make_ascii_uppercase();
                word
            })
            .collect();
        answer.headers.push((format!("X-Gitlab-{}", words.join("-")), value));
    }
    if head {
        answer.body.clear();
    } else {
        shown["content"] = STANDARD.encode(&file.content).into();
        answer.body = shown.to_string().into_bytes();
    }
    Ok(answer)
}

/// `GET /projects/:id/repository/branches`.
pub(crate) fn branches(
    state: &State,
    who: Option<&Identity>,
    project: &Project,
    request: &Request,
    params: &mut Params,
) -> Outcome {
    if project.branches.is_empty() {
        return Err(answer::not_found("Repository"));
    }
    let rows: Vec<Value> = project
        .branches
        .iter()
        .map(|(name, id)| state.branch_json(who, project, name, &project.commits[id]))
        .collect();
    paginate(state, request, params, &rows)
}

/// `GET /projects/:id/repository/branches/:name`.
pub(crate) fn branch(state: &State, who: Option<&Identity>, project: &Project, name: &str) -> Outcome {
    let id = project.branches.get(name).ok_or_else(|| answer::not_found("Branch"))?;
    Ok(Answer::json(200, &state.branch_json(who, project, name, &project.commits[id])))
}

/// `GET /projects/:id/repository/commits`: from a branch's head back to the first.
pub(crate) fn commits(state: &State, project: &Project, request: &Request, params: &mut Params) -> Outcome {
    let reference = params.text("ref_name").unwrap_or_else(|| "HEAD".to_owned());
    params.done()?;
    let mut next = Some(project.resolve(&reference).ok_or_else(|| answer::not_found("Repository"))?);
    let mut rows = Vec::new();
    while let Some(commit) = next {
        rows.push(state.commit_json(project, commit));
        next = commit.parent.as_ref().and_then(|id| project.commits.get(id));
    }
    paginate(state, request, params, &rows)
}

/// `GET /projects/:id/repository/commits/:sha`.
pub(crate) fn show_commit(state: &State, project: &Project, reference: &str) -> Outcome {
    let found = project.resolve(reference).filter(|commit| state.is_settled(commit.created));
    let commit = found.ok_or_else(|| answer::not_found("Commit"))?;
    let mut shown = state.commit_json(project, commit);
    let last = state.pipelines.values().rev().find(|pipeline| pipeline.sha == commit.id);
    shown["last_pipeline"] = last.map_or(Value::Null, |pipeline| state.pipeline_json(pipeline));
    shown["status"] = last.map(|pipeline| state.pipeline_status(pipeline)).into();
    shown["project_id"] = project.id.into();
    Ok(Answer::json(200, &shown))
}
