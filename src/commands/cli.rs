//! Command line: clap types and help, derived from the settings table and the list of steps. No logic.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::gitlab::permissions;
use crate::settings::{Group, Kind, OPTIONS, Row, SETTINGS, setting};
use crate::steps;

/// What the help says of one step; the list of steps provides it.
#[derive(Clone, Copy, Debug)]
pub struct StepHelp {
    /// The subcommand.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// A paragraph or more.
    pub long: &'static str,
    /// Keys of the settings it reads, beside those every command accepts.
    pub keys: &'static [&'static str],
    /// Flags of a single run that it accepts, settings or run options, beside those of every step.
    pub flags: &'static [&'static str],
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// One step, by name.
    Step(String),
    /// Everything.
    Setup,
    /// Everything, backwards.
    Teardown,
    /// What is there, compared with what should be.
    Status,
    /// The deployments known.
    List,
    /// The page of one failure id.
    Explain(String),
}

impl Invocation {
    /// The subcommand as it is typed.
    pub fn name(&self) -> &str {
        match self {
            Invocation::Step(name) => name,
            Invocation::Setup => "setup",
            Invocation::Teardown => "teardown",
            Invocation::Status => "status",
            Invocation::List => "list",
            Invocation::Explain(_) => "explain",
        }
    }
}

/// Whether a subcommand takes the setting with this key, in a flag of its own.
pub fn takes(subcommand: &str, key: &str) -> bool {
    match subcommand {
        "setup" | "status" => true,
        "teardown" => PLACES.contains(&key) || key == "accept",
        step => steps::find(step).is_some_and(|step| step.info().keys.contains(&key)),
    }
}

/// What teardown accepts: where things are, and who it is there.
const PLACES: &[&str] = &[
    "namespace",
    "runnerNamespace",
    "useNamespaces",
    "kubernetesHost",
    "clusterAdmin",
    "gitlabUrl",
    "gitlabTokenFile",
    "gitlabCaFile",
    "project",
    "group",
    "instanceRunner",
    "commitMessage",
];
/// What every step accepts.
const STEP_FLAGS: &[&str] = &["dry-run", "exit-code", "yes"];
const SETUP_FLAGS: &[&str] = &["only", "skip", "from", "dry-run", "exit-code", "yes", "secrets-to-stdout"];
const TEARDOWN_FLAGS: &[&str] = &[
    "only",
    "skip",
    "from",
    "dry-run",
    "exit-code",
    "yes",
    "cluster-gone",
    "gitlab-gone",
    "revert-pipeline",
    "accept",
    "now",
    "ignore-not-found",
    "keep-namespaces",
    "receipt",
];

const EXAMPLES: &str = "\
Examples:
  outrigger setup                     ask for missing values, show the plan, apply it
  outrigger setup --dry-run           show the plan and change nothing
  outrigger status                    compare the deployment with its settings
  outrigger teardown                  remove the deployment

Topics: outrigger help exit-codes, outrigger help environment, outrigger help settings,
outrigger help gitlab-token";

const EXIT_CODES: &str = "\
Exit codes
    0  done, or nothing to do; everything that was asked for was checked
    1  unclassified
    2  invalid usage, missing input or missing consent
    3  refused by preflight, the settings or you; nothing was changed
    4  authentication or permission failed
    5  stopped part-way, or teardown did not remove everything; safe to run again
    6  another run holds this deployment
    7  an existing object was not created by this deployment
    8  timed out
    9  a proof failed: a credential has too few or too many permissions
   10  changes are pending, or a part was not checked (status, setup; --dry-run --exit-code)
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)
";

