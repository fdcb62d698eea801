//! Output of settings: the values to record, the missing values, and equivalent commands.

use std::collections::BTreeMap;

use super::table::setting;
use super::{Group, Kind, Risk, Row, SETTINGS, Settings, Source};
use crate::base::error::{Aim, Command, Failure, Id};
use crate::base::template::shell_word;
use crate::base::text::count;

/// The settings of GitLab that a command needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    #[default]
    Nothing,
    /// The API if a token is at hand; without one, GitLab is not checked.
    Look,
    /// A runner: its token, or the means to create one.
    Runner,
    /// The API, for a project.
    Project,
}

/// A required value that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `--gitlab-url URL`.
    pub flag: String,
    /// The environment variable, or `–`.
    pub env: String,
    /// The key in the settings file with its colon, or `–`.
    pub file_key: String,
    /// A hint on the value, or empty.
    pub note: String,
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
        }
    }
}

/// The failure that lists all missing values (OR0201, exit 2).
pub fn missing_failure(missing: Vec<Missing>) -> Failure {
    let width =
        |of: fn(&Missing) -> &String| missing.iter().map(|m| of(m).chars().count()).max().unwrap_or(0);
    let (env, key) = (width(|m| &m.env), width(|m| &m.file_key));
    let failure = Failure::new(Id::MissingInput, count(missing.len(), "missing value"));
    missing.into_iter().fold(failure, |failure, m| {
        let text = format!("{:env$}   {:key$}   {}", m.env, m.file_key, m.note);
        failure.detail(m.flag, text.trim_end())
    })
}

/// A path as one shell word that is valid in any directory.
fn place(path: &str) -> String {
    match std::path::absolute(path) {
        Ok(whole) if path != "-" => shell_word(&whole.display().to_string()),
        _ => shell_word(path),
    }
}

impl Settings {
    pub fn accepts(&self, risk: Risk) -> bool {
        self.accept.contains(&risk)
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
            .map(|(row, values)| (row.key.to_owned(), values))
            .collect()
    }

    /// The missing values, without the context, which is checked with the kubeconfig. `has_gitlab_token` is true
    /// if the environment contains a token or the user has entered one.
    pub fn missing(&self, need: Need, has_gitlab_token: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        if matches!(need, Need::Nothing | Need::Look) {
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
            missing.push(Missing { env: "GITLAB_TOKEN".to_owned(), file_key: "–".to_owned(), ..token });
        }
        let has_scope = self.group.is_some() || self.instance_runner;
        if self.project.is_none() && !(need == Need::Runner && has_scope) {
            missing.push(Missing::new("project", "such as platform/hello, or its numeric id"));
        }
        missing
    }

    /// The setup command with the given and answered settings, without questions.
    pub fn equivalent_command(&self) -> String {
        self.command("outrigger setup --non-interactive", |_| true)
    }

    /// The setup command with the given and answered settings, which asks for the rest. Stdin is not a file to name
    /// again.
    pub fn command_so_far(&self) -> String {
        let is_stdin = |row: &Row| self.view(row.key).is_some_and(|(values, _)| values == ["-"]);
        self.command("outrigger setup", |row| !is_stdin(row))
    }

    /// Completes a printed command, so that it selects this run's deployment and cluster in any directory.
    pub fn complete(&self, command: &Command) -> String {
        let (words, aim) = match command {
            Command::Whole(line) => return line.clone(),
            Command::Kubectl(words) => return format!("{} {words}", self.kubectl()),
            Command::Outrigger(words, aim) => (words, *aim),
        };
        // A redirection stays last.
        let (words, file) = words.split_once(" > ").map_or((words.as_str(), None), |(a, b)| (a, Some(b)));
        let accepted = |row: &Row| {
            let cluster = matches!(row.key, "kubeconfig" | "context" | "as" | "anchorUid");
            let shared = row.group == Group::Connection && !row.key.ends_with("imeout");
            let asked = match aim {
                Aim::Cluster(keys) => shared || keys.contains(&row.key),
                Aim::Deployment(keys) => (shared && !cluster) || keys.contains(&row.key),
                Aim::Records => shared && !cluster && row.key != "deployment",
                Aim::Nothing => return false,
            };
            // The words may contain the flag already.
            asked && !words.split(' ').any(|word| word == row.dashed)
        };
        let line = self.command(&format!("outrigger {words}"), accepted);
        file.map_or_else(|| line.clone(), |file| format!("{line} > {file}"))
    }

    /// `kubectl` with the flags for the same cluster and user.
    fn kubectl(&self) -> String {
        let mut words = vec!["kubectl".to_owned()];
        for (key, flag) in [("kubeconfig", "--kubeconfig"), ("context", "--context"), ("as", "--as")] {
            let Some((values, source)) = self.view(key) else { continue };
            if !matches!(&source, Source::Environment(name) if *name == "KUBECONFIG") {
                let value = values.join(",");
                let value = if key == "kubeconfig" { place(&value) } else { shell_word(&value) };
                words.push(format!("{flag} {value}"));
            }
        }
        words.join(" ")
    }

    fn command(&self, start: &str, accepted: impl Fn(&Row) -> bool) -> String {
        let mut words = vec![start.to_owned()];
        if let Some(Source::File(path)) = self.sources.values().find(|s| matches!(s, Source::File(_))) {
            words.push(format!("--config {}", place(&path.display().to_string())));
        }
        for row in SETTINGS.iter().filter(|row| accepted(row)) {
            let Some((values, source)) = self.view(row.key) else { continue };
            if !matches!(source, Source::Flag(_) | Source::Environment(_) | Source::Asked) {
                continue;
            }
            match row.kind {
                Kind::Bool => words.push(format!("--{}", row.flag)),
                Kind::Path => {
                    words.extend(values.iter().map(|path| format!("--{} {}", row.flag, place(path))));
                }
                Kind::Lines => {
                    words.extend(values.iter().map(|value| format!("--{} {}", row.flag, shell_word(value))));
                }
                _ => words.push(format!("--{} {}", row.flag, shell_word(&values.join(",")))),
            }
        }
        words.join(" ")
    }
}
