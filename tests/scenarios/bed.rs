//! Is the bed what the scenarios take it for? Told apart here, a broken bed is not mistaken for a
//! broken outrigger; and the double is held to what the real server does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::common::admin::Admin;
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

pub fn users(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder, User::Limited, User::Nobody] {
        bed.mark();
        let review = Admin::new(&bed.kubeconfig(user)).create(&json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}));
        assert_eq!(review["status"]["userInfo"]["username"], user.name());
        let groups = review["status"]["userInfo"]["groups"].as_array().cloned().unwrap_or_default();
        assert_eq!(groups.contains(&json!("system:masters")), user == User::Admin, "{groups:?}");
        let requests = bed.requests();
        assert_eq!(requests.len(), 1, "the audit log shows this request alone: {requests:?}");
        assert_eq!(requests[0].user, user.name());
        assert!(!requests[0].writes());
    }
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn edit_binding(namespace: &str, user: User) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "edit-for-me", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.name()}],
    })
}

/// Some rights that neither binder nor limited holds, as the runner's Role has them.
fn role(namespace: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "runner", "namespace": namespace},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "delete", "list", "watch"]},
            {"apiGroups": [""], "resources": ["pods/exec", "pods/attach"], "verbs": ["create"]},
        ],
    })
}

pub fn escalation(bed: &dyn Bed) {
    let name = bed.fresh_deployment();
    bed.admin().create(&namespace(&name));
    for user in [User::Binder, User::Limited] {
        let refusal = Admin::new(&bed.kubeconfig(user)).try_create(&role(&name)).expect_err("escalation");
        assert_eq!(refusal.code, 403, "{refusal}");
        assert!(
            refusal.message.contains("attempting to grant RBAC permissions not currently held"),
            "{refusal}"
        );
    }
    let limited = Admin::new(&bed.kubeconfig(User::Limited));
    let refusal = limited.try_create(&edit_binding(&name, User::Limited)).expect_err("no right to bind");
    assert_eq!(refusal.code, 403, "{refusal}");
    let binder = Admin::new(&bed.kubeconfig(User::Binder));
    binder.create(&edit_binding(&name, User::Binder));
    binder.create(&role(&name));
    let nobody = Admin::new(&bed.kubeconfig(User::Nobody));
    assert_eq!(nobody.try_create(&namespace("nobodys")).expect_err("no right at all").code, 403);
    bed.admin().delete(&format!("/api/v1/namespaces/{name}"));
}

/// An apply that names uid and version of an object which is gone makes no new one: so the way in which
/// objects of ours are mended cannot take over what somebody else prepared meanwhile.
pub fn apply(bed: &dyn Bed) {
    let name = bed.fresh_deployment();
    let admin = bed.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": "default"}});
    let made = admin.create(&account);
    let path = crate::common::admin::object_path(&account);
    let mut pinned = account.clone();
    for key in ["uid", "resourceVersion"] {
        pinned["metadata"][key] = made["metadata"][key].clone();
    }
    let apply = || {
        let path = format!("{path}?fieldManager=outrigger&force=true");
        admin.call("PATCH", &path, "application/apply-patch+yaml", Some(&pinned))
    };
    admin.delete(&path);
    let refusal = apply().expect_err("nothing is there to be mended");
    assert!(matches!(refusal.code, 404 | 409), "{refusal}");
    assert_eq!(admin.get(&path), None);
    let other = admin.create(&account);
    let refusal = apply().expect_err("it is another one");
    assert!(matches!(refusal.code, 409 | 422), "{refusal}");
    assert_eq!(admin.get(&path), Some(other));
    admin.delete(&path);
}

pub fn rest(bed: &dyn Bed) {
    let before = world(bed.admin());
    let name = bed.fresh_deployment();
    bed.admin().create(&namespace(&name));
    let meanwhile = world(bed.admin());
    assert!(meanwhile.contains_key(&format!("ServiceAccount {name}/default")));
    assert!(meanwhile.contains_key(&format!("ConfigMap {name}/kube-root-ca.crt")));
    bed.admin().delete(&format!("/api/v1/namespaces/{name}"));
    assert_same("a namespace made and deleted", &before, &world(bed.admin()));
}

