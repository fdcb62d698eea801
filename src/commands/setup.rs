//! `setup`, and each step by its own name.

use std::rc::Rc;

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::files;
use crate::commands::session::{Needs, Outside};
use crate::commands::wizard;
use crate::commands::{Ended, adopt_objects, expiry, header, preflight, write_product};
use crate::deployment::plan::Act;
use crate::engine::{self, Planned};
use crate::machine::script_files::Delivery;
use crate::settings::{Need, Output, Settings, shell_word};
use crate::steps::context::Context;
use crate::steps::{self};

/// `setup`, and each step by itself: the same path, with another selection.
pub async fn forward(outside: &mut Outside<'_>, single: Option<&str>) -> Result<Ended> {
    let options = outside.options.clone();
    if options.print_commands && single == Some("launch-script") {
        return super::print_commands(outside).await;
    }
    if options.uninstall && single == Some("launch-script") {
        return super::uninstall(outside).await;
    }
    let step = single.and_then(steps::find);
    let known;
    let selection = match single {
        // preflight looks at everything that setup would do, and does nothing.
        Some(name) if name != "preflight" => {
            known = outside.settings().await?;
            engine::alone(name)
        }
        _ => {
            let mut selection = engine::select(&options.only, &options.skip, options.from.as_deref())?;
            known = outside.settings().await?;
            engine::drop_unasked(&mut selection, &options.only, &known.0, known.1.as_ref());
            selection
        }
    };
    let prints = step.is_some_and(steps::Step::prints_always) || options.print;
    let reads_only =
        options.dry_run || step.is_some_and(|step| step.name() == "preflight" || step.prints_always());
    let needs = Needs {
        writes: !reads_only,
        gitlab: if prints || single == Some("preflight") { Need::Nothing } else { need(&selection) },
        again: single == Some("create-runner"),
        no_cluster: prints && step.is_some_and(|step| !step.print_needs_cluster()),
    };
    let session = match outside.open(needs, known).await {
        // Preflight says of a cluster that is not there what it leaves unchecked.
        Err(failure) if single == Some("preflight") && failure.kind == Kind::Deadline => {
            return Err(nothing_else(outside, failure));
        }
        session => session?,
    };
    let cx = &session.cx;
    cx.facts.alone.set(single.is_some_and(|name| name != "preflight"));
    if prints && let Some(step) = step.filter(|step| !step.print_needs_cluster()) {
        return print(outside, cx, step).await;
    }
    // The version is asked for on the way: the plan needs it next.
    if let Err(failure) = tokio::join!(engine::check_cluster(cx), cx.version()).0 {
        return Err(if single == Some("preflight") { nothing_else(outside, failure) } else { failure });
    }
    cx.certain()?;
    engine::check_gitlab(cx)?;

    if prints && let Some(step) = step {
        return print(outside, cx, step).await;
    }
    if cx.script_path().as_os_str() == "-" {
        check_stdout(outside)?;
    }

    let planned = engine::plan(cx, &selection).await;
    let stale = if single.is_none() { engine::moved(cx, cx.settings.prune).await? } else { Vec::new() };
    outside.ui.event(&header(cx).await);
    if single == Some("preflight") {
        let unlooked = preflight::unlooked(cx);
        for check in cx.facts.checks.borrow().iter().chain(&preflight::checks(&planned)).chain(&unlooked) {
            outside.ui.event(check);
        }
        let refusals: Vec<_> =
            engine::refusals(&planned).into_iter().filter(|one| !engine::is_missing_input(one)).collect();
        return Ok(if refusals.is_empty() {
            Ended::well(false, preflight::verdict(cx))
        } else {
            Ended::failed(refusals, false)
        });
    }
    let refusals = engine::refusals(&planned);
    let changes = engine::changes(&planned) + if cx.settings.prune { stale.len() } else { 0 };
    let notable = planned.iter().flat_map(|one| &one.lines).any(|line| line.notable);
    let show_plan = changes > 0 || options.dry_run || !stale.is_empty() || notable;
    if show_plan && refusals.is_empty() {
        outside.ui.event(&with_stale(&planned, &stale, cx.settings.prune));
    }
    if !refusals.is_empty() {
        return Ok(Ended::failed(refusals, false));
    }
    if options.dry_run {
        let pending = options.exit_code && changes > 0;
        let text =
            if changes == 0 { "Nothing to change.".to_owned() } else { "Nothing was changed.".to_owned() };
        return Ok(Ended { pending, ..Ended::well(false, text) });
    }
    // Found out before anything is made, and not by those who only look.
    for line in planned.iter().flat_map(|one| &one.lines) {
        if let Act::WriteScript(path) = &line.act
            && path.as_os_str() != "-"
        {
            files::check_writable(path)?;
            if let Some(secrets) = Delivery::of(cx)?.secrets() {
                files::check_writable(&secrets)?;
            }
        }
    }
    if changes > 0 && outside.ui.interactive() && !options.yes {
        let ui = Rc::clone(&outside.ui);
        let ask = &mut *outside.ask;
        if !ui.pause(|| wizard::confirm_plan(ask, changes))? {
            return Err(Failure::new(Id::NotConfirmed, "not confirmed"));
        }
    }

    if changes > 0 {
        adopt_objects(cx).await?;
        // The first write is to our own disk: if that fails, nothing was changed.
        cx.save().map_err(|failure| failure.with_kind(Kind::Refused))?;
    } else if !cx.recorded && needs.writes && single.is_none() {
        adopt_objects(cx).await?;
        cx.save().map_err(|failure| failure.with_kind(Kind::Refused))?;
    }
    let mutations = cx.mutations();
    let applied = match engine::apply(cx, &planned).await {
        Ok(applied) => applied,
        Err(failure) => return Ok(Ended::failed(vec![failure], cx.mutations() > mutations)),
    };
    if let Some(text) = cx.facts.script_text.borrow().as_ref() {
        write_product(outside, text.expose().as_bytes())?;
    }
    if cx.settings.prune
        && !stale.is_empty()
        && let Err(failure) = engine::prune(cx, &stale).await
    {
        return Ok(Ended::failed(vec![failure], true));
    }
    let changed = applied.changed || (cx.settings.prune && !stale.is_empty());
    if single.is_none() && changed {
        outside.ui.event(&Event::Next { lines: next(cx)? });
    } else if let Some(with_secrets) = cx.facts.script_written.get()
        && single == Some("launch-script")
    {
        outside.ui.event(&Event::Next { lines: Delivery::of(cx)?.next(cx, with_secrets) });
    }
    let text = if changed { "Done." } else { "Nothing to change, no write." };
    Ok(Ended { last: expiry(cx).await, ..Ended::well(changed, text) })
}

