//! What only a double can do to a run: fail, hang or cut it off at one chosen request.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use outrigger_doubles::cluster::{Action, Fault};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Doubles;
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Output, SOON};
use crate::common::snapshot::fails;
use crate::scenarios::disk::Disk;
use crate::scenarios::host::Host;
use crate::scenarios::rotate::{Worked, in_no_time, token_in, tokens};
use crate::scenarios::{Scene, lifecycle};

/// A behaviour that needs a double.
type OnDoubles = fn(&'static Doubles);

/// The trials of this file.
pub const FAULTS: &[(&str, OnDoubles)] = &[
    ("killed_after_each_request", killed_after),
    ("killed_before_each_request", killed_before),
    ("killed_with_cluster_admin", killed_with_cluster_admin),
    ("answer_lost_at_each_post", answer_lost),
    ("binding_announced_and_journalled_first", announced),
    ("binding_cannot_be_released", release_refused),
    ("binding_of_a_teardown_cannot_be_released", teardown_release_refused),
    ("binding_is_not_honoured_at_once", binding_lags),
    ("teardown_killed_after_each_request", teardown_killed),
    ("rotation_killed_at_each_write", rotation_killed),
    ("host_setup_killed_at_each_write", host_setup_killed),
    ("teardown_goes_on_past_failures", teardown_goes_on),
    ("teardown_names_each_namespace_that_stays", namespaces_stay),
    ("unavailable_for_ever", unavailable),
    ("told_to_come_back_in_an_hour", too_many_requests),
    ("same_command_is_promised_only_where_it_continues", same_command),
    ("no_duration_stands_beside_data", no_duration),
    ("interrupted_while_told_to_come_back", interrupted_while_waiting),
    ("answers_html", html),
    ("request_that_is_refused", refused_request),
    ("lists_without_end", lists_without_end),
    ("state_directory_that_becomes_read_only", read_only_on_the_way),
    ("answer_with_a_token_cut_short", cut_short),
    ("hangs_in_the_middle", hangs_midway),
    ("authorizer_lags_behind_the_binding", authorizer_lags),
    ("proofs_that_fail", proofs_that_fail),
    ("token_that_is_accepted_late", token_that_is_accepted_late),
    ("impersonated_user_and_groups_in_each_request", impersonated),
];

fn fault(method: Option<&str>, path_contains: &str, skip: usize, times: usize, action: Action) -> Fault {
    Fault {
        method: method.map(str::to_owned),
        path_contains: path_contains.to_owned(),
        query_contains: String::new(),
        skip,
        times,
        action,
    }
}

/// Everything that is stored.
fn stored(bed: &Doubles) -> BTreeMap<String, Value> {
    bed.cluster.objects()
}

fn assert_restored(what: &str, before: &BTreeMap<String, Value>, bed: &Doubles) {
    // The double empties namespaces within milliseconds, but not within the request.
    let _settled = crate::common::world::world(bed.admin());
    let differences = crate::common::world::diff(before, &stored(bed));
    assert!(differences.is_empty(), "{what}: the world differs\n{differences}");
}

type Kill = Box<dyn Fn() + Send + Sync>;

/// Runs a command that is killed at its n-th request of a method, if there is one.
fn killed_at(
    bed: &Doubles,
    command: &Cli<'_>,
    method: &str,
    nth: usize,
    action: impl Fn(Kill) -> Action,
) -> Output {
    killed_on(bed, command, |kill| fault(Some(method), "", nth, 1, action(kill)))
}

fn killed_on(bed: &Doubles, command: &Cli<'_>, fault: impl FnOnce(Kill) -> Fault) -> Output {
    let pid = Arc::new(AtomicI32::new(0));
    let target = Arc::clone(&pid);
    let kill = move || {
        // The request may come in before we know whose it is.
        while target.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let pid = Pid::from_raw(target.load(Ordering::Acquire)).expect("a process id");
        let _ = kill_process(pid, Signal::KILL);
    };
    bed.cluster.inject(fault(Box::new(kill)));
    let running = command.start();
    pid.store(i32::try_from(running.pid()).expect("ids are small"), Ordering::Release);
    let output = running.wait();
    bed.cluster.clear_faults();
    output
}

/// Kills `setup` at its n-th request of a method, for every n, and lets the next run clean up.
fn killed_at_each(bed: &'static Doubles, extra: &[&str], action: impl Fn(Kill) -> Action) {
    for method in ["POST", "PATCH", "PUT", "DELETE"] {
        for nth in 0.. {
            assert!(nth < 200, "a setup does not take so many requests");
            let scene = Scene::new(bed, User::Binder);
            let before = stored(bed);
            let setup = || scene.setup().args(extra.iter().copied());
            let output = killed_at(bed, &setup(), method, nth, &action);
            if output.code.is_some() {
                // There is no n-th request any more: the run was left in peace.
                let _ = output.code(0);
                let _ = scene.teardown().run().code(0);
                break;
            }
            let what = format!("killed at {method} number {nth}");
            if nth % 2 == 0 {
                let again = setup().run();
                assert!(again.code == Some(0), "{what}\n{again}");
                assert_eq!(scene.temporary_bindings(), [""; 0], "{what}: setup leaves no binding");
                let status = scene.status().run();
                assert!(status.code == Some(0), "{what}\n{status}");
            }
            // The run may have been killed before it created anything.
            let teardown = scene.teardown().arg("--ignore-not-found").run();
            assert!(teardown.code == Some(0), "{what}\n{teardown}");
            assert_eq!(scene.temporary_bindings(), [""; 0], "{what}: teardown leaves no binding");
            assert_restored(&what, &before, bed);
        }
    }
}

fn killed_after(bed: &'static Doubles) {
    killed_at_each(bed, &[], Action::KillAfter);
}

/// The article's way leaves no more behind: here that would be cluster-admin.
fn killed_with_cluster_admin(bed: &'static Doubles) {
    lifecycle::binding_cluster_wide(bed, || killed_at_each(bed, &["--cluster-admin"], Action::KillAfter));
}

fn killed_before(bed: &'static Doubles) {
    killed_at_each(bed, &[], Action::KillBefore);
}

fn answer_lost(bed: &'static Doubles) {
    for nth in 0..200 {
        let scene = Scene::new(bed, User::Binder);
        let before = stored(bed);
        bed.mark();
        bed.cluster.inject(fault(Some("POST"), "", nth, 1, Action::ResetAfter));
        let output = scene.setup().run();
        bed.cluster.clear_faults();
        // A request without an answer is logged with status 0.
        let hit = bed.requests().iter().any(|request| request.status == 0);
        let what = format!("the answer to POST number {nth} was lost");
        // Read back and gone on, or stopped: but never taken for somebody else's object.
        assert!(matches!(output.code, Some(0 | 3 | 5 | 8)), "{what}\n{output}");
        let again = scene.setup().run();
        assert!(again.code == Some(0), "{what}\n{again}");
        assert_eq!(scene.temporary_bindings(), [""; 0], "{what}");
        let teardown = scene.teardown().run();
        assert!(teardown.code == Some(0), "{what}\n{teardown}");
        assert_restored(&what, &before, bed);
        if !hit {
            return;
        }
    }
}

/// Before the temporary binding is asked for, its name is on disk and the command that deletes it has
/// been shown; and where it was never made, the next run finds nothing amiss.
fn announced(bed: &'static Doubles) {
    announced_by(bed, &[]);
    // Whoever wants no plan still has to be able to undo what a killed run leaves.
    announced_by(bed, &["-q"]);
}

fn announced_by(bed: &'static Doubles, extra: &[&str]) {
    let scene = Scene::new(bed, User::Binder);
    let before = stored(bed);
    let setup = scene.setup().args(extra.iter().copied());
    let binding = |kill| fault(Some("POST"), "/rolebindings", 0, 1, Action::KillBefore(kill));
    let output = killed_on(bed, &setup, binding);
    assert_eq!(output.code, None, "killed\n{output}");
    assert_eq!(scene.temporary_bindings(), [""; 0], "it was not made");

    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    let record: Value = serde_json::from_slice(&std::fs::read(record).expect("a record")).expect("JSON");
    let prefix = format!("{}-admin-", scene.deployment);
    let intents = record["intents"].as_array().cloned().unwrap_or_default();
    let names = intents.iter().filter_map(|intent| intent["name"].as_str());
    let names: Vec<&str> = names.filter(|name| name.starts_with(&prefix)).collect();
    assert_eq!(names.len(), 1, "journalled before it was asked for: {record}");
    let place = scene.job_namespace();
    let undo = format!("delete -n {place} rolebinding {}", names[0]);
    assert!(output.stderr().contains(&undo), "{undo}\n{output}");

    let _ = scene.status().run().code(10).never_says(names[0]);
    let _ = scene.setup().run().code(0);
    let _ = scene.status().run().code(0);
    let _ = scene.teardown().run().code(0);
    assert_restored("a binding that was never made", &before, bed);
}

fn teardown_goes_on(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let before = stored(bed);
    let _ = scene.set_up();
    let frozen = Action::Status(422, "Invalid".to_owned(), "this is frozen today".to_owned());
    // The RoleBinding goes; Role, job ServiceAccount and the namespace they are in do not.
    let place = format!("/namespaces/{}", scene.job_namespace());
    bed.cluster.inject(fault(Some("DELETE"), &place, 1, usize::MAX, frozen));
    let output = scene.teardown().run().code(5).says("frozen today").says("the old token gets 401");
    bed.cluster.clear_faults();
    let receipt = output.stdout();
    for (state, what) in
        [("left", "Role "), ("left", "ServiceAccount "), ("removed", "Secret "), ("removed", "RoleBinding ")]
    {
        let line = |line: &str| line.trim().starts_with(state) && line.contains(what);
        assert!(receipt.lines().any(line), "{state} {what}\n{output}");
    }
    assert!(
        bed.admin().get(&scene.path("Role")).is_some()
            && bed.admin().get(&scene.path("ServiceAccount")).is_none()
    );
    assert!(bed.admin().get(&scene.path("runner Namespace")).is_none());
    let last = output.stderr();
    let last = last.lines().map(str::trim).rfind(|line| line.starts_with("outrigger "));
    assert!(last.is_some_and(|line| line.starts_with("outrigger teardown --deployment")), "{output}");
    let _ = scene.teardown().run().code(0);
    assert_restored("a teardown in two runs", &before, bed);
}

fn namespaces_stay(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let before = stored(bed);
    let _ = scene.set_up();
    let frozen = Action::Status(403, "Forbidden".to_owned(), "namespaces are frozen today".to_owned());
    let namespaces = format!("/namespaces/{}", scene.deployment);
    // The five objects inside go first.
    bed.cluster.inject(fault(Some("DELETE"), &namespaces, 5, usize::MAX, frozen));
    let output = scene.teardown().run();
    bed.cluster.clear_faults();
    let output = output.code(4);
    let output = output.says(&format!("may not delete Namespace {}", scene.job_namespace()));
    let output = output.says(&format!("may not delete Namespace {}", scene.runner_namespace()));
    let _ = output.says("namespaces are frozen today");
    let _ = scene.teardown().run().code(0);
    assert_restored("a teardown in two runs", &before, bed);
}

fn release_refused(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Binder);
    let refusal = Action::Status(403, "Forbidden".to_owned(), "rolebindings are frozen today".to_owned());
    let temporary = format!("rolebindings/{}-admin-", scene.deployment);
    bed.cluster.inject(fault(Some("DELETE"), &temporary, 0, usize::MAX, refusal));
    let output = scene.setup().run().code(5);
    bed.cluster.clear_faults();
    let left = scene.temporary_bindings();
    assert_eq!(left.len(), 1, "{left:?}\n{output}");
    // The command that deletes it is what remains on the screen; only where to read more and the exit
    // code may follow.
    let stderr = output.stderr();
    let closing = |line: &str| line.is_empty() || line.starts_with("more ") || line.contains("exit 5");
    let last = stderr.lines().map(str::trim).rfind(|line| !closing(line)).unwrap_or_default();
    assert!(last.contains("delete") && last.contains(&left[0]), "the last line is the command\n{output}");
    let _ = scene.status().run().code(10);
    let _ = scene.setup().run().code(0);
    assert_eq!(scene.temporary_bindings(), [""; 0]);
}

