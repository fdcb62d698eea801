//! The system's `ssh` against Debian's sshd, and the way between them.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::roots::Root;
use super::super::vm::ssh::{PASSWORD, Ssh, SshAccess, User, finish, output};

/// What `ssh` returns when it fails itself.
const FAILED: Option<i32> = Some(255);

/// A command's exit code, stdout and stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn expected(code: i32, stdout: &str, stderr: &str) -> (Option<i32>, String, String) {
    (Some(code), stdout.to_owned(), stderr.to_owned())
}

/// Everybody logs in as who he is, and sudo treats each as it should. Every session is counted.
fn lets_in(beds: &Beds, root: Root) {
    let vm = beds.vm(root);
    let ssh = vm.ssh();
    assert_eq!((ssh.logins(), ssh.sessions()), (0, 0), "{}", ssh.log());
    for user in User::ALL {
        let access = ssh.access(user);
        let own = format!("{}\n", user.name());
        let remote = access.run("id -un; echo wrong >&2; exit 7");
        assert_eq!(said(&remote), expected(7, &own, "wrong\n"), "{}", ssh.log());
        let without = said(&access.run("sudo -n id -un"));
        let with = output(access.ssh(&[]).arg("sudo -k -S -p '' id -un"), format!("{PASSWORD}\n").as_bytes());
        // A service of the system's, as one starts that is to outlive its session.
        let service = said(&access.run("sudo -n systemd-run --wait --pipe --quiet id -un"));
        if matches!(user, User::Root | User::Sudo) {
            assert_eq!(without, expected(0, "root\n", ""), "{user:?}");
            assert_eq!(service, expected(0, "root\n", ""), "{user:?}");
        } else {
            let refused = expected(1, "", "sudo: a password is required\n");
            assert_eq!((&without, &service), (&refused, &refused), "{user:?}");
        }
        let root = with.status.success() && with.stdout == b"root\n";
        assert_eq!(root, user != User::Plain, "{user:?}: {with:?}");
    }
    assert_eq!((ssh.logins(), ssh.sessions()), (16, 16), "{}", ssh.log());
    assert_eq!(ssh.entrance().connections(), 16);
}

/// See above.
pub fn lets_in_on_bookworm(beds: &Beds) {
    lets_in(beds, Root::Bookworm);
}

/// See above.
pub fn lets_in_on_trixie(beds: &Beds) {
    lets_in(beds, Root::Trixie);
}

/// What `ssh` says when it fails itself, with the words of OpenSSH that a caller can rely on.
fn fails(beds: &Beds, root: Root) {
    let vm = beds.vm(root);
    let ssh = vm.ssh();
    let access = ssh.access(User::Root);
    let fails = |access: &SshAccess, options: &[&str], end: &str| {
        let (code, stdout, stderr) = said(&output(access.ssh(options).arg("cat"), b"a program"));
        assert_eq!((code, &*stdout), (FAILED, ""), "{stderr}");
        assert!(stderr.ends_with(end), "{stderr:?} is not {end:?}");
    };
    let at = format!("{} port {}", access.address, access.port);

    let unknown = SshAccess { known_hosts: ssh.folder().join("nobody-is-known"), ..access.clone() };
    fails(&unknown, &[], "you have requested strict checking.\nHost key verification failed.\n");
    let stranger = SshAccess { key: ssh.new_key("stranger"), ..access.clone() };
    fails(&stranger, &[], ": Permission denied (publickey,password).\n");
    ssh.replace_host_keys();
    fails(&access, &[], "you have requested strict checking.\nHost key verification failed.\n");
    fails(
        &access,
        &["LogLevel=ERROR"],
        "you have requested strict checking.\nHost key verification failed.\n",
    );
    ssh.trust();
    assert_eq!((ssh.logins(), ssh.sessions()), (0, 0), "{}", ssh.log());

    let led = ssh.entrance().connections();
    ssh.stop();
    fails(&access, &[], &format!("ssh: connect to host {at}: Connection refused\n"));
    ssh.entrance().swallow();
    fails(&access, &["ConnectTimeout=1"], &format!("ssh: connect to host {at}: Connection timed out\n"));
    ssh.entrance().silence();
    fails(&access, &["ConnectTimeout=1"], &format!("Connection to {at} timed out\n"));
    assert_eq!(ssh.entrance().connections(), led);
    ssh.start();
    assert_eq!(said(&output(access.ssh(&[]).arg("cat"), b"a program")), expected(0, "a program", ""));
    assert_eq!((ssh.logins(), ssh.sessions()), (1, 1), "{}", ssh.log());
}

/// See above.
pub fn fails_on_bookworm(beds: &Beds) {
    fails(beds, Root::Bookworm);
}

/// See above.
pub fn fails_on_trixie(beds: &Beds) {
    fails(beds, Root::Trixie);
}

