//! Exec plugins of a kubeconfig (client.authentication.k8s.io), run once per login.
//!
//! kube's implementation runs a plugin three times per client, has no timeout, and panics on a token that is
//! invalid in an HTTP header.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::kubeconfig::{Cluster, Exec};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::yaml::{self, DuplicateKeys};
use crate::x509::tls;

/// Largest output read, in bytes.
const LONGEST: u64 = 1024 * 1024;
const GROUP: &str = "client.authentication.k8s.io/";
/// The reason if [`fits_header`] is false.
pub(super) const BAD_TOKEN: &str =
    "its token contains a character that is invalid in an HTTP header (a line break or blank?)";

#[derive(Clone)]
pub(super) struct Plugin {
    path: PathBuf,
    exec: Exec,
    /// Environment variables to remove.
    dropped: Vec<String>,
    /// `KUBERNETES_EXEC_INFO`, as JSON.
    info: String,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({})", self.path.display())
    }
}

pub(super) struct Credential {
    pub token: Option<Secret>,
    /// Client certificate and key, PEM.
    pub identity: Option<(String, Secret)>,
    pub expires: Option<jiff::Timestamp>,
}

/// Whether the token is valid in an HTTP header. Every token is checked: the HTTP library panics on an
/// invalid one.
pub(super) fn fits_header(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Plugin {
    /// Fails with the reason for which kubectl also refuses the plugin.
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
                "unsupported exec plugin apiVersion {:?} (supported: {}, {})",
                exec.api_version, known[0], known[1]
            ));
        }
        match exec.interactive_mode.as_str() {
            "Never" | "IfAvailable" | "Always" => {}
            "" if exec.api_version == known[1] => {}
            "" => return Err("the exec plugin has no interactiveMode, which v1 requires".to_owned()),
            other => {
                let known = "Never, IfAvailable, Always";
                return Err(format!("invalid exec plugin interactiveMode {other:?} (supported: {known})"));
            }
        }
        if exec.env.iter().any(|variable| variable.name.is_empty()) {
            return Err("the exec plugin has an environment variable without a name".to_owned());
        }
        // Without a terminal: the plugin's output could contain a token, and outrigger itself reads the input.
        let mut spec = json!({"interactive": false});
        if exec.provide_cluster_info {
            spec["cluster"] = described(cluster, ca);
        }
        let info = json!({"apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec});
        Ok(Self { path: path.to_owned(), exec: exec.clone(), dropped, info: info.to_string() })
    }

    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Runs the plugin. Dropping the future kills it. Fails with OR0404, without the plugin's output.
    pub async fn run(&self) -> Result<Credential> {
        let failed = |why: String| {
            Failure::new(Id::CredentialPlugin, "the kubeconfig's exec plugin failed")
                .detail("the plugin", self.shown())
                .detail("because", why)
                .hint((
                    "its output is not shown, as it may contain a token; to see it",
                    Command::kubectl("version"),
                ))
        };
        let mut command = tokio::process::Command::new(&self.path);
        command
            .args(&self.exec.args)
            .envs(self.exec.env.iter().map(|one| (&one.name, &one.value)))
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        for name in &self.dropped {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| failed(format!("cannot start it: {error}")))?;
        let mut bytes = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(LONGEST + 1).read_to_end(&mut bytes).await;
            read.map_err(|error| failed(format!("cannot read its output: {error}")))?;
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
            return Err(failed("it printed more than 1 MiB".to_owned()));
        }
        let status = child.wait().await.map_err(|error| failed(format!("cannot wait for it: {error}")))?;
        if !status.success() {
            return Err(failed(status.to_string()));
        }
        self.read(&bytes).map_err(failed)
    }

    /// Reads an `ExecCredential`, with the checks of client-go.
    fn read(&self, bytes: &[u8]) -> Result<Credential, String> {
        let text = std::str::from_utf8(bytes).ok();
        let answer: Option<Value> =
            text.and_then(|text| yaml::read(text, DuplicateKeys::Refused).ok()?.into_iter().next());
        let Some(answer) = answer.filter(|answer| answer["kind"] == "ExecCredential") else {
            return Err("it did not print an ExecCredential".to_owned());
        };
        let version = answer["apiVersion"].as_str().unwrap_or_default();
        if version != self.exec.api_version {
            // The field could contain anything: only a version of this group is shown.
            let version = if version.starts_with(GROUP) { version } else { "another one" };
            return Err(format!("it returned apiVersion {version}, expected {}", self.exec.api_version));
        }
        let given = |key: &str| answer["status"][key].as_str().filter(|text| !text.is_empty());
        let token = given("token");
        if token.is_some_and(|token| !fits_header(token)) {
            return Err(BAD_TOKEN.to_owned());
        }
        let identity = match (given("clientCertificateData"), given("clientKeyData")) {
            (Some(certificate), Some(key)) => {
                tls::check_identity(certificate.as_bytes(), key.as_bytes())?;
                Some((certificate.to_owned(), Secret::new(key)))
            }
            (None, None) if token.is_none() => {
                return Err("it returned neither a token nor a client certificate".to_owned());
            }
            (None, None) => None,
            _ => return Err("it returned a client certificate or a key, not both".to_owned()),
        };
        let expires = given("expirationTimestamp").map(str::parse).transpose();
        let expires = expires.map_err(|_| "its expirationTimestamp is not an RFC 3339 time".to_owned())?;
        Ok(Credential { token: token.map(Secret::new), identity, expires })
    }
}

/// The cluster in the form of `provideClusterInfo`.
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
