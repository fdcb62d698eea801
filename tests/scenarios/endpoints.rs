//! The endpoint that the runner will dial, and the CA that verifies it.
//!
//! `tests/certificates.rs` holds the verdicts against Go, row by row; here the whole program meets some of
//! those rows on a server.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

use super::Scene;
use super::certificates::local_fixture;
use super::input::refused;
use crate::common::bed::{Bed, User};
use crate::common::forge::{ca_params, issued, pem, self_signed};
use crate::common::front::{self, local_params};
use crate::common::run::{Cli, Output};
use crate::common::world::{assert_same, world};

/// The administrator's kubeconfig with another cluster in it.
fn kubeconfig(scene: &Scene<'_>, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut config: Value = serde_yaml::from_str(&scene.bed.kubeconfig(User::Admin)).expect("it parses");
    change(&mut config["clusters"][0]["cluster"]);
    let yaml = serde_yaml::to_string(&config).expect("it is plain data");
    scene.home.kubeconfig("endpoint.kubeconfig", &yaml)
}

fn at(scene: &Scene<'_>, url: &str, ca: &str) -> PathBuf {
    kubeconfig(scene, |cluster| {
        *cluster = json!({"server": url, "certificate-authority-data": STANDARD.encode(ca)});
    })
}

fn script(scene: &Scene<'_>) -> String {
    fs::read_to_string(scene.home.script(&scene.deployment)).expect("a script")
}

