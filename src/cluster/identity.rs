//! Identifies the cluster and compares it with the recorded one.

use crate::base::error::{Command, Failure, Id, Result};
use crate::cluster::Class;
use crate::cluster::view::{Hand, View};
use crate::deployment::object::{Kind as ObjectKind, Ref};
use crate::deployment::record::ClusterIdentity;
use crate::x509;

/// Identifies the cluster by the uid of `kube-system` and by its CA; a uid that may not be read stays empty.
pub async fn identity(view: &View) -> Result<ClusterIdentity> {
    let reference = Ref::cluster(ObjectKind::Namespace, "kube-system");
    let kube_system = match view.read(&reference).await {
        Ok(live) => live.map_or_else(String::new, |live| live.uid().to_owned()),
        Err(refusal) if refusal.class == Class::Forbidden => String::new(),
        Err(refusal) => return Err(refusal.into()),
    };
    let bundle = view.target.ca.as_deref().and_then(|ca| x509::read_bundle(ca).ok());
    let ca = bundle.as_ref().and_then(|bundle| bundle.certificates.first());
    Ok(ClusterIdentity {
        context: view.target.context.clone(),
        server: view.target.endpoint.url.clone(),
        kube_system,
        ca_fingerprint: ca.map(x509::Certificate::fingerprint_sha256).unwrap_or_default(),
    })
}

/// Refuses a cluster other than the recorded one, with OR0305 (exit 3); also reads the deployment's ServiceAccount,
/// which all later steps need.
pub async fn check(hand: &Hand) -> Result<()> {
    let account = hand.run.names.account();
    let (now, _) = tokio::join!(identity(hand), hand.read(&account));
    let now = now?;
    let (uid, fingerprint) = (&now.kube_system, &now.ca_fingerprint);
    let known = hand.notes.record().cluster.clone();
    let differs = if !known.kube_system.is_empty() && !uid.is_empty() {
        known.kube_system != *uid
    } else {
        !known.ca_fingerprint.is_empty() && known.ca_fingerprint != *fingerprint
    };
    let describe = |context: &str, server: &str, uid: &str| {
        let uid = if uid.is_empty() { "may not be read" } else { uid };
        format!("{context} at {server} (kube-system {uid})")
    };
    if differs {
        let message = format!("{} was set up on another cluster", hand.run.names.deployment);
        let given = hand.run.settings.context.as_ref().filter(|context| !context.source.is_remembered());
        let way = match given {
            Some(_) => "omit --context, or name the deployment on this cluster: --deployment NAME",
            None => {
                "name the context of the recorded cluster, --context NAME, or the deployment on this cluster, --deployment NAME"
            }
        };
        return Err(Failure::new(Id::AnotherCluster, message)
            .detail("recorded", describe(&known.context, &known.server, &known.kube_system))
            .detail("now", describe(&hand.target.context, &hand.target.endpoint.url, uid))
            .hint(way)
            .hint((format!("if {} no longer exists", known.context), Command::teardown_without_cluster())));
    }
    // The CA is the same: keep the recorded uid if it may not be read now.
    let kube_system = if uid.is_empty() { known.kube_system } else { uid.clone() };
    hand.journal.note(|record| record.cluster = ClusterIdentity { kube_system, ..now });
    Ok(())
}
