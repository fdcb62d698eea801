//! The world that tests begin with, change behind everybody's back, and look at.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::FakeGitlab;
use super::members::Invitation;
use super::options::{ProjectSpec, Role, TokenSpec};
use super::runners::{Runner, Scope};
use super::state::State;

/// The group that is there from the start.
pub const GROUP: &str = "acme";

/// The project that is there from the start.
pub const PROJECT: &str = "acme/shop";

/// Puts in what is there from the start.
pub(crate) fn seed(state: &mut State) {
    for name in ["root", "owner", "maintainer", "developer", "reporter", "guest", "stranger"] {
        state.add_token(TokenSpec::pat(name, name, &["api"]));
    }
    if let Some(root) = state.users.get_mut("root") {
        root.admin = true;
    }
    for scope in ["read_api", "create_runner", "manage_runner"] {
        state.add_token(TokenSpec::pat(scope, "maintainer", &[scope]));
    }
    state.add_token(TokenSpec::pat("narrow", "maintainer", &["create_runner", "manage_runner"]));
    state.add_project(ProjectSpec::new(PROJECT));
    let roles = [
        ("owner", GROUP, Role::Owner),
        ("maintainer", PROJECT, Role::Maintainer),
        ("developer", PROJECT, Role::Developer),
        ("reporter", PROJECT, Role::Reporter),
        ("guest", PROJECT, Role::Guest),
    ];
    for (user, path, role) in roles {
        state.roles.insert((user.to_owned(), path.to_owned()), role);
    }
}

impl State {
    /// A runner without what changes by itself, and without its token.
    fn runner_snapshot(&self, runner: &Runner) -> Value {
        let settings = &runner.settings;
        let of = match &runner.scope {
            Scope::Instance => Vec::new(),
            Scope::Group(id) => self.groups.get(id).map(|group| group.path.clone()).into_iter().collect(),
            Scope::Projects(ids) => {
                let found = ids.iter().filter_map(|id| self.projects.get(id));
                found.map(|project| project.spec.path.clone()).collect()
            }
        };
        let systems: Vec<&str> = runner.managers.iter().map(|manager| manager.system_id.as_str()).collect();
        json!({
            "id": runner.id, "runner_type": runner.scope.kind(), "of": of, "creator": runner.creator,
            "description": settings.description, "maintenance_note": settings.maintenance_note,
            "paused": settings.paused, "locked": settings.locked, "run_untagged": settings.run_untagged,
            "access_level": settings.access_level, "tag_list": settings.tags,
            "maximum_timeout": settings.maximum_timeout, "managers": systems,
        })
    }

    fn project_id(&self, path: &str) -> u64 {
        let found = self.projects.values().find(|project| project.spec.path == path);
        found.unwrap_or_else(|| panic!("there is no project {path}")).id
    }
}

impl FakeGitlab {
    /// The secret of a token by its name.
    ///
    /// # Panics
    /// If there is no such token.
    #[must_use]
    pub fn token(&self, name: &str) -> String {
        let state = self.state();
        let found = state.tokens.iter().find(|token| token.spec.name == name);
        found.unwrap_or_else(|| panic!("there is no token {name}")).secret.clone()
    }

    /// Makes a token, in place of one of the same name, and says its secret.
    pub fn add_token(&self, spec: TokenSpec) -> String {
        self.state().add_token(spec)
    }

