//! Completes printed commands, so that each does what the line above it says in any directory and in a new shell.
//!
//! A command repeats what was given in this run and what outrigger would not find again by itself: what its
//! subcommand takes and the record does not hold. The deployment, the kubeconfig and the context are repeated whenever
//! they were given, because a variable of another shell would come before the record.

use super::table::setting;
use super::{Group, Kind, Need, Remembered, Row, RunOptions, SETTINGS, Settings, Source};
use crate::base::error::{Aim, Command};
use crate::base::hint::program;
use crate::base::template::shell_word;

/// What the commands of a run are completed with.
#[derive(Clone, Debug)]
pub struct Completion {
    pub settings: Settings,
    /// The recorded settings, as they are when the command is printed; empty without a record.
    pub recorded: Remembered,
    /// The steps that this run is about.
    pub options: RunOptions,
    /// The subcommand of this run.
    pub subcommand: String,
    /// Whether a variable holds a GitLab token: it goes only to a URL that is given with it.
    pub token_in_variable: bool,
    /// Whether a subcommand takes the setting with this key.
    pub takes: fn(&str, &str) -> bool,
}

/// The values of a setting in a form that is valid in any directory.
pub(super) fn anywhere(row: &Row, values: Vec<String>) -> Vec<String> {
    if row.kind != Kind::Path {
        return values;
    }
    let whole = |path: String| match std::path::absolute(&path) {
        Ok(whole) if path != "-" => whole.display().to_string(),
        _ => path,
    };
    values.into_iter().map(whole).collect()
}

impl Completion {
    /// The command as it is printed.
    pub fn complete(&self, command: &Command) -> String {
        match command {
            Command::Whole(line) => line.clone(),
            Command::Kubectl(words) => format!("{} {words}", self.kubectl()),
            Command::Outrigger(words, Aim::Again) => {
                let (subcommand, settings) = (self.again(), &self.settings);
                let recorded = !self.recorded.is_empty();
                let missing = || settings.missing(Need::Runner, self.token_in_variable);
                let complete =
                    recorded || settings.read_from_stdin().next().is_none() && missing().is_empty();
                let quiet = complete && !words.starts_with("--non-interactive");
                let quiet = if quiet { "--non-interactive " } else { "" };
                self.outrigger(format!("{subcommand} {quiet}{words}").trim_end(), Aim::Again)
            }
            Command::Outrigger(words, aim) => {
                // A redirection stays last.
                match words.rsplit_once(" > ").filter(|(_, file)| !file.contains([' ', '\''])) {
                    Some((words, file)) => format!("{} > {file}", self.outrigger(words, *aim)),
                    None => self.outrigger(words, *aim),
                }
            }
        }
    }

    /// The subcommand that does again what this run was asked for. One that only looks is about what `setup` does.
    fn again(&self) -> &str {
        match self.subcommand.as_str() {
            "preflight" | "status" | "teardown" => "setup",
            subcommand => subcommand,
        }
    }

    fn outrigger(&self, words: &str, aim: Aim) -> String {
        let mut line = vec![format!("{} {words}", program())];
        let mut file = None;
        // A value of the settings file that an answer removed must not come back with the file.
        let removes =
            |(key, source): (&&str, &Source)| *source == Source::Asked && self.settings.view(key).is_none();
        let spells_out = self.settings.sources.iter().any(removes);
        for row in SETTINGS {
            let Some((values, source)) = self.settings.view(row.key) else { continue };
            let values = anywhere(row, values);
            // The words may contain the flag already.
            let said = words.split(' ').any(|word| word == row.dashed);
            // A later command does not get it.
            let is_from_stdin = self.settings.read_from_stdin().any(|other| other.key == row.key);
            if said || is_from_stdin || !self.repeats(words, row, &values, &source, aim) {
                continue;
            }
            match source {
                // One read from stdin is not there a second time.
                Source::File(path) if path.as_os_str() != "-" && !spells_out => file = Some(path),
                _ => line.extend(flags(row, &values)),
            }
        }
        if let Some(path) = file {
            line.insert(1, format!("--config {}", place(&path.display().to_string())));
        }
        if aim == Aim::Again && self.again() == self.subcommand {
            let RunOptions { only, skip, from, .. } = &self.options;
            for (flag, steps) in [("--only", only), ("--skip", skip)] {
                if !steps.is_empty() {
                    line.push(format!("{flag} {}", shell_word(&steps.join(","))));
                }
            }
            line.extend(from.iter().map(|step| format!("--from {}", shell_word(step))));
        }
        line.join(" ")
    }

