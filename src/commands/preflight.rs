//! `preflight`: the plan of `setup` as a list of checks. The lines are those of the same plan, so `setup` accepts
//! what passes here.

use crate::base::error::{Failure, Hint, Kind, Result};
use crate::base::event::{Event, Outcome, Reporter as _};
use crate::base::text::count;
use crate::commands::session::{Needs, Outside};
use crate::commands::{Ended, header, selected};
use crate::deployment::plan::{Decision, Line};
use crate::deployment::run::Part;
use crate::engine::{self, Plan};

/// `preflight`.
///
/// # Errors
/// Failures that prevent all checks.
pub async fn preflight(outside: &mut Outside<'_>) -> Result<Ended> {
    let (selection, known) = selected(outside, |_| Needs::default()).await?;
    let parts: Vec<Part> = selection.iter().filter_map(|step| step.info().part).collect();
    let opened = match outside.open(Needs { parts, ..Needs::default() }, known).await {
        Ok(session) => session.check().await.map(|()| session),
        Err(failure) if failure.kind != Kind::Deadline => return Err(failure),
        Err(failure) => Err(failure),
    };
    let session = match opened {
        Ok(session) => session,
        // Of an unreachable cluster it says what could not be checked.
        Err(failure) => {
            for check in &nothing_else(&failure) {
                outside.ui.event(check);
            }
            return Err(failure);
        }
    };
    session.check_owner()?;
    let plan = engine::plan(session.reads(), &selection).await;
    outside.ui.event(&header(&session).await);
    let checks = checks(&plan);
    for check in &checks {
        outside.ui.event(check);
    }
    let refusals: Vec<_> = plan.refusals().into_iter().filter(|one| !one.is_missing_input()).collect();
    if !refusals.is_empty() {
        return Ok(Ended::failed(refusals, false));
    }
    // The last line covers only what was checked.
    let open = if plan.forecast.unchecked.is_empty() { "" } else { "; some cannot run yet" };
    let is_warning = |check: &&Event| matches!(check, Event::Check { outcome: Outcome::Warn, .. });
    let warnings = match checks.iter().filter(is_warning).count() {
        0 => String::new(),
        n => format!("; {}", count(n, "warning")),
    };
    Ok(Ended::well(false, format!("All checks passed{open}{warnings}.")))
}

/// The findings of the preflight step, one check for each other step, and the objects without a dry run.
fn checks(plan: &Plan) -> Vec<Event> {
    // What a step warns of is not said twice.
    let told: Vec<&str> = plan.lines().flat_map(|(_, lines)| lines).map(|line| line.text.as_str()).collect();
    let findings = plan.steps.iter().flat_map(|step| step.findings());
    let findings = findings.filter(|one| one.outcome != Outcome::Warn || !told.contains(&one.text.as_str()));
    let mut checks: Vec<Event> = findings
        .map(|one| Event::Check {
            name: one.name.clone(),
            outcome: one.outcome,
            text: one.text.clone(),
            detail: one.detail.clone(),
        })
        .collect();
    let others = plan.steps.iter().zip(plan.lines()).filter(|(step, _)| !step.info().surveys);
    checks.extend(others.map(|(_, (name, lines))| check(name, lines)));
    let unchecked = &plan.forecast.unchecked;
    if !unchecked.is_empty() {
        checks.push(Event::Check {
            name: "policies and quotas".to_owned(),
            outcome: Outcome::Skipped,
            text: format!("{} not checked yet", count(unchecked.len(), "object")),
            detail: unchecked.iter().map(|(reference, why)| format!("{reference}: {why}").into()).collect(),
        });
    }
    checks
}

/// A line's detail without commands: preflight changes nothing that they could undo.
fn detail(line: &Line) -> Vec<Hint> {
    let talk = line.detail.iter().filter(|hint| !hint.text.is_empty());
    talk.map(|hint| {
        // The last part announces the command.
        let about_command = hint.command.as_ref().and_then(|_| hint.text.rsplit_once("; "));
        about_command.map_or(hint.text.as_str(), |(said, _)| said).into()
    })
    .collect()
}

/// The checks of a cluster that cannot be reached.
fn nothing_else(failure: &Failure) -> [Event; 2] {
    let check = |name: &str, outcome, text: &str| Event::Check {
        name: name.to_owned(),
        outcome,
        text: text.to_owned(),
        detail: Vec::new(),
    };
    [
        check("cluster", Outcome::Fail, &failure.message),
        check("everything else", Outcome::Skipped, "requires the cluster"),
    ]
}

fn check(name: &str, lines: &[Line]) -> Event {
    let (outcome, text, detail) = judge(lines);
    Event::Check { name: name.to_owned(), outcome, text, detail }
}

fn judge(lines: &[Line]) -> (Outcome, String, Vec<Hint>) {
    let refused: Vec<_> = lines.iter().filter_map(|line| line.failure.as_ref()).collect();
    if let Some(first) = refused.first() {
        // Missing input that only `setup` needs is not a problem of the cluster.
        let outcome =
            if refused.iter().all(|one| one.is_missing_input()) { Outcome::Skipped } else { Outcome::Fail };
        let rest = refused.iter().skip(1).map(|failure| failure.message.as_str().into()).collect();
        return (outcome, first.message.clone(), rest);
    }
    let Some(first) = lines.first() else {
        return (Outcome::Skipped, "the reason is given above".to_owned(), Vec::new());
    };
    let open = lines.iter().find(|line| line.notable || line.decision == Decision::Unknown);
    if let Some(line) = open {
        return (Outcome::Warn, line.text.clone(), detail(line));
    }
    let changes: Vec<_> = lines.iter().filter(|line| line.decision.is_change()).collect();
    match changes.as_slice() {
        [] if lines.len() == 1 => (Outcome::Pass, first.text.clone(), detail(first)),
        [] => (Outcome::Pass, "in place".to_owned(), Vec::new()),
        [line] => (Outcome::Pass, format!("possible: {}", line.text), detail(line)),
        many => {
            let texts = many.iter().map(|line| line.text.as_str().into()).collect();
            (Outcome::Pass, format!("{} possible", count(many.len(), "change")), texts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::base::error::{Failure, Id};
    use crate::base::event::Outcome;
    use crate::deployment::plan::{Decision, Line};

    #[test]
    fn what_was_not_looked_at_is_skipped_and_what_is_refused_fails() {
        let refuse = |id| Line::refuse(Failure::new(id, "words"));
        assert_eq!(judge(&[]).0, Outcome::Skipped);
        assert_eq!(judge(&[refuse(Id::MissingInput)]).0, Outcome::Skipped);
        assert_eq!(judge(&[refuse(Id::MissingInput), refuse(Id::ForeignObject)]).0, Outcome::Fail);
        assert_eq!(judge(&[Line::keep("fine")]).0, Outcome::Pass);
        assert_eq!(judge(&[Line::new(Decision::Unknown, "later", ())]).0, Outcome::Warn);
    }
}
