//! What requests may cost, whichever server they go to: deadlines, and the signal to stop.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};

/// Called before a retry's pause: what is retried, for how long we wait, and why.
pub type RetryNotice = Rc<dyn Fn(&str, Duration, &str)>;

/// Told each request and its status.
pub type Trace = Box<dyn Fn(&str)>;

/// Told to stop by a signal; shared by everything that sends requests.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Rc<Cell<Option<Kind>>>);

impl Cancel {
    /// Asks to stop after the request in flight.
    pub fn stop(&self, kind: Kind) {
        self.0.set(Some(kind));
    }

    /// The failure to end with, once asked to stop.
    #[must_use]
    pub fn requested(&self) -> Option<Failure> {
        self.0.get().map(|kind| Failure::new("OR0102", kind, "interrupted"))
    }
}

/// What one request may cost: built once per run.
#[derive(Clone)]
pub struct Limits {
    /// When the whole run must be over.
    pub deadline: Instant,
    /// The most that one request may take.
    pub request_timeout: Duration,
    /// Set by a signal.
    pub cancel: Cancel,
    /// Told about each retry.
    pub notice: RetryNotice,
}
