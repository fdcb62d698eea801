//! The table of settings. A row defines the field and its type, the flag, the variable, the key in the settings
//! file and the record, the parser and the help. To add a setting, add a row.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::resolve::Reader;
use super::row::Group::{Cluster, Connection, Consent, Machine, Run, Runner, Vm};
use super::row::{Row, Spelling, spelled, table};
use super::value::{
    CacheType, InstallMethod, LogLevel, One, Place, PodSecurity, PullPolicy, Reissue, Risk, Secrets, Shape,
    Values,
};
use super::{Source, Sourced, check, host, metadata, vm};

/// The version of gitlab-runner to install.
pub const DEFAULT_RUNNER_VERSION: &str = "19.4.1";
/// The repository of gitlab-runner's packages.
pub const DEFAULT_APT_URL: &str = "https://packages.gitlab.com/runner/gitlab-runner";
/// The key that signs the packages.
pub const DEFAULT_KEY_URL: &str = "https://packages.gitlab.com/gpgkey/gpg.key";
/// The fingerprint of that key.
pub const DEFAULT_KEY_FINGERPRINT: &str = "F6403F6544A38863DAA0B6E03F01618A51312F3F";

pub const DEFAULT_JOB_LIMIT: u32 = 4;
pub const DEFAULT_DEPLOYMENT: &str = "kubernetes-runner";
pub const DEFAULT_TAGS: &str = "k8s-runner";
pub const DEFAULT_IMAGE: &str = "alpine:latest";
/// The listen address that switches the metrics server off.
pub const LISTEN_OFF: &str = "off";
/// The proxy that switches a recorded one off.
pub const PROXY_NONE: &str = "none";
/// The script of the article.
pub const DEFAULT_PIPELINE_SCRIPT: &str = "echo \"hello world!\"";
/// Before the end of a token.
pub const DEFAULT_WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);
pub const DEFAULT_WAIT: Duration = Duration::from_secs(600);
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

const GLOBAL: &str = "Set in config.toml on a machine where the script installed gitlab-runner. Where another gitlab-runner is \
    installed, the script leaves its value unchanged and says so.";

