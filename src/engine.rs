//! Plans, applies and undoes a selection of steps. Knows the contract, not the steps.

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Mark, PlanLine};
use crate::cluster::deletion;
use crate::cluster::namespace;
use crate::cluster::remains;
use crate::cluster::temporary_binding;
use crate::deployment::names::ID;
use crate::deployment::object::Object;
use crate::deployment::plan::{Act, Decision, Line};
use crate::deployment::record::{ClusterIdentity, Record};
use crate::settings::Settings;
use crate::steps::context::Context;
use crate::steps::{self, STEPS, Step};

/// What one step decided.
pub struct Planned {
    /// The step.
    pub step: &'static dyn Step,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// How a run ended well.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Whether anything was changed.
    pub changed: bool,
}

/// The steps that `--only`, `--skip` and `--from` leave, in the list's order.
///
/// # Errors
/// Exit 2 naming every unknown step at once.
pub fn select(only: &[String], skip: &[String], from: Option<&str>) -> Result<Vec<&'static dyn Step>> {
    let unknown: Vec<&str> = only
        .iter()
        .chain(skip)
        .map(String::as_str)
        .chain(from)
        .filter(|name| steps::find(name).is_none())
        .collect();
    if !unknown.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name()).collect();
        return Err(Failure::new(
            Id::InvalidInput,
            format!("there is no step called {}", unknown.join(", ")),
        )
        .detail("the steps are", names.join(", ")));
    }
    let start = from.and_then(|name| STEPS.iter().position(|step| step.name() == name)).unwrap_or(0);
    let selected: Vec<&'static dyn Step> = STEPS
        .iter()
        .copied()
        .enumerate()
        .filter(|(index, step)| {
            let named = only.is_empty() || only.iter().any(|name| name == step.name());
            *index >= start && named && !skip.iter().any(|name| name == step.name())
        })
        .map(|(_, step)| step)
        .collect();
    if selected.is_empty() {
        return Err(Failure::new(Id::InvalidInput, "the selection leaves no step to do")
            .hint("look at --only, --skip and --from"));
    }
    Ok(selected)
}

/// Takes out the steps that are done on request only and that nobody asked for; returns their names.
pub fn drop_unasked(
    selection: &mut Vec<&'static dyn Step>,
    only: &[String],
    settings: &Settings,
    record: Option<&Record>,
) -> Vec<&'static str> {
    let mut dropped = Vec::new();
    selection.retain(|step| {
        let asked = step.is_wanted(settings, record) || only.iter().any(|name| name == step.name());
        if !asked {
            dropped.push(step.name());
        }
        asked
    });
    dropped
}

/// One step with those that its subcommand pulls in.
#[must_use]
pub fn alone(name: &str) -> Vec<&'static dyn Step> {
    let pulled = steps::find(name).map(Step::pulls_in).unwrap_or_default();
    STEPS.iter().copied().filter(|step| step.name() == name || pulled.contains(&step.name())).collect()
}

/// Refuses a cluster that is not the recorded one, before anything is written.
///
/// # Errors
/// OR0305 (exit 3) naming both.
pub async fn check_cluster(cx: &Context) -> Result<()> {
    let now = cx.cluster_identity().await?;
    let (uid, fingerprint) = (&now.kube_system, &now.ca_fingerprint);
    let mut record = cx.record.borrow_mut();
    let known = &record.cluster;
    let differs = if !known.kube_system.is_empty() && !uid.is_empty() {
        known.kube_system != *uid
    } else {
        !known.ca_fingerprint.is_empty() && known.ca_fingerprint != *fingerprint
    };
    let describe = |context: &str, server: &str, uid: &str| {
        let identity = if uid.is_empty() {
            "kube-system may not be read".to_owned()
        } else {
            format!("kube-system {uid}")
        };
        format!("{context} at {server} ({identity})")
    };
    if differs {
        return Err(Failure::new(Id::AnotherCluster, format!("{} was set up on another cluster", cx.names.deployment))
            .detail("recorded", describe(&known.context, &known.server, &known.kube_system))
            .detail("now", describe(&cx.target.context, &cx.target.endpoint.url, uid))
            .hint(format!("leave out --context, or name the deployment that lives there with --deployment NAME; if {} no longer exists: outrigger teardown --cluster-gone", known.context)));
    }
    // By its CA it is the same one: what may not be read at this time is still known, and named by marks.
    let kube_system = if uid.is_empty() { known.kube_system.clone() } else { uid.clone() };
    record.cluster = ClusterIdentity { kube_system, ..now };
    Ok(())
}

