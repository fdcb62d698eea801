//! Namespaces are created or used as they are; a Pod Security level is raised, and lowered only on request.

use super::*;
use crate::cluster::dry_run::DryRun;
use crate::steps::fixture::{self, World};

/// Both exist and belong to the deployment.
fn base(world: &mut World) -> Seen {
    let references = world.run.names.namespaces();
    let level = world.run.settings.pod_security.word();
    let place = |(index, reference): (usize, Ref)| {
        let wanted = world.run.names.namespace_manifest(reference.clone(), fixture::ID, level, None);
        Place { reference, live: Some(world.ours(&wanted)), is_job: index == 1, wanted, binding: None }
    };
    let places = references.into_iter().enumerate().map(place).collect();
    Seen { places, reach: None, works_already: false, dry_runs: DryRuns::default() }
}

fn at(seen: &mut Seen, index: usize) -> &mut Object {
    seen.places[index].live.as_mut().expect("it is there")
}

const RUNNER: usize = 0;
const JOB: usize = 1;

fn enforce(seen: &mut Seen, level: &str) {
    at(seen, JOB).value["metadata"]["labels"][format!("{POD_SECURITY}enforce")] = json!(level);
}

/// Neither belongs to the deployment, and jobs can reach objects there.
fn used(world: &mut World, seen: &mut Seen) {
    world.record.objects.clear();
    seen.reach = Some("2 Secrets".to_owned());
}

fn shown(act: &Act) -> String {
    match act {
        Act::Create(object) => format!("Create {}", object.reference.name),
        Act::Relabel(object) => {
            assert!(!object.uid().is_empty() && object.resource_version() == "7", "an update is pinned");
            format!("Relabel {}", object.label(&format!("{POD_SECURITY}enforce")).unwrap_or_default())
        }
    }
}

const KEEP: &str = "Keep";
const USED: &[&str] = &["--use-namespace", "demo", "--use-namespace", "demo-jobs"];
const ACCEPTED: &[&str] =
    &["--use-namespace", "demo", "--use-namespace", "demo-jobs", "--accept", "shared-namespace"];

#[test]
fn decisions() {
    fixture::table(
        &CreateNamespaces,
        base,
        shown,
        &[
            ("keeps both namespaces if in place", &[], |_, _| {}, &["Keep: demo", "Keep: demo-jobs"]),
            (
                "creates missing namespaces with the configured labels",
                &["--namespace-label", "team=ci"],
                |_, seen| seen.places.iter_mut().for_each(|place| place.live = None),
                &[
                    "Create Create demo: label team=ci",
                    "Create Create demo-jobs: Pod Security: baseline | label team=ci | not known before it exists",
                ],
            ),
            (
                "refuses if a policy rejects a missing namespace",
                &[],
                |_, seen| {
                    seen.places[JOB].live = None;
                    let failure = Failure::new(Id::AdmissionRefused, "a policy refuses it");
                    seen.dry_runs.add(&seen.places[JOB].reference, DryRun::Refused(failure));
                },
                &[KEEP, "Refuse AdmissionRefused: a policy refuses it"],
            ),
            (
                "refuses missing namespaces of --use-namespace",
                USED,
                |_, seen| seen.places.iter_mut().for_each(|place| place.live = None),
                &["Refuse NamespaceMissing: omit --use-namespace", "Refuse NamespaceMissing: demo-jobs"],
            ),
            (
                "requires consent to objects that jobs can reach in an existing namespace",
                USED,
                used,
                &[
                    "Keep: a user who can create pods there can read the runner's token",
                    "Refuse MissingConsent: reachable: 2 Secrets | --accept shared-namespace",
                ],
            ),
            (
                "keeps an empty namespace without consent",
                USED,
                |world, seen| {
                    used(world, seen);
                    seen.reach = Some(String::new());
                },
                &["Keep: used as it is", "Keep: used as it is"],
            ),
            (
                "keeps existing namespaces with consent",
                ACCEPTED,
                used,
                &["Keep: used as it is", "Keep: used as it is | jobs can reach there: 2 Secrets"],
            ),
            (
                "requires no consent again after the first setup",
                USED,
                |world, seen| {
                    used(world, seen);
                    seen.works_already = true;
                },
                &[KEEP, "Keep: jobs can reach there: 2 Secrets"],
            ),
            (
                "does not relabel an existing namespace",
                ACCEPTED,
                |world, seen| {
                    used(world, seen);
                    enforce(seen, "privileged");
                },
                &[KEEP, KEEP],
            ),
            (
                "refuses foreign namespaces",
                &[],
                |world, _| world.record.objects.clear(),
                &[
                    "Refuse ForeignObject: --use-namespace demo",
                    "Refuse ForeignObject: --use-namespace demo-jobs",
                ],
            ),
            (
                "refuses a recreated namespace",
                &[],
                |_, seen| fixture::replace(at(seen, RUNNER)),
                &["Refuse ForeignObject: the recorded object was deleted", KEEP],
            ),
            (
                "refuses a namespace that is being deleted",
                &[],
                |_, seen| fixture::terminate(at(seen, RUNNER)),
                &["Refuse BeingDeleted: demo", KEEP],
            ),
            (
                "refuses an existing namespace that is being deleted",
                ACCEPTED,
                |world, seen| {
                    used(world, seen);
                    fixture::terminate(at(seen, JOB));
                },
                &[KEEP, "Refuse BeingDeleted: demo-jobs"],
            ),
            (
                "raises a Pod Security level that is too low",
                &[],
                |_, seen| enforce(seen, "privileged"),
                &[
                    KEEP,
                    "Update Relabel baseline: allows more than it should | - enforce privileged | + enforce baseline",
                ],
            ),
            (
                "sets a missing Pod Security level",
                &[],
                |_, seen| at(seen, JOB).value["metadata"]["labels"] = json!({}),
                &[KEEP, "Update Relabel baseline: - enforce privileged"],
            ),
            (
                "keeps a stricter Pod Security level",
                &[],
                |_, seen| enforce(seen, "restricted"),
                &[KEEP, "Warning!: stricter than baseline | kept | --force-conflicts"],
            ),
            (
                "lowers a stricter level with --force-conflicts",
                &["--force-conflicts"],
                |_, seen| enforce(seen, "restricted"),
                &[KEEP, "Update Relabel baseline: restricted -> baseline"],
            ),
            (
                "sets no level on the runner namespace",
                &[],
                |_, seen| at(seen, RUNNER).value["metadata"]["labels"] = json!({}),
                &[KEEP, KEEP],
            ),
            (
                "shows the commands for missing labels and annotations",
                &["--namespace-label", "team=ci", "--namespace-annotation", "note=a b"],
                |_, seen| at(seen, RUNNER).value["metadata"]["labels"]["team"] = json!("ci"),
                &[
                    "Warning!: note=a b is not on it | kubectl annotate namespace demo --overwrite 'note=a b'",
                    "Warning!: team=ci, note=a b is not on it | kubectl label namespace demo-jobs --overwrite team=ci",
                ],
            ),
        ],
    );
}

