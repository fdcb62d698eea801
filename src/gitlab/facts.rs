//! What GitLab says of itself, of the operator's token and of the project: asked at most once per run,
//! side by side, before anything is changed anywhere.

use serde_json::json;

use crate::base::error::{Command, Failure, Id, Result};
use crate::gitlab::view::View;
use crate::gitlab::{self, Access, AccessToken, Class, Gitlab, Project, Refusal, Route, Scope, number};

/// Everything that later steps rely on.
#[derive(Clone, Debug)]
pub struct Instance {
    /// GitLab's version; none where the token may not ask.
    pub version: Option<String>,
    /// What the token is; none where GitLab does not say (OAuth, job tokens).
    pub token: Option<AccessToken>,
    /// The project of the settings.
    pub project: Option<Project>,
    /// Whom the runner is for.
    pub scope: Option<Scope>,
    /// The caller's role where the runner is to be: in the project or the group.
    pub access: Option<Access>,
    /// The caller's id; none where GitLab does not say.
    pub user: Option<u64>,
    /// Whether the caller is an administrator; none where GitLab does not say.
    pub admin: Option<bool>,
    /// Whether writing is switched off at the moment, in GitLab's words.
    pub maintenance: Option<String>,
    /// What could not be found out, and why.
    pub skipped: Vec<String>,
}

/// Asks, or returns what was answered before.
///
/// # Errors
/// Exit 2 without a token; 3 for a project that is not to be seen; 4 for a token that GitLab does not
/// take, or whose scopes do not reach a project given by path; 8 when GitLab does not answer.
pub async fn instance(view: &View) -> Result<&Instance> {
    view.instance.get_or_try_init(|| ask(view)).await
}

async fn ask(view: &View) -> Result<Instance> {
    let gitlab = view.client()?;
    let settings = &view.run.settings;
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
        let why = "your role there: GitLab does not tell it, and decides when the runner is created";
        found.skipped.push(why.to_owned());
    }
    Ok(found)
}

