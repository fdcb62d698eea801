//! Objects in a namespace that no user created: kinds of the system, objects that a platform creates in every
//! namespace, and objects of generators. Tables with their sources. Pure.
//!
//! A label does not prove its author. The tables only decide which objects are reported and which objects
//! `--accept generated` includes, within namespaces that outrigger created.

use serde_json::Value;

use crate::deployment::object::Served;

/// The treatment of a whole kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Contains no user data: not listed.
    Transient,
    /// Has no effect by itself: treated as empty if it may not be listed.
    Inert,
}

/// A kind (or with `*` a whole group).
struct Kind {
    group: &'static str,
    resource: &'static str,
    weight: Weight,
    #[expect(dead_code, reason = "for the reader of the table")]
    source: &'static str,
}

const fn kind(group: &'static str, resource: &'static str, weight: Weight, source: &'static str) -> Kind {
    Kind { group, resource, weight, source }
}

/// The built-in ClusterRole `edit` may list neither podtemplates nor podcertificaterequests nor
/// csistoragecapacities (kubernetes 1.37, plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go).
static KINDS: &[Kind] = &[
    kind("", "events", Weight::Transient, "kube-apiserver --event-ttl: kept for an hour"),
    kind("events.k8s.io", "events", Weight::Transient, "the same objects in another group"),
    kind("metrics.k8s.io", "*", Weight::Transient, "kubernetes-sigs/metrics-server: measured, not stored"),
    kind("custom.metrics.k8s.io", "*", Weight::Transient, "kubernetes/metrics: measured, not stored"),
    kind("external.metrics.k8s.io", "*", Weight::Transient, "kubernetes/metrics: measured, not stored"),
    kind(
        "packages.operators.coreos.com",
        "*",
        Weight::Transient,
        "operator-framework/operator-lifecycle-manager: a view of the catalogs",
    ),
    kind(
        "certificates.k8s.io",
        "podcertificaterequests",
        Weight::Transient,
        "KEP-4317: created by the kubelet for a pod, deleted by the control plane",
    ),
    kind("wgpolicyk8s.io", "policyreports", Weight::Transient, "results about other objects"),
    kind("openreports.io", "reports", Weight::Transient, "results about other objects"),
    kind("reports.kyverno.io", "ephemeralreports", Weight::Transient, "kyverno: intermediate results"),
    kind("cilium.io", "ciliumendpoints", Weight::Transient, "cilium: one for each pod, deleted with it"),
    kind("", "podtemplates", Weight::Inert, "kubernetes: no controller acts on one by itself"),
    kind(
        "storage.k8s.io",
        "csistoragecapacities",
        Weight::Inert,
        "KEP-1472: created by a CSI driver's provisioner in its own namespace, which also contains its pods",
    ),
];

fn weight(group: &str, resource: &str) -> Option<Weight> {
    let fits = |row: &&Kind| row.group == group && (row.resource == "*" || row.resource == resource);
    KINDS.iter().find(fits).map(|row| row.weight)
}

/// Whether a kind contains no user data: events, metrics, views of other objects.
pub fn is_transient(group: &str, resource: &str) -> bool {
    weight(group, resource) == Some(Weight::Transient)
}

/// Whether a kind that may not be listed counts as empty.
pub fn is_inert(group: &str, resource: &str) -> bool {
    weight(group, resource).is_some()
}

/// Whether a whole API group stores no objects.
pub fn is_transient_group(group: &str) -> bool {
    KINDS.iter().any(|row| row.group == group && row.resource == "*")
}

