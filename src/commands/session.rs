//! Opens a [`Session`] from the arguments: record, settings, lock, kubeconfig and connections.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::body;
use crate::base::cancel::Cancel;
use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter};
use crate::base::files::{self, Intake, Lock};
use crate::base::proxy::Variables;
use crate::base::request::{Deadline, Limits, Trace, Traced};
use crate::base::secret::Secret;
use crate::cluster::identity;
use crate::cluster::{self, Class, Cluster, Refusal, Selection, Target};
use crate::commands::summary::Opened;
use crate::commands::wizard::{self, Ask, AskError};
use crate::commands::{cli, confirm_owner};
use crate::deployment::names::Names;
use crate::deployment::notes::{Journal, Notes};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::Owner;
use crate::deployment::record::{self, Record};
use crate::deployment::run::{Part, Run};
use crate::gitlab::credentials::{self, Token};
use crate::gitlab::{self, Gitlab};
use crate::machine;
use crate::output::ui::Ui;
use crate::settings::{
    self, Completion, Draft, Inputs, Missing, Need, Problems, Reissue, Remembered, RunOptions, Settings,
    Source, Sourced, check,
};
use crate::steps::contract::{Products, Reads, Writes};

/// The inputs of a command.
pub struct Outside<'a> {
    /// The subcommand.
    pub subcommand: String,
    /// The subcommand's arguments.
    pub matches: &'a clap::ArgMatches,
    /// The whole environment.
    pub env: &'a BTreeMap<String, String>,
    /// Options of this run.
    pub options: &'a RunOptions,
    /// The writer.
    pub ui: Rc<Ui>,
    /// Set by signals.
    pub cancel: Cancel,
    /// Reads the files that the user names.
    pub intake: Rc<Intake>,
    /// Asks the user, if the run is interactive.
    pub ask: &'a mut dyn Ask,
    /// The deployment that a session was opened for, for the last event.
    pub opened: Rc<OnceCell<Opened>>,
    /// The end of the run, once something was connected to.
    pub deadline: OnceCell<Deadline>,
    /// What is wrong with the options.
    pub invalid: Problems,
    /// The answers so far, by the key of the setting.
    pub asked: Remembered,
    /// A GitLab token that was typed: no setting holds one.
    pub typed: Option<Secret>,
}

/// The requirements of a command.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named where it is set")]
pub struct Needs {
    /// It may write, so it takes the lock.
    pub writes: bool,
    /// The settings of GitLab that it needs.
    pub gitlab: Need,
    /// It needs them also if an earlier run recorded the deployment.
    pub again: bool,
    /// It needs the settings of the jobs' cache, for the launch script.
    pub cache: bool,
    /// It does not contact the cluster.
    pub no_cluster: bool,
    /// It is the subcommand of a step.
    pub alone: bool,
    /// The parts of the selected steps.
    pub parts: Vec<Part>,
    /// The credentials to rotate.
    pub rotate: Vec<Reissue>,
    /// It upgrades gitlab-runner.
    pub upgrade: bool,
}

impl Needs {
    /// What it needs of GitLab's side: an earlier run may have recorded it.
    fn in_gitlab(&self, record: Option<&Record>) -> Need {
        let recorded = record.is_some() && !self.again;
        if recorded && self.gitlab == Need::Runner { Need::Nothing } else { self.gitlab }
    }
}

/// The settings, and the record if there is one.
pub type Known = (Settings, Option<Record>);

/// An open session: everything that steps read and change. It holds the lock until it is dropped.
pub struct Session {
    /// The cluster, as the operator.
    pub cluster: cluster::view::Hand,
    /// GitLab, as the operator.
    pub gitlab: gitlab::view::Hand,
    /// The runner's host, by ssh.
    pub machine: machine::view::Hand,
    /// Writes the record.
    pub journal: Journal,
    /// Results that steps pass on.
    pub products: Products,
    /// What the last event tells of it.
    pub opened: Rc<OnceCell<Opened>>,
    intake: Rc<Intake>,
    reporter: Rc<dyn Reporter>,
    _lock: Option<Lock>,
}

