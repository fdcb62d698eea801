//! Exec plugins of a kubeconfig (client.authentication.k8s.io), run once per login.
//!
//! kube's own way runs a plugin three times for one client, waits for it without end, and panics on a token
//! that no header can carry.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::kubeconfig::{Cluster, Exec};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::yaml::{self, Repeated};
use crate::x509::tls;

/// The largest credential read.
const LONGEST: u64 = 1024 * 1024;
const GROUP: &str = "client.authentication.k8s.io/";

/// A plugin, ready to be run.
#[derive(Clone)]
pub(super) struct Plugin {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dropped: Vec<String>,
    version: String,
    info: String,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({})", self.path.display())
    }
}

/// What a plugin gave.
pub(super) struct Credential {
    pub token: Option<Secret>,
    /// Client certificate and its key, PEM.
    pub identity: Option<(String, Secret)>,
    /// When it has to be asked again.
    pub expires: Option<jiff::Timestamp>,
}

/// Whether a header can carry the token. Every token passes here, wherever it comes from: the HTTP library
/// ends the process on another.
pub(super) fn fits_header(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Plugin {
    /// `dropped` are the variables that it does not get, `path` is where it was found.
    ///
    /// # Errors
    /// Why kubectl would not run it either.
    pub fn new(
        exec: &Exec,
        cluster: &Cluster,
        ca: Option<&[u8]>,
        path: &Path,
        dropped: Vec<String>,
    ) -> Result<Self, String> {
        let known = [format!("{GROUP}v1"), format!("{GROUP}v1beta1")];
        if !known.contains(&exec.api_version) {
            return Err(format!(
                "its exec plugin has the apiVersion {:?}: {} and {} are supported",
                exec.api_version, known[0], known[1]
            ));
        }
        match exec.interactive_mode.as_str() {
            "Never" | "IfAvailable" | "Always" => {}
            "" if exec.api_version == known[1] => {}
            "" => return Err("its exec plugin lacks interactiveMode, which v1 requires".to_owned()),
            other => {
                let why = "Never, IfAvailable and Always are known";
                return Err(format!("its exec plugin has the interactiveMode {other:?}: {why}"));
            }
        }
        if exec.env.iter().any(|variable| variable.name.is_empty()) {
            return Err("its exec plugin has a variable without a name".to_owned());
        }
        // It gets no terminal: what it prints could hold a token, and what is typed is meant for us.
        let mut spec = json!({"interactive": false});
        if exec.provide_cluster_info {
            spec["cluster"] = described(cluster, ca);
        }
        let info = json!({"apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec});
        Ok(Self {
            path: path.to_owned(),
            args: exec.args.clone(),
            env: exec.env.iter().map(|one| (one.name.clone(), one.value.clone())).collect(),
            dropped,
            version: exec.api_version.clone(),
            info: info.to_string(),
        })
    }

    /// Its path, for people.
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Runs it. Dropping the future ends the process.
    ///
    /// # Errors
    /// OR0404; what the plugin printed is not in it.
    pub async fn run(&self) -> Result<Credential> {
        let failed = |why: String| {
            Failure::new(Id::CredentialPlugin, "the kubeconfig's credentials could not be had")
                .detail("the plugin", self.shown())
                .detail("because", why)
                .hint((
                    "what it printed is not shown, as it may hold a token; to see it",
                    Command::kubectl("version"),
                ))
        };
        let mut command = tokio::process::Command::new(&self.path);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        for name in &self.dropped {
            command.env_remove(name);
        }
        let mut child =
            command.spawn().map_err(|error| failed(format!("it could not be started: {error}")))?;
        let mut bytes = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(LONGEST + 1).read_to_end(&mut bytes).await;
            read.map_err(|error| failed(format!("what it printed could not be read: {error}")))?;
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
            return Err(failed("it printed more than 1 MiB".to_owned()));
        }
        let status = child.wait().await.map_err(|error| failed(format!("it was lost: {error}")))?;
        if !status.success() {
            return Err(failed(format!("it ended with {status}")));
        }
        self.read(&bytes).map_err(failed)
    }

    /// Reads an `ExecCredential`, with the checks that client-go makes.
    fn read(&self, bytes: &[u8]) -> Result<Credential, String> {
        let text = std::str::from_utf8(bytes).ok();
        let answer: Option<Value> =
            text.and_then(|text| yaml::read(text, Repeated::Refused).ok()?.into_iter().next());
        let Some(answer) = answer.filter(|answer| answer["kind"] == "ExecCredential") else {
            return Err("it did not print an ExecCredential".to_owned());
        };
        let version = answer["apiVersion"].as_str().unwrap_or_default();
        if version != self.version {
            // Only a name of the group is shown: the field could hold anything.
            let version = if version.starts_with(GROUP) { version } else { "another one" };
            return Err(format!("it was asked for apiVersion {} and answered with {version}", self.version));
        }
        let given = |key: &str| answer["status"][key].as_str().filter(|text| !text.is_empty());
        let token = given("token");
        if token.is_some_and(|token| !fits_header(token)) {
            return Err(
                "its token holds a character that no header can carry (a line break or blank?)".to_owned()
            );
        }
        let identity = match (given("clientCertificateData"), given("clientKeyData")) {
            (Some(certificate), Some(key)) => {
                tls::check_identity(certificate.as_bytes(), key.as_bytes())?;
                Some((certificate.to_owned(), Secret::new(key)))
            }
            (None, None) if token.is_none() => {
                return Err("it gave neither a token nor a client certificate".to_owned());
            }
            (None, None) => None,
            _ => return Err("it gave a client certificate or a key, and not both".to_owned()),
        };
        let expires = match given("expirationTimestamp") {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| "its expirationTimestamp is no RFC 3339 time".to_owned())?)
            }
        };
        Ok(Credential { token: token.map(Secret::new), identity, expires })
    }
}

/// The cluster as `provideClusterInfo` tells it.
fn described(cluster: &Cluster, ca: Option<&[u8]>) -> Value {
    let mut told = json!({"server": cluster.server, "config": null});
    for (key, value) in [("tls-server-name", &cluster.tls_server_name), ("proxy-url", &cluster.proxy_url)] {
        if !value.is_empty() {
            told[key] = json!(value);
        }
    }
    if let Some(ca) = ca {
        told["certificate-authority-data"] = json!(STANDARD.encode(ca));
    }
    if let Some(extension) = cluster.extensions.iter().find(|one| one.name == format!("{GROUP}exec")) {
        told["config"] = extension.extension.clone();
    }
    told
}
