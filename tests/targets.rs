//! The launch script for each target: what it is handed, how large that is, and the commands that bring it
//! there, run with stand-ins for the clouds' own tools.
// A test that cannot go on should stop; what was not run is said on stdout.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger::internal::Placement;
use outrigger::internal::Secret;
use outrigger::internal::target::{Delivery, TARGETS, Target, find};
use outrigger::internal::{LaunchScript, ScriptSecrets, commands, is_ours, secrets_file};

#[path = "launch_script/sample.rs"]
#[allow(dead_code, reason = "the tests of the script itself use all of it")]
mod sample;
use sample::sample;

/// Text of this length that looks like base64 and cannot be packed, as certificates and tokens cannot.
fn noise(length: usize) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[usize::try_from(state >> 58).unwrap()])
    };
    (0..length).map(|_| next()).collect()
}

/// A script of usual length: one certificate, tokens as long as GitLab's and the cluster's are.
fn rendered(target: &'static Target, lock_metadata: bool, with_secrets: bool) -> (String, String) {
    longer(target, lock_metadata, with_secrets, 0)
}

/// The same with so many bytes more of certificates.
fn longer(target: &'static Target, lock_metadata: bool, with_secrets: bool, more: usize) -> (String, String) {
    let (runner, bearer) = (Secret::new("glrt-".to_owned() + &"x".repeat(45)), Secret::new(noise(1_000)));
    let body = noise(17 * 64 + more);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    let ca = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    let tags = ["k8s-runner".to_owned()];
    let secrets = with_secrets.then_some(ScriptSecrets {
        runner_token: &runner,
        bearer_token: &bearer,
        runner_expires: None,
    });
    let script = LaunchScript { target, lock_metadata, ca_pem: Some(&ca), ..sample(&tags, secrets) };
    (script.fitting().unwrap().0.expose().to_owned(), script.digest())
}

#[test]
fn each_target_takes_a_script_of_usual_length() {
    for target in TARGETS {
        let (script, _) = rendered(target, false, !target.is_host());
        let document = target.wrap(&script, "kubernetes-runner");
        let warning = target.check_size(&document).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}: {} bytes, {warning:?}", target.name, document.len());
        // Base64 adds a third, the document around it little.
        let most = match target.delivery {
            Delivery::CloudConfig => script.len().div_ceil(3) * 4 + 600,
            _ => script.len(),
        };
        assert!(document.len() <= most, "{}: {} bytes", target.name, document.len());
        // Room for a second certificate, but for Lightsail, where each byte counts.
        let room = if target.name == "lightsail" { 150 } else { 1_200 };
        // It is rendered anew: a script that would be too long is packed.
        let (script, _) = longer(target, false, !target.is_host(), room);
        let document = target.wrap(&script, "kubernetes-runner");
        target.check_size(&document).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_document_gives_the_script_byte_for_byte() {
    let target = find("cloud-config").unwrap();
    let (script, _) = rendered(target, false, true);
    for script in [script.as_str(), "#!/bin/sh\nprintf '\u{1}é\\n' \"$@\""] {
        let document = target.wrap(script, "kubernetes-runner");
        assert!(document.starts_with("#cloud-config\n"), "cloud-init goes by the first line");
        let parsed: serde_yaml::Value = serde_yaml::from_str(&document).unwrap();
        let file = &parsed["write_files"][0];
        assert_eq!(file["encoding"], "b64");
        assert_eq!(file["permissions"], "0700", "a string: cloud-init would take a number for decimal");
        assert_eq!(STANDARD.decode(file["content"].as_str().unwrap()).unwrap(), script.as_bytes());
        let path = file["path"].as_str().unwrap();
        assert_eq!(path, "/var/lib/outrigger/kubernetes-runner-launch.sh");
        // It stays for another try unless it succeeded, and its failure is the command's.
        assert_eq!(parsed["runcmd"][0][2], format!("sh {path} && rm -f {path}"));
        assert_eq!(parsed["runcmd"].as_sequence().unwrap().len(), 1);
    }
    assert!(is_ours(&target.wrap(&script, "x"), "kubernetes-runner"), "teardown knows it by its mark");
}

#[test]
fn the_head_says_where_it_is_for_and_who_reads_it_back() {
    for target in TARGETS {
        let (script, _) = rendered(target, false, true);
        let head: Vec<&str> = script.lines().take_while(|line| line.starts_with('#')).collect();
        let head = head.join("\n");
        for said in [target.title, target.readers, target.runs()] {
            assert!(head.contains(said), "{}: the head does not say {said}\n{head}", target.name);
        }
    }
}

#[test]
fn the_digest_is_the_machines_not_the_targets() {
    let digest = |name: &str, lock| rendered(find(name).unwrap(), lock, true).1;
    assert_eq!(digest("lightsail", false), digest("ssh", false));
    assert_ne!(digest("lightsail", false), digest("lightsail", true));
}

/// Stand-ins for the clouds' tools, each of which notes its arguments.
const TOOLS: &[&str] = &["aws", "cloud-init", "cloud-localds", "sudo"];

/// A folder with a script at an awkward path, and a path of stand-ins.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["bin", "remote", "it's, $(touch x) \"here\""] {
            fs::create_dir(desk.at(dir)).unwrap();
        }
        fs::write(desk.script(), "the script").unwrap();
        fs::write(secrets_file::path_beside(&desk.script()), "the secrets").unwrap();
        let calls = desk.at("calls").display().to_string();
        for tool in TOOLS {
            desk.tool(tool, &format!("printf '%s\\0' {tool} \"$@\" >>'{calls}'; printf '\\n' >>'{calls}'"));
        }
        let remote = desk.at("remote").display().to_string();
        // The far end of a connection: a folder that files are copied to, a shell that gets one line.
        desk.tool("scp", &format!("shift; for last; do :; done; [ \"$last\" = v: ] || exit 9; while [ $# -gt 1 ]; do cp \"$1\" '{remote}'; shift; done"));
        desk.tool(
            "ssh",
            &format!("[ \"$1 $2\" = '-t v' ] || exit 9; cd '{remote}'; ls >>'{calls}'; exec sh -c \"$3\""),
        );
        desk
    }

    fn tool(&self, name: &str, body: &str) {
        let path = self.at("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn script(&self) -> PathBuf {
        self.at("it's, $(touch x) \"here\"/launch.sh")
    }

    fn commands(&self, target: &'static Target) -> String {
        let placement = Placement { target, separate: target.is_host(), lock_metadata: false };
        commands::commands(&placement, "kubernetes-runner", &self.script()).unwrap()
    }

    fn run(&self, text: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.at("bin").display());
        Command::new("sh")
            .args(["-c", text])
            .current_dir(self.dir.path())
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.at("calls")).unwrap_or_default()
    }
}

