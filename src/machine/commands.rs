//! The commands that bring a launch script to its target, for reading and pasting.
//!
//! They are a POSIX shell script as a whole. What outrigger cannot know is a variable, empty until somebody
//! fills it in: an unfilled one stops the command that needs it. Files go by path; no secret is among them.

use std::fmt::Write as _;
use std::path::Path;

use super::placement::Placement;
use super::secrets_file::path_beside;
use super::target::Runs;
use crate::settings::shell_word;

/// What to fill in: name, what tells which values there are.
type Variables = &'static [(&'static str, &'static str)];

/// Where no command closes the way to the metadata service from outside.
const KEPT: &str = "\n# The metadata service keeps the script as long as the VM exists: only one made with --lock-metadata\n\
                    # closes the VM's way to it.\n";

const ONLINE: &str = "yes, once outrigger status shows the runner's last contact";

/// The commands for the deployment whose script lies at `script`, an absolute path.
#[must_use]
pub fn commands(placement: &Placement, deployment: &str, script: &Path) -> String {
    let target = placement.target;
    let path = script.display().to_string();
    let words = Words { deployment, name: shell_word(deployment), file: shell_word(&path), path: &path };
    let (variables, create, close) = parts(target.name, &words, placement.separate);
    let mut out = format!(
        "# {deployment} on {}. The script runs {}.\n# It can be read back by {}.\n",
        target.title, target.runs, target.readers
    );
    out += "\n# Fill these in:\n";
    for (name, help) in variables {
        let _ = writeln!(out, "{name}='' # {help}");
    }
    let _ = writeln!(out, "online='' # {ONLINE}");
    let _ = write!(out, "\n{create}");
    let files = if placement.separate {
        format!("{} {}", words.file, shell_word(&path_beside(script).display().to_string()))
    } else {
        words.file.clone()
    };
    let sooner = if target.runs == Runs::OnDemand { "" } else { " Not sooner: the VM may not have read it." };
    let _ = writeln!(
        out,
        "\n# Once the runner is online nobody needs the script.{sooner}\nif [ \"$online\" = yes ]; then"
    );
    for line in close.lines() {
        let _ = writeln!(out, "  {line}");
    }
    let _ = writeln!(out, "  rm -f {files}\nfi");
    out
}

/// The two commands that copy the files to a host and run the script there: `host` is the shell's word
/// for it. The host's copies are removed when the script has succeeded.
#[must_use]
pub fn over_ssh(script: &Path, separate: bool, host: &str) -> [String; 2] {
    let mut files = vec![script.to_owned()];
    if separate {
        files.push(path_beside(script));
    }
    let local: Vec<String> = files.iter().map(|file| shell_word(&file.display().to_string())).collect();
    // Below the home directory there, and never taken for an option.
    let remote: Vec<String> = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| shell_word(&format!("./{}", name.to_string_lossy())))
        .collect();
    let remote = remote.join(" ");
    let run = shell_word(&format!("sudo sh {remote} && rm -f {remote}"));
    // A terminal, as sudo may ask for a password.
    [format!("scp -p {} {host}:", local.join(" ")), format!("ssh -t {host} {run}")]
}

/// The deployment and the script's path, quoted for a shell, and the path as it is.
struct Words<'a> {
    deployment: &'a str,
    name: String,
    file: String,
    path: &'a str,
}

