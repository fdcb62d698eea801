//! Flag > environment > settings file > record > default, for every row of the table alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{self, escaped};
use super::file::{self, FileValues};
use super::metadata;
use super::options::{finish, from_env, given};
use super::table::{self, Group, Row};
use super::{
    DEFAULT_DEPLOYMENT, DEFAULT_IMAGE, DEFAULT_INSTALL_METHOD, DEFAULT_PIPELINE_SCRIPT, DEFAULT_POD_SECURITY,
    DEFAULT_TAGS, DEFAULT_TARGET, DEFAULT_TIMEOUT, DEFAULT_WAIT, Inputs, Reissue, Settings, Source, Sourced,
};
use crate::base::error::Result;

/// The two values needed before the record can be read.
pub fn deployment_and_state_dir(inputs: &Inputs) -> Result<(Sourced<String>, PathBuf)> {
    let mut read = Reader::new(inputs)?;
    let found = (read.deployment(), read.state_dir());
    finish(found, read.problems)
}

/// Resolves all settings, or names all problems at once.
pub fn resolve(inputs: &Inputs) -> Result<Settings> {
    let mut read = Reader::new(inputs)?;
    let deployment = read.deployment();
    let or_default = |found: Option<Sourced<String>>, default: &str| {
        found.unwrap_or_else(|| Sourced::new(default.to_owned(), Source::Default))
    };
    let namespace =
        or_default(read.one("namespace", check::namespace), &format!("{}-jobs", deployment.value));
    let runner_namespace = or_default(read.one("runnerNamespace", check::namespace), &deployment.value);
    let tags = read.tags();
    let settings = Settings {
        kubeconfig: read.kubeconfig(),
        context: read.one("context", check::text),
        anchor_uid: read.one("anchorUid", check::uid),
        as_user: read.one("as", check::text).map(|found| found.value),
        request_timeout: read.duration("requestTimeout").map(|found| found.value).filter(|d| !d.is_zero()),
        use_namespaces: read.use_namespaces(&namespace, &runner_namespace),
        accept_shared_namespace: read.flag("acceptSharedNamespace"),
        allow_temporary_edit: read.flag("allowTemporaryEdit"),
        namespace_labels: read.pairs("namespaceLabels", metadata::label),
        namespace_annotations: read.pairs("namespaceAnnotations", metadata::annotation),
        kubernetes_host: read.one("kubernetesHost", check::url),
        gitlab_url: read.one("gitlabUrl", check::gitlab_url),
        gitlab_token_file: read.path("gitlabTokenFile"),
        gitlab_ca_file: read.path("gitlabCaFile"),
        project: read.one("project", check::project),
        group: read.one("group", check::project),
        instance_runner: read.flag("instanceRunner"),
        runner_token_file: read.path("runnerTokenFile"),
        runner_token_out: read.path("runnerTokenOut"),
        legacy_registration_token_file: read.path("legacyRegistrationTokenFile"),
        tags: tags.unwrap_or_else(|| Sourced::new(vec![DEFAULT_TAGS.to_owned()], Source::Default)),
        image: or_default(read.one("image", check::image), DEFAULT_IMAGE),
        pipeline_script: read
            .many("pipelineScript", check::text)
            .unwrap_or_else(|| Sourced::new(vec![DEFAULT_PIPELINE_SCRIPT.to_owned()], Source::Default)),
        branch: read.one("branch", check::branch),
        commit_message: read.many("commitMessage", check::text),
        commit_pipeline: read.flag("commitPipeline"),
        run_pipeline: read.flag("runPipeline"),
        wait: read.positive("wait", DEFAULT_WAIT),
        overwrite_pipeline: read.flag("overwritePipeline"),
        runner_version: or_default(read.one("runnerVersion", check::version), table::DEFAULT_RUNNER_VERSION),
        apt_url: or_default(read.one("aptUrl", check::url), table::DEFAULT_APT_URL),
        key_url: or_default(read.one("keyUrl", check::url), table::DEFAULT_KEY_URL),
        key_fingerprint: or_default(
            read.one("keyFingerprint", check::fingerprint),
            table::DEFAULT_KEY_FINGERPRINT,
        ),
        install_method: or_default(read.one("installMethod", check::text), DEFAULT_INSTALL_METHOD),
        deb_sha256: read.one("debSha256", check::sha256),
        binary_url: read.one("binaryUrl", check::url),
        binary_sha256: read.one("binarySha256", check::sha256),
        job_limit: read
            .one("jobLimit", check::job_limit)
            .unwrap_or_else(|| Sourced::new(table::DEFAULT_JOB_LIMIT, Source::Default)),
        pull_policy: read.one("pullPolicy", check::text),
        runner_config: read.path("runnerConfig"),
        replace_entry: read.flag("replaceEntry"),
        pod_security_level: or_default(read.one("podSecurity", check::text), DEFAULT_POD_SECURITY),
        script: read.path("script"),
        target: or_default(read.one("target", check::text), DEFAULT_TARGET),
        secrets: read.one("secrets", check::text),
        lock_metadata: read.flag("lockMetadata"),
        token_lifetime: read.token_lifetime(),
        accept_lifetime: read.flag("acceptLifetime"),
        reissue: read.reissue(),
        cluster_admin: read.flag("clusterAdmin"),
        keep_admin_binding: read.flag("keepAdminBinding"),
        force_conflicts: read.flag("forceConflicts"),
        prune: read.flag("prune"),
        state_dir: read.state_dir(),
        timeout: read.positive("timeout", DEFAULT_TIMEOUT),
        sources: BTreeMap::new(),
        deployment,
        namespace,
        runner_namespace,
    };
    if settings.namespace.value == settings.runner_namespace.value {
        let why = "is also the runner's namespace: job pods could read the runner's token there";
        read.problem("--namespace".to_owned(), &settings.namespace.value, why);
    }
    read.at_most_one_runner(&settings);
    read.at_most_one_stdin(&settings);
    finish(Settings { sources: read.sources, ..settings }, read.problems)
}

