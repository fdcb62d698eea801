//! Questions about oneself: who am I, what may I do.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal};
use super::rbac::Attributes;
use super::routes::Request;
use super::store::{State, now, text};
use super::tokens::Identity;

type Review = fn(&State, &Identity, &Value) -> Outcome<Value>;

/// Answers a review; nothing if the request is for none.
pub(crate) fn answer(
    state: &State,
    who: &Identity,
    request: &Request,
    group: &str,
    plural: &str,
) -> Option<Outcome> {
    if request.method != "POST" {
        return None;
    }
    let review = match (group, plural) {
        ("authentication.k8s.io", "selfsubjectreviews") => {
            return Some(Ok(Answer::json(201, &self_review(who))));
        }
        ("authorization.k8s.io", "selfsubjectaccessreviews") => access_review as Review,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => rules_review,
        _ => return None,
    };
    Some(request.json().and_then(|body| review(state, who, &body)).map(|body| Answer::json(201, &body)))
}

fn self_review(who: &Identity) -> Value {
    let mut info = json!({"username": who.name, "groups": who.groups});
    if !who.uid.is_empty() {
        info["uid"] = who.uid.clone().into();
    }
    if !who.extra.is_empty() {
        info["extra"] = json!(who.extra);
    }
    json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": now()},
        "status": {"userInfo": info},
    })
}

fn access_review(state: &State, who: &Identity, body: &Value) -> Outcome<Value> {
    let spec = &body["spec"];
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == other.is_object() {
        let message = "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: \
                       spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                       resourceAttributes must be specified";
        return Err(Refusal::plain(422, "Invalid", message));
    }
    let subresource = text(resource, "/subresource");
    let plural = text(resource, "/resource");
    let wish = if resource.is_object() {
        Attributes {
            verb: text(resource, "/verb").to_owned(),
            group: text(resource, "/group").to_owned(),
            resource: if subresource.is_empty() {
                plural.to_owned()
            } else {
                format!("{plural}/{subresource}")
            },
            namespace: text(resource, "/namespace").to_owned(),
            name: text(resource, "/name").to_owned(),
            path: None,
        }
    } else {
        Attributes {
            verb: text(other, "/verb").to_owned(),
            path: Some(text(other, "/path").to_owned()),
            ..Attributes::default()
        }
    };
    let status = match state.permission(who, &wish) {
        Some(reason) if reason.is_empty() => json!({"allowed": true}),
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    };
    Ok(json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": spec, "status": status,
    }))
}

fn rules_review(state: &State, who: &Identity, body: &Value) -> Outcome<Value> {
    let namespace = text(&body["spec"], "/namespace");
    if namespace.is_empty() {
        return Err(Refusal::bad_request("no namespace on request"));
    }
    let (mut resources, mut others) = (Vec::new(), Vec::new());
    for (rule, _) in state.rules_for(who, namespace) {
        if rule.non_resource_urls.is_empty() {
            resources.push(json!(rule));
        } else {
            others.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    Ok(json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": {},
        "status": {"resourceRules": resources, "nonResourceRules": others, "incomplete": false},
    }))
}
