//! `status`: the plan that setup would make, the proofs, and exit 10 if something is to be changed, does not work or
//! could not be checked.

use std::path::Path;

use crate::base::error::{Command, Failure, Hint, Result};
use crate::base::event::{Event, Fold, Reporter as _, Status};
use crate::base::text::{count, sentence};
use crate::commands::session::{Needs, Outside, Session};
use crate::commands::{Ended, and_others, differences, expiry, header, no_such_deployment, proved};
use crate::deployment::plan::Decision;
use crate::deployment::run::Part;
use crate::engine::{self, Plan};
use crate::gitlab::runner;
use crate::machine::{secrets_file, vm};
use crate::output::ui::Ui;
use crate::settings::{Need, shell_word};
use crate::steps::contract::{AnyStep, Products, Reads};

/// `status`.
///
/// # Errors
/// Failures that prevent all checks.
pub async fn status(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut selection = engine::select(&[], &[], None)?;
    let (settings, record) = outside.settings_for(|_, _| Needs::default()).await?;
    let unasked = engine::drop_unasked(&mut selection, &[], &settings, record.as_ref());
    let parts = selection.iter().filter_map(|step| step.info().part).collect();
    let side = record.as_ref().map(|record| &record.gitlab);
    let in_gitlab = side.is_some_and(|side| !side.is_empty() || side.commit.is_some());
    let gitlab = if in_gitlab { Need::Optional } else { Need::Nothing };
    let opens = outside.options.machine && settings.create_vm;
    let needs = Needs { gitlab, parts, writes: opens, ..Needs::default() };
    let session = outside.open(needs, (settings, record)).await?;
    session.check().await?;
    session.check_owner()?;
    if outside.waits() {
        runner::wait(&session.gitlab, session.run().settings.wait).await?;
    }
    let plan = if opens {
        look_inside(outside, &session, &selection).await?
    } else {
        engine::plan(session.reads(), &selection).await
    };
    outside.ui.event(&header(&session).await);
    // A missing value that only `setup` needs does not fail `status`: what depends on it counts as not checked.
    let (blocked, refusals): (Vec<_>, Vec<_>) =
        plan.refusals().into_iter().partition(Failure::is_missing_input);
    let changes = plan.changes();
    if refusals.is_empty()
        && let Some(failure) = no_such_deployment(&session).await?
    {
        return Err(failure
            .hint(("to list the recorded deployments", Command::list()))
            .hint(("to create it", Command::outrigger("setup"))));
    }
    outside.ui.event(&with_runner(&plan, &selection));
    if !refusals.is_empty() {
        return Ok(Ended { status: differences(&plan, changes), ..Ended::failed(refusals, false) });
    }
    if changes > 0 {
        // What setup keeps can make its proof fail: restored first.
        let mut lines = kept(&plan);
        lines.push(Hint::new("Apply the plan", Command::outrigger("setup")));
        outside.ui.event(&Event::Next { lines });
        let needs = missing(&blocked);
        let text = format!("{} pending{}{needs}.", count(changes, "change"), and_others(&plan));
        let status = with_blocked(differences(&plan, changes), &blocked);
        return Ok(Ended { pending: true, status, ..Ended::well(false, text) });
    }
    // Parts that `setup` would change are not proven here: `setup` proves its result.
    let failures = prove(&outside.ui, session.reads(), &session.products, &plan).await;
    if !failures.is_empty() {
        return Ok(Ended { status: differences(&plan, changes), ..Ended::failed(failures, false) });
    }
    let asked =
        if unasked.is_empty() { String::new() } else { format!(" Not selected: {}.", unasked.join(", ")) };
    let unchecked = plan.unchecked() + blocked.len();
    let pending = plan.unhealthy() + unchecked > 0;
    let what = match (plan.unhealthy(), unchecked) {
        (0, 0) => "Everything",
        (0, _) => "Everything that was checked",
        _ => "The deployment",
    };
    let needs = missing(&blocked);
    let text = format!("{what} matches the plan{}{needs}.{asked}", and_others(&plan));
    if !pending && let Some(hint) = script_to_remove(&session) {
        outside.ui.event(&Event::Next { lines: vec![hint] });
    }
    let status = with_blocked(proved(&plan, changes), &blocked);
    Ok(Ended { last: expiry(outside, &session), pending, status, ..Ended::well(false, text) })
}

