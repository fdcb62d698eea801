//! Certificate verdicts, row by row, against what is expected and against Go itself.
//!
//! Every case of `certificates/cases.rs` runs three times: `verdict/NAME` holds [`judge`] against the
//! expectation written there; `tls/NAME` makes a real TLS handshake with outrigger's own client where the
//! server's key is at hand; `go/NAME` holds both against the program in `tests/real/go/verdict`, which loads
//! the CA as client-go and gitlab-runner do, verifies, and makes a handshake, too. Without `go` on the PATH the second half is ignored, or fails under
//! `OUTRIGGER_REQUIRE_TIERS=1`.
#![allow(missing_docs)]

#[path = "certificates/cases.rs"]
mod cases;
#[path = "certificates/forge.rs"]
mod forge;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::LazyLock;

use base64::Engine as _;
use cases::{Case, Expect};
use jiff::Timestamp;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use outrigger::internal::tls::{Roots, client_config, untrusted};
use outrigger::internal::{Bundle, BundleFault, Host, Verdict, judge, read_bundle};
use outrigger_doubles::wire::Identity;
use rustls::pki_types::ServerName;
use serde::Deserialize;

fn main() -> ExitCode {
    outrigger::install_tls_provider();
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        trials.push(Trial::test(format!("verdict/{}", case.name), move || expected(&CASES[index])));
        trials.push(Trial::test(format!("tls/{}", case.name), move || connects(&CASES[index])));
        trials.push(Trial::ignorable_test(format!("go/{}", case.name), move || same_as_go(&CASES[index])));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

static CASES: LazyLock<Arc<[Case]>> = LazyLock::new(|| cases::all().into());
static GO: LazyLock<Result<HashMap<String, Answer>, Absent>> = LazyLock::new(ask_go);

fn ours(case: &Case) -> Result<(Bundle, Verdict), BundleFault> {
    let bundle = read_bundle(&case.ca)?;
    let verdict = judge(&bundle, &case.chain, &Host::parse(case.host), Timestamp::now());
    Ok((bundle, verdict))
}

fn expected(case: &Case) -> Result<(), Failed> {
    let outcome = ours(case);
    let fits = match (&outcome, case.expect) {
        (Err(fault), Expect::Fault(words)) => fault.to_string().contains(words),
        (Ok((_, verdict)), Expect::Refused(words)) => {
            !verdict.accepted && verdict.anchor.is_none() && verdict.why.iter().any(|why| why.contains(words))
        }
        (Ok((_, verdict)), Expect::Accepted) => accepts(verdict) && verdict.not_here.is_none(),
        (Ok((_, verdict)), Expect::NotHere(words)) => {
            accepts(verdict) && verdict.not_here.as_ref().is_some_and(|why| why.contains(words))
        }
        _ => false,
    };
    ensure(fits, || format!("unexpected verdict: {outcome:#?}"))
}

/// outrigger connects where it says so, and nowhere else; in TLS 1.3 and 1.2.
fn connects(case: &Case) -> Result<(), Failed> {
    let (Some(key), Ok((bundle, verdict))) = (&case.key, ours(case)) else { return Ok(()) };
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let server = Identity { chain: case.chain.clone(), key: key.clone() }.server_of(version);
        let client = client_config(Roots::of_cluster(Some(bundle.clone())))?;
        let name = case.host.to_owned().try_into()?;
        let outcome = handshake(Arc::new(client), name, server);
        ensure(outcome.is_ok() == verdict.accepted_here(), || {
            format!("{version:?}: {outcome:?}, we: {verdict:#?}")
        })?;
        let untrusted = outcome.as_ref().err().and_then(|error| untrusted(error));
        ensure(outcome.is_ok() || untrusted.is_some(), || format!("{version:?}: {outcome:?}"))?;
    }
    Ok(())
}

