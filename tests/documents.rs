//! What the documents say is true as far as a machine can tell: links lead somewhere, commands and flags exist, failure
//! ids and messages are those of the sources, and every failure is raised by a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use outrigger::internal::{cli, permissions, step_help};

/// Programs whose flags are not outrigger's.
const OTHERS: &[&str] = &[
    "apt",
    "aws",
    "az",
    "cargo",
    "cloud-localds",
    "doctl",
    "gcloud",
    "gitlab-runner",
    "go",
    "hcloud",
    "kubectl",
    "oc",
    "openstack",
    "rm",
    "scp",
    "ssh",
    "UPDATE_SESSION=1",
];

/// Failures that no run of the binary in a test ends with, each with the reason.
const NOT_RAISED: &[(&str, &str)] = &[
    ("OR0101", "the system's random numbers or the TLS library fail"),
    (
        "OR0104",
        "a request to GitLab that a signal stopped before it was sent: the signal's own failure is shown",
    ),
    ("OR0309", "a no at a terminal: shown as a sentence, without the id"),
    (
        "OR0507",
        "a guard for steps to come: the one step that decides again names the binding that the plan announced",
    ),
    ("OR0710", "a template of outrigger's own does not render"),
    ("OR1001", "no failure: what exit code 10 means, for which nothing is printed as an error"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|one| one == extension) {
            found.push(path);
        }
    }
}

/// The text of all files with this extension below these directories, but for this one.
fn text_of(dirs: &[&str], extension: &str) -> String {
    let mut found = Vec::new();
    for dir in dirs {
        files(&root().join(dir), extension, &mut found);
    }
    found.retain(|path| !path.ends_with(file!()));
    found.iter().map(|path| fs::read_to_string(path).expect("text") + "\n").collect()
}

/// A document, taken apart.
struct Document {
    /// From the crate's root.
    name: String,
    /// Without fenced blocks.
    prose: String,
    /// The lines of fenced blocks that are commands or output, not files.
    lines: Vec<String>,
}

impl Document {
    /// The inline code; a line break in it counts as a space.
    fn spans(&self) -> Vec<String> {
        self.prose
            .split("\n\n")
            .flat_map(|paragraph| {
                let paragraph = paragraph.replace('\n', " ");
                paragraph
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .map(|span| span.replace("\\|", "|"))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The commands: lines of blocks without their comment, and spans.
    fn commands(&self) -> Vec<String> {
        let lines =
            self.lines.iter().map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned());
        let own = |one: String| one.split(['|', '>']).next().unwrap_or_default().trim().to_owned();
        lines.chain(self.spans()).filter(|one| one.starts_with("outrigger ")).map(own).collect()
    }
}

fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md"].iter().map(|name| root().join(name)).collect();
    files(&root().join("docs"), "md", &mut paths);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a document");
        let (mut prose, mut lines) = (String::new(), Vec::new());
        for (number, part) in text.split("```").enumerate() {
            match part.split_once('\n') {
                Some((language, block)) if number % 2 == 1 && ["", "sh"].contains(&language) => {
                    // A command over several lines is one.
                    lines.extend(block.replace("\\\n", " ").lines().map(str::to_owned));
                }
                _ if number % 2 == 1 => {}
                _ => prose += part,
            }
        }
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        Document { name, prose, lines }
    };
    paths.into_iter().map(read).collect()
}

fn assert_none(what: &str, wrong: &BTreeSet<String>) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.iter().cloned().collect::<Vec<_>>().join("\n  "));
}

/// The anchors of a document's headings, as GitLab and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    for document in documents() {
        let dir = root().join(&document.name).parent().expect("a directory").to_owned();
        for link in document.prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            count += 1;
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { root().join(&document.name) } else { dir.join(file) };
            let is_there = path.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&path).expect("text")).contains(anchor));
            if !is_there {
                wrong.insert(format!("{}: {link}", document.name));
            }
        }
    }
    assert!(count > 10, "the documents have links");
    assert_none("links that lead nowhere", &wrong);
}

