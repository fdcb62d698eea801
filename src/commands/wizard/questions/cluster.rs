//! Questions about the cluster: the context, and the API server's address for the runner's machine.

use super::super::{ask, told};
use super::Questions;
use crate::base::address::Reach;
use crate::base::error::Result;
use crate::cluster::{self, Endpoint, Selection};
use crate::settings::check;

impl Questions<'_, '_> {
    pub(super) async fn ask_context(&mut self) -> Result<()> {
        let (names, current) = self.outside.contexts(self.settings()).await?;
        let rows: Vec<ask::Row> = names.into_iter().map(|name| (name, String::new())).collect();
        let default = rows.iter().position(|row| Some(&row.0) == current.as_ref());
        loop {
            let name = self
                .outside
                .asking(|ask| ask::choose(ask, "Kubeconfig context", &rows, default, None))
                .await?;
            match self.answer("context", vec![name]).await? {
                None => return Ok(()),
                Some(why) => self.refuse(&why).await?,
            }
        }
    }
    /// The address of the API server for the runner's machine.
    pub async fn endpoint(&self) -> Result<Endpoint> {
        let settings = self.settings();
        if let Some(url) = &settings.kubernetes_host {
            return Endpoint::parse(&url.value, "--kubernetes-host");
        }
        let source = settings.context.as_ref().map(|context| context.source.to_string());
        let selection = Selection {
            file: settings.kubeconfig.as_ref().map(|path| path.value.as_path()),
            context: settings
                .context
                .as_ref()
                .map(|context| (context.value.as_str(), source.unwrap_or_default())),
            as_user: settings.as_user.as_deref(),
            as_groups: &settings.as_groups,
        };
        Ok(cluster::load(&selection, self.outside.env, &self.outside.intake).await?.endpoint)
    }

    pub(super) async fn ask_endpoint(&mut self) -> Result<()> {
        let endpoint = self.endpoint().await?;
        let url = endpoint.url.clone();
        if let Some(why) = unreached(&endpoint) {
            self.say(&format!("The API server at {url} {why}.")).await?;
        }
        let answer = self
            .outside
            .asking(|ask| {
                ask::input(
                    ask,
                    "Its URL for the runner's machine (Enter keeps this one)",
                    Some(&url),
                    |text| {
                        Endpoint::parse(text, "URL")
                            .map_err(|failure| told(&failure))
                            .and_then(|_| check::url(text))
                    },
                )
            })
            .await?;
        if answer == url { Ok(()) } else { self.keep("kubernetesHost", &answer).await }
    }
}

/// Why a machine elsewhere may not reach the address; completes "the API server at URL …".
pub fn unreached(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint.reach() {
        Reach::ThisMachine => Some("has an address of this machine: no other machine reaches it"),
        Reach::LinkLocal => {
            Some("has a link-local address: only machines on the same network segment reach it")
        }
        Reach::Private => Some("has a private address: only machines in that network reach it"),
        Reach::Anywhere => None,
    }
}
