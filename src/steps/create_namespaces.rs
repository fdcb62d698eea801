//! The runner's namespace and the jobs' namespace, or existing ones used as they are.

use std::time::Instant;

use serde_json::json;

use super::{Done, Pending, Step, count};
use crate::base::error::{Failure, Id};
use crate::cluster::deletion;
use crate::cluster::namespace;
use crate::cluster::remains;
use crate::cluster::temporary_binding;
use crate::deployment::names::{self, POD_SECURITY};
use crate::deployment::object::{Object, Ref};
use crate::deployment::ownership::{self, Owner};
use crate::deployment::plan::{Act, Decision, Line};
use crate::settings::{PodSecurity, Risk, shell_word};
use crate::steps::context::Context;
use crate::steps::looks::looked_at;

/// See the module.
pub struct CreateNamespaces;

impl Step for CreateNamespaces {
    fn name(&self) -> &'static str {
        "create-namespaces"
    }
    fn about(&self) -> &'static str {
        "Create the runner's namespace and the jobs' namespace"
    }
    fn long(&self) -> &'static str {
        "Job pods and the runner's own credential live in two namespaces, because whoever creates pods in a \
         namespace can read every Secret in it. The jobs' namespace enforces Pod Security. With \
         --use-namespace an existing namespace is used as it is: never relabelled, never deleted."
    }
    fn keys(&self) -> &'static [&'static str] {
        &[
            "namespace",
            "runnerNamespace",
            "useNamespaces",
            "podSecurity",
            "namespaceLabels",
            "namespaceAnnotations",
            "accept",
            "forceConflicts",
        ]
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            let [runner, job] = cx.names.namespaces();
            let (runner_live, job_live) = tokio::join!(cx.read(&runner), cx.read(&job));
            for (reference, live, is_job) in [(runner, runner_live, false), (job, job_live, true)] {
                let live = live.map_err(Failure::from)?;
                let owner = live.as_ref().map(|live| cx.owner(live));
                let mut line = decide(cx, &reference, live.as_ref(), owner.as_ref(), is_job);
                if is_job && line.decision == Decision::Keep && cx.is_used(&reference.name) {
                    let reach = reach(cx, &reference.name).await;
                    // Where our jobs can work already, whoever made that accepted it.
                    let works_already = cx.are_ours(&[cx.names.role(), cx.names.role_binding()]).await;
                    if !cx.settings.accepts(Risk::SharedNamespace) && !works_already {
                        line = Line::refuse(
                            Failure::new(
                                Id::SharedNamespace, format!("jobs in {} will be able to reach what is there already", reference.name),
                            )
                            .detail("in reach", reach.clone())
                            .hint("use a namespace of its own (leave --use-namespace out), or accept it with --accept shared-namespace"),
                        );
                    }
                    line = line.detail(format!("jobs can reach there: {reach}"));
                }
                lines.push(line);
            }
            let mut lines = looked_at(cx, lines, &[]).await;
            // The last one speaks for what goes into both.
            if let Some(line) = lines.iter_mut().rfind(|line| line.decision == Decision::Create) {
                line.detail.push("policies and quotas inside are not known before it exists".to_owned());
            }
            Ok(lines)
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut made = Vec::new();
            let mut changed = false;
            for line in lines {
                match &line.act {
                    Act::Create(object) => {
                        cx.create(object).await?;
                        made.push(object.reference.name.clone());
                        changed = true;
                    }
                    Act::Apply(object) => {
                        cx.apply(object).await?;
                        changed = true;
                    }
                    _ => {}
                }
            }
            let text = match (made.is_empty(), changed) {
                (false, _) => format!("created {}", made.join(", ")),
                (true, true) => "mended the Pod Security labels".to_owned(),
                (true, false) => "kept".to_owned(),
            };
            Ok(Done { changed, text })
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            for reference in cx.names.namespaces() {
                let Some(live) = cx.read(&reference).await.map_err(Failure::from)? else { continue };
                if cx.is_used(&reference.name) {
                    continue;
                }
                if cx.owner(&live) != Owner::Us {
                    lines.extend(others_end(cx, &live));
                    continue;
                }
                if cx.options.keep_namespaces {
                    lines.push(Line::keep(format!("{reference} (--keep-namespaces)")));
                } else {
                    // Reversed below: the binding is made before its namespace is looked into.
                    lines.push(Line::new(
                        Decision::Remove,
                        deletion::shown(&live),
                        Act::Delete(reference.clone(), live.uid().to_owned()),
                    ));
                    // One that is on its way already is only awaited.
                    if !live.is_terminating()
                        && let Some(binding) = temporary_binding::to_look_into(cx, &reference.name).await?
                    {
                        lines.push(temporary_binding::look_line(cx, binding));
                    }
                }
            }
            lines.reverse();
            Ok(lines)
        })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut kept = Vec::new();
            let mut gone = Vec::new();
            let mut agreed = Vec::new();
            for line in lines {
                if let Act::Bind(binding) = &line.act
                    && !temporary_binding::is_held(cx, &binding.reference)
                    && let Err(failure) = temporary_binding::bind(cx, binding).await
                {
                    kept.push(failure);
                }
                let Act::Delete(reference, uid) = &line.act else { continue };
                match namespace::delete_if_empty(cx, reference, uid).await {
                    Ok(with) => {
                        gone.push((reference.clone(), uid.clone()));
                        agreed.extend(with);
                    }
                    Err(failure) => {
                        let unreleased = failure.id == Id::TemporaryBindingLeft;
                        kept.push(failure);
                        // Whoever could not give one right back borrows no other.
                        if unreleased {
                            break;
                        }
                    }
                }
            }
            let started = Instant::now();
            kept.extend(remains::wait(cx, self.name(), &gone).await);
            if let Some(failure) = Failure::together(kept) {
                return Err(failure);
            }
            let text = match gone.len() {
                0 => "nothing to delete".to_owned(),
                number => {
                    format!("{} gone after {} s", count(number, "namespace"), started.elapsed().as_secs())
                }
            };
            let text = agreed.iter().fold(text, |text, with| format!("{text}; with it {with}"));
            Ok(Done { changed: !gone.is_empty(), text })
        })
    }
}

