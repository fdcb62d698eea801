//! The runner's cluster token, and the proof of its rights.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::secret::Secret;
use crate::base::text::span;
use crate::base::wait::{self, Pace};
use crate::cluster::deletion;
use crate::cluster::rights::Right;
use crate::cluster::token::revocation::{revoke, token_in};
use crate::cluster::token::{claims, proof, renewal};
use crate::cluster::view::View;
use crate::deployment::names::Names;
use crate::deployment::object::{FILLED_BY_CLUSTER, Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::Slots;
use crate::deployment::run::{Part, Run};
use crate::settings::{Risk, Source};
use crate::steps::contract::{
    Decided, Deciding, Info, Outcome, Printed, Prints, Products, Purpose, Reads, Step, Writes,
};
use crate::steps::dry_runs::DryRuns;
use crate::steps::{Delete, removal};

pub struct IssueToken;

/// A shorter lifetime needs consent.
const SHORT: Duration = Duration::from_secs(7 * 24 * 3600);
const LONGER: &str =
    "omit --token-lifetime for a token that does not expire, or accept it with --accept lifetime";
/// A working controller takes milliseconds.
const FILLED_WITHIN: Duration = Duration::from_secs(30);

pub struct Seen {
    /// The Secret whose token the script is to bring.
    live: Option<Object>,
    /// The others, during a rotation.
    others: Vec<Object>,
    /// What another machine's rotation put in the place of the recorded one.
    replaced: Option<Object>,
    /// The ServiceAccount is missing; only checked if the step runs alone.
    lacks_account: bool,
    dry_runs: DryRuns,
}

#[derive(Clone)]
pub enum Act {
    /// Create the Secret, which the cluster fills.
    Create(Object),
    /// Delete the Secret with this uid, then create it.
    Replace(String, Object),
    /// Request a token bound to this Secret (created first).
    Request(Object),
}

impl Step for IssueToken {
    const INFO: Info = Info {
        name: "issue-token",
        about: "Issue the runner's cluster token and prove what it may do; never prints it",
        long: "By default a Secret of type kubernetes.io/service-account-token, which does not expire; with \
         --token-lifetime a requested token, bound to a Secret so that it can be revoked. Then tests it with a new \
         client that has only host, CA and token, as the runner: its identity, exactly the Role's rights in three \
         namespaces, and a list of rights that it must not have.",
        keys: &["namespace", "runnerNamespace", "kubernetesHost", "tokenLifetime", "accept", "reissue"],
        part: Some(Part::Token),
        prints: Prints::OnRequest { with_cluster: true },
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Delete;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let wanted = r.notes.token_secret(r.run);
        let live = r.cluster.read(&wanted).await.map_err(Failure::from)?;
        let mut others = Vec::new();
        for other in r.notes.token_secrets(r.run).iter().filter(|other| **other != wanted) {
            others.extend(r.cluster.read(other).await.map_err(Failure::from)?);
        }
        let dry_runs = DryRuns::default();
        let mut seen = Seen { live, others, replaced: None, lacks_account: false, dry_runs };
        if why == Purpose::Teardown {
            return Ok(seen);
        }
        if let Some(newer) = r.notes.newer_slots() {
            let read = async |generation: &str| {
                r.cluster.read(&r.run.names.token_secret(generation)).await.map_err(Failure::from)
            };
            let slots = r.notes.slots();
            let ours = slots.generations();
            for one in newer.generations().into_iter().filter(|one| !ours.contains(one)) {
                if seen.replaced.is_none() {
                    seen.replaced = read(one).await?;
                }
            }
        }
        if r.run.alone {
            let account = r.cluster.read(&r.run.names.account()).await.map_err(Failure::from)?;
            seen.lacks_account = account.is_none();
        }
        let changeable = |live: &Object| !live.is_terminating() && r.notes.owner(live) == Owner::Us;
        let renewed = |live: &Object| renewal::renewal(r.run, r.notes, live).is_some();
        let due = seen.live.as_ref().is_none_or(|live| changeable(live) && renewed(live));
        if due && !seen.lacks_account && r.run.settings.token_lifetime.is_some() {
            may_request(r.cluster).await?;
        }
        // Not for an existing one, whose name would conflict.
        if seen.live.is_none() && !seen.lacks_account {
            seen.dry_runs =
                DryRuns::at(r.cluster, &[&manifest(r.run, r.notes.token_secret(r.run), &r.notes.id())]).await;
        }
        Ok(seen)
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        if seen.lacks_account {
            return Line::refuse(no_account(&d.run.names)).into();
        }
        let replaced = seen.replaced.as_ref();
        if let Some(failure) = replaced.and_then(|live| ownership::replaced(live, &d.notes.record())) {
            return Line::refuse(failure).into();
        }
        let target = Target::Object(d.notes.token_secret(d.run));
        let mut lines = vec![decide(d, seen.live.as_ref()).about(target)];
        if !lines[0].decision.is_change() {
            lines.extend(ends_soon(d));
        }
        seen.dry_runs.judge(lines, |act| match act {
            Act::Create(object) | Act::Request(object) => Some(object),
            Act::Replace(..) => None,
        })
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Delete>> {
        let (Act::Create(object) | Act::Replace(_, object) | Act::Request(object)) = &act;
        let mut slots = w.notes.slots();
        let generation = w.run.generation();
        if object.reference == w.run.names.token_secret(&generation) {
            slots = Slots { next: Some(generation), ..slots.turned() };
        }
        w.journal.write(|record| record.slots = Some(slots))?;
        match act {
            Act::Create(object) => create(w, &object, None).await?,
            Act::Replace(uid, object) => create(w, &object, Some(&uid)).await?,
            Act::Request(object) => {
                if let Some(live) = w.cluster.read(&object.reference).await.map_err(Failure::from)? {
                    // A refusal must come before the current token is revoked.
                    request(w, &live).await?;
                    w.cluster.replace(&object.reference, live.uid()).await?;
                }
                let handle = w.cluster.create(&object).await?;
                match request(w, &handle).await {
                    Ok(token) => drop(w.products.cluster_token.set(token)),
                    Err(failure) => {
                        // The unused token is revoked with its Secret.
                        w.cluster.replace(&handle.reference, handle.uid()).await?;
                        return Err(failure);
                    }
                }
            }
        }
        Ok(String::new().into())
    }

    async fn prove(&self, r: Reads<'_>, products: &Products) -> Result<Option<String>> {
        if r.cluster.read(&r.notes.token_secret(r.run)).await.map_err(Failure::from)?.is_none() {
            return Ok(None);
        }
        let issued = products.cluster_token.get().cloned();
        let fresh = issued.is_some();
        let token = match issued {
            Some(token) => Some(token),
            None => filled(r.cluster).await?,
        };
        let Some(token) = token else {
            return Ok(Some("not proven again: a requested token is known to its host alone".to_owned()));
        };
        let account = r.cluster.read(&r.run.names.account()).await.map_err(Failure::from)?;
        claims::check_claims(&token, &r.run.names, account.as_ref().map(Object::uid).unwrap_or_default())?;
        let text = proof::prove(r.cluster, &token, fresh).await?;
        let _ = products.cluster_token.set(token);
        Ok(Some(text))
    }

    async fn print(&self, r: Reads<'_>) -> Result<Option<Printed>> {
        // A requested token needs its request, and its Secret is created with it.
        let objects = match r.run.settings.token_lifetime {
            Some(_) => Vec::new(),
            None => vec![manifest(r.run, r.notes.token_secret(r.run), &r.notes.id())],
        };
        Printed::manifests(objects).map(Some)
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<Delete>> {
        seen.live.iter().chain(&seen.others).map(|live| removal(d, live)).collect()
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Delete>) -> Result<String> {
        let mut texts = Vec::new();
        for Delete(reference, uid) in acts {
            texts.push(revoke(w.cluster, &reference, &uid, Self::INFO.name).await?);
        }
        Ok(texts.join("; "))
    }
}

/// Creates the Secret, after deleting the one with the uid `old`; waits for its token and passes it to later steps.
async fn create(w: Writes<'_>, secret: &Object, old: Option<&str>) -> Result<()> {
    w.journal.note(|record| record.token_expires.clear());
    if let Some(uid) = old {
        w.cluster.replace(&secret.reference, uid).await?;
    }
    w.cluster.create(secret).await?;
    if let Some(token) = filled(w.reads.cluster).await? {
        let _ = w.products.cluster_token.set(token);
    }
    Ok(())
}

fn no_account(names: &Names) -> Failure {
    let message = format!("{} is not there yet, and a token is for an account", names.account());
    Failure::new(Id::MissingPrerequisite, message)
        .hint(("run all steps", Command::outrigger("setup")))
        .hint(("step by step", Command::outrigger("create-namespaces")))
        .hint(Command::outrigger("create-role"))
}

/// Checks the right to request tokens, before the old token is revoked.
async fn may_request(view: &View) -> Result<()> {
    let right = Right::new("", "serviceaccounts/token", "create");
    let namespace = &view.run.names.runner_namespace;
    if view.may(namespace, &right).await.map_err(Failure::from)? {
        return Ok(());
    }
    Err(Failure::new(
        Id::MissingRights,
        "you may not create serviceaccounts/token, which --token-lifetime requires",
    )
    .detail(format!("in {namespace}"), right.to_string())
    .hint("ask an administrator for that right, or omit --token-lifetime for a token that does not expire"))
}

fn decide(d: &Deciding<'_>, live: Option<&Object>) -> Line<Act> {
    let reference = d.notes.token_secret(d.run);
    let is_second = reference != d.run.names.token_secret(&d.notes.slots().current);
    let wanted = manifest(d.run, d.notes.token_secret(d.run), &d.notes.id());
    let requested = d.run.settings.token_lifetime.as_ref();
    let short = requested.map(|lifetime| lifetime.value).filter(|lifetime| *lifetime < SHORT);
    let refused = short.filter(|_| !d.run.settings.accepts(Risk::Lifetime)).map(|lifetime| {
        let message = format!("a token lifetime of {} is shorter than a week", span(lifetime));
        Failure::new(Id::MissingConsent, message).hint(LONGER)
    });
    let Some(live) = live else {
        let line = match (refused, requested) {
            (Some(failure), _) => Line::refuse(failure),
            (None, None) => {
                let text = format!("{reference} of type service-account-token, does not expire");
                Line::new(Decision::Create, text, Act::Create(wanted))
            }
            (None, Some(lifetime)) => {
                let text = format!("token for {}, bound to {reference}", span(lifetime.value));
                Line::new(Decision::Create, text, Act::Request(wanted))
            }
        };
        return if is_second {
            line.detail("beside the current one, which stays valid until no job uses it any more")
        } else {
            line
        };
    };
    if let Owner::Foreign(why) = d.notes.owner(live) {
        return Line::refuse(ownership::foreign(live, &why));
    }
    if live.is_terminating() {
        return Line::refuse(deletion::being_deleted(live));
    }
    if let Some(why) = renewal::renewal(d.run, d.notes, live) {
        if let Some(failure) = refused {
            return Line::refuse(failure);
        }
        let act = match requested {
            None => Act::Replace(live.uid().to_owned(), wanted),
            Some(_) => Act::Request(wanted),
        };
        let line = Line::new(Decision::Replace, format!("{reference}: {why}"), act);
        return line.detail(if is_second {
            "beside the current one, which stays valid until no job uses it any more"
        } else {
            "the host with the old token stops until the new script has run there"
        });
    }
    let line = Line::keep(reference.to_string());
    match d.notes.token_expires() {
        None => line,
        Some(expires) => line.detail(format!("jobs stop at {expires}; --reissue cluster issues a new token")),
    }
}

/// The line about a token that expires within `--warn-before`; by default at the latest in the last quarter of its
/// lifetime, so that a short one is not always a problem.
fn ends_soon(d: &Deciding<'_>) -> Option<Line<Act>> {
    let settings = &d.run.settings;
    let lifetime = settings.token_lifetime.as_ref()?.value;
    let before = &settings.warn_before;
    let before = if before.source == Source::Default { before.value.min(lifetime / 4) } else { before.value };
    let ends: jiff::Timestamp = d.notes.token_expires()?.parse().ok()?;
    let left = Duration::try_from(ends.duration_since(d.run.now)).unwrap_or_default();
    (left < before).then(|| {
        let text = format!("the cluster token expires in {}, at {ends}: jobs stop then", span(left));
        Line::unhealthy(text).detail(("issue a new one", renewal::command(d.notes)))
    })
}

fn manifest(run: &Run, secret: Ref, id: &str) -> Object {
    let requested = run.settings.token_lifetime.is_some();
    let body = json!({"type": if requested { "Opaque" } else { FILLED_BY_CLUSTER }});
    let mut object = run.names.manifest(secret, id, &body);
    if !requested {
        object.value["metadata"]["annotations"]["kubernetes.io/service-account.name"] =
            json!(run.names.account().name);
    }
    object
}

/// The token from its Secret; waits for the controller to fill it.
async fn filled(view: &View) -> Result<Option<Secret>> {
    let reference = view.notes.token_secret(&view.run);
    let look = async || {
        let Some(live) = view.read_again(&reference).await.map_err(Failure::from)? else {
            return Err(Failure::new(
                Id::TokenSecretEmpty,
                format!("{reference} disappeared after its creation"),
            )
            .detail(
                "likely because",
                "its ServiceAccount does not exist: then the controller deletes the Secret",
            )
            .hint("run the same command again"));
        };
        if !renewal::is_readable(&live) {
            return Ok(Break(None));
        }
        let token = token_in(&live);
        Ok(if token.is_some() { Break(token) } else { Continue(()) })
    };
    let started = Instant::now();
    let tell = |(): &(), waited| {
        if wait::is_long(waited) {
            view.progress.waiting("issue-token", &format!("the cluster to fill {reference}"), waited);
        }
    };
    let pace = Pace::new(&view.limits, 10, 2000).or_within(FILLED_WITHIN);
    wait::until(pace, tell, look).await?.map_err(|()| {
        let waited = started.elapsed().as_secs().max(1);
        Failure::new(Id::TokenSecretEmpty, format!("{reference} has not been filled within {waited} s"))
            .detail(
                "likely because",
                "the cluster's token controller is disabled, or uses an external signer",
            )
            .hint(("request a token with a lifetime instead", Command::again("--token-lifetime 365d")))
    })
}

/// Requests a token bound to `handle` and checks its lifetime.
async fn request(w: Writes<'_>, handle: &Object) -> Result<Secret> {
    let asked = w.run.settings.token_lifetime.as_ref().map(|lifetime| lifetime.value).unwrap_or_default();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": asked.as_secs(),
            "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": handle.reference.name, "uid": handle.uid()},
        },
    });
    let answer = w.cluster.request_token(&w.run.names.account(), &body).await.map_err(Failure::from)?;
    let token = Secret::new(answer["status"]["token"].as_str().unwrap_or_default());
    let said: jiff::Timestamp = answer["status"]["expirationTimestamp"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .map_err(|_| Failure::new(Id::TokenClaims, "the token response has no expirationTimestamp"))?;
    // The token's claims count, and both are by the server's clock.
    let (from, until) = claims::lifetime(&token).unwrap_or((w.run.now, said));
    let expires = said.min(until);
    let granted = Duration::from_secs(u64::try_from(expires.as_second() - from.as_second()).unwrap_or(0));
    if granted + Duration::from_secs(60) < asked && !w.run.settings.accepts(Risk::Lifetime) {
        return Err(Failure::new(
            Id::LifetimeShortened,
            format!("the cluster granted {} instead of the requested {}", span(granted), span(asked)),
        )
        .detail("jobs stop at", expires.to_string())
        .hint(LONGER));
    }
    w.journal.write(|record| record.token_expires = expires.to_string())?;
    Ok(token)
}

#[cfg(test)]
#[path = "issue_token_tests.rs"]
mod tests;
