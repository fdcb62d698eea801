//! Reads YAML strictly, with limits on depth and size that are checked before values are built. Another library,
//! `serde_yaml`, writes it.

use serde::de::DeserializeOwned;
use serde_saphyr::DuplicateKeyPolicy;
pub use serde_saphyr::Spanned;

/// Deeper than any kubeconfig, and far from a stack overflow.
const DEEPEST: usize = 48;

/// The treatment of duplicate keys in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateKeys {
    Refused,
    /// The last one wins, as in kubectl.
    LastWins,
    /// The deserialized type gets all of them.
    Kept,
}

/// A syntax error, a wrong shape or an exceeded limit.
#[derive(Debug)]
pub struct Fault {
    /// From 1.
    pub line: Option<u64>,
    /// The library's message. It can contain values of the text, so it must not be shown if those may be secrets.
    pub words: String,
}

/// Reads all documents of a text.
pub fn read<T: DeserializeOwned>(text: &str, duplicates: DuplicateKeys) -> Result<Vec<T>, Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            max_documents: 16,
            max_nodes: 250_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
        },
        duplicate_keys: match duplicates {
            DuplicateKeys::Refused => DuplicateKeyPolicy::Error,
            DuplicateKeys::LastWins => DuplicateKeyPolicy::LastWins,
            DuplicateKeys::Kept => DuplicateKeyPolicy::PassThrough,
        },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Fault { line: error.location().map(|at| at.line()), words: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{DuplicateKeys, read};

    #[test]
    fn what_is_too_much_is_refused_at_once() {
        let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
            let before = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", "))
        });
        for text in [
            "[".repeat(40_000),
            format!("a: {}1{}", "[".repeat(40_000), "]".repeat(40_000)),
            "{a: ".repeat(10_000),
            "- ".repeat(10_000),
            "? ".repeat(10_000),
            bomb,
            format!("[{}]", "0,".repeat(500_000)),
            "---\n".repeat(100_000),
        ] {
            for duplicates in [DuplicateKeys::Refused, DuplicateKeys::LastWins, DuplicateKeys::Kept] {
                let begun = std::time::Instant::now();
                let read = read::<Value>(&text, duplicates);
                assert!(read.is_err(), "{}", &text[..20]);
                // A quadratic reader takes minutes for these; a linear one a part of a second.
                assert!(begun.elapsed().as_secs() < 60, "{}", &text[..20]);
            }
        }
    }

    #[test]
    fn treats_duplicate_keys_as_requested() {
        let text = "a: 1\na: 2\n";
        assert!(read::<Value>(text, DuplicateKeys::Refused).is_err());
        assert_eq!(read::<Value>(text, DuplicateKeys::LastWins).expect("read")[0]["a"], 2);
    }
}
