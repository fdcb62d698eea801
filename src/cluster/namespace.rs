//! Lists a namespace's contents, and deletes it if it contains no foreign objects.

use std::collections::BTreeSet;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::base::error::{Failure, Id, Result};
use crate::base::event::Event;
use crate::base::wait::{self, Pace};
use crate::cluster::deletion;
use crate::cluster::generated;
use crate::cluster::view::{Hand, View};
use crate::cluster::{Class, Cluster, LANES, Refusal};
use crate::deployment::object::{Ref, Served};

/// An API group, or one kind, that does not respond.
#[derive(Clone, Debug, Default)]
pub struct Unresponsive {
    group: String,
    version: String,
    /// The kind; empty for the whole group.
    resource: String,
    /// The server's or the transport's message.
    said: String,
}

/// All kinds that can be listed in a namespace, and the APIs that do not respond.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    served: Vec<Served>,
    unresponsive: Vec<Unresponsive>,
}

/// The objects that prevent the deletion of a namespace.
#[derive(Default)]
struct Found {
    /// Foreign objects, as `resource/name`.
    foreign: Vec<String>,
    /// Objects of generators: generator, `resource/name`.
    generated: Vec<(&'static str, String)>,
    /// Kinds that may not be listed.
    hidden: Vec<String>,
    unresponsive: Vec<Unresponsive>,
}

/// Starts the deletion of a namespace that outrigger created, unless it contains foreign objects. Returns the
/// generated objects that are deleted with it. Keeps the namespace and fails with OR0501 (exit 5) for its contents,
/// OR0505 (exit 8) for an API that does not respond, or OR0506 (exit 5) for generated objects.
pub async fn delete_if_empty(hand: &Hand, reference: &Ref, uid: &str) -> Result<Option<String>> {
    if hand.read(reference).await?.is_some_and(|live| live.is_terminating()) {
        return Ok(None);
    }
    let looked = look(hand, &reference.name).await;
    // Remove a temporary RoleBinding first, even if the list failed.
    crate::cluster::temporary_binding::release_held(hand).await?;
    let found = looked?;
    if let Some(failure) = obstacle(hand, reference, &found) {
        return Err(failure);
    }
    hand.delete(reference, uid).await?;
    Ok((!found.generated.is_empty()).then(|| by_generator(&found.generated).join("; ")))
}

/// The failure for a namespace that has to be kept, if any.
fn obstacle(view: &View, reference: &Ref, found: &Found) -> Option<Failure> {
    let stays = |id, why: &str| Failure::new(id, format!("kept {reference}: {why}"));
    let keep = "to keep the namespaces without an error: --keep-namespaces";
    let lines = by_generator(&found.generated);
    let generated = |failure: Failure| {
        lines.iter().fold(failure, |failure, line| failure.detail("generated", line.clone()))
    };
    let hidden = found.hidden.iter().map(|resource| format!("{resource} (may not be listed)"));
    let inside: Vec<String> = found.foreign.iter().cloned().chain(hidden).collect();
    if let Some(first) = found.unresponsive.first() {
        let what = if first.resource.is_empty() {
            format!("the API {} does not respond", first.group)
        } else {
            format!("{} cannot be listed", first.shown())
        };
        let mut failure = stays(Id::ApiUnresponsive, &format!("{what}, so its objects there are unknown"));
        for one in &found.unresponsive {
            failure = failure.detail(one.shown(), one.said.clone());
        }
        if !inside.is_empty() {
            failure = failure.detail("also inside", summary(&inside));
        }
        failure = generated(failure);
        for one in found.unresponsive.iter().filter(|one| one.group.contains('.')) {
            failure = failure.hint(deletion::repair(&one.group, &one.version));
        }
        let why = "Kubernetes completes no namespace deletion while an API does not respond";
        return Some(failure.hint(why).hint(keep));
    }
    if !inside.is_empty() {
        let why = if found.foreign.is_empty() {
            "you may not list everything in it"
        } else {
            "it contains objects outrigger did not create"
        };
        let failure = generated(stays(Id::NotRemoved, why).detail("inside", summary(&inside)));
        return Some(if found.hidden.is_empty() {
            failure.hint(format!("move or delete them, then run it again; {keep}"))
        } else {
            failure
                .hint("run it again with --cluster-admin, which temporarily binds cluster-admin to you in this namespace,")
                .hint(format!("or ask an administrator to delete it; {keep}"))
        });
    }
    if found.generated.is_empty() || view.accept_generated.get() {
        return None;
    }
    view.generated.borrow_mut().push(format!("{}: {}", reference.name, lines.join("; ")));
    Some(
        generated(stays(Id::GeneratedObjects, "it contains objects that generators recreate"))
            .hint(format!("to delete them with the namespace: --accept generated; {keep}")),
    )
}

impl Unresponsive {
    fn shown(&self) -> String {
        if self.resource.is_empty() {
            format!("{}/{}", self.group, self.version)
        } else if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// One line for each generator: its objects and its name.
fn by_generator(generated: &[(&'static str, String)]) -> Vec<String> {
    let names: BTreeSet<&str> = generated.iter().map(|(name, _)| *name).collect();
    names
        .into_iter()
        .map(|name| {
            let objects: Vec<String> =
                generated.iter().filter(|(of, _)| *of == name).map(|(_, object)| object.clone()).collect();
            format!("{} (by {name})", summary(&objects))
        })
        .collect()
}

/// Lists the namespace's contents. With a temporary RoleBinding, which takes effect with a delay, repeats this for up
/// to 5 s until pods may be listed, and until two attempts in a row find the same kinds that may not be listed.
async fn look(view: &View, namespace: &str) -> Result<Found> {
    let held = view.held.borrow().as_ref().map(|(reference, _)| format!("rolebindings/{}", reference.name));
    let mut before: Option<Vec<String>> = None;
    let look = async || {
        // Recorded objects that could not be deleted are not foreign.
        let ours = view.notes.record().objects.iter().map(|owned| owned.uid.clone()).collect();
        let kinds = view.served.get_or_try_init(|| discover(view)).await?;
        let mut found = list_contents(&view.api.impatient(), namespace, &kinds.served, &ours).await?;
        found.unresponsive.extend(kinds.unresponsive.iter().cloned());
        found.foreign.retain(|name| Some(name) != held.as_ref());
        let hides_pods = found.hidden.iter().any(|resource| resource == "pods");
        let settled = found.hidden.is_empty() || (!hides_pods && before.as_ref() == Some(&found.hidden));
        before = Some(found.hidden.clone());
        Ok(if held.is_none() || settled { Break(found) } else { Continue(found) })
    };
    let pace = Pace::new(&view.limits, 100, 100).within(Duration::from_secs(5));
    Ok(wait::until(pace, |_, _| {}, look).await?.unwrap_or_else(|found| found))
}

/// Lists every namespaced kind. A kind that may not be listed counts as foreign, unless it is inert.
async fn list_contents(
    cluster: &Cluster,
    namespace: &str,
    served: &[Served],
    ours: &BTreeSet<String>,
) -> Result<Found> {
    let lists = served.iter().map(|one| async move {
        let resource = &one.resource;
        let path = format!("{}/namespaces/{namespace}/{resource}", one.root);
        (one, cluster.list_metadata(&format!("list {resource}"), &path).await)
    });
    // Buffered, as each list may be large.
    let mut lists = std::pin::pin!(futures_util::stream::iter(lists).buffered(LANES));
    let mut found = Found::default();
    while let Some((one, items)) = lists.next().await {
        let resource = &one.resource;
        let items = match items {
            Ok(items) => items,
            Err(refusal) if refusal.class == Class::NotFound || refusal.code == 405 => continue,
            Err(refusal) if refusal.class == Class::Forbidden => {
                if !generated::is_inert(&one.group, resource) {
                    found.hidden.push(resource.clone());
                }
                continue;
            }
            Err(refusal) if ends_the_run(&refusal) => return Err(refusal.into()),
            Err(refusal) => {
                let version = one.root.rsplit('/').next().unwrap_or_default().to_owned();
                let (group, resource) = (one.group.clone(), resource.clone());
                found.unresponsive.push(Unresponsive { group, version, resource, said: refusal.message });
                continue;
            }
        };
        for meta in items.iter().map(|item| &item["metadata"]) {
            let leaving = meta["deletionTimestamp"].is_string();
            let is_ours = meta["uid"].as_str().is_some_and(|uid| ours.contains(uid));
            if leaving || is_ours || generated::is_platform_object(one, meta) {
                continue;
            }
            let name = format!("{resource}/{}", meta["name"].as_str().unwrap_or_default());
            match generated::generator_of(meta) {
                Some(generator) => found.generated.push((generator, name)),
                None if has_namespaced_owners(meta, served) => {}
                None => found.foreign.push(name),
            }
        }
    }
    Ok(found)
}

/// Whether no further request of this run can succeed.
fn ends_the_run(refusal: &Refusal) -> bool {
    matches!(refusal.class, Class::Interrupted | Class::Unauthorized | Class::Credentials)
        || refusal.is_over()
        || refusal.is_endless()
}

/// Discovers every listable namespaced kind, each in one version.
async fn discover(view: &View) -> Result<Kinds> {
    let cluster = view.api.impatient();
    let mut roots = vec![(String::new(), "v1".to_owned(), "/api/v1".to_owned())];
    let groups = view.api.read("list the API groups", "/apis").await?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        // All versions, preferred first: some kinds exist in another version only.
        let preferred = &group["preferredVersion"]["groupVersion"];
        let versions = group["versions"].as_array().into_iter().flatten().map(|one| &one["groupVersion"]);
        let others = versions.filter(|version| *version != preferred);
        for place in std::iter::once(preferred).chain(others).filter_map(Value::as_str) {
            let (name, version) = place.split_once('/').unwrap_or(("", place));
            roots.push((name.to_owned(), version.to_owned(), format!("/apis/{place}")));
        }
    }
    let answers = futures_util::future::join_all(roots.iter().map(|(_, _, root)| {
        let cluster = &cluster;
        async move { cluster.read(&format!("list the kinds of {root}"), root).await }
    }))
    .await;
    let mut kinds = Kinds::default();
    for ((group, version, root), answer) in roots.into_iter().zip(answers) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) if ends_the_run(&refusal) => return Err(refusal.into()),
            Err(_) if generated::is_transient_group(&group) => {
                let mut hint = deletion::repair(&group, &version);
                hint.text = format!(
                    "the API {group} does not respond. It stores no objects, but Kubernetes completes a \
                     namespace deletion only when every API responds: {}",
                    hint.text
                );
                view.progress.event(&Event::Advice(hint));
                continue;
            }
            Err(refusal) => {
                kinds.unresponsive.push(Unresponsive {
                    group,
                    version,
                    said: refusal.message,
                    ..Unresponsive::default()
                });
                continue;
            }
        };
        for one in answer["resources"].as_array().into_iter().flatten() {
            let listable = one["verbs"].as_array().is_some_and(|verbs| verbs.contains(&"list".into()));
            let resource = one["name"].as_str().unwrap_or_default();
            let known = kinds.served.iter().any(|other| other.group == group && other.resource == resource);
            if one["namespaced"] != true || !listable || known || generated::is_transient(&group, resource) {
                continue;
            }
            kinds.served.push(Served {
                group: group.clone(),
                resource: resource.to_owned(),
                kind: one["kind"].as_str().unwrap_or_default().to_owned(),
                root: root.clone(),
            });
        }
    }
    Ok(kinds)
}

/// Whether all owners are of namespaced kinds: such an owner is listed itself, or is gone, and then the garbage
/// collector deletes the object. outrigger's annotations are ignored, because other users can set them.
fn has_namespaced_owners(meta: &Value, served: &[Served]) -> bool {
    let owners = meta["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let namespaced = |owner: &Value| {
        let version = owner["apiVersion"].as_str().unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        served.iter().any(|one| one.group == group && owner["kind"] == one.kind.as_str())
    };
    !owners.is_empty() && owners.iter().all(namespaced)
}

fn summary(found: &[String]) -> String {
    let shown: Vec<&str> = found.iter().take(8).map(String::as_str).collect();
    let rest = found.len().saturating_sub(shown.len());
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served(group: &str, resource: &str, kind: &str) -> Served {
        let [group, resource, kind] = [group, resource, kind].map(str::to_owned);
        Served { group, resource, kind, root: String::new() }
    }

    #[test]
    fn object_with_namespaced_owners_only_is_not_foreign() {
        let served = [served("apps", "replicasets", "ReplicaSet")];
        let owned = |owners: Value| has_namespaced_owners(&json!({"ownerReferences": owners}), &served);
        let replicas = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": "x"});
        let tenant = json!({"apiVersion": "example.com/v1", "kind": "Tenant", "uid": "y"});
        assert!(owned(json!([replicas])));
        assert!(!owned(json!([replicas, tenant])), "one owner is cluster-scoped");
        assert!(!owned(json!([])));
        let ours = json!({"annotations": {"outrigger.dev/deployment": "demo"}});
        assert!(!has_namespaced_owners(&ours, &served));
    }

    #[test]
    fn each_generator_is_named_once() {
        let lines = by_generator(&[
            ("Kyverno", "networkpolicies/deny".to_owned()),
            ("Rancher", "rolebindings/rb-x".to_owned()),
            ("Kyverno", "resourcequotas/quota".to_owned()),
        ]);
        assert_eq!(
            lines,
            ["networkpolicies/deny, resourcequotas/quota (by Kyverno)", "rolebindings/rb-x (by Rancher)"]
        );
    }
}
