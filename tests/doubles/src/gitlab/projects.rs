//! Projects, groups, the caller himself, and the server about itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome};
use super::auth::Identity;
use super::options::{ProjectSpec, Role, TokenKind};
use super::repository::Commit;
use super::state::{State, friendly};

/// A group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) path: String,
    pub(crate) registration_token: String,
}

/// A project with its repository.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: u64,
    pub(crate) spec: ProjectSpec,
    pub(crate) registration_token: String,
    /// Branch to commit.
    pub(crate) branches: BTreeMap<String, String>,
    pub(crate) commits: BTreeMap<String, Commit>,
}

impl Project {
    /// Whether a branch is pushed to by maintainers only.
    pub(crate) fn is_protected(&self, branch: &str) -> bool {
        self.spec.protected_branches.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => branch.starts_with(start),
            None => branch == pattern,
        })
    }

    /// Where its pipelines are described.
    pub(crate) fn ci_path(&self) -> &str {
        self.spec.ci_config_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(".gitlab-ci.yml")
    }
}

impl State {
    /// The group of this path, made if there is none, and those above.
    pub(crate) fn add_group(&mut self, path: &str) -> u64 {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.add_group(above);
        }
        if let Some(group) = self.groups.values().find(|group| group.path == path) {
            return group.id;
        }
        let id = self.fresh("group");
        let registration_token = format!("GR1348941{}", friendly());
        self.groups.insert(id, Group { id, path: path.to_owned(), registration_token });
        id
    }

    pub(crate) fn add_project(&mut self, mut spec: ProjectSpec) -> u64 {
        if let Some((group, _)) = spec.path.rsplit_once('/') {
            self.add_group(group);
        }
        let id = self.fresh("project");
        let files = std::mem::take(&mut spec.files);
        let branch = spec.default_branch.clone();
        let registration_token = format!("GR1348941{}", friendly());
        let (branches, commits) = (BTreeMap::new(), BTreeMap::new());
        self.projects.insert(id, Project { id, spec, registration_token, branches, commits });
        if let Some(branch) = branch {
            let files = files.into_iter().map(|(path, content)| (path, Some(content.into_bytes()))).collect();
            self.commit(id, &branch, None, "Initial commit", "root", files);
        }
        id
    }

    /// The project that a path segment names, if the caller sees it.
    pub(crate) fn find_project(&self, who: Option<&Identity>, name: &str) -> Option<&Project> {
        let found = match name.parse::<u64>() {
            Ok(id) => self.projects.get(&id),
            Err(_) => self.projects.values().find(|project| project.spec.path.eq_ignore_ascii_case(name)),
        };
        found.filter(|project| self.sees(who, project))
    }

    /// The project that had this path before.
    pub(crate) fn moved_project(&self, who: Option<&Identity>, name: &str) -> Option<&Project> {
        let found = self.projects.values().find(|project| project.spec.moved_from.as_deref() == Some(name));
        found.filter(|project| self.sees(who, project))
    }

    fn sees(&self, who: Option<&Identity>, project: &Project) -> bool {
        let role = who.and_then(|who| self.role(&who.user, &project.spec.path));
        project.spec.public || role.is_some()
    }

    pub(crate) fn find_group(&self, who: &Identity, name: &str) -> Outcome<&Group> {
        let found = match name.parse::<u64>() {
            Ok(id) => self.groups.get(&id),
            Err(_) => self.groups.values().find(|group| group.path.eq_ignore_ascii_case(name)),
        };
        let seen = found.filter(|group| self.sees_group(&who.user, &group.path));
        seen.ok_or_else(|| answer::not_found("Group"))
    }

    /// Refuses somebody who is less than this in a project.
    pub(crate) fn need(&self, who: &Identity, project: &Project, least: Role) -> Outcome<()> {
        if self.role(&who.user, &project.spec.path) >= Some(least) {
            Ok(())
        } else {
            Err(answer::forbidden(""))
        }
    }

    /// A project as others mention it.
    pub(crate) fn project_reference(&self, project: &Project) -> Value {
        let path = &project.spec.path;
        let name = path.rsplit('/').next().unwrap_or_default();
        json!({
            "id": project.id, "description": null, "name": name, "path": name,
            "name_with_namespace": path.replace('/', " / "), "path_with_namespace": path,
            "created_at": "2025-01-01T00:00:00.000Z",
        })
    }

    /// What the caller has been given at these paths himself: an administrator need not be a member anywhere,
    /// and who comes through an invited group has no row here, either.
    fn membership<'a>(&self, who: Option<&Identity>, paths: impl Iterator<Item = &'a str>) -> Value {
        let given = |path: &str| self.roles.get(&(who?.user.clone(), path.to_owned())).copied();
        let role = paths.filter_map(given).max();
        role.map_or(Value::Null, |role| json!({"access_level": role as u8, "notification_level": 3}))
    }
}

