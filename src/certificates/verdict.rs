//! Building chains as Go's `Certificate.Verify` does, and asking rustls the same question.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};

use super::parse::{Facts, Key, Usage, parse};
use super::{Bundle, Certificate, Host};

/// Go gives up after this many signatures: a hostile chain must not cost more.
const MAX_SIGNATURES: u32 = 100;
/// Go's TLS client refuses longer RSA keys in a served chain.
const MAX_RSA_BITS: usize = 8192;
/// A CA that expires sooner is worth a warning: replacing it takes a plan.
const WARN_DAYS: i64 = 90;

/// Whether the runner, a Go program with the bundle as its `ca_file`, will trust the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Go accepts.
    pub accepted: bool,
    /// The member of the bundle the chain ends in, if accepted.
    pub anchor: Option<Certificate>,
    /// Why Go refuses, one sentence each, naming the certificate; empty if accepted.
    pub why: Vec<String>,
    /// Go accepts, but rustls does not: the runner will connect, this program cannot. Why.
    pub not_here: Option<String>,
    /// What is fine today and will not stay so.
    pub warnings: Vec<String>,
}

/// Judges a served chain (DER, leaf first) as the runner will: roots are the bundle's members,
/// intermediates the rest of the chain, the usage is serverAuth.
///
/// Signatures ring cannot check (RSA below 2048 bits, P-521, P-224, ECDSA with SHA-512) are taken
/// if names and key identifiers fit; rustls cannot check them either, so `not_here` is set.
/// Not modelled: certificate policies (`requireExplicitPolicy`), which no cluster CA uses.
#[must_use]
pub fn judge(bundle: &Bundle, chain: &[Vec<u8>], host: &Host, now: Timestamp) -> Verdict {
    let refused = |why: Vec<String>| Verdict { why, ..Verdict::default() };
    let mut served = Vec::new();
    let mut why = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        match parse(der) {
            Ok(facts) => served.push(facts),
            Err(fault) => why.push(format!(
                "Go cannot read certificate {} of the {} the server sent: {fault}",
                index + 1,
                chain.len()
            )),
        }
    }
    let Some((leaf, intermediates)) = served.split_first().filter(|_| why.is_empty()) else {
        if why.is_empty() {
            why.push("the server sent no certificate".to_owned());
        }
        return refused(why);
    };
    for facts in &served {
        if matches!(facts.key, Key::Rsa(bits) if bits > MAX_RSA_BITS) {
            why.push(format!("the RSA key of {} is longer than {MAX_RSA_BITS} bits", facts.label()));
        }
    }
    if leaf.key == Key::Other {
        why.push(format!("the key of {} is of a kind Go cannot use for TLS", leaf.label()));
    }
    // Go stops at the first; a person wants them all.
    why.extend(invalid(leaf, false, 0, now));
    if !leaf.names.speak_for(host) {
        why.push(format!("{} is not for {host}: its names are {}", leaf.label(), leaf.names.list()));
    }
    let mut roots: Vec<Facts> = Vec::new();
    roots.extend(bundle.certificates.iter().filter_map(|certificate| parse(certificate.der()).ok()));
    let mut search =
        Search { roots: &roots, intermediates, now, signatures: 0, found: Vec::new(), hints: Vec::new() };
    if roots.iter().any(|root| root.x509.as_raw() == leaf.x509.as_raw()) {
        search.found.push(Chain { members: vec![leaf], unchecked: None });
    } else {
        search.extend(&Chain { members: vec![leaf], unchecked: None });
    }
    let Search { found, hints, .. } = search;
    if found.is_empty() {
        why.extend(hints);
    }
    let mut usable = Vec::new();
    let mut objections = Vec::new();
    for chain in found {
        match objection(&chain.members) {
            Some(text) => objections.push(text),
            None => usable.push(chain),
        }
    }
    if usable.is_empty() {
        why.extend(objections);
    }
    // A chain whose every signature was checked says more than one that merely fits.
    usable.sort_by_key(|chain| chain.unchecked.is_some());
    let Some(best) = usable.first().filter(|_| why.is_empty()) else {
        let mut unique: Vec<String> = Vec::new();
        for reason in why {
            if !unique.contains(&reason) {
                unique.push(reason);
            }
        }
        return refused(unique);
    };
    let anchor = best.members.last().and_then(|facts| Certificate::from_der(facts.x509.as_raw()).ok());
    Verdict {
        accepted: true,
        not_here: not_here(bundle, chain, host, now, best),
        warnings: warnings(best, now),
        anchor,
        why: Vec::new(),
    }
}

