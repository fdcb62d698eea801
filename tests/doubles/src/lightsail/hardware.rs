//! What stands behind an instance.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::wire::{lock, random};

/// Ports that a firewall lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPort {
    /// `tcp`, `udp`, `icmp`, `icmpv6` or `all`.
    pub protocol: String,
    /// The first port.
    pub from: i64,
    /// The last port.
    pub to: i64,
    /// From where, of both families; `lightsail-connect` is no address, and is not in here.
    pub cidrs: Vec<String>,
}

/// The machine behind an instance. Its methods are called one at a time, and the service answers nobody until they
/// return.
pub trait Hardware: Send + Sync {
    /// The instance was created; returns at once.
    fn create(&self, name: &str, user_data: &str);
    /// Its public IPv4 address, once it has one.
    fn address(&self, name: &str) -> Option<Ipv4Addr>;
    /// `(algorithm, base64)` of its host keys, once they are known.
    fn host_keys(&self, name: &str) -> Vec<(String, String)>;
    /// A private key (OpenSSH PEM), its certificate line and the user name (empty: the blueprint's), valid for a few
    /// minutes.
    fn access(&self, name: &str) -> (String, String, String);
    /// The open ports changed; after creation they are 22 and 80 without a call.
    fn ports(&self, name: &str, open: &[OpenPort]);
    /// Its address changed: a static IP was attached or detached, or it was stopped and started.
    fn moved(&self, _name: &str, _address: Ipv4Addr) {}
    /// It was stopped (or started again).
    fn power(&self, _name: &str, _on: bool) {}
    /// Deleted: its power is cut.
    fn delete(&self, name: &str);
}

/// No machine: an address of the loopback network where nothing listens, one host key, and keys and certificates
/// that `ssh-keygen` makes.
#[derive(Default)]
pub struct Paper {
    made: Mutex<BTreeMap<String, (Ipv4Addr, String)>>,
    next: AtomicU32,
    authority: OnceLock<TempDir>,
}

impl Paper {
    /// The CA's public key, as `TrustedUserCAKeys` has it.
    ///
    /// # Panics
    /// If there is no `ssh-keygen`.
    #[must_use]
    pub fn authority(&self) -> String {
        std::fs::read_to_string(self.folder().join("ca.pub")).expect("ssh-keygen writes ca.pub")
    }

    fn folder(&self) -> &Path {
        let folder = self.authority.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder can be made");
            keygen(&["-t", "rsa", "-b", "2048", "-f", &file(&folder, "ca")]);
            folder
        });
        folder.path()
    }
}

impl Hardware for Paper {
    fn create(&self, name: &str, _user_data: &str) {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 78, 0, 0)) + number);
        // RFC 8709: the algorithm's name, and 32 bytes of key.
        let parts: [&[u8]; 2] = [b"ssh-ed25519", &random::<32>()];
        let mut key = Vec::new();
        for part in parts {
            key.extend_from_slice(&u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
            key.extend_from_slice(part);
        }
        lock(&self.made).insert(name.to_owned(), (address, STANDARD.encode(key)));
    }

    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        lock(&self.made).get(name).map(|(address, _)| *address)
    }

    fn host_keys(&self, name: &str) -> Vec<(String, String)> {
        let made = lock(&self.made);
        made.get(name).map(|(_, key)| ("ssh-ed25519".to_owned(), key.clone())).into_iter().collect()
    }

    fn access(&self, _name: &str) -> (String, String, String) {
        let own = tempfile::tempdir().expect("a folder can be made");
        let key = file(&own, "key");
        keygen(&["-t", "ecdsa", "-f", &key]);
        let ca = self.folder().join("ca").display().to_string();
        keygen(&[
            "-s",
            &ca,
            "-t",
            "ssh-rsa",
            "-I",
            "lightsail",
            "-n",
            "ubuntu,admin",
            "-V",
            "-1m:+13m",
            &format!("{key}.pub"),
        ]);
        let read = |path: &str| std::fs::read_to_string(path).expect("ssh-keygen writes it");
        (read(&key), read(&format!("{key}-cert.pub")), String::new())
    }

    fn ports(&self, _name: &str, _open: &[OpenPort]) {}

    fn delete(&self, name: &str) {
        lock(&self.made).remove(name);
    }
}

fn file(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn keygen(arguments: &[&str]) {
    // A CA's certificate is not made with a passphrase; a key is.
    let passphrase: &[&str] = if arguments[0] == "-s" { &[] } else { &["-N", ""] };
    let output = Command::new("ssh-keygen")
        .arg("-q")
        .args(arguments)
        .args(passphrase)
        .stdin(Stdio::null())
        .output()
        .expect("ssh-keygen (openssh-client) is installed");
    assert!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
}
