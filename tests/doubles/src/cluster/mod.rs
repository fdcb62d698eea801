//! A Kubernetes API server: in this process, stateful, and strict about who may do what.
//!
//! It keeps objects, evaluates RBAC (with the check against escalation), tracks field managers, fills
//! token Secrets and empties namespaces, all in memory and within milliseconds. It does not watch, run
//! pods, or know schemas.

mod answer;
mod apply;
mod builtin;
mod controllers;
mod crud;
mod discovery;
mod fault;
mod managed;
mod rbac;
mod reviews;
mod routes;
mod server;
mod store;
mod tokens;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub use builtin::seed_rbac;
pub use fault::{Action, Fault};

use fault::Armed;
use routes::Request;
use store::{Key, State};

/// Somebody with a bearer token of his own.
#[derive(Clone, Debug)]
pub struct User {
    /// User name.
    pub name: String,
    /// Bearer token.
    pub token: String,
    /// Groups besides `system:authenticated`.
    pub groups: Vec<String>,
}

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who has a bearer token.
    pub users: Vec<User>,
    /// What every request waits before it is looked at.
    pub delay: Duration,
    /// The server's version.
    pub version: String,
    /// Whether token Secrets are filled.
    pub token_controller: bool,
    /// What requested tokens are shortened to, without a word.
    pub max_token_lifetime: Option<Duration>,
    /// The name in kubeconfigs.
    pub cluster_name: String,
    /// How long tokens work on after their Secret or service account is gone.
    pub revocation_lag: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: standard_users(),
            delay: Duration::ZERO,
            version: "v1.37.2".to_owned(),
            token_controller: true,
            max_token_lifetime: None,
            cluster_name: "double".to_owned(),
            revocation_lag: Duration::ZERO,
        }
    }
}

/// The operators of the tests: one for whom nothing is refused, one who may bind, one who may not, and
/// one who may do nothing. What the middle two may do is [`seed_rbac`].
#[must_use]
pub fn standard_users() -> Vec<User> {
    let user = |short: &str, name: &str, groups: &[&str]| User {
        name: name.to_owned(),
        token: format!("double-token-{short}-{}", URL_SAFE_NO_PAD.encode(store::random::<16>())),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    vec![
        user("admin", "kubernetes-admin", &["system:masters"]),
        user("binder", "binder@example.com", &[]),
        user("limited", "limited@example.com", &[]),
        user("nobody", "nobody@example.com", &[]),
    ]
}

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark.
    pub query: String,
    /// Who it was authenticated as (before any impersonation), empty if nobody.
    pub user: String,
    /// Status of the answer, 0 if there was none.
    pub status: u16,
    /// Counts up from the cluster's start.
    pub sequence: usize,
    /// When its head had come in.
    pub started: Instant,
    /// When its answer went out, or the connection was closed; nothing if it still waits.
    pub finished: Option<Instant>,
}

#[derive(Default)]
struct Log {
    next: usize,
    entries: Vec<Logged>,
}

/// What the handle and the server both know.
struct Shared {
    state: Mutex<State>,
    log: Mutex<Log>,
    faults: Mutex<Vec<Armed>>,
    delay: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn user_of(&self, request: &Request) -> String {
        let mut state = lock(&self.state);
        state.advance();
        let who = request.bearer.as_deref().and_then(|token| state.authenticate(token));
        who.map(|who| who.name).unwrap_or_default()
    }

    fn log_start(&self, mut entry: Logged) -> usize {
        let mut log = lock(&self.log);
        log.next += 1;
        entry.sequence = log.next;
        log.entries.push(entry);
        log.next
    }

    fn log_end(&self, sequence: usize, status: u16) {
        let mut log = lock(&self.log);
        if let Some(entry) = log.entries.iter_mut().find(|entry| entry.sequence == sequence) {
            entry.status = status;
            entry.finished = Some(Instant::now());
        }
    }

    fn armed(&self, request: &Request) -> Option<Arc<Action>> {
        lock(&self.faults).iter_mut().find_map(|fault| fault.hit(request))
    }
}

/// A running cluster; dropped, it stops.
pub struct FakeCluster {
    shared: Arc<Shared>,
    options: Options,
    ca_pem: String,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeCluster {
    /// Starts a cluster on a free port of this machine, with a CA of its own.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (ca_pem, tls) = server::certificates();
        let (listener, address) = server::listen();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options.clone(), ca_pem.clone())),
            log: Mutex::default(),
            faults: Mutex::default(),
            delay: options.delay,
        });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || server::run(&served, tls, listener, stopped));
        Self { shared, options, ca_pem, address, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The CA that signed its certificate.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }

    /// The bearer token of a user.
    ///
    /// # Panics
    /// If there is no such user.
    #[must_use]
    pub fn token(&self, user: &str) -> String {
        let found = self.options.users.iter().find(|known| known.name == user);
        found.unwrap_or_else(|| panic!("the cluster has no user {user}")).token.clone()
    }

    /// A kubeconfig (YAML) with one context, for one user.
    ///
    /// # Panics
    /// If there is no such user.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> String {
        let name = json!(self.options.cluster_name);
        let ca = STANDARD.encode(&self.ca_pem);
        let (url, token, user) = (self.url(), json!(self.token(user)), json!(user));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {url}\n    certificate-authority-data: {ca}\n\
             users:\n- name: {user}\n  user:\n    token: {token}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {user}\n"
        )
    }

    /// Every request since the start, or since they were cleared.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        lock(&self.shared.log).entries.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        lock(&self.shared.log).entries.clear();
    }

    /// The state, with everything done that is due.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.shared.state);
        state.advance();
        state
    }

    /// Everything stored, by `v1/Secret/namespace/name` and the like.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Value> {
        self.state().objects.iter().map(|(key, object)| (key.shown(), object.clone())).collect()
    }

    /// Creates or replaces an object in the collection at a path, with no questions asked.
    ///
    /// # Panics
    /// If nothing is served at that path.
    pub fn put(&self, path: &str, object: Value) {
        let (kind, namespace, _) =
            routes::place(path).unwrap_or_else(|| panic!("nothing is served at {path}"));
        self.state().admit(kind, &namespace, object, "test");
    }

    /// Deletes the object at a path, if it is there, with no questions asked.
    ///
    /// # Panics
    /// If nothing is served at that path.
    pub fn remove(&self, path: &str) {
        let (kind, namespace, name) =
            routes::place(path).unwrap_or_else(|| panic!("nothing is served at {path}"));
        self.state().delete(&Key::new(kind, &namespace, &name));
    }

    /// Puts a fault in the way; of several that match a request, the oldest acts.
    pub fn inject(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault.into());
    }

    /// Takes all faults out of the way.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Switches the token controller; switched on, it fills what waits.
    pub fn set_token_controller(&self, on: bool) {
        self.state().set_token_controller(on);
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // A hook may hold the last handle: its own thread cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}
