//! Objects whose deletion has begun: who holds them, in words. Pure.
//!
//! A server that accepts a deletion keeps the object, with `metadata.deletionTimestamp`, until its
//! `metadata.finalizers` are gone; a namespace until its content, every `spec.finalizers` and every API
//! group's answer are (kubernetes: `pkg/controller/namespace/deletion/namespaced_resources_deleter.go`).
//! Whoever put a finalizer there takes it away; outrigger never does.

use crate::base::error::{Command, Failure, Hint, Id};
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::settings::shell_word;

/// Who puts well-known finalizers there: the end of the part before the slash, or the whole name.
const OWNERS: &[(&str, &str)] = &[
    ("cattle.io", "Rancher"),
    ("kyverno.io", "Kyverno"),
    ("argoproj.io", "Argo CD"),
    ("projectcapsule.dev", "Capsule"),
    ("capsule.clastix.io", "Capsule"),
    ("external-secrets.io", "External Secrets"),
    ("foregroundDeletion", "the garbage collector, until what it owns is gone"),
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

/// The names of finalizers at a place in an object.
fn finalizers<'a>(object: &'a Object, place: &str) -> impl Iterator<Item = &'a str> {
    object.value[place]["finalizers"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str)
}

/// What the server says holds up a namespace: the messages of its conditions.
fn trouble<'a>(object: &'a Object, kind: &str) -> Option<&'a str> {
    let conditions = object.value["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|one| one["type"] == kind && one["status"] == "True")?;
    found["message"].as_str()
}

/// The API groups, as `group/version`, that do not answer and so hold up a namespace's deletion.
#[must_use]
pub fn silent_groups(object: &Object) -> Vec<String> {
    let message = trouble(object, "NamespaceDeletionDiscoveryFailure").unwrap_or_default();
    let list = message.rsplit_once("server APIs: ").map_or("", |(_, list)| list);
    list.split(", ")
        .filter_map(|part| part.split_once(": ").map(|(group, _)| group))
        .filter(|group| group.contains('/') && !group.contains(' '))
        .map(str::to_owned)
        .collect()
}

/// The kinds that still have objects in a namespace on its way out: resource and group.
#[must_use]
pub fn kinds_inside(object: &Object) -> Vec<(String, String)> {
    let message = trouble(object, "NamespaceContentRemaining").unwrap_or_default();
    let list = message.split_once("remaining: ").map_or("", |(_, list)| list);
    list.split(", ")
        .filter_map(|part| part.split_once(" has "))
        .filter_map(|(kind, _)| kind.split_once('.'))
        .map(|(resource, group)| (resource.to_owned(), group.to_owned()))
        .collect()
}

/// Who holds an object whose deletion has begun; empty if nobody is named.
#[must_use]
pub fn holders(object: &Object) -> Vec<String> {
    let mut held: Vec<String> = finalizers(object, "metadata").map(finalizer).collect();
    // The namespace controller's own is there until the content is gone: it holds nothing by itself.
    held.extend(finalizers(object, "spec").filter(|name| *name != "kubernetes").map(finalizer));
    held.extend(silent_groups(object).iter().map(|group| format!("the API {group}, which does not answer")));
    held
}

/// An object as the plan shows it: with who holds it, if its deletion has begun.
#[must_use]
pub fn shown(object: &Object) -> String {
    let reference = &object.reference;
    if !object.is_terminating() {
        return reference.to_string();
    }
    match holders(object).first() {
        Some(holder) => format!("{reference} (is being deleted; held by {holder})"),
        None => format!("{reference} (is being deleted)"),
    }
}

/// The command that shows an object, for pasting.
fn look(reference: &Ref) -> Command {
    let scope =
        reference.namespace.as_deref().map(|name| format!(" -n {}", shell_word(name))).unwrap_or_default();
    Command::kubectl(format!(
        "get{scope} {} {} -o yaml",
        reference.kind.resource().trim_end_matches('s'),
        shell_word(&reference.name)
    ))
}

fn described(failure: Failure, object: &Object, inside: &[String]) -> Failure {
    let mut failure =
        failure.detail("since", object.value["metadata"]["deletionTimestamp"].as_str().unwrap_or_default());
    let held = holders(object);
    if !held.is_empty() {
        failure = failure.detail("held by", held.join(", "));
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
    for group in silent_groups(object) {
        let (name, version) = group.split_once('/').unwrap_or((&group, ""));
        failure = failure.hint(mend(name, version));
    }
    let finalized = finalizers(object, "metadata").next().is_some() || !inside.is_empty();
    if finalized || finalizers(object, "spec").any(|name| name != "kubernetes") {
        failure = failure.hint(
            "whoever put a finalizer there takes it away, and outrigger never does: see whether that controller runs",
        );
    }
    failure.hint(("look at it", look(&object.reference)))
}

/// What to do about an API group that another server should answer for.
#[must_use]
pub fn mend(group: &str, version: &str) -> Hint {
    let name = format!("{version}.{group}");
    let command = Command::kubectl(format!("get apiservice {} -o yaml", shell_word(&name)));
    Hint::new(format!("mend or remove the APIService {name}"), command)
}

/// The failure for an object whose deletion was asked for and has not ended.
#[must_use]
pub fn unfinished(object: &Object, inside: &[String]) -> Failure {
    let message = format!("{} is still being deleted", object.reference);
    described(Failure::new(Id::StillDeleting, message), object, inside)
}

/// The failure for an object that setup needs and that is being deleted.
#[must_use]
pub fn in_the_way(object: &Object) -> Failure {
    let reference = &object.reference;
    let message = if reference.kind == ObjectKind::Namespace {
        format!("the namespace {} is being deleted", reference.name)
    } else {
        format!("{reference} is being deleted")
    };
    described(Failure::new(Id::BeingDeleted, message), object, &[])
        .hint("wait until it is gone, then run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(value: serde_json::Value) -> Object {
        Object { reference: Ref::cluster(ObjectKind::Namespace, "jobs"), value }
    }

    #[test]
    fn finalizers_are_named_with_who_puts_them_there() {
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
    fn conditions_are_read_in_the_controllers_words() {
        // Word for word as kube-controller-manager 1.37 writes them.
        let stuck = namespace(json!({"status": {"conditions": [
            {"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "Discovery failed for some \
                groups, 1 failing: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: \
                stale GroupVersion discovery: metrics.k8s.io/v1beta1"},
            {"type": "NamespaceContentRemaining", "status": "True",
                "message": "Some resources are remaining: configmaps. has 1 resource instances, \
                    widgets.example.com has 2 resource instances"},
            {"type": "NamespaceFinalizersRemaining", "status": "False", "message": "All content-preserving"},
        ]}}));
        assert_eq!(silent_groups(&stuck), ["metrics.k8s.io/v1beta1"]);
        let kinds = kinds_inside(&stuck);
        assert_eq!(kinds[0], ("configmaps".to_owned(), String::new()));
        assert_eq!(kinds[1], ("widgets".to_owned(), "example.com".to_owned()));
        let failure = unfinished(&stuck, &["configmaps/a".to_owned()]);
        assert!(failure.hints[0].to_string().contains("APIService v1beta1.metrics.k8s.io"), "{failure:?}");
        assert!(
            silent_groups(&namespace(json!({}))).is_empty() && kinds_inside(&namespace(json!({}))).is_empty()
        );
    }
}
