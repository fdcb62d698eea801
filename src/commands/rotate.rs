//! `rotate`: setup with another intent. The steps of a token make a new one and bring it to the host.

use crate::base::error::{Command, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::text::span;
use crate::commands::session::{Known, Needs, Outside, Session};
use crate::commands::setup::{self, apply, done, open, show};
use crate::commands::{Ended, header, no_such_deployment};
use crate::deployment::run::Part;
use crate::engine;
use crate::machine::script_files::Delivery;
use crate::settings::{Reissue, Settings};
use crate::steps::STEPS;
use crate::steps::contract::AnyStep;

/// `rotate WHICH`.
///
/// # Errors
/// Failures before the first change; later ones are in [`Ended`].
pub async fn rotate(outside: &mut Outside<'_>, which: &str) -> Result<Ended> {
    let mut asked = match which {
        "cluster" => vec![Reissue::Cluster],
        "runner" => vec![Reissue::Runner],
        _ => vec![Reissue::Cluster, Reissue::Runner],
    };
    let known = outside.settings().await?;
    if let Some(within) = outside.options.if_within {
        let session = look(outside, known.clone()).await?;
        let (due, text) = due(&session, &asked, within);
        if due.is_empty() {
            return Ok(Ended::well(false, text));
        }
        asked = due;
    }
    let selection = selection(&asked, &known.0);
    let needs = Needs { again: true, rotate: asked, ..setup::needs(&selection) };
    carry_out(outside, selection, needs, known).await
}

/// Plans, shows and applies these steps for a deployment that exists.
pub(super) async fn carry_out(
    outside: &mut Outside<'_>,
    selection: Vec<&'static dyn AnyStep>,
    needs: Needs,
    known: Known,
) -> Result<Ended> {
    outside.ui.unfold();
    // Before anything is asked for.
    if known.1.is_none() {
        look(outside, known.clone()).await?;
    }
    let session = open(outside, needs, known).await?;
    let mut plan = engine::plan(session.reads(), &selection).await;
    outside.ui.event(&header(&session).await);
    let changes = plan.changes();
    if let Some(ended) = show(outside, &session, &plan, &[], changes).await? {
        return Ok(ended);
    }
    outside.adopt(&session).await?;
    let mutations = session.mutations();
    let changed = match apply(outside, &session, &mut plan).await {
        Ok(changed) => changed,
        Err(failure) => return Ok(Ended::failed(vec![failure], session.mutations() > mutations)),
    };
    if session.products.online.get().is_some() {
        plan.solve(Part::Runner);
    }
    if let Some(written) = session.products.script.get()
        && !session.run().includes(Part::Host)
    {
        let mut lines = Delivery::of(session.run())?.next(session.run(), written.brings);
        lines.push(if session.notes().slots().is_rotating() {
            let finish = Command::outrigger("rotate cluster --accept unseen-host");
            ("Once it has run there, delete the old cluster token", finish).into()
        } else {
            ("Once it has run there, see whether the runner is back", Command::outrigger("status --wait 10m"))
                .into()
        });
        outside.ui.event(&Event::Next { lines });
    }
    Ok(done(outside, &session, &plan, changed))
}

/// A session that only reads, for a deployment that exists.
async fn look(outside: &mut Outside<'_>, known: Known) -> Result<Session> {
    let session = outside.open(Needs::default(), known).await?;
    session.check().await?;
    session.check_owner()?;
    match no_such_deployment(&session).await? {
        None => Ok(session),
        Some(failure) => Err(failure.hint(("to list the recorded deployments", Command::list()))),
    }
}

/// The steps of these tokens.
fn selection(asked: &[Reissue], settings: &Settings) -> Vec<&'static dyn AnyStep> {
    let cluster = asked.contains(&Reissue::Cluster);
    let is_part = |step: &&'static dyn AnyStep| match step.info().part {
        Some(Part::Token | Part::Script) => true,
        Some(Part::Runner) => asked.contains(&Reissue::Runner),
        Some(Part::Vm) => settings.create_vm,
        Some(Part::Host) => settings.host.is_some() || settings.create_vm,
        Some(Part::Retire) => cluster,
        _ => false,
    };
    STEPS.iter().copied().filter(is_part).collect()
}

/// Those of the credentials that end within this time, and the text if there are none. An unfinished rotation is
/// finished.
fn due(session: &Session, asked: &[Reissue], within: std::time::Duration) -> (Vec<Reissue>, String) {
    let notes = session.notes();
    let (mut due, mut texts) = (Vec::new(), Vec::new());
    for which in asked {
        let (name, ends) = if *which == Reissue::Cluster {
            ("the cluster token", notes.token_expires())
        } else {
            let ends = notes.record().gitlab.owned().map(|runner| runner.expires.clone());
            ("the runner's token", ends.filter(|ends| !ends.is_empty()))
        };
        let ends = ends.and_then(|ends| ends.parse::<jiff::Timestamp>().ok());
        let left = ends.map(|ends| ends.as_second() - session.run().now.as_second());
        let is_unfinished = *which == Reissue::Cluster && notes.slots().is_rotating();
        match left.map(|left| std::time::Duration::from_secs(u64::try_from(left).unwrap_or(0))) {
            _ if is_unfinished => due.push(*which),
            Some(left) if left <= within => due.push(*which),
            Some(left) => texts.push(format!("{name} expires in {}", span(left))),
            None if *which == Reissue::Runner && notes.record().gitlab.owned().is_none() => {
                texts.push(format!("when {name} expires is not known here"));
            }
            None => texts.push(format!("{name} does not expire")),
        }
    }
    (due, format!("Nothing to rotate: {}.", texts.join(", ")))
}
