//! GitLab's side of the whole way: the runner is made, the pipeline file committed, the first pipeline run.

use outrigger_doubles::gitlab::{Options, PROJECT, ProjectSpec};

use super::{NO_MACHINE, Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::run::Cli;
use crate::common::site::Site;
use crate::common::world::{assert_same, world};

/// `setup` that creates the runner.
fn setup<'a>(scene: &'a Scene<'a>, site: &Site) -> Cli<'a> {
    site.project(&scene.home, scene.command("setup"), "maintainer")
}

fn teardown<'a>(scene: &'a Scene<'a>, site: &Site) -> Cli<'a> {
    site.project(&scene.home, scene.teardown(), "maintainer")
}

/// What people did by hand in two web pages, and the job in the end.
pub fn whole_way(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    let site = Site { output: "fetched 10 %\rfetched 50 %\rfetched 100 %\n".to_owned(), ..Site::new() };
    let (cluster_before, gitlab_before) = (world(bed.admin()), site.world());
    let script = scene.home.script(&scene.deployment);
    let command = setup(&scene, &site).args(["--commit-pipeline", "--run-pipeline"]);
    let (output, vm) = site.run_with_vm(&scene.home, &script, &command);
    let output = output.code(0).says("hello world!").says("succeeded on runner").says("has contacted GitLab");
    // The runner writes a progress bar in parts, each with a time and a stream before it.
    let output = output.says("fetched 100 %").never_says("fetched 50 %").never_says("00O").never_says("01O");
    assert!(!output.stderr().contains("section_start"), "GitLab's own marks are not shown\n{output}");
    assert_eq!(vm.problems(), [""; 0]);
    assert_eq!(vm.jobs().len(), 1, "one job ran on our machine");

    let text = std::fs::read_to_string(&script).expect("a script");
    let ca = site.gitlab.ca_pem();
    assert!(text.contains(ca.lines().nth(1).expect("a certificate")), "the VM gets GitLab's CA, too");

    let runners = site.gitlab.runners();
    let ours = runners.last().expect("a runner was made");
    assert_eq!((&ours["locked"], &ours["run_untagged"]), (&true.into(), &false.into()), "{ours}");
    assert_eq!(ours["tag_list"], serde_json::json!(["k8s-runner"]));
    let file = site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("the file is committed");
    assert!(file.contains("hello world!") && file.contains("k8s-runner"), "{file}");

    // Nothing more to do, on neither side.
    bed.mark();
    site.gitlab.clear_requests();
    let again = setup(&scene, &site).args(["--commit-pipeline", "--run-pipeline", "-v"]).run().code(0);
    let _ = again.says("succeeded on runner");
    assert_eq!(listing(&writes(bed)), "");
    let wrote = |method: &str| method != "GET" && method != "HEAD";
    // The machine goes on asking for jobs meanwhile; a lint stores nothing.
    let requests: Vec<_> = site.gitlab.requests().into_iter().filter(|r| r.token == "maintainer").collect();
    assert!(requests.iter().all(|r| !wrote(&r.method) || r.path.ends_with("/ci/lint")), "{requests:?}");
    let _ = site
        .project(&scene.home, scene.status(), "maintainer")
        .run()
        .code(0)
        .says("last contact")
        .says("remove it from this disk");
    // Nobody needs the script on this disk any more.
    std::fs::remove_file(&script).expect("status says rm");
    let again = site.project(&scene.home, scene.status(), "maintainer").run().code(0);
    let _ = again.never_says("remove it from this disk");

    drop(vm);
    let _ = teardown(&scene, &site).arg("--revert-pipeline").run().code(0).says("read back: gone");
    assert_same("setup and teardown", &cluster_before, &world(bed.admin()));
    let gitlab_after = site.world();
    let left: Vec<_> = gitlab_after.keys().filter(|key| !gitlab_before.contains_key(*key)).collect();
    // The history of commits and pipelines is GitLab's own.
    assert!(left.iter().all(|key| !key.contains("runner")), "{left:?}");
    assert_eq!(site.gitlab.runners().len(), runners.len() - 1);
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), None, "our commit is taken back");
}

