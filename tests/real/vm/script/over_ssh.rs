//! The launch script through `setup --host`: the real `ssh`, a real sshd, the real package's behaviour.

use std::time::{Duration, Instant};

use super::super::common::run::{Cli, Running, SOON};
use super::super::runners::NEWER;
use super::super::vm::Vm;
use super::super::vm::beds::{BROKEN, Beds, VERSION};
use super::super::vm::roots::Root;
use super::super::vm::ssh::{Home, Ssh, User};
use super::host::{PIPELINE, USUAL, belongings, host};
use super::look::{CONFIG, job, log, process, stamp, start_job};
use super::place::{DEPLOYMENT, Place, entries};
use super::uninstall::{LIST, differences};

/// `setup` on the machine, as a user whose home is this one.
pub fn setup<'a>(place: &'a Place, home: &Home) -> Cli<'a> {
    on(place.setup(), home)
}

/// A command on the machine.
fn on<'a>(command: Cli<'a>, home: &Home) -> Cli<'a> {
    command.flag("--host", home.target()).env("PATH", path(home))
}

/// The host is recorded: only ssh has to be found.
pub fn again<'a>(place: &'a Place, subcommand: &str, home: &Home) -> Cli<'a> {
    place.command(subcommand).env("PATH", path(home))
}

pub fn path(home: &Home) -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin", home.bin().display())
}

/// The tokens in our entry.
fn tokens(vm: &Vm) -> Vec<String> {
    let entry = &entries(vm)[0];
    let bearer = entry["kubernetes"]["bearer_token"].as_str();
    [entry["token"].as_str(), bearer].map(|token| token.expect("an entry has both tokens").to_owned()).into()
}

/// Tokens are in config.toml alone, and nothing of the delivery is left.
fn assert_clean(vm: &Vm, ssh: &Ssh<'_>) {
    let tokens = tokens(vm);
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let files: Vec<_> = vm.files_with(&words).into_iter().map(|(path, _)| path).collect();
    assert_eq!(files, [CONFIG]);
    for text in [vm.journal(), log(vm), ssh.log()] {
        assert!(words.iter().all(|word| !text.contains(word)), "a token is shown");
    }
    assert_eq!(vm.sh("ls /run | grep '^outrigger-' | grep -v lock || true"), "");
}

/// A bare host, there and back. `user` is root or may use sudo.
fn there_and_back(beds: &Beds, root: Root, user: User) {
    let place = Place::new(beds);
    let vm = beds.vm(root);
    place.connect(&vm);
    vm.boot_idle();
    let ssh = vm.ssh();
    let home = ssh.hostile(user);
    vm.write("/root/list.sh", LIST);
    let before = vm.sh("sh /root/list.sh");
    let watch = vm.watch(&["glrt-", "eyJhbGciOi"]);
    let output = setup(&place, &home).run().code(0).says("the service is running");
    let _ = output.says("GitLab has seen runner").says("its files are removed from this disk");
    let seen = watch.end();
    let shown = seen.iter().filter(|line| !line.starts_with("gitlab-runner,")).count();
    assert_eq!(shown, 0, "processes show a secret: {seen:?}");
    assert_clean(&vm, &ssh);
    assert!(!place.home.script(DEPLOYMENT).exists());
    assert_eq!(place.runner().1.len(), 1);
    // Nothing that the user's configuration adds has had an effect.
    for name in ["proxy-command", "local-command"] {
        assert!(!ssh.folder().join(name).exists(), "{name}");
    }
    assert_eq!(vm.read("/tmp/remote-command"), None);
    // A second run looks, and changes nothing.
    let (entry, sessions) = (vm.read(CONFIG), ssh.sessions());
    let _ = again(&place, "setup", &home).run().code(0).says("Nothing to change");
    let _ = again(&place, "status", &home)
        .arg("-v")
        .run()
        .code(0)
        .says(&format!("gitlab-runner {VERSION}, service active"));
    assert_eq!((vm.read(CONFIG), ssh.sessions()), (entry, sessions + 2));
    // And back.
    let _ = again(&place, "teardown", &home).arg("--yes").run().code(0).says("undone on");
    let mut after = differences(&before, &vm.sh("sh /root/list.sh"));
    // sudo's own mark, at its first use.
    after.retain(|line| !line.ends_with("/.sudo_as_admin_successful"));
    assert!(after.is_empty(), "{after:#?}");
}

