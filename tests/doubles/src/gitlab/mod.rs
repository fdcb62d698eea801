//! A GitLab: in this process, stateful, and strict about tokens, scopes and roles.
//!
//! It keeps users, tokens, groups, projects with small repositories, runners, pipelines and jobs, all in
//! memory, and speaks as much of the REST API (v4) and of the runners' protocol as outrigger and its
//! runners need. It runs nothing: [`RunnerDriver`] plays the machine.
//!
//! Not known for sure, and made up: that `token_expires_at` is ignored without a licence; the name of the
//! permission to read files; whether a 503 of maintenance mode comes with a `Retry-After` (here: no).

mod answer;
mod auth;
mod ci;
mod commits;
mod create_runner;
mod driver;
mod jobs;
mod machine;
mod members;
mod options;
mod page;
mod params;
mod pipelines;
mod projects;
mod protocol;
mod repository;
mod routes;
mod runner_lists;
mod runner_tokens;
mod runners;
mod state;
mod table;
mod transcript;
mod world;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::SignedDuration;

pub use crate::wire::{Action, Fault, Logged};
pub use driver::RunnerDriver;
pub use machine::{Behaviour, Driven, DriverOptions};
pub use options::{Options, ProjectSpec, Role, TokenKind, TokenSpec};
pub use world::{GROUP, PROJECT};

use crate::wire::{self, Answer, Caller, Request, Running, Service, Traffic, lock};
use state::State;

/// A credential as it arrived, whether it was good for anything or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Method of the request that carried it.
    pub method: String,
    /// Path of that request.
    pub path: String,
    /// The header (or `?name` for a parameter of the query), in lower case.
    pub header: String,
    /// What stood there.
    pub value: String,
}

/// What the handle and the server both know.
struct Shared {
    state: Mutex<State>,
    traffic: Traffic,
    credentials: Mutex<Vec<Credential>>,
}

const HEADERS: &[&str] = &["authorization", "private-token", "job-token", "runner-token", "cookie"];

impl Shared {
    fn note_credentials(&self, request: &Request) {
        let note = |header: String, value: &str| {
            lock(&self.credentials).push(Credential {
                method: request.method.clone(),
                path: request.path.clone(),
                header,
                value: value.to_owned(),
            });
        };
        for name in HEADERS {
            for value in request.headers.get_all(*name) {
                note((*name).to_owned(), &String::from_utf8_lossy(value.as_bytes()));
            }
        }
        for (name, value) in wire::parse_query(&request.raw_query) {
            if name.contains("token") {
                note(format!("?{name}"), &value);
            }
        }
    }
}

