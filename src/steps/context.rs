//! What a step works with: settings, the cluster, the journal, and the facts that steps pass on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::ops::ControlFlow::{Break, Continue};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter};
use crate::base::files::Intake;
use crate::base::proxy::Variables;
use crate::base::request::Limits;
use crate::base::secret::Secret;
use crate::base::wait::{self, Pace};
use crate::cluster::dry_run;
use crate::cluster::endpoint_ca::Trust;
use crate::cluster::{Class, Cluster, Refusal, Target};
use crate::deployment::mark::{self, Deployment, Marks};
use crate::deployment::names::{ID, Names};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner, Vouched, Voucher};
use crate::deployment::record::{ClusterIdentity, Record};
use crate::gitlab::Gitlab;
use crate::gitlab::facts::Instance;
use crate::settings::{RunOptions, Settings, Source, check, shell_word};
use crate::x509;
use crate::x509::tls::Roots;

/// Who the API server says the operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// User name, byte for byte.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// Facts that more than one step needs; each is asked for at most once.
#[derive(Default)]
pub struct Facts {
    operator: OnceCell<Operator>,
    version: OnceCell<String>,
    /// The server's minor version as Pod Security names it, such as `v1.37`.
    pub minor_version: OnceCell<String>,
    /// Which CA verifies the endpoint that the runner will dial.
    pub trust: OnceCell<Trust>,
    /// The runner's cluster token, once it is known.
    pub bearer: RefCell<Option<Secret>>,
    /// What GitLab says of itself, of the token and of the project.
    pub instance: OnceCell<Instance>,
    /// What is to become of the runner at GitLab.
    pub runner: OnceCell<crate::gitlab::runner::Verdict>,
    /// How the pipeline file stands in the repository.
    pub pipeline: OnceCell<crate::gitlab::pipeline::State>,
    /// The commit that this run made.
    pub committed: RefCell<Option<String>>,
    /// The runner authentication token: read from its file, or new from GitLab.
    pub runner_token: RefCell<Option<Secret>>,
    /// When that token ends (RFC 3339, UTC, whole seconds), if GitLab said so when it made it.
    pub runner_expires: RefCell<Option<String>>,
    /// Which steps were selected, by name.
    pub selected: RefCell<Vec<&'static str>>,
    /// Every kind that can be listed in a namespace, and what could not be found out about that.
    pub served: OnceCell<crate::cluster::namespace::Kinds>,
    /// Whether namespaces may go with what generators keep in them: by flag, or by a yes on a terminal.
    pub accept_generated: Cell<bool>,
    /// What generators keep in namespaces that stay for that reason alone, one line for each.
    pub generated: RefCell<Vec<String>>,
    /// Objects that were waited for in vain, and reported.
    pub awaited: RefCell<Vec<Ref>>,
    /// What no dry run could look at yet, and why.
    pub unlooked: RefCell<Vec<(Ref, String)>>,
    /// What preflight found, for its own listing.
    pub checks: RefCell<Vec<Event>>,
    /// A temporary right that the operator holds now.
    pub held: RefCell<Option<(Ref, String)>>,
    /// Whether a temporary right was given during this run: authorizers lag behind it.
    pub bound: Cell<bool>,
    /// Whether this run made the binding that gives the runner its rights.
    pub granted: Cell<bool>,
    /// Whether one step was asked for by its own subcommand.
    pub alone: Cell<bool>,
    /// Whether the script that this run wrote holds the secrets; nothing if it wrote none.
    pub script_written: Cell<Option<bool>>,
    /// The launch script, where it was asked for on stdout.
    pub script_text: RefCell<Option<Secret>>,
    /// What `--runner-config` adds to the runner's entry.
    pub runner_extra: OnceCell<toml::Table>,
    /// What the last proof said.
    pub proof: RefCell<Option<String>>,
}

/// GitLab's API, as far as this run has it.
#[derive(Clone, Default)]
pub struct GitlabAccess {
    /// The connection.
    pub client: Option<Gitlab>,
    /// Why there is none.
    pub why_not: String,
    /// Whom its clients believe.
    pub roots: Roots,
    /// What decides about the proxy on the way to it.
    pub proxies: Variables,
}

type Cell1 = Rc<OnceCell<Option<Object>>>;

