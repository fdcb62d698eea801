//! A machine's network: a namespace that has nothing but `lo`, and forwarders that lead from ports of its
//! 127.0.0.1 to the same ports of ours. So servers of the tests have one address and one certificate on
//! both sides, and every way on which a network fails can be played port by port. The way in is an address
//! of ours that leads to a port of the machine's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The namespace, which lives as long as this or a process in it.
pub struct Network {
    namespace: Arc<OwnedFd>,
    ports: Mutex<BTreeMap<u16, Port>>,
}

impl Network {
    /// A new one, with `lo` up and every port refused.
    pub fn new() -> Result<Self, String> {
        let failed = |error| format!("no network namespace: {error}");
        // A process of its own makes it: ours has threads, and all of them are to stay where they are.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
        let opened = File::open(format!("/proc/{}/ns/net", child.id()));
        // Its standard input closes with this, and it ends.
        let ended = child.wait_with_output();
        if line != "up\n" {
            return Err(format!("no network namespace: {said:?} {ended:?}"));
        }
        Ok(Self { namespace: Arc::new(opened.map_err(failed)?.into()), ports: Mutex::default() })
    }

    /// Leads the machine's 127.0.0.1:`port` to ours.
    pub fn forward(&self, port: u16) {
        self.forward_to(port, SocketAddr::from(([127, 0, 0, 1], port)));
    }

    /// Leads the machine's 127.0.0.1:`port` to a server of another address.
    pub fn forward_to(&self, port: u16, server: SocketAddr) {
        self.refuse(port);
        let connect = move || TcpStream::connect(server);
        self.put(port, Port::forwarding(self.listen(port), Arc::default(), connect));
    }

    /// Connections to the port are refused from now on, and those that there are end.
    pub fn refuse(&self, port: u16) {
        let removed = self.ports.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
        drop(removed);
    }

    /// Connections to the port are made, but nobody ever says a word.
    pub fn silence(&self, port: u16) {
        self.refuse(port);
        self.put(port, Port::silent(self.listen(port)));
    }

    /// Nothing answers at the port, as behind a firewall that drops what it does not like.
    pub fn swallow(&self, port: u16) {
        self.refuse(port);
        let listener = self.listen(port);
        self.put(port, self.inside(|| Port::full(listener)));
    }

    /// A way to the machine's 127.0.0.1:`port` from this side, open.
    pub fn enter(&self, port: u16) -> Entrance {
        Entrance::new(Arc::clone(&self.namespace), port)
    }

    /// The same at this address, closed. It must be one of loopback.
    pub fn enter_at(&self, address: Ipv4Addr, port: u16) -> Entrance {
        let (namespace, address) = (Arc::clone(&self.namespace), SocketAddr::from((address, port)));
        Entrance { namespace, port, address, traffic: Arc::default(), state: Mutex::default() }
    }

    fn put(&self, port: u16, state: Port) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port, state);
    }

    /// A listener of the namespace's: a socket stays where it was made, wherever it is used.
    fn listen(&self, port: u16) -> TcpListener {
        self.inside(|| TcpListener::bind(("127.0.0.1", port)))
            .unwrap_or_else(|error| panic!("port {port} of the machine: {error}"))
    }

    /// Does something in the namespace, in a thread that ends with it.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, act)
    }
}

/// See [`Network::inside`].
fn inside<T: Send>(namespace: &OwnedFd, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the namespace can be entered");
            act()
        });
        thread.join().expect("no panic in the namespace")
    })
}

/// A way into a machine: a loopback address of this side that leads to one port of the machine's 127.0.0.1.
/// The address stays the same for as long as this lives. Whoever listens in the machine sees connections
/// from its own 127.0.0.1.
pub struct Entrance {
    namespace: Arc<OwnedFd>,
    port: u16,
    address: SocketAddr,
    traffic: Arc<Traffic>,
    state: Mutex<Option<Port>>,
}

impl Entrance {
    fn new(namespace: Arc<OwnedFd>, port: u16) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Runs of the tests at the same time begin at different addresses. The port is the machine's own,
        // unless a server of this side has it at all addresses.
        let candidates = (0..64).map(|_| {
            let number =
                std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let [.., high, low] = number.to_be_bytes();
            Ipv4Addr::new(127, 77, high, low.clamp(1, 254))
        });
        let mut candidates = candidates.flat_map(|address| [(address, port), (address, 0)]);
        let listener = candidates
            .find_map(|candidate| TcpListener::bind(candidate).ok())
            .expect("there is a free address in 127.77.0.0/16");
        let address = listener.local_addr().expect("a bound socket has an address");
        let entrance = Self { namespace, port, address, traffic: Arc::default(), state: Mutex::default() };
        entrance.open_with(listener);
        entrance
    }

    /// Where it is, on this side.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections are led to the machine from now on.
    pub fn open(&self) {
        self.close();
        self.open_with(self.listen());
    }

    fn open_with(&self, listener: TcpListener) {
        let (namespace, port) = (Arc::clone(&self.namespace), self.port);
        let connect = move || inside(&namespace, || TcpStream::connect(("127.0.0.1", port)));
        *self.state() = Some(Port::forwarding(listener, Arc::clone(&self.traffic), connect));
    }

    /// Connections are refused from now on, and those that there are end.
    pub fn close(&self) {
        self.freeze(false);
        let removed = self.state().take();
        drop(removed);
    }

    /// Connections are made, but nobody ever says a word.
    pub fn silence(&self) {
        self.close();
        *self.state() = Some(Port::silent(self.listen()));
    }

    /// Nothing answers, as behind a firewall that drops what it does not like.
    pub fn swallow(&self) {
        self.close();
        *self.state() = Some(Port::full(self.listen()));
    }

    /// Ends the connections that there are. New ones are led on as before.
    pub fn cut(&self) {
        self.traffic.cut();
    }

    /// Cuts as soon as so many more bytes have come from this side's clients. No more than these come in, and
    /// fewer if the server is cut off before it has read them.
    pub fn cut_after(&self, bytes: usize) {
        *self.traffic.limit() = Some(bytes);
    }

    /// Whether that cut is still to come.
    pub fn will_cut(&self) -> bool {
        self.traffic.limit().is_some()
    }

    /// Connections stay, but no byte passes in either direction until they are let go on (`false`).
    pub fn freeze(&self, frozen: bool) {
        self.traffic.frozen.store(frozen, Ordering::Relaxed);
    }

    /// How many connections it has led to the machine so far.
    pub fn connections(&self) -> usize {
        self.traffic.made.load(Ordering::Relaxed)
    }

    /// How many of them there are now.
    pub fn connected(&self) -> usize {
        self.traffic.pairs().iter().filter(|pair| pair.strong_count() > 0).count()
    }

    fn listen(&self) -> TcpListener {
        TcpListener::bind(self.address).unwrap_or_else(|error| panic!("{}: {error}", self.address))
    }

    fn state(&self) -> MutexGuard<'_, Option<Port>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.close();
    }
}