/// What to fill in, the commands that create, and those that take the script out of reach afterwards.
fn parts(target: &str, words: &Words<'_>, separate: bool) -> (Variables, String, String) {
    let Words { deployment, name, file, path } = words;
    match target {
        "lightsail" => (
            LIGHTSAIL,
            format!(
                "aws lightsail create-instances --region \"${{region:?}}\" --availability-zone \"${{zone:?}}\" \\\n  \
                 --instance-names {name} --blueprint-id \"${{blueprint:?}}\" --bundle-id \"${{bundle:?}}\" \\\n  \
                 --user-data {}\n\n\
                 # The runner needs no open port. Once this says running, close all but SSH from your address:\n\
                 aws lightsail get-instance-state --region \"${{region:?}}\" --instance-name {name}\n\
                 aws lightsail put-instance-public-ports --region \"${{region:?}}\" --instance-name {name} \\\n  \
                 --port-infos \"fromPort=22,toPort=22,protocol=tcp,cidrs=${{from:?}}\"\n",
                shell_word(&format!("file://{path}"))
            ),
            format!(
                "aws lightsail update-instance-metadata-options --region \"${{region:?}}\" \\\n  \
                 --instance-name {name} --http-endpoint disabled\n"
            ),
        ),
        "ec2" => (
            EC2,
            format!(
                "aws ec2 run-instances --region \"${{region:?}}\" --image-id \"${{image:?}}\" \\\n  \
                 --instance-type \"${{type:?}}\" --metadata-options HttpTokens=required \\\n  \
                 --tag-specifications {} \\\n  \
                 --user-data {} \\\n  \
                 --query 'Instances[0].InstanceId' --output text\n",
                shell_word(&format!("ResourceType=instance,Tags=[{{Key=Name,Value={deployment}}}]")),
                shell_word(&format!("file://{path}"))
            ),
            "aws ec2 modify-instance-metadata-options --region \"${region:?}\" \\\n  \
             --instance-id \"${instance:?}\" --http-endpoint disabled\n"
                .to_owned(),
        ),
        "gce" => {
            // A comma would begin another key, unless gcloud is told of another separator.
            let separator = if path.contains(',') { "^|^" } else { "" };
            (
                GCE,
                format!(
                    "# The VM needs no rights of its own in the project.\n\
                     gcloud compute instances create {name} --zone \"${{zone:?}}\" --machine-type \"${{type:?}}\" \\\n  \
                     --image-family \"${{family:?}}\" --image-project \"${{project:?}}\" \\\n  \
                     --no-service-account --no-scopes \\\n  \
                     --metadata-from-file {}\n",
                    shell_word(&format!("{separator}startup-script={path}"))
                ),
                format!(
                    "gcloud compute instances remove-metadata {name} --zone \"${{zone:?}}\" --keys startup-script\n"
                ),
            )
        }
        "azure" => (
            AZURE,
            format!(
                "az vm create --resource-group \"${{group:?}}\" --name {name} --image \"${{image:?}}\" \\\n  \
                 --size \"${{size:?}}\" --generate-ssh-keys --nsg-rule NONE --custom-data {file}\n"
            ),
            String::new(),
        ),
        "digitalocean" => (
            DIGITALOCEAN,
            format!(
                "doctl compute droplet create {name} --region \"${{region:?}}\" --image \"${{image:?}}\" \\\n  \
                 --size \"${{size:?}}\" --ssh-keys \"${{key:?}}\" --user-data-file {file}\n{KEPT}"
            ),
            String::new(),
        ),
        "hetzner" => (
            HETZNER,
            format!(
                "hcloud server create --name {name} --location \"${{location:?}}\" --image \"${{image:?}}\" \\\n  \
                 --type \"${{type:?}}\" --ssh-key \"${{key:?}}\" --user-data-from-file {file}\n{KEPT}"
            ),
            String::new(),
        ),
        "openstack" => (
            OPENSTACK,
            format!(
                "openstack server create --image \"${{image:?}}\" --flavor \"${{flavor:?}}\" \\\n  \
                 --network \"${{network:?}}\" --key-name \"${{key:?}}\" --user-data {file} {name}\n{KEPT}"
            ),
            String::new(),
        ),
        "ssh" => {
            let [copy, run] = over_ssh(Path::new(path), separate, "\"${host:?}\"");
            (SSH, format!("{copy}\n{run}\n"), String::new())
        }
        "cloud-config" => (
            CLOUD_CONFIG,
            format!(
                "# Whatever creates the VM takes the document as user data. With cloud-init at hand, check it first:\n\
                 cloud-init schema --config-file {file}\n{KEPT}\n\
                 # Without a cloud, on a disk that the VM finds at boot:\n{}",
                image(name, file)
            ),
            "[ -z \"$seed\" ] || rm -f \"$seed.img\" \"$seed.meta-data\"\n".to_owned(),
        ),
        _ => (
            NOCLOUD,
            format!(
                "# A directory, copied to /var/lib/cloud/seed/nocloud of the VM's disk:\n\
                 install -d -m 0700 \"${{seed:?}}\"\n\
                 install -m 0600 {file} \"${{seed:?}}/user-data\"\n\
                 printf 'instance-id: %s\\n' {name} >\"${{seed:?}}/meta-data\"\n\n\
                 # Or a disk that is attached to the VM:\n{}",
                image(name, file)
            ),
            "rm -f \"${seed:?}/user-data\" \"$seed.img\" \"$seed.meta-data\"\n".to_owned(),
        ),
    }
}

/// The seed as a disk. Its instance id is the deployment's name: cloud-init runs the script once for it.
fn image(name: &str, file: &str) -> String {
    format!(
        "umask 077 # it holds the script\n\
         printf 'instance-id: %s\\n' {name} >\"${{seed:?}}.meta-data\"\n\
         cloud-localds \"${{seed:?}}.img\" {file} \"${{seed:?}}.meta-data\"\n"
    )
}

