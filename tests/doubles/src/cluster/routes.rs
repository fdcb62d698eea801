//! From a path to what it means: who asks for what, whether he may, and who answers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::answer::{Answer, Outcome, Refusal};
use super::rbac::Attributes;
use super::store::{Kind, State, kind_of};
use super::tokens::Identity;
use super::{apply, crud, discovery, reviews};
use crate::wire::{self, decode, parse_query};

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The query taken apart; the last of equal names counts.
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) accept: String,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) bearer: Option<String>,
    pub(crate) impersonate_user: Option<String>,
    pub(crate) impersonate_groups: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl From<&wire::Request> for Request {
    fn from(wire: &wire::Request) -> Self {
        let header = |name: &str| wire.header(name).to_owned();
        let groups = wire.headers.get_all("impersonate-group").iter();
        Self {
            method: wire.method.clone(),
            path: wire.path.clone(),
            query: parse_query(&wire.raw_query),
            accept: header("accept"),
            content_type: header("content-type"),
            user_agent: header("user-agent"),
            bearer: bearer(wire),
            impersonate_user: Some(header("impersonate-user")).filter(|name| !name.is_empty()),
            impersonate_groups: groups.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
            body: wire.body.clone(),
        }
    }
}

/// The bearer token of a request.
pub(crate) fn bearer(wire: &wire::Request) -> Option<String> {
    wire.header("authorization").strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

impl Request {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whether nothing may be stored.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    /// Who the fields are written in the name of.
    pub(crate) fn manager(&self) -> String {
        let named = self.parameter("fieldManager");
        if !named.is_empty() {
            return named.to_owned();
        }
        let agent = self.user_agent.split('/').next().unwrap_or_default();
        if agent.is_empty() { "unknown".to_owned() } else { agent.to_owned() }
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Outcome<Value> {
        if self.content_type.contains("protobuf") {
            return Err(Refusal::plain(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format",
            ));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("the body is not JSON: {error}")))
    }
}

/// A request for a resource that is served.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    pub(crate) who: &'a Identity,
    pub(crate) kind: &'static Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

/// What a resource path names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Target {
    group: String,
    version: String,
    plural: String,
    namespace: String,
    name: String,
    subresource: String,
}

fn target(path: &str) -> Option<Target> {
    let parts: Vec<String> = path.trim_matches('/').split('/').map(|part| decode(part, false)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, plural, rest) = match rest {
        ["namespaces", name] | ["namespaces", name, "status" | "finalize", ..] => {
            (*name, "namespaces", &rest[1..])
        }
        ["namespaces", namespace, plural, rest @ ..] => (*namespace, *plural, rest),
        [plural, rest @ ..] => ("", *plural, rest),
        [] => return None,
    };
    Some(Target {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        namespace: namespace.to_owned(),
        name: rest.first().copied().unwrap_or_default().to_owned(),
        subresource: rest.get(1..).unwrap_or_default().join("/"),
    })
}

/// The kind and place that a path names, for changes behind everybody's back.
pub(crate) fn place(path: &str) -> Option<(&'static Kind, String, String)> {
    let target = target(path)?;
    let kind = kind_of(&target.group, &target.plural)?;
    let namespace = if kind.namespaced { target.namespace } else { String::new() };
    Some((kind, namespace, target.name))
}

fn verb(request: &Request, name: &str) -> &'static str {
    match (request.method.as_str(), name.is_empty()) {
        ("GET" | "HEAD", true) if matches!(request.parameter("watch"), "1" | "true") => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    }
}

/// The name that a list is limited to by a field selector.
fn selected_name(request: &Request) -> String {
    let selector = request.parameter("fieldSelector");
    let name = selector.strip_prefix("metadata.name=").unwrap_or_default();
    name.trim_start_matches('=').to_owned()
}

/// Answers a request of an authenticated caller.
pub(crate) fn answer(state: &mut State, who: Identity, request: &Request) -> Outcome {
    let who = &state.impersonate(who, request)?;
    let place = format!("{}/", request.path.trim_end_matches('/'));
    let dead = state.dead_groups();
    if dead.iter().any(|(group, version)| place.starts_with(&format!("/apis/{group}/{version}/"))) {
        return Ok(Answer { code: 503, ..Answer::text("service unavailable\n") });
    }
    let Some(target) = target(&request.path) else {
        let wish = Attributes {
            verb: request.method.to_lowercase(),
            path: Some(request.path.clone()),
            ..Attributes::default()
        };
        state.authorize(who, &wish)?;
        return discovery::answer(state, request);
    };
    let verb = verb(request, &target.name);
    let mut resource = target.plural.clone();
    if !target.subresource.is_empty() {
        resource = format!("{resource}/{}", target.subresource);
    }
    let name = if verb == "list" { selected_name(request) } else { target.name.clone() };
    let wish = Attributes {
        verb: verb.to_owned(),
        group: target.group.clone(),
        resource,
        namespace: target.namespace.clone(),
        name,
        path: None,
    };
    state.authorize(who, &wish)?;
    if let Some(outcome) = reviews::answer(state, who, request, &target.group, &target.plural) {
        return outcome;
    }
    let Some(kind) = kind_of(&target.group, &target.plural).filter(|_| target.version == "v1") else {
        return Err(Refusal::no_such_path());
    };
    let call = Call {
        request,
        who,
        kind,
        namespace: if kind.namespaced { target.namespace } else { String::new() },
        name: target.name,
        subresource: target.subresource,
    };
    resource_answer(state, &call, verb)
}

fn resource_answer(state: &mut State, call: &Call<'_>, verb: &str) -> Outcome {
    if kind_is_tokens(call) {
        let body = call.request.json()?;
        return state.request_token(&call.namespace, &call.name, &body);
    }
    if !matches!(call.subresource.as_str(), "" | "status") {
        return Err(Refusal::no_such_path());
    }
    match verb {
        "get" => crud::get(state, call),
        "list" => Ok(crud::list(state, call)),
        "create" if call.name.is_empty() && (!call.kind.namespaced || !call.namespace.is_empty()) => {
            let body = call.request.json()?;
            let object = crud::create(state, call, body, None)?;
            Ok(Answer::json(201, &object))
        }
        "update" if !call.name.is_empty() => crud::update(state, call),
        "patch" if !call.name.is_empty() => apply::patch(state, call),
        "delete" => crud::delete(state, call),
        "deletecollection" => crud::delete_all(state, call),
        // Watches among them: refused rather than answered wrongly.
        _ => Err(Refusal::plain(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn kind_is_tokens(call: &Call<'_>) -> bool {
    call.kind.group.is_empty()
        && call.kind.plural == "serviceaccounts"
        && call.subresource == "token"
        && call.request.method == "POST"
}
