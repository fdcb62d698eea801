//! Failed requests to AWS, and their translation into a [`Failure`].

use std::time::Duration;

use jiff::Timestamp;

use super::policy;
use crate::base::answer;
use crate::base::error::{Command, Failure, Id};
use crate::base::request::{Refused, too_long};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    NotFound,
    /// A resource of the region has the name: an instance, a static IP, a key pair, a disk, a database.
    NameTaken,
    /// The request does not suit the resource or the region.
    InvalidInput,
    /// The principal may not do it.
    Denied,
    /// AWS does not know the credentials, or the signature does not fit them.
    UnknownCredentials,
    /// Temporary credentials have ended.
    Expired,
    /// The clocks differ by more than AWS allows.
    Clock,
    /// The account is not verified, or never opened Lightsail.
    PendingAccount,
    /// The region is being set up for the account, or is not enabled.
    RegionSetup,
    Quota,
    Throttled,
    /// The service could not do it in the resource's current state.
    OperationFailure,
    /// 5xx.
    Unavailable,
    Timeout,
    /// No connection, or it was lost.
    Unreachable,
    /// The certificate is not accepted.
    Certificate,
    /// The response is not AWS's.
    Malformed,
    /// The source of the credentials failed, in the middle of a run.
    Credentials,
    /// A signal arrived before the request was sent.
    Interrupted,
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub class: Class,
    /// HTTP status, 0 without a response.
    pub code: u16,
    /// AWS's message or, without one, outrigger's own.
    pub message: String,
    /// Whether the message is AWS's.
    is_quoted: bool,
    asks_too_much: bool,
    /// The request, as a verb phrase.
    pub what: String,
    /// Nothing of the request was sent.
    unsent: bool,
    about: Box<About>,
}

/// What a failure tells beside the message.
#[derive(Clone, Debug, Default)]
struct About {
    /// The IAM action, such as `lightsail:GetInstance`.
    action: String,
    /// AWS's id of the request.
    request_id: String,
    /// The source of the credentials, and the command that renews them.
    source: String,
    renewal: Option<String>,
    /// The time here and at AWS.
    clocks: Option<(Timestamp, Timestamp)>,
    /// The complete failure, if it does not follow from the class.
    ending: Option<Failure>,
}

/// An error response as the protocol has it: a type, a message and, in query APIs, the same in XML.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub kind: String,
    pub message: String,
}

impl Refusal {
    fn of(class: Class, code: u16, what: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            message: message.into(),
            is_quoted: false,
            asks_too_much: false,
            what: what.to_owned(),
            unsent: false,
            about: Box::default(),
        }
    }

    /// For a failure that does not follow from the class.
    pub(super) fn decided(class: Class, what: &str, failure: Failure) -> Self {
        let mut refusal = Self::of(class, 0, what, failure.message.clone());
        refusal.about.ending = Some(failure);
        refusal
    }

    /// The IAM action, such as `lightsail:GetInstance`; empty without a response.
    pub fn action(&self) -> &str {
        &self.about.action
    }

    /// For a response beyond the limits.
    pub(super) fn endless(what: &str, why: &str) -> Self {
        let failure = answer::endless(what, why);
        Self { message: why.to_owned(), ..Self::decided(Class::Malformed, what, failure) }
    }

    /// For a response that says success.
    pub(super) fn malformed(what: &str, why: &str) -> Self {
        Self::of(Class::Malformed, 200, what, why)
    }

    /// For a request without a response.
    pub(super) fn transport(what: &str, error: &reqwest::Error) -> Self {
        let class = if error.is_timeout() { Class::Timeout } else { Class::Unreachable };
        Self { unsent: error.is_connect(), ..Self::of(class, 0, what, answer::innermost(error)) }
    }

    /// The same after the request was sent completely.
    pub(super) fn sent(self) -> Self {
        Self { unsent: false, ..self }
    }

    /// For a response other than success. `told` is `None` if it is not an error of AWS; then `beginning` is shown.
    pub(super) fn status(what: &str, code: u16, told: Option<Told>, beginning: &str) -> Self {
        let Some(told) = told else {
            let class = match code {
                429 => Class::Throttled,
                500.. => Class::Unavailable,
                _ => Class::Malformed,
            };
            return Self::of(class, code, what, format!("unexpected response (status {code}): {beginning}"));
        };
        let class = classed(code, &told);
        let said = if told.message.is_empty() { told.kind.clone() } else { told.message };
        Self { is_quoted: true, ..Self::of(class, code, what, said) }
    }

    /// Notes the request.
    pub(super) fn asked(mut self, service: &str, operation: &str, request_id: &str) -> Self {
        self.about.action = format!("{service}:{operation}");
        self.about.request_id = request_id.chars().filter(char::is_ascii_graphic).take(64).collect();
        self
    }

    /// Notes whose credentials they were.
    pub(super) fn signed_by(mut self, source: &str, renewal: Option<&str>) -> Self {
        source.clone_into(&mut self.about.source);
        self.about.renewal = renewal.map(str::to_owned);
        self
    }

    /// Notes both clocks. A refused signature is the clock's fault if they differ by more than AWS allows (5 minutes).
    pub(super) fn at(mut self, ours: Timestamp, theirs: Option<Timestamp>) -> Self {
        const MOST: i64 = 5 * 60;
        let Some(theirs) = theirs else { return self };
        let apart = (ours.as_second() - theirs.as_second()).abs() > MOST;
        let may_be = matches!(self.class, Class::UnknownCredentials | Class::Expired) && apart;
        if self.class == Class::Clock || may_be {
            self.class = Class::Clock;
            self.about.clocks = Some((ours, theirs));
        }
        self
    }

    /// Whether the request may have been carried out.
    pub fn is_ambiguous(&self) -> bool {
        match self.class {
            Class::Timeout | Class::Unreachable => !self.unsent,
            Class::Unavailable => true,
            Class::Malformed => matches!(self.code, 0 | 200..=299),
            _ => false,
        }
    }
}

