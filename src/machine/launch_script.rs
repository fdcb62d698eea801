//! The launch script: what it says, what it depends on, and whose it is.
//!
//! The text lives in `templates/launch.sh`. Values are data there: each enters as one quoted word in one
//! block of assignments, those bound for `config.toml` as TOML strings, and those in the script's head
//! through a filter that keeps them in their comment line.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::context;
use sha2::{Digest as _, Sha256};

use super::config_entry::Entry;
use super::install::{Installer, Method, is_plain, refused};
use super::target::Target;
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::base::template::{hex, rendered};

const TEMPLATE: &str = include_str!("../../templates/launch.sh");
/// What it is made of, by the names under which it includes them.
pub(super) const PARTS: &[(&str, &str)] = &[
    ("apt.sh", include_str!("../../templates/launch/apt.sh")),
    ("apt_get.sh", include_str!("../../templates/launch/apt_get.sh")),
    ("binary.sh", include_str!("../../templates/launch/binary.sh")),
    ("common.sh", include_str!("../../templates/launch/common.sh")),
    ("config.sh", include_str!("../../templates/launch/config.sh")),
    ("config_own.sh", include_str!("../../templates/launch/config_own.sh")),
    ("config_shared.sh", include_str!("../../templates/launch/config_shared.sh")),
    ("entries.awk", include_str!("../../templates/launch/entries.awk")),
    ("etc.sh", include_str!("../../templates/launch/etc.sh")),
    ("find_own.sh", include_str!("../../templates/launch/find_own.sh")),
    ("find_shared.sh", include_str!("../../templates/launch/find_shared.sh")),
    ("metadata.sh", include_str!("../../templates/launch/metadata.sh")),
    ("paths.sh", include_str!("../../templates/launch/paths.sh")),
    ("prove.sh", include_str!("../../templates/launch/prove.sh")),
    ("release.sh", include_str!("../../templates/launch/release.sh")),
    ("scrub.sh", include_str!("../../templates/launch/scrub.sh")),
    ("secrets.sh", include_str!("../../templates/launch/secrets.sh")),
    ("service.sh", include_str!("../../templates/launch/service.sh")),
    ("tokens.sh", include_str!("../../templates/launch/tokens.sh")),
    ("where.sh", include_str!("../../templates/launch/where.sh")),
];
/// How many bytes of the SHA-256 make a digest.
const DIGEST_BYTES: usize = 16;
/// With this line the script's head ends.
const BODY: &str = "settings() {\n";
/// With this line begins what is packed: all values from outside that could hold such a line stand before it.
const CODE: &str = "\nsay() {\n";
/// The length of a packed script's lines.
const LINE: usize = 120;
pub(super) const HEADER: &str = "# outrigger-launch-script deployment=";

/// Everything the launch script depends on.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent properties of a script")]
pub struct LaunchScript<'a> {
    /// Names our files on the machine: letters, digits, `.`, `_` and `-` only.
    pub deployment: &'a str,
    /// Our own version, for the head and the status file.
    pub outrigger_version: &'a str,
    /// What people call the cluster, for the head.
    pub cluster: &'a str,
    /// The cluster's CA certificates; `None` when the system's roots verify the API server.
    pub ca_pem: Option<&'a str>,
    /// GitLab's CA certificates; `None` when the system's roots verify GitLab.
    pub gitlab_ca_pem: Option<&'a str>,
    /// Whom the cluster token must prove to be: `system:serviceaccount:<namespace>:<name>`.
    pub account: String,
    /// How gitlab-runner is installed.
    pub installer: Installer<'a>,
    /// The `[[runners]]` entry; with its name and GitLab URL it says which entry is ours.
    pub entry: Entry<'a>,
    /// The runner's tags, for the head: GitLab holds the real ones.
    pub tags: &'a [String],
    /// Where the script will run.
    pub target: &'static Target,
    /// The script closes the machine's way to its metadata service.
    pub lock_metadata: bool,
    /// Whether an entry of ours that was changed by hand is replaced.
    pub replace_entry: bool,
    /// The two tokens; `None` renders the form that keeps the tokens found on the machine, or takes
    /// them from a file.
    pub secrets: Option<ScriptSecrets<'a>>,
}

