//! `list`: the deployments recorded on this machine, or in the cluster.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::error::{Failure, Result};
use crate::base::event::{Event, Reporter as _};
use crate::base::message;
use crate::base::text::{pad, width};
use crate::commands::session::{Needs, Outside};
use crate::commands::{Ended, write_lines, write_product};
use crate::deployment::names;
use crate::deployment::record::{OwnedCommit, Record};
use crate::settings::{Output, check};

const COLUMNS: [&str; 7] = ["NAME", "CONTEXT", "NAMESPACE", "RUNNER", "GITLAB", "MACHINE", "AGE"];

/// A deployment. Empty texts are not known.
#[derive(Default)]
struct Row {
    name: String,
    context: String,
    server: String,
    /// The namespace of the runner's ServiceAccount.
    runner_namespace: String,
    /// The namespace of the job pods.
    namespace: String,
    runner: Option<u64>,
    gitlab: String,
    /// The path or id of the project or group.
    place: String,
    /// The host, or the target of the launch script.
    machine: String,
    /// The commit that stays of a removed deployment.
    stays: Option<OwnedCommit>,
    created: Option<Timestamp>,
}

/// `list`: the deployments recorded on this machine, or with `--live` those in the cluster.
pub async fn list(outside: &mut Outside<'_>) -> Result<Ended> {
    let output = outside.options.output;
    if output == Output::Json {
        outside.ui.begin_product();
    }
    let rows = if outside.options.live { in_cluster(outside).await? } else { recorded(outside).await? };
    let now = Timestamp::now();
    match output {
        Output::Json => {
            let all: Vec<Value> = rows.iter().map(Row::json).collect();
            write_product(outside, format!("{:#}\n", Value::Array(all)).as_bytes())?;
        }
        Output::Name => {
            let names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
            write_lines(outside, &names)?;
        }
        Output::Human if rows.is_empty() => {
            outside.ui.event(&Event::Note { text: "No deployments found.".to_owned() });
        }
        Output::Human => {
            let mut table: Vec<[String; 7]> = rows.iter().map(|row| row.cells(now)).collect();
            if !outside.options.no_headers {
                table.insert(0, COLUMNS.map(str::to_owned));
            }
            write_lines(outside, &aligned(&table))?;
        }
    }
    Ok(Ended::well(false, ""))
}

async fn recorded(outside: &Outside<'_>) -> Result<Vec<Row>> {
    let settings = outside.unrecorded().await?;
    let mut rows = Vec::new();
    for name in Record::names(&settings.state_dir) {
        match Record::load(&settings.state_dir, &name) {
            Ok(Some(record)) if record.names_something() => rows.push(Row::of(record)),
            Ok(_) => {}
            Err(failure) => outside.ui.event(&Event::Warning { text: failure.message }),
        }
    }
    Ok(rows)
}

