//! The launch script on machines that boot: what it makes of them, and what stops it.

mod again;
mod attacks;
pub mod failures;
mod fresh;
mod host;
mod keys;
mod look;
mod methods;
mod over_ssh;
mod place;
mod rotate;
mod secrets;
mod state;
mod uninstall;

use super::VmTrial;

/// The trials of this folder; they need gitlab-runner.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("script_makes_a_runner_of_bookworm", fresh::bookworm),
    ("script_holds_through_a_reboot_on_bookworm", state::reboot_on_bookworm),
    ("script_holds_through_a_reboot_on_trixie", state::reboot_on_trixie),
    ("script_mends_a_process_left_as_root", state::left_as_root),
    ("script_mends_what_is_not_as_it_was", state::mended),
    ("script_runs_once_at_a_time", state::two_at_once),
    ("script_comes_to_a_package_installed_by_hand", state::installed_by_hand),
    ("script_renews_a_key_that_ended", keys::extended_on_bookworm),
    ("script_renews_a_key_that_ended_on_trixie", keys::extended_on_trixie),
    ("script_takes_another_key", keys::changed),
    ("script_goes_past_broken_sources_of_others", keys::of_others),
    ("script_again_on_a_new_instance", again::new_instance),
    ("script_again_after_a_rotation", again::rotated),
    ("script_again_with_other_tokens", again::other_tokens),
    ("script_again_on_an_edited_entry", again::edited),
    ("script_again_in_both_forms", again::both_forms),
    ("script_comes_to_a_runner_on_bookworm", host::bookworm),
    ("script_comes_to_a_runner_on_trixie", host::trixie),
    ("script_comes_to_a_runner_with_its_config_elsewhere", host::elsewhere),
    ("script_leaves_a_runner_that_is_too_old", host::too_old),
    ("script_installs_by_apt", methods::apt),
    ("script_installs_by_apt_on_trixie", methods::apt_on_trixie),
    ("script_installs_by_apt_without_helper_images", methods::apt_slim),
    ("script_installs_a_package_with_a_hash", methods::deb_hash),
    ("script_installs_a_binary", methods::binary),
    ("script_makes_a_service_with_limits", methods::service),
    ("script_shows_no_secret", secrets::at_first_boot),
    ("script_shows_no_secret_and_locks_the_metadata", secrets::with_the_metadata_locked),
    ("script_shows_no_secret_of_a_file", secrets::in_a_file_of_their_own),
    ("script_follows_nothing_that_the_service_planted", attacks::planted),
    ("script_loses_no_race_with_the_service", attacks::swapped),
    ("script_takes_one_key_of_a_crafted_file", keys::crafted_on_bookworm),
    ("script_takes_one_key_of_a_crafted_file_on_trixie", keys::crafted_on_trixie),
    ("script_asks_no_source_that_it_does_not_need", keys::not_needed),
    ("script_leaves_updates_to_others_on_its_host", keys::others_on_its_host),
    ("script_over_ssh_as_root_on_bookworm", over_ssh::bookworm),
    ("script_over_ssh_by_sudo_on_trixie", over_ssh::trixie),
    ("script_over_ssh_rotates_tokens", rotate::tokens_of_a_host),
    ("script_over_ssh_is_kept_out", over_ssh::kept_out),
    ("script_over_ssh_through_a_cut_line", over_ssh::cut),
    ("script_over_ssh_uploaded_in_part", over_ssh::upload),
    ("script_over_ssh_beside_others", over_ssh::shared),
    ("script_over_ssh_beside_a_running_job", over_ssh::beside_a_job),
    ("script_over_ssh_upgrades_and_goes_back", over_ssh::upgrade),
    ("script_is_taken_back", uninstall::apt),
    ("script_is_taken_back_without_helper_images", uninstall::slim),
    ("script_is_taken_back_with_its_binary", uninstall::binary),
    ("script_is_taken_back_beside_others", uninstall::shared),
];