fn teardown_release_refused(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Binder);
    let before = stored(bed);
    let _ = scene.set_up();
    let refusal = Action::Status(403, "Forbidden".to_owned(), "rolebindings are frozen today".to_owned());
    let temporary = format!("rolebindings/{}-admin-", scene.deployment);
    bed.cluster.inject(fault(Some("DELETE"), &temporary, 0, usize::MAX, refusal));
    let output = scene.teardown().run().code(5);
    bed.cluster.clear_faults();
    let left = scene.temporary_bindings();
    assert_eq!(left.len(), 1, "{left:?}\n{output}");
    let stderr = output.stderr();
    let closing = |line: &str| line.is_empty() || line.starts_with("more ") || line.contains("exit 5");
    let last = stderr.lines().map(str::trim).rfind(|line| !closing(line)).unwrap_or_default();
    assert!(last.contains("delete") && last.contains(&left[0]), "the last line is the command\n{output}");
    let _ = scene.teardown().run().code(0);
    assert_restored("a teardown in two runs", &before, bed);
}

/// Authorizers lag behind a binding: what it allows may be refused a moment longer.
fn binding_lags(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Binder);
    let words = "user is attempting to grant RBAC permissions not currently held";
    let refusal = || Action::Status(403, "Forbidden".to_owned(), words.to_owned());
    let jobs = scene.job_namespace();
    for (path, skip) in [(format!("{jobs}/roles"), 0), (format!("{jobs}/rolebindings"), 1)] {
        bed.cluster.inject(fault(Some("POST"), &path, skip, 3, refusal()));
    }
    let _ = scene.setup().run().code(0);
    bed.cluster.clear_faults();
    assert_eq!(scene.temporary_bindings(), [""; 0]);
    let _ = scene.status().run().code(0);
    // It can come into force between two lists of one look: what was listed before is not hidden for good.
    for resource in ["configmaps", "endpoints", "limitranges"] {
        let words = format!("{resource} is forbidden");
        let refusal = Action::Status(403, "Forbidden".to_owned(), words);
        bed.cluster.inject(fault(Some("GET"), &format!("{jobs}/{resource}"), 0, 1, refusal));
    }
    let _ = scene.teardown().run().code(0);
    bed.cluster.clear_faults();
}

