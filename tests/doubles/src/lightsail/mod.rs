//! A Lightsail: in this process, stateful, and strict about signatures, permissions and shapes.
//!
//! The service's own model judges every request, and every answer before it goes out: an answer that the model does
//! not allow ends the test. Signatures are verified in full. The Security Token Service answers at the same address.
//!
//! Not known for sure, and made up, on the strict side: what is answered to no ports at all, to closing a port that is
//! not open, to a port rule that names addresses of one family only, to the release of an attached static IP, to
//! changes of ports and to access details before an instance runs; the states of an instance that is being deleted;
//! the words of errors that no user has reported.

mod access;
mod authority;
mod call;
mod catalog;
mod client;
mod firewall;
mod hardware;
mod instances;
mod lists;
mod model;
mod options;
mod policy;
mod put;
mod refusal;
mod sigv4;
mod static_ips;
mod sts;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::Value;

pub use crate::wire::{Action, Fault};
pub use client::Client;
pub use hardware::{Hardware, OpenPort, Paper};
pub use instances::DEFAULT_KEY_PAIR;
pub use options::{ACCOUNT, KeySpec, Lags, Options};
pub use put::Foreign;
pub use refusal::Refusal;

use crate::wire::{self, Answer, Caller, Request, Running, Service, Traffic, lock};
use access::Key;
use call::{Call, Outcome};
use model::{MODEL, Problem};
use refusal::{Error, JSON};
use sigv4::Verifier;
use world::State;

/// One request as the service saw it; no secret is in it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Such as `CreateInstances`; `GetCallerIdentity` for the Security Token Service; empty if it named none.
    pub operation: String,
    /// The body, null if it is no JSON.
    pub members: Value,
    /// Status of the answer, 0 if there was none.
    pub status: u16,
    /// The id of the access key that it was signed with, known or not; empty if none.
    pub access_key: String,
    /// The ARN of a known key.
    pub caller: String,
    /// Counts up from the server's start.
    pub sequence: usize,
    /// When its head had come in.
    pub started: Instant,
    /// When its answer went out, or the connection was closed; nothing if it still waits.
    pub finished: Option<Instant>,
}

/// An access key, for a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token, empty if it has none.
    pub session_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the handle and the server both know.
struct Shared {
    state: Mutex<State>,
    traffic: Traffic,
    /// Bodies by the requests' numbers; that of the request that has no number yet is under 0.
    bodies: Mutex<BTreeMap<usize, Value>>,
    /// What was wrong with the stand-in's own answers.
    wrong: Mutex<Vec<String>>,
}

impl Shared {
    /// Who asks, for which region, if the signature is right.
    fn signer(state: &State, request: &Request, service: &str) -> Outcome<(Key, String)> {
        let options = &state.options;
        let verifier = Verifier { now: state.now(), service, regions: &options.regions };
        let signed = verifier.verify(request, &state.keys)?;
        Ok((signed.key.clone(), signed.region))
    }

    fn lightsail(&self, request: &Request, operation: &str) -> Outcome {
        let mut state = lock(&self.state);
        let known = MODEL.operations().any(|known| known == operation);
        if request.method != "POST" || !known {
            return Err(Error::new("UnknownOperationException", ""));
        }
        let (key, region) = Self::signer(&state, request, "lightsail")?;
        if request.content_type() != JSON {
            let text = format!("The content type is not {JSON}");
            return Err(Error::new("SerializationException", text));
        }
        let body: Value = serde_json::from_slice(&request.body)
            .map_err(|error| Error::new("SerializationException", error.to_string()))?;
        MODEL.request(operation, &body).map_err(|problem| match problem {
            Problem::Form(text) => Error::new("SerializationException", text),
            Problem::Value(text) => Error::input(text),
        })?;
        let mut call = Call::new(&mut state, key, region, &body);
        call.authorize(operation)?;
        if let Some(refusal) = call.state.refused(operation) {
            return Err(refusal.error());
        }
        let answer = perform(&mut call, operation)?;
        if let Err(problem) = MODEL.answer(operation, &answer) {
            lock(&self.wrong).push(format!("{operation}: {}", problem.text()));
        }
        Ok(answer)
    }

    fn sts(&self, request: &Request) -> Outcome<Key> {
        let mut state = lock(&self.state);
        let (key, _) = Self::signer(&state, request, "sts")?;
        sts::judge(request)?;
        state.refused(sts::OPERATION).map_or(Ok(key), |refusal| Err(refusal.error()))
    }
}

