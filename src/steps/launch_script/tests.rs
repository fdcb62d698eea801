//! A script is written if its inputs or its tokens have changed, and only with the tokens that it needs.

use serde_json::json;

use super::*;
use crate::deployment::object::FILLED_BY_CLUSTER;
use crate::gitlab::endpoint_ca::GitlabCa;
use crate::gitlab::runner::Ours;
use crate::steps::fixture::{self, World};

/// The runner is kept; its token is reset, or not.
fn keep(reset: bool) -> Verdict {
    let ours = Ours { runner: crate::gitlab::Runner::default(), managers: Vec::new(), outdated_mark: false };
    let reset = reset.then(|| "a new token".to_owned());
    Verdict::Keep { ours: Box::new(ours), update: serde_json::Value::Null, differs: Vec::new(), reset }
}

/// The script was written, and its file deleted. Without a flag, GitLab is `https://gitlab.test`.
fn base(world: &mut World) -> Seen {
    if world.run.settings.gitlab_url.is_none() {
        world.run.settings.gitlab_url = Some(Sourced::new("https://gitlab.test".to_owned(), Source::Default));
    }
    let requested = world.run.settings.token_lifetime.is_some();
    let names = &world.run.names;
    let kind = if requested { "Opaque" } else { FILLED_BY_CLUSTER };
    let secret = names.manifest(names.token_secret(""), fixture::ID, &json!({"type": kind}));
    let live = world.ours(&secret);
    let inputs = Inputs {
        context: "here".to_owned(),
        trust: fixture::trust(),
        gitlab_ca: GitlabCa::default(),
        extra: toml::Table::new(),
        cache: None,
        proxy: None,
        credentials: String::new(),
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
        on_host: None,
        delivery_refusal: None,
    }))
}

fn at(seen: &mut Seen) -> &mut Setup {
    match seen {
        Seen::Setup(setup) => setup,
        Seen::Teardown(_) => panic!("the base sets up"),
    }
}

/// No script was written yet.
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

