//! The launch script: rendering, its digest, and its recognition.
//!
//! The template is `templates/launch.sh`. It contains values only as quoted words in one block of assignments, as
//! TOML strings for `config.toml`, and in the header through a filter that keeps them in their comment line.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::context;
use sha2::{Digest as _, Sha256};

use super::Proxy;
use super::cache;
use super::config_entry::Entry;
use super::global_section::{GlobalSection, lines};
use super::install::{Installer, Method, RELEASES, check_common, is_plain, refused};
use super::runner_config;
use super::target::Target;
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::template::{hex, rendered, toml_string};

const TEMPLATE: &str = include_str!("../../templates/launch.sh");
/// The parts of the template, with the names of their includes.
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
    ("global.sh", include_str!("../../templates/launch/global.sh")),
    ("metadata.sh", include_str!("../../templates/launch/metadata.sh")),
    ("proxy.sh", include_str!("../../templates/launch/proxy.sh")),
    ("paths.sh", include_str!("../../templates/launch/paths.sh")),
    ("prove.sh", include_str!("../../templates/launch/prove.sh")),
    ("release.sh", include_str!("../../templates/launch/release.sh")),
    ("scrub.sh", include_str!("../../templates/launch/scrub.sh")),
    ("secrets.sh", include_str!("../../templates/launch/secrets.sh")),
    ("service.sh", include_str!("../../templates/launch/service.sh")),
    ("tokens.sh", include_str!("../../templates/launch/tokens.sh")),
    ("where.sh", include_str!("../../templates/launch/where.sh")),
];
/// Bytes of the SHA-256 in a digest.
const DIGEST_BYTES: usize = 16;
/// The first line after the script's header.
const BODY: &str = "settings() {\n";
/// The first line of the code. All values that could contain such a line precede it.
const CODE: &str = "\nsay() {\n";
/// The length of a packed script's lines.
const LINE: usize = 120;
pub(super) const HEADER: &str = "# outrigger-launch-script deployment=";

/// The values of the launch script.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent properties of a script")]
pub struct LaunchScript<'a> {
    /// Part of the names of files on the machine: only letters, digits, `.`, `_` and `-`.
    pub deployment: &'a str,
    /// outrigger's version, for the header and the status file.
    pub outrigger_version: &'a str,
    /// The cluster's name, for the header.
    pub cluster: &'a str,
    /// The cluster's CA certificates; `None` when the system's roots verify the API server.
    pub ca_pem: Option<&'a str>,
    /// GitLab's CA certificates; `None` when the system's roots verify GitLab.
    pub gitlab_ca_pem: Option<&'a str>,
    /// The expected user of the cluster token: `system:serviceaccount:<namespace>:<name>`.
    pub account: String,
    /// The source of gitlab-runner.
    pub installer: Installer<'a>,
    /// The `[[runners]]` entry; its name and GitLab URL identify it in the runner's configuration.
    pub entry: Entry<'a>,
    /// The settings of gitlab-runner as a whole.
    pub global: GlobalSection<'a>,
    /// The proxy on the machine's way out.
    pub proxy: Option<&'a Proxy>,
    /// The runner's tags, for the header.
    pub tags: &'a [String],
    /// The place where the script runs.
    pub target: &'static Target,
    /// The script blocks the machine's access to its metadata service.
    pub lock_metadata: bool,
    /// Whether to replace an entry that was changed by hand.
    pub replace_entry: bool,
    /// `None` for a script that keeps the tokens on the machine or reads them from a file.
    pub secrets: Option<ScriptSecrets<'a>>,
}

/// The secrets of a launch script.
#[derive(Clone, Copy, Debug)]
pub struct ScriptSecrets<'a> {
    /// The runner's authentication token, `glrt-…`.
    pub runner_token: &'a Secret,
    /// When that token expires (RFC 3339, UTC), if known: with it in the entry, the runner renews the token in
    /// time.
    pub runner_expires: Option<&'a str>,
    /// The cluster token of the manager's `ServiceAccount`.
    pub bearer_token: &'a Secret,
}

