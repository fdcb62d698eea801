//! `teardown`: the steps in reverse order.

use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter as _, Thing};
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
use crate::machine::vm;
use crate::settings::RunOptions;
use crate::steps::prune;

/// The plan of a teardown.
struct Removal {
    plan: Plan,
    /// Objects left by earlier settings.
    stale: Vec<Line<prune::Act>>,
    /// The cluster was reached.
    reached: bool,
    /// The failure of the connection to the cluster, if it was tried.
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
/// Failures before the first change; later ones are in [`Ended`].
pub async fn teardown(outside: &mut Outside<'_>) -> Result<Ended> {
    let options = outside.options.clone();
    let no_cluster = options.cluster_gone;
    let known = outside.settings_for(|_, _| Needs { no_cluster, ..Needs::default() }).await?;
    if !outside.ui.interactive() && !options.yes && !options.dry_run {
        return Err(unconfirmed("teardown")
            .hint(("to see what teardown would remove", Command::teardown("--dry-run"))));
    }
    check_record(&options, &known)?;
    let needs = Needs { writes: !options.dry_run, no_cluster, ..Needs::default() };
    let session = outside.open(needs, known).await?;
    let removal = plan(&session, &options).await?;
    let refusals = removal.plan.refusals();
    let changes = removal.changes();
    if changes == 0 && refusals.is_empty() {
        check_exists(&session, &options, &removal).await?;
    }
    let mut shown = with_stale(&removal.plan, &removal.stale, true);
    if let Event::Plan { removes, .. } = &mut shown {
        *removes = Some(session.run().names.deployment.clone());
    }
    outside.ui.event(&shown);
    // Missing input is reported before anything is removed.
    if refusals.iter().any(|failure| failure.kind == Kind::Usage || failure.is_missing_aws_login()) {
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
        // A teardown that stops half-way and is run again must know the deployment's objects.
        outside.adopt(&session).await?;
    }
    if let Err(failures) = settle(&session, &removal).await {
        return Ok(Ended::failed(with_pause(&session, failures), session.mutations() > before));
    }
    // From here on something may be gone, whatever fails.
    finish(outside, &session, &removal, refusals, before).await.or_else(|failure| {
        let changed = session.mutations() > before;
        Ok(Ended::failed(with_pause(&session, vec![failure]), changed))
    })
}

/// Removes, reports and forgets.
async fn finish(
    outside: &mut Outside<'_>,
    session: &Session,
    removal: &Removal,
    refusals: Vec<Failure>,
    before: usize,
) -> Result<Ended> {
    let options = outside.options.clone();
    let failures = remove(outside, session, removal, refusals).await?;
    let changed = session.mutations() > before || removal.changes() > 0;
    let text = receipt_lines(session, removal, &failures).await;
    let left = Some(left(session).await);
    if failures.is_empty() && is_all(&options) {
        forget(session)?;
    } else {
        remember_what_is_left(session)?;
    }
    // The plan listed what goes: if all of it went, the report adds nothing.
    if !failures.is_empty() || options.cluster_gone || options.receipt.is_some() {
        receipt(outside, &text)?;
    }
    if failures.is_empty() {
        return Ok(Ended { left, ..last_line(outside, session, is_whole(&options), changed) });
    }
    Ok(Ended { left, ..Ended::failed(with_pause(session, go_on(failures)), changed) })
}

/// What the record names and is not known to be gone: objects, the runner, the commit, the VM and the script.
async fn left(session: &Session) -> Vec<Thing> {
    let record = session.notes().record().clone();
    let mut left = Vec::new();
    for reference in record.objects.iter().map(|owned| &owned.object).chain(&record.intents) {
        if !matches!(session.cluster.read(reference).await, Ok(None)) {
            left.push(reference.thing());
        }
    }
    left.extend(record.gitlab.owned().map(|runner| Target::Runner(runner.id).thing()));
    left.extend(record.gitlab.commit.map(|commit| Target::Commit(commit.sha).thing()));
    if let Some(vm) = record.vm.filter(|_| !session.run().options.vm_gone) {
        let is_gone = vm.arn.is_empty() && vm.nonce.is_empty();
        if !is_gone && !matches!(session.machine.instance().await, Ok(None)) {
            left.push(Target::Vm(vm.name).thing());
        }
        left.extend(Some(vm.static_ip).filter(|ip| !ip.is_empty()).map(|ip| Thing {
            kind: "StaticIp".to_owned(),
            namespace: String::new(),
            name: ip,
        }));
    }
    left.extend(record.script_path.filter(|path| path.exists()).map(|path| Target::File(path).thing()));
    left
}

/// Refuses `--cluster-gone` without a record: only the record lists the deployment's objects.
fn check_record(options: &RunOptions, (settings, record): &Known) -> Result<()> {
    let noted =
        || Record::load(&settings.state_dir, &settings.deployment.value).is_ok_and(|noted| noted.is_some());
    if !options.cluster_gone || record.is_some() || noted() {
        return Ok(());
    }
    let message = format!("this machine has no record of deployment {}", settings.deployment.value);
    Err(Failure::new(Id::NoRecord, message).hint(("to list the recorded deployments", Command::list())))
}

/// Lets the selected steps decide what to remove. Cluster, GitLab and disk are independent: if one is unreachable, the
/// others are still cleaned up.
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
    session.check_owner()?;
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

/// Ends a teardown with nothing to remove: deletes the record, if none of its objects exists.
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
        forget(session)?;
    }
    let left = if removal.reached { Some(self::left(session).await) } else { None };
    let text = format!("Nothing to remove for {}.", session.run().names.deployment);
    Ok(Ended { left, ..Ended::well(false, text) })
}

