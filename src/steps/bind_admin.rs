//! The article's optional step: rights for the operator to grant the Role, only where the API server
//! refuses without them, and only until the Role and its binding exist.

use serde_json::json;

use super::{Done, Pending, Step};
use crate::base::error::{Failure, Id, Kind, Result};
use crate::cluster::dry_run::{self, Look};
use crate::cluster::rights::{self, Right};
use crate::cluster::temporary_binding::{bind, manifest, release_held, release_one, undo_command};
use crate::cluster::{Class, Refusal};
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Object, Ref};
use crate::deployment::plan::{Act, Decision, Line};
use crate::deployment::record;
use crate::settings::{Risk, shell_word};
use crate::steps::context::Context;
use crate::steps::looks;

/// See the module.
pub struct BindAdmin;

/// What decides about the manifests' content and place: printed commands have to repeat it.
const PLACES: &[&str] = &[
    "namespace",
    "runnerNamespace",
    "useNamespaces",
    "podSecurity",
    "namespaceLabels",
    "namespaceAnnotations",
];

impl Step for BindAdmin {
    fn name(&self) -> &'static str {
        "bind-admin"
    }
    fn about(&self) -> &'static str {
        "Let yourself grant the Role, only where the cluster refuses it, for as long as that takes"
    }
    fn long(&self) -> &'static str {
        "Kubernetes lets nobody grant rights that they do not hold themselves. Where that stops you, a temporary \
         RoleBinding of the built-in ClusterRole `edit`, in the jobs' namespace alone, is enough; it is removed \
         again as soon as Role and RoleBinding exist, on failure and on Ctrl-C too. The article's cluster-admin \
         binding is made only with --cluster-admin."
    }
    fn keys(&self) -> &'static [&'static str] {
        &["namespace", "runnerNamespace", "useNamespaces", "clusterAdmin", "keepAdminBinding", "accept"]
    }
    fn released_after(&self) -> Option<&'static str> {
        Some("create-role")
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let mut lines = leftovers(cx).await?;
            if cx.settings.keep_admin_binding {
                lines = lines.iter().map(kept).collect();
            }
            let released = lines.iter().any(|line| line.decision == Decision::Release);
            let answer = match question(cx).await? {
                // What is left of an earlier run still grants its rights: once it is released, the Role
                // will be refused again.
                Answer::MayGrant(_) if released => Answer::Needed,
                answer => answer,
            };
            lines.push(decide(cx, answer).await?);
            Ok(lines)
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut texts = Vec::new();
            for line in lines {
                match &line.act {
                    Act::Release(reference, uid) => {
                        release_one(cx, reference, uid.as_deref()).await?;
                        texts.push(format!("released {reference}, left by an earlier run"));
                    }
                    Act::Bind(binding) => texts.push(bind(cx, binding).await?),
                    Act::BindIfNeeded(binding) => match question(cx).await? {
                        Answer::NotNeeded(why) | Answer::MayGrant(why) => {
                            texts.push(format!("not needed: {why}"));
                        }
                        Answer::Needed => match bind(cx, binding).await {
                            Err(refused) if refused.kind == Kind::Denied => {
                                return Err(administrators_way(cx, &refused.message).await?);
                            }
                            bound => texts.push(bound?),
                        },
                        Answer::Unasked(why) => return Err(administrators_way(cx, &why).await?),
                    },
                    _ => texts.push(line.text.clone()),
                }
            }
            let changed = lines.iter().any(|line| line.decision.is_change());
            Ok(Done { changed, text: texts.join("; ") })
        })
    }

    fn release<'a>(&'a self, cx: &'a Context) -> Pending<'a, Option<String>> {
        Box::pin(async move {
            let Some((reference, _)) = cx.facts.held.borrow().clone() else { return Ok(None) };
            if cx.settings.keep_admin_binding {
                return Ok(Some("temporary binding kept (--keep-admin-binding)".to_owned()));
            }
            release_held(cx).await?;
            let right =
                if reference.kind == ObjectKind::ClusterRoleBinding { "cluster-admin" } else { "edit" };
            Ok(Some(format!("{right} released")))
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move { leftovers(cx).await })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut released = 0;
            for line in lines {
                if let Act::Release(reference, uid) = &line.act {
                    release_one(cx, reference, uid.as_deref()).await?;
                    released += 1;
                }
            }
            Ok(Done {
                changed: released > 0,
                text: format!("released {}", super::count(released, "temporary binding")),
            })
        })
    }
}

