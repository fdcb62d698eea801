//! What a node leaves on this machine while it runs, and must not leave when it has ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where containerd, runc, CNI plugins and kubelets keep things if nobody keeps them from it.
const PLACES: &[&str] = &[
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/run/runc",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// What a kubelet would change in the kernel, and a bridge with a gateway.
const SETTINGS: &[&str] = &[
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// One run's node, by the names that its things carry.
pub struct Traces {
    /// The run's folder.
    folder: PathBuf,
    /// The bridge and the cgroup.
    name: String,
    /// The host's ends of the pods' cables.
    cables: Vec<PathBuf>,
}

/// The machine as it was before this process had a node.
static BEFORE: OnceLock<Vec<String>> = OnceLock::new();

/// Remembers the machine as it is; to be called before the first node is started.
pub fn remember() {
    let _ = BEFORE.set(around());
}

/// Places that exist and settings with their values, whosoever they are.
fn around() -> Vec<String> {
    let places = PLACES.iter().filter(|place| Path::new(place).exists()).map(|&place| place.to_owned());
    let settings = SETTINGS.iter().map(|setting| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting)).unwrap_or_default();
        format!("{setting} is {}", value.trim())
    });
    places.chain(settings).collect()
}

impl Traces {
    /// Of a node that runs, with a pod on it.
    ///
    /// Fails unless a trace of every kind is seen: one that cannot be seen now would not be missed later.
    pub fn of(folder: &Path, name: &str) -> Self {
        let cables = fs::read_dir(Path::new("/sys/class/net").join(name).join("brif"))
            .unwrap_or_else(|error| panic!("the bridge {name}: {error}"))
            .flatten()
            .map(|entry| Path::new("/sys/class/net").join(entry.file_name()))
            .collect();
        let traces = Self { folder: folder.to_owned(), name: name.to_owned(), cables };
        let seen = traces.seen();
        let kinds: BTreeSet<_> = seen.iter().filter_map(|trace| trace.split(' ').next()).collect();
        let all = BTreeSet::from(["bridge", "cable", "cgroup", "folder", "mount", "process"]);
        assert_eq!(kinds, all, "of a node that runs: {seen:#?}");
        traces
    }

    /// Fails unless everything is gone.
    ///
    /// The kernel takes the pods' networks away some time after their last process: this waits for it.
    pub fn gone(&self) {
        let started = Instant::now();
        while self.cables.iter().any(|cable| cable.exists()) && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(self.seen(), [""; 0], "nothing is left");
        assert_eq!(Some(&around()), BEFORE.get(), "nothing else has changed");
    }

    /// Whether anything is there.
    pub fn any(&self) -> bool {
        !self.seen().is_empty()
    }

    fn seen(&self) -> Vec<String> {
        let mut seen = Vec::new();
        if self.folder.exists() {
            seen.push(format!("folder {}", self.folder.display()));
        }
        if Path::new("/sys/class/net").join(&self.name).exists() {
            seen.push(format!("bridge {}", self.name));
        }
        let cables = self.cables.iter().filter(|cable| cable.exists());
        seen.extend(cables.map(|cable| format!("cable {}", cable.display())));
        for hierarchy in hierarchies().iter().filter(|hierarchy| hierarchy.join(&self.name).exists()) {
            seen.push(format!("cgroup in {}", hierarchy.display()));
        }
        let folder = self.folder.display().to_string();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
            let read = |file: &str| {
                String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).replace('\0', " ")
            };
            let line = read("cmdline");
            // A pod's own command says nothing of us; its cgroup does.
            if line.contains(&folder) || read("cgroup").contains(&self.name) {
                seen.push(format!("process {} {line}", process.display()));
            }
            if read("mountinfo").contains(&folder) {
                seen.push(format!("mount of {} {line}", process.display()));
            }
        }
        seen
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(root.clone()).chain(below).collect()
}
