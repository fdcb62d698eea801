//! The script that undoes the launch script's changes on a host.

use minijinja::context;

use super::install::check_common;
use super::launch_script::PARTS;
use crate::base::error::Result;
use crate::base::template::rendered;

const TEMPLATE: &str = include_str!("../../templates/uninstall.sh");

/// The values of the uninstall script; none of them is secret.
#[derive(Clone, Debug)]
pub struct Uninstall<'a> {
    /// Part of the names of files on the machine: only letters, digits, `.`, `_` and `-`.
    pub deployment: &'a str,
    /// outrigger's version, for the header and the status file.
    pub outrigger_version: &'a str,
    /// The entry's `name`.
    pub name: &'a str,
    /// The entry's GitLab URL.
    pub url: &'a str,
    /// The entry's API server; if `None`, the path of the CA file identifies the entry.
    pub host: Option<&'a str>,
}

impl Uninstall<'_> {
    /// Renders the script. Fails with OR0711 for a deployment that is not a file name, an invalid version or a NUL
    /// byte.
    pub fn render(&self) -> Result<String> {
        let host = self.host.unwrap_or_default();
        let texts = [("runner name", self.name), ("GitLab URL", self.url), ("cluster URL", host)];
        check_common(self.deployment, self.outrigger_version, &texts)?;
        let values = context! {
            undo => true,
            // The script undoes the changes on a shared host and on a dedicated machine.
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
