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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::error::{Failure, Id, Result};
use crate::base::template::yaml_string;
use crate::settings::Place;

/// How the script reaches the machine, and when it runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// cloud-init runs it at the first boot; a copy of the disk with a new instance id counts as a new one.
    FirstBoot,
    /// The same, in a cloud-init document that writes the script to disk and runs it.
    CloudConfig,
    /// A guest agent without cloud-init runs it at each boot.
    EveryBoot,
    /// You copy it to a host that is up, and run it.
    Copy,
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
    /// The most that it takes, in bytes; none where only the disk limits it.
    pub limit: Option<usize>,
    /// How the script gets there.
    pub delivery: Delivery,
    /// Who can read the script back, and for how long.
    pub readers: &'static str,
    /// A metadata service gives the script to every process on the VM.
    pub metadata: bool,
    /// Why the script cannot close the VM's way to its metadata service there.
    pub no_lock: Option<&'static str>,
}

/// The smallest limit of a cloud that takes a cloud-init document: EC2's.
const SMALLEST_FOR_DOCUMENTS: usize = 16_384;

/// A cloud whose metadata service gives the user data to every process of the VM, until the VM is deleted.
const CLOUD: Target = Target {
    name: "",
    title: "",
    field: "user data",
    limit: None,
    delivery: Delivery::FirstBoot,
    readers: "every user of the VM (metadata service), root, copies of its disk",
    metadata: true,
    no_lock: None,
};

/// All of them, in the order of [`Place`].
pub static TARGETS: &[Target] = &[
    Target {
        name: "lightsail",
        title: "Amazon Lightsail",
        field: "launch script",
        limit: Some(14_336),
        ..CLOUD
    },
    Target {
        name: "ec2",
        title: "Amazon EC2",
        limit: Some(16_384),
        readers: "every user of the VM (metadata service), root, copies of its disk, users allowed to describe the instance; as long as they exist",
        ..CLOUD
    },
    Target {
        name: "gce",
        title: "Google Compute Engine",
        field: "startup script",
        limit: Some(262_144),
        delivery: Delivery::EveryBoot,
        readers: "every user of the VM (metadata server), users allowed to read the instance; until the metadata key is removed",
        no_lock: Some("the guest agent gets its SSH keys and this script from the metadata server"),
        ..CLOUD
    },
    Target {
        name: "azure",
        title: "Azure",
        field: "custom data",
        limit: Some(65_535),
        readers: "root on the VM (ovf-env.xml, cloud-init), copies of its disk; as long as they exist",
        metadata: false,
        no_lock: Some("Azure's metadata service does not have the custom data"),
        ..CLOUD
    },
    Target { name: "digitalocean", title: "DigitalOcean", limit: Some(65_536), ..CLOUD },
    Target { name: "hetzner", title: "Hetzner Cloud", limit: Some(32_768), ..CLOUD },
    Target {
        name: "openstack",
        title: "OpenStack",
        // 65,535 bytes of base64, which has four bytes for three.
        limit: Some(49_149),
        readers: "every user of the VM (metadata service, config drive), root, copies of its disk, the cloud's administrators; as long as they exist",
        ..CLOUD
    },
    Target {
        name: "ssh",
        title: "a host over SSH",
        field: "script",
        delivery: Delivery::Copy,
        readers: "you and root on the host; until you delete your files",
        metadata: false,
        no_lock: Some("a script that is copied over SSH is not in a metadata service"),
        ..CLOUD
    },
    Target {
        name: "cloud-config",
        title: "a cloud with cloud-init",
        delivery: Delivery::CloudConfig,
        readers: "every user of the VM on most clouds (metadata service), root, copies of its disk; as long as they exist",
        ..CLOUD
    },
    Target {
        name: "nocloud",
        title: "a VM with a NoCloud seed",
        field: "user-data file",
        readers: "users allowed to read the seed, root on the VM, copies of its disk; as long as they exist",
        metadata: false,
        no_lock: Some("a NoCloud seed is a disk or a directory, not a metadata service"),
        ..CLOUD
    },
];

/// The target that a setting names.
pub fn of(place: Place) -> &'static Target {
    &TARGETS[place as usize]
}

/// The target of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Whether it is a host that is up: its secrets go into a file of their own unless told otherwise, and a
    /// runner of somebody else's may be there, of which everything but our entry stays as it is, which takes
    /// a longer script. Elsewhere the machine is made for this one runner.
    pub fn is_host(&self) -> bool {
        self.delivery == Delivery::Copy
    }

    /// When it runs the script, as the rest of a sentence.
    pub fn runs(&self) -> &'static str {
        match self.delivery {
            Delivery::FirstBoot | Delivery::CloudConfig => "once, at first boot",
            Delivery::EveryBoot => "at every boot",
            Delivery::Copy => "when you run it",
        }
    }

    /// Whether cloud-init leaves copies of the script on the VM's disk.
    pub fn keeps_copies(&self) -> bool {
        matches!(self.delivery, Delivery::FirstBoot | Delivery::CloudConfig)
    }

    /// What the target is handed, made of the rendered script: the script itself, or a document around it
    /// that keeps the script's mark, so that it is known as ours.
    pub fn wrap(&self, script: &str, deployment: &str) -> String {
        match self.delivery {
            Delivery::CloudConfig => cloud_config(script, deployment),
            _ => script.to_owned(),
        }
    }

    /// Whether `document`, as [`Self::wrap`] made it, fits; a warning where some clouds would not take it.
    ///
    /// # Errors
    /// OR0711 (exit 3) with both sizes.
    pub fn check_size(&self, document: &str) -> Result<Option<String>> {
        let size = document.len();
        if let Some(limit) = self.limit.filter(|limit| size > *limit) {
            return Err(Failure::new(
                Id::ScriptValue,
                format!("the script has {size} bytes, but {} accepts at most {limit}", self.title),
            )
            .hint("if the CA bundle is the cause: run this where its server is reachable, so that only the needed certificates are included, or shorten the file")
            .hint("or copy the script to the VM, without a size limit: --target ssh"));
        }
        let warn = self.delivery == Delivery::CloudConfig && size > SMALLEST_FOR_DOCUMENTS;
        Ok(warn.then(|| {
            format!("{size} bytes, more than the {SMALLEST_FOR_DOCUMENTS} bytes that some clouds accept")
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
    use super::{Delivery, TARGETS, find};
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
        assert_eq!(sized("openstack", 49_149).expect("65,532 bytes of base64"), None);
        assert!(sized("openstack", 49_150).expect_err("65,536 of base64").message.contains("at most 49149"));
        assert_eq!(sized("ssh", 1_000_000).expect("no limit"), None);
        assert!(sized("cloud-config", 1_000_000).expect("no limit of its own").is_some());
        for target in TARGETS.iter().filter(|target| target.delivery != Delivery::CloudConfig) {
            assert_eq!(target.wrap("a\n", "web"), "a\n");
        }
    }
}
