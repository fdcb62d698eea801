//! What GitLab says of itself, of the operator's token and of the project: asked at most once per run,
//! side by side, before anything is changed anywhere.

use serde_json::json;

use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::gitlab::{Access, AccessToken, Class, Gitlab, Project, Refusal, Route, Scope, number};

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
pub async fn instance(cx: &Context) -> Result<&Instance> {
    cx.facts.instance.get_or_try_init(|| ask(cx)).await
}

async fn ask(cx: &Context) -> Result<Instance> {
    let gitlab = cx.gitlab()?;
    let settings = &cx.settings;
    let given = settings.project.as_ref().map(|project| project.value.as_str());
    let group = settings.group.as_ref().map(|group| group.value.as_str());
    let (token, version, project, group, maintenance) = tokio::join!(
        own_token(gitlab),
        version(gitlab),
        project(gitlab, given),
        group_id(gitlab, group),
        maintenance(gitlab, given),
    );
    let token = token?;
    let mut skipped = Vec::new();
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
        admin: None,
        maintenance: maintenance?,
        skipped,
        scope,
        token,
    };
    role(gitlab, &mut found).await?;
    if found.project.as_ref().is_some_and(|project| project.path.is_none()) {
        found.skipped.push("the project: the token may not read it (scope read_api or api)".to_owned());
    }
    Ok(found)
}

/// Any token may ask this of itself; where it cannot be asked, nothing is wrong yet.
async fn own_token(gitlab: &Gitlab) -> Result<Option<AccessToken>> {
    let route = Route::of(&["personal_access_tokens", "self"]);
    match gitlab.get("look at its own token", &route).await {
        Ok(value) => Ok(Some(AccessToken::read(&value))),
        // OAuth tokens have no such page, and are told from dead ones by the words alone.
        Err(refusal) if refusal.class == Class::NotFound => Ok(None),
        Err(refusal) if refusal.class == Class::Unauthorized && refusal.message == "401 Unauthorized" => {
            // Perhaps no access token at all: another call tells.
            match gitlab.get("look at its own user", &Route::of(&["user"])).await {
                Ok(_) => Ok(None),
                Err(_) => Err(refusal.into()),
            }
        }
        Err(refusal) if refusal.class == Class::Scope => Ok(None),
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
            Failure::new("OR0310", Kind::Refused, format!("GitLab's answer about {given} holds no project"))
        }),
        Err(refusal) if refusal.class == Class::Scope => match given.parse() {
            Ok(id) => Ok(Some(Project { id, ..Project::default() })),
            Err(_) => Err(Failure::from(refusal)
                .hint("or give the project by its numeric id, which needs no read_api: --project ID")),
        },
        Err(refusal) => Err(refusal.into()),
    }
}

async fn group_id(gitlab: &Gitlab, given: Option<&str>) -> Result<Option<u64>> {
    let Some(given) = given else { return Ok(None) };
    if let Ok(id) = given.parse() {
        return Ok(Some(id));
    }
    let value = gitlab.get(&format!("read the group {given}"), &Route::of(&["groups", given])).await?;
    number(&value["id"]).map(Some).ok_or_else(|| {
        Failure::new("OR0310", Kind::Refused, format!("GitLab's answer about {given} holds no group"))
    })
}

/// Whether GitLab is in maintenance mode. That stands in no answer to a reading; a lint, which stores
/// nothing, is a POST and meets it. Any other answer means that it is not.
async fn maintenance(gitlab: &Gitlab, project: Option<&str>) -> Result<Option<String>> {
    let Some(project) = project else { return Ok(None) };
    let route = Route::of(&["projects", project, "ci", "lint"]);
    match gitlab.check("lint nothing", &route, &json!({"content": ""})).await {
        Err(refusal) if refusal.class == Class::Maintenance => Ok(Some(refusal.message)),
        Err(refusal) if matches!(refusal.class, Class::Interrupted | Class::Redirect) => Err(refusal.into()),
        _ => Ok(None),
    }
}

/// The role that counts, where the project's own answer has not told it.
async fn role(gitlab: &Gitlab, found: &mut Instance) -> Result<()> {
    let enough = match found.scope {
        Some(Scope::Project(_)) | None => found.access.is_none_or(|access| access >= Access::MAINTAINER),
        Some(Scope::Group(_) | Scope::Instance) => false,
    };
    let readable = found.token.as_ref().is_none_or(|token| token.has_any(&["api", "read_api", "read_user"]));
    if enough || !readable {
        return Ok(());
    }
    let user = match gitlab.get("look at its own user", &Route::of(&["user"])).await {
        Ok(user) => user,
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden | Class::NotFound) => {
            return Ok(());
        }
        Err(refusal) => return Err(refusal.into()),
    };
    found.admin = Some(user["is_admin"].as_bool().unwrap_or(false));
    if let Some(Scope::Group(id)) = found.scope
        && let Some(user) = number(&user["id"])
    {
        let (group, user) = (id.to_string(), user.to_string());
        let route = Route::of(&["groups", &group, "members", "all", &user]);
        match gitlab.get_opt("look at its own membership", &route).await {
            Ok(member) => {
                let level = member.and_then(|member| number(&member["access_level"]));
                found.access = Some(Access(level.unwrap_or(0)));
            }
            Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(())
}

impl Instance {
    /// The project.
    ///
    /// # Errors
    /// OR0201 when none was named.
    pub fn project(&self) -> Result<&Project> {
        self.project.as_ref().ok_or_else(|| {
            Failure::new("OR0201", Kind::Usage, "this needs the GitLab project")
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
                "OR0413",
                Kind::Denied,
                format!("committing and running a pipeline takes the role {} in the project", Access::DEVELOPER.word()),
            )
            .detail("you are", access.word())
            .hint("ask a Maintainer of the project for it, or hand over the file: outrigger commit-pipeline --print"),
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
                    "OR0413",
                    Kind::Denied,
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
                "OR0413",
                Kind::Denied,
                format!("making a runner takes the role {} in {place}", needed.word()),
            )
            .detail("you are", has)
            .hint("ask somebody with that role for it, or for the runner's token: --runner-token-file PATH"),
        )
    }
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
                Failure::new("OR0411", Kind::Denied, "the GitLab token is expired or revoked")
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
                Failure::new(
                    "OR0412",
                    Kind::Denied,
                    format!("the GitLab token's scopes do not let it {what}"),
                )
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
            Failure::new("OR0312", Kind::Refused, format!("the project {} is archived", project.shown()))
                .hint("unarchive it in GitLab (Settings, General), or name another with --project"),
        );
    }
    if let Some(words) = &instance.maintenance {
        found.push(
            Failure::new("OR0311", Kind::Refused, "GitLab is in maintenance mode: nothing can be written")
                .detail("GitLab says", words.clone())
                .hint("run the same command again later")
                .passing(),
        );
    }
    found
}
