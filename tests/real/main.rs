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

/// How many control planes scenarios run on side by side, if there is memory for them. Most of their time
/// scenarios wait: five seconds for a namespace to go, ten for a token to be refused.
const PLANES: usize = 6;
/// What each takes with the second cluster that some scenarios ask for, in KiB.
const MEMORY: usize = 1 << 20;

/// How many there is memory for, and at least two.
fn planes() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let free: usize = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    (free / MEMORY).clamp(2, PLANES)
}

fn main() -> ExitCode {
    let count = planes();
    let arguments = arguments(count);
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
    let started: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> =
            (0..count.min(wanted)).map(|_| scope.spawn(|| ControlPlane::start(&binaries))).collect();
        starting.into_iter().map(|one| one.join().expect("starting does not panic")).collect()
    });
    let mut failure = None;
    for plane in started {
        match plane {
            Ok(plane) => {
                let plane: &'static ControlPlane = Box::leak(Box::new(plane));
                planes.0.push(plane);
                pool.add(plane);
            }
            Err(reason) => failure = Some(reason),
        }
    }
    if let Some(reason) = failure {
        let failed = names.iter().map(|&(name, _)| {
            let reason = reason.clone();
            Trial::test(name, move || Err(reason.into())).with_kind(TIER)
        });
        return libtest_mimic::run(&arguments, failed.collect()).exit_code();
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
