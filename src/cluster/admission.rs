//! Finds the part of admission that refused a request, from the API server's message.
//!
//! Admission uses the status codes of other refusals (403, 422, 400, 500), so only the message distinguishes it. The
//! messages are those of Kubernetes 1.37: `apiserver/pkg/admission/errors.go`,
//! `…/plugin/policy/validating/dispatcher.go`, `…/plugin/webhook/errors/statuserror.go`,
//! `apiserver/pkg/util/webhook/webhook.go`, `…/plugin/resourcequota/controller.go`,
//! `pod-security-admission/admission/admission.go`, `plugin/pkg/admission/limitranger/admission.go`,
//! and for authorization `apiserver/pkg/endpoints/handlers/responsewriters/errors.go`.

use std::fmt;

/// The part of admission that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A `ValidatingAdmissionPolicy` and its binding, which may be empty.
    Policy(String, String),
    /// A webhook that denied the request: Gatekeeper, Kyverno, a provider's own.
    Webhook(String),
    /// A webhook that could not be called or sent an invalid response.
    WebhookDown(String),
    /// A webhook that does not support dry runs.
    NoDryRun(String),
    /// Pod Security, with level and version, such as `restricted:latest`.
    PodSecurity(String),
    /// A `ResourceQuota`; the name may be empty.
    Quota(String),
    /// A `LimitRange`, without a name in the message.
    LimitRange,
    /// The namespace is being deleted.
    Terminating,
    /// Another admission plugin.
    Unnamed,
}

impl Gate {
    /// The part of admission that refused; `None` for other refusals, such as authorization and validation.
    pub fn of(code: u16, message: &str) -> Option<Self> {
        // Policies and webhooks can set any status.
        if let Some(name) = between(message, "ValidatingAdmissionPolicy '", "'")
            && message.contains(" denied request: ")
        {
            let binding = between(message, "' with binding '", "'").unwrap_or_default();
            return Some(Self::Policy(name, binding));
        }
        if let Some(name) = between(message, "admission webhook \"", "\"") {
            if message.contains("\" denied the request") {
                return Some(Self::Webhook(name));
            }
            if message.contains("\" does not support dry run") {
                return Some(Self::NoDryRun(name));
            }
        }
        if let Some(name) = between(message, "failed calling webhook \"", "\"") {
            return Some(Self::WebhookDown(name));
        }
        if code != 403 {
            return None;
        }
        let why = message.split_once(" is forbidden: ")?.1;
        if is_authorization(why) {
            return None;
        }
        if let Some(level) = between(why, "violates PodSecurity \"", "\"") {
            return Some(Self::PodSecurity(level));
        }
        for (start, end) in [
            ("exceeded quota: ", ", requested: "),
            ("failed quota: ", ": "),
            ("status unknown for quota: ", ", resources: "),
        ] {
            if let Some(rest) = why.strip_prefix(start) {
                return Some(Self::Quota(rest.split(end).next().unwrap_or_default().to_owned()));
            }
        }
        if why.starts_with("insufficient quota to ") || why.starts_with("quota usage is negative for ") {
            return Some(Self::Quota(String::new()));
        }
        // A list of several limits is in brackets.
        let first = why.trim_start_matches('[');
        let limit = first.starts_with("maximum ") || first.starts_with("minimum ");
        if (limit && first.contains(" usage per ")) || first.contains(" max limit to request ratio per ") {
            return Some(Self::LimitRange);
        }
        if why.contains("because it is being terminated") {
            return Some(Self::Terminating);
        }
        Some(Self::Unnamed)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name, binding) => {
                let binding =
                    if binding.is_empty() { String::new() } else { format!(" (binding {binding})") };
                write!(f, "the ValidatingAdmissionPolicy {name}{binding}")
            }
            Self::Webhook(name) | Self::WebhookDown(name) | Self::NoDryRun(name) => {
                write!(f, "the admission webhook {name}")
            }
            Self::PodSecurity(level) => write!(f, "Pod Security {level}"),
            Self::Quota(name) if name.is_empty() => f.write_str("a ResourceQuota"),
            Self::Quota(name) => write!(f, "the ResourceQuota {name}"),
            Self::LimitRange => f.write_str("a LimitRange"),
            Self::Terminating => f.write_str("the namespace's deletion"),
            Self::Unnamed => f.write_str("an admission plugin"),
        }
    }
}

