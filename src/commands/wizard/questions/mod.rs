//! The questions: their order, when each is asked, and which are asked again after a change.

mod answer;
mod cluster;
mod connection;
mod project;
mod runner;

use std::collections::BTreeSet;

use super::remote::{self, Remote};
use super::review;
use crate::base::address::Reach;
use crate::base::error::Result;
use crate::commands::session::{Known, Outside};
use crate::deployment::run::Part;
use crate::engine;
use crate::gitlab::credentials;
use crate::settings::{Need, Place, RunOptions, Settings, Source, check};

pub use cluster::unreached;

/// A question, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Context,
    Deployment,
    Url,
    /// Whether to create a runner or to use an existing one.
    Runner,
    RunnerToken,
    Token,
    Project,
    Tags,
    Target,
    /// The host that setup runs the script on, over SSH.
    Host,
    /// The AWS region of a VM that setup makes.
    Region,
    Endpoint,
}

const ALL: [Question; 12] = [
    Question::Context,
    Question::Deployment,
    Question::Url,
    Question::Runner,
    Question::RunnerToken,
    Question::Token,
    Question::Project,
    Question::Tags,
    Question::Target,
    Question::Host,
    Question::Region,
    Question::Endpoint,
];

/// The questions of one run, and what is known so far.
pub struct Questions<'a, 'o> {
    pub outside: &'a mut Outside<'o>,
    pub known: Known,
    need: Need,
    /// Answered, or given and checked.
    done: BTreeSet<Question>,
    /// Whether the runner exists already, once that is known.
    pub exists: Option<bool>,
    remote: Option<Remote>,
    /// What GitLab says about the token.
    pub caller: Option<String>,
}

impl<'a, 'o> Questions<'a, 'o> {
    pub fn new(outside: &'a mut Outside<'o>, known: Known, need: Need) -> Self {
        Self { outside, known, need, done: BTreeSet::new(), exists: None, remote: None, caller: None }
    }

    pub fn settings(&self) -> &Settings {
        &self.known.0
    }

    /// Everything that a first setup is about.
    pub async fn all(&mut self) -> Result<()> {
        self.say(
            "This sets up a runner step by step. Nothing is changed before you confirm the plan; Ctrl-C leaves.",
        )
        .await?;
        if let Ok(here) = std::env::current_dir() {
            self.remote = remote::find(&self.outside.intake, &here).await;
        }
        loop {
            for question in ALL {
                // A deployment of another name may be recorded: its settings are known then.
                if self.known.1.is_some() {
                    let name = &self.settings().deployment.value;
                    let text = format!("Deployment {name} is recorded on this machine: its settings apply.");
                    self.say(&text).await?;
                    return self.gaps().await;
                }
                if !self.done.contains(&question) && self.applies(question).await? {
                    self.put(question).await?;
                    self.done.insert(question);
                }
            }
            match review::ask(self).await? {
                None => return Ok(()),
                Some(question) => self.change(question).await?,
            }
        }
    }

    /// The required values that are missing.
    pub async fn gaps(&mut self) -> Result<()> {
        if self.applies(Question::Context).await? {
            self.put(Question::Context).await?;
        }
        let has_token = credentials::from_env(self.outside.env).is_some() || self.outside.typed.is_some();
        if self.need == Need::Optional && !has_token && self.settings().gitlab_token_file.is_none() {
            return self.ask_token_to_look().await;
        }
        if self.settings().missing(self.need, has_token).is_empty() {
            return Ok(());
        }
        for question in
            [Question::Url, Question::Runner, Question::RunnerToken, Question::Token, Question::Project]
        {
            if self.applies(question).await? {
                self.put(question).await?;
            }
        }
        Ok(())
    }

    /// Asks a question again, and those whose answers depend on it.
    async fn change(&mut self, question: Question) -> Result<()> {
        let dependents: &[Question] = match question {
            Question::Url => &[Question::Token, Question::Project],
            Question::Runner => &[Question::RunnerToken, Question::Token, Question::Project, Question::Tags],
            Question::Token => &[Question::Project],
            Question::Context => &[Question::Endpoint],
            Question::Target => &[Question::Host, Question::Region],
            _ => &[],
        };
        for dependent in dependents {
            self.done.remove(dependent);
        }
        // A token is for one host, an address for one cluster.
        match question {
            Question::Url => {
                self.outside.typed = None;
                self.drop_answers(&["gitlabTokenFile"]).await?;
            }
            Question::Context => self.drop_answers(&["kubernetesHost"]).await?,
            _ => {}
        }
        match question {
            Question::Token => {
                self.ask_token().await?;
                self.done.remove(&question);
            }
            Question::Project => self.ask_project().await?,
            Question::RunnerToken => self.ask_runner_token().await?,
            other => {
                self.put(other).await?;
                // Also one that was given: no value is an answer, too.
                self.done.insert(other);
            }
        }
        Ok(())
    }

