//! The file is committed if there is none, or over its own; over a foreign one only with --overwrite-pipeline.

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
    Seen::State(Box::new(State { wanted: NEW.to_owned(), ..fixture::pipeline_state() }))
}

fn at(seen: &mut Seen) -> &mut State {
    match seen {
        Seen::State(state) => state,
        _ => panic!("the base is a state"),
    }
}

/// The record has a commit with the old text.
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
                "creates a missing file",
                &[],
                |_, _| {},
                &["Create Write over nothing: .gitlab-ci.yml on main | GitLab's lint: valid"],
            ),
            (
                "creates a missing file on a new branch",
                &[],
                |_, seen| at(seen).start = Some("main".to_owned()),
                &["Create Write over nothing: a new branch from main"],
            ),
            (
                "keeps an equal file, also without the right to push",
                &[],
                |_, seen| {
                    at(seen).present = present(NEW);
                    at(seen).may_push = false;
                },
                &["Keep: =kept: .gitlab-ci.yml on main"],
            ),
            (
                "creates a new branch also for an equal file",
                &[],
                |_, seen| {
                    at(seen).present = present(NEW);
                    at(seen).start = Some("main".to_owned());
                },
                &["Create Write over c0ffee00: a new branch from main"],
            ),
            (
                "refuses if the lint finds errors",
                &[],
                |_, seen| at(seen).lint = Some((vec!["no stages".to_owned()], Vec::new())),
                &["Refuse PipelineLint: lint error: no stages"],
            ),
            (
                "shows warnings of the lint",
                &[],
                |_, seen| at(seen).lint = Some((Vec::new(), vec!["a doubtful rule".to_owned()])),
                &["Create Write over nothing: lint warning: a doubtful rule"],
            ),
            (
                "shows that the token may not lint",
                &[],
                |_, seen| at(seen).lint = None,
                &["Create Write over nothing: not linted: the token may not lint"],
            ),
            (
                "refuses without the right to push",
                &[],
                |_, seen| at(seen).may_push = false,
                &["Refuse GitlabForbidden: you may not push to the branch main | --branch NAME"],
            ),
            (
                "refuses without the right to push to a protected branch",
                &["--overwrite-pipeline"],
                |_, seen| {
                    at(seen).may_push = false;
                    at(seen).protected = true;
                    at(seen).present = present(OLD);
                },
                &["Refuse GitlabForbidden: you may not push to the protected branch main"],
            ),
            (
                "refuses a foreign file with other content",
                &[],
                |_, seen| at(seen).present = present(OLD),
                &[
                    "Refuse PipelineFileDiffers: already exists with other content | -   tags: [a] | --overwrite-pipeline",
                ],
            ),
            (
                "updates a foreign file with --overwrite-pipeline",
                &["--overwrite-pipeline"],
                |_, seen| at(seen).present = present(OLD),
                &[UPDATE],
            ),
            (
                "updates its own unchanged file",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).present = present(OLD);
                },
                &[UPDATE],
            ),
            (
                "refuses its own file after a foreign change",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).present = present("job: {}\n");
                },
                &["Refuse PipelineFileDiffers"],
            ),
            (
                "refuses the recorded content on another branch",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).branch = "other".to_owned();
                    at(seen).present = present(OLD);
                },
                &["Refuse PipelineFileDiffers"],
            ),
            (
                "refuses the recorded content in another project",
                &[],
                |world, seen| {
                    committed(world);
                    at(seen).project = 8;
                    at(seen).present = present(OLD);
                },
                &["Refuse PipelineFileDiffers"],
            ),
            (
                "covers a change that create-runner's line includes",
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
                "shows a change that create-runner's line includes only in part",
                &[],
                |world, seen| {
                    committed(world);
                    world.forecast.tags_announced = true;
                    at(seen).present = present(OLD);
                },
                &[UPDATE],
            ),
            (
                "shows that the file was not read",
                &[],
                |_, seen| *seen = Seen::Skipped("no token".to_owned()),
                &["NotChecked!: no token"],
            ),
            (
                "refuses with each obstacle",
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
fn planned_commit_is_in_the_forecast() {
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
                "deletes the unchanged file",
                &[],
                |_, _| {},
                &["Remove Delete over c0ffee00: commit 01234567 | delete the file"],
            ),
            (
                "restores the content before its commit",
                &[],
                |_, seen| *seen = Seen::Revert(present(OLD), Some(NEW.to_owned())),
                &["Remove Write over c0ffee00: restore the earlier content"],
            ),
            (
                "keeps a changed file",
                &[],
                |_, seen| *seen = Seen::Revert(present(NEW), None),
                &["Keep: changed since the commit"],
            ),
            (
                "shows that the file is already gone",
                &[],
                |_, seen| *seen = Seen::Revert(None, None),
                &["Keep: already gone"],
            ),
            (
                "keeps the commit without --revert-pipeline",
                &[],
                |_, seen| *seen = Seen::Stays,
                &["Keep: --revert-pipeline"],
            ),
            (
                "keeps the commit with --gitlab-gone",
                &[],
                |world, seen| {
                    world.run.options.gitlab_gone = true;
                    *seen = Seen::Stays;
                },
                &["Keep: --gitlab-gone: not read back"],
            ),
            ("no line without a recorded commit", &[], |world, _| world.record.gitlab.commit = None, &[]),
        ],
    );
}
