//! The list of steps.
//!
//! A new step is one file that implements the [`contract`] and one line in [`STEPS`]. Steps never use each other and
//! never print.

mod bind_admin;
mod commit_pipeline;
pub mod contract;
mod create_namespaces;
mod create_role;
mod create_runner;
mod extract_ca;
mod issue_token;
mod launch_script;
mod looks;
mod preflight;
pub mod prune;
mod run_pipeline;

#[cfg(test)]
#[path = "fixture_tests.rs"]
mod fixture;

use contract::AnyStep;

/// The list, in the article's order.
pub static STEPS: &[&dyn AnyStep] = &[
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
pub fn find(name: &str) -> Option<&'static dyn AnyStep> {
    STEPS.iter().copied().find(|step| step.info().name == name)
}

/// A step and the steps that its subcommand includes, in order.
pub fn with_pulled_in(step: &'static dyn AnyStep) -> Vec<&'static dyn AnyStep> {
    let info = step.info();
    let belongs = |other: &&'static dyn AnyStep| {
        let part = other.info().part;
        other.info().name == info.name || part.is_some_and(|part| info.pulls_in.contains(&part))
    };
    STEPS.iter().copied().filter(belongs).collect()
}
