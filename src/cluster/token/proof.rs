//! Proves that the runner's token has the Role's rights and none of the forbidden ones, with a client that has
//! only host, CA and token.

use std::collections::BTreeSet;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::wait::{self, Pace};
use crate::cluster::endpoint_ca::trust;
use crate::cluster::rights::{self, Right};
use crate::cluster::token::extra_rights::{self, Placed};
use crate::cluster::view::View;
use crate::cluster::{Class, Cluster, Refusal};

const RBAC: &str = "rbac.authorization.k8s.io";

/// A client like the runner's. If the runner's endpoint cannot be reached from here, through the kubeconfig's
/// endpoint: plan and result then say that TLS is unproven.
pub async fn client(view: &View, token: &Secret) -> Result<Cluster> {
    let trust = trust(view).await?;
    if trust.unproven.is_some() {
        return Cluster::with_token(&view.target, token.expose(), &view.limits);
    }
    Cluster::as_runner(&trust.endpoint, trust.ca_pem.as_deref(), token.expose(), &view.limits)
}

/// Proves the token; returns the line to show. `fresh`: this run issued it. Fails with exit 9.
///
/// Two failures are retried for 10 s: denials, if this run created the RoleBinding, which takes effect with a delay;
/// and a fresh token that is not accepted. The API server compares a token with its cached copy of the Secret
/// (`pkg/serviceaccount/legacy.go`), which at first does not contain the token yet.
pub async fn prove(view: &View, token: &Secret, fresh: bool) -> Result<String> {
    let client = client(view, token).await?;
    let lags = |failure: &Failure| match failure.id {
        Id::LackingRights | Id::MissingRights => view.granted.get(),
        Id::TokenIdentity => fresh,
        _ => false,
    };
    let look = async || match once(view, &client).await {
        Err(failure) if lags(&failure) => Ok(Continue(failure)),
        other => other.map(Break),
    };
    let tell = |_: &Failure, waited| {
        view.progress.waiting("issue-token", "the new token and RoleBinding to take effect", waited);
    };
    wait::until(Pace::new(&view.limits, 20, 1000).within(Duration::from_secs(10)), tell, look).await?
}

async fn once(view: &View, client: &Cluster) -> Result<String> {
    let names = &view.run.names;
    let job = names.job_namespace.as_str();
    let runner = names.runner_namespace.as_str();
    let places = [job, runner, "default"];
    let (who, version, rights, critical) = tokio::join!(
        client.review("get the token's user name", "authentication.k8s.io", "SelfSubjectReview", Value::Null),
        client.read("read the version as the runner", "/version"),
        futures_util::future::join_all(places.map(|place| review(client, place))),
        critical(client, job, runner),
    );
    let who = who.map_err(|refusal| unusable(&refusal))?;
    let name = who["userInfo"]["username"].as_str().unwrap_or_default();
    if name != names.account_user() {
        let message = format!("the token belongs to {name}, not to {}", names.account_user());
        return Err(Failure::new(Id::TokenIdentity, message).hint(reissue()));
    }
    version.map_err(|refusal| {
        let message = "the runner's token may not read /version, as every job does";
        refusal.tell(Failure::new(Id::LackingRights, message)).hint(
            "bind the ClusterRole system:public-info-viewer to system:authenticated, the Kubernetes default",
        )
    })?;
    let (critical, tried) = critical?;
    if !critical.is_empty() {
        return Err(extra_rights::forbidden(view, &critical).await);
    }
    let mut beyond = Vec::new();
    for (place, answer) in places.iter().zip(rights) {
        let (held, incomplete) = answer?;
        let wanted = if *place == job { rights::needed() } else { BTreeSet::new() };
        let comparison = rights::compare(&held, &wanted);
        if *place == job {
            let mut less = comparison.less;
            if incomplete && !less.is_empty() {
                less = still_denied(client, job, less).await?;
            }
            if !less.is_empty() {
                return Err(lacking(view, client, &less).await);
            }
        }
        let more = comparison.more.into_iter().filter(|right| !is_granted_to_all_users(right));
        beyond.extend(more.map(|right| ((*place).to_owned(), right)));
    }
    if !beyond.is_empty() {
        extra_rights::judge(view, &beyond).await?;
    }
    Ok(format!(
        "works: has exactly the Role's rights{}, and none of {tried} forbidden ones",
        if beyond.is_empty() { "" } else { ", others' bindings apart (see the warning)" }
    ))
}

async fn review(client: &Cluster, namespace: &str) -> Result<(BTreeSet<Right>, bool), Refusal> {
    let (group, kind) = ("authorization.k8s.io", "SelfSubjectRulesReview");
    let spec = json!({"namespace": namespace});
    let status = client.review("list the token's rights", group, kind, spec).await?;
    Ok((rights::rights(&status["resourceRules"]), status["incomplete"] == true))
}