/// What the escalation question came to.
enum Answer {
    /// There is nothing to grant.
    NotNeeded(String),
    /// The operator may grant it as things stand.
    MayGrant(String),
    Needed,
    /// It could not be asked; the reason.
    Unasked(String),
}

/// Would the API server let the operator make the Role and its binding?
async fn question(cx: &Context) -> Result<Answer> {
    let references = (cx.names.role(), cx.names.role_binding());
    let (role, binding) = tokio::join!(cx.read_now(&references.0), cx.read_now(&references.1));
    let (role, binding) = (role?, binding?);
    let role_differs = match &role {
        None => true,
        Some(role) => {
            let comparison = rights::compare(&rights::rights(&role.value["rules"]), &rights::needed());
            !comparison.more.is_empty() || (cx.settings.force_conflicts && !comparison.less.is_empty())
        }
    };
    if !role_differs && binding.is_some() {
        return Ok(Answer::NotNeeded("the Role is in place and unchanged".to_owned()));
    }
    let namespace = &cx.names.job_namespace;
    let namespace_there = cx
        .read_now(&Ref::cluster(ObjectKind::Namespace, namespace))
        .await?
        .is_some_and(|live| !live.is_terminating());
    let body = json!({"rules": rights::manifest()});
    let name = &cx.names.role().name;
    // The same rules under a name of their own: asking must not meet the Role that is there.
    let probe = if namespace_there {
        let reference = Ref::new(
            ObjectKind::Role,
            namespace,
            &if role.is_some() { format!("{name}-question") } else { name.clone() },
        );
        cx.names.manifest(reference, &cx.id(), &body)
    } else {
        cx.names.manifest(Ref::cluster(ObjectKind::ClusterRole, &format!("{name}-question")), &cx.id(), &body)
    };
    let bind = Right { name: name.clone(), ..Right::new("rbac.authorization.k8s.io", "roles", "bind") };
    let escalate = Right { verb: "escalate".to_owned(), ..bind.clone() };
    let asked = cx.cluster.dry_run(&probe).await;
    match asked {
        Ok(()) => {
            // Whoever passes by `escalate` alone may write the Role and then not bind it.
            let (escalates, binds) = tokio::join!(
                cx.may(&cx.cluster, namespace, &escalate),
                cx.may(&cx.cluster, namespace, &bind)
            );
            if escalates.unwrap_or(false) && !binds.unwrap_or(true) {
                return Ok(Answer::Needed);
            }
            Ok(Answer::MayGrant(format!(
                "you may grant the Role's {} rules yourself",
                rights::manifest().as_array().map_or(0, Vec::len)
            )))
        }
        Err(refusal) if refusal.is_escalation() => {
            if namespace_there {
                let why = "you may not grant it yet".to_owned();
                cx.facts.unlooked.borrow_mut().push((cx.names.role(), why));
            }
            Ok(Answer::Needed)
        }
        // What a policy says of a ClusterRole is not about the Role.
        Err(refusal) if matches!(refusal.class, Class::Forbidden | Class::Admission) && !namespace_there => {
            Ok(Answer::Unasked(refusal.message))
        }
        Err(refusal) => Err(dry_run::failure(&cx.settings, &cx.kubectl(), &probe, refusal)),
    }
}