impl Service for Shared {
    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn caller(&self, request: &Request) -> Caller {
        self.note_credentials(request);
        let state = lock(&self.state);
        if let Some(token) = state.token_of(request) {
            return Caller { user: token.spec.user.clone(), token: token.spec.name.clone() };
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let runner = body["token"].as_str().and_then(|token| state.runner_of(token));
        let job = body["token"].as_str().unwrap_or_else(|| request.header("job-token"));
        let job = state.jobs.values().find(|known| known.token == job);
        let user = match (runner, job) {
            (Some(id), _) => format!("runner/{id}"),
            (None, Some(job)) => format!("job/{}", job.id),
            (None, None) => String::new(),
        };
        Caller { user, token: String::new() }
    }

    fn answer(&self, request: &Request) -> Answer {
        routes::answer(&mut lock(&self.state), request)
    }

    fn refusal(&self, code: u16, reason: &str, message: &str) -> Answer {
        let mut body = serde_json::json!({"message": message});
        if !reason.is_empty() {
            body["reason"] = reason.into();
        }
        Answer::json(code, &body)
    }

    fn request_id(&self, sequence: usize) -> String {
        format!("01DOUBLE{sequence:018}")
    }

    fn dress(&self, request: &Request, sequence: usize, answer: &mut Answer) {
        // Pages of proxies know nothing of GitLab's ids.
        if answer.content_type.starts_with("text/html") {
            return;
        }
        answer.headers.push(("X-Request-Id".to_owned(), self.request_id(sequence)));
        let state = lock(&self.state);
        let date = jiff::fmt::rfc2822::to_string(&state.now().to_zoned(jiff::tz::TimeZone::UTC));
        answer.headers.push(("Date".to_owned(), date.unwrap_or_default().replace("+0000", "GMT")));
        if state.options.rate_limit_headers {
            answer.headers.extend(state.rate_limit(request));
        }
    }
}

/// A running GitLab; dropped, it stops.
///
/// In it from the start: the group [`GROUP`] with the project [`PROJECT`]; the users `root` (administrator),
/// `owner` (of the group), `maintainer`, `developer`, `reporter` and `guest` (of the project), and
/// `stranger` (of nothing), each with a token of his own name and scope `api`; and the maintainer's tokens
/// `read_api`, `create_runner`, `manage_runner` and `narrow` (the last two scopes together).
pub struct FakeGitlab {
    shared: Arc<Shared>,
    ca_pem: String,
    address: String,
    running: Running,
}

impl FakeGitlab {
    /// Starts a GitLab on a free port of this machine, with a CA of its own.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let socket = wire::listen();
        let scheme = if options.tls { "https" } else { "http" };
        let address = format!("{scheme}://{}{}", socket.1, options.relative_root);
        let (ca_pem, tls) = wire::certificates("Example GitLab CA", "gitlab");
        let tls = options.identity.as_ref().map_or(tls, wire::Identity::server);
        let tls = Some(tls).filter(|_| options.tls);
        let url = options.external_url.clone().unwrap_or_else(|| address.clone());
        let traffic = Traffic { delay: options.delay, ..Traffic::default() };
        let mut state = State::new(options, url);
        world::seed(&mut state);
        let shared = Arc::new(Shared { state: Mutex::new(state), traffic, credentials: Mutex::default() });
        let running = Running::start(&shared, tls, socket);
        Self { shared, ca_pem, address, running }
    }

    /// Where it is reached, with the relative root and without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.clone()
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.running.address.port()
    }

    /// The CA that signed its certificate.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }

    /// Every request since the start, or since they were cleared; no secret is in it. Those by a user's
    /// token have its name; those of runners and their jobs have `runner/1001` or `job/9001` for a user.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.shared.traffic.log.entries()
    }

    /// Every credential that arrived, in clear, good or not, since the start or since they were cleared.
    #[must_use]
    pub fn credentials(&self) -> Vec<Credential> {
        lock(&self.shared.credentials).clone()
    }

    /// Forgets requests and credentials so far.
    pub fn clear_requests(&self) {
        self.shared.traffic.log.clear();
        lock(&self.shared.credentials).clear();
    }

    /// Puts a fault in the way; of several that match a request, the oldest acts.
    pub fn inject(&self, fault: Fault) {
        self.shared.traffic.inject(fault);
    }

    /// Takes all faults out of the way.
    pub fn clear_faults(&self) {
        self.shared.traffic.clear_faults();
    }

    /// Switches maintenance mode: nothing can be written.
    pub fn set_maintenance(&self, on: bool) {
        self.state().maintenance = on;
    }

    /// Switches whether the instance is a read-only one, such as a Geo secondary.
    pub fn set_read_only(&self, on: bool) {
        self.state().read_only = on;
    }

    /// Every route that is served, as `GET /projects/:id`.
    #[must_use]
    pub fn routes() -> BTreeSet<String> {
        table::ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect()
    }

    /// The routes of [`Self::routes`] that were asked for and answered well, in the requests so far.
    #[must_use]
    pub fn routes_answered(&self) -> BTreeSet<String> {
        let root = self.state().options.relative_root.clone();
        let well = self.requests().into_iter().filter(|request| request.status < 400);
        well.filter_map(|request| {
            let parts = routes::segments(&root, &request.path)?;
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            table::find(&request.method, &parts)
        })
        .map(|route| format!("{} {}", route.method, route.path))
        .collect()
    }

    /// Puts the server's clock forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.ahead += SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        state.drop_stuck_jobs();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}
