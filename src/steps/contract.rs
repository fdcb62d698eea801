//! The contract of all steps, and a step as the engine sees it.
//!
//! A step observes ([`Step::observe`], with [`Reads`], which cannot write), decides ([`Step::decide`], a pure function)
//! and applies what it announced ([`Step::apply`], with [`Writes`], one act at a time). Decisions pass a [`Forecast`]
//! to later steps, applied steps pass [`Products`]; there is no other channel.
//!
//! A step becomes a subcommand with one line in [`STEPS`](crate::steps::STEPS). `contract_tests.rs` has a complete one,
//! and tests that do not compile if observing can write or deciding can send a request. An unhandled act does not
//! compile either: `apply` and `undo` match the step's own types.

use std::cell::OnceCell;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use crate::base::error::{Failure, Hint, Id, Result};
use crate::base::event::{Outcome as Judgement, Reporter};
use crate::base::files::Intake;
use crate::base::secret::Secret;
use crate::cluster;
use crate::deployment::notes::{Journal, Notes};
use crate::deployment::object::{Object, Ref};
use crate::deployment::plan::{Decision, Line};
use crate::deployment::record::Record;
use crate::deployment::run::{Part, Run};
use crate::gitlab::{self, view::RunnerToken};
use crate::machine::{self, script_files::Brings};
use crate::settings::{Need, Settings};

/// A future that stays on its thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Read access for a step. Cluster and GitLab are accessed with the operator's credentials.
#[derive(Clone, Copy)]
pub struct Reads<'a> {
    pub run: &'a Run,
    /// The record on this machine and the annotations of the ServiceAccount.
    pub notes: &'a Notes,
    pub cluster: &'a cluster::view::View,
    pub gitlab: &'a gitlab::view::View,
    pub machine: &'a machine::view::View,
    /// Reads the user's files.
    pub intake: &'a Intake,
    pub progress: &'a dyn Reporter,
}

/// Write access for a step, with the same credentials.
#[derive(Clone, Copy)]
pub struct Writes<'a> {
    pub reads: Reads<'a>,
    pub cluster: &'a cluster::view::Hand,
    pub gitlab: &'a gitlab::view::Hand,
    pub machine: &'a machine::view::Hand,
    pub journal: &'a Journal,
    /// Products of this step and earlier ones.
    pub products: &'a Products,
}

impl<'a> Deref for Writes<'a> {
    type Target = Reads<'a>;

    fn deref(&self) -> &Reads<'a> {
        &self.reads
    }
}

/// The inputs of a decision besides the observation.
#[derive(Clone, Copy)]
pub struct Deciding<'a> {
    pub run: &'a Run,
    pub notes: &'a Notes,
    /// Promises of earlier steps.
    pub forecast: &'a Forecast,
}

/// Why a step observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Also for status.
    Setup,
    /// To decide again about [`Decision::Unknown`], right before apply.
    Again,
    Teardown,
}

/// Promises of earlier decisions to later ones.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Objects without a dry run so far, with the reason.
    pub unchecked: Vec<(Ref, String)>,
    /// create-runner's line already announces the new tags of the pipeline file.
    pub tags_announced: bool,
    /// The pipeline file will be committed.
    pub commit: bool,
    pub script: Option<Script>,
    /// The VM will be made.
    pub vm_is_new: bool,
}

/// What launch-script decided.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The digest that the machine should have.
    pub digest: String,
    /// The script will be written.
    pub is_written: bool,
    /// An upgrade can be undone.
    pub goes_back: bool,
}

impl Forecast {
    fn add(&mut self, other: &Self) {
        // Two steps may name the same object: the Role, whose rights are checked apart from it.
        for (reference, why) in &other.unchecked {
            if self.unchecked.iter().all(|(known, _)| known != reference) {
                self.unchecked.push((reference.clone(), why.clone()));
            }
        }
        self.tags_announced |= other.tags_announced;
        self.commit |= other.commit;
        self.vm_is_new |= other.vm_is_new;
        self.script = self.script.take().or_else(|| other.script.clone());
    }
}

/// Products of applied steps; each is set once.
#[derive(Default)]
pub struct Products {
    /// The runner's cluster token.
    pub cluster_token: OnceCell<Secret>,
    /// The runner authentication token.
    pub runner_token: OnceCell<RunnerToken>,
    /// The SHA of this run's commit.
    pub commit: OnceCell<String>,
    pub script: OnceCell<Written>,
    /// Set when the host was seen to have run the script of this deployment that is on this disk.
    pub delivered: OnceCell<()>,
    /// The way back from an upgrade.
    pub rollback: OnceCell<Rollback>,
    /// Set when the runner was seen at work after the plan was made.
    pub online: OnceCell<()>,
}

