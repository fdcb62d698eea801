//! Objects of earlier settings are removed in a safe order, and only with the recorded uid and the deployment's id.

use serde_json::json;

use super::*;
use crate::steps::fixture::{self, World};

fn owned(object: Ref) -> Owned {
    Owned { object, uid: "u".to_owned() }
}

#[test]
fn stale_objects_are_removed_and_the_namespace_last() {
    let before = World::new(&["--namespace", "older"]).run.names;
    let [runner, older] = before.namespaces();
    let temporary = Ref::new(Kind::RoleBinding, "older", "demo-admin-1");
    let mut objects = vec![older, before.job_account(), before.role(), before.role_binding(), temporary];
    objects.extend([runner, before.account(), before.token_secret("")]);
    let objects: Vec<_> = objects.into_iter().map(owned).collect();
    let stale = |flags: &[&str]| -> Vec<String> {
        let run = World::new(flags).run;
        let secrets = vec![run.names.token_secret("")];
        super::stale(&run, &objects, secrets).iter().map(|owned| owned.object.to_string()).collect()
    };
    assert!(stale(&["--namespace", "older"]).is_empty(), "the settings are the same");
    assert_eq!(
        stale(&[]),
        ["RoleBinding older/demo", "Role older/demo", "ServiceAccount older/demo-job", "Namespace older"]
    );
}

#[test]
fn stale_object_needs_uid_and_id() {
    let names = World::new(&[]).run.names;
    let ours = fixture::live(&names.manifest(names.role(), fixture::ID, &json!({})));
    let recorded = |uid: &str| Owned { object: ours.reference.clone(), uid: uid.to_owned() };
    assert!(is_ours(&ours, &recorded("uid-demo"), fixture::ID));
    assert!(!is_ours(&ours, &recorded("another"), fixture::ID));
    assert!(!is_ours(&ours, &recorded("uid-demo"), "another"));
}
