//! Pastes, narrow and plain terminals, and terminals that change their size.

use std::fs;
use std::process::Command;

use super::desk::*;

/// Only the first line of a paste is an answer, and none agrees to anything.
#[test]
fn a_paste_answers_one_question_and_agrees_to_nothing() {
    let desk = Desk::new();
    let objects = desk.cluster.objects().len();
    let questions = desk.with_existing_runner();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    // Without marks, as from a terminal that does not tell pastes: what follows the first line is dropped.
    session.send_line(&setup()).expect("sent");
    answer(&mut session, [("Deployment name", "blue\rhttps://evil.example\r1\ry\ry\r")]);
    answer(&mut session, [("GitLab URL", "gitlab.example.com\r")]);
    let rest = pairs(&questions);
    answer(&mut session, rest[2..].to_vec());
    answer(&mut session, [("Apply these", "\u{1b}[200~y\ry\r\u{1b}[201~\r")]);
    session.exp_string("ended 3").expect("a paste is no consent");
    // With marks, not even the first line is entered.
    session.send_line(&setup()).expect("sent");
    answer(&mut session, [("Deployment name", "\u{1b}[200~blue\rhttps://evil.example\ry\r\u{1b}[201~")]);
    type_in(&mut session, "-sky\r");
    answer(&mut session, [("GitLab URL", "\u{3}")]);
    let said = session.exp_string("ended 130").expect("left");
    assert!(said.contains("--deployment blue-sky") && !said.contains("evil"), "{said}");
    assert_modes_are_back(&mut session);
    assert_eq!(desk.cluster.objects().len(), objects);
    leave(session);
}

/// Narrow and wide, without escape sequences, without UTF-8, resized while an answer is typed.
#[test]
fn answers_arrive_on_any_terminal() {
    let desk = Desk::new();
    let long = desk.path("a token with a long name \u{65e5}\u{672c}\u{8a9e}");
    fs::copy(desk.path("token"), &long).expect("copied");
    for (setting, columns) in [("", 40), ("TERM=dumb", 60), ("LANG=C", 100), ("TERM=dumb LC_ALL=POSIX", 20)] {
        let mut session = desk.sit_down();
        session.send_line("tty").expect("sent");
        let (_, terminal) = session.exp_regex("/dev/pts/[0-9]+").expect("the terminal's name");
        session.send_line(&format!("stty cols {columns}")).expect("sent");
        keep_modes(&mut session);
        session.send_line(&format!("{setting} {}", setup())).expect("sent");
        let mut answers = desk.with_existing_runner();
        // Words that no width breaks.
        let words = ["Deployment", "GitLab", "existing|2)", "File", "nocloud", "Enter", "Enter"];
        for (answer, word) in answers.iter_mut().zip(words) {
            answer.0 = if word.contains('|') { "2)" } else { word };
        }
        answer(&mut session, pairs(&answers[..3]));
        session.exp_string("File").expect("the token's file");
        type_in(&mut session, "/x \u{65e5}\u{65e5}\u{7f}\u{15}");
        type_in(&mut session, &long[..long.len() / 2]);
        let other = if columns == 40 { "100" } else { "40" };
        let resized = Command::new("stty").args(["-F", &terminal, "cols", other]).status();
        assert!(resized.expect("stty").success());
        type_in(&mut session, &format!("{}\u{65e5}\u{7f}\r", &long[long.len() / 2..]));
        answer(&mut session, pairs(&answers[4..6]));
        answer(&mut session, [("Enter", "\u{3}")]);
        let said = session.exp_string("ended 130").expect("left");
        let flat: String = said.split_whitespace().collect();
        // The session takes each byte for a character.
        let wanted = format!("--runner-token-file '{long}' --target ssh");
        let wanted: String = wanted.bytes().map(char::from).collect();
        let wanted: String = wanted.split_whitespace().collect();
        assert!(flat.contains(&wanted), "{setting} {columns}: {said}");
        if setting.contains("dumb") {
            assert!(!said.contains('\u{1b}'), "{said:?}");
        }
        assert_modes_are_back(&mut session);
        leave(session);
    }
}
