//! THE table of settings and run options: command line, environment, settings file, help pages and
//! the record all derive from it. To add a setting, add a row here and a field in [`super::Settings`].

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A switch: present on the command line, `true` or `false` elsewhere.
    Bool,
    /// A switch that counts (`-vv`).
    Count,
    /// One value.
    Text,
    /// Several values: repeated or separated by commas; a YAML list in the file.
    List,
    /// Several values that may hold commas: repeated; a YAML list in the file.
    Lines,
    /// A file or directory; `~/` is expanded, and in the settings file it is relative to that file.
    Path,
    /// `90s`, `5m`, `24h`, `7d`.
    Duration,
}

/// Under which heading of the help a flag stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Which deployment, which cluster: accepted by every command.
    Connection,
    /// How to talk to the user: accepted by every command.
    Output,
    /// Where things live in the cluster.
    Cluster,
    /// GitLab and the runner.
    Runner,
    /// The machine that the runner is on.
    Machine,
    /// What the user agrees to.
    Consent,
    /// Which part of the work, and how far.
    Run,
}

impl Group {
    /// The heading shown in the help.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Group::Connection => "Deployment and cluster",
            Group::Output => "Output",
            Group::Cluster => "In the cluster",
            Group::Runner => "GitLab and the runner",
            Group::Machine => "The runner's machine",
            Group::Consent => "What you agree to",
            Group::Run => "How far to go",
        }
    }

    /// True for the groups every command accepts.
    #[must_use]
    pub fn is_global(self) -> bool {
        matches!(self, Group::Connection | Group::Output)
    }
}

/// One setting or run option.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its key in the settings file and the record; for run options, which have none, the flag.
    pub key: &'static str,
    /// The long flag without dashes; also the id of the clap argument.
    pub flag: &'static str,
    /// The long flag with dashes, as users see it.
    pub dashed: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// Environment variables, the strongest first; empty where the environment has no say.
    pub env: &'static [&'static str],
    /// How the help names the value.
    pub value: &'static str,
    /// The values allowed, where they are few.
    pub choices: &'static [&'static str],
    /// What the value looks like.
    pub kind: Kind,
    /// The heading it stands under.
    pub group: Group,
    /// Whether the record keeps it for the next run. Consent is never recorded.
    pub recorded: bool,
    /// The default, where the record keeps other values only: a later version's default then counts.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

impl Row {
    const fn new(
        key: &'static str,
        dashed: &'static str,
        env: &'static [&'static str],
        value: &'static str,
        kind: Kind,
        group: Group,
        help: &'static str,
    ) -> Self {
        let flag = dashed.split_at(2).1;
        Self {
            key,
            flag,
            dashed,
            short: None,
            env,
            value,
            choices: &[],
            kind,
            group,
            recorded: false,
            default: None,
            help,
        }
    }

    const fn option(
        dashed: &'static str,
        env: &'static [&'static str],
        value: &'static str,
        kind: Kind,
        group: Group,
        help: &'static str,
    ) -> Self {
        Self::new(dashed.split_at(2).1, dashed, env, value, kind, group, help)
    }

    const fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// Recorded where it was given. The default is not: a newer version of outrigger knows better where
    /// GitLab's packages and their key are.
    const fn recorded_unless(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self.recorded()
    }

    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    /// The variable to name to a user: the field's own name where there is one, else ours.
    #[must_use]
    pub fn env_name(&self) -> Option<&'static str> {
        self.env.iter().find(|name| !name.starts_with("OUTRIGGER_")).or(self.env.first()).copied()
    }

    /// `--flag VALUE`, as it is written in help and errors.
    #[must_use]
    pub fn usage(&self) -> String {
        if self.value.is_empty() { self.dashed.to_owned() } else { format!("{} {}", self.dashed, self.value) }
    }
}

use Group::{Cluster, Connection, Consent, Machine, Output, Run, Runner};
use Kind::{Bool, Count, Duration, Lines, List, Path, Text};

