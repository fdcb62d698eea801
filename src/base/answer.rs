//! The JSON of answers and the pages of lists, and the memory that they may take.

use serde_json::Value;

use super::error::{Failure, Id};

/// The most that one answer may weigh, see [`weight`]: a page of five hundred objects with all their metadata
/// stays at a third of it.
const HEAVIEST: usize = 1_000_000;
/// What an object with members weighs: its map is far larger than a number.
const OBJECT: usize = 8;

/// Why an answer was not read as JSON.
#[derive(Debug)]
pub enum NotRead {
    /// Its values would take too much memory.
    TooMuch,
    /// It is no JSON, or nested deeper than the parser takes.
    NotJson(serde_json::Error),
}

/// Reads the JSON of an answer whose bytes are bounded already. Two bytes can make a value of thirty, so the
/// values are counted before any is made.
///
/// # Errors
/// [`NotRead`]; nothing of the answer is in it but a position.
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

/// What a value takes in memory, in numbers.
fn weight(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) if members.is_empty() => 1,
        Value::Object(members) => OBJECT + members.values().map(weight).sum::<usize>(),
        _ => 1,
    }
}

/// The bytes of the texts in a value.
fn text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + text(value)).sum(),
        _ => 0,
    }
}

/// The failure for an answer, or a list, that is not read to its end. Nothing is decided by a part of it.
pub fn endless(what: &str, why: &str) -> Failure {
    Failure::new(Id::AnswerTooLarge, format!("cannot {what}: the server's response is too large"))
        .detail("because", why)
        .hint("check the address of the server")
}

/// The first words of an answer that is not what it should be, on one line.
pub fn beginning(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

/// The last cause of an error: the libraries' outer ones repeat it.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// One list while its pages come in, whichever server they come from: a server that always has a next page
/// must not take all memory, nor all time.
#[derive(Debug, Default)]
pub struct Pages {
    items: Vec<Value>,
    count: usize,
    weight: usize,
    text: usize,
}

impl Pages {
    /// The most pages of one list.
    pub const PAGES: usize = 100;
    /// The most entries of one list: more than a cluster keeps in one namespace, or GitLab in one project.
    pub const ITEMS: usize = 10_000;
    /// The most bytes of text in one list.
    const TEXT: usize = 16 * 1024 * 1024;

    /// Adds a page.
    ///
    /// # Errors
    /// Why the list is not read further; what is looked for could be in the rest, so there is no part of it.
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

    /// The entries, once the last page is in.
    pub fn into_items(self) -> Vec<Value> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{HEAVIEST, NotRead, Pages, json, weight};

    #[test]
    fn values_are_counted_before_they_are_made() {
        for text in [
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"a": [1, 2, {"b": {}}], "c,{[": "x\",{[\\", "d": { }}"#.to_owned(),
            format!("[{}0]", "{},".repeat(1000)),
            format!("[{}0]", "{\"a\":0},".repeat(1000)),
        ] {
            let value = json(text.as_bytes()).expect("small");
            // What was counted in the text is never less than what was made of it.
            assert!(weight(&value) <= HEAVIEST);
        }
        let many = format!("[{}0]", "0,".repeat(HEAVIEST));
        assert!(matches!(json(many.as_bytes()), Err(NotRead::TooMuch)));
        let many = format!("[{}0]", "{\"\":0},".repeat(HEAVIEST / 9 + 1));
        assert!(matches!(json(many.as_bytes()), Err(NotRead::TooMuch)));
        // Inside of a text nothing counts.
        let text = format!("\"{}\"", "{,[".repeat(HEAVIEST));
        assert!(json(text.as_bytes()).is_ok());
        let deep = "[".repeat(100_000);
        assert!(matches!(json(deep.as_bytes()), Err(NotRead::NotJson(_))));
    }

    #[test]
    fn lists_end() {
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