/// A connection of a client's, and the one that it is led on by.
type Pair = (TcpStream, TcpStream);

/// The connections through a port, and what becomes of them.
#[derive(Default)]
struct Traffic {
    pairs: Mutex<Vec<Weak<Pair>>>,
    made: AtomicUsize,
    /// After how many more bytes of the clients all connections are cut, if they are to be.
    limit: Mutex<Option<usize>>,
    frozen: AtomicBool,
}

impl Traffic {
    fn pairs(&self) -> MutexGuard<'_, Vec<Weak<Pair>>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> MutexGuard<'_, Option<usize>> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, pair: &Arc<Pair>) {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.pairs().push(Arc::downgrade(pair));
    }

    fn cut(&self) {
        for pair in self.pairs().drain(..).filter_map(|pair| pair.upgrade()) {
            let _ = pair.0.shutdown(Shutdown::Both);
            let _ = pair.1.shutdown(Shutdown::Both);
        }
    }

    /// How many of a client's bytes may pass, and whether all is to be cut after them.
    fn admit(&self, bytes: usize) -> (usize, bool) {
        let mut limit = self.limit();
        let Some(left) = *limit else { return (bytes, false) };
        *limit = left.checked_sub(bytes).filter(|&left| left > 0);
        (bytes.min(left), limit.is_none())
    }

    /// Passes bytes on in both directions until both have ended.
    fn splice(&self, near: &TcpStream, far: &TcpStream) {
        let pass = |mut from: &TcpStream, mut to: &TcpStream, inward: bool| {
            let mut portion = [0; 16 << 10];
            // An end that went away ends its direction, and that is all.
            while let Ok(read @ 1..) = from.read(&mut portion) {
                while self.frozen.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let (count, cut) = if inward { self.admit(read) } else { (read, false) };
                let written = to.write_all(&portion[..count]);
                if cut {
                    self.cut();
                }
                if written.is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pass(near, far, true));
            pass(far, near, false);
        });
    }
}

/// What is at a port. Dropped, it is closed and its connections are cut.
struct Port {
    listener: TcpListener,
    forwarder: Option<JoinHandle<()>>,
    traffic: Arc<Traffic>,
    /// Connections that take the place of others.
    waiting: Vec<TcpStream>,
}

impl Port {
    fn silent(listener: TcpListener) -> Self {
        Self { listener, forwarder: None, traffic: Arc::default(), waiting: Vec::new() }
    }

    /// One that nobody can connect to. To be called where its clients are.
    fn full(listener: TcpListener) -> Self {
        // With a queue of one, and that one taken, the kernel drops who comes next.
        rustix::net::listen(&listener, 0).expect("a queue can be made shorter");
        let address = listener.local_addr().expect("a bound socket has an address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok();
        let waiting = std::iter::from_fn(connect).collect();
        Self { listener, forwarder: None, traffic: Arc::default(), waiting }
    }

    fn forwarding(
        listener: TcpListener,
        traffic: Arc<Traffic>,
        connect: impl Fn() -> io::Result<TcpStream> + Send + 'static,
    ) -> Self {
        let accepting = listener.try_clone().expect("a socket has a second handle");
        let shared = Arc::clone(&traffic);
        let forwarder = std::thread::spawn(move || {
            for near in accepting.incoming() {
                // Shut down from the other side.
                let Ok(near) = near else { break };
                // Who cannot be led on is dropped: the client sees its connection reset.
                let Ok(far) = connect() else { continue };
                let pair = Arc::new((near, far));
                shared.add(&pair);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.splice(&pair.0, &pair.1));
            }
        });
        Self { listener, forwarder: Some(forwarder), traffic, waiting: Vec::new() }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(forwarder) = self.forwarder.take() {
            let _ = forwarder.join();
        }
        self.traffic.cut();
    }
}

/// The port of a server's URL, such as `https://127.0.0.1:1234`.
pub fn port_of(url: &str) -> u16 {
    let authority = url.split('/').nth(2).unwrap_or(url);
    let port = authority.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("{url} has no port"))
}
