//! Events of a run; they are rendered as text and as JSON lines.
//!
//! Each JSON line is one [`Event`]. `schema` gets a new minor number when a field or type is added, and a new
//! major number when one changes or is removed.

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
        /// Whether everything was in place already.
        kept: bool,
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
    Finished {
        /// The exit code.
        exit: u8,
        /// Whether the run changed anything.
        changed: bool,
        /// The duration.
        seconds: f64,
        /// The result in one line.
        text: String,
        /// A reminder to show below it, or empty. It may end in a command.
        last: String,
    },
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