/// webpki would connect, Go would not: the runner would stand still in its first job, and kubectl refuses, too.
pub fn refused_by_the_runner(bed: &dyn Bed) {
    type Change = fn(&mut CertificateParams);
    let rows: [(&str, Change); 4] = [
        ("expired on", |ca| ca.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        ("no basicConstraints", |ca| ca.is_ca = IsCa::NoCa),
        ("key usage", |ca| ca.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        ("leaves serverAuth out", |ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ];
    for (words, change) in rows {
        let scene = Scene::new(bed, User::Admin);
        let mut params = ca_params("kubernetes");
        change(&mut params);
        let ca = self_signed(params);
        let url = front::serve(bed, &[&issued(local_params(), &ca)], false);
        let setup = scene.setup().flag("--kubeconfig", at(&scene, &url, &ca.pem()));
        let output = refused(bed, &scene.home, &setup, 3)
            .says("OR0303")
            .says(words)
            .says("the runner refuses it for the same reason");
        assert!(bed.requests().is_empty(), "{output}");
        // The same where it is the runner's endpoint alone.
        let both = kubeconfig(&scene, |cluster| {
            cluster["certificate-authority-data"] = json!(STANDARD.encode(bed.ca_pem() + &ca.pem()));
        });
        let setup = scene.setup().flag("--kubeconfig", both).flag("--kubernetes-host", &url);
        let _ = refused(bed, &scene.home, &setup, 3).says("OR0306").says(words);
    }
}

/// What Go takes and webpki does not: outrigger decides as Go does, and connects.
pub fn as_the_runner(bed: &dyn Bed) {
    let ca = self_signed(ca_params("kubernetes"));
    let marked = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let leaf = |change: fn(&mut CertificateParams)| {
        let mut params = local_params();
        change(&mut params);
        params
    };
    let plain = issued(local_params(), &ca);
    let own = self_signed(leaf(marked));
    let any = issued(leaf(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), &ca);
    for (what, leaf, anchor) in [
        ("a server's certificate that is its own CA", &own, own.pem()),
        ("usage any", &any, ca.pem()),
        ("the server's certificate instead of the CA", &plain, plain.pem()),
    ] {
        let scene = Scene::new(bed, User::Admin);
        let before = world(bed.admin());
        let url = front::serve(bed, &[leaf], false);
        let config = at(&scene, &url, &anchor);
        let _ = scene.setup().flag("--kubeconfig", &config).run().code(0);
        scene.watch_cluster_token();
        assert!(script(&scene).contains(anchor.trim_end()), "{what}");
        let _ = scene.status().flag("--kubeconfig", &config).run().code(0);
        let _ = scene.teardown().flag("--kubeconfig", &config).run().code(0);
        assert_same(what, &before, &world(bed.admin()));
    }
}

/// Go connects, outrigger cannot: nothing is wrong with the cluster, and that is said.
pub fn only_the_runner(bed: &dyn Bed) {
    let (identity, ca) = local_fixture!("rsa-1024-root");
    let url = front::serve_as(bed, &identity, false);
    let scene = Scene::new(bed, User::Admin);
    let setup = scene.setup().flag("--kubeconfig", at(&scene, &url, &ca));
    setup.fails("OR0314");
    let _ = refused(bed, &scene.home, &setup, 3).says("RSA-1024");
    // The same for the runner's own endpoint, reached by another way than the operator's: the CA that is
    // looked at is the kubeconfig's, whose server is the bed.
    let both = kubeconfig(&scene, |cluster| {
        cluster["certificate-authority-data"] = json!(STANDARD.encode(bed.ca_pem() + &ca));
    });
    let setup = scene.setup().flag("--kubeconfig", both).flag("--kubernetes-host", &url);
    let _ = refused(bed, &scene.home, &setup, 3).says("OR0314").says("RSA-1024");
    // Neither of them: the reason is in Go's terms, not one word of a library.
    let scene = Scene::new(bed, User::Admin);
    let plain = issued(local_params(), &self_signed(ca_params("kubernetes")));
    let url = front::serve(bed, &[&plain], false);
    let other = self_signed(ca_params("other")).pem();
    let setup = scene.setup().flag("--kubeconfig", at(&scene, &url, &other));
    setup.fails("OR0303");
    let _ = refused(bed, &scene.home, &setup, 3).says("neither in the bundle nor sent");
}

/// CA data that only one of the two readers takes: mended, and re-emitted so that both do.
pub fn odd_bundles(bed: &dyn Bed) {
    let ca = bed.ca_pem();
    let encoded = STANDARD.encode(&ca);
    let folded: Vec<_> = encoded.as_bytes().chunks(60).map(String::from_utf8_lossy).collect();
    let other = self_signed(ca_params("other")).pem();
    let encode = |text: String| STANDARD.encode(text);
    for (what, data) in [
        ("folded base64", folded.join("\n")),
        ("a member that is no certificate", encode(format!("{}{ca}", pem(b"garbage")))),
        ("text around", encode(format!("# the CA\r\n{}", ca.replace('\n', "\r\n")))),
        ("no line break between", encode(format!("{}{other}", ca.trim_end()))),
    ] {
        let scene = Scene::new(bed, User::Admin);
        let path = kubeconfig(&scene, |cluster| cluster["certificate-authority-data"] = json!(data));
        let output = scene.command("extract-ca").flag("--kubeconfig", path).run().code(0);
        let expected = outrigger::internal::read_bundle(ca.as_bytes()).expect("PEM").to_pem();
        assert_eq!(output.stdout(), expected, "{what}\n{output}");
        let _ = output.says("SHA-256").says("days left");
    }
}

/// A path in the operator's own address is a proxy's, whose tokens the runner does not have. It is judged
/// for the runner's endpoint alone.
pub fn path(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let ca = self_signed(ca_params("proxy"));
    let url = front::serve(bed, &[&issued(local_params(), &ca)], true);
    let config = at(&scene, &url, &ca.pem());
    let setup = scene.setup().flag("--kubeconfig", &config);
    setup.fails("OR0306");
    let output = refused(bed, &scene.home, &setup, 3).says("Rancher");
    assert!(!bed.requests().is_empty(), "the operator's way works\n{output}");
    // The cluster's own CA verifies the address of its own, not the proxy's.
    let _ = setup.flag("--kubernetes-host", bed.url()).run().code(0).says("kube-root-ca.crt");
    let script = script(&scene);
    assert!(script.contains(&format!("host='{}'", bed.url())), "{script}");
    assert!(script.contains(bed.ca_pem().trim_end()) && !script.contains(ca.pem().trim_end()));
    let _ = scene.status().flag("--kubeconfig", &config).run().code(0);
}

/// The web's CAs verify the server: then the runner needs no CA file, and gets none.
pub fn public(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let ca = self_signed(ca_params("public"));
    let roots = scene.home.input("roots.pem", &ca.pem());
    let url = front::serve(bed, &[&issued(local_params(), &ca)], false);
    let config = kubeconfig(&scene, |cluster| *cluster = json!({"server": url}));
    let on = |command: crate::common::run::Cli<'_>| {
        command.flag("--kubeconfig", &config).env("SSL_CERT_FILE", &roots).run()
    };
    let output = on(scene.command("extract-ca")).code(0).says("no CA file is needed");
    assert_eq!(output.stdout(), "");
    let _ = on(scene.setup()).code(0).says("the system's roots").says("CN=public");
    let script = script(&scene);
    assert!(!script.contains("BEGIN CERTIFICATE") && !script.contains("ca_file = "), "{script}");
    let _ = on(scene.setup()).code(0).says("Nothing to change");
    // Where the roots are others, nothing verifies it.
    let output =
        scene.setup().flag("--kubeconfig", &config).env("SSL_CERT_FILE", scene.home.input("none", ""));
    let _ = output.run().code(3);
}

/// Another endpoint is judged by itself, not by what the kubeconfig's looks like.
pub fn another(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // A name that nobody can resolve, as nobody outside could one of the VM's network.
    let distant = scene.setup().flag("--kubernetes-host", "https://api.cluster.invalid:6443");
    let output = distant.arg("--dry-run").run().code(0).says("kube-root-ca.crt");
    let _ = output.says("TLS is unproven").never_says("address of this machine");
    // One that speaks, but for another cluster.
    if let Some(elsewhere) = bed.elsewhere() {
        let config: Value = serde_yaml::from_str(&elsewhere).expect("it parses");
        let url = config["clusters"][0]["cluster"]["server"].as_str().expect("a server");
        let setup = scene.setup().flag("--kubernetes-host", url);
        let output = refused(bed, &scene.home, &setup, 3).says("OR0306");
        let _ = output.says("kube-root-ca.crt in the cluster").says("your kubeconfig").says("system's roots");
    }
    // A name that the runner has no setting for.
    let port = bed.url().rsplit(':').next().expect("a port").to_owned();
    let config = kubeconfig(&scene, |cluster| cluster["tls-server-name"] = json!("localhost"));
    let setup = scene.setup().flag("--kubeconfig", config);
    let named = format!("https://localhost:{port}");
    let output = refused(bed, &scene.home, &setup, 3).says("tls-server-name");
    let _ = output.says(&format!("--kubernetes-host {named}"));
    let _ = setup.flag("--kubernetes-host", &named).arg("--dry-run").run().code(0);
}

/// The operator's way leads through a proxy that the VM will not have: set up through it, and said so.
pub fn proxied(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let before = world(bed.admin());
    let (proxy, asked) = front::proxy(bed);
    // Nobody listens on port 1: without the proxy there is no way.
    let server = "https://localhost:1";
    let change = |cluster: &mut Value| cluster["server"] = json!(server);
    let direct = scene.setup().flag("--kubeconfig", kubeconfig(&scene, change)).arg("--dry-run");
    let _ = direct.run().code(8);
    let config = kubeconfig(&scene, |cluster| {
        change(cluster);
        cluster["proxy-url"] = json!(proxy);
    });
    let through = |command: Cli<'_>| -> Output { command.flag("--kubeconfig", &config).run() };
    let _ = through(scene.setup()).code(0).says("TLS is unproven").says("wrote launch.sh");
    scene.watch_cluster_token();
    let lines = asked.lock().expect("no panic under the lock").clone();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.starts_with("CONNECT localhost:1 ")),
        "{lines:?}"
    );
    assert!(script(&scene).contains(server), "the runner dials the server itself");
    let _ = through(scene.status()).code(0).says("unproven");
    through(scene.teardown()).code(0);
    assert_same("setup and teardown through a proxy", &before, &world(bed.admin()));
}
