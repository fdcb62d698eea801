//! The launch script: what it says, and how values get into it.
//!
//! The text lives in `templates/launch.sh`. Values are data there: each enters through [`shell_quote`]
//! in one block of assignments, those bound for `config.toml` through [`toml_string`] first, and those
//! in the script's head through a filter that keeps them in their comment line.

use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};
use sha2::{Digest as _, Sha256};

use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;

/// Where GitLab publishes the runner's Debian packages, without the operating system's part.
pub const DEFAULT_APT_URL: &str = "https://packages.gitlab.com/runner/gitlab-runner";
/// Where GitLab publishes the key that signs that repository's metadata.
pub const DEFAULT_KEY_URL: &str = "https://packages.gitlab.com/gpgkey/gpg.key";
/// The fingerprint of that key. The key itself is not embedded: its expiry date moves, this does not.
pub const DEFAULT_KEY_FINGERPRINT: &str = "F6403F6544A38863DAA0B6E03F01618A51312F3F";
/// The gitlab-runner version that is installed when the user names none.
pub const DEFAULT_RUNNER_VERSION: &str = "19.4.1";
/// The largest script that Lightsail takes: 16 KiB less the room for its own preamble.
pub const LIGHTSAIL_LIMIT_BYTES: usize = 14_336;

const TEMPLATE: &str = include_str!("../templates/launch.sh");
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

/// Renders a text whose values are plain data: `{{ value | yaml }}` quotes for YAML, `sh` for a shell,
/// `toml` for TOML; `comment` keeps a value in its comment line. A placeholder without a value is an error.
///
/// # Errors
/// OR0710, which says the line and no value.
pub fn render(name: &str, text: &str, values: &serde_json::Value) -> Result<String> {
    rendered(name, text, minijinja::Value::from(minijinja::value::Serde(values)))
}

fn rendered(name: &str, text: &str, values: minijinja::Value) -> Result<String> {
    let broken = |error: &minijinja::Error| {
        // The error's own text may quote values; its kind and line say enough for a bug report.
        let line = error.line().map_or_else(|| "unknown".to_owned(), |line| line.to_string());
        Failure::new("OR0710", Kind::Unclassified, format!("the template {name} does not render"))
            .detail("reason", format!("{}, line {line}", error.kind()))
    };
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .map_err(|error| broken(&error))?;
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_syntax(syntax);
    env.add_filter("sh", |value: &str| shell_quote(value));
    env.add_filter("toml", |value: &str| toml_string(value));
    env.add_filter("yaml", |value: &str| yaml_string(value));
    env.add_filter("comment", |value: &str| comment_text(value));
    env.render_named_str(name, text, values).map_err(|error| broken(&error))
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// One shell word that means exactly `value`, in every POSIX shell. `value` must have no NUL byte.
#[must_use]
pub fn shell_quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A TOML basic string that means exactly `value`, on one line.
///
/// Escapes what the format demands and nothing else, in the form that the runner's own TOML writer
/// uses: the entry is recognised by comparing text, also after the runner has rewritten the file.
#[must_use]
pub fn toml_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A YAML scalar that means exactly `value` to readers of YAML 1.1 and 1.2 alike: a JSON string, with
/// what one of them takes for a line break or leaves out written as an escape.
#[must_use]
pub fn yaml_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    for c in serde_json::Value::from(value).to_string().chars() {
        match c {
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
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

/// A value inside a comment line: it cannot end the line, and cannot reorder what a reviewer sees.
fn comment_text(value: &str) -> String {
    const LONGEST: usize = 200;
    let mut out = String::new();
    for (at, c) in value.chars().enumerate() {
        if at == LONGEST {
            out.push('…');
            break;
        }
        match c {
            // Line ends, invisible characters and the controls of text direction.
            _ if c.is_control() => out.extend(c.escape_unicode()),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                out.extend(c.escape_unicode());
            }
            _ => out.push(c),
        }
    }
    out
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
    use super::{comment_text, host_of, is_ours, shell_quote, toml_string, yaml_string};

    #[test]
    fn words_and_strings() {
        assert_eq!(shell_quote("it's $(x) `y`\n"), "'it'\\''s $(x) `y`\n'");
        assert_eq!(toml_string("a\"\\\n\u{1}\u{7f}é\u{2028}"), "\"a\\\"\\\\\\n\\u0001\\u007fé\u{2028}\"");
    }

    #[test]
    fn a_comment_stays_one_line() {
        let text = comment_text("a\nrm -rf /\r\u{2028}\u{202e}b\u{85}");
        assert_eq!(text, "a\\u{a}rm -rf /\\u{d}\\u{2028}\\u{202e}b\\u{85}");
        assert!(comment_text(&"x".repeat(9000)).len() < 210);
    }

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

    #[test]
    fn words_that_yaml_1_1_takes_for_something_else_stay_words() {
        for word in [
            "yes",
            "no",
            "on",
            "12:30:45",
            "1_000",
            "2001-01-01",
            "=",
            "<<",
            "~",
            "null",
            "0x1f",
            "*a",
            "&a",
            "!x",
        ] {
            let quoted = yaml_string(word);
            assert!(quoted.starts_with('"') && quoted.ends_with('"'), "{quoted}");
        }
        assert_eq!(yaml_string("a\u{85}b\u{2028}c\u{feff}"), r#""a\u0085b\u2028c\ufeff""#);
    }
}
