//! Each step by its own name: the same path as `setup`, with another selection.

use crate::base::error::Result;
use crate::base::event::{Event, Reporter as _};
use crate::commands::preflight::preflight;
use crate::commands::print_commands::print_commands;
use crate::commands::session::{Needs, Outside};
use crate::commands::setup::{apply, done, open, show};
use crate::commands::uninstall::uninstall;
use crate::commands::{Ended, write_product};
use crate::engine;
use crate::machine::script_files::Delivery;
use crate::steps;
use crate::steps::contract::{AnyStep, Prints};

/// One step, with those that it pulls in.
///
/// # Errors
/// What keeps it from beginning; what it met later is in [`Ended`].
pub async fn step(outside: &mut Outside<'_>, step: &'static dyn AnyStep) -> Result<Ended> {
    let info = step.info();
    if outside.options.print_commands {
        return print_commands(outside).await;
    }
    if outside.options.uninstall {
        return uninstall(outside).await;
    }
    if info.surveys {
        return preflight(outside).await;
    }
    if info.prints == Prints::Always || outside.options.print {
        return print(outside, step).await;
    }
    let selection = steps::with_pulled_in(step);
    let needs = Needs { again: info.gitlab_again, alone: true, ..Needs::default() };
    let known = outside.settings().await?;
    let session = open(outside, &selection, needs, known).await?;
    let mut plan = engine::plan(session.reads(), &selection).await;
    outside.ui.event(&crate::commands::header(&session).await);
    let changes = plan.changes();
    if let Some(ended) = show(outside, &session, &plan, &[], changes).await? {
        return Ok(ended);
    }
    if changes > 0 {
        session.adopt().await?;
    }
    let mutations = session.mutations();
    let changed = match apply(outside, &session, &mut plan).await {
        Ok(changed) => changed,
        Err(failure) => return Ok(Ended::failed(vec![failure], session.mutations() > mutations)),
    };
    if let Some(written) = session.products.script.get() {
        outside.ui.event(&Event::Next { lines: Delivery::of(session.run())?.next(written.with_secrets) });
    }
    Ok(done(&session, &plan, changed))
}

/// Writes what the step makes to stdout.
async fn print(outside: &mut Outside<'_>, step: &'static dyn AnyStep) -> Result<Ended> {
    let info = step.info();
    let always = info.prints == Prints::Always;
    let no_cluster = info.prints == Prints::OnRequest { with_cluster: false };
    let needs =
        Needs { writes: !always && !outside.options.dry_run, no_cluster, alone: true, ..Needs::default() };
    let known = outside.settings().await?;
    let session = outside.open(needs, known).await?;
    if !no_cluster {
        session.check().await?;
        session.certain()?;
    }
    if let Some(printed) = step.print(session.reads()).await? {
        // What somebody else applies has to count as ours later: on disk first.
        if !printed.intents.is_empty() {
            session.intend(&printed.intents)?;
        }
        write_product(outside, &printed.bytes)?;
    }
    if always {
        // What the data is, beside it: stdout has the data alone.
        let mut plan = engine::plan(session.reads(), &[step]).await;
        for hint in plan.all().flat_map(|line| line.detail.clone()) {
            outside.ui.event(&Event::Warning { text: hint.text });
        }
        for one in &mut plan.steps {
            let text = one.apply(session.writes(), &plan.forecast).await?;
            outside.ui.event(&Event::StepDone {
                step: info.name.to_owned(),
                changed: false,
                kept: false,
                text,
            });
        }
    }
    Ok(Ended::well(false, ""))
}
