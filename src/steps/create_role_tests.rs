//! Excess rights are removed, missing rights are restored only on request, foreign objects are refused.

use serde_json::{Value, json};

use super::*;
use crate::base::error::Id;
use crate::cluster::dry_run::DryRun;
use crate::steps::fixture::{self, World};

/// Everything is in place.
fn base(world: &mut World) -> Seen {
    let objects = manifests(&world.run, fixture::ID);
    let objects = objects.into_iter().map(|wanted| (wanted.clone(), Some(world.ours(&wanted)))).collect();
    let names = &world.run.names;
    let quiet = names.manifest(names.default_account(), "", &json!({"automountServiceAccountToken": false}));
    Seen { objects, default_account: Some(quiet), dry_runs: DryRuns::default() }
}

/// The existing object with this index.
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
            ("keeps all objects if in place", &[], |_, _| {}, &[KEEP, KEEP, KEEP, KEEP]),
            (
                "creates missing objects",
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
                "removes rights that the Role should not have",
                &[],
                |_, seen| {
                    rules(seen).push(json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}));
                },
                &[KEEP, KEEP, "Update Apply 11: allows more than it should | - nodes get", KEEP],
            ),
            (
                "keeps a Role with fewer rights",
                &[],
                |_, seen| drop(rules(seen).remove(0)),
                &[
                    KEEP,
                    KEEP,
                    "Warning!: allows less than the runner needs | pods create is missing: no job can start",
                    KEEP,
                ],
            ),
            (
                "restores rights with --force-conflicts",
                &["--force-conflicts"],
                |_, seen| drop(rules(seen).remove(0)),
                &[KEEP, KEEP, "Update Apply 11: allows less than the runner needs | + ", KEEP],
            ),
            (
                "removes rights without restoring others",
                &[],
                |_, seen| {
                    *rules(seen) = vec![json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]})];
                },
                &[
                    KEEP,
                    KEEP,
                    "Update Apply 5: - pods * | secrets create is missing: jobs with registry | to restore what was removed",
                    KEEP,
                ],
            ),
            (
                "removes and restores rights with --force-conflicts",
                &["--force-conflicts"],
                |_, seen| {
                    *rules(seen) = vec![json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]})];
                },
                &[KEEP, KEEP, "Update Apply 11: - pods * | + secrets create", KEEP],
            ),
            (
                "names the last writer of a Role with fewer rights",
                &[],
                |_, seen| {
                    rules(seen).remove(0);
                    at(seen, ROLE).value["metadata"]["managedFields"] =
                        json!([{"manager": "kubectl-edit", "fieldsV1": {"f:rules": {}}}]);
                },
                &[KEEP, KEEP, "Warning!: (last written by kubectl-edit)", KEEP],
            ),
            (
                "removes other subjects of the binding",
                &[],
                |_, seen| others(seen, true),
                &[KEEP, KEEP, KEEP, "Update Apply [\"demo\"]: binds other subjects | - User /mallory"],
            ),
            (
                "removes other subjects without binding the runner again",
                &[],
                |_, seen| others(seen, false),
                &[KEEP, KEEP, KEEP, "Update Apply []: - User /mallory"],
            ),
            (
                "replaces other subjects with --force-conflicts",
                &["--force-conflicts"],
                |_, seen| others(seen, false),
                &[KEEP, KEEP, KEEP, "Update Apply [\"demo\"]: - User /mallory"],
            ),
            (
                "keeps a binding without subjects",
                &[],
                |_, seen| at(seen, BINDING).value["subjects"] = json!([]),
                &[KEEP, KEEP, KEEP, "Warning!: no longer binds the runner | no job can start"],
            ),
            (
                "binds the runner again with --force-conflicts",
                &["--force-conflicts"],
                |_, seen| at(seen, BINDING).value["subjects"] = json!([]),
                &[KEEP, KEEP, KEEP, "Update Apply [\"demo\"]"],
            ),
            (
                "replaces a binding to another Role",
                &[],
                |_, seen| at(seen, BINDING).value["roleRef"]["name"] = json!("admin"),
                &[KEEP, KEEP, KEEP, "Replace Replace RoleBinding uid-demo: another role (admin)"],
            ),
            (
                "replaces a binding to a ClusterRole of the same name",
                &[],
                |_, seen| at(seen, BINDING).value["roleRef"]["kind"] = json!("ClusterRole"),
                &[KEEP, KEEP, KEEP, "Replace Replace RoleBinding uid-demo"],
            ),
            (
                "disables token mounts of a ServiceAccount",
                &[],
                |_, seen| at(seen, JOB_ACCOUNT).value["automountServiceAccountToken"] = Value::Null,
                &[KEEP, "Update Apply ServiceAccount: automountServiceAccountToken is not false", KEEP, KEEP],
            ),
            (
                "updates the annotation with the settings",
                &[],
                |_, seen| at(seen, ACCOUNT).value["metadata"]["annotations"][names::SETTINGS] = json!("{}"),
                &["Update Apply ServiceAccount: settings annotation is out of date", KEEP, KEEP, KEEP],
            ),
            (
                "disables token mounts of the default ServiceAccount",
                &[],
                |_, seen| seen.default_account = None,
                &[KEEP, KEEP, KEEP, KEEP, "Update Quiet default"],
            ),
            (
                "keeps the default ServiceAccount of an existing namespace",
                &["--use-namespace", "demo-jobs"],
                |_, seen| seen.default_account = None,
                &[KEEP, KEEP, KEEP, KEEP],
            ),
            (
                "refuses a recreated object",
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
                "refuses a foreign object, also if it is being deleted",
                &[],
                |_, seen| {
                    fixture::replace(at(seen, BINDING));
                    fixture::terminate(at(seen, BINDING));
                },
                &[KEEP, KEEP, KEEP, "Refuse ForeignObject"],
            ),
            (
                "keeps an object with a recorded intent and the deployment's id",
                &[],
                |world, seen| {
                    let role = at(seen, ROLE).reference.clone();
                    world.record.forget(&role);
                    world.record.intend(&role);
                },
                &[KEEP, KEEP, KEEP, KEEP],
            ),
            (
                "refuses an object with a recorded intent and another id",
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
                "refuses an object with only the labels and the id",
                &[],
                |world, seen| world.record.forget(&at(seen, ROLE).reference),
                &[KEEP, KEEP, "Refuse ForeignObject", KEEP],
            ),
            (
                "refuses an object that is being deleted",
                &[],
                |_, seen| fixture::terminate(at(seen, ACCOUNT)),
                &["Refuse BeingDeleted: demo/demo", KEEP, KEEP, KEEP],
            ),
            (
                "refuses if a policy rejects a missing object",
                &[],
                |_, seen| {
                    seen.objects[ROLE].1 = None;
                    let failure = Failure::new(Id::AdmissionRefused, "a policy refuses the Role");
                    seen.dry_runs.add(&seen.objects[ROLE].0.reference, DryRun::Refused(failure));
                },
                &[KEEP, KEEP, KEEP, "Refuse AdmissionRefused: a policy refuses the Role"],
            ),
        ],
    );
}

