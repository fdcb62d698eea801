//! The runner namespace and the job namespace, created or used as they are.

use std::time::Instant;

use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text::count;
use crate::cluster::view::View;
use crate::cluster::{deletion, namespace, remains, temporary_binding};
use crate::deployment::names::{self, POD_SECURITY};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::run::Run;
use crate::settings::{PodSecurity, Risk, shell_word};
use crate::steps::contract::{Decided, Deciding, Info, Outcome, Purpose, Reads, Step, Writes};
use crate::steps::dry_runs::DryRuns;
use crate::steps::{Delete, removal};

pub struct CreateNamespaces;

/// One of the two namespaces.
pub struct Place {
    reference: Ref,
    live: Option<Object>,
    is_job: bool,
    wanted: Object,
    /// A temporary binding for listing its contents before its deletion.
    binding: Option<Object>,
}

pub struct Seen {
    /// The runner namespace, then the job namespace.
    places: Vec<Place>,
    /// What jobs can reach in an existing job namespace, in words; empty if nothing.
    reach: Option<String>,
    /// The Role is already there, so the user accepted this before.
    works_already: bool,
    dry_runs: DryRuns,
}

#[derive(Clone)]
pub enum Act {
    Create(Object),
    /// Set the Pod Security labels; the object has uid and resourceVersion of the one that was judged.
    Relabel(Object),
}

#[derive(Clone)]
pub enum Undo {
    /// Create the temporary binding for listing the contents.
    BindTemporarily(Object),
    /// Delete the namespace, if it contains no foreign objects.
    Delete(Delete),
}

