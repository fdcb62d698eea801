//! Sends requests to any server: deadlines, retries, the signal to stop, notices and counts. The interpretation
//! of responses is specific to the server ([`Refused`]).

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::cancel::Cancel;
use super::error::Failure;

/// Called before the pause of a retry with the request, the pause and the reason.
pub type RetryNotice = Rc<dyn Fn(&str, Duration, &str)>;

/// A request that was sent. Headers are never part of it.
#[derive(Clone, Copy, Debug)]
pub struct Traced<'a> {
    pub method: &'a str,
    /// Host and port, with the path prefix of the server.
    pub host: &'a str,
    pub path: &'a str,
    /// `None` if there was no response.
    pub status: Option<u16>,
    pub took: Duration,
    /// The body of the request, and of the response. They may hold secrets.
    pub sent: &'a [u8],
    pub received: &'a [u8],
}

/// Called after each request.
pub type Trace = Rc<dyn Fn(&Traced<'_>)>;

/// The end of a run. Clones share what [`Deadline::extend`] adds.
#[derive(Clone, Debug)]
pub struct Deadline {
    first: Instant,
    added: Rc<Cell<Duration>>,
}

impl Deadline {
    pub fn at(first: Instant) -> Self {
        Self { first, added: Rc::default() }
    }

    /// Ends `time` from now.
    pub fn after(time: Duration) -> Self {
        Self::at(Instant::now() + time)
    }

    /// Moves the end: the time that the user takes to answer does not count.
    pub fn extend(&self, by: Duration) {
        self.added.set(self.added.get() + by);
    }

    pub fn instant(&self) -> Instant {
        self.first + self.added.get()
    }

    pub fn remaining(&self) -> Duration {
        // tokio's clock, which tests pause.
        tokio::time::Instant::from_std(self.instant()).saturating_duration_since(tokio::time::Instant::now())
    }
}

/// The limits of a run, shared by its connections.
#[derive(Clone)]
pub struct Limits {
    /// The end of the run.
    pub deadline: Deadline,
    pub request_timeout: Duration,
    pub cancel: Cancel,
    pub notice: RetryNotice,
    /// For `-v` and `--log-file`.
    pub trace: Option<Trace>,
}

/// The effect of a request on the server, which decides whether it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Stores nothing: retried until the deadline.
    Reads,
    /// Stores nothing, and the response is not worth a wait: sent once.
    Probes,
    /// Changes something idempotently (a deletion by uid, a forced apply): retried until the deadline.
    Sets,
    /// Creates something: retried only if the server says that it did not process the request.
    Makes,
}

/// A failed request, in the words of its server.
pub trait Refused {
    /// A signal stopped the request before it was sent.
    fn interrupted(what: &str, failure: Failure) -> Self;
    fn timeout(what: &str, why: &str) -> Self;
    /// Whether there was no response.
    fn has_no_response(&self) -> bool;
    /// Whether the same request may succeed after a pause.
    fn is_retryable(&self) -> bool;
    /// Whether the request may have been carried out although it failed.
    fn is_ambiguous(&self) -> bool;
    /// Whether the server says that it did not process the request.
    fn was_not_processed(&self) -> bool;
    /// The pause that the server asks for.
    fn retry_after(&self) -> Option<Duration>;
    fn message(&mut self) -> &mut String;
    /// Notes that the pause that the server asks for is longer than the run may take.
    fn asks_too_much(&mut self);
}

/// What [`Refused::asks_too_much`] notes, for the user.
pub fn too_long(pause: Option<Duration>) -> String {
    let seconds = pause.unwrap_or_default().as_secs();
    format!("the response asks to wait {seconds} s, longer than this run may take")
}

/// The reason of a request that was not sent because the run's deadline has passed.
pub const OVER: &str = "the run's --timeout has expired";
/// Attempts without a response before a request fails: a server that does not respond at all rarely recovers
/// within a run, unlike one that asks to retry later.
const SILENCES: u32 = 3;

/// Sends the requests of one connection. Clones share the count of changes and the limit of parallel requests.
#[derive(Clone)]
pub struct Sender {
    /// The server and its proxy, for messages.
    pub address: Rc<str>,
    /// The end of the last request.
    pub deadline: Deadline,
    pub request_timeout: Duration,
    /// Attempts per request, not counting those that the server did not process.
    pub attempts: u32,
    /// The first pause before a retry if the server names none, and the longest.
    pub pauses: (Duration, Duration),
    lanes: Rc<Semaphore>,
    cancel: Cancel,
    notice: RetryNotice,
    mutations: Rc<Cell<usize>>,
    trace: Option<Trace>,
}

