//! The questions of a first setup, their checks, and the commands printed on the way.

use std::fs;

use outrigger_doubles::gitlab::PROJECT;

use super::desk::*;

#[test]
fn a_first_setup_is_asked_checked_reviewed_and_applied() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let secret = gitlab.token("maintainer");
    fs::create_dir_all(desk.path("repo/.git")).expect("made");
    let config = format!("[remote \"origin\"]\n\turl = {}/{PROJECT}.git\n", gitlab.url());
    fs::write(desk.path("repo/.git/config"), config).expect("written");
    let mut session = desk.sit_down();
    keep_modes(&mut session);
    session.send_line(&format!("cd {}", desk.path("repo"))).expect("sent");
    let command = format!(
        "{} setup --gitlab-ca-file {}; echo \"ended $?\"",
        env!("CARGO_BIN_EXE_outrigger"),
        desk.path("ca.pem")
    );
    session.send_line(&command).expect("sent");
    // All keys edit the hidden answer, too.
    let typed = format!("gl\u{15}x y\u{17}\u{17}{secret}\u{65e5}\u{7f}\r");
    let before = answer(
        &mut session,
        [
            ("Deployment name", "Not Valid\r"),
            ("error: must be lower-case", "\r"),
            ("GitLab URL (from the git remote origin)", "\r"),
            ("2) use", "\r"),
            ("File with your GitLab access token", "/no/such/file\r"),
            ("No such file", "\r"),
            ("Your GitLab access token", "glpat-wrong\r"),
            ("GitLab rejected the token", "\r"),
            ("Your GitLab access token", &typed),
            ("the token is maintainer's; scopes api", "nowhere/to-be-found\r"),
            ("cannot read the project nowhere/to-be-found", "\r"),
            ("your role: Maintainer", "k8s-runner, blue\r"),
            ("Where the machine runs", "ec2\r"),
            ("has an address of this machine", "\r"),
            // Another look at one answer.
            ("an answer to change", "1\r"),
            ("Deployment name", "green\r"),
            ("an answer to change", "\r"),
            ("Apply these", "y\r"),
        ],
    );
    assert!(
        before.contains("from the git remote origin") && before.contains("Amazon EC2  (asked)"),
        "{before}"
    );
    assert!(before.contains("project runner in acme/shop"), "the plan says what is made: {before}");
    let after = session.exp_string("ended 0").expect("it ends well");
    assert!(after.contains("--project acme/shop --tags k8s-runner,blue --target ec2"), "{after}");
    assert!(after.contains("--deployment green"), "{after}");
    assert!(!before.contains(&secret) && !after.contains(&secret), "the token is on the screen");
    assert_eq!(gitlab.runners().len(), 1);
    assert_modes_are_back(&mut session);
    leave(session);
}

/// The command that is printed on leaving goes on where it was left.
#[test]
fn the_printed_command_goes_on_elsewhere() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    session.send_line(&setup()).expect("sent");
    let questions = desk.with_existing_runner();
    let mut answers = pairs(&questions[..4]);
    answers.push(("Where the machine", "\u{3}"));
    answer(&mut session, answers);
    let said = session.exp_string("ended 130").expect("left");
    let command =
        said.lines().map(str::trim).find(|line| line.starts_with("outrigger setup")).expect("a command");
    let command = command.replacen("outrigger", env!("CARGO_BIN_EXE_outrigger"), 1);
    session.send_line(&format!("cd /; {command}; echo \"ended $?\"")).expect("sent");
    answer(&mut session, [("Apply these", "y\r")]);
    session.exp_string("ended 0").expect("it ends well");
    assert!(desk.cluster.objects().keys().any(|key| key.ends_with("/blue-jobs")));
    leave(session);
}
