//! A pipeline is run where none has succeeded yet.

use super::*;
use crate::gitlab::pipeline::Present;
use crate::steps::fixture::{self, World};

/// The file is there, and no pipeline has succeeded.
fn base(_: &mut World) -> Seen {
    let state = State {
        project: 7,
        path: ".gitlab-ci.yml".to_owned(),
        branch: "main".to_owned(),
        head: Some("0123456789abcdef".to_owned()),
        start: None,
        may_push: true,
        protected: false,
        present: Some(Present { text: String::new(), commit: String::new() }),
        wanted: String::new(),
        lint: None,
        tags_only: false,
    };
    Seen::State(Box::new(state), None)
}

#[test]
fn decisions() {
    let shown = |act: &Follow| format!("Follow {}", act.0);
    fixture::table(
        &RunPipeline,
        base,
        shown,
        &[
            ("none has succeeded", &[], |_, _| {}, &["Create Follow main: the pipeline of main (01234567)"]),
            (
                "one has succeeded",
                &[],
                |_, seen| {
                    let Seen::State(_, succeeded) = seen else { return };
                    *succeeded = Some((55, 101));
                },
                &["Keep: pipeline 55 succeeded on runner 101"],
            ),
            (
                "the file is to be committed first",
                &[],
                |world, seen| {
                    world.forecast.commit = true;
                    let Seen::State(state, succeeded) = seen else { return };
                    (state.present, *succeeded) = (None, Some((55, 101)));
                },
                &["Create Follow main: once its file is committed"],
            ),
            (
                "there is no file",
                &[],
                |_, seen| {
                    let Seen::State(state, _) = seen else { return };
                    state.present = None;
                },
                &["Refuse NoPipelineFile: no .gitlab-ci.yml on main | outrigger commit-pipeline"],
            ),
            (
                "there is no branch",
                &[],
                |_, seen| {
                    let Seen::State(state, _) = seen else { return };
                    state.head = None;
                },
                &["Refuse NoPipelineFile"],
            ),
            (
                "something stands in the way",
                &[],
                |_, seen| {
                    *seen =
                        Seen::Obstacles(vec![Failure::new(Id::GitlabTokenScope, "the scope is too narrow")]);
                },
                &["Refuse GitlabTokenScope"],
            ),
            ("nothing to see", &[], |_, seen| *seen = Seen::Nothing, &[]),
        ],
    );
}
