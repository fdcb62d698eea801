//! The plan as a value: what each step decided, and the very thing that apply will do.

use std::path::PathBuf;

use serde_json::Value;

use crate::base::error::Failure;
use crate::deployment::object::{Object, Ref};

/// What a step decided about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does not exist and will be made.
    Create,
    /// It is ours and differs; the difference is in the line's detail.
    Update,
    /// It is as it should be, or differs in a way that is kept.
    Keep,
    /// Needed in other circumstances; the text says why not now.
    NotNeeded,
    /// It is ours and cannot be changed in place.
    Replace,
    /// It is ours and no longer wanted.
    Remove,
    /// A right that a killed run left behind is taken back.
    Release,
    /// It cannot be done; the line's failure says why.
    Refuse,
    /// Not knowable yet; the text names the step that will tell, and the most that can happen.
    Unknown,
}

impl Decision {
    /// Whether carrying it out changes anything.
    #[must_use]
    pub fn is_change(self) -> bool {
        !matches!(self, Decision::Keep | Decision::NotNeeded | Decision::Refuse)
    }
}

/// The effect behind a line; apply does this and nothing else.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing.
    None,
    /// POST this manifest.
    Create(Object),
    /// Forced apply; the object carries uid and resourceVersion of the one that was judged.
    Apply(Object),
    /// Delete the one with this uid, then POST the manifest.
    Replace(String, Object),
    /// Delete the one with this uid.
    Delete(Ref, String),
    /// Switch off token automounting on a namespace's `default` ServiceAccount, once it is there.
    QuietDefault(Ref),
    /// Give the operator this temporary binding.
    Bind(Object),
    /// Take back a temporary binding; without a uid its creation may never have happened.
    Release(Ref, Option<String>),
    /// Decide after the named step whether the binding is needed, then as `Bind`.
    BindIfNeeded(Object),
    /// Request a token bound to this Secret (created first).
    RequestToken(Object),
    /// Render and write the launch script.
    WriteScript(PathBuf),
    /// Remove a file that is ours.
    RemoveFile(PathBuf),
    /// Note the recorded state of a file that is gone anyway.
    Forget,
    /// Make a runner at GitLab with this body.
    CreateRunner(Value),
    /// Register a runner with the registration token at hand and this body.
    RegisterRunner(Value),
    /// Set this on the runner with this id.
    UpdateRunner(u64, Value),
    /// Let the description of the runner with this id name the ServiceAccount as it is now.
    MarkRunner(u64),
    /// Make the token of the runner with this id anew.
    ResetRunner(u64),
    /// Delete the runner with this id.
    DeleteRunner(u64),
    /// Commit this file.
    Commit(FileChange),
    /// Find or trigger the pipeline of this branch and follow it.
    RunPipeline(String),
}

/// One file in one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The project, by id.
    pub project: u64,
    /// The branch that gets the commit.
    pub branch: String,
    /// The branch to begin a new one from; none if it is there, or the repository is empty.
    pub start: Option<String>,
    /// The file's path.
    pub path: String,
    /// What it says afterwards; none deletes it.
    pub content: Option<String>,
    /// The last commit of the file that was looked at; none if there was no file.
    pub before: Option<String>,
    /// The message.
    pub message: String,
}

/// One line of the plan.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was decided.
    pub decision: Decision,
    /// About what, for the reader.
    pub text: String,
    /// More lines for the reader: differences, upper bounds.
    pub detail: Vec<String>,
    /// What apply does.
    pub act: Act,
    /// Why it is refused.
    pub failure: Option<Failure>,
    /// Kept although it differs from the plan: shown even when nothing changes.
    pub notable: bool,
    /// Another step's line announces it, too: neither shown nor counted by itself.
    pub covered: bool,
}

impl Line {
    /// A line without detail.
    pub fn new(decision: Decision, text: impl Into<String>, act: Act) -> Self {
        Self {
            decision,
            text: text.into(),
            detail: Vec::new(),
            act,
            failure: None,
            notable: false,
            covered: false,
        }
    }

    /// Something that stays as it is.
    pub fn keep(text: impl Into<String>) -> Self {
        Self::new(Decision::Keep, text, Act::None)
    }

    /// Something that differs and stays so, because somebody made it stricter than setup would.
    pub fn keep_stricter(text: impl Into<String>) -> Self {
        Self { notable: true, ..Self::keep(text) }
    }

    /// Something that cannot be done.
    #[must_use]
    pub fn refuse(failure: Failure) -> Self {
        Self {
            decision: Decision::Refuse,
            text: failure.message.clone(),
            detail: Vec::new(),
            act: Act::None,
            failure: Some(failure),
            notable: false,
            covered: false,
        }
    }

    /// Something that waits for what nobody gave here; no difference, but worth a word.
    #[must_use]
    pub fn not_looked(text: impl Into<String>) -> Self {
        Self { notable: true, ..Self::keep(text) }
    }

    /// Adds a line of detail. It may be outside text: white space in front, the mark of commands, goes.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail.push(text.into().trim_start().to_owned());
        self
    }

    /// Adds a command, for pasting.
    #[must_use]
    pub fn command(mut self, command: impl std::fmt::Display) -> Self {
        self.detail.push(format!("  {command}"));
        self
    }
}