table! {
    /// All settings of a run; they do not change after its first request.
    #[derive(Clone, Debug)]
    Settings, SETTINGS;
    deployment: Sourced<String> = DEFAULT_DEPLOYMENT => check::deployment,
        "NAME", Connection, "Deployment name [default: kubernetes-runner]";
    kubeconfig: Option<Sourced<PathBuf>>,
        "PATH", Connection, "Path to the kubeconfig file".also(&["KUBECONFIG"]).recorded();
    context: Option<Sourced<String>>,
        "NAME", Connection, "Kubeconfig context [default: the recorded one, else the current one]".recorded();
    anchor_uid: Option<Sourced<String>> => check::uid,
        "UID", Connection, "UID of the deployment's ServiceAccount, for a machine without a record; setup prints it";
    as_user as "as": Option<String>,
        "USER", Connection, "Username to impersonate, as with kubectl".key("as");
    as_groups as "as-group": Vec<String>,
        "GROUP", Connection, "Group to impersonate, with --as; may be repeated".lines();
    request_timeout: Option<Duration>,
        "DURATION", Connection, "Timeout of a single request; 0: only --timeout applies";
    timeout: Duration = DEFAULT_TIMEOUT => check::positive,
        "DURATION", Connection, "Timeout of the run, except for --wait [default: 5m]";
    state_dir: PathBuf,
        "DIR", Connection, "Directory for records and scripts [default: $XDG_STATE_HOME/outrigger]";
    namespace: Sourced<String> = format!("{}-jobs", *deployment) => check::namespace,
        "NAME", Cluster, "Namespace of the job pods [default: <deployment>-jobs]".short('n').recorded();
    runner_namespace: Sourced<String> = deployment.value.clone() => check::namespace,
        "NAME", Cluster, "Namespace of the runner's ServiceAccount [default: <deployment>]".recorded();
    use_namespaces as "use-namespace": Vec<String> => check::namespace,
        "NAME", Cluster, "Use this existing namespace unchanged; may be repeated".recorded();
    pod_security: Sourced<PodSecurity>,
        "LEVEL", Cluster, "Pod Security level of the job namespace [default: baseline]".recorded();
    namespace_labels as "namespace-label": Vec<(String, String)> => metadata::label,
        "KEY=VALUE", Cluster, "Label for created namespaces, for example one a policy requires; may be repeated".recorded();
    namespace_annotations as "namespace-annotation": Vec<(String, String)> => metadata::annotation,
        "KEY=VALUE", Cluster, "Annotation for created namespaces; may be repeated".lines().recorded();
    kubernetes_host: Option<Sourced<String>> => check::url,
        "URL", Cluster, "API server URL for the runner [default: the kubeconfig's]".recorded();
    token_lifetime: Option<Sourced<Duration>> => check::token_lifetime,
        "DURATION", Cluster, "Lifetime of the ServiceAccount token, at least 10m; 0: no expiry [default: 0]".recorded();
    gitlab_url: Option<Sourced<String>> => check::gitlab_url,
        "URL", Runner, "GitLab instance URL".also(&["GITLAB_URL", "GITLAB_HOST", "GITLAB_URI", "GL_HOST"]).recorded();
    gitlab_token_file: Option<Sourced<PathBuf>>,
        "PATH", Runner, "File with your GitLab access token; - for stdin [default: $GITLAB_TOKEN]".recorded();
    gitlab_ca_file: Option<Sourced<PathBuf>>,
        "PATH", Runner, "CA certificates to verify GitLab, here and on the VM [default: the system's]".recorded();
    project: Option<Sourced<String>> => check::project,
        "PATH|ID", Runner, "GitLab project of the runner and the pipeline".recorded();
    group: Option<Sourced<String>> => check::project,
        "PATH|ID", Runner, "Create a group runner for this GitLab group instead of a project runner".recorded();
    instance_runner: bool,
        "", Runner, "Create an instance runner instead of a project runner".recorded();
    runner_token_file: Option<Sourced<PathBuf>>,
        "PATH", Runner, "File with the authentication token (glrt-…) of an existing runner to use; - for stdin";
    runner_token_out: Option<Sourced<PathBuf>>,
        "FILE", Runner, "File that the create-runner command writes the new runner's token to";
    legacy_registration_token_file: Option<Sourced<PathBuf>>,
        "PATH", Runner, "File with a legacy registration token to register with, where GitLab still allows it; - for stdin";
    tags: Sourced<Vec<String>> = vec![DEFAULT_TAGS.to_owned()] => check::tag,
        "TAG,…", Runner, "Tags of the runner [default: k8s-runner]".recorded();
    image: Sourced<String> = DEFAULT_IMAGE => check::image,
        "IMAGE", Runner, "Default image of jobs, and image of the pipeline's job [default: alpine:latest]".recorded();
    pipeline_script: Sourced<Vec<String>> = vec![DEFAULT_PIPELINE_SCRIPT.to_owned()],
        "COMMAND", Runner, "Command of the pipeline's job; may be repeated [default: echo \"hello world!\"]".lines().recorded();
    branch: Option<Sourced<String>> => check::branch,
        "NAME", Runner, "Branch of the pipeline file, created if missing [default: the project's default branch]".recorded();
    commit_message: Option<Sourced<Vec<String>>>,
        "TEXT", Runner, "Commit message of the pipeline file; each repetition is a paragraph, as with git commit -m".lines().recorded();
    runner_version: Sourced<String> = DEFAULT_RUNNER_VERSION => check::version_or_latest,
        "VERSION", Machine, "gitlab-runner version, or latest-known [default: 19.4.1]".recorded();
    apt_url: Sourced<String> = DEFAULT_APT_URL => check::url,
        "URL", Machine, "URL of gitlab-runner's package repository".not_from_env().recorded_unless(DEFAULT_APT_URL);
    key_url: Sourced<String> = DEFAULT_KEY_URL => check::url,
        "URL", Machine, "URL of the repository's signing key".not_from_env().recorded_unless(DEFAULT_KEY_URL);
    key_fingerprint: Sourced<String> = DEFAULT_KEY_FINGERPRINT => check::fingerprint,
        "HEX", Machine, "Expected fingerprint of the signing key, 40 hex digits".not_from_env().recorded_unless(DEFAULT_KEY_FINGERPRINT);
    install_method: Sourced<InstallMethod>,
        "METHOD", Machine, "How to install gitlab-runner [default: apt]".recorded();
    deb_sha256: Option<Sourced<String>> => check::sha256,
        "HEX", Machine, "Expected SHA-256 of the gitlab-runner package".recorded();
    binary_url: Option<Sourced<String>> => check::url,
        "URL", Machine, "URL of the gitlab-runner binary, for --install-method binary [default: GitLab's for amd64]".not_from_env().recorded();
    binary_sha256: Option<Sourced<String>> => check::sha256,
        "HEX", Machine, "Expected SHA-256 of the gitlab-runner binary".recorded();
    job_limit: Sourced<u32> = DEFAULT_JOB_LIMIT => check::job_limit,
        "NUMBER", Runner, "Maximum number of concurrent jobs [default: 4]".recorded();
    pull_policy: Option<Sourced<PullPolicy>>,
        "POLICY", Runner, "Image pull policy of job pods [default: Kubernetes' default]".recorded();
    runner_config: Option<Sourced<PathBuf>>,
        "FILE", Runner, "TOML file with one [[runners]] to merge into the runner's entry: node selectors, resources, cache and the like".recorded();
    cache_type: Option<Sourced<CacheType>>,
        "TYPE", Runner, "Object storage of the jobs' cache [default: none]".recorded();
    cache_bucket: Option<Sourced<String>> => check::bucket,
        "NAME", Runner, "Bucket of the cache; for Azure, the container".recorded();
    cache_region: Option<Sourced<String>> => check::bucket,
        "REGION", Runner, "Region of the S3 bucket".recorded();
    cache_endpoint: Option<Sourced<String>> => check::endpoint,
        "HOST[:PORT]", Runner, "S3 server, or Azure storage domain [default: AWS's, Azure's]".recorded();
    cache_account: Option<Sourced<String>> => check::bucket,
        "NAME", Runner, "Azure storage account of the cache".recorded();
    cache_path: Option<Sourced<String>> => check::text,
        "PATH", Runner, "Prefix of the objects in the bucket".recorded();
    cache_shared: bool,
        "", Runner, "Share the cache with other runners that use the same bucket".recorded();
    cache_credentials_file: Option<Sourced<PathBuf>>,
        "PATH", Runner, "File with the credentials of the cache; - for stdin [default: the identity of the VM]"
            .long("S3: lines with aws_access_key_id and aws_secret_access_key, as in ~/.aws/credentials\n\
                GCS: the JSON key of a service account\n\
                Azure: the storage account's access key alone\n\n\
                The credentials are in the script, in the runner's entry.").recorded();
    runner_http_proxy: Option<Sourced<String>> => check::proxy,
        "URL", Machine, "Proxy of the runner's machine for http; none switches a recorded one off".recorded();
    runner_https_proxy: Option<Sourced<String>> => check::proxy,
        "URL", Machine, "Proxy of the runner's machine for https, to GitLab and the cluster too; none: off".recorded();
    runner_no_proxy: Vec<String> => check::no_proxy,
        "HOST,…", Machine, "Hosts that the runner's machine reaches without the proxy".recorded();
    runner_proxy_credentials_file: Option<Sourced<PathBuf>>,
        "PATH", Machine, "File with USER:PASSWORD for the proxy of the runner's machine; - for stdin".recorded();
    concurrent: Option<Sourced<u32>> => check::concurrent,
        "NUMBER", Machine, "Maximum number of concurrent jobs of the whole gitlab-runner; 0: the job limit [default: 0]"
            .long(GLOBAL).recorded();
    check_interval: Option<Sourced<Duration>> => check::check_interval,
        "DURATION", Machine, "Time between requests for new jobs; 0: gitlab-runner's default, 3s [default: unchanged]"
            .long(GLOBAL).recorded();
    log_level: Option<Sourced<LogLevel>>,
        "LEVEL", Machine, "Log level of gitlab-runner [default: unchanged]".long(GLOBAL).recorded();
    shutdown_timeout: Option<Sourced<Duration>>,
        "DURATION", Machine, "Timeout of a forceful shutdown; 0: gitlab-runner's default, 30s [default: unchanged]"
            .long(GLOBAL).recorded();
    listen_address: Option<Sourced<String>> => check::listen_address,
        "HOST:PORT", Machine, "Address of gitlab-runner's metrics server, such as 127.0.0.1:9252 [default: off]"
            .long("It has no authentication and serves the Prometheus metrics (/metrics), the list of running jobs (/debug/jobs/list) \
                and profiles (/debug/pprof). An empty host listens on all addresses.\n\n\
                It is an argument of the service, which restarts when it changes. Where another gitlab-runner is installed \
                on the machine, the script leaves its service unchanged and says so.").recorded();
    script: Option<Sourced<PathBuf>>,
        "FILE", Machine, "File to write the launch script to; - for stdout".recorded();
    host: Option<Sourced<String>> => host::host,
        "[USER@]HOST[:PORT]", Machine, "Host to run the launch script on, over SSH; implies --target ssh"
            .long("By the system's ssh, with your configuration, agent and known hosts. The login is root, or a user whose sudo \
                needs no password. The host key has to be known.").recorded();
    host_keys as "host-key": Vec<String> => host::host_key,
        "KEY", Machine, "Public host key of the host, such as 'ssh-ed25519 AAAA…', in place of known_hosts; may be repeated"
            .lines().recorded();
    ssh_options as "ssh-option": Vec<String> => host::ssh_option,
        "KEY=VALUE", Machine, "Option of ssh for --host, such as IdentityFile or ProxyJump; may be repeated".lines().recorded();
    create_vm: bool,
        "", Vm, "Create an Amazon Lightsail instance and run the launch script there, over SSH"
            .long("By AWS's API, with your credentials. The instance gets no user data: the script and its secrets go over SSH, \
                with the key and the host keys that AWS returns. Port 22 is open only while the script is delivered.").recorded();
    vm_region: Option<Sourced<String>> => vm::region,
        "REGION", Vm, "AWS region of the instance [default: AWS's settings]".recorded();
    vm_zone: Option<Sourced<String>> => vm::zone,
        "ZONE", Vm, "Availability zone [default: the region's first]".recorded();
    vm_image: Option<Sourced<String>> => vm::id,
        "BLUEPRINT", Vm, "Lightsail blueprint [default: Ubuntu 24.04, else Debian 12]".recorded();
    vm_size: Option<Sourced<String>> => vm::id,
        "BUNDLE", Vm, "Lightsail bundle [default: the cheapest with 1 GB and an IPv4 address]".recorded();
    vm_static_ip: bool,
        "", Vm, "Attach a static IP, so that a stop and start keeps the address".recorded();
    vm_arn: Option<Sourced<String>> => vm::arn,
        "ARN", Vm, "ARN of the deployment's instance, for a machine without a record";
    ssh_from: Vec<String> => vm::source,
        "CIDR,…", Vm, "Networks that can reach port 22 while the script is delivered [default: anywhere]";
    ssh_after: Vec<String> => vm::after,
        "CIDR,…", Vm, "What can reach port 22 afterwards: none, console or networks [default: none]"
            .long("console is the SSH of Lightsail's console.").recorded();
    aws_profile: Option<Sourced<String>> => check::text,
        "NAME", Vm, "Profile of AWS's configuration; no other credentials are tried"
            .also(&["AWS_PROFILE"]).recorded();
    aws_metadata: bool,
        "", Vm, "Get AWS credentials from the metadata service of the machine that runs outrigger".recorded();
    target: Sourced<Place> = if host.is_some() { Place::Ssh } else { Place::default() },
        "PLACE", Machine, "Where the launch script runs [default: lightsail]".recorded();
    secrets: Option<Sourced<Secrets>>,
        "HOW", Machine, "Put the secrets into the script or into a separate file [default: separate for ssh, else inline]".recorded();
    lock_metadata: bool,
        "", Machine, "Block the VM's access to its metadata service, which keeps a copy of the script".recorded();
    commit_pipeline: bool,
        "", Run, "Also commit the pipeline file";
    run_pipeline: bool,
        "", Run, "Also run the pipeline and wait for it to finish";
    wait: Duration = DEFAULT_WAIT => check::positive,
        "DURATION", Run, "Timeout for the host, running jobs and the pipeline [default: 10m]";
    warn_before: Sourced<Duration> = DEFAULT_WARN_BEFORE => check::positive,
        "DURATION", Run, "Report a cluster token that expires within this time [default: 14d]".recorded();
    reissue: Vec<Reissue>,
        "WHICH", Run, "Credentials to replace at once, without regard to running jobs; see also rotate";
    accept: Vec<Risk>,
        "WHAT,…", Consent, "Accept a risk, by the name given in the error"
            .long("shared-namespace: use an existing namespace that contains objects; jobs can then use its Secrets\n\
                lifetime: accept a token with a lifetime shortened by the cluster\n\
                temporary-edit: temporarily give yourself `edit` in an existing namespace, if needed to create the Role\n\
                generated: delete the deployment's namespaces together with objects that controllers recreate in them\n\
                unseen-host: the script with the new cluster token has run on the host; the old token is deleted\n\
                unreachable-endpoint: create a VM although the API server's address is only reachable from a private network")
            .aliases(&[
                ("accept-shared-namespace", "shared-namespace"),
                ("accept-lifetime", "lifetime"),
                ("allow-temporary-edit", "temporary-edit"),
            ]);
    cluster_admin: bool,
        "", Consent, "Temporarily bind cluster-admin to yourself to create the Role";
    keep_admin_binding: bool,
        "", Consent, "Do not delete the cluster-admin binding";
    force_conflicts: bool,
        "", Consent, "Overwrite fields that another field manager made stricter";
    overwrite_pipeline: bool,
        "", Consent, "Replace an existing pipeline file with other content";
    replace_entry: bool,
        "", Consent, "Let the script replace the runner's entry even if it was edited by hand";
    prune: bool,
        "", Consent, "Remove the deployment's objects that are no longer in the settings";
}