/// Refuses the name of a deployment that is neither recorded nor in the cluster.
async fn check_exists(session: &Session, options: &RunOptions, removal: &Removal) -> Result<()> {
    let commit = session.notes().record().gitlab.commit.clone();
    // Both are about the commit of a deployment that is removed.
    let reverts = (options.revert_pipeline || options.gitlab_gone) && commit.is_some();
    if options.ignore_not_found || reverts || !removal.reached || !is_whole(options) {
        return Ok(());
    }
    let Some(failure) = no_such_deployment(session).await? else { return Ok(()) };
    match commit {
        Some(commit) => Err(failure
            .detail("stays", format!("the commit of {} on {}", commit.path, commit.branch))
            .hint(("to revert that commit", Command::teardown("--revert-pipeline")))),
        None => Err(failure.hint("to accept this, add --ignore-not-found")),
    }
}

/// Stops new jobs, and waits for the running ones.
async fn settle(session: &Session, removal: &Removal) -> Result<(), Vec<Failure>> {
    let settled = match engine::settle(session.writes(), &removal.plan).await {
        Ok(()) if removal.reached => {
            job_pods::settle(&session.cluster, binding_to_list_jobs(session.run(), &removal.plan)).await
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

/// Removes everything. Returns all failures, the one with the highest weight first.
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
    // A temporary RoleBinding that is left outweighs all other failures.
    if let Err(failure) = temporary_binding::release_held(&session.cluster).await {
        failures.retain(|other| other.id != failure.id);
        failures.insert(0, failure);
    }
    Ok(failures)
}

/// Removes everything, the namespaces last. If a namespace contains only objects that controllers generate, asks on a
/// terminal whether to delete it with them.
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

/// Whether no step was excluded.
fn is_whole(options: &RunOptions) -> bool {
    options.only.is_empty() && options.skip.is_empty() && options.from.is_none()
}

/// Whether this teardown removes everything, so that the record can be deleted.
fn is_all(options: &RunOptions) -> bool {
    is_whole(options) && !options.keep_namespaces
}

/// Keeps the uids of existing objects in the record, for the next setup or teardown.
fn remember_what_is_left(session: &Session) -> Result<()> {
    let secrets = session.notes().token_secrets(session.run());
    session.journal.write(|record| {
        if secrets.iter().all(|secret| record.uid_of(secret).is_none()) {
            record.token_expires.clear();
            record.slots = None;
        }
        if record.script_path.as_ref().is_some_and(|path| !path.exists()) {
            record.script_path = None;
        }
    })
}

/// The planned temporary RoleBinding with which the operator lists the job namespace, if one is needed.
fn binding_to_list_jobs<'a>(run: &Run, plan: &'a Plan) -> Option<&'a Object> {
    plan.all().find_map(|line| match &line.target {
        Some(Target::TemporaryBinding(binding))
            if binding.reference.namespace.as_ref() == Some(&run.names.job_namespace) =>
        {
            Some(binding)
        }
        _ => None,
    })
}

