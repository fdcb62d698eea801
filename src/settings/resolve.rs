//! Resolves each row of the table in this order: answer to a question, flag, environment, settings file, record,
//! annotation on the ServiceAccount, default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::check::{self, escaped};
use super::file::{self, FileValues, split};
use super::options::OPTIONS;
use super::row::{Group, Kind, Row};
use super::table::SETTINGS;
use super::value::{Place, Reissue, Secrets, Shape, Values};
use super::view::{Missing, listed};
use super::{Inputs, Settings, Source, Sourced, vm};
use crate::base::error::{Command, Failure, Field, Id, Result};
use crate::base::text::count;

/// Values by settings key, in the record and in the annotation.
pub type Remembered = BTreeMap<String, Vec<String>>;

/// Settings of which some may be invalid: these have their defaults here, or no value.
pub struct Draft {
    pub settings: Settings,
    problems: Problems,
}

/// What is wrong with the values that are given.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    /// The settings file and what is wrong with its lines.
    file: Option<(PathBuf, Vec<file::Problem>)>,
    /// The label, which begins with the flag, the variable or the key, and what is wrong.
    values: Vec<(String, String)>,
    /// The keys of the settings that are given and invalid.
    refused: BTreeSet<&'static str>,
}

impl Problems {
    pub fn is_empty(&self) -> bool {
        self.file.is_none() && self.values.is_empty()
    }

    /// Adds an invalid value of this flag.
    pub fn add(&mut self, flag: &str, text: &str) {
        self.values.push((flag.to_owned(), text.to_owned()));
    }

    /// One failure with everything that is wrong or missing; `None` if nothing is. A value that is invalid is not
    /// also missing.
    pub fn failure(self, mut missing: Vec<Missing>) -> Option<Failure> {
        // Without the name of the deployment it is not known what its record holds.
        if ["deployment", "stateDir"].iter().any(|key| self.refused.contains(key)) {
            missing.clear();
        }
        missing.retain(|one| !one.key().is_some_and(|key| self.refused.contains(key)));
        let is_any = !self.is_empty() || !missing.is_empty();
        is_any.then(|| self.told(&missing))
    }

    fn told(self, missing: &[Missing]) -> Failure {
        let said = [(self.values.len(), "invalid value"), (missing.len(), "missing value")];
        let said = said.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(n, what));
        let said = said.collect::<Vec<_>>().join(", ");
        let mut failure = match &self.file {
            Some((path, _)) => {
                let others = if said.is_empty() { said } else { format!("; {said}") };
                Failure::new(Id::SettingsFile, format!("invalid settings file {}{others}", path.display()))
                    .hint(("to list all keys", Command::page("help settings")))
            }
            None if self.values.is_empty() => Failure::new(Id::MissingInput, said),
            None => Failure::new(Id::InvalidInput, said),
        };
        let mixed = !self.is_empty();
        let mut fields = Vec::new();
        for problem in self.file.into_iter().flat_map(|(_, problems)| problems) {
            let label = format!("line {}", problem.line);
            if let Some(row) = problem.row {
                fields.push(field_of(Some(row), &label, &problem.text));
            }
            failure.details.push((label, problem.text));
        }
        fields.extend(self.values.iter().map(|(label, text)| field(label, text)));
        fields.extend(missing.iter().map(Missing::field));
        failure.fields = fields.into();
        failure.details.extend(self.values);
        failure.details.extend(listed(missing, mixed));
        failure
    }
}

/// The failure that lists all missing values (OR0201, exit 2).
pub fn missing_failure(missing: &[Missing]) -> Failure {
    Problems::default().told(missing)
}

impl Draft {
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }

    /// The settings, or the failure for all that is invalid (OR0202, OR0203) together with what is `missing`.
    pub fn finish(self, missing: Vec<Missing>) -> Result<Settings> {
        self.problems.failure(missing).map_or(Ok(self.settings), Err)
    }
}

/// Resolves all settings. Fails as [`draft`], with OR0203 for the settings file, and with OR0202 for all invalid
/// values.
pub fn resolve(
    inputs: &Inputs,
    remembered: impl FnOnce(&Path, &str) -> Result<Remembered>,
) -> Result<Settings> {
    draft(inputs, Problems::default(), remembered)?.finish(Vec::new())
}

