//! The runner's credential for the cluster, and the proof that it does what it must and nothing more.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Done, Pending, Step, count};
use crate::base::error::{Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::wait::{self, Pace};
use crate::cluster::deletion;
use crate::cluster::rights::Right;
use crate::cluster::token::claims;
use crate::cluster::token::proof;
use crate::cluster::token::renewal;
use crate::deployment::object::{FILLED_BY_CLUSTER, Object};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Act, Decision, Line};
use crate::steps::context::Context;
use crate::steps::looks::looked_at;

/// See the module.
pub struct IssueToken;

/// Under a week, jobs stop before anybody remembers why.
const SHORT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A controller that works takes milliseconds.
const FILLED_WITHIN: Duration = Duration::from_secs(30);

impl Step for IssueToken {
    fn name(&self) -> &'static str {
        "issue-token"
    }
    fn about(&self) -> &'static str {
        "Issue the runner's cluster token and prove what it may do; never prints it"
    }
    fn long(&self) -> &'static str {
        "By default a Secret of type kubernetes.io/service-account-token, which does not expire; with \
         --token-lifetime a requested token, bound to a Secret of ours so that it can be revoked. Then the proof, with \
         a fresh client built of host, CA and token alone, as the runner will be: who it is, exactly the Role's \
         rights in three namespaces, and a list of things that it must not be able to do."
    }
    fn keys(&self) -> &'static [&'static str] {
        &["namespace", "runnerNamespace", "kubernetesHost", "tokenLifetime", "accept", "reissue"]
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let live = cx.read(&cx.names.token_secret()).await.map_err(Failure::from)?;
            let owner = match &live {
                Some(live) => cx.owner(live),
                None => Owner::Us,
            };
            // Asked for by itself, it must not find out half-way that nobody is there to have a token.
            if cx.facts.alone.get() && cx.read(&cx.names.account()).await.map_err(Failure::from)?.is_none() {
                return Ok(vec![Line::refuse(
                    Failure::new(
                        Id::MissingPrerequisite,
                        format!("{} is not there yet, and a token is for an account", cx.names.account()),
                    )
                    .hint("everything in its order: outrigger setup")
                    .hint("step by step: outrigger create-namespaces, then outrigger create-role"),
                )]);
            }
            let renewal = match &live {
                Some(live) => renewal::renewal(cx, live).await,
                None => None,
            };
            let expires = renewal::expiry(cx).await;
            let lines = decide(cx, live.as_ref(), &owner, renewal.as_deref(), expires.as_deref());
            if lines.iter().any(|line| matches!(line.act, Act::RequestToken(_))) {
                may_request(cx).await?;
            }
            // One that is there already has passed, and another of its name would be judged beside it.
            Ok(if live.is_none() { looked_at(cx, lines, &[]).await } else { lines })
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut changed = false;
            for line in lines {
                match &line.act {
                    Act::Create(object) => {
                        cx.record.borrow_mut().token_expires.clear();
                        cx.create(object).await?;
                        changed = true;
                    }
                    Act::Replace(uid, object) => {
                        cx.record.borrow_mut().token_expires.clear();
                        cx.replace(&object.reference, uid).await?;
                        cx.create(object).await?;
                        changed = true;
                    }
                    Act::RequestToken(object) => {
                        if let Some(live) = cx.read(&object.reference).await.map_err(Failure::from)? {
                            // What would be granted is found out before the token in use is revoked.
                            request(cx, &live).await?;
                            cx.replace(&object.reference, live.uid()).await?;
                        }
                        let handle = cx.create(object).await?;
                        if let Err(failure) = request(cx, &handle).await {
                            // Nobody has that token: it goes with the Secret it hangs on.
                            cx.replace(&handle.reference, handle.uid()).await?;
                            return Err(failure);
                        }
                        changed = true;
                    }
                    _ => {}
                }
            }
            let proven = proven(cx).await?;
            Ok(Done { changed, text: if changed { proven } else { format!("kept, {proven}") } })
        })
    }

    fn prove<'a>(&'a self, cx: &'a Context) -> Pending<'a, Option<String>> {
        Box::pin(async move {
            if cx.read(&cx.names.token_secret()).await.map_err(Failure::from)?.is_none() {
                return Ok(None);
            }
            Ok(Some(proven(cx).await?))
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let reference = cx.names.token_secret();
            let Some(live) = cx.read(&reference).await.map_err(Failure::from)? else { return Ok(Vec::new()) };
            Ok(vec![match cx.owner(&live) {
                Owner::Us => Line::new(
                    Decision::Remove,
                    deletion::shown(&live),
                    Act::Delete(reference, live.uid().to_owned()),
                ),
                Owner::NotUs(why) => Line::refuse(ownership::foreign(&live, &why)),
            }])
        })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            for line in lines {
                let Act::Delete(reference, uid) = &line.act else { continue };
                // The token is read before its Secret goes, to see it refused afterwards.
                let token = cx.read(reference).await.map_err(Failure::from)?.and_then(|live| token_in(&live));
                let what = match cx.delete(&cx.cluster, reference, uid).await? {
                    None => "deleted Secret".to_owned(),
                    // It is waited for when the rest is done; the token ends with the wish.
                    Some(live) => deletion::shown(&live),
                };
                let Some(token) = token else {
                    return Ok(Done {
                        changed: true,
                        text: format!("{what}; revocation not verified (the token is not at hand)"),
                    });
                };
                let waited = revoked(cx, &token).await?;
                return Ok(Done {
                    changed: true,
                    text: format!("{what}; the old token gets 401 (after {waited} s)"),
                });
            }
            Ok(Done { changed: false, text: "nothing to delete".to_owned() })
        })
    }
}

