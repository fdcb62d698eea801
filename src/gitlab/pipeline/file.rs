//! The content of the pipeline file, and its difference from an existing file.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use similar::{ChangeTag, TextDiff};

use crate::base::error::Result;
use crate::base::template;

const TEMPLATE: &str = include_str!("../../../templates/gitlab-ci.yml");

/// GitLab's default path.
pub const DEFAULT_PATH: &str = ".gitlab-ci.yml";

/// The values for the template `gitlab-ci.yml`.
#[derive(Clone, Copy, Debug)]
pub struct PipelineFile<'a> {
    /// For the comment.
    pub deployment: &'a str,
    pub image: &'a str,
    /// The runner's tags.
    pub tags: &'a [String],
    /// One command each.
    pub script: &'a [String],
}

impl PipelineFile<'_> {
    pub fn render(&self) -> Result<String> {
        let values = json!({
            "deployment": self.deployment, "image": self.image, "tags": self.tags, "script": self.script,
        });
        template::render("gitlab-ci.yml", TEMPLATE, &values)
    }
}

/// SHA-256 in hex, to detect later changes.
pub fn digest(text: &str) -> String {
    template::hex(&Sha256::digest(text.as_bytes()))
}

/// The changed lines, which begin with `-`, `+` or `=`, with one line of context. Not with a space: white space at the
/// beginning of a text is not shown, and with it the indentation would go.
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for (at, group) in diff.grouped_ops(1).iter().enumerate() {
        if at > 0 {
            lines.push("…".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => '=',
            };
            lines.push(format!("{sign} {}", change.value().trim_end_matches(['\n', '\r'])));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PipelineFile, difference, digest};

    fn file<'a>(image: &'a str, tags: &'a [String], script: &'a [String]) -> PipelineFile<'a> {
        PipelineFile { deployment: "demo", image, tags, script }
    }

    #[test]
    fn rendered_job_has_image_tags_and_script() {
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
    fn difference_contains_removed_and_added_lines() {
        let lines = difference("a\nb\nc\nd\n", "a\nB\nc\nd\n");
        assert_eq!(lines, ["= a", "- b", "+ B", "= c"]);
        assert!(difference("a\n", "a\n").is_empty());
    }

    proptest! {
        #[test]
        fn any_value_is_read_back_from_the_yaml(image in ".*", tag in ".*", line in ".*") {
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
