//! The inputs of the launch script: settings, the cluster's address and CA, and the user's additions.

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::cluster::endpoint_ca::Trust;
use crate::deployment::run::Run;
use crate::gitlab::endpoint_ca::GitlabCa;
use crate::machine::runner_config;
use crate::machine::script_files::Delivery;
use crate::machine::{Entry, GlobalSection, Installer, LaunchScript as Script, Method, Proxy, ScriptSecrets};
use crate::settings::{PodSecurity, Source};

/// All inputs of the script except the secrets.
#[derive(Clone)]
pub struct Inputs {
    /// The kubeconfig's context, for a comment.
    pub context: String,
    pub trust: Trust,
    pub gitlab_ca: GitlabCa,
    /// The additions of `--runner-config`.
    pub extra: toml::Table,
    /// The table of the cache.
    pub cache: Option<toml::Table>,
    pub proxy: Option<Proxy>,
    /// From [`modified`].
    pub credentials: String,
    pub delivery: Delivery,
}

pub fn gitlab_url(run: &Run) -> Option<&str> {
    run.settings.gitlab_url.as_ref().map(|url| url.value.as_str())
}

pub fn method(run: &Run) -> Method {
    *run.settings.install_method
}

/// The expected SHA-256 of the package or binary, if given.
pub fn sha256(run: &Run) -> Option<&str> {
    let settings = &run.settings;
    let given = if method(run) == Method::Binary { &settings.binary_sha256 } else { &settings.deb_sha256 };
    given.as_ref().map(|given| given.value.as_str())
}

/// The modification times of the files with credentials that the script contains, one word each; `extra` is the content
/// of `--runner-config`. No hash of their
/// content is noted, because a weak one could be guessed from it. A pipe or a missing file has none.
pub fn modified(run: &Run, extra: &toml::Table) -> String {
    let settings = &run.settings;
    let files = [
        ("cache", &settings.cache_credentials_file, settings.cache_type.is_some()),
        ("proxy", &settings.runner_proxy_credentials_file, true),
        ("runner-config", &settings.runner_config, runner_config::may_hold_secrets(extra)),
    ];
    let words = files.into_iter().filter(|(.., is_used)| *is_used).filter_map(|(name, path, _)| {
        Some(format!("{name}={}", crate::base::files::modified(&path.as_ref()?.value)?))
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Inputs {
    /// The script with these secrets, or without any.
    pub fn script<'a>(&'a self, run: &'a Run, secrets: Option<ScriptSecrets<'a>>) -> Script<'a> {
        let settings = &run.settings;
        let is_default = [&settings.apt_url, &settings.key_url, &settings.key_fingerprint]
            .iter()
            .all(|value| value.source == Source::Default)
            && settings.binary_url.is_none();
        Script {
            deployment: &run.names.deployment,
            outrigger_version: env!("CARGO_PKG_VERSION"),
            cluster: &self.context,
            ca_pem: self.trust.ca_pem.as_deref(),
            gitlab_ca_pem: self.gitlab_ca.ca_pem.as_deref(),
            account: run.names.account_user(),
            installer: Installer {
                method: method(run),
                version: &settings.runner_version.value,
                apt_url: &settings.apt_url.value,
                key_url: &settings.key_url.value,
                key_fingerprint: &settings.key_fingerprint.value,
                binary_url: settings.binary_url.as_ref().map(|url| url.value.as_str()),
                sha256: sha256(run),
                is_default,
                exact: false,
            },
            entry: Entry {
                name: &run.names.deployment,
                url: gitlab_url(run).unwrap_or_default(),
                job_limit: settings.job_limit.value,
                host: &self.trust.endpoint.url,
                namespace: &run.names.job_namespace,
                service_account: &run.job_account,
                image: &settings.image.value,
                pull_policy: settings.pull_policy.as_ref().map(|policy| policy.word()),
                restricted: *settings.pod_security == PodSecurity::Restricted,
                extra: Some(&self.extra),
                cache: self.cache.as_ref(),
            },
            global: GlobalSection::of(settings),
            proxy: self.proxy.as_ref(),
            tags: &settings.tags.value,
            target: self.delivery.placement.target,
            lock_metadata: self.delivery.placement.lock_metadata,
            replace_entry: settings.replace_entry,
            secrets,
        }
    }

    /// The document for the target, a size warning, and how it was shortened. Without secrets it is the plain script,
    /// for an existing host. Fails with OR0711 if the script is too long for the target.
    pub fn document(
        &self,
        run: &Run,
        inline: Option<ScriptSecrets<'_>>,
        with_secrets: bool,
    ) -> Result<(Secret, Option<String>, Option<&'static str>)> {
        let script = self.script(run, inline);
        if !with_secrets {
            return Ok((script.render()?, None, None));
        }
        let (script, made) = script.fitting()?;
        let target = self.delivery.placement.target;
        let document = target.wrap(script.expose(), &run.names.deployment);
        let warning = target.check_size(&document)?;
        Ok((Secret::new(document), warning, made))
    }
}
