//! The script that turns a bare VM into the runner.

use super::{Done, Pending, Step};
use crate::base::error::{Failure, Id, Result};
use crate::base::files;
use crate::base::secret::Secret;
use crate::cluster::endpoint_ca::{Trust, trust};
use crate::cluster::token::renewal;
use crate::deployment::names;
use crate::deployment::plan::{Act, Decision, Line};
use crate::gitlab::credentials;
use crate::gitlab::runner::{self, Verdict};
use crate::machine::script_files::{self, Delivery};
use crate::machine::{Method, ScriptSecrets, config_entry};
use crate::settings::{Need, Source, Sourced};
use crate::steps::context::Context;
use crate::steps::inputs::{gitlab_url, method, read_extra, script, sha256};

/// See the module.
pub struct LaunchScript;

/// More than the tokens have, which are not there yet when the script's size is checked: some 1,000 bytes
/// for the cluster's, 50 for GitLab's.
const LONGEST_BEARER: usize = 1_200;
const LONGEST_RUNNER: usize = 100;

impl Step for LaunchScript {
    fn name(&self) -> &'static str {
        "launch-script"
    }
    fn about(&self) -> &'static str {
        "Write the script that a VM runs at first boot"
    }
    fn long(&self) -> &'static str {
        "A POSIX shell script that installs gitlab-runner from its apt repository and configures one [[runners]] \
         entry. It holds two tokens, so it is written readable by you only; delete it after use. Where it will run \
         (--target) decides how long it may be, who can read it back there, and whether the tokens go into a file \
         of their own beside it (--secrets); --print-commands prints the commands that bring it there, --uninstall the \
         script that takes everything back on a host that lives on. It is compared by \
         the digest of its inputs, so a deleted script is no difference. When inputs changed and the tokens are not \
         at hand, an update script without secrets is written, which keeps the tokens on the host."
    }
    fn keys(&self) -> &'static [&'static str] {
        &[
            "gitlabUrl",
            "gitlabTokenFile",
            "gitlabCaFile",
            "project",
            "runnerTokenFile",
            "kubernetesHost",
            "tags",
            "image",
            "runnerVersion",
            "aptUrl",
            "keyUrl",
            "keyFingerprint",
            "installMethod",
            "debSha256",
            "binaryUrl",
            "binarySha256",
            "jobLimit",
            "pullPolicy",
            "runnerConfig",
            "replaceEntry",
            "script",
            "target",
            "secrets",
            "lockMetadata",
            "namespace",
            "runnerNamespace",
            "reissue",
            "tokenLifetime",
            "accept",
        ]
    }
    fn flags(&self) -> &'static [&'static str] {
        &["secrets-to-stdout", "print-commands", "uninstall"]
    }
    fn gitlab(&self) -> Need {
        Need::Runner
    }

    fn undo_needs_cluster(&self) -> bool {
        false
    }

    /// The cluster token that it writes, proven as ever.
    fn pulls_in(&self) -> &'static [&'static str] {
        &["issue-token"]
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let trust = trust(cx).await?;
            read_extra(cx).await?;
            Ok(vec![decide(cx, trust).await?])
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let Some(line) = lines.first() else { return Ok(Done::default()) };
            let Act::WriteScript(path) = &line.act else {
                return Ok(Done { changed: false, text: line.text.clone() });
            };
            let trust = trust(cx).await?;
            read_extra(cx).await?;
            let bearer = cx.facts.bearer.borrow().clone();
            let runner = runner_token(cx).await?;
            let expires = cx.facts.runner_expires.borrow().clone();
            let secrets = match (&bearer, &runner) {
                (Some(bearer_token), Some(runner_token)) => {
                    Some(ScriptSecrets { runner_token, bearer_token, runner_expires: expires.as_deref() })
                }
                _ => None,
            };
            let with_secrets = secrets.is_some();
            let delivery = Delivery::of(cx)?;
            let digest = script(cx, &delivery, trust, None).digest();
            let inline = if delivery.placement.separate { None } else { secrets };
            let (text, _, made) = document(cx, &delivery, trust, inline, with_secrets)?;
            let size = text.expose().len();
            let to_stdout = path.as_os_str() == "-";
            if to_stdout {
                *cx.facts.script_text.borrow_mut() = Some(text);
            } else {
                delivery.write(cx, text.expose(), secrets)?;
            }
            note(cx, &digest, &delivery, with_secrets).await?;
            cx.facts.script_written.set(Some(with_secrets));
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let kind = if with_secrets {
                made.map(|made| format!(", {made}")).unwrap_or_default()
            } else {
                " (an update script without secrets: it keeps the tokens on the host)".to_owned()
            };
            #[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
            let kilobytes = size as f64 / 1000.0;
            Ok(Done {
                changed: true,
                text: if to_stdout {
                    format!("{kilobytes:.1} kB to stdout{kind}")
                } else if with_secrets && delivery.placement.separate {
                    format!("wrote {name}, {kilobytes:.1} kB, and {name}.secrets, readable by you only")
                } else {
                    format!("wrote {name}, {kilobytes:.1} kB, readable by you only{kind}")
                },
            })
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move { script_files::undo_lines(cx).await })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut changed = false;
            for line in lines {
                if let Act::RemoveFile(path) = &line.act {
                    changed |= files::remove(path)?;
                    if path.starts_with(&cx.settings.state_dir)
                        && let Some(dir) = path.parent()
                    {
                        files::remove_empty_dir(dir);
                    }
                }
            }
            Ok(Done { changed, text: if changed { "removed".to_owned() } else { "already gone".to_owned() } })
        })
    }
}

