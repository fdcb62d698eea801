//! `launch-script --print-commands`: the commands that deliver the script to its target, from local data.

use std::path::PathBuf;

use crate::base::error::{Command, Failure, Hint, Id, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::files;
use crate::commands::session::Outside;
use crate::commands::{Ended, write_product};
use crate::deployment::record::Record;
use crate::machine::placement::placement;
use crate::machine::script_files::absolute;
use crate::machine::{self, commands, secrets_file};
use crate::settings::{Settings, Source, shell_word};

/// Prints the commands to stdout, without prompts, changes or connections.
pub(super) async fn print_commands(outside: &Outside<'_>) -> Result<Ended> {
    let (settings, record) = outside.settings().await?;
    let path = path(&settings, record.as_ref());
    if path.as_os_str() == "-" {
        return Err(Failure::new(
            Id::InvalidInput,
            "--print-commands requires a script file, but --script is -",
        )
        .hint("give the file of the script: --script FILE"));
    }
    let path = absolute(&path);
    let placement = placement(&settings)?;
    let Some(text) = commands::commands(&placement, &settings.deployment.value, &path) else {
        let target = placement.target;
        return Err(Failure::new(
            Id::InvalidInput,
            format!("--print-commands has no commands for --target {}", target.name),
        )
        .detail("has", commands::TARGETS.join(", "))
        .hint(("write the script for it", Command::outrigger(format!("launch-script --target {}", target.name))))
        .hint(format!(
            "then pass that file as the VM's {} when you create it (docs/targets.md lists each cloud's option)",
            target.field
        )));
    };
    let warn = |text: String| outside.ui.event(&Event::Warning { text });
    let advise = |text: String, words: String| {
        outside.ui.event(&Event::Advice(Hint::new(text, Command::outrigger(words))));
    };
    let ours = |text: &str| machine::is_ours(text, &settings.deployment.value);
    match files::read(&path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
        None => advise(
            format!("{} does not exist (deleted after use?); to write it", path.display()),
            format!("launch-script --script {}", shell_word(&path.display().to_string())),
        ),
        Some(text) if !ours(&text) => warn(format!("{} is not this deployment's script", path.display())),
        Some(_) => {}
    }
    if placement.separate && files::read(&secrets_file::path_beside(&path))?.is_none() {
        warn(format!("{} does not exist", secrets_file::path_beside(&path).display()));
    }
    let before = record.map(|record| record.script_target).unwrap_or_default();
    let (before, now) = (before.split(',').next().unwrap_or_default(), placement.target.name);
    if !before.is_empty() && before != now {
        let text = format!("the script was written for {before}; to write it for {now}");
        advise(text, format!("launch-script --target {now}"));
    }
    write_product(outside, text.as_bytes())?;
    Ok(Ended::well(false, ""))
}

/// The script's path: from the flag, else from the record, else the default.
fn path(settings: &Settings, record: Option<&Record>) -> PathBuf {
    let said = settings.script.as_ref().filter(|path| path.source != Source::Record);
    let written = || record.and_then(|record| record.script_path.clone());
    said.map(|path| path.value.clone()).or_else(written).unwrap_or_else(|| settings.default_script())
}
