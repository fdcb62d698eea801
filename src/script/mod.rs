//! The launch script: what it says, what it depends on, and whose it is.
//!
//! The text lives in `templates/launch.sh`. Values are data there: each enters as one quoted word in one
//! block of assignments, those bound for `config.toml` as TOML strings, and those in the script's head
//! through a filter that keeps them in their comment line.

use minijinja::context;
use sha2::{Digest as _, Sha256};

use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use crate::template::{hex, rendered};

/// The largest script that Lightsail takes: 16 KiB less the room for its own preamble.
pub const LIGHTSAIL_LIMIT_BYTES: usize = 14_336;

const TEMPLATE: &str = include_str!("../../templates/launch.sh");
const HEADER: &str = "# outrigger-launch-script deployment=";

/// Everything the launch script depends on.
#[derive(Clone, Debug)]
pub struct LaunchScript<'a> {
    /// Names our files on the machine: letters, digits, `.`, `_` and `-` only.
    pub deployment: &'a str,
    /// The `name` of the runner's entry; with the GitLab URL it says which entry is ours.
    pub runner_name: &'a str,
    /// Our own version, for the head and the status file.
    pub outrigger_version: &'a str,
    /// What people call the cluster, for the head.
    pub cluster: &'a str,
    /// The API server's URL.
    pub kubernetes_host: &'a str,
    /// The cluster's CA certificates; `None` when the system's roots verify the API server.
    pub ca_pem: Option<&'a str>,
    /// The GitLab URL that the runner polls.
    pub gitlab_url: &'a str,
    /// GitLab's CA certificates; `None` when the system's roots verify GitLab.
    pub gitlab_ca_pem: Option<&'a str>,
    /// The namespace of the job pods.
    pub namespace: &'a str,
    /// The `ServiceAccount` of the job pods.
    pub job_service_account: &'a str,
    /// The image of jobs that name none.
    pub image: &'a str,
    /// The version of gitlab-runner to install; a newer one on the machine stays.
    pub runner_version: &'a str,
    /// The runner's tags, for the head: GitLab holds the real ones.
    pub tags: &'a [String],
    /// The package repository, without `/debian` or `/ubuntu`.
    pub apt_url: &'a str,
    /// Where to get its key.
    pub key_url: &'a str,
    /// The key's fingerprint; spaces and lower case are accepted.
    pub key_fingerprint: &'a str,
    /// False puts a notice with the installer's sources at the script's top.
    pub installer_is_default: bool,
    /// Put before every path that the script touches: empty, except in tests.
    ///
    /// A constant of the text, not a variable of the environment: nothing on the machine can turn
    /// root's writes elsewhere.
    pub root: &'a str,
    /// The two tokens; `None` renders the update form, which keeps the tokens found on the machine.
    pub secrets: Option<ScriptSecrets<'a>>,
}

/// The two secrets of a launch script.
#[derive(Clone, Copy, Debug)]
pub struct ScriptSecrets<'a> {
    /// The runner's authentication token, `glrt-…`.
    pub runner_token: &'a Secret,
    /// The cluster token of the manager's `ServiceAccount`.
    pub bearer_token: &'a Secret,
}

