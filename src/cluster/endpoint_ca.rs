//! Which CA verifies the very endpoint that the runner will dial, judged by Go's rules.
//!
//! That outrigger itself can connect proves nothing: the operator's path (a proxy, another host name) is
//! not the runner's. `gitlab::endpoint_ca` answers the same for GitLab.

use std::time::Duration;

use crate::base::address::{self, Reach};
use crate::base::error::{Command, Failure, Id, Result};
use crate::cluster::view::View;
use crate::cluster::{Endpoint, only_the_runner};
use crate::deployment::object::{Kind as ObjectKind, Ref};
use crate::x509::tls::{self, Served};
use crate::x509::{self, Bundle, Host, Narrowed};

/// What verifies the endpoint.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The endpoint that the runner will dial.
    pub endpoint: Endpoint,
    /// What of the CA bundle verifies the endpoint now, canonical; `None` where the system's roots are the
    /// answer.
    pub ca_pem: Option<String>,
    /// SHA-256 fingerprint of the anchor.
    pub fingerprint: String,
    /// Days until the anchor expires.
    pub days_left: i64,
    /// Where the CA was found, for the plan.
    pub source: String,
    /// How many certificates `ca_pem` has.
    pub members: usize,
    /// How many more the bundle has, which do not verify the endpoint.
    pub left_out: usize,
    /// Set when the endpoint cannot be reached from here: TLS is unproven, the VM will check it.
    pub unproven: Option<String>,
    /// Worth saying: bundle members dropped, an early expiry.
    pub warnings: Vec<String>,
}

struct Candidate {
    source: String,
    bundle: Bundle,
    /// The certificates this machine trusts for the public web.
    system: bool,
    /// What the cluster publishes for its own pods.
    from_cluster: bool,
}

