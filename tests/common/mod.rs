//! What every tier shares: the bed a scenario runs on, the world it is compared with, the runner of
//! the real binary.
//!
//! Each test target includes this as a module of its own and uses a part of it.

#![allow(dead_code, reason = "each test target uses another part")]

pub mod admin;
pub mod bed;
pub mod binary;
pub mod front;
pub mod lines;
pub mod pool;
pub mod printed;
pub mod run;
pub mod settled;
pub mod shell;
pub mod site;
pub mod snapshot;
pub mod ssh_host;
pub mod world;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[path = "../certificates/forge.rs"]
pub mod forge;

use bed::Bed;
use pool::Pool;

/// A scenario: one behaviour that must hold on every bed.
pub type Scenario = fn(&dyn Bed);

/// The variable that turns an absent tier from "ignored" into "failed". CI sets it.
pub const REQUIRE: &str = "OUTRIGGER_REQUIRE_TIERS";

/// Whether an absent tier is a failure.
#[must_use]
pub fn tiers_required() -> bool {
    std::env::var_os(REQUIRE).is_some_and(|value| value == "1")
}

/// The arguments of the test run, with so many scenarios side by side as there are beds.
#[must_use]
pub fn arguments(beds: usize) -> Arguments {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(beds);
    arguments
}

/// Scenarios that need more than their bed: what is missing turns them into [`absent`] ones.
pub fn needing<B: Bed>(
    available: Result<(), String>,
    pool: &'static Pool<B>,
    tier: &str,
    scenarios: &[(&str, Scenario)],
) -> Vec<Trial> {
    match available {
        Ok(()) => pool::trials(pool, tier, scenarios),
        Err(reason) => absent(tier, &reason, scenarios),
    }
}

/// The scenarios of a tier that is not here: ignored with the reason, or failed if tiers are required.
pub fn absent(tier: &str, reason: &str, scenarios: &[(&str, Scenario)]) -> Vec<Trial> {
    let required = tiers_required();
    scenarios
        .iter()
        .map(|&(name, _)| {
            let reason = reason.to_owned();
            Trial::ignorable_test(name, move || {
                if required { Err(Failed::from(reason)) } else { Ok(Completion::ignored_with(reason)) }
            })
            .with_kind(tier)
        })
        .collect()
}
