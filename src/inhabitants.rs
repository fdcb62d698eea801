//! What lives in a namespace, and the deletion of one that holds nothing foreign.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Class, Cluster};
use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::object::{Ref, Served};

/// Marks a kind that may not be listed.
const HIDDEN: &str = " (may not be listed)";

/// Begins the deletion of a namespace of ours, if everything in it goes by itself; one that is being
/// deleted already only has to be awaited.
///
/// # Errors
/// OR0501 (exit 5) naming what is inside; the namespace then stays.
pub async fn delete_if_empty(cx: &Context, cluster: &Cluster, reference: &Ref, uid: &str) -> Result<()> {
    let leaving = cx.read(reference).await.map_err(Failure::from)?.is_some_and(|live| live.is_terminating());
    if leaving {
        return Ok(());
    }
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
        // What is ours and could not be deleted by itself is not foreign: it goes with its namespace.
        let ours = cx.record.borrow().objects.iter().map(|owned| owned.uid.clone()).collect();
        let (served, unknown) = cx.facts.served.get_or_try_init(|| discover(cluster)).await?;
        let mut found = unknown.clone();
        found.extend(inhabitants(cluster, namespace, served, &ours).await);
        found.retain(|name| Some(name) != held.as_ref());
        let lags = held.is_some() && found.iter().any(|name| name.strip_suffix(HIDDEN) == Some("pods"));
        if !lags || started.elapsed() > Duration::from_secs(5) {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Objects that every namespace has, or that well-known controllers put into each: not foreign.
fn is_furniture(served: &Served, meta: &Value) -> bool {
    let name = meta["name"].as_str().unwrap_or_default();
    match (served.group.as_str(), served.resource.as_str()) {
        // OpenShift makes builder, deployer and (with its pipelines) pipeline, each with secrets of its own.
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
        // The Operator Lifecycle Manager copies each operator's description into every namespace.
        ("operators.coreos.com", "clusterserviceversions") => meta["labels"]["olm.copiedFrom"].is_string(),
        _ => false,
    }
}

/// Kinds that hold nothing of a user's: traces of what happened, and views of what is kept elsewhere.
fn is_passing(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("" | "events.k8s.io", "events")
            | ("metrics.k8s.io", "pods")
            | ("packages.operators.coreos.com", "packagemanifests")
    )
}

/// Everything in a namespace that keeps it from being deleted: here alone every namespaced kind is
/// listed. What may not be listed counts as foreign.
async fn inhabitants(
    cluster: &Cluster,
    namespace: &str,
    served: &[Served],
    ours: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    let lists = futures_util::future::join_all(served.iter().map(|one| async move {
        let resource = &one.resource;
        let path = format!("{}/namespaces/{namespace}/{resource}", one.root);
        match cluster.list_metadata(&format!("list {resource}"), &path).await {
            Ok(items) => Some(items),
            Err(refusal) if refusal.class == Class::NotFound || refusal.code == 405 => Some(Vec::new()),
            Err(_) => None,
        }
    }))
    .await;
    for (one, items) in served.iter().zip(lists) {
        let resource = &one.resource;
        let Some(items) = items else {
            found.push(format!("{resource}{HIDDEN}"));
            continue;
        };
        let foreign = items.iter().map(|item| &item["metadata"]).filter(|meta| {
            let leaving = meta["deletionTimestamp"].is_string();
            let is_ours = meta["uid"].as_str().is_some_and(|uid| ours.contains(uid));
            !leaving && !is_ours && !goes_with_its_owner(meta, served) && !is_furniture(one, meta)
        });
        found.extend(
            foreign.filter_map(|meta| meta["name"].as_str()).map(|name| format!("{resource}/{name}")),
        );
    }
    found
}

/// Every listable namespaced kind, in one of its versions; and what could not be found out.
async fn discover(cluster: &Cluster) -> Result<(Vec<Served>, Vec<String>)> {
    let mut roots = vec![(String::new(), "/api/v1".to_owned())];
    let groups = cluster.read("list the API groups", "/apis").await.map_err(Failure::from)?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        // All versions, the preferred one first: some kinds are served in another one alone.
        let preferred = &group["preferredVersion"]["groupVersion"];
        let versions = group["versions"].as_array().into_iter().flatten().map(|one| &one["groupVersion"]);
        let others = versions.filter(|version| *version != preferred);
        for version in std::iter::once(preferred).chain(others).filter_map(Value::as_str) {
            let name = group["name"].as_str().unwrap_or_default().to_owned();
            roots.push((name, format!("/apis/{version}")));
        }
    }
    let answers = futures_util::future::join_all(
        roots.iter().map(|(_, root)| cluster.read("list the API's resources", root)),
    )
    .await;
    let mut served: Vec<Served> = Vec::new();
    let mut unknown = Vec::new();
    for ((group, root), answer) in roots.into_iter().zip(answers) {
        let Ok(answer) = answer else {
            // An aggregated API that is down: nobody can tell what is there.
            unknown.push(format!("whatever {root} serves (it does not answer)"));
            continue;
        };
        for one in answer["resources"].as_array().into_iter().flatten() {
            let listable =
                one["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            let resource = one["name"].as_str().unwrap_or_default();
            let known = served.iter().any(|other| other.group == group && other.resource == resource);
            if one["namespaced"] != true || !listable || known || is_passing(&group, resource) {
                continue;
            }
            served.push(Served {
                group: group.clone(),
                resource: resource.to_owned(),
                kind: one["kind"].as_str().unwrap_or_default().to_owned(),
                root: root.clone(),
            });
        }
    }
    Ok((served, unknown))
}

/// An object whose owners all live in namespaces: each is listed here in its own right, or gone, and then
/// this one follows it. With an owner beyond the namespace it is somebody's. Annotations are no proof
/// here: anybody can write ours on what is theirs.
fn goes_with_its_owner(meta: &Value, served: &[Served]) -> bool {
    let owners = meta["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lives_here = |owner: &Value| {
        let version = owner["apiVersion"].as_str().unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        served.iter().any(|one| one.group == group && owner["kind"] == one.kind.as_str())
    };
    !owners.is_empty() && owners.iter().all(lives_here)
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

    fn served(group: &str, resource: &str, kind: &str) -> Served {
        let [group, resource, kind] = [group, resource, kind].map(str::to_owned);
        Served { group, resource, kind, root: String::new() }
    }

    #[test]
    fn furniture_is_not_foreign_and_everything_else_is() {
        let is_furniture =
            |group, resource, name| super::is_furniture(&served(group, resource, ""), &json!({"name": name}));
        assert!(is_furniture("", "serviceaccounts", "default"));
        assert!(is_furniture("", "configmaps", "kube-root-ca.crt"));
        assert!(is_furniture("", "secrets", "builder-dockercfg-x7k2p"));
        assert!(!is_furniture("", "configmaps", "default"));
        assert!(!is_furniture("", "secrets", "default"));
        assert!(!is_furniture("", "secrets", "defaults-token-of-mine"));
        assert!(!is_furniture("example.com", "configmaps", "kube-root-ca.crt"));
    }

    #[test]
    fn what_dies_with_its_owner_is_not_foreign() {
        let served = [served("apps", "replicasets", "ReplicaSet")];
        let owned = |owners: Value| goes_with_its_owner(&json!({"ownerReferences": owners}), &served);
        let replicas = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": "x"});
        let tenant = json!({"apiVersion": "example.com/v1", "kind": "Tenant", "uid": "y"});
        assert!(owned(json!([replicas])));
        assert!(!owned(json!([replicas, tenant])), "one owner lives beyond the namespace");
        assert!(!owned(json!([])));
        let ours = json!({"annotations": {"outrigger.dev/deployment": "demo"}});
        assert!(!goes_with_its_owner(&ours, &served));
    }
}