/// Most tokens may ask this of themselves; where one may not, nothing is wrong yet, and the reason is told.
async fn own_token(gitlab: &Gitlab) -> Result<Result<Option<AccessToken>, String>> {
    let route = Route::of(&["personal_access_tokens", "self"]);
    match gitlab.get("look at its own token", &route).await {
        Ok(value) => Ok(Ok(Some(AccessToken::read(&value)))),
        Err(refusal) if refusal.class == Class::NotFound => Ok(Ok(None)),
        // lib/api/personal_access_tokens/self_information.rb: an OAuth token, such as glab's login.
        Err(refusal) if refusal.class == Class::Invalid && refusal.code == 400 => {
            Ok(Err("GitLab tells nothing of OAuth tokens".to_owned()))
        }
        // Those of older versions are told from dead ones by the words alone.
        Err(refusal) if refusal.class == Class::Unauthorized && refusal.message == "401 Unauthorized" => {
            // Perhaps no access token at all: another call tells.
            match gitlab.get("look at its own user", &Route::of(&["user"])).await {
                Ok(_) => Ok(Ok(None)),
                Err(_) => Err(refusal.into()),
            }
        }
        Err(refusal) if refusal.class == Class::Scope => {
            let lack = refusal.lack.map(|lack| lack.remedy()).unwrap_or_default();
            Ok(Err(format!("it may not look at itself ({lack})")))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

async fn version(gitlab: &Gitlab) -> Result<Option<String>, Refusal> {
    let value = gitlab.get("read GitLab's version", &Route::of(&["metadata"])).await?;
    Ok(value["version"].as_str().map(str::to_owned))
}

/// The project; with a token that may not read it, its numeric id alone is enough.
async fn project(gitlab: &Gitlab, given: Option<&str>) -> Result<Option<Project>> {
    let Some(given) = given else { return Ok(None) };
    match gitlab.get(&format!("read the project {given}"), &Route::of(&["projects", given])).await {
        Ok(value) => Project::read(&value).map(Some).ok_or_else(|| {
            Failure::new(Id::NotGitlab, format!("GitLab's answer about {given} holds no project"))
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
        .ok_or_else(|| Failure::new(Id::NotGitlab, format!("GitLab's answer about {given} holds no group")))
}

/// A token that may not look a path up: a number is not looked up.
fn by_number(refusal: Refusal, place: &str) -> Failure {
    let lack = refusal.lack.as_ref().and_then(|lack| lack.permission);
    let name = lack.map_or("the scope read_api", |permission| permission.name);
    let hint = format!("or give the {place} by its numeric id, which does not need {name}: --{place} ID");
    Failure::from(refusal).hint(hint)
}

/// Whether GitLab is in maintenance mode, or can only be read. That stands in no answer to a reading; a lint,
/// which stores nothing, is a POST and meets it. Any other answer means that it is not, also that there were
/// too many lints: those have a limit of their own (`lib/api/lint.rb`), whose end is not waited for.
async fn maintenance(gitlab: &Gitlab, project: Option<&str>) -> Result<Option<String>> {
    let Some(project) = project else { return Ok(None) };
    let route = Route::of(&["projects", project, "ci", "lint"]);
    match gitlab.probe("lint nothing", &route, &json!({"content": ""})).await {
        Err(refusal) if refusal.class == Class::Maintenance => Ok(Some(refusal.message)),
        Err(refusal) if matches!(refusal.class, Class::Interrupted | Class::Redirect) => Err(refusal.into()),
        _ => Ok(None),
    }
}

/// The role that counts, where the project's own answer has not told it: that shows the rows of the caller
/// himself (`lib/api/entities/project_with_access.rb`), and neither what comes through an invited group nor what
/// a custom role adds.
async fn role(gitlab: &Gitlab, found: &mut Instance) -> Result<()> {
    let needed = match found.scope {
        Some(Scope::Project(_)) => Access::MAINTAINER,
        _ => Access::DEVELOPER,
    };
    let shown = found.project.as_ref().and_then(|project| project.access);
    let unsure = shown.is_some_and(|access| access < needed);
    let elsewhere = matches!(found.scope, Some(Scope::Group(_) | Scope::Instance));
    // Who somebody is also tells whether a runner with our mark is his.
    let nameless = found.user.is_none();
    let readable = found.token.as_ref().is_none_or(|token| token.has_any(&["api", "read_api", "read_user"]));
    if !(unsure || elsewhere || nameless) || !readable {
        return Ok(());
    }
    match gitlab.get("look at its own user", &Route::of(&["user"])).await {
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
        // Who sees a group without being in it is there for a project of it, and has no role in the group.
        Some(Scope::Group(id)) => {
            let id = id.to_string();
            member(gitlab, &["groups", &id], found.user, Access::OWNER, Some(Access(0))).await?
        }
        _ => found.project.as_ref().and_then(|project| project.access),
    };
    Ok(())
}

/// Somebody's role with all that he inherits and is invited to, `absent` where there is no such member; none
/// where GitLab does not tell, or where a custom role may allow more than its number says.
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
    match gitlab.get_opt("look at its own membership", &Route::of(&route)).await {
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
    /// The project.
    ///
    /// # Errors
    /// OR0201 when none was named.
    pub fn project(&self) -> Result<&Project> {
        self.project.as_ref().ok_or_else(|| {
            Failure::new(Id::MissingInput, "this needs the GitLab project")
                .hint("name it with --project PATH|ID")
        })
    }

    /// Why the caller may certainly neither commit nor run a pipeline, if that is so.
    fn lacks_pipeline_role(&self) -> Option<Failure> {
        let access = self.project.as_ref()?.access?;
        if self.admin == Some(true) || access >= Access::DEVELOPER {
            return None;
        }
        Some(
            Failure::new(
                Id::GitlabForbidden,
                format!(
                    "committing and running a pipeline takes the role {} in the project",
                    Access::DEVELOPER.word()
                ),
            )
            .detail("you are", access.word())
            .hint((
                "ask a Maintainer of the project for it, or hand over the file",
                Command::outrigger("commit-pipeline --print"),
            )),
        )
    }

    /// Why the caller may certainly not make the runner, if that is so.
    #[must_use]
    pub fn lacks_role(&self) -> Option<Failure> {
        if self.admin == Some(true) {
            return None;
        }
        let (needed, place) = match (&self.scope, self.access) {
            (Some(Scope::Instance), _) if self.admin == Some(false) => {
                let failure = Failure::new(
                    Id::GitlabForbidden,
                    "an instance runner can be made by administrators only",
                );
                return Some(failure.hint("make a project runner instead: --project PATH|ID"));
            }
            (Some(Scope::Project(_)), Some(access)) if access < Access::MAINTAINER => {
                (Access::MAINTAINER, "the project")
            }
            (Some(Scope::Group(_)), Some(access)) if access < Access::OWNER => (Access::OWNER, "the group"),
            _ => return None,
        };
        let has = self.access.unwrap_or(Access(0)).word();
        Some(
            Failure::new(
                Id::GitlabForbidden,
                format!("making a runner takes the role {} in {place}", needed.word()),
            )
            .detail("you are", has)
            .hint("ask somebody with that role for it, or for the runner's token: --runner-token-file PATH"),
        )
    }
}

/// Refuses a GitLab that is not the recorded one, before anything is written.
///
/// # Errors
/// OR0315 (exit 3) naming both.
pub fn check_recorded(view: &View) -> Result<()> {
    let known = view.notes.record().gitlab.clone();
    let (Some(url), false) = (&view.run.settings.gitlab_url, known.is_empty() || known.url.is_empty()) else {
        return Ok(());
    };
    if url.value == known.url || view.run.options.gitlab_gone {
        return Ok(());
    }
    let deployment = &view.run.names.deployment;
    Err(Failure::new(Id::AnotherGitlab, format!("the runner of {deployment} is on another GitLab"))
        .detail("recorded", known.url)
        .detail("now", format!("{} ({})", url.value, url.source))
        .hint("leave out --gitlab-url, or name another deployment with --deployment NAME")
        .hint(("if the recorded GitLab no longer exists", Command::outrigger("teardown --gitlab-gone"))))
}

/// What somebody wants GitLab for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Making a runner.
    Runner,
    /// Committing and running a pipeline.
    Pipeline,
}

/// What certainly stands in the way of a purpose, all of it.
#[must_use]
pub fn obstacles(instance: &Instance, purpose: Purpose) -> Vec<Failure> {
    let mut found = Vec::new();
    if let Some(token) = &instance.token {
        if !token.active {
            found.push(
                Failure::new(Id::GitlabTokenRefused, "the GitLab token is expired or revoked")
                    .hint("make a new one in GitLab (user menu, Access tokens)"),
            );
        }
        let (scopes, what, hint): (&[&str], _, _) = match purpose {
            Purpose::Runner => (
                &["api", "create_runner"],
                "create runners",
                "use one with the scope api, or with create_runner and manage_runner",
            ),
            Purpose::Pipeline => (
                &["api"],
                "commit or run a pipeline",
                "use one with the scope api, or leave out --commit-pipeline and --run-pipeline",
            ),
        };
        if !token.has_any(scopes) {
            found.push(
                Failure::new(Id::GitlabTokenScope, format!("the GitLab token's scopes do not let it {what}"))
                    .detail(
                        "it has",
                        if token.scopes.is_empty() { "none".to_owned() } else { token.scopes.join(", ") },
                    )
                    .hint(hint),
            );
        }
    }
    match purpose {
        Purpose::Runner => found.extend(instance.lacks_role()),
        Purpose::Pipeline => found.extend(instance.lacks_pipeline_role()),
    }
    if let Some(project) = instance.project.as_ref().filter(|project| project.archived) {
        found.push(
            Failure::new(Id::GitlabNotFound, format!("the project {} is archived", project.shown()))
                .hint("unarchive it in GitLab (Settings, General), or name another with --project"),
        );
    }
    if let Some(words) = &instance.maintenance {
        let failure = Failure::new(Id::GitlabReadOnly, "GitLab cannot be written to")
            .detail("GitLab says", words.clone());
        found.push(gitlab::when_it_takes_something(failure, words));
    }
    found
}
