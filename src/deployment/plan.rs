//! The plan as a value: what each step decided, and the very thing that apply will do.

use std::path::PathBuf;

use crate::base::error::{Failure, Hint};
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
    pub fn is_change(self) -> bool {
        !matches!(self, Decision::Keep | Decision::NotNeeded | Decision::Refuse)
    }
}

/// What a line of a removal is about, so that what became of it can be looked at afterwards.
#[derive(Clone, Debug)]
pub enum Target {
    /// An object in the cluster.
    Object(Ref),
    /// A temporary binding that lets the operator look into a namespace before it goes.
    Look(Object),
    /// A file.
    File(PathBuf),
    /// The runner in GitLab.
    Runner,
    /// Our commit.
    Commit,
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

/// One line of the plan. `A` is what the step that decided it can do; apply does that and nothing else.
#[derive(Clone, Debug)]
pub struct Line<A = ()> {
    /// What was decided.
    pub decision: Decision,
    /// About what, for the reader.
    pub text: String,
    /// More lines for the reader: differences, upper bounds.
    pub detail: Vec<Hint>,
    /// What apply does.
    pub act: Option<A>,
    /// Why it is refused.
    pub failure: Option<Failure>,
    /// Kept although it differs from the plan: shown even when nothing changes.
    pub notable: bool,
    /// Another step's line announces it, too: neither shown nor counted by itself.
    pub covered: bool,
    /// What it is about.
    pub target: Option<Target>,
}

impl<A> Line<A> {
    fn plain(decision: Decision, text: String) -> Self {
        Self {
            decision,
            text,
            detail: Vec::new(),
            act: None,
            failure: None,
            notable: false,
            covered: false,
            target: None,
        }
    }

    /// Something that is done.
    pub fn new(decision: Decision, text: impl Into<String>, act: A) -> Self {
        Self { act: Some(act), ..Self::plain(decision, text.into()) }
    }

    /// Something that stays as it is.
    pub fn keep(text: impl Into<String>) -> Self {
        Self::plain(Decision::Keep, text.into())
    }

    /// Something that is not needed; the text says why.
    pub fn not_needed(text: impl Into<String>) -> Self {
        Self::plain(Decision::NotNeeded, text.into())
    }

    /// Something that differs and stays so, because somebody made it stricter than setup would.
    pub fn keep_stricter(text: impl Into<String>) -> Self {
        Self { notable: true, ..Self::keep(text) }
    }

    /// Something that cannot be done.
    pub fn refuse(failure: Failure) -> Self {
        Self { failure: Some(failure.clone()), ..Self::plain(Decision::Refuse, failure.message) }
    }

    /// Something that waits for what nobody gave here; no difference, but worth a word.
    pub fn not_looked(text: impl Into<String>) -> Self {
        Self { notable: true, ..Self::keep(text) }
    }

    /// Adds a line of detail.
    pub fn detail(mut self, detail: impl Into<Hint>) -> Self {
        self.detail.push(detail.into());
        self
    }

    /// Says what it is about.
    pub fn about(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// The same line with another kind of act.
    pub fn map<B>(self, into: impl FnOnce(A) -> B) -> Line<B> {
        Line {
            decision: self.decision,
            text: self.text,
            detail: self.detail,
            act: self.act.map(into),
            failure: self.failure,
            notable: self.notable,
            covered: self.covered,
            target: self.target,
        }
    }
}
