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

use common::pool::{self, Pool};
use common::{Scenario, absent, arguments, needing};
use control_plane::ControlPlane;
use scenarios::{DISK, SCENARIOS, disk};

const TIER: &str = "control plane";

/// How many control planes scenarios run on side by side. Each takes about 1 GB with the second cluster
/// that some scenarios ask for; most of their time they wait (ten seconds for a token to be refused).
const PLANES: usize = 3;

fn main() -> ExitCode {
    let arguments = arguments(PLANES);
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
    let wanted = placeholders.iter().filter(|trial| !arguments.is_filtered_out(trial)).count();
    if arguments.list || wanted == 0 {
        // Nothing will run: no reason to start servers.
        return libtest_mimic::run(&arguments, placeholders).exit_code();
    }

    let pool = Pool::new();
    let mut planes = Planes(Vec::new());
    for _ in 0..PLANES.min(wanted) {
        match ControlPlane::start(&binaries) {
            Ok(plane) => {
                let plane: &'static ControlPlane = Box::leak(Box::new(plane));
                planes.0.push(plane);
                pool.add(plane);
            }
            Err(reason) => {
                let failed = names.iter().map(|&(name, _)| {
                    let reason = reason.clone();
                    Trial::test(name, move || Err(reason.into())).with_kind(TIER)
                });
                return libtest_mimic::run(&arguments, failed.collect()).exit_code();
            }
        }
    }
    let mut all = selftest::trials(pool);
    all.extend(pool::trials(pool, TIER, SCENARIOS));
    all.extend(needing(disk::available(), pool, TIER, DISK));
    libtest_mimic::run(&arguments, all).exit_code()
}

/// Ends the servers when `main` is left, however that happens: trials that panic are caught one by one.
struct Planes(Vec<&'static ControlPlane>);

impl Drop for Planes {
    fn drop(&mut self) {
        for plane in &self.0 {
            plane.stop();
        }
    }
}
