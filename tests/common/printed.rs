//! The commands that outrigger prints. Every run of the real binary in every tier goes through [`check`]: what a
//! person would paste is made of words that a shell, clap and kubectl know, with paths that are valid everywhere.
//! `tests/pasted.rs` in the scenarios pastes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use outrigger::internal::{Inputs, cli, resolve, step_help};

use super::run::Output;

/// A command with what is printed above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub above: String,
    pub line: String,
}

/// What a printed command begins with.
const PROGRAMS: &[&str] = &["outrigger", "kubectl", "oc", "ssh", "scp", "chmod", "rm", "glab"];

/// The words in capitals that a user replaces. All but the host have to be named in the line above.
const PLACEHOLDERS: &[&str] = &["USER@HOST", "PATH", "FILE"];

/// kubectl's flags for every verb, and those of each verb that is printed.
const KUBECTL: &[(&str, &[&str])] = &[
    ("", &["--kubeconfig", "--context", "--as", "--as-group", "-n"]),
    ("annotate", &["--overwrite"]),
    ("apply", &["-f"]),
    ("config", &["--raw", "--minify", "--flatten", "--certificate-authority", "--embed-certs"]),
    ("create", &["--clusterrole", "--user"]),
    ("delete", &[]),
    ("describe", &[]),
    ("get", &["-o"]),
    ("label", &["--overwrite"]),
    ("version", &[]),
];

/// All commands on both streams, as text or as JSON lines, in order.
#[must_use]
pub fn printed(output: &Output) -> Vec<Printed> {
    let mut found = Vec::new();
    for text in [output.stdout(), output.stderr()] {
        let mut above = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(line) {
                strings(&value, &mut |text| take(text, true, &mut above, &mut found));
            } else {
                take(line, false, &mut above, &mut found);
            }
        }
    }
    found
}

/// Every text in a JSON value but a command's product.
fn strings(value: &serde_json::Value, each: &mut dyn FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => text.lines().for_each(each),
        serde_json::Value::Array(all) => all.iter().for_each(|one| strings(one, each)),
        // What clap says of a command's form, and products.
        serde_json::Value::Object(fields) if fields.get("label") == Some(&"usage".into()) => {}
        serde_json::Value::Object(fields) if fields.get("type") != Some(&"data".into()) => {
            // A command comes behind its text.
            let (commands, texts): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| *name == "command");
            texts.into_iter().chain(commands).for_each(|(_, one)| strings(one, each));
        }
        _ => {}
    }
}

/// A command stands alone on an indented line, behind the label of a row, or behind the colon of its text.
fn take(line: &str, bare: bool, above: &mut String, found: &mut Vec<Printed>) {
    // What clap says of a command's form.
    if line.trim_start().starts_with("Usage:") {
        return;
    }
    let starts = line.match_indices(": ").map(|(at, gap)| at + gap.len());
    let label = ["more", "do this"].iter().filter_map(|label| {
        let rest = line.strip_prefix("  ")?.strip_prefix(label)?;
        (rest.starts_with("  ")).then(|| line.len() - rest.trim_start().len())
    });
    let indented = line.len() - line.trim_start().len();
    let alone = (bare || indented >= 4).then_some(indented);
    let command = alone
        .into_iter()
        .chain(label)
        .chain(starts)
        .map(|at| line.split_at(at))
        .find(|(_, rest)| is_command(rest));
    if let Some((text, command)) = command {
        let above = format!("{} {}", std::mem::take(above), text.trim());
        // As much as belongs to it at most.
        let above = above.chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
        found.push(Printed { above, line: command.trim_end().to_owned() });
        return;
    }
    // Text can be wrapped.
    above.push(' ');
    above.push_str(line.trim());
}

/// The command line, which takes milliseconds to build and is asked for with each printed line.
fn root() -> &'static clap::Command {
    static ROOT: OnceLock<clap::Command> = OnceLock::new();
    ROOT.get_or_init(|| cli::command(&step_help()))
}

/// Not prose that begins with the name of a program.
fn is_command(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (program, second, third) = (words.next(), words.next().unwrap_or_default(), words.next());
    match program {
        Some("outrigger") if root().find_subcommand(second).is_some() || second == "help" => true,
        Some("outrigger") => third.is_some_and(|word| word.starts_with("--")),
        Some("kubectl") => second.starts_with('-') || KUBECTL.iter().any(|(verb, _)| *verb == second),
        program => program.is_some_and(|program| PROGRAMS.contains(&program)) && !second.is_empty(),
    }
}

