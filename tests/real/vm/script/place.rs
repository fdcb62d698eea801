//! What a launch script is made from and runs against: a cluster, a GitLab and a server of packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use outrigger_doubles::cluster::{FakeCluster, Options, seed_rbac, standard_users};
use outrigger_doubles::gitlab::PROJECT;
use serde_json::Value;

use super::super::common::admin::{self, Admin};
use super::super::common::bed::User;
use super::super::common::run::{Cli, Home};
use super::super::common::site::Site;
use super::super::vm::Vm;
use super::super::vm::apt::AptServer;
use super::super::vm::beds::{Beds, VERSION};
use super::super::vm::net::port_of;

/// The deployment of these trials.
pub const DEPLOYMENT: &str = "acme";

/// See the module.
pub struct Place {
    /// The cluster.
    pub cluster: FakeCluster,
    /// The GitLab.
    pub site: Site,
    /// The packages.
    pub apt: AptServer,
    /// Where outrigger runs.
    pub home: Home,
    fingerprint: String,
}

impl Place {
    /// A cluster, a GitLab and packages that nobody has used yet.
    pub fn new(beds: &Beds) -> Self {
        admin::install_tls_provider();
        let cluster = FakeCluster::start(Options { users: standard_users(), ..Options::default() });
        let admin = Admin::new(&cluster.kubeconfig(User::Admin.name()));
        for manifest in seed_rbac() {
            admin.create(&manifest);
        }
        Self {
            cluster,
            site: Site::new(),
            apt: beds.apt(),
            home: Home::new(),
            fingerprint: beds.repository.key.fingerprint.clone(),
        }
    }

    /// A command on the deployment, with cluster, GitLab and where packages come from.
    pub fn command(&self, subcommand: &str) -> Cli<'_> {
        self.command_from(&self.home, subcommand)
    }

    /// The same from another home, which may know nothing of the deployment.
    pub fn command_from<'a>(&self, home: &'a Home, subcommand: &str) -> Cli<'a> {
        let kubeconfig = self.cluster.kubeconfig(User::Admin.name());
        let command = home
            .outrigger(subcommand)
            .arg("--non-interactive")
            .flag("--deployment", DEPLOYMENT)
            .flag("--kubeconfig", home.kubeconfig("kubeconfig", &kubeconfig));
        self.site.on(home, command, "maintainer").flag("--project", PROJECT)
    }

    /// `setup`, with the packages of this place.
    pub fn setup(&self) -> Cli<'_> {
        let packages = self.packages();
        packages
            .into_iter()
            .fold(self.command("setup"), |setup, (key, value)| setup.flag(&format!("--{key}"), value))
    }

    /// The settings that name the packages of this place, as variables.
    pub fn with_packages<'a>(&self, command: Cli<'a>) -> Cli<'a> {
        let packages = self.packages();
        packages.into_iter().fold(command, |command, (key, value)| {
            command.env(&format!("OUTRIGGER_{}", key.to_uppercase().replace('-', "_")), value)
        })
    }

    fn packages(&self) -> [(&'static str, String); 4] {
        [
            ("apt-url", self.apt.apt_url()),
            ("key-url", self.apt.key_url()),
            ("key-fingerprint", self.fingerprint.clone()),
            ("runner-version", VERSION.to_owned()),
        ]
    }

    /// Runs a setup that must go well; returns the script that it has written.
    pub fn script(&self, setup: &Cli<'_>) -> String {
        let _ = setup.run().code(0);
        let text = fs::read_to_string(self.home.script(DEPLOYMENT)).expect("setup has written a script");
        for secret in secrets(&text) {
            self.home.canary(&secret);
        }
        text
    }

    /// Opens the machine's ways: to cluster, GitLab and packages.
    pub fn connect(&self, vm: &Vm) {
        self.apt.serve(vm);
        for url in [self.cluster.url(), self.site.gitlab.url()] {
            vm.network().forward(port_of(&url));
        }
    }

    /// The deployment's runner: its number at GitLab, and the machines that work for it.
    pub fn runner(&self) -> (u64, Vec<String>) {
        let runners = self.site.gitlab.runners();
        let ours = |runner: &&Value| {
            let description = runner["description"].as_str().unwrap_or_default();
            description.starts_with(&format!("{DEPLOYMENT} on "))
        };
        let ours: Vec<&Value> = runners.iter().filter(ours).collect();
        let [runner] = ours[..] else { panic!("one runner was to be there: {runners:#?}") };
        let managers = runner["managers"].as_array().into_iter().flatten();
        let managers = managers.filter_map(|it| it.as_str().map(str::to_owned)).collect();
        (runner["id"].as_u64().expect("a runner has a number"), managers)
    }

    /// The machines that GitLab knows of runners, by the names that these give themselves.
    pub fn managers(&self) -> Vec<Value> {
        let world = self.site.world();
        world.values().filter_map(|value| value["managers"].as_array()).flatten().cloned().collect()
    }
}

/// One of a script's settings, without its quotes.
pub fn setting(script: &str, name: &str) -> Option<String> {
    let begin = format!("{name}='");
    let mut lines = script.lines().map(|line| line.trim_start_matches('\t'));
    lines.find_map(|line| line.strip_prefix(&begin)?.strip_suffix('\'')).map(str::to_owned)
}

/// The two tokens in a script.
pub fn secrets(script: &str) -> Vec<String> {
    ["token", "bearer"].iter().filter_map(|name| setting(script, name)).filter(|it| !it.is_empty()).collect()
}

/// What setup writes beside a script that holds no secrets.
pub struct FileOfSecrets {
    /// Its text.
    pub text: String,
    /// Its mode.
    pub mode: u32,
    /// The tokens in it: the runner's and the cluster's.
    pub tokens: [String; 2],
}

/// Reads it, and sees to it that no run shows what is in it.
pub fn file_of_secrets(home: &Home) -> FileOfSecrets {
    let path = home.script(DEPLOYMENT).with_extension("sh.secrets");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tokens = ["runner_token=", "bearer_token="].map(|begin| {
        let line = text.lines().find_map(|line| line.strip_prefix(begin));
        line.unwrap_or_else(|| panic!("no {begin} in {}", path.display())).to_owned()
    });
    for token in &tokens {
        home.canary(token);
    }
    let mode = fs::metadata(&path).expect("it was just read").permissions().mode() & 0o7777;
    FileOfSecrets { text, mode, tokens }
}

/// The entries of a machine's config.toml.
pub fn entries(vm: &Vm) -> Vec<toml::Value> {
    let text = vm.read("/etc/gitlab-runner/config.toml").unwrap_or_else(|| panic!("{}", vm.evidence()));
    let config: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    config.get("runners").and_then(toml::Value::as_array).cloned().unwrap_or_default()
}
