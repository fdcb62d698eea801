//! The temporary binding requires a need, the rights to create and delete it, and consent.

use super::*;
use crate::steps::fixture::{self, World};

/// The binding is needed, and the operator may create and delete it.
fn base(_: &mut World) -> Seen {
    let means = Means { bind: true, release: true, refused: None };
    Seen { leftovers: Vec::new(), answer: Answer::Needed, operator: "ann".to_owned(), means: Some(means) }
}

fn may(seen: &mut Seen, bind: bool, release: bool) {
    seen.means = Some(Means { bind, release, refused: None });
}

fn leave(seen: &mut Seen) {
    let reference = Ref::new(ObjectKind::RoleBinding, "demo-jobs", "demo-admin-1");
    seen.leftovers = vec![(reference, Some("u".to_owned()))];
}

fn unknown(seen: &mut Seen) {
    seen.answer = Answer::Unknown("clusterroles is forbidden".to_owned());
}

/// The observation before apply, which does not include the means.
fn again(seen: &mut Seen) {
    seen.means = None;
}

fn shown(act: &Act) -> String {
    match act {
        Act::Release(reference, _) => format!("Release {}", reference.name),
        Act::Bind(object) => {
            assert_eq!(object.reference.name, "demo-admin-0000abcd");
            let role = object.value["roleRef"]["name"].as_str().unwrap_or_default();
            format!("Bind {} {role}", object.reference.kind)
        }
    }
}

const USED: &[&str] = &["--use-namespace", "demo-jobs"];
const ACCEPTED: &[&str] = &["--use-namespace", "demo-jobs", "--accept", "temporary-edit"];
const ADMIN: &[&str] = &["--cluster-admin"];
const KEPT: &[&str] = &["--keep-admin-binding"];