/// A teardown borrows rights too: killed at whichever write, the next one leaves nothing.
fn teardown_killed(bed: &'static Doubles) {
    for method in ["POST", "PATCH", "DELETE"] {
        for nth in 0..200 {
            let scene = Scene::new(bed, User::Binder);
            let before = stored(bed);
            let _ = scene.set_up();
            let teardown = scene.teardown();
            let output = killed_at(bed, &teardown, method, nth, Action::KillAfter);
            if output.code.is_some() {
                let _ = output.code(0);
                break;
            }
            let what = format!("teardown killed at {method} number {nth}");
            let again = scene.teardown().run();
            assert!(again.code == Some(0), "{what}\n{again}");
            assert_eq!(scene.temporary_bindings(), [""; 0], "{what}");
            assert_restored(&what, &before, bed);
        }
    }
}

/// A setup that meets a fault at every request, with a short deadline. It is as loud as it can: what servers say is
/// searched for secrets, too.
fn setup_against(bed: &'static Doubles, action: Action) -> Output {
    run_against(bed, action, |setup| setup.args(["-v", "-v", "-v"]))
}

/// The same at a width, with what everybody is shown.
fn setup_at(bed: &'static Doubles, columns: usize, action: Action) -> Output {
    run_against(bed, action, |setup| setup.at(columns))
}

