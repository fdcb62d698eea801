//! What GitLab answers on bad days, and how many requests good ones take.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::common::snapshot::fails;

pub fn odd_answers(bed: &'static Doubles) {
    let nulls = |value: &mut Value| {
        if let Some(fields) = value.as_object_mut() {
            for (key, value) in fields.iter_mut() {
                if value.is_boolean() {
                    *value = Value::Null;
                }
                if key == "status" {
                    *value = json!("levitating");
                }
            }
            fields.insert("added_in_20_0".to_owned(), json!({"deep": [1, 2, 3]}));
        }
    };
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.inject(fault("GET", "", Action::Edit(Box::new(nulls))));
    setup(&scene, &site).run().code(0);
    setup(&scene, &site).run().code(0);
    let _ = site.project(&scene.home, scene.status(), "maintainer").run().code(10).says(NO_MACHINE);
    let _ = teardown(&scene, &site).run().code(0);
    site.gitlab.clear_faults();

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = |text: &str| Action::Headers(200, Vec::new(), text.to_owned(), "application/json".to_owned());
    for (what, action, words) in [
        ("a flood", Action::Flood(100 << 20), "larger than 8 MiB"),
        ("nesting", body(&deep), "is not valid JSON"),
        ("half a text", body("{\"id\": 1"), "is not valid JSON"),
        ("another shape", body("[\"project\"]"), "is not a project"),
        ("a drip", Action::Drip("{\"id\": 101}".to_owned(), Duration::from_secs(1)), "timed out"),
        ("silence", Action::Hang, "timed out"),
        ("a hang-up", Action::ResetBefore, "cannot connect to GitLab"),
        ("a sign-in page", Action::sign_in_page(), "sign-in page"),
        ("a bad gateway", Action::bad_gateway(), "502"),
        ("another content type", Action::ContentType("text/plain".to_owned()), "text/plain"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        bed.mark();
        site.gitlab.inject(fault("GET", "/projects/", action));
        let command = setup(&scene, &site).args(["--timeout", "4s", "--request-timeout", "1s"]);
        let output = command.run();
        site.gitlab.clear_faults();
        assert!(matches!(output.code, Some(3 | 8)), "{what}\n{output}");
        assert!(output.took < SOON, "{what}: it took {:?}\n{output}", output.took);
        let _ = output.says(words);
        assert_eq!(listing(&writes(bed)), "", "{what}: nothing was changed");
    }
}

/// A list that always has a next page is not followed for ever, and decides nothing.
pub fn lists_without_end(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    site.gitlab.inject(fault("GET", "/jobs", Action::NextPage));
    let output = teardown(&scene, &site).flag("--timeout", "60s").run();
    let asked = site.gitlab.requests().iter().filter(|one| one.path.ends_with("/jobs")).count();
    teardown(&scene, &site).flag("--timeout", "60s").fails("OR0323");
    site.gitlab.clear_faults();
    let _ = output.code(3).says("the list has more than 100 pages");
    assert!(asked <= 101, "{asked} pages were asked for");
    assert_eq!(site.gitlab.runners().len(), 1, "a runner whose jobs are not known stays");
    teardown(&scene, &site).run().code(0);
}

pub fn maintenance(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.set_maintenance(true);
    bed.mark();
    let _ = setup(&scene, &site).run().code(3).says("maintenance");
    assert_eq!(listing(&writes(bed)), "", "the cluster is not touched for a GitLab that takes nothing");
    site.gitlab.set_maintenance(false);
    setup(&scene, &site).run().code(0);
}

pub fn throttled(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    // What heals is waited for, also by a creation, which the throttle has not looked at.
    for path in ["/projects/", "/user/runners"] {
        site.gitlab.inject(once("", path, Action::retry_later(&[("Retry-After", "1")])));
    }
    setup(&scene, &site).run().code(0).says("retry");
    assert_one_good_runner(&scene, &site, "throttled once");
    // An hour is longer than a run may take: said at once.
    let reset = (jiff::Timestamp::now().as_second() + 3600).to_string();
    for headers in [[("Retry-After", "3600")], [("RateLimit-Reset", reset.as_str())]] {
        let scene = Scene::new(bed, User::Admin);
        site.gitlab.inject(fault("", "/projects/", Action::retry_later(&headers)));
        let output = setup(&scene, &site).run().code(8);
        site.gitlab.clear_faults();
        assert!(output.took < SOON, "{output}");
        let _ = output.says("longer than this run may take").says("Retry later");
    }
}

/// A wait that GitLab asked for is no request in flight: Ctrl-C ends it at once.
pub fn interrupted_while_waiting(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.inject(fault("", "/projects/", Action::retry_later(&[("Retry-After", "3000")])));
    let setup = setup(&scene, &site).flag("--timeout", "1h");
    fails("OR0102", |columns| {
        let setup = setup.at(columns);
        let running = setup.start();
        until("the retry", || running.has_said("retry"));
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, Signal::INT);
        running.wait()
    });
    site.gitlab.clear_faults();
}