#[test]
fn files_that_are_named_exist() {
    let mut wrong = BTreeSet::new();
    for document in documents() {
        for span in document.spans() {
            let is_source = ["rs", "txt", "sh"]
                .iter()
                .any(|end| span.rsplit_once('.').is_some_and(|(path, is)| is == *end && path.contains('/')));
            let is_path = span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            let below = ["src/", "tests/", "docs/", "examples/", "templates/", ".ci/"];
            if !is_path
                || span.starts_with("target/")
                || !(is_source || below.iter().any(|dir| span.starts_with(dir)))
            {
                continue;
            }
            if ![root().join(&span), root().join("src").join(&span)].iter().any(|path| path.exists()) {
                wrong.insert(format!("{}: {span}", document.name));
            }
        }
    }
    assert_none("files that are not there", &wrong);
}

#[test]
fn commands_are_accepted() {
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    for document in documents() {
        for command in document.commands() {
            count += 1;
            let args = command.split_whitespace().map(Into::into).collect();
            // Help is an error without an exit code, as in clap.
            if let Err(error) = cli::parse(args, &step_help())
                && error.exit_code() != 0
            {
                let why = error.to_string();
                wrong.insert(format!(
                    "{}: {command}: {}",
                    document.name,
                    why.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(count > 30, "the documents have commands");
    assert_none("commands that outrigger does not accept", &wrong);
}

/// The flags in a text, such as `--dry-run`.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.len() > 2 && word.starts_with("--") && !word.starts_with("---"))
}

#[test]
fn flags_exist() {
    let root = cli::command(&step_help());
    let known: BTreeSet<String> = root
        .get_subcommands()
        .chain([&root])
        .flat_map(clap::Command::get_arguments)
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .chain(["--help".to_owned(), "--version".to_owned()])
        .collect();
    let mut wrong = BTreeSet::new();
    for document in documents() {
        for code in document.spans().into_iter().chain(document.lines.iter().cloned()) {
            let program = code.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
            if OTHERS.contains(&program) {
                continue;
            }
            for flag in flags(&code).filter(|flag| !known.contains(*flag)) {
                wrong.insert(format!("{}: {flag} in {code}", document.name));
            }
        }
    }
    assert_none("flags that outrigger does not have", &wrong);
}

/// The pages of `outrigger explain` name commands without quotes: a subcommand and the flag behind it.
#[test]
fn commands_of_the_explain_pages_are_accepted() {
    let pages = fs::read_to_string(root().join("src/output/explain.txt")).expect("the pages");
    let command = cli::command(&step_help());
    let words: Vec<&str> =
        pages.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ':', ')'])).collect();
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    for pair in words.windows(2) {
        let Some(subcommand) = command.find_subcommand(pair[0]) else { continue };
        if let Some(flag) = pair[1].strip_prefix("--") {
            count += 1;
            if !command
                .get_arguments()
                .chain(subcommand.get_arguments())
                .any(|arg| arg.get_long() == Some(flag))
            {
                wrong.insert(pair.join(" "));
            }
        }
    }
    assert!(count > 10, "the pages name commands");
    assert_none("commands of src/output/explain.txt that outrigger does not accept", &wrong);
}

/// Name and code of each failure.
fn failures() -> Vec<(String, String)> {
    let catalogue = fs::read_to_string(root().join("src/base/catalogue.rs")).expect("the catalogue");
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("    ")?.split_once(" = \"OR")?;
        Some((name.to_owned(), format!("OR{}", rest.get(..4)?)))
    };
    let rows: Vec<_> = catalogue.lines().filter_map(row).collect();
    assert!(rows.len() > 90, "the catalogue is somewhere else by now");
    rows
}

#[test]
fn failures_that_are_named_exist() {
    let known: BTreeSet<String> = failures().into_iter().map(|(_, code)| code).collect();
    let mut wrong = BTreeSet::new();
    for document in documents() {
        let text = document.prose.clone() + &document.lines.join("\n");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        for code in words.filter(|word| word.len() == 6 && word.starts_with("OR") && !known.contains(*word)) {
            wrong.insert(format!("{}: {code}", document.name));
        }
    }
    assert_none("failures that are not in the catalogue", &wrong);
}

