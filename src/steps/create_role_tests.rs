//! What allows more is mended, what allows less is kept, what is not ours is refused.

use serde_json::{Value, json};

use super::*;
use crate::steps::fixture::{self, World};

/// Everything is in place.
fn base(world: &mut World) -> Seen {
    let objects = manifests(&world.run, fixture::ID);
    let objects = objects.into_iter().map(|wanted| (wanted.clone(), Some(world.ours(&wanted)))).collect();
    let names = &world.run.names;
    let quiet = names.manifest(names.default_account(), "", &json!({"automountServiceAccountToken": false}));
    Seen { objects, default_account: Some(quiet), looks: Looks::default() }
}

/// The account, the jobs' account, the Role or the binding, as it is.
fn at(seen: &mut Seen, index: usize) -> &mut Object {
    seen.objects[index].1.as_mut().expect("it is there")
}

const ACCOUNT: usize = 0;
const JOB_ACCOUNT: usize = 1;
const ROLE: usize = 2;
const BINDING: usize = 3;

fn shown(act: &Act) -> String {
    match act {
        Act::Create(object) => format!("Create {}", object.reference.kind),
        Act::Apply(object) => {
            assert!(!object.uid().is_empty() && object.resource_version() == "7", "an update is pinned");
            match object.reference.kind {
                ObjectKind::Role => format!("Apply {}", rights::rights(&object.value["rules"]).len()),
                ObjectKind::RoleBinding => {
                    let subjects = object.value["subjects"].as_array().expect("a list");
                    let names: Vec<_> = subjects.iter().filter_map(|one| one["name"].as_str()).collect();
                    format!("Apply {names:?}")
                }
                kind => format!("Apply {kind}"),
            }
        }
        Act::Replace(uid, object) => format!("Replace {} {uid}", object.reference.kind),
        Act::QuietDefault(reference) => format!("Quiet {}", reference.name),
    }
}

fn rules(seen: &mut Seen) -> &mut Vec<Value> {
    at(seen, ROLE).value["rules"].as_array_mut().expect("rules")
}

fn others(seen: &mut Seen, and_ours: bool) {
    let other = json!({"kind": "User", "name": "mallory"});
    let subjects = at(seen, BINDING).value["subjects"].as_array_mut().expect("subjects");
    if and_ours {
        subjects.push(other);
    } else {
        *subjects = vec![other];
    }
}

const KEEP: &str = "Keep";

