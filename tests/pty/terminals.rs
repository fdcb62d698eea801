//! Pastes, narrow and plain terminals, and terminals that change their size.

use std::fs;
use std::process::Command;
use std::time::Duration;

use outrigger_doubles::cluster::{Action, Fault};
use outrigger_doubles::gitlab::FakeGitlab;

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
        let words =
            ["Deployment", "GitLab", "existing|2)", "File", "nocloud", "destination", "Enter", "Enter"];
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
        answer(&mut session, pairs(&answers[4..7]));
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

/// The questions about a new runner, with good answers without Enter.
fn new_runner(gitlab: &FakeGitlab) -> Vec<(&'static str, String)> {
    let answers = [
        ("GitLab URL", gitlab.url()),
        ("2) use", "1".to_owned()),
        ("File with your GitLab", String::new()),
        ("Your GitLab access token", gitlab.token("maintainer")),
        ("Number, or another one", "acme/shop".to_owned()),
        ("your role", "one,two".to_owned()),
        ("Where the machine", "ec2".to_owned()),
        ("for the runner's", "https://api.example.com:6443".to_owned()),
        ("an answer to", String::new()),
    ];
    answers.into()
}

/// At every kind of prompt, with the marks of a paste and without them.
#[test]
fn a_paste_with_line_breaks_answers_no_second_question() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let objects = desk.cluster.objects().len();
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    let pasted = |text: &str| format!("\u{1b}[200~{text}\revil\r\ny\ry\r\u{1b}[201~");
    for marks in [true, false] {
        run(&mut session, &format!("setup --deployment blue --gitlab-ca-file {}", desk.path("ca.pem")));
        let mut screen = String::new();
        for (words, text) in new_runner(&gitlab) {
            // An empty first line is none: what follows it would be the answer.
            let keys = match (marks, text.is_empty()) {
                (true, false) => format!("{}\r", pasted(&text)),
                (true, true) => "\r".to_owned(),
                (false, _) => format!("{text}\revil\ry\ry\r"),
            };
            screen += &answer(&mut session, [(words, keys.as_str())]);
        }
        let consent = if marks { format!("{}\r", pasted("y")) } else { "\r".to_owned() };
        screen += &answer(&mut session, [("Apply these", consent.as_str())]);
        let said = session.exp_string("ended 3").expect("a paste agrees to nothing");
        let so_far = below(&said, "Go on with these answers:");
        for flag in ["--project acme/shop", "--tags one,two", "--target ec2", "--kubernetes-host https://api"]
        {
            assert!(so_far.contains(flag), "{marks} {flag}: {so_far}");
        }
        assert!(!so_far.contains("evil"), "{so_far}");
        assert!(!screen.contains(&gitlab.token("maintainer")), "{screen}");
        assert_modes_are_back(&mut session);
    }
    assert_eq!((desk.cluster.objects().len(), gitlab.runners().len()), (objects, 0));
    leave(session);
}

/// What takes a typed name or a yes takes no pasted one.
#[test]
fn a_paste_takes_nothing_away() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let token = desk.path("token");
    run(&mut session, &format!("setup --yes --gitlab-url gitlab.example.com --runner-token-file {token}"));
    session.exp_string("ended 0").expect("set up");
    desk.cluster.put(
        "/apis/networking.k8s.io/v1/namespaces/kubernetes-runner-jobs/networkpolicies",
        serde_json::json!({"metadata": {"name": "default-deny",
            "labels": {"generate.kyverno.io/policy-name": "defaults"}}, "spec": {"podSelector": {}}}),
    );
    let standing = desk.cluster.objects();
    let pasted = |text: &str| format!("\u{1b}[200~{text}\r{text}\r\u{1b}[201~\r");
    run(&mut session, "teardown");
    answer(&mut session, [("to confirm", pasted("kubernetes-runner").as_str())]);
    session.exp_string("ended 3").expect("a pasted name is no consent");
    assert_eq!(desk.cluster.objects(), standing);
    run(&mut session, "teardown");
    answer(&mut session, [("to confirm", "kubernetes-runner\r"), ("Delete them?", pasted("y").as_str())]);
    session.exp_string("ended 5").expect("a pasted yes is no consent");
    assert!(desk.cluster.objects().keys().any(|key| key.ends_with("/default-deny")));
    leave(session);
}

