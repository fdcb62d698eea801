//! Concurrent dry runs of the objects that a step creates.

use futures_util::future::join_all;

use crate::base::error::Failure;
use crate::cluster::dry_run::{self, DryRun};
use crate::cluster::view::View;
use crate::deployment::object::{Object, Ref};
use crate::deployment::plan::Line;
use crate::steps::contract::Decided;

#[derive(Clone, Debug, Default)]
pub struct DryRuns {
    refused: Vec<(Ref, Failure)>,
    /// Objects without a dry run, with the reason.
    unchecked: Vec<(Ref, String)>,
}

impl DryRuns {
    /// Dry-runs these objects.
    pub async fn at(view: &View, objects: &[&Object]) -> Self {
        let results = join_all(objects.iter().map(|object| one(view, object, true))).await;
        let mut found = Self::default();
        for (object, result) in objects.iter().zip(results) {
            found.add(&object.reference, result);
        }
        found
    }

    pub fn add(&mut self, reference: &Ref, result: DryRun) {
        match result {
            DryRun::Passes => {}
            DryRun::Refused(failure) => self.refused.push((reference.clone(), failure)),
            DryRun::Skipped(why) => self.unchecked.push((reference.clone(), why)),
        }
    }

    /// Replaces the lines of refused objects by one refusal, and adds objects without a dry run to the forecast.
    pub fn judge<A>(&self, lines: Vec<Line<A>>, made: impl Fn(&A) -> Option<&Object>) -> Decided<A> {
        let reference =
            |line: &Line<A>| line.act.as_ref().and_then(&made).map(|object| object.reference.clone());
        let (mut kept, mut refused, mut unchecked) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            let about = reference(&line);
            let is = |one: &Ref| about.as_ref() == Some(one);
            match self.refused.iter().find(|(one, _)| is(one)) {
                Some((_, failure)) => refused.push(failure.clone()),
                None => kept.push(line),
            }
            unchecked.extend(self.unchecked.iter().filter(|(one, _)| is(one)).cloned());
        }
        // One policy often refuses several objects.
        kept.extend(Failure::together(refused).map(Line::refuse));
        let mut decided = Decided::lines(kept);
        decided.forecast.unchecked = unchecked;
        decided
    }
}

/// Dry-runs an object; without `ask`, only checks its namespace.
pub async fn one(view: &View, object: &Object, ask: bool) -> DryRun {
    if let Some(namespace) = &object.reference.namespace
        && !view.takes_objects(namespace).await
    {
        return DryRun::Skipped(format!("the namespace {namespace} does not exist yet"));
    }
    if !ask {
        return DryRun::Passes;
    }
    dry_run::creation(view, object).await
}