/// A namespace on its way out that says it is this deployment's, where nothing here proves it: it is not
/// touched, but it is not "nothing" either.
fn others_end(cx: &Context, live: &Object) -> Option<Line> {
    let says = live.annotation(names::DEPLOYMENT) == Some(cx.names.deployment.as_str());
    let unknown = cx.record.borrow().uid_of(&live.reference).is_none();
    (live.is_terminating() && says && unknown)
        .then(|| Line::refuse(deletion::unfinished(live, &[], &cx.kubectl())))
}

fn manifest(cx: &Context, reference: &Ref) -> Object {
    let version = cx.facts.minor_version.get().map(String::as_str);
    let level = cx.settings.pod_security.word();
    cx.names.namespace_manifest(reference.clone(), &cx.id(), level, version)
}

fn decide(cx: &Context, reference: &Ref, live: Option<&Object>, owner: Option<&Owner>, is_job: bool) -> Line {
    let name = &reference.name;
    let Some(live) = live else {
        if cx.is_used(name) {
            return Line::refuse(
                Failure::new(Id::NamespaceMissing, format!("the namespace {name} does not exist"))
                    .hint("leave out --use-namespace to have it made, or name one that exists"),
            );
        }
        let level =
            if is_job { format!(" (Pod Security: {})", *cx.settings.pod_security) } else { String::new() };
        let wanted = names::marked(manifest(cx, reference), &cx.settings);
        let line = Line::new(Decision::Create, format!("{name}{level}"), Act::Create(wanted));
        return marks(cx).into_iter().fold(line, Line::detail);
    };
    if live.is_terminating() {
        return Line::refuse(deletion::in_the_way(live, &cx.kubectl()));
    }
    if cx.is_used(name) {
        let line = Line::keep(format!("{name} is used as it is (--use-namespace)"));
        return if is_job {
            line
        } else {
            line.detail("whoever may create pods there can read the runner's token")
        };
    }
    match owner {
        Some(Owner::NotUs(why)) => {
            let mut failure = ownership::foreign(live, why);
            failure.hints.push(format!("or use it as it is: --use-namespace {name}"));
            return Line::refuse(failure);
        }
        None | Some(Owner::Us) => {}
    }
    unmarked(cx, live, if is_job { decide_level(cx, reference, live) } else { Line::keep(name) })
}

