//! The token stays as long as it serves the script, and is issued anew where it does not.

use super::*;
use crate::cluster::dry_run::Look;
use crate::steps::fixture::{self, World};

/// The Secret is there, and ours, and its token is in the script.
fn base(world: &mut World) -> Seen {
    let live = world.ours(&manifest(&world.run, fixture::ID));
    live.uid().clone_into(&mut world.record.script_secret);
    if world.run.settings.token_lifetime.is_some() {
        "2026-02-01T00:00:00Z".clone_into(&mut world.record.token_expires);
    }
    Seen { live: Some(live), lacks_account: false, looks: Looks::default() }
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
            ("in place", &[], |_, _| {}, &["Keep: Secret demo/demo-token"]),
            (
                "missing",
                &[],
                |_, seen| seen.live = None,
                &["Create Create kubernetes.io/service-account-token: does not expire"],
            ),
            (
                "missing, requested",
                REQUESTED,
                |_, seen| seen.live = None,
                &["Create Request Opaque: token for 31 days"],
            ),
            (
                "missing, requested for less than a week",
                SHORT,
                |_, seen| seen.live = None,
                &["Refuse MissingConsent: 20 hours is shorter than a week | --accept lifetime"],
            ),
            (
                "missing, requested for less than a week, with consent",
                &["--token-lifetime", "20h", "--accept", "lifetime"],
                |_, seen| seen.live = None,
                &["Create Request Opaque: token for 20 hours"],
            ),
            ("in place, requested for less than a week", SHORT, |_, _| {}, &["Keep"]),
            (
                "missing, without an account to have it",
                &[],
                |_, seen| {
                    seen.live = None;
                    seen.lacks_account = true;
                },
                &["Refuse MissingPrerequisite: outrigger create-role"],
            ),
            (
                "missing, and refused by a quota",
                &[],
                |world, seen| {
                    seen.live = None;
                    let failure = Failure::new(Id::QuotaExceeded, "no room for a Secret");
                    seen.looks.add(&world.run.names.token_secret(), Look::Refused(failure));
                },
                &["Refuse QuotaExceeded: no room for a Secret"],
            ),
            (
                "in place, requested",
                REQUESTED,
                |_, _| {},
                &["Keep: jobs stop at 2026-02-01T00:00:00Z; --reissue cluster"],
            ),
            (
                "expiry that is no time is not repeated",
                REQUESTED,
                |world, _| "soon".clone_into(&mut world.record.token_expires),
                &["Keep: =Secret demo/demo-token"],
            ),
            (
                "expired",
                REQUESTED,
                |world, _| "2025-12-01T00:00:00Z".clone_into(&mut world.record.token_expires),
                &[
                    "Replace Request Opaque: the old one expired at 2025-12-01T00:00:00Z | stops until the new script",
                ],
            ),
            (
                "requested, and in no script",
                REQUESTED,
                |world, _| world.record.script_secret.clear(),
                &["Replace Request Opaque: written to no script"],
            ),
            (
                "readable, and in no script: it can be read again",
                &[],
                |world, _| world.record.script_secret.clear(),
                &["Keep"],
            ),
            (
                "readable, and a requested one is wanted",
                REQUESTED,
                |_, seen| at(seen).value["type"] = json!(FILLED_BY_CLUSTER),
                &["Replace Request Opaque: a requested token instead of one that does not expire"],
            ),
            (
                "requested, and a readable one is wanted",
                &[],
                |_, seen| at(seen).value["type"] = json!("Opaque"),
                &[
                    "Replace Replace uid-demo-token kubernetes.io/service-account-token: instead of a requested one",
                ],
            ),
            (
                "reissue",
                &["--reissue", "cluster"],
                |_, _| {},
                &[
                    "Replace Replace uid-demo-token kubernetes.io/service-account-token: a new token (--reissue)",
                ],
            ),
            ("reissue of the runner's token alone", &["--reissue", "runner"], |_, _| {}, &["Keep"]),
            (
                "reissue, requested",
                &["--reissue", "cluster", "--token-lifetime", "31d"],
                |_, _| {},
                &["Replace Request Opaque: --reissue"],
            ),
            (
                "somebody else's",
                &["--reissue", "cluster"],
                |world, _| world.record.objects.clear(),
                &["Refuse ForeignObject: demo/demo-token"],
            ),
            (
                "made anew with our id",
                &[],
                |_, seen| fixture::replace(at(seen)),
                &["Refuse ForeignObject: a run on another machine may have reissued it | --anchor-uid"],
            ),
            (
                "being deleted",
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
            ("ours", &[], |_, _| {}, &["Remove demo-token uid-demo-token"]),
            ("gone", &[], |_, seen| seen.live = None, &[]),
            (
                "somebody else's",
                &[],
                |_, seen| fixture::replace(at(seen)),
                &["Refuse ForeignObject: demo/demo-token"],
            ),
            (
                "being deleted",
                &[],
                |_, seen| fixture::terminate(at(seen)),
                &["Remove demo-token uid-demo-token: is being deleted"],
            ),
        ],
    );
}
