//! Waits until the runner takes jobs.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use super::{Found, condition, find};
use crate::base::error::Result;
use crate::base::wait::{self, Pace};
use crate::gitlab::view::View;

/// Polls for up to `time` until nothing keeps the runner from taking jobs; what still does is not a failure here. A
/// runner that cannot be read is not waited for.
pub async fn wait(view: &View, time: Duration) -> Result<()> {
    let look = async || {
        let Found::Ours(ours) = find(view).await? else { return Ok(Break(())) };
        let problem = condition(view, &ours).problems.into_iter().next();
        Ok(problem.map_or(Break(()), |(text, _)| Continue(text)))
    };
    let tell = |problem: &String, waited| view.progress.waiting("create-runner", problem, waited);
    let _ = wait::until(Pace::new(&view.limits, 1000, 5000).within(time), tell, look).await?;
    Ok(())
}
