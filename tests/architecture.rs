//! Who may use whom, read from the sources; and that everything said to follow from the list of steps
//! does follow from it. What clippy can enforce (`.clippy.toml`) is not repeated here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use outrigger::internal::Kind;
use outrigger::internal::STEPS;

/// The rooms from the ground up, and whom each may use. `lib.rs` and `main.rs` stand over all of them.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("x509", &["base"]),
    ("settings", &["base"]),
    ("deployment", &["base", "settings"]),
    ("cluster", &["base", "x509", "settings", "deployment"]),
    ("gitlab", &["base", "x509", "settings", "deployment"]),
    ("machine", &["base", "x509", "settings", "deployment"]),
    ("steps", &["base", "x509", "settings", "deployment", "cluster", "gitlab", "machine"]),
    ("engine", &["base", "settings", "deployment", "steps"]),
    ("output", &["base", "settings", "deployment"]),
    (
        "commands",
        &[
            "base",
            "x509",
            "settings",
            "deployment",
            "cluster",
            "gitlab",
            "machine",
            "steps",
            "engine",
            "output",
        ],
    ),
];

/// The uses that break the rule all the same. One that is no longer needed fails the test, too.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Where the name of a crate (or a part of std) may stand; a path that ends in `/` is a directory.
const CONFINED: &[(&str, &[&str])] = &[
    ("kube", &["src/cluster/"]),
    ("reqwest", &["src/gitlab/", "src/machine/lightsail/"]),
    ("rustls", &["src/x509/", "src/lib.rs", "src/cluster/connect.rs", "src/cluster/refusal.rs"]),
    ("tokio_rustls", &["src/x509/tls/"]),
    ("hyper_rustls", &["src/cluster/connect.rs"]),
    ("rustls_native_certs", &["src/x509/tls/"]),
    ("x509_parser", &["src/x509/"]),
    ("p521", &["src/x509/"]),
    ("minijinja", &["src/base/template.rs", "src/machine/"]),
    ("serde_saphyr", &["src/base/yaml.rs"]),
    // It only writes.
    ("serde_yaml", &["src/steps/contract.rs"]),
    // The wizard only asks whether a file can be read, before it takes its name for an answer.
    ("std::fs", &["src/base/files.rs", "src/commands/wizard/questions/answer.rs"]),
    ("tokio::fs", &[]),
    // Its themes draw the prompts; its own prompts lose keys and leave the terminal changed.
    ("dialoguer", &["src/commands/wizard/ask.rs"]),
    ("rustix::termios", &["src/commands/wizard/terminal.rs"]),
    ("indicatif", &["src/output/ui.rs"]),
    // The report only measures how wide text is.
    (
        "console",
        &["src/output/ui.rs", "src/commands/wizard/terminal.rs", "src/output/human.rs", "src/base/text.rs"],
    ),
    // Children are exec plugins, ssh, and what AWS's profiles name.
    ("std::process::Command", &[]),
    (
        "tokio::process",
        &["src/cluster/plugin.rs", "src/machine/ssh/mod.rs", "src/machine/lightsail/child.rs"],
    ),
    ("aws_config", &["src/machine/lightsail/"]),
    ("aws_credential_types", &["src/machine/lightsail/"]),
    ("aws_sigv4", &["src/machine/lightsail/sign.rs"]),
    ("aws_smithy_runtime_api", &["src/machine/lightsail/http.rs"]),
    ("aws_smithy_types", &["src/machine/lightsail/http.rs"]),
    ("aws_runtime", &["src/machine/lightsail/profile.rs"]),
    ("aws_smithy_async", &["src/machine/lightsail/credentials.rs"]),
    ("aws_types", &["src/machine/lightsail/profile.rs"]),
];

/// Nobody but the user interface writes to the terminal, nobody but `main` ends the process.
const BANNED: &[&str] =
    &["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!(", "process::exit", "process::abort"];

const TABLE: (&str, &str) = ("<!-- steps: begin -->\n", "<!-- steps: end -->");

struct Source {
    /// From the crate's root, for example `src/steps/mod.rs`.
    path: String,
    /// Without comments and without tests.
    code: String,
}

