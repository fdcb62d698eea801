//! Derives the target, and the location of the secrets, from the settings.

use super::target::{self, Target};
use crate::base::error::{Failure, Id, Result};
use crate::settings::{Secrets, Settings, Source};

/// The target of a script and the location of its secrets.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The target.
    pub target: &'static Target,
    /// The secrets are in a file next to the script.
    pub separate: bool,
    /// The script blocks the VM's access to its metadata service.
    pub lock_metadata: bool,
}

/// Derives the placement. A recorded setting that the target does not support is ignored; a given one fails with
/// OR0202 (exit 2).
pub fn placement(settings: &Settings) -> Result<Placement> {
    if settings.create_vm {
        return Ok(Placement { target: &target::MADE, separate: true, lock_metadata: false });
    }
    let target = target::of(*settings.target);
    let name = target.name;
    let refuse = |flag: &str, why: &str, instead: &str| {
        Failure::new(Id::InvalidInput, format!("{flag} cannot be used with --target {name}"))
            .detail("because", why)
            .hint(instead)
    };
    let lock_metadata = settings.lock_metadata && target.no_lock.is_none();
    if let (true, Some(why)) = (settings.lock_metadata, target.no_lock)
        && !settings.sources.get("lockMetadata").is_some_and(Source::is_remembered)
    {
        return Err(refuse("--lock-metadata", why, "omit --lock-metadata"));
    }
    let separate = match &settings.secrets {
        None => target.is_host(),
        Some(how) if target.is_host() => how.value == Secrets::Separate,
        Some(how) if how.value == Secrets::Separate && !how.source.is_remembered() => {
            return Err(refuse(
                "--secrets separate",
                "the VM runs the script at boot, before the secrets file can be copied to it",
                "create the VM without a script and copy both files to it: --target ssh; or keep the secrets in the script: --secrets inline",
            ));
        }
        Some(_) => false,
    };
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
