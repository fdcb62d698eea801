//! The pipeline file: what it says, and how it differs from one that is there.

use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};
use sha2::{Digest as _, Sha256};
use similar::{ChangeTag, TextDiff};

use crate::error::{Failure, Kind, Result};

const TEMPLATE: &str = include_str!("../../templates/gitlab-ci.yml");

/// Where GitLab looks for it unless a project says otherwise.
pub const DEFAULT_PATH: &str = ".gitlab-ci.yml";

/// What the file depends on.
#[derive(Clone, Copy, Debug)]
pub struct PipelineFile<'a> {
    /// For the comment at its top.
    pub deployment: &'a str,
    /// Image of the job.
    pub image: &'a str,
    /// Tags of the job: those of the runner.
    pub tags: &'a [String],
    /// Commands of the job.
    pub script: &'a [String],
}

impl PipelineFile<'_> {
    /// The text.
    pub fn render(&self) -> Result<String> {
        let broken = |error: &minijinja::Error| {
            Failure::new("OR0710", Kind::Unclassified, "the pipeline file's template does not render")
                .detail("reason", error.kind().to_string())
        };
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| broken(&error))?;
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_syntax(syntax);
        env.add_filter("yaml", |value: &str| yaml_string(value));
        let values = context! {
            deployment => self.deployment,
            image => self.image,
            tags => self.tags.to_vec(),
            script => self.script.to_vec(),
        };
        env.render_named_str("gitlab-ci.yml", TEMPLATE, values).map_err(|error| broken(&error))
    }
}

/// A YAML scalar that means exactly `value` to readers of YAML 1.1 and 1.2 alike: a JSON string, with
/// what one of them takes for a line break or leaves out written as an escape.
#[must_use]
pub fn yaml_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    for c in serde_json::Value::from(value).to_string().chars() {
        match c {
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// SHA-256 in hex, to tell later whether a file is still as it was written.
#[must_use]
pub fn digest(text: &str) -> String {
    crate::template::hex(&Sha256::digest(text.as_bytes()))
}

/// The difference as lines that begin with `-`, `+` or a space, with one line of context.
#[must_use]
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for (at, group) in diff.grouped_ops(1).iter().enumerate() {
        if at > 0 {
            lines.push("  …".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{sign} {}", change.value().trim_end_matches(['\n', '\r'])));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PipelineFile, difference, digest, yaml_string};

    fn file<'a>(image: &'a str, tags: &'a [String], script: &'a [String]) -> PipelineFile<'a> {
        PipelineFile { deployment: "demo", image, tags, script }
    }

    #[test]
    fn the_articles_job() {
        let (tags, script) = (["k8s-runner".to_owned()], ["echo \"hello world!\"".to_owned()]);
        let text = file("alpine:latest", &tags, &script).render().expect("renders");
        let read: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
        assert_eq!(
            read,
            serde_json::json!({"test": {"image": "alpine:latest", "tags": ["k8s-runner"], "script": ["echo \"hello world!\""]}})
        );
        assert_eq!(digest("a").len(), 64);
    }

    #[test]
    fn words_that_yaml_1_1_takes_for_something_else_stay_words() {
        for word in [
            "yes",
            "no",
            "on",
            "12:30:45",
            "1_000",
            "2001-01-01",
            "=",
            "<<",
            "~",
            "null",
            "0x1f",
            "*a",
            "&a",
            "!x",
        ] {
            let quoted = yaml_string(word);
            assert!(quoted.starts_with('"') && quoted.ends_with('"'), "{quoted}");
        }
        assert_eq!(yaml_string("a\u{85}b\u{2028}c\u{feff}"), r#""a\u0085b\u2028c\ufeff""#);
    }

    #[test]
    fn differences_show_what_goes_and_what_comes() {
        let lines = difference("a\nb\nc\nd\n", "a\nB\nc\nd\n");
        assert_eq!(lines, ["  a", "- b", "+ B", "  c"]);
        assert!(difference("a\n", "a\n").is_empty());
    }

    proptest! {
        #[test]
        fn any_value_comes_back(image in ".*", tag in ".*", line in ".*") {
            let (tags, script) = ([tag.clone()], [line.clone()]);
            let text = file(&image, &tags, &script).render().expect("renders");
            for read in [
                serde_yaml::from_str::<serde_json::Value>(&text).expect("one reader"),
                serde_saphyr::from_str::<serde_json::Value>(&text).expect("another reader"),
            ] {
                prop_assert_eq!(&read["test"]["image"], &serde_json::json!(image));
                prop_assert_eq!(&read["test"]["tags"][0], &serde_json::json!(tag));
                prop_assert_eq!(&read["test"]["script"][0], &serde_json::json!(line));
            }
        }
    }
}
