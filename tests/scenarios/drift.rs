//! The cluster is no longer as `setup` left it, or is not the one it was.

use serde_json::{Value, json};

use super::Scene;
use crate::common::admin::Admin;
use crate::common::bed::{Bed, User};
use crate::common::printed::printed;
use crate::common::world::{assert_same, world};

/// Whether the Role has this verb on this resource.
fn allows(role: &Value, resource: &str, verb: &str) -> bool {
    role["rules"].as_array().into_iter().flatten().any(|rule| {
        let has = |field: &str, value: &str| {
            rule[field].as_array().is_some_and(|list| list.contains(&json!(value)))
        };
        has("resources", resource) && has("verbs", verb)
    })
}

/// The Role's rules without one verb on one resource, everything else as it was.
fn without(role: &Value, resource: &str, verb: &str) -> Value {
    let mut rules = Vec::new();
    for rule in role["rules"].as_array().expect("a Role has rules") {
        let resources: Vec<_> = rule["resources"].as_array().into_iter().flatten().cloned().collect();
        let verbs: Vec<_> = rule["verbs"].as_array().into_iter().flatten().cloned().collect();
        for one in resources {
            let kept: Vec<_> = verbs.iter().filter(|v| !(one == resource && **v == verb)).cloned().collect();
            rules.push(json!({"apiGroups": rule["apiGroups"], "resources": [one], "verbs": kept}));
        }
    }
    Value::from(rules)
}

pub fn widened(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        scene.set_up();
        let path = scene.path("Role");
        let mut rules = bed.admin().get(&path).expect("setup made it")["rules"].clone();
        let wide = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]});
        rules.as_array_mut().expect("a Role has rules").push(wide);
        bed.admin().patch_as("kubectl-edit", &path, &json!({"rules": rules}));

        let edited = world(bed.admin());
        let _ = scene.status().run().code(10).says("- secrets list").says("last written by kubectl-edit");
        assert_same("status", &edited, &world(bed.admin()));
        scene.setup().run().code(0);
        let role = bed.admin().get(&path).expect("the Role stays");
        assert!(!allows(&role, "secrets", "list"), "mended: {role}");
        assert!(allows(&role, "pods", "create"), "and whole: {role}");
        assert_eq!(scene.temporary_bindings(), [""; 0]);
        scene.status().run().code(0);
    }
}

pub fn narrowed(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let path = scene.path("Role");
    let role = bed.admin().get(&path).expect("setup made it");
    bed.admin().patch_as("kubectl-edit", &path, &json!({"rules": without(&role, "pods", "create")}));
    let edited = world(bed.admin());
    // Kept and shown, with who did it; but the runner cannot work with it, which the proof says.
    let output = scene.setup().run().code(9).says("pods create is missing: no job can start");
    let _ = output
        .says("allows less than the runner needs")
        .says("last written by kubectl-edit, ")
        .says(" s ago)");
    assert_same("setup with a narrowed Role", &edited, &world(bed.admin()));

    scene.setup().arg("--force-conflicts").run().code(0);
    assert!(allows(&bed.admin().get(&path).expect("the Role stays"), "pods", "create"));
    scene.status().run().code(0);

    // With another change pending, setup alone would still end in exit 9: the rights are restored first.
    bed.admin().patch_as("kubectl-edit", &path, &json!({"rules": without(&role, "pods", "create")}));
    bed.admin().delete(&scene.path("RoleBinding"));
    let output = scene.status().run().code(10).says("To restore what was removed");
    let next: Vec<String> = printed(&output)
        .into_iter()
        .map(|one| one.line)
        .skip_while(|line| !line.starts_with("outrigger create-role --force-conflicts"))
        .collect();
    assert!(next.iter().any(|line| line.starts_with("outrigger setup")), "in this order: {next:?}");
    scene.command("create-role").arg("--force-conflicts").run().code(0);
    scene.setup().run().code(0);
    scene.status().run().code(0);
}

pub fn stricter_namespace(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let level = "pod-security.kubernetes.io/enforce";
    let stricter = json!({"metadata": {"labels": {level: "restricted"}}});
    bed.admin().patch_as("kubectl-label", &scene.path("job Namespace"), &stricter);
    let edited = world(bed.admin());
    let output =
        scene.setup().run().code(0).says("enforces Pod Security restricted").says("--force-conflicts");
    let _ = output.says("kubectl-label").says("pods that need more are rejected there");
    scene.status().run().code(0).says("enforces Pod Security restricted");
    assert_same("setup with a stricter level", &edited, &world(bed.admin()));

    bed.admin().patch(&scene.path("job Namespace"), &json!({"metadata": {"labels": {level: "privileged"}}}));
    let _ = scene.status().run().code(10).says("allows more than it should").says("- enforce privileged");
    scene.setup().run().code(0);
    let namespace = bed.admin().get(&scene.path("job Namespace")).expect("the namespace stays");
    assert_eq!(namespace["metadata"]["labels"][level], "baseline", "what allows more is mended");
}

