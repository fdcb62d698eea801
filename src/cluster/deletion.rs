//! Objects that are being deleted, and the finalizers and APIs that block their deletion. Pure.
//!
//! An object with a `metadata.deletionTimestamp` remains until its `metadata.finalizers` are removed; a namespace
//! until it is empty, its `spec.finalizers` are removed and every API group responds (kubernetes:
//! `pkg/controller/namespace/deletion/namespaced_resources_deleter.go`). outrigger never removes finalizers.

use crate::base::error::{Command, Failure, Hint, Id};
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::settings::shell_word;

/// Owners of well-known finalizers, by the end of the part before the slash, or the whole name.
const OWNERS: &[(&str, &str)] = &[
    ("cattle.io", "Rancher"),
    ("kyverno.io", "Kyverno"),
    ("argoproj.io", "Argo CD"),
    ("projectcapsule.dev", "Capsule"),
    ("capsule.clastix.io", "Capsule"),
    ("external-secrets.io", "External Secrets"),
    ("foregroundDeletion", "the garbage collector, until its dependents are deleted"),
    ("kubernetes.io/pvc-protection", "the cluster, until no pod uses it"),
];

fn finalizer(name: &str) -> String {
    let domain = name.split('/').next().unwrap_or_default();
    let belongs = |end: &str| name == end || domain == end || domain.ends_with(&format!(".{end}"));
    match OWNERS.iter().find(|(end, _)| belongs(end)) {
        Some((_, owner)) => format!("finalizer {name} ({owner})"),
        None => format!("finalizer {name}"),
    }
}

fn finalizers<'a>(object: &'a Object, place: &str) -> impl Iterator<Item = &'a str> {
    object.value[place]["finalizers"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str)
}

/// The message of a namespace's condition, if its status is True.
fn trouble<'a>(object: &'a Object, kind: &str) -> Option<&'a str> {
    let conditions = object.value["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|one| one["type"] == kind && one["status"] == "True")?;
    found["message"].as_str()
}

/// The API groups, as `group/version`, that block a namespace's deletion because they do not respond.
pub fn unresponsive_groups(object: &Object) -> Vec<String> {
    let message = trouble(object, "NamespaceDeletionDiscoveryFailure").unwrap_or_default();
    let list = message.rsplit_once("server APIs: ").map_or("", |(_, list)| list);
    list.split(", ")
        .filter_map(|part| part.split_once(": ").map(|(group, _)| group))
        .filter(|group| group.contains('/') && !group.contains(' '))
        .map(str::to_owned)
        .collect()
}

/// The kinds with objects left in a namespace that is being deleted: resource and group.
pub fn kinds_inside(object: &Object) -> Vec<(String, String)> {
    let message = trouble(object, "NamespaceContentRemaining").unwrap_or_default();
    let list = message.split_once("remaining: ").map_or("", |(_, list)| list);
    list.split(", ")
        .filter_map(|part| part.split_once(" has "))
        .filter_map(|(kind, _)| kind.split_once('.'))
        .map(|(resource, group)| (resource.to_owned(), group.to_owned()))
        .collect()
}

/// The finalizers and APIs that block an object's deletion.
pub fn holders(object: &Object) -> Vec<String> {
    let mut held: Vec<String> = finalizers(object, "metadata").map(finalizer).collect();
    // The namespace controller removes its own finalizer, `kubernetes`, when the namespace is empty.
    held.extend(finalizers(object, "spec").filter(|name| *name != "kubernetes").map(finalizer));
    held.extend(
        unresponsive_groups(object).iter().map(|group| format!("the API {group}, which does not respond")),
    );
    held
}

/// An object for the plan, with the first finalizer or API that blocks its deletion.
pub fn shown(object: &Object) -> String {
    let reference = &object.reference;
    match holders(object).first() {
        _ if !object.is_terminating() => reference.to_string(),
        Some(holder) => format!("{reference} (is being deleted; waits for {holder})"),
        None => format!("{reference} (is being deleted)"),
    }
}

/// A kubectl command about one object.
pub(super) fn kubectl(verb: &str, reference: &Ref, flags: &str) -> Command {
    let (scope, kind) = (reference.kubectl_scope(), reference.kind.resource().trim_end_matches('s'));
    Command::kubectl(format!("{verb}{scope} {kind} {}{flags}", shell_word(&reference.name)))
}

