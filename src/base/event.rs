//! Events of a run; they are rendered as text and as JSON lines.
//!
//! Each JSON line is one [`Event`]; `docs/schemas/events.json` describes them. `schema` gets a new minor number when a
//! field or type is added, and a new major number when one changes or is removed.

use std::time::Duration;

use crate::base::error::Failure;
use crate::base::hint::{Command, Hint};
use crate::base::job_log::LogLine;

/// An event to report. Its strings may contain outside text: both renderings pass each of them through
/// [`crate::base::message`].
#[derive(Clone, Debug)]
pub enum Event {
    /// The deployment and the settings of the run.
    Header {
        /// Its name.
        deployment: String,
        /// Label, value, source of the value.
        rows: Vec<(String, String, String)>,
    },
    /// The plan.
    Plan {
        /// The deployment, if the plan removes it.
        removes: Option<String>,
        /// In the order of execution.
        lines: Vec<PlanLine>,
        /// The number of lines that change something.
        changes: usize,
    },
    /// The run works on something that may take a while.
    Busy {
        /// For example "connecting to https://…".
        what: String,
        /// Time since it began; zero at the beginning.
        waited: Duration,
    },
    /// A step begins.
    StepStarted {
        /// The step.
        step: String,
    },
    /// A step succeeded.
    StepDone {
        /// The step.
        step: String,
        /// Whether it changed anything.
        changed: bool,
        /// Whether it is counted instead of shown.
        fold: Fold,
        /// The result.
        text: String,
    },
    /// A step waits; repeated while it waits.
    StepWaiting {
        /// The step.
        step: String,
        /// The awaited state.
        what: String,
        /// Time waited so far.
        waited: Duration,
    },
    /// A step failed; the reason follows in [`Event::Failed`].
    StepFailed {
        /// The step.
        step: String,
        /// A summary.
        text: String,
    },
    /// One check of preflight or proof.
    Check {
        /// Its name.
        name: String,
        /// Its outcome.
        outcome: Outcome,
        /// One line.
        text: String,
        /// Further lines.
        detail: Vec<Hint>,
    },
    /// A warning.
    Warning {
        /// The text.
        text: String,
    },
    /// A warning with a command.
    Advice(Hint),
    /// A plain status line.
    Note {
        /// The line.
        text: String,
    },
    /// The next steps for the user.
    Next {
        /// The lines.
        lines: Vec<Hint>,
    },
    /// A request is retried after a pause.
    Retry {
        /// The request.
        what: String,
        /// The pause.
        wait: Duration,
        /// The reason.
        why: String,
    },
    /// A request to a server, for `-v` and `--log-file`.
    Request {
        /// The method of HTTP.
        method: String,
        /// Host and port, with the path prefix of the server.
        host: String,
        /// Without the query.
        path: String,
        /// `None` if there was no response.
        status: Option<u16>,
        /// Until the response was read.
        took: Duration,
        /// The request's body with secrets masked, if it is shown.
        sent: Option<String>,
        /// The response's body, likewise.
        received: Option<String>,
    },
    /// A pipeline in GitLab is followed from here on.
    Pipeline {
        /// GitLab's id.
        id: u64,
        /// Its page.
        url: String,
    },
    /// A filtered line of a job's log.
    Log {
        /// The job.
        job: String,
        /// The line.
        line: LogLine,
    },
    /// A step was undone.
    Undone {
        /// The step.
        step: String,
        /// The result.
        text: String,
    },
    /// The run failed.
    Failed(Failure),
    /// The last event of every run.
    Finished(Box<End>),
}

/// The end of a run.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// The exit code.
    pub exit: u8,
    /// Whether the run changed anything.
    pub changed: bool,
    /// The duration.
    pub seconds: f64,
    /// The result in one line.
    pub text: String,
    /// A reminder to show below it, or empty. It may end in a command.
    pub last: String,
    /// The state of the deployment, as far as the run looked at it.
    pub status: Vec<Status>,
    /// The deployment, if the run got as far as its settings.
    pub deployment: Option<Summary>,
    /// The page of the pipeline that was followed.
    pub pipeline: Option<String>,
    /// The ids of the failures, the most important first.
    pub errors: Vec<&'static str>,
    /// All warnings of the run.
    pub warnings: Vec<String>,
}

/// A state of a deployment; several can apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Everything that was asked for was looked at, and works.
    Ok,
    /// It differs from the settings.
    Drift,
    /// Something is as set up and does not work.
    Unhealthy,
    /// A part could not be looked at.
    Unchecked,
}

