//! The service's errors: their types, statuses and words.

use serde_json::json;

use crate::wire::Answer;

/// The type of Lightsail's answers.
pub(crate) const JSON: &str = "application/x-amz-json-1.1";

/// An error of the service, as a test can ask for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many requests; nothing was done.
    Throttled,
    /// The account may have no more instances.
    Quota,
    /// The account is new and not verified yet.
    AccountPending,
    /// The account is being set up for Lightsail.
    AccountSetup,
    /// The region is being set up for the account.
    RegionSetup,
    /// The service fails (HTTP 500).
    Service,
    /// Any error: its type and message; HTTP 400.
    Other(String, String),
}

impl Refusal {
    /// Type and message. The words of the quota and of a pending account are those that users of the service have
    /// reported; those of the set-ups are made up.
    pub(crate) fn error(&self) -> Error {
        let (kind, message) = match self {
            Self::Throttled => ("ThrottlingException", "Rate exceeded"),
            Self::Quota => (
                "InvalidInputException",
                "Sorry, you've reached your maximum limit of Lightsail Instances : 0.\nIf you're new to \
                 Lightsail, please try again later. If the issue persists, please contact Customer Support.",
            ),
            Self::AccountPending => {
                ("InvalidInputException", "Your AWS account is pending verification. Please try again later.")
            }
            Self::AccountSetup => (
                "AccountSetupInProgressException",
                "Your account is being set up for Lightsail. Please try again later.",
            ),
            Self::RegionSetup => (
                "RegionSetupInProgressException",
                "The region is being set up for your account. Please try again later.",
            ),
            Self::Service => ("ServiceException", "An internal error occurred. Please retry your request."),
            Self::Other(kind, message) => (kind.as_str(), message.as_str()),
        };
        Error::new(kind, message)
    }
}

/// An error on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Error {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into() }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new("InvalidInputException", message)
    }

    /// `Instance` and its name, for one.
    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self::new("NotFoundException", format!("The {kind} does not exist: {name}"))
    }

    pub(crate) fn operation(message: impl Into<String>) -> Self {
        Self::new("OperationFailureException", message)
    }

    /// In Lightsail's form: the type in the body, HTTP 400 but for the service's own fault.
    pub(crate) fn answer(&self) -> Answer {
        let code = if self.kind == "ServiceException" { 500 } else { 400 };
        let mut body = json!({"__type": self.kind, "message": self.message});
        if super::model::MODEL.declares(&self.kind) {
            body["__type"] = format!("com.amazonaws.lightsail#{}", self.kind).into();
        }
        Answer { content_type: JSON.to_owned(), ..Answer::json(code, &body) }
    }
}
