//! The contract that every step keeps, and how the engine sees a step.
//!
//! A step looks ([`Step::observe`], with [`Reads`], which cannot write), decides ([`Step::decide`], which reaches no
//! server: it is a plain function of what was seen) and then carries out exactly what it announced
//! ([`Step::apply`], with [`Writes`], one act of its own type at a time). What one step promises to later ones while
//! they decide is a [`Forecast`]; what an applied step hands on is in [`Products`]. There is no other channel.
//!
//! A step is a file like this; with one line in [`STEPS`](crate::steps::STEPS) it is a subcommand:
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
//! To write while looking does not compile:
//!
//! ```compile_fail,E0599
//! # use outrigger::{deployment::object::Object, steps::contract::Reads};
//! async fn observe(r: Reads<'_>, object: &Object) {
//!     let _ = r.cluster.create(object).await;
//! }
//! ```
//!
//! nor to ask a server while deciding:
//!
//! ```compile_fail,E0609
//! # use outrigger::steps::contract::Deciding;
//! fn decide(d: &Deciding<'_>) {
//!     let _ = d.cluster.version();
//! }
//! ```
//!
//! nor to leave an act that was announced:
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

/// All that a step can look at. Nothing that is asked through it persists.
#[derive(Clone, Copy)]
pub struct Reads<'a> {
    /// What was asked for.
    pub run: &'a Run,
    /// What is remembered.
    pub notes: &'a Notes,
    /// The cluster, as the operator.
    pub cluster: &'a cluster::view::View,
    /// GitLab, as the operator.
    pub gitlab: &'a gitlab::view::View,
    /// What reads the files that the user names.
    pub intake: &'a Intake,
    /// Where events go.
    pub progress: &'a dyn Reporter,
}

/// All that a step can change, and all that it can look at.
#[derive(Clone, Copy)]
pub struct Writes<'a> {
    /// What can be looked at.
    pub reads: Reads<'a>,
    /// The cluster, as the operator.
    pub cluster: &'a cluster::view::Hand,
    /// GitLab, as the operator.
    pub gitlab: &'a gitlab::view::Hand,
    /// What is remembered from now on.
    pub journal: &'a Journal,
    /// What earlier steps hand on, and where this one does.
    pub products: &'a Products,
}

impl<'a> Deref for Writes<'a> {
    type Target = Reads<'a>;

    fn deref(&self) -> &Reads<'a> {
        &self.reads
    }
}

/// All that a decision can depend on beside what was seen.
#[derive(Clone, Copy)]
pub struct Deciding<'a> {
    /// What was asked for.
    pub run: &'a Run,
    /// What is remembered.
    pub notes: &'a Notes,
    /// What the steps before have promised.
    pub forecast: &'a Forecast,
}

/// Why a step looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To set up, or to tell whether it still is as setup would make it.
    Setup,
    /// To decide once more, right before it is applied, about what was [`Decision::Unknown`].
    Again,
    /// To take away.
    Teardown,
}

/// What the decisions so far promise to those that follow.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Objects that no policy, quota or webhook could be asked about yet, each with the reason.
    pub unlooked: Vec<(Ref, String)>,
    /// The runner's line announces that the pipeline file's tags change with the runner's.
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

/// What applied steps hand on; each is set once.
#[derive(Default)]
pub struct Products {
    /// The runner's cluster token.
    pub cluster_token: OnceCell<Secret>,
    /// The runner authentication token that GitLab has shown.
    pub runner_token: OnceCell<RunnerToken>,
    /// The commit that this run made.
    pub commit: OnceCell<String>,
    /// The launch script that this run wrote.
    pub script: OnceCell<Written>,
}

/// A launch script that was written.
pub struct Written {
    /// Whether it holds the secrets, or the file beside it does.
    pub with_secrets: bool,
    /// The script, where it was asked for on stdout.
    pub to_stdout: Option<Secret>,
}

/// One thing that was checked, for the list that `preflight` prints.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was checked.
    pub name: String,
    /// How it went.
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
    #[must_use]
    pub fn lines(lines: Vec<Line<A>>) -> Self {
        Self { lines, findings: Vec::new(), forecast: Forecast::default() }
    }
}

impl<A> From<Line<A>> for Decided<A> {
    fn from(line: Line<A>) -> Self {
        Self::lines(vec![line])
    }
}

/// What came of one act.
pub struct Outcome<U> {
    /// In a few words; empty if there is nothing to say.
    pub text: String,
    /// What has to be undone when the [`Milestone`] is reached that [`Info::holds_until`] names, and in any case at
    /// the end of the run.
    pub held: Vec<U>,
}

impl<U> From<String> for Outcome<U> {
    fn from(text: String) -> Self {
        Self { text, held: Vec::new() }
    }
}

/// Something that is reached once, and that a temporary right is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The Role and its binding are there.
    RoleGranted,
}

/// Whether a step's product can go to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    /// No.
    Never,
    /// With `--print`.
    OnRequest {
        /// Whether that takes a connection to the cluster.
        with_cluster: bool,
    },
    /// Its subcommand does nothing else.
    Always,
}

