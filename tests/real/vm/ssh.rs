//! The way into a machine by ssh: Debian's own sshd in it, and the system's `ssh` on this side.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::net::Entrance;
use super::{PATIENCE, Vm};

/// After this long a command counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// Who can log in, each with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// root.
    Root,
    /// The user that images of Debian have: sudo asks for nothing.
    Sudo,
    /// One whom sudo asks for [`PASSWORD`].
    SudoWithPassword,
    /// One whom sudo refuses.
    Plain,
}

impl User {
    /// All of them.
    pub const ALL: [User; 4] = [User::Root, User::Sudo, User::SudoWithPassword, User::Plain];

    /// The name in the machine.
    pub fn name(self) -> &'static str {
        match self {
            User::Root => "root",
            User::Sudo => "debian",
            User::SudoWithPassword => "asked",
            User::Plain => "plain",
        }
    }
}

/// The password of [`User::SudoWithPassword`]; sshd takes keys only.
pub const PASSWORD: &str = "password-of-asked";

/// What a client needs to log in as somebody.
#[derive(Clone, Debug)]
pub struct SshAccess {
    /// The address on this side.
    pub address: String,
    /// Its port: 22, unless this side has a server of its own there.
    pub port: u16,
    /// The user's name.
    pub user: String,
    /// The private key.
    pub key: PathBuf,
    /// The machine's host keys.
    pub known_hosts: PathBuf,
}

impl SshAccess {
    /// `ssh` with nothing but these, whatever the user's own configuration says, and with further options
    /// (`KEY=VALUE`). A remote command is to follow.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-T", "-p", &self.port.to_string()]);
        command.arg("-i").arg(&self.key);
        // The first value of an option holds.
        for option in options {
            command.args(["-o", option]);
        }
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "ConnectTimeout=20",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("UserKnownHostsFile={}", self.known_hosts.display())]);
        command.arg(format!("{}@{}", self.user, self.address));
        command
    }

    /// Runs a command there.
    pub fn run(&self, command: &str) -> Output {
        output(self.ssh(&[]).arg(command), b"")
    }
}

/// Runs a command of this side with an input, to its end.
pub fn output(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        // What it does not read is its business.
        scope.spawn(move || stdin.write_all(input));
        finish(child)
    })
}

/// Waits for the end of a command. One that does not end fails the test.
pub fn finish(child: Child) -> Output {
    let pid = Pid::from_child(&child);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| child.wait_with_output().expect("a child of ours"));
        let started = Instant::now();
        while !ending.is_finished() {
            if started.elapsed() > LIMIT {
                let _ = kill_process(pid, Signal::KILL);
                panic!("process {pid:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        ending.join().expect("waiting does not panic")
    })
}

/// A command that must succeed; what it says on stdout, without the last line's end.
pub fn well(command: &mut Command) -> String {
    let output = output(command, b"");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A machine's sshd, and the way to it.
pub struct Ssh<'vm> {
    vm: &'vm Vm,
    entrance: Entrance,
    folder: PathBuf,
}

impl Vm {
    /// Makes a machine that can be logged in to by every [`User`], with the host keys that it has as the
    /// known ones. It is switched on first, if it is not.
    pub fn ssh(&self) -> Ssh<'_> {
        if self.init().is_none() {
            self.boot_idle();
        }
        let entrance = self.network().enter(22);
        let folder = self.folder.join(format!("ssh-{}", entrance.address().ip()));
        fs::create_dir(&folder).expect("the folder is ours");
        let ssh = Ssh { vm: self, entrance, folder };
        let key = ssh.new_key("id_ed25519");
        let public = fs::read_to_string(key.with_extension("pub")).expect("ssh-keygen has written it");
        // VERBOSE tells each session. The variables of a client are taken, so that they are seen.
        self.write("/etc/ssh/sshd_config.d/test.conf", "LogLevel VERBOSE\nAcceptEnv *\n");
        let users = User::ALL.map(User::name).join(" ");
        self.sh(&format!(
            "id asked >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups sudo asked
            id plain >/dev/null 2>&1 || useradd --create-home --shell /bin/bash plain
            echo 'asked:{PASSWORD}' | chpasswd
            for user in {users}; do
                home=$(getent passwd \"$user\" | cut -d : -f 6)
                install -d -m 700 -o \"$user\" -g \"$user\" \"$home/.ssh\"
                echo '{public}' >>\"$home/.ssh/authorized_keys\"
                chown \"$user:\" \"$home/.ssh/authorized_keys\"
                chmod 600 \"$home/.ssh/authorized_keys\"
            done"
        ));
        ssh.restart();
        ssh.trust();
        ssh
    }