/// Finds the CAs that the runner needs, once per run.
///
/// # Errors
/// OR0306 with one detail per candidate when none verifies the endpoint.
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
        return Err(Failure::new(Id::EndpointCertificate, format!("{} has a path, as Rancher's and other proxies' addresses do", endpoint.url))
            .detail("because", "such a proxy accepts its own tokens only: the runner's would be refused")
            .hint("name the API server itself with --kubernetes-host https://host[:port] (Rancher: the Authorized Cluster Endpoint)"));
    }
    let name = match (&view.target.tls_server_name, own) {
        (Some(name), true) if *name != endpoint.host => {
            return Err(Failure::new(
                Id::EndpointCertificate,
                format!("the kubeconfig expects the name {name} in the certificate of {}", endpoint.url),
            )
            .detail("because", "the runner has no such setting (tls-server-name)")
            .hint(format!(
                "name an address that stands in the certificate: --kubernetes-host https://{name}:{}",
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
        // Who answers in another language was reached: that is a wrong address, not a distant one.
        Err(fault) if !own && fault != tls::DialFault::NotTls => {
            return unreachable(view, &endpoint, candidates, &fault.to_string());
        }
        // The operator's way leads through a proxy, which the runner will not have.
        Err(fault) if own && view.target.proxied() => {
            return unreachable(view, &endpoint, candidates, &fault.to_string());
        }
        Err(fault) => {
            return Err(Failure::new(
                Id::ClusterUnreachable,
                format!("no TLS connection to {}", endpoint.url),
            )
            .detail("because", fault.to_string())
            .hint((
                "check the server's address, and whether this machine may reach it",
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
            warnings.push(format!("the VM has to trust {ca} by itself, as the public web's CAs are"));
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
        format!("no CA verifies {} as the runner will see it", endpoint.url),
    );
    for (source, why) in refusals {
        failure = failure.detail(source, why);
    }
    Err(failure.hint("the runner's TLS is Go's, which refuses what some other clients accept: mend the certificate or the CA, or name another address with --kubernetes-host"))
}

/// What the VM may meet at an address, whoever can reach it from here. `served` is what it led to here: a name
/// tells nothing by itself.
fn warnings_about(endpoint: &Endpoint, served: &[Served]) -> Vec<String> {
    let mut warnings = Vec::new();
    let url = &endpoint.url;
    let near = |served: &&Served| address::reach_of(served.address.ip()) != Reach::Anywhere;
    let (reach, leads) = match (endpoint.reach(), served.iter().find(near)) {
        (Reach::Anywhere, Some(served)) => {
            let peer = served.address.ip();
            (address::reach_of(peer), format!("{url} leads here to {peer}, which is"))
        }
        (reach, _) => (reach, format!("{url} is")),
    };
    match reach {
        Reach::ThisMachine => warnings.push(format!("{leads} an address of this machine: a VM elsewhere cannot dial it (--kubernetes-host names another)")),
        Reach::LinkLocal => warnings.push(format!("{leads} a link-local address: the VM has to be on that network segment (--kubernetes-host names another)")),
        Reach::Private => warnings.push(format!("{leads} a private address: the VM has to be in that network")),
        Reach::Anywhere => {}
    }
    if endpoint.host.ends_with(".gke.goog") {
        warnings.push("GKE's DNS endpoint takes ServiceAccount tokens only where the cluster allows it (enableK8sTokensViaDns)".to_owned());
    }
    warnings
}

/// [`x509::narrow`] over what a server shows at all of its addresses.
fn narrow(bundle: &Bundle, served: &[Served], host: &Host, now: jiff::Timestamp) -> Narrowed {
    let chains: Vec<&[Vec<u8>]> = served.iter().map(|served| served.chain.as_slice()).collect();
    x509::narrow(bundle, &chains, host, now)
}

/// The addresses of the name at which another certificate is shown, one that is not accepted.
fn elsewhere(narrowed: &Narrowed, served: &[Served]) -> Vec<String> {
    let refused = served.iter().zip(&narrowed.verdicts).filter(|(_, verdict)| !verdict.accepted);
    refused
        .map(|(served, verdict)| {
            format!(
                "at {} another certificate is shown, which the runner will refuse: {}",
                served.address,
                verdict.why.join("; ")
            )
        })
        .collect()
}

/// An endpoint that does not answer here: the cluster's own CA, and nothing proven.
fn unreachable(view: &View, endpoint: &Endpoint, candidates: Vec<Candidate>, why: &str) -> Result<Trust> {
    // Behind a proxy the kubeconfig's CA has verified this very server.
    let own = *endpoint == view.target.endpoint;
    let Some(candidate) = candidates.into_iter().find(|candidate| own || candidate.from_cluster) else {
        return Err(Failure::new(Id::EndpointCertificate, format!("{} cannot be reached from here, and the cluster's own CA may not be read", endpoint.url))
            .detail("because", why)
            .hint("run this where that address can be reached, or ask for the right to get the ConfigMap kube-root-ca.crt"));
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
            "{} cannot be reached from here ({why}): TLS is unproven, the VM will check it",
            endpoint.url
        )),
        warnings: warnings_about(endpoint, &[]),
        endpoint: endpoint.clone(),
    })
}

/// Every place a CA can come from, in the order of preference.
async fn candidates(view: &View, own: bool) -> Vec<Candidate> {
    let mut found = Vec::new();
    let from_kubeconfig = || {
        let bundle = x509::read_bundle(view.target.ca.as_deref()?).ok()?;
        let source = "your kubeconfig".to_owned();
        Some(Candidate { source, bundle, system: false, from_cluster: false })
    };
    if own {
        found.extend(from_kubeconfig());
    }
    let needs_more = !own || found.is_empty();
    if needs_more {
        let reference = Ref::new(ObjectKind::ConfigMap, "default", "kube-root-ca.crt");
        if let Ok(Some(map)) = view.read(&reference).await
            && let Some(text) = map.value["data"]["ca.crt"].as_str()
            && let Ok(bundle) = x509::read_bundle(text.as_bytes())
        {
            found.push(Candidate {
                source: "kube-root-ca.crt in the cluster".to_owned(),
                bundle,
                system: false,
                from_cluster: true,
            });
        }
        if !own {
            found.extend(from_kubeconfig());
        }
        if let Some(bundle) = tls::system_roots() {
            let source = "the system's roots".to_owned();
            found.push(Candidate { source, bundle, system: true, from_cluster: false });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_judged_for_the_vm() {
        let about = |url: &str| {
            warnings_about(&Endpoint::parse(url, "the server").expect("a good address"), &[]).join("\n")
        };
        assert_eq!(about("https://34.77.12.8"), "");
        assert_eq!(about("https://api.example.com:6443"), "");
        for ours in [
            "127.0.0.1:6443",
            "[::1]:6443",
            "localhost",
            "127.0.0.2",
            "0.0.0.0",
            "k3d.localhost:6443",
            "[::ffff:127.0.0.1]",
            "kubernetes.docker.internal:6443",
        ] {
            assert!(about(&format!("https://{ours}")).contains("an address of this machine"), "{ours}");
        }
        for near in ["169.254.7.7", "[fe80::1]"] {
            assert!(about(&format!("https://{near}")).contains("a link-local address"), "{near}");
        }
        // A name is judged by what it led to.
        let named = Endpoint::parse("https://api.example.com:6443", "the server").expect("a good address");
        let led = |peer: &str| {
            let address = std::net::SocketAddr::new(peer.parse().expect("an address"), 6443);
            warnings_about(&named, &[Served { address, chain: Vec::new() }]).join("\n")
        };
        assert!(led("127.0.0.1").contains("leads here to 127.0.0.1, which is an address of this machine"));
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