pub fn gitlab_down(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let before = world(bed.admin());
    setup(&scene, &site).run().code(0);
    site.gitlab.inject(fault("", "", Action::bad_gateway()));
    let output = teardown(&scene, &site).flag("--timeout", "10s").run();
    site.gitlab.clear_faults();
    assert!(matches!(output.code, Some(5 | 8)), "{output}");
    assert_same("the cluster's part is done", &before, &world(bed.admin()));
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = teardown(&scene, &site).run().code(0).says("read back: gone");
    assert_eq!(site.gitlab.runners().len(), 0);
    assert!(!scene.home.state().join(format!("{}.json", scene.deployment)).exists());
}

pub fn request_counts(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::with(Options::default()));
    let mut wrong = String::new();
    for (what, command, expected) in [
        ("setup", setup(&scene, &site), 5),
        ("second setup", setup(&scene, &site), 6),
        ("status", site.project(&scene.home, scene.status(), "maintainer"), 6),
        // GitLab lists jobs by one status: running, and canceled with the pod still there.
        ("teardown", teardown(&scene, &site), 7),
    ] {
        site.gitlab.clear_requests();
        command.run().code(if what == "status" { 10 } else { 0 });
        let requests: Vec<String> = site
            .gitlab
            .requests()
            .iter()
            .map(|r| format!("  {} {} {}", r.method, r.path, r.status))
            .collect();
        if requests.len() != expected {
            let _ =
                writeln!(wrong, "{what}: {} instead of {expected}\n{}", requests.len(), requests.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A commit that a teardown leaves is known until it is reverted, also after another deployment of that name.
pub fn commit_that_stays(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let committed = || site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").is_some();
    // On disk and on the ServiceAccount.
    let ids = || {
        let path = scene.home.state().join(format!("{}.json", scene.deployment));
        let record: Value = serde_json::from_slice(&std::fs::read(path).expect("a record")).expect("JSON");
        let anchor = bed.admin().get(&scene.path("ServiceAccount")).unwrap_or_default();
        let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (id(&record["id"]), id(&anchor["metadata"]["annotations"]["outrigger.dev/id"]))
    };
    setup(&scene, &site).arg("--commit-pipeline").run().code(0);
    let first = ids();
    assert!(first.0.len() == 32 && first.0 == first.1, "{first:?}");
    let output = scene.teardown().run().code(0).says("commit-pipeline").says(".gitlab-ci.yml on main stays");
    let _ = output.says("To revert the commit: outrigger teardown --revert-pipeline");
    assert!(committed());
    let _ = scene.status().run().code(3).says("OR0208");
    let list = scene.home.outrigger("list").run().code(0);
    let _ = list.says("removed; commit of .gitlab-ci.yml on main stays");
    assert_eq!(ids(), (String::new(), String::new()), "a note has no id");
    let rows = || -> Value {
        let list = scene.home.outrigger("list").args(["-o", "json"]).run().code(0);
        serde_json::from_str(&list.stdout()).expect("JSON")
    };
    let stays = &rows()[0]["stays"];
    assert_eq!((&stays["path"], &stays["branch"]), (&json!(".gitlab-ci.yml"), &json!("main")));
    assert_eq!((&rows()[0]["machine"], &rows()[0]["runner"]), (&Value::Null, &Value::Null));
    let _ =
        scene.teardown().run().code(3).says("the commit of .gitlab-ci.yml on main").says("--revert-pipeline");
    // A new deployment does not commit again unasked, and takes another id.
    let _ = setup(&scene, &site).run().code(0).never_says("committed .gitlab-ci.yml");
    let second = ids();
    assert!(second.0.len() == 32 && second.0 == second.1 && second.0 != first.0, "{first:?} {second:?}");
    assert_eq!(rows()[0]["stays"], Value::Null);
    let _ = scene.home.outrigger("list").run().code(0).never_says("stays");
    let kept = setup(&scene, &site).args(["--commit-pipeline", "-v"]).run().code(0);
    let _ = kept.says("kept: .gitlab-ci.yml on main");
    let _ = scene.teardown().run().code(0);
    let _ = scene.teardown().arg("--revert-pipeline").run().code(0).says("reverted in");
    assert!(!committed());
    let _ = scene.teardown().arg("--revert-pipeline").run().code(3).says("OR0208").never_says("stays");
    // A commit on a GitLab that is gone is forgotten; until then no other GitLab is written to.
    setup(&scene, &site).arg("--commit-pipeline").run().code(0);
    let _ = scene.teardown().run().code(0);
    let elsewhere = ["--revert-pipeline", "--gitlab-url", "https://gitlab.example.com"];
    let _ = scene.teardown().args(elsewhere).run().code(3).says("OR0315").says("the commit of");
    assert!(committed());
    let _ = scene.teardown().arg("--gitlab-gone").run().code(0);
    let _ = scene.teardown().arg("--revert-pipeline").run().code(3).says("OR0208").never_says("stays");
}

pub fn foreign_file(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let theirs = "build:\n  script:\n    - make\n";
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", theirs);
    let commit = |extra: &[&str]| {
        site.project(&scene.home, scene.command("commit-pipeline"), "maintainer")
            .args(extra.iter().copied())
            .run()
    };
    site.project(&scene.home, scene.command("commit-pipeline"), "maintainer").fails("OR0704");
    let _ = commit(&[]).code(7).says("- build:").says("--overwrite-pipeline");
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").as_deref(), Some(theirs));
    let _ = commit(&["--overwrite-pipeline"]).code(0);
    assert!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("a file").contains("hello world!"));
    // Our own is changed without asking, until somebody else has changed it.
    let _ = commit(&["--image", "alpine:3.22"]).code(0);
    let ours = site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("a file");
    site.gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", &format!("{ours}# mine\n"));
    let _ = commit(&["--image", "alpine:3.21"]).code(7).says("# mine");
    let output = teardown(&scene, &site).arg("--revert-pipeline").run().code(0);
    let _ = output.says("changed since");
    assert!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("it stays").contains("# mine"));
}

/// What GitLab's lint says of the file decides before anything is committed.
pub fn lint(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let verdict = |valid: bool, errors: &[&str], warnings: &[&str]| {
        let (errors, warnings) = (json!(errors), json!(warnings));
        Action::Edit(Box::new(move |answer: &mut Value| {
            answer["valid"] = json!(valid);
            answer["errors"] = errors.clone();
            answer["warnings"] = warnings.clone();
        }))
    };
    let commit = || site.project(&scene.home, scene.command("commit-pipeline"), "maintainer");
    site.gitlab.inject(fault("POST", "/ci/lint", verdict(false, &["jobs:test config is odd"], &[])));
    let _ = commit().fails("OR0317").says("jobs:test config is odd").says("--print");
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), None);
    site.gitlab.clear_faults();
    site.gitlab.inject(fault("POST", "/ci/lint", verdict(true, &[], &["this may run twice"])));
    let _ = commit().run().code(0).says("this may run twice");
}