/// The class of an error. The types are those of the model's `CreateInstances` and the common errors of AWS; the texts
/// are those that the service uses under `InvalidInputException`, and have no type of their own.
fn classed(code: u16, told: &Told) -> Class {
    let said = told.message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    match told.kind.as_str() {
        "NotFoundException" => Class::NotFound,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "OptInRequired"
            if says(&["pending verification", "not subscribed", "not signed up"]) =>
        {
            Class::PendingAccount
        }
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => Class::Denied,
        "OptInRequired" | "AccountSetupInProgressException" => Class::PendingAccount,
        "RegionSetupInProgressException" | "RegionDisabledException" => Class::RegionSetup,
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown" => Class::Throttled,
        "LimitExceededException" | "ServiceQuotaExceededException" => Class::Quota,
        "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired" => Class::Expired,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Class::Clock,
        "InvalidSignatureException" | "SignatureDoesNotMatch"
            if says(&["signature expired", "signature not yet current"]) =>
        {
            Class::Clock
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "UnauthenticatedException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "AuthFailure"
        | "NotAuthorized" => Class::UnknownCredentials,
        "OperationFailureException" | "InvalidInputException" if says(&["pending verification"]) => {
            Class::PendingAccount
        }
        "OperationFailureException" | "InvalidInputException"
            if says(&[
                "quota",
                "maximum limit",
                "limit exceeded",
                "reached the maximum",
                "reached your maximum",
            ]) =>
        {
            Class::Quota
        }
        "InvalidInputException" if says(&["names are already in use", "name is already in use"]) => {
            Class::NameTaken
        }
        "OperationFailureException" => Class::OperationFailure,
        "ServiceException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Class::Unavailable,
        _ if code == 429 => Class::Throttled,
        _ if code >= 500 => Class::Unavailable,
        _ => Class::InvalidInput,
    }
}

impl Refused for Refusal {
    fn interrupted(what: &str, failure: Failure) -> Self {
        Self::decided(Class::Interrupted, what, failure)
    }

    fn timeout(what: &str, why: &str) -> Self {
        Self::of(Class::Timeout, 0, what, why)
    }

    fn has_no_response(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Unreachable)
    }

    fn is_retryable(&self) -> bool {
        matches!(self.class, Class::Throttled | Class::Unavailable | Class::Timeout | Class::Unreachable)
    }

    fn is_ambiguous(&self) -> bool {
        Self::is_ambiguous(self)
    }

    fn was_not_processed(&self) -> bool {
        self.class == Class::Throttled || self.unsent
    }

    fn retry_after(&self) -> Option<Duration> {
        // AWS names no time.
        None
    }

    fn message(&mut self) -> &mut String {
        &mut self.message
    }

    fn asks_too_much(&mut self) {
        self.asks_too_much = true;
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        if let Some(failure) = refusal.about.ending {
            return failure;
        }
        let what = &refusal.what;
        let cannot = |why: &str| format!("cannot {what}: {why}");
        let (id, message) = match refusal.class {
            Class::NotFound => (Id::AwsNotFound, cannot("not found in this region of the AWS account")),
            Class::NameTaken => {
                (Id::AwsNameTaken, cannot("another resource of this AWS account and region has the name"))
            }
            Class::InvalidInput => (Id::AwsInvalid, cannot("AWS rejects the request")),
            Class::Denied => {
                (Id::AwsForbidden, cannot(&format!("AWS does not allow {}", refusal.about.action)))
            }
            Class::UnknownCredentials => (Id::AwsUnknown, cannot("AWS rejects the credentials")),
            Class::Expired => (Id::AwsExpired, cannot("the AWS credentials have expired")),
            Class::Clock => (Id::AwsClock, cannot("this machine's clock is not that of AWS")),
            Class::PendingAccount => (Id::AwsAccount, cannot("the AWS account is not ready")),
            Class::RegionSetup => (Id::AwsAccount, cannot("the region is not ready for this AWS account")),
            Class::Quota => (Id::AwsQuota, cannot("a quota of the AWS account is reached")),
            Class::Throttled => (Id::AwsUnavailable, cannot("AWS is throttling")),
            Class::OperationFailure => (Id::AwsOperation, cannot("AWS could not carry it out")),
            Class::Unavailable => (Id::AwsUnavailable, cannot("AWS returned a server error")),
            Class::Timeout => (Id::AwsUnavailable, cannot("timed out")),
            Class::Unreachable => (Id::AwsUnavailable, cannot("cannot connect to AWS")),
            Class::Certificate => {
                (Id::AwsCertificate, cannot("the certificate of the endpoint is not accepted"))
            }
            Class::Malformed | Class::Credentials | Class::Interrupted => {
                (Id::NotAws, cannot("the response is not that of AWS's API"))
            }
        };
        let label = match refusal.code {
            0 => "because",
            _ if refusal.is_quoted => "AWS says",
            _ => "response",
        };
        let mut failure = Failure::new(id, message).detail(label, refusal.message.clone());
        let is_the_login = matches!(
            refusal.class,
            Class::UnknownCredentials | Class::Expired | Class::Denied | Class::Clock
        );
        if is_the_login && !refusal.about.source.is_empty() {
            failure = failure.detail("credentials", &*refusal.about.source);
        }
        if let Some((ours, theirs)) = &refusal.about.clocks {
            let second = |time: &Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
            failure = failure.detail("time here", second(ours)).detail("time at AWS", second(theirs));
        }
        if refusal.asks_too_much {
            failure = failure.detail("and", too_long(None));
        }
        if !refusal.about.request_id.is_empty() {
            failure = failure.detail("request id", &*refusal.about.request_id);
        }
        with_hint(failure, &refusal)
    }
}

