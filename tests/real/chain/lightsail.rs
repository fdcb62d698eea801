//! One command from nothing to the article's job on a VM that it makes, and back. Lightsail's API is the double; the
//! instance behind it is a Debian that boots, with its own sshd, firewall and host keys.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outrigger_doubles::gitlab::PROJECT;
use outrigger_doubles::lightsail::{ACCOUNT, FakeLightsail, Hardware as _, Options};

use super::Chain;
use super::common::bed::{Bed as _, User};
use super::common::run::{Cli, Home};
use super::common::site::Site;
use super::common::world::{assert_same, world};
use super::control_plane::ControlPlane;
use super::runners::NEWER;
use super::vm::beds::VERSION;
use super::vm::lightsail::{self as machines, Instances, Sshd};
use super::vm::net::port_of;
use super::vm::roots::Root;
use super::vm::run;

const CONFIG: &str = "/etc/gitlab-runner/config.toml";
/// Longer than a request for a job may be open.
const LATER: Duration = Duration::from_secs(90);
const PATIENCE: Duration = Duration::from_secs(120);

/// A deployment of somebody with an AWS account.
struct Account<'a> {
    plane: &'a ControlPlane,
    home: &'a Home,
    site: &'a Site,
    deployment: &'a str,
    aws: FakeLightsail,
    /// AWS's file of credentials.
    file: PathBuf,
}

impl<'a> Account<'a> {
    fn new(
        plane: &'a ControlPlane,
        home: &'a Home,
        site: &'a Site,
        deployment: &'a str,
        hardware: Arc<Instances>,
    ) -> Self {
        let aws = FakeLightsail::start(Options { hardware, ..Options::default() });
        let key = aws.key("admin");
        home.canary(&key.secret);
        let text =
            format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", key.id, key.secret);
        let file = home.input("aws", &text);
        Self { plane, home, site, deployment, aws, file }
    }

    fn command(&self, name: &str) -> Cli<'_> {
        let kubeconfig = self.home.kubeconfig("kubeconfig", &self.plane.kubeconfig(User::Binder));
        let command = self
            .home
            .outrigger(name)
            .arg("--non-interactive")
            .flag("--deployment", self.deployment)
            .flag("--kubeconfig", kubeconfig)
            .env("AWS_SHARED_CREDENTIALS_FILE", &self.file)
            .env("AWS_REGION", self.aws.region())
            .env("AWS_ENDPOINT_URL", self.aws.url());
        self.site.on(self.home, command, "maintainer")
    }
}

/// Debian 12.
pub fn one_command_on_bookworm(chain: &Chain) {
    one_command(chain, Root::Bookworm, "debian_12");
}