struct Reader<'a> {
    inputs: &'a Inputs<'a>,
    file: FileValues,
    file_path: PathBuf,
    problems: Vec<(String, String)>,
    sources: BTreeMap<&'static str, Source>,
}

impl<'a> Reader<'a> {
    fn new(inputs: &'a Inputs<'a>) -> Result<Self> {
        let (file_path, file) = match &inputs.file {
            Some((path, text)) => (path.clone(), file::parse(path, text)?),
            None => Default::default(),
        };
        Ok(Self { inputs, file, file_path, problems: Vec::new(), sources: BTreeMap::new() })
    }

    /// The one place where precedence is decided: values, source, and how to name them in a problem.
    fn raw(&self, row: &Row) -> Option<(Vec<String>, Source, String)> {
        let flag = given(self.inputs.matches, row);
        if !flag.is_empty() {
            return Some((flag, Source::Flag(row.dashed), row.dashed.to_owned()));
        }
        if row.group == Group::Consent {
            return None;
        }
        if let Some((values, name)) = from_env(self.inputs.env, row) {
            return Some((values, Source::Environment(name), name.to_owned()));
        }
        if let Some((values, line)) = self.file.get(row.key) {
            let label = format!("{} (line {line})", row.key);
            return Some((values.clone(), Source::File(self.file_path.clone()), label));
        }
        let known = |from: &BTreeMap<String, Vec<String>>| {
            from.get(row.key).filter(|values| row.recorded && !values.is_empty()).cloned()
        };
        if let Some(values) = known(&self.inputs.recorded) {
            return Some((values, Source::Record, format!("{} (recorded)", row.key)));
        }
        let (account, noted) = self.inputs.noted.as_ref()?;
        let values = known(noted)?;
        Some((values, Source::Note(account.clone()), format!("{} (noted on {account})", row.key)))
    }

    fn problem(&mut self, label: String, value: &str, why: &str) {
        self.problems.push((label, format!("{} {why}", escaped(value))));
    }