impl Source {
    /// `steps` for `src/steps/mod.rs`.
    fn module(&self) -> &str {
        let name = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        name.split('/').next().unwrap_or(name)
    }
}

fn root() -> PathBuf {
    // As cargo says it now, not as it was built: target directories are shared and moved.
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Leaves out what is no code, and the tests, which stand last in their file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut code = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let _ = writeln!(code, "{}", line.split(" // ").next().unwrap_or_default());
    }
    code
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(dir).expect("src can be listed") {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
                let text = read(&shown);
                let code = if shown.ends_with("tests.rs") { String::new() } else { code(&text) };
                found.push(Source { path: shown, code });
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("src"), &mut found);
    assert!(found.len() > 20, "the sources are somewhere else by now");
    found
}

/// The text after each occurrence of `word` that is not the end of a longer name.
fn after<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back();
        let part = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        (!part).then(|| &code[at + word.len()..])
    })
}

/// The first names behind a path's `::`, of one path or of a group in braces.
fn heads(rest: &str) -> Vec<&str> {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    match rest.strip_prefix('{') {
        None => vec![&rest[..name(rest)]],
        Some(group) => {
            let mut depth = 0;
            let mut heads = Vec::new();
            for piece in group.split_inclusive(['{', '}', ',']) {
                if depth == 0 {
                    let piece = piece.trim_start();
                    heads.push(&piece[..name(piece)]);
                }
                match piece.chars().next_back() {
                    Some('{') => depth += 1,
                    Some('}') if depth == 0 => break,
                    Some('}') => depth -= 1,
                    _ => {}
                }
            }
            heads.retain(|name| !name.is_empty());
            heads
        }
    }
}

/// Whom a room may use.
fn allowed(room: &str) -> &'static [&'static str] {
    let row = ROOMS.iter().find(|row| row.0 == room);
    row.unwrap_or_else(|| panic!("the room {room} is in no row of ROOMS")).1
}

/// Fails with all of them at once.
fn assert_none(what: &str, wrong: &BTreeSet<String>) {
    let list = wrong.iter().fold(String::new(), |list, line| list + "\n  " + line);
    assert!(wrong.is_empty(), "{what}:{list}");
}

#[test]
fn uses_go_down() {
    let (mut wrong, mut excepted) = (BTreeSet::new(), BTreeSet::new());
    for source in sources() {
        let from = source.module();
        if matches!(from, "lib" | "main") {
            continue;
        }
        for to in after(&source.code, "crate::").flat_map(heads).filter(|to| *to != from) {
            if allowed(from).contains(&to) {
                continue;
            }
            match EXCEPTIONS.iter().find(|row| **row == (source.path.as_str(), to)) {
                Some(row) => drop(excepted.insert(*row)),
                None => drop(wrong.insert(format!("(\"{}\", \"{to}\"),", source.path))),
            }
        }
        let depth = source.path.matches('/').count();
        let climbs = "super::".repeat(depth);
        if source.code.contains(&climbs) && depth > 1
            || depth == 1 && after(&source.code, "super::").next().is_some()
        {
            wrong.insert(format!("{} says super:: for crate::, which this test would not see", source.path));
        }
    }
    for (from, to) in EXCEPTIONS.iter().filter(|row| !excepted.contains(*row)) {
        wrong.insert(format!("{from} no longer uses {to}: take it out of EXCEPTIONS"));
    }
    assert_none("rooms use others beside or above them", &wrong);
}

#[test]
fn every_room_has_its_row() {
    let listed: Vec<&str> = ROOMS.iter().map(|row| row.0).collect();
    let sources = sources();
    let mut present: BTreeSet<&str> = sources.iter().map(Source::module).collect();
    present.retain(|module| !matches!(*module, "lib" | "main"));
    assert_eq!(present, listed.iter().copied().collect());
    // Each row uses rows above it alone: the rule has no circle.
    for (at, (room, uses)) in ROOMS.iter().enumerate() {
        for used in *uses {
            assert!(listed[..at].contains(used), "{room} uses {used}, which does not stand above it");
        }
    }
}

