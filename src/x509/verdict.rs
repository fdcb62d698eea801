//! Builds and checks chains with the rules of Go's `Certificate.Verify`.

use jiff::Timestamp;

use super::parse::{Facts, Key, Usage, parse};
use super::{Bundle, Certificate, Host, signatures};

/// Go's limit on signature checks, which bounds the cost of a hostile chain.
const MAX_SIGNATURES: u32 = 100;
/// Go's TLS client refuses longer RSA keys in the server's chain.
const MAX_RSA_BITS: usize = 8192;
/// A hostile chain could have thousands of reasons.
const MAX_REASONS: usize = 8;
/// A CA that expires sooner causes a warning, because replacing it takes time.
const WARN_DAYS: i64 = 90;

/// Whether the runner, a Go program with the bundle as its CA file, will trust the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether Go accepts the chain.
    pub accepted: bool,
    /// The member of the bundle at the end of the accepted chain.
    pub anchor: Option<Certificate>,
    /// All members of the bundle that verify the chain, in the bundle's order without duplicates: the content of
    /// a reduced bundle. A server certificate that is a member is included only if no CA of the bundle verifies
    /// it.
    pub needed: Vec<Certificate>,
    /// Why Go refuses the chain, one sentence per reason; empty if accepted.
    pub why: Vec<String>,
    /// The kinds of the reasons.
    pub faults: Vec<Fault>,
    /// The names of the server's certificate if the host is not among them.
    pub names: Vec<String>,
    /// Why outrigger cannot connect although Go accepts the chain: its TLS library lacks a feature.
    pub not_here: Option<String>,
    /// CAs that expire soon.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Whether outrigger itself can connect.
    pub fn accepted_here(&self) -> bool {
        self.accepted && self.not_here.is_none()
    }
}

/// The kind of a reason, which decides the hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The chain does not end in a member of the bundle.
    UnknownCa,
    /// A certificate has expired.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is not valid for the host.
    Name,
    /// A certificate has to be issued again.
    Form,
}

/// Reasons and their kinds without duplicates.
#[derive(Default)]
struct Reasons {
    why: Vec<String>,
    faults: Vec<Fault>,
}

impl Reasons {
    fn push(&mut self, (fault, why): (Fault, String)) {
        if !self.why.contains(&why) && self.why.len() < MAX_REASONS {
            self.why.push(why);
        }
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn extend(&mut self, more: impl IntoIterator<Item = (Fault, String)>) {
        more.into_iter().for_each(|reason| self.push(reason));
    }

    fn refused(self) -> Verdict {
        Verdict { why: self.why, faults: self.faults, ..Verdict::default() }
    }
}

/// Judges a server's chain (DER, leaf first) like the runner: the bundle's members are the roots, the rest of the
/// chain are intermediates, and the usage is serverAuth.
///
/// If outrigger cannot check a signature of the chain (see [`super::signatures`]), names and key identifiers
/// decide, and `not_here` is set: the verdict is Go's, but outrigger does not connect. The same applies to a chain
/// that constrains certificate policies, which outrigger does not evaluate.
pub fn judge(bundle: &Bundle, chain: &[Vec<u8>], host: &Host, now: Timestamp) -> Verdict {
    let mut reasons = Reasons::default();
    let mut served = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        match parse(der) {
            Ok(facts) => served.push(facts),
            Err(fault) => reasons.push((
                Fault::Form,
                format!(
                    "Go cannot read certificate {} of the {} the server sent: {fault}",
                    index + 1,
                    chain.len()
                ),
            )),
        }
    }
    let Some((leaf, intermediates)) = served.split_first().filter(|_| reasons.why.is_empty()) else {
        if reasons.why.is_empty() {
            reasons.push((Fault::Form, "the server sent no certificate".to_owned()));
        }
        return reasons.refused();
    };
    for facts in &served {
        if matches!(facts.key, Key::Rsa(bits) if bits > MAX_RSA_BITS) {
            let why = format!("the RSA key of {} is longer than {MAX_RSA_BITS} bits", facts.label());
            reasons.push((Fault::Form, why));
        }
    }
    if leaf.key == Key::Other {
        let why = format!("the key of {} is of a kind Go cannot use for TLS", leaf.label());
        reasons.push((Fault::Form, why));
    }
    // Go stops at the first reason; outrigger reports all.
    reasons.extend(invalid(leaf, false, 0, now));
    let mut names = Vec::new();
    if !leaf.names.speak_for(host) {
        let mut why = format!("{} is not for {host}: its names are {}", leaf.label(), leaf.names.list());
        names = leaf.names.all();
        if names.is_empty() {
            why.push_str(" (Go does not look at the common name, which curl may still take)");
        }
        reasons.push((Fault::Name, why));
    }
    let roots: Vec<Facts> =
        bundle.certificates.iter().filter_map(|certificate| parse(certificate.der()).ok()).collect();
    let pinned = roots.iter().any(|root| root.x509.as_raw() == leaf.x509.as_raw());
    let mut search =
        Search { roots: &roots, intermediates, now, signatures: 0, found: Vec::new(), hints: Vec::new() };
    search.extend(&Chain { members: vec![leaf], unchecked: None });
    let Search { mut found, hints, .. } = search;
    // For Go, a member of the bundle needs no issuer; its other chains matter only for a reduced bundle.
    if pinned {
        found.push(Chain { members: vec![leaf], unchecked: None });
    } else if found.is_empty() {
        reasons.extend(hints);
    }
    let mut usable = Vec::new();
    let mut objections = Vec::new();
    for chain in found {
        match objection(&chain.members) {
            Some(text) => objections.push((Fault::Form, text)),
            None => usable.push(chain),
        }
    }
    if usable.is_empty() {
        reasons.extend(objections);
    }
    let needed = needed(bundle, &usable);
    if pinned {
        usable.retain(|chain| chain.members.len() == 1);
    }
    // A chain whose signatures are all checked is preferred.
    usable.sort_by_key(|chain| not_here(chain).is_some());
    let Some(best) = usable.first().filter(|_| reasons.why.is_empty()) else {
        return Verdict { names, ..reasons.refused() };
    };
    let anchor = best.members.last().and_then(|facts| Certificate::from_der(facts.x509.as_raw()).ok());
    Verdict {
        accepted: true,
        anchor,
        needed,
        not_here: not_here(best),
        warnings: warnings(best, now),
        ..Verdict::default()
    }
}

