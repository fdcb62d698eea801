//! Settings read back: what to record, what is missing, and the command that says the same.

use std::collections::BTreeMap;

use super::check::duration_text;
use super::table::{self, Group, Kind, Row, SETTINGS};
use super::{Reissue, Settings, Source, Sourced};
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
        let row = table::setting(key);
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
    /// The value and source of a setting by its key; none if it has no value or stands at a default
    /// that has no name.
    #[must_use]
    pub fn view(&self, key: &str) -> Option<(Vec<String>, Source)> {
        fn text(found: &Sourced<String>) -> (Vec<String>, Source) {
            (vec![found.value.clone()], found.source.clone())
        }
        fn path(found: &Sourced<std::path::PathBuf>) -> (Vec<String>, Source) {
            (vec![found.value.display().to_string()], found.source.clone())
        }
        let pairs = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(key, value)| format!("{key}={value}")).collect()
        };
        let source = || self.sources.get(key).cloned().unwrap_or(Source::Default);
        let flag = |on: bool| on.then(|| (vec!["true".to_owned()], source()));
        let list = |values: Vec<String>| (!values.is_empty()).then(|| (values, source()));
        match key {
            "deployment" => Some(text(&self.deployment)),
            "kubeconfig" => self.kubeconfig.as_ref().map(path),
            "context" => self.context.as_ref().map(text),
            "anchorUid" => self.anchor_uid.as_ref().map(text),
            "as" => self.as_user.clone().map(|user| (vec![user], source())),
            "requestTimeout" => self.request_timeout.map(|d| (vec![duration_text(d)], source())),
            "timeout" => Some((vec![duration_text(self.timeout)], source())),
            "stateDir" => Some((vec![self.state_dir.display().to_string()], source())),
            "namespace" => Some(text(&self.namespace)),
            "runnerNamespace" => Some(text(&self.runner_namespace)),
            "useNamespaces" => list(self.use_namespaces.clone()),
            "podSecurity" => Some(text(&self.pod_security_level)),
            "namespaceLabels" => list(pairs(&self.namespace_labels)),
            "namespaceAnnotations" => list(pairs(&self.namespace_annotations)),
            "kubernetesHost" => self.kubernetes_host.as_ref().map(text),
            "tokenLifetime" => {
                self.token_lifetime.as_ref().map(|d| (vec![duration_text(d.value)], d.source.clone()))
            }
            "gitlabUrl" => self.gitlab_url.as_ref().map(text),
            "gitlabTokenFile" => self.gitlab_token_file.as_ref().map(path),
            "gitlabCaFile" => self.gitlab_ca_file.as_ref().map(path),
            "project" => self.project.as_ref().map(text),
            "group" => self.group.as_ref().map(text),
            "instanceRunner" => flag(self.instance_runner),
            "runnerTokenFile" => self.runner_token_file.as_ref().map(path),
            "runnerTokenOut" => self.runner_token_out.as_ref().map(path),
            "legacyRegistrationTokenFile" => self.legacy_registration_token_file.as_ref().map(path),
            "pipelineScript" => {
                Some((self.pipeline_script.value.clone(), self.pipeline_script.source.clone()))
            }
            "branch" => self.branch.as_ref().map(text),
            "commitMessage" => {
                self.commit_message.as_ref().map(|found| (found.value.clone(), found.source.clone()))
            }
            "commitPipeline" => flag(self.commit_pipeline),
            "runPipeline" => flag(self.run_pipeline),
            "wait" => Some((vec![duration_text(self.wait)], source())),
            "overwritePipeline" => flag(self.overwrite_pipeline),
            "tags" => Some((self.tags.value.clone(), self.tags.source.clone())),
            "image" => Some(text(&self.image)),
            "runnerVersion" => Some(text(&self.runner_version)),
            "aptUrl" => Some(text(&self.apt_url)),
            "keyUrl" => Some(text(&self.key_url)),
            "keyFingerprint" => Some(text(&self.key_fingerprint)),
            "installMethod" => Some(text(&self.install_method)),
            "debSha256" => self.deb_sha256.as_ref().map(text),
            "binaryUrl" => self.binary_url.as_ref().map(text),
            "binarySha256" => self.binary_sha256.as_ref().map(text),
            "jobLimit" => Some((vec![self.job_limit.value.to_string()], self.job_limit.source.clone())),
            "pullPolicy" => self.pull_policy.as_ref().map(text),
            "runnerConfig" => self.runner_config.as_ref().map(path),
            "replaceEntry" => flag(self.replace_entry),
            "script" => self.script.as_ref().map(path),
            "target" => Some(text(&self.target)),
            "secrets" => self.secrets.as_ref().map(text),
            "lockMetadata" => flag(self.lock_metadata),
            "reissue" => list(self.reissue.iter().map(|which| which.word().to_owned()).collect()),
            "acceptSharedNamespace" => flag(self.accept_shared_namespace),
            "acceptLifetime" => flag(self.accept_lifetime),
            "allowTemporaryEdit" => flag(self.allow_temporary_edit),
            "clusterAdmin" => flag(self.cluster_admin),
            "keepAdminBinding" => flag(self.keep_admin_binding),
            "forceConflicts" => flag(self.force_conflicts),
            "prune" => flag(self.prune),
            _ => None,
        }
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
        rows.filter_map(|row| self.view(row.key).map(|(values, _)| (row.key.to_owned(), values)))
            .filter(|(_, values)| values.iter().all(|value| value != "-"))
            .filter(|(key, values)| {
                table::setting(key)
                    .and_then(|row| row.default)
                    .is_none_or(|default| values.len() != 1 || values[0] != default)
            })
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

impl Reissue {
    /// The word for it on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reissue::Runner => "runner",
            Reissue::Cluster => "cluster",
        }
    }
}
