//! What each subcommand does with the engine: `setup` and one step ([`forward`]), [`teardown`], and here
//! `status` and `list`.

use crate::base::error::{Failure, Id, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::files;
use crate::base::message;
use crate::commands::session::{Needs, Outside};
use crate::deployment::record::Record;
use crate::engine::{self};
use crate::settings::{Output, check};
use crate::steps::{self, STEPS};

pub mod cli;
mod preflight;
mod print_commands;
pub mod session;
mod setup;
mod teardown;
mod uninstall;
pub mod witness;
pub mod wizard;

pub(crate) use print_commands::print_commands;
pub use setup::forward;
pub use teardown::teardown;
pub(crate) use uninstall::uninstall;

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

    fn failed(failures: Vec<Failure>, changed: bool) -> Self {
        Self { failures, changed, text: String::new(), last: String::new(), pending: false }
    }
}

/// `status`: the plan that setup would make, the proofs, and exit 10 when the plan is not empty.
pub async fn status(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut selection = engine::select(&[], &[], None)?;
    let (settings, record) = outside.settings().await?;
    let unasked = engine::drop_unasked(&mut selection, &[], &settings, record.as_ref());
    let session = outside.open(Needs::default(), (settings, record)).await?;
    let cx = &session.cx;
    // The version is asked for on the way: the plan needs it next.
    tokio::join!(engine::check_cluster(cx), cx.version()).0?;
    cx.certain()?;
    engine::check_gitlab(cx)?;
    let planned = engine::plan(cx, &selection).await;
    outside.ui.event(&header(cx).await);
    // What setup would still have to be told is no fault of what is there.
    let refusals: Vec<Failure> =
        engine::refusals(&planned).into_iter().filter(|one| !engine::is_missing_input(one)).collect();
    let changes = engine::changes(&planned);
    outside.ui.event(&engine::shown(&planned));
    if !refusals.is_empty() {
        return Ok(Ended::failed(refusals, false));
    }
    let mut failures = Vec::new();
    // What setup is going to change is not worth proving; it proves what it made.
    for one in planned.iter().filter(|_| changes == 0) {
        match one.step.prove(cx).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                outside.ui.event(&Event::StepDone { step: one.step.name().to_owned(), changed: false, text });
            }
            Err(failure) => {
                outside.ui.event(&Event::StepFailed {
                    step: one.step.name().to_owned(),
                    text: failure.message.clone(),
                });
                failures.push(failure);
            }
        }
    }
    if !failures.is_empty() {
        return Ok(Ended::failed(failures, false));
    }
    if changes > 0 {
        let setup = cx.settings.same_deployment("outrigger setup", &[]);
        outside
            .ui
            .event(&Event::Next { lines: vec!["Make it as it should be:".to_owned(), format!("  {setup}")] });
        let text = format!("{} pending.", steps::count(changes, "change"));
        return Ok(Ended { pending: true, ..Ended::well(false, text) });
    }
    let asked =
        if unasked.is_empty() { String::new() } else { format!(" Not asked for: {}.", unasked.join(", ")) };
    let text = format!("As setup left it.{asked}");
    Ok(Ended { last: expiry(cx).await, ..Ended::well(false, text) })
}

/// When jobs will stop if the cluster token ends, for the last line: nobody may find that out by it.
pub(crate) async fn expiry(cx: &crate::steps::context::Context) -> String {
    match crate::cluster::token::renewal::expiry(cx).await {
        None => String::new(),
        Some(expires) => format!(
            "Jobs stop at {expires}, unless renewed: {}",
            cx.settings.same_deployment("outrigger setup --reissue cluster", &[])
        ),
    }
}