    fn many<T>(&mut self, key: &str, check: impl Fn(&str) -> Result<T, String>) -> Option<Sourced<Vec<T>>> {
        let row = table::setting(key)?;
        let (values, source, label) = self.raw(row)?;
        if values.is_empty() {
            self.problems.push((label.clone(), "has no value".to_owned()));
        }
        let mut good = Vec::new();
        for value in &values {
            let allowed =
                if row.choices.is_empty() { Ok(()) } else { check::choice(value, row.choices).map(drop) };
            let no_token = check::no_token(value, row.kind == table::Kind::Path);
            match no_token.and_then(|()| check::text(value)).and(allowed).and_then(|()| check(value)) {
                Ok(value) => good.push(value),
                Err(why) => self.problem(label.clone(), value, &why),
            }
        }
        self.sources.insert(row.key, source.clone());
        (!good.is_empty()).then_some(Sourced::new(good, source))
    }

    fn one<T>(&mut self, key: &str, check: impl Fn(&str) -> Result<T, String>) -> Option<Sourced<T>> {
        let found = self.many(key, check)?;
        let source = found.source;
        found.value.into_iter().next_back().map(|value| Sourced::new(value, source))
    }

    fn flag(&mut self, key: &str) -> bool {
        self.one(key, check::boolean).is_some_and(|found| found.value)
    }

    fn duration(&mut self, key: &str) -> Option<Sourced<Duration>> {
        self.one(key, check::duration)
    }

    fn deployment(&mut self) -> Sourced<String> {
        let found = self.one("deployment", check::deployment);
        found.unwrap_or_else(|| Sourced::new(DEFAULT_DEPLOYMENT.to_owned(), Source::Default))
    }

    fn path(&mut self, key: &str) -> Option<Sourced<PathBuf>> {
        let found = self.one(key, check::text)?;
        let (home, beside) = (self.inputs.home.as_deref(), self.file_path.parent());
        let base = if matches!(found.source, Source::File(_)) { beside } else { None };
        Some(Sourced::new(expand(&found.value, home, base), found.source))
    }

    /// `KUBECONFIG` may be a list, which only kubectl's own search understands: then nothing is set,
    /// and neither file nor record may override it.
    fn kubeconfig(&mut self) -> Option<Sourced<PathBuf>> {
        let found = self.path("kubeconfig")?;
        let list =
            found.source == Source::Environment("KUBECONFIG") && found.value.to_string_lossy().contains(':');
        (!list).then_some(found)
    }

    /// Each tag once, and no more than GitLab takes.
    fn tags(&mut self) -> Option<Sourced<Vec<String>>> {
        let mut tags = self.many("tags", check::tag)?;
        let mut seen = std::collections::BTreeSet::new();
        tags.value.retain(|tag| seen.insert(tag.clone()));
        let count = tags.value.len();
        if count > check::MOST_TAGS {
            let why = format!("is one of {count} tags, and GitLab takes at most {}", check::MOST_TAGS);
            self.problem("--tags".to_owned(), &tags.value[check::MOST_TAGS], &why);
        }
        Some(tags)
    }

    /// A runner is created for one scope, or it exists already.
    fn at_most_one_runner(&mut self, settings: &Settings) {
        if settings.instance_runner
            && let Some(group) = &settings.group
        {
            let why = "names a group, and --instance-runner is given, too: a runner is for one of them";
            self.problem("--group".to_owned(), &group.value, why);
        }
        if let (Some(file), Some(_)) = (&settings.runner_token_file, &settings.legacy_registration_token_file)
        {
            let why = "holds the token of an existing runner, and --legacy-registration-token-file would make another";
            self.problem("--runner-token-file".to_owned(), &file.value.to_string_lossy(), why);
        }
    }

