//! The contract of all steps, and a step as the engine sees it.
//!
//! A step observes ([`Step::observe`], with [`Reads`], which cannot write), decides ([`Step::decide`], a pure function)
//! and applies what it announced ([`Step::apply`], with [`Writes`], one act at a time). Decisions pass a [`Forecast`]
//! to later steps, applied steps pass [`Products`]; there is no other channel.
//!
//! A complete step, which becomes a subcommand with one line in [`STEPS`](crate::steps::STEPS):
//!
//! ```
//! use outrigger::base::error::Result;
//! use outrigger::deployment::plan::{Decision, Line};
//! use outrigger::steps::contract::*;
//!
//! struct CheckDrift;
//!
//! #[derive(Clone)]
//! enum Act {
//!     Note(String),
//! }
//!
//! impl Step for CheckDrift {
//!     const INFO: Info = Info { name: "check-drift", ..Info::DEFAULT };
//!     type Seen = bool;
//!     type Act = Act;
//!     type Undo = Never;
//!
//!     async fn observe(&self, r: Reads<'_>, _: Purpose) -> Result<bool> {
//!         Ok(r.cluster.are_ours(&[r.run.names.role()]).await)
//!     }
//!     fn decide(&self, _: &Deciding<'_>, is_there: &bool) -> Decided<Act> {
//!         match is_there {
//!             true => Line::keep("kept").into(),
//!             false => Line::new(Decision::Update, "a note", Act::Note("gone".to_owned())).into(),
//!         }
//!     }
//!     async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Never>> {
//!         match act {
//!             Act::Note(text) => w.journal.write(|record| record.script_target = text)?,
//!         }
//!         Ok("noted".to_owned().into())
//!     }
//!     async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
//!         Ok(String::new())
//!     }
//! }
//! ```
//!
//! Writing while observing does not compile:
//!
//! ```compile_fail,E0599
//! # use outrigger::{deployment::object::Object, steps::contract::Reads};
//! async fn observe(r: Reads<'_>, object: &Object) {
//!     let _ = r.cluster.create(object).await;
//! }
//! ```
//!
//! nor does a request while deciding:
//!
//! ```compile_fail,E0609
//! # use outrigger::steps::contract::Deciding;
//! fn decide(d: &Deciding<'_>) {
//!     let _ = d.cluster.version();
//! }
//! ```
//!
//! nor an unhandled act:
//!
//! ```compile_fail,E0004
//! # use outrigger::{base::error::Result, steps::contract::{Never, Outcome, Writes}};
//! # enum Act { Create, Replace }
//! async fn apply(_: Writes<'_>, act: Act) -> Result<Outcome<Never>> {
//!     match act {
//!         Act::Create => Ok("created".to_owned().into()),
//!     }
//! }
//! ```

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
use crate::deployment::object::Ref;
use crate::deployment::plan::{Decision, Line};
use crate::deployment::record::Record;
use crate::deployment::run::{Part, Run};
use crate::gitlab::{self, view::RunnerToken};
use crate::settings::{Need, Settings};

/// A future that stays on its thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What a step can read.
#[derive(Clone, Copy)]
pub struct Reads<'a> {
    /// The run.
    pub run: &'a Run,
    /// Record and anchor.
    pub notes: &'a Notes,
    /// The cluster, as the operator.
    pub cluster: &'a cluster::view::View,
    /// GitLab, as the operator.
    pub gitlab: &'a gitlab::view::View,
    /// Reads the user's files.
    pub intake: &'a Intake,
    /// The sink for events.
    pub progress: &'a dyn Reporter,
}

/// What a step can change and read.
#[derive(Clone, Copy)]
pub struct Writes<'a> {
    /// What it can read.
    pub reads: Reads<'a>,
    /// The cluster, as the operator.
    pub cluster: &'a cluster::view::Hand,
    /// GitLab, as the operator.
    pub gitlab: &'a gitlab::view::Hand,
    /// The journal of the record.
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

/// What a decision depends on besides the observation.
#[derive(Clone, Copy)]
pub struct Deciding<'a> {
    /// The run.
    pub run: &'a Run,
    /// Record and anchor.
    pub notes: &'a Notes,
    /// Promises of earlier steps.
    pub forecast: &'a Forecast,
}

/// Why a step observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For setup and status.
    Setup,
    /// To decide again about [`Decision::Unknown`], right before apply.
    Again,
    /// For teardown.
    Teardown,
}

