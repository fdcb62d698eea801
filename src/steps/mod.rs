//! THE list of steps, and the contract they keep.
//!
//! A step looks (`observe`: reads only), decides (pure, in each step's own `decide`), and then applies
//! or undoes exactly what it decided. [`Step::plan`] is the first two together. Steps never import
//! each other and never print; what one finds out and another needs is in [`Context`].
//!
//! Adding a step is one file and one line in [`STEPS`]: subcommands, help, plan, `--only`, teardown's
//! order and the README's table follow from it.

use std::future::Future;
use std::pin::Pin;

use crate::base::error::Result;
use crate::deployment::plan::Line;
use crate::deployment::record::Record;
use crate::settings::{Need, Settings};
use crate::steps::context::Context;

mod bind_admin;
mod commit_pipeline;
pub mod context;
mod create_namespaces;
mod create_role;
mod create_runner;
mod extract_ca;
pub mod inputs;
mod issue_token;
mod launch_script;
pub mod looks;
mod preflight;
mod run_pipeline;

/// A future that stays on its thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// What a step has to say when it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Whether anything was changed.
    pub changed: bool,
    /// The step's one line.
    pub text: String,
}

/// One row of the article, as outrigger does it.
pub trait Step: Sync {
    /// Subcommand and JSON name.
    fn name(&self) -> &'static str;
    /// One line for `--help`.
    fn about(&self) -> &'static str;
    /// More for its own `--help`.
    fn long(&self) -> &'static str;
    /// Settings (by key) that matter to it, beyond the connection's.
    fn keys(&self) -> &'static [&'static str];
    /// Flags of a single run that matter to it.
    fn flags(&self) -> &'static [&'static str] {
        &[]
    }
    /// What it needs of GitLab's side.
    fn gitlab(&self) -> Need {
        Need::Nothing
    }
    /// Whether `setup` and `status` include it without its being named.
    fn is_wanted(&self, _settings: &Settings, _record: Option<&Record>) -> bool {
        true
    }
    /// Whether taking back what it did takes the cluster.
    fn undo_needs_cluster(&self) -> bool {
        true
    }
    /// The step after which what this one did is taken back, also on failure.
    fn released_after(&self) -> Option<&'static str> {
        None
    }
    /// Steps that its subcommand pulls in before itself.
    fn pulls_in(&self) -> &'static [&'static str] {
        &[]
    }
    /// Looks and decides. Writes nothing.
    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>>;
    /// Carries out its lines of the plan, and proves the result.
    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done>;
    /// Proves what is there without changing it (for `status`).
    fn prove<'a>(&'a self, _cx: &'a Context) -> Pending<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
    /// Takes back what must not outlive the run.
    fn release<'a>(&'a self, _cx: &'a Context) -> Pending<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
    /// What teardown would remove.
    fn undo_plan<'a>(&'a self, _cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    /// Before anything is taken away: lets no new work begin and waits for what runs. Returns what is
    /// worth saying.
    fn settle<'a>(&'a self, _cx: &'a Context, _lines: &'a [Line]) -> Pending<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
    /// Removes it and reads it back.
    fn undo<'a>(&'a self, _cx: &'a Context, _lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async { Ok(Done::default()) })
    }
    /// Writes what it makes to stdout instead (`--print`, or the data a step is asked for).
    fn print<'a>(&'a self, _cx: &'a Context) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async { Ok(None) })
    }
    /// Whether printing takes a connection to the cluster.
    fn print_needs_cluster(&self) -> bool {
        true
    }
    /// Whether its subcommand prints data even without `--print`.
    fn prints_always(&self) -> bool {
        false
    }
}

/// The list, in the article's order.
pub static STEPS: &[&dyn Step] = &[
    &preflight::Preflight,
    &create_namespaces::CreateNamespaces,
    &bind_admin::BindAdmin,
    &create_role::CreateRole,
    &extract_ca::ExtractCa,
    &issue_token::IssueToken,
    &create_runner::CreateRunner,
    &launch_script::LaunchScript,
    &commit_pipeline::CommitPipeline,
    &run_pipeline::RunPipeline,
];

/// The step of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Step> {
    STEPS.iter().copied().find(|step| step.name() == name)
}

pub(crate) use crate::base::text::count;
