//! Command line: clap types and help, derived from the settings table and the list of steps. No logic.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::base::hint::program;
use crate::commands::completion;
use crate::commands::help::{self, Topic};
use crate::commands::usage::unknown_topic;
use crate::settings::{Group, Kind, OPTIONS, Output, Row, SETTINGS, setting};
use crate::steps;

/// The help of one step, from the list of steps.
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

/// The subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// One step, by name.
    Step(String),
    /// All steps.
    Setup,
    /// The steps of a token, for a new one: `cluster`, `runner` or `all`.
    Rotate(String),
    /// The steps that bring another version of gitlab-runner.
    Upgrade,
    /// All steps in reverse order.
    Teardown,
    /// The manifests of all steps.
    Render,
    /// The comparison of the deployment with its settings.
    Status,
    /// The list of deployments.
    List,
    /// The page of one failure id, or the list of all.
    Explain(Option<String>),
    /// A page that is not about one command.
    Topic(&'static Topic),
    /// Every setting with its source.
    PrintConfig,
    /// The JSON Schema of the settings file.
    PrintSchema,
    /// The completion script of this shell.
    Completion(String),
    /// Candidates for the last word of a command line, for the completion scripts.
    Complete(Vec<OsString>),
    /// The manual page of the command with these words.
    Man(Vec<String>),
    /// The version in detail.
    Version,
}

impl Invocation {
    /// Whether its output is one page, with nothing to tell of how the run ended.
    pub fn is_page(&self) -> bool {
        !matches!(
            self,
            Self::Step(_)
                | Self::Setup
                | Self::Render
                | Self::Rotate(_)
                | Self::Upgrade
                | Self::Teardown
                | Self::Status
                | Self::List
        )
    }

    /// The subcommand with its words, to be typed again.
    pub fn typed(&self) -> String {
        match self {
            Self::Rotate(which) => format!("rotate {which}"),
            _ => self.name().to_owned(),
        }
    }

    /// The subcommand as it is typed.
    pub fn name(&self) -> &str {
        match self {
            Self::Step(name) => name,
            Self::Setup => "setup",
            Self::Render => "render",
            Self::Rotate(_) => "rotate",
            Self::Upgrade => "upgrade",
            Self::Teardown => "teardown",
            Self::Status => "status",
            Self::List => "list",
            Self::Explain(_) => "explain",
            Self::Topic(_) => "help",
            Self::PrintConfig | Self::PrintSchema => "config",
            Self::Completion(_) | Self::Complete(_) => "completion",
            Self::Man(_) => "man",
            Self::Version => "version",
        }
    }
}

/// Whether a subcommand takes the setting with this key, in a flag of its own.
pub fn takes(subcommand: &str, key: &str) -> bool {
    match subcommand.split(' ').next().unwrap_or_default() {
        "setup" => true,
        "render" | "status" => is_no_consent(key),
        "teardown" => PLACES.contains(&key) || key == "accept",
        "rotate" => ROTATE.contains(&key),
        "upgrade" => UPGRADE.contains(&key),
        step => steps::find(step).is_some_and(|step| step.info().keys.contains(&key)),
    }
}

/// Whether a setting is more than the consent to a change.
fn is_no_consent(key: &str) -> bool {
    setting(key).is_none_or(|row| row.group != Group::Consent)
}