/// The whole command line.
pub fn command(steps: &[StepHelp]) -> Command {
    let styles =
        Styles::styled().header(AnsiColor::Green.on_default().bold()).literal(AnsiColor::Cyan.on_default());
    let mut root = Command::new("outrigger")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Set up a GitLab Runner outside a Kubernetes cluster that runs every job as a pod in it")
        .after_help(EXAMPLES)
        .styles(styles)
        .max_term_width(100)
        .subcommand_required(true)
        // As kubectl does: of a flag given twice, the last one counts.
        .args_override_self(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(false)
        .args(rows().filter(|row| row.group.is_global()).map(|row| arg(row).global(true)));

    root = root.subcommand(
        with(Command::new("setup"), |_| true, SETUP_FLAGS)
            .about("Set up the deployment: show the plan and apply it")
            .after_help(
                "Examples:\n  outrigger setup\n  outrigger setup --dry-run --exit-code\n  \
                 outrigger setup --non-interactive --gitlab-url https://gitlab.com --project platform/hello \
                 --gitlab-token-file token\n  outrigger setup --commit-pipeline --run-pipeline\n  \
                 outrigger setup --from issue-token --reissue cluster",
            ),
    );
    for step in steps {
        debug_assert!(step.keys.iter().all(|key| setting(key).is_some()), "{}: unknown key", step.name);
        debug_assert!(
            step.flags.iter().all(|flag| rows().any(|row| row.flag == *flag)),
            "{}: unknown flag",
            step.name
        );
        root = root.subcommand(
            with(Command::new(step.name), |key| step.keys.contains(&key), &[step.flags, STEP_FLAGS].concat())
                .about(step.about)
                .long_about(step.long),
        );
    }
    root.subcommand(
        with(Command::new("teardown"), |key| PLACES.contains(&key), TEARDOWN_FLAGS)
            .about("Remove everything that setup created")
            .after_help(
                "Examples:\n  outrigger teardown --dry-run\n  outrigger teardown --non-interactive --yes\n  \
                 outrigger teardown --cluster-gone",
            ),
    )
    .subcommand(
        with(Command::new("status"), |_| true, &[])
            .about("Compare the deployment with its settings; exit 10 if they differ")
            .after_help("Examples:\n  outrigger status\n  outrigger status -o json"),
    )
    .subcommand(
        with(Command::new("list"), |_| false, &["cluster"])
            .about("List the deployments recorded on this machine")
            .after_help("Examples:\n  outrigger list\n  outrigger list --cluster"),
    )
    .subcommand(
        Command::new("explain")
            .about("Explain a failure")
            .arg(Arg::new("id").value_name("ID").required(true).help("Id of the failure, for example OR0306"))
            .after_help("Example:\n  outrigger explain OR0306"),
    )
}

/// Parses the arguments, the program's name first. Help and version arrive as errors, as in clap.
pub fn parse(args: Vec<OsString>, steps: &[StepHelp]) -> Result<(Invocation, ArgMatches), clap::Error> {
    if let [_, help, topic] = args.as_slice()
        && help == "help"
        && let Some(text) = topic.to_str().and_then(topic_page)
    {
        let page = Command::new("outrigger").override_help(text);
        page.try_get_matches_from(["outrigger", "--help"])?;
    }
    let mut matches = command(steps).try_get_matches_from(args)?;
    let (name, matches) =
        matches.remove_subcommand().unwrap_or_else(|| (String::new(), ArgMatches::default()));
    let invocation = match name.as_str() {
        "setup" => Invocation::Setup,
        "teardown" => Invocation::Teardown,
        "status" => Invocation::Status,
        "list" => Invocation::List,
        "explain" => Invocation::Explain(matches.get_one::<String>("id").cloned().unwrap_or_default()),
        _ => Invocation::Step(name),
    };
    Ok((invocation, matches))
}

fn rows() -> impl Iterator<Item = &'static Row> {
    SETTINGS.iter().chain(OPTIONS)
}

