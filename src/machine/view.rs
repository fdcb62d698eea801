//! A run's access to the runner's host over SSH: [`View`] looks, once, and [`Hand`] runs scripts there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::lightsail::{Api, Identity, Instance, Writer};
use super::ssh::{ALIAS, Ended, Login, Place, Said, Ssh, VARIABLES};
use super::vm;
use crate::base::error::{Command, Failure, Hint, Id, Result};
use crate::base::event::{Event, Reporter};
use crate::base::files::Intake;
use crate::base::job_log::Log;
use crate::base::request::Limits;
use crate::base::secret::Secret;
use crate::base::wait::{self, Pace};
use crate::base::{files, message};
use crate::deployment::notes::{Notes, Writable};
use crate::deployment::record;
use crate::deployment::run::Run;
use crate::settings::Host;

/// A look ends after this time, whatever the host does.
const LOOK: Duration = Duration::from_secs(60);
/// Bytes of a script's output that are shown.
const MOST: usize = 8 * 1024 * 1024;
/// Seconds for which a host is reserved: for a token at GitLab and a script on this disk.
const RESERVED: u64 = 300;
/// Pauses between attempts to connect again.
const AGAIN: [u64; 4] = [1, 2, 4, 8];

/// How a login on the host becomes root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    Root,
    /// By sudo, without a password.
    Sudo,
    /// sudo asks for a password.
    Password,
    /// There is no sudo.
    #[default]
    None,
}

impl Access {
    /// The command whose stdin is a program for root. sudo writes the command line that it is given into the journal.
    fn command(self) -> &'static str {
        if self == Access::Sudo { "sudo -n sh -s" } else { "sh -s" }
    }
}

/// What the last run of the launch script left on the host. The host writes it: every text may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub result: String,
    pub step: String,
    pub reason: String,
    pub digest: String,
    /// The nonce of the delivery; empty if somebody ran the script by hand.
    pub delivery: String,
    pub finished: String,
}

/// What is on the host.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named where it is set")]
pub struct Facts {
    pub user: String,
    pub access: Access,
    /// Its own address at the end of the connection; empty if it is not known.
    pub address: String,
    /// ID and version of os-release, such as `debian 12`.
    pub system: String,
    /// The code name of that version, such as `bookworm`; empty if it has none.
    pub codename: String,
    pub systemd: bool,
    /// Free space on the root file system in KiB.
    pub free: Option<u64>,
    /// `None` if no launch script of this deployment has run there.
    pub outcome: Option<Outcome>,
    /// The digest of the script whose entry is in config.toml.
    pub digest: String,
    /// gitlab-runner's version; empty if it is not installed.
    pub version: String,
    /// outrigger installed it.
    pub installed: bool,
    /// Whether its process runs as the script's unit says; `None` if that was not looked at.
    pub hardened: Option<bool>,
    /// The deployment's entry in config.toml was changed since the script wrote it.
    pub edited: bool,
    /// The state of gitlab-runner's service, as systemd calls it.
    pub service: String,
    /// gitlab-runner's system id; empty before its first start.
    pub system_id: String,
    /// The nonce of the delivery that runs there now.
    pub running: Option<String>,
    /// Whether there is apt-get.
    pub apt: bool,
    /// Programs that a delivery needs and that are not there.
    pub lacks: Vec<String>,
    /// Free memory for files below `/run` in KiB.
    pub memory: Option<u64>,
}

impl Facts {
    fn take(&mut self, name: &str, value: &str) {
        let text = message::text(value);
        match name {
            "user" => self.user = text,
            "access" => {
                self.access = match value {
                    "root" => Access::Root,
                    "sudo" => Access::Sudo,
                    "password" => Access::Password,
                    _ => Access::None,
                }
            }
            "address" => self.address = text,
            "system" => self.system = text,
            "codename" => self.codename = text,
            "systemd" => self.systemd = value == "yes",
            "free" => self.free = value.parse().ok(),
            "status" => self.outcome = serde_json::from_str(value).ok(),
            "digest" => self.digest = text,
            "version" => self.version = text,
            "hardened" => self.hardened = Some(value == "yes"),
            "entry" if value == "gone" => self.digest.clear(),
            "entry" => self.edited = true,
            "installed" => self.installed = value == "yes",
            "service" => self.service = text,
            "id" => self.system_id = text,
            "running" => self.running = Some(text),
            "apt" => self.apt = !value.is_empty(),
            "lacks" => self.lacks.push(text),
            "memory" => self.memory = value.parse().ok(),
            _ => {}
        }
    }
}