/// What is printed, byte for byte.
pub struct Printed {
    /// The product.
    pub bytes: Vec<u8>,
    /// Objects that somebody else will make from it: they count as ours by their id, once that is on disk.
    pub intents: Vec<Ref>,
}

/// What a step is, as data: subcommand, help, `--only`, teardown's order and the README's table follow from it.
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
    /// Whether its subcommand needs that also where a record exists.
    pub gitlab_again: bool,
    /// What it does, for steps that have to know whether another one is selected.
    pub part: Option<Part>,
    /// What its subcommand pulls in before itself.
    pub pulls_in: &'static [Part],
    /// Whether `setup` and `status` include it without its being named.
    pub is_wanted: fn(&Settings, Option<&Record>) -> bool,
    /// It looks at what every other step would do, and changes nothing.
    pub surveys: bool,
    /// Whether taking back what it did takes the cluster.
    pub undo_needs_cluster: bool,
    /// It is undone when everything else is: the rest lives in what it made.
    pub undone_last: bool,
    /// What it holds is undone when this is reached.
    pub holds_until: Option<Milestone>,
    /// What is reached when it is done.
    pub reaches: Option<Milestone>,
    /// Whether its product can go to stdout.
    pub prints: Prints,
}

impl Info {
    /// What most steps are.
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

/// The effect of a step that has none.
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

    /// Looks. Nothing persists of what it asks.
    ///
    /// # Errors
    /// What keeps the step from being decided: it becomes its only line.
    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Self::Seen>;

    /// Decides about what was seen for [`Purpose::Setup`].
    fn decide(&self, d: &Deciding<'_>, seen: &Self::Seen) -> Decided<Self::Act>;

    /// Decides what to take away of what was seen for [`Purpose::Teardown`].
    fn decide_undo(&self, _d: &Deciding<'_>, _seen: &Self::Seen) -> Vec<Line<Self::Undo>> {
        Vec::new()
    }

    /// Whether an act of a second look was announced by the first.
    fn within(&self, _act: &Self::Act, _announced: &[Self::Act]) -> bool {
        false
    }

    /// What can be tried before anything is changed, without a server.
    ///
    /// # Errors
    /// What would fail later.
    fn ready(&self, _run: &Run, _act: &Self::Act) -> Result<()> {
        Ok(())
    }

    /// Carries out one act.
    ///
    /// # Errors
    /// The run stops there; what is held is undone.
    async fn apply(&self, w: Writes<'_>, act: Self::Act) -> Result<Outcome<Self::Undo>>;

    /// Tries what is there as it will be used: after apply, also what was kept, and in `status`. Returns what is
    /// worth saying.
    ///
    /// # Errors
    /// The proof that failed (exit 9).
    async fn prove(&self, _r: Reads<'_>, _products: &Products) -> Result<Option<String>> {
        Ok(None)
    }

    /// The step's one line when it is done: `did` holds what came of each act.
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

    /// Before anything is taken away: lets no new work begin and waits for what runs. Returns what is worth saying.
    ///
    /// # Errors
    /// What still runs when the time is over.
    async fn settle(&self, _w: Writes<'_>, _acts: &[Self::Undo]) -> Result<Option<String>> {
        Ok(None)
    }

    /// Takes these away, going on past failures, and reads back that they are gone. Returns what came of it.
    ///
    /// # Errors
    /// All that failed, together.
    async fn undo(&self, w: Writes<'_>, acts: Vec<Self::Undo>) -> Result<String>;

    /// What it makes, for stdout.
    ///
    /// # Errors
    /// What keeps it from being made.
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

/// A step that has looked.
pub trait Looked {
    /// Lets it decide about setting up.
    fn decide(self: Box<Self>, d: &Deciding<'_>) -> Box<dyn Planned>;
    /// Lets it decide about taking away.
    fn decide_undo(self: Box<Self>, d: &Deciding<'_>) -> Box<dyn Planned>;
}

/// A step that has decided.
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
    /// Looks and decides once more about what was unknown, and holds the result against what was announced.
    async fn again(&self, w: Writes<'_>, forecast: &Forecast) -> Result<Vec<Line<S::Act>>> {
        let seen = self.step.observe(w.reads, Purpose::Again).await?;
        let lines = self.step.decide(&Deciding { run: w.run, notes: w.notes, forecast }, &seen).lines;
        let announced: Vec<S::Act> = self.decided.lines.iter().filter_map(|line| line.act.clone()).collect();
        for line in &lines {
            if let Some(failure) = &line.failure {
                return Err(failure.clone());
            }
            if line.act.as_ref().is_some_and(|act| !self.step.within(act, &announced)) {
                let why = format!("{} is needed, which was not announced", line.text);
                return Err(Failure::new(Id::NotAnnounced, why)
                    .hint("run the same command again: it shows the plan as it is now"));
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

/// A step that could not look: its one line says why.
pub struct Refused {
    info: &'static Info,
    failure: Failure,
}

impl Refused {
    /// The line of a failure.
    #[must_use]
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
        // Nothing was seen that could be tried; its line says why.
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
