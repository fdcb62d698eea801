//! An instance behaves to those who ask Lightsail, and to those who log in, as one of Lightsail's does.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_doubles::lightsail::{self, FakeLightsail, Hardware, OpenPort};
use serde_json::{Value, json};

use super::super::vm::beds::Beds;
use super::super::vm::lightsail::{Closed, HostKeys, Instances, Options, Sshd};
use super::super::vm::roots::Root;
use super::super::vm::ssh::SshAccess;
use super::super::vm::{PATIENCE, run};

const NAME: &str = "runner-vm";

/// How long a certificate is valid of which the end is waited for.
const CERTIFICATE: Duration = Duration::from_secs(6);

/// What ssh says of itself, as opposed to the command that it was to run.
const FAILED: Option<i32> = Some(255);

pub fn lets_in_on_bookworm(beds: &Beds) {
    lets_in(beds, Root::Bookworm);
}

pub fn lets_in_on_trixie(beds: &Beds) {
    lets_in(beds, Root::Trixie);
}

/// From nothing to a root's shell, and back: certificates are refused until the authority is known.
fn lets_in(beds: &Beds, root: Root) {
    // Time enough to be denied, also where much else is going on.
    let logins_after = Duration::from_secs(2);
    let instances = Instances::new(beds, Options { root, logins_after, ..Options::default() }, |_| ());
    instances.create(NAME, "");
    let address = wait("an address", || instances.address(NAME));
    assert!(address.is_loopback());
    let vm = wait("a machine", || instances.vm(NAME));
    let host_keys = wait("host keys", || some(instances.host_keys(NAME)));
    for algorithm in ["ecdsa-sha2-nistp256", "ssh-ed25519", "ssh-rsa"] {
        assert!(host_keys.iter().any(|(has, _)| has == algorithm), "{algorithm}: {host_keys:?}");
    }
    let client = Client::new(address, &host_keys, instances.access(NAME));
    assert_eq!(client.access.user, "admin");
    assert!(client.file("key-cert.pub").starts_with("ecdsa-sha2-nistp256-cert-v01@openssh.com "));
    assert_eq!(client.attempt(), Attempt::Denied, "before cloud-init has run the preamble");
    wait("a login", || (client.attempt() == Attempt::LetIn).then_some(()));
    vm.wait_cloud_init();
    let output = client.run("sudo -n sh -c 'id -un; cloud-init status'");
    assert_eq!(text(&output.stdout), "root\nstatus: done\n", "{output:?}");

    // The certificate is asked for, and so is who has signed it.
    let alone = Client::new(address, &host_keys, instances.access(NAME));
    fs::remove_file(alone.path("key-cert.pub")).expect("a file of ours");
    assert_eq!(alone.attempt(), Attempt::Denied);
    let elsewhere = Instances::new(beds, Options::default(), |_| ());
    elsewhere.create(NAME, "");
    assert_eq!(Client::new(address, &host_keys, elsewhere.access(NAME)).attempt(), Attempt::Denied);
    drop(elsewhere);

    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| client.run("sleep 300"));
        vm.wait("the command", || vm.processes().iter().any(|it| it.argv == ["sleep", "300"]));
        instances.ports(NAME, &[ssh_from("0.0.0.0/0"), ssh_from("192.0.2.0/24")]);
        assert_eq!(client.attempt(), Attempt::LetIn);
        assert!(!sleeper.is_finished(), "a port that stays open keeps its connections");
        instances.ports(NAME, &[ssh_from("192.0.2.0/24")]);
        assert_eq!(sleeper.join().expect("ssh ends").status.code(), FAILED);
        assert_eq!(client.attempt(), Attempt::Refused);
    });

    let group = vm.group();
    drop(vm);
    assert!(!run::traces(&group).is_empty());
    instances.delete(NAME);
    assert_eq!(run::traces(&group), Vec::<String>::new());
    assert_eq!(client.attempt(), Attempt::Refused);
    assert_eq!((instances.address(NAME), instances.host_keys(NAME)), (None, Vec::new()));
}

