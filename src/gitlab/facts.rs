//! GitLab's version, the operator's token, role and project: read once per run, concurrently.

use serde_json::json;

use crate::base::error::{Command, Failure, Id, Result};
use crate::gitlab::view::View;
use crate::gitlab::{self, Access, AccessToken, Class, Gitlab, Project, Refusal, Route, Scope, number};
use crate::settings::Settings;

/// GitLab as the operator's token sees it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `None` if the token may not read it.
    pub version: Option<String>,
    /// `None` if GitLab does not describe the token (OAuth, job tokens).
    pub token: Option<AccessToken>,
    /// The project of the settings.
    pub project: Option<Project>,
    /// The scope of the runner.
    pub scope: Option<Scope>,
    /// The caller's role in the project or group of the runner.
    pub access: Option<Access>,
    /// The caller's id, if known.
    pub user: Option<u64>,
    /// Whether the caller is an administrator, if known.
    pub admin: Option<bool>,
    /// GitLab's message if it is read-only.
    pub maintenance: Option<String>,
    /// The facts that could not be read, each with the reason.
    pub skipped: Vec<String>,
}

/// Reads the facts, once per run. Fails with exit 2 without a token; 3 for a project that is not visible; 4 for a
/// rejected token, or one whose scopes do not allow it to read a project given by path; 8 if GitLab does not respond.
pub async fn instance(view: &View) -> Result<&Instance> {
    view.instance.get_or_try_init(|| ask(view)).await
}

async fn ask(view: &View) -> Result<Instance> {
    look(view.client()?, &view.run.settings).await
}

/// The facts for these settings, read anew; fails as [`instance`].
pub async fn look(gitlab: &Gitlab, settings: &Settings) -> Result<Instance> {
    let given = settings.project.as_ref().map(|project| project.value.as_str());
    let group = settings.group.as_ref().map(|group| group.value.as_str());
    let (token, version, project, group, maintenance) = tokio::join!(
        own_token(gitlab),
        version(gitlab),
        project(gitlab, given),
        group_id(gitlab, group),
        maintenance(gitlab, given),
    );
    let mut skipped = Vec::new();
    let token = token?.unwrap_or_else(|why| {
        skipped.push(format!("the token: {why}"));
        None
    });
    let version = version.unwrap_or_else(|refusal| {
        skipped.push(format!("GitLab's version: {}", refusal.message));
        None
    });
    let project = project?;
    let scope = match (settings.instance_runner, group?) {
        (true, _) => Some(Scope::Instance),
        (false, Some(id)) => Some(Scope::Group(id)),
        (false, None) => project.as_ref().map(|project| Scope::Project(project.id)),
    };
    let mut found = Instance {
        version,
        access: project.as_ref().and_then(|project| project.access),
        project,
        user: token.as_ref().and_then(|token| token.user),
        admin: None,
        maintenance: maintenance?,
        skipped,
        scope,
        token,
    };
    role(gitlab, &mut found).await?;
    if found.project.as_ref().is_some_and(|project| project.path.is_none()) {
        let why = "the project: the token may not read it (scope read_api or api, permission Project: Read)";
        found.skipped.push(why.to_owned());
    } else if matches!(found.scope, Some(Scope::Project(_) | Scope::Group(_)))
        && found.access.is_none()
        && found.admin != Some(true)
    {
        let why = "your role: GitLab does not show it, and checks it when the runner is created";
        found.skipped.push(why.to_owned());
    }
    Ok(found)
}