impl Step for CreateNamespaces {
    const INFO: Info = Info {
        name: "create-namespaces",
        about: "Create the runner namespace and the job namespace",
        long: "Job pods and the runner's credential are in two namespaces, because a user who creates pods in a \
         namespace can read every Secret in it. The job namespace enforces Pod Security. With \
         --use-namespace an existing namespace is used as it is: never relabelled, never deleted.",
        keys: &[
            "namespace",
            "runnerNamespace",
            "useNamespaces",
            "podSecurity",
            "namespaceLabels",
            "namespaceAnnotations",
            "accept",
            "forceConflicts",
        ],
        undone_last: true,
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Undo;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let [runner, job] = r.run.names.namespaces();
        let (runner_live, job_live) = tokio::join!(r.cluster.read(&runner), r.cluster.read(&job));
        if why != Purpose::Teardown {
            // The labels pin the server's version, if it can be read.
            let _ = r.cluster.version().await;
        }
        let version = r.cluster.minor_version();
        let mut places = Vec::new();
        for (reference, live, is_job) in [(runner, runner_live, false), (job, job_live, true)] {
            let live = live.map_err(Failure::from)?;
            let level = r.run.settings.pod_security.word();
            let wanted =
                r.run.names.namespace_manifest(reference.clone(), &r.notes.id(), level, version.as_deref());
            places.push(Place { reference, live, is_job, wanted, binding: None });
        }
        let mut seen = Seen { places, reach: None, works_already: false, dry_runs: DryRuns::default() };
        match why {
            Purpose::Setup | Purpose::Again => survey(r, &mut seen).await,
            Purpose::Teardown => {
                for place in seen.places.iter_mut().filter(|_| !r.run.options.keep_namespaces) {
                    // A terminating namespace is only waited for.
                    let ours = |live: &Object| !live.is_terminating() && r.notes.owner(live) == Owner::Us;
                    if !r.run.is_used(&place.reference.name) && place.live.as_ref().is_some_and(ours) {
                        place.binding =
                            temporary_binding::to_list_contents(r.cluster, &place.reference.name).await?;
                    }
                }
            }
        }
        Ok(seen)
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        let lines = seen.places.iter().map(|place| {
            let owner = place.live.as_ref().map(|live| d.notes.owner(live));
            let line = decide(d.run, place, owner.as_ref());
            let line = match &seen.reach {
                Some(reach) if place.is_job => shared(d.run, seen, line, reach),
                _ => line,
            };
            line.about(Target::Object(place.reference.clone()))
        });
        let mut decided = seen.dry_runs.judge(lines.collect(), |act| match act {
            Act::Create(object) => Some(object),
            Act::Relabel(_) => None,
        });
        if let Some(line) = decided.lines.iter_mut().rfind(|line| line.decision == Decision::Create) {
            line.detail.push("policies and quotas inside are not known before it exists".into());
        }
        decided
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Undo>> {
        match act {
            Act::Create(object) => w.cluster.create(&object).await?,
            Act::Relabel(object) => w.cluster.apply(&object).await?,
        };
        Ok(String::new().into())
    }

    fn done(&self, _: &Deciding<'_>, _: &Seen, lines: &[Line<Act>], _: &[String]) -> String {
        let acts = lines.iter().filter_map(|line| line.act.as_ref());
        let (mut made, mut changed) = (Vec::new(), false);
        for act in acts {
            match act {
                Act::Create(object) => made.push(object.reference.name.clone()),
                Act::Relabel(_) => changed = true,
            }
        }
        match (made.is_empty(), changed) {
            (false, _) => format!("created {}", made.join(", ")),
            (true, true) => "updated the Pod Security labels".to_owned(),
            (true, false) => "kept".to_owned(),
        }
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<Undo>> {
        let mut lines = Vec::new();
        for place in seen.places.iter().filter(|place| !d.run.is_used(&place.reference.name)).rev() {
            let Some(live) = &place.live else { continue };
            if d.notes.owner(live) != Owner::Us {
                lines.extend(foreign_terminating(d, live));
            } else if d.run.options.keep_namespaces {
                lines.push(Line::keep(format!("{} (--keep-namespaces)", place.reference)));
            } else {
                let binding = place.binding.clone();
                lines.extend(
                    binding.map(|binding| temporary_binding::line(binding).map(Undo::BindTemporarily)),
                );
                lines.push(removal(d, live).map(Undo::Delete));
            }
        }
        lines
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Undo>) -> Result<String> {
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        let mut agreed = Vec::new();
        for act in acts {
            match act {
                Undo::BindTemporarily(binding) => {
                    if !temporary_binding::is_held(w.cluster, &binding.reference) {
                        kept.extend(temporary_binding::bind(w.cluster, &binding).await.err());
                    }
                }
                Undo::Delete(Delete(reference, uid)) => {
                    match namespace::delete_if_empty(w.cluster, &reference, &uid).await {
                        Ok(with) => {
                            gone.push((reference, uid));
                            agreed.extend(with);
                        }
                        Err(failure) => {
                            let unreleased = temporary_binding::holds(w.cluster);
                            kept.push(failure);
                            // No further temporary binding while one cannot be removed.
                            if unreleased {
                                break;
                            }
                        }
                    }
                }
            }
        }
        let started = Instant::now();
        kept.extend(remains::wait(w.cluster, Self::INFO.name, &gone).await);
        if let Some(failure) = Failure::together(kept) {
            return Err(failure);
        }
        let text = match gone.len() {
            0 => "nothing to delete".to_owned(),
            number => format!("{} gone after {} s", count(number, "namespace"), started.elapsed().as_secs()),
        };
        Ok(agreed.iter().fold(text, |text, with| format!("{text}; including {with}")))
    }
}

/// Reads what setup needs besides the namespaces: the contents of an existing job namespace, and dry runs of missing
/// namespaces.
async fn survey(r: Reads<'_>, seen: &mut Seen) {
    let job = &seen.places[1];
    if r.run.is_used(&job.reference.name) && job.live.as_ref().is_some_and(|live| !live.is_terminating()) {
        seen.reach = Some(reach(r.cluster, &job.reference.name).await);
        seen.works_already = r.cluster.are_ours(&[r.run.names.role(), r.run.names.role_binding()]).await;
    }
    let is_missing = |place: &&Place| place.live.is_none() && !r.run.is_used(&place.reference.name);
    let missing = seen.places.iter().filter(is_missing);
    let missing: Vec<Object> =
        missing.map(|place| names::marked(place.wanted.clone(), &r.run.settings)).collect();
    seen.dry_runs = DryRuns::at(r.cluster, &missing.iter().collect::<Vec<_>>()).await;
}

/// The line of an existing job namespace, with what jobs can reach there.
fn shared(run: &Run, seen: &Seen, line: Line<Act>, reach: &str) -> Line<Act> {
    if line.decision != Decision::Keep || reach.is_empty() {
        return line;
    }
    let line = if run.settings.accepts(Risk::SharedNamespace) || seen.works_already {
        line
    } else {
        Line::refuse(
            Failure::new(Id::MissingConsent, format!("jobs in {} can reach existing objects there", seen.places[1].reference.name),
            )
            .with_kind(crate::base::error::Kind::Refused)
            .detail("reachable", reach)
            .hint("use a separate namespace (omit --use-namespace), or accept it with --accept shared-namespace"),
        )
    };
    line.detail(format!("jobs can reach there: {reach}"))
}

/// Reports a terminating namespace that has this deployment's annotation, but is not confirmed as its own.
fn foreign_terminating(d: &Deciding<'_>, live: &Object) -> Option<Line<Undo>> {
    let annotated = live.annotation(names::DEPLOYMENT) == Some(d.run.names.deployment.as_str());
    let recorded = d.notes.record().uid_of(&live.reference).is_some();
    (live.is_terminating() && annotated && !recorded).then(|| Line::refuse(deletion::unfinished(live, &[])))
}

fn decide(run: &Run, place: &Place, owner: Option<&Owner>) -> Line<Act> {
    let name = &place.reference.name;
    let Some(live) = &place.live else {
        if run.is_used(name) {
            return Line::refuse(
                Failure::new(Id::NamespaceMissing, format!("the namespace {name} does not exist"))
                    .hint("omit --use-namespace to create it, or use an existing namespace"),
            );
        }
        let level = if place.is_job {
            format!(" (Pod Security: {})", *run.settings.pod_security)
        } else {
            String::new()
        };
        let wanted = names::marked(place.wanted.clone(), &run.settings);
        let line = Line::new(Decision::Create, format!("{name}{level}"), Act::Create(wanted));
        return marks(run).into_iter().fold(line, Line::detail);
    };
    if live.is_terminating() {
        return Line::refuse(deletion::being_deleted(live));
    }
    if run.is_used(name) {
        let line = Line::keep(format!("{name} is used as it is (--use-namespace)"));
        return if place.is_job {
            line
        } else {
            line.detail("a user who can create pods there can read the runner's token")
        };
    }
    if let Some(Owner::Foreign(why)) = owner {
        let failure = ownership::foreign(live, why);
        return Line::refuse(failure.hint(format!("or use it as it is: --use-namespace {name}")));
    }
    unmarked(run, live, if place.is_job { decide_level(run, place, live) } else { Line::keep(name) })
}

/// The configured labels and annotations, one line each.
fn marks(run: &Run) -> Vec<String> {
    let labels = run.settings.namespace_labels.iter().map(|(key, value)| format!("label {key}={value}"));
    let annotations = run.settings.namespace_annotations.iter();
    labels.chain(annotations.map(|(key, value)| format!("annotation {key}={value}"))).collect()
}

/// Labels and annotations are set only at creation. For an existing namespace that lacks some, the line shows the
/// command.
fn unmarked(run: &Run, live: &Object, mut line: Line<Act>) -> Line<Act> {
    let name = shell_word(&live.reference.name);
    let mut commands = Vec::new();
    let mut lacks = Vec::new();
    for (command, field, pairs) in [
        ("label", "labels", &run.settings.namespace_labels),
        ("annotate", "annotations", &run.settings.namespace_annotations),
    ] {
        let missing: Vec<String> = pairs
            .iter()
            .filter(|(key, value)| live.value["metadata"][field][key] != json!(value))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if !missing.is_empty() {
            let words: Vec<_> = missing.iter().map(|pair| shell_word(pair)).collect();
            commands.push(Command::kubectl(format!(
                "{command} namespace {name} --overwrite {}",
                words.join(" ")
            )));
            lacks.extend(missing);
        }
    }
    if lacks.is_empty() {
        return line;
    }
    if line.decision == Decision::Keep {
        line = Line::warning(line.text);
    }
    line.text = format!("{}: {} is not on it", line.text, lacks.join(", "));
    let mut text = "labels and annotations are set only at creation; to set them now";
    commands.into_iter().fold(line, |line, command| line.detail((std::mem::take(&mut text), command)))
}

fn decide_level(run: &Run, place: &Place, live: &Object) -> Line<Act> {
    let name = &place.reference.name;
    let label = format!("{POD_SECURITY}enforce");
    let enforced = live.label(&label).unwrap_or("privileged");
    let by = live
        .last_writer(&["metadata", "labels", &label], run.now)
        .map(|writer| format!(" (last written by {writer})"))
        .unwrap_or_default();
    let wanted = *run.settings.pod_security;
    let relabel = |text: String| {
        let mut object = place.wanted.clone();
        object.value["metadata"]["uid"] = json!(live.uid());
        object.value["metadata"]["resourceVersion"] = json!(live.resource_version());
        Line::new(Decision::Update, text, Act::Relabel(object))
    };
    match PodSecurity::of_label(enforced).cmp(&wanted) {
        std::cmp::Ordering::Less => relabel(format!("{name}: Pod Security allows more than it should{by}"))
            .detail(format!("- enforce {enforced}"))
            .detail(format!("+ enforce {wanted}")),
        std::cmp::Ordering::Greater if run.settings.force_conflicts => {
            relabel(format!("{name}: Pod Security {enforced} -> {wanted} (--force-conflicts)"))
        }
        std::cmp::Ordering::Greater => Line::warning(format!(
            "kept {name}: it enforces Pod Security {enforced}, stricter than {wanted}{by}"
        ))
        .detail("pods that need more are rejected there; to lower the level: --force-conflicts"),
        std::cmp::Ordering::Equal => Line::keep(name),
    }
}

/// What jobs can reach in an existing namespace, in words; empty for what every namespace has, the ServiceAccount
/// `default`.
async fn reach(view: &View, namespace: &str) -> String {
    let mut parts = Vec::new();
    let mut is_empty = true;
    for (noun, resource) in [
        ("Secret", "secrets"),
        ("ServiceAccount", "serviceaccounts"),
        ("volume claim", "persistentvolumeclaims"),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/{resource}");
        let Ok(items) = view.list_metadata(&format!("list {resource}"), &path).await else {
            is_empty = false;
            parts.push(format!("an unknown number of {noun}s (not listable)"));
            continue;
        };
        is_empty &= items
            .iter()
            .all(|item: &Value| noun == "ServiceAccount" && item["metadata"]["name"] == "default");
        parts.push(count(items.len(), noun));
    }
    if is_empty { String::new() } else { parts.join(", ") }
}

#[cfg(test)]
#[path = "create_namespaces_tests.rs"]
mod tests;