/// Lets every selected step look and decide, side by side.
pub async fn plan(cx: &Context, selection: &[&'static dyn Step]) -> Vec<Planned> {
    *cx.facts.selected.borrow_mut() = selection.iter().map(|step| step.name()).collect();
    // Decided objects pin the server's version, so it is known before they are.
    let _ = cx.version().await;
    let results = futures_util::future::join_all(selection.iter().map(|step| step.plan(cx))).await;
    gather(selection, results)
}

/// The same for teardown, last step first.
pub async fn plan_undo(cx: &Context, selection: &[&'static dyn Step]) -> Vec<Planned> {
    *cx.facts.selected.borrow_mut() = selection.iter().map(|step| step.name()).collect();
    let results = futures_util::future::join_all(selection.iter().map(|step| step.undo_plan(cx))).await;
    let mut planned = gather(selection, results);
    planned.reverse();
    planned
}

fn gather(selection: &[&'static dyn Step], results: Vec<Result<Vec<Line>>>) -> Vec<Planned> {
    let mut said: Vec<(Id, String)> = Vec::new();
    selection
        .iter()
        .zip(results)
        .map(|(step, result)| {
            let mut lines = result.unwrap_or_else(|failure| vec![Line::refuse(failure)]);
            // Several steps may meet the same obstacle; it is said once.
            lines.retain(|line| match &line.failure {
                None => true,
                Some(failure) => {
                    let key = (failure.id, failure.message.clone());
                    let new = !said.contains(&key);
                    said.push(key);
                    new
                }
            });
            Planned { step: *step, lines }
        })
        .collect()
}

/// Everything that is refused, the most telling first. What preflight said about missing rights
/// covers what other steps met for the same reason.
#[must_use]
pub fn refusals(planned: &[Planned]) -> Vec<Failure> {
    let mut failures: Vec<(bool, Failure)> = planned
        .iter()
        .flat_map(|planned| planned.lines.iter().map(move |line| (planned.step.name() == "preflight", line)))
        .filter_map(|(preflight, line)| line.failure.clone().map(|failure| (preflight, failure)))
        .collect();
    if failures.iter().any(|(preflight, failure)| *preflight && failure.id == Id::MissingRights) {
        failures.retain(|(preflight, failure)| *preflight || failure.id != Id::MissingRights);
    }
    let mut failures: Vec<Failure> = failures.into_iter().map(|(_, failure)| failure).collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
    failures
}

/// Whether it only says what `setup` would still have to be told: no fault of what is there.
#[must_use]
pub fn is_missing_input(failure: &Failure) -> bool {
    failure.id == Id::MissingInput
}

/// How many changes a plan holds.
#[must_use]
pub fn changes(planned: &[Planned]) -> usize {
    let lines = planned.iter().flat_map(|planned| &planned.lines);
    lines.filter(|line| line.decision.is_change() && !line.covered).count()
}

/// The plan as an event. With `all`, what is kept is shown too.
#[must_use]
pub fn shown(planned: &[Planned]) -> Event {
    let lines = planned
        .iter()
        .flat_map(|planned| {
            planned.lines.iter().filter(|line| !line.covered).map(move |line| PlanLine {
                step: planned.step.name().to_owned(),
                mark: mark(line.decision),
                text: line.text.clone(),
                detail: line.detail.clone(),
            })
        })
        .collect();
    Event::Plan { lines, changes: changes(planned) }
}

/// How a decision is marked in a plan.
#[must_use]
pub fn mark(decision: Decision) -> Mark {
    match decision {
        Decision::Create => Mark::Create,
        Decision::Update => Mark::Update,
        Decision::Keep => Mark::Keep,
        Decision::NotNeeded => Mark::NotNeeded,
        Decision::Replace => Mark::Replace,
        Decision::Remove => Mark::Remove,
        Decision::Release => Mark::Release,
        Decision::Refuse => Mark::Refuse,
        Decision::Unknown => Mark::Unknown,
    }
}

/// Carries a plan out. Whatever happens, temporary rights are taken back.
pub async fn apply(cx: &Context, planned: &[Planned]) -> Result<Applied> {
    let mut applied = Applied::default();
    let mut outcome = Ok(());
    for (index, one) in planned.iter().enumerate() {
        let step = one.step;
        cx.reporter.event(&Event::StepStarted { step: step.name().to_owned() });
        let result = match cx.limits.cancel.requested() {
            Some(failure) => Err(failure),
            None => step.apply(cx, &one.lines).await,
        };
        match result {
            Ok(mut done) => {
                applied.changed |= done.changed;
                for released in due(planned, step.name()) {
                    match released.release(cx).await {
                        Ok(None) => {}
                        Ok(Some(text)) => done.text = format!("{}; {text}", done.text),
                        Err(failure) => outcome = Err(failure),
                    }
                }
                cx.reporter.event(&Event::StepDone {
                    step: step.name().to_owned(),
                    changed: done.changed,
                    text: done.text,
                });
                if outcome.is_err() {
                    break;
                }
            }
            Err(failure) => {
                cx.reporter.event(&Event::StepFailed {
                    step: step.name().to_owned(),
                    text: failure.message.clone(),
                });
                let started = applied.changed || cx.mutations() > 0;
                outcome = Err(stopped(failure, step.name(), index, started));
                break;
            }
        }
    }
    // Also after a failure and an interruption, and where `--skip` left the releasing step out.
    for one in planned {
        if one.step.released_after().is_some() {
            match one.step.release(cx).await {
                Ok(Some(text)) if outcome.is_err() => {
                    cx.reporter.event(&Event::Undone { step: one.step.name().to_owned(), text });
                }
                Ok(_) => {}
                Err(release) => outcome = Err(both(release, outcome.err())),
            }
        }
    }
    outcome.map(|()| applied)
}

fn due(planned: &[Planned], done: &str) -> Vec<&'static dyn Step> {
    planned.iter().map(|one| one.step).filter(|step| step.released_after() == Some(done)).collect()
}

/// A failure in the middle: what was refused before anything changed stays "refused", the rest is
/// "part-way" unless its own code says more. That the same command continues is said only of a failure
/// that passes by itself.
fn stopped(failure: Failure, step: &str, index: usize, started: bool) -> Failure {
    let kind = match failure.kind {
        Kind::Refused | Kind::Unclassified | Kind::Usage if started && index > 0 => Kind::Partial,
        kind => kind,
    };
    let failure = failure.with_kind(kind);
    if !started {
        return failure;
    }
    let text = if failure.is_lasting() {
        format!(
            "{step}; what is done stays, and the same command stops here again until the cause is removed"
        )
    } else {
        format!("{step}; what is done stays, and the same command goes on from here")
    };
    failure.detail("stopped at", text)
}

/// A right that could not be taken back outweighs what went wrong before it, and its command stands
/// last.
fn both(release: Failure, first: Option<Failure>) -> Failure {
    match first {
        Some(first) => release.detail("before that", first.to_string()),
        None => release,
    }
}

/// Lets no new work begin and waits for what runs, before anything is taken away.
pub async fn settle(cx: &Context, planned: &[Planned]) -> Result<()> {
    for one in planned {
        if let Some(text) = one.step.settle(cx, &one.lines).await? {
            cx.reporter.event(&Event::Note { text });
        }
    }
    Ok(())
}

/// Refuses a GitLab that is not the recorded one, before anything is written.
///
/// # Errors
/// OR0315 (exit 3) naming both.
pub fn check_gitlab(cx: &Context) -> Result<()> {
    let known = cx.record.borrow().gitlab.clone();
    let (Some(url), false) = (&cx.settings.gitlab_url, known.is_empty() || known.url.is_empty()) else {
        return Ok(());
    };
    if url.value == known.url || cx.options.gitlab_gone {
        return Ok(());
    }
    let deployment = &cx.names.deployment;
    Err(Failure::new(Id::AnotherGitlab, format!("the runner of {deployment} is on another GitLab"))
        .detail("recorded", known.url)
        .detail("now", format!("{} ({})", url.value, url.source))
        .hint(format!("leave out --gitlab-url, or name another deployment with --deployment NAME; if the recorded one no longer exists: outrigger teardown --gitlab-gone --deployment {}", crate::settings::shell_word(deployment))))
}

/// Undoes a plan of removals, going on past failures.
pub async fn undo(cx: &Context, planned: &[&Planned]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for one in planned {
        if !one.lines.iter().any(|line| line.decision.is_change()) {
            continue;
        }
        let step = one.step.name().to_owned();
        cx.reporter.event(&Event::StepStarted { step: step.clone() });
        if let Some(failure) = cx.limits.cancel.requested() {
            failures.push(failure);
            break;
        }
        match one.step.undo(cx, &one.lines).await {
            Ok(done) => cx.reporter.event(&Event::Undone { step, text: done.text }),
            Err(failure) => {
                cx.reporter.event(&Event::StepFailed { step, text: failure.message.clone() });
                failures.push(failure);
            }
        }
    }
    failures
}

/// Objects of the record that today's settings no longer name, if they are still there; with `all` also the
/// right to look into a namespace before it goes, where the operator may not.
pub async fn moved(cx: &Context, all: bool) -> Result<Vec<Line>> {
    let names = &cx.names;
    let mut current =
        vec![names.account(), names.job_account(), names.role(), names.role_binding(), names.token_secret()];
    current.extend(names.namespaces());
    let mut stale: Vec<_> = cx
        .record
        .borrow()
        .objects
        .iter()
        .filter(|owned| {
            !current.contains(&owned.object) && !owned.object.name.starts_with(&names.temporary_prefix())
        })
        .cloned()
        .collect();
    stale.sort_by_key(|owned| match owned.object.kind {
        crate::deployment::object::Kind::Secret => 0,
        crate::deployment::object::Kind::RoleBinding => 1,
        crate::deployment::object::Kind::Role => 2,
        crate::deployment::object::Kind::Namespace => 4,
        _ => 3,
    });
    let mut lines = Vec::new();
    for owned in stale {
        let live = cx.read(&owned.object).await.map_err(Failure::from)?;
        // A uid is no secret, and today's settings do not speak for this object: it has to say itself whose it is.
        let id = cx.id();
        let is_ours = |live: &Object| live.uid() == owned.uid && live.annotation(ID) == Some(&id);
        let Some(live) = live.filter(is_ours) else { continue };
        if owned.object.kind == crate::deployment::object::Kind::Namespace && all && !live.is_terminating() {
            lines.extend(
                temporary_binding::to_look_into(cx, &owned.object.name)
                    .await?
                    .map(|binding| temporary_binding::look_line(cx, binding)),
            );
        }
        let text = format!("{} (the settings have moved)", deletion::shown(&live));
        lines.push(Line::new(Decision::Remove, text, Act::Delete(owned.object, owned.uid)));
    }
    Ok(lines)
}

/// Deletes what the settings no longer name; a namespace only if nothing else is inside. Goes on past
/// failures, and waits in the end.
pub async fn prune(cx: &Context, lines: &[Line]) -> Result<()> {
    let mut failures = Vec::new();
    let mut asked = Vec::new();
    for line in lines {
        let done = match &line.act {
            Act::Bind(binding) => temporary_binding::bind(cx, binding).await.map(drop),
            Act::Delete(reference, uid) => {
                let done = if reference.kind == crate::deployment::object::Kind::Namespace {
                    namespace::delete_if_empty(cx, reference, uid).await.map(drop)
                } else {
                    cx.delete(&cx.cluster, reference, uid).await.map(drop)
                };
                if done.is_ok() {
                    asked.push((reference.clone(), uid.clone()));
                }
                done
            }
            _ => Ok(()),
        };
        failures.extend(done.err());
    }
    failures.extend(temporary_binding::release_held(cx).await.err());
    failures.extend(remains::wait(cx, "prune", &asked).await);
    Failure::together(failures).map_or(Ok(()), Err)
}