fn run_against(bed: &'static Doubles, action: Action, with: impl Fn(Cli<'_>) -> Cli<'_>) -> Output {
    let scene = Scene::new(bed, User::Admin);
    let before = stored(bed);
    bed.cluster.inject(fault(None, "", 0, usize::MAX, action));
    let output = with(scene.setup().flag("--timeout", "3s")).run();
    bed.cluster.clear_faults();
    assert_eq!(crate::common::world::diff(&before, &stored(bed)), "", "nothing is changed\n{output}");
    assert!(output.took < SOON, "the deadline is kept\n{output}");
    output
}

fn unavailable(bed: &'static Doubles) {
    let action = || Action::Status(503, "ServiceUnavailable".to_owned(), "etcd is having a nap".to_owned());
    let _ = setup_against(bed, action()).code(8).says("etcd is having a nap");
    fails("OR0804", |columns| setup_at(bed, columns, action()));
}

/// A request that the server does not take as it is: its own words, and no other kind of failure.
fn refused_request(bed: &'static Doubles) {
    let action = || Action::Status(422, "Invalid".to_owned(), "spec is invalid: too much of it".to_owned());
    let _ = setup_against(bed, action()).code(1).says("too much of it");
    fails("OR0103", |columns| setup_at(bed, columns, action()));
}