/// The two secrets of a launch script.
#[derive(Clone, Copy, Debug)]
pub struct ScriptSecrets<'a> {
    /// The runner's authentication token, `glrt-…`.
    pub runner_token: &'a Secret,
    /// When that token ends (RFC 3339, UTC), if it does and that is known: in the entry it lets the
    /// runner renew it in time.
    pub runner_expires: Option<&'a str>,
    /// The cluster token of the manager's `ServiceAccount`.
    pub bearer_token: &'a Secret,
}

impl LaunchScript<'_> {
    /// Identifies what the script puts on a machine: the first half of a SHA-256, in hex, over the inputs that end up there.
    ///
    /// Secrets are not among them, nor is the template, our version, the target or what only the head shows: a
    /// new outrigger makes no difference to a machine. (The script itself recognises new tokens.)
    pub fn digest(&self) -> String {
        let installer = &self.installer;
        let fingerprint = installer.fingerprint();
        let (entry, binary) = (self.entry.parts(), installer.binary());
        let from = match installer.method {
            Method::Binary => ["", "", "", &binary],
            _ => [installer.apt_url, installer.key_url, &fingerprint, ""],
        };
        let inputs = [
            ("deployment", Some(self.deployment)),
            ("ca", self.ca_pem),
            ("gitlab_ca", self.gitlab_ca_pem),
            ("runner", Some(entry.runner.as_str())),
            ("kubernetes", Some(entry.kubernetes.as_str())),
            ("tables", Some(entry.tables.as_str())),
            ("method", Some(installer.method.word())),
            ("runner_version", Some(installer.version)),
            ("sha256", installer.sha256),
            ("apt_url", Some(from[0])),
            ("key_url", Some(from[1])),
            ("key_fingerprint", Some(from[2])),
            ("binary_url", Some(from[3])),
            ("lock_metadata", self.lock_metadata.then_some("true")),
        ];
        let mut hash = Sha256::new();
        for (name, value) in inputs {
            // Absent and empty differ; the length keeps one value from running into the next.
            let Some(value) = value else { continue };
            hash.update(format!("{name} {}\n", value.len()));
            hash.update(value);
            hash.update("\n");
        }
        // Half of it tells any two inputs apart, and a script on Lightsail has to be short.
        hex(&hash.finalize()[..DIGEST_BYTES])
    }

    /// Renders the script as it is; only where its target would not take that (Lightsail counts each byte, and
    /// certificates differ in length) without its comments, and only where that is too long, too, packed: its
    /// code, or at last all of it, without comments. The second value says what was done to it, for a person.
    ///
    /// # Errors
    /// As [`Self::render`], and OR0711 when it does not fit even so.
    pub fn fitting(&self) -> Result<(Secret, Option<&'static str>)> {
        let fits = |text: &Secret| self.target.check_size(&self.target.wrap(text.expose(), self.deployment));
        let whole = self.rendered(false)?;
        if fits(&whole).is_ok() {
            return Ok((whole, None));
        }
        let brief = self.rendered(true)?;
        if fits(&brief).is_ok() {
            return Ok((brief, Some("without comments, to fit")));
        }
        let code = Secret::new(packed(whole.expose(), Packed::Code));
        if fits(&code).is_ok() {
            return Ok((code, Some("packed to fit")));
        }
        let all = Secret::new(packed(brief.expose(), Packed::All));
        fits(&all)?;
        Ok((all, Some("packed without comments, to fit")))
    }

    /// Renders the whole script. It is a secret as a whole, and treated as one in both forms.
    ///
    /// Refuses values that cannot be data in the place they go to: a NUL byte, a deployment or version
    /// that is no file name or package version, a repository URL that would break apt's files.
    pub fn render(&self) -> Result<Secret> {
        self.rendered(false)
    }

    fn rendered(&self, brief: bool) -> Result<Secret> {
        self.check()?;
        let installer = &self.installer;
        let binary = installer.binary();
        // Never down from https, not even by a redirect.
        let protocols = |url: &str| if url.starts_with("https://") { "=https" } else { "=http,https" };
        let review = serde_json::json!({
            "spec": {"resourceAttributes": {
                "namespace": self.entry.namespace, "verb": "create", "resource": "pods"}},
        });
        let values = context! {
            undo => false,
            brief => brief,
                    deployment => self.deployment,
                    digest => self.digest(),
                    runner_name => self.entry.name,
                    outrigger_version => self.outrigger_version,
                    cluster => self.cluster,
                    kubernetes_host => self.entry.host,
                    has_ca => self.ca_pem.is_some(),
                    ca_pem => self.ca_pem.unwrap_or_default(),
                    gitlab_url => self.entry.url,
                    has_gitlab_ca => self.gitlab_ca_pem.is_some(),
                    gitlab_ca_pem => self.gitlab_ca_pem.unwrap_or_default(),
                    account => &self.account,
                    review => review.to_string(),
                    entry => minijinja::Value::from(minijinja::value::Serde(self.entry.parts())),
                    job_limit => self.entry.job_limit,
                    has_extra => self.entry.extra.is_some_and(|extra| !extra.is_empty()),
                    replace_entry => self.replace_entry,
                    runner_version => installer.version,
                    tags => if self.tags.is_empty() { "none".to_owned() } else { self.tags.join(", ") },
                    method => installer.method.word(),
                    source => if installer.method == Method::Binary { &binary } else { installer.apt_url },
                    installer_is_default => installer.is_default,
                    apt_url => installer.apt_url.trim_end_matches('/'),
                    apt_host => host_of(installer.apt_url),
                    key_url => installer.key_url,
        protocols => protocols(if installer.method == Method::Binary { &binary } else { installer.key_url }),
                    key_fingerprint => installer.fingerprint(),
                    binary_url => &binary,
                    sha256 => installer.sha256.unwrap_or_default().to_ascii_lowercase(),
                    can_lint => installer.can_lint(),
                    has_secrets => self.secrets.is_some(),
                    runner_expires => self.secrets.and_then(|s| s.runner_expires).unwrap_or_default(),
                    runner_token => self.secrets.map_or("", |s| s.runner_token.expose()),
                    bearer_token => self.secrets.map_or("", |s| s.bearer_token.expose()),
                    shared => self.target.is_host(),
            target => self.target.title,
            target_runs => self.target.runs(),
            target_readers => self.target.readers,
            target_metadata => self.target.metadata,
            target_copies => self.target.keeps_copies(),
            lock_metadata => self.lock_metadata,
                };
        if !brief {
            return rendered("launch.sh", TEMPLATE, PARTS, values).map(Secret::new);
        }
        // Of the texts alone, before any value is in them; the head stays.
        let (head, body) = TEMPLATE.split_once(BODY).unwrap_or(("", TEMPLATE));
        let parts: Vec<_> = PARTS.iter().map(|(name, text)| (*name, without_comments(text))).collect();
        let main = format!("{head}{}", without_comments(&format!("{BODY}{body}")));
        rendered("launch.sh", &main, &parts, values).map(Secret::new)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str, value: &str, rule: &str| Err(refused(what, value, rule));
        if !is_plain(self.deployment, "._-") {
            return refuse(
                "deployment",
                self.deployment,
                "it must be a file name of letters, digits, '.', '_', '-'",
            );
        }
        if !is_plain(self.outrigger_version, ".+~-") {
            return refuse("outrigger version", self.outrigger_version, "it is not a version");
        }
        self.installer.check()?;
        let texts = [
            ("runner name", Some(self.entry.name)),
            ("cluster URL", Some(self.entry.host)),
            ("cluster CA", self.ca_pem),
            ("GitLab URL", Some(self.entry.url)),
            ("GitLab CA", self.gitlab_ca_pem),
            ("namespace", Some(self.entry.namespace)),
            ("service account", Some(self.entry.service_account)),
            ("image", Some(self.entry.image)),
        ];
        // TOML could carry a NUL byte as an escape, a shell's word cannot.
        for (what, value) in texts {
            if let Some(value) = value.filter(|value| value.contains('\0')) {
                return refuse(what, value, "it contains a NUL byte");
            }
        }
        // They go into a header and a TOML string as they are.
        let is_token = |token: &Secret| {
            let text = token.expose();
            !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
        };
        if let Some(expires) = self.secrets.and_then(|secrets| secrets.runner_expires)
            && !is_plain(expires, ":-")
        {
            return refuse(
                "end of the runner's token",
                expires,
                "it must be a time such as 2027-01-02T03:04:05Z",
            );
        }
        match self.secrets {
            Some(secrets) if !is_token(secrets.runner_token) || !is_token(secrets.bearer_token) => refuse(
                "token",
                "(not shown)",
                "it must be printable ASCII without spaces, quotes and backslashes",
            ),
            _ => Ok(()),
        }
    }
}

