//! Plans, applies and undoes a selection of steps, through the contract only.

mod select;

use futures_util::future::join_all;

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Fold, Mark, PlanLine};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::Part;
use crate::steps::contract::{AnyStep, Deciding, Forecast, Planned, Prints, Purpose, Reads, Writes};

pub use select::{drop_unasked, select};

/// The decisions of all selected steps.
#[derive(Default)]
pub struct Plan {
    /// In the order of execution.
    pub steps: Vec<Box<dyn Planned>>,
    pub forecast: Forecast,
    shown: Vec<Vec<Line>>,
}

/// All selected steps observe, concurrently, and decide, in order.
pub async fn plan(r: Reads<'_>, selection: &[&'static dyn AnyStep]) -> Plan {
    decide(r, selection, Purpose::Setup).await
}

/// The plan of teardown, the last step first.
pub async fn plan_undo(r: Reads<'_>, selection: &[&'static dyn AnyStep]) -> Plan {
    let mut plan = decide(r, selection, Purpose::Teardown).await;
    plan.steps.reverse();
    plan.shown.reverse();
    plan
}

async fn decide(r: Reads<'_>, selection: &[&'static dyn AnyStep], why: Purpose) -> Plan {
    let looked = join_all(selection.iter().map(|step| step.look(r, why))).await;
    let mut plan = Plan::default();
    let mut said: Vec<(Id, String)> = Vec::new();
    for decide in looked {
        let planned = decide(&Deciding { run: r.run, notes: r.notes, forecast: &plan.forecast });
        planned.promise(&mut plan.forecast);
        // The same obstacle may be in the way of several steps; it is shown once.
        let mut lines = planned.lines();
        lines.retain(|line| match &line.failure {
            None => true,
            Some(failure) => {
                let key = (failure.id, failure.message.clone());
                let new = !said.contains(&key);
                said.push(key);
                new
            }
        });
        plan.shown.push(lines);
        plan.steps.push(planned);
    }
    plan
}

impl Plan {
    /// Each step's name with its lines.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, &[Line])> {
        self.steps.iter().map(|one| one.info().name).zip(self.shown.iter().map(Vec::as_slice))
    }

    pub fn all(&self) -> impl Iterator<Item = &Line> {
        self.shown.iter().flatten()
    }

    /// All refusals, the most important first. Missing rights found by a survey replace those of other steps.
    pub fn refusals(&self) -> Vec<Failure> {
        let mut failures: Vec<(bool, Failure)> = Vec::new();
        for (step, lines) in self.steps.iter().zip(&self.shown) {
            let surveys = step.info().surveys;
            let refused = lines.iter().filter_map(|line| line.failure.clone()).flat_map(Failure::each);
            failures.extend(refused.map(|failure| (surveys, failure)));
        }
        if failures.iter().any(|(surveyed, failure)| *surveyed && failure.is_missing_rights()) {
            failures.retain(|(surveyed, failure)| *surveyed || !failure.is_missing_rights());
        }
        let mut failures: Vec<Failure> = failures.into_iter().map(|(_, failure)| failure).collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.kind.weight()));
        failures
    }

    pub fn changes(&self) -> usize {
        self.all().filter(|line| line.decision.is_change() && !line.covered).count()
    }

    /// The number of things that could not be looked at.
    pub fn unchecked(&self) -> usize {
        self.count(Decision::NotChecked)
    }

    /// The number of things that are in place and do not work.
    pub fn unhealthy(&self) -> usize {
        self.count(Decision::Unhealthy)
    }

    /// The number of risks and kept differences.
    pub fn warnings(&self) -> usize {
        self.count(Decision::Warning)
    }

    fn count(&self, decision: Decision) -> usize {
        self.all().filter(|line| line.decision == decision).count()
    }

    /// Forgets the problems of a part that apply has solved.
    pub fn solve(&mut self, part: Part) {
        for (step, lines) in self.steps.iter().zip(&mut self.shown) {
            if step.info().part == Some(part) {
                lines.retain(|line| line.decision != Decision::Unhealthy);
            }
        }
    }

    /// The plan as an event.
    pub fn shown(&self) -> Event {
        let mut shown_lines = Vec::new();
        for (step, lines) in self.steps.iter().zip(&self.shown) {
            for line in lines.iter().filter(|line| !line.covered) {
                let mut one = shown(step.info().name, line);
                if step.info().surveys && one.fold != Fold::Never {
                    one.fold = if self.forecast.unchecked.is_empty() { Fold::Check } else { Fold::Never };
                }
                shown_lines.push(one);
            }
        }
        Event::Plan { removes: None, lines: shown_lines, changes: self.changes() }
    }

    /// Local checks before any change; fails with the first failed one.
    pub fn ready(&self, r: Reads<'_>) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.ready(r.run))
    }
}

/// A line of a plan for output.
pub fn shown(step: &str, line: &Line) -> PlanLine {
    let fold = match line.decision {
        _ if line.notable || !line.detail.is_empty() => Fold::Never,
        Decision::Keep => Fold::InPlace,
        Decision::NotNeeded => Fold::NotNeeded,
        _ => Fold::Never,
    };
    PlanLine {
        step: step.to_owned(),
        mark: mark(line.decision),
        text: line.text.clone(),
        detail: line.detail.clone(),
        object: line.target.as_ref().map(Target::thing),
        fold,
    }
}