/// The issuer names of the certificates in a chain, as DER.
pub fn issuers(chain: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let served = chain.iter().filter_map(|der| parse(der).ok());
    served.map(|facts| facts.x509.issuer().as_raw().to_vec()).collect()
}

/// The bundle's members at the ends of the usable chains, without duplicates.
fn needed(bundle: &Bundle, usable: &[Chain]) -> Vec<Certificate> {
    let by_ca = usable.iter().any(|chain| chain.members.len() > 1);
    let ends: Vec<&[u8]> = usable
        .iter()
        .filter(|chain| !by_ca || chain.members.len() > 1)
        .filter_map(|chain| chain.members.last().map(|facts| facts.x509.as_raw()))
        .collect();
    let mut needed: Vec<Certificate> = Vec::new();
    for certificate in &bundle.certificates {
        if ends.contains(&certificate.der()) && !needed.contains(certificate) {
            needed.push(certificate.clone());
        }
    }
    needed
}

struct Chain<'f, 'd> {
    /// Leaf first, anchor last.
    members: Vec<&'f Facts<'d>>,
    /// The kind of a signature that outrigger cannot check.
    unchecked: Option<String>,
}

struct Search<'f, 'd> {
    roots: &'f [Facts<'d>],
    intermediates: &'f [Facts<'d>],
    now: Timestamp,
    signatures: u32,
    found: Vec<Chain<'f, 'd>>,
    /// Why certificates with the right name were not used.
    hints: Vec<(Fault, String)>,
}

