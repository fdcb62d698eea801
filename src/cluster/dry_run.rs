//! What a rule of the cluster (a policy, a quota, a webhook) says to one of our objects before it is
//! made, and the way on where it refuses.

use crate::base::error::{Command, Failure};
use crate::cluster::view::View;
use crate::cluster::{Class, Gate, Refusal};
use crate::deployment::object::{FILLED_BY_CLUSTER, Kind, Object};
use crate::settings::{Settings, shell_word};

/// What a dry run of an object came to.
#[derive(Clone, Debug)]
pub enum Look {
    /// Everything that looks at a creation lets it pass.
    Passes,
    /// It would be refused.
    Refused(Failure),
    /// It was not looked at; the reason.
    NotLooked(String),
}

/// Asks the server whether it would take this very object; nothing is stored. Admission is not asked
/// where the namespace does not exist or the operator may not grant what the object grants.
pub async fn look(view: &View, object: &Object) -> Look {
    let Err(refusal) = view.dry_run(object).await else { return Look::Passes };
    match (&refusal.class, &refusal.gate) {
        // Somebody made it meanwhile: whose it is, is judged elsewhere.
        (Class::AlreadyExists, _) => Look::Passes,
        (Class::NotFound, _) => Look::NotLooked(refusal.message),
        (_, Some(gate @ Gate::NoDryRun(_))) => Look::NotLooked(format!("{gate} answers no dry runs")),
        _ if refusal.is_escalation() => Look::NotLooked("you may not grant it yet".to_owned()),
        _ => Look::Refused(failure(&view.run.settings, object, refusal)),
    }
}

/// A refused creation of this object, with the way on that fits it.
#[must_use]
pub fn failure(settings: &Settings, object: &Object, refusal: Refusal) -> Failure {
    let (class, gate) = (refusal.class, refusal.gate.clone());
    let failure = Failure::from(refusal);
    let is_namespace = object.reference.kind == Kind::Namespace;
    match (class, gate) {
        (Class::Forbidden, _) | (Class::Admission, Some(Gate::WebhookDown(_))) if is_namespace => {
            made_by_others(settings, failure)
        }
        (Class::Admission, Some(Gate::WebhookDown(_) | Gate::Terminating)) => failure,
        (Class::Admission, Some(gate)) => ways(settings, object, &gate, failure),
        _ => failure,
    }
}

fn ways(settings: &Settings, object: &Object, gate: &Gate, failure: Failure) -> Failure {
    let namespace = object.reference.namespace.as_deref();
    let place = namespace.map(|name| format!(" -n {}", shell_word(name))).unwrap_or_default();
    let failure = match gate {
        Gate::Quota(name) => {
            let words = format!("describe resourcequota{place} {}", shell_word(name));
            let command = Command::kubectl(words.trim_end_matches(" ''"));
            failure.hint(("have the quota raised; to see it", command))
        }
        Gate::LimitRange => failure.hint((
            "have the limits changed; to see them",
            Command::kubectl(format!("describe limitrange{place}")),
        )),
        Gate::Policy(name, _) => failure.hint((
            "give it what the policy asks for, or have its keeper make an exception; to see it",
            Command::kubectl(format!("get validatingadmissionpolicy {} -o yaml", shell_word(name))),
        )),
        Gate::PodSecurity(_) => failure,
        _ => failure.hint("give it what the policy asks for, or have its keeper make an exception"),
    };
    match object.reference.kind {
        Kind::Namespace => {
            let failure = failure.hint(
                "labels and annotations for the namespaces: --namespace-label KEY=VALUE, --namespace-annotation KEY=VALUE",
            );
            made_by_others(settings, failure)
        }
        Kind::Secret if matches!(gate, Gate::Quota(_)) => {
            failure.hint("or put the runner's own account into another namespace: --runner-namespace NAME")
        }
        Kind::Secret if object.value["type"] == FILLED_BY_CLUSTER => failure
            .hint((
                "if it forbids tokens that do not expire, ask for one with a lifetime",
                Command::Whole(format!("{} --token-lifetime 365d", settings.equivalent_command())),
            )),
        Kind::Pod if matches!(gate, Gate::PodSecurity(_)) => failure
            .hint("let the runner make pods that pass the strictest level: --pod-security restricted"),
        Kind::Pod => failure.hint(
            "let the runner ask for what passes, below [runners.kubernetes] in a file of --runner-config: cpu_request, cpu_limit, memory_request, memory_limit, the same with helper_ before it, pod_labels",
        ),
        _ => failure,
    }
}

/// Names `--use-namespace`: with it outrigger makes no namespace.
#[must_use]
pub fn made_by_others(settings: &Settings, failure: Failure) -> Failure {
    let names = to_make(settings).join(" and ");
    failure.hint((
        format!("or have {names} made by somebody who may, and let outrigger use them as they are"),
        with_used_namespaces(settings),
    ))
}

/// The same setup in namespaces that are there.
#[must_use]
pub fn with_used_namespaces(settings: &Settings) -> Command {
    Command::Whole(format!(
        "{} --use-namespace {}",
        settings.equivalent_command(),
        to_make(settings).join(",")
    ))
}

/// The namespaces that outrigger would make, the runner's first.
fn to_make(settings: &Settings) -> Vec<&str> {
    let both = [&settings.runner_namespace.value, &settings.namespace.value];
    both.into_iter().filter(|name| !settings.use_namespaces.contains(name)).map(String::as_str).collect()
}