impl LaunchScript<'_> {
    /// Identifies the script's result on a machine: the first half of the SHA-256, in hex, of the values that it
    /// writes there.
    ///
    /// Not included are secrets and what of `--runner-config` may be one (the script itself recognises new tokens; a
    /// password or key could be guessed from a digest that others can read), the template, outrigger's version, the
    /// target and values of the header only, so that a new version of outrigger does not change the digest.
    pub fn digest(&self) -> String {
        let cache = self.entry.cache.map(cache::without_credentials);
        let extra = self.entry.extra.map(runner_config::without_secrets);
        self.digest_with(&Entry { cache: cache.as_ref(), extra: extra.as_ref(), ..self.entry.clone() })
    }

    /// The same with them, for the script itself: new ones change the runner's entry.
    fn whole_digest(&self) -> String {
        self.digest_with(&self.entry)
    }

    fn digest_with(&self, entry: &Entry<'_>) -> String {
        let installer = &self.installer;
        let fingerprint = installer.fingerprint();
        let (entry, binary) = (entry.parts(), installer.binary());
        let from = match installer.method {
            Method::Binary => ["", "", "", &binary],
            _ => [installer.apt_url, installer.key_url, &fingerprint, ""],
        };
        let global = lines(&self.global.given());
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
            ("global", Some(global.as_str()).filter(|global| !global.is_empty())),
            ("listen_address", self.global.listen_address),
            ("proxy", self.proxy.map(|proxy| proxy.shown.as_str())),
        ];
        let mut hash = Sha256::new();
        for (name, value) in inputs {
            // A missing value and an empty one differ; the length separates a value from the next.
            let Some(value) = value else { continue };
            hash.update(format!("{name} {}\n", value.len()));
            hash.update(value);
            hash.update("\n");
        }
        // Half of the hash is sufficient, and Lightsail's limit requires a short script.
        hex(&hash.finalize()[..DIGEST_BYTES])
    }

    /// Renders the script in the first of these forms that fits the target's size limit: complete, without
    /// comments, with packed code, packed without comments. (Lightsail's limit is low, and certificates differ in
    /// length.) The second value describes the form for the user. Fails as [`Self::render`], and with OR0711 if no
    /// form fits.
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

    /// Renders the complete script, which is a secret with and without tokens.
    ///
    /// Fails with OR0711 for values that are invalid in their place: a NUL byte, a deployment that is not a file
    /// name, a version that is not a package version, a repository URL that is invalid in apt's files.
    pub fn render(&self) -> Result<Secret> {
        self.rendered(false)
    }

    fn rendered(&self, brief: bool) -> Result<Secret> {
        self.check()?;
        let installer = &self.installer;
        let binary = installer.binary();
        // A redirect from https to http is refused.
        let protocols = |url: &str| if url.starts_with("https://") { "=https" } else { "=http,https" };
        let review = serde_json::json!({
            "spec": {"resourceAttributes": {
                "namespace": self.entry.namespace, "verb": "create", "resource": "pods"}},
        });
        let global = self.global.written(self.entry.job_limit);
        let listen = self.global.listen_address.map(|address| format!(" --listen-address {address}"));
        let asked = self.global.listen_address.map(|address| ("listen_address", toml_string(address)));
        let asked: Vec<_> = self.global.given().into_iter().chain(asked).collect();
        let values = context! {
            undo => false,
            looks => false,
            brief => brief,
            deployment => self.deployment,
            digest => self.whole_digest(),
            noted_digest => self.digest(),
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
            global => lines(&global),
            global_keys => global.iter().map(|(key, _)| *key).collect::<Vec<_>>().join("|"),
            global_asked => lines(&asked),
            listen => listen.unwrap_or_default(),
            added => self.added().join(" AND "),
            uses_identity => self.entry.uses_identity(),
            has_proxy => self.proxy.is_some(),
            proxy => self.proxy.map_or("", |proxy| proxy.whole.expose()),
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
            exact => installer.exact,
            releases => RELEASES.join(" "),
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
        // Comments are removed from the templates, before they contain values; the header stays.
        let (head, body) = TEMPLATE.split_once(BODY).unwrap_or(("", TEMPLATE));
        let parts: Vec<_> = PARTS.iter().map(|(name, text)| (*name, without_comments(text))).collect();
        let main = format!("{head}{}", without_comments(&format!("{BODY}{body}")));
        rendered("launch.sh", &main, &parts, values).map(Secret::new)
    }

    /// What the script contains besides the tokens that is or may be secret, for the header.
    fn added(&self) -> Vec<&'static str> {
        let entry = &self.entry;
        [
            ("WHAT --runner-config ADDED", entry.extra.is_some_and(|extra| !extra.is_empty())),
            ("THE CACHE'S CREDENTIALS", entry.cache.is_some() && !entry.uses_identity()),
            ("THE PROXY'S PASSWORD", self.proxy.is_some_and(Proxy::has_password)),
        ]
        .into_iter()
        .filter_map(|(what, holds)| holds.then_some(what))
        .collect()
    }

    /// Whether the script contains credentials besides the tokens.
    pub fn has_credentials(&self) -> bool {
        (self.entry.cache.is_some() && !self.entry.uses_identity())
            || self.entry.extra.is_some_and(runner_config::may_hold_secrets)
            || self.proxy.is_some_and(Proxy::has_password)
    }

    fn check(&self) -> Result<()> {
        if self.lock_metadata && self.entry.uses_identity() {
            let message = "--lock-metadata would block the cache's access to the VM's identity";
            return Err(Failure::new(Id::ScriptValue, message)
                .hint("give the cache credentials of its own: --cache-credentials-file PATH")
                .hint("or omit --lock-metadata"));
        }
        let texts = [
            ("runner name", self.entry.name),
            ("cluster URL", self.entry.host),
            ("cluster CA", self.ca_pem.unwrap_or_default()),
            ("GitLab URL", self.entry.url),
            ("GitLab CA", self.gitlab_ca_pem.unwrap_or_default()),
            ("namespace", self.entry.namespace),
            ("service account", self.entry.service_account),
            ("image", self.entry.image),
        ];
        check_common(self.deployment, self.outrigger_version, &texts)?;
        self.installer.check()?;
        // A unit of systemd and a command line contain it without quotes.
        let plain = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
        if let Some(address) = self.global.listen_address.filter(|address| !address.chars().all(plain)) {
            return Err(refused("listen address", address, "it must be an address such as 127.0.0.1:9252"));
        }
        let Some(secrets) = self.secrets else { return Ok(()) };
        if let Some(expires) = secrets.runner_expires.filter(|expires| !is_plain(expires, ":-")) {
            let rule = "it must be a time such as 2027-01-02T03:04:05Z";
            return Err(refused("end of the runner's token", expires, rule));
        }
        // An HTTP header and a TOML string contain the tokens without escapes.
        let is_token = |token: &Secret| {
            let text = token.expose();
            !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
        };
        if is_token(secrets.runner_token) && is_token(secrets.bearer_token) {
            return Ok(());
        }
        let rule = "it must be printable ASCII without spaces, quotes and backslashes";
        Err(refused("token", "(not shown)", rule))
    }
}

