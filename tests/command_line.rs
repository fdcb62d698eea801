//! What users expect around the commands: help, topics, manual pages, completion in real shells, version, settings.
//! Nothing here has a server.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;

use common::binary::PROGRAM;
use common::run::{Cli, Home, Output};
use common::snapshot::{Page, WIDTHS as KEPT, assert_all_compared};
use common::tiers_required;

type Test = (&'static str, fn());

const PAGES: &[Test] = &[
    ("pages_are_those_that_are_kept", pages_are_those_that_are_kept),
    ("help_fits_the_terminal", help_fits_the_terminal),
    ("every_page_has_an_example", every_page_has_an_example),
    ("short_help_fits_a_screen", short_help_fits_a_screen),
    ("choices_come_before_the_default", choices_come_before_the_default),
    ("all_failures_are_listed", all_failures_are_listed),
    ("version_in_detail_and_in_one_line", version_in_detail_and_in_one_line),
    ("settings_are_printed_with_their_sources", settings_are_printed_with_their_sources),
    ("settings_schema_is_published", settings_schema_is_published),
    ("policies_need_no_cluster_and_no_login", policies_need_no_cluster_and_no_login),
    ("kubectl_plugin_prints_its_own_name", kubectl_plugin_prints_its_own_name),
    ("completing_runs_nothing_and_writes_nothing", completing_runs_nothing_and_writes_nothing),
    ("candidates_are_dynamic", candidates_are_dynamic),
];

/// Tests with the program that they need.
const WITH: &[(&str, Test)] = &[
    ("bash", ("bash_completes", bash_completes)),
    ("zsh", ("zsh_completes", zsh_completes)),
    ("fish", ("fish_completes", fish_completes)),
    ("man", ("manual_pages_have_no_warnings", manual_pages_have_no_warnings)),
];

fn main() -> std::process::ExitCode {
    let plain = PAGES.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let with = WITH.iter().map(|&(program, (name, test))| {
        let found =
            ["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
        Trial::ignorable_test(name, move || {
            let reason = format!("{program} is not installed");
            match (found, tiers_required()) {
                (true, _) => test(),
                (false, true) => return Err(Failed::from(reason)),
                (false, false) => return Ok(Completion::ignored_with(reason)),
            }
            Ok(Completion::Completed)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), plain.chain(with).collect()).exit_code()
}

/// Each page of help, topic and failure, whole, at each width.
fn pages_are_those_that_are_kept() {
    let home = Home::new();
    let keep = |name: &str, lines: &[String]| {
        let mut page = Page::new(format!("help/{name}"));
        for columns in KEPT {
            for line in lines {
                let shown = run(&home, line, columns).code(0);
                assert_eq!(shown.stderr(), "", "{shown}");
                page.add(columns, &format!("$ outrigger {line}\n{}", shown.stdout()));
            }
        }
        page.compare();
    };
    for command in commands() {
        let name = if command.is_empty() { "outrigger".to_owned() } else { command.replace(' ', "-") };
        keep(&name, &["-h", "--help"].map(|flag| format!("{command} {flag}").trim().to_owned()));
    }
    for topic in TOPICS {
        keep(&format!("topic-{topic}"), &[format!("help {topic}")]);
    }
    keep("explain-all", &["explain".to_owned()]);
    keep("version-told", &["version".to_owned()]);
    let listed = run(&home, "explain", 100).code(0).stdout();
    let ids: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    // One file for each area.
    for area in ids.chunk_by(|one, next| one[..4] == next[..4]) {
        let lines: Vec<String> = area.iter().map(|id| format!("explain {id}")).collect();
        keep(&format!("explain-{}", &area[0][..4]), &lines);
    }
    assert_all_compared(&["help"], &[]);
}

const WIDTHS: [usize; 3] = [60, 80, 100];
const TOPICS: [&str; 6] = ["environment", "settings", "exit-codes", "gitlab-token", "json", "kubectl"];

/// The words of every command, of outrigger itself first.
fn commands() -> Vec<String> {
    fn below(command: &clap::Command, before: &str, all: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let words = format!("{before} {}", sub.get_name()).trim().to_owned();
            all.push(words.clone());
            below(sub, &words, all);
        }
    }
    let mut all = vec![String::new()];
    below(&outrigger::internal::cli::command(&outrigger::internal::step_help()), "", &mut all);
    assert!(all.len() > 20, "{all:?}");
    all
}

fn run(home: &Home, line: &str, columns: usize) -> Output {
    let mut words = line.split_whitespace();
    let cli: Cli<'_> = home.outrigger(words.next().expect("a word"));
    cli.args(words).env("COLUMNS", columns.to_string()).run()
}

fn assert_fits(output: &Output, columns: usize) {
    for line in output.stdout().lines() {
        // A value that does not fit, such as a path, stays in one piece on a line of its own.
        if line.trim().split(' ').count() == 1 && line.starts_with("  ") {
            continue;
        }
        assert!(line.chars().count() <= columns, "wider than {columns} columns: {line:?}\n{output}");
    }
}

fn help_fits_the_terminal() {
    let home = Home::new();
    for columns in WIDTHS {
        for command in commands() {
            for page in [format!("{command} -h"), format!("{command} --help"), format!("help {command}")] {
                let output = run(&home, &page, columns).code(0);
                assert!(!output.stdout.is_empty(), "{output}");
                assert_fits(&output, columns);
            }
        }
        for topic in TOPICS {
            let output = run(&home, &format!("help {topic}"), columns).code(0);
            assert!(output.stdout().lines().count() > 4, "{output}");
            assert_fits(&output, columns);
        }
        for page in ["explain", "explain OR0306", "config print", "version"] {
            assert_fits(&run(&home, page, columns).code(0), columns);
        }
    }
}

fn every_page_has_an_example() {
    let home = Home::new();
    for command in commands() {
        for flag in ["-h", "--help"] {
            let output = run(&home, &format!("{command} {flag}"), 80).code(0);
            let text = output.stdout();
            let examples = text.split("\nExample").nth(1).unwrap_or_default();
            let last = command.split(' ').next_back().unwrap_or_default();
            assert!(examples.contains("\n  outrigger ") && examples.contains(last), "no example\n{output}");
        }
    }
    let root = run(&home, "--help", 80).stdout();
    for topic in TOPICS {
        assert!(root.contains(&format!("\n  {topic} ")), "{topic} is not listed\n{root}");
    }
}

fn short_help_fits_a_screen() {
    let home = Home::new();
    for command in commands() {
        let output = run(&home, &format!("{command} -h"), 100).code(0);
        assert!(output.stdout().lines().count() <= 52, "longer than a screen\n{output}");
    }
    let (short, long) = (run(&home, "setup -h", 100), run(&home, "setup --help", 100));
    assert!(!short.stdout().contains("--key-fingerprint") && long.stdout().contains("--key-fingerprint"));
    let text = long.stdout();
    let headings = [
        "Deployment and cluster:",
        "\nCluster:",
        "GitLab and runner:",
        "Runner machine:",
        "\nRun:",
        "Consent:",
        "Output:",
    ];
    let places: Vec<_> = headings.iter().map(|heading| text.find(heading).expect(heading)).collect();
    assert!(places.is_sorted(), "the groups are in the order of the work\n{text}");
}

fn choices_come_before_the_default() {
    let output = run(&Home::new(), "setup --help", 100)
        .code(0)
        .says("privileged, baseline, restricted [default: baseline]")
        .says("nocloud [default: lightsail]");
    assert!(!output.stdout().contains("]: "), "{output}");
}

fn all_failures_are_listed() {
    let home = Home::new();
    let output = run(&home, "explain", 100).code(0);
    assert!(output.stdout().starts_with("ID      EXIT  FAILURE\nOR0101  1     internal error\n"), "{output}");
    let lines = output.stdout().lines().count();
    let json = run(&home, "explain -o json", 100).code(0).json_lines();
    assert_eq!(json.len(), 1);
    let failures = json[0]["failures"].as_array().expect("a list");
    assert_eq!(failures.len() + 1, lines);
    assert_eq!(failures[0], serde_json::json!({"id": "OR0101", "exit": 1, "title": "internal error"}));
    let pages =
        ["0306", "or0306", "OR0306"].map(|id| run(&home, &format!("explain {id}"), 100).code(0).stdout());
    assert!(pages[0].starts_with("OR0306: ") && pages.iter().all(|page| *page == pages[0]));
    let _ = run(&home, "explain OR0340", 100).code(2).says("did you mean OR03").says("outrigger explain");
}

fn version_in_detail_and_in_one_line() {
    let home = Home::new();
    let line = run(&home, "--version", 100).code(0).stdout();
    assert_eq!(line, format!("outrigger {}\n", env!("CARGO_PKG_VERSION")));
    let told = run(&home, "version -o json", 100).code(0).json_lines();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["type"], &told[0]["version"]),
        (&"version".into(), &env!("CARGO_PKG_VERSION").into())
    );
    // A build that is not told its commit does not name one. CI tells it to the release builds.
    let commit = if std::env::var_os(PROGRAM).is_some() {
        let git =
            Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        String::from_utf8(git.expect("git").stdout).expect("text").trim().to_owned()
    } else {
        option_env!("OUTRIGGER_COMMIT").unwrap_or_default().to_owned()
    };
    let commit = Some(commit).filter(|commit| !commit.is_empty());
    assert_eq!(told[0]["commit"], serde_json::json!(commit));
    let said = commit.as_deref().unwrap_or("not recorded in this build");
    let _ = run(&home, "version", 100).code(0).says(said).never_says("unknown");
    for key in ["platform", "gitlabRunner"] {
        assert!(told[0][key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {}", told[0]);
        let text = told[0][key].as_str().unwrap_or_default().to_owned();
        let _ = run(&home, "version", 100).code(0).says(&text);
    }
}

fn settings_are_printed_with_their_sources() {
    let home = Home::new();
    let kubeconfig = home.kubeconfig("config", &kubeconfig(&["acme"], "acme", ""));
    let file = home.input("settings.yaml", "tags: [large, small]\nnamespace: from-file\n");
    home.canary("glpat-canary-7Jq2xW9m");
    let print = || {
        home.outrigger("config")
            .args(["print", "--deployment", "blue", "--commit-message", "one, two"])
            .flag("--config", file.clone())
            .env("KUBECONFIG", kubeconfig.clone())
            .env("OUTRIGGER_JOB_LIMIT", "7")
            .env("GITLAB_TOKEN", "glpat-canary-7Jq2xW9m")
            .env("COLUMNS", "120")
            // What it shows is searched for the token; its own environment holds it.
            .unwatched()
    };
    let told = print().flag("-o", "json").run().code(0).json_lines();
    let line = |key: &str| -> Value {
        let all = told[0]["settings"].as_array().expect("a list");
        all.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("no {key}")).clone()
    };
    for (key, value, source) in [
        ("deployment", "blue", "--deployment"),
        ("jobLimit", "7", "OUTRIGGER_JOB_LIMIT"),
        ("runnerNamespace", "blue", "default"),
        ("context", "acme", "kubeconfig, current context"),
        ("commitMessage", "one, two", "--commit-message"),
        ("gitlabToken", "set, not shown", "GITLAB_TOKEN"),
    ] {
        assert_eq!((&line(key)["value"], &line(key)["source"]), (&value.into(), &source.into()), "{key}");
    }
    assert_eq!(line("tags")["value"], serde_json::json!(["large", "small"]));
    assert_eq!(line("tags")["source"], format!("settings file {}", file.display()));
    assert_eq!(line("gitlabUrl")["value"], Value::Null);
    let text = print().run().code(0).says("set, not shown");
    assert!(!text.stdout().contains("yes") && !text.stdout().contains("forceConflicts"), "{text}");
    assert!(!home.state().exists(), "printing writes nothing");
}

/// `UPDATE_SCHEMA=1` writes it anew.
fn policies_need_no_cluster_and_no_login() {
    let home = Home::new();
    for phase in ["create", "operate", "remove"] {
        let output = run(&home, &format!("create-vm --print-policy {phase}"), 100).code(0);
        let policy: Value = serde_json::from_str(&output.stdout()).expect("JSON");
        assert_eq!(policy["Version"], "2012-10-17");
    }
    let wrong = run(&home, "create-vm --print-policy frob", 100).code(2).says("create, operate, remove");
    assert!(!wrong.stderr().contains("kubeconfig"), "{wrong}");
}

fn settings_schema_is_published() {
    let schema = run(&Home::new(), "config schema", 100).code(0).stdout();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas/settings.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &schema).expect("the schema can be written");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(published, schema, "docs/schemas/settings.json is not that of the table of settings");
    let parsed: Value = serde_json::from_str(&schema).expect("JSON");
    let properties = &parsed["properties"];
    assert_eq!(properties["kind"], serde_json::json!({"const": "Settings"}));
    assert_eq!(properties["lockMetadata"]["type"], serde_json::json!(["boolean", "null"]));
    let levels = serde_json::json!(["privileged", "baseline", "restricted", null]);
    assert_eq!(properties["podSecurity"]["enum"], levels);
    assert_eq!(properties["prune"], Value::Null, "consent is no key");
}

fn kubectl_plugin_prints_its_own_name() {
    let home = Home::new();
    let plugin = home.path().join("kubectl-outrigger");
    symlink(common::binary::outrigger(), &plugin).expect("a link");
    let run = |args: &[&str]| {
        let output =
            Command::new(&plugin).args(args).env_clear().env("HOME", home.path()).output().expect("it runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let help = run(&["setup", "--help"]);
    assert!(
        help.contains("Usage: kubectl outrigger setup") && help.contains("\n  kubectl outrigger setup\n"),
        "{help}"
    );
    assert!(!help.contains("\n  outrigger "), "{help}");
    for args in [
        &["explain", "OR0201"][..],
        &["explain", "OR0102"],
        &["completion", "bash"],
        &["completion", "--help"],
        &["help", "settings"],
        &["status", "-o", "name"],
        &["config"],
        &["help", "nothing"],
    ] {
        let page = run(args);
        let bare = page.replace("kubectl outrigger", "").replace("Completion of outrigger", "");
        let own =
            ["setup", "teardown", "explain", "completion", "config", "list", "status", "help", "--help"];
        let left = own.iter().find(|word| bare.contains(&format!("outrigger {word}")));
        assert_eq!(left, None, "{args:?}: {page}");
    }
    assert!(run(&["completion", "bash"]).contains("source <(kubectl outrigger completion bash)"));
    let failed = run(&["explain", "nonsense"]);
    assert!(failed.contains("kubectl outrigger explain OR0202"), "{failed}");
    assert!(run(&["plan"]).contains("kubectl outrigger setup --dry-run"));
}

/// A kubeconfig with these contexts, all of one user, whose entry is given.
fn kubeconfig(contexts: &[&str], current: &str, user: &str) -> String {
    let contexts = contexts
        .iter()
        .map(|name| format!("- name: {}\n  context: {{cluster: c, user: u}}\n", Value::from(*name)))
        .collect::<Vec<_>>()
        .concat();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {}\nclusters:\n- name: c\n  cluster: {{server: \
         'https://127.0.0.1:1'}}\nusers:\n- name: u\n  user: {{{user}}}\ncontexts:\n{contexts}",
        Value::from(current)
    )
}

/// A home with a kubeconfig whose login program leaves a file, and two recorded deployments.
fn desk() -> (Home, String) {
    let home = Home::new();
    let ran = home.path().join("ran");
    let user = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: ['{}'], interactiveMode: Never}}",
        ran.display()
    );
    let contexts =
        ["acme-ci", "arn:aws:eks:eu-west-1:12:cluster/prod", "me@home", "$(touch ran)", "a\u{202e}b"];
    let path = home.kubeconfig("config", &kubeconfig(&contexts, "acme-ci", &user));
    fs::create_dir_all(home.state()).expect("a folder");
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o700)).expect("ours");
    for name in ["blue", "green"] {
        fs::write(home.state().join(format!("{name}.json")), "{}").expect("a record");
    }
    (home, path.display().to_string())
}