impl Session {
    /// The settings and options of this run.
    pub fn run(&self) -> &Run {
        &self.cluster.run
    }

    /// Record and anchor.
    pub fn notes(&self) -> &Notes {
        &self.cluster.notes
    }

    /// The interface of steps that read.
    pub fn reads(&self) -> Reads<'_> {
        Reads {
            run: self.run(),
            notes: self.notes(),
            cluster: &self.cluster,
            gitlab: &self.gitlab,
            machine: &self.machine,
            intake: &self.intake,
            progress: &*self.reporter,
        }
    }

    /// The interface of steps that write.
    pub fn writes(&self) -> Writes<'_> {
        Writes {
            reads: self.reads(),
            cluster: &self.cluster,
            gitlab: &self.gitlab,
            machine: &self.machine,
            journal: &self.journal,
            products: &self.products,
        }
    }

    /// The number of writing requests sent so far, to the cluster and to GitLab, and of scripts sent to the host.
    pub fn mutations(&self) -> usize {
        self.cluster.mutations() + self.gitlab.mutations() + self.machine.mutations()
    }

    /// Refuses a cluster that is not the recorded one. Requests the server's version at the same time, because `setup`
    /// needs it next.
    ///
    /// # Errors
    /// OR0305 (exit 3), naming both clusters; a cluster that cannot be reached.
    pub async fn check(&self) -> Result<()> {
        tokio::join!(identity::check(&self.cluster), self.cluster.version()).0
    }

    /// Refuses objects with this deployment's names whose owner is not confirmed, and a GitLab other than the recorded
    /// one.
    ///
    /// # Errors
    /// OR0706 (exit 7), OR0315 (exit 3).
    pub fn check_owner(&self) -> Result<()> {
        self.notes().check_owner()?;
        gitlab::facts::check_recorded(&self.gitlab)
    }

    /// Whether the settings differ from the recorded ones, for example in the context of the same cluster.
    pub fn has_new_settings(&self) -> bool {
        self.notes().record().settings != self.run().settings.recorded()
    }

    /// Records the uids of objects that were found through the anchor or applied by an administrator. This is the first
    /// write of a run, and to the local disk: if it fails, nothing was changed.
    ///
    /// # Errors
    /// An object that cannot be read, or a record that cannot be written (exit 3).
    pub async fn adopt(&self) -> Result<()> {
        let (run, notes) = (self.run(), self.notes());
        let names = &run.names;
        let mut all = vec![names.account(), names.job_account(), names.role(), names.role_binding()];
        all.extend(notes.token_secrets(run));
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
        let slots = notes.slots();
        self.journal
            .write(|record| {
                record.settings = run.settings.recorded();
                record.script_digest = digest.unwrap_or_default();
                record.script_secret = secret;
                record.script_target = target.unwrap_or_default();
                record.token_expires = expires.unwrap_or_default();
                record.slots = Some(slots);
            })
            .map_err(|failure| failure.with_kind(Kind::Refused))
    }

    /// Records the intent to create these objects, which an administrator will apply.
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

    /// The failure to end with, if a signal arrived.
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
        // One that came before the question is not answered past.
        tokio::task::yield_now().await;
        if let Some(stopped) = self.cancel.requested() {
            return Err(stopped);
        }
        let ui = Rc::clone(&self.ui);
        let ask = &mut *self.ask;
        let asked = Instant::now();
        let answer = ui.pause(|| run(ask));
        if let Some(deadline) = self.deadline.get() {
            deadline.extend(asked.elapsed());
        }
        if matches!(answer, Err(AskError::Interrupted)) {
            // The signal handler runs on this thread.
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

    /// The settings as far as they are valid, with the record.
    async fn draft(&self) -> Result<(Draft, Option<Record>)> {
        let mut record = None;
        let draft = settings::draft(&self.inputs().await?, self.invalid.clone(), |state_dir, deployment| {
            record = Record::load(state_dir, deployment)?;
            let settings = record.as_ref().map(|record| record.settings.clone()).unwrap_or_default();
            record = record.take().filter(|record| !record.is_commit_note());
            Ok(settings)
        })?;
        Ok((draft, record))
    }

    /// The settings and the record, before anything is connected, for a command that needs no more of them.
    pub async fn settings(&self) -> Result<Known> {
        self.settings_for(|_, _| Needs { no_cluster: true, ..Needs::default() }).await
    }

    /// The settings and the record, before anything is connected. Where some are invalid and nobody is asked for missing
    /// ones, the failure lists both: what is missing according to the needs of the command.
    pub async fn settings_for(
        &self,
        needs: impl FnOnce(&Settings, Option<&Record>) -> Needs,
    ) -> Result<Known> {
        let (draft, record) = self.draft().await?;
        let mut missing = Vec::new();
        if !draft.is_valid() && !self.ui.interactive() {
            let needs = needs(&draft.settings, record.as_ref());
            if !needs.no_cluster {
                let mut settings = draft.settings.clone();
                missing =
                    self.missing(&mut settings, record.as_ref(), &needs, false).await.unwrap_or_default();
            }
        }
        let settings = draft.finish(missing)?;
        self.aim(&settings, record.as_ref().map(|record| record.settings.clone()).unwrap_or_default());
        Ok((settings, record))
    }

    /// The settings without those of a record, for what is not about one deployment: one record that cannot be read does
    /// not hide the others.
    pub async fn unrecorded(&self) -> Result<Settings> {
        let inputs = self.inputs().await?;
        let draft = settings::draft(&inputs, self.invalid.clone(), |_, _| Ok(Remembered::new()))?;
        let settings = draft.finish(Vec::new())?;
        self.aim(&settings, Remembered::new());
        Ok(settings)
    }

    /// Completes the commands that are printed from now on.
    fn aim(&self, settings: &Settings, recorded: settings::Remembered) {
        self.ui.aim(Completion {
            settings: settings.clone(),
            recorded,
            options: self.options.clone(),
            subcommand: self.subcommand.clone(),
            token_in_variable: credentials::from_env(self.env).is_some(),
            takes: cli::takes,
        });
    }

    /// Adopts what the session found, as [`Session::adopt`]: what it records need not be repeated in commands.
    pub async fn adopt(&self, session: &Session) -> Result<()> {
        session.adopt().await?;
        self.aim(&session.run().settings, session.notes().record().settings.clone());
        Ok(())
    }

    /// Opens a session with the settings and the record that [`Self::settings`] gave.
    pub async fn open(
        &mut self,
        needs: Needs,
        (mut settings, mut record): (Settings, Option<Record>),
    ) -> Result<Session> {
        let lock = if needs.writes {
            let place = Record::path(&settings.state_dir, &settings.deployment.value);
            let lock = files::lock(&place)?;
            files::check_writable(&place)?;
            Some(lock)
        } else {
            None
        };
        if !needs.no_cluster {
            (settings, record) = self.complete((settings, record), &needs).await?;
        }
        self.aim(&settings, record.as_ref().map(|record| record.settings.clone()).unwrap_or_default());

        let limits = self.limits(&settings);
        let (target, cluster) = self.connect(&settings, record.as_ref(), &needs, &limits).await?;

        let names = Names::of(&settings);
        let reference = names.account();
        let found = if record.is_none() && !needs.no_cluster {
            anchor(cluster.get(&reference).await)?
        } else {
            Anchor::Unknown
        };
        let access = self.gitlab(&settings, self.typed.clone(), &limits).await?;
        let recorded = record.is_some();
        let record = match record {
            Some(record) => record,
            None => Record::begin(&settings.state_dir, &settings.deployment.value)?,
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
            rotate: needs.rotate,
            upgrade: needs.upgrade,
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
            limits.clone(),
            Rc::clone(&reporter),
            Rc::clone(&self.intake),
            access,
        );
        // The anchor is not requested a second time.
        if let Anchor::Read(anchor) = found {
            view.changed(&reference, anchor.clone());
            if let Some((run, notes)) = self.identify(&view, &gitlab, anchor.as_ref()).await? {
                let (run, notes) = (Rc::new(run), Rc::new(notes));
                view = view.completed(Rc::clone(&run), Rc::clone(&notes));
                gitlab = gitlab.completed(run, notes);
                view.notes.see_anchor(anchor.as_ref());
            }
        }
        self.ui.doing("reading the deployment");
        let _ = self.opened.set(Opened {
            run: Rc::clone(&view.run),
            notes: Rc::clone(&view.notes),
            context: view.target.context.clone(),
            project: OnceCell::new(),
        });
        let machine = machine::view::View::new(
            Rc::clone(&view.run),
            Rc::clone(&view.notes),
            limits,
            (Rc::clone(&reporter), Rc::clone(&self.intake)),
            self.env,
            self.ui.interactive(),
        );
        let journal = Journal::new(Rc::clone(&view.notes), view.run.settings.state_dir.clone());
        Ok(Session {
            cluster: cluster::view::Hand::new(view, journal.clone()),
            gitlab: gitlab::view::Hand::new(gitlab, journal.clone()),
            machine: machine::view::Hand::new(machine, journal.clone()),
            journal,
            products: Products::default(),
            opened: Rc::clone(&self.opened),
            intake: Rc::clone(&self.intake),
            reporter,
            _lock: lock,
        })
    }

    /// Without a record: confirms that the deployment in the cluster is the operator's, and returns run and notes with
    /// the settings accepted from its anchor.
    async fn identify(
        &self,
        view: &cluster::view::View,
        gitlab: &gitlab::view::View,
        anchor: Option<&Object>,
    ) -> Result<Option<(Run, Notes)>> {
        let mut record = view.notes.record().clone();
        let seen = match confirm_owner::confirm(view, gitlab, anchor).await {
            confirm_owner::Found::Nothing => return Ok(None),
            confirm_owner::Found::Unconfirmed(failure) => {
                let mut notes = Notes::new(record, false);
                notes.unconfirmed = Some(*failure);
                return Ok(Some(((*view.run).clone(), notes)));
            }
            confirm_owner::Found::Confirmed(seen) => seen,
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
            // The operator's own settings were valid before, so the annotation is not.
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
        record.id.clone_from(&seen.confirmed.id);
        for object in &seen.objects {
            record.own(&object.reference, object.uid());
        }
        let mut notes = Notes::new(record, false);
        notes.confirmed = Some(seen.confirmed);
        Ok(Some((run, notes)))
    }

    /// The connection to the cluster, or a placeholder if it is not needed.
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
            as_groups: &settings.as_groups,
        };
        self.ui.doing("reading the kubeconfig");
        let target = cluster::load(&selection, self.env, &self.intake).await?;
        let what = format!("connecting to {} (context {})", target.endpoint.url, target.context);
        self.ui.event(&Event::Busy { what, waited: Duration::ZERO });
        let cluster = Cluster::connect(&target, limits).await?;
        Ok((target, cluster))
    }

    /// The connection to GitLab, if settings and environment allow one.
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
        let client = Gitlab::connect(&url.value, Some(&token), &roots, limits, timeout, &proxies)?;
        Ok(gitlab::view::Access { client: Some(client), why_not: String::new(), roots, proxies })
    }

    /// What reports each request, with -v and --log-file.
    fn trace(&self) -> Option<Trace> {
        let (ui, verbose) = (Rc::clone(&self.ui), self.options.verbose);
        let is_traced = verbose > 0 || self.options.log_file.is_some();
        is_traced.then(|| -> Trace {
            Rc::new(move |request: &Traced<'_>| {
                let shown = |bytes: &[u8]| Some(body::shown(bytes)).filter(|_| verbose > 1);
                ui.event(&Event::Request {
                    method: request.method.to_owned(),
                    host: request.host.to_owned(),
                    path: request.path.to_owned(),
                    status: request.status,
                    took: request.took,
                    sent: shown(request.sent).filter(|text| !text.is_empty()),
                    received: shown(request.received).filter(|text| !text.is_empty()),
                });
            })
        })
    }

    /// The end of this run, counted from the first call on. The wait of `status --wait` comes on top.
    fn deadline(&self, settings: &Settings) -> Deadline {
        let wait = if self.waits() { settings.wait } else { Duration::ZERO };
        self.deadline.get_or_init(|| Deadline::after(settings.timeout + wait)).clone()
    }

    /// Limits of every request of this run.
    pub fn limits(&self, settings: &Settings) -> Limits {
        let ui = Rc::clone(&self.ui);
        Limits {
            deadline: self.deadline(settings),
            request_timeout: settings
                .request_timeout
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(Duration::from_secs(10)),
            cancel: self.cancel.clone(),
            trace: self.trace(),
            notice: Rc::new(move |what, wait, why| {
                ui.event(&Event::Retry { what: what.to_owned(), wait, why: why.to_owned() });
            }),
        }
    }

    /// Whether this is `status --wait`: the setting has a default for pipelines.
    pub fn waits(&self) -> bool {
        // Only some commands have the flag.
        self.subcommand == "status"
            && self.matches.value_source("wait") == Some(clap::parser::ValueSource::CommandLine)
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
    async fn complete(&mut self, mut known: Known, needs: &Needs) -> Result<Known> {
        if self.ui.interactive() {
            let need = needs.in_gitlab(known.1.as_ref());
            known = wizard::gaps(self, known, need).await?;
        }
        let (mut settings, record) = known;
        let missing = self.missing(&mut settings, record.as_ref(), needs, true).await?;
        if missing.is_empty() { Ok((settings, record)) } else { Err(settings::missing_failure(&missing)) }
    }

    /// The missing values of a command that uses the cluster. Sets the context to use. `valid`: the values that are
    /// given are valid.
    async fn missing(
        &self,
        settings: &mut Settings,
        record: Option<&Record>,
        needs: &Needs,
        valid: bool,
    ) -> Result<Vec<Missing>> {
        let need = needs.in_gitlab(record);
        let mut missing = Vec::new();
        let gitlab = settings.missing(need, credentials::from_env(self.env).is_some());
        let context = record.map(|record| record.cluster.context.clone()).unwrap_or_default();
        match self.settle_context(settings, &context).await {
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
            // What is wrong with a file is told once the values are right.
            Err(failure) if !valid => {
                if failure.message == cluster::NONE_FOUND {
                    missing.push(Missing::new("kubeconfig", failure.message));
                }
            }
            Err(failure) => return Err(failure),
        }
        // Whether a runner is needed depends on the cluster. It is listed here if something else is wrong anyway, so
        // that one message names everything.
        let is_enough = valid && need == Need::Runner && missing.is_empty() && settings.gitlab_url.is_some();
        if !self.ui.interactive() && !is_enough {
            missing.extend(gitlab);
        }
        if needs.cache {
            missing.extend(settings.missing_of_cache());
        }
        Ok(missing)
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

/// The result of reading the anchor.
enum Anchor {
    Read(Option<Object>),
    /// Not read, or not readable.
    Unknown,
}

/// The anchor, if it may be read. An unreachable server is not asked a second time; a refused certificate is
/// explained by the next request.
fn anchor(answer: Result<Option<Object>, Refusal>) -> Result<Anchor> {
    match answer {
        Ok(found) => Ok(Anchor::Read(found)),
        Err(refusal) if matches!(refusal.class, Class::Forbidden | Class::Certificate) => Ok(Anchor::Unknown),
        Err(refusal) => Err(refusal.into()),
    }
}