#[test]
fn decisions() {
    fixture::table(
        &CreateRole,
        base,
        shown,
        &[
            ("in place", &[], |_, _| {}, &[KEEP, KEEP, KEEP, KEEP]),
            (
                "missing",
                &[],
                |_, seen| {
                    seen.objects.iter_mut().for_each(|(_, live)| *live = None);
                    seen.default_account = None;
                },
                &[
                    "Create Create ServiceAccount: demo/demo",
                    "Create Create ServiceAccount: demo-jobs/demo-job",
                    "Create Create Role: 5 rules, 11 verbs",
                    "Create Create RoleBinding",
                    "Update Quiet default: no token for pods without a ServiceAccount of their own",
                ],
            ),
            (
                "the Role allows more",
                &[],
                |_, seen| {
                    rules(seen).push(json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}));
                },
                &[KEEP, KEEP, "Update Apply 11: allows more than it should | - nodes get", KEEP],
            ),
            (
                "the Role allows less",
                &[],
                |_, seen| drop(rules(seen).remove(0)),
                &[
                    KEEP,
                    KEEP,
                    "Keep!: allows less than the runner needs | to restore it: --force-conflicts",
                    KEEP,
                ],
            ),
            (
                "the Role allows less, forced",
                &["--force-conflicts"],
                |_, seen| drop(rules(seen).remove(0)),
                &[KEEP, KEEP, "Update Apply 11: allows less than the runner needs | + ", KEEP],
            ),
            (
                "the Role allows more and less: what was tightened stays",
                &[],
                |_, seen| {
                    *rules(seen) = vec![json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]})];
                },
                &[
                    KEEP,
                    KEEP,
                    "Update Apply 5: - pods * | is missing; to restore it: --force-conflicts",
                    KEEP,
                ],
            ),
            (
                "the Role allows more and less, forced",
                &["--force-conflicts"],
                |_, seen| {
                    *rules(seen) = vec![json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]})];
                },
                &[KEEP, KEEP, "Update Apply 11: - pods * | + secrets create", KEEP],
            ),
            (
                "who wrote a Role that allows less is named",
                &[],
                |_, seen| {
                    rules(seen).remove(0);
                    at(seen, ROLE).value["metadata"]["managedFields"] =
                        json!([{"manager": "kubectl-edit", "fieldsV1": {"f:rules": {}}}]);
                },
                &[KEEP, KEEP, "Keep!: (last written by kubectl-edit)", KEEP],
            ),
            (
                "the binding binds others, too",
                &[],
                |_, seen| others(seen, true),
                &[KEEP, KEEP, KEEP, "Update Apply [\"demo\"]: binds other subjects | - User /mallory"],
            ),
            (
                "the binding binds others instead: they go, the runner is not bound again",
                &[],
                |_, seen| others(seen, false),
                &[KEEP, KEEP, KEEP, "Update Apply []: - User /mallory"],
            ),
            (
                "the binding binds others instead, forced",
                &["--force-conflicts"],
                |_, seen| others(seen, false),
                &[KEEP, KEEP, KEEP, "Update Apply [\"demo\"]: - User /mallory"],
            ),
            (
                "the binding binds nobody",
                &[],
                |_, seen| at(seen, BINDING).value["subjects"] = json!([]),
                &[KEEP, KEEP, KEEP, "Keep!: no longer binds the runner | --force-conflicts"],
            ),
            (
                "the binding binds nobody, forced",
                &["--force-conflicts"],
                |_, seen| at(seen, BINDING).value["subjects"] = json!([]),
                &[KEEP, KEEP, KEEP, "Update Apply [\"demo\"]"],
            ),
            (
                "the binding refers to another role",
                &[],
                |_, seen| at(seen, BINDING).value["roleRef"]["name"] = json!("admin"),
                &[KEEP, KEEP, KEEP, "Replace Replace RoleBinding uid-demo: another role (admin)"],
            ),
            (
                "the binding refers to a ClusterRole of the name",
                &[],
                |_, seen| at(seen, BINDING).value["roleRef"]["kind"] = json!("ClusterRole"),
                &[KEEP, KEEP, KEEP, "Replace Replace RoleBinding uid-demo"],
            ),
            (
                "an account's token is mounted",
                &[],
                |_, seen| at(seen, JOB_ACCOUNT).value["automountServiceAccountToken"] = Value::Null,
                &[KEEP, "Update Apply ServiceAccount: automountServiceAccountToken is not false", KEEP, KEEP],
            ),
            (
                "the anchor's note is of other settings",
                &[],
                |_, seen| at(seen, ACCOUNT).value["metadata"]["annotations"][names::SETTINGS] = json!("{}"),
                &["Update Apply ServiceAccount: settings annotation is out of date", KEEP, KEEP, KEEP],
            ),
            (
                "pods that name no account get a token",
                &[],
                |_, seen| seen.default_account = None,
                &[KEEP, KEEP, KEEP, KEEP, "Update Quiet default"],
            ),
            (
                "the default account of a namespace that is used stays",
                &["--use-namespace", "demo-jobs"],
                |_, seen| seen.default_account = None,
                &[KEEP, KEEP, KEEP, KEEP],
            ),
            (
                "made anew by somebody",
                &[],
                |_, seen| fixture::replace(at(seen, ROLE)),
                &[
                    KEEP,
                    KEEP,
                    "Refuse ForeignObject: the recorded object was deleted, and another one was created since",
                    KEEP,
                ],
            ),
            (
                "not ours, although it is being deleted",
                &[],
                |_, seen| {
                    fixture::replace(at(seen, BINDING));
                    fixture::terminate(at(seen, BINDING));
                },
                &[KEEP, KEEP, KEEP, "Refuse ForeignObject"],
            ),
            (
                "an unfinished creation with our id is ours",
                &[],
                |world, seen| {
                    let role = at(seen, ROLE).reference.clone();
                    world.record.forget(&role);
                    world.record.intend(&role);
                },
                &[KEEP, KEEP, KEEP, KEEP],
            ),
            (
                "an unfinished creation with another id is not",
                &[],
                |world, seen| {
                    let role = at(seen, ROLE);
                    world.record.forget(&role.reference);
                    world.record.intend(&role.reference);
                    role.value["metadata"]["annotations"][names::ID] = json!("another");
                },
                &[KEEP, KEEP, "Refuse ForeignObject: nothing confirms that this deployment created it", KEEP],
            ),
            (
                "labels and id alone prove nothing",
                &[],
                |world, seen| world.record.forget(&at(seen, ROLE).reference),
                &[KEEP, KEEP, "Refuse ForeignObject", KEEP],
            ),
            (
                "being deleted",
                &[],
                |_, seen| fixture::terminate(at(seen, ACCOUNT)),
                &["Refuse BeingDeleted: demo/demo", KEEP, KEEP, KEEP],
            ),
            (
                "a policy refuses what would be made",
                &[],
                |_, seen| {
                    seen.objects[ROLE].1 = None;
                    let failure = Failure::new(Id::AdmissionRefused, "a policy refuses the Role");
                    seen.looks.add(
                        &seen.objects[ROLE].0.reference,
                        crate::cluster::dry_run::Look::Refused(failure),
                    );
                },
                &[KEEP, KEEP, KEEP, "Refuse AdmissionRefused: a policy refuses the Role"],
            ),
        ],
    );
}

