//! GitLab's answers, read as tolerantly as they vary: fields that are missing, null, of another type or
//! new are no error here, and unknown words stay words.

use serde_json::Value;

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

fn time(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str()?.parse().ok()
}

/// An id, which some fields carry as text.
#[must_use]
pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A role in a project or group, by GitLab's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access(pub u64);

impl Access {
    /// Commits to unprotected branches, runs pipelines.
    pub const DEVELOPER: Access = Access(30);
    /// Makes project runners, commits to protected branches.
    pub const MAINTAINER: Access = Access(40);
    /// Makes group runners.
    pub const OWNER: Access = Access(50);

    /// GitLab's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self.0 {
            0..=4 => "no member",
            5..=9 => "Minimal access",
            10..=14 => "Guest",
            15..=19 => "Planner",
            20..=29 => "Reporter",
            30..=39 => "Developer",
            40..=49 => "Maintainer",
            _ => "Owner",
        }
    }
}

/// What GitLab says of the access token itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessToken {
    /// Its name.
    pub name: String,
    /// Legacy scopes, such as `api`.
    pub scopes: Vec<String>,
    /// Whether its permissions are fine-grained, which scopes do not tell.
    pub granular: bool,
    /// The day on which it expires, as GitLab writes it.
    pub expires: Option<String>,
    /// Whether it works.
    pub active: bool,
    /// Its user.
    pub user: Option<u64>,
}

impl AccessToken {
    /// Reads `GET /personal_access_tokens/self`.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        let scopes = texts(&value["scopes"]);
        let listed = |field: &str| value[field].as_array().is_some_and(|list| !list.is_empty());
        Self {
            name: text(&value["name"]).unwrap_or_default(),
            granular: listed("granular_scopes") || scopes.iter().any(|scope| scope == "granular"),
            scopes,
            expires: text(&value["expires_at"]),
            active: value["active"].as_bool().unwrap_or(true) && !value["revoked"].as_bool().unwrap_or(false),
            user: number(&value["user_id"]),
        }
    }

    /// Whether one of these scopes is there, as far as scopes tell.
    #[must_use]
    pub fn has_any(&self, scopes: &[&str]) -> bool {
        self.granular || self.scopes.iter().any(|scope| scopes.contains(&scope.as_str()))
    }
}

/// A project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Numeric id, good for every call.
    pub id: u64,
    /// Full path; none where the token may not read the project.
    pub path: Option<String>,
    /// None in an empty repository.
    pub default_branch: Option<String>,
    /// Nothing can be changed in an archived project.
    pub archived: bool,
    /// Where CI reads its file from, if not from `.gitlab-ci.yml`.
    pub ci_config_path: Option<String>,
    /// The caller's role, as far as GitLab says.
    pub access: Option<Access>,
}

impl Project {
    /// Reads `GET /projects/:id`.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        let permissions = &value["permissions"];
        let level = |place: &str| number(&permissions[place]["access_level"]);
        // Both are null for somebody without a row of his own: an administrator, and who is invited by a group.
        let access = permissions
            .is_object()
            .then(|| Access(level("project_access").unwrap_or(0).max(level("group_access").unwrap_or(0))));
        Some(Self {
            id: number(&value["id"])?,
            path: text(&value["path_with_namespace"]),
            default_branch: text(&value["default_branch"]),
            archived: value["archived"].as_bool().unwrap_or(false),
            ci_config_path: text(&value["ci_config_path"]),
            access,
        })
    }

    /// How people call it.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => format!("{path} (#{})", self.id),
            None => format!("#{}", self.id),
        }
    }
}

/// Whom a runner serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One project, by id.
    Project(u64),
    /// A group and what is below it, by id.
    Group(u64),
    /// Everybody.
    Instance,
}

impl Scope {
    /// GitLab's word for it.
    #[must_use]
    pub fn runner_type(&self) -> &'static str {
        match self {
            Scope::Project(_) => "project_type",
            Scope::Group(_) => "group_type",
            Scope::Instance => "instance_type",
        }
    }

    /// The noun for people.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Scope::Project(_) => "project runner",
            Scope::Group(_) => "group runner",
            Scope::Instance => "instance runner",
        }
    }
}

