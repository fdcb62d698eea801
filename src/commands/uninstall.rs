//! `launch-script --uninstall`: the script that reverts the launch script on a host, from local data.

use crate::base::error::Result;
use crate::commands::session::Outside;
use crate::commands::{Ended, write_product};
use crate::machine::uninstall::Uninstall;
use crate::settings::{Missing, missing_failure};

/// Prints the script to stdout, without prompts, changes or connections.
pub(super) async fn uninstall(outside: &Outside<'_>) -> Result<Ended> {
    let (settings, record) = outside.settings().await?;
    let Some(url) = &settings.gitlab_url else {
        let note = "the URL in the entry on the host, such as https://gitlab.com";
        return Err(missing_failure(vec![Missing::new("gitlabUrl", note)]));
    };
    let recorded = record.as_ref().map(|record| record.cluster.server.trim_end_matches('/'));
    let given = settings.kubernetes_host.as_ref().map(|host| host.value.as_str());
    let script = Uninstall {
        deployment: &settings.deployment.value,
        outrigger_version: env!("CARGO_PKG_VERSION"),
        name: &settings.deployment.value,
        url: &url.value,
        host: given.or(recorded).filter(|host| !host.is_empty()),
    };
    write_product(outside, script.render()?.as_bytes())?;
    Ok(Ended::well(false, ""))
}
