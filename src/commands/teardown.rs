//! `teardown`: the list of steps, backwards.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::commands::{Ended, adopt_objects, write_data};
use crate::engine::{self, Planned};
use crate::error::{Failure, Kind, Result};
use crate::files;
use crate::plan::{Act, Decision};
use crate::record::Record;
use crate::report::{Event, Reporter as _};
use crate::session::{Needs, Outside};
use crate::settings::shell_word;
use crate::wizard;

/// `teardown`: the list backwards.
pub async fn teardown(outside: &mut Outside<'_>) -> Result<Ended> {
    let options = outside.options.clone();
    if !outside.ui.interactive() && !options.yes && !options.dry_run {
        return Err(Failure::new("OR0201", Kind::Usage, "teardown needs consent, and nobody is here to ask")
            .hint("add --yes; to see what it would remove: outrigger teardown --dry-run"));
    }
    if options.cluster_gone {
        return cluster_gone(outside);
    }
    let selection = engine::select(&options.only, &options.skip, options.from.as_deref())?;
    let session = outside.open(Needs { writes: !options.dry_run, gitlab: false }).await?;
    let cx = &session.cx;
    engine::check_cluster(cx).await?;
    let planned = engine::plan_undo(cx, &selection).await;
    let refusals = engine::refusals(&planned);
    let changes = engine::changes(&planned);
    outside.ui.event(&Event::Note { text: format!("This removes {}:", cx.names.deployment) });
    outside.ui.event(&engine::shown(&planned));
    if options.dry_run {
        let pending = options.exit_code && changes > 0;
        return Ok(Ended { pending, ..Ended::well(false, "Nothing was changed.") });
    }
    if changes == 0 {
        if !refusals.is_empty() {
            return Ok(Ended::failed(refusals, false));
        }
        forget(cx);
        return Ok(Ended::well(false, format!("Nothing of {} is there.", cx.names.deployment)));
    }
    check_receipt(outside)?;
    confirm(outside, &cx.names.deployment)?;
    match crate::jobs::settle(cx).await {
        Ok(None) => {}
        Ok(Some(text)) => outside.ui.event(&Event::Note { text }),
        Err(failure) => return Ok(Ended::failed(vec![failure], cx.cluster.mutations() > 0)),
    }
    // A teardown that stops half-way must know what is ours when it goes on.
    adopt_objects(cx).await?;
    cx.save().map_err(|failure| failure.with_kind(Kind::Refused))?;

    let mut failures = engine::undo(cx, &planned).await;
    let changed = cx.cluster.mutations() > 0 || changes > 0;
    failures.extend(refusals);
    if let Err(failure) = crate::borrowed::release_held(cx).await {
        failures.push(failure);
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
    if failures.is_empty() {
        forget(cx);
    }
    receipt(outside, &receipt_text(cx, &planned, &failures).await)?;
    if failures.is_empty() {
        let text = if options.keep_namespaces { "Nothing else" } else { "Nothing" };
        return Ok(Ended::well(changed, format!("{text} of {} is left.", cx.names.deployment)));
    }
    let again = format!("outrigger teardown --deployment {}", shell_word(&cx.names.deployment));
    let failures = failures
        .into_iter()
        .map(|failure| {
            let failure = if failure.kind == Kind::Unclassified || failure.kind == Kind::Refused {
                failure.with_kind(Kind::Partial)
            } else {
                failure
            };
            if failure.hints.is_empty() { failure.hint(again.clone()) } else { failure }
        })
        .collect();
    Ok(Ended::failed(failures, changed))
}

fn confirm(outside: &mut Outside<'_>, deployment: &str) -> Result<()> {
    if outside.options.yes {
        return Ok(());
    }
    let ui = Rc::clone(&outside.ui);
    let ask = &mut *outside.ask;
    if ui.pause(|| wizard::confirm_name(ask, deployment))? {
        return Ok(());
    }
    Err(Failure::new("OR0309", Kind::Refused, "not confirmed"))
}

/// The cluster no longer exists: what is here goes, and the receipt says that nothing was read back.
fn cluster_gone(outside: &mut Outside<'_>) -> Result<Ended> {
    let (settings, record) = outside.settings()?;
    let deployment = settings.deployment.value.clone();
    let Some(record) = record else {
        return Err(Failure::new(
            "OR0301",
            Kind::Refused,
            format!("there is no record of {deployment} on this machine"),
        )
        .hint("outrigger list names the deployments that are known here"));
    };
    let _lock = files::lock(&settings.state_dir.join(format!("{deployment}.lock")))?;
    check_receipt(outside)?;
    confirm(outside, &deployment)?;
    let mut text = format!("{deployment}: the cluster {} is gone; not read back:\n", record.cluster.context);
    for owned in &record.objects {
        let _ = writeln!(text, "  {} ({})", owned.object, owned.uid);
    }
    if let Some(path) = &record.script_path
        && files::check_target(path).is_ok()
        && let Some(bytes) = files::read(path)?
        && crate::template::is_ours(&String::from_utf8_lossy(&bytes), &deployment)
    {
        files::remove(path)?;
        let _ = writeln!(text, "  {} removed", path.display());
    }
    files::remove(&Record::path(&settings.state_dir, &deployment))?;
    receipt(outside, &text)?;
    Ok(Ended::well(true, format!("Nothing of {deployment} is left here; the cluster was not asked.")))
}

/// Removes what is known on this machine, lock last.
fn forget(cx: &crate::context::Context) {
    let dir = &cx.settings.state_dir;
    let deployment = &cx.names.deployment;
    let _ = files::remove(&Record::path(dir, deployment));
    let _ = files::remove(&dir.join(format!("{deployment}.lock")));
    files::remove_empty_dir(&dir.join(deployment));
    files::remove_empty_dir(dir);
}

/// What became of each line, as it is now and not as it was planned.
async fn receipt_text(cx: &crate::context::Context, planned: &[Planned], failures: &[Failure]) -> String {
    let mut text = format!("{}: teardown at {}\n", cx.names.deployment, jiff::Timestamp::now());
    for line in planned.iter().flat_map(|one| &one.lines) {
        let gone = match &line.act {
            Act::Delete(reference, _) | Act::Release(reference, _) => {
                cx.read(reference).await.is_ok_and(|live| live.is_none())
            }
            Act::RemoveFile(path) => !path.exists(),
            Act::Bind(_) => continue,
            _ => false,
        };
        let state = match line.decision {
            Decision::Refuse => "left, not ours",
            _ if gone => "removed",
            decision if decision.is_change() => "left",
            _ => "kept",
        };
        let _ = writeln!(text, "  {state:<15}{}", line.text);
    }
    for failure in failures {
        let _ = writeln!(text, "  {:<15}{failure}", "failed");
    }
    text
}

fn receipt_path<'a>(outside: &'a Outside<'_>) -> Option<&'a std::path::Path> {
    outside.options.receipt.as_deref().filter(|path| path.as_os_str() != "-")
}

/// A receipt that cannot be written is found out before there is something to say in it.
fn check_receipt(outside: &Outside<'_>) -> Result<()> {
    receipt_path(outside).map_or(Ok(()), files::check_writable)
}

/// Writes the receipt; where the file does not take it after all, it goes to stdout, not into nothing.
fn receipt(outside: &Outside<'_>, text: &str) -> Result<()> {
    let Some(path) = receipt_path(outside) else { return write_data(outside, text.as_bytes()) };
    let written = files::write_private(path, text.as_bytes());
    if written.is_err() {
        write_data(outside, text.as_bytes())?;
    }
    written
}
