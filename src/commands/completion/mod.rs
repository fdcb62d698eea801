//! `outrigger completion SHELL`: scripts that ask outrigger for the candidates of each word, so that the scripts do
//! not change with the commands.
//!
//! The scripts call `outrigger __complete WORDS…`, the last word being the one to complete. The first line of the
//! answer is `words`, `files` or `dirs`: candidates with their descriptions follow, or the shell completes names of
//! files or directories. Candidates come from the engine of `clap_complete`. The scripts of that crate are not used,
//! because they break a word at `:` and `@`, and names of contexts contain both.
//!
//! Completing contacts no server, runs no program and writes no file.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};

use crate::base::error::{Id, Result};
use crate::cluster::{self, Selection};
use crate::commands::help::TOPICS;
use crate::commands::session::Outside;
use crate::commands::{Ended, cli, step_help, write_page};
use crate::deployment::record::Record;
use crate::settings::{Kind, OPTIONS, RunOptions, SETTINGS, check};

/// The shells and their scripts.
pub const SHELLS: [(&str, &str); 3] = [
    ("bash", include_str!("outrigger.bash")),
    ("zsh", include_str!("outrigger.zsh")),
    ("fish", include_str!("outrigger.fish")),
];

/// The long help of the command.
pub const LONG: &str = "\
Print a completion script for a shell. It completes commands, flags and their choices, and from this machine contexts, \
deployments, steps and failure ids. Completing contacts no server.

To load it in every new shell:
  bash   add to ~/.bashrc:
         source <(outrigger completion bash)
  zsh    add to ~/.zshrc, after compinit:
         source <(outrigger completion zsh)
  fish   outrigger completion fish \\
           > ~/.config/fish/completions/outrigger.fish";

/// Answers of completers that leave it to the shell.
const FILES: &str = "files";
const DIRS: &str = "dirs";

/// Prints the script of a shell.
pub fn script(outside: &Outside<'_>, shell: &str) -> Result<Ended> {
    let script = SHELLS.iter().find(|(name, _)| *name == shell).map_or("", |(_, script)| script);
    write_page(outside, script, "completion", &[("text", serde_json::json!(script))])
}

/// Prints the candidates for the last of the words.
pub async fn complete(outside: &mut Outside<'_>, mut words: Vec<OsString>) -> Result<Ended> {
    words.insert(0, "outrigger".into());
    if words.len() == 1 {
        words.push(OsString::new());
    }
    let known = Known::here(outside, &words).await;
    let mut command = with_candidates(cli::command(&step_help()), &known);
    let last = words.len() - 1;
    let found = clap_complete::engine::complete(&mut command, words, last, None).unwrap_or_default();
    write_page(outside, &answer(&found), "candidates", &[])
}

/// The lines that the scripts read.
fn answer(found: &[CompletionCandidate]) -> String {
    let value = |one: &CompletionCandidate| one.get_value().to_string_lossy().into_owned();
    if let [one] = found {
        // The engine puts the flag of `--flag=` in front.
        let value = value(one);
        let kind = value.rsplit_once('=').map_or(value.as_str(), |(_, kind)| kind);
        if [FILES, DIRS].contains(&kind.trim_start_matches(MARK)) && kind.starts_with(MARK) {
            return format!("{}\n", kind.trim_start_matches(MARK));
        }
    }
    let line = |one: &CompletionCandidate| {
        let help = one.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        let gap = if help.is_empty() { "" } else { "\t" };
        format!("{}{gap}{help}\n", value(one))
    };
    // One in which a line break or an invisible character hides is not offered.
    let found = found.iter().filter(|one| check::text(&one.get_value().to_string_lossy()).is_ok());
    "words\n".to_owned() + &found.map(line).collect::<String>()
}

/// No word of a command line begins with it.
const MARK: char = '\u{1}';

/// What is completed from this machine.
#[derive(Default)]
struct Known {
    contexts: Vec<String>,
    deployments: Vec<String>,
}

