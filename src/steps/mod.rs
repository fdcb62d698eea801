//! The list of steps.
//!
//! A new step is one file that implements the [`contract`] and one line in [`STEPS`]. Steps do not use each other, and
//! do not print.

mod bind_admin;
mod commit_pipeline;
pub mod contract;
mod create_namespaces;
mod create_role;
mod create_runner;
mod create_vm;
mod dry_runs;
mod extract_ca;
mod issue_token;
mod launch_script;
mod preflight;
pub mod prune;
mod retire_token;
mod run_pipeline;
mod run_script;

#[cfg(test)]
#[path = "fixture_tests.rs"]
pub mod fixture;

use crate::cluster::deletion;
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::Part;
use contract::{AnyStep, Deciding};

/// In the article's order.
pub static STEPS: &[&dyn AnyStep] = &[
    &preflight::Preflight,
    &create_namespaces::CreateNamespaces,
    &bind_admin::BindAdmin,
    &create_role::CreateRole,
    &extract_ca::ExtractCa,
    &issue_token::IssueToken,
    &create_runner::CreateRunner,
    &launch_script::LaunchScript,
    &create_vm::CreateVm,
    &run_script::RunScript,
    &retire_token::RetireToken,
    &commit_pipeline::CommitPipeline,
    &run_pipeline::RunPipeline,
];

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

/// Whether the launch script has to run on the VM, whose inside is not looked at for this.
fn is_delivery_due(d: &Deciding<'_>) -> bool {
    let record = d.notes.record();
    let written = d.forecast.script.as_ref().is_some_and(|script| script.is_written);
    let is_asked = d.run.includes(Part::Host);
    let is_named = record.vm.is_none() && d.run.settings.vm_arn.is_some();
    let is_new = !is_named && record.vm.as_ref().is_none_or(|vm| vm.arn.is_empty());
    is_asked
        && (written
            || is_new
            || d.forecast.vm_is_new
            || record.script_due
            || record.delivery.is_some()
            || d.run.is_for_running_machine()
            || d.notes.slots().next.is_some())
}

/// Deletes the object with this uid.
#[derive(Clone)]
pub struct Delete(Ref, String);

/// The line that deletes an object of the deployment; a refusal for another owner's.
fn removal(d: &Deciding<'_>, live: &Object) -> Line<Delete> {
    if let Owner::Foreign(why) = d.notes.owner(live) {
        return Line::refuse(ownership::foreign(live, &why));
    }
    let reference = live.reference.clone();
    let act = Delete(reference.clone(), live.uid().to_owned());
    Line::new(Decision::Remove, deletion::shown(live), act).about(Target::Object(reference))
}
