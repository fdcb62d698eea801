//! What a script needs to know of the deployment at the end of a run, however it ended.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::base::event::Summary;
use crate::deployment::names;
use crate::deployment::notes::Notes;
use crate::deployment::run::Run;

/// The deployment that a session was opened for.
pub struct Opened {
    pub run: Rc<Run>,
    pub notes: Rc<Notes>,
    /// The kubeconfig's context.
    pub context: String,
    /// The full path of the project in GitLab, once it is known.
    pub project: OnceCell<String>,
}

impl Opened {
    /// The facts as they are now.
    pub fn summary(&self) -> Summary {
        let (settings, record) = (&self.run.settings, self.notes.record());
        let noted = || self.notes.noted(names::RUNNER).and_then(|id| id.parse().ok());
        let runner = record.gitlab.owned().map(|runner| runner.id).or_else(noted);
        let script = record.script_path.as_ref().filter(|path| path.exists());
        Summary {
            deployment: settings.deployment.value.clone(),
            context: self.context.clone(),
            runner_namespace: settings.runner_namespace.value.clone(),
            namespace: settings.namespace.value.clone(),
            runner,
            runner_url: runner.and_then(|id| self.runner_url(id)),
            script: script.map(|path| path.display().to_string()),
            token_expires: self.notes.token_expires(),
            left: None,
        }
    }

    /// The page of a runner: docs.gitlab.com/ci/runners, "Manage runners". A project given by its id has no such
    /// page until its path is known.
    fn runner_url(&self, id: u64) -> Option<String> {
        let settings = &self.run.settings;
        let base = settings.gitlab_url.as_ref()?.value.trim_end_matches('/');
        let place = if settings.instance_runner {
            return Some(format!("{base}/admin/runners/{id}"));
        } else if let Some(group) = &settings.group {
            format!("groups/{}", group.value)
        } else {
            let given = settings.project.as_ref().map(|project| project.value.clone());
            self.project.get().cloned().or(given)?
        };
        let is_path = !place.rsplit('/').next().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        is_path.then(|| format!("{base}/{place}/-/runners/{id}"))
    }
}
