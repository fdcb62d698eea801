//! New commits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::options::Role;
use super::params::Params;
use super::projects::Project;
use super::repository::File;
use super::state::State;

const ACTIONS: &[&str] = &["create", "update", "move", "delete", "chmod"];

/// A parameter that has to be there: since 19.x the body is read before Grape would see it.
fn required(params: &mut Params, name: &str) -> Outcome<String> {
    let given = params.text(name);
    given.ok_or_else(|| answer::bad_request(&format!("{name} is required")))
}

/// The files as the actions of a commit leave them.
fn changes(
    project: &Project,
    from: Option<&str>,
    actions: &Value,
) -> Outcome<Vec<(String, Option<Vec<u8>>)>> {
    let refuse = |text: &str| Err(answer::message(400, text));
    let files = from.and_then(|branch| project.resolve(branch)).map(|commit| &commit.files);
    let mut changes: Vec<(String, Option<Vec<u8>>)> = Vec::new();
    for (index, action) in actions.as_array().into_iter().flatten().enumerate() {
        let text = |name: &str| action[name].as_str();
        let kind = text("action").unwrap_or_default();
        if !ACTIONS.contains(&kind) {
            let known = ACTIONS.join(", ");
            return Err(answer::bad_request(&format!("actions[{index}][action] must be one of: {known}")));
        }
        let Some(path) = text("file_path") else {
            return Err(answer::bad_request(&format!("actions[{index}][file_path] is required")));
        };
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | ".." | ".git")) {
            return refuse("file_path should be a valid file path");
        }
        let earlier = changes.iter().rev().find(|(changed, _)| changed == path);
        let stored = files.and_then(|files| files.get(path));
        let exists = earlier.map_or(stored.is_some(), |(_, content)| content.is_some());
        let content = || match text("encoding") {
            Some("base64") => STANDARD.decode(text("content").unwrap_or_default()).ok(),
            _ => Some(text("content").unwrap_or_default().as_bytes().to_vec()),
        };
        let stale = || {
            let seen = text("last_commit_id");
            seen.is_some_and(|seen| stored.is_none_or(|file| file.last_commit != seen))
        };
        match kind {
            "create" if exists => return refuse("A file with this name already exists"),
            "update" | "delete" if !exists => return refuse("A file with this name doesn't exist"),
            "update" | "delete" if stale() => {
                return refuse(&format!("The file has changed since you started editing it: {path}"));
            }
            "create" | "update" => {
                let Some(content) = content() else { return refuse("The content is not valid base64") };
                if kind == "update" && stored.is_some_and(|file| file.content == content) {
                    // Nothing to commit; GitLab's words for it are as vague.
                    return refuse("Could not update branch");
                }
                changes.push((path.to_owned(), Some(content)));
            }
            "delete" => changes.push((path.to_owned(), None)),
            // Moving and changing modes are not needed here, and refused rather than done wrongly.
            _ => return refuse(&format!("This stand-in has no {kind}")),
        }
    }
    Ok(changes)
}

fn is_branch_name(name: &str) -> bool {
    let refused = [' ', '~', '^', ':', '?', '*', '[', '\\'];
    !name.is_empty()
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.chars().any(|c| c.is_control() || refused.contains(&c))
}

/// `POST /projects/:id/repository/commits`.
pub(crate) fn create(state: &mut State, who: &Identity, project: u64, params: &mut Params) -> Outcome {
    let branch = required(params, "branch")?;
    let message = required(params, "commit_message")?;
    let actions = params.raw("actions").clone();
    let start = params.text("start_branch");
    let author = params.text("author_name").unwrap_or_else(|| who.user.clone());
    params.done()?;
    if actions.as_array().is_none_or(Vec::is_empty) {
        return Err(answer::bad_request("Provide at least one action, or set allow_empty to true"));
    }
    let found = &state.projects[&project];
    check_push(state, who, found, &branch)?;
    let refuse = |text: String| Err(answer::message(400, &text));
    if !is_branch_name(&branch) {
        return refuse("Branch name is invalid".to_owned());
    }
    let exists = found.branches.contains_key(&branch);
    let other = start.as_ref().filter(|start| **start != branch);
    match other {
        _ if found.branches.is_empty() && other.is_none() => {}
        Some(_) if exists => {
            return refuse(format!(
                "A branch called '{branch}' already exists. Switch to that branch in order to make changes"
            ));
        }
        Some(start) if !found.branches.contains_key(start) => {
            return refuse(format!("Cannot find branch named '{start}'"));
        }
        None if !exists => {
            return refuse("You can only create or edit files when you are on a branch".to_owned());
        }
        _ => {}
    }
    let from = if exists { Some(branch.as_str()) } else { other.map(String::as_str) };
    let changes = changes(found, from, &actions)?;
    if let Some(prefix) = &found.spec.commit_message_prefix
        && !message.starts_with(prefix)
    {
        return refuse(format!("Commit message does not follow the pattern '^{prefix}'"));
    }
    let id = state.commit(project, &branch, other.map(String::as_str), &message, &author, changes);
    Ok(pushed(state, who, project, &branch, &id))
}

