//! The CA that verifies the runner's endpoint of the cluster.

use crate::base::error::Result;
use crate::base::text::count;
use crate::cluster::endpoint_ca::{Trust, trust};
use crate::deployment::plan::Line;
use crate::steps::contract::{
    Decided, Deciding, Info, Never, Outcome, Printed, Prints, Purpose, Reads, Step, Writes,
};

pub struct ExtractCa;

/// Days before its end when a CA counts as a problem. Warnings come earlier.
const ENDS_SOON: i64 = 30;

impl Step for ExtractCa {
    const INFO: Info = Info {
        name: "extract-ca",
        about: "Find the CA certificate that verifies the cluster's endpoint, as PEM on stdout",
        long: "Connects to the runner's endpoint and finds the CA that verifies it by Go's rules, as gitlab-runner does: \
         the kubeconfig's, the cluster's own, or the system's. Of a bundle it takes only the certificates that verify \
         the endpoint's current certificate at each address of its name; after a rotation of the cluster's CA, run \
         setup again. The subcommand prints them to stdout as PEM; it changes nothing.",
        keys: &["kubernetesHost"],
        prints: Prints::Always,
        ..Info::DEFAULT
    };
    type Seen = Option<Trust>;
    type Act = Never;
    type Undo = Never;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Option<Trust>> {
        Ok(if why == Purpose::Teardown { None } else { Some(trust(r.cluster).await?.clone()) })
    }

    fn decide(&self, _: &Deciding<'_>, seen: &Option<Trust>) -> Decided<Never> {
        let Some(trust) = seen else { return Decided::lines(Vec::new()) };
        let warnings = trust.warnings.iter().chain(&trust.unproven);
        let mut lines = vec![Line::keep(summary(trust))];
        lines.extend(warnings.map(|text| Line::warning(text.as_str())));
        if trust.days_left < ENDS_SOON {
            let text = format!("the CA of {} expires in {} days", trust.endpoint.url, trust.days_left);
            let line = Line::unhealthy(text);
            lines
                .push(line.detail("jobs stop then: renew it in the cluster, and run setup again after that"));
        }
        Decided::lines(lines)
    }

    async fn apply(&self, _: Writes<'_>, act: Never) -> Result<Outcome<Never>> {
        match act {}
    }

    async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
        Ok(String::new())
    }

    fn done(&self, d: &Deciding<'_>, seen: &Option<Trust>, _: &[Line<Never>], _: &[String]) -> String {
        let Some(trust) = seen else { return String::new() };
        match &trust.unproven {
            Some(why) => why.clone(),
            None if trust.ca_pem.is_none() => {
                format!("no CA file is needed: the system's roots verify {}", trust.endpoint.url)
            }
            // The step alone prints the whole fingerprint for comparison.
            None if d.run.alone => format!(
                "SHA-256 {}, from {}, {} days left, verifies {}",
                trust.fingerprint, trust.source, trust.days_left, trust.endpoint.url
            ),
            None => format!("SHA-256 {}, verifies {}", short(&trust.fingerprint), trust.endpoint.url),
        }
    }

    async fn print(&self, r: Reads<'_>) -> Result<Option<Printed>> {
        let pem = trust(r.cluster).await?.ca_pem.clone().unwrap_or_default();
        Ok(Some(Printed { bytes: pem.into_bytes(), intents: Vec::new() }))
    }
}

fn summary(trust: &Trust) -> String {
    if trust.ca_pem.is_none() {
        return format!("not needed: the system's roots verify it, {} days left", trust.days_left);
    }
    let left_out = match trust.left_out {
        0 => String::new(),
        others => format!(" ({} not needed)", count(others, "other certificate")),
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

#[cfg(test)]
#[path = "extract_ca_tests.rs"]
mod tests;
