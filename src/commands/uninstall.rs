//! `launch-script --uninstall`: the script that reverts the launch script on a host, from local data.

use crate::base::error::Result;
use crate::commands::session::Outside;
use crate::commands::{Ended, write_product};
use crate::machine::uninstall::Uninstall;

/// Prints the script to stdout, without prompts, changes or connections.
pub(super) async fn uninstall(outside: &Outside<'_>) -> Result<Ended> {
    let (settings, record) = outside.settings().await?;
    let record = record.unwrap_or_default();
    let script = Uninstall::of(&settings, &record)?;
    write_product(outside, script.render()?.as_bytes())?;
    Ok(Ended::well(false, ""))
}
