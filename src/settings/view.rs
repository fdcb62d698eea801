//! Settings read back: what to record, what is missing, and the command that says the same.

use std::collections::BTreeMap;

use super::table::setting;
use super::{Group, Kind, Risk, Row, SETTINGS, Settings, Source};
use crate::base::error::{Failure, Id};
use crate::base::template::shell_word;

/// How much of GitLab's side a command needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing.
    #[default]
    Nothing,
    /// A runner: its own token, or what makes one.
    Runner,
    /// The API, for a project.
    Project,
}

/// A value that is needed and that nobody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `--gitlab-url URL`.
    pub flag: String,
    /// The environment variable, or `–`.
    pub env: String,
    /// The key in the settings file with its colon, or `–`.
    pub file_key: String,
    /// What helps to choose a value; may be empty.
    pub note: String,
}

impl Missing {
    /// The setting with this key is missing.
    #[must_use]
    pub fn new(key: &str, note: impl Into<String>) -> Self {
        let row = setting(key);
        let dash = || "–".to_owned();
        Self {
            flag: row.map_or_else(|| format!("--{key}"), Row::usage),
            env: row.and_then(Row::env_name).map_or_else(dash, str::to_owned),
            file_key: row.map_or_else(dash, |row| format!("{}:", row.key)),
            note: note.into(),
        }
    }
}

/// One failure that lists all that is missing (exit 2).
#[must_use]
pub fn missing_failure(missing: Vec<Missing>) -> Failure {
    let width =
        |of: fn(&Missing) -> &String| missing.iter().map(|m| of(m).chars().count()).max().unwrap_or(0);
    let (env, key) = (width(|m| &m.env), width(|m| &m.file_key));
    let message = match missing.len() {
        1 => "1 value is missing".to_owned(),
        n => format!("{n} values are missing"),
    };
    let failure = Failure::new(Id::MissingInput, message);
    missing.into_iter().fold(failure, |failure, m| {
        let text = format!("{:env$}   {:key$}   {}", m.env, m.file_key, m.note);
        failure.detail(m.flag, text.trim_end())
    })
}

impl Settings {
    /// Whether a risk was accepted.
    #[must_use]
    pub fn accepts(&self, risk: Risk) -> bool {
        self.accept.contains(&risk)
    }

    /// Where the launch script goes when nobody says.
    #[must_use]
    pub fn default_script(&self) -> std::path::PathBuf {
        self.state_dir.join(&self.deployment.value).join("launch.sh")
    }

    /// What the record keeps for the next run, defaults included, so that a newer outrigger's
    /// defaults make no difference (but for where gitlab-runner comes from: see [`Row::default`]).
    /// No secret, no consent, nothing meant for one run.
    #[must_use]
    pub fn recorded(&self) -> BTreeMap<String, Vec<String>> {
        let rows = SETTINGS.iter().filter(|row| row.recorded);
        rows.filter_map(|row| Some((row, self.view(row.key)?.0)))
            .filter(|(_, values)| values.iter().all(|value| value != "-"))
            .filter(|(row, values)| {
                row.default.is_none_or(|default| values.len() != 1 || values[0] != default)
            })
            .map(|(row, values)| (row.key.to_owned(), values))
            .collect()
    }

    /// What the selected steps need and nobody gave. The context is the engine's to judge: it has
    /// read the kubeconfig. `has_gitlab_token`: the environment holds one, or somebody typed it.
    #[must_use]
    pub fn missing(&self, need: Need, has_gitlab_token: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        if need == Need::Nothing {
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
                Need::Runner => "or --runner-token-file PATH for a runner that exists",
                _ => "an access token with the scope api",
            };
            let token = Missing::new("gitlabTokenFile", note);
            missing.push(Missing { env: "GITLAB_TOKEN".to_owned(), file_key: "–".to_owned(), ..token });
        }
        let has_scope = self.group.is_some() || self.instance_runner;
        if self.project.is_none() && !(need == Need::Runner && has_scope) {
            missing.push(Missing::new("project", "such as platform/hello, or its numeric id"));
        }
        missing
    }

    /// The command that does the same without questions: what was given or answered, nothing else.
    #[must_use]
    pub fn equivalent_command(&self) -> String {
        self.command("outrigger setup --non-interactive", |_| true)
    }

    /// Another command on the same deployment, for pasting: with what was given of the settings that
    /// every command accepts, and of those named. How long this run may take is its own affair.
    #[must_use]
    pub fn same_deployment(&self, start: &str, keys: &[&str]) -> String {
        let shared = |row: &Row| row.group == Group::Connection && !row.key.ends_with("imeout");
        self.command(start, |row| shared(row) || keys.contains(&row.key))
    }

    fn command(&self, start: &str, accepted: impl Fn(&Row) -> bool) -> String {
        let mut words = vec![start.to_owned()];
        if let Some(Source::File(path)) = self.sources.values().find(|s| matches!(s, Source::File(_))) {
            words.push(format!("--config {}", shell_word(&path.display().to_string())));
        }
        for row in SETTINGS.iter().filter(|row| accepted(row)) {
            let Some((values, source)) = self.view(row.key) else { continue };
            if !matches!(source, Source::Flag(_) | Source::Environment(_) | Source::Asked) {
                continue;
            }
            match row.kind {
                Kind::Bool => words.push(format!("--{}", row.flag)),
                Kind::Lines => {
                    words.extend(values.iter().map(|value| format!("--{} {}", row.flag, shell_word(value))));
                }
                _ => words.push(format!("--{} {}", row.flag, shell_word(&values.join(",")))),
            }
        }
        words.join(" ")
    }
}
