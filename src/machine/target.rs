//! Where a launch script can run: what each place takes, when it runs the script, and who can read it
//! back afterwards.
//!
//! Facts and their sources: Lightsail's limits are those of public projects (the true cap is not
//! documented, and AWS's own shell block takes a part of it); that its user data is a shell script and
//! nothing else follows from that block. EC2: its user guide (16 KB before base64; the API gives the user
//! data back to who may ask for it). GCE: REST reference, "Metadata" (262,144 bytes a value), and its guide
//! to startup scripts. Azure: SDK reference of `customData` (65,535 bytes, decoded; not in the metadata
//! service). `DigitalOcean`: its `OpenAPI` specification (64 KiB). Hetzner: its provider's documentation
//! (32 KiB). `OpenStack`: Nova's user guide (65,535 bytes of base64; metadata service or config drive).
//! What stays on the disk: cloud-init's `helpers.py` and `cc_scripts_user`; GCE's guest agent runs a
//! startup script without cloud-init.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::error::{Failure, Id, Result};
use crate::base::template::yaml_string;
use crate::settings::Place;

/// When a place runs the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// At the first boot; a copy of the disk with a new instance id counts as a new one.
    Once,
    /// At each boot.
    EveryBoot,
    /// When somebody does it.
    OnDemand,
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Once => "once, at first boot",
            Self::EveryBoot => "at every boot",
            Self::OnDemand => "when you run it",
        })
    }
}

/// What the place is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The script as it is.
    Script,
    /// A cloud-init document that writes the script to disk and runs it.
    CloudConfig,
}

/// How much a place takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The most, in bytes.
    pub bytes: usize,
    /// From more than this on, in bytes, a warning is due: others have seen less accepted.
    pub warn_above: usize,
    /// The bytes of its base64 are counted, not its own.
    pub in_base64: bool,
}

impl Limit {
    const fn of(bytes: usize) -> Self {
        Self { bytes, warn_above: bytes, in_base64: false }
    }
}

/// A place where a launch script can run.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it calls the thing that it is handed.
    pub field: &'static str,
    /// How much it takes; none where only the disk limits it.
    pub limit: Option<Limit>,
    /// When it runs the script.
    pub runs: Runs,
    /// What it is handed.
    pub form: Form,
    /// Who can read the script back, and for how long.
    pub readers: &'static str,
    /// A metadata service gives the script to every process on the VM.
    pub metadata: bool,
    /// cloud-init leaves copies of the script on the VM's disk.
    pub copies: bool,
    /// Why the script cannot close the VM's way to its metadata service there, and what to do instead.
    pub no_lock: Option<(&'static str, &'static str)>,
    /// Its secrets go into a file of their own unless told otherwise.
    pub separate: bool,
}

const VM_USERS: &str = "every user of the VM (metadata service), root, copies of its disk";
const LEAVE_AWAY: &str = "omit --lock-metadata";

