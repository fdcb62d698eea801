//! Renders events as text. Colour adds no information to words and glyphs.

use super::shown::shown;
use crate::base::error::Failure;
use crate::base::event::{Event, Fold, Mark, Outcome, PlanLine};
use crate::base::hint::{Command, Hint};
use crate::base::job_log::LogLine;
use crate::base::message;
use crate::base::text::{count, hang, human_duration, pad, width, wrap};

/// Columns of a step's name, with a gap after the longest one.
const STEP: usize = 20;

/// Renders events for a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Human {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether the terminal shows UTF-8.
    pub unicode: bool,
    /// Whether to use colour.
    pub colour: bool,
    /// Whether to list the steps that are in place, instead of their number.
    pub whole: bool,
}

impl Human {
    /// Wraps paragraphs, which are separated by empty lines, at the width of the terminal, at most 100 columns.
    pub fn prose(&self, text: &str) -> String {
        let columns = self.width.min(100);
        let paragraphs = text.trim_end().split("\n\n");
        let set =
            paragraphs.map(|paragraph| wrap(&paragraph.replace('\n', " "), columns, columns).join("\n"));
        set.collect::<Vec<_>>().join("\n\n") + "\n"
    }

    /// The text of an event with its line break; it may be empty.
    pub fn render(&self, event: &Event) -> String {
        let text = match &shown(event) {
            Event::Header { deployment, rows } => self.header(deployment, rows),
            Event::Plan { removes, lines, changes } => self.plan(removes.as_deref(), lines, *changes),
            Event::Busy { what, waited } if waited.is_zero() => hang("", what, self.width),
            Event::Busy { what, waited } => {
                hang("", &format!("{what}, {}", human_duration(*waited)), self.width)
            }
            Event::StepStarted { step } => self.step("…", "...", "2", step, "started"),
            Event::StepDone { step, fold: Fold::InPlace | Fold::NotNeeded, text, .. } => {
                self.step("=", "=", "2", step, text)
            }
            Event::StepWaiting { step, what, waited } => {
                let text = format!("waiting for {what}, {}", human_duration(*waited));
                self.step("…", "...", "2", step, &text)
            }
            Event::StepFailed { step, text } => self.step("✗", "x", "31", step, text),
            Event::Log { job, line } => self.log(job, line),
            Event::StepDone { step, text, .. } | Event::Undone { step, text } => {
                self.step("✔", "ok", "32", step, text)
            }
            Event::Check { name, outcome, text, detail } => self.check(name, *outcome, text, detail),
            Event::Warning { text } => self.lead("warning: ", "33", text),
            // The command is on its own line and not wrapped, for pasting.
            Event::Advice(hint) => {
                let command = hint.command.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{}    {command}\n", self.lead("warning: ", "33", &format!("{}:", hint.text)))
            }
            Event::Note { text } => hang("", text, self.width),
            Event::Next { lines } => self.next(lines),
            Event::Retry { what, wait, why } => {
                self.lead("retry: ", "2", &format!("{what} again in {} ({why})", human_duration(*wait)))
            }
            Event::Failed(failure) => self.failure(failure),
            Event::Request { method, host, path, status, took, sent, received } => {
                let status = status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
                let mut out = format!("{method} {path} {status}, {} ms, {host}\n", took.as_millis());
                for (mark, body) in [("> ", sent), ("< ", received)] {
                    out += &body.as_ref().map(|body| format!("  {mark}{body}\n")).unwrap_or_default();
                }
                out
            }
            Event::Pipeline { id, url } => hang("", &format!("pipeline {id}: {url}"), self.width),
            Event::Finished(end) => self.finished(end.exit, end.seconds, &end.text, &end.last),
        };
        if self.unicode { text } else { ascii(&text) }
    }

