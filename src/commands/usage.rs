//! Errors of the command line as failures: what clap says, the choices, and a command that works.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::base::error::{Command, Failure, Id};
use crate::base::hint::program;
use crate::base::{message, text};
use crate::commands::help::TOPICS;
use crate::commands::{cli, step_help, words};
use crate::settings;

/// The failure for an error of the command line. `None` for help and the version, which arrive as errors too.
pub fn usage(mut error: clap::Error) -> Option<Failure> {
    if !error.use_stderr() {
        return None;
    }
    // A secret in the wrong place is masked before clap quotes it.
    let said: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in said {
        let value = match value {
            ContextValue::String(text) => ContextValue::String(message::line(&text)),
            ContextValue::Strings(all) => {
                ContextValue::Strings(all.iter().map(|text| message::line(text)).collect())
            }
            other => other,
        };
        error.insert(kind, value);
    }
    Some(match error.kind() {
        // clap's text is the whole help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::new(Id::MissingInput, "a command is required").hint(help(""))
        }
        ErrorKind::MissingSubcommand => {
            let choices = strings(&error, ContextKind::ValidSubcommand);
            let command = subcommand(&error);
            choose("a command is required", &command, &choices)
        }
        ErrorKind::MissingRequiredArgument => without_argument(&path(&error)),
        ErrorKind::InvalidSubcommand => unknown_command(&error),
        _ => other(&error),
    })
}

/// The failure for `outrigger help WORDS`, if there is no command and no topic of this name.
pub fn unknown_topic(words: &[String], commands: &[&str]) -> clap::Error {
    let topics: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
    let word = words.join(" ");
    let near = text::closest(&word, commands.iter().chain(&topics).copied());
    let mut error = clap::Error::new(ErrorKind::InvalidSubcommand);
    let all = |names: &[&str]| ContextValue::Strings(names.iter().map(|name| (*name).to_owned()).collect());
    error.insert(ContextKind::InvalidSubcommand, ContextValue::String(word.clone()));
    error.insert(ContextKind::ValidSubcommand, all(commands));
    error.insert(ContextKind::ValidValue, all(&topics));
    if let Some(near) = near {
        error.insert(ContextKind::SuggestedSubcommand, all(&[near]));
    }
    error
}

/// The failure for the argument that this command requires.
fn without_argument(command: &str) -> Failure {
    let root = cli::command(&step_help());
    let required = root
        .find_subcommand(command)
        .and_then(|found| found.get_positionals().find(|argument| argument.is_required_set()));
    let names = required.and_then(clap::Arg::get_value_names).unwrap_or_default();
    let name = names.first().map(ToString::to_string).unwrap_or_default();
    let values = required.map(clap::Arg::get_possible_values).unwrap_or_default();
    let values: Vec<String> = values.iter().map(|value| value.get_name().to_owned()).collect();
    choose(&format!("the argument {name} is required"), command, &values)
}

/// A choice that is missing, with an example.
fn choose(message: &str, command: &str, choices: &[String]) -> Failure {
    let failure = Failure::new(Id::MissingInput, message).detail("one of", choices.join(", "));
    let example = choices.first().map(|first| ("for example", Command::page(format!("{command} {first}"))));
    example.into_iter().fold(failure, Failure::hint).hint(help(command))
}

fn unknown_command(error: &clap::Error) -> Failure {
    let word = string(error, ContextKind::InvalidSubcommand);
    let topics = strings(error, ContextKind::ValidValue);
    let known = strings(error, ContextKind::ValidSubcommand);
    let is_topic = !topics.is_empty();
    let what = if is_topic { "command or topic" } else { "command" };
    let failure = Failure::new(Id::InvalidInput, format!("there is no {what} {}", message::quoted(&word)));
    let meant = words::meant(&word);
    if !meant.is_empty() {
        return meant
            .iter()
            .fold(failure, |failure, (purpose, words)| failure.hint((*purpose, Command::page(*words))));
    }
    let alike = strings(error, ContextKind::SuggestedSubcommand);
    let closest = text::closest(&word, alike.iter().map(String::as_str)).map(str::to_owned);
    let near = closest.map_or(alike, |one| vec![one]);
    let before = if is_topic { "help " } else { "" };
    let near = near.iter().map(|name| ("did you mean", Command::page(format!("{before}{name}"))));
    let failure = near.fold(failure, Failure::hint);
    if is_topic {
        return failure.detail("commands", known.join(", ")).detail("topics", topics.join(", "));
    }
    failure.hint(help(&path(error)))
}

