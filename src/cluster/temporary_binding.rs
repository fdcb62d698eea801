//! A right that the operator borrows from the cluster for a moment: made under a journalled random
//! name, held in the context, and taken back whatever happens.

use std::time::Duration;

use serde_json::json;

use crate::base::error::{Command, Failure, Hint, Id, Kind, Result};
use crate::base::event::Event;
use crate::cluster::deletion;
use crate::cluster::rights::Right;
use crate::cluster::view::{Hand, View};
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record;
use crate::deployment::run::Run;
use crate::settings::shell_word;

/// The binding that would let the operator look into a namespace of ours before it is deleted, where
/// they may not; `None` where they may, or where nothing may be bound.
///
/// The ClusterRole `edit` shows nearly everything; `--cluster-admin` binds cluster-admin there, in that
/// namespace alone, which shows all of it.
pub async fn to_look_into(view: &View, namespace: &str) -> Result<Option<Object>> {
    let look = Right::new("", "pods", "list");
    // What a killed run left there still grants its rights, and is taken back before the look.
    let prefix = view.run.names.temporary_prefix();
    let lent = {
        let record = view.notes.record();
        let known = record.objects.iter().map(|owned| &owned.object).chain(&record.intents);
        known.into_iter().any(|object| object.name.starts_with(&prefix))
    };
    if !lent && view.api.may(namespace, &look).await.map_err(Failure::from)? {
        return Ok(None);
    }
    let role = if view.run.settings.cluster_admin { "cluster-admin" } else { "edit" };
    let bind =
        Right { name: role.to_owned(), ..Right::new("rbac.authorization.k8s.io", "clusterroles", "bind") };
    if !view.api.may(namespace, &bind).await.map_err(Failure::from)? {
        return Ok(None);
    }
    let name = format!("{}{}", view.run.names.temporary_prefix(), record::random_hex(4)?);
    let operator = view.operator().await?.name.clone();
    Ok(Some(manifest(
        &view.run,
        &view.notes.id(),
        Ref::new(ObjectKind::RoleBinding, namespace, &name),
        role,
        &operator,
    )))
}

/// The line of the plan for such a binding.
#[must_use]
pub fn look_line(binding: Object) -> Line<Object> {
    let role = binding.value["roleRef"]["name"].as_str().unwrap_or_default();
    let namespace = binding.reference.namespace.as_deref().unwrap_or_default();
    let text = format!("RoleBinding in {namespace}: {role} for you, to see what is inside");
    let undo = undo_command(&binding.reference);
    let target = Target::Look(binding.clone());
    Line::new(Decision::Create, text, binding)
        .about(target)
        .detail(("removed again right after; by hand", undo))
}

/// Whether this very binding is held: it was made earlier in the run.
#[must_use]
pub fn is_held(view: &View, reference: &Ref) -> bool {
    view.held.borrow().as_ref().is_some_and(|(held, _)| held == reference)
}

/// Whether any binding is held.
#[must_use]
pub fn holds(view: &View) -> bool {
    view.held.borrow().is_some()
}

/// Takes back what is held.
pub async fn release_held(hand: &Hand) -> Result<()> {
    let held = hand.held.borrow().clone();
    let Some((reference, uid)) = held else { return Ok(()) };
    release_one(hand, &reference, Some(uid.as_str()).filter(|uid| !uid.is_empty())).await?;
    hand.held.borrow_mut().take();
    Ok(())
}

/// A temporary binding of a ClusterRole to the operator.
#[must_use]
pub fn manifest(run: &Run, id: &str, reference: Ref, cluster_role: &str, operator: &str) -> Object {
    let body = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": operator}],
    });
    let mut object = run.names.manifest(reference, id, &body);
    object.value["metadata"]["labels"][names::COMPONENT] = json!(names::TEMPORARY);
    object
}

/// The command that takes a binding away by hand.
#[must_use]
pub fn undo_command(reference: &Ref) -> Command {
    let scope = reference
        .namespace
        .as_deref()
        .map(|namespace| format!(" -n {}", shell_word(namespace)))
        .unwrap_or_default();
    Command::kubectl(format!(
        "delete{scope} {} {}",
        reference.kind.resource().trim_end_matches('s'),
        shell_word(&reference.name)
    ))
}

/// Makes a temporary binding and holds it. Where its creation fails for any other reason than that it is not
/// allowed, it may have happened: then it is looked for and taken back.
///
/// # Errors
/// The refusal, or that what was made could not be taken back.
pub async fn bind(hand: &Hand, binding: &Object) -> Result<String> {
    // The plan has said so, where there was one to see: whoever is killed in between has to be able to undo it.
    if hand.run.options.quiet {
        let text = "a temporary binding is made for a moment; should it stay behind";
        let command = undo_command(&binding.reference);
        hand.progress.event(&Event::Advice(Hint::new(text, command)));
    }
    *hand.held.borrow_mut() = Some((binding.reference.clone(), String::new()));
    let made = match hand.create(binding).await {
        Ok(made) => made,
        Err(failure) if failure.kind == Kind::Denied => {
            hand.held.borrow_mut().take();
            return Err(failure);
        }
        Err(failure) => {
            return Err(match release_held(hand).await {
                Ok(()) => failure,
                Err(mut release) => {
                    release.also.extend(failure.each());
                    release
                }
            });
        }
    };
    *hand.held.borrow_mut() = Some((binding.reference.clone(), made.uid().to_owned()));
    hand.bound.set(true);
    let role = binding.value["roleRef"]["name"].as_str().unwrap_or_default();
    Ok(match &binding.reference.namespace {
        Some(namespace) => format!("bound {role} in {namespace}"),
        None => format!("bound {role}"),
    })
}

/// Deletes one temporary binding. Without a uid the object is looked for first, and only one with our
/// id and our prefix is taken.
pub async fn release_one(hand: &Hand, reference: &Ref, uid: Option<&str>) -> Result<()> {
    let cluster = hand.api.for_cleanup(Duration::from_secs(20));
    let failed = |why: String| {
        Failure::new(Id::TemporaryBindingLeft, format!("the temporary {reference} could not be removed"))
            .detail("because", why)
            .hint(undo_command(reference))
    };
    let uid = match uid {
        Some(uid) => uid.to_owned(),
        None => match cluster.get(reference).await {
            Ok(Some(live)) if live.annotation(names::ID) == Some(hand.notes.id().as_str()) => {
                live.uid().to_owned()
            }
            Ok(_) => {
                return hand.journal.forget(reference);
            }
            Err(refusal) => return Err(failed(refusal.message)),
        },
    };
    cluster.delete(reference, &uid).await.map_err(|refusal| failed(refusal.message))?;
    // As long as a finalizer holds it, it grants its rights.
    match cluster.get(reference).await {
        Ok(Some(live)) if live.uid() == uid => {
            let held = deletion::holders(&live).join(", ");
            hand.changed(reference, Some(live));
            Err(failed(format!("its deletion is held by {held}, and it grants its rights until then")))
        }
        // Whoever may not read it has the server's word that it is deleted.
        Ok(_) => forget(hand, reference),
        Err(refusal) if refusal.class == crate::cluster::Class::Forbidden => forget(hand, reference),
        Err(refusal) => Err(failed(refusal.message)),
    }
}

/// It is gone, whatever our own disk says to that.
fn forget(hand: &Hand, reference: &Ref) -> Result<()> {
    hand.changed(reference, None);
    hand.journal.forget(reference)
}