/// Resolves the settings as far as they are valid. `options` are the problems of the run's options. `remembered` gets
/// the state directory and the deployment and returns the recorded settings. Fails for a settings file that is not
/// YAML, and with the error of `remembered`.
pub fn draft(
    inputs: &Inputs,
    options: Problems,
    remembered: impl FnOnce(&Path, &str) -> Result<Remembered>,
) -> Result<Draft> {
    let mut read = Reader::new(inputs.matches, inputs.env);
    read.home = inputs.home.as_deref();
    read.noted = inputs.noted.as_ref();
    read.asked = Some(&inputs.asked);
    let mut of_file = None;
    if let Some((path, text)) = &inputs.file {
        let (values, problems) = file::parse(path, text)?;
        read.file = values;
        read.file_path = Some(path);
        read.refused.extend(problems.iter().filter_map(|problem| problem.row).map(|row| row.key));
        of_file = Some((path.clone(), problems)).filter(|(_, problems)| !problems.is_empty());
    }
    // The location of the record depends on settings that are not in the record.
    let mut settings = Settings::read(&mut read);
    let state_dir = read.state_dir(settings.state_dir);
    if !["deployment", "stateDir"].iter().any(|key| read.refused.contains(key)) {
        read.recorded = remembered(&state_dir, &settings.deployment.value)?;
    }
    read.problems.clear();
    settings = Settings::read(&mut read);
    settings.state_dir = read.state_dir(settings.state_dir);
    read.rules(inputs.file.as_ref().map(|(path, _)| path.as_path()), &mut settings);
    let values = options.values.into_iter().chain(read.problems).collect();
    Ok(Draft { settings, problems: Problems { file: of_file, values, refused: read.refused } })
}

/// Reads rows from all sources and collects their problems.
pub struct Reader<'a> {
    matches: &'a ArgMatches,
    env: &'a BTreeMap<String, String>,
    home: Option<&'a Path>,
    file: FileValues,
    file_path: Option<&'a Path>,
    recorded: Remembered,
    noted: Option<&'a (String, Remembered)>,
    asked: Option<&'a Remembered>,
    refused: BTreeSet<&'static str>,
    pub(super) problems: Vec<(String, String)>,
    pub(super) sources: BTreeMap<&'static str, Source>,
}

impl<'a> Reader<'a> {
    /// Reads only the command line and the environment.
    pub(super) fn new(matches: &'a ArgMatches, env: &'a BTreeMap<String, String>) -> Self {
        Self {
            matches,
            env,
            home: None,
            file: FileValues::new(),
            file_path: None,
            recorded: Remembered::new(),
            noted: None,
            asked: None,
            refused: BTreeSet::new(),
            problems: Vec::new(),
            sources: BTreeMap::new(),
        }
    }

    pub(super) fn into_problems(self) -> Problems {
        Problems { file: None, values: self.problems, refused: self.refused }
    }

    /// The field of a row.
    pub(super) fn value<S: Shape>(
        &mut self,
        row: &'static Row,
        check: impl Fn(&str) -> Result<<S::Values as Values>::One, String>,
        default: Option<S::Values>,
    ) -> S {
        let found = self.good(row, check);
        S::of(found.and_then(|(good, source)| Some(Sourced::new(S::Values::of(good)?, source))), default)
    }

    /// Decides the precedence. Returns the values, their source, and the label for a problem.
    fn raw(&self, row: &Row) -> Option<(Vec<String>, Source, String)> {
        if let Some(values) = self.asked.and_then(|asked| asked.get(row.key)) {
            return Some((values.clone(), Source::Asked, "the answer".to_owned()));
        }
        let flag = given(self.matches, row);
        if !flag.is_empty() {
            return Some((flag, Source::Flag(row.dashed), row.dashed.to_owned()));
        }
        if row.group == Group::Consent {
            return None;
        }
        let set = |name: &'static str| Some((self.env.get(name).filter(|value| !value.is_empty())?, name));
        if let Some((value, name)) = row.variables().find_map(set) {
            let values = if row.kind == Kind::List { split(value) } else { vec![value.clone()] };
            return Some((values, Source::Environment(name), name.to_owned()));
        }
        if let (Some((values, line)), Some(path)) = (self.file.get(row.key), self.file_path) {
            let label = format!("{} (line {line})", row.key);
            return Some((values.clone(), Source::File(path.to_owned()), label));
        }
        let known = |from: &Remembered| {
            from.get(row.key).filter(|values| row.recorded && !values.is_empty()).cloned()
        };
        if let Some(values) = known(&self.recorded) {
            return Some((values, Source::Record, format!("{} (recorded)", row.key)));
        }
        let (account, noted) = self.noted?;
        let values = known(noted)?;
        Some((
            values,
            Source::Note(account.clone()),
            format!("{} (annotation on ServiceAccount {account})", row.key),
        ))
    }

