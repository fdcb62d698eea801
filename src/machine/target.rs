//! The targets of a launch script: their limits, when they run the script, and the users that can read it
//! afterwards.
//!
//! Sources. Lightsail: the limit is that of public projects (the real limit is not documented, and AWS's own shell
//! block takes a part of it); because of that block, the user data must be a shell script. EC2: its user guide
//! (16 KB before base64; the API returns the user data to authorized users). GCE: REST reference, "Metadata"
//! (262,144 bytes per value), and its guide to startup scripts. Azure: SDK reference of `customData` (65,535 bytes,
//! decoded; not in the metadata service). `DigitalOcean`: its `OpenAPI` specification (64 KiB). Hetzner: its
//! provider's documentation (32 KiB). `OpenStack`: Nova's user guide (65,535 bytes of base64; metadata service or
//! config drive). Copies on the disk: cloud-init's `helpers.py` and `cc_scripts_user`; GCE's guest agent runs a
//! startup script without cloud-init.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::error::{Failure, Id, Result};
use crate::base::template::yaml_string;
use crate::settings::Place;

/// How the script reaches the machine, and when it runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// cloud-init runs it at the first boot, also of a copy of the disk with a new instance id.
    FirstBoot,
    /// As `FirstBoot`, with a cloud-init document that writes the script to disk and runs it.
    CloudConfig,
    /// A guest agent without cloud-init runs it at every boot.
    EveryBoot,
    /// The user copies it to a running host and runs it.
    Copy,
    /// outrigger runs it over SSH on a VM that it has made for this.
    Deliver,
}

/// A place where a launch script can run.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name in messages.
    pub title: &'static str,
    /// The place's own term for the script or document.
    pub field: &'static str,
    /// In bytes; `None` if there is no limit.
    pub limit: Option<usize>,
    /// How the script reaches the machine.
    pub delivery: Delivery,
    /// The users that can read the script, and for how long.
    pub readers: &'static str,
    /// A metadata service returns the script to every process on the VM.
    pub metadata: bool,
    /// Why the script cannot block the VM's access to the metadata service.
    pub no_lock: Option<&'static str>,
}

/// The lowest limit of a cloud that accepts a cloud-init document: EC2's.
const SMALLEST_FOR_DOCUMENTS: usize = 16_384;

/// A cloud whose metadata service returns the user data to every process of the VM until the VM is deleted.
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

/// In the order of [`Place`].
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
        // 65,535 bytes of base64, which has four bytes for every three.
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

/// The VM of `--create-vm`: its script is that of a VM of its own, and no user data.
pub static MADE: Target = Target {
    name: "lightsail",
    title: "Amazon Lightsail",
    field: "script",
    delivery: Delivery::Deliver,
    readers: "you and root on the VM; the files on this disk are removed when it has run",
    metadata: false,
    no_lock: Some("the script is not in the metadata service"),
    ..CLOUD
};

/// The target of a setting.
pub fn of(place: Place) -> &'static Target {
    &TARGETS[place as usize]
}

/// Finds a target by its name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Whether it is a running host and not a new VM for this runner. By default its secrets are in a separate
    /// file. It may have another runner, whose configuration must stay unchanged, so that its script is longer.
    pub fn is_host(&self) -> bool {
        self.delivery == Delivery::Copy
    }

    /// When it runs the script; completes the sentence "it runs …".
    pub fn runs(&self) -> &'static str {
        match self.delivery {
            Delivery::FirstBoot | Delivery::CloudConfig => "once, at first boot",
            Delivery::EveryBoot => "at every boot",
            Delivery::Copy => "when you run it",
            Delivery::Deliver => "over SSH, when the VM is there",
        }
    }

    /// Whether cloud-init leaves copies of the script on the VM's disk.
    pub fn keeps_copies(&self) -> bool {
        matches!(self.delivery, Delivery::FirstBoot | Delivery::CloudConfig)
    }

    /// The text for the target: the script, or a document with the script and its header line, by which
    /// [`super::is_ours`] recognises it.
    pub fn wrap(&self, script: &str, deployment: &str) -> String {
        match self.delivery {
            Delivery::CloudConfig => cloud_config(script, deployment),
            _ => script.to_owned(),
        }
    }

    /// Checks the size of a document of [`Self::wrap`]. Fails with OR0711 (exit 3); returns a warning if some clouds
    /// do not accept the size.
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

/// A cloud-init document. The script is deleted only after it has succeeded, so that it can be run again; its exit
/// code is that of the `runcmd` entry.
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
    fn the_table_has_a_row_for_every_choice() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(setting("target").map(|row| row.choices), Some(names.as_slice()));
        assert!(find("mars").is_none());
    }

    #[test]
    fn the_rows_are_consistent() {
        for target in TARGETS {
            let name = target.name;
            // Without a metadata service there is no access to block.
            assert!(target.metadata || target.no_lock.is_some(), "{name}");
            assert_eq!(target.metadata, target.readers.contains("metadata ser"), "{name}");
            // It is in a comment line of the script, which is truncated to 200 characters.
            assert!(target.readers.len() < 160, "{name}");
        }
    }

    #[test]
    fn refuses_or_warns_of_a_large_script() {
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
