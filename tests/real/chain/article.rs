//! The article from its first command to its last, and back.

use std::fs;
use std::time::{Duration, Instant};

use outrigger::rules;
use outrigger_doubles::gitlab::PROJECT;

use super::common::bed::{Bed as _, User};
use super::common::run::Home;
use super::common::site::Site;
use super::common::world::{assert_same, world};
use super::vm::beds::VERSION;
use super::vm::net::port_of;
use super::vm::roots::Root;
use super::vm::user_data::lightsail;
use super::{Chain, audit};

/// In a namespace that enforces Pod Security baseline, as by default.
pub fn baseline(chain: &Chain) {
    article(chain, "baseline");
}

/// In one that enforces restricted.
pub fn restricted(chain: &Chain) {
    article(chain, "restricted");
}

/// One `setup` that goes on to the first pipeline; a machine that boots as soon as its script is there; the
/// job's output on the terminal; `teardown`; and nothing is left.
fn article(chain: &Chain, level: &str) {
    let (cluster, beds) = (&chain.cluster.plane, &chain.beds);
    let (home, site, apt) = (Home::new(), Site::new(), beds.apt());
    let deployment = cluster.fresh_deployment();
    let before = (world(cluster.admin()), site.world());
    let log = cluster.folder().path().join("acme-ci-audit.log");
    let mark = audit::mark(&log);

    let command = |name: &str| {
        let kubeconfig = home.kubeconfig("kubeconfig", &cluster.kubeconfig(User::Binder));
        let command = home
            .outrigger(name)
            .arg("--non-interactive")
            .flag("--deployment", &*deployment)
            .flag("--kubeconfig", kubeconfig);
        site.on(&home, command, "maintainer")
    };
    let setup = command("setup")
        .flag("--project", PROJECT)
        .flag("--apt-url", apt.apt_url())
        .flag("--key-url", apt.key_url())
        .flag("--key-fingerprint", &*beds.repository.key.fingerprint)
        .flag("--runner-version", VERSION)
        .flag("--pod-security", level)
        // The node has its images, and no way to any other.
        .flag("--pull-policy", "if-not-present")
        .args(["--commit-pipeline", "--run-pipeline"])
        .flag("--wait", "5m");
    let mut running = setup.start();
    let script = home.script(&deployment);
    let started = Instant::now();
    while !script.is_file() {
        assert!(!running.poll(), "it ended before there was a script\n{}", running.wait());
        assert!(started.elapsed() < Duration::from_secs(60), "no script is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(&script).expect("the script can be read");

    let vm = beds.vm(Root::Bookworm);
    apt.serve(&vm);
    for url in [cluster.url(), site.gitlab.url()] {
        vm.network().forward(port_of(&url));
    }
    vm.boot(&lightsail(&text));
    let outcome = vm.outcome(&deployment);
    let told = || {
        format!("{outcome}\n{}", vm.read(&format!("/var/log/outrigger-{deployment}.log")).unwrap_or_default())
    };
    assert_eq!(outcome["result"], "ok", "{}", told());
    let output = running.wait();
    assert!(output.code == Some(0), "{output}\n{}\n{}", told(), vm.journal());
    let output = output.says("hello world!").says("Job succeeded").says("Running with gitlab-runner 19.4.1");
    let account = format!("system:serviceaccount:{deployment}:{deployment}");

    // What the runner did of what it may, and that it tried nothing else.
    let found = audit::read(&log, mark, &account);
    assert_eq!(found.refused, Vec::<String>::new(), "{output}");
    let granted = rules::needed();
    let unused: Vec<_> =
        granted.difference(&found.used).filter(|right| !rules::occasional().contains(right)).collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
    let beyond: Vec<_> = found.used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:?}");

    let _ = command("teardown").arg("--yes").arg("--revert-pipeline").run().code(0).says("Nothing of ");
    assert_same("after teardown", &before.0, &world(cluster.admin()));
    let after = site.world();
    let kept: Vec<_> = after.iter().filter(|(key, value)| before.1.get(*key) != Some(*value)).collect();
    let runners: Vec<_> = kept.iter().filter(|(key, _)| key.contains("runner")).collect();
    assert!(runners.is_empty(), "GitLab still has {runners:?}");
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), None, "the pipeline file is reverted");
    assert!(!script.exists(), "the launch script is still there");
    assert!(!home.state().join(format!("{deployment}.json")).exists(), "the record is still there");
}
