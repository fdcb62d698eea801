//! Whole outputs, compared with kept ones in `tests/snapshots`. `INSTA_UPDATE=always` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use super::run::{Cli, Home, Output};
use super::settled::settled;

/// The widths at which each output is kept.
pub const WIDTHS: [usize; 2] = [60, 100];

/// The snapshots that were compared in this process.
static COMPARED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

/// Whether outputs are compared: on the doubles. A real server words its refusals in its own way.
fn compares() -> bool {
    env!("CARGO_CRATE_NAME") != "real"
}

/// Compares the text with the snapshot of this name below `tests/snapshots`, such as `failures/OR0306`.
pub fn compare(name: &str, text: &str) {
    let path = folder().join(format!("{name}.snap"));
    let (folder, name) = (path.parent().expect("a folder"), path.file_stem().expect("a name"));
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let name = name.to_string_lossy().into_owned();
    settings.bind(|| insta::assert_snapshot!(name, text));
    COMPARED.lock().expect("no panic under the lock").insert(path);
}

/// Fails if a snapshot in these folders of `tests/snapshots` was not compared: it is of nothing any more. Those of
/// trials that cannot run here are `absent`.
pub fn assert_all_compared(folders: &[&str], absent: &[&str]) {
    let compared = COMPARED.lock().expect("no panic under the lock");
    let entries = folders.iter().flat_map(|name| std::fs::read_dir(folder().join(name)).expect("snapshots"));
    let kept = entries.map(|entry| entry.expect("an entry").path());
    let is_absent = |path: &Path| path.file_stem().is_some_and(|stem| absent.iter().any(|one| stem == *one));
    let stale: Vec<_> = kept.filter(|path| !compared.contains(path) && !is_absent(path)).collect();
    assert!(stale.is_empty(), "no test shows this any more: {stale:?}");
}

/// What is shown at each width, kept in one file.
pub struct Page {
    name: String,
    text: String,
}

impl Page {
    /// Of the snapshot of this name, without text.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), text: String::new() }
    }

    /// Adds what is shown at a width, which must fit.
    pub fn add(&mut self, columns: usize, shown: &str) {
        assert_fits(shown, columns);
        self.add_data(columns, shown);
    }

    /// Adds what is the same at each width: a file or a table.
    pub fn add_data(&mut self, columns: usize, shown: &str) {
        let _ = writeln!(self.text, "======== {columns} columns\n{}", settled(shown).trim_end());
    }

    /// Compares it with what was kept.
    pub fn compare(self) {
        compare(&self.name, &self.text);
    }
}

/// Several pages, of which each step of a story adds to one.
#[derive(Default)]
pub struct Pages(BTreeMap<String, Page>);

impl Pages {
    /// Runs a command, which must end with this code, at a width, and adds all that it shows to a page.
    pub fn add(&mut self, name: &str, columns: usize, code: i32, command: &Cli<'_>) {
        self.add_output(name, columns, &command.at(columns).run().code(code));
    }

    /// Adds all that a run showed at a width to a page.
    pub fn add_output(&mut self, name: &str, columns: usize, output: &Output) {
        self.of(name).add(columns, &whole(output));
    }

    /// The same for a command that prints a file or a table.
    pub fn add_data(&mut self, name: &str, columns: usize, command: &Cli<'_>) {
        let output = command.at(columns).run().code(0);
        assert_fits(&output.stderr(), columns);
        self.of(name).add_data(columns, &whole(&output));
    }

    fn of(&mut self, name: &str) -> &mut Page {
        self.0.entry(name.to_owned()).or_insert_with(|| Page::new(name))
    }

    /// Compares all of them.
    pub fn compare(self) {
        self.0.into_values().for_each(Page::compare);
    }
}

fn whole(output: &Output) -> String {
    let mut shown = output.stdout();
    if !output.stderr.is_empty() {
        let _ = write!(shown, "-------- stderr\n{}", output.stderr());
    }
    let code = output.code.expect("it ended by itself");
    shown + &format!("-------- exit {code}\n")
}

/// Fails if a line is wider than the columns, unless it is a command, which is for pasting, or ends in a path or an
/// address that has no room beside anything.
pub fn assert_fits(text: &str, columns: usize) {
    const COMMANDS: [&str; 6] = ["outrigger ", "kubectl ", "sudo ", "sh ", "chmod ", "scp "];
    // Names of steps and labels stand in so many columns.
    const HEAD: usize = 26;
    for line in text.lines().filter(|line| line.chars().count() > columns) {
        let said = line.trim();
        let last = said.rsplit(' ').next().unwrap_or_default();
        // A job's log is shown as it is.
        if said.contains(" │ ") || said.ends_with(" │") {
            continue;
        }
        let too_long = last == said || last.contains('/') && last.chars().count() + HEAD > columns;
        let whole = too_long || COMMANDS.iter().any(|command| said.starts_with(command));
        assert!(whole, "wider than {columns} columns: {line:?}\n{text}");
    }
}

/// The exit code of each failure, as `outrigger explain` lists them.
fn exit_of(id: &str) -> i32 {
    static EXITS: OnceLock<BTreeMap<String, i32>> = OnceLock::new();
    let exits = EXITS.get_or_init(|| {
        let home = Home::new();
        let listed = home.outrigger("explain").args(["-o", "json"]).run().code(0).json_lines();
        let failures = listed[0]["failures"].as_array().expect("a list").clone();
        let row = |one: serde_json::Value| {
            let exit = one["exit"].as_i64().and_then(|exit| i32::try_from(exit).ok());
            Some((one["id"].as_str()?.to_owned(), exit?))
        };
        failures.into_iter().filter_map(row).collect()
    });
    *exits.get(id).unwrap_or_else(|| panic!("{id} is not in the catalogue"))
}

/// Runs something that ends with this failure, at each width: with its exit code, and on the doubles with the messages
/// that are kept in `tests/snapshots/failures`. Gives the last output.
pub fn fails(id: &str, mut run: impl FnMut(usize) -> Output) -> Output {
    let mut page = Page::new(format!("failures/{id}"));
    let mut last = None;
    for columns in WIDTHS {
        let output = run(columns).code(exit_of(id));
        let said = output.stderr();
        assert!(said.contains(&format!("error {id}:")), "{id} was not raised\n{output}");
        if compares() {
            page.add(columns, &said);
        }
        last = Some(output);
    }
    if compares() {
        page.compare();
    }
    last.expect("there are widths")
}

impl Cli<'_> {
    /// [`fails`] for a command that fails each time in the same way.
    pub fn fails(&self, id: &str) -> Output {
        fails(id, |columns| self.at(columns).run())
    }

    /// The same command at a width.
    #[must_use]
    pub fn at(&self, columns: usize) -> Self {
        self.clone().env("COLUMNS", columns.to_string()).env("LANG", "C.UTF-8")
    }
}
