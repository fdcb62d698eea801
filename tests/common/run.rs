//! Runs the real binary in a home of its own and watches it for secrets.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bed::tokens_in;
use super::lines::assert_conform;

/// After this long a run counts as hung.
const LIMIT: Duration = Duration::from_secs(240);

/// What a run takes at most that waits for nothing: far more than on a busy machine, far less than the waits
/// that it must not wait for (`--timeout` is 5 minutes unless it is given).
pub const SOON: Duration = Duration::from_secs(120);

/// A home directory that nothing else uses: inputs in one place, everything outrigger writes in another.
pub struct Home {
    dir: tempfile::TempDir,
    canaries: Mutex<Vec<String>>,
}

impl Home {
    /// A new, empty one.
    #[must_use]
    pub fn new() -> Self {
        // Not where TMPDIR says: the path's length decides where lines break.
        let dir = tempfile::Builder::new()
            .prefix("outrigger-home-")
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        fs::create_dir(dir.path().join("in")).expect("a folder for inputs");
        Self { dir, canaries: Mutex::default() }
    }

    /// `$HOME`.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where outrigger keeps its state by default.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state/outrigger")
    }

    /// Where the launch script goes by default.
    #[must_use]
    pub fn script(&self, deployment: &str) -> PathBuf {
        self.state().join(deployment).join("launch.sh")
    }

    /// Writes an input file, outside of what is searched for secrets.
    pub fn input(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join("in").join(name);
        fs::write(&path, text).expect("inputs can be written");
        // Some hold tokens, which others should not read.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
        path
    }

    /// Writes a kubeconfig; its tokens become canaries.
    pub fn kubeconfig(&self, name: &str, yaml: &str) -> PathBuf {
        for token in tokens_in(yaml) {
            self.canary(&token);
        }
        self.input(name, yaml)
    }

    /// Writes a runner token file with a canary in it.
    pub fn runner_token(&self) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let token = format!("glrt-canary-{:04}-Zq9xK4mW7vB2", NEXT.fetch_add(1, Ordering::Relaxed));
        self.canary(&token);
        self.input("runner-token", &format!("{token}\n"))
    }

    /// From now on no run from this home may show this value.
    pub fn canary(&self, value: &str) {
        assert!(value.len() >= 8, "too short a canary would be found by accident: {value}");
        self.canaries.lock().expect("no panic under the lock").push(value.to_owned());
    }

    /// A command with outrigger's own arguments to follow.
    #[must_use]
    pub fn outrigger(&self, subcommand: &str) -> Cli<'_> {
        Cli {
            home: self,
            args: vec![subcommand.into()],
            env: Vec::new(),
            watched: true,
            searched: true,
            capable: true,
            stdin: None,
            program: super::binary::outrigger().to_owned(),
        }
    }

    /// Every file below the home that outrigger may have written, launch scripts and the files with their
    /// secrets left out: they hold the tokens by design.
    fn written(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let kind = entry.file_type().expect("a directory entry has a type");
                if kind.is_dir() && path != self.dir.path().join("in") {
                    folders.push(path);
                } else if kind.is_file()
                    && path.extension().is_none_or(|extension| extension != "sh" && extension != "secrets")
                {
                    files.push(path);
                }
            }
        }
        files
    }
}

/// One command line, to be run.
#[derive(Clone)]
pub struct Cli<'a> {
    home: &'a Home,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    watched: bool,
    searched: bool,
    capable: bool,
    stdin: Option<String>,
    program: String,
}

