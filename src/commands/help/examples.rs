//! The examples at the end of each command's help.

use crate::base::hint::program;

/// The command, and the words after the program's name in each example.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("outrigger", &["setup --dry-run", "setup", "status", "teardown"]),
    (
        "setup",
        &[
            "setup",
            "setup --dry-run --exit-code",
            "setup --non-interactive --gitlab-url https://gitlab.com --project platform/hello --gitlab-token-file token",
            "setup --commit-pipeline --run-pipeline",
            "setup --create-vm --vm-region eu-central-1",
            "setup --from issue-token --reissue cluster",
        ],
    ),
    ("render", &["render > manifests.yaml", "render | kubectl apply -f -", "render --plan > plan.json"]),
    ("preflight", &["preflight", "preflight --gitlab-url https://gitlab.com --project platform/hello"]),
    (
        "create-namespaces",
        &[
            "create-namespaces",
            "create-namespaces --use-namespace ci-jobs --namespace ci-jobs",
            "create-namespaces --namespace-label team=platform",
        ],
    ),
    ("bind-admin", &["bind-admin --dry-run", "bind-admin --cluster-admin"]),
    ("create-role", &["create-role", "create-role --print"]),
    ("extract-ca", &["extract-ca > ca.pem"]),
    ("issue-token", &["issue-token", "issue-token --token-lifetime 30d", "issue-token --reissue cluster"]),
    (
        "create-runner",
        &[
            "create-runner --gitlab-url https://gitlab.com --project platform/hello",
            "create-runner --group platform --tags k8s,large",
        ],
    ),
    (
        "launch-script",
        &[
            "launch-script --target ssh",
            "launch-script --target ec2 --print-commands",
            "launch-script --uninstall > uninstall.sh",
        ],
    ),
    ("create-vm", &["create-vm --vm-region eu-central-1 --dry-run", "create-vm --print-policy create"]),
    (
        "run-script",
        &[
            "run-script --host root@vm.example.com",
            "run-script --host admin@vm --ssh-option ProxyJump=bastion",
        ],
    ),
    ("commit-pipeline", &["commit-pipeline --print", "commit-pipeline --branch main"]),
    ("run-pipeline", &["run-pipeline", "run-pipeline --wait 20m"]),
    ("retire-token", &["retire-token", "retire-token --accept unseen-host"]),
    ("rotate", &["rotate cluster", "rotate all --wait 1h", "rotate cluster --if-within 14d"]),
    ("upgrade", &["upgrade", "upgrade --runner-version 19.5.0 --wait 1h"]),
    (
        "teardown",
        &["teardown --dry-run", "teardown", "teardown --non-interactive --yes", "teardown --cluster-gone"],
    ),
    ("status", &["status", "status -o json"]),
    ("list", &["list", "list --live", "list -o name"]),
    ("explain", &["explain", "explain OR0306"]),
    ("config", &["config print", "config schema"]),
    ("schema", &["config schema > settings.schema.json"]),
    ("print", &["config print", "config print --config outrigger.yaml -o json"]),
    ("completion", &["completion bash", "completion zsh", "completion fish"]),
    ("man", &["man > outrigger.1", "man setup > outrigger-setup.1"]),
    ("version", &["version", "version -o json"]),
    ("help", &["help setup", "help environment"]),
];

/// Columns that an example takes at most, so that it stays in one piece in a narrow terminal.
const WIDEST: usize = 58;

/// The examples of a command as lines to paste, for the short help and for the long one. Long lines are continued on
/// the next line. Empty if there are none.
pub fn examples(command: &str) -> [String; 2] {
    let lines = EXAMPLES.iter().find(|(name, _)| *name == command).map_or(&[][..], |(_, lines)| lines);
    [&lines[..lines.len().min(SHORT)], lines].map(|lines| {
        let plural = if lines.len() == 1 { "" } else { "s" };
        let lines: Vec<_> = lines.iter().map(|line| paste(line)).collect();
        if lines.is_empty() { String::new() } else { format!("Example{plural}:\n{}", lines.join("\n")) }
    })
}

/// How many of them are in the short help.
const SHORT: usize = 2;

fn paste(words: &str) -> String {
    let mut out = String::new();
    let mut line = format!("  {}", program());
    let mut words = words.split(' ').peekable();
    while let Some(word) = words.next() {
        // A flag stays together with its value.
        let value = if word.starts_with("--") { words.next_if(|next| !next.starts_with('-')) } else { None };
        let unit = value.map_or_else(|| word.to_owned(), |value| format!("{word} {value}"));
        if line.len() + 1 + unit.len() + 2 > WIDEST {
            out += &line;
            out += " \\\n";
            line = format!("      {unit}");
        } else {
            line = format!("{line} {unit}");
        }
    }
    out + &line
}

#[cfg(test)]
mod tests {
    use super::{EXAMPLES, WIDEST, examples, paste};
    use crate::commands::cli::parse;
    use crate::commands::step_help;

    #[test]
    fn examples_parse_and_are_about_their_command() {
        for (command, lines) in EXAMPLES {
            for line in *lines {
                let words = line.split(['>', '|']).next().unwrap_or_default().trim();
                assert!(
                    words.split(' ').any(|word| word == *command || *command == "outrigger"),
                    "{command}: {line}"
                );
                let args = format!("outrigger {words}");
                let parsed = parse(args.split(' ').map(Into::into).collect(), &step_help());
                assert!(parsed.is_ok() || *command == "help", "{line}: {parsed:?}");
            }
        }
    }

    #[test]
    fn a_long_example_is_continued_and_stays_one_command() {
        for (_, lines) in EXAMPLES {
            for line in *lines {
                let text = paste(line);
                assert!(text.lines().all(|line| line.len() <= WIDEST), "{text}");
                let joined = text.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
                assert_eq!(joined, format!("outrigger {line}"));
            }
        }
        assert!(examples("setup")[1].contains(" \\\n      --"), "{:?}", examples("setup"));
    }
}
