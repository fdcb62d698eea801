//! All that a GitLab knows.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};

use super::members::Invitation;
use super::options::{Options, Role, TokenKind, TokenSpec};
use super::pipelines::{Job, Pipeline};
use super::projects::{Group, Project};
use super::runners::Runner;
use crate::wire::random;

/// Somebody.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) admin: bool,
}

/// A token and its secret.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: u64,
    pub(crate) secret: String,
    pub(crate) spec: TokenSpec,
    pub(crate) created: Timestamp,
    pub(crate) last_used: Option<Timestamp>,
}

/// All that a GitLab knows.
pub(crate) struct State {
    pub(crate) options: Options,
    /// Its own idea of its address, with the relative root and without a slash at the end.
    pub(crate) url: String,
    /// How far its clock is ahead of the machine's.
    pub(crate) ahead: SignedDuration,
    pub(crate) ids: BTreeMap<&'static str, u64>,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) roles: BTreeMap<(String, String), Role>,
    /// Who has the ability to administer runners beside his role, and where.
    pub(crate) custom_roles: Vec<(String, String)>,
    pub(crate) invitations: Vec<Invitation>,
    pub(crate) groups: BTreeMap<u64, Group>,
    pub(crate) projects: BTreeMap<u64, Project>,
    pub(crate) runners: BTreeMap<u64, Runner>,
    pub(crate) pipelines: BTreeMap<u64, Pipeline>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) instance_registration_token: String,
    pub(crate) maintenance: bool,
    pub(crate) read_only: bool,
    /// Requests of each caller since the start of his minute.
    pub(crate) seen: BTreeMap<String, (Timestamp, u32)>,
    /// The same of lints.
    pub(crate) lints: BTreeMap<String, (Timestamp, u32)>,
    /// Changes whenever there may be something new for runners.
    pub(crate) queue: u64,
}

/// Twenty characters as GitLab's friendly tokens have.
pub(crate) fn friendly() -> String {
    URL_SAFE_NO_PAD.encode(random::<15>())
}

impl State {
    pub(crate) fn new(options: Options, url: String) -> Self {
        Self {
            options,
            url,
            ahead: SignedDuration::ZERO,
            ids: BTreeMap::new(),
            users: BTreeMap::new(),
            tokens: Vec::new(),
            roles: BTreeMap::new(),
            custom_roles: Vec::new(),
            invitations: Vec::new(),
            groups: BTreeMap::new(),
            projects: BTreeMap::new(),
            runners: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            instance_registration_token: friendly(),
            maintenance: false,
            read_only: false,
            seen: BTreeMap::new(),
            lints: BTreeMap::new(),
            queue: 1,
        }
    }

    /// The time by the server's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// The time as JSON has it.
    pub(crate) fn shown(time: Timestamp) -> String {
        format!("{time:.3}")
    }

    /// A number that nothing of this kind has; kinds count from far apart, so that they are not confused.
    pub(crate) fn fresh(&mut self, kind: &'static str) -> u64 {
        let first = match kind {
            "user" => 10,
            "group" => 50,
            "project" => 100,
            "token" => 300,
            "runner" => 1000,
            "manager" => 2000,
            "pipeline" => 5000,
            _ => 9000,
        };
        let next = self.ids.entry(kind).or_insert(first);
        *next += 1;
        *next
    }

    /// The user of this name, made if there is none.
    pub(crate) fn user(&mut self, name: &str) -> User {
        if !self.users.contains_key(name) {
            let id = self.fresh("user");
            self.users.insert(name.to_owned(), User { id, admin: false });
        }
        self.users[name].clone()
    }

    /// Whether somebody administers the instance.
    pub(crate) fn is_admin(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.admin)
    }

    /// Makes a token, and says its secret.
    pub(crate) fn add_token(&mut self, spec: TokenSpec) -> String {
        let prefix = match spec.kind {
            TokenKind::Pat | TokenKind::Project | TokenKind::Group | TokenKind::FineGrained => "glpat-",
            TokenKind::Oauth => "",
            TokenKind::Job => "glcbt-64_",
            TokenKind::Deploy => "gldt-",
        };
        let secret = if prefix.is_empty() {
            random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
        } else {
            format!("{}{prefix}{}", self.prefix(), friendly())
        };
        self.user(&spec.user);
        let (id, created) = (self.fresh("token"), self.now());
        self.tokens.retain(|token| token.spec.name != spec.name);
        self.tokens.push(Token { id, secret: secret.clone(), spec, created, last_used: None });
        secret
    }

    /// The instance's own prefix, with its dash.
    pub(crate) fn prefix(&self) -> String {
        let prefix = &self.options.token_prefix;
        if prefix.is_empty() { String::new() } else { format!("{prefix}-") }
    }

    /// Whether a replica knows by now what was made then.
    pub(crate) fn is_settled(&self, made: Timestamp) -> bool {
        let lag = SignedDuration::try_from(self.options.replica_lag).unwrap_or(SignedDuration::MAX);
        self.now().duration_since(made) >= lag
    }
}
