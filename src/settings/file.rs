//! Reads the settings file: a flat YAML mapping; unknown and duplicate keys are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::check::escaped;
use super::row::{Group, Kind, Row};
use super::table::{SETTINGS, setting};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text;
use crate::base::yaml::{self, DuplicateKeys, Spanned};

/// The size limit in bytes: a wrong path must not fill the memory.
const LONGEST: usize = 1 << 20;

/// What the file may say of itself, as manifests of Kubernetes do.
pub(super) const FORMAT: [(&str, &str); 2] = [("apiVersion", "outrigger.dev/v1alpha1"), ("kind", "Settings")];

/// Key to values and line of the key.
pub type FileValues = BTreeMap<&'static str, (Vec<String>, u64)>;

/// The mapping with its duplicate keys.
struct Pairs(Vec<(Spanned<String>, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings as `key: value` lines")
            }

            fn visit_unit<E>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }

            fn visit_none<E>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Parses a settings file; the failure (OR0203) contains all problems.
pub fn parse(path: &Path, text: &str) -> Result<FileValues> {
    let failure = |message: String| Failure::new(Id::SettingsFile, message);
    if text.len() > LONGEST {
        return Err(failure(format!("settings file {} is larger than 1 MiB", path.display())));
    }
    let mut documents: Vec<Pairs> = yaml::read(text, DuplicateKeys::Kept)
        .map_err(|fault| failure(format!("invalid settings file {}: {}", path.display(), fault.words)))?;
    if documents.len() > 1 {
        return Err(failure(format!("settings file {} contains more than one document", path.display())));
    }
    let Pairs(pairs) = documents.pop().unwrap_or(Pairs(Vec::new()));

    let (mut values, mut problems) = (FileValues::new(), Vec::new());
    for (key, value) in pairs {
        let (key, line) = (key.value, key.referenced.line());
        let mut problem = |text: String| problems.push((format!("line {line}"), text));
        if let Some((name, expected)) = FORMAT.iter().find(|(name, _)| *name == key) {
            if value != *expected {
                let given = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                problem(format!("{name} is {}, but this outrigger reads {expected}", escaped(&given)));
            }
            continue;
        }
        if let Some((row, risk)) = consent(&key) {
            problem(format!("{key} is consent and must be given on the command line: {} {risk}", row.dashed));
            continue;
        }
        let Some(row) = setting(&key) else {
            let near = nearest(&key).map_or_else(String::new, |name| format!("; did you mean {name}?"));
            problem(format!("unknown setting {}{near}", escaped(&key)));
            continue;
        };
        if row.group == Group::Consent {
            problem(format!("{key} is consent and must be given on the command line: {}", row.dashed));
            continue;
        }
        if values.contains_key(row.key) {
            problem(format!("duplicate key {key}"));
            continue;
        }
        match scalars(&value, row.kind) {
            Ok(list) if value.is_null() => drop(list),
            Ok(list) => drop(values.insert(row.key, (list, line))),
            Err(why) => problem(format!("{key} {why}")),
        }
    }
    if problems.is_empty() {
        return Ok(values);
    }
    let mut failure = failure(format!("invalid settings file {}", path.display()));
    failure.details = problems;
    Err(failure.hint(Command::page("help settings")))
}

fn scalars(value: &Value, kind: Kind) -> Result<Vec<String>, String> {
    match (value, kind) {
        (Value::Null, _) => Ok(Vec::new()),
        (Value::Array(items), Kind::List | Kind::Lines) => items.iter().map(scalar).collect(),
        (Value::Array(_), _) => Err("must be one value, not a list".to_owned()),
        (Value::String(text), Kind::List) => Ok(split(text)),
        (_, Kind::Bool) if !value.is_boolean() => Err("must be true or false".to_owned()),
        _ => Ok(vec![scalar(value)?]),
    }
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        // YAML reads 19.10 as 19.1.
        Value::Number(_) => Err("looks like a number: put it in quotes".to_owned()),
        _ => Err("must be a plain value".to_owned()),
    }
}

