//! What each command shows when all goes well, or what it looks at does not: whole, at each width.

use outrigger_doubles::gitlab::Behaviour;

use crate::Doubles;
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Home};
use crate::common::site::Site;
use crate::common::snapshot::{Pages, WIDTHS};
use crate::gitlab_odds;
use crate::scenarios::Scene;

/// A story that needs a double.
type OnDoubles = fn(&'static Doubles);

/// The trials of this file.
pub const REPORTS: &[(&str, OnDoubles)] = &[
    ("reports_with_a_given_runner", given_runner),
    ("reports_with_a_created_runner", created_runner),
    ("reports_of_several_deployments", several_deployments),
    ("reports_without_a_server", without_a_server),
];

/// From the first look to the last: the runner is made by hand.
fn given_runner(bed: &'static Doubles) {
    let mut pages = Pages::default();
    for columns in WIDTHS {
        let scene = Scene::new(bed, User::Binder);
        let mut add = |name: &str, code: i32, command: Cli<'_>| {
            pages.add(&format!("reports/{name}"), columns, code, &command);
        };
        add("preflight", 0, scene.command("preflight"));
        add("setup-dry-run", 0, scene.setup().arg("--dry-run"));
        add("setup", 0, scene.setup());
        scene.watch_cluster_token();
        add("setup-again", 0, scene.setup());
        add("status", 0, scene.status());
        add("launch-script", 0, scene.command("launch-script"));
        bed.admin().delete(&scene.path("RoleBinding"));
        add("status-drift", 10, scene.status());
        add("setup-repair", 0, scene.setup());
        add("status-from-elsewhere", 0, scene.elsewhere(User::Binder).status());
        add("teardown-dry-run", 0, scene.teardown().arg("--dry-run"));
        add("teardown", 0, scene.teardown());
        add("teardown-again", 0, scene.teardown().arg("--ignore-not-found"));
        let scene = Scene::new(bed, User::Admin);
        scene.set_up();
        let commands = scene.command("launch-script").arg("--print-commands");
        pages.add_data("reports/launch-script-print-commands", columns, &commands);
    }
    pages.compare();
}

/// The same with GitLab: the runner is made, the pipeline committed and run.
fn created_runner(bed: &'static Doubles) {
    let mut pages = Pages::default();
    for columns in WIDTHS {
        let site = Site::new();
        let scene = Scene::new(bed, User::Admin);
        let add = |pages: &mut Pages, name: &str, code: i32, command: &Cli<'_>| {
            pages.add(&format!("reports/gitlab-{name}"), columns, code, command);
        };
        let with = |subcommand: &str| site.project(&scene.home, scene.command(subcommand), "maintainer");
        add(&mut pages, "preflight", 0, &with("preflight"));
        let whole = with("setup").args(["--commit-pipeline", "--run-pipeline"]);
        add(&mut pages, "setup-dry-run", 0, &whole.clone().arg("--dry-run"));
        let script = scene.home.script(&scene.deployment);
        let (output, vm) = site.run_with_vm(&scene.home, &script, &whole.at(columns));
        pages.add_output("reports/gitlab-setup", columns, &output.code(0));
        add(&mut pages, "status", 0, &with("status"));
        add(&mut pages, "run-pipeline-again", 0, &with("run-pipeline"));
        drop(vm);
        // Without a token nothing is known of the runner.
        let token = scene.home.path().join("in/maintainer.token");
        let away = token.with_extension("away");
        std::fs::rename(&token, &away).expect("a file of ours");
        add(&mut pages, "status-unchecked", 10, &scene.status());
        std::fs::rename(&away, &token).expect("a file of ours");
        site.gitlab.advance(std::time::Duration::from_secs(3 * 3600 + 1800));
        add(&mut pages, "status-unhealthy", 10, &with("status"));
        let teardown = with("teardown").args(["--yes", "--revert-pipeline"]);
        add(&mut pages, "teardown-dry-run", 0, &teardown.clone().arg("--dry-run"));
        add(&mut pages, "teardown", 0, &teardown);

        let site = Site::new();
        let (scene, vm) = gitlab_odds::with_machine(bed, &site, Behaviour::RegisterOnly);
        gitlab_odds::cancel_pipelines(&site);
        vm.set_behaviour(Behaviour::Succeed);
        let run = gitlab_odds::run_pipeline(&scene, &site, "60s");
        add(&mut pages, "run-pipeline", 0, &run);
    }
    pages.compare();
}

fn several_deployments(bed: &'static Doubles) {
    let mut pages = Pages::default();
    for columns in WIDTHS {
        let scene = Scene::new(bed, User::Admin);
        let mut add = |name: &str, command: Cli<'_>| {
            pages.add_data(&format!("reports/{name}"), columns, &command);
        };
        add("list-none", scene.home.outrigger("list"));
        scene.set_up();
        let other = bed.fresh_deployment();
        scene.setup().flag("--deployment", &other).run().code(0);
        add("list", scene.home.outrigger("list"));
        add("list-names", scene.home.outrigger("list").args(["-o", "name"]));
        scene.teardown().flag("--deployment", &other).run().code(0);
        scene.teardown().run().code(0);
    }
    pages.compare();
}

/// What is put together from settings alone.
fn without_a_server(bed: &'static Doubles) {
    let mut pages = Pages::default();
    for columns in WIDTHS {
        let home = Home::new();
        let kubeconfig = home.kubeconfig("kubeconfig", &bed.kubeconfig(User::Admin));
        let mut add = |name: &str, command: Cli<'_>| {
            pages.add_data(&format!("reports/{name}"), columns, &command.flag("--kubeconfig", &kubeconfig));
        };
        add("commit-pipeline-print", home.outrigger("commit-pipeline").arg("--print"));
        let render = home.outrigger("render").arg("--non-interactive");
        add("render", render.flag("--gitlab-url", "https://gitlab.example.com"));
        let print = home.outrigger("config").args(["print", "--tags", "large,small"]);
        pages.add("reports/config-print", columns, 0, &print.flag("--kubeconfig", &kubeconfig));
    }
    pages.compare();
}
