//! Decides whether the issued cluster token is still valid for the written script.
//!
//! A token in a ServiceAccount token Secret can be read again, a requested token cannot: if it was not written to a
//! script, it is lost. So the anchor and the record contain the uid of the Secret to which the last script's token is
//! bound.

use crate::base::hint::Command;
use crate::deployment::notes::Notes;
use crate::deployment::object::{FILLED_BY_CLUSTER, Object};
use crate::deployment::run::Run;
use crate::settings::Reissue;

/// Whether the Secret contains its token.
pub fn is_readable(secret: &Object) -> bool {
    secret.value["type"] == FILLED_BY_CLUSTER
}

/// The reason to replace a live Secret's token, if any.
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
        return Some("a new token: the requested one was written to no script".to_owned());
    }
    let ended = notes.token_expires().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    ended
        .filter(|ended| *ended <= run.now)
        .map(|ended| format!("a new token: the old one expired at {ended}"))
}

/// The command that renews the token. Without a runner of its own in GitLab, the jobs that use the old one are not known.
pub fn command(notes: &Notes) -> Command {
    let is_own = notes.record().gitlab.owned().is_some();
    Command::outrigger(if is_own { "rotate cluster" } else { "setup --reissue cluster" })
}

/// Whether the last script's token differs from the deployment's token after this run.
pub fn script_is_stale(run: &Run, notes: &Notes, live: Option<&Object>) -> bool {
    let Some(live) = live else { return true };
    let noted = notes.script_secret();
    renewal(run, notes, live).is_some() || (!noted.is_empty() && noted != live.uid())
}