/// Leaf first, anchor last.
struct Chain<'f, 'd> {
    members: Vec<&'f Facts<'d>>,
    /// What kind of signature in it ring cannot check.
    unchecked: Option<String>,
}

struct Search<'f, 'd> {
    roots: &'f [Facts<'d>],
    intermediates: &'f [Facts<'d>],
    now: Timestamp,
    signatures: u32,
    found: Vec<Chain<'f, 'd>>,
    /// Why certificates of the right name did not do.
    hints: Vec<String>,
}

impl<'f, 'd> Search<'f, 'd> {
    /// Go's `buildChains`: every way from the chain's end to a root.
    fn extend(&mut self, chain: &Chain<'f, 'd>) {
        let Some(&child) = chain.members.last() else { return };
        let mut named = false;
        let pools = [(self.roots, true), (self.intermediates, false)];
        for (parent, root) in
            pools.into_iter().flat_map(|(pool, root)| pool.iter().map(move |one| (one, root)))
        {
            if parent.x509.subject().as_raw() != child.x509.issuer().as_raw() {
                continue;
            }
            self.signatures += 1;
            if self.signatures > MAX_SIGNATURES {
                self.hints.push("the chain offers more ways to a root than Go follows".to_owned());
                return;
            }
            if parent.key == Key::Other || already_in(parent, &chain.members) {
                continue;
            }
            named = true;
            let unchecked = match signed(child, parent) {
                Signature::Good => None,
                Signature::Unchecked(kind) => Some(kind),
                Signature::Bad(why) => {
                    self.hints.push(why);
                    continue;
                }
            };
            if let Some(why) = invalid(parent, !root, chain.members.len() - 1, self.now).into_iter().next() {
                self.hints.push(why);
                continue;
            }
            let mut members = chain.members.clone();
            members.push(parent);
            let longer = Chain { members, unchecked: chain.unchecked.clone().or(unchecked) };
            if root {
                self.found.push(longer);
            } else {
                self.extend(&longer);
            }
        }
        if !named {
            let what = if child.self_issued() {
                format!("{} is self-signed and not in the bundle", child.label())
            } else {
                format!(
                    "{} was issued by \"{}\", which is neither in the bundle nor sent by the server",
                    child.label(),
                    child.x509.issuer()
                )
            };
            self.hints.push(what);
        }
    }
}

/// Go's `alreadyInChain`: the same subject, key and alternative names.
fn already_in(candidate: &Facts, chain: &[&Facts]) -> bool {
    chain.iter().any(|member| {
        candidate.x509.subject().as_raw() == member.x509.subject().as_raw()
            && candidate.x509.public_key().raw == member.x509.public_key().raw
            && candidate.raw_names == member.raw_names
    })
}

/// Go's `isValid`: what is wrong with a certificate at its place, `below` CAs away from the leaf.
fn invalid(facts: &Facts, intermediate: bool, below: usize, now: Timestamp) -> Vec<String> {
    let label = facts.label();
    let mut why = Vec::new();
    if let [first, ..] = facts.unhandled.as_slice() {
        why.push(format!("{label} has a critical extension Go does not know ({first})"));
    }
    if now < facts.not_before() {
        why.push(format!("{label} is valid only from {}", facts.not_before()));
    } else if now > facts.not_after() {
        why.push(format!("{label} expired on {}", facts.not_after()));
    }
    if intermediate && !matches!(facts.ca, Some((true, _))) {
        why.push(format!("{label} is not marked as a CA"));
    }
    if let Some((_, Some(most))) = facts.ca
        && below > usize::try_from(most).unwrap_or(usize::MAX)
    {
        why.push(format!("{label} allows {most} CAs below it and has {below} (path length)"));
    }
    why
}