async fn decide(cx: &Context, answer: Answer) -> Result<Line> {
    let operator = cx.operator().await?.name.clone();
    let namespace = &cx.names.job_namespace;
    let unknown = match answer {
        Answer::NotNeeded(why) | Answer::MayGrant(why) => {
            return Ok(Line::new(Decision::NotNeeded, format!("not needed: {why}"), Act::None));
        }
        Answer::Needed => false,
        Answer::Unasked(_) => true,
    };
    if cx.is_used(namespace) && !cx.settings.accepts(Risk::TemporaryEdit) && !cx.settings.cluster_admin {
        let failure = Failure::new(Id::CannotGrant, format!("you may not grant the Role in {namespace}, and that namespace is not ours"))
            .detail("it would take", "a temporary binding of `edit` there, which includes acting as any of that namespace's ServiceAccounts");
        let failure = with_administrators_commands(cx, failure, &operator);
        return Ok(Line::refuse(
            failure.hint("or accept it for the moment that it takes: --accept temporary-edit"),
        ));
    }
    let run = record::random_hex(4)?;
    let name = format!("{}{run}", cx.names.temporary_prefix());
    let (binding, allowed, what) = if cx.settings.cluster_admin {
        let reference = Ref::cluster(ObjectKind::ClusterRoleBinding, &name);
        let binding = manifest(cx, reference, "cluster-admin", &operator);
        let allowed = match cx.cluster.dry_run(&binding).await {
            Ok(()) => true,
            Err(refusal) if refusal.class == Class::Forbidden => false,
            Err(refusal) => return Err(dry_run::failure(&cx.settings, &cx.kubectl(), &binding, refusal)),
        };
        (binding, allowed, format!("ClusterRoleBinding of cluster-admin for {operator}"))
    } else {
        let reference = Ref::new(ObjectKind::RoleBinding, namespace, &name);
        let right = Right {
            name: "edit".to_owned(),
            ..Right::new("rbac.authorization.k8s.io", "clusterroles", "bind")
        };
        // `edit` lets nobody delete bindings: who cannot do so now could not take this one back.
        let release = Right::new("rbac.authorization.k8s.io", "rolebindings", "delete");
        let binding = manifest(cx, reference, "edit", &operator);
        let (bind, release, look) = tokio::join!(
            cx.may(&cx.cluster, namespace, &right),
            cx.may(&cx.cluster, namespace, &release),
            looks::look(cx, &binding, true)
        );
        let (bind, release) = (bind.map_err(Failure::from)?, release.map_err(Failure::from)?);
        // That it may not be made at all is said below, with the ways on.
        if let Look::Refused(failure) = look
            && failure.kind != Kind::Denied
        {
            return Ok(Line::refuse(failure));
        }
        if bind && !release && !cx.settings.keep_admin_binding {
            let why = format!(
                "you may bind `edit` in {namespace}, but not delete the RoleBinding again (with \
                 --keep-admin-binding it would stay)"
            );
            return Ok(Line::refuse(administrators_way(cx, &why).await?));
        }
        (binding, bind, format!("RoleBinding in {namespace}: edit for {operator}"))
    };
    if !allowed && !unknown {
        return Ok(Line::refuse(
            administrators_way(cx, "you may neither grant the Role nor bind anything that would let you")
                .await?,
        ));
    }
    let undo = undo_command(cx, &binding.reference);
    let line = if unknown {
        Line::new(
            Decision::Unknown,
            format!("known after create-namespaces; at most {what}"),
            Act::BindIfNeeded(binding),
        )
    } else {
        Line::new(Decision::Create, what, Act::Bind(binding))
    };
    Ok(line
        .detail(if cx.settings.keep_admin_binding {
            "kept afterwards (--keep-admin-binding); to take it back:".to_owned()
        } else {
            format!(
                "removed again after create-role (you may not yet grant the Role's {} rules); by hand:",
                rights::manifest().as_array().map_or(0, Vec::len)
            )
        })
        .command(undo))
}

