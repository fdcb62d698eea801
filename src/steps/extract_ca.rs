//! The CA that verifies the endpoint which the runner will dial.

use super::{Done, Pending, Step, count};
use crate::cluster::endpoint_ca::{Trust, trust};
use crate::deployment::plan::Line;
use crate::steps::context::Context;

/// See the module.
pub struct ExtractCa;

impl Step for ExtractCa {
    fn name(&self) -> &'static str {
        "extract-ca"
    }
    fn about(&self) -> &'static str {
        "Find the CA certificate that verifies the cluster's endpoint, as PEM on stdout"
    }
    fn long(&self) -> &'static str {
        "Connects to the endpoint that the runner will dial and finds which CA verifies it by the rules of Go, which \
         the runner is made of: the kubeconfig's, the cluster's own, or the system's. Of a bundle only those certificates \
         are taken that verify what the endpoint shows now, at each address of its name; when the cluster's CA is \
         rotated, run setup again. As a subcommand it prints them to stdout, canonically; it writes no file and \
         changes nothing."
    }
    fn keys(&self) -> &'static [&'static str] {
        &["kubernetesHost"]
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let trust = trust(cx).await?;
            let mut line = Line::keep(summary(trust));
            for warning in trust.warnings.iter().chain(&trust.unproven) {
                line = line.detail(warning.clone());
            }
            Ok(vec![line])
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, _lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let trust = trust(cx).await?;
            let text = match &trust.unproven {
                Some(why) => why.clone(),
                None if trust.ca_pem.is_none() => {
                    format!("no CA file is needed: the system's roots verify {}", trust.endpoint.url)
                }
                // By itself it is what somebody compares with another source: in full.
                None if cx.facts.alone.get() => format!(
                    "SHA-256 {}, from {}, {} days left, verifies {}",
                    trust.fingerprint, trust.source, trust.days_left, trust.endpoint.url
                ),
                None => format!("SHA-256 {}, verifies {}", short(&trust.fingerprint), trust.endpoint.url),
            };
            Ok(Done { changed: false, text })
        })
    }

    fn print<'a>(&'a self, cx: &'a Context) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move { Ok(Some(trust(cx).await?.ca_pem.clone().unwrap_or_default().into_bytes())) })
    }

    fn prints_always(&self) -> bool {
        true
    }
}

fn summary(trust: &Trust) -> String {
    if trust.ca_pem.is_none() {
        return format!("none needed: the system's roots verify it, {} days left", trust.days_left);
    }
    let left_out = match trust.left_out {
        0 => String::new(),
        others => format!(" ({} there not needed)", count(others, "other certificate")),
    };
    format!(
        "{} from {}{left_out}, {} days left",
        count(trust.members, "certificate"),
        trust.source,
        trust.days_left
    )
}

/// The first and last bytes of a fingerprint, enough to compare by eye.
fn short(fingerprint: &str) -> String {
    let parts: Vec<&str> = fingerprint.split(':').collect();
    match parts.as_slice() {
        [first, second, .., last] => format!("{first}:{second}:…:{last}"),
        _ => fingerprint.to_owned(),
    }
}
