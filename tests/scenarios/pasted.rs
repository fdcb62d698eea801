//! What outrigger prints is pasted as it stands, into another directory and a new shell, and does what the line above
//! it says. Whether the words of every printed command are good is judged in `common/printed.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use outrigger::internal::{cli, step_help};
use outrigger_doubles::gitlab::{Action, Fault, PROJECT, ProjectSpec, Role};
use serde_json::json;

use super::Scene;
use super::admission::{Rules, need_owner, no_token_secrets, policy_by, token_probe};
use super::bed::namespace;
use crate::common::admin::object_path;
use crate::common::bed::{Bed, User, kubeconfig_yaml};
use crate::common::printed::{Printed, pasted, printed};
use crate::common::run::{Home, Output};
use crate::common::shell::Shell;
use crate::common::site::{Site, runner_token};

/// Runs a printed line in a home, as somebody at a terminal would who agrees to what is asked.
pub fn paste(home: &Home, env: &[(&str, &str)], line: &str) -> Output {
    pasted(line);
    let folder = home.path().join("in/another directory");
    fs::create_dir_all(&folder).expect("a folder");
    // Agrees where nothing else decides it.
    let script = format!(
        "outrigger() {{\ncase \"$1 $*\" in\n\
         *--yes*|*--dry-run*|*--non-interactive*|*--print*|*--uninstall*|status*|list*) ;;\n\
         explain*|help*|preflight*|config*|completion*) ;;\n*) set -- \"$@\" --yes ;;\nesac\n'{}' \"$@\"\n}}\n{line}",
        crate::common::binary::outrigger()
    );
    let started = Instant::now();
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_STATE_HOME", home.path().join("state"))
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs(env.iter().copied())
        .current_dir(&folder)
        .output()
        .expect("a shell starts");
    Output {
        command: line.to_owned(),
        code: output.status.code(),
        stdout: output.stdout,
        stderr: output.stderr,
        took: started.elapsed(),
    }
}

/// The command below a line.
pub fn below<'a>(all: &'a [Printed], text: &str) -> &'a str {
    let found = all.iter().find(|one| one.above.contains(text));
    &found.unwrap_or_else(|| panic!("no command below {text:?}: {all:#?}")).line
}

/// What stands below Next after a setup of any kind, except its last command: it removes the deployment.
fn next(scene: &Scene<'_>, output: &Output, env: &[(&str, &str)], (gitlab, ca): (&[(&str, &str)], &str)) {
    let all = printed(output);
    let home = &scene.home;
    let same = below(&all, "Run the same setup without prompts");
    let _ = paste(home, env, same).code(0).says("Nothing to change");
    // Without a machine a runner of ours is in place, and takes no jobs yet.
    let code = if gitlab.is_empty() { 0 } else { 10 };
    let _ = paste(home, env, below(&all, "Check the deployment")).code(code);
    if let Some(commands) = all.iter().find(|one| one.line.contains("--print-commands")) {
        let _ = paste(home, env, &commands.line).code(0);
    }
    // On a machine that knows nothing but its kubeconfig.
    let elsewhere = Home::new();
    let kubeconfig = scene.kubeconfig().display().to_string();
    let there = [&[("KUBECONFIG", kubeconfig.as_str())], gitlab].concat();
    crate::common::site::settle();
    let there_too = below(&all, "from a machine without a record").replace(" FILE", &format!(" {ca}"));
    let _ = paste(&elsewhere, &there, &there_too).code(code);
}

fn removed(scene: &Scene<'_>, output: &Output) {
    assert_eq!(scene.bed.admin().get(&scene.path("runner Namespace")), None, "{output}");
}

/// Rights that only the group has which is impersonated: what is printed goes on as the same user and groups.
pub fn impersonated(bed: &dyn Bed) {
    let group = "corp:deployers, west";
    let scene = Scene::new(bed, User::Admin);
    let binding = bed.admin().create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "deployers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "outrigger-test-binder"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }));
    let user = ["--as", "dev@corp.example.com"];
    // As kubectl, which asks for a user too.
    let alone = scene.setup().flag("--as-group", group);
    let _ = alone.run().code(2).says("--as-group requires --as").says("add --as USER");
    let _ = scene.setup().args(user).run().code(4);
    let _ = scene.setup().args(user).args(["--as-group", "corp:others"]).run().code(4);
    let whom = [user[0], user[1], "--as-group", group, "--as-group", "corp:others"];
    let output = scene.setup().args(whom).run().code(0).says("asked the server");
    let all = printed(&output);
    for (above, code, says) in [
        ("Run the same setup without prompts", 0, "Nothing to change"),
        ("Check the deployment", 0, ""),
        ("Remove it", 0, "Removed"),
    ] {
        let line = below(&all, above);
        let same = "--as dev@corp.example.com --as-group 'corp:deployers, west' --as-group corp:others";
        assert!(line.contains(same), "{line}");
        let _ = paste(&scene.home, &[], line).code(code).says(says);
    }
    removed(&scene, &output);
    bed.admin().delete(&object_path(&binding));
}

