//! What was asked of a server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark.
    pub query: String,
    /// Who it was authenticated as (before any impersonation), empty if nobody.
    pub user: String,
    /// The user that it asked to act as, empty if none, and the groups.
    pub acts_as: (String, Vec<String>),
    /// The name of the token it came with, where tokens have names.
    pub token: String,
    /// The id under which the answer went out, where answers have one.
    pub request_id: String,
    /// Status of the answer, 0 if there was none.
    pub status: u16,
    /// Counts up from the server's start.
    pub sequence: usize,
    /// When its head had come in.
    pub started: Instant,
    /// When its answer went out, or the connection was closed; nothing if it still waits.
    pub finished: Option<Instant>,
}

/// Takes a lock, whatever befell its last holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Entries {
    next: usize,
    entries: Vec<Logged>,
}

/// The log of a server.
#[derive(Default)]
pub(crate) struct Log(Mutex<Entries>);

impl Log {
    /// Notes a request, under a number that it gives it.
    pub(crate) fn start(&self, entry: impl FnOnce(usize) -> Logged) -> usize {
        let mut log = lock(&self.0);
        log.next += 1;
        let entry = entry(log.next);
        log.entries.push(entry);
        log.next
    }

    /// Notes the answer; the status is 0 if there is none.
    pub(crate) fn end(&self, sequence: usize, status: u16) {
        let mut log = lock(&self.0);
        if let Some(entry) = log.entries.iter_mut().rev().find(|entry| entry.sequence == sequence) {
            entry.status = status;
            entry.finished = Some(Instant::now());
        }
    }

    /// Every request since the start, or since they were forgotten.
    pub(crate) fn entries(&self) -> Vec<Logged> {
        lock(&self.0).entries.clone()
    }

    /// Forgets the requests so far.
    pub(crate) fn clear(&self) {
        lock(&self.0).entries.clear();
    }
}
