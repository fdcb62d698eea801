//! The script that turns a bare VM into the runner.

use super::{Done, Pending, Step};
use crate::access;
use crate::context::Context;
use crate::error::{Failure, Kind, Result};
use crate::files;
use crate::names;
use crate::plan::{Act, Decision, Line};
use crate::runner::{self, Verdict};
use crate::secret::Secret;
use crate::settings::{Need, Reissue};
use crate::template::{self, LaunchScript as Script, ScriptSecrets};
use crate::trust::{Trust, trust};

/// See the module.
pub struct LaunchScript;

impl Step for LaunchScript {
    fn name(&self) -> &'static str {
        "launch-script"
    }
    fn about(&self) -> &'static str {
        "Write the script that a VM runs at first boot"
    }
    fn long(&self) -> &'static str {
        "A POSIX shell script that installs gitlab-runner from its apt repository and configures one [[runners]] \
         entry. It holds two tokens, so it is written readable by you only; delete it after use. It is compared by \
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
            "script",
            "namespace",
            "runnerNamespace",
            "reissue",
        ]
    }
    fn flags(&self) -> &'static [&'static str] {
        &["secrets-to-stdout"]
    }
    fn gitlab(&self) -> Need {
        Need::Runner
    }

    fn undo_needs_cluster(&self) -> bool {
        false
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let trust = trust(cx).await?;
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
            let bearer = cx.facts.bearer.borrow().clone();
            let runner = runner_token(cx)?;
            let secrets = match (&bearer, &runner) {
                (Some(bearer_token), Some(runner_token)) => {
                    Some(ScriptSecrets { runner_token, bearer_token })
                }
                _ => None,
            };
            let update_only = secrets.is_none();
            let script = script(cx, trust, secrets);
            let digest = script.digest();
            let text = script.render()?;
            let size = text.expose().len();
            if size > template::LIGHTSAIL_LIMIT_BYTES {
                return Err(Failure::new(
                    "OR0503",
                    Kind::Partial,
                    format!(
                        "the script has {size} bytes, and Lightsail takes {}",
                        template::LIGHTSAIL_LIMIT_BYTES
                    ),
                )
                .hint("shorten the CA bundle: only the certificate that verifies the endpoint is needed"));
            }
            if path.as_os_str() == "-" {
                *cx.facts.script_text.borrow_mut() = Some(text);
            } else {
                if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                    files::make_dir(dir)?;
                }
                files::write_private(path, text.expose().as_bytes())?;
            }
            note(cx, &digest, path).await?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let kind = if update_only {
                " (an update script without secrets: it keeps the tokens on the host)"
            } else {
                ""
            };
            #[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
            let kilobytes = size as f64 / 1000.0;
            Ok(Done {
                changed: true,
                text: format!("wrote {name}, {kilobytes:.1} kB, readable by you only{kind}"),
            })
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let path = cx.record.borrow().script_path.clone().unwrap_or_else(|| cx.script_path());
            let Some(bytes) = files::read(&path)? else {
                return Ok(vec![Line::keep(format!("{} (already gone)", path.display()))]);
            };
            // A path from the record is a hint: only a file that says whose it is goes.
            if !template::is_ours(&String::from_utf8_lossy(&bytes), &cx.names.deployment) {
                return Ok(vec![Line::keep(format!(
                    "{} is not this deployment's script: it stays",
                    path.display()
                ))]);
            }
            Ok(vec![Line::new(Decision::Remove, path.display().to_string(), Act::RemoveFile(path))])
        })
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

fn gitlab_url(cx: &Context) -> Option<&str> {
    cx.settings.gitlab_url.as_ref().map(|url| url.value.as_str())
}

