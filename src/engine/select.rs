//! Which steps a run is about.

use crate::base::error::{Failure, Id, Result};
use crate::deployment::record::Record;
use crate::settings::Settings;
use crate::steps::contract::AnyStep;
use crate::steps::{self, STEPS};

/// The steps that `--only`, `--skip` and `--from` leave, in the list's order.
///
/// # Errors
/// Exit 2 naming every unknown step at once.
pub fn select(only: &[String], skip: &[String], from: Option<&str>) -> Result<Vec<&'static dyn AnyStep>> {
    let named = only.iter().chain(skip).map(String::as_str).chain(from);
    let unknown: Vec<&str> = named.filter(|name| steps::find(name).is_none()).collect();
    if !unknown.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.info().name).collect();
        return Err(Failure::new(
            Id::InvalidInput,
            format!("there is no step called {}", unknown.join(", ")),
        )
        .detail("the steps are", names.join(", ")));
    }
    let start = from.and_then(|name| STEPS.iter().position(|step| step.info().name == name)).unwrap_or(0);
    let among = |list: &[String], step: &dyn AnyStep| list.iter().any(|name| name == step.info().name);
    let selected: Vec<&'static dyn AnyStep> = STEPS[start..]
        .iter()
        .copied()
        .filter(|step| (only.is_empty() || among(only, *step)) && !among(skip, *step))
        .collect();
    if selected.is_empty() {
        return Err(Failure::new(Id::InvalidInput, "the selection leaves no step to do")
            .hint("look at --only, --skip and --from"));
    }
    Ok(selected)
}

/// Takes out the steps that are done on request only and that nobody asked for; returns their names.
pub fn drop_unasked(
    selection: &mut Vec<&'static dyn AnyStep>,
    only: &[String],
    settings: &Settings,
    record: Option<&Record>,
) -> Vec<&'static str> {
    let asked = |step: &dyn AnyStep| {
        let info = step.info();
        (info.is_wanted)(settings, record) || only.iter().any(|name| name == info.name)
    };
    let dropped = selection.iter().filter(|step| !asked(**step)).map(|step| step.info().name).collect();
    selection.retain(|step| asked(*step));
    dropped
}
