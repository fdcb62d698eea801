//! `teardown`: the list of steps, backwards.

use std::rc::Rc;

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::files;
use crate::base::message;
use crate::cluster::remains;
use crate::commands::session::{Needs, Outside};
use crate::commands::wizard;
use crate::commands::{Ended, adopt_objects, write_lines};
use crate::deployment::object::{Kind as ObjectKind, Object};
use crate::deployment::plan::{Act, Decision, Line};
use crate::deployment::record::Record;
use crate::engine::{self, Planned};
use crate::settings::RunOptions;
use crate::steps::context::Context;

/// Where the deployment's objects are: a command that goes on has to repeat it.
const PLACES: &[&str] = &["namespace", "runnerNamespace", "useNamespaces"];

/// The step that takes the namespaces away, last of all.
const NAMESPACES: &str = "create-namespaces";

/// `teardown`: the list backwards.
pub async fn teardown(outside: &mut Outside<'_>) -> Result<Ended> {
    let options = outside.options.clone();
    if !outside.ui.interactive() && !options.yes && !options.dry_run {
        return Err(Failure::new(Id::MissingInput, "teardown needs consent, and nobody is here to ask")
            .hint("add --yes; to see what it would remove: outrigger teardown --dry-run"));
    }
    let (settings, record) = outside.settings().await?;
    if options.cluster_gone && record.is_none() {
        return Err(Failure::new(
            Id::UnusableKubeconfig,
            format!("there is no record of {} on this machine", settings.deployment.value),
        )
        .hint("outrigger list names the deployments that are known here"));
    }
    let mut selection = engine::select(&options.only, &options.skip, options.from.as_deref())?;
    let whole = options.only.is_empty() && options.skip.is_empty() && options.from.is_none();
    let needs = Needs { writes: !options.dry_run, no_cluster: options.cluster_gone, ..Needs::default() };
    let session = outside.open(needs, (settings, record)).await?;
    let cx = &session.cx;
    engine::check_gitlab(cx)?;
    // Cluster, GitLab and disk are independent: one that is not there does not keep the others.
    let out_of_reach = if options.cluster_gone {
        None
    } else {
        match engine::check_cluster(cx).await {
            Ok(()) => None,
            Err(failure) if failure.kind == Kind::Deadline => {
                Some(failure.hint("if that cluster no longer exists: outrigger teardown --cluster-gone"))
            }
            Err(failure) => return Err(failure),
        }
    };
    cx.certain()?;
    if options.cluster_gone || out_of_reach.is_some() {
        selection.retain(|step| !step.undo_needs_cluster());
    }
    let planned = engine::plan_undo(cx, &selection).await;
    let reached = !needs.no_cluster && out_of_reach.is_none();
    // What earlier settings left behind goes, too.
    let mut stale =
        if whole && reached { engine::moved(cx, !options.keep_namespaces).await? } else { Vec::new() };
    if options.keep_namespaces {
        stale.retain(
            |line| !matches!(&line.act, Act::Delete(reference, _) if reference.kind == ObjectKind::Namespace),
        );
    }
    let refusals = engine::refusals(&planned);
    let changes = engine::changes(&planned) + stale.len();
    outside.ui.event(&Event::Note { text: format!("This removes {}:", cx.names.deployment) });
    outside.ui.event(&super::setup::with_stale(&planned, &stale, true));
    // What is merely not given here is asked for before anything is taken away.
    if refusals.iter().any(|failure| failure.kind == Kind::Usage) {
        return Ok(Ended::failed(refusals, false));
    }
    if options.dry_run {
        if let Some(failure) = out_of_reach {
            return Err(failure);
        }
        let pending = options.exit_code && changes > 0;
        return Ok(Ended { pending, ..Ended::well(false, "Nothing was changed.") });
    }
    if changes == 0 && !options.cluster_gone {
        let failures: Vec<Failure> = refusals.into_iter().chain(out_of_reach).collect();
        if !failures.is_empty() {
            return Ok(Ended::failed(failures, false));
        }
        if is_all(&options) {
            // Every remembered object was planned; the record goes only if none of them is there.
            let left = if reached { remains::left(cx).await? } else { Vec::new() };
            if !left.is_empty() {
                return Ok(Ended::failed(left, false));
            }
            forget(cx);
        }
        return Ok(Ended::well(false, format!("Nothing of {} is there.", cx.names.deployment)));
    }
    check_receipt(outside)?;
    confirm(outside, &cx.names.deployment)?;
    let before = cx.mutations();
    if reached {
        // A teardown that stops half-way must know what is ours when it goes on.
        adopt_objects(cx).await?;
        cx.save().map_err(|failure| failure.with_kind(Kind::Refused))?;
    }
    let settled = match engine::settle(cx, &planned).await {
        Ok(()) if reached => crate::cluster::job_pods::settle(cx, to_look_into_jobs(cx, &planned)).await,
        Ok(()) => Ok(None),
        Err(failure) => Err(failure),
    };
    match settled {
        Ok(None) => {}
        Ok(Some(text)) => outside.ui.event(&Event::Note { text }),
        Err(failure) => {
            let released = crate::cluster::temporary_binding::release_held(cx).await;
            let failures = released.err().into_iter().chain([failure]).collect();
            return Ok(Ended::failed(failures, cx.mutations() > before));
        }
    }

    let mut failures = undo(outside, cx, &planned, &stale).await?;
    if reached {
        match remains::settle(cx).await {
            Ok(late) => failures.extend(late),
            Err(failure) if failures.is_empty() => failures.push(failure),
            Err(_) => {}
        }
    }
    let changed = cx.mutations() > before || changes > 0;
    failures.extend(refusals);
    failures.extend(out_of_reach);
    if failures.is_empty() && reached && is_all(&options) {
        failures.extend(remains::left(cx).await?);
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
    // A right that could not be given back outweighs the rest.
    if let Err(failure) = crate::cluster::temporary_binding::release_held(cx).await {
        failures.retain(|other| other.id != failure.id);
        failures.insert(0, failure);
    }
    let lines = planned.iter().flat_map(|one| &one.lines).chain(&stale);
    let mut text = receipt_lines(cx, lines, &failures).await;
    if options.cluster_gone {
        let record = cx.record.borrow();
        text.push(format!("  the cluster {} is gone; not read back:", record.cluster.context));
        text.extend(record.objects.iter().map(|owned| format!("  {} ({})", owned.object, owned.uid)));
    }
    if failures.is_empty() && is_all(&options) {
        forget(cx);
    } else {
        remember_what_is_left(cx)?;
    }
    receipt(outside, &text)?;
    if failures.is_empty() {
        return Ok(Ended::well(changed, last_line(cx, whole)));
    }
    // What generators keep there goes only with a consent that was read.
    let start = if failures.iter().any(|failure| failure.id == Id::GeneratedObjects) {
        "outrigger teardown --accept generated"
    } else {
        "outrigger teardown"
    };
    let again = format!("  {}", cx.settings.same_deployment(start, PLACES));
    let failures = failures
        .into_iter()
        .map(|failure| {
            let failure = if failure.kind == Kind::Unclassified || failure.kind == Kind::Refused {
                failure.with_kind(Kind::Partial)
            } else {
                failure
            };
            if failure.id == Id::TemporaryBindingLeft {
                return failure;
            }
            // What finishes it is the last line, whatever had to be said before.
            if failure.hints.is_empty() { failure } else { failure.hint("then finish with") }
                .hint(again.clone())
        })
        .collect();
    Ok(Ended::failed(failures, changed))
}

/// Takes everything away, the namespaces last. Where generators alone keep one there, whoever sits at a
/// terminal is asked whether it goes with what they keep.
async fn undo(
    outside: &mut Outside<'_>,
    cx: &Context,
    planned: &[Planned],
    stale: &[Line],
) -> Result<Vec<Failure>> {
    let (last, first): (Vec<&Planned>, Vec<&Planned>) =
        planned.iter().partition(|one| one.step.name() == NAMESPACES);
    let mut failures = engine::undo(cx, &first).await;
    let mut kept = engine::undo(cx, &last).await;
    kept.extend(engine::prune(cx, stale).await.err());
    let generated = std::mem::take(&mut *cx.facts.generated.borrow_mut());
    if !generated.is_empty() && outside.ui.interactive() && !outside.options.yes {
        let ui = Rc::clone(&outside.ui);
        let ask = &mut *outside.ask;
        if ui.pause(|| wizard::confirm_generated(ask, &generated))? {
            cx.facts.accept_generated.set(true);
            let again: Vec<_> = last.iter().map(|one| one.step).collect();
            let again = engine::plan_undo(cx, &again).await;
            kept = engine::undo(cx, &again.iter().collect::<Vec<_>>()).await;
            kept.extend(engine::prune(cx, &engine::moved(cx, true).await?).await.err());
        }
    }
    failures.extend(kept);
    Ok(failures)
}

/// Whether this teardown is meant to leave nothing: then nothing needs to be remembered either.
fn is_all(options: &RunOptions) -> bool {
    options.only.is_empty() && options.skip.is_empty() && options.from.is_none() && !options.keep_namespaces
}

/// What still exists stays known by its uid, so that the next setup or teardown finds it ours.
fn remember_what_is_left(cx: &Context) -> Result<()> {
    {
        let mut record = cx.record.borrow_mut();
        if record.uid_of(&cx.names.token_secret()).is_none() {
            record.token_expires.clear();
        }
        if record.script_path.as_ref().is_some_and(|path| !path.exists()) {
            record.script_path = None;
        }
    }
    cx.save()
}

/// The planned binding that lets the operator see what is in the jobs' namespace, if one is needed.
fn to_look_into_jobs<'a>(cx: &Context, planned: &'a [Planned]) -> Option<&'a Object> {
    planned.iter().flat_map(|one| &one.lines).find_map(|line| match &line.act {
        Act::Bind(binding) if binding.reference.namespace.as_ref() == Some(&cx.names.job_namespace) => {
            Some(binding)
        }
        _ => None,
    })
}

