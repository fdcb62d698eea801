//! Two real GitLab clients ask the stand-in for everything that they have a method for: what they cannot read,
//! or do not find as GitLab has it, is the stand-in's fault. AWS's clients do the same to that for Lightsail.
//!
//! `build-clients.sh` makes them. Without them the trials are listed as ignored with the reason, or fail if
//! `OUTRIGGER_REQUIRE_TIERS=1`.

#![allow(dead_code, reason = "the tiers share tests/common, and this one takes little of it")]

#[path = "../../common/mod.rs"]
mod common;

mod aws;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use outrigger_doubles::gitlab::{Action, FakeGitlab, Fault, GROUP, Options, PROJECT, RunnerDriver};
use serde_json::{Value, json};

use common::site::post;
use common::{absent, arguments};

const TIER: &str = "clients";

/// A client: its name, how it is started from where the clients are, and what it does not ask.
type Client = (&'static str, fn(&Path) -> Command, &'static [Left]);

/// A route that a client does not ask, and why.
type Left = (&'static str, &'static str);

const NO_METHOD: &str = "the client has no method for it";
const PROTOCOL: &str =
    "the runner's own protocol, which clients do not speak; gitlab-runner does in its trials";

/// What neither has a method for.
const BOTH: &[Left] = &[
    ("DELETE /runners/managers", PROTOCOL),
    ("POST /runners/reset_authentication_token", PROTOCOL),
    ("GET /runners/router/discovery", PROTOCOL),
    ("POST /jobs/request", PROTOCOL),
    ("PUT /jobs/:id", PROTOCOL),
    ("PATCH /jobs/:id/trace", PROTOCOL),
    ("GET /personal_access_tokens/self/associations", NO_METHOD),
];

/// What python-gitlab 8.6 has no method for besides.
const PYTHON: &[Left] = &[
    ("GET /metadata", NO_METHOD),
    ("GET /runners/:id/managers", NO_METHOD),
    ("POST /runners/:id/reset_authentication_token", NO_METHOD),
];

/// Three jobs: more than a page of two.
const PIPELINE: &str = "one: {tags: [ran], script: [\"echo 'hello world!'\"]}\n\
                        two: {tags: [ran], script: [\"true\"]}\nthree: {tags: [ran], script: [\"true\"]}\n";

fn main() -> ExitCode {
    let arguments = arguments(2);
    let clients: &[Client] = &[("python_gitlab", python, PYTHON), ("go_client", go, &[])];
    let built = built();
    let mut all = aws::trials(&built);
    for &(name, command, left) in clients {
        let names = [format!("{name}_reads_every_answer"), format!("{name}_notices_a_wrong_type")];
        match &built {
            Ok(folder) => {
                let [whole, wrong] = names;
                let (folder, other) = (folder.clone(), folder.clone());
                all.push(Trial::test(whole, move || drive(command(&folder), left)).with_kind(TIER));
                all.push(Trial::test(wrong, move || notice(command(&other))).with_kind(TIER));
            }
            Err(reason) => all.extend(names.iter().flat_map(|name| absent(TIER, reason, &[(name, |_| ())]))),
        }
    }
    libtest_mimic::run(&arguments, all).exit_code()
}

/// Where the clients are.
fn built() -> Result<PathBuf, String> {
    let cache = || {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home).unwrap_or_default()
    };
    let named = std::env::var_os("OUTRIGGER_TEST_CLIENTS").filter(|value| !value.is_empty());
    let folder = named.map_or_else(|| cache().join("outrigger-test/clients"), PathBuf::from);
    let missing: Vec<&str> = ["python/installed.txt", "go-client", "aws"]
        .into_iter()
        .filter(|name| !folder.join(name).is_file())
        .collect();
    if missing.is_empty() {
        return Ok(folder);
    }
    Err(format!("{} has no {}: tests/real/build-clients.sh makes them", folder.display(), missing.join(", ")))
}

/// A file beside this one.
fn source(path: &str) -> PathBuf {
    // As cargo says it now, not as it was built: target directories are shared and moved.
    let root = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    root.join("tests/real/clients").join(path)
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("python/bin/python"));
    // Neither the user's settings nor files beside the program.
    command.arg("-I").arg("-B").arg(source("python/drive.py"));
    command.env("PYTHON_GITLAB_CFG", "");
    command
}

