//! Machines as Lightsail's instances: a booted Debian behind each, whose firewall is the way in, whose logins
//! are certificates of an authority that its user data make known, and whose host keys are its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use outrigger_doubles::lightsail::{Hardware, OpenPort};

use super::beds::Beds;
use super::net::{Entrance, Network};
use super::roots::Root;
use super::ssh_ca::Ca;
use super::user_data::lightsail_with_ca;
use super::{PATIENCE, Vm};

/// Where sshd listens.
const SSH: u16 = 22;

/// The address that clients of this side come from.
const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What instances are like.
#[derive(Clone, Debug)]
pub struct Options {
    /// What they start from.
    pub root: Root,
    /// The image's user, whom sudo asks for nothing.
    pub user: String,
    /// When their host keys are told.
    pub host_keys: HostKeys,
    /// Which host keys sshd has.
    pub sshd: Sshd,
    /// What clients see of a closed port.
    pub closed: Closed,
    /// How long after their start cloud-init makes the authority known.
    pub logins_after: Duration,
    /// How long a certificate is valid.
    pub certificate: Duration,
}

impl Default for Options {
    /// Debian 12 with the user and the certificates that Lightsail has for it, and a firewall that says no.
    fn default() -> Self {
        Self {
            root: Root::Bookworm,
            user: "admin".to_owned(),
            host_keys: HostKeys::After(Duration::ZERO),
            sshd: Sshd::Own,
            closed: Closed::Refused,
            logins_after: Duration::ZERO,
            certificate: Duration::from_secs(13 * 60),
        }
    }
}

/// When host keys are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKeys {
    /// So long after sshd listens.
    After(Duration),
    /// Not at all.
    Never,
}

/// Which host keys sshd has when the port opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sshd {
    /// Those that are told.
    Own,
    /// Others, as a server has that pretends to be this one.
    OtherKeys,
}

/// What clients see of a closed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// `Connection refused`, at once.
    Refused,
    /// No answer, as behind Lightsail's firewall.
    Dropped,
}

/// The instances of an account, by name. With this their machines end.
pub struct Instances {
    blueprint: Arc<Blueprint>,
    instances: Mutex<BTreeMap<String, Instance>>,
}

/// What all instances are made from.
struct Blueprint {
    options: Options,
    ca: Ca,
    make: Box<dyn Fn() -> Vm + Send + Sync>,
}

/// An instance, and the thread that has switched it on and waits for its sshd.
struct Instance {
    state: Arc<Mutex<State>>,
    starting: Option<JoinHandle<()>>,
}

/// What there is of an instance.
#[derive(Default)]
struct State {
    vm: Option<Arc<Vm>>,
    entrance: Option<Entrance>,
    way: Option<Way>,
    /// Whether the firewall lets clients of this side to sshd.
    open: bool,
    /// Whether sshd listens.
    listens: bool,
    /// Host keys as `(algorithm, base64)`, and since when sshd has had them.
    witnessed: Option<(Instant, Vec<(String, String)>)>,
    /// Whether it is to be off: whoever waits for its sshd waits no longer.
    off: bool,
}

/// What is at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Sshd,
    Refusal,
    Silence,
}

impl Instances {
    /// None yet. `setup` is called with the network of each machine before it boots, to lead its ports to
    /// servers of the test.
    pub fn new(beds: &Beds, options: Options, setup: impl Fn(&Network) + Send + Sync + 'static) -> Self {
        let make = beds.maker(options.root);
        let make = Box::new(move || {
            let vm = make();
            setup(vm.network());
            vm
        });
        let blueprint = Blueprint { ca: Ca::new(beds.folder()), options, make };
        Self { blueprint: Arc::new(blueprint), instances: Mutex::default() }
    }

    /// The machine of an instance; `None` if there is no such instance, or not yet a machine. After the
    /// instance is deleted the machine is off, and its disk goes with the last of these.
    pub fn vm(&self, name: &str) -> Option<Arc<Vm>> {
        self.state(name).and_then(|state| lock(&state).vm.clone())
    }

    /// Whether an instance's sshd listens, whatever the firewall lets through.
    pub fn listens(&self, name: &str) -> bool {
        self.state(name).is_some_and(|state| lock(&state).listens)
    }

    fn state(&self, name: &str) -> Option<Arc<Mutex<State>>> {
        lock(&self.instances).get(name).map(|instance| Arc::clone(&instance.state))
    }
}

