//! Every input from outside, changed at random: no panic, no hang, and a bound on memory.
//!
//! Each target replays its corpus (`tests/data/fuzz/TARGET/`), then changes members of it in ways that a fixed
//! seed decides, so that a failure comes again. `OUTRIGGER_FUZZ_SECONDS=600 cargo test --test fuzz` goes on for
//! so long with each target, from a seed that changes (it is printed; `OUTRIGGER_FUZZ_SEED` sets it). What
//! fails is written to a file: mended, it belongs into the corpus.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, clippy::exit)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use libtest_mimic::{Arguments, Failed, Trial};
use outrigger::internal::Event;
use outrigger::internal::Intake;
use outrigger::internal::Log;
use outrigger::internal::Record;
use outrigger::internal::Secret;
use outrigger::internal::message;
use outrigger::internal::{Host, judge, read_bundle};
use outrigger::internal::{Human, json_line};
use outrigger::internal::{Inputs, resolve};
use outrigger::internal::{Selection, config_entry, contexts, load};
use outrigger::{Ask, AskError};
use outrigger::{Streams, Ui};
use outrigger_doubles::cluster::{Action, FakeCluster, Fault, Options};
use outrigger_doubles::gitlab::{self, FakeGitlab, PROJECT};
use serde_json::{Value, json};

/// No case may take longer: what takes seconds on a busy machine is no hang yet.
const HANG: Duration = Duration::from_secs(180);
/// The most that the process may have used in the end, in KiB: inputs are bounded at 32 MiB each.
const MEMORY: u64 = 700 * 1024;

/// Tries one input.
type Run = Box<dyn FnMut(&[u8])>;

struct Target {
    name: &'static str,
    /// How many changed inputs a short run tries.
    cases: usize,
    /// What inputs are made of beside bytes.
    words: &'static [&'static str],
    make: fn() -> Run,
}

const YAML: &[&str] =
    &["[", "{", "- ", ": ", "&a ", "*a", "\n", "---\n", "!!binary ", "? ", "|\n", "\"", "'", "\t", "~"];

const TARGETS: &[Target] = &[
    Target { name: "kubeconfig", cases: 600, words: YAML, make: kubeconfig },
    Target { name: "settings", cases: 600, words: YAML, make: settings },
    Target {
        name: "runner-config",
        cases: 1500,
        words: &[
            "[[",
            "]]",
            "[runners.",
            "=",
            "{",
            "\"\"\"",
            "'''",
            "\n",
            "1e999",
            "[",
            ".",
            "kubernetes",
            "_",
        ],
        make: runner_config,
    },
    Target {
        name: "record",
        cases: 600,
        words: &["[", "{", "\"", ":", ",", "null", "1e999", "../", "\\u0000"],
        make: record,
    },
    Target {
        name: "job-log",
        cases: 1500,
        words: &[
            "\r",
            "\n",
            "\u{1b}[",
            "\u{1b}]0;",
            "m",
            "section_start:1:a\r",
            "2026-05-22T12:43:46.962646Z 00O+",
            "glpat-",
            "://",
        ],
        make: job_log,
    },
    Target {
        name: "certificates",
        cases: 1500,
        words: &["-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "\n", "AAAA", "="],
        make: certificates,
    },
    Target {
        name: "message",
        cases: 1500,
        words: &["://", "@", "eyJ", ".", "glrt-", "Bearer ", "PRIVATE KEY-----", "\n", "\u{202e}", ":"],
        make: messages,
    },
    Target {
        name: "anchor",
        cases: 20,
        words: &["[", "{", "\"", ":", ",", "namespace", "runnerVersion", "../"],
        make: anchor,
    },
    Target { name: "cluster-answers", cases: 25, words: &[], make: cluster_answers },
    Target { name: "gitlab-answers", cases: 25, words: &[], make: gitlab_answers },
];

fn main() -> ExitCode {
    outrigger::install_tls_provider();
    std::thread::spawn(watch);
    let mut arguments = Arguments::from_args();
    // They share the process, whose memory is looked at.
    arguments.test_threads = Some(1);
    let trials = TARGETS.iter().map(|target| Trial::test(target.name, move || fuzz(target))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The case under way.
static CASE: Mutex<Option<(Instant, &'static str, Vec<u8>)>> = Mutex::new(None);

fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let case = CASE.lock().unwrap();
        if let Some((started, name, input)) = &*case
            && started.elapsed() > HANG
        {
            eprintln!("{name} hangs: {}", keep(name, input).display());
            std::process::exit(101);
        }
    }
}

/// Writes an input that fails where it outlives the test.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("fuzz-{name}-{}", Timestamp::now().as_nanosecond()));
    fs::write(&path, input).expect("the target directory can be written");
    path
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("each target has a corpus").map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn fuzz(target: &'static Target) -> Result<(), Failed> {
    let mut run = (target.make)();
    let mut one = |input: &[u8]| -> Result<(), Failed> {
        *CASE.lock().unwrap() = Some((Instant::now(), target.name, input.to_vec()));
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| run(input)));
        *CASE.lock().unwrap() = None;
        done.map_err(|_| Failed::from(format!("it panics with {}", keep(target.name, input).display())))
    };
    let corpus = corpus(target.name);
    for input in &corpus {
        one(input)?;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let budget = number("OUTRIGGER_FUZZ_SECONDS").map(Duration::from_secs);
    let now = u64::try_from(Timestamp::now().as_nanosecond() & 0xffff_ffff).unwrap_or_default();
    let seed = number("OUTRIGGER_FUZZ_SEED").unwrap_or(if budget.is_some() { now } else { 1 });
    if budget.is_some() {
        eprintln!("{}: OUTRIGGER_FUZZ_SEED={seed}", target.name);
    }
    let mut dice = Dice(seed | 1);
    let (started, mut tried) = (Instant::now(), 0);
    while budget.map_or(tried < target.cases, |budget| started.elapsed() < budget) {
        one(&changed(&corpus, target.words, &mut dice))?;
        tried += 1;
    }
    if budget.is_some() {
        eprintln!("{}: {tried} inputs", target.name);
    }
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    let most: u64 = most.trim().trim_end_matches(" kB").parse().expect("a number");
    if most > MEMORY {
        return Err(format!("the process has used {most} KiB").into());
    }
    Ok(())
}

/// Random numbers by a fixed rule (xorshift64*): the same seed makes the same inputs everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or_default() % end.max(1)
    }
}

