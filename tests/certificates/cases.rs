//! The table: every input on which Go and rustls, or hope and truth, differ.

use outrigger::internal::read_bundle;
use rcgen::{
    BasicConstraints, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose,
    NameConstraints, SerialNumber, date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::forge::{
    ADDRESS, Forged, NAME, ca_params, dns, extension, field, issued, leaf_params, params, pem, self_signed,
    tlv, unknown_extension, uri, version_1, without_extension,
};

/// What our verdict must be.
#[derive(Clone, Copy)]
pub enum Expect {
    /// Go and we connect.
    Accepted,
    /// Go connects, we do not; words of the reason.
    NotHere(&'static str),
    /// Go refuses; words of the reason.
    Refused(&'static str),
    /// Not even a bundle; words of the fault.
    Fault(&'static str),
}

pub struct Case {
    pub name: &'static str,
    /// The CA file as somebody hands it to us.
    pub ca: Vec<u8>,
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key (PKCS#8), for a real handshake in Go.
    pub key: Option<Vec<u8>>,
    pub host: &'static str,
    pub expect: Expect,
    /// Go refuses `ca` as it stands, although it accepts what we make of it.
    pub mended: bool,
}

fn case(name: &'static str, ca: impl Into<Vec<u8>>, chain: &[&Forged], expect: Expect) -> Case {
    Case {
        name,
        ca: ca.into(),
        chain: chain.iter().map(|one| one.der.clone()).collect(),
        key: chain.first().map(|leaf| leaf.key.serialize_der()),
        host: NAME,
        expect,
        mended: false,
    }
}

/// A chain that ring could not sign, from `tests/data/certificates`.
macro_rules! fixture {
    ($name:expr, $expect:expr) => {
        Case {
            name: concat!("fixture-", $name),
            ca: include_bytes!(concat!("../data/certificates/", $name, ".ca.pem")).to_vec(),
            chain: served(include_bytes!(concat!("../data/certificates/", $name, ".chain.pem"))),
            key: None,
            host: ADDRESS,
            expect: $expect,
            mended: false,
        }
    };
}

/// The same with the server's key.
macro_rules! local {
    ($name:literal, $expect:expr) => {{
        let key = include_bytes!(concat!("../data/certificates/local-", $name, ".key.pem"));
        let key = PrivatePkcs8KeyDer::from_pem_slice(key).expect("a fixture's key");
        let case = fixture!(concat!("local-", $name), $expect);
        Case { key: Some(key.secret_pkcs8_der().to_vec()), ..case }
    }};
}

fn served(pem: &[u8]) -> Vec<Vec<u8>> {
    let bundle = read_bundle(pem).expect("a fixture");
    bundle.certificates.iter().map(|one| one.der().to_vec()).collect()
}

/// A CA made with `change`, and the verdict on an ordinary leaf it issued.
fn ca_case(name: &'static str, expect: Expect, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Case {
    let mut params = ca_params("kubernetes");
    change(&mut params);
    let ca = self_signed(params);
    let leaf = issued(leaf_params(), &ca);
    case(name, ca.pem(), &[&leaf], expect)
}

/// A leaf made with `change`, under an ordinary CA.
fn leaf_case(name: &'static str, expect: Expect, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Case {
    let ca = self_signed(ca_params("kubernetes"));
    let mut params = leaf_params();
    change(&mut params);
    let leaf = issued(params, &ca);
    case(name, ca.pem(), &[&leaf], expect)
}

/// An intermediate made with `change`, between an ordinary root and leaf.
fn middle_case(
    name: &'static str,
    expect: Expect,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> Case {
    let root = self_signed(ca_params("root"));
    let mut params = ca_params("intermediate");
    change(&mut params);
    let middle = issued(params, &root);
    let leaf = issued(leaf_params(), &middle);
    case(name, root.pem(), &[&leaf, &middle], expect)
}

/// A chain in which a certificate policy has to be stated (requireExplicitPolicy), and is.
fn policies_case() -> Case {
    let policy = || {
        let policy = tlv(0x30, &tlv(0x06, &[0x2a, 0x03]));
        extension(&[2, 5, 29, 32], false, &tlv(0x30, &policy))
    };
    let root = self_signed(ca_params("root"));
    let middle = issued(
        {
            let mut ca = ca_params("intermediate");
            let required = extension(&[2, 5, 29, 36], true, &tlv(0x30, &[0x80, 0x01, 0x00]));
            ca.custom_extensions = vec![policy(), required];
            ca
        },
        &root,
    );
    let mut leaf = leaf_params();
    leaf.custom_extensions = vec![policy()];
    let leaf = issued(leaf, &middle);
    case("explicit-policy", root.pem(), &[&leaf, &middle], Expect::NotHere("certificate policies"))
}

fn constraints(permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>) -> NameConstraints {
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

const NO_BIT_STRING: &[u8] = &[0x05, 0x00];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

pub fn all() -> Vec<Case> {
    use Expect::{Accepted, NotHere, Refused};
    let mut cases = vec![
        // The CA itself.
        ca_case("plain", Accepted, |_| {}),
        ca_case("ca-expired", Refused("expired on"), |ca| ca.not_after = date_time_ymd(2020, 1, 1)),
        ca_case("ca-not-yet-valid", Refused("valid only from"), |ca| {
            ca.not_before = date_time_ymd(4000, 1, 1);
        }),
        ca_case("ca-without-basic-constraints", Refused("no basicConstraints"), |ca| ca.is_ca = IsCa::NoCa),
        ca_case("ca-false", Refused("CA:FALSE"), |ca| ca.is_ca = IsCa::ExplicitNoCa),
        ca_case("ca-key-usage-without-cert-sign", Refused("key usage"), |ca| {
            ca.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }),
        ca_case("ca-without-key-usage", Accepted, |ca| ca.key_usages = Vec::new()),
        ca_case("ca-usage-client-only", Refused("leaves serverAuth out"), |ca| {
            ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        ca_case("ca-usage-any", Accepted, |ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        ca_case("ca-unknown-critical-extension", Refused("critical extension"), |ca| {
            ca.custom_extensions = vec![unknown_extension(true)];
        }),
        ca_case("ca-unknown-extension", Accepted, |ca| ca.custom_extensions = vec![unknown_extension(false)]),
        ca_case("ca-path-length-0", Accepted, |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        ca_case("ca-serial-0", Accepted, |ca| ca.serial_number = Some(SerialNumber::from_slice(&[0]))),
        ca_case("ca-serial-23-bytes", Accepted, |ca| {
            ca.serial_number = Some(SerialNumber::from_slice(&[7; 23]));
        }),
        ca_case("ca-key-id-critical", Refused("no certificate that Go can load"), |ca| {
            ca.is_ca = IsCa::NoCa;
            ca.custom_extensions = vec![extension(&[2, 5, 29, 14], true, &[0x04, 0x01, 0x01])];
        })
        .fault(),
        // Name constraints.
        ca_case("permitted-names", Accepted, |ca| {
            let network = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8));
            ca.name_constraints =
                Some(constraints(vec![GeneralSubtree::DnsName("example.com".into()), network], vec![]));
        }),
        ca_case("name-not-permitted", Refused("constrains names"), |ca| {
            ca.name_constraints =
                Some(constraints(vec![GeneralSubtree::DnsName("example.org".into())], vec![]));
        }),
        ca_case("name-excluded", Refused("constrains names"), |ca| {
            ca.name_constraints =
                Some(constraints(vec![], vec![GeneralSubtree::DnsName("example.com".into())]));
        }),
        ca_case("address-not-permitted", Refused("constrains names"), |ca| {
            let network = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([192, 168, 0, 0], 16));
            ca.name_constraints = Some(constraints(vec![network], vec![]));
        }),
        ca_case("constraint-of-unknown-kind", Refused("critical extension"), |ca| {
            let directory = GeneralSubtree::DirectoryName(params("x").distinguished_name);
            ca.name_constraints = Some(constraints(vec![], vec![directory]));
        }),
        leaf_case("leaf-unknown-critical-extension", Refused("critical extension"), |leaf| {
            leaf.custom_extensions = vec![unknown_extension(true)];
        }),
        // The leaf.
        leaf_case("leaf-expired", Refused("expired on"), |leaf| leaf.not_after = date_time_ymd(2020, 1, 1)),
        leaf_case("leaf-ca-true", Accepted, |leaf| {
            leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        leaf_case("leaf-usage-any", Accepted, |leaf| {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        }),
        leaf_case("leaf-usage-any-and-server", Accepted, |leaf| {
            leaf.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::ServerAuth];
        }),
        leaf_case("leaf-without-usage", Accepted, |leaf| leaf.extended_key_usages = Vec::new()),
        leaf_case("leaf-client-only", Refused("leaves serverAuth out"), |leaf| {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        leaf_case("leaf-common-name-only", Refused("is not for api.example.com"), |leaf| {
            leaf.subject_alt_names = Vec::new();
            leaf.distinguished_name = params(NAME).distinguished_name;
        }),
        leaf_case("leaf-name-mismatch", Refused("is not for"), |leaf| {
            leaf.subject_alt_names = vec![dns("other.example.com")];
        }),
        leaf_case("leaf-address-as-dns-name", Refused("is not for"), |leaf| {
            leaf.subject_alt_names = vec![dns(ADDRESS)];
        })
        .host(ADDRESS),
        leaf_case("leaf-address", Accepted, |_| {}).host(ADDRESS),
        leaf_case("leaf-other-address", Refused("is not for"), |_| {}).host("10.0.0.2"),
        leaf_case("leaf-wildcard", Accepted, |leaf| leaf.subject_alt_names = vec![dns("*.example.com")]),
        leaf_case("leaf-wildcard-two-labels", Refused("is not for"), |leaf| {
            leaf.subject_alt_names = vec![dns("*.com")];
        }),
        leaf_case("leaf-serial-0", Accepted, |leaf| {
            leaf.serial_number = Some(SerialNumber::from_slice(&[0]));
        }),
        leaf_case("leaf-uri-without-constraints", Accepted, |leaf| leaf.subject_alt_names.push(uri("urn:x"))),
        leaf_case("leaf-address-of-three-bytes", Refused("cannot read certificate 1"), |leaf| {
            leaf.subject_alt_names = Vec::new();
            let names = tlv(0x30, &tlv(0x87, &[10, 0, 0]));
            leaf.custom_extensions = vec![extension(SUBJECT_ALT_NAME, false, &names)];
        }),
        // Intermediates.
        middle_case("intermediate", Accepted, |_| {}),
        middle_case("intermediate-without-basic-constraints", Refused("no basicConstraints"), |ca| {
            ca.is_ca = IsCa::NoCa;
        }),
        middle_case("intermediate-expired", Refused("expired on"), |ca| {
            ca.not_after = date_time_ymd(2020, 1, 1);
        }),
        middle_case("intermediate-client-only", Refused("leaves serverAuth out"), |ca| {
            ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        middle_case("intermediate-usage-any", Accepted, |ca| {
            ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        }),
        middle_case("intermediate-inhibits-any-policy", Accepted, |ca| {
            ca.custom_extensions = vec![extension(&[2, 5, 29, 54], true, &[0x02, 0x01, 0x00])];
        }),
        policies_case(),
        // What ring cannot sign.
        fixture!("rsa-1024-root", NotHere("RSA-1024")),
        fixture!("rsa-1024-leaf", NotHere("RSA key of 1024 bits")),
        fixture!("p-521-root", Accepted),
        fixture!("p-521-leaf", Accepted),
        fixture!("ecdsa-sha-512", Accepted),
        fixture!("sha-1-leaf", Refused("SHA-1")),
        fixture!("no-key-ids", Accepted),
        // As openssl makes them when it is not told otherwise, with keys for a handshake.
        local!("openssl-default", Accepted),
        local!("p-521", Accepted),
        local!("p-384-sha-512", Accepted),
        local!("rsa-1024-root", NotHere("RSA-1024")),
    ];
    cases.extend(forged());
    cases.extend(anchors());
    cases.extend(texts());
    cases
}

/// What rcgen cannot make.
fn forged() -> Vec<Case> {
    use Expect::{Accepted, Refused};
    let negative = |fields: &mut Vec<Vec<u8>>| fields[field::SERIAL] = tlv(0x02, &[0x81, 0x02, 0x03]);
    let plain = self_signed(ca_params("kubernetes"));
    let negative_ca = self_signed(ca_params("kubernetes")).edited(None, negative);
    let under_negative = issued(leaf_params(), &negative_ca);
    let negative_leaf = issued(leaf_params(), &plain).edited(Some(&plain.key), negative);
    let v1_root = self_signed(params("kubernetes")).edited(None, version_1);
    let under_v1 = issued(leaf_params(), &v1_root);
    let v1_middle = issued(params("intermediate"), &plain).edited(Some(&plain.key), version_1);
    let under_v1_middle = issued(leaf_params(), &v1_middle);
    let bare_ca = self_signed(ca_params("kubernetes")).edited(None, without_extension(&[0x55, 0x1d, 0x0e]));
    let under_bare = issued(leaf_params(), &bare_ca);
    let twice = self_signed({
        let mut ca = ca_params("kubernetes");
        ca.custom_extensions = vec![unknown_extension(false), unknown_extension(false)];
        ca
    });
    let under_twice = issued(leaf_params(), &twice);
    // Another CA of the same name and key identifiers that do not fit.
    let impostor = self_signed(ca_params("kubernetes"));
    let genuine = issued(leaf_params(), &plain);
    vec![
        case(
            "ca-serial-negative",
            negative_ca.pem(),
            &[&under_negative],
            Expect::Fault("serial number is negative"),
        ),
        case("leaf-serial-negative", plain.pem(), &[&negative_leaf], Refused("serial number is negative")),
        case("root-version-1", v1_root.pem(), &[&under_v1], Accepted),
        case(
            "intermediate-version-1",
            plain.pem(),
            &[&under_v1_middle, &v1_middle],
            Refused("not marked as a CA"),
        ),
        case("ca-without-key-id", bare_ca.pem(), &[&under_bare], Accepted),
        case("ca-extension-twice", twice.pem(), &[&under_twice], Expect::Fault("there twice")),
        case("another-ca-of-that-name", impostor.pem(), &[&genuine], Refused("did not sign")),
        case("two-cas-of-that-name", impostor.pem() + &plain.pem(), &[&genuine], Accepted),
        case(
            "unreadable-extra-certificate",
            plain.pem(),
            &[&genuine, &negative_ca],
            Refused("certificate 2 of the 2"),
        ),
        case("unrelated-extra-certificate", plain.pem(), &[&genuine, &impostor], Accepted),
        case("root-sent-along", plain.pem(), &[&genuine, &plain], Accepted),
    ]
}

/// Which member of the chain the bundle holds.
fn anchors() -> Vec<Case> {
    use Expect::{Accepted, Refused};
    let root = self_signed(ca_params("root"));
    let middle = issued(ca_params("intermediate"), &root);
    let leaf = issued(leaf_params(), &middle);
    let own = self_signed(leaf_params());
    let own_ca = self_signed({
        let mut params = leaf_params();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    });
    let expired_own = self_signed({
        let mut params = leaf_params();
        params.not_after = date_time_ymd(2020, 1, 1);
        params
    });
    let short_root = self_signed({
        let mut params = ca_params("short");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params
    });
    let too_deep = issued(ca_params("too deep"), &short_root);
    let under_too_deep = issued(leaf_params(), &too_deep);
    // One CA under two roots, one of which has expired: any one good way is enough.
    let expired_root = self_signed({
        let mut params = ca_params("old root");
        params.not_after = date_time_ymd(2020, 1, 1);
        params
    });
    vec![
        case("self-signed-leaf-as-anchor", own.pem(), &[&own], Accepted),
        case("self-signed-leaf-ca-true-as-anchor", own_ca.pem(), &[&own_ca], Accepted),
        case("self-signed-leaf-expired", expired_own.pem(), &[&expired_own], Refused("expired on")),
        case("self-signed-leaf-unknown", root.pem(), &[&own], Refused("self-signed and not in the bundle")),
        case("issued-leaf-as-anchor", leaf.pem(), &[&leaf], Accepted),
        case("issued-leaf-and-its-ca-as-anchors", leaf.pem() + &middle.pem(), &[&leaf], Accepted),
        case("intermediate-as-anchor", middle.pem(), &[&leaf], Accepted),
        case("intermediate-missing", root.pem(), &[&leaf], Refused("neither in the bundle nor sent")),
        case("path-too-long", short_root.pem(), &[&under_too_deep, &too_deep], Refused("path length")),
        case("good-and-expired-anchor", expired_root.pem() + &root.pem(), &[&leaf, &middle], Accepted),
    ]
}

/// The same chain under CA files of many shapes.
fn texts() -> Vec<Case> {
    use Expect::{Accepted, Fault};
    let ca = self_signed(ca_params("kubernetes"));
    let other = self_signed(ca_params("other"));
    let leaf = issued(leaf_params(), &ca);
    let (good, more) = (ca.pem(), other.pem());
    let indented: String = good.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    let file = |name, text: String, expect| case(name, text, &[&leaf], expect);
    vec![
        file("pem-crlf", good.replace('\n', "\r\n"), Accepted),
        file("pem-text-around", format!("kubernetes\n{good}more text\n{more}the end"), Accepted),
        file("pem-garbage-member", format!("{}{good}", pem(b"garbage")), Accepted),
        file("pem-no-line-break-between", format!("{}{more}", good.trim_end()), Accepted).mended(),
        file("pem-indented", indented, Accepted).mended(),
        file("pem-empty", String::new(), Fault("is empty")),
        file("pem-only-text", "kubernetes".to_owned(), Fault("no PEM block")),
        file("pem-trusted", good.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), Fault("TRUSTED CERTIFICATE")),
        file("pem-truncated", good[..good.len() / 2].to_owned(), Fault("cut off")),
        file("pem-unknown-ca", more, Expect::Refused("neither in the bundle nor sent")),
        case("pem-der", ca.der.clone(), &[&leaf], Fault("binary DER")),
        leaf_case("leaf-certificate-policies", Accepted, |leaf| {
            let policy = tlv(0x30, &tlv(0x06, &[0x2a, 0x03]));
            leaf.custom_extensions = vec![extension(&[2, 5, 29, 32], false, &tlv(0x30, &policy))];
        }),
        leaf_case("leaf-malformed-key-usage", Expect::Refused("cannot read certificate 1"), |leaf| {
            leaf.key_usages = Vec::new();
            leaf.custom_extensions = vec![extension(&[2, 5, 29, 15], true, NO_BIT_STRING)];
        }),
    ]
}

impl Case {
    fn host(mut self, host: &'static str) -> Self {
        self.host = host;
        self
    }

    fn mended(mut self) -> Self {
        self.mended = true;
        self
    }

    /// Turns the expected refusal into a fault of the bundle.
    fn fault(mut self) -> Self {
        if let Expect::Refused(words) = self.expect {
            self.expect = Expect::Fault(words);
        }
        self
    }
}
