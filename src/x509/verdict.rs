//! Building chains as Go's `Certificate.Verify` does.

use jiff::Timestamp;

use super::parse::{Facts, Key, Usage, parse};
use super::{Bundle, Certificate, Host, signatures};

/// Go gives up after this many signatures: a hostile chain must not cost more.
const MAX_SIGNATURES: u32 = 100;
/// Go's TLS client refuses longer RSA keys in a served chain.
const MAX_RSA_BITS: usize = 8192;
/// So many reasons are given; a hostile chain could have thousands.
const MAX_REASONS: usize = 8;
/// A CA that expires sooner is worth a warning: replacing it takes a plan.
const WARN_DAYS: i64 = 90;

/// Whether the runner, a Go program with the bundle as its CA file, will trust the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Go accepts.
    pub accepted: bool,
    /// The member of the bundle the chain ends in, if accepted.
    pub anchor: Option<Certificate>,
    /// Every member of the bundle that verifies the chain, in the bundle's order and each once: what a
    /// smaller bundle has to hold. A server certificate that is a member itself is among them only where
    /// no CA of the bundle verifies it.
    pub needed: Vec<Certificate>,
    /// Why Go refuses, one sentence each, naming the certificate; empty if accepted.
    pub why: Vec<String>,
    /// The kinds of what is in `why`.
    pub faults: Vec<Fault>,
    /// Names that the server's certificate is for, where the dialled one is not among them.
    pub names: Vec<String>,
    /// Go accepts, but outrigger cannot connect: its TLS library lacks something. Why.
    pub not_here: Option<String>,
    /// What is fine today and will not stay so.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Whether this program, too, may and can connect.
    pub fn accepted_here(&self) -> bool {
        self.accepted && self.not_here.is_none()
    }
}

/// What is wrong with a chain, as far as the next thing to do depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The chain ends in no member of the bundle.
    UnknownCa,
    /// A certificate has expired.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is for other names.
    Name,
    /// The certificates themselves have to be others.
    Form,
}

/// Reasons and their kinds, each once.
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

/// Judges a served chain (DER, leaf first) as the runner will: roots are the bundle's members,
/// intermediates the rest of the chain, the usage is serverAuth.
///
/// Where the chain needs a signature that outrigger cannot check (see [`super::signatures`]), names and
/// key identifiers have to do, and `not_here` is set: such a verdict tells what Go does, and is no
/// ground for a connection. So is one whose certificate policies are constrained, which are not modelled.
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
    // Go stops at the first; a person wants them all.
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
    // To Go a member of the bundle needs no issuer; the ways to one matter for a smaller bundle only.
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
    // A chain whose every signature was checked says more than one that merely fits.
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

/// The names of those who issued the certificates of a chain, as they stand in them.
pub fn issuers(chain: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let served = chain.iter().filter_map(|der| parse(der).ok());
    served.map(|facts| facts.x509.issuer().as_raw().to_vec()).collect()
}

/// The bundle's members in which the usable chains end, each once.
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
    hints: Vec<(Fault, String)>,
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

/// Go's `isValid`: what is wrong with a certificate at its place, `below` CAs away from the leaf.
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
    /// Looks right, but outrigger cannot check this kind.
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
        // All that is left is the hint the issuer gave.
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

/// Why outrigger cannot make a connection that Go makes.
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
    // The anchor's own constraints bind nobody.
    let strict = go.members.iter().find(|facts| facts.policies && !std::ptr::eq(**facts, *anchor))?;
    Some(format!("{} constrains certificate policies, which outrigger does not evaluate", strict.label()))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
