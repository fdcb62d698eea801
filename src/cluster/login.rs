//! Credentials from an exec plugin, renewed before they expire.

#![expect(clippy::disallowed_types, reason = "this is the module that the ban protects")]

use std::cell::{Cell, RefCell};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::build;
use super::plugin::{Credential, Plugin};
use super::refusal::{Class, Refusal};
use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::request::Limits;

pub(super) struct Login {
    plugin: Plugin,
    /// The client's configuration without credentials.
    config: kube::Config,
    expires: Cell<Option<jiff::Timestamp>>,
    /// Held while the plugin runs, so that concurrent requests run it once.
    busy: tokio::sync::Mutex<()>,
}

impl Login {
    /// Runs the plugin; returns the configuration with its credentials. Fails with OR0404, of kind `Deadline` if the
    /// plugin timed out and was killed.
    pub async fn first(
        plugin: &Plugin,
        config: &kube::Config,
        limits: &Limits,
    ) -> Result<(kube::Config, Self)> {
        let remaining = limits.deadline.remaining();
        let patience = remaining.min(limits.request_timeout.max(Duration::from_secs(30)));
        let login = tokio::time::timeout(patience, plugin.run());
        let credential = limits.cancel.unless_requested(login).await?.map_err(|_| {
            Failure::new(Id::CredentialPlugin, "the kubeconfig's exec plugin timed out")
                .with_kind(Kind::Deadline)
                .passing()
                .detail("the plugin", plugin.shown())
                .hint(("answer its prompts with kubectl, then try again", Command::kubectl("version")))
        })??;
        let login = Self {
            plugin: plugin.clone(),
            config: config.clone(),
            expires: Cell::new(credential.expires),
            busy: tokio::sync::Mutex::default(),
        };
        Ok((with(config.clone(), &credential), login))
    }

    /// Whether the credentials expire within the next minute.
    fn is_over(&self) -> bool {
        let now = jiff::Timestamp::now().as_second();
        self.expires.get().is_some_and(|end| end.as_second() <= now + 60)
    }

    /// Replaces the client if its credentials are about to expire.
    pub async fn renew(&self, what: &str, client: &RefCell<kube::Client>) -> Result<(), Refusal> {
        if !self.is_over() {
            return Ok(());
        }
        let _busy = self.busy.lock().await;
        if self.is_over() {
            let failed = |failure| Refusal::decided(Class::Credentials, what, "the login failed", failure);
            let credential = self.plugin.run().await.map_err(failed)?;
            let renewed = build(with(self.config.clone(), &credential))
                .map_err(|error| Refusal::transport(what, &error))?;
            client.replace(renewed);
            self.expires.set(credential.expires);
        }
        Ok(())
    }
}

/// Adds the plugin's credentials to the configuration.
fn with(mut config: kube::Config, credential: &Credential) -> kube::Config {
    config.auth_info.token = credential.token.as_ref().map(|token| token.expose().to_owned().into());
    if let Some((certificate, key)) = &credential.identity {
        config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(key.expose()).into());
    }
    config
}
