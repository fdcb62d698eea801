//! New tokens for a host over SSH: each takes the place of the old one in the entry, and nothing else changes there.

use std::time::Duration;

use outrigger_doubles::gitlab::{Action, Fault};

use super::super::common::admin::Admin;
use super::super::common::bed;
use super::super::common::run::{Cli, Home, Output};
use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::roots::Root;
use super::super::vm::ssh::{self, Ssh, User};
use super::look::{CONFIG, Stamp, asks, log, process, stamp};
use super::over_ssh::{again, path, setup};
use super::place::{DEPLOYMENT, Place, entries};
use super::uninstall::{THEIRS, differences, install_theirs, list_with_theirs};

/// Longer than a request for a job may be open.
const LATER: Duration = Duration::from_secs(90);

/// A host that has somebody's runner, and what is to stay as it is there.
struct Host<'a> {
    place: &'a Place,
    vm: &'a Vm,
    ssh: &'a Ssh<'a>,
    /// The process of the service.
    process: String,
    /// The tokens in our entry: the runner's and the cluster's.
    tokens: [String; 2],
    config: Stamp,
}

/// The tokens in our entry, which comes after theirs.
fn tokens(place: &Place, vm: &Vm) -> [String; 2] {
    let entry = &entries(vm)[1];
    let tokens = [entry["token"].as_str(), entry["kubernetes"]["bearer_token"].as_str()];
    tokens.map(|token| {
        let token = token.expect("an entry has both tokens");
        place.home.canary(token);
        token.to_owned()
    })
}

impl<'a> Host<'a> {
    fn new(place: &'a Place, vm: &'a Vm, ssh: &'a Ssh<'a>) -> Self {
        Self { place, vm, ssh, process: process(vm), tokens: tokens(place, vm), config: stamp(vm, CONFIG) }
    }

    /// Only the tokens at these places are new; the old ones are nowhere.
    fn has_new(&mut self, which: &[usize]) {
        let new = tokens(self.place, self.vm);
        let config = stamp(self.vm, CONFIG);
        let mut expected = self.config.text.clone();
        for (at, (old, new)) in self.tokens.iter().zip(&new).enumerate() {
            assert_eq!(old != new, which.contains(&at), "token {at}");
            expected = expected.replace(old, new);
        }
        assert_eq!(config.text, expected);
        assert!(config.text.starts_with(THEIRS));
        assert_eq!((config.owner, config.mode), (self.config.owner, self.config.mode));
        assert_eq!(process(self.vm), self.process, "the service is not restarted");
        let ours: Vec<&str> = new.iter().map(String::as_str).collect();
        let holders: Vec<_> = self.vm.files_with(&ours).into_iter().map(|(path, _)| path).collect();
        assert_eq!(holders, [CONFIG]);
        let old: Vec<&str> = which.iter().map(|&at| self.tokens[at].as_str()).collect();
        assert_eq!(self.vm.files_with(&old), []);
        for text in [self.vm.journal(), log(self.vm), self.ssh.log()] {
            assert!(old.iter().chain(&ours).all(|word| !text.contains(word)), "a token is shown");
        }
        assert_eq!(in_run(self.vm), "");
        (self.tokens, self.config) = (new, config);
        let (number, _) = self.place.runner();
        asks(self.vm, self.place, number, &self.tokens[0]);
    }
}

/// What deliveries have left.
fn in_run(vm: &Vm) -> String {
    vm.sh("ls -A /run | grep '^outrigger-' | grep -v 'lock$' || true")
}

/// The Secrets of the cluster token.
fn secrets(place: &Place) -> usize {
    let admin = Admin::new(&place.cluster.kubeconfig(bed::User::Admin.name()));
    admin.list(&format!("/api/v1/namespaces/{DEPLOYMENT}/secrets")).len()
}

