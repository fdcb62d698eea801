//! `teardown`: the list of steps, backwards.

use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::{files, message};
use crate::cluster::{identity, job_pods, remains, temporary_binding};
use crate::commands::session::{Known, Needs, Outside, Session};
use crate::commands::setup::with_stale;
use crate::commands::{Ended, no_such_deployment, unconfirmed, wizard, write_lines};
use crate::deployment::object::{Kind as ObjectKind, Object};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::Record;
use crate::deployment::run::Run;
use crate::engine::{self, Plan, Watch};
use crate::settings::RunOptions;
use crate::steps::prune;

/// What a teardown takes away.
struct Removal {
    plan: Plan,
    /// What earlier settings left behind.
    stale: Vec<Line<prune::Act>>,
    /// Whether the cluster was reached.
    reached: bool,
    /// Why it was not, where it was asked.
    out_of_reach: Option<Failure>,
}

impl Removal {
    fn changes(&self) -> usize {
        self.plan.changes() + self.stale.len()
    }
}

/// `teardown`.
///
/// # Errors
/// What keeps it from beginning; what it met later is in [`Ended`].
pub async fn teardown(outside: &mut Outside<'_>) -> Result<Ended> {
    let options = outside.options.clone();
    let known = outside.settings().await?;
    if !outside.ui.interactive() && !options.yes && !options.dry_run {
        return Err(unconfirmed("teardown")
            .hint(("to see what teardown would remove", Command::teardown("--dry-run"))));
    }
    check_record(&options, &known)?;
    let needs = Needs { writes: !options.dry_run, no_cluster: options.cluster_gone, ..Needs::default() };
    let session = outside.open(needs, known).await?;
    let removal = plan(&session, &options).await?;
    let refusals = removal.plan.refusals();
    let changes = removal.changes();
    if changes == 0 && refusals.is_empty() {
        check_exists(&session, &options, &removal).await?;
    }
    outside.ui.event(&Event::Note { text: format!("This removes {}:", session.run().names.deployment) });
    outside.ui.event(&with_stale(&removal.plan, &removal.stale, true));
    // What is merely not given here is asked for before anything is taken away.
    if refusals.iter().any(|failure| failure.kind == Kind::Usage) {
        return Ok(Ended::failed(refusals, false));
    }
    if options.dry_run {
        if let Some(failure) = removal.out_of_reach {
            return Err(failure);
        }
        if !refusals.is_empty() {
            return Ok(Ended::failed(refusals, false));
        }
        let pending = options.exit_code && changes > 0;
        return Ok(Ended { pending, ..Ended::well(false, "Nothing was changed.") });
    }
    if changes == 0 && !options.cluster_gone {
        return nothing_left(&session, &options, removal, refusals).await;
    }
    check_receipt(outside)?;
    confirm(outside, &session.run().names.deployment).await?;
    let before = session.mutations();
    if removal.reached {
        // A teardown that stops half-way must know what is ours when it goes on.
        session.adopt().await?;
    }
    if let Err(failures) = settle(&session, &removal).await {
        return Ok(Ended::failed(failures, session.mutations() > before));
    }
    let failures = remove(outside, &session, &removal, refusals).await?;
    let changed = session.mutations() > before || changes > 0;
    let text = receipt_lines(&session, &removal, &failures).await;
    if failures.is_empty() && is_all(&options) {
        forget(&session);
    } else {
        remember_what_is_left(&session)?;
    }
    receipt(outside, &text)?;
    if failures.is_empty() {
        return Ok(Ended::well(changed, last_line(&session, is_whole(&options))));
    }
    Ok(Ended::failed(go_on(failures), changed))
}

/// A cluster that is gone takes a record that tells what was there.
fn check_record(options: &RunOptions, (settings, record): &Known) -> Result<()> {
    if !options.cluster_gone || record.is_some() {
        return Ok(());
    }
    let message = format!("this machine has no record of deployment {}", settings.deployment.value);
    Err(Failure::new(Id::NoRecord, message).hint(("to list the recorded deployments", Command::list())))
}

/// Lets the selected steps decide what goes. Cluster, GitLab and disk are independent: one that is not there does
/// not keep the others.
async fn plan(session: &Session, options: &RunOptions) -> Result<Removal> {
    let mut selection = engine::select(&options.only, &options.skip, options.from.as_deref())?;
    crate::gitlab::facts::check_recorded(&session.gitlab)?;
    let out_of_reach = if options.cluster_gone {
        None
    } else {
        match identity::check(&session.cluster).await {
            Ok(()) => None,
            Err(failure) if failure.kind == Kind::Deadline => {
                Some(failure.hint(("if that cluster no longer exists", Command::teardown_without_cluster())))
            }
            Err(failure) => return Err(failure),
        }
    };
    session.certain()?;
    let reached = !options.cluster_gone && out_of_reach.is_none();
    if !reached {
        selection.retain(|step| !step.info().undo_needs_cluster);
    }
    let plan = engine::plan_undo(session.reads(), &selection).await;
    let mut stale = Vec::new();
    if is_whole(options) && reached {
        stale = prune::plan(session.reads(), !options.keep_namespaces).await?;
        let is_namespace = |line: &Line<prune::Act>| matches!(&line.target, Some(Target::Object(object)) if object.kind == ObjectKind::Namespace);
        stale.retain(|line| !options.keep_namespaces || !is_namespace(line));
    }
    Ok(Removal { plan, stale, reached, out_of_reach })
}

