//! A real control plane: etcd, kube-apiserver and kube-controller-manager on 127.0.0.1.
//!
//! `tests/real/node` adds a node to it where pods must run.

#![allow(dead_code, reason = "each test target uses another part")]

// Named, as a target below another directory includes this file by its path.
#[path = "identity.rs"]
pub mod identity;
#[path = "rules.rs"]
mod rules;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use outrigger_doubles::cluster::Rule;
use serde_json::Value;

use crate::common::admin::Admin;
use crate::common::bed::{Bed, Logged, User, kubeconfig_yaml};
use crate::processes::{Folder, free_port};
use rules::Rules;

use identity::{HARNESS, Identity, KUBELET, SCHEDULER, token, tokens};

/// The Kubernetes version whose binaries are looked for, as in `tests/real/go/go.mod`.
const VERSION: &str = "v1.37.2";

/// Two cores, shared: a cold API server may take a while.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the tests need of the controllers, and no more: without the token controller a token Secret is
/// never filled, without the aggregation controller the `ClusterRole` edit is empty.
const CONTROLLERS: &str = "serviceaccount-controller,serviceaccount-token-controller,\
    root-ca-certificate-publisher-controller,namespace-controller,garbage-collector-controller,\
    clusterrole-aggregation-controller";

/// What a node needs besides: nothing is scheduled before its taint is taken away, and pods of a node
/// that is gone would never be.
const NODE_CONTROLLERS: &str = "node-lifecycle-controller,taint-eviction-controller,\
    pod-garbage-collector-controller";

/// Where the binaries are, or why they are not.
pub fn binaries() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("KUBEBUILDER_ASSETS")
        .or_else(|| {
            let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
            Some(cache.join("outrigger-test").join(VERSION))
        })
        .ok_or("neither KUBEBUILDER_ASSETS nor HOME is set")?;
    require(&folder, &["etcd", "kube-apiserver", "kube-controller-manager"])?;
    Ok(folder)
}

/// Fails with what to do if one of these binaries is missing.
pub fn require(folder: &Path, names: &[&str]) -> Result<(), String> {
    match names.iter().find(|name| !folder.join(name).is_file()) {
        None => Ok(()),
        Some(name) => Err(format!(
            "{name} is not in {}: build it with tests/real/build-control-plane.sh",
            folder.display()
        )),
    }
}

/// How one API server differs from the other.
struct Variant {
    name: &'static str,
    token_controller_key: bool,
    longest_token: Option<&'static str>,
    node: bool,
}

const ORDINARY: Variant =
    Variant { name: "acme-ci", token_controller_key: true, longest_token: None, node: false };
const WITH_NODE: Variant = Variant { node: true, ..ORDINARY };
const CRIPPLED: Variant =
    Variant { name: "acme-prod", token_controller_key: false, longest_token: Some("24h"), node: false };

/// Metadata alone: bodies would put tokens into the log.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// One cluster: an API server with its controllers.
struct Cluster {
    name: &'static str,
    url: String,
    audit: PathBuf,
    admin: Admin,
    identity: Identity,
}

/// What the servers of a node need to join a cluster: paths of files.
pub struct Membership {
    /// The kubelet's kubeconfig.
    pub kubelet: String,
    /// The scheduler's kubeconfig.
    pub scheduler: String,
    /// The cluster's CA.
    pub ca: String,
    /// The certificate that the kubelet serves with.
    pub serving: String,
    /// Its key.
    pub serving_key: String,
}

/// The bed: a cluster of scenarios and, when asked for, another one on the same etcd.
pub struct ControlPlane {
    folder: Folder,
    binaries: PathBuf,
    etcd: String,
    first: OnceLock<Cluster>,
    second: Mutex<Option<Cluster>>,
    mark: AtomicU64,
    rules: Mutex<Rules>,
}

impl ControlPlane {
    /// Starts everything and seeds the users' rights.
    pub fn start(binaries: &Path) -> Result<Self, String> {
        Self::start_as(binaries, &ORDINARY)
    }

    /// The same with an API server and controllers that a node can join, which [`Self::membership`]
    /// tells how. `node::NodeBed::start` does both.
    pub fn start_for_node(binaries: &Path) -> Result<Self, String> {
        Self::start_as(binaries, &WITH_NODE)
    }