/// Flags of `setup` that decide what a command does. The others repeat what a run was given.
const DECISIVE: &[&str] = &[
    "--accept",
    "--commit-pipeline",
    "--dry-run",
    "--force-conflicts",
    "--only",
    "--reissue",
    "--run-pipeline",
    "--target",
    "--token-lifetime",
    "--use-namespace",
];

/// Shapes of commands that no scenario of the doubles pastes, with the reason.
const NOT_PASTED: &[(&str, &str)] = &[
    ("kubectl config set-cluster", "only the real kubectl writes a kubeconfig"),
    ("kubectl version", "it shows what outrigger showed: a server that cannot be reached"),
    ("oc new-project", "OpenShift's client and its projects are in no tier"),
    (
        "outrigger setup --commit-pipeline",
        "it is a part of --commit-pipeline --run-pipeline, which is pasted",
    ),
    ("scp", "it copies to a host of the user"),
    ("ssh", "it runs the script on a host of the user"),
];

/// Commands of the sources that no run of the doubles prints, with the reason.
const NOT_PRINTED: &[(&str, &str)] = &[
    ("outrigger --help", "errors of the command line are in tests/command_line.rs"),
    (
        "outrigger setup --reissue all",
        "a script that is due and gone, while launch-script is left out: decided in a table of run-script",
    ),
    ("outrigger setup --replace-entry", "entries that somebody edited are on machines that boot"),
    ("outrigger launch-script --target", "it is a part of the page that --print-commands prints"),
    ("aws configure sso", "it is AWS's own tool, named in a sentence"),
    ("aws sts get-caller-identity", "it is AWS's own tool, named in a sentence"),
    ("aws sts get-caller-identity --profile", "it is AWS's own tool, named in a sentence"),
    ("kubectl config view", "kubeconfigs without a usable user are in tests/kubectl"),
    (
        "kubectl config view --raw --minify --flatten",
        "kubeconfigs without a usable user are in tests/kubectl",
    ),
];

/// What a command is about: its program, its subcommand, and the flags that decide what it does.
#[must_use]
pub fn shape(line: &str) -> String {
    shape_in(&[], line)
}

/// The shape of what a run printed. What the run was given may be repeated, and is then not what the command is about.
fn shape_in(given: &[String], line: &str) -> String {
    let words = words(line.split_once(" > ").map_or(line, |(line, _)| line));
    let mut about = vec![words[0].clone()];
    match words[0].as_str() {
        "outrigger" => {
            about.push(words[1].clone());
            let setup = root().find_subcommand("setup").expect("it is a subcommand");
            let is_whole = words.iter().any(|word| word == "--non-interactive");
            let is_given = |flag: &str| {
                let is_step = flag.ends_with("-pipeline");
                let is = |word: &String| {
                    let is_old_name = word.starts_with("--accept-") || word.starts_with("--allow-");
                    word == flag || flag == "--accept" && is_old_name
                };
                (is_whole || !is_step) && given.iter().any(is)
            };
            let mut flags: Vec<&str> = words[2..]
                .iter()
                .filter_map(|word| word.split('=').next().filter(|flag| flag.starts_with("--")))
                .filter(|flag| {
                    let is_of_setup = setup.get_arguments().any(|known| known.get_long() == Some(&flag[2..]));
                    DECISIVE.contains(flag) && !is_given(flag) || !is_of_setup
                })
                .collect();
            flags.sort_unstable();
            flags.dedup();
            about.extend(flags.into_iter().map(str::to_owned));
        }
        "kubectl" => {
            let mut rest = words[1..].iter();
            let mut plain = Vec::new();
            while let Some(word) = rest.next() {
                if KUBECTL[0].1.contains(&word.as_str()) || word == "-o" {
                    rest.next();
                } else if !word.starts_with('-') {
                    plain.push(word.clone());
                }
            }
            // The kind of object matters for what is made.
            let any_kind = ["get", "describe", "delete", "version"].contains(&plain[0].as_str());
            about.extend(plain.into_iter().take(if any_kind { 1 } else { 2 }));
        }
        "oc" => about.extend(words.get(1).cloned()),
        _ => {}
    }
    about.join(" ")
}

/// Shapes that runs of this process printed, with one command of each and where it was printed.
static PRINTED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
/// The lines themselves.
static LINES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// Shapes that scenarios of this process pasted.
static PASTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes that a printed line was run as it stands.
pub fn pasted(line: &str) {
    PASTED.lock().expect("no panic under the lock").insert(shape(line));
}

