//! The CA certificates that the runner needs for GitLab.

use std::time::Duration;

use crate::base::endpoint::Endpoint;
use crate::gitlab::view::View;
use crate::x509::tls;
use crate::x509::{self, Host};

/// What of `--gitlab-ca-file` goes to the machine.
#[derive(Clone, Debug, Default)]
pub struct GitlabCa {
    /// Canonical PEM; none without such a file.
    pub ca_pem: Option<String>,
    /// What was left out of it, or why nothing was.
    pub note: Option<String>,
}

/// Of many certificates those that verify what GitLab shows now, at each address of its name; all of them
/// where it cannot be reached directly from here, or where none verifies it.
///
/// The runner adds its `tls-ca-file` to the machine's own roots (`network/client.go`, `addTLSCA`) and
/// dials GitLab's host alone: a job's artifacts, caches and repository are the pod's business, which gets
/// the chain that the runner has verified (`helpers/tls/ca_chain`) and not this file.
pub async fn ca(view: &View) -> &GitlabCa {
    view.ca.get_or_init(|| find(view)).await
}

async fn find(view: &View) -> GitlabCa {
    let Some(bundle) = &view.access.roots.given else { return GitlabCa::default() };
    let whole = |note| GitlabCa { ca_pem: Some(bundle.to_pem()), note };
    let url = view.run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    let Ok(endpoint) = Endpoint::parse(url, "--gitlab-url") else { return whole(None) };
    // Of one nothing can be left out, and a client of ours looks at the server by itself.
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
                "GitLab's whole CA file goes to the machine: {url} cannot be reached directly from here ({fault})"
            )));
        }
    };
    let chains: Vec<&[Vec<u8>]> = served.iter().map(|served| served.chain.as_slice()).collect();
    let narrowed = x509::narrow(bundle, &chains, &Host::parse(&endpoint.host), view.run.now);
    if !narrowed.verdicts.iter().any(|verdict| verdict.accepted) {
        let why = narrowed.verdict().map(|verdict| verdict.why.join("; ")).unwrap_or_default();
        return whole(Some(format!(
            "GitLab's whole CA file goes to the machine, but nothing in it verifies {url}: unless the machine's own roots do, gitlab-runner will refuse it ({why})"
        )));
    }
    let note = (narrowed.left_out > 0).then(|| {
        let others = match narrowed.left_out {
            1 => "1 other certificate".to_owned(),
            others => format!("{others} other certificates"),
        };
        format!("{others} of GitLab's CA file left out: not needed for {url} as it is now")
    });
    GitlabCa { ca_pem: Some(narrowed.bundle.to_pem()), note }
}
