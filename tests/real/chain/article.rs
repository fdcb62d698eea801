//! The article from its first command to its last, and back.

use std::fs;
use std::time::{Duration, Instant};

use outrigger::internal::rights;
use outrigger_doubles::gitlab::PROJECT;
use serde_json::json;

use super::common::bed::{Bed as _, User};
use super::common::run::Home;
use super::common::site::{Site, post};
use super::common::world::{assert_same, world};
use super::vm::Vm;
use super::vm::beds::VERSION;
use super::vm::net::port_of;
use super::vm::roots::Root;
use super::vm::user_data::lightsail;
use super::{Chain, audit};

/// Debian 12, in a namespace that enforces Pod Security baseline, as by default.
pub fn baseline_on_bookworm(chain: &Chain) {
    article(chain, Root::Bookworm, "baseline");
}

/// Debian 13, the same.
pub fn baseline_on_trixie(chain: &Chain) {
    article(chain, Root::Trixie, "baseline");
}

/// Debian 12, in a namespace that enforces Pod Security restricted.
pub fn restricted_on_bookworm(chain: &Chain) {
    article(chain, Root::Bookworm, "restricted");
}

/// Debian 13, the same.
pub fn restricted_on_trixie(chain: &Chain) {
    article(chain, Root::Trixie, "restricted");
}

/// One `setup` that goes on to the first pipeline; a machine that boots as soon as its script is there; the
/// job's output on the terminal; the service as it should be; another job after a reboot; `teardown`; and nothing
/// is left.
fn article(chain: &Chain, root: Root, level: &str) {
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
        .flag("--wait", "20m");
    let mut running = setup.start();
    let script = home.script(&deployment);
    let started = Instant::now();
    while !script.is_file() {
        assert!(!running.poll(), "it ended before there was a script\n{}", running.wait());
        assert!(started.elapsed() < Duration::from_secs(60), "no script is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(&script).expect("the script can be read");

    let vm = beds.vm(root);
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
    // With the patience that machines have, however busy this one is.
    vm.wait("the end of setup", || running.poll());
    let output = running.wait();
    assert!(output.code == Some(0), "{output}\n{}\n{}", told(), vm.journal());
    let output = output
        .says("hello world!")
        .says("Job succeeded")
        .says(&format!("Running with gitlab-runner {VERSION}"));
    is_as_it_should_be(&vm);
    let account = format!("system:serviceaccount:{deployment}:{deployment}");

    // What the runner did of what it may, and that it tried nothing else.
    let found = audit::read(&log, mark, &account);
    assert_eq!(found.refused, Vec::<String>::new(), "{output}");
    let granted = rights::needed();
    let unused: Vec<_> =
        granted.difference(&found.used).filter(|right| !rights::occasional().contains(right)).collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
    let beyond: Vec<_> = found.used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:?}");

    vm.shut_down();
    vm.switch_on();
    vm.wait_cloud_init();
    vm.wait("the service", || vm.sh("systemctl is-active gitlab-runner || :") == "active");
    is_as_it_should_be(&vm);
    let project = site.gitlab.project_id(PROJECT);
    let made =
        post(&site.gitlab, "maintainer", &format!("/projects/{project}/pipeline"), &json!({"ref": "main"}));
    let job = || {
        let pipelines = site.gitlab.pipelines(PROJECT);
        let found = pipelines.iter().find(|it| it["id"] == made["id"]).expect("it was just made");
        found["jobs"][0].clone()
    };
    vm.wait("the end of the second job", || {
        !matches!(job()["status"].as_str(), Some("created" | "pending" | "running"))
    });
    let trace = site.gitlab.trace(job()["id"].as_u64().expect("a job has a number"));
    assert_eq!(job()["status"], "success", "{trace}\n{}", vm.journal());
    assert!(trace.contains("hello world!") && trace.contains("Job succeeded"), "{trace}");
    let found = audit::read(&log, mark, &account);
    assert_eq!(found.refused, Vec::<String>::new(), "{trace}");

    let _ = command("teardown").arg("--yes").arg("--revert-pipeline").run().code(0).says("Removed ");
    assert_same("after teardown", &before.0, &world(cluster.admin()));
    let after = site.world();
    let kept: Vec<_> = after.iter().filter(|(key, value)| before.1.get(*key) != Some(*value)).collect();
    let runners: Vec<_> = kept.iter().filter(|(key, _)| key.contains("runner")).collect();
    assert!(runners.is_empty(), "GitLab still has {runners:?}");
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), None, "the pipeline file is reverted");
    assert!(!script.exists(), "the launch script is still there");
    assert!(!home.state().join(format!("{deployment}.json")).exists(), "the record is still there");
}

/// The service's process as the kernel shows it: a user without rights, by the drop-in's command, with no way to
/// more rights.
fn is_as_it_should_be(vm: &Vm) {
    let pid = vm.sh("systemctl show -P MainPID gitlab-runner");
    let status = vm.read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let user = vm.sh("id -u outrigger");
    assert_ne!(user, "0");
    assert_eq!(field("Uid"), [&*user; 4].join(" "), "{status}\n{}", vm.evidence());
    assert_eq!(field("NoNewPrivs"), "1", "{status}");
    assert_eq!(field("CapEff"), "0000000000000000", "{status}");
    let line = vm.read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<_> = line.trim_end_matches('\0').split('\0').collect();
    let expected = [
        "/usr/bin/gitlab-runner",
        "run",
        "--config",
        "/etc/gitlab-runner/config.toml",
        "--working-directory",
        "/etc/gitlab-runner",
    ];
    // Whatever comes after it, the package's own `--user` does not.
    assert!(arguments.starts_with(&expected) && !arguments.contains(&"--user"), "{arguments:?}");
}
