//! A job's Secret and pod as gitlab-runner 19.4 creates them (`executors/kubernetes/kubernetes.go`), for a dry run
//! before the first job.

use serde_json::{Value, json};

use crate::deployment::names::Names;
use crate::deployment::object::{Kind, Object, Ref};
use crate::deployment::run::Run;

/// User and group of containers under Pod Security `restricted`, as in `machine/config_entry.rs`.
const UNPRIVILEGED: u32 = 59_417;

/// The Secret with a job's registry credentials.
pub fn secret(names: &Names) -> Object {
    object(names, Kind::Secret, &json!({"type": "Opaque"}))
}

/// The pod of an ordinary job, with the `default` ServiceAccount, as the jobs' own may not exist yet.
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
    // For dry runs only: never stored.
    let reference = Ref::new(kind, &names.job_namespace, &format!("{}-question", names.deployment));
    Object::manifest(reference, &none, &none, body)
}

/// A container's requests and limits in the runner's config.toml entry.
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