impl Hardware for Instances {
    fn create(&self, name: &str, user_data: &str) {
        let mut instances = lock(&self.instances);
        assert!(!instances.contains_key(name), "there is an instance {name} already");
        // Lightsail opens 22 and 80 for everybody.
        let state = Arc::new(Mutex::new(State { open: true, ..State::default() }));
        let (blueprint, shared) = (Arc::clone(&self.blueprint), Arc::clone(&state));
        let user_data = user_data.to_owned();
        let starting = Some(std::thread::spawn(move || blueprint.boot(&shared, &user_data)));
        instances.insert(name.to_owned(), Instance { state, starting });
    }

    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let state = self.state(name)?;
        let state = lock(&state);
        match state.entrance.as_ref()?.address().ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(address) => panic!("{address} is no IPv4 address"),
        }
    }

    fn host_keys(&self, name: &str) -> Vec<(String, String)> {
        let HostKeys::After(delay) = self.blueprint.options.host_keys else { return Vec::new() };
        let witnessed = self.state(name).and_then(|state| lock(&state).witnessed.clone());
        witnessed.filter(|(since, _)| since.elapsed() >= delay).map(|(_, keys)| keys).unwrap_or_default()
    }

    fn access(&self, name: &str) -> (String, String, String) {
        assert!(self.state(name).is_some(), "there is no instance {name}");
        let Options { user, certificate, .. } = &self.blueprint.options;
        let login = self.blueprint.ca.login(user, *certificate);
        (login.private_key, login.certificate, user.clone())
    }

    fn ports(&self, name: &str, open: &[OpenPort]) {
        let state = self.state(name).unwrap_or_else(|| panic!("there is no instance {name}"));
        let mut state = lock(&state);
        state.open = open.iter().any(admits);
        state.lead(self.blueprint.options.closed);
    }

    /// The address must be one of loopback. Connections to the old one end.
    fn moved(&self, name: &str, address: Ipv4Addr) {
        let state = self.state(name).unwrap_or_else(|| panic!("there is no instance {name}"));
        let vm = wait_for_machine(&state);
        let mut state = lock(&state);
        state.entrance = Some(vm.network().enter_at(address, SSH));
        state.way = None;
        state.lead(self.blueprint.options.closed);
    }

    /// Returns when it is off; when it is on again is seen by its sshd.
    fn power(&self, name: &str, on: bool) {
        let mut instances = lock(&self.instances);
        let instance = instances.get_mut(name).unwrap_or_else(|| panic!("there is no instance {name}"));
        if on {
            instance.start(&self.blueprint);
        } else {
            wait_for_machine(&instance.state);
            let started = instance.stop_waiting();
            let vm = {
                let mut state = lock(&instance.state);
                state.listens = false;
                state.lead(self.blueprint.options.closed);
                state.vm.clone()
            };
            if let Some(vm) = vm.filter(|vm| vm.init().is_some()) {
                vm.shut_down();
            }
            pass_on(started);
        }
    }

    fn delete(&self, name: &str) {
        let instance = lock(&self.instances).remove(name);
        instance.unwrap_or_else(|| panic!("there is no instance {name}")).end();
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        for instance in std::mem::take(&mut *lock(&self.instances)).into_values() {
            instance.end();
        }
    }
}

impl Blueprint {
    /// Boots a machine, and opens the way to its sshd as soon as that listens.
    fn boot(&self, shared: &Mutex<State>, user_data: &str) {
        let Options { user, closed, logins_after, .. } = &self.options;
        let vm = Arc::new((self.make)());
        let image = format!(
            "system_info: {{default_user: {{name: {user}}}}}\nssh_genkeytypes: [rsa, ecdsa, ed25519]\n"
        );
        vm.write("/etc/cloud/cloud.cfg.d/98-image.cfg", image);
        let entrance = vm.network().enter(SSH);
        entrance.close();
        let address = entrance.address();
        assert_eq!(address.port(), SSH, "this side has a server at port {SSH} of all addresses");
        {
            let mut state = lock(shared);
            state.vm = Some(Arc::clone(&vm));
            state.entrance = Some(entrance);
            state.lead(*closed);
        }
        let mut whole = format!("#!/bin/sh\nsleep {}\n", logins_after.as_secs_f64()).into_bytes();
        whole.extend(lightsail_with_ca(&self.ca.public_key(), user_data));
        if lock(shared).off {
            return;
        }
        vm.boot(&whole);
        self.wait_for_sshd(shared, &vm);
    }

    /// Waits until sshd listens, notes its host keys if it has them for the first time, and opens the way.
    fn wait_for_sshd(&self, shared: &Mutex<State>, vm: &Vm) {
        let started = Instant::now();
        while !listens(vm) {
            if lock(shared).off {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "sshd does not listen\n{}", vm.evidence());
            std::thread::sleep(Duration::from_millis(100));
        }
        if lock(shared).witnessed.is_none() {
            let keys = host_keys(vm);
            if self.options.sshd == Sshd::OtherKeys {
                // Of a kind that clients know of the machine, and no other.
                vm.sh(
                    "rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
                );
                vm.sh("systemctl restart ssh");
            }
            lock(shared).witnessed = Some((Instant::now(), keys));
        }
        let mut state = lock(shared);
        state.listens = true;
        state.lead(self.options.closed);
    }
}

