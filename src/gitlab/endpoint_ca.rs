//! The CA certificates that the runner needs for GitLab.

use std::time::Duration;

use crate::base::endpoint::Endpoint;
use crate::base::text::count;
use crate::gitlab::view::View;
use crate::x509::tls;
use crate::x509::{self, Host};

/// The part of `--gitlab-ca-file` that goes into the launch script.
#[derive(Clone, Debug, Default)]
pub struct GitlabCa {
    /// Canonical PEM; `None` without such a file.
    pub ca_pem: Option<String>,
    /// The number of certificates left out, or the reason why the script contains the whole file.
    pub note: Option<String>,
}

/// The certificates of a bundle that verify GitLab's certificate at each address of its name; the whole bundle
/// if GitLab cannot be reached directly, or if no certificate verifies it.
///
/// gitlab-runner adds its `tls-ca-file` to the machine's own roots (`network/client.go`, `addTLSCA`). Job pods
/// get the verified chain (`helpers/tls/ca_chain`), not this file.
pub async fn ca(view: &View) -> &GitlabCa {
    view.ca.get_or_init(|| find(view)).await
}

async fn find(view: &View) -> GitlabCa {
    let Some(bundle) = &view.access.roots.given else { return GitlabCa::default() };
    let whole = |note| GitlabCa { ca_pem: Some(bundle.to_pem()), note };
    let url = view.run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    let Ok(endpoint) = Endpoint::parse(url, "--gitlab-url") else { return whole(None) };
    // Nothing to leave out, and outrigger's own requests verify the server.
    let single = bundle.certificates.iter().all(|one| *one == bundle.certificates[0]);
    if single && view.is_connected() {
        return whole(None);
    }
    let deadline = Duration::from_secs(5).min(view.limits.request_timeout);
    let served = match tls::served_chains(&endpoint.host, endpoint.port, None, deadline).await {
        Ok(served) => served,
        Err(_) if single => return whole(None),
        Err(fault) => {
            return whole(Some(format!(
                "the launch script contains the whole GitLab CA file: cannot connect directly to {url} ({fault})"
            )));
        }
    };
    let chains: Vec<&[Vec<u8>]> = served.iter().map(|served| served.chain.as_slice()).collect();
    let narrowed = x509::narrow(bundle, &chains, &Host::parse(&endpoint.host), view.run.now);
    if !narrowed.verdicts.iter().any(|verdict| verdict.accepted) {
        let why = narrowed.verdict().map(|verdict| verdict.why.join("; ")).unwrap_or_default();
        return whole(Some(format!(
            "the GitLab CA file does not verify {url}: gitlab-runner will reject its certificate unless the machine's own roots verify it ({why})"
        )));
    }
    let note = (narrowed.left_out > 0).then(|| {
        let others = count(narrowed.left_out, "other certificate");
        format!("left out {others} of the GitLab CA file: not needed for {url}")
    });
    GitlabCa { ca_pem: Some(narrowed.bundle.to_pem()), note }
}
