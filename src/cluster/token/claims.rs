//! Claims of a ServiceAccount token. The server verifies its signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::secret::Secret;
use crate::deployment::names::Names;

/// Compares subject, namespace, name and uid with the ServiceAccount. Secret tokens and requested tokens have different
/// names for these claims. Fails with OR0901 (exit 9), with the claim and without the token.
pub fn check_claims(token: &Secret, names: &Names, uid: &str) -> Result<()> {
    let wrong = |what: &str, found: &str| {
        Failure::new(Id::TokenClaims, format!("the token's {what} does not match {}", names.account()))
            .detail("it says", if found.is_empty() { "nothing" } else { found })
            .hint(("issue a new one", Command::outrigger("issue-token --reissue cluster")))
    };
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("alphabet", "a character that is invalid in an HTTP header"));
    }
    let claims = claims(token).ok_or_else(|| wrong("payload", "invalid JSON"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nested = &claims["kubernetes.io"];
    let either = |flat: &str, nested: &Value| {
        let value = text(&claims[format!("kubernetes.io/serviceaccount/{flat}")]);
        if value.is_empty() { text(nested) } else { value }
    };
    let found = [
        ("sub", text(&claims["sub"]), names.account_user()),
        ("namespace", either("namespace", &nested["namespace"]), names.runner_namespace.clone()),
        ("name", either("service-account.name", &nested["serviceaccount"]["name"]), names.deployment.clone()),
        ("uid", either("service-account.uid", &nested["serviceaccount"]["uid"]), uid.to_owned()),
    ];
    for (claim, found, wanted) in found {
        if found != wanted {
            return Err(wrong(claim, &found));
        }
    }
    Ok(())
}

/// Times of issue and expiry; `None` for a token that does not expire.
pub fn lifetime(token: &Secret) -> Option<(Timestamp, Timestamp)> {
    let claims = claims(token)?;
    let time = |name: &str| claims[name].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Some((time("iat")?, time("exp")?))
}

fn claims(token: &Secret) -> Option<Value> {
    let payload = token.expose().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(claims: &Value) -> Secret {
        Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    fn names() -> Names {
        Names { deployment: "d".into(), runner_namespace: "r".into(), job_namespace: "j".into() }
    }

    #[test]
    fn claims_of_both_token_types_are_compared() {
        let legacy = json!({"sub": "system:serviceaccount:r:d", "kubernetes.io/serviceaccount/namespace": "r",
            "kubernetes.io/serviceaccount/service-account.name": "d", "kubernetes.io/serviceaccount/service-account.uid": "u"});
        let requested = json!({"sub": "system:serviceaccount:r:d",
            "kubernetes.io": {"namespace": "r", "serviceaccount": {"name": "d", "uid": "u"}}});
        for claims in [legacy, requested] {
            assert!(check_claims(&token(&claims), &names(), "u").is_ok());
            let failure =
                check_claims(&token(&claims), &names(), "other").expect_err("another ServiceAccount");
            assert_eq!((failure.id, failure.kind.exit_code()), (Id::TokenClaims, 9));
        }
    }

    #[test]
    fn invalid_token_is_refused_and_not_shown() {
        for bad in ["", "canary", "a.canary.c", "a.e30.c\nx"] {
            let failure = check_claims(&Secret::new(bad), &names(), "u").expect_err(bad);
            assert!(!format!("{failure:?}").contains("canary"));
        }
    }
}
