//! IAM policies: as much of their language as policies for Lightsail need.
//!
//! "IAM JSON policy elements reference" and "Policy evaluation logic" of the IAM User Guide. What is not played ends
//! the test, as a statement that is passed over would allow or deny nothing.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// What is asked of a policy.
pub(crate) struct Ask<'a> {
    /// Such as `lightsail:GetInstance`.
    pub(crate) action: &'a str,
    /// The ARN; `*` for actions without a resource.
    pub(crate) resource: &'a str,
    /// The context's keys that there are, as `aws:RequestTag/owner`.
    pub(crate) context: &'a BTreeMap<String, String>,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// No statement allows it.
    Silent,
    /// A statement denies it, whatever others say.
    Denied,
}

/// Refuses a policy of which something is not played.
///
/// # Panics
/// If so.
pub(crate) fn check(policy: &Value) {
    assert_eq!(policy["Version"], "2012-10-17", "a policy has the language's version");
    for statement in each(&policy["Statement"]) {
        for (element, value) in statement.as_object().expect("a statement is an object") {
            match element.as_str() {
                "Sid" => {}
                "Action" => each(value).into_iter().for_each(known_action),
                "Resource" => assert!(each(value).into_iter().all(Value::is_string), "resources are texts"),
                "Effect" => assert!(*value == "Allow" || *value == "Deny", "the effect is {value}"),
                "Condition" => {
                    value.as_object().expect("conditions are an object").iter().for_each(known_condition);
                }
                other => panic!("a policy's {other} is not played"),
            }
        }
    }
}

/// Asks a policy.
pub(crate) fn ask(policy: &Value, ask: &Ask<'_>) -> Verdict {
    let statements = each(&policy["Statement"]).into_iter().filter(|statement| applies(statement, ask));
    let effects: Vec<&Value> = statements.map(|statement| &statement["Effect"]).collect();
    if effects.iter().any(|effect| **effect == "Deny") {
        return Verdict::Denied;
    }
    if effects.iter().any(|effect| **effect == "Allow") { Verdict::Allowed } else { Verdict::Silent }
}

fn applies(statement: &Value, ask: &Ask<'_>) -> bool {
    let covers = |element: &str, text: &str, fold: bool| {
        each(&statement[element]).into_iter().any(|pattern| like(word(pattern), text, fold))
    };
    let conditions = statement["Condition"].as_object();
    covers("Action", ask.action, true)
        && covers("Resource", ask.resource, false)
        && conditions.is_none_or(|all| all.iter().all(|(operator, keys)| holds(operator, keys, ask.context)))
}

fn known_condition((operator, keys): (&String, &Value)) {
    let known = ["StringEquals", "StringNotEquals", "StringLike", "Null"].contains(&operator.as_str());
    assert!(known, "the condition {operator} is not played");
    for key in keys.as_object().expect("a condition has keys").keys() {
        let known = ["aws:requestedregion", "aws:requesttag/", "aws:resourcetag/"];
        let known = known.iter().any(|known| key.to_lowercase().starts_with(known));
        assert!(known, "the condition key {key} is not played");
    }
}

/// A misspelt action would allow nothing, and IAM's console would say so.
fn known_action(pattern: &Value) {
    let known = super::MODEL.operations().any(|name| like(word(pattern), &format!("lightsail:{name}"), true));
    assert!(known, "a policy has the action {pattern}, which no operation has");
}

fn holds(operator: &str, keys: &Value, context: &BTreeMap<String, String>) -> bool {
    keys.as_object().expect("a condition has keys").iter().all(|(key, wanted)| {
        // Names of keys are not case-sensitive, but for what follows the slash of a tag.
        let found = context.iter().find(|(known, _)| same_key(known, key)).map(|(_, value)| value.as_str());
        let any = |test: fn(&str, &str) -> bool| {
            found.map(|found| each(wanted).into_iter().any(|wanted| test(word(wanted), found)))
        };
        match operator {
            "StringEquals" => any(|wanted, found| wanted == found).unwrap_or(false),
            "StringNotEquals" => !any(|wanted, found| wanted == found).unwrap_or(false),
            "StringLike" => any(|wanted, found| like(wanted, found, false)).unwrap_or(false),
            "Null" => each(wanted).into_iter().any(|wanted| {
                let wanted = wanted.as_bool().unwrap_or_else(|| word(wanted) == "true");
                wanted == found.is_none()
            }),
            _ => false,
        }
    })
}

fn same_key(known: &str, key: &str) -> bool {
    let parts = |key: &str| {
        let (name, tag) = key.split_once('/').unwrap_or((key, ""));
        (name.to_lowercase(), tag.to_owned())
    };
    parts(known) == parts(key)
}

/// A text, or a list of them.
fn each(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a policy's values are texts")
}

/// Whether a pattern with `*` and `?` covers all of a text.
fn like(pattern: &str, text: &str, fold: bool) -> bool {
    let (pattern, text) = if fold {
        (pattern.to_lowercase(), text.to_lowercase())
    } else {
        (pattern.to_owned(), text.to_owned())
    };
    let pattern = regex::escape(&pattern).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!(r"\A(?s:{pattern})\z")).expect("an escaped pattern is a regex").is_match(&text)
}
