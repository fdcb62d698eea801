//! The ways out of a question and of a run: each leaves the terminal as it was.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use outrigger::Ask as _;
use outrigger_doubles::cluster::{Action, Fault};
use outrigger_doubles::gitlab::FakeGitlab;

use super::desk::*;

/// A flow of questions: words of each, a good answer, and what the answer adds to the command that goes on.
type Flow = Vec<(&'static str, String, &'static str)>;

fn existing_runner(desk: &Desk) -> Flow {
    vec![
        ("Deployment name", "blue\r".to_owned(), "--deployment blue"),
        ("GitLab URL", "gitlab.example.com\r".to_owned(), "--gitlab-url https://gitlab.example.com"),
        ("by its authentication", "2\r".to_owned(), ""),
        ("authentication token", format!("{}\r", desk.path("token")), "--runner-token-file /"),
        ("Where the machine", "ssh\r".to_owned(), "--target ssh"),
        ("SSH destination", "\r".to_owned(), ""),
        ("for the runner's", "\r".to_owned(), ""),
        ("an answer to", "\r".to_owned(), ""),
        ("Apply these", String::new(), ""),
    ]
}

fn new_runner(gitlab: &FakeGitlab) -> Flow {
    vec![
        ("GitLab URL", format!("{}\r", gitlab.url()), "--gitlab-url https://127.0.0.1:"),
        ("2) use", "1\r".to_owned(), ""),
        ("File with your GitLab", "\r".to_owned(), ""),
        ("Your GitLab access token", format!("{}\r", gitlab.token("maintainer")), ""),
        ("Number, or another one", "acme/shop\r".to_owned(), "--project acme/shop"),
        ("your role", "one,two\r".to_owned(), "--tags one,two"),
        ("Where the machine", "ec2\r".to_owned(), "--target ec2"),
        ("for the runner's", "https://api.example.com:6443\r".to_owned(), "--kubernetes-host https://api"),
        ("an answer to", "\r".to_owned(), ""),
        ("Apply these", String::new(), ""),
    ]
}

/// Leaves at each question in each way: the terminal is as it was, nothing is changed, and the answers so far are in a
/// command.
fn leave_everywhere(desk: &Desk, flags: &str, flow: &Flow, secrets: &[&str]) {
    let objects = desk.cluster.objects().len();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    for (at, (words, _, _)) in flow.iter().enumerate() {
        let is_consent = *words == "Apply these";
        let refusal = if is_consent { Some(("no\r", "ended 3")) } else { None };
        for (way, end) in [("\u{3}", "ended 130"), ("\u{4}", "ended 3")].into_iter().chain(refusal) {
            run(&mut session, &format!("setup {flags}"));
            answer(&mut session, flow[..at].iter().map(|(words, keys, _)| (*words, keys.as_str())));
            answer(&mut session, [(*words, way)]);
            let said = session.exp_string(end).unwrap_or_else(|error| panic!("{words} {way:?}: {error}"));
            assert!(
                said.contains("Nothing was changed: ") && !said.contains("error"),
                "{words} {way:?}: {said}"
            );
            let so_far = below(&said, "Go on with these answers:");
            for (number, (_, _, word)) in flow.iter().enumerate() {
                assert!(
                    word.is_empty() || so_far.contains(word) == (number < at),
                    "{words} {word}: {so_far}"
                );
            }
            assert!(!secrets.iter().any(|secret| said.contains(secret)), "{words} {way:?}: {said}");
            assert_modes_are_back(&mut session);
            assert!(!desk.home.path().join(".local").exists(), "{words} {way:?}: something is left behind");
        }
    }
    assert_eq!(desk.cluster.objects().len(), objects);
    leave(session);
}

#[test]
fn every_question_about_an_existing_runner_can_be_left() {
    let desk = Desk::new();
    leave_everywhere(&desk, "", &existing_runner(&desk), &[TOKEN]);
}

#[test]
fn every_question_about_a_new_runner_can_be_left() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let secret = gitlab.token("maintainer");
    let flags = format!("--deployment blue --gitlab-ca-file {}", desk.path("ca.pem"));
    leave_everywhere(&desk, &flags, &new_runner(&gitlab), &[&secret]);
    assert_eq!(gitlab.runners().len(), 0);
}

/// Behind a refused answer the ways out are the same, and the refused answer is in no command.
#[test]
fn a_refused_answer_can_be_left() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    for (way, end) in [("\u{3}", "ended 130"), ("\u{4}", "ended 3")] {
        run(&mut session, "setup");
        answer(&mut session, [("Deployment name", "Not Valid\r"), ("error: must be lower-case", "blue\r")]);
        answer(&mut session, [("GitLab URL", "ftp://gitlab.example.com\r"), ("error: ", way)]);
        let said = session.exp_string(end).expect("left");
        let so_far = below(&said, "Go on with these answers:");
        assert!(so_far.contains("--deployment blue") && !so_far.contains("ftp"), "{so_far}");
        assert_modes_are_back(&mut session);
    }
    leave(session);
}

