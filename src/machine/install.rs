//! The installation of gitlab-runner, and the checks of values in the scripts.

use super::launch_script::host_of;
use crate::base::error::{Failure, Id, Result};

pub use crate::settings::InstallMethod as Method;

/// The source of gitlab-runner.
#[derive(Clone, Debug)]
pub struct Installer<'a> {
    /// Packages or binary.
    pub method: Method,
    /// The version to install; a newer one on the machine stays.
    pub version: &'a str,
    /// The package repository, without `/debian` or `/ubuntu`.
    pub apt_url: &'a str,
    /// The repository's signing key.
    pub key_url: &'a str,
    /// The key's fingerprint; spaces and lower case are accepted.
    pub key_fingerprint: &'a str,
    /// The static binary; `None` for GitLab's download of this version for amd64.
    pub binary_url: Option<&'a str>,
    /// SHA-256 of the package or the binary, 64 hex digits.
    pub sha256: Option<&'a str>,
    /// If false, the script begins with a notice about the sources.
    pub is_default: bool,
    /// Exactly this version, also in place of a newer one.
    pub exact: bool,
}

/// The releases of Debian and Ubuntu that GitLab has packages for, by their code names.
pub const RELEASES: [&str; 11] = [
    "bullseye", "bookworm", "trixie", "forky", "duke", "bionic", "focal", "jammy", "noble", "questing",
    "resolute",
];

/// GitLab's binary of this version for amd64. Source: "Download the binary" in GitLab's installation pages, on the
/// host with IPv4 and IPv6.
pub fn default_binary_url(version: &str) -> String {
    format!(
        "https://s3.dualstack.us-east-1.amazonaws.com/gitlab-runner-downloads/v{version}/binaries/gitlab-runner-linux-amd64"
    )
}

impl Installer<'_> {
    /// The URL of the binary.
    pub fn binary(&self) -> String {
        self.binary_url.map_or_else(|| default_binary_url(self.version), str::to_owned)
    }

    /// Whether this version has `gitlab-runner lint` (19.3 and newer).
    pub(super) fn can_lint(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (19, 3)
    }

    /// Fails with OR0711 for values that are invalid in apt's files or in the script.
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
                // apt's preferences contain the host without quotes.
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

    /// The fingerprint in the format of `gpg --with-colons`.
    pub(super) fn fingerprint(&self) -> String {
        self.key_fingerprint.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect()
    }
}

pub(super) fn refused(what: &str, value: &str, rule: &str) -> Failure {
    Failure::new(Id::ScriptValue, format!("invalid {what} {value:?} for the launch script"))
        .detail("reason", rule.to_owned())
}

/// Checks the values that the launch script and the uninstall script have in common: the deployment must be a file
/// name, the version a package version, and the texts must not contain a NUL byte. A TOML string could contain one
/// as an escape, but a shell word cannot. Fails with OR0711.
pub(super) fn check_common(deployment: &str, version: &str, texts: &[(&str, &str)]) -> Result<()> {
    if !is_plain(deployment, "._-") {
        let rule = "it must be a file name of letters, digits, '.', '_', '-'";
        return Err(refused("deployment", deployment, rule));
    }
    if !is_plain(version, ".+~-") {
        return Err(refused("outrigger version", version, "it is not a version"));
    }
    match texts.iter().find(|(_, value)| value.contains('\0')) {
        Some((what, value)) => Err(refused(what, value, "it contains a NUL byte")),
        None => Ok(()),
    }
}

/// Whether the value begins with a letter or digit and contains only letters, digits and the extra characters.
pub(super) fn is_plain(value: &str, extra: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}
