//! Kubernetes objects as JSON, and references to them. Steps build and compare objects; only `cluster` sends them.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::base::event::Thing;
use crate::base::text::ago;
use crate::settings::shell_word;

/// The kinds that outrigger reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    Namespace,
    ServiceAccount,
    Secret,
    ConfigMap,
    Role,
    RoleBinding,
    ClusterRole,
    ClusterRoleBinding,
    Pod,
}

impl Kind {
    /// API group as in RBAC rules; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Role | Kind::RoleBinding | Kind::ClusterRole | Kind::ClusterRoleBinding => {
                "rbac.authorization.k8s.io"
            }
            _ => "",
        }
    }

    pub fn api_version(self) -> &'static str {
        if self.group().is_empty() { "v1" } else { "rbac.authorization.k8s.io/v1" }
    }

    /// Resource name as in URLs and RBAC rules.
    pub fn resource(self) -> &'static str {
        match self {
            Kind::Namespace => "namespaces",
            Kind::ServiceAccount => "serviceaccounts",
            Kind::Secret => "secrets",
            Kind::ConfigMap => "configmaps",
            Kind::Role => "roles",
            Kind::RoleBinding => "rolebindings",
            Kind::ClusterRole => "clusterroles",
            Kind::ClusterRoleBinding => "clusterrolebindings",
            Kind::Pod => "pods",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Type of a Secret that the cluster fills with a token.
pub const FILLED_BY_CLUSTER: &str = "kubernetes.io/service-account-token";

/// Any namespaced kind that a server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// API group, empty for the core group.
    pub group: String,
    /// Resource name, as in URLs.
    pub resource: String,
    /// Kind, as in manifests.
    pub kind: String,
    /// URL path of its version, such as `/apis/apps/v1`.
    pub root: String,
}

/// A reference to an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Ref {
    pub kind: Kind,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub name: String,
}

impl Ref {
    /// A namespaced object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// A cluster-scoped object.
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: None, name: name.to_owned() }
    }

    /// The object as scripts see it.
    pub fn thing(&self) -> Thing {
        let namespace = self.namespace.clone().unwrap_or_default();
        Thing { kind: self.kind.to_string(), namespace, name: self.name.clone() }
    }

    /// URL path of its collection.
    pub fn collection(&self) -> String {
        let root = match self.kind.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let place = self.namespace.as_ref().map(|name| format!("/namespaces/{}", percent_encoded(name)));
        format!("{root}{}/{}", place.unwrap_or_default(), self.kind.resource())
    }

    /// kubectl's flag for its namespace, such as ` -n NAME`; empty for cluster-scoped kinds.
    pub fn kubectl_scope(&self) -> String {
        self.namespace.as_ref().map(|name| format!(" -n {}", shell_word(name))).unwrap_or_default()
    }

    /// URL path of the object.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), percent_encoded(&self.name))
    }
}

/// Encodes text for one segment of a path, or for a value in a query.
pub fn percent_encoded(text: &str) -> String {
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');
    match text {
        "." | ".." => text.replace('.', "%2E"),
        _ => utf8_percent_encode(text, ENCODED).to_string(),
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A live object or a manifest. `Debug` shows only its reference, because a Secret contains a token.
#[derive(Clone, PartialEq)]
pub struct Object {
    pub reference: Ref,
    pub value: Value,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.reference)
    }
}

impl Object {
    /// A manifest; `body` contains the fields other than `metadata`.
    pub fn manifest(
        reference: Ref,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
        body: &Value,
    ) -> Self {
        let mut metadata = json!({"name": reference.name, "labels": labels, "annotations": annotations});
        if let Some(namespace) = &reference.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let mut value = json!({
            "apiVersion": reference.kind.api_version(),
            "kind": reference.kind.to_string(),
            "metadata": metadata,
        });
        if let (Some(target), Some(fields)) = (value.as_object_mut(), body.as_object()) {
            target.extend(fields.clone());
        }
        Self { reference, value }
    }

    /// Empty in a manifest.
    pub fn uid(&self) -> &str {
        self.meta("uid")
    }

    pub fn resource_version(&self) -> &str {
        self.meta("resourceVersion")
    }

    pub fn is_terminating(&self) -> bool {
        !self.meta("deletionTimestamp").is_empty()
    }

    fn meta(&self, key: &str) -> &str {
        self.value["metadata"][key].as_str().unwrap_or_default()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["labels"][key].as_str()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["annotations"][key].as_str()
    }

    /// The field manager that last wrote the field at this path, from `managedFields`, for messages: such as
    /// `kubectl-edit, 2 h ago`.
    pub fn last_writer(&self, path: &[&str], now: jiff::Timestamp) -> Option<String> {
        let entries = self.value["metadata"]["managedFields"].as_array()?;
        let wrote = |entry: &&Value| {
            let mut fields = &entry["fieldsV1"];
            path.iter().all(|field| {
                fields = &fields[format!("f:{field}")];
                !fields.is_null()
            })
        };
        let newest = entries
            .iter()
            .filter(wrote)
            .max_by_key(|entry| entry["time"].as_str().unwrap_or_default().to_owned())?;
        let manager = newest["manager"].as_str()?;
        let time = newest["time"].as_str().and_then(|time| time.parse().ok());
        Some(time.map_or_else(|| manager.to_owned(), |time| format!("{manager}, {}", ago(time, now))))
    }
}