/// What the target is handed, a warning if it barely fits, and what was done to it to fit. Without secrets anywhere it is for a host
/// that is up: the plain script, whatever a new VM would have been handed.
///
/// # Errors
/// OR0711 for a script that is too long for the target.
fn document(
    cx: &Context,
    delivery: &Delivery,
    trust: &Trust,
    inline: Option<ScriptSecrets<'_>>,
    with_secrets: bool,
) -> Result<(Secret, Option<String>, Option<&'static str>)> {
    let script = script(cx, delivery, trust, inline);
    if !with_secrets {
        return Ok((script.render()?, None, None));
    }
    let (script, made) = script.fitting()?;
    let target = delivery.placement.target;
    let document = target.wrap(script.expose(), &cx.names.deployment);
    let warning = target.check_size(&document)?;
    Ok((Secret::new(document), warning, made))
}

async fn decide(cx: &Context, trust: &Trust) -> Result<Line> {
    let delivery = Delivery::of(cx)?;
    let path = delivery.script.clone();
    let written = cx.written_script().await;
    if gitlab_url(cx).is_none() {
        return Ok(match written {
            Some(_) => Line::keep("not compared: without --gitlab-url its inputs are not known"),
            None => Line::refuse(
                Failure::new(Id::MissingInput, "the launch script needs GitLab's address")
                    .hint("name it with --gitlab-url URL"),
            ),
        });
    }
    if method(cx) == Method::Binary && sha256(cx).is_none() {
        return Ok(Line::refuse(
            Failure::new(
                Id::MissingInput,
                format!(
                    "nothing tells the right gitlab-runner {} from a wrong one",
                    cx.settings.runner_version.value
                ),
            )
            .detail("because", "a binary is trusted for its SHA-256 alone, and none is known for this one")
            .hint("take it from GitLab's signed release.sha256 of that version: --binary-sha256 HEX")
            .hint("or have apt check signatures: --install-method apt"),
        ));
    }
    let digest = script(cx, &delivery, trust, None).digest();
    let runner = runner::verdict(cx).await?;
    let live = cx.read(&cx.names.token_secret()).await.map_err(Failure::from)?;
    // A host with the old token would stop: a script with both secrets is due.
    let stale = renewal::script_is_stale(cx, live.as_ref()).await;
    let another = written.is_some() && delivery.is_another(cx).await;
    let reissued =
        !cx.settings.reissue.is_empty() || (written.is_some() && stale) || another || runner.brings_token();
    let renewed = match &live {
        Some(live) => renewal::renewal(cx, live).await.is_some(),
        None => true,
    };
    let bearer_at_hand = renewed || live.as_ref().is_some_and(renewal::is_readable);
    let asked_again = cx.facts.alone.get()
        && matches!(&cx.settings.script, Some(script) if matches!(script.source, crate::settings::Source::Flag(_)))
        && !path.exists();
    // The digest does not tell what the script does with an entry that somebody changed.
    let to_replace = cx.settings.replace_entry
        && matches!(cx.settings.sources.get("replaceEntry"), Some(crate::settings::Source::Flag(_)));
    let same = written.as_deref() == Some(digest.as_str());
    if same && !reissued && !asked_again && !to_replace {
        let gone = path.as_os_str() != "-" && !path.exists();
        return Ok(Line::keep(match (gone, cx.facts.alone.get()) {
            (true, true) => {
                "kept (the file is gone, as it should be after use; --script FILE writes it again)"
            }
            (true, false) => "kept (the file is gone, as it should be after use)",
            (false, _) => "kept",
        }));
    }
    let has_runner_token = cx.settings.runner_token_file.is_some() || runner.brings_token();
    if (written.is_none() || reissued) && !has_runner_token {
        let failure = Failure::new(
            Id::MissingInput,
            "the launch script needs the runner authentication token (glrt-…)",
        );
        let failure = if another {
            failure.detail(
                "because",
                "for another target, or with its secrets elsewhere, the whole script is due",
            )
        } else {
            failure
        };
        return Ok(Line::refuse(match runner {
            Verdict::Keep { .. } => failure
                .detail("because", "GitLab shows it once, and the script that has it is out")
                .hint("make both tokens anew: --reissue all; or hand over the present one: --runner-token-file PATH"),
            _ => failure.hint(
                "put it into a file that only you can read and name it with --runner-token-file PATH, or let setup create the runner: --gitlab-token-file PATH --project PATH|ID",
            ),
        }));
    }
    if reissued && !bearer_at_hand {
        return Ok(Line::refuse(
            Failure::new(Id::MissingInput, "a script with a new token needs the cluster token, too")
                .detail("because", "a requested one is known to its host alone")
                .hint("take new ones of both: --reissue all"),
        ));
    }
    // Read now, so that nothing is made for a token that cannot be used.
    runner_token(cx).await?;
    delivery.check(cx)?;
    let decision = if written.is_some() { Decision::Update } else { Decision::Create };
    let with_secrets = has_runner_token && bearer_at_hand;
    // Too long a script is refused before anything is made for it.
    let (runner_token, bearer_token) =
        (Secret::new("x".repeat(LONGEST_RUNNER)), Secret::new("x".repeat(LONGEST_BEARER)));
    let inline = (with_secrets && !delivery.placement.separate).then_some(ScriptSecrets {
        runner_token: &runner_token,
        bearer_token: &bearer_token,
        runner_expires: None,
    });
    let (_, warning, _) = document(cx, &delivery, trust, inline, with_secrets)?;
    let secrets = match delivery.secrets().and_then(|path| path.file_name().map(std::ffi::OsStr::to_owned)) {
        _ if !with_secrets => "no secrets: it keeps the tokens on the host".to_owned(),
        None => "holds two secrets".to_owned(),
        Some(name) => format!("no secrets: {} beside it holds both", name.to_string_lossy()),
    };
    let known = if sha256(cx).is_some() { "its SHA-256 is checked" } else { "its SHA-256 is not known here" };
    let by = match method(cx) {
        Method::Binary => format!("installs the binary of gitlab-runner; {known}"),
        method => format!("installs gitlab-runner by {}, from signed lists; {known}", method.word()),
    };
    let custom = cx.facts.runner_token.borrow().as_ref().is_some_and(has_custom_prefix);
    let mut line = Line::new(decision, format!("{} ({secrets})", path.display()), Act::WriteScript(path));
    line = delivery.about(line, with_secrets).detail(by);
    for text in warning.into_iter().chain(trust.gitlab.note.clone()) {
        line = line.detail(text);
    }
    if decision == Decision::Update && !reissued {
        line = line.detail(if same {
            "run it on the host again"
        } else {
            "its inputs have changed: run it on the host again"
        });
    }
    if custom {
        line = line.detail("the runner's token has a prefix of this instance's own: gitlab-runner will not renew it by itself, and `gitlab-runner unregister` on the host would delete the runner at GitLab");
    }
    let added = cx.facts.runner_extra.get().map(config_entry::added).unwrap_or_default();
    if !added.is_empty() {
        line = line.detail(format!("--runner-config adds {}", added.join(", ")));
    }
    if let Some(url) = &cx.settings.binary_url {
        line = line.detail(given("--binary-url", url));
    }
    for (value, flag) in [
        (&cx.settings.apt_url, "--apt-url"),
        (&cx.settings.key_url, "--key-url"),
        (&cx.settings.key_fingerprint, "--key-fingerprint"),
    ] {
        if value.source != Source::Default {
            line = line.detail(given(flag, value));
        }
    }
    Ok(line)
}