fn candidates(home: &Home, kubeconfig: &str, words: &[&str]) -> Vec<String> {
    let output = home
        .outrigger("__complete")
        .args(words.iter().copied())
        .env("KUBECONFIG", kubeconfig)
        // Neither may change what the shell reads.
        .env("OUTRIGGER_OUTPUT", "json")
        .env("OUTRIGGER_QUIET", "maybe")
        .run()
        .code(0);
    assert_eq!(output.stderr(), "", "{output}");
    let text = output.stdout();
    text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        found.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found.sort();
    found
}

fn completing_runs_nothing_and_writes_nothing() {
    let (home, kubeconfig) = desk();
    let before = files(home.path());
    for words in
        [&["--context", ""][..], &["status", "--deployment", ""], &["explain", ""], &["setup", "--"], &[]]
    {
        let found = candidates(&home, &kubeconfig, words);
        assert!(found.len() > 2, "{words:?}: {found:?}");
    }
    assert_eq!(files(home.path()), before);
    // Where nothing can be read, nothing is offered, and nothing is said.
    assert_eq!(candidates(&home, "/no/such/file", &["--context", ""]), ["words"]);
    assert_eq!(candidates(&home, &kubeconfig, &["setup", "--no-such-flag", ""])[0], "words");
}

fn candidates_are_dynamic() {
    let (home, kubeconfig) = desk();
    let found = |words: &[&str]| candidates(&home, &kubeconfig, words);
    let contexts = ["words", "$(touch ran)", "acme-ci", "arn:aws:eks:eu-west-1:12:cluster/prod", "me@home"];
    assert_eq!(found(&["status", "--context", ""]), contexts, "and none with a hidden character");
    assert_eq!(found(&["--context=ac"]), ["words", "--context=acme-ci"]);
    assert_eq!(found(&["--kubeconfig", "/no/such/file", "status", "--context", ""]), ["words"]);
    assert_eq!(found(&["teardown", "--deployment", ""]), ["words", "blue", "green"]);
    assert_eq!(found(&["teardown", "--state-dir", "/no/such", "--deployment", ""]), ["words"]);
    assert_eq!(found(&["setup", "--from", "create-r"]), ["words", "create-role", "create-runner"]);
    assert_eq!(found(&["setup", "--skip", "preflight,iss"]), ["words", "preflight,issue-token"]);
    assert_eq!(found(&["setup", "--target", "l"]), ["words", "lightsail"]);
    assert_eq!(found(&["setup", "--accept", "life"]), ["words", "lifetime"]);
    assert_eq!(found(&["explain", "OR100"]), ["words", "OR1001"]);
    assert_eq!(found(&["completion", ""])[..4], ["words", "bash", "zsh", "fish"]);
    assert_eq!(found(&["help", "exit"]), ["words", "exit-codes"]);
    assert_eq!(found(&["man", "tear"]), ["words", "teardown"]);
    assert_eq!(found(&["config", "pr"]), ["words", "print"]);
    assert_eq!(found(&["setup", "--script", ""]), ["files"]);
    assert_eq!(found(&["setup", "--script=x"]), ["files"]);
    assert_eq!(found(&["setup", "--state-dir", ""]), ["dirs"]);
    assert_eq!(found(&["setup", "--gitlab-url", ""]), ["words"]);
    assert!(!found(&["setup", "--"]).contains(&"--accept-lifetime".to_owned()), "an old name is not offered");
}

