//! The questions: when each is asked, what it proposes, and how its answer is checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask;
use super::remote::{self, Remote};
use super::{review, told};
use crate::base::address::Reach;
use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::request::Deadline;
use crate::base::text::count;
use crate::cluster::{self, Endpoint, Selection};
use crate::commands::session::{Known, Outside};
use crate::gitlab::facts::{self, Purpose};
use crate::gitlab::{Gitlab, caller, credentials};
use crate::machine::target::{self, TARGETS};
use crate::settings::{Need, Settings, Source, check};

/// How long GitLab may take to answer while somebody waits at a question.
const PATIENCE: Duration = Duration::from_secs(20);
const DEFAULT_GITLAB: &str = "https://gitlab.com";

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
    Endpoint,
}

const ALL: [Question; 10] = [
    Question::Context,
    Question::Deployment,
    Question::Url,
    Question::Runner,
    Question::RunnerToken,
    Question::Token,
    Question::Project,
    Question::Tags,
    Question::Target,
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
            let prompt = "File with your GitLab access token (empty: GitLab is not checked)";
            let path = self.file(prompt).await?;
            return match path {
                Some(path) => self.keep("gitlabTokenFile", &path).await,
                None => Ok(()),
            };
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
            other => self.put(other).await?,
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
            Question::RunnerToken => self.exists == Some(true) && !comes_by_file,
            Question::Token => self.needs_api(),
            Question::Project => self.needs_project(),
            Question::Tags => self.exists != Some(true) && settings.tags.source == Source::Default,
            Question::Target => settings.target.source == Source::Default && settings.script.is_none(),
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
            Question::RunnerToken => self.ask_runner_token().await,
            Question::Token => self.token().await,
            Question::Project => self.project().await,
            Question::Tags => self.ask_tags().await,
            Question::Target => self.ask_target().await,
            Question::Endpoint => self.ask_endpoint().await,
        }
    }

    pub async fn say(&mut self, text: &str) -> Result<()> {
        self.outside.asking(|ask| ask.say(text)).await
    }

    async fn refuse(&mut self, why: &str) -> Result<()> {
        self.outside.asking(|ask| ask::refuse(ask, why)).await
    }

    /// Whether this question was put, so that its answer was not given otherwise.
    pub fn was_put(&self, question: Question) -> bool {
        self.done.contains(&question)
    }

    /// Takes an answer; returns why it is refused together with the other settings. A default that is left as it is
    /// stays a default, which gives way to what a deployment in the cluster notes.
    async fn answer(&mut self, key: &'static str, values: Vec<String>) -> Result<Option<String>> {
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
    async fn keep(&mut self, key: &'static str, value: &str) -> Result<()> {
        match self.answer(key, vec![value.to_owned()]).await? {
            None => Ok(()),
            Some(why) => Err(Failure::new(Id::InvalidInput, why)),
        }
    }

    async fn drop_answers(&mut self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.outside.asked.remove(*key);
        }
        self.known = self.outside.settings().await?;
        Ok(())
    }

    /// Asks for one line until it is accepted.
    async fn text(
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
    async fn file(&mut self, prompt: &str) -> Result<Option<String>> {
        let home = self.outside.home();
        let valid = |text: &str| match text {
            "" => Ok(None),
            text => readable_file(text, home.as_deref()).map(Some),
        };
        self.outside.asking(|ask| ask::input(ask, prompt, Some(""), valid)).await
    }

    async fn ask_context(&mut self) -> Result<()> {
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

    async fn ask_url(&mut self) -> Result<()> {
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

    async fn ask_runner(&mut self) -> Result<()> {
        let rows = [
            ("create".to_owned(), "a new runner in GitLab".to_owned()),
            ("use".to_owned(), "a runner that exists, by its authentication token".to_owned()),
        ];
        let answer = self.outside.asking(|ask| ask::choose(ask, "Runner", &rows, Some(0), None)).await?;
        self.exists = Some(answer == "use");
        if self.exists == Some(true) { Ok(()) } else { self.drop_answers(&["runnerTokenFile"]).await }
    }

    async fn ask_runner_token(&mut self) -> Result<()> {
        loop {
            let prompt = "File with the runner authentication token, glrt-... (empty to type it)";
            let path = if let Some(path) = self.file(prompt).await? {
                path
            } else {
                let token = self.outside.asking(|ask| ask.secret("Runner authentication token")).await?;
                self.outside.intake.typed(&token);
                "-".to_owned()
            };
            let found =
                credentials::read_secret(&self.outside.intake, Path::new(&path), "runner token").await;
            let why = match found.and_then(|token| credentials::check_runner_token(&token)) {
                Ok(()) => self.answer("runnerTokenFile", vec![path.clone()]).await?,
                Err(failure) if failure.kind == Kind::Interrupted => return Err(failure),
                Err(failure) => Some(told(&failure)),
            };
            let Some(why) = why else { return Ok(()) };
            self.outside.intake.forget(Path::new(&path));
            self.refuse(&why).await?;
        }
    }

    /// Checks the token that is given, or asks for one.
    async fn token(&mut self) -> Result<()> {
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
            let mistaken = mistaken(&failure)?;
            self.refuse(&told(&failure)).await?;
            match mistaken {
                Mistaken::Token => {}
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
            }
        }
    }

    fn has_token(&self) -> bool {
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

    async fn ask_token(&mut self) -> Result<()> {
        if let Some(path) = self.settings().gitlab_token_file.as_ref().map(|path| path.value.clone()) {
            self.outside.intake.forget(&path);
        }
        let prompt = "File with your GitLab access token, scope api (empty to type it)";
        if let Some(path) = self.file(prompt).await? {
            self.outside.typed = None;
            return self.keep("gitlabTokenFile", &path).await;
        }
        let token = self.outside.asking(|ask| ask.secret("Your GitLab access token")).await?;
        self.drop_answers(&["gitlabTokenFile"]).await?;
        self.outside.typed = Some(token);
        Ok(())
    }

    /// The connection to GitLab, with a deadline of its own.
    async fn connect(&mut self) -> Result<Gitlab> {
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

    /// Checks the project that is given, or asks for one.
    async fn project(&mut self) -> Result<()> {
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

    async fn ask_project(&mut self) -> Result<()> {
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

    async fn ask_tags(&mut self) -> Result<()> {
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

    async fn ask_target(&mut self) -> Result<()> {
        let rows: Vec<ask::Row> = TARGETS
            .iter()
            .map(|target| (target.name.to_owned(), format!("{}: {}", target.title, target.field)))
            .collect();
        let default = target::of(self.settings().target.value).name;
        let default = rows.iter().position(|row| row.0 == default);
        let title = "Where the machine runs; setup writes a script that you give it";
        let answer = self.outside.asking(|ask| ask::choose(ask, title, &rows, default, None)).await?;
        self.keep("target", &answer).await
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

    async fn ask_endpoint(&mut self) -> Result<()> {
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

/// Which answer was wrong.
enum Mistaken {
    Token,
    Url,
    Ca,
}

/// Which answer a failure is about; the failure itself for a signal.
fn mistaken(failure: &Failure) -> Result<Mistaken> {
    match failure.id {
        Id::Interrupted => Err(failure.clone()),
        Id::GitlabCertificate => Ok(Mistaken::Ca),
        Id::NotGitlab | Id::GitlabUnavailable | Id::GitlabProxyRefused | Id::GitlabTlsUnsupported => {
            Ok(Mistaken::Url)
        }
        _ => Ok(Mistaken::Token),
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
