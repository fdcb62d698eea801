//! The processes of a machine with all that `ps` could show of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A process as its own machine sees it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id there.
    pub pid: u32,
    /// Its arguments; empty for one that has just ended.
    pub argv: Vec<String>,
    /// Its environment, a `NAME=value` each.
    pub environment: Vec<String>,
}

/// The processes that a proc file system shows.
pub fn all(proc: &Path) -> Vec<Process> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid| one(proc, pid)).collect()
}

fn one(proc: &Path, pid: u32) -> Process {
    let words = |file: &str| {
        let bytes = fs::read(proc.join(pid.to_string()).join(file)).unwrap_or_default();
        let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    };
    Process { pid, argv: words("cmdline"), environment: words("environ") }
}

/// A thread that looks through a machine's processes without pause for words that must not be seen there,
/// in arguments or environments.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    thread: Option<JoinHandle<BTreeSet<String>>>,
}

impl Watch {
    pub(super) fn start(proc: PathBuf, wanted: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicUsize::new(0));
        let wanted: Vec<String> = wanted.iter().map(|&word| word.to_owned()).collect();
        let (ended, counter) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let mut found = BTreeSet::new();
            let mut known = BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                for process in all(&proc) {
                    if known.insert(process.pid) {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    let text = process.argv.iter().chain(&process.environment);
                    if text.into_iter().any(|word| wanted.iter().any(|one| word.contains(one))) {
                        found.insert(format!("{:?} with {:?}", process.argv, process.environment));
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            found
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// How many processes it has seen so far.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends it: the processes that had one of the words, a line each.
    pub fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is ended once");
        thread.join().expect("a watch does not panic").into_iter().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
