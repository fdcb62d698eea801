//! Dry runs of object creations against admission (policies, quotas, webhooks), and hints for refusals.

use crate::base::error::{Command, Failure};
use crate::cluster::view::View;
use crate::cluster::{Class, Gate, Refusal};
use crate::deployment::object::{FILLED_BY_CLUSTER, Kind, Object};
use crate::settings::{Settings, shell_word};

/// The result of a dry run.
#[derive(Clone, Debug)]
pub enum DryRun {
    Passes,
    Refused(Failure),
    /// Not checked, with the reason.
    Skipped(String),
}

/// Dry run of a creation. The server does not run admission if the namespace does not exist or the operator may
/// not grant the object's rights.
pub async fn creation(view: &View, object: &Object) -> DryRun {
    let Err(refusal) = view.dry_run(object).await else { return DryRun::Passes };
    match (&refusal.class, &refusal.gate) {
        (Class::AlreadyExists, _) => DryRun::Passes,
        (Class::NotFound, _) => DryRun::Skipped(refusal.message),
        (_, Some(gate @ Gate::NoDryRun(_))) => DryRun::Skipped(format!("{gate} does not support dry runs")),
        _ if refusal.is_escalation() => DryRun::Skipped("you may not grant it yet".to_owned()),
        _ => DryRun::Refused(failure(&view.run.settings, object, refusal)),
    }
}

/// The failure for a refused creation, with hints for the object.
pub fn failure(settings: &Settings, object: &Object, refusal: Refusal) -> Failure {
    let (class, gate) = (refusal.class, refusal.gate.clone());
    let failure = Failure::from(refusal);
    let is_namespace = object.reference.kind == Kind::Namespace;
    match (class, gate) {
        (Class::Forbidden, _) | (Class::Admission, Some(Gate::WebhookDown(_))) if is_namespace => {
            made_by_others(settings, failure)
        }
        (Class::Admission, Some(Gate::WebhookDown(_) | Gate::Terminating)) => failure,
        (Class::Admission, Some(gate)) => with_hints(settings, object, &gate, failure),
        _ => failure,
    }
}

fn with_hints(settings: &Settings, object: &Object, gate: &Gate, failure: Failure) -> Failure {
    let place = object.reference.kubectl_scope();
    let failure = match gate {
        Gate::Quota(name) => {
            let words = format!("describe resourcequota{place} {}", shell_word(name));
            let command = Command::kubectl(words.trim_end_matches(" ''"));
            failure.hint(("have the quota raised; to show it", command))
        }
        Gate::LimitRange => failure.hint((
            "have the limits changed; to show them",
            Command::kubectl(format!("describe limitrange{place}")),
        )),
        Gate::Policy(name, _) => failure.hint((
            "comply with the policy, or ask its administrator for an exception; to show it",
            Command::kubectl(format!("get validatingadmissionpolicy {} -o yaml", shell_word(name))),
        )),
        Gate::PodSecurity(_) => failure,
        _ => failure.hint("comply with the policy, or ask its administrator for an exception"),
    };
    match object.reference.kind {
        Kind::Namespace => {
            let failure = failure.hint(
                "to set labels and annotations on the namespaces: --namespace-label KEY=VALUE, --namespace-annotation KEY=VALUE",
            );
            made_by_others(settings, failure)
        }
        Kind::Secret if matches!(gate, Gate::Quota(_)) => {
            failure.hint("or put the runner's ServiceAccount into another namespace: --runner-namespace NAME")
        }
        Kind::Secret if object.value["type"] == FILLED_BY_CLUSTER => failure
            .hint((
                "if it forbids tokens that do not expire, request one with a lifetime",
                Command::again("--token-lifetime 365d"),
            )),
        Kind::Pod if matches!(gate, Gate::PodSecurity(_)) => failure
            .hint("to have job pods comply with level restricted: --pod-security restricted"),
        Kind::Pod => failure.hint(
            "set cpu_request, cpu_limit, memory_request, memory_limit, the same with the prefix helper_, or pod_labels below [runners.kubernetes] in a --runner-config file",
        ),
        _ => failure,
    }
}

/// Adds a hint for `--use-namespace`, with which outrigger creates no namespace.
pub fn made_by_others(settings: &Settings, failure: Failure) -> Failure {
    let names = to_make(settings).join(" and ");
    failure.hint((
        format!("or have an administrator create {names}, and use them as they are"),
        with_used_namespaces(settings),
    ))
}

/// The same setup in existing namespaces.
pub fn with_used_namespaces(settings: &Settings) -> Command {
    let both = [settings.runner_namespace.value.as_str(), settings.namespace.value.as_str()];
    Command::again(format!("--use-namespace {}", both.map(shell_word).join(",")))
}

/// The namespaces that outrigger would create, the runner's first.
fn to_make(settings: &Settings) -> Vec<&str> {
    let both = [&settings.runner_namespace.value, &settings.namespace.value];
    both.into_iter().filter(|name| !settings.use_namespaces.contains(name)).map(String::as_str).collect()
}
