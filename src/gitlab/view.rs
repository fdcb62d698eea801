//! GitLab as a run sees it ([`View`]: reads, each asked at most once) and changes it ([`Hand`]).

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

/// GitLab's API, as far as this run has it.
#[derive(Clone, Default)]
pub struct Access {
    /// The connection.
    pub client: Option<Gitlab>,
    /// Why there is none.
    pub why_not: String,
    /// Whom its clients believe.
    pub roots: Roots,
    /// What decides about the proxy on the way to it.
    pub proxies: Variables,
}

/// GitLab, as the operator: nothing that is asked through it persists.
pub struct View {
    /// What was asked for.
    pub run: Rc<Run>,
    /// What is remembered.
    pub notes: Rc<Notes>,
    /// Limits for further clients.
    pub limits: Limits,
    /// Where events go.
    pub progress: Rc<dyn Reporter>,
    /// What reads the files that the user names.
    pub intake: Rc<Intake>,
    pub(super) access: Access,
    /// What GitLab says of itself, of the token and of the project.
    pub(super) instance: OnceCell<Instance>,
    /// What is to become of the runner.
    pub(super) runner: OnceCell<Verdict>,
    /// How the pipeline file stands in the repository.
    pub(super) pipeline: OnceCell<pipeline::State>,
    pub(super) ca: OnceCell<GitlabCa>,
}

impl View {
    /// A view through what there is of a connection.
    #[must_use]
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

    /// The same, with what was asked so far, for a run and notes that a first look has completed.
    #[must_use]
    pub fn completed(self, run: Rc<Run>, notes: Rc<Notes>) -> Self {
        Self { run, notes, ..self }
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.access.client.is_some()
    }

    /// Why there is none.
    #[must_use]
    pub fn why_not(&self) -> &str {
        &self.access.why_not
    }

    /// The time by GitLab's clock, or by ours without a connection.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.access.client.as_ref().map_or(self.run.now, Gitlab::now)
    }

    /// What GitLab said of itself, of the token and of the project, if it was asked.
    #[must_use]
    pub fn known(&self) -> Option<&Instance> {
        self.instance.get()
    }

    /// The connection.
    ///
    /// # Errors
    /// OR0201 (exit 2) saying what is missing.
    pub(super) fn client(&self) -> Result<&Gitlab> {
        self.access.client.as_ref().ok_or_else(|| {
            Failure::new(Id::MissingInput, "this needs GitLab's API")
                .detail("because", self.access.why_not.clone())
                .hint("name the instance with --gitlab-url URL and a file with an access token with --gitlab-token-file PATH")
        })
    }
}

/// A runner authentication token that GitLab has just shown, once.
#[derive(Clone, Debug)]
pub struct RunnerToken {
    /// The token.
    pub token: Secret,
    /// When it ends (RFC 3339, UTC, whole seconds), if GitLab said so.
    pub expires: Option<String>,
}

/// What changes GitLab, and all that a [`View`] shows.
pub struct Hand {
    view: View,
    /// Where it is recorded.
    pub journal: Journal,
}

impl Deref for Hand {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Hand {
    /// A hand on what this view shows.
    #[must_use]
    pub fn new(view: View, journal: Journal) -> Self {
        Self { view, journal }
    }

    /// The view, given up.
    #[must_use]
    pub fn into_view(self) -> View {
        self.view
    }

    /// How many requests that change something have been sent.
    #[must_use]
    pub fn mutations(&self) -> usize {
        self.access.client.as_ref().map_or(0, Gitlab::mutations)
    }
}
