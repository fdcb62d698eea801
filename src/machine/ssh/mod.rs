//! Runs programs on a host by the system's `ssh`, with the user's configuration, agent and known hosts.
//!
//! What would weaken the connection in that configuration is overridden on ssh's command line, where ssh takes the
//! first value of an option. Programs and secrets go over stdin, so no process list shows them.

mod program;
mod words;

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use program::Place;

use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::settings::Host;

/// Set by outrigger, before everything else: see `ssh_config(5)`.
const OURS: &[&str] = &[
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "NoHostAuthenticationForLocalhost=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "SendEnv=-*",
    // At ERROR ssh does not say that a line is dead.
    "LogLevel=INFO",
    // A line that is dead ends after 45 s.
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
];
/// Seconds, unless `--ssh-option` says otherwise.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=10";

/// The variables that ssh and what it starts (a jump, an agent's prompt) need. No other reaches it.
pub const VARIABLES: &[&str] =
    &["HOME", "PATH", "USER", "LOGNAME", "SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "TERM"];

/// Bytes of a line that are kept, and of ssh's own words.
const LONGEST: usize = 16 * 1024;
/// Facts of a run that are kept.
const MOST_FACTS: usize = 64;

/// Where to log in, and how.
#[derive(Clone, Debug)]
pub struct Login {
    pub host: Host,
    /// `KEY=VALUE`, checked.
    pub options: Vec<String>,
    /// The host's keys; empty for `known_hosts`.
    pub keys: Vec<String>,
}

/// ssh with a login, for one run.
#[derive(Clone, Debug)]
pub struct Ssh {
    pub login: Login,
    /// A file of the pinned keys, as `known_hosts`.
    pub known_hosts: Option<String>,
    /// Those of [`VARIABLES`] that are set.
    pub env: Vec<(String, String)>,
    /// Whether ssh may ask on the terminal.
    pub interactive: bool,
    /// The name of the VM that outrigger made: its login comes from AWS, and the user's configuration does not count.
    pub made: Option<String>,
}

/// What a program said, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A fact for outrigger: its name and its value, which the host chose.
    Fact(String, String),
    /// What the script on the host prints, with the number of bytes.
    Line(String, usize),
}

/// The end of a connection.
#[derive(Debug)]
pub struct Ended {
    /// ssh's own words; if it has none, and the host did not answer, what the host printed.
    pub said: String,
    /// Whether the host answered: it printed at least one fact.
    pub answered: bool,
}

impl Ssh {
    /// ssh's arguments.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-T", "-a", "-x"].map(str::to_owned).into();
        if self.made.is_some() {
            arguments.extend(["-F", "none"].map(str::to_owned));
        }
        let mut option = |text: &str| arguments.extend(["-o".to_owned(), text.to_owned()]);
        for text in OURS {
            option(text);
        }
        option(if self.interactive { "BatchMode=no" } else { "BatchMode=yes" });
        if let Some(file) = &self.known_hosts {
            option(&format!("UserKnownHostsFile={file}"));
            option("GlobalKnownHostsFile=/dev/null");
            option("KnownHostsCommand=none");
            option(&format!("HostKeyAlias={ALIAS}"));
        }
        let host = &self.login.host;
        if let Some(user) = &host.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = host.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        let mut option = |text: &str| arguments.extend(["-o".to_owned(), text.to_owned()]);
        for text in &self.login.options {
            option(text);
        }
        option(CONNECT_TIMEOUT);
        arguments.extend(["--".to_owned(), self.login.host.name.clone()]);
        arguments
    }

    /// Runs `command` on the host with `program` as its stdin, until the connection ends. `each` gets what it says as it
    /// comes. Dropping the future ends ssh. Fails with OR0209 if ssh cannot be started.
    pub async fn run(
        &self,
        command: &str,
        program: &Secret,
        nonce: &str,
        mut each: impl FnMut(Said),
    ) -> Result<Ended> {
        let mut child = tokio::process::Command::new("ssh")
            .args(self.arguments())
            .arg(command)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Failure::new(Id::NoSsh, "cannot start ssh").detail("because", error.to_string()).hint(
                    "install the OpenSSH client, or copy the script by hand: --target ssh without --host",
                )
            })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let send = async {
            if let Some(mut stdin) = stdin {
                // The host may end before it has read all.
                let _ = stdin.write_all(program.expose().as_bytes()).await;
                let _ = stdin.shutdown().await;
            }
        };
        let mut lines = Lines::new(nonce);
        let (mut answered, mut greeting) = (false, String::new());
        let read = async {
            let Some(mut stdout) = stdout else { return };
            let mut bytes = vec![0; 8192];
            while let Ok(number @ 1..) = stdout.read(&mut bytes).await {
                lines.take(&bytes[..number], &mut |said| {
                    match &said {
                        Said::Fact(..) => answered = true,
                        // A login shell that runs nothing says why.
                        Said::Line(text, _) if !answered && greeting.len() < 1024 => {
                            greeting.push_str(text);
                            greeting.push('\n');
                        }
                        Said::Line(..) => {}
                    }
                    each(said);
                });
            }
        };
        let words = async {
            let (mut said, mut bytes) = (Vec::new(), vec![0; 4096]);
            let Some(mut stderr) = stderr else { return said };
            while let Ok(number @ 1..) = stderr.read(&mut bytes).await {
                said.extend_from_slice(&bytes[..number.min(LONGEST.saturating_sub(said.len()))]);
            }
            said
        };
        let ((), (), said) = tokio::join!(send, read, words);
        let _ = child.wait().await;
        let mut said = String::from_utf8_lossy(&said).into_owned();
        if !answered && said.trim().is_empty() {
            said = greeting;
        }
        Ok(Ended { said, answered })
    }

    /// The failure of a connection that ended before the host answered.
    pub fn refusal(&self, ended: &Ended) -> Failure {
        words::refusal(&self.login, self.made.as_deref(), &ended.said)
    }

    /// The host in messages.
    pub fn name(&self) -> String {
        self.made.clone().unwrap_or_else(|| self.login.host.to_string())
    }

    /// The host before each line of its output.
    pub fn job(&self) -> String {
        self.made.clone().unwrap_or_else(|| self.login.host.name.clone())
    }
}

/// The name of the host in a file of pinned keys.
pub const ALIAS: &str = "outrigger-host";

/// Splits what comes into lines, and tells facts from what the script prints.
struct Lines {
    /// What a fact begins with.
    mark: String,
    rest: Vec<u8>,
    facts: usize,
}

impl Lines {
    fn new(nonce: &str) -> Self {
        Self { mark: format!("outrigger {nonce} "), rest: Vec::new(), facts: 0 }
    }

    fn take(&mut self, bytes: &[u8], each: &mut dyn FnMut(Said)) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line, each);
        }
        // A line without an end is given away in pieces.
        if self.rest.len() > LONGEST {
            let line = std::mem::take(&mut self.rest);
            self.line(&line, each);
        }
    }

    fn line(&mut self, bytes: &[u8], each: &mut dyn FnMut(Said)) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        if let Some(fact) = text.strip_prefix(self.mark.as_str()) {
            let (name, value) = fact.split_once(' ').unwrap_or((fact, ""));
            if self.facts < MOST_FACTS {
                each(Said::Fact(name.to_owned(), value.trim().to_owned()));
            }
            self.facts += 1;
        } else {
            each(Said::Line(text.to_owned(), bytes.len()));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
