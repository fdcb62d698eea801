//! Runs the launch script on the host of `--host`, over SSH, and undoes it there.

use serde_json::json;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::files;
use crate::base::secret::Secret;
use crate::cluster::authorized_networks;
use crate::deployment::names;
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::{Part, Run};
use crate::gitlab::runner;
use crate::machine::install::RELEASES;
use crate::machine::uninstall::Uninstall;
use crate::machine::view::{Access, Delivered, Facts, locked};
use crate::machine::{script_files, secrets_file};
use crate::settings::{Need, Settings, Source, check};
use crate::steps::contract::{
    Decided, Deciding, Info, Milestone, Outcome, Purpose, Reads, Rollback, Step, Writes,
};
use crate::steps::is_delivery_due;

pub struct RunScript;

/// Free space in KiB below which updates and logs soon fail.
const LITTLE: u64 = 500 * 1024;

pub struct Seen {
    /// As `--host` has it.
    host: String,
    /// `None` with `--host-gone`.
    facts: Option<Facts>,
    /// A launch script is at its path.
    exists: bool,
    /// GitLab can be asked about jobs and contact.
    asks_gitlab: bool,
}

#[derive(Clone)]
pub enum Act {
    /// Runs the script that is at its path by then.
    Run,
    /// Runs the script with another version of gitlab-runner, while no job runs; back to the old one if it does not work.
    Upgrade,
    /// Follows the script that an earlier run of outrigger started, by its nonce; `anew`: then runs the one that is at
    /// its path by then.
    Follow { nonce: String, anew: bool },
}

/// Runs the script that undoes the launch script, or follows the one with this nonce.
#[derive(Clone)]
pub struct Uninstalled(Option<String>);

