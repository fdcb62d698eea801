//! From kubeconfig files to a target that is safe to hand to the client.
//!
//! The client library panics on some inputs (a token with a newline, a server without a scheme) and
//! reads others differently from kubectl (a missing member of `KUBECONFIG`, folded CA data), so
//! everything is judged here first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use secrecy::ExposeSecret as _;

use crate::certificates;
use crate::error::{Failure, Kind, Result};

/// An API server address taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL as the runner will get it, without a trailing slash.
    pub url: String,
    /// Host without brackets.
    pub host: String,
    /// Port, 443 unless given.
    pub port: u16,
    /// Path prefix without the trailing slash, empty for a plain API server.
    pub prefix: String,
}

impl Endpoint {
    /// Takes an `https://host[:port][/prefix]` apart; `what` names the value in an error.
    ///
    /// # Errors
    /// Exit 3 for anything else, with the reason.
    pub fn parse(url: &str, what: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Failure::new("OR0301", Kind::Refused, format!("{what} {url:?} cannot be used"))
                .detail("because", why)
                .hint("it has to look like https://host or https://host:port")
        };
        let rest = url.strip_prefix("https://").ok_or_else(|| {
            refuse(if url.starts_with("http://") {
                "a token sent over plain http can be read by anybody on the way"
            } else {
                "it does not begin with https://"
            })
        })?;
        let uri: http::Uri = url.parse().map_err(|_| refuse("it is no valid URL"))?;
        if rest.contains('@') {
            return Err(refuse("it carries a user name"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(refuse("it carries a query or a fragment"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(refuse("it has no host"));
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            host,
            port: uri.port_u16().unwrap_or(443),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Whether the host is a loopback address or `localhost`: a VM elsewhere cannot dial it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether the host is an address of a private network.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(address)) => address.is_private() || address.is_link_local(),
            Ok(std::net::IpAddr::V6(address)) => address.is_unique_local(),
            Err(_) => false,
        }
    }
}

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
            config: kube::Config::new(uri),
        })
    }

    /// Whether the operator's own way to the server leads through a proxy.
    #[must_use]
    pub fn proxied(&self) -> bool {
        self.config.proxy_url.is_some()
    }
}

/// What selects a context.
#[derive(Debug, Default)]
pub struct Selection<'a> {
    /// `--kubeconfig` (or its recorded value).
    pub file: Option<&'a Path>,
    /// `--context` (or its recorded value), with its source as shown in the plan.
    pub context: Option<(&'a str, String)>,
    /// `--as`.
    pub as_user: Option<&'a str>,
}

/// The context names of the kubeconfig and its current one, for a question or an error.
pub fn contexts(
    selection: &Selection<'_>,
    env: &BTreeMap<String, String>,
) -> Result<(Vec<String>, Option<String>)> {
    let (config, _) = read(selection.file, env)?;
    let names = config.contexts.iter().map(|named| named.name.clone()).collect();
    Ok((names, config.current_context.filter(|name| !name.is_empty())))
}