/// A proxy is used for GitLab, and not for what is taken out of it.
pub fn proxies(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
    let proxy = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let seen = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&seen);
    // Ends with the test's process; it answers whatever is asked for with a refusal.
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&connection).read_line(&mut line);
            log.lock().expect("no panic under the lock").push_str(&line);
            let _ = (&connection).write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let through = |host: &str| {
        setup(&scene, &site)
            .flag("--gitlab-url", site.gitlab.url().replace("127.0.0.1", host))
            .flag("--timeout", "5s")
            .arg("--dry-run")
            .env("HTTPS_PROXY", &proxy)
            .env("NO_PROXY", "127.0.0.1")
    };
    through("gitlab.example.com").fails("OR0805");
    let asked = || seen.lock().expect("no panic under the lock").clone();
    let expected = format!("CONNECT gitlab.example.com:{}", site.gitlab.port());
    assert!(asked().contains(&expected), "{}", asked());
    // As Go has it: what is on this machine is reached without a proxy, excepted or not.
    through("localhost").run().code(0);
    assert!(!asked().contains("localhost"), "{}", asked());
    // Plain http is for what stays on this machine: no proxy gets the token, whatever the variables say.
    let gitlab = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
    let port = gitlab.local_addr().expect("a bound socket has an address").port();
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in gitlab.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&connection).read_line(&mut line);
            let _ = heard.send(line);
            let _ = (&connection).write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let plain = |host: &str| {
        setup(&scene, &site)
            .flag("--gitlab-url", format!("http://{host}:{port}"))
            .flag("--timeout", "5s")
            .arg("--dry-run")
            .env("HTTP_PROXY", &proxy)
            .env("http_proxy", &proxy)
    };
    for host in ["127.0.0.1", "localhost", "127.1.2.3"] {
        let output = plain(host).run();
        if host != "127.1.2.3" {
            let line = hears.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{output}"));
            assert!(line.starts_with("GET /api/v4/"), "{line}");
        }
        assert!(!asked().contains("/api/v4/"), "{host}: {}", asked());
    }
    // A name below localhost is one that Go would send to the proxy: nothing is sent at all.
    let _ = plain("gitlab.localhost").fails("OR0350").says("unencrypted");
    assert!(!asked().contains("gitlab.localhost"), "{}", asked());
}