fn go(folder: &Path) -> Command {
    Command::new(folder.join("go-client"))
}

/// A GitLab in which a runner has run three jobs; what the clients have to know of it.
fn world() -> (FakeGitlab, Value) {
    let options = Options { registration_allowed: true, ..Options::default() };
    let gitlab = FakeGitlab::start(options);
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", PIPELINE);
    let project = gitlab.project_id(PROJECT);
    let wish = json!({"runner_type": "project_type", "project_id": project, "tag_list": ["ran"]});
    let ran = post(&gitlab, "maintainer", "/user/runners", &wish);
    let project_path = format!("/projects/{project}");
    let pipelines: Vec<Value> = (0..3)
        .map(|_| post(&gitlab, "maintainer", &format!("{project_path}/pipeline"), &json!({"ref": "main"})))
        .collect();
    let machine = RunnerDriver::for_token(&gitlab, ran["token"].as_str().expect("a token"));
    let started = Instant::now();
    while !gitlab.pipelines(PROJECT).iter().all(|pipeline| pipeline["status"] == "success") {
        assert!(started.elapsed() < Duration::from_secs(60), "the pipelines do not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(machine);
    gitlab.clear_requests();
    let first = &gitlab.pipelines(PROJECT)[0];
    let tokens = ["root", "owner", "maintainer"].map(|name| (name.to_owned(), gitlab.token(name).into()));
    let given = json!({
        "url": gitlab.url(), "tokens": Value::Object(tokens.into_iter().collect()),
        "registration_token": gitlab.registration_token(PROJECT), "project": PROJECT, "project_id": project,
        "group": GROUP, "ran": ran["id"], "pipeline": pipelines[0]["id"], "job": first["jobs"][0]["id"],
    });
    (gitlab, given)
}

/// Runs a client with what it is given, and the CA's file; whether it found nothing wrong, and what it said.
fn run(mut command: Command, ca_pem: &str, mut given: Value) -> Result<(bool, String), Failed> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, ca_pem).map_err(|error| error.to_string())?;
    given["ca"] = ca.display().to_string().into();
    // A proxy of this machine's has nothing to do with it.
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    let mut child = command
        .env("HOME", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(given.to_string().as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// A client must find nothing wrong, and leave out nothing but what is named.
fn drive(command: Command, left: &[Left]) -> Result<(), Failed> {
    let (gitlab, given) = world();
    let (well, said) = run(command, &gitlab.ca_pem(), given)?;
    if !well {
        return Err(Failed::from(format!("it found something wrong:\n{said}")));
    }
    let answered = gitlab.routes_answered();
    let left: BTreeSet<String> = BOTH.iter().chain(left).map(|(route, _)| (*route).to_owned()).collect();
    let routes = FakeGitlab::routes();
    let list = |set: BTreeSet<&String>| set.into_iter().cloned().collect::<Vec<_>>().join("\n  ");
    let unasked: BTreeSet<&String> =
        routes.iter().filter(|route| !answered.contains(*route) && !left.contains(*route)).collect();
    if !unasked.is_empty() {
        return Err(Failed::from(format!("not asked, and not named as left out:\n  {}", list(unasked))));
    }
    let stale: BTreeSet<&String> =
        left.iter().filter(|route| answered.contains(*route) || !routes.contains(*route)).collect();
    if !stale.is_empty() {
        return Err(Failed::from(format!("named as left out for nothing:\n  {}", list(stale))));
    }
    Ok(())
}

/// A client must find fault with an answer whose id is a text.
fn notice(command: Command) -> Result<(), Failed> {
    let (gitlab, given) = world();
    let action = Action::Edit(Box::new(|answer: &mut Value| answer["id"] = json!("seven")));
    gitlab.inject(Fault { method: Some("GET".to_owned()), ..Fault::always("/api/v4/user", action) });
    let (well, said) = run(command, &gitlab.ca_pem(), given)?;
    if well || !said.contains("user: ") {
        return Err(Failed::from(format!("it did not notice:\n{said}")));
    }
    Ok(())
}
