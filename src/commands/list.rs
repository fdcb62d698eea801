//! `list`: the deployments recorded on this machine, or in the cluster.

use crate::base::error::{Failure, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::message;
use crate::commands::session::{Needs, Outside};
use crate::commands::{Ended, write_lines};
use crate::deployment::names;
use crate::deployment::record::Record;
use crate::settings::{Output, check};

/// `list`: the deployments recorded on this machine, or with `--cluster` in the cluster.
pub async fn list(outside: &mut Outside<'_>) -> Result<Ended> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    if outside.options.list_cluster {
        let (mut settings, _) = outside.settings().await?;
        // The list is of a cluster: a context recorded for one deployment does not apply.
        settings.context = settings.context.take().filter(|context| !context.source.is_remembered());
        let session = outside.open(Needs::default(), (settings, None)).await?;
        let path = "/api/v1/serviceaccounts?labelSelector=app.kubernetes.io%2Fmanaged-by%3Doutrigger";
        let items = session
            .cluster
            .list_metadata("list outrigger's ServiceAccounts in the cluster", path)
            .await
            .map_err(Failure::from)?;
        for item in items {
            let meta = &item["metadata"];
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let deployment = text(&meta["annotations"][names::DEPLOYMENT]);
            // The ServiceAccount of jobs has the labels, too; only the anchor has the deployment's name.
            if deployment == text(&meta["name"]) {
                // Whoever may create a ServiceAccount controls its annotations.
                if let Err(why) = check::deployment(&deployment) {
                    let place = check::escaped(&text(&meta["namespace"]));
                    let name = check::escaped(&deployment);
                    let text = format!("skipped ServiceAccount {name} in {place}: its name {why}");
                    outside.ui.event(&Event::Warning { text });
                    continue;
                }
                rows.push([
                    deployment,
                    session.cluster.target.context.clone(),
                    text(&meta["namespace"]),
                    String::new(),
                ]);
            }
        }
    } else {
        let (settings, _) = outside.settings().await?;
        for name in Record::names(&settings.state_dir) {
            match Record::load(&settings.state_dir, &name) {
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
        outside.ui.event(&Event::Note { text: "No deployments found.".to_owned() });
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
