//! `setup`: the list of steps, forwards.

use crate::base::error::{Aim, Command, Failure, Hint, Id, Result};
use crate::base::event::{Event, Mark, Reporter as _};
use crate::base::text::count;
use crate::commands::session::{Known, Needs, Outside, Session};
use crate::commands::{Ended, and_unchecked, expiry, header, selected, unconfirmed, wizard, write_product};
use crate::deployment::plan::Line;
use crate::deployment::run::Part;
use crate::engine::{self, Plan, Watch};
use crate::machine::script_files::Delivery;
use crate::settings::{Need, Output, Settings, shell_word};
use crate::steps::contract::AnyStep;
use crate::steps::prune;

/// `setup`.
///
/// # Errors
/// What keeps it from beginning; what it met later is in [`Ended`].
pub async fn setup(outside: &mut Outside<'_>) -> Result<Ended> {
    let (mut selection, mut known) = selected(outside).await?;
    let need = need(&selection);
    if wizard::is_first_setup(outside, &known, need) {
        wizard::first_setup(outside, known, need).await?;
        (selection, known) = selected(outside).await?;
    }
    let session = open(outside, &selection, Needs::default(), known).await?;
    let mut plan = engine::plan(session.reads(), &selection).await;
    let prune = session.run().settings.prune;
    let stale = prune::plan(session.reads(), prune).await?;
    outside.ui.event(&header(&session).await);
    let changes = plan.changes() + if prune { stale.len() } else { 0 };
    match show(outside, &session, &plan, &stale, changes).await {
        Ok(None) => {}
        Ok(Some(ended)) => return Ok(ended),
        Err(failure) => return Err(wizard::go_on(failure, &session.run().settings)),
    }
    if changes > 0 || !session.notes().recorded || session.has_new_settings() {
        session.adopt().await?;
    }
    let mutations = session.mutations();
    let mut changed = match apply(outside, &session, &mut plan).await {
        Ok(changed) => changed,
        Err(failure) => return Ok(Ended::failed(vec![failure], session.mutations() > mutations)),
    };
    if prune && !stale.is_empty() {
        changed = true;
        if let Err(failure) = prune::apply(session.writes(), &stale).await {
            return Ok(Ended::failed(vec![failure], changed));
        }
    }
    if changed {
        outside.ui.event(&Event::Next { lines: next(&session)? });
    }
    Ok(done(&session, &plan, changed))
}

