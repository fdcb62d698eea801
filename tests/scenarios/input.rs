//! Bad input: a clear error, the right exit code, nothing changed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User, kubeconfig_yaml};
use crate::common::run::{Cli, Home, Output, SOON};
use crate::common::world::{assert_same, world};

fn at<'a>(command: Cli<'a>, deployment: &str) -> Cli<'a> {
    command.flag("--deployment", deployment)
}

/// A name that is neither recorded nor in the cluster is refused, and the one that was meant is named.
pub fn mistyped_deployment(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let typo = format!("{}x", scene.deployment);
    let said = format!("no deployment {typo}");
    for command in [scene.status(), scene.teardown(), scene.teardown().arg("--dry-run")] {
        let _ = refused(bed, &scene.home, &at(command, &typo), 3).says("OR0208").says(&said).says("none");
    }
    scene.set_up();
    let meant = format!("did you mean --deployment {}?", scene.deployment);
    for command in [scene.status(), scene.teardown(), scene.teardown().arg("--dry-run")] {
        let _ = at(command, &typo).run().code(3).says("OR0208").says(&said).says(&meant);
    }
    at(scene.status(), &typo).fails("OR0208");
    let _ = at(scene.teardown().arg("--ignore-not-found"), &typo).run().code(0).says("Nothing to remove");
    let _ = scene.status().run().code(0);
    let _ = scene.teardown().run().code(0);
    // What was taken away is no deployment either.
    let _ = scene.teardown().run().code(3).says("OR0208");
    let _ = scene.teardown().arg("--ignore-not-found").run().code(0);
}

/// Without a terminal, only a flag agrees to the plan: neither a variable nor the lack of a question does.
pub fn consent(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let bare = |command: &str| {
        let command = scene.home.outrigger(command).flag("--deployment", &scene.deployment);
        command.flag("--kubeconfig", scene.kubeconfig())
    };
    let setup = || {
        bare("setup")
            .flag("--gitlab-url", "https://gitlab.example.com")
            .flag("--runner-token-file", scene.home.runner_token())
    };
    let asked = |command: &Cli<'_>, changes: &str| {
        let said = format!("applying {changes} requires confirmation");
        refused(bed, &scene.home, command, 2).says("OR0206").says(&said).says("add --yes")
    };
    setup().fails("OR0206");
    let _ = asked(&setup(), "9 changes").says("Plan");
    let _ = asked(&setup().env("OUTRIGGER_NON_INTERACTIVE", "true"), "9 changes");
    let _ = asked(&setup().args(["-o", "json"]), "9 changes");
    let _ = asked(&bare("create-namespaces"), "2 changes");
    let _ = setup().arg("--dry-run").run().code(0);
    let _ = bare("create-namespaces").arg("--yes").run().code(0);
    let _ = setup().arg("--yes").run().code(0);
    // There is nothing to agree to.
    let _ = setup().run().code(0).says("Nothing to change");
    let _ = bare("teardown").arg("--non-interactive").run().code(2).says("OR0206").says("add --yes");
    let _ = scene.teardown().run().code(0);
}

/// Runs a command that must be refused without touching the cluster or leaving a script.
pub fn refused(bed: &dyn Bed, home: &Home, command: &Cli<'_>, code: i32) -> Output {
    let before = world(bed.admin());
    bed.mark();
    let output = command.run().code(code);
    assert_eq!(listing(&writes(bed)), "", "{output}");
    assert_same("a refused command", &before, &world(bed.admin()));
    let left = std::fs::read_dir(home.state()).into_iter().flatten().flatten();
    for entry in left {
        let script = entry.path().join("launch.sh");
        assert!(!script.exists(), "a refused command left {}", script.display());
    }
    output
}

pub fn nothing_given(bed: &dyn Bed) {
    let home = Home::new();
    let setup = home.outrigger("setup").arg("--non-interactive");
    setup.fails("OR0201");
    let output = refused(bed, &home, &setup, 2);
    // All of them at once, with every way to give them.
    let _ = output.says("--kubeconfig").says("--gitlab-url").says("--runner-token-file").says("OUTRIGGER_");
}

