use super::{Class, Refusal, Told};
use crate::base::error::{Failure, Kind};
use crate::base::request::Refused as _;

fn refusal(code: u16, kind: &str, message: &str) -> Refusal {
    let told = Told { kind: kind.to_owned(), message: message.to_owned() };
    Refusal::status("read the instance", code, Some(told), "").asked("lightsail", "GetInstance", "id-1")
}

/// Type, message, class, id, exit code.
const TABLE: &[(u16, &str, &str, Class, &str, u8)] = &[
    (400, "NotFoundException", "The Instance does not exist: a", Class::NotFound, "OR0359", 3),
    (400, "InvalidInputException", "Some names are already in use: a", Class::NameTaken, "OR0713", 7),
    (400, "InvalidInputException", "The bundle is not valid", Class::InvalidInput, "OR0354", 3),
    (400, "SerializationException", "", Class::InvalidInput, "OR0354", 3),
    (
        400,
        "InvalidInputException",
        "Your AWS account is pending verification",
        Class::PendingAccount,
        "OR0355",
        3,
    ),
    (400, "AccountSetupInProgressException", "wait", Class::PendingAccount, "OR0355", 3),
    (403, "OptInRequired", "not subscribed", Class::PendingAccount, "OR0355", 3),
    (400, "RegionSetupInProgressException", "wait", Class::RegionSetup, "OR0355", 3),
    (
        400,
        "InvalidInputException",
        "you've reached your maximum limit of Instances",
        Class::Quota,
        "OR0356",
        3,
    ),
    (400, "ServiceQuotaExceededException", "", Class::Quota, "OR0356", 3),
    (400, "AccessDeniedException", "User: arn is not authorized", Class::Denied, "OR0428", 4),
    (
        400,
        "UnrecognizedClientException",
        "The security token is invalid",
        Class::UnknownCredentials,
        "OR0427",
        4,
    ),
    (403, "InvalidSignatureException", "does not match", Class::UnknownCredentials, "OR0427", 4),
    (403, "MissingAuthenticationTokenException", "", Class::UnknownCredentials, "OR0427", 4),
    (400, "UnauthenticatedException", "", Class::UnknownCredentials, "OR0427", 4),
    (400, "ExpiredTokenException", "The security token is expired", Class::Expired, "OR0429", 4),
    (403, "InvalidSignatureException", "Signature expired: a < b", Class::Clock, "OR0430", 4),
    (403, "InvalidSignatureException", "Signature not yet current: a", Class::Clock, "OR0430", 4),
    (403, "RequestTimeTooSkewed", "", Class::Clock, "OR0430", 4),
    (400, "OperationFailureException", "wrong state", Class::OperationFailure, "OR0509", 5),
    (400, "ThrottlingException", "Rate exceeded", Class::Throttled, "OR0812", 8),
    (500, "ServiceException", "", Class::Unavailable, "OR0812", 8),
    (503, "Whatever", "", Class::Unavailable, "OR0812", 8),
];

#[test]
fn errors_of_the_service_have_class_id_and_exit_code() {
    for (code, kind, message, class, id, exit) in TABLE {
        let refusal = refusal(*code, kind, message);
        assert_eq!(refusal.class, *class, "{kind} {message}");
        let failure = Failure::from(refusal);
        assert_eq!((failure.id.code(), failure.kind.exit_code()), (*id, *exit), "{kind} {message}");
        let said = if message.is_empty() { kind } else { message };
        assert!(failure.details.contains(&("AWS says".to_owned(), (*said).to_owned())), "{failure:?}");
        assert!(failure.details.contains(&("request id".to_owned(), "id-1".to_owned())), "{failure:?}");
    }
}

#[test]
fn only_what_helps_is_sent_again() {
    for (code, kind, message, class, ..) in TABLE {
        let refusal = refusal(*code, kind, message);
        let passes = matches!(class, Class::Throttled | Class::Unavailable);
        assert_eq!(refusal.is_retryable(), passes, "{kind} {message}");
        assert_eq!(refusal.was_not_processed(), *class == Class::Throttled, "{kind} {message}");
        assert_eq!(refusal.is_ambiguous(), *class == Class::Unavailable, "{kind} {message}");
    }
    let page = |code| Refusal::status("ask", code, None, "<html>");
    assert_eq!((page(502).class, page(502).is_ambiguous()), (Class::Unavailable, true));
    assert_eq!((page(429).class, page(429).was_not_processed()), (Class::Throttled, true));
    assert_eq!((page(302).class, page(302).is_ambiguous()), (Class::Malformed, false));
    assert_eq!(Failure::from(page(403)).id.code(), "OR0358");
    assert!(Refusal::timeout("ask", "why").is_ambiguous() && Refusal::malformed("ask", "why").is_ambiguous());
}

#[test]
fn hints_are_commands() {
    let hints = |refusal: Refusal| {
        Failure::from(refusal).hints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let denied = refusal(400, "AccessDeniedException", "no");
    assert!(Failure::from(denied.clone()).message.contains("lightsail:GetInstance"));
    assert!(hints(denied).contains("outrigger create-vm --print-policy operate"));
    let expired = refusal(400, "ExpiredTokenException", "no");
    let renewed = expired.clone().signed_by("the profile \"ci\"", Some("aws sso login --profile ci"));
    assert!(hints(renewed.clone()).contains("aws sso login --profile ci"));
    assert!(
        Failure::from(renewed)
            .details
            .iter()
            .any(|(label, text)| label == "credentials" && text.contains("ci"))
    );
    assert!(hints(expired).contains("get new credentials"));
    assert_eq!(Failure::from(refusal(400, "ThrottlingException", "")).kind, Kind::Deadline);
}
