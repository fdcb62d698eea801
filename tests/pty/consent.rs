//! What agrees to a change, and what does not.

use std::fs;

use rexpect::session::PtySession;

use super::desk::*;

#[test]
fn no_is_the_default_and_changes_nothing() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let objects = desk.cluster.objects().len();
    session
        .send_line(&format!(
            "{} setup --gitlab-url https://gitlab.example.com --runner-token-file {}; echo \"ended $?\"",
            outrigger(),
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
        outrigger(),
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
    let outrigger = outrigger();
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
            outrigger(),
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

    let teardown = format!("{} teardown; echo \"ended $?\"", outrigger());
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

/// What generators keep in the namespaces is shown, and goes with them on a yes; no is the default.
#[test]
fn generated_objects_are_asked_about() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let outrigger = outrigger();
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
