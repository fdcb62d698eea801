//! Validates a kubeconfig context and builds the client's configuration from it.
//!
//! kube's own loading is not used: it panics on some inputs and reads others differently from kubectl.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::kubeconfig::{self, Exec, Selection};
use super::plugin::Plugin;
use super::user::{auth_info, bearer, data, unusable};
use crate::base::endpoint::Endpoint;
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::files::Intake;
use crate::base::proxy::{self, Proxy};
use crate::settings::shell_word;
use crate::x509;

/// The chosen context, validated.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the context.
    pub context: String,
    /// Source of that name, for the plan.
    pub context_source: String,
    pub endpoint: Endpoint,
    /// The kubeconfig's CA bundle; `None` means the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Name expected in the certificate instead of the host.
    pub tls_server_name: Option<String>,
    /// Path of the exec plugin, if one is used.
    pub exec_plugin: Option<String>,
    /// Files read.
    pub files: Vec<PathBuf>,
    /// Proxy between this machine and the server.
    pub proxy: Option<Proxy>,
    pub(super) plugin: Option<Plugin>,
    /// Without the plugin's credentials.
    pub(super) config: kube::Config,
}

impl Target {
    /// The target of a run without a cluster; an invalid `url` is replaced with a placeholder.
    pub fn absent(context: &str, url: &str) -> Result<Self> {
        let endpoint = Endpoint::parse(url, "the record")
            .or_else(|_| Endpoint::parse("https://cluster.invalid", "a stand-in"))?;
        let uri = endpoint.url.parse().unwrap_or_else(|_| http::Uri::from_static("https://cluster.invalid"));
        Ok(Self {
            context: context.to_owned(),
            context_source: "recorded".to_owned(),
            endpoint,
            ca: None,
            tls_server_name: None,
            exec_plugin: None,
            files: Vec::new(),
            proxy: None,
            plugin: None,
            config: kube::Config::new(uri),
        })
    }

    /// Whether this machine reaches the server through a proxy.
    pub fn proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// The server and its proxy, for error messages.
    pub(super) fn address(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("{} through {proxy}", self.endpoint.url),
            None => self.endpoint.url.clone(),
        }
    }
}

/// Reads the kubeconfig and validates the chosen context. Fails with exit 2 if no context is given, and with exit 3 if
/// it is unknown or invalid.
pub async fn load(
    selection: &Selection<'_>,
    env: &BTreeMap<String, String>,
    intake: &Intake,
) -> Result<Target> {
    let (config, files) = kubeconfig::read(selection.file, env, intake).await?;
    let names: Vec<&str> = config.contexts.keys().map(String::as_str).collect();
    let (context, context_source) = match &selection.context {
        Some((name, source)) => ((*name).to_owned(), source.clone()),
        None if !config.current.is_empty() => {
            (config.current.clone(), "kubeconfig, current context".to_owned())
        }
        None => {
            return Err(Failure::new(Id::MissingInput, "the kubeconfig has no current context")
                .detail("it has", names.join(", "))
                .hint("name one: --context NAME"));
        }
    };
    let Some(chosen) = config.contexts.get(&context) else {
        let message = format!("the kubeconfig has no context {context:?}");
        return Err(Failure::new(Id::UnusableKubeconfig, message)
            .detail("it has", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
            .hint("name one of these: --context NAME"));
    };

    let unusable = |why: String| unusable(&context, why);
    let undefined =
        |kind: &str, name: &str| unusable(format!("it refers to the {kind} {name:?}, which is not defined"));
    let cluster =
        config.clusters.get(&chosen.cluster).ok_or_else(|| undefined("cluster", &chosen.cluster))?;
    let endpoint = Endpoint::parse(&cluster.server, "server of this context,")?;
    if cluster.insecure_skip_tls_verify {
        let message = format!("context {context:?} disables TLS verification");
        return Err(Failure::new(Id::TlsVerificationOff, message)
            .detail("because", "insecure-skip-tls-verify is set: a third party could intercept the token, and the runner has no such setting")
            .hint(("replace insecure-skip-tls-verify by the cluster's CA, from its file FILE", Command::kubectl(format!("config set-cluster {} --certificate-authority=FILE --embed-certs", shell_word(&chosen.cluster))))));
    }
    let (inline, file) = (&cluster.certificate_authority_data, &cluster.certificate_authority);
    let ca = data(intake, &context, "certificate-authority", inline, file).await?;
    let roots = ca.as_deref().map(ders).transpose();
    let roots = roots.map_err(|fault| unusable(format!("invalid certificate-authority: {fault}")))?;
    let user = match chosen.user.as_str() {
        "" => return Err(unusable("it names no user".to_owned())),
        name => config.users.get(name).ok_or_else(|| undefined("user", name))?,
    };
    let proxy = match cluster.proxy_url.as_str() {
        "" => proxy::from_env(env, true, &endpoint.host, endpoint.port)?,
        url => Some(proxy::from_kubeconfig(url)?),
    };

    let uri = endpoint.url.parse().map_err(|_| unusable("its server is not a valid URL".to_owned()))?;
    let mut config = base(uri);
    config.root_cert = roots;
    config.tls_server_name = Some(cluster.tls_server_name.clone()).filter(|name| !name.is_empty());
    config.proxy_url = proxy.as_ref().map(library_url).transpose()?;
    config.auth_info = auth_info(&context, user, selection, intake).await?;
    let logs_in = config.auth_info.token.is_some() || config.auth_info.username.is_some();
    // kubectl prompts for a user name and a password.
    if !logs_in && user.exec.is_none() && config.auth_info.client_certificate_data.is_none() {
        return Err(unusable(format!("its user {:?} has no credentials", chosen.user))
            .hint("log in first, as for kubectl, or use another context: --context NAME"));
    }
    let plugin = match &user.exec {
        // As in kubectl, a token in the kubeconfig has precedence over the plugin.
        Some(exec) if !logs_in => {
            let path = found(exec, env)?;
            Some(Plugin::new(exec, cluster, ca.as_deref(), &path, ours(env)).map_err(unusable)?)
        }
        _ => None,
    };
    Ok(Target {
        context,
        context_source,
        endpoint,
        ca,
        tls_server_name: config.tls_server_name.clone(),
        exec_plugin: plugin.as_ref().map(Plugin::shown),
        files,
        proxy,
        plugin,
        config,
    })
}

/// The plugin's path. As in Go, empty and relative entries of PATH are ignored, so that no program is run from
/// the working directory.
fn found(exec: &Exec, env: &BTreeMap<String, String>) -> Result<PathBuf> {
    let command = &exec.command;
    let runs =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let file = if command.contains('/') {
        Some(PathBuf::from(command)).filter(|path| path.is_file())
    } else {
        std::env::split_paths(env.get("PATH").map(String::as_str).unwrap_or_default())
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(command))
            .find(runs)
    };
    file.ok_or_else(|| {
        let text = format!("exec plugin {command:?} not found");
        let mut failure = Failure::new(Id::CredentialPlugin, text);
        if !exec.install_hint.is_empty() {
            failure = failure.detail("the kubeconfig says", exec.install_hint.clone());
        }
        failure.hint("install it, or use a kubeconfig without it")
    })
}

