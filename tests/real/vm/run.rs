//! What one run of the tests makes on this machine, all under one name: a folder, mounts below it, control
//! groups. Removed at the end, or by the next run if this one is killed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::cgroups;
use crate::processes::born;

/// Names of ours begin like this; only such are ever swept.
pub const PREFIX: &str = "outrigger-vm-";

/// Where systemd-nspawn keeps a folder for each of its machines, and forgets it when it is killed.
const PROPAGATE: &str = "/run/systemd/nspawn/propagate";

/// Where it keeps a lock for each folder that it has started a machine from: a file that is named after the
/// folder's device and inode, and stays when it is killed.
const LOCKS: &str = "/run/systemd/nspawn/locks";

/// A run, as long as it lives.
pub struct Run {
    folder: PathBuf,
    name: String,
    machines: AtomicU32,
}

impl Run {
    /// A new one, after sweeping what killed runs left.
    pub fn new() -> Result<Self, String> {
        sweep()?;
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir()
            .map_err(|error| format!("no temporary folder: {error}"))?
            .keep();
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let owner = std::process::id();
        fs::write(folder.join("owner"), format!("{owner} {}", born(owner).unwrap_or_default()))
            .map_err(|error| format!("no owner of {name}: {error}"))?;
        Ok(Self { folder, name, machines: AtomicU32::new(0) })
    }

    /// The name that all things of this run carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A name for a machine: the run's, and a number.
    pub fn machine(&self) -> String {
        format!("{}-{}", self.name, self.machines.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A panic here would hide the one that may have led to it; what is left is swept by the next run.
        let _ = clean(&self.folder, &self.name);
    }
}

/// Removes what killed runs left.
fn sweep() -> Result<(), String> {
    for (name, folder) in folders() {
        let Some(owner) = owner(&folder) else { continue };
        if born(owner.0) != Some(owner.1) {
            clean(&folder, &name)?;
        }
    }
    Ok(())
}

/// The runs that have a folder here.
fn folders() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// The test process that a folder belongs to, and when it was born.
fn owner(folder: &Path) -> Option<(u32, u64)> {
    let text = fs::read_to_string(folder.join("owner")).ok()?;
    let (pid, born) = text.split_once(' ')?;
    Some((pid.parse().ok()?, born.parse().ok()?))
}

/// Ends every process of the run and removes what it made. The folder goes last: while it is there, the
/// next run knows that there is something to do.
fn clean(folder: &Path, name: &str) -> Result<(), String> {
    cgroups::empty(Path::new(name))?;
    unmount_below(folder)?;
    cgroups::remove(Path::new(name))?;
    forget(name);
    remove(folder)
}

/// Removes what systemd-nspawn keeps of a machine, or of all machines of a run.
pub fn forget(name: &str) {
    for path in propagated(name) {
        // What stays is among the traces.
        let _ = fs::remove_dir_all(path);
    }
}

/// Removes a folder, unless another run has just swept it.
fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{}: {error}", folder.display())),
        _ => Ok(()),
    }
}

/// Unmounts all that is mounted below a folder of ours, where no machine runs any more.
pub fn unmount_below(folder: &Path) -> Result<(), String> {
    let started = Instant::now();
    loop {
        // The last mounted first.
        let mounts = mounts_below(folder);
        let Some(point) = mounts.last() else { return Ok(()) };
        if let Some(lock) = lock_of(point) {
            let _ = fs::remove_file(lock);
        }
        if let Err(error) = unmount(point.as_path(), UnmountFlags::empty()) {
            // The mount namespace of a process that was killed lives a moment longer.
            if started.elapsed() > Duration::from_secs(30) {
                return Err(format!("{} cannot be unmounted: {error}", point.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The path of systemd-nspawn's lock for a machine's root folder; `None` if there is no such folder.
pub fn lock_of(root: &Path) -> Option<String> {
    let metadata = fs::metadata(root).ok()?;
    Some(format!("{LOCKS}/inode-{}:{}", metadata.dev(), metadata.ino()))
}

fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split_whitespace().nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(folder)).collect()
}

fn propagated(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(PROPAGATE).into_iter().flatten().flatten();
    let ours =
        |folder: &str| folder.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    entries.filter(|entry| ours(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

/// What there is of a run (by its name) or of one of its machines (`run/machine`), a line each: processes,
/// mounts, control groups, folders.
pub fn traces(group: &Path) -> Vec<String> {
    let name = group.file_name().unwrap_or_default().to_string_lossy();
    let folder = std::env::temp_dir().join(group);
    let mut traces: Vec<String> = Vec::new();
    traces.extend(cgroups::members(group).iter().map(|pid| format!("process {pid}")));
    traces.extend(mounts_below(&folder).iter().map(|point| format!("mount {}", point.display())));
    traces.extend(cgroups::left(group).iter().map(|path| format!("group {}", path.display())));
    traces.extend(propagated(&name).iter().map(|path| format!("folder {}", path.display())));
    if folder.exists() {
        traces.push(format!("folder {}", folder.display()));
    }
    traces
}