/// Where a launch script can run; what each place is stands in [`crate::machine::target`].
pub const TARGETS: &[&str] = &[
    "lightsail",
    "ec2",
    "gce",
    "azure",
    "digitalocean",
    "hetzner",
    "openstack",
    "ssh",
    "cloud-config",
    "nocloud",
];
/// The runner version installed when none is named.
pub const DEFAULT_RUNNER_VERSION: &str = "19.4.1";
/// Where gitlab-runner's packages come from.
pub const DEFAULT_APT_URL: &str = "https://packages.gitlab.com/runner/gitlab-runner";
/// Where the key that signs them comes from.
pub const DEFAULT_KEY_URL: &str = "https://packages.gitlab.com/gpgkey/gpg.key";
/// The fingerprint that key must have.
pub const DEFAULT_KEY_FINGERPRINT: &str = "F6403F6544A38863DAA0B6E03F01618A51312F3F";

/// How many jobs run at once when nobody says.
pub const DEFAULT_JOB_LIMIT: u32 = 4;

/// Every setting, in the order help and commands show them.
#[rustfmt::skip]
pub const SETTINGS: &[Row] = &[
    Row::new("deployment", "--deployment", &["OUTRIGGER_DEPLOYMENT"], "NAME", Text, Connection,
        "Name of the deployment [default: kubernetes-runner]"),
    Row::new("kubeconfig", "--kubeconfig", &["OUTRIGGER_KUBECONFIG", "KUBECONFIG"], "PATH", Path, Connection,
        "The kubeconfig to use").recorded(),
    Row::new("context", "--context", &["OUTRIGGER_CONTEXT"], "NAME", Text, Connection,
        "The kubeconfig context to use [default: the recorded, else the current one]").recorded(),
    Row::new("anchorUid", "--anchor-uid", &["OUTRIGGER_ANCHOR_UID"], "UID", Text, Connection,
        "The uid of the deployment's ServiceAccount, where this machine has no record; setup prints it"),
    Row::new("as", "--as", &["OUTRIGGER_AS"], "USER", Text, Connection,
        "User to impersonate, as with kubectl"),
    Row::new("requestTimeout", "--request-timeout", &["OUTRIGGER_REQUEST_TIMEOUT"], "DURATION", Duration, Connection,
        "Longest time for a single request; 0 sets no limit beside --timeout"),
    Row::new("timeout", "--timeout", &["OUTRIGGER_TIMEOUT"], "DURATION", Duration, Connection,
        "Longest time for a wait [default: 5m]"),
    Row::new("stateDir", "--state-dir", &["OUTRIGGER_STATE_DIR"], "DIR", Path, Connection,
        "Where records and scripts are kept [default: $XDG_STATE_HOME/outrigger]"),
    Row::new("namespace", "--namespace", &["OUTRIGGER_NAMESPACE"], "NAME", Text, Cluster,
        "Namespace of the job pods [default: <deployment>-jobs]").short('n').recorded(),
    Row::new("runnerNamespace", "--runner-namespace", &["OUTRIGGER_RUNNER_NAMESPACE"], "NAME", Text, Cluster,
        "Namespace of the runner's own account [default: <deployment>]").recorded(),
    Row::new("useNamespaces", "--use-namespace", &["OUTRIGGER_USE_NAMESPACE"], "NAME", List, Cluster,
        "Use this existing namespace as it is; may be repeated").recorded(),
    Row::new("podSecurity", "--pod-security", &["OUTRIGGER_POD_SECURITY"], "LEVEL", Text, Cluster,
        "Pod Security level of the job namespace [default: baseline]").choices(&["baseline", "restricted", "privileged"]).recorded(),
    Row::new("namespaceLabels", "--namespace-label", &["OUTRIGGER_NAMESPACE_LABEL"], "KEY=VALUE", List, Cluster,
        "A label for the namespaces that are created, for policies that ask for it; may be repeated").recorded(),
    Row::new("namespaceAnnotations", "--namespace-annotation", &["OUTRIGGER_NAMESPACE_ANNOTATION"], "KEY=VALUE", Lines, Cluster,
        "An annotation for the namespaces that are created; may be repeated").recorded(),
    Row::new("kubernetesHost", "--kubernetes-host", &["OUTRIGGER_KUBERNETES_HOST"], "URL", Text, Cluster,
        "The API server as the runner will dial it [default: the kubeconfig's]").recorded(),
    Row::new("tokenLifetime", "--token-lifetime", &["OUTRIGGER_TOKEN_LIFETIME"], "DURATION", Duration, Cluster,
        "Issue a token that expires, at least 10m; 0: one that does not [default: 0]").recorded(),
    Row::new("gitlabUrl", "--gitlab-url", &["OUTRIGGER_GITLAB_URL", "GITLAB_URL", "GITLAB_HOST", "GITLAB_URI", "GL_HOST"], "URL", Text, Runner,
        "The GitLab instance; there is no default").recorded(),
    Row::new("gitlabTokenFile", "--gitlab-token-file", &["OUTRIGGER_GITLAB_TOKEN_FILE"], "PATH", Path, Runner,
        "File with your GitLab access token; - reads stdin [default: $GITLAB_TOKEN]"),
    Row::new("gitlabCaFile", "--gitlab-ca-file", &["OUTRIGGER_GITLAB_CA_FILE"], "PATH", Path, Runner,
        "CA certificates that verify GitLab, here and on the VM [default: the system's]").recorded(),
    Row::new("project", "--project", &["OUTRIGGER_PROJECT"], "PATH|ID", Text, Runner,
        "The GitLab project that the runner and the pipeline are for").recorded(),
    Row::new("group", "--group", &["OUTRIGGER_GROUP"], "PATH|ID", Text, Runner,
        "Create a group runner for this GitLab group instead of a project runner").recorded(),
    Row::new("instanceRunner", "--instance-runner", &["OUTRIGGER_INSTANCE_RUNNER"], "", Bool, Runner,
        "Create an instance runner instead of a project runner").recorded(),
    Row::new("runnerTokenFile", "--runner-token-file", &["OUTRIGGER_RUNNER_TOKEN_FILE"], "PATH", Path, Runner,
        "Use the existing runner whose authentication token (glrt-…) is in this file; - reads stdin"),
    Row::new("runnerTokenOut", "--runner-token-out", &["OUTRIGGER_RUNNER_TOKEN_OUT"], "FILE", Path, Runner,
        "Where create-runner by itself writes the new runner's token"),
    Row::new("legacyRegistrationTokenFile", "--legacy-registration-token-file", &["OUTRIGGER_LEGACY_REGISTRATION_TOKEN_FILE"], "PATH", Path, Runner,
        "Register the article's way, on instances that still allow it; - reads stdin"),
    Row::new("tags", "--tags", &["OUTRIGGER_TAGS"], "TAG,…", List, Runner,
        "Tags of the runner [default: k8s-runner]").recorded(),
    Row::new("image", "--image", &["OUTRIGGER_IMAGE"], "IMAGE", Text, Runner,
        "Image of jobs that name none, and of the pipeline's job [default: alpine:latest]").recorded(),
    Row::new("pipelineScript", "--pipeline-script", &["OUTRIGGER_PIPELINE_SCRIPT"], "COMMAND", Lines, Runner,
        "A command of the pipeline's job; may be repeated [default: echo \"hello world!\"]").recorded(),
    Row::new("branch", "--branch", &["OUTRIGGER_BRANCH"], "NAME", Text, Runner,
        "Branch of the pipeline file, made if it is missing [default: the project's]").recorded(),
    Row::new("commitMessage", "--commit-message", &["OUTRIGGER_COMMIT_MESSAGE"], "TEXT", Lines, Runner,
        "Message of the pipeline file's commit; each repetition is a paragraph, as with git commit -m").recorded(),
    Row::new("runnerVersion", "--runner-version", &["OUTRIGGER_RUNNER_VERSION"], "VERSION", Text, Machine,
        "Version of gitlab-runner [default: 19.4.1]").recorded(),
    Row::new("aptUrl", "--apt-url", &[], "URL", Text, Machine,
        "Where gitlab-runner's packages come from").recorded_unless(DEFAULT_APT_URL),
    Row::new("keyUrl", "--key-url", &[], "URL", Text, Machine,
        "Where the key that signs them comes from").recorded_unless(DEFAULT_KEY_URL),
    Row::new("keyFingerprint", "--key-fingerprint", &[], "HEX", Text, Machine,
        "The fingerprint that key must have, 40 hex digits").recorded_unless(DEFAULT_KEY_FINGERPRINT),
    Row::new("installMethod", "--install-method", &["OUTRIGGER_INSTALL_METHOD"], "METHOD", Text, Machine,
        "How gitlab-runner comes onto the machine [default: apt]").choices(&["apt", "apt-slim", "binary"]).recorded(),
    Row::new("debSha256", "--deb-sha256", &["OUTRIGGER_DEB_SHA256"], "HEX", Text, Machine,
        "The SHA-256 that gitlab-runner's package must have").recorded(),
    Row::new("binaryUrl", "--binary-url", &[], "URL", Text, Machine,
        "Where the binary comes from, with --install-method binary [default: GitLab's, for amd64]").recorded(),
    Row::new("binarySha256", "--binary-sha256", &["OUTRIGGER_BINARY_SHA256"], "HEX", Text, Machine,
        "The SHA-256 that the binary must have").recorded(),
    Row::new("jobLimit", "--job-limit", &["OUTRIGGER_JOB_LIMIT"], "NUMBER", Text, Runner,
        "How many jobs run at once [default: 4]").recorded(),
    Row::new("pullPolicy", "--pull-policy", &["OUTRIGGER_PULL_POLICY"], "POLICY", Text, Runner,
        "When nodes pull the jobs' images [default: Kubernetes' own rule]").choices(&["always", "if-not-present", "never"]).recorded(),
    Row::new("runnerConfig", "--runner-config", &["OUTRIGGER_RUNNER_CONFIG"], "FILE", Path, Runner,
        "TOML with one [[runners]] to add to the runner's entry: node selectors, resources, cache and the like").recorded(),
    Row::new("script", "--script", &["OUTRIGGER_SCRIPT"], "FILE", Path, Machine,
        "Where to write the launch script; - writes stdout").recorded(),
    Row::new("target", "--target", &["OUTRIGGER_TARGET"], "PLACE", Text, Machine,
        "Where the launch script will run [default: lightsail]").choices(TARGETS).recorded(),
    Row::new("secrets", "--secrets", &["OUTRIGGER_SECRETS"], "HOW", Text, Machine,
        "Whether the script holds its secrets or a file beside it does [default: separate for ssh, else inline]").choices(&["inline", "separate"]).recorded(),
    Row::new("lockMetadata", "--lock-metadata", &["OUTRIGGER_LOCK_METADATA"], "", Bool, Machine,
        "Let the script close the VM's way to its metadata service, which keeps a copy of it").recorded(),
    Row::new("commitPipeline", "--commit-pipeline", &["OUTRIGGER_COMMIT_PIPELINE"], "", Bool, Run,
        "Let setup commit the pipeline file, too"),
    Row::new("runPipeline", "--run-pipeline", &["OUTRIGGER_RUN_PIPELINE"], "", Bool, Run,
        "Let setup run the pipeline, too, and wait for its end"),
    Row::new("wait", "--wait", &["OUTRIGGER_WAIT"], "DURATION", Duration, Run,
        "Longest wait for the VM and the pipeline [default: 10m]"),
    Row::new("reissue", "--reissue", &["OUTRIGGER_REISSUE"], "WHICH", List, Run,
        "Issue credentials anew").choices(&["runner", "cluster", "all"]),
    Row::new("acceptSharedNamespace", "--accept-shared-namespace", &[], "", Bool, Consent,
        "Use a namespace others can create pods in, and so read its Secrets"),
    Row::new("acceptLifetime", "--accept-lifetime", &[], "", Bool, Consent,
        "Take a token although the cluster shortened its lifetime"),
    Row::new("allowTemporaryEdit", "--allow-temporary-edit", &[], "", Bool, Consent,
        "Bind edit to yourself in an existing namespace for a moment, if granting the Role needs it"),
    Row::new("clusterAdmin", "--cluster-admin", &[], "", Bool, Consent,
        "Bind cluster-admin to yourself instead, as the article does; released again"),
    Row::new("keepAdminBinding", "--keep-admin-binding", &[], "", Bool, Consent,
        "Do not release that binding"),
    Row::new("forceConflicts", "--force-conflicts", &[], "", Bool, Consent,
        "Overwrite what somebody else made stricter"),
    Row::new("overwritePipeline", "--overwrite-pipeline", &[], "", Bool, Consent,
        "Replace a pipeline file that is there and says something else"),
    Row::new("replaceEntry", "--replace-entry", &[], "", Bool, Consent,
        "Let the script replace the runner's entry although somebody changed it by hand"),
    Row::new("prune", "--prune", &[], "", Bool, Consent,
        "Remove our objects that the settings no longer name"),
];

