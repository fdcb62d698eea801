//! Questions about GitLab's API: the URL, the CA and the operator's token. They are checked by using them.

use std::time::Duration;

use super::super::{AskError, ask, told};
use super::Questions;
use crate::base::error::{Failure, Id, Result};
use crate::base::request::Deadline;
use crate::commands::session::Outside;
use crate::gitlab::facts::{self, Purpose};
use crate::gitlab::{Gitlab, caller, credentials};
use crate::settings::{Source, check};

/// How long GitLab may take to answer while somebody waits at a question.
const PATIENCE: Duration = Duration::from_secs(20);
const DEFAULT_GITLAB: &str = "https://gitlab.com";

impl Questions<'_, '_> {
    pub(super) async fn ask_url(&mut self) -> Result<()> {
        let given = self.settings().gitlab_url.as_ref().map(|url| url.value.clone());
        let proposed = self.remote.as_ref().filter(|_| given.is_none()).cloned();
        let (prompt, default) = match &proposed {
            Some(remote) => (format!("GitLab URL (from the git remote {})", remote.name), remote.url.clone()),
            None => ("GitLab URL".to_owned(), given.unwrap_or_else(|| DEFAULT_GITLAB.to_owned())),
        };
        loop {
            self.text("gitlabUrl", &prompt, &default, check::gitlab_url).await?;
            if !self.has_token() || !self.is_sent_to_proposal() {
                return Ok(());
            }
            let url = self.settings().gitlab_url.as_ref().map(|url| url.value.clone()).unwrap_or_default();
            let prompt = format!("Send your GitLab token to {url}, which only the git remote names?");
            if self.outside.asking(|ask| ask::confirm(ask, &prompt)).await? {
                return Ok(());
            }
            self.drop_answers(&["gitlabUrl"]).await?;
        }
    }
    /// Checks the token that is given, or asks for one.
    pub(super) async fn token(&mut self) -> Result<()> {
        let mut ask_first = !self.has_token();
        loop {
            if ask_first {
                self.ask_token().await?;
            }
            ask_first = true;
            let failure = match self.caller().await {
                Ok(text) => {
                    self.say(&format!("  {text}")).await?;
                    self.caller = Some(text);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let mistaken = self.mistaken(&failure).await?;
            self.refuse(&told(&failure)).await?;
            match mistaken {
                Mistaken::Token => self.drop_token().await?,
                Mistaken::Url => {
                    self.ask_url().await?;
                    ask_first = false;
                }
                Mistaken::Ca => {
                    let prompt = "File with GitLab's CA certificates (empty to change the URL)";
                    match self.file(prompt).await? {
                        Some(path) => self.keep("gitlabCaFile", &path).await?,
                        None => self.ask_url().await?,
                    }
                    ask_first = false;
                }
                Mistaken::CaFile => {
                    self.remove("gitlabCaFile").await?;
                    let prompt = "File with GitLab's CA certificates (empty to use those of this machine)";
                    if let Some(path) = self.file(prompt).await? {
                        self.keep("gitlabCaFile", &path).await?;
                    }
                    ask_first = !self.has_token();
                }
            }
        }
    }

    /// Forgets the token that was refused. One in a variable stays there: an answer comes before it.
    async fn drop_token(&mut self) -> Result<()> {
        if self.outside.typed.take().is_some() {
            return Ok(());
        }
        let Some(path) = self.settings().gitlab_token_file.as_ref().map(|path| path.value.clone()) else {
            return Ok(());
        };
        self.outside.intake.forget(&path);
        self.remove("gitlabTokenFile").await
    }

    /// Which answer a failure is about; the failure itself for a signal.
    async fn mistaken(&self, failure: &Failure) -> Result<Mistaken> {
        if failure.id == Id::Interrupted {
            return Err(failure.clone());
        }
        if credentials::gitlab_roots(self.settings(), &self.outside.intake).await.is_err() {
            return Ok(Mistaken::CaFile);
        }
        Ok(match failure.id {
            Id::GitlabCertificate => Mistaken::Ca,
            Id::NotGitlab | Id::GitlabUnavailable | Id::GitlabProxyRefused | Id::GitlabTlsUnsupported => {
                Mistaken::Url
            }
            _ => Mistaken::Token,
        })
    }

    pub(super) fn has_token(&self) -> bool {
        self.outside.typed.is_some()
            || self.settings().gitlab_token_file.is_some()
            || credentials::from_env(self.outside.env).is_some()
    }

    /// Whether a token that was given would be sent to a host that only the git remote named.
    fn is_sent_to_proposal(&self) -> bool {
        let settings = self.settings();
        let proposed = self.remote.as_ref().map(|remote| &remote.url);
        let url = settings.gitlab_url.as_ref().filter(|url| url.source == Source::Asked);
        url.is_some_and(|url| Some(&url.value) == proposed && url.value != DEFAULT_GITLAB)
    }

    pub(super) async fn ask_token(&mut self) -> Result<()> {
        if let Some(path) = self.settings().gitlab_token_file.as_ref().map(|path| path.value.clone()) {
            self.outside.intake.forget(&path);
        }
        let prompt = "File with your GitLab access token, scope api (empty to type it)";
        if let Some(path) = self.file(prompt).await? {
            self.outside.typed = None;
            return self.keep("gitlabTokenFile", &path).await;
        }
        let token = self.outside.asking(|ask| ask.secret("Your GitLab access token")).await?;
        self.outside.typed = Some(token);
        self.remove("gitlabTokenFile").await
    }

    /// Asks for a token to look at GitLab with. Without an answer, GitLab is not checked.
    pub(super) async fn ask_token_to_look(&mut self) -> Result<()> {
        let prompt = "Your GitLab access token; Enter leaves GitLab unchecked";
        loop {
            let answer = self.outside.asking(|ask| match ask.secret(prompt) {
                Err(AskError::Ended) => Ok(None),
                answer => answer.map(|token| Some(token).filter(|token| !token.expose().trim().is_empty())),
            });
            let Some(token) = answer.await? else { return Ok(()) };
            let Outside { env, intake, .. } = &self.outside;
            match credentials::token(self.settings(), env, Some(token.clone()), intake).await {
                Ok(_) => {
                    self.outside.typed = Some(token);
                    return Ok(());
                }
                Err(failure) => self.refuse(&told(&failure)).await?,
            }
        }
    }

    /// The connection to GitLab, with a deadline of its own.
    pub(super) async fn connect(&mut self) -> Result<Gitlab> {
        let settings = self.settings().clone();
        let mut limits = self.outside.limits(&settings);
        limits.deadline = Deadline::after(PATIENCE.min(limits.deadline.remaining()));
        let typed = self.outside.typed.clone();
        let access = self.outside.gitlab(&settings, typed, &limits).await?;
        access.client.ok_or_else(|| Failure::new(Id::InvalidInput, access.why_not))
    }

    /// Whose token it is, if it may do what is needed.
    async fn caller(&mut self) -> Result<String> {
        let gitlab = self.connect().await?;
        let caller = caller::caller(&gitlab).await?;
        let purpose = if self.exists == Some(true) { Purpose::Pipeline } else { Purpose::Runner };
        match caller.token.as_ref().and_then(|token| facts::lacks(token, purpose).into_iter().next()) {
            Some(failure) => Err(failure),
            None => Ok(caller.text()),
        }
    }
}

/// Which answer was wrong.
enum Mistaken {
    Token,
    Url,
    /// The certificates that are trusted.
    Ca,
    /// The file cannot be used.
    CaFile,
}
