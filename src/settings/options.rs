//! Options of one run: flag and environment only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ArgMatches;

use super::check::{self, escaped};
use super::file::split;
use super::table::{self, Row};
use crate::base::error::{Failure, Id, Result};

/// How a run reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Text for people, on stderr.
    #[default]
    Human,
    /// JSON lines, on stdout.
    Json,
}

/// What this one run is asked to do. See [`table::OPTIONS`].
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct RunOptions {
    /// Only these steps.
    pub only: Vec<String>,
    /// All but these steps.
    pub skip: Vec<String>,
    /// From this step on.
    pub from: Option<String>,
    /// Show the plan, change nothing.
    pub dry_run: bool,
    /// With `dry_run`: exit 10 when there is something to change.
    pub exit_code: bool,
    /// Print to stdout what would be created.
    pub print: bool,
    /// Print to stdout the commands that bring the launch script to its target.
    pub print_commands: bool,
    /// Print to stdout the script that takes back what the launch script did.
    pub uninstall: bool,
    /// Do not ask for confirmation.
    pub yes: bool,
    /// Ask nothing at all.
    pub non_interactive: bool,
    /// Let secrets go to stdout in any case.
    pub secrets_to_stdout: bool,
    /// How to report.
    pub output: Output,
    /// Only failures, warnings and the last line.
    pub quiet: bool,
    /// How much more to say.
    pub verbose: u8,
    /// The recorded cluster no longer exists.
    pub cluster_gone: bool,
    /// The recorded GitLab no longer exists, or is out of reach.
    pub gitlab_gone: bool,
    /// Revert our commit of the pipeline file.
    pub revert_pipeline: bool,
    /// Do not wait for a running job.
    pub now: bool,
    /// Delete namespaces together with what generators keep in them.
    pub accept_generated: bool,
    /// Leave the namespaces.
    pub keep_namespaces: bool,
    /// Write what was removed to this file.
    pub receipt: Option<PathBuf>,
    /// `list`: ask the cluster too.
    pub list_cluster: bool,
}

/// The settings file named by `--config` or `OUTRIGGER_CONFIG`; it is never looked for.
#[must_use]
pub fn config_path(matches: &ArgMatches, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let mut problems = Vec::new();
    Reader { matches, env, problems: &mut problems }.one("config").map(PathBuf::from)
}

/// Reads the run options.
pub fn run_options(matches: &ArgMatches, env: &BTreeMap<String, String>) -> Result<RunOptions> {
    let mut problems = Vec::new();
    let mut read = Reader { matches, env, problems: &mut problems };
    // [`config_path`] reads it again, and says nothing of what is wrong with it.
    let _ = read.one("config");
    let options = RunOptions {
        only: read.list("only"),
        skip: read.list("skip"),
        from: read.one("from"),
        dry_run: read.flag("dry-run"),
        exit_code: read.flag("exit-code"),
        print: read.flag("print"),
        print_commands: read.flag("print-commands"),
        uninstall: read.flag("uninstall"),
        yes: read.flag("yes"),
        non_interactive: read.flag("non-interactive"),
        secrets_to_stdout: read.flag("secrets-to-stdout"),
        output: if read.one("output").as_deref() == Some("json") { Output::Json } else { Output::Human },
        quiet: read.flag("quiet"),
        verbose: read.count("verbose"),
        cluster_gone: read.flag("cluster-gone"),
        gitlab_gone: read.flag("gitlab-gone"),
        revert_pipeline: read.flag("revert-pipeline"),
        now: read.flag("now"),
        accept_generated: read.list("accept").iter().any(|kind| kind == "generated"),
        keep_namespaces: read.flag("keep-namespaces"),
        receipt: read.one("receipt").map(PathBuf::from),
        list_cluster: read.flag("cluster"),
    };
    problems.extend(consent_by_environment(env));
    if options.exit_code && !options.dry_run {
        problems.push(("--exit-code".to_owned(), "needs --dry-run".to_owned()));
    }
    if options.uninstall && options.print_commands {
        problems.push(("--uninstall".to_owned(), "does not go with --print-commands".to_owned()));
    }
    finish(options, problems)
}

