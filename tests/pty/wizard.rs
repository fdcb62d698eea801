//! The questions of a first setup, their checks, and the commands printed on the way.

use std::fs;

use outrigger_doubles::gitlab::{FakeGitlab, PROJECT, ProjectSpec, Role};
use outrigger_doubles::lightsail::{self, FakeLightsail};

use super::desk::*;
use super::ssh_host::SshHost;

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
    let command =
        format!("{} setup --gitlab-ca-file {}; echo \"ended $?\"", outrigger(), desk.path("ca.pem"));
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
    let command = command.replacen("outrigger", outrigger(), 1);
    session.send_line(&format!("cd /; {command}; echo \"ended $?\"")).expect("sent");
    answer(&mut session, [("Apply these", "y\r")]);
    session.exp_string("ended 0").expect("it ends well");
    assert!(desk.cluster.objects().keys().any(|key| key.ends_with("/blue-jobs")));
    leave(session);
}

/// A GitLab whose user has several projects, and a file with that user's token.
fn with_projects(desk: &Desk) -> (FakeGitlab, String) {
    let gitlab = desk.gitlab();
    for path in ["acme/shop-front", "acme/shop-front/deep", "acme/warehouse"] {
        gitlab.add_project(ProjectSpec::new(path));
        gitlab.set_role("maintainer", path, Some(Role::Maintainer));
    }
    let token = desk.private("maintainer", &gitlab.token("maintainer"));
    (gitlab, token)
}

/// The CA is asked for where the machine's own does not do; a part of a name filters the list of projects, and a path
/// that is not in it is taken as it is typed.
#[test]
fn ca_and_project_are_found_by_what_is_typed() {
    let desk = Desk::new();
    let (gitlab, token) = with_projects(&desk);
    let mut session = desk.sit_down();
    run(
        &mut session,
        &format!("setup --deployment blue --gitlab-token-file {token} --gitlab-url {}", gitlab.url()),
    );
    let ca = format!("{}\r", desk.path("ca.pem"));
    answer(
        &mut session,
        [
            ("2) use", "\r"),
            ("empty to change the URL", "/no/such/ca\r"),
            ("No such file", &format!("{}\r", desk.path("token"))),
            ("invalid GitLab CA file", &ca),
        ],
    );
    let all = session.exp_string("Number, or another one").expect("the projects");
    assert!(all.contains("acme/shop") && all.contains("acme/warehouse"), "{all:?}");
    answer(&mut session, [("", "FRONT\r")]);
    session.exp_string("of those listed").expect("the list again");
    let some = session.exp_string("Number, or another one").expect("fewer projects");
    assert!(some.contains("acme/shop-front") && !some.contains("warehouse"), "{some}");
    answer(
        &mut session,
        [("", "acme/shop-front/deep/er\r"), ("cannot read the project", "acme/warehouse\r")],
    );
    answer(&mut session, [("your role", "\u{3}")]);
    let said = session.exp_string("ended 130").expect("left");
    let so_far = below(&said, "Go on with these answers");
    assert!(so_far.contains("--project acme/warehouse"), "{so_far}");
    assert!(so_far.contains(&format!("--gitlab-ca-file {}", desk.path("ca.pem"))), "{so_far}");
    leave(session);
}

/// The runner exists, so GitLab's API is asked about for the pipeline alone.
#[test]
fn an_existing_runner_with_a_pipeline_needs_the_project_too() {
    let desk = Desk::new();
    let (gitlab, token) = with_projects(&desk);
    let mut session = desk.sit_down();
    let ca = desk.path("ca.pem");
    run(
        &mut session,
        &format!("setup --commit-pipeline --gitlab-ca-file {ca} --gitlab-url {}", gitlab.url()),
    );
    let runner = format!("{}\r", desk.path("token"));
    let token = format!("{token}\r");
    let screen = answer(
        &mut session,
        [
            ("Deployment name", "blue\r"),
            ("2) use", "2\r"),
            ("runner authentication token", &runner),
            ("your GitLab access token", &token),
            ("Number, or another one", "acme/shop\r"),
            ("your role", "ssh\r"),
            ("SSH destination", "\r"),
            ("for the runner's", "\r"),
            ("an answer to", "\r"),
            ("Apply these", "n\r"),
        ],
    );
    assert!(screen.contains(".gitlab-ci.yml") && !screen.contains("Tags of the runner"), "{screen}");
    let said = session.exp_string("ended 3").expect("refused");
    let so_far = below(&said, "Go on with these answers");
    assert!(so_far.contains("--project acme/shop") && so_far.contains("--commit-pipeline"), "{so_far}");
    assert_eq!(gitlab.runners().len(), 0);
    assert_eq!(gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), None);
    leave(session);
}