/// Both ends in memory.
fn handshake(
    client: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    server: Arc<rustls::ServerConfig>,
) -> Result<(), rustls::Error> {
    let mut client = rustls::ClientConnection::new(client, name)?;
    let mut server = rustls::ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            // The client's error is the one that counts.
            let _ = server.process_new_packets();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn accepts(verdict: &Verdict) -> bool {
    verdict.accepted && verdict.anchor.is_some() && verdict.why.is_empty()
}

fn same_as_go(case: &Case) -> Result<Completion, Failed> {
    let answers = match &*GO {
        Ok(answers) => answers,
        Err(Absent::NoGo) if std::env::var_os("OUTRIGGER_REQUIRE_TIERS").is_none_or(|value| value != "1") => {
            return Ok(Completion::ignored_with("go is not on the PATH"));
        }
        Err(Absent::NoGo) => return Err("go is not on the PATH, and OUTRIGGER_REQUIRE_TIERS=1".into()),
        Err(Absent::Broken(why)) => return Err(why.into()),
    };
    let as_given = &answers[&question(case, "as-given")];
    let outcome = ours(case);
    let accepted = outcome.as_ref().is_ok_and(|(_, verdict)| verdict.accepted);
    if let Some(canonical) = answers.get(&question(case, "canonical")) {
        ensure(canonical.accepted == accepted, || format!("Go: {canonical:?}, we: {outcome:#?}"))?;
        if let Some(handshake) = canonical.handshake {
            ensure(handshake == accepted, || format!("Go's handshake: {canonical:?}, we: {outcome:#?}"))?;
        }
    }
    // What Go does with the text as given is what it does with ours, unless we say we mended it.
    ensure(as_given.accepted == (accepted && !case.mended), || format!("Go as given: {as_given:?}"))?;
    Ok(Completion::Completed)
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(message().into()) }
}

fn question(case: &Case, which: &str) -> String {
    format!("{}/{which}", case.name)
}

/// Go's answer; the shape is documented in `main.go`.
#[derive(Debug, Deserialize)]
struct Answer {
    name: String,
    accepted: bool,
    /// Read in failure messages only.
    #[allow(dead_code)]
    error: String,
    handshake: Option<bool>,
    #[allow(dead_code)]
    handshake_error: String,
}

enum Absent {
    NoGo,
    Broken(String),
}

/// Builds the Go program and asks it about every case at once.
fn ask_go() -> Result<HashMap<String, Answer>, Absent> {
    let broken = |what: &str, why: &dyn std::fmt::Display| Absent::Broken(format!("{what}: {why}"));
    if Command::new("go").arg("version").output().is_err() {
        return Err(Absent::NoGo);
    }
    let scratch = tempfile::tempdir().map_err(|error| broken("no scratch directory", &error))?;
    let program = scratch.path().join("verdict");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/go");
    let build = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg("./verdict")
        .current_dir(module)
        // Nothing of the caller's may change Go's rules.
        .env_remove("GODEBUG")
        .output()
        .map_err(|error| broken("go build", &error))?;
    if !build.status.success() {
        return Err(broken("go build", &String::from_utf8_lossy(&build.stderr)));
    }
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut questions = String::new();
    for case in CASES.iter() {
        let canonical = read_bundle(&case.ca).ok().map(|bundle| bundle.to_pem());
        let texts =
            [("as-given", Some(String::from_utf8_lossy(&case.ca).into_owned())), ("canonical", canonical)];
        for (which, text) in texts {
            let Some(text) = text else { continue };
            let line = serde_json::json!({
                "name": question(case, which),
                "ca_pem": text,
                "chain": case.chain.iter().map(|der| base64.encode(der)).collect::<Vec<_>>(),
                "key": case.key.as_ref().map(|key| base64.encode(key)),
                "host": case.host,
            });
            questions.push_str(&line.to_string());
            questions.push('\n');
        }
    }
    let mut child = Command::new(&program)
        .env_remove("GODEBUG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| broken("verdict", &error))?;
    // Written beside the reading below: both pipes would fill up otherwise.
    let mut stdin = child.stdin.take().ok_or_else(|| broken("verdict", &"no stdin"))?;
    let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()));
    let output = child.wait_with_output().map_err(|error| broken("verdict", &error))?;
    let written = writer.join().map_err(|_| broken("verdict", &"the writer panicked"))?;
    written.map_err(|error| broken("verdict", &error))?;
    let mut answers = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let answer: Answer = serde_json::from_str(line).map_err(|error| broken(line, &error))?;
        answers.insert(answer.name.clone(), answer);
    }
    Ok(answers)
}
