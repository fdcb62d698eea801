//! Renders events as JSON lines with a fixed order of fields: schema, time and type come first.
//!
//! `docs/schemas/events.json` describes each line; the tests validate every line against it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::shown::shown;
use crate::base::error::{Failure, Field};
use crate::base::event::{End, Event, PlanLine, Summary, Thing};
use crate::base::hint::Hint;
use crate::base::message::is_hostile;

const SCHEMA: &str = "outrigger/2.0";

/// [`line`] with the type and the fields of an event.
macro_rules! entry {
    ($now:expr, $kind:literal, $($name:literal: $value:expr),+ $(,)?) => {
        line($now, $kind, &[$(($name, json!($value))),+])
    };
}

/// One line with its line break, at this time.
pub fn render(event: &Event, now: Timestamp) -> String {
    match &shown(event) {
        Event::Header { deployment, rows } => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(label, value, from)| json!({"label": label, "value": value, "source": from}))
                .collect();
            entry!(now, "header", "deployment": deployment, "rows": rows)
        }
        Event::Plan { removes, lines, changes } => {
            let lines: Vec<_> = lines.iter().map(plan_line).collect();
            entry!(now, "plan", "removes": removes, "changes": changes, "lines": lines)
        }
        Event::Busy { what, waited } => entry!(now, "busy", "what": what, "waitedSeconds": waited.as_secs()),
        Event::StepStarted { step } => entry!(now, "step-started", "step": step),
        Event::StepDone { step, changed, text, .. } => {
            entry!(now, "step-done", "step": step, "changed": changed, "text": text)
        }
        Event::StepWaiting { step, what, waited } => {
            entry!(now, "step-waiting", "step": step, "what": what, "waitedSeconds": waited.as_secs())
        }
        Event::StepFailed { step, text } => entry!(now, "step-failed", "step": step, "text": text),
        Event::Check { name, outcome, text, detail } => {
            let detail = each(detail);
            entry!(now, "check", "name": name, "outcome": outcome.word(), "text": text, "detail": detail)
        }
        Event::Warning { text } => entry!(now, "warning", "text": text, "command": Value::Null),
        Event::Advice(hint) => {
            let command = hint.command.as_ref().map(ToString::to_string);
            entry!(now, "warning", "text": hint.text, "command": command)
        }
        Event::Note { text } => entry!(now, "note", "text": text),
        Event::Next { lines } => entry!(now, "next", "next": next(lines)),
        Event::Retry { what, wait, why } => {
            entry!(now, "retry", "what": what, "waitSeconds": wait.as_secs_f64(), "why": why)
        }
        Event::Request { method, host, path, status, took, sent, received } => entry!(
            now,
            "request",
            "method": method,
            "host": host,
            "path": path,
            "status": status,
            "milliseconds": milliseconds(*took),
            "sent": sent,
            "received": received,
        ),
        Event::Pipeline { id, url } => entry!(now, "pipeline", "id": id, "url": url),
        Event::Log { job, line: text } => entry!(now, "log", "job": job, "text": text.plain()),
        Event::Undone { step, text } => entry!(now, "undone", "step": step, "text": text),
        Event::Failed(failure) => error(failure, now),
        Event::Finished(end) => result(end, now),
    }
}

/// The fields of a plan's line that are about changes, for a document of its own.
pub(crate) fn plan_fields(event: &Event) -> Vec<(&'static str, Value)> {
    match &shown(event) {
        Event::Plan { lines, changes, .. } => vec![
            ("changes", json!(changes)),
            ("lines", json!(lines.iter().map(plan_line).collect::<Vec<_>>())),
        ],
        _ => Vec::new(),
    }
}

/// A document: the fields after schema and type, without a time, so that the same state gives the same text.
pub(crate) fn document(kind: &str, fields: &[(&str, Value)]) -> String {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default().replace('\n', "\n  ");
    let mut out = format!("{{\n  \"schema\": \"{SCHEMA}\",\n  \"type\": \"{kind}\"");
    for (name, value) in fields {
        let _ = write!(out, ",\n  \"{name}\": {}", text(value));
    }
    out += "\n}\n";
    harmless(&out)
}

fn plan_line(line: &PlanLine) -> Value {
    json!({
        "step": line.step,
        "action": line.mark.word(),
        "object": line.object.as_ref().map(thing),
        "text": line.text,
        "detail": each(&line.detail),
    })
}

fn thing(Thing { kind, namespace, name }: &Thing) -> Value {
    json!({"kind": kind, "namespace": some(namespace), "name": name})
}

fn error(failure: &Failure, now: Timestamp) -> String {
    let is_field = |label: &String| failure.fields.iter().any(|field| field.label == *label);
    let causes: Vec<_> = failure
        .details
        .iter()
        .filter(|(label, _)| !is_field(label))
        .map(|(label, text)| json!({"label": label, "text": text}))
        .collect();
    entry!(
        now,
        "error",
        "id": failure.id.code(),
        "kind": format!("{:?}", failure.kind).to_lowercase(),
        "exit": failure.kind.exit_code(),
        "message": failure.message,
        "causes": causes,
        "next": next(&failure.hints),
        "fields": failure.fields.iter().map(field).collect::<Vec<_>>(),
    )
}

fn field(field: &Field) -> Value {
    json!({
        "problem": if field.missing { "missing" } else { "invalid" },
        "flag": field.flag,
        "environment": field.variable,
        "key": field.key,
        "text": field.text,
    })
}

fn result(end: &End, now: Timestamp) -> String {
    let of = |value: fn(&Summary) -> Value| end.deployment.as_ref().map_or(Value::Null, value);
    entry!(
        now,
        "result",
        "exit": end.exit,
        "status": end.status.iter().map(|status| status.word()).collect::<Vec<_>>(),
        "changed": end.changed,
        "seconds": (end.seconds * 1000.0).round() / 1000.0,
        "text": end.text,
        "reminder": some(&end.last),
        "deployment": of(|one| json!(one.deployment)),
        "context": of(|one| json!(some(&one.context))),
        "namespaces": of(|one| json!({"runner": one.runner_namespace, "jobs": one.namespace})),
        "runner": of(|one| one.runner.map_or(Value::Null, |id| json!({"id": id, "url": one.runner_url}))),
        "script": of(|one| json!(one.script)),
        "tokenExpires": of(|one| json!(one.token_expires)),
        "pipeline": end.pipeline,
        "left": of(|one| json!(one.left.as_ref().map(|left| left.iter().map(thing).collect::<Vec<_>>()))),
        "errors": end.errors,
        "warnings": end.warnings,
    )
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Instructions; a command is in a field of its own.
fn next(hints: &[Hint]) -> Vec<Value> {
    let one = |Hint { text, command }: &Hint| json!({"text": some(text), "command": command.as_ref().map(ToString::to_string)});
    hints.iter().map(one).collect()
}

fn each(hints: &[Hint]) -> Vec<String> {
    hints.iter().map(ToString::to_string).collect()
}

/// A line with a page: the answer of a command about outrigger itself, which has no other line.
pub(crate) fn page(kind: &str, fields: &[(&str, Value)], now: Timestamp) -> String {
    line(now, kind, fields)
}

/// A line with data that is written to stdout unchanged in the human format.
pub(crate) fn data(content: &str, now: Timestamp) -> String {
    entry!(now, "data", "content": content)
}

fn line(now: Timestamp, kind: &str, fields: &[(&str, Value)]) -> String {
    let mut out = format!(r#"{{"schema":"{SCHEMA}","time":"{now:.3}","type":"{kind}""#);
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
