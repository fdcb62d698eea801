//! Settings: resolves flags, environment, settings file and record to one immutable value that keeps the source of
//! each setting. Pure: this room reads neither the environment nor files.

pub mod check;
mod file;
mod host;
mod metadata;
mod options;
mod paste;
mod resolve;
mod row;
mod schema;
mod table;
mod value;
mod view;
pub mod vm;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

pub use crate::base::template::shell_word;
pub use check::is_older;
pub use host::Host;
pub use options::{OPTIONS, RunOptions, run_options};
pub use paste::{Completion, flags};
pub use resolve::{Draft, Problems, Remembered, draft, field_of_flag, missing_failure, resolve};
pub use row::{Group, Kind, Row};
pub use schema::schema;
pub use table::*;
pub use value::{CacheType, InstallMethod, Output, Place, PodSecurity, PolicyPhase, Reissue, Risk, Secrets};
pub use view::{Missing, Need};

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The flag with dashes, `--tags`.
    Flag(&'static str),
    /// The name of the variable.
    Environment(&'static str),
    /// The path of the settings file.
    File(PathBuf),
    /// This machine's record.
    Record,
    /// The annotation on the deployment's ServiceAccount `namespace/name`.
    Note(String),
    /// The id of the runner in GitLab.
    Runner(u64),
    Default,
    /// The user's answer to a question.
    Asked,
}

impl Source {
    /// Whether the value comes from an earlier run, on this machine or another.
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

/// A value with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    pub value: T,
    pub source: Source,
}

impl<T> Sourced<T> {
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

/// The input of [`resolve`].
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The subcommand's arguments.
    pub matches: &'a clap::ArgMatches,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// Path and text of the settings file (`--config`).
    pub file: Option<(PathBuf, String)>,
    /// The deployment's ServiceAccount, and the settings in its annotation.
    pub noted: Option<(String, Remembered)>,
    /// The answers to questions by key, which come before all other sources: the user may have been asked to replace
    /// one of them. No values: the setting has none, although another source has one.
    pub asked: Remembered,
    /// The user's home directory.
    pub home: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
