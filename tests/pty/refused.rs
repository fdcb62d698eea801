//! A given value that is refused is replaced by the answer, in this run, in what is printed and in the record.

use std::fs;

use outrigger_doubles::gitlab::FakeGitlab;
use rexpect::session::PtySession;

use super::desk::*;

/// The questions behind the token, and good answers.
fn rest() -> Vec<Answer<'static>> {
    vec![
        ("your role", "\r"),
        ("Where the machine", "ec2\r"),
        ("for the runner's", "\r"),
        ("an answer to", "\r"),
        ("Apply these", "y\r"),
    ]
}

/// A project, and what comes behind it.
fn from_project() -> Vec<Answer<'static>> {
    [vec![("Number, or another one", "acme/shop\r")], rest()].concat()
}

/// `setup` with these flags, of a runner that is created.
fn begin(session: &mut PtySession, gitlab: &FakeGitlab, flags: &str) {
    run(session, &format!("setup --deployment blue --gitlab-url {} {flags}", gitlab.url()));
    answer(session, [("2) use", "\r")]);
}

fn record(desk: &Desk) -> String {
    fs::read_to_string(desk.path(".local/state/outrigger/blue.json")).expect("a record")
}

#[test]
fn a_typed_token_replaces_a_refused_file() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let secret = gitlab.token("maintainer");
    let bad = desk.private("bad-token", "glpat-wrong");
    let mut session = desk.sit_down();
    begin(
        &mut session,
        &gitlab,
        &format!("--gitlab-ca-file {} --gitlab-token-file {bad}", desk.path("ca.pem")),
    );
    // Whoever leaves here goes on without the file.
    answer(&mut session, [("GitLab rejected the token", "\u{3}")]);
    let said = session.exp_string("ended 130").expect("left");
    assert!(!below(&said, "Go on with these answers").contains("bad-token"), "{said}");

    begin(
        &mut session,
        &gitlab,
        &format!("--gitlab-ca-file {} --gitlab-token-file {bad}", desk.path("ca.pem")),
    );
    let typed = format!("{secret}\r");
    answer(&mut session, [("GitLab rejected the token", "\r"), ("Your GitLab access token", &typed)]);
    answer(&mut session, from_project());
    let said = session.exp_string("ended 0").expect("it ends well");
    assert!(!said.contains("bad-token") && !said.contains(&secret), "{said}");
    assert!(!record(&desk).contains("bad-token"), "{}", record(&desk));
    let same = below(&said, "without prompts, with your GitLab access token in GITLAB_TOKEN:");
    let pasted = paste(desk.home.path(), &[("GITLAB_TOKEN", &secret)], &same);
    assert!(pasted.code == Some(0) && pasted.text.contains("Nothing to change"), "{same}\n{}", pasted.text);
    leave(session);
}

/// The settings file still names the refused one: its other values are spelled out.
#[test]
fn a_typed_token_replaces_a_refused_file_of_the_settings_file() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let secret = gitlab.token("maintainer");
    desk.private("bad-token", "glpat-wrong");
    let settings = "gitlabTokenFile: bad-token\ngitlabCaFile: ca.pem\ntags: [one, two]\nimage: debian:13\n";
    let settings = desk.private("settings.yaml", settings);
    let mut session = desk.sit_down();
    begin(&mut session, &gitlab, &format!("--config {settings}"));
    let typed = format!("{secret}\r");
    answer(&mut session, [("GitLab rejected the token", "\r"), ("Your GitLab access token", &typed)]);
    answer(&mut session, [("Number, or another one", "acme/shop\r"), ("your role", "ec2\r")]);
    answer(&mut session, rest()[2..].to_vec());
    let said = session.exp_string("ended 0").expect("it ends well");
    assert!(!said.contains("settings.yaml") && !record(&desk).contains("bad-token"), "{said}");
    let same = below(&said, "without prompts, with your GitLab access token in GITLAB_TOKEN:");
    assert!(same.contains("--tags one,two") && same.contains("--image debian:13"), "{same}");
    let pasted = paste(desk.home.path(), &[("GITLAB_TOKEN", &secret)], &same);
    assert!(pasted.code == Some(0) && pasted.text.contains("Nothing to change"), "{same}\n{}", pasted.text);
    leave(session);
}

