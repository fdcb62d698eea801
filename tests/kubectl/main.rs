//! outrigger beside kubectl and beside Go's own proxy rules.
//!
//! `kubectl/NAME` gives one kubeconfig and one environment to the real kubectl and to outrigger, in a network
//! namespace with proxies and API servers that write down who came and how: the same server must be reached,
//! the same way, with the same credentials, or both must refuse. A difference is named in `cases.rs` with its
//! reason; one that is not named fails, and so does a named one that is none.
//! `go/NAME` holds outrigger's proxy rules against `golang.org/x/net/http/httpproxy`, on rows and at random.
//!
//! Without kubectl (`KUBEBUILDER_ASSETS`, made by `tests/real/build-control-plane.sh`), namespaces or Go the
//! cases are ignored with the reason, or fail if `OUTRIGGER_REQUIRE_TIERS=1`.
#![allow(missing_docs)]

mod alone;
mod cases;
mod cluster_cases;
#[path = "../common/mod.rs"]
mod common;
mod lab;
mod rules;
mod user_cases;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use cases::{Case, Expect};
use lab::Seen;

const TIER: &str = "kubectl";

#[allow(clippy::print_stdout, reason = "the count belongs to the test's output")]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What arrives at the servers is one run's after the other.
    arguments.test_threads = Some(1);
    let cases = cases::all();
    let lab = lab::available();
    if lab.is_ok() && !arguments.list && !lab::inside() {
        return ExitCode::from(lab::enter());
    }
    let kubectl = kubectl().and_then(|path| lab.clone().map(|()| path));
    let count = cases.len();
    let differences = cases.iter().filter(|case| case.differs.is_some()).count();
    let listed = arguments.list;
    let mut trials = rules::trials();
    for case in cases {
        let kubectl = kubectl.clone();
        trials.push(
            Trial::ignorable_test(format!("kubectl/{}", case.name), move || match &kubectl {
                Ok(kubectl) => beside(kubectl, &case),
                Err(why) if common::tiers_required() => Err(Failed::from(why)),
                Err(why) => Ok(Completion::ignored_with(why)),
            })
            .with_kind(TIER),
        );
    }
    for (name, test) in [("alone/gitlab", alone::gitlab as fn() -> _), ("alone/addresses", alone::addresses)]
    {
        let available = lab.clone();
        trials.push(
            Trial::ignorable_test(name, move || match available {
                Ok(()) => test().map(|()| Completion::Completed),
                Err(why) if common::tiers_required() => Err(Failed::from(why)),
                Err(why) => Ok(Completion::ignored_with(why)),
            })
            .with_kind(TIER),
        );
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listed {
        println!("kubectl's table: {count} cases, {differences} named differences");
    }
    conclusion.exit_code()
}

fn kubectl() -> Result<PathBuf, String> {
    let variable = "KUBEBUILDER_ASSETS";
    let folder = std::env::var_os(variable).ok_or_else(|| format!("{variable} is not set"))?;
    let path = PathBuf::from(folder).join("kubectl");
    if path.is_file() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
}

/// Runs both on a case.
fn beside(kubectl: &Path, case: &Case) -> Result<Completion, Failed> {
    lab::start();
    let dir = tempfile::tempdir()?;
    let place = |text: &str| text.replace("@DIR@", &dir.path().display().to_string());
    for (name, text) in &case.files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below the directory"))?;
        fs::write(&path, place(text))?;
        if text.starts_with("#!") {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        }
    }
    let run = |program: &Path, arguments: &[&str]| -> std::io::Result<(Output, Seen)> {
        let _ = lab::seen();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("HOME", dir.path()).env("PATH", "/usr/bin:/bin");
        if let Some(context) = case.context {
            command.args(["--context", context]);
        }
        for (name, value) in &case.env {
            command.env(name, place(value));
        }
        let output = command.current_dir(dir.path()).stdin(Stdio::null()).output()?;
        Ok((output, lab::seen()))
    };
    let (theirs, their_way) = run(kubectl, &["get", "--raw", "/version", "--request-timeout=5s"])?;
    let ours = ["status", "--non-interactive", "--timeout", "10s", "--request-timeout", "5s"];
    let (ours, our_way) = run(Path::new(common::binary::outrigger()), &ours)?;
    let text = |output: &Output| {
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        format!("exit {:?}: {stdout}{stderr}", output.status.code())
    };
    let both = format!(
        "kubectl: {their_way}\n  {}\noutrigger: {our_way}\n  {}",
        text(&theirs).trim(),
        text(&ours).trim()
    );
    let ensure =
        |holds: bool, what: &str| if holds { Ok(()) } else { Err(Failed::from(format!("{what}\n{both}"))) };

    ensure(theirs.status.success() != their_way.requests.is_empty(), "kubectl came and did not succeed")?;
    ensure(case.kubectl.fits(&their_way), "kubectl does not do what the table says")?;
    ensure(
        ours.status.code().is_some_and(|code| [0, 1, 2, 3, 4, 8, 9, 10].contains(&code)),
        "outrigger broke",
    )?;
    let shown = text(&ours);
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in case.says {
        ensure(flat.contains(word), &format!("outrigger does not say {word:?}"))?;
    }
    ensure(!flat.contains("canary"), "outrigger shows a secret")?;
    let reached = !our_way.requests.is_empty();
    ensure(reached || (!ours.status.success() && flat.contains("OR0")), "outrigger failed without a reason")?;
    match &case.differs {
        None => ensure(our_way == their_way, "a difference that is not named")?,
        Some((_, expected)) => {
            ensure(our_way != their_way, "a named difference that is none")?;
            ensure(expected.fits(&our_way), "outrigger does not do what the table says")?;
        }
    }
    Ok(Completion::Completed)
}

impl Expect {
    /// Whether this is what was seen.
    pub fn fits(&self, seen: &Seen) -> bool {
        let at = |place: &str| seen.requests.iter().any(|line| line.contains(place));
        match self {
            Self::Direct(place) => seen.proxies.is_empty() && at(place),
            Self::Through(proxy, place) => {
                seen.proxies.len() == 1 && seen.proxies.contains(*proxy) && at(place)
            }
            Self::Fails => seen.requests.is_empty(),
        }
    }
}
