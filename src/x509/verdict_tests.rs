//! `tests/certificates.rs` compares the rules with Go; these tests cover reasons, warnings and the anchor.

use super::*;
use crate::x509::read_bundle;

const CA: &str = include_str!("../../tests/data/certificates/no-key-ids.ca.pem");
const CHAIN: &str = include_str!("../../tests/data/certificates/no-key-ids.chain.pem");
/// 2030-01-01, within the fixtures' validity.
const NOW: i64 = 1_893_456_000;
/// 2119-12-02, thirty days before the fixtures expire.
const NEAR_END: i64 = 4_733_510_400 - 30 * 86_400;

fn verdict(ca: &str, chain: &str, host: &str, now: i64) -> Verdict {
    let bundle = read_bundle(ca.as_bytes()).expect("a bundle");
    let chain = read_bundle(chain.as_bytes()).expect("a chain");
    let chain: Vec<Vec<u8>> = chain.certificates.iter().map(|one| one.der().to_vec()).collect();
    judge(&bundle, &chain, &Host::parse(host), Timestamp::from_second(now).expect("in range"))
}

#[test]
fn returns_the_anchor() {
    let verdict = verdict(CA, CHAIN, "10.0.0.1", NOW);
    assert!(verdict.accepted && verdict.why.is_empty() && verdict.warnings.is_empty(), "{verdict:?}");
    assert_eq!(verdict.anchor.as_ref().map(Certificate::subject), Some("CN=no-key-ids CA"));
    assert_eq!(verdict.not_here, None);
}

#[test]
fn warns_of_a_ca_that_expires_soon() {
    let verdict = verdict(CA, CHAIN, "10.0.0.1", NEAR_END);
    assert!(verdict.accepted);
    let [warning] = verdict.warnings.as_slice() else { panic!("{verdict:?}") };
    assert!(
        warning.starts_with("the CA \"CN=no-key-ids CA\"") && warning.ends_with("in 30 days"),
        "{warning}"
    );
}

#[test]
fn reports_all_reasons_at_once() {
    let verdict = verdict(CA, CHAIN, "other.example.com", 4_800_000_000);
    assert!(!verdict.accepted && verdict.anchor.is_none());
    let all = verdict.why.join("\n");
    assert!(all.contains("expired on") && all.contains("not for other.example.com"), "{all}");
    assert!(all.contains("api.example.com, 10.0.0.1"), "{all}");
    assert!(all.contains("CN=kube-apiserver") && all.contains("CN=no-key-ids CA"), "{all}");
}

#[test]
fn refuses_an_empty_or_malformed_chain() {
    let bundle = read_bundle(CA.as_bytes()).expect("a bundle");
    let verdict = judge(&bundle, &[], &Host::parse("x"), Timestamp::UNIX_EPOCH);
    assert_eq!(verdict.why, ["the server sent no certificate"]);
    let verdict = judge(&bundle, &[vec![0x30]], &Host::parse("x"), Timestamp::UNIX_EPOCH);
    assert!(verdict.why[0].contains("certificate 1 of the 1"), "{verdict:?}");
}

#[test]
fn reports_a_missing_ca() {
    let other = include_str!("../../tests/data/certificates/p-521-leaf.ca.pem");
    let verdict = verdict(other, CHAIN, "10.0.0.1", NOW);
    assert!(verdict.why[0].contains("neither in the bundle nor sent"), "{verdict:?}");
}

#[test]
fn limits_the_number_of_reasons() {
    let bundle = read_bundle(CA.as_bytes()).expect("a bundle");
    let chain = vec![vec![0x30]; 5000];
    let verdict = judge(&bundle, &chain, &Host::parse("x"), Timestamp::UNIX_EPOCH);
    assert!(!verdict.accepted && verdict.why.len() == 8, "{verdict:?}");
}
