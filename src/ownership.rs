//! What is ours, and how we know. Pure.
//!
//! Labels and annotations are hints: whoever may write them must not be able to aim us. An object is
//! ours if the record has its uid, if a creation of it was under way and it carries our random id, or
//! if it carries the id on which ServiceAccount, Role, RoleBinding and (where there is one) Secret
//! agree. Writing a Role and a binding takes the very rights that they grant, so whoever could forge
//! that agreement has nothing to gain from it.

use crate::error::{Failure, Kind};
use crate::names::ID;
use crate::object::Object;
use crate::record::Record;

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours to change and to delete.
    Us,
    /// Somebody else's, or not provably ours; the reason is for the user.
    NotUs(String),
}

/// The id on which the deployment's objects agree, if all of them are there and do.
#[must_use]
pub fn agreed_id(
    account: Option<&Object>,
    role: Option<&Object>,
    binding: Option<&Object>,
    secret: Option<&Object>,
) -> Option<String> {
    let id = account?.annotation(ID)?;
    let agrees = |object: &Object| object.annotation(ID) == Some(id);
    (!id.is_empty() && agrees(role?) && agrees(binding?) && secret.is_none_or(agrees)).then(|| id.to_owned())
}

/// Judges one live object.
#[must_use]
pub fn judge(live: &Object, record: &Record, agreed: Option<&str>) -> Owner {
    let carried = live.annotation(ID).unwrap_or_default();
    if let Some(uid) = record.uid_of(&live.reference) {
        return if uid == live.uid() {
            Owner::Us
        } else {
            Owner::NotUs("ours was deleted, and somebody made this one since".to_owned())
        };
    }
    if !carried.is_empty() && record.intents.contains(&live.reference) && carried == record.id {
        return Owner::Us;
    }
    if let Some(agreed) = agreed
        && carried == agreed
    {
        return Owner::Us;
    }
    Owner::NotUs(if live.label("app.kubernetes.io/managed-by") == Some("outrigger") {
        "it carries outrigger's labels, but nothing proves that this deployment made it".to_owned()
    } else {
        "outrigger did not make it".to_owned()
    })
}

/// The failure for an object that is in the way.
#[must_use]
pub fn foreign(live: &Object, why: &str) -> Failure {
    let reference = &live.reference;
    let quote = crate::settings::shell_word;
    let scope = reference
        .namespace
        .as_deref()
        .map(|namespace| format!(" -n {}", quote(namespace)))
        .unwrap_or_default();
    let mut failure =
        Failure::new("OR0701", Kind::Foreign, format!("{reference} is in the way and is not ours"))
            .detail("because", why);
    if let Some(deployment) = live.annotation(crate::names::DEPLOYMENT) {
        failure = failure.detail("it says", format!("deployment {deployment}"));
    }
    failure
        .hint(format!(
            "look at it: kubectl get{scope} {} {} -o yaml",
            reference.kind.resource(),
            quote(&reference.name)
        ))
        .hint("use other names with --deployment NAME (or --namespace, --runner-namespace), or delete it yourself if nobody needs it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Kind as ObjectKind, Ref};
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
    fn agreement_needs_every_object() {
        let [account, role, binding] =
            [ObjectKind::ServiceAccount, ObjectKind::Role, ObjectKind::RoleBinding]
                .map(|kind| object(kind, "u", "i"));
        assert_eq!(agreed_id(Some(&account), Some(&role), Some(&binding), None), Some("i".to_owned()));
        assert_eq!(agreed_id(Some(&account), Some(&role), None, None), None);
        let other = object(ObjectKind::Secret, "u", "j");
        assert_eq!(agreed_id(Some(&account), Some(&role), Some(&binding), Some(&other)), None);
    }
}