/// The command that is printed after the wizard makes the plan that was confirmed, in a clean environment where nothing
/// is remembered.
#[test]
fn the_equivalent_command_makes_the_same_plan() {
    for creates in [true, false] {
        let desk = Desk::new();
        let gitlab = desk.gitlab();
        let secret = gitlab.token("maintainer");
        let mut session = desk.sit_down();
        run(&mut session, &format!("setup --gitlab-ca-file {}", desk.path("ca.pem")));
        let (url, file) = (format!("{}\r", gitlab.url()), format!("{}\r", desk.path("token")));
        let typed = format!("{secret}\r");
        let mut answers: Vec<Answer<'_>> = vec![("Deployment name", "blue\r"), ("GitLab URL", &url)];
        answers.extend(if creates {
            vec![
                ("2) use", "1\r"),
                ("File with your GitLab", "\r"),
                ("Your GitLab access token", typed.as_str()),
                ("Number, or another one", "acme/shop\r"),
                ("your role", "one,two\r"),
            ]
        } else {
            vec![("2) use", "2\r"), ("runner authentication token", file.as_str())]
        });
        answers.extend([
            ("Where the machine", "ssh\r"),
            ("SSH destination", "\r"),
            ("for the runner's", "\r"),
            ("an answer to", "\r"),
            ("Apply these", "y\r"),
        ]);
        let screen = answer(&mut session, answers);
        let shown = plan(&screen, &[desk.home.path()]);
        let said = session.exp_string("ended 0").expect("it ends well");
        let same = below(&said, "Run the same setup without prompts");
        // On a terminal it would ask for a token.
        let token = if creates { desk.private("maintainer", &secret) } else { String::new() };
        let token = if creates { format!("--gitlab-token-file {token}") } else { token };
        run(&mut session, &format!("teardown --yes --deployment blue {token}"));
        session.exp_string("ended 0").expect("it is taken away");
        until("the namespaces are gone", || !desk.cluster.objects().keys().any(|key| key.ends_with("/blue")));
        leave(session);

        let home = desk.other_home();
        let env: &[(&str, &str)] = if creates { &[("GITLAB_TOKEN", &secret)] } else { &[] };
        let pasted = paste(&home, env, &format!("{same} --dry-run"));
        assert_eq!(pasted.code, Some(0), "{same}\n{}", pasted.text);
        let again = plan(&pasted.text, &[&home, desk.home.path()]);
        assert_eq!(again, shown, "{same}");
    }
}

/// The host is asked for where the script runs over SSH, with the check of `--host`; setup runs the script there.
#[test]
fn a_host_that_is_given_runs_the_script() {
    let desk = Desk::new();
    let host = SshHost::new();
    let mut session = desk.sit_down();
    session.send_line(&format!("PATH={}", host.search_path())).expect("sent");
    run(&mut session, "setup");
    let questions = desk.with_existing_runner();
    answer(&mut session, pairs(&questions[..5]));
    let screen = answer(
        &mut session,
        [
            ("SSH destination of the machine", "-oProxyCommand=x\r"),
            ("error: \"-oProxyCommand=x\" is not [USER@]HOST[:PORT]", "admin@vm test\r"),
            ("error: \"admin@vm test\" is not [USER@]HOST[:PORT]", "vm.test:0\r"),
            ("error: \"vm.test:0\" has a port that is not 1 to 65535", "admin@vm.test:2222\r"),
            ("for the runner's", "\r"),
            ("an answer to", "\r"),
            ("Apply these", "y\r"),
        ],
    );
    let review = screen.rsplit("Review").next().unwrap_or_default();
    assert!(review.contains("SSH host") && review.contains("admin@vm.test:2222  (asked)"), "{review}");
    let shown = plan(&screen, &[desk.home.path()]);
    assert!(shown.contains("run-script + the launch script on admin@vm.test:2222"), "{shown}");
    let said = session.exp_string("ended 0").expect("it ends well");
    assert!(host.read("got.script").contains("outrigger-launch-script"), "{said}");
    assert!(host.read("argv").contains("-l admin -p 2222") && !host.read("argv").contains("Proxy"));
    let same = below(&said, "Run the same setup without prompts");
    assert!(same.contains("--target ssh") && same.contains("--host admin@vm.test:2222"), "{same}");
    let programs = std::path::Path::new(outrigger()).parent().expect("a folder").display();
    let path = format!("{programs}:{}", host.search_path());
    let pasted = paste(desk.home.path(), &[("PATH", &path)], &same);
    assert!(pasted.code == Some(0) && pasted.text.contains("Nothing to change"), "{same}\n{}", pasted.text);
    leave(session);
}

