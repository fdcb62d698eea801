//! Tests of precedence, problems and equivalent commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    Completion, Draft, Inputs, Need, Risk, Settings, Source, draft, missing_failure, resolve, run_options,
    shell_word,
};
use super::{Kind, OPTIONS, Row, SETTINGS};
use crate::base::error::{Command, Failure, Id};
use crate::commands::cli;

type Env = BTreeMap<String, String>;

fn matches(args: &[&str]) -> clap::ArgMatches {
    let args = ["outrigger", "setup"].iter().chain(args).map(Into::into).collect();
    cli::parse(args, &[]).expect("arguments").1
}

fn run(
    args: &[&str],
    env: &Env,
    file: Option<&str>,
    recorded: &[(&str, &[&str])],
) -> Result<Settings, Failure> {
    drafted(args, env, file, recorded)?.finish(Vec::new())
}

/// With the problems of the options.
fn drafted(
    args: &[&str],
    env: &Env,
    file: Option<&str>,
    recorded: &[(&str, &[&str])],
) -> Result<Draft, Failure> {
    let recorded = recorded
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()))
        .collect();
    let inputs = Inputs {
        matches: &matches(args),
        env,
        file: file.map(|text| (PathBuf::from("/etc/o.yaml"), text.to_owned())),
        noted: None,
        asked: BTreeMap::new(),
        home: Some(PathBuf::from("/home/me")),
    };
    draft(&inputs, run_options(inputs.matches, env).1, |_, _| Ok(recorded))
}

/// Valid values of a row for flag, environment, file and record, as `view` returns them.
fn samples(row: &Row) -> [&'static str; 4] {
    match (row.key, row.kind) {
        (_, Kind::Bool) => ["true", "true", "true", "true"],
        (_, Kind::Path) => ["/p/1", "/p/2", "/p/3", "/p/4"],
        (_, Kind::Duration) => ["11m", "12m", "13m", "14m"],
        ("podSecurity", _) => ["restricted", "privileged", "baseline", "restricted"],
        ("accept", _) => ["lifetime", "generated", "generated", "generated"],
        ("reissue", _) => ["runner", "cluster", "runner", "cluster"],
        ("target", _) => ["ec2", "gce", "ssh", "nocloud"],
        ("secrets", _) => ["separate", "inline", "separate", "inline"],
        ("kubernetesHost" | "gitlabUrl" | "aptUrl" | "keyUrl" | "binaryUrl", _) => {
            ["https://a.test", "https://b.test", "https://c.test", "https://d.test"]
        }
        ("runnerVersion", _) => ["1.1.1", "1.1.2", "1.1.3", "1.1.4"],
        ("installMethod", _) => ["apt-slim", "binary", "apt", "binary"],
        ("pullPolicy", _) => ["always", "never", "if-not-present", "always"],
        ("cacheType", _) => ["s3", "gcs", "azure", "s3"],
        ("runnerHttpProxy" | "runnerHttpsProxy", _) => ["http://a", "http://b", "http://c", "http://d"],
        ("logLevel", _) => ["debug", "info", "error", "warning"],
        ("listenAddress", _) => [":1", "[::1]:2", "a.test:3", "127.0.0.1:4"],
        ("jobLimit" | "concurrent", _) => ["11", "12", "13", "14"],
        ("debSha256" | "binarySha256", _) => [
            "1111111111111111111111111111111111111111111111111111111111111111",
            "2222222222222222222222222222222222222222222222222222222222222222",
            "3333333333333333333333333333333333333333333333333333333333333333",
            "4444444444444444444444444444444444444444444444444444444444444444",
        ],
        ("keyFingerprint", _) => [
            "1111111111111111111111111111111111111111",
            "2222222222222222222222222222222222222222",
            "3333333333333333333333333333333333333333",
            "4444444444444444444444444444444444444444",
        ],
        ("hostKeys", _) => ["ssh-rsa AAAA1", "ssh-rsa AAAA2", "ssh-rsa AAAA3", "ssh-rsa AAAA4"],
        ("sshOptions", _) => ["User=a", "User=b", "User=c", "User=d"],
        ("vmRegion", _) => ["eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1"],
        ("vmZone", _) => ["eu-west-1a", "eu-west-1b", "eu-west-1c", "eu-west-1d"],
        ("vmArn", _) => [
            "arn:aws:lightsail:eu-west-1:123456789012:Instance/1",
            "arn:aws:lightsail:eu-west-1:123456789012:Instance/2",
            "arn:aws:lightsail:eu-west-1:123456789012:Instance/3",
            "arn:aws:lightsail:eu-west-1:123456789012:Instance/4",
        ],
        ("sshFrom" | "sshAfter", _) => ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"],
        ("anchorUid", _) => ["uid-0001", "uid-0002", "uid-0003", "uid-0004"],
        ("namespaceLabels" | "namespaceAnnotations", _) => ["a/k=1", "k=2", "k=3", "k=4"],
        _ => ["v1", "v2", "v3", "v4"],
    }
}

