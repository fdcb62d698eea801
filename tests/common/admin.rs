//! A small blocking API client with all rights: seeds the world and changes it behind outrigger's back.

use std::fmt;
use std::sync::Once;

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize as _;
use serde_json::Value;

/// Installs the one TLS provider; safe to call from anywhere, any number of times.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody else in the process (a double) may have been first: the same provider either way.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A refusal by the API server.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status, 0 if there was no answer at all.
    pub code: u16,
    /// The server's words.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A blocking client for arbitrary JSON.
pub struct Admin {
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
}

impl Admin {
    /// Connects as the current context of a kubeconfig says.
    #[must_use]
    pub fn new(kubeconfig: &str) -> Self {
        install_tls_provider();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let parsed = Kubeconfig::from_yaml(kubeconfig).expect("kubeconfigs of the tests parse");
        let client = runtime.block_on(async {
            let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
                .await
                .expect("kubeconfigs of the tests are complete");
            // A proxy of the machine must not come between us and 127.0.0.1.
            config.proxy_url = None;
            // A refusal is what some scenarios wait for.
            config.default_retry = false;
            kube::Client::try_from(config).expect("a client is made without connecting")
        });
        Self { runtime, client }
    }

    /// Sends one request; an empty answer is `Null`.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let bytes =
            body.map_or_else(Vec::new, |value| serde_json::to_vec(value).expect("JSON can be written"));
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", "application/json")
            .body(bytes)
            .expect("paths of the tests are valid");
        let text = self.runtime.block_on(self.client.request_text(request)).map_err(|error| match error {
            kube::Error::Api(status) => Refusal { code: status.code, message: status.message.clone() },
            other => Refusal { code: 0, message: other.to_string() },
        })?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .map_err(|error| Refusal { code: 0, message: format!("{error} in answer {text}") })
    }

    /// Reads something that is not JSON.
    pub fn text(&self, path: &str) -> Result<String, String> {
        let request = http::Request::get(path).body(Vec::new()).expect("paths of the tests are valid");
        self.runtime.block_on(self.client.request_text(request)).map_err(|error| error.to_string())
    }

    /// Reads an object; `None` if it does not exist.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        match self.call("GET", path, "application/json", None) {
            Ok(value) => Some(value),
            Err(refusal) if refusal.code == 404 => None,
            Err(refusal) => panic!("GET {path} as administrator: {refusal}"),
        }
    }

    /// Reads a list's items.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut list = self.get(path).unwrap_or_else(|| panic!("GET {path} as administrator: no such list"));
        match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// Creates an object at the place that its own kind and namespace name.
    pub fn try_create(&self, object: &Value) -> Result<Value, Refusal> {
        self.call("POST", &collection_path(object), "application/json", Some(object))
    }

    /// Creates an object, which must succeed.
    pub fn create(&self, object: &Value) -> Value {
        self.try_create(object).unwrap_or_else(|refusal| panic!("creating {object}: {refusal}"))
    }

    /// Changes an object by a JSON merge patch, which must succeed.
    pub fn patch(&self, path: &str, change: &Value) -> Value {
        self.call("PATCH", path, "application/merge-patch+json", Some(change))
            .unwrap_or_else(|refusal| panic!("PATCH {path}: {refusal}"))
    }

    /// The same under the name that a tool would leave in the object's managed fields.
    pub fn patch_as(&self, manager: &str, path: &str, change: &Value) -> Value {
        self.patch(&format!("{path}?fieldManager={manager}"), change)
    }

    /// Deletes an object; it may be gone already.
    pub fn delete(&self, path: &str) {
        match self.call("DELETE", path, "application/json", None) {
            Ok(_) => {}
            Err(refusal) if refusal.code == 404 => {}
            Err(refusal) => panic!("DELETE {path}: {refusal}"),
        }
    }
}

/// The API group's root and the plural of a kind that the tests handle.
fn place(object: &Value) -> (String, &'static str, bool) {
    let api_version = object["apiVersion"].as_str().expect("manifests say their apiVersion");
    let root = if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    };
    let (plural, namespaced) = match object["kind"].as_str().expect("manifests say their kind") {
        "Namespace" => ("namespaces", false),
        "ServiceAccount" => ("serviceaccounts", true),
        "Secret" => ("secrets", true),
        "ConfigMap" => ("configmaps", true),
        "Pod" => ("pods", true),
        "Service" => ("services", true),
        "PersistentVolumeClaim" => ("persistentvolumeclaims", true),
        "LimitRange" => ("limitranges", true),
        "ResourceQuota" => ("resourcequotas", true),
        "Deployment" => ("deployments", true),
        "CronJob" => ("cronjobs", true),
        "NetworkPolicy" => ("networkpolicies", true),
        "PodDisruptionBudget" => ("poddisruptionbudgets", true),
        "Lease" => ("leases", true),
        "Role" => ("roles", true),
        "RoleBinding" => ("rolebindings", true),
        "ClusterRole" => ("clusterroles", false),
        "ClusterRoleBinding" => ("clusterrolebindings", false),
        "ValidatingAdmissionPolicy" => ("validatingadmissionpolicies", false),
        "ValidatingAdmissionPolicyBinding" => ("validatingadmissionpolicybindings", false),
        "ValidatingWebhookConfiguration" => ("validatingwebhookconfigurations", false),
        "APIService" => ("apiservices", false),
        "SelfSubjectReview" => ("selfsubjectreviews", false),
        "SelfSubjectAccessReview" => ("selfsubjectaccessreviews", false),
        other => panic!("the tests do not know where {other} lives"),
    };
    (root, plural, namespaced)
}

/// Where an object is posted to.
#[must_use]
pub fn collection_path(object: &Value) -> String {
    let (root, plural, namespaced) = place(object);
    if !namespaced {
        return format!("{root}/{plural}");
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    format!("{root}/namespaces/{namespace}/{plural}")
}

/// Where an object is read.
#[must_use]
pub fn object_path(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().expect("manifests have a name");
    format!("{}/{name}", collection_path(object))
}

/// The documents of a manifest stream, empty ones left out.
#[must_use]
pub fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("not YAML: {e}\n{yaml}")))
        .filter(|document| !document.is_null())
        .flat_map(|document| match document["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![document],
        })
        .collect()
}
