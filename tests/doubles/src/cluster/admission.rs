//! Admission: the rules of a cluster's keepers that a creation meets after it was authorized, in a dry
//! run as well. Quotas and limit ranges are read from the objects stored; policies and webhooks, which
//! would take a language and a network, are given as [`Rule`]s.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{Outcome, Refusal};
use super::routes::Call;
use super::store::{Key, State, known, text};

/// Who objects, which decides about status and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A `ValidatingAdmissionPolicy` with a binding; the reason is one of the API's, `Invalid` by default.
    Policy {
        /// The policy's name.
        name: String,
        /// The binding's name.
        binding: String,
        /// `Invalid`, `Forbidden`, `Unauthorized` or `RequestEntityTooLarge`.
        reason: String,
    },
    /// A validating webhook that answers with this status.
    Webhook {
        /// The webhook's name, a domain name.
        name: String,
        /// The status in its answer.
        code: u16,
    },
    /// A validating webhook that fails closed and does not listen at this URL.
    Dead {
        /// The webhook's name, a domain name.
        name: String,
        /// Its URL.
        url: String,
    },
}

/// One rule about the creation of one kind of object.
#[derive(Clone)]
pub struct Rule {
    /// Who objects.
    pub by: By,
    /// The kind's API group.
    pub group: String,
    /// The kind's plural.
    pub plural: String,
    /// Which objects pass.
    pub passes: Arc<dyn Fn(&Value) -> bool + Send + Sync>,
    /// The same in CEL, for a real policy.
    pub cel: String,
    /// What is said to those that do not.
    pub message: String,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} about {}: {}", self.by, self.plural, self.message)
    }
}

/// Lets every rule look at an object that is about to be created.
pub(crate) fn admit(state: &mut State, call: &Call<'_>, object: &Value) -> Outcome<()> {
    let name = text(object, "/metadata/name");
    limit_ranges(state, call, object)?;
    for rule in &state.rules {
        if rule.group == call.kind.group && rule.plural == call.kind.plural && !(rule.passes)(object) {
            return Err(refusal(rule, call, name));
        }
    }
    quotas(state, call, name)
}

fn refusal(rule: &Rule, call: &Call<'_>, name: &str) -> Refusal {
    match &rule.by {
        By::Policy { name: policy, binding, reason } => {
            let message = format!(
                "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
                rule.message
            );
            let code = match reason.as_str() {
                "Forbidden" => 403,
                "Unauthorized" => 401,
                "RequestEntityTooLarge" => 413,
                _ => 422,
            };
            let reason = if reason.is_empty() { "Invalid" } else { reason };
            Refusal::forbidden(call.kind, name, &message).under(code, reason)
        }
        By::Webhook { name, code } => {
            let message = format!("admission webhook \"{name}\" denied the request: {}", rule.message);
            Refusal::plain(*code, "", message)
        }
        By::Dead { name, url } => {
            let place = url.trim_start_matches("https://").trim_end_matches('/');
            let message = format!(
                "failed calling webhook \"{name}\": failed to call webhook: Post \"{url}?timeout=10s\": dial tcp \
                 {place}: connect: connection refused"
            );
            Refusal::plain(500, "InternalError", format!("Internal error occurred: {message}"))
        }
    }
}

/// Counts objects against every quota of the namespace, and notes the use.
fn quotas(state: &mut State, call: &Call<'_>, name: &str) -> Outcome<()> {
    let plural = call.kind.plural;
    let qualified = format!("count/{}", call.kind.qualified());
    let bare = ["secrets", "pods", "services", "configmaps", "persistentvolumeclaims", "resourcequotas"];
    let counted = |resource: &str| resource == qualified || (resource == plural && bare.contains(&plural));
    let kind = known("", "resourcequotas");
    let here: Vec<Key> = state
        .objects
        .keys()
        .filter(|key| key.kind == kind && key.namespace == call.namespace)
        .cloned()
        .collect();
    let mut used = Vec::new();
    for key in here {
        let quota = &state.objects[&key];
        let spec = quota["spec"]["hard"].as_object().cloned().unwrap_or_default();
        for resource in spec.keys().filter(|resource| counted(resource)) {
            let number = |side: &str| {
                text(quota, &format!("/status/{side}/{}", resource.replace('/', "~1"))).parse::<u64>()
            };
            let (Ok(hard), Ok(now)) = (number("hard"), number("used")) else {
                let why = format!("status unknown for quota: {}, resources: {resource}", key.name);
                return Err(Refusal::forbidden(call.kind, name, &why));
            };
            if now + 1 > hard {
                let why = format!(
                    "exceeded quota: {}, requested: {resource}=1, used: {resource}={now}, limited: {resource}={hard}",
                    key.name
                );
                return Err(Refusal::forbidden(call.kind, name, &why));
            }
            used.push((key.clone(), resource.clone(), now + 1));
        }
    }
    for (key, resource, now) in used.into_iter().filter(|_| !call.request.is_dry_run()) {
        let mut quota = state.objects[&key].clone();
        quota["status"]["used"][resource] = now.to_string().into();
        state.write(&key, quota);
    }
    Ok(())
}

/// The part of limit ranges that a pod without limits meets: a most for the whole pod.
fn limit_ranges(state: &State, call: &Call<'_>, object: &Value) -> Outcome<()> {
    if call.kind.plural != "pods" {
        return Ok(());
    }
    let ranges = state
        .objects
        .iter()
        .filter(|(key, _)| key.kind.plural == "limitranges" && key.namespace == call.namespace);
    let limits =
        ranges.flat_map(|(_, range)| range["spec"]["limits"].as_array().cloned().unwrap_or_default());
    let containers = object["spec"]["containers"].as_array().cloned().unwrap_or_default();
    for limit in limits.filter(|limit| limit["type"] == "Pod") {
        for (resource, most) in limit["max"].as_object().into_iter().flatten() {
            if containers.iter().any(|one| one["resources"]["limits"][resource].is_null()) {
                let most = most.as_str().unwrap_or_default();
                let why = format!("maximum {resource} usage per Pod is {most}.  No limit is specified");
                let name = text(object, "/metadata/name");
                return Err(Refusal::forbidden(call.kind, name, &why));
            }
        }
    }
    Ok(())
}

/// What a webhook answers to a review of an object that a rule looks at.
pub(crate) fn review(rule: &Rule, request: &Value) -> Value {
    let object = &request["request"]["object"];
    let mut response = json!({"uid": request["request"]["uid"], "allowed": (rule.passes)(object)});
    if let (By::Webhook { code, .. }, false) = (&rule.by, (rule.passes)(object)) {
        response["status"] = json!({"code": code, "message": rule.message});
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