/// What is invalid and what is missing is told at once, in text and as JSON.
pub fn invalid_and_missing(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let bare = |command: &str| {
        let command = scene.home.outrigger(command).flag("--deployment", &scene.deployment);
        command.arg("--non-interactive").flag("--kubeconfig", scene.kubeconfig())
    };
    let wrong = ["--namespace", "a_b", "--tags", "one,", "--exit-code"];
    let setup = || bare("setup").args(wrong);
    setup().fails("OR0202");
    let output = refused(bed, &scene.home, &setup(), 2).says("3 invalid values, 3 missing values");
    let _ = output
        .says("needs --dry-run")
        .says("--gitlab-url")
        .says("GITLAB_TOKEN")
        .says("missing, such as platform/hello");
    let json = refused(bed, &scene.home, &setup().args(["-o", "json"]), 2).stdout();
    let error = json.lines().find(|line| line.contains(r#""type":"error""#)).expect("an error");
    for (problem, number) in [("invalid", 3), ("missing", 3)] {
        let found = error.matches(&format!(r#""problem":"{problem}""#)).count();
        assert_eq!(found, number, "{problem}: {error}");
    }
    // With an unknown step it is not known what is missing.
    let only = setup().args(["--only", "create-rol", "--skip", "nothing"]);
    let output = refused(bed, &scene.home, &only, 2).says("5 invalid values").never_says("missing");
    let _ = output.says("did you mean create-role?").says("steps are preflight, ");
    // The step for which nothing of GitLab is missing.
    let role = bare("create-role").args(["--namespace", "a_b"]);
    let _ = refused(bed, &scene.home, &role, 2).says("1 invalid value").never_says("missing");
    // What only the launch script needs is told with the rest, before anything is connected.
    let cache = setup().args(["--cache-type", "azure"]);
    let output = refused(bed, &scene.home, &cache, 2).says("3 invalid values, 5 missing values");
    let _ = output.says("--cache-bucket NAME").says("--cache-account NAME").never_says("connecting");
    let nowhere = scene.home.outrigger("setup").arg("--non-interactive").args(wrong);
    let output = refused(bed, &scene.home, &nowhere.args(["--gitlab-url", "https://gitlab.example.com"]), 2);
    let _ = output.says("3 invalid values, 3 missing values").says("missing, no kubeconfig found");
    // An invalid value is no missing one.
    let url = bare("create-runner").args(["--gitlab-url", "ftp://x"]);
    let _ = refused(bed, &scene.home, &url, 2).says("1 invalid value, 2 missing values");
}

pub fn no_kubeconfig(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let absent = scene.home.path().join("absent.kubeconfig");
    let command = scene.setup().flag("--kubeconfig", &absent);
    let _ = refused(bed, &scene.home, &command, 3).says("absent.kubeconfig");
    let folder = scene.setup().flag("--kubeconfig", scene.home.path());
    refused(bed, &scene.home, &folder, 3);
    let garbage = scene.home.input("garbage", "]:[ this is not YAML\n\t{");
    let _ = refused(bed, &scene.home, &scene.setup().flag("--kubeconfig", garbage), 3).says("garbage");
}

pub fn missing_member(bed: &dyn Bed) {
    // As kubectl does: a member of the list that is not there is skipped.
    let scene = Scene::new(bed, User::Admin);
    let absent = scene.home.path().join("absent.kubeconfig");
    let mut list = absent.into_os_string();
    list.push(":");
    list.push(scene.kubeconfig());
    let before = world(bed.admin());
    let command = scene
        .home
        .outrigger("setup")
        .args(["--non-interactive", "--deployment", &scene.deployment])
        .args(["--gitlab-url", "https://gitlab.example.com", "--dry-run"])
        .flag("--runner-token-file", scene.home.runner_token())
        .env("KUBECONFIG", list);
    command.run().code(0);
    assert_same("a dry run", &before, &world(bed.admin()));
}

pub fn unknown_context(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let command = scene.setup().flag("--context", "staging");
    command.fails("OR0301");
    let _ = refused(bed, &scene.home, &command, 3).says("staging");
}

/// A setup with a kubeconfig whose server is `url`.
pub fn with_server<'a>(scene: &'a Scene<'a>, url: &str) -> Cli<'a> {
    let yaml = kubeconfig_yaml("odd", url, &scene.bed.ca_pem(), "somebody", "canary-token-of-somebody");
    let path = scene.home.kubeconfig("odd.kubeconfig", &yaml);
    scene.setup().flag("--kubeconfig", path)
}

pub fn plain_http(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let address = bed.url().trim_start_matches("https://").to_owned();
    let http = format!("http://{address}");
    let _ = refused(bed, &scene.home, &with_server(&scene, &http), 3).says("http://");
    refused(bed, &scene.home, &with_server(&scene, &address), 3);
}

pub fn unreachable(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // Port 1 is nobody's: the connection is refused at once.
    let setup = with_server(&scene, "https://127.0.0.1:1").flag("--timeout", "3s");
    let _ = setup.fails("OR0302").says("127.0.0.1:1");
}

/// A listener whose connections are kept or dropped, never answered; it ends with the test.
pub fn mute_server(keep: bool) -> String {
    counting_mute_server(keep).0
}

/// The same, with the number of connections that came in.
pub fn counting_mute_server(keep: bool) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in listener.incoming().flatten() {
            seen.fetch_add(1, Ordering::Release);
            if keep {
                kept.push(connection);
            }
        }
    });
    (format!("https://{address}"), count)
}

pub fn hangs(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let url = mute_server(true);
    let command = with_server(&scene, &url).flag("--timeout", "2s");
    let output = refused(bed, &scene.home, &command, 8);
    assert!(output.took < SOON, "the deadline is kept\n{output}");
    let _ = output.says(url.trim_start_matches("https://"));
    // What is waited for is said before there is any answer; this one ends only when it is killed.
    for format in [&[][..], &["-o", "json"]] {
        let command = with_server(&scene, &url).args(["--timeout", "10m", "--request-timeout", "10m"]);
        let command = command.args(format.iter().copied());
        let mut running = command.start();
        while !running.has_said(&format!("connecting to {url}")) {
            assert!(!running.poll(), "it ended\n{}", running.wait());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = running.kill();
    }
}

pub fn hangs_up(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let url = mute_server(false);
    let command = with_server(&scene, &url).flag("--timeout", "2s");
    let output = command.run();
    // Tried again until the deadline, or given up at once: both are true to what happened.
    assert!(matches!(output.code, Some(3 | 8)), "{output}");
    let _ = output.says(url.trim_start_matches("https://"));
}

pub fn bad_names(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let long = "a".repeat(64);
    for name in ["Upper", "under_score", "-dash", "", "kube-system", "default", "a b", "$(reboot)", &long] {
        let output = scene.setup().flag("--deployment", name).run();
        assert!(matches!(output.code, Some(2 | 3)), "{name:?} is refused\n{output}");
    }
    let hostile = scene.setup().flag("--deployment", "a\u{1b}[31mred").run();
    assert!(matches!(hostile.code, Some(2 | 3)), "{hostile}");
    assert!(!hostile.stderr.contains(&0x1b), "control characters are not passed on");
    let same = scene.setup().flag("--namespace", "same-place").flag("--runner-namespace", "same-place").run();
    assert!(matches!(same.code, Some(2 | 3)), "equal namespaces are refused\n{same}");
    // Whatever else is wrong is said with the deployment's name, not one by one.
    let all = scene.setup().flag("--deployment", "Upper").flag("--namespace", "a_b").flag("--timeout", "5x");
    let output = refused(bed, &scene.home, &all, 2).says("3 invalid values").says("--deployment");
    let _ = output.says("--namespace").says("--timeout");
    let command = scene.setup().arg("--no-such-flag");
    refused(bed, &scene.home, &command, 2);
}

/// What is refused for the settings alone, and for what is not there.
pub fn refused_settings(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let file = scene.home.input("odd.yaml", "noSuchKey: 1\n");
    let command = scene.setup().flag("--config", file);
    command.fails("OR0203");
    let _ = refused(bed, &scene.home, &command, 2).says("noSuchKey");
    let missing = format!("{}-missing", scene.deployment);
    let command =
        scene.setup().flag("--use-namespace", missing.as_str()).flag("--namespace", missing.as_str());
    command.fails("OR0322");
    let _ = refused(bed, &scene.home, &command, 3).says(&missing);
    let command = scene.teardown().arg("--cluster-gone");
    command.fails("OR0207");
    let _ = refused(bed, &scene.home, &command, 3).says("list");
    // A script in a git work tree could be committed.
    let tree = scene.home.path().join("in/tree");
    std::fs::create_dir_all(tree.join(".git")).expect("a work tree");
    let command = scene.setup().flag("--state-dir", tree.join("state"));
    let output = command.fails("OR0707").says("--script");
    assert!(!tree.join("state").join(&scene.deployment).exists(), "{output}");
}

pub fn bad_runner_token(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    for (name, text) in [
        ("two-lines", "glrt-canary-two\nlines-of-it\n"),
        ("empty", "\n"),
        ("control", "glrt-canary-\u{7}bell\n"),
    ] {
        let path = scene.home.input(name, text);
        let output = scene.setup().flag("--runner-token-file", path).run();
        assert!(matches!(output.code, Some(2 | 3)), "{name}: refused\n{output}");
        let _ = output.never_says("glrt-canary");
    }
    let absent = scene.home.path().join("absent-token");
    let output = scene.setup().flag("--runner-token-file", absent).run();
    assert!(matches!(output.code, Some(2 | 3)), "{output}");
    let _ = output.says("absent-token");
}

/// Puts something in the place of a file, and says what must not have become of it.
type Obstacle = (&'static str, fn(&Path), fn(&Path) -> bool);

const OBSTACLES: &[Obstacle] = &[
    (
        "a link to a file",
        |path| {
            fs::write(path.with_extension("target"), "theirs").expect("a folder of ours");
            std::os::unix::fs::symlink(path.with_extension("target"), path).expect("a folder of ours");
        },
        |path| {
            path.is_symlink() && fs::read(path.with_extension("target")).is_ok_and(|bytes| bytes == b"theirs")
        },
    ),
    (
        "a link to nothing",
        |path| std::os::unix::fs::symlink("/nonexistent/target", path).expect("a folder of ours"),
        Path::is_symlink,
    ),
    ("a directory", |path| fs::create_dir(path).expect("a folder of ours"), Path::is_dir),
    (
        "a FIFO",
        |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        },
        |path| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()),
    ),
    (
        "a second name of a file",
        |path| {
            fs::write(path.with_extension("target"), "theirs").expect("a folder of ours");
            fs::hard_link(path.with_extension("target"), path).expect("a folder of ours");
        },
        |path| fs::read(path).is_ok_and(|bytes| bytes == b"theirs"),
    ),
];

pub fn odd_outputs(bed: &dyn Bed) {
    for (what, put, untouched) in OBSTACLES {
        let scene = Scene::new(bed, User::Admin);
        let path = scene.home.path().join("script.sh");
        put(&path);
        let output = refused(bed, &scene.home, &scene.setup().flag("--script", &path), 7);
        let _ = output.says("OR0702").says("script.sh");
        assert!(untouched(&path), "{what} is no longer what it was");
    }
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let standing = world(bed.admin());
    let script = scene.home.script(&scene.deployment);
    fs::remove_file(&script).expect("setup wrote it");
    for (number, (what, put, untouched)) in OBSTACLES.iter().enumerate() {
        let path = scene.home.path().join(format!("receipt-{number}.txt"));
        put(&path);
        let _ = scene.teardown().flag("--receipt", &path).run().code(7).says("OR0702");
        assert!(untouched(&path), "{what} is no longer what it was");
        // What took the script's place since would not be removed in its stead.
        put(&script);
        let _ = scene.teardown().arg("--dry-run").run().code(0).says("it is not this deployment's");
        assert!(untouched(&script), "{what} is no longer what it was");
        let away = script.with_extension(format!("away-{number}"));
        fs::rename(&script, away).expect("a folder of ours");
        let _ = fs::remove_file(script.with_extension("target"));
    }
    assert_same("teardowns that cannot write their receipt", &standing, &world(bed.admin()));
    fs::create_dir(&script).expect("a folder of ours");
    let _ = scene.teardown().run().code(0).says("it is not this deployment's");
    assert!(script.is_dir());

    // Somebody's own script at that place.
    let scene = Scene::new(bed, User::Admin);
    let path = scene.home.path().join("precious.sh");
    fs::write(&path, "#!/bin/sh\n# mine\n").expect("a folder of ours");
    scene.setup().flag("--script", &path).fails("OR0702");
    let _ = refused(bed, &scene.home, &scene.setup().flag("--script", &path), 7).says("precious.sh");
    assert_eq!(fs::read_to_string(&path).expect("it stays"), "#!/bin/sh\n# mine\n");
}

pub fn odd_state(bed: &dyn Bed) {
    for (what, put, untouched) in OBSTACLES {
        for name in ["lock", "json"] {
            let scene = Scene::new(bed, User::Admin);
            fs::create_dir_all(scene.home.state()).expect("a home of ours");
            let path = scene.home.state().join(format!("{}.{name}", scene.deployment));
            put(&path);
            let before = world(bed.admin());
            bed.mark();
            let output = scene.setup().run();
            assert!(matches!(output.code, Some(3 | 7)), "{what} as the {name}\n{output}");
            assert_eq!(listing(&writes(bed)), "", "{output}");
            assert_same("a refused command", &before, &world(bed.admin()));
            assert!(untouched(&path), "{what} is no longer what it was");
        }
    }
}

pub fn teardown_wants_yes(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let before = world(bed.admin());
    let _ = scene.command("teardown").run().code(2).says("--yes");
    assert_same("teardown without consent", &before, &world(bed.admin()));
    assert!(scene.home.script(&scene.deployment).is_file());
}

/// The most usual mistakes: a token in place of its file, in a URL, as a stray argument. It is refused before
/// anything is asked for, and shown by nothing.
pub fn tokens_in_the_wrong_place(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    // Others see the arguments of a process: that cannot be taken back, and the message says so.
    let token = |kind: &str| {
        let token = format!("{kind}canary-Xq7Lw2Rz9Kp4Tn6V");
        scene.home.canary(&token);
        token
    };
    let (pat, runner) = (token("glpat-"), token("glrt-t1_"));
    let (old, custom, job) = (token("GR1348941"), token("acme-glpat-"), token("glcbt-64_"));
    let web = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJjYW5hcnkifQ.Xq7Lw2Rz9Kp4Tn6V".to_owned();
    scene.home.canary(&web);
    let password = "canary/pass@word";
    scene.home.canary("canary/pass");
    let setup = || scene.setup().unwatched();
    let no_file = "is a token, not a file";
    let mut wrong: Vec<(Cli<'_>, &str)> = vec![
        (setup().flag("--gitlab-token-file", &pat), no_file),
        (setup().flag("--gitlab-token-file", &custom), no_file),
        (setup().flag("--gitlab-token-file", &web), no_file),
        (setup().flag("--runner-token-file", &runner), no_file),
        (setup().flag("--legacy-registration-token-file", &old), no_file),
        (setup().flag("--config", &pat), no_file),
        (setup().flag("--receipt", &pat), "unexpected argument"),
        (setup().env("OUTRIGGER_GITLAB_TOKEN_FILE", &pat), no_file),
        (
            setup().flag("--gitlab-url", format!("https://oauth2:{pat}@gitlab.example.com")),
            "contains a token",
        ),
        (setup().flag("--gitlab-url", format!("https://me:{password}@gitlab.example.com")), "invalid"),
        (setup().flag("--gitlab-url", format!("me:{password}@gitlab.example.com")), "invalid"),
        (setup().flag("--kubernetes-host", format!("https://{job}@10.0.0.1")), "contains a token"),
        (setup().flag("--apt-url", format!("https://me:{pat}@mirror.example.com")), "contains a token"),
        (
            setup().flag("--pipeline-script", format!("curl -H 'PRIVATE-TOKEN: {pat}' https://x")),
            "contains a token",
        ),
        (setup().flag("--tags", &runner), "contains a token"),
        (setup().flag("--project", &pat), "contains a token"),
        (setup().arg(&pat), "unexpected argument"),
        (setup().arg(format!("--token={pat}")), "unexpected argument"),
        (setup().arg(format!("--gitlab-token-fil={pat}")), "unexpected argument"),
        (scene.home.outrigger(&pat).unwatched(), "there is no command"),
        (scene.home.outrigger("explain").unwatched().arg(&pat), "unknown failure id"),
    ];
    let file =
        scene.home.input("settings.yaml", &format!("gitlabTokenFile: {pat}\nrunnerTokenFile: {runner}\n"));
    wrong.push((scene.command("setup").flag("--config", file), no_file));
    let mut without_flag =
        scene.command("setup").unwatched().flag("--runner-token-file", scene.home.runner_token());
    without_flag = without_flag.env("GITLAB_URL", format!("https://oauth2:{pat}@gitlab.example.com"));
    wrong.push((without_flag, "GITLAB_URL"));
    for (command, words) in wrong {
        for form in [command.clone(), command.clone().args(["-o", "json"]), command.clone().arg("-vvv")] {
            let output = refused(bed, &scene.home, &form, 2).says(words);
            for secret in ["Xq7Lw2Rz9Kp4Tn6V", "canary/pass", "pass@word"] {
                assert!(!both(&output).contains(secret), "a secret is shown: {words}");
            }
            if words == no_file {
                let _ = output.says("revoke it").says("./NAME");
            }
        }
    }
    // A file that has such a name can be named all the same.
    let odd = scene.home.path().join("glrt-token.secrets");
    fs::copy(scene.home.runner_token(), &odd).expect("a copy");
    let _ = setup().flag("--runner-token-file", "./glrt-token.secrets").arg("--dry-run").run().code(0);
}

fn both(output: &Output) -> String {
    output.stdout() + &output.stderr()
}
