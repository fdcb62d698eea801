//! The steps of a run.

use crate::base::error::{Failure, Id, Result};
use crate::deployment::record::Record;
use crate::settings::Settings;
use crate::steps::STEPS;
use crate::steps::contract::AnyStep;

/// The steps selected by `--only`, `--skip` and `--from`, which name known steps, in order. Fails with exit 2 for an
/// empty selection.
pub fn select(only: &[String], skip: &[String], from: Option<&str>) -> Result<Vec<&'static dyn AnyStep>> {
    let start = from.and_then(|name| STEPS.iter().position(|step| step.info().name == name)).unwrap_or(0);
    let among = |list: &[String], step: &dyn AnyStep| list.iter().any(|name| name == step.info().name);
    let selected: Vec<&'static dyn AnyStep> = STEPS[start..]
        .iter()
        .copied()
        .filter(|step| (only.is_empty() || among(only, *step)) && !among(skip, *step))
        .collect();
    if selected.is_empty() {
        return Err(
            Failure::new(Id::InvalidInput, "no step is selected").hint("check --only, --skip and --from")
        );
    }
    Ok(selected)
}

/// Removes the optional steps that were not requested; returns their names.
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