/// Where a part of the installation comes from, and who said so.
fn given(flag: &'static str, value: &Sourced<String>) -> String {
    match &value.source {
        Source::Flag(_) => format!("{flag} {}", value.value),
        source => format!("{flag} {} ({source})", value.value),
    }
}

/// Reads the runner authentication token from its file, once.
async fn runner_token(cx: &Context) -> Result<Option<Secret>> {
    if let Some(token) = cx.facts.runner_token.borrow().as_ref() {
        return Ok(Some(token.clone()));
    }
    let Some(path) = &cx.settings.runner_token_file else { return Ok(None) };
    let token = credentials::read_secret(&cx.intake, &path.value, "runner token").await?;
    check_runner_token(&token)?;
    *cx.facts.runner_token.borrow_mut() = Some(token.clone());
    Ok(Some(token))
}

/// What is certainly no runner authentication token is refused before anything is made. Instances may
/// set a prefix of their own in front of `glrt-`, so only known wrong kinds are named.
fn check_runner_token(token: &Secret) -> Result<()> {
    let text = token.expose();
    let wrong = |why: &str, hint: &str| {
        Err(Failure::new(
            Id::InvalidInput,
            "the runner token file does not hold a runner authentication token",
        )
        .detail("because", why)
        .hint(hint.to_owned()))
    };
    let create = "create the runner in GitLab (Settings, CI/CD, Runners) and use the token shown there, which begins with glrt-";
    if text.is_empty() {
        return wrong("it is empty", create);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("it holds a blank, a line break or another character that no token has", create);
    }
    // glrtr- is what such a token was once exchanged for: a runner's own, and good.
    if text.starts_with("GR1348941") {
        return wrong(
            "it is a registration token, with which the article made a runner; GitLab has switched that off by default",
            "let setup create the runner: --gitlab-token-file PATH --project PATH|ID; where registration tokens are still allowed: --legacy-registration-token-file PATH",
        );
    }
    if text.starts_with("glpat-") {
        return wrong("it is a personal access token: that belongs into --gitlab-token-file", create);
    }
    Ok(())
}

