//! The server of packages: plain HTTP on 127.0.0.1, as mirrors are, with faults on demand.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Vm;
use super::repository::{DOWNLOADS, MIRROR, Repository};

/// Where a machine keeps the mirror's key.
const MIRROR_KEY: &str = "/usr/share/keyrings/distribution.asc";

/// A running server. It ends when this is dropped.
pub struct AptServer {
    port: u16,
    mirror_key: String,
    shared: Arc<Shared>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    files: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<String>,
    /// Part of a path, and how many more requests for it fail.
    faults: Vec<(String, usize)>,
    instead: BTreeMap<String, Vec<u8>>,
    down: bool,
}

impl AptServer {
    /// Starts one that serves a repository.
    pub fn start(repository: &Repository) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free on 127.0.0.1");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared { files: repository.files(), state: Mutex::default() });
        let accepting = listener.try_clone().expect("a socket has a second handle");
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in accepting.incoming() {
                // Shut down from the other side.
                let Ok(stream) = stream else { break };
                let shared = Arc::clone(&serving);
                // A client that goes away ends its connection, and that is all.
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Self {
            port,
            mirror_key: repository.mirror_key.armoured.clone(),
            shared,
            listener,
            thread: Some(thread),
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// What `--apt-url` takes: GitLab's repository without the name of the distribution.
    pub fn apt_url(&self) -> String {
        self.url("runner/gitlab-runner")
    }

    /// What `--key-url` takes.
    pub fn key_url(&self) -> String {
        self.url("gpgkey/gpg.key")
    }

    /// What `--binary-url` takes: the folder that has one for each version.
    pub fn binary_url(&self) -> String {
        self.url(DOWNLOADS)
    }

    /// Makes it the mirror of a machine, and opens the way to it.
    pub fn serve(&self, vm: &Vm) {
        vm.write(MIRROR_KEY, &self.mirror_key);
        let (mirror, codename) = (self.url(MIRROR), vm.root().codename());
        vm.write("/etc/apt/sources.list", format!("deb [signed-by={MIRROR_KEY}] {mirror} {codename} main\n"));
        vm.network().forward(self.port);
    }

    /// The requests so far, as `GET /path 200` each; code 0 if the connection was closed without an answer.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// The next so many requests whose path contains `part` are answered 503.
    pub fn fail(&self, part: &str, times: usize) {
        self.shared.state().faults.push((part.to_owned(), times));
    }

    /// This path (with its slash in front) is answered with these bytes from now on.
    pub fn answer(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.shared.state().instead.insert(path.to_owned(), bytes.into());
    }

    /// While it is down it closes every connection without an answer.
    pub fn set_down(&self, down: bool) {
        self.shared.state().down = down;
    }
}

impl Drop for AptServer {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests of one connection, one after the other: apt sends some of them in advance.
    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next().transpose()? {
            while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
            let mut words = line.split(' ');
            let method = words.next().unwrap_or_default();
            let path = decode(words.next().unwrap_or_default());
            let answer = self.answer(method, &path);
            let code = answer.as_ref().map_or(0, |(code, _)| *code);
            self.state().requests.push(format!("{method} {path} {code}"));
            let Some((code, body)) = answer else { return stream.shutdown(Shutdown::Both) };
            write!(stream, "HTTP/1.1 {code} -\r\nContent-Length: {}\r\n\r\n", body.len())?;
            if method != "HEAD" {
                stream.write_all(&body)?;
            }
        }
        Ok(())
    }

    /// Status code and body; `None` when it is down.
    fn answer(&self, method: &str, path: &str) -> Option<(u16, Vec<u8>)> {
        let mut state = self.state();
        if state.down {
            return None;
        }
        if let Some((_, left)) =
            state.faults.iter_mut().find(|(part, left)| *left > 0 && path.contains(part.as_str()))
        {
            *left -= 1;
            return Some((503, b"out of order\n".to_vec()));
        }
        if !matches!(method, "GET" | "HEAD") {
            return Some((405, Vec::new()));
        }
        if let Some(bytes) = state.instead.get(path) {
            return Some((200, bytes.clone()));
        }
        if path.split('/').any(|part| part == "..") {
            return Some((400, Vec::new()));
        }
        Some(
            fs::read(self.files.join(path.trim_start_matches('/')))
                .map_or((404, Vec::new()), |body| (200, body)),
        )
    }
}

/// A path without its `%41`s.
fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code =
            after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        if let (b'%', Some(byte)) = (first, code) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
