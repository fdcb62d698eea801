//! Parses JSON responses and collects the pages of lists, with limits on memory.

use serde_json::Value;

use super::error::{Failure, Id};

/// The limit of one response in units of [`weight`]. A page of 500 objects with all their metadata takes about a
/// third of it.
const HEAVIEST: usize = 1_000_000;
/// The weight of an object with members: its map needs far more memory than a number.
const OBJECT: usize = 8;

/// Why a response was not parsed.
#[derive(Debug)]
pub enum NotRead {
    /// Its values need too much memory.
    TooMuch,
    /// It is not JSON, or is nested deeper than the parser accepts.
    NotJson(serde_json::Error),
}

/// Parses a response whose size in bytes is already limited. Two bytes can become a value of 30 bytes, so the
/// values are counted before any is created. The error contains a position, but no text of the response.
pub fn json(bytes: &[u8]) -> Result<Value, NotRead> {
    let (mut weight, mut in_string, mut escaped, mut opened) = (1, false, false, false);
    for byte in bytes {
        if in_string {
            (in_string, escaped) = (escaped || *byte != b'"', !escaped && *byte == b'\\');
            continue;
        }
        weight += match byte {
            b',' | b'[' => 1,
            b'}' if opened => 0,
            _ if opened && !byte.is_ascii_whitespace() => OBJECT,
            _ => 0,
        };
        if !byte.is_ascii_whitespace() {
            opened = *byte == b'{';
        }
        in_string = *byte == b'"';
    }
    if weight > HEAVIEST {
        return Err(NotRead::TooMuch);
    }
    serde_json::from_slice(bytes).map_err(NotRead::NotJson)
}

/// The memory of a value, as a multiple of a number's.
fn weight(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) if members.is_empty() => 1,
        Value::Object(members) => OBJECT + members.values().map(weight).sum::<usize>(),
        _ => 1,
    }
}

/// The total length in bytes of the strings in a value.
fn text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + text(value)).sum(),
        _ => 0,
    }
}

/// The failure (OR0323) for a response or list that exceeds a limit. No part of it is used.
pub fn endless(what: &str, why: &str) -> Failure {
    Failure::new(Id::AnswerTooLarge, format!("cannot {what}: the server's response is too large"))
        .detail("because", why)
        .hint("check the address of the server")
}

/// The first 120 characters of an unexpected response, on one line.
pub fn beginning(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

/// The last cause of an error; the outer errors of the libraries repeat it.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Collects the pages of one list, with limits in case a server always returns a next page.
#[derive(Debug, Default)]
pub struct Pages {
    items: Vec<Value>,
    count: usize,
    weight: usize,
    text: usize,
}

impl Pages {
    pub const PAGES: usize = 100;
    /// More entries than a cluster keeps in one namespace, or GitLab in one project.
    pub const ITEMS: usize = 10_000;
    /// Bytes of strings.
    const TEXT: usize = 16 * 1024 * 1024;

    /// Adds a page. The error says which limit the list exceeds; the caller must not use the part read so far,
    /// because the rest could contain the entry that it looks for.
    pub fn add(&mut self, page: Vec<Value>) -> Result<(), String> {
        self.count += 1;
        self.weight += page.iter().map(weight).sum::<usize>();
        self.text += page.iter().map(text).sum::<usize>();
        let most = if self.items.len() + page.len() > Self::ITEMS {
            format!("the list has more than {} entries", Self::ITEMS)
        } else if self.weight > HEAVIEST || self.text > Self::TEXT {
            format!("the list is larger than {} MiB", Self::TEXT >> 20)
        } else if self.count > Self::PAGES {
            format!("the list has more than {} pages", Self::PAGES)
        } else {
            self.items.extend(page);
            return Ok(());
        };
        Err(most)
    }

    pub fn into_items(self) -> Vec<Value> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{HEAVIEST, NotRead, Pages, json, weight};

    #[test]
    fn refuses_a_response_with_too_many_values_before_parsing() {
        for text in [
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"a": [1, 2, {"b": {}}], "c,{[": "x\",{[\\", "d": { }}"#.to_owned(),
            format!("[{}0]", "{},".repeat(1000)),
            format!("[{}0]", "{\"a\":0},".repeat(1000)),
        ] {
            let value = json(text.as_bytes()).expect("small");
            // The weight counted in the text is never less than the weight of the value.
            assert!(weight(&value) <= HEAVIEST);
        }
        let many = format!("[{}0]", "0,".repeat(HEAVIEST));
        assert!(matches!(json(many.as_bytes()), Err(NotRead::TooMuch)));
        let many = format!("[{}0]", "{\"\":0},".repeat(HEAVIEST / 9 + 1));
        assert!(matches!(json(many.as_bytes()), Err(NotRead::TooMuch)));
        // The content of a string is not counted.
        let text = format!("\"{}\"", "{,[".repeat(HEAVIEST));
        assert!(json(text.as_bytes()).is_ok());
        let deep = "[".repeat(100_000);
        assert!(matches!(json(deep.as_bytes()), Err(NotRead::NotJson(_))));
    }

    #[test]
    fn refuses_a_list_over_each_limit() {
        let one = || vec![json!({"metadata": {"name": "a"}})];
        let mut pages = Pages::default();
        let end = (0..).find_map(|_| pages.add(one()).err()).expect("it ends");
        assert!(end.contains("100 pages"), "{end}");
        let mut pages = Pages::default();
        let end = (0..).find_map(|_| pages.add(vec![json!(1); 6000]).err()).expect("it ends");
        assert!(end.contains("10000 entries"), "{end}");
        let mut pages = Pages::default();
        let end = (0..).find_map(|_| pages.add(vec![json!("x".repeat(10 << 20))]).err()).expect("it ends");
        assert!(end.contains("16 MiB"), "{end}");
        let mut pages = Pages::default();
        assert!(pages.add(one()).is_ok() && pages.add(one()).is_ok());
        assert_eq!(pages.into_items().len(), 2);
    }
}
