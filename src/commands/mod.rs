//! The subcommands, one file for each, and what they share.

pub mod cli;
mod completion;
mod config;
pub mod confirm_owner;
mod explain;
mod help;
mod list;
mod man;
mod preflight;
mod print_commands;
mod render;
mod rotate;
pub mod session;
mod setup;
#[cfg(test)]
mod silence_tests;
mod status;
mod step;
pub mod summary;
mod teardown;
mod uninstall;
mod upgrade;
mod usage;
mod version;
pub mod wizard;
mod words;

use crate::base::error::{Failure, Id, Result};
use crate::base::event::{Event, Status, Thing};
use crate::base::text;
use crate::cluster::token::renewal;
use crate::commands::session::{Known, Needs, Outside, Session};
use crate::deployment::record::Record;
use crate::engine::{self, Plan};
use crate::gitlab::Project;
use crate::steps::STEPS;
use crate::steps::contract::AnyStep;

pub use completion::{complete, script};
pub use config::{print as print_config, schema as print_schema};
pub use explain::explain;
pub use help::topic;
pub use list::list;
pub use man::man;
pub use render::render;
pub use rotate::rotate;
pub use setup::setup;
pub use status::status;
pub use step::step;
pub use teardown::teardown;
pub use upgrade::upgrade;
pub use usage::usage;
pub use version::version;

/// The end of a sentence about a plan: what does not work, what was not checked, and warnings.
fn and_others(plan: &Plan) -> String {
    let said = [
        (plan.unhealthy(), "problem", ""),
        (plan.unchecked(), "part", " not checked"),
        (plan.warnings(), "warning", ""),
    ];
    let said = said.into_iter().filter(|(n, ..)| *n > 0);
    said.fold(String::new(), |said, (n, noun, rest)| said + "; " + &text::count(n, noun) + rest)
}

/// What a plan says of the deployment. Whether the rest works takes a proof.
fn differences(plan: &Plan, changes: usize) -> Vec<Status> {
    let found = [
        (changes, Status::Drift),
        (plan.unhealthy(), Status::Unhealthy),
        (plan.unchecked(), Status::Unchecked),
    ];
    found.into_iter().filter(|(n, _)| *n > 0).map(|(_, status)| status).collect()
}

/// The status after the proofs: as [`differences`] says, or ok.
fn proved(plan: &Plan, changes: usize) -> Vec<Status> {
    let found = differences(plan, changes);
    if found.is_empty() { vec![Status::Ok] } else { found }
}

/// The failure for a change that needs confirmation in a run that cannot prompt.
fn unconfirmed(what: &str) -> Failure {
    Failure::new(Id::MissingConsent, format!("{what} requires confirmation"))
        .detail("because", "outrigger asks on a terminal only, and neither with -o json nor where CI is set")
        .hint("to confirm, add --yes")
}

/// The failure for a deployment that is neither recorded on this machine nor in the cluster; its name is probably
/// mistyped. `None` if the deployment has an object, or if one may not be read.
async fn no_such_deployment(session: &Session) -> Result<Option<Failure>> {
    let (run, names) = (session.run(), &session.run().names);
    if session.notes().recorded {
        return Ok(None);
    }
    let own = names.namespaces().into_iter().filter(|namespace| !run.is_used(&namespace.name));
    for reference in own.chain([names.account()]) {
        if !matches!(session.cluster.read(&reference).await, Ok(None)) {
            return Ok(None);
        }
    }
    let name = names.deployment.as_str();
    let message = format!(
        "no deployment {name}: no record on this machine, and no ServiceAccount {}/{name} in {}",
        names.runner_namespace, session.cluster.target.context
    );
    let failure = Failure::new(Id::NoDeployment, message);
    let mut known = Record::names(&run.settings.state_dir);
    known.retain(|known| known != name);
    let alike = text::closest(name, known.iter().map(String::as_str));
    let failure = match alike {
        Some(alike) => failure.hint(format!("did you mean --deployment {alike}?")),
        None => failure,
    };
    let recorded = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Ok(Some(failure.detail("recorded", recorded)))
}

/// The result of a command.
pub struct Ended {
    /// Failures, the one with the exit code first; empty after success.
    pub failures: Vec<Failure>,
    /// Something was changed.
    pub changed: bool,
    /// The last line.
    pub text: String,
    /// A note below the last line, which may end in a command.
    pub last: String,
    /// Exit 10, although nothing failed.
    pub pending: bool,
    /// The state of the deployment, as far as this run looked at it. A failed proof is added.
    pub status: Vec<Status>,
    /// What a teardown left of the deployment; `None` if it did not look.
    pub left: Option<Vec<Thing>>,
}

impl Ended {
    pub(crate) fn well(changed: bool, text: impl Into<String>) -> Self {
        let (failures, last, status, left) = (Vec::new(), String::new(), Vec::new(), None);
        Self { failures, changed, text: text.into(), last, pending: false, status, left }
    }

