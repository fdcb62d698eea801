//! What is asked of the real server alone, as the double does not know every kind.

use libtest_mimic::Trial;

use crate::common::admin::Admin;
use crate::common::bed::{Bed, User};
use crate::common::pool::{self, Pool};
use crate::control_plane::{ControlPlane, unlistable};
use crate::scenarios::bed::{edit_binding, namespace};

/// The names of the trials below, for when there is no server to run them on.
pub const NAMES: &[&str] = &["bed_edit_lists_most_kinds"];

/// The trials of this file.
pub fn trials(pool: &'static Pool<ControlPlane>) -> Vec<Trial> {
    let functions: [fn(&ControlPlane); 1] = [edit_lists];
    NAMES.iter().zip(functions).map(|(name, run)| pool::trial(pool, name, "bed", run)).collect()
}

/// The kinds that `edit` does not list although discovery has them: before a namespace of ours is
/// deleted, whoever runs teardown must be able to say that nothing foreign is inside.
fn edit_lists(plane: &ControlPlane) {
    let name = plane.fresh_deployment();
    plane.admin().create(&namespace(&name));
    plane.admin().create(&edit_binding(&name, User::Nobody));
    let nobody = Admin::new(&plane.kubeconfig(User::Nobody));
    let refused = unlistable(plane.admin(), &nobody, &name);
    plane.admin().delete(&format!("/api/v1/namespaces/{name}"));
    let known = [
        "csistoragecapacities.storage.k8s.io",
        "podcertificaterequests.certificates.k8s.io",
        "podtemplates.",
        "rolebindings.rbac.authorization.k8s.io",
        "roles.rbac.authorization.k8s.io",
    ];
    assert_eq!(refused.iter().map(String::as_str).collect::<Vec<_>>(), known);
}