/// What failed; the first failure says that the runner is paused, if it still is, and how it gets jobs again.
fn with_pause(session: &Session, mut failures: Vec<Failure>) -> Vec<Failure> {
    let paused = session.notes().record().gitlab.paused().map(|runner| runner.id);
    if let (Some(id), false) = (paused, failures.is_empty()) {
        let first =
            failures.remove(0).detail("state", format!("runner {id} is paused and takes no new jobs"));
        let again = Command::teardown("");
        let first = if first.hints.is_empty() { first.hint(("go on", again)) } else { first };
        failures.insert(
            0,
            first.hint(("or keep the deployment, and resume the runner", Command::outrigger("setup"))),
        );
    }
    failures
}

/// What failed, with the command that goes on last.
fn go_on(failures: Vec<Failure>) -> Vec<Failure> {
    // Generated objects are deleted only with explicit consent.
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
        // The finishing command is the last hint.
        let text = if failure.hints.is_empty() { "" } else { "then finish with" };
        failure.hint((text, again.clone()))
    };
    failures.into_iter().map(one).collect()
}

/// The last line: what was removed, and what stays.
fn last_line(outside: &Outside<'_>, session: &Session, whole: bool, changed: bool) -> Ended {
    let run = session.run();
    let deployment = &run.names.deployment;
    if run.options.cluster_gone {
        let text = format!("Removed {deployment} from this machine; the cluster was not contacted.");
        return Ended::well(changed, text);
    }
    let commit = session.notes().record().gitlab.commit.clone();
    match commit.map(|commit| format!("{} on {}", commit.path, commit.branch)) {
        _ if !whole || run.options.keep_namespaces => {
            Ended::well(changed, format!("Removed the selected parts of {deployment}."))
        }
        Some(file) => {
            let revert = outside.ui.complete(&Command::teardown("--revert-pipeline"));
            let ended = run.options.revert_pipeline || run.options.gitlab_gone;
            let last = if ended { String::new() } else { format!("To revert the commit: {revert}") };
            Ended { last, ..Ended::well(changed, format!("Removed {deployment}; {file} stays.")) }
        }
        None => Ended::well(changed, format!("Removed {deployment}.")),
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

/// Removes the deployment's files on this machine, the lock last.
fn forget(session: &Session) -> Result<()> {
    let dir = &session.run().settings.state_dir;
    let deployment = &session.run().names.deployment;
    let options = &session.run().options;
    match session.notes().record().commit_note().filter(|_| !options.gitlab_gone) {
        Some(note) => note.save(dir)?,
        None => drop(files::remove(&Record::path(dir, deployment))),
    }
    let _ = files::remove(&dir.join(format!("{deployment}.lock")));
    for path in vm::key_files(dir, deployment) {
        let _ = files::remove(&path);
    }
    files::remove_empty_dir(&dir.join(deployment));
    files::remove_empty_dir(dir);
    Ok(())
}

/// The result of each line, from its current state instead of from the plan.
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
            Some(Target::Runner(_)) => session.notes().record().gitlab.owned().is_none(),
            Some(Target::Commit(_)) => session.notes().record().gitlab.commit.is_none(),
            Some(Target::Vm(_)) => session.notes().record().vm.is_none(),
            Some(Target::TemporaryBinding(_)) => continue,
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

/// Refuses a receipt that cannot be written, before anything is removed.
fn check_receipt(outside: &Outside<'_>) -> Result<()> {
    receipt_path(outside).map_or(Ok(()), files::check_writable)
}

/// Writes the receipt, to stdout if the file cannot be written after all.
fn receipt(outside: &Outside<'_>, lines: &[String]) -> Result<()> {
    let Some(path) = receipt_path(outside) else { return write_lines(outside, lines) };
    let written = files::write_shown(path, message::report(lines).as_bytes());
    if written.is_err() {
        write_lines(outside, lines)?;
    }
    written
}
