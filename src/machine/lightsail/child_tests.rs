use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Env, Keys, export, process, read, version_2};

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const PRINTS: &str = r#"printf '{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "s"}' "${GITLAB_TOKEN}${OUTRIGGER_X}${OAUTH_TOKEN}AKIA${KEPT}""#;

#[tokio::test]
async fn a_process_gets_the_environment_without_gitlabs_and_outriggers() {
    let all = env(&[
        ("GITLAB_TOKEN", "canary"),
        ("OUTRIGGER_X", "canary"),
        ("OAUTH_TOKEN", "canary"),
        ("KEPT", "1"),
        ("PATH", "/usr/bin:/bin"),
    ]);
    assert_eq!(process(PRINTS, &all).await.expect("keys").id.expose(), "AKIA1");
}

#[tokio::test]
async fn a_process_that_fails_is_told_without_its_output() {
    for (command, words) in [
        ("echo canary; echo canary >&2; exit 3", "exit status: 3"),
        ("echo canary", "did not print a JSON object"),
        (r#"echo '{"Version": 2, "AccessKeyId": "canary", "SecretAccessKey": "canary"}'"#, "of Version 1"),
        (r#"echo '{"Version": 1, "AccessKeyId": "canary"}'"#, "the secret access key is empty"),
        (r#"echo '{"Version": 1, "AccessKeyId": "a b", "SecretAccessKey": "canary"}'"#, "has a character"),
        (
            r#"echo '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "canary"}'"#,
            "RFC 3339",
        ),
        ("while :; do echo canarycanarycanarycanary; done", "more than 64 KiB"),
    ] {
        let why = process(command, &env(&[("PATH", "/usr/bin:/bin")])).await.expect_err(command);
        assert!(why.contains(words) && !why.contains("canary"), "{command}: {why}");
    }
}

#[test]
fn keys_have_their_end() {
    let keys = read(br#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": "2020-01-01T00:00:00Z"}"#).expect("keys");
    assert!(keys.ends_within(0));
    assert_eq!(keys.mask("a c"), "[masked] [masked]");
    let keys = read(br#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b"}"#).expect("keys");
    assert!(!keys.ends_within(i64::MAX / 2) && keys.token.is_none());
}

/// A program `aws` in a directory of its own, in place of the AWS CLI.
fn cli(dir: &Path, script: &str) -> Env {
    let path = dir.join("aws");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    env(&[("PATH", &format!("relative:{}:/usr/bin:/bin", dir.display()))])
}

async fn exported(profile: &str, env: &Env) -> Result<Keys, String> {
    export(&version_2(env).await?, profile, env).await
}

#[tokio::test]
async fn the_cli_of_version_2_exports_a_profile_and_its_words_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let version = r#"if [ "$*" = --version ]; then echo "aws-cli/2.27.1 Python/3.13 Linux/6"; exit; fi"#;
    let exports = r#"[ "$*" = "configure export-credentials --profile=my sso --format=process" ] || exit 9
echo '{"Version": 1, "AccessKeyId": "AKIACLI", "SecretAccessKey": "s", "SessionToken": "t"}'"#;
    let env = cli(dir.path(), &format!("{version}\n{exports}"));
    assert_eq!(exported("my sso", &env).await.expect("keys").id.expose(), "AKIACLI");
    let fails = "echo >&2; echo 'Error loading SSO Token: Token has expired' >&2; exit 255";
    let why = exported("x", &cli(dir.path(), &format!("{version}\n{fails}"))).await.expect_err("failed");
    assert!(why.ends_with("/aws says: Error loading SSO Token: Token has expired"), "{why}");
    let why =
        exported("x", &cli(dir.path(), "echo aws-cli/1.44.8 Python/3.11")).await.expect_err("version 1");
    assert!(why.ends_with("/aws is not version 2 of the AWS CLI"), "{why}");
    let none = self::env(&[("PATH", "bin:")]);
    assert_eq!(exported("x", &none).await.expect_err("no program"), "there is no program aws on PATH");
}
