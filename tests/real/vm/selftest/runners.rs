//! The stand-in for gitlab-runner does and says what the real one does, command by command.
//!
//! Both are stamped with the same version and run in the same machine, against the same GitLab. Compared are
//! exit code, words on both streams, and the files that are left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use outrigger_doubles::gitlab::{Action, FakeGitlab, Fault, Options};
use serde_json::json;

use super::super::VmTrial;
use super::super::common::site::post;
use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::net::port_of;
use super::super::vm::roots::Root;
use crate::runners::{self, Player};

/// The trials of this file.
pub const TRIALS: &[(&str, VmTrial)] = &[
    ("bed_runners_agree", agree),
    ("bed_runners_agree_on_the_service", agree_on_the_service),
    ("bed_runner_answers", real_alone),
];

/// Where the two are in the machine, and what they are called there.
const REAL: &str = "/opt/real/gitlab-runner";
const STAND_IN: &str = "/opt/stand-in/gitlab-runner";

/// Where a command runs, and where its files are.
const FOLDER: &str = "/root/case";

/// One command, and the config.toml that it finds.
struct Case {
    name: &'static str,
    config: Option<String>,
    arguments: Vec<String>,
    /// What GitLab answers to `verify` in place of its own: status, body and content type.
    answer: Option<(u16, &'static str, &'static str)>,
}

impl Case {
    fn new(name: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { name, config: None, arguments, answer: None }
    }

    fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    fn answer(mut self, status: u16, body: &'static str, kind: &'static str) -> Self {
        self.answer = Some((status, body, kind));
        self
    }
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Deed {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    files: BTreeMap<String, String>,
}

/// Puts the two into a machine.
fn put(vm: &Vm) {
    for (player, path) in [(Player::Real, REAL), (Player::StandIn, STAND_IN)] {
        let program = runners::program(player, runners::VERSION, "gitlab-runner").expect("asked for before");
        vm.write(path, fs::read(program).expect("it can be read"));
        fs::set_permissions(vm.path(path), fs::Permissions::from_mode(0o755)).expect("it was just written");
    }
}

/// Runs one of the two in a folder with nothing but the case's config.toml.
fn deed(vm: &Vm, program: &str, case: &Case) -> Deed {
    vm.sh(&format!("rm -rf {FOLDER}; mkdir -m 700 {FOLDER}"));
    if let Some(config) = &case.config {
        vm.write(&format!("{FOLDER}/config.toml"), config);
    }
    let mut argv = vec!["env", "-C", FOLDER, program];
    argv.extend(case.arguments.iter().map(String::as_str));
    let output = vm.exec(&argv);
    let names = vm.sh(&format!("cd {FOLDER}; find . -type f -printf '%P %m\\n' | sort"));
    let files = names.lines().map(|line| {
        let (name, _) = line.split_once(' ').expect("a name and a mode");
        let text = vm.read(&format!("{FOLDER}/{name}")).unwrap_or_default();
        // What is the same in TOML is the same.
        let text = text.parse::<toml::Table>().map_or(text, |table| format!("{:#?}", masked(&table)));
        (line.to_owned(), text)
    });
    let files = files.collect();
    Deed { code: output.status.code(), stdout: words(&output.stdout), stderr: words(&output.stderr), files }
}

/// A config.toml without the moment in it.
fn masked(table: &toml::Table) -> toml::Table {
    let mut table = table.clone();
    for runner in table.get_mut("runners").and_then(toml::Value::as_array_mut).into_iter().flatten() {
        if let Some(runner) = runner.as_table_mut()
            && runner.contains_key("token_obtained_at")
        {
            runner.insert("token_obtained_at".to_owned(), "some time".into());
        }
    }
    table
}

/// Words without colours, and without what is another each time or for each build.
fn words(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).replace(REAL, "PROGRAM").replace(STAND_IN, "PROGRAM");
    let mut plain = String::new();
    let mut rest = &*text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let word = |word: &str| match word.split_once('=') {
        Some((key @ ("pid" | "revision" | "correlation_id" | "duration"), _)) => format!("{key}=…"),
        _ => word.to_owned(),
    };
    let line = |line: &str| match line.split_once(':') {
        Some((key @ ("Git revision" | "Git branch" | "Built"), _)) => format!("{key}: …"),
        _ => line.split_whitespace().map(word).collect::<Vec<_>>().join(" "),
    };
    plain.lines().map(line).collect()
}

/// Runs all cases by both; fails with all differences.
fn compare(vm: &Vm, gitlab: &FakeGitlab, cases: &[Case]) {
    let mut differences = Vec::new();
    for case in cases {
        let [real, ours] = [REAL, STAND_IN].map(|program| {
            if let Some((status, body, kind)) = case.answer {
                // With "0" a runner does not wait before it asks again.
                let headers = vec![("Retry-After".to_owned(), "0".to_owned())];
                let answer = Action::Headers(status, headers, body.to_owned(), kind.to_owned());
                gitlab.inject(Fault::always("/runners/verify", answer));
            }
            let deed = deed(vm, program, case);
            gitlab.clear_faults();
            deed
        });
        if real != ours {
            differences.push(format!("{}\nreal: {real:#?}\nstand-in: {ours:#?}", case.name));
        }
    }
    assert!(differences.is_empty(), "{} of {}\n{}", differences.len(), cases.len(), differences.join("\n\n"));
}