    fn problem(&mut self, label: &str, value: &str, why: &str) {
        self.problems.push((label.to_owned(), format!("{} {why}", escaped(value))));
    }

    fn good<T>(
        &mut self,
        row: &'static Row,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(Vec<T>, Source)> {
        if self.asked.and_then(|asked| asked.get(row.key)).is_some_and(Vec::is_empty) {
            self.sources.insert(row.key, Source::Asked);
            return None;
        }
        let (values, source, label) = self.raw(row)?;
        let before = self.problems.len();
        if values.is_empty() {
            self.problems.push((label.clone(), "has no value".to_owned()));
        }
        let mut good = Vec::new();
        for value in &values {
            let is_path = row.kind == Kind::Path;
            let plain = check::no_token(value, is_path).and_then(|()| check::text(value));
            let base = self.file_path.and_then(Path::parent).filter(|_| matches!(source, Source::File(_)));
            let checked =
                plain.and_then(
                    |value| {
                        if is_path { check(&expand(&value, self.home, base)) } else { check(&value) }
                    },
                );
            match checked {
                Ok(value) => good.push(value),
                Err(why) => self.problem(&label, value, &why),
            }
        }
        if self.problems.len() > before {
            self.refused.insert(row.key);
        }
        self.sources.insert(row.key, source.clone());
        Some((good, source))
    }

    /// The rules that concern several settings or several values.
    fn rules(&mut self, file: Option<&Path>, settings: &mut Settings) {
        // `KUBECONFIG` may be a list, which kubectl's search handles: the setting stays empty, and neither file nor
        // record overrides it.
        settings.kubeconfig = settings.kubeconfig.take().filter(|found| {
            found.source != Source::Environment("KUBECONFIG") || !found.value.to_string_lossy().contains(':')
        });
        settings.request_timeout = settings.request_timeout.filter(|limit| !limit.is_zero());
        // A recorded token file is for the GitLab that was recorded with it.
        let recorded_url = self.recorded.get("gitlabUrl").and_then(|values| values.first());
        let same_url = settings.gitlab_url.as_ref().map(|url| &url.value) == recorded_url;
        settings.gitlab_token_file =
            settings.gitlab_token_file.take().filter(|file| file.source != Source::Record || same_url);
        // 0 removes a recorded lifetime.
        settings.token_lifetime = settings.token_lifetime.take().filter(|found| !found.value.is_zero());
        let asked = std::mem::take(&mut settings.reissue);
        settings.reissue = [Reissue::Runner, Reissue::Cluster].into();
        settings.reissue.retain(|which| asked.contains(which) || asked.contains(&Reissue::All));
        self.namespaces(settings);
        self.tags(&mut settings.tags.value);
        self.pairs("--namespace-label", &mut settings.namespace_labels);
        self.pairs("--namespace-annotation", &mut settings.namespace_annotations);
        self.at_most_one_runner(settings);
        self.host(settings);
        self.vm(settings);
        self.at_most_one_stdin(file, settings);
    }

    fn namespaces(&mut self, settings: &mut Settings) {
        let (jobs, runner) = (&settings.namespace.value, &settings.runner_namespace.value);
        if jobs == runner {
            let why = "is also the runner's namespace, where job pods could read the runner's token";
            self.problem("--namespace", jobs, why);
        }
        let (used, stray): (Vec<_>, Vec<_>) = std::mem::take(&mut settings.use_namespaces)
            .into_iter()
            .partition(|name| name == jobs || name == runner);
        settings.use_namespaces = used;
        // A recorded namespace may be outdated after a change of --namespace; a given one is a mistake.
        if settings.sources.get("useNamespaces") != Some(&Source::Record) {
            for name in stray {
                let why = "is neither the job namespace (--namespace) nor the runner's (--runner-namespace)";
                self.problem("--use-namespace", &name, why);
            }
        }
    }

    /// Removes duplicate tags, and refuses more tags than GitLab accepts.
    fn tags(&mut self, tags: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        if let Some(extra) = tags.get(check::MOST_TAGS) {
            let most = check::MOST_TAGS;
            let why = format!("is one of {} tags, but GitLab allows at most {most}", tags.len());
            self.problem("--tags", extra, &why);
        }
    }