/// Where there is nothing to take away: the record goes, if none of what it remembers is there.
async fn nothing_left(
    session: &Session,
    options: &RunOptions,
    removal: Removal,
    refusals: Vec<Failure>,
) -> Result<Ended> {
    let failures: Vec<Failure> = refusals.into_iter().chain(removal.out_of_reach).collect();
    if !failures.is_empty() {
        return Ok(Ended::failed(failures, false));
    }
    if is_all(options) {
        let left = if removal.reached { remains::left(&session.cluster).await? } else { Vec::new() };
        if !left.is_empty() {
            return Ok(Ended::failed(left, false));
        }
        forget(session);
    }
    Ok(Ended::well(false, format!("Nothing to remove for {}.", session.run().names.deployment)))
}

/// Refuses the name of a deployment that is neither recorded nor in the cluster.
async fn check_exists(session: &Session, options: &RunOptions, removal: &Removal) -> Result<()> {
    if options.ignore_not_found || !removal.reached || !is_whole(options) {
        return Ok(());
    }
    match no_such_deployment(session).await? {
        Some(failure) => Err(failure.hint("to accept this, add --ignore-not-found")),
        None => Ok(()),
    }
}

/// Lets no new work begin, and waits for what runs.
async fn settle(session: &Session, removal: &Removal) -> Result<(), Vec<Failure>> {
    let settled = match engine::settle(session.writes(), &removal.plan).await {
        Ok(()) if removal.reached => {
            job_pods::settle(&session.cluster, to_look_into_jobs(session.run(), &removal.plan)).await
        }
        Ok(()) => Ok(None),
        Err(failure) => Err(failure),
    };
    match settled {
        Ok(said) => {
            if let Some(text) = said {
                session.reads().progress.event(&Event::Note { text });
            }
            Ok(())
        }
        Err(failure) => {
            let released = temporary_binding::release_held(&session.cluster).await;
            Err(released.err().into_iter().chain([failure]).collect())
        }
    }
}

/// Takes everything away; all that failed, the most telling first.
async fn remove(
    outside: &mut Outside<'_>,
    session: &Session,
    removal: &Removal,
    refusals: Vec<Failure>,
) -> Result<Vec<Failure>> {
    let mut failures = undo(outside, session, removal).await?;
    if removal.reached {
        match remains::settle(&session.cluster).await {
            Ok(late) => failures.extend(late),
            Err(failure) if failures.is_empty() => failures.push(failure),
            Err(_) => {}
        }
    }
    failures.extend(refusals);
    failures.extend(removal.out_of_reach.clone());
    if failures.is_empty() && removal.reached && is_all(outside.options) {
        failures.extend(remains::left(&session.cluster).await?);
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
    // A right that could not be given back outweighs the rest.
    if let Err(failure) = temporary_binding::release_held(&session.cluster).await {
        failures.retain(|other| other.id != failure.id);
        failures.insert(0, failure);
    }
    Ok(failures)
}

/// Takes everything away, the namespaces last. Where generators alone keep one there, whoever sits at a
/// terminal is asked whether it goes with what they keep.
async fn undo(outside: &mut Outside<'_>, session: &Session, removal: &Removal) -> Result<Vec<Failure>> {
    let (w, watch) =
        (session.writes(), Watch { stop: &|| session.stop(), mutations: &|| session.mutations() });
    let mut failures = engine::undo(w, &removal.plan, false, &watch).await;
    let mut kept = engine::undo(w, &removal.plan, true, &watch).await;
    kept.extend(prune::apply(w, &removal.stale).await.err());
    let generated = std::mem::take(&mut *session.cluster.generated.borrow_mut());
    if !generated.is_empty() && outside.ui.interactive() && !outside.options.yes {
        let yes = outside.asking(|ask| wizard::confirm_generated(ask, &generated)).await;
        // Not answered is no; what was removed stays told.
        failures.extend(yes.as_ref().err().cloned());
        if yes.is_ok_and(|yes| yes) {
            session.cluster.accept_generated.set(true);
            let last: Vec<_> =
                crate::steps::STEPS.iter().copied().filter(|step| step.info().undone_last).collect();
            let again = engine::plan_undo(w.reads, &last).await;
            kept = engine::undo(w, &again, true, &watch).await;
            kept.extend(prune::apply(w, &prune::plan(w.reads, true).await?).await.err());
        }
    }
    failures.extend(kept);
    Ok(failures)
}

/// Whether the whole list was asked for.
fn is_whole(options: &RunOptions) -> bool {
    options.only.is_empty() && options.skip.is_empty() && options.from.is_none()
}

/// Whether this teardown is meant to leave nothing: then nothing needs to be remembered either.
fn is_all(options: &RunOptions) -> bool {
    is_whole(options) && !options.keep_namespaces
}

/// What still exists stays known by its uid, so that the next setup or teardown finds it ours.
fn remember_what_is_left(session: &Session) -> Result<()> {
    let secret = session.run().names.token_secret();
    session.journal.write(|record| {
        if record.uid_of(&secret).is_none() {
            record.token_expires.clear();
        }
        if record.script_path.as_ref().is_some_and(|path| !path.exists()) {
            record.script_path = None;
        }
    })
}

/// The planned binding that lets the operator see what is in the jobs' namespace, if one is needed.
fn to_look_into_jobs<'a>(run: &Run, plan: &'a Plan) -> Option<&'a Object> {
    plan.all().find_map(|line| match &line.target {
        Some(Target::Look(binding))
            if binding.reference.namespace.as_ref() == Some(&run.names.job_namespace) =>
        {
            Some(binding)
        }
        _ => None,
    })
}