/// The firewall goes by protocol, port and source. What it lets through is refused until sshd listens.
pub fn firewall(beds: &Beds) {
    let refused = Some(ErrorKind::ConnectionRefused);
    let (instances, address) = closes(beds, Closed::Refused, refused);
    for (open, rule) in [
        (false, port("tcp", 80, 80, "0.0.0.0/0")),
        (true, port("tcp", 22, 22, "127.0.0.1/32")),
        (false, port("udp", 22, 22, "0.0.0.0/0")),
        (true, port("all", 0, 65535, "0.0.0.0/0")),
        (false, port("tcp", 22, 22, "127.0.0.2/32")),
        (true, port("tcp", 20, 22, "127.0.0.0/8")),
        (false, port("tcp", 23, 80, "0.0.0.0/0")),
        (true, port("tcp", 22, 22, "127.0.0.1")),
        (false, port("tcp", 22, 22, "128.0.0.0/1")),
        (true, port("tcp", 22, 22, "0.0.0.0/1")),
        (false, port("tcp", 22, 22, "::/0")),
    ] {
        instances.ports(NAME, std::slice::from_ref(&rule));
        assert_eq!(knock(address), if open { None } else { refused }, "{rule:?}");
    }
    drop(instances);
    closes(beds, Closed::Dropped, Some(ErrorKind::TimedOut));
}

/// An instance and its address, after its port was closed and opened, before sshd listened and after.
fn closes(beds: &Beds, closed: Closed, shut: Option<ErrorKind>) -> (Instances, Ipv4Addr) {
    let instances = Instances::new(beds, Options { closed, ..Options::default() }, |_| ());
    instances.create(NAME, "");
    let address = wait("an address", || instances.address(NAME));
    assert_eq!(knock(address), Some(ErrorKind::ConnectionRefused), "nobody listens");
    instances.ports(NAME, &[]);
    assert_eq!(knock(address), shut);
    wait("sshd", || instances.listens(NAME).then_some(()));
    assert_eq!(knock(address), shut);
    instances.ports(NAME, &[ssh_from("0.0.0.0/0")]);
    assert_eq!(knock(address), None);
    instances.ports(NAME, &[]);
    assert_eq!(knock(address), shut);
    (instances, address)
}

/// Host keys come late, and sshd has others then.
pub fn other_host_keys(beds: &Beds) {
    let delay = Duration::from_secs(2);
    let host_keys = HostKeys::After(delay);
    let options = Options { host_keys, sshd: Sshd::OtherKeys, ..Options::default() };
    let instances = Instances::new(beds, options, |_| ());
    instances.create(NAME, "");
    let address = wait("an address", || instances.address(NAME));
    wait("sshd", || instances.listens(NAME).then_some(()));
    let listens = Instant::now();
    assert_eq!(instances.host_keys(NAME), Vec::new());
    let host_keys = wait("host keys", || some(instances.host_keys(NAME)));
    assert!(listens.elapsed() > delay / 2, "after {:?}", listens.elapsed());
    let vm = wait("a machine", || instances.vm(NAME));
    vm.wait_cloud_init();
    assert_eq!(Client::new(address, &host_keys, instances.access(NAME)).attempt(), Attempt::OtherKey);
    assert_eq!(vm.logins(), 0, "{}", vm.sshd_log());
    let line = vm.sh("cat /etc/ssh/ssh_host_ed25519_key.pub");
    let mut words = line.split_whitespace().map(str::to_owned);
    let present = words.next().zip(words.next()).expect("a key's line");
    let client = Client::new(address, &[present], instances.access(NAME));
    assert_eq!((client.attempt(), vm.logins()), (Attempt::LetIn, 1), "{}", vm.sshd_log());
}