    /// Whether the command has to name this setting.
    fn repeats(&self, words: &str, row: &Row, values: &[String], source: &Source, aim: Aim) -> bool {
        if !matches!(source, Source::Flag(_) | Source::Environment(_) | Source::File(_) | Source::Asked) {
            return false;
        }
        let subcommand = words.split(' ').next().unwrap_or_default();
        let only_looks = subcommand == "status" || words.contains("--print-commands");
        let again = matches!(aim, Aim::Again | Aim::SoFar);
        let in_cluster = again || aim == Aim::Deployment;
        match (aim, row.key) {
            (Aim::Nothing, _) => false,
            (_, "stateDir") => aim != Aim::Elsewhere,
            (Aim::Records, _) => false,
            (_, "deployment") => true,
            (Aim::Elsewhere, _) => false,
            (_, "kubeconfig" | "context" | "as" | "asGroups") => in_cluster,
            (_, "anchorUid") => in_cluster && self.recorded.is_empty(),
            (_, "timeout" | "requestTimeout" | "sshFrom") => again,
            (_, key) if !(self.takes)(subcommand, key) => false,
            (_, "runnerTokenFile" | "legacyRegistrationTokenFile" | "runnerTokenOut") if only_looks => false,
            _ if matches!(row.group, Group::Consent | Group::Run) => again,
            (_, "gitlabUrl") if self.token_in_variable && self.settings.gitlab_token_file.is_none() => true,
            (_, key) => again || self.recorded.get(key).is_none_or(|recorded| recorded != values),
        }
    }

    /// `kubectl` with the flags for the same cluster and user.
    fn kubectl(&self) -> String {
        let mut words = vec!["kubectl".to_owned()];
        for key in ["kubeconfig", "context", "as", "asGroups"] {
            let (Some(row), Some((values, source))) = (setting(key), self.settings.view(key)) else {
                continue;
            };
            let is_path = key == "kubeconfig";
            let relative = is_path && values.iter().any(|path| std::path::Path::new(path).is_relative());
            if relative || !matches!(&source, Source::Environment(name) if *name == "KUBECONFIG") {
                let quoted = |value: &String| if is_path { place(value) } else { shell_word(value) };
                words.extend(values.iter().map(|value| format!("{} {}", row.dashed, quoted(value))));
            }
        }
        words.join(" ")
    }
}

/// A path as one shell word that is valid in any directory.
fn place(path: &str) -> String {
    match std::path::absolute(path) {
        Ok(whole) if path != "-" => shell_word(&whole.display().to_string()),
        _ => shell_word(path),
    }
}

/// A value that begins with a dash would be taken for a flag.
fn flag(row: &Row, value: &str) -> String {
    let gap = if value.starts_with('-') && value != "-" { "=" } else { " " };
    format!("{}{gap}{}", row.dashed, shell_word(value))
}

/// The words that give these values to a setting.
pub fn flags(row: &Row, values: &[String]) -> Vec<String> {
    match row.kind {
        Kind::Bool => vec![row.dashed.to_owned()],
        Kind::Path | Kind::Lines => values.iter().map(|value| flag(row, value)).collect(),
        _ => vec![flag(row, &values.join(","))],
    }
}

#[cfg(test)]
impl Settings {
    /// The `setup` command with everything that was given, as a test of the settings sees it.
    pub fn equivalent_command(&self) -> String {
        self.completion().complete(&Command::again("--non-interactive"))
    }

    pub fn completion(&self) -> Completion {
        Completion {
            settings: self.clone(),
            recorded: Remembered::new(),
            options: RunOptions::default(),
            subcommand: "setup".to_owned(),
            token_in_variable: false,
            takes: |subcommand, key| match subcommand {
                "setup" | "status" => true,
                _ => key == "namespace",
            },
        }
    }
}