enum Signature {
    Good,
    Bad(String),
    /// Looks right, but ring cannot check this kind.
    Unchecked(String),
}

/// Go's `CheckSignatureFrom`.
fn signed(child: &Facts, parent: &Facts) -> Signature {
    let (ours, theirs) = (child.label(), parent.label());
    match parent.ca {
        None if parent.x509.version().0 == 2 => {
            return Signature::Bad(format!("{theirs} is not marked as a CA (no basicConstraints)"));
        }
        Some((false, _)) => return Signature::Bad(format!("{theirs} is marked as no CA (CA:FALSE)")),
        _ => {}
    }
    if parent.may_not_sign {
        return Signature::Bad(format!("the key usage of {theirs} does not allow signing certificates"));
    }
    let hash = match child.x509.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" => return Signature::Bad(format!("{ours} is signed with MD5")),
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1" => {
            return Signature::Bad(format!("{ours} is signed with SHA-1"));
        }
        "1.2.840.113549.1.1.10"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.113549.1.1.12"
        | "1.2.840.113549.1.1.13" => Some(Family::Rsa),
        "1.2.840.10045.4.3.2" | "1.2.840.10045.4.3.3" => Some(Family::Curve),
        "1.2.840.10045.4.3.4" => Some(Family::CurveSha512),
        "1.3.101.112" => Some(Family::Edwards),
        _ => None,
    };
    let uncheckable = match (hash, parent.key) {
        (Some(Family::Rsa), Key::Rsa(bits)) if bits < 1024 => {
            return Signature::Bad(format!("the RSA key of {theirs} has only {bits} bits"));
        }
        (Some(Family::Rsa), Key::Rsa(2048..=MAX_RSA_BITS))
        | (Some(Family::Curve), Key::P256 | Key::P384)
        | (Some(Family::Edwards), Key::Ed25519) => None,
        (Some(Family::Rsa), Key::Rsa(bits)) => Some(format!("RSA-{bits}")),
        (Some(Family::Curve | Family::CurveSha512), Key::P521) => Some("P-521".to_owned()),
        (Some(Family::Curve | Family::CurveSha512), Key::P224) => Some("P-224".to_owned()),
        (Some(Family::CurveSha512), Key::P256 | Key::P384) => Some("ECDSA with SHA-512".to_owned()),
        _ => {
            return Signature::Bad(format!(
                "{ours} is signed in a way the key of {theirs} cannot sign, or Go not check"
            ));
        }
    };
    let not_signed =
        || Signature::Bad(format!("{theirs} did not sign {ours}: it is another CA of the same name"));
    if let Some(kind) = uncheckable {
        // All that is left is the hint the issuer gave.
        return match (child.issuer_key_id, parent.key_id) {
            (Some(wanted), Some(found)) if wanted != found => not_signed(),
            _ => Signature::Unchecked(kind),
        };
    }
    match child.x509.verify_signature(Some(parent.x509.public_key())) {
        Ok(()) => Signature::Good,
        Err(_) => not_signed(),
    }
}

#[derive(Clone, Copy)]
enum Family {
    Rsa,
    Curve,
    CurveSha512,
    Edwards,
}

