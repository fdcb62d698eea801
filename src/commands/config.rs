//! `outrigger config print`: every setting with its value and where the value comes from.

use serde_json::{Value, json};

use crate::base::error::Result;
use crate::base::message;
use crate::base::text::{hang, pad, width};
use crate::cluster::{self, Selection};
use crate::commands::session::Outside;
use crate::commands::{Ended, write_page};
use crate::gitlab::credentials;
use crate::settings::{self, Group, Row, SETTINGS, Settings, Source};

/// One line: key, value and source.
struct Line {
    key: &'static str,
    /// `None` if the setting has no value.
    values: Option<Vec<String>>,
    source: String,
}

/// Prints the settings that a run with the same flags would begin with. Reads flags, environment, settings file, record
/// and kubeconfig; contacts no server.
///
/// # Errors
/// Those of the settings (OR0202, OR0203) and of the record.
pub async fn print(outside: &Outside<'_>) -> Result<Ended> {
    let (settings, _) = outside.settings().await?;
    let lines = lines(outside, &settings).await;
    let fields: Vec<_> = lines.iter().map(Line::json).collect();
    let text = text(&lines, outside.ui.paper().width);
    write_page(outside, &text, "settings", &[("settings", json!(fields))])
}

/// The settings as `config print` prints them, as JSON.
pub(super) async fn fields(outside: &Outside<'_>, settings: &Settings) -> Vec<Value> {
    lines(outside, settings).await.iter().map(Line::json).collect()
}

async fn lines(outside: &Outside<'_>, settings: &Settings) -> Vec<Line> {
    let mut lines = Vec::new();
    // Consent is given to one command line and is no setting.
    for row in SETTINGS.iter().filter(|row| row.group != Group::Consent) {
        lines.push(match row.key {
            "context" if settings.context.is_none() => current_context(outside, settings).await,
            _ => line(settings, row),
        });
        if row.key == "gitlabTokenFile"
            && settings.gitlab_token_file.is_none()
            && let Some((name, _)) = credentials::from_env(outside.env)
        {
            let values = Some(vec!["set, not shown".to_owned()]);
            lines.push(Line { key: "gitlabToken", values, source: name.to_owned() });
        }
    }
    lines
}

/// Prints the JSON Schema of the settings file, alone, or with `-o json` in a line.
pub fn schema(outside: &Outside<'_>) -> Result<Ended> {
    let schema = settings::schema();
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n";
    write_page(outside, &text, "settings-schema", &[("content", schema)])
}

fn line(settings: &Settings, row: &'static Row) -> Line {
    match settings.view(row.key) {
        Some((values, source)) => Line { key: row.key, values: Some(values), source: shown(&source) },
        None => Line { key: row.key, values: None, source: String::new() },
    }
}

/// The source with the path of the settings file, which may be one of several.
fn shown(source: &Source) -> String {
    match source {
        Source::File(path) => format!("settings file {}", path.display()),
        other => other.to_string(),
    }
}

/// The kubeconfig's current context, which applies where nothing else names one.
async fn current_context(outside: &Outside<'_>, settings: &Settings) -> Line {
    let file = settings.kubeconfig.as_ref().map(|path| path.value.as_path());
    let selection = Selection { file, ..Selection::default() };
    let (values, source) = match cluster::contexts(&selection, outside.env, &outside.intake).await {
        Ok((_, Some(current))) => (Some(vec![current]), "kubeconfig, current context".to_owned()),
        Ok((_, None)) => (None, "kubeconfig, which has no current context".to_owned()),
        Err(failure) => (None, failure.message),
    };
    Line { key: "context", values, source }
}

impl Line {
    fn json(&self) -> Value {
        let clean = |text: &String| message::text(text);
        let value = match self.values.as_deref() {
            None => Value::Null,
            Some([one]) => json!(clean(one)),
            Some(several) => json!(several.iter().map(clean).collect::<Vec<_>>()),
        };
        json!({"key": self.key, "value": value, "source": clean(&self.source)})
    }
}

/// A table of three columns; where it does not fit, the source is below the value.
fn text(lines: &[Line], columns: usize) -> String {
    let value = |line: &Line| match &line.values {
        Some(values) => values.iter().map(|value| message::text(value)).collect::<Vec<_>>().join(", "),
        None => "-".to_owned(),
    };
    let key_width = lines.iter().map(|line| line.key.len()).max().unwrap_or(0);
    let value_width = lines.iter().map(|line| width(&value(line))).max().unwrap_or(0).min(40);
    let mut out = String::new();
    for line in lines {
        let head = format!("{}  ", pad(line.key, key_width));
        let (value, source) = (value(line), message::text(&line.source));
        let row = format!("{head}{}  {source}", pad(&value, value_width)).trim_end().to_owned();
        if width(&row) <= columns {
            out += &row;
            out.push('\n');
            continue;
        }
        // A value that has to stay in one piece is below its key, if there is no room beside it.
        let beside = value.contains(' ') || width(&head) + width(&value) <= columns;
        let below = if beside { width(&head) } else { 2 };
        if beside {
            out += &hang(&head, &value, columns);
        } else {
            out += &[line.key, "\n", &" ".repeat(below), &value, "\n"].concat();
        }
        if !source.is_empty() {
            out += &hang(&" ".repeat(below), &format!("({source})"), columns);
        }
    }
    out
}
