//! The file is committed where there is none or ours, and only on request over another one.

use super::*;
use crate::steps::fixture::{self, World};

const OLD: &str = "job:\n  tags: [a]\n";
const NEW: &str = "job:\n  tags: [b]\n";

#[expect(clippy::unnecessary_wraps, reason = "as the state has it")]
fn present(text: &str) -> Option<Present> {
    Some(Present { text: text.to_owned(), commit: "c0ffee00".to_owned() })
}

/// There is no file yet.
fn base(_: &mut World) -> Seen {
    Seen::State(Box::new(State {
        project: 7,
        path: ".gitlab-ci.yml".to_owned(),
        branch: "main".to_owned(),
        head: Some("0123456789abcdef".to_owned()),
        start: None,
        may_push: true,
        protected: false,
        present: None,
        wanted: NEW.to_owned(),
        lint: Some((Vec::new(), Vec::new())),
        tags_only: false,
    }))
}

fn at(seen: &mut Seen) -> &mut State {
    match seen {
        Seen::State(state) => state,
        _ => panic!("the base is a state"),
    }
}

/// The record says that we committed the old text.
fn committed(world: &mut World) {
    world.record.gitlab.commit = Some(OwnedCommit {
        project: 7,
        branch: "main".to_owned(),
        path: ".gitlab-ci.yml".to_owned(),
        sha: "0123456789abcdef".to_owned(),
        content: pipeline::digest(OLD),
        ..OwnedCommit::default()
    });
}

fn shown(change: &FileChange) -> String {
    let what = if change.content.is_some() { "Write" } else { "Delete" };
    format!("{what} over {}", change.before.as_deref().unwrap_or("nothing"))
}

const UPDATE: &str = "Update Write over c0ffee00: .gitlab-ci.yml on main | -   tags: [a] | +   tags: [b] | GitLab's lint: valid";

#[test]
fn decisions() {
    fixture::table(
        &CommitPipeline,
        base,
        shown,
        &[
            (
                "missing",
                &[],
                |_, _| {},
                &["Create Write over nothing: .gitlab-ci.yml on main | GitLab's lint: valid"],
            ),
            (
                "missing, on a new branch",
                &[],
                |_, seen| at(seen).start = Some("main".to_owned()),
                &["Create Write over nothing: a new branch from main"],
            ),
            (
                "equal",
                &[],
                |_, seen| {
                    at(seen).present = present(NEW);
                    at(seen).may_push = false;
                },
                &["Keep: =kept: .gitlab-ci.yml on main"],
            ),
            (
                "equal where the new branch begins",
                &[],
                |_, seen| {
                    at(seen).present = present(NEW);
                    at(seen).start = Some("main".to_owned());
                },
                &["Create Write over c0ffee00: a new branch from main"],
            ),
            (
                "lint finds errors",
                &[],
                |_, seen| at(seen).lint = Some((vec!["no stages".to_owned()], Vec::new())),
                &["Refuse PipelineLint: lint error: no stages"],
            ),
            (
                "lint warns",
                &[],
                |_, seen| at(seen).lint = Some((Vec::new(), vec!["a doubtful rule".to_owned()])),
                &["Create Write over nothing: lint warning: a doubtful rule"],
            ),
            (
                "lint may not be asked",
                &[],
                |_, seen| at(seen).lint = None,
                &["Create Write over nothing: not linted: the token may not lint"],
            ),
            (
                "may not push",
                &[],
                |_, seen| at(seen).may_push = false,
                &["Refuse GitlabForbidden: you may not push to the branch main | --branch NAME"],
            ),
            (
                "may not push to a protected branch",
                &["--overwrite-pipeline"],
                |_, seen| {
                    at(seen).may_push = false;
                    at(seen).protected = true;
                    at(seen).present = present(OLD);
                },
                &["Refuse GitlabForbidden: you may not push to the protected branch main"],
            ),
            (
                "somebody's file",
                &[],
                |_, seen| at(seen).present = present(OLD),
                &[
                    "Refuse PipelineFileDiffers: already exists with other content | -   tags: [a] | --overwrite-pipeline",
                ],
            ),
            (
                "somebody's file, to be overwritten",
                &["--overwrite-pipeline"],
                |_, seen| at(seen).present = present(OLD),
                &[UPDATE],
            ),
            (
                "our file, and nobody has changed it",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).present = present(OLD);
                },
                &[UPDATE],
            ),
            (
                "our file, and somebody has changed it",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).present = present("job: {}\n");
                },
                &["Refuse PipelineFileDiffers"],
            ),
            (
                "the same text on another branch is not ours",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).branch = "other".to_owned();
                    at(seen).present = present(OLD);
                },
                &["Refuse PipelineFileDiffers"],
            ),
            (
                "the same text in another project is not ours",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).project = 8;
                    at(seen).present = present(OLD);
                },
                &["Refuse PipelineFileDiffers"],
            ),
            (
                "the runner's line says it already",
                &[],
                |world, seen| {
                    committed(world);
                    world.forecast.tags_announced = true;
                    at(seen).tags_only = true;
                    at(seen).present = present(OLD);
                },
                &["Update~ Write over c0ffee00"],
            ),
            (
                "the runner's line says a part of it",
                &[],
                |world, seen| {
                    committed(world);
                    world.forecast.tags_announced = true;
                    at(seen).present = present(OLD);
                },
                &[UPDATE],
            ),
            (
                "not to be looked at",
                &[],
                |_, seen| *seen = Seen::Skipped("no token".to_owned()),
                &["Keep!: not looked at: no token"],
            ),
            (
                "something stands in the way",
                &[],
                |_, seen| {
                    *seen =
                        Seen::Obstacles(vec![Failure::new(Id::GitlabTokenScope, "the scope is too narrow")]);
                },
                &["Refuse GitlabTokenScope: the scope is too narrow"],
            ),
        ],
    );
}

#[test]
fn a_commit_is_promised_to_the_pipeline() {
    for (text, promised) in [(None, true), (present(NEW), false), (present(OLD), false)] {
        let mut world = World::new(&[]);
        let mut seen = base(&mut world);
        at(&mut seen).present = text;
        assert_eq!(world.deciding(|d| CommitPipeline.decide(d, &seen)).forecast.commit, promised);
    }
}

#[test]
fn decisions_to_undo() {
    let ours = |world: &mut World| {
        committed(world);
        Seen::Revert(present(OLD), None)
    };
    fixture::undo_table(
        &CommitPipeline,
        ours,
        shown,
        &[
            (
                "untouched",
                &[],
                |_, _| {},
                &["Remove Delete over c0ffee00: commit 01234567 | delete the file"],
            ),
            (
                "untouched, and there was one before",
                &[],
                |_, seen| *seen = Seen::Revert(present(OLD), Some(NEW.to_owned())),
                &["Remove Write over c0ffee00: restore the earlier content"],
            ),
            (
                "changed since",
                &[],
                |_, seen| *seen = Seen::Revert(present(NEW), None),
                &["Keep: changed since the commit"],
            ),
            ("gone", &[], |_, seen| *seen = Seen::Revert(None, None), &["Keep: already gone"]),
            ("not asked for", &[], |_, seen| *seen = Seen::Stays, &["Keep: --revert-pipeline"]),
            (
                "GitLab is gone",
                &[],
                |world, seen| {
                    world.run.options.gitlab_gone = true;
                    *seen = Seen::Stays;
                },
                &["Keep: --gitlab-gone: not read back"],
            ),
            ("never committed", &[], |world, _| world.record.gitlab.commit = None, &[]),
        ],
    );
}
