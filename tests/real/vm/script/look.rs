//! What trials see of a machine and its service, to be compared with later, and how they run a script again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Output;

use outrigger_doubles::gitlab::PROJECT;
use serde_json::{Value, json};

use super::super::common::site::post;
use super::super::vm::Vm;
use super::place::{DEPLOYMENT, Place};

/// The configuration of a machine's runner, where nobody has put it elsewhere.
pub const CONFIG: &str = "/etc/gitlab-runner/config.toml";

/// A file, and all that shows whether anybody has touched it.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    changed: (i64, i64),
    /// Whose it is: user and group.
    pub owner: (u32, u32),
    /// Its mode, as `0o644`.
    pub mode: u32,
    /// Its text.
    pub text: String,
}

/// Looks at a file, which must be there.
pub fn stamp(vm: &Vm, path: &str) -> Stamp {
    let metadata =
        fs::metadata(vm.path(path)).unwrap_or_else(|error| panic!("{path}: {error}\n{}", vm.evidence()));
    Stamp {
        inode: metadata.ino(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
        owner: (metadata.uid(), metadata.gid()),
        mode: metadata.mode() & 0o7777,
        text: vm.read(path).unwrap_or_default(),
    }
}

/// Changes a file in place, with owner and mode as they are.
pub fn edit(vm: &Vm, path: &str, change: impl FnOnce(String) -> String) {
    let text = vm.read(path).unwrap_or_else(|| panic!("there is no {path}\n{}", vm.evidence()));
    fs::write(vm.path(path), change(text)).expect("the disk can be written");
}

/// The running process of the service: its id, and when it was started.
pub fn process(vm: &Vm) -> String {
    let shown = vm.sh("systemctl show -p MainPID,ExecMainStartTimestampMonotonic gitlab-runner");
    assert!(shown.contains("MainPID=") && !shown.contains("MainPID=0\n"), "{shown}\n{}", vm.evidence());
    shown
}

/// What the service has said since it was started.
pub fn journal(vm: &Vm) -> String {
    vm.sh("journalctl --unit gitlab-runner --output cat --no-pager")
}

/// Has it been told to end once its jobs have ended? The words stand in one line, with colours between them.
pub fn stops_gracefully(vm: &Vm) -> bool {
    journal(vm).lines().any(|line| line.contains("received stop signal") && line.contains("quit"))
}

/// How often the service has read its configuration in this boot.
pub fn loads(vm: &Vm) -> usize {
    journal(vm).matches("Configuration loaded").count()
}

/// Copies a script to root's home and runs it as somebody who is logged in does.
pub fn run(vm: &Vm, script: &str, secrets: Option<&str>) -> Output {
    let put = |path: &str, text: &str| {
        vm.write(path, text);
        vm.sh(&format!("chmod 600 {path}"));
    };
    put("/root/launch.sh", script);
    let Some(secrets) = secrets else { return vm.exec(&["sh", "/root/launch.sh"]) };
    put("/root/launch.sh.secrets", secrets);
    vm.exec(&["sh", "/root/launch.sh", "/root/launch.sh.secrets"])
}

/// The same, which must go well; returns what it said.
pub fn run_well(vm: &Vm, script: &str, secrets: Option<&str>) -> String {
    let output = run(vm, script, secrets);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}\n{}", log(vm), vm.evidence());
    assert_eq!(vm.outcome(DEPLOYMENT)["result"], "ok");
    said
}

/// The same, which must fail; returns what it said.
pub fn run_badly(vm: &Vm, script: &str, secrets: Option<&str>) -> String {
    let output = run(vm, script, secrets);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}\n{}", log(vm));
    assert_eq!(vm.outcome(DEPLOYMENT)["result"], "failed");
    said
}

/// The script's log.
pub fn log(vm: &Vm) -> String {
    vm.read(&format!("/var/log/outrigger-{DEPLOYMENT}.log")).unwrap_or_default()
}

/// Waits for the end of a first boot that must go well.
pub fn is_well(vm: &Vm) {
    let outcome = vm.outcome(DEPLOYMENT);
    assert_eq!(outcome["result"], "ok", "{outcome}\n{}\n{}", log(vm), vm.evidence());
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active", "{}", vm.evidence());
}

/// Waits until a runner asks GitLab for jobs with a token from now on, and is answered well.
pub fn asks(vm: &Vm, place: &Place, runner: u64, token: &str) {
    let gitlab = &place.site.gitlab;
    gitlab.clear_requests();
    let user = format!("runner/{runner}");
    vm.wait("a request for jobs", || {
        let with_token = gitlab
            .credentials()
            .iter()
            .any(|it| it.path.ends_with("/jobs/request") && it.header == "runner-token" && it.value == token);
        let answered = gitlab.requests().iter().any(|it| {
            it.path.ends_with("/jobs/request") && it.user == user && matches!(it.status, 201 | 204)
        });
        with_token && answered
    });
}

/// Commits a pipeline and starts it; returns the number of its only job.
pub fn start_job(place: &Place, pipeline: &str) -> u64 {
    let gitlab = &place.site.gitlab;
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", pipeline);
    let path = format!("/projects/{}/pipeline", gitlab.project_id(PROJECT));
    let id = post(gitlab, "maintainer", &path, &json!({"ref": "main"}))["id"].clone();
    let pipelines = gitlab.pipelines(PROJECT);
    let found = pipelines.iter().find(|it| it["id"] == id).expect("it was just made");
    found["jobs"][0]["id"].as_u64().unwrap_or_else(|| panic!("no job in {found}"))
}

/// A job as GitLab shows it.
pub fn job(place: &Place, id: u64) -> Value {
    let pipelines = place.site.gitlab.pipelines(PROJECT);
    let mut jobs = pipelines.iter().flat_map(|it| it["jobs"].as_array().into_iter().flatten());
    jobs.find(|job| job["id"] == id).cloned().unwrap_or_else(|| panic!("there is no job {id}"))
}
