//! New commits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::options::Role;
use super::params::Params;
use super::projects::Project;
use super::state::State;

/// The files as the actions of a commit leave them.
fn changes(
    project: &Project,
    from: Option<&str>,
    actions: &Value,
) -> Outcome<Vec<(String, Option<Vec<u8>>)>> {
    let refuse = |text: &str| Err(answer::message(400, text));
    let files = from.and_then(|branch| project.resolve(branch)).map(|commit| &commit.files);
    let mut changes: Vec<(String, Option<Vec<u8>>)> = Vec::new();
    let missing = |what: &str| Err(answer::parameters(&[format!("actions[0][{what}] is missing")]));
    for action in actions.as_array().into_iter().flatten() {
        let text = |name: &str| action[name].as_str();
        let Some(kind) = text("action") else { return missing("action") };
        let Some(path) = text("file_path") else { return missing("file_path") };
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
                return refuse(
                    "You are attempting to update a file that has changed since you started editing it.",
                );
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
            _ => return refuse("Unknown action"),
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
    let branch = params.required_text("branch");
    let message = params.required_text("commit_message");
    let actions = params.required_any("actions");
    let start = params.text("start_branch");
    let author = params.text("author_name").unwrap_or_else(|| who.user.clone());
    params.done()?;
    if !actions.is_array() {
        return Err(answer::parameters(&["actions is invalid".to_owned()]));
    }
    let found = &state.projects[&project];
    let least = if found.is_protected(&branch) { Role::Maintainer } else { Role::Developer };
    if found.spec.archived || state.role(&who.user, &found.spec.path) < Some(least) {
        return Err(answer::forbidden("You are not allowed to push into this branch"));
    }
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
    if changes.is_empty() {
        return refuse("No changes could be committed".to_owned());
    }
    let id = state.commit(project, &branch, other.map(String::as_str), &message, &author, changes);
    state.push(who, project, &branch, &id);
    let found = &state.projects[&project];
    let mut shown = state.commit_json(found, &found.commits[&id]);
    shown["stats"] = serde_json::json!({"additions": 1, "deletions": 0, "total": 1});
    shown["project_id"] = project.into();
    Ok(Answer::json(201, &shown))
}
