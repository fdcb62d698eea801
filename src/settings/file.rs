//! Reads the settings file: a flat YAML mapping; unknown and duplicate keys are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::check::escaped;
use super::row::{Group, Kind, Row};
use super::table::{SETTINGS, setting};
use crate::base::error::{Failure, Id, Result};
use crate::base::text;
use crate::base::yaml::{self, DuplicateKeys, Spanned};

/// The size limit in bytes: a wrong path must not fill the memory.
const LONGEST: usize = 1 << 20;

/// What the file may say of itself, as manifests of Kubernetes do.
pub(super) const FORMAT: [(&str, &str); 2] = [("apiVersion", "outrigger.dev/v1alpha1"), ("kind", "Settings")];

/// Key to values and line of the key.
pub type FileValues = BTreeMap<&'static str, (Vec<String>, u64)>;

/// What is wrong with a line.
#[derive(Clone, Debug)]
pub struct Problem {
    pub line: u64,
    /// The setting, also if its name is only spelled alike.
    pub row: Option<&'static Row>,
    pub text: String,
}

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

/// Parses a settings file. Returns the valid values and all problems of its lines; fails (OR0203) for a file that is no
/// mapping in YAML.
pub fn parse(path: &Path, text: &str) -> Result<(FileValues, Vec<Problem>)> {
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
        let mut problem = |row, text: String| problems.push(Problem { line, row, text });
        if let Some((name, expected)) = FORMAT.iter().find(|(name, _)| *name == key) {
            if value != *expected {
                let given = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let text = format!("{name} is {}, but this outrigger reads {expected}", escaped(&given));
                problem(None, text);
            }
            continue;
        }
        if let Some((row, risk)) = consent(&key) {
            let text =
                format!("{key} is consent and must be given on the command line: {} {risk}", row.dashed);
            problem(Some(row), text);
            continue;
        }
        let Some(row) = setting(&key) else {
            let near = nearest(&key);
            let meant = near.map_or_else(String::new, |row| format!("; did you mean {}?", row.key));
            problem(near, format!("unknown setting {}{meant}", escaped(&key)));
            continue;
        };
        if row.group == Group::Consent {
            let text = format!("{key} is consent and must be given on the command line: {}", row.dashed);
            problem(Some(row), text);
            continue;
        }
        if values.contains_key(row.key) {
            problem(Some(row), format!("duplicate key {key}"));
            continue;
        }
        match scalars(&value, row.kind) {
            Ok(list) if value.is_null() => drop(list),
            Ok(list) => drop(values.insert(row.key, (list, line))),
            Err(why) => problem(Some(row), format!("{key} {why}")),
        }
    }
    Ok((values, problems))
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

/// The setting that `key` or a flag of this spelling probably means.
fn nearest(key: &str) -> Option<&'static Row> {
    let meant = text::closest(key, SETTINGS.iter().flat_map(|row| [row.key, row.flag]))?;
    SETTINGS.iter().find(|row| row.key == meant || row.flag == meant)
}

#[cfg(test)]
mod tests {
    use crate::base::error::Id;
    use std::path::Path;

    use super::parse;

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = parse(Path::new("o.yaml"), text).expect("a mapping");
        problems.iter().map(|one| format!("line {}: {}", one.line, one.text)).collect()
    }

    #[test]
    fn reads_scalars_lists_and_null() {
        let (values, _) = parse(
            Path::new("o.yaml"),
            "# mine\ntags: [a, b]\nnamespace: jobs\nlockMetadata: true\ncontext:\nuseNamespaces: x, y\n",
        )
        .expect("valid");
        assert_eq!(values["tags"], (vec!["a".to_owned(), "b".to_owned()], 2));
        assert_eq!(values["namespace"], (vec!["jobs".to_owned()], 3));
        assert_eq!(values["lockMetadata"].0, ["true"]);
        assert_eq!(values["useNamespaces"].0, ["x", "y"]);
        assert!(!values.contains_key("context"));
        assert!(parse(Path::new("o.yaml"), "").expect("empty is fine").0.is_empty());
    }

    #[test]
    fn reports_all_problems_with_their_lines() {
        let text = "namespace: a\nnamspace: b\ngitlab-url: x\nnamespace: c\nlockMetadata: maybe\nrunnerVersion: 19.10\nfoo: 1\nprune: true\n";
        assert_eq!(
            problems(text),
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
    }

    #[test]
    fn a_file_may_say_its_version_and_kind_which_are_checked() {
        let text = "apiVersion: outrigger.dev/v1alpha1\nkind: Settings\ntags: [a]\n";
        let (values, wrong) = parse(Path::new("o.yaml"), text).expect("valid");
        assert!(wrong.is_empty());
        assert_eq!(values.keys().collect::<Vec<_>>(), [&"tags"]);
        assert_eq!(
            problems("apiVersion: outrigger.dev/v9\nkind:\n"),
            [
                "line 1: apiVersion is \"outrigger.dev/v9\", but this outrigger reads outrigger.dev/v1alpha1",
                "line 2: kind is \"null\", but this outrigger reads Settings",
            ]
        );
    }

    #[test]
    fn refuses_a_malformed_file() {
        for text in ["a: [", "- x", "just text", "a: 1\n---\nb: 2"] {
            assert_eq!(parse(Path::new("o.yaml"), text).expect_err(text).id, Id::SettingsFile);
        }
    }
}
