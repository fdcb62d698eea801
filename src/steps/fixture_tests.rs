//! What the tables of decisions are built from: a run, what is remembered, live objects, and the rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::commands::cli;
use crate::deployment::names::Names;
use crate::deployment::notes::Notes;
use crate::deployment::object::Object;
use crate::deployment::plan::Line;
use crate::deployment::record::Record;
use crate::deployment::run::Run;
use crate::settings::{Inputs, resolve, run_options};
use crate::steps::contract::{Decided, Deciding, Forecast, Step};

/// The deployment's id in all tables.
pub const ID: &str = "1d";

/// All that a decision depends on beside what is seen.
pub struct World {
    pub run: Run,
    pub record: Record,
    /// The deployment's ServiceAccount, as it was read.
    pub anchor: Option<Object>,
    pub forecast: Forecast,
}

/// A row: its name, the flags of setup, what differs from the base, and the lines that follow: the decision (with
/// `!` for a notable one and `~` for a covered one), what is done or the name of the failure, and after a colon
/// words between bars that the line holds, or `=` and all that it says.
pub type Row<S> = (&'static str, &'static [&'static str], fn(&mut World, &mut S), &'static [&'static str]);

impl World {
    /// The deployment `demo` with these flags of setup, at the beginning of 2026, and an empty record.
    pub fn new(flags: &[&str]) -> Self {
        let words = ["outrigger", "setup", "--deployment", "demo"].iter().chain(flags).map(Into::into);
        let (_, matches) = cli::parse(words.collect(), &[]).expect("flags of setup");
        let env = BTreeMap::new();
        let home = Some(PathBuf::from("/home/me"));
        let inputs = Inputs { matches: &matches, env: &env, file: None, noted: None, home };
        let settings = resolve(&inputs, |_, _| Ok(BTreeMap::new())).expect("settings");
        let names = Names::of(&settings);
        let run = Run {
            job_account: names.job_account().name,
            names,
            settings,
            options: run_options(&matches, &env).expect("options"),
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            nonce: "0000abcd".to_owned(),
            alone: false,
            parts: Vec::new(),
        };
        let record = Record { deployment: "demo".to_owned(), id: ID.to_owned(), ..Record::default() };
        Self { run, record, anchor: None, forecast: Forecast::default() }
    }

    /// An object as the server has it, and as the record has it: ours.
    pub fn ours(&mut self, object: &Object) -> Object {
        let live = live(object);
        self.record.own(&live.reference, live.uid());
        live
    }

    /// Hands over what decisions get.
    pub fn deciding<T>(&self, decide: impl FnOnce(&Deciding<'_>) -> T) -> T {
        let notes = Notes::new(self.record.clone(), true);
        notes.see_anchor(self.anchor.as_ref());
        decide(&Deciding { run: &self.run, notes: &notes, forecast: &self.forecast })
    }
}

/// An object as the server has it.
pub fn live(object: &Object) -> Object {
    let mut live = object.clone();
    live.value["metadata"]["uid"] = json!(format!("uid-{}", object.reference.name));
    live.value["metadata"]["resourceVersion"] = json!("7");
    live
}

/// Lets its deletion have begun.
pub fn terminate(object: &mut Object) {
    object.value["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:59:00Z");
}

/// Lets it be another one of the same name.
pub fn replace(object: &mut Object) {
    object.value["metadata"]["uid"] = json!("another");
}

/// Holds `decide` against a table.
pub fn table<S: Step>(
    step: &S,
    base: fn(&mut World) -> S::Seen,
    act: fn(&S::Act) -> String,
    rows: &[Row<S::Seen>],
) {
    table_of(base, rows, |world, seen| {
        let Decided { lines, .. } = world.deciding(|d| step.decide(d, seen));
        lines.iter().map(|line| told(line, act)).collect()
    });
}

/// Holds `decide_undo` against a table.
pub fn undo_table<S: Step>(
    step: &S,
    base: fn(&mut World) -> S::Seen,
    act: fn(&S::Undo) -> String,
    rows: &[Row<S::Seen>],
) {
    table_of(base, rows, |world, seen| {
        world.deciding(|d| step.decide_undo(d, seen)).iter().map(|line| told(line, act)).collect()
    });
}

fn table_of<S>(
    base: fn(&mut World) -> S,
    rows: &[Row<S>],
    decide: impl Fn(&World, &S) -> Vec<(String, String)>,
) {
    let mut wrong = Vec::new();
    for (name, flags, change, expected) in rows {
        let mut world = World::new(flags);
        let mut seen = base(&mut world);
        change(&mut world, &mut seen);
        let told = decide(&world, &seen);
        let holds = |(told, expected): (&(String, String), &&str)| {
            let (head, words) = expected.split_once(": ").unwrap_or((expected, ""));
            let has = |word: &str| match word.strip_prefix('=') {
                Some(all) => told.1 == all,
                None => told.1.contains(word),
            };
            told.0 == head && words.split(" | ").all(has)
        };
        if told.len() != expected.len() || !told.iter().zip(*expected).all(holds) {
            let lines: Vec<_> = told.iter().map(|(head, text)| format!("{head}: {text}")).collect();
            wrong.push(format!(
                "\n{name}\n  expected\n    {}\n  decided\n    {}\n",
                expected.join("\n    "),
                lines.join("\n    ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

/// A line's head, and all that it says.
fn told<A>(line: &Line<A>, act: fn(&A) -> String) -> (String, String) {
    let mut head = format!("{:?}", line.decision);
    head += if line.notable { "!" } else { "" };
    head += if line.covered { "~" } else { "" };
    let failure = line.failure.as_ref();
    for what in [line.act.as_ref().map(act), failure.map(|failure| format!("{:?}", failure.id))] {
        head += &what.map(|what| format!(" {what}")).unwrap_or_default();
    }
    let mut text = vec![line.text.clone()];
    text.extend(line.detail.iter().map(ToString::to_string));
    if let Some(failure) = failure {
        text.extend(failure.details.iter().map(|(label, text)| format!("{label}: {text}")));
        text.extend(failure.hints.iter().map(ToString::to_string));
    }
    (head, text.join(" | "))
}
