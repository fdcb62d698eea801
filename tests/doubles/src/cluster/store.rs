//! The objects, and what happens on every write.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use super::Options;
use super::controllers::Task;
use super::tokens::Token;
pub(crate) use crate::wire::random;

/// A kind of object and where it lives. Every group is served as `v1`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    #[expect(clippy::struct_field_names, reason = "the API calls it that")]
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
}

impl Kind {
    /// `v1` or `group/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }

    /// `secrets` or `roles.rbac.authorization.k8s.io`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it is one of the access control kinds with this name.
    pub(crate) fn is_rbac(&self, plurals: &[&str]) -> bool {
        self.group == RBAC && plurals.contains(&self.plural)
    }
}

/// The access control group.
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io";

const fn namespaced(group: &'static str, plural: &'static str, kind: &'static str) -> Kind {
    Kind { group, plural, kind, namespaced: true }
}

const fn clusterwide(group: &'static str, plural: &'static str, kind: &'static str) -> Kind {
    Kind { group, plural, kind, namespaced: false }
}

/// Everything that is served.
pub(crate) static KINDS: &[Kind] = &[
    clusterwide("", "namespaces", "Namespace"),
    clusterwide("", "nodes", "Node"),
    namespaced("", "serviceaccounts", "ServiceAccount"),
    namespaced("", "secrets", "Secret"),
    namespaced("", "configmaps", "ConfigMap"),
    namespaced("", "pods", "Pod"),
    namespaced("", "events", "Event"),
    namespaced("", "persistentvolumeclaims", "PersistentVolumeClaim"),
    namespaced("", "services", "Service"),
    namespaced("", "podtemplates", "PodTemplate"),
    namespaced("", "limitranges", "LimitRange"),
    namespaced("", "resourcequotas", "ResourceQuota"),
    namespaced("", "replicationcontrollers", "ReplicationController"),
    namespaced("", "endpoints", "Endpoints"),
    namespaced(RBAC, "roles", "Role"),
    namespaced(RBAC, "rolebindings", "RoleBinding"),
    clusterwide(RBAC, "clusterroles", "ClusterRole"),
    clusterwide(RBAC, "clusterrolebindings", "ClusterRoleBinding"),
    namespaced("apps", "deployments", "Deployment"),
    namespaced("apps", "replicasets", "ReplicaSet"),
    namespaced("apps", "statefulsets", "StatefulSet"),
    namespaced("apps", "daemonsets", "DaemonSet"),
    namespaced("apps", "controllerrevisions", "ControllerRevision"),
    namespaced("batch", "jobs", "Job"),
    namespaced("batch", "cronjobs", "CronJob"),
    namespaced("coordination.k8s.io", "leases", "Lease"),
    namespaced("networking.k8s.io", "networkpolicies", "NetworkPolicy"),
    namespaced("networking.k8s.io", "ingresses", "Ingress"),
    namespaced("policy", "poddisruptionbudgets", "PodDisruptionBudget"),
    namespaced("discovery.k8s.io", "endpointslices", "EndpointSlice"),
    namespaced("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    namespaced("certificates.k8s.io", "podcertificaterequests", "PodCertificateRequest"),
    namespaced("events.k8s.io", "events", "Event"),
    namespaced("resource.k8s.io", "resourceclaims", "ResourceClaim"),
    namespaced("resource.k8s.io", "resourceclaimtemplates", "ResourceClaimTemplate"),
    namespaced("storage.k8s.io", "csistoragecapacities", "CSIStorageCapacity"),
    clusterwide(APIREGISTRATION, "apiservices", "APIService"),
];

/// The group of the registry of API groups that other servers answer for.
pub(crate) const APIREGISTRATION: &str = "apiregistration.k8s.io";

/// Finds a kind by group and plural.
pub(crate) fn kind_of(group: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.plural == plural)
}

/// A kind that is certainly served.
pub(crate) fn known(group: &str, plural: &str) -> &'static Kind {
    kind_of(group, plural).expect("only called with kinds of the table")
}

/// Where an object is kept; the namespace is empty for cluster-wide kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: &'static Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// As shown to tests: `v1/Secret/ns/name`.
    pub(crate) fn shown(&self) -> String {
        let head = format!("{}/{}", self.kind.api_version(), self.kind.kind);
        if self.namespace.is_empty() {
            format!("{head}/{}", self.name)
        } else {
            format!("{head}/{}/{}", self.namespace, self.name)
        }
    }
}

/// All that a cluster knows.
pub(crate) struct State {
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) version: u64,
    pub(crate) tasks: Vec<(Instant, Task)>,
    pub(crate) tokens: HashMap<String, Token>,
    /// When objects (by uid) went away.
    pub(crate) gone: HashMap<String, Instant>,
    pub(crate) token_controller: bool,
    pub(crate) rules: Vec<super::Rule>,
    pub(crate) ca_pem: String,
    pub(crate) options: Options,
}