/// Those of [`VARIABLES`] that are set.
pub(super) fn ssh_variables(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), env.get(*name)?.clone()))).collect()
}

/// The files of a login, for as long as it is used.
enum LoginFiles {
    None,
    Pins(#[expect(dead_code, reason = "removed when it is dropped")] files::Temporary),
    Vm(#[expect(dead_code, reason = "removed when it is dropped")] vm::Key),
}

/// Looks at the host.
pub struct View {
    pub run: Rc<Run>,
    pub notes: Rc<Notes>,
    pub limits: Limits,
    pub progress: Rc<dyn Reporter>,
    /// `None` without `--host`.
    ssh: Option<Ssh>,
    facts: OnceCell<Facts>,
    /// Scripts sent to the host.
    delivered: Cell<usize>,
    /// The whole environment.
    pub(super) env: BTreeMap<String, String>,
    pub(super) intake: Rc<Intake>,
    pub(super) aws: OnceCell<(Api, Identity)>,
    pub(super) vm_seen: OnceCell<Option<Instance>>,
    pub(super) aws_hand: std::cell::OnceCell<Writer>,
    /// This run has opened the VM's port.
    pub(super) door: Cell<bool>,
}

impl View {
    /// `env` is the whole environment; ssh gets [`VARIABLES`] of it.
    pub fn new(
        run: Rc<Run>,
        notes: Rc<Notes>,
        limits: Limits,
        (progress, intake): (Rc<dyn Reporter>, Rc<Intake>),
        env: &BTreeMap<String, String>,
        interactive: bool,
    ) -> Self {
        let settings = &run.settings;
        let host = settings.host.as_ref().and_then(|host| Host::parse(&host.value).ok());
        let ssh = host.map(|host| Ssh {
            login: Login { host, options: settings.ssh_options.clone(), keys: settings.host_keys.clone() },
            known_hosts: None,
            env: ssh_variables(env),
            interactive,
            made: None,
        });
        Self {
            run,
            notes,
            limits,
            progress,
            ssh,
            facts: OnceCell::new(),
            delivered: Cell::new(0),
            env: env.clone(),
            intake,
            aws: OnceCell::new(),
            vm_seen: OnceCell::new(),
            aws_hand: std::cell::OnceCell::new(),
            door: Cell::new(false),
        }
    }

    /// The host as it was given, or the name of the VM; `None` without `--host` and `--create-vm`.
    pub fn host(&self) -> Option<String> {
        self.vm().or_else(|| self.ssh.as_ref().map(|ssh| ssh.login.host.to_string()))
    }

    /// ssh with its files, which are removed when they are dropped. The login on a VM is for a few minutes.
    async fn ssh(&self) -> Result<(Ssh, LoginFiles)> {
        if self.vm().is_some() {
            let (ssh, key) = self.key().await?;
            return Ok((ssh, LoginFiles::Vm(key)));
        }
        let mut ssh = self.ssh.clone().ok_or_else(|| {
            Failure::new(Id::MissingInput, "the host is not set").hint("set --host [USER@]HOST[:PORT]")
        })?;
        if ssh.login.keys.is_empty() {
            return Ok((ssh, LoginFiles::None));
        }
        let keys = ssh.login.keys.iter();
        let lines = keys.map(|key| format!("{ALIAS} {key}\n")).collect::<Vec<_>>().concat();
        let file = files::temporary(lines.as_bytes())?;
        ssh.known_hosts = Some(file.path().display().to_string());
        Ok((ssh, LoginFiles::Pins(file)))
    }

    /// What is on the host; asked once per run. Fails with OR0807 (exit 8) if it cannot be reached, OR0351 (exit 3) and
    /// OR0913 (exit 9) for its host key, OR0424 (exit 4) if it refuses the login.
    pub async fn look(&self) -> Result<&Facts> {
        self.facts.get_or_try_init(|| self.look_now()).await
    }

    async fn look_now(&self) -> Result<Facts> {
        let Some(vm) = self.vm() else { return self.look_once().await };
        self.limits.deadline.extend(self.run.settings.wait);
        // A new VM refuses logins until its first start is over.
        let seen = wait::until(
            Pace::new(&self.limits, 1000, 5000).within(self.run.settings.wait),
            |_, waited| self.progress.waiting("run-script", &format!("the login on {vm}"), waited),
            async || match self.look_once().await {
                Ok(facts) => Ok(Break(facts)),
                Err(failure) if matches!(failure.id, Id::SshDenied | Id::SshUnreachable) => {
                    Ok(Continue(failure))
                }
                Err(failure) => Err(failure),
            },
        );
        seen.await?
    }

    async fn look_once(&self) -> Result<Facts> {
        let (ssh, _files) = self.ssh().await?;
        let host = ssh.name();
        let nonce = record::random_hex(16)?;
        let place = Place { deployment: &self.run.names.deployment, nonce: &nonce, reserver: "" };
        let settings = &self.run.settings;
        let url = settings.gitlab_url.as_ref().map_or("", |url| url.value.as_str());
        let server = match &settings.kubernetes_host {
            Some(host) => host.value.clone(),
            None => self.notes.record().cluster.server.trim_end_matches('/').to_owned(),
        };
        let program = Secret::new(place.look(url, &server)?);
        let what = format!("connecting to {host} with ssh");
        self.progress.event(&Event::Busy { what, waited: Duration::ZERO });
        let mut facts = Facts::default();
        let mut whole = false;
        let run = ssh.run("sh -s", &program, &nonce, |said| {
            if let Said::Fact(name, value) = said {
                whole |= name == "end";
                facts.take(&name, &value);
            }
        });
        let ended = tokio::time::timeout(LOOK, run);
        let ended = self.limits.cancel.unless_requested(ended).await?.unwrap_or_else(|_| {
            let said = format!("no answer within {} s", LOOK.as_secs());
            Ok(Ended { said, answered: false })
        })?;
        if !ended.answered {
            return Err(ssh.refusal(&ended));
        }
        // Without root rights the host tells who logged in, and no more.
        if !whole && matches!(facts.access, Access::Root | Access::Sudo) {
            return Err(Failure::new(Id::SshUnreachable, format!("the connection to {host} ended early"))
                .detail("ssh says", message::text(&ended.said)));
        }
        Ok(facts)
    }
}

/// Runs scripts on the host; also a [`View`].
pub type Hand = Writable<View>;

/// The end of a script on the host.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// gitlab-runner's, empty as in [`Facts`].
    pub system_id: String,
}

/// What was heard of a delivery so far.
#[derive(Default)]
struct Heard {
    /// Bytes of the script's output in whole lines.
    bytes: usize,
    /// What comes is the script's.
    started: bool,
    /// What ssh and the host said at the first connection.
    first: String,
    /// Connections so far.
    connections: usize,
    /// The host said that it started the script.
    confirmed: bool,
    end: Option<End>,
    told: Facts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The script's exit code.
    Exit(String),
    /// The nonce of the delivery that holds the host.
    Busy(String),
    /// The upload does not match its hash.
    Damaged,
    /// The script was killed.
    Lost,
    /// The host does not know this delivery, or no longer.
    Absent,
}

impl Heard {
    fn take(&mut self, said: Said, progress: &dyn Reporter, host: &str) {
        match said {
            Said::Fact(name, value) => match name.as_str() {
                "started" => {
                    self.started = true;
                    self.confirmed = true;
                }
                "exit" if value == "busy" => self.end = Some(End::Busy(String::new())),
                "exit" => self.end = Some(End::Exit(value)),
                "busy" => self.end = Some(End::Busy(value)),
                "damaged" => self.end = Some(End::Damaged),
                "lost" => self.end = Some(End::Lost),
                "absent" => self.end = Some(End::Absent),
                name => self.told.take(name, &value),
            },
            Said::Line(..) if !self.started => {}
            Said::Line(text, bytes) => {
                self.bytes += bytes;
                if self.bytes > MOST {
                    return;
                }
                let line = text.strip_prefix("outrigger: ").unwrap_or(&text);
                if !line.trim().is_empty() {
                    for line in Log::default().update(&format!("{line}\n")) {
                        progress.event(&Event::Log { job: host.to_owned(), line });
                    }
                }
            }
        }
    }
}

impl Hand {
    /// Number of scripts sent, and of changing requests to AWS.
    pub fn mutations(&self) -> usize {
        self.delivered.get() + self.aws_hand.get().map_or(0, Writer::mutations)
    }