#[test]
fn missing_object_without_a_dry_run_is_in_the_forecast() {
    let mut world = World::new(&[]);
    let mut seen = base(&mut world);
    let role = seen.objects[ROLE].0.reference.clone();
    for (live, expected) in [(seen.objects[ROLE].1.clone(), 0), (None, 1)] {
        seen.objects[ROLE].1 = live;
        seen.dry_runs = DryRuns::default();
        seen.dry_runs.add(&role, DryRun::Skipped("no namespace yet".to_owned()));
        let decided = world.deciding(|d| CreateRole.decide(d, &seen));
        assert_eq!(decided.lines.len(), 4, "an object without a dry run is planned");
        assert_eq!(decided.forecast.unchecked.len(), expected);
    }
}

#[test]
fn result_counts_created_and_updated_objects() {
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

/// Annotations by other steps on the ServiceAccount, and the metadata of Role and binding.
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
                "deletes the runner's ServiceAccount last",
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
                "no line for deleted objects, refuses foreign ones",
                &[],
                |_, seen| {
                    seen.objects[BINDING].1 = None;
                    seen.objects[JOB_ACCOUNT].1 = None;
                    fixture::replace(at(seen, ROLE));
                },
                &["Refuse ForeignObject: Role demo-jobs/demo", "Remove ServiceAccount demo/demo uid-demo"],
            ),
            (
                "waits for an object that is being deleted",
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