/// With a runner that is given: flags, variables, a settings file, relative paths.
pub fn given_runner(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let home = &scene.home;
    let _ = (scene.kubeconfig(), home.runner_token());
    home.input("settings.yaml", "image: debian:13\ntags: [one, two]\njobLimit: 2\n");
    let command = home
        .outrigger("setup")
        .arg("--non-interactive")
        .env("KUBECONFIG", "in/Admin.kubeconfig")
        .env("OUTRIGGER_DEPLOYMENT", &scene.deployment)
        .env("OUTRIGGER_CONFIG", "in/settings.yaml")
        .env("GITLAB_URL", "https://gitlab.example.com")
        .env("OUTRIGGER_NAMESPACE", format!("{}-elsewhere", scene.deployment))
        .flag("--runner-token-file", "in/runner-token")
        .flag("--script", "run it.sh")
        .flag("--target", "ssh");
    let plan = |output: &Output| {
        let text = output.stderr() + &output.stdout();
        let plan = text.split_once("\nPlan\n").unwrap_or_else(|| panic!("no plan\n{output}")).1.to_owned();
        let plan = plan.split("\n\n").next().unwrap_or_default();
        // The same file, as it was given and as it is printed.
        let plan = plan.replace(&format!("{}/", home.path().display()), "");
        plan.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let dry = plan(&command.clone().arg("--dry-run").run().code(0));
    let output = command.run().code(0);
    let all = printed(&output);
    next(&scene, &output, &[], (&[], ""));
    // Where a script was deleted after use, it is written again.
    let script = home.path().join("run it.sh");
    fs::remove_file(&script).expect("setup wrote it");
    let gone = home
        .outrigger("launch-script")
        .arg("--print-commands")
        .flag("--deployment", &scene.deployment)
        .flag("--runner-token-file", "in/runner-token")
        .run()
        .code(0);
    let _ = paste(home, &[], below(&printed(&gone), "to write it")).code(0);
    assert!(script.is_file(), "{gone}");
    // The way back, also after the record is gone.
    let output = paste(home, &[], below(&all, "Remove it")).code(0);
    removed(&scene, &output);
    let _ = paste(home, &[], below(&printed(&output), "script printed by")).code(0).says("#!/bin/sh");
    // The same setup makes the same plan where nothing is remembered.
    let same = format!("{} --dry-run", below(&all, "Run the same setup without prompts"));
    assert_eq!(plan(&paste(home, &[], &same).code(0)), dry, "{same}");
}

/// With a runner that setup creates: the token in a file, and in a variable.
pub fn created_runner(bed: &dyn Bed) {
    for in_variable in [false, true] {
        let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
        let token = site.gitlab.token("maintainer");
        let ca = scene.home.input("gitlab-ca.pem", &site.gitlab.ca_pem()).display().to_string();
        let variable = [("GITLAB_TOKEN", token.as_str())];
        let env: &[_] = if in_variable { &variable } else { &[] };
        let setup = if in_variable {
            let project = outrigger_doubles::gitlab::PROJECT;
            scene.home.canary(&token);
            scene
                .command("setup")
                .flag("--gitlab-url", site.gitlab.url())
                .flag("--gitlab-ca-file", &ca)
                .flag("--project", project)
                .env("GITLAB_TOKEN", &token)
                .unwatched()
        } else {
            site.project(&scene.home, scene.command("setup"), "maintainer")
        };
        let output = setup.run().code(0);
        let all = printed(&output);
        next(&scene, &output, env, (&variable, &ca));
        let vm = site.boot(&scene.home, &scene.home.script(&scene.deployment));
        let output = paste(&scene.home, env, below(&all, "commit the pipeline file")).code(0);
        let _ = output.says("succeeded on runner");
        drop(vm);
        let output = paste(&scene.home, env, below(&all, "Remove it")).code(0);
        removed(&scene, &output);
        assert!(site.gitlab.runners().is_empty(), "{output}");
    }
}

/// After a failure, the printed command goes on.
pub fn after_failures(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let home = &scene.home;
    // A deployment that is not there: the list is none, and setup asks for what it needs.
    let output = scene.status().run().code(3);
    let all = printed(&output);
    let _ = paste(home, &[], below(&all, "to list the recorded deployments")).code(0);
    let _ = paste(home, &[], below(&all, "to create it")).code(2).says("OR0201").says("--gitlab-url");
    // Step by step.
    let alone = scene.command("issue-token").run().code(3);
    let all = printed(&alone);
    let _ = paste(home, &[], below(&all, "step by step")).code(0);
    let role = all.iter().find(|one| one.line.starts_with("outrigger create-role")).expect("the second step");
    let _ = paste(home, &[], &role.line).code(0);
    let _ = scene.command("issue-token").run().code(0);
    let _ = scene.set_up();
    // A Role that is too narrow is widened by the command that says so.
    bed.admin().patch_as("kubectl-edit", &scene.path("Role"), &json!({"rules": []}));
    let output = scene.status().run().code(9);
    let all = printed(&output);
    let widen = all.iter().find(|one| one.line.contains("--force-conflicts")).expect("a command");
    let _ = paste(home, &[], &widen.line).code(0);
    let _ = scene.status().run().code(0);
    // A difference is mended by the command below it.
    bed.admin().delete(&scene.path("RoleBinding"));
    let output = scene.status().run().code(10);
    let _ = paste(home, &[], below(&printed(&output), "Apply the plan")).code(0);
    let _ = scene.status().run().code(0);
    // What would be removed is shown, and then removed.
    let output = scene.command("teardown").run().code(2);
    let _ = paste(home, &[], below(&printed(&output), "to see what teardown would remove")).code(0);
    assert!(bed.admin().get(&scene.path("Role")).is_some());
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "foreign", "namespace": scene.job_namespace()}}));
    let output = scene.teardown().run().code(5);
    bed.admin().delete(&format!("/api/v1/namespaces/{}/configmaps/foreign", scene.job_namespace()));
    let output = paste(home, &[], below(&printed(&output), "then finish with")).code(0);
    removed(&scene, &output);
    assert_eq!(bed.admin().get(&scene.path("job Namespace")), None);
}

