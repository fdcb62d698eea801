//! A node on this machine: scheduler, kubelet, containerd and runc, which run the pods of a control plane.
//!
//! Another target includes this file by its path and needs `common`, `control_plane`, `processes` and
//! `runners` beside it, at the root of its crate. [`available`] says whether a node can be had; [`NodeBed::start`]
//! starts control plane and node, in about twenty seconds; [`NodeBed::stop`] ends both.
//!
//! Pods may use the images named in [`images`] alone (`imagePullPolicy: IfNotPresent`), have an address
//! but no way to anywhere, and run with the permissions that their namespace's Pod Security admits.

#![allow(dead_code, reason = "each test target uses another part")]

pub mod images;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::bed::Bed as _;
use crate::control_plane::{self, ControlPlane, PATIENCE, identity::NODE};
use crate::processes::{self, Folder, PREFIX, free_port};
use crate::runners;

/// Bridges and cgroups of ours begin like this, the run's own tag follows; an interface's name has room
/// for 15 characters.
const NAME: &str = "outr-";

/// Where Debian's containernetworking-plugins are.
const CNI: &str = "/usr/lib/cni";

const CGROUPS: &str = "/sys/fs/cgroup";

/// Where the binaries of control plane and node are, or what is missing for a node.
pub fn available() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a node needs root".to_owned());
    }
    let binaries = control_plane::binaries()?;
    control_plane::require(&binaries, &["kube-scheduler", "kubelet", "kubectl", "pause"])?;
    for tool in ["containerd", "ctr", "runc", "unshare", "ip"] {
        let found = Command::new(tool)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = found {
            return Err(format!("{tool}: {error} (apt packages: containerd, runc, util-linux, iproute2)"));
        }
    }
    if !Path::new(CNI).join("bridge").is_file() {
        return Err(format!("{CNI}/bridge is missing (apt package: containernetworking-plugins)"));
    }
    images::static_programs()?;
    helper()?;
    Ok(binaries)
}

/// The helper that the images of jobs are made with.
fn helper() -> Result<PathBuf, String> {
    runners::program(runners::Player::Real, runners::VERSION, "gitlab-runner-helper")
}

/// A control plane with a node, as one bed.
pub struct NodeBed {
    /// The control plane; its API is the only way to the node.
    pub plane: ControlPlane,
    name: String,
}

impl NodeBed {
    /// Starts both and waits until pods can run; before that, sweeps what killed runs left.
    pub fn start(binaries: &Path) -> Result<Self, String> {
        let plane = ControlPlane::start_for_node(binaries)?;
        sweep();
        let name = name_in(plane.folder().path());
        let bed = Self { plane, name };
        bed.start_node()?;
        Ok(bed)
    }

    /// Ends both and takes away what the node left in the kernel; safe to call more than once.
    pub fn stop(&self) {
        self.plane.stop();
        clean(&self.name);
    }

    /// The name that the node's bridge and its cgroup have on this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn start_node(&self) -> Result<(), String> {
        let folder = self.plane.folder();
        let binary = |name: &str| self.plane.binaries().join(name);
        let membership = self.plane.membership();
        images::write(&folder.path().join("images.tar"), &binary("pause"), &helper()?)?;
        folder.write("containerd.toml", &containerd(folder));
        let network = folder.path().join("cni");
        fs::create_dir_all(&network).map_err(|error| error.to_string())?;
        folder.write("cni/bridge.conflist", &bridge(folder, &self.name).to_string());
        folder.write("resolv.conf", "");
        let kubelet = kubelet(folder, &self.name, &membership);
        let mut args: Vec<String> =
            ["--mount", "--propagation=slave", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "sh"]
                .map(str::to_owned)
                .to_vec();
        args.extend([
            folder.write("init.sh", include_str!("init.sh")),
            folder.path().display().to_string(),
            self.name.clone(),
            binary("kubelet").display().to_string(),
            format!("--config={}", folder.write("kubelet.json", &kubelet.to_string())),
            format!("--kubeconfig={}", membership.kubelet),
            format!("--root-dir={}", folder.file("kubelet")),
            format!("--cert-dir={}", folder.file("kubelet")),
            format!("--hostname-override={NODE}"),
        ]);
        folder.start("node", Path::new("unshare"), &args)?;
        folder.start(
            "scheduler",
            &binary("kube-scheduler"),
            &[
                format!("--kubeconfig={}", membership.scheduler),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
        )?;
        folder.wait("the node is ready", PATIENCE, || {
            let node = self.plane.admin().get(&format!("/api/v1/nodes/{NODE}")).unwrap_or_default();
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|is| is["type"] == "Ready" && is["status"] == "True");
            ready && node["spec"]["taints"].is_null()
        })
    }
}

