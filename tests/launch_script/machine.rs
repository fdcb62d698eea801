//! A root directory with stand-ins for the machine's commands, in which a script runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use outrigger::internal::DEFAULT_KEY_FINGERPRINT;
use outrigger::internal::LaunchScript;

use super::sample::{ACCOUNT, text};

/// See the module.
pub struct Machine {
    /// Beside the root: `bin` with the stand-ins, `calls` with what they were called with, and the files
    /// that tell them what to do.
    pub dir: tempfile::TempDir,
}

/// What the commands do. Files beside the root steer them; their names stand in capitals for `$D/…`.
const STUBS: &[(&str, &str)] = &[
    ("id", "case $* in -u) echo 0 ;; '-u outrigger') echo 999 ;; *) grep -q \"^$1:\" $D/users ;; esac"),
    (
        "getent",
        "all=0; for one in \"$@\"; do [ \"$one\" = passwd ] || grep \"^$one:\" $D/users || all=2; done; exit $all",
    ),
    (
        "useradd",
        "for last in \"$@\"; do :; done; echo \"$last:x:999:999::$D/root/home/$last:/usr/sbin/nologin\" >>$D/users",
    ),
    ("userdel", "grep -v \"^$1:\" $D/users >$D/rest; cat $D/rest >$D/users"),
    ("chown", ""),
    // What they run is run at once, by root.
    ("timeout", "case $1 in -s) shift 2 ;; esac; shift; exec \"$@\""),
    ("chroot", "while case $1 in -*) true ;; *) false ;; esac; do shift; done; shift; exec \"$@\""),
    ("sleep", ""),
    ("flock", ""),
    (
        "apt-get",
        "case $* in *' gitlab-runner='*) [ ! -e $D/unknown ] || { rm $D/unknown; echo 'E: Unable to locate package git' >&2; exit 100; } ;; esac\n\
         case \" $* \" in *' --download-only '*) ;;\n\
         *Dir::Etc::SourceList=*update*) [ ! -e $D/source-fails ] || { echo 'E: The repository is not signed: EXPKEYSIG' >&2; exit 100; } ;;\n\
         *' update '*) [ ! -e $D/update-fails ] || { echo 'E: The repository of somebody is not signed.' >&2; exit 100; } ;;\n\
         *' gitlab-runner='*) [ ! -e $D/install-fails ] || { echo 'E: Unable to locate package git' >&2; exit 100; }\n\
         v=${*#* gitlab-runner=}; v=${v%%-1*}; echo \"$v\" >$D/version; mkdir -p $D/root/home/gitlab-runner\n\
         grep -q ^gitlab-runner: $D/users || echo \"gitlab-runner:x:998:998::$D/root/home/gitlab-runner:/bin/bash\" >>$D/users\n\
         mkdir -p $D/root/etc/gitlab-runner; $D/bin/gitlab-runner install --user=gitlab-runner; $D/bin/systemctl start ;;\n\
         *' purge '*) [ -e $D/purge-fails ] || rm -f $D/version $D/root/etc/systemd/system/gitlab-runner.service ;; esac\n\
         [ ! -e $D/apt-fails ] || { echo 'E: Could not get lock /var/lib/dpkg/lock-frontend' >&2; exit 100; }",
    ),
    ("apt-mark", ""),
    ("ip", ""),
    (
        "dpkg",
        "case $1 in --print-architecture) echo amd64 ;; -i) [ -s \"$2\" ] ;; -s) [ -e $D/version ] && [ ! -e $D/root/usr/local/bin/gitlab-runner ] ;; esac",
    ),
    ("dpkg-deb", "cat \"$2/DEBIAN/control\" >\"$3\""),
    (
        "curl",
        "out='' url=''\n\
         while [ $# -gt 0 ]; do case $1 in -o) out=$2; shift ;; http*) url=$1 ;; esac; url=$1; shift; done\n\
         [ ! -e $D/curl-fails ] || { n=$(cat $D/curl-fails); printf 'curl: (%s) it went wrong\\n\\ncurl failed, and could not\\n' $n >&2; exit $n; }\n\
         case $url in\n\
         */selfsubjectreviews) cat $D/identity >\"$out\"; cat $D/code ;;\n\
         */selfsubjectaccessreviews) cat $D/review >\"$out\"; cat $D/code ;;\n\
         *) cat $D/download >\"$out\" ;;\n\
         esac",
    ),
    (
        "gpg",
        "case $* in *--import*) exit 0 ;; *--export*) cat key; exit ;; esac\n\
         printf 'pub:-:4096:1:X:1:::-:::scESC::::::23::0:\\nfpr:::::::::%s:\\nsub:-:4096:1:Y:1::::::e::::::23:\\nfpr:::::::::0000:\\n' \"$(cat $D/fingerprint)\"",
    ),
    (
        // A start makes the process as the unit says, with its drop-in where one is; or as `$D/process` does.
        "systemctl",
        "unit=$D/root/etc/systemd/system/gitlab-runner.service.d/outrigger.conf\n\
         begin() {\n\
         : >$D/active; pid=$(($(cat $D/pid) + 1)); echo $pid >$D/pid; proc=$D/proc/$pid; mkdir -p $proc\n\
         [ ! -e $D/process ] || { . $D/process; return 0; }\n\
         uid=0 privs=0; [ ! -e $unit ] || uid=999 privs=1\n\
         printf 'Name:\\tgitlab-runner\\nUid:\\t%s\\t%s\\t%s\\t%s\\nNoNewPrivs:\\t%s\\n' $uid $uid $uid $uid $privs >$proc/status\n\
         if [ -e $unit ]; then sed -n 's/^ExecStart=//p' $unit; else echo gitlab-runner run --user gitlab-runner; fi | tr -s ' \\n' '\\0' | sed 's/^\\x00//' >$proc/cmdline\n\
         }\n\
         case $1 in is-active) [ -e $D/active ] ;;\n\
         restart) begin ;; start | enable) [ -e $D/active ] || begin ;; stop) rm -f $D/active ;;\n\
         show) case \" $* \" in *MainPID*) if [ -e $D/active ]; then cat $D/pid; else echo 0; fi ;; *) cat $D/unit ;; esac ;; esac",
    ),
    (
        "gitlab-runner",
        "case $1 in\n\
         --version) [ ! -e $D/version ] || printf 'Version:      %s\\n' \"$(cat $D/version)\" ;;\n\
         verify) cat $D/verify; cp \"$3\" $D/verified ;;\n\
         lint) [ ! -e $D/lint-fails ] || { echo 'FATAL: unknown key'; exit 1; } ;;\n\
         uninstall) rm -f $D/root/etc/systemd/system/gitlab-runner.service ;;\n\
         list) if [ -e $D/list-fails ]; then echo 'WARNING: decoding configuration file: toml: line 1'; else echo 'Listing configured runners'; fi ;;\n\
         install) mkdir -p $D/root/etc/systemd/system; : >$D/root/etc/systemd/system/gitlab-runner.service; c=$D/root/etc/gitlab-runner/config.toml\n\
         case \" $* \" in *' --user'*) ;; *) echo 'FATAL: Please specify user that will run gitlab-runner service'; exit 1 ;; esac\n\
         [ -e $c ] || { printf 'concurrent = 1\\ncheck_interval = 0\\nshutdown_timeout = 0\\n\\n[session_server]\\n  session_timeout = 1800\\n' >$c; chmod 600 $c; } ;;\n\
         esac",
    ),
];