fn script<'a>(cx: &'a Context, trust: &'a Trust, secrets: Option<ScriptSecrets<'a>>) -> Script<'a> {
    let settings = &cx.settings;
    Script {
        deployment: &cx.names.deployment,
        runner_name: &cx.names.deployment,
        outrigger_version: env!("CARGO_PKG_VERSION"),
        cluster: &cx.target.context,
        kubernetes_host: &trust.endpoint.url,
        ca_pem: trust.ca_pem.as_deref(),
        gitlab_url: gitlab_url(cx).unwrap_or_default(),
        gitlab_ca_pem: cx.gitlab.ca_pem.as_deref(),
        namespace: &cx.names.job_namespace,
        job_service_account: &cx.job_account,
        image: &settings.image.value,
        runner_version: &settings.runner_version.value,
        tags: &settings.tags.value,
        apt_url: &settings.apt_url.value,
        key_url: &settings.key_url.value,
        key_fingerprint: &settings.key_fingerprint.value,
        installer_is_default: [&settings.apt_url, &settings.key_url, &settings.key_fingerprint]
            .iter()
            .all(|value| value.source == crate::settings::Source::Default),
        root: "",
        secrets,
    }
}

/// Whether this run will issue a cluster token that no script has yet: a host with the old one would
/// stop, so a script with both secrets is due.
async fn token_is_new(cx: &Context) -> Result<bool> {
    let requested = cx.settings.token_lifetime.is_some();
    let live = cx.read(&cx.names.token_secret()).await.map_err(Failure::from)?;
    Ok(live.is_none_or(|live| (live.value["type"] == "Opaque") != requested))
}

/// Whether this run can put the cluster token into a script: it will be made, or lies in its Secret.
async fn cluster_token_at_hand(cx: &Context) -> Result<bool> {
    if cx.settings.reissue.contains(&Reissue::Cluster) {
        return Ok(true);
    }
    let live = cx.read(&cx.names.token_secret()).await.map_err(Failure::from)?;
    let requested = cx.settings.token_lifetime.is_some();
    Ok(live.is_none_or(|live| live.value["type"] != "Opaque" || !requested))
}

async fn decide(cx: &Context, trust: &Trust) -> Result<Line> {
    let path = cx.script_path();
    let written = cx.written_script().await;
    if gitlab_url(cx).is_none() {
        return Ok(match written {
            Some(_) => Line::keep("not compared: without --gitlab-url its inputs are not known"),
            None => Line::refuse(
                Failure::new("OR0201", Kind::Usage, "the launch script needs GitLab's address")
                    .hint("name it with --gitlab-url URL"),
            ),
        });
    }
    let digest = script(cx, trust, None).digest();
    let runner = runner::verdict(cx).await?;
    let cluster_token_is_new = written.is_some() && token_is_new(cx).await?;
    let reissued = !cx.settings.reissue.is_empty() || cluster_token_is_new || runner.brings_token();
    let asked_again = cx.facts.alone.get()
        && matches!(&cx.settings.script, Some(script) if matches!(script.source, crate::settings::Source::Flag(_)))
        && !path.exists();
    if written.as_deref() == Some(digest.as_str()) && !reissued && !asked_again {
        let gone = path.as_os_str() != "-" && !path.exists();
        return Ok(Line::keep(if gone {
            "kept (the file is gone, as it should be after use)"
        } else {
            "kept"
        }));
    }
    let has_runner_token = cx.settings.runner_token_file.is_some() || runner.brings_token();
    if (written.is_none() || reissued) && !has_runner_token {
        let failure = Failure::new(
            "OR0201",
            Kind::Usage,
            "the launch script needs the runner authentication token (glrt-…)",
        );
        return Ok(Line::refuse(match runner {
            Verdict::Keep { .. } => failure
                .detail("because", "GitLab shows it once, and the script that has it is out")
                .hint("make both tokens anew: --reissue all; or hand over the present one: --runner-token-file PATH"),
            _ => failure.hint(
                "put it into a file that only you can read and name it with --runner-token-file PATH, or let setup create the runner: --gitlab-token-file PATH --project PATH|ID",
            ),
        }));
    }
    if has_runner_token && !cluster_token_at_hand(cx).await? {
        return Ok(Line::refuse(
            Failure::new("OR0201", Kind::Usage, "the launch script needs the cluster token, too")
                .detail("because", "a requested token is known to its host alone")
                .hint("make both tokens anew: --reissue all"),
        ));
    }
    // Read now, so that nothing is made for a token that cannot be used.
    runner_token(cx)?;
    if path.as_os_str() != "-" {
        files::check_target(&path)?;
        if cx.settings.script.is_none() && files::in_git_work_tree(&path) {
            return Ok(Line::refuse(
                Failure::new(
                    "OR0702",
                    Kind::Refused,
                    format!("{} lies in a git work tree, and the script holds secrets", path.display()),
                )
                .hint("name a place for it with --script FILE, or a state directory with --state-dir DIR"),
            ));
        }
        if let Some(bytes) = files::read(&path)?
            && !template::is_ours(&String::from_utf8_lossy(&bytes), &cx.names.deployment)
        {
            return Ok(Line::refuse(
                Failure::new(
                    "OR0702",
                    Kind::Foreign,
                    format!("{} is there and is not this deployment's script", path.display()),
                )
                .hint("name another place with --script FILE, or move that file away"),
            ));
        }
    }
    let decision = if written.is_some() { Decision::Update } else { Decision::Create };
    let secrets =
        if has_runner_token { "holds two secrets" } else { "no secrets: it keeps the tokens on the host" };
    let custom = cx.facts.runner_token.borrow().as_ref().is_some_and(|token| has_custom_prefix(token));
    let mut line = Line::new(decision, format!("{} ({secrets})", path.display()), Act::WriteScript(path));
    if decision == Decision::Update && !reissued {
        line = line.detail("its inputs have changed: run it on the host again");
    }
    if custom {
        line = line.detail("the runner's token has a prefix of this instance's own: gitlab-runner will not renew it by itself, and `gitlab-runner unregister` on the host would delete the runner at GitLab");
    }
    for (value, flag) in [
        (&cx.settings.apt_url, "--apt-url"),
        (&cx.settings.key_url, "--key-url"),
        (&cx.settings.key_fingerprint, "--key-fingerprint"),
    ] {
        if value.source != crate::settings::Source::Default {
            line = line.detail(format!("{flag} {}", value.value));
        }
    }
    Ok(line)
}

