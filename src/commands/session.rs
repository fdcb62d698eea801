//! From arguments to a [`Context`]: record, settings, kubeconfig, lock and connection, in that order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::cancel::Cancel;
use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter};
use crate::base::files::{self, Intake, Lock};
use crate::base::proxy::Variables;
use crate::base::request::Limits;
use crate::base::secret::Secret;
use crate::cluster::identity;
use crate::cluster::{self, Class, Cluster, Refusal, Selection, Target};
use crate::commands::witness;
use crate::commands::wizard::{self, Ask, AskError};
use crate::deployment::names::Names;
use crate::deployment::notes::{Journal, Notes};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::Owner;
use crate::deployment::record::{self, Record};
use crate::deployment::run::{Part, Run};
use crate::gitlab::credentials::{self, Token};
use crate::gitlab::{self, Gitlab};
use crate::output::ui::Ui;
use crate::settings::{
    self, Inputs, Missing, Need, Remembered, RunOptions, Settings, Source, Sourced, check,
};
use crate::steps::contract::{Products, Reads, Writes};

/// Everything that a command gets from outside.
pub struct Outside<'a> {
    /// The subcommand's arguments.
    pub matches: &'a clap::ArgMatches,
    /// The environment, whole.
    pub env: &'a BTreeMap<String, String>,
    /// Options of this run.
    pub options: &'a RunOptions,
    /// The writer.
    pub ui: Rc<Ui>,
    /// Set by signals.
    pub cancel: Cancel,
    /// What reads the files that the user names.
    pub intake: Rc<Intake>,
    /// Somebody to ask, when interactive.
    pub ask: &'a mut dyn Ask,
    /// The answers so far, by the key of the setting.
    pub asked: Remembered,
    /// A GitLab token that was typed: no setting holds one.
    pub typed: Option<Secret>,
}

/// What a command needs to be ready.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named where it is set")]
pub struct Needs {
    /// It may write: takes the lock.
    pub writes: bool,
    /// What it needs of GitLab's side.
    pub gitlab: Need,
    /// It needs that also where an earlier run recorded a deployment.
    pub again: bool,
    /// It goes without the cluster.
    pub no_cluster: bool,
    /// One step was asked for by its own subcommand.
    pub alone: bool,
    /// What the selected steps do.
    pub parts: Vec<Part>,
}

/// The settings, and the record if there is one.
pub type Known = (Settings, Option<Record>);

/// An open session: all that steps look at and change. The lock is held as long as it lives.
pub struct Session {
    /// The cluster, as the operator.
    pub cluster: cluster::view::Hand,
    /// GitLab, as the operator.
    pub gitlab: gitlab::view::Hand,
    /// What is remembered from now on.
    pub journal: Journal,
    /// What steps hand on.
    pub products: Products,
    intake: Rc<Intake>,
    reporter: Rc<dyn Reporter>,
    _lock: Option<Lock>,
}

impl Session {
    /// What was asked for.
    pub fn run(&self) -> &Run {
        &self.cluster.run
    }

    /// What is remembered.
    pub fn notes(&self) -> &Notes {
        &self.cluster.notes
    }

