//! The JSON Schema of the settings file, from the table of settings.

use serde_json::{Map, Value, json};

use super::file::FORMAT;
use super::row::{Group, Kind, Row};
use super::table::SETTINGS;

/// The schema (draft 2020-12). It says which keys there are and of which form their values; what a value must be beyond
/// that, outrigger checks. A key without a value means not set.
pub fn schema() -> Value {
    let format = FORMAT.iter().map(|(name, only)| ((*name).to_owned(), json!({"const": only})));
    // Consent is given by flag alone.
    let rows = SETTINGS.iter().filter(|row| row.group != Group::Consent);
    let properties: Map<String, Value> =
        format.chain(rows.map(|row| (row.key.to_owned(), property(row)))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings file of outrigger",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(row: &Row) -> Value {
    // A whole number needs no quotes, whatever the value is.
    let one = |more: &[&str]| match row.choices {
        [] => {
            let types = [&["string", "integer", "boolean"], more].concat();
            json!({"type": types})
        }
        choices if more.is_empty() => json!({"enum": choices}),
        choices => {
            json!({"enum": choices.iter().map(|choice| json!(choice)).chain([Value::Null]).collect::<Vec<_>>()})
        }
    };
    let mut property = match row.kind {
        Kind::Bool => json!({"type": ["boolean", "null"]}),
        // Several in one text are separated by commas.
        Kind::List => {
            json!({"anyOf": [{"type": ["string", "integer", "null"]}, {"type": "array", "items": one(&[])}]})
        }
        Kind::Lines => json!({"anyOf": [one(&["null"]), {"type": "array", "items": one(&[])}]}),
        Kind::Path => json!({"type": ["string", "null"]}),
        Kind::Text | Kind::Duration | Kind::Count => one(&["null"]),
    };
    property["description"] = json!(row.help);
    property
}
