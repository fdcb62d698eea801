//! Confirms that a deployment without a record on this machine belongs to the operator, and decides which settings
//! are read back from its anchor (the runner's ServiceAccount).
//!
//! The objects in the cluster are found by their names, and have the same id. That is no proof: anyone who may write
//! ServiceAccounts, Roles and `RoleBindings` in namespaces with these names can copy an id. So the ServiceAccount's
//! uid, which the API server assigns, needs a confirmation: the mark on the runner in GitLab, or `--anchor-uid`.
//! Before it is confirmed, only the job namespace and the runner's id are read from the anchor, as hints for the
//! search.

use std::collections::BTreeMap;

use crate::base::error::{Command, Failure, Id};
use crate::cluster::identity::identity;
use crate::cluster::view::View;
use crate::deployment::mark::{self, Deployment, Marks};
use crate::deployment::names::{self, Names, POD_SECURITY};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Confirmed, Evidence};
use crate::gitlab::runner::{self, Confirmation};
use crate::gitlab::{self};
use crate::settings::{self, DEFAULT_RUNNER_VERSION, PodSecurity, Source, shell_word};

/// A confirmed deployment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id, and the evidence for it.
    pub confirmed: Confirmed,
    /// The accepted settings from its anchor, by settings key.
    pub noted: BTreeMap<String, Vec<String>>,
    /// The refused settings from its anchor, each with the reason.
    pub refused: Vec<String>,
    /// The tags and the id of its runner in GitLab.
    pub tags: Option<(Vec<String>, u64)>,
    /// The objects with its id.
    pub objects: Vec<Object>,
}

/// The result of the search in the cluster.
#[derive(Clone, Debug)]
pub enum Found {
    /// No ServiceAccount with a deployment's id.
    Nothing,
    /// A ServiceAccount that is not confirmed: OR0706 (exit 7), or the failure of the request to GitLab.
    Unconfirmed(Box<Failure>),
    /// The operator's deployment.
    Confirmed(Box<Seen>),
}

/// Searches for the deployment of the settings, and for its confirmation.
pub async fn confirm(view: &View, gitlab: &gitlab::view::View, anchor: Option<&Object>) -> Found {
    let Some(anchor) = anchor else { return Found::Nothing };
    let Some(id) = anchor.annotation(names::ID).filter(|id| !id.is_empty()) else { return Found::Nothing };
    let named = view.run.settings.anchor_uid.as_deref();
    if let Some(uid) = named.filter(|uid| *uid != anchor.uid()) {
        let why = format!("its uid is {}, but --anchor-uid is {uid}", anchor.uid());
        return Found::Unconfirmed(Box::new(unconfirmed(anchor, &why)));
    }
    let mut note = note(anchor);
    let names = match places(view, &note, id).await {
        Ok(names) => names,
        Err(why) => return Found::Unconfirmed(Box::new(unconfirmed(anchor, &why))),
    };
    let objects = match carried(view, &names).await {
        Ok(objects) => objects,
        Err(why) => return Found::Unconfirmed(Box::new(unconfirmed(anchor, &why))),
    };
    let Some(id) = ownership::agreed_id(anchor, &objects) else {
        let strange = objects.iter().find(|object| object.annotation(names::ID) != Some(id));
        let strange = strange.map_or_else(String::new, |object| object.reference.to_string());
        let why = format!("{strange} has another id, or none");
        return Found::Unconfirmed(Box::new(unconfirmed(anchor, &why)));
    };
    let cluster = identity(view).await.unwrap_or_default();
    let deployment = Deployment { name: &names.deployment, namespace: &names.runner_namespace, id: &id };
    let marks = Marks {
        current: mark::identities(&cluster)
            .iter()
            .map(|cluster| mark::mark(deployment, cluster, anchor.uid()))
            .collect(),
        earlier: vec![mark::id_alone(&id)],
    };
    let hint = anchor.annotation(names::RUNNER).and_then(|noted| noted.parse().ok());
    let confirmation = runner::confirmation(gitlab, hint, &marks).await;
    let by = match (named, &confirmation) {
        (Some(_), _) => Evidence::Uid,
        (None, Confirmation::By(_)) => Evidence::Mark,
        (None, Confirmation::Failed(failure)) => {
            let reference = &anchor.reference;
            let failure = failure.as_ref().clone().detail(
                "reason for the request",
                format!("this machine has no record, so the runner's mark must confirm {reference}"),
            );
            return Found::Unconfirmed(Box::new(
                failure.hint("or give the uid that setup printed: --anchor-uid UID"),
            ));
        }
        (None, confirmation) => {
            let mut why = lacking(confirmation);
            if matches!(confirmation, Confirmation::No) && cluster.kube_system.is_empty() {
                why.push_str(
                    " that can be compared: the mark includes the uid of kube-system, which you cannot read",
                );
            }
            return Found::Unconfirmed(Box::new(unconfirmed(anchor, &why)));
        }
    };
    // A uid does not confirm annotations: a namespace that existed before has no id that links it to the anchor.
    if by == Evidence::Uid && names != view.run.names && view.run.is_used(&names.runner_namespace) {
        let why = format!(
            "its annotation names the job namespace {}: confirm it with --namespace",
            names.job_namespace
        );
        return Found::Unconfirmed(Box::new(unconfirmed(anchor, &why)));
    }
    if names == view.run.names {
        note.remove("namespace");
    }
    let level = objects.iter().find(|object| object.reference == names.namespaces()[1]).map(|namespace| {
        namespace.label(&format!("{POD_SECURITY}enforce")).unwrap_or("privileged").to_owned()
    });
    let (noted, refused) = taken(note, level.as_deref());
    let tags = match confirmation {
        Confirmation::By(runner) => runner.tags.filter(|tags| !tags.is_empty()).map(|tags| (tags, runner.id)),
        _ => None,
    };
    let objects = objects.into_iter().chain([anchor.clone()]).collect();
    Found::Confirmed(Box::new(Seen { confirmed: Confirmed { id, by }, noted, refused, tags, objects }))
}

