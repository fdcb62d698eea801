//! Cleans events for output: the only place where outside text enters a rendering.

use crate::base::error::Failure;
use crate::base::event::{End, Event, PlanLine, Summary, Thing};
use crate::base::hint::{Command, Hint, as_called};
use crate::base::message::{self, command};

/// The event with each string as one line without hostile characters; commands are not shortened. All fields are
/// listed, so that a new one does not compile before it is handled here.
pub(super) fn shown(event: &Event) -> Event {
    match event {
        Event::Header { deployment, rows } => Event::Header {
            deployment: text(deployment),
            rows: rows.iter().map(|(label, value, from)| (text(label), text(value), text(from))).collect(),
        },
        Event::Plan { removes, lines, changes } => Event::Plan {
            removes: removes.as_deref().map(text),
            lines: lines.iter().map(plan_line).collect(),
            changes: *changes,
        },
        Event::Busy { what, waited } => Event::Busy { what: text(what), waited: *waited },
        Event::StepStarted { step } => Event::StepStarted { step: text(step) },
        Event::StepDone { step, changed, fold, text: said } => {
            Event::StepDone { step: text(step), changed: *changed, fold: *fold, text: text(said) }
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
        Event::Request { method, host, path, status, took, sent, received } => Event::Request {
            method: text(method),
            host: text(host),
            path: text(path),
            status: *status,
            took: *took,
            sent: sent.as_deref().map(text),
            received: received.as_deref().map(text),
        },
        Event::Pipeline { id, url } => Event::Pipeline { id: *id, url: text(url) },
        // The type guarantees that the line is filtered.
        Event::Log { job, line } => Event::Log { job: text(job), line: line.clone() },
        Event::Undone { step, text: said } => Event::Undone { step: text(step), text: text(said) },
        Event::Failed(failure) => Event::Failed(self::failure(failure)),
        Event::Finished(end) => Event::Finished(Box::new(self::end(end))),
    }
}

fn end(end: &End) -> End {
    let End { exit, changed, seconds, text: said, last, status, deployment, pipeline, errors, warnings } =
        end;
    End {
        exit: *exit,
        changed: *changed,
        seconds: *seconds,
        text: text(said),
        last: command(last),
        status: status.clone(),
        deployment: deployment.as_ref().map(summary),
        pipeline: pipeline.as_deref().map(text),
        errors: errors.clone(),
        warnings: warnings.iter().map(|one| text(one)).collect(),
    }
}

fn summary(one: &Summary) -> Summary {
    Summary {
        deployment: text(&one.deployment),
        context: text(&one.context),
        runner_namespace: text(&one.runner_namespace),
        namespace: text(&one.namespace),
        runner: one.runner,
        runner_url: one.runner_url.as_deref().map(text),
        script: one.script.as_deref().map(text),
        token_expires: one.token_expires.as_deref().map(text),
        left: one.left.as_ref().map(|left| left.iter().map(thing).collect()),
    }
}

fn thing(Thing { kind, namespace, name }: &Thing) -> Thing {
    Thing { kind: text(kind), namespace: text(namespace), name: text(name) }
}

fn plan_line(one: &PlanLine) -> PlanLine {
    let PlanLine { step, mark, text: said, detail, object, fold } = one;
    PlanLine {
        step: text(step),
        mark: *mark,
        text: text(said),
        detail: detail.iter().map(hint).collect(),
        object: object.as_ref().map(thing),
        fold: *fold,
    }
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
    for field in &mut shown.fields {
        field.text = text(&field.text);
    }
    shown
}

/// The text as it is shown: cleaned, and with the words that start outrigger.
fn text(text: &str) -> String {
    as_called(&message::text(text))
}