/// The settings that teardown accepts: places and credentials.
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
    "host",
    "hostKeys",
    "sshOptions",
    "vmRegion",
    "vmArn",
    "sshFrom",
    "awsProfile",
    "awsMetadata",
    "wait",
];
/// The settings that rotate accepts.
const ROTATE: &[&str] = &[
    "gitlabUrl",
    "gitlabTokenFile",
    "gitlabCaFile",
    "project",
    "group",
    "instanceRunner",
    "kubernetesHost",
    "tokenLifetime",
    "script",
    "host",
    "hostKeys",
    "sshOptions",
    "vmRegion",
    "vmArn",
    "sshFrom",
    "awsProfile",
    "awsMetadata",
    "wait",
    "accept",
];
/// The settings that upgrade accepts.
const UPGRADE: &[&str] = &[
    "gitlabUrl",
    "gitlabTokenFile",
    "gitlabCaFile",
    "project",
    "group",
    "instanceRunner",
    "runnerVersion",
    "debSha256",
    "binaryUrl",
    "binarySha256",
    "script",
    "host",
    "hostKeys",
    "sshOptions",
    "vmRegion",
    "vmArn",
    "sshFrom",
    "awsProfile",
    "awsMetadata",
    "wait",
];
const ROTATE_FLAGS: &[&str] = &["if-within", "dry-run", "exit-code", "yes"];
/// The flags that every step accepts.
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
    "host-gone",
    "vm-gone",
    "revert-pipeline",
    "accept",
    "now",
    "ignore-not-found",
    "keep-namespaces",
    "receipt",
];

/// The most options of its own that the short help of a command shows; of more it shows those of [`COMMON`].
const SHORT: usize = 12;

/// The options that the short help shows of many; `--help` shows all.
const COMMON: &[&str] = &[
    "deployment",
    "context",
    "config",
    "namespace",
    "gitlab-url",
    "gitlab-token-file",
    "project",
    "group",
    "runner-token-file",
    "tags",
    "host",
    "target",
    "print",
    "plan",
    "print-commands",
    "uninstall",
    "commit-pipeline",
    "run-pipeline",
    "dry-run",
    "wait",
    "cluster-gone",
    "gitlab-gone",
    "host-gone",
    "vm-gone",
    "create-vm",
    "print-policy",
    "revert-pipeline",
    "now",
    "keep-namespaces",
    "yes",
    "output",
    "verbose",
    "non-interactive",
];

/// The groups in the order of the help, which is that of the work.
const GROUPS: &[Group] = &[
    Group::Connection,
    Group::Cluster,
    Group::Runner,
    Group::Machine,
    Group::Vm,
    Group::Run,
    Group::Consent,
    Group::Output,
];

/// The word by which the completion scripts ask for candidates. It is no command: what follows is a command line.
pub const COMPLETE: &str = "__complete";