#[test]
fn every_setting_follows_the_precedence() {
    for row in SETTINGS {
        let [by_flag, by_env, by_file, by_record] = samples(row);
        let mut args = vec![format!("--{}", row.flag)];
        if row.kind != Kind::Bool {
            args.push(by_flag.to_owned());
        }
        let mut env = Env::new();
        if let Some(name) = row.env {
            env.insert(name.to_owned(), by_env.to_owned());
        }
        let quoted = if row.kind == Kind::Bool { by_file.to_owned() } else { format!("'{by_file}'") };
        let file = format!("{}: {quoted}\n", row.key);
        let record: &[&str] = &[by_record];
        let recorded: &[(&str, &[&str])] = &[(row.key, record)];

        for level in 0..5 {
            let mut args: Vec<&str> =
                if level == 0 { args.iter().map(String::as_str).collect() } else { vec![] };
            let env = if level <= 1 { env.clone() } else { Env::new() };
            // Consent is accepted only as a flag, and refused in a file.
            let consent = row.group == super::Group::Consent;
            if consent && level == 2 {
                assert_eq!(
                    run(&[], &Env::new(), Some(&file), &[]).expect_err("consent").id,
                    Id::SettingsFile
                );
            }
            let file = (level <= 2 && !consent).then_some(file.as_str());
            let recorded = if level <= 3 { recorded } else { &[] };
            let wanted = match level {
                0 => Some((by_flag, "flag")),
                1 if row.env.is_some() => Some((by_env, "env")),
                1 | 2 if !consent => Some((by_file, "file")),
                3 if row.recorded => Some((by_record, "record")),
                _ => None,
            };
            // A --use-namespace must be one of the two namespaces.
            if let (Some((value, _)), "useNamespaces") = (wanted, row.key) {
                args.extend(["--namespace", value]);
            }
            if ["hostKeys", "sshOptions"].contains(&row.key) {
                args.extend(["--host", "vm"]);
            }
            if row.group == super::Group::Vm && row.key != "createVm" {
                args.push("--create-vm");
            }
            let settings = run(&args, &env, file, recorded)
                .unwrap_or_else(|f| panic!("{}: {f} {:?}", row.key, f.details));
            let found = settings.view(row.key);
            let (key, seen) = (row.key, format!("{} at level {level}", row.key));
            match wanted {
                Some((value, source)) => {
                    let (values, found) = found.unwrap_or_else(|| panic!("{seen} has no value"));
                    assert_eq!(values, [value], "{seen}");
                    assert_eq!(settings.sources.get(key), Some(&found), "{seen}");
                    let name = match found {
                        Source::Flag(_) => "flag",
                        Source::Environment(_) => "env",
                        Source::File(_) => "file",
                        Source::Record => "record",
                        _ => "else",
                    };
                    assert_eq!(name, source, "{seen}");
                }
                None => assert!(found.is_none_or(|(_, s)| s == Source::Default), "{seen}"),
            }
        }
    }
}