/// The name that the node of a run has, by that run's folder.
pub fn name_in(folder: &Path) -> String {
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("{NAME}{}", folder.strip_prefix(PREFIX).expect("a run's folder is named by us"))
}

impl Drop for NodeBed {
    fn drop(&mut self) {
        self.stop();
    }
}

fn containerd(folder: &Folder) -> String {
    let file = |name: &str| folder.file(name);
    // `restrict_oom_score_adj`: where the machine does not let us lower the score, pods would not start.
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"

[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{pause}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "{network}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = file("containerd"),
        state = file("containerd-state"),
        socket = file("containerd.sock"),
        opt = file("containerd-opt"),
        network = file("cni"),
        pause = images::PAUSE,
    )
}

/// A network without a gateway, in addresses that are for documentation: nothing of the host's is touched
/// but the bridge itself.
fn bridge(folder: &Folder, name: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "outrigger",
        "plugins": [{
            "type": "bridge",
            "bridge": name,
            "isGateway": false,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.file("addresses"),
                "ranges": [[{"subnet": "198.51.100.0/24"}]],
            },
        }],
    })
}

fn kubelet(folder: &Folder, name: &str, membership: &control_plane::Membership) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": free_port(),
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": membership.ca},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": membership.serving,
        "tlsPrivateKeyFile": membership.serving_key,
        "containerRuntimeEndpoint": format!("unix://{}", folder.file("containerd.sock")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{name}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "podLogsDir": folder.file("pods"),
        "volumePluginDir": folder.file("volume-plugins"),
        "resolvConf": folder.file("resolv.conf"),
        // The machine is shared, and its disk may be nearly full: that is no reason to end pods, or to
        // throw away images that nothing can pull again.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    })
}

/// Takes away what nodes of killed runs left in the kernel. [`Folder::new`] has ended their processes: what
/// belongs to none that lives is left over.
pub fn sweep() {
    processes::sweep();
    let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten().flatten().map(|entry| entry.path());
    for path in interfaces.chain(cgroups()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(tag) = name.strip_prefix(NAME)
            && !mentioned(&format!("{PREFIX}{tag}"))
        {
            clean(&name);
        }
    }
}

/// The cgroups of ours, once in every hierarchy.
fn cgroups() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from(CGROUPS))
        .chain(hierarchies)
        .flat_map(|hierarchy| fs::read_dir(hierarchy).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(NAME))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Whether the command line of any process speaks of a run's folder.
fn mentioned(folder: &str) -> bool {
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    })
}

fn clean(name: &str) {
    if Path::new("/sys/class/net").join(name).exists() {
        let _ = Command::new("ip").args(["link", "delete", name]).status();
    }
    let started = Instant::now();
    for cgroup in cgroups().iter().filter(|cgroup| cgroup.ends_with(name)) {
        // Its last process may have ended a moment ago, and the kernel still be at it.
        while !remove_cgroup(cgroup) && started.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a cgroup and those below it; says whether it is gone.
fn remove_cgroup(path: &Path) -> bool {
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for child in below.filter(|child| child.is_dir()) {
        remove_cgroup(&child);
    }
    // Not remove_dir_all: what stands in a cgroup goes with it and cannot be removed.
    fs::remove_dir(path).is_ok() || !path.exists()
}
