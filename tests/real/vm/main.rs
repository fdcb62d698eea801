//! Machines that boot: what is tested here runs on Debian under systemd, started by real cloud-init.
//!
//! This `main` owns what the trials share. Without the roots every trial is listed as ignored with the
//! reason, or fails if `OUTRIGGER_REQUIRE_TIERS=1`.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../processes.rs"]
mod processes;
#[path = "../runners.rs"]
mod runners;
mod script;
mod selftest;
#[path = "mod.rs"]
mod vm;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use common::{Scenario, absent, arguments};
use vm::beds::{self, Beds};
use vm::roots::Roots;

const TIER: &str = "vm";

/// How many trials run side by side. A boot keeps a processor busy for seconds.
const SIDE_BY_SIDE: usize = 2;

/// A trial: it makes its own machines.
type VmTrial = fn(&Beds);

/// A list of trials, and whether they can run here or why not. Each file of trials has its own.
type List = (Result<(), String>, &'static [(&'static str, VmTrial)]);

fn lists() -> Vec<List> {
    let roots = Roots::find().map(drop);
    let runner = roots.clone().and_then(|()| beds::runner());
    vec![
        (roots, selftest::TRIALS),
        (runner.clone(), selftest::packages::TRIALS),
        (runner.clone(), selftest::runners::TRIALS),
        (runner.clone(), script::TRIALS),
        (runner, script::failures::TRIALS),
    ]
}

fn main() -> ExitCode {
    let arguments = arguments(SIDE_BY_SIDE);
    if let Some(ending) = selftest::killed::other_side() {
        return ending;
    }
    let mut trials = Vec::new();
    let mut ready = Vec::new();
    for (available, list) in lists() {
        let names: Vec<_> = list.iter().map(|&(name, _)| (name, (|_| ()) as Scenario)).collect();
        let placeholders = absent(TIER, available.as_ref().err().map_or("", String::as_str), &names);
        let wanted = placeholders.iter().any(|trial| !arguments.is_filtered_out(trial));
        match available {
            Ok(()) if wanted && !arguments.list => ready.extend(list),
            _ => trials.extend(placeholders),
        }
    }
    if !ready.is_empty() {
        runners::announce();
    }
    // What the trials share is made only if one of them runs.
    let beds = (!ready.is_empty()).then(|| Roots::find().and_then(Beds::new).map(Arc::new));
    for &(name, run) in ready {
        let beds = beds.clone().expect("made for whoever is ready");
        let trial = move || {
            run(&*beds.map_err(Failed::from)?);
            Ok(())
        };
        trials.push(Trial::test(name, trial).with_kind(TIER));
    }
    // Each trial holds what they share until it has run; with the last of them, or here, it is removed.
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(beds);
    conclusion.exit_code()
}
