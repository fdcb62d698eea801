//! Names, labels and annotations of a deployment's objects.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::deployment::object::{Kind, Object, Ref};
use crate::settings::{Settings, check};

/// Annotation with the deployment's random id.
pub const ID: &str = "outrigger.dev/id";
/// Annotation with the deployment's name.
pub const DEPLOYMENT: &str = "outrigger.dev/deployment";
/// Annotation on the anchor with the last non-secret settings, as JSON.
pub const SETTINGS: &str = "outrigger.dev/settings";
/// The settings in that annotation: none that apply to one machine only, and none that could send a token or
/// credentials to another host. [`crate::commands::confirm_owner`] decides which of them are read back.
pub const NOTED: &[&str] = &[
    "namespace",
    "podSecurity",
    "tokenLifetime",
    "runnerVersion",
    "installMethod",
    "jobLimit",
    "concurrent",
    "checkInterval",
    "shutdownTimeout",
    "pullPolicy",
    "target",
    "secrets",
    "lockMetadata",
];
/// Annotation on the anchor with the digest of the launch script's inputs.
pub const SCRIPT_DIGEST: &str = "outrigger.dev/script-digest";
/// Annotation on the anchor with the token's expiry, RFC 3339.
pub const TOKEN_EXPIRES: &str = "outrigger.dev/token-expires";
/// Annotation on the anchor with the id of the deployment's runner in GitLab, or [`GIVEN`]. Only a hint: the runner
/// belongs to the deployment only if its description in GitLab has the mark.
pub const RUNNER: &str = "outrigger.dev/gitlab-runner";
/// Value of [`RUNNER`] for an existing runner whose token the user provided.
pub const GIVEN: &str = "given";
/// Annotation on the anchor with the uid of the Secret to which the launch script's token is bound.
pub const SCRIPT_SECRET: &str = "outrigger.dev/script-secret";
/// Annotation on the anchor with the generations of the cluster token, as JSON.
pub const TOKEN_SLOTS: &str = "outrigger.dev/token-slots";
/// Annotation on the anchor with the target of the launch script.
pub const SCRIPT_TARGET: &str = "outrigger.dev/script-target";
/// Label of the temporary binding, with the value [`TEMPORARY`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const TEMPORARY: &str = "temporary-admin";

/// Prefix of Pod Security labels.
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/";

/// The deployment's name and its two namespaces, from which all other names are derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub deployment: String,
    /// Namespace of the runner's ServiceAccount and token.
    pub runner_namespace: String,
    /// Namespace of the job pods.
    pub job_namespace: String,
}

/// Whether a deployment of this name could have created an object with any settings: a kind and name derived from
/// its name, in a namespace that is not reserved. References in files are checked with this before they are used in
/// a path or deleted.
pub fn could_be_of(deployment: &str, object: &Ref) -> bool {
    let place = object.namespace.as_deref();
    let placed = place.is_some_and(|place| check::namespace(place).is_ok());
    let rest = object.name.strip_prefix(deployment);
    let temporary = rest.and_then(|rest| rest.strip_prefix("-admin-")).is_some_and(|run| {
        !run.is_empty() && run.len() <= 32 && run.chars().all(|c| c.is_ascii_alphanumeric())
    });
    match object.kind {
        Kind::Namespace => place.is_none() && check::namespace(&object.name).is_ok(),
        Kind::ServiceAccount => placed && matches!(rest, Some("" | "-job")),
        Kind::Secret => {
            let generation = rest.and_then(|rest| rest.strip_prefix("-token"));
            placed
                && generation
                    .is_some_and(|end| end.is_empty() || end.strip_prefix('-').is_some_and(is_generation))
        }
        Kind::Role => placed && rest == Some(""),
        Kind::RoleBinding => placed && (rest == Some("") || temporary),
        Kind::ClusterRoleBinding => place.is_none() && temporary,
        Kind::ConfigMap | Kind::ClusterRole | Kind::Pod => false,
    }
}