impl Sender {
    /// `lanes` is the limit of parallel requests.
    pub fn new(address: &str, limits: &Limits, lanes: usize, pauses: (Duration, Duration)) -> Self {
        Self {
            address: Rc::from(address),
            deadline: limits.deadline.clone(),
            request_timeout: limits.request_timeout,
            attempts: u32::MAX,
            pauses,
            lanes: Rc::new(Semaphore::new(lanes)),
            cancel: limits.cancel.clone(),
            notice: Rc::clone(&limits.notice),
            mutations: Rc::default(),
            trace: limits.trace.clone(),
        }
    }

    /// A sender for cleanup: it ignores a signal, and its deadline is at least `grace` from now.
    pub fn for_cleanup(&self, grace: Duration) -> Self {
        let deadline = Deadline::at((Instant::now() + grace).max(self.deadline.instant()));
        Self { cancel: Cancel::default(), deadline, ..self.clone() }
    }

    /// Reports a request that was sent at `started`, with its response.
    pub fn trace(
        &self,
        (method, path): (&str, &str),
        started: Instant,
        sent: &[u8],
        response: Option<(u16, &[u8])>,
    ) {
        if let Some(sink) = &self.trace {
            let host = self.address.split(' ').next().unwrap_or_default();
            let host = host.split_once("://").map_or(host, |(_, host)| host);
            let (status, received) = response.map_or((None, &[][..]), |(status, body)| (Some(status), body));
            sink(&Traced { method, host, path, status, took: started.elapsed(), sent, received });
        }
    }

    /// The number of requests with an effect [`Effect::Sets`] or [`Effect::Makes`], without their retries and without
    /// those that the server refused.
    pub fn mutations(&self) -> usize {
        self.mutations.get()
    }

    fn remaining(&self) -> Duration {
        self.deadline.remaining()
    }

    /// Calls `attempt` until it succeeds, fails with an error that a retry cannot solve, or the deadline is near.
    /// Returns the last error.
    pub async fn send<T, E: Refused>(
        &self,
        what: &str,
        effect: Effect,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let changes = usize::from(matches!(effect, Effect::Sets | Effect::Makes));
        // Counted while it is under way: a second signal ends the run then.
        self.mutations.set(self.mutations.get() + changes);
        let mut unclear = false;
        let sent = self.repeat(what, effect, async || {
            let answer = attempt().await;
            unclear |= answer.as_ref().is_err_and(E::is_ambiguous);
            answer
        });
        let end = sent.await;
        // A timeout gives no answer.
        if end.as_ref().is_err_and(|refusal| !refusal.is_ambiguous()) && !unclear {
            self.mutations.set(self.mutations.get() - changes);
        }
        end
    }

