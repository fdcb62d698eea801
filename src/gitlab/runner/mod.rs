//! The deployment's runner in GitLab, and the decision about it, once per run for several steps.
//!
//! A runner is ours if its description ends with the deployment's mark ([`crate::deployment::mark`]), and if it has
//! the type and project of the settings. Record and anchor only help to find it.

mod create;
mod delete;
mod describe;
mod drain;
mod find;
mod wait;

pub use create::{create, register, reset};
pub use delete::{delete, settle};
pub use describe::{Condition, condition, hosts};
pub use drain::{drained, pause_until_idle, resume, running, still_paused};
pub use find::{Confirmation, by_mark, confirmation, find};
pub use wait::{contact, wait};

use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::deployment::mark::Marked;
use crate::deployment::record::{RunnerNote, TokenPlace};
use crate::gitlab::facts::{Instance, instance};
use crate::gitlab::types::{Project, shown};
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Manager, Route, Runner, Scope};
use crate::settings::{Reissue, Source};

/// The deployment's runner.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    pub runner: Runner,
    /// The machines that use its token; empty if not visible.
    pub managers: Vec<Manager>,
    /// Whether its mark is for an earlier ServiceAccount, or of an earlier version of outrigger.
    pub outdated_mark: bool,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub enum Found {
    /// No runner has our mark.
    None,
    Ours(Box<Ours>),
    /// Not looked for; the reason.
    Skipped(String),
}

/// The decision about the runner.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Nothing: the user provided the token of an existing runner.
    Given,
    /// Register it with a registration token, or keep the one found.
    Legacy(Found),
    /// Create it with this body.
    Create(Value),
    /// Keep it, with its differences from the settings.
    Keep {
        ours: Box<Ours>,
        /// The body of the update; null for none.
        update: Value,
        /// The differences as text.
        differs: Vec<String>,
        /// The reason for a reset of its token, if any.
        reset: Option<String>,
    },
    /// Nothing to do: not looked for; the reason.
    Skipped(String),
}

impl Verdict {
    /// Whether this run gets a new token of the runner.
    pub fn brings_token(&self) -> bool {
        match self {
            Verdict::Create(_) | Verdict::Legacy(Found::None) => true,
            Verdict::Keep { reset, .. } => reset.is_some(),
            _ => false,
        }
    }
}

/// The runner's description, which ends with the mark of the current ServiceAccount.
pub fn description(view: &View) -> String {
    let context = crate::base::message::text(&view.notes.record().cluster.context);
    let short: String = context.chars().take(80).collect();
    format!("{} on {short}, {}", view.run.names.deployment, view.notes.marks(&view.run).written())
}

/// Updates the mark in a runner's description to the current ServiceAccount. Fails with OR0703 (exit 7) if the mark
/// was removed meanwhile.
pub async fn mark_anew(hand: &Hand, id: u64) -> Result<()> {
    let gitlab = hand.client()?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number]);
    let live = gitlab.get_opt(&format!("read runner {id}"), &route).await?;
    let Some(runner) = live.as_ref().and_then(Runner::read) else { return Ok(()) };
    let marks = hand.notes.marks(&hand.run);
    match marks.judge(&runner.description) {
        Marked::Current => Ok(()),
        Marked::Earlier => {
            let body = json!({"description": marks.renewed(&runner.description)});
            gitlab.put(&format!("update the mark of runner {id}"), &route, &body).await?;
            Ok(())
        }
        Marked::No => Err(find::foreign(&format!("runner {id} no longer has this deployment's mark"))
            .detail("description", runner.description)),
    }
}

pub async fn update(hand: &Hand, id: u64, body: &Value) -> Result<()> {
    let id = id.to_string();
    hand.client()?.put(&format!("update runner {id}"), &Route::of(&["runners", &id]), body).await?;
    if body["paused"] == false {
        hand.journal.write(|record| record.gitlab.is_paused(false))?;
    }
    Ok(())
}

/// The verdict, once per run. Fails with OR0703 (exit 7) for two runners with our mark, or another creator, and with
/// OR0415 (exit 4) if the token may not list runners after an unfinished creation.
pub async fn verdict(view: &View) -> Result<&Verdict> {
    view.runner.get_or_try_init(|| decide(view)).await
}

