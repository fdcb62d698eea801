//! What is ours, and how we know. Pure.
//!
//! Labels and annotations are hints: whoever may write them must not be able to aim us. An object is ours
//! if the record has its uid, if a creation of it was under way and it carries our random id, or if it
//! carries the id that was vouched for. Objects that agree on an id vouch for nothing: whoever may write
//! objects can copy one. Who vouches without a record is found out in [`crate::commands::witness`].

use crate::base::error::{Command, Failure, Id};
use crate::deployment::names::ID;
use crate::deployment::object::Object;
use crate::deployment::record::Record;

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours to change and to delete.
    Us,
    /// Somebody else's, or not provably ours; the reason is for the user.
    NotUs(String),
}

/// Who stands for a deployment that this machine has no record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// `--anchor-uid` names the ServiceAccount by the uid that the server gave it.
    Uid,
    /// The runner in GitLab carries the mark of this very ServiceAccount.
    Mark,
}

/// An id that somebody whom the operator named stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The deployment's id.
    pub id: String,
    /// Who does.
    pub by: Voucher,
}

/// The id on the anchor, if each of the others that are there carries it, too.
pub fn agreed_id<'a>(anchor: &Object, others: impl IntoIterator<Item = &'a Object>) -> Option<String> {
    let id = anchor.annotation(ID).filter(|id| !id.is_empty())?;
    others.into_iter().all(|other| other.annotation(ID) == Some(id)).then(|| id.to_owned())
}

/// What is said of an object that was made anew with this deployment's id: most often a colleague did that, with
/// `--reissue`, and this machine's record is out of date.
const SAME_ID: &str = ", with this deployment's id: a run on another machine may have reissued it";

/// Judges one live object.
pub fn judge(live: &Object, record: &Record, vouched: Option<&str>) -> Owner {
    let carried = live.annotation(ID).unwrap_or_default();
    if let Some(uid) = record.uid_of(&live.reference) {
        return if uid == live.uid() {
            Owner::Us
        } else {
            let same = if !carried.is_empty() && carried == record.id { SAME_ID } else { "" };
            Owner::NotUs(format!("the recorded object was deleted, and another one was created since{same}"))
        };
    }
    if !carried.is_empty() && record.intents.contains(&live.reference) && carried == record.id {
        return Owner::Us;
    }
    if vouched.is_some_and(|id| carried == id) {
        return Owner::Us;
    }
    Owner::NotUs(if live.label("app.kubernetes.io/managed-by") == Some("outrigger") {
        "it has outrigger's labels, but nothing confirms that this deployment created it".to_owned()
    } else {
        "outrigger did not create it".to_owned()
    })
}

/// The failure for an object that is in the way; `kubectl` begins a command that reaches this cluster.
pub fn foreign(live: &Object, why: &str) -> Failure {
    let reference = &live.reference;
    let quote = crate::settings::shell_word;
    let scope = reference
        .namespace
        .as_deref()
        .map(|namespace| format!(" -n {}", quote(namespace)))
        .unwrap_or_default();
    let mut failure =
        Failure::new(Id::ForeignObject, format!("{reference} exists and was not created by this deployment"))
            .detail("because", why);
    if let Some(deployment) = live.annotation(crate::deployment::names::DEPLOYMENT) {
        failure = failure.detail("its annotation", format!("deployment {deployment}"));
    }
    if why.ends_with(SAME_ID) {
        failure = failure.hint(
            "if it was reissued from another machine, move this machine's record away (NAME.json in --state-dir); outrigger then finds the deployment by its runner's mark in GitLab, or with --anchor-uid UID",
        );
    }
    failure
        .hint(("inspect it", Command::kubectl(format!(
            "get{scope} {} {} -o yaml",
            reference.kind.resource(),
            quote(&reference.name)
        ))))
        .hint("use other names with --deployment NAME (or --namespace, --runner-namespace), or delete it yourself if it is unused")
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
    fn a_recorded_uid_decides_both_ways() {
        let mut record = Record { id: "i".into(), ..Record::default() };
        let live = object(ObjectKind::Role, "u1", "i");
        record.own(&live.reference, "u1");
        assert_eq!(judge(&live, &record, None), Owner::Us);
        // Deleted and made anew, id copied: not ours, even if all agree.
        let copy = object(ObjectKind::Role, "u2", "i");
        assert!(matches!(judge(&copy, &record, Some("i")), Owner::NotUs(_)));
    }

    #[test]
    fn labels_alone_prove_nothing() {
        let live = object(ObjectKind::Role, "u1", "forged");
        assert!(matches!(judge(&live, &Record::default(), None), Owner::NotUs(_)));
    }

    #[test]
    fn an_intent_counts_only_with_our_id() {
        let live = object(ObjectKind::Role, "u1", "mine");
        let mut record = Record { id: "mine".into(), ..Record::default() };
        assert!(matches!(judge(&live, &record, None), Owner::NotUs(_)));
        record.intend(&live.reference);
        assert_eq!(judge(&live, &record, None), Owner::Us);
        record.id = "other".into();
        assert!(matches!(judge(&live, &record, None), Owner::NotUs(_)));
    }

    #[test]
    fn one_object_with_another_id_ends_the_agreement() {
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