/// The whole command line.
pub fn command(steps: &[StepHelp]) -> Command {
    let styles =
        Styles::styled().header(AnsiColor::Green.on_default().bold()).literal(AnsiColor::Cyan.on_default());
    let mut root = with(Command::new("outrigger"), |_| false, &[])
        .bin_name(program())
        .version(env!("CARGO_PKG_VERSION"))
        .about("Set up a GitLab Runner outside a Kubernetes cluster that runs every job as a pod in it")
        .styles(styles)
        .max_term_width(100)
        .subcommand_required(true)
        // As kubectl does: of a flag given twice, the last one counts.
        .args_override_self(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);

    let setup = with(Command::new("setup"), |_| true, SETUP_FLAGS)
        .about("Set up the deployment: show the plan and apply it");
    root = root.subcommand(with_examples(setup));
    for step in steps {
        debug_assert!(step.keys.iter().all(|key| setting(key).is_some()), "{}: unknown key", step.name);
        debug_assert!(
            step.flags.iter().all(|flag| rows().any(|row| row.flag == *flag)),
            "{}: unknown flag",
            step.name
        );
        let flags = [step.flags, STEP_FLAGS].concat();
        let command = with(Command::new(step.name), |key| step.keys.contains(&key), &flags);
        root = root.subcommand(with_examples(command.about(step.about).long_about(step.long)));
    }
    let others = [
        with(Command::new("render"), is_no_consent, &["plan"])
            .about("Print the deployment's Kubernetes manifests and change nothing in the cluster")
            .long_about(
                "Prints namespaces, ServiceAccounts, Role, RoleBinding and the token Secret as YAML documents, for an \
                 administrator or a Git repository to apply; setup then uses them as its own. They contain no secret. \
                 The record on this machine notes that these objects are expected, so run setup on this machine too. \
                 A token with --token-lifetime is requested by setup, and has no manifest.\n\n\
                 --plan prints instead what setup would do with these settings, in the cluster, in GitLab and for the \
                 machine, as one JSON document. It reads what is there, writes nothing, and contains no secret.",
            ),
        with(Command::new("rotate"), |key| ROTATE.contains(&key), ROTATE_FLAGS)
            .about("Replace the cluster token, the runner's token, or both, without a failed job")
            .long_about(
                "cluster: issues a second cluster token beside the current one, proves it, brings it to the host, and \
                 deletes the old one when no job that may use it runs any more (--wait limits that time; the same \
                 command goes on). No moment is without a valid token.\n\n\
                 runner: GitLab ends the old runner authentication token when it issues the new one. So the host of \
                 --host is reached and reserved first, and gets the new token at once; jobs queue meanwhile.\n\n\
                 Without --host outrigger writes the script and you run it on the host; a second command then deletes \
                 the old cluster token.",
            )
            .arg(
                Arg::new("which")
                    .value_name("TOKEN")
                    .required(true)
                    .value_parser(["cluster", "runner", "all"])
                    .help("The token"),
            ),
        with(Command::new("upgrade"), |key| UPGRADE.contains(&key), STEP_FLAGS)
            .about("Bring another version of gitlab-runner to the host, without a failed job")
            .long_about(
                "Pauses the runner in GitLab, waits until its jobs have ended (--wait), installs the version of \
                 --runner-version on the host of --host, and waits until GitLab has seen the runner again. If the new \
                 version does not come online, the old one is installed again (exit 9). The runner then takes jobs as \
                 before. --runner-version latest-known, the default, is the newest version that this version of \
                 outrigger knows.",
            ),
        with(Command::new("teardown"), |key| PLACES.contains(&key), TEARDOWN_FLAGS)
            .about("Remove everything that setup created"),
        with(Command::new("status"), is_no_consent, &["machine"])
            .about("Compare the deployment with its settings, and look at its health"),
        with(Command::new("list"), |_| false, &["live", "no-headers"])
            .about("List the deployments recorded on this machine"),
        with(Command::new("config"), |_| false, &[])
            .about("Look at the settings")
            .subcommand_required(true)
            .disable_help_subcommand(true)
            .subcommand(with_examples(
                with(Command::new("print"), is_no_consent, &[])
                    .about("Print every setting with its value and its source; contacts no server"),
            ))
            .subcommand(with_examples(
                with(Command::new("schema"), |_| false, &[])
                    .about("Print the JSON Schema of the settings file"),
            )),
        with(Command::new("explain"), |_| false, &[])
            .about("Explain a failure, or list all failures")
            .arg(Arg::new("id").value_name("ID").help("Id of the failure, for example OR0306 or 0306")),
        with(Command::new("completion"), |_| false, &[])
            .about("Print a completion script for a shell")
            .long_about(completion::LONG)
            .arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(completion::SHELLS.map(|(name, _)| name))
                    .help("The shell"),
            ),
        with(Command::new("man"), |_| false, &[])
            .about("Print the manual page of outrigger or of a command, in roff")
            .arg(words_of("COMMAND", "The command; none: outrigger itself")),
        with(Command::new("version"), |_| false, &[])
            .about("Print version, commit, platform and the default version of gitlab-runner"),
        with(Command::new("help"), |_| false, &[])
            .about("Print the help of a command, or a topic")
            .arg(words_of("COMMAND|TOPIC", "The command or topic; none: outrigger itself")),
    ];
    with_examples(root.subcommands(others.map(with_examples)))
}

/// Adds the examples to the end of a command's help, and the topics to that of outrigger itself and of `help`.
fn with_examples(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let [short, long] = help::examples(&name);
    if !matches!(name.as_str(), "outrigger" | "help") {
        return command.after_help(short).after_long_help(long);
    }
    let [names, table] = help::lists();
    command.after_help(format!("{short}\n\n{names}")).after_long_help(format!("{long}\n\n{table}"))
}

