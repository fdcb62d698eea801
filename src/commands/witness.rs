//! Whose a deployment is that this machine has no record of, and what its anchor may then say.
//!
//! The objects in the cluster are found by their names, and agree on an id. That proves nothing yet: whoever
//! may write ServiceAccounts, Roles and `RoleBindings` in namespaces of the right names can copy an id. So
//! somebody whom the operator named has to stand for the ServiceAccount's uid, which the API server gives:
//! the mark on the runner in GitLab, or `--anchor-uid`. Until then nothing is read off the anchor but where
//! to look.

use std::collections::BTreeMap;

use crate::base::error::{Command, Failure, Id};
use crate::cluster::identity::identity;
use crate::cluster::view::View;
use crate::deployment::mark::{self, Deployment, Marks};
use crate::deployment::names::{self, Names, POD_SECURITY};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Vouched, Voucher};
use crate::gitlab::runner::{self, Stands};
use crate::gitlab::{self};
use crate::settings::{self, DEFAULT_RUNNER_VERSION, PodSecurity, Source, shell_word};

/// A deployment that somebody stands for.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id, and who does.
    pub vouched: Vouched,
    /// What its anchor says of the settings, as far as that is taken; by settings key.
    pub noted: BTreeMap<String, Vec<String>>,
    /// What it says and is not taken, each with the reason.
    pub refused: Vec<String>,
    /// The tags of its runner, as GitLab has them, and the runner's id.
    pub tags: Option<(Vec<String>, u64)>,
    /// The objects that carry its id.
    pub objects: Vec<Object>,
}

/// What a look at the cluster found.
#[derive(Clone, Debug)]
pub enum Look {
    /// No ServiceAccount that says that it is a deployment's.
    Nothing,
    /// One that says so, and nobody stands for it: OR0706, exit 7, or why GitLab could not say.
    Doubt(Box<Failure>),
    /// One that is this deployment's.
    Vouched(Box<Seen>),
}