/// The fixed words of the commands that the sources of outrigger contain as text.
fn in_sources() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_test = path.to_string_lossy().ends_with("tests.rs");
            let text = if is_test { String::new() } else { fs::read_to_string(&path).unwrap_or_default() };
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (kind, rest) in text.split("Command::").skip(1).filter_map(|part| part.split_once('(')) {
                let program = match kind {
                    "outrigger" | "page" | "again" => "outrigger",
                    "teardown" => "outrigger teardown",
                    "kubectl" => "kubectl",
                    "Whole" => "",
                    _ => continue,
                };
                let rest = rest.trim_start();
                let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
                let Some((words, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                    continue;
                };
                let fixed =
                    words.split(' ').take_while(|word| *word != ">").filter(|word| !word.contains('{'));
                let words: Vec<&str> =
                    program.split(' ').chain(fixed).filter(|word| !word.is_empty()).collect();
                found.insert(words.join(" "));
            }
        }
    }
    found
}

/// What is wrong after a run of all scenarios: shapes of commands that were printed and that none pasted, commands of
/// the sources that were not printed, and exceptions that are none.
#[must_use]
pub fn not_pasted() -> Vec<String> {
    let (printed, pasted) = (PRINTED.lock().expect("no panic"), PASTED.lock().expect("no panic"));
    let is_excepted = |shape: &str| NOT_PASTED.iter().any(|(known, _)| *known == shape);
    let missing = printed.iter().filter(|(shape, _)| !pasted.contains(*shape) && !is_excepted(shape));
    let mut wrong: Vec<String> =
        missing.map(|(shape, where_)| format!("no scenario pastes {shape:?}: {where_}")).collect();
    let lines = LINES.lock().expect("no panic under the lock");
    let is_printed = |command: &str| {
        let holds = |line: &String| command.split(' ').all(|word| line.split(' ').any(|other| other == word));
        lines.iter().any(holds)
    };
    let sources = in_sources();
    assert!(sources.len() > 25, "the commands of the sources are not found: {sources:?}");
    for command in sources {
        let is_excepted = NOT_PRINTED.iter().any(|(known, _)| *known == command);
        if !is_excepted && !is_printed(&command) {
            wrong.push(format!("{command:?} of the sources is printed by no run"));
        }
    }
    for (shape, _) in NOT_PASTED {
        if pasted.contains(*shape) || !printed.contains_key(*shape) {
            wrong.push(format!("{shape:?} is no exception: it is pasted, or never printed"));
        }
    }
    wrong
}

/// Fails, naming the command, if a run printed one that cannot be pasted.
pub fn check(arguments: &[OsString], output: &Output) {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let given: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    // Their product is a script or a page, and not one command.
    let is_product = |word: &String| ["--print-commands", "--uninstall", "help"].contains(&word.as_str());
    if given.iter().any(is_product) {
        return;
    }
    for one in printed(output) {
        let kind = format!("{} {one:?}", given.join(" ")).replace(|c: char| c.is_ascii_digit(), "0");
        if !SEEN.lock().expect("no panic under the lock").insert(kind) {
            continue;
        }
        if let Err(why) = judge(&given, &one) {
            panic!("a printed command cannot be pasted: {why}\n{one:#?}\n{output}");
        }
        LINES.lock().expect("no panic under the lock").insert(one.line.clone());
        let example = format!("{} (by {})", one.line, given.join(" "));
        let shape = shape_in(&given, &one.line);
        PRINTED.lock().expect("no panic under the lock").entry(shape).or_insert(example);
    }
}

/// The words, as a real shell splits the line.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let script = format!("words() {{ printf '%s\\0' \"$@\"; }}\nwords {line}");
    let output = Command::new("/bin/sh").args(["-e", "-c", &script]).env_clear().output().expect("a shell");
    let text = String::from_utf8(output.stdout).expect("words are text");
    assert!(output.status.success() && output.stderr.is_empty(), "no shell takes {line:?}");
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn judge(given: &[String], one: &Printed) -> Result<(), String> {
    let (line, file) = one.line.split_once(" > ").unwrap_or((&one.line, ""));
    if !file.is_empty() && file != "role.yaml" {
        return Err(format!("it writes to {file}"));
    }
    let words = words(line);
    for word in &words {
        let name = word.rsplit('=').next().unwrap_or_default().trim_end_matches(':');
        let is_placeholder = name.len() > 2
            && !["admin", "ID"].contains(&name)
            && name.chars().all(|c| c.is_ascii_uppercase() || c == '@')
            || (word.starts_with('<') && word.ends_with('>'));
        if is_placeholder && !PLACEHOLDERS.contains(&name) {
            return Err(format!("{name} is no documented placeholder"));
        }
        if is_placeholder && name != "USER@HOST" && !one.above.contains(name) {
            return Err(format!("the line above does not say what {name} is"));
        }
    }
    match words[0].as_str() {
        "outrigger" => ours(given, one, &words),
        "kubectl" => kubectl(given, &words),
        _ => Ok(()),
    }
}

