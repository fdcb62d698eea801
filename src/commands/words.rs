//! Words that people try because other tools have them, and the command of outrigger for each.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::base::hint::program;

/// Words, what they are meant to do, and the words after `outrigger` that do it.
type Meant = (&'static [&'static str], &'static [(&'static str, &'static str)]);

const WORDS: &[Meant] = &[
    (&["plan", "diff", "preview"], &[("to show the plan and change nothing", "setup --dry-run")]),
    (
        &["apply", "up", "create", "install", "init", "start", "deploy", "run", "add", "new"],
        &[("to set up the deployment", "setup")],
    ),
    (&["register"], &[("to create the runner in GitLab", "create-runner")]),
    (
        &["destroy", "delete", "uninstall", "down", "remove", "rm", "stop", "cleanup"],
        &[
            ("to remove the deployment", "teardown"),
            ("to show what it would remove, and change nothing", "teardown --dry-run"),
        ],
    ),
    (
        &["check", "verify", "test", "doctor", "health", "validate"],
        &[
            ("to compare the deployment with its settings", "status"),
            ("to check what setup needs, before it", "preflight"),
        ],
    ),
    (
        &["renew", "reissue", "rollover"],
        &[
            ("to replace tokens without a failed job", "rotate all"),
            ("to replace a token that somebody else has, at once", "setup --reissue all"),
        ],
    ),
    (
        &["update", "bump"],
        &[("to bring another version of gitlab-runner to the host", "upgrade --runner-version VERSION")],
    ),
    (
        &["logs", "log"],
        &[("to run the pipeline and show its log", "run-pipeline"), ("to see what there is", "status")],
    ),
    (&["get", "ls", "ps"], &[("to list the deployments", "list"), ("to look at one of them", "status")]),
    (&["describe", "show", "info", "inspect"], &[("to look at the deployment", "status")]),
    (&["completions", "autocomplete"], &[("to print a completion script", "completion bash")]),
    (&["settings", "configure", "configuration"], &[("to print the settings", "config print")]),
    (&["export", "script", "userdata", "user-data"], &[("to write the launch script", "launch-script")]),
    (&["errors", "error", "why"], &[("to list all failures", "explain")]),
    (&["wizard", "interactive"], &[("to be asked for missing values", "setup")]),
];

/// Adds to the error for an unknown command what leads to the right one. Other errors are returned as they are.
pub fn lead(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let Some((_, meant)) = WORDS.iter().find(|(words, _)| words.contains(&word.to_lowercase().as_str()))
    else {
        return error;
    };
    let tips =
        meant.iter().map(|(purpose, words)| StyledStr::from(format!("{purpose}: {} {words}", program())));
    // The command of the table takes the place of one that is only spelled alike.
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips.collect()));
    error
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::WORDS;
    use crate::commands::cli::{command, parse};
    use crate::commands::step_help;

    fn error(line: &str) -> clap::Error {
        parse(line.split(' ').map(Into::into).collect(), &step_help()).expect_err(line)
    }

    #[test]
    fn each_word_leads_to_a_command_that_parses() {
        let steps = step_help();
        let commands = command(&steps);
        let mut seen = BTreeSet::new();
        for (words, meant) in WORDS {
            for word in *words {
                assert!(seen.insert(word), "{word} twice");
                assert!(commands.find_subcommand(word).is_none(), "{word} is a command");
                let error = error(&format!("outrigger {word}"));
                assert_eq!(error.exit_code(), 2, "{word}");
                for (purpose, line) in *meant {
                    let tip = format!("tip: {purpose}: outrigger {line}\n");
                    assert!(error.to_string().contains(&tip), "{word}: {error}");
                }
            }
            for (_, line) in *meant {
                let args = format!("outrigger {line}");
                parse(args.split(' ').map(Into::into).collect(), &steps).expect(line);
            }
        }
    }

    #[test]
    fn the_words_of_other_tools_are_known() {
        let known = [
            "plan",
            "apply",
            "destroy",
            "delete",
            "uninstall",
            "check",
            "verify",
            "renew",
            "update",
            "logs",
            "completions",
            "create",
            "get",
            "init",
            "install",
            "up",
            "down",
        ];
        for word in known {
            assert!(error(&format!("outrigger {word}")).to_string().contains("tip: to "), "{word}");
        }
    }

    #[test]
    fn a_typing_error_keeps_its_own_suggestion() {
        let text = error("outrigger stauts").to_string();
        assert!(text.contains("similar subcommand") && text.contains("'status'"), "{text}");
        let text = error("outrigger config").to_string();
        assert!(text.contains("print"), "{text}");
    }
}
