//! From a kubeconfig's context to a target that is safe to hand to the client.
//!
//! The client library panics on some inputs and reads others differently from kubectl, so everything is
//! judged here, and its configuration is made here: none of its own loading is used.

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
use crate::x509;

/// What the kubeconfig says about the chosen context, checked.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the context.
    pub context: String,
    /// Where that name came from, for the plan.
    pub context_source: String,
    /// The API server as the operator dials it.
    pub endpoint: Endpoint,
    /// The CA bundle of the kubeconfig, as found; `None` means the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Name to expect in the certificate instead of the host.
    pub tls_server_name: Option<String>,
    /// Resolved path of the exec plugin, if one is used.
    pub exec_plugin: Option<String>,
    /// Files that were read.
    pub files: Vec<PathBuf>,
    /// The proxy on the operator's own way to the server.
    pub proxy: Option<Proxy>,
    pub(super) plugin: Option<Plugin>,
    /// Without the plugin's credentials.
    pub(super) config: kube::Config,
}

impl Target {
    /// The target of a run without a cluster. `context` and `url` are what is known of it, for people.
    ///
    /// # Errors
    /// None in practice: a fixed address stands in for one that cannot be read.
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

    /// Whether the operator's own way to the server leads through a proxy.
    #[must_use]
    pub fn proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// The server and the way to it, for error messages.
    pub(super) fn address(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("{} through {proxy}", self.endpoint.url),
            None => self.endpoint.url.clone(),
        }
    }
}

/// Reads the kubeconfig and judges the chosen context.
///
/// # Errors
/// Exit 2 for a context that is missing or unknown, exit 3 for anything that makes it unusable.
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
                .hint("name one with --context NAME"));
        }
    };
    let Some(chosen) = config.contexts.get(&context) else {
        return Err(Failure::new(
            Id::UnusableKubeconfig,
            format!("the kubeconfig has no context {context:?}"),
        )
        .detail("it has", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
        .hint("name one of these with --context NAME"));
    };

    let unusable = |why: String| unusable(&context, why);
    let cluster = config.clusters.get(&chosen.cluster).ok_or_else(|| {
        unusable(format!("it names the cluster {:?}, which the kubeconfig does not describe", chosen.cluster))
    })?;
    let endpoint = Endpoint::parse(&cluster.server, "the server of this context,")?;
    if cluster.insecure_skip_tls_verify {
        return Err(Failure::new(
            Id::TlsVerificationOff, format!("the context {context:?} switches off the check of the server's certificate"),
        )
        .detail("because", "insecure-skip-tls-verify is set: anybody on the way could read the token, and the runner has no such setting")
        .hint(("remove insecure-skip-tls-verify, and put the cluster's CA into the kubeconfig", Command::Whole("kubectl config set-cluster NAME --certificate-authority=FILE --embed-certs".to_owned()))));
    }
    let ca = data(
        intake,
        "certificate-authority",
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    )
    .await
    .map_err(|why| why.into_failure(&context))?;
    let roots = match &ca {
        None => None,
        // In the form that the library reads, so that text Go accepts does not stop it.
        Some(bytes) => {
            let bundle = x509::read_bundle(bytes).map_err(|fault| unusable(format!("its CA {fault}")))?;
            Some(bundle.certificates.iter().map(|certificate| certificate.der().to_vec()).collect())
        }
    };
    let user = match chosen.user.as_str() {
        "" => return Err(unusable("it names no user".to_owned())),
        name => config.users.get(name).ok_or_else(|| {
            unusable(format!("it names the user {name:?}, which the kubeconfig does not describe"))
        })?,
    };
    let proxy = match cluster.proxy_url.as_str() {
        "" => proxy::from_env(env, true, &endpoint.host, endpoint.port)?,
        url => Some(proxy::from_kubeconfig(url)?),
    };

    let uri = endpoint.url.parse().map_err(|_| unusable("its server is no valid URL".to_owned()))?;
    let mut config = base(uri);
    config.root_cert = roots;
    config.tls_server_name = Some(cluster.tls_server_name.clone()).filter(|name| !name.is_empty());
    config.proxy_url = proxy.as_ref().map(library_url).transpose()?;
    config.auth_info =
        auth_info(user, selection.as_user, intake).await.map_err(|why| why.into_failure(&context))?;
    let logs_in = config.auth_info.token.is_some() || config.auth_info.username.is_some();
    // kubectl would ask for a name and a password.
    if !logs_in && user.exec.is_none() && config.auth_info.client_certificate_data.is_none() {
        return Err(unusable(format!("its user {:?} has no credentials", chosen.user))
            .hint("log in first, as for kubectl, or name another context with --context NAME"));
    }
    let plugin = match &user.exec {
        // A token that stands there counts, as for kubectl: nothing is left for the plugin to do.
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

/// Where the plugin is. As with Go, a program is not taken from where the operator happens to be: an entry of
/// PATH that is empty or relative leads nowhere.
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
        let text = format!("the kubeconfig's exec plugin {command:?} is not there");
        let mut failure = Failure::new(Id::CredentialPlugin, text);
        if !exec.install_hint.is_empty() {
            failure = failure.detail("the kubeconfig says", exec.install_hint.clone());
        }
        failure.hint("install it, or use a kubeconfig that does not need it")
    })
}