    /// Removes duplicate pairs, and refuses a key with two values.
    fn pairs(&mut self, label: &str, pairs: &mut Vec<(String, String)>) {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        pairs.retain(|(name, value)| match seen.get(name) {
            Some(known) => {
                if known != value {
                    let why = format!("sets {name} a second time, after {}", escaped(known));
                    self.problem(label, &format!("{name}={value}"), &why);
                }
                false
            }
            None => seen.insert(name.clone(), value.clone()).is_none(),
        });
    }

    /// `--host` means `--target ssh`. A recorded target gives way.
    fn host(&mut self, settings: &mut Settings) {
        let Some(host) = settings.host.clone() else {
            // In the environment they may be meant for other deployments.
            for (flag, key) in [("--host-key", "hostKeys"), ("--ssh-option", "sshOptions")] {
                let by_flag = matches!(settings.sources.get(key), Some(Source::Flag(_)));
                // An invalid host is refused for itself.
                if by_flag && !self.refused.contains("host") {
                    self.problems.push((flag.to_owned(), "is only for --host".to_owned()));
                }
            }
            return;
        };
        if settings.target.value != Place::Ssh {
            if matches!(settings.target.source, Source::Record | Source::Default) {
                settings.target = Sourced::new(Place::Ssh, host.source);
            } else {
                let why = "cannot be used with --host, which implies ssh";
                self.problem("--target", &settings.target.value.to_string(), why);
            }
        }
        if settings.script.as_ref().is_some_and(|script| script.value.as_os_str() == "-") {
            self.problem("--script", "-", "cannot be used with --host, which needs a file");
        }
    }

    /// `--create-vm` makes the machine for the launch script of Lightsail, with its secrets in a file of their own.
    fn vm(&mut self, settings: &mut Settings) {
        for (flag, list) in [("--ssh-from", &settings.ssh_from), ("--ssh-after", &settings.ssh_after)] {
            if let Some(word) = list.iter().find(|word| [vm::ANYWHERE, vm::NONE].contains(&word.as_str()))
                && list.len() > 1
            {
                self.problem(flag, word, "cannot be used with others");
            }
        }
        if !settings.create_vm {
            for row in SETTINGS.iter().filter(|row| row.group == Group::Vm && row.key != "vmArn") {
                // In the environment they may be meant for other programs or deployments.
                if settings.view(row.key).is_some_and(|(_, source)| matches!(source, Source::Flag(_))) {
                    self.problems.push((row.dashed.to_owned(), "is only for --create-vm".to_owned()));
                }
            }
            return;
        }
        if let Some(host) = &settings.host {
            let is_recorded = settings.sources.get("createVm").is_some_and(Source::is_remembered);
            let (label, why) = if host.source.is_remembered() {
                let host = escaped(&host.value);
                (
                    "--create-vm",
                    format!("cannot be used: the runner is recorded on --host {host}; teardown first"),
                )
            } else if is_recorded {
                (
                    "--host",
                    "cannot be used: the runner is recorded on a VM of --create-vm; teardown first"
                        .to_owned(),
                )
            } else {
                ("--create-vm", format!("cannot be used with --host {}", escaped(&host.value)))
            };
            self.problems.push((label.to_owned(), why));
        }
        if settings.target.value != Place::Lightsail {
            if matches!(settings.target.source, Source::Flag(_) | Source::Environment(_) | Source::File(_)) {
                let why = "cannot be used with --create-vm, which is for lightsail";
                self.problem("--target", &settings.target.value.to_string(), why);
            } else {
                settings.target = Sourced::new(Place::Lightsail, settings.target.source.clone());
            }
        }
        if settings
            .secrets
            .as_ref()
            .is_some_and(|how| how.value == Secrets::Inline && !how.source.is_remembered())
        {
            let why = "cannot be used with --create-vm: no secret is in the instance's user data";
            self.problem("--secrets", "inline", why);
        }
        if settings.script.as_ref().is_some_and(|script| script.value.as_os_str() == "-") {
            self.problem("--script", "-", "cannot be used with --create-vm, which needs a file");
        }
        if settings.lock_metadata
            && settings.sources.get("lockMetadata").is_some_and(|source| !source.is_remembered())
        {
            let why =
                "is not needed with --create-vm: the instance has no user data, and tokens are required";
            self.problems.push(("--lock-metadata".to_owned(), why.to_owned()));
        }
    }

