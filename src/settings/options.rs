//! Options of one run: flag and environment only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ArgMatches;

use super::resolve::Reader;
use super::row::Group::{Connection, Consent, Output, Run};
use super::row::{Group, Row, Spelling, spelled, table};
use super::value::{One, Output as Format, Shape, Values};
use super::{Source, table::SETTINGS};
use crate::base::error::Result;

table! {
    /// What this one run is asked to do.
    #[derive(Clone, Debug, Default)]
    RunOptions, OPTIONS;
    config: Option<PathBuf>,
        "FILE", Connection, "Settings file (YAML); never looked for by itself";
    output: Format,
        "FORMAT", Output, "How to report".short('o');
    quiet: bool,
        "", Output, "Only failures, warnings and the last line".short('q');
    verbose: u8,
        "", Output, "Say more; may be repeated".short('v');
    non_interactive: bool,
        "", Output, "Ask nothing; for setup this is consent";
    only: Vec<String>,
        "STEP,…", Run, "Only these steps";
    skip: Vec<String>,
        "STEP,…", Run, "All but these steps";
    from: Option<String>,
        "STEP", Run, "From this step on";
    dry_run: bool,
        "", Run, "Show the plan and change nothing";
    exit_code: bool,
        "", Run, "With --dry-run: exit 10 if there is something to change";
    print: bool,
        "", Run, "Print what would be created to stdout and change nothing";
    print_commands: bool,
        "", Run, "Print the commands that bring the script to its target and change nothing";
    uninstall: bool,
        "", Run, "Print the script that takes back on a host what the launch script made of it, and change nothing here";
    yes: bool,
        "", Consent, "Do not ask for confirmation".short('y');
    secrets_to_stdout: bool,
        "", Consent, "Let secrets go to stdout even on a terminal, in JSON or in CI";
    cluster_gone: bool,
        "", Consent, "The recorded cluster no longer exists: forget what was there";
    gitlab_gone: bool,
        "", Consent, "The recorded GitLab no longer exists, or is out of reach for good: forget what was there";
    revert_pipeline: bool,
        "", Run, "Revert our commit of the pipeline file, if nobody has changed the file since";
    now: bool,
        "", Run, "Do not wait for a running job";
    keep_namespaces: bool,
        "", Run, "Leave the namespaces where they are";
    receipt: Option<PathBuf>,
        "FILE", Run, "Write what was removed, and what was not, to this file";
    list_cluster as "cluster": bool,
        "", Run, "Ask the cluster too, not only this machine";
}

/// Reads the run options.
pub fn run_options(matches: &ArgMatches, env: &BTreeMap<String, String>) -> Result<RunOptions> {
    let mut reader = Reader::new(matches, env);
    let options = RunOptions::read(&mut reader);
    reader.problems.extend(consent_by_environment(env));
    if options.exit_code && !options.dry_run {
        reader.problems.push(("--exit-code".to_owned(), "needs --dry-run".to_owned()));
    }
    if options.uninstall && options.print_commands {
        reader.problems.push(("--uninstall".to_owned(), "does not go with --print-commands".to_owned()));
    }
    reader.finish(options)
}

/// The variables that would be consent: whoever sets the environment of a shell or of a CI job has not read
/// what a run is about to do.
fn consent_by_environment(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let consents = SETTINGS.iter().chain(OPTIONS).filter(|row| row.group == Group::Consent);
    let flags = consents.flat_map(|row| {
        let alias = |(flag, risk)| (flag, format!("{} {risk}", row.dashed));
        row.aliases.iter().copied().map(alias).chain([(row.flag, row.dashed.to_owned())])
    });
    let named =
        flags.map(|(flag, how)| (format!("OUTRIGGER_{}", flag.to_uppercase().replace('-', "_")), how));
    let set = named.filter(|(name, _)| env.get(name).is_some_and(|value| !value.is_empty()));
    set.map(|(name, how)| (name, format!("is consent, which only the command line gives: {how}"))).collect()
}
