//! Finds the CA that verifies the runner's endpoint by Go's rules.
//!
//! outrigger's own connection does not prove this: it may use a proxy or another host name. `gitlab::endpoint_ca` is
//! the counterpart for GitLab.

use std::time::Duration;

use crate::base::address::{self, Reach};
use crate::base::error::{Command, Failure, Id, Result};
use crate::cluster::view::View;
use crate::cluster::{Endpoint, only_the_runner};
use crate::deployment::object::{Kind as ObjectKind, Ref};
use crate::x509::tls::{self, Served};
use crate::x509::{self, Bundle, Host, Narrowed};

/// The CA of the runner's endpoint.
#[derive(Clone, Debug)]
pub struct Trust {
    pub endpoint: Endpoint,
    /// The certificates that verify the endpoint, canonical PEM; `None` if the system's roots do.
    pub ca_pem: Option<String>,
    /// SHA-256 fingerprint of the anchor.
    pub fingerprint: String,
    /// Days until the anchor expires.
    pub days_left: i64,
    /// Source of the CA, for the plan.
    pub source: String,
    /// Number of certificates in `ca_pem`.
    pub members: usize,
    /// Number of other certificates in the bundle.
    pub left_out: usize,
    /// The reason if TLS is unproven, because the endpoint cannot be reached from here.
    pub unproven: Option<String>,
    /// For example about dropped certificates of the bundle, or an early expiry.
    pub warnings: Vec<String>,
}

struct Candidate {
    source: String,
    bundle: Bundle,
    /// Whether these are this machine's trusted roots.
    system: bool,
    /// Whether the CA is from `kube-root-ca.crt`.
    from_cluster: bool,
}

/// Finds the runner's CA, once per run. Fails with OR0306, with one detail per candidate, if none verifies the
/// endpoint.
pub async fn trust(view: &View) -> Result<&Trust> {
    view.trust.get_or_try_init(|| find(view)).await
}

async fn find(view: &View) -> Result<Trust> {
    let endpoint = match &view.run.settings.kubernetes_host {
        Some(host) => Endpoint::parse(&host.value, "--kubernetes-host")?,
        None => view.target.endpoint.clone(),
    };
    let own = view.run.settings.kubernetes_host.is_none() || endpoint == view.target.endpoint;
    if !endpoint.prefix.is_empty() {
        return Err(Failure::new(Id::EndpointCertificate, format!("{} has a path, like the address of Rancher or another proxy", endpoint.url))
            .detail("because", "such a proxy accepts only its own tokens, not the runner's")
            .hint("use the API server's own address: --kubernetes-host https://host[:port] (Rancher: the Authorized Cluster Endpoint)"));
    }
    let name = match (&view.target.tls_server_name, own) {
        (Some(name), true) if *name != endpoint.host => {
            let message =
                format!("the kubeconfig expects the name {name} in the certificate of {}", endpoint.url);
            return Err(Failure::new(Id::EndpointCertificate, message)
                .detail("because", "the runner has no such setting (tls-server-name)")
                .hint(format!(
                    "use an address that is in the certificate: --kubernetes-host https://{name}:{}",
                    endpoint.port
                )));
        }
        _ => endpoint.host.clone(),
    };
    let (served, candidates) = tokio::join!(
        tls::served_chains(
            &endpoint.host,
            endpoint.port,
            None,
            Duration::from_secs(10).min(view.limits.request_timeout)
        ),
        candidates(view, own),
    );
    let host = Host::parse(&name);
    let mut refusals = Vec::new();
    let served = match served {
        Ok(served) => served,
        // Another address may be reachable from the VM only, unless it responds without TLS; the kubeconfig's
        // own may be reachable through its proxy only.
        Err(fault) if if own { view.target.proxied() } else { fault != tls::DialFault::NotTls } => {
            return unreachable(view, &endpoint, candidates, &fault.to_string());
        }
        Err(fault) => {
            let message = format!("cannot connect to {} with TLS", endpoint.url);
            return Err(Failure::new(Id::ClusterUnreachable, message)
                .detail("because", fault.to_string())
                .hint((
                    "check the server's address and the network; to compare",
                    Command::kubectl("version"),
                )));
        }
    };
    let mut not_here = None;
    for candidate in &candidates {
        let narrowed = narrow(&candidate.bundle, &served, &host, view.run.now);
        let Some(verdict) = narrowed.verdict() else { continue };
        if !verdict.accepted {
            refusals.push((candidate.source.clone(), verdict.why.join("; ")));
            continue;
        }
        if let Some(why) = &verdict.not_here {
            not_here.get_or_insert_with(|| why.clone());
            continue;
        }
        let anchor = verdict.anchor.as_ref();
        let mut warnings = verdict.warnings.clone();
        warnings.extend(elsewhere(&narrowed, &served));
        if candidate.system {
            let ca = anchor.map(x509::Certificate::label).unwrap_or_default();
            warnings.push(format!("the VM's own root certificates have to include {ca}"));
        } else {
            let dropped = candidate.bundle.dropped.iter();
            warnings.extend(dropped.map(|why| format!("left out of the bundle: {why}")));
        }
        warnings.extend(warnings_about(&endpoint, &served));
        return Ok(Trust {
            ca_pem: (!candidate.system).then(|| narrowed.bundle.to_pem()),
            fingerprint: anchor.map(x509::Certificate::fingerprint_sha256).unwrap_or_default(),
            days_left: anchor.map_or(0, |anchor| anchor.days_left(view.run.now)),
            source: candidate.source.clone(),
            members: narrowed.bundle.certificates.len(),
            left_out: narrowed.left_out,
            unproven: None,
            warnings,
            endpoint,
        });
    }
    if let Some(why) = not_here {
        return Err(only_the_runner(&endpoint.url, &why));
    }
    let mut failure = Failure::new(
        Id::EndpointCertificate,
        format!("no CA verifies the certificate of {} for the runner", endpoint.url),
    );
    for (source, why) in refusals {
        failure = failure.detail(source, why);
    }
    Err(failure.hint("the runner uses Go's TLS, which is stricter than some other clients: replace the certificate or the CA, or use another address: --kubernetes-host"))
}

