//! One file for each word typed: what it does with the session and the engine.

pub mod cli;
mod list;
mod preflight;
mod print_commands;
pub mod session;
mod setup;
mod status;
mod step;
mod teardown;
mod uninstall;
pub mod witness;
pub mod wizard;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::event::Event;
use crate::base::text;
use crate::commands::session::{Known, Outside, Session};
use crate::deployment::record::Record;
use crate::engine::{self, Plan};
use crate::gitlab::Project;
use crate::steps::STEPS;
use crate::steps::contract::AnyStep;

pub use list::list;
pub use setup::setup;
pub use status::status;
pub use step::step;
pub use teardown::teardown;

/// The end of a sentence about a plan.
fn and_unchecked(plan: &Plan) -> String {
    match plan.unchecked() {
        0 => String::new(),
        n => format!("; {} not checked", text::count(n, "part")),
    }
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
    let known = Record::names(&run.settings.state_dir);
    let alike = text::closest(name, known.iter().map(String::as_str));
    let failure = match alike {
        Some(alike) => failure.hint(format!("did you mean --deployment {alike}?")),
        None => failure,
    };
    let recorded = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Ok(Some(failure.detail("recorded", recorded)))
}

/// How a command ended.
pub struct Ended {
    /// Failures, the one that names the exit code first; empty means well.
    pub failures: Vec<Failure>,
    /// Whether anything is different now.
    pub changed: bool,
    /// How it ended, in one line.
    pub text: String,
    /// What has to be remembered, below it; it may end in a command.
    pub last: String,
    /// Exit 10 although nothing failed.
    pub pending: bool,
}

impl Ended {
    pub(crate) fn well(changed: bool, text: impl Into<String>) -> Self {
        Self { failures: Vec::new(), changed, text: text.into(), last: String::new(), pending: false }
    }

    pub(crate) fn failed(failures: Vec<Failure>, changed: bool) -> Self {
        let failures = failures.into_iter().flat_map(Failure::each).collect();
        Self { failures, changed, text: String::new(), last: String::new(), pending: false }
    }
}

/// The steps that `setup` is about, those that the options leave and that somebody asked for; with the settings
/// and the record.
async fn selected(outside: &Outside<'_>) -> Result<(Vec<&'static dyn AnyStep>, Known)> {
    let options = outside.options;
    let mut selection = engine::select(&options.only, &options.skip, options.from.as_deref())?;
    let known = outside.settings().await?;
    engine::drop_unasked(&mut selection, &options.only, &known.0, known.1.as_ref());
    Ok((selection, known))
}

/// When jobs will stop if the cluster token ends, for the last line: nobody may find that out by it.
fn expiry(outside: &Outside<'_>, session: &Session) -> String {
    match session.notes().token_expires() {
        None => String::new(),
        Some(expires) => format!(
            "Jobs stop at {expires}, when the cluster token expires; to renew it: {}",
            outside.ui.complete(&Command::outrigger("setup --reissue cluster"))
        ),
    }
}

/// What a run works on.
async fn header(session: &Session) -> Event {
    let settings = &session.run().settings;
    let cluster = &session.cluster;
    let version = cluster.version().await.cloned().unwrap_or_default();
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

/// Writes what a command is for (a script, a manifest, a certificate) to stdout, byte for byte.
fn write_product(outside: &Outside<'_>, bytes: &[u8]) -> Result<()> {
    outside.ui.product(bytes).map_err(no_stdout)
}

/// Writes a report to stdout.
fn write_lines(outside: &Outside<'_>, lines: &[String]) -> Result<()> {
    outside.ui.lines(lines).map_err(no_stdout)
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