/// What the selected steps need of GitLab's side.
fn need(selection: &[&'static dyn steps::Step]) -> Need {
    selection.iter().map(|step| step.gitlab()).max().unwrap_or_default()
}

async fn print(outside: &Outside<'_>, cx: &Context, step: &'static dyn steps::Step) -> Result<Ended> {
    if let Some(bytes) = step.print(cx).await? {
        write_product(outside, &bytes)?;
    }
    if step.prints_always() {
        // What the data is, beside it: stdout has the data alone.
        for text in step.plan(cx).await?.into_iter().flat_map(|line| line.detail) {
            outside.ui.event(&Event::Warning { text });
        }
        let done = step.apply(cx, &[]).await?;
        let step = step.name().to_owned();
        outside.ui.event(&Event::StepDone { step, changed: done.changed, text: done.text });
    }
    Ok(Ended::well(false, ""))
}

/// Shows what cannot be checked without the cluster, which is everything.
fn nothing_else(outside: &Outside<'_>, failure: Failure) -> Failure {
    for check in &preflight::nothing_else(&failure) {
        outside.ui.event(check);
    }
    failure
}

pub(super) fn with_stale(planned: &[Planned], stale: &[crate::deployment::plan::Line], prune: bool) -> Event {
    let Event::Plan { mut lines, changes } = engine::shown(planned) else { return engine::shown(planned) };
    for line in stale {
        lines.push(crate::base::event::PlanLine {
            step: "prune".to_owned(),
            mark: if prune { engine::mark(line.decision) } else { crate::base::event::Mark::Keep },
            text: if prune { line.text.clone() } else { format!("{}; stays without --prune", line.text) },
            detail: line.detail.clone(),
        });
    }
    Event::Plan { lines, changes: changes + if prune { stale.len() } else { 0 } }
}

/// `status` as a machine without the record needs it: with the places that only this one remembers.
fn elsewhere(settings: &Settings, uid: &str) -> String {
    let mut words = vec!["outrigger status".to_owned()];
    // What was given in this run is repeated anyway.
    if settings.anchor_uid.is_none() {
        words.push(format!("--anchor-uid {uid}"));
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
    words.join(" ")
}

fn next(cx: &Context) -> Result<Vec<String>> {
    let same = |start: &str| format!("  {}", cx.settings.same_deployment(start, &[]));
    let mut lines = match cx.facts.script_written.get() {
        Some(with_secrets) if !cx.is_selected("run-pipeline") => Delivery::of(cx)?.next(cx, with_secrets),
        _ => Vec::new(),
    };
    if !lines.is_empty() && cx.gitlab.client.is_some() && cx.settings.project.is_some() {
        lines.push("Then commit the pipeline file, run the first pipeline and watch it:".to_owned());
        lines.push(same("outrigger setup --commit-pipeline --run-pipeline"));
    }
    lines.push("See what is there, and whether it still works:".to_owned());
    lines.push(same("outrigger status"));
    lines.push("Do the same without questions:".to_owned());
    lines.push(format!("  {}", cx.settings.equivalent_command()));
    if let Some(uid) = cx.record.borrow().uid_of(&cx.names.account()) {
        lines.push("Look at it from a machine that has no record of it, such as CI:".to_owned());
        lines.push(same(&elsewhere(&cx.settings, uid)));
    }
    lines.push("Take it all away:".to_owned());
    lines.push(same("outrigger teardown"));
    Ok(lines)
}

/// A script on stdout holds two secrets: not on a terminal, not in JSON, not in a CI log.
fn check_stdout(outside: &Outside<'_>) -> Result<()> {
    let ci = outside.env.get("CI").is_some_and(|value| !value.is_empty());
    let shown = outside.ui.stdout_is_terminal() || outside.options.output == Output::Json || ci;
    if shown && !outside.options.secrets_to_stdout {
        return Err(Failure::new(
            Id::InvalidInput,
            "the launch script holds two secrets, and stdout would show them",
        )
        .hint("name a file with --script FILE, or say --secrets-to-stdout if that is what you want"));
    }
    Ok(())
}