/// Promises of earlier decisions to later ones.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Objects without a dry run so far, with the reason.
    pub unlooked: Vec<(Ref, String)>,
    /// The runner's line already announces the new tags of the pipeline file.
    pub tags_announced: bool,
    /// The pipeline file will be committed.
    pub commit: bool,
}

impl Forecast {
    fn add(&mut self, other: &Self) {
        self.unlooked.extend(other.unlooked.iter().cloned());
        self.tags_announced |= other.tags_announced;
        self.commit |= other.commit;
    }
}

/// Products of applied steps; each is set once.
#[derive(Default)]
pub struct Products {
    /// The runner's cluster token.
    pub cluster_token: OnceCell<Secret>,
    /// The runner authentication token.
    pub runner_token: OnceCell<RunnerToken>,
    /// The commit of this run.
    pub commit: OnceCell<String>,
    /// The launch script of this run.
    pub script: OnceCell<Written>,
}

/// A written launch script.
pub struct Written {
    /// Whether it or its secrets file contains the secrets.
    pub with_secrets: bool,
    /// The script, if it goes to stdout.
    pub to_stdout: Option<Secret>,
}

/// A check in the output of `preflight`.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was checked.
    pub name: String,
    /// Its result.
    pub outcome: Judgement,
    /// In one line.
    pub text: String,
    /// More lines.
    pub detail: Vec<Hint>,
}

/// What a step decided.
pub struct Decided<A> {
    /// Its lines of the plan.
    pub lines: Vec<Line<A>>,
    /// What it checked on the way.
    pub findings: Vec<Finding>,
    /// What it promises to later steps.
    pub forecast: Forecast,
}

impl<A> Decided<A> {
    /// These lines, and no promise.
    pub fn lines(lines: Vec<Line<A>>) -> Self {
        Self { lines, findings: Vec::new(), forecast: Forecast::default() }
    }
}

impl<A> From<Line<A>> for Decided<A> {
    fn from(line: Line<A>) -> Self {
        Self::lines(vec![line])
    }
}

/// The result of an act.
pub struct Outcome<U> {
    /// The result in words, may be empty.
    pub text: String,
    /// What must be undone at the [`Milestone`] of [`Info::holds_until`], at the latest at the end of the run.
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
}

/// Whether a step can print its product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    /// No.
    Never,
    /// With `--print`.
    OnRequest {
        /// Whether that takes a connection to the cluster.
        with_cluster: bool,
    },
    /// Its subcommand only prints.
    Always,
}

/// What is printed, byte for byte.
pub struct Printed {
    /// The product.
    pub bytes: Vec<u8>,
    /// Objects that an administrator creates from it: they count as ours by their id once recorded.
    pub intents: Vec<Ref>,
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
    /// What it needs of GitLab's side.
    pub gitlab: Need,
    /// Whether its subcommand needs that even with a record.
    pub gitlab_again: bool,
    /// Its name for other steps that depend on whether it is selected.
    pub part: Option<Part>,
    /// The steps that its subcommand includes first.
    pub pulls_in: &'static [Part],
    /// Whether `setup` and `status` include it by default.
    pub is_wanted: fn(&Settings, Option<&Record>) -> bool,
    /// It checks all other steps and changes nothing.
    pub surveys: bool,
    /// Whether undoing it needs the cluster.
    pub undo_needs_cluster: bool,
    /// It is undone after all others, whose objects are inside its own.
    pub undone_last: bool,
    /// Its temporary rights are undone at this milestone.
    pub holds_until: Option<Milestone>,
    /// The milestone that it reaches.
    pub reaches: Option<Milestone>,
    /// Whether it can print its product.
    pub prints: Prints,
}

impl Info {
    /// The defaults.
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

/// The act of a step without acts.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

/// One row of the list.
#[expect(async_fn_in_trait, reason = "the futures stay on one thread")]
pub trait Step: Sync + 'static {
    /// What it is.
    const INFO: Info;
    /// What it sees.
    type Seen: 'static;
    /// What it can do.
    type Act: Clone + 'static;
    /// What it can undo.
    type Undo: Clone + 'static;

    /// Reads what the decision needs.
    ///
    /// # Errors
    /// The failure becomes the step's only line.
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

    /// Local checks before any change.
    ///
    /// # Errors
    /// What would fail later.
    fn ready(&self, _run: &Run, _act: &Self::Act) -> Result<()> {
        Ok(())
    }