/// A file of certificates that cannot be used is no reason to ask for the token.
#[test]
fn another_ca_file_replaces_an_unusable_one() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let token = desk.private("good-token", &gitlab.token("maintainer"));
    let good = desk.path("ca.pem");
    let no_certificate = desk.private("no-certificate", "hello");
    let mut session = desk.sit_down();
    for bad in [desk.path("no-such-file"), no_certificate] {
        begin(&mut session, &gitlab, &format!("--gitlab-token-file {token} --gitlab-ca-file {bad}"));
        // Without it, the machine's own certificates do not verify this GitLab.
        let typed = format!("{good}\r");
        answer(
            &mut session,
            [("empty to use those of this machine", "\r"), ("empty to change the URL", &typed)],
        );
        answer(&mut session, [("Number, or another one", "\u{4}")]);
        let said = session.exp_string("ended 3").expect("left");
        let so_far = below(&said, "Go on with these answers");
        assert!(so_far.contains(&good) && !so_far.contains(&bad), "{so_far}");
    }
    leave(session);
}

#[test]
fn another_url_replaces_one_that_is_no_gitlab() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let token = desk.private("good-token", &gitlab.token("maintainer"));
    let mut session = desk.sit_down();
    let ca = desk.path("ca.pem");
    let wrong = "https://127.0.0.1:1";
    run(
        &mut session,
        &format!(
            "setup --deployment blue --gitlab-url {wrong} --gitlab-ca-file {ca} --gitlab-token-file {token}"
        ),
    );
    let url = format!("{}\r", gitlab.url());
    answer(
        &mut session,
        [("2) use", "\r"), ("cannot connect to GitLab", &url), ("Number, or another one", "\u{3}")],
    );
    let said = session.exp_string("ended 130").expect("left");
    let so_far = below(&said, "Go on with these answers");
    assert!(so_far.contains(&gitlab.url()) && !so_far.contains(wrong), "{so_far}");
    leave(session);
}

/// The answers about the machine behind a runner that exists.
const TO_THE_PLAN: [Answer<'static>; 4] = [
    ("Where the machine", "ssh\r"),
    ("SSH destination", "\r"),
    ("for the runner's", "\r"),
    ("an answer to", "\r"),
];

#[test]
fn another_runner_token_replaces_a_refused_file() {
    let desk = Desk::new();
    let bad = desk.private("bad-token", "glpat-canary-of-somebody");
    let good = desk.path("token");
    let mut session = desk.sit_down();
    let setup = format!("setup --deployment blue --runner-token-file {bad}");
    run(&mut session, &setup);
    answer(&mut session, [("GitLab URL", "gitlab.example.com\r"), ("personal access token", "\u{3}")]);
    let said = session.exp_string("ended 130").expect("left");
    assert!(!below(&said, "Go on with these answers").contains("--runner-token-file"), "{said}");

    run(&mut session, &setup);
    let typed = format!("{good}\r");
    answer(&mut session, [("GitLab URL", "gitlab.example.com\r"), ("personal access token", &typed)]);
    answer(&mut session, TO_THE_PLAN);
    answer(&mut session, [("Apply these", "y\r")]);
    let said = session.exp_string("ended 0").expect("it ends well");
    let same = below(&said, "Run the same setup without prompts:");
    assert!(same.contains(&format!("--runner-token-file {good}")) && !same.contains(&bad), "{same}");
    let pasted = paste(desk.home.path(), &[], &same);
    assert!(pasted.code == Some(0) && pasted.text.contains("Nothing to change"), "{same}\n{}", pasted.text);
    leave(session);
}

/// A typed token is in no file: the command says that one is needed.
#[test]
fn a_typed_runner_token_is_a_file_in_the_printed_command() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    run(&mut session, "setup --deployment blue --gitlab-url gitlab.example.com");
    let typed = format!("{TOKEN}\r");
    answer(&mut session, [("2) use", "2\r"), ("empty to type it", "\r"), ("authentication token", &typed)]);
    answer(&mut session, TO_THE_PLAN);
    answer(&mut session, [("Apply these", "y\r")]);
    let said = session.exp_string("ended 0").expect("it ends well");
    assert!(!said.contains(TOKEN) && !said.contains("--runner-token-file -"), "{said}");
    let same = below(&said, "with a file of what was read from stdin for PATH:");
    let same = same.replace("PATH", &desk.path("token"));
    let pasted = paste(desk.home.path(), &[], &same);
    assert!(pasted.code == Some(0) && pasted.text.contains("Nothing to change"), "{same}\n{}", pasted.text);
    leave(session);
}