fn with(command: Command, key: impl Fn(&str) -> bool, flags: &[&str]) -> Command {
    let settings = SETTINGS.iter().filter(|row| key(row.key) || flags.contains(&row.flag));
    let options = OPTIONS.iter().filter(|row| flags.contains(&row.flag));
    let rows = settings.chain(options).filter(|row| !row.group.is_global());
    let old =
        |(flag, _): &(&'static str, _)| Arg::new(*flag).long(*flag).hide(true).action(ArgAction::SetTrue);
    command.args(rows.flat_map(|row| row.aliases.iter().map(old).chain([arg(row)])))
}

fn arg(row: &Row) -> Arg {
    let mut arg = Arg::new(row.flag).long(row.flag).help_heading(row.group.heading());
    let mut help = row.help.to_owned();
    if !row.choices.is_empty() {
        help = format!("{help}: {}", row.choices.join(", "));
    }
    if let Some(env) = row.env_name().filter(|_| !matches!(row.group, Group::Output)) {
        arg = arg.long_help(format!("{help}\n\nAlso {env}"));
    }
    if !row.long.is_empty() {
        arg = arg.long_help(format!("{help}\n\n{}", row.long));
    }
    if let Some(short) = row.short {
        arg = arg.short(short);
    }
    if row.flag == "non-interactive" {
        arg = arg.alias("no-input");
    }
    match row.kind {
        Kind::Bool => arg.action(ArgAction::SetTrue),
        Kind::Count => arg.action(ArgAction::Count),
        Kind::List | Kind::Lines => arg.action(ArgAction::Append).value_name(row.value),
        Kind::Text | Kind::Path | Kind::Duration => arg.action(ArgAction::Set).value_name(row.value),
    }
    .help(help)
}

fn topic_page(topic: &str) -> Option<String> {
    match topic {
        "exit-codes" => Some(EXIT_CODES.to_owned()),
        "environment" => Some(environment_page()),
        "settings" => Some(settings_page()),
        "gitlab-token" => Some(permissions::page()),
        _ => None,
    }
}

fn environment_page() -> String {
    let mut page = String::from(
        "Environment\n  A flag takes precedence over its variable, a variable over the settings file. Empty means not set.\n\n",
    );
    for row in rows().filter(|row| row.env.is_some()) {
        let names: Vec<_> = row.variables().collect();
        let _ = writeln!(page, "  {:<47} {}", names.join(", "), row.dashed);
    }
    page += "\n  GITLAB_TOKEN, GITLAB_ACCESS_TOKEN, OAUTH_TOKEN hold your GitLab access token itself; the first\n  \
             that is set is used. It is sent only to a host given with it, by the same command line,\n  \
             environment or settings file.\n\n  HTTPS_PROXY and NO_PROXY (or in lower case) name the proxy on the way to the cluster and to GitLab,\n  \
             by kubectl's rules; a kubeconfig's proxy-url takes precedence. ALL_PROXY is ignored.\n";
    page += "\n  NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM=dumb control colour; LC_ALL, LC_CTYPE, LANG control\n  \
             glyphs. CI disables prompts. Records are stored in XDG_STATE_HOME/outrigger.\n";
    page
}

fn settings_page() -> String {
    let mut page = String::from(
        "Settings file\n  Given by --config FILE or OUTRIGGER_CONFIG. One flat YAML mapping; unknown and duplicate keys\n  \
         are refused; relative paths are relative to the file. Flags and environment variables take\n  \
         precedence over it, and it takes precedence over recorded settings.\n\n",
    );
    for row in SETTINGS {
        let value = match row.kind {
            Kind::Bool => "true",
            Kind::List | Kind::Lines => "[…]",
            _ => row.value,
        };
        let _ = writeln!(page, "  {:<36}{}", format!("{}: {value}", row.key), row.help);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{Invocation, StepHelp, command, parse};

    const STEPS: &[StepHelp] = &[StepHelp {
        name: "create-role",
        about: "Make the Role",
        long: "Make the Role, and all.",
        keys: &["namespace"],
        flags: &["force-conflicts", "dry-run", "print"],
    }];

    fn args(line: &str) -> Vec<std::ffi::OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn clap_finds_no_fault_and_lists_the_steps() {
        command(STEPS).debug_assert();
        let names: Vec<_> = command(STEPS).get_subcommands().map(|c| c.get_name().to_owned()).collect();
        assert_eq!(names, ["setup", "create-role", "teardown", "status", "list", "explain"]);
    }

    #[test]
    fn invocations() {
        let what = |line| parse(args(line), STEPS).map(|(what, _)| what).expect(line);
        assert_eq!(what("outrigger setup -n jobs -v --dry-run"), Invocation::Setup);
        assert_eq!(
            what("outrigger -v create-role --force-conflicts"),
            Invocation::Step("create-role".to_owned())
        );
        assert_eq!(what("outrigger explain OR0101"), Invocation::Explain("OR0101".to_owned()));
        let (_, matches) =
            parse(args("outrigger --context a status --context b"), STEPS).expect("twice is fine");
        assert_eq!(matches.get_one::<String>("context").map(String::as_str), Some("b"));
    }

    #[test]
    fn mistakes_are_usage_errors_with_a_suggestion() {
        for line in
            ["outrigger stauts", "outrigger setup --namespac x", "outrigger create-role --prune", "outrigger"]
        {
            assert_eq!(parse(args(line), STEPS).expect_err(line).exit_code(), 2, "{line}");
        }
        assert!(parse(args("outrigger stauts"), STEPS).expect_err("typo").to_string().contains("'status'"));
    }

    #[test]
    fn help_and_topics() {
        for line in
            ["outrigger help", "outrigger help setup", "outrigger setup --help", "outrigger --version"]
        {
            assert_eq!(parse(args(line), STEPS).expect_err(line).exit_code(), 0, "{line}");
        }
        let page = |topic: &str| {
            parse(args(&format!("outrigger help {topic}")), STEPS).expect_err(topic).to_string()
        };
        assert!(
            page("exit-codes").starts_with("Exit codes\n") && page("exit-codes").contains("130  interrupted")
        );
        assert!(page("environment").contains("OUTRIGGER_GITLAB_URL, GITLAB_URL, GITLAB_HOST"));
        assert!(page("settings").contains("gitlabUrl: URL"));
        assert!(page("gitlab-token").contains("Runner: Create"));
        assert!(page("setup").contains("--gitlab-url"));
    }
}