impl Cli<'_> {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<OsString>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<'s>(self, values: impl IntoIterator<Item = &'s str>) -> Self {
        values.into_iter().fold(self, Self::arg)
    }

    /// Sets a flag to a value, in place of an earlier one.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        match self.args.iter().position(|arg| arg == flag) {
            Some(at) => self.args[at + 1] = value.into(),
            None => self.args.extend([flag.into(), value.into()]),
        }
        self
    }

    /// Adds a variable to the otherwise empty environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves arguments and environment of the process and its children out of the search for secrets:
    /// for a kubeconfig that itself puts one into its plugin's environment.
    #[must_use]
    pub fn unwatched(mut self) -> Self {
        self.watched = false;
        self
    }

    /// Leaves stdout out of the search for secrets: for a launch script that is asked for there.
    #[must_use]
    pub fn unsearched_stdout(mut self) -> Self {
        self.searched = false;
        self
    }

    /// Runs it without the capabilities by which root may read every process: as other users do.
    #[must_use]
    pub fn without_capabilities(mut self) -> Self {
        self.capable = false;
        self
    }

    /// Runs this program in place of the usual one.
    #[must_use]
    pub fn program(mut self, path: impl Into<String>) -> Self {
        self.program = path.into();
        self
    }

    /// Gives it this on stdin.
    #[must_use]
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// The command, its environment empty but for what a login always has.
    fn command(&self) -> Command {
        let program = &self.program;
        let mut command = if self.capable || !rustix::process::geteuid().is_root() {
            Command::new(program)
        } else {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-all", "--inh-caps", "-all", program.as_str()]);
            command
        };
        command
            .args(&self.args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it without waiting.
    #[must_use]
    pub fn start(&self) -> Running<'_> {
        let mut command = self.command();
        if self.stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().expect("the binary starts");
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), &self.stdin) {
            // What it does not read is its business.
            let _ = stdin.write_all(text.as_bytes());
        }
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        Running { cli: self, child, stdout, stderr, seen: BTreeSet::new(), started: Instant::now() }
    }

    /// Runs it to its end and looks for secrets in all it showed and wrote.
    #[must_use]
    pub fn run(&self) -> Output {
        self.start().wait()
    }

    /// Whether it was asked for JSON lines, in one of the ways that the tests use, and not for help.
    fn writes_json(&self) -> bool {
        let is_help = self
            .args
            .iter()
            .any(|arg| arg == "help" || arg == "--help" || arg == "--version" || arg == "__complete");
        let pairs = self.args.windows(2);
        let mut flags = pairs.filter(|pair| pair[0] == "-o" || pair[0] == "--output");
        let by_flag = flags.next_back().map(|pair| pair[1] == "json");
        let by_env = || self.env.iter().any(|(name, value)| name == "OUTRIGGER_OUTPUT" && value == "json");
        !is_help && by_flag.unwrap_or_else(by_env)
    }

    fn shown(&self) -> String {
        let mut text = "outrigger".to_owned();
        for arg in &self.args {
            let _ = write!(text, " {}", arg.to_string_lossy());
        }
        text
    }
}

/// What comes out of a stream, while it comes.
struct Collector {
    reader: std::thread::JoinHandle<()>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("no panic under the lock").clone()
    }

    fn whole(self) -> Vec<u8> {
        self.reader.join().expect("reading does not panic");
        std::mem::take(&mut self.bytes.lock().expect("no panic under the lock"))
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Collector {
    let mut stream = stream.expect("the streams are pipes");
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut portion = [0_u8; 4096];
        while let Ok(count @ 1..) = stream.read(&mut portion) {
            into.lock().expect("no panic under the lock").extend_from_slice(&portion[..count]);
        }
    });
    Collector { reader, bytes }
}

/// A run under way.
pub struct Running<'a> {
    cli: &'a Cli<'a>,
    child: Child,
    stdout: Collector,
    stderr: Collector,
    seen: BTreeSet<Vec<u8>>,
    started: Instant,
}