    /// The line of a running step for a spinner, without line break.
    pub fn running(&self, step: &str, text: &str) -> String {
        let line = format!("{}{}", pad(&message::text(step), STEP), message::text(text));
        let line = if self.unicode { line } else { ascii(&line) };
        console::truncate_str(&line, self.width.saturating_sub(4), "").trim_end().to_owned()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn step(&self, glyph: &str, plain: &str, code: &str, step: &str, text: &str) -> String {
        // Without UTF-8 a glyph can have three columns ("...").
        let glyph = if self.unicode { pad(glyph, 1) } else { pad(plain, 3) };
        let body = hang(&format!("{glyph} {}", pad(step, STEP)), text, self.width);
        let rest = body.strip_prefix(glyph.as_str()).unwrap_or_default();
        format!("{}{rest}", self.paint(code, &glyph))
    }

    /// A job's output: every line has a prefix, and is not wrapped.
    fn log(&self, job: &str, line: &LogLine) -> String {
        let bar = if self.unicode { "│" } else { "|" };
        let head = format!("  {job} {bar} ");
        let line = if self.colour { line.coloured().to_owned() } else { line.plain() };
        format!("{}{line}", self.paint("2", &head)).trim_end().to_owned() + "\n"
    }

    fn lead(&self, label: &str, code: &str, text: &str) -> String {
        let body = hang("", &format!("{label}{text}"), self.width);
        let label = label.trim_end();
        format!("{}{}", self.paint(code, label), body.strip_prefix(label).unwrap_or_default())
    }

    fn header(&self, deployment: &str, rows: &[(String, String, String)]) -> String {
        let rows: Vec<[&str; 3]> =
            rows.iter().map(|(a, b, c)| [a.as_str(), b.as_str(), c.as_str()]).collect();
        let widest = |at: usize| rows.iter().map(|row| width(row[at])).max().unwrap_or(0);
        let (label, source) = (widest(0), widest(2));
        // The sources are in their own column if most values leave room for it.
        let value = widest(1).min(46);
        let aligned = 2 + label + 3 + value + 3 + source <= self.width;
        let mut out = format!("{}\n", self.paint("1", deployment));
        for [name, text, from] in &rows {
            let head = format!("  {}   ", pad(name, label));
            let row = if from.is_empty() {
                hang(&head, text, self.width)
            } else if aligned && width(text) <= value {
                format!("{head}{}   {}\n", pad(text, value), self.paint("2", from))
            } else {
                hang(&head, &format!("{text} ({from})"), self.width)
            };
            out += &row;
        }
        out
    }

    /// The numbers of steps that are in place, and of those that are not needed; empty without any.
    pub fn folded(in_place: usize, not_needed: usize) -> String {
        match (in_place, not_needed) {
            (0, 0) => String::new(),
            (0, _) => format!("  {} not needed\n", count(not_needed, "step")),
            (_, 0) => format!("  {} in place\n", count(in_place, "step")),
            _ => format!("  {} in place, {not_needed} not needed\n", count(in_place, "step")),
        }
    }

    fn plan(&self, removes: Option<&str>, lines: &[PlanLine], changes: usize) -> String {
        let title = match removes {
            None => "Plan".to_owned(),
            Some(name) if changes == 0 => name.to_owned(),
            Some(name) => format!("This removes {name}"),
        };
        let mut out = format!("\n{}\n", self.paint("1", &title));
        let mut before = "";
        let (mut in_place, mut not_needed, mut rest) = (0, 0, lines);
        while let Some(first) = rest.first() {
            let end = rest.iter().position(|line| line.step != first.step).unwrap_or(rest.len());
            let step;
            (step, rest) = rest.split_at(end);
            // A teardown says of each object what becomes of it.
            if self.whole || removes.is_some() || step.iter().any(|line| line.fold == Fold::Never) {
                self.plan_lines(&mut out, &mut before, step);
            } else {
                let any = |fold| step.iter().any(|line| line.fold == fold);
                if any(Fold::InPlace) {
                    in_place += 1;
                } else {
                    not_needed += usize::from(any(Fold::NotNeeded));
                }
            }
        }
        out += &Self::folded(in_place, not_needed);
        out.push('\n');
        out
    }

    fn plan_lines<'a>(&self, out: &mut String, before: &mut &'a str, lines: &'a [PlanLine]) {
        for line in lines {
            let name = if line.step == *before { "" } else { &line.step };
            *before = &line.step;
            let glyph = line.mark.glyph(self.unicode);
            let gap = if self.unicode { pad(glyph, 2) } else { pad(glyph, 4) };
            let head = format!("  {}{gap}", pad(name, STEP));
            let word = if line.mark == Mark::Warning { "warning: " } else { "" };
            let body = hang(&head, &format!("{word}{}", line.text), self.width);
            *out += &match colour_of(line.mark) {
                Some(code) if self.colour => {
                    body.replacen(&format!(" {glyph} "), &format!(" {} ", self.paint(code, glyph)), 1)
                }
                _ => body,
            };
            let detail_indent = " ".repeat(if self.width >= width(&head) + 24 { width(&head) } else { 6 });
            for detail in &line.detail {
                *out += &self.hint(&detail_indent, detail);
            }
        }
    }

