//! Whether the cluster token that was issued still serves the script that was written.
//!
//! A token in a Secret of the cluster's own kind can be read again; a requested one is known to whoever
//! got the answer alone. So the anchor and the record note the uid of the Secret that the last script's
//! token hangs on: a run that ended between the request and the script leaves a token in nobody's hands,
//! which must not pass for one that is in place.

use crate::deployment::notes::Notes;
use crate::deployment::object::{FILLED_BY_CLUSTER, Object};
use crate::deployment::run::Run;
use crate::settings::Reissue;

/// Whether the token in this Secret can be read from it at any time.
#[must_use]
pub fn is_readable(secret: &Object) -> bool {
    secret.value["type"] == FILLED_BY_CLUSTER
}

/// Why the token of a live Secret has to be issued anew; `None` when it may stay.
#[must_use]
pub fn renewal(run: &Run, notes: &Notes, live: &Object) -> Option<String> {
    let requested = run.settings.token_lifetime.is_some();
    if run.settings.reissue.contains(&Reissue::Cluster) {
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
    if notes.script_secret() != live.uid() {
        return Some("a new token: the one that was requested has reached no script".to_owned());
    }
    let ended = notes.token_expires().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    ended.filter(|ended| *ended <= run.now).map(|ended| format!("a new token: the old one ended at {ended}"))
}

/// Whether the script that was written last holds a token that is no longer the deployment's, or will
/// not be after this run.
#[must_use]
pub fn script_is_stale(run: &Run, notes: &Notes, live: Option<&Object>) -> bool {
    let Some(live) = live else { return true };
    let noted = notes.script_secret();
    renewal(run, notes, live).is_some() || (!noted.is_empty() && noted != live.uid())
}