/// "The same command goes on from here" is said of a failure that passes, never of one that lasts.
fn same_command(bed: &'static Doubles) {
    const PROMISE: &str = "the same command goes on from here";
    let status = |code, reason: &str, words: &str| Action::Status(code, reason.to_owned(), words.to_owned());
    let policy = "admission webhook \"validation.gatekeeper.sh\" denied the request: you must provide labels";
    for (passes, action) in [
        (false, status(400, "BadRequest", policy)),
        (false, status(422, "Invalid", policy)),
        (false, status(403, "Forbidden", policy)),
        (true, status(503, "ServiceUnavailable", "etcd is having a nap")),
    ] {
        let scene = Scene::new(bed, User::Admin);
        // The namespaces are made; the Secret is what the server does not take.
        bed.cluster.inject(fault(Some("POST"), "/secrets", 0, usize::MAX, action));
        let output = scene.setup().flag("--timeout", "3s").run();
        bed.cluster.clear_faults();
        let output = output.says("what is done stays");
        let _ = if passes { output.says(PROMISE) } else { output.never_says(PROMISE) };
        let _ = scene.setup().run().code(0);
        let _ = scene.teardown().run().code(0);
    }
}

/// A command that prints data has nothing to say beside them, however slow the server is.
fn no_duration(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let _ = scene.set_up();
    bed.cluster.inject(fault(None, "", 0, usize::MAX, Action::Late(Duration::from_millis(120))));
    let printed = [
        scene.command("list").arg("--live").run(),
        scene.command("create-role").arg("--print").run(),
        scene.command("launch-script").arg("--print-commands").run(),
    ];
    let listed = scene.elsewhere(User::Admin).command("list").run();
    bed.cluster.clear_faults();
    for output in printed {
        let output = output.code(0);
        let said = output.stderr();
        let beside: Vec<_> = said.lines().filter(|line| !line.starts_with("connecting to ")).collect();
        assert_eq!(beside, [""; 0], "nothing to say beside them\n{output}");
        assert_ne!(output.stdout().trim(), "", "{output}");
    }
    let listed = listed.code(0);
    assert_eq!(listed.stderr().trim(), "No deployments found.", "{listed}");
    let _ = scene.teardown().run().code(0);
}

fn too_many_requests(bed: &'static Doubles) {
    let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests",
        "message":"slow down, please","code":429}"#;
    let headers = vec![("Retry-After".to_owned(), "3600".to_owned())];
    let action = || Action::Headers(429, headers.clone(), body.to_owned(), "application/json".to_owned());
    let _ = setup_against(bed, action()).code(8).says("slow down, please").says("3600 s");
    fails("OR0803", |columns| setup_at(bed, columns, action()));
}

/// A wait that the server asked for is no request in flight: Ctrl-C ends it at once.
fn interrupted_while_waiting(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let headers = vec![("Retry-After".to_owned(), "60".to_owned())];
    let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"later","code":429}"#;
    let action = Action::Headers(429, headers, body.to_owned(), "application/json".to_owned());
    bed.cluster.inject(fault(None, "", 0, usize::MAX, action));
    bed.mark();
    let setup = scene.setup();
    let running = setup.start();
    let started = std::time::Instant::now();
    while bed.requests().iter().all(|request| request.status != 429) {
        assert!(started.elapsed() < SOON, "no request comes in");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, Signal::INT);
    let output = running.wait();
    bed.cluster.clear_faults();
    let output = output.code(130);
    assert!(output.took < SOON, "{output}");
}

fn html(bed: &'static Doubles) {
    let page = "<html><body>\u{1b}[31mPlease log in</body></html>".to_owned();
    let action = || Action::Headers(200, Vec::new(), page.clone(), "text/html".to_owned());
    fails("OR0321", |columns| setup_at(bed, columns, action()));
    let output = setup_against(bed, action()).code(3);
    assert!(!output.stderr.contains(&0x1b), "what servers say is stripped of control characters");
}

/// Right after the binding the account has no rights yet, for two rounds of questions: asked again. Where
/// nothing was just bound, the same answer is believed.
fn authorizer_lags(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let nothing = r#"{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","status":
        {"resourceRules":[],"nonResourceRules":[],"incomplete":false}}"#;
    let lag = |skip, times| {
        let answer = Action::Headers(201, Vec::new(), nothing.to_owned(), "application/json".to_owned());
        bed.cluster.inject(fault(Some("POST"), "selfsubjectrulesreviews", skip, times, answer));
    };
    // Preflight asks twice for the operator, the proof three times for the account.
    lag(2, 6);
    bed.mark();
    let _ = scene.setup().run().code(0);
    bed.cluster.clear_faults();
    let rounds = bed.requests().iter().filter(|r| r.path.ends_with("selfsubjectrulesreviews")).count();
    assert_eq!(rounds, 2 + 3 * 3);
    lag(0, usize::MAX);
    bed.mark();
    let output = scene.status().run().code(9);
    let asked = bed.requests().iter().filter(|r| r.path.ends_with("selfsubjectrulesreviews")).count();
    assert!(asked <= 2 + 3, "nothing was bound: no reason to ask again ({asked} times)\n{output}");
    bed.cluster.clear_faults();
}

