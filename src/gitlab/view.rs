//! A run's access to GitLab: [`View`] for reads, each at most once, and [`Hand`] for changes.

use std::rc::Rc;
use std::time::Instant;

use tokio::sync::OnceCell;

use crate::base::error::{Failure, Id, Result};
use crate::base::event::Reporter;
use crate::base::files::Intake;
use crate::base::proxy::Variables;
use crate::base::request::{Deadline, Limits};
use crate::base::secret::Secret;
use crate::deployment::notes::{Notes, Writable};
use crate::deployment::run::Run;
use crate::gitlab::Gitlab;
use crate::gitlab::endpoint_ca::GitlabCa;
use crate::gitlab::facts::Instance;
use crate::gitlab::pipeline;
use crate::gitlab::runner::Verdict;
use crate::x509::tls::Roots;

/// The connection to GitLab's API, if any.
#[derive(Clone, Default)]
pub struct Access {
    pub client: Option<Gitlab>,
    /// The reason if there is no client.
    pub why_not: String,
    pub roots: Roots,
    pub proxies: Variables,
}

/// Reads from GitLab as the operator.
pub struct View {
    pub run: Rc<Run>,
    pub notes: Rc<Notes>,
    /// Limits for further clients.
    pub limits: Limits,
    pub progress: Rc<dyn Reporter>,
    pub intake: Rc<Intake>,
    pub(super) access: Access,
    pub(super) instance: OnceCell<Instance>,
    pub(super) runner: OnceCell<Verdict>,
    pub(super) pipeline: OnceCell<pipeline::State>,
    pub(super) ca: OnceCell<GitlabCa>,
}

impl View {
    pub fn new(
        run: Rc<Run>,
        notes: Rc<Notes>,
        limits: Limits,
        progress: Rc<dyn Reporter>,
        intake: Rc<Intake>,
        access: Access,
    ) -> Self {
        Self {
            run,
            notes,
            limits,
            progress,
            intake,
            access,
            instance: OnceCell::new(),
            runner: OnceCell::new(),
            pipeline: OnceCell::new(),
            ca: OnceCell::new(),
        }
    }

    /// Replaces run and notes; keeps the facts read so far.
    pub fn completed(self, run: Rc<Run>, notes: Rc<Notes>) -> Self {
        Self { run, notes, ..self }
    }

    /// The same access until another deadline, with the facts read so far.
    pub fn until(&self, deadline: Instant) -> Self {
        let client = self.access.client.as_ref().map(|client| client.until(deadline));
        Self {
            run: Rc::clone(&self.run),
            notes: Rc::clone(&self.notes),
            limits: Limits { deadline: Deadline::at(deadline), ..self.limits.clone() },
            progress: Rc::clone(&self.progress),
            intake: Rc::clone(&self.intake),
            access: Access { client, ..self.access.clone() },
            instance: self.instance.clone(),
            runner: self.runner.clone(),
            pipeline: self.pipeline.clone(),
            ca: self.ca.clone(),
        }
    }

    pub fn is_connected(&self) -> bool {
        self.access.client.is_some()
    }

    /// The reason if there is no connection.
    pub fn why_not(&self) -> &str {
        &self.access.why_not
    }

    /// The time by GitLab's clock, or the start of the run without a connection.
    pub fn now(&self) -> jiff::Timestamp {
        self.access.client.as_ref().map_or(self.run.now, Gitlab::now)
    }

    /// The facts of [`super::facts::instance`], if it was called.
    pub fn known(&self) -> Option<&Instance> {
        self.instance.get()
    }

    /// Fails with OR0201 (exit 2) without a connection.
    pub(super) fn client(&self) -> Result<&Gitlab> {
        self.access.client.as_ref().ok_or_else(|| {
            Failure::new(Id::MissingInput, "GitLab's API is not configured")
                .detail("because", self.access.why_not.clone())
                .hint("set --gitlab-url URL and --gitlab-token-file PATH")
        })
    }
}

/// A new runner authentication token, which GitLab shows once.
#[derive(Clone, Debug)]
pub struct RunnerToken {
    pub token: Secret,
    /// Expiry (RFC 3339, UTC, whole seconds), if any.
    pub expires: Option<String>,
}

/// Changes GitLab; also a [`View`].
pub type Hand = Writable<View>;

impl Hand {
    /// Number of mutating requests sent.
    pub fn mutations(&self) -> usize {
        self.access.client.as_ref().map_or(0, Gitlab::mutations)
    }
}