async fn decide(view: &View) -> Result<Verdict> {
    let settings = &view.run.settings;
    if settings.runner_token_file.is_some() {
        return Ok(Verdict::Given);
    }
    if settings.legacy_registration_token_file.is_some() {
        let is_ours = view.notes.record().gitlab.owned().is_some();
        let found = match (is_ours, &view.access.client) {
            (true, Some(_)) => find(view).await?,
            (true, None) => Found::Skipped(view.access.why_not.clone()),
            (false, _) => Found::None,
        };
        return Ok(Verdict::Legacy(found));
    }
    let asked = settings.reissue.contains(&Reissue::Runner) || view.run.rotates(Reissue::Runner);
    if find::trace(view).given && !asked {
        return Ok(Verdict::Given);
    }
    let written = view.notes.script_digest().is_some();
    let ours = match find(view).await? {
        Found::Skipped(why) => return Ok(Verdict::Skipped(why)),
        // A script exists, and its runner cannot be looked up.
        Found::None if written && view.access.client.is_none() => {
            return Ok(Verdict::Skipped(view.access.why_not.clone()));
        }
        Found::None => return Ok(Verdict::Create(body(view, instance(view).await?)?)),
        Found::Ours(ours) => ours,
    };
    if let Ok(instance) = instance(view).await
        && let Some(scope) = instance.scope.as_ref().filter(|scope| !serves(&ours.runner, scope, true))
    {
        return Err(elsewhere(&ours.runner, scope, &wanted(view, instance, scope)));
    }
    // Without a record, default tags do not override those in GitLab.
    let said = view.notes.recorded || settings.tags.source != Source::Default;
    let tags = said.then_some(settings.tags.value.as_slice());
    let resumes = view.notes.record().gitlab.paused().is_some();
    let (update, differs) = differences(&ours.runner, tags, resumes);
    let place = match &view.notes.record().gitlab.runner {
        RunnerNote::None => TokenPlace::InScript,
        RunnerNote::Creating(_) => TokenPlace::Lost,
        RunnerNote::Ours(runner) => runner.token,
    };
    let token = match place {
        TokenPlace::Lost => Token::Lost,
        // In the user's file, and in no script.
        TokenPlace::InFile if view.run.alone => Token::Delivered,
        TokenPlace::InScript if written => Token::Delivered,
        _ => Token::Unknown,
    };
    let reset = reset_reason(&ours, token, asked)?;
    Ok(Verdict::Keep { ours, update, differs, reset })
}

/// Whether a runner is for this scope. Returns `untold` if GitLab does not show its projects or groups.
fn serves(runner: &Runner, scope: &Scope, untold: bool) -> bool {
    let among = |ids: &Option<Vec<u64>>, id: &u64| ids.as_ref().map_or(untold, |ids| ids.contains(id));
    runner.runner_type == scope.runner_type()
        && match scope {
            Scope::Project(id) => among(&runner.projects, id),
            Scope::Group(id) => among(&runner.groups, id),
            Scope::Instance => true,
        }
}

/// The project or group of the settings, in words.
fn wanted(view: &View, instance: &Instance, scope: &Scope) -> String {
    match scope {
        Scope::Project(id) => instance
            .project
            .as_ref()
            .filter(|project| project.id == *id)
            .map_or_else(|| format!("#{id}"), Project::shown),
        Scope::Group(id) => {
            let given = view.run.settings.group.as_ref().map(|group| group.value.as_str());
            given
                .filter(|given| *given != id.to_string())
                .map_or_else(|| format!("#{id}"), |given| format!("{given} (#{id})"))
        }
        Scope::Instance => String::new(),
    }
}

/// The failure for a runner of another scope: GitLab cannot move it to another project or group.
fn elsewhere(runner: &Runner, scope: &Scope, wanted: &str) -> Failure {
    let of = |runner_type: &str, places: &str| {
        let noun = format!("a {} runner", runner_type.trim_end_matches("_type"));
        if places.is_empty() { noun } else { format!("{noun}: {places}") }
    };
    Failure::new(
        Id::AnotherScope,
        format!("runner {} of this deployment is for another project or group", runner.id),
    )
    .detail("runner", of(&runner.runner_type, &runner.places.join(", ")))
    .detail("wanted", of(scope.runner_type(), wanted))
    .hint(("delete this runner first", Command::teardown("--only create-runner")))
    .hint("or use another deployment: --deployment NAME")
}

/// The body of `POST /user/runners` without the description: the ServiceAccount in its mark may be created in the
/// same run.
fn body(view: &View, instance: &Instance) -> Result<Value> {
    let scope = instance.scope()?;
    let mut body = json!({
        "runner_type": scope.runner_type(),
        "tag_list": view.run.settings.tags.value,
        "run_untagged": false,
        "locked": true,
    });
    match scope {
        Scope::Project(id) => body["project_id"] = json!(id),
        Scope::Group(id) => body["group_id"] = json!(id),
        Scope::Instance => {}
    }
    Ok(body)
}

/// The update for our runner, and the differences as text: restores `locked` and `run_untagged`, sets the tags of
/// the settings. A pause is kept unless it is a teardown's (`resumes`).
fn differences(runner: &Runner, tags: Option<&[String]>, resumes: bool) -> (Value, Vec<String>) {
    let mut update = json!({});
    let mut texts = Vec::new();
    if let (Some(have), Some(tags)) = (&runner.tags, tags) {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        if sorted(have) != sorted(tags) {
            update["tag_list"] = json!(tags);
            texts.push(format!("tags {} -> {}", shown(have), shown(tags)));
        }
    }
    if runner.run_untagged == Some(true) {
        update["run_untagged"] = json!(false);
        texts.push("takes untagged jobs -> tagged jobs only".to_owned());
    }
    if runner.locked == Some(false) && runner.runner_type == "project_type" {
        update["locked"] = json!(true);
        texts.push("unlocked -> locked to its projects".to_owned());
    }
    if runner.paused && resumes {
        update["paused"] = json!(false);
        texts.push("paused by an unfinished run of outrigger -> active".to_owned());
    }
    (if texts.is_empty() { Value::Null } else { update }, texts)
}