/// Warns of addresses that the VM may not reach. `served` contains the addresses to which the name resolves here.
fn warnings_about(endpoint: &Endpoint, served: &[Served]) -> Vec<String> {
    let mut warnings = Vec::new();
    let url = &endpoint.url;
    let near = |served: &&Served| address::reach_of(served.address.ip()) != Reach::Anywhere;
    let (reach, leads) = match (endpoint.reach(), served.iter().find(near)) {
        (Reach::Anywhere, Some(served)) => {
            let peer = served.address.ip();
            (address::reach_of(peer), format!("{url} resolves here to {peer}, which is"))
        }
        (reach, _) => (reach, format!("{url} is")),
    };
    match reach {
        Reach::ThisMachine => warnings.push(format!("{leads} an address of this machine: the VM cannot reach it; to use another one: --kubernetes-host URL")),
        Reach::LinkLocal => warnings.push(format!("{leads} a link-local address: the VM has to be on that network segment; to use another one: --kubernetes-host URL")),
        Reach::Private => warnings.push(format!("{leads} a private address: the VM has to be in that network")),
        Reach::Anywhere => {}
    }
    if endpoint.host.ends_with(".gke.goog") {
        warnings.push("GKE's DNS endpoint accepts ServiceAccount tokens only if the cluster allows it (enableK8sTokensViaDns)".to_owned());
    }
    warnings
}

/// [`x509::narrow`] over the chains of all addresses.
fn narrow(bundle: &Bundle, served: &[Served], host: &Host, now: jiff::Timestamp) -> Narrowed {
    let chains: Vec<&[Vec<u8>]> = served.iter().map(|served| served.chain.as_slice()).collect();
    x509::narrow(bundle, &chains, host, now)
}

/// A warning for each address whose certificate is not accepted.
fn elsewhere(narrowed: &Narrowed, served: &[Served]) -> Vec<String> {
    let refused = served.iter().zip(&narrowed.verdicts).filter(|(_, verdict)| !verdict.accepted);
    refused
        .map(|(served, verdict)| {
            format!(
                "{} serves another certificate, which the runner will refuse: {}",
                served.address,
                verdict.why.join("; ")
            )
        })
        .collect()
}