    /// How many clients have proven to sshd who they are since the machine was switched on.
    pub fn logins(&self) -> usize {
        self.logged("Accepted publickey for ")
    }

    fn logged(&self, beginning: &str) -> usize {
        self.sshd_log().lines().filter(|line| line.starts_with(beginning)).count()
    }

    /// What sshd has written into the journal since the machine was switched on.
    pub fn sshd_log(&self) -> String {
        // `sshd-session` since OpenSSH 9.8.
        self.sh("journalctl --sync; journalctl --boot --quiet --output=cat -t sshd -t sshd-session")
    }
}

impl Ssh<'_> {
    /// The way to it.
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Where its files lie on this side: removed with the machine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is needed to log in as this user.
    pub fn access(&self, user: User) -> SshAccess {
        let address = self.entrance.address();
        SshAccess {
            address: address.ip().to_string(),
            port: address.port(),
            user: user.name().to_owned(),
            key: self.folder.join("id_ed25519"),
            known_hosts: self.folder.join("known_hosts"),
        }
    }

    /// A key pair of this name; nobody knows it yet.
    pub fn new_key(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        let mut command = Command::new("ssh-keygen");
        well(command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&path));
        path
    }

    /// Takes the host keys that the machine has now as the known ones.
    pub fn trust(&self) {
        let known = known_hosts(self.entrance.address(), &self.host_keys());
        fs::write(self.folder.join("known_hosts"), known).expect("the folder is ours");
    }

    /// The machine's host keys, as it has them on its disk: `TYPE BASE64` each.
    pub fn host_keys(&self) -> Vec<String> {
        let text = self.vm.sh("cat /etc/ssh/ssh_host_*.pub");
        text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    /// Gives the machine other host keys. They are not known until [`Ssh::trust`].
    pub fn replace_host_keys(&self) {
        self.vm.sh("rm /etc/ssh/ssh_host_*; ssh-keygen -q -A");
        self.restart();
    }

    /// Starts sshd anew. Sessions go on.
    pub fn restart(&self) {
        self.vm.sh("systemctl restart ssh");
    }

    /// Stops sshd: connections are refused, and those that there are end.
    pub fn stop(&self) {
        self.vm.sh("systemctl stop ssh");
        self.entrance.close();
    }

    /// Starts it again.
    pub fn start(&self) {
        self.vm.sh("systemctl start ssh");
        self.entrance.open();
    }

    /// See [`Vm::logins`].
    pub fn logins(&self) -> usize {
        self.vm.logins()
    }

    /// How many commands and shells were started for clients since the machine was switched on. Without one
    /// no byte of a program can have come in.
    pub fn sessions(&self) -> usize {
        self.vm.logged("Starting session: ")
    }

    /// See [`Vm::sshd_log`].
    pub fn log(&self) -> String {
        self.vm.sshd_log()
    }

    /// A home of whoever starts `ssh` on this side, with this user's key as the one to try and with
    /// further lines of `~/.ssh/config`.
    pub fn home(&self, user: User, config: &str) -> Home {
        Home::new(&self.folder, &self.access(user), config)
    }

    /// A home whose configuration trusts every host, shares connections, runs commands here and there, and
    /// sends all that the caller has: the agent and the environment. What these commands make on this side
    /// is in [`Ssh::folder`].
    pub fn hostile(&self, user: User) -> Home {
        let folder = self.folder.display();
        let config = format!(
            "Host elsewhere
    ProxyCommand touch {folder}/proxy-command; false
Host *
    StrictHostKeyChecking no
    ControlMaster auto
    ControlPath ~/.ssh/control-%C
    ForwardAgent yes
    RequestTTY force
    RemoteCommand touch /tmp/remote-command
    PermitLocalCommand yes
    LocalCommand touch {folder}/local-command
    SendEnv *
"
        );
        self.home(user, &config)
    }
}