fn read(file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<(Kubeconfig, Vec<PathBuf>)> {
    let explicit = file.is_some();
    let candidates: Vec<PathBuf> = match (file, env.get("KUBECONFIG").filter(|list| !list.is_empty())) {
        (Some(file), _) => vec![file.to_owned()],
        (None, Some(list)) => {
            std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        (None, None) => {
            env.get("HOME").map(|home| Path::new(home).join(".kube/config")).into_iter().collect()
        }
    };
    let mut merged: Option<Kubeconfig> = None;
    let mut read = Vec::new();
    for path in &candidates {
        // As kubectl does: a list may name files that do not exist, one named by flag may not.
        if !explicit && !path.exists() {
            continue;
        }
        let next = Kubeconfig::read_from(path).map_err(|error| {
            Failure::new("OR0301", Kind::Refused, format!("the kubeconfig {} cannot be read", path.display()))
                .detail("because", root_cause(&error))
                .hint("name another one with --kubeconfig FILE, or in KUBECONFIG")
        })?;
        read.push(path.clone());
        merged = Some(match merged {
            None => next,
            Some(first) => first.merge(next).map_err(|error| {
                Failure::new(
                    "OR0301",
                    Kind::Refused,
                    format!("the kubeconfig {} does not go with those before it", path.display()),
                )
                .detail("because", root_cause(&error))
            })?,
        });
    }
    if let Some(config) = merged {
        Ok((config, read))
    } else {
        let mut failure = Failure::new("OR0301", Kind::Refused, "there is no kubeconfig");
        for path in &candidates {
            failure = failure.detail("looked for", path.display().to_string());
        }
        Err(failure.hint("name one with --kubeconfig FILE, or in KUBECONFIG; `kubectl config view` shows what kubectl uses"))
    }
}

/// Reads the kubeconfig and judges the chosen context.
///
/// # Errors
/// Exit 2 for a context that is missing or unknown, exit 3 for anything that makes it unusable.
pub fn load(selection: &Selection<'_>, env: &BTreeMap<String, String>) -> Result<Target> {
    let (mut config, files) = read(selection.file, env)?;
    let names: Vec<String> = config.contexts.iter().map(|named| named.name.clone()).collect();
    let (context, context_source) = match &selection.context {
        Some((name, source)) => ((*name).to_owned(), source.clone()),
        None => match config.current_context.clone().filter(|name| !name.is_empty()) {
            Some(name) => (name, "kubeconfig, current context".to_owned()),
            None => {
                return Err(Failure::new("OR0201", Kind::Usage, "the kubeconfig has no current context")
                    .detail("it has", names.join(", "))
                    .hint("name one with --context NAME"));
            }
        },
    };
    let Some(chosen) =
        config.contexts.iter().find(|named| named.name == context).and_then(|named| named.context.clone())
    else {
        return Err(Failure::new(
            "OR0301",
            Kind::Refused,
            format!("the kubeconfig has no context {context:?}"),
        )
        .detail("it has", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
        .hint("name one of these with --context NAME"));
    };

    let unusable = |why: String| {
        Failure::new("OR0301", Kind::Refused, format!("the context {context:?} cannot be used"))
            .detail("because", why)
    };
    let cluster = config
        .clusters
        .iter_mut()
        .find(|named| named.name == chosen.cluster)
        .and_then(|named| named.cluster.as_mut())
        .ok_or_else(|| {
            unusable(format!(
                "it names the cluster {:?}, which the kubeconfig does not describe",
                chosen.cluster
            ))
        })?;
    let server = cluster.server.clone().unwrap_or_default();
    let endpoint = Endpoint::parse(&server, "the server of this context,")?;
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err(Failure::new(
            "OR0304",
            Kind::Refused,
            format!("the context {context:?} switches off the check of the server's certificate"),
        )
        .detail("because", "insecure-skip-tls-verify is set: anybody on the way could read the token, and the runner has no such setting")
        .hint("put the cluster's CA into the kubeconfig: kubectl config set-cluster NAME --certificate-authority=FILE --embed-certs, and remove insecure-skip-tls-verify"));
    }
    let ca = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) if !data.trim().is_empty() => Some(
            certificates::decode_ca_data(data)
                .map_err(|fault| unusable(format!("its certificate-authority-data {fault}")))?,
        ),
        (_, Some(file)) if !file.is_empty() => Some(
            crate::files::read(Path::new(file))?
                .ok_or_else(|| unusable(format!("its certificate-authority {file} does not exist")))?,
        ),
        _ => None,
    };
    if let Some(bytes) = &ca {
        let bundle = certificates::read_bundle(bytes).map_err(|fault| unusable(format!("its CA {fault}")))?;
        // What the library reads is the canonical form, so that text Go accepts does not stop it.
        cluster.certificate_authority_data = Some(STANDARD.encode(bundle.to_pem()));
        cluster.certificate_authority = None;
    }
    let tls_server_name = cluster.tls_server_name.clone();

    let mut exec_plugin = None;
    if let Some(auth) = chosen
        .user
        .as_ref()
        .and_then(|user| config.auth_infos.iter_mut().find(|named| named.name == *user))
        .and_then(|named| named.auth_info.as_mut())
    {
        let token = match (&auth.token_file, &auth.token) {
            // client-go lets the file win; the library would take the inline token.
            (Some(file), _) if !file.is_empty() => {
                let bytes = crate::files::read(Path::new(file))?
                    .ok_or_else(|| unusable(format!("its token file {file} does not exist")))?;
                Some(String::from_utf8_lossy(&bytes).trim().to_owned())
            }
            (_, Some(token)) => Some(token.expose_secret().to_owned()),
            _ => None,
        };
        if let Some(token) = token {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(unusable(
                    "its token holds a character that no header can carry (a line break or blank?)"
                        .to_owned(),
                ));
            }
            auth.token_file = None;
            auth.token = Some(token.into());
        }
        auth.impersonate = selection.as_user.map(str::to_owned).or(auth.impersonate.take());
        if let Some(exec) = &mut auth.exec {
            let command = exec.command.clone().unwrap_or_default();
            let resolved = which(&command, env).ok_or_else(|| {
                let mut failure = Failure::new(
                    "OR0404",
                    Kind::Denied,
                    format!("the kubeconfig's exec plugin {command:?} is not there"),
                );
                if let Some(hint) = &exec.install_hint {
                    failure = failure.detail("the kubeconfig says", hint.clone());
                }
                failure.hint("install it, or use a kubeconfig that does not need it")
            })?;
            exec_plugin = Some(resolved.display().to_string());
            // It gets no terminal: what it prints could hold a token, and what is typed is meant for us.
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
            // A plugin is somebody else's program: our secrets are none of its business.
            exec.drop_env = Some(
                env.keys()
                    .filter(|name| {
                        name.starts_with("OUTRIGGER_")
                            || name.starts_with("GITLAB_")
                            || *name == "OAUTH_TOKEN"
                    })
                    .cloned()
                    .collect(),
            );
        }
    }

    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let proxied = cluster_proxy(&config, &chosen.cluster);
    let loaded =
        futures_util::FutureExt::now_or_never(kube::Config::from_custom_kubeconfig(config, &options))
            .ok_or_else(|| unusable("it could not be read at once".to_owned()))?;
    let mut config = loaded.map_err(|error| unusable(root_cause(&error)))?;
    if !proxied && bypasses_proxy(&endpoint.host, env) {
        config.proxy_url = None;
    }
    config.default_retry = false;
    config.connect_timeout = Some(std::time::Duration::from_secs(10));
    config.read_timeout = Some(std::time::Duration::from_secs(40));
    config.reset_reader_on_write = true;
    Ok(Target { context, context_source, endpoint, ca, tls_server_name, exec_plugin, files, config })
}