/// A good answer that breaks off is quoted nowhere: what came of it may hold a token.
fn cut_short(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let leak = "canary-in-half-an-answer-5Wq8";
    scene.home.canary(leak);
    let body = format!(r#"{{"status":{{"token":"{leak}","expirationTimestamp":"20"#);
    let action = Action::Headers(201, Vec::new(), body, "application/json".to_owned());
    bed.cluster.inject(fault(Some("POST"), "/token", 0, usize::MAX, action));
    let output = scene.setup().flag("--token-lifetime", "30d").args(["-v", "-v", "-v"]).run();
    bed.cluster.clear_faults();
    assert!(matches!(output.code, Some(5 | 8)), "{output}");
    let _ = output.says("invalid JSON");
    let _ = scene.setup().run().code(0);
    let _ = scene.teardown().run().code(0);
}

/// Each part of the proof, failing alone: exit 9, says which, and no script is written.
fn proofs_that_fail(bed: &'static Doubles) {
    use base64::Engine as _;
    let edit = |change: fn(&mut Value)| Action::Edit(Box::new(change));
    let refusal = |code, reason: &str| Action::Status(code, reason.to_owned(), "says the double".to_owned());
    // Somebody else's claims, in a token of the right shape.
    let swapped = || {
        edit(|secret: &mut Value| {
            let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
            let token = format!("e30.{}.c2ln", encode(r#"{"sub":"system:serviceaccount:kube-system:root"}"#));
            if secret["data"]["token"].is_string() {
                secret["data"]["token"] = base64::engine::general_purpose::STANDARD.encode(token).into();
            }
        })
    };
    let renamed = || edit(|review| review["status"]["userInfo"]["username"] = "proxy".into());
    let against = |columns: usize, method: &str, path: &str, action: Action| {
        let scene = Scene::new(bed, User::Admin);
        bed.cluster.inject(fault(Some(method), path, 1, usize::MAX, action));
        let output = scene.setup().flag("--timeout", "15s").at(columns).run();
        bed.cluster.clear_faults();
        output
    };
    fails("OR0901", |columns| against(columns, "GET", "-token", swapped()));
    let forbidden = || refusal(403, "Forbidden");
    fails("OR0906", |columns| against(columns, "GET", "/version", forbidden()));
    fails("OR0902", |columns| against(columns, "POST", "selfsubjectreviews", renamed()));
    // The operator asks who he is once, and for the version once, before the token does.
    let parts = [
        ("GET", "-token", 1, swapped(), "OR0901", "the token's sub does not match"),
        ("POST", "selfsubjectreviews", 1, renamed(), "OR0902", "the token belongs to proxy"),
        ("POST", "selfsubjectreviews", 1, refusal(401, "Unauthorized"), "OR0902", "does not accept"),
        ("GET", "/version", 1, refusal(403, "Forbidden"), "OR0906", "/version"),
    ];
    for (method, path, skip, action, id, words) in parts {
        let scene = Scene::new(bed, User::Admin);
        bed.cluster.inject(fault(Some(method), path, skip, usize::MAX, action));
        let output = scene.setup().flag("--timeout", "15s").args(["-v", "-v"]).run();
        bed.cluster.clear_faults();
        let _ = output.code(9).says(id).says(words);
        assert!(!scene.home.script(&scene.deployment).exists(), "{id}: a script without a proof");
        let _ = scene.setup().run().code(0);
        let _ = scene.teardown().run().code(0);
    }
}

/// The API server may still have the Secret of before it was filled.
fn token_that_is_accepted_late(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let refusal = Action::Status(401, "Unauthorized".to_owned(), "Unauthorized".to_owned());
    bed.cluster.inject(fault(Some("POST"), "selfsubjectreviews", 1, 3, refusal));
    let output = scene.setup().run();
    bed.cluster.clear_faults();
    let _ = output.code(0);
}

fn hangs_midway(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Binder);
    let roles = format!("namespaces/{}/roles", scene.job_namespace());
    bed.cluster.inject(fault(Some("POST"), &roles, 0, usize::MAX, Action::Hang));
    let output = scene.setup().flag("--timeout", "3s").run();
    bed.cluster.clear_faults();
    let output = output.code(8);
    assert!(output.took < SOON, "{output}");
    assert_eq!(scene.temporary_bindings(), [""; 0], "released on failure too\n{output}");
    let _ = scene.setup().run().code(0);
}

/// What is done cannot be noted any more: the run stops, and says that it stopped part-way.
fn read_only_on_the_way(bed: &'static Doubles) {
    use std::os::unix::fs::PermissionsExt as _;
    fails("OR0503", |columns| {
        let scene = Scene::new(bed, User::Admin);
        let state = scene.home.state();
        let mode = |bits| std::fs::set_permissions(&state, std::fs::Permissions::from_mode(bits));
        let close = {
            let state = state.clone();
            move |_: &mut Value| {
                let closed = std::fs::Permissions::from_mode(0o500);
                std::fs::set_permissions(&state, closed).expect("a folder of ours");
            }
        };
        bed.cluster.inject(fault(Some("POST"), "/serviceaccounts", 0, 1, Action::Edit(Box::new(close))));
        // Root writes everywhere, unless it has no more capabilities than other users.
        let output = scene.setup().at(columns).without_capabilities().run();
        bed.cluster.clear_faults();
        mode(0o700).expect("a folder of ours");
        let _ = scene.setup().run().code(0);
        let _ = scene.teardown().run().code(0);
        output
    });
}

/// The disk takes nothing more from the n-th write to the cluster on, for every n: what is done is found
/// again and gone on from.
pub fn disk_fills_up(bed: &'static Doubles) {
    for nth in 0..50 {
        let scene = Scene::new(bed, User::Binder);
        let before = stored(bed);
        let disk = Arc::new(Disk::new(&scene.home.state()).expect("it was possible a moment ago"));
        let full = Arc::clone(&disk);
        let fill = move |_: &mut Value| full.fill();
        bed.cluster.inject(fault(Some("POST"), "/api", nth, 1, Action::Edit(Box::new(fill))));
        let output = scene.setup().run();
        bed.cluster.clear_faults();
        let what = format!("full from POST number {nth} on");
        assert!(matches!(output.code, Some(0 | 3 | 5)), "{what}\n{output}");
        assert_eq!(scene.temporary_bindings(), [""; 0], "{what}: released all the same\n{output}");
        let done = output.code == Some(0);
        if !done {
            let _ = output.says("OR0503").says("free disk space");
        }
        disk.free();
        let again = scene.setup().run();
        assert!(again.code == Some(0), "{what}\n{again}");
        let teardown = scene.teardown().run();
        assert!(teardown.code == Some(0), "{what}\n{teardown}");
        assert_restored(&what, &before, bed);
        if done {
            return;
        }
    }
    panic!("a setup does not take so many requests");
}

/// A server that always has a next page, or fills one with millions of values, takes neither time nor memory
/// without end; and what is not read to its end decides nothing.
fn lists_without_end(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let before = stored(bed);
    let lists = |change: fn(&mut Value)| {
        Action::Edit(Box::new(move |answer: &mut Value| {
            if answer["items"].is_array() {
                change(answer);
            }
        }))
    };
    let empty = lists(|list| {
        list["items"] = json!([]);
        list["metadata"]["continue"] = "more".into();
    });
    let full = lists(|list| {
        let one = json!({"metadata": {"name": "n".repeat(200), "managedFields": ["x".repeat(2000)]}});
        list["items"] = vec![one; 500].into();
        list["metadata"]["continue"] = "more".into();
    });
    let numbers = lists(|list| list["items"] = vec![0; 4_000_000].into());
    for (action, says) in [
        (empty, "the list has more than 100 pages"),
        (full, "the list has more than 10000 entries"),
        (numbers, "the response has too many values"),
    ] {
        scene.set_up();
        let place = format!("/namespaces/{}/configmaps", scene.job_namespace());
        bed.cluster.inject(fault(Some("GET"), &place, 0, usize::MAX, action));
        let command = scene.teardown().flag("--timeout", "60s");
        let mut running = command.start();
        let mut peak = 0;
        while !running.poll() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid()));
            let held = status.unwrap_or_default().lines().find_map(|line| {
                line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
            });
            peak = peak.max(held.unwrap_or_default());
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = running.wait();
        bed.cluster.clear_faults();
        let output = output.says("OR0323").says(says);
        assert!(matches!(output.code, Some(3 | 5)), "{output}");
        assert!(peak < 256 << 10, "{says}: {peak} kB");
        let namespace = bed.admin().get(&scene.path("job Namespace"));
        assert!(namespace.is_some_and(|one| one["metadata"]["deletionTimestamp"].is_null()), "{says}");
    }
    scene.teardown().run().code(0);
    assert_restored("lists without end", &before, bed);
}