#[test]
fn a_source_with_precedence_can_turn_a_switch_off() {
    let env = Env::from([("OUTRIGGER_LOCK_METADATA".to_owned(), "no".to_owned())]);
    assert!(!run(&[], &env, Some("lockMetadata: true"), &[]).expect("valid").lock_metadata);
    assert!(run(&["--lock-metadata"], &env, None, &[]).expect("valid").lock_metadata);
}

#[test]
fn default_namespaces_depend_on_the_deployment() {
    let settings = run(&["--deployment", "blue"], &Env::new(), None, &[]).expect("valid");
    assert_eq!((settings.namespace.as_str(), settings.runner_namespace.as_str()), ("blue-jobs", "blue"));
    assert_eq!(settings.state_dir, PathBuf::from("/home/me/.local/state/outrigger"));
    assert_eq!(settings.timeout.as_secs(), 300);
    assert_eq!(settings.tags.value, ["k8s-runner"]);
    assert!(settings.gitlab_url.is_none() && settings.context.is_none() && settings.kubeconfig.is_none());
}

#[test]
fn reads_lists_durations_and_paths() {
    let settings = run(
        &[
            "--tags",
            "a,b",
            "--tags",
            "a",
            "--request-timeout",
            "0",
            "--token-lifetime",
            "24h",
            "--reissue",
            "all",
        ],
        &Env::from([("GITLAB_HOST".to_owned(), "gitlab.example".to_owned())]),
        Some("runnerTokenFile: token\nscript: ~/launch.sh\n"),
        &[],
    )
    .expect("valid");
    assert_eq!(settings.tags.value, ["a", "b"]);
    assert_eq!(settings.request_timeout, None);
    assert_eq!(settings.gitlab_url.as_ref().map(|u| u.as_str()), Some("https://gitlab.example"));
    assert_eq!(settings.runner_token_file.map(|p| p.value), Some(PathBuf::from("/etc/token")));
    assert_eq!(settings.script.map(|p| p.value), Some(PathBuf::from("/home/me/launch.sh")));
    assert_eq!(settings.reissue.len(), 2);
}

#[test]
fn leaves_a_kubeconfig_list_to_kubectls_search() {
    let env = |value: &str| Env::from([("KUBECONFIG".to_owned(), value.to_owned())]);
    let recorded: &[(&str, &[&str])] = &[("kubeconfig", &["/old"])];
    assert!(run(&[], &env("/a:/b"), None, recorded).expect("valid").kubeconfig.is_none());
    let one = run(&[], &env("/a"), None, recorded).expect("valid").kubeconfig.expect("set");
    assert_eq!((one.value, one.source), (PathBuf::from("/a"), Source::Environment("KUBECONFIG")));
}

#[test]
fn reports_all_problems_in_one_failure() {
    let env = Env::from([("OUTRIGGER_IMAGE".to_owned(), "a b".to_owned())]);
    let failure = run(
        &[
            "--namespace",
            "kube-system",
            "--tags",
            "ok,",
            "--gitlab-url",
            "http://gitlab.example",
            "--context",
            "a\u{202e}b",
        ],
        &env,
        Some("runnerVersion: latest\nreissue: [cluster, it]"),
        &[("podSecurity", &["lax"])],
    )
    .expect_err("invalid");
    assert_eq!(
        (failure.id, failure.kind.exit_code(), failure.message.as_str()),
        (Id::InvalidInput, 2, "8 invalid values")
    );
    let mut shown: Vec<_> = failure.details.iter().map(|(a, b)| format!("{a}: {b}")).collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "--context: \"a\\u{202e}b\" contains a control, newline or invisible character",
            "--gitlab-url: \"http://gitlab.example\" must begin with https:// (http is accepted on loopback only)",
            "--namespace: \"kube-system\" is reserved for the cluster: choose another name",
            "--tags: \"\" is empty",
            "OUTRIGGER_IMAGE: \"a b\" contains white space",
            "podSecurity (recorded): \"lax\" is not one of privileged, baseline, restricted",
            "reissue (line 2): \"it\" is not one of runner, cluster, all",
            "runnerVersion (line 1): \"latest\" is not a version such as 19.4.1",
        ]
    );
}

