//! What other tests rely on when they run pods on the node.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::SERVE;
use crate::common::admin::{Admin, object_path};
use crate::common::bed::{Bed as _, User};
use crate::common::pool::{self, Pool};
use crate::node::{self, NodeBed, images};
use crate::traces::Traces;

const KIND: &str = "node";

const PATIENCE: Duration = Duration::from_secs(120);

/// The user that jobs in a restricted namespace run as.
const USER: u32 = 59417;

/// The names of the trials below, for when there is no node to run them on.
pub const NAMES: &[&str] = &[
    "node_runs_a_pod_to_its_end",
    "node_lets_us_into_a_running_pod",
    "node_runs_restricted_pods",
    "node_lets_pods_and_namespaces_go",
    "node_leaves_nothing",
    "node_that_was_killed_leaves_nothing",
];

/// The trials of this file.
pub fn trials(pool: &'static Pool<NodeBed>) -> Vec<Trial> {
    let functions: [fn(&NodeBed); 6] = [runs, enters, restricted, deletes, leaves, killed];
    NAMES.iter().zip(functions).map(|(name, run)| pool::trial(pool, name, KIND, run)).collect()
}

/// A pod of one container that runs a line of shell.
fn pod(namespace: &str, name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "restartPolicy": "Never",
            // A shell as the first process does not hear SIGTERM: it would have all the time there is.
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "build",
                "image": images::ALPINE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/usr/bin/env", "sh", "-c", script],
            }],
        },
    })
}

