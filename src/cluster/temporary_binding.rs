//! The temporary RoleBinding that grants a ClusterRole to the operator: created under a recorded random name, and
//! removed at the end of every run.

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

/// The binding that the operator needs to list a namespace's contents before its deletion; `None` if they may
/// list pods there, or may not bind. The ClusterRole is `edit`, or `cluster-admin` with `--cluster-admin`.
pub async fn to_list_contents(view: &View, namespace: &str) -> Result<Option<Object>> {
    let list = Right::new("", "pods", "list");
    // A binding left by a killed run still grants its rights, but is removed before the contents are listed.
    let prefix = view.run.names.temporary_prefix();
    let left_over = {
        let record = view.notes.record();
        let known = record.objects.iter().map(|owned| &owned.object).chain(&record.intents);
        known.into_iter().any(|object| object.name.starts_with(&prefix))
    };
    if !left_over && view.api.may(namespace, &list).await? {
        return Ok(None);
    }
    let role = if view.run.settings.cluster_admin { "cluster-admin" } else { "edit" };
    let bind =
        Right { name: role.to_owned(), ..Right::new("rbac.authorization.k8s.io", "clusterroles", "bind") };
    if !view.api.may(namespace, &bind).await? {
        return Ok(None);
    }
    let name = format!("{prefix}{}", record::random_hex(4)?);
    let reference = Ref::new(ObjectKind::RoleBinding, namespace, &name);
    let operator = &view.operator().await?.name;
    Ok(Some(manifest(&view.run, &view.notes.id(), reference, role, operator)))
}

/// The plan's line for such a binding.
pub fn line(binding: Object) -> Line<Object> {
    let role = binding.value["roleRef"]["name"].as_str().unwrap_or_default();
    let namespace = binding.reference.namespace.as_deref().unwrap_or_default();
    let text = format!("RoleBinding in {namespace}: {role} for you, to list its contents");
    let undo = undo_command(&binding.reference);
    let target = Target::TemporaryBinding(binding.clone());
    Line::new(Decision::Create, text, binding)
        .about(target)
        .detail(("removed right after; to remove it by hand", undo))
}

/// Whether this run holds this binding.
pub fn is_held(view: &View, reference: &Ref) -> bool {
    view.held.borrow().as_ref().is_some_and(|(held, _)| held == reference)
}

/// Whether this run holds any binding.
pub fn holds(view: &View) -> bool {
    view.held.borrow().is_some()
}

/// Removes the binding that this run holds.
pub async fn release_held(hand: &Hand) -> Result<()> {
    let held = hand.held.borrow().clone();
    let Some((reference, uid)) = held else { return Ok(()) };
    release_one(hand, &reference, Some(uid.as_str()).filter(|uid| !uid.is_empty())).await?;
    hand.held.borrow_mut().take();
    Ok(())
}

/// A temporary binding of a ClusterRole to the operator.
pub fn manifest(run: &Run, id: &str, reference: Ref, cluster_role: &str, operator: &str) -> Object {
    let body = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": operator}],
    });
    let mut object = run.names.manifest(reference, id, &body);
    object.value["metadata"]["labels"][names::COMPONENT] = json!(names::TEMPORARY);
    object
}

/// The command that removes a binding.
pub fn undo_command(reference: &Ref) -> Command {
    deletion::kubectl("delete", reference, "")
}

/// Creates a temporary binding and holds it. If the creation fails for another reason than missing rights, the
/// binding may exist and is removed.
pub async fn bind(hand: &Hand, binding: &Object) -> Result<String> {
    // The user needs this command if the run is killed; a quiet run does not show it in a plan.
    if hand.run.options.quiet {
        let text = "creating a temporary binding; if it is left behind, remove it";
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

/// Deletes a temporary binding; without a uid, only if it has this deployment's id.
pub async fn release_one(hand: &Hand, reference: &Ref, uid: Option<&str>) -> Result<()> {
    let cluster = hand.api.for_cleanup(Duration::from_secs(20));
    let failed = |why: String| {
        Failure::new(Id::TemporaryBindingLeft, format!("could not remove the temporary {reference}"))
            .detail("because", why)
            .hint(("to delete it", undo_command(reference)))
    };
    let uid = match uid {
        Some(uid) => uid.to_owned(),
        None => match cluster.get(reference).await {
            Ok(Some(live)) if live.annotation(names::ID) == Some(hand.notes.id().as_str()) => {
                live.uid().to_owned()
            }
            Ok(_) => return hand.journal.forget(reference),
            Err(refusal) => return Err(failed(refusal.message)),
        },
    };
    cluster.delete(reference, &uid).await.map_err(|refusal| failed(refusal.message))?;
    // It grants its rights until its finalizers are removed.
    match cluster.get(reference).await {
        Ok(Some(live)) if live.uid() == uid => {
            let held = deletion::holders(&live).join(", ");
            hand.changed(reference, Some(live));
            Err(failed(format!("its deletion waits for {held}, and it grants its rights until then")))
        }
        Err(refusal) if refusal.class != crate::cluster::Class::Forbidden => Err(failed(refusal.message)),
        // If it may not be read, the accepted deletion counts as success.
        _ => {
            hand.changed(reference, None);
            hand.journal.forget(reference)
        }
    }
}