/// The plan with the inside of the VM, whose port is open only meanwhile.
async fn look_inside(
    outside: &Outside<'_>,
    session: &Session,
    selection: &[&'static dyn AnyStep],
) -> Result<Plan> {
    let ports = vm::shown(&[vm::door(&session.run().settings)]);
    let name = session.machine.vm().unwrap_or_default();
    outside.ui.event(&Event::Note { text: format!("VM {name}: {ports}, until it was looked at") });
    let entered = session.machine.enter().await;
    let plan = match &entered {
        Ok(()) => Some(engine::plan(session.reads(), selection).await),
        Err(_) => None,
    };
    if let Some(closed) = session.machine.leave().await? {
        outside.ui.event(&Event::Note { text: format!("VM {name}: {closed}") });
    }
    entered?;
    Ok(plan.unwrap_or_default())
}

/// The end of the last line, about values that setup needs and status does not.
fn missing(blocked: &[Failure]) -> String {
    match blocked.len() {
        0 => String::new(),
        n => {
            format!("; {} that setup needs {} missing", count(n, "value"), if n == 1 { "is" } else { "are" })
        }
    }
}

/// The status, with what could not be looked at for want of a value.
fn with_blocked(mut status: Vec<Status>, blocked: &[Failure]) -> Vec<Status> {
    if !blocked.is_empty() {
        status.retain(|one| !matches!(one, Status::Ok | Status::Unchecked));
        status.push(Status::Unchecked);
    }
    status
}

/// The launch script on this disk, once the runner was seen to take jobs.
fn script_to_remove(session: &Session) -> Option<Hint> {
    let record = session.notes().record();
    record.gitlab.owned().filter(|_| session.gitlab.is_connected())?;
    let path = record.script_path.clone().filter(|path| path.exists())?;
    let text = "Once this launch script has run on the runner's host, remove it from this disk";
    let word = |path: &Path| shell_word(&path.display().to_string());
    let beside = secrets_file::path_beside(&path);
    let secrets = if beside.exists() { format!(" {}", word(&beside)) } else { String::new() };
    Some(Hint::new(text, Command::Whole(format!("rm {}{secrets}", word(&path)))))
}

/// The commands for what the plan keeps although the runner needs something else, each once.
fn kept(plan: &Plan) -> Vec<Hint> {
    let lines = plan.all().filter(|line| matches!(line.decision, Decision::Warning | Decision::Update));
    let mut hints: Vec<Hint> = Vec::new();
    for hint in lines.flat_map(|line| &line.detail).filter(|hint| hint.command.is_some()) {
        if hints.iter().all(|known| known.command != hint.command) {
            hints.push(Hint { text: sentence(&hint.text), command: hint.command.clone() });
        }
    }
    hints
}

/// The plan, with the runner's contact and version and the VM's state also where nothing is to be changed.
fn with_runner(plan: &Plan, selection: &[&'static dyn AnyStep]) -> Event {
    let mut shown = plan.shown();
    let is_runner = |name: &str| {
        selection
            .iter()
            .any(|step| matches!(step.info().part, Some(Part::Runner | Part::Vm)) && step.info().name == name)
    };
    if let Event::Plan { lines, .. } = &mut shown {
        lines.iter_mut().filter(|line| is_runner(&line.step)).for_each(|line| line.fold = Fold::Never);
    }
    shown
}

/// The failed proofs.
pub(super) async fn prove(ui: &Ui, reads: Reads<'_>, products: &Products, plan: &Plan) -> Vec<Failure> {
    let mut failures = Vec::new();
    for one in &plan.steps {
        let step = one.info().name.to_owned();
        ui.doing(&format!("testing the result of {step}"));
        match one.prove(reads, products).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                reads.progress.event(&Event::StepDone { step, changed: false, fold: Fold::Never, text });
            }
            Err(failure) => {
                reads.progress.event(&Event::StepFailed { step, text: failure.message.clone() });
                failures.push(failure);
            }
        }
    }
    failures
}