/// What failed, with the command that goes on last.
fn go_on(failures: Vec<Failure>) -> Vec<Failure> {
    // What generators keep there goes only with a consent that was read.
    let generated = failures.iter().any(|failure| failure.id == Id::GeneratedObjects);
    let again = Command::teardown(if generated { "--accept generated" } else { "" });
    let one = |failure: Failure| {
        let failure = match failure.kind {
            Kind::Unclassified | Kind::Refused => failure.with_kind(Kind::Partial),
            _ => failure,
        };
        if failure.id == Id::TemporaryBindingLeft {
            return failure;
        }
        // What finishes it is the last line, whatever had to be said before.
        let text = if failure.hints.is_empty() { "" } else { "then finish with" };
        failure.hint((text, again.clone()))
    };
    failures.into_iter().map(one).collect()
}

/// What is left, and what is not.
fn last_line(session: &Session, whole: bool) -> String {
    let run = session.run();
    let deployment = &run.names.deployment;
    if run.options.cluster_gone {
        return format!("Removed {deployment} from this machine; the cluster was not contacted.");
    }
    let commit = session.notes().record().gitlab.commit.clone();
    match commit.map(|commit| format!("{} on {}", commit.path, commit.branch)) {
        _ if !whole || run.options.keep_namespaces => format!("Removed the selected parts of {deployment}."),
        Some(file) => {
            format!("Removed {deployment}. {file} stays; to undo the commit, revert it in GitLab.")
        }
        None => format!("Removed {deployment}."),
    }
}

async fn confirm(outside: &mut Outside<'_>, deployment: &str) -> Result<()> {
    if outside.options.yes {
        return Ok(());
    }
    if outside.asking(|ask| wizard::confirm_name(ask, deployment)).await? {
        return Ok(());
    }
    Err(Failure::new(Id::NotConfirmed, "the deployment's name was not confirmed"))
}

/// Removes what is known on this machine, lock last.
fn forget(session: &Session) {
    let dir = &session.run().settings.state_dir;
    let deployment = &session.run().names.deployment;
    let _ = files::remove(&Record::path(dir, deployment));
    let _ = files::remove(&dir.join(format!("{deployment}.lock")));
    files::remove_empty_dir(&dir.join(deployment));
    files::remove_empty_dir(dir);
}

/// What became of each line, as it is now and not as it was planned.
async fn receipt_lines(session: &Session, removal: &Removal, failures: &[Failure]) -> Vec<String> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let mut text = vec![format!("{}: teardown at {now}", session.run().names.deployment)];
    let stale: Vec<Line> = removal.stale.iter().map(|line| line.clone().map(drop)).collect();
    for line in removal.plan.all().chain(&stale) {
        let mut leaving = false;
        let gone = match &line.target {
            Some(Target::Object(reference)) => {
                let live = session.cluster.read(reference).await;
                leaving = matches!(&live, Ok(Some(live)) if live.is_terminating());
                live.is_ok_and(|live| live.is_none())
            }
            Some(Target::File(path)) => !path.exists(),
            Some(Target::Runner) => session.notes().record().gitlab.owned().is_none(),
            Some(Target::Commit) => session.notes().record().gitlab.commit.is_none(),
            Some(Target::Look(_)) => continue,
            None => false,
        };
        let state = match line.decision {
            Decision::Refuse => "left, foreign",
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
    if session.run().options.cluster_gone {
        let record = session.notes().record();
        text.push(format!("  the cluster {} is gone; not read back:", record.cluster.context));
        text.extend(record.objects.iter().map(|owned| format!("  {} ({})", owned.object, owned.uid)));
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