pub fn bookworm(beds: &Beds) {
    there_and_back(beds, Root::Bookworm, User::Root);
}

pub fn trixie(beds: &Beds) {
    there_and_back(beds, Root::Trixie, User::Sudo);
}

/// What keeps outrigger out stops it before anything is made, and before a byte of the script is sent.
pub fn kept_out(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let ssh = vm.ssh();
    let made = place.cluster.requests().len();
    for (user, says) in [(User::SudoWithPassword, "OR0425"), (User::Plain, "OR0425")] {
        let _ = setup(&place, &ssh.home(user, "")).run().code(4).says(says);
    }
    let home = ssh.home(User::Root, "");
    ssh.stop();
    let _ = setup(&place, &home).run().code(8).says("OR0807").says("Connection refused");
    ssh.start();
    // Another key than the known one: nothing is said to it.
    let sessions = ssh.sessions();
    ssh.replace_host_keys();
    let _ = setup(&place, &ssh.hostile(User::Root)).run().code(9).says("OR0913");
    assert_eq!(ssh.sessions(), sessions, "{}", ssh.log());
    // The right one by flag, whatever is in known_hosts.
    let keys = ssh.host_keys();
    let preflight = on(place.command("preflight"), &home);
    let wrong = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let _ = preflight.clone().flag("--host-key", wrong).run().code(9).says("OR0913");
    assert_eq!(ssh.sessions(), sessions);
    let _ = preflight.flag("--host-key", &*keys[0]).run().code(0);
    let writes =
        place.cluster.requests().into_iter().skip(made).filter(|request| request.method == "PATCH").count();
    assert_eq!(writes, 0, "nothing was made");
}

