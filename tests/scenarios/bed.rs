//! Is the bed what the scenarios take it for? Told apart here, a broken bed is not mistaken for a
//! broken outrigger; and the double is held to what the real server does.

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
