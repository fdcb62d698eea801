//! The launch script: rendered, linted, and run under every shell at hand in a directory of its own,
//! with stand-ins for the commands that would change the machine.
// A test that cannot go on should stop; what was not run is said on stdout.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use outrigger::script::{LIGHTSAIL_LIMIT_BYTES, LaunchScript, ScriptSecrets, is_ours};
use outrigger::secret::Secret;
use outrigger::settings::{
    DEFAULT_APT_URL, DEFAULT_KEY_FINGERPRINT, DEFAULT_KEY_URL, DEFAULT_RUNNER_VERSION,
};
use proptest::prelude::*;

const RUNNER_TOKEN: &str = "glrt-EXAMPLE-not-a-token";
const BEARER_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IkVYQU1QTEUifQ.EXAMPLE.not-a-token";
const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIBEXAMPLEnotACertificate+/=\n-----END CERTIFICATE-----\n";

/// What Lightsail puts in front of a launch script, as far as it is known: a shell block of its own.
const PREAMBLE: &str = "#!/bin/sh\nlightsail_ca=/etc/ssh/lightsail_instance_ca.pub\n\
    if [ -e \"$lightsail_ca\" ]; then\n  echo \"$lightsail_ca exists\"\nfi\n";

const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash"]];

struct Tokens {
    runner: Secret,
    bearer: Secret,
}

fn tokens() -> Tokens {
    Tokens { runner: Secret::new(RUNNER_TOKEN), bearer: Secret::new(BEARER_TOKEN) }
}

impl Tokens {
    fn both(&self) -> ScriptSecrets<'_> {
        ScriptSecrets { runner_token: &self.runner, bearer_token: &self.bearer }
    }
}

fn sample<'a>(root: &'a str, tags: &'a [String], secrets: Option<ScriptSecrets<'a>>) -> LaunchScript<'a> {
    LaunchScript {
        deployment: "kubernetes-runner",
        runner_name: "kubernetes-runner",
        outrigger_version: "0.1.0",
        cluster: "acme-ci",
        kubernetes_host: "https://203.0.113.12",
        ca_pem: Some(CA),
        gitlab_url: "https://gitlab.example.com",
        gitlab_ca_pem: None,
        namespace: "kubernetes-runner-jobs",
        job_service_account: "kubernetes-runner-job",
        image: "alpine:latest",
        runner_version: DEFAULT_RUNNER_VERSION,
        tags,
        apt_url: DEFAULT_APT_URL,
        key_url: DEFAULT_KEY_URL,
        key_fingerprint: DEFAULT_KEY_FINGERPRINT,
        installer_is_default: true,
        root,
        secrets,
    }
}

fn text(script: &LaunchScript<'_>) -> String {
    script.render().unwrap().expose().to_owned()
}

/// Must every tool be there?
fn required() -> bool {
    std::env::var_os("OUTRIGGER_REQUIRE_TIERS").is_some_and(|value| value == "1")
}