#[test]
fn what_could_not_be_looked_at_is_in_the_forecast() {
    let mut world = World::new(&[]);
    let mut seen = base(&mut world);
    let role = seen.objects[ROLE].0.reference.clone();
    for (live, expected) in [(seen.objects[ROLE].1.clone(), 0), (None, 1)] {
        seen.objects[ROLE].1 = live;
        seen.looks = Looks::default();
        seen.looks.add(&role, crate::cluster::dry_run::Look::Skipped("no namespace yet".to_owned()));
        let decided = world.deciding(|d| CreateRole.decide(d, &seen));
        assert_eq!(decided.lines.len(), 4, "what is not looked at is planned all the same");
        assert_eq!(decided.forecast.unlooked.len(), expected);
    }
}

#[test]
fn what_was_done_is_counted() {
    type Row = (fn(&mut Seen), &'static str);
    let rows: &[Row] = &[
        (|_| {}, "kept"),
        (|seen| seen.objects.iter_mut().for_each(|(_, live)| *live = None), "created Role demo and 3 more"),
        (|seen| seen.objects[ROLE].1 = None, "created Role demo"),
        (|seen| seen.objects[BINDING].1 = None, "created 1 object"),
        (|seen| at(seen, BINDING).value["roleRef"]["name"] = json!("admin"), "updated 1 object"),
        (
            |seen| {
                seen.objects[ROLE].1 = None;
                at(seen, BINDING).value["roleRef"]["name"] = json!("admin");
                seen.default_account = None;
            },
            "created Role demo, updated 2 objects",
        ),
    ];
    for (change, expected) in rows {
        let mut world = World::new(&[]);
        let mut seen = base(&mut world);
        change(&mut seen);
        let done = world.deciding(|d| CreateRole.done(d, &seen, &CreateRole.decide(d, &seen).lines, &[]));
        assert_eq!(done, *expected);
    }
}

/// What other steps noted on the anchor, and the metadata of Role and binding, stay.
#[test]
fn updates_keep_metadata() {
    let mut world = World::new(&["--force-conflicts"]);
    let mut seen = base(&mut world);
    at(&mut seen, ACCOUNT).value["automountServiceAccountToken"] = json!(true);
    at(&mut seen, ACCOUNT).value["metadata"]["annotations"][names::SCRIPT_DIGEST] = json!("d");
    rules(&mut seen).clear();
    at(&mut seen, ROLE).value["metadata"]["labels"] = json!({"older": "label"});
    let lines = world.deciding(|d| CreateRole.decide(d, &seen)).lines;
    let Some(Act::Apply(account)) = &lines[ACCOUNT].act else { panic!("the account is updated") };
    assert_eq!(account.annotation(names::SCRIPT_DIGEST), Some("d"));
    let Some(Act::Apply(role)) = &lines[ROLE].act else { panic!("the Role is updated") };
    assert_eq!(role.value["metadata"]["labels"], json!({"older": "label"}));
}

#[test]
fn decisions_to_undo() {
    let shown = |act: &Delete| format!("{} {}", act.0, act.1);
    fixture::undo_table(
        &CreateRole,
        base,
        shown,
        &[
            (
                "the anchor goes last",
                &[],
                |_, _| {},
                &[
                    "Remove RoleBinding demo-jobs/demo uid-demo",
                    "Remove Role demo-jobs/demo uid-demo",
                    "Remove ServiceAccount demo-jobs/demo-job uid-demo-job",
                    "Remove ServiceAccount demo/demo uid-demo",
                ],
            ),
            (
                "what is gone is not spoken of, what is not ours is refused",
                &[],
                |_, seen| {
                    seen.objects[BINDING].1 = None;
                    seen.objects[JOB_ACCOUNT].1 = None;
                    fixture::replace(at(seen, ROLE));
                },
                &["Refuse ForeignObject: Role demo-jobs/demo", "Remove ServiceAccount demo/demo uid-demo"],
            ),
            (
                "what is being deleted is awaited",
                &[],
                |_, seen| {
                    seen.objects.truncate(1);
                    fixture::terminate(at(seen, ACCOUNT));
                },
                &["Remove ServiceAccount demo/demo uid-demo: is being deleted"],
            ),
        ],
    );
}