#[test]
fn refuses_equal_namespaces_and_unrelated_use_namespaces() {
    let equal =
        run(&["--namespace", "x", "--runner-namespace", "x"], &Env::new(), None, &[]).expect_err("equal");
    assert_eq!(equal.id, Id::InvalidInput);
    assert!(run(&["--use-namespace", "other"], &Env::new(), None, &[]).is_err());
    let moved = run(&["--namespace", "new"], &Env::new(), None, &[("useNamespaces", &["old"])])
        .expect("stale record");
    assert!(moved.use_namespaces.is_empty());
}

#[test]
fn recorded_settings_resolve_to_the_same_settings() {
    let args =
        ["--namespace", "jobs", "--use-namespace", "jobs", "--tags", "a,b", "--accept-shared-namespace"];
    let first = run(&args, &Env::new(), None, &[]).expect("valid");
    let recorded = first.recorded();
    assert!(!recorded.contains_key("accept"), "consent is not recorded");
    let args = matches(&[]);
    let inputs = Inputs {
        matches: &args,
        env: &Env::new(),
        file: None,
        noted: None,
        asked: BTreeMap::new(),
        home: Some("/h".into()),
    };
    let again = resolve(&inputs, |_, _| Ok(recorded.clone())).expect("valid");
    assert_eq!(again.recorded(), recorded);
    assert_eq!(again.use_namespaces, ["jobs"]);
    assert_eq!(again.image.source, Source::Record);
}

#[test]
fn lists_all_missing_values() {
    let settings = run(&[], &Env::new(), None, &[]).expect("valid");
    assert!(settings.missing(Need::Nothing, false).is_empty());
    assert_eq!(settings.missing(Need::Runner, true).len(), 2);
    let failure = missing_failure(&settings.missing(Need::Runner, false));
    assert_eq!(failure.message, "3 missing values");
    let flags: Vec<&str> = failure.details.iter().map(|(flag, _)| flag.as_str()).collect();
    assert_eq!(flags, ["--gitlab-url URL", "--gitlab-token-file PATH", "--project PATH|ID"]);
    assert_eq!(failure.details[0].1, "GITLAB_URL          gitlabUrl:   such as https://gitlab.com");
    assert!(failure.details[1].1.starts_with("GITLAB_TOKEN        –            or --runner-token-file"));

    let given =
        run(&["--runner-token-file", "/t", "--gitlab-url", "h"], &Env::new(), None, &[]).expect("valid");
    assert!(given.missing(Need::Runner, false).is_empty(), "an existing runner needs no more");
    assert_eq!(given.missing(Need::Project, false).len(), 2, "its pipeline needs two values");
    let group = run(&["--group", "a", "--gitlab-url", "h"], &Env::new(), None, &[]).expect("valid");
    assert!(group.missing(Need::Runner, true).is_empty());
}

/// The failure for all that is invalid, and for what the runner of this draft needs besides.
fn all_wrong(args: &[&str], file: Option<&str>) -> Failure {
    let draft = drafted(args, &Env::new(), file, &[]).expect("a draft");
    let missing = draft.settings.missing(Need::Runner, false);
    draft.finish(missing).expect_err("invalid")
}

fn labels(failure: &Failure) -> Vec<&str> {
    failure.details.iter().map(|(label, _)| label.as_str()).collect()
}

#[test]
fn one_failure_lists_invalid_and_missing_values() {
    let failure = all_wrong(&["--gitlab-url", "http://a b", "--exit-code", "--tags", "x,,y"], None);
    assert_eq!(
        (failure.id, failure.message.as_str()),
        (Id::InvalidInput, "3 invalid values, 2 missing values")
    );
    let expected = ["--exit-code", "--tags", "--gitlab-url", "--gitlab-token-file PATH", "--project PATH|ID"];
    let mut told = labels(&failure);
    told[1..3].sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(told, expected);
    let missing =
        |flag: &str| failure.fields.iter().find(|field| field.flag == Some(flag)).map(|field| field.missing);
    assert_eq!(missing("--gitlab-url"), Some(false), "an invalid value is not missing");
    assert_eq!(missing("--project"), Some(true));
    assert_eq!(failure.fields.len(), 5);

    let nameless = all_wrong(&["--deployment", "Upper"], None);
    assert_eq!(labels(&nameless), ["--deployment"], "what the record holds is not known");
}