fn words_of(name: &'static str, help: &'static str) -> Arg {
    Arg::new("words").value_name(name).action(ArgAction::Append).num_args(0..).help(help)
}

/// Parses the arguments, the program's name first. Help and version arrive as errors, as in clap.
pub fn parse(args: Vec<OsString>, steps: &[StepHelp]) -> Result<(Invocation, ArgMatches), clap::Error> {
    if args.get(1).is_some_and(|word| word == COMPLETE) {
        let words = args.into_iter().skip(2).collect();
        return Ok((Invocation::Complete(words), ArgMatches::default()));
    }
    let mut matches = command(steps).try_get_matches_from(args)?;
    let (name, mut matches) =
        matches.remove_subcommand().unwrap_or_else(|| (String::new(), ArgMatches::default()));
    let invocation = match name.as_str() {
        "setup" => Invocation::Setup,
        "render" => Invocation::Render,
        "rotate" => Invocation::Rotate(matches.get_one::<String>("which").cloned().unwrap_or_default()),
        "upgrade" => Invocation::Upgrade,
        "teardown" => Invocation::Teardown,
        "status" => Invocation::Status,
        "list" => Invocation::List,
        "config" => {
            let (name, inner) = matches.remove_subcommand().unwrap_or_default();
            matches = inner;
            if name == "schema" { Invocation::PrintSchema } else { Invocation::PrintConfig }
        }
        "explain" => Invocation::Explain(matches.get_one::<String>("id").cloned()),
        "completion" => {
            Invocation::Completion(matches.get_one::<String>("shell").cloned().unwrap_or_default())
        }
        "man" => Invocation::Man(words_in(&matches)),
        "version" => Invocation::Version,
        "help" => Invocation::Topic(topic(&words_in(&matches), steps)?),
        _ => Invocation::Step(name),
    };
    Ok((invocation, matches))
}

/// The output format that the arguments ask for, read without the rest of them, so that a usage error is reported in
/// it too.
pub fn output(args: &[OsString], env: &BTreeMap<String, String>) -> Output {
    let mut asked = env.get("OUTRIGGER_OUTPUT").map(String::as_str).unwrap_or_default();
    let words = args.iter().skip(1).map(|word| word.to_str().unwrap_or_default());
    let mut words = words.take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        // Switches may come before the `o`: -vo json.
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let short = short
            .map(|rest| rest.trim_start_matches(['v', 'q', 'y']))
            .and_then(|rest| rest.strip_prefix('o'));
        match word.strip_prefix("--output").or(short) {
            Some("") => asked = words.next().unwrap_or_default(),
            Some(value) if short.is_some() || value.starts_with('=') => {
                asked = value.strip_prefix('=').unwrap_or(value);
            }
            _ => {}
        }
    }
    if asked == Output::Json.word() { Output::Json } else { Output::default() }
}

fn words_in(matches: &ArgMatches) -> Vec<String> {
    matches.get_many::<String>("words").into_iter().flatten().cloned().collect()
}

/// The topic of `outrigger help WORDS`. The help of a command arrives as an error, as in clap.
fn topic(words: &[String], steps: &[StepHelp]) -> Result<&'static Topic, clap::Error> {
    if let [word] = words
        && let Some(topic) = Topic::find(word)
    {
        return Ok(topic);
    }
    let line = ["outrigger"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    let mut root = command(steps);
    let names = root.clone();
    let names: Vec<&str> = names.get_subcommands().map(Command::get_name).collect();
    match root.try_get_matches_from_mut(line) {
        Err(error) if !error.use_stderr() => Err(error),
        _ => Err(unknown_topic(words, &names)),
    }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    SETTINGS.iter().chain(OPTIONS)
}

