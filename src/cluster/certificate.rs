//! What is said of an API server's certificate that is not accepted.

use super::Refusal;
use crate::base::error::{Failure, Id};
use crate::x509::tls::Untrusted;

/// A request that was not sent, as the server's certificate was not accepted.
pub(super) fn refusal(what: &str, url: &str, untrusted: &Untrusted) -> Refusal {
    let failure = match &untrusted.verdict.not_here {
        Some(why) => only_the_runner(url, why),
        None => Failure::new(
            Id::ClusterCertificate, format!("cannot {what}: the certificate of {url} is not accepted"),
        )
        .detail("because", untrusted.to_string())
        .hint("kubectl and the runner refuse it for the same reason: have it reissued, or fetch the kubeconfig anew from whoever runs the cluster"),
    };
    Refusal::untrusted(what, &untrusted.to_string(), failure)
}

/// Go's rules take the certificate, outrigger's TLS library lacks something for it: an error of its own, as
/// nothing is wrong with the cluster.
#[must_use]
pub fn only_the_runner(url: &str, why: &str) -> Failure {
    Failure::new(Id::ClusterTlsUnsupported, format!("the runner could connect to {url}, but outrigger cannot"))
        .detail("because", why)
        .hint("without a connection nothing can be set up or proven from here: have the server's certificate renewed, or name another address of the cluster (in the kubeconfig, or with --kubernetes-host if it is the runner's)")
}