/// An entry for a runner at a GitLab.
fn entry(name: &str, url: &str, token: &str) -> String {
    format!(
        "[[runners]]\n  name = \"{name}\"\n  url = \"{url}\"\n  token = \"{token}\"\n  executor = \"kubernetes\"\n  \
         tls-ca-file = \"/root/gitlab-ca.pem\"\n  [runners.kubernetes]\n    host = \"https://127.0.0.1:1\"\n    \
         namespace = \"jobs\"\n"
    )
}

/// A machine with both, and a GitLab that knows a runner: its address, and the runner's token.
fn bed(beds: &Beds) -> (Vm, FakeGitlab, String, String) {
    let vm = beds.vm(Root::Bookworm);
    let gitlab = FakeGitlab::start(Options::default());
    vm.network().forward(port_of(&gitlab.url()));
    vm.write("/root/gitlab-ca.pem", gitlab.ca_pem());
    vm.boot_idle();
    put(&vm);
    let project = gitlab.project_id("acme/shop");
    let body = json!({"runner_type": "project_type", "project_id": project, "tag_list": ["x"]});
    let made = post(&gitlab, "maintainer", "/user/runners", &body);
    let token = made["token"].as_str().expect("a token is shown once").to_owned();
    let url = gitlab.url();
    (vm, gitlab, url, token)
}

/// What looks after config.toml: `list`, `verify`, and the version.
fn agree(beds: &Beds) {
    let (vm, gitlab, url, token) = bed(beds);
    let token = &*token;
    let head = "concurrent = 4\n";
    let good = format!("{head}{}", entry("good", &url, token));
    let wrong = entry("wrong", &url, "glrt-wrongwrongwrongwrong");
    let cut = "concurrent = [\n";
    let cases = [
        Case::new("version", "--version"),
        Case::new("a command that there is not", "proove"),
        Case::new("list", "list --config config.toml").config(&*good),
        Case::new("list without a file", "list --config config.toml"),
        Case::new("list of no TOML", "list --config config.toml").config(cut),
        Case::new("list of a wrong type", "list --config config.toml").config("concurrent = \"four\"\n"),
        Case::new("verify", "verify --config config.toml").config(&*good),
        Case::new("verify without a file", "verify --config config.toml"),
        Case::new("verify of no TOML", "verify --config config.toml").config(cut),
        Case::new("verify of a wrong token", "verify --config config.toml").config(format!("{head}{wrong}")),
        Case::new("verify of both", "verify --config config.toml").config(format!("{good}{wrong}")),
        Case::new("verify of one by name", "verify --config config.toml --name good")
            .config(format!("{good}{wrong}")),
        Case::new("verify of a name that is not there", "verify --config config.toml --name other")
            .config(&*good),
        Case::new("verify without a connection", "verify --config config.toml")
            .config(format!("{head}{}", entry("nowhere", "https://127.0.0.1:1", token))),
        Case::new("verify of another CA", "verify --config config.toml")
            .config(good.replace("/root/gitlab-ca.pem", "/etc/ssl/certs/ca-certificates.crt")),
        Case::new("verify of a CA that is not there", "verify --config config.toml")
            .config(good.replace("/root/gitlab-ca.pem", "/root/nowhere.pem")),
        Case::new("verify in maintenance", "verify --config config.toml").config(&*good).answer(
            503,
            "{\"message\": \"503 Service Unavailable\"}",
            "application/json",
        ),
        Case::new("verify at a proxy's page", "verify --config config.toml").config(&*good).answer(
            404,
            "<html>not found</html>",
            "text/html",
        ),
    ];
    compare(&vm, &gitlab, &cases);
}