#[test]
fn one_failure_lists_problems_of_the_settings_file_and_of_other_sources() {
    let failure = all_wrong(&["--namespace", "a_b"], Some("gitlab-url: h\nproject: [a, b]\nfoo: 1\n"));
    assert_eq!(failure.id, Id::SettingsFile);
    assert_eq!(failure.message, "invalid settings file /etc/o.yaml; 1 invalid value, 1 missing value");
    assert_eq!(labels(&failure), ["line 1", "line 2", "line 3", "--namespace", "--gitlab-token-file PATH"]);
    let keys: Vec<_> = failure.fields.iter().map(|field| (field.key, field.missing)).collect();
    let invalid = |key| (Some(key), false);
    assert_eq!(keys, [invalid("gitlabUrl"), invalid("project"), invalid("namespace"), (None, true)]);
    let alone = run(&[], &Env::new(), Some("foo: 1\n"), &[]).expect_err("unknown");
    assert_eq!((alone.message.as_str(), alone.kind.exit_code()), ("invalid settings file /etc/o.yaml", 2));
}

#[test]
fn refuses_two_runner_scopes_and_two_readers_of_stdin() {
    let refused = |args: &[&str]| run(args, &Env::new(), None, &[]).expect_err("refused").details;
    assert_eq!(refused(&["--group", "a", "--instance-runner"])[0].0, "--group");
    let both = ["--runner-token-file", "/a", "--legacy-registration-token-file", "/b"];
    assert_eq!(refused(&both)[0].0, "--runner-token-file");
    let stdin = ["--gitlab-token-file", "-", "--runner-token-file", "-"];
    assert!(refused(&stdin)[0].1.contains("--gitlab-token-file already reads"));
}

#[test]
fn pipeline_commands_may_contain_commas() {
    let args = ["--pipeline-script", "echo a, b", "--pipeline-script", "true"];
    let settings = run(&args, &Env::new(), None, &[]).expect("valid");
    assert_eq!(settings.pipeline_script.value, ["echo a, b", "true"]);
    assert!(settings.equivalent_command().ends_with("--pipeline-script 'echo a, b' --pipeline-script true"));
    let file = run(&[], &Env::new(), Some("pipelineScript: ['x, y', z]\n"), &[]).expect("valid");
    assert_eq!(file.pipeline_script.value, ["x, y", "z"]);
}

#[test]
fn the_equivalent_command_is_complete_and_quoted() {
    let env = Env::from([("GITLAB_URL".to_owned(), "https://gitlab.com".to_owned())]);
    let settings =
        run(&["--tags", "a b,c", "--prune", "--context", "it's"], &env, Some("image: alpine:3"), &[])
            .expect("valid");
    assert_eq!(
        settings.equivalent_command(),
        r"outrigger setup --non-interactive --config /etc/o.yaml --context 'it'\''s' --gitlab-url https://gitlab.com --tags 'a b,c' --prune"
    );
    assert_eq!(shell_word(""), "''");
    assert_eq!(shell_word("~/x"), "'~/x'");
}