/// A part of the template without comment lines and without tabs at the beginning of lines, which have no meaning
/// in the template.
fn without_comments(text: &str) -> String {
    let is_comment = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("# ") && !line.starts_with("# shellcheck")
    };
    text.split_inclusive('\n')
        .filter(|line| !is_comment(line))
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}

/// The compressed part of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// The code; header, values and entry stay readable.
    Code,
    /// Everything after the header.
    All,
}

/// The script with a compressed part, which the shell unpacks. It contains the command that shows the part. A
/// truncated script does not unpack and runs nothing.
pub fn packed(script: &str, part: Packed) -> String {
    let at = match part {
        Packed::Code => script.rfind(CODE),
        // Values in the header stay in their comment line, so that none of them contains this line.
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

/// Whether `text` is a launch script or update script of this deployment.
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

/// The host of a URL for apt's pins: without user, port and path.
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
    fn host_of_leaves_out_user_port_and_path() {
        assert_eq!(host_of("https://packages.gitlab.com/runner/x"), "packages.gitlab.com");
        assert_eq!(host_of("http://u:p@127.0.0.1:8080"), "127.0.0.1");
    }

    #[test]
    fn recognises_a_script_by_its_header() {
        let head =
            format!("#!/bin/sh\n# x\n# outrigger-launch-script deployment=web digest={}\n", "0a".repeat(16));
        assert!(is_ours(&head, "web"));
        assert!(!is_ours(&head, "we"));
        assert!(!is_ours(&head.replace("0a", "0"), "web"));
        assert!(!is_ours("#!/bin/sh\n", "web"));
    }
}