/// What a script needs to know of a deployment at the end of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub deployment: String,
    /// The kubeconfig's context; empty if not known.
    pub context: String,
    /// The namespace of the runner's ServiceAccount.
    pub runner_namespace: String,
    /// The namespace of the job pods.
    pub namespace: String,
    /// GitLab's id of the runner that outrigger created.
    pub runner: Option<u64>,
    /// The runner's page in GitLab, if its address is known.
    pub runner_url: Option<String>,
    /// The launch script, if the file exists.
    pub script: Option<String>,
    /// When the cluster token expires (RFC 3339); `None` if it does not, or if there is none.
    pub token_expires: Option<String>,
    /// What a teardown left of the deployment; `None` after other commands.
    pub left: Option<Vec<Thing>>,
}

/// An object in the cluster, in GitLab or on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// A kind of Kubernetes, or `Runner`, `File` (a path), `Commit` (a SHA).
    pub kind: String,
    /// Empty for objects without a namespace.
    pub namespace: String,
    pub name: String,
}

impl Event {
    /// All commands in the event.
    pub fn commands(&mut self) -> impl Iterator<Item = &mut Command> {
        let hints: Vec<&mut Hint> = match self {
            Event::Plan { lines, .. } => lines.iter_mut().flat_map(|line| &mut line.detail).collect(),
            Event::Check { detail: hints, .. }
            | Event::Next { lines: hints }
            | Event::Failed(Failure { hints, .. }) => hints.iter_mut().collect(),
            Event::Advice(hint) => vec![hint],
            _ => Vec::new(),
        };
        hints.into_iter().filter_map(|hint| hint.command.as_mut())
    }
}

/// One line of a plan.
#[derive(Clone, Debug)]
pub struct PlanLine {
    pub step: String,
    pub mark: Mark,
    pub text: String,
    /// Further lines, such as a diff.
    pub detail: Vec<Hint>,
    /// The object that it is about, if it is about one.
    pub object: Option<Thing>,
    /// Whether it can be left out where all lines of its step can.
    pub fold: Fold,
}

/// Whether a line of a plan, or a step's result, can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// It is always shown.
    Never,
    /// The step is counted among those in place.
    InPlace,
    /// The step is counted among those that are not needed.
    NotNeeded,
    /// The step only checks, and found nothing.
    Check,
}

/// The kind of change of a plan line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Create,
    /// Changes an object in place.
    Update,
    /// Removes an object and creates it again.
    Replace,
    Remove,
    /// Removes a temporary permission.
    Release,
    /// Leaves an existing object unchanged.
    Keep,
    NotNeeded,
    /// Could not be looked at.
    NotChecked,
    /// A risk, or a difference that stays.
    Warning,
    /// In place, and does not work.
    Unhealthy,
    Refuse,
    /// Known only after an earlier step.
    Unknown,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    /// A problem that does not stop the run.
    Warn,
    Fail,
    Skipped,
}

/// A receiver of events.
pub trait Reporter: Sync {
    fn event(&self, event: &Event);
}

impl Mark {
    /// One character, or up to three ASCII characters if not `unicode`.
    pub fn glyph(self, unicode: bool) -> &'static str {
        match self {
            Mark::Create => "+",
            Mark::Update => "~",
            Mark::Replace if unicode => "±",
            Mark::Replace => "+/-",
            Mark::Remove | Mark::Release => "-",
            Mark::Keep | Mark::NotNeeded => "=",
            Mark::Refuse if unicode => "✗",
            Mark::Refuse => "x",
            Mark::Unknown | Mark::NotChecked => "?",
            Mark::Warning | Mark::Unhealthy => "!",
        }
    }

    /// The value in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Create => "create",
            Mark::Update => "update",
            Mark::Replace => "replace",
            Mark::Remove => "remove",
            Mark::Release => "release",
            Mark::Keep => "keep",
            Mark::NotNeeded => "not-needed",
            Mark::NotChecked => "unchecked",
            Mark::Warning => "warning",
            Mark::Unhealthy => "unhealthy",
            Mark::Refuse => "refuse",
            Mark::Unknown => "unknown",
        }
    }
}

impl Status {
    /// The value in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Drift => "drift",
            Status::Unhealthy => "unhealthy",
            Status::Unchecked => "unchecked",
        }
    }
}

impl Outcome {
    /// The value in JSON and in text.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
            Outcome::Skipped => "skipped",
        }
    }
}

impl dyn Reporter + '_ {
    pub fn warn(&self, text: impl Into<String>) {
        self.event(&Event::Warning { text: text.into() });
    }

    pub fn waiting(&self, step: &str, what: &str, waited: Duration) {
        self.event(&Event::StepWaiting { step: step.to_owned(), what: what.to_owned(), waited });
    }
}