    /// Reserves the host for this run's script, before the token that it uses now ends.
    ///
    /// # Errors
    /// As [`View::look`]; OR0602 if another script runs there or is about to.
    pub async fn reserve(&self) -> Result<()> {
        // Nothing can be in the way on a VM that is still to be made.
        if self.vm().is_some() && self.instance().await?.is_none() {
            return Ok(());
        }
        self.enter().await?;
        let facts = self.look().await?;
        let access = facts.access;
        // A script of an earlier run is let end; how, does not matter for what comes now.
        let last = self.notes.record().delivery.as_ref().map(|last| last.nonce.clone());
        if let Some(nonce) = last.filter(|last| facts.running.as_ref() == Some(last))
            && let Err(failure) = self.resume(&nonce).await
            && self.notes.record().delivery.is_some()
        {
            return Err(failure);
        }
        let (ssh, _files) = self.ssh().await?;
        let host = ssh.name();
        if self.notes.record().reserver.is_empty() {
            let reserver = record::random_hex(16)?;
            self.journal.write(|record| record.reserver = reserver)?;
        }
        let (nonce, reserver) = (record::random_hex(16)?, self.notes.record().reserver.clone());
        let place = Place { deployment: &self.run.names.deployment, nonce: &nonce, reserver: &reserver };
        let program = Secret::new(place.reserve(RESERVED)?);
        let mut answer = String::new();
        let run = ssh.run(access.command(), &program, &nonce, |said| {
            if let Said::Fact(name, _) = said {
                answer = name;
            }
        });
        let ended = self.limits.cancel.unless_requested(tokio::time::timeout(LOOK, run)).await?;
        match (answer.as_str(), ended) {
            ("reserved", _) => Ok(()),
            ("busy", _) => Err(locked(&host)),
            (_, Ok(ended)) => Err(ssh.refusal(&ended?)),
            (_, Err(_)) => {
                let said = format!("no answer within {} s", LOOK.as_secs());
                Err(ssh.refusal(&Ended { said, answered: false }))
            }
        }
    }

