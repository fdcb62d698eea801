//! A pipeline runs if none has succeeded yet.

use super::*;
use crate::gitlab::pipeline::Present;
use crate::steps::fixture::{self, World};

/// The file exists, and no pipeline has succeeded.
fn base(_: &mut World) -> Seen {
    let present = Some(Present { text: String::new(), commit: String::new() });
    Seen::State(Box::new(State { present, ..fixture::pipeline_state() }), None)
}

fn at(seen: &mut Seen) -> (&mut State, &mut Option<(u64, u64)>) {
    match seen {
        Seen::State(state, succeeded) => (state, succeeded),
        _ => panic!("the base is a state"),
    }
}

#[test]
fn decisions() {
    let shown = |act: &Follow| format!("Follow {}", act.0);
    fixture::table(
        &RunPipeline,
        base,
        shown,
        &[
            (
                "runs a pipeline if none has succeeded",
                &[],
                |_, _| {},
                &["Create Follow main: the pipeline of main (01234567)"],
            ),
            (
                "keeps a successful pipeline",
                &[],
                |_, seen| *at(seen).1 = Some((55, 101)),
                &["Keep: pipeline 55 succeeded on runner 101"],
            ),
            (
                "runs a pipeline for a planned commit",
                &[],
                |world, seen| {
                    world.forecast.commit = true;
                    at(seen).0.present = None;
                    *at(seen).1 = Some((55, 101));
                },
                &["Create Follow main: once its file is committed"],
            ),
            (
                "refuses without a pipeline file",
                &[],
                |_, seen| at(seen).0.present = None,
                &["Refuse NoPipelineFile: no .gitlab-ci.yml on main | outrigger commit-pipeline"],
            ),
            ("refuses without the branch", &[], |_, seen| at(seen).0.head = None, &["Refuse NoPipelineFile"]),
            (
                "refuses with each obstacle",
                &[],
                |_, seen| {
                    *seen =
                        Seen::Obstacles(vec![Failure::new(Id::GitlabTokenScope, "the scope is too narrow")]);
                },
                &["Refuse GitlabTokenScope"],
            ),
            ("no line for teardown", &[], |_, seen| *seen = Seen::Nothing, &[]),
        ],
    );
}
