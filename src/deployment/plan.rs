//! The plan: one line for each decision of a step, with the action that apply carries out.

use std::path::PathBuf;

use crate::base::error::{Failure, Hint};
use crate::base::event::Thing;
use crate::deployment::object::{Object, Ref};

/// The decision in a line of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does not exist.
    Create,
    /// It belongs to the deployment and differs; the line's detail lists the differences.
    Update,
    /// It is as wanted, or its difference is kept.
    Keep,
    /// Not needed in this case; the text says why.
    NotNeeded,
    /// Asked for, and could not be looked at; the text says why.
    NotChecked,
    /// A risk, or a difference that setup keeps.
    Warning,
    /// As wanted, and it does not work, or will not for long; setup cannot change that. The text says why.
    Unhealthy,
    /// It belongs to the deployment and cannot be changed in place.
    Replace,
    /// It belongs to the deployment and is no longer wanted.
    Remove,
    /// Removes a temporary binding that a killed run left behind.
    Release,
    /// Not possible; the line's failure says why.
    Refuse,
    /// Not known yet; the text names the step that decides, and the largest possible change.
    Unknown,
}

impl Decision {
    pub fn is_change(self) -> bool {
        use Decision::{Keep, NotChecked, NotNeeded, Refuse, Unhealthy, Warning};
        !matches!(self, Keep | NotNeeded | NotChecked | Warning | Unhealthy | Refuse)
    }
}

/// The subject of a line, for scripts, and to check a removal afterwards.
#[derive(Clone, Debug)]
pub enum Target {
    /// An object in the cluster.
    Object(Ref),
    /// The temporary binding with which the operator lists a namespace's contents before its deletion.
    TemporaryBinding(Object),
    File(PathBuf),
    /// The runner in GitLab with this id.
    Runner(u64),
    /// outrigger's commit of the pipeline file, with its SHA.
    Commit(String),
    /// The instance with this name.
    Vm(String),
}

impl Target {
    /// The subject as scripts see it.
    pub fn thing(&self) -> Thing {
        let of = |kind: &str, name: String| Thing { kind: kind.to_owned(), namespace: String::new(), name };
        match self {
            Target::Object(reference) | Target::TemporaryBinding(Object { reference, .. }) => {
                reference.thing()
            }
            Target::File(path) => of("File", path.display().to_string()),
            Target::Runner(id) => of("Runner", id.to_string()),
            Target::Commit(sha) => of("Commit", sha.clone()),
            Target::Vm(name) => of("Vm", name.clone()),
        }
    }
}

/// A change to one file in one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Numeric id.
    pub project: u64,
    pub branch: String,
    /// The branch that a new one starts from; `None` if `branch` exists, or the repository is empty.
    pub start: Option<String>,
    pub path: String,
    /// The new content; `None` deletes the file.
    pub content: Option<String>,
    /// The file's last commit when it was read; `None` if it did not exist.
    pub before: Option<String>,
    pub message: String,
}

/// One line of the plan. `A` is the step's type of actions; apply carries out `act` and nothing else.
#[derive(Clone, Debug)]
pub struct Line<A = ()> {
    pub decision: Decision,
    /// The subject of the decision.
    pub text: String,
    /// Further lines: differences, upper bounds.
    pub detail: Vec<Hint>,
    pub act: Option<A>,
    /// The reason for [`Decision::Refuse`].
    pub failure: Option<Failure>,
    /// Shown even if nothing changes.
    pub notable: bool,
    /// Included in another step's line: not shown and not counted.
    pub covered: bool,
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

    /// A line with an action.
    pub fn new(decision: Decision, text: impl Into<String>, act: A) -> Self {
        Self { act: Some(act), ..Self::plain(decision, text.into()) }
    }

    pub fn keep(text: impl Into<String>) -> Self {
        Self::plain(Decision::Keep, text.into())
    }

    pub fn not_needed(text: impl Into<String>) -> Self {
        Self::plain(Decision::NotNeeded, text.into())
    }

    /// A thing that could not be read: shown, counted, and never reported as matching.
    pub fn not_checked(why: &str) -> Self {
        Self { notable: true, ..Self::plain(Decision::NotChecked, format!("not checked: {why}")) }
    }

    pub fn warning(text: impl Into<String>) -> Self {
        Self { notable: true, ..Self::plain(Decision::Warning, text.into()) }
    }

    pub fn unhealthy(text: impl Into<String>) -> Self {
        Self { notable: true, ..Self::plain(Decision::Unhealthy, text.into()) }
    }

    pub fn refuse(failure: Failure) -> Self {
        Self { failure: Some(failure.clone()), ..Self::plain(Decision::Refuse, failure.message) }
    }

    pub fn detail(mut self, detail: impl Into<Hint>) -> Self {
        self.detail.push(detail.into());
        self
    }

    pub fn about(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Converts the action.
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