    /// Runs a script as root on the host, detached there, and follows it to its end; a lost connection is made again.
    /// `secrets` is the file that it gets as its argument. Waits for up to `--wait`.
    ///
    /// # Errors
    /// As [`View::look`]; OR0508 if the script fails, or OR0807, OR0810, OR0708 and OR0914 for what it says; OR0602 if
    /// another script runs there; OR0807 if its end is not seen in time, which harms nothing.
    pub async fn deliver(
        &self,
        script: &Secret,
        secrets: Option<&Secret>,
        undoes: bool,
    ) -> Result<Delivered> {
        let access = self.look().await?.access;
        let (ssh, _files) = self.ssh().await?;
        let (nonce, reserver) = (record::random_hex(16)?, self.notes.record().reserver.clone());
        let delivery = record::Delivery { nonce: nonce.clone(), undoes };
        self.journal.write(|record| record.delivery = Some(delivery))?;
        let place = Place { deployment: &self.run.names.deployment, nonce: &nonce, reserver: &reserver };
        let program = place.run(script, secrets)?;
        let mut heard = Heard::default();
        self.delivered.set(self.delivered.get() + 1);
        let ended = self.connect(&ssh, access, &program, &nonce, &mut heard).await?;
        if heard.end.is_none() && !ended.answered && !heard.started {
            let refusal = ssh.refusal(&ended);
            // The upload may have been cut at any byte: whether it ran is asked below.
            if refusal.id != Id::SshUnreachable {
                self.ended()?;
                return Err(refusal);
            }
        }
        heard.first = ended.said;
        self.follow(access, &nonce, heard).await
    }

