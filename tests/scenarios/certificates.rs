//! Certificates as people have them: GitLab's, judged by the rules of the runner and not by those of a
//! library; and CA files that hold more than what verifies the server.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_doubles::gitlab::{Options, PROJECT};
use outrigger_doubles::wire::Identity;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

use super::Scene;
use super::input::refused;
use crate::common::bed::{Bed, User};
use crate::common::forge::{Forged, ca_params, issued, self_signed};
use crate::common::front::local_params;
use crate::common::run::Cli;
use crate::common::site::Site;
use crate::common::world::{assert_same, world};

/// Words of libraries, which nobody should have to read.
const DEBUG_TEXT: [&str; 5] =
    ["CaUsedAsEndEntity", "OtherError", "InvalidCertificate", "UnsupportedSignature", "UnknownIssuer"];

/// A server of `tests/data/certificates`: who it is, and its CA.
macro_rules! local_fixture {
    ($name:literal) => {{
        use rustls::pki_types::pem::PemObject as _;
        let read = |pem: &[u8]| outrigger::internal::read_bundle(pem).expect("a fixture").certificates;
        let chain = include_bytes!(concat!("../data/certificates/local-", $name, ".chain.pem"));
        let key = include_bytes!(concat!("../data/certificates/local-", $name, ".key.pem"));
        let ca = include_str!(concat!("../data/certificates/local-", $name, ".ca.pem")).to_owned();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(key).expect("a fixture's key");
        let chain = read(chain).iter().map(|one| one.der().to_vec()).collect();
        (outrigger_doubles::wire::Identity { chain, key: key.secret_pkcs8_der().to_vec() }, ca)
    }};
}

pub(super) use local_fixture;

fn identity(chain: &[&Forged]) -> Identity {
    Identity { chain: chain.iter().map(|one| one.der.clone()).collect(), key: chain[0].key.serialize_der() }
}

fn site(identity: Identity) -> Site {
    Site::with(Options { identity: Some(identity), ..Options::default() })
}

/// A command on that GitLab, with this CA file.
fn on<'a>(scene: &'a Scene<'a>, command: Cli<'a>, site: &Site, ca: Option<&Path>) -> Cli<'a> {
    let secret = site.gitlab.token("maintainer");
    scene.home.canary(&secret);
    let command = command
        .flag("--gitlab-url", site.gitlab.url())
        .flag("--gitlab-token-file", scene.home.input("maintainer.token", &secret))
        .flag("--project", PROJECT);
    match ca {
        Some(ca) => command.flag("--gitlab-ca-file", ca),
        None => command,
    }
}

fn script(scene: &Scene<'_>) -> String {
    fs::read_to_string(scene.home.script(&scene.deployment)).expect("a script")
}

/// A server certificate with something about it.
fn leaf(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = local_params();
    change(&mut params);
    params
}

/// A CA with something about it, and a server certificate of it.
fn under(change: impl FnOnce(&mut CertificateParams)) -> (Forged, Forged) {
    let mut params = ca_params("Corporate CA");
    change(&mut params);
    let ca = self_signed(params);
    let server = issued(local_params(), &ca);
    (server, ca)
}

/// What the runner takes, outrigger takes: above all the certificate that is its own CA, as openssl makes it.
pub fn accepted(bed: &dyn Bed) {
    let ca = self_signed(ca_params("Corporate CA"));
    let any = issued(leaf(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), &ca);
    let marked = issued(leaf(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), &ca);
    let pinned = issued(local_params(), &ca);
    for (what, (identity, ca)) in [
        ("openssl's default", local_fixture!("openssl-default")),
        ("a P-521 root and key", local_fixture!("p-521")),
        ("ECDSA with SHA-512", local_fixture!("p-384-sha-512")),
        ("usage any", (identity(&[&any]), ca.pem())),
        ("a CA's certificate as the server's", (identity(&[&marked]), ca.pem())),
        ("the server's own instead of the CA", (identity(&[&pinned]), pinned.pem())),
    ] {
        let (scene, site) = (Scene::new(bed, User::Admin), site(identity));
        let file = scene.home.input("ca.pem", &ca);
        let (before, gitlab_before) = (world(bed.admin()), site.world());
        let _ = on(&scene, scene.command("setup"), &site, Some(&file)).run().code(0).says("runner");
        scene.watch_cluster_token();
        assert_eq!(site.gitlab.runners().len(), 1, "{what}: the runner is made");
        assert!(script(&scene).contains(ca.trim_end()), "{what}: the machine gets the CA");
        let _ = on(&scene, scene.status(), &site, Some(&file)).run();
        let _ = on(&scene, scene.teardown(), &site, Some(&file)).run().code(0).says("read back: gone");
        assert_same(what, &before, &world(bed.admin()));
        assert_eq!(gitlab_before, site.world(), "{what}");
    }
}