/// A member of the corpus after a few changes.
fn changed(corpus: &[Vec<u8>], words: &[&str], dice: &mut Dice) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let end = (at + 1 + dice.below(40)).min(input.len());
        match dice.below(8) {
            0 if at < input.len() => input[at] = dice.next().to_le_bytes()[0],
            1 if at < input.len() => input[at] ^= 1 << dice.below(8),
            2 if at < end => drop(input.drain(at..end)),
            3 if at < end => {
                let piece = input[at..end].to_vec();
                let to = dice.below(input.len());
                input.splice(to..to, piece);
            }
            4 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            // The same piece over and over: depth, length, and what grows faster than its input.
            5 if !words.is_empty() => {
                let word = words[dice.below(words.len())].repeat(1 << dice.below(14));
                input.splice(at..at, word.into_bytes());
            }
            _ if !words.is_empty() => {
                let word = words[dice.below(words.len())];
                input.splice(at..at, word.bytes());
            }
            _ => input.insert(at, dice.next().to_le_bytes()[0]),
        }
    }
    input.truncate(1 << 20);
    input
}

/// A directory for the files of one target, and the environment of its runs.
fn home() -> (tempfile::TempDir, BTreeMap<String, String>) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut env = BTreeMap::new();
    env.insert("HOME".to_owned(), home.path().display().to_string());
    env.insert("PATH".to_owned(), "/nonexistent".to_owned());
    (home, env)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What a failure says must be possible to show.
fn shown<T>(result: Result<T, outrigger::internal::Failure>) {
    if let Err(failure) = result {
        let event = Event::Failed(failure);
        let _ = json_line(&event, Timestamp::UNIX_EPOCH);
        let _ = Human { width: 80, unicode: true, colour: false, whole: true }.render(&event);
    }
}

fn kubeconfig() -> Run {
    let (home, env) = home();
    let runtime = runtime();
    Box::new(move |input| {
        let path = home.path().join("config");
        fs::write(&path, input).unwrap();
        let selection = Selection { file: Some(&path), ..Selection::default() };
        shown(runtime.block_on(load(&selection, &env, &Intake::default())));
        shown(runtime.block_on(contexts(&selection, &env, &Intake::default())));
    })
}

