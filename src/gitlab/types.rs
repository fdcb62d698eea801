//! GitLab's objects. Missing, null, mistyped and unknown fields are not errors.

use serde_json::Value;

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Tags for messages.
pub(super) fn shown(tags: &[String]) -> String {
    if tags.is_empty() { "none".to_owned() } else { tags.join(",") }
}

pub(super) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

fn time(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str()?.parse().ok()
}

fn is_over(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped" | "manual")
}

/// An id, as a number or as text.
pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// GitLab's access level of a role in a project or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access(pub u64);

impl Access {
    /// Commits to unprotected branches, runs pipelines.
    pub const DEVELOPER: Access = Access(30);
    /// Creates project runners, commits to protected branches.
    pub const MAINTAINER: Access = Access(40);
    /// Creates group runners.
    pub const OWNER: Access = Access(50);

    /// GitLab's name of the role.
    pub fn word(self) -> &'static str {
        match self.0 {
            0..=4 => "not a member",
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessToken {
    pub name: String,
    /// Legacy scopes, such as `api`.
    pub scopes: Vec<String>,
    /// Whether it is a fine-grained token.
    pub granular: bool,
    /// The expiry date, `YYYY-MM-DD`.
    pub expires: Option<String>,
    /// Neither expired nor revoked.
    pub active: bool,
    /// Id of its user.
    pub user: Option<u64>,
}

impl AccessToken {
    /// Reads `GET /personal_access_tokens/self`.
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

    /// Whether it has one of these scopes, or is fine-grained.
    pub fn has_any(&self, scopes: &[&str]) -> bool {
        self.granular || self.scopes.iter().any(|scope| scopes.contains(&scope.as_str()))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    pub id: u64,
    /// Full path; `None` if the token may not read the project.
    pub path: Option<String>,
    /// `None` in an empty repository.
    pub default_branch: Option<String>,
    /// An archived project is read-only.
    pub archived: bool,
    /// The CI configuration path, if not `.gitlab-ci.yml`.
    pub ci_config_path: Option<String>,
    /// The caller's role, if shown.
    pub access: Option<Access>,
    /// Whether it uses the instance's runners, and those of its groups, if shown.
    pub instance_runners: Option<bool>,
    pub group_runners: Option<bool>,
}

impl Project {
    /// Reads `GET /projects/:id`.
    pub fn read(value: &Value) -> Option<Self> {
        let permissions = &value["permissions"];
        let level = |place: &str| number(&permissions[place]["access_level"]);
        // Both are null without a direct membership, as for administrators and members of invited groups.
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
            instance_runners: value["shared_runners_enabled"].as_bool(),
            group_runners: value["group_runners_enabled"].as_bool(),
        })
    }

    /// Path and id, for messages.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => format!("{path} (#{})", self.id),
            None => format!("#{}", self.id),
        }
    }
}

/// The scope of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Id of a project.
    Project(u64),
    /// Id of a group, which includes its subgroups.
    Group(u64),
    Instance,
}

