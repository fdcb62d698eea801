//! A job's Secret and pod as the runner will make them, so that the rules of a namespace can be asked
//! before the first job meets them. Shape of gitlab-runner 19.4 (`executors/kubernetes/kubernetes.go`):
//! a build and a helper container, an init container, volumes that end with the pod.

use serde_json::{Value, json};

use crate::deployment::names::Names;
use crate::deployment::object::{Kind, Object, Ref};
use crate::deployment::run::Run;

/// The group and user of containers where Pod Security restricted forbids root: see `script/entry.rs`.
const UNPRIVILEGED: u32 = 59_417;

/// Under this name they are asked about; nothing is ever stored under it.
fn reference(names: &Names, kind: Kind) -> Ref {
    Ref::new(kind, &names.job_namespace, &format!("{}-question", names.deployment))
}

/// The Secret with a job's registry credentials.
#[must_use]
pub fn secret(names: &Names) -> Object {
    object(names, Kind::Secret, &json!({"type": "Opaque"}))
}

/// The pod of a job that asks for nothing special. It runs as the `default` ServiceAccount, because the
/// jobs' own may not exist yet.
#[must_use]
pub fn pod(run: &Run, extra: &toml::Table) -> Object {
    let nothing = toml::Table::new();
    let extra = extra.get("kubernetes").and_then(toml::Value::as_table);
    let extra = extra.unwrap_or(&nothing);
    let restricted = *run.settings.pod_security == crate::settings::PodSecurity::Restricted;
    let helper = format!(
        "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v{}",
        run.settings.runner_version.value
    );
    let container = |name: &str, image: &str, prefix: &str| {
        let mut security = json!({"capabilities": {"drop": ["NET_RAW"]}});
        if extra.get("privileged").and_then(toml::Value::as_bool) == Some(true) {
            security["privileged"] = true.into();
        }
        if restricted {
            security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        }
        json!({"name": name, "image": image, "resources": resources(extra, prefix), "securityContext": security})
    };
    let mut spec = json!({
        "restartPolicy": "Never", "serviceAccountName": "default", "automountServiceAccountToken": false,
        "initContainers": [container("init-permissions", &helper, "helper_")],
        "containers": [container("build", &run.settings.image.value, ""), container("helper", &helper, "helper_")],
        "volumes": [{"name": "repo", "emptyDir": {}}, {"name": "scripts", "emptyDir": {}}, {"name": "logs", "emptyDir": {}}],
    });
    if restricted {
        spec["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": UNPRIVILEGED, "runAsGroup": UNPRIVILEGED,
            "fsGroup": UNPRIVILEGED, "seccompProfile": {"type": "RuntimeDefault"}});
    }
    let mut pod = object(&run.names, Kind::Pod, &json!({"spec": spec}));
    for (key, field) in [("pod_labels", "labels"), ("pod_annotations", "annotations")] {
        for (name, value) in extra.get(key).and_then(toml::Value::as_table).into_iter().flatten() {
            if let Some(value) = value.as_str() {
                pod.value["metadata"][field][name] = value.into();
            }
        }
    }
    pod
}

fn object(names: &Names, kind: Kind, body: &Value) -> Object {
    let none = std::collections::BTreeMap::new();
    Object::manifest(reference(names, kind), &none, &none, body)
}

/// Requests and limits that the runner's entry sets for a container.
fn resources(extra: &toml::Table, prefix: &str) -> Value {
    let mut resources = json!({});
    for (name, resource) in [("cpu", "cpu"), ("memory", "memory"), ("ephemeral_storage", "ephemeral-storage")]
    {
        for (suffix, side) in [("request", "requests"), ("limit", "limits")] {
            if let Some(value) = extra.get(&format!("{prefix}{name}_{suffix}")).and_then(toml::Value::as_str)
            {
                resources[side][resource] = value.into();
            }
        }
    }
    resources
}