/// What a line becomes with a tab at its end, as words between angle brackets: the shell splits the completed line.
fn completed(shell: &str, start: &str, lines: &[(&str, &str)]) {
    let (home, kubeconfig) = desk();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(common::binary::outrigger(), bin.join("outrigger")).expect("a link");
    fs::write(home.path().join("a file.toml"), "").expect("a file");
    let before = files(home.path());
    let mut command = Command::new("env");
    command
        .args(["-i", "TERM=dumb", "LC_ALL=C.UTF-8", "PS1=", "HISTFILE="])
        .arg(format!("HOME={}", home.path().display()))
        .arg(format!("XDG_STATE_HOME={}", home.path().join("state").display()))
        .arg(format!("PATH={}:/usr/bin:/bin", bin.display()))
        .arg(format!("KUBECONFIG={kubeconfig}"))
        .args(shell.split(' '))
        .current_dir(home.path());
    let mut session = rexpect::session::spawn_command(command, Some(60_000)).expect("the shell starts");
    session.send_line(start).expect("sent");
    session.send_line("echo rea''dy").expect("sent");
    session.exp_string("ready").expect("the script is loaded");
    for (typed, expected) in lines {
        // The tab completes; Ctrl-A goes to the begin, where a command is put in front of the line.
        session.send(&format!("{typed}\t\u{1}printf '<%s>' \r")).expect("sent");
        session.flush().expect("flushed");
        session.exp_string(expected).unwrap_or_else(|error| panic!("{shell}: {typed}: {error}"));
    }
    session.send_line("exit").expect("sent");
    session.exp_eof().expect("the shell ends");
    assert_eq!(files(home.path()), before, "{shell}: completing wrote a file");
}