fn check_push(state: &State, who: &Identity, project: &Project, branch: &str) -> Outcome<()> {
    let least = if project.is_protected(branch) { Role::Maintainer } else { Role::Developer };
    if project.spec.archived || state.role(&who.user, &project.spec.path) < Some(least) {
        return Err(answer::forbidden("You are not allowed to push into this branch"));
    }
    Ok(())
}

/// Starts what a new commit starts, and shows it.
fn pushed(state: &mut State, who: &Identity, project: u64, branch: &str, id: &str) -> Answer {
    state.push(who, project, branch, id);
    let found = &state.projects[&project];
    let mut shown = state.commit_json(found, &found.commits[id]);
    shown["stats"] = serde_json::json!({"additions": 1, "deletions": 0, "total": 1});
    shown["project_id"] = project.into();
    Answer::json(201, &shown)
}

/// `POST /projects/:id/repository/commits/:sha/revert`.
pub(crate) fn revert(
    state: &mut State,
    who: &Identity,
    project: u64,
    sha: &str,
    params: &mut Params,
) -> Outcome {
    let branch = params.required_text("branch");
    params.done()?;
    let found = &state.projects[&project];
    check_push(state, who, found, &branch)?;
    let commit = found.commits.get(sha).ok_or_else(|| answer::not_found("Commit"))?;
    let head = found.branches.get(&branch).ok_or_else(|| answer::not_found("Branch"))?;
    let before = commit.parent.as_ref().map(|id| found.commits[id].files.clone()).unwrap_or_default();
    let (after, now) = (&commit.files, &found.commits[head].files);
    let content = |file: Option<&File>| file.map(|file| file.content.clone());
    let mut changes = Vec::new();
    let mut touched: Vec<&String> = before.keys().chain(after.keys()).collect();
    touched.sort();
    touched.dedup();
    for path in touched {
        let (old, new) = (content(before.get(path)), content(after.get(path)));
        if old != new && content(now.get(path)) != new {
            let why = "Sorry, we cannot revert this commit automatically. This commit may already have been \
                       reverted, or a more recent commit may have updated some of its content.";
            return Err(answer::message(400, why));
        }
        if old != new {
            changes.push((path.clone(), old));
        }
    }
    let title = commit.message.lines().next().unwrap_or_default();
    let message = format!("Revert \"{title}\"\n\nThis reverts commit {sha}");
    let id = state.commit(project, &branch, None, &message, &who.user, changes);
    Ok(pushed(state, who, project, &branch, &id))
}

/// `DELETE /projects/:id/repository/branches/:name`.
pub(crate) fn delete_branch(state: &mut State, who: &Identity, project: u64, name: &str) -> Outcome {
    let found = &state.projects[&project];
    state.need(who, found, Role::Developer)?;
    if !found.branches.contains_key(name) {
        return Err(answer::not_found("Branch"));
    }
    if found.spec.default_branch.as_deref() == Some(name) {
        return Err(answer::message(405, "Cannot remove HEAD branch"));
    }
    if found.spec.archived || found.is_protected(name) {
        return Err(answer::forbidden("You don't have push access to repo"));
    }
    if let Some(project) = state.projects.get_mut(&project) {
        project.branches.remove(name);
    }
    Ok(answer::no_content())
}