/// A machine can be a VM that setup makes; its region is asked for, and both can be taken back.
#[test]
fn a_new_vm_is_one_of_the_machines() {
    let desk = Desk::new();
    let host = SshHost::new();
    // A new VM has none.
    fs::remove_file(host.path("version")).expect("it was there");
    let lightsail = FakeLightsail::start(lightsail::Options::default());
    let key = lightsail.key("admin");
    let aws = [
        ("AWS_ACCESS_KEY_ID", key.id),
        ("AWS_SECRET_ACCESS_KEY", key.secret),
        ("AWS_ENDPOINT_URL", lightsail.url()),
    ];
    let mut session = desk.sit_down();
    session.send_line(&format!("export PATH={}", host.search_path())).expect("sent");
    for (name, value) in &aws {
        session.send_line(&format!("export {name}={value}")).expect("sent");
    }
    run(&mut session, "setup --accept unreachable-endpoint");
    let questions = desk.with_existing_runner();
    answer(&mut session, pairs(&questions[..4]));
    let region = format!("{}\r", lightsail.region());
    let vm = ("Where the machine", "create-vm\r");
    let taken_back = answer(
        &mut session,
        [
            vm,
            ("AWS region", "nowhere\r"),
            ("is not the name of an AWS region", &region),
            ("for the runner's", "\r"),
            ("an answer to", "7\r"),
            ("Where the machine", "ec2\r"),
            ("an answer to", "7\r"),
        ],
    );
    let page = taken_back.rsplit("Review").next().unwrap_or_default();
    assert!(page.contains("Amazon EC2") && !page.contains("AWS region"), "{page}");
    let screen =
        answer(&mut session, [vm, ("AWS region", &region), ("an answer to", "\r"), ("Apply these", "y\r")]);
    let page = screen.rsplit("Review").next().unwrap_or_default();
    assert!(page.contains("a new VM on Amazon Lightsail  (asked)"), "{page}");
    let shown = plan(&screen, &[desk.home.path()]);
    assert!(shown.contains("create-vm") && shown.contains("USD a month"), "{shown}");
    let said = session.exp_string("ended 0").expect("it ends well");
    assert!(host.read("got.script").contains("outrigger-launch-script"), "{said}");
    let same = below(&said, "Run the same setup without prompts");
    assert!(same.contains(&format!("--create-vm --vm-region {}", lightsail.region())), "{same}");
    assert!(!same.contains("--target"), "{same}");
    let programs = std::path::Path::new(outrigger()).parent().expect("a folder").display();
    let path = format!("{programs}:{}", host.search_path());
    let mut env: Vec<(&str, &str)> = aws.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.push(("PATH", &path));
    let pasted = paste(desk.home.path(), &env, &same);
    assert!(pasted.code == Some(0) && pasted.text.contains("Nothing to change"), "{same}\n{}", pasted.text);
    leave(session);
}

/// Without a host the script is run by hand, also if the host was an answer and is taken back on the review page.
#[test]
fn a_host_is_left_empty_or_taken_back() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let questions = desk.with_existing_runner();
    run(&mut session, "setup");
    answer(&mut session, pairs(&questions[..5]));
    let host = ("SSH destination", "vm.test\r");
    answer(&mut session, [host, ("for the runner's", "\r")]);
    // Another target needs no host, and the one that was answered does not come back with ssh.
    let screen = answer(
        &mut session,
        [
            ("an answer to", "7\r"),
            ("Where the machine", "hetzner\r"),
            ("an answer to", "7\r"),
            ("Where the machine", "ssh\r"),
        ],
    );
    let between = screen.rsplit("Review").next().unwrap_or_default();
    assert!(between.contains("Hetzner") && !between.contains("SSH host"), "{between}");
    answer(&mut session, [host, ("an answer to", "8\r"), ("SSH destination", "\r"), ("an answer to", "\r")]);
    let shown = answer(&mut session, [("Apply these", "y\r")]);
    assert!(!plan(&shown, &[desk.home.path()]).contains("run-script"), "{shown}");
    let said = session.exp_string("ended 0").expect("it ends well");
    let same = below(&said, "Run the same setup without prompts");
    assert!(same.contains("--target ssh") && !same.contains("--host"), "{same}");
    assert!(said.contains("scp "), "the script is brought there by hand: {said}");
    leave(session);
}