/// The token's own data; the inner error is the reason why they could not be read, which does not end the run.
pub(super) async fn own_token(gitlab: &Gitlab) -> Result<Result<Option<AccessToken>, String>> {
    let route = Route::of(&["personal_access_tokens", "self"]);
    match gitlab.get("read the details of the GitLab token", &route).await {
        Ok(value) => Ok(Ok(Some(AccessToken::read(&value)))),
        Err(refusal) if refusal.class == Class::NotFound => Ok(Ok(None)),
        // lib/api/personal_access_tokens/self_information.rb: an OAuth token, such as glab's login.
        Err(refusal) if refusal.class == Class::Invalid && refusal.code == 400 => {
            Ok(Err("GitLab does not describe OAuth tokens".to_owned()))
        }
        // Older versions reject an OAuth token like an expired one, with this message: another call distinguishes
        // them.
        Err(refusal) if refusal.class == Class::Unauthorized && refusal.message == "401 Unauthorized" => {
            match gitlab.get("read its own user", &Route::of(&["user"])).await {
                Ok(_) => Ok(Ok(None)),
                Err(_) => Err(refusal.into()),
            }
        }
        Err(refusal) if refusal.class == Class::Scope => {
            let lack = refusal.lack.map(|lack| lack.remedy()).unwrap_or_default();
            Ok(Err(format!("it may not read itself ({lack})")))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

pub(super) async fn version(gitlab: &Gitlab) -> Result<Option<String>, Refusal> {
    let value = gitlab.get("read GitLab's version", &Route::of(&["metadata"])).await?;
    Ok(value["version"].as_str().map(str::to_owned))
}

/// The project; a numeric id is enough if the token may not read it.
async fn project(gitlab: &Gitlab, given: Option<&str>) -> Result<Option<Project>> {
    let Some(given) = given else { return Ok(None) };
    match gitlab.get(&format!("read the project {given}"), &Route::of(&["projects", given])).await {
        Ok(value) => Project::read(&value).map(Some).ok_or_else(|| {
            Failure::new(Id::NotGitlab, format!("GitLab's response for {given} is not a project"))
        }),
        Err(refusal) if refusal.class == Class::Scope => match given.parse() {
            Ok(id) => Ok(Some(Project { id, ..Project::default() })),
            Err(_) => Err(by_number(refusal, "project")),
        },
        Err(refusal) => Err(refusal.into()),
    }
}

async fn group_id(gitlab: &Gitlab, given: Option<&str>) -> Result<Option<u64>> {
    let Some(given) = given else { return Ok(None) };
    if let Ok(id) = given.parse() {
        return Ok(Some(id));
    }
    let value = match gitlab.get(&format!("read the group {given}"), &Route::of(&["groups", given])).await {
        Err(refusal) if refusal.class == Class::Scope => return Err(by_number(refusal, "group")),
        answer => answer?,
    };
    number(&value["id"])
        .map(Some)
        .ok_or_else(|| Failure::new(Id::NotGitlab, format!("GitLab's response for {given} is not a group")))
}

fn by_number(refusal: Refusal, place: &str) -> Failure {
    let lack = refusal.lack.as_ref().and_then(|lack| lack.permission);
    let name = lack.map_or("the scope read_api", |permission| permission.name);
    let hint = format!("or give the {place} by its numeric id, which does not need {name}: --{place} ID");
    Failure::from(refusal).hint(hint)
}

/// GitLab's message if it is in maintenance mode or read-only. Only a POST shows that; a lint stores nothing. It has
/// its own rate limit (`lib/api/lint.rb`), for which outrigger does not wait.
async fn maintenance(gitlab: &Gitlab, project: Option<&str>) -> Result<Option<String>> {
    let Some(project) = project else { return Ok(None) };
    let route = Route::of(&["projects", project, "ci", "lint"]);
    match gitlab.probe("lint an empty file", &route, &json!({"content": ""})).await {
        Err(refusal) if refusal.class == Class::Maintenance => Ok(Some(refusal.message)),
        Err(refusal) if matches!(refusal.class, Class::Interrupted | Class::Redirect) => Err(refusal.into()),
        _ => Ok(None),
    }
}

/// Reads the caller's role if the project's response does not contain it: that contains only direct memberships
/// (`lib/api/entities/project_with_access.rb`), without invited groups and custom roles.
async fn role(gitlab: &Gitlab, found: &mut Instance) -> Result<()> {
    let needed = match found.scope {
        Some(Scope::Project(_)) => Access::MAINTAINER,
        _ => Access::DEVELOPER,
    };
    let shown = found.project.as_ref().and_then(|project| project.access);
    let unsure = shown.is_some_and(|access| access < needed);
    let elsewhere = matches!(found.scope, Some(Scope::Group(_) | Scope::Instance));
    // The user id is also compared with the creator of a marked runner.
    let nameless = found.user.is_none();
    let readable = found.token.as_ref().is_none_or(|token| token.has_any(&["api", "read_api", "read_user"]));
    if !(unsure || elsewhere || nameless) || !readable {
        return Ok(());
    }
    match gitlab.get("read its own user", &Route::of(&["user"])).await {
        Ok(user) => {
            found.user = number(&user["id"]).or(found.user);
            found.admin = Some(user["is_admin"].as_bool().unwrap_or(false));
        }
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden | Class::NotFound) => {}
        Err(refusal) => return Err(refusal.into()),
    }
    if found.admin == Some(true) {
        return Ok(());
    }
    if let Some(project) = found.project.as_mut().filter(|_| unsure) {
        let id = project.id.to_string();
        project.access = member(gitlab, &["projects", &id], found.user, needed, None).await?;
    }
    found.access = match found.scope {
        // A user who sees a group without being a member has a role only in one of its projects.
        Some(Scope::Group(id)) => {
            let id = id.to_string();
            member(gitlab, &["groups", &id], found.user, Access::OWNER, Some(Access(0))).await?
        }
        _ => found.project.as_ref().and_then(|project| project.access),
    };
    Ok(())
}

/// A user's role including inherited and invited memberships, `absent` without a membership; `None` if GitLab does
/// not show it, or if a custom role may allow more than its access level.
async fn member(
    gitlab: &Gitlab,
    place: &[&str],
    user: Option<u64>,
    needed: Access,
    absent: Option<Access>,
) -> Result<Option<Access>> {
    let Some(user) = user.map(|user| user.to_string()) else { return Ok(None) };
    let mut route = place.to_vec();
    route.extend(["members", "all", user.as_str()]);
    match gitlab.get_opt("read its own membership", &Route::of(&route)).await {
        Ok(None) => Ok(absent),
        Ok(Some(member)) => {
            let access = number(&member["access_level"]).map(Access);
            Ok(access.filter(|access| *access >= needed || member["member_role"].is_null()))
        }
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden) => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

impl Instance {
    /// Fails with OR0201 if no project is set.
    pub fn project(&self) -> Result<&Project> {
        self.project.as_ref().ok_or_else(|| {
            Failure::new(Id::MissingInput, "the GitLab project is not set").hint("set --project PATH|ID")
        })
    }

    /// Fails with OR0201 if the runner's scope is not set.
    pub fn scope(&self) -> Result<&Scope> {
        self.scope.as_ref().ok_or_else(|| {
            Failure::new(Id::MissingInput, "the runner's project or group is not set")
                .hint("set --project PATH|ID")
        })
    }

    /// The failure if the caller's role is known to be too low to commit and to run a pipeline.
    fn lacks_pipeline_role(&self) -> Option<Failure> {
        let access = self.project.as_ref()?.access?;
        if self.admin == Some(true) || access >= Access::DEVELOPER {
            return None;
        }
        let failure = low_role("committing and running a pipeline", Access::DEVELOPER, "the project", access);
        Some(failure.hint((
            "ask a Maintainer of the project for that role, or give them the file",
            Command::outrigger("commit-pipeline --print"),
        )))
    }

    /// The failure if the caller's role is known to be too low to create the runner.
    pub fn lacks_role(&self) -> Option<Failure> {
        if self.admin == Some(true) {
            return None;
        }
        let (needed, place) = match (&self.scope, self.access) {
            (Some(Scope::Instance), _) if self.admin == Some(false) => {
                let message = "only administrators can create an instance runner";
                let hint = "create a project runner instead: --project PATH|ID";
                return Some(Failure::new(Id::GitlabForbidden, message).hint(hint));
            }
            (Some(Scope::Project(_)), Some(access)) if access < Access::MAINTAINER => {
                (Access::MAINTAINER, "the project")
            }
            (Some(Scope::Group(_)), Some(access)) if access < Access::OWNER => (Access::OWNER, "the group"),
            _ => return None,
        };
        let failure = low_role("creating a runner", needed, place, self.access.unwrap_or(Access(0)));
        let hint =
            "ask a user with that role to create it and to give you its token: --runner-token-file PATH";
        Some(failure.hint(hint))
    }
}

fn low_role(what: &str, needed: Access, place: &str, has: Access) -> Failure {
    let message = format!("{what} requires the role {} in {place}", needed.word());
    Failure::new(Id::GitlabForbidden, message).detail("your role", has.word())
}

/// Refuses a GitLab instance other than the recorded one, with OR0315 (exit 3).
pub fn check_recorded(view: &View) -> Result<()> {
    let known = view.notes.record().gitlab.clone();
    let nothing = (known.is_empty() && known.commit.is_none()) || known.url.is_empty();
    let (Some(url), false) = (&view.run.settings.gitlab_url, nothing) else {
        return Ok(());
    };
    if url.value == known.url || view.run.options.gitlab_gone {
        return Ok(());
    }
    let deployment = &view.run.names.deployment;
    let what = if known.is_empty() { "the commit" } else { "the runner" };
    Err(Failure::new(Id::AnotherGitlab, format!("{what} of {deployment} is on another GitLab"))
        .detail("recorded", known.url)
        .detail("now", format!("{} ({})", url.value, url.source))
        .hint("omit --gitlab-url, or use another deployment: --deployment NAME")
        .hint(("if the recorded GitLab no longer exists", Command::teardown("--gitlab-gone"))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Create a runner.
    Runner,
    /// Commit and run a pipeline.
    Pipeline,
}

/// All known obstacles to a purpose.
pub fn obstacles(instance: &Instance, purpose: Purpose) -> Vec<Failure> {
    let mut found = Vec::new();
    if let Some(token) = &instance.token {
        found.extend(lacks(token, purpose));
    }
    match purpose {
        Purpose::Runner => found.extend(instance.lacks_role()),
        Purpose::Pipeline => found.extend(instance.lacks_pipeline_role()),
    }
    if let Some(project) = instance.project.as_ref().filter(|project| project.archived) {
        let message = format!("the project {} is archived", project.shown());
        let hint = "unarchive it in GitLab (Settings, General), or use another project: --project PATH|ID";
        found.push(Failure::new(Id::GitlabNotFound, message).hint(hint));
    }
    if let Some(words) = &instance.maintenance {
        let failure =
            Failure::new(Id::GitlabReadOnly, "GitLab is read-only").detail("GitLab says", words.clone());
        found.push(gitlab::when_writable(failure, words));
    }
    found
}

/// What a token's state and scopes do not allow.
pub fn lacks(token: &AccessToken, purpose: Purpose) -> Vec<Failure> {
    let mut found = Vec::new();
    if !token.active {
        let failure = Failure::new(Id::GitlabTokenRefused, "the GitLab token is expired or revoked");
        found.push(failure.hint("create a new one in GitLab (user menu, Access tokens)"));
    }
    let (scopes, what, hint): (&[&str], _, _) = match purpose {
        Purpose::Runner => (
            &["api", "create_runner"],
            "create runners",
            "use a token with the scope api, or with create_runner and manage_runner",
        ),
        Purpose::Pipeline => (
            &["api"],
            "commit or run a pipeline",
            "use a token with the scope api, or omit --commit-pipeline and --run-pipeline",
        ),
    };
    if !token.has_any(scopes) {
        let message = format!("the GitLab token's scopes do not allow it to {what}");
        let has = if token.scopes.is_empty() { "none".to_owned() } else { token.scopes.join(", ") };
        found.push(Failure::new(Id::GitlabTokenScope, message).detail("scopes", has).hint(hint));
    }
    found
}
