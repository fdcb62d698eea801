//! Dry runs of what a step is about to make, side by side.

use futures_util::future::join_all;

use crate::base::error::Failure;
use crate::cluster::dry_run::{self, Look};
use crate::deployment::object::{Kind, Object, Ref};
use crate::deployment::plan::{Act, Line};
use crate::steps::context::Context;

/// The object that a line makes, if it makes one that is not there.
fn made(line: &Line) -> Option<&Object> {
    match &line.act {
        Act::Create(object) | Act::Bind(object) | Act::RequestToken(object) => Some(object),
        _ => None,
    }
}

/// Lets the server look at every object that these lines make, but for the kinds that another step asks
/// about: a line that it would refuse says so, and what it could not look at is noted in the facts.
pub async fn looked_at(cx: &Context, lines: Vec<Line>, elsewhere: &[Kind]) -> Vec<Line> {
    let looks = join_all(lines.iter().map(|line| async {
        match made(line) {
            Some(object) => look(cx, object, !elsewhere.contains(&object.reference.kind)).await,
            None => Look::Passes,
        }
    }))
    .await;
    let mut refused = Vec::new();
    let mut kept = Vec::new();
    for (line, look) in lines.into_iter().zip(looks) {
        match look {
            Look::Refused(failure) => refused.push(failure),
            Look::Passes => kept.push(line),
            Look::NotLooked(why) => {
                if let Some(object) = made(&line) {
                    cx.facts.unlooked.borrow_mut().push((object.reference.clone(), why));
                }
                kept.push(line);
            }
        }
    }
    // The same rule tends to refuse several: said once, with what it says to each.
    kept.extend(Failure::together(refused).map(Line::refuse));
    kept
}

/// Lets the server look at one object; without `ask`, only says whether it could.
pub async fn look(cx: &Context, object: &Object, ask: bool) -> Look {
    if let Some(namespace) = &object.reference.namespace
        && !is_there(cx, namespace).await
    {
        return Look::NotLooked(format!("the namespace {namespace} does not exist yet"));
    }
    if !ask {
        return Look::Passes;
    }
    dry_run::look(&cx.cluster, &cx.settings, &cx.kubectl(), object).await
}

/// Whether a namespace takes objects; one that may not be read is taken to.
pub async fn is_there(cx: &Context, namespace: &str) -> bool {
    match cx.read(&Ref::cluster(Kind::Namespace, namespace)).await {
        Ok(live) => live.is_some_and(|live| !live.is_terminating()),
        Err(_) => true,
    }
}