/// A part of the template without the lines that only explain, and without tabs at the lines' beginnings:
/// the template has none where they would mean something.
fn without_comments(text: &str) -> String {
    let explains = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("# ") && !line.starts_with("# shellcheck")
    };
    text.split_inclusive('\n')
        .filter(|line| !explains(line))
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}

/// What of a script is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// What does the work: head, values and entry are there to read.
    Code,
    /// All below the head.
    All,
}

/// The script with a part of it compressed, for a shell to unpack: the same text, which a person reads with the
/// command above it. What is cut short unpacks to nothing, and nothing runs.
pub fn packed(script: &str, part: Packed) -> String {
    let at = match part {
        Packed::Code => script.rfind(CODE),
        // Values in the head stay in their comment line, so that this line is no part of one.
        Packed::All => script.find(&format!("\n{BODY}")),
    };
    let (head, body) = script.split_at(at.map_or(0, |at| at + 1));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // Writing to memory does not fail.
    let _ = gzip.write_all(body.as_bytes());
    let text = STANDARD.encode(gzip.finish().unwrap_or_default());
    let mut lines = String::new();
    for line in text.as_bytes().chunks(LINE) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    format!(
        "{head}# Packed, to fit here. To read it: sed '1,/^unpacked=/d; /^END$/,$d' THIS | base64 -d | gzip -d\n\
         unpacked=$(base64 -d <<'END' | gzip -d\n{lines}END\n) && eval \"$unpacked\"\n"
    )
}

/// Is `text` a launch script or update script of ours for this deployment?
pub fn is_ours(text: &str, deployment: &str) -> bool {
    text.lines().any(|line| {
        line.strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix(deployment))
            .and_then(|rest| rest.strip_prefix(" digest="))
            .is_some_and(|digest| {
                digest.len() == 2 * DIGEST_BYTES && digest.bytes().all(|b| b.is_ascii_hexdigit())
            })
    })
}

/// The host of a URL as apt's pins know it: without user, port and path.
pub(super) fn host_of(url: &str) -> &str {
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
            format!("#!/bin/sh\n# x\n# outrigger-launch-script deployment=web digest={}\n", "0a".repeat(16));
        assert!(is_ours(&head, "web"));
        assert!(!is_ours(&head, "we"));
        assert!(!is_ours(&head.replace("0a", "0"), "web"));
        assert!(!is_ours("#!/bin/sh\n", "web"));
    }
}
