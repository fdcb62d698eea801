//! The temporary binding is made only where it is needed, may be made, may be taken back, and is agreed to.

use super::*;
use crate::steps::fixture::{self, World};

/// It is needed, and the operator may do it.
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

fn unasked(seen: &mut Seen) {
    seen.answer = Answer::Unknown("clusterroles is forbidden".to_owned());
}

/// As it is seen right before it is applied.
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
                "the Role is in place",
                &[],
                |_, seen| {
                    seen.answer = Answer::NotNeeded("the Role is in place".to_owned());
                    again(seen);
                },
                &["NotNeeded: not needed: the Role is in place"],
            ),
            (
                "the operator may grant it, also in a namespace that is used",
                USED,
                |_, seen| {
                    seen.answer = Answer::MayGrant("you may grant it".to_owned());
                    again(seen);
                },
                &["NotNeeded: not needed: you may grant it"],
            ),
            (
                "needed",
                &[],
                |_, _| {},
                &["Create Bind RoleBinding edit: demo-jobs: edit for ann | removed after create-role | \
               kubectl delete -n demo-jobs rolebinding demo-admin-0000abcd"],
            ),
            (
                "needed, with cluster-admin",
                ADMIN,
                |_, _| {},
                &[
                    "Create Bind ClusterRoleBinding cluster-admin: kubectl delete clusterrolebinding demo-admin-0000abcd",
                ],
            ),
            (
                "needed, and kept",
                KEPT,
                |_, _| {},
                &["Create Bind RoleBinding edit: kept afterwards (--keep-admin-binding)"],
            ),
            (
                "needed, and may not be bound",
                &[],
                |_, seen| may(seen, false, true),
                &[
                    "Refuse CannotGrant: nor create the temporary binding | outrigger create-role --print | --user=ann",
                ],
            ),
            (
                "needed, and cluster-admin may not be bound",
                ADMIN,
                |_, seen| may(seen, false, true),
                &["Refuse CannotGrant: have an administrator apply these manifests"],
            ),
            (
                "needed, and could not be taken back",
                &[],
                |_, seen| may(seen, true, false),
                &["Refuse CannotGrant: but not delete the RoleBinding again | --keep-admin-binding"],
            ),
            (
                "needed, could not be taken back, and need not",
                KEPT,
                |_, seen| may(seen, true, false),
                &["Create Bind RoleBinding edit"],
            ),
            (
                "needed, and the binding is refused by a policy",
                &[],
                |_, seen| {
                    let failure = Failure::new(Id::AdmissionRefused, "a policy refuses the binding");
                    seen.means = Some(Means { bind: true, release: true, refused: Some(failure) });
                },
                &["Refuse AdmissionRefused: a policy refuses the binding"],
            ),
            (
                "needed in a namespace that is used",
                USED,
                |_, seen| again(seen),
                &[
                    "Refuse MissingConsent: outrigger did not create | --accept temporary-edit | give you `edit` there",
                ],
            ),
            (
                "needed in a namespace that is used, with consent",
                ACCEPTED,
                |_, _| {},
                &["Create Bind RoleBinding edit"],
            ),
            (
                "needed in a namespace that is used, with cluster-admin",
                &["--use-namespace", "demo-jobs", "--cluster-admin"],
                |_, _| {},
                &["Create Bind ClusterRoleBinding cluster-admin"],
            ),
            (
                "unknown yet",
                &[],
                |_, seen| unasked(seen),
                &[
                    "Unknown Bind RoleBinding edit: known after create-namespaces; at most RoleBinding in demo-jobs",
                ],
            ),
            (
                "unknown yet, and may not be bound: the second look may find that it is not needed",
                &[],
                |_, seen| {
                    unasked(seen);
                    may(seen, false, true);
                },
                &["Unknown Bind RoleBinding edit"],
            ),
            (
                "unknown yet, and could not be taken back",
                &[],
                |_, seen| {
                    unasked(seen);
                    may(seen, true, false);
                },
                &["Refuse CannotGrant: but not delete the RoleBinding again"],
            ),
            (
                "unknown in a namespace that is used",
                USED,
                |_, seen| {
                    unasked(seen);
                    again(seen);
                },
                &["Refuse MissingConsent: --accept temporary-edit"],
            ),
            ("second look: needed", &[], |_, seen| again(seen), &["Create Bind RoleBinding edit"]),
            (
                "second look: not needed",
                &[],
                |_, seen| {
                    seen.answer = Answer::MayGrant("you may grant it".to_owned());
                    again(seen);
                },
                &["NotNeeded"],
            ),
            (
                "second look: still unknown",
                &[],
                |_, seen| {
                    unasked(seen);
                    again(seen);
                },
                &["Refuse CannotGrant: because: clusterroles is forbidden"],
            ),
            (
                "left by a killed run",
                &[],
                |_, seen| leave(seen),
                &["Release Release demo-admin-1: left by an earlier run", "Create Bind RoleBinding edit"],
            ),
            (
                "left by an earlier run, and kept",
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
fn a_role_to_be_granted_cannot_be_looked_at_yet() {
    for (answer, means, unlooked) in [
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
        assert_eq!(forecast.unlooked.len(), unlooked);
    }
}

#[test]
fn a_second_look_may_do_no_more_than_was_announced() {
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
            ("nothing is left", &[], |_, _| {}, &[]),
            (
                "left by a killed run",
                KEPT,
                |_, seen| leave(seen),
                &["Release Release demo-admin-1 Some(\"u\")"],
            ),
        ],
    );
}