/// The whole wizard to the end, in widths and on terminals of all kinds.
#[test]
fn a_setup_goes_through_on_any_terminal() {
    for (setting, columns) in [("", 40), ("TERM=dumb", 60), ("LC_ALL=C", 100), ("TERM=dumb LC_ALL=C", 40)] {
        let desk = Desk::new();
        let gitlab = desk.gitlab();
        let mut session = desk.sit_down();
        session.send_line(&format!("stty cols {columns}")).expect("sent");
        keep_modes(&mut session);
        let ca = desk.path("ca.pem");
        let outrigger = outrigger();
        let line =
            format!("{setting} {outrigger} setup --gitlab-ca-file {ca} --deployment blue; echo \"ended $?\"");
        session.send_line(&line).expect("sent");
        // Words that no width breaks.
        let words = ["GitLab", "2)", "File", "not shown", "another", "role", "ec2", "machine", "Enter"];
        let mut screen = String::new();
        for ((_, text), words) in new_runner(&gitlab).iter().zip(words) {
            screen += &answer(&mut session, [(words, format!("{text}\r").as_str())]);
        }
        screen += &answer(&mut session, [("Apply", "y\r")]);
        screen +=
            &session.exp_string("ended 0").unwrap_or_else(|error| panic!("{setting} {columns}: {error}"));
        let record = fs::read_to_string(desk.path(".local/state/outrigger/blue.json")).expect("a record");
        for value in ["acme/shop", "\"two\"", "\"ec2\"", "https://api.example.com:6443"] {
            assert!(record.contains(value), "{setting} {columns} {value}: {record}");
        }
        assert_eq!(gitlab.runners().len(), 1);
        assert!(!setting.contains("dumb") || !screen.contains('\u{1b}'), "{screen:?}");
        assert!(!setting.contains("LC_ALL=C") || screen.is_ascii(), "{screen:?}");
        assert_modes_are_back(&mut session);
        leave(session);
    }
}

/// What stands on a screen of this width after some output.
fn rows(output: &str, columns: usize) -> Vec<String> {
    // Lines above the first one that is written may be cleared.
    let mut rows = vec![String::new(); 50];
    let (mut row, mut column) = (25, 0);
    let mut rest = output.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                rest.next();
                let mut sequence = String::new();
                for c in rest.by_ref() {
                    sequence.push(c);
                    if c.is_ascii_alphabetic() {
                        break;
                    }
                }
                let count = sequence.trim_end_matches(char::is_alphabetic).parse().unwrap_or(1);
                match sequence.chars().next_back() {
                    Some('A') => row -= count,
                    Some('B') => row += count,
                    Some('K') => rows[row].clear(),
                    _ => {}
                }
            }
            c => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                rows[row].push(c);
                column += 1;
            }
        }
    }
    rows
}

/// While a progress line is drawn, the terminal gets narrower: the line takes more rows from then on, each replaces the
/// one before it, none is left, and the run goes on.
#[test]
fn a_progress_line_is_replaced_on_a_terminal_that_is_resized() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    session.send_line("tty").expect("sent");
    let (_, terminal) = session.exp_regex("/dev/pts/[0-9]+").expect("the terminal's name");
    keep_modes(&mut session);
    desk.cluster.inject(Fault::once("GET", "/version", Action::Late(Duration::from_secs(4))));
    let token = desk.path("token");
    run(&mut session, &format!("setup --gitlab-url gitlab.example.com --runner-token-file {token}"));
    session.exp_string("connecting to").expect("a line of progress");
    session.exp_string("\u{1b}[2K").expect("it is drawn again");
    let resized = Command::new("stty").args(["-F", &terminal, "cols", "30"]).status();
    assert!(resized.expect("stty").success());
    // Those that were on their way.
    for _ in 0..5 {
        session.exp_string("connecting to").expect("it is drawn again");
    }
    session.exp_string("double)").expect("the end of the line");
    let drawn = session.exp_string("\u{1b}[1mkubernetes-runner").expect("the head of the plan");
    assert!(drawn.matches("connecting to").count() > 5, "{drawn:?}");
    // The session takes each byte for a character; that of the spinner is three.
    let drawn: Vec<u8> = drawn.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
    let drawn = String::from_utf8(drawn).expect("UTF-8");
    let left: Vec<String> = rows(&drawn, 30).into_iter().filter(|row| !row.trim().is_empty()).collect();
    assert!(left.is_empty(), "{left:?} is left of {drawn:?}");
    answer(&mut session, [("Apply these", "y\r")]);
    let said = session.exp_string("ended 0").expect("it ends well");
    let (shown, hidden) = (said.matches("\u{1b}[?25h").count(), said.matches("\u{1b}[?25l").count());
    assert!(hidden == 0 || shown > 0, "the cursor stays hidden: {said:?}");
    assert_modes_are_back(&mut session);
    leave(session);
}

/// `NO_COLOR` and `FORCE_COLOR` come before the terminal, also at the questions.
#[test]
fn colour_is_as_the_variables_say() {
    let desk = Desk::new();
    let token = desk.path("token");
    let mut session = desk.sit_down();
    let outrigger = outrigger();
    let setup = format!("{outrigger} setup --gitlab-url gitlab.example.com --runner-token-file {token}");
    for (setting, colours) in
        [("", true), ("NO_COLOR=1", false), ("FORCE_COLOR=0", false), ("FORCE_COLOR=1", true)]
    {
        session.send_line(&format!("{setting} {setup}; echo \"ended $?\"")).expect("sent");
        let mut screen = answer(&mut session, [("Apply these", "n\r")]);
        screen += &session.exp_string("ended 3").expect("not confirmed");
        let coloured = screen
            .split("\u{1b}[")
            .skip(1)
            .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'));
        assert_eq!(coloured, colours, "{setting}: {screen:?}");
    }
    leave(session);
}