/// Whether the text after `is forbidden:` is that of authorization or of the RBAC escalation check.
fn is_authorization(why: &str) -> bool {
    let of_a_user = why.starts_with("User \"") || why.starts_with("user \"");
    (of_a_user && (why.contains("\" cannot ") || why.contains(" is attempting to grant ")))
        || why.starts_with("attempt to grant extra privileges")
        || why.starts_with("not yet ready to handle request")
}

/// The text between the first `start` and the next `end`.
fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let rest = &text[text.find(start)? + start.len()..];
    Some(rest[..rest.find(end)?].to_owned())
}

#[cfg(test)]
mod tests {
    use super::Gate;

    /// Real messages, of Kubernetes 1.37 unless a comment names another source.
    #[test]
    fn admission_is_distinguished_from_authorization() {
        let named = |kind: fn(String) -> Gate, name: &str| Some(kind(name.to_owned()));
        let policy = |name: &str, binding: &str| Some(Gate::Policy(name.to_owned(), binding.to_owned()));
        for (code, message, expected) in [
            // ValidatingAdmissionPolicy: 422 unless the policy says otherwise.
            (
                422,
                r#"namespaces "c20" is forbidden: ValidatingAdmissionPolicy 'need-owner' with binding 'need-owner-here' denied request: you must provide labels: {owner}"#,
                policy("need-owner", "need-owner-here"),
            ),
            (
                403,
                r#"namespaces "c20" is forbidden: ValidatingAdmissionPolicy 'need-owner' with binding 'need-owner-here' denied request: User "x" cannot have that"#,
                policy("need-owner", "need-owner-here"),
            ),
            (
                401,
                r#"secrets "a" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: no params found for policy binding with `Deny` parameterNotFoundAction"#,
                policy("p", ""),
            ),
            (
                413,
                r#"secrets "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too large"#,
                policy("p", "b"),
            ),
            // Gatekeeper (403), Kyverno (400), GKE, Rancher.
            (
                403,
                r#"admission webhook "validation.gatekeeper.sh" denied the request: [ns-must-have-owner] you must provide labels: {"owner"}"#,
                named(Gate::Webhook, "validation.gatekeeper.sh"),
            ),
            (
                400,
                "admission webhook \"validate.kyverno.svc-fail\" denied the request: \n\nresource Secret/c21/c21-token was blocked due to the following policies \n\nrestrict-sa-tokens:\n  no-long-lived: Long-lived API tokens are not allowed.\n",
                named(Gate::Webhook, "validate.kyverno.svc-fail"),
            ),
            (
                403,
                r#"admission webhook "warden-validating.common-webhooks.networking.gke.io" denied the request: GKE Warden rejected the request because it violates one or more constraints."#,
                named(Gate::Webhook, "warden-validating.common-webhooks.networking.gke.io"),
            ),
            (
                500,
                r#"admission webhook "w.example.com" denied the request without explanation"#,
                named(Gate::Webhook, "w.example.com"),
            ),
            (
                400,
                r#"admission webhook "w.example.com" does not support dry run"#,
                named(Gate::NoDryRun, "w.example.com"),
            ),
            (
                500,
                r#"Internal error occurred: failed calling webhook "check-ignore-label.gatekeeper.sh": failed to call webhook: Post "https://gatekeeper-webhook-service.gatekeeper-system.svc:443/v1/admitlabel?timeout=3s": dial tcp 10.0.0.7:443: connect: connection refused"#,
                named(Gate::WebhookDown, "check-ignore-label.gatekeeper.sh"),
            ),
            (
                500,
                r#"Internal error occurred: failed calling webhook "mutate.kyverno.svc-fail": failed to call webhook: Post "https://kyverno-svc.kyverno.svc:443/mutate/fail?timeout=10s": context deadline exceeded"#,
                named(Gate::WebhookDown, "mutate.kyverno.svc-fail"),
            ),
            // Pod Security, ResourceQuota, LimitRange.
            (
                403,
                r#"pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "build" must set securityContext.allowPrivilegeEscalation=false)"#,
                named(Gate::PodSecurity, "restricted:latest"),
            ),
            (
                403,
                r#"secrets "c23-token" is forbidden: exceeded quota: default-wcxcn, requested: secrets=1, used: secrets=0, limited: secrets=0"#,
                named(Gate::Quota, "default-wcxcn"),
            ),
            (
                403,
                r#"pods "p" is forbidden: failed quota: compute: must specify limits.cpu for: build,helper; limits.memory for: build,helper"#,
                named(Gate::Quota, "compute"),
            ),
            (
                403,
                r#"secrets "s" is forbidden: status unknown for quota: compute, resources: secrets"#,
                named(Gate::Quota, "compute"),
            ),
            (
                403,
                r#"pods "p" is forbidden: insufficient quota to consume: limits.cpu"#,
                named(Gate::Quota, ""),
            ),
            (
                403,
                r#"pods "p" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [cluster-services]}]"#,
                named(Gate::Quota, ""),
            ),
            (
                403,
                r#"pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2"#,
                Some(Gate::LimitRange),
            ),
            (
                403,
                r#"pods "p" is forbidden: [minimum memory usage per Container is 64Mi.  No request is specified, maximum cpu usage per Pod is 1.  No limit is specified]"#,
                Some(Gate::LimitRange),
            ),
            (
                403,
                r#"pods "p" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"#,
                Some(Gate::LimitRange),
            ),
            // Other plugins of the server.
            (
                403,
                r#"secrets "s" is forbidden: unable to create new content in namespace a because it is being terminated"#,
                Some(Gate::Terminating),
            ),
            (
                403,
                r#"pods "p" is forbidden: error looking up service account a/b: serviceaccount "b" not found"#,
                Some(Gate::Unnamed),
            ),
            (
                403,
                r#"pods "p" is forbidden: pod node label selector conflicts with its namespace node label selector"#,
                Some(Gate::Unnamed),
            ),
            // Authorization, of RBAC and of other authorizers (GKE's, EKS's), and impersonation.
            (
                403,
                r#"namespaces is forbidden: User "nobody@example.com" cannot create resource "namespaces" in API group "" at the cluster scope"#,
                None,
            ),
            (
                403,
                r#"secrets "maximum" is forbidden: User "u" cannot get resource "secrets" in API group "" in the namespace "exceeded quota: x, requested: y": requires one of ["container.secrets.get"] permission(s)."#,
                None,
            ),
            (
                403,
                r#"users "x" is forbidden: User "binder@example.com" cannot impersonate resource "users" in API group "" at the cluster scope"#,
                None,
            ),
            (
                403,
                "roles.rbac.authorization.k8s.io \"c\" is forbidden: user \"limited@example.com\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\"]}",
                None,
            ),
            (403, r#"forbidden: User "system:anonymous" cannot get path "/version""#, None),
            (403, r#"namespaces "x" is forbidden: not yet ready to handle request"#, None),
            (403, "access denied by the proxy", None),
            // Validation, and internal errors of the server.
            (
                422,
                r#"Namespace "c20" is invalid: metadata.labels: Invalid value: "maximum usage per": a valid label must be an empty string or consist of alphanumeric characters"#,
                None,
            ),
            (500, "Internal error occurred: resource quota evaluation timed out", None),
            (404, r#"namespaces "exceeded quota: a" not found"#, None),
            (409, r#"secrets "a" already exists"#, None),
        ] {
            assert_eq!(Gate::of(code, message), expected, "{code} {message}");
        }
    }
}
