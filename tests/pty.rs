//! `setup` as somebody at a terminal meets it: asked in a pseudo-terminal, on the doubles.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use outrigger_doubles::cluster::{Action, FakeCluster, Fault, Options, standard_users};
use outrigger_doubles::gitlab::{self, FakeGitlab, PROJECT};
use rexpect::session::{PtySession, spawn_command};

const TOKEN: &str = "glrt-canary-of-the-wizard";

struct Desk {
    cluster: FakeCluster,
    home: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let cluster = FakeCluster::start(Options { users: standard_users(), ..Options::default() });
        let home = tempfile::tempdir().expect("a temporary directory");
        let desk = Self { cluster, home };
        let kubeconfig = desk.cluster.kubeconfig("kubernetes-admin");
        fs::write(desk.path("kubeconfig"), kubeconfig).expect("written");
        fs::write(desk.path("token"), TOKEN).expect("written");
        fs::set_permissions(desk.path("token"), fs::Permissions::from_mode(0o600)).expect("private");
        desk
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// A shell in the terminal, so that its modes can be asked for after outrigger has ended.
    fn sit_down(&self) -> PtySession {
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path()).env("TERM", "xterm");
        shell.env("PS1", "$ ").env("KUBECONFIG", self.path("kubeconfig")).env("LANG", "C.UTF-8");
        spawn_command(shell, Some(120_000)).expect("a shell in a pseudo-terminal")
    }
}

/// Waits for something that another process does.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed().as_secs() < 120, "in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// How a question is answered: with keys, without Enter unless they contain it.
type Answer<'a> = (&'a str, &'a str);

impl Desk {
    /// The questions of a first setup with a runner that exists, by words of each, and good answers.
    fn with_existing_runner(&self) -> Vec<(&'static str, String)> {
        let line = |text: &str| format!("{text}\r");
        vec![
            ("Deployment name", line("blue")),
            ("GitLab URL", line("gitlab.example.com")),
            ("by its authentication", line("2")),
            ("authentication token", line(&self.path("token"))),
            ("Where the machine", line("ssh")),
            ("for the runner's", line("")),
            ("an answer to", line("")),
        ]
    }
}

fn type_in(session: &mut PtySession, keys: &str) {
    session.send(keys).and_then(|_| session.flush()).expect("sent");
}

/// Waits for each question and answers it. Returns all that was on the screen.
fn answer<'a>(session: &mut PtySession, answers: impl IntoIterator<Item = Answer<'a>>) -> String {
    let mut screen = String::new();
    for (words, keys) in answers {
        screen += &session.exp_string(words).unwrap_or_else(|error| panic!("{words}: {error}\n{screen}"));
        // The end of the prompt: before it, a list may still be drawn.
        screen += &session.exp_regex("(: |> |\\] )$").map(|(before, _)| before).expect("the prompt");
        type_in(session, keys);
    }
    screen
}

