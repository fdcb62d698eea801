//! What to do next: words, and the command that does it, by type.

use std::fmt;

/// A command to paste. It holds only the command's own words: `Settings::complete` adds the deployment, context,
/// kubeconfig and absolute paths when it is printed, so that it works in any directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What follows `outrigger`, each word quoted for the shell; and the keys of the settings that it takes
    /// beside those that every command takes.
    Outrigger(String, &'static [&'static str]),
    /// What follows `kubectl`.
    Kubectl(String),
    /// Complete as it is.
    Whole(String),
}

impl Command {
    /// A command of outrigger.
    pub fn outrigger(words: impl Into<String>) -> Self {
        Command::Outrigger(words.into(), &[])
    }

    /// A command of kubectl.
    pub fn kubectl(words: impl Into<String>) -> Self {
        Command::Kubectl(words.into())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Outrigger(words, _) => write!(f, "outrigger {words}"),
            Command::Kubectl(words) => write!(f, "kubectl {words}"),
            Command::Whole(line) => f.write_str(line),
        }
    }
}

/// A line for the reader: words, a command, or a command with the words that say what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The words; no colon where a command follows. Empty for a command alone.
    pub text: String,
    /// Never wrapped.
    pub command: Option<Command>,
}

impl Hint {
    /// A command, and what it is for.
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
