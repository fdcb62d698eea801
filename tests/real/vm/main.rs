//! Machines that boot: what is tested here runs on Debian under systemd, started by real cloud-init.
//!
//! This `main` owns what the trials share. Without the roots every trial is listed as ignored with the
//! reason, or fails if `OUTRIGGER_REQUIRE_TIERS=1`.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../processes.rs"]
#[allow(dead_code, reason = "for telling processes apart; there are no servers here")]
mod processes;
mod selftest;
#[path = "mod.rs"]
mod vm;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Trial;

use common::{Scenario, absent, arguments};
use vm::beds::Beds;
use vm::roots::Roots;

const TIER: &str = "vm";

/// How many trials run side by side. A boot keeps a processor busy for seconds.
const TRIALS: usize = 2;

/// A trial: it makes its own machines.
type VmTrial = fn(&Beds);

/// All of them; each file of trials has its list.
fn all() -> Vec<(&'static str, VmTrial)> {
    [selftest::TRIALS].concat()
}

fn main() -> ExitCode {
    let arguments = arguments(TRIALS);
    let placeholders = |reason: &str| {
        let names: Vec<_> = all().into_iter().map(|(name, _)| (name, (|_| ()) as Scenario)).collect();
        absent(TIER, reason, &names)
    };
    let roots = match Roots::find() {
        Ok(roots) => roots,
        Err(reason) => return libtest_mimic::run(&arguments, placeholders(&reason)).exit_code(),
    };
    if arguments.list || placeholders("").iter().all(|trial| arguments.is_filtered_out(trial)) {
        return libtest_mimic::run(&arguments, placeholders("")).exit_code();
    }
    let beds = Beds::new(roots).map(Arc::new);
    let trials = all().into_iter().map(|(name, run)| {
        let beds = beds.clone();
        let trial = move || {
            run(&*beds?);
            Ok(())
        };
        Trial::test(name, trial).with_kind(TIER)
    });
    // The trials go first: what they share is removed when the last of them is gone.
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(beds);
    conclusion.exit_code()
}