#[test]
fn printed_commands_select_the_same_deployment_and_cluster() {
    let env = Env::from([("OUTRIGGER_CONTEXT".to_owned(), "it's".to_owned())]);
    let args = ["--deployment", "demo", "--kubeconfig", "k.yaml", "--namespace", "jobs", "--timeout", "9m"];
    let settings = run(&args, &env, None, &[]).expect("valid");
    let here = std::path::absolute("k.yaml").expect("a directory").display().to_string();
    let shown = |command: Command| settings.completion().complete(&command).replace(&here, "/k.yaml");
    for (command, wanted) in [
        (
            Command::outrigger("issue-token"),
            r"outrigger issue-token --deployment demo --kubeconfig /k.yaml --context 'it'\''s' --namespace jobs",
        ),
        // The command does not use this run's cluster.
        (
            Command::teardown_without_cluster(),
            "outrigger teardown --cluster-gone --deployment demo --namespace jobs",
        ),
        (
            Command::outrigger("create-role --context b > f"),
            "outrigger create-role --context b --deployment demo --kubeconfig /k.yaml --namespace jobs > f",
        ),
        // On a terminal, it asks for the missing GitLab.
        (
            Command::again("--token-lifetime 9d"),
            r"outrigger setup --token-lifetime 9d --deployment demo --kubeconfig /k.yaml --context 'it'\''s' --timeout 9m --namespace jobs",
        ),
        // The command lists all deployments.
        (Command::list(), "outrigger list"),
        (Command::page("help settings"), "outrigger help settings"),
        (Command::kubectl("version"), r"kubectl --kubeconfig /k.yaml --context 'it'\''s' version"),
        (Command::Whole("kubectl version".to_owned()), "kubectl version"),
    ] {
        assert_eq!(shown(command), wanted);
    }
}

#[test]
fn a_printed_command_impersonates_the_same_user_and_groups() {
    let args = ["--as", "dev", "--as-group", "a,b", "--as-group", "c"];
    let settings = run(&args, &Env::new(), None, &[]).expect("valid");
    for (command, wanted) in [
        (Command::outrigger("status"), "outrigger status --as dev --as-group a,b --as-group c"),
        (Command::kubectl("version"), "kubectl --as dev --as-group a,b --as-group c version"),
    ] {
        assert_eq!(settings.completion().complete(&command), wanted);
    }
}

#[test]
fn printed_commands_repeat_what_the_record_does_not_hold() {
    let args = [
        "--gitlab-url",
        "https://a.example",
        "--gitlab-ca-file",
        "ca.pem",
        "--tags",
        "x",
        "--reissue",
        "all",
    ];
    let mut given = run(&args, &Env::new(), Some("image: alpine:3"), &[]).expect("valid").completion();
    let here = std::path::absolute("ca.pem").expect("a directory").display().to_string();
    let status = |given: &Completion| given.complete(&Command::outrigger("status")).replace(&here, "/ca.pem");
    assert_eq!(
        status(&given),
        "outrigger status --config /etc/o.yaml --gitlab-url https://a.example --gitlab-ca-file /ca.pem --tags x"
    );
    given.recorded = given.settings.recorded();
    assert_eq!(status(&given), "outrigger status");
    given.recorded.insert("tags".to_owned(), vec!["y".to_owned()]);
    assert_eq!(status(&given), "outrigger status --tags x");
    // A token in a variable is sent only to a URL that is given with it.
    given.token_in_variable = true;
    assert_eq!(status(&given), "outrigger status --gitlab-url https://a.example --tags x");
}

/// What was refused and answered otherwise does not come back, not from the settings file either; stdin is not there a
/// second time.
#[test]
fn removed_values_and_stdin_are_in_no_printed_command() {
    let args = matches(&["--state-dir", "/s", "--gitlab-token-file", "/t", "--runner-token-file", "-"]);
    let asked = BTreeMap::from([("gitlabTokenFile".to_owned(), Vec::new())]);
    let file = Some((PathBuf::from("/etc/o.yaml"), "image: alpine:3".to_owned()));
    let inputs = Inputs { matches: &args, env: &Env::new(), file, noted: None, asked, home: None };
    let recorded = BTreeMap::from([("gitlabTokenFile".to_owned(), vec!["/old".to_owned()])]);
    let settings = resolve(&inputs, |_, _| Ok(recorded)).expect("valid");
    assert_eq!(
        settings.equivalent_command(),
        "outrigger setup --non-interactive --state-dir /s --image alpine:3"
    );
    assert!(!settings.recorded().contains_key("gitlabTokenFile"));
}

