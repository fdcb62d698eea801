//! New tokens and another version of gitlab-runner while jobs run all the time: none of them fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outrigger_doubles::gitlab::PROJECT;
use serde_json::{Value, json};

use super::common::admin::Admin;
use super::common::bed::{Bed as _, User, kubeconfig_yaml};
use super::common::run::{Cli, Home};
use super::common::site::{Site, post};
use super::control_plane::ControlPlane;
use super::runners::NEWER;
use super::vm::Vm;
use super::vm::beds::VERSION;
use super::vm::net::port_of;
use super::vm::roots::Root;
use super::vm::ssh;
use super::{Chain, audit};

const CONFIG: &str = "/etc/gitlab-runner/config.toml";

/// A job that ends at once, or when it is let go on.
const PIPELINE: &str = "work:
  tags: [k8s-runner]
  script:
    - if [ -n \"$LONG\" ]; then echo begun; while [ ! -e /tmp/go-on ]; do sleep 0.2; done; fi
    - echo \"the end of $CI_JOB_ID\"
";

/// Longer than a request for a job may be open.
const LATER: Duration = Duration::from_secs(90);

/// Jobs that are not at their end, at any time.
const SIDE_BY_SIDE: usize = 2;

/// A host with the deployment's runner.
struct Host<'a> {
    plane: &'a ControlPlane,
    site: &'a Site,
    vm: &'a Vm,
    deployment: &'a str,
}

