//! How gitlab-runner comes onto the machine, and by what it is known to be the right one.

use super::launch_script::host_of;
use crate::base::error::{Failure, Id, Result};

pub use crate::settings::InstallMethod as Method;

/// Where gitlab-runner comes from.
#[derive(Clone, Debug)]
pub struct Installer<'a> {
    /// The way.
    pub method: Method,
    /// The version to install; a newer one on the machine stays.
    pub version: &'a str,
    /// The package repository, without `/debian` or `/ubuntu`.
    pub apt_url: &'a str,
    /// Where to get its key.
    pub key_url: &'a str,
    /// The key's fingerprint; spaces and lower case are accepted.
    pub key_fingerprint: &'a str,
    /// The static binary; none means GitLab's own place for this version, for amd64.
    pub binary_url: Option<&'a str>,
    /// SHA-256 of the package or the binary, 64 hex digits, if known.
    pub sha256: Option<&'a str>,
    /// False puts a notice with the sources at the script's top.
    pub is_default: bool,
}

/// Hashes known to this version of outrigger: version, file, SHA-256. Only what was read from GitLab's
/// signed `release.sha256` goes in here; a version that is not listed needs its hash named.
const KNOWN: &[(&str, Method, &str)] = &[];

/// The SHA-256 of what GitLab published as this version for amd64, if it is known here.
pub fn known_sha256(method: Method, version: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(v, m, _)| *v == version && *m == method).map(|(_, _, sha256)| *sha256)
}

/// GitLab's binary of this version for amd64. Source: "Download the binary" in GitLab's installation
/// pages, under the host that answers on IPv4 and IPv6.
pub fn default_binary_url(version: &str) -> String {
    format!(
        "https://s3.dualstack.us-east-1.amazonaws.com/gitlab-runner-downloads/v{version}/binaries/gitlab-runner-linux-amd64"
    )
}

impl Installer<'_> {
    /// Where the binary is.
    pub fn binary(&self) -> String {
        self.binary_url.map_or_else(|| default_binary_url(self.version), str::to_owned)
    }

    /// Whether this version has `gitlab-runner lint`, which came with 19.3.
    pub(super) fn can_lint(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (19, 3)
    }

    /// Refuses what could not be data in apt's files or in the script.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: &str, value: &str, rule: &str| Err(refused(what, value, rule));
        if !is_plain(self.version, ".+~") {
            return refuse("runner version", self.version, "it is not a version such as 19.4.1");
        }
        let fingerprint = self.fingerprint();
        if fingerprint.len() != 40 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refuse("key fingerprint", self.key_fingerprint, "it must have 40 hexadecimal digits");
        }
        let binary = self.binary();
        for (what, value) in
            [("package repository", self.apt_url), ("key URL", self.key_url), ("binary URL", &binary)]
        {
            let http = value.starts_with("https://") || value.starts_with("http://");
            if !http
                // It stands in apt's preferences as it is.
                || !is_plain(host_of(value), ".-")
                || !value.chars().all(|c| c.is_ascii_graphic() && !"\"[]".contains(c))
            {
                return refuse(what, value, "it must be an http or https URL without spaces or quotes");
            }
        }
        match self.sha256 {
            Some(sha256) if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) => {
                refuse("SHA-256", sha256, "it must have 64 hexadecimal digits")
            }
            None if self.method == Method::Binary => refuse("binary", &binary, "its SHA-256 is not known"),
            _ => Ok(()),
        }
    }

    /// The fingerprint as gpg prints it for machines.
    pub(super) fn fingerprint(&self) -> String {
        self.key_fingerprint.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect()
    }
}

pub(super) fn refused(what: &str, value: &str, rule: &str) -> Failure {
    Failure::new(Id::ScriptValue, format!("invalid {what} {value:?} for the launch script"))
        .detail("reason", rule.to_owned())
}

/// Letters, digits and these, beginning with a letter or digit.
pub(super) fn is_plain(value: &str, extra: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}
