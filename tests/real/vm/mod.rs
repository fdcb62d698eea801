//! A machine: Debian with systemd as PID 1 and real cloud-init, booted by systemd-nspawn.
//!
//! It has a disk, a network and a machine id of its own, and no way to the outside but the ports that a
//! test opens. It starts as a cloud's machine does: user data lies ready, and cloud-init runs it once for
//! each instance id.
//!
//! A target that includes this declares `processes` and `runners` (tests/real/) at its root.

#![allow(dead_code, reason = "each test target uses another part")]

pub mod apt;
pub mod beds;
pub mod cgroups;
pub mod disk;
pub mod lightsail;
pub mod net;
pub mod package;
pub mod process;
pub mod repository;
pub mod roots;
pub mod run;
pub mod signing;
pub mod ssh;
pub mod ssh_ca;
pub mod user_data;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use net::Network;
use process::Watch;
use roots::{Root, Roots, below};
use run::Run;

/// How long anything in a machine may take that is waited for. Far more than it does on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Room on a disk, when a test does not ask for less.
const DISK_BYTES: u64 = 2 << 30;

/// What the processes that tests start in a machine find in their environment, and all of it.
const ENVIRONMENT: [&str; 3] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"];

/// A machine. It is ended, and its disk removed, when this is dropped.
pub struct Vm {
    name: String,
    run: String,
    folder: PathBuf,
    root: Root,
    network: Network,
    instances: AtomicU32,
    boots: AtomicU32,
    running: Mutex<Option<Running>>,
}

/// A machine that is switched on.
struct Running {
    nspawn: Child,
    /// Its systemd, as a process of ours.
    init: i32,
}

impl Vm {
    /// A new machine with its disk, switched off.
    pub fn new(run: &Run, roots: &Roots, root: Root) -> Self {
        Self::with_disk(run, roots, root, DISK_BYTES)
    }

    /// The same with so many bytes free on its disk.
    pub fn with_disk(run: &Run, roots: &Roots, root: Root, bytes: u64) -> Self {
        let name = run.machine();
        let folder = run.folder().join(&name);
        let network = Network::new().unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let vm = Self {
            name,
            run: run.name().to_owned(),
            folder,
            root,
            network,
            instances: AtomicU32::new(0),
            boots: AtomicU32::new(0),
            running: Mutex::new(None),
        };
        vm.prepare(&roots.path(root), bytes).unwrap_or_else(|error| panic!("disk of {}: {error}", vm.name));
        vm
    }

