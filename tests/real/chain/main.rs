//! The whole chain: outrigger against a real cluster, a booted machine that runs the launch script, and the
//! article's job in a pod. What is missing for it makes every trial ignored with the reason, or failed if
//! `OUTRIGGER_REQUIRE_TIERS=1`.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../control_plane.rs"]
mod control_plane;
#[path = "../node/mod.rs"]
mod node;
#[path = "../processes.rs"]
mod processes;
#[path = "../runners.rs"]
mod runners;
#[path = "../vm/mod.rs"]
mod vm;

mod article;
mod audit;
mod lightsail;
mod rotate;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::Trial;

use common::{Scenario, absent, arguments};
use node::NodeBed;
use vm::beds::{self, Beds};
use vm::roots::Roots;

const TIER: &str = "chain";

/// What a trial finds: a cluster with a node, and machines to boot.
pub struct Chain {
    /// The cluster.
    pub cluster: NodeBed,
    /// The machines.
    pub beds: Beds,
}

type ChainTrial = fn(&Chain);

const TRIALS: &[(&str, ChainTrial)] = &[
    ("chain_articles_job_runs_in_a_pod_for_bookworm", article::baseline_on_bookworm),
    ("chain_articles_job_runs_in_a_pod_for_trixie", article::baseline_on_trixie),
    ("chain_articles_job_runs_in_a_restricted_pod_for_bookworm", article::restricted_on_bookworm),
    ("chain_articles_job_runs_in_a_restricted_pod_for_trixie", article::restricted_on_trixie),
    ("chain_one_command_makes_the_vm_and_runs_the_job", lightsail::one_command_on_bookworm),
    ("chain_another_machine_in_place_of_the_vm", lightsail::another_machine_answers),
    ("chain_rotation_under_load", rotate::under_load),
];

fn available() -> Result<(PathBuf, Roots), String> {
    let binaries = node::available()?;
    let roots = Roots::find()?;
    beds::runner()?;
    Ok((binaries, roots))
}

fn main() -> ExitCode {
    let arguments = arguments(1);
    let names: Vec<_> = TRIALS.iter().map(|&(name, _)| (name, (|_| ()) as Scenario)).collect();
    let placeholders = absent(TIER, "", &names);
    let wanted = placeholders.iter().any(|trial| !arguments.is_filtered_out(trial));
    let (binaries, roots) = match available() {
        Ok(found) if wanted && !arguments.list => found,
        Ok(_) => return libtest_mimic::run(&arguments, placeholders).exit_code(),
        Err(reason) => return libtest_mimic::run(&arguments, absent(TIER, &reason, &names)).exit_code(),
    };
    runners::announce();
    let started = NodeBed::start(&binaries).and_then(|cluster| {
        let beds = Beds::new(roots)?;
        Ok(Chain { cluster, beds })
    });
    let chain = match started {
        Ok(chain) => std::sync::Arc::new(chain),
        Err(reason) => {
            let failed = names.iter().map(|&(name, _)| {
                let reason = reason.clone();
                Trial::test(name, move || Err(reason.into())).with_kind(TIER)
            });
            return libtest_mimic::run(&arguments, failed.collect()).exit_code();
        }
    };
    let trials = TRIALS.iter().map(|&(name, run)| {
        let chain = std::sync::Arc::clone(&chain);
        let trial = move || {
            run(&chain);
            Ok(())
        };
        Trial::test(name, trial).with_kind(TIER)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The last one: each trial held it until it had run.
    chain.cluster.stop();
    drop(chain);
    conclusion.exit_code()
}