#[test]
fn steps_do_not_know_each_other() {
    let modules: Vec<String> = STEPS.iter().map(|step| step.info().name.replace('-', "_")).collect();
    let mut wrong = BTreeSet::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/steps/")) {
        if source.path == "src/steps/mod.rs" {
            continue;
        }
        let here = after(&source.code, "super::").chain(after(&source.code, "crate::steps::"));
        for other in here.flat_map(heads).filter(|name| modules.iter().any(|module| module == name)) {
            wrong.insert(format!("{} uses {other}", source.path));
        }
    }
    assert_none("steps use each other", &wrong);
}

#[test]
fn crates_stay_behind_their_modules() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for (name, places) in CONFINED {
            let (path, group) = name.rsplit_once("::").unwrap_or(("", name));
            let whole = after(&source.code, name).any(|rest| rest.starts_with("::") || rest.starts_with(';'));
            let called = !path.is_empty() && after(&source.code, name).next().is_some();
            let grouped = !path.is_empty()
                && after(&source.code, &format!("{path}::"))
                    .filter(|rest| rest.starts_with('{'))
                    .flat_map(heads)
                    .any(|head| head == group);
            let allowed = places.iter().any(|place| {
                source.path == *place || (place.ends_with('/') && source.path.starts_with(place))
            });
            if (whole || called || grouped) && !allowed {
                wrong.insert(format!("{} uses {name}", source.path));
            }
        }
    }
    assert_none("crates are used outside of the module that stands for them", &wrong);
}

#[test]
fn nobody_prints_or_exits() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for banned in BANNED.iter().filter(|banned| source.code.contains(**banned)) {
            wrong.insert(format!("{}: {banned}", source.path));
        }
    }
    assert_none("only ui.rs writes to the terminal, only main.rs ends the process", &wrong);
}

/// Who may print byte for byte, past `base::message`, and what.
const PRODUCTS: &[(&str, &str)] = &[
    (".product(", "src/output/ui.rs"),
    // The pages of the program itself.
    (".product(", "src/lib.rs"),
    (".product(", "src/commands/mod.rs"),
    ("write_product(", "src/commands/mod.rs"),
    // A JSON array, each of whose texts is cleaned.
    ("write_product(", "src/commands/list.rs"),
    // What steps print: script, manifests, certificates, pipeline file.
    ("write_product(", "src/commands/setup.rs"),
    ("write_product(", "src/commands/step.rs"),
    ("write_product(", "src/commands/print_commands.rs"),
    ("write_product(", "src/commands/uninstall.rs"),
];

#[test]
fn outside_text_has_one_way_onto_the_streams() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for call in [".product(", "write_product("] {
            if source.code.contains(call) && !PRODUCTS.contains(&(call, source.path.as_str())) {
                wrong.insert(format!("{} calls {call}…): reports go through Ui::lines", source.path));
            }
        }
    }
    assert_none("products are printed by those who make them", &wrong);
}

/// To index a JSON value for writing panics where it is no object: what a server sent is taken by `get_mut`.
#[test]
fn nothing_is_taken_out_of_an_answer_by_index() {
    let taken = |source: &Source| source.code.contains("\"].take()");
    let wrong = sources().iter().filter(|one| taken(one)).map(|one| one.path.clone()).collect();
    assert_none("get_mut(…).map(Value::take) does not panic", &wrong);
}

#[test]
fn every_step_is_a_file_and_a_subcommand() {
    let steps: Vec<&str> = STEPS.iter().map(|step| step.info().name).collect();
    let files: BTreeSet<String> = sources()
        .iter()
        .filter_map(|source| {
            let name = source.path.strip_prefix("src/steps/")?.strip_suffix(".rs")?;
            let name = name.split('/').next()?;
            Some(name.replace('_', "-"))
        })
        .filter(|name| {
            !["mod", "contract", "dry-runs", "prune"].contains(&name.as_str()) && !name.ends_with("-tests")
        })
        .collect();
    assert_eq!(files, steps.iter().map(|name| (*name).to_owned()).collect(), "files of src/steps and STEPS");

    let command = outrigger::internal::cli::command(&outrigger::internal::step_help());
    let subcommands: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let others = [
        "render",
        "rotate",
        "upgrade",
        "teardown",
        "status",
        "list",
        "config",
        "explain",
        "completion",
        "man",
        "version",
        "help",
    ];
    let expected: Vec<&str> = ["setup"].into_iter().chain(steps).chain(others).collect();
    assert_eq!(subcommands, expected, "subcommands and STEPS");
}