/// Whether an object is one that Kubernetes or a platform creates in every namespace.
///
/// Sources: kubernetes pkg/controller/serviceaccount (`default`) and pkg/controller/certificates/rootcacertpublisher
/// (`kube-root-ca.crt`); openshift/openshift-controller-manager (`builder`, `deployer`, their dockercfg
/// and token Secrets, the `system:` `RoleBindings`); openshift/service-ca-operator
/// (`openshift-service-ca.crt`); openshift-pipelines/operator (`pipeline`, the two `config-` `ConfigMaps`,
/// `openshift-pipelines-edit`, `pipelines-scc-rolebinding`); istio/istio (`istio-ca-root-cert`,
/// `istio-ca-crl`); operator-framework/operator-lifecycle-manager (`olm.copiedFrom`).
pub fn is_platform_object(served: &Served, meta: &Value) -> bool {
    let name = meta["name"].as_str().unwrap_or_default();
    match (served.group.as_str(), served.resource.as_str()) {
        // OpenShift: builder, deployer, pipeline, each with Secrets.
        ("", "serviceaccounts") => matches!(name, "default" | "builder" | "deployer" | "pipeline"),
        ("", "secrets") => ["default", "builder", "deployer", "pipeline"].iter().any(|account| {
            let rest = name.strip_prefix(account).unwrap_or_default();
            rest.starts_with("-dockercfg-") || rest.starts_with("-token-")
        }),
        ("", "configmaps") => matches!(
            name,
            "kube-root-ca.crt"
                | "openshift-service-ca.crt"
                | "config-service-cabundle"
                | "config-trusted-cabundle"
                | "istio-ca-root-cert"
                | "istio-ca-crl"
        ),
        ("rbac.authorization.k8s.io" | "authorization.openshift.io", "rolebindings") => matches!(
            name,
            "system:deployers"
                | "system:image-builders"
                | "system:image-pullers"
                | "openshift-pipelines-edit"
                | "pipelines-scc-rolebinding"
        ),
        ("operators.coreos.com", "clusterserviceversions") => meta["labels"]["olm.copiedFrom"].is_string(),
        _ => false,
    }
}

/// Identifies an object of a generator.
enum Mark {
    /// Label key.
    Label(&'static str),
    /// Annotation key, and an annotation key that must be absent.
    Annotation(&'static str, Option<&'static str>),
    /// The owner's group and kind.
    Owner(&'static str, &'static str),
}

/// A controller that recreates its objects in namespaces when they are deleted.
struct Generator {
    name: &'static str,
    mark: Mark,
    #[expect(dead_code, reason = "for the reader of the table")]
    source: &'static str,
}

const fn generator(name: &'static str, mark: Mark, source: &'static str) -> Generator {
    Generator { name, mark, source }
}

static GENERATORS: &[Generator] = &[
    generator(
        "Kyverno",
        Mark::Label("generate.kyverno.io/policy-name"),
        "kyverno: labels of generated resources, beside app.kubernetes.io/managed-by: kyverno",
    ),
    generator(
        "Kyverno",
        Mark::Label("kyverno.io/generated-by-kind"),
        "kyverno before 1.10: pkg/generate/labels.go",
    ),
    generator(
        "trust-manager",
        Mark::Label("trust.cert-manager.io/bundle"),
        "cert-manager/trust-manager: BundleLabelKey",
    ),
    generator(
        "trust-manager",
        Mark::Owner("trust.cert-manager.io", "Bundle"),
        "cert-manager/trust-manager: a target is owned by its Bundle",
    ),
    generator(
        "reflector",
        Mark::Annotation("reflector.v1.k8s.emberstack.com/auto-reflects", None),
        "emberstack/kubernetes-reflector: set on mirrors that it created automatically",
    ),
    generator(
        "Rancher",
        Mark::Label("authz.cluster.cattle.io/rtb-owner-updated"),
        "rancher: rtbOwnerLabel on the rb- RoleBindings of a project",
    ),
    generator(
        "Rancher",
        Mark::Label("authz.cluster.cattle.io/rtb-owner"),
        "rancher before 2.5: rtbOwnerLabelLegacy",
    ),
    generator(
        "Rancher",
        Mark::Label("resourcequota.management.cattle.io/default-resource-quota"),
        "rancher: resourceQuotaLabel on a project's ResourceQuota and LimitRange",
    ),
    generator(
        "Hierarchical Namespace Controller",
        Mark::Label("hnc.x-k8s.io/inherited-from"),
        "kubernetes-retired/hierarchical-namespaces: on every propagated object",
    ),
    generator(
        "Capsule",
        Mark::Label("capsule.clastix.io/resource-quota"),
        "projectcapsule/capsule: ResourceQuotaLabel",
    ),
    generator(
        "Capsule",
        Mark::Label("capsule.clastix.io/limit-range"),
        "projectcapsule/capsule: LimitRangeLabel",
    ),
    generator(
        "Capsule",
        Mark::Label("capsule.clastix.io/network-policy"),
        "projectcapsule/capsule: NetworkPolicyLabel",
    ),
    generator(
        "Capsule",
        Mark::Label("capsule.clastix.io/role-binding"),
        "projectcapsule/capsule: RolebindingLabel",
    ),
    generator(
        "kubernetes-replicator",
        Mark::Annotation(
            "replicator.v1.mittwald.de/replicated-from-version",
            // Created by a user.
            Some("replicator.v1.mittwald.de/replicate-from"),
        ),
        "mittwald/kubernetes-replicator: ReplicatedFromVersionAnnotation",
    ),
    generator(
        "External Secrets",
        Mark::Owner("external-secrets.io", "ClusterExternalSecret"),
        "external-secrets: an ExternalSecret is owned by its ClusterExternalSecret",
    ),
];

/// The generator of an object.
pub fn generator_of(meta: &Value) -> Option<&'static str> {
    let marked = |row: &&Generator| match row.mark {
        Mark::Label(key) => meta["labels"][key].is_string(),
        Mark::Annotation(key, without) => {
            let notes = &meta["annotations"];
            notes[key].is_string() && without.is_none_or(|other| notes[other].is_null())
        }
        Mark::Owner(group, kind) => meta["ownerReferences"].as_array().into_iter().flatten().any(|owner| {
            let version = owner["apiVersion"].as_str().unwrap_or_default();
            owner["kind"] == kind && version.split_once('/').is_some_and(|(of, _)| of == group)
        }),
    };
    GENERATORS.iter().find(marked).map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served(group: &str, resource: &str) -> Served {
        let [group, resource] = [group, resource].map(str::to_owned);
        Served { group, resource, kind: String::new(), root: String::new() }
    }

