//! The providers' commands that let an address reach an API server which admits only listed networks.
//!
//! Sources: the reference pages of `gcloud container clusters update`, `aws eks update-cluster-config` and
//! `az aks update`. Each replaces the whole list.

use crate::base::error::{Command, Hint};
use crate::settings::shell_word;

/// The command for the provider of this cluster, by the names that its own tools give to contexts and servers; `None`
/// for another one. `address` is the machine's.
pub fn admit(context: &str, server: &str, address: &str) -> Option<Hint> {
    let network = if address.contains(':') { format!("{address}/128") } else { format!("{address}/32") };
    let command = gke(context, &network)
        .or_else(|| eks(context, &network))
        .or_else(|| aks(context, server, &network))?;
    let text = "let it through; this replaces the list, so add the networks that are on it, and take the address under \
        which the machine leaves its network";
    Some(Hint::new(text, Command::Whole(command)))
}

/// `gke_PROJECT_LOCATION_NAME`.
fn gke(context: &str, network: &str) -> Option<String> {
    let mut parts = context.strip_prefix("gke_")?.splitn(3, '_').map(shell_word);
    let (project, location, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!(
        "gcloud container clusters update {name} --project {project} --location {location} \
         --enable-master-authorized-networks --master-authorized-networks {network}"
    ))
}

/// `arn:aws:eks:REGION:ACCOUNT:cluster/NAME`.
fn eks(context: &str, network: &str) -> Option<String> {
    let mut parts = context.strip_prefix("arn:aws")?.split(':').skip(1);
    let (service, region, cluster) = (parts.next()?, parts.next()?, parts.nth(1)?);
    let name = cluster.strip_prefix("cluster/").filter(|_| service == "eks")?;
    Some(format!(
        "aws eks update-cluster-config --region {} --name {} --resources-vpc-config publicAccessCidrs={network}",
        shell_word(region),
        shell_word(name)
    ))
}

/// `az aks get-credentials` names the context after the cluster; the resource group is not in it.
fn aks(context: &str, server: &str, network: &str) -> Option<String> {
    let host = server.split("://").nth(1)?.split([':', '/']).next()?;
    host.ends_with(".azmk8s.io").then(|| {
        format!(
            "az aks update --resource-group GROUP --name {} --api-server-authorized-ip-ranges {network}",
            shell_word(context.trim_end_matches("-admin"))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_the_providers() {
        let command = |context: &str, server: &str, address: &str| {
            admit(context, server, address).and_then(|hint| hint.command).map(|command| command.to_string())
        };
        for (context, server, address, wanted) in [
            (
                "gke_acme_europe-west1_ci",
                "https://34.1.2.3",
                "203.0.113.7",
                "gcloud container clusters update ci --project acme --location europe-west1 \
                 --enable-master-authorized-networks --master-authorized-networks 203.0.113.7/32",
            ),
            (
                "arn:aws:eks:eu-west-1:123:cluster/ci",
                "https://x.eks.amazonaws.com",
                "2001:db8::7",
                "aws eks update-cluster-config --region eu-west-1 --name ci \
                 --resources-vpc-config publicAccessCidrs=2001:db8::7/128",
            ),
            (
                "ci-admin",
                "https://ci-1.hcp.westeurope.azmk8s.io:443",
                "203.0.113.7",
                "az aks update --resource-group GROUP --name ci --api-server-authorized-ip-ranges 203.0.113.7/32",
            ),
        ] {
            assert_eq!(command(context, server, address).as_deref(), Some(wanted));
        }
        for context in ["kind-dev", "gke_", "gke_a_b", "arn:aws:ecs:r:a:cluster/x", "arn:aws"] {
            assert_eq!(command(context, "https://10.0.0.1:6443", "203.0.113.7"), None, "{context}");
        }
    }
}