/// The launch script with the version of gitlab-runner that the host has had. It brings no token.
pub struct Rollback {
    pub version: String,
    /// The recorded settings of the installation, by key.
    pub settings: Vec<(String, Option<Vec<String>>)>,
    pub script: Secret,
    pub digest: String,
}

/// The launch script of this run.
pub struct Written {
    /// The tokens in the script or its secrets file.
    pub brings: Brings,
    /// The script, if it goes to stdout.
    pub to_stdout: Option<Secret>,
}

/// A check in the output of `preflight`: its result in one line, and further lines.
#[derive(Clone, Debug)]
pub struct Finding {
    pub name: String,
    pub outcome: Judgement,
    pub text: String,
    pub detail: Vec<Hint>,
}

/// A step's decision: its lines of the plan, its checks, and its promises to later steps.
pub struct Decided<A> {
    pub lines: Vec<Line<A>>,
    pub findings: Vec<Finding>,
    pub forecast: Forecast,
}

impl<A> Decided<A> {
    pub fn lines(lines: Vec<Line<A>>) -> Self {
        Self { lines, findings: Vec::new(), forecast: Forecast::default() }
    }
}

impl<A> From<Line<A>> for Decided<A> {
    fn from(line: Line<A>) -> Self {
        Self::lines(vec![line])
    }
}

pub struct Outcome<U> {
    /// The result in words; may be empty.
    pub text: String,
    /// Undone at the [`Milestone`] of [`Info::holds_until`], at the latest at the end of the run.
    pub held: Vec<U>,
}

impl<U> From<String> for Outcome<U> {
    fn from(text: String) -> Self {
        Self { text, held: Vec::new() }
    }
}

/// A point in the run until which a temporary right is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The Role and its binding exist.
    RoleGranted,
    /// The launch script has run on the VM.
    ScriptDelivered,
}

/// Whether a step can print its product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    Never,
    /// With `--print`; `with_cluster` if that needs a connection to the cluster.
    OnRequest {
        with_cluster: bool,
    },
    /// Its subcommand only prints.
    Always,
}

/// A product for stdout, byte for byte.
pub struct Printed {
    pub bytes: Vec<u8>,
    /// Objects that an administrator creates from it. With a recorded intent, they belong to the deployment by their id.
    pub intents: Vec<Ref>,
}

impl Printed {
    /// The objects as YAML documents.
    pub fn manifests(objects: Vec<Object>) -> Result<Self> {
        let mut text = String::new();
        for object in &objects {
            let yaml = serde_yaml::to_string(&object.value).map_err(|error| {
                Failure::new(Id::Internal, format!("cannot write {} as YAML: {error}", object.reference))
            })?;
            text.push_str("---\n");
            text.push_str(&yaml);
            if !yaml.ends_with('\n') {
                text.push('\n');
            }
        }
        Ok(Self {
            bytes: text.into_bytes(),
            intents: objects.into_iter().map(|object| object.reference).collect(),
        })
    }
}

/// A step as data, for subcommand, help, `--only`, teardown's order and the README's table.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named where it is set")]
pub struct Info {
    /// Subcommand and JSON name.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// More for its own `--help`.
    pub long: &'static str,
    /// Settings (by key) that matter to it, beyond the connection's.
    pub keys: &'static [&'static str],
    /// Flags of a single run that matter to it.
    pub flags: &'static [&'static str],
    /// The GitLab settings that it needs.
    pub gitlab: Need,
    /// Its subcommand needs them even with a record.
    pub gitlab_again: bool,
    /// Its name for other steps that depend on whether it is selected.
    pub part: Option<Part>,
    /// The steps that its subcommand includes first.
    pub pulls_in: &'static [Part],
    /// Whether `setup` and `status` include it by default.
    pub is_wanted: fn(&Settings, Option<&Record>) -> bool,
    /// It checks all other steps and changes nothing.
    pub surveys: bool,
    /// Its undo needs the cluster.
    pub undo_needs_cluster: bool,
    /// It is undone after all other steps, because its objects contain theirs.
    pub undone_last: bool,
    /// Its temporary rights are undone at this milestone.
    pub holds_until: Option<Milestone>,
    pub reaches: Option<Milestone>,
    pub prints: Prints,
}

impl Info {
    pub const DEFAULT: Info = Info {
        name: "",
        about: "",
        long: "",
        keys: &[],
        flags: &[],
        gitlab: Need::Nothing,
        gitlab_again: false,
        part: None,
        pulls_in: &[],
        is_wanted: |_, _| true,
        surveys: false,
        undo_needs_cluster: true,
        undone_last: false,
        holds_until: None,
        reaches: None,
        prints: Prints::Never,
    };
}

/// The type of acts of a step without acts.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

