//! `status`: the plan that setup would make, the proofs, and exit 10 if something is to be changed, does not work or
//! could not be checked.

use crate::base::error::{Command, Failure, Hint, Result};
use crate::base::event::{Event, Fold, Reporter as _};
use crate::base::text::count;
use crate::commands::session::{Needs, Outside, Session};
use crate::commands::{Ended, and_others, differences, expiry, header, no_such_deployment, proved};
use crate::deployment::run::Part;
use crate::engine::{self, Plan};
use crate::gitlab::runner;
use crate::output::ui::Ui;
use crate::settings::{Need, shell_word};
use crate::steps::contract::AnyStep;

/// `status`.
///
/// # Errors
/// Failures that prevent all checks.
pub async fn status(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut selection = engine::select(&[], &[], None)?;
    let (settings, record) = outside.settings().await?;
    let unasked = engine::drop_unasked(&mut selection, &[], &settings, record.as_ref());
    let parts = selection.iter().filter_map(|step| step.info().part).collect();
    let side = record.as_ref().map(|record| &record.gitlab);
    let in_gitlab = side.is_some_and(|side| !side.is_empty() || side.commit.is_some());
    let gitlab = if in_gitlab { Need::Optional } else { Need::Nothing };
    let session = outside.open(Needs { gitlab, parts, ..Needs::default() }, (settings, record)).await?;
    session.check().await?;
    session.check_owner()?;
    if waits(outside) {
        runner::wait(&session.gitlab, session.run().settings.wait).await?;
    }
    let plan = engine::plan(session.reads(), &selection).await;
    outside.ui.event(&header(&session).await);
    // Input that only `setup` needs is no fault of the deployment.
    let refusals: Vec<Failure> = plan.refusals().into_iter().filter(|one| !one.is_missing_input()).collect();
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
        return Ok(Ended::failed(refusals, false));
    }
    if changes > 0 {
        let setup = Hint::new("Apply the plan", Command::outrigger("setup"));
        outside.ui.event(&Event::Next { lines: vec![setup] });
        let text = format!("{} pending{}.", count(changes, "change"), and_others(&plan));
        let status = differences(&plan, changes);
        return Ok(Ended { pending: true, status, ..Ended::well(false, text) });
    }
    // Parts that `setup` would change are not proven here: `setup` proves its result.
    let failures = prove(&outside.ui, &session, &plan).await;
    if !failures.is_empty() {
        return Ok(Ended::failed(failures, false));
    }
    let asked =
        if unasked.is_empty() { String::new() } else { format!(" Not selected: {}.", unasked.join(", ")) };
    let pending = plan.unhealthy() + plan.unchecked() > 0;
    let what = match (plan.unhealthy(), plan.unchecked()) {
        (0, 0) => "Everything",
        (0, _) => "Everything that was checked",
        _ => "The deployment",
    };
    let text = format!("{what} matches the plan{}.{asked}", and_others(&plan));
    if !pending && let Some(hint) = script_to_remove(&session) {
        outside.ui.event(&Event::Next { lines: vec![hint] });
    }
    let status = proved(&plan, changes);
    Ok(Ended { last: expiry(outside, &session), pending, status, ..Ended::well(false, text) })
}

/// The launch script on this disk, once the runner was seen to take jobs.
fn script_to_remove(session: &Session) -> Option<Hint> {
    let record = session.notes().record();
    record.gitlab.owned().filter(|_| session.gitlab.is_connected())?;
    let path = record.script_path.clone().filter(|path| path.exists())?;
    let text = "The runner is online, and the launch script is no longer needed on this disk";
    Some(Hint::new(text, Command::Whole(format!("rm {}", shell_word(&path.display().to_string())))))
}

/// The plan, with the runner's contact and version also where nothing is to be changed.
fn with_runner(plan: &Plan, selection: &[&'static dyn AnyStep]) -> Event {
    let mut shown = plan.shown();
    let is_runner = |name: &str| {
        selection.iter().any(|step| step.info().part == Some(Part::Runner) && step.info().name == name)
    };
    if let Event::Plan { lines, .. } = &mut shown {
        lines.iter_mut().filter(|line| is_runner(&line.step)).for_each(|line| line.fold = Fold::Never);
    }
    shown
}

/// Whether `--wait` is on the command line: the setting has a default for pipelines.
fn waits(outside: &Outside<'_>) -> bool {
    outside.matches.value_source("wait") == Some(clap::parser::ValueSource::CommandLine)
}

async fn prove(ui: &Ui, session: &Session, plan: &Plan) -> Vec<Failure> {
    let mut failures = Vec::new();
    let reads = session.reads();
    for one in &plan.steps {
        let step = one.info().name.to_owned();
        ui.doing(&format!("testing the result of {step}"));
        match one.prove(reads, &session.products).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                reads.progress.event(&Event::StepDone { step, changed: false, kept: false, text });
            }
            Err(failure) => {
                reads.progress.event(&Event::StepFailed { step, text: failure.message.clone() });
                failures.push(failure);
            }
        }
    }
    failures
}
