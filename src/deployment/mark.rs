//! The mark at the end of a runner's description in GitLab. It ties the runner to one ServiceAccount of one
//! cluster. Pure.
//!
//! Other tenants may read and copy the deployment's id from annotations, so the id alone proves nothing. The mark
//! is a digest over the id and over values that a tenant cannot choose: the uid that the API server assigned to
//! the ServiceAccount, and the cluster's identity.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::deployment::record::ClusterIdentity;

/// Prefix of every mark, with the version of its format.
const PREFIX: &str = "outrigger:1:";
/// Maximum length of a description in characters (GitLab, `app/models/ci/runner.rb`, `description`).
const LONGEST: usize = 1024;

/// The parts of a mark other than the ServiceAccount and the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a> {
    /// The deployment's name.
    pub name: &'a str,
    /// Namespace of the runner's ServiceAccount.
    pub namespace: &'a str,
    /// The deployment's random id.
    pub id: &'a str,
}

/// The marks that a runner of one deployment may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Marks of the current ServiceAccount; the first is the one that outrigger writes.
    pub current: Vec<String>,
    /// Marks accepted because of this machine's record: of earlier ServiceAccounts, and of earlier versions of
    /// outrigger.
    pub earlier: Vec<String>,
}

/// Whether a description has a deployment's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// One of [`Marks::current`].
    Current,
    /// One of [`Marks::earlier`].
    Earlier,
    /// No mark, or another deployment's.
    No,
}

/// The mark of a deployment: `outrigger:1:` and the unpadded base64url of the SHA-256 of its parts, joined with
/// line breaks. `cluster` is one of [`identities`]; `account` is the ServiceAccount's uid, empty if the
/// ServiceAccount does not exist yet.
pub fn mark(deployment: Deployment<'_>, cluster: &str, account: &str) -> String {
    let Deployment { name, namespace, id } = deployment;
    let parts = [PREFIX, name, namespace, cluster, id, account].join("\n");
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(Sha256::digest(parts.as_bytes())))
}

/// The mark of earlier versions of outrigger: the id without a digest.
pub fn id_alone(id: &str) -> String {
    format!("outrigger {id}")
}

/// Whether a description ends with the mark of any deployment.
pub fn is_marked(description: &str) -> bool {
    description.rsplit(' ').next().is_some_and(|last| last.starts_with(PREFIX))
}

/// Identifiers of a cluster for [`mark`], the preferred one first: the uid of `kube-system`, and the fingerprint
/// of the CA, for users who may not read that namespace.
pub fn identities(cluster: &ClusterIdentity) -> Vec<String> {
    let named = [("kube-system ", &cluster.kube_system), ("ca ", &cluster.ca_fingerprint)];
    let found: Vec<String> = named
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(kind, value)| format!("{kind}{value}"))
        .collect();
    if found.is_empty() { vec![String::new()] } else { found }
}

impl Marks {
    /// Compares the end of a runner's description with these marks.
    pub fn judge(&self, description: &str) -> Marked {
        let ends = |marks: &[String]| {
            marks.iter().any(|mark| {
                description
                    .strip_suffix(mark.as_str())
                    .is_some_and(|before| before.is_empty() || before.ends_with(' '))
            })
        };
        match (ends(&self.current), ends(&self.earlier)) {
            (true, _) => Marked::Current,
            (false, true) => Marked::Earlier,
            _ => Marked::No,
        }
    }

    /// The mark that outrigger writes.
    pub fn written(&self) -> &str {
        self.current.first().map_or("", String::as_str)
    }

    /// Replaces an earlier mark in a description with the written one; keeps the text in front of it.
    pub fn renewed(&self, description: &str) -> String {
        let old = self.earlier.iter().find(|mark| description.ends_with(mark.as_str()));
        let text = old.map_or(description, |old| &description[..description.len() - old.len()]);
        let room = LONGEST.saturating_sub(self.written().len() + 2);
        let text: String = text.trim_end_matches([' ', ',']).chars().take(room).collect();
        if text.is_empty() { self.written().to_owned() } else { format!("{text}, {}", self.written()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: Deployment<'_> = Deployment { name: "demo", namespace: "demo", id: "0a1b" };

    #[test]
    fn mark_depends_on_each_part() {
        let own = mark(DEMO, "kube-system u", "sa-1");
        // Stored in GitLab by earlier versions of outrigger: it must not change.
        assert_eq!(own, "outrigger:1:sE04jTP1OvV-Sc303rq6tgh_iP6OSIAHmyp4xpEnt70");
        let others = [
            mark(Deployment { name: "prod", ..DEMO }, "kube-system u", "sa-1"),
            mark(Deployment { namespace: "other", ..DEMO }, "kube-system u", "sa-1"),
            mark(Deployment { id: "0a1c", ..DEMO }, "kube-system u", "sa-1"),
            mark(DEMO, "kube-system v", "sa-1"),
            mark(DEMO, "kube-system u", "sa-2"),
            mark(DEMO, "kube-system u", ""),
        ];
        assert!(others.iter().all(|other| *other != own));
    }

    #[test]
    fn cluster_is_identified_by_kube_system_before_its_ca() {
        let mut cluster =
            ClusterIdentity { ca_fingerprint: "AA:BB".to_owned(), ..ClusterIdentity::default() };
        assert_eq!(identities(&cluster), ["ca AA:BB"]);
        cluster.kube_system = "u".to_owned();
        assert_eq!(identities(&cluster), ["kube-system u", "ca AA:BB"]);
        assert_eq!(identities(&ClusterIdentity::default()), [""]);
    }

    #[test]
    fn mark_counts_only_at_the_end_of_a_description() {
        let marks = Marks { current: vec![mark(DEMO, "c", "a")], earlier: vec![id_alone("0a1b")] };
        let own = marks.written();
        assert_eq!(marks.judge(&format!("demo on acme, {own}")), Marked::Current);
        assert_eq!(marks.judge(own), Marked::Current);
        assert_eq!(marks.judge("demo on acme, outrigger 0a1b"), Marked::Earlier);
        for other in [format!("{own}, not any more"), format!("x{own}"), "demo".to_owned(), String::new()] {
            assert_eq!(marks.judge(&other), Marked::No, "{other}");
        }
        assert!(is_marked(own) && is_marked(&format!("demo on acme, {own}")));
        assert!(!is_marked("demo on acme, outrigger 0a1b") && !is_marked(""));
    }

    #[test]
    fn renewed_description_keeps_its_text_and_fits_gitlabs_limit() {
        let marks = Marks { current: vec![mark(DEMO, "c", "a")], earlier: vec![id_alone("0a1b")] };
        let own = marks.written();
        assert_eq!(marks.renewed("the fast one, outrigger 0a1b"), format!("the fast one, {own}"));
        assert_eq!(marks.renewed("outrigger 0a1b"), own);
        let long = marks.renewed(&format!("{} outrigger 0a1b", "ä".repeat(1020)));
        assert!(long.ends_with(own) && long.chars().count() == 1024, "{}", long.chars().count());
    }
}
