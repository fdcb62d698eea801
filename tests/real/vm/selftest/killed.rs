//! A run that is killed leaves a machine that goes on; the next run ends it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::super::vm::beds::Beds;
use super::super::vm::roots::{Root, Roots};
use super::super::vm::run::{Run, traces};
use super::super::vm::{PATIENCE, Vm};
use super::Belongings;

/// Set for the process that is to be killed: this test program once more.
const OTHER_SIDE: &str = "OUTRIGGER_TEST_VM_TO_BE_KILLED";

/// In that process: boots a machine, says so, and waits for its end. `None` in any other.
pub fn other_side() -> Option<ExitCode> {
    std::env::var_os(OTHER_SIDE)?;
    let roots = Roots::find().expect("the trial has looked for them");
    let run = Run::new().expect("a run can begin");
    let vm = Vm::new(&run, &roots, Root::Bookworm);
    vm.boot_idle();
    let belongings = Belongings::of(&vm);
    let namespaces: Vec<_> = belongings.namespaces.into_iter().collect();
    let words = [run.name(), &belongings.init.to_string(), &belongings.lock, &namespaces.join(" ")];
    writeln!(std::io::stdout(), "{}", words.join(" ")).expect("the trial reads it");
    // Ends, should the trial have ended before.
    let _ = std::io::stdin().read_line(&mut String::new());
    Some(ExitCode::SUCCESS)
}

/// See above.
pub fn nothing_is_left(_: &Beds) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .env(OTHER_SIDE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts once more");
    let mut line = String::new();
    let said = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
    let killed = child.kill().and_then(|()| child.wait());
    assert!(
        killed.is_ok_and(|status| status.code().is_none()),
        "it was to be killed, after {line:?} {said:?}"
    );
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut word = || words.next().unwrap_or_else(|| panic!("a word is missing in {line:?}"));
    let name = word();
    let init = word().parse().expect("a process id");
    let belongings = Belongings { init, lock: word(), namespaces: words.collect() };

    assert!(fs::exists(format!("/proc/{init}")).expect("it can be asked"), "PID 1 goes on");
    assert!(traces(Path::new(&name)).len() > 4, "{:?}", traces(Path::new(&name)));
    let before = belongings.left();
    drop(Run::new().expect("a run can begin"));
    assert_eq!(traces(Path::new(&name)), Vec::<String>::new());
    // Whoever has no parent any more is reaped by the machine's own PID 1, a moment later.
    let started = Instant::now();
    while !belongings.left_of(&before).is_empty() {
        assert!(started.elapsed() < PATIENCE, "{:?}", belongings.left_of(&before));
        std::thread::sleep(Duration::from_millis(50));
    }
}