/// The settings in an anchor's annotation, by key; empty if it cannot be parsed.
fn note(anchor: &Object) -> BTreeMap<String, Vec<String>> {
    let text = anchor.annotation(names::SETTINGS).unwrap_or_default();
    let mut note: BTreeMap<String, Vec<String>> = serde_json::from_str(text).unwrap_or_default();
    note.retain(|key, values| names::NOTED.contains(&key.as_str()) && !values.is_empty());
    note
}

/// The deployment's names. If the settings do not give the job namespace, the annotation may name one that has the
/// anchor's id, unless the default one has it.
async fn places(view: &View, note: &BTreeMap<String, Vec<String>>, id: &str) -> Result<Names, String> {
    let noted = note.get("namespace").and_then(|values| values.last());
    let Some(noted) = noted.filter(|noted| {
        view.run.settings.namespace.source == Source::Default && **noted != view.run.settings.namespace.value
    }) else {
        return Ok(view.run.names.clone());
    };
    if settings::check::namespace(noted).is_err() {
        return Ok(view.run.names.clone());
    }
    let carries = |name: &str| {
        let reference = Ref::cluster(crate::deployment::object::Kind::Namespace, name);
        async move {
            let live = view.read(&reference).await.map_err(|refusal| Failure::from(refusal).message)?;
            Ok::<_, String>(live.is_some_and(|live| live.annotation(names::ID) == Some(id)))
        }
    };
    if carries(&view.run.names.job_namespace).await? {
        return Ok(view.run.names.clone());
    }
    if carries(noted).await? {
        return Ok(Names { job_namespace: noted.clone(), ..view.run.names.clone() });
    }
    Err(format!(
        "its annotation names the job namespace {noted}, which does not have its id: confirm it with --namespace and --use-namespace"
    ))
}

/// The deployment's existing objects, without the anchor and without namespaces given by `--use-namespace`. Fails if
/// one of them cannot be read.
async fn carried(view: &View, names: &Names) -> Result<Vec<Object>, String> {
    let [runner, job] = names.namespaces();
    let mut references = vec![names.role(), names.role_binding(), names.job_account()];
    references.extend(view.notes.token_secrets(&view.run));
    references.extend([runner, job].into_iter().filter(|namespace| !view.run.is_used(&namespace.name)));
    let reads = references.iter().map(|reference| view.read(reference));
    let mut objects = Vec::new();
    for (reference, found) in references.iter().zip(futures_util::future::join_all(reads).await) {
        match found {
            Ok(found) => objects.extend(found),
            Err(refusal) => {
                return Err(format!("cannot read {reference}: {}", Failure::from(refusal).message));
            }
        }
    }
    Ok(objects)
}

/// The reason why GitLab does not confirm the anchor.
fn lacking(confirmation: &Confirmation) -> String {
    match confirmation {
        Confirmation::By(_) | Confirmation::Failed(_) => String::new(),
        Confirmation::IdAlone(id) => {
            format!(
                "runner {id} in GitLab has only its id in the description, which anyone who can read the id can copy"
            )
        }
        Confirmation::No => "no runner in GitLab has its mark".to_owned(),
        Confirmation::Skipped(why) => format!("the runner's mark in GitLab was not checked: {why}"),
    }
}