/// For an endpoint that cannot be reached from here: the cluster's own CA, unproven.
fn unreachable(view: &View, endpoint: &Endpoint, candidates: Vec<Candidate>, why: &str) -> Result<Trust> {
    // Through the proxy, the kubeconfig's CA verified this server.
    let own = *endpoint == view.target.endpoint;
    let Some(candidate) = candidates.into_iter().find(|candidate| own || candidate.from_cluster) else {
        return Err(Failure::new(Id::EndpointCertificate, format!("{} cannot be reached from here, and the cluster's own CA may not be read", endpoint.url))
            .detail("because", why)
            .hint("run this on a machine that can reach that address, or get the right to read the ConfigMap kube-root-ca.crt"));
    };
    let anchor = candidate.bundle.certificates.first();
    Ok(Trust {
        ca_pem: Some(candidate.bundle.to_pem()),
        fingerprint: anchor.map(x509::Certificate::fingerprint_sha256).unwrap_or_default(),
        days_left: anchor.map_or(0, |anchor| anchor.days_left(view.run.now)),
        source: candidate.source.clone(),
        members: candidate.bundle.certificates.len(),
        left_out: 0,
        unproven: Some(format!(
            "{} cannot be reached from here ({why}): TLS is unproven, the VM will verify it",
            endpoint.url
        )),
        warnings: warnings_about(endpoint, &[]),
        endpoint: endpoint.clone(),
    })
}

/// Possible CAs, in order of preference.
async fn candidates(view: &View, own: bool) -> Vec<Candidate> {
    let candidate = |source: &str, bundle, system, from_cluster| Candidate {
        source: source.to_owned(),
        bundle,
        system,
        from_cluster,
    };
    let kubeconfig = view.target.ca.as_deref().and_then(|ca| x509::read_bundle(ca).ok());
    let kubeconfig = kubeconfig.map(|bundle| candidate("your kubeconfig", bundle, false, false));
    if own && kubeconfig.is_some() {
        return kubeconfig.into_iter().collect();
    }
    let reference = Ref::new(ObjectKind::ConfigMap, "default", "kube-root-ca.crt");
    let map = view.read(&reference).await.ok().flatten();
    let published =
        map.and_then(|map| x509::read_bundle(map.value["data"]["ca.crt"].as_str()?.as_bytes()).ok());
    let published = published.map(|bundle| candidate("kube-root-ca.crt in the cluster", bundle, false, true));
    let system = tls::system_roots().map(|bundle| candidate("the system's roots", bundle, true, false));
    [published, kubeconfig, system].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_the_vm_may_not_reach_cause_warnings() {
        let about = |url: &str| {
            warnings_about(&Endpoint::parse(url, "the server").expect("a good address"), &[]).join("\n")
        };
        assert_eq!(about("https://34.77.12.8"), "");
        assert_eq!(about("https://api.example.com:6443"), "");
        for local in [
            "127.0.0.1:6443",
            "[::1]:6443",
            "localhost",
            "127.0.0.2",
            "0.0.0.0",
            "k3d.localhost:6443",
            "[::ffff:127.0.0.1]",
            "kubernetes.docker.internal:6443",
        ] {
            assert!(about(&format!("https://{local}")).contains("an address of this machine"), "{local}");
        }
        for near in ["169.254.7.7", "[fe80::1]"] {
            assert!(about(&format!("https://{near}")).contains("a link-local address"), "{near}");
        }
        let named = Endpoint::parse("https://api.example.com:6443", "the server").expect("a good address");
        let led = |peer: &str| {
            let address = std::net::SocketAddr::new(peer.parse().expect("an address"), 6443);
            warnings_about(&named, &[Served { address, chain: Vec::new() }]).join("\n")
        };
        assert!(led("127.0.0.1").contains("resolves here to 127.0.0.1, which is an address of this machine"));
        assert!(led("::1").contains("an address of this machine"));
        assert!(led("10.0.0.9").contains("a private address"));
        assert_eq!(led("34.77.12.8"), "");
        for private in ["10.1.2.3", "192.168.1.1", "172.16.0.1", "[fd00::1]"] {
            assert!(about(&format!("https://{private}")).contains("a private address"), "{private}");
        }
        assert!(about("https://gke-1.europe-west1.gke.goog").contains("enableK8sTokensViaDns"));
        assert_eq!(about("https://gke.goog.example.com"), "");
    }
}
