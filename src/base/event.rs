//! What happens, as events, and their two renderings: text for people, JSON lines for programs.
//!
//! The vocabulary of the JSON lines is [`Event`] and nothing else; `schema` changes its minor number
//! when a field or type is added, its major number when one changes or goes.

use std::time::Duration;

use crate::base::error::Failure;
use crate::base::hint::{Command, Hint};

use crate::base::job_log::LogLine;

/// Something happened that a user may want to know.
///
/// Its strings may hold outside text: both renderings pass each of them through [`crate::base::message`].
#[derive(Clone, Debug)]
pub enum Event {
    /// What this run works on: label, value and where the value came from.
    Header {
        /// Name of the deployment.
        deployment: String,
        /// Label, value, source.
        rows: Vec<(String, String, String)>,
    },
    /// What would be done.
    Plan {
        /// Its lines, in order.
        lines: Vec<PlanLine>,
        /// How many of them change something.
        changes: usize,
    },
    /// A step begins.
    StepStarted {
        /// The step.
        step: String,
    },
    /// A step ended well.
    StepDone {
        /// The step.
        step: String,
        /// Whether anything is different now.
        changed: bool,
        /// Whether all it is about was in place already.
        kept: bool,
        /// What came of it.
        text: String,
    },
    /// A step waits; sent again as long as it does.
    StepWaiting {
        /// The step.
        step: String,
        /// What is awaited.
        what: String,
        /// For how long already.
        waited: Duration,
    },
    /// A step failed; why comes in [`Event::Failed`].
    StepFailed {
        /// The step.
        step: String,
        /// In short.
        text: String,
    },
    /// One check of preflight or proof.
    Check {
        /// What was checked.
        name: String,
        /// How it went.
        outcome: Outcome,
        /// In one line.
        text: String,
        /// More lines.
        detail: Vec<Hint>,
    },
    /// Something to know although nothing failed.
    Warning {
        /// What.
        text: String,
    },
    /// A warning, and the command that goes with it.
    Advice(Hint),
    /// A plain status line.
    Note {
        /// The line.
        text: String,
    },
    /// What to do next.
    Next {
        /// The lines.
        lines: Vec<Hint>,
    },
    /// A request is tried again after a pause.
    Retry {
        /// Which request.
        what: String,
        /// The pause.
        wait: Duration,
        /// Why.
        why: String,
    },
    /// A line of a job's log: text and colour only.
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
        /// What came of it.
        text: String,
    },
    /// The run failed.
    Failed(Failure),
    /// The last event of every run.
    Finished {
        /// The exit code.
        exit: u8,
        /// Whether anything is different now.
        changed: bool,
        /// How long it took.
        seconds: f64,
        /// How it ended, in one line.
        text: String,
        /// What has to be remembered, below it; empty if nothing. It may end in a command.
        last: String,
    },
}

impl Event {
    /// Every command that it names.
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
    /// The step that does it.
    pub step: String,
    /// What kind of change.
    pub mark: Mark,
    /// What.
    pub text: String,
    /// More lines, such as a diff.
    pub detail: Vec<Hint>,
}

/// What a line of the plan does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Makes something.
    Create,
    /// Changes something in place.
    Update,
    /// Removes something and makes it anew.
    Replace,
    /// Removes something.
    Remove,
    /// Gives back a right held for a moment.
    Release,
    /// Leaves it as it is.
    Keep,
    /// Has nothing to do.
    NotNeeded,
    /// Will not.
    Refuse,
    /// Is known only once an earlier step is done.
    Unknown,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Pass,
    /// Not well, but good enough.
    Warn,
    /// Badly.
    Fail,
    /// It was not made.
    Skipped,
}

/// Whoever shows events.
pub trait Reporter: Sync {
    /// Shows one event.
    fn event(&self, event: &Event);
}

impl Mark {
    /// One character for it, or three without UTF-8.
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
            Mark::Unknown => "?",
        }
    }

    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Create => "create",
            Mark::Update => "update",
            Mark::Replace => "replace",
            Mark::Remove => "remove",
            Mark::Release => "release",
            Mark::Keep => "keep",
            Mark::NotNeeded => "not-needed",
            Mark::Refuse => "refuse",
            Mark::Unknown => "unknown",
        }
    }
}

impl Outcome {
    /// The word for it.
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
    /// Shows a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.event(&Event::Warning { text: text.into() });
    }

    /// Shows that a step waits.
    pub fn waiting(&self, step: &str, what: &str, waited: Duration) {
        self.event(&Event::StepWaiting { step: step.to_owned(), what: what.to_owned(), waited });
    }
}
