//! What lives in a namespace, and the deletion of one that holds nothing foreign.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Class, Cluster};
use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::object::Ref;

/// Marks a kind that may not be listed.
const HIDDEN: &str = " (may not be listed)";

/// Begins the deletion of a namespace of ours, if everything in it goes by itself.
///
/// # Errors
/// OR0501 (exit 5) naming what is inside; the namespace then stays.
pub async fn delete_if_empty(cx: &Context, cluster: &Cluster, reference: &Ref, uid: &str) -> Result<()> {
    let looked = look(cx, cluster, &reference.name).await;
    // Whatever came of it, a right that was borrowed for looking goes back first.
    crate::borrowed::release_held(cx).await?;
    let found = looked?;
    if found.is_empty() {
        return cx.delete(cluster, reference, uid).await;
    }
    let hidden = found.iter().any(|name| name.ends_with(HIDDEN));
    let failure =
        Failure::new("OR0501", Kind::Partial, format!("{reference} stays: something in it is not ours"))
            .detail("inside", summary(&found));
    Err(if hidden {
        failure
            .hint("run it again with --cluster-admin, which lets you look into that namespace alone for a moment,")
            .hint("or have somebody delete it who may see everything in it; to end well with it in place: --keep-namespaces")
    } else {
        failure.hint("move or delete that, then run it again; to end well with the namespaces in place: --keep-namespaces")
    })
}

/// Looks, and looks again for a while if a right that was just bound is not honoured yet.
async fn look(cx: &Context, cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let held =
        cx.facts.held.borrow().as_ref().map(|(reference, _)| format!("rolebindings/{}", reference.name));
    let started = Instant::now();
    loop {
        let mut found = inhabitants(cluster, namespace).await?;
        found.retain(|name| Some(name) != held.as_ref());
        let lags = held.is_some() && found.iter().any(|name| name.strip_suffix(HIDDEN) == Some("pods"));
        if !lags || started.elapsed() > Duration::from_secs(5) {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Objects that every namespace has, or that well-known controllers put into each: not foreign.
fn is_furniture(resource: &str, name: &str) -> bool {
    matches!(
        (resource, name),
        ("serviceaccounts", "default" | "builder" | "deployer" | "pipeline")
            | ("configmaps", "kube-root-ca.crt" | "openshift-service-ca.crt" | "istio-ca-root-cert")
            | ("events", _)
    )
}

/// Kinds that hold nothing of a user's.
fn is_passing(resource: &str) -> bool {
    matches!(resource, "events" | "bindings" | "localsubjectaccessreviews")
}

/// Everything in a namespace that keeps it from being deleted: here alone every namespaced kind is
/// listed. What may not be listed counts as foreign.
pub async fn inhabitants(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let mut versions = vec!["/api/v1".to_owned()];
    let groups = cluster.read("list the API groups", "/apis").await.map_err(Failure::from)?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        if let Some(version) = group["preferredVersion"]["groupVersion"].as_str() {
            versions.push(format!("/apis/{version}"));
        }
    }
    let found = futures_util::future::join_all(versions.iter().map(|version| async move {
        let Ok(resources) = cluster.read("list the API's resources", version).await else {
            // An aggregated API that is down: nobody can tell what is there.
            return vec![format!("whatever {version} serves (it does not answer)")];
        };
        let listable = resources["resources"].as_array().cloned().unwrap_or_default();
        let lists = listable
            .iter()
            .filter(|resource| resource["namespaced"] == true)
            .filter(|resource| {
                resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"))
            })
            .filter_map(|resource| resource["name"].as_str())
            .filter(|name| !name.contains('/') && !is_passing(name))
            .map(|name| async move {
                let path = format!("{version}/namespaces/{namespace}/{name}");
                match cluster.list_metadata(&format!("list {name}"), &path).await {
                    Ok(items) => items
                        .iter()
                        .filter(|item| !goes_by_itself(item))
                        .filter_map(|item| item["metadata"]["name"].as_str())
                        .filter(|item| !is_furniture(name, item))
                        .map(|item| format!("{name}/{item}"))
                        .collect(),
                    Err(refusal) if refusal.class == Class::NotFound || refusal.code == 405 => Vec::new(),
                    Err(_) => vec![format!("{name}{HIDDEN}")],
                }
            });
        futures_util::future::join_all(lists).await.into_iter().flatten().collect::<Vec<_>>()
    }))
    .await;
    Ok(found.into_iter().flatten().collect())
}

/// An object that goes by itself: owned by another one (which is listed in its own right), or on its
/// way out already. Annotations are no proof here: anybody can write ours on what is theirs.
fn goes_by_itself(item: &Value) -> bool {
    let owned = item["metadata"]["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty());
    owned || item["metadata"]["deletionTimestamp"].is_string()
}

fn summary(found: &[String]) -> String {
    let shown: Vec<&str> = found.iter().take(8).map(String::as_str).collect();
    let rest = found.len().saturating_sub(shown.len());
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

/// Waits until a namespace with this uid is gone, saying what holds it up when it takes too long.
pub async fn wait_until_gone(
    cx: &Context,
    cluster: &Cluster,
    reference: &Ref,
    uid: &str,
    started: Instant,
) -> Result<()> {
    let limit = Duration::from_secs(90);
    let mut pause = Duration::from_millis(20);
    loop {
        let live = cluster.get(reference).await.map_err(Failure::from)?;
        let Some(live) = live.filter(|live| live.uid() == uid) else { return Ok(()) };
        if started.elapsed() > limit {
            let conditions: Vec<String> = live.value["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|condition| condition["status"] == "True")
                .filter_map(|condition| condition["message"].as_str().map(str::to_owned))
                .collect();
            return Err(Failure::new(
                "OR0501",
                Kind::Deadline,
                format!("{reference} is still being deleted"),
            )
            .detail("the server says", conditions.join("; "))
            .hint("its deletion goes on by itself; run the same command again to see it gone"));
        }
        if pause >= Duration::from_millis(500) {
            cx.waiting("create-namespaces", &format!("{reference} to go"), started.elapsed());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn furniture_is_not_foreign_and_everything_else_is() {
        assert!(is_furniture("serviceaccounts", "default"));
        assert!(is_furniture("configmaps", "kube-root-ca.crt"));
        assert!(!is_furniture("configmaps", "default"));
        assert!(!is_furniture("secrets", "default"));
    }

    #[test]
    fn what_dies_with_its_owner_is_not_foreign() {
        assert!(goes_by_itself(&json!({"metadata": {"ownerReferences": [{"uid": "x"}]}})));
        assert!(!goes_by_itself(&json!({"metadata": {"annotations": {"outrigger.dev/deployment": "demo"}}})));
    }
}