/// One row of the list.
#[expect(async_fn_in_trait, reason = "the futures stay on one thread")]
pub trait Step: Sync + 'static {
    const INFO: Info;
    /// The observation.
    type Seen: 'static;
    /// A change that the plan announces and `apply` makes.
    type Act: Clone + 'static;
    /// A removal: announced by `decide_undo`, or held after an act.
    type Undo: Clone + 'static;

    /// Reads what the decision needs. A failure becomes the step's only line.
    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Self::Seen>;

    /// Decides for [`Purpose::Setup`].
    fn decide(&self, d: &Deciding<'_>, seen: &Self::Seen) -> Decided<Self::Act>;

    /// Decides what to remove for [`Purpose::Teardown`].
    fn decide_undo(&self, _d: &Deciding<'_>, _seen: &Self::Seen) -> Vec<Line<Self::Undo>> {
        Vec::new()
    }

    /// Whether an act of a second decision was announced by the first.
    fn within(&self, _act: &Self::Act, _announced: &[Self::Act]) -> bool {
        false
    }

    /// Local checks before any change, for failures that would come later.
    fn ready(&self, _run: &Run, _act: &Self::Act) -> Result<()> {
        Ok(())
    }

    /// Applies one act. After a failure the run stops, and temporary rights are undone.
    async fn apply(&self, w: Writes<'_>, act: Self::Act) -> Result<Outcome<Self::Undo>>;

    /// Tests the result as it will be used: after apply, even if kept, and in `status`. Returns the proof in words, or
    /// the failed proof (exit 9).
    async fn prove(&self, _r: Reads<'_>, _products: &Products) -> Result<Option<String>> {
        Ok(None)
    }

    /// The step's line after apply; `did` has the results of its acts.
    fn done(
        &self,
        _d: &Deciding<'_>,
        _seen: &Self::Seen,
        lines: &[Line<Self::Act>],
        did: &[String],
    ) -> String {
        if did.is_empty() {
            lines.first().map(|line| line.text.clone()).unwrap_or_default()
        } else {
            did.join("; ")
        }
    }

    /// Before any removal: stops new work and waits for running work. Returns a note, if any; fails if work still runs
    /// after the timeout.
    async fn settle(&self, _w: Writes<'_>, _acts: &[Self::Undo]) -> Result<Option<String>> {
        Ok(None)
    }

    /// Removes these, continues after failures, and verifies the removal. Returns the result in words, or all failures,
    /// joined.
    async fn undo(&self, w: Writes<'_>, acts: Vec<Self::Undo>) -> Result<String>;

    /// Its product for stdout.
    async fn print(&self, _r: Reads<'_>) -> Result<Option<Printed>> {
        Ok(None)
    }
}

/// Decides after the observation, when the decisions of earlier steps are known.
pub type Decide = Box<dyn FnOnce(&Deciding<'_>) -> Box<dyn Planned>>;

/// A [`Step`] without its types, for the engine.
pub trait AnyStep: Sync {
    fn info(&self) -> &'static Info;
    /// Observes.
    fn look<'a>(&'static self, r: Reads<'a>, why: Purpose) -> Pending<'a, Decide>;
    fn print<'a>(&'static self, r: Reads<'a>) -> Pending<'a, Result<Option<Printed>>>;
}

/// A step after its decision. A step whose observation failed has that failure as its only line.
pub trait Planned {
    fn info(&self) -> &'static Info;
    /// Its lines, without their acts.
    fn lines(&self) -> Vec<Line>;
    fn findings(&self) -> &[Finding];
    /// Adds its promises.
    fn promise(&self, forecast: &mut Forecast);
    fn ready(&self, run: &Run) -> Result<()>;
    /// Applies all acts and proves the result. Returns the step's line.
    fn apply<'a>(&'a mut self, w: Writes<'a>, forecast: &'a Forecast) -> Pending<'a, Result<String>>;
    fn prove<'a>(&'a self, r: Reads<'a>, products: &'a Products) -> Pending<'a, Result<Option<String>>>;
    /// Undoes what it holds, if anything.
    fn release<'a>(&'a mut self, w: Writes<'a>) -> Pending<'a, Result<Option<String>>>;
    fn settle<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<Option<String>>>;
    fn undo<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<String>>;
}

struct Plan<S: Step> {
    step: &'static S,
    seen: Result<S::Seen>,
    decided: Decided<S::Act>,
    undo: Vec<Line<S::Undo>>,
    held: Vec<S::Undo>,
}

impl<S: Step> AnyStep for S {
    fn info(&self) -> &'static Info {
        &S::INFO
    }

    fn look<'a>(&'static self, r: Reads<'a>, why: Purpose) -> Pending<'a, Decide> {
        Box::pin(async move {
            let seen = self.observe(r, why).await;
            let plan =
                move |d: &Deciding<'_>| -> Box<dyn Planned> { Box::new(Plan::new(self, seen, why, d)) };
            Box::new(plan) as Decide
        })
    }

    fn print<'a>(&'static self, r: Reads<'a>) -> Pending<'a, Result<Option<Printed>>> {
        Box::pin(Step::print(self, r))
    }
}

