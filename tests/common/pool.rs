//! Several beds side by side: each scenario has one for itself, as it compares the whole world before
//! and after, and most of its time it waits.

use std::sync::{Condvar, Mutex, PoisonError};

use libtest_mimic::Trial;

use super::Scenario;
use super::bed::Bed;

/// Beds that are free.
pub struct Pool<B: 'static> {
    free: Mutex<Vec<&'static B>>,
    changed: Condvar,
}

/// A bed that one scenario has for itself until it ends, however it ends.
pub struct Lease<B: 'static> {
    pool: &'static Pool<B>,
    /// The bed.
    pub bed: &'static B,
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        self.pool.add(self.bed);
    }
}

impl<B: Sync> Pool<B> {
    /// A pool for the life of the process.
    #[must_use]
    pub fn new() -> &'static Self {
        Box::leak(Box::new(Self { free: Mutex::default(), changed: Condvar::new() }))
    }

    /// Waits for a bed.
    pub fn take(&'static self) -> Lease<B> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(bed) = free.pop() {
                return Lease { pool: self, bed };
            }
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<B> Pool<B> {
    /// Adds a bed, or gives one back.
    pub fn add(&self, bed: &'static B) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(bed);
        self.changed.notify_one();
    }
}

/// A trial that has a bed for itself.
pub fn trial<B: Sync>(
    pool: &'static Pool<B>,
    name: &str,
    kind: &str,
    run: impl FnOnce(&'static B) + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        let lease = pool.take();
        run(lease.bed);
        Ok(())
    })
    .with_kind(kind)
}

/// The scenarios as trials, each on a bed of its own.
pub fn trials<B: Bed>(pool: &'static Pool<B>, kind: &str, scenarios: &[(&str, Scenario)]) -> Vec<Trial> {
    scenarios.iter().map(|&(name, scenario)| trial(pool, name, kind, move |bed| scenario(bed))).collect()
}