impl State {
    pub(crate) fn new(options: Options, ca_pem: String) -> Self {
        let mut state = Self {
            objects: BTreeMap::new(),
            version: 100,
            tasks: Vec::new(),
            tokens: HashMap::new(),
            gone: HashMap::new(),
            token_controller: options.token_controller,
            rules: Vec::new(),
            ca_pem,
            options,
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            state.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        for object in super::builtin::objects() {
            state.seed(object);
        }
        // The world is at rest before anybody looks.
        state.finish_all_tasks();
        state
    }

    fn seed(&mut self, object: Value) {
        let kind = KINDS
            .iter()
            .find(|kind| object["kind"] == kind.kind && object["apiVersion"] == kind.api_version().as_str())
            .expect("only served kinds are seeded");
        self.admit(kind, "", object, "kube-apiserver");
    }

    /// Creates or replaces an object with no questions asked.
    pub(crate) fn admit(&mut self, kind: &'static Kind, namespace: &str, mut object: Value, manager: &str) {
        let name = text(&object, "/metadata/name").to_owned();
        let key = Key::new(kind, namespace, &name);
        super::validate::complete(kind, namespace, &mut object);
        let old = self.objects.get(&key).cloned();
        if let Some(old) = &old {
            for field in ["uid", "creationTimestamp"] {
                object["metadata"][field] = old["metadata"][field].clone();
            }
        } else {
            fresh_identity(&mut object);
        }
        let before = old.unwrap_or_else(|| json!({}));
        super::managed::record_update(&before, &mut object, manager, kind);
        self.write(&key, object);
    }

    pub(crate) fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&Key::new(kind, namespace, name))
    }

    /// The core object of a name; for kinds that are certainly served.
    pub(crate) fn core(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.get(known("", plural), namespace, name)
    }

    /// Stores an object under a new resource version, and tells the controllers.
    pub(crate) fn write(&mut self, key: &Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let dying = object["metadata"]["deletionTimestamp"].is_string();
        let emptied = key.kind.plural != "namespaces" || is_finalized(&object);
        if dying && emptied && !has_finalizers(&object) {
            self.forget(key);
            return object;
        }
        self.objects.insert(key.clone(), object.clone());
        self.after_write(key, &object);
        object
    }

    /// Removes an object at once, and tells the controllers.
    pub(crate) fn forget(&mut self, key: &Key) {
        if let Some(object) = self.objects.remove(key) {
            self.version += 1;
            self.gone.insert(text(&object, "/metadata/uid").to_owned(), Instant::now());
            self.after_remove(key, &object);
        }
    }

    /// Removes an object, or marks it if finalizers hold it or its contents must go first.
    pub(crate) fn delete(&mut self, key: &Key) {
        let Some(mut object) = self.objects.get(key).cloned() else { return };
        if object["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let namespace = key.kind.plural == "namespaces";
        if !namespace && !has_finalizers(&object) {
            self.forget(key);
            return;
        }
        object["metadata"]["deletionTimestamp"] = now().into();
        if namespace {
            object["status"]["phase"] = "Terminating".into();
        }
        self.write(key, object);
    }

    /// Whether an object with this uid exists.
    pub(crate) fn alive(&self, uid: &str) -> bool {
        self.objects.values().any(|object| text(object, "/metadata/uid") == uid)
    }

    /// When the deletion of the object with this uid began, if it is held by finalizers since.
    pub(crate) fn deleted_at(&self, uid: &str) -> Option<jiff::Timestamp> {
        let object = self.objects.values().find(|object| text(object, "/metadata/uid") == uid)?;
        text(object, "/metadata/deletionTimestamp").parse().ok()
    }

    /// The API groups that another server would answer for, as `group/version`: nobody does.
    pub(crate) fn dead_groups(&self) -> Vec<(String, String)> {
        let registered = self.objects.iter().filter(|(key, object)| {
            key.kind.group == APIREGISTRATION && object["spec"]["service"].is_object()
        });
        registered
            .map(|(_, object)| {
                (text(object, "/spec/group").to_owned(), text(object, "/spec/version").to_owned())
            })
            .collect()
    }
}

/// Gives an object its uid and birthday.
pub(crate) fn fresh_identity(object: &mut Value) {
    object["metadata"]["uid"] = uuid().into();
    object["metadata"]["creationTimestamp"] = now().into();
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// Whether a namespace has no finalizer left that waits for its content.
pub(crate) fn is_finalized(namespace: &Value) -> bool {
    namespace["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// The text at a JSON pointer, or nothing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    // `Value::pointer` allocates for each part, and every request asks this of every object.
    let part = pointer.split('/').skip(1).try_fold(value, |within, key| within.get(key));
    part.and_then(Value::as_str).unwrap_or_default()
}

/// The time in the API's form.
pub(crate) fn now() -> String {
    at(jiff::Timestamp::now().as_second())
}

/// A second since 1970 in the API's form.
pub(crate) fn at(second: i64) -> String {
    jiff::Timestamp::from_second(second).expect("the near future is representable").to_string()
}

/// A random uid.
pub(crate) fn uuid() -> String {
    let value = u128::from_be_bytes(random::<16>());
    let hex = format!("{:032x}", (value & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
