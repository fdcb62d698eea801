//! Whether the cluster token that was issued still serves the script that was written.
//!
//! A token in a Secret of the cluster's own kind can be read again; a requested one is known to whoever
//! got the answer alone. So the anchor and the record note the uid of the Secret that the last script's
//! token hangs on: a run that ended between the request and the script leaves a token in nobody's hands,
//! which must not pass for one that is in place.

use crate::deployment::names;
use crate::deployment::object::{FILLED_BY_CLUSTER, Object};
use crate::settings::Reissue;
use crate::steps::context::Context;

/// Whether the token in this Secret can be read from it at any time.
#[must_use]
pub fn is_readable(secret: &Object) -> bool {
    secret.value["type"] == FILLED_BY_CLUSTER
}

/// Why the token of a live Secret has to be issued anew; `None` when it may stay.
pub async fn renewal(cx: &Context, live: &Object) -> Option<String> {
    let requested = cx.settings.token_lifetime.is_some();
    if cx.settings.reissue.contains(&Reissue::Cluster) {
        return Some("a new token (--reissue)".to_owned());
    }
    if is_readable(live) == requested {
        return Some(if requested {
            "a requested token instead of one that does not expire".to_owned()
        } else {
            "a token that does not expire instead of a requested one".to_owned()
        });
    }
    if !requested {
        return None;
    }
    if script_secret(cx).await != live.uid() {
        return Some("a new token: the one that was requested has reached no script".to_owned());
    }
    let ended = expiry(cx).await.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    ended.filter(|ended| *ended <= cx.now).map(|ended| format!("a new token: the old one ended at {ended}"))
}

/// Whether the script that was written last holds a token that is no longer the deployment's, or will
/// not be after this run.
pub async fn script_is_stale(cx: &Context, live: Option<&Object>) -> bool {
    let Some(live) = live else { return true };
    let noted = script_secret(cx).await;
    renewal(cx, live).await.is_some() || (!noted.is_empty() && noted != live.uid())
}

/// When the token in use ends (RFC 3339); `None` for one that does not. It is printed, and whoever may write the
/// anchor's annotations may put words there: what is no time counts for nothing.
pub async fn expiry(cx: &Context) -> Option<String> {
    let recorded = cx.record.borrow().token_expires.clone();
    let text = noted(cx, recorded, names::TOKEN_EXPIRES).await?;
    text.parse::<jiff::Timestamp>().ok().map(|time| time.to_string())
}

/// The uid of the Secret that the last script's token hangs on; empty if none was written.
async fn script_secret(cx: &Context) -> String {
    let recorded = cx.record.borrow().script_secret.clone();
    noted(cx, recorded, names::SCRIPT_SECRET).await.unwrap_or_default()
}

/// A note as the record has it, else as the anchor has it.
async fn noted(cx: &Context, recorded: String, key: &str) -> Option<String> {
    if !recorded.is_empty() {
        return Some(recorded);
    }
    cx.noted(key).await
}