/// The place of a runner's token, which GitLab shows only once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// In a script, or in the user's file.
    Delivered,
    /// In no script.
    Lost,
    Unknown,
}

/// The reason for a reset of the token, if any.
fn reset_reason(ours: &Ours, token: Token, asked: bool) -> Result<Option<String>> {
    let unused = ours.runner.never_contacted() && ours.managers.is_empty();
    let reason = match token {
        _ if asked => "a new token, as asked for",
        Token::Delivered => return Ok(None),
        Token::Lost => "a new token: the last one is in no script",
        Token::Unknown if unused => "a new token: no machine ever used the current one",
        Token::Unknown => {
            let message =
                format!("runner {} is in use, but this machine does not have its token", ours.runner.id);
            return Err(Failure::new(Id::RunnerTokenUnknown, message)
                .detail("used by", hosts(ours))
                .hint((
                    "reset the token; that host stops until the new script has run there",
                    Command::outrigger("setup --reissue runner"),
                ))
                .hint("or use the token in its config.toml: --runner-token-file PATH"));
        }
    };
    Ok(Some(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(status: &str, contacted: bool, managers: usize) -> Ours {
        let contacted = contacted.then_some(jiff::Timestamp::UNIX_EPOCH);
        let runner = Runner { id: 101, status: status.to_owned(), contacted, ..Runner::default() };
        let manager = Manager { system_id: "s_1".to_owned(), ..Manager::default() };
        Ours { runner, managers: vec![manager; managers], outdated_mark: false }
    }

    #[test]
    fn token_in_use_is_reset_only_on_request() {
        use Token::{Delivered, Lost, Unknown};
        assert!(reset_reason(&ours("never_contacted", false, 0), Unknown, false).expect("fine").is_some());
        assert!(reset_reason(&ours("online", true, 1), Delivered, false).expect("fine").is_none());
        assert!(reset_reason(&ours("online", true, 1), Delivered, true).expect("asked for").is_some());
        assert!(reset_reason(&ours("offline", true, 1), Lost, false).expect("nobody has it").is_some());
        for used in [ours("online", true, 1), ours("never_contacted", false, 1), ours("offline", true, 0)] {
            let failure = reset_reason(&used, Unknown, false).expect_err("somebody uses it");
            assert_eq!((failure.id, failure.kind.exit_code()), (Id::RunnerTokenUnknown, 7));
            assert!(failure.hints[0].to_string().contains("--reissue runner"));
        }
    }

    #[test]
    fn wider_access_is_removed_and_a_pause_is_kept() {
        let tags = |list: &[&str]| list.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        let runner = Runner {
            runner_type: "project_type".to_owned(),
            paused: true,
            locked: Some(true),
            run_untagged: Some(false),
            tags: Some(tags(&["b", "a"])),
            ..Runner::default()
        };
        assert_eq!(differences(&runner, Some(&tags(&["a", "b"])), false), (Value::Null, Vec::new()));
        let wide = Runner { locked: Some(false), run_untagged: Some(true), ..runner.clone() };
        let (update, texts) = differences(&wide, Some(&tags(&["c"])), false);
        assert_eq!(update, json!({"tag_list": ["c"], "run_untagged": false, "locked": true}));
        assert_eq!(texts[0], "tags b,a -> c");
        // Without tags in the settings.
        assert_eq!(differences(&runner, None, false), (Value::Null, Vec::new()));
        // The pause of a teardown that was not finished ends.
        assert_eq!(differences(&runner, None, true).0, json!({"paused": false}));
        assert_eq!(differences(&Runner { paused: false, ..runner.clone() }, None, true).0, Value::Null);
        // Fields that GitLab does not show are not differences.
        let silent = Runner { tags: None, locked: None, run_untagged: None, ..runner };
        assert_eq!(differences(&silent, Some(&tags(&["c"])), false).1.len(), 0);
    }

    #[test]
    fn runner_serves_its_own_scope_only() {
        let runner = Runner {
            runner_type: "project_type".to_owned(),
            projects: Some(vec![7, 8]),
            ..Runner::default()
        };
        assert!(serves(&runner, &Scope::Project(8), true) && !serves(&runner, &Scope::Project(9), true));
        assert!(!serves(&runner, &Scope::Group(7), true) && !serves(&runner, &Scope::Instance, true));
        // Projects that GitLab does not show.
        let untold = Runner { projects: None, ..runner };
        assert!(serves(&untold, &Scope::Project(9), true) && !serves(&untold, &Scope::Project(9), false));
    }
}