/// The commands with every variable filled in; whether the runner is online as said.
fn filled(text: &str, online: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = match line.split_once("='' #") {
            Some(("online", _)) => format!("online={online}"),
            Some((name, _)) => format!("{name}=v"),
            None => line.to_owned(),
        };
        out += &line;
        out.push('\n');
    }
    out
}

fn with_commands() -> impl Iterator<Item = &'static Target> {
    commands::TARGETS.iter().map(|name| find(name).unwrap())
}

#[test]
fn unfilled_commands_do_nothing() {
    for target in with_commands() {
        let desk = Desk::new();
        let text = desk.commands(target);
        let output = desk.run(&text);
        assert!(!output.status.success(), "{}", target.name);
        // What only looks may have looked.
        let calls = desk.calls();
        assert!(calls.is_empty() || calls.starts_with("cloud-init\0schema"), "{}: {calls}", target.name);
        assert!(desk.script().exists(), "{}", target.name);
    }
}

#[test]
fn filled_commands_hand_the_script_over_and_clean_up_when_told() {
    for target in with_commands() {
        for online in ["''", "yes"] {
            let desk = Desk::new();
            let output = desk.run(&filled(&desk.commands(target), online));
            let calls = desk.calls();
            let name = target.name;
            assert!(output.status.success(), "{name}: {output:?}\n{calls}");
            assert_eq!(desk.script().exists(), online != "yes", "{name}");
            let path = desk.script().display().to_string();
            let whole: Vec<&str> = calls.split(['\0', '\n']).collect();
            let handed = whole.iter().any(|word| {
                // What stands before the path is the tool's own: a scheme.
                word.strip_suffix(path.as_str()).is_some_and(|before| ["", "file://"].contains(&before))
            });
            match name {
                "ssh" => {
                    assert!(calls.starts_with("launch.sh\nlaunch.sh.secrets\n"), "{calls}");
                    assert!(calls.contains("sudo\0sh\0./launch.sh\0./launch.sh.secrets\0"), "{calls}");
                    assert_eq!(fs::read_dir(desk.at("remote")).unwrap().count(), 0, "the host keeps no copy");
                    assert_eq!(secrets_file::path_beside(&desk.script()).exists(), online != "yes");
                }
                _ => assert!(handed, "{name}: {calls}"),
            }
            // The way to what would read the script again is closed when it has been read, not before.
            let closed = calls.contains("--http-endpoint\0disabled");
            assert_eq!(closed, name == "lightsail" && online == "yes", "{name}: {calls}");
            assert!(!desk.at("x").exists(), "{name}: the path was evaluated");
        }
    }
}

#[test]
fn the_commands_pass_the_linter() {
    let dir = tempfile::tempdir().unwrap();
    for target in with_commands() {
        for path in ["/a/launch.sh", "/it's, a \"path\"/launch.sh"] {
            let placement = Placement { target, separate: target.is_host(), lock_metadata: false };
            let text = commands::commands(&placement, "kubernetes-runner", Path::new(path)).unwrap();
            let file = dir.path().join("commands.sh");
            fs::write(&file, text).unwrap();
            let lint = ["-s", "dash", "--severity=style"];
            match Command::new("shellcheck").args(lint).arg(&file).output() {
                Ok(output) => assert!(
                    output.status.success(),
                    "{}: {}",
                    target.name,
                    String::from_utf8_lossy(&output.stdout)
                ),
                Err(error) => {
                    let required =
                        std::env::var_os("OUTRIGGER_REQUIRE_TIERS").is_some_and(|value| value == "1");
                    assert!(!required, "shellcheck: {error}");
                    println!("not run: shellcheck: {error}");
                    return;
                }
            }
        }
    }
}
