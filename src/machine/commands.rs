//! The commands that deploy a launch script to its target, for the targets that have tests. `docs/targets.md`
//! describes the other targets.
//!
//! Together they are a POSIX shell script. Values that outrigger does not know are empty variables for the user to
//! fill in; an empty one stops the command that uses it. The commands contain paths of files, and no secrets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::placement::Placement;
use super::secrets_file::path_beside;
use crate::settings::shell_word;

/// The targets with commands.
pub const TARGETS: &[&str] = &["lightsail", "ssh", "cloud-config"];

/// Name and help of the variables to fill in.
type Variables = &'static [(&'static str, &'static str)];

/// The commands for the script at `script`, an absolute path; `None` for a target that is not in [`TARGETS`].
pub fn commands(placement: &Placement, deployment: &str, script: &Path) -> Option<String> {
    let target = placement.target;
    let (variables, create, close) = parts(placement, deployment, script)?;
    let mut out = format!(
        "# {deployment} on {}. The script runs {}.\n# It can be read back by {}.\n",
        target.title,
        target.runs(),
        target.readers
    );
    out += "\n# Fill these in:\n";
    for (name, help) in variables {
        let _ = writeln!(out, "{name}='' # {help}");
    }
    out += "online='' # yes, once outrigger status shows the runner's last contact\n";
    let _ = write!(out, "\n{create}");
    let files = local(&files(script, placement.separate));
    let sooner = if target.is_host() { "" } else { " Not sooner: the VM may not have read it." };
    let _ = writeln!(
        out,
        "\n# Once the runner is online nobody needs the script.{sooner}\nif [ \"$online\" = yes ]; then"
    );
    for line in close.lines() {
        let _ = writeln!(out, "  {line}");
    }
    let _ = writeln!(out, "  rm -f {files}\nfi");
    Some(out)
}

/// The script and, if it is separate, the secrets file.
fn files(script: &Path, separate: bool) -> Vec<PathBuf> {
    std::iter::once(script.to_owned()).chain(separate.then(|| path_beside(script))).collect()
}

fn local(files: &[PathBuf]) -> String {
    files.iter().map(|file| shell_word(&file.display().to_string())).collect::<Vec<_>>().join(" ")
}

/// The variables, the commands that create the machine or run the script, and those that remove access to the
/// script afterwards.
fn parts(placement: &Placement, deployment: &str, script: &Path) -> Option<(Variables, String, String)> {
    let (name, path) = (shell_word(deployment), script.display().to_string());
    Some(match placement.target.name {
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
        "ssh" => {
            let [copy, run] = over_ssh(script, placement.separate, "\"${host:?}\"");
            (SSH, format!("{copy}\n{run}\n"), String::new())
        }
        "cloud-config" => {
            let file = shell_word(&path);
            (
                CLOUD_CONFIG,
                format!(
                    "# Whatever creates the VM takes the document as user data. With cloud-init at hand, check it first:\n\
                     cloud-init schema --config-file {file}\n\n\
                     # The metadata service keeps the script as long as the VM exists: only one made with --lock-metadata\n\
                     # closes the VM's way to it.\n\n\
                     # Without a cloud, on a disk that the VM finds at boot. The instance id is the deployment's name:\n\
                     # cloud-init runs the script once for it.\n\
                     umask 077 # the disk holds the script\n\
                     printf 'instance-id: %s\\n' {name} >\"${{seed:?}}.meta-data\"\n\
                     cloud-localds \"${{seed:?}}.img\" {file} \"${{seed:?}}.meta-data\"\n"
                ),
                "[ -z \"$seed\" ] || rm -f \"$seed.img\" \"$seed.meta-data\"\n".to_owned(),
            )
        }
        _ => return None,
    })
}

/// The two commands that copy the files to a host and run the script there. `host` is a shell word. The copies on
/// the host are removed after the script has succeeded.
pub fn over_ssh(script: &Path, separate: bool, host: &str) -> [String; 2] {
    let files = files(script, separate);
    // In the home directory; `./` keeps a name from being read as an option.
    let remote: Vec<String> = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| shell_word(&format!("./{}", name.to_string_lossy())))
        .collect();
    let remote = remote.join(" ");
    let run = shell_word(&format!("sudo sh {remote} && rm -f {remote}"));
    // -t allocates a terminal, because sudo may ask for a password.
    [format!("scp -p {} {host}:", local(&files)), format!("ssh -t {host} {run}")]
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
const SSH: Variables = &[("host", "as ssh knows it: USER@ADDRESS")];
const CLOUD_CONFIG: Variables = &[("seed", "where to put a seed, with the beginning of its files' names")];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{TARGETS, commands, over_ssh};
    use crate::machine::placement::Placement;
    use crate::machine::target::{self, find};

    fn of(name: &str, path: &str) -> Option<String> {
        let target = find(name).expect("a target");
        commands(
            &Placement { target, separate: target.is_host(), lock_metadata: false },
            "web",
            Path::new(path),
        )
    }

    #[test]
    fn the_list_contains_the_targets_with_commands() {
        for target in target::TARGETS {
            assert_eq!(of(target.name, "/x").is_some(), TARGETS.contains(&target.name), "{}", target.name);
        }
    }

    #[test]
    fn removes_the_script_only_once_the_runner_is_online() {
        for name in TARGETS {
            let text = of(name, "/x/launch.sh").expect("commands");
            let removed = text.rfind("rm -f /x/launch.sh").expect("the copy is removed");
            assert!(removed > text.find("[ \"$online\" = yes ]").expect("a condition"), "{text}");
            for (variable, _) in text.lines().filter_map(|line| line.split_once("='' #")) {
                let used = text.contains(&format!("${{{variable}:?}}")) || variable == "online";
                assert!(used, "{name}: {variable} is not used");
            }
        }
    }

    #[test]
    fn odd_paths_are_quoted() {
        for name in TARGETS {
            let text = of(name, "/a b/it's, $(x).sh").expect("commands");
            assert!(text.contains(r"'\''s, $(x).sh"), "{text}");
        }
        let [copy, run] = over_ssh(Path::new("/a/-x y.sh"), true, "h");
        assert_eq!(copy, "scp -p '/a/-x y.sh' '/a/-x y.sh.secrets' h:");
        assert_eq!(
            run,
            r"ssh -t h 'sudo sh '\''./-x y.sh'\'' '\''./-x y.sh.secrets'\'' && rm -f '\''./-x y.sh'\'' '\''./-x y.sh.secrets'\'''"
        );
    }
}