/// A token that ends is renewed by the command in the last line.
pub fn renewal(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let output = scene.setup().flag("--token-lifetime", "365d").run().code(0);
    let before = bed.admin().get(&scene.path("Secret")).expect("a handle");
    let _ = paste(&scene.home, &[], below(&printed(&output), "to renew it")).code(0);
    let after = bed.admin().get(&scene.path("Secret")).expect("a handle");
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let script = fs::read_to_string(scene.home.script(&scene.deployment)).expect("a script");
    assert!(script.contains("bearer='e"), "the new token is in a script");
    // Later only the user knows the file of a runner token that was given: the host has it.
    let output = scene.status().run().code(0);
    let _ = paste(&scene.home, &[], below(&printed(&output), "to renew it")).code(0);
    let _ = scene.teardown().run().code(0);
}

/// Every page that a failure names is there.
pub fn pages(_: &dyn Bed) {
    let home = Home::new();
    let codes: BTreeSet<String> = include_str!("../../src/output/explain.txt")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() == 6 && word.starts_with("OR0"))
        .map(str::to_owned)
        .collect();
    assert!(codes.len() > 40, "{codes:?}");
    for code in codes.iter().step_by(8) {
        let _ = paste(&home, &[], &format!("outrigger explain {code}")).code(0).says(code);
    }
    for topic in ["exit-codes", "environment", "settings", "gitlab-token", "json", "kubectl"] {
        let _ = paste(&home, &[], &format!("outrigger help {topic}")).code(0);
    }
    // What an error of the command line names.
    for command in cli::command(&step_help()).get_subcommands() {
        let _ = paste(&home, &[], &format!("outrigger {} --help", command.get_name())).code(0).says("Usage");
    }
    for (line, said) in [("config print", "deployment"), ("completion bash", "__complete")] {
        let _ = paste(&home, &[], &format!("outrigger {line}")).code(0).says(said);
    }
    assert!(!Path::new("role.yaml").exists());
}

/// Whether the record of a deployment is there.
fn is_recorded(scene: &Scene<'_>) -> bool {
    scene.home.state().join(format!("{}.json", scene.deployment)).exists()
}

