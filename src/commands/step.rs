//! The subcommand of a step: `setup` with this step selected.

use crate::base::error::Result;
use crate::base::event::{Event, Fold, Reporter as _};
use crate::commands::preflight::preflight;
use crate::commands::print_commands::print_commands;
use crate::commands::session::{Needs, Outside, Session};
use crate::commands::setup::{apply, done, needs, open, show};
use crate::commands::uninstall::uninstall;
use crate::commands::{Ended, write_product};
use crate::deployment::run::Part;
use crate::engine;
use crate::machine::lightsail::policy;
use crate::machine::script_files::Delivery;
use crate::settings::PolicyPhase;
use crate::steps;
use crate::steps::contract::{AnyStep, Prints};

/// One step, with the steps that it requires.
///
/// # Errors
/// Failures before the first change; later ones are in [`Ended`].
pub async fn step(outside: &mut Outside<'_>, step: &'static dyn AnyStep) -> Result<Ended> {
    let info = step.info();
    if outside.options.print_commands {
        return print_commands(outside).await;
    }
    if outside.options.uninstall {
        return uninstall(outside).await;
    }
    // Also with an invalid phase: nothing else is missing then.
    let is_given = outside.matches.try_contains_id("print-policy").unwrap_or(false);
    if is_given || outside.options.print_policy.is_some() {
        return print_policy(outside).await;
    }
    if info.surveys {
        return preflight(outside).await;
    }
    if info.prints == Prints::Always || outside.options.print {
        return print(outside, step).await;
    }
    outside.ui.unfold();
    if info.part == Some(Part::Vm) {
        outside.asked.insert("createVm".to_owned(), vec!["true".to_owned()]);
    }
    let selection = steps::with_pulled_in(step);
    let needs = Needs { again: info.gitlab_again, alone: true, ..needs(&selection) };
    let known = outside.settings_for(|_, _| needs.clone()).await?;
    let session = open(outside, needs, known).await?;
    let mut plan = engine::plan(session.reads(), &selection).await;
    outside.ui.event(&crate::commands::header(&session).await);
    let changes = plan.changes();
    if let Some(ended) = show(outside, &session, &plan, &[], changes).await? {
        return Ok(ended);
    }
    if changes > 0 {
        outside.adopt(&session).await?;
    }
    let mutations = session.mutations();
    let changed = match apply(outside, &session, &mut plan).await {
        Ok(changed) => changed,
        Err(failure) => return Ok(Ended::failed(vec![failure], session.mutations() > mutations)),
    };
    if let Some(written) = session.products.script.get() {
        outside
            .ui
            .event(&Event::Next { lines: Delivery::of(session.run())?.next(session.run(), written.brings) });
    }
    Ok(done(outside, &session, &plan, changed))
}

/// Writes the IAM policy of a phase to stdout: for this deployment's instance, if there is a record.
async fn print_policy(outside: &mut Outside<'_>) -> Result<Ended> {
    let (_, record) = outside.settings().await?;
    let phase = outside.options.print_policy.unwrap_or(PolicyPhase::Create);
    if phase != PolicyPhase::Remove {
        let text =
            "this policy allows logins to tagged instances: do not allow anyone to tag existing instances";
        outside.ui.event(&Event::Warning { text: text.to_owned() });
    }
    let id = record.map(|record| record.id);
    write_product(outside, format!("{:#}\n", policy::policy(phase, id.as_deref())).as_bytes())?;
    Ok(Ended::well(false, ""))
}

/// Writes what the steps print to stdout, and the intents of their objects to the record.
pub(super) async fn write_printed(
    outside: &Outside<'_>,
    session: &Session,
    steps: &[&'static dyn AnyStep],
) -> Result<()> {
    let (mut bytes, mut intents) = (Vec::new(), Vec::new());
    for step in steps {
        if let Some(printed) = step.print(session.reads()).await? {
            bytes.extend(printed.bytes);
            intents.extend(printed.intents);
        }
    }
    // What somebody else applies has to count as ours later: on disk first.
    if !intents.is_empty() {
        session.intend(&intents)?;
    }
    write_product(outside, &bytes)
}

/// Writes what the step makes to stdout.
async fn print(outside: &mut Outside<'_>, step: &'static dyn AnyStep) -> Result<Ended> {
    let info = step.info();
    let always = info.prints == Prints::Always;
    let no_cluster = info.prints == Prints::OnRequest { with_cluster: false };
    let needs = Needs {
        writes: !always && !no_cluster && !outside.options.dry_run,
        no_cluster,
        alone: true,
        ..Needs::default()
    };
    let known = outside.settings_for(|_, _| needs.clone()).await?;
    let session = outside.open(needs, known).await?;
    if !no_cluster {
        session.check().await?;
        session.check_owner()?;
    }
    write_printed(outside, &session, &[step]).await?;
    if always {
        // The description goes to stderr; stdout has only the data.
        let mut plan = engine::plan(session.reads(), &[step]).await;
        for hint in plan.all().flat_map(|line| line.detail.clone()) {
            outside.ui.event(&Event::Warning { text: hint.text });
        }
        for one in &mut plan.steps {
            let text = one.apply(session.writes(), &plan.forecast).await?;
            outside.ui.event(&Event::StepDone {
                step: info.name.to_owned(),
                changed: false,
                fold: Fold::Never,
                text,
            });
        }
    }
    Ok(Ended::well(false, ""))
}
