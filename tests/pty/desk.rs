//! Somebody at a terminal: a shell in a pseudo-terminal, a cluster, and how questions are answered.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use outrigger_doubles::cluster::{FakeCluster, Options, standard_users};
use outrigger_doubles::gitlab::{self, FakeGitlab};
use rexpect::session::{PtySession, spawn_command};

pub use super::binary::outrigger;

pub const TOKEN: &str = "glrt-canary-of-the-wizard";

pub struct Desk {
    pub cluster: FakeCluster,
    pub home: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let cluster = FakeCluster::start(Options { users: standard_users(), ..Options::default() });
        let home = tempfile::tempdir().expect("a temporary directory");
        let desk = Self { cluster, home };
        let kubeconfig = desk.cluster.kubeconfig("kubernetes-admin");
        fs::write(desk.path("kubeconfig"), kubeconfig).expect("written");
        desk.private("token", TOKEN);
        desk
    }

    /// A GitLab, whose CA is in `ca.pem`.
    pub fn gitlab(&self) -> FakeGitlab {
        let gitlab = FakeGitlab::start(gitlab::Options::default());
        fs::write(self.path("ca.pem"), gitlab.ca_pem()).expect("written");
        gitlab
    }

    /// Writes a file that only its owner reads.
    pub fn private(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("private");
        self.path(name)
    }

    /// A second home, in which nothing is remembered.
    pub fn other_home(&self) -> PathBuf {
        let home = self.home.path().join("other home");
        fs::create_dir_all(&home).expect("made");
        home
    }

    pub fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// A shell in the terminal, so that its modes can be asked for after outrigger has ended.
    pub fn sit_down(&self) -> PtySession {
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path()).env("TERM", "xterm");
        shell.env("PS1", "$ ").env("KUBECONFIG", self.path("kubeconfig")).env("LANG", "C.UTF-8");
        let mut session = spawn_command(shell, Some(120_000)).expect("a shell in a pseudo-terminal");
        // A new one has no size at all.
        session.send_line("stty rows 50 cols 100").expect("sent");
        session
    }
}

/// Waits for something that another process does.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed().as_secs() < 120, "in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// How a question is answered: with keys, without Enter unless they contain it.
pub type Answer<'a> = (&'a str, &'a str);

impl Desk {
    /// The questions of a first setup with a runner that exists, by words of each, and good answers.
    pub fn with_existing_runner(&self) -> Vec<(&'static str, String)> {
        let line = |text: &str| format!("{text}\r");
        vec![
            ("Deployment name", line("blue")),
            ("GitLab URL", line("gitlab.example.com")),
            ("by its authentication", line("2")),
            ("authentication token", line(&self.path("token"))),
            ("Where the machine", line("ssh")),
            ("SSH destination", line("")),
            ("for the runner's", line("")),
            ("an answer to", line("")),
        ]
    }
}

pub fn type_in(session: &mut PtySession, keys: &str) {
    session.send(keys).and_then(|_| session.flush()).expect("sent");
}

/// Waits for each question and answers it. Returns all that was on the screen.
pub fn answer<'a>(session: &mut PtySession, answers: impl IntoIterator<Item = Answer<'a>>) -> String {
    let mut screen = String::new();
    for (words, keys) in answers {
        screen += &session.exp_string(words).unwrap_or_else(|error| panic!("{words}: {error}\n{screen}"));
        // The end of the prompt: before it, a list may still be drawn.
        screen += &session.exp_regex("(: |> |\\] )$").map(|(before, _)| before).expect("the prompt");
        type_in(session, keys);
    }
    screen
}

pub fn pairs(answers: &[(&'static str, String)]) -> Vec<(&'static str, &'static str)> {
    answers.iter().map(|(words, keys)| (*words, &*keys.clone().leak())).collect()
}

/// Remembers the terminal's modes, whatever they are.
pub fn keep_modes(session: &mut PtySession) {
    session.send_line("modes=$(stty -g); echo ke\"\"pt").expect("sent");
    session.exp_string("kept").expect("the shell answers");
}

pub fn assert_modes_are_back(session: &mut PtySession) {
    session.send_line("test \"$(stty -g)\" = \"$modes\" && echo sa\"\"me || echo ot\"\"her").expect("sent");
    let (_, found) = session.exp_regex("same|other").expect("the shell answers");
    assert_eq!(found, "same", "the terminal's modes are not what they were");
}

pub fn setup() -> String {
    format!("{} setup; echo \"ended $?\"", outrigger())
}

/// Starts outrigger with these words.
pub fn run(session: &mut PtySession, words: &str) {
    session.send_line(&format!("{} {words}; echo \"ended $?\"", outrigger())).expect("sent");
}

/// The command below a text on the screen.
pub fn below(screen: &str, text: &str) -> String {
    let (_, rest) = screen.split_once(text).unwrap_or_else(|| panic!("no {text:?}: {screen}"));
    let found = rest.lines().map(str::trim).find(|line| line.starts_with("outrigger "));
    found.unwrap_or_else(|| panic!("no command below {text:?}: {screen}")).to_owned()
}

/// What a line does that is pasted into a new shell without a terminal, in another directory, with nothing in the
/// environment but these variables.
pub struct Pasted {
    pub code: Option<i32>,
    pub text: String,
}

pub fn paste(home: &std::path::Path, env: &[(&str, &str)], line: &str) -> Pasted {
    let programs = std::path::Path::new(outrigger()).parent().expect("a folder");
    let output = Command::new("/bin/sh")
        .args(["-c", line])
        .env_clear()
        .env("HOME", home)
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .envs(env.iter().copied())
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Pasted { code: output.status.code(), text: text.into_owned() }
}

/// The words of the plan that was shown last, without colour, wrapping and the question below it.
pub fn plan(screen: &str, homes: &[&std::path::Path]) -> String {
    let plain = console_free(screen).replace('\r', "");
    let (_, plan) = plain.rsplit_once("\nPlan\n").unwrap_or_else(|| panic!("no plan: {screen}"));
    let mut plan = plan.split("\n\n").next().unwrap_or_default().to_owned();
    for home in homes {
        plan = plan.replace(&home.display().to_string(), "~");
    }
    plan.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without escape sequences.
pub fn console_free(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            out.push(c);
        } else if rest.next_if_eq(&'[').is_some() {
            while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        }
    }
    out
}

pub fn leave(mut session: PtySession) {
    session.send_line("exit").expect("sent");
    session.exp_eof().expect("the shell ends");
}
