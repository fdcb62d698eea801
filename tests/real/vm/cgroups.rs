//! Control groups of a run: a machine's processes stay in them whatever becomes of their parents, so that
//! they can be found and ended by name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the hierarchies are mounted. Without `cpuset`, where a group takes nobody in before it was
/// given processors, and which systemd leaves alone.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let kind = kind.split_whitespace().next()?;
            let point = mount.split_whitespace().nth(4)?;
            let wanted = matches!(kind, "cgroup" | "cgroup2") && !point.contains("cpuset");
            wanted.then(|| PathBuf::from(point))
        })
        .collect()
}

/// Makes the group `run/machine` in every hierarchy; returns the files that a process id is written to in
/// order to join.
pub fn make(run: &str, machine: &str) -> Result<Vec<PathBuf>, String> {
    hierarchies()
        .iter()
        .map(|hierarchy| {
            let group = hierarchy.join(run).join(machine);
            fs::create_dir_all(&group).map_err(|error| format!("no group {}: {error}", group.display()))?;
            Ok(group.join("cgroup.procs"))
        })
        .collect()
}

/// The processes in the group and below it. The name is one below a hierarchy's root.
pub fn members(name: &Path) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    for hierarchy in hierarchies() {
        walk(&hierarchy.join(name), &mut |group| {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    pids.remove(&0);
    pids
}

/// Kills whoever is in the group, until nobody is.
pub fn empty(name: &Path) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let pids = members(name);
        if pids.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("processes of {} do not end: {pids:?}", name.display()));
        }
        for pid in pids {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes the group, which must be empty, and all below it.
pub fn remove(name: &Path) -> Result<(), String> {
    for hierarchy in hierarchies() {
        let started = Instant::now();
        let root = hierarchy.join(name);
        loop {
            walk(&root, &mut |group| {
                let _ = fs::remove_dir(group);
            });
            if !root.exists() {
                break;
            }
            // The kernel counts a process that has just ended for a moment longer.
            if started.elapsed() > PATIENCE {
                return Err(format!("{} cannot be removed", root.display()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// The groups of this name that are there.
pub fn left(name: &Path) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|hierarchy| hierarchy.join(name)).filter(|group| group.exists()).collect()
}

/// Visits a group after those below it.
fn walk(group: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), visit);
    }
    visit(group);
}