    /// Applies one act.
    ///
    /// # Errors
    /// The run stops, and temporary rights are undone.
    async fn apply(&self, w: Writes<'_>, act: Self::Act) -> Result<Outcome<Self::Undo>>;

    /// Tests the result as it will be used: after apply, even if kept, and in `status`. Returns the proof in words.
    ///
    /// # Errors
    /// The failed proof (exit 9).
    async fn prove(&self, _r: Reads<'_>, _products: &Products) -> Result<Option<String>> {
        Ok(None)
    }

    /// The step's line after apply: `did` has the results of its acts.
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

    /// Before anything is removed: stops new work and waits for running work. Returns a note, if any.
    ///
    /// # Errors
    /// Work that still runs after the timeout.
    async fn settle(&self, _w: Writes<'_>, _acts: &[Self::Undo]) -> Result<Option<String>> {
        Ok(None)
    }

    /// Removes these, continues after failures, and verifies the removal. Returns the result in words.
    ///
    /// # Errors
    /// All failures, joined.
    async fn undo(&self, w: Writes<'_>, acts: Vec<Self::Undo>) -> Result<String>;

    /// Its product for stdout.
    ///
    /// # Errors
    /// Why it cannot be produced.
    async fn print(&self, _r: Reads<'_>) -> Result<Option<Printed>> {
        Ok(None)
    }
}

/// A step as the engine sees it.
pub trait AnyStep: Sync {
    /// What it is.
    fn info(&self) -> &'static Info;
    /// Lets it look.
    fn look<'a>(&'static self, r: Reads<'a>, why: Purpose) -> Pending<'a, Result<Box<dyn Looked>>>;
    /// What it makes, for stdout.
    fn print<'a>(&'static self, r: Reads<'a>) -> Pending<'a, Result<Option<Printed>>>;
}

/// A step after observation.
pub trait Looked {
    /// Lets it decide about setting up.
    fn decide(self: Box<Self>, d: &Deciding<'_>) -> Box<dyn Planned>;
    /// Lets it decide about taking away.
    fn decide_undo(self: Box<Self>, d: &Deciding<'_>) -> Box<dyn Planned>;
}

/// A step after its decision.
pub trait Planned {
    /// What it is.
    fn info(&self) -> &'static Info;
    /// Its lines, without what they do.
    fn lines(&self) -> Vec<Line>;
    /// What it checked on the way.
    fn findings(&self) -> &[Finding];
    /// What it promises to later steps.
    fn promise(&self, forecast: &mut Forecast);
    /// What can be tried before anything is changed.
    fn ready(&self, run: &Run) -> Result<()>;
    /// Carries out what it announced; the step's one line.
    fn apply<'a>(&'a mut self, w: Writes<'a>, forecast: &'a Forecast) -> Pending<'a, Result<String>>;
    /// Tries what is there.
    fn prove<'a>(&'a self, r: Reads<'a>, products: &'a Products) -> Pending<'a, Result<Option<String>>>;
    /// Undoes what it holds; nothing if it holds nothing.
    fn release<'a>(&'a mut self, w: Writes<'a>) -> Pending<'a, Result<Option<String>>>;
    /// Lets no new work begin.
    fn settle<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<Option<String>>>;
    /// Takes away what it announced.
    fn undo<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<String>>;
}

struct Observed<S: Step> {
    step: &'static S,
    seen: S::Seen,
}

struct Plan<S: Step> {
    step: &'static S,
    seen: S::Seen,
    decided: Decided<S::Act>,
    undo: Vec<Line<S::Undo>>,
    held: Vec<S::Undo>,
}

impl<S: Step> AnyStep for S {
    fn info(&self) -> &'static Info {
        &S::INFO
    }

    fn look<'a>(&'static self, r: Reads<'a>, why: Purpose) -> Pending<'a, Result<Box<dyn Looked>>> {
        Box::pin(async move {
            let seen = self.observe(r, why).await?;
            Ok(Box::new(Observed { step: self, seen }) as Box<dyn Looked>)
        })
    }

    fn print<'a>(&'static self, r: Reads<'a>) -> Pending<'a, Result<Option<Printed>>> {
        Box::pin(Step::print(self, r))
    }
}

impl<S: Step> Looked for Observed<S> {
    fn decide(self: Box<Self>, d: &Deciding<'_>) -> Box<dyn Planned> {
        let Self { step, seen } = *self;
        let decided = step.decide(d, &seen);
        Box::new(Plan { step, seen, decided, undo: Vec::new(), held: Vec::new() })
    }

