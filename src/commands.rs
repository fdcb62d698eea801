//! What each subcommand does with the engine: `setup`, one step, `status`, `teardown`, `list`.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::engine::{self, Planned};
use crate::error::{Failure, Kind, Result};
use crate::files;
use crate::plan::{Act, Decision};
use crate::record::Record;
use crate::report::{Event, Reporter as _};
use crate::session::{Needs, Outside};
use crate::settings::Output;
use crate::settings::shell_word;
use crate::steps::{self, STEPS};
use crate::wizard;

/// How a command ended.
pub struct Ended {
    /// Failures, the one that names the exit code first; empty means well.
    pub failures: Vec<Failure>,
    /// Whether anything is different now.
    pub changed: bool,
    /// The last line.
    pub text: String,
    /// Exit 10 although nothing failed.
    pub pending: bool,
}

impl Ended {
    fn well(changed: bool, text: impl Into<String>) -> Self {
        Self { failures: Vec::new(), changed, text: text.into(), pending: false }
    }

    fn failed(failures: Vec<Failure>, changed: bool) -> Self {
        Self { failures, changed, text: String::new(), pending: false }
    }
}

/// `setup`, and each step by itself: the same path, with another selection.
pub async fn forward(outside: &mut Outside<'_>, single: Option<&str>) -> Result<Ended> {
    let options = outside.options.clone();
    let selection = match single {
        Some(name) => engine::alone(name),
        None => engine::select(&options.only, &options.skip, options.from.as_deref())?,
    };
    let step = single.and_then(steps::find);
    let prints = step.is_some_and(super::steps::Step::prints_always) || options.print;
    let reads_only =
        options.dry_run || step.is_some_and(|step| step.name() == "preflight" || step.prints_always());
    let needs = Needs {
        writes: !reads_only,
        gitlab: selection.iter().any(|step| step.keys().contains(&"gitlabUrl")),
    };
    let session = outside.open(needs).await?;
    let cx = &session.cx;
    cx.facts.alone.set(single.is_some());
    engine::check_cluster(cx).await?;

    if prints && let Some(step) = step {
        if let Some(bytes) = step.print(cx).await? {
            write_data(outside, &bytes)?;
        }
        return Ok(Ended::well(false, ""));
    }
    if cx.script_path().as_os_str() == "-" {
        check_stdout(outside)?;
    }

    let planned = engine::plan(cx, &selection).await;
    let stale = if single.is_none() { engine::moved(cx) } else { Vec::new() };
    outside.ui.event(&header(cx).await);
    if single == Some("preflight") {
        for check in cx.facts.checks.borrow().iter() {
            outside.ui.event(check);
        }
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
    if changes > 0 && outside.ui.interactive() && !options.yes {
        let ui = Rc::clone(&outside.ui);
        let ask = &mut *outside.ask;
        if !ui.pause(|| wizard::confirm_plan(ask, changes))? {
            return Err(Failure::new("OR0309", Kind::Refused, "not confirmed"));
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
    let mutations = cx.cluster.mutations();
    let applied = match engine::apply(cx, &planned).await {
        Ok(applied) => applied,
        Err(failure) => return Ok(Ended::failed(vec![failure], cx.cluster.mutations() > mutations)),
    };
    if let Some(text) = cx.facts.script_text.borrow().as_ref() {
        write_data(outside, text.expose().as_bytes())?;
    }
    if cx.settings.prune
        && !stale.is_empty()
        && let Err(failure) = engine::prune(cx, &stale).await
    {
        return Ok(Ended::failed(vec![failure], true));
    }
    if single.is_none() && applied.changed {
        outside.ui.event(&Event::Next { lines: next(cx) });
    }
    let text = if applied.changed { "Done." } else { "Nothing to change, no write." };
    Ok(Ended::well(applied.changed, text))
}

/// Takes the uids of what was found through the anchor, or applied by an administrator, into the record:
/// from then on they are known by identity.
async fn adopt_objects(cx: &crate::context::Context) -> Result<()> {
    let names = &cx.names;
    let mut all =
        vec![names.account(), names.job_account(), names.role(), names.role_binding(), names.token_secret()];
    all.extend(names.namespaces().into_iter().filter(|namespace| !cx.is_used(&namespace.name)));
    for reference in all {
        if let Some(live) = cx.read(&reference).await.map_err(Failure::from)?
            && cx.owner(&live).await == crate::ownership::Owner::Us
        {
            cx.record.borrow_mut().own(&reference, live.uid());
        }
    }
    let anchor = cx.read(&names.account()).await.map_err(Failure::from)?;
    let noted =
        |key| anchor.as_ref().and_then(|anchor| anchor.annotation(key)).unwrap_or_default().to_owned();
    let mut record = cx.record.borrow_mut();
    record.settings = cx.settings.recorded();
    if record.script_digest.is_empty() {
        record.script_digest = noted(crate::names::SCRIPT_DIGEST);
    }
    if record.token_expires.is_empty() {
        record.token_expires = noted(crate::names::TOKEN_EXPIRES);
    }
    Ok(())
}

fn with_stale(planned: &[Planned], stale: &[crate::plan::Line], prune: bool) -> Event {
    let Event::Plan { mut lines, changes } = engine::shown(planned) else { return engine::shown(planned) };
    for line in stale {
        lines.push(crate::report::PlanLine {
            step: "prune".to_owned(),
            mark: if prune { crate::report::Mark::Remove } else { crate::report::Mark::Keep },
            text: if prune { line.text.clone() } else { format!("{}; stays without --prune", line.text) },
            detail: Vec::new(),
        });
    }
    Event::Plan { lines, changes: changes + if prune { stale.len() } else { 0 } }
}

async fn header(cx: &crate::context::Context) -> Event {
    let settings = &cx.settings;
    let version = cx.version().await.cloned().unwrap_or_default();
    let mut rows = vec![(
        "cluster".to_owned(),
        format!("{} at {}, {version}", cx.target.context, cx.target.endpoint.url),
        cx.target.context_source.clone(),
    )];
    if let Ok(operator) = cx.operator().await {
        rows.push(("you".to_owned(), operator.name.clone(), "asked the server".to_owned()));
    }
    if let Some(url) = &settings.gitlab_url {
        rows.push(("gitlab".to_owned(), url.value.clone(), url.source.to_string()));
    }
    rows.push((
        "runner".to_owned(),
        format!("gitlab-runner {}, tags {}", settings.runner_version.value, settings.tags.value.join(",")),
        settings.tags.source.to_string(),
    ));
    rows.push((
        "pods in".to_owned(),
        settings.namespace.value.clone(),
        settings.namespace.source.to_string(),
    ));
    rows.push((
        "account".to_owned(),
        format!("{}/{}", settings.runner_namespace.value, settings.deployment.value),
        settings.runner_namespace.source.to_string(),
    ));
    Event::Header { deployment: settings.deployment.value.clone(), rows }
}

fn next(cx: &crate::context::Context) -> Vec<String> {
    let deployment = &cx.names.deployment;
    let named = if deployment == "kubernetes-runner" {
        String::new()
    } else {
        format!(" --deployment {}", shell_word(deployment))
    };
    let mut lines = vec![
        "Create a VM (Lightsail, or any other; Ubuntu 24.04 or Debian 12) with this as its launch script:"
            .to_owned(),
        format!("  {}", cx.script_path().display()),
        "See what is there, and whether it still works:".to_owned(),
        format!("  outrigger status{named}"),
    ];
    lines.push("Do the same without questions:".to_owned());
    lines.push(format!("  {}", cx.settings.equivalent_command()));
    lines.push("Take it all away:".to_owned());
    lines.push(format!("  outrigger teardown{named}"));
    lines
}

/// `status`: the plan that setup would make, the proofs, and exit 10 when the plan is not empty.
pub async fn status(outside: &mut Outside<'_>) -> Result<Ended> {
    let selection = engine::select(&[], &[], None)?;
    let session = outside.open(Needs::default()).await?;
    let cx = &session.cx;
    engine::check_cluster(cx).await?;
    let planned = engine::plan(cx, &selection).await;
    outside.ui.event(&header(cx).await);
    // What setup would still have to be told is no fault of what is there.
    let refusals: Vec<Failure> =
        engine::refusals(&planned).into_iter().filter(|failure| failure.id != "OR0201").collect();
    let changes = engine::changes(&planned);
    outside.ui.event(&engine::shown(&planned));
    if !refusals.is_empty() {
        return Ok(Ended::failed(refusals, false));
    }
    let mut failures = Vec::new();
    // What setup is going to change is not worth proving; it proves what it made.
    for one in planned.iter().filter(|_| changes == 0) {
        match one.step.prove(cx).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                outside.ui.event(&Event::StepDone { step: one.step.name().to_owned(), changed: false, text });
            }
            Err(failure) => {
                outside.ui.event(&Event::StepFailed {
                    step: one.step.name().to_owned(),
                    text: failure.message.clone(),
                });
                failures.push(failure);
            }
        }
    }
    if !failures.is_empty() {
        return Ok(Ended::failed(failures, false));
    }
    if changes > 0 {
        let named = shell_word(&cx.names.deployment);
        let text = format!(
            "{} pending: outrigger setup --deployment {named} makes it so.",
            steps::count(changes, "change")
        );
        return Ok(Ended { pending: true, ..Ended::well(false, text) });
    }
    Ok(Ended::well(false, "As setup left it."))
}

/// `teardown`: the list backwards.
pub async fn teardown(outside: &mut Outside<'_>) -> Result<Ended> {
    let options = outside.options.clone();
    if !outside.ui.interactive() && !options.yes && !options.dry_run {
        return Err(Failure::new("OR0201", Kind::Usage, "teardown needs consent, and nobody is here to ask")
            .hint("add --yes; to see what it would remove: outrigger teardown --dry-run"));
    }
    if options.cluster_gone {
        return cluster_gone(outside);
    }
    let selection = engine::select(&options.only, &options.skip, options.from.as_deref())?;
    let session = outside.open(Needs { writes: !options.dry_run, gitlab: false }).await?;
    let cx = &session.cx;
    engine::check_cluster(cx).await?;
    let planned = engine::plan_undo(cx, &selection).await;
    let refusals = engine::refusals(&planned);
    let changes = engine::changes(&planned);
    outside.ui.event(&Event::Note { text: format!("This removes {}:", cx.names.deployment) });
    outside.ui.event(&engine::shown(&planned));
    if options.dry_run {
        let pending = options.exit_code && changes > 0;
        return Ok(Ended { pending, ..Ended::well(false, "Nothing was changed.") });
    }
    if changes == 0 {
        if !refusals.is_empty() {
            return Ok(Ended::failed(refusals, false));
        }
        forget(cx);
        return Ok(Ended::well(false, format!("Nothing of {} is there.", cx.names.deployment)));
    }
    confirm(outside, &cx.names.deployment)?;
    // A teardown that stops half-way must know what is ours when it goes on.
    adopt_objects(cx).await?;
    cx.save().map_err(|failure| failure.with_kind(Kind::Refused))?;

    let mut failures = engine::undo(cx, &planned).await;
    let changed = cx.cluster.mutations() > 0 || changes > 0;
    failures.extend(refusals);
    if let Err(failure) = crate::borrowed::release_held(cx).await {
        failures.push(failure);
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
    if failures.is_empty() {
        forget(cx);
    }
    receipt(outside, &receipt_text(cx, &planned, &failures).await)?;
    if failures.is_empty() {
        let text = if options.keep_namespaces { "Nothing else" } else { "Nothing" };
        return Ok(Ended::well(changed, format!("{text} of {} is left.", cx.names.deployment)));
    }
    let again = format!("outrigger teardown --deployment {}", shell_word(&cx.names.deployment));
    let failures = failures
        .into_iter()
        .map(|failure| {
            let failure = if failure.kind == Kind::Unclassified || failure.kind == Kind::Refused {
                failure.with_kind(Kind::Partial)
            } else {
                failure
            };
            if failure.hints.is_empty() { failure.hint(again.clone()) } else { failure }
        })
        .collect();
    Ok(Ended::failed(failures, changed))
}

fn confirm(outside: &mut Outside<'_>, deployment: &str) -> Result<()> {
    if outside.options.yes {
        return Ok(());
    }
    let ui = Rc::clone(&outside.ui);
    let ask = &mut *outside.ask;
    if ui.pause(|| wizard::confirm_name(ask, deployment))? {
        return Ok(());
    }
    Err(Failure::new("OR0309", Kind::Refused, "not confirmed"))
}

/// The cluster no longer exists: what is here goes, and the receipt says that nothing was read back.
fn cluster_gone(outside: &mut Outside<'_>) -> Result<Ended> {
    let (settings, record) = outside.settings()?;
    let deployment = settings.deployment.value.clone();
    let Some(record) = record else {
        return Err(Failure::new(
            "OR0301",
            Kind::Refused,
            format!("there is no record of {deployment} on this machine"),
        )
        .hint("outrigger list names the deployments that are known here"));
    };
    let _lock = files::lock(&settings.state_dir.join(format!("{deployment}.lock")))?;
    confirm(outside, &deployment)?;
    let mut text = format!("{deployment}: the cluster {} is gone; not read back:\n", record.cluster.context);
    for owned in &record.objects {
        let _ = writeln!(text, "  {} ({})", owned.object, owned.uid);
    }
    if let Some(path) = &record.script_path
        && let Some(bytes) = files::read(path)?
        && crate::template::is_ours(&String::from_utf8_lossy(&bytes), &deployment)
    {
        files::remove(path)?;
        let _ = writeln!(text, "  {} removed", path.display());
    }
    files::remove(&Record::path(&settings.state_dir, &deployment))?;
    receipt(outside, &text)?;
    Ok(Ended::well(true, format!("Nothing of {deployment} is left here; the cluster was not asked.")))
}

/// Removes what is known on this machine, lock last.
fn forget(cx: &crate::context::Context) {
    let dir = &cx.settings.state_dir;
    let deployment = &cx.names.deployment;
    let _ = files::remove(&Record::path(dir, deployment));
    let _ = files::remove(&dir.join(format!("{deployment}.lock")));
    files::remove_empty_dir(&dir.join(deployment));
    files::remove_empty_dir(dir);
}

/// What became of each line, as it is now and not as it was planned.
async fn receipt_text(cx: &crate::context::Context, planned: &[Planned], failures: &[Failure]) -> String {
    let mut text = format!("{}: teardown at {}\n", cx.names.deployment, jiff::Timestamp::now());
    for line in planned.iter().flat_map(|one| &one.lines) {
        let gone = match &line.act {
            Act::Delete(reference, _) | Act::Release(reference, _) => {
                cx.read(reference).await.is_ok_and(|live| live.is_none())
            }
            Act::RemoveFile(path) => !path.exists(),
            Act::Bind(_) => continue,
            _ => false,
        };
        let state = match line.decision {
            Decision::Refuse => "left, not ours",
            _ if gone => "removed",
            decision if decision.is_change() => "left",
            _ => "kept",
        };
        let _ = writeln!(text, "  {state:<15}{}", line.text);
    }
    for failure in failures {
        let _ = writeln!(text, "  {:<15}{failure}", "failed");
    }
    text
}

fn receipt(outside: &Outside<'_>, text: &str) -> Result<()> {
    match &outside.options.receipt {
        Some(path) if path.as_os_str() != "-" => files::write_private(path, text.as_bytes()),
        _ => write_data(outside, text.as_bytes()),
    }
}

/// `list`: the deployments known on this machine, or with `--cluster` in the cluster.
pub async fn list(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    if outside.options.list_cluster {
        let session = outside.open(Needs::default()).await?;
        let path = "/api/v1/serviceaccounts?labelSelector=app.kubernetes.io%2Fmanaged-by%3Doutrigger";
        let items = session
            .cx
            .cluster
            .list_metadata("list outrigger's ServiceAccounts in the cluster", path)
            .await
            .map_err(Failure::from)?;
        for item in items {
            let meta = &item["metadata"];
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let deployment = text(&meta["annotations"][crate::names::DEPLOYMENT]);
            // The jobs' account is labelled too; only the anchor bears the deployment's own name.
            if deployment == text(&meta["name"]) {
                rows.push([
                    deployment,
                    session.cx.target.context.clone(),
                    text(&meta["namespace"]),
                    String::new(),
                ]);
            }
        }
    } else {
        let (settings, _) = outside.settings()?;
        for path in files::list(&settings.state_dir) {
            let Some(name) =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"))
            else {
                continue;
            };
            match Record::load(&settings.state_dir, name) {
                Ok(Some(record)) => {
                    let namespace = record
                        .settings
                        .get("namespace")
                        .and_then(|values| values.first())
                        .cloned()
                        .unwrap_or_default();
                    rows.push([record.deployment, record.cluster.context, namespace, record.cluster.server]);
                }
                Ok(None) => {}
                Err(failure) => outside.ui.event(&Event::Warning { text: failure.message }),
            }
        }
    }
    if outside.options.output == Output::Json {
        for [deployment, context, namespace, server] in &rows {
            let value = serde_json::json!({"deployment": deployment, "context": context, "namespace": namespace, "server": server});
            write_data(outside, value.to_string().as_bytes())?;
        }
        return Ok(Ended::well(false, ""));
    }
    if rows.is_empty() {
        return Ok(Ended::well(false, "No deployment is known here."));
    }
    let width = rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    let second = rows.iter().map(|row| row[1].len()).max().unwrap_or(0);
    for [deployment, context, namespace, server] in &rows {
        let line = format!("{deployment:<width$}  {context:<second$}  {namespace}  {server}");
        write_data(outside, format!("{}\n", line.trim_end()).as_bytes())?;
    }
    Ok(Ended::well(false, ""))
}

fn write_data(outside: &Outside<'_>, bytes: &[u8]) -> Result<()> {
    outside.ui.data(bytes).map_err(|error| {
        Failure::new("OR0503", Kind::Partial, "cannot write to stdout")
            .detail("the system says", error.to_string())
    })
}

/// A script on stdout holds two secrets: not on a terminal, not in JSON, not in a CI log.
fn check_stdout(outside: &Outside<'_>) -> Result<()> {
    let ci = outside.env.get("CI").is_some_and(|value| !value.is_empty());
    let shown = outside.ui.stdout_is_terminal() || outside.options.output == Output::Json || ci;
    if shown && !outside.options.secrets_to_stdout {
        return Err(Failure::new(
            "OR0202",
            Kind::Usage,
            "the launch script holds two secrets, and stdout would show them",
        )
        .hint("name a file with --script FILE, or say --secrets-to-stdout if that is what you want"));
    }
    Ok(())
}

/// The names of all steps, for the command line.
#[must_use]
pub fn step_help() -> Vec<crate::cli::StepHelp> {
    STEPS
        .iter()
        .map(|step| crate::cli::StepHelp {
            name: step.name(),
            about: step.about(),
            long: step.long(),
            keys: step.keys(),
            flags: step.flags(),
        })
        .collect()
}
