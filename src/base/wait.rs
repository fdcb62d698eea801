//! Polls for a state that something else brings about: a controller, a replica, a machine.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;

use super::cancel::Cancel;
use super::error::Result;
use super::request::Limits;

/// How often and how long to poll.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'a> {
    /// Ends a pause at once.
    pub cancel: &'a Cancel,
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    pub longest: Duration,
    /// The time of the last poll.
    pub deadline: std::time::Instant,
}

impl<'a> Pace<'a> {
    /// Pauses from `first` to `longest` milliseconds, until one second before the run's deadline.
    pub fn new(limits: &'a Limits, first: u64, longest: u64) -> Self {
        let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
        let end = limits.deadline.instant();
        let deadline = end.checked_sub(Duration::from_secs(1)).unwrap_or(end);
        Self { cancel: &limits.cancel, first, longest, deadline }
    }

    /// Polls for `time` from now. If the run's deadline is earlier, a request reports it.
    pub fn within(self, time: Duration) -> Self {
        Self { deadline: std::time::Instant::now() + time, ..self }
    }

    /// Polls for `time` from now, but at most until the deadline set so far.
    pub fn or_within(self, time: Duration) -> Self {
        Self { deadline: self.deadline.min(std::time::Instant::now() + time), ..self }
    }
}

/// Calls `look` until it breaks with a value. `tell` gets the last observation and the time waited before each
/// pause. The last call is at the deadline; its observation is returned as the inner `Err`. Fails with the
/// errors of `look`, and with OR0102 on a signal during a pause.
pub async fn until<T, S>(
    pace: Pace<'_>,
    tell: impl Fn(&S, Duration),
    mut look: impl AsyncFnMut() -> Result<ControlFlow<T, S>>,
) -> Result<Result<T, S>> {
    let started = Instant::now();
    let deadline = Instant::from_std(pace.deadline);
    let mut pause = pace.first;
    loop {
        let seen = match look().await? {
            ControlFlow::Break(found) => return Ok(Ok(found)),
            ControlFlow::Continue(seen) => seen,
        };
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(Err(seen));
        }
        tell(&seen, started.elapsed());
        pace.cancel.unless_requested(tokio::time::sleep(pause.min(remaining))).await?;
        pause = (pause * 2).min(pace.longest);
    }
}

/// Whether a wait took half a second or more; a shorter one is not reported.
pub fn is_long(waited: Duration) -> bool {
    waited >= Duration::from_millis(500)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ops::ControlFlow::{Break, Continue};

    use super::*;
    use crate::base::error::Kind;

    fn pace(cancel: &Cancel, seconds: u64) -> Pace<'_> {
        Pace {
            cancel,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(4),
            deadline: (Instant::now() + Duration::from_secs(seconds)).into_std(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_the_last_poll_is_at_the_deadline() {
        let cancel = Cancel::default();
        let started = Instant::now();
        let looks = Cell::new(Vec::new());
        let told = Cell::new(0);
        let look = async || {
            let mut all = looks.take();
            all.push(started.elapsed().as_secs());
            looks.set(all);
            Ok(Continue::<(), _>("not yet"))
        };
        let seen = until(pace(&cancel, 13), |_, _| told.set(told.get() + 1), look).await;
        assert_eq!(seen.expect("no failure"), Err("not yet"));
        assert_eq!(looks.take(), [0, 1, 3, 7, 11, 13]);
        assert_eq!(told.get(), 5);
        let mut left = 3;
        let look = async || {
            left -= 1;
            Ok(if left == 0 { Break("there") } else { Continue(()) })
        };
        assert_eq!(until(pace(&cancel, 13), |(), _| {}, look).await.expect("no failure"), Ok("there"));
        assert_eq!(left, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_a_pause_at_once() {
        let cancel = Cancel::default();
        let started = Instant::now();
        let slow = Pace { first: Duration::from_secs(60), ..pace(&cancel, 600) };
        let look = async || Ok(Continue::<(), _>(()));
        let signal = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.stop(Kind::Terminated);
        };
        let (ended, ()) = tokio::join!(until(slow, |(), _| {}, look), signal);
        assert_eq!(ended.expect_err("stopped").kind, Kind::Terminated);
        assert_eq!(started.elapsed().as_secs(), 1);
    }
}