    /// Text, with the command below it. The command is not wrapped, for pasting, and less indented if it would not
    /// fit otherwise.
    fn hint(&self, indent: &str, hint: &Hint) -> String {
        let Some(command) = hint.command.as_ref().map(ToString::to_string) else {
            return hang(indent, &hint.text, self.width);
        };
        let words = match hint.text.as_str() {
            "" => String::new(),
            text => hang(indent, &format!("{text}:"), self.width),
        };
        let indent = if width(indent) + width(&command) <= self.width { indent } else { "    " };
        format!("{words}{indent}{command}\n")
    }

    fn check(&self, name: &str, outcome: Outcome, text: &str, detail: &[Hint]) -> String {
        let (glyph, plain, code) = match outcome {
            Outcome::Pass => ("✔", "ok", "32"),
            Outcome::Warn => ("!", "!", "33"),
            Outcome::Fail => ("✗", "x", "31"),
            Outcome::Skipped => ("-", "-", "2"),
        };
        let word = match outcome {
            Outcome::Warn => "warning: ",
            Outcome::Skipped => "skipped: ",
            Outcome::Pass | Outcome::Fail => "",
        };
        let mut out = self.step(glyph, plain, code, name, &format!("{word}{text}"));
        for line in detail {
            out += &self.hint(&" ".repeat(if self.width >= STEP + 26 { STEP + 2 } else { 6 }), line);
        }
        out
    }

    fn next(&self, lines: &[Hint]) -> String {
        let mut out = format!("\n{}\n", self.paint("1", "Next"));
        for Hint { text, command } in lines {
            let colon = if command.is_some() && !text.is_empty() { ":" } else { "" };
            if !text.is_empty() {
                out += &hang("  ", &format!("{text}{colon}"), self.width);
            }
            // Not wrapped, for pasting.
            out += &command.as_ref().map(|command| format!("    {command}\n")).unwrap_or_default();
        }
        out
    }

    fn failure(&self, failure: &Failure) -> String {
        let title = format!("error {}: ", failure.id);
        let mut out = format!("\n{}", self.lead(&title, "1;31", &failure.message));
        let mut rows: Vec<(&str, Hint)> =
            failure.details.iter().map(|(label, text)| (label.as_str(), text.as_str().into())).collect();
        let labels = std::iter::once("do this").chain(std::iter::repeat(""));
        rows.extend(labels.zip(failure.hints.iter().cloned()));
        rows.push(("more", Command::page(format!("explain {}", failure.id)).into()));
        let label = rows.iter().map(|(label, _)| width(label)).max().unwrap_or(0);
        for (name, hint) in rows {
            let head = format!("  {}   ", pad(name, label));
            let whole = hint.to_string();
            // A command is not wrapped, for pasting: it is on the line of its text, or below it.
            let row = match &hint.command {
                Some(command) if width(&head) + width(&whole) > self.width => {
                    let words = match (name, hint.text.as_str()) {
                        ("", "") => String::new(),
                        (_, "") => format!("  {name}\n"),
                        (_, text) => hang(&head, &format!("{text}:"), self.width),
                    };
                    format!("{words}    {command}\n")
                }
                Some(_) => format!("{head}{whole}\n"),
                None => hang(&head, &whole, self.width),
            };
            out += &row;
        }
        out
    }

    fn finished(&self, exit: u8, seconds: f64, text: &str, last: &str) -> String {
        // Without a text, stderr stays empty, because the output is on stdout.
        let tail = match exit {
            0 if text.is_empty() => String::new(),
            0 => format!("{seconds:.1} s in all."),
            _ => format!("    exit {exit}"),
        };
        let line = format!("{} {tail}", text.trim_end());
        let line = line.trim();
        let mut out = if line.is_empty() { String::new() } else { hang("", line, self.width) };
        if !last.is_empty() {
            // Not wrapped, because it may end in a command.
            out.push_str(last);
            out.push('\n');
        }
        out
    }
}

fn colour_of(mark: Mark) -> Option<&'static str> {
    match mark {
        Mark::Create => Some("32"),
        Mark::Update | Mark::Replace | Mark::Unknown | Mark::NotChecked | Mark::Warning | Mark::Unhealthy => {
            Some("33")
        }
        Mark::Remove | Mark::Release | Mark::Refuse => Some("31"),
        Mark::Keep | Mark::NotNeeded => None,
    }
}

/// Replaces the typographic characters of outrigger's own texts for terminals without UTF-8.
pub(crate) fn ascii(text: &str) -> String {
    text.replace('…', "...").replace(['–', '—'], "-").replace('→', "->").replace('✔', "ok").replace('✗', "x")
}
