//! Signature Version 4 of a request.

use std::time::SystemTime;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as signed};
use aws_sigv4::sign::v4;

use super::call::Unsigned;
use super::keys::Keys;
use crate::base::error::{Failure, Id, Result};

/// The headers to add: `authorization`, `x-amz-date` and, with temporary credentials, `x-amz-security-token`.
pub(super) fn sign(keys: &Keys, request: &Unsigned<'_>, time: SystemTime) -> Result<Vec<(String, String)>> {
    let cannot =
        |why: String| Failure::new(Id::Internal, "cannot sign a request to AWS").detail("because", why);
    let identity = keys.for_library().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(request.region)
        .name(request.service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| cannot(error.to_string()))?
        .into();
    let headers = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let body = SignableBody::Bytes(request.body);
    let request = SignableRequest::new("POST", request.url.as_str(), headers, body)
        .map_err(|error| cannot(error.to_string()))?;
    let (instructions, _) = signed(request, &params).map_err(|error| cannot(error.to_string()))?.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use reqwest::Url;

    use super::sign;
    use crate::machine::lightsail::call::Unsigned;
    use crate::machine::lightsail::keys::Keys;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    /// That of AWS's test suite.
    const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn signature(
        service: &str,
        url: &str,
        token: Option<&str>,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> String {
        let keys = Keys::new("AKIDEXAMPLE", SECRET, token, None).expect("keys");
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let url = Url::parse(url).expect("a URL");
        let request =
            Unsigned { service, region: "us-east-1", url: &url, headers: &headers, body: body.as_bytes() };
        // 2015-08-30T12:36:00Z
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let signed = sign(&keys, &request, time).expect("signed");
        let value = |name: &str| signed.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        assert_eq!(value("x-amz-date").as_deref(), Some("20150830T123600Z"));
        assert_eq!(value("x-amz-security-token").as_deref(), token);
        let authorization = value("authorization").expect("an authorization");
        let (_, rest) = authorization.split_once("SignedHeaders=").expect("signed headers");
        rest.to_owned()
    }

    /// The suite `aws-signing-test-suite/v4`: post-vanilla, post-sts-header-before, post-x-www-form-urlencoded.
    #[test]
    fn signatures_are_those_of_awss_test_suite() {
        let of = |token, headers: &[(&'static str, &str)], body| {
            signature("service", "https://example.amazonaws.com/", token, headers, body)
        };
        assert_eq!(
            of(None, &[], ""),
            "host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        assert_eq!(
            of(Some(TOKEN), &[], ""),
            "host;x-amz-date;x-amz-security-token, Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(
            of(None, &form, "Param1=value1"),
            "content-type;host;x-amz-date, Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    /// What botocore's signer makes of the same requests.
    #[test]
    fn signatures_of_our_calls_are_those_of_botocore() {
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "Lightsail_20161128.GetInstance"),
        ];
        let body = r#"{"instanceName":"green-vm"}"#;
        let of = |url, token| signature("lightsail", url, token, &headers, body);
        assert_eq!(of("https://lightsail.us-east-1.amazonaws.com/", None), BOTOCORE[0]);
        assert_eq!(of("https://lightsail.us-east-1.amazonaws.com/", Some(TOKEN)), BOTOCORE[1]);
        assert_eq!(of("http://127.0.0.1:4566/", None), BOTOCORE[2]);
    }

    const BOTOCORE: [&str; 3] = [
        "content-type;host;x-amz-date;x-amz-target, Signature=fd77135f0c260e073c599cf702eaf40c84efd08ee17ea7fda9b4a7e2bf787289",
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=9989041b72bb39ea73fe49d81dc12790791a330e83129b8cb2199e017283e683",
        "content-type;host;x-amz-date;x-amz-target, Signature=2303fdc062dcf46312a7c87ebe285581e4b8a15c8183eb26b957e85229581e9a",
    ];
}