impl Running<'_> {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Looks at it once: keeps what others on the machine can see of it, says whether it has ended.
    pub fn poll(&mut self) -> bool {
        if self.child.try_wait().expect("our own child can be waited for").is_some() {
            return true;
        }
        if !self.cli.watched {
            return false;
        }
        let mut family = vec![self.child.id()];
        while let Some(pid) = family.pop() {
            for file in ["cmdline", "environ"] {
                if let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) {
                    self.seen.insert(bytes);
                }
            }
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        false
    }

    /// Whether this text came out of it already.
    #[must_use]
    pub fn has_said(&self, text: &str) -> bool {
        [&self.stdout, &self.stderr]
            .iter()
            .any(|stream| String::from_utf8_lossy(&stream.so_far()).contains(text))
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> Output {
        let _ = self.child.kill();
        self.finish(End::Killed)
    }

    /// Waits for its end; a hung run is killed and fails the test.
    pub fn wait(mut self) -> Output {
        while !self.poll() {
            if self.started.elapsed() > LIMIT {
                let _ = self.child.kill();
                return self.finish(End::Hung);
            }
            // Each look reads /proc for the whole family.
            std::thread::sleep(Duration::from_millis(5));
        }
        self.finish(End::Itself)
    }

    fn finish(mut self, end: End) -> Output {
        let took = self.started.elapsed();
        let status = self.child.wait().expect("our own child can be waited for");
        let output = Output {
            command: self.cli.shown(),
            code: status.code(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
            took,
        };
        assert!(end != End::Hung, "hung for {} s\n{output}", LIMIT.as_secs());
        let canaries = self.cli.home.canaries.lock().expect("no panic under the lock").clone();
        assert_no_secret(self.cli, &output, &self.seen, &canaries);
        if self.cli.writes_json() && !output.stdout.is_empty() {
            assert_conform(&output, self.cli.args[0] == "list", end == End::Killed);
        }
        super::printed::check(&self.cli.args, &output);
        output
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Itself,
    Killed,
    Hung,
}

fn assert_no_secret(cli: &Cli<'_>, output: &Output, seen: &BTreeSet<Vec<u8>>, canaries: &[String]) {
    let forms: Vec<(&str, Vec<u8>)> = canaries
        .iter()
        .flat_map(|canary| forms(canary).into_iter().map(move |form| (&canary[..5], form)))
        .collect();
    let look = |place: &str, bytes: &[u8]| {
        for (beginning, form) in &forms {
            let found = memchr::memmem::find(bytes, form).is_some();
            // The value stays out of the message: test logs are kept, too.
            assert!(!found, "a secret ({beginning}…) is in {place} of {}", output.command);
        }
    };
    if cli.searched {
        look("stdout", &output.stdout);
    }
    look("stderr", &output.stderr);
    for bytes in seen {
        look("the arguments or environment", bytes);
    }
    for file in cli.home.written() {
        look(&file.display().to_string(), &fs::read(&file).unwrap_or_default());
    }
}

/// A secret as it is, and the middle of its base64 wherever in a longer text it may begin.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let mut forms = vec![secret.as_bytes().to_vec()];
    for before in 0..3 {
        let text = [&b"xxx"[..before], secret.as_bytes()].concat();
        let encoded = base64::engine::general_purpose::STANDARD.encode(text).into_bytes();
        // The first and the last group hold bits of what stands beside it.
        let middle = encoded.get(4..encoded.len().saturating_sub(4)).unwrap_or_default();
        if middle.len() >= 12 {
            forms.push(middle.to_vec());
        }
    }
    forms
}

/// What a run left: exit code and both streams.
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code, none after a signal.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n--- stdout\n{}--- stderr\n{}--- exit {:?} after {:.2?}",
            self.command,
            self.stdout(),
            self.stderr(),
            self.code,
            self.took
        )
    }
}

impl Output {
    /// Standard output as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails, showing everything, unless it ended with this code.
    pub fn code(self, expected: i32) -> Self {
        assert!(self.code == Some(expected), "expected exit {expected}\n{self}");
        self
    }

    /// Whether this text is on one of the streams, wherever its lines were broken.
    fn contains(&self, text: &str) -> bool {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        [self.stdout(), self.stderr()].iter().any(|s| s.contains(text) || flat(s).contains(&flat(text)))
    }

    /// Fails, showing everything, unless this text is on one of the streams.
    pub fn says(self, text: &str) -> Self {
        let found = self.contains(text);
        assert!(found, "expected to read {text:?}\n{self}");
        self
    }

    /// Fails, showing everything, if this text is on one of the streams.
    pub fn never_says(self, text: &str) -> Self {
        let found = self.contains(text);
        assert!(!found, "expected not to read {text:?}\n{self}");
        self
    }

    /// Standard output as JSON lines.
    #[must_use]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in line {line:?}\n{self}")))
            .collect()
    }
}