/// OR0706: the objects have this deployment's names, and nothing confirms their owner.
fn unconfirmed(anchor: &Object, why: &str) -> Failure {
    let quote = shell_word;
    let reference = &anchor.reference;
    Failure::new(
        Id::UnconfirmedOwner, format!("cannot confirm that {reference} belongs to your deployment"),
    )
    .detail("because", why)
    .detail("required", "this machine's record, the mark on its runner in GitLab, or the ServiceAccount's uid")
    .hint("if setup ran on another machine, give the uid that it printed: --anchor-uid UID")
    .hint("or check the mark on its runner in GitLab: --gitlab-url URL --gitlab-token-file PATH --project PATH")
    .hint(("inspect it", Command::kubectl(format!(
        "get -n {} serviceaccount {} -o yaml",
        quote(reference.namespace.as_deref().unwrap_or_default()),
        quote(&reference.name)
    ))))
    .hint("if it is not yours, use other names: --deployment NAME (or --namespace, --runner-namespace)")
}

/// Divides an anchor's settings into accepted and refused ones: a user who may patch the ServiceAccount must not be able
/// to loosen the deployment. `level` is the Pod Security level that the job namespace enforces.
fn taken(
    note: BTreeMap<String, Vec<String>>,
    level: Option<&str>,
) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
    let mut refused = Vec::new();
    let mut noted = note;
    noted.retain(|key, values| {
        let value = values.last().map_or("", String::as_str);
        let why = match key.as_str() {
            "runnerVersion" if settings::is_older(value, DEFAULT_RUNNER_VERSION) => {
                format!("older than {DEFAULT_RUNNER_VERSION}: to keep it, use --runner-version")
            }
            "podSecurity" if PodSecurity::of_label(value) < least(level) => {
                "less strict than the namespace: to use it, give --pod-security".to_owned()
            }
            "secrets" if value != "separate" => "only --secrets can set it".to_owned(),
            "lockMetadata" if value != "true" => return false,
            _ => return true,
        };
        refused.push(format!("{key} {}: {why}", settings::check::escaped(value)));
        false
    });
    (noted, refused)
}

/// The least strict Pod Security level that is accepted from an anchor: the enforced one, if it is less strict than
/// the default.
fn least(level: Option<&str>) -> PodSecurity {
    level.map_or_else(PodSecurity::default, |level| PodSecurity::of_label(level).min(PodSecurity::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect()
    }

    #[test]
    fn a_note_tightens_and_does_not_loosen() {
        let rows = [
            ("runnerVersion", "15.0.0", None, false),
            ("runnerVersion", "not a version", None, false),
            ("runnerVersion", DEFAULT_RUNNER_VERSION, None, true),
            ("runnerVersion", "99.1.0", None, true),
            ("podSecurity", "privileged", Some("baseline"), false),
            ("podSecurity", "privileged", Some("restricted"), false),
            ("podSecurity", "privileged", None, false),
            ("podSecurity", "privileged", Some("privileged"), true),
            ("podSecurity", "restricted", Some("baseline"), true),
            ("secrets", "inline", None, false),
            ("secrets", "separate", None, true),
            ("lockMetadata", "false", None, false),
            ("lockMetadata", "true", None, true),
            ("jobLimit", "7", None, true),
        ];
        for (key, value, level, wanted) in rows {
            let (noted, _) = taken(said(&[(key, value)]), level);
            assert_eq!(noted.contains_key(key), wanted, "{key} {value} {level:?}");
        }
        let (_, refused) = taken(said(&[("runnerVersion", "15.0.0"), ("jobLimit", "7")]), None);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with("runnerVersion \"15.0.0\": older than"), "{refused:?}");
    }

    #[test]
    fn no_consent_no_place_and_no_tags_are_read_off_a_note() {
        let keys = ["useNamespaces", "tags", "runnerNamespace", "prune", "gitlabUrl", "kubeconfig", "aptUrl"];
        let all: Vec<_> = keys.iter().map(|key| (*key, "x")).collect();
        let anchor = Object {
            reference: Ref::new(crate::deployment::object::Kind::ServiceAccount, "ns", "demo"),
            value: serde_json::json!({"metadata": {"annotations": {
                names::SETTINGS: serde_json::to_string(&said(&all)).expect("plain data")
            }}}),
        };
        assert!(note(&anchor).is_empty());
    }
}
