//! The request to stop after a signal.

use std::cell::Cell;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::error::{Failure, Id, Kind, Result};

/// Set by a signal; clones share it. All code that sends requests or waits checks it.
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

    /// OR0102 after [`Self::stop`].
    pub fn requested(&self) -> Option<Failure> {
        self.kind.get().map(|kind| Failure::new(Id::Interrupted, "interrupted").with_kind(kind))
    }

    /// Waits for `work`, and drops it with OR0102 on a signal. Not for requests, which must not be dropped.
    pub async fn unless_requested<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let done = self.token.run_until_cancelled(work).await;
        done.ok_or_else(|| self.requested().unwrap_or_else(|| Failure::new(Id::Interrupted, "interrupted")))
    }
}
