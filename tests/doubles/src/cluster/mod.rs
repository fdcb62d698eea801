//! A Kubernetes API server: in this process, stateful, and strict about who may do what.
//!
//! It keeps objects, evaluates RBAC (with the check against escalation), tracks field managers, fills
//! token Secrets and empties namespaces, all in memory and within milliseconds. It does not watch, run
//! pods, or know schemas.

mod admission;
mod answer;
mod apply;
mod builtin;
mod controllers;
mod crud;
mod discovery;
mod managed;
mod rbac;
mod reviews;
mod routes;
mod store;
mod tokens;
mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub use crate::wire::{Action, Fault, Logged};
pub(crate) use admission::review;
pub use admission::{By, Rule};
pub use builtin::{builtin_roles, seed_rbac};

use crate::wire::{self, Answer, Caller, Running, Service, Traffic, lock};
use answer::Refusal;
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

/// What the handle and the server both know.
struct Shared {
    state: Mutex<State>,
    traffic: Traffic,
}

impl Service for Shared {
    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn caller(&self, request: &wire::Request) -> Caller {
        let mut state = lock(&self.state);
        state.advance();
        let who = routes::bearer(request).and_then(|token| state.authenticate(&token));
        Caller { user: who.map(|who| who.name).unwrap_or_default(), token: String::new() }
    }

    fn answer(&self, request: &wire::Request) -> Answer {
        let request = Request::from(request);
        let mut state = lock(&self.state);
        state.advance();
        let caller = request.bearer.as_deref().and_then(|token| state.authenticate(token));
        let outcome = match caller {
            Some(who) => routes::answer(&mut state, who, &request),
            None => Err(Refusal::unauthorized()),
        };
        outcome.unwrap_or_else(Refusal::into_answer)
    }

    fn refusal(&self, code: u16, reason: &str, message: &str) -> Answer {
        Refusal::plain(code, reason, message).into_answer()
    }
}

/// A running cluster; dropped, it stops.
pub struct FakeCluster {
    shared: Arc<Shared>,
    options: Options,
    ca_pem: String,
    running: Running,
}

impl FakeCluster {
    /// Starts a cluster on a free port of this machine, with a CA of its own.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (ca_pem, tls) = wire::certificates("kubernetes", "kube-apiserver");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options.clone(), ca_pem.clone())),
            traffic: Traffic { delay: options.delay, ..Traffic::default() },
        });
        let running = Running::start(&shared, Some(tls), wire::listen());
        Self { shared, options, ca_pem, running }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.running.address)
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
        self.shared.traffic.log.entries()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.traffic.log.clear();
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
        self.shared.traffic.inject(fault);
    }

    /// Takes all faults out of the way.
    pub fn clear_faults(&self) {
        self.shared.traffic.clear_faults();
    }

    /// Replaces the rules that policies and webhooks have about creations.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.state().rules = rules;
    }

    /// Switches the token controller; switched on, it fills what waits.
    pub fn set_token_controller(&self, on: bool) {
        self.state().set_token_controller(on);
    }
}