/// Does what was asked.
fn perform(call: &mut Call<'_>, operation: &str) -> Outcome {
    match operation {
        "AllocateStaticIp" => static_ips::allocate(call),
        "AttachStaticIp" => static_ips::attach(call),
        "CloseInstancePublicPorts" => firewall::close(call),
        "CreateInstances" => instances::create(call),
        "DeleteInstance" => instances::delete(call),
        "DetachStaticIp" => static_ips::detach(call),
        "GetBlueprints" => lists::blueprints(call),
        "GetBundles" => lists::bundles(call),
        "GetInstance" => instances::get(call),
        "GetInstanceAccessDetails" => instances::access(call),
        "GetInstancePortStates" => firewall::states(call),
        "GetOperation" => lists::operation(call),
        "GetRegions" => Ok(lists::regions(call)),
        "GetStaticIp" => static_ips::get(call),
        "PutInstancePublicPorts" => firewall::put(call),
        "ReleaseStaticIp" => static_ips::release(call),
        "TagResource" => lists::tag(call),
        "UpdateInstanceMetadataOptions" => instances::metadata(call),
        other => unreachable!("{other} is in the model"),
    }
}

impl Service for Shared {
    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn route(&self, request: &mut Request) {
        if request.path != "/" || !request.raw_query.is_empty() {
            return;
        }
        let target = request.header("x-amz-target");
        let operation = match target.strip_prefix(&MODEL.target_prefix()) {
            Some(operation) => operation.to_owned(),
            None if target.is_empty() && sts::is_form(request) => sts::action(request),
            None => return,
        };
        if operation.chars().all(|c| c.is_ascii_alphanumeric()) {
            request.path = format!("/{operation}");
        }
    }

    fn caller(&self, request: &Request) -> Caller {
        lock(&self.bodies).insert(0, serde_json::from_slice(&request.body).unwrap_or_default());
        let token = sigv4::key_id(request);
        let state = lock(&self.state);
        let user = state.keys.iter().find(|key| key.id == token).map(Key::arn).unwrap_or_default();
        Caller { user, token }
    }

    fn answer(&self, request: &Request) -> Answer {
        if sts::is_form(request) {
            let id = world::uuid();
            let known = self.sts(request);
            return match known {
                Ok(key) => sts::identity(request, &key, &id),
                Err(error) => sts::refusal(request, &error, &id),
            };
        }
        match self.lightsail(request, request.path.trim_start_matches('/')) {
            Ok(body) => Answer { content_type: JSON.to_owned(), ..Answer::json(200, &body) },
            Err(error) => error.answer(),
        }
    }

    fn refusal(&self, code: u16, reason: &str, message: &str) -> Answer {
        Answer { code, ..Error::new(reason, message).answer() }
    }

    fn request_id(&self, sequence: usize) -> String {
        let mut bodies = lock(&self.bodies);
        if let Some(body) = bodies.remove(&0) {
            bodies.insert(sequence, body);
        }
        String::new()
    }

    fn dress(&self, _request: &Request, _sequence: usize, answer: &mut Answer) {
        answer.headers.push(("x-amzn-RequestId".to_owned(), world::uuid()));
        let now = lock(&self.state).now();
        let date = jiff::fmt::rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC));
        answer.headers.push(("Date".to_owned(), date.unwrap_or_default().replace("+0000", "GMT")));
    }
}

/// A running Lightsail; dropped, it stops.
///
/// Those who may call are `admin` (a user who may do everything), `session` (an assumed role, with a session token),
/// `expired` (the same, whose token is no longer valid), `reader` (who may only read), `stranger` (of another
/// account), and [`Options::keys`].
pub struct FakeLightsail {
    shared: Arc<Shared>,
    ca_pem: String,
    address: String,
    _running: Running,
}