/// One run over one deployment.
pub struct Context {
    /// The settings, frozen.
    pub settings: Settings,
    /// The id that somebody stands for, where this machine has no record.
    pub vouched: Option<Vouched>,
    /// Why nobody does, where objects say that they are this deployment's.
    pub doubt: Option<Failure>,
    /// The options of this run.
    pub options: RunOptions,
    /// Names of everything.
    pub names: Names,
    /// The cluster, as the operator.
    pub cluster: Cluster,
    /// GitLab, as the operator.
    pub gitlab: GitlabAccess,
    /// What the kubeconfig says.
    pub target: Target,
    /// Limits for further clients.
    pub limits: Limits,
    /// What is known on this machine. Saved only by runs that write.
    pub record: RefCell<Record>,
    /// Whether that record came from disk.
    pub recorded: bool,
    /// What reads the files that the user names.
    pub intake: Rc<Intake>,
    /// Where events go.
    pub reporter: Rc<dyn Reporter>,
    /// Passed from step to step.
    pub facts: Facts,
    /// Name of the ServiceAccount that job pods run as.
    pub job_account: String,
    /// The time of this run.
    pub now: jiff::Timestamp,
    seen: RefCell<HashMap<Ref, Cell1>>,
}

impl Context {
    /// Puts a run together.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "called once; each part has another type")]
    pub fn new(
        settings: Settings,
        options: RunOptions,
        cluster: Cluster,
        gitlab: GitlabAccess,
        target: Target,
        limits: Limits,
        record: Record,
        recorded: bool,
        reporter: Rc<dyn Reporter>,
    ) -> Self {
        let names = Names::of(&settings);
        let facts = Facts {
            accept_generated: Cell::new(settings.accepts(crate::settings::Risk::Generated)),
            ..Facts::default()
        };
        Self {
            job_account: names.job_account().name,
            names,
            settings,
            vouched: None,
            doubt: None,
            options,
            cluster,
            gitlab,
            target,
            limits,
            record: RefCell::new(record),
            recorded,
            intake: Rc::default(),
            reporter,
            facts,
            now: jiff::Timestamp::now(),
            seen: RefCell::default(),
        }
    }

    /// GitLab's API.
    ///
    /// # Errors
    /// OR0201 (exit 2) saying what is missing.
    pub fn gitlab(&self) -> Result<&Gitlab> {
        self.gitlab.client.as_ref().ok_or_else(|| {
            Failure::new(Id::MissingInput, "this needs GitLab's API")
                .detail("because", self.gitlab.why_not.clone())
                .hint("name the instance with --gitlab-url URL and a file with an access token with --gitlab-token-file PATH")
        })
    }

    /// How many requests that change something have been sent, to whichever server.
    #[must_use]
    pub fn mutations(&self) -> usize {
        self.cluster.mutations() + self.gitlab.client.as_ref().map_or(0, Gitlab::mutations)
    }

    /// Whether a step is among those of this run.
    #[must_use]
    pub fn is_selected(&self, step: &str) -> bool {
        self.facts.selected.borrow().contains(&step)
    }

    /// The digest of the launch script that was written last, from the record or the anchor.
    pub async fn written_script(&self) -> Option<String> {
        let recorded = self.record.borrow().script_digest.clone();
        if !recorded.is_empty() {
            return Some(recorded);
        }
        self.noted(crate::deployment::names::SCRIPT_DIGEST).await
    }

    /// Reads an object, at most once per run.
    pub async fn read(&self, reference: &Ref) -> Result<Option<Object>, Refusal> {
        let cell = Rc::clone(self.seen.borrow_mut().entry(reference.clone()).or_default());
        cell.get_or_try_init(|| self.cluster.get(reference)).await.cloned()
    }

    /// Forgets what was read of an object, because it has changed.
    pub fn changed(&self, reference: &Ref, now: Option<Object>) {
        self.seen.borrow_mut().insert(reference.clone(), Rc::new(OnceCell::new_with(Some(now))));
    }

    /// Forgets what was read of an object, so that the next read asks the server.
    pub fn reread(&self, reference: &Ref) {
        self.seen.borrow_mut().remove(reference);
    }

    /// The deployment's ServiceAccount, if it is there and ours. Nothing else may be believed of it.
    pub async fn anchor(&self) -> Option<Object> {
        let live = self.read(&self.names.account()).await.ok().flatten()?;
        (self.owner(&live) == Owner::Us).then_some(live)
    }