/// What Go checks on a finished chain: extended key usage of every member, then name constraints.
fn objection(chain: &[&Facts]) -> Option<String> {
    if let Some(facts) = chain.iter().rev().find(|facts| facts.usage == Usage::Other) {
        return Some(format!("the extended key usage of {} leaves serverAuth out", facts.label()));
    }
    chain.iter().enumerate().find_map(|(index, facts)| {
        facts.raw_names?;
        chain[index + 1..].iter().find_map(|above| {
            let why = above.constraints.as_ref()?.refuse(&facts.names)?;
            Some(format!("{} constrains names: {why} (in {})", above.label(), facts.label()))
        })
    })
}

fn warnings(chain: &Chain, now: Timestamp) -> Vec<String> {
    let count = chain.members.len();
    let trusted = chain.members.iter().skip(usize::from(count > 1));
    trusted
        .filter_map(|facts| {
            let days = (facts.not_after().as_second() - now.as_second()).div_euclid(24 * 60 * 60);
            let what = if count == 1 { "server certificate" } else { "CA" };
            (days < WARN_DAYS).then(|| format!("the {what} {} expires in {days} days", facts.label()))
        })
        .collect()
}

/// Why rustls with ring cannot make a connection that Go makes.
fn not_here(bundle: &Bundle, chain: &[Vec<u8>], host: &Host, now: Timestamp, go: &Chain) -> Option<String> {
    let leaf = go.members.first()?;
    let anchor = go.members.last()?;
    // The handshake itself is signed with the leaf's key; the verifier below does not see that.
    let weak = go.members.iter().find_map(|facts| match facts.key {
        Key::Rsa(bits) if !(2048..=MAX_RSA_BITS).contains(&bits) => {
            Some((facts, format!("an RSA key of {bits} bits")))
        }
        Key::P521 => Some((facts, "a P-521 key".to_owned())),
        Key::P224 => Some((facts, "a P-224 key".to_owned())),
        _ => None,
    });
    let refusal = rustls_refusal(bundle, chain, host, now);
    let leaf_is_weak = weak.as_ref().is_some_and(|(facts, _)| std::ptr::eq(**facts, *leaf));
    if refusal.is_none() && !leaf_is_weak {
        return None;
    }
    // rustls' own words name a symptom ("UnknownIssuer"); where the cause is known, say that.
    Some(if let Some((facts, key)) = weak {
        format!("{} has {key}, which rustls cannot use", facts.label())
    } else if let Some(kind) = &go.unchecked {
        format!("a signature in the chain is {kind}, which rustls cannot check")
    } else if matches!(leaf.ca, Some((true, _))) {
        format!(
            "{} is the server's certificate and marked as a CA at once, which rustls refuses",
            leaf.label()
        )
    } else if leaf.usage == Usage::OnlyAny {
        format!("the extended key usage of {} is only \"any\"; rustls wants serverAuth", leaf.label())
    } else if std::ptr::eq(*leaf, *anchor) && !leaf.self_issued() {
        format!(
            "the bundle holds {}, the server's own certificate, instead of the CA \"{}\" that issued it; rustls wants the CA",
            leaf.label(),
            leaf.x509.issuer()
        )
    } else {
        format!("rustls refuses the chain: {}", refusal.unwrap_or_default())
    })
}

/// Asks the verifier kube uses.
fn rustls_refusal(bundle: &Bundle, chain: &[Vec<u8>], host: &Host, now: Timestamp) -> Option<String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &bundle.certificates {
        if let Err(error) = roots.add(CertificateDer::from(certificate.der())) {
            return Some(format!("it cannot load {} of the bundle ({error})", certificate.label()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() {
        Ok(verifier) => verifier,
        Err(error) => return Some(error.to_string()),
    };
    let name = match host {
        Host::Ip(address) => ServerName::from(*address),
        Host::Name(name) => match DnsName::try_from(name.as_str()) {
            Ok(name) => ServerName::DnsName(name),
            Err(_) => return Some(format!("{name} is no host name to it")),
        },
    };
    let ders: Vec<CertificateDer> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (leaf, intermediates) = ders.split_first()?;
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_server_cert(leaf, intermediates, &name, &[], time).err().map(|error| error.to_string())
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