    /// Changes what a token is, under the same secret.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn change_token(&self, name: &str, change: impl FnOnce(&mut TokenSpec)) {
        let mut state = self.state();
        let found = state.tokens.iter_mut().find(|token| token.spec.name == name);
        change(&mut found.unwrap_or_else(|| panic!("there is no token {name}")).spec);
    }

    /// Makes somebody an administrator, or no longer.
    pub fn set_admin(&self, user: &str, admin: bool) {
        let mut state = self.state();
        state.user(user);
        if let Some(user) = state.users.get_mut(user) {
            user.admin = admin;
        }
    }

    /// Gives somebody a role in a project or group, or takes it.
    pub fn set_role(&self, user: &str, path: &str, role: Option<Role>) {
        let mut state = self.state();
        state.user(user);
        let key = (user.to_owned(), path.to_owned());
        match role {
            Some(role) => state.roles.insert(key, role),
            None => state.roles.remove(&key),
        };
    }

    /// Adds the ability to administer runners to somebody's role in a project or group: a custom role.
    pub fn allow_runners(&self, user: &str, path: &str) {
        self.state().custom_roles.push((user.to_owned(), path.to_owned()));
    }

    /// Lets the members of a group into a project or another group, as this at most.
    pub fn invite_group(&self, group: &str, into: &str, most: Role) {
        let mut state = self.state();
        state.add_group(group);
        state.invitations.push(Invitation { group: group.to_owned(), into: into.to_owned(), most });
    }

    /// Makes a group, and those above, and says its id.
    pub fn add_group(&self, path: &str) -> u64 {
        self.state().add_group(path)
    }

    /// Makes a project, and says its id.
    pub fn add_project(&self, spec: ProjectSpec) -> u64 {
        self.state().add_project(spec)
    }

    /// Changes what a project is like.
    ///
    /// # Panics
    /// If there is no such project.
    pub fn change_project(&self, path: &str, change: impl FnOnce(&mut ProjectSpec)) {
        let mut state = self.state();
        let id = state.project_id(path);
        change(&mut state.projects.get_mut(&id).expect("it was just found").spec);
        state.queue += 1;
    }

    /// Removes a project; its runners stay, orphaned.
    ///
    /// # Panics
    /// If there is no such project.
    pub fn remove_project(&self, path: &str) {
        let mut state = self.state();
        let id = state.project_id(path);
        state.projects.remove(&id);
        state.jobs.retain(|_, job| job.project != id);
        state.pipelines.retain(|_, pipeline| pipeline.project != id);
    }

    /// The id of a project.
    ///
    /// # Panics
    /// If there is no such project.
    #[must_use]
    pub fn project_id(&self, path: &str) -> u64 {
        self.state().project_id(path)
    }

    /// The registration token of a project or group, or of the instance for the empty path.
    ///
    /// # Panics
    /// If there is neither.
    #[must_use]
    pub fn registration_token(&self, path: &str) -> String {
        let state = self.state();
        if path.is_empty() {
            return state.instance_registration_token.clone();
        }
        let group = state.groups.values().find(|group| group.path == path);
        let group = group.map(|group| group.registration_token.clone());
        group.unwrap_or_else(|| state.projects[&state.project_id(path)].registration_token.clone())
    }

    /// Commits a file on a branch (which is made if it is not there) without starting a pipeline, and says
    /// the commit's id.
    ///
    /// # Panics
    /// If there is no such project.
    pub fn put_file(&self, project: &str, branch: &str, path: &str, content: &str) -> String {
        let mut state = self.state();
        let id = state.project_id(project);
        let start = state.projects[&id].spec.default_branch.clone();
        let changes = vec![(path.to_owned(), Some(content.as_bytes().to_vec()))];
        state.commit(id, branch, start.as_deref(), &format!("Change {path}"), "root", changes)
    }

    /// What a file holds at a branch, commit or `HEAD`.
    #[must_use]
    pub fn file(&self, project: &str, reference: &str, path: &str) -> Option<String> {
        let state = self.state();
        let found = &state.projects[&state.project_id(project)];
        let file = found.resolve(reference)?.files.get(path)?;
        Some(String::from_utf8_lossy(&file.content).into_owned())
    }

    /// The runners, with their settings and the system ids of their managers, but without their tokens.
    #[must_use]
    pub fn runners(&self) -> Vec<Value> {
        let state = self.state();
        state.runners.values().map(|runner| state.runner_snapshot(runner)).collect()
    }

    /// The token of a runner, which no answer tells after the first.
    ///
    /// # Panics
    /// If there is no such runner.
    #[must_use]
    pub fn runner_token(&self, id: u64) -> String {
        let state = self.state();
        state.runners.get(&id).unwrap_or_else(|| panic!("there is no runner {id}")).token.clone()
    }

    /// Puts a project's runner at the service of another project too.
    ///
    /// # Panics
    /// If there is no such project.
    pub fn share_runner(&self, id: u64, project: &str) {
        let mut state = self.state();
        let project = state.project_id(project);
        if let Some(Scope::Projects(ids)) = state.runners.get_mut(&id).map(|runner| &mut runner.scope) {
            ids.push(project);
        }
        state.queue += 1;
    }

    /// Removes a runner behind everybody's back.
    pub fn remove_runner(&self, id: u64) {
        self.state().runners.remove(&id);
    }

    /// The commits of a project in order, as the API shows them.
    #[must_use]
    pub fn commits(&self, project: &str) -> Vec<Value> {
        let state = self.state();
        let found = &state.projects[&state.project_id(project)];
        let mut commits: Vec<_> = found.commits.values().collect();
        commits.sort_by_key(|commit| commit.created);
        commits.into_iter().map(|commit| state.commit_json(found, commit)).collect()
    }

    /// The pipelines of a project in order, as the API shows them, with their jobs in `jobs`.
    #[must_use]
    pub fn pipelines(&self, project: &str) -> Vec<Value> {
        let state = self.state();
        let id = state.project_id(project);
        let of_project = state.pipelines.values().filter(|pipeline| pipeline.project == id);
        let shown = |pipeline: &super::pipelines::Pipeline| {
            let mut shown = state.pipeline_json(pipeline);
            let jobs = state.jobs.values().filter(|job| job.pipeline == pipeline.id);
            shown["jobs"] = jobs.map(|job| state.job_json(job)).collect();
            shown
        };
        of_project.map(shown).collect()
    }

    /// What a job has written so far.
    ///
    /// # Panics
    /// If there is no such job.
    #[must_use]
    pub fn trace(&self, job: u64) -> String {
        let state = self.state();
        let found = state.jobs.get(&job).unwrap_or_else(|| panic!("there is no job {job}"));
        String::from_utf8_lossy(&found.trace).into_owned()
    }

    /// All that can be changed through the API, to be compared with later: `runner/1001`,
    /// `branch/acme/shop/main`, `file/acme/shop/main/README.md`, `pipeline/5001`, `job/9001`.
    /// Times and tokens are left out.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Value> {
        let state = self.state();
        let mut all = BTreeMap::new();
        for runner in state.runners.values() {
            all.insert(format!("runner/{}", runner.id), state.runner_snapshot(runner));
        }
        for project in state.projects.values() {
            let path = &project.spec.path;
            let about =
                json!({"default_branch": project.spec.default_branch, "archived": project.spec.archived});
            all.insert(format!("project/{path}"), about);
            for (branch, id) in &project.branches {
                all.insert(format!("branch/{path}/{branch}"), json!(id));
                for (name, file) in &project.commits[id].files {
                    let content = String::from_utf8_lossy(&file.content);
                    all.insert(format!("file/{path}/{branch}/{name}"), json!(content));
                }
            }
        }
        for pipeline in state.pipelines.values() {
            let status = state.pipeline_status(pipeline);
            let about = json!({"sha": pipeline.sha, "ref": pipeline.reference, "status": status});
            all.insert(format!("pipeline/{}", pipeline.id), about);
        }
        for job in state.jobs.values() {
            let about = json!({"name": job.plan.name, "status": job.status, "runner": job.runner});
            all.insert(format!("job/{}", job.id), about);
        }
        all
    }
}
