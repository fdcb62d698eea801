//! `outrigger render`: the manifests of all steps, for an administrator or a Git repository to apply.

use crate::base::error::Result;
use crate::commands::Ended;
use crate::commands::session::{Needs, Outside};
use crate::commands::step::write_printed;
use crate::steps::STEPS;
use crate::steps::contract::{AnyStep, Prints};

/// Writes the manifests to stdout, and their objects' intents to the record, as `create-role --print` does.
pub async fn render(outside: &mut Outside<'_>) -> Result<Ended> {
    let known = outside.settings().await?;
    let session = outside.open(Needs { writes: true, alone: true, ..Needs::default() }, known).await?;
    session.check().await?;
    session.check_owner()?;
    let steps: Vec<&'static dyn AnyStep> = STEPS
        .iter()
        .copied()
        .filter(|step| step.info().prints == Prints::OnRequest { with_cluster: true })
        .collect();
    write_printed(outside, &session, &steps).await?;
    Ok(Ended::well(false, ""))
}