impl FakeLightsail {
    /// Starts a Lightsail on a free port of this machine.
    ///
    /// # Panics
    /// If a key's policy has what is not played.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let socket = wire::listen();
        let scheme = if options.tls { "https" } else { "http" };
        let address = format!("{scheme}://{}", socket.1);
        let (ca_pem, tls) = wire::certificates("Example Lightsail CA", "lightsail");
        let tls = Some(tls).filter(|_| options.tls);
        let traffic = Traffic { delay: options.delay, ..Traffic::default() };
        let now = jiff::Timestamp::now();
        let specs = KeySpec::standard().into_iter().chain(options.keys.clone());
        options.keys.iter().for_each(|spec| policy::check(&spec.policy));
        let state = State {
            keys: specs.map(|spec| Key::make(spec, now)).collect(),
            options,
            worlds: BTreeMap::new(),
            refusals: Vec::new(),
            failures: Vec::new(),
            ahead: SignedDuration::ZERO,
            addresses: 0,
        };
        let (bodies, wrong) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { state: Mutex::new(state), traffic, bodies, wrong });
        let running = Running::start(&shared, tls, socket);
        Self { shared, ca_pem, address, _running: running }
    }

    /// Where it is reached, without a slash at the end; for every region.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.clone()
    }

    /// Where its Security Token Service is reached.
    #[must_use]
    pub fn sts_url(&self) -> String {
        self.address.clone()
    }

    /// The CA that signed its certificate, if it speaks TLS.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }

    /// The first region.
    #[must_use]
    pub fn region(&self) -> String {
        self.state().options.regions[0].clone()
    }

    /// Every request since the start, or since they were cleared.
    #[must_use]
    pub fn requests(&self) -> Vec<Asked> {
        let bodies = lock(&self.shared.bodies);
        let entries = self.shared.traffic.log.entries().into_iter();
        let asked = entries.map(|entry| Asked {
            operation: entry.path.trim_start_matches('/').to_owned(),
            members: bodies.get(&entry.sequence).cloned().unwrap_or_default(),
            status: entry.status,
            access_key: entry.token,
            caller: entry.user,
            sequence: entry.sequence,
            started: entry.started,
            finished: entry.finished,
        });
        asked.collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.traffic.log.clear();
        lock(&self.shared.bodies).clear();
    }

    /// The access key of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn key(&self, name: &str) -> Credentials {
        let state = self.state();
        let found = state.keys.iter().find(|key| key.spec.name == name);
        let key = found.unwrap_or_else(|| panic!("nobody has the key {name}"));
        Credentials { id: key.id.clone(), secret: key.secret.clone(), session_token: key.token.clone() }
    }

    /// Puts a fault in the way; an operation's path is `/` and its name, as in
    /// `Fault::once("POST", "/CreateInstances", Action::ResetAfter)`. Of several that match, the oldest acts.
    pub fn inject(&self, fault: Fault) {
        self.shared.traffic.inject(fault);
    }

    /// Takes all faults, refusals and failures out of the way.
    pub fn clear_faults(&self) {
        self.shared.traffic.clear_faults();
        let mut state = self.state();
        state.refusals.clear();
        state.failures.clear();
    }

    /// Refuses the next so many requests for an operation that are otherwise sound.
    pub fn refuse(&self, operation: &str, times: usize, refusal: Refusal) {
        self.state().refusals.push((operation.to_owned(), times, refusal));
    }

    /// Lets the next operation of a type (`CreateInstance`, `DeleteInstance`, `AttachStaticIp`, …) end as failed;
    /// what it was to do is not done. A creation that fails is found until its operation has ended.
    pub fn fail_operation(&self, kind: &str, code: &str, details: &str) {
        self.state().failures.push((kind.to_owned(), code.to_owned(), details.to_owned()));
    }

    /// Lets an access key end now.
    pub fn expire(&self, key: &str) {
        let mut state = self.state();
        let now = state.now();
        state
            .keys
            .iter_mut()
            .filter(|known| known.spec.name == key)
            .for_each(|known| known.expires = Some(now));
    }

    /// Denies a key this action (`lightsail:CreateInstances`) from now on.
    pub fn deny(&self, key: &str, action: &str) {
        let mut state = self.state();
        let known = state.keys.iter_mut().filter(|known| known.spec.name == key);
        known.for_each(|known| known.spec.denied.push(action.to_owned()));
    }

    /// Puts the service's clock forward.
    pub fn advance(&self, by: Duration) {
        self.state().ahead += access::signed(by);
    }

    /// Every operation that is served.
    #[must_use]
    pub fn operations() -> Vec<String> {
        MODEL.operations().map(str::to_owned).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Drop for FakeLightsail {
    fn drop(&mut self) {
        let wrong = lock(&self.shared.wrong).clone();
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "the stand-in's own answers are wrong: {}", wrong.join("; "));
        }
    }
}
