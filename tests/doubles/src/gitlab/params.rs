//! Parameters from query and body, coerced and complained about as Grape does.

use serde_json::{Map, Value, json};

use super::answer::{self, Outcome};
use crate::wire::{Request, decode};

/// The parameters of a request, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Params {
    given: Map<String, Value>,
    problems: Vec<String>,
}

fn insert_pairs(into: &mut Map<String, Value>, pairs: &str) {
    for pair in pairs.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name, true), decode(value, true));
        if let Some(name) = name.strip_suffix("[]") {
            let list = into.entry(name).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(value.into());
            }
        } else {
            into.insert(name, value.into());
        }
    }
}

impl Params {
    /// Takes a request's parameters.
    pub(crate) fn of(request: &Request) -> Outcome<Self> {
        let mut given = Map::new();
        insert_pairs(&mut given, &request.raw_query);
        let kind = request.content_type();
        match kind.as_str() {
            _ if request.body.is_empty() => {}
            "application/json" => match serde_json::from_slice(&request.body) {
                Ok(Value::Object(body)) => given.extend(body),
                Ok(_) => {}
                Err(_) => return Err(answer::bad_request("The request body is not valid JSON")),
            },
            "application/x-www-form-urlencoded" => {
                insert_pairs(&mut given, &String::from_utf8_lossy(&request.body));
            }
            other => {
                let error = format!("The provided content-type '{other}' is not supported.");
                return Err(answer::Answer::json(415, &json!({"error": error})));
            }
        }
        Ok(Self { given, problems: Vec::new() })
    }

    /// Whether it was given at all, perhaps as null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// As it was given.
    pub(crate) fn raw(&self, name: &str) -> &Value {
        self.given.get(name).unwrap_or(&Value::Null)
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{name} {what}"));
    }

    fn required<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.problems.iter().any(|problem| problem.starts_with(&format!("{name} "))) {
            self.problem(name, "is missing");
        }
        value
    }

    /// A text; numbers and booleans are taken for text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.raw(name) {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Array(_) | Value::Object(_) => {
                self.problem(name, "is invalid");
                None
            }
            other => Some(other.to_string()),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, name: &str) -> String {
        let value = self.text(name);
        self.required(name, value).unwrap_or_default()
    }

    /// A text out of a few.
    pub(crate) fn choice(&mut self, name: &str, values: &[&str]) -> Option<String> {
        let value = self.text(name)?;
        if !values.contains(&value.as_str()) {
            self.problem(name, "does not have a valid value");
        }
        Some(value)
    }

    /// A whole number; text that reads as one is taken.
    pub(crate) fn integer(&mut self, name: &str) -> Option<i64> {
        let value = match self.raw(name) {
            Value::Null => return None,
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        if value.is_none() {
            self.problem(name, "is invalid");
        }
        value
    }

    /// A whole number that must be there.
    pub(crate) fn required_integer(&mut self, name: &str) -> i64 {
        let value = self.integer(name);
        self.required(name, value).unwrap_or_default()
    }

    /// Yes or no.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = match self.raw(name) {
            Value::Null => return None,
            Value::String(text) if text.is_empty() => return None,
            Value::Bool(value) => Some(*value),
            Value::String(text) if matches!(text.as_str(), "true" | "t" | "1") => Some(true),
            Value::String(text) if matches!(text.as_str(), "false" | "f" | "0") => Some(false),
            Value::Number(number) if number.as_i64() == Some(1) => Some(true),
            Value::Number(number) if number.as_i64() == Some(0) => Some(false),
            _ => None,
        };
        if value.is_none() {
            self.problem(name, "is invalid");
        }
        value
    }

    /// A list, or text with commas.
    pub(crate) fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let parts: Vec<String> = match self.raw(name) {
            Value::Null => return None,
            Value::String(text) => text.split(',').map(str::to_owned).collect(),
            Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect(),
            _ => {
                self.problem(name, "is invalid");
                return None;
            }
        };
        Some(parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }

    /// Refuses the request if anything was wrong.
    pub(crate) fn done(&self) -> Outcome<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(answer::parameters(&self.problems)) }
    }
}
