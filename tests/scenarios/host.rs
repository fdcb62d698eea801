//! The launch script on a host over SSH, which [`SshHost`] stands in for.

use std::fs;
use std::path::PathBuf;

use super::Scene;
use crate::common::bed::{Bed, User};
use crate::common::run::{Cli, Running, SOON};
use crate::common::site::Site;
use crate::common::snapshot::fails;
use crate::common::ssh_host::{SSH, SshHost};

/// A scene with a host.
pub struct Host<'a> {
    pub scene: Scene<'a>,
    host: SshHost,
}

impl std::ops::Deref for Host<'_> {
    type Target = SshHost;

    fn deref(&self) -> &SshHost {
        &self.host
    }
}

impl<'a> Host<'a> {
    pub fn new(bed: &'a dyn Bed) -> Self {
        Self { scene: Scene::new(bed, User::Admin), host: SshHost::new() }
    }

    pub fn with<'c>(&self, command: Cli<'c>) -> Cli<'c> {
        command.env("PATH", self.search_path())
    }

    pub fn setup(&self) -> Cli<'_> {
        self.with(self.scene.setup())
            .flag("--host", "admin@vm.test:2222")
            .flag("--ssh-option", "IdentityFile=/a/key")
    }

    pub fn command(&self, name: &str) -> Cli<'_> {
        self.with(self.scene.command(name))
    }

    fn status_file(&self) -> PathBuf {
        self.path(&format!("lib/outrigger/{}.json", self.scene.deployment))
    }
}

pub fn delivered(bed: &dyn Bed) {
    let host = Host::new(bed);
    let scene = &host.scene;
    let output = host.setup().env("GITLAB_TOKEN_OF_OTHERS", "x").run().code(0).says("vm.test | line 5");
    let _ = output.says("ran on admin@vm.test:2222").says("its files are removed from this disk");
    scene.watch_cluster_token();
    // What was sent is the script with its secrets; neither stays here.
    let script = scene.home.script(&scene.deployment);
    assert!(!script.exists() && !script.with_extension("sh.secrets").exists());
    assert!(host.read("got.script").starts_with("#!/bin/sh\n"));
    assert!(host.read("got.secrets").contains("runner_token=glrt-"));
    // Nor in what others see.
    for seen in ["argv", "env"] {
        assert!(
            !host.read(seen).contains("glrt-") && !host.read(seen).contains("eyJ"),
            "{}",
            host.read(seen)
        );
    }
    assert!(!host.read("env").contains("GITLAB_TOKEN"), "{}", host.read("env"));
    let argv = host.read("argv");
    assert!(
        argv.lines()
            .all(|line| line.contains("StrictHostKeyChecking=yes") && line.contains("-- vm.test sh -s")),
        "{argv}"
    );
    assert!(argv.contains("-l admin -p 2222") && argv.contains("IdentityFile=/a/key"), "{argv}");
    // The host is recorded: nothing is to be done, and nothing is sent.
    let calls = argv.lines().count();
    let _ = host.command("setup").run().code(0).says("Nothing to change");
    let _ = host.command("status").arg("-v").run().code(0).says("gitlab-runner 19.4.1, service active");
    assert_eq!(host.read("argv").lines().count(), calls + 2, "a look each");
    let _ = host.scene.home.outrigger("list").run().code(0).says("admin@vm.test:2222");
    // New tokens are not in the digest: a script that was written and not seen to run is sent all the same.
    host.steer("says", "ssh: connect to host vm.test port 2222: No route to host\r\n");
    let later = format!("if [ -e \"$D/says\" ] && [ \"$(wc -l <\"$D/argv\")\" -gt {} ]", calls + 3);
    host.program("bin/ssh", &SSH.replace("if [ -e \"$D/says\" ]", &later));
    let again = host.with(scene.setup()).flag("--reissue", "cluster").flag("--wait", "1s");
    let _ = again.run().code(8).says("OR0807").says("whether it has started there is not known");
    assert!(script.exists());
    host.program("bin/ssh", SSH);
    fs::remove_file(host.path("says")).expect("it was there");
    fs::remove_file(host.path("got.script")).expect("it was there");
    let _ = host.command("setup").run().code(0).says("ran on admin@vm.test:2222");
    assert!(host.path("got.script").exists() && !script.exists());
    // Undone there, too.
    let _ = host.command("teardown").arg("--yes").run().code(0).says("undone on admin@vm.test:2222");
    assert!(!host.status_file().exists());
    assert!(host.read("got.script").contains("outrigger-uninstall-script"));
}

