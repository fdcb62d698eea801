//! The way back on a host that lives on: a script that takes away what the launch script brought.

use minijinja::context;

use super::install::{is_plain, refused};
use super::launch_script::PARTS;
use crate::base::error::Result;
use crate::base::template::rendered;

const TEMPLATE: &str = include_str!("../../templates/uninstall.sh");

/// Everything the uninstall script depends on. None of it is secret.
#[derive(Clone, Debug)]
pub struct Uninstall<'a> {
    /// Names our files on the machine: letters, digits, `.`, `_` and `-` only.
    pub deployment: &'a str,
    /// Our own version, for the head and the status file.
    pub outrigger_version: &'a str,
    /// The entry's `name`.
    pub name: &'a str,
    /// The entry's GitLab URL.
    pub url: &'a str,
    /// The entry's API server, if it is known: without it an entry is ours by the path of its CA file.
    pub host: Option<&'a str>,
}

impl Uninstall<'_> {
    /// Renders the script.
    ///
    /// # Errors
    /// OR0711 for values that cannot be data: a NUL byte, a deployment or version that names no file.
    pub fn render(&self) -> Result<String> {
        if !is_plain(self.deployment, "._-") {
            return Err(refused(
                "deployment",
                self.deployment,
                "it must be a file name of letters, digits, '.', '_', '-'",
            ));
        }
        if !is_plain(self.outrigger_version, ".+~-") {
            return Err(refused("outrigger version", self.outrigger_version, "it is not a version"));
        }
        let host = self.host.unwrap_or_default();
        for (what, value) in [("runner name", self.name), ("GitLab URL", self.url), ("cluster URL", host)] {
            if value.contains('\0') {
                return Err(refused(what, value, "it contains a NUL byte"));
            }
        }
        let values = context! {
            undo => true,
            // Whatever the launch script found there: the one for any host is undone.
            shared => true,
            has_ca => true,
            has_gitlab_ca => true,
            deployment => self.deployment,
            outrigger_version => self.outrigger_version,
            runner_name => self.name,
            gitlab_url => self.url,
            kubernetes_host => host,
        };
        rendered("uninstall.sh", TEMPLATE, PARTS, values)
    }
}
