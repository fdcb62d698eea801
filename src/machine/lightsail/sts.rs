//! The one call to STS. Its protocol is the query protocol: a form as the request, XML as the response.

use super::call::Service;
use super::model::Identity;
use super::refusal::{Refusal, Told};

const WHAT: &str = "find out the AWS account";

pub(super) async fn identity(service: &Service) -> Result<Identity, Refusal> {
    let bytes = service.form(WHAT, "GetCallerIdentity", "2011-06-15").await?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let account = element(text, "Account").filter(|account| is_account(account));
    let arn = element(text, "Arn").filter(|arn| {
        arn.starts_with("arn:") && arn.len() <= 2048 && arn.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match (account, arn) {
        (Some(account), Some(arn)) => Ok(Identity { account, arn }),
        _ => Err(Refusal::malformed(WHAT, "it has no Account of 12 digits or no Arn")),
    }
}

/// The error in a response of the query protocol.
pub(super) fn told(bytes: &[u8]) -> Option<Told> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(Told { kind: element(text, "Code")?, message: element(text, "Message").unwrap_or_default() })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The text of the one element of this name without attributes. `None` if it is missing, occurs twice, has children or
/// CDATA, or an entity other than XML's own five. What follows a comment is not read: the service sends none.
fn element(text: &str, name: &str) -> Option<String> {
    if text.contains("<!") {
        return None;
    }
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = text.split_once(&open)?;
    let (inner, after) = rest.split_once(&close)?;
    if inner.contains('<') || after.contains(&open) {
        return None;
    }
    let mut out = String::new();
    let mut pieces = inner.split('&');
    out.push_str(pieces.next()?);
    for piece in pieces {
        let (entity, plain) = piece.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        out.push_str(plain);
    }
    Some(out.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{element, told};

    const ANSWER: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/a&amp;b</Arn><UserId>AIDA</UserId>
  <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"#;

    #[test]
    fn one_plain_element_is_read_and_nothing_else() {
        assert_eq!(element(ANSWER, "Account").as_deref(), Some("123456789012"));
        assert_eq!(element(ANSWER, "Arn").as_deref(), Some("arn:aws:iam::123456789012:user/a&b"));
        for odd in [
            "<Account>1</Account><Account>2</Account>",
            "<Account><b>1</b></Account>",
            "<Account>1",
            "<Account x=\"1\">1</Account>",
            "<!-- <Account>1</Account> -->",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><Account>1</Account>",
            "<Account>&b;</Account>",
            "<Account>a & b</Account>",
        ] {
            assert_eq!(element(odd, "Account"), None, "{odd}");
        }
    }

    #[test]
    fn an_error_has_code_and_message() {
        let text = b"<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>";
        let told = told(text).expect("an error");
        assert_eq!(
            (told.kind.as_str(), told.message.contains("security token")),
            ("InvalidClientTokenId", true)
        );
    }
}
