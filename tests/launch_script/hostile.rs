//! Values made of what breaks quoting somewhere: they arrive byte for byte.

use std::fs;

use outrigger::internal::Secret;
use outrigger::internal::target::find;
use outrigger::internal::{LaunchScript, ScriptSecrets};
use proptest::prelude::*;
use toml::{Table, Value};

use super::machine::Machine;
use super::sample::{runners, sample, shells};

pub fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "'",
        "\"",
        "`id`",
        "$(id)",
        "${HOME}",
        "\\",
        "\\n",
        "\n",
        "\r\n",
        "\t",
        "\nEND\n",
        "'\\''",
        "%s%n",
        "#",
        " ",
        "[[runners]]",
        "\n[x]\n",
        "\"\"\"",
        "'''",
        "\u{2028}",
        "é",
        "\u{81}",
        "\u{88}",
        "\u{1}",
        "\u{7f}",
        "😀",
        "{{ x }}",
        "{% x %}",
        "!",
        "*",
        "~",
        "-n",
        "&",
        ";",
        "=",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn arrives(shell: &[&str], shared: bool, value: &[&str; 10]) {
    let machine = if shared { Machine::with_runner("99.0.0") } else { Machine::new() };
    machine.steer("identity", "\"username\": \"x\"");
    // Tokens are what may stand in a header; the marks let the check for leaks tell them from other text.
    let token = |mark: &str, text: &str| {
        let plain: String = text.chars().filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c)).collect();
        Secret::new(format!("canary-{mark}{plain}"))
    };
    // A URL has no blanks and quotes; all else may stand in its path.
    let plain: String = value[0].chars().filter(|c| c.is_ascii_graphic() && !"\"[]".contains(*c)).collect();
    let mirror = format!("https://mirror.example.com/x{plain}x");
    let (runner, bearer) = (token("one", value[7]), token("two", value[8]));
    let tags = [value[0].to_owned()];
    let mut kubernetes = Table::new();
    kubernetes.insert("cpu_limit".to_owned(), Value::String(value[9].to_owned()));
    let mut labels = Table::new();
    labels.insert(value[9].to_owned(), Value::String(value[9].to_owned()));
    kubernetes.insert("pod_labels".to_owned(), Value::Table(labels.clone()));
    let mut extra = Table::new();
    extra.insert("kubernetes".to_owned(), Value::Table(kubernetes));
    let mut script = LaunchScript {
        ca_pem: Some(value[2]),
        gitlab_ca_pem: Some(value[4]),
        account: "x".to_owned(),
        target: find(if shared { "ssh" } else { "lightsail" }).unwrap(),
        ..sample(
            &tags,
            Some(ScriptSecrets { runner_token: &runner, bearer_token: &bearer, runner_expires: None }),
        )
    };
    script.installer.apt_url = &mirror;
    script.installer.key_url = &mirror;
    script.entry.name = value[0];
    script.entry.host = value[1];
    script.entry.url = value[3];
    script.entry.namespace = value[5];
    script.entry.image = value[6];
    script.entry.extra = Some(&extra);
    let check = |image: &str| {
        let entries = runners(&machine.config());
        assert_eq!(entries.len(), 1);
        let (entry, kubernetes) = (&entries[0], &entries[0]["kubernetes"]);
        assert_eq!(entry["name"].as_str(), Some(value[0]));
        assert_eq!(kubernetes["host"].as_str(), Some(value[1]));
        assert_eq!(entry["url"].as_str(), Some(value[3]));
        assert_eq!(kubernetes["namespace"].as_str(), Some(value[5]));
        assert_eq!(kubernetes["image"].as_str(), Some(image));
        assert_eq!(kubernetes["cpu_limit"].as_str(), Some(value[9]));
        assert_eq!(kubernetes["pod_labels"].as_table(), Some(&labels));
        assert_eq!(entry["token"].as_str(), Some(runner.expose()));
        assert_eq!(kubernetes["bearer_token"].as_str(), Some(bearer.expose()));
        assert_eq!(machine.read("etc/gitlab-runner/outrigger-kubernetes-runner-ca.crt"), value[2]);
        assert_eq!(machine.read("etc/gitlab-runner/outrigger-kubernetes-runner-gitlab-ca.crt"), value[4]);
        assert_eq!(
            entry["tls-ca-file"].as_str().map(|path| fs::read_to_string(path).unwrap()).as_deref(),
            Some(value[4])
        );
    };
    machine.succeed(shell, &script);
    check(value[6]);
    if !shared {
        let list = machine.read("etc/apt/sources.list.d/outrigger-gitlab-runner.list");
        assert!(list.ends_with(&format!(".asc] {mirror}/debian bookworm main\n")), "{list}");
        assert!(machine.calls("curl").contains(&format!(" -o key {mirror}\n")));
    }
    // It is found again, and its tokens are read back as they are.
    let image = format!("{}2", value[6]);
    script.entry.image = &image;
    machine.succeed(shell, &LaunchScript { secrets: None, ..script.clone() });
    check(&image);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_values_arrive_byte_for_byte(values in prop::collection::vec(hostile(), 10)) {
        let values: [&str; 10] = std::array::from_fn(|at| values[at].as_str());
        for shell in shells() {
            for shared in [false, true] {
                arrives(shell, shared, &values);
            }
        }
    }
}

#[test]
fn long_values_arrive() {
    let long = "'$(id)\\\"\n".repeat(1200);
    for shell in shells() {
        for shared in [false, true] {
            arrives(shell, shared, &[&long; 10]);
        }
    }
}
