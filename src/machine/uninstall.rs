//! The script that undoes the launch script's changes on a host.

use minijinja::context;

use super::install::check_common;
use super::launch_script::PARTS;
use crate::base::error::Result;
use crate::base::template::rendered;
use crate::deployment::record::Record;
use crate::settings::{Missing, Settings, missing_failure};

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

impl<'a> Uninstall<'a> {
    /// The deployment's, as settings and record know it. Fails with OR0201 without the GitLab URL.
    pub fn of(settings: &'a Settings, record: &'a Record) -> Result<Self> {
        let Some(url) = &settings.gitlab_url else {
            let note = "the URL in the entry on the host, such as https://gitlab.com";
            return Err(missing_failure(&[Missing::new("gitlabUrl", note)]));
        };
        let recorded = record.cluster.server.trim_end_matches('/');
        let given = settings.kubernetes_host.as_ref().map(|host| host.value.as_str());
        Ok(Self {
            deployment: &settings.deployment.value,
            outrigger_version: env!("CARGO_PKG_VERSION"),
            name: &settings.deployment.value,
            url: &url.value,
            host: Some(given.unwrap_or(recorded)).filter(|host| !host.is_empty()),
        })
    }

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