/// A second deployment of the same name, in another cluster, on the same project.
pub fn two_clusters_one_project(bed: &dyn Bed) {
    let Some(elsewhere) = bed.elsewhere() else { return };
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let other = scene.elsewhere(User::Admin);
    let other_kubeconfig = other.home.kubeconfig("other.kubeconfig", &elsewhere);
    let there = |command: Cli<'_>| {
        site.project(&other.home, command, "maintainer").flag("--kubeconfig", &other_kubeconfig).run()
    };
    setup(&scene, &site).run().code(0);
    // That cluster fills no Secrets, and grants a day at most.
    let requested = other.command("setup").args(["--token-lifetime", "20h", "--accept-lifetime"]);
    let _ = there(requested).code(0);
    let ids = |site: &Site| -> Vec<u64> {
        site.gitlab.runners().iter().filter_map(|runner| runner["id"].as_u64()).collect()
    };
    let both = ids(&site);
    assert_eq!(both.len(), 2, "two runners, one for each cluster: {both:?}");
    let _ = there(other.teardown()).code(0).says(&format!("runner {}", both[1]));
    assert_eq!(ids(&site), both[..1], "each is torn down alone");
    let _ = site.project(&scene.home, scene.status(), "maintainer").run().code(10).says(NO_MACHINE);
    let _ = teardown(&scene, &site).run().code(0);
    assert!(ids(&site).is_empty());
}

/// What setup would have to be told again is no difference, and nothing is made a second time.
pub fn again_without_a_token(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).run().code(0);
    bed.mark();
    // The file of the token is recorded, and the runner is looked at with it.
    let token = scene.home.path().join("in/maintainer.token");
    let text = std::fs::read_to_string(&token).expect("the token's file");
    let _ = scene.command("setup").run().code(0).says("Nothing to change; 1 problem");
    let _ = scene.status().run().code(10).says(NO_MACHINE);
    // What cannot be looked at is not good.
    std::fs::remove_file(&token).expect("it was there");
    let unchecked = || "not checked: cannot read the GitLab token file";
    let output = scene.command("setup").run().code(10).says(unchecked());
    let _ = output.says("Nothing to change; 1 part not checked");
    let _ = scene.command("setup").args(["--skip", "create-runner"]).run().code(0).says("Nothing to change");
    let output = scene.status().run().code(10).says(unchecked());
    let _ = output.says("Everything that was checked matches the plan; 1 part not checked");
    let json = scene.status().args(["-o", "json"]).run().code(10);
    let plan = json.json_lines().into_iter().find(|line| line["type"] == "plan").expect("a plan");
    let lines = plan["lines"].as_array().expect("lines");
    assert!(
        lines.iter().any(|line| line["step"] == "create-runner" && line["action"] == "unchecked"),
        "{plan}"
    );
    // It goes to the GitLab that was recorded with it, and to no other.
    std::fs::write(&token, text).expect("a folder of ours");
    scene.status().flag("--gitlab-url", "https://gitlab.example.com").fails("OR0315");
    // A runner that somebody deleted in GitLab is named.
    let id = site.gitlab.runners()[0]["id"].as_u64().expect("a runner");
    site.gitlab.remove_runner(id);
    let _ = scene.status().run().code(10).says("create-runner").says("+");
    assert_eq!(listing(&writes(bed)), "");
    setup(&scene, &site).run().code(0);
    std::fs::remove_file(&token).expect("it is there");
    // Without a token teardown asks for one before it takes anything away.
    let standing = world(bed.admin());
    let _ = scene.teardown().run().code(2).says("--gitlab-token-file").says("--gitlab-gone");
    assert_same("a teardown without a token", &standing, &world(bed.admin()));
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = scene.teardown().arg("--gitlab-gone").run().code(0).says("not read back");
    assert_eq!(site.gitlab.runners().len(), 1, "it was not asked");
}

/// A colleague without the record finds the runner by its mark.
pub fn from_another_machine(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    let gitlab_before = site.gitlab.runners();
    setup(&scene, &site).run().code(0);
    let colleague = scene.elsewhere(User::Admin);
    bed.mark();
    let _ = site
        .project(&colleague.home, colleague.command("setup").arg("-v"), "maintainer")
        .run()
        .code(0)
        .says("kept: runner");
    assert_eq!(listing(&writes(bed)), "");
    assert_eq!(site.gitlab.runners().len(), 1);
    let _ = site.project(&colleague.home, colleague.teardown(), "maintainer").run().code(0);
    assert_eq!(site.gitlab.runners(), gitlab_before);
}