fn cluster_proxy(config: &Kubeconfig, name: &str) -> bool {
    config
        .clusters
        .iter()
        .find(|named| named.name == name)
        .and_then(|named| named.cluster.as_ref())
        .is_some_and(|cluster| cluster.proxy_url.is_some())
}

/// Whether `NO_PROXY` names the host. The library matches it against the proxy's own address, so the
/// question is answered here: suffixes, `*`, and plain addresses, as curl reads them.
fn bypasses_proxy(host: &str, env: &BTreeMap<String, String>) -> bool {
    let list = env.get("NO_PROXY").or_else(|| env.get("no_proxy")).map(String::as_str).unwrap_or_default();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches('.');
        entry == "*" || host == entry || host.ends_with(&format!(".{entry}"))
    }) || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn which(command: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(|path| path.is_file());
    }
    std::env::split_paths(env.get("PATH").map(String::as_str).unwrap_or_default())
        .map(|dir| dir.join(command))
        .find(|path| path.is_file())
}

/// The innermost message of an error chain: the library's outer ones repeat it.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// A configuration that holds nothing but what the runner will have: host, CA and token.
pub(super) fn bare(endpoint: &Endpoint, ca_pem: Option<&str>, token: &str) -> Result<kube::Config> {
    let uri = endpoint
        .url
        .parse()
        .map_err(|_| Failure::new("OR0301", Kind::Refused, format!("{:?} is no valid URL", endpoint.url)))?;
    let mut config = kube::Config::new(uri);
    config.root_cert = match ca_pem {
        None => None,
        Some(pem) => Some(
            certificates::read_bundle(pem.as_bytes())
                .map_err(|fault| Failure::new("OR0306", Kind::Refused, format!("the CA {fault}")))?
                .certificates
                .iter()
                .map(|certificate| certificate.der().to_vec())
                .collect(),
        ),
    };
    config.auth_info.token = Some(token.to_owned().into());
    config.default_retry = false;
    config.connect_timeout = Some(std::time::Duration::from_secs(10));
    config.read_timeout = Some(std::time::Duration::from_secs(40));
    config.reset_reader_on_write = true;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_apart_or_refused_with_a_reason() {
        let plain = Endpoint::parse("https://34.77.12.8/", "the server").expect("fine");
        assert_eq!((plain.host.as_str(), plain.port, plain.prefix.as_str()), ("34.77.12.8", 443, ""));
        let six = Endpoint::parse("https://[::1]:6443", "the server").expect("fine");
        assert!(six.is_loopback());
        assert_eq!(six.port, 6443);
        let rancher = Endpoint::parse("https://r.example.com/k8s/clusters/c-1", "the server").expect("fine");
        assert_eq!(rancher.prefix, "/k8s/clusters/c-1");
        for bad in ["http://x", "x:6443", "https://", "https://a@b", "https://a?b=c", ""] {
            assert_eq!(Endpoint::parse(bad, "the server").expect_err(bad).id, "OR0301");
        }
    }

    #[test]
    fn no_proxy_is_matched_against_the_cluster() {
        let env = |value: &str| BTreeMap::from([("NO_PROXY".to_owned(), value.to_owned())]);
        assert!(bypasses_proxy("api.example.com", &env("example.com,")));
        assert!(bypasses_proxy("api.example.com", &env(".example.com")));
        assert!(!bypasses_proxy("api.example.org", &env("example.com")));
        assert!(!bypasses_proxy("notexample.com", &env("example.com")));
        assert!(bypasses_proxy("127.0.0.1", &env("")));
    }
}
