//! Holds what `-o json` writes to the published schemas, in every run of every tier.

use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::run::Output;

struct Published {
    schemas: Schemas,
    events: SchemaIndex,
    list: SchemaIndex,
}

fn published() -> &'static Published {
    static PUBLISHED: OnceLock<Published> = OnceLock::new();
    PUBLISHED.get_or_init(|| {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        let mut add = |name: &str, text: &str| {
            let url = format!("https://outrigger.invalid/schemas/{name}.json");
            let value = serde_json::from_str(text).expect("a schema is JSON");
            compiler.add_resource(&url, value).expect("a schema can be added");
            compiler.compile(&url, &mut schemas).expect("a schema is valid")
        };
        let events = add("events", include_str!("../../docs/schemas/events.json"));
        let list = add("list", include_str!("../../docs/schemas/list.json"));
        Published { schemas, events, list }
    })
}

/// Fails unless a document, as a command writes it without `-o json`, conforms.
pub fn assert_document(text: &str) -> Value {
    let Published { schemas, events, .. } = published();
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    schemas.validate(&value, *events).unwrap_or_else(|e| panic!("{e:#}\n{text}"));
    value
}

/// Fails unless each line conforms, and a `result` is at the end and nowhere else. A run that was `killed` may end in
/// the middle of a line.
pub fn assert_conform(output: &Output, is_list: bool, killed: bool) {
    let Published { schemas, events, list } = published();
    let text = output.stdout();
    if is_list && output.code == Some(0) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{output}"));
        schemas.validate(&value, *list).unwrap_or_else(|e| panic!("{e}\n{output}"));
        return;
    }
    let mut lines: Vec<&str> = text.lines().collect();
    if killed && !text.ends_with('\n') {
        lines.pop();
    }
    let mut results = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in line {line}\n{output}"));
        schemas.validate(&value, *events).unwrap_or_else(|e| panic!("{e:#}\nin line {line}\n{output}"));
        if value["type"] == "result" {
            results.push(at + 1);
            let exit = value["exit"].as_i64().and_then(|exit| i32::try_from(exit).ok());
            assert_eq!(exit, output.code, "the result's exit code is the process's\n{output}");
        }
    }
    // A command about outrigger itself writes one line, its page.
    let pages =
        ["explanation", "failures", "version", "settings", "settings-schema", "man", "completion", "topic"];
    let is_page = |line: &str| pages.iter().any(|page| line.contains(&format!("\"type\":\"{page}\"")));
    let one_page = lines.len() == 1 && is_page(lines[0]);
    assert!(killed || one_page || results == [lines.len()], "one result, and it is the last line\n{output}");
}