    #[test]
    fn platform_object_is_identified_by_kind_and_name() {
        let is_platform_object = |group, resource, name| {
            super::is_platform_object(&served(group, resource), &json!({"name": name}))
        };
        assert!(is_platform_object("", "serviceaccounts", "default"));
        assert!(is_platform_object("", "configmaps", "kube-root-ca.crt"));
        assert!(is_platform_object("", "secrets", "builder-dockercfg-x7k2p"));
        assert!(!is_platform_object("", "configmaps", "default"));
        assert!(!is_platform_object("", "secrets", "default"));
        assert!(!is_platform_object("", "secrets", "defaults-token-of-mine"));
        assert!(!is_platform_object("example.com", "configmaps", "kube-root-ca.crt"));
    }

    #[test]
    fn kinds_count_as_in_the_table() {
        assert!(is_transient("metrics.k8s.io", "pods") && is_transient_group("metrics.k8s.io"));
        assert!(!is_transient("", "podtemplates") && is_inert("", "podtemplates"));
        assert!(!is_inert("", "secrets") && !is_inert("example.com", "podtemplates"));
        assert!(!is_transient_group("storage.k8s.io"));
    }

    #[test]
    fn generator_is_identified_by_label_annotation_or_owner() {
        let labelled = json!({"labels": {"generate.kyverno.io/policy-name": "deny-all"}});
        assert_eq!(generator_of(&labelled), Some("Kyverno"));
        let owned =
            json!({"ownerReferences": [{"apiVersion": "trust.cert-manager.io/v1alpha1", "kind": "Bundle"}]});
        assert_eq!(generator_of(&owned), Some("trust-manager"));
        let from = "replicator.v1.mittwald.de/replicate-from";
        let version = "replicator.v1.mittwald.de/replicated-from-version";
        assert_eq!(generator_of(&json!({"annotations": {version: "1"}})), Some("kubernetes-replicator"));
        assert_eq!(
            generator_of(&json!({"annotations": {version: "1", from: "a/b"}})),
            None,
            "created by a user"
        );
        assert_eq!(generator_of(&json!({"labels": {"app.kubernetes.io/managed-by": "kyverno"}})), None);
    }
}