pub fn binding_deleted(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    scene.set_up();
    let path = scene.path("RoleBinding");
    bed.admin().delete(&path);
    scene.status().run().code(10).says("RoleBinding");
    scene.setup().run().code(0);
    assert!(bed.admin().get(&path).is_some());
    assert_eq!(scene.temporary_bindings(), [""; 0]);
    scene.status().run().code(0);
}

/// What depends on a value that is not given is not checked, whatever else has changed.
pub fn pending_and_unchecked(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    bed.admin().delete(&scene.path("Secret"));
    // For another target the whole script is due, and the file of the runner's token is not known.
    let _ = scene
        .status()
        .flag("--target", "ec2")
        .run()
        .code(10)
        .says("pending")
        .says("1 value that setup needs is missing");
    let output = scene.status().flag("--target", "ec2").args(["-o", "json"]).run().code(10);
    let stdout = output.stdout();
    let result = stdout.lines().rev().find(|line| line.contains("\"result\"")).expect("a result");
    assert!(result.contains(r#""status":["drift","unchecked"]"#), "{result}");
}

/// A setup on the cluster whose token controller has no key.
fn crippled<'a>(bed: &'a dyn Bed, scene: &'a Scene<'a>) -> Option<crate::common::run::Cli<'a>> {
    let kubeconfig = bed.without_token_controller()?;
    let path = scene.home.kubeconfig("crippled.kubeconfig", &kubeconfig);
    let token = scene.home.runner_token();
    Some(
        scene
            .home
            .outrigger("setup")
            .arg("--non-interactive")
            .flag("--deployment", &scene.deployment)
            .flag("--kubeconfig", path)
            .flag("--gitlab-url", "https://gitlab.example.com")
            .flag("--runner-token-file", token),
    )
}

pub fn token_never_filled(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let Some(setup) = crippled(bed, &scene) else { return };
    let output = setup.fails("OR0802").says("token controller is disabled");
    assert!(!scene.home.script(&scene.deployment).exists(), "no script without a token");
    // Never a silent change of kind; but the command that changes it, which works as it is printed.
    let kind = |expected: &str| {
        let there = Admin::new(&bed.without_token_controller().expect("it was there"));
        let secret = there.get(&scene.path("Secret")).expect("the Secret is there");
        assert_eq!(secret["type"], expected);
    };
    kind("kubernetes.io/service-account-token");
    let stderr = output.stderr();
    let printed = stderr.lines().find(|line| line.contains("--token-lifetime 365d")).expect("the command");
    let words = printed[printed.find("outrigger setup").expect("a whole command")..].split_whitespace();
    let command = scene.home.outrigger("setup").args(words.skip(2)).arg("--accept-lifetime");
    command.run().code(0).says("Jobs stop at");
    kind("Opaque");
    assert_holds_secrets(&scene);
}

/// The script is the one with both tokens, not the update form.
fn assert_holds_secrets(scene: &Scene<'_>) {
    let script = std::fs::read_to_string(scene.home.script(&scene.deployment)).expect("a script");
    assert!(script.contains("HOLDS TWO SECRETS") && script.contains("bearer='e"), "no cluster token in it");
}

pub fn shortened_lifetime(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let Some(setup) = crippled(bed, &scene) else { return };
    let there = Admin::new(&bed.without_token_controller().expect("it was there"));
    let script = scene.home.script(&scene.deployment);
    let setup = setup.flag("--token-lifetime", "30d");
    let _ = setup.fails("OR0903").says("30 days").says("--accept lifetime");
    assert!(!script.exists(), "no script with a token that ends so soon");
    assert!(there.get(&scene.path("Secret")).is_none(), "a token that nobody has is revoked");
    // Not shortened, but short: under a week it is refused as well.
    let short = setup.clone().flag("--token-lifetime", "20h").run().code(2);
    let _ = short.says("OR0206").says("20 hours is shorter than a week").says("--accept lifetime");

    let accepting = setup.clone().args(["--accept", "lifetime"]);
    let output = accepting.run().code(0);
    let last = output.stderr().lines().next_back().unwrap_or_default().to_owned();
    assert!(last.contains("Jobs stop at 20"), "the last line says when jobs will stop\n{output}");
    assert_holds_secrets(&scene);
    accepting.run().code(0).says("Nothing to change").says("Jobs stop at");

    // A run that ended between the request and the script: the token is in nobody's hands.
    std::fs::remove_file(&script).expect("the script is there");
    let handle = there.get(&scene.path("Secret")).expect("the token hangs on a Secret");
    let output = accepting.clone().arg("--reissue").arg("cluster").flag("--script", scene.home.path()).run();
    let _ = output.code(7);
    let untouched = there.get(&scene.path("Secret")).expect("the Secret stays");
    assert_eq!(untouched["metadata"]["uid"], handle["metadata"]["uid"], "refused before it is revoked");
    scene
        .home
        .outrigger("issue-token")
        .args(["--non-interactive", "--deployment", &scene.deployment])
        .flag(
            "--kubeconfig",
            scene
                .home
                .kubeconfig("crippled.kubeconfig", &bed.without_token_controller().expect("it was there")),
        )
        .args(["--token-lifetime", "30d", "--accept-lifetime", "--reissue", "cluster"])
        .run()
        .code(0);
    accepting.run().code(0).says("was written to no script");
    assert_holds_secrets(&scene);
}
