//! Removes objects that the current settings no longer use. They belong to no step.

use crate::base::error::{Failure, Result};
use crate::cluster::{deletion, namespace, remains, temporary_binding};
use crate::deployment::names::ID;
use crate::deployment::object::{Kind, Object, Ref};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::Owned;
use crate::deployment::run::Run;
use crate::steps::contract::{Reads, Writes};

#[derive(Clone, Debug)]
pub enum Act {
    /// Create a temporary binding for listing a namespace before its deletion.
    BindTemporarily(Object),
    /// Delete the object with this uid.
    Delete(Ref, String),
}

/// One line for each recorded object that the settings no longer use; with `all` also for the temporary bindings that
/// list namespaces before their deletion.
pub async fn plan(r: Reads<'_>, all: bool) -> Result<Vec<Line<Act>>> {
    let stale = stale(r.run, &r.notes.record().objects, r.notes.token_secrets(r.run));
    let mut lines = Vec::new();
    for owned in stale {
        let live = r.cluster.read(&owned.object).await.map_err(Failure::from)?;
        let Some(live) = live.filter(|live| is_ours(live, &owned, &r.notes.id())) else { continue };
        if owned.object.kind == Kind::Namespace && all && !live.is_terminating() {
            let binding = temporary_binding::to_list_contents(r.cluster, &owned.object.name).await?;
            lines.extend(binding.map(|binding| temporary_binding::line(binding).map(Act::BindTemporarily)));
        }
        let text = format!("{} (no longer in the settings)", deletion::shown(&live));
        let target = Target::Object(owned.object.clone());
        lines.push(Line::new(Decision::Remove, text, Act::Delete(owned.object, owned.uid)).about(target));
    }
    Ok(lines)
}

/// In the order of deletion. `secrets` are those of the cluster token.
fn stale(run: &Run, objects: &[Owned], secrets: Vec<Ref>) -> Vec<Owned> {
    let names = &run.names;
    let mut current = vec![names.account(), names.job_account(), names.role(), names.role_binding()];
    current.extend(secrets);
    current.extend(names.namespaces());
    let is_stale =
        |object: &Ref| !current.contains(object) && !object.name.starts_with(&names.temporary_prefix());
    let mut stale: Vec<_> = objects.iter().filter(|owned| is_stale(&owned.object)).cloned().collect();
    stale.sort_by_key(|owned| match owned.object.kind {
        Kind::Secret => 0,
        Kind::RoleBinding => 1,
        Kind::Role => 2,
        Kind::Namespace => 4,
        _ => 3,
    });
    stale
}

/// Other users can know a uid, so the annotation with the deployment's id is required as well.
fn is_ours(live: &Object, owned: &Owned, id: &str) -> bool {
    live.uid() == owned.uid && live.annotation(ID) == Some(id)
}

/// Deletes these objects, namespaces only if empty; continues after failures and waits for the deletions. Returns all
/// failures, joined.
pub async fn apply(w: Writes<'_>, lines: &[Line<Act>]) -> Result<()> {
    let mut failures = Vec::new();
    let mut asked = Vec::new();
    for act in lines.iter().filter_map(|line| line.act.as_ref()) {
        let done = match act {
            Act::BindTemporarily(binding) => temporary_binding::bind(w.cluster, binding).await.map(drop),
            Act::Delete(reference, uid) => {
                let done = if reference.kind == Kind::Namespace {
                    namespace::delete_if_empty(w.cluster, reference, uid).await.map(drop)
                } else {
                    w.cluster.delete(reference, uid).await.map(drop)
                };
                if done.is_ok() {
                    asked.push((reference.clone(), uid.clone()));
                }
                done
            }
        };
        failures.extend(done.err());
    }
    failures.extend(temporary_binding::release_held(w.cluster).await.err());
    failures.extend(remains::wait(w.cluster, "prune", &asked).await);
    Failure::together(failures).map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;
