//! The files of the launch script: checks, writing, instructions and removal.

use std::path::{Path, PathBuf};

use crate::base::error::{Aim, Command, Failure, Hint, Id, Result};
use crate::base::files;
use crate::deployment::notes::Notes;
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::Run;
use crate::machine::placement::{Placement, placement};
use crate::machine::secrets_file::{self, Tokens};
use crate::machine::target;
use crate::machine::{self, commands};
use crate::settings::shell_word;

/// The target and the path of this run's script.
#[derive(Clone)]
pub struct Delivery {
    pub placement: Placement,
    /// `-` is stdout.
    pub script: PathBuf,
}

/// The tokens that come with a script. The others stay as they are on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    Nothing,
    Cluster,
    Runner,
    Both,
}

impl Brings {
    pub fn of(cluster: bool, runner: bool) -> Self {
        match (cluster, runner) {
            (true, true) => Self::Both,
            (true, false) => Self::Cluster,
            (false, true) => Self::Runner,
            (false, false) => Self::Nothing,
        }
    }

    pub fn cluster(self) -> bool {
        matches!(self, Self::Cluster | Self::Both)
    }

    pub fn runner(self) -> bool {
        matches!(self, Self::Runner | Self::Both)
    }

    /// One token comes in a file beside the script, which is otherwise an update script.
    pub fn is_one(self) -> bool {
        matches!(self, Self::Cluster | Self::Runner)
    }
}

impl Delivery {
    /// Fails as [`placement`].
    pub fn of(run: &Run) -> Result<Self> {
        Ok(Self { placement: placement(&run.settings)?, script: run.script_path() })
    }

    /// The path of the secrets file; `None` if the secrets are in the script.
    pub fn secrets(&self) -> Option<PathBuf> {
        self.placement.separate.then(|| secrets_file::path_beside(&self.script))
    }

    fn to_stdout(&self) -> bool {
        self.script.as_os_str() == "-"
    }

    /// Whether the last script was for another target or had its secrets elsewhere: the script then has to be
    /// written again, although its effect on the machine is the same.
    pub fn is_another(&self, notes: &Notes) -> bool {
        notes.script_target().is_some_and(|noted| noted != self.noted())
    }

    /// The text in the notes for [`Self::is_another`].
    pub fn noted(&self) -> String {
        let beside = if self.placement.separate { ", separate" } else { "" };
        format!("{}{beside}", self.placement.target.name)
    }

    /// Checks that the files can be written. Fails with OR0702 (exit 7) if they exist and are not this
    /// deployment's, and with OR0707 (exit 3) in a git work tree.
    pub fn check(&self, run: &Run) -> Result<()> {
        if self.to_stdout() {
            return Ok(());
        }
        if run.settings.script.is_none() && files::in_git_work_tree(&self.script) {
            return Err(Failure::new(
                Id::SecretsInWorkTree,
                format!("{} is in a git work tree, and the script contains secrets", self.script.display()),
            )
            .hint(
                "choose another path with --script FILE, or another state directory with --state-dir DIR",
            ));
        }
        let deployment = run.names.deployment.as_str();
        check_ours(&self.script, "script", |text| machine::is_ours(text, deployment))?;
        if let Some(path) = self.secrets() {
            check_ours(&path, "secrets file", |text| secrets_file::is_ours(text, deployment))?;
        }
        Ok(())
    }

    /// Creates the directory and writes the files, the secrets for a file of their own first, because the script needs
    /// them. A token that is not among them stays in that file: a script that has not run yet may need it. Fails as
    /// [`files::write_private`].
    pub fn write(&self, deployment: &str, document: &str, secrets: Option<Tokens<'_>>) -> Result<()> {
        if let Some(dir) = self.script.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            files::make_dir(dir)?;
        }
        if let Some(tokens) = secrets {
            let beside = secrets_file::path_beside(&self.script);
            let earlier = files::read(&beside)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let kept = earlier.map(|text| secrets_file::lasting(&text, deployment)).unwrap_or_default();
            let text = secrets_file::text(deployment, tokens.or(&kept));
            files::write_private(&beside, text.expose().as_bytes())?;
        }
        files::write_private(&self.script, document.as_bytes())
    }

    /// Adds details to a plan line: the target, when it runs the script, and the users that can read it.
    pub fn about<A>(&self, line: Line<A>, with_secrets: bool) -> Line<A> {
        let target = self.placement.target;
        let its_secrets = if with_secrets && !self.placement.separate { "its secrets " } else { "" };
        let line = line
            .detail(format!("for {} (--target {}): runs {}", target.title, target.name, target.runs()))
            .detail(format!("{its_secrets}can be read by {}", target.readers));
        if self.placement.lock_metadata {
            line.detail("blocks the VM's access to its metadata service")
        } else {
            line
        }
    }

    /// Instructions for the written files.
    pub fn next(&self, run: &Run, brings: Brings) -> Vec<Hint> {
        let is_up = run.is_for_running_machine();
        let with_secrets = brings == Brings::Both && !is_up;
        let target = self.placement.target;
        let vm = "the VM (Ubuntu 24.04 or Debian 12)";
        let host = if with_secrets { vm } else { "the runner's host" };
        let mut lines = match (with_secrets && !target.is_host(), self.to_stdout()) {
            (true, to_stdout) => {
                let what = if to_stdout { "the script on stdout" } else { "this" };
                let text = format!(
                    "Create a VM ({}; Ubuntu 24.04 or Debian 12) with {what} as its {}",
                    target.title, target.field
                );
                let path = || Command::Whole(absolute(&self.script).display().to_string());
                vec![if to_stdout { text.into() } else { Hint::new(text, path()) }]
            }
            (false, true) => vec![format!("Run the script on stdout as root on {host}").into()],
            (false, false) => {
                let separate = brings.is_one()
                    || (is_up && brings == Brings::Both)
                    || (self.placement.separate && with_secrets);
                let [copy, run] = commands::over_ssh(&absolute(&self.script), separate, "USER@HOST");
                vec![
                    Hint::new(format!("Copy it to {host} and run it there"), Command::Whole(copy)),
                    Command::Whole(run).into(),
                ]
            }
        };
        if with_secrets && !self.to_stdout() && commands::TARGETS.contains(&target.name) {
            lines.push(Hint::new(
                "Print the commands for this, and to remove the script afterwards",
                Command::outrigger("launch-script --print-commands"),
            ));
        }
        lines
    }
}

pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Refuses an existing file without this deployment's header.
fn check_ours(path: &Path, what: &str, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    files::check_target(path)?;
    files::check_place(path)?;
    match files::read(path)? {
        Some(bytes) if !is_ours(&String::from_utf8_lossy(&bytes)) => Err(Failure::new(
            Id::ForeignFile,
            format!("{} exists and is not this deployment's {what}", path.display()),
        )
        .hint("choose another path with --script FILE, or move that file away")),
        _ => Ok(()),
    }
}

/// Teardown's plan for the files. The path in the record may be outdated: only files with this deployment's header
/// are removed. The secrets file is removed even if the settings no longer use one. Fails if a file cannot be read.
pub fn undo_lines(run: &Run, notes: &Notes) -> Result<Vec<Line<PathBuf>>> {
    let path = notes.record().script_path.clone().unwrap_or_else(|| run.script_path());
    let deployment = run.names.deployment.as_str();
    let mut lines = vec![
        undo_line(&path, "script", |text| machine::is_ours(text, deployment))?
            .unwrap_or_else(|| Line::keep(format!("{} (already gone)", path.display()))),
    ];
    lines.extend(undo_line(&secrets_file::path_beside(&path), "secrets file", |text| {
        secrets_file::is_ours(text, deployment)
    })?);
    // With a host, run-script undoes the changes there.
    if notes.script_digest().is_some() && run.settings.host.is_none() && notes.record().vm.is_none() {
        lines.push(machine_line(run, notes));
    }
    Ok(lines)
}

/// The instruction to undo the script's changes on the machine, which outrigger cannot reach. Its command also works
/// after the record is removed, which knows the addresses in the entry.
fn machine_line(run: &Run, notes: &Notes) -> Line<PathBuf> {
    let mut words = vec!["launch-script --uninstall".to_owned()];
    let url = run.settings.gitlab_url.as_ref().map(|url| url.value.clone());
    let host = run.settings.kubernetes_host.as_ref().map(|host| host.value.clone());
    let host = host.unwrap_or_else(|| notes.record().cluster.server.trim_end_matches('/').to_owned());
    for (flag, value) in [("--gitlab-url", url.unwrap_or_default()), ("--kubernetes-host", host)] {
        if !value.is_empty() {
            words.push(format!("{flag} {}", shell_word(&value)));
        }
    }
    let (text, way) = match target::of(*run.settings.target) {
        target if target.is_host() => (
            "the launch script's changes on the host stay".to_owned(),
            "to undo them, first run on the host the script printed by",
        ),
        target => (
            format!("the VM stays, because outrigger did not create it: delete it ({})", target.title),
            "or, to keep the VM, first run on it the script printed by",
        ),
    };
    Line::keep(text).detail((way, Command::Outrigger(words.join(" "), Aim::Elsewhere)))
}

/// `None` for a missing file.
fn undo_line(path: &Path, what: &str, is_ours: impl Fn(&str) -> bool) -> Result<Option<Line<PathBuf>>> {
    let stays = || Line::keep(format!("kept {}: it is not this deployment's {what}", path.display()));
    if files::check_target(path).is_err() {
        return Ok(Some(stays()));
    }
    // If other users can write to the directory, the file may be theirs.
    let bytes = match files::read(path) {
        Err(failure) if failure.id == Id::WritableByOthers => return Ok(Some(stays())),
        read => read?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    if !is_ours(&String::from_utf8_lossy(&bytes)) {
        return Ok(Some(stays()));
    }
    let line = Line::new(Decision::Remove, path.display().to_string(), path.to_owned());
    Ok(Some(line.about(Target::File(path.to_owned()))))
}