    fn at_most_one_runner(&mut self, settings: &Settings) {
        if settings.instance_runner
            && let Some(group) = &settings.group
        {
            let why =
                "cannot be used with --instance-runner: a runner is either for a group or for the instance";
            self.problem("--group", &group.value, why);
        }
        if let (Some(file), Some(_)) = (&settings.runner_token_file, &settings.legacy_registration_token_file)
        {
            let why = "is for an existing runner and cannot be used with --legacy-registration-token-file, which creates one";
            self.problem("--runner-token-file", &file.value.to_string_lossy(), why);
        }
    }

    fn at_most_one_stdin(&mut self, config: Option<&Path>, settings: &Settings) {
        let config = config.filter(|path| path.as_os_str() == "-").map(|_| "--config");
        let mut readers = config.into_iter().chain(settings.read_from_stdin().map(|row| row.dashed));
        if let (Some(first), Some(second)) = (readers.next(), readers.next()) {
            self.problem(second, "-", &format!("is stdin, which {first} already reads"));
        }
    }

    /// The given state directory, or the default of the XDG specification.
    fn state_dir(&mut self, given: PathBuf) -> PathBuf {
        if !given.as_os_str().is_empty() {
            return given;
        }
        // The XDG specification requires to ignore a relative path.
        let xdg = self.env.get("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(base) = xdg.or_else(|| self.home.map(|home| home.join(".local/state"))) {
            return base.join("outrigger");
        }
        self.refused.insert("stateDir");
        self.problems.push((
            "--state-dir".to_owned(),
            "is required because neither HOME nor XDG_STATE_HOME is set".to_owned(),
        ));
        PathBuf::new()
    }
}

/// The field of a flag of the command line; `None` if there is no such flag.
pub fn field_of_flag(flag: &str, text: &str) -> Option<Field> {
    Some(field(flag, text)).filter(|field| field.flag.is_some())
}

/// The field of a problem, whose label begins with the flag, the variable or the key.
fn field(label: &str, text: &str) -> Field {
    let name = label.split(' ').next().unwrap_or_default();
    let is = |row: &&Row| row.dashed == name || row.key == name || row.variables().any(|one| one == name);
    field_of(SETTINGS.iter().chain(OPTIONS).find(is), label, text)
}

fn field_of(row: Option<&'static Row>, label: &str, text: &str) -> Field {
    Field {
        label: label.to_owned(),
        missing: false,
        flag: row.map(|row| row.dashed),
        variable: row.and_then(Row::env_name),
        key: row
            .filter(|row| row.group != Group::Consent && SETTINGS.iter().any(|one| one.key == row.key))
            .map(|row| row.key),
        text: text.to_owned(),
    }
}

/// The flag's values on the command line; empty if it is absent or not a flag of this subcommand.
fn given(matches: &ArgMatches, row: &Row) -> Vec<String> {
    match row.kind {
        Kind::Bool => {
            let flags = row.aliases.iter().map(|(flag, _)| *flag).chain([row.flag]);
            let mut flags = flags.map(|flag| matches.try_get_one::<bool>(flag));
            let is_set = flags.any(|set| matches!(set, Ok(Some(true))));
            if is_set { vec!["true".to_owned()] } else { Vec::new() }
        }
        Kind::Count => match matches.try_get_one::<u8>(row.flag) {
            Ok(Some(count)) if *count > 0 => vec![count.to_string()],
            _ => Vec::new(),
        },
        kind => {
            let set = |flag| matches.try_get_one::<bool>(flag).ok().flatten() == Some(&true);
            let aliased =
                row.aliases.iter().filter(|(flag, _)| set(flag)).map(|(_, value)| (*value).to_owned());
            let values = matches.try_get_many::<String>(row.flag).ok().flatten().into_iter().flatten();
            match kind {
                Kind::List => values.flat_map(|value| split(value)).chain(aliased).collect(),
                _ => values.cloned().collect(),
            }
        }
    }
}

/// Expands `~/`, and resolves a relative path against the settings file's directory; `-` stays `-`.
fn expand(value: &str, home: Option<&Path>, base: Option<&Path>) -> String {
    let path = match (value.strip_prefix("~/"), home, base) {
        (Some(rest), Some(home), _) => home.join(rest),
        (None, _, Some(base)) if value != "-" => base.join(value),
        _ => return value.to_owned(),
    };
    path.to_string_lossy().into_owned()
}
