//! What the launch script is made from: settings, the cluster's address and CA, and what the user adds.

use crate::base::error::{Failure, Id, Kind, Result};
use crate::cluster::endpoint_ca::Trust;
use crate::machine::install::known_sha256;
use crate::machine::script_files::Delivery;
use crate::machine::{Entry, Installer, LaunchScript as Script, Method, ScriptSecrets, config_entry};
use crate::steps::context::Context;

/// GitLab's address, if it is known.
#[must_use]
pub fn gitlab_url(cx: &Context) -> Option<&str> {
    cx.settings.gitlab_url.as_ref().map(|url| url.value.as_str())
}

/// How gitlab-runner is installed.
#[must_use]
pub fn method(cx: &Context) -> Method {
    *cx.settings.install_method
}

/// The SHA-256 that the package or the binary must have, if it is known.
#[must_use]
pub fn sha256(cx: &Context) -> Option<&str> {
    let (method, settings) = (method(cx), &cx.settings);
    let given = if method == Method::Binary { &settings.binary_sha256 } else { &settings.deb_sha256 };
    match given {
        Some(given) => Some(given.value.as_str()),
        None if settings.binary_url.is_some() => None,
        None => known_sha256(method, &settings.runner_version.value),
    }
}

/// Reads what `--runner-config` adds, once.
///
/// # Errors
/// OR0712 for a file that cannot be read or used.
pub async fn read_extra(cx: &Context) -> Result<()> {
    if cx.facts.runner_extra.get().is_some() {
        return Ok(());
    }
    let extra = match &cx.settings.runner_config {
        None => toml::Table::new(),
        Some(path) => {
            let path = &path.value;
            let unusable = |why: &str| {
                Failure::new(Id::RunnerConfig, format!("{} cannot be used", path.display()))
                    .with_kind(Kind::Usage)
                    .detail("because", why)
                    .hint("name a TOML file with one [[runners]] with --runner-config FILE")
            };
            let bytes = cx.intake.text(path).await?.ok_or_else(|| unusable("it does not exist"))?;
            let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not UTF-8"))?;
            config_entry::parse(text, cx.settings.pod_security.word())?
        }
    };
    let _ = cx.facts.runner_extra.set(extra);
    Ok(())
}

fn is_restricted(cx: &Context) -> bool {
    *cx.settings.pod_security == crate::settings::PodSecurity::Restricted
}

/// The script; [`read_extra`] comes first.
#[must_use]
pub fn script<'a>(
    cx: &'a Context,
    delivery: &Delivery,
    trust: &'a Trust,
    secrets: Option<ScriptSecrets<'a>>,
) -> Script<'a> {
    let settings = &cx.settings;
    let is_default = [&settings.apt_url, &settings.key_url, &settings.key_fingerprint]
        .iter()
        .all(|value| value.source == crate::settings::Source::Default)
        && settings.binary_url.is_none();
    Script {
        deployment: &cx.names.deployment,
        outrigger_version: env!("CARGO_PKG_VERSION"),
        cluster: &cx.target.context,
        ca_pem: trust.ca_pem.as_deref(),
        gitlab_ca_pem: trust.gitlab.ca_pem.as_deref(),
        account: cx.names.account_user(),
        installer: Installer {
            method: method(cx),
            version: &settings.runner_version.value,
            apt_url: &settings.apt_url.value,
            key_url: &settings.key_url.value,
            key_fingerprint: &settings.key_fingerprint.value,
            binary_url: settings.binary_url.as_ref().map(|url| url.value.as_str()),
            sha256: sha256(cx),
            is_default,
        },
        entry: Entry {
            name: &cx.names.deployment,
            url: gitlab_url(cx).unwrap_or_default(),
            job_limit: settings.job_limit.value,
            host: &trust.endpoint.url,
            namespace: &cx.names.job_namespace,
            service_account: &cx.job_account,
            image: &settings.image.value,
            pull_policy: settings.pull_policy.as_ref().map(|policy| policy.word()),
            restricted: is_restricted(cx),
            extra: cx.facts.runner_extra.get(),
        },
        tags: &settings.tags.value,
        target: delivery.placement.target,
        lock_metadata: delivery.placement.lock_metadata,
        replace_entry: settings.replace_entry,
        secrets,
    }
}