/// All of them, in the order of [`Place`].
pub static TARGETS: &[Target] = &[
    Target {
        name: "lightsail",
        title: "Amazon Lightsail",
        field: "launch script",
        limit: Some(Limit::of(14_336)),
        runs: Runs::Once,
        form: Form::Script,
        readers: VM_USERS,
        metadata: true,
        copies: true,
        no_lock: None,
        separate: false,
    },
    Target {
        name: "ec2",
        title: "Amazon EC2",
        field: "user data",
        limit: Some(Limit::of(16_384)),
        runs: Runs::Once,
        form: Form::Script,
        readers: "every user of the VM (metadata service), root, copies of its disk, users allowed to describe the instance; as long as they exist",
        metadata: true,
        copies: true,
        no_lock: None,
        separate: false,
    },
    Target {
        name: "gce",
        title: "Google Compute Engine",
        field: "startup script",
        limit: Some(Limit::of(262_144)),
        runs: Runs::EveryBoot,
        form: Form::Script,
        readers: "every user of the VM (metadata server), users allowed to read the instance; until the metadata key is removed",
        metadata: true,
        copies: false,
        no_lock: Some((
            "the guest agent gets its SSH keys and this script from the metadata server",
            "omit --lock-metadata; once the runner is online, remove the key startup-script, as outrigger launch-script --print-commands shows",
        )),
        separate: false,
    },
    Target {
        name: "azure",
        title: "Azure",
        field: "custom data",
        limit: Some(Limit::of(65_535)),
        runs: Runs::Once,
        form: Form::Script,
        readers: "root on the VM (ovf-env.xml, cloud-init), copies of its disk; as long as they exist",
        metadata: false,
        copies: true,
        no_lock: Some(("Azure's metadata service does not have the custom data", LEAVE_AWAY)),
        separate: false,
    },
    Target {
        name: "digitalocean",
        title: "DigitalOcean",
        field: "user data",
        limit: Some(Limit::of(65_536)),
        runs: Runs::Once,
        form: Form::Script,
        readers: VM_USERS,
        metadata: true,
        copies: true,
        no_lock: None,
        separate: false,
    },
    Target {
        name: "hetzner",
        title: "Hetzner Cloud",
        field: "user data",
        limit: Some(Limit::of(32_768)),
        runs: Runs::Once,
        form: Form::Script,
        readers: VM_USERS,
        metadata: true,
        copies: true,
        no_lock: None,
        separate: false,
    },
    Target {
        name: "openstack",
        title: "OpenStack",
        field: "user data",
        limit: Some(Limit { bytes: 65_535, warn_above: 65_535, in_base64: true }),
        runs: Runs::Once,
        form: Form::Script,
        readers: "every user of the VM (metadata service, config drive), root, copies of its disk, the cloud's administrators; as long as they exist",
        metadata: true,
        copies: true,
        no_lock: None,
        separate: false,
    },
    Target {
        name: "ssh",
        title: "a host over SSH",
        field: "script",
        limit: None,
        runs: Runs::OnDemand,
        form: Form::Script,
        readers: "you and root on the host; until you delete your files",
        metadata: false,
        copies: false,
        no_lock: Some(("a script that is copied over SSH is not in a metadata service", LEAVE_AWAY)),
        separate: true,
    },
    Target {
        name: "cloud-config",
        title: "a cloud with cloud-init",
        field: "user data",
        // No cloud's own. The smallest that takes such a document is EC2's.
        limit: Some(Limit { bytes: usize::MAX, warn_above: 16_384, in_base64: false }),
        runs: Runs::Once,
        form: Form::CloudConfig,
        readers: "every user of the VM on most clouds (metadata service), root, copies of its disk; as long as they exist",
        metadata: true,
        copies: true,
        no_lock: None,
        separate: false,
    },
    Target {
        name: "nocloud",
        title: "a VM with a NoCloud seed",
        field: "user-data file",
        limit: None,
        runs: Runs::Once,
        form: Form::Script,
        readers: "users allowed to read the seed, root on the VM, copies of its disk; as long as they exist",
        metadata: false,
        copies: true,
        no_lock: Some(("a NoCloud seed is a disk or a directory, not a metadata service", LEAVE_AWAY)),
        separate: false,
    },
];

/// The target that a setting names.
#[must_use]
pub fn of(place: Place) -> &'static Target {
    &TARGETS[place as usize]
}

