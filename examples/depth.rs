//! How many round trips stand in a row, by command: `cargo run --example depth`.
//!
//! The double answers each request after a delay; what a command then takes longer than without it,
//! divided by the delay, is its sequential depth. Connections cost nothing extra on loopback, so a real
//! network adds two round trips for each lane that is opened.
//!
//! What cannot be saved in a first `setup`: the cluster's identity and the anchor (is it the right
//! cluster, who are we), the plan's reads, namespace, `default` ServiceAccount, Role, RoleBinding, Secret,
//! its token, the proof.

#![allow(clippy::print_stdout, reason = "figures are what this is for")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it plays the user, who has files")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use outrigger::settings::RunOptions;
use outrigger::ui::{Streams, Ui};
use outrigger_doubles::cluster::{FakeCluster, Options, seed_rbac};

const DELAY: Duration = Duration::from_millis(50);
const COMMANDS: [(&str, &str); 4] = [
    ("setup", "setup --gitlab-url https://gitlab.example.com --runner-token-file"),
    ("second setup", "setup --gitlab-url https://gitlab.example.com --runner-token-file"),
    ("status", "status"),
    ("teardown", "teardown --yes"),
];

fn main() -> Result<(), Box<dyn Error>> {
    outrigger::install_tls_provider();
    for user in ["kubernetes-admin", "binder@example.com"] {
        let fast = times(user, Duration::ZERO)?;
        let slow = times(user, DELAY)?;
        println!("{user}");
        for (((name, _), fast), slow) in COMMANDS.iter().zip(fast).zip(slow) {
            let depth = slow.saturating_sub(fast).as_secs_f64() / DELAY.as_secs_f64();
            println!("  {name:<14}{depth:5.1} round trips in a row");
        }
    }
    Ok(())
}

/// How long each command takes, one after the other on one cluster.
fn times(user: &str, delay: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let cluster = FakeCluster::start(Options { delay, ..Options::default() });
    for manifest in seed_rbac() {
        let kind = manifest["kind"].as_str().unwrap_or_default().to_lowercase();
        cluster.put(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}s"), manifest);
    }
    let home = tempfile::tempdir()?;
    fs::write(home.path().join("kubeconfig"), cluster.kubeconfig(user))?;
    fs::write(home.path().join("token"), "glrt-of-nobody")?;
    COMMANDS.iter().map(|(_, line)| timed(home.path(), line)).collect()
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
    let code = runtime.block_on(outrigger::run(args, &env, quiet, &mut outrigger::wizard::TerminalAsk));
    if code != 0 {
        return Err(format!("{line} ended with {code}").into());
    }
    Ok(started.elapsed())
}