/// Makes a namespace that enforces a level of Pod Security, and waits until it takes pods.
fn namespace(admin: &Admin, name: &str, level: &str) {
    admin.create(&json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": level}},
    }));
    until("a ServiceAccount for pods", || {
        admin.get(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"))
    });
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a pod is in a phase; a pod that has failed is not waited for.
fn phase(admin: &Admin, path: &str, wanted: &str) {
    until(&format!("{path} is {wanted}"), || {
        let status = admin.get(path).unwrap_or_else(|| panic!("{path} is gone"))["status"].take();
        assert!(wanted == "Failed" || status["phase"] != "Failed", "{path} failed: {status:#}");
        (status["phase"] == wanted).then_some(())
    });
}

fn runs(bed: &NodeBed) {
    let (admin, name) = (bed.plane.admin(), bed.plane.fresh_deployment());
    namespace(admin, &name, "baseline");
    let good = pod(&name, "good", "echo hello world");
    let bad = pod(&name, "bad", "echo goodbye >&2; exit 3");
    for pod in [&good, &bad] {
        admin.create(pod);
    }
    let (good, bad) = (object_path(&good), object_path(&bad));
    phase(admin, &good, "Succeeded");
    assert_eq!(log(admin, &good), "hello world\n");
    phase(admin, &bad, "Failed");
    assert_eq!(log(admin, &bad), "goodbye\n");
    let status = admin.get(&bad).expect("nobody deletes it");
    let code = status.pointer("/status/containerStatuses/0/state/terminated/exitCode");
    assert_eq!(code, Some(&json!(3)), "{status:#}");
    admin.delete(&format!("/api/v1/namespaces/{name}"));
}

fn log(admin: &Admin, pod: &str) -> String {
    let read = admin.text(&format!("{pod}/log"));
    read.unwrap_or_else(|error| panic!("the log of {pod}: {error}"))
}

fn enters(bed: &NodeBed) {
    let (admin, name) = (bed.plane.admin(), bed.plane.fresh_deployment());
    namespace(admin, &name, "baseline");
    let mut asked = pod(&name, "open", "read line; echo \"attached: $line\" >/tmp/line; sleep 600");
    asked["spec"]["containers"][0]["stdin"] = json!(true);
    // The runner's pods have two containers, and it enters both.
    let helper = json!({"name": "helper", "image": images::HELPER, "command": ["sleep", "600"]});
    asked["spec"]["containers"].as_array_mut().expect("a pod has containers").push(helper);
    admin.create(&asked);
    phase(admin, &object_path(&asked), "Running");

    let folder = bed.plane.folder();
    let config = folder.write("kubeconfig", &bed.plane.kubeconfig(User::Admin));
    let kubectl = bed.plane.kubectl().expect("the node needs it built");
    let enter = |args: &[&str], input: &str| {
        let stdin = folder.write("input", input);
        // An attach to something that does not end would not end either.
        let output = Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .arg(&kubectl)
            .args(["--kubeconfig", &config, "--namespace", &name])
            .args(args)
            .stdin(std::fs::File::open(stdin).expect("just written"))
            .output()
            .expect("kubectl starts");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for container in ["build", "helper"] {
        let said = enter(&["exec", "-i", "-c", container, "open", "--", "tr", "a-z", "A-Z"], "through\n");
        assert_eq!(said, "THROUGH\n", "in {container}");
    }
    enter(&["attach", "-i", "-c", "build", "open"], "from outside\n");
    let line = until("what was sent by attach arrives", || {
        let read = "cat /tmp/line 2>/dev/null || true";
        let line = enter(&["exec", "-c", "build", "open", "--", "sh", "-c", read], "");
        line.ends_with('\n').then_some(line)
    });
    assert_eq!(line, "attached: from outside\n");
    admin.delete(&format!("/api/v1/namespaces/{name}"));
}

fn restricted(bed: &NodeBed) {
    let (admin, name) = (bed.plane.admin(), bed.plane.fresh_deployment());
    namespace(admin, &name, "restricted");
    let script = "id -u; id -g; echo ours >/builds/file; cat /builds/file; grep NoNewPrivs /proc/self/status; \
                  grep Seccomp: /proc/self/status";
    let mut asked = pod(&name, "job", script);
    let refusal = admin.try_create(&asked).expect_err("it asks for too much");
    assert_eq!(refusal.code, 403, "{refusal}");
    let reason = "violates PodSecurity \"restricted:latest\"";
    assert!(refusal.message.contains(reason), "{refusal}");

    let spec = &mut asked["spec"];
    spec["automountServiceAccountToken"] = json!(false);
    spec["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    spec["volumes"] = json!([{"name": "builds", "emptyDir": {}}]);
    let container = &mut spec["containers"][0];
    container["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    container["volumeMounts"] = json!([{"name": "builds", "mountPath": "/builds"}]);
    admin.create(&asked);
    let path = object_path(&asked);
    phase(admin, &path, "Succeeded");
    // Seccomp 2 is "filtered": the profile is there in truth, not in the manifest alone.
    assert_eq!(log(admin, &path), format!("{USER}\n{USER}\nours\nNoNewPrivs:\t1\nSeccomp:\t2\n"));
    admin.delete(&format!("/api/v1/namespaces/{name}"));
}

fn deletes(bed: &NodeBed) {
    let (admin, name) = (bed.plane.admin(), bed.plane.fresh_deployment());
    namespace(admin, &name, "baseline");
    for pod in ["first", "second"].map(|pod_name| pod(&name, pod_name, "sleep 600")) {
        admin.create(&pod);
        phase(admin, &object_path(&pod), "Running");
    }
    let first = format!("/api/v1/namespaces/{name}/pods/first");
    admin.delete(&first);
    until("a deleted pod goes", || admin.get(&first).is_none().then_some(()));
    let place = format!("/api/v1/namespaces/{name}");
    admin.delete(&place);
    until("a namespace goes with the pod in it", || admin.get(&place).is_none().then_some(()));
}

fn leaves(bed: &NodeBed) {
    let bed = NodeBed::start(bed.plane.binaries()).unwrap_or_else(|error| panic!("a second node: {error}"));
    busy(bed.plane.admin());
    let traces = Traces::of(bed.plane.folder().path(), bed.name());
    bed.stop();
    traces.gone();
}

/// Starts a pod that is still at it when the node ends.
fn busy(admin: &Admin) {
    let pod = pod("default", "busy", "sleep 600");
    admin.create(&pod);
    phase(admin, &object_path(&pod), "Running");
}

fn killed(_: &NodeBed) {
    let this = std::env::current_exe().expect("the system knows what runs");
    let mut run = Command::new(this)
        .env(SERVE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("what runs can be run again");
    let mut line = String::new();
    BufReader::new(run.stdout.take().expect("piped")).read_line(&mut line).expect("a pipe can be read");
    let path = Path::new(line.trim_end());
    let config = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{line}: {error}"));
    busy(&Admin::new(&config));
    let folder = path.parent().expect("a file is in a folder");
    let traces = Traces::of(folder, &node::name_in(folder));
    run.kill().expect("it runs");
    run.wait().expect("it was ours");

    // Another run on this machine may be sweeping it at this moment: then there is less for us to do.
    until("what a killed run left is swept", || {
        node::sweep();
        (!traces.any()).then_some(())
    });
    traces.gone();
}
