//! How the kubeconfig logs in: tokens and plugins that are not as they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Scene;
use super::input::refused;
use crate::common::bed::{Bed, User, tokens_in};
use crate::common::run::{Cli, SOON};
use crate::common::world::{assert_same, world};

/// Something that must not be shown although a plugin prints it.
const LEAK: &str = "canary-printed-by-a-plugin-8Jd2";

/// The administrator's kubeconfig, changed.
fn changed(scene: &Scene<'_>, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut config: Value = serde_yaml::from_str(&scene.bed.kubeconfig(User::Admin)).expect("it parses");
    change(&mut config);
    let yaml = serde_yaml::to_string(&config).expect("it is plain data");
    scene.home.canary(&token(scene));
    scene.home.input("changed.kubeconfig", &yaml)
}

fn token(scene: &Scene<'_>) -> String {
    tokens_in(&scene.bed.kubeconfig(User::Admin)).pop().expect("the administrator has a token")
}

/// A kubeconfig that logs in through a shell script.
fn with_plugin(scene: &Scene<'_>, script: &str) -> PathBuf {
    let plugin = scene.home.input("plugin", &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o700)).expect("a file of ours");
    changed(scene, |config| {
        config["users"][0]["user"] = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "IfAvailable",
            "args": ["--for", "cluster"], "env": [{"name": "PLUGIN_SECRET", "value": LEAK}],
            "installHint": "get it from https://plugins.example.com"}});
    })
}

fn loud<'a>(scene: &'a Scene<'a>, kubeconfig: &std::path::Path) -> Cli<'a> {
    scene.setup().flag("--kubeconfig", kubeconfig).args(["-v", "-v", "-v"]).env("RUST_LOG", "trace")
}

pub fn plugin_gets_nothing_of_ours(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let seen = scene.home.path().join("in/seen");
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token(&scene)}});
    let kubeconfig = with_plugin(
        &scene,
        &format!("{{ env; echo stdin; cat; }} >>'{}'\nprintf '%s' '{credential}'", seen.display()),
    );
    // A step that has nothing to do with GitLab, whose token is there for others.
    let command = scene
        .command("create-namespaces")
        .flag("--kubeconfig", &kubeconfig)
        .arg("--dry-run")
        .env("GITLAB_TOKEN", "of-the-operator")
        .env("GITLAB_HOST", "gitlab.example.com")
        .env("OUTRIGGER_NAMESPACE", "of-the-operator")
        .env("KEPT", "yes");
    let output = command.run().code(0);
    let seen = fs::read_to_string(seen).expect("the plugin was run");
    assert!(seen.contains("KEPT=yes\n") && seen.contains(&format!("PLUGIN_SECRET={LEAK}\n")), "{seen}");
    for line in seen.lines() {
        assert!(!line.starts_with("GITLAB_") && !line.starts_with("OUTRIGGER_"), "{line}\n{output}");
    }
    assert!(seen.ends_with("stdin\n"), "nothing comes in: {seen}");
    assert!(seen.contains(r#""interactive":false"#), "{seen}");
    let plugin = scene.home.path().join("in/plugin").display().to_string();
    let preflight = scene.command("preflight").flag("--kubeconfig", &kubeconfig).run();
    let _ = preflight.code(0).says(&plugin);
}

/// Nor can it fetch what it does not get: from its parent's environment or memory, or out of a core.
pub fn plugin_cannot_read_its_parent(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let seen = scene.home.path().join("in/seen");
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token(&scene)}});
    let look = "for file in environ maps fd/0; do \
        if head -c 1 /proc/$PPID/$file >/dev/null 2>&1; then echo \"$file can be read\"; fi; done; \
        grep core /proc/self/limits";
    let kubeconfig =
        with_plugin(&scene, &format!("{{ {look}; }} >>'{}'\nprintf '%s' '{credential}'", seen.display()));
    let command = scene
        .command("create-namespaces")
        .flag("--kubeconfig", &kubeconfig)
        .arg("--dry-run")
        .env("GITLAB_TOKEN", "of-the-operator");
    // Root reads everything, unless it has no more capabilities than other users.
    let output = command.without_capabilities().run().code(0);
    let seen = fs::read_to_string(seen).expect("the plugin was run");
    assert!(!seen.contains("can be read"), "{seen}\n{output}");
    let limits = seen.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    let zeros = limits.split_whitespace().filter(|word| *word == "0").count();
    assert_eq!(zeros, 2, "{limits}");
}

