//! The failure for a GitLab certificate that is not accepted.

use std::path::Path;

use super::{Class, Refusal};
use crate::base::error::{Failure, Id};
use crate::x509::tls::{Roots, Untrusted};
use crate::x509::{Fault, Verdict};

pub(super) fn refusal(what: &str, url: &str, roots: &Roots, untrusted: &Untrusted) -> Refusal {
    let failure = match &untrusted.verdict.not_here {
        Some(why) => only_the_runner(what, url, why),
        None => refused(what, url, roots.file.as_deref(), &untrusted.verdict),
    };
    Refusal::decided(Class::Certificate, what, &untrusted.to_string(), failure)
}

/// For a certificate that Go accepts and outrigger's TLS library does not support.
fn only_the_runner(what: &str, url: &str, why: &str) -> Failure {
    let mut failure = Failure::new(
        Id::GitlabTlsUnsupported,
        format!("cannot {what}: outrigger does not support the certificate of {url}"),
    )
    .detail("because", why)
    .detail("gitlab-runner", "accepts the certificate");
    if why.contains("RSA") {
        failure = failure
            .detail("curl", "rejects RSA keys below 2048 bits at OpenSSL security level 2 (Debian, Ubuntu)");
    }
    failure
        .hint("have the certificate reissued with an RSA key of 2048 bits or a P-256 key, by a CA with such a key")
        .hint("or create the runner in GitLab's web interface and use --runner-token-file PATH instead of --gitlab-token-file and GITLAB_TOKEN")
}

fn refused(what: &str, url: &str, file: Option<&Path>, verdict: &Verdict) -> Failure {
    let mut failure = Failure::new(
        Id::GitlabCertificate,
        format!("cannot {what}: the certificate of {url} is not accepted"),
    );
    for why in &verdict.why {
        failure = failure.detail("because", why.clone());
    }
    failure = failure.detail("gitlab-runner", "rejects it for the same reason (Go's rules)");
    for fault in &verdict.faults {
        failure = failure.hint(match fault {
            Fault::UnknownCa => match file {
                None => "name the CA that signed it: --gitlab-ca-file PATH".to_owned(),
                Some(file) => format!(
                    "{} does not contain the CA that signed it: ask GitLab's administrator for that CA's certificate and compare its SHA-256",
                    file.display()
                ),
            },
            Fault::Expired => {
                "have the certificate renewed, or check this machine's clock".to_owned()
            }
            Fault::NotYetValid => "check this machine's clock".to_owned(),
            Fault::Name => match verdict.names.iter().find(|name| !name.contains('*')) {
                Some(name) => {
                    format!("use a name in the certificate, if it resolves to this GitLab: --gitlab-url https://{name}")
                }
                None => "have the certificate reissued with GitLab's host as subjectAltName".to_owned(),
            },
            Fault::Form => "have the certificate or its CA reissued without that".to_owned(),
        });
    }
    failure
}
