//! Programs that give credentials: a profile's `credential_process`, and the AWS CLI. Both print the same JSON
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).
//!
//! AWS's library runs a `credential_process` with the whole environment, without a limit of time and size; so outrigger
//! runs it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::keys::Keys;

/// Bytes of output at most.
const LONGEST: u64 = 64 * 1024;
/// A login in a browser is not waited for.
const TIME: Duration = Duration::from_secs(60);

type Env = BTreeMap<String, String>;

/// Runs a `credential_process` in a shell, like AWS's libraries. What it prints is in no error: it may be a secret.
pub(super) async fn process(command: &str, env: &Env) -> Result<Keys, String> {
    let ended = run(Path::new("/bin/sh"), &["-c", command], env).await?;
    if !ended.success {
        return Err(format!("the credential_process failed ({})", ended.status));
    }
    read(&ended.out).map_err(|why| format!("the credential_process {why}"))
}

/// The AWS CLI of version 2, or why there is none.
pub(super) async fn version_2(env: &Env) -> Result<PathBuf, String> {
    let cli = found(env).ok_or("there is no program aws on PATH")?;
    let shown = cli.display();
    let ended = run(&cli, &["--version"], env).await.map_err(|why| format!("{shown}: {why}"))?;
    if !String::from_utf8_lossy(&ended.out).starts_with("aws-cli/2.") {
        return Err(format!("{shown} is not version 2 of the AWS CLI"));
    }
    Ok(cli)
}

/// Lets the AWS CLI resolve a profile. The error has the words of the CLI.
pub(super) async fn export(cli: &Path, profile: &str, env: &Env) -> Result<Keys, String> {
    let shown = cli.display();
    let arguments = ["configure", "export-credentials", &format!("--profile={profile}"), "--format=process"];
    let ended = run(cli, &arguments, env).await.map_err(|why| format!("{shown}: {why}"))?;
    if !ended.success {
        let said = String::from_utf8_lossy(&ended.err);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        return Err(match said.last() {
            Some(last) => format!("{shown} says: {}", last.chars().take(500).collect::<String>()),
            None => format!("{shown} failed ({})", ended.status),
        });
    }
    read(&ended.out).map_err(|why| format!("{shown} {why}"))
}

/// The AWS CLI. As for exec plugins, empty and relative entries of PATH are ignored.
fn found(env: &Env) -> Option<PathBuf> {
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let candidates = std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("aws"));
    candidates.into_iter().find(|path| crate::base::files::is_regular(path))
}

struct Ended {
    success: bool,
    status: String,
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Runs a program without stdin (it can still ask on the terminal that it shares), and without the variables of outrigger and GitLab.
async fn run<S: AsRef<OsStr>>(program: &Path, arguments: &[S], env: &Env) -> Result<Ended, String> {
    let passed = env.iter().filter(|(name, _)| {
        !(name.starts_with("OUTRIGGER_") || name.starts_with("GITLAB_") || *name == "OAUTH_TOKEN")
    });
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(passed)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start it: {error}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (out, err) = tokio::join!(read_all(out), read_all(err));
        let (out, err) = (out?, err?);
        let status = child.wait().await.map_err(|error| format!("cannot wait for it: {error}"))?;
        Ok(Ended { success: status.success(), status: status.to_string(), out, err })
    };
    let ended = tokio::time::timeout(TIME, work).await;
    ended.unwrap_or_else(|_| Err(format!("it did not end within {} s", TIME.as_secs())))
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let read = pipe.take(LONGEST + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| format!("cannot read its output: {error}"))?;
    }
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it printed more than {} KiB", LONGEST / 1024));
    }
    Ok(bytes)
}

/// Reads the JSON of a `credential_process`.
fn read(bytes: &[u8]) -> Result<Keys, String> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(bytes) else {
        return Err("did not print a JSON object".to_owned());
    };
    if answer.get("Version").and_then(Value::as_u64) != Some(1) {
        return Err("did not print credentials of Version 1".to_owned());
    }
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let expires = Some(text("Expiration")).filter(|text| !text.is_empty()).map(str::parse).transpose();
    let expires = expires.map_err(|_| "printed an Expiration that is not an RFC 3339 time")?;
    let keys = Keys::new(text("AccessKeyId"), text("SecretAccessKey"), Some(text("SessionToken")), expires);
    keys.map_err(|why| format!("printed invalid credentials: {why}"))
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;
