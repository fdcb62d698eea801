//! The decision about the old cluster token.

use serde_json::json;

use super::*;
use crate::deployment::record::Retiring;
use crate::steps::contract::Script;
use crate::steps::fixture::{self, World};

/// A rotation whose script has not been written yet.
fn base(world: &mut World) -> Seen {
    world.run.rotate = vec![Reissue::Cluster];
    let old = world.run.names.token_secret("");
    let manifest = world.run.names.manifest(old, fixture::ID, &json!({}));
    Seen { old: Some(world.ours(&manifest)), next: None, running: Ok(2) }
}

fn written(world: &mut World) {
    world.forecast.script = Some(Script { digest: String::new(), is_written: true, ..Script::default() });
}

/// The second token is in the last script.
fn brought(world: &mut World, seen: &mut Seen) {
    world.record.slots = Some(Slots { next: Some("0a1b2c".to_owned()), ..Slots::default() });
    world.record.script_secret = "uid-next".to_owned();
    seen.next = Some("uid-next".to_owned());
}

fn retiring(world: &mut World, _: &mut Seen) {
    let since = "2026-01-01T00:00:00Z".to_owned();
    world.record.slots = Some(Slots {
        current: "0a1b2c".to_owned(),
        retiring: Some(Retiring { generation: String::new(), since }),
        ..Slots::default()
    });
}

#[test]
fn decisions() {
    fixture::table(
        &RetireToken,
        base,
        |_| "Retire".to_owned(),
        &[
            (
                "nothing was replaced",
                &[],
                |world, _| world.run.rotate.clear(),
                &["NotNeeded: no cluster token was replaced"],
            ),
            (
                "with a host, after the delivery",
                &[],
                |world, _| {
                    written(world);
                    world.run.parts = vec![Part::Host];
                },
                &["Remove Retire: Secret demo/demo-token, when no job | 2 jobs now | both tokens are valid"],
            ),
            (
                "without a host, the first command",
                &[],
                |world, _| written(world),
                &["Keep: stays valid until the new script has run | rotate cluster --accept unseen-host"],
            ),
            (
                "without a host, the second command without consent",
                &[],
                brought,
                &["Refuse MissingConsent: --accept unseen-host | no job can start"],
            ),
            (
                "without a host, the second command",
                &["--accept", "unseen-host"],
                brought,
                &["Remove Retire: demo-token, when no job"],
            ),
            (
                "the new token is in no script",
                &["--accept", "unseen-host"],
                |world, seen| {
                    brought(world, seen);
                    world.record.script_secret = "uid-demo-token".to_owned();
                },
                &["Keep: stays valid"],
            ),
            (
                "setup tells of an unfinished rotation",
                &[],
                |world, seen| {
                    brought(world, seen);
                    world.run.rotate.clear();
                },
                &["Unhealthy!: both cluster tokens are valid | rotate cluster"],
            ),
            (
                "the host has the new token: setup goes on",
                &[],
                |world, seen| {
                    retiring(world, seen);
                    world.run.rotate.clear();
                    seen.running = Ok(0);
                },
                &["Remove Retire: no job runs now"],
            ),
            (
                "the jobs are not known",
                &[],
                |world, seen| {
                    world.run.parts = vec![Part::Host];
                    seen.running = Err("no GitLab token was given".to_owned());
                },
                &["Refuse MissingInput: no GitLab token was given | --reissue cluster"],
            ),
            (
                "somebody else's Secret",
                &[],
                |world, seen| {
                    world.run.parts = vec![Part::Host];
                    fixture::replace(seen.old.as_mut().expect("a Secret"));
                },
                &["Refuse ForeignObject"],
            ),
        ],
    );
}
