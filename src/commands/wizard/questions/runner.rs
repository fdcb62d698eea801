//! Questions about the runner: a new one or one that exists, its tags, and the machine that it runs on.

use std::path::Path;

use super::super::{ask, told};
use super::Questions;
use crate::base::error::{Kind, Result};
use crate::base::text::count;
use crate::deployment::run::Part;
use crate::gitlab::credentials;
use crate::machine::target::{self, TARGETS};
use crate::settings::{Place, Source, check};

/// The row of the machines that stands for `--create-vm`.
const NEW_VM: &str = "create-vm";

impl Questions<'_, '_> {
    pub(super) async fn ask_runner(&mut self) -> Result<()> {
        let rows = [
            ("create".to_owned(), "a new runner in GitLab".to_owned()),
            ("use".to_owned(), "a runner that exists, by its authentication token".to_owned()),
        ];
        let answer = self.outside.asking(|ask| ask::choose(ask, "Runner", &rows, Some(0), None)).await?;
        self.exists = Some(answer == "use");
        if self.exists == Some(true) { Ok(()) } else { self.drop_answers(&["runnerTokenFile"]).await }
    }

    /// Checks the token that is given, or asks for one.
    pub(super) async fn runner_token(&mut self) -> Result<()> {
        let given = self.settings().runner_token_file.as_ref().map(|path| path.value.clone());
        let Some(path) = given else { return self.ask_runner_token().await };
        // Stdin is read when the token is used.
        if path.as_os_str() == "-" {
            return Ok(());
        }
        let Some(why) = self.checked_runner_token(&path).await? else { return Ok(()) };
        self.remove("runnerTokenFile").await?;
        self.refuse(&why).await?;
        self.ask_runner_token().await
    }

    /// Why the file cannot be used.
    async fn checked_runner_token(&self, path: &Path) -> Result<Option<String>> {
        let found = credentials::read_secret(&self.outside.intake, path, "runner token").await;
        match found.and_then(|token| credentials::check_runner_token(&token)) {
            Ok(()) => Ok(None),
            Err(failure) if failure.kind == Kind::Interrupted => Err(failure),
            Err(failure) => {
                self.outside.intake.forget(path);
                Ok(Some(told(&failure)))
            }
        }
    }

    pub(super) async fn ask_runner_token(&mut self) -> Result<()> {
        loop {
            let prompt = "File with the runner authentication token, glrt-... (empty to type it)";
            let path = if let Some(path) = self.file(prompt).await? {
                path
            } else {
                let token = self.outside.asking(|ask| ask.secret("Runner authentication token")).await?;
                self.outside.intake.typed(&token);
                "-".to_owned()
            };
            let why = match self.checked_runner_token(Path::new(&path)).await? {
                None => self.answer("runnerTokenFile", vec![path.clone()]).await?,
                why => why,
            };
            let Some(why) = why else { return Ok(()) };
            self.outside.intake.forget(Path::new(&path));
            self.refuse(&why).await?;
        }
    }
    pub(super) async fn ask_tags(&mut self) -> Result<()> {
        let default = self.settings().tags.value.join(",");
        loop {
            let answer = self
                .outside
                .asking(|ask| {
                    ask::input(ask, "Tags of the runner, separated by commas", Some(&default), tags)
                })
                .await?;
            match self.answer("tags", answer).await? {
                None => return Ok(()),
                Some(why) => self.refuse(&why).await?,
            }
        }
    }

    pub(super) async fn ask_target(&mut self) -> Result<()> {
        let mut rows: Vec<ask::Row> = TARGETS
            .iter()
            .map(|target| (target.name.to_owned(), format!("{}: {}", target.title, target.field)))
            .collect();
        if cfg!(feature = "aws") && self.includes(Part::Vm)? && self.runs_scripts()? {
            let note = "a new VM on Amazon Lightsail; setup creates it with your AWS credentials".to_owned();
            rows.push((NEW_VM.to_owned(), note));
        }
        let makes_vm = self.settings().create_vm;
        let default = if makes_vm { NEW_VM } else { target::of(self.settings().target.value).name };
        let default = rows.iter().position(|row| row.0 == default);
        let title = "Where the machine runs; setup writes a script for it";
        loop {
            let answer = self.outside.asking(|ask| ask::choose(ask, title, &rows, default, None)).await?;
            let host = self.settings().host.as_ref().map(|host| host.source.clone());
            // The host was an answer about the target before.
            if host == Some(Source::Asked) && answer != Place::Ssh.to_string() {
                self.drop_answers(&["host"]).await?;
            }
            let why = if answer == NEW_VM {
                self.drop_answers(&["target"]).await?;
                self.answer("createVm", vec!["true".to_owned()]).await?
            } else {
                self.drop_answers(&["createVm", "vmRegion"]).await?;
                // It may be given otherwise.
                let is_given = self.settings().create_vm;
                match if is_given { self.answer("createVm", Vec::new()).await? } else { None } {
                    None => self.answer("target", vec![answer]).await?,
                    why => why,
                }
            };
            let Some(why) = why else { return Ok(()) };
            self.refuse(&why).await?;
        }
    }

    /// Asks for the AWS region of the new VM.
    pub(super) async fn ask_region(&mut self) -> Result<()> {
        let prompt = "AWS region, such as eu-central-1 (empty for the one of AWS's settings)";
        let default = self.settings().vm_region.as_ref().map(|region| region.value.clone());
        let default = default.unwrap_or_default();
        loop {
            let region = self
                .outside
                .asking(|ask| ask::input(ask, prompt, Some(&default), |text| Ok(text.to_owned())))
                .await?;
            let why = if region.is_empty() {
                self.drop_answers(&["vmRegion"]).await?;
                None
            } else {
                self.answer("vmRegion", vec![region]).await?
            };
            let Some(why) = why else { return Ok(()) };
            self.refuse(&why).await?;
        }
    }

    /// Asks for the host that setup runs the script on; without one, the user runs the script.
    pub(super) async fn ask_host(&mut self) -> Result<()> {
        let prompt = "SSH destination of the machine, [USER@]HOST[:PORT] (empty to run the script yourself)";
        let valid = |text: &str| match text {
            "" => Ok(None),
            text => check::host(text).map(Some).map_err(|why| format!("{} {why}", check::escaped(text))),
        };
        loop {
            let host = self.outside.asking(|ask| ask::input(ask, prompt, Some(""), valid)).await?;
            let why = if let Some(host) = host {
                self.answer("host", vec![host]).await?
            } else {
                self.drop_answers(&["host"]).await?;
                // One that is given otherwise is not used. Only it may have said that the machine is reached over SSH.
                let is_given = self.settings().host.is_some();
                match if is_given { self.answer("host", Vec::new()).await? } else { None } {
                    None => self.answer("target", vec![Place::Ssh.to_string()]).await?,
                    why => why,
                }
            };
            let Some(why) = why else { return Ok(()) };
            self.refuse(&why).await?;
        }
    }
}

fn tags(text: &str) -> Result<Vec<String>, String> {
    let tags: Vec<&str> = text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
    if tags.is_empty() {
        return Err("at least one tag is required".to_owned());
    }
    if tags.len() > check::MOST_TAGS {
        let most = count(check::MOST_TAGS, "tag");
        return Err(format!("GitLab allows at most {most}"));
    }
    tags.into_iter().map(check::tag).collect()
}