    /// What steps look at.
    pub fn reads(&self) -> Reads<'_> {
        Reads {
            run: self.run(),
            notes: self.notes(),
            cluster: &self.cluster,
            gitlab: &self.gitlab,
            intake: &self.intake,
            progress: &*self.reporter,
        }
    }

    /// What steps change.
    pub fn writes(&self) -> Writes<'_> {
        Writes {
            reads: self.reads(),
            cluster: &self.cluster,
            gitlab: &self.gitlab,
            journal: &self.journal,
            products: &self.products,
        }
    }

    /// How many requests that change something have been sent, to whichever server.
    pub fn mutations(&self) -> usize {
        self.cluster.mutations() + self.gitlab.mutations()
    }

    /// Refuses a cluster that is not the recorded one, and asks for the server's version on the way, which setting up
    /// needs next.
    ///
    /// # Errors
    /// OR0305 (exit 3) naming both; where the cluster is not reached.
    pub async fn check(&self) -> Result<()> {
        tokio::join!(identity::check(&self.cluster), self.cluster.version()).0
    }

    /// Refuses objects that say that they are this deployment's where nobody stands for it, and another GitLab.
    ///
    /// # Errors
    /// OR0706 (exit 7), OR0315 (exit 3).
    pub fn certain(&self) -> Result<()> {
        self.notes().certain()?;
        gitlab::facts::check_recorded(&self.gitlab)
    }

    /// Whether the settings differ from the recorded ones, for example in the context of the same cluster.
    pub fn has_new_settings(&self) -> bool {
        self.notes().record().settings != self.run().settings.recorded()
    }

    /// Takes the uids of what was found through the anchor, or applied by an administrator, into the record: from
    /// then on they are known by identity. The first write of a run is this, to our own disk: if it fails, nothing
    /// was changed.
    ///
    /// # Errors
    /// What cannot be read, or a record that cannot be written (exit 3).
    pub async fn adopt(&self) -> Result<()> {
        let (run, notes) = (self.run(), self.notes());
        let names = &run.names;
        let mut all = vec![
            names.account(),
            names.job_account(),
            names.role(),
            names.role_binding(),
            names.token_secret(),
        ];
        all.extend(names.namespaces().into_iter().filter(|namespace| !run.is_used(&namespace.name)));
        for reference in all {
            if let Some(live) = self.cluster.read(&reference).await.map_err(Failure::from)?
                && notes.owner(&live) == Owner::Us
            {
                self.journal.note(|record| record.own(&reference, live.uid()));
            }
        }
        let (digest, secret) = (notes.script_digest(), notes.script_secret());
        let (target, expires) = (notes.script_target(), notes.token_expires());
        self.journal
            .write(|record| {
                record.settings = run.settings.recorded();
                record.script_digest = digest.unwrap_or_default();
                record.script_secret = secret;
                record.script_target = target.unwrap_or_default();
                record.token_expires = expires.unwrap_or_default();
            })
            .map_err(|failure| failure.with_kind(Kind::Refused))
    }

    /// Writes that somebody else is about to make these objects.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub fn intend(&self, objects: &[Ref]) -> Result<()> {
        self.journal.write(|record| {
            for object in objects {
                if record.uid_of(object).is_none() {
                    record.intend(object);
                }
            }
        })
    }

    /// The failure to end with, once asked to stop.
    pub fn stop(&self) -> Option<Failure> {
        self.cluster.limits.cancel.requested()
    }
}