impl Instance {
    /// Switches its machine on again, in a thread.
    fn start(&mut self, blueprint: &Arc<Blueprint>) {
        let vm = wait_for_machine(&self.state);
        lock(&self.state).off = false;
        let (blueprint, shared) = (Arc::clone(blueprint), Arc::clone(&self.state));
        self.starting = Some(std::thread::spawn(move || {
            vm.switch_on();
            blueprint.wait_for_sshd(&shared, &vm);
        }));
    }

    /// Ends the thread that waits for sshd, if it does still: how it has ended.
    fn stop_waiting(&mut self) -> std::thread::Result<()> {
        lock(&self.state).off = true;
        self.starting.take().map_or(Ok(()), JoinHandle::join)
    }

    /// Cuts the power, closes the way in, and removes the disk unless a test has a hold on the machine.
    fn end(mut self) {
        let started = self.stop_waiting();
        let State { vm, entrance, .. } = std::mem::take(&mut *lock(&self.state));
        drop(entrance);
        if let Some(vm) = vm {
            vm.cut_power();
        }
        pass_on(started);
    }
}

/// Passes on what made a thread panic, unless this one panics itself.
fn pass_on(ended: std::thread::Result<()>) {
    if let Err(panic) = ended
        && !std::thread::panicking()
    {
        std::panic::resume_unwind(panic);
    }
}

/// The machine of an instance that was created a moment ago.
fn wait_for_machine(state: &Mutex<State>) -> Arc<Vm> {
    let started = Instant::now();
    loop {
        if let Some(vm) = &lock(state).vm {
            return Arc::clone(vm);
        }
        assert!(started.elapsed() < PATIENCE, "there is no machine");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl State {
    /// Leads the address to where it is to lead now. What does not change keeps its connections.
    fn lead(&mut self, closed: Closed) {
        let Some(entrance) = &self.entrance else { return };
        let way = match (self.open, closed) {
            (true, _) if self.listens => Way::Sshd,
            (false, Closed::Dropped) => Way::Silence,
            _ => Way::Refusal,
        };
        if self.way == Some(way) {
            return;
        }
        match way {
            Way::Sshd => entrance.open(),
            Way::Refusal => entrance.close(),
            Way::Silence => entrance.swallow(),
        }
        self.way = Some(way);
    }
}

/// Whether a rule lets clients of this side to sshd.
fn admits(rule: &OpenPort) -> bool {
    let protocol = ["tcp", "all"].contains(&rule.protocol.as_str());
    let ports = rule.from..=rule.to;
    protocol && ports.contains(&i64::from(SSH)) && rule.cidrs.iter().any(|cidr| contains(cidr, CLIENT))
}

/// Whether an address is in `ADDRESS/BITS`, or is the `ADDRESS` that stands alone.
fn contains(cidr: &str, address: Ipv4Addr) -> bool {
    let (network, bits) = cidr.split_once('/').unwrap_or((cidr, "32"));
    if network.parse::<Ipv6Addr>().is_ok() {
        return false;
    }
    let network: Ipv4Addr = network.parse().unwrap_or_else(|error| panic!("{cidr}: {error}"));
    let bits: u32 = bits.parse().unwrap_or_else(|error| panic!("{cidr}: {error}"));
    assert!(bits <= 32, "{cidr} has too many bits");
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or_default();
    network.to_bits() & mask == address.to_bits() & mask
}

/// Whether something of the machine's listens where sshd does. Nobody connects for it: sshd would note that.
fn listens(vm: &Vm) -> bool {
    let Some(init) = vm.init() else { return false };
    let sockets = fs::read_to_string(format!("/proc/{init}/net/tcp")).unwrap_or_default();
    // `0A` is the state LISTEN (proc_pid_net(5)).
    let local = format!(":{SSH:04X}");
    sockets.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, address, _, "0A"] if address.ends_with(&local))
    })
}

/// The host keys on a machine's disk, as `(algorithm, base64)`.
fn host_keys(vm: &Vm) -> Vec<(String, String)> {
    let files = fs::read_dir(vm.path("/etc/ssh")).expect("sshd is installed").flatten();
    let public = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.ends_with(".pub")
    });
    let mut keys: Vec<_> = public
        .map(|path| {
            let line =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut words = line.split_whitespace().map(str::to_owned);
            words.next().zip(words.next()).unwrap_or_else(|| panic!("{}: {line}", path.display()))
        })
        .collect();
    keys.sort();
    assert!(!keys.is_empty(), "sshd listens without a host key");
    keys
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