    /// Follows a script that an earlier run of outrigger delivered and that still runs.
    ///
    /// # Errors
    /// As [`Self::deliver`].
    pub async fn resume(&self, nonce: &str) -> Result<Delivered> {
        let access = self.look().await?.access;
        self.delivered.set(self.delivered.get() + 1);
        self.follow(access, nonce, Heard { confirmed: true, ..Heard::default() }).await
    }

    /// Connects again until the end was heard.
    async fn follow(&self, access: Access, nonce: &str, mut heard: Heard) -> Result<Delivered> {
        let host = self.host().unwrap_or_default();
        let begun = Instant::now();
        let until = begun + self.run.settings.wait;
        // It comes on top of the time of the run.
        self.limits.deadline.extend(self.run.settings.wait);
        let place = Place { deployment: &self.run.names.deployment, nonce, reserver: "" };
        let mut pauses = AGAIN.iter().chain(std::iter::repeat(&AGAIN[AGAIN.len() - 1]));
        let mut last = String::new();
        while heard.end.is_none() {
            if Instant::now() >= until {
                return Err(Failure::new(
                    Id::SshUnreachable,
                    format!("the end of the script on {host} was not seen within --wait"),
                )
                .detail("ssh says", message::text(&last))
                .detail(
                    "meanwhile",
                    if heard.confirmed {
                        "the script goes on there by itself"
                    } else {
                        "whether it has started there is not known"
                    },
                )
                .hint("to follow it, run the same command again"));
            }
            if heard.connections > 0 {
                let pause = Duration::from_secs(*pauses.next().unwrap_or(&8));
                self.progress.waiting(
                    "run-script",
                    &format!("the connection to {host} again"),
                    begun.elapsed(),
                );
                self.limits.cancel.unless_requested(tokio::time::sleep(pause)).await?;
            }
            // What a login prints comes first.
            heard.started = false;
            let program = Secret::new(place.resume(heard.bytes)?);
            // Anew for each connection: the key for a VM ends soon.
            let (ssh, _files) = self.ssh().await?;
            last = self.connect(&ssh, access, &program, nonce, &mut heard).await?.said;
        }
        self.judge(&host, nonce, heard)
    }

    async fn connect(
        &self,
        ssh: &Ssh,
        access: Access,
        program: &Secret,
        nonce: &str,
        heard: &mut Heard,
    ) -> Result<Ended> {
        let host = ssh.job();
        heard.connections += 1;
        let run = ssh.run(access.command(), program, nonce, |said| heard.take(said, &*self.progress, &host));
        let timed = tokio::time::timeout(self.run.settings.wait, run);
        match self.limits.cancel.unless_requested(timed).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Ok(Ended { said: "no end within --wait".to_owned(), answered: true }),
            Err(stopped) => Err(stopped
                .detail("meanwhile", format!("a script that was started on {host} goes on there by itself"))
                .hint("to follow it, run the same command again")),
        }
    }

    /// The end of a delivery as a result.
    fn judge(&self, host: &str, nonce: &str, heard: Heard) -> Result<Delivered> {
        // What another run of the script left tells nothing of this one.
        let outcome = heard.told.outcome.filter(|outcome| outcome.delivery == nonce);
        let told = Delivered { system_id: heard.told.system_id };
        match (heard.end, outcome) {
            (Some(End::Exit(code)), _) if code == "0" => {}
            (Some(End::Absent), Some(outcome)) if outcome.result == "ok" => {}
            (Some(End::Exit(_) | End::Absent | End::Lost), Some(outcome)) if outcome.result != "ok" => {
                self.ended()?;
                return Err(failed(host, &outcome, &self.run.names.deployment));
            }
            (Some(End::Exit(code)), _) => {
                self.ended()?;
                return Err(script_failed(
                    host,
                    &format!("exit code {}", message::text(&code)),
                    &self.run.names.deployment,
                ));
            }
            (Some(End::Busy(_)), _) => {
                self.ended()?;
                return Err(locked(host));
            }
            (Some(End::Absent), _) if heard.confirmed => {
                self.ended()?;
                let message =
                    format!("the end of the script on {host} was not seen: the connection was lost");
                return Err(Failure::new(Id::SshUnreachable, message).hint("run the same command again"));
            }
            (Some(End::Absent), _) => {
                self.ended()?;
                let failure = Failure::new(Id::SshUnreachable, format!("the script did not start on {host}"));
                let failure = match heard.first.trim() {
                    "" => failure,
                    said => failure.detail("ssh says", message::text(said)),
                };
                return Err(failure
                    .detail("on the host", "nothing was run")
                    .hint("run the same command again"));
            }
            (Some(End::Damaged), _) => {
                self.ended()?;
                return Err(Failure::new(
                    Id::SshUnreachable,
                    format!("the script did not reach {host} in one piece"),
                )
                .detail("on the host", "nothing was run")
                .hint("run the same command again"));
            }
            (Some(End::Lost) | None, _) => {
                self.ended()?;
                return Err(script_failed(host, "it was killed", &self.run.names.deployment));
            }
        }
        self.ended()?;
        Ok(told)
    }

