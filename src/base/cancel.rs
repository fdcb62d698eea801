//! The signal to stop: set once, awaited by whatever waits.

use std::cell::Cell;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::error::{Failure, Id, Kind, Result};

/// Told to stop by a signal; shared by everything that sends requests or waits.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    token: CancellationToken,
    kind: Rc<Cell<Option<Kind>>>,
}

impl Cancel {
    /// Asks to stop after the request in flight.
    pub fn stop(&self, kind: Kind) {
        self.kind.set(Some(kind));
        self.token.cancel();
    }

    /// The failure to end with (OR0102), once asked to stop.
    pub fn requested(&self) -> Option<Failure> {
        self.kind.get().map(|kind| Failure::new(Id::Interrupted, "interrupted").with_kind(kind))
    }

    /// Waits for something that may be dropped half-way, which a request may not: a signal ends the wait at once.
    ///
    /// # Errors
    /// OR0102, once asked to stop.
    pub async fn unless_requested<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let done = self.token.run_until_cancelled(work).await;
        done.ok_or_else(|| self.requested().unwrap_or_else(|| Failure::new(Id::Interrupted, "interrupted")))
    }
}