    /// What an annotation of the anchor says; none for an empty one.
    pub async fn noted(&self, annotation: &str) -> Option<String> {
        let anchor = self.anchor().await?;
        anchor.annotation(annotation).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Which cluster this is, by the uid of `kube-system` and by its CA.
    ///
    /// # Errors
    /// Where the server is not reached; what may not be read stays empty.
    pub async fn cluster_identity(&self) -> Result<ClusterIdentity> {
        let reference = Ref::cluster(crate::deployment::object::Kind::Namespace, "kube-system");
        let kube_system = match self.read(&reference).await {
            Ok(live) => live.map_or_else(String::new, |live| live.uid().to_owned()),
            Err(refusal) if refusal.class == Class::Forbidden => String::new(),
            Err(refusal) => return Err(refusal.into()),
        };
        let bundle = self.target.ca.as_deref().and_then(|ca| x509::read_bundle(ca).ok());
        let ca = bundle.as_ref().and_then(|bundle| bundle.certificates.first());
        Ok(ClusterIdentity {
            context: self.target.context.clone(),
            server: self.target.endpoint.url.clone(),
            kube_system,
            ca_fingerprint: ca.map(x509::Certificate::fingerprint_sha256).unwrap_or_default(),
        })
    }

    /// The marks that the deployment's runner in GitLab may carry. With a record, or where the operator named
    /// the ServiceAccount's uid, earlier ones count, too.
    pub async fn marks(&self) -> Marks {
        let live = self.anchor().await;
        let record = self.record.borrow();
        let (namespace, live) = match &live {
            Some(live) => (self.names.runner_namespace.clone(), live.uid().to_owned()),
            // A cluster that is gone is not asked; one where it is to be made does not have it yet.
            None if self.options.cluster_gone => record.anchors.last().map_or_else(
                || (self.names.runner_namespace.clone(), String::new()),
                |last| (last.object.namespace.clone().unwrap_or_default(), last.uid.clone()),
            ),
            None => (self.names.runner_namespace.clone(), String::new()),
        };
        let clusters = mark::identities(&record.cluster);
        let made = |namespace: &str, uid: &str| -> Vec<String> {
            let deployment = Deployment { name: &self.names.deployment, namespace, id: &record.id };
            clusters.iter().map(|cluster| mark::mark(deployment, cluster, uid)).collect()
        };
        let current = made(&namespace, &live);
        let mut earlier = Vec::new();
        if self.recorded || self.vouched.as_ref().is_some_and(|vouched| vouched.by == Voucher::Uid) {
            let before = record.anchors.iter().map(|owned| (owned.object.namespace.as_deref(), &*owned.uid));
            for (namespace, uid) in before.chain([(Some(self.names.runner_namespace.as_str()), "")]) {
                earlier.extend(made(namespace.unwrap_or_default(), uid));
            }
            earlier.push(mark::id_alone(&record.id));
            earlier.retain(|mark| !current.contains(mark));
        }
        Marks { current, earlier }
    }

    /// Who the operator is, asked of the server.
    pub async fn operator(&self) -> Result<&Operator> {
        self.facts
            .operator
            .get_or_try_init(|| async {
                let status = self
                    .cluster
                    .review(
                        "ask who you are",
                        "authentication.k8s.io",
                        "selfsubjectreviews",
                        "SelfSubjectReview",
                        serde_json::Value::Null,
                    )
                    .await
                    .map_err(Failure::from)?;
                let user = &status["userInfo"];
                let name = user["username"].as_str().unwrap_or_default();
                // It stands in bindings and in commands to paste, where it must be what it looks like.
                if let Err(why) = check::text(name) {
                    let name = check::escaped(name);
                    return Err(Failure::new(
                        Id::UnprintableUser,
                        format!("the server knows you as {name}, which {why}"),
                    )
                    .hint("use credentials that belong to another user: --context NAME"));
                }
                Ok(Operator {
                    name: name.to_owned(),
                    groups: user["groups"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|group| group.as_str().map(str::to_owned))
                        .collect(),
                })
            })
            .await
    }

    /// The server's version, such as `v1.37.2`.
    pub async fn version(&self) -> Result<&String> {
        self.facts
            .version
            .get_or_try_init(|| async {
                let answer =
                    self.cluster.read("read the version", "/version").await.map_err(Failure::from)?;
                let digits = |key: &str| -> String {
                    answer[key]
                        .as_str()
                        .unwrap_or_default()
                        .chars()
                        .take_while(char::is_ascii_digit)
                        .collect()
                };
                let (major, minor) = (digits("major"), digits("minor"));
                if !major.is_empty() && !minor.is_empty() {
                    let _ = self.facts.minor_version.set(format!("v{major}.{minor}"));
                }
                Ok(answer["gitVersion"].as_str().unwrap_or_default().to_owned())
            })
            .await
    }

    /// Asks whether the operator (or whoever `cluster` is) may do one thing.
    pub async fn may(
        &self,
        cluster: &Cluster,
        namespace: &str,
        right: &crate::cluster::rights::Right,
    ) -> Result<bool, Refusal> {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        let spec = serde_json::json!({"resourceAttributes": {
            "namespace": namespace, "verb": right.verb, "group": right.group,
            "resource": resource, "subresource": subresource, "name": right.name,
        }});
        let status = cluster
            .review(
                &format!("ask about {right}"),
                "authorization.k8s.io",
                "selfsubjectaccessreviews",
                "SelfSubjectAccessReview",
                spec,
            )
            .await?;
        Ok(status["allowed"] == true)
    }

    /// Whose a live object is.
    pub fn owner(&self, live: &Object) -> Owner {
        let vouched = self.vouched.as_ref().map(|vouched| vouched.id.as_str());
        ownership::judge(live, &self.record.borrow(), vouched)
    }

    /// Whether each of these objects is there and ours.
    pub async fn are_ours(&self, references: &[Ref]) -> bool {
        for reference in references {
            match self.read(reference).await {
                Ok(Some(live)) if self.owner(&live) == Owner::Us => {}
                _ => return false,
            }
        }
        true
    }

    /// Fails where objects say that they are this deployment's and nobody stands for it.
    ///
    /// # Errors
    /// OR0706 (exit 7), or GitLab's own where it was asked for the mark and did not say.
    pub fn certain(&self) -> Result<()> {
        self.doubt.clone().map_or(Ok(()), Err)
    }

    /// This deployment's id, minted at the first need.
    pub fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    /// Saves the record.
    pub fn save(&self) -> Result<()> {
        self.record.borrow().save(&self.settings.state_dir)
    }

    /// Creates an object: intent to disk, POST, uid to disk.
    ///
    /// A lost answer is settled by looking: an object that carries our id is the one we sent.
    pub async fn create(&self, object: &Object) -> Result<Object> {
        let reference = &object.reference;
        self.record.borrow_mut().intend(reference);
        self.save()?;
        let made = match self.cluster.create(object).await {
            Ok(made) => made,
            Err(refusal) if refusal.is_ambiguous() || refusal.class == Class::AlreadyExists => {
                let cleanup = self.cluster.for_cleanup(Duration::from_secs(10));
                match cleanup.get(reference).await {
                    Ok(Some(live)) if live.annotation(ID) == Some(self.id().as_str()) => live,
                    Ok(Some(live)) if refusal.class == Class::AlreadyExists => {
                        self.record.borrow_mut().forget(reference);
                        self.save()?;
                        return Err(ownership::foreign(&live, "it appeared between the plan and now"));
                    }
                    Ok(None) => {
                        self.record.borrow_mut().forget(reference);
                        self.save()?;
                        return Err(refusal.into());
                    }
                    _ => return Err(refusal.into()),
                }
            }
            Err(refusal) => {
                self.record.borrow_mut().forget(reference);
                self.save()?;
                return Err(self.refused(object, refusal));
            }
        };
        self.record.borrow_mut().own(reference, made.uid());
        self.changed(reference, Some(made.clone()));
        self.save()?;
        Ok(made)
    }

    fn refused(&self, object: &Object, refusal: Refusal) -> Failure {
        dry_run::failure(&self.settings, &self.kubectl(), object, refusal)
    }

    /// Applies a change to an object that was judged ours.
    pub async fn apply(&self, object: &Object) -> Result<Object> {
        let made = self.cluster.apply(object).await.map_err(|why| self.refused(object, why))?;
        self.record.borrow_mut().own(&object.reference, made.uid());
        self.changed(&object.reference, Some(made.clone()));
        self.save()?;
        Ok(made)
    }

    /// Repeats what is denied although it was just granted: authorizers lag behind a binding.
    pub async fn after_binding<T, F>(&self, limit: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let look = async || match attempt().await {
            Err(failure) if failure.kind == Kind::Denied && self.facts.bound.get() => Ok(Continue(failure)),
            other => other.map(Break),
        };
        wait::until(Pace::new(&self.limits, 50, 1000).within(limit), |_, _| {}, look).await?
    }

    /// Tells that a step waits.
    pub fn waiting(&self, step: &str, what: &str, waited: Duration) {
        self.reporter.event(&Event::StepWaiting { step: step.to_owned(), what: what.to_owned(), waited });
    }

    /// Tells a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.reporter.event(&Event::Warning { text: text.into() });
    }

    /// Where the launch script goes.
    #[must_use]
    pub fn script_path(&self) -> PathBuf {
        match &self.settings.script {
            Some(path) => path.value.clone(),
            None => self.settings.default_script(),
        }
    }

    /// How a command of kubectl begins that must reach this very cluster as this very operator, for
    /// pasting: bare where kubectl would choose the same by itself.
    #[must_use]
    pub fn kubectl(&self) -> String {
        let mut words = vec!["kubectl".to_owned()];
        let settings = &self.settings;
        for (key, flag) in [("kubeconfig", "--kubeconfig"), ("context", "--context"), ("as", "--as")] {
            let Some((values, source)) = settings.view(key) else { continue };
            if !matches!(&source, Source::Environment(name) if *name == "KUBECONFIG") {
                words.push(format!("{flag} {}", shell_word(&values.join(","))));
            }
        }
        words.join(" ")
    }

    /// Whether a namespace is one the user named with `--use-namespace`.
    #[must_use]
    pub fn is_used(&self, namespace: &str) -> bool {
        self.settings.use_namespaces.iter().any(|used| used == namespace)
    }
}