/// Starts a remote command and waits until it has made a file.
fn begin(vm: &Vm, access: &SshAccess, options: &[&str], command: &str) -> Child {
    vm.sh("rm -f /tmp/begun");
    let child = access
        .ssh(options)
        .arg(format!("touch /tmp/begun; {command}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ssh starts");
    vm.wait_file("/tmp/begun");
    child
}

/// A connection that is cut ends the client and what hangs on it, but not what was detached; and the way
/// is open again for the next.
pub fn cuts(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    let ssh = vm.ssh();
    let access = ssh.access(User::Root);
    let entrance = ssh.entrance();
    let detached = "setsid sh -c 'while [ ! -e /tmp/go-on ]; do sleep 0.1; done; touch /tmp/end' \
                    </dev/null >/dev/null 2>&1 &";
    let client =
        begin(&vm, &access, &[], &format!("{detached} while echo on; do sleep 0.1; done; touch /tmp/no"));
    assert_eq!(entrance.connected(), 1);
    entrance.cut();
    let (code, _, stderr) = said(&finish(client));
    assert_eq!(
        (code, &*stderr),
        (FAILED, &*format!("Connection to {} closed by remote host.\n", access.address))
    );
    vm.wait("the end of the connection", || entrance.connected() == 0);
    assert_eq!(access.run("touch /tmp/go-on").status.code(), Some(0), "the next gets through");
    vm.wait_file("/tmp/end");
    let writes = || vm.processes().iter().any(|process| process.argv.join(" ").contains("echo on"));
    vm.wait("the end of what writes to the client", || !writes());
    assert!(!vm.path("/tmp/no").exists(), "what writes to the client is ended where it is");

    // In the middle of its input a command finds the input's end, as if that were all, and goes on.
    let mut client = begin(&vm, &access, &[], "cat >/tmp/upload; touch /tmp/uploaded");
    entrance.cut_after(1 << 20);
    assert!(entrance.will_cut());
    let _ = client.stdin.take().expect("it is piped").write_all(&vec![b'x'; 4 << 20]);
    let upload = finish(client);
    assert_eq!(upload.status.code(), FAILED, "{upload:?}");
    assert!(!entrance.will_cut());
    vm.wait_file("/tmp/uploaded");
    let size = vm.path("/tmp/upload").metadata().map_or(0, |file| file.len());
    assert!(size <= 1 << 20, "{size}");
    assert_eq!(access.run("cat >/tmp/upload").status.code(), Some(0), "only one connection is cut");

    let options = ["ServerAliveInterval=1", "ServerAliveCountMax=2"];
    let client = begin(&vm, &access, &options, "while echo on; do sleep 0.1; done");
    entrance.freeze(true);
    let (code, _, stderr) = said(&finish(client));
    assert_eq!((code, &*stderr), (FAILED, &*format!("Timeout, server {} not responding.\n", access.address)));
    entrance.freeze(false);

    let client = begin(&vm, &access, &[], "sleep 300");
    entrance.close();
    assert_eq!(finish(client).status.code(), FAILED);
    assert_eq!(access.run("true").status.code(), FAILED, "nobody is let in");
    let led = entrance.connections();
    entrance.open();
    assert_eq!(access.run("true").status.code(), Some(0), "everybody is let in again");
    assert_eq!((led, entrance.connections()), (6, 7));
}

/// The address of a port is its own, and stays; a port that this side uses itself gets another number.
pub fn has_an_address_of_its_own(beds: &Beds) {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").expect("a port is free");
    let port = taken.local_addr().expect("a bound socket has an address").port();
    let vms = [beds.vm(Root::Bookworm), beds.vm(Root::Bookworm)];
    let [one, other] = vms.each_ref().map(|vm| vm.network().enter(22));
    assert_ne!(one.address().ip(), other.address().ip());
    let aside = vms[0].network().enter(port);
    assert!(aside.address().port() != port && aside.address().ip() != one.address().ip());
    let address = one.address();
    one.close();
    one.open();
    assert_eq!(one.address(), address);
}

/// A home's own configuration does what it says, so that a caller who is not harmed by it has done
/// something for that.
pub fn reads_a_hostile_home(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    let ssh = vm.ssh();
    let home = ssh.hostile(User::Root);
    let made = |name: &str| fs::exists(ssh.folder().join(name)).expect("the folder is ours");
    let run = |command: &mut Command| said(&output(command, b""));

    let refused = run(home.ssh().args([home.target(), "true"]));
    assert_eq!(refused, expected(255, "", "Cannot execute command-line and remote command.\n"));
    let remote = run(home.ssh().arg(home.target()));
    assert!(remote.0 == Some(0) && vm.path("/tmp/remote-command").exists(), "{remote:?}");
    assert!(made("local-command"), "LocalCommand was not run");
    let elsewhere = run(home.ssh().args(["-o", "RemoteCommand=none", "elsewhere", "true"]));
    assert!(elsewhere.0 == FAILED && made("proxy-command"), "{elsewhere:?}");
    let with_agent = Agent::start(&ssh);
    let mut command = home.ssh();
    command.args(["-T", "-o", "RemoteCommand=none", home.target(), "env"]);
    let variables = run(command.env("CANARY", "is-sent").env("SSH_AUTH_SOCK", &with_agent.socket)).1;
    assert!(variables.contains("CANARY=is-sent\n") && variables.contains("SSH_AUTH_SOCK="), "{variables}");

    // Another key is taken as it comes, and a shared connection asks for none.
    let shared = home.master();
    let (logins, sessions) = (ssh.logins(), ssh.sessions());
    ssh.replace_host_keys();
    let strict = ["-T", "-o", "RemoteCommand=none", "-o", "StrictHostKeyChecking=yes"];
    let through = run(home.ssh().args(strict).args([home.target(), "echo well"]));
    assert_eq!((through.0, &*through.1), (Some(0), "well\n"), "{through:?}");
    assert_eq!((ssh.logins(), ssh.sessions()), (logins, sessions + 1), "{}", ssh.log());
    let own = run(home.ssh().args(strict).args(["-o", "ControlPath=none", home.target(), "echo well"]));
    assert!(own.0 == FAILED && own.2.ends_with("Host key verification failed.\n"), "{own:?}");
    drop(shared);
    let loose = run(home.ssh().args(["-T", "-o", "RemoteCommand=none", home.target(), "echo well"]));
    assert_eq!((loose.0, &*loose.1), (Some(0), "well\n"), "{loose:?}");
}

/// An agent without keys, as long as this lives.
struct Agent {
    process: Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(ssh: &Ssh) -> Self {
        let socket = ssh.folder().join("agent");
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().expect("ssh-agent starts");
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self { process, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
