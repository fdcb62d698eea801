//! Kubernetes objects as outrigger handles them: JSON with the few accessors that decisions need.
//!
//! Steps build and compare these; only `cluster` sends them.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// The kinds that outrigger reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
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
    /// API group (empty for the core group), as RBAC rules name it.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Role | Kind::RoleBinding | Kind::ClusterRole | Kind::ClusterRoleBinding => {
                "rbac.authorization.k8s.io"
            }
            _ => "",
        }
    }

    /// `apiVersion` of its manifests.
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

/// A kind that a server serves in namespaces, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// API group, empty for the core group.
    pub group: String,
    /// Resource name, as in URLs.
    pub resource: String,
    /// Kind, as in manifests.
    pub kind: String,
    /// Where its version is served, such as `/apis/apps/v1`.
    pub root: String,
}

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Ref {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
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

    /// URL path of the collection it lives in.
    pub fn collection(&self) -> String {
        let root = if self.kind.group().is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}/v1", self.kind.group())
        };
        match &self.namespace {
            Some(namespace) => {
                format!("{root}/namespaces/{}/{}", segment(namespace), self.kind.resource())
            }
            None => format!("{root}/{}", self.kind.resource()),
        }
    }

    /// URL path of the object itself.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), segment(&self.name))
    }
}

/// A name as one segment of a path, whatever is in it.
fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    let dots = matches!(name, "." | "..");
    name.bytes().fold(String::new(), |path, byte| {
        if plain(byte) && !dots {
            path + char::from(byte).encode_utf8(&mut [0; 4])
        } else {
            path + &format!("%{byte:02X}")
        }
    })
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One object, as read from the server or about to be sent. `Debug` shows its name only, because a
/// Secret holds a token.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// Which one it is.
    pub reference: Ref,
    /// The whole manifest.
    pub value: Value,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.reference)
    }
}

impl Object {
    /// A manifest with `labels` and `annotations`; `body` holds every field outside `metadata`.
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

    /// The server's identity for this very object; empty on a manifest not sent yet.
    pub fn uid(&self) -> &str {
        self.meta("uid")
    }

    /// The server's version of it, opaque.
    pub fn resource_version(&self) -> &str {
        self.meta("resourceVersion")
    }

    /// Whether its deletion has begun.
    pub fn is_terminating(&self) -> bool {
        !self.meta("deletionTimestamp").is_empty()
    }

    fn meta(&self, key: &str) -> &str {
        self.value["metadata"][key].as_str().unwrap_or_default()
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["labels"][key].as_str()
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["annotations"][key].as_str()
    }

    /// Who last wrote the field at this path, and when, from `managedFields`: for messages.
    pub fn last_writer(&self, path: &[&str]) -> Option<String> {
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
        let time = newest["time"].as_str().unwrap_or_default();
        Some(if time.is_empty() { manager.to_owned() } else { format!("{manager}, {time}") })
    }
}
