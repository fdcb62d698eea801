//! Finds the bindings that give the runner's ServiceAccount rights beyond its Role.
//!
//! A binding whose role may not be read is reported with "perhaps".

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::error::{Failure, Id, Result};
use crate::cluster::rights::{self, Right};
use crate::cluster::view::View;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A namespace (empty for the whole cluster) and a right in it.
pub type Placed = (String, Right);

struct Source {
    /// Whether the binding is to the runner's ServiceAccount, not to a group.
    direct: bool,
    shown: String,
}

struct Found {
    sources: Vec<Source>,
    /// Whether some bindings may not be listed.
    hidden: bool,
}

/// The failure for forbidden rights.
pub async fn forbidden(view: &View, rights: &[Placed]) -> Failure {
    let found = find(view, rights).await;
    let message = format!("the runner's token has a forbidden right: {}", shown(&rights[..1]));
    let mut failure = Failure::new(Id::ForbiddenRights, message);
    if rights.len() > 1 {
        failure = failure.detail("in all", shown(rights));
    }
    failure
        .detail("given by", given_by(&found, |_| true))
        .hint("remove that right, then run the same command again")
}

/// Reports other rights beyond the Role: warns if a group has them, else fails with OR0904 (exit 9).
pub async fn judge(view: &View, rights: &[Placed]) -> Result<()> {
    let found = find(view, rights).await;
    let direct = found.sources.iter().any(|source| source.direct);
    if direct || (found.sources.is_empty() && !found.hidden) {
        return Err(Failure::new(Id::ExtraRights, "the runner's token has more rights than the Role")
            .detail("it may also", shown(rights))
            .detail("given by", given_by(&found, |source| source.direct || !direct))
            .hint("remove that right, then run the same command again"));
    }
    view.progress.warn(format!(
        "the runner's token may also: {}; given by {}",
        shown(rights),
        given_by(&found, |_| true)
    ));
    Ok(())
}

fn shown(rights: &[Placed]) -> String {
    const MOST: usize = 6;
    let one = |(place, right): &Placed| {
        format!("{right} in {}", if place.is_empty() { "the whole cluster" } else { place })
    };
    let mut words: Vec<String> = rights.iter().take(MOST).map(one).collect();
    if rights.len() > MOST {
        words.push(format!("and {} more", rights.len() - MOST));
    }
    words.join(", ")
}

fn given_by(found: &Found, which: impl Fn(&Source) -> bool) -> String {
    let names: Vec<&str> =
        found.sources.iter().filter(|source| which(source)).map(|source| source.shown.as_str()).collect();
    match (names.is_empty(), found.hidden) {
        (false, _) => names.join(", "),
        (true, true) => "a binding that you may not list".to_owned(),
        (true, false) => "no binding (an authorizer beside RBAC)".to_owned(),
    }
}

/// Finds bindings of one of the rights to the runner's ServiceAccount or its groups.
async fn find(view: &View, rights: &[Placed]) -> Found {
    let namespaces: BTreeSet<&str> =
        rights.iter().map(|(place, _)| place.as_str()).filter(|place| !place.is_empty()).collect();
    let paths = std::iter::once(format!("/apis/{RBAC}/v1/clusterrolebindings"))
        .chain(namespaces.iter().map(|name| format!("/apis/{RBAC}/v1/namespaces/{name}/rolebindings")));
    let lists = paths.map(|path| async move { view.api.read("list bindings", &path).await });
    let mut found = Found { sources: Vec::new(), hidden: false };
    for list in futures_util::future::join_all(lists).await {
        let Ok(list) = list else {
            found.hidden = true;
            continue;
        };
        for binding in list["items"].as_array().into_iter().flatten() {
            if let Some(source) = source(view, binding, rights).await {
                found.sources.push(source);
            }
        }
    }
    found
}

async fn source(view: &View, binding: &Value, rights: &[Placed]) -> Option<Source> {
    let names = &view.run.names;
    let name = binding["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = binding["metadata"]["namespace"].as_str();
    let own = names.role_binding();
    if namespace == own.namespace.as_deref() && name == own.name {
        return None;
    }
    let groups = [
        "system:authenticated".to_owned(),
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", names.runner_namespace),
    ];
    let mut to: Option<(bool, String)> = None;
    for subject in binding["subjects"].as_array().into_iter().flatten() {
        let who = subject["name"].as_str().unwrap_or_default();
        let account = subject["kind"] == "ServiceAccount"
            && who == names.deployment
            && subject["namespace"] == names.runner_namespace.as_str();
        if account || (subject["kind"] == "User" && who == names.account_user()) {
            to = Some((true, who.to_owned()));
        } else if to.is_none() && subject["kind"] == "Group" && groups.iter().any(|group| group == who) {
            to = Some((false, who.to_owned()));
        }
    }
    let (direct, to) = to?;
    let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
    let path = match (binding["roleRef"]["kind"].as_str(), namespace) {
        (Some("Role"), Some(namespace)) => format!("/apis/{RBAC}/v1/namespaces/{namespace}/roles/{role}"),
        _ => format!("/apis/{RBAC}/v1/clusterroles/{role}"),
    };
    let perhaps = match view.api.read("read a role", &path).await {
        Err(_) => "perhaps ",
        Ok(role) => {
            let gives = rights::rights(&role["rules"]);
            let concerned = |place: &str| namespace.is_none_or(|namespace| namespace == place);
            let gives_one = rights.iter().any(|(place, right)| {
                concerned(place) && gives.iter().any(|give| give.covers(right) || right.covers(give))
            });
            if !gives_one {
                return None;
            }
            ""
        }
    };
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let place = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    Some(Source { direct, shown: format!("{perhaps}{kind} {place}{name} (to {to})") })
}