async fn in_cluster(outside: &mut Outside<'_>) -> Result<Vec<Row>> {
    let settings = outside.unrecorded().await?;
    let session = outside.open(Needs::default(), (settings, None)).await?;
    let path = "/api/v1/serviceaccounts?labelSelector=app.kubernetes.io%2Fmanaged-by%3Doutrigger";
    let items = session
        .cluster
        .list_metadata("list outrigger's ServiceAccounts in the cluster", path)
        .await
        .map_err(Failure::from)?;
    let mut rows = Vec::new();
    for item in items {
        let meta = &item["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&meta["annotations"][names::DEPLOYMENT]);
        // The jobs' account is labelled too; only the anchor bears the deployment's own name.
        if name != text(&meta["name"]) {
            continue;
        }
        // A user who may create ServiceAccounts controls this annotation.
        if let Err(why) = check::deployment(&name) {
            let place = check::escaped(&text(&meta["namespace"]));
            let name = check::escaped(&name);
            let text = format!("skipped ServiceAccount {name} in {place}: its name {why}");
            outside.ui.event(&Event::Warning { text });
            continue;
        }
        rows.push(Row {
            name,
            context: session.cluster.target.context.clone(),
            server: session.cluster.target.endpoint.url.clone(),
            runner_namespace: text(&meta["namespace"]),
            runner: meta["annotations"][names::RUNNER].as_str().and_then(|id| id.parse().ok()),
            created: meta["creationTimestamp"].as_str().and_then(|time| time.parse().ok()),
            ..Row::default()
        });
    }
    Ok(rows)
}

impl Row {
    fn of(record: Record) -> Self {
        let setting = |key: &str| {
            record.settings.get(key).and_then(|values| values.first()).cloned().unwrap_or_default()
        };
        let place = [setting("project"), setting("group")].into_iter().find(|place| !place.is_empty());
        let stays = record.gitlab.commit.clone().filter(|_| record.is_commit_note());
        let target = record.script_target.split(',').next().unwrap_or_default().to_owned();
        let vm = record.vm.as_ref().map(|vm| format!("{} ({})", vm.name, vm.region));
        let machine =
            vm.unwrap_or_else(|| Some(setting("host")).filter(|host| !host.is_empty()).unwrap_or(target));
        let gitlab = Some(record.gitlab.url.clone()).filter(|url| !url.is_empty());
        Self {
            runner_namespace: setting("runnerNamespace"),
            namespace: setting("namespace"),
            runner: record.gitlab.owned().map(|runner| runner.id),
            gitlab: gitlab.unwrap_or_else(|| setting("gitlabUrl")),
            place: place.unwrap_or_default(),
            machine,
            stays,
            created: record.created.parse().ok(),
            name: record.deployment,
            context: record.cluster.context,
            server: record.cluster.server,
        }
    }

    fn cells(&self, now: Timestamp) -> [String; 7] {
        let host = self.gitlab.split_once("://").map_or(self.gitlab.as_str(), |(_, host)| host);
        let slash = if host.is_empty() || self.place.is_empty() { "" } else { "/" };
        // A namespace is shown as kubectl lists it; both have the same name by default, up to an ending.
        let namespace = if self.namespace.is_empty() { &self.runner_namespace } else { &self.namespace };
        let stays = self.stays.as_ref().map(|commit| (&commit.path, &commit.branch));
        let removed = stays.map(|(path, branch)| format!("removed; commit of {path} on {branch} stays"));
        [
            self.name.clone(),
            self.context.clone(),
            namespace.clone(),
            self.runner.map(|id| id.to_string()).unwrap_or_default(),
            format!("{}{slash}{}", host.trim_end_matches('/'), self.place),
            removed.unwrap_or_else(|| self.machine.clone()),
            self.created.map(|created| age(now, created)).unwrap_or_default(),
        ]
        .map(|cell| if cell.is_empty() { "<none>".to_owned() } else { message::text(&cell) })
    }

    fn json(&self) -> Value {
        let known = |text: &str| Some(message::text(text)).filter(|text| !text.is_empty());
        json!({
            "deployment": message::text(&self.name),
            "context": known(&self.context),
            "server": known(&self.server),
            "namespaces": {"runner": known(&self.runner_namespace), "jobs": known(&self.namespace)},
            "runner": self.runner,
            "gitlab": known(&self.gitlab),
            "project": known(&self.place),
            "machine": known(&self.machine),
            "created": self.created.map(|created| format!("{created:.0}")),
            "stays": self.stays.as_ref().map(|commit| json!({
                "path": message::text(&commit.path),
                "branch": message::text(&commit.branch),
                "commit": message::text(&commit.sha),
            })),
        })
    }
}

/// As kubectl shows it: the largest unit of which there are two.
fn age(now: Timestamp, created: Timestamp) -> String {
    match now.duration_since(created).as_secs().max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}

/// The columns as wide as their widest cell, three apart.
fn aligned(table: &[[String; 7]]) -> Vec<String> {
    let widest = |at: usize| table.iter().map(|row| width(&row[at])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(widest).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, columns)| pad(cell, *columns));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Row, age, aligned};

    #[test]
    fn ages_are_written_as_kubectl_does() {
        let at = |text: &str| text.parse().expect("a time");
        let created = at("2026-11-01T00:00:00Z");
        for (now, expected) in [
            ("2026-10-31T00:00:00Z", "0s"),
            ("2026-11-01T00:01:59Z", "119s"),
            ("2026-11-01T00:02:00Z", "2m"),
            ("2026-11-01T02:00:00Z", "2h"),
            ("2026-11-03T00:00:00Z", "2d"),
        ] {
            assert_eq!(age(at(now), created), expected);
        }
    }

    #[test]
    fn a_row_says_what_is_not_known() {
        let row = Row {
            name: "ci".to_owned(),
            gitlab: "https://gitlab.com".to_owned(),
            place: "a/b".to_owned(),
            ..Row::default()
        };
        let now = "2026-11-01T00:00:00Z".parse().expect("a time");
        let lines = aligned(&[super::COLUMNS.map(str::to_owned), row.cells(now)]);
        assert_eq!(
            lines,
            [
                "NAME   CONTEXT   NAMESPACE   RUNNER   GITLAB           MACHINE   AGE",
                "ci     <none>    <none>      <none>   gitlab.com/a/b   <none>    <none>",
            ]
        );
        assert_eq!(row.json()["runner"], serde_json::Value::Null);
    }
}
