//! Deletes a cluster token that a rotation replaced, when no job uses it any more.

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text::count;
use crate::cluster::deletion;
use crate::cluster::token::revocation::revoke;
use crate::deployment::names;
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::{Retiring, Slots};
use crate::deployment::run::Part;
use crate::gitlab::runner;
use crate::settings::{Need, Reissue, Risk};
use crate::steps::contract::{Decided, Deciding, Info, Never, Outcome, Purpose, Reads, Step, Writes};

pub struct RetireToken;

pub struct Seen {
    /// The Secret of the old token, also if it is still the current one.
    old: Option<Object>,
    /// The Secret of the token that replaces it has this uid.
    next: Option<String>,
    /// The number of jobs that run now; else the reason why it is not known.
    running: std::result::Result<usize, String>,
}

/// Deletes the old Secret, if it still exists, after the jobs that use its token.
#[derive(Clone)]
pub struct Retire(Option<(Ref, String)>);

impl Step for RetireToken {
    const INFO: Info = Info {
        name: "retire-token",
        about: "Delete the old cluster token after a rotation",
        long: "After rotate, the old cluster token stays valid until every job that may use it has ended: those that run \
         when the host gets the new one, and those that it is just asking for. Then this deletes its Secret and waits \
         until the API server rejects it. --wait limits the time. rotate includes this step, and so does setup while a \
         rotation is unfinished. Without --host nothing shows whether the new script has run on the host: \
         --accept unseen-host says so.",
        keys: &["gitlabUrl", "gitlabTokenFile", "gitlabCaFile", "project", "wait", "accept"],
        gitlab: Need::Optional,
        part: Some(Part::Retire),
        is_wanted: |_, record| {
            record.and_then(|record| record.slots.as_ref()).is_some_and(Slots::is_rotating)
        },
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Retire;
    type Undo = Never;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let mut seen = Seen { old: None, next: None, running: Err(r.gitlab.why_not().to_owned()) };
        let slots = r.notes.slots();
        // issue-token removes them all.
        if why == Purpose::Teardown || !(slots.is_rotating() || r.run.rotates(Reissue::Cluster)) {
            return Ok(seen);
        }
        let read = async |generation: &str| {
            r.cluster.read(&r.run.names.token_secret(generation)).await.map_err(Failure::from)
        };
        seen.old = read(old(&slots)).await?;
        if let Some(next) = &slots.next {
            seen.next = read(next).await?.map(|next| next.uid().to_owned());
        }
        if r.gitlab.is_connected() {
            seen.running = match runner::running(r.gitlab).await? {
                Some(jobs) => Ok(jobs),
                None => Err("there is no runner in GitLab".to_owned()),
            };
        }
        Ok(seen)
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Retire> {
        let slots = d.notes.slots();
        if !(slots.is_rotating() || d.run.rotates(Reissue::Cluster)) {
            return Line::not_needed("not needed: no cluster token was replaced").into();
        }
        let reference = d.run.names.token_secret(old(&slots));
        if let Some(live) = &seen.old {
            if let Owner::Foreign(why) = d.notes.owner(live) {
                return Line::refuse(ownership::foreign(live, &why)).into();
            }
            if live.is_terminating() {
                return Line::refuse(deletion::being_deleted(live)).into();
            }
        }
        // Somebody else has the token: no job and no host counts.
        let at_once = d.run.settings.reissue.contains(&Reissue::Cluster);
        // Not asked for here: only told.
        let asked = d.run.alone || d.run.rotates(Reissue::Cluster);
        let unfinished = || {
            let text = "a rotation is unfinished: both cluster tokens are valid";
            Line::unhealthy(text).detail(if d.run.includes(Part::Host) || slots.retiring.is_some() {
                ("to finish it", Command::outrigger("rotate cluster"))
            } else {
                let finish = Command::outrigger("rotate cluster --accept unseen-host");
                ("once the new script has run on the host", finish)
            })
        };
        let running = match &seen.running {
            Ok(running) => running,
            Err(_) if at_once => &0,
            Err(_) if !asked => return unfinished().into(),
            Err(why) => {
                let message = format!("which jobs use the token of {reference} is not known");
                return Line::refuse(
                    Failure::new(Id::MissingInput, message)
                        .detail("because", why)
                        .hint("give a GitLab access token: --gitlab-token-file PATH")
                        .hint((
                            "to replace the token at once, without waiting for jobs",
                            Command::outrigger("setup --reissue cluster"),
                        )),
                )
                .into();
            }
        };
        let written = d.forecast.script.as_ref().is_some_and(|script| script.is_written);
        let on_host = d.run.includes(Part::Host) || (slots.retiring.is_some() && !written) || at_once;
        let is_in_script = seen.next.is_some() && seen.next.as_deref() == Some(&d.notes.script_secret());
        if !on_host && (written || !is_in_script) {
            let text = format!("{reference} stays valid until the new script has run on the host");
            let then = ("then", Command::outrigger("rotate cluster --accept unseen-host"));
            return Line::keep(text).detail(then).into();
        }
        if !on_host && !d.run.settings.accepts(Risk::UnseenHost) && !asked {
            return unfinished().into();
        }
        if !on_host && !d.run.settings.accepts(Risk::UnseenHost) {
            let message = "whether the new script has run on the host cannot be seen without --host";
            return Line::refuse(
                Failure::new(Id::MissingConsent, message)
                    .detail("otherwise", "no job can start once the old token is deleted")
                    .hint(("if it has run", Command::again("--accept unseen-host"))),
            )
            .into();
        }
        let jobs = match running {
            0 => "no job runs now".to_owned(),
            running => format!("{} now", count(*running, "job")),
        };
        let act = Retire(seen.old.as_ref().map(|live| (live.reference.clone(), live.uid().to_owned())));
        let line = if at_once {
            Line::new(Decision::Remove, format!("{reference}, at once (--reissue)"), act)
        } else {
            let text = format!("{reference}, when no job uses its token any more ({jobs})");
            Line::new(Decision::Remove, text, act).detail("until then both tokens are valid")
        };
        line.about(Target::Object(reference)).into()
    }

    async fn apply(&self, w: Writes<'_>, Retire(old): Retire) -> Result<Outcome<Never>> {
        let mut slots = w.notes.slots();
        if let Some(next) = slots.next.clone() {
            let live = w.cluster.read(&w.run.names.token_secret(&next)).await.map_err(Failure::from)?;
            let is_in_script = live.is_some_and(|live| live.uid() == w.notes.script_secret());
            let at_once = w.run.settings.reissue.contains(&Reissue::Cluster);
            let is_seen = !w.run.includes(Part::Host) || w.products.delivered.get().is_some();
            if !at_once && (!is_in_script || !is_seen) {
                let message = "the new cluster token has not been brought to the host";
                return Err(Failure::new(Id::MissingPrerequisite, message)
                    .hint(("to go on with the rotation", Command::outrigger("rotate cluster"))));
            }
            let generation = std::mem::replace(&mut slots.current, next);
            slots.next = None;
            slots.retiring = Some(Retiring { generation, since: w.gitlab.now().to_string() });
            slots = slots.turned();
            note(w, &slots).await?;
        }
        let at_once = w.run.settings.reissue.contains(&Reissue::Cluster);
        if let Some(retiring) = slots.retiring.as_ref().filter(|_| !at_once) {
            let since = retiring.since.parse().unwrap_or_else(|_| w.gitlab.now());
            runner::drained(w.gitlab, since, Self::INFO.name).await?;
        }
        let text = match old {
            Some((reference, uid)) => revoke(w.cluster, &reference, &uid, Self::INFO.name).await?,
            None => "the old Secret was gone already".to_owned(),
        };
        slots = Slots { retiring: None, ..slots.turned() };
        note(w, &slots).await?;
        Ok(text.into())
    }

    async fn undo(&self, _: Writes<'_>, acts: Vec<Never>) -> Result<String> {
        match acts.into_iter().next() {
            None => Ok(String::new()),
            Some(never) => match never {},
        }
    }
}

/// The generation that a rotation replaces.
fn old(slots: &Slots) -> &str {
    slots.retiring.as_ref().map_or(&slots.current, |retiring| &retiring.generation)
}

/// Notes the Secrets in the record, and on the ServiceAccount for other machines.
async fn note(w: Writes<'_>, slots: &Slots) -> Result<()> {
    w.journal.write(|record| record.slots = Some(slots.clone()))?;
    let text = serde_json::to_string(slots).unwrap_or_default();
    w.cluster.annotate(serde_json::json!({names::TOKEN_SLOTS: text})).await
}

#[cfg(test)]
#[path = "retire_token_tests.rs"]
mod tests;
