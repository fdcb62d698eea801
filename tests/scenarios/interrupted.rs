//! Runs that end half-way, and runs that meet.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::input::{counting_mute_server, with_server};
use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::run::{Output, Running, SOON};
use crate::common::world::{assert_same, world};

/// Starts runs until one could be killed while its temporary binding existed; none was quick enough
/// to release it first.
fn killed_with_a_binding(bed: &dyn Bed) -> Scene<'_> {
    for _ in 0..20 {
        let scene = Scene::new(bed, User::Binder);
        let setup = scene.setup();
        let mut running = setup.start();
        while !running.poll() && scene.temporary_bindings().is_empty() {}
        let _ = running.kill();
        if !scene.temporary_bindings().is_empty() {
            return scene;
        }
    }
    panic!("no run could be killed while its temporary binding existed");
}

pub fn killed_while_bound(bed: &dyn Bed) {
    let scene = killed_with_a_binding(bed);
    scene.setup().run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0], "the next setup releases it");
    scene.status().run().code(0);

    let scene = killed_with_a_binding(bed);
    scene.teardown().run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0], "the next teardown releases it");
    for place in ["runner Namespace", "job Namespace"] {
        assert_eq!(bed.admin().get(&scene.path(place)), None);
    }
}

pub fn leftover(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    scene.set_up();
    let account = bed.admin().get(&scene.path("ServiceAccount")).expect("setup made it");
    let id = account["metadata"]["annotations"]["outrigger.dev/id"].as_str().expect("the anchor has the id");
    let mut metadata = scene.our_metadata(id);
    metadata["name"] = json!(format!("{}-admin-0123456789abcdef", scene.deployment));
    metadata["namespace"] = json!(scene.job_namespace());
    let binding = bed.admin().create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::Binder.name()}],
    }));
    let name = binding["metadata"]["name"].as_str().expect("the name we gave");
    // It is found where it would be, not by the journal alone: the run that made it may have been
    // on another machine.
    scene.status().run().code(10).says(name);
    scene.setup().run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0]);
    scene.status().run().code(0);
}

pub fn two_at_once(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // Several at a time, as one may be through before another starts.
    let mut refused = 0;
    for _ in 0..10 {
        let commands: Vec<_> = (0..4).map(|_| scene.setup()).collect();
        let running: Vec<Running<'_>> = commands.iter().map(|command| command.start()).collect();
        let outputs: Vec<Output> = running.into_iter().map(Running::wait).collect();
        for output in outputs {
            match output.code {
                Some(6) => {
                    let _ = output.says("OR0601");
                    refused += 1;
                }
                _ => drop(output.code(0)),
            }
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "no run met another");
    // The lock is taken before the server is asked anything.
    let (url, connections) = counting_mute_server(true);
    let slow = with_server(&scene, &url).flag("--request-timeout", "50s");
    let running = slow.start();
    until("a request", || connections.load(Ordering::Acquire) > 0);
    scene.setup().fails("OR0601");
    let _ = running.kill();
    scene.setup().run().code(0);
    bed.mark();
    scene.status().run().code(0);
    assert_eq!(listing(&writes(bed)), "");
}

pub fn interrupt(bed: &dyn Bed) {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut ended = None;
        for _ in 0..20 {
            let scene = Scene::new(bed, User::Binder);
            let before = world(bed.admin());
            let setup = scene.setup();
            let mut running = setup.start();
            let started = Instant::now();
            let made = scene.path("runner Namespace");
            while !running.poll() && bed.admin().get(&made).is_none() {
                assert!(started.elapsed() < SOON, "no namespace is made");
            }
            let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a process id");
            let _ = kill_process(pid, signal);
            let output = running.wait();
            let stopped = output.code != Some(0);
            assert_eq!(scene.temporary_bindings(), [""; 0], "released on a signal too\n{output}");
            let _ = scene.teardown().run().code(0);
            assert_same("an interrupted setup and a teardown", &before, &world(bed.admin()));
            if stopped {
                ended = Some(output);
                break;
            }
        }
        let output = ended.expect("no run could be interrupted in time");
        let _ = output.code(code);
    }
}

/// A server that never answers, and somebody who does not want to wait: the first signal lets the request
/// in flight end, the second does not.
pub fn twice(bed: &dyn Bed) {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let scene = Scene::new(bed, User::Admin);
        let (url, connections) = counting_mute_server(true);
        let command = with_server(&scene, &url).flag("--request-timeout", "50s").flag("--output", "json");
        let running = command.start();
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        // The first comes while a request is in flight, the second once the first was answered.
        until("a request", || connections.load(Ordering::Acquire) > 0);
        let _ = kill_process(pid, signal);
        until("the first signal's answer", || running.has_said("press Ctrl-C again to stop immediately"));
        let _ = kill_process(pid, signal);
        let output = running.wait().code(code);
        assert!(output.took < SOON, "{output}");
        let lines = output.json_lines();
        assert!(lines.iter().any(|line| line["type"] == "note"), "the first one is answered\n{output}");
        assert_eq!(lines.last().expect("a last line")["type"], "result", "{output}");
        assert_eq!(lines.last().expect("a last line")["exit"], code, "{output}");
    }
}

/// Waits for something that happens in another process.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
