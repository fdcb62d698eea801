//! A script is written when its inputs or its tokens are others than those of the last one, and never without
//! the tokens that it needs.

use serde_json::json;

use super::*;
use crate::base::endpoint::Endpoint;
use crate::cluster::endpoint_ca::Trust;
use crate::deployment::object::FILLED_BY_CLUSTER;
use crate::gitlab::endpoint_ca::GitlabCa;
use crate::gitlab::runner::Ours;
use crate::steps::fixture::{self, World};

/// The runner stays; with a new token of it, or without.
fn keep(reset: bool) -> Verdict {
    let ours = Ours { runner: crate::gitlab::Runner::default(), managers: Vec::new(), outdated_mark: false };
    let reset = reset.then(|| "a new token".to_owned());
    Verdict::Keep { ours: Box::new(ours), update: serde_json::Value::Null, differs: Vec::new(), reset }
}

/// The script was written and used; GitLab is `https://gitlab.test`, unless a flag says otherwise.
fn base(world: &mut World) -> Seen {
    if world.run.settings.gitlab_url.is_none() {
        world.run.settings.gitlab_url = Some(Sourced::new("https://gitlab.test".to_owned(), Source::Default));
    }
    let requested = world.run.settings.token_lifetime.is_some();
    let names = &world.run.names;
    let kind = if requested { "Opaque" } else { FILLED_BY_CLUSTER };
    let secret = names.manifest(names.token_secret(), fixture::ID, &json!({"type": kind}));
    let live = world.ours(&secret);
    let trust = Trust {
        endpoint: Endpoint::parse("https://k.test:6443", "it").expect("a URL"),
        ca_pem: None,
        fingerprint: String::new(),
        days_left: 90,
        source: "the system".to_owned(),
        members: 0,
        left_out: 0,
        unproven: None,
        warnings: Vec::new(),
    };
    let inputs = Inputs {
        context: "here".to_owned(),
        trust,
        gitlab_ca: GitlabCa::default(),
        extra: toml::Table::new(),
        delivery: Delivery::of(&world.run).expect("a place"),
    };
    world.record.script_digest = inputs.script(&world.run, None).digest();
    world.record.script_target = inputs.delivery.noted();
    live.uid().clone_into(&mut world.record.script_secret);
    if requested {
        "2026-02-01T00:00:00Z".clone_into(&mut world.record.token_expires);
    }
    let verdict = Some(keep(false));
    Seen::Setup(Box::new(Setup {
        inputs,
        verdict,
        live: Some(live),
        given: Ok(None),
        exists: false,
        in_the_way: None,
    }))
}

fn at(seen: &mut Seen) -> &mut Setup {
    match seen {
        Seen::Setup(setup) => setup,
        Seen::Teardown(_) => panic!("the base sets up"),
    }
}

/// Nothing was written yet.
fn first(world: &mut World) {
    world.record.script_digest.clear();
    world.record.script_target.clear();
    world.record.script_secret.clear();
}

fn change(world: &mut World) {
    "of other inputs".clone_into(&mut world.record.script_digest);
}

fn give(seen: &mut Seen, token: &str) {
    at(seen).verdict = Some(Verdict::Given);
    at(seen).given = Ok(Some(Secret::new(token.to_owned())));
}

const GIVEN: &[&str] = &["--runner-token-file", "/t"];

#[expect(clippy::borrowed_box, reason = "it is what the step does")]
fn shown(act: &Box<Write>) -> String {
    if act.given.is_some() { "Given" } else { "Write" }.to_owned()
}