/// Finds a row by its key.
pub fn setting(key: &str) -> Option<&'static Row> {
    SETTINGS.iter().find(|row| row.key == key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::SETTINGS;
    use crate::settings::options::OPTIONS;
    use crate::settings::row::Group;

    #[test]
    fn flags_and_variables_are_unique() {
        let mut seen = BTreeSet::new();
        for row in SETTINGS.iter().chain(OPTIONS) {
            assert!(seen.insert(format!("--{}", row.flag)), "{} twice", row.flag);
            for env in row.variables() {
                assert!(seen.insert(env.to_owned()), "{env} twice");
            }
            if let Some(short) = row.short {
                assert!(seen.insert(format!("-{short}")), "-{short} twice");
            }
            assert!(!row.help.ends_with('.'));
        }
    }

    #[test]
    fn consent_and_installer_sources_are_not_read_from_the_environment() {
        let closed: Vec<_> =
            SETTINGS.iter().chain(OPTIONS).filter(|row| row.env.is_none()).map(|r| r.flag).collect();
        let consents =
            SETTINGS.iter().chain(OPTIONS).filter(|row| row.group == Group::Consent).map(|row| row.flag);
        let installer = ["apt-url", "key-url", "key-fingerprint", "binary-url"];
        assert_eq!(closed, installer.into_iter().chain(consents).collect::<Vec<_>>());
    }

    #[test]
    fn the_record_leaves_out_secrets_consent_and_options_of_one_run() {
        let kept_out: Vec<_> = SETTINGS
            .iter()
            .filter(|row| !row.recorded && row.group != Group::Consent)
            .map(|row| row.flag)
            .collect();
        let expected = [
            // They locate the record.
            "deployment",
            "state-dir",
            // They replace a record.
            "anchor-uid",
            "vm-arn",
            // Options of one run.
            "as",
            "as-group",
            "request-timeout",
            "timeout",
            "commit-pipeline",
            "run-pipeline",
            "wait",
            "reissue",
            "ssh-from",
            // Files that contain secrets.
            "runner-token-file",
            "runner-token-out",
            "legacy-registration-token-file",
        ];
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names
        };
        assert_eq!(sorted(kept_out), sorted(expected.to_vec()));
        // Download URLs are read from this machine's record only, not from the annotation.
        for row in SETTINGS.iter().filter(|row| row.env.is_none()) {
            assert!(!crate::deployment::names::NOTED.contains(&row.key), "{} is in the annotation", row.flag);
        }
    }
}
