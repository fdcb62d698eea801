//! The question about the project, which is looked at in GitLab.

use super::super::{ask, told};
use super::Questions;
use crate::base::error::{Id, Result};
use crate::gitlab::caller;
use crate::gitlab::facts::{self, Purpose};
use crate::settings::{Need, check};

impl Questions<'_, '_> {
    /// Checks the project that is given, or asks for one.
    pub(super) async fn project(&mut self) -> Result<()> {
        if self.settings().project.is_none() {
            return self.ask_project().await;
        }
        match self.checked_project().await? {
            None => Ok(()),
            Some(why) => {
                self.refuse(&why).await?;
                self.ask_project().await
            }
        }
    }

    pub(super) async fn ask_project(&mut self) -> Result<()> {
        let gitlab = self.connect().await?;
        let url = gitlab.url().to_owned();
        let proposed = self.remote.as_ref().and_then(|remote| {
            Some((remote.project_on(&url)?, format!("from the git remote {}", remote.name)))
        });
        let mut rows: Vec<ask::Row> =
            caller::projects(&gitlab).await.into_iter().map(|path| (path, String::new())).collect();
        let mut default = None;
        if let Some((path, note)) = proposed {
            rows.retain(|row| row.0 != path);
            rows.insert(0, (path, note));
            default = Some(0);
        }
        loop {
            let answer = if rows.is_empty() {
                self.outside
                    .asking(|ask| ask::input(ask, "GitLab project (path or id)", None, check::project))
                    .await?
            } else {
                let title = "GitLab project (you are at least Maintainer of those listed)";
                self.outside
                    .asking(|ask| ask::choose(ask, title, &rows, default, Some(&check::project)))
                    .await?
            };
            let why = match self.answer("project", vec![answer]).await? {
                Some(why) => Some(why),
                None => self.checked_project().await?,
            };
            match why {
                None => return Ok(()),
                Some(why) => {
                    self.drop_answers(&["project"]).await?;
                    self.refuse(&why).await?;
                }
            }
        }
    }

    /// Tells what the project is, or returns why it cannot be used.
    async fn checked_project(&mut self) -> Result<Option<String>> {
        let gitlab = self.connect().await?;
        let found = match facts::look(&gitlab, self.settings()).await {
            Ok(found) => found,
            Err(failure) if failure.id == Id::Interrupted => return Err(failure),
            Err(failure) => return Ok(Some(told(&failure))),
        };
        let mut obstacles = match self.exists {
            Some(true) => Vec::new(),
            _ => facts::obstacles(&found, Purpose::Runner),
        };
        if self.need == Need::Project {
            obstacles.extend(facts::obstacles(&found, Purpose::Pipeline));
        }
        if let Some(failure) = obstacles.first() {
            return Ok(Some(told(failure)));
        }
        let name = found.project.as_ref().map(crate::gitlab::Project::shown).unwrap_or_default();
        let role = match (found.admin, found.access) {
            (Some(true), _) => "you are an administrator".to_owned(),
            (_, Some(access)) => format!("your role: {}", access.word()),
            _ => "GitLab does not tell your role and checks it when the runner is created".to_owned(),
        };
        self.say(&format!("  {name}; {role}")).await?;
        Ok(None)
    }
}