/// Bindings that a killed run left: known from the record, or by label and id in the jobs' namespace.
async fn leftovers(cx: &Context) -> Result<Vec<Line>> {
    let prefix = cx.names.temporary_prefix();
    let is_temporary = |reference: &Ref| {
        matches!(reference.kind, ObjectKind::RoleBinding | ObjectKind::ClusterRoleBinding)
            && reference.name.starts_with(&prefix)
    };
    let leftover = |reference: &Ref, uid: Option<String>| {
        let line = Line::new(
            Decision::Release,
            format!("{reference}, left by an earlier run"),
            Act::Release(reference.clone(), uid),
        );
        line.detail("that run was killed, or told to keep it (--keep-admin-binding)")
    };
    let mut lines = Vec::new();
    let mut known: Vec<Ref> = Vec::new();
    let (objects, intents) = {
        let record = cx.record.borrow();
        (record.objects.clone(), record.intents.clone())
    };
    for owned in objects.iter().filter(|owned| is_temporary(&owned.object)) {
        known.push(owned.object.clone());
        if cx.read(&owned.object).await?.is_some_and(|live| live.uid() == owned.uid) {
            lines.push(leftover(&owned.object, Some(owned.uid.clone())));
        }
    }
    for reference in intents.iter().filter(|reference| is_temporary(reference)) {
        known.push(reference.clone());
        if cx.read(reference).await?.is_some_and(|live| live.annotation(names::ID) == Some(cx.id().as_str()))
        {
            lines.push(leftover(reference, None));
        }
    }
    let namespace = &cx.names.job_namespace;
    if cx.read(&Ref::cluster(ObjectKind::Namespace, namespace)).await.ok().flatten().is_some() {
        let path = format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings?labelSelector={}%3D{}",
            "app.kubernetes.io%2Finstance", cx.names.deployment
        );
        // Who may not list them has the record still.
        for item in cx.cluster.list_metadata("list temporary bindings", &path).await.unwrap_or_default() {
            let meta = &item["metadata"];
            let reference =
                Ref::new(ObjectKind::RoleBinding, namespace, meta["name"].as_str().unwrap_or_default());
            let id = meta["annotations"][names::ID].as_str().unwrap_or_default();
            let ours = id == cx.id();
            if is_temporary(&reference) && ours && !known.contains(&reference) {
                lines.push(leftover(&reference, meta["uid"].as_str().map(str::to_owned)));
            }
        }
    }
    Ok(lines)
}

fn kept(leftover: &Line) -> Line {
    let Act::Release(reference, _) = &leftover.act else { return leftover.clone() };
    Line::keep(format!("{reference} stays (--keep-admin-binding)"))
}

async fn administrators_way(cx: &Context, why: &str) -> Result<Failure> {
    let operator = cx.operator().await?.name.clone();
    let failure = Failure::new(
        Id::CannotGrant,
        format!("{operator} may not grant the Role in {}", cx.names.job_namespace),
    )
    .detail("because", why);
    Ok(with_administrators_commands(cx, failure, &operator))
}

fn with_administrators_commands(cx: &Context, failure: Failure, operator: &str) -> Failure {
    let names = &cx.names;
    let namespace = shell_word(&names.job_namespace);
    let binding = shell_word(&format!("{}-bootstrap", names.deployment));
    let ours = |start: &str| cx.settings.same_deployment(start, PLACES);
    let failure = failure
        .hint(format!("have an administrator apply these manifests, which give {operator} no new right:"))
        .hint(format!("  {} > role.yaml", ours("outrigger create-role --print")))
        .hint("  kubectl apply -f role.yaml");
    let failure = if cx.is_used(&names.job_namespace) {
        failure.hint("or have an administrator lend you `edit` there:")
    } else {
        failure
            .hint("or make the namespaces, and have an administrator lend you `edit` in the jobs' one:")
            .hint(format!("  {}", ours("outrigger create-namespaces --non-interactive")))
    };
    failure
        .hint(format!(
            "  kubectl create rolebinding -n {namespace} {binding} --clusterrole=edit --user={}",
            shell_word(operator)
        ))
        .hint("and take it back when setup is done:")
        .hint(format!("  kubectl delete rolebinding -n {namespace} {binding}"))
}

impl Context {
    async fn read_now(&self, reference: &Ref) -> Result<Option<Object>> {
        self.read(reference).await.map_err(Failure::from)
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        refusal.clone().into()
    }
}