/// A teardown that stops says how to go on: without the jobs, with what generators keep, without the cluster.
pub fn teardowns(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let home = &scene.home;
    let _ = scene.set_up();
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": scene.job_namespace(), "name": "runner-job-1",
            "labels": {"manager.runner.gitlab.com/name": scene.deployment}},
        "spec": {"serviceAccountName": "default", "containers": [{"name": "build", "image": "busybox"}]}}));
    let output = scene.teardown().args(["--timeout", "4s"]).run().code(8);
    let output = paste(home, &[], below(&printed(&output), "or delete them")).code(0);
    removed(&scene, &output.says("deleted 1 job pod"));

    let _ = scene.set_up();
    bed.admin().create(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": scene.job_namespace(), "name": "default-deny",
            "labels": {"generate.kyverno.io/policy-name": "defaults"}}, "spec": {"podSelector": {}}}));
    let output = scene.teardown().run().code(5);
    let output = paste(home, &[], below(&printed(&output), "--accept generated")).code(0);
    removed(&scene, &output);
    assert_eq!(bed.admin().get(&scene.path("job Namespace")), None);

    let _ = scene.set_up();
    let closed = kubeconfig_yaml("gone", "https://127.0.0.1:1", &bed.ca_pem(), "me", "none-at-all");
    let closed = home.kubeconfig("closed.kubeconfig", &closed);
    let output = scene.teardown().flag("--kubeconfig", &closed).flag("--timeout", "5s").run().code(8);
    assert!(is_recorded(&scene));
    let _ = paste(home, &[], below(&printed(&output), "no longer exists")).code(0).says("not read back");
    assert!(!is_recorded(&scene));
    for kind in ["runner Namespace", "job Namespace"] {
        bed.admin().delete(&scene.path(kind));
    }
}

/// The same for what is in GitLab: a project that changed, a commit that stays, a GitLab that is gone.
pub fn teardowns_of_gitlab(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let home = &scene.home;
    site.gitlab.add_project(ProjectSpec::new("acme/other"));
    site.gitlab.set_role("maintainer", "acme/other", Some(Role::Maintainer));
    let setup = || site.project(home, scene.command("setup"), "maintainer");
    let _ = setup().run().code(0);
    let output = setup().flag("--project", "acme/other").run().code(3);
    let _ = paste(home, &[], below(&printed(&output), "delete this runner first")).code(0);
    assert!(site.gitlab.runners().is_empty() && is_recorded(&scene));

    let committed = || site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").is_some();
    let _ = setup().arg("--commit-pipeline").run().code(0);
    let output = scene.teardown().run().code(0);
    assert!(committed());
    let _ = paste(home, &[], below(&printed(&output), "To revert the commit")).code(0).says("reverted");
    assert!(!committed());

    let _ = setup().run().code(0);
    let output = scene.teardown().flag("--gitlab-url", "https://gitlab.example.com").run().code(3);
    let output =
        paste(home, &[], below(&printed(&output), "if the recorded GitLab no longer exists")).code(0);
    removed(&scene, &output);
    assert_eq!(site.gitlab.runners().len(), 1, "it was not asked");
}

/// The pipeline step by step: the file that may not be committed is printed, one that is missing is committed, and a
/// wait that was too short is longer. A token in use is reset by the command that says so.
pub fn pipelines(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let home = &scene.home;
    let _ = site.project(home, scene.command("setup"), "maintainer").run().code(0);
    let words = "GitLab: Author 'a@example.com' is not a member of team";
    let refuse = Action::Status(400, String::new(), words.to_owned());
    site.gitlab.inject(Fault::always("/repository/commits", refuse));
    let output = scene.command("commit-pipeline").run().code(3);
    site.gitlab.clear_faults();
    let _ = paste(home, &[], below(&printed(&output), "add the file yourself")).code(0).says("script:");
    let output = scene.command("run-pipeline").run().code(3);
    let _ = paste(home, &[], below(&printed(&output), "commit it first")).code(0);
    assert!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").is_some());
    let output = scene.command("run-pipeline").flag("--wait", "2s").run().code(8);
    let vm = site.boot(home, &home.script(&scene.deployment));
    let _ = paste(home, &[], below(&printed(&output), "wait longer")).code(0).says("succeeded on runner");
    // The script has run, and its secrets need not stay here.
    let script = home.script(&scene.deployment);
    let before = runner_token(&script);
    let output = scene.status().run();
    let _ = paste(home, &[], below(&printed(&output), "remove it from this disk")).code(0);
    assert!(!script.exists());

    // A colleague whose view of the cluster has lost the script's digest.
    let colleague = scene.elsewhere(User::Admin);
    let annotations = json!({"outrigger.dev/script-digest": null});
    bed.admin().patch(&scene.path("ServiceAccount"), &json!({"metadata": {"annotations": annotations}}));
    let output = site.project(&colleague.home, colleague.command("setup"), "maintainer").run().code(7);
    let _ = paste(&colleague.home, &[], below(&printed(&output), "reset the token")).code(0);
    let after = runner_token(&colleague.home.script(&colleague.deployment));
    assert_ne!(before, after);
    drop(vm);
}