    /// A disk, and on it what makes this machine another than all that come from the same root.
    fn prepare(&self, base: &Path, bytes: u64) -> std::io::Result<()> {
        disk::make(base, &self.folder, bytes)?;
        let put = |path: &str, text: &str| fs::write(below(&self.disk(), path), text);
        put("/etc/machine-id", &fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', ""))?;
        put("/etc/hostname", &format!("{}\n", self.name))?;
        put("/etc/hosts", &format!("127.0.0.1 localhost {}\n", self.name))?;
        put("/etc/cloud/ds-identify.cfg", "policy: enabled\n")?;
        // The network is there already; without a locale of the image cloud-init reports a failure.
        let config = "datasource_list: [ NoCloud, None ]\nlocale: C.UTF-8\nnetwork: {config: disabled}\n";
        // An RSA key takes as long as the rest of the boot. Who tests what host keys there are asks for all.
        put("/etc/cloud/cloud.cfg.d/90-keys.cfg", "ssh_genkeytypes: [ed25519]\n")?;
        put("/etc/cloud/cloud.cfg.d/99-test.cfg", config)
    }

    /// Its name, and the host's name that it has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was made from.
    pub fn root(&self) -> Root {
        self.root
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its control group, as [`run::traces`] names it.
    pub fn group(&self) -> PathBuf {
        Path::new(&self.run).join(&self.name)
    }

    /// Where its disk is mounted on this side.
    pub fn disk(&self) -> PathBuf {
        disk::root(&self.folder)
    }

    /// Switches it on with user data for a new instance: cloud-init runs them, also on a disk that has seen
    /// another instance, as that of a machine made from a snapshot. Returns when PID 1 is there.
    pub fn boot(&self, user_data: &[u8]) {
        let number = self.instances.fetch_add(1, Ordering::Relaxed) + 1;
        let meta_data = format!("instance-id: i-{}-{number}\nlocal-hostname: {}\n", self.name, self.name);
        let seed = below(&self.disk(), "/var/lib/cloud/seed/nocloud");
        fs::create_dir_all(&seed).expect("the disk can be written");
        fs::write(seed.join("meta-data"), meta_data).expect("the disk can be written");
        // It stands for what a cloud's metadata service would say: whoever reads files does not see it.
        let path = seed.join("user-data");
        fs::write(&path, b"")
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .and_then(|()| fs::write(&path, user_data))
            .expect("the disk can be written");
        self.switch_on();
    }

    /// Switches it on again as the instance that it was: user data do not run a second time.
    pub fn switch_on(&self) {
        let mut running = self.running();
        assert!(running.is_none(), "{} is switched on already", self.name);
        let boot = self.boots.fetch_add(1, Ordering::Relaxed) + 1;
        let console = File::create(self.folder.join(format!("console-{boot}"))).expect("the folder is ours");
        let copy = console.try_clone().expect("a file has a second handle");
        let groups = cgroups::make(&self.run, &self.name).unwrap_or_else(|reason| panic!("{reason}"));
        // A shell joins the groups first, so that nothing of the machine is ever outside of them.
        let join = "while [ \"$1\" != -- ]; do echo $$ >\"$1\"; shift; done; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-euc", join, "sh"])
            .args(groups)
            .args(["--", "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"])
            .args(["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            .arg(format!("--machine={}", self.name))
            .arg(format!("--directory={}", self.disk().display()))
            .arg("--capability=CAP_NET_ADMIN")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(copy);
        // Within the namespace, and not by an option: so what the machine sees in /sys is its own, too.
        let nspawn = self
            .network
            .inside(|| command.spawn())
            .unwrap_or_else(|error| panic!("systemd-nspawn does not start: {error}"));
        let mut starting = Running { nspawn, init: 0 };
        let started = Instant::now();
        while starting.init == 0 {
            let ended = starting.nspawn.try_wait().expect("a child of ours");
            let late = started.elapsed() > PATIENCE;
            assert!(ended.is_none() && !late, "{} has no PID 1 ({ended:?}): {}", self.name, self.console());
            starting.init = self.find_init().unwrap_or_default();
            std::thread::sleep(Duration::from_millis(5));
        }
        *running = Some(starting);
    }

    /// The process of ours that is PID 1 in the machine.
    fn find_init(&self) -> Option<i32> {
        cgroups::members(&self.group()).into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let pids: Vec<_> = line.split_whitespace().collect();
            // Not before it has become systemd: until then it has the root of the host.
            let systemd =
                || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "systemd\n");
            pids.len() > 1 && pids.last() == Some(&"1") && systemd()
        })
    }

    /// Shuts it down as `poweroff` does, and waits until it is off.
    pub fn shut_down(&self) {
        // The connection to systemd may be cut before there is an answer.
        let _ = self.exec(&["systemctl", "poweroff"]);
        assert!(self.goes_off(), "{} does not shut down\n{}", self.name, self.console());
        self.cut_power();
    }

    /// Ends it at once, in the middle of whatever it does.
    pub fn cut_power(&self) {
        self.end().unwrap_or_else(|reason| panic!("{reason}"));
    }

    fn end(&self) -> Result<(), String> {
        if let Some(init) = self.init().and_then(Pid::from_raw) {
            let _ = kill_process(init, Signal::KILL);
            // systemd-nspawn cleans up behind it, when it is given the time.
            let _ = self.goes_off();
        }
        let running = self.running().take();
        cgroups::empty(&self.group())?;
        if let Some(mut running) = running {
            let _ = running.nspawn.wait();
        }
        cgroups::remove(&self.group())
    }

    /// Waits until systemd-nspawn has ended; `false` if it does not.
    fn goes_off(&self) -> bool {
        let started = Instant::now();
        while self.running().as_mut().is_some_and(|it| it.nspawn.try_wait().is_ok_and(|end| end.is_none())) {
            if started.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its PID 1, as a process of ours; `None` when it is off.
    pub fn init(&self) -> Option<i32> {
        self.running().as_ref().map(|running| running.init)
    }

    /// A file of the machine's, on this side: what is in memory only, as `/run`, can be seen while it is on.
    /// Beware of links to absolute paths, which lead astray here.
    pub fn path(&self, path: &str) -> PathBuf {
        match self.init() {
            Some(init) => below(Path::new(&format!("/proc/{init}/root")), path),
            None => below(&self.disk(), path),
        }
    }

    /// A file's text; `None` if it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read(self.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a file with its folder, both for everybody to read.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, bytes))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The files written since it was made, and those in `/run`, that hold one of these words; with their
    /// modes (as `0o644`). User data lie in `/var/lib/cloud/seed`, which a cloud's machine does not have.
    pub fn files_with(&self, words: &[&str]) -> Vec<(String, u32)> {
        let mut found = disk::files_with(&disk::written(&self.folder), words);
        let volatile = disk::files_with(&self.path("/run"), words);
        found.extend(volatile.into_iter().map(|(path, mode)| (format!("/run{path}"), mode)));
        found
    }

    /// Runs a command in it as root, without input.
    pub fn exec(&self, argv: &[&str]) -> Output {
        let Some(init) = self.init() else { panic!("{} is off: {argv:?}", self.name) };
        Command::new("nsenter")
            .args(["--target", &init.to_string(), "--all", "--", "/usr/bin/env", "-i"])
            .args(ENVIRONMENT)
            .args(argv)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("nsenter does not start: {error}"))
    }

    /// Runs a shell script in it, which must succeed; returns what it says, without the last line's end.
    pub fn sh(&self, script: &str) -> String {
        let output = self.exec(&["sh", "-euc", script]);
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}\n{text}\n{complaint}", describe(output.status));
        text
    }

    /// Waits until something holds in the machine, which must stay on meanwhile.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            let ended = self.running().as_mut().map(|it| it.nspawn.try_wait());
            assert!(matches!(ended, Some(Ok(None))), "{what}: {} went off\n{}", self.name, self.console());
            assert!(started.elapsed() < PATIENCE, "{what}: not in time\n{}", self.evidence());
            // Most looks start processes in the machine, on the processors that it boots with.
            std::thread::sleep(
                (started.elapsed() / 20).clamp(Duration::from_millis(20), Duration::from_millis(250)),
            );
        }
    }

    /// Waits for a file, and returns its text.
    pub fn wait_file(&self, path: &str) -> String {
        self.wait(path, || self.path(path).exists());
        self.read(path).unwrap_or_default()
    }

    /// Waits until cloud-init has done all that it does at a boot, user data last, well or not.
    pub fn wait_cloud_init(&self) {
        // systemd is asked only when there is a reason to, as that takes as long as a hundred looks at a file.
        let mut looks = 0;
        self.wait("the end of cloud-init", || {
            looks += 1;
            if !self.path("/run/cloud-init/result.json").exists() && looks % 10 != 0 {
                return false;
            }
            let state = self.exec(&["systemctl", "is-active", "cloud-final"]).stdout;
            state == b"active\n" || state == b"failed\n"
        });
    }

    /// Switches it on with user data that do nothing, and waits until it is up.
    pub fn boot_idle(&self) {
        self.boot(b"#!/bin/sh\n");
        self.wait_cloud_init();
    }

    /// What the launch script of a deployment has written about its end, after cloud-init is done.
    pub fn outcome(&self, deployment: &str) -> Value {
        self.wait_cloud_init();
        let path = format!("/var/lib/outrigger/{deployment}.json");
        let text = self.read(&path).unwrap_or_else(|| panic!("there is no {path}\n{}", self.evidence()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"))
    }

    /// What cloud-init has noted of the output of all that it ran.
    pub fn cloud_init_output(&self) -> String {
        self.read("/var/log/cloud-init-output.log").unwrap_or_default()
    }

    /// The journal of this boot.
    pub fn journal(&self) -> String {
        let output = self.exec(&["journalctl", "--boot", "--no-pager", "--output=short-precise"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it said on its console, the last boot's.
    pub fn console(&self) -> String {
        let boot = self.boots.load(Ordering::Relaxed);
        let bytes = fs::read(self.folder.join(format!("console-{boot}"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What helps to understand a failure: the ends of cloud-init's output and of the journal.
    pub fn evidence(&self) -> String {
        let end = |text: String| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        };
        let journal = if self.init().is_some() { self.journal() } else { self.console() };
        format!(
            "--- end of {0}'s cloud-init output\n{1}\n--- end of {0}'s journal\n{2}\n",
            self.name,
            end(self.cloud_init_output()),
            end(journal)
        )
    }

    /// The processes that there are now.
    pub fn processes(&self) -> Vec<process::Process> {
        process::all(&self.path("/proc"))
    }

    /// Looks at every process from now on until the watch is ended: see [`Watch`].
    pub fn watch(&self, wanted: &[&str]) -> Watch {
        Watch::start(self.path("/proc"), wanted)
    }
}

/// How a command ended, in words.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test has failed, and this is gone in a moment")]
            {
                eprintln!("{}", self.evidence());
            }
        }
        let ended = self.end().and_then(|()| run::unmount_below(&self.folder));
        run::forget(&self.name);
        if ended.is_ok() {
            let _ = fs::remove_dir_all(&self.folder);
        }
        // What is left then is removed with the run, or by the next one.
        assert!(ended.is_ok() || std::thread::panicking(), "{}: {ended:?}", self.name);
    }
}