fn until(running: &mut Running<'_>, text: &str) {
    let begun = Instant::now();
    while !running.has_said(text) {
        assert!(begun.elapsed() < SOON, "it does not say {text:?}");
        assert!(!running.poll(), "it ended without {text:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A line that is cut, sshd that is restarted, outrigger that is killed: the script goes on, and is followed.
pub fn cut(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let ssh = vm.ssh();
    let home = ssh.home(User::Root, "");
    let command = setup(&place, &home);
    let mut running = command.start();
    until(&mut running, "log in /var/log");
    ssh.entrance().cut();
    ssh.restart();
    let _ = running.kill();
    // The script is found running by the same command.
    let output = setup(&place, &home).run().code(0);
    let shown = output.stderr();
    assert!(shown.contains("since an earlier run") || shown.contains("Nothing to change"), "{output}");
    assert_eq!(entries(&vm).len(), 1);
    assert_clean(&vm, &ssh);
}

/// An upload that ends early runs nothing. Every place of the program is tried without a machine
/// (`src/machine/ssh/tests.rs`).
pub fn upload(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let ssh = vm.ssh();
    let home = ssh.home(User::Root, "");
    let setup = setup(&place, &home).flag("--wait", "1s");
    let ran = || vm.read("/var/log/outrigger-acme.log").is_some();
    for kilobytes in [15, 30] {
        ssh.entrance().cut_after(kilobytes * 1024);
        let _ = setup.run().code(8).says("OR0807");
        assert!(!ssh.entrance().will_cut(), "the upload is larger than {kilobytes} kB");
        // What has begun would show within this time.
        std::thread::sleep(Duration::from_secs(1));
        assert!(!ran(), "an upload of {kilobytes} kB ran something");
    }
    let _ = setup.run();
    vm.wait("the script", ran);
}

/// A host with somebody's runner, whose job runs meanwhile: there and back, and theirs is as it was.
pub fn beside_a_job(beds: &Beds) {
    let (place, vm, _) = host(beds, Root::Trixie, &USUAL);
    let ssh = vm.ssh();
    let home = ssh.home(User::Sudo, "");
    let id = start_job(&place, PIPELINE);
    vm.wait_file("/tmp/begun");
    let (before, belongs, service) = (stamp(&vm, CONFIG), belongings(&vm), process(&vm));
    let output = setup(&place, &home).run().code(0).says("only our entry will change");
    let _ = output.says("GitLab has seen runner");
    let after = stamp(&vm, CONFIG);
    let ours = after.text.strip_prefix(&before.text).unwrap_or_else(|| panic!("changed:\n{}", after.text));
    assert_eq!(ours.matches("[[runners]]").count(), 1, "{ours}");
    assert_eq!((after.owner, after.mode), (before.owner, before.mode));
    let _ = again(&place, "setup", &home).run().code(0).says("Nothing to change");
    let _ = again(&place, "upgrade", &home).flag("--runner-version", NEWER).run().code(7).says("OR0708");
    let _ = again(&place, "teardown", &home).arg("--yes").run().code(0).says("undone on");
    assert_eq!(stamp(&vm, CONFIG).text, before.text);
    assert_eq!((belongings(&vm), process(&vm)), (belongs, service));
    assert_eq!(job(&place, id)["status"], "running");
    vm.write("/tmp/go-on", "");
    vm.wait("the end of their job", || job(&place, id)["status"] != "running");
    assert_eq!(job(&place, id)["status"], "success", "{}", place.site.gitlab.trace(id));
}

/// Another version, and one that does not start: the one from before is back, with its service and its entry.
pub fn upgrade(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let ssh = vm.ssh();
    let home = ssh.home(User::Root, "");
    let _ = setup(&place, &home).run().code(0);
    let tokens = tokens(&vm);
    let installed = || vm.sh("gitlab-runner --version | sed -n 's/^Version: *//p'").trim().to_owned();
    let paused = || place.site.gitlab.runners()[0]["paused"] == true;
    let upgrade = |version: &str| again(&place, "upgrade", &home).flag("--runner-version", version);
    let output = upgrade(BROKEN).run().code(9).says("OR0915").says("the script says");
    let _ = output.says(&format!("{VERSION} runs there")).says("GitLab has seen");
    assert_eq!((installed().as_str(), paused()), (VERSION, false));
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active");
    let _ =
        upgrade(NEWER).run().code(0).says(&format!("gitlab-runner {NEWER} runs on")).says("GitLab has seen");
    assert_eq!((installed().as_str(), paused()), (NEWER, false));
    assert_eq!(self::tokens(&vm), tokens);
    let _ = again(&place, "setup", &home).run().code(0).says("Nothing to change");
    let _ = again(&place, "status", &home).run().code(0);
    assert_clean(&vm, &ssh);
    // What somebody changes on the host is told.
    let config = vm.read(CONFIG).expect("an entry");
    vm.sh(&format!("sed -i 's/^    image = .*/    image = \"else\"/' {CONFIG}"));
    let _ = again(&place, "status", &home).run().code(10).says("was changed since the script wrote it");
    vm.write(CONFIG, config);
    vm.sh("mkdir -p /etc/systemd/system/gitlab-runner.service.d");
    vm.write("/etc/systemd/system/gitlab-runner.service.d/zz.conf", "[Service]\nNoNewPrivileges=no\n");
    vm.sh("systemctl daemon-reload && systemctl restart gitlab-runner");
    let _ = again(&place, "status", &home).run().code(10).says("is not confined as the script's unit says");
}

/// A host with somebody's runner: its entries stay.
pub fn shared(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Trixie);
    place.connect(&vm);
    let ssh = vm.ssh();
    let home = ssh.home(User::Sudo, "");
    let _ = setup(&place, &home).run().code(0);
    let theirs = "\n[[runners]]\n  name = \"theirs\"\n  url = \"https://gitlab.example\"\n  token = \"x\"\n  executor = \"shell\"\n";
    let config = vm.read(CONFIG).expect("an entry");
    vm.write(CONFIG, format!("{config}{theirs}"));
    let _ = again(&place, "teardown", &home).arg("--yes").run().code(0).says("undone on");
    let left = vm.read(CONFIG).expect("theirs stays");
    assert!(left.contains("name = \"theirs\"") && !left.contains(DEPLOYMENT), "{left}");
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active");
}