impl Step for RunScript {
    const INFO: Info = Info {
        name: "run-script",
        about: "Run the launch script on a host over SSH",
        long: "Connects to the host of --host with the system's ssh, your configuration and agent. The host key has to be \
         known, the login is root or a user whose sudo needs no password. The script and its secrets go over the \
         connection into a directory in memory that only root can read; the script runs detached there, so a lost \
         connection harms nothing. Its progress is shown as it comes. Then it waits until GitLab has seen the runner from \
         this host, and removes the script and its secrets from this disk, unless --script names their place. teardown \
         runs the script that undoes it the same way.",
        keys: &["host", "hostKeys", "sshOptions", "createVm", "sshFrom", "script", "wait"],
        gitlab: Need::Optional,
        part: Some(Part::Host),
        pulls_in: &[Part::Vm],
        is_wanted: |settings, _| settings.host.is_some() || settings.create_vm,
        reaches: Some(Milestone::ScriptDelivered),
        undo_needs_cluster: false,
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Uninstalled;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let Some(host) = r.machine.host().filter(|_| why != Purpose::Teardown || r.machine.vm().is_none())
        else {
            if why == Purpose::Teardown {
                return Ok(Seen { host: String::new(), facts: None, exists: false, asks_gitlab: false });
            }
            return Err(
                Failure::new(Id::MissingInput, "the host is not set").hint("set --host [USER@]HOST[:PORT]")
            );
        };
        let gone = why == Purpose::Teardown && r.run.options.host_gone;
        // A VM's port is closed until create-vm has opened it.
        let is_closed = !r.machine.is_open();
        let facts = if gone || is_closed { None } else { Some(r.machine.look().await?.clone()) };
        let asks_gitlab = r.gitlab.is_connected() && !r.notes.record().gitlab.given;
        Ok(Seen { host, facts, exists: r.run.script_path().exists(), asks_gitlab })
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        let Some(facts) = &seen.facts else { return closed(d, &seen.host).into() };
        if let Some(failure) = unusable(&seen.host, facts) {
            return Line::refuse(failure).into();
        }
        if let Some(failure) = without_packages(&seen.host, facts) {
            return Line::refuse(failure).into();
        }
        let wanted = d
            .forecast
            .script
            .as_ref()
            .map(|script| script.digest.clone())
            .or_else(|| d.notes.script_digest());
        // New tokens do not change the digest.
        let written = d.forecast.script.as_ref().is_some_and(|script| script.is_written);
        let pending = d.notes.slots().next.is_some();
        let is_due = written || d.notes.record().script_due || pending;
        if let Some(nonce) = &facts.running {
            // The script on this disk may be another than the one that runs.
            return running(d, &seen.host, nonce, written || (is_due && seen.exists)).into();
        }
        // launch-script itself says why it writes none.
        if wanted.is_none() && d.run.includes(Part::Script) {
            return Decided::lines(Vec::new());
        }
        let Some(wanted) = wanted else {
            let failure = Failure::new(Id::MissingPrerequisite, "there is no launch script yet");
            return Line::refuse(failure.hint(Command::outrigger("launch-script"))).into();
        };
        let Seen { host, .. } = seen;
        let is_current =
            facts.outcome.as_ref().is_some_and(|outcome| outcome.result == "ok" && outcome.digest == wanted);
        if let Some(failure) = d.run.upgrade.then(|| no_upgrade(host, facts, &d.run.settings)).flatten() {
            return Line::refuse(failure).into();
        }
        if is_current && !is_due {
            let mut lines = vec![Line::keep(format!("{host}: {}", shown(facts)))];
            if facts.service != "active" {
                let service = if facts.service.is_empty() { "unknown" } else { &facts.service };
                lines.push(Line::unhealthy(format!("gitlab-runner's service on {host} is {service}")));
            }
            let planned = &d.run.settings.runner_version.value;
            if facts.version.is_empty() || check::is_older(&facts.version, planned) {
                let version = if facts.version.is_empty() { "not installed" } else { &facts.version };
                lines.push(Line::unhealthy(format!(
                    "gitlab-runner on {host} is {version}, planned is {planned}"
                )));
            }
            if facts.hardened == Some(false) {
                lines.push(Line::unhealthy(format!(
                    "gitlab-runner's process on {host} is not confined as the script's unit says"
                )).detail("look at systemctl cat gitlab-runner on the host; after a change there, restart the service"));
            }
            if facts.edited {
                lines.push(
                    Line::unhealthy(format!(
                        "the runner's entry in config.toml on {host} was changed since the script wrote it"
                    ))
                    .detail(("to replace it", Command::outrigger("setup --replace-entry"))),
                );
            }
            if facts.digest.is_empty() {
                lines.push(Line::unhealthy(format!(
                    "the runner's entry was not written on {host}, or was removed"
                )));
            }
            if let Some(free) = facts.free.filter(|free| *free < LITTLE) {
                lines.push(Line::unhealthy(format!("{} MiB are free on {host}", free / 1024)));
            }
            return Decided::lines(lines);
        }
        if !written && !seen.exists {
            // launch-script writes it again where it can.
            let failure =
                Failure::new(Id::MissingInput, format!("the script for {host} is not on this disk"))
                    .detail(
                        "because",
                        "the host was not seen to run it, and launch-script does not write it in this run",
                    )
                    .hint((
                        "to write it with new tokens and run it",
                        Command::outrigger("setup --reissue all"),
                    ));
            return Line::refuse(failure).into();
        }
        let decision = if facts.outcome.is_some() { Decision::Update } else { Decision::Create };
        let by = if facts.access == Access::Sudo {
            format!("as root, by sudo of {}", facts.user)
        } else {
            "as root".to_owned()
        };
        let what = match (&facts.outcome, facts.version.as_str()) {
            (_, "") => String::new(),
            (None, version) => format!("; gitlab-runner {version} is there already and stays"),
            (Some(_), version) => format!("; gitlab-runner {version} is there"),
        };
        let path = script_files::absolute(&d.run.script_path());
        if d.run.upgrade {
            let (from, to) = (&facts.version, &d.run.settings.runner_version.value);
            let text = format!("gitlab-runner {from} -> {to} on {host}");
            let line = Line::new(Decision::Update, text, Act::Upgrade).detail(if seen.asks_gitlab {
                "the runner is paused until its jobs have ended, and takes jobs again afterwards"
            } else {
                "the service lets its jobs end before it stops; they cannot be looked at without GitLab's API"
            });
            let goes_back = d.forecast.script.as_ref().is_some_and(|script| script.goes_back);
            let line = if goes_back {
                line.detail(format!("back to {from} if {to} does not come online"))
            } else {
                line.detail("without a way back: how the version there was installed is not known here")
            };
            return line.about(Target::File(path)).into();
        }
        let line = Line::new(
            decision,
            format!("the launch script on {host} ({}), {by}{what}", facts.system),
            Act::Run,
        );
        let line = match facts.outcome.as_ref().filter(|outcome| outcome.result != "ok") {
            Some(outcome) => {
                line.detail(format!("its last run failed in step {}: {}", outcome.step, outcome.reason))
            }
            None => line,
        };
        line.about(Target::File(path)).into()
    }

