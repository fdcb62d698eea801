//! The cluster is not there, is another, or does not want this token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_doubles::cluster::{FakeCluster, Options};
use serde_json::json;

use super::super::super::common::admin::Admin;
use super::super::super::common::bed::User;
use super::super::super::vm::beds::Beds;
use super::super::super::vm::net::port_of;
use super::super::super::vm::roots::Root;
use super::super::place::{DEPLOYMENT, Place};
use super::{SCRIPT, boot_fails, ends_well_with, fails_with, hasty, run_ends_well, run_fails};

const STEP: &str = "prove-cluster";

/// A cluster that refuses connections or does not answer is behind a firewall; one with another CA is
/// another.
pub fn out_of_reach(beds: &Beds) {
    let place = Place::new(beds);
    let script = hasty(&place.script(&place.setup()));
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let url = place.cluster.url();
    let port = port_of(&url);
    let words = ["this machine does not reach", &url, "a firewall, or authorized networks"];
    vm.network().refuse(port);
    boot_fails(&place, &vm, &script, STEP, &words);
    vm.network().swallow(port);
    run_fails(&place, &vm, &script, STEP, &[&words[..], &["timed out"]].concat());

    let other = FakeCluster::start(Options::default());
    vm.network().forward_to(port, ([127, 0, 0, 1], port_of(&other.url())).into());
    run_fails(&place, &vm, &script, STEP, &[&url, "SSL certificate problem"]);
    assert!(other.requests().is_empty(), "the token goes to no other cluster: {:?}", other.requests());

    vm.network().forward(port);
    run_ends_well(&place, &vm, &script);
}

/// A token that was revoked, one of another account, and an account that lost its rights.
pub fn wrong_token(beds: &Beds) {
    let place = Place::new(beds);
    let setup = place.setup().flag("--target", "ssh");
    let script = hasty(&place.script(&setup));
    let secrets = || {
        let path = place.home.script(DEPLOYMENT).with_extension("sh.secrets");
        std::fs::read_to_string(path).expect("setup has written the secrets beside the script")
    };
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot_idle();
    let file = format!("{SCRIPT}.secrets");
    let fails = |secrets: &str, words: &[&str]| {
        vm.write(&file, secrets);
        fails_with(&place, &vm, &script, &[&file], STEP, words);
    };
    let admin = Admin::new(&place.cluster.kubeconfig(User::Admin.name()));

    let good = secrets();
    let line = good.lines().find(|line| line.starts_with("bearer_token=")).expect("it has one");
    admin.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "other", "namespace": "default"}}));
    admin.create(
        &json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "other-token", "namespace": "default",
            "annotations": {"kubernetes.io/service-account.name": "other"}}}),
    );
    let mut token = String::new();
    vm.wait("a token of the other account", || {
        let secret = admin.get("/api/v1/namespaces/default/secrets/other-token").expect("it was just made");
        let bytes = STANDARD.decode(secret["data"]["token"].as_str().unwrap_or_default());
        token = String::from_utf8(bytes.expect("it is base64")).expect("a token is text");
        !token.is_empty()
    });
    let other = good.replace(line, &format!("bearer_token={token}"));
    fails(&other, &["the token is not that of system:serviceaccount:acme:acme"]);

    let (namespace, name) = find(&place, "RoleBinding/acme-jobs/");
    place
        .cluster
        .remove(&format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/{name}"));
    fails(&good, &["system:serviceaccount:acme:acme may not create pods"]);

    let (namespace, name) = find(&place, "v1/Secret/acme/");
    place.cluster.remove(&format!("/api/v1/namespaces/{namespace}/secrets/{name}"));
    fails(&good, &[&place.cluster.url(), "refuses the token: revoked, expired, or of another cluster"]);

    let script = place.script(&setup.flag("--reissue", "cluster,runner"));
    vm.write(&file, secrets());
    ends_well_with(&place, &vm, &script, &[&file]);
}

/// Namespace and name of the one object of the cluster whose key holds this.
fn find(place: &Place, part: &str) -> (String, String) {
    let objects = place.cluster.objects();
    let found: Vec<_> = objects.keys().filter(|key| key.contains(part)).collect();
    let [key] = found[..] else { panic!("{part} is {found:?} of {:?}", objects.keys()) };
    let mut words = key.rsplit('/');
    let name = words.next().unwrap_or_default().to_owned();
    (words.next().unwrap_or_default().to_owned(), name)
}
