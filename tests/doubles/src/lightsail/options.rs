//! What a Lightsail can be told to be like.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::hardware::{Hardware, Paper};

/// How a Lightsail is to be.
#[derive(Clone)]
pub struct Options {
    /// Whether it speaks TLS, with a certificate of its own CA; plain HTTP otherwise.
    pub tls: bool,
    /// The regions that it is in; a request is for the one that its signature names.
    pub regions: Vec<String>,
    /// How many zones (`a`, `b`, …) a region has; the first is not available if there is more than one.
    pub zones: u8,
    /// Who may call, beside `admin`, `session`, `expired`, `reader` and `stranger`.
    pub keys: Vec<KeySpec>,
    /// How many bundles or blueprints a page holds.
    pub page: usize,
    /// How long things take.
    pub lags: Lags,
    /// How many instances an account may have in a region.
    pub quota: usize,
    /// Whether ports of an instance that does not run yet are refused.
    pub ports_need_running: bool,
    /// Whether closing a port that is not open is refused: what the service answers is not known.
    pub closing_closed_refused: bool,
    /// Whether port rules without an address of a family let the whole family in, even if they name addresses of the
    /// other: what the service makes of it is not known, and this is the worse.
    pub unnamed_family_open: bool,
    /// The machines behind the instances.
    pub hardware: Arc<dyn Hardware>,
    /// What every request waits before it is looked at.
    pub delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: false,
            regions: vec!["eu-central-1".to_owned(), "us-east-1".to_owned()],
            zones: 3,
            keys: Vec::new(),
            page: 4,
            lags: Lags::default(),
            quota: 20,
            ports_need_running: true,
            closing_closed_refused: true,
            unnamed_family_open: true,
            hardware: Arc::new(Paper::default()),
            delay: Duration::ZERO,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("tls", &self.tls)
            .field("regions", &self.regions)
            .field("keys", &self.keys)
            .field("lags", &self.lags)
            .finish_non_exhaustive()
    }
}

/// How long things take; what takes [`Duration::MAX`] never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lags {
    /// From creation until the instance is found.
    pub found: Duration,
    /// From creation until it is running.
    pub running: Duration,
    /// From running until it has an address.
    pub address: Duration,
    /// From then until its host keys are known.
    pub host_keys: Duration,
    /// From creation, or from a deletion, until the operation has ended.
    pub operation: Duration,
    /// The same for the other operations; the service's samples show them ended at once.
    pub other_operations: Duration,
    /// From an update of metadata options until it is applied.
    pub metadata: Duration,
    /// From deletion until the instance is not found.
    pub deletion: Duration,
}

impl Lags {
    /// Everything at once.
    pub const NONE: Self = Self::all(Duration::ZERO);

    const fn all(lag: Duration) -> Self {
        Self {
            found: lag,
            running: lag,
            address: lag,
            host_keys: lag,
            operation: lag,
            other_operations: lag,
            metadata: lag,
            deletion: lag,
        }
    }
}

impl Default for Lags {
    fn default() -> Self {
        let lag = Duration::from_millis;
        Self {
            found: lag(30),
            running: lag(80),
            address: lag(40),
            host_keys: lag(40),
            operation: lag(60),
            other_operations: Duration::ZERO,
            metadata: lag(30),
            deletion: lag(60),
        }
    }
}

/// An access key to be made.
#[derive(Clone, Debug)]
pub struct KeySpec {
    /// Its name, by which tests ask for it.
    pub name: String,
    /// The account, 12 digits.
    pub account: String,
    /// Whether it comes with a session token (and belongs to an assumed role).
    pub session: bool,
    /// Its IAM policy.
    pub policy: Value,
    /// The actions that are denied, whatever the policy allows.
    pub denied: Vec<String>,
    /// How long it is valid from the start on; for ever if nothing.
    pub lifetime: Option<Duration>,
}

/// The account that everybody but `stranger` is of.
pub const ACCOUNT: &str = "123456789012";

impl KeySpec {
    /// A user's key of [`ACCOUNT`] without a session token, for these actions (`lightsail:GetInstance`,
    /// `lightsail:Get*`) on everything.
    #[must_use]
    pub fn new(name: &str, allowed: &[&str]) -> Self {
        let statement = json!({"Effect": "Allow", "Action": allowed, "Resource": "*"});
        Self::with_policy(name, json!({"Version": "2012-10-17", "Statement": [statement]}))
    }

    /// The same under an IAM policy.
    #[must_use]
    pub fn with_policy(name: &str, policy: Value) -> Self {
        Self {
            name: name.to_owned(),
            account: ACCOUNT.to_owned(),
            session: false,
            policy,
            denied: Vec::new(),
            lifetime: None,
        }
    }

    /// Those that every Lightsail has.
    pub(crate) fn standard() -> Vec<Self> {
        let session = Self { session: true, ..Self::new("session", &["*"]) };
        vec![
            Self::new("admin", &["*"]),
            Self { name: "expired".to_owned(), lifetime: Some(Duration::ZERO), ..session.clone() },
            session,
            Self::new("reader", &["lightsail:Get*"]),
            Self { account: "210987654321".to_owned(), ..Self::new("stranger", &["*"]) },
        ]
    }
}