#[test]
fn the_same_run_again_has_the_same_steps() {
    let mut given = run(&["--prune"], &Env::new(), None, &[]).expect("valid").completion();
    given.options.only = vec!["create-role".to_owned(), "issue-token".to_owned()];
    let again = |given: &Completion| given.complete(&Command::again("--non-interactive"));
    assert_eq!(again(&given), "outrigger setup --non-interactive --prune --only create-role,issue-token");
}

#[test]
fn resolves_the_deployment_before_the_record() {
    let args = matches(&["--state-dir", "/s"]);
    let env = Env::from([("OUTRIGGER_DEPLOYMENT".to_owned(), "green".to_owned())]);
    let inputs =
        Inputs { matches: &args, env: &env, file: None, noted: None, asked: BTreeMap::new(), home: None };
    let mut asked = None;
    let settings = resolve(&inputs, |state_dir, deployment| {
        asked = Some((deployment.to_owned(), state_dir.to_owned()));
        Ok(BTreeMap::from([("image".to_owned(), vec!["alpine:3".to_owned()])]))
    });
    assert_eq!(asked, Some(("green".to_owned(), PathBuf::from("/s"))));
    assert_eq!(settings.expect("valid").image.source, Source::Record);
}

#[test]
fn reads_run_options_from_flags_and_environment() {
    let env = Env::from([
        ("OUTRIGGER_OUTPUT".to_owned(), "json".to_owned()),
        ("OUTRIGGER_DRY_RUN".to_owned(), "1".to_owned()),
    ]);
    let (options, invalid) = run_options(&matches(&["-vv", "--only", "create-role,issue-token"]), &env);
    assert!(invalid.is_empty());
    assert_eq!(options.output, super::Output::Json);
    assert_eq!((options.verbose, options.dry_run, options.quiet), (2, true, false));
    assert_eq!(options.only, ["create-role", "issue-token"]);
    assert_eq!(refused_options(&["--exit-code"], &Env::new()).id, Id::InvalidInput);
}

fn refused_options(args: &[&str], env: &Env) -> Failure {
    run_options(&matches(args), env).1.failure(Vec::new()).expect("a refused option")
}

#[test]
fn refuses_consent_in_the_environment() {
    let rows = SETTINGS.iter().chain(OPTIONS);
    let consents: Vec<_> = rows.filter(|row| row.group == super::Group::Consent).collect();
    assert!(consents.len() > 10);
    for row in consents {
        let name = format!("OUTRIGGER_{}", row.flag.to_uppercase().replace('-', "_"));
        let env = Env::from([(name.clone(), "true".to_owned())]);
        let failure = refused_options(&[], &env);
        assert_eq!((failure.id, failure.details[0].0.as_str()), (Id::InvalidInput, name.as_str()));
        assert!(failure.details[0].1.contains(row.dashed), "{:?}", failure.details);
    }
}

#[test]
fn flags_of_earlier_versions_accept_the_same_risks() {
    let old =
        ["--accept", "generated", "--accept-lifetime", "--accept-shared-namespace", "--allow-temporary-edit"];
    let settings = run(&old, &Env::new(), None, &[]).expect("valid");
    assert_eq!(
        settings.accept,
        [Risk::Generated, Risk::SharedNamespace, Risk::Lifetime, Risk::TemporaryEdit]
    );
    assert!(
        settings
            .equivalent_command()
            .ends_with("--accept generated,shared-namespace,lifetime,temporary-edit")
    );
    let refused = run(&[], &Env::new(), Some("allowTemporaryEdit: true\n"), &[]).expect_err("consent");
    assert!(refused.details[0].1.ends_with("--accept temporary-edit"), "{refused:?}");
    let env = Env::from([("OUTRIGGER_ACCEPT_LIFETIME".to_owned(), "1".to_owned())]);
    let refused = refused_options(&[], &env);
    assert!(refused.details[0].1.ends_with("--accept lifetime"), "{refused:?}");
}