fn one_command(chain: &Chain, root: Root, image: &str) {
    let (plane, beds) = (&chain.cluster.plane, &chain.beds);
    let (home, site, apt) = (Home::new(), Site::new(), beds.apt());
    let deployment = plane.fresh_deployment();
    let name = format!("{deployment}-vm");
    let before = (world(plane.admin()), site.world());
    let ports = [port_of(&plane.url()), port_of(&site.gitlab.url())];
    let options = machines::Options { root, ..machines::Options::default() };
    let instances = Arc::new(Instances::new(beds, options, move |network| {
        for port in ports {
            network.forward(port);
        }
    }));
    let hardware = Arc::clone(&instances);
    let account = Account::new(plane, &home, &site, &deployment, hardware);
    let (aws, command) = (&account.aws, |name: &str| account.command(name));
    let setup = command("setup")
        .flag("--project", PROJECT)
        .flag("--apt-url", apt.apt_url())
        .flag("--key-url", apt.key_url())
        .flag("--key-fingerprint", &*beds.repository.key.fingerprint)
        .flag("--runner-version", VERSION)
        .flag("--pull-policy", "if-not-present")
        .arg("--create-vm")
        .flag("--vm-image", image)
        .flag("--ssh-from", "127.0.0.1/32")
        // The cluster of the test is on loopback.
        .flag("--accept", "unreachable-endpoint")
        .args(["--commit-pipeline", "--run-pipeline"])
        .flag("--wait", "20m");
    let mut running = setup.start();
    let made = std::time::Instant::now();
    let vm = loop {
        assert!(!running.poll(), "it ended before there was a machine\n{}", running.wait());
        assert!(made.elapsed() < PATIENCE, "no machine is made");
        if let Some(vm) = instances.vm(&name) {
            break vm;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    apt.serve(&vm);
    let watch = vm.watch(&["glrt-", "eyJhbGciOi"]);
    vm.wait("the end of setup", || running.poll());
    let output = running.wait();
    let seen = watch.end();
    // gitlab-runner has its own token in its environment for jobs alone.
    let shown: Vec<_> = seen.iter().filter(|line| !line.starts_with("gitlab-runner,")).collect();
    assert!(shown.is_empty(), "processes show a secret: {shown:?}");
    let told = || vm.read(&format!("/var/log/outrigger-{deployment}.log")).unwrap_or_else(|| vm.journal());
    assert!(output.code == Some(0), "{output}\n{}", told());
    let output = output.says("hello world!").says("Job succeeded").says("port 22 closed");
    let _ = output.says(&format!("Running with gitlab-runner {VERSION}"));

    // No token anywhere but in config.toml, and none on its way to AWS; nothing is open.
    let config = vm.read(CONFIG).expect("an entry");
    let token = |key: &str| {
        let line = config.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_else(|| panic!("no {key}")).trim_matches('"').to_owned()
    };
    let tokens = [token("token"), token("bearer_token")];
    for token in &tokens {
        home.canary(token);
    }
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let found = vm.files_with(&words);
    assert!(found.iter().all(|(path, _)| path == CONFIG), "{found:?}");
    assert!(!vm.journal().contains(words[0]) && !vm.journal().contains(words[1]));
    for asked in aws.requests() {
        let text = asked.members.to_string();
        assert!(words.iter().all(|word| !text.contains(word)), "{}: {text}", asked.operation);
        assert!(asked.members["userData"].is_null(), "{text}");
    }
    let address = instances.address(&name).expect("it has an address");
    let knock = || TcpStream::connect_timeout(&SocketAddr::from((address, 22)), Duration::from_secs(5));
    assert!(knock().is_err(), "port 22 is closed");
    let _ = command("setup").run().code(0).says("Nothing to change");
    let _ = command("status").run().code(0).says("no open port, ");

    // New tokens, and another version: the port is open only meanwhile.
    let from = "127.0.0.1/32";
    let rotate = command("rotate").arg("all").flag("--ssh-from", from);
    let mut running = rotate.start();
    vm.wait("the delivery", || running.has_said("ran on ") || running.poll());
    site.gitlab.advance(LATER);
    vm.wait("the end of the rotation", || running.poll());
    let _ = running.wait().code(0).says("the old token gets 401").says("port 22 closed");
    assert!(knock().is_err(), "port 22 is closed after the rotation");
    let upgrade = command("upgrade").flag("--runner-version", NEWER).flag("--ssh-from", from);
    let _ =
        upgrade.run().code(0).says(&format!("gitlab-runner {NEWER} runs on {name}")).says("port 22 closed");
    assert!(knock().is_err(), "port 22 is closed after the upgrade");
    let inside = command("status").args(["--machine", "-v"]).flag("--ssh-from", from);
    let _ =
        inside.run().code(0).says(&format!("gitlab-runner {NEWER}, service active")).says("port 22 closed");
    assert!(knock().is_err(), "port 22 is closed after the look");

    let group = vm.group();
    drop(vm);
    let _ = command("teardown").arg("--yes").arg("--revert-pipeline").run().code(0).says("read back: gone");
    assert_eq!(run::traces(&group), Vec::<String>::new());
    let left = aws.snapshot()[ACCOUNT][aws.region()].clone();
    let left = left.as_object().map(|all| all.values().filter(|one| one["type"] != "KeyPair").count());
    assert_eq!(left.unwrap_or_default(), 0, "{}", aws.snapshot());
    assert_same("after teardown", &before.0, &world(plane.admin()));
    assert!(
        !site.world().iter().any(|(key, value)| key.contains("runner") && before.1.get(key) != Some(value))
    );
    assert!(!home.state().join(format!("{deployment}.json")).exists(), "the record is still there");
}

/// Another machine answers in the VM's place: no session is opened there, and nothing stays open.
pub fn another_machine_answers(chain: &Chain) {
    let (plane, beds) = (&chain.cluster.plane, &chain.beds);
    let (home, site) = (Home::new(), Site::new());
    let deployment = plane.fresh_deployment();
    let name = format!("{deployment}-vm");
    let options = machines::Options { sshd: Sshd::OtherKeys, ..machines::Options::default() };
    let instances = Arc::new(Instances::new(beds, options, |_| ()));
    let hardware = Arc::clone(&instances);
    let account = Account::new(plane, &home, &site, &deployment, hardware);
    let command = |name: &str| account.command(name);
    let setup =
        command("setup").flag("--project", PROJECT).arg("--create-vm").flag("--vm-image", "debian_12");
    let output = setup.flag("--accept", "unreachable-endpoint").run().code(9).says("OR0913");
    let _ = output.says("another host key than AWS has seen").says("port 22 closed");
    let vm = instances.vm(&name).expect("it was made");
    assert_eq!(vm.logins(), 0, "{}", vm.sshd_log());
    let address = instances.address(&name).expect("it has an address");
    assert!(TcpStream::connect_timeout(&SocketAddr::from((address, 22)), Duration::from_secs(5)).is_err());
    drop(vm);
    let _ = command("teardown").arg("--yes").run().code(0).says("read back: gone");
}