impl Scope {
    /// GitLab's `runner_type`.
    pub fn runner_type(&self) -> &'static str {
        match self {
            Scope::Project(_) => "project_type",
            Scope::Group(_) => "group_type",
            Scope::Instance => "instance_type",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runner {
    pub id: u64,
    /// Ends with the deployment's mark.
    pub description: String,
    /// `project_type`, `group_type` or `instance_type`.
    pub runner_type: String,
    pub paused: bool,
    /// Whether it cannot be assigned to further projects.
    pub locked: Option<bool>,
    /// Whether it takes jobs without tags.
    pub run_untagged: Option<bool>,
    /// Whether it takes jobs of protected branches and tags only.
    pub protected_only: bool,
    /// `None` in an entry of a list.
    pub tags: Option<Vec<String>>,
    /// `online`, `offline`, `stale`, `never_contacted`, or unknown.
    pub status: String,
    /// The last contact of any of its managers (cached by GitLab).
    pub contacted: Option<jiff::Timestamp>,
    /// Ids of its projects, if shown.
    pub projects: Option<Vec<u64>>,
    /// Ids of its groups, if shown.
    pub groups: Option<Vec<u64>>,
    /// Its projects and groups in words, if shown.
    pub places: Vec<String>,
    /// Id and name of its creator, if shown.
    pub creator: Option<(u64, String)>,
}

impl Runner {
    /// Reads an entry of a list, or `GET /runners/:id`.
    pub fn read(value: &Value) -> Option<Self> {
        let ids = |field: &str| {
            value[field].as_array().map(|list| list.iter().filter_map(|one| number(&one["id"])).collect())
        };
        // A group has only its name there.
        let place = |one: &Value| {
            let id = number(&one["id"])?;
            let name = text(&one["path_with_namespace"]).or_else(|| text(&one["name"]));
            Some(name.map_or_else(|| format!("#{id}"), |name| format!("{name} (#{id})")))
        };
        let places = ["projects", "groups"].into_iter().filter_map(|field| value[field].as_array());
        let creator = &value["created_by"];
        Some(Self {
            places: places.flatten().filter_map(place).collect(),
            id: number(&value["id"])?,
            description: text(&value["description"]).unwrap_or_default(),
            runner_type: text(&value["runner_type"]).unwrap_or_default(),
            // Older versions have `active`.
            paused: value["paused"].as_bool().unwrap_or(value["active"] == false),
            locked: value["locked"].as_bool(),
            run_untagged: value["run_untagged"].as_bool(),
            protected_only: value["access_level"] == "ref_protected",
            tags: value["tag_list"].is_array().then(|| texts(&value["tag_list"])),
            status: text(&value["status"]).unwrap_or_default(),
            contacted: time(&value["contacted_at"]),
            projects: ids("projects"),
            groups: ids("groups"),
            creator: number(&creator["id"])
                .map(|id| (id, text(&creator["username"]).unwrap_or_else(|| format!("user {id}")))),
        })
    }

    /// Whether GitLab knows of no machine that used its token.
    pub fn never_contacted(&self) -> bool {
        self.contacted.is_none() && (self.status == "never_contacted" || self.status == "stale")
    }
}

/// A machine that uses a runner's token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// `s_` or `r_` and hex digits.
    pub system_id: String,
    /// Version of gitlab-runner.
    pub version: Option<String>,
    /// Its IP address as GitLab sees it.
    pub address: Option<String>,
    /// Last contact.
    pub contacted: Option<jiff::Timestamp>,
    /// Whether a job runs on it.
    pub busy: bool,
}

impl Manager {
    /// Reads an entry of `GET /runners/:id/managers`.
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    pub id: u64,
    /// `pending`, `running`, `success` and so on, or unknown.
    pub status: String,
    /// URL of its page in GitLab.
    pub url: Option<String>,
    /// Errors of the pipeline file.
    pub errors: Option<String>,
}

impl Pipeline {
    /// Reads a pipeline, or an entry of a list.
    pub fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: number(&value["id"])?,
            status: text(&value["status"]).unwrap_or_default(),
            url: text(&value["web_url"]),
            errors: text(&value["yaml_errors"]),
        })
    }

    /// Whether it has ended or waits for a manual job. Unknown statuses count as running.
    pub fn is_over(&self) -> bool {
        is_over(&self.status)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    pub id: u64,
    pub name: String,
    /// `pending`, `running`, `success` and so on.
    pub status: String,
    pub tags: Vec<String>,
    pub failure_reason: Option<String>,
    /// Whether the pipeline can succeed without it.
    pub allow_failure: bool,
    /// Id and description of its runner.
    pub runner: Option<(u64, String)>,
}

impl Job {
    /// Reads an entry of `GET /projects/:id/pipelines/:pid/jobs`.
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

    /// See [`Pipeline::is_over`].
    pub fn is_over(&self) -> bool {
        is_over(&self.status)
    }

    pub fn ran_on(&self, runner: u64) -> bool {
        self.runner.as_ref().is_some_and(|(id, _)| *id == runner)
    }
}