/// Rights that Kubernetes' default bindings grant to all users: `system:basic-user`, and since 1.33
/// `system:cluster-trust-bundle-discovery` (public CA certificates).
fn is_granted_to_all_users(right: &Right) -> bool {
    right.group == "certificates.k8s.io"
        && right.resource == "clustertrustbundles"
        && ["get", "list", "watch"].contains(&right.verb.as_str())
        || right.verb == "create"
            && (right.group == "authorization.k8s.io"
                && ["selfsubjectaccessreviews", "selfsubjectrulesreviews"].contains(&right.resource.as_str())
                || right.group == "authentication.k8s.io" && right.resource == "selfsubjectreviews")
}

fn reissue() -> (&'static str, Command) {
    ("issue a new one", Command::outrigger("issue-token --reissue cluster"))
}

fn unusable(refusal: &Refusal) -> Failure {
    match refusal.class {
        Class::Unauthorized => {
            let message = "the cluster does not accept the runner's token";
            refusal.tell(Failure::new(Id::TokenIdentity, message)).hint(reissue())
        }
        _ => refusal.clone().into(),
    }
}

/// Checks one by one the rights that are missing in an incomplete rules review.
async fn still_denied(client: &Cluster, job: &str, rights: Vec<Right>) -> Result<Vec<Right>> {
    let answers = futures_util::future::join_all(rights.iter().map(|right| client.may(job, right))).await;
    let mut denied = Vec::new();
    for (right, answer) in rights.into_iter().zip(answers) {
        if !answer? {
            denied.push(right);
        }
    }
    Ok(denied)
}

async fn lacking(view: &View, client: &Cluster, less: &[Right]) -> Failure {
    let job = &view.run.names.job_namespace;
    let mut failure = Failure::new(
        Id::LackingRights,
        format!("the runner's token may not {} {} in {job}", less[0].verb, less[0].resource),
    );
    if less[0] == Right::new("", "pods", "list")
        && let Err(refusal) =
            client.read("list pods as the runner", &format!("/api/v1/namespaces/{job}/pods?limit=1")).await
    {
        failure = refusal.tell(failure);
    }
    if less.len() > 1 {
        let missing: Vec<String> = less.iter().map(ToString::to_string).collect();
        failure = failure.detail("missing", missing.join(", "));
    }
    if let Ok(Some(role)) = view.read(&view.run.names.role()).await
        && let Some(writer) = role.last_writer(&["rules"], view.run.now)
    {
        failure = failure.detail(
            "likely because",
            format!("the Role was last written by {writer}; setup does not restore removed rights"),
        );
    }
    failure.hint(crate::cluster::role::restore())
}

/// Checks forbidden rights: `list` on Secrets with a request, the others with reviews. Returns the rights that the
/// token has, and the number of rights checked.
async fn critical(client: &Cluster, job: &str, runner: &str) -> Result<(Vec<Placed>, usize)> {
    let secrets = Right::new("", "secrets", "list");
    let tried = [job, runner, "kube-system"]
        .map(|place| (place, format!("/api/v1/namespaces/{place}/secrets?limit=1")));
    let asked: Vec<(&str, Right)> = vec![
        (job, Right::new("", "secrets", "get")),
        (job, Right::new("", "serviceaccounts/token", "create")),
        (job, Right::new(RBAC, "rolebindings", "create")),
        (job, Right::new("", "serviceaccounts", "impersonate")),
        (runner, Right::new("", "pods", "create")),
        (runner, Right::new("", "serviceaccounts/token", "create")),
        ("default", Right::new("", "pods", "create")),
        ("kube-system", Right::new("", "pods", "create")),
        ("", Right::new(RBAC, "clusterroles", "bind")),
        ("", Right::new(RBAC, "clusterroles", "escalate")),
        ("", Right::new("", "users", "impersonate")),
        ("", Right::new("", "nodes/proxy", "create")),
        ("", Right::new("", "nodes/proxy", "get")),
        ("", Right::new("", "namespaces", "patch")),
    ];
    let (reads, answers) = tokio::join!(
        futures_util::future::join_all(
            tried.iter().map(|(_, path)| async move { client.read("try to list Secrets", path).await })
        ),
        futures_util::future::join_all(asked.iter().map(|(place, right)| client.may(place, right))),
    );
    let mut found = Vec::new();
    for ((place, _), answer) in tried.iter().zip(reads) {
        match answer {
            Ok(_) => found.push(((*place).to_owned(), secrets.clone())),
            Err(refusal) if refusal.class == Class::Forbidden => {}
            Err(refusal) => return Err(unusable(&refusal)),
        }
    }
    for ((place, right), answer) in asked.iter().zip(answers) {
        if answer.map_err(|refusal| unusable(&refusal))? {
            found.push(((*place).to_owned(), right.clone()));
        }
    }
    Ok((found, tried.len() + asked.len()))
}