/// Each request of the operator asks to act as the user and the groups of `--as` and `--as-group`, and none of the
/// runner's own does.
fn impersonated(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let groups = ["corp:deployers, west", "system:masters"];
    let whom = ("dev@corp.example.com".to_owned(), groups.map(str::to_owned).to_vec());
    let commands = [
        scene.command("preflight"),
        scene.setup(),
        scene.status(),
        scene.command("list").arg("--live"),
        scene.teardown(),
    ];
    let mut runners = 0;
    for command in commands {
        let command = groups
            .iter()
            .fold(command.flag("--as", &whom.0), |command, group| command.args(["--as-group", group]));
        bed.cluster.clear_requests();
        let output = command.run().code(0);
        let (own, others): (Vec<_>, Vec<_>) = bed
            .cluster
            .requests()
            .into_iter()
            .filter(|request| request.user != crate::HARNESS)
            .partition(|request| request.user == User::Admin.name());
        assert!(!own.is_empty(), "{output}");
        for request in own {
            assert_eq!(request.acts_as, whom, "{} {}\n{output}", request.method, request.path);
        }
        runners += others.len();
        for request in others {
            assert_eq!(request.acts_as.0, "", "{} {} by {}", request.method, request.path, request.user);
        }
    }
    assert!(runners > 0, "the runner's token was tried");
}

