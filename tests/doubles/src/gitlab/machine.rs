//! What a machine with a runner on it is told to be like.

use std::time::Duration;

use super::FakeGitlab;

/// How a machine behaves; it can be told otherwise while it works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Registers, takes jobs, and ends them well.
    #[default]
    Succeed,
    /// Registers, takes jobs, and fails them.
    Fail {
        /// GitLab's word for the reason, such as `script_failure` or `runner_system_failure`.
        reason: String,
        /// What the script ended with.
        exit_code: i64,
    },
    /// Makes no contact at all: the machine has not booted.
    Silent,
    /// Registers, and then asks for no jobs: the service does not start.
    RegisterOnly,
    /// Takes a job, writes half of its log, and then nothing, until told otherwise.
    Stall,
}

/// What a machine is, and how it behaves at first.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// Where GitLab is.
    pub url: String,
    /// The CA (PEM) of its certificate.
    pub ca_pem: String,
    /// The runner's token.
    pub token: String,
    /// The machine's name, as runners make it of its machine id.
    pub system_id: String,
    /// The runner's version.
    pub version: String,
    /// The runner's name on the machine.
    pub name: String,
    /// The namespace that it says its jobs run in.
    pub namespace: String,
    /// Whether its logs have a time before each line, as those of 19.0 and newer do by default.
    pub timestamps: bool,
    /// What its jobs print beside what their scripts do, as it is.
    pub output: String,
    /// How many bytes of a log it sends at once, whatever that cuts through; line by line if 0.
    pub portion: usize,
    /// How long it waits between two requests for jobs; real ones wait three seconds.
    pub poll: Duration,
    /// How it behaves at first.
    pub behaviour: Behaviour,
}

impl DriverOptions {
    /// A machine that does all well, for a runner of this GitLab.
    #[must_use]
    pub fn new(gitlab: &FakeGitlab, token: &str) -> Self {
        Self {
            url: gitlab.url(),
            ca_pem: gitlab.ca_pem(),
            token: token.to_owned(),
            system_id: "s_0123456789ab".to_owned(),
            version: "19.4.1".to_owned(),
            name: "vm".to_owned(),
            namespace: "kubernetes-runner-jobs".to_owned(),
            timestamps: true,
            output: String::new(),
            portion: 0,
            poll: Duration::from_millis(20),
            behaviour: Behaviour::Succeed,
        }
    }
}

/// What became of a job on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driven {
    /// The job.
    pub id: u64,
    /// `success`, `failed`, or `canceled` if GitLab took it away.
    pub outcome: String,
}
