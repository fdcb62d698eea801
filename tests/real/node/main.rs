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
mod selftest;

#[path = "../../common/mod.rs"]
mod common;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(selftest::SERVE).is_some() {
        return serve();
    }
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout, reason = "whoever asked for it reads it there")]
fn serve() -> ExitCode {
    use common::bed::{Bed as _, User};
    let bed = match node::available().and_then(|binaries| node::NodeBed::start(&binaries)) {
        Ok(bed) => bed,
        Err(reason) => {
            println!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", bed.plane.folder().write("kubeconfig", &bed.plane.kubeconfig(User::Admin)));
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    ExitCode::SUCCESS
}