pub fn until(running: &mut Running<'_>, text: &str) {
    let begun = std::time::Instant::now();
    while !running.has_said(text) {
        assert!(begun.elapsed() < SOON, "it does not say {text:?}");
        assert!(!running.poll(), "it ended without {text:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub fn interrupt(running: &Running<'_>) {
    let pid = i32::try_from(running.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
}

/// What ssh refuses stops the run before anything is made.
pub fn refused(bed: &dyn Bed) {
    let host = Host::new(bed);
    bed.mark();
    let says = |words: &str| {
        host.steer("says", words);
        host.setup()
    };
    let strict = "and you have requested strict checking.\r\nHost key verification failed.\r\n";
    says(&format!("No ED25519 host key is known for vm.test {strict}")).fails("OR0351");
    let _ = host.command("preflight").flag("--host", "vm.test").run().code(3).says("OR0351");
    says("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n")
        .fails("OR0913");
    says("admin@vm.test: Permission denied (publickey).\r\n").fails("OR0424");
    says("ssh: connect to host vm.test port 2222: Connection refused\r\n").fails("OR0807");
    says("/home/admin/.ssh/config: line 1: Bad configuration option: x\r\n").fails("OR0353");
    assert_eq!(super::writes(bed).len(), 0, "{}", super::listing(&super::writes(bed)));
    // Without ssh.
    fs::remove_file(host.path("bin/ssh")).expect("it was there");
    let path = host.path("bin").display().to_string();
    host.scene.setup().flag("--host", "vm.test").env("PATH", path).fails("OR0209");
}

/// A login without root rights, and a host without systemd.
pub fn unusable(bed: &dyn Bed) {
    let host = Host::new(bed);
    fs::remove_dir_all(host.path("run/systemd")).expect("it was there");
    let _ = host.setup().fails("OR0352").says("does not run systemd");
    fs::create_dir_all(host.path("run/systemd/system")).expect("a folder");
    host.program("host/id", "#!/bin/sh\ncase $1 in -u) echo 1000 ;; -un) echo admin ;; esac\n");
    host.program("host/sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n");
    let _ = host.setup().fails("OR0425").says("NOPASSWD");
    host.program("host/sudo", "#!/bin/sh\n[ \"$1\" = -n ] || exit 1\nshift\nexec \"$@\"\n");
    let _ = host.setup().run().code(0).says("as root, by sudo of admin");
    assert!(host.read("argv").contains("sudo -n sh -s"));
}

/// The script goes on without the connection, and is followed again.
pub fn cut(bed: &dyn Bed) {
    for lines in ["3", "5", "7", "9"] {
        let host = Host::new(bed);
        // The first connection only looks.
        let setup = host.setup();
        let _ = host.command("preflight").flag("--host", "vm.test").run().code(0);
        host.steer("cut-later", lines);
        let slow = host.read("argv").lines().count();
        host.program("bin/ssh", &SSH.replace("if [ -e \"$D/says\" ]", &format!("[ $(wc -l <\"$D/argv\") -ne {} ] || mv \"$D/cut-later\" \"$D/cut\"\nif [ -e \"$D/says\" ]", slow + 2)));
        let output = setup.run().code(0).says("vm.test | line 5").says("ran on");
        let shown = output.stderr();
        for n in 1..=5 {
            assert_eq!(shown.matches(&format!("line {n}")).count(), 1, "cut after {lines}: {shown}");
        }
    }
}

/// The script's own failure: its step decides the exit code. The same command goes on.
pub fn failed(bed: &dyn Bed) {
    let host = Host::new(bed);
    let fails = |words: &str| {
        host.steer("fails", words);
        host.setup()
    };
    fails("prove-cluster this machine does not reach https://k (a firewall?)").fails("OR0810");
    fails("prove-cluster https://k refuses the token: revoked").fails("OR0914");
    fails("prove-gitlab verify failed: timeout").fails("OR0811");
    let _ = fails("prove-gitlab GitLab refuses the runner's token").run().code(9).says("--reissue runner");
    fails("look a GitLab Runner is here (19.4.1)").fails("OR0708");
    fails("install the disk is full").fails("OR0508");
    // Its files wait here for the next run, and nothing of them is left there.
    assert!(host.scene.home.script(&host.scene.deployment).exists());
    let left = fs::read_dir(host.path("run")).expect("a folder").flatten();
    let left: Vec<_> = left.map(|one| one.file_name().to_string_lossy().into_owned()).collect();
    assert!(left.iter().all(|name| !name.starts_with("outrigger") || name.contains(".lock")), "{left:?}");
    fs::remove_file(host.path("fails")).expect("it was there");
    let _ = host.setup().run().code(0).says("its last run failed in step install").says("ran on");
    assert!(!host.scene.home.script(&host.scene.deployment).exists());
}

/// A run of somebody else's is not disturbed; one that was interrupted is followed.
pub fn running(bed: &dyn Bed) {
    let host = Host::new(bed);
    host.steer("slow", "");
    let setup = host.setup();
    let mut first = setup.start();
    until(&mut first, "begins");
    // Another machine does not know that run.
    let other = host.scene.elsewhere(User::Admin);
    let _ = host.with(other.setup()).flag("--host", "vm.test").fails("OR0602");
    interrupt(&first);
    let _ = first.wait().code(130).says("goes on there by itself");
    let next = host.setup();
    let mut next = next.start();
    until(&mut next, "since an earlier");
    fs::remove_file(host.path("slow")).expect("it was there");
    let _ = next.wait().code(0).says("ran on");
    assert!(!host.scene.home.script(&host.scene.deployment).exists());

    // The same for the script that undoes it.
    host.steer("slow-undo", "");
    let teardown = host.command("teardown").arg("--yes");
    let mut first = teardown.start();
    until(&mut first, "| begins");
    interrupt(&first);
    let _ = first.wait().code(130).says("goes on there by itself");
    let teardown = host.command("teardown").arg("--yes");
    let mut next = teardown.start();
    until(&mut next, "This removes");
    fs::remove_file(host.path("slow-undo")).expect("it was there");
    let _ = next.wait().code(0).says("undone on");
}

/// A host that is gone does not keep the rest of a teardown.
pub fn gone(bed: &dyn Bed) {
    let host = Host::new(bed);
    host.setup().run().code(0);
    host.steer("says", "ssh: connect to host vm.test port 2222: No route to host");
    let output = host.command("teardown").arg("--yes").run().code(8).says("OR0807");
    assert!(bed.admin().get(&host.scene.path("Role")).is_none(), "{}", output.stderr());
    let _ = host.command("teardown").args(["--yes", "--host-gone"]).run().code(0);
    assert!(!host.scene.home.state().join(format!("{}.json", host.scene.deployment)).exists());
}

/// A runner that outrigger created: setup ends when GitLab has seen it from the host.
pub fn in_gitlab(bed: &dyn Bed) {
    let site = Site::new();
    fails("OR0808", |columns| {
        let host = Host::new(bed);
        let scene = &host.scene;
        let setup = host.with(site.project(&scene.home, scene.command("setup"), "maintainer"));
        let output = setup.flag("--host", "vm.test").flag("--wait", "2s").at(columns).run();
        // Not removed before the runner is seen to work.
        assert!(scene.home.script(&scene.deployment).exists());
        let _ = host.command("status").run().code(10).says("no contact yet");
        host.command("teardown").arg("--yes").run().code(0);
        output
    });
    let host = Host::new(bed);
    let scene = &host.scene;
    let setup =
        host.with(site.project(&scene.home, scene.command("setup"), "maintainer")).flag("--host", "vm.test");
    let mut running = setup.start();
    let begun = std::time::Instant::now();
    while host.read("got.secrets").is_empty() {
        assert!(!running.poll() && begun.elapsed() < SOON, "nothing is sent");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let driver = site.boot(&scene.home, &host.path("got.secrets"));
    let _ = running.wait().code(0).says("GitLab has seen runner");
    assert!(!scene.home.script(&scene.deployment).exists());
    let _ = host.command("status").run().code(0);
    drop(driver);
}

/// The host was installed again: the script is not on this disk any more.
pub fn installed_again(bed: &dyn Bed) {
    let host = Host::new(bed);
    host.setup().run().code(0);
    fs::remove_dir_all(host.path("lib/outrigger")).expect("it was there");
    let _ = host.command("status").run().code(10);
    // A given runner's token is in the user's file.
    let _ = host.setup().run().code(0).says("ran on");
    let _ = host.command("status").run().code(0);
}
