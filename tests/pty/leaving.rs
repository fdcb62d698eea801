//! The ways out of a question and of a run: each leaves the terminal as it was.

use std::process::Command;

use outrigger_doubles::cluster::{Action, Fault};

use super::desk::*;

/// At each question: Ctrl-C and Ctrl-D leave, the terminal is as it was, and the answers so far are in a command.
#[test]
fn every_question_can_be_left() {
    let desk = Desk::new();
    let objects = desk.cluster.objects().len();
    let questions = desk.with_existing_runner();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    let words =
        ["", "--deployment blue", "--gitlab-url https://gitlab.example.com", "", "--runner-token-file /"];
    for (way, end) in [("\u{3}", "ended 130"), ("\u{4}", "ended 3")] {
        for at in 0..questions.len() {
            session.send_line(&setup()).expect("sent");
            let mut answers = pairs(&questions[..at]);
            answers.push((questions[at].0, way));
            answer(&mut session, answers);
            let said = session.exp_string(end).unwrap_or_else(|error| panic!("{at} {way:?}: {error}"));
            assert!(said.contains("Nothing was changed: ") && !said.contains("error"), "{said}");
            assert!(said.contains("Go on with these answers:"), "{said}");
            for (number, word) in words.iter().enumerate() {
                assert_eq!(said.contains(word), number <= at || word.is_empty(), "{at} {word}: {said}");
            }
            assert!(!said.contains(TOKEN), "{said}");
            assert_modes_are_back(&mut session);
        }
    }
    assert_eq!(desk.cluster.objects().len(), objects);
    assert!(!desk.home.path().join(".local").exists(), "nothing is left behind");
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
            env!("CARGO_BIN_EXE_outrigger"),
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
        let command =
            format!("sh -c 'echo pid $$; exec {} setup'; echo \"ended $?\"", env!("CARGO_BIN_EXE_outrigger"));
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
