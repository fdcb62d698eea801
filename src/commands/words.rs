//! Words that people try because other tools have them, and the command of outrigger for each.

/// Words, what they are meant to do, and the words after `outrigger` that do it.
type Meant = (&'static [&'static str], &'static [(&'static str, &'static str)]);

const WORDS: &[Meant] = &[
    (&["plan", "diff", "preview"], &[("to show the plan and change nothing", "setup --dry-run")]),
    (
        &["apply", "up", "create", "install", "init", "start", "deploy", "add", "new"],
        &[("to set up the deployment", "setup")],
    ),
    (
        &["run"],
        &[
            ("to set up the deployment", "setup"),
            ("to run the pipeline and show its log", "run-pipeline"),
            ("to run the launch script on a host", "run-script --host HOST"),
        ],
    ),
    (
        &["sync", "reconcile", "refresh", "repair", "fix", "ensure"],
        &[("to show what differs from the settings", "status"), ("to put it right", "setup")],
    ),
    (
        &["login", "auth", "token", "credentials"],
        &[
            ("to see the permissions that your GitLab access token needs", "help gitlab-token"),
            ("to be asked for missing values, the token too", "setup"),
        ],
    ),
    (&["register"], &[("to create the runner in GitLab", "create-runner")]),
    (
        &[
            "destroy",
            "delete",
            "uninstall",
            "down",
            "remove",
            "rm",
            "stop",
            "clean",
            "cleanup",
            "purge",
            "reset",
            "undo",
            "rollback",
            "revert",
            "unregister",
        ],
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
    (&["events", "top", "watch", "wait"], &[("to wait until the runner is online", "status --wait 5m")]),
    (&["describe", "show", "info", "inspect", "state"], &[("to look at the deployment", "status")]),
    (&["completions", "autocomplete"], &[("to print a completion script", "completion bash")]),
    (&["settings", "configure", "configuration"], &[("to print the settings", "config print")]),
    (&["export", "script", "userdata", "user-data"], &[("to write the launch script", "launch-script")]),
    (&["errors", "error", "why"], &[("to list all failures", "explain")]),
    (&["wizard", "interactive"], &[("to be asked for missing values", "setup")]),
];

/// What a word is meant to do, and the words after `outrigger` that do it; empty for an unknown word.
pub fn meant(word: &str) -> &'static [(&'static str, &'static str)] {
    let word = word.to_lowercase();
    WORDS.iter().find(|(words, _)| words.contains(&word.as_str())).map_or(&[], |(_, meant)| meant)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{WORDS, meant};
    use crate::base::error::Failure;
    use crate::commands::cli::{command, parse};
    use crate::commands::help::Topic;
    use crate::commands::{step_help, usage};

    fn error(line: &str) -> Failure {
        let error = parse(line.split(' ').map(Into::into).collect(), &step_help()).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        usage(error).expect("no help")
    }

    fn hints(line: &str) -> Vec<String> {
        error(line).hints.iter().map(ToString::to_string).collect()
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
                let tips: Vec<String> =
                    meant.iter().map(|(purpose, line)| format!("{purpose}: outrigger {line}")).collect();
                assert_eq!(hints(&format!("outrigger {word}")), tips);
                if Topic::find(word).is_none() {
                    assert_eq!(hints(&format!("outrigger help {word}")), tips);
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
        let known = "plan apply destroy delete uninstall check verify renew update logs completions create get \
                     init install up down undo rollback sync login clean rm run start describe auth events \
                     repair fix reset unregister revert top watch wait";
        for word in known.split_whitespace() {
            assert!(!meant(word).is_empty(), "{word}");
        }
    }

    #[test]
    fn a_typing_error_keeps_its_own_suggestion() {
        assert_eq!(hints("outrigger stauts")[0], "did you mean: outrigger status");
        assert_eq!(hints("outrigger create-rol")[0], "did you mean: outrigger create-role");
        assert!(
            hints("outrigger help exit-code").contains(&"did you mean: outrigger help exit-codes".to_owned())
        );
    }

    #[test]
    fn a_missing_or_unknown_word_names_the_choices() {
        let config = error("outrigger config");
        assert_eq!(config.message, "a command is required");
        assert_eq!(config.details, [("one of".to_owned(), "print, schema".to_owned())]);
        assert_eq!(config.hints[0].to_string(), "for example: outrigger config print");
        let completion = error("outrigger completion");
        assert_eq!(completion.details[0].1, "bash, zsh, fish");
        assert_eq!(completion.hints[0].to_string(), "for example: outrigger completion bash");
        let elsewhere = error("outrigger status --prune");
        assert_eq!(
            elsewhere.details,
            [("because".to_owned(), "--prune is a flag of outrigger setup".to_owned())]
        );
        let help = error("outrigger help foo");
        assert_eq!(help.message, "there is no command or topic \"foo\"");
        assert!(help.details[0].1.contains("create-role") && help.details[1].1.contains("gitlab-token"));
    }
}
