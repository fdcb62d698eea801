//! The scenarios on a real control plane.
//!
//! This `main` owns the servers: libtest would never end them. Without the binaries every scenario is
//! listed as ignored with the reason, or fails if `OUTRIGGER_REQUIRE_TIERS=1`.

mod control_plane;
mod processes;
mod selftest;

#[path = "../common/mod.rs"]
mod common;
#[path = "../scenarios/mod.rs"]
mod scenarios;

use std::process::ExitCode;

use libtest_mimic::Trial;

use common::{Scenario, absent, arguments, needing, trials};
use control_plane::ControlPlane;
use scenarios::{DISK, SCENARIOS, disk};

const TIER: &str = "control plane";

fn main() -> ExitCode {
    let arguments = arguments();
    let names: Vec<(&str, Scenario)> = selftest::NAMES
        .iter()
        .map(|&name| (name, (|_| ()) as Scenario))
        .chain(SCENARIOS.iter().copied())
        .chain(DISK.iter().copied())
        .collect();
    let binaries = match control_plane::binaries() {
        Ok(folder) => folder,
        Err(reason) => return libtest_mimic::run(&arguments, absent(TIER, &reason, &names)).exit_code(),
    };
    let placeholders = absent(TIER, "", &names);
    let wanted = placeholders.iter().any(|trial| !arguments.is_filtered_out(trial));
    if arguments.list || !wanted {
        // Nothing will run: no reason to start servers.
        return libtest_mimic::run(&arguments, placeholders).exit_code();
    }

    let plane: &'static ControlPlane = match ControlPlane::start(&binaries) {
        Ok(plane) => Box::leak(Box::new(plane)),
        Err(reason) => {
            let failed = names.iter().map(|&(name, _)| {
                let reason = reason.clone();
                Trial::test(name, move || Err(reason.into())).with_kind(TIER)
            });
            return libtest_mimic::run(&arguments, failed.collect()).exit_code();
        }
    };
    // Trials that panic are caught one by one; this is for everything else.
    let _stop = Stop(plane);
    let mut all = selftest::trials(plane);
    all.extend(trials(plane, SCENARIOS));
    all.extend(needing(disk::available(), plane, DISK));
    libtest_mimic::run(&arguments, all).exit_code()
}

/// Ends the servers when `main` is left, however that happens.
struct Stop(&'static ControlPlane);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
