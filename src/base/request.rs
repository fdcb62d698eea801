//! How requests are sent, whichever server they go to: deadlines, retries, the signal to stop, what is told and
//! counted. What an answer means is the server's matter ([`Refused`]).

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::cancel::Cancel;
use super::error::Failure;

/// Called before a retry's pause: what is retried, for how long we wait, and why.
pub type RetryNotice = Rc<dyn Fn(&str, Duration, &str)>;

/// Told each request and its status; never bodies or headers.
pub type Trace = Rc<dyn Fn(&str)>;

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

/// What a request does there, from which follows when it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It stores nothing: sent again as often as the deadline allows.
    Reads,
    /// It stores nothing, and its answer is not worth a wait: sent once.
    Probes,
    /// It changes something, and the same again makes no difference (a deletion by uid, a forced apply).
    Sets,
    /// It makes something: sent again only where the server says that it did not look at it.
    Makes,
}

/// A request that did not succeed, in the words of its server.
pub trait Refused {
    /// Ended by a signal before it was sent.
    fn interrupted(what: &str, failure: Failure) -> Self;
    /// No answer in time.
    fn timeout(what: &str, why: &str) -> Self;
    /// Whether no answer came at all.
    fn is_silent(&self) -> bool;
    /// Whether the same request may well succeed a little later.
    fn heals(&self) -> bool;
    /// Whether the server says that it did not look at the request.
    fn is_unseen(&self) -> bool;
    /// How long the server asks to wait.
    fn retry_after(&self) -> Option<Duration>;
    /// What went wrong.
    fn message(&mut self) -> &mut String;
}

/// What a request says that was not sent because the run's time is over.
pub const OVER: &str = "the run's --timeout has expired";
/// How often a request may go without any answer before it is given up: a server that is not there seldom
/// comes back within a run; one that says "later" does.
const SILENCES: u32 = 3;

/// Sends the requests of one connection. Clones share the count and the lanes.
#[derive(Clone)]
pub struct Sender {
    /// The server and the way to it, for messages.
    pub address: Rc<str>,
    /// When the last request must be over.
    pub deadline: Instant,
    /// The most that one request may take.
    pub request_timeout: Duration,
    /// How often a request is tried in all, unless the server throttles.
    pub attempts: u32,
    /// The first pause before a retry, where the server names none, and the longest.
    pub pauses: (Duration, Duration),
    lanes: Rc<Semaphore>,
    cancel: Cancel,
    notice: RetryNotice,
    mutations: Rc<Cell<usize>>,
    trace: Option<Trace>,
}

impl Sender {
    /// For one server: at most `lanes` requests are under way at once, and a retry waits at least the first of
    /// `pauses`, at most the second.
    pub fn new(address: &str, limits: &Limits, lanes: usize, pauses: (Duration, Duration)) -> Self {
        Self {
            address: Rc::from(address),
            deadline: limits.deadline,
            request_timeout: limits.request_timeout,
            attempts: u32::MAX,
            pauses,
            lanes: Rc::new(Semaphore::new(lanes)),
            cancel: limits.cancel.clone(),
            notice: Rc::clone(&limits.notice),
            mutations: Rc::default(),
            trace: None,
        }
    }

    /// For what must be done even after an interruption or past the deadline, within `grace`.
    pub fn for_cleanup(&self, grace: Duration) -> Self {
        let deadline = (Instant::now() + grace).max(self.deadline);
        Self { cancel: Cancel::default(), deadline, ..self.clone() }
    }

    /// Tells every request from now on to `sink` (for `-v`).
    pub fn trace_to(&mut self, sink: Trace) {
        self.trace = Some(sink);
    }

    /// Tells a request that was answered.
    pub fn trace(&self, method: &str, path: &str, status: u16) {
        if let Some(sink) = &self.trace {
            sink(&format!("{method} {path} {status}"));
        }
    }

    /// How many requests that change something were sent, each counted once however often it was tried.
    pub fn mutations(&self) -> usize {
        self.mutations.get()
    }

    fn remaining(&self) -> Duration {
        tokio::time::Instant::from_std(self.deadline).saturating_duration_since(tokio::time::Instant::now())
    }