    /// Forgets the delivery, which has ended.
    fn ended(&self) -> Result<()> {
        self.journal.write(|record| record.delivery = None)
    }
}

/// The host runs another script.
pub fn locked(host: &str) -> Failure {
    Failure::new(Id::HostLocked, format!("another script of this deployment runs on {host}"))
        .hint("wait until it has ended, and run the same command again")
}

/// The script's words for an answer of the API server that refuses the runner: `templates/launch/prove.sh`.
const REFUSED: [&str; 3] = ["refuses the token", "is not that of", "may not create pods"];

/// The exit code of a run whose script failed in this step for this reason.
pub fn script_exit(step: &str, reason: &str) -> u8 {
    let outcome = Outcome { step: step.to_owned(), reason: reason.to_owned(), ..Outcome::default() };
    failed("", &outcome, "").kind.exit_code()
}

/// The launch script's own words as a failure: its step decides what to do.
fn failed(host: &str, outcome: &Outcome, deployment: &str) -> Failure {
    let reason = message::text(&outcome.reason);
    let says = |words: &[&str]| words.iter().any(|word| outcome.reason.contains(word));
    let failure = |id, text: String| Failure::new(id, text).detail("the script says", reason.clone());
    match outcome.step.as_str() {
        "prove-cluster" if says(&["certificate"]) => {
            failure(Id::HostProof, format!("{host} cannot verify the API server's certificate"))
                .hint("something on the way may terminate TLS; compare the certificates from both places")
        }
        // Whatever else fails before the API server has answered.
        "prove-cluster"
            if says(&["does not reach"]) || outcome.reason.starts_with("https://") && !says(&REFUSED) =>
        {
            failure(Id::HostCannotReach, format!("{host} does not reach the API server"))
                .hint("open the way in the network: a firewall, or the cluster's authorized networks")
        }
        "prove-gitlab" if says(&["verify failed"]) => {
            failure(Id::HostWithoutGitlab, format!("{host} does not reach GitLab"))
                .hint("open the way in the network, or set a proxy: --runner-https-proxy URL")
        }
        "prove-cluster" if says(&REFUSED) => {
            failure(Id::HostProof, format!("the cluster refuses the runner's credentials on {host}"))
                .hint(("to issue a new token", Command::outrigger("setup --reissue cluster")))
        }
        "prove-gitlab" if says(&["GitLab refuses"]) => {
            failure(Id::HostProof, format!("GitLab refuses the runner's token on {host}"))
                .hint(("to issue a new one", Command::outrigger("setup --reissue runner")))
        }
        "look" | "config"
            if outcome.reason.contains("is here")
                || outcome.reason.contains("is not ours")
                || outcome.reason.contains("changed our entry") =>
        {
            failure(
                Id::HostForeign,
                format!("{host} has a GitLab Runner or an entry that is not this deployment's"),
            )
            .hint(if outcome.reason.contains("changed our entry") {
                ("to replace the entry", Command::outrigger("setup --replace-entry")).into()
            } else {
                Hint::from("upgrade or remove it there as it was installed, or use another host: --host HOST")
            })
        }
        step => script_failed(host, &format!("in step {}: {reason}", message::text(step)), deployment),
    }
}

fn script_failed(host: &str, why: &str, deployment: &str) -> Failure {
    Failure::new(Id::ScriptFailed, format!("the script failed on {host}"))
        .detail("the script says", why)
        .detail("its log", format!("/var/log/outrigger-{deployment}.log on {host}"))
        .hint("repair the cause, and run the same command again")
}
