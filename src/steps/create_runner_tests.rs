//! The runner is created once, updated if it differs, and deleted only if it belongs to the deployment.

use super::*;
use crate::deployment::record::{OwnedRunner, RunnerNote};
use crate::gitlab::{Manager, Runner};
use crate::steps::fixture::{self, World};

fn ours() -> Ours {
    let runner = Runner { id: 101, status: "never_contacted".to_owned(), ..Runner::default() };
    Ours { runner, managers: Vec::new(), outdated_mark: false }
}

fn verdict(verdict: Verdict) -> Seen {
    Seen::Setup {
        verdict,
        project: Some("acme/hello".to_owned()),
        obstacles: Vec::new(),
        condition: Condition { text: "fine".to_owned(), ..Condition::default() },
    }
}

/// An existing runner.
fn kept(change: impl FnOnce(&mut Ours), update: &Value, differs: &[&str], reset: Option<&str>) -> Seen {
    let mut ours = ours();
    change(&mut ours);
    verdict(Verdict::Keep {
        ours: Box::new(ours),
        update: update.clone(),
        differs: differs.iter().map(|&text| text.to_owned()).collect(),
        reset: reset.map(str::to_owned),
    })
}

fn base(_: &mut World) -> Seen {
    kept(|_| {}, &Value::Null, &[], None)
}

fn shown(act: &Act) -> String {
    match act {
        Act::Create(body) => format!("Create {}", body["runner_type"].as_str().unwrap_or_default()),
        Act::Register(body) => format!("Register {}", body["tag_list"].as_str().unwrap_or_default()),
        Act::Update(id, body) => format!("Update {id} {body}"),
        Act::Mark(id) => format!("Mark {id}"),
        Act::Reset(id) => format!("Reset {id}"),
    }
}

#[test]
fn decisions() {
    fixture::table(
        &CreateRunner,
        base,
        shown,
        &[
            (
                "no change with --runner-token-file",
                &[],
                |_, seen| *seen = verdict(Verdict::Given),
                &["NotNeeded: the runner exists, its token is given | not checked"],
            ),
            (
                "shows that the runner was not read",
                &[],
                |_, seen| *seen = verdict(Verdict::Skipped("no token".to_owned())),
                &["NotChecked!: no token"],
            ),
            (
                "creates a project runner",
                &["--tags", "a,b"],
                |_, seen| *seen = verdict(Verdict::Create(json!({"runner_type": "project_type"}))),
                &["Create Create project_type: project runner in acme/hello: locked, only jobs tagged a,b"],
            ),
            (
                "creates a group runner",
                &[],
                |_, seen| *seen = verdict(Verdict::Create(json!({"runner_type": "group_type"}))),
                &["Create Create group_type: group runner: locked"],
            ),
            (
                "creates an instance runner",
                &[],
                |_, seen| *seen = verdict(Verdict::Create(json!({"runner_type": "instance_type"}))),
                &["Create Create instance_type: instance runner: locked"],
            ),
            (
                "refuses with each obstacle, and shows the plan",
                &[],
                |_, seen| {
                    *seen = verdict(Verdict::Create(json!({"runner_type": "project_type"})));
                    let Seen::Setup { obstacles, .. } = seen else { return };
                    obstacles.push(Failure::new(Id::GitlabTokenScope, "the scope is too narrow"));
                    obstacles.push(Failure::new(Id::MissingInput, "no file takes the token"));
                },
                &["Create Create project_type", "Refuse GitlabTokenScope", "Refuse MissingInput"],
            ),
            (
                "registers a runner with a registration token",
                &["--tags", "a"],
                |_, seen| *seen = verdict(Verdict::Legacy(Found::None)),
                &["Create Register a: the article's way | GitLab 20.0 | can neither read nor delete"],
            ),
            (
                "keeps a registered runner that it cannot read",
                &[],
                |world, seen| {
                    world.record.gitlab.runner = RunnerNote::Ours(OwnedRunner::default());
                    *seen = verdict(Verdict::Legacy(Found::None));
                },
                &["NotChecked!: registered earlier, and reading it takes a GitLab token"],
            ),
            (
                "keeps a registered runner that it found",
                &[],
                |_, seen| *seen = verdict(Verdict::Legacy(Found::Ours(Box::new(ours())))),
                &["Keep: kept: runner 101, fine"],
            ),
            ("keeps a runner in place", &[], |_, _| {}, &["Keep: kept: runner 101, fine"]),
            (
                "shows what keeps a runner from taking jobs",
                &[],
                |_, seen| {
                    let Seen::Setup { condition, .. } = seen else { return };
                    condition.problems.push(("runner 101 is paused".to_owned(), "resume it"));
                },
                &["Keep: kept: runner 101, fine", "Unhealthy!: runner 101 is paused | resume it"],
            ),
            (
                "updates the tags of the runner only",
                &[],
                |_, seen| *seen = kept(|_| {}, &json!({"tag_list": ["b"]}), &["tags a -> b"], None),
                &["Update Update 101 {\"tag_list\":[\"b\"]}: runner 101: tags a -> b | --commit-pipeline"],
            ),
            (
                "updates the tags of the runner and the pipeline file in one line",
                &[],
                |world, seen| {
                    world.run.parts.push(Part::Commit);
                    *seen = kept(|_| {}, &json!({"tag_list": ["b"]}), &["tags a -> b"], None);
                },
                &["Update Update 101 {\"tag_list\":[\"b\"]}: runner 101 and the pipeline file: tags a -> b"],
            ),
            (
                "locks the runner again",
                &[],
                |world, seen| {
                    world.run.parts.push(Part::Commit);
                    *seen = kept(|_| {}, &json!({"locked": true}), &["locked"], None);
                },
                &["Update Update 101 {\"locked\":true}: runner 101: locked"],
            ),
            (
                "updates an outdated mark",
                &[],
                |_, seen| *seen = kept(|ours| ours.outdated_mark = true, &Value::Null, &[], None),
                &[
                    "Update Mark 101: the mark in its description | the mark must name the current ServiceAccount",
                ],
            ),
            (
                "resets the token of an unused runner",
                &[],
                |_, seen| *seen = kept(|_| {}, &Value::Null, &[], Some("a new token (--reissue)")),
                &["Replace Reset 101: runner 101: a new token (--reissue)"],
            ),
            (
                "names the hosts that stop after a token reset",
                &[],
                |_, seen| {
                    let used = |ours: &mut Ours| {
                        ours.managers.push(Manager { system_id: "s_1".to_owned(), ..Manager::default() });
                    };
                    *seen = kept(used, &Value::Null, &[], Some("a new token"));
                },
                &["Replace Reset 101: stops until the new script has run there: s_1"],
            ),
            (
                "makes all changes together",
                &[],
                |_, seen| {
                    let marked = |ours: &mut Ours| ours.outdated_mark = true;
                    *seen = kept(marked, &json!({"locked": true}), &["locked"], Some("a new token"));
                },
                &["Update Update 101 {\"locked\":true}", "Update Mark 101", "Replace Reset 101"],
            ),
        ],
    );
}