/// What these steps need of GitLab's side.
fn need(selection: &[&'static dyn AnyStep]) -> Need {
    selection.iter().map(|step| step.info().gitlab).max().unwrap_or_default()
}

/// Opens a session for these steps, on the cluster and the GitLab that the deployment lives on.
pub(super) async fn open(
    outside: &mut Outside<'_>,
    selection: &[&'static dyn AnyStep],
    needs: Needs,
    known: Known,
) -> Result<Session> {
    let needs = Needs {
        writes: !outside.options.dry_run,
        gitlab: need(selection),
        parts: selection.iter().filter_map(|step| step.info().part).collect(),
        ..needs
    };
    let session = outside.open(needs, known).await?;
    session.check().await?;
    session.certain()?;
    if session.run().script_path().as_os_str() == "-" {
        check_stdout(outside)?;
    }
    Ok(session)
}

/// Shows the plan, and asks whether it is to be applied. Returns how it ended where it does not go on from here.
pub(super) async fn show(
    outside: &mut Outside<'_>,
    session: &Session,
    plan: &Plan,
    stale: &[Line<prune::Act>],
    changes: usize,
) -> Result<Option<Ended>> {
    let refusals = plan.refusals();
    if !refusals.is_empty() {
        return Ok(Some(Ended::failed(refusals, false)));
    }
    let dry_run = outside.options.dry_run;
    if changes > 0 || dry_run || !stale.is_empty() || plan.all().any(|line| line.notable) {
        outside.ui.event(&with_stale(plan, stale, session.run().settings.prune));
    }
    if dry_run {
        let pending = outside.options.exit_code && (changes > 0 || plan.unchecked() > 0);
        let text = if changes == 0 { "Nothing to change" } else { "Nothing was changed" };
        let text = format!("{text}{}.", and_unchecked(plan));
        return Ok(Some(Ended { pending, ..Ended::well(false, text) }));
    }
    // Found out before anything is made, and not by those who only look.
    plan.ready(session.reads())?;
    if changes > 0 && !outside.consents() {
        if !outside.ui.interactive() {
            return Err(unconfirmed(&format!("applying {}", count(changes, "change"))));
        }
        if !outside.asking(|ask| wizard::confirm_plan(ask, changes)).await? {
            return Err(Failure::new(Id::NotConfirmed, "the plan was not confirmed"));
        }
    }
    Ok(None)
}

/// Carries the plan out, and prints a script that goes to stdout.
pub(super) async fn apply(outside: &Outside<'_>, session: &Session, plan: &mut Plan) -> Result<bool> {
    let watch = Watch { stop: &|| session.stop(), mutations: &|| session.mutations() };
    let changed = engine::apply(session.writes(), plan, &watch).await?;
    if let Some(text) = session.products.script.get().and_then(|written| written.to_stdout.as_ref()) {
        write_product(outside, text.expose().as_bytes())?;
    }
    Ok(changed)
}

/// The last line.
pub(super) fn done(session: &Session, plan: &Plan, changed: bool) -> Ended {
    let text = if changed { "Done" } else { "Nothing to change" };
    let text = format!("{text}{}.", and_unchecked(plan));
    Ended { last: expiry(session), pending: plan.unchecked() > 0, ..Ended::well(changed, text) }
}

/// The plan, with what the settings no longer name.
pub(super) fn with_stale(plan: &Plan, stale: &[Line<prune::Act>], prune: bool) -> Event {
    let mut shown = plan.shown();
    if let Event::Plan { lines, changes } = &mut shown {
        for line in stale {
            let mut line = engine::shown("prune", &line.clone().map(drop));
            if !prune {
                line.mark = Mark::Keep;
                line.text = format!("{}; kept without --prune", line.text);
            }
            lines.push(line);
        }
        *changes += if prune { stale.len() } else { 0 };
    }
    shown
}

/// `status` as a machine without the record needs it: with the places that only this one remembers.
fn elsewhere(settings: &Settings, uid: &str) -> Command {
    let mut words = vec!["status".to_owned()];
    // What was given in this run is repeated anyway.
    if settings.anchor_uid.is_none() {
        words.push(format!("--anchor-uid {uid}"));
    }
    // The annotation on the anchor never sets the GitLab URL.
    if let Some(url) = settings.gitlab_url.as_ref().filter(|url| url.source.is_remembered()) {
        words.push(format!("--gitlab-url {}", shell_word(&url.value)));
    }
    // The record keeps defaults, too.
    let defaults = [format!("{}-jobs", settings.deployment.value), settings.deployment.value.clone()];
    let places = [
        ("--namespace", vec![settings.namespace.value.clone()]),
        ("--runner-namespace", vec![settings.runner_namespace.value.clone()]),
        ("--use-namespace", settings.use_namespaces.clone()),
    ];
    for (index, (flag, values)) in places.iter().enumerate() {
        let is_default = defaults.get(index).is_some_and(|default| values == std::slice::from_ref(default));
        if !values.is_empty() && !is_default {
            words.push(format!("{flag} {}", shell_word(&values.join(","))));
        }
    }
    Command::Outrigger(words.join(" "), Aim::Cluster(&["gitlabUrl"]))
}

fn next(session: &Session) -> Result<Vec<Hint>> {
    let run = session.run();
    let mut lines = match session.products.script.get() {
        Some(written) if !run.includes(Part::Pipeline) => Delivery::of(run)?.next(written.with_secrets),
        _ => Vec::new(),
    };
    if !lines.is_empty() && session.gitlab.is_connected() && run.settings.project.is_some() {
        lines.push(Hint::new(
            "Then commit the pipeline file and run the first pipeline",
            Command::outrigger("setup --commit-pipeline --run-pipeline"),
        ));
    }
    lines.push(Hint::new("Check the deployment", Command::outrigger("status")));
    lines.push(Hint::new(
        "Run the same setup without prompts",
        Command::Whole(run.settings.equivalent_command()),
    ));
    if let Some(uid) = session.notes().record().uid_of(&run.names.account()) {
        let text = "Check it from a machine without a record, such as CI";
        lines.push(Hint::new(text, elsewhere(&run.settings, uid)));
    }
    lines.push(Hint::new("Remove it", Command::teardown("")));
    Ok(lines)
}

/// A script on stdout holds two secrets: not on a terminal, not in JSON, not in a CI log.
fn check_stdout(outside: &Outside<'_>) -> Result<()> {
    let ci = outside.env.get("CI").is_some_and(|value| !value.is_empty());
    let shown = outside.ui.stdout_is_terminal() || outside.options.output == Output::Json || ci;
    if shown && !outside.options.secrets_to_stdout {
        return Err(Failure::new(
            Id::InvalidInput,
            "the launch script contains two secrets, which stdout would show",
        )
        .hint("write it to a file with --script FILE, or allow this with --secrets-to-stdout"));
    }
    Ok(())
}
