//! Settings: flags, environment, settings file and record become one frozen value, and each value
//! keeps where it came from. Pure: nothing here reads the environment or the disk.

pub mod check;
mod file;
mod metadata;
mod options;
mod resolve;
mod row;
mod table;
mod value;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

pub use crate::base::template::shell_word;
pub use check::is_older;
pub use options::{OPTIONS, RunOptions, run_options};
pub use resolve::{Remembered, resolve};
pub use row::{Group, Kind, Row};
pub use table::*;
pub use value::{InstallMethod, Output, Place, PodSecurity, Reissue, Risk, Secrets};
pub use view::{Missing, Need, missing_failure};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line; with dashes, `--tags`.
    Flag(&'static str),
    /// This environment variable.
    Environment(&'static str),
    /// The settings file at this path.
    File(PathBuf),
    /// What an earlier run recorded.
    Record,
    /// The note on the deployment's ServiceAccount, named `namespace/name`.
    Note(String),
    /// The runner in GitLab with this id.
    Runner(u64),
    /// Nobody said anything.
    Default,
    /// The user answered a question.
    Asked,
}

impl Source {
    /// Whether an earlier run said it, on this machine or another, and nobody in this one.
    pub fn is_remembered(&self) -> bool {
        matches!(self, Source::Record | Source::Note(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => f.write_str(flag),
            Source::Environment(name) => f.write_str(name),
            Source::File(_) => f.write_str("settings file"),
            Source::Record => f.write_str("recorded"),
            Source::Note(account) => write!(f, "annotation on ServiceAccount {account}"),
            Source::Runner(id) => write!(f, "runner {id} in GitLab"),
            Source::Default => f.write_str("default"),
            Source::Asked => f.write_str("asked"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Sourced<T> {
    /// A value with its source.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

impl<T> Deref for Sourced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What [`resolve`] works from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The subcommand's arguments.
    pub matches: &'a clap::ArgMatches,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// The settings file named by `--config`, and its text.
    pub file: Option<(PathBuf, String)>,
    /// What is taken from the note on the deployment's ServiceAccount, by settings key, and the account.
    pub noted: Option<(String, Remembered)>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