#[test]
fn decisions_to_undo() {
    let shown = |act: &Undo| match act {
        Undo::BindTemporarily(binding) => format!("Bind {}", binding.reference.name),
        Undo::Delete(Delete(reference, uid)) => format!("Delete {} {uid}", reference.name),
    };
    fixture::undo_table(
        &CreateNamespaces,
        base,
        shown,
        &[
            (
                "deletes both namespaces, the job namespace first",
                &[],
                |_, _| {},
                &["Remove Delete demo-jobs uid-demo-jobs", "Remove Delete demo uid-demo"],
            ),
            (
                "no line for deleted namespaces",
                &[],
                |_, seen| seen.places.iter_mut().for_each(|place| place.live = None),
                &[],
            ),
            ("no line for existing namespaces", USED, |_, _| {}, &[]),
            ("no line for foreign namespaces", &[], |world, _| world.record.objects.clear(), &[]),
            (
                "reports a terminating foreign namespace with the deployment's annotation",
                &[],
                |world, seen| {
                    world.record.objects.clear();
                    fixture::terminate(at(seen, JOB));
                },
                &["Refuse StillDeleting: demo-jobs"],
            ),
            (
                "keeps both with --keep-namespaces",
                &[],
                |world, _| world.run.options.keep_namespaces = true,
                &["Keep: demo-jobs (--keep-namespaces)", "Keep: demo (--keep-namespaces)"],
            ),
            (
                "creates a temporary binding first, if needed to list the contents",
                &[],
                |world, seen| {
                    let binding =
                        Ref::new(crate::deployment::object::Kind::RoleBinding, "demo-jobs", "demo-admin-1");
                    let binding = temporary_binding::manifest(&world.run, fixture::ID, binding, "edit", "me");
                    seen.places[JOB].binding = Some(binding);
                },
                &[
                    "Create Bind demo-admin-1: edit for you, to list its contents | kubectl delete -n demo-jobs rolebinding demo-admin-1",
                    "Remove Delete demo-jobs uid-demo-jobs",
                    "Remove Delete demo uid-demo",
                ],
            ),
            (
                "waits for a namespace that is being deleted",
                &[],
                |_, seen| fixture::terminate(at(seen, JOB)),
                &["Remove Delete demo-jobs uid-demo-jobs: is being deleted", "Remove Delete demo uid-demo"],
            ),
        ],
    );
}