#[expect(clippy::borrowed_box, reason = "the type of the act")]
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
                "keeps a script whose file is gone",
                &[],
                |_, _| {},
                &["Keep: kept (the file is gone, as it should be after use)"],
            ),
            (
                "writes it again for credentials that have changed",
                &[],
                |world, seen| {
                    "cache=1 proxy=5".clone_into(&mut world.record.script_credentials);
                    "cache=2 proxy=5".clone_into(&mut at(seen).inputs.credentials);
                },
                &["Update Write: a file with its credentials has changed: run it on the host again"],
            ),
            (
                "keeps it for the same credentials, and for those of which nothing is noted",
                &[],
                |world, seen| {
                    "cache=1".clone_into(&mut world.record.script_credentials);
                    "cache=1 proxy=5".clone_into(&mut at(seen).inputs.credentials);
                },
                &["Keep: kept"],
            ),
            (
                "keeps it where the file with credentials is gone",
                &[],
                |world, _| "cache=1".clone_into(&mut world.record.script_credentials),
                &["Keep: kept"],
            ),
            ("keeps a script whose file exists", &[], |_, seen| at(seen).exists = true, &["Keep: =kept"]),
            (
                "alone: keeps a script whose file is gone",
                &[],
                |world, _| world.run.alone = true,
                &["Keep: --script FILE writes it again"],
            ),
            (
                "alone: writes a missing file named by --script",
                &["--script", "/tmp/none/s"],
                |world, _| world.run.alone = true,
                &[
                    "Update Write: /tmp/none/s (no secrets; keeps the tokens on the host) | run it on the host again",
                ],
            ),
            (
                "writes the script with --replace-entry",
                &["--replace-entry"],
                |_, seen| at(seen).exists = true,
                &["Update Write: run it on the host again"],
            ),
            (
                "keeps the script without a GitLab URL",
                &[],
                |world, _| world.run.settings.gitlab_url = None,
                &["NotChecked!: takes --gitlab-url"],
            ),
            (
                "requires a GitLab URL for the first script",
                &[],
                |world, _| {
                    first(world);
                    world.run.settings.gitlab_url = None;
                },
                &["Refuse MissingInput: --gitlab-url URL"],
            ),
            (
                "refuses a binary without a known SHA-256",
                &["--install-method", "binary", "--runner-version", "1.2.3"],
                |_, seen| at(seen).verdict = None,
                &[
                    "Refuse MissingInput: gitlab-runner 1.2.3 binary | --binary-sha256 HEX | --install-method apt",
                ],
            ),
            (
                "keeps the script without a verdict about the runner",
                &[],
                |_, seen| at(seen).verdict = None,
                &["NotChecked!: the runner is not known"],
            ),
            (
                "writes the first script for a new runner",
                &[],
                |world, seen| {
                    first(world);
                    at(seen).verdict = Some(Verdict::Create(json!({})));
                    at(seen).live = None;
                },
                &["Create Write: contains two secrets | its secrets can be read by | installs"],
            ),
            (
                "refuses the first script if the runner's token is unknown",
                &[],
                |world, _| first(world),
                &["Refuse MissingInput: GitLab shows it once | --reissue all"],
            ),
            (
                "refuses the first script without a runner",
                &[],
                |world, seen| {
                    first(world);
                    at(seen).verdict = Some(Verdict::Skipped("no token".to_owned()));
                },
                &["Refuse MissingInput: --runner-token-file PATH, or let setup create the runner"],
            ),
            (
                "writes the first script with --runner-token-file",
                GIVEN,
                |world, seen| {
                    first(world);
                    give(seen, "glrt-t");
                },
                &["Create Given: contains two secrets"],
            ),
            (
                "shows the limits of a token with an instance's prefix",
                GIVEN,
                |world, seen| {
                    first(world);
                    give(seen, "acme-glrt-t");
                },
                &["Create Given: has an instance-specific prefix"],
            ),
            (
                "refuses a wrong --runner-token-file",
                GIVEN,
                |world, seen| {
                    first(world);
                    give(seen, "");
                    at(seen).given = Err(Failure::new(Id::InvalidInput, "that is a personal access token"));
                },
                &["Refuse InvalidInput: that is a personal access token"],
            ),
            (
                "writes the secrets to a separate file with --secrets separate",
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
                &["Create Given: no secrets; s.secrets next to it contains both tokens"],
            ),
            (
                "writes an update script if the inputs have changed",
                &[],
                |world, _| change(world),
                &["Update Write: no secrets; keeps the tokens on the host | its inputs have changed"],
            ),
            (
                "writes a full script if the inputs have changed and both tokens are known",
                GIVEN,
                |world, seen| {
                    change(world);
                    give(seen, "glrt-t");
                },
                &["Update Given: contains two secrets | its inputs have changed"],
            ),
            (
                "writes an update script if the requested token is unknown",
                &["--runner-token-file", "/t", "--token-lifetime", "31d"],
                |world, seen| {
                    change(world);
                    give(seen, "glrt-t");
                },
                &["Update Given: no secrets; keeps the tokens on the host"],
            ),
            (
                "shows additions and settings that are not defaults",
                &["--apt-url", "https://apt.test"],
                |world, seen| {
                    change(world);
                    at(seen).inputs.extra.insert("output_limit".to_owned(), toml::Value::Integer(1));
                },
                &["Update Write: --runner-config adds runners.output_limit | --apt-url https://apt.test"],
            ),
            (
                "shows settings of the whole runner and their effect",
                &["--concurrent", "2", "--listen-address", ":9252"],
                |world, _| change(world),
                &[
                    "Update Write: for the whole gitlab-runner: concurrent = 2, listen_address :9252 | no authentication | at most 2 jobs",
                ],
            ),
            (
                "says that an update script has credentials",
                &["--cache-type", "s3", "--cache-bucket", "b", "--cache-credentials-file", "/k"],
                |world, seen| {
                    change(world);
                    at(seen).inputs.cache = "Type = \"s3\"\n[s3]\nSecretKey = \"x\"".parse().ok();
                },
                &["Update Write: credentials, no tokens; keeps the tokens | s3 b, with the credentials of"],
            ),
            (
                "brings only the cluster token if the runner's is on the host",
                &[],
                |world, _| "older".clone_into(&mut world.record.script_secret),
                &["Update Write: launch.sh.secrets next to it contains the cluster token"],
            ),
            (
                "does not overwrite the only copy of the runner's token",
                &[],
                |world, seen| {
                    "older".clone_into(&mut world.record.script_secret);
                    at(seen).exists = true;
                    if let Some(Verdict::Keep { ours, .. }) = &mut at(seen).verdict {
                        "never_contacted".clone_into(&mut ours.runner.status);
                    }
                },
                &["Refuse MissingInput: GitLab shows it once | --reissue all"],
            ),
            (
                "brings only the cluster token if a machine has used the runner's",
                &[],
                |world, seen| {
                    "older".clone_into(&mut world.record.script_secret);
                    at(seen).exists = true;
                    if let Some(Verdict::Keep { ours, .. }) = &mut at(seen).verdict {
                        ours.managers.push(crate::gitlab::Manager::default());
                    }
                },
                &["Update Write: launch.sh.secrets next to it contains the cluster token"],
            ),
            (
                "refuses on a host without tokens",
                &[],
                |world, seen| {
                    "older".clone_into(&mut world.record.script_secret);
                    at(seen).on_host =
                        Some(OnHost { digest: String::new(), has_tokens: false, version: String::new() });
                },
                &["Refuse MissingInput: GitLab shows it once | --reissue all"],
            ),
            (
                "brings only the cluster token after its loss",
                &[],
                |_, seen| at(seen).live = None,
                &["Update Write: contains the cluster token"],
            ),
            (
                "writes a full script after a reset of the runner's token",
                &[],
                |_, seen| {
                    at(seen).live = None;
                    at(seen).verdict = Some(keep(true));
                },
                &["Update Write: contains two secrets"],
            ),
            (
                "writes a full script with --reissue all",
                &["--reissue", "all"],
                |_, seen| at(seen).verdict = Some(keep(true)),
                &["Update Write: contains two secrets"],
            ),
            (
                "brings only the runner's token if the requested cluster token is on the host",
                &["--reissue", "runner", "--token-lifetime", "31d"],
                |_, seen| at(seen).verdict = Some(keep(true)),
                &["Update Write: launch.sh.secrets next to it contains the runner's token"],
            ),
            (
                "refuses the runner's token alone for another target",
                &["--reissue", "runner", "--token-lifetime", "31d"],
                |world, seen| {
                    at(seen).verdict = Some(keep(true));
                    "another".clone_into(&mut world.record.script_target);
                },
                &["Refuse MissingInput: also needs the cluster token | --reissue all"],
            ),
            (
                "refuses another target if the runner's token is unknown",
                &[],
                |world, _| "another".clone_into(&mut world.record.script_target),
                &["Refuse MissingInput: for another target, or with its secrets elsewhere"],
            ),
            (
                "writes a full script for another target if both tokens are known",
                GIVEN,
                |world, seen| {
                    "another".clone_into(&mut world.record.script_target);
                    give(seen, "glrt-t");
                },
                &["Update Given: contains two secrets"],
            ),
            (
                "refuses to overwrite a foreign file",
                &[],
                |world, seen| {
                    change(world);
                    at(seen).delivery_refusal = Some(Failure::new(Id::ForeignFile, "somebody's file"));
                },
                &["Refuse ForeignFile: somebody's file"],
            ),
            (
                "ignores a foreign file if it writes none",
                &[],
                |_, seen| at(seen).delivery_refusal = Some(Failure::new(Id::ForeignFile, "somebody's file")),
                &["Keep: kept"],
            ),
            ("no line for teardown", &[], |_, seen| *seen = Seen::Teardown(Vec::new()), &[]),
        ],
    );
}

#[test]
fn decisions_to_undo() {
    let shown = |path: &PathBuf| path.display().to_string();
    fixture::undo_table(
        &LaunchScript,
        base,
        shown,
        &[
            ("no line for setup", &[], |_, _| {}, &[]),
            (
                "shows the lines of its files",
                &[],
                |_, seen| {
                    let line = Line::new(Decision::Remove, "/s", PathBuf::from("/s"));
                    *seen = Seen::Teardown(vec![line, Line::keep("the VM stays")]);
                },
                &["Remove /s", "Keep: the VM stays"],
            ),
        ],
    );
}
