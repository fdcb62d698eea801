//! `setup`: all steps in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::base::error::{Aim, Command, Failure, Hint, Id, Result};
use crate::base::event::{Event, Mark, Reporter as _};
use crate::base::text::count;
use crate::commands::session::{Known, Needs, Outside, Session};
use crate::commands::{
    Ended, and_others, cli, differences, expiry, header, proved, selected, step_help, unconfirmed, wizard,
    write_product,
};
use crate::deployment::names::NOTED;
use crate::deployment::plan::{Decision, Line};
use crate::deployment::run::Part;
use crate::engine::{self, Plan, Watch};
use crate::machine::script_files::Delivery;
use crate::settings::{self, Group, Inputs, Need, Output, SETTINGS, Settings};
use crate::steps::contract::AnyStep;
use crate::steps::prune;

/// `setup`.
///
/// # Errors
/// Failures before the first change; later ones are in [`Ended`].
pub async fn setup(outside: &mut Outside<'_>) -> Result<Ended> {
    let (mut selection, mut known) = selected(outside, needs).await?;
    let need = need(&selection);
    if wizard::is_first_setup(outside, &known, need) {
        wizard::first_setup(outside, known, need).await?;
        (selection, known) = selected(outside, needs).await?;
    }
    let session = open(outside, needs(&selection), known).await?;
    let mut plan = engine::plan(session.reads(), &selection).await;
    let prune = session.run().settings.prune;
    let stale = prune::plan(session.reads(), prune).await?;
    outside.ui.event(&header(&session).await);
    let changes = plan.changes() + if prune { stale.len() } else { 0 };
    match show(outside, &session, &plan, &stale, changes).await {
        Ok(None) => {}
        Ok(Some(ended)) => return Ok(ended),
        Err(failure) => return Err(wizard::go_on(failure)),
    }
    if changes > 0 || !session.notes().recorded || session.has_new_settings() {
        outside.adopt(&session).await?;
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
    if session.products.online.get().is_some() {
        plan.solve(Part::Runner);
    }
    if changed {
        for line in plan.all().filter(|line| line.decision == Decision::Warning) {
            outside.ui.event(&Event::Warning { text: line.text.clone() });
        }
        outside.ui.event(&Event::Next { lines: next(&session)? });
    }
    Ok(done(outside, &session, &plan, changed))
}

/// What these steps need.
pub(super) fn needs(selection: &[&'static dyn AnyStep]) -> Needs {
    Needs {
        gitlab: need(selection),
        cache: selection.iter().any(|step| step.info().keys.contains(&"cacheType")),
        parts: selection.iter().filter_map(|step| step.info().part).collect(),
        ..Needs::default()
    }
}

/// What these steps need of GitLab's side.
fn need(selection: &[&'static dyn AnyStep]) -> Need {
    selection.iter().map(|step| step.info().gitlab).max().unwrap_or_default()
}

/// Opens a session for steps with these needs, and refuses another cluster or GitLab than the recorded one.
pub(super) async fn open(outside: &mut Outside<'_>, needs: Needs, known: Known) -> Result<Session> {
    let needs = Needs { writes: !outside.options.dry_run && !outside.options.plan, ..needs };
    let session = outside.open(needs, known).await?;
    session.check().await?;
    session.check_owner()?;
    if session.run().script_path().as_os_str() == "-" {
        check_stdout(outside)?;
    }
    Ok(session)
}

/// Shows the plan and asks for confirmation. Returns the result if the run ends here.
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
        let pending = outside.options.exit_code && (changes > 0 || plan.unhealthy() + plan.unchecked() > 0);
        let text = if changes == 0 { "Nothing to change" } else { "Nothing was changed" };
        let text = format!("{text}{}.", and_others(plan));
        let status = differences(plan, changes);
        return Ok(Some(Ended { pending, status, ..Ended::well(false, text) }));
    }
    // Checked before the first change, and only in runs that may write.
    plan.ready(session.reads())?;
    if changes > 0 && !outside.consents() {
        if !outside.ui.interactive() {
            return Err(unconfirmed(&format!("applying {}", count(changes, "change"))));
        }
        let warnings = plan.warnings();
        if !outside.asking(|ask| wizard::confirm_plan(ask, changes, warnings)).await? {
            return Err(Failure::new(Id::NotConfirmed, "the plan was not confirmed"));
        }
    }
    Ok(None)
}

/// Applies the plan, and prints a script that goes to stdout.
pub(super) async fn apply(outside: &Outside<'_>, session: &Session, plan: &mut Plan) -> Result<bool> {
    let watch = Watch { stop: &|| session.stop(), mutations: &|| session.mutations() };
    let applied = engine::apply(session.writes(), plan, &watch).await;
    // A port that a step opened before create-vm's turn.
    let left = session.machine.leave().await;
    let changed = match (applied, left) {
        (Ok(changed), Ok(_)) => changed,
        (Err(failure), Ok(_)) | (Ok(_), Err(failure)) => return Err(with_price(session, failure)),
        // It was tried and told already.
        (Err(failure), Err(_)) if failure.clone().each().any(|one| one.id == Id::PortsLeft) => {
            return Err(with_price(session, failure));
        }
        (Err(failure), Err(mut left)) => {
            left.also.push(failure);
            return Err(with_price(session, left));
        }
    };
    if let Some(text) = session.products.script.get().and_then(|written| written.to_stdout.as_ref()) {
        write_product(outside, text.expose().as_bytes())?;
    }
    Ok(changed)
}

/// A failure says which VM stays, and what it costs.
fn with_price(session: &Session, failure: Failure) -> Failure {
    match session.notes().record().vm.as_ref() {
        Some(vm) if vm.arn.is_empty() => failure.detail(
            "VM",
            format!(
                "{} may have been made in {} ({}), with ports 22 and 80 open; the same command looks, and \
                 teardown deletes it",
                vm.name,
                vm.region,
                vm.price()
            ),
        ),
        Some(vm) => failure
            .detail("VM", format!("{} stays in {}, {}; teardown deletes it", vm.name, vm.region, vm.price())),
        None => failure,
    }
}

/// The last line.
pub(super) fn done(outside: &Outside<'_>, session: &Session, plan: &Plan, changed: bool) -> Ended {
    let text = if changed { "Done" } else { "Nothing to change" };
    let text = format!("{text}{}.", and_others(plan));
    // What was just made has not been looked at in use: a new runner has no machine yet.
    let status = if changed { differences(plan, 0) } else { proved(plan, 0) };
    Ended {
        last: expiry(outside, session),
        pending: plan.unchecked() > 0,
        status,
        ..Ended::well(changed, text)
    }
}

/// The plan, with the objects that the settings no longer use.
pub(super) fn with_stale(plan: &Plan, stale: &[Line<prune::Act>], prune: bool) -> Event {
    let mut shown = plan.shown();
    if let Event::Plan { lines, changes, .. } = &mut shown {
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

/// `status` as a machine without the record needs it: with what neither the ServiceAccount's annotations nor the
/// defaults tell there.
fn elsewhere(session: &Session, uid: &str) -> Option<Hint> {
    let settings = &session.run().settings;
    let arguments = ["outrigger", "status", "--deployment", &settings.deployment.value];
    let (_, matches) = cli::parse(arguments.map(Into::into).into(), &step_help()).ok()?;
    let env = BTreeMap::new();
    let home = Some(settings.state_dir.clone());
    let inputs = Inputs {
        matches: &matches,
        env: &env,
        file: None,
        noted: None,
        asked: settings::Remembered::new(),
        home,
    };
    let defaults = settings::resolve(&inputs, |_, _| Ok(settings::Remembered::new())).ok()?;
    let mut words = vec![format!("status --anchor-uid {uid}")];
    let mut files = Vec::new();
    for row in
        SETTINGS.iter().filter(|row| row.recorded && ![Group::Connection, Group::Vm].contains(&row.group))
    {
        let told = (NOTED.contains(&row.key) && row.key != "namespace")
            || ["gitlabTokenFile", "script"].contains(&row.key);
        let value = |settings: &Settings| settings.view(row.key).map(|(values, _)| values);
        let Some(values) =
            value(settings).filter(|values| !told && value(&defaults).as_ref() != Some(values))
        else {
            continue;
        };
        if row.kind == settings::Kind::Path {
            files.extend(values);
            words.push(format!("{} FILE", row.dashed));
        } else {
            words.extend(settings::flags(row, &values));
        }
    }
    let arn = session.notes().record().vm.as_ref().map(|vm| vm.arn.clone()).filter(|arn| !arn.is_empty());
    words.extend(arn.as_ref().map(|arn| format!("--create-vm --vm-arn {arn}")));
    let mut text =
        "Check it from a machine without a record, such as CI, with a kubeconfig for the cluster".to_owned();
    if session.gitlab.is_connected() {
        text += ", a token in GITLAB_TOKEN";
    }
    if arn.is_some() {
        text += ", AWS credentials";
    }
    for file in files {
        let _ = write!(text, ", a copy of {file} for FILE");
    }
    Some(Hint::new(text, Command::Outrigger(words.join(" "), Aim::Elsewhere)))
}

fn next(session: &Session) -> Result<Vec<Hint>> {
    let run = session.run();
    let mut lines = match session.products.script.get() {
        Some(written) if !run.includes(Part::Pipeline) && !run.includes(Part::Host) => {
            Delivery::of(run)?.next(run, written.brings)
        }
        _ => Vec::new(),
    };
    let waits = session.products.script.get().is_some() && !run.includes(Part::Pipeline);
    if waits && session.gitlab.is_connected() && run.settings.project.is_some() {
        lines.push(Hint::new(
            "Then commit the pipeline file and run the first pipeline",
            Command::outrigger("setup --commit-pipeline --run-pipeline"),
        ));
    }
    lines.push(Hint::new("Check the deployment", Command::outrigger("status")));
    let settings = &run.settings;
    lines.push(same_without_prompts(settings, session.gitlab.is_connected()));
    if let Some(uid) = session.notes().record().uid_of(&run.names.account()) {
        lines.extend(elsewhere(session, uid));
    }
    lines.push(Hint::new("Remove it", Command::teardown("")));
    Ok(lines)
}

/// This run as it was, without prompts. What was typed or came from stdin is given in another way.
fn same_without_prompts(settings: &Settings, uses_gitlab: bool) -> Hint {
    let mut text = "Run the same setup without prompts".to_owned();
    let mut words = "--non-interactive".to_owned();
    let is_file = settings.gitlab_token_file.as_ref().is_some_and(|file| file.value.as_os_str() != "-");
    if uses_gitlab && !is_file {
        text += ", with your GitLab access token in GITLAB_TOKEN";
    }
    for row in settings.read_from_stdin().filter(|row| row.key != "gitlabTokenFile") {
        text += ", with a file of what was read from stdin for PATH";
        let _ = write!(words, " {} PATH", row.dashed);
    }
    Hint::new(text, Command::again(words))
}

/// Refuses a script on stdout on a terminal, in JSON and in CI: it contains two secrets.
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