/// clap's text: the error itself, tips, the usage and where to read more, as paragraphs.
fn other(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
    let first = paragraphs.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let mut failure = Failure::new(Id::InvalidInput, first);
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.split([' ', '=']).next().unwrap_or_default().to_owned(),
        Some(ContextValue::Strings(flags)) => flags.join(" "),
        _ => String::new(),
    };
    // What clap finds alike is another flag.
    let others = if error.kind() == ErrorKind::UnknownArgument { commands_with(&flag) } else { Vec::new() };
    if !others.is_empty() {
        failure = failure.detail("because", format!("{flag} is a flag of {}", others.join(", ")));
    }
    for paragraph in paragraphs.filter(|_| others.is_empty()) {
        let (label, rest) = paragraph.split_once(':').unwrap_or(("", paragraph));
        match label.to_ascii_lowercase().as_str() {
            label @ ("tip" | "usage") => failure = failure.detail(label, rest.trim()),
            _ if paragraph.contains("--help") => {}
            _ => failure = failure.detail("", paragraph),
        }
    }
    if let Some(field) = settings::field_of_flag(&flag, first) {
        failure.fields = Box::new([field]);
    }
    failure.hint(help(&path(error)))
}

/// The command with this positional argument, such as `<TOKEN>`; empty if there is none. Of an invalid value clap does not
/// tell the command.
fn with_argument(name: &str) -> String {
    let root = cli::command(&step_help());
    let has =
        |command: &&clap::Command| command.get_positionals().any(|argument| argument.to_string() == name);
    root.get_subcommands().find(has).map(|command| command.get_name().to_owned()).unwrap_or_default()
}

/// The commands that have this flag; of many, `setup` alone, which has the flags of all steps.
fn commands_with(flag: &str) -> Vec<String> {
    const FEW: usize = 4;
    let root = cli::command(&step_help());
    let has = |command: &&clap::Command| {
        let name = flag.strip_prefix("--");
        command.get_arguments().any(|argument| name.is_some() && argument.get_long() == name)
    };
    let found =
        root.get_subcommands().filter(has).map(|command| format!("{} {}", program(), command.get_name()));
    let found: Vec<String> = found.collect();
    let setup = format!("{} setup", program());
    if found.len() > FEW && found.contains(&setup) { vec![setup] } else { found }
}

fn help(command: &str) -> (&'static str, Command) {
    match command {
        "" => ("to list commands and flags", Command::page("--help")),
        command => ("to list its flags", Command::page(format!("{command} --help"))),
    }
}

/// The subcommand without its subcommand, as clap names it with the program.
fn subcommand(error: &clap::Error) -> String {
    let whole = string(error, ContextKind::InvalidSubcommand);
    whole.strip_prefix(program()).unwrap_or(&whole).trim().to_owned()
}

/// The subcommand in clap's usage line; empty for outrigger itself.
fn path(error: &clap::Error) -> String {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return with_argument(&string(error, ContextKind::InvalidArg));
    };
    let usage = usage.to_string();
    let words = usage.trim_start_matches("Usage:").trim().trim_start_matches(program());
    let is_plain = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    words.split_whitespace().take_while(is_plain).collect::<Vec<_>>().join(" ")
}

fn string(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}

fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::Strings(all)) => all.clone(),
        Some(ContextValue::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}
