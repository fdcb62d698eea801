//! How many round trips stand in a row, by command: `cargo run --example depth`.
//!
//! The double answers each request after a delay; what a command then takes longer than without it,
//! divided by the delay, is its sequential depth. Connections cost nothing extra on loopback, so a real
//! network adds two round trips for each lane that is opened.
//!
//! Beside the figures stands what a first `setup` waits for, trip by trip as the double saw them, and the
//! list of those that no other order would save.

#![allow(clippy::print_stdout, reason = "figures are what this is for")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it plays the user, who has files")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use outrigger::RunOptions;
use outrigger::{Streams, Ui};
use outrigger_doubles::cluster::{FakeCluster, Options, seed_rbac};

const DELAY: Duration = Duration::from_millis(50);
const COMMANDS: [(&str, &str); 4] = [
    ("setup", "setup --gitlab-url https://gitlab.example.com --runner-token-file"),
    ("second setup", "setup --gitlab-url https://gitlab.example.com --runner-token-file"),
    ("status", "status"),
    ("teardown", "teardown --yes"),
];

/// What has to wait for the answer before it, in a first setup of somebody who may grant the Role.
const UNAVOIDABLE: [(&str, &str); 9] = [
    ("the anchor", "whose deployment is it, and with which names: all else is read by them"),
    ("the cluster's identity", "the wrong cluster must not even be planned for"),
    ("the plan's reads", "what is there, who asks, what they may: before anything is made"),
    ("the namespaces", "nothing can be made in one that is not there"),
    ("accounts and Role", "a binding to a Role that is not there is refused"),
    ("the RoleBinding", "the token's Secret goes last, so that no token is without its bounds"),
    ("the token Secret", "the cluster deletes one whose account it cannot find"),
    ("the token", "another program fills it in: asked for until it is there"),
    ("the proof, the anchor's note", "with the token, of the token, and of the script that holds it"),
];

fn main() -> Result<(), Box<dyn Error>> {
    outrigger::install_tls_provider();
    let mut trips = Vec::new();
    for user in ["kubernetes-admin", "binder@example.com"] {
        let (fast, _) = times(user, Duration::ZERO)?;
        let (slow, seen) = times(user, DELAY)?;
        if trips.is_empty() {
            trips = seen;
        }
        println!("{user}");
        for (((name, _), fast), slow) in COMMANDS.iter().zip(fast).zip(slow) {
            let depth = slow.saturating_sub(fast).as_secs_f64() / DELAY.as_secs_f64();
            println!("  {name:<14}{depth:5.1} round trips in a row");
        }
    }
    println!("\nThe first setup of kubernetes-admin, trip by trip (requests on their way together):");
    for (number, requests) in trips.iter().enumerate() {
        println!("  {:>2}  {}", number + 1, requests.join(", "));
    }
    println!("\nOf these no other order would save:");
    for (what, why) in UNAVOIDABLE {
        println!("  {what:<30}{why}");
    }
    println!(
        "The proof's 21 questions go out in fours, a connection each: all at once would be five trips less."
    );
    Ok(())
}

/// Requests that were on their way together, each as method and the end of its path.
fn waves(cluster: &FakeCluster) -> Vec<Vec<String>> {
    let mut requests = cluster.requests();
    requests.sort_by_key(|request| request.started);
    let mut waves: Vec<Vec<String>> = Vec::new();
    let mut until = None;
    for request in requests {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let shown = format!("{} {name}", request.method);
        // What began before the first of a wave was answered cannot have waited for it.
        if until.is_none_or(|until| request.started >= until) {
            waves.push(Vec::new());
            until = request.finished;
        }
        until = until.min(request.finished);
        if let Some(wave) = waves.last_mut() {
            wave.push(shown);
        }
    }
    waves
}

/// How long each command took, and the waves of the first.
type Measured = (Vec<Duration>, Vec<Vec<String>>);

/// How long each command takes, one after the other on one cluster.
fn times(user: &str, delay: Duration) -> Result<Measured, Box<dyn Error>> {
    let cluster = FakeCluster::start(Options { delay, ..Options::default() });
    for manifest in seed_rbac() {
        let kind = manifest["kind"].as_str().unwrap_or_default().to_lowercase();
        cluster.put(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}s"), manifest);
    }
    let home = tempfile::tempdir()?;
    fs::write(home.path().join("kubeconfig"), cluster.kubeconfig(user))?;
    fs::write(home.path().join("token"), "glrt-of-nobody")?;
    let mut took = Vec::new();
    let mut first = Vec::new();
    for (_, line) in COMMANDS {
        took.push(timed(home.path(), line)?);
        if first.is_empty() {
            first = waves(&cluster);
        }
    }
    Ok((took, first))
}

fn timed(home: &Path, line: &str) -> Result<Duration, Box<dyn Error>> {
    let env: BTreeMap<String, String> =
        [("HOME", home.to_path_buf()), ("KUBECONFIG", home.join("kubeconfig"))]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
            .into();
    let mut args: Vec<std::ffi::OsString> = vec!["outrigger".into()];
    args.extend(line.split(' ').map(Into::into));
    if line.ends_with("--runner-token-file") {
        args.push(home.join("token").into());
    }
    args.push("--non-interactive".into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let quiet = |options: &RunOptions| {
        Ui::new(Box::new(std::io::sink()), Box::new(std::io::sink()), Streams::default(), &env, options)
    };
    let started = Instant::now();
    let code = runtime.block_on(outrigger::run(args, &env, quiet, &mut outrigger::TerminalAsk::default()));
    if code != 0 {
        return Err(format!("{line} ended with {code}").into());
    }
    Ok(started.elapsed())
}
