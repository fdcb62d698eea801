//! An admission webhook as Gatekeeper and Kyverno run one, with one rule: what a real API server asks.

use std::sync::Arc;

use serde_json::Value;

use crate::cluster::{self, Rule};
use crate::wire::{self, Answer, Caller, Request, Running, Service, Traffic};

struct Shared {
    rule: Rule,
    traffic: Traffic,
}

impl Service for Shared {
    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn caller(&self, _request: &Request) -> Caller {
        Caller::default()
    }

    fn answer(&self, request: &Request) -> Answer {
        let review: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        Answer::json(200, &cluster::review(&self.rule, &review))
    }

    fn refusal(&self, code: u16, _reason: &str, _message: &str) -> Answer {
        Answer::json(code, &Value::Null)
    }
}

/// A running webhook; dropped, it stops.
pub struct Webhook {
    ca_pem: String,
    running: Running,
}

impl Webhook {
    /// Starts it on a free port of this machine, with a CA of its own.
    #[must_use]
    pub fn start(rule: Rule) -> Self {
        let (ca_pem, tls) = wire::certificates("webhooks", "webhook");
        let shared = Arc::new(Shared { rule, traffic: Traffic::default() });
        Self { ca_pem, running: Running::start(&shared, Some(tls), wire::listen()) }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}/", self.running.address)
    }

    /// The CA that signed its certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}