/// Tags move at the runner and in the pipeline file together, announced by one line.
pub fn tags_move_together(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    setup(&scene, &site).arg("--commit-pipeline").run().code(0);
    let plan = setup(&scene, &site)
        .args(["--commit-pipeline", "--tags", "blue", "--dry-run", "-o", "json"])
        .run()
        .code(0);
    let lines = plan.json_lines();
    let plan = lines.iter().find(|line| line["type"] == "plan").expect("a plan");
    let changes: Vec<_> = plan["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|line| line["action"] == "update" && line.to_string().contains("blue"))
        .collect();
    assert_eq!(changes.len(), 1, "{plan}");
    assert!(changes[0].to_string().contains("pipeline file"), "{plan}");
    setup(&scene, &site).args(["--commit-pipeline", "--tags", "blue"]).run().code(0);
    let file = site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml").expect("the file stays");
    assert!(file.contains("blue") && !file.contains("k8s-runner"), "{file}");
    assert_eq!(site.gitlab.runners()[0]["tag_list"], serde_json::json!(["blue"]));
    let _ = site.project(&scene.home, scene.status(), "maintainer").run().code(10).says(NO_MACHINE);
    let _ = teardown(&scene, &site).run().code(0).says("stays");
}

/// An empty repository gets its first commit, another branch is made for the file.
pub fn branches(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Admin), Site::new());
    site.gitlab.add_project(ProjectSpec::empty("acme/empty"));
    site.gitlab.set_role("maintainer", "acme/empty", Some(outrigger_doubles::gitlab::Role::Maintainer));
    let commit = |project: &str, extra: &[&str]| {
        site.project(&scene.home, scene.command("commit-pipeline"), "maintainer")
            .flag("--project", project)
            .args(extra.iter().copied())
            .run()
    };
    let _ = commit("acme/empty", &[]).code(0).says("committed .gitlab-ci.yml on main");
    assert!(site.gitlab.file("acme/empty", "main", ".gitlab-ci.yml").is_some());
    let _ = commit(PROJECT, &["--branch", "try/outrigger"]).code(0).says("a new branch from main");
    assert!(site.gitlab.file(PROJECT, "try/outrigger", ".gitlab-ci.yml").is_some());
    assert_eq!(site.gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), None);
    // The same file without a cluster or a GitLab at hand.
    let home = crate::common::run::Home::new();
    let printed = home
        .outrigger("commit-pipeline")
        .args(["--print", "--pipeline-script", "make -j2, test"])
        .run()
        .code(0);
    assert!(printed.stdout().contains("make -j2, test"), "{printed}");
}

/// The article by hand: each step by its own name, the runner's token carried in a file.
pub fn step_by_step(bed: &dyn Bed) {
    let (scene, site) = (Scene::new(bed, User::Binder), Site::new());
    let (before, runners) = (world(bed.admin()), site.gitlab.runners());
    let token = scene.home.input("runner-token", "");
    let on = |step: &str| site.project(&scene.home, scene.command(step), "maintainer");
    for step in ["preflight", "create-namespaces", "create-role", "issue-token"] {
        let command = if step == "preflight" { on(step) } else { scene.command(step) };
        command.run().code(0);
    }
    on("create-runner").flag("--runner-token-out", &token).run().code(0);
    scene.home.canary(std::fs::read_to_string(&token).expect("a token").trim());
    let script = scene.command("launch-script").flag("--gitlab-url", site.gitlab.url());
    let script = script.flag("--gitlab-ca-file", scene.home.input("gitlab-ca.pem", &site.gitlab.ca_pem()));
    script.flag("--runner-token-file", &token).run().code(0).says("wrote launch.sh");
    on("commit-pipeline").run().code(0);
    // The machine starts once it is waited for: a faster one would have run the pipeline before it is looked at.
    let command = on("run-pipeline");
    let mut running = command.start();
    while !running.has_said("waiting for the first contact") {
        assert!(!running.poll(), "it ended before it waited for the machine\n{}", running.wait());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let vm = site.boot(&scene.home, &scene.home.script(&scene.deployment));
    let _ = running.wait().code(0).says("hello world!").says("succeeded on runner");
    let _ =
        site.project(&scene.home, scene.status().arg("-v"), "maintainer").run().code(0).says("kept: runner ");
    drop(vm);
    let _ = teardown(&scene, &site).run().code(0).says("read back: gone");
    assert_same("the steps one by one and teardown", &before, &world(bed.admin()));
    assert_eq!(site.gitlab.runners(), runners);
}

/// A runner token that ends: its end goes with it to the machine, which has to renew it in time.
pub fn token_that_ends(bed: &dyn Bed) {
    let lifetime = std::time::Duration::from_secs(30 * 24 * 3600);
    let site = Site::with(Options { runner_token_lifetime: Some(lifetime), ..Options::default() });
    for (target, file) in [("lightsail", "launch.sh"), ("ssh", "launch.sh.secrets")] {
        let scene = Scene::new(bed, User::Admin);
        let earliest = jiff::Timestamp::now();
        let _ = setup(&scene, &site).flag("--target", target).run().code(0);
        let path = scene.home.script(&scene.deployment).with_file_name(file);
        let text = std::fs::read_to_string(path).expect("it is written");
        let line = |line: &str| {
            let rest = line.trim_start().trim_start_matches("runner_").strip_prefix("expires=")?;
            rest.trim_matches('\'').parse::<jiff::Timestamp>().ok()
        };
        let ends = text.lines().find_map(line).expect("the end of the token");
        let days = (ends - earliest).get_seconds() / (24 * 3600);
        assert!((29..=30).contains(&days), "{days} days");
    }
}
