//! `preflight`: what every step of `setup` finds when it looks, as a list of checks.
//!
//! There is no second calculation: the lines are those of the plan that `setup` would show, so what
//! passes here is what `setup` would go on with.

use crate::base::error::Failure;
use crate::base::event::{Event, Outcome};
use crate::deployment::plan::{Decision, Line};
use crate::engine::{self, Planned};
use crate::steps;
use crate::steps::context::Context;

/// One check for each step that was planned after `preflight` itself, whose own checks come first.
#[must_use]
pub fn checks(planned: &[Planned]) -> Vec<Event> {
    let others = planned.iter().filter(|one| one.step.name() != "preflight");
    others.map(|one| check(one.step.name(), &one.lines)).collect()
}

/// What no policy, quota or webhook was asked about, as a check of its own.
#[must_use]
pub fn unlooked(cx: &Context) -> Option<Event> {
    let unlooked = cx.facts.unlooked.borrow();
    if unlooked.is_empty() {
        return None;
    }
    let text = format!("{} not looked at yet", steps::count(unlooked.len(), "object"));
    let detail = unlooked.iter().map(|(reference, why)| format!("{reference}: {why}")).collect();
    Some(Event::Check { name: "policies and quotas".to_owned(), outcome: Outcome::Skipped, text, detail })
}

/// The last line where nothing was found: it speaks of what was looked at.
#[must_use]
pub fn verdict(cx: &Context) -> &'static str {
    if cx.facts.unlooked.borrow().is_empty() {
        "Nothing is in the way."
    } else {
        "Nothing is in the way of what can be looked at now."
    }
}

/// A line's detail without the commands that go with doing it: nothing is done here.
fn detail(line: &Line) -> Vec<String> {
    let talk = line.detail.iter().filter(|text| !text.starts_with("  "));
    talk.map(|text| text.strip_suffix("; by hand:").unwrap_or(text).to_owned()).collect()
}

/// What to show where already the cluster itself is out of the question.
#[must_use]
pub fn nothing_else(failure: &Failure) -> [Event; 2] {
    let check = |name: &str, outcome, text: &str| Event::Check {
        name: name.to_owned(),
        outcome,
        text: text.to_owned(),
        detail: Vec::new(),
    };
    [
        check("cluster", Outcome::Fail, &failure.message),
        check("everything else", Outcome::Skipped, "only that cluster could answer"),
    ]
}

fn check(name: &str, lines: &[Line]) -> Event {
    let (outcome, text, detail) = judge(lines);
    Event::Check { name: name.to_owned(), outcome, text, detail }
}

fn judge(lines: &[Line]) -> (Outcome, String, Vec<String>) {
    let refused: Vec<_> = lines.iter().filter_map(|line| line.failure.as_ref()).collect();
    if let Some(first) = refused.first() {
        // What setup would still have to be told is no fault of the cluster's.
        let outcome = if refused.iter().all(|one| engine::is_missing_input(one)) {
            Outcome::Skipped
        } else {
            Outcome::Fail
        };
        let rest = refused.iter().skip(1).map(|failure| failure.message.clone()).collect();
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
        [line] => (Outcome::Pass, format!("can be done: {}", line.text), detail(line)),
        many => {
            let texts = many.iter().map(|line| line.text.clone()).collect();
            (Outcome::Pass, format!("{} can be made", steps::count(many.len(), "change")), texts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::base::error::{Failure, Id};
    use crate::base::event::Outcome;
    use crate::deployment::plan::{Act, Decision, Line};

    #[test]
    fn what_was_not_looked_at_is_skipped_and_what_is_refused_fails() {
        let refuse = |id| Line::refuse(Failure::new(id, "words"));
        assert_eq!(judge(&[]).0, Outcome::Skipped);
        assert_eq!(judge(&[refuse(Id::MissingInput)]).0, Outcome::Skipped);
        assert_eq!(judge(&[refuse(Id::MissingInput), refuse(Id::ForeignObject)]).0, Outcome::Fail);
        assert_eq!(judge(&[Line::keep("fine")]).0, Outcome::Pass);
        assert_eq!(judge(&[Line::new(Decision::Unknown, "later", Act::None)]).0, Outcome::Warn);
    }
}
