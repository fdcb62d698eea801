//! Who calls, and what each may.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::options::KeySpec;
use crate::wire::random;

/// An access key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) spec: KeySpec,
    pub(crate) id: String,
    pub(crate) secret: String,
    /// Empty for a long-term key.
    pub(crate) token: String,
    pub(crate) expires: Option<Timestamp>,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("spec", &self.spec).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn make(spec: KeySpec, now: Timestamp) -> Self {
        let token = if spec.session { text::<160>() } else { String::new() };
        let prefix = if spec.session { "ASIA" } else { "AKIA" };
        let id: String = text::<16>().to_uppercase().replace(['+', '/', '0', '1', '8', '9'], "Q");
        let expires = spec.lifetime.map(|lifetime| now + signed(lifetime));
        Self { id: format!("{prefix}{id}"), secret: text::<40>(), token, expires, spec }
    }

    /// The ARN that it acts as.
    pub(crate) fn arn(&self) -> String {
        let KeySpec { name, account, session, .. } = &self.spec;
        if *session {
            return format!("arn:aws:sts::{account}:assumed-role/{name}/{name}-session");
        }
        format!("arn:aws:iam::{account}:user/{name}")
    }

    /// The unique id that goes with the ARN.
    pub(crate) fn user_id(&self) -> String {
        let tail = &self.id[4..];
        if self.spec.session {
            return format!("AROA{tail}:{}-session", self.spec.name);
        }
        format!("AIDA{tail}")
    }
}

/// So many characters of the alphabet of keys.
fn text<const N: usize>() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    random::<N>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()
}

/// The same time, of ten years at most: that is never, and still a time when it is added to now.
pub(crate) fn signed(duration: Duration) -> SignedDuration {
    let most = SignedDuration::from_hours(10 * 365 * 24);
    SignedDuration::try_from(duration).map_or(most, |duration| duration.min(most))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