/// Requesting a token is a right of its own, and the old one must not be gone when it turns out missing.
async fn may_request(cx: &Context) -> Result<()> {
    let right = Right::new("", "serviceaccounts/token", "create");
    let namespace = &cx.names.runner_namespace;
    if cx.may(&cx.cluster, namespace, &right).await.map_err(Failure::from)? {
        return Ok(());
    }
    Err(Failure::new(Id::MissingRights, "you may not request a token, which --token-lifetime needs")
        .detail(format!("in {namespace}"), right.to_string())
        .hint("ask an administrator for that right, or leave out --token-lifetime for a token that does not expire"))
}

fn decide(
    cx: &Context,
    live: Option<&Object>,
    owner: &Owner,
    renewal: Option<&str>,
    expires: Option<&str>,
) -> Vec<Line> {
    let reference = cx.names.token_secret();
    let wanted = manifest(cx);
    let requested = cx.settings.token_lifetime.as_ref();
    let create = |decision| match requested {
        None => Line::new(
            decision,
            format!("{reference} of type service-account-token, does not expire"),
            Act::Create(wanted.clone()),
        ),
        Some(lifetime) => Line::new(
            decision,
            format!("token for {}, bound to {reference}", span(lifetime.value)),
            Act::RequestToken(wanted.clone()),
        ),
    };
    let Some(live) = live else { return vec![create(Decision::Create)] };
    if let Owner::NotUs(why) = owner {
        return vec![Line::refuse(ownership::foreign(live, why))];
    }
    if live.is_terminating() {
        return vec![Line::refuse(deletion::in_the_way(live, &cx.kubectl()))];
    }
    if let Some(why) = renewal {
        let act = match requested {
            None => Act::Replace(live.uid().to_owned(), wanted),
            Some(_) => Act::RequestToken(wanted),
        };
        return vec![
            Line::new(Decision::Replace, format!("{reference}: {why}"), act)
                .detail("the host that has the old token stops until the new script has run there"),
        ];
    }
    let mut line = Line::keep(reference.to_string());
    if let Some(expires) = expires {
        line =
            line.detail(format!("jobs stop at {expires}, unless --reissue cluster makes a new token before"));
    }
    vec![line]
}

/// A lifetime in the unit people think of it in.
fn span(value: Duration) -> String {
    match value.as_secs() {
        s if s >= 2 * 86_400 => count(usize::try_from(s / 86_400).unwrap_or(0), "day"),
        s if s >= 2 * 3600 => count(usize::try_from(s / 3600).unwrap_or(0), "hour"),
        s => count(usize::try_from(s / 60).unwrap_or(0), "minute"),
    }
}

fn manifest(cx: &Context) -> Object {
    let requested = cx.settings.token_lifetime.is_some();
    let body = json!({"type": if requested { "Opaque" } else { FILLED_BY_CLUSTER }});
    let mut object = cx.names.manifest(cx.names.token_secret(), &cx.id(), &body);
    if !requested {
        object.value["metadata"]["annotations"]["kubernetes.io/service-account.name"] =
            json!(cx.names.account().name);
    }
    object
}

fn token_in(secret: &Object) -> Option<Secret> {
    let encoded = secret.value["data"]["token"].as_str()?;
    let bytes = STANDARD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok().filter(|token| !token.is_empty()).map(Secret::new)
}

