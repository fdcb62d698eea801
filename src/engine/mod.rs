//! Plans, applies and undoes a selection of steps. Knows the contract, and neither the steps nor what they are about.

mod select;

use futures_util::future::join_all;

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Mark, PlanLine};
use crate::deployment::plan::{Decision, Line};
use crate::steps::contract::{AnyStep, Deciding, Forecast, Planned, Prints, Purpose, Reads, Refused, Writes};

pub use select::{drop_unasked, select};

/// What every selected step decided, and what that promises.
#[derive(Default)]
pub struct Plan {
    /// One for each step, in the order they are carried out.
    pub steps: Vec<Box<dyn Planned>>,
    /// What could be told beforehand.
    pub forecast: Forecast,
    shown: Vec<Vec<Line>>,
}

/// Lets every selected step look, side by side, and decide, in the list's order.
pub async fn plan(r: Reads<'_>, selection: &[&'static dyn AnyStep]) -> Plan {
    decide(r, selection, Purpose::Setup).await
}

/// The same for teardown, last step first.
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
    for (step, looked) in selection.iter().zip(looked) {
        let d = Deciding { run: r.run, notes: r.notes, forecast: &plan.forecast };
        let planned = match (looked, why) {
            (Ok(looked), Purpose::Setup | Purpose::Again) => looked.decide(&d),
            (Ok(looked), Purpose::Teardown) => looked.decide_undo(&d),
            (Err(failure), _) => Box::new(Refused::new(step.info(), failure)),
        };
        planned.promise(&mut plan.forecast);
        // Several steps may meet the same obstacle; it is said once.
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

    /// Every line.
    pub fn all(&self) -> impl Iterator<Item = &Line> {
        self.shown.iter().flatten()
    }

    /// Everything that is refused, the most telling first. What a survey said about missing rights covers what
    /// other steps met for the same reason.
    #[must_use]
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

    /// How many changes it holds.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.all().filter(|line| line.decision.is_change() && !line.covered).count()
    }

    /// The plan as an event.
    #[must_use]
    pub fn shown(&self) -> Event {
        let lines = self.lines().flat_map(|(step, lines)| lines.iter().map(move |line| (step, line)));
        let lines = lines.filter(|(_, line)| !line.covered).map(|(step, line)| shown(step, line)).collect();
        Event::Plan { lines, changes: self.changes() }
    }

    /// What can be tried before anything is changed, without a server.
    ///
    /// # Errors
    /// The first that would fail.
    pub fn ready(&self, r: Reads<'_>) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.ready(r.run))
    }
}

/// One line of a plan as it is shown.
#[must_use]
pub fn shown(step: &str, line: &Line) -> PlanLine {
    PlanLine {
        step: step.to_owned(),
        mark: mark(line.decision),
        text: line.text.clone(),
        detail: line.detail.clone(),
    }
}

/// How a decision is marked in a plan.
fn mark(decision: Decision) -> Mark {
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

/// The failure that a signal asks for, and the count of requests that changed something: what the engine has to
/// know of the servers.
pub struct Watch<'a> {
    /// The failure to end with, once asked to stop.
    pub stop: &'a dyn Fn() -> Option<Failure>,
    /// How many requests that change something have been sent.
    pub mutations: &'a dyn Fn() -> usize,
}

/// Carries a plan out; whether anything changed. Whatever happens, what is held is released.
///
/// # Errors
/// What stopped it; a release that failed outweighs that.
pub async fn apply(w: Writes<'_>, plan: &mut Plan, watch: &Watch<'_>) -> Result<bool> {
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
        let kept = !does && !only_looks && !lines.is_empty();
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
        w.progress.event(&Event::StepDone { step: info.name.to_owned(), changed: does, kept, text });
        if outcome.is_err() {
            break;
        }
    }
    // Also after a failure and an interruption, and where `--skip` left the milestone out.
    for one in steps.iter_mut() {
        match one.release(w).await {
            Ok(Some(text)) if outcome.is_err() => {
                w.progress.event(&Event::Undone { step: one.info().name.to_owned(), text });
            }
            Ok(_) => {}
            // It outweighs what went wrong before it, and its command stands last.
            Err(mut release) => {
                release.also.extend(outcome.err().into_iter().flat_map(Failure::each));
                outcome = Err(release);
            }
        }
    }
    outcome.map(|()| changed)
}

/// A failure in the middle: what was refused before anything changed stays "refused", the rest is
/// "part-way" unless its own code says more. That the same command continues is said only of a failure
/// that passes by itself.
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
    let text = if failure.is_lasting() {
        format!(
            "{step}; what is done stays, and the same command stops here again until the cause is removed"
        )
    } else {
        format!("{step}; what is done stays, and the same command goes on from here")
    };
    failure.detail("stopped at", text)
}

/// Lets no new work begin and waits for what runs, before anything is taken away.
///
/// # Errors
/// What still runs when the time is over.
pub async fn settle(w: Writes<'_>, plan: &Plan) -> Result<()> {
    for one in &plan.steps {
        if let Some(text) = one.settle(w).await? {
            w.progress.event(&Event::Note { text });
        }
    }
    Ok(())
}

/// Undoes a plan of removals, going on past failures: of the steps that go `last`, or of the others.
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
