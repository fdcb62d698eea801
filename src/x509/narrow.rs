//! The part of a CA bundle that a server needs.

use jiff::Timestamp;

use super::{Bundle, Host, Verdict, judge};

/// A bundle held against everything that one server shows.
#[derive(Clone, Debug, Default)]
pub struct Narrowed {
    /// The members that verify what the server shows now: several for a cross-signed chain, for an
    /// intermediate beside its root, and for a server that shows different chains at its addresses.
    pub bundle: Bundle,
    /// How many different members were left out.
    pub left_out: usize,
    /// The verdict of the whole bundle on each chain, in their order.
    pub verdicts: Vec<Verdict>,
}

impl Narrowed {
    /// The verdict on the first chain that can be connected with, else on the first that Go takes, else on
    /// the first of all.
    pub fn verdict(&self) -> Option<&Verdict> {
        let mut verdicts = self.verdicts.iter();
        let here = verdicts.clone().find(|verdict| verdict.accepted_here());
        here.or_else(|| verdicts.clone().find(|verdict| verdict.accepted)).or_else(|| verdicts.next())
    }
}

/// Judges the chains that a server shows and keeps of the bundle what verifies them: what Go accepts with
/// the whole bundle, it accepts with that part.
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
    // Go stops looking after a number of signatures, which a smaller bundle can only help. All the same
    // nothing is taken away on an argument: the part has to do as well as the whole.
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
