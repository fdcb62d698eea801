//! The part of a CA bundle that a server needs.

use jiff::Timestamp;

use super::{Bundle, Host, Verdict, judge};

/// A bundle reduced to the members that one server needs.
#[derive(Clone, Debug, Default)]
pub struct Narrowed {
    /// The members that verify the server's current chains: several for a cross-signed chain, for an
    /// intermediate with its root, and for a server with different chains at its addresses.
    pub bundle: Bundle,
    /// The number of different members left out.
    pub left_out: usize,
    /// The verdict with the whole bundle on each chain, in the order of the chains.
    pub verdicts: Vec<Verdict>,
}

impl Narrowed {
    /// The verdict on the first chain that outrigger accepts, else on the first that Go accepts, else on the
    /// first chain.
    pub fn verdict(&self) -> Option<&Verdict> {
        let mut verdicts = self.verdicts.iter();
        let here = verdicts.clone().find(|verdict| verdict.accepted_here());
        here.or_else(|| verdicts.clone().find(|verdict| verdict.accepted)).or_else(|| verdicts.next())
    }
}

/// Judges a server's chains and keeps the members of the bundle that verify them. Go accepts the same chains with
/// the reduced bundle as with the whole bundle.
pub fn narrow(bundle: &Bundle, chains: &[&[Vec<u8>]], host: &Host, now: Timestamp) -> Narrowed {
    let verdicts: Vec<Verdict> = chains.iter().map(|chain| judge(bundle, chain, host, now)).collect();
    let mut distinct = Bundle { dropped: bundle.dropped.clone(), ..Bundle::default() };
    for certificate in &bundle.certificates {
        if !distinct.certificates.contains(certificate) {
            distinct.certificates.push(certificate.clone());
        }
    }
    let mut part = distinct.clone();
    part.certificates
        .retain(|certificate| verdicts.iter().any(|verdict| verdict.needed.contains(certificate)));
    // Go stops after a number of signatures, which a smaller bundle reaches later. Nevertheless the reduced
    // bundle is used only if its verdicts are the same.
    let as_good = chains.iter().zip(&verdicts).all(|(chain, whole)| {
        let verdict = judge(&part, chain, host, now);
        verdict.accepted == whole.accepted && verdict.accepted_here() == whole.accepted_here()
    });
    let kept = if as_good && !part.certificates.is_empty() { part } else { distinct.clone() };
    Narrowed { left_out: distinct.certificates.len() - kept.certificates.len(), bundle: kept, verdicts }
}

#[cfg(test)]
#[path = "narrow_tests.rs"]
mod tests;