/// The target of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Whether a runner of somebody else's may be there, of which everything but our entry stays as it is:
    /// the script for such a machine is longer. Elsewhere the machine is made for this one runner.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.runs == Runs::OnDemand
    }

    /// What the target is handed, made of the rendered script: the script itself, or a document around it
    /// that keeps the script's mark, so that it is known as ours.
    #[must_use]
    pub fn wrap(&self, script: &str, deployment: &str) -> String {
        match self.form {
            Form::Script => script.to_owned(),
            Form::CloudConfig => cloud_config(script, deployment),
        }
    }

    /// Whether `document`, as [`Self::wrap`] made it, fits; a warning where it barely does.
    ///
    /// # Errors
    /// OR0711 (exit 3) with both sizes.
    pub fn check_size(&self, document: &str) -> Result<Option<String>> {
        let Some(limit) = self.limit else { return Ok(None) };
        let (size, counted) = if limit.in_base64 {
            (document.len().div_ceil(3) * 4, " in base64")
        } else {
            (document.len(), "")
        };
        if size > limit.bytes {
            return Err(Failure::new(
                Id::ScriptValue, format!("the script has {size} bytes{counted}, but {} accepts at most {}", self.title, limit.bytes),
            )
            .hint("if the CA bundle is the cause: run this where its server is reachable, so that only the needed certificates are included, or shorten the file")
            .hint("or copy the script to the VM, without a size limit: --target ssh"));
        }
        Ok((size > limit.warn_above).then(|| {
            format!("{size} bytes, more than the {} bytes that some clouds accept", limit.warn_above)
        }))
    }
}

/// The script is kept for another try until it has succeeded: what cloud-init knows of its outcome is the
/// exit code of this one command.
fn cloud_config(script: &str, deployment: &str) -> String {
    let mark = script.lines().find(|line| line.starts_with(super::launch_script::HEADER)).unwrap_or_default();
    let path = format!("/var/lib/outrigger/{deployment}-launch.sh");
    let run = yaml_string(&format!("sh {path} && rm -f {path}"));
    format!(
        "#cloud-config\n\
         # Writes the script below to the VM's disk and runs it at the first boot. To read it:\n\
         #   sed -n 's/^ *content: //p' FILE | base64 -d\n\
         {mark}\n\
         write_files:\n\
         \x20 - path: {path}\n\
         \x20   owner: root:root\n\
         \x20   permissions: \"0700\"\n\
         \x20   encoding: b64\n\
         \x20   content: {}\n\
         runcmd:\n\
         \x20 - [sh, -c, {run}]\n",
        STANDARD.encode(script),
        path = yaml_string(&path),
    )
}

#[cfg(test)]
mod tests {
    use super::{Form, Runs, TARGETS, find};
    use crate::base::error::Id;
    use crate::settings::setting;

    #[test]
    fn the_table_has_what_the_command_line_offers() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(setting("target").map(|row| row.choices), Some(names.as_slice()));
        assert!(find("mars").is_none());
    }

    #[test]
    fn the_table_agrees_with_itself() {
        for target in TARGETS {
            let name = target.name;
            // Where no metadata service has the script, there is none to lock.
            assert!(target.metadata || target.no_lock.is_some(), "{name}");
            assert_eq!(target.metadata, target.readers.contains("metadata ser"), "{name}");
            assert_eq!(target.separate, target.runs == Runs::OnDemand, "{name}");
            // It stands in a comment line of the script, which is cut at 200 characters.
            assert!(target.readers.len() < 160, "{name}");
        }
    }

    #[test]
    fn sizes_are_refused_and_warned_of() {
        let sized = |name: &str, bytes: usize| find(name).expect("a target").check_size(&"x".repeat(bytes));
        assert_eq!(sized("lightsail", 14_336).expect("fits"), None);
        let failure = sized("lightsail", 14_337).expect_err("too long");
        assert_eq!((failure.id, failure.kind.exit_code()), (Id::ScriptValue, 3));
        assert!(failure.message.contains("14337") && failure.message.contains("14336"));
        // Base64 has four bytes for three.
        assert_eq!(sized("openstack", 49_149).expect("65,532 bytes of base64"), None);
        assert!(sized("openstack", 49_150).expect_err("65,536").message.contains("65536 bytes in base64"));
        assert_eq!(sized("ssh", 1_000_000).expect("no limit"), None);
        assert!(sized("cloud-config", 1_000_000).expect("no limit of its own").is_some());
        for target in TARGETS.iter().filter(|target| target.form == Form::Script) {
            assert_eq!(target.wrap("a\n", "web"), "a\n");
        }
    }
}