/// What the stand-in does not have: a runner before 19.3 has no `lint`, and nobody asks it to register. Here is what
/// the real one answers, by which the launch script and its trials go.
fn real_alone(beds: &Beds) {
    let (vm, _gitlab, url, token) = bed(beds);
    let head = "concurrent = 4\n";
    let good = format!("{head}{}", entry("good", &url, &token));
    let wrong = entry("wrong", &url, "glrt-wrongwrongwrongwrong");
    let register = format!(
        "register --non-interactive --config config.toml --url {url} --executor kubernetes --name made \
         --tls-ca-file /root/gitlab-ca.pem --kubernetes-host https://127.0.0.1:1 --kubernetes-namespace jobs"
    );
    let lint = "lint --config config.toml";
    let line = |text: &str| format!("{good}    {text}\n");
    let both = || format!("{good}{wrong}");
    let cases = [
        (Case::new("lint", lint).config(&*good), 0, "Configuration file is valid."),
        (Case::new("lint without a file", lint), 1, "FATAL: config file not found: config.toml"),
        (Case::new("lint of no TOML", lint).config("concurrent = [\n"), 1, "unexpected EOF; expected value"),
        (Case::new("lint of a wrong type", lint).config("concurrent = \"four\"\n"), 1, "incompatible types"),
        (
            Case::new("lint of an unknown key", lint).config(line("nmaespace = \"x\"")),
            1,
            "runners.kubernetes.nmaespace",
        ),
        (
            Case::new("lint of a key that there never was", lint).config(line("proxy = \"x\"")),
            1,
            "unknown key",
        ),
        (Case::new("lint of limits for a pod", lint).config(line("pod_cpu_limit = \"2\"")), 0, "is valid"),
        (
            Case::new("lint of the schema", lint)
                .config(good.replace("  [runners.kub", "  shell = \"zsh\"\n  [runners.kub")),
            1,
            "schema validation failed",
        ),
        (Case::new("register", &format!("{register} --token {token}")), 0, "Runner registered successfully."),
        (
            Case::new(
                "register with a wrong token",
                &format!("{register} --token glrt-wrongwrongwrongwrong"),
            ),
            1,
            "PANIC: Failed to verify the runner.",
        ),
        (
            Case::new("register with tags", &format!("{register} --token {token} --tag-list x")),
            1,
            "cannot be specified when registering with a runner authentication token",
        ),
        (
            Case::new("verify that deletes", "verify --config config.toml --delete").config(both()),
            0,
            "Updated config.toml",
        ),
        (
            Case::new("unregister by name", "unregister --config config.toml --name good").config(both()),
            0,
            "Unregistering runner manager from GitLab succeeded",
        ),
        (
            Case::new("unregister again", "unregister --config config.toml --name good").config(both()),
            1,
            "404 Not Found (404 Runner manager Not Found)",
        ),
        (
            Case::new("unregister a name that is not there", "unregister --config config.toml --name other")
                .config(both()),
            1,
            "could not find a runner with the name 'other'",
        ),
    ];
    let mut differences = Vec::new();
    for (case, code, said) in cases {
        let deed = deed(&vm, REAL, &case);
        let all = deed.stderr.join("\n");
        if deed.code != Some(code) || !all.contains(said) {
            differences.push(format!("{}: not {code} and {said:?}\n{deed:#?}", case.name));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    // There it is refused by a name that it does not have.
    let refused = deed(&vm, STAND_IN, &Case::new("lint", lint).config(&*good));
    assert_eq!(refused.code, Some(1), "{refused:#?}");
}

/// What makes a service of it: `install`, `start`, `status`, `stop`, `uninstall`, with the unit that is written.
fn agree_on_the_service(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    vm.boot_idle();
    put(&vm);
    let etc = "/etc/gitlab-runner";
    let unit = "/etc/systemd/system/gitlab-runner.service";
    let [real, ours] = [REAL, STAND_IN].map(|program| {
        vm.sh(&format!("rm -rf {etc}; id gitlab-runner || useradd --system --create-home gitlab-runner"));
        let mut deeds = Vec::new();
        for arguments in [
            "status",
            "start",
            "install",
            "install --user=gitlab-runner --working-directory=/home/gitlab-runner",
            "install --user=gitlab-runner --working-directory=/home/gitlab-runner",
            "status",
            "start",
            "status",
            "restart",
            "stop",
            "status",
            "stop",
            "uninstall",
            "uninstall",
            "status",
            "install --init-user=gitlab-runner --working-directory=/home/gitlab-runner",
            "uninstall",
            "install --user=root --config /root/elsewhere.toml --working-directory=/root",
            "uninstall",
        ] {
            let mut argv = vec!["env", "-C", "/root", program];
            argv.extend(arguments.split_whitespace());
            let output = vm.exec(&argv);
            let text = |path: &str| vm.read(path).unwrap_or_default().replace(program, "PROGRAM");
            let state =
                "systemctl is-active gitlab-runner || :; systemctl is-enabled gitlab-runner 2>&1 || :";
            let modes = format!("stat -c '%n %a %U' {etc} {etc}/config.toml 2>&1 || :");
            deeds.push(json!({
                "command": arguments,
                "code": output.status.code(),
                "stdout": words(&output.stdout),
                "stderr": words(&output.stderr),
                "unit": text(unit),
                "config": text(&format!("{etc}/config.toml")),
                "modes": vm.sh(&modes),
                "state": vm.sh(state),
            }));
        }
        vm.sh("rm -f /root/elsewhere.toml");
        deeds
    });
    let differences: Vec<_> = real.iter().zip(&ours).filter(|(real, ours)| real != ours).collect();
    let all: String = differences
        .iter()
        .fold(String::new(), |text, (real, ours)| text + &format!("real: {real:#}\nstand-in: {ours:#}\n"));
    assert!(differences.is_empty(), "{} of {}\n{all}", differences.len(), real.len());
}