/// Variables that a plugin does not get: it is somebody else's program, and our secrets are none of its
/// business.
fn ours(env: &BTreeMap<String, String>) -> Vec<String> {
    let ours = |name: &&String| {
        name.starts_with("OUTRIGGER_") || name.starts_with("GITLAB_") || *name == "OAUTH_TOKEN"
    };
    env.keys().filter(ours).cloned().collect()
}

/// The proxy as it stands in the client's configuration.
fn library_url(proxy: &Proxy) -> Result<http::Uri> {
    proxy.url(proxy.scheme.name()).expose().parse().map_err(|_| {
        Failure::new(Id::InvalidProxy, format!("{proxy} cannot be used for the cluster"))
            .detail("because", "its user name or password is not percent-encoded")
    })
}

/// The library's configuration for an address, with our limits and nothing else.
fn base(uri: http::Uri) -> kube::Config {
    let mut config = kube::Config::new(uri);
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(40));
    config.reset_reader_on_write = true;
    config
}

/// A configuration that holds nothing but what the runner will have: host, CA and token. The runner dials the
/// server itself, so no proxy of the operator's is in it.
pub(super) fn bare(endpoint: &Endpoint, ca_pem: Option<&str>, token: &str) -> Result<kube::Config> {
    let uri = endpoint
        .url
        .parse()
        .map_err(|_| Failure::new(Id::UnusableKubeconfig, format!("{:?} is no valid URL", endpoint.url)))?;
    let mut config = base(uri);
    config.root_cert = match ca_pem {
        None => None,
        Some(pem) => Some(
            x509::read_bundle(pem.as_bytes())
                .map_err(|fault| Failure::new(Id::EndpointCertificate, format!("the CA {fault}")))?
                .certificates
                .iter()
                .map(|certificate| certificate.der().to_vec())
                .collect(),
        ),
    };
    config.auth_info = bearer(token)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_plugin_is_not_taken_from_where_the_operator_happens_to_be() {
        let exec = |command: &str| Exec { command: command.to_owned(), ..Exec::default() };
        let path = |list: &str| BTreeMap::from([("PATH".to_owned(), list.to_owned())]);
        assert_eq!(found(&exec("sh"), &path("/nowhere:/bin")).expect("it is there"), Path::new("/bin/sh"));
        // A file of the package's own directory, in which tests run; and one that nobody can run.
        for (command, list) in
            [("mod.rs", "src/cluster"), ("mod.rs", ""), ("Cargo.toml", "."), ("passwd", "/etc")]
        {
            assert_eq!(found(&exec(command), &path(list)).expect_err(command).id, Id::CredentialPlugin);
        }
    }
}
