//! The token is kept while the script can use it, and replaced otherwise.

use super::*;
use crate::cluster::dry_run::DryRun;
use crate::steps::fixture::{self, World};

/// The Secret exists and belongs to the deployment, and its token is in the script.
fn base(world: &mut World) -> Seen {
    let live = world.ours(&manifest(&world.run, world.run.names.token_secret(""), fixture::ID));
    live.uid().clone_into(&mut world.record.script_secret);
    if world.run.settings.token_lifetime.is_some() {
        "2026-02-01T00:00:00Z".clone_into(&mut world.record.token_expires);
    }
    let dry_runs = DryRuns::default();
    Seen { live: Some(live), others: Vec::new(), replaced: None, lacks_account: false, dry_runs }
}

/// The Secret of another machine's rotation, in the place of the recorded one.
fn rotated(world: &World, seen: &mut Seen, id: &str) {
    let other = manifest(&world.run, world.run.names.token_secret("0a1b2c"), id);
    (seen.live, seen.replaced) = (None, Some(fixture::live(&other)));
}

fn at(seen: &mut Seen) -> &mut Object {
    seen.live.as_mut().expect("it is there")
}

fn shown(act: &Act) -> String {
    match act {
        Act::Create(object) => format!("Create {}", object.value["type"].as_str().unwrap_or_default()),
        Act::Replace(uid, object) => {
            format!("Replace {uid} {}", object.value["type"].as_str().unwrap_or_default())
        }
        Act::Request(object) => format!("Request {}", object.value["type"].as_str().unwrap_or_default()),
    }
}

const REQUESTED: &[&str] = &["--token-lifetime", "31d"];
const SHORT: &[&str] = &["--token-lifetime", "20h"];

#[test]
fn decisions() {
    fixture::table(
        &IssueToken,
        base,
        shown,
        &[
            ("keeps a Secret in place", &[], |_, _| {}, &["Keep: Secret demo/demo-token"]),
            (
                "creates a missing Secret",
                &[],
                |_, seen| seen.live = None,
                &["Create Create kubernetes.io/service-account-token: does not expire"],
            ),
            (
                "requests a missing token with --token-lifetime",
                REQUESTED,
                |_, seen| seen.live = None,
                &["Create Request Opaque: token for 31 days"],
            ),
            (
                "requires consent to a lifetime under a week",
                SHORT,
                |_, seen| seen.live = None,
                &["Refuse MissingConsent: 20 hours is shorter than a week | --accept lifetime"],
            ),
            (
                "requests a token for less than a week with consent",
                &["--token-lifetime", "20h", "--accept", "lifetime"],
                |_, seen| seen.live = None,
                &["Create Request Opaque: token for 20 hours"],
            ),
            ("keeps a requested token without consent to the lifetime", SHORT, |_, _| {}, &["Keep"]),
            (
                "refuses without the ServiceAccount",
                &[],
                |_, seen| {
                    seen.live = None;
                    seen.lacks_account = true;
                },
                &["Refuse MissingPrerequisite: outrigger create-role"],
            ),
            (
                "refuses if a quota rejects the Secret",
                &[],
                |world, seen| {
                    seen.live = None;
                    let failure = Failure::new(Id::QuotaExceeded, "no room for a Secret");
                    seen.dry_runs.add(&world.run.names.token_secret(""), DryRun::Refused(failure));
                },
                &["Refuse QuotaExceeded: no room for a Secret"],
            ),
            (
                "keeps a requested token and shows its expiry",
                REQUESTED,
                |_, _| {},
                &["Keep: jobs stop at 2026-02-01T00:00:00Z; --reissue cluster"],
            ),
            (
                "ignores a recorded expiry that is not a timestamp",
                REQUESTED,
                |world, _| "soon".clone_into(&mut world.record.token_expires),
                &["Keep: =Secret demo/demo-token"],
            ),
            (
                "replaces an expired token",
                REQUESTED,
                |world, _| "2025-12-01T00:00:00Z".clone_into(&mut world.record.token_expires),
                &[
                    "Replace Request Opaque: the old one expired at 2025-12-01T00:00:00Z | stops until the new script",
                ],
            ),
            (
                "replaces a requested token that is in no script",
                REQUESTED,
                |world, _| world.record.script_secret.clear(),
                &["Replace Request Opaque: written to no script"],
            ),
            (
                "keeps a readable token that is in no script",
                &[],
                |world, _| world.record.script_secret.clear(),
                &["Keep"],
            ),
            (
                "replaces a readable token with a requested one",
                REQUESTED,
                |_, seen| at(seen).value["type"] = json!(FILLED_BY_CLUSTER),
                &["Replace Request Opaque: a requested token instead of one that does not expire"],
            ),
            (
                "replaces a requested token with a readable one",
                &[],
                |_, seen| at(seen).value["type"] = json!("Opaque"),
                &[
                    "Replace Replace uid-demo-token kubernetes.io/service-account-token: instead of a requested one",
                ],
            ),
            (
                "replaces the token with --reissue cluster",
                &["--reissue", "cluster"],
                |_, _| {},
                &[
                    "Replace Replace uid-demo-token kubernetes.io/service-account-token: a new token (--reissue)",
                ],
            ),
            ("keeps the token with --reissue runner", &["--reissue", "runner"], |_, _| {}, &["Keep"]),
            (
                "replaces a requested token with --reissue cluster",
                &["--reissue", "cluster", "--token-lifetime", "31d"],
                |_, _| {},
                &["Replace Request Opaque: --reissue"],
            ),
            (
                "refuses a foreign Secret",
                &["--reissue", "cluster"],
                |world, _| world.record.objects.clear(),
                &["Refuse ForeignObject: demo/demo-token"],
            ),
            (
                "refuses a recreated Secret with the deployment's id",
                &[],
                |_, seen| fixture::replace(at(seen)),
                &["Refuse ForeignObject: a run on another machine may have reissued it | --anchor-uid"],
            ),
            (
                "refuses the Secret of another machine's rotation",
                &[],
                |world, seen| rotated(world, seen, fixture::ID),
                &["Refuse ForeignObject: a run on another machine may have reissued it | record away"],
            ),
            (
                "does not let a Secret without the deployment's id keep a missing one away",
                &[],
                |world, seen| rotated(world, seen, "another"),
                &["Create Create kubernetes.io/service-account-token: does not expire"],
            ),
            (
                "refuses a Secret that is being deleted",
                &["--reissue", "cluster"],
                |_, seen| fixture::terminate(at(seen)),
                &["Refuse BeingDeleted: demo/demo-token"],
            ),
        ],
    );
}

#[test]
fn decisions_to_undo() {
    let shown = |act: &Delete| format!("{} {}", act.0.name, act.1);
    fixture::undo_table(
        &IssueToken,
        base,
        shown,
        &[
            ("deletes the Secret", &[], |_, _| {}, &["Remove demo-token uid-demo-token"]),
            ("no line for a deleted Secret", &[], |_, seen| seen.live = None, &[]),
            (
                "does not delete a foreign Secret",
                &[],
                |_, seen| fixture::replace(at(seen)),
                &["Refuse ForeignObject: demo/demo-token"],
            ),
            (
                "waits for a Secret that is being deleted",
                &[],
                |_, seen| fixture::terminate(at(seen)),
                &["Remove demo-token uid-demo-token: is being deleted"],
            ),
        ],
    );
}