fn pairs(answers: &[(&'static str, String)]) -> Vec<(&'static str, &'static str)> {
    answers.iter().map(|(words, keys)| (*words, &*keys.clone().leak())).collect()
}

/// Remembers the terminal's modes, whatever they are.
fn keep_modes(session: &mut PtySession) {
    session.send_line("modes=$(stty -g); echo ke\"\"pt").expect("sent");
    session.exp_string("kept").expect("the shell answers");
}

fn assert_modes_are_back(session: &mut PtySession) {
    session.send_line("test \"$(stty -g)\" = \"$modes\" && echo sa\"\"me || echo ot\"\"her").expect("sent");
    let (_, found) = session.exp_regex("same|other").expect("the shell answers");
    assert_eq!(found, "same", "the terminal's modes are not what they were");
}

fn setup() -> String {
    format!("{} setup; echo \"ended $?\"", env!("CARGO_BIN_EXE_outrigger"))
}

fn leave(mut session: PtySession) {
    session.send_line("exit").expect("sent");
    session.exp_eof().expect("the shell ends");
}

#[test]
fn no_is_the_default_and_changes_nothing() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let objects = desk.cluster.objects().len();
    session
        .send_line(&format!(
            "{} setup --gitlab-url https://gitlab.example.com --runner-token-file {}; echo \"ended $?\"",
            env!("CARGO_BIN_EXE_outrigger"),
            desk.path("token")
        ))
        .expect("sent");
    session.exp_string("Apply these").expect("the question");
    session.send_line("").expect("sent");
    let said = session.exp_string("ended 3").expect("not confirmed is a refusal");
    assert!(
        said.contains("Nothing was changed: the plan was not confirmed.") && !said.contains("error"),
        "{said}"
    );
    assert!(said.contains("--gitlab-url https://gitlab.example.com --runner-token-file /"), "{said}");
    assert_eq!(desk.cluster.objects().len(), objects);
    leave(session);
}

/// Stdout may go elsewhere: whoever is at the terminal is asked all the same.
#[test]
fn somebody_at_the_terminal_is_asked_although_stdout_is_a_pipe() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let objects = desk.cluster.objects().len();
    let setup = format!(
        "{} setup --gitlab-url https://gitlab.example.com --runner-token-file {}",
        env!("CARGO_BIN_EXE_outrigger"),
        desk.path("token")
    );
    session.send_line(&format!("{setup} | cat; echo \"went\" on")).expect("sent");
    session.exp_string("Apply these").expect("the question");
    session.send_line("").expect("sent");
    session.exp_string("went on").expect("it ended");
    // Programs read JSON: nobody is asked, and nothing is applied.
    session.send_line(&format!("{setup} -o json; echo \"ended $?\"")).expect("sent");
    session.exp_string("OR0206").expect("refused");
    session.exp_string("ended 2").expect("a usage error");
    assert_eq!(desk.cluster.objects().len(), objects);
    leave(session);
}

/// Nothing is taken away, from the cluster or from here, before the deployment's name is typed.
#[test]
fn teardown_wants_the_name_typed() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let outrigger = env!("CARGO_BIN_EXE_outrigger");
    let run = |session: &mut PtySession, line: &str| {
        session.send_line(&format!("{outrigger} {line}; echo \"ended $?\"")).expect("sent");
    };
    let before = desk.cluster.objects().len();
    let token = desk.path("token");
    run(
        &mut session,
        &format!("setup --yes --gitlab-url https://gitlab.example.com --runner-token-file {token}"),
    );
    session.exp_string("ended 0").expect("set up");
    let standing = desk.cluster.objects();
    let record = desk.home.path().join(".local/state/outrigger/kubernetes-runner.json");
    for command in ["teardown", "teardown --cluster-gone"] {
        run(&mut session, command);
        session.exp_string("to confirm").expect("the question");
        session.send_line("kubernetes").expect("sent");
        session.exp_string("ended 3").expect("another name is no consent");
        assert_eq!(desk.cluster.objects(), standing, "{command}");
        assert!(record.exists(), "{command}");
    }
    run(&mut session, "teardown");
    let shown = session.exp_string("to confirm").expect("what will go, then the question");
    assert!(shown.contains("Namespace kubernetes-runner-jobs") && shown.contains("Secret "), "{shown}");
    session.send_line("kubernetes-runner").expect("sent");
    session.exp_string("ended 0").expect("it is taken away");
    assert!(!record.exists());
    leave(session);
    // The double empties a namespace within milliseconds, but not within the request.
    until("the namespaces are empty", || desk.cluster.objects().len() == before);
}