impl Outside<'_> {
    async fn inputs(&self) -> Result<Inputs<'_>> {
        let file = match &self.options.config {
            None => None,
            Some(path) => {
                let bytes = self.intake.text(path).await?.ok_or_else(|| {
                    Failure::new(Id::SettingsFile, format!("settings file {} does not exist", path.display()))
                        .hint("give an existing file with --config FILE")
                })?;
                let text = std::str::from_utf8(&bytes).map_err(|_| {
                    Failure::new(Id::SettingsFile, format!("settings file {} is not UTF-8", path.display()))
                })?;
                Some((path.clone(), text.to_owned()))
            }
        };
        let (asked, home) = (self.asked.clone(), self.home());
        Ok(Inputs { matches: self.matches, env: self.env, file, noted: None, asked, home })
    }

    /// The user's home, for `~/`.
    pub fn home(&self) -> Option<PathBuf> {
        self.env.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
    }

    /// Lets somebody answer. A signal that arrives meanwhile decides the exit code.
    pub async fn asking<T>(
        &mut self,
        run: impl FnOnce(&mut dyn Ask) -> std::result::Result<T, AskError>,
    ) -> Result<T> {
        let ui = Rc::clone(&self.ui);
        let ask = &mut *self.ask;
        let answer = ui.pause(|| run(ask));
        if matches!(answer, Err(AskError::Interrupted)) {
            // Whoever listens to signals runs on this thread.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            if let Some(stopped) = self.cancel.requested() {
                return Err(Failure::from(AskError::Interrupted).with_kind(stopped.kind));
            }
        }
        Ok(answer?)
    }

    /// Whether the command line confirms the plan: with `--yes`, or with `--non-interactive` as a flag. The variable
    /// `OUTRIGGER_NON_INTERACTIVE` only disables prompts.
    pub fn consents(&self) -> bool {
        let flag =
            self.matches.value_source("non-interactive") == Some(clap::parser::ValueSource::CommandLine);
        self.options.yes || flag
    }

    /// The settings and the record, before anything is connected.
    pub async fn settings(&self) -> Result<(Settings, Option<Record>)> {
        let mut record = None;
        let settings = settings::resolve(&self.inputs().await?, |state_dir, deployment| {
            record = Record::load(state_dir, deployment)?;
            Ok(record.as_ref().map(|record| record.settings.clone()).unwrap_or_default())
        })?;
        self.ui.aim(&settings);
        Ok((settings, record))
    }

    /// Opens a session with the settings and the record that [`Self::settings`] gave.
    pub async fn open(
        &mut self,
        needs: Needs,
        (mut settings, mut record): (Settings, Option<Record>),
    ) -> Result<Session> {
        let lock = if needs.writes {
            files::check_place(&Record::path(&settings.state_dir, &settings.deployment.value))?;
            files::make_dir(&settings.state_dir).map_err(|failure| failure.with_kind(Kind::Refused))?;
            let lock = files::lock(&settings.state_dir.join(format!("{}.lock", settings.deployment.value)))?;
            files::check_writable(&Record::path(&settings.state_dir, &settings.deployment.value))?;
            Some(lock)
        } else {
            None
        };
        let recorded = record.is_some() && !needs.again;
        let gitlab = if recorded && needs.gitlab == Need::Runner { Need::Nothing } else { needs.gitlab };
        if !needs.no_cluster {
            (settings, record) = self.complete((settings, record), gitlab).await?;
        }
        self.ui.aim(&settings);

        let limits = self.limits(&settings);
        let (target, cluster) = self.connect(&settings, record.as_ref(), &needs, &limits).await?;

        let names = Names::of(&settings);
        let reference = names.account();
        let anchor = if record.is_none() && !needs.no_cluster {
            looked_at(cluster.get(&reference).await)?
        } else {
            Look::Nothing
        };
        let access = self.gitlab(&settings, self.typed.clone(), &limits).await?;
        let recorded = record.is_some();
        let record = match record {
            Some(record) => record,
            None => Record::new(&settings.deployment.value)?,
        };
        let reporter: Rc<dyn Reporter> = Rc::clone(&self.ui) as Rc<dyn Reporter>;
        let run = Rc::new(Run {
            job_account: names.job_account().name,
            names,
            settings,
            options: self.options.clone(),
            now: jiff::Timestamp::now(),
            nonce: record::random_hex(4)?,
            alone: needs.alone,
            parts: needs.parts,
        });
        let notes = Rc::new(Notes::new(record, recorded));
        let mut view = cluster::view::View::new(
            Rc::clone(&run),
            Rc::clone(&notes),
            target,
            limits.clone(),
            Rc::clone(&reporter),
            cluster,
        );
        let mut gitlab = gitlab::view::View::new(
            run,
            notes,
            limits,
            Rc::clone(&reporter),
            Rc::clone(&self.intake),
            access,
        );
        // What was looked at here is not asked for again.
        if let Look::Found(anchor) = anchor {
            view.changed(&reference, anchor.clone());
            if let Some((run, notes)) = self.identify(&view, &gitlab, anchor.as_ref()).await? {
                let (run, notes) = (Rc::new(run), Rc::new(notes));
                view = view.completed(Rc::clone(&run), Rc::clone(&notes));
                gitlab = gitlab.completed(run, notes);
                view.notes.see_anchor(anchor.as_ref());
            }
        }
        let journal = Journal::new(Rc::clone(&view.notes), view.run.settings.state_dir.clone());
        Ok(Session {
            cluster: cluster::view::Hand::new(view, journal.clone()),
            gitlab: gitlab::view::Hand::new(gitlab, journal.clone()),
            journal,
            products: Products::default(),
            intake: Rc::clone(&self.intake),
            reporter,
            _lock: lock,
        })
    }

    /// Finds out, without a record, whether the deployment in the cluster is the operator's, and takes from its
    /// anchor what may be taken then: the run and the notes as they are with that.
    async fn identify(
        &self,
        view: &cluster::view::View,
        gitlab: &gitlab::view::View,
        anchor: Option<&Object>,
    ) -> Result<Option<(Run, Notes)>> {
        let mut record = view.notes.record().clone();
        let seen = match witness::look(view, gitlab, anchor).await {
            witness::Look::Nothing => return Ok(None),
            witness::Look::Doubt(failure) => {
                let mut notes = Notes::new(record, false);
                notes.doubt = Some(*failure);
                return Ok(Some(((*view.run).clone(), notes)));
            }
            witness::Look::Vouched(seen) => seen,
        };
        let mut run = (*view.run).clone();
        let account = run.names.account();
        let account = format!("{}/{}", account.namespace.as_deref().unwrap_or_default(), account.name);
        for why in &seen.refused {
            view.progress
                .warn(format!("ignored setting in the annotation on ServiceAccount {account}: {why}"));
        }
        let inputs = Inputs { noted: Some((account.clone(), seen.noted)), ..self.inputs().await? };
        match settings::resolve(&inputs, |_, _| Ok(settings::Remembered::new())) {
            Ok(settings) => run.settings = settings,
            // The settings of the operator were good before: what is noted is not.
            Err(failure) => {
                let why: Vec<String> =
                    failure.details.iter().map(|(name, why)| format!("{name} {why}")).collect();
                view.progress
                    .warn(format!("ignored the annotation on ServiceAccount {account}: {}", why.join("; ")));
            }
        }
        if let Some((tags, id)) = seen.tags
            && run.settings.tags.source == Source::Default
        {
            run.settings.tags = Sourced::new(tags, Source::Runner(id));
        }
        run.names = Names::of(&run.settings);
        run.job_account = run.names.job_account().name;
        record.id.clone_from(&seen.vouched.id);
        for object in &seen.objects {
            record.own(&object.reference, object.uid());
        }
        let mut notes = Notes::new(record, false);
        notes.vouched = Some(seen.vouched);
        Ok(Some((run, notes)))
    }

    /// The connection to the cluster, or what stands for one.
    async fn connect(
        &self,
        settings: &Settings,
        record: Option<&Record>,
        needs: &Needs,
        limits: &Limits,
    ) -> Result<(Target, Cluster)> {
        if needs.no_cluster {
            let known = record.map(|record| record.cluster.clone()).unwrap_or_default();
            let target = Target::absent(&known.context, &known.server)?;
            let cluster = Cluster::absent(&target, limits);
            return Ok((target, cluster));
        }
        let source = settings.context.as_ref().map(|context| context.source.to_string()).unwrap_or_default();
        let selection = Selection {
            file: settings.kubeconfig.as_ref().map(|path| path.value.as_path()),
            context: settings.context.as_ref().map(|context| (context.value.as_str(), source)),
            as_user: settings.as_user.as_deref(),
        };
        let target = cluster::load(&selection, self.env, &self.intake).await?;
        let mut cluster = Cluster::connect(&target, limits).await?;
        if self.options.verbose > 0 {
            let ui = Rc::clone(&self.ui);
            cluster.trace_to(Rc::new(move |text| ui.event(&Event::Note { text: text.to_owned() })));
        }
        Ok((target, cluster))
    }

    /// The connection to GitLab, as far as settings and environment give one.
    pub async fn gitlab(
        &self,
        settings: &Settings,
        typed: Option<Secret>,
        limits: &Limits,
    ) -> Result<gitlab::view::Access> {
        let roots = credentials::gitlab_roots(settings, &self.intake).await?;
        let proxies = Variables::of(self.env);
        let token = match credentials::token(settings, self.env, typed, &self.intake).await? {
            Token::Given(token) => token,
            Token::None(why_not) => {
                return Ok(gitlab::view::Access { client: None, why_not, roots, proxies });
            }
        };
        let Some(url) = &settings.gitlab_url else {
            let why_not = "--gitlab-url is not set".to_owned();
            return Ok(gitlab::view::Access { client: None, why_not, roots, proxies });
        };
        let timeout = settings.request_timeout.filter(|timeout| !timeout.is_zero());
        let mut client = Gitlab::connect(&url.value, Some(&token), &roots, limits, timeout, &proxies)?;
        if self.options.verbose > 0 {
            let ui = Rc::clone(&self.ui);
            client.trace_to(Rc::new(move |text| ui.event(&Event::Note { text: text.to_owned() })));
        }
        Ok(gitlab::view::Access { client: Some(client), why_not: String::new(), roots, proxies })
    }

    /// Limits of every request of this run.
    pub fn limits(&self, settings: &Settings) -> Limits {
        let ui = Rc::clone(&self.ui);
        Limits {
            deadline: Instant::now() + settings.timeout,
            request_timeout: settings
                .request_timeout
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(Duration::from_secs(10)),
            cancel: self.cancel.clone(),
            notice: Rc::new(move |what, wait, why| {
                ui.event(&Event::Retry { what: what.to_owned(), wait, why: why.to_owned() });
            }),
        }
    }

    /// The contexts of the kubeconfig, and the current one.
    pub async fn contexts(&self, settings: &Settings) -> Result<(Vec<String>, Option<String>)> {
        let file = settings.kubeconfig.as_ref().map(|path| path.value.as_path());
        let selection = Selection { file, ..Selection::default() };
        cluster::contexts(&selection, self.env, &self.intake).await
    }

    /// Sets the context to use: without `--context`, the recorded context `known` comes before the current one, if the
    /// kubeconfig still has it. Returns the kubeconfig's contexts, none if one was given, and whether one is chosen.
    pub async fn settle_context(&self, settings: &mut Settings, known: &str) -> Result<(Vec<String>, bool)> {
        if settings.context.as_ref().is_some_and(|context| !context.source.is_remembered()) {
            return Ok((Vec::new(), true));
        }
        let (contexts, current) = self.contexts(settings).await?;
        let recorded = settings.context.take().or_else(|| {
            let another = current.as_deref() != Some(known) && check::text(known).is_ok();
            another.then(|| Sourced::new(known.to_owned(), Source::Record))
        });
        settings.context = recorded.filter(|context| contexts.contains(&context.value));
        let chosen = settings.context.is_some() || current.is_some();
        Ok((contexts, chosen))
    }

    /// Asks for what is missing, or says all of it at once.
    async fn complete(&mut self, mut known: Known, need: Need) -> Result<Known> {
        if self.ui.interactive() {
            known = wizard::gaps(self, known, need).await?;
        }
        let (mut settings, record) = known;
        let mut missing = Vec::new();
        let gitlab = settings.missing(need, credentials::from_env(self.env).is_some());
        let context = record.as_ref().map(|record| record.cluster.context.clone()).unwrap_or_default();
        match self.settle_context(&mut settings, &context).await {
            Ok((_, true)) => {}
            Ok((contexts, false)) => missing.push(Missing::new("context", without_current(&contexts))),
            Err(failure)
                if settings.kubeconfig.is_none()
                    && !self.ui.interactive()
                    && settings.gitlab_url.is_none()
                    && !gitlab.is_empty() =>
            {
                missing.push(Missing::new("kubeconfig", failure.message));
            }
            Err(failure) => return Err(failure),
        }
        // A runner is needed only if a script has to be written, which the cluster has to tell; listed here
        // where something else is missing anyway, so that one answer names all.
        let is_enough = need == Need::Runner && missing.is_empty() && settings.gitlab_url.is_some();
        if !self.ui.interactive() && !is_enough {
            missing.extend(gitlab);
        }
        if missing.is_empty() { Ok((settings, record)) } else { Err(settings::missing_failure(missing)) }
    }
}

/// The note on a context that has to be named.
fn without_current(contexts: &[String]) -> String {
    if contexts.is_empty() {
        return "the kubeconfig has no context".to_owned();
    }
    let names = contexts.join(", ");
    format!("the kubeconfig has {} contexts and no current context ({names})", contexts.len())
}

/// What a look for an object told: whether it is there, or nothing.
enum Look {
    Found(Option<Object>),
    Nothing,
}

/// The anchor, if it may be read. A server that is not there is not asked a second time; of a certificate
/// that is not accepted, whoever asks next finds out why.
fn looked_at(answer: Result<Option<Object>, Refusal>) -> Result<Look> {
    match answer {
        Ok(found) => Ok(Look::Found(found)),
        Err(refusal) if matches!(refusal.class, Class::Forbidden | Class::Certificate) => Ok(Look::Nothing),
        Err(refusal) => Err(refusal.into()),
    }
}
