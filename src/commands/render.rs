//! `outrigger render`: the manifests of all steps, for an administrator or a Git repository to apply, or the plan.

use serde_json::{Value, json};

use crate::base::error::Result;
use crate::commands::session::{Needs, Outside, Session};
use crate::commands::setup::{self, open, with_stale};
use crate::commands::step::write_printed;
use crate::commands::{Ended, config, selected, write_page};
use crate::deployment::run::Part;
use crate::engine;
use crate::gitlab::pipeline;
use crate::gitlab::runner::{self, Verdict};
use crate::output::{json_document, plan_fields};
use crate::steps::contract::{AnyStep, Prints};
use crate::steps::{STEPS, prune};

/// Writes the manifests to stdout, and their objects' intents to the record, as `create-role --print` does.
pub async fn render(outside: &mut Outside<'_>) -> Result<Ended> {
    if outside.options.plan {
        return plan(outside).await;
    }
    let needs = Needs { writes: true, alone: true, ..Needs::default() };
    let known = outside.settings_for(|_, _| needs.clone()).await?;
    let session = outside.open(needs, known).await?;
    session.check().await?;
    session.check_owner()?;
    let steps: Vec<&'static dyn AnyStep> = STEPS
        .iter()
        .copied()
        .filter(|step| step.info().prints == Prints::OnRequest { with_cluster: true })
        .collect();
    write_printed(outside, &session, &steps).await?;
    Ok(Ended::well(false, ""))
}

/// Writes the plan of `setup` with these settings to stdout. Reads only.
async fn plan(outside: &mut Outside<'_>) -> Result<Ended> {
    let (selection, known) = selected(outside, setup::needs).await?;
    let session = open(outside, setup::needs(&selection), known).await?;
    let plan = engine::plan(session.reads(), &selection).await;
    let refusals = plan.refusals();
    if !refusals.is_empty() {
        return Ok(Ended::failed(refusals, false));
    }
    let wants_prune = session.run().settings.prune;
    let stale = prune::plan(session.reads(), wants_prune).await?;
    let settings = &session.run().settings;
    let mut fields = vec![("deployment", json!(settings.deployment.value))];
    fields.extend(plan_fields(&with_stale(&plan, &stale, wants_prune)));
    fields.push(("runner", new_runner(&session).await?));
    fields.push(("pipelineFile", pipeline_file(&session).await?));
    fields.push(("settings", json!(config::fields(outside, settings).await)));
    write_page(outside, &json_document("setup-plan", &fields), "setup-plan", &fields)
}

/// The request that creates the runner, without its description; null if none is created.
async fn new_runner(session: &Session) -> Result<Value> {
    if !session.gitlab.is_connected() {
        return Ok(Value::Null);
    }
    Ok(match runner::verdict(&session.gitlab).await? {
        Verdict::Create(body) => body.clone(),
        _ => Value::Null,
    })
}

/// The pipeline file that is committed; null if none is.
async fn pipeline_file(session: &Session) -> Result<Value> {
    if !session.run().includes(Part::Commit) {
        return Ok(Value::Null);
    }
    let state = pipeline::state(&session.gitlab).await?;
    Ok(if state.is_equal() {
        Value::Null
    } else {
        json!({"path": state.path, "branch": state.branch, "content": state.wanted})
    })
}