const LIGHTSAIL: Variables = &[
    ("region", "aws lightsail get-regions --query 'regions[].name'"),
    ("zone", "one of that region: aws lightsail get-regions --include-availability-zones"),
    (
        "blueprint",
        "Ubuntu 24.04 or Debian 12: aws lightsail get-blueprints --query 'blueprints[?isActive].blueprintId'",
    ),
    (
        "bundle",
        "1 GB of memory or more, with a public IPv4 address: aws lightsail get-bundles --query 'bundles[?isActive]'",
    ),
    ("from", "your own address, such as 203.0.113.7/32, for SSH"),
];
const EC2: Variables = &[
    ("region", "aws ec2 describe-regions --query 'Regions[].RegionName'"),
    ("image", "Ubuntu 24.04 or Debian 12: aws ec2 describe-images, or the console's catalogue"),
    ("type", "1 GB of memory or more: aws ec2 describe-instance-types"),
    ("instance", "what the first command prints"),
];
const GCE: Variables = &[
    ("zone", "gcloud compute zones list"),
    ("type", "gcloud compute machine-types list"),
    ("family", "Ubuntu 24.04 or Debian 12: gcloud compute images list"),
    ("project", "the one that family is listed with"),
];
const AZURE: Variables = &[
    ("group", "az group list --output table"),
    ("image", "Ubuntu 24.04 or Debian 12: az vm image list --output table"),
    ("size", "1 GB of memory or more: az vm list-skus --resource-type virtualMachines --output table"),
];
const DIGITALOCEAN: Variables = &[
    ("region", "doctl compute region list"),
    ("image", "Ubuntu 24.04 or Debian 12: doctl compute image list-distribution"),
    ("size", "1 GB of memory or more: doctl compute size list"),
    ("key", "doctl compute ssh-key list"),
];
const HETZNER: Variables = &[
    ("location", "hcloud location list"),
    ("image", "Ubuntu 24.04 or Debian 12: hcloud image list --type system"),
    ("type", "hcloud server-type list"),
    ("key", "hcloud ssh-key list"),
];
const OPENSTACK: Variables = &[
    ("image", "Ubuntu 24.04 or Debian 12: openstack image list"),
    ("flavor", "1 GB of memory or more: openstack flavor list"),
    ("network", "openstack network list"),
    ("key", "openstack keypair list"),
];
const SSH: Variables = &[("host", "as ssh knows it: USER@ADDRESS")];
const CLOUD_CONFIG: Variables = &[("seed", "where to put a seed, with the beginning of its files' names")];
const NOCLOUD: Variables = &[("seed", "where to put the seed: a directory that is not there yet")];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{commands, over_ssh};
    use crate::machine::placement::Placement;
    use crate::machine::target::{TARGETS, find};

    fn of(name: &str, path: &str) -> String {
        let target = find(name).expect("a target");
        commands(
            &Placement { target, separate: target.separate, lock_metadata: false },
            "web",
            Path::new(path),
        )
    }

    #[test]
    fn every_target_has_commands_of_its_own() {
        let all: std::collections::BTreeSet<String> =
            TARGETS.iter().map(|target| of(target.name, "/x/launch.sh")).collect();
        assert_eq!(all.len(), TARGETS.len());
        for target in TARGETS {
            let text = of(target.name, "/x/launch.sh");
            // The script is handed over before it is taken away.
            assert!(text.contains("/x/launch.sh"), "{text}");
            let removed = text.rfind("rm -f /x/launch.sh").expect("the copy is removed");
            assert!(removed > text.find("[ \"$online\" = yes ]").expect("a condition"), "{text}");
            for (variable, _) in text.lines().filter_map(|line| line.split_once("='' #")) {
                let used = text.contains(&format!("${{{variable}:?}}")) || variable == "online";
                assert!(used, "{}: {variable} is not used", target.name);
            }
        }
    }

    #[test]
    fn odd_paths_are_quoted() {
        let path = "/a b/it's, $(x).sh";
        for target in TARGETS {
            let text = of(target.name, path);
            assert!(text.contains(r"'\''s, $(x).sh"), "{text}");
        }
        assert!(of("gce", path).contains("'^|^startup-script=/a b"));
        let [copy, run] = over_ssh(Path::new("/a/-x y.sh"), true, "h");
        assert_eq!(copy, "scp -p '/a/-x y.sh' '/a/-x y.sh.secrets' h:");
        assert_eq!(
            run,
            r"ssh -t h 'sudo sh '\''./-x y.sh'\'' '\''./-x y.sh.secrets'\'' && rm -f '\''./-x y.sh'\'' '\''./-x y.sh.secrets'\'''"
        );
    }
}