/// What the runner refuses is refused, in words, with the next thing to do; nothing is sent, nothing changed.
pub fn refuses(bed: &dyn Bed) {
    type Row<'a> = (&'a str, Identity, Option<String>, &'a str);
    let ca = self_signed(ca_params("Corporate CA"));
    let other = self_signed(ca_params("Another CA"));
    let of_ca = |change: fn(&mut CertificateParams)| identity(&[&issued(leaf(change), &ca)]);
    let whole = |change: fn(&mut CertificateParams)| {
        let (server, ca) = under(change);
        (identity(&[&server]), Some(ca.pem()))
    };
    let own = self_signed(local_params());
    let (expired_ca, expired_ca_file) = whole(|ca| ca.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let (no_ca, no_ca_file) = whole(|ca| ca.is_ca = IsCa::NoCa);
    let (no_usage, no_usage_file) = whole(|ca| ca.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let known = Some(ca.pem());
    let rows: [Row<'_>; 10] = [
        (
            "neither in the bundle nor sent",
            of_ca(|_| {}),
            Some(other.pem()),
            "does not contain the CA that signed it",
        ),
        ("neither in the bundle nor sent", of_ca(|_| {}), None, "--gitlab-ca-file PATH"),
        ("self-signed and not in the bundle", identity(&[&own]), None, "--gitlab-ca-file PATH"),
        (
            "expired on",
            of_ca(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            known.clone(),
            "renewed",
        ),
        (
            "valid only from",
            of_ca(|leaf| leaf.not_before = rcgen::date_time_ymd(4000, 1, 1)),
            known.clone(),
            "clock",
        ),
        (
            "is not for 127.0.0.1",
            of_ca(|leaf| leaf.subject_alt_names = vec![crate::common::forge::dns("gitlab.example.com")]),
            known.clone(),
            "--gitlab-url https://gitlab.example.com",
        ),
        (
            "no DNS name and no IP address",
            of_ca(|leaf| leaf.subject_alt_names = Vec::new()),
            known,
            "common name",
        ),
        ("expired on", expired_ca, expired_ca_file, "renewed"),
        ("no basicConstraints", no_ca, no_ca_file, "reissued"),
        ("key usage", no_usage, no_usage_file, "reissued"),
    ];
    for (words, identity, ca, next) in rows {
        let (scene, site) = (Scene::new(bed, User::Admin), site(identity));
        let file: Option<PathBuf> = ca.map(|ca| scene.home.input("ca.pem", &ca));
        let setup = on(&scene, scene.command("setup"), &site, file.as_deref());
        if words == "is not for 127.0.0.1" {
            setup.fails("OR0313");
        }
        let output = refused(bed, &scene.home, &setup, 3);
        let mut output = output.says("OR0313").says(words).says(next).says("gitlab-runner");
        for text in DEBUG_TEXT {
            output = output.never_says(text);
        }
        assert!(site.gitlab.credentials().is_empty(), "a credential was sent\n{output}");
    }
}

/// The runner connects and outrigger cannot: that has a name of its own, and a way on that works.
pub fn only_the_runner(bed: &dyn Bed) {
    let (identity, ca) = local_fixture!("rsa-1024-root");
    let (scene, site) = (Scene::new(bed, User::Admin), site(identity));
    let file = scene.home.input("ca.pem", &ca);
    let setup = on(&scene, scene.command("setup"), &site, Some(&file));
    setup.fails("OR0330");
    let output = refused(bed, &scene.home, &setup, 3).says("RSA-1024");
    let _ = output.says("gitlab-runner").says("curl").says("--runner-token-file");
    assert!(site.gitlab.credentials().is_empty());
    // The way on: a runner that somebody made by hand.
    let setup = scene
        .command("setup")
        .flag("--gitlab-url", site.gitlab.url())
        .flag("--gitlab-ca-file", &file)
        .flag("--runner-token-file", scene.home.runner_token());
    let _ = setup.run().code(0);
    assert!(script(&scene).contains(ca.trim_end()));
}

/// A given runner's token needs no connection of ours to GitLab; what the runner will say of the certificate
/// is said all the same.
pub fn with_a_given_runner(bed: &dyn Bed) {
    let (server, ca) = under(|_| {});
    let other = self_signed(ca_params("Another CA"));
    for (ca, refused) in [(ca.pem(), false), (other.pem(), true)] {
        let (scene, site) = (Scene::new(bed, User::Admin), site(identity(&[&server])));
        let setup = scene
            .command("setup")
            .flag("--gitlab-url", site.gitlab.url())
            .flag("--gitlab-ca-file", scene.home.input("ca.pem", &ca))
            .flag("--runner-token-file", scene.home.runner_token());
        let output = setup.arg("--dry-run").run().code(0);
        if refused {
            let _ = output
                .says("gitlab-runner will reject its certificate")
                .says("neither in the bundle nor sent");
        } else {
            let _ = output.never_says("refuse");
        }
    }
}

/// Others of the same kind as a server's CA, to fill a bundle with.
fn strangers(count: usize) -> Vec<String> {
    (0..count).map(|number| self_signed(ca_params(&format!("stranger {number}"))).pem()).collect()
}

fn with_ca(scene: &Scene<'_>, ca: &str) -> PathBuf {
    let mut config: Value = serde_yaml::from_str(&scene.bed.kubeconfig(User::Admin)).expect("it parses");
    config["clusters"][0]["cluster"]["certificate-authority-data"] = json!(STANDARD.encode(ca));
    let yaml = serde_yaml::to_string(&config).expect("it is plain data");
    scene.home.kubeconfig("bundle.kubeconfig", &yaml)
}

/// A kubeconfig with the CAs of half a dozen things, as `OpenShift`'s: the machine gets the one that verifies
/// the endpoint, and the script fits where it should.
pub fn bundles(bed: &dyn Bed) {
    let right = bed.ca_pem();
    for count in [2, 3, 4, 5, 8] {
        let scene = Scene::new(bed, User::Admin);
        let config = with_ca(&scene, &(strangers(count - 1).concat() + &right));
        let printed = scene.command("extract-ca").flag("--kubeconfig", &config).run().code(0);
        let canonical = outrigger::internal::read_bundle(right.as_bytes()).expect("PEM").to_pem();
        assert_eq!(printed.stdout(), canonical, "{count}\n{printed}");
        let left_out = match count - 1 {
            1 => "1 other certificate".to_owned(),
            others => format!("{others} other certificates"),
        };
        let plan = scene.setup().flag("--kubeconfig", &config).arg("--dry-run").run().code(0);
        let _ = plan.says(&left_out);
        let setup = scene.setup().flag("--kubeconfig", &config);
        let _ = setup.run().code(0);
        let script = script(&scene);
        assert_eq!(script.matches("BEGIN CERTIFICATE").count(), 1, "{count}");
        assert!(script.contains(canonical.trim_end()));
        let _ = setup.run().code(0).says("Nothing to change");
        let _ = scene.status().flag("--kubeconfig", &config).run().code(0);
    }
}

/// The same for GitLab: a whole company's CA file need not travel.
pub fn gitlab_bundles(bed: &dyn Bed) {
    let (server, ca) = under(|_| {});
    let (scene, site) = (Scene::new(bed, User::Admin), site(identity(&[&server])));
    let mut members = strangers(8);
    members.insert(4, ca.pem());
    members.push(ca.pem());
    let file = scene.home.input("ca.pem", &members.concat());
    let setup = on(&scene, scene.command("setup"), &site, Some(&file));
    let _ = setup.run().code(0).says("8 other certificates");
    let script = script(&scene);
    assert!(script.contains(ca.pem().trim_end()));
    let of_cluster = outrigger::internal::read_bundle(bed.ca_pem().as_bytes()).expect("PEM");
    assert_eq!(script.matches("BEGIN CERTIFICATE").count(), 1 + of_cluster.certificates.len());
    let _ = setup.run().code(0).says("Nothing to change");
}
