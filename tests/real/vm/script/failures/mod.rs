//! What stops the launch script on a machine, one failure after the other: it names the step and the reason,
//! it leaves no half-made registration, and it ends well as soon as the cause is gone.

mod cluster;
mod disk;
mod gitlab;
mod lock;
mod network;
mod packages;
mod power;
mod somebody;

use std::fs;
use std::process::Output;

use super::super::VmTrial;
use super::super::vm::Vm;
use super::super::vm::user_data::lightsail;
use super::place::{DEPLOYMENT, Place, entries};

/// The trials of this folder.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("script_stops_at_the_wrong_key", packages::wrong_key),
    ("script_stops_at_what_was_not_named", packages::not_what_was_named),
    ("script_stops_at_the_wrong_binary_or_release", packages::wrong_binary_or_release),
    ("script_waits_for_the_lock_of_apt_up_to_its_limit", lock::held),
    ("script_waits_for_the_network_up_to_its_limit", network::late_or_never),
    ("script_stops_without_gitlab", gitlab::down_or_refusing),
    ("script_stops_without_the_cluster", cluster::out_of_reach),
    ("script_stops_at_the_wrong_token_of_the_cluster", cluster::wrong_token),
    ("script_stops_at_a_full_disk", disk::full),
    ("script_leaves_its_entry_when_the_disk_is_full", disk::full_at_a_change),
    ("script_leaves_the_runner_of_somebody", somebody::already_here),
    ("script_goes_on_after_a_power_cut", power::cut),
];

/// Where scripts lie that are run in a machine by hand.
const SCRIPT: &str = "/root/launch.sh";

/// What the runner is known by on the machine.
const ETC: &str = "/etc/gitlab-runner";

/// The script with shorter waits, for what will not get better by waiting. Nothing else is changed.
pub fn hasty(script: &str) -> String {
    let waits = "pauses='5 10 20 40' lock_wait=120";
    assert!(script.contains(waits), "the script waits in another way\n{script}");
    script.replace(waits, "pauses='1 1' lock_wait=3")
}

/// Boots with the script as user data: it must fail in this step for a reason that says these words, and
/// cloud-init must say that it failed.
fn boot_fails(place: &Place, vm: &Vm, script: &str, step: &str, words: &[&str]) {
    vm.boot(&lightsail(script));
    failed(place, vm, step, words);
    let result = vm.read("/run/cloud-init/result.json").unwrap_or_default();
    assert!(
        result.contains("scripts_user") || result.contains("scripts-user"),
        "{result}\n{}",
        vm.evidence()
    );
    assert!(vm.cloud_init_output().contains(&format!("FAILED in step {step}: ")), "{}", vm.evidence());
}

/// Runs a script by hand, as root.
fn run(vm: &Vm, script: &str, arguments: &[&str]) -> Output {
    vm.write(SCRIPT, script);
    vm.exec(&[&["sh", SCRIPT], arguments].concat())
}

/// Runs it by hand: it must fail as above.
fn run_fails(place: &Place, vm: &Vm, script: &str, step: &str, words: &[&str]) {
    fails_with(place, vm, script, &[], step, words);
}

/// The same with arguments.
fn fails_with(place: &Place, vm: &Vm, script: &str, arguments: &[&str], step: &str, words: &[&str]) {
    let output = run(vm, script, arguments);
    failed(place, vm, step, words);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("FAILED in step {step}: ")), "{said}");
}

/// What a run that failed before it had registered must have left.
fn failed(place: &Place, vm: &Vm, step: &str, words: &[&str]) {
    says(vm, step, words);
    assert_eq!(ours(vm), Vec::<String>::new(), "{}", log(vm));
    assert_eq!(place.managers().len(), 0, "{:#?}", place.site.world());
}

/// The status must name this step, and a reason with these words.
fn says(vm: &Vm, step: &str, words: &[&str]) {
    let outcome = vm.outcome(DEPLOYMENT);
    let ended = (outcome["result"].as_str(), outcome["step"].as_str());
    assert_eq!(ended, (Some("failed"), Some(step)), "{outcome}\n{}", log(vm));
    let reason = outcome["reason"].as_str().unwrap_or_default();
    for word in words {
        assert!(reason.contains(word), "no {word:?} in {outcome}\n{}", log(vm));
    }
    // What run-script makes of it.
    let exit = outrigger::internal::script_exit(step, reason);
    assert_eq!(exit, exit_code(step, words), "{outcome}");
}

/// The exit code of run-script for a failure that says these words.
fn exit_code(step: &str, words: &[&str]) -> u8 {
    let says = |part: &str| words.iter().any(|word| word.contains(part));
    match step {
        "look" => 7,
        "prove-cluster" if says("does not reach") || says("timed out") => 8,
        "prove-cluster" => 9,
        "prove-gitlab" if says("GitLab refuses") => 9,
        "prove-gitlab" => 8,
        _ => 5,
    }
}

/// Runs it by hand, after which there must be one entry, a manager at GitLab and a service that runs.
fn run_ends_well(place: &Place, vm: &Vm, script: &str) {
    ends_well_with(place, vm, script, &[]);
}

/// The same with arguments.
fn ends_well_with(place: &Place, vm: &Vm, script: &str, arguments: &[&str]) {
    let output = run(vm, script, arguments);
    assert!(output.status.success(), "{output:?}\n{}", log(vm));
    ended_well(place, vm);
}

/// What a run that went well must have left.
fn ended_well(place: &Place, vm: &Vm) {
    let outcome = vm.outcome(DEPLOYMENT);
    assert_eq!(outcome["result"], "ok", "{outcome}\n{}\n{}", log(vm), vm.evidence());
    assert_eq!(entries(vm).len(), 1, "{}", log(vm));
    assert_eq!(place.managers().len(), 1, "{:#?}", place.site.world());
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active");
    assert_eq!(work(vm), Vec::<String>::new());
}

/// What the log of the deployment says.
fn log(vm: &Vm) -> String {
    vm.read(&format!("/var/log/outrigger-{DEPLOYMENT}.log")).unwrap_or_default()
}

/// What there is of a registration: entries, files of ours beside them.
fn ours(vm: &Vm) -> Vec<String> {
    let config = vm.read(&format!("{ETC}/config.toml")).unwrap_or_default();
    let entries = config.lines().filter(|line| line.contains("[[runners]]")).map(str::to_owned);
    entries.chain(names(vm).into_iter().filter(|name| name.contains("outrigger"))).collect()
}

/// Folders that the script works in: none may stay.
fn work(vm: &Vm) -> Vec<String> {
    let below = |path: &str| names_in(vm, path).into_iter().filter(|name| name.starts_with(".outrigger"));
    below("/etc").chain(below(ETC)).collect()
}

fn names(vm: &Vm) -> Vec<String> {
    names_in(vm, ETC)
}

fn names_in(vm: &Vm, path: &str) -> Vec<String> {
    let entries = fs::read_dir(vm.path(path)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether there is any gitlab-runner.
fn has_runner(vm: &Vm) -> bool {
    vm.exec(&["sh", "-c", "command -v gitlab-runner"]).status.success()
}