/// Options of one run: flag and environment only.
#[rustfmt::skip]
pub const OPTIONS: &[Row] = &[
    Row::option("--config", &["OUTRIGGER_CONFIG"], "FILE", Path, Connection,
        "Settings file (YAML); never looked for by itself"),
    Row::option("--output", &["OUTRIGGER_OUTPUT"], "FORMAT", Text, Output,
        "How to report").short('o').choices(&["human", "json"]),
    Row::option("--quiet", &["OUTRIGGER_QUIET"], "", Bool, Output,
        "Only failures, warnings and the last line").short('q'),
    Row::option("--verbose", &["OUTRIGGER_VERBOSE"], "", Count, Output,
        "Say more; may be repeated").short('v'),
    Row::option("--non-interactive", &["OUTRIGGER_NON_INTERACTIVE"], "", Bool, Output,
        "Ask nothing; for setup this is consent"),
    Row::option("--only", &["OUTRIGGER_ONLY"], "STEP,…", List, Run,
        "Only these steps"),
    Row::option("--skip", &["OUTRIGGER_SKIP"], "STEP,…", List, Run,
        "All but these steps"),
    Row::option("--from", &["OUTRIGGER_FROM"], "STEP", Text, Run,
        "From this step on"),
    Row::option("--dry-run", &["OUTRIGGER_DRY_RUN"], "", Bool, Run,
        "Show the plan and change nothing"),
    Row::option("--exit-code", &["OUTRIGGER_EXIT_CODE"], "", Bool, Run,
        "With --dry-run: exit 10 if there is something to change"),
    Row::option("--print", &["OUTRIGGER_PRINT"], "", Bool, Run,
        "Print what would be created to stdout and change nothing"),
    Row::option("--print-commands", &["OUTRIGGER_PRINT_COMMANDS"], "", Bool, Run,
        "Print the commands that bring the script to its target and change nothing"),
    Row::option("--uninstall", &["OUTRIGGER_UNINSTALL"], "", Bool, Run,
        "Print the script that takes back on a host what the launch script made of it, and change nothing here"),
    Row::option("--yes", &[], "", Bool, Consent,
        "Do not ask for confirmation").short('y'),
    Row::option("--secrets-to-stdout", &[], "", Bool, Consent,
        "Let secrets go to stdout even on a terminal, in JSON or in CI"),
    Row::option("--cluster-gone", &[], "", Bool, Consent,
        "The recorded cluster no longer exists: forget what was there"),
    Row::option("--gitlab-gone", &[], "", Bool, Consent,
        "The recorded GitLab no longer exists, or is out of reach for good: forget what was there"),
    Row::option("--revert-pipeline", &["OUTRIGGER_REVERT_PIPELINE"], "", Bool, Run,
        "Revert our commit of the pipeline file, if nobody has changed the file since"),
    Row::option("--now", &["OUTRIGGER_NOW"], "", Bool, Run,
        "Do not wait for a running job"),
    Row::option("--accept", &[], "KIND", List, Consent,
        "Delete our namespaces although somebody else keeps objects of this kind there").choices(&["generated"]),
    Row::option("--keep-namespaces", &["OUTRIGGER_KEEP_NAMESPACES"], "", Bool, Run,
        "Leave the namespaces where they are"),
    Row::option("--receipt", &["OUTRIGGER_RECEIPT"], "FILE", Path, Run,
        "Write what was removed, and what was not, to this file"),
    Row::option("--cluster", &["OUTRIGGER_CLUSTER"], "", Bool, Run,
        "Ask the cluster too, not only this machine"),
];

