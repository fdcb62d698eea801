//! Settings: flags, environment, settings file and record become one frozen value, and each value
//! keeps where it came from. Pure: nothing here reads the environment or the disk.

pub mod check;
mod file;
mod metadata;
mod options;
mod resolve;
pub mod table;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::base::template::shell_word;
pub use check::{is_older, strictness};
pub use options::{Output, RunOptions, config_path, run_options};
pub use resolve::{deployment_and_state_dir, resolve};
pub use table::{
    DEFAULT_APT_URL, DEFAULT_JOB_LIMIT, DEFAULT_KEY_FINGERPRINT, DEFAULT_KEY_URL, DEFAULT_RUNNER_VERSION,
};
pub use view::{Missing, Need, missing_failure};

/// The deployment when none is named.
pub const DEFAULT_DEPLOYMENT: &str = "kubernetes-runner";
/// The runner's tags when none are named.
pub const DEFAULT_TAGS: &str = "k8s-runner";
/// The image of jobs that name none.
pub const DEFAULT_IMAGE: &str = "alpine:latest";
/// The script of the pipeline's job when none is given: the article's.
pub const DEFAULT_PIPELINE_SCRIPT: &str = "echo \"hello world!\"";
/// Where the launch script runs when no place is named: the article's.
pub const DEFAULT_TARGET: &str = "lightsail";
/// The longest wait for the VM and the pipeline when none is named.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(600);
/// The Pod Security level of the job namespace.
pub const DEFAULT_POD_SECURITY: &str = "baseline";
/// How gitlab-runner is installed when nobody says.
pub const DEFAULT_INSTALL_METHOD: &str = "apt";
/// The longest wait when none is named.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line; with dashes, `--tags`.
    Flag(&'static str),
    /// This environment variable.
    Environment(&'static str),
    /// The settings file at this path.
    File(PathBuf),
    /// What an earlier run recorded.
    Record,
    /// The note on the deployment's ServiceAccount, named `namespace/name`.
    Note(String),
    /// The runner in GitLab with this id.
    Runner(u64),
    /// The kubeconfig; what of it, for example `current context`.
    Kubeconfig(String),
    /// Nobody said anything.
    Default,
    /// The user answered a question.
    Asked,
}

impl Source {
    /// Whether an earlier run said it, on this machine or another, and nobody in this one.
    #[must_use]
    pub fn is_remembered(&self) -> bool {
        matches!(self, Source::Record | Source::Note(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => f.write_str(flag),
            Source::Environment(name) => f.write_str(name),
            Source::File(_) => f.write_str("settings file"),
            Source::Record => f.write_str("recorded"),
            Source::Note(account) => write!(f, "annotation on ServiceAccount {account}"),
            Source::Runner(id) => write!(f, "runner {id} in GitLab"),
            Source::Kubeconfig(what) => write!(f, "kubeconfig, {what}"),
            Source::Default => f.write_str("default"),
            Source::Asked => f.write_str("asked"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Sourced<T> {
    /// A value with its source.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

impl<T> Deref for Sourced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A credential to issue anew although the old one still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reissue {
    /// The runner's token at GitLab.
    Runner,
    /// The service account's token in the cluster.
    Cluster,
}

/// Everything a run needs to know, frozen before its first request. See [`table::SETTINGS`].
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct Settings {
    /// Name of the deployment.
    pub deployment: Sourced<String>,
    /// The kubeconfig; none means kubectl's own search, `KUBECONFIG` lists included.
    pub kubeconfig: Option<Sourced<PathBuf>>,
    /// The kubeconfig context; none means its current one.
    pub context: Option<Sourced<String>>,
    /// The uid of the deployment's ServiceAccount, where this machine has no record of it.
    pub anchor_uid: Option<Sourced<String>>,
    /// User to impersonate.
    pub as_user: Option<String>,
    /// Longest time for one request; none means no limit beside [`Settings::timeout`].
    pub request_timeout: Option<Duration>,
    /// Namespace of the job pods.
    pub namespace: Sourced<String>,
    /// Namespace of the runner's own account.
    pub runner_namespace: Sourced<String>,
    /// Which of the two exist already and are used as they are.
    pub use_namespaces: Vec<String>,
    /// Agreed: others may create pods in a namespace we use.
    pub accept_shared_namespace: bool,
    /// Agreed: a moment of `edit` in an existing namespace.
    pub allow_temporary_edit: bool,
    /// Labels that namespaces of ours get at their creation, key and value.
    pub namespace_labels: Vec<(String, String)>,
    /// Annotations that they get, key and value.
    pub namespace_annotations: Vec<(String, String)>,
    /// The API server as the runner will dial it.
    pub kubernetes_host: Option<Sourced<String>>,
    /// The GitLab instance, without trailing slash.
    pub gitlab_url: Option<Sourced<String>>,
    /// File with the operator's GitLab access token; `-` is stdin.
    pub gitlab_token_file: Option<Sourced<PathBuf>>,
    /// File with the CA certificates that verify GitLab; none means the system's roots.
    pub gitlab_ca_file: Option<Sourced<PathBuf>>,
    /// The GitLab project, by path or numeric id.
    pub project: Option<Sourced<String>>,
    /// The GitLab group that a group runner is for, by path or numeric id.
    pub group: Option<Sourced<String>>,
    /// Whether the runner is for the whole instance.
    pub instance_runner: bool,
    /// File with the authentication token of an existing runner; `-` is stdin.
    pub runner_token_file: Option<Sourced<PathBuf>>,
    /// Where `create-runner` by itself writes the new runner's token.
    pub runner_token_out: Option<Sourced<PathBuf>>,
    /// File with a registration token, the article's way; `-` is stdin.
    pub legacy_registration_token_file: Option<Sourced<PathBuf>>,
    /// Tags of the runner.
    pub tags: Sourced<Vec<String>>,
    /// Image of jobs that name none.
    pub image: Sourced<String>,
    /// The commands of the pipeline's job.
    pub pipeline_script: Sourced<Vec<String>>,
    /// Branch of the pipeline file; none means the project's default branch.
    pub branch: Option<Sourced<String>>,
    /// The message of its commit, by paragraphs; none means outrigger's own.
    pub commit_message: Option<Sourced<Vec<String>>>,
    /// `setup` commits the pipeline file, too.
    pub commit_pipeline: bool,
    /// `setup` runs the pipeline, too.
    pub run_pipeline: bool,
    /// Longest wait for the VM and the pipeline.
    pub wait: Duration,
    /// Agreed: replace a pipeline file that says something else.
    pub overwrite_pipeline: bool,
    /// Version of gitlab-runner.
    pub runner_version: Sourced<String>,
    /// Where its packages come from.
    pub apt_url: Sourced<String>,
    /// Where the key that signs them comes from.
    pub key_url: Sourced<String>,
    /// The fingerprint of that key.
    pub key_fingerprint: Sourced<String>,
    /// How it is installed: apt, apt-slim or binary.
    pub install_method: Sourced<String>,
    /// The SHA-256 of its package, if named.
    pub deb_sha256: Option<Sourced<String>>,
    /// Where its binary comes from; none means GitLab's own place.
    pub binary_url: Option<Sourced<String>>,
    /// The SHA-256 of that binary, if named.
    pub binary_sha256: Option<Sourced<String>>,
    /// How many jobs run at once.
    pub job_limit: Sourced<u32>,
    /// When nodes pull the jobs' images; none leaves it to Kubernetes.
    pub pull_policy: Option<Sourced<String>>,
    /// File with what is to be added to the runner's entry.
    pub runner_config: Option<Sourced<PathBuf>>,
    /// Agreed: replace the runner's entry although somebody changed it by hand.
    pub replace_entry: bool,
    /// Pod Security level of the job namespace: baseline, restricted or privileged.
    pub pod_security_level: Sourced<String>,
    /// Where to write the launch script; `-` is stdout.
    pub script: Option<Sourced<PathBuf>>,
    /// Where the launch script will run, one of [`table::TARGETS`].
    pub target: Sourced<String>,
    /// Where its secrets go: inline or separate; none means the target's own way.
    pub secrets: Option<Sourced<String>>,
    /// The script closes the VM's way to its metadata service.
    pub lock_metadata: bool,
    /// Lifetime of the runner's cluster token; none means it does not expire.
    pub token_lifetime: Option<Sourced<Duration>>,
    /// Agreed: the cluster shortened that lifetime.
    pub accept_lifetime: bool,
    /// Credentials to issue anew.
    pub reissue: Vec<Reissue>,
    /// Agreed: bind cluster-admin, as the article does.
    pub cluster_admin: bool,
    /// Agreed: do not release the operator's binding.
    pub keep_admin_binding: bool,
    /// Agreed: overwrite what somebody else made stricter.
    pub force_conflicts: bool,
    /// Agreed: remove what the settings no longer name.
    pub prune: bool,
    /// Where records and scripts are kept.
    pub state_dir: PathBuf,
    /// Longest wait.
    pub timeout: Duration,
    /// Where each given value came from, by key; values left at their default are not in it.
    pub sources: BTreeMap<&'static str, Source>,
}

/// What [`resolve`] works from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The subcommand's arguments.
    pub matches: &'a clap::ArgMatches,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// The settings file named by [`config_path`], and its text.
    pub file: Option<(PathBuf, String)>,
    /// What an earlier run recorded, by settings key; see [`Settings::recorded`].
    pub recorded: BTreeMap<String, Vec<String>>,
    /// What is taken from the note on the deployment's ServiceAccount, by settings key, and the account.
    pub noted: Option<(String, BTreeMap<String, Vec<String>>)>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