/// Logins can be late, certificates end, host keys stay unknown; and the machine reaches what it is led to.
/// What is given as user data runs after the preamble.
pub fn is_as_it_is_told(beds: &Beds) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let server = listener.local_addr().expect("a bound socket has an address");
    let options = Options {
        user: "ubuntu".to_owned(),
        host_keys: HostKeys::Never,
        logins_after: Duration::from_secs(3),
        certificate: CERTIFICATE,
        ..Options::default()
    };
    let instances = Instances::new(beds, options, move |network| network.forward_to(1234, server));
    instances.create(
        NAME,
        "echo \"as $(id -un)\" >/root/told\ncat /etc/ssh/lightsail_instance_ca.pub >>/root/told\n",
    );
    let address = wait("an address", || instances.address(NAME));
    wait("sshd", || instances.listens(NAME).then_some(()));
    let vm = wait("a machine", || instances.vm(NAME));
    let keys = vm.sh("cat /etc/ssh/ssh_host_ed25519_key.pub");
    let mut words = keys.split_whitespace().map(str::to_owned);
    let host_keys = [words.next().zip(words.next()).expect("a key's line")];
    vm.wait("the preamble", || vm.processes().iter().any(|it| it.argv == ["sleep", "3"]));
    let client = Client::new(address, &host_keys, instances.access(NAME));
    assert_eq!(client.attempt(), Attempt::Denied);
    vm.wait_cloud_init();
    let client = Client::new(address, &host_keys, instances.access(NAME));
    let signed = Instant::now();
    assert_eq!(client.access.user, "ubuntu");
    assert_eq!(client.attempt(), Attempt::LetIn);
    let told = vm.read("/root/told").unwrap_or_default();
    assert!(told.starts_with("as root\nssh-rsa AAAA"), "{told}");
    vm.sh("curl -s --max-time 1 http://127.0.0.1:1234 || test $? = 28");
    listener.accept().expect("the machine has come");
    std::thread::sleep((CERTIFICATE + Duration::from_secs(1)).saturating_sub(signed.elapsed()));
    assert_eq!(client.attempt(), Attempt::Denied, "its certificate has ended");
    assert_eq!(instances.host_keys(NAME), Vec::new());
}

/// Nothing is left of an instance that is deleted in the middle of its start, and its name is free.
pub fn deleted_while_it_starts(beds: &Beds) {
    let instances = Instances::new(beds, Options::default(), |_| ());
    let mut addresses = Vec::new();
    for wait_for_power in [false, true] {
        instances.create(NAME, "");
        addresses.push(wait("an address", || instances.address(NAME)));
        let vm = wait("a machine", || instances.vm(NAME));
        if wait_for_power {
            wait("power", || vm.init());
        }
        let group = vm.group();
        drop(vm);
        instances.delete(NAME);
        assert_eq!(run::traces(&group), Vec::<String>::new());
    }
    assert_ne!(addresses[0], addresses[1]);
}

/// The same, as whoever knows Lightsail's interface alone sees it. A static IP is a way in, too, and stays one
/// when the machine is off in between.
pub fn by_the_interface(beds: &Beds) {
    let hardware = Arc::new(Instances::new(beds, Options::default(), |_| ()));
    let options = lightsail::Options { hardware: hardware.clone(), ..lightsail::Options::default() };
    let lightsail = FakeLightsail::start(options);
    let account = lightsail::Client::of(&lightsail, "admin");
    let call = |operation: &str, members: Value| {
        let (status, answer) = account.call(operation, &members);
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    };
    let zone = format!("{}b", lightsail.region());
    let (blueprint, bundle) = ("debian_12", "micro_3_0");
    call(
        "CreateInstances",
        json!({"instanceNames": [NAME], "availabilityZone": zone, "blueprintId": blueprint, "bundleId": bundle}),
    );
    let address = wait("a running instance", || {
        let (_, answer) = account.call("GetInstance", &json!({"instanceName": NAME}));
        let instance = &answer["instance"];
        let address = instance["publicIpAddress"].as_str().filter(|_| instance["state"]["name"] == "running");
        address.map(|address| address.parse::<Ipv4Addr>().expect("an address"))
    });
    let group = hardware.vm(NAME).expect("it is running").group();
    let details = || call("GetInstanceAccessDetails", json!({"instanceName": NAME, "protocol": "ssh"}));
    let witnessed = wait("host keys", || Some(details()).filter(|details| keys_of(details).is_some()));
    let client = |address| {
        let details = &details()["accessDetails"];
        let text = |member: &str| details[member].as_str().expect("a text").to_owned();
        let access = (text("privateKey"), text("certKey"), text("username"));
        Client::new(address, &keys_of(&witnessed).unwrap_or_default(), access)
    };
    let first = client(address);
    assert_eq!(first.access.user, "admin");
    wait("a login", || (first.attempt() == Attempt::LetIn).then_some(()));

    let ssh = json!({"fromPort": 22, "toPort": 22, "protocol": "tcp"});
    call("CloseInstancePublicPorts", json!({"instanceName": NAME, "portInfo": ssh}));
    assert_eq!(first.attempt(), Attempt::Refused);
    let from_here = json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": ["127.0.0.1/32"]});
    call("PutInstancePublicPorts", json!({"instanceName": NAME, "portInfos": [from_here]}));
    assert_eq!(first.attempt(), Attempt::LetIn);

    call("AllocateStaticIp", json!({"staticIpName": "runner-ip"}));
    call("AttachStaticIp", json!({"staticIpName": "runner-ip", "instanceName": NAME}));
    let shown = call("GetStaticIp", json!({"staticIpName": "runner-ip"}));
    let fixed = shown["staticIp"]["ipAddress"].as_str().and_then(|address| address.parse().ok());
    let fixed = fixed.expect("it has an address");
    let second = client(fixed);
    assert_eq!((first.attempt(), second.attempt()), (Attempt::Refused, Attempt::LetIn));
    lightsail.stop(NAME);
    assert_eq!(second.attempt(), Attempt::Refused);
    lightsail.start_instance(NAME);
    wait("a login", || (second.attempt() == Attempt::LetIn).then_some(()));

    assert!(!run::traces(&group).is_empty());
    call("DeleteInstance", json!({"instanceName": NAME}));
    assert_eq!(second.attempt(), Attempt::Refused);
    wait("its end", || {
        let (status, answer) = account.call("GetInstance", &json!({"instanceName": NAME}));
        (status == 400 && answer["__type"].as_str()?.contains("NotFoundException")).then_some(())
    });
    assert_eq!(run::traces(&group), Vec::<String>::new());
}