fn with_hint(failure: Failure, refusal: &Refusal) -> Failure {
    let hint = match refusal.class {
        Class::NotFound | Class::Interrupted | Class::Credentials => return failure,
        Class::NameTaken => {
            "names are shared by instances, static IPs, disks, databases and key pairs: rename or delete that one, or use another --deployment"
        }
        Class::InvalidInput => "change the setting that AWS's message names",
        Class::Denied => {
            return failure.hint((
                "the permissions that outrigger needs, as an IAM policy",
                Command::outrigger(format!(
                    "create-vm --print-policy {}",
                    policy::phase_of(&refusal.about.action)
                )),
            ));
        }
        Class::UnknownCredentials => {
            return failure.hint((
                "whose credentials AWS takes them for",
                Command::Whole("aws sts get-caller-identity".to_owned()),
            ));
        }
        Class::Expired => {
            return match &refusal.about.renewal {
                Some(command) => failure.hint(("log in again", Command::Whole(command.clone()))),
                None => failure.hint("get new credentials, then run the same command again"),
            };
        }
        Class::Clock => {
            "set this machine's clock: AWS accepts 5 minutes of difference (timedatectl set-ntp true)"
        }
        Class::PendingAccount => {
            "open https://lightsail.aws.amazon.com once with this account; a new account is verified within 24 hours, or ask AWS's support"
        }
        Class::RegionSetup => "wait some minutes, or use a region that the account has enabled",
        Class::Quota => {
            "delete instances that nobody needs, or ask for more at https://console.aws.amazon.com/servicequotas"
        }
        Class::OperationFailure => return failure.hint("run the same command again").passing(),
        Class::Throttled | Class::Unavailable | Class::Timeout => {
            "run the same command again, with a longer --timeout if needed"
        }
        Class::Unreachable => {
            "check this machine's network access to it, and HTTPS_PROXY and NO_PROXY; a region that does not exist has no address"
        }
        Class::Certificate => "if a proxy signs with a CA of its own, name that CA's file in AWS_CA_BUNDLE",
        Class::Malformed => "check AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_LIGHTSAIL, and any proxy on the way",
    };
    failure.hint(hint)
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
