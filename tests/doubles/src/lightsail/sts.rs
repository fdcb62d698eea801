//! `GetCallerIdentity` of the Security Token Service: a form is asked, XML or JSON answers.

use serde_json::json;

use super::access::Key;
use super::refusal::Error;
use crate::wire::{Answer, Request, parse_query};

/// The operation, as the log has it.
pub(crate) const OPERATION: &str = "GetCallerIdentity";

/// Whether a request is in STS's form.
pub(crate) fn is_form(request: &Request) -> bool {
    request.content_type() == "application/x-www-form-urlencoded"
}

/// The action that a form names.
pub(crate) fn action(request: &Request) -> String {
    parse_query(&String::from_utf8_lossy(&request.body)).remove("Action").unwrap_or_default()
}

/// Looks at the version, which STS wants to know.
pub(crate) fn judge(request: &Request) -> Result<(), Error> {
    let form = parse_query(&String::from_utf8_lossy(&request.body));
    if action(request) != OPERATION || form.get("Version").map(String::as_str) != Some("2011-06-15") {
        let text =
            format!("Could not find operation {} for version {:?}", action(request), form.get("Version"));
        return Err(Error::new("InvalidAction", text));
    }
    Ok(())
}

/// Who the caller is.
pub(crate) fn identity(request: &Request, key: &Key, id: &str) -> Answer {
    let (account, arn, user) = (&key.spec.account, key.arn(), key.user_id());
    if wants_json(request) {
        let body = json!({"GetCallerIdentityResponse": {
            "GetCallerIdentityResult": {"Account": account, "Arn": arn, "UserId": user},
            "ResponseMetadata": {"RequestId": id},
        }});
        return Answer::json(200, &body);
    }
    xml(
        200,
        &format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <GetCallerIdentityResult>\n    <Arn>{arn}</Arn>\n    <UserId>{user}</UserId>\n    \
             <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    \
             <RequestId>{id}</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
        ),
    )
}

/// An error in STS's form, with the names that the query protocol has for what all services refuse.
pub(crate) fn refusal(request: &Request, error: &Error, id: &str) -> Answer {
    let (status, code) = match error.kind.as_str() {
        "UnrecognizedClientException" => (403, "InvalidClientTokenId"),
        "InvalidSignatureException" => (403, "SignatureDoesNotMatch"),
        "ExpiredTokenException" => (403, "ExpiredToken"),
        "MissingAuthenticationTokenException" => (403, "MissingAuthenticationToken"),
        "IncompleteSignatureException" => (400, "IncompleteSignature"),
        "ThrottlingException" => (400, "Throttling"),
        "ServiceException" => (500, "InternalFailure"),
        other => (400, other),
    };
    let (text, fault) = (&error.message, if status == 500 { "Receiver" } else { "Sender" });
    if wants_json(request) {
        let body = json!({"Error": {"Code": code, "Message": text, "Type": fault}, "RequestId": id});
        return Answer::json(status, &body);
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    xml(
        status,
        &format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    \
             <Type>{fault}</Type>\n    <Code>{code}</Code>\n    <Message>{text}</Message>\n  </Error>\n  \
             <RequestId>{id}</RequestId>\n</ErrorResponse>\n"
        ),
    )
}

fn wants_json(request: &Request) -> bool {
    request.header("accept").to_lowercase().contains("application/json")
}

fn xml(code: u16, body: &str) -> Answer {
    Answer { code, content_type: "text/xml".to_owned(), headers: Vec::new(), body: body.as_bytes().to_vec() }
}
