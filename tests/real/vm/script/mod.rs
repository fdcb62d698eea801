//! The launch script on machines that boot: what it makes of them, and what stops it.

mod fresh;
mod place;

use super::VmTrial;

/// The trials of this folder; they need the stand-in for gitlab-runner.
pub const TRIALS: &[(&str, VmTrial)] = &[("script_makes_a_runner_of_bookworm", fresh::bookworm)];
