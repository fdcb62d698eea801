//! Fixtures of the decide tables: a run, the record, live objects, and the rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::base::endpoint::Endpoint;
use crate::cluster::endpoint_ca::Trust;
use crate::commands::cli;
use crate::deployment::names::Names;
use crate::deployment::notes::Notes;
use crate::deployment::object::Object;
use crate::deployment::plan::Line;
use crate::deployment::record::Record;
use crate::deployment::run::Run;
use crate::gitlab::pipeline::State;
use crate::settings::{Inputs, resolve, run_options};
use crate::steps::contract::{Decided, Deciding, Forecast, Step};

/// The deployment's id.
pub const ID: &str = "1d";

/// The inputs of a decision besides the observation.
pub struct World {
    pub run: Run,
    pub record: Record,
    /// The deployment's ServiceAccount.
    pub anchor: Option<Object>,
    pub forecast: Forecast,
}

/// A row: its name, the flags of setup, the change of the base, and the expected lines. A line is the decision (with
/// `!` for a notable and `~` for a covered one), the act or the failure's name, and after a colon, separated by ` | `,
/// texts that the line contains, or `=` and its whole text.
pub type Row<S> = (&'static str, &'static [&'static str], fn(&mut World, &mut S), &'static [&'static str]);

impl World {
    /// The deployment `demo` with these flags of setup on 2026-01-01, and an empty record.
    pub fn new(flags: &[&str]) -> Self {
        let words = ["outrigger", "setup", "--deployment", "demo"].iter().chain(flags).map(Into::into);
        let (_, matches) = cli::parse(words.collect(), &[]).expect("flags of setup");
        let env = BTreeMap::new();
        let home = Some(PathBuf::from("/home/me"));
        let inputs =
            Inputs { matches: &matches, env: &env, file: None, noted: None, asked: BTreeMap::new(), home };
        let settings = resolve(&inputs, |_, _| Ok(BTreeMap::new())).expect("settings");
        let names = Names::of(&settings);
        let run = Run {
            job_account: names.job_account().name,
            names,
            settings,
            options: run_options(&matches, &env).0,
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            nonce: "0000abcd".to_owned(),
            alone: false,
            parts: Vec::new(),
            rotate: Vec::new(),
            upgrade: false,
        };
        let record = Record { deployment: "demo".to_owned(), id: ID.to_owned(), ..Record::default() };
        Self { run, record, anchor: None, forecast: Forecast::default() }
    }

    /// A live object that the record has as the deployment's.
    pub fn ours(&mut self, object: &Object) -> Object {
        let live = live(object);
        self.record.own(&live.reference, live.uid());
        live
    }

    /// Calls `decide` with these inputs.
    pub fn deciding<T>(&self, decide: impl FnOnce(&Deciding<'_>) -> T) -> T {
        let notes = Notes::new(self.record.clone(), true);
        notes.see_anchor(self.anchor.as_ref());
        decide(&Deciding { run: &self.run, notes: &notes, forecast: &self.forecast })
    }
}

/// The object with a uid and a resourceVersion.
pub fn live(object: &Object) -> Object {
    let mut live = object.clone();
    live.value["metadata"]["uid"] = json!(format!("uid-{}", object.reference.name));
    live.value["metadata"]["resourceVersion"] = json!("7");
    live
}

/// Sets a deletionTimestamp.
pub fn terminate(object: &mut Object) {
    object.value["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:59:00Z");
}

/// Makes it another object of the same name.
pub fn replace(object: &mut Object) {
    object.value["metadata"]["uid"] = json!("another");
}

/// The system's roots verify the endpoint.
pub fn trust() -> Trust {
    Trust {
        endpoint: Endpoint::parse("https://k.test:6443", "it").expect("a URL"),
        ca_pem: None,
        fingerprint: String::new(),
        days_left: 90,
        source: "the system".to_owned(),
        members: 0,
        left_out: 0,
        unproven: None,
        warnings: Vec::new(),
    }
}

/// There is no pipeline file on `main`, and the user may push.
pub fn pipeline_state() -> State {
    State {
        project: 7,
        path: ".gitlab-ci.yml".to_owned(),
        branch: "main".to_owned(),
        head: Some("0123456789abcdef".to_owned()),
        start: None,
        may_push: true,
        protected: false,
        present: None,
        wanted: String::new(),
        lint: Some((Vec::new(), Vec::new())),
        tags_only: false,
    }
}

/// Checks `decide` against a table.
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

/// Checks `decide_undo` against a table.
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

/// A line's decision and act, and its whole text.
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
