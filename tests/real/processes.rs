//! Server processes and their folder: started, stopped, and swept up after a run that was killed.

#![allow(dead_code, reason = "each test target uses another part")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Folders of ours begin like this; only such are ever swept.
pub const PREFIX: &str = "outrigger-plane-";

/// A folder for one run's servers: their files, logs and process ids.
pub struct Folder {
    path: PathBuf,
    children: Mutex<Vec<(String, Child)>>,
}

impl Folder {
    /// A new one, after sweeping what killed runs left.
    pub fn new() -> Result<Self, String> {
        sweep();
        let path = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir()
            .map_err(|error| format!("no temporary folder: {error}"))?
            .keep();
        let folder = Self { path, children: Mutex::default() };
        folder.record(std::process::id());
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it, readable by us only, and gives its path as an argument.
    pub fn write(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("our own folder is writable");
        file.write_all(text.as_bytes()).expect("our own folder is writable");
        path.display().to_string()
    }

    /// The path of a file in it, as an argument.
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Starts a server; its output goes to a log in the folder.
    pub fn start(&self, name: &str, binary: &Path, args: &[String]) -> Result<(), String> {
        let log = File::create(self.path.join(format!("{name}.log"))).map_err(|error| error.to_string())?;
        let copy = log.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(binary)
            .args(args)
            .current_dir(&self.path)
            // Go collects its garbage later: there is memory for that, and the processors are busy.
            .env("GOGC", "400")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", binary.display()))?;
        self.record(child.id());
        self.children.lock().expect("no panic under the lock").push((name.to_owned(), child));
        Ok(())
    }

    /// Waits until something holds; fails early if a server has ended meanwhile.
    pub fn wait(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let started = Instant::now();
        while !holds() {
            if let Some(ended) = self.ended() {
                return Err(format!("{ended}\n{}", self.logs()));
            }
            if started.elapsed() > limit {
                return Err(format!("{what}: not within {} s\n{}", limit.as_secs(), self.logs()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn ended(&self) -> Option<String> {
        let mut children = self.children.lock().expect("no panic under the lock");
        children.iter_mut().find_map(|(name, child)| {
            let status = child.try_wait().ok()??;
            Some(format!("{name} ended with {status}"))
        })
    }

    /// The last lines of every log, for a failure.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (name, _) in self.children.lock().expect("no panic under the lock").iter() {
            let log = fs::read_to_string(self.path.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let _ = writeln!(text, "--- end of {name}.log");
            for line in &lines[lines.len().saturating_sub(15)..] {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    /// Ends the servers, last started first, and removes the folder.
    pub fn stop(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, mut child)) = children.pop() {
            end(&[child.id()]);
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.path);
    }

    fn record(&self, pid: u32) {
        let born = born(pid).unwrap_or_default();
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path.join("pids"))
            .expect("our own folder is writable");
        writeln!(file, "{pid} {born}").expect("our own folder is writable");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends processes and their children, the first of a process namespace among them, which takes all of
/// the namespace with it. There is nothing to save: no graceful end, which takes an API server many
/// seconds.
fn end(processes: &[u32]) {
    let mut doomed: Vec<u32> = processes.iter().copied().flat_map(children).collect();
    doomed.extend(processes);
    let doomed: Vec<(u32, u64)> = doomed.iter().filter_map(|&pid| Some((pid, born(pid)?))).collect();
    for &(pid, _) in &doomed {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let started = Instant::now();
    while doomed.iter().any(alive) && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn alive(&(pid, since): &(u32, u64)) -> bool {
    born(pid) == Some(since)
}

/// When a process started, in the kernel's ticks: with the id it names a process, the id alone does not.
/// Nothing for one that has ended and waits for its parent to hear of it.
pub fn born(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Ends the servers of runs that were killed, and removes their folders.
pub fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path().join("pids")) else { continue };
        let recorded: Vec<(u32, u64)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(pid, born)| Some((pid.parse().ok()?, born.parse().ok()?)))
            .collect();
        // The first line is the test run itself: while it lives, the folder is in use.
        let Some((owner, servers)) = recorded.split_first() else { continue };
        if alive(owner) {
            continue;
        }
        let left: Vec<u32> = servers.iter().filter(|server| alive(server)).map(|server| server.0).collect();
        end(&left);
        // What cannot be ended now is left to another run, which reads here what there is to end.
        if servers.iter().any(alive) {
            continue;
        }
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// A port on 127.0.0.1 that was free a moment ago, and that was not given to another server of this run.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}
