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
use crate::cluster::{self, Class, Cluster, Refusal, Selection, Target};
use crate::commands::witness;
use crate::commands::wizard::{self, Ask};
use crate::deployment::names::Names;
use crate::deployment::object::Object;
use crate::deployment::record::Record;
use crate::gitlab::Gitlab;
use crate::gitlab::credentials::{self, Token};
use crate::output::ui::Ui;
use crate::settings::{self, Inputs, Missing, Need, RunOptions, Settings, Source, Sourced};
use crate::steps::context::{Context, GitlabAccess};

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
}

/// What a command needs to be ready.
#[derive(Clone, Copy, Default)]
pub struct Needs {
    /// It may write: takes the lock.
    pub writes: bool,
    /// What it needs of GitLab's side.
    pub gitlab: Need,
    /// It needs that also where an earlier run recorded a deployment.
    pub again: bool,
    /// It goes without the cluster.
    pub no_cluster: bool,
}

/// An open session; the lock is held as long as it lives.
pub struct Session {
    /// The run.
    pub cx: Context,
    _lock: Option<Lock>,
}

impl Outside<'_> {
    async fn inputs(&self) -> Result<Inputs<'_>> {
        let file = match &self.options.config {
            None => None,
            Some(path) => {
                let bytes = self.intake.text(path).await?.ok_or_else(|| {
                    Failure::new(
                        Id::SettingsFile,
                        format!("the settings file {} does not exist", path.display()),
                    )
                    .hint("name one that does with --config FILE")
                })?;
                let text = std::str::from_utf8(&bytes).map_err(|_| {
                    Failure::new(
                        Id::SettingsFile,
                        format!("the settings file {} is not UTF-8", path.display()),
                    )
                })?;
                Some((path.clone(), text.to_owned()))
            }
        };
        Ok(Inputs { matches: self.matches, env: self.env, file, noted: None, home: self.home() })
    }

    fn home(&self) -> Option<PathBuf> {
        self.env.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
    }

    /// The settings and the record, before anything is connected.
    pub async fn settings(&self) -> Result<(Settings, Option<Record>)> {
        let mut record = None;
        let settings = settings::resolve(&self.inputs().await?, |state_dir, deployment| {
            record = Record::load(state_dir, deployment)?;
            Ok(record.as_ref().map(|record| record.settings.clone()).unwrap_or_default())
        })?;
        Ok((settings, record))
    }

    /// Opens a session with the settings and the record that [`Self::settings`] gave.
    pub async fn open(
        &mut self,
        needs: Needs,
        (mut settings, record): (Settings, Option<Record>),
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
        let typed = if needs.no_cluster { None } else { self.complete(&mut settings, gitlab).await? };

        let limits = self.limits(&settings);
        let (target, cluster) = self.connect(&settings, record.as_ref(), needs, &limits).await?;

        let reference = Names::of(&settings).account();
        let anchor = if record.is_none() && !needs.no_cluster {
            looked_at(cluster.get(&reference).await)?
        } else {
            Look::Nothing
        };
        let gitlab = self.gitlab(&settings, typed, &limits).await?;
        let recorded = record.is_some();
        let record = match record {
            Some(record) => record,
            None => Record::new(&settings.deployment.value)?,
        };
        let reporter: Rc<dyn Reporter> = Rc::clone(&self.ui) as Rc<dyn Reporter>;
        let mut cx = Context::new(
            settings,
            self.options.clone(),
            cluster,
            gitlab,
            target,
            limits,
            record,
            recorded,
            reporter,
        );
        cx.intake = Rc::clone(&self.intake);
        // What was looked at here is not asked for again.
        if let Look::Found(anchor) = anchor {
            cx.changed(&reference, anchor.clone());
            self.identify(&mut cx, anchor.as_ref()).await?;
        }
        Ok(Session { cx, _lock: lock })
    }

    /// Finds out, without a record, whether the deployment in the cluster is the operator's, and takes from its
    /// anchor what may be taken then.
    async fn identify(&self, cx: &mut Context, anchor: Option<&Object>) -> Result<()> {
        let seen = match witness::look(cx, anchor).await {
            witness::Look::Nothing => return Ok(()),
            witness::Look::Doubt(failure) => {
                cx.doubt = Some(*failure);
                return Ok(());
            }
            witness::Look::Vouched(seen) => seen,
        };
        let account = cx.names.account();
        let account = format!("{}/{}", account.namespace.as_deref().unwrap_or_default(), account.name);
        for why in &seen.refused {
            cx.warn(format!("not taken from the annotation on ServiceAccount {account}: {why}"));
        }
        let inputs = Inputs { noted: Some((account.clone(), seen.noted)), ..self.inputs().await? };
        match settings::resolve(&inputs, |_, _| Ok(settings::Remembered::new())) {
            Ok(settings) => {
                let asked = std::mem::replace(&mut cx.settings, settings);
                let settings = &mut cx.settings;
                settings.gitlab_url = settings.gitlab_url.take().or(asked.gitlab_url);
                settings.gitlab_token_file = settings.gitlab_token_file.take().or(asked.gitlab_token_file);
                settings.project = settings.project.take().or(asked.project);
                settings.runner_token_file = settings.runner_token_file.take().or(asked.runner_token_file);
                settings.context = settings.context.take().or(asked.context);
            }
            // The settings of the operator were good before: what is noted is not.
            Err(failure) => {
                let why: Vec<String> =
                    failure.details.iter().map(|(name, why)| format!("{name} {why}")).collect();
                cx.warn(format!(
                    "nothing is taken from the annotation on ServiceAccount {account}: {}",
                    why.join("; ")
                ));
            }
        }
        if let Some((tags, id)) = seen.tags
            && cx.settings.tags.source == Source::Default
        {
            cx.settings.tags = Sourced::new(tags, Source::Runner(id));
        }
        cx.names = Names::of(&cx.settings);
        {
            let mut record = cx.record.borrow_mut();
            record.id.clone_from(&seen.vouched.id);
            for object in &seen.objects {
                record.own(&object.reference, object.uid());
            }
        }
        cx.vouched = Some(seen.vouched);
        Ok(())
    }

    /// The connection to the cluster, or what stands for one.
    async fn connect(
        &self,
        settings: &Settings,
        record: Option<&Record>,
        needs: Needs,
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
    async fn gitlab(
        &self,
        settings: &Settings,
        typed: Option<Secret>,
        limits: &Limits,
    ) -> Result<GitlabAccess> {
        let roots = credentials::gitlab_roots(settings, &self.intake).await?;
        let proxies = Variables::of(self.env);
        let token = match credentials::token(settings, self.env, typed, &self.intake).await? {
            Token::Given(token) => token,
            Token::None(why_not) => return Ok(GitlabAccess { client: None, why_not, roots, proxies }),
        };
        let Some(url) = &settings.gitlab_url else {
            let why_not = "no GitLab instance is named".to_owned();
            return Ok(GitlabAccess { client: None, why_not, roots, proxies });
        };
        let timeout = settings.request_timeout.filter(|timeout| !timeout.is_zero());
        let mut client = Gitlab::connect(&url.value, Some(&token), &roots, limits, timeout, &proxies)?;
        if self.options.verbose > 0 {
            let ui = Rc::clone(&self.ui);
            client.trace_to(Rc::new(move |text| ui.event(&Event::Note { text: text.to_owned() })));
        }
        Ok(GitlabAccess { client: Some(client), why_not: String::new(), roots, proxies })
    }

    /// Limits of every request of this run.
    #[must_use]
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

    /// Asks for what is missing, or says all of it at once. Returns a GitLab token that was typed.
    async fn complete(&mut self, settings: &mut Settings, need: Need) -> Result<Option<Secret>> {
        let selection = Selection {
            file: settings.kubeconfig.as_ref().map(|path| path.value.as_path()),
            ..Selection::default()
        };
        let mut missing = Vec::new();
        let has_gitlab_token = credentials::from_env(self.env).is_some();
        let gitlab = settings.missing(need, has_gitlab_token);
        let (contexts, current) = match &settings.context {
            Some(context) => (Vec::new(), Some(context.value.clone())),
            None => match cluster::contexts(&selection, self.env, &self.intake).await {
                Ok(found) => found,
                Err(failure)
                    if settings.kubeconfig.is_none()
                        && !self.ui.interactive()
                        && settings.gitlab_url.is_none()
                        && !gitlab.is_empty() =>
                {
                    missing.push(Missing::new("kubeconfig", failure.message));
                    (Vec::new(), Some(String::new()))
                }
                Err(failure) => return Err(failure),
            },
        };
        if self.ui.interactive() {
            let gaps = wizard::Gaps {
                gitlab: need,
                has_gitlab_token,
                contexts,
                has_current_context: current.is_some(),
                home: self.home(),
            };
            let ui = Rc::clone(&self.ui);
            let ask = &mut *self.ask;
            return ui.pause(|| wizard::fill(ask, settings, &gaps));
        }
        if current.is_none() {
            let note = if contexts.is_empty() {
                "your kubeconfig has no context".to_owned()
            } else {
                format!(
                    "your kubeconfig has {} contexts and no current one ({})",
                    contexts.len(),
                    contexts.join(", ")
                )
            };
            missing.push(Missing::new("context", note));
        }
        // A runner is needed only if a script has to be written, which the cluster has to tell; listed here
        // where something else is missing anyway, so that one answer names all.
        if need == Need::Runner && missing.is_empty() && settings.gitlab_url.is_some() {
            return Ok(None);
        }
        missing.extend(gitlab);
        if missing.is_empty() { Ok(None) } else { Err(settings::missing_failure(missing)) }
    }
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