/// A runner as GitLab keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runner {
    /// Its id.
    pub id: u64,
    /// What people see; the deployment's mark stands at its end.
    pub description: String,
    /// `project_type`, `group_type` or `instance_type`.
    pub runner_type: String,
    /// Takes no jobs.
    pub paused: bool,
    /// Serves no further projects.
    pub locked: Option<bool>,
    /// Takes jobs without tags.
    pub run_untagged: Option<bool>,
    /// The tags; none where a list's entry does not say.
    pub tags: Option<Vec<String>>,
    /// `online`, `offline`, `stale`, `never_contacted`, or a word of a newer GitLab.
    pub status: String,
    /// The last contact of any of its managers. GitLab caches it.
    pub contacted: Option<jiff::Timestamp>,
    /// Ids of the projects it serves; none where GitLab does not say.
    pub projects: Option<Vec<u64>>,
    /// Ids of the groups it serves.
    pub groups: Option<Vec<u64>>,
    /// Who made it, where GitLab says.
    pub creator: Option<(u64, String)>,
}

impl Runner {
    /// Reads an entry of a list, or `GET /runners/:id`.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        let ids = |field: &str| {
            value[field].as_array().map(|list| list.iter().filter_map(|one| number(&one["id"])).collect())
        };
        let creator = &value["created_by"];
        Some(Self {
            id: number(&value["id"])?,
            description: text(&value["description"]).unwrap_or_default(),
            runner_type: text(&value["runner_type"]).unwrap_or_default(),
            // The older field says the opposite.
            paused: value["paused"].as_bool().unwrap_or(value["active"] == false),
            locked: value["locked"].as_bool(),
            run_untagged: value["run_untagged"].as_bool(),
            tags: value["tag_list"].is_array().then(|| texts(&value["tag_list"])),
            status: text(&value["status"]).unwrap_or_default(),
            contacted: time(&value["contacted_at"]),
            projects: ids("projects"),
            groups: ids("groups"),
            creator: number(&creator["id"])
                .map(|id| (id, text(&creator["username"]).unwrap_or_else(|| format!("user {id}")))),
        })
    }

    /// Whether a machine ever used its token.
    #[must_use]
    pub fn never_contacted(&self) -> bool {
        self.contacted.is_none() && (self.status == "never_contacted" || self.status == "stale")
    }
}

/// One machine that uses a runner's token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// The machine's own id, `s_` or `r_` and hex.
    pub system_id: String,
    /// Version of gitlab-runner.
    pub version: Option<String>,
    /// Its address as GitLab saw it.
    pub address: Option<String>,
    /// Its last contact.
    pub contacted: Option<jiff::Timestamp>,
    /// Whether a job runs on it.
    pub busy: bool,
}

impl Manager {
    /// Reads an entry of `GET /runners/:id/managers`.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        Self {
            system_id: text(&value["system_id"]).unwrap_or_default(),
            version: text(&value["version"]),
            address: text(&value["ip_address"]),
            contacted: time(&value["contacted_at"]),
            busy: matches!(value["job_execution_status"].as_str(), Some("active" | "running")),
        }
    }
}

/// A pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// Its id.
    pub id: u64,
    /// `pending`, `running`, `success` and so on, or a word of a newer GitLab.
    pub status: String,
    /// Where people see it.
    pub url: Option<String>,
    /// Why it could not be made, one text.
    pub errors: Option<String>,
}

impl Pipeline {
    /// Reads a pipeline, or an entry of a list.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: number(&value["id"])?,
            status: text(&value["status"]).unwrap_or_default(),
            url: text(&value["web_url"]),
            errors: text(&value["yaml_errors"]),
        })
    }

    /// Whether nothing will happen to it by itself any more. Words that are not known are not the end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped" | "manual")
    }
}

/// A job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: u64,
    /// Its name in the pipeline file.
    pub name: String,
    /// `pending`, `running`, `success` and so on.
    pub status: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Why it failed, in GitLab's word.
    pub failure_reason: Option<String>,
    /// Whether the pipeline may succeed although it fails, or is never started.
    pub allow_failure: bool,
    /// Which runner took it: id and description.
    pub runner: Option<(u64, String)>,
}

impl Job {
    /// Reads an entry of `GET /projects/:id/pipelines/:pid/jobs`.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        let runner = &value["runner"];
        Some(Self {
            id: number(&value["id"])?,
            name: text(&value["name"]).unwrap_or_default(),
            status: text(&value["status"]).unwrap_or_default(),
            tags: texts(&value["tag_list"]),
            failure_reason: text(&value["failure_reason"]),
            allow_failure: value["allow_failure"].as_bool().unwrap_or(false),
            runner: number(&runner["id"]).map(|id| (id, text(&runner["description"]).unwrap_or_default())),
        })
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped" | "manual")
    }

    /// Whether this runner took it.
    #[must_use]
    pub fn ran_on(&self, runner: u64) -> bool {
        self.runner.as_ref().is_some_and(|(id, _)| *id == runner)
    }
}
