//! Cleans events for output: the only place where outside text enters a rendering.

use crate::base::error::Failure;
use crate::base::event::{Event, PlanLine};
use crate::base::hint::{Command, Hint};
use crate::base::message::{command, text};

/// The event with each string as one line without hostile characters; commands are not shortened. All fields are
/// listed, so that a new one does not compile before it is handled here.
pub(super) fn shown(event: &Event) -> Event {
    match event {
        Event::Header { deployment, rows } => Event::Header {
            deployment: text(deployment),
            rows: rows.iter().map(|(label, value, from)| (text(label), text(value), text(from))).collect(),
        },
        Event::Plan { lines, changes } => {
            Event::Plan { lines: lines.iter().map(plan_line).collect(), changes: *changes }
        }
        Event::Busy { what, waited } => Event::Busy { what: text(what), waited: *waited },
        Event::StepStarted { step } => Event::StepStarted { step: text(step) },
        Event::StepDone { step, changed, kept, text: said } => {
            Event::StepDone { step: text(step), changed: *changed, kept: *kept, text: text(said) }
        }
        Event::StepWaiting { step, what, waited } => {
            Event::StepWaiting { step: text(step), what: text(what), waited: *waited }
        }
        Event::StepFailed { step, text: said } => Event::StepFailed { step: text(step), text: text(said) },
        Event::Check { name, outcome, text: said, detail } => Event::Check {
            name: text(name),
            outcome: *outcome,
            text: text(said),
            detail: detail.iter().map(hint).collect(),
        },
        Event::Warning { text: said } => Event::Warning { text: text(said) },
        Event::Advice(said) => Event::Advice(hint(said)),
        Event::Note { text: said } => Event::Note { text: text(said) },
        Event::Next { lines } => Event::Next { lines: lines.iter().map(hint).collect() },
        Event::Retry { what, wait, why } => Event::Retry { what: text(what), wait: *wait, why: text(why) },
        // The type guarantees that the line is filtered.
        Event::Log { job, line } => Event::Log { job: text(job), line: line.clone() },
        Event::Undone { step, text: said } => Event::Undone { step: text(step), text: text(said) },
        Event::Failed(failure) => Event::Failed(self::failure(failure)),
        Event::Finished { exit, changed, seconds, text: said, last } => Event::Finished {
            exit: *exit,
            changed: *changed,
            seconds: *seconds,
            text: text(said),
            last: command(last),
        },
    }
}

fn plan_line(one: &PlanLine) -> PlanLine {
    let PlanLine { step, mark, text: said, detail } = one;
    PlanLine { step: text(step), mark: *mark, text: text(said), detail: detail.iter().map(hint).collect() }
}

fn hint(hint: &Hint) -> Hint {
    let whole = |one: &Command| Command::Whole(command(&one.to_string()));
    Hint { text: text(&hint.text), command: hint.command.as_ref().map(whole) }
}

fn failure(failure: &Failure) -> Failure {
    let mut shown = failure.clone();
    shown.message = text(&failure.message);
    shown.details = failure.details.iter().map(|(label, said)| (text(label), text(said))).collect();
    shown.hints = failure.hints.iter().map(hint).collect();
    shown
}
