//! Makes the runner and its token. GitLab makes neither idempotent: what is about to happen goes to disk
//! first, what came of it right after.

use std::path::Path;

use serde_json::{Value, json};

use super::{Found, by_mark, description};
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::deployment::record::OwnedRunner;
use crate::gitlab::credentials;
use crate::gitlab::view::{Hand, RunnerToken};
use crate::gitlab::{Class, Gitlab, Refusal, Route, number};

/// A runner that GitLab has just made.
pub struct Made {
    /// Which, for the reader.
    pub text: String,
    /// Its token, shown once.
    pub token: RunnerToken,
}

/// Intent to disk, POST, id to disk, before anything else. GitLab does not make this call idempotent:
/// after a lost answer the runner is looked for by its mark.
pub async fn create(cx: &Hand, body: &Value) -> Result<Made> {
    let gitlab = cx.client()?;
    intend(cx)?;
    let what = "create the runner";
    let mut body = body.clone();
    body["description"] = json!(description(cx));
    match gitlab.post(what, &Route::of(&["user", "runners"]), &body).await {
        Ok(answer) => own(cx, &answer).await,
        Err(refusal) if refusal.is_ambiguous() => settled(cx, refusal).await,
        Err(refusal) => {
            cx.journal.write(|record| {
                record.gitlab.intent = None;
                record.gitlab.token_lost = false;
            })?;
            let forbidden = refusal.class == Class::Forbidden;
            let failure = Failure::from(refusal);
            Err(if forbidden { not_allowed(failure) } else { failure })
        }
    }
}

/// A refusal that need not be for a role (`app/policies/project_policy.rb`: `project_runner_registration_allowed`).
fn not_allowed(failure: Failure) -> Failure {
    failure
        .hint(
            "or an administrator (Admin, CI/CD, Runners) or an owner of the group has switched off that members create runners: then ask one of them",
        )
        .hint("or hand over the token of a runner that somebody else creates: --runner-token-file PATH")
}

/// Notes that a runner is about to be made, so that a run that is killed leaves a trace.
fn intend(cx: &Hand) -> Result<()> {
    let url = cx.run.settings.gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
    cx.journal.write(|record| {
        let gitlab = &mut record.gitlab;
        gitlab.url = url;
        gitlab.runner = None;
        gitlab.intent = Some(jiff::Timestamp::now().to_string());
        gitlab.token_lost = true;
        gitlab.handed_over = false;
    })
}

/// Notes the runner that GitLab made and keeps its token for the script.
async fn own(cx: &Hand, answer: &Value) -> Result<Made> {
    let Some(id) = number(&answer["id"]) else {
        return Err(Failure::new(Id::NotGitlab, "GitLab's answer to the creation holds no runner")
            .hint("run the same command again: it looks for the runner by its mark")
            .passing());
    };
    let creator = cx.instance.get().and_then(|instance| instance.user);
    made(cx, id, creator)?;
    let token = match answer["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => shown(token, &answer["token_expires_at"])?,
        None => reset(cx, id).await?,
    };
    Ok(Made { text: format!("runner {id}"), token })
}

/// The answer was lost: the runner is there or it is not.
async fn settled(cx: &Hand, refusal: Refusal) -> Result<Made> {
    match by_mark(cx, true).await? {
        Found::Ours(ours) => {
            let id = ours.runner.id;
            made(cx, id, ours.runner.creator.map(|(id, _)| id))?;
            let token = reset(cx, id).await?;
            let text =
                format!("runner {id} (its creation's answer was lost: found by its mark, given a new token)");
            Ok(Made { text, token })
        }
        _ => Err(Failure::from(refusal)
            .hint("whether the runner was made is not known: run the same command again, it looks first")
            .passing()),
    }
}

/// Makes the runner's token anew.
pub async fn reset(cx: &Hand, id: u64) -> Result<RunnerToken> {
    cx.journal.write(|record| {
        record.gitlab.token_lost = true;
        record.gitlab.handed_over = false;
    })?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "reset_authentication_token"]);
    let answer =
        cx.client()?.post(&format!("make the token of runner {id} anew"), &route, &json!({})).await?;
    let Some(token) = answer["token"].as_str().filter(|token| !token.is_empty()) else {
        return Err(Failure::new(Id::NotGitlab, format!("GitLab gave no new token for runner {id}"))
            .hint("run the same command again")
            .passing());
    };
    shown(token, &answer["token_expires_at"])
}

/// A token that GitLab has shown, and when it ends: gitlab-runner renews by that what is in its file.
fn shown(token: &str, expires: &Value) -> Result<RunnerToken> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::new(Id::NotGitlab, "GitLab gave a runner token that no header can carry"));
    }
    let expires = expires.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let expires = expires.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    Ok(RunnerToken { token: Secret::new(token), expires })
}

/// Writes down which runner is ours.
fn made(cx: &Hand, id: u64, creator: Option<u64>) -> Result<()> {
    cx.journal.write(|record| {
        record.gitlab.intent = None;
        record.gitlab.runner = Some(OwnedRunner { id, creator, made: jiff::Timestamp::now().to_string() });
    })
}

/// The article's way, on instances that still allow it.
pub async fn register(cx: &Hand, body: &Value, path: &Path) -> Result<Made> {
    let token = credentials::read_secret(&cx.intake, path, "registration token").await?;
    if token.expose().contains("glrt-") || token.expose().is_empty() {
        return Err(Failure::new(
            Id::InvalidInput,
            "the registration token file does not hold a registration token",
        )
        .detail(
            "because",
            if token.expose().is_empty() { "it is empty" } else { "it is a runner authentication token" },
        )
        .hint("a runner authentication token belongs into --runner-token-file"));
    }
    let url = cx.run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    // No access token goes with it: the registration token in the body is what counts.
    let gitlab = Gitlab::connect(
        url,
        None,
        &cx.access.roots,
        &cx.limits,
        cx.run.settings.request_timeout,
        &cx.access.proxies,
    )?;
    let mut body = body.clone();
    body["token"] = json!(token.expose());
    body["description"] = json!(description(cx));
    intend(cx)?;
    match gitlab.post("register the runner", &Route::of(&["runners"]), &body).await {
        Ok(answer) => own(cx, &answer).await,
        Err(refusal) if refusal.is_ambiguous() && cx.access.client.is_some() => settled(cx, refusal).await,
        Err(refusal) if refusal.is_ambiguous() => Err(Failure::from(refusal)
            .hint("whether the runner was made is not known: look in GitLab (Settings, CI/CD, Runners) before you try again")),
        Err(refusal) => {
            let gone = refusal.class == Class::Gone;
            cx.journal.write(|record| {
                record.gitlab.intent = None;
                record.gitlab.token_lost = false;
            })?;
            let failure = Failure::from(refusal);
            Err(if gone {
                failure.hint("create the runner instead: --gitlab-token-file PATH --project PATH|ID")
            } else {
                failure
            })
        }
    }
}