impl<'f, 'd> Search<'f, 'd> {
    /// Go's `buildChains`: finds all continuations of the chain to a root.
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
                let why = "the chain offers more ways to a root than Go follows";
                self.hints.push((Fault::Form, why.to_owned()));
                return;
            }
            if parent.key == Key::Other || already_in(parent, &chain.members) {
                continue;
            }
            named = true;
            let unchecked = match signed(child, parent) {
                Signature::Good => None,
                Signature::Unchecked(kind) => Some(kind),
                Signature::Bad(fault, why) => {
                    self.hints.push((fault, why));
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
            self.hints.push((Fault::UnknownCa, what));
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

/// Go's `isValid`: the faults of a certificate that has `below` CAs between it and the leaf.
fn invalid(facts: &Facts, intermediate: bool, below: usize, now: Timestamp) -> Vec<(Fault, String)> {
    let label = facts.label();
    let mut why = Vec::new();
    if let [first, ..] = facts.unhandled.as_slice() {
        why.push((Fault::Form, format!("{label} has a critical extension Go does not know ({first})")));
    }
    if now < facts.not_before() {
        why.push((Fault::NotYetValid, format!("{label} is valid only from {}", facts.not_before())));
    } else if now > facts.not_after() {
        why.push((Fault::Expired, format!("{label} expired on {}", facts.not_after())));
    }
    if intermediate && !matches!(facts.ca, Some((true, _))) {
        why.push((Fault::Form, format!("{label} is not marked as a CA")));
    }
    if let Some((_, Some(most))) = facts.ca
        && below > usize::try_from(most).unwrap_or(usize::MAX)
    {
        why.push((Fault::Form, format!("{label} allows {most} CAs below it and has {below} (path length)")));
    }
    why
}

enum Signature {
    Good,
    Bad(Fault, String),
    /// outrigger does not support this kind of signature.
    Unchecked(String),
}

/// Go's `CheckSignatureFrom`.
fn signed(child: &Facts, parent: &Facts) -> Signature {
    let (ours, theirs) = (child.label(), parent.label());
    let bad = |why: String| Signature::Bad(Fault::Form, why);
    match parent.ca {
        None if parent.x509.version().0 == 2 => {
            return bad(format!("{theirs} is not marked as a CA (no basicConstraints)"));
        }
        Some((false, _)) => return bad(format!("{theirs} is marked as no CA (CA:FALSE)")),
        _ => {}
    }
    if parent.may_not_sign {
        return bad(format!("the key usage of {theirs} does not allow signing certificates"));
    }
    let hash = match child.x509.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" => return bad(format!("{ours} is signed with MD5")),
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1" => {
            return bad(format!("{ours} is signed with SHA-1"));
        }
        "1.2.840.113549.1.1.10"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.113549.1.1.12"
        | "1.2.840.113549.1.1.13" => Some(Family::Rsa),
        "1.2.840.10045.4.3.2" | "1.2.840.10045.4.3.3" | "1.2.840.10045.4.3.4" => Some(Family::Curve),
        "1.3.101.112" => Some(Family::Edwards),
        _ => None,
    };
    let uncheckable = match (hash, parent.key) {
        (Some(Family::Rsa), Key::Rsa(bits)) if bits < 1024 => {
            return bad(format!("the RSA key of {theirs} has only {bits} bits"));
        }
        (Some(Family::Rsa), Key::Rsa(2048..=MAX_RSA_BITS))
        | (Some(Family::Curve), Key::P256 | Key::P384 | Key::P521)
        | (Some(Family::Edwards), Key::Ed25519) => None,
        (Some(Family::Rsa), Key::Rsa(bits)) => Some(format!("RSA-{bits}")),
        (Some(Family::Curve), Key::P224) => Some("P-224".to_owned()),
        _ => {
            return bad(format!(
                "{ours} is signed in a way the key of {theirs} cannot sign, or Go not check"
            ));
        }
    };
    let not_signed = || {
        let why = format!("{theirs} did not sign {ours}: it is another CA of the same name");
        Signature::Bad(Fault::UnknownCa, why)
    };
    let verified = if uncheckable.is_some() { None } else { signatures::verify(child, parent) };
    match verified {
        Some(true) => Signature::Good,
        Some(false) => not_signed(),
        // Only the key identifiers remain for a comparison.
        None => match (child.issuer_key_id, parent.key_id) {
            (Some(wanted), Some(found)) if wanted != found => not_signed(),
            _ => Signature::Unchecked(uncheckable.unwrap_or_else(|| "of a rare form".to_owned())),
        },
    }
}

#[derive(Clone, Copy)]
enum Family {
    Rsa,
    Curve,
    Edwards,
}

/// Go's checks of a complete chain: the extended key usage of every member, then name constraints.
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

/// Why outrigger cannot connect although Go can.
fn not_here(go: &Chain) -> Option<String> {
    let (leaf, anchor) = (go.members.first()?, go.members.last()?);
    // The handshake itself is signed with the leaf's key.
    let weak = match leaf.key {
        Key::Rsa(bits) if bits < 2048 => Some(format!("an RSA key of {bits} bits (RSA-{bits})")),
        Key::P224 => Some("a P-224 key".to_owned()),
        _ => None,
    };
    if let Some(key) = weak {
        return Some(format!("{} has {key}, which outrigger cannot use", leaf.label()));
    }
    if let Some(kind) = &go.unchecked {
        return Some(format!("a signature in the chain is {kind}, which outrigger cannot check"));
    }
    // The anchor's own constraints do not apply.
    let strict = go.members.iter().find(|facts| facts.policies && !std::ptr::eq(**facts, *anchor))?;
    Some(format!("{} constrains certificate policies, which outrigger does not evaluate", strict.label()))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
