//! Known messages of GitLab that are more precise than the status.

use crate::base::error::Id;

/// A known refusal.
#[derive(Debug)]
pub(super) struct Known {
    /// Any of these in GitLab's message, in lower case.
    words: &'static [&'static str],
    /// The failure's id.
    pub id: Id,
    /// The reason, after "cannot commit .gitlab-ci.yml on main: ".
    pub why: &'static str,
    pub hints: &'static [&'static str],
    /// Whether the user can commit the file instead, which `--print` shows.
    pub prints: bool,
    /// Whether the same request may succeed later.
    pub passes: bool,
}

/// The common case.
const PLAIN: Known =
    Known { words: &[], id: Id::GitlabInvalid, why: "", hints: &[], prints: false, passes: false };

/// Source, in GitLab: `EE::Gitlab::Checks` (push rules),
/// `Gitlab::Ci::Pipeline::Chain` (pipelines), `Ci::Runner` (runners), `Files::MultiService` (commits).
const TABLE: &[Known] = &[
    Known {
        words: &[
            "commit message does not follow the pattern",
            "commit message contains the forbidden pattern",
        ],
        id: Id::CommitMessageRule,
        why: "the project's push rules reject the commit message",
        hints: &["use another commit message: --commit-message TEXT"],
        prints: true,
        ..PLAIN
    },
    Known {
        words: &[
            "does not follow the pattern",
            "is not a member of team",
            "is not a gitlab user",
            "pre-receive hook",
            "hook declined",
            "must be signed",
            "unverified email",
            "is not verified",
            "not allowed to push code",
        ],
        id: Id::CommitRule,
        why: "the project's push rules reject the commit",
        hints: &["if they restrict the branch name, use another branch: --branch NAME"],
        prints: true,
        ..PLAIN
    },
    Known {
        words: &["has changed since you started editing it", "file has changed since"],
        id: Id::PipelineFileDiffers,
        why: "the file was changed meanwhile",
        hints: &["run the same command again"],
        passes: true,
        ..PLAIN
    },
    Known {
        words: &[
            "filtered out by workflow rules",
            "rules configuration prevented",
            "no stages / jobs for this pipeline",
        ],
        id: Id::PipelineFiltered,
        why: "the rules in the pipeline file exclude all jobs",
        hints: &[
            "allow pipelines with the source api ($CI_PIPELINE_SOURCE) in workflow: rules and in the jobs' rules, or push a commit that the rules accept",
        ],
        ..PLAIN
    },
    Known {
        words: &["identity verification is required"],
        id: Id::IdentityVerification,
        why: "the token's user must verify their identity first",
        hints: &[
            "verify your identity on the project's pipelines page in GitLab, then run the same command again",
        ],
        ..PLAIN
    },
    Known {
        words: &[
            "sufficient permission to run a pipeline",
            "insufficient permissions to create a new pipeline",
            "not allowed to push into this branch",
            "not allowed to create protected branches",
        ],
        id: Id::ProtectedBranch,
        why: "the token's user may not do this on the branch",
        hints: &[
            "use another branch: --branch NAME",
            "or ask a Maintainer to allow it (Settings, Repository, Protected branches)",
        ],
        ..PLAIN
    },
    Known {
        words: &["too many tags"],
        id: Id::TooManyTags,
        why: "a runner can have at most 50 tags",
        hints: &["use fewer tags: --tags TAG,…"],
        ..PLAIN
    },
    Known {
        words: &["maximum number of ci registered"],
        id: Id::RunnerLimit,
        why: "the project or group has reached its maximum number of runners",
        hints: &["delete unused runners (Settings, CI/CD, Runners), or create a group runner: --group PATH"],
        ..PLAIN
    },
];

/// The first match in the table.
pub(super) fn find(message: &str) -> Option<&'static Known> {
    let said = message.to_lowercase();
    TABLE.iter().find(|known| known.words.iter().any(|words| said.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::{TABLE, find};
    use crate::base::error::Id;

    #[test]
    fn known_messages_have_their_failure_id() {
        for (words, id) in [
            ("Commit message does not follow the pattern '^ABC-[0-9]+'", Id::CommitMessageRule),
            ("Commit message contains the forbidden pattern 'outrigger'", Id::CommitMessageRule),
            ("Branch name does not follow the pattern 'feature/.*'", Id::CommitRule),
            ("GitLab: Author 'a@example.com' is not a member of team", Id::CommitRule),
            ("The file has changed since you started editing it: .gitlab-ci.yml", Id::PipelineFileDiffers),
            ("Pipeline filtered out by workflow rules.", Id::PipelineFiltered),
            (
                "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from \
                 being added to the pipeline.",
                Id::PipelineFiltered,
            ),
            ("Identity verification is required in order to run CI jobs", Id::IdentityVerification),
            (
                "You do not have sufficient permission to run a pipeline on 'main'. Please select",
                Id::ProtectedBranch,
            ),
            ("403 Forbidden - You are not allowed to push into this branch", Id::ProtectedBranch),
            ("Tags list Too many tags specified. Please limit the number of tags to 50", Id::TooManyTags),
            (
                "Runner projects base Maximum number of ci registered project runners (1) exceeded",
                Id::RunnerLimit,
            ),
        ] {
            assert_eq!(find(words).map(|known| known.id), Some(id), "{words}");
        }
        assert!(find("Description is too long (maximum is 1024 characters)").is_none());
        assert!(TABLE.iter().all(|known| !known.hints.is_empty()));
        assert!(TABLE.iter().flat_map(|known| known.words).all(|words| *words == words.to_lowercase()));
    }
}
