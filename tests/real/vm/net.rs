//! A machine's network: a namespace that has nothing but `lo`, and forwarders that lead from ports of its
//! 127.0.0.1 to the same ports of ours. So servers of the tests have one address and one certificate on
//! both sides, and every way on which a network fails can be played port by port.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The namespace, which lives as long as this or a process in it.
pub struct Network {
    namespace: OwnedFd,
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
        Ok(Self { namespace: opened.map_err(failed)?.into(), ports: Mutex::default() })
    }

    /// Leads the machine's 127.0.0.1:`port` to ours.
    pub fn forward(&self, port: u16) {
        self.forward_to(port, SocketAddr::from(([127, 0, 0, 1], port)));
    }

    /// Leads the machine's 127.0.0.1:`port` to a server of another address.
    pub fn forward_to(&self, port: u16, server: SocketAddr) {
        self.refuse(port);
        self.put(port, Port::forwarding(self.listen(port), server));
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
        // With a queue of one, and that one taken, the kernel drops who comes next.
        rustix::net::listen(&listener, 0).expect("a queue can be made shorter");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let waiting = self.inside(|| {
            let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500));
            std::iter::from_fn(|| connect().ok()).collect()
        });
        let mut state = Port::silent(listener);
        state.waiting = waiting;
        self.put(port, state);
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
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the namespace can be entered");
                act()
            });
            thread.join().expect("no panic in the namespace")
        })
    }
}

/// A connection of the machine's, and the one that it is led on by.
type Pair = (TcpStream, TcpStream);

/// What is at a port of the machine. Dropped, it is closed and its connections are cut.
struct Port {
    listener: TcpListener,
    forwarder: Option<JoinHandle<()>>,
    open: Arc<Mutex<Vec<Weak<Pair>>>>,
    /// Connections that take the place of others.
    waiting: Vec<TcpStream>,
}

impl Port {
    fn silent(listener: TcpListener) -> Self {
        Self { listener, forwarder: None, open: Arc::default(), waiting: Vec::new() }
    }

    fn forwarding(listener: TcpListener, server: SocketAddr) -> Self {
        let mut port = Self::silent(listener);
        let accepting = port.listener.try_clone().expect("a socket has a second handle");
        let open = Arc::clone(&port.open);
        port.forwarder = Some(std::thread::spawn(move || {
            for near in accepting.incoming() {
                // Shut down from the other side.
                let Ok(near) = near else { break };
                // Who cannot be led on is dropped: the machine sees its connection reset.
                let Ok(far) = TcpStream::connect(server) else { continue };
                let pair = Arc::new((near, far));
                open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&pair));
                std::thread::spawn(move || splice(&pair.0, &pair.1));
            }
        }));
        port
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(forwarder) = self.forwarder.take() {
            let _ = forwarder.join();
        }
        for pair in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(pair) = pair.upgrade() {
                let _ = pair.0.shutdown(Shutdown::Both);
                let _ = pair.1.shutdown(Shutdown::Both);
            }
        }
    }
}

/// The port of a server's URL, such as `https://127.0.0.1:1234`.
pub fn port_of(url: &str) -> u16 {
    let authority = url.split('/').nth(2).unwrap_or(url);
    let port = authority.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("{url} has no port"))
}

/// Passes bytes on in both directions until both have ended.
fn splice(near: &TcpStream, far: &TcpStream) {
    let pass = |mut from: &TcpStream, mut to: &TcpStream| {
        // An end that went away ends its direction, and that is all.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pass(near, far));
        pass(far, near);
    });
}
