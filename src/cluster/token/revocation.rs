//! Verifies that a deleted token is rejected.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::proof;
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::wait::{self, Pace};
use crate::cluster::Class;
use crate::cluster::deletion;
use crate::cluster::view::{Hand, View};
use crate::deployment::object::{Object, Ref};

/// The token in a Secret, if the cluster filled it.
pub fn token_in(secret: &Object) -> Option<Secret> {
    let encoded = secret.value["data"]["token"].as_str()?;
    let bytes = STANDARD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok().filter(|token| !token.is_empty()).map(Secret::new)
}

/// Deletes the Secret with this uid and waits until its token is rejected. Returns the result in words.
///
/// # Errors
/// As the deletion; OR0501 if the token is still accepted after a minute.
pub async fn revoke(hand: &Hand, reference: &Ref, uid: &str, step: &'static str) -> Result<String> {
    // The token is needed to verify its revocation.
    let live = hand.read(reference).await.map_err(Failure::from)?;
    let token = live.and_then(|live| token_in(&live));
    let what = match hand.delete(reference, uid).await? {
        None => "deleted Secret".to_owned(),
        // Waited for at the end; the token is invalid from now on.
        Some(live) => deletion::shown(&live),
    };
    Ok(match token {
        None => format!("{what}; revocation not verified (token not available)"),
        Some(token) => {
            let waited = revoked(hand, &token, step).await?;
            format!("{what}; the old token gets 401 (after {waited} s)")
        }
    })
}

/// Waits until the old token is rejected; API servers cache a valid one for some 10 s.
async fn revoked(view: &View, token: &Secret, step: &'static str) -> Result<u64> {
    let client = proof::client(view, token).await?;
    let started = Instant::now();
    let look = async || {
        let (group, kind) = ("authentication.k8s.io", "SelfSubjectReview");
        match client.review("review the old token", group, kind, serde_json::Value::Null).await {
            Err(refusal) if refusal.class == Class::Unauthorized => Ok(Break(started.elapsed().as_secs())),
            Err(refusal) if refusal.class != Class::Forbidden => Err(refusal.into()),
            _ => Ok(Continue(())),
        }
    };
    let tell = |(): &(), waited| view.progress.waiting(step, "the old token to be rejected", waited);
    let pace = Pace::new(&view.limits, 500, 500).within(Duration::from_secs(60));
    wait::until(pace, tell, look).await?.map_err(|()| {
        Failure::new(Id::NotRemoved, "the old token is still accepted a minute after its Secret was deleted")
            .hint("run the same command again; the API server may cache tokens for longer")
            .passing()
    })
}