/// Environment variables to withhold from a plugin: they may contain secrets.
fn ours(env: &BTreeMap<String, String>) -> Vec<String> {
    let ours = |name: &&String| {
        name.starts_with("OUTRIGGER_") || name.starts_with("GITLAB_") || *name == "OAUTH_TOKEN"
    };
    env.keys().filter(ours).cloned().collect()
}

fn library_url(proxy: &Proxy) -> Result<http::Uri> {
    proxy.url(proxy.scheme.name()).expose().parse().map_err(|_| {
        Failure::new(Id::InvalidProxy, format!("{proxy} is invalid for the cluster"))
            .detail("because", "its user name or password is not percent-encoded")
    })
}

/// kube's configuration for an address, with outrigger's timeouts and without the library's retries.
fn base(uri: http::Uri) -> kube::Config {
    let mut config = kube::Config::new(uri);
    config.default_retry = false;
    // Each attempt has a limit of its own, which says more: base/request.rs.
    config.connect_timeout = None;
    config.read_timeout = Some(Duration::from_secs(40));
    config.reset_reader_on_write = true;
    config
}

/// A configuration with the runner's host, CA and token only. The runner connects directly, so it has no proxy.
pub(super) fn bare(endpoint: &Endpoint, ca_pem: Option<&str>, token: &str) -> Result<kube::Config> {
    let uri = endpoint.url.parse().map_err(|_| {
        Failure::new(Id::UnusableKubeconfig, format!("{:?} is not a valid URL", endpoint.url))
    })?;
    let mut config = base(uri);
    let roots = ca_pem.map(|pem| ders(pem.as_bytes())).transpose();
    config.root_cert =
        roots.map_err(|fault| Failure::new(Id::EndpointCertificate, format!("invalid CA: {fault}")))?;
    config.auth_info = bearer(token)?;
    Ok(config)
}

/// The bundle's certificates in the library's form; it refuses some PEM texts that Go accepts.
fn ders(pem: &[u8]) -> Result<Vec<Vec<u8>>, x509::BundleFault> {
    let bundle = x509::read_bundle(pem)?;
    Ok(bundle.certificates.iter().map(|certificate| certificate.der().to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn plugin_is_never_found_in_the_working_directory() {
        let exec = |command: &str| Exec { command: command.to_owned(), ..Exec::default() };
        let path = |list: &str| BTreeMap::from([("PATH".to_owned(), list.to_owned())]);
        assert_eq!(found(&exec("sh"), &path("/nowhere:/bin")).expect("it is there"), Path::new("/bin/sh"));
        // Files in the working directory of the test, and one that is not executable.
        for (command, list) in
            [("mod.rs", "src/cluster"), ("mod.rs", ""), ("Cargo.toml", "."), ("passwd", "/etc")]
        {
            assert_eq!(found(&exec(command), &path(list)).expect_err(command).id, Id::CredentialPlugin);
        }
    }
}
