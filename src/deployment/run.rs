//! The request of one run for one deployment; it does not change during the run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::deployment::names::{self, Names};
use crate::settings::{Reissue, RunOptions, Settings};

/// A part of a run. Steps ask for parts, not for the names of other steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Checks whether the operator may grant the Role.
    Grant,
    /// Issues the cluster token.
    Token,
    /// Creates or changes the runner in GitLab.
    Runner,
    /// Writes the launch script.
    Script,
    /// Makes the VM.
    Vm,
    /// Runs the launch script on the host.
    Host,
    /// Deletes a cluster token that was replaced.
    Retire,
    /// Commits the pipeline file.
    Commit,
    /// Runs the pipeline.
    Pipeline,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub settings: Settings,
    pub options: RunOptions,
    pub names: Names,
    /// Name of the ServiceAccount of job pods.
    pub job_account: String,
    /// Start of the run.
    pub now: jiff::Timestamp,
    /// Eight random hex digits, for names that must differ from those of an earlier run.
    pub nonce: String,
    /// Whether the run is a single step, from its own subcommand.
    pub alone: bool,
    /// The parts of the selected steps.
    pub parts: Vec<Part>,
    /// The credentials to rotate.
    pub rotate: Vec<Reissue>,
    /// The run brings another version of gitlab-runner to the host, and takes it back if it does not work.
    pub upgrade: bool,
}

impl Run {
    pub fn includes(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Whether this run rotates that credential.
    pub fn rotates(&self, which: Reissue) -> bool {
        self.rotate.contains(&which)
    }

    /// Whether the script is for a machine that already runs the runner, so that it cannot be passed as user data.
    pub fn is_for_running_machine(&self) -> bool {
        !self.rotate.is_empty() || self.upgrade
    }

    /// The generation of a cluster token that this run creates beside the current one.
    pub fn generation(&self) -> String {
        self.nonce.chars().take(6).collect()
    }

    /// Whether `--use-namespace` lists the namespace.
    pub fn is_used(&self, namespace: &str) -> bool {
        self.settings.use_namespaces.iter().any(|used| used == namespace)
    }

    /// These settings for other machines without the record, as JSON: nothing specific to one machine, and nothing that
    /// could send a token to another host.
    pub fn settings_note(recorded: &BTreeMap<String, Vec<String>>) -> String {
        let noted: BTreeMap<_, _> =
            recorded.iter().filter(|(key, _)| names::NOTED.contains(&key.as_str())).collect();
        serde_json::to_string(&noted).unwrap_or_default()
    }

    /// Path of the launch script.
    pub fn script_path(&self) -> PathBuf {
        let given = self.settings.script.as_ref().map(|path| path.value.clone());
        given.unwrap_or_else(|| self.settings.default_script())
    }
}