impl Machine {
    /// A Debian without gitlab-runner.
    pub fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        for dir in [
            "bin",
            "calls",
            "root/var/log",
            "root/run",
            "root/etc/apt/sources.list.d",
            "root/etc/apt/preferences.d",
        ] {
            fs::create_dir_all(machine.dir.path().join(dir)).unwrap();
        }
        machine.write("etc/os-release", "NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n");
        machine.write("etc/ssl/certs/ca-certificates.crt", "");
        machine.steer("fingerprint", DEFAULT_KEY_FINGERPRINT);
        machine.steer("download", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
        machine.steer("identity", &format!("{{\"userInfo\": {{\"username\": \"{ACCOUNT}\"}}}}"));
        machine.steer("review", "{\"status\": {\"allowed\": true}}");
        machine.steer("code", "201");
        machine.steer("verify", "Verifying runner... is valid   runner=glrt-EXA\n");
        machine.steer("unit", "");
        machine.steer("pid", "100\n");
        machine.steer("users", "root:x:0:0::/root:/bin/sh\n");
        let dir = machine.dir.path().display();
        for (name, body) in STUBS {
            let path = machine.dir.path().join("bin").join(name);
            // Each notes its arguments and its environment: a secret must be in neither.
            let note = format!("D='{dir}'\n{{ printf '%s\\n' \"$*\"; env; }} >>\"$D/calls/{name}\"");
            fs::write(&path, format!("#!/bin/sh\n{note}\n{body}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    /// One on which gitlab-runner was installed by somebody else.
    pub fn with_runner(version: &str) -> Self {
        let machine = Self::new();
        machine.steer("version", version);
        machine.steer("active", "");
        machine
    }

    /// Tells the stand-ins something.
    pub fn steer(&self, file: &str, content: &str) {
        fs::write(self.dir.path().join(file), content).unwrap();
    }

    pub fn root(&self) -> String {
        self.dir.path().join("root").display().to_string()
    }

    /// A script's text with its paths below this root.
    pub fn here(&self, text: &str) -> String {
        let root = self.root();
        let mut text = text.to_owned();
        for dir in ["/etc/", "/var/", "/usr/local/", "/run/"] {
            for before in [" ", "=", "\"", "\t", ">", "<"] {
                text = text.replace(&format!("{before}{dir}"), &format!("{before}{root}{dir}"));
            }
        }
        text = text.replace("=/proc/", &format!("={}/proc/", self.dir.path().display()));
        text.replace("{config:-/etc/", &format!("{{config:-{root}/etc/"))
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub fn config(&self) -> String {
        self.read("etc/gitlab-runner/config.toml")
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.read("var/lib/outrigger/kubernetes-runner.json")).unwrap()
    }

    pub fn reason(&self) -> String {
        self.status()["reason"].as_str().unwrap().to_owned()
    }

    pub fn log(&self) -> String {
        self.read("var/log/outrigger-kubernetes-runner.log")
    }

    /// Runs a text from a file of the machine, with arguments.
    pub fn run_file(&self, shell: &[&str], file: &str, text: &str, args: &[&str]) -> Output {
        // Busybox prefers commands of its own to those on the path, but not to functions.
        let mut text = self.here(text);
        if shell[0] == "busybox" {
            for (name, _) in STUBS.iter().filter(|(name, _)| !name.contains('-')) {
                let stub = self.dir.path().join("bin").join(name);
                text = format!("{name}() {{ {} \"$@\"; }}\n{text}", stub.display());
            }
        }
        self.write(file, &text);
        // With busybox as the shell, its awk too: the script's largest piece is an awk program.
        let awk = self.dir.path().join("bin/awk");
        if shell[0] == "busybox" && !awk.exists() {
            let found = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap();
            std::os::unix::fs::symlink(String::from_utf8(found.stdout).unwrap().trim(), &awk).unwrap();
        }
        let path = format!("{}/bin:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        Command::new(shell[0])
            .args(&shell[1..])
            .arg(self.path(file))
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env_remove("HOME")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub fn run_text(&self, shell: &[&str], text: &str) -> Output {
        self.run_file(shell, "root/script", text, &[])
    }

    pub fn run(&self, shell: &[&str], script: &LaunchScript<'_>) -> Output {
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
        for dir in ["etc", "etc/gitlab-runner"] {
            for entry in fs::read_dir(self.path(dir)).into_iter().flatten() {
                let name = entry.unwrap().file_name();
                assert!(!name.to_string_lossy().starts_with(".outrigger"), "{} stays", name.display());
            }
        }
        output
    }

    pub fn succeed(&self, shell: &[&str], script: &LaunchScript<'_>) {
        let output = self.run(shell, script);
        assert!(output.status.success(), "{shell:?}: {output:?}\n{}", self.log());
        assert_eq!(self.status()["result"], "ok");
    }

    /// Runs a script that must fail in this step for a reason that says this, and change no entry.
    pub fn fail(&self, shell: &[&str], script: &LaunchScript<'_>, step: &str, reason: &str) -> Output {
        let file = "etc/gitlab-runner/config.toml";
        let before = fs::read(self.path(file)).ok();
        let output = self.run(shell, script);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let status = self.status();
        assert_eq!((status["result"].as_str(), status["step"].as_str()), (Some("failed"), Some(step)));
        assert!(self.reason().contains(reason), "{status}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("FAILED in step {step}")));
        assert_eq!(fs::read(self.path(file)).ok(), before, "a failure has changed config.toml");
        output
    }

    pub fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }

    pub fn calls(&self, tool: &str) -> String {
        fs::read_to_string(self.dir.path().join("calls").join(tool)).unwrap_or_default()
    }
}
