//! Failures for an API server's certificate that is not accepted.

use super::{Class, Refusal};
use crate::base::error::{Failure, Id};
use crate::x509::tls::Untrusted;

pub(super) fn refusal(what: &str, url: &str, untrusted: &Untrusted) -> Refusal {
    let failure = match &untrusted.verdict.not_here {
        Some(why) => only_the_runner(url, why),
        None => Failure::new(
            Id::ClusterCertificate, format!("cannot {what}: the certificate of {url} is not accepted"),
        )
        .detail("because", untrusted.to_string())
        .hint("the runner refuses it for the same reason: have the certificate reissued, or get a new kubeconfig from the cluster's administrator"),
    };
    Refusal::decided(Class::Certificate, what, &untrusted.to_string(), failure)
}

/// The failure for a certificate that Go accepts and outrigger's TLS library does not support.
pub fn only_the_runner(url: &str, why: &str) -> Failure {
    Failure::new(Id::ClusterTlsUnsupported, format!("the runner could connect to {url}, but outrigger cannot"))
        .detail("because", why)
        .hint("have the server's certificate replaced, or use another address of the cluster (in the kubeconfig, or --kubernetes-host if it is the runner's)")
}
