//! Decides whether an object belongs to the deployment. Pure.
//!
//! Labels and annotations are only hints: users who may write them must not be able to direct outrigger to other
//! objects. An object belongs to the deployment if the record has its uid, if the record has an intent to create it
//! and the object has the deployment's random id, or if it has the confirmed id. Several objects with the same id
//! do not confirm it, because an id can be copied. Without a record, [`crate::commands::confirm_owner`] confirms the id.

use crate::base::error::{Command, Failure, Id};
use crate::deployment::names::{DEPLOYMENT, ID};
use crate::deployment::object::Object;
use crate::deployment::record::Record;
use crate::settings::shell_word;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The deployment: outrigger may change and delete the object.
    Us,
    /// Another owner, or an unconfirmed one; the reason for the user.
    Foreign(String),
}

/// The evidence that confirms the id of a deployment of which this machine has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// `--anchor-uid` is the ServiceAccount's uid.
    Uid,
    /// The runner in GitLab has the mark of this ServiceAccount.
    Mark,
}

/// A confirmed id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    pub id: String,
    pub by: Evidence,
}

/// The id of the anchor, if all other existing objects have the same one.
pub fn agreed_id<'a>(anchor: &Object, others: impl IntoIterator<Item = &'a Object>) -> Option<String> {
    let id = anchor.annotation(ID).filter(|id| !id.is_empty())?;
    others.into_iter().all(|other| other.annotation(ID) == Some(id)).then(|| id.to_owned())
}

/// The reason for a recreated object with this deployment's id: usually `--reissue` on another machine recreated it,
/// and this machine's record is out of date.
const SAME_ID: &str = ", with this deployment's id: a run on another machine may have reissued it";

/// `confirmed` is the confirmed id, if any.
pub fn judge(live: &Object, record: &Record, confirmed: Option<&str>) -> Owner {
    let carried = live.annotation(ID).unwrap_or_default();
    if let Some(uid) = record.uid_of(&live.reference) {
        return if uid == live.uid() {
            Owner::Us
        } else {
            let same = if !carried.is_empty() && carried == record.id { SAME_ID } else { "" };
            Owner::Foreign(format!(
                "the recorded object was deleted, and another one was created since{same}"
            ))
        };
    }
    let intended = !carried.is_empty() && carried == record.id && record.intents.contains(&live.reference);
    if intended || confirmed.is_some_and(|id| carried == id) {
        return Owner::Us;
    }
    Owner::Foreign(if live.label("app.kubernetes.io/managed-by") == Some("outrigger") {
        "it has outrigger's labels, but nothing confirms that this deployment created it".to_owned()
    } else {
        "outrigger did not create it".to_owned()
    })
}

/// The failure for an existing foreign object of the same name.
pub fn foreign(live: &Object, why: &str) -> Failure {
    let reference = &live.reference;
    let mut failure =
        Failure::new(Id::ForeignObject, format!("{reference} exists and was not created by this deployment"))
            .detail("because", why);
    if let Some(deployment) = live.annotation(DEPLOYMENT) {
        failure = failure.detail("its annotation", format!("deployment {deployment}"));
    }
    if why.ends_with(SAME_ID) {
        failure = failure.hint(
            "if it was reissued from another machine, move this machine's record away (NAME.json in --state-dir); outrigger then finds the deployment by its runner's mark in GitLab, or with --anchor-uid UID",
        );
    }
    failure
        .hint(("inspect it", Command::kubectl(format!(
            "get{} {} {} -o yaml",
            reference.kubectl_scope(),
            reference.kind.resource(),
            shell_word(&reference.name)
        ))))
        .hint("use other names with --deployment NAME (or --namespace, --runner-namespace), or delete it yourself if it is unused")
}

/// The refusal of an object that took the place of a recorded one, if it carries the deployment's id.
pub fn replaced(live: &Object, record: &Record) -> Option<Failure> {
    let carried = live.annotation(ID).unwrap_or_default();
    let same =
        !carried.is_empty() && carried == record.id && record.uid_of(&live.reference) != Some(live.uid());
    same.then(|| foreign(live, &format!("the recorded one was replaced{SAME_ID}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::object::{Kind as ObjectKind, Ref};
    use serde_json::json;

    fn object(kind: ObjectKind, uid: &str, id: &str) -> Object {
        Object {
            reference: Ref::new(kind, "ns", "demo"),
            value: json!({"metadata": {"uid": uid, "annotations": {ID: id}, "labels": {"app.kubernetes.io/managed-by": "outrigger"}}}),
        }
    }

    #[test]
    fn recorded_uid_decides_before_the_id() {
        let mut record = Record { id: "i".into(), ..Record::default() };
        let live = object(ObjectKind::Role, "u1", "i");
        record.own(&live.reference, "u1");
        assert_eq!(judge(&live, &record, None), Owner::Us);
        // Recreated with a copied id, which is confirmed.
        let copy = object(ObjectKind::Role, "u2", "i");
        assert!(matches!(judge(&copy, &record, Some("i")), Owner::Foreign(_)));
    }

    #[test]
    fn labels_alone_prove_nothing() {
        let live = object(ObjectKind::Role, "u1", "forged");
        assert!(matches!(judge(&live, &Record::default(), None), Owner::Foreign(_)));
    }

    #[test]
    fn intent_counts_only_with_the_deployments_id() {
        let live = object(ObjectKind::Role, "u1", "mine");
        let mut record = Record { id: "mine".into(), ..Record::default() };
        assert!(matches!(judge(&live, &record, None), Owner::Foreign(_)));
        record.intend(&live.reference);
        assert_eq!(judge(&live, &record, None), Owner::Us);
        record.id = "other".into();
        assert!(matches!(judge(&live, &record, None), Owner::Foreign(_)));
    }

    #[test]
    fn id_is_agreed_only_if_all_objects_have_it() {
        let [account, role, binding] =
            [ObjectKind::ServiceAccount, ObjectKind::Role, ObjectKind::RoleBinding]
                .map(|kind| object(kind, "u", "i"));
        assert_eq!(agreed_id(&account, [&role, &binding]), Some("i".to_owned()));
        assert_eq!(agreed_id(&account, []), Some("i".to_owned()));
        let other = object(ObjectKind::Secret, "u", "j");
        assert_eq!(agreed_id(&account, [&role, &other]), None);
        assert_eq!(agreed_id(&object(ObjectKind::ServiceAccount, "u", ""), []), None);
    }
}
