//! The launch script on machines that boot: what it makes of them, and what stops it.

mod again;
mod fresh;
mod host;
mod look;
mod place;

use super::VmTrial;

/// The trials of this folder; they need the stand-in for gitlab-runner.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("script_makes_a_runner_of_bookworm", fresh::bookworm),
    ("script_again_on_a_new_instance", again::new_instance),
    ("script_again_after_a_rotation", again::rotated),
    ("script_again_with_other_tokens", again::other_tokens),
    ("script_again_on_an_edited_entry", again::edited),
    ("script_again_in_both_forms", again::both_forms),
    ("script_comes_to_a_runner_on_bookworm", host::bookworm),
    ("script_comes_to_a_runner_on_trixie", host::trixie),
    ("script_comes_to_a_runner_with_its_config_elsewhere", host::elsewhere),
    ("script_leaves_a_runner_that_is_too_old", host::too_old),
];
