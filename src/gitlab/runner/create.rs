//! Makes the runner and its token. GitLab makes neither idempotent: what is about to happen goes to disk
//! first, what came of it right after.

use serde_json::{Value, json};

use super::{Found, by_mark, description};
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::deployment::record::OwnedRunner;
use crate::gitlab::credentials;
use crate::gitlab::{Class, Gitlab, Refusal, Route, number};
use crate::steps::context::Context;

/// Intent to disk, POST, id to disk, before anything else. GitLab does not make this call idempotent:
/// after a lost answer the runner is looked for by its mark.
pub async fn create(cx: &Context, body: &Value) -> Result<String> {
    let gitlab = cx.gitlab()?;
    intend(cx)?;
    let what = "create the runner";
    let mut body = body.clone();
    body["description"] = json!(description(cx).await);
    match gitlab.post(what, &Route::of(&["user", "runners"]), &body).await {
        Ok(answer) => own(cx, &answer).await,
        Err(refusal) if refusal.is_ambiguous() => settled(cx, refusal).await,
        Err(refusal) => {
            cx.record.borrow_mut().gitlab.intent = None;
            cx.record.borrow_mut().gitlab.token_lost = false;
            cx.save()?;
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
fn intend(cx: &Context) -> Result<()> {
    {
        let gitlab = &mut cx.record.borrow_mut().gitlab;
        gitlab.url = cx.settings.gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
        gitlab.runner = None;
        gitlab.intent = Some(jiff::Timestamp::now().to_string());
        gitlab.token_lost = true;
        gitlab.handed_over = false;
    }
    cx.save()
}

/// Notes the runner that GitLab made and keeps its token for the script.
async fn own(cx: &Context, answer: &Value) -> Result<String> {
    let Some(id) = number(&answer["id"]) else {
        return Err(Failure::new(Id::NotGitlab, "GitLab's answer to the creation holds no runner")
            .hint("run the same command again: it looks for the runner by its mark")
            .passing());
    };
    let creator = cx.facts.instance.get().and_then(|instance| instance.user);
    {
        let gitlab = &mut cx.record.borrow_mut().gitlab;
        gitlab.intent = None;
        gitlab.runner = Some(OwnedRunner { id, creator, made: jiff::Timestamp::now().to_string() });
    }
    cx.save()?;
    match answer["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => keep_token(cx, token, &answer["token_expires_at"])?,
        None => reset(cx, id).await?,
    }
    Ok(format!("runner {id}"))
}

/// The answer was lost: the runner is there or it is not.
async fn settled(cx: &Context, refusal: Refusal) -> Result<String> {
    match by_mark(cx, true).await? {
        Found::Ours(ours) => {
            let id = ours.runner.id;
            {
                let gitlab = &mut cx.record.borrow_mut().gitlab;
                gitlab.intent = None;
                gitlab.runner = Some(OwnedRunner {
                    id,
                    creator: ours.runner.creator.map(|(id, _)| id),
                    made: jiff::Timestamp::now().to_string(),
                });
            }
            cx.save()?;
            reset(cx, id).await?;
            Ok(format!("runner {id} (its creation's answer was lost: found by its mark, given a new token)"))
        }
        _ => Err(Failure::from(refusal)
            .hint("whether the runner was made is not known: run the same command again, it looks first")
            .passing()),
    }
}

/// Makes the runner's token anew.
pub async fn reset(cx: &Context, id: u64) -> Result<()> {
    {
        let gitlab = &mut cx.record.borrow_mut().gitlab;
        gitlab.token_lost = true;
        gitlab.handed_over = false;
    }
    cx.save()?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "reset_authentication_token"]);
    let answer =
        cx.gitlab()?.post(&format!("make the token of runner {id} anew"), &route, &json!({})).await?;
    let Some(token) = answer["token"].as_str().filter(|token| !token.is_empty()) else {
        return Err(Failure::new(Id::NotGitlab, format!("GitLab gave no new token for runner {id}"))
            .hint("run the same command again")
            .passing());
    };
    keep_token(cx, token, &answer["token_expires_at"])
}

/// Keeps a token for the script, and when it ends: gitlab-runner renews by that what is in its file.
fn keep_token(cx: &Context, token: &str, expires: &Value) -> Result<()> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::new(Id::NotGitlab, "GitLab gave a runner token that no header can carry"));
    }
    *cx.facts.runner_token.borrow_mut() = Some(Secret::new(token));
    let expires = expires.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    *cx.facts.runner_expires.borrow_mut() =
        expires.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    Ok(())
}

/// The article's way, on instances that still allow it.
pub async fn register(cx: &Context, body: &Value) -> Result<String> {
    let Some(path) = &cx.settings.legacy_registration_token_file else { return Ok(String::new()) };
    let token = credentials::read_secret(&cx.intake, &path.value, "registration token").await?;
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
    let Some(url) = &cx.settings.gitlab_url else { return Ok(String::new()) };
    // No access token goes with it: the registration token in the body is what counts.
    let gitlab = Gitlab::connect(
        &url.value,
        None,
        &cx.gitlab.roots,
        &cx.limits,
        cx.settings.request_timeout,
        &cx.gitlab.proxies,
    )?;
    let mut body = body.clone();
    body["token"] = json!(token.expose());
    body["description"] = json!(description(cx).await);
    intend(cx)?;
    match gitlab.post("register the runner", &Route::of(&["runners"]), &body).await {
        Ok(answer) => own(cx, &answer).await,
        Err(refusal) if refusal.is_ambiguous() && cx.gitlab.client.is_some() => settled(cx, refusal).await,
        Err(refusal) if refusal.is_ambiguous() => Err(Failure::from(refusal)
            .hint("whether the runner was made is not known: look in GitLab (Settings, CI/CD, Runners) before you try again")),
        Err(refusal) => {
            let gone = refusal.class == Class::Gone;
            cx.record.borrow_mut().gitlab.intent = None;
            cx.record.borrow_mut().gitlab.token_lost = false;
            cx.save()?;
            let failure = Failure::from(refusal);
            Err(if gone {
                failure.hint("create the runner instead: --gitlab-token-file PATH --project PATH|ID")
            } else {
                failure
            })
        }
    }
}