/// Lines of `known_hosts`.
fn known_hosts(address: SocketAddr, keys: &[String]) -> String {
    let host = match address.port() {
        22 => address.ip().to_string(),
        port => format!("[{}]:{port}", address.ip()),
    };
    let lines: Vec<_> = keys.iter().map(|key| format!("{host} {key}\n")).collect();
    lines.concat()
}

/// A home of a user on this side. `ssh` does not read `$HOME/.ssh`, but that of the home in the list of
/// users: so [`Home::bin`] has an `ssh` that sees this folder there. Nothing else is changed.
pub struct Home {
    folder: tempfile::TempDir,
    target: String,
}

impl Home {
    fn new(parent: &Path, access: &SshAccess, config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("home-").tempdir_in(parent).expect("the folder is ours");
        let file = |name: &str| folder.path().join(name);
        for name in [".ssh", "bin"] {
            fs::create_dir(file(name)).expect("the folder is ours");
        }
        let copy = |from: &Path, to: &str| fs::copy(from, file(to)).expect("the folder is ours");
        copy(&access.key, ".ssh/id_ed25519");
        copy(&access.known_hosts, ".ssh/known_hosts");
        let config = format!("{config}Host {}\n    Port {}\n", access.address, access.port);
        fs::write(file(".ssh/config"), config).expect("the folder is ours");
        let wrapper = format!(
            "#!/bin/sh\nexec /usr/bin/unshare --mount /bin/sh -euc '/usr/bin/mount --bind \"$1\" \"$2\"; \
             shift 2; exec /usr/bin/ssh \"$@\"' sh '{}' '{}' \"$@\"\n",
            folder.path().display(),
            home_of_this_user()
        );
        fs::write(file("bin/ssh"), wrapper).expect("the folder is ours");
        fs::set_permissions(file("bin/ssh"), fs::Permissions::from_mode(0o755)).expect("a file of ours");
        Self { folder, target: format!("{}@{}", access.user, access.address) }
    }

    /// The home.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A folder to be first on `PATH`: it has `ssh`.
    pub fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    /// `USER@ADDRESS`, as whoever has this home says it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `ssh` as whoever has this home starts it; target and command are to follow.
    pub fn ssh(&self) -> Command {
        Command::new(self.bin().join("ssh"))
    }

    /// A connection that others with the same `ControlPath` share, once it is there.
    pub fn master(&self) -> Master {
        let mut command = self.ssh();
        command.args(["-M", "-N", "-o", "RemoteCommand=none", "-o", "PermitLocalCommand=no"]);
        command.arg(&self.target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let master = Master(command.spawn().expect("ssh starts"));
        let started = Instant::now();
        while !output(self.ssh().args(["-O", "check", &self.target]), b"").status.success() {
            assert!(started.elapsed() < PATIENCE, "there is no shared connection");
            std::thread::sleep(Duration::from_millis(50));
        }
        master
    }
}

/// A shared connection, as long as this lives.
pub struct Master(Child);

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The home that the list of users has for whoever runs the tests.
fn home_of_this_user() -> String {
    let users = fs::read_to_string("/etc/passwd").expect("there is a list of users");
    let uid = rustix::process::geteuid().as_raw().to_string();
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut ours = fields.filter(|fields| fields.len() == 7 && fields[2] == uid);
    ours.next().expect("it has whoever runs the tests")[5].to_owned()
}