fn mark(decision: Decision) -> Mark {
    match decision {
        Decision::Create => Mark::Create,
        Decision::Update => Mark::Update,
        Decision::Keep => Mark::Keep,
        Decision::NotNeeded => Mark::NotNeeded,
        Decision::NotChecked => Mark::NotChecked,
        Decision::Warning => Mark::Warning,
        Decision::Unhealthy => Mark::Unhealthy,
        Decision::Replace => Mark::Replace,
        Decision::Remove => Mark::Remove,
        Decision::Release => Mark::Release,
        Decision::Refuse => Mark::Refuse,
        Decision::Unknown => Mark::Unknown,
    }
}

/// Interruption and changing requests, as seen by the engine.
pub struct Watch<'a> {
    /// The failure to end with after a signal.
    pub stop: &'a dyn Fn() -> Option<Failure>,
    /// The number of changing requests sent.
    pub mutations: &'a dyn Fn() -> usize,
}

/// Applies a plan; returns whether anything changed. Temporary bindings are released in any case. Fails with the first
/// failure; a failed release takes precedence.
pub async fn apply(w: Writes<'_>, plan: &mut Plan, watch: &Watch<'_>) -> Result<bool> {
    let idle = plan.changes() == 0;
    let Plan { steps, forecast, .. } = plan;
    let mut changed = false;
    let mut outcome = Ok(());
    for index in 0..steps.len() {
        let info = steps[index].info();
        w.progress.event(&Event::StepStarted { step: info.name.to_owned() });
        let result = match (watch.stop)() {
            Some(failure) => Err(failure),
            None => steps[index].apply(w, forecast).await,
        };
        let mut text = match result {
            Ok(text) => text,
            Err(failure) => {
                let text = failure.message.clone();
                w.progress.event(&Event::StepFailed { step: info.name.to_owned(), text });
                outcome = Err(stopped(failure, info.name, index, changed || (watch.mutations)() > 0));
                break;
            }
        };
        let lines = steps[index].lines();
        let does = lines.iter().any(|line| line.decision.is_change());
        let only_looks = info.surveys || info.prints == Prints::Always;
        let fold = if does || (only_looks && !idle) || lines.is_empty() {
            Fold::Never
        } else if lines.iter().all(|line| line.decision == Decision::NotNeeded) {
            Fold::NotNeeded
        } else {
            Fold::InPlace
        };
        changed |= does;
        for holder in
            steps.iter_mut().filter(|one| info.reaches.is_some() && one.info().holds_until == info.reaches)
        {
            match holder.release(w).await {
                Ok(None) => {}
                Ok(Some(released)) => text = format!("{text}; {released}"),
                Err(failure) => outcome = Err(failure),
            }
        }
        w.progress.event(&Event::StepDone { step: info.name.to_owned(), changed: does, fold, text });
        if outcome.is_err() {
            break;
        }
    }
    // Also after a failure or an interruption, and if `--skip` excludes the milestone's step.
    for one in steps.iter_mut() {
        match one.release(w).await {
            Ok(Some(text)) if outcome.is_err() => {
                w.progress.event(&Event::Undone { step: one.info().name.to_owned(), text });
            }
            Ok(_) => {}
            // It takes precedence, and its command is printed last.
            Err(mut release) => {
                // At its milestone it may have failed in the same way.
                let is_same = |one: &Failure| (one.id, &one.message) == (release.id, &release.message);
                let others = outcome.err().into_iter().flat_map(Failure::each).filter(|one| !is_same(one));
                let others: Vec<_> = others.collect();
                release.also.extend(others);
                outcome = Err(release);
            }
        }
    }
    outcome.map(|()| changed)
}

/// A failure during apply: after a change, "refused" becomes "partial". Only a temporary failure says that the same
/// command continues.
fn stopped(failure: Failure, step: &str, index: usize, started: bool) -> Failure {
    let part_way = |failure: Failure| match failure.kind {
        Kind::Refused | Kind::Unclassified | Kind::Usage if started && index > 0 => {
            failure.with_kind(Kind::Partial)
        }
        kind => failure.with_kind(kind),
    };
    let mut failure = part_way(failure);
    failure.also = std::mem::take(&mut failure.also).into_iter().map(part_way).collect();
    if !started {
        return failure;
    }
    let text = if failure.is_taken_back {
        format!("{step}; what it did was taken back")
    } else if failure.is_lasting() {
        format!(
            "{step}; what is done stays, and the same command stops here again until the cause is removed"
        )
    } else {
        format!("{step}; what is done stays, and the same command goes on from here")
    };
    failure.detail("stopped at", text)
}

/// Stops new work and waits for running work, before anything is removed. Fails if work still runs after the timeout.
pub async fn settle(w: Writes<'_>, plan: &Plan) -> Result<()> {
    for one in &plan.steps {
        if let Some(text) = one.settle(w).await? {
            w.progress.event(&Event::Note { text });
        }
    }
    Ok(())
}

/// Undoes a plan of removals and continues after failures: of the steps undone `last`, or of the others.
pub async fn undo(w: Writes<'_>, plan: &Plan, last: bool, watch: &Watch<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for one in plan.steps.iter().filter(|one| one.info().undone_last == last) {
        if !one.lines().iter().any(|line| line.decision.is_change()) {
            continue;
        }
        let step = one.info().name.to_owned();
        w.progress.event(&Event::StepStarted { step: step.clone() });
        if let Some(failure) = (watch.stop)() {
            failures.push(failure);
            break;
        }
        match one.undo(w).await {
            Ok(text) => w.progress.event(&Event::Undone { step, text }),
            Err(failure) => {
                w.progress.event(&Event::StepFailed { step, text: failure.message.clone() });
                failures.extend(failure.each());
            }
        }
    }
    failures
}
