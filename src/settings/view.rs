//! Output of settings: the values to record, and the missing values.

use std::collections::BTreeMap;

use super::paste::anywhere;
use super::table::setting;
use super::{CacheType, Risk, Row, SETTINGS, Settings};
use crate::base::error::Field;

/// The settings of GitLab that a command needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    #[default]
    Nothing,
    /// The API if a token is at hand; without one, GitLab is not checked.
    Optional,
    /// A runner: its token, or the means to create one.
    Runner,
    /// The API, for a project.
    Project,
}

/// The variable that holds the operator's GitLab token itself.
const TOKEN_VARIABLE: &str = "GITLAB_TOKEN";

/// The files for which `-` is stdin.
const READ_FROM_STDIN: [&str; 6] = [
    "gitlabTokenFile",
    "runnerTokenFile",
    "legacyRegistrationTokenFile",
    "runnerConfig",
    "cacheCredentialsFile",
    "runnerProxyCredentialsFile",
];

/// A required value that is missing.
#[derive(Clone, Debug)]
pub struct Missing {
    /// `--gitlab-url URL`.
    pub flag: String,
    /// The environment variable, or `–`.
    pub env: String,
    /// The key in the settings file with its colon, or `–`.
    pub file_key: String,
    /// A hint on the value, or empty.
    pub note: String,
    row: Option<&'static Row>,
}

impl Missing {
    pub fn new(key: &str, note: impl Into<String>) -> Self {
        let row = setting(key);
        let dash = || "–".to_owned();
        Self {
            flag: row.map_or_else(|| format!("--{key}"), Row::usage),
            env: row.and_then(Row::env_name).map_or_else(dash, str::to_owned),
            file_key: row.map_or_else(dash, |row| format!("{}:", row.key)),
            note: note.into(),
            row,
        }
    }

    /// The key of the setting.
    pub(super) fn key(&self) -> Option<&'static str> {
        self.row.map(|row| row.key)
    }

    pub(super) fn field(&self) -> Field {
        let (flag, key) = (self.row.map(|row| row.dashed), self.row.map(|row| row.key));
        // A token is given in a variable, and never in the settings file.
        let is_token = self.env == TOKEN_VARIABLE;
        Field {
            label: self.flag.clone(),
            missing: true,
            flag,
            variable: if is_token { Some(TOKEN_VARIABLE) } else { self.row.and_then(Row::env_name) },
            key: key.filter(|_| !is_token),
            text: self.note.clone(),
        }
    }
}

/// The lines of the missing values, in columns. Among invalid ones (`mixed`) each says that it is missing.
pub(super) fn listed(missing: &[Missing], mixed: bool) -> Vec<(String, String)> {
    let width =
        |of: fn(&Missing) -> &String| missing.iter().map(|m| of(m).chars().count()).max().unwrap_or(0);
    let (env, key) = (width(|m| &m.env), width(|m| &m.file_key));
    let line = |m: &Missing| {
        let said = if mixed { "missing, " } else { "" };
        let text = format!("{:env$}   {:key$}   {said}{}", m.env, m.file_key, m.note);
        (m.flag.clone(), text.trim_end().to_owned())
    };
    missing.iter().map(line).collect()
}

impl Settings {
    pub fn accepts(&self, risk: Risk) -> bool {
        self.accept.contains(&risk)
    }

    /// The settings that are read from stdin, which a command that is run later does not get: at most one.
    pub fn read_from_stdin(&self) -> impl Iterator<Item = &'static Row> {
        let is_stdin = |row: &&Row| self.view(row.key).is_some_and(|(values, _)| values == ["-"]);
        SETTINGS.iter().filter(|row| READ_FROM_STDIN.contains(&row.key)).filter(is_stdin)
    }

    pub fn default_script(&self) -> std::path::PathBuf {
        self.state_dir.join(&self.deployment.value).join("launch.sh")
    }

    /// The values that the record keeps for the next run. They include defaults, so that a newer version's defaults
    /// do not apply to them (except those of [`Row::default`]), but no secrets, consents and options of one run.
    pub fn recorded(&self) -> BTreeMap<String, Vec<String>> {
        let rows = SETTINGS.iter().filter(|row| row.recorded);
        rows.filter_map(|row| Some((row, self.view(row.key)?.0)))
            .filter(|(_, values)| values.iter().all(|value| value != "-"))
            .filter(|(row, values)| {
                row.default.is_none_or(|default| values.len() != 1 || values[0] != default)
            })
            .map(|(row, values)| (row.key.to_owned(), anywhere(row, values)))
            .collect()
    }

    /// The missing values of the jobs' cache.
    pub fn missing_of_cache(&self) -> Vec<Missing> {
        let kind = self.cache_type.as_ref().map_or(CacheType::None, |kind| kind.value);
        let mut missing = Vec::new();
        if kind != CacheType::None && self.cache_bucket.is_none() {
            missing.push(Missing::new("cacheBucket", "the bucket, or Azure's container"));
        }
        if kind == CacheType::Azure && self.cache_account.is_none() {
            missing.push(Missing::new("cacheAccount", "the storage account"));
        }
        missing
    }

    /// The missing values, without the context, which is checked with the kubeconfig. `has_gitlab_token` is true
    /// if the environment contains a token or the user has entered one.
    pub fn missing(&self, need: Need, has_gitlab_token: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        if matches!(need, Need::Nothing | Need::Optional) {
            return missing;
        }
        if self.gitlab_url.is_none() {
            missing.push(Missing::new("gitlabUrl", "such as https://gitlab.com"));
        }
        let comes_by_file = self.runner_token_file.is_some() || self.legacy_registration_token_file.is_some();
        if need == Need::Runner && comes_by_file {
            return missing;
        }
        if self.gitlab_token_file.is_none() && !has_gitlab_token {
            let note = match need {
                Need::Runner => "or --runner-token-file PATH for an existing runner",
                _ => "an access token with scope api",
            };
            let token = Missing::new("gitlabTokenFile", note);
            missing.push(Missing { env: TOKEN_VARIABLE.to_owned(), file_key: "–".to_owned(), ..token });
        }
        let has_scope = self.group.is_some() || self.instance_runner;
        if self.project.is_none() && !(need == Need::Runner && has_scope) {
            missing.push(Missing::new("project", "such as platform/hello, or its numeric id"));
        }
        missing
    }
}