    fn start_as(binaries: &Path, variant: &Variant) -> Result<Self, String> {
        let folder = Folder::new()?;
        let etcd = format!("http://127.0.0.1:{}", free_port());
        let peers = format!("http://127.0.0.1:{}", free_port());
        folder.start(
            "etcd",
            &binaries.join("etcd"),
            &[
                format!("--data-dir={}", folder.file("etcd")),
                format!("--listen-client-urls={etcd}"),
                format!("--advertise-client-urls={etcd}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        )?;
        let plane = Self {
            folder,
            binaries: binaries.to_owned(),
            etcd,
            first: OnceLock::new(),
            second: Mutex::default(),
            mark: AtomicU64::new(0),
            rules: Mutex::default(),
        };
        let cluster = plane.cluster(variant)?;
        for manifest in outrigger_doubles::cluster::seed_rbac() {
            cluster.admin.create(&manifest);
        }
        let _ = plane.first.set(cluster);
        Ok(plane)
    }

    /// Ends everything; safe to call more than once.
    pub fn stop(&self) {
        self.folder.stop();
    }

    /// Where the servers' files and logs are; a node's belong there, too.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Where the binaries are.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// Writes down what a node needs to join.
    pub fn membership(&self) -> Membership {
        let Cluster { name, url, identity, .. } = self.here();
        let file = |part: &str, text: &str| self.folder.write(&format!("{name}-{part}"), text);
        let kubeconfig = |user: &str| kubeconfig_yaml(name, url, &identity.ca, user, &token(name, user));
        let serving = identity.server(KUBELET);
        Membership {
            kubelet: file("kubelet.kubeconfig", &kubeconfig(KUBELET)),
            scheduler: file("scheduler.kubeconfig", &kubeconfig(SCHEDULER)),
            ca: self.folder.file(&format!("{name}-ca.crt")),
            serving: file("kubelet.crt", &serving.certificate),
            serving_key: file("kubelet.key", &serving.key),
        }
    }

    fn here(&self) -> &Cluster {
        self.first.get().expect("set before start() returns")
    }

    fn cluster(&self, variant: &Variant) -> Result<Cluster, String> {
        let name = variant.name;
        let folder = &self.folder;
        let file = |part: &str, text: &str| folder.write(&format!("{name}-{part}"), text);
        let identity = Identity::new();
        let port = free_port();
        let url = format!("https://127.0.0.1:{port}");
        let serving = identity.server("kube-apiserver");
        let (ca, key) = (file("ca.crt", &identity.ca), file("sa.key", &identity.account_key));
        let audit = folder.path().join(format!("{name}-audit.log"));

        let mut args = vec![
            format!("--etcd-servers={}", self.etcd),
            // Two API servers on one etcd are two clusters if their keys begin differently.
            format!("--etcd-prefix=/{name}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            // Never used, as nothing reconciles endpoints; found by itself it would need a network.
            "--advertise-address=192.0.2.1".to_owned(),
            format!("--cert-dir={}", folder.file(name)),
            format!("--tls-cert-file={}", file("serving.crt", &serving.certificate)),
            format!("--tls-private-key-file={}", file("serving.key", &serving.key)),
            format!("--client-ca-file={ca}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("sa.pub", &identity.account_public)),
            format!("--service-account-signing-key-file={key}"),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--token-auth-file={}", file("tokens.csv", &tokens(name))),
            format!("--audit-policy-file={}", file("audit.yaml", AUDIT_POLICY)),
            format!("--audit-log-path={}", audit.display()),
        ];
        args.extend(
            variant.longest_token.map(|long| format!("--service-account-max-token-expiration={long}")),
        );
        if variant.node {
            let client = identity.client("kube-apiserver-kubelet-client");
            args.extend([
                format!("--kubelet-certificate-authority={ca}"),
                format!("--kubelet-client-certificate={}", file("kubelet-client.crt", &client.certificate)),
                format!("--kubelet-client-key={}", file("kubelet-client.key", &client.key)),
                "--kubelet-preferred-address-types=Hostname".to_owned(),
            ]);
        }
        folder.start(&format!("{name}-apiserver"), &self.binaries.join("kube-apiserver"), &args)?;

        let manager = identity::CONTROLLERS;
        let mut controllers = CONTROLLERS.to_owned();
        if variant.node {
            controllers = format!("{controllers},{NODE_CONTROLLERS}");
        }
        let kubeconfig = kubeconfig_yaml(name, &url, &identity.ca, manager, &token(name, manager));
        let mut args = vec![
            format!("--kubeconfig={}", file("manager.kubeconfig", &kubeconfig)),
            format!("--root-ca-file={ca}"),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--controllers={controllers}"),
        ];
        if variant.token_controller_key {
            args.push(format!("--service-account-private-key-file={key}"));
        }

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        folder.wait(&format!("{name} listens"), PATIENCE, || TcpStream::connect(address).is_ok())?;
        let harness = kubeconfig_yaml(name, &url, &identity.ca, HARNESS, &token(name, HARNESS));
        let admin = Admin::new(&harness);
        folder.wait(&format!("{name} is ready"), PATIENCE, || admin.text("/readyz").is_ok())?;
        folder.start(&format!("{name}-manager"), &self.binaries.join("kube-controller-manager"), &args)?;
        // The last things that controllers do on their own: from here on the world is at rest.
        folder.wait(&format!("{name} has its controllers"), PATIENCE, || {
            let edit = admin.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/edit").unwrap_or_default();
            edit["rules"].as_array().is_some_and(|rules| !rules.is_empty())
                && admin.get("/api/v1/namespaces/default/serviceaccounts/default").is_some()
                && admin.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").is_some()
        })?;
        Ok(Cluster { name, url, audit, admin, identity })
    }

    fn another(&self) -> String {
        let mut second = self.second.lock().expect("no panic under the lock");
        let cluster = second.get_or_insert_with(|| {
            self.cluster(&CRIPPLED).unwrap_or_else(|error| panic!("a second cluster does not start: {error}"))
        });
        cluster.kubeconfig(User::Admin)
    }
}

impl Cluster {
    fn kubeconfig(&self, user: User) -> String {
        kubeconfig_yaml(self.name, &self.url, &self.identity.ca, user.name(), &token(self.name, user.name()))
    }
}

impl Bed for ControlPlane {
    fn name(&self) -> &'static str {
        "control plane"
    }

    fn url(&self) -> String {
        self.here().url.clone()
    }

    fn ca_pem(&self) -> String {
        self.here().identity.ca.clone()
    }

    fn kubeconfig(&self, user: User) -> String {
        self.here().kubeconfig(user)
    }

    fn admin(&self) -> &Admin {
        &self.here().admin
    }

    fn mark(&self) {
        let length = fs::metadata(&self.here().audit).map_or(0, |metadata| metadata.len());
        self.mark.store(length, Ordering::Relaxed);
    }

    fn requests(&self) -> Vec<Logged> {
        let log = fs::read(&self.here().audit).unwrap_or_default();
        let from = usize::try_from(self.mark.load(Ordering::Relaxed)).expect("a log fits into memory");
        String::from_utf8_lossy(log.get(from..).unwrap_or_default())
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["stage"] == "ResponseComplete")
            .map(|event| logged(&event))
            .filter(|request| {
                let controllers = request.user.starts_with("system:serviceaccount:kube-system:");
                let account = request.user.starts_with("system:serviceaccount:") && !controllers;
                account || !(request.user.starts_with("system:") || request.user == HARNESS)
            })
            .collect()
    }

    fn counts_exactly(&self) -> bool {
        false
    }

    fn set_rules(&self, rules: &[Rule], probe: &Value) {
        // A scenario that failed in here leaves what it made to the next.
        let mut standing = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        standing.set(self.admin(), rules, probe);
    }

    fn elsewhere(&self) -> Option<String> {
        Some(self.another())
    }

    fn without_token_controller(&self) -> Option<String> {
        Some(self.another())
    }

    fn kubectl(&self) -> Option<PathBuf> {
        Some(self.binaries.join("kubectl")).filter(|kubectl| kubectl.is_file())
    }
}

fn logged(event: &Value) -> Logged {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let method = match text("/verb").as_str() {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        _ => "GET",
    };
    let uri = text("/requestURI");
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    Logged {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        user: text("/user/username"),
        status: event["responseStatus"]["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(0),
    }
}
