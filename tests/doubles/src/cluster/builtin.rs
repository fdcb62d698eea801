//! The roles that every cluster has, and those that the tests' operators get.

use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn urls(urls: &[&str]) -> Value {
    json!({"nonResourceURLs": urls, "verbs": ["get"]})
}

fn role(name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules,
    })
}

fn binding(name: &str, role: &str, kind: &str, subjects: &[&str]) -> Value {
    let subjects: Vec<Value> =
        subjects.iter().map(|name| json!({"apiGroup": RBAC, "kind": kind, "name": name})).collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name}, "subjects": subjects,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
    })
}

fn view() -> Vec<Value> {
    vec![
        rule(
            "",
            &[
                "bindings",
                "configmaps",
                "endpoints",
                "events",
                "limitranges",
                "namespaces",
                "namespaces/status",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "pods/log",
                "pods/status",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            READ,
        ),
        rule("events.k8s.io", &["events"], READ),
        rule("discovery.k8s.io", &["endpointslices"], READ),
        rule(
            "apps",
            &[
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
            READ,
        ),
        rule("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"], READ),
        rule("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"], READ),
        rule(
            "extensions",
            &[
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "ingresses",
                "ingresses/status",
                "networkpolicies",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "replicationcontrollers/scale",
            ],
            READ,
        ),
        rule("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"], READ),
        rule("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"], READ),
        rule("resource.k8s.io", &["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"], READ),
    ]
}

fn edit() -> Vec<Value> {
    let mut rules = vec![
        rule(
            "",
            &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"],
            READ,
        ),
        rule("", &["serviceaccounts"], &["impersonate"]),
        rule("", &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], WRITE),
        rule("", &["pods/eviction"], &["create"]),
        rule(
            "",
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
            WRITE,
        ),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule(
            "apps",
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
            WRITE,
        ),
        rule("autoscaling", &["horizontalpodautoscalers"], WRITE),
        rule("batch", &["cronjobs", "jobs"], WRITE),
        rule("events.k8s.io", &["events"], WRITE),
        rule(
            "extensions",
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "ingresses",
                "networkpolicies",
                "replicasets",
                "replicasets/scale",
                "replicationcontrollers/scale",
            ],
            WRITE,
        ),
        rule("policy", &["poddisruptionbudgets"], WRITE),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], WRITE),
        rule("resource.k8s.io", &["resourceclaims", "resourceclaimtemplates"], WRITE),
        rule("coordination.k8s.io", &["leases"], ALL),
    ];
    rules.extend(view());
    rules
}

/// The rules of the built-in ClusterRoles that an operator may be given, by name: what a real server
/// has is compared with these.
#[must_use]
pub fn builtin_roles() -> Vec<Value> {
    let named =
        ["admin", "edit", "view", "system:basic-user", "system:discovery", "system:public-info-viewer"];
    objects()
        .into_iter()
        .filter(|object| {
            object["kind"] == "ClusterRole" && named.iter().any(|name| object["metadata"]["name"] == *name)
        })
        .collect()
}

/// What is there before anybody comes.
pub(crate) fn objects() -> Vec<Value> {
    let mut admin = vec![
        rule("authorization.k8s.io", &["localsubjectaccessreviews"], &["create"]),
        rule(RBAC, &["rolebindings", "roles"], ALL),
    ];
    admin.extend(edit());
    let health = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = &[
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let issuer = &[
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    let authenticated = &["system:authenticated"];
    vec![
        role(
            "cluster-admin",
            &[rule("*", &["*"], &["*"]), json!({"nonResourceURLs": ["*"], "verbs": ["*"]})],
        ),
        role("admin", &admin),
        role("edit", &edit()),
        role("view", &view()),
        role(
            "system:basic-user",
            &[
                rule(
                    "authorization.k8s.io",
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    &["create"],
                ),
                rule("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
            ],
        ),
        role("system:discovery", &[urls(discovery)]),
        role("system:public-info-viewer", &[urls(health)]),
        role("system:service-account-issuer-discovery", &[urls(issuer)]),
        binding("cluster-admin", "cluster-admin", "Group", &["system:masters"]),
        binding("system:basic-user", "system:basic-user", "Group", authenticated),
        binding("system:discovery", "system:discovery", "Group", authenticated),
        binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            "Group",
            &["system:authenticated", "system:unauthenticated"],
        ),
        binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            "Group",
            &["system:serviceaccounts"],
        ),
    ]
}

/// The roles of the operators `binder@example.com` and `limited@example.com`, for a real server as well.
#[must_use]
pub fn seed_rbac() -> Vec<Value> {
    let shared = vec![
        rule("", &["namespaces"], &["get", "list", "create", "patch", "delete"]),
        rule("", &["serviceaccounts"], &["get", "list", "create", "patch", "update", "delete"]),
        rule("", &["secrets"], &["get", "create", "patch", "update", "delete"]),
        rule("", &["configmaps"], &["get"]),
        rule(RBAC, &["roles", "rolebindings"], &["get", "list", "create", "patch", "update", "delete"]),
        rule(RBAC, &["clusterroles"], &["get", "list", "create"]),
    ];
    let mut binder = shared.clone();
    binder.push(rule(RBAC, &["clusterroles"], &["bind"]));
    vec![
        role("outrigger-test-binder", &binder),
        role("outrigger-test-limited", &shared),
        binding("outrigger-test-binder", "outrigger-test-binder", "User", &["binder@example.com"]),
        binding("outrigger-test-limited", "outrigger-test-limited", "User", &["limited@example.com"]),
    ]
}