/// The labels and annotations that were asked for, a line each.
fn marks(cx: &Context) -> Vec<String> {
    let all = [("label", &cx.settings.namespace_labels), ("annotation", &cx.settings.namespace_annotations)];
    let line = |what: &str, (key, value): &(String, String)| format!("{what} {key}={value}");
    all.iter().flat_map(|(what, pairs)| pairs.iter().map(move |pair| line(what, pair))).collect()
}

/// Labels and annotations are set when a namespace is created and never again: what a live one lacks is
/// said, with the command that sets it.
fn unmarked(cx: &Context, live: &Object, mut line: Line) -> Line {
    let name = shell_word(&live.reference.name);
    let mut commands = Vec::new();
    let mut lacks = Vec::new();
    for (command, field, pairs) in [
        ("label", "labels", &cx.settings.namespace_labels),
        ("annotate", "annotations", &cx.settings.namespace_annotations),
    ] {
        let missing: Vec<String> = pairs
            .iter()
            .filter(|(key, value)| live.value["metadata"][field][key] != json!(value))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if !missing.is_empty() {
            let words: Vec<_> = missing.iter().map(|pair| shell_word(pair)).collect();
            commands.push(format!(
                "{} {command} namespace {name} --overwrite {}",
                cx.kubectl(),
                words.join(" ")
            ));
            lacks.extend(missing);
        }
    }
    if lacks.is_empty() {
        return line;
    }
    line.notable = true;
    line.text = format!("{}: {} is not on it", line.text, lacks.join(", "));
    let line = line.detail("labels and annotations are set at creation only; to set them now:");
    commands.into_iter().fold(line, Line::command)
}

fn decide_level(cx: &Context, reference: &Ref, live: &Object) -> Line {
    let name = &reference.name;
    let label = format!("{POD_SECURITY}enforce");
    let enforced = live.label(&label).unwrap_or("privileged");
    let by = live
        .last_writer(&["metadata", "labels", &label])
        .map(|writer| format!(" (last written by {writer})"))
        .unwrap_or_default();
    let wanted = *cx.settings.pod_security;
    match PodSecurity::of_label(enforced).cmp(&wanted) {
        std::cmp::Ordering::Less => {
            let mut object = manifest(cx, reference);
            object.value["metadata"]["uid"] = json!(live.uid());
            object.value["metadata"]["resourceVersion"] = json!(live.resource_version());
            Line::new(
                Decision::Update,
                format!("{name}: Pod Security allows more than it should{by}"),
                Act::Apply(object),
            )
            .detail(format!("- enforce {enforced}"))
            .detail(format!("+ enforce {wanted}"))
        }
        std::cmp::Ordering::Greater if cx.settings.force_conflicts => {
            let mut object = manifest(cx, reference);
            object.value["metadata"]["uid"] = json!(live.uid());
            object.value["metadata"]["resourceVersion"] = json!(live.resource_version());
            Line::new(
                Decision::Update,
                format!("{name}: Pod Security {enforced} -> {wanted} (--force-conflicts)"),
                Act::Apply(object),
            )
        }
        std::cmp::Ordering::Greater => Line::keep_stricter(format!(
            "{name} enforces Pod Security {enforced}, stricter than {wanted}{by}: kept"
        ))
        .detail("jobs that need more will be refused there; to loosen it: --force-conflicts"),
        std::cmp::Ordering::Equal => Line::keep(name),
    }
}

/// What jobs can get at in a namespace that is not ours, in words; what may not be listed says so.
async fn reach(cx: &Context, namespace: &str) -> String {
    let mut parts = Vec::new();
    for (noun, resource) in [
        ("Secret", "secrets"),
        ("ServiceAccount", "serviceaccounts"),
        ("volume claim", "persistentvolumeclaims"),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/{resource}");
        parts.push(match cx.cluster.list_metadata(&format!("list {resource}"), &path).await {
            Ok(items) => count(items.len(), noun),
            Err(_) => format!("{noun}s that may not be counted"),
        });
    }
    parts.join(", ")
}