/// Runs a rotation of the cluster token to its end. GitLab's clock goes forward when the host has the new one.
fn rotate_cluster(place: &Place, command: &Cli<'_>) -> Output {
    let mut running = command.start();
    while !running.poll() {
        if running.has_said("ran on ") {
            place.site.gitlab.advance(LATER);
            std::thread::sleep(Duration::from_millis(500));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    running.wait().code(0).says("the old token gets 401")
}

/// So many seconds pass on the machine's clock since its start.
fn pass(vm: &Vm, seconds: u32) {
    vm.sh(&format!(
        "read up _ </proc/uptime; echo \"$((${{up%.*}} + {seconds})).00 0.00\" >/tmp/uptime; \
         mount --bind /tmp/uptime /proc/uptime"
    ));
}

/// A command from another home, on the machine that it knows.
fn again_from<'a>(place: &Place, from: &'a Home, name: &str, home: &ssh::Home) -> Cli<'a> {
    place.with_packages(place.command_from(from, name)).env("PATH", path(home))
}

/// Each token, on a host that has somebody's runner; and two outriggers, of which one has reserved it.
pub fn tokens_of_a_host(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Trixie);
    place.connect(&vm);
    let ssh = vm.ssh();
    let home = ssh.home(User::Sudo, "");
    install_theirs(beds, &place, &vm);
    let before = list_with_theirs(&vm);
    let _ = setup(&place, &home).run().code(0).says("GitLab has seen runner");
    let mut host = Host::new(&place, &vm, &ssh);
    let rotate = |which: &str| again(&place, "rotate", &home).arg(which);
    let watch = vm.watch(&["glrt-", "eyJhbGciOi"]);

    let _ = rotate_cluster(&place, &rotate("cluster"));
    host.has_new(&[1]);
    assert_eq!(secrets(&place), 1);

    // The host is reserved, and GitLab refuses: the old token is good.
    let refusal = Action::Status(403, String::new(), "403 Forbidden".to_owned());
    place.site.gitlab.inject(Fault::once("POST", "/reset_authentication_token", refusal));
    let _ = rotate("runner").run().code(4);
    assert_eq!(in_run(&vm), format!("outrigger-{DEPLOYMENT}.hold"));
    // Somebody else's turn comes when the reservation has ended.
    let elsewhere = Home::new();
    let other = |name: &str| again_from(&place, &elsewhere, name, &home);
    let theirs = other("rotate").arg("cluster").flag("--host", home.target());
    for seconds in [0, 200] {
        pass(&vm, seconds);
        let _ = theirs.run().code(6).says("OR0602");
        assert_eq!(stamp(&vm, CONFIG), host.config);
    }
    pass(&vm, 120);
    let _ = rotate_cluster(&place, &theirs);
    vm.sh("while umount /proc/uptime 2>/dev/null; do :; done");
    host.has_new(&[1]);

    // The first one's record is of no use after that. The other goes on.
    let _ = rotate("runner").run().code(7).says("reissued from another machine");
    let _ = other("rotate").arg("runner").run().code(0).says("GitLab has seen runner");
    host.has_new(&[0]);
    assert_eq!(secrets(&place), 1);
    let seen = watch.end();
    let shown = seen.iter().filter(|line| !line.starts_with("gitlab-runner,")).count();
    assert_eq!(shown, 0, "processes show a secret: {seen:?}");

    // Nothing is left to do, and the way back is what it was.
    let _ = other("setup").run().code(0).says("Nothing to change");
    assert_eq!(stamp(&vm, CONFIG), host.config);
    let _ = other("teardown").arg("--yes").run().code(0).says("undone on");
    assert_eq!(vm.read(CONFIG).as_deref(), Some(THEIRS));
    let mut after = differences(&before, &list_with_theirs(&vm));
    // sudo's own mark, at its first use.
    after.retain(|line| !line.ends_with("/.sudo_as_admin_successful"));
    assert!(after.is_empty(), "{after:#?}");
}
