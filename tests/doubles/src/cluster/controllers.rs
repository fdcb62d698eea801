//! What happens by itself a little later. There is no thread for it: whatever is due is done before
//! anybody looks at the cluster.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::store::{Key, State, has_finalizers, known, text};

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
        let left = self.objects.keys().filter(|key| key.namespace == name).count();
        if left == 0 && !has_finalizers(&object) {
            self.forget(&key);
            return;
        }
        if object["status"]["conditions"].is_null() {
            let message = format!(
                "Some content in the namespace has finalizers remaining: in {left} resource instances"
            );
            object["status"]["conditions"] = json!([{
                "type": "NamespaceFinalizersRemaining", "status": "True", "reason": "SomeFinalizersRemain",
                "message": message, "lastTransitionTime": super::store::now(),
            }]);
            self.write(&key, object);
        } else {
            self.later(CLEAR, Task::Clear(name.to_owned(), uid.to_owned()));
        }
    }
}

fn owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| text(owner, "/uid") == uid)
}
