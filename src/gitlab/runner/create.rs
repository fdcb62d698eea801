//! Makes the runner and its token. GitLab makes neither idempotent: what is about to happen goes to disk
//! first, what came of it right after.

use std::path::Path;

use serde_json::{Value, json};

use super::{Found, by_mark, description};
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::deployment::record::{OwnedRunner, RunnerNote, TokenPlace};
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
pub async fn create(hand: &Hand, body: &Value) -> Result<Made> {
    let gitlab = hand.client()?;
    intend(hand)?;
    let what = "create the runner";
    let mut body = body.clone();
    body["description"] = json!(description(hand));
    match gitlab.post(what, &Route::of(&["user", "runners"]), &body).await {
        Ok(answer) => own(hand, &answer).await,
        Err(refusal) if refusal.is_ambiguous() => settled(hand, refusal).await,
        Err(refusal) => {
            hand.journal.write(|record| record.gitlab.runner = RunnerNote::None)?;
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
fn intend(hand: &Hand) -> Result<()> {
    let url = hand.run.settings.gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
    hand.journal.write(|record| {
        let gitlab = &mut record.gitlab;
        gitlab.url = url;
        gitlab.runner = RunnerNote::Creating(jiff::Timestamp::now().to_string());
    })
}

/// Notes the runner that GitLab made and keeps its token for the script.
async fn own(hand: &Hand, answer: &Value) -> Result<Made> {
    let Some(id) = number(&answer["id"]) else {
        return Err(Failure::new(Id::NotGitlab, "GitLab's answer to the creation holds no runner")
            .hint("run the same command again: it looks for the runner by its mark")
            .passing());
    };
    made(hand, id)?;
    let token = match answer["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => shown(token, &answer["token_expires_at"])?,
        None => reset(hand, id).await?,
    };
    Ok(Made { text: format!("runner {id}"), token })
}

/// The answer was lost: the runner is there or it is not.
async fn settled(hand: &Hand, refusal: Refusal) -> Result<Made> {
    match by_mark(hand, true).await? {
        Found::Ours(ours) => {
            let id = ours.runner.id;
            made(hand, id)?;
            let token = reset(hand, id).await?;
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
pub async fn reset(hand: &Hand, id: u64) -> Result<RunnerToken> {
    hand.journal.write(|record| {
        let made = record.gitlab.owned().map(|runner| runner.made.clone()).unwrap_or_default();
        record.gitlab.runner = RunnerNote::Ours(OwnedRunner { id, made, token: TokenPlace::Lost });
    })?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "reset_authentication_token"]);
    let answer =
        hand.client()?.post(&format!("make the token of runner {id} anew"), &route, &json!({})).await?;
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
fn made(hand: &Hand, id: u64) -> Result<()> {
    hand.journal.write(|record| {
        let made = jiff::Timestamp::now().to_string();
        record.gitlab.runner = RunnerNote::Ours(OwnedRunner { id, made, token: TokenPlace::Lost });
    })
}

/// The article's way, on instances that still allow it.
pub async fn register(hand: &Hand, body: &Value, path: &Path) -> Result<Made> {
    let token = credentials::read_secret(&hand.intake, path, "registration token").await?;
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
    let url = hand.run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    // No access token goes with it: the registration token in the body is what counts.
    let gitlab = Gitlab::connect(
        url,
        None,
        &hand.access.roots,
        &hand.limits,
        hand.run.settings.request_timeout,
        &hand.access.proxies,
    )?;
    let mut body = body.clone();
    body["token"] = json!(token.expose());
    body["description"] = json!(description(hand));
    intend(hand)?;
    match gitlab.post("register the runner", &Route::of(&["runners"]), &body).await {
        Ok(answer) => own(hand, &answer).await,
        Err(refusal) if refusal.is_ambiguous() && hand.access.client.is_some() => settled(hand, refusal).await,
        Err(refusal) if refusal.is_ambiguous() => Err(Failure::from(refusal)
            .hint("whether the runner was made is not known: look in GitLab (Settings, CI/CD, Runners) before you try again")),
        Err(refusal) => {
            let gone = refusal.class == Class::Gone;
            hand.journal.write(|record| record.gitlab.runner = RunnerNote::None)?;
            let failure = Failure::from(refusal);
            Err(if gone {
                failure.hint("create the runner instead: --gitlab-token-file PATH --project PATH|ID")
            } else {
                failure
            })
        }
    }
}