/// Reads the runner authentication token from its file, once.
fn runner_token(cx: &Context) -> Result<Option<Secret>> {
    if let Some(token) = cx.facts.runner_token.borrow().as_ref() {
        return Ok(Some(token.clone()));
    }
    let Some(path) = &cx.settings.runner_token_file else { return Ok(None) };
    let token = access::read_secret(&path.value, "runner token")?;
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
            "OR0202",
            Kind::Usage,
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
async fn note(cx: &Context, digest: &str, path: &std::path::Path) -> Result<()> {
    {
        let mut record = cx.record.borrow_mut();
        digest.clone_into(&mut record.script_digest);
        record.gitlab.token_lost = false;
        if cx.settings.runner_token_file.is_some() {
            record.gitlab.given = true;
            record.gitlab.runner = None;
        } else if record.gitlab.runner.is_some() {
            record.gitlab.given = false;
        }
        record.script_path =
            (path.as_os_str() != "-").then(|| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    }
    cx.save()?;
    let expires = cx.record.borrow().token_expires.clone();
    let mut annotations = serde_json::json!({names::SCRIPT_DIGEST: digest});
    let runner = {
        let gitlab = &cx.record.borrow().gitlab;
        let id = gitlab.runner.as_ref().map(|runner| runner.id.to_string());
        id.or_else(|| gitlab.given.then(|| names::GIVEN.to_owned()))
    };
    if let Some(runner) = runner {
        annotations[names::RUNNER] = serde_json::json!(runner);
    }
    if !expires.is_empty() {
        annotations[names::TOKEN_EXPIRES] = serde_json::json!(expires);
    }
    let account = cx.names.account();
    if let Some(live) = cx.read(&account).await.map_err(Failure::from)? {
        let patch = serde_json::json!({"metadata": {"uid": live.uid(), "annotations": annotations}});
        let live = cx.cluster.merge(&account, &patch).await.map_err(Failure::from)?;
        cx.changed(&account, Some(live));
    }
    Ok(())
}