fn settings() -> Run {
    let matches =
        outrigger::internal::cli::parse(vec!["outrigger".into(), "setup".into()], &[]).expect("arguments").1;
    let (home, env) = home();
    Box::new(move |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let file = Some((home.path().join("settings.yaml"), text.to_owned()));
        let home = Some(home.path().to_owned());
        let inputs = Inputs { matches: &matches, env: &env, file, noted: None, asked: BTreeMap::new(), home };
        shown(resolve(&inputs, |_, _| Ok(BTreeMap::new())));
    })
}

fn runner_config() -> Run {
    Box::new(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        for level in ["privileged", "baseline", "restricted"] {
            shown(config_entry::parse(text, level));
        }
    })
}

fn record() -> Run {
    let (home, env) = home();
    let matches =
        outrigger::internal::cli::parse(vec!["outrigger".into(), "setup".into()], &[]).expect("arguments").1;
    Box::new(move |input| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = Record::path(home.path(), "kubernetes-runner");
        fs::write(&path, input).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        match Record::load(home.path(), "kubernetes-runner") {
            Ok(Some(record)) => {
                let home = Some(home.path().to_owned());
                let recorded = record.settings;
                let inputs = Inputs {
                    matches: &matches,
                    env: &env,
                    file: None,
                    noted: None,
                    asked: BTreeMap::new(),
                    home,
                };
                shown(resolve(&inputs, |_, _| Ok(recorded)));
            }
            other => shown(other),
        }
    })
}

fn job_log() -> Run {
    Box::new(|input| {
        let whole = String::from_utf8_lossy(input);
        let mut log = Log::default();
        // It comes in portions, and each time from its beginning.
        let half = (0..=whole.len() / 2).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or_default();
        let mut lines = log.update(&whole[..half]);
        lines.extend(log.update(&whole));
        lines.extend(log.finish());
        for line in lines {
            let plain = line.plain();
            assert!(!plain.contains(|c| message::is_hostile(c) && c != '\t'), "{plain:?}");
            let _ = Human { width: 80, unicode: true, colour: true, whole: false }
                .render(&Event::Log { job: "job".to_owned(), line });
        }
    })
}

fn certificates() -> Run {
    Box::new(|input| {
        let Ok(bundle) = read_bundle(input) else { return };
        let again = read_bundle(bundle.to_pem().as_bytes()).expect("what was read can be written and read");
        assert_eq!(again.certificates, bundle.certificates);
        let chain: Vec<Vec<u8>> = bundle.certificates.iter().take(8).map(|one| one.der().to_vec()).collect();
        for host in ["10.0.0.1", "gitlab.example.com", "::1"] {
            let _ = judge(&bundle, &chain, &Host::parse(host), Timestamp::UNIX_EPOCH);
        }
        for one in &bundle.certificates {
            let _ = (one.subject(), one.label(), one.days_left(Timestamp::UNIX_EPOCH));
        }
    })
}

fn messages() -> Run {
    Box::new(|input| {
        let text = String::from_utf8_lossy(&input[..input.len().min(64 * 1024)]);
        for shown in [message::line(&text), message::text(&text), message::quoted(&text)] {
            assert!(!shown.contains(message::is_hostile), "{shown:?}");
        }
        // A mask is longer than what it stands for, by little.
        assert!(message::text(&text).chars().count() <= 4 * message::LONGEST, "it is bounded");
        let _ = (message::is_token(&text), message::holds_token(&text));
    })
}

/// A deployment on doubles, made once; commands run on it in this process.
struct Site {
    cluster: FakeCluster,
    gitlab: FakeGitlab,
    home: tempfile::TempDir,
    env: BTreeMap<String, String>,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start() -> Self {
        let (home, env) = home();
        let cluster = FakeCluster::start(Options::default());
        let gitlab = FakeGitlab::start(gitlab::Options::default());
        let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
        write("kubeconfig", &cluster.kubeconfig("kubernetes-admin"));
        write("ca.pem", &gitlab.ca_pem());
        write("token", &gitlab.token("maintainer"));
        let site = Self { cluster, gitlab, home, env, runtime: runtime() };
        // Its own time is no part of what is tried.
        assert_eq!(site.run("setup", &["--timeout", "120s"]), 0, "setup works on doubles");
        site
    }

