//! GitLab for a run: reads ([`View`], each at most once) and writes ([`Hand`]).

use std::ops::Deref;
use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::base::error::{Failure, Id, Result};
use crate::base::event::Reporter;
use crate::base::files::Intake;
use crate::base::proxy::Variables;
use crate::base::request::Limits;
use crate::base::secret::Secret;
use crate::deployment::notes::{Journal, Notes};
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
    /// The connection.
    pub client: Option<Gitlab>,
    /// Why there is none.
    pub why_not: String,
    /// The trusted roots.
    pub roots: Roots,
    /// The proxy variables.
    pub proxies: Variables,
}

/// Reads from GitLab as the operator.
pub struct View {
    /// The run.
    pub run: Rc<Run>,
    /// Record and anchor.
    pub notes: Rc<Notes>,
    /// Limits for further clients.
    pub limits: Limits,
    /// The sink for events.
    pub progress: Rc<dyn Reporter>,
    /// Reads the user's files.
    pub intake: Rc<Intake>,
    pub(super) access: Access,
    pub(super) instance: OnceCell<Instance>,
    pub(super) runner: OnceCell<Verdict>,
    pub(super) pipeline: OnceCell<pipeline::State>,
    pub(super) ca: OnceCell<GitlabCa>,
}

impl View {
    /// A view with nothing read yet.
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

    /// The same view, with what was read so far, for another run and notes.
    pub fn completed(self, run: Rc<Run>, notes: Rc<Notes>) -> Self {
        Self { run, notes, ..self }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.access.client.is_some()
    }

    /// Why there is none.
    pub fn why_not(&self) -> &str {
        &self.access.why_not
    }

    /// The time by GitLab's clock, or by ours without a connection.
    pub fn now(&self) -> jiff::Timestamp {
        self.access.client.as_ref().map_or(self.run.now, Gitlab::now)
    }

    /// What [`super::facts::instance`] has read, if it was called.
    pub fn known(&self) -> Option<&Instance> {
        self.instance.get()
    }

    /// The connection.
    ///
    /// # Errors
    /// OR0201 (exit 2) without one.
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
    /// The token.
    pub token: Secret,
    /// Its expiry (RFC 3339, UTC, whole seconds), if any.
    pub expires: Option<String>,
}

/// Writes to GitLab; dereferences to its [`View`].
pub struct Hand {
    view: View,
    /// The journal of the record.
    pub journal: Journal,
}

impl Deref for Hand {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Hand {
    /// A hand over this view.
    pub fn new(view: View, journal: Journal) -> Self {
        Self { view, journal }
    }

    /// The view alone.
    pub fn into_view(self) -> View {
        self.view
    }

    /// The number of changing requests sent.
    pub fn mutations(&self) -> usize {
        self.access.client.as_ref().map_or(0, Gitlab::mutations)
    }
}