impl<S: Step> Plan<S> {
    fn new(step: &'static S, seen: Result<S::Seen>, why: Purpose, d: &Deciding<'_>) -> Self {
        let (mut decided, mut undo) = (Decided::lines(Vec::new()), Vec::new());
        match (&seen, why) {
            (Err(failure), _) => decided.lines.push(Line::refuse(failure.clone())),
            (Ok(seen), Purpose::Setup | Purpose::Again) => decided = step.decide(d, seen),
            (Ok(seen), Purpose::Teardown) => undo = step.decide_undo(d, seen),
        }
        Self { step, seen, decided, undo, held: Vec::new() }
    }

    fn seen(&self) -> Result<&S::Seen> {
        self.seen.as_ref().map_err(Clone::clone)
    }

    fn acts(&self) -> Vec<S::Act> {
        self.decided.lines.iter().filter_map(|line| line.act.clone()).collect()
    }

    fn removals(&self) -> Vec<S::Undo> {
        self.undo.iter().filter_map(|line| line.act.clone()).collect()
    }

    /// Observes and decides again, and compares the result with the announced acts.
    async fn again(&self, w: Writes<'_>, forecast: &Forecast) -> Result<Vec<Line<S::Act>>> {
        let seen = self.step.observe(w.reads, Purpose::Again).await?;
        let lines = self.step.decide(&Deciding { run: w.run, notes: w.notes, forecast }, &seen).lines;
        let announced = self.acts();
        for line in &lines {
            if let Some(failure) = &line.failure {
                return Err(failure.clone());
            }
            if line.act.as_ref().is_some_and(|act| !self.step.within(act, &announced)) {
                let why = format!("{} is required, but was not announced", line.text);
                return Err(Failure::new(Id::NotAnnounced, why)
                    .hint("run the same command again to see the new plan"));
            }
        }
        Ok(lines)
    }
}

impl<S: Step> Planned for Plan<S> {
    fn info(&self) -> &'static Info {
        &S::INFO
    }

    fn lines(&self) -> Vec<Line> {
        let lines = self.decided.lines.iter().map(|line| line.clone().map(drop));
        lines.chain(self.undo.iter().map(|line| line.clone().map(drop))).collect()
    }

    fn findings(&self) -> &[Finding] {
        &self.decided.findings
    }

    fn promise(&self, forecast: &mut Forecast) {
        forecast.add(&self.decided.forecast);
    }

    fn ready(&self, run: &Run) -> Result<()> {
        self.seen()?;
        self.acts().iter().try_for_each(|act| self.step.ready(run, act))
    }

    fn apply<'a>(&'a mut self, w: Writes<'a>, forecast: &'a Forecast) -> Pending<'a, Result<String>> {
        Box::pin(async move {
            self.seen()?;
            if self.decided.lines.iter().any(|line| line.decision == Decision::Unknown) {
                let again = self.again(w, forecast).await?;
                self.decided.lines.retain(|line| line.decision != Decision::Unknown);
                self.decided.lines.extend(again);
            }
            let mut did = Vec::new();
            for act in self.acts() {
                let outcome = self.step.apply(w, act).await?;
                self.held.extend(outcome.held);
                did.extend(Some(outcome.text).filter(|text| !text.is_empty()));
            }
            let proof = self.step.prove(w.reads, w.products).await?;
            let d = Deciding { run: w.run, notes: w.notes, forecast };
            let changed = self.decided.lines.iter().any(|line| line.decision.is_change());
            Ok(match proof {
                None => self.step.done(&d, self.seen()?, &self.decided.lines, &did),
                Some(proof) if changed && did.is_empty() => proof,
                Some(proof) if changed => format!("{}; {proof}", did.join("; ")),
                Some(proof) => format!("kept, {proof}"),
            })
        })
    }

    fn prove<'a>(&'a self, r: Reads<'a>, products: &'a Products) -> Pending<'a, Result<Option<String>>> {
        Box::pin(async move {
            match self.seen {
                Ok(_) => self.step.prove(r, products).await,
                Err(_) => Ok(None),
            }
        })
    }

    fn release<'a>(&'a mut self, w: Writes<'a>) -> Pending<'a, Result<Option<String>>> {
        Box::pin(async move {
            if self.held.is_empty() {
                return Ok(None);
            }
            let text = self.step.undo(w, self.held.clone()).await?;
            self.held.clear();
            Ok(Some(text))
        })
    }

    fn settle<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<Option<String>>> {
        Box::pin(async move { self.step.settle(w, &self.removals()).await })
    }

    fn undo<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<String>> {
        Box::pin(self.step.undo(w, self.removals()))
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
