//! One run over one deployment: what was asked for, fixed before the first step looks.

use std::path::PathBuf;

use crate::deployment::names::Names;
use crate::settings::{RunOptions, Settings};

/// What a run does; steps ask for this instead of one another's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It asks whether the operator may grant the Role.
    Grant,
    /// It issues the cluster token.
    Token,
    /// It makes or changes the runner in GitLab.
    Runner,
    /// It commits the pipeline file.
    Commit,
    /// It runs the pipeline.
    Pipeline,
}

/// What was asked for. Nothing of it changes while the run lasts.
#[derive(Clone, Debug)]
pub struct Run {
    /// The settings.
    pub settings: Settings,
    /// The options of this run.
    pub options: RunOptions,
    /// Names of everything.
    pub names: Names,
    /// Name of the ServiceAccount that job pods run as.
    pub job_account: String,
    /// When the run began.
    pub now: jiff::Timestamp,
    /// Eight random hex digits, for names that must not meet an earlier run's.
    pub nonce: String,
    /// Whether one step was asked for by its own subcommand.
    pub alone: bool,
    /// What the selected steps do.
    pub parts: Vec<Part>,
}

impl Run {
    /// Whether the selected steps do this.
    pub fn includes(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Whether a namespace is one the user named with `--use-namespace`.
    pub fn is_used(&self, namespace: &str) -> bool {
        self.settings.use_namespaces.iter().any(|used| used == namespace)
    }

    /// Where the launch script goes.
    pub fn script_path(&self) -> PathBuf {
        match &self.settings.script {
            Some(path) => path.value.clone(),
            None => self.settings.default_script(),
        }
    }
}