fn described(failure: Failure, object: &Object, inside: &[String]) -> Failure {
    let mut failure =
        failure.detail("since", object.value["metadata"]["deletionTimestamp"].as_str().unwrap_or_default());
    let held = holders(object);
    if !held.is_empty() {
        failure = failure.detail("waits for", held.join(", "));
    }
    if !inside.is_empty() {
        failure = failure.detail("inside", inside.join(", "));
    }
    let said: Vec<&str> =
        ["NamespaceContentRemaining", "NamespaceFinalizersRemaining", "NamespaceDeletionContentFailure"]
            .iter()
            .filter_map(|kind| trouble(object, kind))
            .collect();
    if !said.is_empty() {
        failure = failure.detail("the server says", said.join("; "));
    }
    for group in unresponsive_groups(object) {
        let (name, version) = group.split_once('/').unwrap_or((&group, ""));
        failure = failure.hint(repair(name, version));
    }
    let finalized = finalizers(object, "metadata").next().is_some() || !inside.is_empty();
    if finalized || finalizers(object, "spec").any(|name| name != "kubernetes") {
        failure = failure.hint(
            "the controller that set a finalizer has to remove it, outrigger never does: check that the controller runs",
        );
    }
    failure.hint(("to inspect it", kubectl("get", &object.reference, " -o yaml")))
}

/// The hint for an aggregated API that does not respond.
pub fn repair(group: &str, version: &str) -> Hint {
    let name = format!("{version}.{group}");
    let command = Command::kubectl(format!("get apiservice {} -o yaml", shell_word(&name)));
    Hint::new(format!("repair or remove the APIService {name}"), command)
}

/// The failure for a deletion that has not completed.
pub fn unfinished(object: &Object, inside: &[String]) -> Failure {
    let message = format!("{} is still being deleted", object.reference);
    described(Failure::new(Id::StillDeleting, message), object, inside)
}

/// The failure for an object that setup needs and that is being deleted.
pub fn being_deleted(object: &Object) -> Failure {
    let reference = &object.reference;
    let message = if reference.kind == ObjectKind::Namespace {
        format!("the namespace {} is being deleted", reference.name)
    } else {
        format!("{reference} is being deleted")
    };
    described(Failure::new(Id::BeingDeleted, message), object, &[])
        .hint("wait for the deletion, then run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(value: serde_json::Value) -> Object {
        Object { reference: Ref::cluster(ObjectKind::Namespace, "jobs"), value }
    }

    #[test]
    fn finalizers_are_shown_with_their_owners() {
        let held = namespace(json!({
            "metadata": {"finalizers": ["controller.cattle.io/namespace-auth", "example.com/hold"]},
            "spec": {"finalizers": ["kubernetes", "example.org/other"]},
        }));
        assert_eq!(
            holders(&held),
            [
                "finalizer controller.cattle.io/namespace-auth (Rancher)",
                "finalizer example.com/hold",
                "finalizer example.org/other",
            ]
        );
        assert_eq!(finalizer("foregroundDeletion").matches("garbage").count(), 1);
        assert_eq!(finalizer("notcattle.io/x"), "finalizer notcattle.io/x");
    }

    #[test]
    fn conditions_of_kube_controller_manager_are_read() {
        // Messages of kube-controller-manager 1.37.
        let stuck = namespace(json!({"status": {"conditions": [
            {"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "Discovery failed for some \
                groups, 1 failing: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: \
                stale GroupVersion discovery: metrics.k8s.io/v1beta1"},
            {"type": "NamespaceContentRemaining", "status": "True",
                "message": "Some resources are remaining: configmaps. has 1 resource instances, \
                    widgets.example.com has 2 resource instances"},
            {"type": "NamespaceFinalizersRemaining", "status": "False", "message": "All content-preserving"},
        ]}}));
        assert_eq!(unresponsive_groups(&stuck), ["metrics.k8s.io/v1beta1"]);
        let kinds = kinds_inside(&stuck);
        assert_eq!(kinds[0], ("configmaps".to_owned(), String::new()));
        assert_eq!(kinds[1], ("widgets".to_owned(), "example.com".to_owned()));
        let failure = unfinished(&stuck, &["configmaps/a".to_owned()]);
        assert!(failure.hints[0].to_string().contains("APIService v1beta1.metrics.k8s.io"), "{failure:?}");
        assert!(
            unresponsive_groups(&namespace(json!({}))).is_empty()
                && kinds_inside(&namespace(json!({}))).is_empty()
        );
    }
}
