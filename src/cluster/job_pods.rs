//! Job pods that still run at teardown. Deleting the runner's ServiceAccount does not stop them.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::Value;

use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::text::count;
use crate::base::wait::{self, Pace};
use crate::cluster::temporary_binding;
use crate::cluster::view::{Hand, View};
use crate::cluster::{Class, Cluster};
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};

/// Prefixes of gitlab-runner's labels on its pods.
const LABELS: [&str; 2] = ["manager.runner.gitlab.com/", "job.runner.gitlab.com/"];

const UNSEEN: &str = "it is unknown whether jobs are running: you may not list pods";

/// Waits until no job pod is left in the job namespace, or deletes them with `--now`; returns a remark. `look` is
/// the temporary RoleBinding that teardown needs there to list pods; it stays held. Fails with OR0801 (exit 8) if pods
/// still run at the deadline; then nothing was removed.
pub async fn settle(hand: &Hand, look: Option<&Object>) -> Result<Option<String>> {
    let namespace = Ref::cluster(ObjectKind::Namespace, &hand.run.names.job_namespace);
    // The deletion of a namespace deletes its pods.
    if hand.read(&namespace).await?.is_none_or(|live| live.is_terminating()) {
        return Ok(None);
    }
    let mut seeing = look.is_some();
    if let Some(binding) = look {
        match temporary_binding::bind(hand, binding).await {
            Err(failure) if failure.kind == Kind::Denied => seeing = false,
            bound => drop(bound?),
        }
    }
    // A binding takes effect with a delay.
    let lag = if seeing { Duration::from_secs(5) } else { Duration::ZERO };
    let look = async || Ok(running(hand, &hand.api).await?.map_or(Continue(()), Break));
    let seen = wait::until(Pace::new(&hand.limits, 100, 100).within(lag), |(), _| {}, look).await?;
    let Ok(mut first) = seen.map(Some) else {
        return Ok(Some(UNSEEN.to_owned()));
    };
    let mut deleted = 0;
    let look = async || {
        let pods = match first.take() {
            Some(pods) => pods,
            None => match running(hand, &hand.api).await? {
                Some(pods) => pods,
                None => return Ok(Break(Some(UNSEEN.to_owned()))),
            },
        };
        if pods.is_empty() {
            return Ok(Break((deleted > 0).then(|| format!("deleted {}", count(deleted, "job pod")))));
        }
        if hand.run.options.now && deleted == 0 {
            for (name, uid) in &pods {
                let path = format!("/api/v1/namespaces/{}/pods/{name}", hand.run.names.job_namespace);
                hand.api.delete_path(&format!("delete Pod {name}"), &path, uid).await?;
                deleted += 1;
            }
        }
        Ok(Continue(pods))
    };
    let tell = |pods: &Pods, waited| {
        hand.progress.waiting("teardown", &count(pods.len(), "running job"), waited);
    };
    wait::until(Pace::new(&hand.limits, 1000, 1000), tell, look).await?.map_err(|pods| {
        let names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).take(5).collect();
        Failure::new(
            Id::WaitTimeout,
            format!("{} still running in {}", count(pods.len(), "job pod"), hand.run.names.job_namespace),
        )
        .detail("among them", names.join(", "))
        .hint(("wait longer with --timeout 1h, or delete them", Command::teardown("--now")))
    })
}

/// Names and uids of pods.
type Pods = Vec<(String, String)>;

/// Names and uids of the runner's pods; `None` if they may not be listed.
async fn running(view: &View, cluster: &Cluster) -> Result<Option<Pods>> {
    let namespace = &view.run.names.job_namespace;
    let mut path = format!("/api/v1/namespaces/{namespace}/pods");
    if view.run.is_used(namespace) {
        // Another runner may use the namespace: only pods with this deployment's job account count.
        path = format!("{path}?fieldSelector=spec.serviceAccountName%3D{}", view.run.job_account);
    }
    let items = match cluster.list_metadata("list job pods", &path).await {
        Ok(items) => items,
        Err(refusal) if refusal.class == Class::Forbidden => return Ok(None),
        Err(refusal) => return Err(refusal.into()),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Some(
        items
            .iter()
            .map(|item| &item["metadata"])
            .filter(|meta| is_runners(&meta["labels"]))
            .map(|meta| (text(&meta["name"]), text(&meta["uid"])))
            .collect(),
    ))
}

fn is_runners(labels: &Value) -> bool {
    labels
        .as_object()
        .is_some_and(|labels| labels.keys().any(|key| LABELS.iter().any(|prefix| key.starts_with(prefix))))
}

#[cfg(test)]
mod tests {
    use super::is_runners;
    use serde_json::json;

    #[test]
    fn job_pods_are_recognized_by_labels() {
        assert!(is_runners(&json!({"manager.runner.gitlab.com/name": "x"})));
        assert!(!is_runners(&json!({"app": "web"})));
        assert!(!is_runners(&json!(null)));
    }
}