#[test]
fn decisions() {
    fixture::table(
        &LaunchScript,
        base,
        shown,
        &[
            (
                "written, and used",
                &[],
                |_, _| {},
                &["Keep: kept (the file is gone, as it should be after use)"],
            ),
            ("written", &[], |_, seen| at(seen).exists = true, &["Keep: =kept"]),
            (
                "by itself: written, and used",
                &[],
                |world, _| world.run.alone = true,
                &["Keep: --script FILE writes it again"],
            ),
            (
                "by itself, to a file that is named and not there",
                &["--script", "/tmp/none/s"],
                |world, _| world.run.alone = true,
                &[
                    "Update Write: /tmp/none/s (no secrets; keeps the tokens on the host) | run it on the host again",
                ],
            ),
            (
                "with --replace-entry",
                &["--replace-entry"],
                |_, seen| at(seen).exists = true,
                &["Update Write: run it on the host again"],
            ),
            (
                "GitLab's address is not known",
                &[],
                |world, _| world.run.settings.gitlab_url = None,
                &["Keep: not compared: --gitlab-url is not set"],
            ),
            (
                "first, and GitLab's address is not known",
                &[],
                |world, _| {
                    first(world);
                    world.run.settings.gitlab_url = None;
                },
                &["Refuse MissingInput: --gitlab-url URL"],
            ),
            (
                "no SHA-256 is known",
                &["--install-method", "binary", "--runner-version", "1.2.3"],
                |_, seen| at(seen).verdict = None,
                &[
                    "Refuse MissingInput: gitlab-runner 1.2.3 binary | --binary-sha256 HEX | --install-method apt",
                ],
            ),
            (
                "the runner was not asked about",
                &[],
                |_, seen| at(seen).verdict = None,
                &["Keep: =not compared"],
            ),
            (
                "first, with a runner that is made",
                &[],
                |world, seen| {
                    first(world);
                    at(seen).verdict = Some(Verdict::Create(json!({})));
                    at(seen).live = None;
                },
                &["Create Write: contains two secrets | its secrets can be read by | installs"],
            ),
            (
                "first, and the runner's token is out",
                &[],
                |world, _| first(world),
                &["Refuse MissingInput: GitLab shows it once | --reissue all"],
            ),
            (
                "first, without a runner",
                &[],
                |world, seen| {
                    first(world);
                    at(seen).verdict = Some(Verdict::Skipped("no token".to_owned()));
                },
                &["Refuse MissingInput: --runner-token-file PATH, or let setup create the runner"],
            ),
            (
                "first, with a token that is given",
                GIVEN,
                |world, seen| {
                    first(world);
                    give(seen, "glrt-t");
                },
                &["Create Given: contains two secrets"],
            ),
            (
                "first, with a token of an instance's own prefix",
                GIVEN,
                |world, seen| {
                    first(world);
                    give(seen, "acme-glrt-t");
                },
                &["Create Given: has an instance-specific prefix"],
            ),
            (
                "first, with a file that holds something else",
                GIVEN,
                |world, seen| {
                    first(world);
                    give(seen, "");
                    at(seen).given = Err(Failure::new(Id::InvalidInput, "that is a personal access token"));
                },
                &["Refuse InvalidInput: that is a personal access token"],
            ),
            (
                "first, with the secrets beside it",
                &[
                    "--runner-token-file",
                    "/t",
                    "--target",
                    "ssh",
                    "--secrets",
                    "separate",
                    "--script",
                    "/tmp/none/s",
                ],
                |world, seen| {
                    first(world);
                    give(seen, "glrt-t");
                },
                &["Create Given: no secrets; s.secrets next to it contains both"],
            ),
            (
                "inputs have changed",
                &[],
                |world, _| change(world),
                &["Update Write: no secrets; keeps the tokens on the host | its inputs have changed"],
            ),
            (
                "inputs have changed, with a token that is given",
                GIVEN,
                |world, seen| {
                    change(world);
                    give(seen, "glrt-t");
                },
                &["Update Given: contains two secrets | its inputs have changed"],
            ),
            (
                "inputs have changed, and a requested token is not at hand",
                &["--runner-token-file", "/t", "--token-lifetime", "31d"],
                |world, seen| {
                    change(world);
                    give(seen, "glrt-t");
                },
                &["Update Given: no secrets; keeps the tokens on the host"],
            ),
            (
                "what is added and where it comes from is told",
                &["--apt-url", "https://apt.test"],
                |world, seen| {
                    change(world);
                    at(seen).inputs.extra.insert("output_limit".to_owned(), toml::Value::Integer(1));
                },
                &["Update Write: --runner-config adds runners.output_limit | --apt-url https://apt.test"],
            ),
            (
                "the token in it is no longer the deployment's",
                &[],
                |world, _| "older".clone_into(&mut world.record.script_secret),
                &["Refuse MissingInput: GitLab shows it once | --reissue all"],
            ),
            (
                "the cluster token is gone",
                &[],
                |_, seen| at(seen).live = None,
                &["Refuse MissingInput: --reissue all"],
            ),
            (
                "the cluster token is gone, and the runner has a new one",
                &[],
                |_, seen| {
                    at(seen).live = None;
                    at(seen).verdict = Some(keep(true));
                },
                &["Update Write: contains two secrets"],
            ),
            (
                "reissue of both",
                &["--reissue", "all"],
                |_, seen| at(seen).verdict = Some(keep(true)),
                &["Update Write: contains two secrets"],
            ),
            (
                "reissue of the runner's token, and a requested one is not at hand",
                &["--reissue", "runner", "--token-lifetime", "31d"],
                |_, seen| at(seen).verdict = Some(keep(true)),
                &["Refuse MissingInput: also needs the cluster token | --reissue all"],
            ),
            (
                "for another target",
                &[],
                |world, _| "another".clone_into(&mut world.record.script_target),
                &["Refuse MissingInput: for another target, or with its secrets elsewhere"],
            ),
            (
                "for another target, with a token that is given",
                GIVEN,
                |world, seen| {
                    "another".clone_into(&mut world.record.script_target);
                    give(seen, "glrt-t");
                },
                &["Update Given: contains two secrets"],
            ),
            (
                "a file is in the way",
                &[],
                |world, seen| {
                    change(world);
                    at(seen).in_the_way = Some(Failure::new(Id::ForeignFile, "somebody's file"));
                },
                &["Refuse ForeignFile: somebody's file"],
            ),
            (
                "a file is in the way, and none is written",
                &[],
                |_, seen| at(seen).in_the_way = Some(Failure::new(Id::ForeignFile, "somebody's file")),
                &["Keep: kept"],
            ),
            ("nothing to set up", &[], |_, seen| *seen = Seen::Teardown(Vec::new()), &[]),
        ],
    );
}

#[test]
fn decisions_to_undo() {
    let shown = |path: &std::path::PathBuf| path.display().to_string();
    fixture::undo_table(
        &LaunchScript,
        base,
        shown,
        &[
            ("nothing to take away", &[], |_, _| {}, &[]),
            (
                "what was found",
                &[],
                |_, seen| {
                    let line = Line::new(Decision::Remove, "/s", std::path::PathBuf::from("/s"));
                    *seen = Seen::Teardown(vec![line, Line::keep("the VM stays")]);
                },
                &["Remove /s", "Keep: the VM stays"],
            ),
        ],
    );
}
