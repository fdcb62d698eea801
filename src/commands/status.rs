//! `status`: the plan that setup would make, the proofs, and exit 10 when the plan is not empty.

use crate::base::error::{Command, Failure, Hint, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::text::count;
use crate::commands::session::{Needs, Outside, Session};
use crate::commands::{Ended, and_unchecked, expiry, header, no_such_deployment};
use crate::engine::{self, Plan};
use crate::settings::Need;

/// `status`.
///
/// # Errors
/// Where nothing can be looked at.
pub async fn status(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut selection = engine::select(&[], &[], None)?;
    let (settings, record) = outside.settings().await?;
    let unasked = engine::drop_unasked(&mut selection, &[], &settings, record.as_ref());
    let parts = selection.iter().filter_map(|step| step.info().part).collect();
    let side = record.as_ref().map(|record| &record.gitlab);
    let in_gitlab = side.is_some_and(|side| !side.is_empty() || side.commit.is_some());
    let gitlab = if in_gitlab { Need::Look } else { Need::Nothing };
    let session = outside.open(Needs { gitlab, parts, ..Needs::default() }, (settings, record)).await?;
    session.check().await?;
    session.certain()?;
    let plan = engine::plan(session.reads(), &selection).await;
    outside.ui.event(&header(&session).await);
    // What setup would still have to be told is no fault of what is there.
    let refusals: Vec<Failure> = plan.refusals().into_iter().filter(|one| !one.is_missing_input()).collect();
    let changes = plan.changes();
    if refusals.is_empty()
        && let Some(failure) = no_such_deployment(&session).await?
    {
        return Err(failure
            .hint(("to list the recorded deployments", Command::list()))
            .hint(("to create it", Command::outrigger("setup"))));
    }
    outside.ui.event(&plan.shown());
    if !refusals.is_empty() {
        return Ok(Ended::failed(refusals, false));
    }
    if changes > 0 {
        let setup = Hint::new("Apply the plan", Command::outrigger("setup"));
        outside.ui.event(&Event::Next { lines: vec![setup] });
        let text = format!("{} pending{}.", count(changes, "change"), and_unchecked(&plan));
        return Ok(Ended { pending: true, ..Ended::well(false, text) });
    }
    // What setup is going to change is not worth proving; it proves what it made.
    let failures = prove(&session, &plan).await;
    if !failures.is_empty() {
        return Ok(Ended::failed(failures, false));
    }
    let asked =
        if unasked.is_empty() { String::new() } else { format!(" Not selected: {}.", unasked.join(", ")) };
    let pending = plan.unchecked() > 0;
    let what = if pending { "Everything that was checked" } else { "Everything" };
    let text = format!("{what} matches the plan{}.{asked}", and_unchecked(&plan));
    Ok(Ended { last: expiry(outside, &session), pending, ..Ended::well(false, text) })
}

async fn prove(session: &Session, plan: &Plan) -> Vec<Failure> {
    let mut failures = Vec::new();
    let reads = session.reads();
    for one in &plan.steps {
        let step = one.info().name.to_owned();
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