fn present(tool: &str) -> bool {
    Command::new(tool)
        .args(["-c", "exit"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

fn shells() -> Vec<&'static [&'static str]> {
    SHELLS.into_iter().filter(|shell| present(shell[0])).collect()
}

/// A root directory with stand-ins for the machine's commands.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        for dir in [
            "bin",
            "calls",
            "root/etc/apt/sources.list.d",
            "root/etc/apt/preferences.d",
            "root/etc/ssl/certs",
        ] {
            fs::create_dir_all(machine.dir.path().join(dir)).unwrap();
        }
        machine.write("etc/os-release", "NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n");
        machine.write("etc/ssl/certs/ca-certificates.crt", "");
        let calls = machine.dir.path().join("calls");
        let state = machine.dir.path().display().to_string();
        // Each stand-in notes its arguments and its environment: a secret must be in neither.
        let stubs = [
            ("id", "echo 0".to_owned()),
            ("sleep", String::new()),
            (
                "apt-get",
                format!(
                    "case \" $* \" in *' gitlab-runner='*) v=${{*#* gitlab-runner=}}; echo \"${{v%% *}}\" >'{state}/version';; esac\n\
                     [ ! -e '{state}/apt-fails' ]"
                ),
            ),
            (
                "dpkg-query",
                format!("[ ! -e '{state}/version' ] || printf 'installed=%s' \"$(cat '{state}/version')\""),
            ),
            ("dpkg", "[ \"$(printf '%s\\n' \"$2\" \"$4\" | sort -V | head -n 1)\" = \"$4\" ]".to_owned()),
            (
                "curl",
                "while [ \"$1\" != -o ]; do shift; done; echo '-----BEGIN PGP PUBLIC KEY BLOCK-----' >\"$2\""
                    .to_owned(),
            ),
            (
                "gpg",
                format!(
                    "printf 'pub:-:4096:1:X:1:::-:::scESC::::::23::0:\\nfpr:::::::::%s:\\nsub:-:4096:1:Y:1::::::e::::::23:\\nfpr:::::::::0000:\\n' \
                     \"$(cat '{state}/fingerprint' 2>/dev/null || echo {DEFAULT_KEY_FINGERPRINT})\""
                ),
            ),
            (
                "systemctl",
                format!("case $1 in is-active) [ -e '{state}/active' ];; start) : >'{state}/active';; esac"),
            ),
            ("gitlab-runner", String::new()),
        ];
        for (name, body) in stubs {
            let path = machine.dir.path().join("bin").join(name);
            let log = calls.join(name);
            let note = format!("{{ printf '%s\\n' \"$*\"; env; }} >>'{}'", log.display());
            fs::write(&path, format!("#!/bin/sh\n{note}\n{body}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    fn root(&self) -> String {
        self.dir.path().join("root").display().to_string()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn config(&self) -> String {
        self.read("etc/gitlab-runner/config.toml")
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.read("var/lib/outrigger/kubernetes-runner.json")).unwrap()
    }

    fn run_text(&self, shell: &[&str], text: &str) -> Output {
        let script = self.dir.path().join("part-001");
        fs::write(&script, text).unwrap();
        // With busybox as the shell, its awk too: the script's largest piece is an awk program.
        let awk = self.dir.path().join("bin/awk");
        if shell[0] == "busybox" && !awk.exists() {
            let found = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap();
            std::os::unix::fs::symlink(String::from_utf8(found.stdout).unwrap().trim(), &awk).unwrap();
        }
        let path = format!("{}/bin:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        Command::new(shell[0])
            .args(&shell[1..])
            .arg(&script)
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env_remove("HOME")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn run(&self, shell: &[&str], script: &LaunchScript<'_>) -> Output {
        let output = self.run_text(shell, &text(script));
        // Whatever happens, no secret shows: not on the console, in the log, the status, or to a command.
        let mut seen = String::from_utf8_lossy(&output.stdout).into_owned();
        seen += &String::from_utf8_lossy(&output.stderr);
        for dir in ["calls", "root/var/log", "root/var/lib/outrigger"] {
            for entry in fs::read_dir(self.dir.path().join(dir)).unwrap() {
                seen += &fs::read_to_string(entry.unwrap().path()).unwrap();
            }
        }
        if let Some(secrets) = script.secrets {
            for secret in [secrets.runner_token, secrets.bearer_token] {
                assert!(!seen.contains(secret.expose()), "{shell:?} shows a secret");
            }
        }
        // Nor does a temporary file stay.
        if let Ok(entries) = fs::read_dir(self.path("etc/gitlab-runner")) {
            for entry in entries {
                let name = entry.unwrap().file_name();
                assert!(!name.to_string_lossy().starts_with(".outrigger"), "{} stays", name.display());
            }
        }
        output
    }

    fn succeed(&self, shell: &[&str], script: &LaunchScript<'_>) {
        let output = self.run(shell, script);
        let log = self.read("var/log/outrigger-kubernetes-runner.log");
        assert!(output.status.success(), "{shell:?}: {output:?}\n{log}");
        assert_eq!(self.status()["result"], "ok");
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }

    fn calls(&self, tool: &str) -> String {
        fs::read_to_string(self.dir.path().join("calls").join(tool)).unwrap_or_default()
    }
}

fn runners(config: &str) -> Vec<toml::Value> {
    let config: toml::Table = toml::from_str(config).unwrap_or_else(|error| panic!("{error}\n{config}"));
    config["runners"].as_array().unwrap().clone()
}

fn lint(text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("launch.sh");
    fs::write(&path, text).unwrap();
    for shell in shells() {
        let status = Command::new(shell[0]).args(&shell[1..]).arg("-n").arg(&path).status().unwrap();
        assert!(status.success(), "{shell:?} -n");
    }
    if let Ok(output) =
        Command::new("shellcheck").args(["-s", "dash", "--severity=style"]).arg(&path).output()
    {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_tools_of_these_tests_are_there_when_required() {
    let mut missing = String::new();
    for tool in SHELLS.map(|shell| shell[0]).into_iter().chain(["shellcheck"]) {
        if !present(tool) {
            let _ = write!(missing, " {tool}");
        }
    }
    assert!(missing.is_empty() || !required(), "missing:{missing}");
    if !missing.is_empty() {
        println!("not run with:{missing}");
    }
}

#[test]
fn both_forms_pass_the_linters() {
    let (tokens, tags) = (tokens(), ["k8s-runner".to_owned()]);
    for secrets in [Some(tokens.both()), None] {
        let mut script = sample("", &tags, secrets);
        lint(&text(&script));
        lint(&format!("{PREAMBLE}{}", text(&script)));
        script.ca_pem = None;
        script.gitlab_ca_pem = Some(CA);
        script.installer_is_default = false;
        lint(&text(&script));
    }
}

#[test]
fn it_fits_into_user_data() {
    let tags = ["k8s-runner".to_owned()];
    let bearer = Secret::new("x".repeat(1200));
    let runner = Secret::new(RUNNER_TOKEN);
    let ca = "x".repeat(1500);
    let secrets = Some(ScriptSecrets { runner_token: &runner, bearer_token: &bearer });
    let script = LaunchScript { ca_pem: Some(&ca), ..sample("", &tags, secrets) };
    let size = text(&script).len();
    assert!(size < 12_000, "{size} bytes");
    // A long CA chain must still fit.
    assert!(size + 2_000 < LIGHTSAIL_LIMIT_BYTES);
}

#[test]
fn the_head_says_what_it_is() {
    let (tokens, tags) = (tokens(), ["a\nrm -rf /".to_owned()]);
    let mut script = sample("", &tags, Some(tokens.both()));
    script.installer_is_default = false;
    let with = text(&script);
    assert!(is_ours(&with, "kubernetes-runner") && !is_ours(&with, "kubernetes"));
    assert!(with.contains(&format!("digest={}\n", script.digest())));
    assert!(with.contains("HOLDS TWO SECRETS") && with.contains("NOT THE DEFAULT INSTALLER"));
    assert!(with.contains("tags a\\u{a}rm -rf /\n"));
    let digest = script.digest();
    script.secrets = None;
    script.outrigger_version = "9.9.9";
    script.cluster = "other";
    assert_eq!(script.digest(), digest);
    script.ca_pem = None;
    assert_ne!(script.digest(), digest);
    let without = text(&script);
    assert!(is_ours(&without, "kubernetes-runner") && without.contains("Holds no secret"));
}

#[test]
fn values_that_cannot_be_data_are_refused() {
    let script = sample("", &[], None);
    for bad in [
        LaunchScript { deployment: "../x", ..script.clone() },
        LaunchScript { deployment: "", ..script.clone() },
        LaunchScript { runner_version: "19 -y evil", ..script.clone() },
        LaunchScript { apt_url: "https://x/ bookworm main\ndeb http://evil", ..script.clone() },
        LaunchScript { key_url: "-o/etc/passwd", ..script.clone() },
        LaunchScript { key_fingerprint: "F640", ..script.clone() },
        LaunchScript { image: "a\0b", ..script.clone() },
        LaunchScript { root: "/srv/a\"b", ..script.clone() },
        LaunchScript { root: "tmp", ..script.clone() },
    ] {
        assert!(bad.render().is_err());
    }
}

#[test]
fn a_fresh_machine_gets_one_entry_and_keeps_it() {
    let (tokens, tags) = (tokens(), ["k8s-runner".to_owned()]);
    for shell in shells() {
        let machine = Machine::new();
        let root = machine.root();
        let script = sample(&root, &tags, Some(tokens.both()));
        machine.succeed(shell, &script);

        let config = machine.config();
        let runner = &runners(&config)[0];
        assert_eq!(runners(&config).len(), 1);
        assert!(config.starts_with("concurrent = 4\ncheck_interval = 3\n"));
        assert_eq!(runner["token"].as_str(), Some(RUNNER_TOKEN));
        assert_eq!(runner["executor"].as_str(), Some("kubernetes"));
        let kubernetes = &runner["kubernetes"];
        assert_eq!(kubernetes["bearer_token"].as_str(), Some(BEARER_TOKEN));
        assert_eq!(kubernetes["host"].as_str(), Some("https://203.0.113.12"));
        assert_eq!(kubernetes["service_account"].as_str(), Some("kubernetes-runner-job"));
        assert_eq!(kubernetes["automount_service_account_token"].as_bool(), Some(false));
        assert_eq!(kubernetes["privileged"].as_bool(), Some(false));
        let ca_file = "etc/gitlab-runner/outrigger-kubernetes-runner-ca.crt";
        assert_eq!(kubernetes["ca_file"].as_str(), machine.path(ca_file).to_str());
        assert_eq!(machine.read(ca_file), CA);
        for (path, mode) in [
            ("etc/gitlab-runner", 0o700),
            ("etc/gitlab-runner/config.toml", 0o600),
            (ca_file, 0o600),
            ("var/lib/outrigger/kubernetes-runner.json", 0o644),
            ("var/lib/outrigger/kubernetes-runner.digest", 0o600),
            ("var/log/outrigger-kubernetes-runner.log", 0o600),
            ("etc/apt/keyrings/outrigger-gitlab-runner.asc", 0o644),
            ("etc/apt/sources.list.d/outrigger-gitlab-runner.list", 0o644),
            ("etc/apt/preferences.d/outrigger-gitlab-runner.pref", 0o644),
        ] {
            assert_eq!(machine.mode(path), mode, "{path}");
        }
        assert_eq!(
            machine.read("etc/apt/sources.list.d/outrigger-gitlab-runner.list"),
            format!(
                "deb [signed-by={root}/etc/apt/keyrings/outrigger-gitlab-runner.asc] {DEFAULT_APT_URL}/debian bookworm main\n"
            )
        );
        assert_eq!(
            machine.read("etc/apt/preferences.d/outrigger-gitlab-runner.pref"),
            "Package: *\nPin: origin \"packages.gitlab.com\"\nPin-Priority: -1\n\n\
             Package: gitlab-runner gitlab-runner-helper-images\nPin: origin \"packages.gitlab.com\"\nPin-Priority: 990\n"
        );
        let version = DEFAULT_RUNNER_VERSION;
        assert!(
            machine
                .calls("apt-get")
                .contains(&format!("gitlab-runner={version}-1 gitlab-runner-helper-images={version}-1\n"))
        );
        assert!(machine.calls("systemctl").contains("start gitlab-runner\n"));
        assert_eq!(machine.status()["gitlab_runner"].as_str(), Some(&*format!("{version}-1")));
        assert_eq!(machine.status()["digest"].as_str(), Some(&*script.digest()));

        // Again, behind Lightsail's preamble: nothing is touched, nothing installed.
        let files = ["etc/gitlab-runner/config.toml", ca_file, "var/lib/outrigger/kubernetes-runner.digest"];
        let stamp = |path: &str| {
            let meta = fs::metadata(machine.path(path)).unwrap();
            (meta.ino(), meta.mtime(), meta.mtime_nsec())
        };
        let before = files.map(stamp);
        let installs = machine.calls("apt-get");
        let output = machine.run_text(shell, &format!("{PREAMBLE}{}", text(&script)));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(files.map(stamp), before);
        assert_eq!(machine.calls("apt-get"), installs);

        // A token that the runner replaced survives the same script.
        let rotated = machine.config().replace(RUNNER_TOKEN, "glrt-rotated");
        machine.write(files[0], &rotated);
        machine.succeed(shell, &script);
        assert_eq!(machine.config(), rotated);

        // Another image: the entry is replaced, in the update form with the tokens that are there.
        let update = LaunchScript { image: "debian:13", secrets: None, ..script.clone() };
        machine.succeed(shell, &update);
        assert_eq!(machine.config(), rotated.replace("alpine:latest", "debian:13"));

        // A new cluster token with everything else equal is applied.
        let bearer = Secret::new("a-new-bearer");
        let secrets = Some(ScriptSecrets { runner_token: &tokens.runner, bearer_token: &bearer });
        let renewed = LaunchScript { image: "debian:13", secrets, ..script.clone() };
        machine.succeed(shell, &renewed);
        assert_eq!(runners(&machine.config()).len(), 1);
        assert!(machine.config().contains("a-new-bearer") && !machine.config().contains(BEARER_TOKEN));
    }
}

const FOREIGN: &str = "# mine\nconcurrent = 9 # keep\nlog_level = \"info\"\n\n\
    # first\n[[runners]]\n  name = \"kubernetes-runner\"\n  url = \"https://other.example.com\"\n  token = \"glrt-foreign\"\n  executor = \"shell\"\n\
    pre_build_script = \"\"\"\n[[runners]]\nname = \"kubernetes-runner\"\nurl = \"https://gitlab.example.com\"\n[runners.kubernetes]\nhost = \"https://203.0.113.12\"\n\"\"\"\n\
    \x20 [runners.cache]\n    Shared = true\n\n";
const AFTER: &str = "\n# second, with CRLF\n[[runners]]\r\n  name = \"win\"\r\n  token = 'x'\r\n[session_server]\n  session_timeout = 1800\n";

/// Our entry as the runner writes it back: other order, no comments, keys of its own.
const REWRITTEN: &str = "[[runners]]\n  name = \"kubernetes-runner\"\n  url = \"https://gitlab.example.com\"\n  id = 101\n  token = \"glrt-rotated\"\n\
    \x20 token_obtained_at = 2026-11-01T00:00:00Z\n  token_expires_at = 0001-01-01T00:00:00Z\n  executor = \"kubernetes\"\n\
    pre_build_script = \"\"\"\n[section]\n\"\"\"\n  [runners.cache]\n    MaxUploadedArchiveSize = 0\n\
    \x20 [runners.kubernetes]\n    host = \"https://203.0.113.12\" # moved\n    bearer_token = \"old-bearer\"\n    [runners.kubernetes.pod_security_context]\n";

#[test]
fn foreign_entries_stay_byte_for_byte() {
    let tokens = tokens();
    for shell in shells() {
        let machine = Machine::new();
        let root = machine.root();
        fs::write(machine.dir.path().join("version"), "99.0.0-1").unwrap();
        let script = sample(&root, &[], Some(tokens.both()));
        let update = LaunchScript { secrets: None, ..script.clone() };
        let file = "etc/gitlab-runner/config.toml";

        // The update form needs an entry of ours.
        machine.write(file, FOREIGN);
        let output = machine.run(shell, &update);
        assert_eq!(output.status.code(), Some(1));
        assert!(machine.status()["reason"].as_str().unwrap().contains("has no entry of kubernetes-runner"));
        assert_eq!(machine.config(), FOREIGN);

        // Ours goes to the end.
        machine.succeed(shell, &script);
        let config = machine.config();
        let ours = config.strip_prefix(FOREIGN).unwrap().strip_prefix('\n').unwrap().to_owned();
        assert_eq!(runners(&config).len(), 2);
        assert!(!machine.calls("apt-get").contains("install"), "a newer runner was replaced");

        // Rewritten by the runner, in the middle and doubled: one is replaced in its place.
        for copies in 1..3 {
            machine.write(file, &format!("{FOREIGN}{}{AFTER}", REWRITTEN.repeat(copies)));
            let changed = LaunchScript { image: if copies == 1 { "b" } else { "c" }, ..script.clone() };
            machine.succeed(shell, &changed);
            let expected = ours.replace("\"alpine:latest\"", if copies == 1 { "\"b\"" } else { "\"c\"" });
            assert_eq!(machine.config(), format!("{FOREIGN}{expected}{AFTER}"));
        }

        // The update form keeps what the runner noted about its token.
        machine.write(file, &format!("{FOREIGN}{REWRITTEN}{AFTER}"));
        machine.succeed(shell, &update);
        let config = machine.config();
        assert!(config.starts_with(FOREIGN) && config.ends_with(AFTER), "{config}");
        let runner = &runners(&config)[1];
        assert_eq!(runner["id"].as_integer(), Some(101));
        assert_eq!(runner["token"].as_str(), Some("glrt-rotated"));
        assert!(runner.get("token_obtained_at").is_some() && runner.get("pre_build_script").is_none());
        assert_eq!(runner["kubernetes"]["bearer_token"].as_str(), Some("old-bearer"));
        assert_eq!(machine.mode(file), 0o600);
    }
}

#[test]
fn a_wrong_key_installs_nothing() {
    let tokens = tokens();
    for shell in shells() {
        for keys in
            ["0123456789ABCDEF", "F6403F6544A38863DAA0B6E03F01618A51312F3F:\npub:::::::::\nfpr:::::::::EVIL"]
        {
            let machine = Machine::new();
            let root = machine.root();
            fs::write(machine.dir.path().join("fingerprint"), keys).unwrap();
            let output = machine.run(shell, &sample(&root, &[], Some(tokens.both())));
            assert_eq!(output.status.code(), Some(1));
            let status = machine.status();
            assert_eq!(
                (status["result"].as_str(), status["step"].as_str()),
                (Some("failed"), Some("install"))
            );
            let bad = keys.rsplit(':').next().unwrap();
            assert!(status["reason"].as_str().unwrap().contains(bad), "{status}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("FAILED in step install"));
            assert!(!machine.path("etc/gitlab-runner/config.toml").exists());
            assert!(!machine.path("etc/apt/sources.list.d/outrigger-gitlab-runner.list").exists());
            assert!(!machine.calls("apt-get").contains("gitlab-runner="));
        }
    }
}

#[test]
fn other_systems_and_conflicts_are_refused() {
    let tokens = tokens();
    let shell = shells()[0];
    let fails = |machine: &Machine, reason: &str| {
        let root = machine.root();
        let output = machine.run(shell, &sample(&root, &[], Some(tokens.both())));
        assert_eq!(output.status.code(), Some(1));
        let status = machine.status();
        assert!(status["reason"].as_str().unwrap().contains(reason), "{status}");
        assert!(!machine.path("etc/gitlab-runner/config.toml").is_file());
    };
    let machine = Machine::new();
    machine.write("etc/os-release", "ID=\"amzn\"\nVERSION_ID=2023\n");
    fails(&machine, "needs Debian or Ubuntu, not amzn");
    let machine = Machine::new();
    machine.write(
        "etc/apt/sources.list.d/theirs.list",
        &format!("deb {DEFAULT_APT_URL}/debian bookworm main\n"),
    );
    fails(&machine, "theirs.list has this apt source");
    let machine = Machine::new();
    fs::write(machine.dir.path().join("apt-fails"), "").unwrap();
    fails(&machine, "apt-get failed, see");
    assert_eq!(machine.calls("sleep").matches("\nPWD=").count(), 4);
    let machine = Machine::new();
    fs::create_dir_all(machine.path("etc/gitlab-runner")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", machine.path("etc/gitlab-runner/config.toml")).unwrap();
    fails(&machine, "is a symbolic link");
}

#[test]
fn a_script_cut_short_does_nothing() {
    let (tokens, machine) = (tokens(), Machine::new());
    let root = machine.root();
    let whole = text(&sample(&root, &[], Some(tokens.both())));
    for shell in shells() {
        for part in 1..20 {
            let end = (whole.len() - 12) * part / 19;
            machine.run_text(shell, &String::from_utf8_lossy(&whole.as_bytes()[..end]));
            assert!(!machine.path("var").exists(), "cut at {end}");
        }
    }
}

#[test]
fn the_example_is_what_is_rendered() {
    let (tokens, tags) = (tokens(), ["k8s-runner".to_owned()]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/launch.sh");
    let rendered = text(&sample("", &tags, Some(tokens.both())));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, &rendered).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == rendered, "examples/launch.sh differs: run with UPDATE_GOLDEN=1 and review the change");
}

/// Values made of what breaks quoting somewhere.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "'",
        "\"",
        "`id`",
        "$(id)",
        "${HOME}",
        "\\",
        "\\n",
        "\n",
        "\r\n",
        "\t",
        "\nEOF\n",
        "'\\''",
        "%s%n",
        "#",
        " ",
        "[[runners]]",
        "\n[x]\n",
        "\"\"\"",
        "'''",
        "\u{2028}",
        "é",
        "\u{81}",
        "\u{88}",
        "\u{1}",
        "\u{7f}",
        "😀",
        "{{ x }}",
        "{% x %}",
        "!",
        "*",
        "~",
        "-n",
        "&",
        ";",
        "=",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn arrives(shell: &[&str], value: [&str; 9]) {
    let machine = Machine::new();
    let root = machine.root();
    fs::write(machine.dir.path().join("version"), "99.0.0-1").unwrap();
    // The marks let the check for leaks tell a secret from the text of something else.
    let runner = Secret::new(format!("canary-one{}", value[7]));
    let bearer = Secret::new(format!("canary-two{}", value[8]));
    let tags = [value[0].to_owned()];
    let script = LaunchScript {
        runner_name: value[0],
        kubernetes_host: value[1],
        ca_pem: Some(value[2]),
        gitlab_url: value[3],
        gitlab_ca_pem: Some(value[4]),
        namespace: value[5],
        image: value[6],
        ..sample(&root, &tags, Some(ScriptSecrets { runner_token: &runner, bearer_token: &bearer }))
    };
    let check = |image: &str| {
        let entries = runners(&machine.config());
        assert_eq!(entries.len(), 1);
        let (entry, kubernetes) = (&entries[0], &entries[0]["kubernetes"]);
        assert_eq!(entry["name"].as_str(), Some(value[0]));
        assert_eq!(kubernetes["host"].as_str(), Some(value[1]));
        assert_eq!(entry["url"].as_str(), Some(value[3]));
        assert_eq!(kubernetes["namespace"].as_str(), Some(value[5]));
        assert_eq!(kubernetes["image"].as_str(), Some(image));
        assert_eq!(entry["token"].as_str(), Some(runner.expose()));
        assert_eq!(kubernetes["bearer_token"].as_str(), Some(bearer.expose()));
        assert_eq!(machine.read("etc/gitlab-runner/outrigger-kubernetes-runner-ca.crt"), value[2]);
        assert_eq!(machine.read("etc/gitlab-runner/outrigger-kubernetes-runner-gitlab-ca.crt"), value[4]);
        assert_eq!(
            entry["tls-ca-file"].as_str().map(|path| fs::read_to_string(path).unwrap()).as_deref(),
            Some(value[4])
        );
    };
    machine.succeed(shell, &script);
    check(value[6]);
    // It is found again, and its tokens are read back as they are.
    let image = format!("{}2", value[6]);
    machine.succeed(shell, &LaunchScript { image: &image, secrets: None, ..script.clone() });
    check(&image);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_values_arrive_byte_for_byte(values in prop::collection::vec(hostile(), 9)) {
        let values: [&str; 9] = std::array::from_fn(|at| values[at].as_str());
        for shell in shells() {
            arrives(shell, values);
        }
    }
}

#[test]
fn long_values_arrive() {
    let long = "'$(id)\\\"\n".repeat(1200);
    for shell in shells() {
        arrives(shell, [&long; 9]);
    }
}