    /// Sends a request, by `attempt`, until it is answered for good.
    ///
    /// # Errors
    /// The refusal that is not to be waited for, or the last one before time is over.
    pub async fn send<T, E: Refused>(
        &self,
        what: &str,
        effect: Effect,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        if matches!(effect, Effect::Sets | Effect::Makes) {
            self.mutations.set(self.mutations.get() + 1);
        }
        let (mut pause, longest) = self.pauses;
        let (mut silent, mut tried) = (0, 0);
        loop {
            let answer = {
                let _lane = self.lanes.acquire().await;
                if let Some(failure) = self.cancel.requested() {
                    return Err(E::interrupted(what, failure));
                }
                let remaining = self.remaining();
                let limit = remaining.min(self.request_timeout);
                if remaining.is_zero() {
                    Err(E::timeout(what, OVER))
                } else {
                    tokio::time::timeout(limit, attempt()).await.unwrap_or_else(|_| {
                        Err(E::timeout(what, &format!("no answer within {} s", limit.as_secs().max(1))))
                    })
                }
            };
            let mut refusal = match answer {
                Ok(value) => return Ok(value),
                Err(refusal) => refusal,
            };
            if refusal.is_silent() && !refusal.message().contains(&*self.address) {
                let message = refusal.message();
                *message = format!("{message} ({})", self.address);
            }
            silent += u32::from(refusal.is_silent());
            tried += u32::from(!refusal.is_unseen());
            let may_repeat = match effect {
                Effect::Reads | Effect::Sets => refusal.heals(),
                Effect::Makes => refusal.is_unseen(),
                Effect::Probes => false,
            };
            let remaining = self.remaining();
            if !may_repeat || silent >= SILENCES || tried >= self.attempts {
                return Err(refusal);
            }
            let asked = refusal.retry_after();
            let wait = asked.unwrap_or(pause);
            if wait >= remaining {
                if asked.is_some() {
                    let more =
                        format!(" (it asks to wait {} s, longer than this run may take)", wait.as_secs());
                    refusal.message().push_str(&more);
                }
                return Err(refusal);
            }
            (self.notice)(what, wait, refusal.message());
            self.cancel
                .unless_requested(tokio::time::sleep(wait))
                .await
                .map_err(|failure| E::interrupted(what, failure))?;
            pause = (pause * 2).min(longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    /// Status, `Retry-After` in seconds, words.
    #[derive(Debug, PartialEq)]
    struct Answered(u16, Option<u64>, String);

    impl Refused for Answered {
        fn interrupted(_: &str, failure: Failure) -> Self {
            Self(0, None, failure.message)
        }
        fn timeout(_: &str, why: &str) -> Self {
            Self(0, None, why.to_owned())
        }
        fn is_silent(&self) -> bool {
            self.0 == 0
        }
        fn heals(&self) -> bool {
            matches!(self.0, 0 | 429 | 503)
        }
        fn is_unseen(&self) -> bool {
            self.0 == 429
        }
        fn retry_after(&self) -> Option<Duration> {
            self.1.map(Duration::from_secs)
        }
        fn message(&mut self) -> &mut String {
            &mut self.2
        }
    }

    fn sender(notice: impl Fn(Duration) + 'static) -> (Sender, Cancel) {
        let cancel = Cancel::default();
        let limits = Limits {
            deadline: tokio::time::Instant::now().into_std() + Duration::from_secs(300),
            request_timeout: Duration::from_secs(10),
            cancel: cancel.clone(),
            notice: Rc::new(move |_, wait, _| notice(wait)),
        };
        (Sender::new("https://there", &limits, 2, (Duration::from_secs(1), Duration::from_secs(4))), cancel)
    }

    /// How often a request is sent that is always answered so, and what it ends with.
    async fn sent(effect: Effect, code: u16, after: Option<u64>) -> (u32, Answered) {
        let mut times = 0;
        let attempt = async || {
            times += 1;
            if times == 5 { Ok(()) } else { Err(Answered(code, after, "words".to_owned())) }
        };
        let end = sender(|_| {}).0.send("ask", effect, attempt).await;
        (times, end.err().unwrap_or(Answered(200, None, String::new())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_sent_again_as_its_effect_and_the_answer_allow() {
        for (effect, code, times) in [
            (Effect::Reads, 503, 5),
            (Effect::Reads, 400, 1),
            (Effect::Reads, 0, 3),
            (Effect::Sets, 503, 5),
            (Effect::Makes, 503, 1),
            (Effect::Makes, 0, 1),
            (Effect::Makes, 429, 5),
            (Effect::Probes, 429, 1),
        ] {
            assert_eq!(sent(effect, code, None).await.0, times, "{effect:?} {code}");
        }
        assert_eq!(sent(Effect::Reads, 0, None).await.1.2, "words (https://there)");
        let (times, end) = sent(Effect::Reads, 429, Some(301)).await;
        assert_eq!((times, end.2.contains("asks to wait 301 s")), (1, true), "{}", end.2);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_silence_is_cut_short() {
        let waits = Rc::new(Cell::new(0));
        let told = Rc::clone(&waits);
        let (mut sender, _) = sender(move |wait| told.set(told.get() * 10 + wait.as_secs()));
        sender.attempts = 5;
        let end =
            sender.send("ask", Effect::Sets, async || Err::<(), _>(Answered(503, None, String::new()))).await;
        assert_eq!((end.expect_err("refused").0, waits.get(), sender.mutations()), (503, 1244, 1));
        let started = tokio::time::Instant::now();
        let end = sender.send("ask", Effect::Makes, std::future::pending::<Result<(), Answered>>).await;
        assert_eq!(end.expect_err("silent").2, "no answer within 10 s (https://there)");
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_a_pause_and_not_a_request() {
        let (sender, cancel) = sender(|_| {});
        let started = tokio::time::Instant::now();
        let slow = async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok::<_, Answered>("done")
        };
        let signal = async |after| {
            tokio::time::sleep(Duration::from_secs(after)).await;
            cancel.stop(Kind::Interrupted);
        };
        let later = async || Err::<(), _>(Answered(429, Some(120), "later".to_owned()));
        let (waiting, done, ()) = tokio::join!(
            sender.send("ask", Effect::Reads, later),
            sender.send("ask", Effect::Makes, slow),
            signal(1)
        );
        assert_eq!((waiting.expect_err("stopped").2.as_str(), done), ("interrupted", Ok("done")));
        assert_eq!(started.elapsed().as_secs(), 5);
        // Nothing more is sent, but for what has to be put right.
        assert!(sender.send("ask", Effect::Reads, slow).await.is_err());
        let cleanup = sender.for_cleanup(Duration::from_secs(20));
        assert_eq!(cleanup.send("ask", Effect::Reads, slow).await, Ok("done"));
    }
}
