//! Creates the runner and its token. Neither call is idempotent: the intent is recorded before, the result right
//! after.

use std::path::Path;

use serde_json::{Value, json};

use super::{Found, by_mark, description};
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::deployment::record::{OwnedRunner, RunnerNote, TokenPlace};
use crate::gitlab::credentials;
use crate::gitlab::view::{Hand, RunnerToken};
use crate::gitlab::{Class, Gitlab, Refusal, Route, number};

/// A created runner.
pub struct Made {
    /// For example `runner 7`.
    pub text: String,
    pub token: RunnerToken,
}

/// Creates the runner; if the response is lost, finds it by its mark.
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
            if !forbidden {
                return Err(failure);
            }
            // app/policies/project_policy.rb: project_runner_registration_allowed
            Err(failure
                .hint("if runner creation by members is disabled, ask an administrator (Admin, CI/CD, Runners) or an owner of the group")
                .hint("or use the token of a runner that another user creates: --runner-token-file PATH"))
        }
    }
}

/// Records the intent, so that a later run finds the runner of a killed one.
fn intend(hand: &Hand) -> Result<()> {
    let url = hand.run.settings.gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
    hand.journal.write(|record| {
        let gitlab = &mut record.gitlab;
        gitlab.url = url;
        gitlab.runner = RunnerNote::Creating(jiff::Timestamp::now().to_string());
    })
}

/// Records the created runner and returns its token.
async fn own(hand: &Hand, answer: &Value) -> Result<Made> {
    let Some(id) = number(&answer["id"]) else {
        return Err(Failure::new(Id::NotGitlab, "GitLab's response to the runner creation is not a runner")
            .hint("run the same command again: it looks for the runner by its mark")
            .passing());
    };
    note(hand, id, jiff::Timestamp::now().to_string())?;
    let token = match token_of(answer)? {
        Some(token) => noted(hand, token)?,
        None => reset(hand, id).await?,
    };
    Ok(Made { text: format!("runner {id}"), token })
}

/// Looks for the runner after a lost response.
async fn settled(hand: &Hand, refusal: Refusal) -> Result<Made> {
    match by_mark(hand, true).await? {
        Found::Ours(ours) => {
            let id = ours.runner.id;
            note(hand, id, jiff::Timestamp::now().to_string())?;
            let token = reset(hand, id).await?;
            let text = format!("runner {id} (found by its mark after a lost response, token reset)");
            Ok(Made { text, token })
        }
        _ => Err(Failure::from(refusal)
            .hint("the runner may have been created: run the same command again, it looks for it first")
            .passing()),
    }
}

/// Resets the runner's token.
pub async fn reset(hand: &Hand, id: u64) -> Result<RunnerToken> {
    let made = hand.notes.record().gitlab.owned().map(|runner| runner.made.clone());
    note(hand, id, made.unwrap_or_default())?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number, "reset_authentication_token"]);
    let answer = hand.client()?.post(&format!("reset the token of runner {id}"), &route, &json!({})).await?;
    let token = token_of(&answer)?.ok_or_else(|| {
        Failure::new(Id::NotGitlab, format!("GitLab's response has no new token for runner {id}"))
            .hint("run the same command again")
            .passing()
    })?;
    noted(hand, token)
}

/// Records when the token expires.
fn noted(hand: &Hand, token: RunnerToken) -> Result<RunnerToken> {
    if let Some(expires) = &token.expires {
        hand.journal.write(|record| {
            if let RunnerNote::Ours(runner) = &mut record.gitlab.runner {
                runner.expires.clone_from(expires);
            }
        })?;
    }
    Ok(token)
}

/// The token in a response, with its expiry, at which gitlab-runner renews it.
fn token_of(answer: &Value) -> Result<Option<RunnerToken>> {
    let Some(token) = answer["token"].as_str().filter(|token| !token.is_empty()) else { return Ok(None) };
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "GitLab's runner token contains a character that HTTP headers do not allow";
        return Err(Failure::new(Id::NotGitlab, message));
    }
    let expires = answer["token_expires_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let expires = expires.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    Ok(Some(RunnerToken { token: Secret::new(token), expires }))
}

/// Records the runner, with its token as lost until it is written to a script or file.
fn note(hand: &Hand, id: u64, made: String) -> Result<()> {
    let runner = OwnedRunner { id, made, token: TokenPlace::Lost, ..OwnedRunner::default() };
    hand.journal.write(|record| record.gitlab.runner = RunnerNote::Ours(runner))
}

/// Registers a runner with a registration token, if GitLab allows it.
pub async fn register(hand: &Hand, body: &Value, path: &Path) -> Result<Made> {
    let token = credentials::read_secret(&hand.intake, path, "registration token").await?;
    if token.expose().contains("glrt-") || token.expose().is_empty() {
        let message = "the registration token file does not contain a registration token";
        return Err(Failure::new(Id::InvalidInput, message)
            .detail(
                "because",
                if token.expose().is_empty() { "it is empty" } else { "it is a runner authentication token" },
            )
            .hint("use --runner-token-file for a runner authentication token"));
    }
    let url = hand.run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    // Without an access token: the registration token is in the body.
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
            .hint("the runner may have been created: check in GitLab (Settings, CI/CD, Runners) before you try again")),
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