    fn decide_undo(self: Box<Self>, d: &Deciding<'_>) -> Box<dyn Planned> {
        let Self { step, seen } = *self;
        let undo = step.decide_undo(d, &seen);
        Box::new(Plan { step, seen, decided: Decided::lines(Vec::new()), undo, held: Vec::new() })
    }
}

impl<S: Step> Plan<S> {
    /// Observes and decides again, and compares the result with the announced acts.
    async fn again(&self, w: Writes<'_>, forecast: &Forecast) -> Result<Vec<Line<S::Act>>> {
        let seen = self.step.observe(w.reads, Purpose::Again).await?;
        let lines = self.step.decide(&Deciding { run: w.run, notes: w.notes, forecast }, &seen).lines;
        let announced: Vec<S::Act> = self.decided.lines.iter().filter_map(|line| line.act.clone()).collect();
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
        self.decided
            .lines
            .iter()
            .filter_map(|line| line.act.as_ref())
            .try_for_each(|act| self.step.ready(run, act))
    }

    fn apply<'a>(&'a mut self, w: Writes<'a>, forecast: &'a Forecast) -> Pending<'a, Result<String>> {
        Box::pin(async move {
            let mut did = Vec::new();
            if self.decided.lines.iter().any(|line| line.decision == Decision::Unknown) {
                let again = self.again(w, forecast).await?;
                self.decided.lines.retain(|line| line.decision != Decision::Unknown);
                self.decided.lines.extend(again);
            }
            for line in &self.decided.lines {
                let Some(act) = line.act.clone() else { continue };
                let outcome = self.step.apply(w, act).await?;
                self.held.extend(outcome.held);
                did.extend(Some(outcome.text).filter(|text| !text.is_empty()));
            }
            let proof = self.step.prove(w.reads, w.products).await?;
            let d = Deciding { run: w.run, notes: w.notes, forecast };
            let changed = self.decided.lines.iter().any(|line| line.decision.is_change());
            Ok(match proof {
                None => self.step.done(&d, &self.seen, &self.decided.lines, &did),
                Some(proof) if changed && did.is_empty() => proof,
                Some(proof) if changed => format!("{}; {proof}", did.join("; ")),
                Some(proof) => format!("kept, {proof}"),
            })
        })
    }

    fn prove<'a>(&'a self, r: Reads<'a>, products: &'a Products) -> Pending<'a, Result<Option<String>>> {
        Box::pin(self.step.prove(r, products))
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
        Box::pin(async move {
            let acts: Vec<S::Undo> = self.undo.iter().filter_map(|line| line.act.clone()).collect();
            self.step.settle(w, &acts).await
        })
    }

    fn undo<'a>(&'a self, w: Writes<'a>) -> Pending<'a, Result<String>> {
        Box::pin(async move {
            let acts = self.undo.iter().filter_map(|line| line.act.clone()).collect();
            self.step.undo(w, acts).await
        })
    }
}

/// A step whose observation failed.
pub struct Refused {
    info: &'static Info,
    failure: Failure,
}

impl Refused {
    /// A step with this failure.
    pub fn new(info: &'static Info, failure: Failure) -> Self {
        Self { info, failure }
    }
}

impl Planned for Refused {
    fn info(&self) -> &'static Info {
        self.info
    }
    fn lines(&self) -> Vec<Line> {
        vec![Line::refuse(self.failure.clone())]
    }
    fn findings(&self) -> &[Finding] {
        &[]
    }
    fn promise(&self, _: &mut Forecast) {}
    fn ready(&self, _: &Run) -> Result<()> {
        Err(self.failure.clone())
    }
    fn apply<'a>(&'a mut self, _: Writes<'a>, _: &'a Forecast) -> Pending<'a, Result<String>> {
        Box::pin(async { Err(self.failure.clone()) })
    }
    fn prove<'a>(&'a self, _: Reads<'a>, _: &'a Products) -> Pending<'a, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }
    fn release<'a>(&'a mut self, _: Writes<'a>) -> Pending<'a, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }
    fn settle<'a>(&'a self, _: Writes<'a>) -> Pending<'a, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }
    fn undo<'a>(&'a self, _: Writes<'a>) -> Pending<'a, Result<String>> {
        Box::pin(async { Ok(String::new()) })
    }
}