/// A given host is no question; neither is one that no step of this run uses.
#[test]
fn a_host_is_asked_for_only_if_a_step_uses_it() {
    let desk = Desk::new();
    let mut session = desk.sit_down();
    let questions = desk.with_existing_runner();
    for (flags, shown) in
        [("--target ssh --skip run-script", None), ("--host vm.test", Some("vm.test  (--host)"))]
    {
        run(&mut session, &format!("setup {flags}"));
        answer(&mut session, pairs(&questions[..4]));
        answer(&mut session, [("for the runner's", "\r")]);
        let screen = answer(&mut session, [("an answer to", "\u{3}")]);
        session.exp_string("ended 130").expect("left");
        assert!(!screen.contains("SSH destination"), "{flags}: {screen}");
        assert!(screen.contains("SSH host") == shown.is_some(), "{flags}: {screen}");
        assert!(shown.is_none_or(|shown| screen.contains(shown)), "{flags}: {screen}");
    }
    // What is given is not overruled by an answer about something else.
    run(&mut session, "setup --host vm.test");
    answer(&mut session, pairs(&questions[..4]));
    answer(
        &mut session,
        [("for the runner's", "\r"), ("an answer to", "7\r"), ("Where the machine", "ec2\r")],
    );
    answer(&mut session, [("cannot be used with --host", "\r"), ("an answer to", "\u{3}")]);
    let said = session.exp_string("ended 130").expect("left");
    let so_far = below(&said, "Go on with these answers");
    assert!(so_far.contains("--host vm.test") && !so_far.contains("ec2"), "{so_far}");
    // It can be taken back.
    run(&mut session, "setup --host vm.test");
    answer(&mut session, pairs(&questions[..4]));
    answer(&mut session, [("for the runner's", "\r"), ("an answer to", "8\r"), ("SSH destination", "\r")]);
    let screen = answer(&mut session, [("an answer to", "\u{3}")]);
    assert!(screen.contains("none: you run the script"), "{screen}");
    let said = session.exp_string("ended 130").expect("left");
    let so_far = below(&said, "Go on with these answers");
    assert!(so_far.contains("--target ssh") && !so_far.contains("--host"), "{so_far}");
    leave(session);
}

/// `status` of a deployment whose runner is in GitLab asks for a token, which no file has. Without one, GitLab is not
/// checked, and that is said.
#[test]
fn status_asks_for_the_token_to_look_at_the_runner_with() {
    let desk = Desk::new();
    let gitlab = desk.gitlab();
    let secret = gitlab.token("maintainer");
    let mut session = desk.sit_down();
    let (url, ca) = (gitlab.url(), desk.path("ca.pem"));
    let setup = format!("setup --yes --gitlab-url {url} --gitlab-ca-file {ca} --project {PROJECT}");
    // In a file, so that the token is not on the screen.
    let file = desk.private("variable", &format!("export GITLAB_TOKEN={secret}"));
    let outrigger = outrigger();
    session.send_line(&format!("(. {file}; {outrigger} {setup}); echo \"ended $?\"")).expect("sent");
    session.exp_string("ended 0").expect("set up");
    let question = "Your GitLab access token; Enter leaves GitLab unchecked";
    for unanswered in ["\r", "\u{4}"] {
        run(&mut session, "status");
        answer(&mut session, [(question, unanswered)]);
        let said = session.exp_string("ended 10").expect("not everything was checked");
        assert!(said.contains("1 part not checked"), "{unanswered:?}: {said}");
        assert!(!said.contains("no contact yet"), "{unanswered:?}: {said}");
    }
    run(&mut session, "status");
    let typed = format!("{secret}\r");
    let mut said = answer(
        &mut session,
        [(question, "glrt-canary-of-somebody\r"), ("it is a runner authentication token", &typed)],
    );
    said += &session.exp_string("ended 10").expect("no machine uses the runner yet");
    assert!(said.contains("no machine has contacted GitLab yet") && !said.contains("not checked"), "{said}");
    assert!(!said.contains(&secret) && !said.contains("glrt-canary"), "{said}");
    run(&mut session, "status");
    answer(&mut session, [(question, "\u{3}")]);
    session.exp_string("ended 130").expect("left");
    leave(session);
}