/// Without a terminal any more there is nobody to ask: the run ends, and nothing was agreed.
#[test]
fn a_terminal_that_goes_away_ends_the_run() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let desk = Desk::new();
    let objects = desk.cluster.objects().len();
    let confirm = ["setup", "--gitlab-url", "https://gitlab.example.com", "--runner-token-file", "token"];
    for (arguments, question) in [(&["setup"][..], "Deployment name"), (&confirm, "Apply these")] {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it is ours");
        let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
        let no_control = i32::try_from(OpenptFlags::NOCTTY.bits()).expect("a flag");
        let theirs = || OpenOptions::new().read(true).write(true).custom_flags(no_control).open(&name);
        let mut child = Command::new(outrigger())
            .args(arguments)
            .env_clear()
            .env("HOME", desk.home.path())
            .env("KUBECONFIG", desk.path("kubeconfig"))
            .env("TERM", "xterm")
            .current_dir(desk.home.path())
            .stdin(theirs().expect("opened"))
            .stdout(theirs().expect("opened"))
            .stderr(theirs().expect("opened"))
            .spawn()
            .expect("it starts");
        let (mut screen, mut bytes) = (String::new(), [0; 4096]);
        let mut ours = fs::File::from(ours);
        while !screen.contains(question) {
            let count = ours.read(&mut bytes).expect("it asks");
            screen += &String::from_utf8_lossy(&bytes[..count]);
        }
        drop(ours);
        until("it ends", || child.try_wait().expect("our own child").is_some());
        let code = child.wait().expect("it ended").code();
        assert!(code.is_some_and(|code| code != 0), "{question}: {code:?}");
        assert_eq!(desk.cluster.objects().len(), objects, "{question}");
    }
}

/// The other side of [`a_panic_at_a_question_restores_the_terminal`]: while a question is open, another thread panics.
/// Only the hook can restore the terminal then, as in a build that aborts on a panic.
#[test]
#[expect(clippy::exit, reason = "no destructor may restore the terminal")]
fn panics_at_a_question() {
    if std::env::var_os("PANIC_AT_A_QUESTION").is_none() {
        return;
    }
    outrigger::restore_terminal_on_panic();
    std::thread::spawn(|| {
        let env = [("TERM".to_owned(), "xterm".to_owned())].into();
        let _ = outrigger::TerminalAsk::new(&env).line("A question: ");
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _ = std::thread::spawn(|| panic!("a panic on purpose")).join();
    std::process::exit(86);
}

#[test]
fn a_panic_at_a_question_restores_the_terminal() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    let this = std::env::current_exe().expect("this program");
    let line = format!(
        "PANIC_AT_A_QUESTION=1 {} --exact leaving::panics_at_a_question --nocapture; echo \"ended $?\"",
        this.display()
    );
    session.send_line(&line).expect("sent");
    let asked = session.exp_string("A question: ").expect("the question");
    assert!(asked.contains("\u{1b}[?2004h"), "{asked:?}");
    let said = session.exp_string("ended 86").expect("it ends");
    let (end_of_pastes, report) = (said.find("\u{1b}[?2004l"), said.find("a panic on purpose"));
    assert!(end_of_pastes.is_some() && end_of_pastes < report, "{said:?}");
    assert_modes_are_back(&mut session);
    leave(session);
}

#[test]
fn ctrl_c_at_work_is_answered_and_leaves_the_terminal_as_it_was() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    desk.cluster.inject(Fault::always("/version", Action::Hang));
    session.send_line("modes=$(stty -g)").expect("sent");
    session
        .send_line(&format!(
            "{} setup --request-timeout 60s --gitlab-url https://gitlab.example.com --runner-token-file {}; \
             echo \"ended $?\"",
            outrigger(),
            desk.path("token")
        ))
        .expect("sent");
    until("a request comes in", || desk.cluster.requests().iter().any(|one| one.path == "/version"));
    session.send_control('c').expect("sent");
    session.exp_string("press Ctrl-C again to stop immediately").expect("the first one is answered");
    session.send_control('c').expect("sent");
    let said = session.exp_string("ended 130").expect("the second one ends it");
    let (shown, hidden) = (said.matches("\u{1b}[?25h").count(), said.matches("\u{1b}[?25l").count());
    assert!(hidden == 0 || shown > 0, "the cursor stays hidden: {said:?}");
    session.send_line("test \"$(stty -g)\" = \"$modes\" && echo sa\"\"me || echo ot\"\"her").expect("sent");
    let (_, found) = session.exp_regex("same|other").expect("the shell answers");
    assert_eq!(found, "same", "the terminal's modes are not what they were");
    leave(session);
}

#[test]
fn a_signal_at_a_question_ends_it_and_leaves_the_terminal_as_it_was() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    for (signal, end) in [("TERM", "ended 143"), ("INT", "ended 130")] {
        let command = format!("sh -c 'echo pid $$; exec {} setup'; echo \"ended $?\"", outrigger());
        session.send_line(&command).expect("sent");
        let (_, pid) = session.exp_regex("pid [0-9]+").expect("its id");
        session.exp_string("Deployment name").expect("the first question");
        session.exp_string(": ").expect("the prompt");
        let killed = Command::new("kill").args([&format!("-{signal}"), &pid["pid ".len()..]]).status();
        assert!(killed.expect("kill").success());
        session.exp_string(end).expect("ended by the signal");
        assert_modes_are_back(&mut session);
    }
    leave(session);
}
