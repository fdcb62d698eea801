//! The tests of the node that other tests run their jobs on.
//!
//! This `main` owns the servers: libtest would never end them. What is missing for a node makes every trial
//! ignored with the reason, or failed if `OUTRIGGER_REQUIRE_TIERS=1`.
//!
//! To try something by hand: `OUTRIGGER_TEST_SERVE=1 cargo test --test node` starts a node, prints the path
//! of a kubeconfig for it, and ends the node when its stdin is closed.

#[path = "../control_plane.rs"]
mod control_plane;
#[path = "mod.rs"]
mod node;
#[path = "../processes.rs"]
mod processes;
#[path = "../runners.rs"]
mod runners;
mod selftest;
mod traces;

#[path = "../../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Trial;

use common::bed::{Bed as _, User};
use common::pool::Pool;
use common::{Scenario, absent, arguments};
use node::NodeBed;

const TIER: &str = "node";

/// The variable that asks for a node instead of its tests.
const SERVE: &str = "OUTRIGGER_TEST_SERVE";

fn main() -> ExitCode {
    let available = node::available();
    if std::env::var_os(SERVE).is_some() {
        return serve(available.and_then(|binaries| NodeBed::start(&binaries)));
    }
    let arguments = arguments(1);
    let names: Vec<_> = selftest::NAMES.iter().map(|&name| (name, (|_| ()) as Scenario)).collect();
    let placeholders = absent(TIER, "", &names);
    let wanted = placeholders.iter().any(|trial| !arguments.is_filtered_out(trial));
    let binaries = match available {
        Ok(binaries) if wanted && !arguments.list => binaries,
        Ok(_) => return libtest_mimic::run(&arguments, placeholders).exit_code(),
        Err(reason) => return libtest_mimic::run(&arguments, absent(TIER, &reason, &names)).exit_code(),
    };
    traces::remember();
    let bed = match start(&binaries) {
        Ok(bed) => bed,
        Err(reason) => {
            let failed = names.iter().map(|&(name, _)| {
                let reason = reason.clone();
                Trial::test(name, move || Err(reason.into())).with_kind(TIER)
            });
            return libtest_mimic::run(&arguments, failed.collect()).exit_code();
        }
    };
    let pool = Pool::new();
    pool.add(bed.0);
    libtest_mimic::run(&arguments, selftest::trials(pool)).exit_code()
}

fn start(binaries: &Path) -> Result<Owned, String> {
    Ok(Owned(Box::leak(Box::new(NodeBed::start(binaries)?))))
}

/// Ends the servers when `main` is left, however that happens: trials that panic are caught one by one.
struct Owned(&'static NodeBed);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Prints where a kubeconfig is and keeps the node until nobody writes to us any more.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "whoever asked for it reads it there")]
fn serve(started: Result<NodeBed, String>) -> ExitCode {
    match started {
        Ok(bed) => {
            println!("{}", bed.plane.folder().write("kubeconfig", &bed.plane.kubeconfig(User::Admin)));
            match std::io::copy(&mut std::io::stdin(), &mut std::io::sink()) {
                Ok(_) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
