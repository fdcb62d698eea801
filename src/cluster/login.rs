//! A login by an exec plugin, renewed before its credentials end.

#![expect(clippy::disallowed_types, reason = "this is the module that the ban protects")]

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::build;
use super::plugin::{Credential, Plugin};
use super::refusal::Refusal;
use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::request::Limits;

/// What it takes to log in again.
pub(super) struct Login {
    plugin: Plugin,
    /// The client's configuration but for the credentials.
    config: kube::Config,
    expires: Cell<Option<jiff::Timestamp>>,
    /// Held while the plugin runs: requests side by side need it once.
    busy: tokio::sync::Mutex<()>,
}

impl Login {
    /// Logs in for the first time, within the limits; returns the configuration with the credentials, too.
    ///
    /// # Errors
    /// OR0404, of kind `Deadline` where the plugin does not end in time: it is ended then.
    pub async fn first(
        plugin: &Plugin,
        config: &kube::Config,
        limits: &Limits,
    ) -> Result<(kube::Config, Self)> {
        let remaining = limits.deadline.saturating_duration_since(Instant::now());
        let patience = remaining.min(limits.request_timeout.max(Duration::from_secs(30)));
        let login = tokio::time::timeout(patience, plugin.run());
        let credential = limits.cancel.unless_requested(login).await?.map_err(|_| {
            Failure::new(Id::CredentialPlugin, "the kubeconfig's exec plugin timed out")
                .with_kind(Kind::Deadline)
                .passing()
                .detail("the plugin", plugin.shown())
                .hint(("let it ask what it has to, then try again", Command::kubectl("version")))
        })??;
        let login = Self {
            plugin: plugin.clone(),
            config: config.clone(),
            expires: Cell::new(credential.expires),
            busy: tokio::sync::Mutex::default(),
        };
        Ok((with(config.clone(), &credential), login))
    }

    /// Whether the credentials end within the next minute.
    fn is_over(&self) -> bool {
        let now = jiff::Timestamp::now().as_second();
        self.expires.get().is_some_and(|end| end.as_second() <= now + 60)
    }

    /// Replaces the client where its credentials are about to end.
    pub async fn renew(&self, what: &str, client: &RefCell<kube::Client>) -> Result<(), Refusal> {
        if !self.is_over() {
            return Ok(());
        }
        let _busy = self.busy.lock().await;
        if self.is_over() {
            let credential = self.plugin.run().await.map_err(|failure| Refusal::login(what, failure))?;
            let renewed = build(with(self.config.clone(), &credential))
                .map_err(|error| Refusal::transport(what, &error))?;
            client.replace(renewed);
            self.expires.set(credential.expires);
        }
        Ok(())
    }
}

/// The configuration with what a plugin gave.
fn with(mut config: kube::Config, credential: &Credential) -> kube::Config {
    config.auth_info.token = credential.token.as_ref().map(|token| token.expose().to_owned().into());
    if let Some((certificate, key)) = &credential.identity {
        config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(key.expose()).into());
    }
    config
}