/// README's table, as the list has it.
fn table() -> String {
    let mut table = String::from("| # | subcommand | what it does |\n|---|---|---|\n");
    for (number, step) in STEPS.iter().enumerate() {
        let _ = writeln!(table, "| {} | `{}` | {} |", number + 1, step.info().name, step.info().about);
    }
    table
}

#[test]
fn the_readme_tells_the_steps() {
    let readme = read("README.md");
    let told = readme
        .split_once(TABLE.0)
        .and_then(|(_, rest)| rest.split_once(TABLE.1))
        .map(|(told, _)| told)
        .expect("README.md has both markers");
    let table = table();
    assert!(told == table, "README.md's table is not the list of steps; this is:\n{table}");
}

/// The names of all tests and trials, read from the sources: functions after `#[test]` or tokio's, also those within
/// `proptest!`, and first members of pairs in the lists of trials.
fn tests() -> BTreeSet<String> {
    fn walk(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("it can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let name = |rest: &str| -> String {
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
                };
                let marks = ["#[test]", "#[tokio::test]", "#[tokio::test("];
                for (at, mark) in marks.iter().flat_map(|mark| text.match_indices(mark)) {
                    let rest = &text[at + mark.len()..];
                    found.extend(rest.split_once("fn ").map(|(_, rest)| name(rest)));
                }
                for line in text.lines().filter_map(|line| line.strip_prefix("    (\"")) {
                    // A name and a function, not just any pair.
                    if line[name(line).len()..].starts_with("\", ") && line.ends_with("),") {
                        found.insert(name(line));
                    }
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&root().join("src"), &mut found);
    walk(&root().join("tests"), &mut found);
    assert!(found.len() > 300, "the tests are somewhere else by now");
    found
}

#[test]
fn every_threat_has_tests_that_exist() {
    let page = read("SECURITY.md");
    let (_, table) = page.split_once("<!-- threats: begin -->\n").expect("the table begins");
    let (table, _) = table.split_once("<!-- threats: end -->\n").expect("the table ends");
    let tests = tests();
    let mut wrong = BTreeSet::new();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() > 10, "the table has a row for each threat");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [asset, attacker, _, shown] = cells.as_slice() else { panic!("four columns: {row}") };
        let names: Vec<&str> = shown.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            wrong.insert(format!("{asset} / {attacker}: {name:?}"));
        }
    }
    assert_none("SECURITY.md names tests that are not there", &wrong);
}

#[test]
fn the_readme_tells_the_exit_codes() {
    let readme = read("README.md");
    let told: BTreeSet<&str> = readme
        .lines()
        .skip_while(|line| *line != "## Exit codes")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|code| code.parse::<u8>().is_ok())
        .collect();
    let kinds = [
        Kind::Unclassified,
        Kind::Usage,
        Kind::Refused,
        Kind::Denied,
        Kind::Partial,
        Kind::Locked,
        Kind::Foreign,
        Kind::Deadline,
        Kind::Proof,
        Kind::Pending,
        Kind::Interrupted,
        Kind::Terminated,
    ];
    let codes: Vec<String> = kinds.iter().map(|kind| kind.exit_code().to_string()).collect();
    let codes: BTreeSet<&str> = codes.iter().map(String::as_str).chain(["0"]).collect();
    assert_eq!(told, codes);
}

#[test]
fn ci_runs_the_two_commands_of_the_readme() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for (documented, run) in [
        ("cargo run --example article", "cargo run --locked --example article"),
        ("cargo test --workspace", "cargo test --workspace --locked"),
    ] {
        assert!(readme.contains(documented), "README.md lacks: {documented}");
        assert!(ci.contains(run), ".ci/run lacks: {run}");
    }
}