const LINES: &[(&str, &str)] = &[
    ("outrigger stat", "<outrigger><status>"),
    ("outrigger setup --dry", "<outrigger><setup><--dry-run>"),
    (
        "outrigger status --context arn:a",
        "<outrigger><status><--context><arn:aws:eks:eu-west-1:12:cluster/prod>",
    ),
    (
        "outrigger status --context=arn:aws:e",
        "<outrigger><status><--context=arn:aws:eks:eu-west-1:12:cluster/prod>",
    ),
    ("outrigger status --context me@", "<outrigger><status><--context><me@home>"),
    ("outrigger status --context=acm", "<outrigger><status><--context=acme-ci>"),
    // A name that is a command in the shell comes out quoted.
    ("outrigger status --context \\$", "<outrigger><status><--context><$(touch ran)>"),
    ("outrigger setup --only preflight,iss", "<outrigger><setup><--only><preflight,issue-token>"),
    ("outrigger teardown --deployment gr", "<outrigger><teardown><--deployment><green>"),
    ("outrigger explain OR100", "<outrigger><explain><OR1001>"),
    ("outrigger setup --runner-config a", "<outrigger><setup><--runner-config><a file.toml>"),
    ("outrigger setup --runner-config=a", "<outrigger><setup><--runner-config=a file.toml>"),
];