    fn within(&self, act: &Act, announced: &[Act]) -> bool {
        match act {
            Act::Run | Act::Follow { .. } => !announced.is_empty(),
            Act::Upgrade => announced.iter().any(|act| matches!(act, Act::Upgrade)),
        }
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Uninstalled>> {
        let host = w.machine.host().unwrap_or_default();
        if matches!(act, Act::Upgrade) {
            return Ok(upgrade(w, &host).await?.into());
        }
        let delivered = match act {
            Act::Follow { nonce, anew: false } => w.machine.resume(&nonce).await,
            Act::Follow { nonce, anew: true } => {
                // However it ends, the new script comes after it; but only then.
                match w.machine.resume(&nonce).await {
                    Err(failure) if w.notes.record().delivery.is_some() => Err(failure),
                    _ => deliver(w).await,
                }
            }
            Act::Run | Act::Upgrade => deliver(w).await,
        };
        // What followed was an upgrade that was interrupted.
        if w.run.upgrade
            && let Err(failure) = unpause(w).await
        {
            return Err(failure);
        }
        let delivered = match delivered {
            Err(failure) if failure.id == Id::HostCannotReach => return Err(with_network(w, failure).await),
            delivered => delivered?,
        };
        let online = online(w, &delivered).await?;
        Ok(format!("ran on {host}; {online}{}", all_is_well(w)?).into())
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<Uninstalled>> {
        if seen.host.is_empty() {
            return Vec::new();
        }
        let host = &seen.host;
        let Some(facts) = &seen.facts else {
            return vec![Line::keep(format!("{host} (--host-gone: not undone there)"))];
        };
        if let Some(failure) = unusable(host, facts) {
            return vec![Line::refuse(failure)];
        }
        let undo = |nonce: Option<String>| {
            Line::new(Decision::Remove, format!("the launch script's changes on {host}"), Uninstalled(nonce))
                .detail("gitlab-runner too, if the script installed it and no other entry uses it")
        };
        if let Some(nonce) = &facts.running {
            let is_ours =
                d.notes.record().delivery.as_ref().is_some_and(|ours| ours.nonce == *nonce && ours.undoes);
            return vec![if is_ours { undo(Some(nonce.clone())) } else { Line::refuse(locked(host)) }];
        }
        if facts.outcome.is_none() && facts.digest.is_empty() {
            return vec![Line::keep(format!("nothing of {} on {host}", d.run.names.deployment))];
        }
        vec![undo(None)]
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Uninstalled>) -> Result<String> {
        let host = w.machine.host().unwrap_or_default();
        match acts.into_iter().next() {
            None => return Ok(String::new()),
            Some(Uninstalled(Some(nonce))) => w.machine.resume(&nonce).await?,
            Some(Uninstalled(None)) => {
                let script = Secret::new(Uninstall::of(&w.run.settings, &w.notes.record())?.render()?);
                w.machine.deliver(&script, None, true).await?
            }
        };
        Ok(format!("undone on {host}"))
    }
}

/// Waits until GitLab has seen the runner from the host, if GitLab can be asked.
async fn online(w: Writes<'_>, delivered: &Delivered) -> Result<String> {
    if !has_runner(w).await? {
        let why = w.gitlab.why_not();
        let why = if why.is_empty() { "no runner of this deployment is there" } else { why };
        return Ok(format!("not checked: online in GitLab ({why})"));
    }
    let seen = runner::contact(w.gitlab, &delivered.system_id, w.gitlab.now()).await?;
    if seen.is_well {
        let _ = w.products.online.set(());
    }
    Ok(seen.text)
}

/// Whether GitLab can be asked about a runner of this deployment.
async fn has_runner(w: Writes<'_>) -> Result<bool> {
    Ok(w.gitlab.is_connected() && matches!(runner::find(w.gitlab).await?, runner::Found::Ours(_)))
}

/// Ends a pause that outrigger made.
async fn unpause(w: Writes<'_>) -> Result<()> {
    let paused = w.notes.record().gitlab.paused().map(|runner| runner.id);
    match paused.filter(|_| w.gitlab.is_connected()) {
        Some(id) => runner::resume(w.gitlab, id).await,
        None => Ok(()),
    }
}

/// The script has done its work: it is noted, and its files are removed unless the user named their place.
fn all_is_well(w: Writes<'_>) -> Result<&'static str> {
    // First: a script that is gone and due could not be sent again.
    w.journal.write(|record| record.script_due = false)?;
    if keeps_script(w.run) { Ok("") } else { remove(w.run) }
}

/// Runs the script while no job runs, and undoes it if the new version does not work.
async fn upgrade(w: Writes<'_>, host: &str) -> Result<String> {
    let paused = if w.gitlab.is_connected() {
        match runner::pause_until_idle(w.gitlab, RunScript::INFO.name).await {
            Ok(paused) => paused,
            Err(failure) => {
                return Err(if not_begun(w).await? { failure.taken_back() } else { failure });
            }
        }
    } else {
        None
    };
    let tried = async {
        let delivered = deliver(w).await?;
        online(w, &delivered).await
    };
    let tried = match tried.await {
        Err(failure) if is_of_the_version(failure.id) => Err(go_back(w, host, failure).await),
        tried => tried,
    };
    let tried = match paused {
        None => tried,
        Some(id) => match (runner::resume(w.gitlab, id).await, tried) {
            (Ok(()), tried) => tried,
            // Why the upgrade failed says more.
            (Err(failure), Ok(_)) | (Err(_), Err(failure)) => return Err(runner::still_paused(id, failure)),
        },
    };
    let online = tried?;
    let to = &w.run.settings.runner_version.value;
    Ok(format!("gitlab-runner {to} runs on {host}; {online}{}", all_is_well(w)?))
}

/// Whether another version may be the cause.
fn is_of_the_version(id: Id) -> bool {
    matches!(
        id,
        Id::ScriptFailed | Id::NoContact | Id::HostProof | Id::HostCannotReach | Id::HostWithoutGitlab
    )
}

/// Runs the script with the old version. Returns the failure of the upgrade with what became of that.
async fn go_back(w: Writes<'_>, host: &str, failure: Failure) -> Failure {
    let Some(back) = w.products.rollback.get() else {
        return failure.detail("on the host", "the new version stays: the old one is not known well enough");
    };
    let (from, to) = (&back.version, &w.run.settings.runner_version.value);
    w.progress.warn(format!("the upgrade to gitlab-runner {to} failed on {host}: back to {from}"));
    let returned = async {
        // New tokens that came with the upgrade are not lost.
        let (_, secrets) = files_of(w.run)?;
        let delivered = w.machine.deliver(&back.script, secrets.as_ref(), false).await?;
        let _ = w.products.delivered.set(());
        let online = online(w, &delivered).await?;
        note_old(w, back).await?;
        Ok::<_, Failure>(online)
    };
    match returned.await {
        Ok(online) => {
            let message =
                format!("the upgrade to gitlab-runner {to} failed on {host}, and {from} runs there");
            let mut rolled = Failure::new(Id::RolledBack, message).detail("because", failure.message);
            rolled.details.extend(failure.details);
            rolled
                .taken_back()
                .detail("now", online)
                .hint("look at the new version's log on the host: journalctl -u gitlab-runner")
        }
        Err(mut worse) => {
            worse.also.push(failure);
            worse.detail("while", format!("going back to gitlab-runner {from}"))
        }
    }
}

/// The host was not touched: a later `setup` must not install the new version there while jobs run. Tells whether the
/// old one is noted again.
async fn not_begun(w: Writes<'_>) -> Result<bool> {
    match w.products.rollback.get() {
        // New tokens that came with the upgrade are in these files alone.
        Some(back) if files_of(w.run)?.1.is_none() => note_old(w, back).await.map(|()| true),
        _ => Ok(false),
    }
}

/// Notes that the host has the old version, and removes the new one's script from this disk.
async fn note_old(w: Writes<'_>, back: &Rollback) -> Result<()> {
    w.journal.write(|record| {
        for (key, values) in &back.settings {
            match values {
                Some(values) => record.settings.insert(key.clone(), values.clone()),
                None => record.settings.remove(key),
            };
        }
        back.digest.clone_into(&mut record.script_digest);
        record.script_due = false;
    })?;
    if !keeps_script(w.run) {
        remove(w.run)?;
    }
    let note = Run::settings_note(&w.notes.record().settings);
    w.cluster.annotate(json!({names::SETTINGS: note, names::SCRIPT_DIGEST: back.digest})).await
}

/// Where the script cannot install gitlab-runner, nor what its binary needs.
fn without_packages(host: &str, facts: &Facts) -> Option<Failure> {
    let is_known = matches!(facts.system.split(' ').next(), Some("debian" | "ubuntu"))
        && RELEASES.contains(&facts.codename.as_str());
    // One that is there is used as it is.
    if (is_known && facts.apt) || !facts.version.is_empty() {
        return None;
    }
    let system = if is_known || facts.codename.is_empty() { &facts.system } else { &facts.codename };
    let lack = if facts.apt {
        format!("GitLab has no packages for the system of {host} ({system})")
    } else {
        format!("{host} has no apt-get ({system})")
    };
    Some(Failure::new(Id::UnusableHost, lack).hint("use a host with Debian from 11 or Ubuntu from 18.04"))
}

/// Why gitlab-runner cannot be upgraded there.
fn no_upgrade(host: &str, facts: &Facts, settings: &Settings) -> Option<Failure> {
    let (is, to) = (&facts.version, &settings.runner_version.value);
    if is.is_empty() {
        let failure =
            Failure::new(Id::MissingPrerequisite, format!("gitlab-runner is not installed on {host}"));
        return Some(failure.hint(Command::outrigger("setup")));
    }
    if !facts.installed {
        let message = format!("gitlab-runner {is} on {host} was not installed by outrigger");
        return Some(Failure::new(Id::HostForeign, message).hint("upgrade it there, as it was installed"));
    }
    let source = &settings.runner_version.source;
    let is_asked_for = matches!(source, Source::Flag(_) | Source::Environment(_) | Source::File(_));
    (check::is_older(to, is) && is_asked_for).then(|| {
        Failure::new(Id::InvalidInput, format!("gitlab-runner {is} is on {host}, and {to} is older"))
            .hint("name a newer version: --runner-version VERSION")
    })
}

/// Why the launch script cannot run there.
fn unusable(host: &str, facts: &Facts) -> Option<Failure> {
    let no_root = |why: String| {
        Some(
            Failure::new(
                Id::NoRoot,
                format!("{} on {host} has no root rights without a password", facts.user),
            )
            .detail("because", why)
            .hint("log in as root: --host root@HOST")
            .hint(format!(
                "or let sudo ask for no password, for the time of the run: {} ALL=(root) NOPASSWD: ALL",
                facts.user
            ))
            .hint("or copy the script and run it there by hand: --target ssh without --host"),
        )
    };
    match facts.access {
        Access::Password => return no_root("sudo asks it for a password, or lets it run nothing".to_owned()),
        Access::None => return no_root("it is not root, and there is no sudo".to_owned()),
        Access::Root | Access::Sudo => {}
    }
    let lack = if !facts.systemd {
        "does not run systemd".to_owned()
    } else if !facts.lacks.is_empty() {
        format!("has no {}", facts.lacks.join(", "))
    } else if facts.memory.is_some_and(|memory| memory < 4 * 1024) {
        "has less than 4 MiB free below /run".to_owned()
    } else {
        return None;
    };
    Some(
        Failure::new(Id::UnusableHost, format!("{host} {lack}"))
            .detail("system", facts.system.clone())
            .hint("use a host with Debian or Ubuntu"),
    )
}

/// The line of a VM whose port 22 is closed: it is decided again when create-vm has opened it.
fn closed(d: &Deciding<'_>, host: &str) -> Line<Act> {
    if !is_delivery_due(d) {
        return Line::keep(format!("{host}: not asked for what is inside (port 22 is closed)"));
    }
    if !d.run.includes(Part::Vm) {
        let failure = Failure::new(Id::MissingPrerequisite, format!("port 22 of {host} is closed"));
        return Line::refuse(failure.hint(Command::outrigger("setup")));
    }
    let act = if d.run.upgrade { Act::Upgrade } else { Act::Run };
    let text = format!("the launch script on {host}, as root, by sudo; decided when the VM can be reached");
    Line::new(Decision::Unknown, text, act).about(Target::File(script_files::absolute(&d.run.script_path())))
}

/// Another script runs there, or ours.
fn running(d: &Deciding<'_>, host: &str, nonce: &str, anew: bool) -> Line<Act> {
    if d.notes.record().delivery.as_ref().is_some_and(|ours| ours.nonce == nonce && !ours.undoes) {
        let then = if anew { ", and then the new one" } else { "" };
        let text = format!("the launch script that runs on {host} since an earlier run of outrigger{then}");
        return Line::new(Decision::Update, text, Act::Follow { nonce: nonce.to_owned(), anew });
    }
    Line::refuse(locked(host))
}

async fn deliver(w: Writes<'_>) -> Result<Delivered> {
    let (script, secrets) = files_of(w.run)?;
    let delivered = w.machine.deliver(&script, secrets.as_ref(), false).await?;
    let _ = w.products.delivered.set(());
    Ok(delivered)
}

fn shown(facts: &Facts) -> String {
    let service =
        if facts.service.is_empty() { String::new() } else { format!(", service {}", facts.service) };
    format!("gitlab-runner {}{service}", facts.version)
}

/// outrigger itself reaches the API server, so the cluster may admit only listed networks.
async fn with_network(w: Writes<'_>, failure: Failure) -> Failure {
    let address = w.machine.address().await;
    let is_address = address.parse::<std::net::IpAddr>().is_ok();
    let target = &w.cluster.target;
    match authorized_networks::admit(&target.context, &target.endpoint.url, &address).filter(|_| is_address) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The script at its path, and its secrets, if they are in a file beside it.
fn files_of(run: &Run) -> Result<(Secret, Option<Secret>)> {
    let path = run.script_path();
    let text = |bytes: Vec<u8>| Secret::new(String::from_utf8_lossy(&bytes).into_owned());
    let script = files::read(&path)?.ok_or_else(|| {
        Failure::new(Id::MissingPrerequisite, format!("there is no launch script {}", path.display()))
            .hint(Command::outrigger("launch-script"))
    })?;
    let secrets = files::read(&secrets_file::path_beside(&path))?
        .filter(|bytes| secrets_file::is_ours(&String::from_utf8_lossy(bytes), &run.names.deployment));
    Ok((text(script), secrets.map(text)))
}

/// Whether the user named the place of the script.
fn keeps_script(run: &Run) -> bool {
    run.settings.script.as_ref().is_some_and(|script| script.source != Source::Default)
}

/// Removes the script and its secrets from this disk.
fn remove(run: &Run) -> Result<&'static str> {
    let path = run.script_path();
    let secrets = files::remove(&secrets_file::path_beside(&path))?;
    let script = files::remove(&path)?;
    Ok(if script || secrets { "; its files are removed from this disk" } else { "" })
}

#[cfg(test)]
#[path = "run_script_tests.rs"]
mod tests;