#[test]
fn changed_tags_are_in_the_forecast() {
    for (update, announced) in
        [(json!({"tag_list": ["b"]}), true), (json!({"locked": true}), false), (Value::Null, false)]
    {
        let differs: &[&str] = if update.is_null() { &[] } else { &["it differs"] };
        let seen = kept(|_| {}, &update, differs, None);
        let forecast = World::new(&[]).deciding(|d| CreateRunner.decide(d, &seen)).forecast;
        assert_eq!(forecast.tags_announced, announced, "{update}");
    }
}

#[test]
fn decisions_to_undo() {
    let shown = |act: &Delete| format!("Delete {}", act.id);
    let recorded = |world: &mut World| {
        world.record.gitlab.url = "https://gitlab.example".to_owned();
        world.record.gitlab.runner = RunnerNote::Ours(OwnedRunner { id: 101, ..OwnedRunner::default() });
        Seen::Teardown(
            Found::Ours(Box::new(ours())),
            Condition { text: "no contact yet".to_owned(), ..Condition::default() },
        )
    };
    fixture::undo_table(
        &CreateRunner,
        recorded,
        shown,
        &[
            (
                "deletes the deployment's runner",
                &[],
                |_, _| {},
                &["Remove Delete 101: runner 101 (no contact yet)"],
            ),
            (
                "shows that the runner is already gone",
                &[],
                |_, seen| *seen = Seen::Teardown(Found::None, Condition::default()),
                &["Keep: the runner in GitLab (already gone)"],
            ),
            (
                "no line if no runner was created",
                &[],
                |world, seen| {
                    world.record.gitlab.runner = RunnerNote::None;
                    *seen = Seen::Teardown(Found::None, Condition::default());
                },
                &[],
            ),
            (
                "shows that there is no runner after an interrupted creation",
                &[],
                |world, seen| {
                    world.record.gitlab.runner = RunnerNote::Creating("2025-12-31T23:59:00Z".to_owned());
                    *seen = Seen::Teardown(Found::None, Condition::default());
                },
                &["Keep: already gone"],
            ),
            (
                "refuses a recorded runner that it cannot read",
                &[],
                |_, seen| *seen = Seen::Teardown(Found::Skipped("no token".to_owned()), Condition::default()),
                &[
                    "Refuse MissingInput: runner 101 at https://gitlab.example | because: no token | --gitlab-gone",
                ],
            ),
            (
                "keeps the runner with --gitlab-gone",
                &[],
                |_, seen| *seen = Seen::Gone,
                &["Keep: runner 101 at https://gitlab.example (--gitlab-gone: not read back)"],
            ),
            (
                "no line with --gitlab-gone if no runner was created",
                &[],
                |world, seen| {
                    world.record.gitlab.runner = RunnerNote::None;
                    *seen = Seen::Gone;
                },
                &[],
            ),
        ],
    );
}