/// The host keys in access details, if there are some.
fn keys_of(details: &Value) -> Option<Vec<(String, String)>> {
    let keys = details["accessDetails"]["hostKeys"].as_array()?;
    let text = |key: &Value, member: &str| key[member].as_str().expect("a text").to_owned();
    some(keys.iter().map(|key| (text(key, "algorithm"), text(key, "publicKey"))).collect())
}

/// How it ends when somebody wants to log in.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    LetIn,
    Denied,
    OtherKey,
    Refused,
    /// As while sshd starts anew, or before users may log in.
    NotYet,
}

/// Somebody with what Lightsail tells those who want to log in.
struct Client {
    folder: tempfile::TempDir,
    access: SshAccess,
}

impl Client {
    fn new(
        address: Ipv4Addr,
        host_keys: &[(String, String)],
        (key, certificate, user): (String, String, String),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        put_private(&path("key"), &key);
        fs::write(path("key-cert.pub"), format!("{certificate}\n")).expect("the folder is ours");
        let lines: Vec<_> =
            host_keys.iter().map(|(algorithm, key)| format!("{address} {algorithm} {key}\n")).collect();
        fs::write(path("known_hosts"), lines.concat()).expect("the folder is ours");
        let access = SshAccess {
            address: address.to_string(),
            port: 22,
            user,
            key: path("key"),
            known_hosts: path("known_hosts"),
        };
        Self { folder, access }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file of ours")
    }

    fn run(&self, command: &str) -> Output {
        self.access.run(command)
    }

    fn attempt(&self) -> Attempt {
        let output = self.run("sudo -n true");
        let complaint = text(&output.stderr);
        match output.status.code() {
            Some(0) => Attempt::LetIn,
            FAILED if complaint.contains("Permission denied (publickey") => Attempt::Denied,
            FAILED if complaint.ends_with("Host key verification failed.\r\n") => Attempt::OtherKey,
            FAILED if complaint.ends_with("Connection refused\r\n") => Attempt::Refused,
            FAILED
                if ["kex_exchange_identification: ", "System is booting up"]
                    .iter()
                    .any(|early| complaint.contains(early)) =>
            {
                Attempt::NotYet
            }
            _ => panic!("{output:?}"),
        }
    }
}

/// A file that only its owner can read, as `ssh` wants it of a key.
fn put_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .expect("the folder is ours");
}

/// Why sshd's port cannot be connected to; `None` if it can.
fn knock(address: Ipv4Addr) -> Option<ErrorKind> {
    let address = SocketAddr::from((address, 22));
    TcpStream::connect_timeout(&address, Duration::from_millis(700)).err().map(|error| error.kind())
}

fn port(protocol: &str, from: i64, to: i64, cidr: &str) -> OpenPort {
    OpenPort { protocol: protocol.to_owned(), from, to, cidrs: vec![cidr.to_owned()] }
}

fn ssh_from(cidr: &str) -> OpenPort {
    port("tcp", 22, 22, cidr)
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until there is something.
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}