#[test]
fn decisions() {
    fixture::table(
        &BindAdmin,
        base,
        shown,
        &[
            (
                "no binding if the Role is in place",
                &[],
                |_, seen| {
                    seen.answer = Answer::NotNeeded("the Role is in place".to_owned());
                    again(seen);
                },
                &["NotNeeded: not needed: the Role is in place"],
            ),
            (
                "no binding if the operator may grant the Role, also in an existing namespace",
                USED,
                |_, seen| {
                    seen.answer = Answer::MayGrant("you may grant it".to_owned());
                    again(seen);
                },
                &["NotNeeded: not needed: you may grant it"],
            ),
            (
                "binds edit if needed",
                &[],
                |_, _| {},
                &["Create Bind RoleBinding edit: demo-jobs: edit for ann | removed after create-role | \
               kubectl delete -n demo-jobs rolebinding demo-admin-0000abcd"],
            ),
            (
                "binds cluster-admin with --cluster-admin",
                ADMIN,
                |_, _| {},
                &[
                    "Create Bind ClusterRoleBinding cluster-admin: kubectl delete clusterrolebinding demo-admin-0000abcd",
                ],
            ),
            (
                "keeps the binding with --keep-admin-binding",
                KEPT,
                |_, _| {},
                &["Create Bind RoleBinding edit: kept afterwards (--keep-admin-binding)"],
            ),
            (
                "refuses without the right to bind edit",
                &[],
                |_, seen| may(seen, false, true),
                &[
                    "Refuse CannotGrant: nor create the temporary binding | outrigger create-role --print | --user=ann",
                ],
            ),
            (
                "refuses without the right to bind cluster-admin",
                ADMIN,
                |_, seen| may(seen, false, true),
                &["Refuse CannotGrant: have an administrator apply these manifests"],
            ),
            (
                "refuses without the right to delete the binding",
                &[],
                |_, seen| may(seen, true, false),
                &["Refuse CannotGrant: but not delete the RoleBinding again | --keep-admin-binding"],
            ),
            (
                "needs no right to delete a binding that is kept",
                KEPT,
                |_, seen| may(seen, true, false),
                &["Create Bind RoleBinding edit"],
            ),
            (
                "refuses if a policy rejects the binding",
                &[],
                |_, seen| {
                    let failure = Failure::new(Id::AdmissionRefused, "a policy refuses the binding");
                    seen.means = Some(Means { bind: true, release: true, refused: Some(failure) });
                },
                &["Refuse AdmissionRefused: a policy refuses the binding"],
            ),
            (
                "requires consent in an existing namespace",
                USED,
                |_, seen| again(seen),
                &[
                    "Refuse MissingConsent: outrigger did not create | --accept temporary-edit | give you `edit` there",
                ],
            ),
            (
                "binds edit in an existing namespace with consent",
                ACCEPTED,
                |_, _| {},
                &["Create Bind RoleBinding edit"],
            ),
            (
                "binds cluster-admin with an existing namespace without further consent",
                &["--use-namespace", "demo-jobs", "--cluster-admin"],
                |_, _| {},
                &["Create Bind ClusterRoleBinding cluster-admin"],
            ),
            (
                "announces the largest binding if the need is unknown",
                &[],
                |_, seen| unknown(seen),
                &[
                    "Unknown Bind RoleBinding edit: known after create-namespaces; at most RoleBinding in demo-jobs",
                ],
            ),
            (
                "announces it also without the right to bind, because it may not be needed",
                &[],
                |_, seen| {
                    unknown(seen);
                    may(seen, false, true);
                },
                &["Unknown Bind RoleBinding edit"],
            ),
            (
                "refuses an unknown need without the right to delete the binding",
                &[],
                |_, seen| {
                    unknown(seen);
                    may(seen, true, false);
                },
                &["Refuse CannotGrant: but not delete the RoleBinding again"],
            ),
            (
                "requires consent for an unknown need in an existing namespace",
                USED,
                |_, seen| {
                    unknown(seen);
                    again(seen);
                },
                &["Refuse MissingConsent: --accept temporary-edit"],
            ),
            (
                "second decision: binds edit if needed",
                &[],
                |_, seen| again(seen),
                &["Create Bind RoleBinding edit"],
            ),
            (
                "second decision: no binding if the operator may grant the Role",
                &[],
                |_, seen| {
                    seen.answer = Answer::MayGrant("you may grant it".to_owned());
                    again(seen);
                },
                &["NotNeeded"],
            ),
            (
                "second decision: refuses a need that is still unknown",
                &[],
                |_, seen| {
                    unknown(seen);
                    again(seen);
                },
                &["Refuse CannotGrant: because: clusterroles is forbidden"],
            ),
            (
                "releases a leftover binding first",
                &[],
                |_, seen| leave(seen),
                &["Release Release demo-admin-1: left by an earlier run", "Create Bind RoleBinding edit"],
            ),
            (
                "keeps a leftover binding with --keep-admin-binding",
                KEPT,
                |_, seen| {
                    leave(seen);
                    seen.answer = Answer::MayGrant("you may grant it".to_owned());
                },
                &["Keep: demo-admin-1 stays (--keep-admin-binding)", "NotNeeded"],
            ),
        ],
    );
}

#[test]
fn role_that_needs_the_binding_has_no_dry_run() {
    for (answer, means, unchecked) in [
        (Answer::Needed, true, 1),
        (Answer::Needed, false, 0),
        (Answer::MayGrant(String::new()), false, 0),
        (Answer::Unknown(String::new()), true, 0),
    ] {
        let mut world = World::new(&[]);
        let mut seen = base(&mut world);
        seen.answer = answer;
        seen.means = seen.means.filter(|_| means);
        let forecast = world.deciding(|d| BindAdmin.decide(d, &seen)).forecast;
        assert_eq!(forecast.unchecked.len(), unchecked);
    }
}

#[test]
fn second_decision_creates_only_the_announced_binding() {
    let act = |flags: &[&str]| Act::Bind(binding(&World::new(flags).run, fixture::ID, "ann"));
    assert!(BindAdmin.within(&act(&[]), &[act(&[])]));
    assert!(!BindAdmin.within(&act(ADMIN), &[act(&[])]));
    assert!(!BindAdmin.within(&act(&[]), &[]));
}

#[test]
fn decisions_to_undo() {
    let shown = |act: &Undo| match act {
        Undo::Release(reference, uid) => format!("Release {} {uid:?}", reference.name),
        Undo::Held(role) => format!("Held {role}"),
    };
    fixture::undo_table(
        &BindAdmin,
        base,
        shown,
        &[
            ("removes nothing without leftovers", &[], |_, _| {}, &[]),
            (
                "releases a leftover binding, also with --keep-admin-binding",
                KEPT,
                |_, seen| leave(seen),
                &["Release Release demo-admin-1 Some(\"u\")"],
            ),
        ],
    );
}
