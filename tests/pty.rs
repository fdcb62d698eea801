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

/// Whether whoever reads from the terminal gets each key as it is typed.
fn listens_for_keys(terminal: &str) -> bool {
    let modes = Command::new("stty").args(["-F", terminal, "-a"]).output().expect("stty");
    String::from_utf8_lossy(&modes.stdout).contains("-icanon")
}

fn setup() -> String {
    format!("{} setup; echo \"ended $?\"", env!("CARGO_BIN_EXE_outrigger"))
}

fn leave(mut session: PtySession) {
    session.send_line("exit").expect("sent");
    session.exp_eof().expect("the shell ends");
}

#[test]
fn asked_shown_confirmed_and_done() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    session.send_line(&setup()).expect("sent");
    session.exp_string("GitLab URL").expect("the first question");
    session.send_line("https://gitlab.example.com").expect("sent");
    session.exp_string("GitLab project").expect("the second question");
    session.send_line("").expect("sent");
    session.exp_string("File with the runner's token").expect("the third question");
    session.send_line(&desk.path("token")).expect("sent");
    let before = session.exp_string("Apply these").expect("the plan, then the question");
    assert!(before.contains("Plan"), "no plan before the question: {before}");
    session.send_line("y").expect("sent");
    let after = session.exp_string("ended 0").expect("it ends well");
    assert!(after.contains("--non-interactive"), "the command without questions is named: {after}");
    assert!(!after.contains(TOKEN) && !before.contains(TOKEN), "the token is on the screen");
    leave(session);
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
    session.exp_string("ended 3").expect("not confirmed is a refusal");
    assert_eq!(desk.cluster.objects().len(), objects);
    leave(session);
}

/// Lines that were pasted along with an answer answer no question that agrees to something.
#[test]
fn pasted_lines_do_not_confirm_the_plan() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let objects = desk.cluster.objects().len();
    session.send_line(&setup()).expect("sent");
    session.exp_string("GitLab URL").expect("the first question");
    session.send(&format!("https://gitlab.example.com\r\r{}\ry\ry\r", desk.path("token"))).expect("sent");
    session.flush().expect("flushed");
    session.exp_string("Apply these").expect("the question");
    session.exp_string("[y/N]").expect("the choices");
    session.send_line("").expect("sent");
    session.exp_string("error OR0309").expect("the failure");
    session.exp_string("ended 3").expect("not confirmed is a refusal");
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
fn ctrl_c_at_a_question_ends_with_130_and_leaves_the_terminal_as_it_was() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    // The pseudo-terminal's own modes are what has to come back, whatever they are.
    session.send_line("modes=$(stty -g)").expect("sent");
    session.send_line(&setup()).expect("sent");
    session.exp_string("GitLab URL").expect("the first question");
    session.send_control('c').expect("sent");
    let said = session.exp_string("ended 130").expect("interrupted");
    let (shown, hidden) = (said.matches("\u{1b}[?25h").count(), said.matches("\u{1b}[?25l").count());
    assert!(hidden == 0 || shown > 0, "the cursor stays hidden: {said:?}");
    session.send_line("test \"$(stty -g)\" = \"$modes\" && echo sa\"\"me || echo ot\"\"her").expect("sent");
    let (_, found) = session.exp_regex("same|other").expect("the shell answers");
    assert_eq!(found, "same", "the terminal's modes are not what they were");
    leave(session);
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
    session.send_line("tty").expect("sent");
    let (_, terminal) = session.exp_regex("/dev/pts/[0-9]+").expect("the terminal's name");
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
    session.exp_string("double").expect("the contexts");
    // Keys that are typed before the list listens are taken for text.
    until("the list listens", || listens_for_keys(&terminal));
    session.send("\u{1b}[B").and_then(|_| session.flush()).expect("sent");
    until("the list listens", || listens_for_keys(&terminal));
    session.send("\r").and_then(|_| session.flush()).expect("sent");
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

#[test]
fn a_gitlab_token_is_typed_and_never_shown() {
    let desk = Desk::new();
    let gitlab = FakeGitlab::start(gitlab::Options::default());
    let secret = gitlab.token("maintainer");
    fs::write(desk.path("ca.pem"), gitlab.ca_pem()).expect("written");
    let mut session = desk.sit_down();
    let command = format!(
        "{} setup --gitlab-ca-file {}; echo \"ended $?\"",
        env!("CARGO_BIN_EXE_outrigger"),
        desk.path("ca.pem")
    );
    session.send_line(&command).expect("sent");
    session.exp_string("GitLab URL").expect("the first question");
    session.send_line(&gitlab.url()).expect("sent");
    session.exp_string("GitLab project of the runner").expect("the second question");
    session.send_line(PROJECT).expect("sent");
    session.exp_string("File with your GitLab access token").expect("the third question");
    session.send_line("").expect("sent");
    session.exp_string("Your GitLab access token").expect("the hidden question");
    session.send_line(&secret).expect("sent");
    let before = session.exp_string("Apply these").expect("the plan, then the question");
    assert!(before.contains("project runner in acme/shop"), "the plan says what is made: {before}");
    session.send_line("y").expect("sent");
    let after = session.exp_string("ended 0").expect("it ends well");
    assert!(after.contains("--project acme/shop"), "the command without questions is named: {after}");
    assert!(!before.contains(&secret) && !after.contains(&secret), "the token is on the screen");
    assert_eq!(gitlab.runners().len(), 1);
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
    let shown = session
        .exp_string("Delete these namespaces together with the objects that controllers recreate in them?")
        .expect("asked");
    assert!(!shown.contains("Removed "), "{shown}");
    session.exp_string("networkpolicies/default-deny (by Kyverno)").expect("what it is about");
    session.send_line("").expect("sent");
    session.exp_string("ended 5").expect("no is the default");
    assert!(standing(&desk));
    run(&mut session, "teardown");
    session.exp_string("to confirm").expect("the question");
    session.send_line("kubernetes-runner").expect("sent");
    session.exp_string("networkpolicies/default-deny (by Kyverno)").expect("what it is about");
    session.send_line("y").expect("sent");
    session.exp_string("ended 0").expect("it ends well");
    assert!(!standing(&desk));
    leave(session);
}