    fn run(&self, command: &str, more: &[&str]) -> u8 {
        let file = |name: &str| self.home.path().join(name).display().to_string();
        let url = self.gitlab.url();
        let mut args: Vec<String> =
            vec!["outrigger".to_owned(), command.to_owned(), "--non-interactive".to_owned()];
        for (flag, value) in [
            ("--kubeconfig", file("kubeconfig")),
            ("--state-dir", file("state")),
            ("--gitlab-url", url),
            ("--gitlab-ca-file", file("ca.pem")),
            ("--gitlab-token-file", file("token")),
            ("--project", PROJECT.to_owned()),
            ("--timeout", "2s".to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let args = args.into_iter().map(Into::into).collect();
        let ui = |options: &_| {
            Ui::new(Box::new(io::sink()), Box::new(io::sink()), Streams::default(), &self.env, options)
        };
        self.runtime.block_on(outrigger::run(args, &self.env, ui, &mut Nobody))
    }
}

/// Nobody sits at the terminal: each question is interrupted.
struct Nobody;

impl Ask for Nobody {
    fn say(&mut self, _: &str) -> Result<(), AskError> {
        Ok(())
    }

    fn line(&mut self, _: &str) -> Result<String, AskError> {
        Err(AskError::Interrupted)
    }

    fn secret(&mut self, _: &str) -> Result<Secret, AskError> {
        Err(AskError::Interrupted)
    }
}

/// Another machine without the record: all comes from the annotation.
fn anchor() -> Run {
    let site = Site::start();
    fs::rename(site.home.path().join("state"), site.home.path().join("kept")).unwrap();
    let note = Arc::new(Mutex::new(String::new()));
    let said = Arc::clone(&note);
    site.cluster.inject(Fault::always(
        "/serviceaccounts/",
        Action::Edit(Box::new(move |value| {
            if value["metadata"]["annotations"].is_object() {
                let note = said.lock().unwrap().clone();
                for key in [
                    "settings",
                    "script-digest",
                    "token-expires",
                    "gitlab-runner",
                    "script-secret",
                    "script-target",
                ] {
                    value["metadata"]["annotations"][format!("outrigger.dev/{key}")] = note.clone().into();
                }
            }
        })),
    ));
    Box::new(move |input| {
        *note.lock().unwrap() = String::from_utf8_lossy(input).into_owned();
        site.run("status", &[]);
        site.run("teardown", &["--dry-run"]);
    })
}

/// What a server answers is changed as the input says: the numbers choose answers, places and changes.
fn answers(of_gitlab: bool) -> Run {
    let site = Site::start();
    Box::new(move |input| {
        let seed = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        let dice = Mutex::new(RefCell::new(Dice(seed | 1)));
        let action = Action::Edit(Box::new(move |value| {
            let dice = dice.lock().unwrap();
            let dice = &mut *dice.borrow_mut();
            // Most answers stay as they are, or no run would come far.
            if dice.below(8) == 0 {
                for _ in 0..=dice.below(3) {
                    disturb(value, dice);
                }
            }
        }));
        if of_gitlab {
            site.gitlab.inject(Fault::always("", action));
        } else {
            site.cluster.inject(Fault::always("", action));
        }
        site.run("status", &["-vv"]);
        site.run("setup", &["--dry-run", "--commit-pipeline"]);
        site.run("teardown", &["--dry-run", "-o", "json"]);
        site.cluster.clear_faults();
        site.gitlab.clear_faults();
    })
}

fn cluster_answers() -> Run {
    answers(false)
}

fn gitlab_answers() -> Run {
    answers(true)
}

/// Puts something else in the place of one node, or takes it out.
fn disturb(value: &mut Value, dice: &mut Dice) {
    let deeper = dice.below(6) != 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let key = fields.keys().nth(dice.below(fields.len())).cloned().unwrap_or_default();
            if dice.below(12) == 0 {
                fields.remove(&key);
            } else if let Some(field) = fields.get_mut(&key) {
                disturb(field, dice);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = dice.below(items.len());
            if dice.below(6) == 0 {
                let copy = items[at].clone();
                items.extend(std::iter::repeat_n(copy, dice.below(200)));
            } else {
                disturb(&mut items[at], dice);
            }
        }
        _ => {
            *value = match dice.below(12) {
                0 => Value::Null,
                1 => json!(-1),
                2 => json!(u64::MAX),
                3 => json!(1e300),
                4 => json!(true),
                5 => json!([]),
                6 => json!({}),
                7 => json!(""),
                8 => json!("x".repeat(1 << dice.below(18))),
                9 => json!("9999-99-99T99:99:99Z"),
                10 => json!("../../\u{0}\r\n\u{1b}[2J\u{202e}é"),
                _ => (0..100).fold(json!(1), |inner, _| json!([inner])),
            };
        }
    }
}
