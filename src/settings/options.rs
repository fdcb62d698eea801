//! Options of one run, from flags and environment only.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

use super::resolve::{Problems, Reader};
use super::row::Group::{Connection, Consent, Output, Run};
use super::row::{Group, Row, Spelling, spelled, table};
use super::value::{One, Output as Format, PolicyPhase, Shape, Values};
use super::{Source, check, table::SETTINGS};

table! {
    /// The options of one run, which are not recorded.
    #[derive(Clone, Debug, Default)]
    RunOptions, OPTIONS;
    config: Option<PathBuf>,
        "FILE", Connection, "Settings file (YAML)";
    output: Format => format,
        "FORMAT", Output, "Output format".short('o');
    quiet: bool,
        "", Output, "Print only errors, warnings and the last line".short('q');
    verbose: u8,
        "", Output, "Print steps in place and requests (-v), and their bodies, masked (-vv)".short('v');
    log_file: Option<PathBuf>,
        "FILE", Output, "Write events and requests to this file as JSON lines; with -vv also bodies";
    non_interactive: bool,
        "", Output, "Do not prompt; setup applies the plan without confirmation";
    only: Vec<String>,
        "STEP,…", Run, "Run only these steps";
    skip: Vec<String>,
        "STEP,…", Run, "Skip these steps";
    from: Option<String>,
        "STEP", Run, "Start at this step";
    dry_run: bool,
        "", Run, "Show the plan and change nothing";
    exit_code: bool,
        "", Run, "With --dry-run: exit 10 if changes are pending";
    print: bool,
        "", Run, "Print the object or file to stdout and change nothing";
    plan: bool,
        "", Run, "Print the plan of setup with these settings as one JSON document, instead of the manifests";
    print_commands: bool,
        "", Run, "Print the commands that deploy the script to its target, and change nothing";
    uninstall: bool,
        "", Run, "Print the script that undoes the launch script's changes on a host, and change nothing here";
    yes: bool,
        "", Consent, "Do not ask for confirmation".short('y');
    secrets_to_stdout: bool,
        "", Consent, "Allow secrets on stdout on a terminal, in JSON or in CI";
    cluster_gone: bool,
        "", Consent, "The recorded cluster no longer exists: remove its objects from the record";
    gitlab_gone: bool,
        "", Consent, "The recorded GitLab is permanently unavailable: remove its objects from the record";
    host_gone: bool,
        "", Consent, "The runner's host no longer exists: do not connect to it";
    vm_gone: bool,
        "", Consent, "The VM no longer exists, or its AWS account is closed: do not ask AWS";
    print_policy: Option<PolicyPhase>,
        "PHASE", Run, "Print the minimal IAM policy for this phase as JSON, and change nothing";
    revert_pipeline: bool,
        "", Run, "Revert outrigger's commit of the pipeline file, unless the file has changed since";
    if_within: Option<Duration> => check::positive,
        "DURATION", Run, "Only if the token expires within this time; else exit 0 and write nothing";
    now: bool,
        "", Run, "Do not wait for running jobs";
    machine: bool,
        "", Run, "Also look inside the VM of --create-vm; its port 22 is open during that time";
    ignore_not_found: bool,
        "", Run, "Exit 0 if there is no such deployment";
    keep_namespaces: bool,
        "", Run, "Keep the namespaces";
    receipt: Option<PathBuf>,
        "FILE", Run, "Write a report of removed and kept objects to this file, or to stdout (-)";
    live: bool,
        "", Run, "List the deployments in the cluster instead of those recorded on this machine"
        .aliases(&[("cluster", "true")]);
    no_headers: bool,
        "", Run, "List without the line of column names";
}

/// The options, of which invalid ones have their defaults, and what is wrong with them.
pub fn run_options(matches: &ArgMatches, env: &BTreeMap<String, String>) -> (RunOptions, Problems) {
    let mut reader = Reader::new(matches, env);
    let options = RunOptions::read(&mut reader);
    reader.problems.extend(consent_by_environment(env));
    if options.exit_code && !options.dry_run {
        reader.problems.push(("--exit-code".to_owned(), "needs --dry-run".to_owned()));
    }
    if options.uninstall && options.print_commands {
        reader.problems.push(("--uninstall".to_owned(), "cannot be used with --print-commands".to_owned()));
    }
    (options, reader.into_problems())
}

/// One of the formats of all commands, or that of `list`.
fn format(text: &str) -> Result<Format, String> {
    Format::parse(text).map_err(|_| "is neither human nor json, nor name, which is only for list".to_owned())
}

/// Refuses consent by environment variables: they are set without knowledge of what the run will do.
fn consent_by_environment(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let consents = SETTINGS.iter().chain(OPTIONS).filter(|row| row.group == Group::Consent);
    let flags = consents.flat_map(|row| {
        let alias = |(flag, risk)| (flag, format!("{} {risk}", row.dashed));
        row.aliases.iter().copied().map(alias).chain([(row.flag, row.dashed.to_owned())])
    });
    let named =
        flags.map(|(flag, how)| (format!("OUTRIGGER_{}", flag.to_uppercase().replace('-', "_")), how));
    let set = named.filter(|(name, _)| env.get(name).is_some_and(|value| !value.is_empty()));
    set.map(|(name, how)| (name, format!("is consent and must be given on the command line: {how}")))
        .collect()
}