fn value<'a>(words: &'a [String], flag: &str) -> Option<&'a str> {
    words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)).map(String::as_str)
}

fn ours(given: &[String], one: &Printed, words: &[String]) -> Result<(), String> {
    let arguments = words.iter().map(OsString::from).collect();
    let parsed = match cli::parse(arguments, &step_help()) {
        Ok((_, matches)) => matches,
        Err(help) if !help.use_stderr() => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if ["explain", "help"].contains(&words[1].as_str()) {
        return Ok(());
    }
    let env = BTreeMap::from([("HOME".to_owned(), "/home/x".to_owned())]);
    let inputs = Inputs {
        matches: &parsed,
        env: &env,
        file: None,
        noted: None,
        asked: BTreeMap::default(),
        home: Some("/home/x".into()),
    };
    resolve(&inputs, |_, _| Ok(BTreeMap::new())).map_err(|failure| format!("{failure:?}"))?;
    for (at, flag) in words.iter().enumerate() {
        let is_path = flag.ends_with("-file")
            || ["--kubeconfig", "--config", "--state-dir", "--script", "--runner-config"]
                .contains(&flag.as_str());
        if let Some(path) = words.get(at + 1).filter(|_| is_path)
            && !path.starts_with('/')
            && path != "-"
            && !PLACEHOLDERS.contains(&path.as_str())
        {
            return Err(format!("{flag} {path} depends on the directory"));
        }
    }
    // Without this cluster, or this machine.
    let without = ["--cluster-gone", "--uninstall"].iter().any(|flag| words.iter().any(|word| word == flag))
        || one.above.contains("from a machine without a record");
    for flag in ["--deployment", "--kubeconfig", "--context", "--as", "--as-group", "--state-dir"] {
        let needed = match flag {
            "--deployment" => words[1] != "list",
            "--state-dir" => {
                !one.above.contains("from a machine without a record")
                    && !words.contains(&"--uninstall".to_owned())
            }
            _ => words[1] != "list" && !without,
        };
        if needed && value(given, flag).is_some() && value(words, flag).is_none() {
            return Err(format!("the run was given {flag}, and it is not"));
        }
    }
    Ok(())
}

fn kubectl(given: &[String], words: &[String]) -> Result<(), String> {
    let mut verb = None;
    let mut rest = words[1..].iter();
    let mut used = Vec::new();
    while let Some(word) = rest.next() {
        if word.starts_with('-') {
            let flag = word.split('=').next().unwrap_or_default();
            used.push(flag.to_owned());
            if ["--kubeconfig", "--context", "--as", "--as-group", "-n", "-o", "-f"].contains(&flag)
                && flag == word
            {
                rest.next();
            }
        } else {
            verb = verb.or(Some(word.as_str()));
        }
    }
    let verb = verb.ok_or("it has no verb")?;
    let (_, own) = KUBECTL.iter().find(|(known, _)| *known == verb).ok_or(format!("kubectl {verb}?"))?;
    for flag in &used {
        if !own.contains(&flag.as_str()) && !KUBECTL[0].1.contains(&flag.as_str()) {
            return Err(format!("kubectl {verb} has no {flag}"));
        }
    }
    // An administrator's kubectl is not the operator's, and "the one kubectl uses" is not the given one.
    let of_others = verb == "apply"
        || words.iter().any(|word| word.ends_with("-bootstrap"))
        || (verb == "config" && words.iter().any(|word| word == "view"));
    for flag in ["--kubeconfig", "--context", "--as", "--as-group"] {
        if !of_others && value(given, flag).is_some() && !used.iter().any(|word| word == flag) {
            return Err(format!("the run was given {flag}, and it is not"));
        }
    }
    match value(words, "--kubeconfig") {
        Some(path) if !path.starts_with('/') => Err(format!("--kubeconfig {path} depends on the directory")),
        _ => Ok(()),
    }
}