impl LaunchScript<'_> {
    /// Identifies what the script puts on a machine: SHA-256 in hex over the inputs that end up there.
    ///
    /// Secrets are not among them, nor is the template, our version or what only the head shows: a
    /// new outrigger makes no difference to a machine. (The script itself recognises new tokens.)
    #[must_use]
    pub fn digest(&self) -> String {
        let fingerprint = normalised_fingerprint(self.key_fingerprint);
        let inputs = [
            ("deployment", Some(self.deployment)),
            ("runner_name", Some(self.runner_name)),
            ("kubernetes_host", Some(self.kubernetes_host)),
            ("ca", self.ca_pem),
            ("gitlab_url", Some(self.gitlab_url)),
            ("gitlab_ca", self.gitlab_ca_pem),
            ("namespace", Some(self.namespace)),
            ("job_service_account", Some(self.job_service_account)),
            ("image", Some(self.image)),
            ("runner_version", Some(self.runner_version)),
            ("apt_url", Some(self.apt_url)),
            ("key_url", Some(self.key_url)),
            ("key_fingerprint", Some(fingerprint.as_str())),
        ];
        let mut hash = Sha256::new();
        for (name, value) in inputs {
            // Absent and empty differ; the length keeps one value from running into the next.
            let Some(value) = value else { continue };
            hash.update(format!("{name} {}\n", value.len()));
            hash.update(value);
            hash.update("\n");
        }
        hex(&hash.finalize())
    }

    /// Renders the whole script. It is a secret as a whole, and treated as one in both forms.
    ///
    /// Refuses values that cannot be data in the place they go to: a NUL byte, a deployment or version
    /// that is no file name or package version, a repository URL that would break apt's files.
    pub fn render(&self) -> Result<Secret> {
        let fingerprint = normalised_fingerprint(self.key_fingerprint);
        self.check(&fingerprint)?;
        let values = context! {
            deployment => self.deployment,
            digest => self.digest(),
            runner_name => self.runner_name,
            outrigger_version => self.outrigger_version,
            cluster => self.cluster,
            kubernetes_host => self.kubernetes_host,
            has_ca => self.ca_pem.is_some(),
            ca_pem => self.ca_pem.unwrap_or_default(),
            gitlab_url => self.gitlab_url,
            has_gitlab_ca => self.gitlab_ca_pem.is_some(),
            gitlab_ca_pem => self.gitlab_ca_pem.unwrap_or_default(),
            namespace => self.namespace,
            job_service_account => self.job_service_account,
            image => self.image,
            runner_version => self.runner_version,
            tags => if self.tags.is_empty() { "none".to_owned() } else { self.tags.join(", ") },
            apt_url => self.apt_url.trim_end_matches('/'),
            apt_host => host_of(self.apt_url),
            key_url => self.key_url,
            // Never down from https, not even by a redirect.
            key_protocols => if self.key_url.starts_with("https://") { "=https" } else { "=http,https" },
            key_fingerprint => fingerprint,
            installer_is_default => self.installer_is_default,
            root => self.root,
            has_secrets => self.secrets.is_some(),
            runner_token => self.secrets.map_or("", |s| s.runner_token.expose()),
            bearer_token => self.secrets.map_or("", |s| s.bearer_token.expose()),
        };
        rendered("launch.sh", TEMPLATE, values).map(Secret::new)
    }

    fn check(&self, fingerprint: &str) -> Result<()> {
        let refuse = |what: &str, value: &str, rule: &str| {
            Err(Failure::new(
                "OR0711",
                Kind::Refused,
                format!("{what} {value:?} cannot go into the launch script"),
            )
            .detail("reason", rule.to_owned()))
        };
        let plain = |value: &str, extra: &str| {
            value.starts_with(|c: char| c.is_ascii_alphanumeric())
                && value.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        if !plain(self.deployment, "._-") {
            return refuse("deployment", self.deployment, "it names files: letters, digits, '.', '_', '-'");
        }
        if !plain(self.outrigger_version, ".+~-") {
            return refuse("outrigger version", self.outrigger_version, "it is not a version");
        }
        if !plain(self.runner_version, ".+~") {
            return refuse("runner version", self.runner_version, "it is not a version such as 19.4.1");
        }
        if fingerprint.len() != 40 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refuse("key fingerprint", self.key_fingerprint, "it must have 40 hexadecimal digits");
        }
        for (what, value) in [("package repository", self.apt_url), ("key URL", self.key_url)] {
            let http = value.starts_with("https://") || value.starts_with("http://");
            if !http
                || host_of(value).is_empty()
                || !value.chars().all(|c| c.is_ascii_graphic() && !"\"[]".contains(c))
            {
                return refuse(what, value, "it must be an http or https URL without spaces or quotes");
            }
        }
        if !self.root.is_empty() && !self.root.strip_prefix('/').is_some_and(|root| plain(root, "/._-")) {
            return refuse("path prefix", self.root, "it must be empty or an absolute path");
        }
        let texts = [
            ("runner name", Some(self.runner_name)),
            ("cluster URL", Some(self.kubernetes_host)),
            ("cluster CA", self.ca_pem),
            ("GitLab URL", Some(self.gitlab_url)),
            ("GitLab CA", self.gitlab_ca_pem),
            ("namespace", Some(self.namespace)),
            ("service account", Some(self.job_service_account)),
            ("image", Some(self.image)),
        ];
        // TOML could carry a NUL byte as an escape, a shell's word cannot.
        for (what, value) in texts {
            if let Some(value) = value.filter(|value| value.contains('\0')) {
                return refuse(what, value, "it has a NUL byte");
            }
        }
        Ok(())
    }
}

/// Is `text` a launch script or update script of ours for this deployment?
#[must_use]
pub fn is_ours(text: &str, deployment: &str) -> bool {
    text.lines().any(|line| {
        line.strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix(deployment))
            .and_then(|rest| rest.strip_prefix(" digest="))
            .is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

fn normalised_fingerprint(fingerprint: &str) -> String {
    fingerprint.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect()
}

/// The host of a URL as apt's pins know it: without user, port and path.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::{host_of, is_ours};

    #[test]
    fn hosts() {
        assert_eq!(host_of("https://packages.gitlab.com/runner/x"), "packages.gitlab.com");
        assert_eq!(host_of("http://u:p@127.0.0.1:8080"), "127.0.0.1");
    }

    #[test]
    fn a_script_of_ours_is_recognised_by_its_head() {
        let head =
            format!("#!/bin/sh\n# x\n# outrigger-launch-script deployment=web digest={}\n", "0a".repeat(32));
        assert!(is_ours(&head, "web"));
        assert!(!is_ours(&head, "we"));
        assert!(!is_ours(&head.replace("0a", "0"), "web"));
        assert!(!is_ours("#!/bin/sh\n", "web"));
    }
}
