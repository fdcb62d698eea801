//! What is said of a certificate of GitLab's that is not accepted.

use std::path::Path;

use super::{Class, Refusal};
use crate::base::error::{Failure, Id};
use crate::x509::tls::{Roots, Untrusted};
use crate::x509::{Fault, Verdict};

/// A request that was not sent, as the server's certificate was not accepted.
pub(super) fn refusal(what: &str, url: &str, roots: &Roots, untrusted: &Untrusted) -> Refusal {
    let failure = match &untrusted.verdict.not_here {
        Some(why) => only_the_runner(what, url, why),
        None => refused(what, url, roots.file.as_deref(), &untrusted.verdict),
    };
    Refusal::decided(Class::Certificate, what, &untrusted.to_string(), failure)
}

/// Go's rules take the certificate, outrigger's TLS library lacks something for it.
fn only_the_runner(what: &str, url: &str, why: &str) -> Failure {
    let failure = Failure::new(
        Id::GitlabTlsUnsupported,
        format!("the runner could connect to {url}, but outrigger cannot: cannot {what}"),
    )
    .detail("because", why)
    .detail("gitlab-runner", "accepts the certificate");
    let failure = if why.contains("RSA") {
        failure.detail(
            "curl",
            "refuses RSA keys below 2048 bits where OpenSSL's security level is 2, as on Debian and Ubuntu",
        )
    } else {
        failure
    };
    failure
        .hint("have the certificate issued anew with an RSA key of 2048 bits or a P-256 key, and by a CA that has one")
        .hint("or create the runner in GitLab's web pages and go on without its API: --runner-token-file PATH in place of --gitlab-token-file (and without GITLAB_TOKEN)")
}

fn refused(what: &str, url: &str, file: Option<&Path>, verdict: &Verdict) -> Failure {
    let mut failure = Failure::new(
        Id::GitlabCertificate,
        format!("cannot {what}: the certificate of {url} is not accepted"),
    );
    for why in &verdict.why {
        failure = failure.detail("because", why.clone());
    }
    failure = failure.detail("gitlab-runner", "refuses it for the same reason: these are Go's rules");
    for fault in &verdict.faults {
        failure = failure.hint(match fault {
            Fault::UnknownCa => match file {
                None => "name the CA that signed it: --gitlab-ca-file PATH".to_owned(),
                Some(file) => format!(
                    "{} holds no CA that signed it: ask GitLab's administrator for that CA's certificate, and compare its SHA-256",
                    file.display()
                ),
            },
            Fault::Expired => {
                "have the certificate renewed; if it is, is this machine's clock right?".to_owned()
            }
            Fault::NotYetValid => "is this machine's clock right?".to_owned(),
            Fault::Name => match verdict.names.iter().find(|name| !name.contains('*')) {
                Some(name) => {
                    format!("use a name that the certificate is for, if it leads there: --gitlab-url https://{name}")
                }
                None => "have the certificate issued anew with GitLab's host as subjectAltName".to_owned(),
            },
            Fault::Form => "have the certificate or its CA issued anew without that".to_owned(),
        });
    }
    failure
}