    /// stdin can be read once.
    fn at_most_one_stdin(&mut self, settings: &Settings) {
        fn named(file: Option<&Sourced<PathBuf>>) -> Option<&Path> {
            file.map(|file| file.value.as_path())
        }
        let files = [
            ("--config", self.inputs.file.as_ref().map(|(path, _)| path.as_path())),
            ("--gitlab-token-file", named(settings.gitlab_token_file.as_ref())),
            ("--runner-token-file", named(settings.runner_token_file.as_ref())),
            ("--legacy-registration-token-file", named(settings.legacy_registration_token_file.as_ref())),
            ("--runner-config", named(settings.runner_config.as_ref())),
        ];
        let from_stdin = |file: Option<&Path>| file.is_some_and(|file| file.as_os_str() == "-");
        let mut readers = files.iter().filter(|(_, file)| from_stdin(*file)).map(|(flag, _)| *flag);
        if let (Some(first), Some(second)) = (readers.next(), readers.next()) {
            self.problem(second.to_owned(), "-", &format!("is stdin, which {first} reads already"));
        }
    }

    fn use_namespaces(&mut self, jobs: &Sourced<String>, runner: &Sourced<String>) -> Vec<String> {
        let Some(found) = self.many("useNamespaces", check::namespace) else { return Vec::new() };
        let (used, stray): (Vec<_>, Vec<_>) =
            found.value.into_iter().partition(|name| *name == jobs.value || *name == runner.value);
        // A recorded one goes stale when a namespace is moved; a given one is a mistake.
        if found.source != Source::Record {
            for name in stray {
                let why = "is neither the job namespace (--namespace) nor the runner's (--runner-namespace)";
                self.problem("--use-namespace".to_owned(), &name, why);
            }
        }
        used
    }

    /// Keys and values; a key that is given twice would hide one of its values.
    fn pairs(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(String, String), String>,
    ) -> Vec<(String, String)> {
        let Some(found) = self.many(key, check) else { return Vec::new() };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in found.value {
            match pairs.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if *known == value => {}
                Some((_, known)) => {
                    let why = format!("gives {name} a second value, beside {}", escaped(known));
                    let label =
                        table::setting(key).map_or_else(|| key.to_owned(), |row| row.dashed.to_owned());
                    self.problem(label, &format!("{name}={value}"), &why);
                }
                None => pairs.push((name, value)),
            }
        }
        pairs
    }

    fn token_lifetime(&mut self) -> Option<Sourced<Duration>> {
        // 0 takes a recorded lifetime back.
        let found = self.one("tokenLifetime", |text| match check::duration(text)? {
            Duration::ZERO => Ok(Duration::ZERO),
            short if short < Duration::from_secs(600) => {
                Err("is shorter than 10m, the least a cluster grants".to_owned())
            }
            fine => Ok(fine),
        });
        found.filter(|found| !found.value.is_zero())
    }

    fn positive(&mut self, key: &str, default: Duration) -> Duration {
        let positive = |text: &str| match check::duration(text)? {
            Duration::ZERO => Err("leaves no time at all".to_owned()),
            fine => Ok(fine),
        };
        self.one(key, positive).map_or(default, |found| found.value)
    }

    fn reissue(&mut self) -> Vec<Reissue> {
        let words = self.many("reissue", check::text).map_or_else(Vec::new, |found| found.value);
        let asked = |word: &str| words.iter().any(|w| w == word || w == "all");
        let all = [("runner", Reissue::Runner), ("cluster", Reissue::Cluster)];
        all.into_iter().filter(|(word, _)| asked(word)).map(|(_, which)| which).collect()
    }

    fn state_dir(&mut self) -> PathBuf {
        if let Some(found) = self.path("stateDir") {
            return found.value;
        }
        // The XDG rule: a relative path is to be ignored.
        let xdg = self.inputs.env.get("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(base) = xdg.or_else(|| self.inputs.home.as_ref().map(|home| home.join(".local/state"))) {
            return base.join("outrigger");
        }
        self.problems.push((
            "--state-dir".to_owned(),
            "is needed, as neither HOME nor XDG_STATE_HOME is set".to_owned(),
        ));
        PathBuf::new()
    }
}

/// Expands `~/`, and puts a relative path beside the file that named it; `-` stays `-`.
fn expand(value: &str, home: Option<&Path>, base: Option<&Path>) -> PathBuf {
    match (value.strip_prefix("~/"), home, base) {
        (Some(rest), Some(home), _) => home.join(rest),
        (None, _, Some(base)) if value != "-" => base.join(value),
        _ => PathBuf::from(value),
    }
}