#[test]
fn the_sample_settings_file_is_valid() {
    let text = include_str!("../../examples/settings.yaml");
    let settings = run(&[], &Env::new(), Some(text), &[]).expect("valid");
    assert_eq!(settings.project.as_deref().map(String::as_str), Some("platform/hello"));
    // Each commented-out line is valid, too.
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(": ")) {
        let key = line.split(':').next().unwrap_or_default();
        if super::setting(key).is_some() {
            run(&[], &Env::new(), Some(line), &[]).unwrap_or_else(|failure| panic!("{line}: {failure:?}"));
        } else {
            assert!(key.contains(' '), "unknown setting {key}");
        }
    }
}

#[test]
fn recorded_token_file_is_for_the_recorded_gitlab() {
    let recorded: &[(&str, &[&str])] =
        &[("gitlabUrl", &["https://gitlab.example.com"]), ("gitlabTokenFile", &["/t"])];
    let file = |args: &[&str]| {
        let settings = run(args, &Env::new(), None, recorded).expect("valid");
        settings.gitlab_token_file.map(|file| file.value.display().to_string())
    };
    assert_eq!(file(&[]).as_deref(), Some("/t"));
    assert_eq!(file(&["--gitlab-url", "https://gitlab.example.com"]).as_deref(), Some("/t"));
    assert_eq!(file(&["--gitlab-url", "https://evil.example.com"]), None);
    let given = file(&["--gitlab-url", "https://evil.example.com", "--gitlab-token-file", "/u"]);
    assert_eq!(given.as_deref(), Some("/u"));
}

#[test]
fn zero_removes_a_recorded_lifetime() {
    let recorded: &[(&str, &[&str])] = &[("tokenLifetime", &["365d"])];
    let kept = run(&[], &Env::new(), None, recorded).expect("valid");
    assert!(kept.token_lifetime.is_some());
    let back = run(&["--token-lifetime", "0"], &Env::new(), None, recorded).expect("valid");
    assert!(back.token_lifetime.is_none() && !back.recorded().contains_key("tokenLifetime"));
    assert!(run(&["--token-lifetime", "5m"], &Env::new(), None, &[]).is_err());
}

/// What depends on an invalid host is not refused for its absence.
#[test]
fn a_host_and_a_vm_exclude_each_other() {
    let why = |args: &[&str], recorded: &[(&str, &[&str])]| {
        let failure = run(args, &Env::new(), None, recorded).expect_err("refused");
        failure.details.iter().map(|(label, why)| format!("{label} {why}")).collect::<Vec<_>>().concat()
    };
    assert_eq!(why(&["--create-vm", "--host", "vm"], &[]), "--create-vm cannot be used with --host \"vm\"");
    let host: &[(&str, &[&str])] = &[("host", &["vm"])];
    assert!(why(&["--create-vm"], host).contains("recorded on --host \"vm\"; teardown first"));
    let made: &[(&str, &[&str])] = &[("createVm", &["true"])];
    assert!(why(&["--host", "vm"], made).contains("recorded on a VM of --create-vm; teardown first"));
    for flags in [["--secrets", "inline"], ["--target", "ec2"], ["--script", "-"]] {
        assert!(why(&[&["--create-vm"], &flags[..]].concat(), &[]).starts_with(flags[0]), "{flags:?}");
    }
    assert!(why(&["--vm-size", "micro_3_0"], &[]).contains("is only for --create-vm"));
    assert!(
        why(&["--create-vm", "--ssh-from", "anywhere,10.0.0.0/8"], &[])
            .contains("cannot be used with others")
    );
}

#[test]
fn an_invalid_host_is_refused_once() {
    let refused = |args: &[&str]| {
        let failure = run(args, &Env::new(), None, &[]).expect_err("refused");
        failure.details.into_iter().map(|(label, _)| label).collect::<Vec<_>>()
    };
    let key = ["--host-key", "ssh-ed25519 AAAA"];
    assert_eq!(refused(&[&["--host", "vm:0"], &key[..]].concat()), ["--host"]);
    assert_eq!(refused(&key), ["--host-key"]);
}
