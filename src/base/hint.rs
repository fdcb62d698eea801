//! Instructions for the user: text and commands.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

/// The words that start outrigger, as it was called.
static PROGRAM: OnceLock<&str> = OnceLock::new();

/// The words that start outrigger in usage lines and printed commands: `outrigger`, or `kubectl outrigger`.
pub fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("outrigger")
}

/// Makes [`program`] return how this process was called, by the first argument. kubectl starts its plugins by their
/// file name, `kubectl-outrigger`.
pub fn called_by(first_argument: &Path, commands: impl FnOnce() -> Vec<String>) {
    let name = first_argument.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name == "kubectl-outrigger" {
        let _ = PROGRAM.set("kubectl outrigger");
        let _ = COMMANDS.set(commands());
    }
}

/// The subcommands, where the words that start outrigger are not `outrigger`.
static COMMANDS: OnceLock<Vec<String>> = OnceLock::new();

/// The text with [`program`] in place of `outrigger` before each of its subcommands. Texts of the sources say
/// `outrigger`; this is their way out.
pub fn as_called(text: &str) -> String {
    match COMMANDS.get() {
        None => text.to_owned(),
        Some(commands) => renamed(text, program(), commands),
    }
}

fn renamed(text: &str, program: &str, commands: &[String]) -> String {
    const NAME: &str = "outrigger";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(NAME) {
        out += before;
        let begins = !out.ends_with(|c: char| c.is_alphanumeric() || "/-_.".contains(c));
        let is_command = after.strip_prefix(' ').is_some_and(|words| {
            let word = words.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
            word == "--help" || commands.iter().any(|command| command == word)
        });
        let is_whole = program.strip_suffix(NAME).is_some_and(|first| out.ends_with(first));
        out += if begins && is_command && !is_whole { program } else { NAME };
        rest = after;
    }
    out + rest
}

/// A command to paste. When it is printed, `Completion::complete` adds what its [`Aim`] needs, with absolute paths, so
/// that it works in any directory and in a new shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The words after `outrigger`, each quoted for the shell.
    Outrigger(String, Aim),
    /// The words after `kubectl`.
    Kubectl(String),
    /// A complete command.
    Whole(String),
}

/// What a command of outrigger is about: the given settings that are added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// This deployment in this cluster, with the settings that are not recorded.
    Deployment,
    /// The same without a cluster.
    WithoutCluster,
    /// The same on another machine, which has neither this kubeconfig nor this record.
    Elsewhere,
    /// This run once more, with everything that was given, consents too. The words are flags; the subcommand is
    /// this run's, or `setup`.
    Again,
    /// `setup` with what was given and answered so far; the rest is asked for.
    SoFar,
    /// The records of this machine.
    Records,
    Nothing,
}

impl Command {
    /// A command for this deployment in this cluster.
    pub fn outrigger(words: impl Into<String>) -> Self {
        Command::Outrigger(words.into(), Aim::Deployment)
    }

    /// This run, or `setup` if this run changes nothing, with these flags.
    pub fn again(flags: impl Into<String>) -> Self {
        Command::Outrigger(flags.into(), Aim::Again)
    }

    /// `setup` with the answers so far.
    pub fn so_far() -> Self {
        Command::Outrigger("setup".to_owned(), Aim::SoFar)
    }

    /// `outrigger teardown` with these flags.
    pub fn teardown(flags: &str) -> Self {
        Self::outrigger(format!("teardown {flags}").trim_end())
    }

    /// `outrigger teardown` for a cluster that no longer exists.
    pub fn teardown_without_cluster() -> Self {
        Command::Outrigger("teardown --cluster-gone".to_owned(), Aim::WithoutCluster)
    }

    pub fn list() -> Self {
        Command::Outrigger("list".to_owned(), Aim::Records)
    }

    /// `outrigger help`, `outrigger explain`.
    pub fn page(words: impl Into<String>) -> Self {
        Command::Outrigger(words.into(), Aim::Nothing)
    }

    pub fn kubectl(words: impl Into<String>) -> Self {
        Command::Kubectl(words.into())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Outrigger(words, _) => write!(f, "{} {words}", program()),
            Command::Kubectl(words) => write!(f, "kubectl {words}"),
            Command::Whole(line) => f.write_str(line),
        }
    }
}

/// Text, a command, or a command with text that says its purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Without a colon before the command; empty for a command alone.
    pub text: String,
    /// Never wrapped.
    pub command: Option<Command>,
}

impl Hint {
    pub fn new(text: impl Into<String>, command: Command) -> Self {
        Self { text: text.into(), command: Some(command) }
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self { text, command: None }
    }
}

impl From<Command> for Hint {
    fn from(command: Command) -> Self {
        Self::new("", command)
    }
}

impl<T: Into<String>> From<(T, Command)> for Hint {
    fn from((text, command): (T, Command)) -> Self {
        Self::new(text, command)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            None => f.write_str(&self.text),
            Some(command) if self.text.is_empty() => command.fmt(f),
            Some(command) => write!(f, "{}: {command}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn only_commands_are_renamed_and_each_once() {
        let commands = ["status".to_owned(), "create-role".to_owned()];
        let renamed = |text: &str| renamed(text, "kubectl outrigger", &commands);
        for (text, expected) in [
            ("outrigger status", "kubectl outrigger status"),
            (
                "run outrigger create-role, then (outrigger status).",
                "run kubectl outrigger create-role, then (kubectl outrigger status).",
            ),
            ("<(outrigger status)", "<(kubectl outrigger status)"),
            ("outrigger --help", "kubectl outrigger --help"),
        ] {
            assert_eq!(renamed(text), expected);
            assert_eq!(renamed(expected), expected);
        }
        for text in [
            "outrigger keeps it",
            "outrigger statuses",
            "/bin/outrigger status",
            "an outrigger",
            "outrigger_status",
        ] {
            assert_eq!(renamed(text), text);
        }
    }
}
