//! Events as JSON lines. Field order is fixed: schema and type first.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::shown::shown;
use crate::base::event::Event;
use crate::base::hint::Hint;
use crate::base::message::is_hostile;

const SCHEMA: &str = "outrigger/1.0";

/// One event as one line of JSON, newline included.
pub fn render(event: &Event) -> String {
    match &shown(event) {
        Event::Header { deployment, rows } => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(label, value, from)| json!({"label": label, "value": value, "source": from}))
                .collect();
            line("header", &[("deployment", json!(deployment)), ("rows", json!(rows))])
        }
        Event::Plan { lines, changes } => {
            let lines: Vec<_> = lines
                .iter()
                .map(|l| {
                    let detail = each(&l.detail);
                    json!({"step": l.step, "action": l.mark.word(), "text": l.text, "detail": detail})
                })
                .collect();
            line("plan", &[("changes", json!(changes)), ("lines", json!(lines))])
        }
        Event::StepStarted { step } => line("step-started", &[("step", json!(step))]),
        Event::StepDone { step, changed, text, .. } => {
            line("step-done", &[("step", json!(step)), ("changed", json!(changed)), ("text", json!(text))])
        }
        Event::StepWaiting { step, what, waited } => line(
            "step-waiting",
            &[("step", json!(step)), ("what", json!(what)), ("waitedSeconds", json!(waited.as_secs()))],
        ),
        Event::StepFailed { step, text } => {
            line("step-failed", &[("step", json!(step)), ("text", json!(text))])
        }
        Event::Check { name, outcome, text, detail } => line(
            "check",
            &[
                ("name", json!(name)),
                ("outcome", json!(outcome.word())),
                ("text", json!(text)),
                ("detail", json!(each(detail))),
            ],
        ),
        Event::Warning { text } => line("warning", &[("text", json!(text))]),
        Event::Advice(hint) => {
            let command = hint.command.as_ref().map(ToString::to_string).unwrap_or_default();
            line("warning", &[("text", json!(hint.text)), ("command", json!(command))])
        }
        Event::Note { text } => line("note", &[("text", json!(text))]),
        Event::Next { lines } => {
            // A command has an entry of its own.
            let lines: Vec<_> = lines
                .iter()
                .flat_map(|Hint { text, command }| {
                    let colon = if command.is_some() { ":" } else { "" };
                    let words = (!text.is_empty()).then(|| format!("{text}{colon}"));
                    words.into_iter().chain(command.as_ref().map(ToString::to_string))
                })
                .collect();
            line("next", &[("lines", json!(lines))])
        }
        Event::Retry { what, wait, why } => line(
            "retry",
            &[("what", json!(what)), ("waitSeconds", json!(wait.as_secs_f64())), ("why", json!(why))],
        ),
        Event::Log { job, line: text } => line("log", &[("job", json!(job)), ("text", json!(text.plain()))]),
        Event::Undone { step, text } => line("undone", &[("step", json!(step)), ("text", json!(text))]),
        Event::Failed(failure) => {
            let details: Vec<_> =
                failure.details.iter().map(|(label, text)| json!({"label": label, "text": text})).collect();
            line(
                "failed",
                &[
                    ("id", json!(failure.id.code())),
                    ("kind", json!(format!("{:?}", failure.kind).to_lowercase())),
                    ("message", json!(failure.message)),
                    ("details", json!(details)),
                    ("hints", json!(each(&failure.hints))),
                    ("exit", json!(failure.kind.exit_code())),
                ],
            )
        }
        Event::Finished { exit, changed, seconds, text, last } => line(
            "finished",
            &[
                ("exit", json!(exit)),
                ("changed", json!(changed)),
                ("seconds", json!((seconds * 1000.0).round() / 1000.0)),
                ("text", json!(if last.is_empty() { text.clone() } else { format!("{text}\n{last}") })),
            ],
        ),
    }
}

fn each(hints: &[Hint]) -> Vec<String> {
    hints.iter().map(ToString::to_string).collect()
}

/// Data that would have gone to stdout as it is.
pub(crate) fn data(content: &str) -> String {
    line("data", &[("content", json!(content))])
}

fn line(kind: &str, fields: &[(&str, Value)]) -> String {
    let mut out = format!(r#"{{"schema":"{SCHEMA}","type":"{kind}""#);
    for (name, value) in fields {
        let _ = write!(out, r#","{name}":{value}"#);
    }
    out += "}\n";
    harmless(&out)
}

/// JSON escapes C0 only; whatever else could steer a terminal is escaped here, so that a line can
/// be looked at, and still holds the very text.
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