/// The options of a command: those that every command accepts, the settings of these keys, and these flags.
fn with(command: Command, key: impl Fn(&str) -> bool, flags: &[&str]) -> Command {
    let settings = SETTINGS.iter().filter(|row| key(row.key) || flags.contains(&row.flag));
    let options = OPTIONS.iter().filter(|row| flags.contains(&row.flag));
    let own: Vec<_> = settings.chain(options).filter(|row| !row.group.is_global()).collect();
    let all: Vec<_> = rows().filter(|row| row.group.is_global()).chain(own.iter().copied()).collect();
    let in_order = GROUPS.iter().flat_map(|group| all.iter().filter(move |row| row.group == *group));
    let old =
        |(flag, _): &(&'static str, _)| Arg::new(*flag).long(*flag).hide(true).action(ArgAction::SetTrue);
    let is_list = command.get_name() == "list";
    let shown = |row: &Row| {
        let hidden = row.group.is_global() || own.len() > SHORT;
        arg(row, is_list).hide_short_help(hidden && !COMMON.contains(&row.flag)).global(row.group.is_global())
    };
    command.args(in_order.flat_map(|row| row.aliases.iter().map(old).chain([shown(row)])))
}

fn arg(row: &Row, is_list: bool) -> Arg {
    let mut arg = Arg::new(row.flag).long(row.flag).help_heading(row.group.heading());
    // The choices come before the default.
    let (what, default) = row.help.find(" [default").map_or((row.help, ""), |at| row.help.split_at(at));
    let of_list = |choice: &&str| row.flag == "output" && *choice == Output::Name.word();
    let choices: Vec<&str> = row.choices.iter().filter(|one| is_list || !of_list(one)).copied().collect();
    let help = if choices.is_empty() {
        row.help.to_owned()
    } else {
        format!("{what}: {}{default}", choices.join(", "))
    };
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

#[cfg(test)]
mod tests {
    use super::{Invocation, StepHelp, command, parse};
    use crate::commands::help::Topic;

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
        assert_eq!(
            names,
            [
                "setup",
                "create-role",
                "render",
                "rotate",
                "upgrade",
                "teardown",
                "status",
                "list",
                "config",
                "explain",
                "completion",
                "man",
                "version",
                "help"
            ]
        );
    }

    #[test]
    fn invocations() {
        let what = |line| parse(args(line), STEPS).map(|(what, _)| what).expect(line);
        assert_eq!(what("outrigger setup -n jobs -v --dry-run"), Invocation::Setup);
        assert_eq!(
            what("outrigger -v create-role --force-conflicts"),
            Invocation::Step("create-role".to_owned())
        );
        assert_eq!(what("outrigger explain OR0101"), Invocation::Explain(Some("OR0101".to_owned())));
        let (_, matches) =
            parse(args("outrigger --context a status --context b"), STEPS).expect("twice is fine");
        assert_eq!(matches.get_one::<String>("context").map(String::as_str), Some("b"));
    }

    #[test]
    fn mistakes_are_usage_errors_with_a_suggestion() {
        for line in [
            "outrigger stauts",
            "outrigger setup --namespac x",
            "outrigger create-role --prune",
            // These change nothing, so there is nothing to consent to.
            "outrigger status --prune",
            "outrigger config print --accept lifetime",
            "outrigger",
        ] {
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
        let help = |words: &str| parse(args(&format!("outrigger help {words}")), STEPS);
        assert!(help("setup").expect_err("help").to_string().contains("--gitlab-url"));
        for (command, choices) in
            [("list", "human, json, name\n"), ("setup", "human, json\n"), ("", "human, json\n")]
        {
            let text = parse(args(&format!("outrigger {command} --help").replace("  ", " ")), STEPS);
            let text = text.expect_err("help").to_string();
            assert!(text.contains(&format!("Output format: {choices}")), "{command}: {text}");
        }
        assert_eq!(
            help("exit-codes").expect("a topic").0,
            Invocation::Topic(Topic::find("exit-codes").expect("one"))
        );
        for words in ["no-such", "config no-such"] {
            assert_eq!(help(words).expect_err(words).exit_code(), 2, "{words}");
        }
    }
}