/// `GET /projects/:id`.
pub(crate) fn show(state: &State, who: Option<&Identity>, project: &Project) -> Answer {
    let spec = &project.spec;
    let mut shown = state.project_reference(project);
    let namespace = spec.path.rsplit_once('/').map_or("", |(above, _)| above);
    let group = state.groups.values().find(|group| group.path == namespace);
    let enabled = |on: bool| if on { "enabled" } else { "disabled" };
    let more = json!({
        "default_branch": spec.default_branch, "web_url": format!("{}/{}", state.url, spec.path),
        "http_url_to_repo": format!("{}/{}.git", state.url, spec.path), "archived": spec.archived,
        "empty_repo": project.branches.is_empty(),
        "visibility": if spec.public { "public" } else { "private" },
        "container_registry_enabled": spec.registry_enabled, "jobs_enabled": spec.builds_enabled,
        "builds_access_level": enabled(spec.builds_enabled), "repository_access_level": "enabled",
        "shared_runners_enabled": spec.shared_runners, "group_runners_enabled": true,
        "ci_config_path": spec.ci_config_path.clone().unwrap_or_default(),
        "namespace": {
            "id": group.map(|group| group.id), "kind": if group.is_some() { "group" } else { "user" },
            "path": namespace.rsplit('/').next(), "full_path": namespace,
            "name": namespace.rsplit('/').next(),
        },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        shown[name] = value.clone();
    }
    if who.is_some() {
        shown["permissions"] = json!({
            "project_access": state.membership(who, [spec.path.as_str()].into_iter()),
            "group_access": state.membership(who, spec.path.match_indices('/').map(|(at, _)| &spec.path[..at])),
        });
    }
    let maintains = who.and_then(|who| state.role(&who.user, &spec.path)) >= Some(Role::Maintainer);
    if maintains {
        let token = state.options.registration_allowed.then(|| project.registration_token.clone());
        shown["runners_token"] = token.into();
    }
    Answer::json(200, &shown)
}

/// `GET /groups/:id`.
pub(crate) fn show_group(state: &State, group: &Group) -> Answer {
    let name = group.path.rsplit('/').next().unwrap_or_default();
    let above = group.path.rsplit_once('/').map_or("", |(above, _)| above);
    let parent = state.groups.values().find(|group| group.path == above).map(|group| group.id);
    let web = format!("{}/groups/{}", state.url, group.path);
    let shown = json!({
        "id": group.id, "web_url": web, "name": name, "path": name, "description": "",
        "visibility": "private", "full_name": group.path.replace('/', " / "), "full_path": group.path,
        "parent_id": parent, "shared_runners_setting": "enabled", "archived": null,
    });
    Answer::json(200, &shown)
}

/// `GET /user`.
pub(crate) fn user(state: &State, who: &Identity) -> Answer {
    let user = &state.users[&who.user];
    let bot = matches!(who.token.spec.kind, TokenKind::Project | TokenKind::Group);
    let mut shown = json!({
        "id": user.id, "username": who.user, "name": who.user, "state": "active", "locked": false,
        "bot": bot, "web_url": format!("{}/{}", state.url, who.user),
    });
    if user.admin {
        shown["is_admin"] = true.into();
    }
    Answer::json(200, &shown)
}

/// `GET /personal_access_tokens/self`.
pub(crate) fn token(state: &State, who: &Identity) -> Answer {
    let token = &who.token;
    let granular = token.spec.kind == TokenKind::FineGrained;
    // What the permissions of a fine-grained one are is told elsewhere.
    let shown = json!({
        "id": token.id, "name": token.spec.name, "revoked": token.spec.revoked,
        "created_at": State::shown(token.created), "description": null,
        "scopes": if granular { json!(["granular"]) } else { json!(token.spec.scopes) },
        "user_id": state.users[&who.user].id, "last_used_at": token.last_used.map(State::shown),
        "active": true, "expires_at": token.spec.expires_at,
    });
    Answer::json(200, &shown)
}

/// `GET /personal_access_tokens/self/associations`: where its owner is at least this.
pub(crate) fn associations(state: &State, who: &Identity, least: i64) -> Answer {
    let level = |path: &str| state.role(&who.user, path).map(|role| role as i64);
    let fits = |path: &str| level(path).is_some_and(|level| level >= least);
    let groups: Vec<Value> = state.groups.values().filter(|group| fits(&group.path)).map(|group| {
        let name = group.path.rsplit('/').next();
        json!({"id": group.id, "name": name, "full_path": group.path, "access_levels": level(&group.path)})
    }).collect();
    let projects: Vec<Value> = state
        .projects
        .values()
        .filter(|project| fits(&project.spec.path))
        .map(|project| {
            let mut shown = state.project_reference(project);
            shown["access_levels"] = level(&project.spec.path).into();
            shown
        })
        .collect();
    Answer::json(200, &json!({"groups": groups, "projects": projects}))
}

/// `GET /version` and, with more, `GET /metadata`.
pub(crate) fn version(state: &State, all: bool) -> Answer {
    let suffix = if state.options.enterprise { "-ee" } else { "" };
    let version = format!("{}{suffix}", state.options.version);
    let mut shown = json!({"version": version, "revision": "0d0b1e5"});
    if all {
        shown["enterprise"] = state.options.enterprise.into();
        shown["kas"] =
            json!({"enabled": false, "externalUrl": null, "externalK8sProxyUrl": null, "version": null});
    }
    Answer::json(200, &shown)
}
