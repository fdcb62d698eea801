//! A machine reaches what it is led to, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;

use outrigger_doubles::gitlab::{FakeGitlab, Options};

use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::net::port_of;
use super::super::vm::roots::Root;

/// curl's exit codes: refused, nothing received, and out of time.
const REFUSED: i32 = 7;
const EMPTY: i32 = 52;
const RESET: i32 = 56;
const LATE: i32 = 28;

/// A server that greets whoever has sent something; for `/wait` it first says nothing until the other side
/// has gone. It ends with the test process.
fn greeter() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes)?;
                if bytes[..count].starts_with(b"GET /wait") {
                    return stream.read(&mut bytes).map(drop);
                }
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello from the host")
            });
        }
    });
    port
}

/// Asks with curl: its exit code, what it got, and whether there was a connection.
fn ask(vm: &Vm, port: u16, path: &str) -> (i32, String, bool) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let output = vm.exec(&["curl", "-sS", "--max-time", "3", "-w", "\n%{time_connect}", &url]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, connected) = text.rsplit_once('\n').unwrap_or_else(|| panic!("curl said {output:?}"));
    (output.status.into_raw() >> 8, body.to_owned(), connected != "0.000000")
}

/// The four ways that a port can be.
pub fn port_by_port(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    let (port, other) = (greeter(), greeter());
    vm.network().forward(port);
    vm.boot_idle();
    let served = (0, "hello from the host".to_owned(), true);
    assert_eq!(ask(&vm, port, "/"), served);
    assert_eq!(ask(&vm, other, "/"), (REFUSED, String::new(), false), "a port that nobody opened");
    vm.network().refuse(port);
    assert_eq!(ask(&vm, port, "/"), (REFUSED, String::new(), false));
    vm.network().silence(port);
    assert_eq!(ask(&vm, port, "/"), (LATE, String::new(), true));
    vm.network().swallow(port);
    assert_eq!(ask(&vm, port, "/"), (LATE, String::new(), false));
    vm.network().forward(port);
    assert_eq!(ask(&vm, port, "/"), served);
    let elsewhere = ([127, 0, 0, 1], other).into();
    vm.network().forward_to(1234, elsewhere);
    assert_eq!(ask(&vm, 1234, "/"), served);
    let interfaces = vm.sh("ls /sys/class/net; ip -o address show up");
    assert!(
        interfaces.starts_with("lo\n") && interfaces.lines().all(|line| line.contains("lo")),
        "{interfaces}"
    );
}

/// Whoever is connected when a port is closed is cut off at once.
pub fn cuts_what_is_open(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    let port = greeter();
    vm.network().forward(port);
    vm.boot_idle();
    let url = format!("http://127.0.0.1:{port}/wait");
    vm.sh(&format!("systemd-run --unit=asks --property=Type=exec curl -sS --max-time 250 {url}"));
    let connected = || vm.sh("ss -tnH state established").contains(&format!(":{port}"));
    vm.wait("a connection", connected);
    vm.network().refuse(port);
    vm.wait("the end of the connection", || !connected());
    vm.wait("the end of curl", || vm.sh("systemctl show -P ActiveState asks") == "failed");
    // As a reset or as an early end: what curl sees first depends on what it is doing.
    let code = vm.sh("systemctl show -P ExecMainStatus asks");
    assert!([EMPTY, RESET].map(|code| code.to_string()).contains(&code), "{code}");
}

/// The doubles have the same address and certificate inside as outside.
pub fn leads_to_the_doubles(beds: &Beds) {
    let vm = beds.vm(Root::Bookworm);
    let gitlab = FakeGitlab::start(Options::default());
    vm.network().forward(port_of(&gitlab.url()));
    vm.write("/root/gitlab-ca.pem", gitlab.ca_pem());
    vm.boot_idle();
    let url = format!("{}/api/v4/version", gitlab.url());
    let curl =
        |ca: &str| vm.exec(&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ca, &url]);
    let trusted = curl("/root/gitlab-ca.pem");
    assert_eq!(String::from_utf8_lossy(&trusted.stdout), "401", "{trusted:?}");
    let untrusted = curl("/etc/ssl/certs/ca-certificates.crt");
    assert_eq!(untrusted.status.code(), Some(60), "{untrusted:?}");
}
