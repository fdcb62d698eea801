//! The one failure type that reaches a user, and the exit table.
//!
//! A [`Failure`] says what went wrong, why in the words of whoever refused, and the exact next
//! command. Its [`id`](Failure::id) is a row of the
//! [catalogue](super::catalogue). Inside a
//! module any error type will do; at a module's edge it becomes a `Failure`, where the knowledge
//! for the hint is.

use std::fmt;

pub use super::catalogue::Id;
pub use super::hint::{Aim, Command, Hint};

/// What a failure means for whoever called us: it alone decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No better class known (exit 1).
    Unclassified,
    /// Wrong or missing input (exit 2).
    Usage,
    /// Preflight, settings or the user refused it; nothing was changed (exit 3).
    Refused,
    /// Authentication or permission (exit 4).
    Denied,
    /// Stopped part-way, or teardown left something (exit 5).
    Partial,
    /// Another run holds this deployment (exit 6).
    Locked,
    /// An object is in the way and is not ours (exit 7).
    Foreign,
    /// A wait or a deadline ran out (exit 8).
    Deadline,
    /// A credential does not do what it must, or does what it must not (exit 9).
    Proof,
    /// Changes are pending (exit 10): `status`, and `--dry-run --exit-code`.
    Pending,
    /// Interrupted by SIGINT (exit 130).
    Interrupted,
    /// Terminated by SIGTERM (exit 143).
    Terminated,
}

impl Kind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Unclassified => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
            Kind::Denied => 4,
            Kind::Partial => 5,
            Kind::Locked => 6,
            Kind::Foreign => 7,
            Kind::Deadline => 8,
            Kind::Proof => 9,
            Kind::Pending => 10,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }

    /// Which of several failures names the exit code: the most telling first.
    ///
    /// 4, 7, 8 and 9 win over 5 and 3: they say what to do next, "part-way" only says where we are.
    pub fn weight(self) -> u8 {
        match self {
            Kind::Interrupted | Kind::Terminated => 11,
            Kind::Foreign => 10,
            Kind::Denied => 9,
            Kind::Proof => 8,
            Kind::Deadline => 7,
            Kind::Locked => 6,
            Kind::Usage => 5,
            Kind::Partial => 4,
            Kind::Refused => 3,
            Kind::Unclassified => 2,
            Kind::Pending => 1,
        }
    }

    /// Whether a failure of this kind stays until somebody changes something, unless the failure says
    /// otherwise: only what time alone ends (a wait, a lock, a signal) is passing.
    fn is_lasting(self) -> bool {
        !matches!(self, Kind::Deadline | Kind::Locked | Kind::Interrupted | Kind::Terminated)
    }
}

/// A failure as the user sees it.
///
/// Texts may hold names that came from a server or a file: the terminal writer strips control
/// characters, so nothing here needs to. They never hold a secret.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which failure of the catalogue it is.
    pub id: Id,
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence, lower case, no full stop: what is wrong, with the value that is wrong.
    pub message: String,
    /// Labelled lines under the message, for example `("the server says", "…")`.
    pub details: Vec<(String, String)>,
    /// What to do now; each line stands alone.
    pub hints: Vec<Hint>,
    /// What else went wrong in the same step, each a failure of its own for the reader.
    pub also: Vec<Failure>,
    lasting: Option<bool>,
}

impl Failure {
    /// A failure without details or hints yet, of the kind that the catalogue gives it.
    pub fn new(id: Id, message: impl Into<String>) -> Self {
        Self {
            id,
            kind: id.kind(),
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
            also: Vec::new(),
            lasting: None,
        }
    }

    /// Adds a labelled line.
    pub fn detail(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.details.push((label.into(), text.into()));
        self
    }

    /// Adds what to do: words, a [`Command`], or both as a pair.
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Marks a failure that stays until somebody changes something (a policy, a refused value),
    /// although failures of its kind usually pass. No run promises that the same command continues.
    pub fn lasting(mut self) -> Self {
        self.lasting = Some(true);
        self
    }

    /// Marks a failure that the same command may well not meet again (a conflict, maintenance),
    /// although failures of its kind usually last.
    pub fn passing(mut self) -> Self {
        self.lasting = Some(false);
        self
    }

    /// Whether the same command fails again until somebody changes something. The kind decides, unless
    /// [`lasting`](Self::lasting) or [`passing`](Self::passing) was said.
    pub fn is_lasting(&self) -> bool {
        self.lasting.unwrap_or_else(|| self.kind.is_lasting())
    }