#[test]
fn the_readme_quotes_messages_that_exist() {
    // The catalogue's titles are those of the pages; runs say more.
    let catalogue = fs::read_to_string(root().join("src/base/catalogue.rs")).expect("the catalogue");
    let sources = text_of(&["src"], "rs").replace(&catalogue, "");
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, table) = readme.split_once("<!-- failures: begin -->\n").expect("the table begins");
    let (table, _) = table.split_once("<!-- failures: end -->\n").expect("the table ends");
    let mut wrong = BTreeSet::new();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() > 10, "the table has the frequent failures");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [says, _, more] = cells.as_slice() else { panic!("three columns: {row}") };
        let quotes = says.split('`').skip(1).step_by(2);
        wrong.extend(quotes.filter(|quote| !sources.contains(*quote)).map(str::to_owned));
        assert!(more.trim().starts_with("`outrigger explain OR"), "{row}");
    }
    assert_none("README.md quotes messages that outrigger does not have", &wrong);
}

/// Output in README is in blocks marked `text`, and stands in the printed session.
#[test]
fn the_readme_shows_output_of_the_session() {
    let session = fs::read_to_string(root().join("examples/session.txt")).expect("examples/session.txt");
    let known: BTreeSet<&str> = session.lines().collect();
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let blocks = readme.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 5, "README.md shows output");
    let wrong = lines.iter().filter(|line| !known.contains(**line)).map(|line| (*line).to_owned()).collect();
    assert_none("output in README.md that is not in examples/session.txt", &wrong);
}

#[test]
fn every_permission_has_its_row() {
    let page = fs::read_to_string(root().join("docs/gitlab-token.md")).expect("the page");
    let (_, table) = page.split_once("<!-- permissions: begin -->\n").expect("the table begins");
    let (table, _) = table.split_once("<!-- permissions: end -->\n").expect("the table ends");
    let rows: BTreeSet<String> =
        table.lines().skip(2).map(|row| row.split(" | ").take(3).collect::<Vec<_>>().join(" | ")).collect();
    let wanted: BTreeSet<String> = permissions::all()
        .map(|one| format!("| {} | {} | {}", one.name, one.boundary, one.purpose))
        .collect();
    assert_none("rows that docs/gitlab-token.md lacks", &wanted.difference(&rows).cloned().collect());
    assert_none("rows of permissions that are not used", &rows.difference(&wanted).cloned().collect());
}

/// A scenario names the failure that it expects (`fails("OR0306")`), and what is shown then is kept at two widths. The
/// doubles fail for a snapshot that no scenario compared.
#[test]
fn every_failure_is_raised_by_a_test() {
    let tests = text_of(&["tests"], "rs");
    let mut wrong = BTreeSet::new();
    for (name, code) in failures() {
        let is_raised = tests.contains(&format!("fails(\"{code}\""));
        let is_kept = root().join(format!("tests/snapshots/failures/{code}.snap")).exists();
        let is_exempt = NOT_RAISED.iter().any(|(exempt, _)| *exempt == code);
        match (is_exempt, is_raised, is_kept) {
            (true, false, false) | (false, true, true) => {}
            (true, ..) => drop(wrong.insert(format!("{code} {name} is raised after all"))),
            (false, false, _) => drop(wrong.insert(format!("{code} {name} is raised by no scenario"))),
            (false, true, false) => drop(wrong.insert(format!("{code} {name} has no snapshot"))),
        }
    }
    assert_none("failures without a test", &wrong);
}

/// The codes of README's table, which `tests/architecture.rs` compares with the kinds.
#[test]
fn every_exit_code_is_expected_by_a_test() {
    let tests = text_of(&["tests/scenarios"], "rs");
    let is_expected = |code: &&str| {
        [format!(".code({code})"), format!("Some({code}) =>"), format!("Signal::TERM, {code}")]
            .iter()
            .any(|one| tests.contains(one))
    };
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, table) = readme.split_once("## Exit codes\n").expect("the table");
    let (table, _) = table.split_once("\n## ").expect("another section");
    let codes: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|code| code.parse::<u8>().is_ok())
        .collect();
    assert!(codes.len() > 10, "{codes:?}");
    let missing = codes.iter().filter(|code| !is_expected(code)).map(|code| (*code).to_owned()).collect();
    assert_none("exit codes that no scenario expects", &missing);
}