/// The variables that would be consent: whoever sets the environment of a shell or of a CI job has not read
/// what a run is about to do.
fn consent_by_environment(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let consents =
        table::SETTINGS.iter().chain(table::OPTIONS).filter(|row| row.group == table::Group::Consent);
    let named = consents.map(|row| (format!("OUTRIGGER_{}", row.flag.to_uppercase().replace('-', "_")), row));
    let set = named.filter(|(name, _)| env.get(name).is_some_and(|value| !value.is_empty()));
    set.map(|(name, row)| (name, format!("is consent, which only the command line gives: {}", row.dashed)))
        .collect()
}

/// All problems in one failure, or the value.
pub(super) fn finish<T>(value: T, problems: Vec<(String, String)>) -> Result<T> {
    if problems.is_empty() {
        return Ok(value);
    }
    let count = problems.len();
    let verb = if count == 1 { "1 value is" } else { &format!("{count} values are") };
    let mut failure = Failure::new(Id::InvalidInput, format!("{verb} not usable"));
    failure.details = problems;
    Err(failure)
}

/// What the command line says for a flag: nothing if absent or not a flag of this subcommand.
pub(super) fn given(matches: &ArgMatches, row: &Row) -> Vec<String> {
    match row.kind {
        table::Kind::Bool => match matches.try_get_one::<bool>(row.flag) {
            Ok(Some(true)) => vec!["true".to_owned()],
            _ => Vec::new(),
        },
        table::Kind::Count => match matches.try_get_one::<u8>(row.flag) {
            Ok(Some(count)) if *count > 0 => vec![count.to_string()],
            _ => Vec::new(),
        },
        kind => {
            let values = matches.try_get_many::<String>(row.flag).ok().flatten().into_iter().flatten();
            match kind {
                table::Kind::List => values.flat_map(|value| split(value)).collect(),
                _ => values.cloned().collect(),
            }
        }
    }
}

/// What the environment says: the first variable of the row that is set and not empty.
pub(super) fn from_env(env: &BTreeMap<String, String>, row: &Row) -> Option<(Vec<String>, &'static str)> {
    let found = row.env.iter().find_map(|name| env.get(*name).filter(|v| !v.is_empty()).map(|v| (v, *name)));
    found.map(|(value, name)| match row.kind {
        table::Kind::List => (split(value), name),
        _ => (vec![value.clone()], name),
    })
}

struct Reader<'a> {
    matches: &'a ArgMatches,
    env: &'a BTreeMap<String, String>,
    problems: &'a mut Vec<(String, String)>,
}

impl Reader<'_> {
    fn read<T>(&mut self, flag: &str, check: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(row) = table::option(flag) else { return Vec::new() };
        let values = given(self.matches, row);
        let (values, label) = match from_env(self.env, row) {
            Some((from_env, name)) if values.is_empty() => (from_env, name.to_owned()),
            _ => (values, format!("--{flag}")),
        };
        let mut good = Vec::new();
        for value in values {
            let allowed =
                if row.choices.is_empty() { Ok(()) } else { check::choice(&value, row.choices).map(drop) };
            let no_token = check::no_token(&value, row.kind == table::Kind::Path);
            match no_token.and(allowed).and_then(|()| check(&value)) {
                Ok(value) => good.push(value),
                Err(why) => self.problems.push((label.clone(), format!("{} {why}", escaped(&value)))),
            }
        }
        good
    }

    fn list(&mut self, flag: &str) -> Vec<String> {
        self.read(flag, check::text)
    }

    fn one(&mut self, flag: &str) -> Option<String> {
        self.read(flag, check::text).pop()
    }

    fn flag(&mut self, flag: &str) -> bool {
        self.read(flag, check::boolean).pop().unwrap_or(false)
    }

    fn count(&mut self, flag: &str) -> u8 {
        self.read(flag, |text| text.parse().map_err(|_| "is not a small number".to_owned()))
            .pop()
            .unwrap_or(0)
    }
}
