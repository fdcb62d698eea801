//! The proof that the runner's credential does what it must, and nothing that it must not: asked with
//! a fresh client built of host, CA and token alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Class, Cluster, Refusal};
use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::rules::{self, Right};
use crate::secret::Secret;
use crate::trust::trust;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A client as the runner's will be. Where its endpoint cannot be reached from here, the operator's
/// path is taken, and plan and result say that TLS is unproven.
pub async fn client(cx: &Context, token: &Secret) -> Result<Cluster> {
    let trust = trust(cx).await?;
    if let Some(why) = &trust.not_here {
        return Err(Failure::new("OR0303", Kind::Refused, "the runner will accept this certificate, but outrigger cannot connect with it")
            .detail("because", why.clone())
            .hint("the token cannot be proven from here; mend the certificate, or name another address with --kubernetes-host"));
    }
    if trust.unproven.is_some() {
        return Cluster::with_token(&cx.target, token.expose(), &cx.limits);
    }
    Cluster::as_runner(&trust.endpoint, trust.ca_pem.as_deref(), token.expose(), &cx.limits)
}

/// Proves the token and returns the line to show.
///
/// # Errors
/// Exit 9, saying which proof failed. A denial right after the binding is asked again for 10 s,
/// because authorizers lag behind it.
pub async fn prove(cx: &Context, token: &Secret) -> Result<String> {
    let client = client(cx, token).await?;
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let lags = |failure: &Failure| failure.id == "OR0906" || failure.id == "OR0402";
        match once(cx, &client).await {
            Err(failure)
                if lags(&failure) && started.elapsed() < Duration::from_secs(10) && just_bound(cx) =>
            {
                cx.waiting("issue-token", "the cluster to honour the new binding", started.elapsed());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

/// Whether this run made the binding that gives the runner its rights.
fn just_bound(cx: &Context) -> bool {
    cx.facts.granted.get()
}

async fn once(cx: &Context, client: &Cluster) -> Result<String> {
    let names = &cx.names;
    let job = names.job_namespace.as_str();
    let runner = names.runner_namespace.as_str();
    let places = [job, runner, "default"];
    let (who, version, rights, critical) = tokio::join!(
        client.review(
            "ask who the token is",
            "authentication.k8s.io",
            "selfsubjectreviews",
            "SelfSubjectReview",
            Value::Null
        ),
        client.read("read the version as the runner", "/version"),
        futures_util::future::join_all(places.map(|place| review(client, place))),
        critical(cx, client, job, runner),
    );
    let who = who.map_err(|refusal| unusable(cx, &refusal))?;
    let name = who["userInfo"]["username"].as_str().unwrap_or_default();
    if name != names.account_user() {
        return Err(Failure::new(
            "OR0902",
            Kind::Proof,
            format!("the token is {name}, not {}", names.account_user()),
        )
        .hint("take a new one: outrigger issue-token --reissue cluster"));
    }
    version.map_err(|refusal| {
        Failure::new("OR0906", Kind::Proof, "the runner's token may not read /version, which every job needs")
            .detail("the server says", refusal.message)
            .hint("bind the ClusterRole system:public-info-viewer to system:authenticated, as clusters have it by default")
    })?;
    let (critical, tried) = critical?;
    if let Some((place, right)) = critical.first() {
        return Err(Failure::new("OR0905", Kind::Proof, format!("the runner's token may do what it must not: {right} {place}"))
            .detail("found", critical.iter().map(|(place, right)| format!("{right} {place}")).collect::<Vec<_>>().join(", "))
            .hint(format!("find who grants it: kubectl get rolebindings,clusterrolebindings -A -o wide | grep -e {} -e system:serviceaccounts -e system:authenticated", names.deployment)));
    }
    let mut beyond = Vec::new();
    for (place, answer) in places.iter().zip(rights) {
        let (held, incomplete) = answer.map_err(Failure::from)?;
        let wanted = if *place == job { rules::needed() } else { BTreeSet::new() };
        let comparison = rules::compare(&held, &wanted);
        if *place == job {
            let mut less = comparison.less;
            if incomplete && !less.is_empty() {
                less = still_denied(cx, client, job, less).await?;
            }
            if !less.is_empty() {
                return Err(too_little(cx, client, &less).await);
            }
        }
        beyond.extend(
            comparison
                .more
                .into_iter()
                .filter(|right| !is_everybodys(right))
                .map(|right| ((*place).to_owned(), right)),
        );
    }
    if !beyond.is_empty() {
        explain_beyond(cx, &beyond).await?;
    }
    Ok(format!(
        "works: may do exactly what the Role says{}, and none of {tried} things it must not",
        if beyond.is_empty() { "" } else { " and what everybody may (see above)" }
    ))
}

async fn review(client: &Cluster, namespace: &str) -> Result<(BTreeSet<Right>, bool), Refusal> {
    let status = client
        .review(
            "ask for the token's rights",
            "authorization.k8s.io",
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            json!({"namespace": namespace}),
        )
        .await?;
    Ok((rules::rights(&status["resourceRules"]), status["incomplete"] == true))
}

/// What Kubernetes' own default bindings give everybody: `system:basic-user`, and since 1.33
/// `system:cluster-trust-bundle-discovery` (public CA certificates).
fn is_everybodys(right: &Right) -> bool {
    right.group == "certificates.k8s.io"
        && right.resource == "clustertrustbundles"
        && ["get", "list", "watch"].contains(&right.verb.as_str())
        || right.verb == "create"
            && (right.group == "authorization.k8s.io"
                && ["selfsubjectaccessreviews", "selfsubjectrulesreviews"].contains(&right.resource.as_str())
                || right.group == "authentication.k8s.io" && right.resource == "selfsubjectreviews")
}

fn unusable(cx: &Context, refusal: &Refusal) -> Failure {
    match refusal.class {
        Class::Unauthorized => {
            Failure::new("OR0902", Kind::Proof, "the cluster does not accept the runner's token")
                .detail("the server says", refusal.message.clone())
                .hint(format!(
                    "take a new one: outrigger issue-token --reissue cluster --deployment {}",
                    cx.names.deployment
                ))
        }
        _ => refusal.into(),
    }
}

/// Rights that a rules review did not show, asked for one by one.
async fn still_denied(cx: &Context, client: &Cluster, job: &str, rights: Vec<Right>) -> Result<Vec<Right>> {
    let answers = futures_util::future::join_all(rights.iter().map(|right| cx.may(client, job, right))).await;
    let mut denied = Vec::new();
    for (right, answer) in rights.into_iter().zip(answers) {
        if !answer.map_err(Failure::from)? {
            denied.push(right);
        }
    }
    Ok(denied)
}

async fn too_little(cx: &Context, client: &Cluster, less: &[Right]) -> Failure {
    let job = &cx.names.job_namespace;
    let mut failure = Failure::new(
        "OR0906",
        Kind::Proof,
        format!("the runner's token may not {} {} in {job}", less[0].verb, less[0].resource),
    );
    if less[0] == Right::new("", "pods", "list")
        && let Err(refusal) =
            client.read("list pods as the runner", &format!("/api/v1/namespaces/{job}/pods?limit=1")).await
    {
        failure = failure.detail("the server says", refusal.message);
    }
    if less.len() > 1 {
        failure =
            failure.detail("missing", less.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }
    if let Ok(Some(role)) = cx.read(&cx.names.role()).await
        && let Some(writer) = role.last_writer("rules")
    {
        failure = failure.detail(
            "likely because",
            format!("the Role was last written by {writer}; setup does not loosen what somebody tightened"),
        );
    }
    failure.hint(format!(
        "outrigger create-role --force-conflicts --deployment {}",
        crate::settings::shell_word(&cx.names.deployment)
    ))
}

/// Things the runner must not be able to do. The reads are tried, the rest is asked. Returns what it
/// can do of them, and how many were looked at.
async fn critical(
    cx: &Context,
    client: &Cluster,
    job: &str,
    runner: &str,
) -> Result<(Vec<(String, Right)>, usize)> {
    let tried = [
        (
            format!("in {job}"),
            Right::new("", "secrets", "list"),
            format!("/api/v1/namespaces/{job}/secrets?limit=1"),
        ),
        (
            format!("in {runner}"),
            Right::new("", "secrets", "list"),
            format!("/api/v1/namespaces/{runner}/secrets?limit=1"),
        ),
        (
            "in kube-system".to_owned(),
            Right::new("", "secrets", "list"),
            "/api/v1/namespaces/kube-system/secrets?limit=1".to_owned(),
        ),
    ];
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
            tried
                .iter()
                .map(|(_, right, path)| async move { client.read(&format!("try {right}"), path).await })
        ),
        futures_util::future::join_all(asked.iter().map(|(place, right)| cx.may(client, place, right))),
    );
    let mut found = Vec::new();
    for ((place, right, _), answer) in tried.iter().zip(reads) {
        match answer {
            Ok(_) => found.push((place.clone(), right.clone())),
            Err(refusal) if refusal.class == Class::Forbidden => {}
            Err(refusal) => return Err(unusable(cx, &refusal)),
        }
    }
    for ((place, right), answer) in asked.iter().zip(answers) {
        if answer.map_err(|refusal| unusable(cx, &refusal))? {
            let place =
                if place.is_empty() { "in the whole cluster".to_owned() } else { format!("in {place}") };
            found.push((place, right.clone()));
        }
    }
    Ok((found, tried.len() + asked.len()))
}

/// Rights beyond the Role: a warning where somebody gave them to everybody, an error where they were
/// given to the runner itself.
async fn explain_beyond(cx: &Context, beyond: &[(String, Right)]) -> Result<()> {
    let job = &cx.names.job_namespace;
    let paths = [
        format!("/apis/{RBAC}/v1/clusterrolebindings"),
        format!("/apis/{RBAC}/v1/namespaces/{job}/rolebindings"),
        format!("/apis/{RBAC}/v1/namespaces/{}/rolebindings", cx.names.runner_namespace),
        format!("/apis/{RBAC}/v1/namespaces/default/rolebindings"),
    ];
    let lists =
        futures_util::future::join_all(paths.iter().map(|path| cx.cluster.read("list bindings", path))).await;
    let mut sources = Vec::new();
    let mut hidden = false;
    let user = cx.names.account_user();
    let everybody = [
        "system:authenticated".to_owned(),
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", cx.names.runner_namespace),
    ];
    for list in lists {
        let Ok(list) = list else {
            hidden = true;
            continue;
        };
        for binding in list["items"].as_array().into_iter().flatten() {
            let meta = &binding["metadata"];
            let name = meta["name"].as_str().unwrap_or_default();
            let namespace = meta["namespace"].as_str();
            if namespace == Some(job.as_str()) && name == cx.names.deployment {
                continue;
            }
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                let subject_name = subject["name"].as_str().unwrap_or_default();
                let direct = subject["kind"] == "ServiceAccount"
                    && subject_name == cx.names.deployment
                    && subject["namespace"] == cx.names.runner_namespace.as_str()
                    || subject["kind"] == "User" && subject_name == user;
                let shared =
                    subject["kind"] == "Group" && everybody.iter().any(|group| group == subject_name);
                // Every cluster has these, and they give nothing of what is listed here.
                let standard = [
                    "system:basic-user",
                    "system:discovery",
                    "system:public-info-viewer",
                    "system:service-account-issuer-discovery",
                ]
                .contains(&name);
                if (direct || shared) && !standard {
                    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
                    let place = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
                    sources.push((direct, format!("{kind} {place}{name} (to {subject_name})")));
                }
            }
        }
    }
    let shown = beyond
        .iter()
        .take(6)
        .map(|(place, right)| format!("{right} in {place}"))
        .collect::<Vec<_>>()
        .join(", ");
    let direct: Vec<&str> =
        sources.iter().filter(|(direct, _)| *direct).map(|(_, source)| source.as_str()).collect();
    if !direct.is_empty() || (sources.is_empty() && !hidden) {
        return Err(Failure::new("OR0904", Kind::Proof, "the runner's token may do more than the Role says")
            .detail("it may also", shown)
            .detail(
                "granted by",
                if direct.is_empty() { "nothing that can be found".to_owned() } else { direct.join(", ") },
            )
            .hint("remove that binding, then run the same command again"));
    }
    let by = if sources.is_empty() {
        "a binding that you may not list".to_owned()
    } else {
        sources.into_iter().map(|(_, source)| source).collect::<Vec<_>>().join(", ")
    };
    cx.warn(format!("the runner's token may also: {shown}; every account may, by {by}"));
    Ok(())
}