    /// Whether the deployment's part in GitLab is reached through the API.
    fn needs_api(&self) -> bool {
        self.need == Need::Project || self.exists != Some(true)
    }

    fn needs_project(&self) -> bool {
        let settings = self.settings();
        let has_scope = settings.group.is_some() || settings.instance_runner;
        self.needs_api() && !(self.need == Need::Runner && has_scope)
    }

    /// Whether the steps of this run include the one that runs the script on a host.
    pub fn runs_scripts(&self) -> Result<bool> {
        self.includes(Part::Host)
    }

    /// Whether the steps of this run include one for this part.
    fn includes(&self, part: Part) -> Result<bool> {
        let RunOptions { only, skip, from, .. } = self.outside.options;
        let steps = engine::select(only, skip, from.as_deref())?;
        Ok(steps.iter().any(|step| step.info().part == Some(part)))
    }

    /// Whether a question has to be asked, or what is given to be checked.
    async fn applies(&mut self, question: Question) -> Result<bool> {
        let settings = self.settings();
        let comes_by_file =
            settings.runner_token_file.is_some() || settings.legacy_registration_token_file.is_some();
        Ok(match question {
            Question::Context => {
                let mut settings = settings.clone();
                let recorded = self.known.1.as_ref().map(|record| record.cluster.context.clone());
                let (names, has) =
                    self.outside.settle_context(&mut settings, &recorded.unwrap_or_default()).await?;
                !has && names.len() > 1
            }
            Question::Deployment => settings.deployment.source == Source::Default,
            Question::Url => settings.gitlab_url.is_none(),
            Question::Runner => {
                let has_place =
                    settings.project.is_some() || settings.group.is_some() || settings.instance_runner;
                if self.exists.is_none() && (comes_by_file || has_place) {
                    self.exists = Some(comes_by_file);
                }
                self.exists.is_none()
            }
            Question::RunnerToken => {
                self.exists == Some(true) && settings.legacy_registration_token_file.is_none()
            }
            Question::Token => self.needs_api(),
            Question::Project => self.needs_project(),
            Question::Tags => self.exists != Some(true) && settings.tags.source == Source::Default,
            // A given host means ssh.
            Question::Target => {
                settings.target.source == Source::Default
                    && settings.script.is_none()
                    && settings.host.is_none()
                    && !settings.create_vm
            }
            Question::Host => {
                let is_by_hand =
                    settings.script.as_ref().is_some_and(|script| script.value.as_os_str() == "-");
                settings.target.value == Place::Ssh
                    && settings.host.is_none()
                    && !is_by_hand
                    && self.runs_scripts()?
            }
            // With the flag alone, AWS's settings name the region.
            Question::Region => {
                settings.vm_region.is_none() && settings.sources.get("createVm") == Some(&Source::Asked)
            }
            Question::Endpoint => {
                settings.kubernetes_host.is_none() && self.endpoint().await?.reach() != Reach::Anywhere
            }
        })
    }

    async fn put(&mut self, question: Question) -> Result<()> {
        match question {
            Question::Context => self.ask_context().await,
            Question::Deployment => {
                let default = self.settings().deployment.value.clone();
                self.text("deployment", "Deployment name", &default, check::deployment).await
            }
            Question::Url => self.ask_url().await,
            Question::Runner => self.ask_runner().await,
            Question::RunnerToken => self.runner_token().await,
            Question::Token => self.token().await,
            Question::Project => self.project().await,
            Question::Tags => self.ask_tags().await,
            Question::Target => self.ask_target().await,
            Question::Host => self.ask_host().await,
            Question::Region => self.ask_region().await,
            Question::Endpoint => self.ask_endpoint().await,
        }
    }

    /// Whether this question was put, so that its answer was not given otherwise.
    pub fn was_put(&self, question: Question) -> bool {
        self.done.contains(&question)
    }
}