#[test]
fn one_of_several_contexts_is_chosen_and_a_wrong_name_removes_nothing() {
    let desk = Desk::new();
    let kubeconfig = desk.cluster.kubeconfig("kubernetes-admin");
    // A second context of another name, and none that is current.
    let other = kubeconfig
        .replace("contexts:\n", "contexts:\n- name: acme-prod\n  context: {cluster: other, user: other}\n");
    let none: String = other
        .lines()
        .filter(|line| !line.starts_with("current-context"))
        .fold(String::new(), |text, line| text + line + "\n");
    fs::write(desk.path("kubeconfig"), none).expect("written");
    let mut session = desk.sit_down();
    // As narrow as a phone: nothing may hang or panic there.
    session.send_line("stty cols 40").expect("sent");
    session
        .send_line(&format!(
            "{} setup --gitlab-url https://gitlab.example.com --runner-token-file {}; echo \"ended $?\"",
            env!("CARGO_BIN_EXE_outrigger"),
            desk.path("token")
        ))
        .expect("sent");
    session.exp_string("Kubeconfig context").expect("the question");
    answer(
        &mut session,
        [("2) double", "3\r"), ("nothing in the list contains", "DOUB\r"), ("1) double", "1\r")],
    );
    session.exp_string("Apply these").expect("the plan, then the question");
    session.send_line("y").expect("sent");
    session.exp_string("ended 0").expect("it ends well");
    let objects = desk.cluster.objects().len();

    let teardown = format!("{} teardown; echo \"ended $?\"", env!("CARGO_BIN_EXE_outrigger"));
    session.send_line(&teardown).expect("sent");
    session.exp_string("Type the deployment's name").expect("consent is asked for");
    session.send_line("kubernetes-runners").expect("sent");
    session.exp_string("ended 3").expect("another name is no consent");
    assert_eq!(desk.cluster.objects().len(), objects);
    session.send_line(&teardown).expect("sent");
    session.exp_string("Type the deployment's name").expect("consent is asked for");
    session.send_line("kubernetes-runner").expect("sent");
    session.exp_string("ended 0").expect("it ends well");
    assert!(desk.cluster.objects().len() < objects);
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

/// What generators keep in the namespaces is shown, and goes with them on a yes; no is the default.
#[test]
fn generated_objects_are_asked_about() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let outrigger = env!("CARGO_BIN_EXE_outrigger");
    let run = |session: &mut PtySession, line: &str| {
        session.send_line(&format!("{outrigger} {line}; echo \"ended $?\"")).expect("sent");
    };
    let token = desk.path("token");
    run(
        &mut session,
        &format!("setup --yes --gitlab-url https://gitlab.example.com --runner-token-file {token}"),
    );
    session.exp_string("ended 0").expect("set up");
    desk.cluster.put(
        "/apis/networking.k8s.io/v1/namespaces/kubernetes-runner-jobs/networkpolicies",
        serde_json::json!({"metadata": {"name": "default-deny",
            "labels": {"generate.kyverno.io/policy-name": "defaults"}}, "spec": {"podSelector": {}}}),
    );
    let standing = |desk: &Desk| desk.cluster.objects().keys().any(|key| key.ends_with("/default-deny"));
    run(&mut session, "teardown");
    session.exp_string("to confirm").expect("the question");
    session.send_line("kubernetes-runner").expect("sent");
    let shown = session.exp_string("Delete these namespaces together with the objects").expect("asked");
    assert!(!shown.contains("Removed "), "{shown}");
    session.exp_string("networkpolicies/default-deny (by Kyverno)").expect("what it is about");
    session.exp_string("Delete them? [y/N]").expect("the question");
    session.send_line("").expect("sent");
    session.exp_string("ended 5").expect("no is the default");
    assert!(standing(&desk));
    run(&mut session, "teardown");
    session.exp_string("to confirm").expect("the question");
    session.send_line("kubernetes-runner").expect("sent");
    session.exp_string("networkpolicies/default-deny (by Kyverno)").expect("what it is about");
    session.exp_string("Delete them? [y/N]").expect("the question");
    session.send_line("y").expect("sent");
    session.exp_string("ended 0").expect("it ends well");
    assert!(!standing(&desk));
    leave(session);
}

#[test]
fn a_first_setup_is_asked_checked_reviewed_and_applied() {
    let desk = Desk::new();
    let gitlab = FakeGitlab::start(gitlab::Options::default());
    let secret = gitlab.token("maintainer");
    fs::write(desk.path("ca.pem"), gitlab.ca_pem()).expect("written");
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
