//! A GitLab beside the cluster, and a machine that boots as soon as a launch script is there for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use outrigger_doubles::gitlab::{DriverOptions, FakeGitlab, Options, PROJECT, RunnerDriver};
use outrigger_doubles::http::Http;
use serde_json::Value;

use super::run::{Cli, Home, Output, SOON};

/// So far behind are the replicas of [`Site::new`].
const LAG: Duration = Duration::from_millis(50);

/// Waits until a GitLab's replicas show what was made before this.
pub fn settle() {
    std::thread::sleep(LAG + Duration::from_millis(10));
}

/// A GitLab, and how outrigger reaches it from one home.
pub struct Site {
    /// The instance.
    pub gitlab: FakeGitlab,
    /// What jobs on its machine print beside what their scripts do.
    pub output: String,
}

impl Site {
    /// A GitLab as the tests mostly want it: what it makes can be seen a moment later only, as with replicas.
    pub fn new() -> Self {
        Self::with(Options { replica_lag: LAG, ..Options::default() })
    }

    /// A GitLab of another kind.
    pub fn with(options: Options) -> Self {
        Self { gitlab: FakeGitlab::start(options), output: String::new() }
    }

    /// Adds GitLab to a command: the instance, its CA and the named token, but no project.
    pub fn on<'a>(&self, home: &'a Home, command: Cli<'a>, token: &str) -> Cli<'a> {
        let secret = self.gitlab.token(token);
        home.canary(&secret);
        command
            .flag("--gitlab-url", self.gitlab.url())
            .flag("--gitlab-ca-file", home.input("gitlab-ca.pem", &self.gitlab.ca_pem()))
            .flag("--gitlab-token-file", home.input(&format!("{token}.token"), &format!("{secret}\n")))
    }

    /// The same with the project.
    pub fn project<'a>(&self, home: &'a Home, command: Cli<'a>, token: &str) -> Cli<'a> {
        self.on(home, command, token).flag("--project", PROJECT)
    }

    /// Everything in it, for comparing before and after.
    pub fn world(&self) -> BTreeMap<String, Value> {
        self.gitlab.snapshot()
    }

    /// How many requests had this method and a path that ends like this.
    pub fn count(&self, method: &str, path_end: &str) -> usize {
        let requests = self.gitlab.requests();
        requests.iter().filter(|request| request.method == method && request.path.ends_with(path_end)).count()
    }

    /// The machine that runs a launch script: it has what the script gives it, and nothing else.
    pub fn boot(&self, home: &Home, script: &Path) -> RunnerDriver {
        let token = runner_token(script);
        home.canary(&token);
        let output = self.output.clone();
        RunnerDriver::start(DriverOptions { output, ..DriverOptions::new(&self.gitlab, &token) })
    }

    /// Runs a command that waits for the machine, and boots the machine when its script is there.
    pub fn run_with_vm(&self, home: &Home, script: &Path, command: &Cli<'_>) -> (Output, RunnerDriver) {
        let mut running = command.start();
        let started = Instant::now();
        while !script.is_file() {
            assert!(!running.poll(), "it ended before there was a script\n{}", running.wait());
            assert!(started.elapsed() < SOON, "no script is written");
            std::thread::sleep(Duration::from_millis(5));
        }
        let vm = self.boot(home, script);
        (running.wait(), vm)
    }
}

/// The runner's token in a launch script.
pub fn runner_token(script: &Path) -> String {
    let text = plain(script);
    let at = text.find("glrt-").expect("the script holds a runner's token");
    let is_part = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let token: String = text[at..].chars().take_while(is_part).collect();
    // A prefix of the instance's own stands before it.
    let before: String = text[..at].chars().rev().take_while(is_part).collect();
    before.chars().rev().collect::<String>() + &token
}

/// A script's text; where it is packed, with what the command shows that it gives to a reader.
pub fn plain(script: &Path) -> String {
    let mut text = fs::read_to_string(script).expect("the script can be read");
    let Some((_, command)) = text.lines().find_map(|line| line.split_once("To read it: ")) else {
        return text;
    };
    let command = command.replace("THIS", &script.display().to_string());
    let output = std::process::Command::new("sh").args(["-c", &command]).output().expect("sh starts");
    let code = String::from_utf8(output.stdout).expect("text");
    assert!(!code.is_empty(), "{command} shows nothing");
    text.push_str(&code);
    text
}

/// Sends a request in somebody else's name; it must be answered well.
fn send(gitlab: &FakeGitlab, method: &str, token: &str, path: &str, body: &Value) -> Value {
    let bearer = format!("Bearer {}", gitlab.token(token));
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    let http = Http::new(&gitlab.url(), &gitlab.ca_pem());
    let reply = http
        .send(method, &format!("/api/v4{path}"), &headers, body.to_string().as_bytes())
        .expect("the double answers");
    assert!((200..300).contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.text());
    reply.json()
}

/// Makes something in somebody else's name.
pub fn post(gitlab: &FakeGitlab, token: &str, path: &str, body: &Value) -> Value {
    send(gitlab, "POST", token, path, body)
}

/// Changes something in somebody else's name.
pub fn put(gitlab: &FakeGitlab, token: &str, path: &str, body: &Value) -> Value {
    send(gitlab, "PUT", token, path, body)
}