pub fn plugin_that_fails(bed: &dyn Bed) {
    for script in [
        format!("echo {LEAK}; echo {LEAK} >&2; exit 1"),
        format!("echo {LEAK}"),
        format!("printf '{{\"apiVersion\":\"v1\",\"kind\":\"{LEAK}\"}}'"),
        format!("echo {LEAK} >&2; kill -9 $$"),
    ] {
        let scene = Scene::new(bed, User::Admin);
        scene.home.canary(LEAK);
        let kubeconfig = with_plugin(&scene, &script);
        // The plugin's own environment has it from the kubeconfig: only what is shown is looked at.
        let output = loud(&scene, &kubeconfig).unwatched().run().code(4);
        let _ = output.says("OR0404").says("in/plugin").never_says(LEAK);
    }
    let scene = Scene::new(bed, User::Admin);
    let kubeconfig = with_plugin(&scene, "echo no session >&2; exit 1");
    scene.setup().flag("--kubeconfig", &kubeconfig).unwatched().fails("OR0404");
    let kubeconfig = with_plugin(&scene, "");
    fs::remove_file(scene.home.path().join("in/plugin")).expect("it was there");
    let _ = refused(bed, &scene.home, &loud(&scene, &kubeconfig), 4).says("https://plugins.example.com");
}

pub fn plugin_that_hangs(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let pid = scene.home.path().join("in/pid");
    let kubeconfig = with_plugin(&scene, &format!("echo $$ >'{}'\nexec sleep 300", pid.display()));
    let output = loud(&scene, &kubeconfig).unwatched().flag("--timeout", "10s").run();
    let pid = fs::read_to_string(pid).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
    let _ = kill_process(pid.expect("the plugin was run"), Signal::KILL);
    let output = output.code(8).says("OR0404").says("in/plugin");
    assert!(output.took < SOON, "the deadline is kept\n{output}");
}

/// A token that no header can carry ends no process, and a key that cannot be used is named, whichever way
/// they come.
pub fn plugin_with_odd_credentials(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let answer = |status: &Value| json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status});
    let print = |status: Value| format!("cat <<'END'\n{}\nEND", answer(&status));
    let key = include_str!("../data/kubectl/p521.key");
    let certificate = include_str!("../data/kubectl/p521.crt");
    for (status, words) in [
        (json!({"token": format!("{LEAK}\n")}), "header"),
        (
            json!({"token": format!("{LEAK}\r\nX-Evil: yes"), "expirationTimestamp": "2099-01-01T00:00:00Z"}),
            "header",
        ),
        (json!({"clientCertificateData": certificate, "clientKeyData": key}), "P-521"),
        (json!({"token": ""}), "neither a token nor a client certificate"),
    ] {
        let kubeconfig = with_plugin(&scene, &print(status));
        let _ =
            refused(bed, &scene.home, &loud(&scene, &kubeconfig).unwatched(), 4).says("OR0404").says(words);
    }
    let encoded = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let kubeconfig = changed(&scene, |config| {
        config["users"][0]["user"] =
            json!({"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)});
    });
    let _ = refused(bed, &scene.home, &loud(&scene, &kubeconfig), 3).says("OR0301").says("P-521");
    // A login that is about to end is made anew, and one that lasts is made once.
    for (ends, runs) in [("2099-01-01T00:00:00Z", 1), ("2020-01-01T00:00:00Z", 2)] {
        let count = scene.home.path().join("in/count");
        let _ = fs::remove_file(&count);
        let status = json!({"token": token(&scene), "expirationTimestamp": ends});
        let script = format!("echo run >>'{}'\n{}", count.display(), print(status));
        let _ = loud(&scene, &with_plugin(&scene, &script)).unwatched().arg("--dry-run").run().code(0);
        let seen = fs::read_to_string(&count).expect("the plugin was run").lines().count();
        assert!(if runs == 1 { seen == 1 } else { seen >= runs }, "{seen} runs with a login until {ends}");
    }
}

pub fn odd_tokens(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let good = token(&scene);
    let inline = |text: String| changed(&scene, |config| config["users"][0]["user"] = json!({"token": text}));
    for odd in [format!("{good}\nX-Evil: yes"), format!("{good}\n"), format!("a {good}"), format!("{good}é")]
    {
        let kubeconfig = inline(odd);
        let _ = refused(bed, &scene.home, &loud(&scene, &kubeconfig), 3).says("OR0301").says("token");
    }
    let file = |text: &str| {
        let path = scene.home.input("token", text);
        changed(&scene, |config| config["users"][0]["user"] = json!({"tokenFile": path}))
    };
    // As kubectl does: the line break that every editor leaves at the end is none of the token.
    let _ = loud(&scene, &file(&format!("{good}\n"))).arg("--dry-run").run().code(0);
    let kubeconfig = file(&format!("{good}\nsecond line\n"));
    let _ = refused(bed, &scene.home, &loud(&scene, &kubeconfig), 3).says("OR0301");
    let kubeconfig = inline("not-the-token-of-anybody".to_owned());
    refused(bed, &scene.home, &loud(&scene, &kubeconfig), 4);
    scene.setup().flag("--kubeconfig", &kubeconfig).fails("OR0401");
}

pub fn unverified_server(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let kubeconfig = changed(&scene, |config| {
        config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(true);
    });
    scene.setup().flag("--kubeconfig", kubeconfig).fails("OR0304");
    for keep_ca in [true, false] {
        let kubeconfig = changed(&scene, |config| {
            let cluster = &mut config["clusters"][0]["cluster"];
            cluster["insecure-skip-tls-verify"] = json!(true);
            if !keep_ca {
                cluster.as_object_mut().expect("a mapping").remove("certificate-authority-data");
            }
        });
        let output = refused(bed, &scene.home, &loud(&scene, &kubeconfig), 3).says("OR0304");
        let _ = output.says("insecure-skip-tls-verify");
        assert!(bed.requests().is_empty(), "not one request goes to a server that is not verified");
        let _ = refused(bed, &scene.home, &scene.command("extract-ca").flag("--kubeconfig", &kubeconfig), 3);
    }
}

/// Lets a user of the bed do what another may, by the rights of the tests.
struct Rights<'a>(&'a dyn Bed, String);