fn bash_completes() {
    completed("bash --norc --noprofile -i", "source <(outrigger completion bash)", LINES);
}

fn zsh_completes() {
    let start = "unsetopt zle_bracketed_paste 2>/dev/null; bindkey -e; autoload -Uz compinit && compinit -D -u; \
                 source <(outrigger completion zsh)";
    completed("zsh -f -i", start, LINES);
}

/// fish itself tells what it would offer for a line.
fn fish_completes() {
    let (home, kubeconfig) = desk();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(common::binary::outrigger(), bin.join("outrigger")).expect("a link");
    fs::write(home.path().join("in/a file.toml"), "").expect("a file");
    let offers = |line: &str| {
        let output = Command::new("fish")
            .args(["--no-config", "-c", "outrigger completion fish | source; complete -C $LINE"])
            .env_clear()
            .env("LINE", line)
            .env("HOME", home.path())
            .env("XDG_STATE_HOME", home.path().join("state"))
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("KUBECONFIG", &kubeconfig)
            .current_dir(home.path().join("in"))
            .stdin(Stdio::null())
            .output()
            .expect("fish runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for (line, offered) in [
        ("outrigger stat", "status"),
        ("outrigger setup --dry", "--dry-run"),
        ("outrigger status --context arn:a", "arn:aws:eks:eu-west-1:12:cluster/prod"),
        ("outrigger status --context=arn:a", "--context=arn:aws:eks:eu-west-1:12:cluster/prod"),
        ("outrigger setup --only preflight,iss", "preflight,issue-token"),
        ("outrigger teardown --deployment gr", "green"),
        ("outrigger explain OR100", "OR1001"),
        ("outrigger setup --runner-config a", "a file.toml"),
        ("outrigger setup --runner-config=a", "--runner-config=a file.toml"),
    ] {
        assert_eq!(offers(line), [offered], "{line}");
    }
    assert!(!home.path().join("ran").exists() && !home.path().join("in/ran").exists());
}

fn manual_pages_have_no_warnings() {
    let home = Home::new();
    for command in commands() {
        let page = run(&home, &format!("man {command}"), 100).code(0).stdout();
        let file = home.input("page.1", &page);
        let output = Command::new("man")
            .args(["--warnings", "-l"])
            .arg(&file)
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("MANPAGER")
            .stdin(Stdio::null())
            .output()
            .expect("man runs");
        assert!(output.status.success(), "{command}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}\n{page}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Print only errors, warnings and the last line"), "{command}: no text\n{text}");
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLE"] {
            assert!(text.contains(heading), "{command}: no {heading}\n{text}");
        }
    }
    let _ = run(&home, "man stauts", 100).code(2).says("did you mean").says("outrigger man status");
}
