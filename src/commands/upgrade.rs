//! `upgrade`: setup with another intent. Another version of gitlab-runner on the host, while no job runs there.

use crate::base::error::{Command, Failure, Id, Result};
use crate::commands::rotate::carry_out;
use crate::commands::session::{Needs, Outside};
use crate::commands::{Ended, setup};
use crate::deployment::run::Part;
use crate::settings::DEFAULT_RUNNER_VERSION;
use crate::settings::check::{self, LATEST_KNOWN};
use crate::steps::STEPS;

/// `upgrade`.
///
/// # Errors
/// Failures before the first change; later ones are in [`Ended`].
pub async fn upgrade(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut known = outside.settings().await?;
    // The recorded one is what is to be replaced.
    let version = &known.0.runner_version;
    if version.source.is_remembered() && check::is_older(&version.value, DEFAULT_RUNNER_VERSION) {
        outside.asked.insert("runnerVersion".to_owned(), vec![LATEST_KNOWN.to_owned()]);
        known = outside.settings().await?;
    }
    let is_own = known.1.as_ref().is_some_and(|record| record.gitlab.owned().is_some());
    if known.1.is_some() && known.0.host.is_none() && !known.0.create_vm {
        let version = &known.0.runner_version.value;
        return Err(Failure::new(Id::MissingInput, "upgrade needs the host: set --host [USER@]HOST[:PORT]")
            .hint((
                "for a script to run there by hand",
                Command::outrigger(format!("setup --runner-version {version}")),
            )));
    }
    let is_part = |part| matches!(part, Some(Part::Script | Part::Vm | Part::Host));
    let mut selection: Vec<_> = STEPS.iter().copied().filter(|step| is_part(step.info().part)).collect();
    selection.retain(|step| step.info().part != Some(Part::Vm) || known.0.create_vm);
    let needs = Needs { again: is_own, upgrade: true, ..setup::needs(&selection) };
    carry_out(outside, selection, needs, known).await
}