    /// Whether it only says what a run would still have to be told: no fault of what is there.
    pub fn is_missing_input(&self) -> bool {
        self.id == Id::MissingInput
    }

    /// Whether it says which rights the operator lacks.
    pub fn is_missing_rights(&self) -> bool {
        self.id == Id::MissingRights
    }

    /// Several failures of one step as one; none if there are none. The most telling one leads, and one that
    /// lasts makes the whole last. Those that say the same of other objects are told within it, the others
    /// stay failures of their own, with their kinds and hints.
    pub fn together(failures: Vec<Self>) -> Option<Self> {
        let lasting = failures.iter().any(Self::is_lasting);
        let mut failures: Vec<_> = failures.into_iter().flat_map(Self::each).collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
        let mut told: Vec<Self> = Vec::new();
        for other in failures {
            let Some(same) = told.iter_mut().find(|one| (one.id, one.kind) == (other.id, other.kind)) else {
                told.push(other);
                continue;
            };
            let details = other.details.into_iter().map(|(label, text)| format!("{label}: {text}"));
            let text = std::iter::once(other.message).chain(details).collect::<Vec<_>>().join("; ");
            same.details.push(("also".to_owned(), text));
            let new: Vec<_> = other.hints.into_iter().filter(|hint| !same.hints.contains(hint)).collect();
            same.hints.extend(new);
        }
        let mut told = told.into_iter();
        let first = told.next()?;
        Some(Self { also: told.collect(), lasting: Some(lasting), ..first })
    }

    /// The failure and what else went wrong with it, one by one.
    pub fn each(mut self) -> impl Iterator<Item = Self> {
        let also = std::mem::take(&mut self.also);
        std::iter::once(self).chain(also)
    }

    /// The same failure under another kind, for a caller that knows more than the callee; what else went wrong
    /// keeps its own. Whether it lasts is decided by its cause, so that stays.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.lasting = Some(self.is_lasting());
        self.kind = kind;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.message)
    }
}

impl std::error::Error for Failure {}

/// The result of everything that can fail in front of a user.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::{Failure, Id, Kind};

    #[test]
    fn only_waits_locks_and_signals_pass_by_themselves() {
        let of = |kind| {
            let id = Id::ALL.iter().find(|id| id.kind() == kind).copied();
            id.map_or_else(
                || Failure::new(Id::Interrupted, "words").with_kind(kind),
                |id| Failure::new(id, "words"),
            )
        };
        for kind in [Kind::Deadline, Kind::Locked, Kind::Interrupted, Kind::Terminated] {
            assert!(!of(kind).is_lasting(), "{kind:?}");
            assert!(of(kind).lasting().is_lasting(), "{kind:?}");
        }
        for kind in [Kind::Unclassified, Kind::Usage, Kind::Refused, Kind::Denied, Kind::Foreign, Kind::Proof]
        {
            assert!(of(kind).is_lasting(), "{kind:?}");
            assert!(!of(kind).passing().is_lasting(), "{kind:?}");
        }
        // Another exit code does not change the cause.
        assert!(of(Kind::Refused).with_kind(Kind::Partial).is_lasting());
        assert!(!of(Kind::Deadline).with_kind(Kind::Refused).is_lasting());
        let several = |failures| Failure::together(failures).expect("at least one");
        assert!(several(vec![of(Kind::Deadline), of(Kind::Denied)]).is_lasting());
        assert!(!several(vec![of(Kind::Deadline), of(Kind::Locked)]).is_lasting());
    }

    #[test]
    fn failures_of_one_step_keep_their_kinds_and_hints() {
        let left = |name: &str| {
            Failure::new(Id::NotRemoved, format!("{name} is left")).hint(format!("delete {name}"))
        };
        let held = Failure::new(Id::TemporaryBindingLeft, "held").hint("give it back");
        let denied = Failure::new(Id::MissingRights, "denied").hint("ask");
        let whole = Failure::together(vec![left("a"), held, left("b"), denied]).expect("some");
        assert_eq!((whole.id, whole.kind), (Id::MissingRights, Kind::Denied));
        assert_eq!(whole.hints, ["ask".into()]);
        let also: Vec<_> = whole.also.iter().map(|one| (one.id, one.hints.len())).collect();
        assert_eq!(also, [(Id::NotRemoved, 2), (Id::TemporaryBindingLeft, 1)]);
        let same = Failure::together(vec![left("a"), left("b"), left("a")]).expect("some");
        assert_eq!(same.details[0], ("also".to_owned(), "b is left".to_owned()));
        assert_eq!(same.hints, ["delete a".into(), "delete b".into()]);
    }
}
