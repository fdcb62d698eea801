//! Renders events as JSON lines with a fixed order of fields: schema and type come first.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::shown::shown;
use crate::base::event::Event;
use crate::base::hint::Hint;
use crate::base::message::is_hostile;

const SCHEMA: &str = "outrigger/1.0";

/// [`line`] with the type and the fields of an event.
macro_rules! entry {
    ($kind:literal, $($name:literal: $value:expr),+ $(,)?) => {
        line($kind, &[$(($name, json!($value))),+])
    };
}

/// One line with its line break.
pub fn render(event: &Event) -> String {
    match &shown(event) {
        Event::Header { deployment, rows } => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(label, value, from)| json!({"label": label, "value": value, "source": from}))
                .collect();
            entry!("header", "deployment": deployment, "rows": rows)
        }
        Event::Plan { lines, changes } => {
            let lines: Vec<_> = lines
                .iter()
                .map(|l| {
                    let detail = each(&l.detail);
                    json!({"step": l.step, "action": l.mark.word(), "text": l.text, "detail": detail})
                })
                .collect();
            entry!("plan", "changes": changes, "lines": lines)
        }
        Event::StepStarted { step } => entry!("step-started", "step": step),
        Event::StepDone { step, changed, text, .. } => {
            entry!("step-done", "step": step, "changed": changed, "text": text)
        }
        Event::StepWaiting { step, what, waited } => {
            entry!("step-waiting", "step": step, "what": what, "waitedSeconds": waited.as_secs())
        }
        Event::StepFailed { step, text } => entry!("step-failed", "step": step, "text": text),
        Event::Check { name, outcome, text, detail } => {
            entry!("check", "name": name, "outcome": outcome.word(), "text": text, "detail": each(detail))
        }
        Event::Warning { text } => entry!("warning", "text": text),
        Event::Advice(hint) => {
            let command = hint.command.as_ref().map(ToString::to_string).unwrap_or_default();
            entry!("warning", "text": hint.text, "command": command)
        }
        Event::Note { text } => entry!("note", "text": text),
        Event::Next { lines } => {
            // A command is a separate entry.
            let lines: Vec<_> = lines
                .iter()
                .flat_map(|Hint { text, command }| {
                    let colon = if command.is_some() { ":" } else { "" };
                    let words = (!text.is_empty()).then(|| format!("{text}{colon}"));
                    words.into_iter().chain(command.as_ref().map(ToString::to_string))
                })
                .collect();
            entry!("next", "lines": lines)
        }
        Event::Retry { what, wait, why } => {
            entry!("retry", "what": what, "waitSeconds": wait.as_secs_f64(), "why": why)
        }
        Event::Log { job, line: text } => entry!("log", "job": job, "text": text.plain()),
        Event::Undone { step, text } => entry!("undone", "step": step, "text": text),
        Event::Failed(failure) => {
            let details: Vec<_> =
                failure.details.iter().map(|(label, text)| json!({"label": label, "text": text})).collect();
            entry!(
                "failed",
                "id": failure.id.code(),
                "kind": format!("{:?}", failure.kind).to_lowercase(),
                "message": failure.message,
                "details": details,
                "hints": each(&failure.hints),
                "exit": failure.kind.exit_code(),
            )
        }
        Event::Finished { exit, changed, seconds, text, last } => {
            let text = if last.is_empty() { text.clone() } else { format!("{text}\n{last}") };
            let seconds = (seconds * 1000.0).round() / 1000.0;
            entry!("finished", "exit": exit, "changed": changed, "seconds": seconds, "text": text)
        }
    }
}

fn each(hints: &[Hint]) -> Vec<String> {
    hints.iter().map(ToString::to_string).collect()
}

/// A line with a page: the answer of a command about outrigger itself, which has no other line.
pub(crate) fn page(kind: &str, fields: &[(&str, Value)]) -> String {
    line(kind, fields)
}

/// A line with data that is written to stdout unchanged in the human format.
pub(crate) fn data(content: &str) -> String {
    entry!("data", "content": content)
}

fn line(kind: &str, fields: &[(&str, Value)]) -> String {
    let mut out = format!(r#"{{"schema":"{SCHEMA}","type":"{kind}""#);
    for (name, value) in fields {
        let _ = write!(out, r#","{name}":{value}"#);
    }
    out += "}\n";
    harmless(&out)
}

/// Escapes the other hostile characters, because JSON requires escapes only for C0: the line is safe for a terminal,
/// and its texts are unchanged.
fn harmless(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if is_hostile(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}