    async fn repeat<T, E: Refused>(
        &self,
        what: &str,
        effect: Effect,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut pause, longest) = self.pauses;
        let (mut silent, mut tried) = (0, 0);
        // Attempts since the server answered last, and the first of them.
        let (mut unanswered, mut since) = (0_usize, tokio::time::Instant::now());
        loop {
            let answer = {
                let _lane = self.lanes.acquire().await;
                if let Some(failure) = self.cancel.requested() {
                    return Err(E::interrupted(what, failure));
                }
                let remaining = self.remaining();
                let limit = remaining.min(self.request_timeout);
                unanswered += 1;
                if remaining.is_zero() {
                    Err(E::timeout(what, OVER))
                } else {
                    tokio::time::timeout(limit, attempt()).await.unwrap_or_else(|_| {
                        let waited = since.elapsed().as_secs_f64().round().max(1.0);
                        let attempts = match unanswered {
                            1 => String::new(),
                            n => format!(", in {n} attempts"),
                        };
                        Err(E::timeout(what, &format!("no answer within {waited:.0} s{attempts}")))
                    })
                }
            };
            let mut refusal = match answer {
                Ok(value) => return Ok(value),
                Err(refusal) => refusal,
            };
            if refusal.has_no_response() && !refusal.message().contains(&*self.address) {
                let message = refusal.message();
                *message = format!("{message} ({})", self.address);
            }
            silent += u32::from(refusal.has_no_response());
            if !refusal.has_no_response() {
                unanswered = 0;
            }
            tried += u32::from(!refusal.was_not_processed());
            let may_repeat = match effect {
                Effect::Reads | Effect::Sets => refusal.is_retryable(),
                Effect::Makes => refusal.was_not_processed(),
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
                    refusal.asks_too_much();
                }
                return Err(refusal);
            }
            (self.notice)(what, wait, refusal.message());
            self.cancel
                .unless_requested(tokio::time::sleep(wait))
                .await
                .map_err(|failure| E::interrupted(what, failure))?;
            if unanswered == 0 {
                since = tokio::time::Instant::now();
            }
            pause = (pause * 2).min(longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    /// Status, `Retry-After` in seconds, message.
    #[derive(Debug, PartialEq)]
    struct Answered(u16, Option<u64>, String);

    impl Refused for Answered {
        fn interrupted(_: &str, failure: Failure) -> Self {
            Self(0, None, failure.message)
        }
        fn timeout(_: &str, why: &str) -> Self {
            Self(0, None, why.to_owned())
        }
        fn has_no_response(&self) -> bool {
            self.0 == 0
        }
        fn is_retryable(&self) -> bool {
            matches!(self.0, 0 | 429 | 503)
        }
        fn is_ambiguous(&self) -> bool {
            matches!(self.0, 0 | 500..)
        }
        fn was_not_processed(&self) -> bool {
            self.0 == 429
        }
        fn retry_after(&self) -> Option<Duration> {
            self.1.map(Duration::from_secs)
        }
        fn message(&mut self) -> &mut String {
            &mut self.2
        }
        fn asks_too_much(&mut self) {
            self.2 = too_long(self.retry_after());
        }
    }

    fn sender(notice: impl Fn(Duration) + 'static) -> (Sender, Cancel) {
        let cancel = Cancel::default();
        let limits = Limits {
            deadline: Deadline::at(tokio::time::Instant::now().into_std() + Duration::from_secs(300)),
            request_timeout: Duration::from_secs(10),
            cancel: cancel.clone(),
            notice: Rc::new(move |_, wait, _| notice(wait)),
            trace: None,
        };
        (Sender::new("https://there", &limits, 2, (Duration::from_secs(1), Duration::from_secs(4))), cancel)
    }

    /// The number of attempts with this response to each of the first four, and the final result.
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
    async fn retries_by_effect_and_response() {
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
    async fn pauses_grow_and_a_silent_request_times_out() {
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
    async fn a_timeout_names_the_time_since_the_last_answer() {
        let (mut sender, _) = sender(|_| {});
        sender.deadline = Deadline::at(tokio::time::Instant::now().into_std() + Duration::from_secs(12));
        let end = sender.send("ask", Effect::Reads, std::future::pending::<Result<(), Answered>>).await;
        assert_eq!(end.expect_err("silent").2, "no answer within 12 s, in 2 attempts (https://there)");
        let (mut sender, _) = self::sender(|_| {});
        sender.deadline = Deadline::at(tokio::time::Instant::now().into_std() + Duration::from_secs(3));
        let mut first = true;
        let once = async || {
            if std::mem::take(&mut first) {
                return Err::<(), _>(Answered(503, None, "busy".to_owned()));
            }
            std::future::pending().await
        };
        let end = sender.send("ask", Effect::Reads, once).await;
        assert_eq!(end.expect_err("silent").2, "no answer within 2 s (https://there)");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_request_is_no_change() {
        for (code, later, changes) in [(409, 409, 0), (503, 503, 1), (0, 0, 1), (503, 409, 1), (200, 200, 1)]
        {
            let (sender, _) = sender(|_| {});
            let mut codes = [code, later].into_iter();
            let answer = async || match codes.next() {
                Some(200) => Ok(()),
                next => Err(Answered(next.unwrap_or(409), None, String::new())),
            };
            let _ = sender.send("ask", Effect::Sets, answer).await;
            assert_eq!(sender.mutations(), changes, "{code}, then {later}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_a_pause_but_not_a_request() {
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
        // After the signal, only cleanup requests are sent.
        assert!(sender.send("ask", Effect::Reads, slow).await.is_err());
        let cleanup = sender.for_cleanup(Duration::from_secs(20));
        assert_eq!(cleanup.send("ask", Effect::Reads, slow).await, Ok("done"));
    }
}
