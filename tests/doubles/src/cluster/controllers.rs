//! What happens by itself a little later. There is no thread for it: whatever is due is done before
//! anybody looks at the cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::store::{Key, State, known, text};

/// Something to be done later.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Give a namespace its service account and its CA.
    Furnish(String),
    /// Fill a token Secret (of this uid).
    FillToken(Key, String),
    /// Empty and remove a namespace (of this uid).
    Clear(String, String),
    /// Remove what belongs to an owner (by uid) that is gone.
    Collect(String),
    /// Remove the token Secrets of a service account that is gone.
    Orphans(String, String, String),
}

const FURNISH: Duration = Duration::from_millis(5);
const FILL: Duration = Duration::from_millis(15);
const CLEAR: Duration = Duration::from_millis(30);
const COLLECT: Duration = Duration::from_millis(5);

/// The type of Secrets that the token controller looks after.
pub(crate) const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";

impl State {
    fn later(&mut self, delay: Duration, task: Task) {
        self.tasks.push((Instant::now() + delay, task));
    }

    /// Plans what a write entails.
    pub(crate) fn after_write(&mut self, key: &Key, object: &Value) {
        match (key.kind.group, key.kind.plural) {
            ("", "namespaces") => {
                let task = if object["status"]["phase"] == "Terminating" {
                    (CLEAR, Task::Clear(key.name.clone(), text(object, "/metadata/uid").to_owned()))
                } else {
                    (FURNISH, Task::Furnish(key.name.clone()))
                };
                self.later(task.0, task.1);
            }
            ("", "secrets") if object["type"] == TOKEN_TYPE && text(object, "/data/token").is_empty() => {
                let uid = text(object, "/metadata/uid").to_owned();
                self.later(FILL, Task::FillToken(key.clone(), uid));
            }
            _ => {}
        }
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            let uid = text(owner, "/uid").to_owned();
            if !self.alive(&uid) {
                self.later(COLLECT, Task::Collect(uid));
            }
        }
    }

    /// Plans what a removal entails.
    pub(crate) fn after_remove(&mut self, key: &Key, object: &Value) {
        let uid = text(object, "/metadata/uid").to_owned();
        let owned = self.objects.values().any(|other| owned_by(other, &uid));
        if owned {
            self.later(COLLECT, Task::Collect(uid.clone()));
        }
        if key.kind.group.is_empty() && matches!(key.kind.plural, "serviceaccounts" | "configmaps") {
            // The two that every namespace has come back.
            if key.name == "default" || key.name == "kube-root-ca.crt" {
                self.later(FURNISH, Task::Furnish(key.namespace.clone()));
            }
        }
        if key.kind.group.is_empty() && key.kind.plural == "serviceaccounts" {
            self.later(COLLECT, Task::Orphans(key.namespace.clone(), key.name.clone(), uid));
        }
    }

    /// Switches the token controller; switched on, it looks at what it has missed.
    pub(crate) fn set_token_controller(&mut self, on: bool) {
        self.token_controller = on;
        let waiting: Vec<(Key, String)> = self
            .objects
            .iter()
            .filter(|(_, object)| object["type"] == TOKEN_TYPE && text(object, "/data/token").is_empty())
            .map(|(key, object)| (key.clone(), text(object, "/metadata/uid").to_owned()))
            .collect();
        for (key, uid) in waiting {
            self.later(FILL, Task::FillToken(key, uid));
        }
    }

    /// Does everything that is due by now.
    pub(crate) fn advance(&mut self) {
        self.advance_to(Instant::now());
    }

    /// Does everything that is planned, whenever it is due.
    pub(crate) fn finish_all_tasks(&mut self) {
        self.advance_to(Instant::now() + Duration::from_secs(60));
    }

    fn advance_to(&mut self, until: Instant) {
        loop {
            let due = self.tasks.iter().enumerate().filter(|(_, (when, _))| *when <= until);
            let Some(first) = due.min_by_key(|(_, (when, _))| *when).map(|(index, _)| index) else { return };
            let (_, task) = self.tasks.remove(first);
            self.run(task);
        }
    }

    fn run(&mut self, task: Task) {
        match task {
            Task::Furnish(namespace) => self.furnish(&namespace),
            Task::FillToken(key, uid) => self.fill_token(&key, &uid),
            Task::Clear(name, uid) => self.clear(&name, &uid),
            Task::Collect(uid) => {
                if self.alive(&uid) {
                    return;
                }
                let keys: Vec<Key> = self
                    .objects
                    .iter()
                    .filter(|(_, object)| owned_by(object, &uid))
                    .filter(|(_, object)| {
                        // One living owner is enough to stay.
                        let owners = object["metadata"]["ownerReferences"].as_array();
                        !owners.into_iter().flatten().any(|owner| self.alive(text(owner, "/uid")))
                    })
                    .map(|(key, _)| key.clone())
                    .collect();
                self.delete_each(&keys);
            }
            Task::Orphans(namespace, account, uid) => {
                if !self.token_controller {
                    return;
                }
                let keys: Vec<Key> = self
                    .objects
                    .iter()
                    .filter(|(key, object)| {
                        let notes = &object["metadata"]["annotations"];
                        let owner = &notes["kubernetes.io/service-account.uid"];
                        key.namespace == namespace
                            && object["type"] == TOKEN_TYPE
                            && notes["kubernetes.io/service-account.name"] == account.as_str()
                            && (owner.is_null() || *owner == uid.as_str())
                    })
                    .map(|(key, _)| key.clone())
                    .collect();
                self.delete_each(&keys);
            }
        }
    }

    fn delete_each(&mut self, keys: &[Key]) {
        for key in keys {
            self.delete(key);
        }
    }

    fn furnish(&mut self, namespace: &str) {
        let alive = self
            .core("namespaces", "", namespace)
            .is_some_and(|object| object["status"]["phase"] != "Terminating");
        if !alive {
            return;
        }
        let manager = "kube-controller-manager";
        if self.core("serviceaccounts", namespace, "default").is_none() {
            let account = json!({"metadata": {"name": "default"}});
            self.admit(known("", "serviceaccounts"), namespace, account, manager);
        }
        if self.core("configmaps", namespace, "kube-root-ca.crt").is_none() {
            let config = json!({
                "metadata": {"name": "kube-root-ca.crt", "annotations": {
                    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the \
                        kube-apiserver when using internal endpoints such as the internal service IP or \
                        kubernetes.default.svc. No other usage is guaranteed across distributions of \
                        Kubernetes clusters.",
                }},
                "data": {"ca.crt": self.ca_pem},
            });
            self.admit(known("", "configmaps"), namespace, config, manager);
        }
    }

    fn clear(&mut self, name: &str, uid: &str) {
        let key = Key::new(known("", "namespaces"), "", name);
        let Some(mut object) = self.objects.get(&key).cloned() else { return };
        if text(&object, "/metadata/uid") != uid {
            return;
        }
        let inside: Vec<Key> = self.objects.keys().filter(|key| key.namespace == name).cloned().collect();
        self.delete_each(&inside);
        let conditions = self.deletion_conditions(name);
        let failed = conditions.iter().any(|one| one["status"] == "True");
        let before = object.clone();
        object["status"]["conditions"] = conditions.into();
        if !failed {
            object["spec"]["finalizers"] = json!([]);
        }
        if object == before {
            self.later(CLEAR, Task::Clear(name.to_owned(), uid.to_owned()));
        } else {
            self.write(&key, object);
        }
    }

    /// What the namespace controller says of a namespace on its way out, in its words
    /// (kubernetes: pkg/controller/namespace/deletion/status_condition_utils.go).
    fn deletion_conditions(&self, name: &str) -> Vec<Value> {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
        for (key, object) in self.objects.iter().filter(|(key, _)| key.namespace == name) {
            *kinds.entry(format!("{}.{}", key.kind.plural, key.kind.group)).or_default() += 1;
            for one in object["metadata"]["finalizers"].as_array().into_iter().flatten() {
                *finalizers.entry(one.as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        let dead: Vec<String> =
            self.dead_groups().iter().map(|(group, version)| format!("{group}/{version}")).collect();
        let listed = |counts: &BTreeMap<String, usize>, word: &str| -> String {
            let parts: Vec<String> = counts
                .iter()
                .map(|(what, count)| format!("{what} {word} {count} resource instances"))
                .collect();
            parts.join(", ")
        };
        let stale: Vec<String> =
            dead.iter().map(|group| format!("{group}: stale GroupVersion discovery: {group}")).collect();
        let condition = |kind: &str, trouble: Option<(&str, String)>, good: (&str, &str)| {
            let status = if trouble.is_some() { "True" } else { "False" };
            let (reason, message) = trouble.unwrap_or((good.0, good.1.to_owned()));
            json!({"type": kind, "status": status, "reason": reason, "message": message})
        };
        vec![
            condition(
                "NamespaceDeletionDiscoveryFailure",
                (!dead.is_empty()).then(|| {
                    let message = format!(
                        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of \
                         server APIs: {}",
                        dead.len(),
                        stale.join(", ")
                    );
                    ("DiscoveryFailed", message)
                }),
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            condition(
                "NamespaceContentRemaining",
                (!kinds.is_empty()).then(|| {
                    ("SomeResourcesRemain", format!("Some resources are remaining: {}", listed(&kinds, "has")))
                }),
                ("ContentRemoved", "All content successfully removed"),
            ),
            condition(
                "NamespaceFinalizersRemaining",
                (!finalizers.is_empty()).then(|| {
                    let message = format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        listed(&finalizers, "in")
                    );
                    ("SomeFinalizersRemain", message)
                }),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ]
    }
}

fn owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| text(owner, "/uid") == uid)
}