/// The writes at which a run is killed, by method and a part of the path.
const WRITES: [(&str, &str); 3] = [("POST", "/namespaces"), ("PATCH", ""), ("DELETE", "")];

/// Calls `at` for the n-th write of each kind and both ways, until it says that there is none.
fn each_write(mut at: impl FnMut(&dyn Fn(Kill) -> Fault) -> bool) {
    for (method, path) in WRITES {
        for action in [Action::KillAfter, Action::KillBefore] {
            for nth in 0.. {
                assert!(nth < 100, "a run does not take so many writes");
                if !at(&|kill| fault(Some(method), path, nth, 1, action(kill))) {
                    break;
                }
            }
        }
    }
}

/// Killed at any time: never without a valid token, and one at the end.
fn rotation_killed(bed: &'static Doubles) {
    each_write(|fault| {
        let worked = Worked::new(bed, &[]);
        let (scene, site) = (worked.scene(), &worked.site);
        let output = in_no_time(site, || killed_on(bed, &worked.rotate("cluster"), fault));
        let left = tokens(scene);
        assert!((1..=2).contains(&left.len()), "{left:?}\n{output}");
        let current = token_in(&worked.host.read("got.secrets"), "bearer_token");
        assert!(left.iter().any(|(_, token)| *token == current), "the host's token is gone\n{output}");
        if output.code.is_some() {
            let _ = output.code(0);
            return false;
        }
        let output = in_no_time(site, || worked.rotate("cluster").run()).code(0);
        let left = tokens(scene);
        let current = token_in(&worked.host.read("got.secrets"), "bearer_token");
        assert_eq!(left.len(), 1, "{output}");
        assert_eq!(left[0].1, current, "{output}");
        let _ = worked.host.command("status").run().code(0);
        let _ = worked.host.command("teardown").arg("--yes").run().code(0);
        true
    });
}

/// `setup --host` killed at any write: the same command finishes, and nothing stays where it does not belong.
fn host_setup_killed(bed: &'static Doubles) {
    each_write(|fault| {
        let host = Host::new(bed);
        let output = killed_on(bed, &host.setup(), fault);
        let was_killed = output.code.is_none();
        let script = host.scene.home.script(&host.scene.deployment);
        for file in [script.clone(), script.with_extension("sh.secrets")] {
            if let Ok(meta) = fs::metadata(&file) {
                assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{}", file.display());
            }
        }
        let _ = host.setup().run().code(0);
        assert!(!script.exists() && !script.with_extension("sh.secrets").exists());
        let left: Vec<_> = fs::read_dir(host.path("run")).expect("a folder").flatten().collect();
        let is_ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("outrigger");
        let is_lock = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".lock");
        assert!(left.iter().all(|entry| !is_ours(entry) || is_lock(entry)), "{left:?}");
        let _ = host.command("status").run().code(0);
        let _ = host.command("teardown").arg("--yes").run().code(0);
        was_killed
    });
}
