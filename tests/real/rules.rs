//! Rules as a real API server has them: policies in CEL, and webhooks that it calls.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_doubles::cluster::{By, Rule};
use outrigger_doubles::webhook::Webhook;
use serde_json::{Value, json};

use crate::common::admin::{Admin, collection_path, object_path};

/// How long a server may take to heed a rule, or to forget one: its caches follow within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
const GROUP: &str = "admissionregistration.k8s.io/v1";

/// The rules of one cluster, and what answers for them.
#[derive(Default)]
pub struct Rules {
    objects: Vec<Value>,
    webhooks: Vec<Webhook>,
}

impl Rules {
    /// Puts these in the place of those so far, and waits until `probe` is refused by one, or passes
    /// where there are none.
    pub fn set(&mut self, admin: &Admin, rules: &[Rule], probe: &Value) {
        for object in self.objects.drain(..) {
            admin.delete(&object_path(&object));
        }
        self.webhooks.clear();
        for rule in rules {
            for object in self.objects_of(rule) {
                self.objects.push(admin.create(&object));
            }
        }
        let started = Instant::now();
        let place = format!("{}?dryRun=All", collection_path(probe));
        let expected = |refusal: &str| rules.iter().any(|rule| refusal.contains(name(rule)));
        loop {
            let answer = admin.call("POST", &place, "application/json", Some(probe));
            let settled = match &answer {
                Ok(_) => rules.is_empty(),
                Err(refusal) => expected(&refusal.message),
            };
            if settled {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not heed {rules:?}: {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn objects_of(&mut self, rule: &Rule) -> Vec<Value> {
        let rules = json!({"apiGroups": [rule.group], "apiVersions": ["v1"], "resources": [rule.plural],
            "operations": ["CREATE"]});
        match &rule.by {
            By::Policy { name, binding, reason } => {
                let mut validation = json!({"expression": rule.cel, "message": rule.message});
                if !reason.is_empty() {
                    validation["reason"] = reason.as_str().into();
                }
                vec![
                    json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
                        "spec": {"failurePolicy": "Fail", "validations": [validation],
                            "matchConstraints": {"resourceRules": [rules]}}}),
                    json!({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicyBinding",
                        "metadata": {"name": binding},
                        "spec": {"policyName": name, "validationActions": ["Deny"]}}),
                ]
            }
            By::Webhook { name, .. } => {
                let webhook = Webhook::start(rule.clone());
                let client = json!({"url": webhook.url(), "caBundle": STANDARD.encode(webhook.ca_pem())});
                self.webhooks.push(webhook);
                vec![configuration(name, &client, &rules)]
            }
            By::Dead { name, url } => vec![configuration(name, &json!({"url": url}), &rules)],
        }
    }
}

fn configuration(name: &str, client: &Value, rules: &Value) -> Value {
    json!({"apiVersion": GROUP, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name},
        "webhooks": [{"name": name, "clientConfig": client, "rules": [rules], "failurePolicy": "Fail",
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 10}]})
}

fn name(rule: &Rule) -> &str {
    match &rule.by {
        By::Policy { name, .. } | By::Webhook { name, .. } | By::Dead { name, .. } => name,
    }
}