/// The rights that a rule gives, one by one: how they are written down does not matter.
fn atoms(role: &Value) -> BTreeSet<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut atoms = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for verb in list(&rule["verbs"]) {
            for url in list(&rule["nonResourceURLs"]) {
                atoms.insert(format!("{verb} {url}"));
            }
            for group in list(&rule["apiGroups"]) {
                for resource in list(&rule["resources"]) {
                    atoms.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    atoms
}

/// What an operator who is bound to one of them may do is the same on each bed.
pub fn roles(bed: &dyn Bed) {
    let mut wrong = String::new();
    for role in outrigger_doubles::cluster::builtin_roles() {
        let name = role["metadata"]["name"].as_str().expect("roles have names");
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}");
        let (here, there) = (atoms(&role), atoms(&bed.admin().get(&path).expect("it is built in")));
        for right in here.difference(&there) {
            let _ = writeln!(wrong, "  {name}: the double alone has {right}");
        }
        for right in there.difference(&here) {
            let _ = writeln!(wrong, "  {name}: the double lacks {right}");
        }
    }
    assert!(wrong.is_empty(), "the built-in roles differ\n{wrong}");
}

/// The kinds that a namespace can hold on Kubernetes 1.37, by group: teardown lists them all.
const KINDS: &[&str] = &[
    "apps/controllerrevisions",
    "apps/daemonsets",
    "apps/deployments",
    "apps/replicasets",
    "apps/statefulsets",
    "autoscaling/horizontalpodautoscalers",
    "batch/cronjobs",
    "batch/jobs",
    "certificates.k8s.io/podcertificaterequests",
    "coordination.k8s.io/leases",
    "discovery.k8s.io/endpointslices",
    "events.k8s.io/events",
    "networking.k8s.io/ingresses",
    "networking.k8s.io/networkpolicies",
    "policy/poddisruptionbudgets",
    "rbac.authorization.k8s.io/rolebindings",
    "rbac.authorization.k8s.io/roles",
    "resource.k8s.io/resourceclaims",
    "resource.k8s.io/resourceclaimtemplates",
    "storage.k8s.io/csistoragecapacities",
    "/configmaps",
    "/endpoints",
    "/events",
    "/limitranges",
    "/persistentvolumeclaims",
    "/pods",
    "/podtemplates",
    "/replicationcontrollers",
    "/resourcequotas",
    "/secrets",
    "/serviceaccounts",
    "/services",
];

pub fn kinds(bed: &dyn Bed) {
    let admin = bed.admin();
    let mut found = BTreeSet::new();
    let mut roots = vec![(String::new(), "/api/v1".to_owned())];
    for group in admin.get("/apis").expect("discovery")["groups"].as_array().into_iter().flatten() {
        let name = group["name"].as_str().expect("groups have names").to_owned();
        for version in group["versions"].as_array().into_iter().flatten() {
            let place = version["groupVersion"].as_str().expect("versions have names");
            roots.push((name.clone(), format!("/apis/{place}")));
        }
    }
    for (group, root) in roots {
        let served = admin.get(&root).expect("each listed version is served");
        for one in served["resources"].as_array().into_iter().flatten() {
            let listable = one["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!("list")));
            if one["namespaced"] == true && listable {
                found.insert(format!("{group}/{}", one["name"].as_str().expect("resources have names")));
            }
        }
    }
    let expected: BTreeSet<String> = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(found, expected);
}

/// An object with a finalizer stays when it is deleted, and its namespace with it; the controller says so in
/// these words.
pub fn finalizers(bed: &dyn Bed) {
    let (admin, name) = (bed.admin(), bed.fresh_deployment());
    let before = world(admin);
    admin.create(&namespace(&name));
    let held = admin.create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": name, "finalizers": ["example.com/hold"]}}));
    let (place, inside) = (format!("/api/v1/namespaces/{name}"), crate::common::admin::object_path(&held));
    admin.patch(&place, &json!({"metadata": {"finalizers": ["example.com/keep"]}}));
    admin.delete(&inside);
    let left = admin.get(&inside).expect("a finalizer holds it");
    assert!(left["metadata"]["deletionTimestamp"].is_string(), "{left}");
    admin.delete(&place);
    let condition = |kind: &str| -> Value {
        let live = admin.get(&place).expect("its content holds it");
        let all = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == kind).unwrap_or_default()
    };
    let started = std::time::Instant::now();
    while condition("NamespaceFinalizersRemaining")["status"] != "True" {
        assert!(started.elapsed().as_secs() < 60, "the controller does not say what it waits for");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(
        condition("NamespaceFinalizersRemaining")["message"],
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    assert_eq!(
        condition("NamespaceContentRemaining")["message"],
        "Some resources are remaining: configmaps. has 1 resource instances"
    );
    admin.patch(&inside, &json!({"metadata": {"finalizers": null}}));
    // Emptied, it is still held by its own.
    while condition("NamespaceContentRemaining")["status"] != "False" {
        assert!(started.elapsed().as_secs() < 60, "the controller does not see that it is empty");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(admin.get(&inside), None);
    admin.patch(&place, &json!({"metadata": {"finalizers": null}}));
    assert_same("a namespace held and let go", &before, &world(admin));
}

/// An API group that another server should answer for, and does not; removed again in the end.
pub struct DeadApi<'a> {
    admin: &'a Admin,
    path: String,
}

impl<'a> DeadApi<'a> {
    pub fn register(bed: &'a dyn Bed, group: &str, version: &str) -> Self {
        let admin = bed.admin();
        let made = admin.create(&json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true, "service": {"namespace": "kube-system", "name": "not-there"}},
        }));
        let dead = Self { admin, path: crate::common::admin::object_path(&made) };
        dead.until(|listed, code| listed && code == 503, group, version);
        dead
    }

    fn until(&self, reached: impl Fn(bool, u16) -> bool, group: &str, version: &str) {
        let started = std::time::Instant::now();
        loop {
            let groups = self.admin.get("/apis").expect("discovery")["groups"].as_array().cloned();
            let listed = groups.unwrap_or_default().iter().any(|one| one["name"] == group);
            let path = format!("/apis/{group}/{version}");
            let code = match self.admin.call("GET", &path, "application/json", None) {
                Ok(_) => 200,
                Err(refusal) => refusal.code,
            };
            if reached(listed, code) {
                return;
            }
            assert!(started.elapsed().as_secs() < 60, "{path} answers {code}, listed: {listed}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for DeadApi<'_> {
    fn drop(&mut self) {
        self.admin.delete(&self.path);
    }
}

/// Kubernetes deletes what it sees in a namespace and leaves it Terminating, saying which API is silent.
pub fn dead_api(bed: &dyn Bed) {
    let (admin, name) = (bed.admin(), bed.fresh_deployment());
    let before = world(admin);
    admin.create(&namespace(&name));
    let _ = world(admin);
    let dead = DeadApi::register(bed, "metrics.k8s.io", "v1beta1");
    let place = format!("/api/v1/namespaces/{name}");
    admin.delete(&place);
    let started = std::time::Instant::now();
    let message = loop {
        let live = admin.get(&place).expect("it cannot go as long as an API does not answer");
        let all = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let failed =
            |one: &&Value| one["type"] == "NamespaceDeletionDiscoveryFailure" && one["status"] == "True";
        if let Some(found) = all.iter().find(failed) {
            break found["message"].as_str().expect("conditions have messages").to_owned();
        }
        assert!(started.elapsed().as_secs() < 60, "the controller does not say what it waits for: {live}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(
        message,
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
         metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
    );
    assert_eq!(admin.list(&format!("{place}/configmaps")), [] as [Value; 0], "what can be seen is deleted");
    drop(dead);
    assert_same("a namespace and a dead API", &before, &world(admin));
}

pub fn crippled(bed: &dyn Bed) {
    let Some(there) = bed.without_token_controller() else { return };
    let there = Admin::new(&there);
    let uid = |admin: &Admin| {
        let namespace = admin.get("/api/v1/namespaces/kube-system").expect("every cluster has it");
        namespace["metadata"]["uid"].clone()
    };
    assert_ne!(uid(&there), uid(bed.admin()), "it is another cluster");

    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    let before = std::time::SystemTime::now();
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 30 * 86_400}});
    let granted = there
        .call("POST", &format!("{account}/token"), "application/json", Some(&asked))
        .expect("tokens are granted");
    let until = granted["status"]["expirationTimestamp"].as_str().expect("a token ends");
    let until: std::time::SystemTime = until.parse::<jiff::Timestamp>().expect("a time").into();
    let hours = until.duration_since(before).expect("the future").as_secs().div_ceil(3600);
    assert!((23..=25).contains(&hours), "granted for {hours} hours");

    let secret = there.create(&json!({"apiVersion": "v1", "kind": "Secret",
        "type": "kubernetes.io/service-account-token", "metadata": {"name": "empty", "namespace": "default",
        "annotations": {"kubernetes.io/service-account.name": "default"}}}));
    // Where the controller works it takes 15 ms.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let path = crate::common::admin::object_path(&secret);
    assert!(there.get(&path).is_some_and(|secret| secret["data"]["token"].is_null()), "nobody fills it");
    there.delete(&path);
}