    pub(crate) fn failed(failures: Vec<Failure>, changed: bool) -> Self {
        let failures = failures.into_iter().flat_map(Failure::each).collect();
        Self { failures, ..Self::well(changed, "") }
    }
}

/// The steps that the options and settings select for `setup`, with the settings and the record. `needs` tells what the
/// command needs for these steps.
async fn selected(
    outside: &Outside<'_>,
    needs: impl FnOnce(&[&'static dyn AnyStep]) -> Needs,
) -> Result<(Vec<&'static dyn AnyStep>, Known)> {
    let options = outside.options;
    let select = || engine::select(&options.only, &options.skip, options.from.as_deref());
    let known = outside
        .settings_for(|settings, record| {
            let mut selection = select().unwrap_or_default();
            engine::drop_unasked(&mut selection, &options.only, settings, record);
            needs(&selection)
        })
        .await?;
    let mut selection = select()?;
    engine::drop_unasked(&mut selection, &options.only, &known.0, known.1.as_ref());
    Ok((selection, known))
}

/// The note about a cluster token that expires: jobs stop then.
fn expiry(outside: &Outside<'_>, session: &Session) -> String {
    match session.notes().token_expires() {
        None => String::new(),
        Some(expires) => {
            let command = outside.ui.complete(&renewal::command(session.notes()));
            format!("Jobs stop at {expires}, when the cluster token expires; to renew it: {command}")
        }
    }
}

/// The header: what the run works on.
async fn header(session: &Session) -> Event {
    let settings = &session.run().settings;
    let cluster = &session.cluster;
    let version = cluster.version().await.cloned().unwrap_or_default();
    if let Some(path) = session.gitlab.known().and_then(|instance| instance.project.as_ref()?.path.clone())
        && let Some(opened) = session.opened.get()
    {
        let _ = opened.project.set(path);
    }
    let mut rows = vec![(
        "cluster".to_owned(),
        format!("{} at {}, {version}", cluster.target.context, cluster.target.endpoint.url),
        cluster.target.context_source.clone(),
    )];
    if let Ok(operator) = cluster.operator().await {
        rows.push(("you".to_owned(), operator.name.clone(), "asked the server".to_owned()));
    }
    if let Some(url) = &settings.gitlab_url {
        let project = match (session.gitlab.known(), &settings.project) {
            (Some(instance), _) if instance.project.is_some() => {
                instance.project.as_ref().map(Project::shown)
            }
            (_, Some(project)) => Some(project.value.clone()),
            _ => None,
        };
        let text = project.map_or_else(|| url.value.clone(), |project| format!("{}, {project}", url.value));
        let from = match &settings.project {
            Some(project) if project.source != url.source => format!("{}, {}", url.source, project.source),
            _ => url.source.to_string(),
        };
        rows.push(("gitlab".to_owned(), text, from));
    }
    rows.push((
        "runner".to_owned(),
        format!("gitlab-runner {}, tags {}", settings.runner_version.value, settings.tags.value.join(",")),
        settings.tags.source.to_string(),
    ));
    rows.push((
        "pods in".to_owned(),
        settings.namespace.value.clone(),
        settings.namespace.source.to_string(),
    ));
    rows.push((
        "account".to_owned(),
        format!("{}/{}", settings.runner_namespace.value, settings.deployment.value),
        settings.runner_namespace.source.to_string(),
    ));
    Event::Header { deployment: settings.deployment.value.clone(), rows }
}

/// Writes the product of a command (a script, a manifest, a certificate) to stdout, byte for byte.
fn write_product(outside: &Outside<'_>, bytes: &[u8]) -> Result<()> {
    outside.ui.product(bytes).map_err(no_stdout)
}

/// Writes a report to stdout.
fn write_lines(outside: &Outside<'_>, lines: &[String]) -> Result<()> {
    outside.ui.lines(lines).map_err(no_stdout)
}

/// Writes a page, which is all that a command about outrigger itself writes.
fn write_page(
    outside: &Outside<'_>,
    text: &str,
    kind: &str,
    fields: &[(&str, serde_json::Value)],
) -> Result<Ended> {
    outside.ui.page(text, kind, fields).map_err(no_stdout)?;
    Ok(Ended::well(false, ""))
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn no_stdout(error: std::io::Error) -> Failure {
    Failure::new(Id::FileNotWritten, "cannot write to stdout").detail("the system says", error.to_string())
}

/// The names of all steps, for the command line.
pub fn step_help() -> Vec<cli::StepHelp> {
    STEPS
        .iter()
        .map(|step| {
            let info = step.info();
            cli::StepHelp {
                name: info.name,
                about: info.about,
                long: info.long,
                keys: info.keys,
                flags: info.flags,
            }
        })
        .collect()
}
