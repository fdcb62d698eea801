//! Who is asking: users, and the tokens of service accounts.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal};
use super::routes::Request;
use super::store::{Key, State, at, known, now, random, text, uuid};

/// An authenticated caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// Whether access control passes him by.
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }

    fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            ..Self::default()
        }
    }
}

/// A service account token that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    namespace: String,
    account: String,
    account_uid: String,
    secret_uid: Option<String>,
    expires: Option<i64>,
    id: Option<String>,
}

fn sign(claims: &Value) -> String {
    let header = json!({"alg": "RS256", "kid": "double"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode(random::<64>()))
}

impl State {
    /// The caller behind a bearer token.
    pub(crate) fn authenticate(&self, bearer: &str) -> Option<Identity> {
        if let Some(user) = self.options.users.iter().find(|user| user.token == bearer) {
            let mut groups = user.groups.clone();
            groups.push("system:authenticated".to_owned());
            return Some(Identity { name: user.name.clone(), groups, ..Identity::default() });
        }
        let token = self.tokens.get(bearer)?;
        let holds = |uid: &str| {
            let lag = self.options.revocation_lag;
            self.alive(uid) || self.gone.get(uid).is_some_and(|when| when.elapsed() < lag)
        };
        // A token of a Secret ends as soon as the deletion of it, or of its account, has begun; a requested
        // one a minute later (kubernetes: pkg/serviceaccount/legacy.go and claims.go).
        let leeway = if token.id.is_some() { 60 } else { 0 };
        let ended = |uid: &str| {
            let deleted = self.deleted_at(uid);
            deleted.is_some_and(|when| jiff::Timestamp::now().as_second() >= when.as_second() + leeway)
        };
        if ended(&token.account_uid) || token.secret_uid.as_deref().is_some_and(ended) {
            return None;
        }
        let expired = token.expires.is_some_and(|end| end <= jiff::Timestamp::now().as_second());
        if expired || !holds(&token.account_uid) || !token.secret_uid.as_deref().is_none_or(holds) {
            return None;
        }
        let mut identity = Identity::service_account(&token.namespace, &token.account);
        identity.uid.clone_from(&token.account_uid);
        if let Some(id) = &token.id {
            let key = "authentication.kubernetes.io/credential-id".to_owned();
            identity.extra.insert(key, vec![format!("JTI={id}")]);
        }
        Some(identity)
    }

    /// The caller that a caller wants to be.
    pub(crate) fn impersonate(&self, who: Identity, request: &Request) -> Outcome<Identity> {
        let Some(name) = &request.impersonate_user else { return Ok(who) };
        let mut wish = super::rbac::Attributes {
            verb: "impersonate".to_owned(),
            resource: "users".to_owned(),
            name: name.clone(),
            ..Default::default()
        };
        let mut other = Identity { name: name.clone(), ..Identity::default() };
        if let Some(account) = name.strip_prefix("system:serviceaccount:") {
            let (namespace, account) = account.split_once(':').unwrap_or((account, ""));
            "serviceaccounts".clone_into(&mut wish.resource);
            namespace.clone_into(&mut wish.namespace);
            account.clone_into(&mut wish.name);
            other = Identity::service_account(namespace, account);
        }
        self.authorize(&who, &wish)?;
        for group in &request.impersonate_groups {
            let wish = super::rbac::Attributes {
                verb: "impersonate".to_owned(),
                resource: "groups".to_owned(),
                name: group.clone(),
                ..Default::default()
            };
            self.authorize(&who, &wish)?;
        }
        if !request.impersonate_groups.is_empty() {
            other.groups.clone_from(&request.impersonate_groups);
        }
        if !other.groups.iter().any(|group| group == "system:authenticated") {
            other.groups.push("system:authenticated".to_owned());
        }
        Ok(other)
    }

    /// What the token controller does to a token Secret: fills it, or removes it if it has no account.
    pub(crate) fn fill_token(&mut self, key: &Key, uid: &str) {
        if !self.token_controller {
            return;
        }
        let Some(mut secret) = self.objects.get(key).cloned() else { return };
        if text(&secret, "/metadata/uid") != uid || !text(&secret, "/data/token").is_empty() {
            return;
        }
        let account = secret["metadata"]["annotations"]["kubernetes.io/service-account.name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let wanted = secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"].as_str();
        let found = self
            .core("serviceaccounts", &key.namespace, &account)
            .map(|object| text(object, "/metadata/uid").to_owned())
            .filter(|found| wanted.is_none_or(|wanted| wanted == found));
        let Some(account_uid) = found else {
            self.forget(key);
            return;
        };
        let token = sign(&json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": key.namespace,
            "kubernetes.io/serviceaccount/secret.name": key.name,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": account_uid,
            "sub": format!("system:serviceaccount:{}:{account}", key.namespace),
        }));
        let before = secret.clone();
        secret["data"]["token"] = STANDARD.encode(&token).into();
        secret["data"]["namespace"] = STANDARD.encode(&key.namespace).into();
        secret["data"]["ca.crt"] = STANDARD.encode(&self.ca_pem).into();
        secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"] = account_uid.clone().into();
        super::managed::record_update(&before, &mut secret, "kube-controller-manager", key.kind);
        let record = Token {
            namespace: key.namespace.clone(),
            account,
            account_uid,
            secret_uid: Some(uid.to_owned()),
            expires: None,
            id: None,
        };
        self.tokens.insert(token, record);
        self.write(key, secret);
    }

    /// Answers a request for a token.
    pub(crate) fn request_token(&mut self, namespace: &str, name: &str, body: &Value) -> Outcome {
        let kind = known("", "serviceaccounts");
        let account = self.get(kind, namespace, name).ok_or_else(|| Refusal::not_found(kind, name))?;
        let account_uid = text(account, "/metadata/uid").to_owned();
        let refuse = |field: &str, problem: &str| {
            let message =
                format!("TokenRequest.authentication.k8s.io \"{name}\" is invalid: {field}: {problem}");
            Refusal::plain(422, "Invalid", message)
        };
        let asked = body["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        if asked < 600 {
            let problem = format!("Invalid value: {asked}: may not specify a duration less than 10 minutes");
            return Err(refuse("spec.expirationSeconds", &problem));
        }
        if asked > 1 << 32 {
            let problem =
                format!("Invalid value: {asked}: may not specify a duration larger than 2^32 seconds");
            return Err(refuse("spec.expirationSeconds", &problem));
        }
        let cap = self.options.max_token_lifetime.and_then(|cap| i64::try_from(cap.as_secs()).ok());
        let lifetime = cap.map_or(asked, |cap| asked.min(cap));
        let mut own = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": account_uid}});
        let mut secret_uid = None;
        let bound = &body["spec"]["boundObjectRef"];
        if bound.is_object() {
            if bound["kind"] != "Secret" {
                let message = format!("cannot bind token for serviceaccount to type {}", bound["kind"]);
                return Err(Refusal::bad_request(message));
            }
            let secrets = known("", "secrets");
            let bound_name = text(bound, "/name");
            let found = self
                .get(secrets, namespace, bound_name)
                .ok_or_else(|| Refusal::not_found(secrets, bound_name))?;
            let (uid, asked_uid) = (text(found, "/metadata/uid"), text(bound, "/uid"));
            if !asked_uid.is_empty() && asked_uid != uid {
                let why = format!(
                    "the UID in the bound object reference ({asked_uid}) does not match the UID in record. \
                     The object might have been deleted and then recreated"
                );
                return Err(Refusal::conflict(secrets, bound_name, &why));
            }
            own["secret"] = json!({"name": bound_name, "uid": uid});
            secret_uid = Some(uid.to_owned());
        }
        let issued = jiff::Timestamp::now().as_second();
        let audience = body["spec"]["audiences"].as_array().filter(|list| !list.is_empty()).cloned();
        let audience =
            audience.map_or_else(|| json!(["https://kubernetes.default.svc.cluster.local"]), Value::from);
        let (id, end) = (uuid(), issued + lifetime);
        let token = sign(&json!({
            "aud": audience, "exp": end, "iat": issued, "nbf": issued, "jti": id,
            "iss": "https://kubernetes.default.svc.cluster.local",
            "kubernetes.io": own,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
        }));
        let record = Token {
            namespace: namespace.to_owned(),
            account: name.to_owned(),
            account_uid,
            secret_uid,
            expires: Some(end),
            id: Some(id),
        };
        self.tokens.insert(token.clone(), record);
        let mut spec = body["spec"].clone();
        if !spec.is_object() {
            spec = json!({});
        }
        spec["audiences"] = audience;
        spec["expirationSeconds"] = lifetime.into();
        let answer = json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now()},
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": at(end)},
        });
        Ok(Answer::json(201, &answer))
    }
}
