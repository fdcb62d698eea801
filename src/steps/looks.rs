//! Concurrent dry runs of the objects that a step creates.

use futures_util::future::join_all;

use crate::base::error::Failure;
use crate::cluster::dry_run::{self, Look};
use crate::cluster::view::View;
use crate::deployment::object::{Object, Ref};
use crate::deployment::plan::Line;
use crate::steps::contract::Decided;

#[derive(Clone, Debug, Default)]
pub struct Looks {
    refused: Vec<(Ref, Failure)>,
    /// Objects without a dry run, with the reason.
    unchecked: Vec<(Ref, String)>,
}

impl Looks {
    /// Dry-runs these objects.
    pub async fn at(view: &View, objects: &[&Object]) -> Self {
        let looks = join_all(objects.iter().map(|object| look(view, object, true))).await;
        let mut found = Self::default();
        for (object, look) in objects.iter().zip(looks) {
            found.add(&object.reference, look);
        }
        found
    }

    pub fn add(&mut self, reference: &Ref, look: Look) {
        match look {
            Look::Passes => {}
            Look::Refused(failure) => self.refused.push((reference.clone(), failure)),
            Look::Skipped(why) => self.unchecked.push((reference.clone(), why)),
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
pub async fn look(view: &View, object: &Object, ask: bool) -> Look {
    if let Some(namespace) = &object.reference.namespace
        && !view.takes_objects(namespace).await
    {
        return Look::Skipped(format!("the namespace {namespace} does not exist yet"));
    }
    if !ask {
        return Look::Passes;
    }
    dry_run::look(view, object).await
}
