//! Takes an answer: together with the settings that are given, after the same checks as a flag.

use std::path::{Path, PathBuf};

use super::super::ask;
use super::Questions;
use crate::base::error::{Failure, Id, Result};
use crate::settings::{Source, check};

impl Questions<'_, '_> {
    pub async fn say(&mut self, text: &str) -> Result<()> {
        self.outside.asking(|ask| ask.say(text)).await
    }

    pub(super) async fn refuse(&mut self, why: &str) -> Result<()> {
        self.outside.asking(|ask| ask::refuse(ask, why)).await
    }
    /// Takes an answer; returns why it is refused together with the other settings. A default that is left as it is
    /// stays a default, which gives way to what a deployment in the cluster notes.
    pub(super) async fn answer(&mut self, key: &'static str, values: Vec<String>) -> Result<Option<String>> {
        if self.settings().view(key) == Some((values.clone(), Source::Default)) {
            return Ok(None);
        }
        let before = self.outside.asked.insert(key.to_owned(), values);
        match self.outside.settings().await {
            Ok(known) => {
                self.known = known;
                Ok(None)
            }
            Err(failure) if failure.id == Id::InvalidInput => {
                match before {
                    Some(before) => self.outside.asked.insert(key.to_owned(), before),
                    None => self.outside.asked.remove(key),
                };
                let why: Vec<String> =
                    failure.details.iter().map(|(name, why)| format!("{name} {why}")).collect();
                Ok(Some(why.join("; ")))
            }
            Err(failure) => Err(failure),
        }
    }

    /// As [`Self::answer`], for an answer that was checked.
    pub(super) async fn keep(&mut self, key: &'static str, value: &str) -> Result<()> {
        match self.answer(key, vec![value.to_owned()]).await? {
            None => Ok(()),
            Some(why) => Err(Failure::new(Id::InvalidInput, why)),
        }
    }

    /// Leaves a setting without a value: what another source gives was refused. Printed commands and the record do not
    /// name it any more.
    pub(super) async fn remove(&mut self, key: &'static str) -> Result<()> {
        self.outside.asked.insert(key.to_owned(), Vec::new());
        self.known = self.outside.settings().await?;
        Ok(())
    }

    pub(super) async fn drop_answers(&mut self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.outside.asked.remove(*key);
        }
        self.known = self.outside.settings().await?;
        Ok(())
    }

    /// Asks for one line until it is accepted.
    pub(super) async fn text(
        &mut self,
        key: &'static str,
        prompt: &str,
        default: &str,
        check: impl Fn(&str) -> Result<String, String>,
    ) -> Result<()> {
        loop {
            let answer = self.outside.asking(|ask| ask::input(ask, prompt, Some(default), &check)).await?;
            match self.answer(key, vec![answer]).await? {
                None => return Ok(()),
                Some(why) => self.refuse(&why).await?,
            }
        }
    }

    /// Asks for a readable file; `None` for the empty answer. The path becomes absolute.
    pub(super) async fn file(&mut self, prompt: &str) -> Result<Option<String>> {
        let home = self.outside.home();
        let valid = |text: &str| match text {
            "" => Ok(None),
            text => readable_file(text, home.as_deref()).map(Some),
        };
        self.outside.asking(|ask| ask::input(ask, prompt, Some(""), valid)).await
    }
}

/// The absolute path of a file that can be read.
fn readable_file(text: &str, home: Option<&Path>) -> Result<String, String> {
    check::text(text)?;
    check::no_token(text, true)?;
    let path = match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    };
    let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
    let about = std::fs::metadata(&path).map_err(cannot)?;
    if !about.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    std::fs::File::open(&path).map_err(cannot)?;
    Ok(std::path::absolute(&path).map_err(cannot)?.display().to_string())
}
