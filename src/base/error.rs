//! The failure type that users see, and the exit codes.
//!
//! A [`Failure`] contains what went wrong, the reason in the words of the server or file, and the next command.
//! Its [`id`](Failure::id) is a row of the [catalogue](super::catalogue). Modules may use other error types
//! internally and convert them to a `Failure` at their interface, where the hint is known.

use std::fmt;

pub use super::catalogue::Id;
pub use super::hint::{Aim, Command, Hint};

/// The class of a failure, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// No other class applies.
    Unclassified = 1,
    /// Wrong or missing input.
    Usage = 2,
    /// A check, a setting or the user stopped the run before the first change.
    Refused = 3,
    /// Authentication or permission.
    Denied = 4,
    /// The run made only a part of its changes, or teardown left something.
    Partial = 5,
    /// Another run holds this deployment.
    Locked = 6,
    /// An object or file exists that outrigger did not create.
    Foreign = 7,
    /// A wait timed out.
    Deadline = 8,
    /// A credential lacks a required permission, or has a forbidden one.
    Proof = 9,
    /// Changes are pending, or a part was not checked: `status`, `setup`, and `--dry-run --exit-code`.
    Pending = 10,
    /// Interrupted by SIGINT.
    Interrupted = 130,
    /// Terminated by SIGTERM.
    Terminated = 143,
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    /// Of several failures, the one with the highest weight decides the exit code.
    ///
    /// Exit codes 4, 7, 8 and 9 weigh more than 5 and 3, because they say what to do next.
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

    /// Whether the same command is expected to fail again until something is changed: not after a timeout, a
    /// lock or a signal.
    fn is_lasting(self) -> bool {
        !matches!(self, Kind::Deadline | Kind::Locked | Kind::Interrupted | Kind::Terminated)
    }
}

/// A failure as the user sees it. Its texts may contain names from a server or a file, whose control characters
/// the renderings remove. They never contain a secret.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The row of the catalogue.
    pub id: Id,
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence in lower case without a full stop, with the wrong value.
    pub message: String,
    /// Labelled lines below the message, for example `("the server says", "…")`.
    pub details: Vec<(String, String)>,
    /// The values of the command line, the environment or the settings file that are missing or invalid. The details
    /// say the same in words.
    pub fields: Box<[Field]>,
    /// Independent instructions.
    pub hints: Vec<Hint>,
    /// Other failures of the same step.
    pub also: Vec<Failure>,
    lasting: Option<bool>,
    /// The step has taken back what it did.
    pub is_taken_back: bool,
}

/// A value that is missing or invalid, for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The label of the detail that says the same.
    pub label: String,
    pub missing: bool,
    /// `--gitlab-url`.
    pub flag: Option<&'static str>,
    /// The environment variable.
    pub variable: Option<&'static str>,
    /// The key in the settings file.
    pub key: Option<&'static str>,
    /// What is wrong, or what to give.
    pub text: String,
}

impl Failure {
    /// A failure of the catalogue's kind, without details and hints.
    pub fn new(id: Id, message: impl Into<String>) -> Self {
        Self {
            id,
            kind: id.kind(),
            message: message.into(),
            details: Vec::new(),
            fields: Box::default(),
            hints: Vec::new(),
            also: Vec::new(),
            lasting: None,
            is_taken_back: false,
        }
    }

    /// Adds a labelled line.
    pub fn detail(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.details.push((label.into(), text.into()));
        self
    }

    /// Adds an instruction: text, a [`Command`], or both as a pair.
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Marks a failure that stays until something is changed (a policy, a refused value), although failures of
    /// its kind usually pass. The report then does not suggest to repeat the command.
    pub fn lasting(mut self) -> Self {
        self.lasting = Some(true);
        self
    }

    /// Marks a failure after which the step has taken back what it did.
    pub fn taken_back(mut self) -> Self {
        self.is_taken_back = true;
        self
    }

    /// Marks a failure that may pass without a change (a conflict, maintenance), although failures of its kind
    /// usually last.
    pub fn passing(mut self) -> Self {
        self.lasting = Some(false);
        self
    }

    /// Whether the same command is expected to fail again until something is changed. The kind decides, unless
    /// [`lasting`](Self::lasting) or [`passing`](Self::passing) was called.
    pub fn is_lasting(&self) -> bool {
        self.lasting.unwrap_or_else(|| self.kind.is_lasting())
    }

    /// Whether a required value is missing, so that nothing existing is wrong.
    pub fn is_missing_input(&self) -> bool {
        self.id == Id::MissingInput
    }

    /// Whether AWS cannot be asked as the operator.
    pub fn is_missing_aws_login(&self) -> bool {
        matches!(
            self.id,
            Id::AwsCredentials
                | Id::AwsUnknown
                | Id::AwsForbidden
                | Id::AwsExpired
                | Id::AwsClock
                | Id::AwsAccount
                | Id::AwsCertificate
                | Id::NotAws
                | Id::AnotherAccount
        )
    }

    /// Whether the operator lacks permissions.
    pub fn is_missing_rights(&self) -> bool {
        self.id == Id::MissingRights
    }

    /// Combines the failures of one step; `None` if there are none. The failure with the highest weight comes
    /// first, and the result lasts if one of them lasts. Failures with the same id and kind are merged into one;
    /// the others keep their kinds and hints in `also`.
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
            same.fields = std::mem::take(&mut same.fields).into_iter().chain(other.fields).collect();
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

    /// The failure itself, then those in `also`.
    pub fn each(mut self) -> impl Iterator<Item = Self> {
        let also = std::mem::take(&mut self.also);
        std::iter::once(self).chain(also)
    }

    /// Replaces the kind, for a caller that knows more than the callee. Whether the failure lasts does not
    /// change, and the failures in `also` keep their kinds.
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

pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::{Failure, Id, Kind};

    #[test]
    fn only_timeouts_locks_and_signals_pass_without_a_change() {
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
        // Another kind does not change whether the failure lasts.
        assert!(of(Kind::Refused).with_kind(Kind::Partial).is_lasting());
        assert!(!of(Kind::Deadline).with_kind(Kind::Refused).is_lasting());
        let several = |failures| Failure::together(failures).expect("at least one");
        assert!(several(vec![of(Kind::Deadline), of(Kind::Denied)]).is_lasting());
        assert!(!several(vec![of(Kind::Deadline), of(Kind::Locked)]).is_lasting());
    }

    #[test]
    fn combined_failures_keep_their_kinds_and_hints() {
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