/// Whether an instance has put its own prefix before `glrt-`, which gitlab-runner 19 does not look for.
fn has_custom_prefix(token: &Secret) -> bool {
    let text = token.expose();
    text.contains("-glrt-") && !text.starts_with("glrt-")
}

/// Remembers what was written: in the record, and on the anchor for other machines.
async fn note(cx: &Context, digest: &str, delivery: &Delivery, with_secrets: bool) -> Result<()> {
    let secret = cx.read(&cx.names.token_secret()).await.map_err(Failure::from)?;
    {
        let mut record = cx.record.borrow_mut();
        digest.clone_into(&mut record.script_digest);
        record.script_target = delivery.noted();
        record.gitlab.token_lost = false;
        // A token that create-runner handed over comes back in such a file: that runner is ours.
        let handed_over = std::mem::take(&mut record.gitlab.handed_over);
        if cx.settings.runner_token_file.is_some() {
            record.gitlab.given = !handed_over;
        } else if record.gitlab.runner.is_some() {
            record.gitlab.given = false;
        }
        record.script_path =
            (delivery.script.as_os_str() != "-").then(|| script_files::absolute(&delivery.script));
        if with_secrets && let Some(secret) = &secret {
            secret.uid().clone_into(&mut record.script_secret);
        }
    }
    cx.save()?;
    // A merge patch: null takes away the expiry of a token that was followed by one without.
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let annotations = {
        let record = cx.record.borrow();
        let gitlab = &record.gitlab;
        let runner = gitlab.runner.as_ref().map(|runner| runner.id.to_string());
        let runner = runner.or_else(|| gitlab.given.then(|| names::GIVEN.to_owned()));
        serde_json::json!({
            names::SCRIPT_DIGEST: digest,
            names::SCRIPT_SECRET: some(&record.script_secret),
            names::SCRIPT_TARGET: record.script_target,
            names::RUNNER: runner,
            names::TOKEN_EXPIRES: some(&record.token_expires),
        })
    };
    let account = cx.names.account();
    if let Some(live) = cx.anchor().await {
        let patch = serde_json::json!({"metadata": {"uid": live.uid(), "annotations": annotations}});
        let live = cx.cluster.merge(&account, &patch).await.map_err(Failure::from)?;
        cx.changed(&account, Some(live));
    }
    Ok(())
}