/// Looks for the deployment of the settings, and for who stands for it.
pub async fn look(view: &View, gitlab: &gitlab::view::View, anchor: Option<&Object>) -> Look {
    let Some(anchor) = anchor else { return Look::Nothing };
    let Some(id) = anchor.annotation(names::ID).filter(|id| !id.is_empty()) else { return Look::Nothing };
    let named = view.run.settings.anchor_uid.as_deref();
    if let Some(uid) = named.filter(|uid| *uid != anchor.uid()) {
        let why = format!("its uid is {}, but --anchor-uid is {uid}", anchor.uid());
        return Look::Doubt(Box::new(doubt(anchor, &why)));
    }
    let mut note = note(anchor);
    let names = match places(view, &note, id).await {
        Ok(names) => names,
        Err(why) => return Look::Doubt(Box::new(doubt(anchor, &why))),
    };
    let objects = match carried(view, &names).await {
        Ok(objects) => objects,
        Err(why) => return Look::Doubt(Box::new(doubt(anchor, &why))),
    };
    let Some(id) = ownership::agreed_id(anchor, &objects) else {
        let strange = objects.iter().find(|object| object.annotation(names::ID) != Some(id));
        let strange = strange.map_or_else(String::new, |object| object.reference.to_string());
        let why = format!("{strange} has another id, or none");
        return Look::Doubt(Box::new(doubt(anchor, &why)));
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
    let stands = runner::stands(gitlab, hint, &marks).await;
    let by = match (named, &stands) {
        (Some(_), _) => Voucher::Uid,
        (None, Stands::For(_)) => Voucher::Mark,
        (None, Stands::Failed(failure)) => {
            let reference = &anchor.reference;
            let failure = failure.as_ref().clone().detail(
                "reason for the request",
                format!("this machine has no record, so the runner's mark must confirm {reference}"),
            );
            return Look::Doubt(Box::new(
                failure.hint("or give the uid that setup printed: --anchor-uid UID"),
            ));
        }
        (None, stands) => {
            let mut why = lacking(stands);
            if matches!(stands, Stands::No) && cluster.kube_system.is_empty() {
                why.push_str(
                    " that can be compared: the mark includes the uid of kube-system, which you cannot read",
                );
            }
            return Look::Doubt(Box::new(doubt(anchor, &why)));
        }
    };
    // The uid says nothing of the annotations: a namespace that was there before carries no id that could
    // tie what is read off the anchor to it.
    if by == Voucher::Uid && names != view.run.names && view.run.is_used(&names.runner_namespace) {
        let why = format!(
            "its annotation names the job namespace {}: confirm it with --namespace",
            names.job_namespace
        );
        return Look::Doubt(Box::new(doubt(anchor, &why)));
    }
    if names == view.run.names {
        note.remove("namespace");
    }
    let level = objects.iter().find(|object| object.reference == names.namespaces()[1]).map(|namespace| {
        namespace.label(&format!("{POD_SECURITY}enforce")).unwrap_or("privileged").to_owned()
    });
    let (noted, refused) = taken(note, level.as_deref());
    let tags = match stands {
        Stands::For(runner) => runner.tags.filter(|tags| !tags.is_empty()).map(|tags| (tags, runner.id)),
        _ => None,
    };
    let objects = objects.into_iter().chain([anchor.clone()]).collect();
    Look::Vouched(Box::new(Seen { vouched: Vouched { id, by }, noted, refused, tags, objects }))
}

/// The settings that an anchor's note holds, by key; a note that is none holds none.
fn note(anchor: &Object) -> BTreeMap<String, Vec<String>> {
    let text = anchor.annotation(names::SETTINGS).unwrap_or_default();
    let mut note: BTreeMap<String, Vec<String>> = serde_json::from_str(text).unwrap_or_default();
    note.retain(|key, values| names::NOTED.contains(&key.as_str()) && !values.is_empty());
    note
}

/// The names to look under. Where the settings do not say where the jobs are, the note may lead to a namespace
/// that carries the anchor's id itself, unless the one by default does already.
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

/// Every object of the deployment's that is there, but for the anchor, and for namespaces that were named as
/// existing ones. Each has to be looked at.
async fn carried(view: &View, names: &Names) -> Result<Vec<Object>, String> {
    let [runner, job] = names.namespaces();
    let mut references = vec![names.role(), names.role_binding(), names.token_secret(), names.job_account()];
    references.extend([runner, job].into_iter().filter(|namespace| !view.run.is_used(&namespace.name)));
    let looks = references.iter().map(|reference| view.read(reference));
    let mut objects = Vec::new();
    for (reference, found) in references.iter().zip(futures_util::future::join_all(looks).await) {
        match found {
            Ok(found) => objects.extend(found),
            Err(refusal) => {
                return Err(format!("cannot read {reference}: {}", Failure::from(refusal).message));
            }
        }
    }
    Ok(objects)
}

/// Why GitLab does not stand for the anchor, in words.
fn lacking(stands: &Stands) -> String {
    match stands {
        Stands::For(_) | Stands::Failed(_) => String::new(),
        Stands::IdAlone(id) => {
            format!(
                "runner {id} in GitLab has only its id in the description, which anyone who can read the id can copy"
            )
        }
        Stands::No => "no runner in GitLab has its mark".to_owned(),
        Stands::Skipped(why) => format!("the runner's mark in GitLab was not checked: {why}"),
    }
}

/// OR0706: objects say that they are this deployment's, and nobody stands for that.
fn doubt(anchor: &Object, why: &str) -> Failure {
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

/// What of an anchor's note is taken: whoever may patch one ServiceAccount must not be able to loosen
/// anything. `level` is what the jobs' namespace enforces.
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

/// The least Pod Security level that a note may ask for: what is enforced already, if that is less than the
/// default.
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
