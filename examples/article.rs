//! The whole article inside this process: `cargo run --example article`.
//!
//! Needs nothing but Rust: no cluster, no GitLab, no network beyond this machine, no privileges. The
//! commands are the real ones; the Kubernetes API server, GitLab and the VM are stand-ins. The operator,
//! `binder@example.com`, may not grant the runner's Role by himself, so that the temporary `edit` is seen
//! coming and going.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a transcript is what this is for")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it plays the user, who has files")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outrigger_doubles::cluster::{FakeCluster, Options, seed_rbac};
use outrigger_doubles::gitlab::{self, DriverOptions, FakeGitlab, PROJECT, RunnerDriver};

/// Who operates, see `seed_rbac`.
const OPERATOR: &str = "binder@example.com";
/// The lines a user would type; `GITLAB_URL` names the instance.
const SETUP: &str = "outrigger setup --non-interactive --project acme/shop \
                     --gitlab-token-file ~/gitlab-token --gitlab-ca-file ~/gitlab-ca.pem";
const FIRST_JOB: &str =
    "outrigger setup --non-interactive --commit-pipeline --run-pipeline --gitlab-token-file ~/gitlab-token";
const STATUS: &str = "outrigger status --gitlab-token-file ~/gitlab-token";
const AGAIN: &str = "outrigger setup --non-interactive --gitlab-token-file ~/gitlab-token";
const TEARDOWN: &str =
    "outrigger teardown --non-interactive --yes --revert-pipeline --gitlab-token-file ~/gitlab-token";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    outrigger::install_tls_provider();
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe example failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Outcome<()> {
    let cluster = FakeCluster::start(Options { cluster_name: "acme-ci".to_owned(), ..Options::default() });
    for manifest in seed_rbac() {
        cluster.put(&collection(&manifest["kind"]), manifest);
    }

    let gitlab = FakeGitlab::start(gitlab::Options::default());

    let home = tempfile::Builder::new().prefix("outrigger-article-").tempdir()?;
    let place = |name: &str| home.path().join(name);
    fs::create_dir(place(".kube"))?;
    write_private(&place(".kube/config"), cluster.kubeconfig(OPERATOR).as_bytes())?;
    write_private(&place("gitlab-token"), gitlab.token("maintainer").as_bytes())?;
    write_private(&place("gitlab-ca.pem"), gitlab.ca_pem().as_bytes())?;
    let shell = Shell::new(home.path(), &gitlab.url())?;

    println!("# You are {OPERATOR}; ~ is {}", home.path().display());
    println!("# $GITLAB_URL is {}, where you are Maintainer of {PROJECT}", gitlab.url());
    let before = (names(&cluster), gitlab.runners(), gitlab.file(PROJECT, "main", ".gitlab-ci.yml"));
    shell.types(SETUP, 0)?;
    let script = place(".local/state/outrigger/kubernetes-runner/launch.sh");
    let copy = keep(&script)?;
    println!("\n# The launch script, for you to look at: {}", copy.display());
    println!("# (mode 0600, as it holds tokens; these two open nothing)");

    println!(
        "\n# You boot a VM with it. Here a stand-in plays the machine: it has the script's token, no more"
    );
    let vm = RunnerDriver::start(DriverOptions::new(&gitlab, &runner_token(&script)?));
    // Whoever boots a VM comes back once it is up: it has asked for a job by then.
    while !gitlab.requests().iter().any(|request| request.path.ends_with("/jobs/request")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    shell.types(FIRST_JOB, 0)?;
    shell.types(STATUS, 0)?;

    println!("\n# The same again: nothing to do, nothing written");
    cluster.clear_requests();
    shell.types(AGAIN, 0)?;
    let reviews = |path: &str| path.contains("reviews");
    let is_write = |method: &str| matches!(method, "PUT" | "PATCH" | "DELETE" | "POST");
    for request in cluster.requests() {
        let harmless = reviews(&request.path) || request.query.contains("dryRun=All");
        if is_write(&request.method) && !harmless {
            return Err(format!("the second setup wrote: {} {}", request.method, request.path).into());
        }
    }

    println!("\n# You delete the VM");
    drop(vm);
    shell.types(TEARDOWN, 0)?;
    let after = (names(&cluster), gitlab.runners(), gitlab.file(PROJECT, "main", ".gitlab-ci.yml"));
    if before != after {
        return Err(format!("teardown did not leave things as they were: {after:?}").into());
    }
    println!(
        "\n# The cluster holds the {} objects that it held before; GitLab no runner, no file of ours",
        after.0.len()
    );
    Ok(())
}

/// The runner's token in the script, as the machine will have it.
fn runner_token(script: &Path) -> Outcome<String> {
    let text = fs::read_to_string(script)?;
    let at = text.find("glrt-").ok_or("the script holds no runner token")?;
    Ok(text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect())
}

/// Where the objects of a kind are made.
fn collection(kind: &serde_json::Value) -> String {
    let kind = kind.as_str().unwrap_or_default().to_lowercase();
    format!("/apis/rbac.authorization.k8s.io/v1/{kind}s")
}

fn names(cluster: &FakeCluster) -> Vec<String> {
    cluster.objects().into_keys().collect()
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// Copies the script to `target/article/`, next to the profile this was built for.
fn keep(script: &Path) -> Outcome<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).ok_or("the example is not below a target directory")?;
    let dir = target.join("article");
    fs::create_dir_all(&dir)?;
    let copy = dir.join("launch.sh");
    // Its mode must hold from the first byte, also where an older copy lies.
    match fs::remove_file(&copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    write_private(&copy, &fs::read(script)?)?;
    let here = std::env::current_dir()?;
    Ok(copy.strip_prefix(&here).map(Path::to_path_buf).unwrap_or(copy))
}

/// Runs command lines in this process, in a home and an environment of their own.
struct Shell {
    env: BTreeMap<String, String>,
    runtime: tokio::runtime::Runtime,
}

impl Shell {
    fn new(home: &Path, gitlab: &str) -> Outcome<Self> {
        let inherited = ["COLUMNS", "LANG", "LC_ALL", "NO_COLOR", "CLICOLOR_FORCE", "PATH", "TERM"];
        let mut env: BTreeMap<String, String> = inherited
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        env.insert("HOME".to_owned(), home.display().to_string());
        env.insert("GITLAB_URL".to_owned(), gitlab.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { env, runtime })
    }

    /// Shows a command line and runs it; its exit code must be the expected one.
    fn types(&self, line: &str, expected: u8) -> Outcome<()> {
        println!("\n$ {line}");
        std::io::stdout().flush()?;
        let home = &self.env["HOME"];
        // As a shell would: the lines above have no quotes.
        let word = |word: &str| word.strip_prefix("~/").map_or(word.into(), |rest| format!("{home}/{rest}"));
        let args = line.split(' ').filter(|text| !text.is_empty()).map(|text| word(text).into()).collect();
        let code = self.runtime.block_on(outrigger::run(
            args,
            &self.env,
            |options| outrigger::Ui::system(&self.env, options),
            &mut outrigger::TerminalAsk::default(),
        ));
        if code != expected {
            return Err(format!("exit {code} instead of {expected}: {line}").into());
        }
        Ok(())
    }
}