/// Splits a comma-separated list; empty items are kept, so that the check reports them.
pub fn split(text: &str) -> Vec<String> {
    text.split(',').map(|item| item.trim_matches(' ').to_owned()).collect()
}

/// The consent and the risk of a key of an earlier version.
fn consent(key: &str) -> Option<(&'static Row, &'static str)> {
    let named = |row: &'static Row| {
        let (_, risk) =
            row.aliases.iter().find(|(flag, _)| flag.replace('-', "").eq_ignore_ascii_case(key))?;
        Some((row, *risk))
    };
    SETTINGS.iter().find_map(named)
}

/// The key that `key` or a flag of this spelling probably means.
fn nearest(key: &str) -> Option<&'static str> {
    let meant = text::closest(key, SETTINGS.iter().flat_map(|row| [row.key, row.flag]))?;
    SETTINGS.iter().find(|row| row.key == meant || row.flag == meant).map(|row| row.key)
}

#[cfg(test)]
mod tests {
    use crate::base::error::Id;
    use std::path::Path;

    use super::parse;

    #[test]
    fn reads_scalars_lists_and_null() {
        let values = parse(
            Path::new("o.yaml"),
            "# mine\ntags: [a, b]\nnamespace: jobs\nlockMetadata: true\ncontext:\nuseNamespaces: x, y\n",
        )
        .expect("valid");
        assert_eq!(values["tags"], (vec!["a".to_owned(), "b".to_owned()], 2));
        assert_eq!(values["namespace"], (vec!["jobs".to_owned()], 3));
        assert_eq!(values["lockMetadata"].0, ["true"]);
        assert_eq!(values["useNamespaces"].0, ["x", "y"]);
        assert!(!values.contains_key("context"));
        assert!(parse(Path::new("o.yaml"), "").expect("empty is fine").is_empty());
    }

    #[test]
    fn reports_all_problems_with_their_lines() {
        let failure = parse(
            Path::new("o.yaml"),
            "namespace: a\nnamspace: b\ngitlab-url: x\nnamespace: c\nlockMetadata: maybe\nrunnerVersion: 19.10\nfoo: 1\nprune: true\n",
        )
        .expect_err("invalid");
        let shown: Vec<_> = failure.details.iter().map(|(a, b)| format!("{a}: {b}")).collect();
        assert_eq!(
            shown,
            [
                "line 2: unknown setting \"namspace\"; did you mean namespace?",
                "line 3: unknown setting \"gitlab-url\"; did you mean gitlabUrl?",
                "line 4: duplicate key namespace",
                "line 5: lockMetadata must be true or false",
                "line 6: runnerVersion looks like a number: put it in quotes",
                "line 7: unknown setting \"foo\"",
                "line 8: prune is consent and must be given on the command line: --prune",
            ]
        );
        assert_eq!((failure.id, failure.kind.exit_code()), (Id::SettingsFile, 2));
    }

    #[test]
    fn a_file_may_say_its_version_and_kind_which_are_checked() {
        let parse = |text: &str| parse(Path::new("o.yaml"), text);
        let values = parse("apiVersion: outrigger.dev/v1alpha1\nkind: Settings\ntags: [a]\n").expect("valid");
        assert_eq!(values.keys().collect::<Vec<_>>(), [&"tags"]);
        let failure = parse("apiVersion: outrigger.dev/v9\nkind:\n").expect_err("a newer version");
        let shown: Vec<_> = failure.details.iter().map(|(a, b)| format!("{a}: {b}")).collect();
        assert_eq!(
            shown,
            [
                "line 1: apiVersion is \"outrigger.dev/v9\", but this outrigger reads outrigger.dev/v1alpha1",
                "line 2: kind is \"null\", but this outrigger reads Settings",
            ]
        );
    }

    #[test]
    fn refuses_a_malformed_file() {
        for text in ["a: [", "- x", "just text", "tags: {a: b}", "a: 1\n---\nb: 2"] {
            assert_eq!(parse(Path::new("o.yaml"), text).expect_err(text).id, Id::SettingsFile);
        }
    }
}
