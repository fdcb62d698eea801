//! What the settings ask for: a target, and how the secrets travel there. What it cannot take is refused.

use super::target::{self, Target};
use crate::base::error::{Failure, Id, Result};
use crate::settings::{Secrets, Settings, Source};

/// Where a script goes and how its secrets travel, as the settings have it.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The target.
    pub target: &'static Target,
    /// The secrets go into a file beside the script.
    pub separate: bool,
    /// The script closes the VM's way to its metadata service.
    pub lock_metadata: bool,
}

/// What the settings ask for. What was recorded for another target and does not suit this one is left
/// aside; what is asked for now and cannot be is refused.
///
/// # Errors
/// OR0202 (exit 2) that says why and what to do instead.
pub fn placement(settings: &Settings) -> Result<Placement> {
    let target = target::of(*settings.target);
    let name = target.name;
    let refuse = |flag: &str, why: &str, instead: &str| {
        Failure::new(Id::InvalidInput, format!("{flag} cannot be used with --target {name}"))
            .detail("because", why)
            .hint(instead)
    };
    let mut lock_metadata = settings.lock_metadata;
    if let (true, Some(why)) = (lock_metadata, target.no_lock) {
        if !settings.sources.get("lockMetadata").is_some_and(Source::is_remembered) {
            return Err(refuse("--lock-metadata", why, "omit --lock-metadata"));
        }
        lock_metadata = false;
    }
    let mut separate = target.is_host();
    if let Some(how) = &settings.secrets {
        separate = how.value == Secrets::Separate;
        if separate && !target.is_host() {
            if !how.source.is_remembered() {
                return Err(refuse(
                    "--secrets separate",
                    "the VM runs the script at boot, before the secrets file can be copied to it",
                    "create the VM without a script and copy both files to it: --target ssh; or keep the secrets in the script: --secrets inline",
                ));
            }
            separate = target.is_host();
        }
    }
    if separate && settings.script.as_ref().is_some_and(|path| path.value.as_os_str() == "-") {
        return Err(Failure::new(
            Id::InvalidInput,
            "--secrets separate requires a script file, but --script is -",
        )
        .detail("because", "the secrets file is written next to the script")
        .hint("give a file with --script FILE, or keep the secrets in the script: --secrets inline"));
    }
    Ok(Placement { target, separate, lock_metadata })
}
