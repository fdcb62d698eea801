use super::*;
use crate::x509::Certificate;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

struct Made {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["api.example.com".to_owned()]).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if ca {
        params.subject_alt_names.clear();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn root(name: &str) -> Made {
    let (params, key) = (params(name, true), KeyPair::generate().expect("a key"));
    let der = params.self_signed(&key).expect("a certificate").der().to_vec();
    Made { params, key, der }
}

fn signed(params: CertificateParams, key: KeyPair, by: &Made) -> Made {
    let issuer = Issuer::from_params(&by.params, &by.key);
    let der = params.signed_by(&key, &issuer).expect("a certificate").der().to_vec();
    Made { params, key, der }
}

fn child(name: &str, ca: bool, by: &Made) -> Made {
    signed(params(name, ca), KeyPair::generate().expect("a key"), by)
}

fn bundle(members: &[&Made]) -> Bundle {
    let certificates =
        members.iter().map(|made| Certificate::from_der(&made.der).expect("a certificate")).collect();
    Bundle { certificates, ..Bundle::default() }
}

/// The positions of the members that are kept for these chains, and the number of members left out.
fn kept(members: &[&Made], chains: &[&[&Made]]) -> (Vec<usize>, usize) {
    let chains: Vec<Vec<Vec<u8>>> =
        chains.iter().map(|chain| chain.iter().map(|made| made.der.clone()).collect()).collect();
    let chains: Vec<&[Vec<u8>]> = chains.iter().map(Vec::as_slice).collect();
    let host = Host::parse("api.example.com");
    let narrowed = narrow(&bundle(members), &chains, &host, Timestamp::now());
    let place = |one: &Certificate| members.iter().position(|made| made.der == one.der()).expect("a member");
    (narrowed.bundle.certificates.iter().map(place).collect(), narrowed.left_out)
}

#[test]
fn keeps_the_ca_that_verifies_at_any_position() {
    let [a, b, c] = ["a", "b", "c"].map(root);
    let leaf = child("server", false, &b);
    assert_eq!(kept(&[&a, &b, &c], &[&[&leaf]]), (vec![1], 2));
    assert_eq!(kept(&[&b, &b, &b], &[&[&leaf]]), (vec![0], 0), "duplicates count once");
    assert_eq!(kept(&[&b], &[&[&leaf]]), (vec![0], 0));
}

#[test]
fn keeps_the_signing_ca_of_a_rotation() {
    let (old, new) = (root("kubernetes"), root("kubernetes"));
    let (before, after) = (child("server", false, &old), child("server", false, &new));
    assert_eq!(kept(&[&old, &new], &[&[&before]]), (vec![0], 1));
    assert_eq!(kept(&[&old, &new], &[&[&after]]), (vec![1], 1));
    // Some servers of the name already use the new CA.
    assert_eq!(kept(&[&old, &new], &[&[&before], &[&after]]), (vec![0, 1], 0));
}

#[test]
fn keeps_all_roots_of_a_cross_signed_ca() {
    let (old, new, other) = (root("old root"), root("new root"), root("other"));
    let middle_key = KeyPair::generate().expect("a key");
    let same_key = KeyPair::from_pem(&middle_key.serialize_pem());
    let by_old = signed(params("middle", true), middle_key, &old);
    let by_new = signed(params("middle", true), same_key.expect("the key"), &new);
    let leaf = child("server", false, &by_old);
    let shown: &[&[&Made]] = &[&[&leaf, &by_old, &by_new]];
    assert_eq!(kept(&[&other, &new, &old], shown), (vec![1, 2], 1));
    // Without the second cross-certificate, the new root verifies nothing.
    assert_eq!(kept(&[&other, &new, &old], &[&[&leaf, &by_old]]), (vec![2], 2));
}

#[test]
fn keeps_an_intermediate_and_its_root_if_both_verify() {
    let top = root("root");
    let middle = child("middle", true, &top);
    let leaf = child("server", false, &middle);
    assert_eq!(kept(&[&top, &middle], &[&[&leaf, &middle]]), (vec![0, 1], 0));
    // Only the intermediate verifies a server that sends no intermediate.
    assert_eq!(kept(&[&top, &middle], &[&[&leaf]]), (vec![1], 1));
}

#[test]
fn keeps_the_ca_rather_than_a_server_certificate() {
    let ca = root("ca");
    let leaf = child("server", false, &ca);
    assert_eq!(kept(&[&leaf, &ca], &[&[&leaf]]), (vec![1], 1), "the CA is valid longer");
    assert_eq!(kept(&[&leaf], &[&[&leaf]]), (vec![0], 0));
}

#[test]
fn leaves_out_expired_members() {
    let key = KeyPair::generate().expect("a key");
    let mut old = params("ca", true);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let same_key = KeyPair::from_pem(&key.serialize_pem());
    let der = old.self_signed(&key).expect("a certificate").der().to_vec();
    let expired = Made { params: old, key, der };
    let renewed_params = params("ca", true);
    let key = same_key.expect("the key");
    let der = renewed_params.self_signed(&key).expect("a certificate").der().to_vec();
    let renewed = Made { params: renewed_params, key, der };
    let leaf = child("server", false, &renewed);
    assert_eq!(kept(&[&expired, &renewed], &[&[&leaf]]), (vec![1], 1));
}

#[test]
fn keeps_the_whole_bundle_if_nothing_verifies() {
    let (a, b, c) = (root("a"), root("b"), root("c"));
    let leaf = child("server", false, &c);
    assert_eq!(kept(&[&a, &b], &[&[&leaf]]), (vec![0, 1], 0));
}