impl<'a> Rights<'a> {
    fn of(bed: &'a dyn Bed, role: &str, user: User) -> Self {
        let rbac = "rbac.authorization.k8s.io";
        let binding = bed.admin().create(&json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "odd-user"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": user.name()}]}));
        std::thread::sleep(Duration::from_millis(300));
        Self(bed, crate::common::admin::object_path(&binding))
    }
}

impl Drop for Rights<'_> {
    fn drop(&mut self) {
        self.0.admin().delete(&self.1);
        std::thread::sleep(Duration::from_millis(300));
    }
}

pub fn odd_user_names(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Odd);
    let before = world(bed.admin());
    {
        let _rights = Rights::of(bed, "outrigger-test-limited", User::Odd);
        let output = scene.setup().run().code(4);
        // The command for an administrator means this very user to a shell.
        let stderr = output.stderr();
        let printed = stderr.lines().find(|line| line.contains("kubectl create rolebinding"));
        let printed = printed.unwrap_or_else(|| panic!("no command\n{output}")).trim();
        let shell = format!("kubectl() {{ printf '%s\\n' \"$@\"; }}; {printed}");
        let words = std::process::Command::new("sh").args(["-c", &shell]).output().expect("a shell");
        let words = String::from_utf8_lossy(&words.stdout).into_owned();
        assert!(words.contains(&format!("--user={}\n", User::Odd.name())), "{words}\n{output}");
    }
    {
        let _rights = Rights::of(bed, "outrigger-test-binder", User::Odd);
        bed.mark();
        let _ = scene.setup().run().code(0);
        // The binding that let him make the Role was for him, byte for byte: it would not have helped else.
        let bindings = crate::scenarios::count(&bed.requests(), "POST", "/rolebindings");
        assert_eq!(bindings, 2, "{}", crate::scenarios::listing(&bed.requests()));
        let _ = scene.status().run().code(0);
        let _ = scene.teardown().run().code(0);
    }
    assert_same("setup and teardown", &before, &world(bed.admin()));

    let scene = Scene::new(bed, User::Hostile);
    let _rights = Rights::of(bed, "outrigger-test-binder", User::Hostile);
    scene.setup().fails("OR0405");
    let output = refused(bed, &scene.home, &scene.setup(), 3).says("eve\\u{1b}");
    assert!(!output.stderr.contains(&0x1b) && !output.stderr().contains('\u{202e}'), "{output}");
}