impl Known {
    /// Reads the kubeconfig and the records, if the last word is a context or a deployment. Nothing is completed from
    /// what cannot be read.
    async fn here(outside: &mut Outside<'_>, words: &[OsString]) -> Self {
        let mut known = Self::default();
        let is_for = |flag: &str| {
            let last: Vec<_> = words.iter().rev().take(2).map(|word| word.to_string_lossy()).collect();
            last.iter().any(|word| *word == flag || word.starts_with(&format!("{flag}=")))
        };
        let (for_context, for_deployment) = (is_for("--context"), is_for("--deployment"));
        if !for_context && !for_deployment {
            return known;
        }
        let matches = lenient(&words[..words.len() - 1]);
        // A wrong value elsewhere is told when the command runs.
        let (mut options, _) = crate::settings::run_options(&matches, outside.env);
        // Neither stdin nor a pipe is read to the end for a completion.
        options.config = options.config.filter(|path| crate::base::files::is_regular(path));
        let Some(settings) = settings(outside, &matches, &options).await else { return known };
        if for_deployment {
            known.deployments = Record::names(&settings.state_dir);
        } else {
            let file = settings.kubeconfig.as_ref().map(|path| path.value.as_path());
            let selection = Selection { file, ..Selection::default() };
            let found = cluster::contexts(&selection, outside.env, &outside.intake).await;
            known.contexts = found.map(|(contexts, _)| contexts).unwrap_or_default();
        }
        known
    }
}

/// The settings of an unfinished command line.
async fn settings(
    outside: &mut Outside<'_>,
    matches: &ArgMatches,
    options: &RunOptions,
) -> Option<crate::settings::Settings> {
    let inner = Outside {
        subcommand: outside.subcommand.clone(),
        matches,
        env: outside.env,
        options,
        ui: std::rc::Rc::clone(&outside.ui),
        cancel: outside.cancel.clone(),
        intake: std::rc::Rc::clone(&outside.intake),
        opened: std::rc::Rc::clone(&outside.opened),
        invalid: crate::settings::Problems::default(),
        asked: outside.asked.clone(),
        deadline: std::cell::OnceCell::new(),
        typed: None,
        ask: &mut *outside.ask,
    };
    inner.settings().await.ok().map(|(settings, _)| settings)
}

/// The arguments of an unfinished command line, as far as they can be understood.
fn lenient(words: &[OsString]) -> ArgMatches {
    let command = cli::command(&step_help()).ignore_errors(true);
    let mut matches = command.try_get_matches_from(words).unwrap_or_default();
    while let Some((_, inner)) = matches.remove_subcommand() {
        matches = inner;
    }
    matches
}

fn with_candidates(command: Command, known: &Known) -> Command {
    let topics = command.get_name() == "help";
    command
        .mut_args(|arg| candidates(arg, known, topics))
        .mut_subcommands(|command| with_candidates(command, known))
}

/// The argument with what completes its value.
fn candidates(arg: Arg, known: &Known, topics: bool) -> Arg {
    let row = SETTINGS.iter().chain(OPTIONS).find(|row| arg.get_id() == row.flag);
    let words: Vec<(String, String)> = match arg.get_id().as_str() {
        "context" => plain(&known.contexts),
        "deployment" => plain(&known.deployments),
        "only" | "skip" | "from" => pairs(step_help().iter().map(|step| (step.name, step.about))),
        "id" => pairs(Id::ALL.iter().map(|id| (id.code(), id.title()))),
        "words" => {
            let commands = cli::command(&step_help());
            let commands = commands.get_subcommands().map(|one| {
                (one.get_name().to_owned(), one.get_about().map(ToString::to_string).unwrap_or_default())
            });
            let topics = TOPICS.iter().filter(|_| topics);
            commands.chain(topics.map(|one| (one.name.to_owned(), one.about.to_owned()))).collect()
        }
        _ => match row {
            Some(row) if row.kind == Kind::Path => {
                let kind = if row.value == "DIR" { DIRS } else { FILES };
                let answer = format!("{MARK}{kind}");
                let completer = move |_: &std::ffi::OsStr| vec![CompletionCandidate::new(answer.clone())];
                return arg.add(ArgValueCompleter::new(completer));
            }
            Some(row) => pairs(row.choices.iter().map(|choice| (*choice, ""))),
            None => return arg,
        },
    };
    let is_list = row.is_some_and(|row| row.kind == Kind::List);
    let arg = if is_list { arg.value_delimiter(',') } else { arg };
    arg.add(ArgValueCandidates::new(move || {
        let one = |(word, about): &(String, String)| {
            CompletionCandidate::new(word.clone()).help((!about.is_empty()).then(|| about.clone().into()))
        };
        words.iter().map(one).collect()
    }))
}

fn plain(words: &[String]) -> Vec<(String, String)> {
    pairs(words.iter().map(|word| (word.as_str(), "")))
}

fn pairs<'a>(words: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    words.map(|(word, about)| (word.to_owned(), about.to_owned())).collect()
}