/// The token from its Secret, waiting for the controller that fills it.
async fn filled(cx: &Context) -> Result<Option<Secret>> {
    let reference = cx.names.token_secret();
    let look = async || {
        let Some(live) = cx.cluster.get(&reference).await.map_err(Failure::from)? else {
            return Err(Failure::new(
                Id::TokenSecretEmpty,
                format!("{reference} vanished after it was made"),
            )
            .detail(
                "likely because",
                "its ServiceAccount was not there: the controller deletes such a Secret",
            )
            .hint("run the same command again"));
        };
        if !renewal::is_readable(&live) {
            return Ok(Break(None));
        }
        let token = token_in(&live);
        if token.is_some() {
            cx.changed(&reference, Some(live));
        }
        Ok(if token.is_some() { Break(token) } else { Continue(()) })
    };
    let started = Instant::now();
    let tell = |(): &(), waited| {
        if wait::is_long(waited) {
            cx.waiting("issue-token", &format!("the cluster to fill {reference}"), waited);
        }
    };
    let pace = Pace::new(&cx.limits, 10, 2000).or_within(FILLED_WITHIN);
    wait::until(pace, tell, look).await?.map_err(|()| {
        let waited = started.elapsed().as_secs().max(1);
        Failure::new(Id::TokenSecretEmpty, format!("{reference} has not been filled within {waited} s"))
            .detail(
                "likely because",
                "this cluster's token controller is switched off, or an external signer keeps the keys",
            )
            .hint(format!(
                "ask for a token with a lifetime instead: {} --token-lifetime 365d",
                cx.settings.equivalent_command()
            ))
    })
}

/// Asks for a token bound to `handle` and judges how long it was granted for.
async fn request(cx: &Context, handle: &Object) -> Result<()> {
    let asked = cx.settings.token_lifetime.as_ref().map(|lifetime| lifetime.value).unwrap_or_default();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": asked.as_secs(),
            "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": handle.reference.name, "uid": handle.uid()},
        },
    });
    let answer = cx.cluster.request_token(&cx.names.account(), &body).await.map_err(Failure::from)?;
    let token = Secret::new(answer["status"]["token"].as_str().unwrap_or_default());
    let said: jiff::Timestamp =
        answer["status"]["expirationTimestamp"].as_str().unwrap_or_default().parse().map_err(|_| {
            Failure::new(Id::TokenClaims, "the server granted a token without saying when it ends")
        })?;
    // The token's own claim is what counts in the end, and both its ends are by the server's clock.
    let (from, until) = claims::lifetime(&token).unwrap_or((cx.now, said));
    let expires = said.min(until);
    let granted = Duration::from_secs(u64::try_from(expires.as_second() - from.as_second()).unwrap_or(0));
    let shortened = granted + Duration::from_secs(60) < asked;
    if (shortened || granted < SHORT) && !cx.settings.accepts(crate::settings::Risk::Lifetime) {
        return Err(Failure::new(
            Id::LifetimeShortened, if shortened {
                format!("the cluster granted {} where {} were asked for", span(granted), span(asked))
            } else {
                format!("a token for {} is shorter than a week", span(granted))
            },
        )
        .detail("jobs would stop at", expires.to_string())
        .hint("leave out --token-lifetime for a token that does not expire, or accept it with --accept lifetime"));
    }
    cx.record.borrow_mut().token_expires = expires.to_string();
    cx.save()?;
    *cx.facts.bearer.borrow_mut() = Some(token);
    Ok(())
}

/// Proves the token that is at hand; says so where none is.
async fn proven(cx: &Context) -> Result<String> {
    let requested = cx.facts.bearer.borrow().clone();
    let token = match requested {
        Some(token) => Some(token),
        None => filled(cx).await?,
    };
    let Some(token) = token else {
        return Ok("not proven again: a requested token is known to its host alone".to_owned());
    };
    let account = cx.read(&cx.names.account()).await.map_err(Failure::from)?;
    claims::check_claims(&token, &cx.names, account.as_ref().map(Object::uid).unwrap_or_default())?;
    let text = proof::prove(cx, &token).await?;
    *cx.facts.bearer.borrow_mut() = Some(token);
    *cx.facts.proof.borrow_mut() = Some(text.clone());
    Ok(text)
}

/// Waits until the old token is refused; API servers remember a good one for some 10 s.
async fn revoked(cx: &Context, token: &Secret) -> Result<u64> {
    let client = proof::client(cx, token).await?;
    let started = Instant::now();
    let look = async || {
        let answer = client
            .review(
                "ask who the old token is",
                "authentication.k8s.io",
                "selfsubjectreviews",
                "SelfSubjectReview",
                serde_json::Value::Null,
            )
            .await;
        match answer {
            Err(refusal) if refusal.class == crate::cluster::Class::Unauthorized => {
                Ok(Break(started.elapsed().as_secs()))
            }
            Err(refusal) if refusal.class != crate::cluster::Class::Forbidden => Err(refusal.into()),
            _ => Ok(Continue(())),
        }
    };
    let tell = |(): &(), waited| cx.waiting("issue-token", "the old token to be refused", waited);
    let pace = Pace::new(&cx.limits, 500, 500).within(Duration::from_secs(60));
    wait::until(pace, tell, look).await?.map_err(|()| {
        Failure::new(Id::NotRemoved, "the old token is still accepted a minute after its Secret was deleted")
            .hint("run the same command again; if it stays so, the API server caches tokens for long")
            .passing()
    })
}