/// What the cluster refuses is asked for in another way: namespaces of others, a token with a lifetime, a new token.
pub fn refused_by_the_cluster(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let home = &scene.home;
    let _ = scene.set_up();
    let broken = json!({"data": {"token": "YnJva2VuLWJ5LXNvbWVib2R5"}});
    bed.admin().patch(&scene.path("Secret"), &broken);
    let output = scene.setup().run();
    let before = bed.admin().get(&scene.path("Secret")).expect("it is there");
    let _ = paste(home, &[], below(&printed(&output), "issue a new one")).code(0);
    let after = bed.admin().get(&scene.path("Secret")).expect("it is there");
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let _ = scene.setup().run().code(0);
    let _ = scene.teardown().run().code(0);

    let rules = Rules::new(bed, &[no_token_secrets(policy_by(""))], token_probe());
    let output = scene.setup().run().code(5);
    let _ = paste(home, &[], below(&printed(&output), "request one with a lifetime")).code(0);
    let _ = scene.status().run().code(0);
    let _ = scene.teardown().run().code(0);
    drop(rules);

    let rules = Rules::new(bed, &[need_owner(policy_by(""))], namespace("probe"));
    let output = scene.setup().run().code(3);
    let names = [scene.runner_namespace(), scene.job_namespace()];
    for name in &names {
        let mut theirs = namespace(name);
        theirs["metadata"]["labels"] = json!({"owner": "platform"});
        bed.admin().create(&theirs);
    }
    let all = printed(&output);
    let used = below(&all, "use them as they are");
    let secrets = format!("/api/v1/namespaces/{}/secrets", names[1]);
    bed.admin().create(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "theirs", "namespace": names[1]}}));
    // What jobs reach there is for the user to accept; in an empty namespace it is nothing.
    let _ = paste(home, &[], used).code(3).says("--accept shared-namespace");
    bed.admin().delete(&format!("{secrets}/theirs"));
    let _ = paste(home, &[], used).code(0);
    let _ = scene.status().run().code(0);
    let _ = scene.teardown().run().code(0);
    drop(rules);
    for name in &names {
        bed.admin().delete(&format!("/api/v1/namespaces/{name}"));
    }
}

/// What kubectl shows of an object that is in the way, and of a limit; a folder that others may write to is closed.
pub fn inspected(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let open = scene.home.path().join("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let output = scene.setup().flag("--state-dir", &open).run().code(3);
    let all = printed(&output);
    let close = all.iter().find(|one| one.line.starts_with("chmod ")).expect("a command");
    let _ = paste(&scene.home, &[], &close.line).code(0);
    let mode = fs::metadata(&open).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o022, 0, "{mode:o}");

    let _ = scene.set_up();
    let shell = Shell::new(&scene.home, bed.admin(), bed.kubectl(), &bed.kubeconfig(User::Admin));
    let colleague = scene.elsewhere(User::Admin);
    let output = colleague.home.outrigger("status").flag("--deployment", &colleague.deployment);
    let output = output.flag("--kubeconfig", colleague.kubeconfig()).arg("--non-interactive").run().code(7);
    shell.run(below(&printed(&output), "inspect it"));
    let _ = scene.teardown().run().code(0);

    let runner = scene.runner_namespace();
    bed.admin().create(&namespace(&runner));
    let quota = bed.admin().create(&json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "few-secrets", "namespace": runner}, "spec": {"hard": {"secrets": "0"}}}));
    // No controller of the tests counts: the namespace is empty.
    let counted = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}});
    bed.admin().patch(&format!("{}/status", object_path(&quota)), &counted);
    let output = scene.setup().flag("--use-namespace", &runner).run().code(3);
    shell.run(below(&printed(&output), "to show it"));
    bed.admin().delete(&format!("/api/v1/namespaces/{runner}"));
}
