//! What a launch script is made from and runs against: a cluster, a GitLab and a server of packages.

use std::fs;

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
        let kubeconfig = self.cluster.kubeconfig(User::Admin.name());
        let command = self
            .home
            .outrigger(subcommand)
            .arg("--non-interactive")
            .flag("--deployment", DEPLOYMENT)
            .flag("--kubeconfig", self.home.kubeconfig("kubeconfig", &kubeconfig));
        self.site.on(&self.home, command, "maintainer").flag("--project", PROJECT)
    }

    /// `setup`, with the packages of this place.
    pub fn setup(&self) -> Cli<'_> {
        self.command("setup")
            .flag("--apt-url", self.apt.apt_url())
            .flag("--key-url", self.apt.key_url())
            .flag("--key-fingerprint", &*self.fingerprint)
            .flag("--runner-version", VERSION)
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

    /// The managers of the deployment's runner that GitLab knows.
    pub fn managers(&self) -> Vec<Value> {
        let world = self.site.world();
        let managers = world.iter().filter(|(name, _)| name.contains("manager"));
        managers.map(|(_, value)| value.clone()).collect()
    }
}

/// One of a script's settings, without its quotes.
pub fn setting(script: &str, name: &str) -> Option<String> {
    let begin = format!("\t{name}='");
    script.lines().find_map(|line| line.strip_prefix(&begin)?.strip_suffix('\'')).map(str::to_owned)
}

/// The two tokens in a script.
pub fn secrets(script: &str) -> Vec<String> {
    ["token", "bearer"].iter().filter_map(|name| setting(script, name)).filter(|it| !it.is_empty()).collect()
}

/// The entries of a machine's config.toml.
pub fn entries(vm: &Vm) -> Vec<toml::Value> {
    let text = vm.read("/etc/gitlab-runner/config.toml").unwrap_or_else(|| panic!("{}", vm.evidence()));
    let config: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    config.get("runners").and_then(toml::Value::as_array).cloned().unwrap_or_default()
}