/// What is left, and what is not.
fn last_line(cx: &Context, whole: bool) -> String {
    let deployment = &cx.names.deployment;
    if cx.options.cluster_gone {
        return format!("Nothing of {deployment} is left here; the cluster was not asked.");
    }
    let commit = cx
        .record
        .borrow()
        .gitlab
        .commit
        .as_ref()
        .map(|commit| format!("{} on {}", commit.path, commit.branch));
    match commit {
        _ if !whole || cx.options.keep_namespaces => format!("Nothing else of {deployment} is left."),
        Some(file) => {
            format!("Nothing of {deployment} is left, but for {file} (--revert-pipeline takes it back).")
        }
        None => format!("Nothing of {deployment} is left."),
    }
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
    Err(Failure::new(Id::NotConfirmed, "not confirmed"))
}

/// Removes what is known on this machine, lock last.
fn forget(cx: &Context) {
    let dir = &cx.settings.state_dir;
    let deployment = &cx.names.deployment;
    let _ = files::remove(&Record::path(dir, deployment));
    let _ = files::remove(&dir.join(format!("{deployment}.lock")));
    files::remove_empty_dir(&dir.join(deployment));
    files::remove_empty_dir(dir);
}

/// What became of each line, as it is now and not as it was planned.
async fn receipt_lines<'a>(
    cx: &Context,
    lines: impl Iterator<Item = &'a Line>,
    failures: &[Failure],
) -> Vec<String> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let mut text = vec![format!("{}: teardown at {now}", cx.names.deployment)];
    for line in lines {
        let mut leaving = false;
        let gone = match &line.act {
            Act::Delete(reference, _) | Act::Release(reference, _) => {
                let live = cx.read(reference).await;
                leaving = matches!(&live, Ok(Some(live)) if live.is_terminating());
                live.is_ok_and(|live| live.is_none())
            }
            Act::RemoveFile(path) => !path.exists(),
            Act::DeleteRunner(_) => cx.record.borrow().gitlab.runner.is_none(),
            Act::Commit(_) => cx.record.borrow().gitlab.commit.is_none(),
            Act::Bind(_) => continue,
            _ => false,
        };
        let state = match line.decision {
            Decision::Refuse => "left, not ours",
            _ if gone => "removed",
            _ if leaving => "being deleted",
            decision if decision.is_change() => "left",
            _ => "kept",
        };
        text.push(format!("  {state:<15}{}", line.text));
    }
    for failure in failures {
        text.push(format!("  {:<15}{failure}", "failed"));
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
fn receipt(outside: &Outside<'_>, lines: &[String]) -> Result<()> {
    let Some(path) = receipt_path(outside) else { return write_lines(outside, lines) };
    let written = files::write_shown(path, message::report(lines).as_bytes());
    if written.is_err() {
        write_lines(outside, lines)?;
    }
    written
}