/// The setting with this key.
#[must_use]
pub fn setting(key: &str) -> Option<&'static Row> {
    SETTINGS.iter().find(|row| row.key == key)
}

/// The run option with this flag.
#[must_use]
pub fn option(flag: &str) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.flag == flag)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{OPTIONS, SETTINGS};

    #[test]
    fn names_are_unique_and_follow_one_rule() {
        let mut seen = BTreeSet::new();
        for row in SETTINGS.iter().chain(OPTIONS) {
            assert!(seen.insert(format!("--{}", row.flag)), "{} twice", row.flag);
            for env in row.env {
                assert!(seen.insert((*env).to_owned()), "{env} twice");
            }
            if let Some(first) = row.env.first() {
                assert_eq!(*first, format!("OUTRIGGER_{}", row.flag.to_uppercase().replace('-', "_")));
            }
            if let Some(short) = row.short {
                assert!(seen.insert(format!("-{short}")), "-{short} twice");
            }
            assert!(!row.help.ends_with('.'));
        }
    }

    #[test]
    fn consent_and_the_installers_sources_are_not_read_from_the_environment() {
        let closed: Vec<_> =
            SETTINGS.iter().chain(OPTIONS).filter(|row| row.env.is_empty()).map(|r| r.flag).collect();
        let consents = SETTINGS
            .iter()
            .chain(OPTIONS)
            .filter(|row| row.group == super::Group::Consent)
            .map(|row| row.flag);
        let installer = ["apt-url", "key-url", "key-fingerprint", "binary-url"];
        assert_eq!(closed, installer.into_iter().chain(consents).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_record_does_not_keep_is_for_one_run_or_secret_or_consent() {
        let kept_out: Vec<_> = SETTINGS
            .iter()
            .filter(|row| !row.recorded && row.group != super::Group::Consent)
            .map(|row| row.flag)
            .collect();
        let expected = [
            // They say where the record is.
            "deployment",
            "state-dir",
            // It stands for what the record holds.
            "anchor-uid",
            // Who asks, how long, and how much, this time.
            "as",
            "request-timeout",
            "timeout",
            "commit-pipeline",
            "run-pipeline",
            "wait",
            "reissue",
            // Secrets, and files that hold them.
            "gitlab-token-file",
            "runner-token-file",
            "runner-token-out",
            "legacy-registration-token-file",
        ];
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names
        };
        assert_eq!(sorted(kept_out), sorted(expected.to_vec()));
        // Where programs come from is told by this machine's record alone.
        for row in SETTINGS.iter().filter(|row| row.env.is_empty()) {
            assert!(
                !crate::deployment::names::NOTED.contains(&row.key),
                "{} is not for the anchor",
                row.flag
            );
        }
    }
}