impl Host<'_> {
    /// Starts a pipeline; returns its number.
    fn start(&self, variables: &Value) -> u64 {
        let gitlab = &self.site.gitlab;
        let path = format!("/projects/{}/pipeline", gitlab.project_id(PROJECT));
        let made = post(gitlab, "maintainer", &path, &json!({"ref": "main", "variables": variables}));
        made["id"].as_u64().expect("a pipeline has a number")
    }

    /// The only job of a pipeline.
    fn job(&self, pipeline: u64) -> Value {
        let pipelines = self.site.gitlab.pipelines(PROJECT);
        let found = pipelines.iter().find(|it| it["id"] == pipeline).expect("it was made");
        found["jobs"][0].clone()
    }

    fn trace(&self, pipeline: u64) -> String {
        self.site.gitlab.trace(self.job(pipeline)["id"].as_u64().expect("a job has a number"))
    }

    /// How many jobs are not at their end.
    fn unfinished(&self) -> usize {
        let pipelines = self.site.gitlab.pipelines(PROJECT);
        let jobs = pipelines.iter().flat_map(|it| it["jobs"].as_array().into_iter().flatten());
        jobs.filter(|job| matches!(job["status"].as_str(), Some("created" | "pending" | "running"))).count()
    }

    /// A job that begins now ends well.
    fn one_more(&self) {
        let number = self.start(&json!([]));
        let status = || self.job(number)["status"].clone();
        self.vm
            .wait("one more job", || !matches!(status().as_str(), Some("created" | "pending" | "running")));
        assert_eq!(status(), "success", "{}\n{}", self.trace(number), self.vm.journal());
    }

    /// Starts short jobs, a new one for each that has ended.
    fn load(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            // The long one is beside them.
            while self.unfinished() <= SIDE_BY_SIDE {
                self.start(&json!([]));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The token in our entry: the runner's or the cluster's.
    fn token(&self, key: &str) -> String {
        let text = self.vm.read(CONFIG).unwrap_or_default();
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_else(|| panic!("no {key} in {CONFIG}")).trim_matches('"').to_owned()
    }

    /// What the API server answers to a cluster token.
    fn asked_with(&self, token: &str) -> u16 {
        let url = self.plane.url();
        let admin = Admin::new(&kubeconfig_yaml("as", &url, &self.plane.ca_pem(), "token", token));
        admin.call("GET", "/version", "application/json", None).map_or_else(|refusal| refusal.code, |_| 200)
    }

    /// The names of the cluster token's Secrets.
    fn secrets(&self) -> Vec<String> {
        let list = self.plane.admin().list(&format!("/api/v1/namespaces/{}/secrets", self.deployment));
        list.iter().filter_map(|secret| secret["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Makes the file that the long job waits for, in its pod.
    fn let_go_on(&self, pipeline: u64) {
        let job = self.job(pipeline)["id"].to_string();
        let pods = self.plane.admin().list(&format!("/api/v1/namespaces/{}-jobs/pods", self.deployment));
        let is_its = |pod: &&Value| pod["metadata"]["annotations"]["job.runner.gitlab.com/id"] == *job;
        let pod = pods.iter().find(is_its).unwrap_or_else(|| panic!("no pod of job {job} in {pods:#?}"));
        let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
        let config = self.plane.folder().write("go-on.kubeconfig", &self.plane.kubeconfig(User::Admin));
        let output = std::process::Command::new(self.plane.kubectl().expect("a node has kubectl"))
            .args(["--kubeconfig", &config, "--namespace", &format!("{}-jobs", self.deployment)])
            .args(["exec", "-c", "build", name, "--", "touch", "/tmp/go-on"])
            .output()
            .expect("kubectl starts");
        assert!(output.status.success(), "{output:?}");
    }
}

/// Ends the load, however the trial ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Both tokens, with short jobs all the time and one that is there before the rotation and after it. What it has made
/// stays in the cluster: the way back is tried on machines.
pub fn under_load(chain: &Chain) {
    let (plane, beds) = (&chain.cluster.plane, &chain.beds);
    let (home, site, apt) = (Home::new(), Site::new(), beds.apt());
    let deployment = plane.fresh_deployment();
    let log = plane.folder().path().join("acme-ci-audit.log");
    let mark = audit::mark(&log);
    let vm = beds.vm(Root::Bookworm);
    apt.serve(&vm);
    for url in [plane.url(), site.gitlab.url()] {
        vm.network().forward(port_of(&url));
    }
    let ssh = vm.ssh();
    let login = ssh.home(ssh::User::Root, "");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", login.bin().display());
    let command = |name: &str| {
        let kubeconfig = home.kubeconfig("kubeconfig", &plane.kubeconfig(User::Binder));
        let command = home
            .outrigger(name)
            .arg("--non-interactive")
            .flag("--deployment", &*deployment)
            .flag("--kubeconfig", kubeconfig)
            .env("PATH", &path);
        site.on(&home, command, "maintainer")
    };
    let helper = format!(
        "[[runners]]\n[runners.kubernetes]\nhelper_image = \"registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v{VERSION}\"\n"
    );
    let setup = command("setup")
        .flag("--project", PROJECT)
        .flag("--apt-url", apt.apt_url())
        .flag("--key-url", apt.key_url())
        .flag("--key-fingerprint", &*beds.repository.key.fingerprint)
        .flag("--runner-version", VERSION)
        .flag("--pull-policy", "if-not-present")
        // The node has the helper of this version alone.
        .flag("--runner-config", home.input("helper.toml", &helper))
        .flag("--host", login.target());
    let _ = setup.run().code(0).says("GitLab has seen runner");

    let host = Host { plane, site: &site, vm: &vm, deployment: &deployment };
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", PIPELINE);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Stop(&stop);
        let load = scope.spawn(|| host.load(&stop));
        rotations(&host, &home, &command);
        upgraded(&host, &command);
        drop(ending);
        load.join().expect("the load does not panic");
    });
    vm.wait("the end of all jobs", || host.unfinished() == 0);
    for pipeline in site.gitlab.pipelines(PROJECT) {
        let number = pipeline["id"].as_u64().expect("a pipeline has a number");
        let trace = host.trace(number);
        assert_eq!(host.job(number)["status"], "success", "{trace}\n{}", vm.journal());
        assert!(trace.contains("the end of ") && trace.contains("Job succeeded"), "{trace}");
    }
    let account = format!("system:serviceaccount:{deployment}:{deployment}");
    let found = audit::read(&log, mark, &account);
    assert_eq!(found.refused, Vec::<String>::new());
    // A job ends well without the token that removes its pod.
    let pods = || plane.admin().list(&format!("/api/v1/namespaces/{deployment}-jobs/pods"));
    vm.wait("the end of the pods", || pods().is_empty());
}

/// The runner is paused until the job that runs has ended; then the new version takes over.
fn upgraded<'a>(host: &Host<'_>, command: &dyn Fn(&str) -> Cli<'a>) {
    let version = || host.vm.sh("gitlab-runner --version | sed -n 's/^Version: *//p'").trim().to_owned();
    let long = host.start(&json!([{"key": "LONG", "value": "yes"}]));
    host.vm.wait("the long job", || host.trace(long).contains("begun"));
    let upgrade = command("upgrade").flag("--runner-version", NEWER);
    let mut running = upgrade.start();
    host.vm.wait("the pause", || running.has_said("the paused runner") || running.poll());
    assert!(!running.poll(), "{}", running.wait());
    assert_eq!((version().as_str(), &host.job(long)["status"]), (VERSION, &json!("running")));
    host.let_go_on(long);
    host.vm.wait("the end of the upgrade", || running.poll());
    let _ = running.wait().code(0).says(&format!("gitlab-runner {NEWER} runs on"));
    assert_eq!(host.job(long)["status"], "success", "{}", host.trace(long));
    assert_eq!(version(), NEWER);
    host.one_more();
}

/// One after the other, while jobs run.
fn rotations<'a>(host: &Host<'_>, home: &Home, command: &dyn Fn(&str) -> Cli<'a>) {
    let service = || host.vm.sh("systemctl show -P MainPID gitlab-runner");
    let (old, process) = (host.token("bearer_token"), service());
    home.canary(&old);
    let long = host.start(&json!([{"key": "LONG", "value": "yes"}]));
    host.vm.wait("the long job", || host.trace(long).contains("begun"));

    let rotate = command("rotate").arg("cluster");
    let mut running = rotate.start();
    host.vm.wait("the delivery", || running.has_said("ran on ") || running.poll());
    let new = host.token("bearer_token");
    home.canary(&new);
    assert_ne!(new, old);
    // The service reads its file every 3 s: what begins later has the new token.
    let delivered = Instant::now();
    host.vm.wait("the service", || delivered.elapsed() > Duration::from_secs(4) || running.poll());
    host.site.gitlab.advance(LATER);
    host.one_more();
    assert!(!running.poll(), "{}", running.wait());
    assert_eq!((host.secrets().len(), host.asked_with(&old)), (2, 200));
    assert_eq!(host.job(long)["status"], "running");
    host.let_go_on(long);
    host.vm.wait("the end of the rotation", || running.poll());
    let _ = running.wait().code(0).says("the old token gets 401");
    assert_eq!(host.job(long)["status"], "success", "{}", host.trace(long));
    assert_eq!((host.asked_with(&old), host.asked_with(&new)), (401, 200));
    assert_eq!(host.secrets().len(), 1);

    let old = host.token("token");
    home.canary(&old);
    let _ = command("rotate").arg("runner").run().code(0).says("GitLab has seen runner");
    assert_ne!(host.token("token"), old);
    assert_eq!(host.token("bearer_token"), new);
    host.one_more();
    assert_eq!(service(), process, "the service is not restarted");
}