pub(crate) async fn header(cx: &crate::steps::context::Context) -> Event {
    let settings = &cx.settings;
    let version = cx.version().await.cloned().unwrap_or_default();
    let mut rows = vec![(
        "cluster".to_owned(),
        format!("{} at {}, {version}", cx.target.context, cx.target.endpoint.url),
        cx.target.context_source.clone(),
    )];
    if let Ok(operator) = cx.operator().await {
        rows.push(("you".to_owned(), operator.name.clone(), "asked the server".to_owned()));
    }
    if let Some(url) = &settings.gitlab_url {
        let project = match (cx.facts.instance.get(), &settings.project) {
            (Some(instance), _) if instance.project.is_some() => {
                instance.project.as_ref().map(crate::gitlab::Project::shown)
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

/// Takes the uids of what was found through the anchor, or applied by an administrator, into the record:
/// from then on they are known by identity.
pub(crate) async fn adopt_objects(cx: &crate::steps::context::Context) -> Result<()> {
    let names = &cx.names;
    let mut all =
        vec![names.account(), names.job_account(), names.role(), names.role_binding(), names.token_secret()];
    all.extend(names.namespaces().into_iter().filter(|namespace| !cx.is_used(&namespace.name)));
    for reference in all {
        if let Some(live) = cx.read(&reference).await.map_err(Failure::from)?
            && cx.owner(&live) == crate::deployment::ownership::Owner::Us
        {
            cx.record.borrow_mut().own(&reference, live.uid());
        }
    }
    let anchor = cx.anchor().await;
    let noted =
        |key| anchor.as_ref().and_then(|anchor| anchor.annotation(key)).unwrap_or_default().to_owned();
    let mut record = cx.record.borrow_mut();
    record.settings = cx.settings.recorded();
    if record.script_digest.is_empty() {
        record.script_digest = noted(crate::deployment::names::SCRIPT_DIGEST);
    }
    if record.script_secret.is_empty() {
        record.script_secret = noted(crate::deployment::names::SCRIPT_SECRET);
    }
    if record.script_target.is_empty() {
        record.script_target = noted(crate::deployment::names::SCRIPT_TARGET);
    }
    if record.token_expires.is_empty() {
        record.token_expires = noted(crate::deployment::names::TOKEN_EXPIRES);
    }
    Ok(())
}

/// `list`: the deployments known on this machine, or with `--cluster` in the cluster.
pub async fn list(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    if outside.options.list_cluster {
        let known = outside.settings().await?;
        let session = outside.open(Needs::default(), known).await?;
        let path = "/api/v1/serviceaccounts?labelSelector=app.kubernetes.io%2Fmanaged-by%3Doutrigger";
        let items = session
            .cx
            .cluster
            .list_metadata("list outrigger's ServiceAccounts in the cluster", path)
            .await
            .map_err(Failure::from)?;
        for item in items {
            let meta = &item["metadata"];
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let deployment = text(&meta["annotations"][crate::deployment::names::DEPLOYMENT]);
            // The jobs' account is labelled too; only the anchor bears the deployment's own name.
            if deployment == text(&meta["name"]) {
                // Whoever may make a ServiceAccount may write there what they like.
                if let Err(why) = check::deployment(&deployment) {
                    let place = check::escaped(&text(&meta["namespace"]));
                    let name = check::escaped(&deployment);
                    let text = format!("the ServiceAccount {name} in {place} is left out: its name {why}");
                    outside.ui.event(&Event::Warning { text });
                    continue;
                }
                rows.push([
                    deployment,
                    session.cx.target.context.clone(),
                    text(&meta["namespace"]),
                    String::new(),
                ]);
            }
        }
    } else {
        let (settings, _) = outside.settings().await?;
        for path in files::list(&settings.state_dir) {
            let Some(name) =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"))
            else {
                continue;
            };
            match Record::load(&settings.state_dir, name) {
                Ok(Some(record)) => {
                    let namespace = record
                        .settings
                        .get("namespace")
                        .and_then(|values| values.first())
                        .cloned()
                        .unwrap_or_default();
                    rows.push([record.deployment, record.cluster.context, namespace, record.cluster.server]);
                }
                Ok(None) => {}
                Err(failure) => outside.ui.event(&Event::Warning { text: failure.message }),
            }
        }
    }
    if outside.options.output == Output::Json {
        for [deployment, context, namespace, server] in &rows {
            let value = serde_json::json!({"deployment": message::text(deployment), "context": message::text(context), "namespace": message::text(namespace), "server": message::text(server)});
            write_lines(outside, &[value.to_string()])?;
        }
        return Ok(Ended::well(false, ""));
    }
    if rows.is_empty() {
        outside.ui.event(&Event::Note { text: "No deployment is known here.".to_owned() });
        return Ok(Ended::well(false, ""));
    }
    let rows: Vec<[String; 4]> = rows.into_iter().map(|row| row.map(|cell| message::text(&cell))).collect();
    let width = rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    let second = rows.iter().map(|row| row[1].len()).max().unwrap_or(0);
    for [deployment, context, namespace, server] in &rows {
        let line = format!("{deployment:<width$}  {context:<second$}  {namespace}  {server}");
        write_lines(outside, &[line.trim_end().to_owned()])?;
    }
    Ok(Ended::well(false, ""))
}

/// Writes what a command is for (a script, a manifest, a certificate) to stdout, byte for byte.
pub(crate) fn write_product(outside: &Outside<'_>, bytes: &[u8]) -> Result<()> {
    outside.ui.product(bytes).map_err(no_stdout)
}

/// Writes a report to stdout.
pub(crate) fn write_lines(outside: &Outside<'_>, lines: &[String]) -> Result<()> {
    outside.ui.lines(lines).map_err(no_stdout)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn no_stdout(error: std::io::Error) -> Failure {
    Failure::new(Id::FileNotWritten, "cannot write to stdout").detail("the system says", error.to_string())
}

/// The names of all steps, for the command line.
#[must_use]
pub fn step_help() -> Vec<crate::commands::cli::StepHelp> {
    STEPS
        .iter()
        .map(|step| crate::commands::cli::StepHelp {
            name: step.name(),
            about: step.about(),
            long: step.long(),
            keys: step.keys(),
            flags: step.flags(),
        })
        .collect()
}