/// Whether this is the generation of a rotated token: six lower-case hex digits.
pub fn is_generation(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Names {
    pub fn of(settings: &Settings) -> Self {
        Self {
            deployment: settings.deployment.value.clone(),
            runner_namespace: settings.runner_namespace.value.clone(),
            job_namespace: settings.namespace.value.clone(),
        }
    }

    /// The runner's ServiceAccount: the anchor.
    pub fn account(&self) -> Ref {
        Ref::new(Kind::ServiceAccount, &self.runner_namespace, &self.deployment)
    }

    /// The ServiceAccount of job pods; it has no rights and no token.
    pub fn job_account(&self) -> Ref {
        Ref::new(Kind::ServiceAccount, &self.job_namespace, &format!("{}-job", self.deployment))
    }

    /// The `default` ServiceAccount of the job namespace.
    pub fn default_account(&self) -> Ref {
        Ref::new(Kind::ServiceAccount, &self.job_namespace, "default")
    }

    pub fn role(&self) -> Ref {
        Ref::new(Kind::Role, &self.job_namespace, &self.deployment)
    }

    /// Binds the Role to the runner's ServiceAccount.
    pub fn role_binding(&self) -> Ref {
        Ref::new(Kind::RoleBinding, &self.job_namespace, &self.deployment)
    }

    /// The Secret that contains the token of this generation (empty: the first), or to which a requested token is bound.
    pub fn token_secret(&self, generation: &str) -> Ref {
        let end = if generation.is_empty() { String::new() } else { format!("-{generation}") };
        Ref::new(Kind::Secret, &self.runner_namespace, &format!("{}-token{end}", self.deployment))
    }

    /// The two namespaces, the runner's first.
    pub fn namespaces(&self) -> [Ref; 2] {
        [
            Ref::cluster(Kind::Namespace, &self.runner_namespace),
            Ref::cluster(Kind::Namespace, &self.job_namespace),
        ]
    }

    /// The user name of the runner's ServiceAccount on the API server.
    pub fn account_user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.runner_namespace, self.deployment)
    }

    /// Prefix of the names of temporary bindings.
    pub fn temporary_prefix(&self) -> String {
        format!("{}-admin-", self.deployment)
    }

    /// The labels that Kubernetes recommends.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "gitlab-runner"),
            ("app.kubernetes.io/instance", self.deployment.as_str()),
            ("app.kubernetes.io/managed-by", "outrigger"),
            ("app.kubernetes.io/part-of", "outrigger"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// A manifest with the deployment's labels, name and id. It contains nothing that depends on a version, because
    /// the metadata of a Role cannot be changed once the temporary binding is removed.
    pub fn manifest(&self, reference: Ref, id: &str, body: &Value) -> Object {
        let annotations = BTreeMap::from([
            (DEPLOYMENT.to_owned(), self.deployment.clone()),
            (ID.to_owned(), id.to_owned()),
        ]);
        Object::manifest(reference, &self.labels(), &annotations, body)
    }

    /// The manifest of a namespace with Pod Security labels. The job namespace enforces `pod_security` and warns of
    /// violations of `restricted`; the runner's namespace, which has no pods, enforces `restricted`. The levels are
    /// pinned to `version` (such as `v1.37`), so that a cluster upgrade does not tighten them for running pipelines.
    pub fn namespace_manifest(
        &self,
        reference: Ref,
        id: &str,
        pod_security: &str,
        version: Option<&str>,
    ) -> Object {
        let enforced = if reference.name == self.job_namespace { pod_security } else { "restricted" };
        let mut object = self.manifest(reference, id, &Value::Null);
        let labels = &mut object.value["metadata"]["labels"];
        for (mode, level) in [("enforce", enforced), ("warn", "restricted"), ("audit", "restricted")] {
            labels[format!("{POD_SECURITY}{mode}")] = Value::String(level.to_owned());
            if let Some(version) = version {
                labels[format!("{POD_SECURITY}{mode}-version")] = Value::String(version.to_owned());
            }
        }
        object
    }
}

/// Adds `--namespace-label` and `--namespace-annotation` to the manifest of a namespace.
pub fn marked(mut namespace: Object, settings: &Settings) -> Object {
    let metadata = &mut namespace.value["metadata"];
    for (field, pairs) in
        [("labels", &settings.namespace_labels), ("annotations", &settings.namespace_annotations)]
    {
        for (key, value) in pairs {
            metadata[field][key] = Value::String(value.clone());
        }
    }
    namespace
}

#[cfg(test)]
mod tests {
    use super::could_be_of;
    use crate::deployment::object::{Kind, Ref};

    #[test]
    fn a_file_can_name_only_what_a_deployment_makes() {
        for (object, could) in [
            (Ref::cluster(Kind::Namespace, "web"), true),
            (Ref::cluster(Kind::Namespace, "moved"), true),
            (Ref::cluster(Kind::Namespace, "kube-system"), false),
            (Ref::cluster(Kind::Namespace, "default"), false),
            (Ref::cluster(Kind::Namespace, "a/../kube-system"), false),
            (Ref::cluster(Kind::Namespace, ".."), false),
            (Ref::cluster(Kind::Namespace, ""), false),
            (Ref::new(Kind::Namespace, "web", "web"), false),
            (Ref::new(Kind::ServiceAccount, "web", "web"), true),
            (Ref::new(Kind::ServiceAccount, "web-jobs", "web-job"), true),
            (Ref::new(Kind::ServiceAccount, "web", "default"), false),
            (Ref::new(Kind::ServiceAccount, "kube-system", "web"), false),
            (Ref::new(Kind::Secret, "web", "web-token"), true),
            (Ref::new(Kind::Secret, "web", "web-token-0a1b2c"), true),
            (Ref::new(Kind::Secret, "web", "web-token-0a1b2"), false),
            (Ref::new(Kind::Secret, "web", "web-token-0a1b2/"), false),
            (Ref::new(Kind::Secret, "web", "web-token-"), false),
            (Ref::new(Kind::Secret, "web", "database"), false),
            (Ref::new(Kind::Secret, "../web", "web-token"), false),
            (Ref::cluster(Kind::Secret, "web-token"), false),
            (Ref::new(Kind::Role, "web-jobs", "web"), true),
            (Ref::new(Kind::RoleBinding, "web-jobs", "web-admin-0a1b2c3d"), true),
            (Ref::new(Kind::RoleBinding, "web-jobs", "web-admin-x/../../kube-system"), false),
            (Ref::new(Kind::RoleBinding, "web-jobs", "web-admin-"), false),
            (Ref::cluster(Kind::ClusterRoleBinding, "web-admin-0a1b2c3d"), true),
            (Ref::cluster(Kind::ClusterRoleBinding, "cluster-admin"), false),
            (Ref::cluster(Kind::ClusterRole, "web"), false),
            (Ref::new(Kind::Pod, "web-jobs", "web"), false),
        ] {
            assert_eq!(could_be_of("web", &object), could, "{object}");
        }
    }
}
